//! Whether direct routing can reach a real server, and by which interface.
//!
//! The route names the device on whose link the real server is; that is where its MAC address is looked up. The frame
//! leaves by a *configured* interface, which is the same one or lies below it: the parent of a VLAN interface, a port
//! of a bridge or a bond.

use std::net::IpAddr;

use super::NetworkError;
use super::link::{Link, links};
use super::route::{Route, RouteKind, route_to};

/// VLAN on VLAN on bridge on bond: more storeys than that are a loop.
const MAX_STOREYS: usize = 8;

/// How a real server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextHopDevice {
    /// The interface on whose link the real server is: neighbour lookups and the source MAC belong to it.
    pub device_index: u32,
    /// The configured interface that the frame leaves by.
    pub egress_interface_index: u32,
    /// The VLAN ids between the two, outermost tag first; empty where the frame leaves untagged.
    pub vlan_ids: Vec<u16>,
}

/// Finds how `address` is reached by one of the configured interfaces `allowed` (indexes, in the order of the
/// configuration).
///
/// A VLAN or macvlan interface counts as the configured interface below it. A bridge, bond or team counts as its one
/// configured port; of several ports of a bond the first that is up is taken, and of a bridge it is an error, since
/// only the port that the real server is behind would do. (That the real server is behind the configured port of a
/// bridge and not behind another is taken on trust.)
///
/// # Errors
/// A sentence on why direct routing cannot reach it (see [`NetworkError`]), or a failure to ask the kernel.
pub fn on_link(address: IpAddr, allowed: &[u32]) -> Result<NextHopDevice, NetworkError> {
    // Asked first: the routing table would answer with just any of the interfaces.
    if matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()) {
        return Err(NetworkError::LinkLocal { address });
    }
    let route = route_to(address)?;
    locate(address, &route, &links()?, allowed)
}

/// [`on_link`] over what the kernel said.
fn locate(address: IpAddr, route: &Route, links: &[Link], allowed: &[u32]) -> Result<NextHopDevice, NetworkError> {
    let device_index = match (route.kind, route.interface_index) {
        (RouteKind::Unicast, Some(index)) => index,
        (RouteKind::Local, _) if address.is_unspecified() => {
            return Err(NetworkError::NotUnicast { address, kind: RouteKind::Local });
        }
        (RouteKind::Local, _) => return Err(NetworkError::OwnAddress { address }),
        (kind @ (RouteKind::Broadcast | RouteKind::Multicast | RouteKind::Anycast), _) => {
            return Err(NetworkError::NotUnicast { address, kind });
        }
        (kind, _) => return Err(NetworkError::NoRoute { address, kind }),
    };
    if address.is_multicast() {
        return Err(NetworkError::NotUnicast { address, kind: RouteKind::Multicast });
    }
    if let Some(gateway) = route.gateway.filter(|gateway| *gateway != address) {
        return Err(NetworkError::ThroughGateway { address, gateway, interface: name_of(links, device_index) });
    }
    let mut vlan_ids = Vec::new();
    match egress(address, device_index, links, allowed, &mut vlan_ids)? {
        Some(egress_interface_index) => Ok(NextHopDevice { device_index, egress_interface_index, vlan_ids }),
        None => Err(NetworkError::InterfaceNotListed {
            address,
            interface: name_of(links, device_index),
            listed: allowed.iter().map(|index| name_of(links, *index)).collect(),
        }),
    }
}

/// Walks down from `device_index` to a configured interface, noting the VLAN tags on the way, outermost first.
fn egress(
    address: IpAddr,
    device_index: u32,
    links: &[Link],
    allowed: &[u32],
    vlan_ids: &mut Vec<u16>,
) -> Result<Option<u32>, NetworkError> {
    let mut index = device_index;
    for _ in 0..MAX_STOREYS {
        if allowed.contains(&index) {
            return Ok(Some(index));
        }
        let Some(link) = links.iter().find(|link| link.index == index) else { return Ok(None) };
        match link.parent {
            Some(parent) => {
                if let Some(id) = link.vlan_id {
                    vlan_ids.insert(0, id);
                }
                index = parent;
            }
            None => return configured_port(address, link, links, allowed),
        }
    }
    Ok(None)
}

/// The configured interface that is a port of `controller`, if any.
fn configured_port(
    address: IpAddr,
    controller: &Link,
    links: &[Link],
    allowed: &[u32],
) -> Result<Option<u32>, NetworkError> {
    let ports: Vec<&Link> = allowed
        .iter()
        .filter_map(|index| links.iter().find(|link| link.index == *index))
        .filter(|link| link.controller == Some(controller.index))
        .collect();
    if ports.len() > 1 && controller.kind.as_deref() == Some("bridge") {
        return Err(NetworkError::SeveralPorts {
            address,
            bridge: controller.name.clone(),
            ports: ports.iter().map(|port| port.name.clone()).collect(),
        });
    }
    Ok(ports.iter().find(|port| port.up).or(ports.first()).map(|port| port.index))
}

fn name_of(links: &[Link], index: u32) -> String {
    links.iter().find(|link| link.index == index).map_or_else(|| format!("interface {index}"), |link| link.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::MacAddress;

    fn link(index: u32, name: &str) -> Link {
        Link {
            index,
            name: name.into(),
            mac: MacAddress::new([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            up: true,
            parent: None,
            controller: None,
            kind: None,
            vlan_id: None,
        }
    }

    fn vlan(index: u32, name: &str, parent: u32, id: u16) -> Link {
        Link { parent: Some(parent), kind: Some("vlan".into()), vlan_id: Some(id), ..link(index, name) }
    }

    fn port(index: u32, name: &str, controller: u32) -> Link {
        Link { controller: Some(controller), ..link(index, name) }
    }

    fn of_kind(index: u32, name: &str, kind: &str) -> Link {
        Link { kind: Some(kind.into()), ..link(index, name) }
    }

    /// 1 eth0; 2 eth1; 3 eth0.10; 4 eth0.10.20 (QinQ); 5 br0 of 6 eth2 and 7 eth3; 8 bond0 of 9 eth4 (down), 10 eth5;
    /// 11 bond0.30; 12 and 13 are a loop.
    fn town() -> Vec<Link> {
        vec![
            link(1, "eth0"),
            link(2, "eth1"),
            vlan(3, "eth0.10", 1, 10),
            vlan(4, "eth0.10.20", 3, 20),
            of_kind(5, "br0", "bridge"),
            port(6, "eth2", 5),
            port(7, "eth3", 5),
            of_kind(8, "bond0", "bond"),
            Link { up: false, ..port(9, "eth4", 8) },
            port(10, "eth5", 8),
            vlan(11, "bond0.30", 8, 30),
            vlan(12, "a", 13, 1),
            vlan(13, "b", 12, 1),
        ]
    }

    fn address() -> IpAddr {
        "10.9.0.5".parse().unwrap()
    }

    fn route(kind: RouteKind, interface_index: Option<u32>) -> Route {
        Route { kind, interface_index, gateway: None, preferred_source: None }
    }

    #[test]
    fn the_way_down_to_a_configured_interface() {
        type Row<'a> = (&'a str, u32, &'a [u32], (u32, &'a [u16]));
        let reached: &[Row<'_>] = &[
            ("the interface itself", 1, &[1], (1, &[])),
            ("one of two", 2, &[1, 2], (2, &[])),
            ("VLAN counts as its parent", 3, &[1], (1, &[10])),
            ("QinQ, outer tag first", 4, &[1], (1, &[10, 20])),
            ("configured VLAN interface", 3, &[3], (3, &[])),
            ("inner tag on a configured VLAN interface", 4, &[3], (3, &[20])),
            ("configured port counts as its bridge", 5, &[1, 7], (7, &[])),
            ("configured bridge", 5, &[5, 6, 7], (5, &[])),
            ("first bond port that is up", 8, &[9, 10], (10, &[])),
            ("a bond port that is down but the only one", 8, &[9], (9, &[])),
            ("VLAN on a bond", 11, &[10], (10, &[30])),
        ];
        for (what, device, allowed, (egress, vlan_ids)) in reached {
            let hop = locate(address(), &route(RouteKind::Unicast, Some(*device)), &town(), allowed).unwrap();
            let expected =
                NextHopDevice { device_index: *device, egress_interface_index: *egress, vlan_ids: vlan_ids.to_vec() };
            assert_eq!(hop, expected, "{what}");
        }
    }

    #[test]
    fn refusals_say_why_and_what_to_do() {
        let unicast = |device| route(RouteKind::Unicast, Some(device));
        let by_router = Route { gateway: Some("10.0.0.1".parse().unwrap()), ..unicast(1) };
        let refused: &[(&str, Route, &[u32], &str)] = &[
            ("gateway", by_router, &[1], "real server 10.9.0.5 is reached through gateway 10.0.0.1 (eth0): direct"),
            ("own", route(RouteKind::Local, Some(1)), &[1], "10.9.0.5 is an address of the director itself"),
            ("none", route(RouteKind::Missing, None), &[1], "no usable route to real server 10.9.0.5 (no entry"),
            ("blackhole", route(RouteKind::Blackhole, None), &[1], "has a blackhole route for it"),
            ("broadcast", route(RouteKind::Broadcast, Some(1)), &[1], "is a broadcast address"),
            ("not listed", unicast(2), &[1], "is reached by eth1, which the configuration does not list"),
            ("sibling VLAN", unicast(3), &[2], "is reached by eth0.10, which the configuration does not list"),
            ("two ports of a bridge", unicast(5), &[6, 7], "the bridge br0, and the configuration lists several"),
            ("loop", unicast(12), &[1], "is reached by a, which"),
            ("unknown device", unicast(99), &[1], "is reached by interface 99, which"),
        ];
        for (what, route, allowed, text) in refused {
            let error = locate(address(), route, &town(), allowed).unwrap_err().to_string();
            assert!(error.contains(text), "{what}: {error}");
        }
    }
}
