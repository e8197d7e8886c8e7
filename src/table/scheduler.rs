//! Schedulers: which real server a new flow is given. The names are those of IPVS.
//!
//! `mh` and `sh` are functions of the flow alone, a slot of a table each ([`Maglev`](super::Maglev)). The others depend
//! on what came before: `rr` and `wrr` on whose turn it is, `lc` and `wlc` on the connections that are there. A [`Rota`]
//! is what they choose from, a [`Cursor`] what a worker remembers of its turns: each worker has its own, without locks.
//!
//! Everything is as in Linux's ip_vs_rr.c, ip_vs_wrr.c, ip_vs_lc.c and ip_vs_wlc.c with one worker. IPVS puts a real
//! server that is added at the head of its list (`__ip_vs_update_dest`), so the last of the configuration comes first.
//! Each of several workers begins at another place: worker `i` of `n` after `i / n` of the list. Each is exact by itself,
//! so over all of them a real server is at most `n` times its own weight, in units of the weights' greatest common
//! divisor (with `rr`: `n`), from its share.

use serde::Serialize;

use super::limit::ConnectionLimit;
use crate::counters::Counter;
use crate::counters::connections::{ConnectionCounts, Connections};
use crate::service::Protocol;

/// How a new flow is given a real server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheduler {
    /// Maglev hashing.
    #[default]
    Mh,
    /// Source hashing: blocks of slots by weight.
    Sh,
    /// Round robin.
    Rr,
    /// Weighted round robin.
    Wrr,
    /// Least connections.
    Lc,
    /// Weighted least connections.
    Wlc,
}

impl Scheduler {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Mh, Self::Sh, Self::Rr, Self::Wrr, Self::Lc, Self::Wlc];

    /// The name that LVS gives it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Mh => "mh",
            Self::Sh => "sh",
            Self::Rr => "rr",
            Self::Wrr => "wrr",
            Self::Lc => "lc",
            Self::Wlc => "wlc",
        }
    }

    /// Whether the flow alone says which real server it is given.
    #[inline]
    #[must_use]
    pub fn is_hash(self) -> bool {
        matches!(self, Self::Mh | Self::Sh)
    }
}

/// A real server that takes new flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Position in its service's list, as configured.
    pub index: u32,
    /// Its lasting number.
    pub id: u32,
    /// Its weight; not 0.
    pub weight: u32,
    /// How many connections it is given, if that is limited.
    pub limit: Option<ConnectionLimit>,
}

/// The real servers of a service that take new flows, in the order of IPVS's list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rota {
    turns: Box<[Turn]>,
    /// Grows whenever the turns change; not 0.
    version: u64,
    /// Greatest common divisor of the weights.
    step: u32,
    /// Whether any of them has a limit.
    is_limited: bool,
    /// What IPVS calls the maximum weight: the heaviest, less the step, plus 1.
    highest: u32,
}

/// Where one worker is in a rota. The worker alone writes it.
#[derive(Debug, Default)]
pub struct Cursor {
    /// `rr`: index (upper half, plus 1) and lasting number of the last one chosen. `wrr`: turns passed in this round. 0 at the start.
    last: Counter,
    /// `wrr`: the weight that it takes to be chosen in this round.
    weight: Counter,
    /// The version of the rota that these are about.
    version: Counter,
    /// The period, plus 1, in which the other workers' connections were read.
    read_in: Counter,
}

/// What a choice by connections knows of them.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    /// The counts.
    pub connections: &'a Connections,
    /// UDP has no established connections for IPVS.
    pub protocol: Protocol,
    /// A coarse time: the other workers' counts are read once in each period.
    pub period: u64,
}

impl Rota {
    /// A rota of real servers, whose order is that of `turns`; `version` is that of a rota that is not the same.
    pub fn new(mut turns: Vec<Turn>, previous: Option<&Self>, version: u64) -> Self {
        turns.sort_unstable_by_key(|turn| std::cmp::Reverse(turn.index));
        if let Some(same) = previous.filter(|previous| *previous.turns == *turns) {
            return same.clone();
        }
        let step = turns.iter().fold(0, |step, turn| gcd(turn.weight, step)).max(1);
        let heaviest = turns.iter().map(|turn| turn.weight).max().unwrap_or(0);
        let is_limited = turns.iter().any(|turn| turn.limit.is_some());
        Self { step, highest: heaviest.saturating_sub(step - 1), is_limited, version, turns: turns.into() }
    }

    /// Whether nobody takes new flows.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Whether any of those who take new flows is given so many connections only.
    #[inline]
    pub fn is_limited(&self) -> bool {
        self.is_limited
    }

    /// Who takes new flows, in IPVS's order.
    pub fn turns(&self) -> &[Turn] {
        &self.turns
    }

    /// Who gets the next new flow of a worker; `None` if nobody takes any or all have as many connections as they are
    /// given, and for schedulers that hash.
    ///
    /// `index_of` tells where the real server of a lasting number stands now.
    #[inline]
    pub fn next(
        &self,
        scheduler: Scheduler,
        worker: usize,
        cursor: &Cursor,
        load: Load<'_>,
        index_of: impl Fn(u32) -> Option<u32>,
    ) -> Option<Turn> {
        let start = self.start(worker, load.connections.workers());
        let has_room = |turn: &Turn| !load.is_full(worker, turn.limit, turn.id);
        match scheduler {
            Scheduler::Mh | Scheduler::Sh => None,
            Scheduler::Rr => {
                self.look_at_others(worker, cursor, load, self.is_limited);
                self.round_robin(cursor, start, index_of, has_room)
            }
            Scheduler::Wrr => {
                self.look_at_others(worker, cursor, load, self.is_limited);
                self.weighted_round_robin(cursor, start, has_room)
            }
            Scheduler::Lc | Scheduler::Wlc => {
                self.look_at_others(worker, cursor, load, true);
                self.least(scheduler, worker, load)
            }
        }
    }

    /// Reads the other workers' connections, once in each period, if they are `wanted`.
    #[inline]
    pub fn look_at_others(&self, worker: usize, cursor: &Cursor, load: Load<'_>, wanted: bool) {
        let this = load.period.wrapping_add(1);
        if wanted && load.connections.workers() > 1 && cursor.read_in.get() != this {
            cursor.read_in.set(this);
            self.turns.iter().for_each(|turn| load.read_others(worker, turn.id));
        }
    }

    /// Where a worker begins.
    fn start(&self, worker: usize, workers: usize) -> usize {
        self.turns.len() * worker / workers.max(1)
    }

    fn round_robin(
        &self,
        cursor: &Cursor,
        start: usize,
        index_of: impl Fn(u32) -> Option<u32>,
        has_room: impl Fn(&Turn) -> bool,
    ) -> Option<Turn> {
        let next = match halves(cursor.last.get()) {
            (0, _) => start,
            (last, id) => {
                let last = index_of(id).unwrap_or(last - 1);
                self.turns.partition_point(|turn| turn.index >= last)
            }
        };
        let (before, from) = self.turns.split_at_checked(next)?;
        let turn = *from.iter().chain(before).find(|turn| has_room(turn))?;
        cursor.last.set(u64::from(turn.index.saturating_add(1)) << 32 | u64::from(turn.id));
        Some(turn)
    }

    /// The rounds of ip_vs_wrr.c: in each, all with at least a certain weight have their turn, and that weight falls from
    /// round to round.
    fn weighted_round_robin(&self, cursor: &Cursor, start: usize, has_room: impl Fn(&Turn) -> bool) -> Option<Turn> {
        let (mut passed, mut weight) = (cursor.last.get(), halves(cursor.weight.get()).1);
        if cursor.version.get() != self.version {
            cursor.version.set(self.version);
            passed = start as u64;
            weight = match weight {
                // The list begins with one real server, whose lowest weight is 1, whatever comes after it.
                0 => 1,
                weight if weight > self.highest => self.highest,
                weight if self.step > 1 => weight / self.step * self.step + 1,
                weight => weight,
            };
        }
        // Rounds in which nobody with room has a turn are passed over at once.
        let heaviest = if self.is_limited {
            self.turns.iter().filter(|turn| has_room(turn)).map(|turn| turn.weight).max()?
        } else {
            u32::MAX
        };
        let first_with_turns = heaviest.saturating_sub(self.step - 1);
        // At most one round is left, and in any whole one the heaviest has a turn.
        for _ in 0..3 {
            let from = usize::try_from(passed).unwrap_or(usize::MAX).min(self.turns.len());
            let found =
                self.turns.get(from..).unwrap_or(&[]).iter().position(|turn| turn.weight >= weight && has_room(turn));
            if let Some(ahead) = found {
                let at = from + ahead;
                cursor.last.set(at as u64 + 1);
                cursor.weight.set(u64::from(weight));
                return self.turns.get(at).copied();
            }
            passed = 0;
            weight = if weight > self.step { weight - self.step } else { self.highest }.min(first_with_turns);
        }
        None
    }

    fn least(&self, scheduler: Scheduler, worker: usize, load: Load<'_>) -> Option<Turn> {
        let mut least: Option<(u64, &Turn)> = None;
        for turn in self.turns.iter().filter(|turn| !load.is_full(worker, turn.limit, turn.id)) {
            let overhead = load.overhead(worker, turn.id);
            let is_less = least.is_none_or(|(least, of)| match scheduler {
                Scheduler::Lc => overhead < least,
                _ => u128::from(least) * u128::from(turn.weight) > u128::from(overhead) * u128::from(of.weight),
            });
            if is_less {
                least = Some((overhead, turn));
            }
        }
        least.map(|(_, turn)| *turn)
    }
}

impl Load<'_> {
    /// What a real server's connections weigh: its worker's own as they are now, the others' as they were last read.
    #[inline]
    fn overhead(&self, worker: usize, id: u32) -> u64 {
        self.connections.of(worker, id).map_or(0, |cell| self.weigh(cell.counts()) + cell.elsewhere.get())
    }

    /// An established connection weighs as much as 256 others.
    #[inline]
    fn weigh(&self, counts: ConnectionCounts) -> u64 {
        match self.protocol {
            Protocol::Tcp => (counts.active << 8) + counts.inactive,
            Protocol::Udp => counts.active + counts.inactive,
        }
    }

    /// Whether a real server has as many connections as it is given.
    #[inline]
    pub fn is_full(&self, worker: usize, limit: Option<ConnectionLimit>, id: u32) -> bool {
        limit.is_some_and(|limit| self.has_reached(limit, worker, id))
    }

    fn has_reached(&self, limit: ConnectionLimit, worker: usize, id: u32) -> bool {
        self.connections.of(worker, id).is_some_and(|cell| {
            let connections = cell.counts().limited() + cell.count_elsewhere.get();
            let is_full = limit.is_full(connections, cell.is_full(limit.upper));
            cell.full_at.set(if is_full { u64::from(limit.upper) } else { 0 });
            is_full
        })
    }

    fn read_others(&self, worker: usize, id: u32) {
        if let Some(own) = self.connections.of(worker, id) {
            let (mut weight, mut count) = (0, 0);
            for (_, cell) in self.connections.all(id).enumerate().filter(|(other, _)| *other != worker) {
                weight += self.weigh(cell.counts());
                count += cell.counts().limited();
            }
            own.elsewhere.set(weight);
            own.count_elsewhere.set(count);
        }
    }
}

#[inline]
fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "taking the halves is what it is for")]
fn halves(value: u64) -> (u32, u32) {
    ((value >> 32) as u32, value as u32)
}
