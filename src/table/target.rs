//! What most frames need of a real server, by the lasting number that their flow's entry has: half a cache line, where the
//! real server itself has several.

use super::forwarding::{RealServer, VirtualService};

/// Position of a real server that is not in the table.
pub(super) const NOWHERE: u32 = u32::MAX;

/// A real server, as frames of established flows see it.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
pub struct Target {
    /// Position of the real server; `u32::MAX` if it is not in the table.
    pub position: u32,
    /// Position of its service.
    pub service: u32,
    /// Life of an established TCP flow of which nothing but its entry matters, in seconds; 0 if more does, or if frames
    /// cannot be sent there.
    pub tcp_s: u32,
    /// The same of UDP.
    pub udp_s: u32,
    /// The most bytes of an IP packet that can be sent to it.
    pub mtu: u16,
    /// Destination and source address that its frames get.
    pub macs: [u8; 12],
    /// Position of the interface that they leave by.
    pub egress: u8,
}

impl Target {
    pub(super) const NONE: Self =
        Self { position: NOWHERE, service: NOWHERE, tcp_s: 0, udp_s: 0, mtu: 0, macs: [0; 12], egress: 0 };

    fn new(position: u32, server: &RealServer, service: &VirtualService) -> Self {
        let life_s = |life_s| if server.alive { life_s } else { 0 };
        Self {
            position,
            service: server.service,
            tcp_s: life_s(service.quick_tcp_s),
            udp_s: life_s(service.quick_udp_s),
            mtu: u16::try_from(server.mtu).unwrap_or(u16::MAX),
            macs: server.macs,
            egress: server.egress,
        }
    }
}

/// All real servers of a table by their lasting numbers.
pub(super) fn by_id(real_servers: &[RealServer], services: &[VirtualService]) -> Box<[Target]> {
    let highest = real_servers.iter().map(|real_server| real_server.id as usize + 1).max().unwrap_or(0);
    let mut targets = vec![Target::NONE; highest].into_boxed_slice();
    for (position, server) in (0..).zip(real_servers) {
        let service = services.get(server.service as usize);
        if let (Some(target), Some(service)) = (targets.get_mut(server.id as usize), service) {
            *target = Target::new(position, server, service);
        }
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_share_a_cache_line() {
        assert_eq!(size_of::<Target>(), 32);
    }
}
