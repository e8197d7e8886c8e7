//! Finds the virtual service of a destination: a flat hash map that is built once and then only read.

use super::hash::halves;
use crate::service::{Protocol, ServiceKey, address_bytes};
use crate::wire::Family;

/// The family of a service's address.
pub fn family_of(key: &ServiceKey) -> Family {
    if key.vip.is_ipv4() { Family::V4 } else { Family::V6 }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    vip: [u8; 16],
    port: u16,
    protocol: u8,
    family: Family,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: Key,
    value: u32,
}

/// Services by address, protocol and port.
#[derive(Clone, Debug)]
pub struct ServiceIndex {
    by_port: Flat,
    /// The service of the lowest port of each address and protocol, for frames that have no ports.
    by_address: Flat,
}

impl ServiceIndex {
    /// Indexes `keys`; a service's value is its position. Of two equal keys the first wins.
    pub fn new(keys: &[ServiceKey]) -> Self {
        let key = |service: &ServiceKey, port| Key {
            vip: address_bytes(service.vip),
            port,
            protocol: service.protocol.number(),
            family: family_of(service),
        };
        let mut by_lowest_port: Vec<(u32, &ServiceKey)> = (0..).zip(keys).collect();
        by_lowest_port.sort_by_key(|(_, service)| service.port);
        Self {
            by_port: Flat::new(
                keys.len(),
                (0..).zip(keys).map(|(value, service)| Entry { key: key(service, service.port), value }),
            ),
            by_address: Flat::new(
                keys.len(),
                by_lowest_port.iter().map(|(value, service)| Entry { key: key(service, 0), value: *value }),
            ),
        }
    }

    /// The service of this very port, else the one of any port.
    #[inline]
    pub fn find(&self, family: Family, vip: &[u8; 16], protocol: u8, port: u16) -> Option<u32> {
        let key = Key { vip: *vip, port, protocol, family };
        self.by_port.get(&key).or_else(|| self.by_port.get(&Key { port: 0, ..key }))
    }

    /// The service of the lowest port of this address and protocol, which frames without ports go by.
    #[inline]
    pub fn first_of(&self, family: Family, vip: &[u8; 16], protocol: u8) -> Option<u32> {
        self.by_address.get(&Key { vip: *vip, port: 0, protocol, family })
    }

    /// Whether the address has a service of any protocol.
    pub fn is_vip(&self, family: Family, vip: &[u8; 16]) -> bool {
        [Protocol::Tcp, Protocol::Udp].iter().any(|p| self.first_of(family, vip, p.number()).is_some())
    }
}

/// Open addressing with linear probing, at most half full.
#[derive(Clone, Debug)]
struct Flat {
    entries: Box<[Option<Entry>]>,
    mask: usize,
}

impl Flat {
    fn new(count: usize, items: impl Iterator<Item = Entry>) -> Self {
        let capacity = (count * 2).next_power_of_two().max(2);
        let mut flat = Self { entries: vec![None; capacity].into_boxed_slice(), mask: capacity - 1 };
        for item in items {
            let mut at = hash(&item.key) & flat.mask;
            while flat.entries[at].is_some_and(|there| there.key != item.key) {
                at = (at + 1) & flat.mask;
            }
            flat.entries[at].get_or_insert(item);
        }
        flat
    }

    #[inline]
    fn get(&self, key: &Key) -> Option<u32> {
        let mut at = hash(key) & self.mask;
        // Half of the entries are empty, so the walk ends.
        while let Some(Some(entry)) = self.entries.get(at) {
            if entry.key == *key {
                return Some(entry.value);
            }
            at = (at + 1) & self.mask;
        }
        None
    }
}

/// The keys are the operator's own, so this need not withstand an attacker.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "only the lower bits are used")]
fn hash(key: &Key) -> usize {
    let (high, low) = halves(u128::from_be_bytes(key.vip));
    let rest = u64::from(key.port) << 16 | u64::from(key.protocol) << 8 | key.family as u64;
    let words = high ^ low.rotate_left(32) ^ rest;
    let (high, low) = halves(u128::from(words ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93);
    (high ^ low) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::net::{IpAddr, Ipv4Addr};

    fn service(address: u8, tcp: bool, port: u16) -> ServiceKey {
        ServiceKey {
            vip: IpAddr::V4(Ipv4Addr::new(10, 0, 0, address)),
            protocol: if tcp { Protocol::Tcp } else { Protocol::Udp },
            port,
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_plain_map(
            keys in prop::collection::vec((0u8..6, any::<bool>(), 0u16..6), 0..60),
            probes in prop::collection::vec((0u8..8, any::<bool>(), 0u16..8), 60),
        ) {
            let keys: Vec<_> = keys.into_iter().map(|(a, t, p)| service(a, t, p)).collect();
            let index = ServiceIndex::new(&keys);
            let mut plain = HashMap::new();
            for (value, key) in (0u32..).zip(&keys) {
                plain.entry(*key).or_insert(value);
            }
            for (address, tcp, port) in probes {
                let key = service(address, tcp, port);
                let vip = address_bytes(key.vip);
                let expected = plain.get(&key).or_else(|| plain.get(&ServiceKey { port: 0, ..key })).copied();
                prop_assert_eq!(index.find(Family::V4, &vip, key.protocol.number(), port), expected);
                prop_assert_eq!(index.find(Family::V6, &vip, key.protocol.number(), port), None);
                let lowest = keys.iter().filter(|k| k.vip == key.vip && k.protocol == key.protocol).map(|k| k.port).min();
                let first = index.first_of(Family::V4, &vip, key.protocol.number()).map(|i| keys[i as usize].port);
                prop_assert_eq!(first, lowest);
                prop_assert_eq!(index.is_vip(Family::V4, &vip), keys.iter().any(|k| k.vip == key.vip));
            }
        }
    }
}
