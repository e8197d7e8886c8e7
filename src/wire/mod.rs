//! Packet headers: parsed in place, never panicking, without I/O.

mod mac;

pub use mac::{MacAddress, ParseMacError};
