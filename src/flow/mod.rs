//! Which real server a flow was given: a bounded table for each worker, that keeps established flows where they are
//! when the set of real servers changes.
//!
//! One thread writes a table, any number may read it, without locks: an ICMP error or a fragment of a flow may arrive at
//! another worker than the flow itself.

mod entry;
mod memory;
mod table;
mod worker_flows;

pub use entry::{FlowKey, FlowRecord, FlowState, MAX_LIFE_S};
pub use table::{
    Change, FlowCounts, FlowReader, FlowTable, Found, Gone, Inserted, Likely, MemoryKind, Room, connection_kind,
};
pub use worker_flows::{PeerFlows, WorkerFlows};
