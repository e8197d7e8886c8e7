//! What a plan reads of a statistics document. All but its frame may be missing: an older program did not write it.

use serde::Deserialize;
use std::collections::BTreeMap;

use crate::stats::report::{CycleBucket, LatencyBucket, Moment, Traffic};

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Document {
    #[serde(default)]
    pub(super) version: String,
    #[serde(default)]
    pub(super) hostname: String,
    pub(super) started_at: Moment,
    pub(super) taken_at: Moment,
    #[serde(default)]
    pub(super) cycle_hz: u64,
    #[serde(default)]
    pub(super) cpus: Vec<Cpu>,
    #[serde(default)]
    pub(super) interfaces: Vec<Interface>,
    pub(super) workers: Vec<Worker>,
    #[serde(default)]
    pub(super) virtual_services: Vec<Service>,
    pub(super) totals: Totals,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Cpu {
    pub(super) cpu: u64,
    pub(super) workers: Vec<u64>,
    pub(super) napi: Option<Vec<Napi>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Napi {
    /// Empty for all that are not the director's.
    pub(super) interface: String,
    pub(super) ns: u64,
    pub(super) untimed_polls: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) queues: Vec<Queue>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Queue {
    pub(super) queue: u64,
    pub(super) zero_copy: bool,
    pub(super) ring_statistics: Option<RingStatistics>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RingStatistics {
    pub(super) rx_dropped: u64,
    pub(super) rx_ring_full: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Worker {
    pub(super) worker: u64,
    pub(super) cycles: BusyIdle,
    #[serde(default)]
    pub(super) received: Traffic,
    #[serde(default)]
    pub(super) batch_sizes: Vec<BatchSize>,
    #[serde(default)]
    pub(super) flow_table: Option<FlowTable>,
    #[serde(default)]
    pub(super) cpu_time: Option<CpuTime>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct CpuTime {
    pub(super) runqueue_wait_ns: u64,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct BusyIdle {
    pub(super) busy: u64,
    pub(super) idle: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct BatchSize {
    pub(super) from: u64,
    pub(super) count: u64,
    /// These are missing in documents of programs that did not measure what bursts cost.
    #[serde(default)]
    pub(super) packets: u64,
    #[serde(default)]
    pub(super) cycles: u64,
    #[serde(default)]
    pub(super) system_call_cycles: u64,
    #[serde(default)]
    pub(super) cycles_of_bursts: Vec<CycleBucket>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FlowTable {
    pub(super) slots: u64,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Service {
    pub(super) connections: Connections,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Connections {
    pub(super) active: u64,
    pub(super) inactive: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Totals {
    #[serde(default)]
    pub(super) received: Traffic,
    #[serde(default)]
    pub(super) drops: BTreeMap<String, u64>,
    #[serde(default)]
    pub(super) queueing: Option<Times>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Times {
    pub(super) buckets: Vec<LatencyBucket>,
}

impl Document {
    pub(super) fn is_of_the_run_of(&self, other: &Self) -> bool {
        self.hostname == other.hostname && self.started_at == other.started_at
    }

    pub(super) fn at_ns(&self) -> u64 {
        self.taken_at.monotonic_ns
    }
}
