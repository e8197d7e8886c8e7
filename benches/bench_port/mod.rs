//! What the benches measure with: plans, frames, and a port that costs next to nothing.
#![allow(dead_code, unreachable_pub, reason = "the module is compiled into several benches")]

use std::net::Ipv4Addr;
use std::time::Duration;

use pointsman::clock;
use pointsman::counters::latency::LatencyHistogram;
use pointsman::flow::WorkerFlows;
use pointsman::forward::{Counts, forward};
use pointsman::port::{Census, Frame, Port};
use pointsman::service::{Protocol, ServiceKey};
use pointsman::table::{
    Egress, FlowHasher, FlowTimeouts, ForwardingTable, HashBy, Identities, Member, NextHop, Quorum, RealServerPlan,
    Scheduler, ServicePlan, Standing, TablePlan,
};
use pointsman::wire::MacAddress;
use pointsman::worker::{IdlePolicy, WorkerSettings};

pub const VIP: Ipv4Addr = Ipv4Addr::new(192, 168, 88, 15);
pub const BURST: u32 = 64;

pub fn members(count: u32) -> Vec<Member> {
    (0..count).map(|number| Member { address: Ipv4Addr::from(0x0a00_0000 + number).into(), weight: 1 }).collect()
}

pub fn plan(services: u32, real_servers: u32) -> TablePlan {
    let mac = MacAddress::new([2, 0, 0, 0, 0, 1]);
    TablePlan {
        hasher: FlowHasher::new("bench"),
        egresses: vec![Egress { name: "eth0".into(), source: mac, mtu: 1500 }],
        services: (0..services)
            .map(|number| ServicePlan {
                id: 0,
                timeouts: FlowTimeouts::default(),
                previous_table_s: 0,
                fallback: None,
                quorum: Quorum::default(),
                key: ServiceKey {
                    vip: Ipv4Addr::from(u32::from(VIP) + number).into(),
                    protocol: Protocol::Udp,
                    port: 53,
                },
                table_size: 65_537,
                hash_by: HashBy::Flow,
                scheduler: Scheduler::Mh,
                persistence: None,
                real_servers: members(real_servers)
                    .iter()
                    .map(|member| RealServerPlan {
                        id: 0,
                        address: member.address,
                        weight: 1,
                        next_hop: Some(NextHop { mac, egress: 0 }),
                        standing: Standing::Sound,
                        limit: None,
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
pub fn frames(flows: u32, services: u32) -> Vec<Vec<u8>> {
    (0..flows)
        .map(|flow| {
            let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, 17, 0, 0];
            frame.extend(0x0a00_0000u32.wrapping_add(flow).to_be_bytes());
            frame.extend((u32::from(VIP) + flow % services).to_be_bytes());
            frame.extend((1024 + (flow % 50_000) as u16).to_be_bytes());
            frame.extend(53u16.to_be_bytes());
            frame.extend([0, 26, 0, 0]);
            frame.resize(60, 0);
            frame
        })
        .collect()
}

/// Frames in one piece of memory, each received again once it was sent: a port that costs next to nothing, so that what
/// is measured is the worker. Clients change from burst to burst, in an order that no prefetcher guesses.
pub struct BenchPort {
    pub memory: Vec<[u8; 64]>,
    pub clients: Clients,
    /// Frames with a stamp are timed one by one; none of the others is.
    pub stamped: bool,
}

pub struct BenchFrame {
    number: usize,
    received_ns: Option<u64>,
}

impl Frame for BenchFrame {
    fn len(&self) -> usize {
        60
    }

    fn received_ns(&self) -> Option<u64> {
        self.received_ns
    }
}

impl Port for BenchPort {
    type Frame = BenchFrame;

    fn queues(&self) -> usize {
        1
    }

    fn rx_burst(&mut self, _: usize, frames: &mut Vec<BenchFrame>, most: usize) -> usize {
        for frame in &mut self.memory {
            self.clients.write_next(frame);
        }
        let count = most.min(self.memory.len());
        // Stamps some ten nanoseconds apart, as those of a NIC's queue are: no two frames share a time.
        let now_ns = clock::monotonic_ns();
        let stamp = |number: usize| self.stamped.then(|| now_ns.saturating_sub(20 * number as u64));
        frames.extend((0..count).map(|number| BenchFrame { number, received_ns: stamp(number) }));
        count
    }

    fn bytes_mut<'a>(&'a mut self, frame: &'a mut BenchFrame) -> &'a mut [u8] {
        &mut self.memory[frame.number][..60]
    }

    fn tx_burst(&mut self, _: usize, frames: &mut Vec<BenchFrame>) -> usize {
        let count = frames.len();
        frames.clear();
        count
    }

    fn release(&mut self, _: BenchFrame) {
        panic!("nothing is to be dropped");
    }

    fn kick_tx(&mut self, _: usize) {}

    fn complete(&mut self, _: usize, _: &LatencyHistogram) -> usize {
        0
    }

    fn refill(&mut self, _: usize) -> usize {
        0
    }

    fn kick_rx(&mut self, _: usize) {}

    fn wait(&mut self, _: Duration) {}

    fn census(&self) -> Census {
        Census::default()
    }
}

/// The next of all flows in turn (Hull and Dobell: a full period), at random places.
#[derive(Clone)]
pub struct Clients {
    pub mask: u32,
    pub services: u32,
    pub state: u32,
}

impl Clients {
    pub fn new(flows: u32, services: u32) -> Self {
        Self { mask: flows - 1, services, state: 1 }
    }

    pub fn write_next(&mut self, frame: &mut [u8]) {
        self.state = self.state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // The lower bits of such a sequence are the least random, and have the shortest period.
        let flow = self.state >> (32 - self.mask.count_ones()) & self.mask;
        write_flow(frame, flow, self.services);
    }
}

pub fn write_flow(frame: &mut [u8], flow: u32, services: u32) {
    frame[26..30].copy_from_slice(&0x0a00_0000u32.wrapping_add(flow).to_be_bytes());
    frame[30..34].copy_from_slice(&(u32::from(VIP) + flow % services).to_be_bytes());
    frame[34..36].copy_from_slice(&1024u16.to_be_bytes());
}

pub fn memory() -> Vec<[u8; 64]> {
    frames(BURST, 1)
        .into_iter()
        .map(|mut frame| {
            frame.resize(64, 0);
            frame.try_into().unwrap()
        })
        .collect()
}

/// Two packets of each flow, so that it is established.
pub fn establish(table: &ForwardingTable, flows: &mut WorkerFlows, count: u32, services: u32) {
    let mut counts = Counts::default();
    let mut frame = frames(1, 1).remove(0);
    for flow in (0..count).flat_map(|flow| [flow, flow]) {
        write_flow(&mut frame, flow, services);
        forward(&mut frame, table, flows, &mut counts, clock::to_seconds(clock::monotonic_ns()));
    }
}

/// Settings of a worker over a [`BenchPort`].
pub fn settings() -> WorkerSettings {
    WorkerSettings {
        worker: 0,
        batch: BURST as usize,
        idle: IdlePolicy::Spin,
        tx_hold: Duration::ZERO,
        egress_queues: vec![vec![Some(0)]],
    }
}
