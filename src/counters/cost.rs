//! Where a worker's time goes, in cycles of the time-stamp counter.
//!
//! Each cycle of a worker's loop is in exactly one of these counters, so their sum is all of its time. Busy and idle time
//! are kept as such sums and nowhere else: they cannot disagree with their parts.

use super::Counter;
use super::burst_cost::BurstCosts;
use crate::clock;

/// What a worker does in a turn of its loop, system calls apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// Taking frames from the RX ring, with their stamps.
    Receive,
    /// Reading headers, looking up, deciding and rewriting.
    Forward,
    /// Submitting to the TX ring, and counting what was sent.
    Send,
    /// Taking sent frames back.
    Complete,
    /// Handing free frames to the fill ring.
    Refill,
    /// The rest.
    Other,
}

impl Stage {
    /// Number of stages.
    pub const COUNT: usize = 6;

    /// Position in [`CostCounters::stages`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// A kind of system call that workers make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SystemCall {
    /// Has the kernel send.
    Sendto,
    /// Has the kernel receive.
    Recvfrom,
    /// Sleeps.
    Poll,
}

impl SystemCall {
    /// Number of kinds.
    pub const COUNT: usize = 3;

    /// Position in [`CostCounters::system_calls`] and in [`SystemCalls`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// System calls of one thread up to now. Only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SystemCalls {
    /// How many, by [`SystemCall::index`].
    pub calls: [u64; SystemCall::COUNT],
    /// Cycles in them, by [`SystemCall::index`].
    pub cycles: [u64; SystemCall::COUNT],
}

impl SystemCalls {
    /// Makes one, and counts it.
    #[inline]
    pub fn time<T>(&mut self, call: SystemCall, make: impl FnOnce() -> T) -> T {
        let begin = clock::cycles();
        let result = make();
        self.calls[call.index()] += 1;
        self.cycles[call.index()] += clock::cycles().saturating_sub(begin);
        result
    }

    /// Cycles in all of them.
    #[inline]
    pub fn all_cycles(&self) -> u64 {
        self.cycles.iter().sum()
    }
}

/// Cycles of one worker.
#[derive(Debug, Default)]
pub struct CostCounters {
    /// User cycles in busy turns, by [`Stage::index`].
    pub stages: [Counter; Stage::COUNT],
    /// User cycles in idle turns.
    pub idle: Counter,
    /// System calls, by [`SystemCall::index`].
    pub system_calls: [SystemCallCounters; SystemCall::COUNT],
}

/// System calls of one kind.
#[derive(Debug, Default)]
pub struct SystemCallCounters {
    /// How many.
    pub calls: Counter,
    /// Cycles in those of busy turns.
    pub busy_cycles: Counter,
    /// Cycles in those of idle turns.
    pub idle_cycles: Counter,
}

/// Bursts of about the same size.
#[derive(Debug, Default)]
pub struct BatchCounters {
    /// How many.
    pub bursts: Counter,
    /// Frames in them.
    pub packets: Counter,
    /// Cycles of the turns that handled them, system calls included.
    pub cycles: Counter,
    /// Those of `cycles` in system calls.
    pub system_call_cycles: Counter,
    /// `cycles` of each of them.
    pub costs: BurstCosts,
}
