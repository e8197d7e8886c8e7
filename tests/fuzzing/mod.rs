//! What is fuzzed: functions of any bytes that panic where a promise of the director is broken. `fuzz/` hands them to
//! libFuzzer, and `tests/fuzz_smoke.rs` runs them for a bounded time.
//!
//! Whoever includes this module includes `tests/packets` beside it.
#![allow(dead_code, reason = "each target uses its own part")]
#![allow(unreachable_pub, reason = "the module is compiled into several binaries")]

mod config;
mod forward;
mod parse;
mod replay;

pub use config::config;
pub use forward::forward;
pub use parse::parse;
pub use replay::replay;

use std::net::{IpAddr, Ipv4Addr};

use pointsman::service::ServiceKey;
use pointsman::table::{
    Egress, FlowHasher, FlowTimeouts, ForwardingTable, HashBy, Identities, NextHop, Quorum, RealServerPlan, Scheduler,
    ServicePlan, Standing, TablePlan,
};
use pointsman::wire::MacAddress;
use pointsman::wire::quic::ServerId;

use crate::packets;

/// A function of any bytes.
pub type Target = fn(&[u8]);

/// All targets, by the name of their directory of seeds.
pub const TARGETS: [(&str, Target); 4] =
    [("parse", parse), ("forward", forward), ("config", config), ("replay", replay)];

/// The source address that frames get by either egress; they differ in the last byte.
const SOURCES: [MacAddress; 2] = [MacAddress::new([2, 0, 0, 0, 0, 0xd0]), MacAddress::new([2, 0, 0, 0, 0, 0xd1])];
/// All frames fit the first egress; the second one's MTU is the least that IPv6 allows.
const MTUS: [u32; 2] = [9000, 1280];

/// A director's forwarding tables, one after the other.
struct Tables {
    identities: Identities,
}

impl Tables {
    fn new() -> Self {
        Self { identities: Identities::default() }
    }

    /// A table of the services of the packet tables with up to four real servers. Two bits of `servers` tell what each
    /// of them is: gone, down, draining or alive.
    fn build(&mut self, servers: u8, now_s: u32, previous: Option<&ForwardingTable>) -> ForwardingTable {
        let real_servers: Vec<RealServerPlan> = (0..4u8)
            .filter_map(|number| {
                let state = servers >> (2 * number) & 3;
                (state > 0).then(|| RealServerPlan {
                    id: 0,
                    address: real_server(number),
                    weight: if state == 2 { 0 } else { u32::from(number) + 1 },
                    next_hop: (state > 1)
                        .then_some(NextHop { mac: MacAddress::new([2, 0, 0, 0, 1, number]), egress: number % 2 }),
                    standing: Standing::Sound,
                    limit: None,
                    quic_server_id: ServerId::new(&[number]),
                })
            })
            .collect();
        let service = |key: ServiceKey| ServicePlan {
            id: 0,
            key,
            table_size: 251,
            hash_by: if key.port == 0 { HashBy::Client } else { HashBy::Flow },
            scheduler: Scheduler::Mh,
            persistence: None,
            timeouts: FlowTimeouts::default(),
            previous_table_s: 60,
            fallback: None,
            quorum: Quorum::default(),
            real_servers: real_servers.clone(),
        };
        let egress = |at: usize| Egress { name: format!("eth{at}"), source: SOURCES[at], mtu: MTUS[at] };
        let plan = TablePlan {
            hasher: FlowHasher::new("a secret"),
            egresses: vec![egress(0), egress(1)],
            services: packets::services().into_iter().map(service).collect(),
            workers: 1,
            now_s,
        };
        ForwardingTable::build(&plan.numbered(&mut self.identities), previous)
    }
}

fn real_server(number: u8) -> IpAddr {
    Ipv4Addr::new(192, 168, 88, 100 + number).into()
}
