//! A packet socket (packet(7)) of one interface, for whole Ethernet frames of one EtherType.
#![allow(unsafe_code, reason = "there is no safe way to make a sockaddr_ll")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::NetworkError;

/// Sends and receives frames of one EtherType on one interface. What the kernel takes in is not disturbed.
#[derive(Debug)]
pub struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// Opens one on the interface of that index.
    ///
    /// # Errors
    /// [`NetworkError::MissingCapability`] without CAP_NET_RAW, else what the kernel says.
    pub fn open(interface_index: u32, ether_type: u16) -> Result<Self, NetworkError> {
        let action = || format!("open a packet socket on interface {interface_index}");
        open(interface_index, ether_type).map(Self).map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied => {
                NetworkError::MissingCapability { action: action(), capability: "CAP_NET_RAW" }
            }
            _ => NetworkError::System { action: action(), source },
        })
    }

    /// Sends one whole frame.
    ///
    /// # Errors
    /// What the kernel says: ENETDOWN where the interface is down, ENOBUFS where its queue is full.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: `frame` outlives the call, and its length is given.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Waits until `deadline` for a frame from outside. Returns its first bytes in `buffer`, or none in time.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn receive<'a>(&self, buffer: &'a mut [u8], deadline: Instant) -> io::Result<Option<&'a [u8]>> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], timeout) {
                Err(nix::errno::Errno::EINTR) => continue,
                Ok(0) => return Ok(None),
                result => result?,
            };
            // SAFETY: `buffer` is borrowed mutably for the call, and its length is given.
            let length =
                unsafe { libc::recv(self.0.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT) };
            match usize::try_from(length) {
                Ok(length) => return Ok(buffer.get(..length)),
                Err(_) => match io::Error::last_os_error() {
                    error if error.kind() == io::ErrorKind::WouldBlock => {}
                    error => return Err(error),
                },
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
        }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn open(interface_index: u32, ether_type: u16) -> io::Result<OwnedFd> {
    let failed = |status: libc::c_int| if status < 0 { Err(io::Error::last_os_error()) } else { Ok(status) };
    // Of no protocol until it is bound: else frames of other interfaces would come in meanwhile.
    // SAFETY: a plain system call; the descriptor, if there is one, is new and owned by nobody else.
    let socket = unsafe {
        let fd = failed(libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0))?;
        OwnedFd::from_raw_fd(fd)
    };
    let ignore_outgoing: libc::c_int = 1;
    // SAFETY: the value outlives the call, and its size is given.
    failed(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_IGNORE_OUTGOING,
            (&raw const ignore_outgoing).cast(),
            length_of::<libc::c_int>()?,
        )
    })?;
    let no_such_interface = || io::Error::from_raw_os_error(libc::ENODEV);
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET.try_into().map_err(io::Error::other)?,
        sll_protocol: ether_type.to_be(),
        sll_ifindex: interface_index.try_into().map_err(|_| no_such_interface())?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the address is a whole sockaddr_ll that outlives the call, and its size is given.
    failed(unsafe {
        let size = length_of::<libc::sockaddr_ll>()?;
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size)
    })?;
    Ok(socket)
}

fn length_of<T>() -> io::Result<libc::socklen_t> {
    size_of::<T>().try_into().map_err(io::Error::other)
}
