//! The statistics document: what `pointsman stats --json`, the control socket and the statistics file give.
//!
//! Its JSON Schema is docs/stats.schema.json, its meaning docs/stats.md. Within one [`SCHEMA_VERSION`] fields are only
//! added: a reader must ignore those that it does not know. All counts but the gauges marked as such only ever grow
//! while the process lives.

mod cost;
mod cpu;
mod health;
mod identity;
mod interface;
mod latency;
mod rates;
mod service;
mod worker;

pub use cost::{Cost, SystemCallCost, SystemCallCosts};
pub use cpu::{CpuReport, CpuTimeReport, NapiReport, SoftirqMeasuredBy};
pub use health::{HealthCheckReport, HealthState};
pub use identity::{FrameIdentity, Identity, RedirectIdentity, VerdictIdentity};
pub use interface::{AttachMode, InterfaceReport, KernelRingStatistics, QueueReport, XdpCounts};
pub use latency::{CompletionBy, Latency, LatencyBucket};
pub use rates::Rate;
pub use service::{ConnectionLimitReport, ConnectionsReport, RealServerReport, StandingReport, VirtualServiceReport};
pub use worker::{BatchSize, BusyIdle, CycleBucket, Drops, Frames, WorkerReport};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::flows::FlowActivity;

/// Version of the document that this program writes. It changes when a field is removed or changes its meaning.
pub const SCHEMA_VERSION: u32 = 1;

/// Statistics of a running director.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// Version of this document's form.
    pub schema_version: u32,
    /// Version of the program.
    pub version: String,
    /// Name of the host.
    pub hostname: String,
    /// Release of its kernel.
    pub kernel: String,
    /// When the director started.
    pub started_at: Moment,
    /// When this document was made.
    pub taken_at: Moment,
    /// Time between the two on the monotonic clock, in nanoseconds.
    pub uptime_ns: u64,
    /// Number of the forwarding table that is published.
    pub generation: u64,
    /// The interfaces that the director works on.
    pub interfaces: Vec<InterfaceReport>,
    /// Frequency of the time-stamp counter that `cycles` are counted by, in a second; 0 in documents of older programs.
    #[serde(default)]
    pub cycle_hz: u64,
    /// The CPUs of workers, and those that serve the queues.
    #[serde(default)]
    pub cpus: Vec<CpuReport>,
    /// What the time in softirqs is known by.
    #[serde(default)]
    pub softirq_measured_by: SoftirqMeasuredBy,
    /// The worker threads.
    pub workers: Vec<WorkerReport>,
    /// The virtual services of the published forwarding table.
    pub virtual_services: Vec<VirtualServiceReport>,
    /// Sums over all workers.
    pub totals: Totals,
    /// Sums that agree at every quiet moment, with both sides of each.
    pub identity: Identity,
    /// What could not be read for this document, one sentence each; what it would have filled is null.
    pub errors: Vec<String>,
}

/// A moment on two clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Moment {
    /// Nanoseconds since 1970-01-01 00:00 UTC.
    pub unix_ns: u64,
    /// Nanoseconds of CLOCK_MONOTONIC.
    pub monotonic_ns: u64,
}

/// Frames and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Traffic {
    /// Number of frames.
    pub packets: u64,
    /// Bytes of these, from the destination MAC to the end of the frame.
    pub bytes: u64,
}

/// Sums over all workers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Totals {
    /// Frames taken from RX rings.
    pub received: Traffic,
    /// Frames submitted to TX rings.
    pub tx: Traffic,
    /// Frames dropped, by cause.
    pub drops: Drops,
    /// Bytes of the frames dropped.
    pub drop_bytes: u64,
    /// Frames sent that had no valid stamp.
    pub unstamped: u64,
    /// What the flow tables did.
    pub flows: FlowActivity,
    /// Time from the XDP hook to the TX ring.
    pub latency: Latency,
    /// Of it, time from the XDP hook until a worker read the burst.
    pub queueing: Latency,
    /// Time from the reading of the burst to the TX ring, also of frames without a stamp.
    pub processing: Latency,
    /// Time from the TX ring until the worker saw that the frame was sent.
    pub completion: Latency,
    /// How fast that goes, over each window that has been filled.
    #[serde(default)]
    pub rates: Vec<Rate>,
}
