//! Interfaces and their queues.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Traffic;

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
