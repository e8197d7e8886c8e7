//! A latency histogram that one thread writes while others read.
//!
//! The buckets are those of HdrHistogram at three significant digits: 2,048 linear sub-buckets, whose width doubles
//! with each power of two above. Counts are exact; a value is known to one part in 1,024 or better.

use hdrhistogram::Histogram;

use super::Counter;

/// Significant decimal digits of a value.
pub const SIGNIFICANT_DIGITS: u8 = 3;
/// The largest value that is told apart, about 68 seconds; what is above is counted as this.
pub const MAX_NS: u64 = (1 << 36) - 1;

const SUB_BUCKETS: usize = 2048;
const HALF: usize = SUB_BUCKETS / 2;
const SUB_BUCKET_BITS: u32 = 11;
/// Powers of two from 2^11 to 2^35, half a set of sub-buckets each, behind the first full set.
const BUCKETS: usize = SUB_BUCKETS + 25 * HALF;

/// Counts of values in nanoseconds. One writer, any number of readers.
#[derive(Debug)]
pub struct LatencyHistogram {
    counts: Box<[Counter]>,
    total_ns: Counter,
    min_complement_ns: Counter,
    max_ns: Counter,
}

impl Default for LatencyHistogram {
    fn default() -> Self {
        Self {
            counts: (0..BUCKETS).map(|_| Counter::default()).collect(),
            total_ns: Counter::default(),
            min_complement_ns: Counter::default(),
            max_ns: Counter::default(),
        }
    }
}

impl LatencyHistogram {
    /// Counts each of these values. Only the owning thread may call this.
    #[inline]
    pub fn record_all(&self, values_ns: impl Iterator<Item = u64>) {
        let mut sums = Sums::default();
        for value_ns in values_ns {
            self.count(value_ns, 1);
            sums.add(value_ns, 1);
        }
        self.note(&sums);
    }

    /// Counts each of these values, and in `later` the same with `more_ns` added to each. Only the owning thread of both may
    /// call this.
    #[inline]
    pub fn record_with_later(&self, later: &Self, more_ns: u64, values_ns: impl Iterator<Item = u64>) {
        let (mut sums, mut all) = (Sums::default(), 0u64);
        for value_ns in values_ns {
            self.count(value_ns, 1);
            later.count(value_ns.wrapping_add(more_ns), 1);
            sums.add(value_ns, 1);
            all += 1;
        }
        self.note(&sums);
        if all > 0 {
            later.note(&sums.later(all, more_ns));
        }
    }

    /// Counts a value that `times` frames share. Only the owning thread may call this.
    #[inline]
    pub fn record_n(&self, value_ns: u64, times: u64) {
        if times > 0 {
            self.count(value_ns, times);
            let mut sums = Sums::default();
            sums.add(value_ns, times);
            self.note(&sums);
        }
    }

    /// Counts each of these values, of which most are the same as the one before. Returns how many there were. Only the
    /// owning thread may call this.
    #[inline]
    pub fn record_runs(&self, values_ns: impl Iterator<Item = u64>) -> u64 {
        let mut sums = Sums::default();
        let (mut all, mut run, mut run_ns) = (0, 0, 0);
        for value_ns in values_ns {
            all += 1;
            if value_ns != run_ns {
                self.end_run(run_ns, run, &mut sums);
                (run, run_ns) = (0, value_ns);
            }
            run += 1;
        }
        self.end_run(run_ns, run, &mut sums);
        self.note(&sums);
        all
    }

    #[inline]
    fn end_run(&self, value_ns: u64, times: u64, sums: &mut Sums) {
        if times > 0 {
            self.count(value_ns, times);
            sums.add(value_ns, times);
        }
    }

    #[inline]
    fn count(&self, value_ns: u64, times: u64) {
        if let Some(count) = self.counts.get(index_of(value_ns.min(MAX_NS))) {
            count.add(times);
        }
    }

    #[inline]
    fn note(&self, sums: &Sums) {
        self.total_ns.add(sums.total_ns);
        if sums.max_ns > self.max_ns.get() {
            self.max_ns.set(sums.max_ns);
        }
        // Kept as a complement, so that the start value of 0 says "none yet".
        if sums.min_complement_ns > self.min_complement_ns.get() {
            self.min_complement_ns.set(sums.min_complement_ns);
        }
    }

    /// The sum of all values, for an exact mean, in nanoseconds.
    pub fn total_ns(&self) -> u64 {
        self.total_ns.get()
    }

    /// The smallest and the largest value recorded, exact; `None` before the first.
    pub fn extremes_ns(&self) -> Option<(u64, u64)> {
        match self.min_complement_ns.get() {
            0 => None,
            complement => Some((!complement, self.max_ns.get())),
        }
    }

    /// A copy of the counts as an HdrHistogram of [`SIGNIFICANT_DIGITS`].
    ///
    /// # Errors
    /// What HdrHistogram says, if it refused a bound or a value.
    pub fn snapshot(&self) -> Result<Histogram<u64>, SnapshotError> {
        let mut histogram = Histogram::new_with_bounds(1, MAX_NS, SIGNIFICANT_DIGITS)?;
        for (index, count) in self.counts.iter().enumerate() {
            let count = count.get();
            if count > 0 {
                histogram.record_n(value_of(index), count)?;
            }
        }
        Ok(histogram)
    }
}

/// What a burst adds to the sums of a histogram.
#[derive(Default)]
struct Sums {
    total_ns: u64,
    max_ns: u64,
    min_complement_ns: u64,
}

impl Sums {
    #[inline]
    fn add(&mut self, value_ns: u64, times: u64) {
        self.total_ns = self.total_ns.wrapping_add(value_ns.wrapping_mul(times));
        self.max_ns = value_ns.max(self.max_ns);
        self.min_complement_ns = (!value_ns).max(self.min_complement_ns);
    }

    /// The sums of the same values with `more_ns` added to each of them.
    fn later(&self, times: u64, more_ns: u64) -> Self {
        Self {
            total_ns: self.total_ns.wrapping_add(more_ns.wrapping_mul(times)),
            max_ns: self.max_ns.saturating_add(more_ns),
            min_complement_ns: self.min_complement_ns.saturating_sub(more_ns),
        }
    }
}

/// HdrHistogram refused what was recorded.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The bounds.
    #[error("cannot make a latency histogram: {0}")]
    Bounds(#[from] hdrhistogram::CreationError),
    /// A value.
    #[error("cannot copy a latency histogram: {0}")]
    Value(#[from] hdrhistogram::RecordError),
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "what is left of the value after the shift is at most 2,047")]
fn index_of(value: u64) -> usize {
    let above = (64 - SUB_BUCKET_BITS).saturating_sub(value.leading_zeros());
    above as usize * HALF + (value >> above) as usize
}

/// The lowest value of a bucket.
fn value_of(index: usize) -> u64 {
    if index < SUB_BUCKETS {
        return index as u64;
    }
    let above = index / HALF - 1;
    ((index - above * HALF) as u64) << above
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_hdrhistogram(values in prop::collection::vec(prop_oneof![0u64..5000, 0u64..=MAX_NS], 1..200)) {
            let [ours, sooner] = [(); 2].map(|()| LatencyHistogram::default());
            let more_ns = values[0] / 2;
            let mut theirs = Histogram::<u64>::new_with_bounds(1, MAX_NS, SIGNIFICANT_DIGITS).unwrap();
            for burst in values.chunks(7) {
                sooner.record_with_later(&ours, more_ns, burst.iter().map(|value| value.saturating_sub(more_ns)));
            }
            let values: Vec<u64> = values.iter().map(|value| value.saturating_sub(more_ns) + more_ns).collect();
            for &value in &values {
                theirs.record(value).unwrap();
            }
            let snapshot = ours.snapshot().unwrap();
            prop_assert_eq!(snapshot.len(), theirs.len());
            for quantile in [0.0, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0] {
                prop_assert_eq!(snapshot.value_at_quantile(quantile), theirs.value_at_quantile(quantile));
            }
            prop_assert_eq!(ours.total_ns(), values.iter().sum::<u64>());
            let extremes = (*values.iter().min().unwrap(), *values.iter().max().unwrap());
            prop_assert_eq!(ours.extremes_ns(), Some(extremes));
        }
    }

    proptest! {
        #[test]
        fn runs_are_counted_as_their_values_one_by_one(runs in prop::collection::vec((0u64..4, 0u64..9), 0..40)) {
            let [by_runs, by_number, one_by_one] = [(); 3].map(|()| LatencyHistogram::default());
            let values: Vec<u64> = runs
                .iter()
                .flat_map(|&(value, times)| std::iter::repeat_n(value * 1_000, usize::try_from(times).unwrap()))
                .collect();
            prop_assert_eq!(by_runs.record_runs(values.iter().copied()), values.len() as u64);
            runs.iter().for_each(|&(value, times)| by_number.record_n(value * 1_000, times));
            values.iter().for_each(|&value| one_by_one.record_all(std::iter::once(value)));
            for histogram in [by_runs, by_number] {
                prop_assert_eq!(histogram.snapshot().unwrap(), one_by_one.snapshot().unwrap());
                prop_assert_eq!(histogram.total_ns(), one_by_one.total_ns());
                prop_assert_eq!(histogram.extremes_ns(), one_by_one.extremes_ns());
            }
        }
    }

    #[test]
    fn what_is_above_the_range_is_counted_at_its_end() {
        let histogram = LatencyHistogram::default();
        assert_eq!(histogram.extremes_ns(), None);
        histogram.record_all(std::iter::once(u64::MAX >> 1));
        assert_eq!(histogram.snapshot().unwrap().len(), 1);
        assert_eq!(histogram.extremes_ns().unwrap().1, u64::MAX >> 1);
    }
}
