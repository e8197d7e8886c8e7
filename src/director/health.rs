//! What health checks mean for the forwarding table, and what they need to know of the network.

use std::collections::BTreeMap;

use super::Director;
use crate::config::{Config, RealServerConfig, VirtualServiceConfig};
use crate::health::HealthChecks;
use crate::health::target::{DirectPath, Target};
use crate::table::{Standing, TablePlan};

/// What health checks say of each real server.
pub(super) type Standings = BTreeMap<Target, Standing>;

/// What the checks say at this moment.
pub(super) fn standings(config: &Config, health: &HealthChecks) -> Standings {
    real_servers(config)
        .map(|(service, real_server)| {
            let target = Target { service: service.key, real_server: real_server.address };
            let standing = match (health.is_up(&target), service.inhibits(real_server)) {
                (true, _) => Standing::Sound,
                (false, true) => Standing::Inhibited,
                (false, false) => Standing::Failed,
            };
            (target, standing)
        })
        .collect()
}

/// Writes them into the plan of a table.
pub(super) fn apply(standings: &Standings, plan: &mut TablePlan) {
    for service in &mut plan.services {
        for real_server in &mut service.real_servers {
            let target = Target { service: service.key, real_server: real_server.address };
            real_server.standing = standings.get(&target).copied().unwrap_or_default();
        }
    }
}

impl Director {
    /// Publishes a table if real servers went up or down; what was only asked again changes nothing.
    pub(super) fn heed_health(&mut self) {
        if standings(&self.config, &self.health) != self.standings {
            self.publish();
        }
    }

    /// Tells the checks how real servers are reached.
    pub(super) fn show_paths(&self) {
        let path = |real_server: &RealServerConfig| {
            let (device_index, next_hop) = self.next_hops.device_of(real_server.address, real_server.mac)?;
            let interface = self.interfaces.get(usize::from(next_hop.egress))?;
            Some(DirectPath { device_index, mac: next_hop.mac, mtu: interface.facts.mtu })
        };
        let paths: BTreeMap<Target, DirectPath> = real_servers(&self.config)
            .filter_map(|(service, real_server)| {
                let target = Target { service: service.key, real_server: real_server.address };
                Some((target, path(real_server)?))
            })
            .collect();
        self.health.set_paths(|target| paths.get(target).copied());
    }
}

fn real_servers(config: &Config) -> impl Iterator<Item = (&VirtualServiceConfig, &RealServerConfig)> {
    config
        .virtual_services
        .iter()
        .flat_map(|service| service.real_servers.iter().map(move |real_server| (service, real_server)))
}
