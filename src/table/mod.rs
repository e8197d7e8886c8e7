//! The forwarding table: which real server a flow goes to and how its frames are rewritten.

mod availability;
mod build;
mod forwarding;
mod hash;
mod identity;
mod limit;
mod maglev;
mod moved;
mod plan;
mod publish;
mod quic;
mod scheduler;
mod services;
mod target;

pub use availability::{Quorum, Standing};
pub use forwarding::{Choice, ForwardingTable, RealServer, VirtualService};
pub use hash::{DEFAULT_SECRET, FlowHasher};
pub use identity::Identities;
pub use limit::ConnectionLimit;
pub use maglev::{DEFAULT_TABLE_SIZE, MAX_MEMBERS, Maglev, Member};
pub use moved::Moved;
pub use plan::{ClientPersistence, Egress, FlowTimeouts, HashBy, NextHop, RealServerPlan, ServicePlan, TablePlan};
pub use publish::{Pinned, Published, Reader};
pub use quic::QuicServers;
pub use scheduler::{Cursor, Load, Rota, Scheduler, Turn};
pub use services::{ServiceIndex, ServiceNumber, ServicePlace, family_of};
pub use target::Target;
