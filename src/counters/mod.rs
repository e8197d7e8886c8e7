//! Counters that one thread writes and any other may read.
//!
//! A worker is the only writer of its counters, so an increment is a plain load and store: no lock prefix, no shared
//! cache line. Readers see each counter at some recent moment; at a quiet moment all of them are exact. Counters only
//! ever grow; who wants a rate takes two readings.

pub mod burst_cost;
pub mod connections;
pub mod cost;
pub mod latency;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::utils::CachePadded;

use cost::{BatchCounters, CostCounters};
use latency::LatencyHistogram;

use crate::verdict::DropReason;

/// A monotonic count with one writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `amount`. Only the owning thread may call this.
    #[inline]
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    /// Sets a gauge. Only the owning thread may call this.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The count as of some recent moment.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One cell for each worker, on cache lines of their own. A copy shares the cells.
#[derive(Debug)]
pub struct PerWorker<T>(Arc<[CachePadded<T>]>);

impl<T> Clone for PerWorker<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Default> PerWorker<T> {
    /// Cells for `workers` workers.
    pub fn new(workers: usize) -> Self {
        Self((0..workers.max(1)).map(|_| CachePadded::new(T::default())).collect())
    }
}

impl<T> PerWorker<T> {
    /// The cell of a worker; `None` for one that does not exist.
    #[inline]
    pub fn of(&self, worker: usize) -> Option<&T> {
        self.0.get(worker).map(|cell| &**cell)
    }

    /// All cells, by worker.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|cell| &**cell)
    }
}

/// Verdicts of the frames of one virtual service or real server.
#[derive(Debug, Default)]
pub struct Outcomes {
    /// Frames submitted to a TX ring.
    pub tx_packets: Counter,
    /// Bytes of these, from the destination MAC to the end of the frame.
    pub tx_bytes: Counter,
    /// Bytes of the frames dropped.
    pub drop_bytes: Counter,
    /// Frames dropped, by [`DropReason::index`].
    pub drops: [Counter; DropReason::COUNT],
}

impl Outcomes {
    /// Counts frames of `bytes` in all submitted to a TX ring.
    #[inline]
    pub fn count_tx(&self, frames: u64, bytes: u64) {
        self.tx_packets.add(frames);
        self.tx_bytes.add(bytes);
    }

    /// Counts a frame of `bytes` dropped.
    #[inline]
    pub fn count_drop(&self, reason: DropReason, bytes: u64) {
        self.drops[reason.index()].add(1);
        self.drop_bytes.add(bytes);
    }
}

/// Buckets of the batch-size distribution: sizes 1, 2-3, 4-7, ... 512 and more.
pub const BATCH_BUCKETS: usize = 10;

/// What one worker counts over all its queues.
#[derive(Debug, Default)]
pub struct WorkerCounters {
    /// Verdicts of all frames that the worker received.
    pub outcomes: Outcomes,
    /// Frames sent without a valid stamp of the XDP program: their latency is unknown and not recorded.
    pub unstamped: Counter,
    /// Bursts by their number of frames: bucket `i` holds sizes from `2^i` to `2^(i+1) - 1`.
    pub batches: [BatchCounters; BATCH_BUCKETS],
    /// Turns of the loop that found frames or completions.
    pub busy_turns: Counter,
    /// Turns that found nothing.
    pub idle_turns: Counter,
    /// Where its cycles went.
    pub cost: CostCounters,
    /// Times the worker went to sleep in `poll`.
    pub sleeps: Counter,
    /// What the flow tables did.
    pub flows: FlowCounters,
    /// Generation of the forwarding table of the newest burst.
    pub table_generation: Counter,
    /// Frames in the worker's memory (gauge, constant).
    pub frames_total: Counter,
    /// Frames free in the worker's hands (gauge).
    pub frames_free: Counter,
    /// Descriptors, of RX and of completion rings, that are no frame: the kernel did not have it, or it fits no chunk. They
    /// are ignored, and the frames that the kernel kept instead count as its own.
    pub frames_quarantined: Counter,
    /// Nanoseconds from the XDP hook to the TX ring, of every stamped frame that was sent.
    pub latency: LatencyHistogram,
    /// Of the same frames, nanoseconds from the XDP hook until their burst was read.
    pub queueing: LatencyHistogram,
    /// Of every frame that was sent, nanoseconds from the reading of its burst to the TX ring.
    pub processing: LatencyHistogram,
    /// Of every frame that came back, nanoseconds from the TX ring until it was found in the completion ring.
    pub completion: LatencyHistogram,
}

/// The bucket of [`WorkerCounters::batches`] for bursts of `frames`, which must not be 0.
#[inline]
pub fn batch_bucket(frames: usize) -> usize {
    let bucket = (usize::BITS - 1).saturating_sub(frames.leading_zeros()) as usize;
    bucket.min(BATCH_BUCKETS - 1)
}

/// What a worker's flow tables did.
#[derive(Debug, Default)]
pub struct FlowCounters {
    /// Flows that got an entry.
    pub new: Counter,
    /// Flows that got none, because their set was full of established ones; they go by their hash.
    pub without_room: Counter,
    /// Unconfirmed or closing flows that gave way to another.
    pub evicted: Counter,
    /// Frames that went by another worker's entry.
    pub peer_hits: Counter,
    /// Frames that went by the table before the last change.
    pub previous_table_hits: Counter,
    /// Fragments that went by their first fragment's entry.
    pub fragment_hits: Counter,
    /// Fragments without one, which went by the hash of their addresses.
    pub fragment_misses: Counter,
    /// Frames whose real server was down or had no MAC address, and which took the second choice of the hash.
    pub second_choices: Counter,
}

/// What a worker counts of one queue of one interface.
#[derive(Debug, Default)]
pub struct QueueCounters {
    /// Frames taken from the RX ring.
    pub rx_packets: Counter,
    /// Bytes of these frames.
    pub rx_bytes: Counter,
    /// Descriptors of the RX ring that are no frame, because the kernel did not have it or it fits no chunk.
    pub rx_refused: Counter,
    /// Frames submitted to the TX ring.
    pub tx_packets: Counter,
    /// Bytes of these frames.
    pub tx_bytes: Counter,
    /// Frames that the kernel handed back after sending.
    pub tx_completed: Counter,
    /// Frames handed to the fill ring.
    pub fill_submitted: Counter,
    /// System calls that asked the kernel to send.
    pub tx_kicks: Counter,
    /// Of these, the ones that the kernel refused for lack of memory or because the link was down.
    pub tx_kick_errors: Counter,
    /// System calls that asked the kernel to receive.
    pub rx_kicks: Counter,
}
