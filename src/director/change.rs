//! Changes of what the director runs by, from the file or from the control socket. Both go the same way: a text is
//! read, judged and built into a forwarding table, and only then anything changes.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::announce::unanswered_vips;
use super::difference::difference;
use super::health::{self, Standings};
use super::next_hops::{Find, NextHops};
use super::{Director, DirectorError, Options, start};
use crate::config::edit::Change;
use crate::config::{self, Config, DirectorConfig, RestartNeeded, edit};
use crate::control::command::{ChangeReport, ChangeRequest, Command, Refusal, Running};
use crate::service::ServiceKey;
use crate::table::{ForwardingTable, Identities, TablePlan};

/// A configuration that can be applied, with all that is made of it.
struct Candidate {
    config: Config,
    next_hops: NextHops,
    identities: Identities,
    plan: TablePlan,
    /// What health checks said when the table was built.
    standings: Standings,
    table: ForwardingTable,
    build_time: Duration,
    restart_needed: Vec<RestartNeeded>,
    warnings: Vec<String>,
    /// What the network lacks for it.
    network_warnings: Vec<String>,
}

impl Director {
    /// Does what a client of the control socket asks for, and answers.
    pub(super) fn execute(&mut self, command: Command) {
        let result = self.change(&command.request);
        if let Err(error @ (Refusal::Incomplete(_) | Refusal::Save(_))) = &result {
            tracing::error!("a change by the control socket: {error}");
        }
        // Whoever asked may be gone.
        let _ = command.reply.send(result);
    }

    fn change(&mut self, request: &ChangeRequest) -> Result<ChangeReport, Refusal> {
        let current = self.document.revision();
        let mut edited = edit::apply(self.document.text(), &request.changes)?;
        edited.text = edit::with_secret(&edited.text, self.config.director.secret.as_deref()).into_owned();
        let candidate = self.prepare(&edited.text, "the configuration", Find::New);
        let candidate = match candidate {
            Ok(candidate) => candidate,
            Err(DirectorError::Config(error)) => return Err(Refusal::Config { error, edited }),
            Err(DirectorError::Unreachable(complaints)) => return Err(no_real_servers(&complaints, &request.changes)),
            Err(error) => return Err(Refusal::Impossible(error.to_string())),
        };
        // Only now: what is wrong without the precondition is wrong with it, too (RFC 9110, section 13.2.1).
        if request.if_revision.as_ref().is_some_and(|wanted| !wanted.contains(&current)) {
            return Err(Refusal::Revision { current });
        }
        let mut report = {
            let before = self.current.pin();
            difference((&self.config, &before), (&candidate.config, &candidate.table))
        };
        report.restart_needed.clone_from(&candidate.restart_needed);
        report.warnings.clone_from(&candidate.warnings);
        report.network_warnings.clone_from(&candidate.network_warnings);
        report.build_us = u64::try_from(candidate.build_time.as_micros()).unwrap_or(u64::MAX);
        report.dry_run = request.dry_run;
        report.revision = current;
        if request.dry_run {
            return Ok(report);
        }
        if request.persist {
            self.document.save(&self.options.config, &edited.text)?;
            report.persisted = true;
        }
        let result = self.apply(candidate);
        self.document.change(edited.text, request.changes.len() as u64);
        if request.persist {
            self.document.is_saved();
        }
        self.show();
        report.revision = self.document.revision();
        tracing::info!(
            changes = request.changes.len(),
            revision = report.revision,
            persisted = report.persisted,
            "changed by the control socket"
        );
        result.map(|()| report).map_err(|error| Refusal::Incomplete(error.to_string()))
    }

    /// Reads the configuration file again and applies what can be applied. A bad file changes nothing.
    pub(super) fn reload(&mut self) {
        let started = Instant::now();
        let path = self.options.config.clone();
        let new = config::read(&path).map_err(DirectorError::from).and_then(|text| {
            let candidate = self.prepare(&text, &path.display().to_string(), Find::All)?;
            Ok((text, candidate))
        });
        let (text, candidate) = match new {
            Ok(new) => new,
            Err(error) => {
                tracing::error!("not reloaded, everything stays as it was: {error}");
                return;
            }
        };
        for warning in candidate.warnings.iter().chain(&candidate.network_warnings) {
            tracing::warn!("{warning}");
        }
        for difference in &candidate.restart_needed {
            tracing::warn!("{difference}");
        }
        let result = self.apply(candidate);
        self.check_addresses();
        let lost = self.document.reload(text);
        self.show();
        if lost > 0 {
            tracing::warn!(changes = lost, "the file has taken the place of changes made at run time, which are lost");
        }
        match result {
            Ok(()) => tracing::info!(
                services = self.config.virtual_services.len(),
                took = ?started.elapsed(),
                "reloaded {}",
                path.display()
            ),
            Err(error) => {
                tracing::error!("reloaded, but the XDP program did not take over all of it: {error}; reload once more");
            }
        }
    }

    /// Reads a configuration, finds the next hops that it needs and builds its forwarding table. Whatever may be wrong
    /// with a text is found here, before anything changes.
    fn prepare(&self, text: &str, origin: &str, find: Find) -> Result<Candidate, DirectorError> {
        let (mut new, warnings) = parse(text, origin, &self.options)?;
        let restart_needed = self.config.restart_differences(&new);
        let virtual_macs: Vec<_> = new.interfaces.iter().map(|i| (i.name.clone(), i.virtual_macs.clone())).collect();
        new.interfaces = self.config.interfaces.clone();
        for interface in &mut new.interfaces {
            if let Some((_, macs)) = virtual_macs.iter().find(|(name, _)| *name == interface.name) {
                interface.virtual_macs = macs.clone();
            }
        }
        let DirectorConfig { secret, announce, announce_at_start, .. } = new.director;
        let DirectorConfig { tcp_timeout_s, tcp_fin_timeout_s, udp_timeout_s, .. } = new.director;
        new.director = DirectorConfig {
            secret,
            announce,
            announce_at_start,
            tcp_timeout_s,
            tcp_fin_timeout_s,
            udp_timeout_s,
            ..self.config.director.clone()
        };
        start::check_limits(&new)?;
        let mut next_hops = self.next_hops.clone();
        let indices = self.indices();
        let mut network_warnings = next_hops.update(&new, &indices, find)?;
        if find == Find::New {
            let had: BTreeSet<IpAddr> = self.config.virtual_services.iter().map(|service| service.key.vip).collect();
            let unanswered = unanswered_vips(&new).into_iter().filter(|(vip, _)| !had.contains(vip));
            network_warnings.extend(unanswered.map(|(_, sentence)| sentence));
        }
        let mut identities = self.identities.clone();
        let started = Instant::now();
        let standings = health::standings(&new, &self.health);
        let plan = self.plan(&new, &mut identities, &next_hops, &standings);
        self.recycle(&mut identities, &new.virtual_services);
        let table = ForwardingTable::build(&plan, Some(&self.current.pin()));
        let build_time = started.elapsed();
        Ok(Candidate {
            config: new,
            next_hops,
            identities,
            plan,
            standings,
            table,
            build_time,
            restart_needed,
            warnings,
            network_warnings,
        })
    }

    /// Applies a configuration. What fails does not keep the rest from being done.
    fn apply(&mut self, new: Candidate) -> Result<(), DirectorError> {
        let gone = missing_in(&self.config, &new.config);
        self.config = Arc::new(new.config);
        self.next_hops = new.next_hops;
        self.identities = new.identities;
        self.watch.set_targets(self.next_hops.targets());
        self.health.configure(&self.config);
        self.show_paths();
        self.standings = health::standings(&self.config, &self.health);
        let mut table = new.table;
        if self.standings != new.standings {
            // Checks that are new say what they were configured to say at first.
            let mut plan = new.plan;
            health::apply(&self.standings, &mut plan);
            table = ForwardingTable::build(&plan, Some(&table));
        }
        // A service that goes is no longer taken before the table forgets it, one that comes is in the table before it
        // is taken: no frame meets a table without its service.
        let mut result = Ok(());
        for (interface, config) in self.interfaces.iter_mut().zip(&self.config.interfaces) {
            let settings = start::xdp_settings(&self.config, config, interface.mac);
            let removed = interface.program.remove_services(gone.iter().copied());
            result = result.and(removed).and(interface.program.update_settings(&settings));
        }
        tracing::debug!(generation = table.generation(), "publishing a forwarding table");
        self.published.publish(table);
        let taken = self.take_services();
        self.announce();
        taken.and(result.map_err(DirectorError::from))
    }

    /// Tells the control socket what the director runs by.
    pub(super) fn show(&self) {
        let names: Vec<&str> = self.interfaces.iter().map(|interface| interface.name.as_str()).collect();
        self.control.show(Running {
            revision: self.document.revision(),
            document: Arc::clone(self.document.text()),
            config: Arc::clone(&self.config),
            unsaved_changes: self.document.unsaved_changes(),
            next_hops: self.next_hops.report(&self.config, &names).into(),
        });
    }
}

/// Validates a text and puts the command line's settings in the place of its own. With the warnings.
pub(super) fn parse(text: &str, origin: &str, options: &Options) -> Result<(Config, Vec<String>), DirectorError> {
    let loaded = config::parse(text, origin)?;
    loaded.config.require_interfaces()?;
    let mut config = loaded.config;
    if let Some(path) = &options.stats_file {
        config.director.stats_file = Some(path.clone());
    }
    if let Some(format) = options.stats_format {
        config.director.stats_format = format;
    }
    if let Some(bytes) = options.stats_rotate {
        config.director.stats_rotate = bytes;
    }
    if let Some(keep) = options.stats_keep {
        config.director.stats_keep = keep;
    }
    if let Some(interval) = options.stats_interval {
        config.director.stats_interval = interval;
    }
    if let Some(path) = &options.control_socket {
        config.director.control_socket = path.clone();
    }
    Ok((config, loaded.warnings.iter().map(ToString::to_string).collect()))
}

/// The refusal of addresses that can be no real server's, led back to the change that names one of them.
fn no_real_servers(complaints: &[(IpAddr, String)], changes: &[Change]) -> Refusal {
    let refused = |change: &Change| match change {
        Change::AddRealServer { address, .. } => complaints.iter().find(|(refused, _)| refused == address),
        _ => None,
    };
    let named = changes.iter().enumerate().find_map(|(at, change)| Some((at, refused(change)?)));
    match named {
        Some((at, (_, why))) => Refusal::RealServer { message: why.clone(), position: Some(at) },
        None => {
            let all: Vec<&str> = complaints.iter().map(|(_, why)| why.as_str()).collect();
            Refusal::RealServer { message: all.join("\n"), position: None }
        }
    }
}

/// The services of `old` that `new` does not have.
fn missing_in(old: &Config, new: &Config) -> Vec<ServiceKey> {
    let kept: BTreeSet<ServiceKey> = new.virtual_services.iter().map(|service| service.key).collect();
    old.virtual_services.iter().map(|service| service.key).filter(|key| !kept.contains(key)).collect()
}
