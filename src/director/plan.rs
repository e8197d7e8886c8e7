//! From a configuration to the plan of a forwarding table: the step that `run`, `check`, `explain` and `replay` share.

use std::net::IpAddr;

use crate::clock;
use crate::config::{Config, RealServerConfig, VirtualServiceConfig};
use crate::service::address_bytes;
use crate::table::{
    ClientPersistence, ConnectionLimit, DEFAULT_SECRET, Egress, FlowHasher, FlowTimeouts, Identities, NextHop, Quorum,
    RealServerPlan, ServicePlan, Standing, TablePlan,
};
use crate::wire::MacAddress;

/// MTU that is assumed where neither the configuration nor an interface tells one.
pub const DEFAULT_MTU: u32 = 1500;
/// The source address that frames get where there is no interface to take it from.
pub const STAND_IN_SOURCE: MacAddress = MacAddress::new([0x02, 0, 0, 0, 0, 0x01]);

/// The plan of a table for `workers` workers, in which `next_hop` tells how each real server is reached.
pub fn table_plan(
    config: &Config,
    egresses: Vec<Egress>,
    workers: usize,
    identities: &mut Identities,
    mut next_hop: impl FnMut(IpAddr, Option<MacAddress>) -> Option<NextHop>,
) -> TablePlan {
    TablePlan {
        hasher: hasher(config),
        egresses,
        services: config.virtual_services.iter().map(|service| service_plan(service, &mut next_hop)).collect(),
        workers,
        now_s: clock::monotonic_s(),
    }
    .numbered(identities)
}

/// The plan of a table without a network, for `check`, `explain` and `replay`: every real server is reached, by its
/// configured MAC address or by a [stand-in](stand_in_mac), through the first configured interface.
///
/// Frames get `source` as their source address.
pub fn offline_plan(config: &Config, source: MacAddress) -> TablePlan {
    let first = config.interfaces.first();
    let egress = Egress {
        name: first.map_or_else(|| "-".to_owned(), |interface| interface.name.clone()),
        source,
        mtu: first.and_then(|interface| interface.mtu).unwrap_or(DEFAULT_MTU),
    };
    table_plan(config, vec![egress], 1, &mut Identities::default(), |address, mac| {
        Some(NextHop { mac: mac.unwrap_or_else(|| stand_in_mac(address)), egress: 0 })
    })
}

/// The MAC address that stands in for that of a real server where there is no network to ask: locally administered,
/// 02:04 and the four bytes of an IPv4 address, or 02:06 and the last four of an IPv6 address.
pub fn stand_in_mac(address: IpAddr) -> MacAddress {
    let bytes = address_bytes(address);
    let (kind, last) = match address {
        IpAddr::V4(_) => (4, [bytes[0], bytes[1], bytes[2], bytes[3]]),
        IpAddr::V6(_) => (6, [bytes[12], bytes[13], bytes[14], bytes[15]]),
    };
    MacAddress::new([0x02, kind, last[0], last[1], last[2], last[3]])
}

/// The flow hash of a configuration's secret.
pub fn hasher(config: &Config) -> FlowHasher {
    FlowHasher::new(config.director.secret.as_deref().unwrap_or(DEFAULT_SECRET))
}

fn service_plan(
    service: &VirtualServiceConfig,
    next_hop: &mut impl FnMut(IpAddr, Option<MacAddress>) -> Option<NextHop>,
) -> ServicePlan {
    ServicePlan {
        id: 0,
        key: service.key,
        timeouts: FlowTimeouts {
            tcp_s: service.tcp_timeout_s,
            tcp_fin_s: service.tcp_fin_timeout_s,
            udp_s: service.udp_timeout_s,
        },
        previous_table_s: service.previous_table_s,
        table_size: service.table_size,
        scheduler: service.scheduler,
        hash_by: service.hash_by,
        persistence: service
            .persistence_timeout_s
            .map(|timeout_s| ClientPersistence::new(timeout_s, service.persistence_netmask.unwrap_or(u8::MAX))),
        quorum: Quorum { weight: service.quorum, hysteresis: service.quorum_hysteresis },
        fallback: service.fallback.as_ref().map(|fallback| RealServerPlan {
            id: 0,
            address: fallback.address,
            weight: 0,
            next_hop: next_hop(fallback.address, fallback.mac),
            standing: Standing::Sound,
            limit: None,
            quic_server_id: None,
        }),
        real_servers: service
            .real_servers
            .iter()
            .map(|real_server| RealServerPlan {
                id: 0,
                address: real_server.address,
                weight: real_server.weight,
                next_hop: next_hop(real_server.address, real_server.mac),
                standing: Standing::Sound,
                limit: limit(real_server),
                quic_server_id: real_server.quic_server_id,
            })
            .collect(),
    }
}

fn limit(real_server: &RealServerConfig) -> Option<ConnectionLimit> {
    let (upper, lower) = (real_server.upper_threshold, real_server.lower_threshold);
    (upper > 0).then(|| ConnectionLimit { upper, lower: (lower > 0).then_some(lower) })
}
