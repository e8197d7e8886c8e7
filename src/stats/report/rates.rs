//! How fast things go: differences of counters over the last seconds.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Mean rates over one window of time, which ended less than about a second before the document was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rate {
    /// Nominal length of the window in seconds: 1, 10 or 60.
    pub over_s: u32,
    /// Its true length in nanoseconds, by which the rates are made.
    pub span_ns: u64,
    /// Frames received in a second; absent for services and real servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_pps: Option<f64>,
    /// Bits of these in a second, from the destination MAC to the end of the frame; absent for services and real servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_bps: Option<f64>,
    /// Frames submitted to a TX ring in a second.
    pub tx_pps: f64,
    /// Bits of these in a second.
    pub tx_bps: f64,
    /// Frames dropped in a second, for any cause.
    pub dropped_pps: f64,
    /// Flows that began in a second: of workers and totals `flows.new`, else `connections.begun`.
    pub new_flows_per_s: f64,
}
