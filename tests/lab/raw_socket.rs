//! A packet socket (packet(7)) that sends and receives whole Ethernet frames.
#![allow(unsafe_code, reason = "recvmsg with PACKET_AUXDATA and sockaddr_ll have no safe wrapper here")]

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use super::{Host, Lab};

pub struct RawSocket(OwnedFd);

impl RawSocket {
    /// On an interface of a host. Frames that the host itself sends are not received.
    pub fn open(lab: &Lab, host: Host, interface: &str) -> RawSocket {
        lab.on(host, || Self::open_here(interface).unwrap())
    }

    fn open_here(interface: &str) -> io::Result<RawSocket> {
        let index = nix::net::if_::if_nametoindex(interface)?;
        let protocol = u16::try_from(libc::ETH_P_ALL).unwrap().to_be();
        // SAFETY: a plain system call; the descriptor, if there is one, is new and owned by nobody else.
        let fd = unsafe {
            let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, i32::from(protocol));
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        for (level, option, value) in [
            (libc::SOL_PACKET, libc::PACKET_AUXDATA, 1_i32),
            (libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1),
            (libc::SOL_SOCKET, libc::SO_RCVBUF, 1 << 20),
        ] {
            // SAFETY: the value outlives the call, and its size is given.
            let status = unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, (&raw const value).cast(), 4) };
            if status < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        // SAFETY: all-zero bytes are a valid sockaddr_ll.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = u16::try_from(libc::AF_PACKET).unwrap();
        address.sll_protocol = protocol;
        address.sll_ifindex = i32::try_from(index).unwrap();
        // SAFETY: the address outlives the call, and its size is given.
        let status = unsafe {
            let length = u32::try_from(size_of::<libc::sockaddr_ll>()).unwrap();
            libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length)
        };
        if status < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(RawSocket(fd))
    }

    pub fn send(&self, frame: &[u8]) {
        // SAFETY: the buffer outlives the call, and its length is given.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        assert_eq!(usize::try_from(sent).ok(), Some(frame.len()), "send: {}", io::Error::last_os_error());
    }

    /// The next frame that `wanted` accepts, or none in time.
    pub fn receive(&self, patience: Duration, wanted: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let frame = self.next(left)?;
            if wanted(&frame) {
                return Some(frame);
            }
        }
    }

    /// All frames that `wanted` accepts until nothing more has come for `quiet`.
    pub fn drain(&self, quiet: Duration, wanted: impl Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.receive(quiet, &wanted)).collect()
    }

    fn next(&self, patience: Duration) -> Option<Vec<u8>> {
        let mut poll = libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd that outlives the call.
        let ready = unsafe { libc::poll(&raw mut poll, 1, i32::try_from(patience.as_millis()).unwrap()) };
        if ready <= 0 {
            return None;
        }
        let mut buffer = vec![0_u8; 65_536];
        let mut control = [0_u64; 16];
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        // SAFETY: all-zero bytes are a valid msghdr.
        let mut message: libc::msghdr = unsafe { zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        // SAFETY: buffer and control area outlive the call, with their lengths in the message.
        let length = unsafe { libc::recvmsg(self.0.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
        buffer.truncate(usize::try_from(length).ok()?);
        if let Some((tpid, tci)) = stripped_tag(&message) {
            buffer.splice(12..12, [tpid.to_be_bytes(), tci.to_be_bytes()].concat());
        }
        Some(buffer)
    }
}

/// The kernel takes the outer tag out of a received frame and tells it apart: (TPID, TCI).
fn stripped_tag(message: &libc::msghdr) -> Option<(u16, u16)> {
    // SAFETY: recvmsg() filled the control area that the message points to, which is alive; CMSG_FIRSTHDR and
    // CMSG_NXTHDR stay inside it, and a PACKET_AUXDATA message carries one tpacket_auxdata, read unaligned.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_PACKET && (*header).cmsg_type == libc::PACKET_AUXDATA {
                let data: libc::tpacket_auxdata =
                    libc::CMSG_DATA(header).cast::<libc::tpacket_auxdata>().read_unaligned();
                if data.tp_status & libc::TP_STATUS_VLAN_VALID != 0 {
                    let told = data.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
                    return Some((if told { data.tp_vlan_tpid } else { 0x8100 }, data.tp_vlan_tci));
                }
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    None
}
