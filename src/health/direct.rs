//! A TCP connection to the VIP by way of one real server's MAC address: the way that clients' packets take.
//!
//! The kernel cannot make it: to it the VIP is its own address, or that of whoever answers ARP for it. So a TCP stack
//! in user space (smoltcp) makes it over a packet socket, which it shares with other connections ([`Segments`]). What
//! the kernel would do with the replies is in [`QuietPort`].

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Duration, Sleep};

use super::failure::Failure;
use super::packet::{LinkAddress, QuietPort};
use super::segments::{Seat, Segments};
use super::target::DirectPath;
use crate::clock;

/// Room for what is sent and what is received.
const BUFFER_BYTES: usize = 16 << 10;
/// A real server takes a packet for itself whatever its hop limit is, and forwards none of this one: where it lacks the
/// VIP and forwards, the question would come back to the director, which would give it to another real server.
const HOP_LIMIT: u8 = 1;
/// So long to wait where the stack has nothing to do.
const IDLE: Duration = Duration::from_secs(3600);

/// One TCP connection through the direct-routing path.
pub(super) struct DirectStream {
    interface: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
    wire: Wire,
    timer: Pin<Box<Sleep>>,
    _port: QuietPort,
}

impl DirectStream {
    /// Connects from the address `own` to `server`, a VIP, with the frames going where `path` says. `segments` are those
    /// of the path's device and the VIP's family.
    pub(super) async fn connect(
        own: IpAddr,
        server: SocketAddr,
        path: &DirectPath,
        segments: &Arc<Segments>,
    ) -> Result<Self, Failure> {
        let mut stream = Self::open(own, server, path, segments).map_err(Failure::system("open a port"))?;
        std::future::poll_fn(|context| stream.poll_connected(context)).await.map_err(Failure::system("connect"))?;
        Ok(stream)
    }

    fn open(own: IpAddr, server: SocketAddr, path: &DirectPath, segments: &Arc<Segments>) -> io::Result<Self> {
        let port = QuietPort::open(own)?;
        let to = LinkAddress::new(path.device_index, path.mac, server.is_ipv4())?;
        let seat = segments.seat(server, port.address);
        let mut wire = Wire { seat, to, mtu: path.mtu, come: VecDeque::new() };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = fastrand::u64(..);
        let mut interface = Interface::new(config, &mut wire, now());
        // With an empty prefix every address is on the link.
        interface.update_ip_addrs(|addresses| {
            // There is room for one.
            let _ = addresses.push(IpCidr::new(own.into(), 0));
        });
        let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER_BYTES]);
        let mut connection = tcp::Socket::new(buffer(), buffer());
        connection.set_hop_limit(Some(HOP_LIMIT));
        connection.connect(interface.context(), server, port.address).map_err(io::Error::other)?;
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let socket = sockets.add(connection);
        let timer = Box::pin(tokio::time::sleep(Duration::ZERO));
        Ok(Self { interface, sockets, socket, wire, timer, _port: port })
    }

    fn tcp(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.socket)
    }

    /// Takes in what has come and sends what there is to send.
    fn turn(&mut self) {
        self.interface.poll(now(), &mut self.wire, &mut self.sockets);
    }

    /// Takes a turn when a packet has come or the stack's time has. Not ready: the task is woken then.
    fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let delay = self.interface.poll_delay(now(), &self.sockets);
        let delay = delay.map_or(IDLE, |delay| Duration::from_micros(delay.total_micros()));
        self.timer.as_mut().reset(tokio::time::Instant::now() + delay);
        while let Poll::Ready(Some(packet)) = self.wire.seat.poll_packet(context) {
            self.wire.come.push_back(packet);
        }
        if self.wire.come.is_empty() {
            ready!(self.timer.as_mut().poll(context));
        }
        self.turn();
        Poll::Ready(())
    }

    fn poll_connected(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.turn();
        loop {
            match self.tcp().state() {
                tcp::State::Closed => return Poll::Ready(Err(io::ErrorKind::ConnectionRefused.into())),
                _ if self.tcp().may_send() => return Poll::Ready(Ok(())),
                _ => ready!(self.poll_turn(context)),
            }
        }
    }
}

impl AsyncRead for DirectStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.tcp().can_recv() {
                let read = self.tcp().recv_slice(buffer.initialize_unfilled()).map_err(io::Error::other)?;
                buffer.advance(read);
                // The window is open again: say so.
                self.turn();
                return Poll::Ready(Ok(()));
            }
            match self.tcp().state() {
                tcp::State::Closed => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                _ if !self.tcp().may_recv() => return Poll::Ready(Ok(())),
                _ => ready!(self.poll_turn(context)),
            }
        }
    }
}

impl AsyncWrite for DirectStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            if self.tcp().can_send() {
                let written = self.tcp().send_slice(bytes).map_err(io::Error::other)?;
                self.turn();
                return Poll::Ready(Ok(written));
            }
            if !self.tcp().may_send() {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            ready!(self.poll_turn(context));
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.turn();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp().close();
        self.turn();
        Poll::Ready(Ok(()))
    }
}

impl Drop for DirectStream {
    /// Nobody will answer for this connection any more: RST tells the server so.
    fn drop(&mut self) {
        self.tcp().abort();
        self.turn();
    }
}

fn now() -> Instant {
    Instant::from_micros(i64::try_from(clock::monotonic_ns() / 1000).unwrap_or(i64::MAX))
}

/// This connection's part of the packet socket, as smoltcp wants it.
struct Wire {
    seat: Seat,
    to: LinkAddress,
    mtu: u32,
    come: VecDeque<Vec<u8>>,
}

struct Received(Vec<u8>);

struct Sender<'a>(&'a Wire);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl TxToken for Sender<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut packet = vec![0; length];
        let result = write(&mut packet);
        // What cannot be sent is lost, as on any wire: TCP sends it again.
        let _ = self.0.seat.send(&packet, &self.0.to);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sender<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Sender<'_>)> {
        let packet = self.come.pop_front()?;
        Some((Received(packet), Sender(self)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sender<'_>> {
        Some(Sender(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = usize::try_from(self.mtu).unwrap_or(1500);
        // A packet socket sees packets of virtual interfaces before their checksums are filled in, and the kernel has
        // looked at those of all others.
        capabilities.checksum.ipv4 = Checksum::Tx;
        capabilities.checksum.tcp = Checksum::Tx;
        capabilities
    }
}
