//! How each real server is reached: the device found at start and at reload, the MAC address as the network tells it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::DirectorError;
use crate::config::Config;
use crate::control::command::{NextHopReport, NextHopState};
use crate::network::{NetworkError, Target, on_link};
use crate::table::NextHop;
use crate::wire::MacAddress;

/// What is known of how real servers are reached.
#[derive(Clone, Debug, Default)]
pub(super) struct NextHops {
    routes: BTreeMap<IpAddr, Reached>,
    macs: BTreeMap<(u32, IpAddr), MacAddress>,
    /// Those without a MAC address that the log has named.
    named_missing: BTreeSet<IpAddr>,
}

#[derive(Clone, Copy, Debug)]
struct Reached {
    device_index: u32,
    /// Position of the interface; a table numbers no more than 256.
    egress: Option<u8>,
    /// A MAC address of the configuration for every use of the address makes asking needless.
    resolve: bool,
}

/// Which real servers the kernel is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Find {
    /// All.
    All,
    /// Those that were not there before: a change of one does not cost a question for each.
    New,
}

impl NextHops {
    /// Finds the devices of all real servers of `config`, whose interfaces have these `indices`, or only of those that
    /// were not known before. MAC addresses that were known stay known.
    ///
    /// # Errors
    /// All real servers that direct routing cannot reach, a sentence each.
    pub(super) fn update(&mut self, config: &Config, indices: &[u32], find: Find) -> Result<(), DirectorError> {
        let mut routes = BTreeMap::new();
        let mut complaints = Vec::new();
        let addresses = config.virtual_services.iter().flat_map(|service| {
            let fallback = service.fallback.iter().map(|server| (server.address, server.mac));
            service.real_servers.iter().map(|server| (server.address, server.mac)).chain(fallback)
        });
        let mut by_address: BTreeMap<IpAddr, bool> = BTreeMap::new();
        for (address, mac) in addresses {
            *by_address.entry(address).or_default() |= mac.is_none();
        }
        for (address, resolve) in by_address {
            if let (Find::New, Some(known)) = (find, self.routes.get(&address)) {
                routes.insert(address, Reached { resolve, ..*known });
                continue;
            }
            match on_link(address, indices) {
                Ok(device) => {
                    let egress = indices.iter().position(|index| *index == device.egress_interface_index);
                    let egress = egress.and_then(|position| u8::try_from(position).ok());
                    routes.insert(address, Reached { device_index: device.device_index, egress, resolve });
                }
                Err(error @ (NetworkError::System { .. } | NetworkError::MissingCapability { .. })) => {
                    return Err(error.into());
                }
                Err(error) => complaints.push(error.to_string()),
            }
        }
        if !complaints.is_empty() {
            return Err(DirectorError::Unreachable(complaints));
        }
        self.routes = routes;
        let routes = &self.routes;
        self.macs.retain(|(device, address), _| routes.get(address).is_some_and(|route| route.device_index == *device));
        self.named_missing.retain(|address| routes.contains_key(address));
        Ok(())
    }

    /// The neighbours whose MAC addresses are to be watched.
    pub(super) fn targets(&self) -> Vec<Target> {
        self.routes
            .iter()
            .filter(|(_, route)| route.resolve)
            .map(|(address, route)| (route.device_index, *address))
            .collect()
    }

    /// Takes in what the network says. Returns whether it concerns a real server.
    pub(super) fn learn(&mut self, device_index: u32, address: IpAddr, mac: Option<MacAddress>) -> bool {
        let concerns = self.routes.get(&address).is_some_and(|route| route.device_index == device_index);
        match mac {
            Some(mac) if concerns => self.macs.insert((device_index, address), mac) != Some(mac),
            _ => self.macs.remove(&(device_index, address)).is_some(),
        }
    }

    /// How a real server is reached, `mac` being its MAC address in the configuration; `None` if that is not known.
    pub(super) fn of(&self, address: IpAddr, mac: Option<MacAddress>) -> Option<NextHop> {
        let route = self.routes.get(&address)?;
        let mac = mac.or_else(|| self.macs.get(&(route.device_index, address)).copied())?;
        Some(NextHop { mac, egress: route.egress? })
    }

    /// The device that leads to a real server, and how it is reached there.
    pub(super) fn device_of(&self, address: IpAddr, mac: Option<MacAddress>) -> Option<(u32, NextHop)> {
        Some((self.routes.get(&address)?.device_index, self.of(address, mac)?))
    }

    /// Whether the MAC address of every real server is known.
    pub(super) fn are_complete(&self) -> bool {
        self.missing().next().is_none()
    }

    /// Names in the log, once each, the real servers that have no MAC address, and those that have one again.
    pub(super) fn log_changes(&mut self) {
        let missing: BTreeSet<IpAddr> = self.missing().collect();
        for address in missing.difference(&self.named_missing) {
            tracing::warn!(
                real_server = %address,
                "no MAC address: nobody answers for it; it counts as down and its flows go to the others"
            );
        }
        for address in self.named_missing.difference(&missing) {
            if let Some(next_hop) = self.of(*address, None) {
                tracing::info!(real_server = %address, mac = %next_hop.mac, "has a MAC address again");
            }
        }
        self.named_missing = missing;
    }

    /// How each real server's address is reached, for people; `names` gives the names of interfaces by position.
    pub(super) fn report(&self, config: &Config, names: &[&str]) -> Vec<NextHopReport> {
        let mut configured: BTreeMap<IpAddr, MacAddress> = BTreeMap::new();
        for real_server in config.virtual_services.iter().flat_map(|service| &service.real_servers) {
            configured.extend(real_server.mac.map(|mac| (real_server.address, mac)));
        }
        let report = |(address, route): (&IpAddr, &Reached)| {
            let learned = self.macs.get(&(route.device_index, *address)).copied();
            let given = configured.get(address).copied().filter(|_| !route.resolve);
            NextHopReport {
                address: *address,
                device: route.egress.and_then(|egress| names.get(usize::from(egress))).map(|name| (*name).to_owned()),
                mac: given.or(learned),
                state: match (given, learned) {
                    (Some(_), _) => NextHopState::Configured,
                    (None, Some(_)) => NextHopState::Known,
                    (None, None) => NextHopState::Missing,
                },
            }
        };
        self.routes.iter().map(report).collect()
    }

    fn missing(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.routes
            .iter()
            .filter(|(address, route)| route.resolve && !self.macs.contains_key(&(route.device_index, **address)))
            .map(|(address, _)| *address)
    }
}
