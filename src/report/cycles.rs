//! Cycles by what they were spent for.

use super::document::{Cost, Worker};
use super::figures::share;

/// Cycles by what was done in them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cycles {
    /// All of them by part, as in [`Part::ALL`], but for softirqs; parts that are not known are 0.
    parts: [u64; Part::ALL.len()],
    /// Whether stages and system calls are told apart.
    pub(crate) divided: bool,
}

/// What cycles are spent for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Receive,
    Forward,
    Send,
    Complete,
    Refill,
    Other,
    Sendto,
    Recvfrom,
    /// All of the above, where they are not told apart.
    Busy,
    Idle,
    /// The sleep, too.
    Poll,
}

impl Part {
    pub(crate) const ALL: [Self; 11] = [
        Self::Receive,
        Self::Forward,
        Self::Send,
        Self::Complete,
        Self::Refill,
        Self::Other,
        Self::Sendto,
        Self::Recvfrom,
        Self::Busy,
        Self::Idle,
        Self::Poll,
    ];
    pub(crate) const USER: [Self; 6] =
        [Self::Receive, Self::Forward, Self::Send, Self::Complete, Self::Refill, Self::Other];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Forward => "forward",
            Self::Send => "send",
            Self::Complete => "complete",
            Self::Refill => "refill",
            Self::Other => "other user code",
            Self::Sendto => "system call sendto",
            Self::Recvfrom => "system call recvfrom",
            Self::Busy => "busy (not divided)",
            Self::Idle => "idle turns",
            Self::Poll => "system call poll (asleep)",
        }
    }

    /// Whether it is work, not waiting.
    pub(crate) const fn is_work(self) -> bool {
        !matches!(self, Self::Idle | Self::Poll)
    }
}

impl Cycles {
    pub(super) fn between(first: Option<&Worker>, last: &Worker) -> Self {
        let mut cycles = Self { divided: last.cost.is_some(), ..Self::default() };
        let (now, before) = match (last.cost, first.map(|first| first.cost)) {
            (Some(now), None) => (Self::read(&now), [0; Part::ALL.len()]),
            (Some(now), Some(Some(before))) => (Self::read(&now), Self::read(&before)),
            _ => {
                cycles.divided = false;
                (Self::undivided(Some(last)), Self::undivided(first))
            }
        };
        for ((part, now), before) in cycles.parts.iter_mut().zip(now).zip(before) {
            *part = now.saturating_sub(before);
        }
        cycles
    }

    fn read(cost: &Cost) -> [u64; Part::ALL.len()] {
        let calls = &cost.system_calls;
        let Cost { receive, forward, send, complete, refill, other, idle, .. } = *cost;
        [
            receive,
            forward,
            send,
            complete,
            refill,
            other,
            calls.sendto.cycles,
            calls.recvfrom.cycles,
            0,
            idle,
            calls.poll.cycles,
        ]
    }

    fn undivided(worker: Option<&Worker>) -> [u64; Part::ALL.len()] {
        let cycles = worker.map(|worker| worker.cycles).unwrap_or_default();
        Part::ALL.map(|part| match part {
            Part::Busy => cycles.busy,
            Part::Idle => cycles.idle,
            _ => 0,
        })
    }

    pub(crate) fn of(&self, part: Part) -> u64 {
        Part::ALL.iter().position(|other| *other == part).and_then(|at| self.parts.get(at)).copied().unwrap_or(0)
    }

    pub(crate) fn total(&self) -> u64 {
        self.parts.iter().fold(0, |sum, part| sum.saturating_add(*part))
    }

    pub(crate) fn work(&self) -> u64 {
        Part::ALL.into_iter().filter(|part| part.is_work()).fold(0, |sum: u64, part| sum.saturating_add(self.of(part)))
    }

    /// A part of all, as a share of 1.
    pub(crate) fn share(&self, cycles: u64) -> Option<f64> {
        share(cycles, self.total())
    }

    pub(super) fn add(&mut self, more: &Self) {
        for (part, more) in self.parts.iter_mut().zip(more.parts) {
            *part = part.saturating_add(more);
        }
        self.divided &= more.divided;
    }
}
