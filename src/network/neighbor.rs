//! The kernel's neighbour table (ARP and IPv6 neighbour discovery): reading it, and having it resolve an address.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, Parseable};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState as KernelState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::NetworkError;
use super::netlink::{Ask, Requester};
use crate::wire::MacAddress;

/// One entry of the neighbour table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbor {
    /// The interface on whose link the neighbour is.
    pub device_index: u32,
    /// Its IP address.
    pub address: IpAddr,
    /// What the kernel thinks of the entry.
    pub state: NeighborState,
    /// The MAC address in the entry, usable or not.
    pub mac: Option<MacAddress>,
}

/// How much an entry is worth (`NUD_*` of rtnetlink(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NeighborState {
    /// The kernel learnt the MAC address and maintains it: reachable, stale, delay or probe.
    Dynamic,
    /// An administrator entered it, or the link needs no resolution: permanent or noarp.
    Static,
    /// There is no usable MAC address: incomplete, failed, none, or the entry is gone.
    Unusable,
}

impl Neighbor {
    /// The MAC address to forward to, if the entry has one that a single machine can have.
    pub fn usable_mac(&self) -> Option<MacAddress> {
        self.mac.filter(|mac| self.state != NeighborState::Unusable && !mac.is_zero() && !mac.is_multicast())
    }
}

/// The whole neighbour table of this network namespace, IPv4 and IPv6.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn neighbors() -> Result<Vec<Neighbor>, NetworkError> {
    read_neighbors(&mut Requester::open()?)
}

/// As [`neighbors`], over a socket that is already open.
pub(super) fn read_neighbors(requester: &mut Requester) -> Result<Vec<Neighbor>, NetworkError> {
    let request = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
    requester
        .exchange(&request, Ask::Dump, parse_neighbor)
        .map_err(|source| NetworkError::system("read the neighbour table", source))
}

/// Reads an `RTM_NEWNEIGH` or `RTM_DELNEIGH` message. `None` for other messages, other families (a bridge's forwarding
/// table comes in the same ones) and proxy entries.
pub(super) fn parse_neighbor(kind: u16, payload: &[u8]) -> Option<Neighbor> {
    if kind != libc::RTM_NEWNEIGH && kind != libc::RTM_DELNEIGH {
        return None;
    }
    let message = NeighbourMessage::parse(payload).ok()?;
    if message.header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    let mut address = None;
    let mut mac = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => address = Some(IpAddr::V4(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => address = Some(IpAddr::V6(*v6)),
            NeighbourAttribute::LinkLayerAddress(octets) => {
                mac = octets.as_slice().try_into().ok().map(MacAddress::new);
            }
            _ => {}
        }
    }
    let state = match message.header.state {
        // A deleted entry is announced with the state that it had.
        _ if kind == libc::RTM_DELNEIGH => NeighborState::Unusable,
        KernelState::Reachable | KernelState::Stale | KernelState::Delay | KernelState::Probe => NeighborState::Dynamic,
        KernelState::Permanent | KernelState::Noarp => NeighborState::Static,
        _ => NeighborState::Unusable,
    };
    Some(Neighbor { device_index: message.header.ifindex, address: address?, state, mac })
}

/// Has the kernel resolve `address` on the device, or verify what it knows, and returns at once.
///
/// `RTM_NEWNEIGH` with `NTF_USE` makes an entry where there is none and then acts as if a packet had just been sent by
/// it (net/core/neighbour.c: neigh_add, neigh_event_send). An entry that is missing or failed is asked for by ARP or
/// neighbour solicitation, a stale one is probed after the usual delay, a reachable one merely counts as used, which
/// keeps it from being collected. No packet of ours is involved, so that none can wait in the entry's queue, and no
/// MAC address is written, so that nothing the kernel knows is overwritten.
///
/// Never call it for a [`NeighborState::Static`] entry: since Linux 5.16 it turns a permanent entry into a dynamic one
/// (measured on 6.18: the administrator's MAC address was replaced by the learnt one).
///
/// # Errors
/// The kernel's refusal as an OS error: `EPERM` without CAP_NET_ADMIN, `ENODEV` where the device is gone, `ENOBUFS`
/// where the neighbour table is full.
pub(super) fn resolve(requester: &mut Requester, device_index: u32, address: IpAddr) -> io::Result<()> {
    let mut message = NeighbourMessage::default();
    message.header.family = match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.header.ifindex = device_index;
    message.header.flags = NeighbourFlags::Use;
    message.attributes.push(NeighbourAttribute::Destination(address.into()));
    let request = RouteNetlinkMessage::NewNeighbour(message);
    // Without NLM_F_REPLACE the update may not override what is there.
    requester.exchange(&request, Ask::One(NLM_F_CREATE), |_, _| None::<()>).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_core::Emitable;
    use proptest::prelude::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 1, 0];

    fn message(state: u16, flags: NeighbourFlags, lladdr: Option<&[u8]>) -> Vec<u8> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.ifindex = 3;
        message.header.state = state.into();
        message.header.flags = flags;
        message.attributes.push(NeighbourAttribute::Destination(IpAddr::from([10, 0, 0, 2]).into()));
        message.attributes.extend(lladdr.map(|octets| NeighbourAttribute::LinkLayerAddress(octets.to_vec())));
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        bytes
    }

    #[test]
    fn which_states_have_a_usable_mac() {
        // include/uapi/linux/neighbour.h
        let states = [
            ("none", 0x00, false),
            ("incomplete", 0x01, false),
            ("reachable", 0x02, true),
            ("stale", 0x04, true),
            ("delay", 0x08, true),
            ("probe", 0x10, true),
            ("failed", 0x20, false),
            ("noarp", 0x40, true),
            ("permanent", 0x80, true),
        ];
        for (name, state, usable) in states {
            let bytes = message(state, NeighbourFlags::empty(), Some(&MAC));
            let neighbor = parse_neighbor(libc::RTM_NEWNEIGH, &bytes).unwrap();
            assert_eq!(neighbor.usable_mac(), usable.then_some(MacAddress::new(MAC)), "{name}");
            let deleted = parse_neighbor(libc::RTM_DELNEIGH, &bytes).unwrap();
            assert_eq!(deleted.usable_mac(), None, "deleted in state {name}");
        }
    }

    #[test]
    fn addresses_that_no_machine_has_are_not_usable() {
        for lladdr in [None, Some(&[0; 6][..]), Some(&[0xff; 6][..]), Some(&[1, 0, 0x5e, 0, 0, 1][..]), Some(&MAC[..4])]
        {
            let bytes = message(0x02, NeighbourFlags::empty(), lladdr);
            assert_eq!(parse_neighbor(libc::RTM_NEWNEIGH, &bytes).unwrap().usable_mac(), None, "{lladdr:?}");
        }
    }

    #[test]
    fn proxy_entries_and_other_messages_are_passed_over() {
        assert_eq!(parse_neighbor(libc::RTM_NEWNEIGH, &message(2, NeighbourFlags::Proxy, Some(&MAC))), None);
        assert_eq!(parse_neighbor(libc::RTM_NEWLINK, &message(2, NeighbourFlags::empty(), Some(&MAC))), None);
    }

    proptest! {
        #[test]
        fn damaged_messages_are_read_without_panic(at in 0usize..40, byte: u8, length in 0usize..40) {
            let mut bytes = message(2, NeighbourFlags::empty(), Some(&MAC));
            if let Some(target) = bytes.get_mut(at) {
                *target = byte;
            }
            bytes.truncate(length);
            let _ = parse_neighbor(libc::RTM_NEWNEIGH, &bytes);
        }
    }
}
