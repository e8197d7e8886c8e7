//! What a packet costs in instructions, to be counted from outside: one kind of traffic, a number of bursts.
//!
//! `instructions FLOWS SERVICES REAL_SERVERS BURSTS [CAPTURE]`, where CAPTURE is 0 (a capture could listen, as at a director)
//! or 1 (one does); perf/instructions runs it under callgrind. The count is the same on
//! any machine and at any load, so that a change of it is a change of the program.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    missing_docs,
    reason = "a measurement fails by panicking"
)]

mod bench_port;

use std::sync::Arc;

use bench_port::{BenchPort, Clients, establish, memory, plan, settings};
use pointsman::capture::{Filter, MAX_SNAPSHOT_BYTES, QueuePlace, Switch};
use pointsman::counters::WorkerCounters;
use pointsman::flow::WorkerFlows;
use pointsman::table::{ForwardingTable, Published};
use pointsman::worker::Worker;

fn main() {
    // `cargo bench` and `cargo test` give arguments of their own.
    let numbers: Vec<u32> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let &[flows, services, real_servers, bursts, ref capture @ ..] = numbers.as_slice() else { return };
    let published = Published::new(ForwardingTable::build(&plan(services, real_servers), None));
    let reader = published.reader();
    let mut memory_of_flows = WorkerFlows::new(flows as usize).unwrap();
    establish(&reader.pin(), &mut memory_of_flows, flows, services);
    let port = BenchPort { memory: memory(), clients: Clients::new(flows, services), stamped: true };
    let counters = Arc::new(WorkerCounters::default());
    let mut worker = Worker::new(settings(), port, published.reader(), Arc::clone(&counters), memory_of_flows);
    let switch = Switch::new([vec![QueuePlace::default()]]);
    worker = worker.with_tap(switch.tap(0));
    let capture = (capture == [1]).then(|| switch.start(Filter::default(), MAX_SNAPSHOT_BYTES).unwrap());
    let mut records = Vec::new();
    for _ in 0..bursts {
        worker.turn();
        if let Some(capture) = &capture {
            capture.take(&mut records, usize::MAX);
            records.drain(..).for_each(|record| capture.give_back(record));
        }
    }
    assert_eq!(counters.outcomes.tx_packets.get(), u64::from(bursts) * 64);
    assert!(counters.flows.new.get() < u64::from(flows / 100), "established flows are to be found");
}
