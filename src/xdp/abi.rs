//! What this side and `bpf/abi.h` agree on: constants, and the bytes of map keys and values.
//!
//! All integers are in host byte order unless marked.

use crate::service::{Protocol, ServiceKey, address_bytes};
use crate::wire::MacAddress;
use crate::xdp::{NoSocketAction, XdpError};

use std::net::IpAddr;

/// First eight bytes of the stamp in front of a redirected frame, as a number in host byte order. Eight bytes of
/// CLOCK_MONOTONIC nanoseconds follow.
pub const STAMP_MAGIC: u64 = 0x504f_494e_5453_4d4e;
/// Length of the stamp.
pub const STAMP_BYTES: usize = 16;
/// MAC addresses that an interface can be reached by.
pub const MAX_LOCAL_MACS: usize = 8;
/// Distinct virtual IP addresses of an interface.
pub const MAX_VIPS: usize = 65_536;
/// Virtual services of an interface, not counting those on port 0.
pub const MAX_SERVICES: usize = 65_536;
/// Receive queues of an interface that can have a socket.
pub const MAX_QUEUES: u32 = 1024;
/// Interfaces whose NAPI is timed by itself; that of more counts as that of others.
pub(super) const MAX_NAPI_INTERFACES: u32 = 64;

/// `struct vip_key`.
pub(super) const VIP_KEY_BYTES: usize = 20;
/// `struct service_key`.
pub(super) const SERVICE_KEY_BYTES: usize = 20;
/// `struct settings`.
pub(super) const SETTINGS_BYTES: usize = MAX_LOCAL_MACS * 8 + 8;

const PROTOCOL_BIT_TCP: u8 = 1;
const PROTOCOL_BIT_UDP: u8 = 2;
const FAMILY_IPV4: u8 = 4;
const FAMILY_IPV6: u8 = 6;
/// `enum xdp_action` of linux/bpf.h.
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;

/// `struct vip`: which protocols a VIP has services of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct VipProtocols {
    with_a_service: u8,
    with_any_port: u8,
}

impl VipProtocols {
    pub(super) fn of<'a>(services: impl Iterator<Item = &'a ServiceKey>) -> Self {
        let mut protocols = Self::default();
        for service in services {
            protocols.with_a_service |= protocol_bit(service.protocol);
            if service.port == 0 {
                protocols.with_any_port |= protocol_bit(service.protocol);
            }
        }
        protocols
    }

    pub(super) fn is_empty(self) -> bool {
        self.with_a_service == 0
    }

    pub(super) fn value(self) -> [u8; 4] {
        [self.with_a_service, self.with_any_port, 0, 0]
    }
}

/// `struct vip_key`.
pub(super) fn vip_key(vip: IpAddr) -> [u8; VIP_KEY_BYTES] {
    let mut key = [0; VIP_KEY_BYTES];
    key[..16].copy_from_slice(&address_bytes(vip));
    key[16] = family(vip);
    key
}

/// `struct service_key`.
pub(super) fn service_key(service: &ServiceKey) -> [u8; SERVICE_KEY_BYTES] {
    let mut key = [0; SERVICE_KEY_BYTES];
    key[..16].copy_from_slice(&address_bytes(service.vip));
    key[16..18].copy_from_slice(&service.port.to_be_bytes());
    key[18] = service.protocol.number();
    key[19] = family(service.vip);
    key
}

/// `struct settings`.
pub(super) fn settings_value(local_macs: &LocalMacs, no_socket: NoSocketAction) -> [u8; SETTINGS_BYTES] {
    let mut value = [0; SETTINGS_BYTES];
    for (slot, mac) in value.chunks_exact_mut(8).zip(&local_macs.slots) {
        if let Some(mac) = mac {
            slot[..6].copy_from_slice(&mac.octets());
            slot[6..].copy_from_slice(&1_u16.to_ne_bytes());
        }
    }
    let action = match no_socket {
        NoSocketAction::Drop => XDP_DROP,
        NoSocketAction::Pass => XDP_PASS,
    };
    value[MAX_LOCAL_MACS * 8..][..4].copy_from_slice(&action.to_ne_bytes());
    value
}

/// The slots of the local MAC addresses. An address keeps its slot as long as it stays, so that a frame which meets an
/// update half done still finds it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LocalMacs {
    slots: [Option<MacAddress>; MAX_LOCAL_MACS],
}

impl LocalMacs {
    pub(super) fn replaced_by(&self, macs: &[MacAddress]) -> Result<Self, XdpError> {
        let mut next = self.clone();
        for slot in &mut next.slots {
            if slot.is_some_and(|mac| !macs.contains(&mac)) {
                *slot = None;
            }
        }
        for mac in macs {
            if next.slots.contains(&Some(*mac)) {
                continue;
            }
            let free = next.slots.iter_mut().find(|slot| slot.is_none());
            *free.ok_or(XdpError::TooManyLocalMacs { count: macs.len() })? = Some(*mac);
        }
        Ok(next)
    }
}

fn protocol_bit(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => PROTOCOL_BIT_TCP,
        Protocol::Udp => PROTOCOL_BIT_UDP,
    }
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { FAMILY_IPV4 } else { FAMILY_IPV6 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The number that `bpf/abi.h` defines a name as.
    fn defined(name: &str) -> u64 {
        let line = include_str!("../../bpf/abi.h")
            .lines()
            .find_map(|line| line.strip_prefix("#define ")?.strip_prefix(name)?.strip_prefix(' '))
            .unwrap_or_else(|| panic!("bpf/abi.h does not define {name}"));
        let number = line.split_whitespace().next().unwrap();
        match number.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).unwrap(),
            None => number.parse().unwrap(),
        }
    }

    #[test]
    fn constants_are_those_of_the_program() {
        for (name, here) in [
            ("STAMP_MAGIC", STAMP_MAGIC),
            ("STAMP_BYTES", STAMP_BYTES as u64),
            ("MAX_LOCAL_MACS", MAX_LOCAL_MACS as u64),
            ("MAX_VIPS", MAX_VIPS as u64),
            ("MAX_SERVICES", MAX_SERVICES as u64),
            ("MAX_QUEUES", u64::from(MAX_QUEUES)),
            ("MAX_NAPI_INTERFACES", u64::from(MAX_NAPI_INTERFACES)),
            ("PROTOCOL_BIT_TCP", u64::from(PROTOCOL_BIT_TCP)),
            ("PROTOCOL_BIT_UDP", u64::from(PROTOCOL_BIT_UDP)),
            ("FAMILY_IPV4", u64::from(FAMILY_IPV4)),
            ("FAMILY_IPV6", u64::from(FAMILY_IPV6)),
            ("MARK_MAGIC", u64::from(u32::from_be_bytes(crate::generator::mark::MAGIC))),
        ] {
            assert_eq!(defined(name), here, "{name}");
        }
        assert_eq!((XDP_DROP, XDP_PASS), (libbpf_sys::XDP_DROP, libbpf_sys::XDP_PASS));
    }

    proptest! {
        /// Addresses that stay keep their slots; the slots hold exactly the addresses asked for.
        #[test]
        fn an_address_that_stays_keeps_its_slot(
            before in prop::collection::hash_set(0_u8..12, 0..=MAX_LOCAL_MACS),
            after in prop::collection::hash_set(0_u8..12, 0..=MAX_LOCAL_MACS),
        ) {
            let macs = |set: &std::collections::HashSet<u8>| -> Vec<MacAddress> {
                set.iter().map(|last| MacAddress::new([2, 0, 0, 0, 0, *last])).collect()
            };
            let first = LocalMacs::default().replaced_by(&macs(&before)).unwrap();
            let second = first.replaced_by(&macs(&after)).unwrap();
            for (old, new) in first.slots.iter().zip(&second.slots) {
                if let Some(mac) = old && macs(&after).contains(mac) {
                    prop_assert_eq!(old, new);
                }
            }
            let mut held: Vec<_> = second.slots.iter().flatten().copied().collect();
            let mut wanted = macs(&after);
            held.sort();
            wanted.sort();
            prop_assert_eq!(held, wanted);
        }
    }

    #[test]
    fn a_ninth_address_is_refused() {
        let macs: Vec<_> = (0..9).map(|last| MacAddress::new([2, 0, 0, 0, 0, last])).collect();
        assert!(matches!(LocalMacs::default().replaced_by(&macs), Err(XdpError::TooManyLocalMacs { count: 9 })));
    }
}
