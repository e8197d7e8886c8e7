//! What a director did between two statistics documents.

use std::collections::{BTreeMap, VecDeque};

use crate::stats::report::{Cost, Latency, LatencyBucket, Rate, RealServerReport, Report, VirtualServiceReport};

/// Most documents that are remembered; more than a minute of them at an interval of a second.
const REMEMBERED: usize = 64;

/// Over which time rates are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Window {
    /// The last seconds, as the director measures them.
    Seconds(u32),
    /// All between two documents.
    Between,
}

impl Window {
    /// The next of 1, 10 and 60 seconds.
    pub(crate) fn next(self) -> Self {
        match self {
            Self::Seconds(1) => Self::Seconds(10),
            Self::Seconds(10) => Self::Seconds(60),
            _ => Self::Seconds(1),
        }
    }

    /// The rate over this time, if it is known.
    pub(crate) fn of(self, rates: &[Rate]) -> Option<Rate> {
        match self {
            Self::Seconds(seconds) => rates.iter().find(|rate| rate.over_s == seconds).copied(),
            Self::Between => rates.first().copied(),
        }
    }
}

/// What is kept of a document, for comparing later ones with it. Its size does not depend on the number of services.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    started_unix_ns: u64,
    at_ns: u64,
    drops: BTreeMap<String, u64>,
    costs: BTreeMap<usize, Cost>,
    softirq_ns: BTreeMap<usize, u64>,
    latency: Vec<LatencyBucket>,
}

impl Tally {
    pub(crate) fn of(report: &Report) -> Self {
        Self {
            started_unix_ns: report.started_at.unix_ns,
            at_ns: report.taken_at.monotonic_ns,
            drops: drops(report),
            costs: report.workers.iter().map(|worker| (worker.worker, worker.cost)).collect(),
            softirq_ns: report.cpus.iter().map(|cpu| (cpu.cpu, cpu.softirq_ns)).collect(),
            latency: report.totals.latency.buckets.clone(),
        }
    }

    /// Whether it is of the same run of the director as a later one.
    pub(crate) fn precedes(&self, later: &Self) -> bool {
        self.started_unix_ns == later.started_unix_ns && self.at_ns < later.at_ns
    }
}

/// Frames that were lost, by cause: dropped by workers, and before they got them.
fn drops(report: &Report) -> BTreeMap<String, u64> {
    let mut drops = report.totals.drops.0.clone();
    let mut add = |cause: &str, count: u64| {
        let sum = drops.entry(cause.to_owned()).or_default();
        *sum = sum.saturating_add(count);
    };
    for interface in &report.interfaces {
        add("no_socket", interface.xdp.map_or(0, |xdp| xdp.no_socket));
        add("redirect_errors", interface.redirect_errors.unwrap_or(0));
        for rings in interface.queues.iter().filter_map(|queue| queue.ring_statistics) {
            add("rx_dropped", rings.rx_dropped);
            add("rx_ring_full", rings.rx_ring_full);
        }
    }
    drops
}

/// The last documents.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    tallies: VecDeque<Tally>,
}

impl History {
    /// Remembers one more. What another run of the director counted is forgotten.
    pub(crate) fn push(&mut self, tally: Tally) {
        if self.tallies.back().is_some_and(|last| !last.precedes(&tally)) {
            self.tallies.clear();
        }
        if self.tallies.len() == REMEMBERED {
            self.tallies.pop_front();
        }
        self.tallies.push_back(tally);
    }

    /// What lies between the last document and the one that is as old as the window, or the oldest that there is.
    pub(crate) fn changes(&self, window: Window) -> Changes {
        let Some(last) = self.tallies.back() else { return Changes::default() };
        let span_ns = match window {
            Window::Seconds(seconds) => u64::from(seconds) * 1_000_000_000,
            Window::Between => u64::MAX,
        };
        // Half a second late is still of that age: documents come a little irregularly.
        let young = |tally: &&Tally| last.at_ns - tally.at_ns <= span_ns.saturating_add(500_000_000);
        let before = self.tallies.len().saturating_sub(1);
        let first =
            self.tallies.iter().take(before).find(young).or_else(|| self.tallies.iter().take(before).next_back());
        Changes::between(first, last)
    }
}

/// How a worker's time divides, in parts of 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Load {
    /// Receiving, forwarding, sending, completing, refilling and the rest: in user space.
    pub(crate) stages: [f64; 6],
    /// System calls that receive and send.
    pub(crate) system: f64,
    /// Turns that found nothing, and sleep.
    pub(crate) idle: f64,
}

impl Load {
    /// The names of [`Load::stages`].
    pub(crate) const STAGES: [&str; 6] = ["receive", "forward", "send", "complete", "refill", "other"];

    fn between(first: &Cost, last: &Cost) -> Option<Self> {
        let since = |field: fn(&Cost) -> u64| field(last).saturating_sub(field(first)) as f64;
        let stages = [
            since(|cost| cost.receive),
            since(|cost| cost.forward),
            since(|cost| cost.send),
            since(|cost| cost.complete),
            since(|cost| cost.refill),
            since(|cost| cost.other),
        ];
        let system = since(|cost| cost.system_calls.sendto.cycles) + since(|cost| cost.system_calls.recvfrom.cycles);
        let idle = since(|cost| cost.idle) + since(|cost| cost.system_calls.poll.cycles);
        let all = stages.iter().sum::<f64>() + system + idle;
        (all > 0.0).then(|| Self { stages: stages.map(|stage| stage / all), system: system / all, idle: idle / all })
    }

    pub(crate) fn user(&self) -> f64 {
        self.stages.iter().sum()
    }
}

/// Frames lost by one cause.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DropChange {
    pub(crate) cause: String,
    pub(crate) per_second: Option<f64>,
    pub(crate) total: u64,
}

/// Percentiles of the time from the XDP hook to the TX ring, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Percentiles {
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    pub(crate) p99_9: u64,
    pub(crate) max: u64,
}

impl Percentiles {
    fn of_all(latency: &Latency) -> Option<Self> {
        let Latency { p50, p90, p99, p99_9, max, .. } = *latency;
        Some(Self { p50: p50?, p90: p90?, p99: p99?, p99_9: p99_9?, max: max? })
    }

    fn between(first: &[LatencyBucket], last: &[LatencyBucket]) -> Option<Self> {
        let before: BTreeMap<u64, u64> = first.iter().map(|bucket| (bucket.from_ns, bucket.count)).collect();
        let counts: Vec<(u64, u64)> = last
            .iter()
            .map(|bucket| {
                (bucket.to_ns, bucket.count.saturating_sub(before.get(&bucket.from_ns).copied().unwrap_or(0)))
            })
            .filter(|(_, count)| *count > 0)
            .collect();
        let all: u128 = counts.iter().map(|(_, count)| u128::from(*count)).sum();
        let max = counts.last()?.0;
        // The end of the bucket with the smallest value that all but one in `of` do not exceed.
        let at = |of: u128| {
            let mut above = 0_u128;
            let found = counts.iter().rev().find(|(_, count)| {
                above += u128::from(*count);
                above * of > all
            });
            found.map_or(max, |(to_ns, _)| *to_ns)
        };
        Some(Self { p50: at(2), p90: at(10), p99: at(100), p99_9: at(1000), max })
    }
}

/// What lies between two documents.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes {
    /// How long that is; `None` if there is but one.
    pub(crate) span_ns: Option<u64>,
    /// By worker.
    pub(crate) loads: BTreeMap<usize, Load>,
    /// Part of 1 of each CPU that went into softirqs.
    pub(crate) softirqs: BTreeMap<usize, f64>,
    pub(crate) latency: Option<Percentiles>,
    /// Those that there are, the fastest first.
    pub(crate) drops: Vec<DropChange>,
}

impl Changes {
    fn between(first: Option<&Tally>, last: &Tally) -> Self {
        let nothing = Tally { at_ns: last.at_ns, ..Tally::default() };
        let span_ns = first.map(|first| last.at_ns - first.at_ns);
        let first = first.unwrap_or(&nothing);
        let no_cost = Cost::default();
        let loads = last.costs.iter().filter_map(|(worker, cost)| {
            Some((*worker, Load::between(first.costs.get(worker).unwrap_or(&no_cost), cost)?))
        });
        let softirqs = last.softirq_ns.iter().filter_map(|(cpu, ns)| {
            let before = first.softirq_ns.get(cpu)?;
            Some((*cpu, (ns.saturating_sub(*before) as f64 / span_ns? as f64).min(1.0)))
        });
        let mut drops: Vec<_> = last
            .drops
            .iter()
            .filter(|(_, total)| **total > 0)
            .map(|(cause, total)| {
                let before = first.drops.get(cause).copied().unwrap_or(0);
                let per_second = span_ns.map(|span_ns| per_second(total.saturating_sub(before), span_ns));
                DropChange { cause: cause.clone(), per_second, total: *total }
            })
            .collect();
        drops.sort_by(|a, b| {
            let rates = b.per_second.unwrap_or(0.0).total_cmp(&a.per_second.unwrap_or(0.0));
            rates.then(b.total.cmp(&a.total)).then_with(|| a.cause.cmp(&b.cause))
        });
        Self {
            span_ns,
            loads: loads.collect(),
            softirqs: softirqs.collect(),
            latency: Percentiles::between(&first.latency, &last.latency),
            drops,
        }
    }

    /// Percentiles since the start of the director.
    pub(crate) fn latency_since_start(report: &Report) -> Option<Percentiles> {
        Percentiles::of_all(&report.totals.latency)
    }
}

fn per_second(count: u64, span_ns: u64) -> f64 {
    if span_ns == 0 { 0.0 } else { count as f64 * 1e9 / span_ns as f64 }
}

/// Counters of something that has rates.
#[derive(Clone, Copy, Default)]
struct Counts {
    received: Option<[u64; 2]>,
    tx: [u64; 2],
    dropped: u64,
    new_flows: u64,
}

impl Counts {
    fn rate(self, before: Self, span_ns: u64) -> Rate {
        let since = |now: u64, then: u64| per_second(now.saturating_sub(then), span_ns);
        let received = |at: usize| Some(since(self.received?[at], before.received.map_or(0, |counts| counts[at])));
        Rate {
            over_s: 0,
            span_ns,
            received_pps: received(0),
            received_bps: received(1).map(|bytes| bytes * 8.0),
            tx_pps: since(self.tx[0], before.tx[0]),
            tx_bps: since(self.tx[1], before.tx[1]) * 8.0,
            dropped_pps: since(self.dropped, before.dropped),
            new_flows_per_s: since(self.new_flows, before.new_flows),
        }
    }

    fn of_service(service: &VirtualServiceReport) -> Self {
        let tx = [service.tx.packets, service.tx.bytes];
        let new_flows = service.connections.begun;
        Self { received: None, tx, dropped: service.drops.total(), new_flows }
    }

    fn of_real_server(server: &RealServerReport) -> Self {
        let tx = [server.tx.packets, server.tx.bytes];
        Self { received: None, tx, dropped: server.drops.total(), new_flows: server.connections.begun }
    }
}

/// Puts the rates between two documents in the place of those that the later one has. `false`, and nothing is done, if
/// they are of two runs of the director.
pub(crate) fn between(earlier: &Report, later: &mut Report) -> bool {
    let (first, last) = (Tally::of(earlier), Tally::of(later));
    if !first.precedes(&last) {
        return false;
    }
    let span_ns = last.at_ns - first.at_ns;
    let totals = |report: &Report| {
        let (rx, tx, flows) = (report.totals.received, report.totals.tx, report.totals.flows);
        let new_flows = flows.new;
        let received = Some([rx.packets, rx.bytes]);
        Counts { received, tx: [tx.packets, tx.bytes], dropped: report.totals.drops.total(), new_flows }
    };
    later.totals.rates = vec![totals(later).rate(totals(earlier), span_ns)];
    let before: BTreeMap<_, _> = earlier.workers.iter().map(|worker| (worker.worker, worker)).collect();
    for worker in &mut later.workers {
        let counts = |worker: &crate::stats::report::WorkerReport| Counts {
            received: Some([worker.received.packets, worker.received.bytes]),
            tx: [worker.tx.packets, worker.tx.bytes],
            dropped: worker.drops.total(),
            new_flows: worker.flows.new,
        };
        let then = before.get(&worker.worker).map_or_else(Counts::default, |worker| counts(worker));
        worker.rates = vec![counts(worker).rate(then, span_ns)];
    }
    let before: BTreeMap<_, _> =
        earlier.virtual_services.iter().map(|service| (service.service.as_str(), service)).collect();
    for service in &mut later.virtual_services {
        let then = before.get(service.service.as_str());
        let counts = then.map_or_else(Counts::default, |service| Counts::of_service(service));
        service.rates = vec![Counts::of_service(service).rate(counts, span_ns)];
        let servers: BTreeMap<_, _> =
            then.iter().flat_map(|service| &service.real_servers).map(|server| (server.address, server)).collect();
        for server in &mut service.real_servers {
            let then =
                servers.get(&server.address).map_or_else(Counts::default, |server| Counts::of_real_server(server));
            server.rates = vec![Counts::of_real_server(server).rate(then, span_ns)];
        }
    }
    true
}
