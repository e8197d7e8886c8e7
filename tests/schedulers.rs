//! Schedulers give new flows to real servers as IPVS does, keep to shares, and forget nobody within the timeout.
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

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use packets::{CLIENT, Ipv4, UDP, VIP, tcp, udp};
use pointsman::counters::connections::ConnectionCounts;
use pointsman::flow::{FlowState, WorkerFlows};
use pointsman::forward::{Counts, How, forward};
use pointsman::service::{Protocol, ServiceKey};
use pointsman::table::{
    ClientPersistence, ConnectionLimit, Egress, FlowHasher, FlowTimeouts, ForwardingTable, HashBy, Identities, NextHop,
    Quorum, RealServerPlan, Scheduler, ServicePlan, Standing, TablePlan,
};
use pointsman::verdict::{DropReason, Verdict};
use pointsman::wire::MacAddress;
use proptest::prelude::*;

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const FIN_ACK: u8 = 0x11;

/// A real server by number, weight and whether it is alive.
type Server = (u8, u32, bool);

/// A director without a network and with one service.
struct Director {
    scheduler: Scheduler,
    hash_by: HashBy,
    persistence: Option<ClientPersistence>,
    limits: BTreeMap<u8, ConnectionLimit>,
    fallback: Option<u8>,
    protocol: Protocol,
    identities: Identities,
    table: Option<ForwardingTable>,
    workers: Vec<WorkerFlows>,
    counts: Counts,
    now_s: u32,
}

impl Director {
    fn new(scheduler: Scheduler, workers: usize, flows: usize) -> Self {
        let mut all: Vec<_> = (0..workers).map(|_| WorkerFlows::new(flows).unwrap()).collect();
        let peers: Vec<_> = all.iter().map(WorkerFlows::as_peer).collect();
        for (own, worker) in all.iter_mut().enumerate() {
            worker.worker = own;
            worker.peers = (0..workers).filter(|other| *other != own).map(|other| peers[other].clone()).collect();
        }
        Self {
            scheduler,
            hash_by: HashBy::Flow,
            persistence: None,
            limits: BTreeMap::new(),
            fallback: None,
            protocol: Protocol::Tcp,
            identities: Identities::default(),
            table: None,
            workers: all,
            counts: Counts::default(),
            now_s: 1_000_000,
        }
    }

    fn with(mut self, servers: &[Server]) -> Self {
        self.set(servers);
        self
    }

    fn persistent(mut self, timeout_s: u32, prefix_bits: u8) -> Self {
        (self.persistence, self.hash_by) = (Some(ClientPersistence::new(timeout_s, prefix_bits)), HashBy::Client);
        self
    }

    fn set(&mut self, servers: &[Server]) {
        let mac = |number| MacAddress::new([2, 0, 0, 0, 1, number]);
        let real_server = |&(number, weight, alive): &Server| RealServerPlan {
            id: 0,
            address: Ipv4Addr::new(192, 168, 88, number).into(),
            weight,
            next_hop: alive.then_some(NextHop { mac: mac(number), egress: 0 }),
            standing: Standing::Sound,
            limit: self.limits.get(&number).copied(),
            quic_server_id: None,
        };
        let plan = TablePlan {
            hasher: FlowHasher::new("a secret"),
            egresses: vec![Egress { name: "eth0".to_owned(), source: mac(0), mtu: 1500 }],
            services: vec![ServicePlan {
                id: 0,
                key: ServiceKey { vip: VIP.into(), protocol: self.protocol, port: 80 },
                table_size: 4093,
                hash_by: self.hash_by,
                scheduler: self.scheduler,
                persistence: self.persistence,
                timeouts: FlowTimeouts::default(),
                previous_table_s: 0,
                fallback: self.fallback.map(|number| real_server(&(number, 0, true))),
                quorum: Quorum::default(),
                real_servers: servers.iter().map(real_server).collect(),
            }],
            workers: self.workers.len(),
            now_s: self.now_s,
        };
        let plan = plan.numbered(&mut self.identities);
        self.table = Some(ForwardingTable::build(&plan, self.table.as_ref()));
    }

    fn table(&self) -> &ForwardingTable {
        self.table.as_ref().unwrap()
    }

    /// Number of the real server that a segment goes to.
    fn send(&mut self, worker: usize, client: u32, port: u16, flags: u8) -> Option<u8> {
        let mut segment = tcp(port, 80);
        segment[13] = flags;
        self.forward(worker, Ipv4 { source: Ipv4Addr::from(client), ..Default::default() }.frame(&segment))
    }

    fn send_datagram(&mut self, worker: usize, client: u32, port: u16) -> Option<u8> {
        let packet = Ipv4 { source: Ipv4Addr::from(client), protocol: UDP, ..Default::default() };
        self.forward(worker, packet.frame(&udp(port, 80)))
    }

    fn forward(&mut self, worker: usize, mut frame: Vec<u8>) -> Option<u8> {
        let table = self.table.as_ref().unwrap();
        match forward(&mut frame, table, &mut self.workers[worker], &mut self.counts, self.now_s) {
            Verdict::Tx { route, .. } => Some(number(table.real_servers()[route.real_server as usize].address)),
            Verdict::Drop { .. } => None,
        }
    }

    /// What becomes of a SYN.
    fn last_verdict(&mut self, client: u32, port: u16) -> Verdict {
        let mut segment = tcp(port, 80);
        segment[13] = SYN;
        let mut frame = Ipv4 { source: Ipv4Addr::from(client), ..Default::default() }.frame(&segment);
        forward(&mut frame, self.table.as_ref().unwrap(), &mut self.workers[0], &mut self.counts, self.now_s)
    }

    /// The real servers of so many new flows at one worker, each of which is confirmed.
    fn flows(&mut self, worker: usize, first: u32, count: u32) -> Vec<u8> {
        (first..first + count)
            .map(|flow| {
                let (client, port) = tuple(flow);
                let server = self.send(worker, client, port, SYN).unwrap();
                assert_eq!(self.send(worker, client, port, ACK), Some(server), "flow {flow} moved");
                server
            })
            .collect()
    }

    fn connections(&self, server: u8) -> ConnectionCounts {
        let found = self.table().real_servers().iter().find(|found| number(found.address) == server).unwrap();
        self.table().connections().sum(found.id)
    }
}

fn number(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(address) => address.octets()[3],
        IpAddr::V6(address) => address.octets()[15],
    }
}

fn tuple(flow: u32) -> (u32, u16) {
    (0x0a00_0000 + flow / 50_000, (1024 + flow % 50_000) as u16)
}

fn shares(chosen: &[u8]) -> BTreeMap<u8, i64> {
    chosen.iter().fold(BTreeMap::new(), |mut shares, server| {
        *shares.entry(*server).or_default() += 1;
        shares
    })
}

/// What IPVS does, after ip_vs_rr.c and ip_vs_wrr.c of Linux 6.12, over its list of (number, weight).
struct Ipvs {
    list: Vec<(u8, u32)>,
    /// Position in the list; `None` is its head.
    current: Option<usize>,
    current_weight: i64,
}

impl Ipvs {
    /// Real servers in the order in which `ipvsadm -a` was called: each goes to the head of the list.
    fn new(added: &[Server]) -> Self {
        let mut ipvs = Self { list: Vec::new(), current: None, current_weight: 0 };
        for (number, weight, _) in added.iter().filter(|server| server.1 > 0 && server.2) {
            ipvs.list.insert(0, (*number, *weight));
            ipvs.changed();
        }
        ipvs
    }

    /// `ip_vs_wrr_dest_changed`
    fn changed(&mut self) {
        if self.current_weight > self.max_weight() || self.current_weight == 0 {
            self.current_weight = self.max_weight();
        } else if self.step() > 1 {
            self.current_weight = self.current_weight / self.step() * self.step() + 1;
        }
    }

    fn step(&self) -> i64 {
        fn gcd(a: i64, b: i64) -> i64 {
            if b == 0 { a } else { gcd(b, a % b) }
        }
        self.list.iter().fold(0, |all, (_, weight)| gcd(all, i64::from(*weight)))
    }

    fn max_weight(&self) -> i64 {
        self.list.iter().map(|(_, weight)| i64::from(*weight)).max().unwrap() - (self.step() - 1)
    }

    fn rr(&mut self) -> u8 {
        let next = self.current.map_or(0, |at| (at + 1) % self.list.len());
        self.current = Some(next);
        self.list[next].0
    }

    fn wrr(&mut self) -> u8 {
        loop {
            let from = self.current.map_or(0, |at| at + 1);
            for at in from..self.list.len() {
                if i64::from(self.list[at].1) >= self.current_weight {
                    self.current = Some(at);
                    return self.list[at].0;
                }
            }
            self.current = None;
            self.current_weight -= self.step();
            if self.current_weight <= 0 {
                self.current_weight = self.max_weight();
            }
        }
    }
}

#[test]
fn the_sequences_are_those_of_ipvs() {
    let sequence =
        |scheduler, servers: &[Server], count| Director::new(scheduler, 1, 4096).with(servers).flows(0, 0, count);
    // The last one that was added stands first in IPVS's list.
    assert_eq!(sequence(Scheduler::Rr, &[(1, 1, true), (2, 1, true)], 6), [2, 1, 2, 1, 2, 1]);
    assert_eq!(sequence(Scheduler::Rr, &[(1, 7, true), (2, 1, true), (3, 0, true)], 4), [2, 1, 2, 1]);
    assert_eq!(sequence(Scheduler::Wrr, &[(1, 1, true), (2, 2, true)], 9), [2, 1, 2, 2, 1, 2, 2, 1, 2]);
    assert_eq!(sequence(Scheduler::Wrr, &[(1, 2, true), (2, 1, true)], 6), [2, 1, 1, 2, 1, 1]);
    // The example of the LVS documents: A, B and C with 4, 3 and 2 go AABABCABC, after the lowest round.
    let abc = [(3, 2, true), (2, 3, true), (1, 4, true)];
    assert_eq!(sequence(Scheduler::Wrr, &abc, 9), [1, 2, 3, 1, 1, 2, 1, 2, 3]);
    assert_eq!(sequence(Scheduler::Wrr, &[(1, 300, true), (2, 100, true)], 8), [2, 1, 1, 1, 2, 1, 1, 1]);
    // As real IPVS was seen to go.
    assert_eq!(sequence(Scheduler::Wrr, &[(1, 6, true), (2, 4, true)], 10), [2, 1, 1, 2, 1, 2, 1, 1, 2, 1]);
}

#[test]
fn a_syn_that_comes_again_takes_no_turn() {
    let mut director = Director::new(Scheduler::Rr, 1, 4096).with(&[(1, 1, true), (2, 1, true), (3, 1, true)]);
    let first = director.send(0, 1, 1000, SYN);
    assert_eq!(director.counts.last, Some(How::Turn));
    for _ in 0..5 {
        assert_eq!(director.send(0, 1, 1000, SYN), first);
    }
    assert_eq!(director.send(0, 1, 1001, SYN), Some(first.unwrap() - 1));
}

#[test]
fn a_packet_from_the_middle_of_an_unknown_flow_goes_by_the_hash_and_takes_no_turn() {
    let servers: Vec<Server> = (1..=9).map(|server| (server, 1, true)).collect();
    let hashing = |scheduler| Director::new(scheduler, 1, 4096).with(&servers);
    let (mut by_turns, mut by_hash) = (hashing(Scheduler::Rr), hashing(Scheduler::Mh));
    for port in 2000..2300 {
        assert_eq!(by_turns.send(0, 7, port, ACK), by_hash.send(0, 7, port, ACK));
        assert_eq!(by_turns.counts.last, Some(How::Hash));
        assert_eq!(by_turns.send(0, 7, port, FIN_ACK), by_hash.send(0, 7, port, FIN_ACK));
    }
    assert_eq!(by_turns.flows(0, 0, 9), [9, 8, 7, 6, 5, 4, 3, 2, 1]);
}

#[test]
fn without_room_a_flow_goes_by_its_hash_first_and_last() {
    let servers: Vec<Server> = (1..=9).map(|server| (server, 1, true)).collect();
    let mut director = Director::new(Scheduler::Rr, 1, 4).with(&servers);
    let mut by_hash = Director::new(Scheduler::Mh, 1, 4096).with(&servers);
    let kept: HashMap<u32, u8> = (0..).zip(director.flows(0, 0, 8)).collect();
    assert_eq!(director.counts.flows_without_room, 0);
    for flow in 100..400 {
        let (client, port) = tuple(flow);
        let first = director.send(0, client, port, SYN);
        assert_eq!(director.counts.last, Some(How::Hash));
        assert_eq!(first, by_hash.send(0, client, port, SYN));
        assert_eq!(director.send(0, client, port, ACK), first);
    }
    assert!(director.counts.flows_without_room >= 300);
    for (flow, server) in kept {
        let (client, port) = tuple(flow);
        assert_eq!(director.send(0, client, port, ACK), Some(server));
    }
}

#[test]
fn a_flow_that_moves_to_another_worker_keeps_its_real_server() {
    for scheduler in Scheduler::ALL {
        let mut director = Director::new(scheduler, 3, 4096).with(&[(1, 1, true), (2, 2, true), (3, 3, true)]);
        let servers = director.flows(0, 0, 60);
        for (flow, server) in (0..).zip(&servers) {
            let (client, port) = tuple(flow);
            assert_eq!(director.send(1, client, port, ACK), Some(*server), "{scheduler:?}");
        }
    }
    let mut director = Director { protocol: Protocol::Udp, ..Director::new(Scheduler::Rr, 2, 4096) };
    director.set(&[(1, 1, true), (2, 1, true)]);
    for port in 1..50 {
        let server = director.send_datagram(0, 9, port);
        assert_eq!(director.send_datagram(1, 9, port), server);
        assert_eq!(director.send_datagram(0, 9, port), server);
    }
}

#[test]
fn rr_goes_on_after_the_last_one_over_changes() {
    let all: Vec<Server> = (1..=5).map(|server| (server, 1, true)).collect();
    let mut director = Director::new(Scheduler::Rr, 1, 4096).with(&all);
    assert_eq!(director.flows(0, 0, 2), [5, 4]);
    let mut dead = all.clone();
    dead[2].2 = false;
    director.set(&dead);
    assert_eq!(director.flows(0, 10, 2), [2, 1], "3 is down");
    director.set(&all);
    assert_eq!(director.flows(0, 20, 3), [5, 4, 3]);
    director.set(&all[..2]);
    assert_eq!(director.flows(0, 30, 2), [2, 1]);
    director.set(&[(1, 0, true), (2, 1, false)]);
    assert_eq!(director.send(0, 1, 1, SYN), None);
}

#[test]
fn lc_and_wlc_weigh_connections_as_ipvs_does() {
    let servers = [(1, 1, true), (2, 2, true)];
    let mut lc = Director::new(Scheduler::Lc, 1, 4096).with(&servers);
    assert_eq!(lc.flows(0, 0, 6), [2, 1, 2, 1, 2, 1], "equal ones in the order of the list");
    let mut wlc = Director::new(Scheduler::Wlc, 1, 4096).with(&servers);
    assert_eq!(shares(&wlc.flows(0, 0, 300)), [(1, 100), (2, 200)].into());
    // 255 that are no more than begun weigh less than one that is established.
    let mut lc = Director::new(Scheduler::Lc, 1, 1 << 14).with(&[(1, 1, true)]);
    lc.flows(0, 0, 1);
    lc.set(&[(1, 1, true), (2, 1, true)]);
    for flow in 1..=256 {
        let (client, port) = tuple(flow);
        assert_eq!(lc.send(0, client, port, SYN), Some(2), "flow {flow}");
    }
    // Now they weigh the same, and the one added last stands first.
    assert_eq!(lc.connections(2), ConnectionCounts { active: 0, inactive: 256, persistent: 0, begun: 256 });
    assert_eq!([lc.send(0, 99, 1, SYN), lc.send(0, 99, 2, SYN)], [Some(2), Some(1)]);
}

#[test]
fn lc_finds_the_one_that_became_idle() {
    let mut director = Director::new(Scheduler::Lc, 1, 4096).with(&[(1, 1, true), (2, 1, true)]);
    let servers = director.flows(0, 0, 20);
    for (flow, server) in (0..).zip(&servers) {
        let (client, port) = tuple(flow);
        if *server == 1 {
            director.send(0, client, port, FIN_ACK);
        }
    }
    assert_eq!(director.connections(1), ConnectionCounts { active: 0, inactive: 10, persistent: 0, begun: 10 });
    assert_eq!(shares(&director.flows(0, 100, 10)), [(1, 10)].into());
}

#[test]
fn lc_sees_what_other_workers_have_a_period_later() {
    let mut director = Director::new(Scheduler::Lc, 2, 4096).with(&[(1, 1, true), (2, 1, true)]);
    director.workers.iter_mut().for_each(|worker| worker.period = 1);
    director.flows(1, 0, 1);
    director.set(&[(1, 1, true)]);
    director.flows(0, 10, 50);
    director.set(&[(1, 1, true), (2, 1, true)]);
    assert_eq!(shares(&director.flows(1, 100, 10)), [(1, 5), (2, 5)].into(), "what it read in this period");
    director.workers[1].period = 2;
    assert_eq!(shares(&director.flows(1, 200, 20)), [(2, 20)].into());
}

#[test]
fn persistence_ends_with_its_timeout_and_not_with_draining() {
    let servers = [(1, 1, true), (2, 1, true), (3, 1, true)];
    let mut director = Director::new(Scheduler::Rr, 1, 4096).persistent(300, 32).with(&servers);
    assert_eq!(director.flows(0, 0, 5), [3; 5], "one client");
    assert_eq!(director.send(0, 77, 1, SYN), Some(2), "another");
    assert_eq!(director.connections(3), ConnectionCounts { active: 5, inactive: 0, persistent: 1, begun: 5 });
    director.set(&[(1, 1, true), (2, 1, true), (3, 0, true)]);
    director.now_s += 299;
    assert_eq!(director.flows(0, 10, 5), [3; 5], "it drains, and its clients stay");
    director.now_s += 301;
    assert_eq!(director.flows(0, 20, 2), [1; 2], "2 had its turn");
    // An unconfirmed client is forgotten sooner.
    director.now_s += 1000;
    let forged = director.send(0, 88, 1, SYN);
    director.now_s += 31;
    assert_ne!(director.send(0, 88, 2, SYN), forged);
}

#[test]
fn a_client_whose_real_server_dies_gets_another_for_good() {
    let servers = [(1, 1, true), (2, 1, true), (3, 1, true)];
    for scheduler in Scheduler::ALL {
        let mut director = Director::new(scheduler, 1, 4096).persistent(300, 32).with(&servers);
        let first = director.flows(0, 0, 2)[0];
        let mut without = servers;
        without[usize::from(first) - 1].2 = false;
        director.set(&without);
        let second = director.flows(0, 10, 3);
        assert!(second.iter().all(|server| *server == second[0] && *server != first), "{scheduler:?}");
        director.set(&servers);
        assert_eq!(director.flows(0, 20, 3), second, "{scheduler:?}");
    }
}

#[test]
fn a_mask_makes_one_client_of_a_network() {
    let servers: Vec<Server> = (1..=9).map(|server| (server, 1, true)).collect();
    let mut director = Director::new(Scheduler::Rr, 1, 4096).persistent(300, 24).with(&servers);
    let base = u32::from(CLIENT) & !0xff;
    assert!((0..256).all(|host| director.send(0, base + host, 1000, SYN) == Some(9)));
    assert_eq!(director.send(0, base + 256, 1000, SYN), Some(8));
}

#[test]
fn clients_are_no_flows() {
    let mut director = Director::new(Scheduler::Wlc, 1, 4096).persistent(300, 32).with(&[(1, 1, true), (2, 1, true)]);
    director.flows(0, 0, 10);
    let counts = director.workers[0].flows.reader().count(director.now_s);
    assert_eq!((counts.established, counts.unconfirmed), (10, 0));
}

#[derive(Clone, Debug)]
enum Step {
    Segment { worker: usize, client: u32, port: u16, flags: u8 },
    Pass(u32),
    Weight(usize, u32),
    Alive(usize, bool),
    Sweep(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let flags = prop::sample::select(vec![SYN, SYN, ACK, ACK, FIN_ACK]);
    prop_oneof![
        12 => (0usize..3, 0u32..20, 1u16..20, flags)
            .prop_map(|(worker, client, port, flags)| Step::Segment { worker, client, port, flags }),
        1 => (0u32..40).prop_map(Step::Pass),
        1 => (0usize..5, 0u32..4).prop_map(|(at, weight)| Step::Weight(at, weight)),
        1 => (0usize..5, any::<bool>()).prop_map(|(at, alive)| Step::Alive(at, alive)),
        1 => (0usize..64).prop_map(Step::Sweep),
    ]
}

fn servers() -> impl Strategy<Value = Vec<Server>> {
    prop::collection::vec(0u32..7, 1..9)
        .prop_map(|weights| (1..).zip(weights).map(|(server, weight)| (server, weight, true)).collect())
        .prop_filter("somebody", |servers: &Vec<Server>| servers.iter().any(|server| server.1 > 0))
}

fn greatest_divisor(servers: &[Server]) -> i64 {
    Ipvs::new(servers).step()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn one_worker_goes_ipvs_s_way(servers in servers()) {
        let (mut rr, mut wrr) = (Ipvs::new(&servers), Ipvs::new(&servers));
        let flows = Director::new(Scheduler::Rr, 1, 4096).with(&servers).flows(0, 0, 100);
        prop_assert_eq!(flows, (0..100).map(|_| rr.rr()).collect::<Vec<_>>());
        let flows = Director::new(Scheduler::Wrr, 1, 4096).with(&servers).flows(0, 0, 100);
        prop_assert_eq!(flows, (0..100).map(|_| wrr.wrr()).collect::<Vec<_>>());
    }

    #[test]
    fn whole_rounds_give_exact_shares_and_workers_stay_within_their_bound(
        servers in servers(),
        workers in prop::collection::vec(0usize..4, 0..400),
    ) {
        let step = greatest_divisor(&servers);
        let weight = |server: &Server| i64::from(server.1) / step;
        let total: i64 = servers.iter().map(weight).sum();
        let rounds = Director::new(Scheduler::Wrr, 1, 4096).with(&servers).flows(0, 0, u32::try_from(3 * total).unwrap());
        for server in servers.iter().filter(|server| server.1 > 0) {
            prop_assert_eq!(shares(&rounds)[&server.0], 3 * weight(server));
        }
        let live = servers.iter().filter(|server| server.1 > 0).count() as i64;
        for scheduler in [Scheduler::Rr, Scheduler::Wrr] {
            let mut director = Director::new(scheduler, 4, 4096).with(&servers);
            let chosen: Vec<u8> =
                (0..).zip(&workers).map(|(flow, worker)| director.flows(*worker, flow, 1)[0]).collect();
            for server in servers.iter().filter(|server| server.1 > 0) {
                let (weight, total) = if scheduler == Scheduler::Rr { (1, live) } else { (weight(server), total) };
                let got = shares(&chosen).get(&server.0).copied().unwrap_or(0);
                // Without fractions: |got - flows * weight / total| <= workers * weight.
                let off = (got * total - chosen.len() as i64 * weight).abs();
                prop_assert!(off <= 4 * weight * total, "{scheduler:?}: {got} of {} for {server:?}", chosen.len());
            }
        }
    }

    #[test]
    fn each_worker_begins_elsewhere(count in 4u8..40) {
        let servers: Vec<Server> = (1..=count).map(|server| (server, 1, true)).collect();
        for scheduler in [Scheduler::Rr, Scheduler::Wrr] {
            let mut director = Director::new(scheduler, 4, 4096).with(&servers);
            let first: Vec<u8> = (0..4).map(|worker| director.flows(worker, worker as u32, 1)[0]).collect();
            prop_assert_eq!(shares(&first).len(), 4, "{:?}", first);
        }
    }

    #[test]
    fn nobody_dead_is_chosen_entries_hold_and_counts_are_true(
        scheduler in prop::sample::select(Scheduler::ALL.to_vec()),
        persistent in any::<bool>(),
        steps in prop::collection::vec(step(), 1..250),
    ) {
        let mut servers: Vec<Server> = (1..=5).map(|server| (server, u32::from(server % 3) + 1, true)).collect();
        let mut director = Director::new(scheduler, 3, 256);
        if persistent {
            director = director.persistent(60, 32);
        }
        director.set(&servers);
        for step in steps {
            match step {
                Step::Segment { worker, client, port, flags } => {
                    let key = |director: &Director| {
                        director.workers[worker].flows.reader().iter(director.now_s).find(|record| {
                            record.key.ports() == (port, 80) && record.key.client()[..4] == client.to_be_bytes()
                        })
                    };
                    let before = key(&director);
                    let chosen = director.send(worker, client, port, flags);
                    let server = chosen.map(|chosen| servers[usize::from(chosen) - 1]);
                    prop_assert!(server.is_none_or(|server| server.2), "sent to the dead");
                    if let Some(record) = before && record.state == FlowState::Established {
                        let at = director.table().position_of(record.real_server).unwrap();
                        let kept = &director.table().real_servers()[at as usize];
                        if kept.is_alive() {
                            prop_assert_eq!(chosen, Some(number(kept.address)), "an entry holds");
                        }
                    }
                    let somebody = servers.iter().any(|server| server.2 && server.1 > 0);
                    prop_assert!(chosen.is_some() || !somebody, "{:?}", servers);
                }
                Step::Pass(seconds) => director.now_s += seconds,
                Step::Weight(at, weight) => servers[at].1 = weight,
                Step::Alive(at, alive) => servers[at].2 = alive,
                Step::Sweep(slots) => {
                    let Director { workers, table, now_s, .. } = &mut director;
                    workers[0].sweep(slots, *now_s, table.as_ref().unwrap().connections());
                }
            }
            if matches!(step, Step::Weight(..) | Step::Alive(..)) {
                director.set(&servers);
            }
        }
        // Once all that has expired is swept away, the counts are what the tables hold.
        let Director { workers, table, now_s, .. } = &mut director;
        let connections = table.as_ref().unwrap().connections();
        let mut expected: HashMap<u32, ConnectionCounts> = HashMap::new();
        for worker in workers.iter_mut() {
            worker.sweep(1 << 12, *now_s, connections);
            for record in worker.flows.reader().iter(*now_s) {
                let of = expected.entry(record.real_server).or_default();
                match record.state {
                    FlowState::Established => of.active += 1,
                    _ => of.inactive += 1,
                }
            }
        }
        for server in table.as_ref().unwrap().real_servers() {
            let ConnectionCounts { active, inactive, .. } = expected.remove(&server.id).unwrap_or_default();
            let counted = connections.sum(server.id);
            prop_assert_eq!((counted.active, counted.inactive), (active, inactive));
        }
        *now_s += 100_000;
        workers.iter_mut().for_each(|worker| worker.sweep(1 << 12, *now_s, connections));
        for server in table.as_ref().unwrap().real_servers() {
            let sum = connections.sum(server.id);
            prop_assert_eq!(ConnectionCounts { begun: 0, ..sum }, ConnectionCounts::default());
        }
    }

    #[test]
    fn a_client_meets_one_real_server_within_the_timeout(
        scheduler in prop::sample::select(Scheduler::ALL.to_vec()),
        connections in prop::collection::vec((0u32..6, 0usize..3, 0u32..90), 1..150),
    ) {
        let servers: Vec<Server> = (1..=7).map(|server| (server, u32::from(server % 3) + 1, true)).collect();
        let mut director = Director::new(scheduler, 3, 4096).persistent(60, 32).with(&servers);
        let mut last: HashMap<u32, (u8, u32)> = HashMap::new();
        for (port, (client, worker, pause_s)) in (1000..).zip(connections) {
            director.now_s += pause_s / 6;
            let server = director.send(worker, client, port, SYN).unwrap();
            director.send(worker, client, port, ACK);
            if let Some((before, at_s)) = last.insert(client, (server, director.now_s))
                && director.now_s - at_s < 60
            {
                prop_assert_eq!(server, before, "client {}", client);
            }
        }
    }

    #[test]
    fn sh_honours_weights_and_agrees_whatever_the_order(
        servers in servers(),
        turn: prop::sample::Index,
        hash_by in prop::sample::select(vec![HashBy::Flow, HashBy::Client]),
    ) {
        let mut turned = servers.clone();
        turned.rotate_left(turn.index(servers.len()));
        let sh = |servers: &[Server]| Director { hash_by, ..Director::new(Scheduler::Sh, 1, 4096) }.with(servers);
        let (mut one, mut other) = (sh(&servers), sh(&turned));
        for client in 0..200 {
            for port in [1000, 1001] {
                let chosen = one.send(0, client, port, SYN);
                prop_assert_eq!(chosen, other.send(0, client, port, SYN));
                if hash_by == HashBy::Client {
                    prop_assert_eq!(chosen, one.send(0, client, 7, SYN));
                }
            }
        }
        let total: u32 = servers.iter().map(|server| server.1).sum();
        for (server, slots) in servers.iter().zip(one.table().services()[0].shares()) {
            let exact = f64::from(server.1) * 4093.0 / f64::from(total);
            prop_assert!((f64::from(slots) - exact).abs() < 1.0, "{server:?}: {slots} for {exact}");
        }
    }
}

/// Opens flows from the port `first` on, each by SYN and confirmed by an ACK; what each SYN got.
fn open(director: &mut Director, worker: usize, first: u16, count: u16) -> Vec<Option<u8>> {
    (first..first + count)
        .map(|port| {
            let to = director.send(worker, CLIENT_NUMBER, port, SYN);
            if to.is_some() {
                assert_eq!(director.send(worker, CLIENT_NUMBER, port, ACK), to, "a flow stays where it began");
            }
            to
        })
        .collect()
}

const CLIENT_NUMBER: u32 = 0x0a00_0007;

fn limited(scheduler: Scheduler, workers: usize, limits: &[(u8, u32, Option<u32>)], servers: &[Server]) -> Director {
    let mut director = Director::new(scheduler, workers, 4096);
    let limit = |&(number, upper, lower): &(u8, u32, Option<u32>)| (number, ConnectionLimit { upper, lower });
    director.limits = limits.iter().map(limit).collect();
    director.with(servers)
}

fn count(of: u8, among: &[Option<u8>]) -> usize {
    among.iter().filter(|to| **to == Some(of)).count()
}

#[test]
fn no_scheduler_gives_a_real_server_more_connections_than_its_upper_threshold() {
    let servers = [(1, 1, true), (2, 3, true), (3, 2, true)];
    for scheduler in Scheduler::ALL {
        let mut director = limited(scheduler, 1, &[(2, 10, None)], &servers);
        let first = open(&mut director, 0, 1000, 200);
        assert_eq!(count(2, &first), 10, "{scheduler:?}");
        assert!(first.iter().all(Option::is_some), "{scheduler:?}: the others have no limit");
        assert!(count(1, &first) > 20 && count(3, &first) > 20, "{scheduler:?}: {first:?}");
        let of_two: Vec<u16> = (1000..).zip(&first).filter(|(_, to)| **to == Some(2)).map(|(port, _)| port).collect();
        // The established go on, and a SYN that comes again is none of a new flow.
        for port in &of_two {
            assert_eq!(director.send(0, CLIENT_NUMBER, *port, SYN), Some(2), "{scheduler:?}");
        }
        // Three of ten end and are forgotten: that is below three quarters, 7.5.
        end(&mut director, &of_two[..2]);
        assert_eq!(count(2, &open(&mut director, 0, 3000, 100)), 0, "{scheduler:?}: 8 are not below 7.5");
        end(&mut director, &of_two[2..3]);
        assert_eq!(count(2, &open(&mut director, 0, 5000, 100)), 3, "{scheduler:?}: room for 3");
    }
}

/// Ends flows of real server 2 and has their entries swept.
fn end(director: &mut Director, ports: &[u16]) {
    for port in ports {
        assert_eq!(director.send(0, CLIENT_NUMBER, *port, FIN_ACK), Some(2));
    }
    director.now_s += FlowTimeouts::default().tcp_fin_s + 1;
    let Director { table, workers, now_s, .. } = director;
    workers[0].sweep(1 << 20, *now_s, table.as_ref().unwrap().connections());
}

#[test]
fn the_lower_threshold_says_when_a_real_server_gets_flows_again() {
    let mut director = limited(Scheduler::Rr, 1, &[(2, 10, Some(3))], &[(1, 1, true), (2, 1, true)]);
    let first = open(&mut director, 0, 1000, 40);
    let of_two: Vec<u16> = (1000..).zip(&first).filter(|(_, to)| **to == Some(2)).map(|(port, _)| port).collect();
    assert_eq!(of_two.len(), 10);
    end(&mut director, &of_two[..7]);
    assert_eq!(count(2, &open(&mut director, 0, 3000, 20)), 0, "3 are not below 3");
    end(&mut director, &of_two[7..8]);
    assert_eq!(count(2, &open(&mut director, 0, 4000, 40)), 8, "2 are, and 10 is the most");
}

#[test]
fn without_any_room_a_new_flow_is_dropped_or_goes_to_the_fallback_server() {
    for scheduler in Scheduler::ALL {
        let servers = [(1, 1, true), (2, 2, true)];
        let limits = [(1, 3, None), (2, 4, None)];
        let mut director = limited(scheduler, 1, &limits, &servers);
        let got = open(&mut director, 0, 1000, 40);
        assert_eq!((count(1, &got), count(2, &got)), (3, 4), "{scheduler:?}: {got:?}");
        let last = director.last_verdict(CLIENT_NUMBER, 2000);
        let Verdict::Drop { reason, service, .. } = last else { panic!("{last:?}") };
        assert_eq!((reason, service), (DropReason::ConnectionLimit, Some(0)));

        let mut director = Director { fallback: Some(9), ..limited(scheduler, 1, &limits, &servers) };
        director.set(&servers);
        let got = open(&mut director, 0, 1000, 40);
        assert_eq!((count(1, &got), count(2, &got), count(9, &got)), (3, 4, 33), "{scheduler:?}");
    }
}

#[test]
fn workers_see_each_others_connections_in_the_next_period() {
    let mut director = limited(Scheduler::Rr, 2, &[(2, 10, None)], &[(1, 1, true), (2, 1, true)]);
    assert_eq!(count(2, &open(&mut director, 0, 1000, 12)), 6);
    director.workers[1].period += 1;
    assert_eq!(count(2, &open(&mut director, 1, 2000, 20)), 4, "six are the other worker's");
    director.workers[0].period += 1;
    assert_eq!(count(2, &open(&mut director, 0, 3000, 20)), 0);
}

#[test]
fn a_higher_threshold_gives_room_at_once_and_a_lower_one_takes_it() {
    let servers = [(1, 1, true), (2, 1, true)];
    let mut director = limited(Scheduler::Wrr, 1, &[(2, 10, None)], &servers);
    assert_eq!(count(2, &open(&mut director, 0, 1000, 40)), 10);
    director.limits.insert(2, ConnectionLimit { upper: 12, lower: None });
    director.set(&servers);
    assert_eq!(count(2, &open(&mut director, 0, 2000, 40)), 2, "10 are not below 9, but the limit is a higher one");
    director.limits.insert(2, ConnectionLimit { upper: 5, lower: None });
    director.set(&servers);
    assert_eq!(count(2, &open(&mut director, 0, 3000, 40)), 0);
    director.limits.clear();
    director.set(&servers);
    assert_eq!(count(2, &open(&mut director, 0, 4000, 40)), 20);
}

#[test]
fn clients_stay_where_persistence_keeps_them_also_where_it_is_full() {
    let mut director = limited(Scheduler::Rr, 1, &[(1, 5, None), (2, 5, None)], &[(1, 1, true), (2, 1, true)]);
    director.persistence = Some(ClientPersistence::new(300, 32));
    director.set(&[(1, 1, true), (2, 1, true)]);
    let got = open(&mut director, 0, 1000, 20);
    assert!(got.iter().all(|to| *to == got[0] && to.is_some()), "{got:?}");
    let other = director.send(0, CLIENT_NUMBER + 1, 1000, SYN);
    assert!(other.is_some() && other != got[0], "another client goes where there is room");
}

#[test]
fn a_real_server_that_is_added_again_has_no_connections_begun() {
    let mut director = Director::new(Scheduler::Rr, 1, 4096).with(&[(1, 1, true), (2, 1, true)]);
    assert_eq!(count(2, &open(&mut director, 0, 1000, 10)), 5);
    let begun = |director: &Director| {
        let table = director.table();
        let server = table.real_servers().iter().find(|server| number(server.address) == 2).unwrap();
        (table.connections_of(server).begun, table.connections_of(server).active)
    };
    assert_eq!(begun(&director), (5, 5));
    director.set(&[(1, 1, true), (2, 3, true)]);
    assert_eq!(begun(&director), (5, 5), "a change of its weight is none of it");
    director.set(&[(1, 1, true)]);
    director.set(&[(1, 1, true), (2, 1, true)]);
    assert_eq!(begun(&director), (0, 5), "what is remembered of it is its own again");
    open(&mut director, 0, 2000, 10);
    assert_eq!(begun(&director), (5, 10));
}
