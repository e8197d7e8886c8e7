//! Statistics: what workers count, and how it is read, merged and exported.

pub mod collect;
pub mod cpu;
pub mod flows;
pub mod hlog;
mod identity;
pub mod merge;
pub mod prometheus;
pub mod rates;
pub mod recorded;
pub mod report;
pub mod sampler;
mod schema;
pub mod series;
mod summary;

pub use schema::schema;
pub use summary::ForeignBuckets;
pub(crate) use summary::LatencyReading;
