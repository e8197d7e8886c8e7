//! Workers: what they had to do, and what became of their frames.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CompletionBy, Cost, CpuTimeReport, Latency, Rate, Traffic};
use crate::stats::flows::{FlowActivity, FlowTableReport};

/// One worker thread, over all its queues.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerReport {
    /// Its number.
    pub worker: usize,
    /// The CPU that it is pinned to; null if to none.
    pub core: Option<usize>,
    /// Time-stamp counter cycles by whether the loop found work.
    pub cycles: BusyIdle,
    /// The same cycles by what was done in them.
    pub cost: Cost,
    /// Turns of the loop by whether they found work.
    pub turns: BusyIdle,
    /// What its thread used; null if the kernel does not say.
    #[serde(default)]
    pub cpu_time: Option<CpuTimeReport>,
    /// Times it went to sleep in `poll`.
    pub sleeps: u64,
    /// Frames taken from its RX rings.
    pub received: Traffic,
    /// Frames submitted to its TX rings.
    pub tx: Traffic,
    /// Frames dropped, by cause.
    pub drops: Drops,
    /// Bytes of the frames dropped.
    pub drop_bytes: u64,
    /// Bursts by their number of frames.
    pub batch_sizes: Vec<BatchSize>,
    /// Frames sent that had no valid stamp, whose latency is unknown: `latency.count` + `unstamped` = `tx.packets`.
    pub unstamped: u64,
    /// What its flow tables did.
    pub flows: FlowActivity,
    /// Where it remembers flows.
    pub flow_table: FlowTableReport,
    /// Number of the forwarding table that its newest burst went by.
    pub table_generation: u64,
    /// Where its frames are.
    pub frames: Frames,
    /// Time from the XDP hook to the TX ring.
    pub latency: Latency,
    /// Of it, time from the XDP hook until the worker read the burst: in the kernel, in the RX ring, behind other bursts.
    pub queueing: Latency,
    /// Time from the reading of the burst to the TX ring, of all frames sent, also of those without a stamp.
    pub processing: Latency,
    /// Time from the TX ring until the worker saw that the frame was sent: an upper bound of when it was.
    pub completion: Latency,
    /// What `completion` ends with.
    pub completion_by: CompletionBy,
    /// How fast that goes, over each window that has been filled.
    #[serde(default)]
    pub rates: Vec<Rate>,
}

/// What was spent with and without work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BusyIdle {
    /// Found frames or completions.
    pub busy: u64,
    /// Found nothing; sleep counts as this.
    pub idle: u64,
}

/// Frames dropped, by the name of the cause ([`DropReason::name`](crate::verdict::DropReason::name)). Every cause that
/// the program knows is present.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Drops(pub BTreeMap<String, u64>);

impl Drops {
    /// Frames dropped for any cause.
    pub fn total(&self) -> u64 {
        self.0.values().fold(0, |sum, count| sum.wrapping_add(*count))
    }
}

/// How many bursts had between `from` and `to` frames.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BatchSize {
    /// Fewest frames.
    pub from: u64,
    /// Most frames, inclusive; null for no limit.
    pub to: Option<u64>,
    /// Number of bursts.
    pub count: u64,
    /// Frames in them.
    pub packets: u64,
    /// Cycles of the turns that handled them, system calls included.
    pub cycles: u64,
    /// Those of `cycles` in system calls.
    pub system_call_cycles: u64,
    /// How many bursts took how many cycles; buckets without one are left out.
    #[serde(default)]
    pub cycles_of_bursts: Vec<CycleBucket>,
}

/// Bursts that took between `from_cycles` and `to_cycles`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CycleBucket {
    /// Fewest cycles.
    pub from_cycles: u64,
    /// Most cycles, inclusive; null for no limit.
    pub to_cycles: Option<u64>,
    /// Number of bursts.
    pub count: u64,
}

impl CycleBucket {
    /// From fewest and most cycles, and the number of bursts.
    pub(crate) fn of((from_cycles, to_cycles, count): (u64, u64, u64)) -> Self {
        Self { from_cycles, to_cycles: (to_cycles < u64::MAX).then_some(to_cycles), count }
    }
}

/// Where the frames of a worker's memory are (gauges).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Frames {
    /// All of them; constant.
    pub total: u64,
    /// With the kernel for reception: submitted to fill rings, not yet received.
    pub fill: u64,
    /// Free, in the worker's hands.
    pub held: u64,
    /// With the kernel for sending: submitted to TX rings, not yet completed.
    pub tx: u64,
    /// Descriptors that were ignored, because the kernel gave a frame back twice or gave one that it never got. Not a part
    /// of `total`: the frame is where it was.
    pub quarantined: u64,
}
