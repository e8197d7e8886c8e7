#![allow(unsafe_code, reason = "xsk-rs's constructor asks for a promise about shared memory")]
//! Makes the memory and binds the sockets of one worker.

use std::ffi::CString;
use std::io;
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use xsk_rs::config::{BindFlags, FrameSize, Interface, LibxdpFlags, QueueSize, SocketConfig, UmemConfig};
use xsk_rs::{FrameDesc, Socket, Umem};

use super::socket::{self, SocketHandle};
use super::{Ledger, RING_BATCH, STAMP_HEADROOM, XskPort, XskQueue};
use crate::counters::QueueCounters;
use crate::counters::cost::SystemCalls;

/// Memories made so far.
static MEMORIES: AtomicU32 = AtomicU32::new(0);

/// How long a queue that is still taken is tried again: the kernel tears a closed socket down a little late.
const BUSY_RETRY: Duration = Duration::from_millis(500);
/// What the kernel charges a socket for a frame on its way, beside its bytes.
const FRAME_OVERHEAD_BYTES: usize = 1024;

/// How sockets are bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindMode {
    /// Zero copy where the driver has it, else copy.
    Auto,
    /// Zero copy or nothing.
    ZeroCopy,
    /// Copy.
    Copy,
}

/// One queue that a worker is to have.
#[derive(Clone, Debug)]
pub struct QueuePlan {
    /// The interface's name.
    pub interface: String,
    /// Number of the interface's queue.
    pub queue: u32,
    /// Whether it receives. A queue that only sends gets no frames in its fill ring, but in zero-copy mode: there the
    /// driver receives what is the kernel's into frames of this ring, too, and without any the kernel would hear
    /// nothing more on that queue.
    pub receive: bool,
    /// Descriptors of the RX ring.
    pub rx_ring: u32,
    /// Descriptors of the TX ring.
    pub tx_ring: u32,
    /// Busy polling: microseconds and budget of packets.
    pub busy_poll: Option<(u32, u32)>,
    /// Where the queue counts.
    pub counters: Arc<QueueCounters>,
}

/// The sockets and the memory that a worker is to have.
#[derive(Clone, Debug)]
pub struct XskPlan {
    /// Its queues.
    pub queues: Vec<QueuePlan>,
    /// Descriptors of each fill ring; a power of two.
    pub fill_ring: u32,
    /// Descriptors of each completion ring; a power of two.
    pub completion_ring: u32,
    /// Bytes of a frame, headroom included: 2048 or 4096.
    pub frame_size: u32,
    /// Frames of the memory.
    pub frames: u32,
    /// Whether the memory is to be made of huge pages.
    pub huge_pages: bool,
    /// How the sockets are bound.
    pub mode: BindMode,
}

/// Why a worker's sockets could not be made.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The kernel has no AF_XDP.
    #[error("this kernel has no AF_XDP sockets: it must be built with CONFIG_XDP_SOCKETS=y (Linux 6.1 or newer)")]
    NoAfXdp,
    /// Privileges are missing.
    #[error("no permission to make AF_XDP sockets: run as root or with CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF")]
    Permission,
    /// The memory lock limit is too low.
    #[error(
        "the memory lock limit is too low for {bytes} bytes of frames: raise it (ulimit -l unlimited, LimitMEMLOCK= in a \
         systemd unit), give CAP_IPC_LOCK, or set fewer frames"
    )]
    MemoryLock {
        /// Bytes of the memory.
        bytes: u64,
    },
    /// The memory could not be had.
    #[error("cannot get {bytes} bytes of memory for frames{}: {source}", if *.huge { " in huge pages (reserve some: sysctl vm.nr_hugepages)" } else { "" })]
    Memory {
        /// Bytes of the memory.
        bytes: u64,
        /// Whether huge pages were asked for.
        huge: bool,
        /// What the kernel said.
        source: io::Error,
    },
    /// The queue is bound to another socket.
    #[error(
        "queue {queue} of {interface} is taken by another AF_XDP socket: stop the program that has it, or leave the queue \
         out of `queues`"
    )]
    Occupied {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
    },
    /// Zero copy was demanded and refused.
    #[error(
        "the driver of {interface} refuses zero copy on queue {queue} ({source}): set copy = \"auto\" or \"copy\" to do \
         without"
    )]
    ZeroCopyRefused {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// The socket could not be bound for another reason.
    #[error("cannot bind an AF_XDP socket to queue {queue} of {interface}: {source}")]
    Bind {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// A size that the rings or frames cannot have.
    #[error("{what} of {value} is impossible: {why}")]
    Size {
        /// Which size.
        what: &'static str,
        /// Its value.
        value: u32,
        /// What is wrong with it.
        why: String,
    },
}

/// A worker's port and what became of its wishes.
pub struct Opened {
    /// The port.
    pub port: XskPort,
    /// For each queue: a handle for the XSKMAP and for statistics, and whether it is zero copy.
    pub sockets: Vec<(SocketHandle, bool)>,
    /// Why zero copy was not had, where it was tried.
    pub zero_copy_refused: Option<String>,
    /// Whether the memory is in huge pages.
    pub huge_pages: bool,
    /// What was asked for and not had, a sentence each.
    pub warnings: Vec<String>,
}

/// Makes the memory and binds all sockets, or nothing.
///
/// # Errors
/// Why it could not be done.
pub fn open(plan: &XskPlan) -> Result<Opened, OpenError> {
    match plan.mode {
        BindMode::Copy => open_as(plan, BindFlags::XDP_COPY),
        BindMode::ZeroCopy => open_as(plan, BindFlags::XDP_ZEROCOPY),
        BindMode::Auto => match open_as(plan, BindFlags::XDP_ZEROCOPY) {
            Err(OpenError::ZeroCopyRefused { interface, queue, source }) => {
                let mut opened = open_as(plan, BindFlags::XDP_COPY)?;
                opened.zero_copy_refused = Some(format!("queue {queue} of {interface}: {source}"));
                Ok(opened)
            }
            other => other,
        },
    }
}

fn open_as(plan: &XskPlan, mode: BindFlags) -> Result<Opened, OpenError> {
    let mut warnings = Vec::new();
    let (umem, descs, huge_pages) = memory(plan, &mut warnings)?;
    // SAFETY: the descriptor is the first of this memory, and no socket has it yet.
    let base = descs
        .first()
        .map_or(0, |first| unsafe { umem.data(first) }.contents().as_ptr().expose_provenance() - first.addr());
    let mut queues = Vec::with_capacity(plan.queues.len());
    let mut sockets = Vec::with_capacity(plan.queues.len());
    // Where frames are fewer than fill descriptors, the first queue must not have them all.
    let share = u64::from(plan.frames) / plan.queues.len().max(1) as u64;
    for queue in &plan.queues {
        let (mut bound, handle) = bind(plan, queue, &umem, mode)?;
        bound.fill_target = bound.fill_target.min(share);
        tune(&bound, queue, plan, &mut warnings);
        sockets.push((handle, bound.zero_copy));
        queues.push(bound);
    }
    let poll_fds = queues
        .iter()
        .zip(&plan.queues)
        .filter(|(_, queue)| queue.receive)
        .map(|(bound, _)| libc::pollfd { fd: bound.fd, events: libc::POLLIN, revents: 0 })
        .collect();
    let port = XskPort {
        queues,
        umem,
        memory: MEMORIES.fetch_add(1, Ordering::Relaxed),
        base,
        frame_size: plan.frame_size as usize,
        ledger: Ledger::new(descs.len()),
        submitted_ns: vec![0; descs.len()].into_boxed_slice(),
        received_at_ns: 0,
        submitted_at_ns: 0,
        system_calls: SystemCalls::default(),
        scratch: vec![FrameDesc::default(); RING_BATCH.max(512)],
        free: descs,
        poll_fds,
    };
    Ok(Opened { port, sockets, zero_copy_refused: None, huge_pages, warnings })
}

fn memory(plan: &XskPlan, warnings: &mut Vec<String>) -> Result<(Umem, Vec<FrameDesc>, bool), OpenError> {
    let bytes = u64::from(plan.frames) * u64::from(plan.frame_size);
    let size = |what, value, why: String| OpenError::Size { what, value, why };
    let config = UmemConfig::builder()
        .frame_size(FrameSize::new(plan.frame_size).map_err(|e| size("a frame size", plan.frame_size, e.to_string()))?)
        .fill_queue_size(ring_size("a fill ring", plan.fill_ring)?)
        .comp_queue_size(ring_size("a completion ring", plan.completion_ring)?)
        // With the kernel's own 256 bytes the frame starts 16 bytes into a cache line: its stamp and its headers up to
        // the ports share that line.
        .frame_headroom(STAMP_HEADROOM)
        .build()
        .map_err(|e| size("a frame size", plan.frame_size, e.to_string()))?;
    let frames =
        NonZeroU32::new(plan.frames).ok_or_else(|| size("a number of frames", 0, "there must be some".into()))?;
    let refused = |error: xsk_rs::umem::UmemCreateError, huge| {
        let source = os_error(&error);
        match source.raw_os_error() {
            Some(libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT) => OpenError::NoAfXdp,
            Some(libc::EPERM | libc::EACCES) => OpenError::Permission,
            Some(libc::ENOBUFS) => OpenError::MemoryLock { bytes },
            _ => OpenError::Memory { bytes, huge, source },
        }
    };
    if plan.huge_pages {
        match Umem::new(config, frames, true) {
            Ok((umem, descs)) => return Ok((umem, descs, true)),
            Err(error) => warnings.push(format!("{}; going on with pages of the usual size", refused(error, true))),
        }
    }
    let (umem, descs) = Umem::new(config, frames, false).map_err(|error| refused(error, false))?;
    Ok((umem, descs, false))
}

fn ring_size(what: &'static str, value: u32) -> Result<QueueSize, OpenError> {
    QueueSize::new(value).map_err(|error| OpenError::Size { what, value, why: error.to_string() })
}

fn bind(
    plan: &XskPlan,
    queue: &QueuePlan,
    umem: &Umem,
    mode: BindFlags,
) -> Result<(XskQueue, SocketHandle), OpenError> {
    let config = SocketConfig::builder()
        .rx_queue_size(ring_size("an RX ring", queue.rx_ring)?)
        .tx_queue_size(ring_size("a TX ring", queue.tx_ring)?)
        .bind_flags(mode | BindFlags::XDP_USE_NEED_WAKEUP)
        .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
        .build();
    let name = Interface::new(CString::new(queue.interface.as_str()).map_err(|error| OpenError::Bind {
        interface: queue.interface.clone(),
        queue: queue.queue,
        source: io::Error::new(io::ErrorKind::InvalidInput, error),
    })?);
    let deadline = Instant::now() + BUSY_RETRY;
    let created = loop {
        // SAFETY: the program load is inhibited, as the contract asks for where memory is shared; each queue is bound
        // once.
        match unsafe { Socket::new(config, umem, &name, queue.queue) } {
            Err(error) if os_error(&error).raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(20));
            }
            other => break other,
        }
    };
    let (tx, rx, rings) = created.map_err(|error| bind_error(queue, mode, os_error(&error)))?;
    let fail = |source| OpenError::Bind { interface: queue.interface.clone(), queue: queue.queue, source };
    let Some((fill, completion)) = rings else {
        return Err(fail(io::Error::other("the queue is listed twice")));
    };
    let fd = rx.fd().as_raw_fd();
    // SAFETY: the descriptor is open as long as `rx` is, which outlives this borrow.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    // libxdp leaves it to be inherited, and a program that outlives the director would keep the queue. The memory's
    // descriptor is that of its first socket. No other program is started before all sockets are open: the checks that
    // do it begin after.
    fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(|errno| fail(errno.into()))?;
    let handle = SocketHandle::duplicate(borrowed).map_err(fail)?;
    let zero_copy = socket::is_zero_copy(fd).map_err(fail)?;
    let bound = XskQueue {
        zero_copy,
        rx,
        tx,
        fill,
        completion,
        fd,
        tx_ring: queue.tx_ring,
        fill_ring: plan.fill_ring,
        fill_target: if queue.receive || zero_copy { u64::from(plan.fill_ring) } else { 0 },
        in_fill: 0,
        in_tx: 0,
        kick_due: false,
        busy_poll: queue.busy_poll.is_some(),
        counters: Arc::clone(&queue.counters),
    };
    Ok((bound, handle))
}

fn bind_error(queue: &QueuePlan, mode: BindFlags, source: io::Error) -> OpenError {
    let (interface, number) = (queue.interface.clone(), queue.queue);
    match source.raw_os_error() {
        Some(libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT) => OpenError::NoAfXdp,
        Some(libc::EPERM | libc::EACCES) => OpenError::Permission,
        Some(libc::EBUSY) => OpenError::Occupied { interface, queue: number },
        Some(libc::ENODEV | libc::ENETDOWN | libc::ENXIO) => OpenError::Bind { interface, queue: number, source },
        // A driver without zero copy says EOPNOTSUPP; one whose set-up does not allow it EINVAL or what it likes
        // (virtio_net ENOENT, others ENOMEM). If it was not about zero copy, the second try will tell.
        Some(_) if mode.contains(BindFlags::XDP_ZEROCOPY) => {
            OpenError::ZeroCopyRefused { interface, queue: number, source }
        }
        _ => OpenError::Bind { interface, queue: number, source },
    }
}

/// Sets what makes a socket faster; none of it is needed.
fn tune(bound: &XskQueue, queue: &QueuePlan, plan: &XskPlan, warnings: &mut Vec<String>) {
    if !bound.zero_copy {
        let in_flight = queue.tx_ring as usize * (plan.frame_size as usize + FRAME_OVERHEAD_BYTES);
        if let Err(error) = socket::raise_send_buffer(bound.fd, in_flight) {
            warnings
                .push(format!("cannot raise the send buffer of {} queue {}: {error}", queue.interface, queue.queue));
        }
        // Absent on older kernels, which is no fault: the port then calls again.
        if let Err(error) = socket::raise_tx_budget(bound.fd, queue.tx_ring) {
            tracing::debug!(interface = queue.interface, queue = queue.queue, %error, "no larger TX budget");
        }
    }
    if let Some((timeout_us, budget)) = queue.busy_poll
        && let Err(error) = socket::prefer_busy_poll(bound.fd, timeout_us, budget)
    {
        warnings.push(format!(
            "no busy polling on {} queue {}: {error} (needs CAP_NET_ADMIN)",
            queue.interface, queue.queue
        ));
    }
}

/// The system's error at the bottom of an error of xsk-rs.
fn os_error(error: &(dyn std::error::Error + 'static)) -> io::Error {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    match source.and_then(io::Error::raw_os_error) {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::other(error.to_string()),
    }
}
