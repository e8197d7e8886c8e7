//! How each real server is reached: the device found at start and at reload, the MAC address as the network tells it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Bound;

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
    /// Those that nothing leads to as long as the network is as it is, and why. They count as down.
    unreachable: BTreeMap<IpAddr, String>,
    /// The last of them that was asked for again.
    asked_again: Option<IpAddr>,
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

/// How many real servers that cannot be reached are asked for again at a time, as long as none of them can.
const ASK_AGAIN: usize = 16;

/// Which real servers the kernel is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Find {
    /// All.
    All,
    /// Those that were not there before: a change of one does not cost a question for each.
    New,
}

impl NextHops {
    /// Those of a director that starts. What cannot be reached is named in the log.
    ///
    /// # Errors
    /// As [`Self::update`].
    pub(super) fn find(config: &Config, indices: &[u32]) -> Result<Self, DirectorError> {
        let mut next_hops = Self::default();
        for warning in next_hops.update(config, indices, Find::All)? {
            tracing::warn!("{warning}");
        }
        Ok(next_hops)
    }

    /// Finds the devices of all real servers of `config`, whose interfaces have these `indices`, or only of those that
    /// were not known before. MAC addresses that were known stay known.
    ///
    /// What the network may yet lead to (an address or a link of the director's is missing, as when a machine boots) is
    /// no error: it counts as down, and [`Self::ask_again`] looks for it. Returns a sentence for each that has come to
    /// that.
    ///
    /// # Errors
    /// All addresses that can be no real server's, a sentence each.
    pub(super) fn update(
        &mut self,
        config: &Config,
        indices: &[u32],
        find: Find,
    ) -> Result<Vec<String>, DirectorError> {
        let mut routes = BTreeMap::new();
        let mut unreachable = BTreeMap::new();
        let (mut warnings, mut complaints) = (Vec::new(), Vec::new());
        for (address, resolve) in addresses(config) {
            if let (Find::New, Some(known)) = (find, self.routes.get(&address)) {
                routes.insert(address, Reached { resolve, ..*known });
                continue;
            }
            match reach(address, indices, resolve) {
                Ok(reached) => {
                    routes.insert(address, reached);
                }
                Err(error @ (NetworkError::System { .. } | NetworkError::MissingCapability { .. })) => {
                    return Err(error.into());
                }
                Err(error) if may_be_reached_later(&error) => {
                    let why = error.to_string();
                    if find == Find::All || !self.unreachable.contains_key(&address) {
                        warnings.push(format!("{why}; it counts as down until there is a way"));
                    }
                    unreachable.insert(address, why);
                }
                Err(error) => complaints.push((address, error.to_string())),
            }
        }
        if !complaints.is_empty() {
            return Err(DirectorError::Unreachable(complaints));
        }
        (self.routes, self.unreachable) = (routes, unreachable);
        let routes = &self.routes;
        self.macs.retain(|(device, address), _| routes.get(address).is_some_and(|route| route.device_index == *device));
        self.named_missing.retain(|address| routes.contains_key(address));
        Ok(warnings)
    }

    /// Asks again for real servers that could not be reached: for some in turn, and for all once one of them can be.
    /// Returns whether any can.
    pub(super) fn ask_again(&mut self, config: &Config, indices: &[u32]) -> bool {
        let after = self.asked_again.map_or(Bound::Unbounded, Bound::Excluded);
        let mut turn: Vec<IpAddr> = self.unreachable.range((after, Bound::Unbounded)).map(|(a, _)| *a).collect();
        turn.extend(self.unreachable.keys().take_while(|a| self.asked_again.is_some_and(|last| **a <= last)));
        self.asked_again = turn.iter().take(ASK_AGAIN).next_back().copied();
        let known = addresses(config);
        let mut found = false;
        for (at, address) in turn.into_iter().enumerate() {
            if at >= ASK_AGAIN && !found {
                break;
            }
            let resolve = known.get(&address).copied().unwrap_or(true);
            if let Ok(reached) = reach(address, indices, resolve) {
                tracing::info!(real_server = %address, "there is a way to it now");
                self.routes.insert(address, reached);
                self.unreachable.remove(&address);
                found = true;
            }
        }
        found
    }

    /// Whether there are real servers that cannot be reached.
    pub(super) fn some_unreachable(&self) -> bool {
        !self.unreachable.is_empty()
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
                problem: None,
            }
        };
        let nowhere = self.unreachable.iter().map(|(address, why)| NextHopReport {
            address: *address,
            device: None,
            mac: None,
            state: NextHopState::Missing,
            problem: Some(why.clone()),
        });
        self.routes.iter().map(report).chain(nowhere).collect()
    }

    fn missing(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.routes
            .iter()
            .filter(|(address, route)| route.resolve && !self.macs.contains_key(&(route.device_index, **address)))
            .map(|(address, _)| *address)
    }
}

/// The addresses of all real servers and fallback servers, and whether their MAC addresses are to be asked for.
fn addresses(config: &Config) -> BTreeMap<IpAddr, bool> {
    let mut by_address: BTreeMap<IpAddr, bool> = BTreeMap::new();
    for service in &config.virtual_services {
        let fallback = service.fallback.iter().map(|server| (server.address, server.mac));
        for (address, mac) in service.real_servers.iter().map(|server| (server.address, server.mac)).chain(fallback) {
            *by_address.entry(address).or_default() |= mac.is_none();
        }
    }
    by_address
}

fn reach(address: IpAddr, indices: &[u32], resolve: bool) -> Result<Reached, NetworkError> {
    let device = on_link(address, indices)?;
    let egress = indices.iter().position(|index| *index == device.egress_interface_index);
    let egress = egress.and_then(|position| u8::try_from(position).ok());
    Ok(Reached { device_index: device.device_index, egress, resolve })
}

/// Whether an address or a link that the director does not have yet would mend it: while a machine boots another route
/// may lead elsewhere.
fn may_be_reached_later(error: &NetworkError) -> bool {
    matches!(
        error,
        NetworkError::NoRoute { .. } | NetworkError::ThroughGateway { .. } | NetworkError::InterfaceNotListed { .. }
    )
}
