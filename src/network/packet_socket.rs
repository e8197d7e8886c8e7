//! A packet socket (packet(7)) of one interface, for whole Ethernet frames of one EtherType.
#![allow(unsafe_code, reason = "there is no safe way to make a sockaddr_ll")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::NetworkError;
use crate::wire::MacAddress;

/// Sends and receives frames of one EtherType on one interface. What the kernel takes in is not disturbed.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
    interface_index: u32,
}

/// A frame as it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received<'a> {
    /// Its first bytes, without a VLAN tag: the kernel takes that out.
    pub frame: &'a [u8],
    /// Whether the kernel thinks that it is for others: to another MAC address, or of a VLAN that this machine is not in.
    pub for_others: bool,
}

impl PacketSocket {
    /// Opens one on the interface of that index.
    ///
    /// # Errors
    /// [`NetworkError::MissingCapability`] without CAP_NET_RAW, else what the kernel says.
    pub fn open(interface_index: u32, ether_type: u16) -> Result<Self, NetworkError> {
        let action = || format!("open a packet socket on interface {interface_index}");
        open(interface_index, ether_type).map(|fd| Self { fd, interface_index }).map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied => {
                NetworkError::MissingCapability { action: action(), capability: "CAP_NET_RAW" }
            }
            _ => NetworkError::System { action: action(), source },
        })
    }

    /// Has the interface take in frames to `mac`, a group's or one station's, until the socket is gone
    /// (`PACKET_ADD_MEMBERSHIP`): the kernel undoes it also when the process is killed.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn join(&self, mac: MacAddress) -> io::Result<()> {
        self.membership(libc::PACKET_ADD_MEMBERSHIP, mac)
    }

    /// Takes back [`Self::join`].
    ///
    /// # Errors
    /// What the kernel says.
    pub fn leave(&self, mac: MacAddress) -> io::Result<()> {
        self.membership(libc::PACKET_DROP_MEMBERSHIP, mac)
    }

    fn membership(&self, option: libc::c_int, mac: MacAddress) -> io::Result<()> {
        let kind = if mac.is_multicast() { libc::PACKET_MR_MULTICAST } else { libc::PACKET_MR_UNICAST };
        let mut address = [0; 8];
        address[..6].copy_from_slice(&mac.octets());
        let request = libc::packet_mreq {
            mr_ifindex: self.interface_index.try_into().map_err(io::Error::other)?,
            mr_type: kind.try_into().map_err(io::Error::other)?,
            mr_alen: 6,
            mr_address: address,
        };
        // SAFETY: the request outlives the call, and its size is given.
        let status = unsafe {
            let size = length_of::<libc::packet_mreq>()?;
            libc::setsockopt(self.fd.as_raw_fd(), libc::SOL_PACKET, option, (&raw const request).cast(), size)
        };
        if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Has the kernel give this socket only frames whose byte at `offset` is `value`, so that all others wake nobody.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn only_where(&self, offset: u32, value: u8) -> io::Result<()> {
        // Codes are below 256 (linux/bpf_common.h); what did not fit would be an invalid program, which the kernel refuses.
        let code = |code: u32| u16::try_from(code).unwrap_or(u16::MAX);
        let instruction = |of: u32, jt, jf, k| libc::sock_filter { code: code(of), jt, jf, k };
        let mut program = [
            instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, offset),
            instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, value.into()),
            instruction(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
            instruction(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        ];
        let filter = libc::sock_fprog { len: 4, filter: program.as_mut_ptr() };
        // SAFETY: filter and program outlive the call, which copies them; their lengths are given.
        let status = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                (&raw const filter).cast(),
                length_of::<libc::sock_fprog>()?,
            )
        };
        if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Sends one whole frame.
    ///
    /// # Errors
    /// What the kernel says: ENETDOWN where the interface is down, ENOBUFS where its queue is full.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: `frame` outlives the call, and its length is given.
        let sent = unsafe { libc::send(self.fd.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
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
            match poll(&mut [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)], timeout) {
                Err(nix::errno::Errno::EINTR) => continue,
                Ok(0) => return Ok(None),
                result => result?,
            };
            // Nothing waits any more where another socket's error was reported instead.
            if let Some(received) = self.take(buffer)? {
                return Ok(buffer.get(..received.0));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
        }
    }
}

impl PacketSocket {
    /// The next frame that waits, if any does.
    ///
    /// # Errors
    /// What the kernel says: ENETDOWN once when the interface goes down.
    pub fn next<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<Received<'a>>> {
        let taken = self.take(buffer)?;
        Ok(taken.and_then(|(length, for_others)| Some(Received { frame: buffer.get(..length)?, for_others })))
    }

    /// Length of a frame that is put into `buffer`, and whether it is for others.
    fn take(&self, buffer: &mut [u8]) -> io::Result<Option<(usize, bool)>> {
        let mut from = libc::sockaddr_ll {
            sll_family: 0,
            sll_protocol: 0,
            sll_ifindex: 0,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let mut size = length_of::<libc::sockaddr_ll>()?;
        // SAFETY: `buffer` is borrowed mutably for the call and its length is given; the kernel writes at most `size`
        // bytes of the address, which is plain data.
        let length = unsafe {
            libc::recvfrom(
                self.fd.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                libc::MSG_DONTWAIT,
                (&raw mut from).cast(),
                &raw mut size,
            )
        };
        match usize::try_from(length) {
            Ok(length) => Ok(Some((length, from.sll_pkttype == libc::PACKET_OTHERHOST))),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
                error => Err(error),
            },
        }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
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
