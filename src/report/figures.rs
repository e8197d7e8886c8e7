//! What a run's pictures and tables show, in numbers.

use std::collections::BTreeMap;

use super::cycles::Cycles;
use super::distribution::{Kind, Known};
use super::document::{Cpu, Document, Interface, Worker};
use super::run::{Increase, Point, Run, since};
use crate::stats::report::Traffic;

/// The numbers of one run.
#[derive(Debug)]
pub(crate) struct Figures<'a> {
    pub(crate) run: &'a Run,
    pub(crate) span_s: f64,
    pub(crate) received: Traffic,
    pub(crate) tx: Traffic,
    /// Drops of the workers by cause, and what was lost before a worker. None is what is not known.
    pub(crate) drops: Vec<(String, Option<u64>)>,
    /// Drops of the workers.
    pub(crate) dropped: u64,
    pub(crate) unstamped: u64,
    pub(crate) times: Vec<(Kind, Known)>,
    /// Cycles of a second, if known.
    pub(crate) cycle_hz: Option<f64>,
    pub(crate) workers: Vec<WorkerFigures>,
    pub(crate) softirq: Option<Softirq>,
    pub(crate) services: Vec<ServiceFigures>,
    pub(crate) intervals: Vec<Interval>,
}

/// What a worker did.
#[derive(Debug)]
pub(crate) struct WorkerFigures {
    pub(crate) worker: u64,
    pub(crate) core: Option<u64>,
    pub(crate) received: Traffic,
    pub(crate) tx: Traffic,
    pub(crate) cycles: Cycles,
    /// How much of its CPU's time was used, by anybody, as a share of 1.
    pub(crate) cpu_used: Option<f64>,
}

/// Time in softirqs, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Softirq {
    /// On CPUs without a worker: beside the workers' cycles.
    pub(crate) elsewhere_ns: u64,
    /// On CPUs of workers: within the workers' cycles, which go on meanwhile.
    pub(crate) within_ns: u64,
    /// Whether it is that of the director's interfaces alone; else it is all of these CPUs.
    pub(crate) by_interface: bool,
}

/// What came of one service's real servers.
#[derive(Debug)]
pub(crate) struct ServiceFigures {
    pub(crate) service: String,
    pub(crate) scheduler: String,
    pub(crate) servers: Vec<ServerFigures>,
}

/// What came of one real server.
#[derive(Debug)]
pub(crate) struct ServerFigures {
    pub(crate) address: String,
    /// None once it was removed.
    pub(crate) weight: Option<u64>,
    pub(crate) fallback: bool,
    pub(crate) increase: Increase,
    /// Shares of 1 of what the service's real servers have together.
    pub(crate) weight_share: Option<f64>,
    pub(crate) packet_share: Option<f64>,
    pub(crate) flow_share: Option<f64>,
}

/// Rates over the time between two documents.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interval {
    /// Since the run's first document.
    pub(crate) from_s: f64,
    pub(crate) to_s: f64,
    pub(crate) received_pps: f64,
    pub(crate) tx_pps: f64,
    pub(crate) dropped_pps: f64,
}

pub(super) fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

impl<'a> Figures<'a> {
    pub(crate) fn of(run: &'a Run) -> Self {
        let (first, last) = (run.first.as_ref(), &run.last);
        let before = first.map(|first| &first.totals);
        let drops = drops(first, last);
        let cycle_hz = last.cycle_hz.filter(|hz| *hz > 0).map(|hz| hz as f64);
        Self {
            run,
            span_s: run.span_ns() as f64 / 1e9,
            received: since(last.totals.received, before.map(|totals| totals.received).unwrap_or_default()),
            tx: since(last.totals.tx, before.map(|totals| totals.tx).unwrap_or_default()),
            dropped: worker_drops(first, last).values().fold(0, |sum: u64, count| sum.saturating_add(*count)),
            drops,
            unstamped: last.totals.unstamped.saturating_sub(before.map_or(0, |totals| totals.unstamped)),
            times: Kind::ALL.map(|kind| (kind, Known::between(kind, before, &last.totals))).into(),
            cycle_hz,
            workers: workers(first, last),
            softirq: softirq(first, last),
            services: services(run),
            intervals: intervals(&run.points),
        }
    }

    /// A count by the second.
    pub(crate) fn per_second(&self, count: u64) -> Option<f64> {
        (self.span_s > 0.0).then(|| count as f64 / self.span_s)
    }

    /// The cycles of all workers.
    pub(crate) fn cycles(&self) -> Cycles {
        let mut workers = self.workers.iter().map(|worker| worker.cycles);
        let mut sum = workers.next().unwrap_or_default();
        workers.for_each(|cycles| sum.add(&cycles));
        sum
    }

    /// Cycles for each frame received: in nanoseconds, if these shall be and can be told.
    pub(crate) fn per_frame(&self, cycles: u64, in_ns: bool) -> Option<f64> {
        let each = share(cycles, self.received.packets)?;
        match (in_ns, self.cycle_hz) {
            (true, Some(hz)) => Some(each * 1e9 / hz),
            (true, None) => None,
            (false, _) => Some(each),
        }
    }

    pub(crate) fn time(&self, kind: Kind) -> &Known {
        self.times.iter().find(|(of, _)| *of == kind).map_or(&Known::No, |(_, known)| known)
    }
}

fn worker_drops(first: Option<&Document>, last: &Document) -> BTreeMap<String, u64> {
    let before = |cause: &str| first.and_then(|first| first.totals.drops.get(cause)).copied().unwrap_or(0);
    last.totals.drops.iter().map(|(cause, count)| (cause.clone(), count.saturating_sub(before(cause)))).collect()
}

fn drops(first: Option<&Document>, last: &Document) -> Vec<(String, Option<u64>)> {
    let ring = |document: &Document, of: fn(&super::document::RingStatistics) -> u64| {
        sum_of(
            document
                .interfaces
                .iter()
                .flat_map(|interface| interface.queues.iter().map(|queue| queue.ring_statistics.as_ref().map(of))),
        )
    };
    let interface = |document: &Document, of: fn(&Interface) -> Option<u64>| sum_of(document.interfaces.iter().map(of));
    let difference = |of: &dyn Fn(&Document) -> Option<u64>| {
        let before = first.map_or(Some(0), of)?;
        of(last).map(|now| now.saturating_sub(before))
    };
    let before_workers = [
        ("rx_ring_full (before a worker)", difference(&|document| ring(document, |rings| rings.rx_ring_full))),
        ("rx_dropped (before a worker)", difference(&|document| ring(document, |rings| rings.rx_dropped))),
        ("redirect_errors (before a worker)", difference(&|document| interface(document, |of| of.redirect_errors))),
        (
            "no_socket (dropped or passed)",
            difference(&|document| interface(document, |of| of.xdp.map(|xdp| xdp.no_socket))),
        ),
    ];
    let causes = worker_drops(first, last).into_iter().map(|(cause, count)| (cause, Some(count)));
    causes.chain(before_workers.map(|(cause, count)| (cause.to_owned(), count))).collect()
}

/// The sum, if all are known.
fn sum_of(mut values: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    values.try_fold(0u64, |sum, value| Some(sum.saturating_add(value?)))
}

fn workers(first: Option<&Document>, last: &Document) -> Vec<WorkerFigures> {
    let before = |number| first.and_then(|first| first.workers.iter().find(|worker| worker.worker == number));
    let figures = |worker: &Worker| {
        let before = before(worker.worker);
        WorkerFigures {
            worker: worker.worker,
            core: worker.core,
            received: since(worker.received, before.map(|before| before.received).unwrap_or_default()),
            tx: since(worker.tx, before.map(|before| before.tx).unwrap_or_default()),
            cycles: Cycles::between(before, worker),
            cpu_used: worker.core.and_then(|core| cpu_used(core, first, last)),
        }
    };
    last.workers.iter().map(figures).collect()
}

/// The CPU `number` in both documents. /proc/stat counts since the machine's start, so it takes both.
fn cpus<'a>(number: u64, first: Option<&'a Document>, last: &'a Document) -> Option<(&'a Cpu, &'a Cpu)> {
    let of = |document: &'a Document| document.cpus.as_ref()?.iter().find(|cpu| cpu.cpu == number);
    Some((of(first?)?, of(last)?))
}

fn cpu_used(core: u64, first: Option<&Document>, last: &Document) -> Option<f64> {
    let (before, now) = cpus(core, first, last)?;
    let sums = |cpu: &Cpu| {
        let idle = cpu.idle_ns.saturating_add(cpu.iowait_ns);
        let used = [cpu.user_ns, cpu.nice_ns, cpu.system_ns, cpu.irq_ns, cpu.softirq_ns, cpu.steal_ns];
        (idle, used.into_iter().fold(0, u64::saturating_add))
    };
    let ((idle_before, used_before), (idle, used)) = (sums(before), sums(now));
    let (idle, used) = (idle.saturating_sub(idle_before), used.saturating_sub(used_before));
    share(used, used.saturating_add(idle))
}

fn softirq(first: Option<&Document>, last: &Document) -> Option<Softirq> {
    let by_interface = last.softirq_measured_by.as_deref() == Some("tracepoints");
    let ns = |cpu: &Cpu| match &cpu.napi {
        Some(napi) if by_interface => {
            let ours = napi.iter().filter(|napi| !napi.interface.is_empty());
            ours.fold(0, |sum: u64, napi| sum.saturating_add(napi.ns))
        }
        _ => cpu.softirq_ns,
    };
    let mut softirq = Softirq { elsewhere_ns: 0, within_ns: 0, by_interface };
    let mut any = false;
    for cpu in last.cpus.as_ref()? {
        let before = match cpus(cpu.cpu, first, last) {
            Some((before, _)) => ns(before),
            // Polls are counted since the director's start, /proc/stat since the machine's.
            None if by_interface && first.is_none() && cpu.napi.is_some() => 0,
            None => continue,
        };
        any = true;
        let ns = ns(cpu).saturating_sub(before);
        let has_worker = last.workers.iter().any(|worker| worker.core == Some(cpu.cpu));
        let sum = if has_worker { &mut softirq.within_ns } else { &mut softirq.elsewhere_ns };
        *sum = sum.saturating_add(ns);
    }
    any.then_some(softirq)
}

fn services(run: &Run) -> Vec<ServiceFigures> {
    let mut services: BTreeMap<&str, Vec<ServerFigures>> = BTreeMap::new();
    for ((service, address, fallback), increase) in &run.servers {
        let now = run.last.virtual_services.iter().find(|now| now.service == *service);
        let server = now.and_then(|now| {
            now.real_servers.iter().find(|server| server.address == *address && server.fallback == *fallback)
        });
        services.entry(service).or_default().push(ServerFigures {
            address: address.clone(),
            weight: server.map(|server| server.weight),
            fallback: *fallback,
            increase: *increase,
            weight_share: None,
            packet_share: None,
            flow_share: None,
        });
    }
    services.into_iter().map(|(service, servers)| with_shares(run, service, servers)).collect()
}

fn with_shares(run: &Run, service: &str, mut servers: Vec<ServerFigures>) -> ServiceFigures {
    let sum = |of: fn(&ServerFigures) -> u64| servers.iter().fold(0, |sum: u64, server| sum.saturating_add(of(server)));
    let weight = |server: &ServerFigures| if server.fallback { 0 } else { server.weight.unwrap_or(0) };
    let weights = sum(weight);
    let packets = sum(|server| server.increase.tx.packets);
    let flows = sum(|server| server.increase.begun);
    for server in &mut servers {
        server.weight_share = share(weight(server), weights);
        server.packet_share = share(server.increase.tx.packets, packets);
        server.flow_share = share(server.increase.begun, flows);
    }
    let scheduler = run.last.virtual_services.iter().find(|now| now.service == service);
    ServiceFigures {
        service: service.to_owned(),
        scheduler: scheduler.map_or_else(|| "removed".to_owned(), |service| service.scheduler.clone()),
        servers,
    }
}

/// Rates between successive documents, as many as a picture can show.
fn intervals(points: &[Point]) -> Vec<Interval> {
    const MOST: usize = 400;
    let Some(start) = points.first() else { return Vec::new() };
    let step = (points.len().saturating_sub(1)).div_ceil(MOST).max(1);
    let mut chosen: Vec<&Point> = points.iter().step_by(step).collect();
    if let Some(end) = points.last()
        && chosen.last().is_some_and(|last| last.at_ns != end.at_ns)
    {
        chosen.push(end);
    }
    let seconds = |ns: u64| ns as f64 / 1e9;
    let rate = |pair: &[&Point]| {
        let [one, other] = *pair else { return None };
        let span_s = seconds(other.at_ns.saturating_sub(one.at_ns));
        let per_second = |now: u64, before: u64| now.saturating_sub(before) as f64 / span_s;
        (span_s > 0.0).then(|| Interval {
            from_s: seconds(one.at_ns - start.at_ns),
            to_s: seconds(other.at_ns - start.at_ns),
            received_pps: per_second(other.received.packets, one.received.packets),
            tx_pps: per_second(other.tx.packets, one.tx.packets),
            dropped_pps: per_second(other.dropped, one.dropped),
        })
    };
    chosen.windows(2).filter_map(rate).collect()
}
