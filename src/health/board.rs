//! What the checks have found: written by the thread that makes them, read by whoever asks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::failure::Answer;
use super::probe::Circumstances;
use super::state::{CheckState, Rules};
use super::target::{DirectPath, Target};
use crate::clock;
use crate::config::{Config, HealthCheckConfig, InitialState, Via};
use crate::stats::report::{HealthCheckReport, HealthState};

/// The checks of all real servers and what they have found.
#[derive(Default)]
pub(super) struct Board {
    servers: Mutex<Servers>,
}

#[derive(Default)]
struct Servers {
    by_target: BTreeMap<Target, Server>,
    vips: Arc<BTreeSet<IpAddr>>,
    next_id: u64,
}

#[derive(Default)]
struct Server {
    weight: u32,
    path: Option<DirectPath>,
    checks: Vec<Check>,
}

/// One check of one real server.
struct Check {
    /// By which its answers find it; those of a check that was removed find nothing.
    id: u64,
    config: HealthCheckConfig,
    state: CheckState,
    since_unix_ns: u64,
    last: Option<Last>,
    checks: u64,
    failures: u64,
}

struct Last {
    result: String,
    good: bool,
    unix_ns: u64,
    took: Duration,
}

/// A check that is to be made.
#[derive(Clone)]
pub(super) struct Job {
    pub(super) id: u64,
    pub(super) target: Target,
    pub(super) config: HealthCheckConfig,
}

impl Board {
    /// Takes over the checks of a configuration. Returns all of them. What is known of real servers stays known: a reload
    /// must not send flows to one that is down, nor take one out that is up.
    ///
    /// A check that it had before keeps what it has found, and one of the same kind, way and port as one that is gone
    /// takes that one's place. Another new check begins as its real server counts; where nothing is known of that, as it
    /// is told to.
    pub(super) fn configure(&self, config: &Config) -> Vec<Job> {
        let mut servers = self.lock();
        let mut before = std::mem::take(&mut servers.by_target);
        servers.vips = Arc::new(config.virtual_services.iter().map(|service| service.key.vip).collect());
        let mut jobs = Vec::new();
        for service in &config.virtual_services {
            for real_server in &service.real_servers {
                let wanted = service.health_checks_of(real_server);
                if wanted.is_empty() {
                    continue;
                }
                let target = Target { service: service.key, real_server: real_server.address };
                let known = before.remove(&target);
                let server = Server {
                    weight: real_server.weight,
                    path: known.as_ref().and_then(|server| server.path),
                    checks: take_over(known, wanted, &mut servers.next_id),
                };
                let job = |check: &Check| Job { id: check.id, target, config: check.config.clone() };
                jobs.extend(server.checks.iter().map(job));
                servers.by_target.insert(target, server);
            }
        }
        jobs
    }

    /// How the real servers are reached from now on.
    pub(super) fn set_paths(&self, path: impl Fn(&Target) -> Option<DirectPath>) {
        for (target, server) in &mut self.lock().by_target {
            server.path = path(target);
        }
    }

    /// What questions to a real server depend on.
    pub(super) fn circumstances(&self, target: &Target) -> Circumstances {
        let servers = self.lock();
        let (path, weight) = servers.by_target.get(target).map_or((None, 0), |server| (server.path, server.weight));
        Circumstances { path, weight, vips: Arc::clone(&servers.vips) }
    }

    /// Whether all checks of a real server are up; one without any check is well.
    pub(super) fn is_up(&self, target: &Target) -> bool {
        self.lock().by_target.get(target).is_none_or(Server::is_up)
    }

    /// Takes in an answer and tells the log if it changes anything. Returns whether its real server went up or down.
    pub(super) fn learn(&self, job: &Job, answer: &Answer, took: Duration) -> bool {
        let mut servers = self.lock();
        let Some(server) = servers.by_target.get_mut(&job.target) else { return false };
        let was_up = server.is_up();
        let Some(check) = server.checks.iter_mut().find(|check| check.id == job.id) else { return false };
        if check.learn(answer, took) {
            check.log(&job.target);
        }
        server.is_up() != was_up
    }

    /// Whether a check is up, and its last answer was a bad one.
    pub(super) fn is_in_doubt(&self, job: &Job) -> bool {
        let servers = self.lock();
        let mut checks = servers.by_target.get(&job.target).into_iter().flat_map(|server| &server.checks);
        checks.any(|check| check.id == job.id && check.state.is_in_doubt())
    }

    /// What the checks of all real servers have found.
    pub(super) fn report(&self) -> Vec<(Target, Vec<HealthCheckReport>)> {
        let servers = self.lock();
        let report = |server: &Server| server.checks.iter().map(Check::report).collect();
        servers.by_target.iter().map(|(target, server)| (*target, report(server))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Servers> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The checks `wanted` of a real server, with what is `known` of it.
fn take_over(known: Option<Server>, wanted: &[HealthCheckConfig], next_id: &mut u64) -> Vec<Check> {
    let counts_as = known.as_ref().map(|server| if server.is_up() { InitialState::Up } else { InitialState::Down });
    let mut known = known.map(|server| server.checks).unwrap_or_default();
    let mut take = |fits: &dyn Fn(&Check) -> bool| known.iter().position(fits).map(|at| known.swap_remove(at));
    // Those that are as they were come first: no changed one is to take their place.
    let unchanged: Vec<Option<Check>> = wanted.iter().map(|config| take(&|check| check.config == *config)).collect();
    let checks = wanted.iter().zip(unchanged).map(|(config, unchanged)| {
        unchanged.unwrap_or_else(|| {
            *next_id += 1;
            match take(&|check| check.asks_as(config)) {
                Some(check) => check.changed_to(*next_id, config),
                None => Check::new(*next_id, config, counts_as.unwrap_or(config.initial)),
            }
        })
    });
    checks.collect()
}

impl Server {
    fn is_up(&self) -> bool {
        self.checks.iter().all(|check| check.state.is_up())
    }
}

impl Check {
    fn new(id: u64, config: &HealthCheckConfig, initial: InitialState) -> Self {
        Self {
            id,
            state: CheckState::new(Rules::from(config), initial),
            config: config.clone(),
            since_unix_ns: unix_ns(),
            last: None,
            checks: 0,
            failures: 0,
        }
    }

    /// Whether it asks the same of the same, if perhaps in another way or at other times.
    fn asks_as(&self, config: &HealthCheckConfig) -> bool {
        let of = |config: &HealthCheckConfig| (config.kind.name(), config.via, config.port);
        of(&self.config) == of(config)
    }

    /// What it has found, for a check of another configuration, whose answers find it by `id`.
    fn changed_to(self, id: u64, config: &HealthCheckConfig) -> Self {
        Self { id, state: self.state.under(Rules::from(config)), config: config.clone(), ..self }
    }

    fn learn(&mut self, answer: &Answer, took: Duration) -> bool {
        let (good, result) = match answer {
            Ok(good) => (true, good.to_string()),
            Err(failure) => (false, failure.to_string()),
        };
        let unix_ns = unix_ns();
        self.checks += 1;
        self.failures += u64::from(!good);
        self.last = Some(Last { result, good, unix_ns, took });
        let changed = self.state.learn(good, now());
        if changed {
            self.since_unix_ns = unix_ns;
        }
        changed
    }

    fn log(&self, target: &Target) {
        let (service, real_server, check) = (&target.service, &target.real_server, self.report().name());
        let reason = self.last.as_ref().map_or("", |last| last.result.as_str());
        if self.state.is_up() {
            tracing::info!(%service, %real_server, check, "up: {reason}");
            return;
        }
        tracing::warn!(%service, %real_server, check, "down: {reason}");
        let needed = self.state.needed_rise(now());
        if needed > self.config.rise {
            let (rise, window_s) = (self.config.rise, self.config.flap_window_s);
            tracing::warn!(
                %service,
                %real_server,
                check,
                "it has gone down more than once within {window_s} s: it takes {needed} good answers now, not {rise}, to \
                 be up again"
            );
        }
    }

    fn report(&self) -> HealthCheckReport {
        HealthCheckReport {
            kind: self.config.kind.name().to_owned(),
            via: match self.config.via {
                Via::Address => "address",
                Via::Direct => "direct",
            }
            .to_owned(),
            port: self.config.port,
            state: if self.state.is_up() { HealthState::Up } else { HealthState::Down },
            since_unix_ns: self.since_unix_ns,
            last_result: self.last.as_ref().map(|last| last.result.clone()),
            last_good: self.last.as_ref().map(|last| last.good),
            last_unix_ns: self.last.as_ref().map(|last| last.unix_ns),
            last_took_ns: self.last.as_ref().map(|last| u64::try_from(last.took.as_nanos()).unwrap_or(u64::MAX)),
            checks: self.checks,
            failures: self.failures,
            flaps: self.state.flaps(),
            needed_rise: self.state.needed_rise(now()),
        }
    }
}

/// On a clock that never goes back.
fn now() -> Duration {
    Duration::from_nanos(clock::monotonic_ns())
}

fn unix_ns() -> u64 {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(unix.as_nanos()).unwrap_or(u64::MAX)
}
