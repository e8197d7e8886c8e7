//! Which real server a flow gets, over changes of the set and of who is alive.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::too_many_lines,
    missing_docs,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use pointsman::service::{Protocol, ServiceKey, address_bytes};
use pointsman::table::{
    Egress, FlowHasher, FlowTimeouts, ForwardingTable, HashBy, NextHop, RealServerPlan, ServicePlan, TablePlan,
};
use pointsman::wire::{Family, MacAddress, Shape, Subject};
use proptest::prelude::*;

fn address(number: u8) -> IpAddr {
    Ipv4Addr::new(192, 168, 88, number).into()
}

/// A plan with one service; each real server by number, weight and whether it is alive.
fn plan(real_servers: &[(u8, u32, bool)], hash_by: HashBy) -> TablePlan {
    let mac = |number| MacAddress::new([2, 0, 0, 0, 1, number]);
    TablePlan {
        hasher: FlowHasher::new("a secret"),
        egresses: vec![Egress { name: "eth0".to_owned(), source: mac(0), mtu: 1500 }],
        services: vec![ServicePlan {
            id: 0,
            timeouts: FlowTimeouts::default(),
            previous_table_s: 0,
            key: ServiceKey { vip: address(15), protocol: Protocol::Tcp, port: 80 },
            table_size: 1021,
            hash_by,
            real_servers: real_servers
                .iter()
                .map(|&(number, weight, alive)| RealServerPlan {
                    id: number.into(),
                    address: address(number),
                    weight,
                    next_hop: alive.then_some(NextHop { mac: mac(number), egress: 0 }),
                    quic_server_id: None,
                })
                .collect(),
        }],
        workers: 2,
        now_s: 0,
    }
}

fn build(real_servers: &[(u8, u32, bool)]) -> ForwardingTable {
    ForwardingTable::build(&plan(real_servers, HashBy::Flow), None)
}

fn flow(client: u32, port: u16) -> Subject {
    Subject {
        client: address_bytes(Ipv4Addr::from(client).into()),
        vip: address_bytes(address(15)),
        client_port: port,
        service_port: 80,
        protocol: 6,
        family: Family::V4,
        shape: Shape::Datagram,
        fragment_id: 0,
        l3_offset: 14,
        l4_offset: 34,
        l4_len: 20,
    }
}

fn chosen(table: &ForwardingTable, flow: &Subject) -> Option<IpAddr> {
    let service = &table.services()[table.service_of(flow)?.position as usize];
    let choice = table.choose(service, table.hash(service, flow))?;
    Some(table.real_servers()[choice.real_server as usize].address)
}

fn flows() -> impl Iterator<Item = Subject> {
    (0u16..500).map(|number| flow(0x0a00_0000 + u32::from(number) * 77, 1024 + number))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_death_moves_only_the_flows_of_the_dead_and_all_come_back(
        count in 2u8..12,
        deaths in prop::collection::vec(any::<prop::sample::Index>(), 1..12),
    ) {
        let all: Vec<_> = (1..=count).map(|number| (number, u32::from(number % 3) + 1, true)).collect();
        let mut now = all.clone();
        let first = build(&all);
        let mut before: Vec<_> = flows().map(|flow| chosen(&first, &flow)).collect();
        for death in deaths {
            let dead = death.index(now.len());
            now[dead].2 = false;
            let table = build(&now);
            let living: BTreeSet<IpAddr> = now.iter().filter(|r| r.2).map(|r| address(r.0)).collect();
            let after: Vec<_> = flows().map(|flow| chosen(&table, &flow)).collect();
            for (was, is) in before.iter().zip(&after) {
                match is {
                    None => prop_assert!(living.is_empty()),
                    Some(is) => prop_assert!(living.contains(is), "sent to the dead"),
                }
                if was.is_some_and(|was| living.contains(&was)) {
                    prop_assert_eq!(was, is, "a flow moved whose real server lives");
                }
            }
            before = after;
        }
        let recovered = build(&all);
        for flow in flows() {
            prop_assert_eq!(chosen(&recovered, &flow), chosen(&first, &flow));
        }
    }

    #[test]
    fn the_order_of_real_servers_and_what_was_before_do_not_matter(
        weights in prop::collection::vec(0u32..5, 1..12),
        turn: prop::sample::Index,
        dead: prop::sample::Index,
    ) {
        let mut servers: Vec<_> = (1..).zip(&weights).map(|(number, &weight)| (number, weight, true)).collect();
        let at = dead.index(servers.len());
        servers[at].2 = false;
        let mut turned = servers.clone();
        turned.rotate_left(turn.index(servers.len()));
        let one = build(&servers);
        let other = ForwardingTable::build(&plan(&turned, HashBy::Flow), Some(&build(&[(77, 1, true)])));
        for flow in flows() {
            prop_assert_eq!(chosen(&one, &flow), chosen(&other, &flow));
        }
    }
}

#[test]
fn with_all_but_one_of_many_dead_all_flows_reach_that_one() {
    let mut servers: Vec<_> = (1..=200).map(|number| (number, 1, false)).collect();
    servers[123].2 = true;
    let table = build(&servers);
    for flow in flows() {
        assert_eq!(chosen(&table, &flow), Some(address(124)));
    }
}

#[test]
fn weight_zero_gets_no_new_flow() {
    let table = build(&[(1, 0, true), (2, 1, true)]);
    assert!(flows().all(|flow| chosen(&table, &flow) == Some(address(2))));
    let table = build(&[(1, 0, true), (2, 0, true)]);
    assert!(flows().all(|flow| chosen(&table, &flow).is_none()));
}

#[test]
fn by_client_all_ports_of_an_address_meet_one_real_server() {
    let servers: Vec<_> = (1..=20).map(|number| (number, 1, true)).collect();
    let table = ForwardingTable::build(&plan(&servers, HashBy::Client), None);
    let by_flow = build(&servers);
    let met = |table: &ForwardingTable| -> BTreeSet<_> {
        (1..200).map(|port| chosen(table, &flow(0x0a00_0001, port)).unwrap()).collect()
    };
    assert_eq!(met(&table).len(), 1);
    assert!(met(&by_flow).len() > 10);
}

#[test]
fn counters_live_on_in_the_next_table_and_its_generation_is_one_higher() {
    let first = build(&[(1, 1, true), (2, 1, true)]);
    first.services()[0].outcomes.of(1).unwrap().count_tx(1, 60);
    first.real_servers()[1].outcomes.of(0).unwrap().count_tx(1, 70);
    let next = ForwardingTable::build(&plan(&[(2, 5, false), (3, 1, true)], HashBy::Flow), Some(&first));
    assert_eq!(next.generation(), first.generation() + 1);
    assert_eq!(next.services()[0].outcomes.of(1).unwrap().tx_packets.get(), 1);
    assert_eq!(next.real_servers()[0].outcomes.of(0).unwrap().tx_bytes.get(), 70);
    assert_eq!(next.real_servers()[1].outcomes.of(0).unwrap().tx_packets.get(), 0);
}
