//! What a report reads of a statistics document.
//!
//! All but the frame of a document may be missing: an older program did not write it, a later one has dropped it.
//! What is missing is said in the report.

use serde::Deserialize;
use std::collections::BTreeMap;

use crate::stats::report::{Moment, Traffic};

/// A statistics document, as much of it as a report needs.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Document {
    pub(crate) schema_version: u64,
    #[serde(default)]
    pub(crate) version: String,
    #[serde(default)]
    pub(crate) hostname: String,
    #[serde(default)]
    pub(crate) kernel: String,
    pub(crate) started_at: Moment,
    pub(crate) taken_at: Moment,
    /// Missing before cycles could be told in nanoseconds; 0 where the frequency could not be measured.
    #[serde(default)]
    pub(crate) cycle_hz: Option<u64>,
    #[serde(default)]
    pub(crate) cpus: Option<Vec<Cpu>>,
    #[serde(default)]
    pub(crate) softirq_measured_by: Option<String>,
    #[serde(default)]
    pub(crate) interfaces: Vec<Interface>,
    pub(crate) workers: Vec<Worker>,
    #[serde(default)]
    pub(crate) virtual_services: Vec<Service>,
    pub(crate) totals: Totals,
    #[serde(default)]
    pub(crate) errors: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) mode: String,
    pub(crate) xdp: Option<Xdp>,
    pub(crate) redirect_errors: Option<u64>,
    pub(crate) queues: Vec<Queue>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Xdp {
    pub(crate) no_socket: u64,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Queue {
    pub(crate) zero_copy: bool,
    pub(crate) ring_statistics: Option<RingStatistics>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RingStatistics {
    pub(crate) rx_dropped: u64,
    pub(crate) rx_ring_full: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Worker {
    pub(crate) worker: u64,
    #[serde(default)]
    pub(crate) core: Option<u64>,
    pub(crate) cycles: BusyIdle,
    #[serde(default)]
    pub(crate) cost: Option<Cost>,
    #[serde(default)]
    pub(crate) received: Traffic,
    #[serde(default)]
    pub(crate) tx: Traffic,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) struct BusyIdle {
    pub(crate) busy: u64,
    pub(crate) idle: u64,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Cost {
    pub(crate) receive: u64,
    pub(crate) forward: u64,
    pub(crate) send: u64,
    pub(crate) complete: u64,
    pub(crate) refill: u64,
    pub(crate) other: u64,
    pub(crate) idle: u64,
    pub(crate) system_calls: SystemCalls,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct SystemCalls {
    pub(crate) sendto: SystemCall,
    pub(crate) recvfrom: SystemCall,
    pub(crate) poll: SystemCall,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct SystemCall {
    pub(crate) calls: u64,
    pub(crate) cycles: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Cpu {
    pub(crate) cpu: u64,
    pub(crate) user_ns: u64,
    pub(crate) nice_ns: u64,
    pub(crate) system_ns: u64,
    pub(crate) idle_ns: u64,
    pub(crate) iowait_ns: u64,
    pub(crate) irq_ns: u64,
    pub(crate) softirq_ns: u64,
    pub(crate) steal_ns: u64,
    pub(crate) napi: Option<Vec<Napi>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Napi {
    /// Empty for all that are not the director's.
    pub(crate) interface: String,
    pub(crate) ns: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Service {
    pub(crate) service: String,
    #[serde(default)]
    pub(crate) scheduler: String,
    #[serde(default)]
    pub(crate) real_servers: Vec<RealServer>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct RealServer {
    pub(crate) address: String,
    #[serde(default)]
    pub(crate) weight: u64,
    #[serde(default)]
    pub(crate) fallback: bool,
    #[serde(default)]
    pub(crate) connections: Option<Connections>,
    #[serde(default)]
    pub(crate) tx: Traffic,
    #[serde(default)]
    pub(crate) drops: BTreeMap<String, u64>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Connections {
    pub(crate) begun: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Totals {
    #[serde(default)]
    pub(crate) received: Traffic,
    #[serde(default)]
    pub(crate) tx: Traffic,
    #[serde(default)]
    pub(crate) drops: BTreeMap<String, u64>,
    #[serde(default)]
    pub(crate) unstamped: u64,
    #[serde(default)]
    pub(crate) latency: Option<Latency>,
    #[serde(default)]
    pub(crate) queueing: Option<Latency>,
    #[serde(default)]
    pub(crate) processing: Option<Latency>,
    #[serde(default)]
    pub(crate) completion: Option<Latency>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Latency {
    pub(crate) count: u64,
    pub(crate) min: Option<u64>,
    pub(crate) mean: Option<f64>,
    pub(crate) max: Option<u64>,
    pub(crate) buckets: Vec<Bucket>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct Bucket {
    pub(crate) from_ns: u64,
    pub(crate) to_ns: u64,
    pub(crate) count: u64,
}

impl Document {
    /// Whether both are of the same director from one start to its end.
    pub(crate) fn is_of_the_run_of(&self, other: &Self) -> bool {
        self.hostname == other.hostname && self.started_at == other.started_at
    }

    /// When it was made, in nanoseconds of the director's monotonic clock.
    pub(crate) fn at_ns(&self) -> u64 {
        self.taken_at.monotonic_ns
    }
}
