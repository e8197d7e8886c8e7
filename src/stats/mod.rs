//! Statistics: what workers count, and how it is read, merged and exported.

pub mod counters;
pub mod latency;
