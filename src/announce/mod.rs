//! Answers for VIPs that are no addresses of this machine (`announce = "arp"`): ARP requests, neighbour solicitations
//! and pings; and tells the segment when a VIP comes here.
//!
//! One thread with packet sockets of its own, far from any worker. The kernel passes it what the XDP program passes to
//! the kernel, and has no say for a VIP: it is not its address. All that is set up goes with the process, also by
//! `kill -9`. [`answer`] judges frames, `schedule` knows when to tell the segment, `segment` is one interface,
//! [`Announcer`] the thread. docs/announce.md is for operators.

pub mod answer;
mod rate;
mod schedule;
mod segment;
mod state;
mod thread;

pub use segment::Place;
pub use state::{AnnounceError, Announcements, Conflict, Order, Role, VipStatus};
pub use thread::Announcer;
