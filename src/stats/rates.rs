//! Rates over the last 1, 10 and 60 seconds.
//!
//! Each second a thread of its own copies a few counters; the rates are the differences of two such samples. Workers know
//! nothing of it. There are as many samples as the windows need and no more: 11 of the last ten seconds, and one of each
//! five seconds of the last minute, so [`MAX_SAMPLES`] of 32 bytes for each service and each real server and 48 for each
//! worker. 10,000 services of four real servers are 40 MB; an ordinary set-up is some kilobytes.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam::channel::{self, RecvTimeoutError, Sender};

use super::collect::WorkerSource;
use super::report::Rate;
use crate::clock;
use crate::counters::Outcomes;
use crate::table::ForwardingTable;

/// Time between two samples.
const PERIOD: Duration = Duration::from_secs(1);
/// Samples of the last seconds.
const RECENT: usize = 11;
/// Of so many samples one is kept for the long window.
const COARSE_STEP: u64 = 5;
/// Nanoseconds of the long window, less the unrest of the clock by which samples are taken.
const LONG_NS: u64 = 59_500_000_000;
/// Most samples that are kept.
pub const MAX_SAMPLES: usize = RECENT + 14;

/// What a worker or all of them have counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct WorkerRow {
    received: [u64; 2],
    sent: Row,
}

/// What was counted of a service or of a real server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Row {
    packets: u64,
    bytes: u64,
    dropped: u64,
    begun: u64,
}

/// Counters at one moment.
struct Sample {
    taken_ns: u64,
    workers: Box<[WorkerRow]>,
    services: Rows,
    real_servers: Rows,
}

/// Rows by the lasting number of what they are of.
struct Rows {
    positions: Arc<HashMap<u32, usize>>,
    rows: Box<[Row]>,
}

impl Rows {
    /// Of these, whose positions are mostly those of the sample before.
    fn new(rows: Vec<(u32, Row)>, before: Option<&Self>) -> Self {
        let same = |positions: &HashMap<u32, usize>| {
            positions.len() == rows.len()
                && rows.iter().enumerate().all(|(position, (id, _))| positions.get(id) == Some(&position))
        };
        let positions = match before {
            Some(before) if same(&before.positions) => Arc::clone(&before.positions),
            _ => Arc::new(rows.iter().enumerate().map(|(position, (id, _))| (*id, position)).collect()),
        };
        Self { positions, rows: rows.into_iter().map(|(_, row)| row).collect() }
    }

    fn of(&self, id: u32) -> Option<&Row> {
        self.rows.get(*self.positions.get(&id)?)
    }
}

/// The samples of the last minute.
#[derive(Default)]
pub(super) struct History(Mutex<Samples>);

#[derive(Default)]
struct Samples {
    taken: u64,
    recent: VecDeque<Arc<Sample>>,
    coarse: VecDeque<Arc<Sample>>,
}

impl History {
    /// Takes a sample.
    pub(super) fn sample(&self, workers: &[WorkerSource], table: &ForwardingTable) {
        let before = self.lock().recent.back().cloned();
        self.push(sample(clock::monotonic_ns(), workers, table, before.as_deref()));
    }

    fn push(&self, sample: Sample) {
        let sample = Arc::new(sample);
        let mut samples = self.lock();
        if samples.taken.is_multiple_of(COARSE_STEP) {
            samples.coarse.push_back(Arc::clone(&sample));
        }
        samples.taken += 1;
        samples.recent.push_back(Arc::clone(&sample));
        if samples.recent.len() > RECENT {
            samples.recent.pop_front();
        }
        // The first is older than the window or at its beginning, as long as there is such a one.
        while samples.coarse.get(1).is_some_and(|second| second.taken_ns + LONG_NS <= sample.taken_ns) {
            samples.coarse.pop_front();
        }
    }

    /// The windows that have been filled.
    pub(super) fn windows(&self) -> Windows {
        let samples = self.lock();
        let Some(newest) = samples.recent.back() else { return Windows(Vec::new()) };
        let back = |seconds: usize| samples.recent.iter().rev().nth(seconds).cloned();
        let long = samples.coarse.front().filter(|first| first.taken_ns + LONG_NS <= newest.taken_ns).cloned();
        let windows = [(1, back(1)), (10, back(10)), (60, long)];
        let filled = windows.into_iter().filter_map(|(over_s, from)| Some((over_s, from?, Arc::clone(newest))));
        Windows(filled.collect())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Samples> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Windows of time with the counters at their beginnings and ends.
pub(super) struct Windows(Vec<(u32, Arc<Sample>, Arc<Sample>)>);

impl Windows {
    /// Rates of the worker at this position.
    pub(super) fn of_worker(&self, position: usize) -> Vec<Rate> {
        self.each(|sample| sample.workers.get(position).copied())
    }

    /// Rates of all workers together.
    pub(super) fn of_all_workers(&self) -> Vec<Rate> {
        self.each(|sample| Some(sample.workers.iter().fold(WorkerRow::default(), WorkerRow::plus)))
    }

    /// Rates of the service with this lasting number.
    pub(super) fn of_service(&self, id: u32) -> Vec<Rate> {
        self.each(|sample| sample.services.of(id).copied())
    }

    /// Rates of the real server with this lasting number.
    pub(super) fn of_real_server(&self, id: u32) -> Vec<Rate> {
        self.each(|sample| sample.real_servers.of(id).copied())
    }

    fn each<C: Counted>(&self, of: impl Fn(&Sample) -> Option<C>) -> Vec<Rate> {
        self.0
            .iter()
            // A number that was another's a minute ago was nobody's in between: what the shorter window does not know has
            // no longer one either.
            .map_while(|(over_s, from, to)| {
                let span_ns = to.taken_ns.checked_sub(from.taken_ns).filter(|span_ns| *span_ns > 0)?;
                let per_second = |count: u64| {
                    let rate = count as f64 * 1e9 / span_ns as f64;
                    // What is beyond would only look exact.
                    (rate * 1000.0).round() / 1000.0
                };
                // One that was removed and has come back counts anew.
                C::rate(&of(from)?, &of(to)?, &per_second).map(|rate| Rate { over_s: *over_s, span_ns, ..rate })
            })
            .collect()
    }
}

/// What can be made a rate of; nothing if a counter has begun anew.
trait Counted {
    fn rate(from: &Self, to: &Self, per_second: &dyn Fn(u64) -> f64) -> Option<Rate>;
}

impl Counted for Row {
    fn rate(from: &Self, to: &Self, per_second: &dyn Fn(u64) -> f64) -> Option<Rate> {
        Some(Rate {
            tx_pps: per_second(to.packets.checked_sub(from.packets)?),
            tx_bps: 8.0 * per_second(to.bytes.checked_sub(from.bytes)?),
            dropped_pps: per_second(to.dropped.checked_sub(from.dropped)?),
            new_flows_per_s: per_second(to.begun.checked_sub(from.begun)?),
            ..Rate::default()
        })
    }
}

impl Counted for WorkerRow {
    fn rate(from: &Self, to: &Self, per_second: &dyn Fn(u64) -> f64) -> Option<Rate> {
        let [packets, bytes] = [0, 1].map(|of| to.received[of].checked_sub(from.received[of]));
        Some(Rate {
            received_pps: Some(per_second(packets?)),
            received_bps: Some(8.0 * per_second(bytes?)),
            ..Row::rate(&from.sent, &to.sent, per_second)?
        })
    }
}

impl WorkerRow {
    fn plus(self, other: &Self) -> Self {
        let add = u64::wrapping_add;
        Self {
            received: [add(self.received[0], other.received[0]), add(self.received[1], other.received[1])],
            sent: Row {
                packets: add(self.sent.packets, other.sent.packets),
                bytes: add(self.sent.bytes, other.sent.bytes),
                dropped: add(self.sent.dropped, other.sent.dropped),
                begun: add(self.sent.begun, other.sent.begun),
            },
        }
    }
}

impl Row {
    fn of<'a>(outcomes: impl Iterator<Item = &'a Outcomes>, begun: u64) -> Self {
        outcomes.fold(Self { begun, ..Self::default() }, |row, of| Self {
            packets: row.packets.wrapping_add(of.tx_packets.get()),
            bytes: row.bytes.wrapping_add(of.tx_bytes.get()),
            dropped: of.drops.iter().fold(row.dropped, |sum, drops| sum.wrapping_add(drops.get())),
            begun,
        })
    }
}

fn sample(taken_ns: u64, workers: &[WorkerSource], table: &ForwardingTable, before: Option<&Sample>) -> Sample {
    let worker = |source: &WorkerSource| {
        let sum = |of: fn(&crate::counters::QueueCounters) -> u64| {
            source.queues.iter().map(|queue| of(&queue.counters)).fold(0, u64::wrapping_add)
        };
        WorkerRow {
            received: [sum(|queue| queue.rx_packets.get()), sum(|queue| queue.rx_bytes.get())],
            sent: Row::of(std::iter::once(&source.counters.outcomes), source.counters.flows.new.get()),
        }
    };
    let begun = |id| table.connections().sum(id).begun;
    let real_servers = table.real_servers().iter().map(|of| (of.id, Row::of(of.outcomes.iter(), begun(of.id))));
    let real_servers: Vec<(u32, Row)> = real_servers.collect();
    let services = table.services().iter().map(|service| {
        let begun = table.real_servers_of(service).iter().map(|of| begun(of.id)).fold(0, u64::wrapping_add);
        (service.id, Row::of(service.outcomes.iter(), begun))
    });
    Sample {
        taken_ns,
        workers: workers.iter().map(worker).collect(),
        services: Rows::new(services.collect(), before.map(|before| &before.services)),
        real_servers: Rows::new(real_servers, before.map(|before| &before.real_servers)),
    }
}

/// The thread that takes samples, until this is dropped.
#[derive(Debug)]
pub struct RateSampler {
    /// Nothing is ever sent; that it is gone tells the thread to stop.
    running: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl RateSampler {
    /// Calls `sample` at once, and then each second.
    ///
    /// # Errors
    /// The system's, if it gives no thread.
    pub fn start(sample: impl Fn() + Send + 'static) -> io::Result<Self> {
        let (running, stopped) = channel::bounded::<()>(0);
        let thread = thread::Builder::new().name("rates".to_owned()).spawn(move || {
            let mut next = Instant::now();
            loop {
                sample();
                // After a pause, as of a suspended machine, seconds begin anew.
                next = (next + PERIOD).max(Instant::now());
                if stopped.recv_deadline(next) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        })?;
        Ok(Self { running: Some(running), thread: Some(thread) })
    }
}

impl Drop for RateSampler {
    fn drop(&mut self) {
        drop(self.running.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("the thread that samples rates has panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// A worker of `pps` frames of 100 bytes a second, and of services each with as many as its number.
    fn at(second: u64, pps: u64, services: &[u32]) -> Sample {
        let row =
            |pps: u64| Row { packets: pps * second, bytes: 100 * pps * second, dropped: second, begun: 2 * second };
        Sample {
            taken_ns: 5 + second * SECOND,
            workers: Box::new([WorkerRow { received: [pps * second, 100 * pps * second], sent: row(pps) }]),
            services: Rows::new(services.iter().map(|id| (*id, row(u64::from(*id)))).collect(), None),
            real_servers: Rows::new(Vec::new(), None),
        }
    }

    fn windows(rates: &[Rate]) -> Vec<(u32, u64)> {
        rates.iter().map(|rate| (rate.over_s, rate.span_ns / SECOND)).collect()
    }

    #[test]
    fn windows_appear_as_they_fill_and_memory_is_bounded() {
        let history = History::default();
        for second in 0..400 {
            history.push(at(second, 7, &[3]));
            let rates = history.windows().of_worker(0);
            let filled = [(1, 1), (10, 10), (60, 60 + second % 5)].into_iter();
            let expected: Vec<(u32, u64)> = filled.filter(|(over_s, _)| second >= u64::from(*over_s)).collect();
            assert_eq!(windows(&rates), expected, "{second}");
            let samples = history.lock();
            assert!(samples.recent.len() + samples.coarse.len() <= MAX_SAMPLES, "{second}");
            drop(samples);
            for rate in rates {
                assert_eq!((rate.received_pps, rate.received_bps), (Some(7.0), Some(5600.0)));
                assert_eq!((rate.tx_pps, rate.tx_bps, rate.dropped_pps, rate.new_flows_per_s), (7.0, 5600.0, 1.0, 2.0));
            }
        }
    }

    #[test]
    fn what_comes_goes_or_begins_anew_has_no_rate_until_its_window_is_filled() {
        let history = History::default();
        history.push(at(10, 1, &[4, 5]));
        history.push(at(11, 1, &[5, 6]));
        let now = history.windows();
        assert_eq!(windows(&now.of_service(5)), [(1, 1)]);
        assert_eq!(now.of_service(5)[0].tx_pps, 5.0);
        assert_eq!(now.of_service(5)[0].received_pps, None);
        assert_eq!((now.of_service(4), now.of_service(6), now.of_service(7)), (vec![], vec![], vec![]));
        // Counters of 6 begin anew.
        let mut anew = at(3, 1, &[6]);
        anew.taken_ns = 12 * SECOND;
        history.push(anew);
        assert_eq!(history.windows().of_service(6), []);
    }

    #[test]
    fn a_number_that_another_had_before_is_not_taken_for_it() {
        let history = History::default();
        history.push(at(0, 1, &[6]));
        for second in 1..=60 {
            history.push(at(second, 1, &[]));
        }
        for second in 61..=62 {
            history.push(at(second, 1, &[6]));
        }
        assert_eq!(windows(&history.windows().of_service(6)), [(1, 1)]);
        assert_eq!(windows(&history.windows().of_worker(0)), [(1, 1), (10, 10), (60, 62)]);
    }

    #[test]
    fn positions_are_shared_while_nothing_comes_or_goes() {
        let rows = |ids: &[u32]| ids.iter().map(|id| (*id, Row::default())).collect::<Vec<_>>();
        let first = Rows::new(rows(&[8, 2, 5]), None);
        let same = Rows::new(rows(&[8, 2, 5]), Some(&first));
        assert!(Arc::ptr_eq(&first.positions, &same.positions));
        let moved = Rows::new(rows(&[2, 8, 5]), Some(&first));
        assert!(!Arc::ptr_eq(&first.positions, &moved.positions));
    }
}
