//! Captures: what workers hand over, and what the control socket makes of it; with ports in memory and without root.
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
mod sources;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use packets::{CLIENT, CLIENT6, VIP, VIP6};
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::blocks::interface_statistics::InterfaceStatisticsOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use pointsman::announce::{Announcer, Role};
use pointsman::capture::{Capture, Counts, Fate, Filter, QueuePlace, Record, Switch, VerdictFilter};
use pointsman::control::api::Handle;
use pointsman::control::capture::{CaptureQuestion, Captures};
use pointsman::control::client::{Client, ClientError};
use pointsman::control::command::{self, DirectorEnd};
use pointsman::control::flows::FlowTables;
use pointsman::control::server::{Limits, Server};
use pointsman::control::socket::{Access, ControlSocket};
use pointsman::counters::WorkerCounters;
use pointsman::flow::WorkerFlows;
use pointsman::port::memory::MemoryPort;
use pointsman::service::{Protocol, ServiceKey};
use pointsman::stats::collect::Collector;
use pointsman::table::{
    Egress, FlowHasher, FlowTimeouts, ForwardingTable, HashBy, Identities, NextHop, Published, Quorum, RealServerPlan,
    Scheduler, ServicePlan, Standing, TablePlan,
};
use pointsman::verdict::DropReason;
use pointsman::wire::MacAddress;
use pointsman::worker::{IdlePolicy, Worker, WorkerSettings};
use proptest::prelude::*;

const BATCH: usize = 8;
const TX_RING: usize = 4;
const SOURCE: MacAddress = MacAddress::new([2, 0, 0, 0, 0, 0xd0]);
const SERVICE: ServiceKey = ServiceKey { vip: std::net::IpAddr::V4(VIP), protocol: Protocol::Tcp, port: 80 };
const SERVICE6: ServiceKey = ServiceKey { vip: std::net::IpAddr::V6(VIP6), protocol: Protocol::Tcp, port: 80 };

/// A service of two real servers behind the first egress, and one whose real server is behind the second.
fn plan() -> TablePlan {
    let service = |key, egress, real_servers: &[u8]| ServicePlan {
        id: 0,
        timeouts: FlowTimeouts::default(),
        previous_table_s: 0,
        key,
        table_size: 251,
        hash_by: HashBy::Flow,
        scheduler: Scheduler::Mh,
        persistence: None,
        fallback: None,
        quorum: Quorum::default(),
        real_servers: real_servers
            .iter()
            .map(|&number| RealServerPlan {
                id: 0,
                address: [192, 168, 88, number].into(),
                weight: 1,
                next_hop: Some(NextHop { mac: MacAddress::new([2, 0, 0, 0, 1, number]), egress }),
                standing: Standing::Sound,
                limit: None,
                quic_server_id: None,
            })
            .collect(),
    };
    let egress = |name: &str| Egress { name: name.to_owned(), source: SOURCE, mtu: 1500 };
    TablePlan {
        hasher: FlowHasher::new("a secret"),
        egresses: vec![egress("in0"), egress("out0")],
        services: vec![service(SERVICE, 0, &[1, 2]), service(SERVICE6, 1, &[9])],
        workers: 1,
        now_s: 0,
    }
}

/// A worker with one queue, which can send by the first egress only.
struct Bench {
    worker: Worker<MemoryPort>,
    counters: Arc<WorkerCounters>,
    switch: Arc<Switch>,
    tables: Arc<Published<ForwardingTable>>,
}

impl Bench {
    fn new() -> Self {
        let tables = Published::new(ForwardingTable::build(&plan().numbered(&mut Identities::default()), None));
        let switch = Switch::new([vec![QueuePlace { interface: 0, queue: 3 }]]);
        let counters = Arc::new(WorkerCounters::default());
        let settings = WorkerSettings {
            worker: 0,
            batch: BATCH,
            idle: IdlePolicy::Spin,
            tx_hold: Duration::ZERO,
            egress_queues: vec![vec![Some(0), None]],
        };
        let port = MemoryPort::new(1, 32, 2 * BATCH, TX_RING);
        let flows = WorkerFlows::new(1024).unwrap();
        let worker = Worker::new(settings, port, tables.reader(), Arc::clone(&counters), flows);
        let worker = worker.with_tap(switch.tap(0));
        Self { worker, counters, switch, tables }
    }

    /// Delivers these frames in one burst and has all sent that the worker submits. Returns what left.
    fn burst(&mut self, frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
        for (number, frame) in frames.iter().enumerate() {
            assert!(self.worker.port_mut().deliver(0, frame, Some(1000 + number as u64)));
        }
        self.worker.turn();
        let sent = self.worker.port_mut().transmit(0, usize::MAX);
        self.worker.turn();
        sent
    }
}

#[allow(clippy::vec_box, reason = "so they are given back")]
fn all_of(capture: &Capture) -> Vec<Box<Record>> {
    let mut records = Vec::new();
    capture.take(&mut records, usize::MAX);
    records
}

fn syn(port: u16) -> Vec<u8> {
    packets::Ipv4 { source: CLIENT, destination: VIP, ..Default::default() }.frame(&packets::tcp(port, 80))
}

fn syn6(port: u16) -> Vec<u8> {
    packets::Ipv6 { source: CLIENT6, destination: VIP6, ..Default::default() }.frame(&packets::tcp(port, 80))
}

fn short() -> Vec<u8> {
    packets::Ipv4 { source: CLIENT, destination: VIP, ..Default::default() }.frame(&[1, 2, 3])
}

fn frame() -> impl Strategy<Value = Vec<u8>> {
    let noise = prop::collection::vec(any::<u8>(), 14..120);
    prop_oneof![
        6 => any::<u16>().prop_map(syn),
        2 => any::<u16>().prop_map(syn6),
        1 => Just(short()),
        1 => noise,
    ]
}

fn verdict() -> impl Strategy<Value = Option<VerdictFilter>> {
    prop::sample::select(vec![
        None,
        Some(VerdictFilter::Tx),
        Some(VerdictFilter::Drop),
        Some(VerdictFilter::Reason(DropReason::TxRingFull)),
        Some(VerdictFilter::Reason(DropReason::NoEgress)),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Against what left and what the counters say: each frame once, with its own bytes and verdict, and no other.
    #[test]
    fn captured_frames_are_those_that_left_or_were_dropped(
        bursts in prop::collection::vec(prop::collection::vec(frame(), 0..BATCH), 1..12),
        verdict in verdict(),
        service in prop::sample::select(vec![None, Some(SERVICE), Some(SERVICE6)]),
        sample in 1u64..4,
        snapshot_bytes in prop::sample::select(vec![20usize, 4096]),
    ) {
        let mut bench = Bench::new();
        let filter = Filter { service, real_server: None, verdict, sample };
        // All of them once more, to compare with.
        let mut whole = Bench::new();
        let capture = bench.switch.start(filter, snapshot_bytes).unwrap();
        let everything = whole.switch.start(Filter::default(), 4096).unwrap();
        let mut sent = Vec::new();
        for burst in &bursts {
            sent.extend(whole.burst(burst));
            bench.burst(burst);
        }
        let (records, all) = (all_of(&capture), all_of(&everything));

        // Without a filter: all that was received, the sent ones byte by byte in their order.
        prop_assert_eq!(all.len(), bursts.iter().map(Vec::len).sum::<usize>());
        let left: Vec<&Vec<u8>> = all.iter().filter(|record| record.fate == Fate::Tx).map(|r| &r.bytes).collect();
        prop_assert_eq!(left, sent.iter().collect::<Vec<_>>());
        for reason in DropReason::ALL {
            let count = all.iter().filter(|record| record.fate == Fate::Drop(reason)).count() as u64;
            prop_assert_eq!(count, whole.counters.outcomes.drops[reason.index()].get(), "{}", reason);
        }

        // With one: those of them that fit, in the same order; one of so many.
        let fitting: Vec<&Box<Record>> = all
            .iter()
            .filter(|record| filter.wants(record.fate) && service.is_none_or(|wanted| record.service == Some(wanted)))
            .collect();
        let expected = if verdict.is_none() || verdict == Some(VerdictFilter::Drop) || sample == 1 {
            Some(fitting.len().div_ceil(sample as usize))
        } else {
            None
        };
        if let Some(expected) = expected {
            prop_assert_eq!(records.len(), expected);
        }
        let mut rest = fitting.iter();
        for record in &records {
            let original = rest.find(|original| {
                original.fate == record.fate
                    && original.time_ns == record.time_ns
                    && original.frame_len == record.frame_len
                    && original.bytes[..original.bytes.len().min(snapshot_bytes)] == record.bytes[..]
            });
            prop_assert!(original.is_some(), "{:?} was not to be captured, or not so", record);
            prop_assert_eq!(record.service, original.unwrap().service);
            prop_assert_eq!(record.real_server, original.unwrap().real_server);
        }
        let counts = capture.counts(0);
        prop_assert_eq!(counts.seen, all.len() as u64);
        prop_assert_eq!((counts.wanted, counts.lost), (records.len() as u64, 0));
        // And the same was forwarded.
        prop_assert_eq!(bench.counters.outcomes.tx_packets.get(), whole.counters.outcomes.tx_packets.get());
    }
}

#[test]
fn a_record_tells_whose_the_frame_is_and_how_it_leaves() {
    let mut bench = Bench::new();
    let capture = bench.switch.start(Filter::default(), 4096).unwrap();
    assert!(bench.switch.start(Filter::default(), 4096).is_none(), "one at a time");
    let sent = bench.burst(&[syn(4000), syn6(4001), short()]);
    assert_eq!(sent.len(), 1);
    let records = all_of(&capture);
    let fates: Vec<Fate> = records.iter().map(|record| record.fate).collect();
    // What is dropped as soon as it is decided on comes first, then the rest by egress.
    assert_eq!(fates, [Fate::Drop(DropReason::TruncatedL4), Fate::Tx, Fate::Drop(DropReason::NoEgress)]);
    assert_eq!((records[0].service, records[0].real_server, records[0].egress), (Some(SERVICE), None, None));
    assert_eq!((records[1].service, records[1].egress), (Some(SERVICE), Some(0)));
    assert_eq!((records[2].service, records[2].real_server), (Some(SERVICE6), Some([192, 168, 88, 9].into())));
    assert_eq!([0, 1, 2].map(|at: usize| records[at].time_ns), [1002, 1000, 1001]);
}

#[test]
fn frames_that_a_full_tx_ring_drops_are_captured_as_that() {
    let mut bench = Bench::new();
    let capture = bench.switch.start(Filter::default(), 4096).unwrap();
    let frames: Vec<Vec<u8>> = (0..6).map(|port| syn(4000 + port)).collect();
    let sent = bench.burst(&frames);
    let records = all_of(&capture);
    let fates: Vec<Fate> = records.iter().map(|record| record.fate).collect();
    let mut expected = vec![Fate::Tx; TX_RING];
    expected.extend([Fate::Drop(DropReason::TxRingFull); 2]);
    assert_eq!(fates, expected);
    for (record, frame) in records.iter().zip(&sent) {
        assert_eq!(&record.bytes, frame, "as it left, with its new addresses");
        assert_eq!(record.bytes[6..12], SOURCE.octets());
        assert_eq!(record.service, Some(SERVICE));
        assert!(record.real_server.is_some() && record.stamped);
        assert_eq!((record.egress, record.place), (Some(0), QueuePlace { interface: 0, queue: 3 }));
    }
}

#[test]
fn while_nobody_reads_frames_are_lost_for_the_capture_and_forwarded_all_the_same() {
    let mut bench = Bench::new();
    let capture = bench.switch.start(Filter::default(), 4096).unwrap();
    const BURSTS: u64 = 1500;
    for _ in 0..BURSTS {
        assert_eq!(bench.burst(&[syn(1), syn(2)]).len(), 2);
    }
    let first = all_of(&capture);
    let counts = capture.counts(0);
    assert_eq!(counts, Counts { seen: 2 * BURSTS, wanted: 2 * BURSTS, lost: 2 * BURSTS - first.len() as u64 });
    assert!(counts.lost > 0, "memory is bounded");
    assert_eq!(first.iter().map(|record| record.lost_before).sum::<u64>(), 0);
    for record in first {
        capture.give_back(record);
    }
    bench.burst(&[syn(3)]);
    assert_eq!(all_of(&capture)[0].lost_before, counts.lost, "the next record tells of them");
    assert_eq!(bench.counters.outcomes.tx_packets.get(), 2 * BURSTS + 1);

    capture.stop();
    assert!(capture.is_complete());
    bench.burst(&[syn(4)]);
    assert_eq!(capture.counts(0).seen, 2 * BURSTS + 1, "a stopped capture sees nothing more");
    drop(capture);
    assert!(bench.switch.start(Filter::default(), 1).is_some(), "and leaves room for the next one");
}

/// The control socket in front of a worker.
struct Served {
    bench: Bench,
    server: Option<Server>,
    path: PathBuf,
    _end: DirectorEnd,
    _directory: tempfile::TempDir,
}

fn served(limits: Limits) -> Served {
    let bench = Bench::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    let collector = Collector::new(sources::director(sources::Kernel::default()).sources);
    let interfaces = ["in0", "out0"].map(str::to_owned);
    let captures = Captures::new(Arc::clone(&bench.switch), interfaces, Arc::clone(&bench.tables));
    let flows = FlowTables::new([], Arc::clone(&bench.tables));
    let (director, end) = command::connect(command::Running::default());
    let announcements = Announcer::start(Role::Active).unwrap().announcements();
    let handle = Handle { stats: Arc::new(move || collector.collect()), flows, director, captures, announcements };
    let server = Server::start_with(ControlSocket::bind(&path, &Access::default()).unwrap(), handle, limits).unwrap();
    Served { bench, server: Some(server), path, _end: end, _directory: directory }
}

/// Everything that still comes.
fn read_all(capture: &mut pointsman::control::capture_client::RunningCapture) -> Vec<u8> {
    let mut file = Vec::new();
    while let Some(piece) = capture.next_piece().unwrap() {
        file.extend(piece);
    }
    file
}

struct Contents {
    frames: Vec<(u32, Vec<u8>, String)>,
    seen: u64,
    delivered: u64,
    lost: u64,
}

fn parse(file: &[u8]) -> Contents {
    let mut reader = PcapNgReader::new(file).unwrap();
    let mut read = Contents { frames: Vec::new(), seen: 0, delivered: 0, lost: 0 };
    while let Some(block) = reader.next_block() {
        match block.unwrap() {
            Block::EnhancedPacket(packet) => {
                let comment = packet.options.iter().find_map(|option| match option {
                    EnhancedPacketOption::Comment(text) => Some(text.to_string()),
                    _ => None,
                });
                read.frames.push((packet.interface_id, packet.data.to_vec(), comment.unwrap()));
            }
            Block::InterfaceStatistics(statistics) => {
                for option in &statistics.options {
                    match option {
                        InterfaceStatisticsOption::IsbIfRecv(count) => read.seen += count,
                        InterfaceStatisticsOption::IsbUsrDeliv(count) => read.delivered += count,
                        InterfaceStatisticsOption::IsbOsDrop(count) => read.lost += count,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    read
}

/// Until no capture runs any more.
fn wait_until_free(switch: &Arc<Switch>) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while switch.start(Filter::default(), 1).is_none() {
        assert!(Instant::now() < deadline, "the capture goes on");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_capture_that_is_ended_is_a_whole_file_with_its_counts() {
    let mut served = served(Limits::default());
    let client = Client::new(&served.path);
    let mut capture = client.capture(&CaptureQuestion::default()).unwrap();
    let sent = served.bench.burst(&[syn(4000), short(), syn(4001)]);
    client.end_capture(capture.id()).unwrap();
    let read = parse(&read_all(&mut capture));
    assert_eq!((read.seen, read.delivered, read.lost), (3, 3, 0));
    let left: Vec<&Vec<u8>> = read.frames.iter().filter(|frame| frame.2.starts_with("tx")).map(|f| &f.1).collect();
    assert_eq!(left, sent.iter().collect::<Vec<_>>());
    let dropped = read.frames.iter().find(|frame| frame.2.starts_with("drop")).unwrap();
    assert_eq!(dropped.2, format!("drop truncated_l4, service {SERVICE}, queue 3, worker 0"));
    assert_eq!(dropped.1, short());
    let tx = &read.frames.iter().find(|frame| frame.2.starts_with("tx")).unwrap().2;
    assert!(tx.starts_with(&format!("tx, service {SERVICE}, real server 192.168.88.")), "{tx}");
    assert!(tx.ends_with(", out by in0, queue 3, worker 0"), "{tx}");
    wait_until_free(&served.bench.switch);
}

#[test]
fn count_and_duration_end_a_capture() {
    let mut served = served(Limits::default());
    let client = Client::new(&served.path);
    let mut capture = client.capture(&CaptureQuestion { count: Some(2), ..Default::default() }).unwrap();
    served.bench.burst(&[syn(1), syn(2), syn(3)]);
    let read = parse(&read_all(&mut capture));
    assert_eq!((read.frames.len(), read.delivered), (2, 2));

    let duration = Some(Duration::from_millis(20));
    let mut capture = client.capture(&CaptureQuestion { duration, ..Default::default() }).unwrap();
    assert_eq!(parse(&read_all(&mut capture)).frames.len(), 0);
}

#[test]
fn a_second_capture_is_refused_and_a_client_that_goes_away_makes_room() {
    let served = served(Limits::default());
    let client = Client::new(&served.path);
    let capture = client.capture(&CaptureQuestion::default()).unwrap();
    match client.capture(&CaptureQuestion::default()) {
        Err(ClientError::Refused { status: 409, detail, .. }) => {
            assert!(detail.message.contains("one at a time"), "{detail:?}")
        }
        other => panic!("{other:?}"),
    }
    drop(capture);
    wait_until_free(&served.bench.switch);
}

#[test]
fn what_does_not_exist_cannot_be_captured() {
    let served = served(Limits::default());
    let client = Client::new(&served.path);
    let unknown = Filter { real_server: Some([192, 0, 2, 1].into()), ..Filter::default() };
    let other = Filter { service: Some(ServiceKey { port: 81, ..SERVICE }), ..Filter::default() };
    for filter in [unknown, other] {
        match client.capture(&CaptureQuestion { filter, ..Default::default() }) {
            Err(ClientError::Refused { status: 404, .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    for (line, status) in [
        ("GET /v1/capture?verdict=lost", "400"),
        ("GET /v1/capture?sample=0", "400"),
        ("GET /v1/capture?snapshot_bytes=4097", "400"),
        ("GET /v1/capture?filter=x", "400"),
        ("DELETE /v1/capture?id=7", "404"),
        ("DELETE /v1/capture", "400"),
        ("POST /v1/capture", "405"),
    ] {
        let mut stream = UnixStream::connect(&served.path).unwrap();
        write!(stream, "{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {answer}");
    }
    wait_until_free(&served.bench.switch);
}

#[test]
fn a_capture_outlives_a_connections_usual_time_and_ends_whole_with_the_director() {
    let brief =
        Limits { lifetime: Duration::from_millis(50), farewell: Duration::from_millis(50), ..Limits::default() };
    let mut served = served(Limits { farewell: Duration::from_secs(5), ..brief });
    let client = Client::new(&served.path);
    let mut capture = client.capture(&CaptureQuestion::default()).unwrap();
    let mut file = capture.next_piece().unwrap().unwrap().to_vec();
    thread::sleep(Duration::from_millis(300));
    served.bench.burst(&[syn(1)]);
    file.extend(capture.next_piece().unwrap().unwrap());
    assert_eq!(parse(&file).frames.len(), 1, "long after the connection's usual end");
    let server = served.server.take().unwrap();
    let stopping = thread::spawn(move || server.stop());
    file.extend(read_all(&mut capture));
    assert_eq!(parse(&file).delivered, 1, "with its statistics");
    stopping.join().unwrap();
}

#[test]
fn a_client_that_does_not_read_loses_frames_and_stops_nobody() {
    let mut served = served(Limits::default());
    let client = Client::new(&served.path);
    let mut capture = client.capture(&CaptureQuestion::default()).unwrap();
    let large = packets::Ipv4::default().frame(&[&packets::tcp(7, 80)[..], &[0; 1400]].concat());
    // Sockets and the library hold some; the rings the rest; nothing more.
    let mut forwarded = 0;
    for _ in 0..3000 {
        forwarded += served.bench.burst(&[large.clone(), large.clone()]).len();
    }
    assert_eq!(forwarded, 6000, "all was forwarded");
    assert_eq!(client.health().unwrap().status, "ok", "and the control socket answers others");
    client.end_capture(capture.id()).unwrap();
    let read = parse(&read_all(&mut capture));
    assert!(read.lost > 0);
    assert_eq!(read.delivered + read.lost, 6000, "each was delivered or counted as lost");
    assert_eq!(read.frames.len() as u64, read.delivered);
}
