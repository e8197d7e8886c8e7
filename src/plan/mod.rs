//! Capacity: from what a director measured of itself to how many cores and machines a rate takes; and what changes of a
//! forwarding table cost. Nothing here touches a network or a running director.
//!
//! `read.rs` and `run.rs` make a [`Run`] of files, `burst_cycles.rs` says what bursts of a size usually took, `fit.rs` what one
//! costs by its size, `capacity.rs` what a core
//! can do, `sizing.rs` what is needed; `changes.rs` is about tables.

mod burst_cycles;
mod capacity;
mod changes;
mod document;
mod fit;
mod read;
mod run;
mod sizing;

pub use burst_cycles::BurstCycles;
pub use capacity::{CoreCapacity, Interval, MOST_LIKELY_LEAST_LOAD, WorkingPoint};
pub use changes::{
    Change, ChangeKind, MOST_BUILDS, ServerShare, ServiceChanges, TableFigures, TableMemory, figures_of,
};
pub use fit::{BurstPoint, Fit};
pub use read::InputError;
pub use run::{BurstClass, Kernel, Run, Stalls, WorkerRun, read_run};
pub use sizing::{Demand, Limit, LimitKind, Machines, Plan, plan};
