#![allow(unsafe_code, reason = "frames live in memory that is shared with the kernel")]
//! AF_XDP sockets: one memory (UMEM) for a worker, shared by the sockets of all its queues.
//!
//! See the kernel's Documentation/networking/af_xdp.rst for the rings.

mod features;
mod open;
mod socket;
#[cfg(test)]
mod tests;

pub use features::{SocketFeatures, socket_features};
pub use open::{BindMode, OpenError, Opened, QueuePlan, XskPlan, open};
pub use socket::{KernelRingStatistics, SocketHandle};

use std::ptr;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, TxQueue, Umem};

use super::{Census, Frame, Ledger, Place, Port};
use crate::clock;
use crate::counters::QueueCounters;
use crate::counters::cost::{SystemCall, SystemCalls};
use crate::counters::latency::LatencyHistogram;
use crate::xdp::{STAMP_BYTES, STAMP_MAGIC};

/// Bytes in front of a frame that its stamp takes.
#[expect(clippy::cast_possible_truncation, reason = "it is sixteen")]
pub const STAMP_HEADROOM: u32 = STAMP_BYTES as u32;

/// Frames moved between a ring and the free list at once.
const RING_BATCH: usize = 64;
/// The kernel sends at most this many frames for one call in copy mode, unless told otherwise.
const COPY_MODE_TX_BUDGET: u64 = 32;

/// A frame of the UMEM.
#[derive(Debug)]
pub struct XskFrame {
    desc: FrameDesc,
    /// Number of the memory that it lies in.
    memory: u32,
    /// 0 without a valid stamp; no frame is received in the first nanosecond after boot.
    received_ns: u64,
}

impl Frame for XskFrame {
    #[inline]
    fn len(&self) -> usize {
        self.desc.lengths().data()
    }

    #[inline]
    fn received_ns(&self) -> Option<u64> {
        (self.received_ns != 0).then_some(self.received_ns)
    }
}

/// A worker's AF_XDP sockets and their memory.
pub struct XskPort {
    // The queues hold the sockets and go before the memory.
    queues: Vec<XskQueue>,
    /// Keeps the memory mapped.
    umem: Umem,
    /// No other memory of this process has this number: a frame of another port is told by it.
    memory: u32,
    /// Address of the memory's first byte.
    base: usize,
    frame_size: usize,
    free: Vec<FrameDesc>,
    /// Descriptors on their way between a ring and the rest.
    scratch: Vec<FrameDesc>,
    ledger: Ledger,
    /// When each frame was last submitted, by number.
    submitted_ns: Box<[u64]>,
    received_at_ns: u64,
    submitted_at_ns: u64,
    system_calls: SystemCalls,
    poll_fds: Vec<libc::pollfd>,
}

struct XskQueue {
    rx: RxQueue,
    tx: TxQueue,
    fill: FillQueue,
    completion: CompQueue,
    fd: libc::c_int,
    /// Descriptors of the TX ring.
    tx_ring: u32,
    /// Descriptors of the fill ring.
    fill_ring: u32,
    /// Most frames that may be with the kernel for receiving.
    fill_target: u64,
    in_fill: u64,
    in_tx: u64,
    /// Frames were submitted that the kernel has not been told of, or said that it could not take yet.
    kick_due: bool,
    busy_poll: bool,
    zero_copy: bool,
    counters: Arc<QueueCounters>,
}

impl XskQueue {
    /// Frames in the TX ring that the kernel has not taken yet.
    #[inline]
    fn untaken(&mut self) -> u32 {
        self.tx_ring.saturating_sub(self.tx.nb_free_exact())
    }
}

impl XskPort {
    /// The first byte of a frame.
    ///
    /// The address is made from the memory as a whole, which was exposed when it was registered with the kernel: the
    /// bytes in front of the frame, where the stamp is, belong to no slice that the crate hands out.
    #[inline]
    fn pointer(&self, desc: &FrameDesc) -> *mut u8 {
        ptr::with_exposed_provenance_mut(self.base + desc.addr())
    }

    /// Reads and clears the stamp in front of a frame; 0 if there is no valid one.
    ///
    /// Clearing matters: the next frame in this memory may come without a stamp, and must not show this one's.
    #[inline]
    fn take_stamp(&self, desc: &FrameDesc, now_ns: u64) -> u64 {
        let stamp = self.pointer(desc).wrapping_sub(STAMP_BYTES).cast::<u64>();
        // SAFETY: the ledger has just said that this frame went from the kernel to the worker, so nobody else accesses
        // it, and `lies_in_its_chunk` that its data begins at least `STAMP_BYTES` bytes behind the start of its chunk,
        // inside of the memory. Unaligned accesses ask nothing of the address.
        unsafe {
            if stamp.read_unaligned() != STAMP_MAGIC {
                return 0;
            }
            stamp.write_unaligned(0);
            let received_ns = stamp.add(1).read_unaligned();
            if received_ns <= now_ns { received_ns } else { 0 }
        }
    }

    #[inline]
    fn number_of(&self, desc: &FrameDesc) -> usize {
        desc.addr() / self.frame_size
    }

    /// Whether a received frame begins behind room for a stamp and ends inside of its chunk.
    #[inline]
    fn lies_in_its_chunk(&self, desc: &FrameDesc) -> bool {
        let offset = desc.addr() % self.frame_size;
        offset >= STAMP_BYTES && offset + desc.lengths().data() <= self.frame_size
    }

    /// Accepts a descriptor that the kernel gave back, if it is one that the kernel had.
    #[inline]
    fn accept(&mut self, at: usize, now_ns: u64) -> Option<XskFrame> {
        let desc = self.scratch[at];
        if !self.lies_in_its_chunk(&desc) {
            self.ledger.refuse();
            return None;
        }
        if !self.ledger.move_frame(self.number_of(&desc), Place::Fill, Place::Worker) {
            return None;
        }
        Some(XskFrame { desc, memory: self.memory, received_ns: self.take_stamp(&desc, now_ns) })
    }
}

impl XskPort {
    /// Takes a free frame for sending `bytes` bytes, whose contents are what was last there; `None` if there is none or
    /// it is too small.
    #[inline]
    pub fn take_free(&mut self, bytes: usize) -> Option<XskFrame> {
        let mut desc = self.free.pop()?;
        let room = self.frame_size - desc.addr() % self.frame_size;
        if bytes > room {
            self.free.push(desc);
            return None;
        }
        // SAFETY: the descriptor is of this memory and comes from the free list, so nobody else accesses the frame. Only
        // its length is set.
        unsafe { self.umem.data_mut(&mut desc) }.cursor().set_pos(bytes);
        Some(XskFrame { desc, memory: self.memory, received_ns: 0 })
    }
}

impl Port for XskPort {
    type Frame = XskFrame;

    fn queues(&self) -> usize {
        self.queues.len()
    }

    #[inline]
    fn rx_burst(&mut self, queue: usize, frames: &mut Vec<XskFrame>, most: usize) -> usize {
        let Some(from) = self.queues.get_mut(queue) else { return 0 };
        let most = most.min(self.scratch.len());
        // SAFETY: the descriptors are those of this socket's UMEM by the kernel's word, and each is checked against the
        // ledger before it is used.
        let received = unsafe { from.rx.consume(&mut self.scratch[..most]) };
        if received == 0 {
            return 0;
        }
        let now_ns = clock::monotonic_ns();
        self.received_at_ns = now_ns;
        let (mut count, mut bytes) = (0, 0);
        for at in 0..received {
            if let Some(frame) = self.accept(at, now_ns) {
                bytes += frame.len() as u64;
                count += 1;
                frames.push(frame);
            }
        }
        let queue = &mut self.queues[queue];
        queue.in_fill = queue.in_fill.saturating_sub(count as u64);
        queue.counters.rx_packets.add(count as u64);
        if count < received {
            queue.counters.rx_refused.add((received - count) as u64);
        }
        queue.counters.rx_bytes.add(bytes);
        count
    }

    #[inline]
    fn bytes_mut<'a>(&'a mut self, frame: &'a mut XskFrame) -> &'a mut [u8] {
        if frame.memory != self.memory {
            return &mut [];
        }
        // SAFETY: the frame is of this memory. An `XskFrame` is only made of a descriptor that the ledger moved to the
        // worker and that lies in its chunk, and it is moved away when the frame leaves the worker; it cannot be copied,
        // so as long as it is borrowed nobody else accesses the bytes. Any bytes are valid.
        unsafe { slice::from_raw_parts_mut(self.pointer(&frame.desc), frame.len()) }
    }

    #[inline]
    fn tx_burst(&mut self, queue: usize, frames: &mut Vec<XskFrame>) -> usize {
        let Some(queue) = self.queues.get_mut(queue) else { return 0 };
        let mut offered = 0;
        for (slot, frame) in self.scratch.iter_mut().zip(frames.iter()).take_while(|(_, f)| f.memory == self.memory) {
            *slot = frame.desc;
            offered += 1;
        }
        // SAFETY: the frames are this UMEM's and in the worker's hands; those that were taken are removed below.
        let sent = unsafe { queue.tx.produce(&self.scratch[..offered]) };
        let now_ns = clock::monotonic_ns();
        self.submitted_at_ns = now_ns;
        let mut bytes = 0;
        for frame in frames.drain(..sent) {
            bytes += frame.len() as u64;
            let number = frame.desc.addr() / self.frame_size;
            self.ledger.move_frame(number, Place::Worker, Place::Tx);
            if let Some(submitted_ns) = self.submitted_ns.get_mut(number) {
                *submitted_ns = now_ns;
            }
        }
        if sent > 0 {
            queue.in_tx += sent as u64;
            queue.kick_due = true;
            queue.counters.tx_packets.add(sent as u64);
            queue.counters.tx_bytes.add(bytes);
        }
        sent
    }

    #[inline]
    fn release(&mut self, frame: XskFrame) {
        // One of another port is not used: it is missing there.
        if frame.memory == self.memory {
            self.free.push(frame.desc);
        } else {
            self.ledger.refuse();
        }
    }

    #[inline]
    fn kick_tx(&mut self, queue: usize) {
        let Some(queue) = self.queues.get_mut(queue) else { return };
        if !queue.kick_due {
            return;
        }
        if !queue.tx.needs_wakeup() {
            // The driver is at work and may or may not look again: it asks for a wakeup if not, so look at that again.
            queue.kick_due = queue.untaken() > 0;
            return;
        }
        let mut untaken = u32::MAX;
        for _ in 0..queue.in_tx / COPY_MODE_TX_BUDGET + 2 {
            queue.counters.tx_kicks.add(1);
            match self.system_calls.time(SystemCall::Sendto, || socket::kick_tx(queue.fd)) {
                socket::Kick::Refused => {
                    queue.counters.tx_kick_errors.add(1);
                    return;
                }
                socket::Kick::Again if queue.zero_copy => return,
                socket::Kick::Done | socket::Kick::Again => {}
            }
            // In zero-copy mode the driver has been told and goes on by itself. In copy mode all is done in the call,
            // and whatever it returned (older kernels say 0 when the completion ring is full), what counts is what it
            // left. While it takes nothing more, it is called again when completions have been reaped.
            let left = if queue.zero_copy { 0 } else { queue.untaken() };
            queue.kick_due = left > 0;
            if left == 0 || left == untaken {
                return;
            }
            untaken = left;
        }
    }

    #[inline]
    fn complete(&mut self, queue: usize, times: &LatencyHistogram) -> usize {
        let Self { queues, ledger, submitted_ns, free, scratch, frame_size, .. } = self;
        let Some(queue) = queues.get_mut(queue) else { return 0 };
        if queue.in_tx == 0 {
            return 0;
        }
        let mut completed = 0;
        loop {
            // SAFETY: the descriptors are those of this UMEM by the kernel's word, and each is checked against the
            // ledger before it counts as free.
            let count = unsafe { queue.completion.consume(scratch) };
            if count > 0 {
                let now_ns = clock::monotonic_ns();
                completed += times.record_runs(scratch[..count].iter().filter_map(|desc| {
                    let number = desc.addr() / *frame_size;
                    if !ledger.move_frame(number, Place::Tx, Place::Worker) {
                        return None;
                    }
                    free.push(*desc);
                    Some(now_ns.saturating_sub(*submitted_ns.get(number)?))
                }));
            }
            if count < scratch.len() {
                break;
            }
        }
        queue.in_tx = queue.in_tx.saturating_sub(completed);
        queue.counters.tx_completed.add(completed);
        usize::try_from(completed).unwrap_or(usize::MAX)
    }

    #[inline]
    fn refill(&mut self, queue: usize) -> usize {
        let Some(queue) = self.queues.get_mut(queue) else { return 0 };
        let mut refilled = 0;
        loop {
            let wanted = usize::try_from(queue.fill_target.saturating_sub(queue.in_fill))
                .map_or(RING_BATCH, |w| w.min(RING_BATCH));
            let from = self.free.len() - wanted.min(self.free.len());
            // SAFETY: free frames are this UMEM's and nobody else's; those that were taken are removed below.
            let given = unsafe { queue.fill.produce(&self.free[from..]) };
            for desc in self.free.drain(from..from + given) {
                self.ledger.move_frame(desc.addr() / self.frame_size, Place::Worker, Place::Fill);
            }
            queue.in_fill += given as u64;
            refilled += given;
            if given < RING_BATCH {
                break;
            }
        }
        if refilled > 0 {
            queue.counters.fill_submitted.add(refilled as u64);
        }
        refilled
    }

    #[inline]
    fn kick_rx(&mut self, queue: usize) {
        let Some(queue) = self.queues.get_mut(queue) else { return };
        // With nothing in the fill ring there is nothing to tell, though the driver may go on asking for more.
        if queue.busy_poll || queue.fill.needs_wakeup() && queue.fill.nb_free_exact() < queue.fill_ring {
            queue.counters.rx_kicks.add(1);
            self.system_calls.time(SystemCall::Recvfrom, || socket::kick_rx(queue.fd));
        }
    }

    fn wait(&mut self, timeout: Duration) {
        let Self { system_calls, poll_fds, .. } = self;
        system_calls.time(SystemCall::Poll, || socket::wait(poll_fds, timeout));
    }

    #[inline]
    fn received_at_ns(&self) -> u64 {
        self.received_at_ns
    }

    #[inline]
    fn submitted_at_ns(&self) -> u64 {
        self.submitted_at_ns
    }

    #[inline]
    fn system_calls(&self) -> SystemCalls {
        self.system_calls
    }

    fn census(&self) -> Census {
        self.ledger.census(self.free.len())
    }
}
