//! Packet headers: parsed in place, never panicking, without I/O.
//!
//! [`subject`] answers the one question that forwarding and classification ask of a frame: whose flow is it about?

pub mod arp;
pub(crate) mod checksum;
pub mod echo;
pub mod ethernet;
mod ipv4;
mod ipv6;
mod mac;
pub mod ndp;
pub mod quic;
mod subject;

pub use mac::{MacAddress, ParseMacError};
pub use subject::{Family, NoSubject, Shape, Subject, plain_ipv4, subject};
