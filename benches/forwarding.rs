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

mod bench_port;

use std::hint::black_box;

use bench_port::{BURST, BenchPort, Clients, establish, frames, members, memory, plan, settings};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pointsman::clock;
use pointsman::counters::WorkerCounters;
use pointsman::counters::cost::{SystemCall, SystemCalls};
use pointsman::counters::latency::LatencyHistogram;
use pointsman::flow::WorkerFlows;
use pointsman::forward::{Counts, Prepared, decide, decide_quickly, forward, look_up, prepare};
use pointsman::port::Port;
use pointsman::table::{FlowHasher, ForwardingTable, Maglev, Published, Scheduler};
use pointsman::wire;
use pointsman::worker::Worker;

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
    group.bench_function("record the latencies of a burst", |b| {
        b.iter(|| histogram.record_all(black_box([12_345; BURST as usize]).into_iter()))
    });
    group.bench_function("forward", |b| b.iter(|| forward(black_box(&mut frame), &table, &mut flows, &mut counts, 1)));
    group.finish();
}

/// A worker's whole turn over a burst: receive, decide, rewrite, count, record the latency, submit.
fn bench_worker(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("worker, burst of 64");
    group.throughput(Throughput::Elements(u64::from(BURST)));
    let shapes = [(1u32 << 6, 1, 100), (1 << 10, 1, 100), (1 << 16, 1, 100), (1 << 20, 1, 100), (1 << 22, 1, 100)];
    let many = [(1 << 14, 1, 2), (1 << 14, 100, 2), (1 << 14, 10_000, 2), (1 << 14, 1, 10_000)];
    for (flows, services, real_servers) in shapes.into_iter().chain(many) {
        let published = Published::new(ForwardingTable::build(&plan(services, real_servers), None));
        let reader = published.reader();
        let mut memory_of_flows = WorkerFlows::new(flows as usize).unwrap();
        establish(&reader.pin(), &mut memory_of_flows, flows, services);
        let port = BenchPort { memory: memory(), clients: Clients::new(flows, services), stamped: true };
        let counters = std::sync::Arc::new(WorkerCounters::default());
        let mut worker = Worker::new(settings(), port, published.reader(), counters, memory_of_flows);
        let name = format!("{flows} flows, {services} services, {real_servers} real servers");
        group.bench_function(BenchmarkId::from_parameter(name), |b| b.iter(|| worker.turn()));
    }
    let mut port = BenchPort { memory: memory(), clients: Clients::new(1 << 20, 1), stamped: true };
    let mut received = Vec::with_capacity(BURST as usize);
    group.bench_function("the measurement's own part of each", |b| {
        b.iter(|| {
            port.rx_burst(0, &mut received, BURST as usize);
            port.tx_burst(0, black_box(&mut received))
        });
    });
    group.finish();
}

/// What recording costs: all of it for a burst by itself, and a worker's whole turn with stamped frames and with others,
/// of which neither queueing nor latency is recorded. Rounds of the two alternate, so that what else the machine does
/// meets both.
fn bench_recording(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("recording, burst of 64");
    group.throughput(Throughput::Elements(u64::from(BURST)));
    let counters = WorkerCounters::default();
    let mut rounds = 0;
    let (mut calls, mut now_ns) = (SystemCalls::default(), 1 << 30);
    group.bench_function("all times of a burst", |b| {
        b.iter(|| {
            now_ns += 1_500;
            let stamps = || (0..u64::from(BURST)).map(|number| black_box(now_ns) - 2_000 - 20 * number);
            counters.queueing.record_all(stamps().map(|stamp| now_ns - stamp));
            counters.latency.record_all(stamps().map(|stamp| now_ns + 900 - stamp));
            counters.processing.record_n(black_box(900), u64::from(BURST));
            counters.completion.record_runs((0..BURST).map(|_| black_box(1_800)));
        });
    });
    group.bench_function("the counter read around a system call", |b| {
        b.iter(|| calls.time(SystemCall::Sendto, || black_box(())))
    });
    for stamped in [true, false, true, false, true, false] {
        let published = Published::new(ForwardingTable::build(&plan(1, 100), None));
        let mut flows = WorkerFlows::new(1 << 10).unwrap();
        establish(&published.reader().pin(), &mut flows, 1 << 10, 1);
        let port = BenchPort { memory: memory(), clients: Clients::new(1 << 10, 1), stamped };
        let counters = std::sync::Arc::new(WorkerCounters::default());
        let mut worker = Worker::new(settings(), port, published.reader(), counters, flows);
        let name = if stamped { "a turn, every frame timed" } else { "a turn, without stamps" };
        rounds += 1;
        group.bench_function(format!("{name}, round {rounds}"), |b| b.iter(|| worker.turn()));
    }
    group.finish();
}

/// The decision alone: with the flow table's lines fetched ahead over a burst, and one frame after another.
fn bench_flows(criterion: &mut Criterion) {
    let table = ForwardingTable::build(&plan(1, 100), None);
    let mut counts = Counts::default();
    let now_s = clock::to_seconds(clock::monotonic_ns());
    let mut group = criterion.benchmark_group("flow table, burst of 64");
    group.throughput(Throughput::Elements(u64::from(BURST)));
    for flows in [1u32 << 10, 1 << 16, 1 << 20, 1 << 22] {
        let mut memory_of_flows = WorkerFlows::new(flows as usize).unwrap();
        establish(&table, &mut memory_of_flows, flows, 1);
        let mut frames = memory();
        let mut prepared = vec![Prepared::default(); BURST as usize];
        let mut burst = |clients: &mut Clients, flows: &mut WorkerFlows| {
            for frame in &mut frames {
                clients.write_next(frame);
            }
            for (frame, prepared) in frames.iter().zip(&mut prepared) {
                prepare(prepared, &frame[..60], &table, flows);
            }
            prepared.iter_mut().for_each(|prepared| look_up(prepared, &table, flows));
            for (frame, prepared) in frames.iter_mut().zip(&prepared) {
                if black_box(decide_quickly(prepared, &mut frame[..60], &table, flows, now_s)).is_none() {
                    black_box(decide(&mut frame[..60], &table, flows, &mut counts, now_s));
                }
            }
        };
        let mut clients = Clients::new(flows, 1);
        group.bench_function(BenchmarkId::new("hit, fetched ahead", flows), |b| {
            b.iter(|| burst(&mut clients, &mut memory_of_flows));
        });
        // Clients that were never seen: each burst is 64 new flows.
        let mut strangers = Clients { mask: u32::MAX, services: 1, state: 1 };
        group.bench_function(BenchmarkId::new("miss with insert, fetched ahead", flows), |b| {
            b.iter(|| burst(&mut strangers, &mut memory_of_flows));
        });
        let mut frames = memory();
        group.bench_function(BenchmarkId::new("hit, one by one", flows), |b| {
            b.iter(|| {
                for frame in &mut frames {
                    clients.write_next(frame);
                    black_box(forward(&mut frame[..60], &table, &mut memory_of_flows, &mut Counts::default(), now_s));
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

/// What a new flow's choice costs by each scheduler, over 4, 64 and 1024 real servers of weights 1 to 5.
fn bench_schedulers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("schedulers");
    for real_servers in [4, 64, 1024] {
        for scheduler in Scheduler::ALL {
            let mut plan = plan(1, real_servers);
            plan.services[0].scheduler = scheduler;
            (1..).zip(&mut plan.services[0].real_servers).for_each(|(number, server)| server.weight = number % 5 + 1);
            let table = ForwardingTable::build(&plan, None);
            let service = &table.services()[0];
            let mut hash = 0u64;
            group.bench_function(format!("{}, {real_servers} real servers", scheduler.name()), |b| {
                b.iter(|| {
                    hash = hash.wrapping_add(0x9e37_79b9_7f4a_7c15);
                    let turn = table.schedule(service, 0, 1);
                    turn.or_else(|| table.choose(service, black_box(hash)).map(|choice| choice.real_server))
                })
            });
        }
    }
    group.finish();
}

criterion_group!(
    benches,
    bench_steps,
    bench_schedulers,
    bench_worker,
    bench_recording,
    bench_flows,
    bench_maglev,
    bench_publication
);
criterion_main!(benches);
