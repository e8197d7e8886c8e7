//! A worker against a model of the kernel: no frame is lost, counted twice or changed beyond its MAC addresses.
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

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use packets::{CLIENT, CLIENT6, VIP, VIP6};
use pointsman::counters::WorkerCounters;
use pointsman::counters::latency::LatencyHistogram;
use pointsman::flow::WorkerFlows;
use pointsman::port::memory::{MemoryFrame, MemoryPort};
use pointsman::port::{Census, Port};
use pointsman::service::{Protocol, ServiceKey};
use pointsman::stats::report::Cost;
use pointsman::table::{
    Egress, FlowHasher, FlowTimeouts, ForwardingTable, HashBy, Identities, NextHop, Published, Quorum, RealServerPlan,
    Scheduler, ServicePlan, Standing, TablePlan,
};
use pointsman::verdict::DropReason;
use pointsman::wire::MacAddress;
use pointsman::worker::{IdlePolicy, Worker, WorkerSettings};
use proptest::prelude::*;

/// Too few to fill both fill rings and send meanwhile.
const FRAMES: usize = 14;
const FILL_RING: usize = 8;
const TX_RING: usize = 4;
const SOURCE: MacAddress = MacAddress::new([2, 0, 0, 0, 0, 0xd0]);

fn real_server_mac(number: u8) -> MacAddress {
    MacAddress::new([2, 0, 0, 0, 1, number])
}

/// A service of three real servers behind the first egress, and one whose real server is behind the second.
fn plan() -> TablePlan {
    let service = |vip: IpAddr, egress, real_servers: &[u8]| ServicePlan {
        id: 0,
        timeouts: FlowTimeouts::default(),
        previous_table_s: 0,
        fallback: None,
        quorum: Quorum::default(),
        key: ServiceKey { vip, protocol: Protocol::Tcp, port: 80 },
        table_size: 251,
        hash_by: HashBy::Flow,
        scheduler: Scheduler::Mh,
        persistence: None,
        real_servers: real_servers
            .iter()
            .map(|&number| RealServerPlan {
                id: 0,
                address: Ipv4Addr::new(192, 168, 88, number).into(),
                weight: 1,
                next_hop: Some(NextHop { mac: real_server_mac(number), egress }),
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
        services: vec![service(VIP.into(), 0, &[1, 2, 3]), service(VIP6.into(), 1, &[9])],
        workers: 1,
        now_s: 0,
    }
}

struct Bench {
    worker: Worker<MemoryPort>,
    counters: Arc<WorkerCounters>,
    /// What was delivered and not seen again, in order.
    expected: VecDeque<Vec<u8>>,
    delivered: u64,
    sent: Vec<Vec<u8>>,
}

impl Bench {
    /// Queue 0 receives; queue 1 sends what goes to the second egress, if `two_arms`.
    fn new(two_arms: bool) -> Self {
        let published = Published::new(ForwardingTable::build(&plan().numbered(&mut Identities::default()), None));
        let counters = Arc::new(WorkerCounters::default());
        let second = two_arms.then_some(1);
        let settings = WorkerSettings {
            worker: 0,
            batch: 4,
            idle: IdlePolicy::Spin,
            tx_hold: Duration::ZERO,
            egress_queues: vec![vec![Some(0), second], vec![Some(0), second]],
        };
        let port = MemoryPort::new(2, FRAMES, FILL_RING, TX_RING);
        let worker =
            Worker::new(settings, port, published.reader(), Arc::clone(&counters), WorkerFlows::new(1024).unwrap());
        Self { worker, counters, expected: VecDeque::new(), delivered: 0, sent: Vec::new() }
    }

    fn deliver(&mut self, frame: &[u8]) {
        if self.worker.port_mut().deliver(0, frame, Some(1)) {
            self.delivered += 1;
            self.expected.push_back(frame.to_vec());
        }
    }

    fn transmit(&mut self, queue: usize, most: usize) {
        self.sent.extend(self.worker.port_mut().transmit(queue, most));
    }

    fn drain(&mut self) {
        for _ in 0..FRAMES {
            self.worker.turn();
            self.transmit(0, usize::MAX);
            self.transmit(1, usize::MAX);
        }
    }

    fn drops(&self, reason: DropReason) -> u64 {
        self.counters.outcomes.drops[reason.index()].get()
    }

    fn check(&mut self) {
        let census = self.worker.port_mut().census();
        assert_eq!(census.total(), FRAMES as u64, "{census:?}");
        assert_eq!(census.free, census.worker, "no frame stays in the worker's hands: {census:?}");
        assert_eq!(census.quarantined, 0);
        assert_eq!(self.counters.frames_free.get(), census.free, "the statistics show it: {census:?}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Deliver(Vec<u8>),
    Transmit(usize, usize),
    Turn,
}

fn frame() -> impl Strategy<Value = Vec<u8>> {
    let tcp4 = any::<u16>().prop_map(|port| {
        packets::Ipv4 { source: CLIENT, destination: VIP, ..Default::default() }.frame(&packets::tcp(port, 80))
    });
    let tcp6 = any::<u16>().prop_map(|port| {
        packets::Ipv6 { source: CLIENT6, destination: VIP6, ..Default::default() }.frame(&packets::tcp(port, 80))
    });
    let short = Just(packets::Ipv4 { source: CLIENT, destination: VIP, ..Default::default() }.frame(&[1, 2, 3]));
    let large = any::<u16>().prop_map(|port| {
        let mut segment = packets::tcp(port, 80);
        segment.resize(1481, 0);
        packets::Ipv4 { source: CLIENT, destination: VIP, ..Default::default() }.frame(&segment)
    });
    let noise = prop::collection::vec(any::<u8>(), 0..120);
    prop_oneof![6 => tcp4, 3 => tcp6, 1 => short, 1 => large, 1 => noise]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => frame().prop_map(Step::Deliver),
        2 => (0usize..2, 1usize..6).prop_map(|(queue, most)| Step::Transmit(queue, most)),
        4 => Just(Step::Turn),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn frames_are_conserved_and_every_one_has_one_verdict(
        steps in prop::collection::vec(step(), 0..150),
        two_arms: bool,
    ) {
        let mut bench = Bench::new(two_arms);
        for step in steps {
            match step {
                Step::Deliver(frame) => bench.deliver(&frame),
                Step::Transmit(queue, most) => bench.transmit(queue, most),
                Step::Turn => {
                    bench.worker.turn();
                }
            }
            bench.check();
        }
        bench.drain();
        bench.check();
        let tx = bench.counters.outcomes.tx_packets.get();
        let dropped: u64 = bench.counters.outcomes.drops.iter().map(|count| count.get()).sum();
        prop_assert_eq!(tx + dropped, bench.delivered, "received = tx + drops");
        prop_assert_eq!(bench.sent.len() as u64, tx);
        for times in [&bench.counters.latency, &bench.counters.queueing, &bench.counters.processing] {
            prop_assert_eq!(times.snapshot().unwrap().len(), tx);
        }
        prop_assert_eq!(bench.counters.completion.snapshot().unwrap().len(), tx, "all came back");
        let total = |times: &LatencyHistogram| times.total_ns();
        prop_assert_eq!(
            total(&bench.counters.latency),
            total(&bench.counters.queueing) + total(&bench.counters.processing),
            "to the nanosecond: both parts end and begin with the same reading of the clock"
        );
        let bursts: u64 = bench.counters.batches.iter().map(|batch| batch.bursts.get()).sum();
        let packets: u64 = bench.counters.batches.iter().map(|batch| batch.packets.get()).sum();
        prop_assert!(packets == bench.delivered && bursts <= packets);
        let (_, cycles) = Cost::read(&bench.counters.cost);
        let in_batches: u64 = bench.counters.batches.iter().map(|batch| batch.cycles.get()).sum();
        prop_assert!(in_batches <= cycles.busy, "bursts have no more than the time of busy turns");
        for batch in &bench.counters.batches {
            let (mut least, mut most, mut bursts) = (0u64, 0u64, 0u64);
            for (from, to, count) in batch.costs.buckets() {
                least = least.saturating_add(from.saturating_mul(count));
                most = most.saturating_add(to.saturating_mul(count));
                bursts += count;
            }
            prop_assert_eq!(bursts, batch.bursts.get(), "each burst is in the distribution once");
            prop_assert!((least..=most).contains(&batch.cycles.get()), "{} to {}: {:?}", least, most, batch);
        }
        let bytes: usize = bench.sent.iter().map(Vec::len).sum();
        prop_assert_eq!(bench.counters.outcomes.tx_bytes.get(), bytes as u64);
        if !two_arms {
            prop_assert_eq!(bench.sent.iter().filter(|frame| frame[5] == 9).count(), 0);
        }
        // What left is what came, in MAC addresses only not.
        for sent in &bench.sent {
            prop_assert_eq!(&sent[6..12], &SOURCE.octets());
            let numbers = [1, 2, 3, 9].map(|number| real_server_mac(number).octets());
            prop_assert!(numbers.iter().any(|mac| mac[..] == sent[..6]));
            let came = bench.expected.iter().position(|frame| frame.len() == sent.len() && frame[12..] == sent[12..]);
            let came = came.expect("a frame left that never came");
            bench.expected.remove(came);
        }
    }
}

#[test]
fn a_full_tx_ring_drops_what_does_not_fit_and_says_so() {
    let mut bench = Bench::new(true);
    for port in 0..8 {
        let segment = packets::tcp(4000 + port, 80);
        bench.deliver(&packets::Ipv4 { source: CLIENT, destination: VIP, ..Default::default() }.frame(&segment));
    }
    bench.worker.turn();
    assert_eq!(bench.drops(DropReason::TxRingFull), 0, "four fit");
    bench.worker.turn();
    assert_eq!(bench.drops(DropReason::TxRingFull), 4);
    assert_eq!(bench.counters.outcomes.tx_packets.get(), 4);
    assert!(bench.worker.port_mut().kicks(0) > 0);
    bench.drain();
    bench.check();
}

/// A port whose kernel sends one frame for each call, slowly.
struct Trickle(MemoryPort);

impl Trickle {
    const PACE: Duration = Duration::from_millis(2);
}

impl Port for Trickle {
    type Frame = MemoryFrame;

    fn queues(&self) -> usize {
        self.0.queues()
    }

    fn rx_burst(&mut self, queue: usize, frames: &mut Vec<MemoryFrame>, most: usize) -> usize {
        self.0.rx_burst(queue, frames, most)
    }

    fn bytes_mut<'a>(&'a mut self, frame: &'a mut MemoryFrame) -> &'a mut [u8] {
        self.0.bytes_mut(frame)
    }

    fn tx_burst(&mut self, queue: usize, frames: &mut Vec<MemoryFrame>) -> usize {
        self.0.tx_burst(queue, frames)
    }

    fn release(&mut self, frame: MemoryFrame) {
        self.0.release(frame);
    }

    fn kick_tx(&mut self, queue: usize) {
        thread::sleep(Self::PACE);
        self.0.transmit(queue, 1);
    }

    fn complete(&mut self, queue: usize, times: &LatencyHistogram) -> usize {
        self.0.complete(queue, times)
    }

    fn refill(&mut self, queue: usize) -> usize {
        self.0.refill(queue)
    }

    fn kick_rx(&mut self, queue: usize) {
        self.0.kick_rx(queue);
    }

    fn wait(&mut self, timeout: Duration) {
        self.0.wait(timeout);
    }

    fn census(&self) -> Census {
        self.0.census()
    }
}

#[test]
fn a_tx_ring_that_drains_slowly_holds_a_burst_no_longer_than_is_stated() {
    const BURST: usize = 64;
    const HOLD: Duration = Duration::from_millis(10);
    let published = Published::new(ForwardingTable::build(&plan().numbered(&mut Identities::default()), None));
    let counters = Arc::new(WorkerCounters::default());
    let settings = WorkerSettings {
        worker: 0,
        batch: BURST,
        idle: IdlePolicy::Spin,
        tx_hold: HOLD,
        egress_queues: vec![vec![Some(0), None]],
    };
    let port = Trickle(MemoryPort::new(1, 2 * BURST, BURST, TX_RING));
    let flows = WorkerFlows::new(1024).unwrap();
    let mut worker = Worker::new(settings, port, published.reader(), Arc::clone(&counters), flows);
    for port in 0..BURST as u16 {
        let segment = packets::tcp(4000 + port, 80);
        let frame = packets::Ipv4 { source: CLIENT, destination: VIP, ..Default::default() }.frame(&segment);
        assert!(worker.port_mut().0.deliver(0, &frame, None));
    }

    let before = Instant::now();
    worker.turn();
    let took = before.elapsed();

    let dropped = counters.outcomes.drops[DropReason::TxRingFull.index()].get();
    assert_eq!(counters.outcomes.tx_packets.get() + dropped, BURST as u64);
    assert!(counters.outcomes.tx_packets.get() > TX_RING as u64, "it was held");
    assert!(dropped > 0 && took < HOLD * 5, "held for {took:?}, {dropped} dropped");
}

#[test]
fn without_a_queue_on_the_egress_the_frame_is_dropped_as_no_egress() {
    let mut bench = Bench::new(false);
    let segment = packets::tcp(4000, 80);
    bench.deliver(&packets::Ipv6 { source: CLIENT6, destination: VIP6, ..Default::default() }.frame(&segment));
    bench.drain();
    assert_eq!(bench.drops(DropReason::NoEgress), 1);
    bench.check();
}
