//! Where frames come from and go to: the queues of one worker and the memory that their frames lie in.
//!
//! A frame is a token that can only be moved. It is in exactly one place: with the kernel for receiving (fill ring),
//! with the worker, or with the kernel for sending (TX ring). [`Ledger`] keeps the sum.

mod ledger;
pub mod memory;

pub mod xsk;

pub use ledger::{Census, Ledger, Place};

use std::time::Duration;

use crate::clock;
use crate::counters::cost::SystemCalls;
use crate::counters::latency::LatencyHistogram;

/// A received frame in a worker's hands.
pub trait Frame {
    /// Bytes from the destination MAC to the end, without frame check sequence.
    fn len(&self) -> usize;

    /// When the XDP program saw it, by CLOCK_MONOTONIC in nanoseconds; `None` if it carries no valid stamp.
    fn received_ns(&self) -> Option<u64>;

    /// Whether it has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The queues of one worker, numbered from 0, and their frames.
pub trait Port {
    /// A received frame.
    type Frame: Frame;

    /// Number of queues.
    fn queues(&self) -> usize;

    /// Takes up to `most` frames that `queue` has received and appends them to `frames`. Returns how many.
    fn rx_burst(&mut self, queue: usize, frames: &mut Vec<Self::Frame>, most: usize) -> usize;

    /// The bytes of a frame.
    fn bytes_mut<'a>(&'a mut self, frame: &'a mut Self::Frame) -> &'a mut [u8];

    /// Submits the first frames of `frames` to the TX ring of `queue`, as many as fit, and removes them. Returns how
    /// many.
    fn tx_burst(&mut self, queue: usize, frames: &mut Vec<Self::Frame>) -> usize;

    /// Gives back a frame that is not sent.
    fn release(&mut self, frame: Self::Frame);

    /// Has the kernel send what was submitted, if it needs to be told.
    fn kick_tx(&mut self, queue: usize);

    /// Takes back the frames that the kernel has sent, and records in `times` how long ago each was submitted. Returns
    /// how many.
    fn complete(&mut self, queue: usize, times: &LatencyHistogram) -> usize;

    /// Hands free frames to the kernel for receiving, as many as the queue may have. Returns how many.
    fn refill(&mut self, queue: usize) -> usize;

    /// Has the kernel receive, where the driver needs to be told.
    fn kick_rx(&mut self, queue: usize);

    /// Sleeps until a frame arrives, at most for `timeout`.
    fn wait(&mut self, timeout: Duration);

    /// When the newest burst was received, by CLOCK_MONOTONIC in nanoseconds: before any of its bytes was looked at.
    #[inline]
    fn received_at_ns(&self) -> u64 {
        clock::monotonic_ns()
    }

    /// When frames were last submitted, or were not for want of room, by the same clock.
    #[inline]
    fn submitted_at_ns(&self) -> u64 {
        clock::monotonic_ns()
    }

    /// The system calls that it made.
    #[inline]
    fn system_calls(&self) -> SystemCalls {
        SystemCalls::default()
    }

    /// Where all frames are.
    fn census(&self) -> Census;
}
