//! The forwarding decision: a table of frames with their verdicts, and what holds for any frame.
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

mod packets;

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr};

use packets::*;
use pointsman::flow::WorkerFlows;
use pointsman::forward::{self, Counts};
use pointsman::service::{Protocol, ServiceKey};
use pointsman::table::{
    Egress, FlowHasher, FlowTimeouts, ForwardingTable, HashBy, Identities, NextHop, Quorum, RealServerPlan, Scheduler,
    ServicePlan, Standing, TablePlan,
};
use pointsman::verdict::{DropReason, Verdict};
use pointsman::wire::MacAddress;
use proptest::prelude::*;

const SOURCE: MacAddress = MacAddress::new([2, 0, 0, 0, 0, 0xd0]);
const NOBODY: Ipv4Addr = Ipv4Addr::new(192, 168, 88, 19);
const MTU: u32 = 1500;

fn real_servers(count: u8, alive: bool) -> Vec<RealServerPlan> {
    (1..=count)
        .map(|number| RealServerPlan {
            id: 0,
            address: Ipv4Addr::new(192, 168, 88, 100 + number).into(),
            weight: 1,
            next_hop: alive.then_some(NextHop { mac: MacAddress::new([2, 0, 0, 0, 1, number]), egress: 0 }),
            standing: Standing::Sound,
            limit: None,
            quic_server_id: None,
        })
        .collect()
}

/// The services of the packet tables with ten real servers each, and one of which all are down.
fn table() -> ForwardingTable {
    let service = |key, real_servers| ServicePlan {
        id: 0,
        timeouts: FlowTimeouts::default(),
        previous_table_s: 0,
        fallback: None,
        quorum: Quorum::default(),
        key,
        table_size: 4093,
        hash_by: HashBy::Flow,
        scheduler: Scheduler::Mh,
        persistence: None,
        real_servers,
    };
    let down = ServiceKey { vip: NOBODY.into(), protocol: Protocol::Tcp, port: 80 };
    let mut services: Vec<_> = services().into_iter().map(|key| service(key, real_servers(10, true))).collect();
    services.push(service(down, real_servers(3, false)));
    let plan = TablePlan {
        hasher: FlowHasher::new("a secret"),
        egresses: vec![Egress { name: "eth0".to_owned(), source: SOURCE, mtu: MTU }],
        services,
        workers: 1,
        now_s: 0,
    };
    ForwardingTable::build(&plan.numbered(&mut Identities::default()), None)
}

thread_local! {
    static FLOWS: RefCell<WorkerFlows> = RefCell::new(WorkerFlows::new(64).unwrap());
}

/// A decision. The real servers never change, so it does not matter what is remembered.
fn forward(frame: &mut [u8], table: &ForwardingTable) -> Verdict {
    FLOWS.with_borrow_mut(|flows| forward::forward(frame, table, flows, &mut Counts::default(), 1))
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Tx(&'static str),
    Drop(DropReason),
}

fn verdicts() -> Vec<(&'static str, Vec<u8>, Outcome)> {
    use Outcome::{Drop, Tx};
    let v4 = Ipv4::default();
    let v6 = Ipv6::default();
    let mut bad_offset = tcp(4711, 80);
    bad_offset[12] = 0xf0;
    let mut long_udp = udp(4711, 53);
    long_udp[5] += 1;
    let full = |extra: usize| {
        let mut segment = tcp(4711, 80);
        segment.resize(MTU as usize - 20 + extra, 0);
        segment
    };
    let quote = Ipv4 { source: VIP, destination: CLIENT, ..v4.clone() }.packet(&tcp(80, 4711)[..8]);
    vec![
        ("TCP over IPv4", v4.frame(&tcp(4711, 80)), Tx("tcp 192.168.88.15:80")),
        ("TCP in one VLAN", tagged(VLAN, &v4.frame(&tcp(4711, 80))), Tx("tcp 192.168.88.15:80")),
        ("TCP in QinQ", tagged(QINQ, &tagged(VLAN, &v4.frame(&tcp(4711, 80)))), Tx("tcp 192.168.88.15:80")),
        ("IPv4 options", Ipv4 { options: vec![1; 40], ..v4.clone() }.frame(&tcp(4711, 80)), Tx("tcp 192.168.88.15:80")),
        ("padding", [v4.frame(&tcp(4711, 80)), vec![0; 6]].concat(), Tx("tcp 192.168.88.15:80")),
        ("UDP", Ipv4 { protocol: UDP, ..v4.clone() }.frame(&udp(4711, 53)), Tx("udp 192.168.88.15:53")),
        ("any port", Ipv4 { destination: VIP_TCP_ANY, ..v4.clone() }.frame(&tcp(1, 2)), Tx("tcp 192.168.88.17:0")),
        (
            "a port of its own before any port",
            Ipv4 { destination: VIP_TCP_ANY, ..v4.clone() }.frame(&tcp(1, 443)),
            Tx("tcp 192.168.88.17:443"),
        ),
        ("TCP over IPv6", v6.frame(&tcp(4711, 80)), Tx("tcp [2001:db8:88::15]:80")),
        (
            "IPv6 extension headers",
            Ipv6 { extensions: vec![options(HOP_BY_HOP, 0), options(DESTINATION_OPTIONS, 1)], ..v6.clone() }
                .frame(&tcp(4711, 80)),
            Tx("tcp [2001:db8:88::15]:80"),
        ),
        (
            "fragmentation needed, eight bytes quoted",
            Ipv4 { source: Ipv4Addr::new(10, 9, 9, 9), protocol: ICMP, ..v4.clone() }.frame(&icmp(3, &quote)),
            Tx("tcp 192.168.88.15:80"),
        ),
        ("exactly the MTU", v4.frame(&full(0)), Tx("tcp 192.168.88.15:80")),
        ("exactly the MTU in QinQ", tagged(QINQ, &tagged(VLAN, &v4.frame(&full(0)))), Tx("tcp 192.168.88.15:80")),
        ("one byte over the MTU", v4.frame(&full(1)), Drop(DropReason::MtuExceeded)),
        (
            "a first fragment of the least length",
            Ipv4 { more_fragments: true, ..v4.clone() }.frame(&tcp(4711, 80)[..8]),
            Tx("tcp 192.168.88.15:80"),
        ),
        (
            "a first fragment without ports",
            Ipv4 { more_fragments: true, ..v4.clone() }.frame(&[0; 3]),
            Drop(DropReason::TruncatedL4),
        ),
        ("a later fragment", Ipv4 { fragment_offset: 1, ..v4.clone() }.frame(&[0; 3]), Tx("tcp 192.168.88.15:80")),
        ("TCP without ports", v4.frame(&[0; 3]), Drop(DropReason::TruncatedL4)),
        ("TCP of 19 bytes", v4.frame(&tcp(4711, 80)[..19]), Drop(DropReason::MalformedL4)),
        ("a TCP header longer than the segment", v4.frame(&bad_offset), Drop(DropReason::MalformedL4)),
        (
            "a UDP length over the datagram's",
            Ipv4 { protocol: UDP, ..v4.clone() }.frame(&long_udp),
            Drop(DropReason::MalformedL4),
        ),
        ("a port without service", v4.frame(&tcp(4711, 81)), Drop(DropReason::NoService)),
        (
            "all real servers down",
            Ipv4 { destination: NOBODY, ..v4.clone() }.frame(&tcp(4711, 80)),
            Drop(DropReason::NoRealServer),
        ),
        ("ARP", ethernet(ARP, &[0; 28]), Drop(DropReason::Malformed)),
        ("nothing", Vec::new(), Drop(DropReason::Malformed)),
    ]
}

#[test]
fn every_frame_of_the_table_has_its_verdict() {
    let table = table();
    for (description, frame, expected) in verdicts() {
        let mut rewritten = frame.clone();
        let verdict = forward(&mut rewritten, &table);
        match (&expected, verdict) {
            (Outcome::Tx(service), Verdict::Tx { route, .. }) => {
                assert_eq!(table.services()[route.service as usize].key.to_string(), *service, "{description}");
                let real_server = &table.real_servers()[route.real_server as usize];
                assert_eq!(rewritten[..12], real_server.macs()[..], "{description}");
                assert_eq!(rewritten[6..12], SOURCE.octets(), "{description}");
                assert_eq!(rewritten[12..], frame[12..], "{description}");
            }
            (Outcome::Drop(expected), Verdict::Drop { reason, .. }) => {
                assert_eq!(reason, *expected, "{description}");
                assert_eq!(rewritten, frame, "{description}: a dropped frame was changed");
            }
            (expected, verdict) => panic!("{description}: {expected:?} was to be, {verdict:?} came"),
        }
    }
}

/// Of two frames that differ in their VIP alone, one is for the service of number 0 and the other for none.
#[test]
fn a_frame_without_service_finds_nobodys_entry() {
    let table = table();
    let first = table.services().iter().find(|service| service.id == 0).unwrap().key;
    assert_eq!(first, ServiceKey { vip: VIP.into(), protocol: Protocol::Tcp, port: 80 });
    let stranger = Ipv4 { destination: Ipv4Addr::new(192, 168, 88, 250), ..Ipv4::default() };
    for port in 1000..1200 {
        // In the middle of a connection, so that its entry is established.
        let mut segment = tcp(port, 80);
        segment[13] = 0x10;
        // A single set, where every entry is in the way of every other.
        let mut flows = WorkerFlows::new(4).unwrap();
        let mut forward =
            |mut frame: Vec<u8>| forward::forward(&mut frame, &table, &mut flows, &mut Counts::default(), 1);
        for _ in 0..3 {
            let verdict = forward(Ipv4::default().frame(&segment));
            assert!(matches!(verdict, Verdict::Tx { .. }), "{verdict:?}");
        }
        let verdict = forward(stranger.frame(&segment));
        assert!(matches!(verdict, Verdict::Drop { reason: DropReason::NoService, .. }), "port {port}: {verdict:?}");
    }
}

fn real_server_of(table: &ForwardingTable, mut frame: Vec<u8>) -> IpAddr {
    match forward(&mut frame, table) {
        Verdict::Tx { route, .. } => table.real_servers()[route.real_server as usize].address,
        drop => panic!("{drop:?}: {frame:02x?}"),
    }
}

proptest! {
    #[test]
    fn errors_reach_the_real_server_of_the_flow_they_quote(
        port: u16,
        client: Ipv4Addr,
        client6: std::net::Ipv6Addr,
        router: Ipv4Addr,
        kind in prop::sample::select(vec![3u8, 11, 12]),
        kind6 in 1u8..=4,
        quoted in 4usize..20,
        words in 0usize..10,
    ) {
        let table = table();
        let flow = Ipv4 { source: client, ..Default::default() }.frame(&tcp(port, 80));
        let reply = Ipv4 { source: VIP, destination: client, options: vec![1; words * 4], ..Default::default() };
        let error = Ipv4 { source: router, protocol: ICMP, ..Default::default() }
            .frame(&icmp(kind, &reply.packet(&tcp(80, port)[..quoted])));
        prop_assert_eq!(real_server_of(&table, tagged(VLAN, &error)), real_server_of(&table, flow));

        let flow = Ipv6 { source: client6, ..Default::default() }.frame(&tcp(port, 80));
        let extensions = if words % 2 == 0 { vec![] } else { vec![options(DESTINATION_OPTIONS, 1)] };
        let reply = Ipv6 { source: VIP6, destination: client6, extensions, ..Default::default() };
        let error = Ipv6 { protocol: ICMPV6, ..Default::default() }
            .frame(&icmp(kind6, &reply.packet(&tcp(80, port)[..quoted])));
        prop_assert_eq!(real_server_of(&table, error), real_server_of(&table, flow));
    }

    #[test]
    fn later_fragments_of_two_addresses_go_to_one_real_server(client: Ipv4Addr, ids: [u16; 4], offset in 1u16..0x1fff) {
        let table = table();
        let fragment = |identification| {
            let header = Ipv4 { source: client, identification, fragment_offset: offset, ..Default::default() };
            real_server_of(&table, header.frame(&[0; 8]))
        };
        prop_assert!(ids.iter().all(|id| fragment(*id) == fragment(ids[0])));
    }

    #[test]
    fn any_bytes_have_a_verdict_and_only_mac_addresses_change(frame in prop::collection::vec(any::<u8>(), 0..200)) {
        let table = table();
        let mut rewritten = frame.clone();
        match forward(&mut rewritten, &table) {
            Verdict::Tx { .. } => prop_assert_eq!(&rewritten[12..], &frame[12..]),
            Verdict::Drop { .. } => prop_assert_eq!(&rewritten, &frame),
        }
    }
}

#[test]
fn generated_and_mutated_frames_have_a_verdict_and_only_mac_addresses_change() {
    let table = table();
    let mut sent = 0;
    for frame in Frames::new(7).take(200_000) {
        let mut rewritten = frame.clone();
        match forward(&mut rewritten, &table) {
            Verdict::Tx { .. } => {
                sent += 1;
                assert_eq!(rewritten[12..], frame[12..]);
            }
            Verdict::Drop { .. } => assert_eq!(rewritten, frame),
        }
    }
    assert!(sent > 20_000, "{sent} sent");
}
