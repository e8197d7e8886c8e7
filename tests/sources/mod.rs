//! Sources of statistics without a director: real counters and a real table, filled by the test.
#![allow(dead_code, reason = "each test program has a copy of this module, and not all use all of it")]

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use pointsman::counters::{Counter, Outcomes, QueueCounters, WorkerCounters};
use pointsman::flow::WorkerFlows;
use pointsman::service::{Protocol, ServiceKey};
use pointsman::stats::collect::{HealthReading, InterfaceSource, QueueSource, Sources, WorkerSource};
use pointsman::stats::cpu::{CpuSource, NapiSource};
use pointsman::stats::report::{AttachMode, HealthCheckReport, HealthState, KernelRingStatistics, Moment, XdpCounts};
use pointsman::table::{
    Egress, FlowHasher, FlowTimeouts, ForwardingTable, HashBy, Identities, NextHop, Published, Quorum, RealServerPlan,
    Scheduler, ServicePlan, Standing, TablePlan,
};
use pointsman::wire::MacAddress;

pub(crate) const WORKERS: usize = 2;
/// Flows that each worker remembers.
pub(crate) const FLOWS: usize = 1024;
pub(crate) const INTERFACES: [&str; 2] = ["d0", "d1"];

/// Two workers with one queue on each of two interfaces, and the counters by which a test sets what they report.
pub(crate) struct Director {
    pub(crate) sources: Sources,
    pub(crate) workers: Vec<Arc<WorkerCounters>>,
    /// The flow tables, by worker.
    pub(crate) flows: Vec<WorkerFlows>,
    /// By worker, then by interface.
    pub(crate) queues: Vec<Vec<Arc<QueueCounters>>>,
}

/// What the kernel would say.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Kernel {
    pub(crate) rings: [[KernelRingStatistics; INTERFACES.len()]; WORKERS],
    pub(crate) xdp: [XdpCounts; INTERFACES.len()],
    pub(crate) redirect_errors: Option<u64>,
}

pub(crate) fn director(kernel: Kernel) -> Director {
    let workers: Vec<Arc<WorkerCounters>> = (0..WORKERS).map(|_| Arc::default()).collect();
    let queues: Vec<Vec<Arc<QueueCounters>>> =
        (0..WORKERS).map(|_| INTERFACES.iter().map(|_| Arc::default()).collect()).collect();
    let flows: Vec<WorkerFlows> = (0..WORKERS).map(|_| WorkerFlows::new(FLOWS).unwrap()).collect();
    let worker_source = |(worker, counters): (usize, &Arc<WorkerCounters>)| WorkerSource {
        worker,
        core: (worker > 0).then_some(worker),
        clock: Arc::default(),
        counters: Arc::clone(counters),
        flows: flows[worker].flows.reader(),
        queues: INTERFACES
            .iter()
            .enumerate()
            .map(|(interface, name)| QueueSource {
                interface: (*name).to_owned(),
                queue: u32::try_from(worker).unwrap(),
                zero_copy: interface == 1,
                counters: Arc::clone(&queues[worker][interface]),
                kernel: Box::new(move || Ok(kernel.rings[worker][interface])),
            })
            .collect(),
    };
    let interface_source = |(interface, name): (usize, &&str)| InterfaceSource {
        name: (*name).to_owned(),
        mode: [AttachMode::Native, AttachMode::Generic][interface],
        xdp: Box::new(move || Ok(kernel.xdp[interface])),
        redirect_errors: Box::new(move || kernel.redirect_errors),
    };
    let sources = Sources {
        started_at: Moment::now(),
        workers: workers.iter().enumerate().map(worker_source).collect(),
        interfaces: INTERFACES.iter().enumerate().map(interface_source).collect(),
        health: Box::new(health),
        cpus: CpuSource::new(NapiSource::Tracepoints(Box::new(|| Ok(Vec::new())))),
        tables: Published::new(ForwardingTable::build(&plan().numbered(&mut Identities::default()), None)),
    };
    Director { sources, workers, flows, queues }
}

/// The first real server has one check, which is down.
fn health() -> HealthReading {
    let check = HealthCheckReport {
        kind: "http".to_owned(),
        via: "direct".to_owned(),
        port: 80,
        state: HealthState::Down,
        since_unix_ns: 1,
        last_result: Some("HTTP status 503, wanted 200-299".to_owned()),
        last_good: Some(false),
        last_unix_ns: Some(2),
        last_took_ns: Some(3),
        checks: 7,
        failures: 5,
        flaps: 1,
        needed_rise: 2,
    };
    let service = "tcp 192.168.88.15:80".parse().unwrap();
    HashMap::from([((service, "192.168.88.100".parse().unwrap()), vec![check])])
}

/// A table of an IPv4 service (two real servers, weights 1 and 2) and an IPv6 one (one draining, one without next hop).
pub(crate) fn plan() -> TablePlan {
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    let hop = |last, egress| Some(NextHop { mac: MacAddress::new([2, 0, 0, 0, 1, last]), egress });
    let real_server = |text, weight, next_hop| RealServerPlan {
        id: 0,
        address: address(text),
        weight,
        next_hop,
        standing: Standing::Sound,
        limit: None,
        quic_server_id: None,
    };
    let service = |vip, protocol, port, hash_by, real_servers| ServicePlan {
        id: 0,
        timeouts: FlowTimeouts::default(),
        previous_table_s: 0,
        fallback: None,
        quorum: Quorum::default(),
        key: ServiceKey { vip: address(vip), protocol, port },
        table_size: 251,
        hash_by,
        scheduler: Scheduler::Mh,
        persistence: None,
        real_servers,
    };
    let egress =
        |name: &str, last| Egress { name: name.to_owned(), source: MacAddress::new([2, 0, 0, 0, 0, last]), mtu: 1500 };
    TablePlan {
        hasher: FlowHasher::new("test"),
        egresses: vec![egress("d0", 1), egress("interface-of-15", 2)],
        services: vec![
            service(
                "192.168.88.15",
                Protocol::Tcp,
                80,
                HashBy::Flow,
                vec![real_server("192.168.88.100", 1, hop(1, 0)), real_server("192.168.88.200", 2, hop(2, 0))],
            ),
            service(
                "2001:db8:1111:2222:3333:4444:5555:6666",
                Protocol::Udp,
                0,
                HashBy::Client,
                vec![
                    real_server("2001:db8:1111:2222:3333:4444:5555:7777", 0, hop(3, 1)),
                    real_server("2001:db8:1111:2222:3333:4444:5555:8888", u32::MAX, None),
                ],
            ),
        ],
        workers: WORKERS,
        now_s: 0,
    }
}

/// Sets every counter of a director that workers write, from `value`.
pub(crate) fn fill(director: &Director, value: &mut impl FnMut() -> u64) {
    let mut set = |counter: &Counter| counter.set(value());
    for worker in &director.workers {
        set_outcomes(&worker.outcomes, &mut set);
        for batch in &worker.batches {
            [&batch.bursts, &batch.packets, &batch.cycles, &batch.system_call_cycles].into_iter().for_each(&mut set);
        }
        worker.cost.stages.iter().chain([&worker.cost.idle]).for_each(&mut set);
        for call in &worker.cost.system_calls {
            [&call.calls, &call.busy_cycles, &call.idle_cycles].into_iter().for_each(&mut set);
        }
        for counter in [
            &worker.unstamped,
            &worker.busy_turns,
            &worker.idle_turns,
            &worker.sleeps,
            &worker.table_generation,
            &worker.frames_total,
            &worker.frames_free,
            &worker.frames_quarantined,
            &worker.flows.new,
            &worker.flows.without_room,
            &worker.flows.evicted,
            &worker.flows.peer_hits,
            &worker.flows.previous_table_hits,
            &worker.flows.fragment_hits,
            &worker.flows.fragment_misses,
            &worker.flows.second_choices,
        ] {
            set(counter);
        }
    }
    for queue in director.queues.iter().flatten() {
        for counter in [
            &queue.rx_packets,
            &queue.rx_bytes,
            &queue.rx_refused,
            &queue.tx_packets,
            &queue.tx_bytes,
            &queue.tx_completed,
            &queue.fill_submitted,
            &queue.tx_kicks,
            &queue.tx_kick_errors,
            &queue.rx_kicks,
        ] {
            set(counter);
        }
    }
    let reader = director.sources.tables.reader();
    let table = reader.pin();
    let services = table.services().iter().map(|service| &service.outcomes);
    for outcomes in services.chain(table.real_servers().iter().map(|real_server| &real_server.outcomes)) {
        outcomes.iter().for_each(|cell| set_outcomes(cell, &mut set));
    }
    for worker in &director.workers {
        for _ in 0..value() % 20 {
            for histogram in [&worker.latency, &worker.queueing, &worker.processing, &worker.completion] {
                histogram.record_all(std::iter::repeat_n(value(), 1 + value() as usize % 1000));
            }
        }
    }
}

fn set_outcomes(outcomes: &Outcomes, set: &mut impl FnMut(&Counter)) {
    set(&outcomes.tx_packets);
    set(&outcomes.tx_bytes);
    set(&outcomes.drop_bytes);
    outcomes.drops.iter().for_each(set);
}

/// What the kernel says, from `value`.
pub(crate) fn kernel(value: &mut impl FnMut() -> u64) -> Kernel {
    let mut kernel = Kernel::default();
    for rings in kernel.rings.iter_mut().flatten() {
        *rings = KernelRingStatistics {
            rx_dropped: value(),
            rx_invalid_descs: value(),
            tx_invalid_descs: value(),
            rx_ring_full: value(),
            rx_fill_ring_empty_descs: value(),
            tx_ring_empty_descs: value(),
        };
    }
    for xdp in &mut kernel.xdp {
        *xdp = XdpCounts {
            redirected: value(),
            passed: value(),
            not_our_mac: value(),
            malformed: value(),
            no_socket: value(),
            unstamped: value(),
        };
    }
    kernel.redirect_errors = Some(value()).filter(|value| value % 2 == 0);
    kernel
}

/// A director whose kernel says nothing at all.
pub(crate) fn silent() -> Director {
    let mut director = director(Kernel { redirect_errors: None, ..Kernel::default() });
    for queue in director.sources.workers.iter_mut().flat_map(|worker| &mut worker.queues) {
        queue.kernel = Box::new(|| Err(io::Error::other("the socket is closed")));
    }
    for interface in &mut director.sources.interfaces {
        interface.xdp = Box::new(|| Err("the map is gone".to_owned()));
    }
    director
}
