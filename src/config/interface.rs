//! Settings of one interface.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::wire::MacAddress;

/// The largest CPU number that `cores` takes.
pub const MAX_CORE: usize = 1023;

/// The largest queue number that `queues` takes.
pub const MAX_QUEUE: u32 = 1023;

/// The most `virtual_macs` of one interface: with its own address they fill the XDP program's eight places.
pub const MAX_VIRTUAL_MACS: usize = 7;

/// One interface that the director receives from or sends out of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InterfaceConfig {
    /// Kernel name, 15 bytes at most.
    pub name: String,
    /// Receive queues that get a socket.
    pub queues: Queues,
    /// CPUs that the workers are pinned to, without repetition; empty = automatic.
    pub cores: Vec<usize>,
    /// Whether frames are received here; `false` = the interface only sends.
    pub receive: bool,
    /// How the XDP program is attached.
    pub mode: AttachMode,
    /// Whether the driver and the sockets share the frames.
    pub copy: CopyMode,
    /// What a worker does while there is nothing to do.
    pub poll: PollMode,
    /// [`PollMode::Adaptive`]: how long a worker spins on idle rings before it sleeps.
    #[serde(rename = "idle_spin_us", serialize_with = "as_us")]
    pub idle_spin: Duration,
    /// The kernel's preferred busy polling; `None` = off.
    pub busy_poll: Option<BusyPoll>,
    /// RX ring size in descriptors; a power of two, like the three below.
    pub rx_ring: u32,
    /// TX ring size in descriptors.
    pub tx_ring: u32,
    /// Fill ring size in frames.
    pub fill_ring: u32,
    /// Completion ring size in frames.
    pub completion_ring: u32,
    /// Frames of UMEM per queue; `None` = `fill_ring + tx_ring`.
    pub frames: Option<u32>,
    /// Size of one frame of UMEM.
    pub frame_size: FrameSize,
    /// Frames handled at once, 1 to 512; no ring is smaller.
    pub batch: u32,
    /// Whether the UMEM is asked for in huge pages; ordinary ones where none are reserved.
    pub huge_pages: bool,
    /// How long a full TX ring is held against before frames are dropped.
    #[serde(rename = "tx_hold_us", serialize_with = "as_us")]
    pub tx_hold: Duration,
    /// Unicast MACs that are taken as the director's own besides the interface's.
    pub virtual_macs: Vec<MacAddress>,
    /// MTU in bytes that `replay` uses; a running director takes the interface's.
    pub mtu: Option<u32>,
}

impl InterfaceConfig {
    /// An interface that has nothing but a name in the file.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            queues: Queues::All,
            cores: Vec::new(),
            receive: true,
            mode: AttachMode::Auto,
            copy: CopyMode::Auto,
            poll: PollMode::Adaptive,
            idle_spin: Duration::from_micros(50),
            busy_poll: None,
            rx_ring: 2048,
            tx_ring: 2048,
            fill_ring: 2048,
            completion_ring: 2048,
            frames: None,
            frame_size: FrameSize::Auto,
            batch: 64,
            huge_pages: false,
            tx_hold: Duration::from_micros(200),
            virtual_macs: Vec::new(),
            mtu: None,
        }
    }

    /// Frames of UMEM per queue, the default filled in.
    #[must_use]
    pub fn frames_per_queue(&self) -> u32 {
        self.frames.unwrap_or_else(|| self.fill_ring.saturating_add(self.tx_ring))
    }
}

fn as_us<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).serialize(serializer)
}

/// Receive queues that get a socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Queues {
    /// All that the interface has when the director starts.
    #[default]
    All,
    /// These, at least one, without repetition.
    List(Vec<u32>),
}

impl Serialize for Queues {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_str("all"),
            Self::List(queues) => queues.serialize(serializer),
        }
    }
}

/// How the XDP program is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AttachMode {
    /// In the driver, or generic with a warning where the driver cannot.
    #[default]
    Auto,
    /// In the driver or not at all.
    Native,
    /// In the kernel's generic hook.
    Generic,
}

/// Whether the driver and the sockets share the frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CopyMode {
    /// Zero copy where the driver has it, else copy.
    #[default]
    Auto,
    /// Zero copy or not at all.
    ZeroCopy,
    /// The kernel copies each frame.
    Copy,
}

/// What a worker does while there is nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PollMode {
    /// Spins; its core is always fully used.
    Busy,
    /// Spins for a while, then sleeps in `poll()`.
    #[default]
    Adaptive,
}

/// The kernel's preferred busy polling of a socket (`SO_PREFER_BUSY_POLL` and companions).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct BusyPoll {
    /// `SO_BUSY_POLL`: how long one call polls the queue, in microseconds.
    pub timeout_us: u32,
    /// `SO_BUSY_POLL_BUDGET`: the most frames one call handles.
    pub budget: u16,
}

impl Default for BusyPoll {
    fn default() -> Self {
        Self { timeout_us: 20, budget: 64 }
    }
}

/// Size of one frame of UMEM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FrameSize {
    /// The smallest that holds the interface's MTU.
    #[default]
    Auto,
    /// 2048 bytes.
    Bytes2048,
    /// 4096 bytes.
    Bytes4096,
}

impl FrameSize {
    /// The size in bytes, unless it is to be found out.
    #[must_use]
    pub const fn bytes(self) -> Option<u32> {
        match self {
            Self::Auto => None,
            Self::Bytes2048 => Some(2048),
            Self::Bytes4096 => Some(4096),
        }
    }
}

impl Serialize for FrameSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.bytes() {
            None => serializer.serialize_str("auto"),
            Some(bytes) => bytes.serialize(serializer),
        }
    }
}
