//! How many cores and machines a rate takes, how they are loaded, and what gives way first.

use serde::Serialize;

use super::capacity::{CoreCapacity, Interval, WorkingPoint, capacity};
use super::run::Run;

/// Bytes on the wire that belong to a frame and are not counted: preamble, check sequence, gap between frames.
const WIRE_BYTES: f64 = 24.0;
/// The shortest frame on a wire, without check sequence.
const LEAST_FRAME_BYTES: f64 = 60.0;
/// Slots that a flow table has for each flow that it is meant for.
const SLOTS_PER_FLOW: u64 = 2;
/// Bytes of flow table for each flow that it is meant for.
const BYTES_PER_FLOW: u64 = 64;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Demand {
    /// Frames in a second, to all machines together.
    pub rate_pps: f64,
    /// Bytes of a frame without check sequence; `None` as in the run.
    pub frame_bytes: Option<f64>,
    /// The part of every core and link that is to stay free, also after the failures.
    pub headroom: f64,
    /// Machines that may fail at once.
    pub failures: u64,
    /// Bits in a second of a machine's link, in each direction; `None` if unknown.
    pub link_bps: Option<f64>,
    /// Most cores for workers in a machine; `None` as many as the run had workers.
    pub cores_per_machine: Option<u64>,
    /// Flows at once, on all machines together; `None` grows with the rate from those of the run.
    pub flows: Option<u64>,
    /// Frames of a full burst.
    pub batch: u32,
    /// Descriptors of an RX ring.
    pub rx_ring: u32,
    /// Flows that each worker is to remember; `None` as in the run.
    pub flows_per_worker: Option<u64>,
}

/// What it takes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// What a core can do.
    pub core: CoreCapacity,
    /// By the low end of what a core can do: this is planned with.
    pub machines: Machines,
    /// By the likely figure.
    pub likely: Machines,
    /// By the high end.
    pub at_best: Machines,
    /// Frames in a second of the busiest core over the mean, as in the run.
    pub imbalance: f64,
    /// Cores that the kernel takes for receiving beside the workers', on all machines; null if that was not measured.
    pub kernel_cores: Option<f64>,
    /// Bits in a second on the wire of each machine and direction, with all machines.
    pub link_bps: f64,
    /// Flows at once that each worker has after the failures.
    pub flows_per_worker: f64,
    /// What may give way, the first first.
    pub limits: Vec<Limit>,
    /// What this rests on, a sentence each.
    pub assumptions: Vec<String>,
    /// What to look at, a sentence each.
    pub warnings: Vec<String>,
}

/// A number of machines and their cores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Machines {
    /// Machines, those that may fail included.
    pub machines: u64,
    /// Cores for workers in each.
    pub cores_each: u64,
    /// Cores for workers in all.
    pub cores: u64,
}

/// What may give way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitKind {
    /// A worker's core is busy all the time.
    Core,
    /// An RX ring overflows while its worker is held up.
    Ring,
    /// A link is full.
    Link,
    /// A flow table has no room, and flows go by their hash.
    FlowTable,
}

/// How near something is to giving way.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Limit {
    /// What.
    pub what: LimitKind,
    /// The part that is used with all machines.
    pub used: f64,
    /// The part that is used after the failures.
    pub used_after_failures: f64,
    /// The most that is used after the failures, if all figures are at their worst.
    pub used_at_worst: f64,
    /// The rate at which it gives way after the failures, in frames in a second.
    pub breaks_at_pps: f64,
}

impl LimitKind {
    /// Its name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Ring => "RX ring",
            Self::Link => "link",
            Self::FlowTable => "flow table",
        }
    }
}

/// What one machine is given.
struct Sizes {
    wire_bits: f64,
    most_cores: u64,
    imbalance: f64,
}

/// What it takes to meet `demand`. `None` if the run has no burst that tells what a core can do.
pub fn plan(run: &Run, demand: &Demand) -> Option<Plan> {
    let point = WorkingPoint { batch: f64::from(demand.batch), frame_bytes: demand.frame_bytes };
    let mut core = capacity(run, point)?;
    let frame_bytes = demand.frame_bytes.unwrap_or_else(|| run.frame_bytes());
    let sizes = Sizes {
        wire_bits: (frame_bytes.max(LEAST_FRAME_BYTES) + WIRE_BYTES) * 8.0,
        most_cores: demand.cores_per_machine.unwrap_or(run.workers.len() as u64).max(1),
        imbalance: run.imbalance(),
    };
    let by = |core_pps: f64| machines(demand, &sizes, core_pps);
    let Interval { low, likely, high } = core.frames_per_s;
    let planned = by(low);
    let mut assumptions = std::mem::take(&mut core.assumptions);
    let flows = flows(run, demand, &mut assumptions);
    let limits = limits(run, demand, &sizes, planned, &core, flows);
    further_assumptions(run, demand, &sizes, &mut assumptions);
    let survivors = (planned.machines - demand.failures) as f64;
    let plan = Plan {
        machines: planned,
        likely: by(likely),
        at_best: by(high),
        imbalance: sizes.imbalance,
        kernel_cores: run
            .kernel
            .elsewhere_ns
            .map(|elsewhere_ns| demand.rate_pps * elsewhere_ns as f64 / run.frames.max(1) as f64 / 1e9),
        link_bps: demand.rate_pps / planned.machines as f64 * sizes.wire_bits,
        flows_per_worker: flows * sizes.imbalance / (survivors * planned.cores_each as f64),
        core,
        limits,
        assumptions,
        warnings: Vec::new(),
    };
    Some(Plan { warnings: warnings(run, demand, &plan), ..plan })
}

/// Machines and cores if a core can do `core_pps`: with the failures, and with the headroom, for the busiest core.
fn machines(demand: &Demand, sizes: &Sizes, core_pps: f64) -> Machines {
    let usable = 1.0 - demand.headroom;
    let per_core = core_pps * usable / sizes.imbalance;
    let by_cores = demand.rate_pps / (per_core * sizes.most_cores as f64);
    let by_link = demand.link_bps.map_or(0.0, |bps| demand.rate_pps * sizes.wire_bits / (bps * usable));
    let survivors = whole(by_cores.max(by_link));
    let cores_each = whole(demand.rate_pps / survivors as f64 / per_core).min(sizes.most_cores);
    let machines = survivors + demand.failures;
    Machines { machines, cores_each, cores: machines.saturating_mul(cores_each) }
}

/// Rounded up, from 1 on. What is a hair above a whole number by rounding of binary fractions is that number.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 1 to 2^53")]
fn whole(number: f64) -> u64 {
    (number - 1e-9).ceil().clamp(1.0, 9e15) as u64
}

/// Flows at once on all machines.
fn flows(run: &Run, demand: &Demand, assumptions: &mut Vec<String>) -> f64 {
    if let Some(flows) = demand.flows {
        return flows as f64;
    }
    let rate = run.rate_pps();
    assumptions.push(format!(
        "flows at once grow as the rate does, from the {} that the run ended with; --flows says otherwise",
        run.flows
    ));
    if rate > 0.0 { run.flows as f64 * demand.rate_pps / rate } else { 0.0 }
}

fn limits(
    run: &Run,
    demand: &Demand,
    sizes: &Sizes,
    machines: Machines,
    core: &CoreCapacity,
    flows: f64,
) -> Vec<Limit> {
    let all = machines.machines as f64;
    let left = all - demand.failures as f64;
    let rate = demand.rate_pps;
    let busiest = |machines_left: f64| rate * sizes.imbalance / (machines_left * machines.cores_each as f64);
    let limit = |what, capacity: f64, worst: f64, load: &dyn Fn(f64) -> f64| Limit {
        what,
        used: load(all) / capacity,
        used_after_failures: load(left) / capacity,
        used_at_worst: load(left) / worst,
        breaks_at_pps: rate * capacity / load(left),
    };
    let mut limits = vec![limit(LimitKind::Core, core.frames_per_s.likely, core.frames_per_s.low, &busiest)];
    if let Some(link_bps) = demand.link_bps {
        limits.push(limit(LimitKind::Link, link_bps, link_bps, &|machines| rate / machines * sizes.wire_bits));
    }
    if let Some(stalls) = run.stalls.filter(|stalls| stalls.p99_99_ns > 0) {
        let ring_ns = f64::from(demand.rx_ring) * 1e9;
        let (usual, worst) = (ring_ns / stalls.p99_99_ns as f64, ring_ns / stalls.longest_ns as f64);
        limits.push(limit(LimitKind::Ring, usual, worst, &busiest));
    }
    let room = demand.flows_per_worker.or(run.flow_slots_per_worker.map(|slots| slots / SLOTS_PER_FLOW));
    if let Some(room) = room.filter(|_| flows > 0.0) {
        let room = room as f64;
        let per_worker = |machines_left: f64| flows * sizes.imbalance / (machines_left * machines.cores_each as f64);
        limits.push(limit(LimitKind::FlowTable, room, room, &per_worker));
    }
    limits.sort_by(|a, b| a.breaks_at_pps.total_cmp(&b.breaks_at_pps));
    limits
}

fn further_assumptions(run: &Run, demand: &Demand, sizes: &Sizes, assumptions: &mut Vec<String>) {
    let workers = run.workers.len();
    assumptions.push(if workers > 1 {
        format!(
            "the NIC spreads frames over cores as in the run: the busiest gets {:.2} times the mean",
            sizes.imbalance
        )
    } else {
        "the NIC spreads frames evenly over cores, and cores do not slow each other down: the run had one worker"
            .to_owned()
    });
    assumptions.push("machines are like the one of the run, and share the rate evenly".to_owned());
    assumptions.push(
        "frames are like those of the run: services, flow tables, and the part of new flows, which cost more than others"
            .to_owned(),
    );
    if demand.link_bps.is_none() {
        assumptions.push("links are no limit: --link says how fast they are".to_owned());
    }
}

fn warnings(run: &Run, demand: &Demand, plan: &Plan) -> Vec<String> {
    let mut warnings = run.notes.clone();
    if run.lost > 0 {
        warnings.push(format!(
            "{} frames were lost in rings during the run: it was not below what the director can do all the time",
            run.lost
        ));
    }
    for limit in &plan.limits {
        let percent = limit.used_after_failures * 100.0;
        match limit.what {
            LimitKind::Ring if limit.used_after_failures > 1.0 => warnings.push(format!(
                "a worker held up as long as one frame of 10,000 waited in the run would lose frames: an RX ring of {} \
                 descriptors is {percent:.0} % full by then; raise rx_ring and fill_ring, or keep other work off its core",
                demand.rx_ring
            )),
            LimitKind::Ring if limit.used_at_worst > 1.0 => warnings.push(format!(
                "a worker held up as long as the longest wait of the run would lose frames: an RX ring of {} descriptors is \
                 {:.0} % full by then",
                demand.rx_ring,
                limit.used_at_worst * 100.0
            )),
            LimitKind::FlowTable if limit.used_after_failures > 1.0 => {
                let flows = whole(plan.flows_per_worker).checked_next_power_of_two().unwrap_or(u64::MAX);
                warnings.push(format!(
                    "flow tables are too small: set flows_per_worker = {flows}, which takes {} MB of memory for each worker",
                    flows.saturating_mul(BYTES_PER_FLOW) / 1_000_000
                ));
            }
            _ => {}
        }
    }
    warnings
}
