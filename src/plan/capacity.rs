//! What one core can do at its most, from what its bursts cost while it had room.

use serde::Serialize;

use super::fit::{BurstPoint, Fit};
use super::run::{BurstClass, Run, WorkerRun};

/// Below this load the run tells little of full load.
pub const MOST_LIKELY_LEAST_LOAD: f64 = 0.15;
/// From this load on the run itself was at what it can do.
const FULL_LOAD: f64 = 0.97;
/// What a run at part load cannot show, relative and either way: caches that the ring's backlog fills, other cores that
/// work harder beside it, clock frequencies.
const UNSEEN: f64 = 0.10;
/// The same of a run that had next to nothing to do.
const UNSEEN_OF_LITTLE_LOAD: f64 = 0.20;
/// So many full bursts tell what one costs; nearly full, of a batch, is full.
const FULL_BURSTS_TO_TELL: f64 = 20.0;
const NEARLY_FULL: f64 = 0.9;
/// What the median of full bursts may be off, relative, however many there are; squared relative spread of single ones.
const FULL_BURSTS_SPREAD: f64 = 0.05;
const FULL_BURST_VARIANCE: f64 = 0.09;
/// Standard deviations within which nine of ten normal values are.
const NINE_OF_TEN: f64 = 1.645;
/// Time that others had of a core, from which on it is worth a sentence.
const TAKEN_TO_MENTION: f64 = 0.01;
/// Copying a byte more, in nanoseconds: at least, likely, at most.
const COPY_NS_PER_BYTE: [f64; 3] = [0.0, 0.1, 0.3];

/// A figure and how sure it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Interval {
    /// It is hardly less.
    pub low: f64,
    /// The likely figure.
    pub likely: f64,
    /// It is hardly more.
    pub high: f64,
}

/// At which bursts and which frames a core is to be judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WorkingPoint {
    /// Frames of a full burst, the configured `batch`.
    pub batch: f64,
    /// Bytes of a frame without check sequence; `None` as in the run.
    pub frame_bytes: Option<f64>,
}

/// What a core costs and can do when there is always a full burst waiting.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CoreCapacity {
    /// Cost of a burst that its frames share, in nanoseconds.
    pub burst_ns: f64,
    /// Cost of each frame, in nanoseconds.
    pub frame_ns: f64,
    /// Kernel work on the worker's core that its own cycles may not have, in nanoseconds of a frame.
    pub kernel_ns: f64,
    /// Taking sent frames back, beyond what bursts have of it, in nanoseconds of a frame.
    pub completion_ns: f64,
    /// Part of the burst's cost that is in system calls, in the run.
    pub system_call_share: f64,
    /// Mean frames of a burst in the run.
    pub burst_in_run: f64,
    /// Frames of a burst at full load.
    pub burst_at_full_load: f64,
    /// Nanoseconds of a frame at full load, all together.
    pub full_frame_ns: Interval,
    /// Frames in a second at full load.
    pub frames_per_s: Interval,
    /// What this rests on, a sentence each.
    pub assumptions: Vec<String>,
}

/// Half-widths of an interval, below and above.
#[derive(Clone, Copy, Default)]
struct Spread {
    below: f64,
    above: f64,
}

impl Spread {
    /// Parts that are independent of each other.
    fn and(self, below: f64, above: f64) -> Self {
        Self { below: self.below.hypot(below), above: self.above.hypot(above) }
    }
}

/// What the cores of this run can do. `None` if no burst was measured.
pub(super) fn capacity(run: &Run, point: WorkingPoint) -> Option<CoreCapacity> {
    let all: Vec<&WorkerRun> = run.workers.iter().filter(|worker| worker.frames > 0).collect();
    let ns_per_cycle = if run.cycle_hz > 0.0 { 1e9 / run.cycle_hz } else { return None };
    let points = pooled(&all, ns_per_cycle);
    let fit = Fit::of(&points)?;
    let frames: f64 = points.iter().map(|point| point.frames * point.bursts).sum();
    let bursts: f64 = points.iter().map(|point| point.bursts).sum();
    let largest = points.iter().map(|point| point.frames).fold(1.0, f64::max);
    let batch = point.batch.max(largest);
    let full_bursts = full_bursts(&all, &points, batch);
    let mut assumptions = vec![batching(&fit, frames / bursts, batch, full_bursts)];
    let mut spread = Spread::default();
    let mut cost = full_bursts.map_or(fit.frame_cost(batch), |seen| seen.cost / seen.frames);
    let uncertain = match full_bursts {
        Some(seen) => NINE_OF_TEN * cost * (FULL_BURSTS_SPREAD.powi(2) + FULL_BURST_VARIANCE / seen.bursts).sqrt(),
        None => fit.frame_cost_uncertainty(batch).min(0.9 * cost),
    };
    spread = spread.and(uncertain, uncertain.max(fit.frame_cost(batch / 2.0) - fit.frame_cost(batch)));
    let between = between_workers(&all, ns_per_cycle, batch);
    spread = spread.and(between * cost, between * cost);
    let completions_apart_ns = completions(&all, ns_per_cycle, frames);
    let completion_ns = completions_apart_ns / batch;
    cost += completion_ns;
    spread = spread.and(completion_ns, (completions_apart_ns / 2.0 - completion_ns).max(0.0));
    let kernel_ns = kernel_share(run, frames, &mut assumptions, &mut spread);
    cost += kernel_ns;
    cost += copying(run, point.frame_bytes, &mut assumptions, &mut spread);
    let unseen = unseen(run, &mut assumptions);
    spread = spread.and(unseen * cost, unseen * cost);
    spread = spread.and(0.0, interrupted(run, &all, &mut assumptions) * cost);
    let full = Interval { low: (cost - spread.below).max(0.1 * cost), likely: cost, high: cost + spread.above };
    let cycles = |of: fn(&BurstClass) -> u64| -> f64 {
        all.iter().flat_map(|worker| &worker.bursts).map(|class| of(class) as f64).sum()
    };
    Some(CoreCapacity {
        burst_ns: fit.per_burst,
        frame_ns: fit.per_frame,
        kernel_ns,
        completion_ns,
        system_call_share: cycles(|class| class.system_call_cycles) / cycles(|class| class.cycles).max(1.0),
        burst_in_run: frames / bursts,
        burst_at_full_load: batch,
        full_frame_ns: full,
        frames_per_s: Interval { low: 1e9 / full.high, likely: 1e9 / full.likely, high: 1e9 / full.low },
        assumptions,
    })
}

fn pooled(workers: &[&WorkerRun], ns_per_cycle: f64) -> Vec<BurstPoint> {
    let classes = workers.iter().map(|worker| worker.bursts.len()).max().unwrap_or(0);
    (0..classes)
        .filter_map(|at| {
            let mut all = BurstClass::default();
            for class in workers.iter().filter_map(|worker| worker.bursts.get(at)) {
                all.merge(class);
            }
            Some(BurstPoint {
                frames: all.frames as f64 / all.bursts as f64,
                cost: all.usual_cycles()? * ns_per_cycle,
                bursts: all.bursts as f64,
            })
        })
        .collect()
}

/// The run's full bursts, if it had enough of them and their usual cost is known: they need no line.
fn full_bursts(workers: &[&WorkerRun], points: &[BurstPoint], batch: f64) -> Option<BurstPoint> {
    let single_bursts = workers.iter().flat_map(|worker| &worker.bursts).any(|class| class.each.median().is_some());
    let largest = points.iter().max_by(|a, b| a.frames.total_cmp(&b.frames))?;
    (single_bursts && largest.frames >= NEARLY_FULL * batch && largest.bursts >= FULL_BURSTS_TO_TELL)
        .then_some(*largest)
}

fn batching(fit: &Fit, in_run: f64, batch: f64, full_bursts: Option<BurstPoint>) -> String {
    let how = match full_bursts {
        Some(seen) => format!("the run had {:.0} such bursts, and what these usually cost is taken", seen.bursts),
        None if fit.assumed => {
            "the run's bursts were too much alike to tell what a burst costs from what its frames cost: \
                                their usual shares are taken"
                .to_owned()
        }
        None => "what a burst costs by its size is a line through the run's bursts of all sizes".to_owned(),
    };
    format!(
        "at full load {batch:.0} frames wait whenever the worker looks (in the run {in_run:.1} on average), so bursts are \
         full; {how}"
    )
}

/// Relative spread of the workers' costs of a frame.
fn between_workers(workers: &[&WorkerRun], ns_per_cycle: f64, batch: f64) -> f64 {
    let costs: Vec<f64> = workers
        .iter()
        .filter_map(|worker| Some(Fit::of(&pooled(&[*worker], ns_per_cycle))?.frame_cost(batch)))
        .collect();
    if costs.len() < 2 {
        return 0.0;
    }
    let count = costs.len() as f64;
    let mean = costs.iter().sum::<f64>() / count;
    let variance = costs.iter().map(|cost| (cost - mean).powi(2)).sum::<f64>() / (count - 1.0);
    variance.sqrt() / mean
}

/// Nanoseconds of a frame in turns that only took frames back. At full load a turn takes as many back as it receives, and
/// has the cost of a look for all of them together.
fn completions(workers: &[&WorkerRun], ns_per_cycle: f64, frames: f64) -> f64 {
    let cycles: u64 = workers.iter().map(|worker| worker.cycles_without_burst()).sum();
    cycles as f64 * ns_per_cycle / frames.max(1.0)
}

/// NAPI polls on the workers' own cores. What interrupted a burst is in its cycles; what interrupted an idle turn is not,
/// and takes its time from the worker all the same.
fn kernel_share(run: &Run, frames: f64, assumptions: &mut Vec<String>, spread: &mut Spread) -> f64 {
    let Some(beside_ns) = run.kernel.beside_workers_ns else {
        assumptions.push(
            "the kernel does not receive on the workers' cores, or does so in their system calls: the run has no NAPI times"
                .to_owned(),
        );
        return 0.0;
    };
    if run.kernel.untimed_polls > 0 {
        assumptions.push(
            "threaded NAPI and busy polling outside of the workers' system calls have cores of their own: they are not timed"
                .to_owned(),
        );
    }
    let all = beside_ns as f64 / frames.max(1.0);
    let outside_bursts = all * (1.0 - run.load());
    if all > 0.0 {
        assumptions.push(format!(
            "of the {all:.0} ns of a frame that the kernel polled the director's interfaces for on the workers' own cores, \
             {outside_bursts:.0} are not in the workers' busy time yet"
        ));
    }
    *spread = spread.and(outside_bursts, all - outside_bursts);
    outside_bursts
}

/// What other sizes of frames cost more.
fn copying(run: &Run, frame_bytes: Option<f64>, assumptions: &mut Vec<String>, spread: &mut Spread) -> f64 {
    let (Some(wanted), in_run) = (frame_bytes, run.frame_bytes()) else { return 0.0 };
    let more = wanted - in_run;
    if more.abs() < 1.0 {
        return 0.0;
    }
    if run.zero_copy {
        assumptions.push(format!(
            "frames of {wanted:.0} bytes cost the core what those of the run ({in_run:.0}) cost: they are not copied"
        ));
        return 0.0;
    }
    let [least, likely, most] = COPY_NS_PER_BYTE.map(|ns| ns * more);
    assumptions.push(format!(
        "copying frames of {wanted:.0} instead of {in_run:.0} bytes costs {likely:.0} ns more ({least:.0} to {most:.0}): the \
         run had no such frames"
    ));
    *spread = spread.and((likely - least.min(most)).abs(), (least.max(most) - likely).abs());
    likely
}

/// The part of the workers' time that other threads on their cores took, over what is left. What a burst usually costs has
/// none of it.
fn interrupted(run: &Run, workers: &[&WorkerRun], assumptions: &mut Vec<String>) -> f64 {
    let single_bursts = workers.iter().flat_map(|worker| &worker.bursts).any(|class| class.each.median().is_some());
    if !single_bursts {
        assumptions.push(
            "the document has no costs of single bursts, so that interruptions of the run's bursts are part of what a burst costs"
                .to_owned(),
        );
        return 0.0;
    }
    let known: Vec<f64> =
        workers.iter().filter_map(|worker| worker.waited_ns).map(|waited_ns| waited_ns as f64).collect();
    let taken = known.iter().sum::<f64>() / (run.span_ns as f64 * known.len() as f64).max(1.0);
    if taken >= TAKEN_TO_MENTION {
        assumptions.push(format!(
            "a burst costs what one usually did (the median). In the run other threads had the workers' cores for {:.0} % of the \
             time; at full load that is between nothing and as much",
            taken * 100.0
        ));
    }
    let taken = taken.min(0.9);
    taken / (1.0 - taken)
}

fn unseen(run: &Run, assumptions: &mut Vec<String>) -> f64 {
    let load = run.load();
    if load >= FULL_LOAD {
        return UNSEEN / 2.0;
    }
    if load < MOST_LIKELY_LEAST_LOAD {
        assumptions.push(format!(
            "a load of {:.0} % tells of full load, of which it shows little: measure at a third to a half",
            load * 100.0
        ));
        return UNSEEN_OF_LITTLE_LOAD;
    }
    assumptions.push(format!(
        "what full load brings besides (colder caches, busier neighbours, other clock frequencies) is within {:.0} %",
        UNSEEN * 100.0
    ));
    UNSEEN
}
