//! What single bursts cost: a distribution of their cycles that one thread writes while others read.
//!
//! A mean is no measure of what bursts of a size usually cost: one that was interrupted for a millisecond outweighs a hundred
//! that were not. Buckets are eight to an octave, so that a value is known to one part in eight or better.

use super::Counter;

/// Buckets of an octave.
const PER_OCTAVE: usize = 1 << PER_OCTAVE_BITS;
const PER_OCTAVE_BITS: u32 = 3;
/// What is below 2^8 cycles is in the first bucket, what is above 2^28 in the last.
const LEAST_BITS: u32 = 8;
const MOST_BITS: u32 = 28;
const BUCKETS: usize = ((MOST_BITS - LEAST_BITS) as usize) * PER_OCTAVE;

/// Counts of bursts by their cycles. One writer, any number of readers.
#[derive(Debug)]
pub struct BurstCosts {
    counts: Box<[Counter]>,
}

impl Default for BurstCosts {
    fn default() -> Self {
        Self { counts: (0..BUCKETS).map(|_| Counter::default()).collect() }
    }
}

impl BurstCosts {
    /// Counts a burst of so many cycles. Only the owning thread may call this.
    #[inline]
    pub fn record(&self, cycles: u64) {
        if let Some(count) = self.counts.get(index_of(cycles)) {
            count.add(1);
        }
    }

    /// Fewest and most cycles of each bucket that has bursts, inclusive, and how many it has.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64, u64)> + '_ {
        let counts = self.counts.iter().map(Counter::get).enumerate();
        counts.filter(|(_, count)| *count > 0).map(|(at, count)| {
            let from = if at == 0 { 0 } else { lowest_of(at) };
            let to = if at + 1 == BUCKETS { u64::MAX } else { lowest_of(at + 1) - 1 };
            (from, to, count)
        })
    }
}

#[inline]
fn index_of(cycles: u64) -> usize {
    let cycles = cycles.clamp(1 << LEAST_BITS, (1 << MOST_BITS) - 1);
    let octave = cycles.ilog2();
    let within = (cycles >> (octave - PER_OCTAVE_BITS)) as usize & (PER_OCTAVE - 1);
    (octave - LEAST_BITS) as usize * PER_OCTAVE + within
}

fn lowest_of(index: usize) -> u64 {
    let (octave, within) = (index / PER_OCTAVE, index % PER_OCTAVE);
    ((PER_OCTAVE + within) as u64) << (octave + (LEAST_BITS - PER_OCTAVE_BITS) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Each value is in the one bucket that says so, which is no wider than an eighth of what it begins with.
        #[test]
        fn a_value_is_in_its_bucket(cycles in prop_oneof![any::<u64>(), 0..1u64 << 30, 0..1024u64]) {
            let costs = BurstCosts::default();
            costs.record(cycles);
            costs.record(cycles);
            let found: Vec<_> = costs.buckets().collect();
            prop_assert_eq!(found.len(), 1);
            let (from, to, count) = found[0];
            prop_assert_eq!(count, 2);
            prop_assert!((from..=to).contains(&cycles));
            if (1 << LEAST_BITS..1 << MOST_BITS).contains(&cycles) && to != u64::MAX && from > 0 {
                prop_assert!(to - from < from / 8, "{} to {}", from, to);
            }
        }
    }

    #[test]
    fn buckets_meet() {
        let costs = BurstCosts::default();
        (0..BUCKETS).for_each(|at| costs.record(lowest_of(at)));
        let found: Vec<_> = costs.buckets().collect();
        assert_eq!(found.len(), BUCKETS);
        assert_eq!((found[0].0, found[BUCKETS - 1].1), (0, u64::MAX));
        for pair in found.windows(2) {
            assert_eq!(pair[0].1 + 1, pair[1].0);
        }
    }
}
