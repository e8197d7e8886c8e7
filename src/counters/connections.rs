//! Connections of each real server, as `ipvsadm -L` shows them, counted by the workers while they write their flow
//! tables.
//!
//! A cell belongs to one worker and one real server. Real servers are known by their lasting numbers, so a count goes on
//! over any number of forwarding tables, also while its real server is removed. Cells come in chunks that the tables
//! share: one that a table adds costs those before nothing.

use std::sync::Arc;

use super::Counter;

/// Real servers of a chunk.
const CHUNK: usize = 256;

/// What an entry of a flow table counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionKind {
    /// An established flow.
    Active,
    /// A flow of which one packet was seen, or that its client has ended.
    Inactive,
    /// A client that is kept at its real server.
    Persistent,
}

/// Connections of one real server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionCounts {
    /// Established flows.
    pub active: u64,
    /// Flows of which one packet was seen, or that their clients have ended.
    pub inactive: u64,
    /// Clients that are kept at it.
    pub persistent: u64,
    /// Flows that began; this only grows.
    pub begun: u64,
}

/// One worker's connections of one real server: gauges, and a counter, that the worker alone writes.
#[derive(Debug, Default)]
pub struct ConnectionCell {
    active: Counter,
    inactive: Counter,
    persistent: Counter,
    begun: Counter,
    /// What the other workers' connections weigh, as this worker read it last.
    pub elsewhere: Counter,
    /// How many connections the other workers have, active and inactive, as this worker read it last.
    pub count_elsewhere: Counter,
    /// The upper limit that the connections have reached, as this worker saw it last; 0 while they have not.
    pub full_at: Counter,
}

impl ConnectionCounts {
    /// Connections that count for a limit.
    #[inline]
    #[must_use]
    pub fn limited(self) -> u64 {
        self.active + self.inactive
    }
}

impl ConnectionCell {
    /// Counts an entry that was stored. Only the owning thread may call this.
    #[inline]
    pub fn add(&self, kind: ConnectionKind) {
        self.gauge(kind).add(1);
    }

    /// Counts an entry that is new, not only another than it was. Only the owning thread may call this.
    #[inline]
    pub fn begin(&self, kind: ConnectionKind) {
        self.add(kind);
        if kind != ConnectionKind::Persistent {
            self.begun.add(1);
        }
    }

    /// Counts an entry that is gone. Only the owning thread may call this.
    #[inline]
    pub fn remove(&self, kind: ConnectionKind) {
        let gauge = self.gauge(kind);
        gauge.set(gauge.get().saturating_sub(1));
    }

    /// What is there as of some recent moment.
    #[inline]
    pub fn counts(&self) -> ConnectionCounts {
        ConnectionCounts {
            active: self.active.get(),
            inactive: self.inactive.get(),
            persistent: self.persistent.get(),
            begun: self.begun.get(),
        }
    }

    /// Whether this worker saw the connections reach the limit `upper`, or a higher one, and not fall again.
    #[inline]
    pub fn is_full(&self, upper: u32) -> bool {
        self.full_at.get() >= u64::from(upper.max(1))
    }

    #[inline]
    fn gauge(&self, kind: ConnectionKind) -> &Counter {
        match kind {
            ConnectionKind::Active => &self.active,
            ConnectionKind::Inactive => &self.inactive,
            ConnectionKind::Persistent => &self.persistent,
        }
    }
}

/// The cells of [`CHUNK`] real servers, a list for each worker.
type Chunk = Arc<[Box<[ConnectionCell]>]>;

/// The cells of all workers and real servers. A copy shares them.
#[derive(Clone, Debug, Default)]
pub struct Connections {
    /// By lasting number.
    chunks: Box<[Chunk]>,
    workers: usize,
}

impl Connections {
    /// These cells, and such for real servers up to the number `highest`.
    #[must_use]
    pub fn grown(&self, highest: u32, workers: usize) -> Self {
        let workers = workers.max(1);
        // Another number of workers means other workers: nothing of theirs is counted yet.
        let kept: &[Chunk] = if self.workers == workers { &self.chunks } else { &[] };
        let cells = |_| (0..CHUNK).map(|_| ConnectionCell::default()).collect();
        let new = || (0..workers).map(cells).collect();
        let wanted = (highest as usize / CHUNK + 1).max(kept.len());
        Self { chunks: kept.iter().cloned().chain((kept.len()..wanted).map(|_| new())).collect(), workers }
    }

    /// The cell of a worker for the real server of a lasting number.
    #[inline]
    pub fn of(&self, worker: usize, real_server: u32) -> Option<&ConnectionCell> {
        let at = real_server as usize;
        self.chunks.get(at / CHUNK)?.get(worker)?.get(at % CHUNK)
    }

    /// The cells of all workers for the real server of a lasting number.
    pub fn all(&self, real_server: u32) -> impl Iterator<Item = &ConnectionCell> {
        let at = real_server as usize;
        let workers = self.chunks.get(at / CHUNK).map_or(&[][..], |chunk| chunk);
        workers.iter().filter_map(move |cells| cells.get(at % CHUNK))
    }

    /// Connections of the real server of a lasting number, over all workers.
    pub fn sum(&self, real_server: u32) -> ConnectionCounts {
        self.all(real_server).map(ConnectionCell::counts).fold(ConnectionCounts::default(), |sum, of| {
            ConnectionCounts {
                active: sum.active + of.active,
                inactive: sum.inactive + of.inactive,
                persistent: sum.persistent + of.persistent,
                begun: sum.begun.wrapping_add(of.begun),
            }
        })
    }

    /// Number of workers.
    pub fn workers(&self) -> usize {
        self.workers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_go_on_over_growth() {
        let few = Connections::default().grown(3, 2);
        few.of(1, 3).unwrap().add(ConnectionKind::Active);
        let more = few.grown(1000, 2);
        few.of(0, 3).unwrap().add(ConnectionKind::Inactive);
        more.of(0, 1000).unwrap().add(ConnectionKind::Persistent);
        assert_eq!(more.sum(3), ConnectionCounts { active: 1, inactive: 1, persistent: 0, begun: 0 });
        more.of(1, 3).unwrap().begin(ConnectionKind::Active);
        more.of(1, 3).unwrap().remove(ConnectionKind::Active);
        assert_eq!((few.sum(3).active, few.sum(3).begun), (1, 1));
        assert_eq!(more.sum(1000).persistent, 1);
        assert!(few.of(0, 1000).is_none() && more.of(2, 3).is_none());
        assert_eq!(more.grown(0, 2).sum(1000).persistent, 1, "nobody is forgotten");
        more.of(0, 3).unwrap().remove(ConnectionKind::Inactive);
        assert_eq!(few.sum(3).inactive, 0);
    }
}
