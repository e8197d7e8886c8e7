//! Flows stay where they are: over changes of the real servers, floods, and whichever worker their packets meet.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod packets;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use packets::*;
use pointsman::flow::WorkerFlows;
use pointsman::forward::{Counts, How, forward};
use pointsman::service::ServiceKey;
use pointsman::table::{
    Egress, FlowHasher, FlowTimeouts, ForwardingTable, HashBy, Identities, NextHop, Quorum, RealServerPlan, Scheduler,
    ServicePlan, Standing, TablePlan,
};
use pointsman::verdict::Verdict;
use pointsman::wire::MacAddress;
use proptest::prelude::*;

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const FIN_ACK: u8 = 0x11;

fn address(number: u8) -> IpAddr {
    Ipv4Addr::new(192, 168, 88, number).into()
}

/// A director without a network: its forwarding table, and the flow tables of some workers.
struct Director {
    identities: Identities,
    table: Option<ForwardingTable>,
    workers: Vec<WorkerFlows>,
    counts: Counts,
    now_s: u32,
    previous_table_s: u32,
}

/// A real server by number, weight and whether it is alive.
type Server = (u8, u32, bool);

impl Director {
    fn new(workers: usize, flows: usize, servers: &[Server]) -> Self {
        let mut all: Vec<_> = (0..workers).map(|_| WorkerFlows::new(flows).unwrap()).collect();
        let peers: Vec<_> = all.iter().map(WorkerFlows::as_peer).collect();
        for (own, worker) in all.iter_mut().enumerate() {
            worker.peers = (0..workers).filter(|other| *other != own).map(|other| peers[other].clone()).collect();
        }
        let mut director = Self {
            identities: Identities::default(),
            table: None,
            workers: all,
            counts: Counts::default(),
            now_s: 1_000_000,
            previous_table_s: 0,
        };
        director.set(servers);
        director
    }

    /// Publishes a table with these real servers for all services of the packet tables.
    fn set(&mut self, servers: &[Server]) {
        let mac = |number| MacAddress::new([2, 0, 0, 0, 1, number]);
        let real_servers: Vec<_> = servers
            .iter()
            .map(|&(number, weight, alive)| RealServerPlan {
                id: 0,
                address: address(number),
                weight,
                next_hop: alive.then_some(NextHop { mac: mac(number), egress: 0 }),
                standing: Standing::Sound,
                limit: None,
                quic_server_id: None,
            })
            .collect();
        let service = |key: ServiceKey| ServicePlan {
            id: 0,
            key,
            table_size: 4093,
            hash_by: HashBy::Flow,
            scheduler: Scheduler::Mh,
            persistence: None,
            timeouts: FlowTimeouts::default(),
            previous_table_s: self.previous_table_s,
            fallback: None,
            quorum: Quorum::default(),
            real_servers: real_servers.clone(),
        };
        let plan = TablePlan {
            hasher: FlowHasher::new("a secret"),
            egresses: vec![Egress { name: "eth0".to_owned(), source: mac(0), mtu: 1500 }],
            services: services().into_iter().map(service).collect(),
            workers: 1,
            now_s: self.now_s,
        };
        let plan = plan.numbered(&mut self.identities);
        self.table = Some(ForwardingTable::build(&plan, self.table.as_ref()));
    }

    fn send(&mut self, worker: usize, mut frame: Vec<u8>) -> Option<IpAddr> {
        let table = self.table.as_ref().unwrap();
        match forward(&mut frame, table, &mut self.workers[worker], &mut self.counts, self.now_s) {
            Verdict::Tx { route, .. } => Some(table.real_servers()[route.real_server as usize].address),
            Verdict::Drop { .. } => None,
        }
    }

    fn how(&self) -> How {
        self.counts.last.unwrap()
    }
}

fn segment(client: u32, port: u16, flags: u8) -> Vec<u8> {
    let mut segment = tcp(port, 80);
    segment[13] = flags;
    Ipv4 { source: Ipv4Addr::from(client), ..Default::default() }.frame(&segment)
}

fn datagram(client: u32, port: u16) -> Vec<u8> {
    Ipv4 { source: Ipv4Addr::from(client), protocol: UDP, ..Default::default() }.frame(&udp(port, 53))
}

const FIVE: [Server; 5] = [(1, 1, true), (2, 1, true), (3, 1, true), (4, 1, true), (5, 1, true)];

/// Flows that are established at worker 0, with the real server of each.
fn establish(director: &mut Director, count: u16) -> Vec<(u32, u16, IpAddr)> {
    (0..count)
        .map(|number| {
            let (client, port) = (0x0a00_0000 + u32::from(number % 251), 1024 + number);
            let server = director.send(0, segment(client, port, SYN)).unwrap();
            assert_eq!(director.send(0, segment(client, port, ACK)), Some(server));
            (client, port, server)
        })
        .collect()
}

#[test]
fn established_flows_stay_over_every_change_and_at_every_worker() {
    let mut director = Director::new(3, 4096, &FIVE);
    let flows = establish(&mut director, 500);
    let changes: [&[Server]; 5] = [
        &[(1, 1, true), (2, 1, true), (3, 1, true), (4, 1, true), (5, 1, true), (6, 1, true)],
        &[(1, 0, true), (2, 3, true), (3, 1, true), (4, 1, true), (5, 1, true), (6, 1, true)],
        &[(6, 1, true), (5, 1, true), (3, 1, true), (2, 3, true), (1, 0, true)],
        &[(5, 1, true), (3, 9, true), (2, 1, true), (1, 0, true)],
        &FIVE,
    ];
    for (number, servers) in changes.into_iter().enumerate() {
        director.now_s += 10;
        director.set(servers);
        // Each change meets them at another worker, which has no entry of its own at first.
        let worker = number % 3;
        let (mut moved, mut kept) = (0, 0);
        for (client, port, server) in &flows {
            let now = director.send(worker, segment(*client, *port, ACK)).unwrap();
            if servers.iter().any(|(number, _, _)| address(*number) == *server) {
                assert_eq!(now, *server, "change {number}: a flow moved whose real server is there");
                kept += 1;
            } else {
                assert_ne!(now, *server);
                moved += 1;
            }
        }
        assert!(kept > 300, "{kept} kept, {moved} moved");
    }
    assert!(director.counts.peer_hits > 300);
}

#[test]
fn a_removed_server_that_comes_back_has_its_flows_again_only_if_they_did_not_go_on_elsewhere() {
    let mut director = Director::new(1, 4096, &FIVE);
    let flows = establish(&mut director, 100);
    director.set(&FIVE[1..]);
    let (client, port, first) = *flows.iter().find(|flow| flow.2 == address(1)).unwrap();
    let second = director.send(0, segment(client, port, ACK)).unwrap();
    assert_ne!(second, first);
    director.set(&FIVE);
    assert_eq!(director.send(0, segment(client, port, ACK)), Some(second), "it has an entry there by now");
}

#[test]
fn a_dead_server_s_flows_go_elsewhere_and_come_back_without_moving_any_other() {
    // At the worker that has their entries, and at another that they move to meanwhile.
    for worker in [0, 1] {
        let mut director = Director::new(2, 4096, &FIVE);
        let flows = establish(&mut director, 300);
        let mut dead = FIVE;
        dead[2].2 = false;
        director.set(&dead);
        for (client, port, server) in &flows {
            let now = director.send(worker, segment(*client, *port, ACK)).unwrap();
            assert_eq!(now == *server, *server != address(3));
        }
        let of_the_dead = flows.iter().filter(|flow| flow.2 == address(3)).count() as u64;
        assert_eq!(director.counts.second_choices, of_the_dead);
        director.set(&FIVE);
        for (client, port, server) in &flows {
            assert_eq!(director.send(worker, segment(*client, *port, ACK)), Some(*server));
        }
    }
}

#[test]
fn a_drained_server_keeps_its_flows_and_gets_no_new_one() {
    let mut director = Director::new(1, 4096, &FIVE);
    let flows = establish(&mut director, 300);
    let mut drained = FIVE;
    drained[0].1 = 0;
    director.set(&drained);
    for (client, port, server) in &flows {
        assert_eq!(director.send(0, segment(*client, *port, ACK)), Some(*server));
    }
    for number in 0..300 {
        assert_ne!(director.send(0, segment(0x0b00_0000 + number, 5000, SYN)), Some(address(1)));
    }
    // A connection that ended and begins anew is a new one.
    let (client, port, _) = *flows.iter().find(|flow| flow.2 == address(1)).unwrap();
    assert_eq!(director.send(0, segment(client, port, FIN_ACK)), Some(address(1)));
    assert_ne!(director.send(0, segment(client, port, SYN)), Some(address(1)));
}

#[test]
fn entries_expire_by_state() {
    let mut all_but_one = FIVE;
    all_but_one[0].1 = 0;
    // Seconds without a packet after which a flow of server 1 is still known, and no longer known.
    let cases: [(&str, &[u8], u32); 3] =
        [("unconfirmed", &[SYN], 30), ("established", &[SYN, ACK], 900), ("closing", &[SYN, ACK, FIN_ACK], 120)];
    for (description, packets, life_s) in cases {
        for (after_s, known) in [(life_s - 1, true), (life_s, false)] {
            let mut director = Director::new(1, 1024, &FIVE);
            let port = (1024..).find(|port| director.send(0, segment(7, *port, SYN)) == Some(address(1))).unwrap();
            director.now_s += 100;
            for flags in packets {
                director.send(0, segment(7, port, *flags));
            }
            director.now_s += after_s;
            director.set(&all_but_one);
            let stayed = director.send(0, segment(7, port, ACK)) == Some(address(1));
            assert_eq!(stayed, known, "{description}, {after_s} s later");
        }
    }
}

#[test]
fn errors_and_fragments_find_the_flow_at_another_worker() {
    let mut director = Director::new(2, 4096, &FIVE);
    let flows = establish(&mut director, 200);
    // By the hash alone they would now go elsewhere.
    let other: Vec<Server> = FIVE.iter().map(|server| (server.0, u32::from(server.0 > 3), true)).collect();
    director.set(&other);
    let mut away = 0;
    for (client, port, server) in &flows {
        let client = Ipv4Addr::from(*client);
        let reply = Ipv4 { source: VIP, destination: client, ..Default::default() }.packet(&tcp(80, *port)[..8]);
        let router = Ipv4 { source: Ipv4Addr::new(10, 9, 9, 9), protocol: ICMP, ..Default::default() };
        assert_eq!(director.send(1, router.frame(&icmp(3, &reply))), Some(*server), "an error at another worker");
        let first = Ipv4 { source: client, identification: *port, more_fragments: true, ..Default::default() };
        let mut begin = tcp(*port, 80);
        begin[13] = ACK;
        begin.resize(24, 0);
        assert_eq!(director.send(0, first.frame(&begin)), Some(*server), "a first fragment");
        let later = Ipv4 { source: client, identification: *port, fragment_offset: 3, ..Default::default() };
        assert_eq!(director.send(1, later.frame(&[0; 8])), Some(*server), "a later fragment at another worker");
        away += u32::from(*server != address(4) && *server != address(5));
    }
    assert!(away > 50);
    assert_eq!(director.counts.fragment_hits, 200);
}

#[test]
fn fragments_of_ipv6_follow_their_first() {
    let mut director = Director::new(2, 1024, &FIVE);
    for number in 0..100u16 {
        let id = u32::from(number) * 7;
        let first = Ipv6 { extensions: vec![fragment(0, true, id)], ..Default::default() };
        let server = director.send(0, first.frame(&tcp(2000 + number, 80))).unwrap();
        let later = Ipv6 { extensions: vec![fragment(5, false, id)], ..Default::default() };
        assert_eq!(director.send(1, later.frame(&[0; 8])), Some(server));
        assert_eq!(director.how(), How::FirstFragment);
    }
}

#[test]
fn the_table_before_the_change_serves_flows_that_nobody_remembers_while_it_is_asked_for() {
    let mut director = Director::new(1, 4096, &FIVE);
    director.previous_table_s = 60;
    director.set(&FIVE);
    let flows = establish(&mut director, 300);
    // A restart: nothing is remembered.
    director.workers[0] = WorkerFlows::new(4096).unwrap();
    let mut grown = FIVE.to_vec();
    grown.extend([(6, 3, true), (7, 3, true)]);
    director.set(&grown);
    let fresh = |number: u32| segment(0x0c00_0000 + number, 9000, SYN);
    let new: Vec<_> = (0..300).map(|number| director.send(0, fresh(number))).collect();
    assert!(new.contains(&Some(address(6))), "new flows go by the new table");
    for (client, port, server) in flows.iter().take(150) {
        assert_eq!(director.send(0, segment(*client, *port, ACK)), Some(*server));
    }
    assert!(director.counts.previous_table_hits > 100);
    director.now_s += 61;
    let moved = flows.iter().skip(150).filter(|flow| director.send(0, segment(flow.0, flow.1, ACK)) != Some(flow.2));
    assert!(moved.count() > 30, "after its time the new table decides");
}

#[test]
fn two_directors_agree_on_every_new_flow() {
    let mut one = Director::new(1, 1024, &FIVE);
    let mut other = Director::new(1, 1024, &[(9, 1, true)]);
    let mut turned = FIVE;
    turned.rotate_left(2);
    turned[1].2 = false;
    other.set(&turned);
    turned.reverse();
    one.set(&turned);
    for number in 0..2000 {
        let frame = segment(0x0a00_0000 + number * 31, 3000, SYN);
        assert_eq!(one.send(0, frame.clone()), other.send(0, frame));
    }
}

/// Ten million forged packets of each kind, none of which is seen twice.
#[test]
fn a_flood_moves_no_established_flow_while_a_server_is_removed() {
    const FORGED: u32 = 10_000_000;
    let mut director = Director::new(1, 1 << 16, &FIVE);
    let flows = establish(&mut director, 10_000);
    let stored = director.counts.new_flows;
    assert_eq!(stored, 10_000, "all of them are remembered");
    let mut syn = segment(0, 7, SYN);
    let mut ack = segment(0, 8, ACK);
    let mut udp = datagram(0, 9);
    for number in 0..FORGED {
        for frame in [&mut syn, &mut ack, &mut udp] {
            frame[26..30].copy_from_slice(&(0x4000_0000 + number).to_be_bytes());
            let table = director.table.as_ref().unwrap();
            forward(frame, table, &mut director.workers[0], &mut director.counts, director.now_s);
        }
        if number == FORGED / 2 {
            director.set(&FIVE[1..]);
        }
        if number % 500_000 == 0 {
            director.now_s += 1;
        }
    }
    let mut by_server: HashMap<IpAddr, u32> = HashMap::new();
    for (client, port, server) in &flows {
        let now = director.send(0, segment(*client, *port, ACK)).unwrap();
        if *server == address(1) {
            assert_ne!(now, *server);
        } else {
            assert_eq!(now, *server, "an established flow moved");
            *by_server.entry(now).or_default() += 1;
        }
    }
    assert_eq!(by_server.len(), 4);
    let counts = director.workers[0].as_peer().flows.count(director.now_s);
    assert!(counts.unconfirmed <= (1 << 16), "{counts:?}: half of the slots at most");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The same flow meets the same real server, as datagram, error or fragment, at any worker, over any changes that
    /// leave its real server there.
    #[test]
    fn the_same_flow_meets_the_same_server(
        ports in prop::collection::vec(1u16.., 1..20),
        changes in prop::collection::vec(prop::collection::vec((1u8..9, 0u32..4), 0..8), 1..6),
        workers in prop::collection::vec(0usize..3, 6),
    ) {
        let mut director = Director::new(3, 1024, &FIVE);
        let client = Ipv4Addr::new(10, 1, 2, 3);
        let home = u32::from(client);
        let mut at: HashMap<u16, IpAddr> = HashMap::new();
        for port in &ports {
            at.entry(*port).or_insert_with(|| {
                let server = director.send(0, segment(home, *port, SYN)).unwrap();
                director.send(0, segment(home, *port, ACK));
                server
            });
        }
        for (change, worker) in changes.iter().zip(workers.iter().cycle()) {
            let mut servers: HashMap<u8, u32> = FIVE.iter().map(|server| (server.0, server.1)).collect();
            servers.extend(change.iter().copied());
            let servers: Vec<Server> = servers.into_iter().map(|(number, weight)| (number, weight, true)).collect();
            director.now_s += 1;
            director.set(&servers);
            for (port, server) in &at {
                let reply = Ipv4 { source: VIP, destination: client, ..Default::default() }.packet(&tcp(80, *port)[..8]);
                let error = Ipv4 { protocol: ICMP, ..Default::default() }.frame(&icmp(3, &reply));
                prop_assert_eq!(director.send(*worker, error), Some(*server));
                prop_assert_eq!(director.send(*worker, segment(home, *port, ACK)), Some(*server));
            }
        }
    }

    /// An ICMP error goes where its flow's own packets go, before and after them, over IPv4 and IPv6, TCP and UDP, tagged
    /// or not, with options or extension headers in the quote, of eight bytes of L4 or more, at any worker, however far
    /// the flow has come, and over changes by which its real server drains, dies or goes.
    #[test]
    fn errors_go_where_their_flow_goes(
        flows in prop::collection::vec(quoted_flow(), 1..12),
        changes in prop::collection::vec(prop::collection::vec((1u8..7, 0u32..3, any::<bool>(), any::<bool>()), 0..6), 1..5),
        worker in 0usize..3,
    ) {
        let mut director = Director::new(3, 1024, &FIVE);
        for flow in &flows {
            for flags in [SYN, ACK].into_iter().take(flow.packets) {
                director.send(0, flow.packet(flags));
            }
        }
        for change in &changes {
            let mut servers: HashMap<u8, Server> = FIVE.iter().map(|server| (server.0, *server)).collect();
            for &(number, weight, alive, stays) in change {
                if stays {
                    servers.insert(number, (number, weight, alive));
                } else {
                    servers.remove(&number);
                }
            }
            director.now_s += 1;
            director.set(&servers.into_values().collect::<Vec<_>>());
            for flow in &flows {
                let before = director.send(worker, flow.error());
                let own = director.send(0, flow.packet(ACK));
                prop_assert_eq!(before, own, "an error before the flow's next packet: {:?}", flow);
                prop_assert_eq!(director.send(worker, flow.error()), own, "an error after it: {:?}", flow);
            }
        }
    }
}

/// A flow, and the form of the errors that quote it.
#[derive(Clone, Debug)]
struct QuotedFlow {
    client: u32,
    port: u16,
    v6: bool,
    is_udp: bool,
    tags: usize,
    options: usize,
    quoted: usize,
    /// How many of its packets have come before the first change.
    packets: usize,
}

fn quoted_flow() -> impl Strategy<Value = QuotedFlow> {
    let form = (0usize..3, 0usize..10, 8usize..20, 0usize..3);
    (0u32..1000, 1u16.., any::<bool>(), any::<bool>(), form).prop_map(
        |(client, port, v6, is_udp, (tags, options, quoted, packets))| QuotedFlow {
            client: 0x0a00_0000 + client,
            port,
            v6,
            is_udp,
            tags,
            options,
            quoted,
            packets,
        },
    )
}

impl QuotedFlow {
    fn client6(&self) -> Ipv6Addr {
        Ipv6Addr::from(0x2001_0db8_0000_0000_0000_0000_0000_0000 | u128::from(self.client))
    }

    fn l4(&self, flags: u8, reply: bool) -> Vec<u8> {
        let service = if self.is_udp { 53 } else { 80 };
        let (from, to) = if reply { (service, self.port) } else { (self.port, service) };
        if self.is_udp {
            return udp(from, to);
        }
        let mut segment = tcp(from, to);
        segment[13] = flags;
        segment
    }

    fn protocol(&self) -> u8 {
        if self.is_udp { UDP } else { TCP }
    }

    fn packet(&self, flags: u8) -> Vec<u8> {
        let (protocol, l4) = (self.protocol(), self.l4(flags, false));
        if self.v6 {
            Ipv6 { source: self.client6(), protocol, ..Default::default() }.frame(&l4)
        } else {
            Ipv4 { source: Ipv4Addr::from(self.client), protocol, ..Default::default() }.frame(&l4)
        }
    }

    /// What a router says of a packet that a real server has sent to the client.
    fn error(&self) -> Vec<u8> {
        let (protocol, l4) = (self.protocol(), self.l4(ACK, true));
        let l4 = &l4[..self.quoted.min(l4.len())];
        let error = if self.v6 {
            let extensions = vec![options(DESTINATION_OPTIONS, 1); self.options % 3];
            let reply = Ipv6 { source: VIP6, destination: self.client6(), protocol, extensions, ..Default::default() };
            Ipv6 { protocol: ICMPV6, ..Default::default() }.frame(&icmp(2, &reply.packet(l4)))
        } else {
            let (destination, options) = (Ipv4Addr::from(self.client), vec![1; self.options * 4]);
            let reply = Ipv4 { source: VIP, destination, protocol, options, ..Default::default() };
            Ipv4 { protocol: ICMP, ..Default::default() }.frame(&icmp(3, &reply.packet(l4)))
        };
        (0..self.tags).fold(error, |frame, _| tagged(VLAN, &frame))
    }
}
