//! The statistics document: what `pointsman stats --json`, the control socket and the statistics file give.
//!
//! Its JSON Schema is docs/stats.schema.json, its meaning docs/stats.md. Within one [`SCHEMA_VERSION`] fields are only
//! added: a reader must ignore those that it does not know. All counts but the gauges marked as such only ever grow
//! while the process lives.

use std::collections::BTreeMap;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::flows::{FlowActivity, FlowTableReport};
use crate::counters::connections::ConnectionCounts;
use crate::service::Protocol;
use crate::wire::MacAddress;

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

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InterfaceReport {
    /// Its name.
    pub name: String,
    /// How the XDP program is attached.
    pub mode: AttachMode,
    /// What the XDP program counted; null if it could not be read.
    pub xdp: Option<XdpCounts>,
    /// Redirects that failed and that no socket counted: one that is not bound, or bound to another queue. Null if this
    /// kernel lets nobody measure it.
    pub redirect_errors: Option<u64>,
    /// Its queues that have a socket.
    pub queues: Vec<QueueReport>,
}

/// How an XDP program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AttachMode {
    /// In the driver.
    Native,
    /// In the kernel's network core, behind the driver.
    Generic,
}

impl AttachMode {
    /// `native` or `generic`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

/// Frames by what the XDP program did with them. All but `unstamped` are disjoint; their sum is what the program saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct XdpCounts {
    /// Attempts to redirect to an AF_XDP socket.
    pub redirected: u64,
    /// Passed to the kernel: not for a virtual service.
    pub passed: u64,
    /// Passed to the kernel: sent to another MAC address.
    pub not_our_mac: u64,
    /// Passed to the kernel: a header is cut short or contradicts itself.
    pub malformed: u64,
    /// For a virtual service, but the queue has no socket; dropped or passed as configured.
    pub no_socket: u64,
    /// Those of `redirected` that carry no stamp of the time of their reception.
    pub unstamped: u64,
}

/// One queue of one interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QueueReport {
    /// Number of the queue.
    pub queue: u32,
    /// Number of the worker that owns it.
    pub worker: usize,
    /// Whether frames are shared with the driver (zero copy) or copied by the kernel.
    pub zero_copy: bool,
    /// Frames taken from the RX ring.
    pub rx: Traffic,
    /// Descriptors of the RX ring that were ignored, because the kernel did not have that frame.
    pub rx_refused: u64,
    /// Frames submitted to the TX ring.
    pub tx: Traffic,
    /// Frames that the kernel handed back after sending.
    pub tx_completed: u64,
    /// Frames handed to the fill ring.
    pub fill_submitted: u64,
    /// System calls that asked the kernel to send.
    pub tx_kicks: u64,
    /// Those of `tx_kicks` that the kernel refused: no memory, or the link was down.
    pub tx_kick_errors: u64,
    /// System calls that asked the kernel to receive.
    pub rx_kicks: u64,
    /// What the kernel counted on the socket; null if it could not be read.
    pub ring_statistics: Option<KernelRingStatistics>,
}

/// What the kernel counts on an AF_XDP socket (`struct xdp_statistics`, socket option `XDP_STATISTICS`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KernelRingStatistics {
    /// Redirected frames dropped for want of a frame in the fill ring (copy mode), or as too long for one.
    pub rx_dropped: u64,
    /// Descriptors of the fill ring that were invalid.
    pub rx_invalid_descs: u64,
    /// Descriptors of the TX ring that were invalid.
    pub tx_invalid_descs: u64,
    /// Redirected frames dropped because the RX ring was full.
    pub rx_ring_full: u64,
    /// Times the fill ring was found empty. In copy mode each is in `rx_dropped` too: do not add the two.
    pub rx_fill_ring_empty_descs: u64,
    /// Times the TX ring was found empty.
    pub tx_ring_empty_descs: u64,
}

/// One worker thread, over all its queues.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerReport {
    /// Its number.
    pub worker: usize,
    /// The CPU that it is pinned to; null if to none.
    pub core: Option<usize>,
    /// Time-stamp counter cycles by whether the loop found work.
    pub cycles: BusyIdle,
    /// Turns of the loop by whether they found work.
    pub turns: BusyIdle,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BatchSize {
    /// Fewest frames.
    pub from: u64,
    /// Most frames, inclusive; null for no limit.
    pub to: Option<u64>,
    /// Number of bursts.
    pub count: u64,
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

/// Distribution of the time from the XDP hook to the submission to the TX ring, of stamped frames that were sent.
/// Statistics of no value at all are null.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Latency {
    /// Always `ns`.
    pub unit: String,
    /// Significant decimal digits of percentiles and buckets.
    pub significant_digits: u8,
    /// Number of values.
    pub count: u64,
    /// Smallest value, exact.
    pub min: Option<u64>,
    /// Mean, exact.
    pub mean: Option<f64>,
    /// Median.
    pub p50: Option<u64>,
    /// 90th percentile.
    pub p90: Option<u64>,
    /// 99th percentile.
    pub p99: Option<u64>,
    /// 99.9th percentile.
    pub p99_9: Option<u64>,
    /// 99.99th percentile.
    pub p99_99: Option<u64>,
    /// Largest value, exact.
    pub max: Option<u64>,
    /// The buckets that have values, from the lowest up.
    pub buckets: Vec<LatencyBucket>,
}

/// Values of one bucket of a latency histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LatencyBucket {
    /// Lowest value that belongs here, in nanoseconds.
    pub from_ns: u64,
    /// Highest value that belongs here, inclusive, in nanoseconds.
    pub to_ns: u64,
    /// Number of values.
    pub count: u64,
}

/// One virtual service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VirtualServiceReport {
    /// Its name, as `tcp 192.168.88.15:80`.
    pub service: String,
    /// Its address.
    pub vip: IpAddr,
    /// Its port; 0 is any.
    pub port: u16,
    /// Its protocol.
    #[schemars(with = "String", extend("enum" = ["tcp", "udp"]))]
    pub protocol: Protocol,
    /// What chooses real servers: `mh`, `sh`, `rr`, `wrr`, `lc` or `wlc`.
    pub scheduler: String,
    /// What flows are hashed by: `flow` (protocol, addresses and ports) or `client` (the client's address).
    pub hash_by: String,
    /// Slots of its hash table; 0 if no real server has a weight.
    pub table_size: usize,
    /// Seconds for which a client stays at its real server; null if it need not.
    pub persistence_timeout_s: Option<u32>,
    /// Its connections.
    pub connections: ConnectionsReport,
    /// Its frames submitted to a TX ring.
    pub tx: Traffic,
    /// Its frames dropped, by cause.
    pub drops: Drops,
    /// Bytes of the frames dropped.
    pub drop_bytes: u64,
    /// Whether as much weight of its real servers takes new flows as its quorum asks for (gauge).
    pub has_quorum: bool,
    /// Its real servers; the fallback server, if there is one, is the last.
    pub real_servers: Vec<RealServerReport>,
}

/// Entries of flow tables, as of some recent moment. One that has expired counts until a sweep finds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConnectionsReport {
    /// Established flows.
    pub active: u64,
    /// Flows of which one packet was seen, or that their clients have ended.
    pub inactive: u64,
    /// Clients that stay at their real servers.
    pub persistent: u64,
    /// Flows that began. This only grows. One that comes to another worker begins there once more.
    pub begun: u64,
}

impl ConnectionsReport {
    /// Of a real server.
    #[must_use]
    pub fn of(counts: ConnectionCounts) -> Self {
        let ConnectionCounts { active, inactive, persistent, begun } = counts;
        Self { active, inactive, persistent, begun }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            active: self.active + other.active,
            inactive: self.inactive + other.inactive,
            persistent: self.persistent + other.persistent,
            begun: self.begun.wrapping_add(other.begun),
        }
    }
}

/// One real server of one virtual service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RealServerReport {
    /// Its address (RIP).
    pub address: IpAddr,
    /// Its share of new flows relative to the others; 0 while it drains or is inhibited.
    pub weight: u32,
    /// Whether frames can be sent to it.
    pub alive: bool,
    /// Whether it takes new flows only while no other does, or while they are below their quorum.
    pub fallback: bool,
    /// What its health checks mean for it.
    pub standing: StandingReport,
    /// Its health checks.
    pub health_checks: Vec<HealthCheckReport>,
    /// How many connections it is given; null for no limit.
    pub connection_limit: Option<ConnectionLimitReport>,
    /// The MAC address that its frames are sent to; null while it is unknown.
    #[schemars(with = "Option<String>")]
    pub next_hop: Option<MacAddress>,
    /// The interface that its frames leave by; null while that is unknown.
    pub egress: Option<String>,
    /// Slots of the service's hash table that are its own.
    pub share_slots: u32,
    /// Its connections.
    pub connections: ConnectionsReport,
    /// Its frames submitted to a TX ring.
    pub tx: Traffic,
    /// Its frames dropped, by cause.
    pub drops: Drops,
    /// Bytes of the frames dropped.
    pub drop_bytes: u64,
}

/// How many connections a real server is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConnectionLimitReport {
    /// With so many it gets no new flow.
    pub upper: u32,
    /// It gets new flows again below so many; null for three quarters of `upper`.
    pub lower: Option<u32>,
    /// Whether a worker passed over it because it has as many (gauge).
    pub full: bool,
}

/// What health checks mean for a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StandingReport {
    /// All checks are up, or there is none.
    Sound,
    /// A check is down: it keeps its flows and gets no new one.
    Inhibited,
    /// A check is down: no frame is sent to it.
    Failed,
}

/// Whether a check is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HealthState {
    /// As many answers in a row as it takes were good.
    Up,
    /// As many answers in a row as it takes were bad.
    Down,
}

impl HealthState {
    /// `up` or `down`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// One health check of one real server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HealthCheckReport {
    /// What is asked: `tcp`, `http`, `https`, `udp`, `icmp` or `command`.
    pub kind: String,
    /// Which way: `address` (the real server's own) or `direct` (the VIP, by the real server's MAC address).
    pub via: String,
    /// The port that is asked; 0 for kinds that have none.
    pub port: u16,
    /// Whether it is up.
    pub state: HealthState,
    /// Since when, in nanoseconds since 1970-01-01 00:00 UTC.
    pub since_unix_ns: u64,
    /// The last answer in words; null before the first.
    pub last_result: Option<String>,
    /// Whether that was a good one; null before the first.
    pub last_good: Option<bool>,
    /// When it was there, in nanoseconds since 1970-01-01 00:00 UTC; null before the first.
    pub last_unix_ns: Option<u64>,
    /// How long it took, in nanoseconds; null before the first.
    pub last_took_ns: Option<u64>,
    /// Answers, good and bad, since the check was configured.
    pub checks: u64,
    /// Those of `checks` that were bad.
    pub failures: u64,
    /// Times that it went down.
    pub flaps: u64,
    /// Good answers in a row that it takes to be up (gauge): more than the configured `rise` while it is damped.
    pub needed_rise: u32,
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
}

/// Sums that agree at every quiet moment. The counters are read one after the other, what is counted last first, so
/// under load each difference is the few frames that were on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Identity {
    /// What the XDP program redirected came to a worker, or the kernel says why not.
    pub redirects: RedirectIdentity,
    /// Every frame that a worker received has a verdict.
    pub verdicts: VerdictIdentity,
    /// Every frame of the workers' memory is in one place.
    pub frames: FrameIdentity,
}

/// redirected = rx_packets + rx_refused + rx_dropped + rx_ring_full + redirect_errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RedirectIdentity {
    /// Redirects that the XDP programs attempted; null if one could not be read.
    pub redirected: Option<u64>,
    /// Frames taken from all RX rings.
    pub rx_packets: u64,
    /// Descriptors of RX rings that were ignored: other than 0 only by a fault of the kernel or the driver.
    pub rx_refused: u64,
    /// Sum of `rx_dropped` of all sockets; null if one could not be read.
    pub rx_dropped: Option<u64>,
    /// Sum of `rx_ring_full` of all sockets; null if one could not be read.
    pub rx_ring_full: Option<u64>,
    /// Sum of `redirect_errors` of all interfaces; null if one cannot be measured, which counts as 0 here.
    pub redirect_errors: Option<u64>,
    /// Left side less right side; null if a side could not be read.
    pub difference: Option<i64>,
    /// Whether both sides are equal; null if a side could not be read.
    pub holds: Option<bool>,
}

/// received = tx + dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VerdictIdentity {
    /// Frames taken from all RX rings.
    pub received: u64,
    /// Frames with the verdict Tx.
    pub tx: u64,
    /// Frames with the verdict Drop, for any cause.
    pub dropped: u64,
    /// Left side less right side.
    pub difference: i64,
    /// Whether both sides are equal.
    pub holds: bool,
}

/// total = fill + held + tx, over all workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FrameIdentity {
    /// Frames in the workers' memory.
    pub total: u64,
    /// Those whose place is known.
    pub accounted: u64,
    /// Left side less right side.
    pub difference: i64,
    /// Whether both sides are equal.
    pub holds: bool,
}
