//! What becomes of a frame. Every frame that a worker receives has exactly one verdict, and every verdict is counted.

use std::fmt;

/// Why the director dropped a frame that the XDP program had redirected to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum DropReason {
    /// A header is cut short or contradicts itself. The XDP program passes such frames to the kernel, so this counts
    /// only what changed between the two.
    Malformed,
    /// No virtual service has this address, protocol and port any more: it was removed while the frame was on its way.
    NoService,
    /// A datagram or first fragment for a VIP that ends before its ports do.
    TruncatedL4,
    /// A whole TCP segment or UDP datagram whose header does not fit its length.
    MalformedL4,
    /// The service has no real server that is alive, has a next hop and a weight above 0.
    NoRealServer,
    /// Every real server that takes new flows has as many connections as it is given.
    ConnectionLimit,
    /// The packet is larger than the MTU of the interface that it would leave by.
    MtuExceeded,
    /// The worker has no socket on the interface that the real server is reached by.
    NoEgress,
    /// The TX ring stayed full for as long as the interface's `tx_hold_us` allows.
    TxRingFull,
}

impl DropReason {
    /// Number of reasons.
    pub const COUNT: usize = 9;

    /// All reasons, in the order of their indices.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Malformed,
        Self::NoService,
        Self::TruncatedL4,
        Self::MalformedL4,
        Self::NoRealServer,
        Self::ConnectionLimit,
        Self::MtuExceeded,
        Self::NoEgress,
        Self::TxRingFull,
    ];

    /// Position in [`Self::ALL`], by which counters are kept.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name that statistics and `replay` print.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::NoService => "no_service",
            Self::TruncatedL4 => "truncated_l4",
            Self::MalformedL4 => "malformed_l4",
            Self::NoRealServer => "no_real_server",
            Self::ConnectionLimit => "connection_limit",
            Self::MtuExceeded => "mtu_exceeded",
            Self::NoEgress => "no_egress",
            Self::TxRingFull => "tx_ring_full",
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which real server of which service a frame belongs to: positions in the forwarding table that decided it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Position of the virtual service.
    pub service: u32,
    /// Position of the real server.
    pub real_server: u32,
}

/// What becomes of one redirected frame. There is no `Pass`: a redirected frame cannot return to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its addresses are rewritten; it is to leave by this egress.
    Tx {
        /// Position of the interface among the table's egresses.
        egress: u8,
        /// Where it goes.
        route: Route,
    },
    /// It is dropped.
    Drop {
        /// Why.
        reason: DropReason,
        /// Position of the virtual service, where it is known.
        service: Option<u32>,
        /// Position of the real server, where one had been chosen.
        real_server: Option<u32>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_listed_by_index() {
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), index);
        }
    }
}
