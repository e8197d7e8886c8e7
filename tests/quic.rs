//! Flows of a QUIC service stay on their real server when the client's address changes.
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

use std::net::{IpAddr, Ipv4Addr};

use packets::*;
use pointsman::flow::WorkerFlows;
use pointsman::forward::{Counts, How, forward};
use pointsman::service::{Protocol, ServiceKey};
use pointsman::table::{
    Egress, FlowHasher, FlowTimeouts, ForwardingTable, HashBy, Identities, NextHop, Quorum, RealServerPlan, Scheduler,
    ServicePlan, Standing, TablePlan,
};
use pointsman::verdict::Verdict;
use pointsman::wire::MacAddress;
use pointsman::wire::quic::ServerId;
use proptest::prelude::*;

const SHORT: u8 = 0x40;
const SERVERS: u8 = 5;

/// Real servers by number, with weight and whether they are alive. Each has the id 0xa0, number.
type Server = (u8, u32, bool);

struct Director {
    identities: Identities,
    table: ForwardingTable,
    flows: WorkerFlows,
    counts: Counts,
}

fn plan(servers: &[Server], with_ids: bool) -> TablePlan {
    let mac = |number| MacAddress::new([2, 0, 0, 0, 1, number]);
    let real_server = |&(number, weight, alive): &Server| RealServerPlan {
        id: 0,
        address: address(number),
        weight,
        next_hop: alive.then_some(NextHop { mac: mac(number), egress: 0 }),
        standing: Standing::Sound,
        limit: None,
        quic_server_id: with_ids.then(|| ServerId::new(&[0xa0, number]).unwrap()),
    };
    TablePlan {
        hasher: FlowHasher::new("a secret"),
        egresses: vec![Egress { name: "eth0".to_owned(), source: mac(0), mtu: 1500 }],
        services: vec![ServicePlan {
            id: 0,
            key: ServiceKey { vip: VIP.into(), protocol: Protocol::Udp, port: 53 },
            table_size: 251,
            hash_by: HashBy::Flow,
            scheduler: Scheduler::Mh,
            persistence: None,
            timeouts: FlowTimeouts::default(),
            previous_table_s: 0,
            fallback: None,
            quorum: Quorum::default(),
            real_servers: servers.iter().map(real_server).collect(),
        }],
        workers: 1,
        now_s: 1000,
    }
}

fn address(number: u8) -> IpAddr {
    Ipv4Addr::new(192, 168, 88, number).into()
}

fn all() -> Vec<Server> {
    (1..=SERVERS).map(|number| (number, 1, true)).collect()
}

impl Director {
    fn new(with_ids: bool) -> Self {
        let mut identities = Identities::default();
        let table = ForwardingTable::build(&plan(&all(), with_ids).numbered(&mut identities), None);
        Self { identities, table, flows: WorkerFlows::new(1024).unwrap(), counts: Counts::default() }
    }

    fn set(&mut self, servers: &[Server]) {
        self.table = ForwardingTable::build(&plan(servers, true).numbered(&mut self.identities), Some(&self.table));
    }

    fn send(&mut self, client: u32, port: u16, payload: &[u8]) -> IpAddr {
        let mut frame = datagram(client, port, payload);
        self.send_frame(&mut frame)
    }

    fn send_frame(&mut self, frame: &mut [u8]) -> IpAddr {
        match forward(frame, &self.table, &mut self.flows, &mut self.counts, 1000) {
            Verdict::Tx { route, .. } => self.table.real_servers()[route.real_server as usize].address,
            verdict => panic!("{verdict:?}"),
        }
    }

    /// Where a flow goes that is known by its tuple alone.
    fn by_tuple(&self, client: u32, port: u16) -> IpAddr {
        let mut fresh = Self::new(false);
        let servers: Vec<Server> = self
            .table
            .real_servers()
            .iter()
            .map(|server| match server.address {
                IpAddr::V4(v4) => (v4.octets()[3], server.weight, server.is_alive()),
                IpAddr::V6(_) => unreachable!(),
            })
            .collect();
        fresh.table = ForwardingTable::build(&plan(&servers, false).numbered(&mut fresh.identities), None);
        fresh.send(client, port, &[SHORT, 1, 2, 3, 4, 5, 6, 7, 8])
    }
}

fn datagram(client: u32, port: u16, payload: &[u8]) -> Vec<u8> {
    let mut segment = udp(port, 53);
    segment.truncate(8);
    segment.extend(payload);
    let length = u16::try_from(segment.len()).unwrap();
    segment[4..6].copy_from_slice(&length.to_be_bytes());
    Ipv4 { source: Ipv4Addr::from(client), protocol: UDP, ..Default::default() }.frame(&segment)
}

/// A connection id that the server of this number chose.
fn id_of(number: u8, nonce: u64) -> Vec<u8> {
    let mut id = vec![0x0a, 0xa0, number];
    id.extend(nonce.to_be_bytes());
    id
}

fn short(id: &[u8]) -> Vec<u8> {
    [&[SHORT], id, &[0; 20]].concat()
}

/// A long header of version 1.
fn long(packet_type: u8, id: &[u8]) -> Vec<u8> {
    let mut packet = vec![0xc0 | packet_type << 4, 0, 0, 0, 1, u8::try_from(id.len()).unwrap()];
    packet.extend(id);
    packet.extend([0; 40]);
    packet
}

fn number_of(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(v4) => v4.octets()[3],
        IpAddr::V6(_) => unreachable!(),
    }
}

#[test]
fn a_flow_whose_client_s_address_changes_keeps_its_real_server() {
    let mut director = Director::new(true);
    let mut moved_without = 0;
    for flow in 0..200u32 {
        let (client, port) = (0x0a00_0000 + flow, 4000);
        // The client's first packets have an id of its own; the server that gets them chooses the next.
        let server = director.send(client, port, &long(0, &[0x33; 8]));
        let id = id_of(number_of(server), flow.into());
        assert_eq!(director.send(client, port, &long(2, &id)), server, "Handshake");
        assert_eq!(director.send(client, port, &short(&id)), server);
        // Another network, then another port of a NAT, each with an id that was not used before.
        for (change, (client, port)) in [(0x0b00_0000 + flow, 4000), (0x0b00_0000 + flow, 9999)].into_iter().enumerate()
        {
            let id = id_of(number_of(server), u64::from(flow) << 8 | change as u64);
            assert_eq!(director.send(client, port, &short(&id)), server, "flow {flow}, change {change}");
            assert_eq!(director.counts.last, Some(How::ConnectionId));
            moved_without += u32::from(director.by_tuple(client, port) != server);
            // An ICMP error has only the tuple to go by.
            let reply = Ipv4 { source: VIP, destination: client.into(), protocol: UDP, ..Default::default() };
            let error = icmp(3, &reply.packet(&udp(53, port)[..8]));
            let error = Ipv4 { protocol: ICMP, ..Default::default() }.frame(&error);
            assert_eq!(director.send_frame(&mut error.clone()), server);
        }
    }
    assert!(moved_without > 200, "{moved_without} of 400 would have moved");
}

#[test]
fn what_names_no_live_real_server_goes_by_the_tuple() {
    let mut id_7 = id_of(2, 0);
    id_7[0] |= 0xe0;
    let rows = [
        ("an Initial with an id that looks like a server's", long(0, &id_of(2, 0))),
        ("a 0-RTT packet with one", long(1, &id_of(2, 0))),
        ("a short header with an unknown id", short(&id_of(99, 0))),
        ("one of configuration 7", short(&id_7)),
        ("one that ends within the id", short(&id_of(2, 0))[..3].to_vec()),
        ("no payload", Vec::new()),
        ("a server that is down", short(&id_of(5, 0))),
    ];
    let mut servers = all();
    servers[4].2 = false;
    for (description, payload) in rows {
        for client in 0..50 {
            let mut director = Director::new(true);
            director.set(&servers);
            let expected = director.by_tuple(client, 7);
            assert_eq!(director.send(client, 7, &payload), expected, "{description}");
            assert_ne!(director.counts.last, Some(How::ConnectionId), "{description}");
        }
    }
}

#[test]
fn a_drained_server_keeps_its_connections_and_a_removed_one_does_not() {
    let mut director = Director::new(true);
    let mut drained = all();
    drained[1].1 = 0;
    director.set(&drained);
    assert_eq!(director.send(1, 1, &short(&id_of(2, 0))), address(2));
    director.set(&drained[2..]);
    assert_ne!(director.send(1, 1, &short(&id_of(2, 0))), address(2));
}

#[test]
fn without_ids_a_service_is_as_any_other() {
    let mut director = Director::new(false);
    for client in 0..100 {
        let expected = director.by_tuple(client, 7);
        assert_eq!(director.send(client, 7, &short(&id_of(2, 0))), expected);
    }
}

proptest! {
    /// Whatever a datagram says, it goes to a real server of the service, and the tuple's next one without an id goes
    /// to the same.
    #[test]
    fn the_tuple_follows_the_id(
        payload in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..60),
            (0u8..8, any::<u64>()).prop_map(|(number, nonce)| short(&id_of(number, nonce))),
            (0u8..4, 0u8..8, any::<u64>()).prop_map(|(kind, number, nonce)| long(kind, &id_of(number, nonce))),
        ],
        client: u32,
        port in 1u16..,
    ) {
        let mut director = Director::new(true);
        let server = director.send(client, port, &payload);
        prop_assert_eq!(director.send(client, port, &[SHORT]), server);
    }
}
