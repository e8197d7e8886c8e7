#![allow(unsafe_code, reason = "system calls on AF_XDP sockets that no crate wraps")]
//! System calls on an AF_XDP socket: telling the kernel to work, sleeping, options and statistics.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::time::Duration;

use libc::{c_int, c_void, socklen_t};

/// Constants of linux/if_xdp.h and asm-generic/socket.h that the libc crate lacks.
pub(super) const XDP_MAX_TX_SKB_BUDGET: c_int = 9;
pub(super) const SO_PREFER_BUSY_POLL: c_int = 69;
const SO_BUSY_POLL_BUDGET: c_int = 70;

/// What came of telling the kernel to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kick {
    /// The kernel says that it is done, which need not mean that it took all.
    Done,
    /// The kernel wants to be called again.
    Again,
    /// The kernel can send nothing now: no memory, or the link is down.
    Refused,
}

/// Tells the kernel to send what is in the TX ring.
#[inline]
pub(super) fn kick_tx(fd: c_int) -> Kick {
    // SAFETY: no buffer and no address are passed; a bad descriptor would be an error, not undefined.
    let sent = unsafe { libc::sendto(fd, ptr::null(), 0, libc::MSG_DONTWAIT, ptr::null(), 0) };
    if sent >= 0 {
        return Kick::Done;
    }
    match io::Error::last_os_error().raw_os_error() {
        Some(libc::EAGAIN | libc::EINTR) => Kick::Again,
        _ => Kick::Refused,
    }
}

/// Tells the driver to receive and to look at the fill ring.
#[inline]
pub(super) fn kick_rx(fd: c_int) {
    // SAFETY: as above: nothing is passed.
    unsafe { libc::recvfrom(fd, ptr::null_mut(), 0, libc::MSG_DONTWAIT, ptr::null_mut(), ptr::null_mut()) };
}

/// Sleeps until one of the sockets has something to read. In copy mode this also sends what is in their TX rings.
pub(super) fn wait(fds: &mut [libc::pollfd], timeout: Duration) {
    let timeout_ms = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
    // SAFETY: pointer and length describe the slice. That a signal cuts the sleep short is as good as waking up.
    unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout_ms) };
}

/// The kernel's own counters of one socket (XDP_STATISTICS). They are never reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelRingStatistics {
    /// Frames dropped for other reasons than a full RX ring: in copy mode also when the fill ring was empty.
    pub rx_dropped: u64,
    /// Fill descriptors that pointed outside of the memory.
    pub rx_invalid_descs: u64,
    /// TX descriptors that pointed outside of the memory or were too long.
    pub tx_invalid_descs: u64,
    /// Frames dropped because the RX ring was full.
    pub rx_ring_full: u64,
    /// Times the kernel found the fill ring empty.
    pub rx_fill_ring_empty_descs: u64,
    /// Times the kernel found the TX ring empty.
    pub tx_ring_empty_descs: u64,
}

/// A second handle of a socket, for reading its statistics from another thread. The socket stays bound while it lives.
#[derive(Debug)]
pub struct SocketHandle(OwnedFd);

impl SocketHandle {
    pub(super) fn duplicate(fd: BorrowedFd<'_>) -> io::Result<Self> {
        fd.try_clone_to_owned().map(Self)
    }

    /// The descriptor, to be put into an XSKMAP.
    pub fn as_raw_fd(&self) -> c_int {
        self.0.as_raw_fd()
    }

    /// Reads the kernel's counters.
    ///
    /// # Errors
    /// What the system call says.
    pub fn statistics(&self) -> io::Result<KernelRingStatistics> {
        let raw: RawStatistics = get_option(self.0.as_raw_fd(), libc::SOL_XDP, libc::XDP_STATISTICS)?;
        Ok(KernelRingStatistics {
            rx_dropped: raw[0],
            rx_invalid_descs: raw[1],
            tx_invalid_descs: raw[2],
            rx_ring_full: raw[3],
            rx_fill_ring_empty_descs: raw[4],
            tx_ring_empty_descs: raw[5],
        })
    }
}

/// `struct xdp_statistics`: six counters of 64 bits.
type RawStatistics = [u64; 6];

/// Whether the socket is bound in zero-copy mode.
pub(super) fn is_zero_copy(fd: c_int) -> io::Result<bool> {
    let flags: u32 = get_option(fd, libc::SOL_XDP, libc::XDP_OPTIONS)?;
    Ok(flags & libc::XDP_OPTIONS_ZEROCOPY != 0)
}

/// Lets one call send a whole TX ring in copy mode; kernels before 6.18 know no such option.
pub(super) fn raise_tx_budget(fd: c_int, frames: u32) -> io::Result<()> {
    set_option(fd, libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, c_int::try_from(frames).unwrap_or(c_int::MAX))
}

/// Lets as many bytes be on their way in copy mode as a whole TX ring needs.
pub(super) fn raise_send_buffer(fd: c_int, bytes: usize) -> io::Result<()> {
    let bytes = c_int::try_from(bytes).unwrap_or(c_int::MAX);
    set_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, bytes)
        .or_else(|_| set_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, bytes))
}

/// Has the worker's own system calls drive the interface's queue (Documentation/networking/napi.rst).
pub(super) fn prefer_busy_poll(fd: c_int, timeout_us: u32, budget: u32) -> io::Result<()> {
    set_option(fd, libc::SOL_SOCKET, SO_PREFER_BUSY_POLL, 1)?;
    set_option(fd, libc::SOL_SOCKET, libc::SO_BUSY_POLL, c_int::try_from(timeout_us).unwrap_or(c_int::MAX))?;
    set_option(fd, libc::SOL_SOCKET, SO_BUSY_POLL_BUDGET, c_int::try_from(budget).unwrap_or(c_int::MAX))
}

fn set_option(fd: c_int, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    // SAFETY: pointer and length describe `value`, which the kernel only reads.
    let result =
        unsafe { libc::setsockopt(fd, level, name, ptr::from_ref(&value).cast::<c_void>(), len_of::<c_int>()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[expect(clippy::cast_possible_truncation, reason = "options are a few bytes long")]
const fn len_of<T>() -> socklen_t {
    mem::size_of::<T>() as socklen_t
}

/// Plain old data that any bit pattern is a valid value of.
trait OptionValue: Copy + Default {}
impl OptionValue for u32 {}
impl OptionValue for RawStatistics {}

fn get_option<T: OptionValue>(fd: c_int, level: c_int, name: c_int) -> io::Result<T> {
    let mut value = T::default();
    let mut len = len_of::<T>();
    // SAFETY: pointer and length describe `value`; the kernel writes at most that much, and any bits are a valid `T`.
    let result = unsafe { libc::getsockopt(fd, level, name, ptr::from_mut(&mut value).cast::<c_void>(), &raw mut len) };
    if result == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}
