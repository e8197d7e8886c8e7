//! Where workers are listened to: the switch, a worker's end of it, and the reader's.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam::utils::CachePadded;

use super::ring::{Record, Ring};
use super::{Fate, Filter, MAX_SNAPSHOT_BYTES};
use crate::counters::Counter;
use crate::service::ServiceKey;
use crate::table::{ForwardingTable, Pinned, Published, Reader};
use crate::verdict::{DropReason, Route};

/// A queue that a worker polls, by the names that people know it by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueuePlace {
    /// Position of the interface in the configuration.
    pub interface: usize,
    /// Number of the interface's queue.
    pub queue: u32,
}

/// Turns captures on and off, for all workers.
#[derive(Debug)]
pub struct Switch {
    /// All that a worker looks at while no capture runs.
    on: CachePadded<AtomicBool>,
    /// Whether somebody holds a [`Capture`].
    taken: AtomicBool,
    session: Arc<Published<Option<Arc<Session>>>>,
    workers: Box<[Box<[QueuePlace]>]>,
}

impl Switch {
    /// A switch for workers with these queues each.
    pub fn new(workers: impl IntoIterator<Item = Vec<QueuePlace>>) -> Arc<Self> {
        Arc::new(Self {
            on: CachePadded::new(AtomicBool::new(false)),
            taken: AtomicBool::new(false),
            session: Published::new(None),
            workers: workers.into_iter().map(Vec::into_boxed_slice).collect(),
        })
    }

    /// A worker's end.
    pub fn tap(self: &Arc<Self>, worker: usize) -> Tap {
        Tap { sessions: self.session.reader(), switch: Arc::clone(self), worker }
    }

    /// Starts a capture of the first `snapshot_bytes` of each frame that fits, at most [`MAX_SNAPSHOT_BYTES`]; `None`
    /// while there is another one.
    pub fn start(self: &Arc<Self>, filter: Filter, snapshot_bytes: usize) -> Option<Capture> {
        if self.taken.swap(true, Ordering::AcqRel) {
            return None;
        }
        let snapshot_bytes = snapshot_bytes.min(MAX_SNAPSHOT_BYTES);
        let taps = self.workers.iter().map(|queues| WorkerTap::new(queues, snapshot_bytes)).collect();
        let session = Arc::new(Session { filter, taps });
        self.session.publish(Some(Arc::clone(&session)));
        self.on.store(true, Ordering::Relaxed);
        Some(Capture { switch: Arc::clone(self), session })
    }
}

/// One capture, as the workers see it.
#[derive(Debug)]
struct Session {
    filter: Filter,
    taps: Box<[WorkerTap]>,
}

#[derive(Debug)]
struct WorkerTap {
    ring: Ring,
    queues: Box<[QueueTap]>,
}

impl WorkerTap {
    fn new(queues: &[QueuePlace], snapshot_bytes: usize) -> Self {
        let tap = |place: &QueuePlace| QueueTap { place: *place, ..QueueTap::default() };
        Self { ring: Ring::new(snapshot_bytes), queues: queues.iter().map(tap).collect() }
    }
}

/// What a worker counts of one queue while a capture runs.
#[derive(Debug, Default)]
struct QueueTap {
    place: QueuePlace,
    seen: Counter,
    /// Frames from which every so many-th is taken.
    candidates: Counter,
    wanted: Counter,
    lost: Counter,
    /// Of the lost ones those that a record tells of.
    lost_told: Counter,
}

impl QueueTap {
    fn is_sampled(&self, one_of: u64) -> bool {
        let before = self.candidates.get();
        self.candidates.add(1);
        before.is_multiple_of(one_of.max(1))
    }

    fn lose(&self) {
        self.wanted.add(1);
        self.lost.add(1);
    }
}

/// What a capture counted on one interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames that workers decided on.
    pub seen: u64,
    /// Of these, the ones that the filter took.
    pub wanted: u64,
    /// Of these, the ones for which no record was free.
    pub lost: u64,
}

/// The reader's end of a capture. Dropping it ends the capture.
#[derive(Debug)]
pub struct Capture {
    switch: Arc<Switch>,
    session: Arc<Session>,
}

impl Capture {
    /// Moves what was captured to `records`, `most` of each worker at most.
    pub fn take(&self, records: &mut Vec<Box<Record>>, most: usize) {
        for tap in &self.session.taps {
            records.extend(std::iter::from_fn(|| tap.ring.take_full()).take(most));
        }
    }

    /// Gives a record back to the worker that filled it.
    pub fn give_back(&self, record: Box<Record>) {
        if let Some(tap) = self.session.taps.get(record.worker) {
            tap.ring.give_back(record);
        }
    }

    /// What was counted on the interface at this position.
    pub fn counts(&self, interface: usize) -> Counts {
        let queues = self.session.taps.iter().flat_map(|tap| &tap.queues);
        queues.filter(|queue| queue.place.interface == interface).fold(Counts::default(), |sum, queue| Counts {
            seen: sum.seen + queue.seen.get(),
            wanted: sum.wanted + queue.wanted.get(),
            lost: sum.lost + queue.lost.get(),
        })
    }

    /// Has the workers capture nothing more. What was captured can still be taken.
    pub fn stop(&self) {
        if self.switch.on.swap(false, Ordering::Relaxed) {
            self.switch.session.publish(None);
        }
    }

    /// Whether no worker can add to a stopped capture any more, so that all of it can be taken and counted.
    pub fn is_complete(&self) -> bool {
        self.switch.session.collect();
        Arc::strong_count(&self.session) == 1
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop();
        // Frees the records unless a worker still holds them; then the next capture does.
        self.switch.session.collect();
        self.switch.taken.store(false, Ordering::Release);
    }
}

/// A worker's end of the switch.
#[derive(Debug)]
pub struct Tap {
    switch: Arc<Switch>,
    sessions: Reader<Option<Arc<Session>>>,
    worker: usize,
}

impl Tap {
    /// The capture that runs, if one does. For each burst; while none runs this loads one flag.
    #[inline]
    pub fn running(&self) -> Option<Running<'_>> {
        // Relaxed: that a capture has begun may be seen late, and what it consists of is published properly.
        if !self.switch.on.load(Ordering::Relaxed) {
            return None;
        }
        self.hold()
    }

    // Like all below it is kept out of the worker's loop, which stays as it is without captures.
    #[cold]
    #[inline(never)]
    fn hold(&self) -> Option<Running<'_>> {
        Some(Running { session: self.sessions.pin(), worker: self.worker })
    }
}

/// A capture that a worker holds on to for the length of a burst.
#[derive(Debug)]
pub struct Running<'a> {
    session: Pinned<'a, Option<Arc<Session>>>,
    worker: usize,
}

impl Running<'_> {
    /// Begins a burst of `frames` frames from the worker's `queue`, decided on by `table` at `now_ns`.
    #[cold]
    #[inline(never)]
    pub fn burst<'a>(
        &'a self,
        queue: usize,
        frames: usize,
        table: &'a ForwardingTable,
        now_ns: u64,
    ) -> Option<Burst<'a>> {
        let session = self.session.as_ref()?;
        let tap = session.taps.get(self.worker)?;
        let queue = tap.queues.get(queue)?;
        queue.seen.add(frames as u64);
        Some(Burst { filter: &session.filter, worker: self.worker, ring: &tap.ring, queue, table, now_ns })
    }
}

/// A burst of frames while a capture runs.
#[derive(Clone, Copy, Debug)]
pub struct Burst<'a> {
    filter: &'a Filter,
    worker: usize,
    ring: &'a Ring,
    queue: &'a QueueTap,
    table: &'a ForwardingTable,
    now_ns: u64,
}

/// What a capture has of a frame that is about to be sent: only then is it known whether it was.
#[derive(Debug)]
pub enum Staged {
    /// Nothing: it does not fit, or is not the one of many.
    Unwanted,
    /// Its bytes.
    Held(Box<Record>),
    /// Nothing, because no record was free.
    Lost,
}

impl Burst<'_> {
    /// Captures a frame that is dropped, if it fits.
    #[cold]
    #[inline(never)]
    pub fn dropped(
        &self,
        reason: DropReason,
        (service, real_server): (Option<u32>, Option<u32>),
        received_ns: Option<u64>,
        bytes: &[u8],
    ) {
        let fate = Fate::Drop(reason);
        if !self.filter.wants(fate) || !self.takes(service, real_server) {
            return;
        }
        match self.fill(service, real_server, received_ns, bytes) {
            Some(record) => self.hand_over(record, fate),
            None => self.queue.lose(),
        }
    }

    /// Copies a frame that is about to be sent, while its bytes are still the worker's.
    pub fn staged(&self, route: Route, egress: Option<u8>, received_ns: Option<u64>, bytes: &[u8]) -> Staged {
        let (service, real_server) = (Some(route.service), Some(route.real_server));
        if !self.filter.wants(Fate::Tx) || !self.takes(service, real_server) {
            return Staged::Unwanted;
        }
        match self.fill(service, real_server, received_ns, bytes) {
            Some(mut record) => {
                record.egress = egress;
                Staged::Held(record)
            }
            None => Staged::Lost,
        }
    }

    /// Captures staged frames that were sent.
    #[cold]
    #[inline(never)]
    pub fn sent(&self, staged: impl Iterator<Item = Staged>) {
        for staged in staged {
            match staged {
                Staged::Unwanted => {}
                Staged::Held(record) => self.hand_over(record, Fate::Tx),
                Staged::Lost => self.queue.lose(),
            }
        }
    }

    /// Captures a staged frame that could not be sent, if it fits all the same.
    #[cold]
    #[inline(never)]
    pub fn not_sent(&self, staged: Staged, reason: DropReason, route: Route, received_ns: Option<u64>, bytes: &[u8]) {
        let fate = Fate::Drop(reason);
        let wanted = self.filter.wants(fate);
        match staged {
            Staged::Held(record) if wanted => self.hand_over(record, fate),
            Staged::Held(record) => self.ring.give_back(record),
            Staged::Lost if wanted => self.queue.lose(),
            // Drops alone are wanted: it has not been looked at yet.
            Staged::Unwanted if !self.filter.wants(Fate::Tx) => {
                self.dropped(reason, (Some(route.service), Some(route.real_server)), received_ns, bytes);
            }
            Staged::Unwanted | Staged::Lost => {}
        }
    }

    fn takes(&self, service: Option<u32>, real_server: Option<u32>) -> bool {
        self.filter.wants_route(self.table, service, real_server) && self.queue.is_sampled(self.filter.sample)
    }

    fn fill(
        &self,
        service: Option<u32>,
        real_server: Option<u32>,
        received_ns: Option<u64>,
        bytes: &[u8],
    ) -> Option<Box<Record>> {
        let mut record = self.ring.take_free()?;
        record.take_bytes(bytes);
        record.time_ns = received_ns.unwrap_or(self.now_ns);
        record.stamped = received_ns.is_some();
        record.worker = self.worker;
        record.place = self.queue.place;
        record.egress = None;
        record.service = self.service(service);
        record.real_server = self.real_server(real_server);
        Some(record)
    }

    fn hand_over(&self, mut record: Box<Record>, fate: Fate) {
        let queue = self.queue;
        record.fate = fate;
        record.lost_before = queue.lost.get() - queue.lost_told.get();
        queue.lost_told.set(queue.lost.get());
        queue.wanted.add(1);
        self.ring.hand_over(record);
    }

    fn service(&self, position: Option<u32>) -> Option<ServiceKey> {
        Some(self.table.services().get(position? as usize)?.key)
    }

    fn real_server(&self, position: Option<u32>) -> Option<IpAddr> {
        Some(self.table.real_servers().get(position? as usize)?.address)
    }
}
