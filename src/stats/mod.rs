//! Statistics: what workers count, and how it is read, merged and exported.

pub mod collect;
pub mod cpu;
pub mod flows;
mod identity;
pub mod report;
pub mod sampler;
mod schema;
mod summary;

pub use schema::schema;
