//! Frames for the tests of packet classification: builders, a table with one row or more for each rule of
//! `docs/classification.md`, and a generator of random and mutated ones.
//!
//! The XDP program and its twin in user space are tested with the same rows, in their order: the rows about fragments
//! build on the ones before them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, unused_imports, reason = "each test binary uses its own part")]
#![allow(unreachable_pub, reason = "the module is compiled into several test binaries")]

mod build;
mod generate;
mod rows;

pub use build::*;
pub use generate::Frames;
pub use rows::rows;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pointsman::service::{Protocol, ServiceKey};
use pointsman::table::ServiceIndex;
use pointsman::wire::MacAddress;

/// The interface's own address.
pub const OUR_MAC: MacAddress = MacAddress::new([0x02, 0, 0, 0, 0, 0x01]);
/// A virtual address, as VRRP has it.
pub const VIRTUAL_MAC: MacAddress = MacAddress::new([0, 0, 0x5e, 0, 0x01, 0x0a]);
/// Some other machine's; it differs from ours in the last byte only.
pub const OTHER_MAC: MacAddress = MacAddress::new([0x02, 0, 0, 0, 0, 0x02]);

/// Has services tcp 80 and udp 53.
pub const VIP: Ipv4Addr = Ipv4Addr::new(192, 168, 88, 15);
/// Has the service udp any, and none of tcp.
pub const VIP_UDP_ANY: Ipv4Addr = Ipv4Addr::new(192, 168, 88, 16);
/// Has the services tcp 443 and tcp any.
pub const VIP_TCP_ANY: Ipv4Addr = Ipv4Addr::new(192, 168, 88, 17);
/// Has the services udp any and tcp 443.
pub const VIP_MIXED: Ipv4Addr = Ipv4Addr::new(192, 168, 88, 18);
/// Has services tcp 80 and udp 53.
pub const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x88, 0, 0, 0, 0, 0x15);
/// Has the service tcp any, and none of udp.
pub const VIP6_TCP_ANY: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x88, 0, 0, 0, 0, 0x16);
/// Has the service tcp 80; its first four bytes are those of `VIP_MIXED` and the rest is zero.
pub const VIP6_LIKE_MIXED: Ipv6Addr = Ipv6Addr::new(0xc0a8, 0x5812, 0, 0, 0, 0, 0, 0);
/// No VIP, but its first four bytes are those of `VIP` and the rest is zero.
pub const LIKE_VIP: Ipv6Addr = Ipv6Addr::new(0xc0a8, 0x580f, 0, 0, 0, 0, 0, 0);
/// No VIP.
pub const OTHER: Ipv4Addr = Ipv4Addr::new(192, 168, 88, 7);
/// No VIP.
pub const OTHER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x88, 0, 0, 0, 0, 7);
/// A client.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);
/// A client.
pub const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);

/// The destination addresses that are taken.
pub fn local_macs() -> Vec<MacAddress> {
    vec![OUR_MAC, VIRTUAL_MAC]
}

/// The services that all rows and generated frames are about.
pub fn services() -> Vec<ServiceKey> {
    let service = |vip: IpAddr, protocol, port| ServiceKey { vip, protocol, port };
    vec![
        service(VIP.into(), Protocol::Tcp, 80),
        service(VIP.into(), Protocol::Udp, 53),
        service(VIP_UDP_ANY.into(), Protocol::Udp, 0),
        service(VIP_TCP_ANY.into(), Protocol::Tcp, 443),
        service(VIP_TCP_ANY.into(), Protocol::Tcp, 0),
        service(VIP_MIXED.into(), Protocol::Udp, 0),
        service(VIP_MIXED.into(), Protocol::Tcp, 443),
        service(VIP6.into(), Protocol::Tcp, 80),
        service(VIP6.into(), Protocol::Udp, 53),
        service(VIP6_TCP_ANY.into(), Protocol::Tcp, 0),
        service(VIP6_LIKE_MIXED.into(), Protocol::Tcp, 80),
    ]
}

/// These services, numbered by their position.
pub fn index() -> ServiceIndex {
    let numbered: Vec<(ServiceKey, u32)> = services().into_iter().zip(0..).collect();
    ServiceIndex::new(&numbered)
}

/// One frame and what becomes of it.
#[derive(Clone, Debug)]
pub struct Row {
    pub description: String,
    pub frame: Vec<u8>,
    pub expected: Expected,
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    Redirect,
    Pass(PassReason),
}

/// Why a frame is passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PassReason {
    Malformed,
    NotOurMac,
    NotIp,
    NotAService,
    FragmentOfPassed,
}

impl PassReason {
    /// As `docs/classification.md` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::NotOurMac => "not_our_mac",
            Self::NotIp => "not_ip",
            Self::NotAService => "not_a_service",
            Self::FragmentOfPassed => "fragment_of_passed",
        }
    }
}
