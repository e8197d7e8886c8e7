//! The segments of all connections by direct routing: one packet socket for each device and family, and each segment
//! given to the connection that it belongs to.
//!
//! A packet socket for each connection would be simpler. But closing one takes the kernel some ten milliseconds, so that
//! a few hundred checks would do nothing else.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::packet::{LinkAddress, PacketSocket};

/// The longest IP packet: receive offloads join segments.
const MOST_PACKET_BYTES: usize = 64 << 10;
/// Segments that wait for one connection; more than its window holds. What comes on top is lost, and sent again.
const MOST_WAITING: usize = 64;
/// So many are given out before others have their turn.
const BURST: usize = 64;
/// After an error, as there is when the device goes down.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// The segments of every device and family that is in use.
#[derive(Debug, Default)]
pub(super) struct AllSegments {
    open: Mutex<HashMap<(u32, bool), Weak<Segments>>>,
}

impl AllSegments {
    /// Those of a device and a family, from the VIPs `vips` at least. The socket is opened if nobody uses it yet, and
    /// closed when nobody does any more.
    ///
    /// # Errors
    /// The system's: without CAP_NET_RAW there is no such socket.
    pub(super) fn of(&self, device_index: u32, ipv4: bool, vips: &Arc<BTreeSet<IpAddr>>) -> io::Result<Arc<Segments>> {
        let mut open = lock(&self.open);
        if let Some(segments) = open.get(&(device_index, ipv4)).and_then(Weak::upgrade) {
            segments.let_in(vips)?;
            return Ok(segments);
        }
        let segments = Arc::new(Segments::open(device_index, ipv4, vips)?);
        open.retain(|_, segments| segments.strong_count() > 0);
        open.insert((device_index, ipv4), Arc::downgrade(&segments));
        Ok(segments)
    }
}

/// A server's address and port, and the director's.
type Connection = (SocketAddr, SocketAddr);

/// Where the segments of each connection go.
type Seats = Mutex<HashMap<Connection, mpsc::Sender<Vec<u8>>>>;

/// The segments of one device and family.
#[derive(Debug)]
pub(super) struct Segments {
    socket: Arc<PacketSocket>,
    ipv4: bool,
    vips: Mutex<Arc<BTreeSet<IpAddr>>>,
    seats: Arc<Seats>,
    reader: AbortHandle,
}

impl Segments {
    fn open(device_index: u32, ipv4: bool, vips: &Arc<BTreeSet<IpAddr>>) -> io::Result<Self> {
        let socket = Arc::new(PacketSocket::open(device_index, ipv4, vips)?);
        let seats = Arc::new(Seats::default());
        let reader = tokio::spawn(give_out(Arc::clone(&socket), Arc::clone(&seats))).abort_handle();
        Ok(Self { socket, ipv4, vips: Mutex::new(Arc::clone(vips)), seats, reader })
    }

    /// The VIPs are others after a change of the configuration, and the same set until then.
    fn let_in(&self, vips: &Arc<BTreeSet<IpAddr>>) -> io::Result<()> {
        let mut known = lock(&self.vips);
        if !Arc::ptr_eq(&known, vips) {
            self.socket.let_in(self.ipv4, vips)?;
            *known = Arc::clone(vips);
        }
        Ok(())
    }

    /// A place for the connection from `own` to `server`; nobody else has that port meanwhile.
    pub(super) fn seat(self: &Arc<Self>, server: SocketAddr, own: SocketAddr) -> Seat {
        let (sender, come) = mpsc::channel(MOST_WAITING);
        lock(&self.seats).insert((server, own), sender);
        Seat { segments: Arc::clone(self), connection: (server, own), come }
    }
}

impl Drop for Segments {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// One connection's place, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    segments: Arc<Segments>,
    connection: Connection,
    come: mpsc::Receiver<Vec<u8>>,
}

impl Seat {
    /// Sends one IP packet.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn send(&self, packet: &[u8], to: &LinkAddress) -> io::Result<()> {
        self.segments.socket.send(packet, to)
    }

    /// The next IP packet of this connection; the task is woken when one comes.
    pub(super) fn poll_packet(&mut self, context: &mut Context<'_>) -> Poll<Option<Vec<u8>>> {
        self.come.poll_recv(context)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&self.segments.seats).remove(&self.connection);
    }
}

/// Reads segments and gives each to its connection, if there still is one.
async fn give_out(socket: Arc<PacketSocket>, seats: Arc<Seats>) {
    let mut buffer = vec![0; MOST_PACKET_BYTES];
    loop {
        for _ in 0..BURST {
            match socket.receive(&mut buffer).await {
                Ok(bytes) => {
                    let packet = buffer.get(..bytes).unwrap_or_default();
                    let seats = lock(&seats);
                    if let Some(seat) = connection(packet).and_then(|connection| seats.get(&connection)) {
                        let _ = seat.try_send(packet.to_vec());
                    }
                }
                Err(_) => tokio::time::sleep(AFTER_ERROR).await,
            }
        }
        tokio::task::yield_now().await;
    }
}

/// Whose a packet is, by its addresses and ports.
fn connection(packet: &[u8]) -> Option<Connection> {
    let (source, destination, segment): (IpAddr, IpAddr, &[u8]) = match packet.first()? >> 4 {
        4 => {
            let packet = Ipv4Packet::new_checked(packet).ok()?;
            let is_tcp = packet.next_header() == IpProtocol::Tcp && packet.frag_offset() == 0;
            is_tcp.then(|| (packet.src_addr().into(), packet.dst_addr().into(), packet.payload()))?
        }
        6 => {
            let packet = Ipv6Packet::new_checked(packet).ok()?;
            let is_tcp = packet.next_header() == IpProtocol::Tcp;
            is_tcp.then(|| (packet.src_addr().into(), packet.dst_addr().into(), packet.payload()))?
        }
        _ => return None,
    };
    let segment = TcpPacket::new_checked(segment).ok()?;
    Some((SocketAddr::new(source, segment.src_port()), SocketAddr::new(destination, segment.dst_port())))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
