//! Lasting numbers of virtual services and real servers, by which flow tables remember them over any number of
//! forwarding tables.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::net::IpAddr;

use crate::service::ServiceKey;

/// So long a number is nobody's before another gets it, in seconds: workers may go by an older table for a burst, and
/// what they know of fragments lives 30 s.
const REST_S: u32 = 60;

/// Gives each service, and each real server of each service, a number that it keeps while it is configured and while a
/// flow is remembered by it: the flows of one that was removed and comes back are its own again.
#[derive(Clone, Debug, Default)]
pub struct Identities {
    services: Numbers<ServiceKey>,
    real_servers: Numbers<(ServiceKey, IpAddr)>,
}

impl Identities {
    /// The number of a service.
    pub fn service(&mut self, key: ServiceKey) -> u32 {
        self.services.of(key)
    }

    /// The number of a real server of a service.
    pub fn real_server(&mut self, service: ServiceKey, address: IpAddr) -> u32 {
        self.real_servers.of((service, address))
    }

    /// Numbers that are in use, or were so lately: of services and of real servers.
    #[must_use]
    pub fn in_use(&self) -> (usize, usize) {
        (self.services.given.len(), self.real_servers.given.len())
    }

    /// Takes note of who was not asked for since the last call, as of `now_s`, and takes back the numbers of those who
    /// have not been for a minute and for `longest_s`, for as long as a table before a change is asked, and of whose
    /// flows none is remembered any more.
    pub fn recycle(&mut self, now_s: u32, longest_s: u32, is_remembered: impl Fn(u32) -> bool) {
        let rest_s = REST_S.saturating_add(longest_s);
        self.real_servers.recycle(now_s, rest_s, |_, number| is_remembered(number));
        let mut kept: Vec<ServiceKey> = self.real_servers.given.keys().map(|(service, _)| *service).collect();
        kept.sort_unstable();
        kept.dedup();
        // A flow is known by its service's number, too, and goes to one of its real servers.
        self.services.recycle(now_s, rest_s, |service, _| kept.binary_search(service).is_ok());
    }
}

#[derive(Clone, Debug)]
struct Numbers<K> {
    given: HashMap<K, Given>,
    /// Below `given.len()` plus these, nobody's.
    free: BTreeSet<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Given {
    number: u32,
    asked_for: bool,
    gone_since_s: Option<u32>,
}

impl<K> Default for Numbers<K> {
    fn default() -> Self {
        Self { given: HashMap::new(), free: BTreeSet::new() }
    }
}

impl<K: Copy + Eq + Hash> Numbers<K> {
    fn of(&mut self, key: K) -> u32 {
        let next = u32::try_from(self.given.len() + self.free.len()).unwrap_or(u32::MAX);
        let free = &mut self.free;
        let given = self.given.entry(key).or_insert_with(|| {
            let number = free.pop_first().unwrap_or(next);
            Given { number, asked_for: true, gone_since_s: None }
        });
        given.asked_for = true;
        given.number
    }

    fn recycle(&mut self, now_s: u32, rest_s: u32, is_needed: impl Fn(&K, u32) -> bool) {
        let free = &mut self.free;
        self.given.retain(|key, given| {
            given.gone_since_s = match given.gone_since_s {
                _ if std::mem::take(&mut given.asked_for) => None,
                None => Some(now_s),
                since => since,
            };
            let rests = |since_s: u32| now_s.wrapping_sub(since_s) <= rest_s;
            let keep = given.gone_since_s.is_none_or(rests) || is_needed(key, given.number);
            if !keep {
                free.insert(given.number);
            }
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(port: u16) -> ServiceKey {
        ServiceKey { vip: IpAddr::from([192, 0, 2, 1]), protocol: crate::service::Protocol::Tcp, port }
    }

    fn server(number: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, number])
    }

    #[test]
    fn a_number_is_given_anew_when_nothing_is_remembered_by_it() {
        let mut identities = Identities::default();
        assert_eq!((identities.service(key(1)), identities.service(key(2))), (0, 1));
        assert_eq!((identities.real_server(key(1), server(1)), identities.real_server(key(2), server(1))), (0, 1));
        identities.recycle(1000, 0, |_| false);
        // The first is not asked for any more.
        let rest =
            |identities: &mut Identities| (identities.service(key(2)), identities.real_server(key(2), server(1)));
        assert_eq!(rest(&mut identities), (1, 1));
        identities.recycle(1010, 0, |_| false);
        assert_eq!(identities.real_server(key(2), server(2)), 2, "it may come back");
        for now_s in [1020, 1060] {
            rest(&mut identities);
            identities.real_server(key(2), server(2));
            identities.recycle(now_s, 0, |_| false);
            assert_eq!(identities.in_use(), (2, 3));
        }
        rest(&mut identities);
        identities.real_server(key(2), server(2));
        identities.recycle(1071, 0, |number| number == 0);
        assert_eq!(identities.in_use(), (2, 3), "a flow is remembered by it");
        rest(&mut identities);
        identities.real_server(key(2), server(2));
        identities.recycle(1071, 0, |_| false);
        assert_eq!(identities.in_use(), (1, 2));
        assert_eq!((identities.service(key(3)), identities.real_server(key(3), server(9))), (0, 0));
        assert_eq!((identities.service(key(4)), identities.real_server(key(3), server(8))), (2, 3));
    }

    #[test]
    #[expect(clippy::cast_possible_truncation, reason = "its low bytes are what is wanted")]
    fn churn_needs_no_more_numbers_than_were_there_within_the_rest() {
        let mut identities = Identities::default();
        let mut highest = 0;
        for turn in 0u32..1000 {
            for number in 0..10 {
                let address = IpAddr::from([10, (turn >> 8) as u8, turn as u8, number]);
                highest = highest.max(identities.real_server(key(1), address));
            }
            identities.service(key(1));
            identities.recycle(turn * 10, 0, |_| false);
        }
        // Seven turns rest, or eight.
        assert!(highest < 100, "{highest}");
        assert_eq!(identities.in_use().0, 1);
    }

    #[test]
    fn one_that_comes_back_is_itself() {
        let mut identities = Identities::default();
        assert_eq!(identities.real_server(key(1), server(1)), 0);
        identities.recycle(0, 300, |_| false);
        identities.recycle(10, 300, |_| false);
        identities.recycle(360, 300, |_| false);
        assert_eq!(identities.real_server(key(1), server(2)), 1);
        assert_eq!(identities.real_server(key(1), server(1)), 0);
        identities.recycle(370, 300, |_| false);
        identities.recycle(800, 300, |_| false);
        assert_eq!(identities.real_server(key(1), server(1)), 0, "gone since 800 only");
    }
}
