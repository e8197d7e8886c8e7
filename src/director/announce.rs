//! Who answers for the VIPs: the director where the configuration says `announce = "arp"`, else the kernel, whose
//! addresses are looked at.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Director, DirectorError, Interface};
use crate::announce::{Announcer, Place, Role};
use crate::config::{Announce, Config};
use crate::doctor::direct_routing;
use crate::network::not_local;

/// Starts the thread that answers, which answers for nothing yet.
pub(super) fn start(config: &Config, interfaces: &[Interface]) -> Result<Announcer, DirectorError> {
    if announced(config, Announce::Arp).next().is_some() {
        Announcer::check(&places(config, interfaces))?;
    }
    let role = if config.director.announce_at_start { Role::Active } else { Role::Standby };
    Announcer::start(role)
        .map_err(|source| DirectorError::System { action: "start the thread that answers for VIPs", source })
}

impl Director {
    /// Has the VIPs of the configuration answered for, on the interfaces as they are.
    pub(super) fn announce(&self) {
        let vips = announced(&self.config, Announce::Arp);
        self.announcer.update(vips, places(&self.config, &self.interfaces));
    }

    /// Names VIPs that the kernel is to answer for and cannot.
    pub(super) fn check_addresses(&self) {
        for (vip, sentence) in unanswered_vips(&self.config) {
            tracing::warn!(%vip, "{sentence}");
        }
    }
}

/// The VIPs that the kernel is to answer for and cannot, because they are no addresses of this machine, with a sentence
/// for each.
pub(super) fn unanswered_vips(config: &Config) -> Vec<(IpAddr, String)> {
    let interface = config.interfaces.iter().find(|interface| interface.receive);
    let device = interface.map_or("eth0", |interface| interface.name.as_str());
    let vips: BTreeSet<IpAddr> = announced(config, Announce::Kernel).collect();
    let sentence = |vip| {
        format!(
            "the VIP {vip} is no address of this machine, so its kernel does not answer for it: {}; or announce = \
             \"arp\". On a standby whose keepalived adds it when it takes over, all is well",
            direct_routing::address_command(vip, device)
        )
    };
    not_local(vips).into_iter().map(|vip| (vip, sentence(vip))).collect()
}

fn announced(config: &Config, how: Announce) -> impl Iterator<Item = IpAddr> {
    let services = config.virtual_services.iter().filter(move |service| service.announce == how);
    services.map(|service| service.key.vip)
}

fn places(config: &Config, interfaces: &[Interface]) -> Vec<Place> {
    let receiving = interfaces.iter().zip(&config.interfaces).filter(|(_, config)| config.receive);
    let place = |(interface, config): (&Interface, &crate::config::InterfaceConfig)| Place {
        index: interface.facts.index,
        name: interface.name.clone(),
        mac: interface.mac,
        virtual_mac: config.virtual_macs.first().copied().filter(|mac| *mac != interface.mac),
        up: interface.up,
    };
    receiving.map(place).collect()
}
