//! Where the time of one worker's loop goes: the time-stamp counter is read where one stage ends and the next begins, and
//! never for a single packet.

use crate::clock;
use crate::counters::cost::{BatchCounters, Stage, SystemCall, SystemCalls};
use crate::counters::{WorkerCounters, batch_bucket};

/// A moment, and the cycles that had gone into system calls by then.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    cycles: u64,
    in_system_calls: u64,
}

/// Splits the time of a loop among its stages. Turns follow each other without a gap.
#[derive(Debug)]
pub(super) struct Meter {
    /// Where the newest stage ended.
    last: Mark,
    /// Where the turn began.
    turn: Mark,
    /// Where the part of the turn began that belongs to the queue at hand.
    part: Mark,
    /// User cycles of this turn.
    stages: [u64; Stage::COUNT],
    /// System calls before this turn.
    before: SystemCalls,
    /// The newest burst of this turn.
    burst: Option<OpenBurst>,
}

/// A burst whose time still runs.
#[derive(Clone, Copy, Debug)]
struct OpenBurst {
    bucket: usize,
    from: Mark,
}

impl Meter {
    /// The first turn begins now, after these system calls.
    pub(super) fn new(made: SystemCalls) -> Self {
        let now = Mark { cycles: clock::cycles(), in_system_calls: made.all_cycles() };
        Self { last: now, turn: now, part: now, stages: [0; Stage::COUNT], before: made, burst: None }
    }

    /// Another queue's part of the turn begins where the last stage ended.
    #[inline]
    pub(super) fn begin_part(&mut self) {
        self.part = self.last;
    }

    /// What was done since the last mark was `stage`; `made` are all system calls until now.
    #[inline]
    pub(super) fn mark(&mut self, stage: Stage, made: SystemCalls) {
        let now = Mark { cycles: clock::cycles(), in_system_calls: made.all_cycles() };
        self.stages[stage.index()] += spent(self.last, now).user;
        self.last = now;
    }

    /// This queue's part of the turn has received a burst of `frames`, which must not be 0.
    ///
    /// The first burst of a turn has the time from its beginning; each further one that from the beginning of its queue's
    /// part. What follows the last one goes to that: so the bursts have all of the turn.
    #[inline]
    pub(super) fn burst(&mut self, counters: &WorkerCounters, frames: usize) {
        let from = match self.burst {
            None => self.turn,
            Some(open) => {
                open.close(counters, self.part);
                self.part
            }
        };
        let bucket = batch_bucket(frames);
        self.burst = Some(OpenBurst { bucket, from });
        if let Some(batch) = counters.batches.get(bucket) {
            batch.bursts.add(1);
            batch.packets.add(frames as u64);
        }
    }

    /// The turn ends, and the next one begins.
    #[inline]
    pub(super) fn end_turn(&mut self, counters: &WorkerCounters, busy: bool, made: SystemCalls) {
        self.mark(Stage::Other, made);
        if let Some(open) = self.burst.take() {
            open.close(counters, self.last);
        }
        if busy {
            counters.busy_turns.add(1);
            for (counter, cycles) in counters.cost.stages.iter().zip(self.stages) {
                counter.add(cycles);
            }
        } else {
            counters.idle_turns.add(1);
            counters.cost.idle.add(self.stages.iter().sum());
        }
        if made != self.before {
            self.count_system_calls(counters, busy, made);
        }
        self.stages = [0; Stage::COUNT];
        self.turn = self.last;
    }

    fn count_system_calls(&mut self, counters: &WorkerCounters, busy: bool, made: SystemCalls) {
        for kind in [SystemCall::Sendto, SystemCall::Recvfrom, SystemCall::Poll] {
            let at = kind.index();
            let counter = &counters.cost.system_calls[at];
            counter.calls.add(made.calls[at] - self.before.calls[at]);
            let cycles = if busy { &counter.busy_cycles } else { &counter.idle_cycles };
            cycles.add(made.cycles[at] - self.before.cycles[at]);
        }
        self.before = made;
    }
}

impl OpenBurst {
    #[inline]
    fn close(self, counters: &WorkerCounters, at: Mark) {
        let Some(batch) = counters.batches.get(self.bucket) else { return };
        let BatchCounters { cycles, system_call_cycles, costs, .. } = batch;
        let Spent { user, system } = spent(self.from, at);
        cycles.add(user + system);
        system_call_cycles.add(system);
        costs.record(user + system);
    }
}

/// What lies between two marks.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    user: u64,
    system: u64,
}

#[inline]
fn spent(from: Mark, to: Mark) -> Spent {
    let system = to.in_system_calls - from.in_system_calls;
    Spent { user: to.cycles.saturating_sub(from.cycles).saturating_sub(system), system }
}
