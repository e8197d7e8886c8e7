//! Sums that agree.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
