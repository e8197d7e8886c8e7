//! The director: owns the threads and the order of start, publish and stop. It never sees a packet.
//!
//! Its thread waits for what happens (a signal, something the network says, the end of a worker), makes a new
//! forwarding table of it and publishes it. The threads beside it: one for each worker, and one each for the neighbour
//! table, health checks, the statistics, the control socket, signals, and the service manager's watchdog.

mod announce;
mod change;
mod difference;
mod document;
mod error;
mod health;
pub mod layout;
mod manager;
mod next_hops;
pub mod plan;
pub mod preflight;
mod privileges;
mod signals;
mod softirq;
mod start;
mod threads;

pub use error::DirectorError;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{self, Receiver, RecvTimeoutError};

use crate::announce::Announcer;
use crate::clock;
use crate::config::{self, Config, VirtualServiceConfig};
use crate::control::command::{self, Command, DirectorEnd, Running};
use crate::control::socket::{Access, ControlSocket};
use crate::health::HealthChecks;
use crate::network::{NeighborWatch, NetworkEvent};
use crate::service::ServiceKey;
use crate::table::{Egress, ForwardingTable, Identities, Published, Reader, TablePlan};
use crate::wire::MacAddress;
use crate::xdp::XdpProgram;
use document::Document;
use health::Standings;
use layout::InterfaceFacts;
use manager::Watchdog;
use next_hops::NextHops;
use signals::Signal;
use threads::{Exports, Workers};

/// How long the start waits for the MAC addresses of real servers, before it takes traffic without those that are
/// missing.
const FIRST_RESOLUTION: Duration = Duration::from_millis(250);
/// After so long without an event, old forwarding tables that can be freed are, and real servers that have not been
/// found since a reload are named.
const TIDY: Duration = Duration::from_secs(1);
/// Room for what the network says while a table is built.
const EVENTS: usize = 1024;

/// How the director is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration file.
    pub config: PathBuf,
    /// Instead of the file's `stats_file`.
    pub stats_file: Option<PathBuf>,
    /// Instead of the file's `stats_interval_ms`.
    pub stats_interval: Option<Duration>,
    /// Instead of the file's `stats_format`.
    pub stats_format: Option<config::StatsFormat>,
    /// Instead of the file's `stats_rotate`, in bytes.
    pub stats_rotate: Option<u64>,
    /// Instead of the file's `stats_keep`.
    pub stats_keep: Option<u32>,
    /// Instead of the file's `control_socket`.
    pub control_socket: Option<PathBuf>,
}

/// An interface with its program.
struct Interface {
    name: String,
    facts: InterfaceFacts,
    mac: MacAddress,
    up: bool,
    program: XdpProgram,
}

/// What the director's thread waits for.
enum Event {
    Network(NetworkEvent),
    Signal(Signal),
    WorkerEnded(usize),
    Command(Command),
    /// A real server went up or down.
    Health,
}

/// Runs a director until it is told to stop.
///
/// # Errors
/// Why it could not start or had to stop. Nothing stays attached.
pub fn run(options: &Options) -> Result<(), DirectorError> {
    let text = config::read(&options.config)?;
    let (config, warnings) = change::parse(&text, &options.config.display().to_string(), options)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let started = Instant::now();
    let mut director = Director::start(config, text, options)?;
    tracing::info!(took = ?started.elapsed(), "forwarding");
    manager::tell_ready(&director.config, director.workers.count());
    preflight::log_findings(&director.config, &director.interfaces);
    let result = director.wait();
    manager::tell_stopping();
    director.stop();
    result
}

struct Director {
    options: Options,
    config: Arc<Config>,
    document: Document,
    // The programs go first when this is dropped: no more frames are redirected to sockets that are about to close.
    interfaces: Vec<Interface>,
    identities: Identities,
    next_hops: NextHops,
    published: Arc<Published<ForwardingTable>>,
    current: Reader<ForwardingTable>,
    watch: NeighborWatch,
    health: HealthChecks,
    announcer: Announcer,
    /// What the published table was built with.
    standings: Standings,
    workers: Workers,
    exports: Exports,
    watchdog: Option<Watchdog>,
    control: DirectorEnd,
    events: Receiver<Event>,
    network: Receiver<NetworkEvent>,
    /// When real servers without a way to them were looked for last.
    asked_again: Instant,
}

impl Director {
    fn start(config: Config, text: String, options: &Options) -> Result<Self, DirectorError> {
        let indices = config
            .interfaces
            .iter()
            .map(|interface| Ok(crate::network::link_by_name(&interface.name)?.index))
            .collect::<Result<Vec<u32>, DirectorError>>()?;
        start::check_limits(&config)?;
        let next_hops = NextHops::find(&config, &indices)?;
        crate::xdp::require_capabilities()?;
        // Before anything is changed, because it tells whether another director runs.
        let socket = ControlSocket::bind(&config.director.control_socket, &Access::of(&config.director))?;
        let (event_sender, events) = channel::bounded(EVENTS);
        // Signals wait from here on, but for capabilities' sake no thread starts yet.
        let signals = signals::catch()?;
        let interfaces = start::attach(&config)?;
        let prepared = start::prepare(&config, &interfaces)?;
        let napi = softirq::measure(&config, &interfaces);
        privileges::give_up()?;
        signals::watch(signals, event_sender.clone())?;
        let (network_sender, network) = channel::bounded(EVENTS);
        let watch = NeighborWatch::start(next_hops.targets(), network_sender)?;
        let mut identities = Identities::default();
        let plan = plan::table_plan(&config, egresses(&interfaces), prepared.len(), &mut identities, |_, _| None);
        let published = Published::new(ForwardingTable::build(&plan, None));
        let health = threads::health(event_sender.clone())?;
        let announcer = announce::start(&config, &interfaces)?;
        let (handle, control) = command::connect(Running::default());
        let captures = threads::capture_switch(&prepared);
        let watched = (&health, announcer.announcements());
        let exports =
            Exports::start(&config, (socket, handle), (&interfaces, napi), &prepared, &published, watched, &captures)?;
        let counters = prepared.iter().map(|worker| Arc::clone(&worker.counters)).collect();
        let workers = Workers::start(prepared, &published, &captures, event_sender)?;
        let mut director = Self {
            options: options.clone(),
            config: Arc::new(config),
            document: Document::of_file(text),
            interfaces,
            identities,
            next_hops,
            current: published.reader(),
            published,
            watch,
            health,
            announcer,
            standings: Standings::default(),
            workers,
            exports,
            watchdog: Watchdog::start(counters)?,
            control,
            events,
            network,
            asked_again: Instant::now(),
        };
        director.resolve_first()?;
        director.health.configure(&director.config);
        director.publish();
        director.next_hops.log_changes();
        director.take_services()?;
        // Not before frames are taken: who believes the answer sends them.
        director.announce();
        director.check_addresses();
        Ok(director)
    }

    /// Gives the neighbour table a moment, so that the first frames find their real servers.
    fn resolve_first(&mut self) -> Result<(), DirectorError> {
        let deadline = Instant::now() + FIRST_RESOLUTION;
        while !self.next_hops.are_complete() {
            match self.network.recv_deadline(deadline) {
                Ok(event) => {
                    self.learn(event)?;
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        Ok(())
    }

    fn wait(&mut self) -> Result<(), DirectorError> {
        loop {
            self.ask_again();
            let event = channel::select! {
                recv(self.network) -> event => event.map(Event::Network),
                recv(self.events) -> event => event,
                recv(self.control.commands) -> command => command.map(Event::Command),
                default(TIDY) => {
                    self.published.collect();
                    self.next_hops.log_changes();
                    // Should the word of it have found no room.
                    self.heed_health();
                    continue;
                }
            };
            match event {
                Ok(Event::Network(event)) => self.heed_network(event)?,
                Ok(Event::Command(command)) => self.execute(command),
                Ok(Event::Health) => self.heed_health(),
                Ok(Event::Signal(Signal::Reload)) => {
                    manager::tell_reloading();
                    self.reload();
                    manager::tell_ready(&self.config, self.workers.count());
                }
                Ok(Event::Signal(Signal::Stop(name))) => {
                    tracing::info!(signal = name, "stopping");
                    return Ok(());
                }
                Ok(Event::WorkerEnded(worker)) => return Err(DirectorError::WorkerEnded { worker }),
                Err(_) => return Ok(()),
            }
        }
    }

    /// Looks, each second at most, for real servers that there was no way to.
    fn ask_again(&mut self) {
        if !self.next_hops.some_unreachable() || self.asked_again.elapsed() < TIDY {
            return;
        }
        let indices = self.indices();
        if self.next_hops.ask_again(&self.config, &indices) {
            self.watch.set_targets(self.next_hops.targets());
            self.publish();
        }
        self.asked_again = Instant::now();
    }

    /// The kernel's numbers of the interfaces, in the order of the configuration.
    fn indices(&self) -> Vec<u32> {
        self.interfaces.iter().map(|interface| interface.facts.index).collect()
    }

    /// Takes in what the network says, and all that it has said meanwhile, and publishes once.
    fn heed_network(&mut self, first: NetworkEvent) -> Result<(), DirectorError> {
        let (mut changed, mut links) = (false, false);
        let mut next = Some(first);
        while let Some(event) = next {
            links |= matches!(event, NetworkEvent::Link { .. });
            changed |= self.learn(event)?;
            next = self.network.try_recv().ok();
        }
        if changed {
            self.publish();
            self.next_hops.log_changes();
        }
        if links {
            self.announce();
        }
        Ok(())
    }

    /// Takes in one thing. Returns whether the forwarding table is to be built anew.
    fn learn(&mut self, event: NetworkEvent) -> Result<bool, DirectorError> {
        match event {
            NetworkEvent::NextHop { device_index, address, mac } => {
                tracing::debug!(real_server = %address, ?mac, "next hop");
                Ok(self.next_hops.learn(device_index, address, mac))
            }
            NetworkEvent::Link { index, up, mac, mtu } => Ok(self.learn_link(index, up, mac, mtu)),
            NetworkEvent::LinkRemoved { index } => {
                match self.interfaces.iter().find(|interface| interface.facts.index == index) {
                    Some(interface) => Err(DirectorError::InterfaceRemoved { interface: interface.name.clone() }),
                    None => Ok(false),
                }
            }
        }
    }

    fn learn_link(&mut self, index: u32, up: bool, mac: MacAddress, mtu: u32) -> bool {
        let found = self.interfaces.iter_mut().zip(&self.config.interfaces).find(|(i, _)| i.facts.index == index);
        let Some((interface, config)) = found else { return false };
        if up != interface.up {
            interface.up = up;
            if up {
                tracing::info!(interface = interface.name, "the link is up: forwarding goes on");
            } else {
                tracing::warn!(interface = interface.name, "the link is down");
            }
        }
        if mac == interface.mac && mtu == interface.facts.mtu {
            return false;
        }
        tracing::info!(interface = interface.name, %mac, mtu, "the interface has changed");
        if mac != interface.mac {
            let settings = start::xdp_settings(&self.config, config, mac);
            if let Err(error) = interface.program.update_settings(&settings) {
                tracing::error!(interface = interface.name, %error, "frames to the new MAC address go to the kernel");
            }
        }
        interface.mac = mac;
        interface.facts.mtu = mtu;
        true
    }

    /// The plan of a table for `config`, with the real servers' next hops and what health checks say.
    fn plan(
        &self,
        config: &Config,
        identities: &mut Identities,
        next_hops: &NextHops,
        standings: &Standings,
    ) -> TablePlan {
        let egresses = egresses(&self.interfaces);
        let mut plan = plan::table_plan(config, egresses, self.workers.count(), identities, |address, mac| {
            next_hops.of(address, mac)
        });
        health::apply(standings, &mut plan);
        plan
    }

    /// Takes back the numbers of services and real servers that are gone, and by which no flow is remembered.
    pub(super) fn recycle(&self, identities: &mut Identities, services: &[VirtualServiceConfig]) {
        let table = self.current.pin();
        let services = services.iter().chain(&self.config.virtual_services);
        let longest_s = services.map(|service| service.previous_table_s).max().unwrap_or(0);
        let now_s = clock::to_seconds(clock::monotonic_ns());
        identities.recycle(now_s, longest_s, |number| {
            let counts = table.connections().sum(number);
            counts.active + counts.inactive + counts.persistent > 0
        });
    }

    /// Builds a forwarding table of what is known and publishes it.
    fn publish(&mut self) {
        self.show_paths();
        self.standings = health::standings(&self.config, &self.health);
        let mut identities = std::mem::take(&mut self.identities);
        let plan = self.plan(&self.config, &mut identities, &self.next_hops, &self.standings);
        self.recycle(&mut identities, &[]);
        self.identities = identities;
        let table = ForwardingTable::build(&plan, Some(&self.current.pin()));
        tracing::debug!(generation = table.generation(), "publishing a forwarding table");
        self.published.publish(table);
        self.show();
    }

    /// Has the programs take frames of all services of the configuration.
    fn take_services(&mut self) -> Result<(), DirectorError> {
        let keys: Vec<ServiceKey> = self.config.virtual_services.iter().map(|service| service.key).collect();
        let mut result = Ok(());
        for (interface, config) in self.interfaces.iter_mut().zip(&self.config.interfaces) {
            if config.receive {
                result = result.and(interface.program.set_services(keys.iter().copied()));
            }
        }
        Ok(result?)
    }

    /// Stops in the order that loses nothing that could be kept: VIPs are no longer answered for, no new frames, then the workers finish, then the last
    /// statistics.
    fn stop(mut self) {
        self.announcer.stop();
        for interface in &mut self.interfaces {
            interface.program.detach();
        }
        // Workers that have ended make no turns.
        drop(self.watchdog.take());
        self.workers.stop();
        self.watch.stop();
        self.health.stop();
        self.exports.stop();
        tracing::info!("stopped");
    }
}

fn egresses(interfaces: &[Interface]) -> Vec<Egress> {
    interfaces
        .iter()
        .map(|interface| Egress { name: interface.name.clone(), source: interface.mac, mtu: interface.facts.mtu })
        .collect()
}
