//! What single bursts of about one size took, and what they usually do.

use std::collections::BTreeMap;

use crate::stats::report::CycleBucket;

/// How many bursts took how many cycles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BurstCycles {
    /// By the fewest cycles of a bucket: the most cycles, and the number of bursts.
    buckets: BTreeMap<u64, (u64, u64)>,
}

impl BurstCycles {
    /// Those of a document.
    pub fn of(buckets: &[CycleBucket]) -> Self {
        let mut all = Self::default();
        for bucket in buckets {
            all.add(bucket.from_cycles, bucket.to_cycles.unwrap_or(bucket.from_cycles), bucket.count);
        }
        all
    }

    /// Those that came since `earlier`, a reading of the same counters.
    #[must_use]
    pub fn since(mut self, earlier: &Self) -> Self {
        for (from, (_, count)) in &mut self.buckets {
            *count = count.saturating_sub(earlier.buckets.get(from).map_or(0, |(_, count)| *count));
        }
        self.buckets.retain(|_, (_, count)| *count > 0);
        self
    }

    /// Adds those of another worker.
    pub fn merge(&mut self, other: &Self) {
        for (from, (to, count)) in &other.buckets {
            self.add(*from, *to, *count);
        }
    }

    fn add(&mut self, from: u64, to: u64, count: u64) {
        if count > 0 {
            let bucket = self.buckets.entry(from).or_insert((to.max(from), 0));
            bucket.1 = bucket.1.saturating_add(count);
        }
    }

    /// Half of them took less. `None` without a burst.
    pub fn median(&self) -> Option<f64> {
        let half = self.buckets.values().map(|(_, count)| *count as f64).sum::<f64>() / 2.0;
        let mut below = 0.0;
        for (from, (to, count)) in &self.buckets {
            let count = *count as f64;
            if below + count >= half {
                // As if they were spread evenly over the bucket.
                return Some(*from as f64 + (*to as f64 + 1.0 - *from as f64) * (half - below) / count);
            }
            below += count;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::burst_cost::BurstCosts;
    use proptest::prelude::*;

    fn of(values: &[u64]) -> BurstCycles {
        let costs = BurstCosts::default();
        values.iter().for_each(|value| costs.record(*value));
        BurstCycles::of(&costs.buckets().map(CycleBucket::of).collect::<Vec<_>>())
    }

    #[test]
    fn nothing_has_no_median() {
        assert_eq!(BurstCycles::default().median(), None);
        assert_eq!(of(&[5000]).since(&of(&[5000])).median(), None);
    }

    proptest! {
        /// The median of what was counted is that of the values, as near as buckets tell.
        #[test]
        fn a_median_is_that_of_the_values(mut values in prop::collection::vec(300..1u64 << 27, 1..200)) {
            let found = of(&values).median().unwrap();
            values.sort_unstable();
            let (low, high) = (values[(values.len() - 1) / 2] as f64, values[values.len() / 2] as f64);
            prop_assert!(found >= low / 1.13 && found <= high * 1.13, "{found} of {low} to {high}");
        }

        /// Some that took very long do not move it, as they would a mean.
        #[test]
        fn interruptions_do_not_move_it(usual in 1_000..100_000u64, often in 50..200usize) {
            let mut values = vec![usual; often];
            let without = of(&values).median().unwrap();
            values.extend(vec![usual * 1000; often / 10]);
            let with = of(&values).median().unwrap();
            prop_assert!((with / without - 1.0).abs() < 0.13);
        }

        /// What was counted before the run is not of it; two workers' bursts are one distribution.
        #[test]
        fn differences_and_sums_are_exact(
            early in prop::collection::vec(any::<u64>(), 0..50),
            late in prop::collection::vec(any::<u64>(), 0..50),
        ) {
            let both: Vec<u64> = early.iter().chain(&late).copied().collect();
            prop_assert_eq!(of(&both).since(&of(&early)), of(&late));
            let mut sum = of(&early);
            sum.merge(&of(&late));
            prop_assert_eq!(sum, of(&both));
        }
    }
}
