//! Distributions of times.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
