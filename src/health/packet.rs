//! Sockets for a TCP connection that the kernel knows nothing of.
#![allow(unsafe_code, reason = "there is no safe way to make a link-layer address, nor to wait for a raw socket")]

use std::collections::BTreeSet;
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};

use libc::{
    BPF_ABS, BPF_B, BPF_JA, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, ETH_P_IP, ETH_P_IPV6, sockaddr_ll,
};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, SockFilter, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;

use crate::wire::MacAddress;

const TCP: u32 = 6;
/// Room for what has come and is not read yet.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;
/// So many VIPs a filter tells apart; with more it lets in all of TCP. The kernel bounds its memory by
/// net.core.optmem_max, which was 20 kB for long.
const MOST_FILTERED: usize = 512;

/// A local port whose segments the kernel neither answers nor gives to anybody.
///
/// The kernel does not know of the connection, so it would answer its segments with RST. It does not where a socket
/// listens on the port, and that socket's filter refuses every segment: `tcp_v4_rcv` then drops it in silence. The port
/// is taken as long as this lives, and the kernel gives it back when the process ends, in whatever way.
pub(super) struct QuietPort {
    _listener: Socket,
    /// The director's address and the port.
    pub(super) address: SocketAddr,
}

impl QuietPort {
    /// Takes any free port of `own`.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn open(own: IpAddr) -> io::Result<Self> {
        let domain = if own.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let listener = Socket::new(domain, Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
        // Before it listens: nobody can connect, not even for a moment.
        listener.attach_filter(&[statement(BPF_RET | BPF_K, 0, 0)])?;
        listener.bind(&SocketAddr::new(own, 0).into())?;
        listener.listen(1)?;
        let address = listener.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { _listener: listener, address })
    }
}

/// Sends IP packets to MAC addresses of one device, and receives TCP segments from VIPs.
#[derive(Debug)]
pub(super) struct PacketSocket {
    /// Always there but while it is dropped.
    socket: Option<AsyncFd<Socket>>,
}

impl PacketSocket {
    /// Sends by the device of this index; receives what comes there from `vips`, of one family.
    ///
    /// # Errors
    /// The system's: without CAP_NET_RAW there is no such socket.
    pub(super) fn open(device_index: u32, ipv4: bool, vips: &BTreeSet<IpAddr>) -> io::Result<Self> {
        let socket = Socket::new(Domain::PACKET, Type::DGRAM.nonblocking().cloexec(), None)?;
        // It receives nothing before it is bound, so nothing gets past the filter.
        socket.attach_filter(&filter(ipv4, vips))?;
        // Answers of all servers may come at once. With less room some are lost, and TCP sends them again.
        let enough = setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES);
        enough.or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER_BYTES))?;
        socket.bind(&LinkAddress::new(device_index, MacAddress::new([0; 6]), ipv4)?.0)?;
        Ok(Self { socket: Some(watch(socket)?) })
    }

    /// From now on it receives what comes from these VIPs; nothing is lost between the two filters.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn let_in(&self, ipv4: bool, vips: &BTreeSet<IpAddr>) -> io::Result<()> {
        self.watched()?.get_ref().attach_filter(&filter(ipv4, vips))
    }

    /// Sends one IP packet.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn send(&self, packet: &[u8], to: &LinkAddress) -> io::Result<()> {
        self.watched()?.get_ref().send_to(packet, &to.0).map(drop)
    }

    /// Waits for one IP packet.
    ///
    /// # Errors
    /// The system's: ENETDOWN once when the device goes down.
    pub(super) async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.watched()?.async_io(Interest::READABLE, |mut socket| io::Read::read(&mut socket, buffer)).await
    }

    fn watched(&self) -> io::Result<&AsyncFd<Socket>> {
        self.socket.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for PacketSocket {
    /// The kernel closes a packet socket only when no CPU can be using it any more (`packet_release` waits for RCU), which
    /// takes some ten milliseconds. No check is to wait for that, so another thread does.
    fn drop(&mut self) {
        if let Some(watched) = self.socket.take()
            && let Ok(runtime) = Handle::try_current()
        {
            let socket = watched.into_inner();
            drop(runtime.spawn_blocking(move || drop(socket)));
        }
    }
}

/// Lets the event loop wait for a socket.
///
/// # Errors
/// The system's.
pub(super) fn watch(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    // SAFETY: a Socket owns its descriptor, which is open and the same until it is dropped, and the AsyncFd owns the
    // Socket.
    unsafe { AsyncFd::register(socket) }.map_err(io::Error::from)
}

/// To bind to (the device and the protocol count) and to send to (all of it counts).
#[derive(Clone, Debug)]
pub(super) struct LinkAddress(SockAddr);

impl LinkAddress {
    /// Of IPv4 or IPv6 packets to `mac` by a device.
    ///
    /// # Errors
    /// None but for an index that no device can have.
    pub(super) fn new(device_index: u32, mac: MacAddress, ipv4: bool) -> io::Result<Self> {
        let ether_type = u16::try_from(if ipv4 { ETH_P_IP } else { ETH_P_IPV6 }).map_err(io::Error::other)?;
        let mut hardware_address = [0; 8];
        hardware_address[..6].copy_from_slice(&mac.octets());
        let address = sockaddr_ll {
            sll_family: u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?,
            sll_protocol: ether_type.to_be(),
            sll_ifindex: i32::try_from(device_index).map_err(io::Error::other)?,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 6,
            sll_addr: hardware_address,
        };
        let mut storage = MaybeUninit::<SockAddrStorage>::zeroed();
        let length = size_of::<sockaddr_ll>();
        const { assert!(size_of::<sockaddr_ll>() <= size_of::<SockAddrStorage>(), "any socket address fits") };
        // SAFETY: storage is as large as any socket address and aligned for each, as the assertion has it; all of it is
        // initialised to zero, of which every pattern is valid; `length` is that of the address written there.
        unsafe {
            storage.as_mut_ptr().cast::<sockaddr_ll>().write(address);
            Ok(Self(SockAddr::new(storage.assume_init(), u32::try_from(length).map_err(io::Error::other)?)))
        }
    }
}

/// Lets in TCP segments from VIPs alone, so that the socket costs next to nothing on a busy interface: of an address its
/// last 32 bits are compared, which is all of an IPv4 one. Whose a segment is exactly is looked at later. Offsets are
/// those of the IP header, RFC 791 and RFC 8200; extension headers do not occur in answers to ours.
fn filter(ipv4: bool, vips: &BTreeSet<IpAddr>) -> Vec<SockFilter> {
    let (protocol_at, source_end_at) = if ipv4 { (9, 12) } else { (6, 20) };
    let last_word = |vip: &IpAddr| match vip {
        IpAddr::V4(v4) => u32::from(*v4),
        IpAddr::V6(v6) => u32::try_from(u128::from(*v6) & u128::from(u32::MAX)).unwrap_or(0),
    };
    let words: BTreeSet<u32> = vips.iter().filter(|vip| vip.is_ipv4() == ipv4).map(last_word).collect();
    let mut program = vec![
        statement(BPF_LD | BPF_B | BPF_ABS, 0, protocol_at),
        statement(BPF_JMP | BPF_JEQ | BPF_K, 1, TCP),
        // Over the next one.
        statement(BPF_JMP | BPF_JA, 0, 1),
        statement(BPF_RET | BPF_K, 0, 0),
    ];
    if words.len() <= MOST_FILTERED {
        program.push(statement(BPF_LD | BPF_W | BPF_ABS, 0, source_end_at));
        for word in words {
            program.push(statement(BPF_JMP | BPF_JEQ | BPF_K, 1, word));
            program.push(statement(BPF_RET | BPF_K, 0, u32::MAX));
        }
        program.push(statement(BPF_RET | BPF_K, 0, 0));
    } else {
        program.push(statement(BPF_RET | BPF_K, 0, u32::MAX));
    }
    program
}

/// One that goes on with the next, or `otherwise` statements behind it where a comparison fails.
fn statement(code: u32, otherwise: usize, value: u32) -> SockFilter {
    let otherwise = u8::try_from(otherwise).unwrap_or(u8::MAX);
    SockFilter::new(u16::try_from(code).unwrap_or(u16::MAX), 0, otherwise, value)
}
