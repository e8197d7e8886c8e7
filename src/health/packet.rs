//! Sockets for a TCP connection that the kernel knows nothing of.
#![allow(unsafe_code, reason = "there is no safe way to make a link-layer address, nor to wait for a raw socket")]

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll};

use libc::{
    BPF_ABS, BPF_B, BPF_H, BPF_IND, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_LDX, BPF_MSH, BPF_RET, BPF_W, ETH_P_IP,
    ETH_P_IPV6, sockaddr_ll,
};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, SockFilter, Socket, Type};
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};

use super::target::DirectPath;
use crate::service::address_bytes;

const TCP: u32 = 6;

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

/// Sends IP packets to one MAC address, and receives the segments of one TCP connection.
#[derive(Debug)]
pub(super) struct PacketSocket {
    socket: AsyncFd<Socket>,
    to: SockAddr,
}

impl PacketSocket {
    /// Sends by `path`; receives what `server` sends to `own`.
    ///
    /// # Errors
    /// The system's: without CAP_NET_RAW there is no such socket.
    pub(super) fn open(path: &DirectPath, server: SocketAddr, own: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::PACKET, Type::DGRAM.nonblocking().cloexec(), None)?;
        // It receives nothing before it is bound, so nothing gets past the filter.
        socket.attach_filter(&filter(server, own))?;
        let to = link_address(path, server.is_ipv4())?;
        socket.bind(&to)?;
        Ok(Self { socket: watch(socket)?, to })
    }

    /// Sends one IP packet.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn send(&self, packet: &[u8]) -> io::Result<()> {
        self.socket.get_ref().send_to(packet, &self.to).map(drop)
    }

    /// Receives one IP packet, if one has come.
    ///
    /// # Errors
    /// The system's; `WouldBlock` if none has come.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        io::Read::read(&mut self.socket.get_ref(), buffer)
    }

    /// Whether a packet may have come; if not, the task is woken when one has.
    pub(super) fn poll_ready<'a>(
        &'a self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<AsyncFdReadyGuard<'a, Socket>>> {
        self.socket.poll_read_ready(context)
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
fn link_address(path: &DirectPath, ipv4: bool) -> io::Result<SockAddr> {
    let ether_type = u16::try_from(if ipv4 { ETH_P_IP } else { ETH_P_IPV6 }).map_err(io::Error::other)?;
    let mut hardware_address = [0; 8];
    hardware_address[..6].copy_from_slice(&path.mac.octets());
    let address = sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?,
        sll_protocol: ether_type.to_be(),
        sll_ifindex: i32::try_from(path.device_index).map_err(io::Error::other)?,
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
        Ok(SockAddr::new(storage.assume_init(), u32::try_from(length).map_err(io::Error::other)?))
    }
}

/// Lets in TCP segments from `server` to `own` alone, so that the socket costs next to nothing on a busy interface.
/// Offsets are those of the IP header, RFC 791 and RFC 8200; extension headers do not occur in answers to ours.
fn filter(server: SocketAddr, own: SocketAddr) -> Vec<SockFilter> {
    let v4 = server.is_ipv4();
    let (protocol_at, source_at, destination_at, length) = if v4 { (9, 12, 16, 4) } else { (6, 8, 24, 16) };
    // What to load, and what it must be.
    let mut wanted = vec![(BPF_LD | BPF_B | BPF_ABS, protocol_at, TCP)];
    for (address, at) in [(server.ip(), source_at), (own.ip(), destination_at)] {
        for (offset, word) in (0..).step_by(4).zip(address_bytes(address)[..length].chunks_exact(4)) {
            let word = u32::from_be_bytes([word[0], word[1], word[2], word[3]]);
            wanted.push((BPF_LD | BPF_W | BPF_ABS, at + offset, word));
        }
    }
    // The ports of IPv4 are behind the options, whose length the first statement loads.
    let port = if v4 { (BPF_LD | BPF_H | BPF_IND, 0) } else { (BPF_LD | BPF_H | BPF_ABS, 40) };
    wanted.extend([(port.0, port.1, server.port().into()), (port.0, port.1 + 2, own.port().into())]);
    let mut program = vec![statement(BPF_LDX | BPF_B | BPF_MSH, 0, 0)];
    let behind = 2 * wanted.len() + 1;
    for (load, at, value) in wanted {
        program.push(statement(load, 0, at));
        // Over all that follows and the first of the two ends.
        program.push(statement(BPF_JMP | BPF_JEQ | BPF_K, behind - program.len(), value));
    }
    program.extend([statement(BPF_RET | BPF_K, 0, u32::MAX), statement(BPF_RET | BPF_K, 0, 0)]);
    program
}

/// One that goes on with the next, or `otherwise` statements behind it where a comparison fails.
fn statement(code: u32, otherwise: usize, value: u32) -> SockFilter {
    let otherwise = u8::try_from(otherwise).unwrap_or(u8::MAX);
    SockFilter::new(u16::try_from(code).unwrap_or(u16::MAX), 0, otherwise, value)
}
