#![allow(unsafe_code, reason = "nix knows no AF_XDP sockets, and libc not all of their options")]
//! What AF_XDP sockets of this kernel can do, tried on one that is bound to nothing.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use libc::{c_int, socklen_t};

use super::socket::{SO_PREFER_BUSY_POLL, XDP_MAX_TX_SKB_BUDGET};

/// Of the values of both options.
const INT_BYTES: socklen_t = 4;

/// What the kernel's AF_XDP sockets can do. None for what could not be tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketFeatures {
    /// There are such sockets (CONFIG_XDP_SOCKETS).
    pub af_xdp: Option<bool>,
    /// Preferred busy polling (Linux 5.11, CONFIG_NET_RX_BUSY_POLL).
    pub busy_poll: Option<bool>,
    /// More than 32 frames for a system call in copy mode (XDP_MAX_TX_SKB_BUDGET).
    pub tx_budget: Option<bool>,
}

/// Tries. Without CAP_NET_RAW nothing is known.
pub fn socket_features() -> SocketFeatures {
    // SAFETY: a plain system call; the descriptor, if there is one, is new and owned by nobody else.
    let opened = unsafe {
        let fd = libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    };
    match opened {
        Ok(socket) => SocketFeatures {
            af_xdp: Some(true),
            busy_poll: Some(has_busy_poll(&socket)),
            tx_budget: Some(takes_budget(&socket)),
        },
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
            SocketFeatures { af_xdp: Some(false), ..SocketFeatures::default() }
        }
        Err(_) => SocketFeatures::default(),
    }
}

/// Asked for, not set: setting wants CAP_NET_ADMIN.
fn has_busy_poll(socket: &OwnedFd) -> bool {
    let mut value: c_int = 0;
    let mut length = INT_BYTES;
    // SAFETY: `value` has the size that `length` says, and both outlive the call.
    let status = unsafe {
        let value = (&raw mut value).cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_PREFER_BUSY_POLL, value, &raw mut length)
    };
    status == 0
}

fn takes_budget(socket: &OwnedFd) -> bool {
    let budget: c_int = 32;
    // SAFETY: the value outlives the call, and its size is given.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_XDP,
            XDP_MAX_TX_SKB_BUDGET,
            (&raw const budget).cast(),
            INT_BYTES,
        )
    };
    // A socket without a TX ring may not set it (EACCES), which only a kernel that knows the option says.
    status == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ENOPROTOOPT)
}
