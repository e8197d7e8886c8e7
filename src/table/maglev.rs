//! Maglev consistent hashing (Eisenbud et al., NSDI 2016, section 3.4), with weights.
//!
//! Every real server has a permutation of the slots, made from its address and the cluster's secret alone. In rounds,
//! each server in turn claims the next slot of its permutation that is still free. With weights, a server takes part in
//! so many rounds that its turns stay proportional to its weight: after `r` rounds it has had `r * weight / heaviest`
//! of them, rounded down. What rounding down keeps back would go to the heaviest, so each server's slots are counted
//! beforehand, in proportion to its weight by the method of largest remainders, and it takes no more: every share is
//! exact to less than one slot. Servers take their turns in the order of their addresses, so the order of the configuration
//! does not matter and two directors build the same table.

use std::net::IpAddr;

use super::hash::{FlowHasher, halves};
use crate::service::address_bytes;

/// Default number of slots; prime, as the permutations demand.
pub const DEFAULT_TABLE_SIZE: u32 = 65_537;
/// The most members that one table can have: a slot holds 16 bits.
pub const MAX_MEMBERS: usize = 65_535;

/// A real server as the table sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Member {
    /// The address that its permutation is made from.
    pub address: IpAddr,
    /// Its share of the slots relative to the others; not 0.
    pub weight: u32,
}

/// A filled table: which member each slot belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maglev {
    /// Indices into the members, in the order in which they were given.
    slots: Box<[u16]>,
}

struct Permutation {
    next: u32,
    skip: u32,
    /// Slots granted so far, in units of `1 / heaviest`.
    credit: u64,
    weight: u64,
    /// Slots that it may still claim.
    quota: u32,
    member: u16,
}

impl Maglev {
    /// Fills a table of `size` slots. Members of weight 0 and those beyond [`MAX_MEMBERS`] get none; without members
    /// the table is empty.
    ///
    /// `size` must be prime for the permutations to reach every slot; one that is not is filled all the same, by
    /// walking on from where a permutation closes, but less evenly.
    pub fn build(members: &[Member], size: u32, hasher: &FlowHasher) -> Self {
        let mut permutations = permutations(members, size, hasher);
        let heaviest = permutations.iter().map(|p| p.weight).max().unwrap_or(0);
        if heaviest == 0 || size < 2 {
            let only = permutations.first().map(|p| p.member);
            return Self {
                slots: only.into_iter().cycle().take(if only.is_some() { size as usize } else { 0 }).collect(),
            };
        }
        set_quotas(&mut permutations, size);
        let mut slots = vec![0u16; size as usize].into_boxed_slice();
        let mut taken = Taken::new(size);
        let mut free = size;
        loop {
            let free_before = free;
            for permutation in &mut permutations {
                permutation.credit += permutation.weight;
                if permutation.credit < heaviest || permutation.quota == 0 {
                    continue;
                }
                permutation.credit -= heaviest;
                permutation.quota -= 1;
                let slot = taken.claim_next(permutation, size);
                slots[slot as usize] = permutation.member;
                free -= 1;
                if free == 0 {
                    return Self { slots };
                }
            }
            if free == free_before {
                // At the end only those are left that wait long for a turn: it comes at once.
                permutations.iter_mut().for_each(|permutation| permutation.credit += heaviest);
            }
        }
    }

    /// Fills a table of `size` slots in blocks, for source hashing: in the order of addresses, each member has as many
    /// slots side by side as its weight gives it. Members of weight 0 get none.
    pub fn in_blocks(members: &[Member], size: u32) -> Self {
        let mut order: Vec<(u16, &Member)> = (0..u16::MAX).zip(members).filter(|(_, m)| m.weight > 0).collect();
        order.sort_by_key(|(_, member)| member.address);
        let weights: Vec<u64> = order.iter().map(|(_, member)| u64::from(member.weight)).collect();
        let blocks = order.into_iter().zip(quotas(&weights, size));
        Self { slots: blocks.flat_map(|((index, _), quota)| std::iter::repeat_n(index, quota as usize)).collect() }
    }

    /// Number of slots; 0 without members.
    pub fn size(&self) -> usize {
        self.slots.len()
    }

    /// The slot of a hash: its upper bits scaled to the table's size. `None` in an empty table.
    #[inline]
    pub fn slot(&self, hash: u64) -> Option<usize> {
        let (slot, _) = halves(u128::from(hash) * self.slots.len() as u128);
        if self.slots.is_empty() { None } else { usize::try_from(slot).ok() }
    }

    /// The member that a slot belongs to; `None` behind the last slot.
    #[inline]
    pub fn member(&self, slot: usize) -> Option<u16> {
        self.slots.get(slot).copied()
    }

    /// The slots from `slot` on, round to the one before it, with their members.
    pub fn walk_from(&self, slot: usize) -> impl Iterator<Item = u16> + '_ {
        let (before, from) = self.slots.split_at(slot.min(self.slots.len()));
        from.iter().chain(before).copied()
    }

    /// How many slots each of `members` members has.
    pub fn shares(&self, members: usize) -> Vec<u32> {
        let mut shares = vec![0; members];
        for &member in &self.slots {
            if let Some(share) = shares.get_mut(usize::from(member)) {
                *share += 1;
            }
        }
        shares
    }

    /// The members by slot.
    pub fn slots(&self) -> &[u16] {
        &self.slots
    }
}

/// One permutation per member with weight, in the order of addresses.
fn permutations(members: &[Member], size: u32, hasher: &FlowHasher) -> Vec<Permutation> {
    let mut order: Vec<(u16, &Member)> = (0..u16::MAX).zip(members).filter(|(_, m)| m.weight > 0).collect();
    order.sort_by_key(|(_, member)| member.address);
    let size = u64::from(size.max(2));
    order
        .into_iter()
        .map(|(index, member)| {
            let hash = hasher.bytes(&address_bytes(member.address));
            let (offset, skip) = (hash % size, hasher.again(hash, 1) % (size - 1) + 1);
            Permutation {
                // Both are below `size`, which fits.
                next: u32::try_from(offset).unwrap_or(0),
                skip: u32::try_from(skip).unwrap_or(1),
                credit: 0,
                weight: u64::from(member.weight),
                quota: 0,
                member: index,
            }
        })
        .collect()
}

/// Gives each member the number of slots that it may claim.
fn set_quotas(permutations: &mut [Permutation], size: u32) {
    let weights: Vec<u64> = permutations.iter().map(|permutation| permutation.weight).collect();
    permutations.iter_mut().zip(quotas(&weights, size)).for_each(|(permutation, quota)| permutation.quota = quota);
}

/// Divides `size` slots by weight. What whole slots leave over goes to the largest remainders, of equal ones to the
/// first. The weights must not all be 0.
fn quotas(weights: &[u64], size: u32) -> Vec<u32> {
    let total: u64 = weights.iter().sum();
    let mut left = size;
    let mut remainders = Vec::with_capacity(weights.len());
    let mut quotas = Vec::with_capacity(weights.len());
    for (at, weight) in weights.iter().enumerate() {
        // Both factors are 32 bits long, and the quotient is at most `size`.
        let product = u64::from(size) * weight;
        let quota = u32::try_from(product / total).unwrap_or(size);
        left -= quota;
        quotas.push(quota);
        remainders.push((product % total, at));
    }
    remainders.sort_unstable_by_key(|(remainder, at)| (std::cmp::Reverse(*remainder), *at));
    for (_, at) in remainders.into_iter().take(left as usize) {
        quotas[at] += 1;
    }
    quotas
}

/// Which slots are taken: a bit each, so that the whole of it stays in the first-level cache while the table fills.
struct Taken {
    words: Box<[u64]>,
}

impl Taken {
    fn new(size: u32) -> Self {
        Self { words: vec![0; (size as usize).div_ceil(64)].into_boxed_slice() }
    }

    /// Claims the next free slot of the permutation and moves it on. There must be a free slot.
    #[inline]
    fn claim_next(&mut self, permutation: &mut Permutation, size: u32) -> u32 {
        let mut slot = permutation.next;
        let start = slot;
        while self.is_taken(slot) {
            slot = step(slot, permutation.skip, size);
            if slot == start {
                // Only where the size is not prime does a permutation close early: go on one further.
                slot = step(slot, 1, size);
                while self.is_taken(slot) {
                    slot = step(slot, 1, size);
                }
            }
        }
        self.words[slot as usize / 64] |= 1 << (slot % 64);
        permutation.next = step(slot, permutation.skip, size);
        slot
    }

    #[inline]
    fn is_taken(&self, slot: u32) -> bool {
        self.words[slot as usize / 64] >> (slot % 64) & 1 == 1
    }
}

#[inline]
fn step(slot: u32, by: u32, size: u32) -> u32 {
    // Both are below `size`, so what is left of it tells whether the sum would pass it.
    let left = size - slot;
    if by >= left { by - left } else { slot + by }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    fn member(number: u32, weight: u32) -> Member {
        Member { address: Ipv4Addr::from(0x0a00_0000 + number).into(), weight }
    }

    fn hasher() -> FlowHasher {
        FlowHasher::new("a secret")
    }

    fn build(members: &[Member], size: u32) -> Maglev {
        Maglev::build(members, size, &hasher())
    }

    fn prime() -> impl Strategy<Value = u32> {
        prop::sample::select(vec![2u32, 3, 13, 251, 1021, 4093, 65_537])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_slot_is_filled_and_shares_follow_weights(
            weights in prop::collection::vec(0u32..100, 1..60),
            size in prime(),
        ) {
            let members: Vec<_> = (0..).zip(&weights).map(|(i, &w)| member(i, w)).collect();
            let table = build(&members, size);
            let total: u32 = weights.iter().sum();
            if total == 0 {
                prop_assert_eq!(table.size(), 0);
                prop_assert_eq!(table.slot(!0), None);
                return Ok(());
            }
            prop_assert_eq!(table.size(), size as usize);
            let shares = table.shares(members.len());
            prop_assert_eq!(shares.iter().sum::<u32>(), size);
            for (share, &weight) in shares.iter().zip(&weights) {
                let exact = f64::from(size) * f64::from(weight) / f64::from(total);
                prop_assert!((f64::from(*share) - exact).abs() < 1.0, "{} of {} for {}", share, exact, weight);
            }
        }

        #[test]
        fn the_order_of_members_does_not_matter(
            weights in prop::collection::vec(1u32..10, 2..40).prop_shuffle(),
            seed: prop::sample::Index,
        ) {
            let members: Vec<_> = (0..).zip(&weights).map(|(i, &w)| member(i, w)).collect();
            let mut turned = members.clone();
            turned.rotate_left(seed.index(members.len()));
            let (a, b) = (build(&members, 4093), build(&turned, 4093));
            let owner = |t: &Maglev, m: &[Member], slot| m[usize::from(t.member(slot).unwrap())].address;
            for slot in 0..4093 {
                prop_assert_eq!(owner(&a, &members, slot), owner(&b, &turned, slot));
            }
        }

        #[test]
        fn the_slot_of_any_hash_is_in_the_table(hash: u64, size in prime()) {
            let table = build(&[member(1, 1)], size);
            prop_assert!(table.slot(hash).unwrap() < size as usize);
        }

        #[test]
        fn any_size_is_filled(size in 0u32..2000, weights in prop::collection::vec(0u32..5, 0..9)) {
            let members: Vec<_> = (0..).zip(&weights).map(|(i, &w)| member(i, w)).collect();
            let filled = build(&members, size).size();
            let expected = if weights.iter().any(|w| *w > 0) { size as usize } else { 0 };
            prop_assert_eq!(filled, expected);
        }
    }

    #[test]
    fn removing_one_of_a_hundred_moves_under_one_percent_of_the_others_slots() {
        let members: Vec<_> = (0..100).map(|i| member(i, 1)).collect();
        let before = build(&members, DEFAULT_TABLE_SIZE);
        for gone in [0, 17, 99] {
            let mut left = members.clone();
            let removed = left.remove(gone);
            let after = build(&left, DEFAULT_TABLE_SIZE);
            let moved = (0..before.size())
                .filter(|&slot| {
                    let owner = members[usize::from(before.member(slot).unwrap())];
                    owner != removed && owner != left[usize::from(after.member(slot).unwrap())]
                })
                .count();
            assert!(moved * 100 < before.size(), "{moved} slots moved that did not belong to the removed");
        }
    }

    #[test]
    fn twice_the_weight_is_twice_the_slots_within_a_percent() {
        // 100 slots per unit of weight.
        let members: Vec<_> = (0..14).map(|i| member(i, 1 + i % 2)).collect();
        let table = build(&members, 2111);
        for (share, member) in table.shares(members.len()).iter().zip(&members) {
            let per_weight = f64::from(*share) / f64::from(member.weight);
            assert!((per_weight / (2111.0 / 21.0) - 1.0).abs() < 0.01, "{share} slots for weight {}", member.weight);
        }
    }

    #[test]
    fn members_beyond_the_most_have_no_slots() {
        let members: Vec<_> = (0..65_537).map(|i| member(i, 1)).collect();
        let shares = build(&members, 131_101).shares(members.len());
        assert!(shares[..MAX_MEMBERS].iter().all(|share| *share >= 2));
        assert_eq!(shares[MAX_MEMBERS..], [0, 0]);
    }

    #[test]
    fn two_secrets_give_two_tables() {
        let members: Vec<_> = (0..10).map(|i| member(i, 1)).collect();
        let other = Maglev::build(&members, 4093, &FlowHasher::new("another"));
        assert_ne!(build(&members, 4093), other);
    }
}
