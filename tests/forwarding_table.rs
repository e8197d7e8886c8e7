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
    Egress, FlowHasher, FlowTimeouts, ForwardingTable, HashBy, NextHop, Quorum, RealServerPlan, Scheduler, ServicePlan,
    Standing, TablePlan,
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
            fallback: None,
            quorum: Quorum::default(),
            key: ServiceKey { vip: address(15), protocol: Protocol::Tcp, port: 80 },
            table_size: 1021,
            hash_by,
            scheduler: Scheduler::Mh,
            persistence: None,
            real_servers: real_servers
                .iter()
                .map(|&(number, weight, alive)| RealServerPlan {
                    id: number.into(),
                    address: address(number),
                    weight,
                    next_hop: alive.then_some(NextHop { mac: mac(number), egress: 0 }),
                    standing: Standing::Sound,
                    limit: None,
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

/// The plan with what health checks say of each real server, and a fallback server 99.
fn plan_with_standings(standings: &[Standing], fallback: bool, quorum: Quorum) -> TablePlan {
    let servers: Vec<(u8, u32, bool)> = (1..).zip(standings).map(|(number, _)| (number, 1, true)).collect();
    let mut plan = plan(&servers, HashBy::Flow);
    let service = &mut plan.services[0];
    for (server, standing) in service.real_servers.iter_mut().zip(standings) {
        server.standing = *standing;
    }
    service.quorum = quorum;
    service.fallback = fallback.then(|| RealServerPlan {
        id: 99,
        address: address(99),
        weight: 0,
        standing: Standing::Sound,
        ..service.real_servers[0].clone()
    });
    plan
}

/// Where each of a thousand flows goes.
fn all_chosen(table: &ForwardingTable) -> Vec<Option<IpAddr>> {
    (0..1000).map(|client| chosen(table, &flow(client, 4711))).collect()
}

proptest! {
    /// Who is down or inhibited gets no new flow, its flows come back when it is up, no other flow ever moves, and the
    /// shares (the Maglev table) stay as they are.
    #[test]
    fn standings_move_the_flows_of_their_own_server_only(kinds in prop::collection::vec(0u8..3, 2..6)) {
        let standings: Vec<Standing> =
            kinds.iter().map(|kind| [Standing::Sound, Standing::Inhibited, Standing::Failed][usize::from(*kind)]).collect();
        let all_sound = vec![Standing::Sound; standings.len()];
        let sound = ForwardingTable::build(&plan_with_standings(&all_sound, true, Quorum::default()), None);
        let ill = ForwardingTable::build(&plan_with_standings(&standings, true, Quorum::default()), Some(&sound));
        let again = ForwardingTable::build(&plan_with_standings(&all_sound, true, Quorum::default()), Some(&ill));
        let takes_new = |of: IpAddr| (1..).zip(&standings).any(|(number, standing)| address(number) == of && *standing == Standing::Sound);
        let anybody = standings.contains(&Standing::Sound);
        for (before, now) in all_chosen(&sound).into_iter().zip(all_chosen(&ill)) {
            let (before, now) = (before.unwrap(), now.unwrap());
            let good = if anybody { takes_new(now) } else { now == address(99) };
            prop_assert!(good, "a flow went to {}", now);
            prop_assert!(now == before || !takes_new(before));
        }
        prop_assert_eq!(all_chosen(&again), all_chosen(&sound));
        prop_assert_eq!(sound.services()[0].shares(), ill.services()[0].shares());
        for (server, standing) in ill.real_servers().iter().zip(&standings) {
            prop_assert_eq!(server.is_alive(), *standing != Standing::Failed);
            prop_assert_eq!(server.weight, u32::from(*standing != Standing::Inhibited));
        }
    }
}

#[test]
fn below_the_quorum_new_flows_go_to_the_fallback_server_if_there_is_one() {
    use Standing::{Failed, Sound};
    let quorum = Quorum { weight: 3, hysteresis: 1 };
    let build = |standings: [Standing; 4], fallback, previous: Option<&ForwardingTable>| {
        ForwardingTable::build(&plan_with_standings(&standings, fallback, quorum), previous)
    };
    let on_fallback = |table: &ForwardingTable| all_chosen(table).iter().all(|chosen| *chosen == Some(address(99)));
    let four = build([Sound; 4], true, None);
    let two = build([Sound, Sound, Failed, Failed], true, Some(&four));
    assert!(two.services()[0].has_quorum() && !on_fallback(&two), "2 is within the band, and it was there before");
    let one = build([Sound, Failed, Failed, Failed], true, Some(&two));
    assert!(!one.services()[0].has_quorum() && on_fallback(&one));
    assert!(one.real_servers()[0].is_alive(), "established flows stay where they are");
    let three = build([Sound, Sound, Sound, Failed], true, Some(&one));
    assert!(on_fallback(&three), "3 is within the band, and it was not there before");
    let four = build([Sound; 4], true, Some(&three));
    assert!(four.services()[0].has_quorum() && !on_fallback(&four));

    let one = build([Sound, Failed, Failed, Failed], false, Some(&four));
    assert!(
        all_chosen(&one).iter().all(|chosen| *chosen == Some(address(1))),
        "without a fallback whoever is left serves"
    );
    let none = build([Failed; 4], false, Some(&one));
    assert!(all_chosen(&none).iter().all(Option::is_none));
}

#[test]
fn a_fallback_server_serves_where_no_real_server_has_a_weight_and_is_nothing_without_a_mac() {
    let mut plan = plan_with_standings(&[Standing::Sound; 2], true, Quorum::default());
    for server in &mut plan.services[0].real_servers {
        server.weight = 0;
    }
    let table = ForwardingTable::build(&plan, None);
    assert!(all_chosen(&table).iter().all(|chosen| *chosen == Some(address(99))));
    plan.services[0].fallback.as_mut().unwrap().next_hop = None;
    let table = ForwardingTable::build(&plan, Some(&table));
    assert!(all_chosen(&table).iter().all(Option::is_none));
    assert!(table.real_servers()[2].is_fallback);
}
