//! The threads that the director owns: one for each worker, and those by which its numbers leave.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use core_affinity::CoreId;
use crossbeam::channel::Sender;

use super::start::{BoundQueue, Prepared};
use super::{DirectorError, Event, Interface};
use crate::announce::Announcements;
use crate::capture::{QueuePlace, Switch};
use crate::config::{Config, DirectorConfig};
use crate::control::api::Handle;
use crate::control::capture::Captures;
use crate::control::command::DirectorHandle;
use crate::control::flows::FlowTables;
use crate::control::metrics::{self, MetricsServer, Stats};
use crate::control::server::Server;
use crate::control::socket::ControlSocket;
use crate::health::HealthChecks;
use crate::port::xsk;
use crate::stats::collect::{Collector, InterfaceSource, QueueSource, Sources, WorkerSource};
use crate::stats::cpu::{CpuSource, NapiSource};
use crate::stats::rates::RateSampler;
use crate::stats::report::{AttachMode, KernelRingStatistics, Moment, XdpCounts};
use crate::stats::sampler::{Output, Sampler};
use crate::stats::series::{Rotation, Series};
use crate::table::{ForwardingTable, Published};
use crate::worker::Worker;
use crate::xdp::AttachedMode;

/// The running workers.
pub(super) struct Workers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts a pinned thread for each worker. When one ends, an event says so.
    pub(super) fn start(
        prepared: Vec<Prepared>,
        published: &Arc<Published<ForwardingTable>>,
        captures: &Arc<Switch>,
        events: Sender<Event>,
    ) -> Result<Self, DirectorError> {
        let mut workers = Self { stop: Arc::default(), threads: Vec::new() };
        for worker in prepared {
            let clock = Arc::clone(&worker.clock);
            let stop = Arc::clone(&workers.stop);
            let published = Arc::clone(published);
            let captures = Arc::clone(captures);
            let ended = Ended { worker: worker.settings.worker, events: events.clone() };
            let thread = thread::Builder::new()
                .name(format!("worker-{}", worker.settings.worker))
                .spawn(move || {
                    let _ended = ended;
                    clock.begin();
                    if !core_affinity::set_for_current(CoreId { id: worker.core }) {
                        tracing::warn!(
                            worker = worker.settings.worker,
                            core = worker.core,
                            "cannot pin the worker to its core: it runs wherever the scheduler puts it"
                        );
                    }
                    let tap = captures.tap(worker.settings.worker);
                    Worker::new(worker.settings, worker.port, published.reader(), worker.counters, worker.flows)
                        .with_tap(tap)
                        .run(&stop);
                    clock.end();
                })
                .map_err(|source| DirectorError::System { action: "start a worker's thread", source })?;
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.threads.len()
    }

    /// Has all of them finish what they have begun, and waits for it.
    pub(super) fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a worker panicked");
            }
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Tells the director that a worker has ended, in whatever way.
struct Ended {
    worker: usize,
    events: Sender<Event>,
}

impl Drop for Ended {
    fn drop(&mut self) {
        // While the director stops nobody listens any more, and need not.
        let _ = self.events.try_send(Event::WorkerEnded(self.worker));
    }
}

/// Starts the thread that checks real servers. When one goes up or down, an event says so.
pub(super) fn health(events: Sender<Event>) -> Result<HealthChecks, DirectorError> {
    let notify = Box::new(move || drop(events.try_send(Event::Health)));
    HealthChecks::start(notify)
        .map_err(|source| DirectorError::System { action: "start the thread for health checks", source })
}

/// The ways by which numbers leave: the control socket and the statistics file.
pub(super) struct Exports {
    server: Server,
    sampler: Option<Sampler>,
    _rates: RateSampler,
    _metrics: Option<MetricsServer>,
}

impl Exports {
    /// Serves the control socket and writes the statistics file, if there is to be one.
    pub(super) fn start(
        config: &Config,
        (socket, director): (ControlSocket, DirectorHandle),
        (interfaces, napi): (&[Interface], NapiSource),
        prepared: &[Prepared],
        tables: &Arc<Published<ForwardingTable>>,
        (health, announcements): (&HealthChecks, Announcements),
        captures: &Arc<Switch>,
    ) -> Result<Self, DirectorError> {
        let found = health.reader();
        let sources = Sources {
            started_at: Moment::now(),
            workers: prepared.iter().map(|worker| worker_source(worker, interfaces)).collect(),
            interfaces: interfaces.iter().map(interface_source).collect::<Result<_, _>>()?,
            cpus: CpuSource::new(napi),
            tables: Arc::clone(tables),
            health: Box::new(move || {
                found().into_iter().map(|(of, checks)| ((of.service, of.real_server), checks)).collect()
            }),
        };
        let collector = Arc::new(Collector::new(sources));
        let sampled = Arc::clone(&collector);
        let rates = RateSampler::start(move || sampled.sample_rates())
            .map_err(|source| DirectorError::System { action: "start the thread that samples rates", source })?;
        let sampler = match &config.director.stats_file {
            None => None,
            Some(path) => {
                let collector = Arc::clone(&collector);
                let sampler =
                    Sampler::start(output(path, &config.director), config.director.stats_interval, move || {
                        collector.collect()
                    });
                Some(
                    sampler
                        .map_err(|source| DirectorError::System { action: "start the statistics thread", source })?,
                )
            }
        };
        let flows = prepared.iter().map(|worker| worker.flows.as_peer());
        let flows = FlowTables::new(flows, Arc::clone(tables));
        let names = interfaces.iter().map(|interface| interface.name.clone());
        let captures = Captures::new(Arc::clone(captures), names, Arc::clone(tables));
        let stats: Stats = Arc::new(move || collector.collect());
        let metrics = config.director.prometheus_listen.map(|address| metrics(address, &stats)).transpose()?;
        let handle = Handle { stats, flows, director, captures, announcements };
        let server = Server::start(socket, handle)
            .map_err(|source| DirectorError::System { action: "serve the control socket", source })?;
        Ok(Self { server, sampler, _rates: rates, _metrics: metrics })
    }

    /// Writes the last statistics and closes the control socket.
    pub(super) fn stop(self) {
        if let Some(sampler) = self.sampler {
            sampler.stop();
        }
        self.server.stop();
    }
}

fn metrics(address: SocketAddr, stats: &Stats) -> Result<MetricsServer, DirectorError> {
    let server = MetricsServer::start(address, Arc::clone(stats), metrics::LIMITS)
        .map_err(|source| DirectorError::Metrics { address, source })?;
    tracing::info!(address = %server.address(), "serving /metrics");
    Ok(server)
}

fn output(path: &Path, config: &DirectorConfig) -> Output {
    if config.stats_format.is_lines(path) {
        let rotation = Rotation { bytes: config.stats_rotate, keep: config.stats_keep };
        Output::Lines(Series::new(path.to_owned(), rotation))
    } else {
        Output::Document(path.to_owned())
    }
}

/// By which captures of all workers' frames are turned on and off.
pub(super) fn capture_switch(prepared: &[Prepared]) -> Arc<Switch> {
    let place = |queue: &BoundQueue| QueuePlace { interface: queue.layout.interface, queue: queue.layout.queue };
    Switch::new(prepared.iter().map(|worker| worker.queues.iter().map(place).collect()))
}

fn worker_source(worker: &Prepared, interfaces: &[Interface]) -> WorkerSource {
    WorkerSource {
        worker: worker.settings.worker,
        core: Some(worker.core),
        clock: Arc::clone(&worker.clock),
        counters: Arc::clone(&worker.counters),
        flows: worker.flows.flows.reader(),
        queues: worker.queues.iter().map(|queue| queue_source(queue, interfaces)).collect(),
    }
}

fn queue_source(queue: &BoundQueue, interfaces: &[Interface]) -> QueueSource {
    let socket = Arc::clone(&queue.socket);
    QueueSource {
        interface: interfaces.get(queue.layout.interface).map(|interface| interface.name.clone()).unwrap_or_default(),
        queue: queue.layout.queue,
        zero_copy: queue.zero_copy,
        counters: Arc::clone(&queue.counters),
        kernel: Box::new(move || kernel_statistics(&socket)),
    }
}

fn kernel_statistics(socket: &xsk::SocketHandle) -> io::Result<KernelRingStatistics> {
    Ok(socket.statistics()?.into())
}

fn interface_source(interface: &Interface) -> Result<InterfaceSource, DirectorError> {
    let counts = interface.program.counters().try_clone()?;
    let errors = interface.program.counters().try_clone()?;
    Ok(InterfaceSource {
        name: interface.name.clone(),
        mode: match interface.program.mode() {
            Some(AttachedMode::Native) => AttachMode::Native,
            _ => AttachMode::Generic,
        },
        xdp: Box::new(move || {
            counts.read().map_err(|error| error.to_string()).map(|read| XdpCounts {
                redirected: read.redirected,
                passed: read.passed,
                not_our_mac: read.not_our_mac,
                malformed: read.malformed,
                no_socket: read.no_socket,
                unstamped: read.unstamped,
            })
        }),
        redirect_errors: Box::new(move || errors.redirect_errors().ok().flatten().map(|errors| errors.others)),
    })
}
