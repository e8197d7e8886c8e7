//! Reads every counter and makes a [`Report`] of them.
//!
//! What a frame is counted by last is read first: services, then workers, then queues, then the kernel, then the XDP
//! program. Counters only grow, so a difference in the report's identities is the frames that were on their way.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use hdrhistogram::AdditionError;

use super::cpu::{CpuSource, Cpus, CycleClock, ThreadClock};
use super::flows::{FlowActivity, FlowTableReport};
use super::rates::{History, Windows};
use super::report::{
    AttachMode, BatchSize, BusyIdle, CompletionBy, ConnectionLimitReport, ConnectionsReport, Cost, CycleBucket, Drops,
    Frames, HealthCheckReport, Identity, InterfaceReport, KernelRingStatistics, Moment, QueueReport, RealServerReport,
    Report, SCHEMA_VERSION, StandingReport, Totals, Traffic, VirtualServiceReport, WorkerReport, XdpCounts,
};
use super::summary::Times;
use crate::clock;
use crate::counters::latency::SnapshotError;
use crate::counters::{Outcomes, PerWorker, QueueCounters, WorkerCounters};
use crate::flow::FlowReader;
use crate::port::xsk;
use crate::service::ServiceKey;
use crate::table::{ForwardingTable, HashBy, Published, RealServer, Standing, VirtualService};
use crate::verdict::DropReason;

/// Something that is read anew for each report, from whatever thread makes it.
pub type Reading<T> = Box<dyn Fn() -> T + Send + Sync>;

/// Everything that a report is made from.
pub struct Sources {
    /// When the director started: [`Moment::now`] at that time.
    pub started_at: Moment,
    /// The worker threads, by number.
    pub workers: Vec<WorkerSource>,
    /// The interfaces.
    pub interfaces: Vec<InterfaceSource>,
    /// The CPUs.
    pub cpus: CpuSource,
    /// Where the forwarding table is published.
    pub tables: Arc<Published<ForwardingTable>>,
    /// What health checks have found.
    pub health: Reading<HealthReading>,
}

/// The health checks of real servers, by service and address.
pub type HealthReading = HashMap<(ServiceKey, IpAddr), Vec<HealthCheckReport>>;

/// What is to be read of one worker.
pub struct WorkerSource {
    /// Its number.
    pub worker: usize,
    /// The CPU that it is pinned to.
    pub core: Option<usize>,
    /// The time that its thread uses.
    pub clock: Arc<ThreadClock>,
    /// What it counts over all its queues.
    pub counters: Arc<WorkerCounters>,
    /// Where it remembers flows.
    pub flows: FlowReader,
    /// Its queues.
    pub queues: Vec<QueueSource>,
}

/// What is to be read of one queue.
pub struct QueueSource {
    /// Name of its interface, one of [`Sources::interfaces`].
    pub interface: String,
    /// Its number.
    pub queue: u32,
    /// Whether the driver shares frames with its socket.
    pub zero_copy: bool,
    /// What its worker counts of it.
    pub counters: Arc<QueueCounters>,
    /// What the kernel counts on its socket since the director started.
    pub kernel: Reading<io::Result<KernelRingStatistics>>,
}

/// What is to be read of one interface.
pub struct InterfaceSource {
    /// Its name.
    pub name: String,
    /// How the XDP program is attached.
    pub mode: AttachMode,
    /// What the XDP program counted; the error says in words why that cannot be read.
    pub xdp: Reading<Result<XdpCounts, String>>,
    /// Failed redirects that no socket counted in its ring statistics; `None` if that cannot be measured.
    pub redirect_errors: Reading<Option<u64>>,
}

impl Moment {
    /// Now. A clock that cannot be read is 0.
    pub fn now() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { unix_ns: u64::try_from(unix.as_nanos()).unwrap_or(u64::MAX), monotonic_ns: clock::monotonic_ns() }
    }
}

/// A latency histogram could not be read or merged.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// Read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// Merged.
    #[error("cannot merge the latency histograms of the workers: {0}")]
    Merge(#[from] AdditionError),
}

/// Slots of each real server of each service of the table of one generation.
#[derive(Default)]
struct Shares {
    generation: Option<u64>,
    by_service: Vec<Vec<u32>>,
}

/// Makes reports. Any thread may ask for one at any time; no worker ever waits for it.
pub struct Collector {
    sources: Sources,
    cpus: Cpus,
    cycle_clock: CycleClock,
    history: History,
    hostname: String,
    kernel: String,
    /// Counting slots takes a walk over all tables, which change seldom.
    shares: Mutex<Shares>,
}

impl Collector {
    /// A collector that reads `sources`.
    pub fn new(sources: Sources) -> Self {
        let name = |path| fs::read_to_string(path).map(|text| text.trim_end().to_owned()).unwrap_or_default();
        Self {
            cpus: Cpus::new(&sources.cpus),
            cycle_clock: CycleClock::start(),
            history: History::default(),
            sources,
            hostname: name("/proc/sys/kernel/hostname"),
            kernel: name("/proc/sys/kernel/osrelease"),
            shares: Mutex::default(),
        }
    }

    /// Notes the counters that rates are made of; to be called each second.
    pub fn sample_rates(&self) {
        self.history.sample(&self.sources.workers, &self.sources.tables.reader().pin());
    }

    /// Reads all counters.
    ///
    /// What the kernel cannot tell just now is null in the report and named among its errors.
    ///
    /// # Errors
    /// [`CollectError`], if a latency histogram cannot be copied; no input brings that about.
    pub fn collect(&self) -> Result<Report, CollectError> {
        let taken_at = Moment::now();
        let mut errors = Vec::new();
        let windows = self.history.windows();
        let (generation, virtual_services) = self.virtual_services(&windows);
        let (mut workers, times) = self.workers()?;
        let queues = self.queues(&mut errors);
        for (position, (worker, source)) in workers.iter_mut().zip(&self.sources.workers).enumerate() {
            worker.rates = windows.of_worker(position);
            let mine = || queues.iter().filter(|(_, queue)| queue.worker == source.worker).map(|(_, queue)| queue);
            worker.received = mine().fold(Traffic::default(), |sum, queue| sum.plus(queue.rx));
            let outstanding = |of: fn(&QueueReport) -> u64| mine().map(of).fold(0, u64::wrapping_add);
            worker.frames.fill = outstanding(|queue| queue.fill_submitted.saturating_sub(queue.rx.packets));
            worker.frames.tx = outstanding(|queue| queue.tx.packets.saturating_sub(queue.tx_completed));
        }
        let interfaces = self.interfaces(queues, &mut errors);
        let cpus =
            self.cpus.read(&self.sources.cpus, self.sources.workers.iter().map(|of| (of.worker, of.core)), &mut errors);
        let mut totals = totals(&workers, &times)?;
        totals.rates = windows.of_all_workers();
        Ok(Report {
            schema_version: SCHEMA_VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            hostname: self.hostname.clone(),
            kernel: self.kernel.clone(),
            started_at: self.sources.started_at,
            taken_at,
            uptime_ns: taken_at.monotonic_ns.saturating_sub(self.sources.started_at.monotonic_ns),
            generation,
            identity: Identity::of(&interfaces, &workers, &totals),
            interfaces,
            cycle_hz: self.cycle_clock.hz(),
            cpus,
            softirq_measured_by: self.sources.cpus.measured_by(),
            workers,
            virtual_services,
            totals,
            errors,
        })
    }

    fn virtual_services(&self, windows: &Windows) -> (u64, Vec<VirtualServiceReport>) {
        let reader = self.sources.tables.reader();
        let table = reader.pin();
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if shares.generation != Some(table.generation()) {
            shares.by_service = table.services().iter().map(VirtualService::shares).collect();
            shares.generation = Some(table.generation());
        }
        let mut health = (self.sources.health)();
        let services = table
            .services()
            .iter()
            .zip(&shares.by_service)
            .map(|(service, shares)| {
                let mut report = virtual_service(&table, service, shares);
                report.rates = windows.of_service(service.id);
                for (real_server, source) in report.real_servers.iter_mut().zip(table.real_servers_of(service)) {
                    real_server.rates = windows.of_real_server(source.id);
                    real_server.health_checks = health.remove(&(service.key, real_server.address)).unwrap_or_default();
                }
                report
            })
            .collect();
        (table.generation(), services)
    }

    /// The workers, without what their queues tell, and the times of each one's frames.
    fn workers(&self) -> Result<(Vec<WorkerReport>, Vec<Times>), SnapshotError> {
        let mut workers = Vec::with_capacity(self.sources.workers.len());
        let mut all_times = Vec::with_capacity(self.sources.workers.len());
        for source in &self.sources.workers {
            let times = Times::of(&source.counters)?;
            workers.push(worker(source, &times));
            all_times.push(times);
        }
        Ok((workers, all_times))
    }

    /// All queues, with the names of their interfaces.
    fn queues(&self, errors: &mut Vec<String>) -> Vec<(&str, QueueReport)> {
        let mut queues: Vec<(&str, QueueReport)> = self
            .sources
            .workers
            .iter()
            .flat_map(|worker| {
                worker.queues.iter().map(|queue| (queue.interface.as_str(), queue_of(worker.worker, queue)))
            })
            .collect();
        let sources = self.sources.workers.iter().flat_map(|worker| &worker.queues);
        for ((interface, report), source) in queues.iter_mut().zip(sources) {
            match (source.kernel)() {
                Ok(statistics) => report.ring_statistics = Some(statistics),
                Err(error) => errors.push(format!(
                    "cannot read the kernel's ring statistics of {interface} queue {}: {error}",
                    report.queue
                )),
            }
        }
        queues
    }

    fn interfaces(&self, queues: Vec<(&str, QueueReport)>, errors: &mut Vec<String>) -> Vec<InterfaceReport> {
        let mut by_interface: HashMap<&str, Vec<QueueReport>> = HashMap::new();
        for (interface, queue) in queues {
            by_interface.entry(interface).or_default().push(queue);
        }
        let mut interfaces = Vec::with_capacity(self.sources.interfaces.len());
        for source in &self.sources.interfaces {
            let mut queues = by_interface.remove(source.name.as_str()).unwrap_or_default();
            queues.sort_by_key(|queue| queue.queue);
            let redirect_errors = (source.redirect_errors)();
            let xdp = (source.xdp)()
                .map_err(|error| {
                    errors.push(format!("cannot read the XDP program's counters of {}: {error}", source.name));
                })
                .ok();
            interfaces.push(InterfaceReport {
                name: source.name.clone(),
                mode: source.mode,
                xdp,
                redirect_errors,
                queues,
            });
        }
        interfaces
    }
}

impl From<xsk::KernelRingStatistics> for KernelRingStatistics {
    fn from(read: xsk::KernelRingStatistics) -> Self {
        Self {
            rx_dropped: read.rx_dropped,
            rx_invalid_descs: read.rx_invalid_descs,
            tx_invalid_descs: read.tx_invalid_descs,
            rx_ring_full: read.rx_ring_full,
            rx_fill_ring_empty_descs: read.rx_fill_ring_empty_descs,
            tx_ring_empty_descs: read.tx_ring_empty_descs,
        }
    }
}

impl Traffic {
    /// Both together.
    #[must_use]
    pub(crate) fn plus(self, other: Self) -> Self {
        Self { packets: self.packets.wrapping_add(other.packets), bytes: self.bytes.wrapping_add(other.bytes) }
    }
}

/// What the document says of verdicts, wherever they are counted.
struct OutcomesReading {
    tx: Traffic,
    drops: Drops,
    drop_bytes: u64,
}

impl OutcomesReading {
    fn of<'a>(cells: impl Iterator<Item = &'a Outcomes> + Clone) -> Self {
        let sum = |count: &dyn Fn(&Outcomes) -> u64| {
            cells.clone().fold(0u64, |sum, outcomes| sum.wrapping_add(count(outcomes)))
        };
        Self {
            tx: Traffic { packets: sum(&|o| o.tx_packets.get()), bytes: sum(&|o| o.tx_bytes.get()) },
            drops: Drops(
                DropReason::ALL
                    .iter()
                    .map(|reason| (reason.name().to_owned(), sum(&|o| o.drops[reason.index()].get())))
                    .collect(),
            ),
            drop_bytes: sum(&|o| o.drop_bytes.get()),
        }
    }

    fn of_workers(cells: &PerWorker<Outcomes>) -> Self {
        let cells: Vec<&Outcomes> = cells.iter().collect();
        Self::of(cells.into_iter())
    }
}

/// What is to be said of a service, whose real servers own so many slots each.
pub(crate) fn virtual_service(
    table: &ForwardingTable,
    service: &VirtualService,
    shares: &[u32],
) -> VirtualServiceReport {
    let real_servers: Vec<RealServerReport> = table
        .real_servers_of(service)
        .iter()
        .zip(shares)
        .map(|(real_server, share)| real_server_of(table, real_server, *share))
        .collect();
    let outcomes = OutcomesReading::of_workers(&service.outcomes);
    VirtualServiceReport {
        service: service.key.to_string(),
        vip: service.key.vip,
        port: service.key.port,
        protocol: service.key.protocol,
        scheduler: service.scheduler.name().to_owned(),
        hash_by: match service.hash_by {
            HashBy::Flow => "flow",
            HashBy::Client => "client",
        }
        .to_owned(),
        table_size: service.table_size(),
        persistence_timeout_s: service.persistence.map(|persistence| persistence.timeout_s),
        connections: real_servers.iter().fold(ConnectionsReport::default(), |sum, of| sum.plus(of.connections)),
        tx: outcomes.tx,
        drops: outcomes.drops,
        drop_bytes: outcomes.drop_bytes,
        has_quorum: service.has_quorum(),
        real_servers,
        rates: Vec::new(),
    }
}

fn real_server_of(table: &ForwardingTable, real_server: &RealServer, share_slots: u32) -> RealServerReport {
    let outcomes = OutcomesReading::of_workers(&real_server.outcomes);
    let egress = real_server.next_hop.and_then(|hop| table.egresses().get(usize::from(hop.egress)));
    RealServerReport {
        address: real_server.address,
        weight: real_server.weight,
        alive: real_server.is_alive(),
        fallback: real_server.is_fallback,
        standing: match real_server.standing {
            Standing::Sound => StandingReport::Sound,
            Standing::Inhibited => StandingReport::Inhibited,
            Standing::Failed => StandingReport::Failed,
        },
        health_checks: Vec::new(),
        connection_limit: real_server.limit.map(|limit| ConnectionLimitReport {
            upper: limit.upper,
            lower: limit.lower,
            full: table.connections().all(real_server.id).any(|cell| cell.is_full(limit.upper)),
        }),
        next_hop: real_server.next_hop.map(|hop| hop.mac),
        egress: egress.map(|egress| egress.name.clone()),
        share_slots,
        connections: ConnectionsReport::of(table.connections_of(real_server)),
        tx: outcomes.tx,
        drops: outcomes.drops,
        drop_bytes: outcomes.drop_bytes,
        rates: Vec::new(),
    }
}

fn worker(source: &WorkerSource, times: &Times) -> WorkerReport {
    let counters = &source.counters;
    let outcomes = OutcomesReading::of(std::iter::once(&counters.outcomes));
    let last = counters.batches.len() - 1;
    let batch_sizes = counters.batches.iter().enumerate().map(|(at, batch)| BatchSize {
        from: 1 << at,
        to: (at < last).then(|| (2 << at) - 1),
        count: batch.bursts.get(),
        packets: batch.packets.get(),
        cycles: batch.cycles.get(),
        system_call_cycles: batch.system_call_cycles.get(),
        cycles_of_bursts: batch.costs.buckets().map(CycleBucket::of).collect(),
    });
    let (cost, cycles) = Cost::read(&counters.cost);
    WorkerReport {
        worker: source.worker,
        core: source.core,
        cycles,
        cost,
        turns: BusyIdle { busy: counters.busy_turns.get(), idle: counters.idle_turns.get() },
        cpu_time: source.clock.read(),
        sleeps: counters.sleeps.get(),
        received: Traffic::default(),
        tx: outcomes.tx,
        drops: outcomes.drops,
        drop_bytes: outcomes.drop_bytes,
        batch_sizes: batch_sizes.collect(),
        unstamped: counters.unstamped.get(),
        flows: FlowActivity::of(&counters.flows),
        flow_table: FlowTableReport::of(&source.flows),
        table_generation: counters.table_generation.get(),
        frames: Frames {
            total: counters.frames_total.get(),
            held: counters.frames_free.get(),
            quarantined: counters.frames_quarantined.get(),
            ..Frames::default()
        },
        latency: times.total.report(),
        queueing: times.queueing.report(),
        processing: times.processing.report(),
        completion: times.completion.report(),
        // No driver's time stamps are asked for.
        completion_by: CompletionBy::CompletionRing,
        rates: Vec::new(),
    }
}

fn queue_of(worker: usize, source: &QueueSource) -> QueueReport {
    let counters = &source.counters;
    // What follows is read first, so that no frame is seen to return before it went.
    let tx_completed = counters.tx_completed.get();
    let rx = Traffic { packets: counters.rx_packets.get(), bytes: counters.rx_bytes.get() };
    QueueReport {
        queue: source.queue,
        worker,
        zero_copy: source.zero_copy,
        rx,
        rx_refused: counters.rx_refused.get(),
        tx: Traffic { packets: counters.tx_packets.get(), bytes: counters.tx_bytes.get() },
        tx_completed,
        fill_submitted: counters.fill_submitted.get(),
        tx_kicks: counters.tx_kicks.get(),
        tx_kick_errors: counters.tx_kick_errors.get(),
        rx_kicks: counters.rx_kicks.get(),
        ring_statistics: None,
    }
}

fn totals(workers: &[WorkerReport], all_times: &[Times]) -> Result<Totals, CollectError> {
    let mut drops = Drops(DropReason::ALL.iter().map(|reason| (reason.name().to_owned(), 0)).collect());
    for (cause, count) in workers.iter().flat_map(|worker| &worker.drops.0) {
        let sum = drops.0.entry(cause.clone()).or_default();
        *sum = sum.wrapping_add(*count);
    }
    let mut times = Times::none()?;
    for of_worker in all_times {
        times.add(of_worker)?;
    }
    let traffic = |of: fn(&WorkerReport) -> Traffic| workers.iter().map(of).fold(Traffic::default(), Traffic::plus);
    let sum = |of: fn(&WorkerReport) -> u64| workers.iter().map(of).fold(0, u64::wrapping_add);
    Ok(Totals {
        received: traffic(|worker| worker.received),
        tx: traffic(|worker| worker.tx),
        drops,
        drop_bytes: sum(|worker| worker.drop_bytes),
        unstamped: sum(|worker| worker.unstamped),
        flows: workers.iter().map(|worker| worker.flows).fold(FlowActivity::default(), FlowActivity::plus),
        latency: times.total.report(),
        queueing: times.queueing.report(),
        processing: times.processing.report(),
        completion: times.completion.report(),
        rates: Vec::new(),
    })
}
