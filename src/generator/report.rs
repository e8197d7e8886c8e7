//! The documents of the generator and the sink: what `pointsman gen --json` and `pointsman sink --json` print.
//!
//! Their JSON Schema is docs/generator.schema.json, their meaning docs/generator.md. They follow the rules of the
//! statistics document ([`crate::stats::report`]) and share its parts.

use std::fs;

use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::stats::report::{AttachMode, KernelRingStatistics, Latency, Moment, Traffic};
use crate::wire::MacAddress;

/// Version of the documents that this program writes. It changes when a field is removed or changes its meaning.
pub const SCHEMA_VERSION: u32 = 1;

/// A document of either.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Document {
    /// What a generator sent.
    Generator(GeneratorReport),
    /// What a sink received.
    Sink(SinkReport),
}

/// Who ran, where and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// Version of this document's form.
    pub schema_version: u32,
    /// Version of the program.
    pub version: String,
    /// Name of the host.
    pub hostname: String,
    /// Release of its kernel.
    pub kernel: String,
    /// When sending began, or the sink was ready.
    pub started_at: Moment,
    /// When this document was made.
    pub taken_at: Moment,
}

impl Run {
    /// One that began then and ends now.
    pub(super) fn since(started_at: Moment) -> Self {
        let name = |path| fs::read_to_string(path).map(|text| text.trim_end().to_owned()).unwrap_or_default();
        Self {
            schema_version: SCHEMA_VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            hostname: name("/proc/sys/kernel/hostname"),
            kernel: name("/proc/sys/kernel/osrelease"),
            started_at,
            taken_at: Moment::now(),
        }
    }
}

/// What a generator sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GeneratorReport {
    /// Who ran, where and when.
    #[serde(flatten)]
    pub run: Run,
    /// The interface that frames left by.
    pub interface: String,
    /// The MAC address that they were sent to.
    #[schemars(with = "String")]
    pub destination_mac: MacAddress,
    /// Number of virtual services.
    pub virtual_services: usize,
    /// The first of them, as `udp 192.168.88.15:80`.
    pub first_virtual_service: String,
    /// Number of flows.
    pub flows: u32,
    /// In which order flows took their turns: `sequential`, `shuffled` or `zipf:` with its exponent.
    pub flow_order: String,
    /// Sizes of frames, the smallest first.
    pub frame_sizes: Vec<FrameSize>,
    /// Most frames that were sent at once.
    pub burst: usize,
    /// Frames in a second that were asked for; null for as many as can be.
    pub wanted_pps: Option<f64>,
    /// Time from the first frame to the last, in nanoseconds.
    pub duration_ns: u64,
    /// Frames submitted to TX rings.
    pub sent: Traffic,
    /// Those of `sent` that the kernel had not handed back when the generator ended.
    pub unsent: u64,
    /// Frames in a second over `duration_ns`; null if it is 0.
    pub sent_pps: Option<f64>,
    /// Bits in a second over `duration_ns`, of frames without preamble and check sequence; null if it is 0.
    pub sent_bits_per_s: Option<f64>,
    /// The most that a frame was made behind the time that it was due, in nanoseconds; 0 where no rate was asked for.
    pub most_behind_ns: u64,
    /// Frames that the interface dropped meanwhile, of anybody (`tx_dropped` of the kernel); null if that is not known.
    pub interface_tx_dropped: Option<u64>,
    /// The threads that sent.
    pub threads: Vec<GeneratorThread>,
    /// What was not as asked for, one sentence each.
    pub warnings: Vec<String>,
}

/// One size of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FrameSize {
    /// Bytes from the destination MAC to the end of the frame.
    pub bytes: usize,
    /// Frames of this size in each cycle.
    pub parts: usize,
}

/// One thread of a generator, which is one stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GeneratorThread {
    /// Number of its stream, which is in each of its frames.
    pub stream: u8,
    /// The queue that it sends by.
    pub queue: u32,
    /// The CPU that it is pinned to; null if to none.
    pub core: Option<usize>,
    /// Whether frames are shared with the driver (zero copy) or copied by the kernel.
    pub zero_copy: bool,
    /// Frames submitted to its TX ring.
    pub sent: Traffic,
    /// System calls that asked the kernel to send.
    pub tx_kicks: u64,
    /// Those of `tx_kicks` that the kernel refused: no memory, or the link was down.
    pub tx_kick_errors: u64,
    /// Turns in which frames were due and none could be had, for all were with the kernel.
    pub turns_without_frames: u64,
    /// The most that a frame was made behind the time that it was due, in nanoseconds; 0 where no rate was asked for.
    pub most_behind_ns: u64,
}

/// What a sink received.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SinkReport {
    /// Who ran, where and when.
    #[serde(flatten)]
    pub run: Run,
    /// The interfaces that it listened on.
    pub interfaces: Vec<SinkInterface>,
    /// Time from the first burst of frames to the last, in nanoseconds.
    pub duration_ns: u64,
    /// Frames in a second over `duration_ns`; null if it is 0.
    pub received_pps: Option<f64>,
    /// Bits in a second over `duration_ns`, of frames without preamble and check sequence; null if it is 0.
    pub received_bits_per_s: Option<f64>,
    /// Whether nothing is wrong with what was received: nothing lost, twice, late, out of order, damaged, foreign, before
    /// its time, at a wrong address or at another real server than before, and no flow was without room.
    pub sound: bool,
    /// What was found.
    #[serde(flatten)]
    pub verdicts: Verdicts,
    /// Frames whose arrival was timed by the sink's own clock, for they carry no stamp of its XDP program.
    pub unstamped: u64,
    /// Time from the making of a frame in the generator to the sink's XDP program, of frames of one host's clock.
    pub latency: Latency,
    /// The streams that came, by number.
    pub streams: Vec<StreamReport>,
    /// The real servers that were listed, and other addresses that frames came for.
    pub real_servers: Vec<RealServerReport>,
    /// Bytes for each flow that is remembered.
    pub bytes_per_flow: usize,
    /// Bytes that the flows which came take.
    pub flow_bytes: u64,
    /// What was not as asked for, or could not be read, one sentence each.
    pub warnings: Vec<String>,
}

/// What a sink found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verdicts {
    /// Whole frames of a generator.
    pub received: Traffic,
    /// Flows that they belong to.
    pub flows: u64,
    /// Frames that are missing before the newest one of their stream, from number 0 on. A damaged one is missing, too.
    pub lost: u64,
    /// Frames that had come before.
    pub duplicates: u64,
    /// Frames that came behind a later one of their flow.
    pub reordered: u64,
    /// Frames that came more than 64 frames behind the newest one of their flow, so that nobody knows whether they had come
    /// before. They count as not lost.
    pub late: u64,
    /// The most frames that a frame came behind the newest one of its flow.
    pub furthest_behind: u64,
    /// Frames with a mark whose lengths or checksums are wrong.
    pub corrupted: u64,
    /// Frames that the XDP program took for a generator's and that are none.
    pub foreign: u64,
    /// Frames for a MAC address that is not listed; 0 where none is listed.
    pub wrong_mac: u64,
    /// Times that a flow came for another MAC address than its frame before.
    pub affinity_breaks: u64,
    /// Frames of flows that there was no room for: of these order, duplicates and affinity are not known.
    pub untracked: u64,
    /// Frames that arrived before they were made, by the clocks: those of two hosts do not agree.
    pub before_sent: u64,
}

impl Verdicts {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        let Self { received, flows, furthest_behind: _, .. } = *self;
        *self == Self { received, flows, ..Self::default() }
    }
}

/// An interface of a sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SinkInterface {
    /// Its name.
    pub name: String,
    /// How the XDP program is attached.
    pub mode: AttachMode,
    /// Frames that the XDP program redirected, or tried to; null if that could not be read.
    pub redirected: Option<u64>,
    /// Frames of a generator on queues without a socket, which went to the kernel; null if that could not be read.
    pub no_socket: Option<u64>,
    /// Its queues that have a socket.
    pub queues: Vec<SinkQueue>,
}

/// A queue of a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SinkQueue {
    /// Number of the queue.
    pub queue: u32,
    /// Whether frames are shared with the driver (zero copy) or copied by the kernel.
    pub zero_copy: bool,
    /// Frames taken from the RX ring.
    pub rx: Traffic,
    /// What the kernel counted on the socket; null if it could not be read.
    pub ring_statistics: Option<KernelRingStatistics>,
}

/// A stream as a sink saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StreamReport {
    /// Its number.
    pub stream: usize,
    /// Whole frames of it.
    pub received_packets: u64,
    /// The highest number of a frame, counted from 0.
    pub highest_sequence: u64,
    /// Frames that are missing before that one.
    pub lost: u64,
    /// Flows of it.
    pub flows: u64,
}

/// A real server as a sink saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RealServerReport {
    /// Its MAC address.
    #[schemars(with = "String")]
    pub mac: MacAddress,
    /// Its name; null if it was not listed.
    pub name: Option<String>,
    /// Whether it was listed.
    pub listed: bool,
    /// Frames for it.
    pub received: Traffic,
    /// Times that a flow came to it: once for each of its flows, and once more when one comes back.
    pub flows: u64,
}

/// The JSON Schema (draft 2020-12) of [`Document`], which docs/generator.schema.json holds.
pub fn schema() -> Schema {
    let mut schema = schemars::schema_for!(Document);
    schema.insert("title".to_owned(), json!("Documents of pointsman's generator and sink"));
    pin_version(schema.as_object_mut().map(|members| members.values_mut()).into_iter().flatten());
    schema
}

/// Wherever the property is, it can have this version only.
fn pin_version<'a>(values: impl Iterator<Item = &'a mut Value>) {
    for value in values {
        match value {
            Value::Object(members) => {
                if let Some(Value::Object(version)) = members.get_mut("schema_version") {
                    version.insert("const".to_owned(), json!(SCHEMA_VERSION));
                }
                pin_version(members.values_mut());
            }
            Value::Array(items) => pin_version(items.iter_mut()),
            _ => {}
        }
    }
}
