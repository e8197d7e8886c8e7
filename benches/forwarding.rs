//! What one packet costs in user space, and what a change of the table costs beside it.
//!
//! `cargo bench`; figures in perf/ carry the machine and the command that they were made with.
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

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pointsman::counters::WorkerCounters;
use pointsman::counters::latency::LatencyHistogram;
use pointsman::flow::WorkerFlows;
use pointsman::forward::{Counts, decide, forward, prepare};
use pointsman::port::memory::MemoryPort;
use pointsman::service::{Protocol, ServiceKey};
use pointsman::table::{
    Egress, FlowHasher, FlowTimeouts, ForwardingTable, HashBy, Identities, Maglev, Member, NextHop, Published,
    RealServerPlan, ServicePlan, TablePlan,
};
use pointsman::wire::{self, MacAddress};
use pointsman::worker::{IdlePolicy, Worker, WorkerSettings};

const VIP: Ipv4Addr = Ipv4Addr::new(192, 168, 88, 15);
const BURST: u32 = 64;

fn members(count: u32) -> Vec<Member> {
    (0..count).map(|number| Member { address: Ipv4Addr::from(0x0a00_0000 + number).into(), weight: 1 }).collect()
}

fn plan(services: u32, real_servers: u32) -> TablePlan {
    let mac = MacAddress::new([2, 0, 0, 0, 0, 1]);
    TablePlan {
        hasher: FlowHasher::new("bench"),
        egresses: vec![Egress { name: "eth0".into(), source: mac, mtu: 1500 }],
        services: (0..services)
            .map(|number| ServicePlan {
                id: 0,
                timeouts: FlowTimeouts::default(),
                previous_table_s: 0,
                key: ServiceKey {
                    vip: Ipv4Addr::from(u32::from(VIP) + number).into(),
                    protocol: Protocol::Udp,
                    port: 53,
                },
                table_size: 65_537,
                hash_by: HashBy::Flow,
                real_servers: members(real_servers)
                    .iter()
                    .map(|member| RealServerPlan {
                        id: 0,
                        address: member.address,
                        weight: 1,
                        next_hop: Some(NextHop { mac, egress: 0 }),
                        quic_server_id: None,
                    })
                    .collect(),
            })
            .collect(),
        workers: 1,
        now_s: 0,
    }
    .numbered(&mut Identities::default())
}

/// 64-byte UDP frames (60 without frame check sequence) of as many flows, to as many services in turn.
fn frames(flows: u32, services: u32) -> Vec<Vec<u8>> {
    (0..flows)
        .map(|flow| {
            let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, 17, 0, 0];
            frame.extend((0x0a00_0000 + flow).to_be_bytes());
            frame.extend((u32::from(VIP) + flow % services).to_be_bytes());
            frame.extend((1024 + (flow % 50_000) as u16).to_be_bytes());
            frame.extend(53u16.to_be_bytes());
            frame.extend([0, 26, 0, 0]);
            frame.resize(60, 0);
            frame
        })
        .collect()
}

fn bench_steps(criterion: &mut Criterion) {
    let table = ForwardingTable::build(&plan(1, 100), None);
    let hasher = FlowHasher::new("bench");
    let mut frame = frames(1, 1).remove(0);
    let subject = wire::subject(&frame).unwrap();
    let service = &table.services()[0];
    let histogram = LatencyHistogram::default();
    let mut flows = WorkerFlows::new(1 << 16).unwrap();
    let mut counts = Counts::default();
    let mut group = criterion.benchmark_group("step");
    group.bench_function("parse", |b| b.iter(|| wire::subject(black_box(&frame))));
    group.bench_function("hash", |b| b.iter(|| hasher.flow(black_box(&subject))));
    group.bench_function("service", |b| b.iter(|| table.service_of(black_box(&subject))));
    group.bench_function("choose", |b| b.iter(|| table.choose(service, black_box(0x1234_5678_9abc_def0))));
    group.bench_function("record latency", |b| b.iter(|| histogram.record(black_box(12_345), 1)));
    group.bench_function("forward", |b| b.iter(|| forward(black_box(&mut frame), &table, &mut flows, &mut counts, 1)));
    group.finish();
}

/// The whole path of a worker over a port in memory: receive, decide, count, record, submit, complete, refill.
fn bench_worker(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("worker, burst of 64");
    group.throughput(Throughput::Elements(u64::from(BURST)));
    for services in [1, 100, 10_000] {
        let published = Published::new(ForwardingTable::build(&plan(services, 2), None));
        let settings = WorkerSettings {
            worker: 0,
            batch: BURST as usize,
            idle: IdlePolicy::Spin,
            tx_hold: Duration::ZERO,
            egress_queues: vec![vec![Some(0)]],
        };
        let port = MemoryPort::new(1, 256, 128, 128);
        let mut worker = Worker::new(
            settings,
            port,
            published.reader(),
            std::sync::Arc::new(WorkerCounters::default()),
            WorkerFlows::new(1 << 16).unwrap(),
        );
        let frames = frames(1024.max(services), services);
        let mut next = frames.chunks(BURST as usize).cycle();
        group.bench_function(BenchmarkId::new("services", services), |b| {
            b.iter_batched(
                || next.next().unwrap(),
                |burst| {
                    for frame in burst {
                        worker.port_mut().deliver(0, frame, Some(1));
                    }
                    worker.turn();
                    worker.port_mut().transmit(0, usize::MAX);
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

/// A burst of frames whose clients change from burst to burst, in an order that no prefetcher guesses.
struct Clients {
    frames: Vec<Vec<u8>>,
    mask: u32,
    state: u32,
}

impl Clients {
    fn new(flows: u32) -> Self {
        Self { frames: frames(BURST, 1), mask: flows - 1, state: 1 }
    }

    /// The next of all flows in turn (Hull and Dobell: a full period), at random places.
    fn next_burst(&mut self) -> &mut [Vec<u8>] {
        for frame in &mut self.frames {
            self.state = self.state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let client = 0x0a00_0000 + (self.state >> 3 & self.mask);
            frame[26..30].copy_from_slice(&client.to_be_bytes());
        }
        &mut self.frames
    }
}

/// Parse, look up, decide, rewrite: with the flow table's lines fetched ahead over a burst, and one frame after another.
fn bench_flows(criterion: &mut Criterion) {
    let table = ForwardingTable::build(&plan(1, 100), None);
    let mut counts = Counts::default();
    let mut group = criterion.benchmark_group("flow table, burst of 64");
    group.throughput(Throughput::Elements(u64::from(BURST)));
    for flows in [1u32 << 10, 1 << 16, 1 << 20, 1 << 22] {
        let mut memory = WorkerFlows::new(flows as usize).unwrap();
        for client in (0..flows).flat_map(|client| [client, client]) {
            let mut frame = frames(1, 1).remove(0);
            frame[26..30].copy_from_slice(&(0x0a00_0000 + client).to_be_bytes());
            forward(&mut frame, &table, &mut memory, &mut counts, 1);
        }
        let mut clients = Clients::new(flows);
        let mut prepared = Vec::with_capacity(BURST as usize);
        let mut burst = |clients: &mut Clients, memory: &mut WorkerFlows| {
            let frames = clients.next_burst();
            prepared.extend(frames.iter().map(|frame| prepare(frame, &table, memory)));
            for (frame, prepared) in frames.iter_mut().zip(prepared.drain(..)) {
                black_box(decide(&prepared, frame, &table, memory, &mut counts, 1));
            }
        };
        group.bench_function(BenchmarkId::new("hit, fetched ahead", flows), |b| {
            b.iter(|| burst(&mut clients, &mut memory));
        });
        // Clients that were never seen: each burst is 64 new flows.
        let mut strangers = Clients::new(1 << 28);
        group.bench_function(BenchmarkId::new("miss with insert, fetched ahead", flows), |b| {
            b.iter(|| burst(&mut strangers, &mut memory));
        });
        group.bench_function(BenchmarkId::new("hit, one by one", flows), |b| {
            b.iter(|| {
                for frame in clients.next_burst() {
                    black_box(forward(frame, &table, &mut memory, &mut Counts::default(), 1));
                }
            });
        });
    }
    group.finish();
}

fn bench_maglev(criterion: &mut Criterion) {
    let hasher = FlowHasher::new("bench");
    let mut group = criterion.benchmark_group("maglev build");
    for (size, count) in [(65_537, 2), (65_537, 100), (65_537, 1000), (655_373, 1000)] {
        let members = members(count);
        group.bench_function(BenchmarkId::from_parameter(format!("{size} x {count}")), |b| {
            b.iter(|| Maglev::build(black_box(&members), size, &hasher));
        });
    }
    group.finish();
}

fn bench_publication(criterion: &mut Criterion) {
    let plan = plan(100, 100);
    let published = Published::new(ForwardingTable::build(&plan, None));
    let reader = published.reader();
    let mut group = criterion.benchmark_group("publication");
    group.bench_function("a next hop changes, 100 services x 100 real servers", |b| {
        b.iter(|| {
            let table = ForwardingTable::build(&plan, Some(&reader.pin()));
            published.publish(table);
        });
    });
    group.bench_function("pin", |b| b.iter(|| reader.pin().generation()));
    group.finish();
}

criterion_group!(benches, bench_steps, bench_worker, bench_flows, bench_maglev, bench_publication);
criterion_main!(benches);
