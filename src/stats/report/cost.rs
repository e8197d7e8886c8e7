//! Where workers' time goes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::counters::cost::{CostCounters, Stage, SystemCall, SystemCallCounters};

use super::BusyIdle;

/// Cycles of a worker by what it did: all of them, each once. Their sum is `cycles.busy` + `cycles.idle`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cost {
    /// User cycles in busy turns: taking frames from RX rings.
    pub receive: u64,
    /// User cycles in busy turns: reading headers, looking up, deciding, rewriting.
    pub forward: u64,
    /// User cycles in busy turns: submitting to TX rings, counting what was sent, holding against full rings.
    pub send: u64,
    /// User cycles in busy turns: taking sent frames back.
    pub complete: u64,
    /// User cycles in busy turns: handing free frames to fill rings.
    pub refill: u64,
    /// User cycles in busy turns: the rest.
    pub other: u64,
    /// User cycles in idle turns.
    pub idle: u64,
    /// What system calls took, in busy and in idle turns.
    pub system_calls: SystemCallCosts,
}

/// System calls of a worker by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SystemCallCosts {
    /// Those that had the kernel send.
    pub sendto: SystemCallCost,
    /// Those that had the kernel receive, or look at the fill ring.
    pub recvfrom: SystemCallCost,
    /// Those that slept; the sleep counts.
    pub poll: SystemCallCost,
}

/// System calls of one name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SystemCallCost {
    /// How many.
    pub calls: u64,
    /// Cycles from before the call until after it.
    pub cycles: u64,
}

impl Cost {
    /// What a worker has spent, and how that splits into busy and idle turns: both from one reading of each counter, so
    /// that the sums agree whatever the worker does meanwhile.
    #[must_use]
    pub fn read(counters: &CostCounters) -> (Self, BusyIdle) {
        let stage = |stage: Stage| counters.stages[stage.index()].get();
        let mut cycles = BusyIdle::default();
        let mut call = |call: SystemCall| {
            let SystemCallCounters { calls, busy_cycles, idle_cycles } = &counters.system_calls[call.index()];
            let (busy, idle) = (busy_cycles.get(), idle_cycles.get());
            cycles.busy = cycles.busy.wrapping_add(busy);
            cycles.idle = cycles.idle.wrapping_add(idle);
            SystemCallCost { calls: calls.get(), cycles: busy.wrapping_add(idle) }
        };
        let system_calls = SystemCallCosts {
            sendto: call(SystemCall::Sendto),
            recvfrom: call(SystemCall::Recvfrom),
            poll: call(SystemCall::Poll),
        };
        let cost = Self {
            receive: stage(Stage::Receive),
            forward: stage(Stage::Forward),
            send: stage(Stage::Send),
            complete: stage(Stage::Complete),
            refill: stage(Stage::Refill),
            other: stage(Stage::Other),
            idle: counters.idle.get(),
            system_calls,
        };
        cycles.busy = cycles.busy.wrapping_add(cost.busy_user());
        cycles.idle = cycles.idle.wrapping_add(cost.idle);
        (cost, cycles)
    }

    /// All cycles.
    #[must_use]
    pub fn sum(&self) -> u64 {
        let SystemCallCosts { sendto, recvfrom, poll } = self.system_calls;
        [self.idle, sendto.cycles, recvfrom.cycles, poll.cycles].into_iter().fold(self.busy_user(), u64::wrapping_add)
    }

    fn busy_user(&self) -> u64 {
        let Self { receive, forward, send, complete, refill, other, .. } = *self;
        [receive, forward, send, complete, refill, other].into_iter().fold(0, u64::wrapping_add)
    }
}
