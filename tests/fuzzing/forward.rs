//! Frames through the forwarding decision, and through a whole worker over a model of the kernel.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use pointsman::counters::WorkerCounters;
use pointsman::flow::WorkerFlows;
use pointsman::forward::{self, Counts};
use pointsman::port::Port;
use pointsman::port::memory::MemoryPort;
use pointsman::table::{ForwardingTable, Published};
use pointsman::verdict::{DropReason, Verdict};
use pointsman::wire;
use pointsman::worker::{IdlePolicy, Worker, WorkerSettings};

use super::{SOURCES, Tables};

const FRAMES: usize = 16;
const FILL_RING: usize = 4;
const TX_RING: usize = 4;
/// Where time starts: it wraps within the longest inputs.
const START_S: u32 = u32::MAX - 1000;

/// What an input has happen, each beginning with a byte that tells which.
pub enum Step<'a> {
    /// Under 0x80: a frame arrives at the queue of bit 0; its length in two bytes, big-endian, and its bytes follow.
    Deliver(usize, &'a [u8]),
    /// 0x80 to 0xbf: the worker takes a turn.
    Turn,
    /// 0xc0 to 0xdf: the kernel sends up to so many frames of the queue of bit 0.
    Transmit(usize, usize),
    /// 0xe0 to 0xef: so many times 30 seconds pass.
    Pass(u32),
    /// From 0xf0: the real servers are those of the byte that follows.
    Change(u8),
}

/// The input is a byte of real servers and then steps. A frame that is cut short ends with the input.
pub fn forward(input: &[u8]) {
    let Some((servers, mut rest)) = input.split_first() else { return };
    let mut tables = Tables::new();
    let mut decision = Decision::new(tables.build(*servers, START_S, None));
    let mut bench = Bench::new(Tables::new().build(*servers, 0, None));
    while let Some(step) = take_step(&mut rest) {
        match step {
            Step::Deliver(queue, frame) => {
                decision.take(queue, frame);
                bench.deliver(queue, frame);
            }
            Step::Turn => {
                bench.worker.turn();
            }
            Step::Transmit(queue, most) => bench.transmit(queue, most),
            Step::Pass(seconds) => decision.now_s = decision.now_s.wrapping_add(seconds),
            Step::Change(servers) => {
                decision.table = tables.build(servers, decision.now_s, Some(&decision.table));
                bench.published.publish(Tables::new().build(servers, 0, None));
            }
        }
        bench.check();
    }
    bench.finish();
}

fn take_step<'a>(rest: &mut &'a [u8]) -> Option<Step<'a>> {
    let (kind, behind) = rest.split_first()?;
    *rest = behind;
    let queue = usize::from(kind & 1);
    Some(match kind {
        0..0x80 => {
            let (length, behind) = rest.split_at_checked(2)?;
            let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
            let (frame, behind) = behind.split_at(length.min(behind.len()));
            *rest = behind;
            Step::Deliver(queue, frame)
        }
        0x80..0xc0 => Step::Turn,
        0xc0..0xe0 => Step::Transmit(queue, usize::from(kind >> 1 & 15)),
        0xe0..0xf0 => Step::Pass(u32::from(kind & 15) * 30),
        _ => {
            let (servers, behind) = rest.split_first()?;
            *rest = behind;
            Step::Change(*servers)
        }
    })
}

/// The decision alone, by two workers that read each other's flows.
struct Decision {
    table: ForwardingTable,
    flows: [WorkerFlows; 2],
    counts: Counts,
    now_s: u32,
}

impl Decision {
    fn new(table: ForwardingTable) -> Self {
        let mut flows = [WorkerFlows::new(16).unwrap(), WorkerFlows::new(16).unwrap()];
        let [first, second] = [flows[0].as_peer(), flows[1].as_peer()];
        flows[0].peers.push(second);
        flows[1].peers.push(first);
        Self { table, flows, counts: Counts::default(), now_s: START_S }
    }

    fn take(&mut self, worker: usize, frame: &[u8]) {
        let mut left = frame.to_vec();
        let flows = &mut self.flows[worker];
        match forward::forward(&mut left, &self.table, flows, &mut self.counts, self.now_s) {
            Verdict::Tx { egress, route } => {
                let server = &self.table.real_servers()[route.real_server as usize];
                assert_eq!(server.service, route.service, "a real server of another service");
                assert!(server.is_alive(), "a frame leaves for a real server that is down");
                assert_eq!(server.egress(), egress);
                assert_eq!(left[..12], server.macs()[..], "not the next hop's MAC addresses");
                assert_eq!(left[12..], frame[12..], "bytes other than the MAC addresses have changed");
                let subject = wire::subject(frame).expect("a frame leaves that is about no flow");
                assert_eq!(self.table.service_of(&subject).map(|number| number.position), Some(route.service));
                assert!(frame.len() - subject.l3_offset <= server.mtu() as usize, "a frame leaves over the MTU");
            }
            Verdict::Drop { reason, service, .. } => {
                assert_eq!(left, frame, "a dropped frame was changed");
                let about_none = matches!(reason, DropReason::Malformed | DropReason::NoService);
                assert_eq!(service.is_none(), about_none, "{reason:?} of service {service:?}");
            }
        }
    }
}

/// A worker, and what is to be seen of it.
struct Bench {
    worker: Worker<MemoryPort>,
    published: Arc<Published<ForwardingTable>>,
    counters: Arc<WorkerCounters>,
    /// What was delivered and has not left, in order.
    waiting: VecDeque<Vec<u8>>,
    delivered: u64,
    sent: u64,
}

impl Bench {
    fn new(table: ForwardingTable) -> Self {
        let published = Published::new(table);
        let counters = Arc::new(WorkerCounters::default());
        let settings = WorkerSettings {
            worker: 0,
            batch: 4,
            idle: IdlePolicy::Spin,
            tx_hold: Duration::ZERO,
            egress_queues: vec![vec![Some(0), Some(1)]; 2],
        };
        let port = MemoryPort::new(2, FRAMES, FILL_RING, TX_RING);
        let flows = WorkerFlows::new(16).unwrap();
        let worker = Worker::new(settings, port, published.reader(), Arc::clone(&counters), flows);
        Self { worker, published, counters, waiting: VecDeque::new(), delivered: 0, sent: 0 }
    }

    fn deliver(&mut self, queue: usize, frame: &[u8]) {
        if self.worker.port_mut().deliver(queue, frame, Some(1)) {
            self.delivered += 1;
            self.waiting.push_back(frame.to_vec());
        }
    }

    fn transmit(&mut self, queue: usize, most: usize) {
        for left in self.worker.port_mut().transmit(queue, most) {
            self.sent += 1;
            assert_eq!(left[6..12], SOURCES[queue].octets(), "it leaves by the wrong interface");
            let came = self.waiting.iter().position(|came| came.len() == left.len() && came[12..] == left[12..]);
            let came = came.expect("a frame left that never came: bytes other than the MAC addresses have changed");
            self.waiting.remove(came);
        }
    }

    fn check(&mut self) {
        let census = self.worker.port_mut().census();
        assert_eq!(census.total(), FRAMES as u64, "{census:?}");
        assert_eq!(census.free, census.worker, "frames have leaked: {census:?}");
        assert_eq!(census.quarantined, 0, "{census:?}");
    }

    fn finish(mut self) {
        for _ in 0..=FRAMES {
            self.worker.turn();
            self.transmit(0, usize::MAX);
            self.transmit(1, usize::MAX);
        }
        self.check();
        let dropped: u64 = self.counters.outcomes.drops.iter().map(|count| count.get()).sum();
        assert_eq!(self.counters.outcomes.tx_packets.get(), self.sent);
        assert_eq!(self.sent + dropped, self.delivered, "a frame without a verdict, or with two");
    }
}
