//! What is checked, and how it is reached.

use std::net::{IpAddr, SocketAddr};

use crate::config::Via;
use crate::service::ServiceKey;
use crate::wire::MacAddress;

/// A real server of a virtual service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// The service.
    pub service: ServiceKey,
    /// The real server's address.
    pub real_server: IpAddr,
}

impl Target {
    /// The address and port that are asked.
    #[must_use]
    pub fn asked(&self, via: Via, port: u16) -> SocketAddr {
        match via {
            Via::Address => SocketAddr::new(self.real_server, port),
            Via::Direct => SocketAddr::new(self.service.vip, port),
        }
    }
}

/// Where frames for a real server leave and what they are addressed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectPath {
    /// Index of the device: the interface, or a VLAN of it.
    pub device_index: u32,
    /// The real server's MAC address.
    pub mac: MacAddress,
    /// The most bytes of an IP packet.
    pub mtu: u32,
}
