//! A run: what one director did between two documents.

use std::path::PathBuf;

use super::burst_cycles::BurstCycles;
use super::document::{Cpu, Document, Times, Worker};
use super::read::{InputError, Series, series};
use crate::stats::recorded::ReadError;
use crate::stats::report::LatencyBucket;

/// Fewer frames tell nothing.
const LEAST_FRAMES: u64 = 1000;

/// What one director did from its first document to its last; with one document, since its start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Run {
    /// Name of the host.
    pub hostname: String,
    /// Version of the program.
    pub version: String,
    /// How long it was.
    pub span_ns: u64,
    /// Cycles of its counter in a second.
    pub cycle_hz: f64,
    /// Its workers.
    pub workers: Vec<WorkerRun>,
    /// Frames that the workers received.
    pub frames: u64,
    /// Bytes of these, from the destination MAC to the end of the frame.
    pub bytes: u64,
    /// Whether all queues share frames with the driver (zero copy); false where the kernel copies for one of them.
    pub zero_copy: bool,
    /// What the kernel did besides.
    pub kernel: Kernel,
    /// Entries of flow tables at the end.
    pub flows: u64,
    /// Entries that the smallest flow table has room for; two for each flow that it is meant for.
    pub flow_slots_per_worker: Option<u64>,
    /// How long frames waited for a worker, where that is known.
    pub stalls: Option<Stalls>,
    /// Frames that rings had no room for.
    pub lost: u64,
    /// What its reader should know, a sentence each.
    pub notes: Vec<String>,
}

/// What one worker did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorkerRun {
    /// Its number.
    pub worker: u64,
    /// Frames received.
    pub frames: u64,
    /// Cycles of turns that found something.
    pub busy_cycles: u64,
    /// Cycles of those that found nothing.
    pub idle_cycles: u64,
    /// How long it waited while another thread had its core; `None` if that is not known.
    pub waited_ns: Option<u64>,
    /// Its bursts by size.
    pub bursts: Vec<BurstClass>,
}

/// Bursts of about one size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BurstClass {
    /// How many bursts.
    pub bursts: u64,
    /// Frames in them.
    pub frames: u64,
    /// Cycles of the turns that handled them.
    pub cycles: u64,
    /// Those of `cycles` in system calls.
    pub system_call_cycles: u64,
    /// `cycles` of each burst; empty in documents of programs that did not measure it.
    pub each: BurstCycles,
}

impl BurstClass {
    /// Adds another worker's bursts of this size.
    pub(super) fn merge(&mut self, other: &Self) {
        self.bursts = self.bursts.saturating_add(other.bursts);
        self.frames = self.frames.saturating_add(other.frames);
        self.cycles = self.cycles.saturating_add(other.cycles);
        self.system_call_cycles = self.system_call_cycles.saturating_add(other.system_call_cycles);
        self.each.merge(&other.each);
    }

    /// What a burst usually took: the median, or the mean where single bursts are not known. `None` without a burst.
    pub fn usual_cycles(&self) -> Option<f64> {
        let mean = || (self.bursts > 0).then(|| self.cycles as f64 / self.bursts as f64);
        self.each.median().or_else(mean)
    }
}

/// NAPI polls of the director's interfaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kernel {
    /// On the workers' CPUs; `None` if polls were not measured.
    pub beside_workers_ns: Option<u64>,
    /// On other CPUs.
    pub elsewhere_ns: Option<u64>,
    /// Polls that could not be timed (threaded NAPI, busy polling).
    pub untimed_polls: u64,
}

/// How long frames waited from the XDP hook until a worker read them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stalls {
    /// One frame of 10,000 waited so long.
    pub p99_99_ns: u64,
    /// The longest, to the end of its bucket.
    pub longest_ns: u64,
}

impl WorkerRun {
    /// The part of its time in which it found something.
    pub fn load(&self) -> f64 {
        let all = self.busy_cycles.saturating_add(self.idle_cycles);
        if all == 0 { 0.0 } else { self.busy_cycles as f64 / all as f64 }
    }

    /// Cycles of busy turns that received nothing: they took sent frames back.
    pub(super) fn cycles_without_burst(&self) -> u64 {
        self.busy_cycles.saturating_sub(self.bursts.iter().map(|class| class.cycles).sum())
    }
}

impl Run {
    /// Frames in a second.
    pub fn rate_pps(&self) -> f64 {
        if self.span_ns == 0 { 0.0 } else { self.frames as f64 * 1e9 / self.span_ns as f64 }
    }

    /// Mean bytes of a frame.
    pub fn frame_bytes(&self) -> f64 {
        if self.frames == 0 { 0.0 } else { self.bytes as f64 / self.frames as f64 }
    }

    /// The part of their time in which the workers that had frames found something.
    pub fn load(&self) -> f64 {
        let working = || self.workers.iter().filter(|worker| worker.frames > 0);
        let count = working().count();
        if count == 0 { 0.0 } else { working().map(WorkerRun::load).sum::<f64>() / count as f64 }
    }

    /// Frames of the worker with the most over the mean of all; 1 is even.
    pub fn imbalance(&self) -> f64 {
        let most = self.workers.iter().map(|worker| worker.frames).max().unwrap_or(0);
        let all: u64 = self.workers.iter().map(|worker| worker.frames).sum();
        if all == 0 { 1.0 } else { most as f64 * self.workers.len() as f64 / all as f64 }
    }
}

/// Reads the run that these files are of, `-` for standard input: one document, the first and the last, or a series of
/// JSON lines. Where a series has several starts of the director, the last one counts.
///
/// # Errors
/// [`InputError`].
pub fn read_run(files: &[PathBuf]) -> Result<Run, InputError> {
    let mut found: Vec<(String, Document)> = Vec::new();
    let mut notes = Vec::new();
    for path in files {
        let file = path.display().to_string();
        let Series { first, last, several_starts, cut } = series(path)?;
        if cut {
            notes.push(format!("{file} ends in the middle of a document, which is left out"));
        }
        if several_starts {
            notes.push(format!("{file} has several starts of the director, and the last one counts"));
        }
        found.extend([(file.clone(), first), (file, last)]);
    }
    found.sort_by_key(|(_, document)| document.at_ns());
    let (Some((first_file, first)), Some((file, last))) = (found.first(), found.last()) else {
        return Err(ReadError::Empty(names(files)).into());
    };
    if let Some((other, _)) = found.iter().find(|(_, document)| !document.is_of_the_run_of(last)) {
        return Err(InputError::DifferentRuns(other.clone(), if other == file { first_file } else { file }.clone()));
    }
    let before = (first.at_ns() < last.at_ns()).then_some(first);
    let run = Run { notes, ..between(before, last) };
    if run.frames < LEAST_FRAMES {
        return Err(InputError::NoTraffic { file: names(files), frames: run.frames, least: LEAST_FRAMES });
    }
    if run.workers.iter().all(|worker| worker.bursts.iter().all(|class| class.cycles == 0)) {
        return Err(InputError::WithoutCosts(file.clone()));
    }
    Ok(run)
}

fn names(files: &[PathBuf]) -> String {
    files.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn between(first: Option<&Document>, last: &Document) -> Run {
    let from_ns = first.map_or(last.started_at.monotonic_ns, Document::at_ns);
    let span_ns = last.at_ns().saturating_sub(from_ns);
    let workers: Vec<WorkerRun> = last
        .workers
        .iter()
        .map(|worker| {
            let before = first.and_then(|first| first.workers.iter().find(|before| before.worker == worker.worker));
            worker_between(before, worker)
        })
        .collect();
    let bytes = |document: &Document| document.totals.received.bytes;
    let lost_of = |document: &Document| {
        let rings = document.interfaces.iter().flat_map(|interface| &interface.queues);
        let rings = rings.filter_map(|queue| queue.ring_statistics);
        let tx_ring_full = document.totals.drops.get("tx_ring_full").copied().unwrap_or(0);
        rings.map(|ring| ring.rx_dropped.saturating_add(ring.rx_ring_full)).fold(tx_ring_full, u64::saturating_add)
    };
    let queues = || last.interfaces.iter().flat_map(|interface| &interface.queues);
    Run {
        hostname: last.hostname.clone(),
        version: last.version.clone(),
        span_ns,
        cycle_hz: cycle_hz(last, &workers, span_ns),
        frames: workers.iter().map(|worker| worker.frames).sum(),
        bytes: bytes(last).saturating_sub(first.map_or(0, bytes)),
        zero_copy: queues().count() > 0 && queues().all(|queue| queue.zero_copy),
        kernel: kernel_between(first, last),
        flows: last
            .virtual_services
            .iter()
            .map(|service| service.connections.active + service.connections.inactive)
            .sum(),
        flow_slots_per_worker: last.workers.iter().filter_map(|worker| Some(worker.flow_table?.slots)).min(),
        stalls: last
            .totals
            .queueing
            .as_ref()
            .and_then(|now| stalls(first.and_then(|first| first.totals.queueing.as_ref()), now)),
        lost: lost_of(last).saturating_sub(first.map_or(0, lost_of)),
        notes: Vec::new(),
        workers,
    }
}

/// Every cycle of a worker's loop is counted, so where the document has no frequency, time tells it.
fn cycle_hz(document: &Document, workers: &[WorkerRun], span_ns: u64) -> f64 {
    if document.cycle_hz > 0 {
        return document.cycle_hz as f64;
    }
    let cycles = workers.iter().map(|worker| worker.busy_cycles.saturating_add(worker.idle_cycles)).max().unwrap_or(0);
    if span_ns == 0 { 0.0 } else { cycles as f64 * 1e9 / span_ns as f64 }
}

fn worker_between(before: Option<&Worker>, now: &Worker) -> WorkerRun {
    let since = |of: &dyn Fn(&Worker) -> u64| of(now).saturating_sub(before.map_or(0, of));
    let bursts = now
        .batch_sizes
        .iter()
        .map(|class| {
            let earlier = before
                .and_then(|before| before.batch_sizes.iter().find(|earlier| earlier.from == class.from))
                .cloned()
                .unwrap_or_default();
            BurstClass {
                bursts: class.count.saturating_sub(earlier.count),
                frames: class.packets.saturating_sub(earlier.packets),
                cycles: class.cycles.saturating_sub(earlier.cycles),
                system_call_cycles: class.system_call_cycles.saturating_sub(earlier.system_call_cycles),
                each: BurstCycles::of(&class.cycles_of_bursts).since(&BurstCycles::of(&earlier.cycles_of_bursts)),
            }
        })
        .collect();
    WorkerRun {
        worker: now.worker,
        frames: since(&|worker| worker.received.packets),
        busy_cycles: since(&|worker| worker.cycles.busy),
        idle_cycles: since(&|worker| worker.cycles.idle),
        waited_ns: now.cpu_time.map(|_| since(&|worker| worker.cpu_time.unwrap_or_default().runqueue_wait_ns)),
        bursts,
    }
}

fn kernel_between(first: Option<&Document>, last: &Document) -> Kernel {
    let mut kernel = Kernel::default();
    for cpu in &last.cpus {
        let Some(polls) = &cpu.napi else { continue };
        let before = first.and_then(|first| first.cpus.iter().find(|before| before.cpu == cpu.cpu));
        let before = before.map_or_else(Cpu::default, Clone::clone).napi.unwrap_or_default();
        for poll in polls.iter().filter(|poll| !poll.interface.is_empty()) {
            let earlier = before.iter().find(|earlier| earlier.interface == poll.interface);
            let spent_ns = poll.ns.saturating_sub(earlier.map_or(0, |earlier| earlier.ns));
            let place = if cpu.workers.is_empty() { &mut kernel.elsewhere_ns } else { &mut kernel.beside_workers_ns };
            *place = Some(place.unwrap_or(0).saturating_add(spent_ns));
            kernel.untimed_polls +=
                poll.untimed_polls.saturating_sub(earlier.map_or(0, |earlier| earlier.untimed_polls));
        }
        // No poll of the director's interfaces is a measurement, too.
        kernel.beside_workers_ns.get_or_insert(0);
        kernel.elsewhere_ns.get_or_insert(0);
    }
    kernel
}

fn stalls(before: Option<&Times>, now: &Times) -> Option<Stalls> {
    let mut buckets: Vec<LatencyBucket> = now.buckets.clone();
    for bucket in &mut buckets {
        let earlier = before.and_then(|before| before.buckets.iter().find(|earlier| earlier.from_ns == bucket.from_ns));
        bucket.count = bucket.count.saturating_sub(earlier.map_or(0, |earlier| earlier.count));
    }
    buckets.retain(|bucket| bucket.count > 0);
    buckets.sort_by_key(|bucket| bucket.from_ns);
    let longest_ns = buckets.last()?.to_ns;
    let total: u64 = buckets.iter().map(|bucket| bucket.count).sum();
    let mut seen = 0;
    let p99_99 = buckets.iter().find(|bucket| {
        seen += bucket.count;
        u128::from(seen) * 10_000 >= u128::from(total) * 9_999
    });
    Some(Stalls { p99_99_ns: p99_99?.to_ns, longest_ns })
}
