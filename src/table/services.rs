//! Finds the virtual service of a destination: a flat hash map that is built once and then only read.

use super::hash::halves;
use crate::prefetch::prefetch;
use crate::service::{Protocol, ServiceKey, address_bytes};
use crate::wire::{Family, Subject};

/// The family of a service's address.
pub fn family_of(key: &ServiceKey) -> Family {
    if key.vip.is_ipv4() { Family::V4 } else { Family::V6 }
}

/// By what a service of a table is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceNumber {
    /// Its position in the table.
    pub position: u32,
    /// Its lasting number.
    pub id: u32,
}

/// Address, then port, protocol and family.
type Key = [u64; 3];

/// Where the service of a frame with ports is looked up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServicePlace {
    key: Key,
    hash: usize,
}

impl ServicePlace {
    /// The place of the service that `subject` is for.
    #[inline(always)]
    pub fn of(subject: &Subject) -> Self {
        Self::new(key(subject.family, &subject.vip, subject.protocol, subject.service_port))
    }

    #[inline(always)]
    fn new(key: Key) -> Self {
        Self { key, hash: hash(&key) }
    }

    /// The place of the service of any port.
    fn of_any_port(&self) -> Self {
        let [high, low, rest] = self.key;
        Self::new([high, low, rest & 0xffff])
    }
}

#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
struct Entry {
    /// All zero in an empty entry: no family is 0.
    key: Key,
    number: ServiceNumber,
}

const EMPTY: Entry = Entry { key: [0; 3], number: ServiceNumber { position: u32::MAX, id: u32::MAX } };

/// Services by address, protocol and port.
#[derive(Clone, Debug)]
pub struct ServiceIndex {
    by_port: Flat,
    /// The service of the lowest port of each address and protocol, for frames that have no ports.
    by_address: Flat,
    /// Whether there is a service of any port.
    has_any_port: bool,
}

impl ServiceIndex {
    /// Indexes the services of a table, in its order: their addresses and lasting numbers. Of two equal ones the first
    /// wins.
    pub fn new(services: &[(ServiceKey, u32)]) -> Self {
        let entry = |position: u32, service: &ServiceKey, id: u32, port: u16| Entry {
            key: key(family_of(service), &address_bytes(service.vip), service.protocol.number(), port),
            number: ServiceNumber { position, id },
        };
        let numbered = || (0..).zip(services);
        let mut by_lowest_port: Vec<(u32, &(ServiceKey, u32))> = numbered().collect();
        by_lowest_port.sort_by_key(|(_, (service, _))| service.port);
        Self {
            by_port: Flat::new(services.len(), numbered().map(|(at, (key, id))| entry(at, key, *id, key.port))),
            by_address: Flat::new(services.len(), by_lowest_port.iter().map(|(at, (key, id))| entry(*at, key, *id, 0))),
            has_any_port: services.iter().any(|(service, _)| service.port == 0),
        }
    }

    /// The service of this very port, else the one of any port.
    #[inline(always)]
    pub fn at(&self, place: &ServicePlace) -> Option<ServiceNumber> {
        let found = self.by_port.get(place);
        if found.is_none() && self.has_any_port {
            return self.by_port.get(&place.of_any_port());
        }
        found
    }

    /// As [`Self::at`], by the parts of the place.
    #[inline]
    pub fn find(&self, family: Family, vip: &[u8; 16], protocol: u8, port: u16) -> Option<ServiceNumber> {
        self.at(&ServicePlace::new(key(family, vip, protocol, port)))
    }

    /// Has the processor fetch what [`Self::at`] looks at.
    #[inline]
    pub fn prefetch(&self, place: &ServicePlace) {
        self.by_port.prefetch(place);
    }

    /// The service of the lowest port of this address and protocol, which frames without ports go by.
    #[inline]
    pub fn first_of(&self, family: Family, vip: &[u8; 16], protocol: u8) -> Option<ServiceNumber> {
        self.by_address.get(&ServicePlace::new(key(family, vip, protocol, 0)))
    }

    /// Whether the address has a service of any protocol.
    pub fn is_vip(&self, family: Family, vip: &[u8; 16]) -> bool {
        [Protocol::Tcp, Protocol::Udp].iter().any(|p| self.first_of(family, vip, p.number()).is_some())
    }
}

#[inline]
fn key(family: Family, vip: &[u8; 16], protocol: u8, port: u16) -> Key {
    let (high, low) = halves(u128::from_be_bytes(*vip));
    [high, low, u64::from(port) << 16 | u64::from(protocol) << 8 | family as u64]
}

/// Open addressing with linear probing, at most half full.
#[derive(Clone, Debug)]
struct Flat {
    entries: Box<[Entry]>,
    mask: usize,
}

impl Flat {
    fn new(count: usize, items: impl Iterator<Item = Entry>) -> Self {
        let capacity = (count * 2).next_power_of_two().max(2);
        let mut flat = Self { entries: vec![EMPTY; capacity].into_boxed_slice(), mask: capacity - 1 };
        for item in items {
            let mut at = hash(&item.key) & flat.mask;
            while flat.entries[at].key != EMPTY.key && flat.entries[at].key != item.key {
                at = (at + 1) & flat.mask;
            }
            if flat.entries[at].key == EMPTY.key {
                flat.entries[at] = item;
            }
        }
        flat
    }

    #[inline(always)]
    fn get(&self, place: &ServicePlace) -> Option<ServiceNumber> {
        let mut at = place.hash & self.mask;
        // Half of the entries are empty, so the walk ends.
        while let Some(entry) = self.entries.get(at) {
            if differ(&entry.key, &place.key) == 0 {
                return Some(entry.number);
            }
            if differ(&entry.key, &EMPTY.key) == 0 {
                return None;
            }
            at = (at + 1) & self.mask;
        }
        None
    }

    #[inline]
    fn prefetch(&self, place: &ServicePlace) {
        if let Some(entry) = self.entries.get(place.hash & self.mask) {
            prefetch(entry);
        }
    }
}

/// Not 0 where two keys differ: one branch for three words.
#[inline]
fn differ(a: &Key, b: &Key) -> u64 {
    a[0] ^ b[0] | a[1] ^ b[1] | a[2] ^ b[2]
}

/// The keys are the operator's own, so this need not withstand an attacker.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "only the lower bits are used")]
fn hash(key: &Key) -> usize {
    let words = key[0] ^ key[1].rotate_left(32) ^ key[2];
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
            let numbered: Vec<_> = (100..).zip(&keys).map(|(id, key)| (*key, id)).collect();
            let index = ServiceIndex::new(&numbered);
            let position = |found: Option<ServiceNumber>| {
                found.map(|number| {
                    assert_eq!(number.id, number.position + 100);
                    number.position
                })
            };
            let mut plain = HashMap::new();
            for (value, key) in (0u32..).zip(&keys) {
                plain.entry(*key).or_insert(value);
            }
            for (address, tcp, port) in probes {
                let key = service(address, tcp, port);
                let vip = address_bytes(key.vip);
                let expected = plain.get(&key).or_else(|| plain.get(&ServiceKey { port: 0, ..key })).copied();
                prop_assert_eq!(position(index.find(Family::V4, &vip, key.protocol.number(), port)), expected);
                prop_assert_eq!(index.find(Family::V6, &vip, key.protocol.number(), port), None);
                let lowest = keys.iter().filter(|k| k.vip == key.vip && k.protocol == key.protocol).map(|k| k.port).min();
                let first = position(index.first_of(Family::V4, &vip, key.protocol.number())).map(|i| keys[i as usize].port);
                prop_assert_eq!(first, lowest);
                prop_assert_eq!(index.is_vip(Family::V4, &vip), keys.iter().any(|k| k.vip == key.vip));
            }
        }
    }
}
