//! From latency histograms to what the statistics document says of them.

use hdrhistogram::{AdditionError, Histogram};

use super::report::{Latency, LatencyBucket};
use crate::counters::WorkerCounters;
use crate::counters::latency::{LatencyHistogram, MAX_NS, SIGNIFICANT_DIGITS, SnapshotError};

/// What was read of the times of one worker's frames, or of several workers'.
#[derive(Clone, Debug)]
pub(super) struct Times {
    /// XDP hook to TX ring.
    pub(super) total: LatencyReading,
    /// XDP hook to user space.
    pub(super) queueing: LatencyReading,
    /// User space to TX ring.
    pub(super) processing: LatencyReading,
    /// TX ring to completion.
    pub(super) completion: LatencyReading,
}

impl Times {
    /// Reads a worker's histograms.
    pub(super) fn of(counters: &WorkerCounters) -> Result<Self, SnapshotError> {
        // A frame is counted by these from the last to the first.
        Ok(Self {
            completion: LatencyReading::of(&counters.completion)?,
            total: LatencyReading::of(&counters.latency)?,
            queueing: LatencyReading::of(&counters.queueing)?,
            processing: LatencyReading::of(&counters.processing)?,
        })
    }

    /// Of no frame.
    pub(super) fn none() -> Result<Self, SnapshotError> {
        let none = LatencyReading::of(&LatencyHistogram::default())?;
        Ok(Self { total: none.clone(), queueing: none.clone(), processing: none.clone(), completion: none })
    }

    /// Adds another worker's.
    pub(super) fn add(&mut self, other: &Self) -> Result<(), AdditionError> {
        self.total.add(&other.total)?;
        self.queueing.add(&other.queueing)?;
        self.processing.add(&other.processing)?;
        self.completion.add(&other.completion)
    }
}

/// A document's histogram has other buckets than this program's, or counts that do not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a histogram in the document has buckets that this version does not have: read it with the version that made it"
)]
pub struct ForeignBuckets;

/// The HdrHistogram that a document's buckets are of. The counts are the same to the last.
///
/// # Errors
/// [`ForeignBuckets`].
pub(super) fn histogram_of(count: u64, buckets: &[LatencyBucket]) -> Result<Histogram<u64>, ForeignBuckets> {
    let mut histogram = Histogram::new_with_bounds(1, MAX_NS, SIGNIFICANT_DIGITS).map_err(|_| ForeignBuckets)?;
    for &LatencyBucket { from_ns, to_ns, count } in buckets {
        let fits = to_ns <= MAX_NS
            && histogram.lowest_equivalent(from_ns) == from_ns
            && histogram.highest_equivalent(from_ns) == to_ns;
        if !fits {
            return Err(ForeignBuckets);
        }
        histogram.record_n(from_ns, count).map_err(|_| ForeignBuckets)?;
    }
    if histogram.len() == count { Ok(histogram) } else { Err(ForeignBuckets) }
}

/// What was read of one latency histogram, or of several.
#[derive(Clone, Debug)]
pub(crate) struct LatencyReading {
    histogram: Histogram<u64>,
    total_ns: u128,
    extremes_ns: Option<(u64, u64)>,
}

impl LatencyReading {
    /// Reads a worker's histogram.
    pub(crate) fn of(source: &LatencyHistogram) -> Result<Self, SnapshotError> {
        Ok(Self {
            total_ns: u128::from(source.total_ns()),
            extremes_ns: source.extremes_ns(),
            histogram: source.snapshot()?,
        })
    }

    /// Reads a document's. `sum` is its exact sum of all values.
    ///
    /// # Errors
    /// [`ForeignBuckets`].
    pub(super) fn of_buckets(
        count: u64,
        buckets: &[LatencyBucket],
        sum: u64,
        extremes_ns: Option<(u64, u64)>,
    ) -> Result<Self, ForeignBuckets> {
        Ok(Self { histogram: histogram_of(count, buckets)?, total_ns: u128::from(sum), extremes_ns })
    }

    /// Of no frame.
    pub(super) fn none() -> Result<Self, ForeignBuckets> {
        Self::of_buckets(0, &[], 0, None)
    }

    /// Adds what was read of another.
    pub(super) fn add(&mut self, other: &Self) -> Result<(), AdditionError> {
        self.histogram.add(&other.histogram)?;
        self.total_ns += other.total_ns;
        self.extremes_ns = match (self.extremes_ns, other.extremes_ns) {
            (Some((min, max)), Some((other_min, other_max))) => Some((min.min(other_min), max.max(other_max))),
            (one, another) => one.or(another),
        };
        Ok(())
    }

    /// What the document says.
    pub(crate) fn report(&self) -> Latency {
        let count = self.histogram.len();
        // The writer may have counted its first value and not yet noted it as the smallest.
        let extremes = self.extremes_ns.unwrap_or((self.histogram.min(), self.histogram.max()));
        let (min, max) = (extremes.0.min(extremes.1), extremes.1);
        let some = |value: u64| (count > 0).then_some(value);
        // A bucket's upper end may lie beyond the largest value there was.
        let percentile = |quantile| some(self.histogram.value_at_quantile(quantile).max(min).min(max));
        Latency {
            unit: "ns".to_owned(),
            significant_digits: SIGNIFICANT_DIGITS,
            count,
            #[expect(clippy::cast_possible_truncation, reason = "it wraps, as the sum of one worker does")]
            sum: self.total_ns as u64,
            min: some(min),
            mean: (count > 0).then(|| self.total_ns as f64 / count as f64),
            p50: percentile(0.5),
            p90: percentile(0.9),
            p99: percentile(0.99),
            p99_9: percentile(0.999),
            p99_99: percentile(0.9999),
            max: some(max),
            buckets: self.buckets(),
        }
    }

    fn buckets(&self) -> Vec<LatencyBucket> {
        self.histogram
            .iter_recorded()
            .map(|bucket| {
                let value = bucket.value_iterated_to();
                LatencyBucket {
                    from_ns: self.histogram.lowest_equivalent(value),
                    to_ns: self.histogram.highest_equivalent(value),
                    count: bucket.count_at_value(),
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn exact(sorted: &[u64], per_ten_thousand: usize) -> u64 {
        let rank = (per_ten_thousand * sorted.len()).div_ceil(10_000);
        sorted[rank.clamp(1, sorted.len()) - 1]
    }

    proptest! {
        #[test]
        fn the_merged_summary_is_that_of_all_values(
            workers in prop::collection::vec(prop::collection::vec(0u64..2_000_000, 0..120), 1..4)
        ) {
            let mut merged: Option<LatencyReading> = None;
            for values in &workers {
                let histogram = LatencyHistogram::default();
                histogram.record_all(values.iter().copied());
                let reading = LatencyReading::of(&histogram).unwrap();
                match &mut merged {
                    None => merged = Some(reading),
                    Some(merged) => merged.add(&reading).unwrap(),
                }
            }
            let report = merged.unwrap().report();
            let mut all: Vec<u64> = workers.concat();
            all.sort_unstable();
            prop_assert_eq!(report.count, all.len() as u64);
            prop_assert_eq!(report.min, all.first().copied());
            prop_assert_eq!(report.max, all.last().copied());
            prop_assert_eq!(report.buckets.iter().map(|bucket| bucket.count).sum::<u64>(), report.count);
            for bucket in &report.buckets {
                let inside = all.iter().filter(|value| (bucket.from_ns..=bucket.to_ns).contains(*value)).count();
                prop_assert_eq!(bucket.count, inside as u64);
            }
            if all.is_empty() {
                prop_assert_eq!((report.mean, report.p50), (None, None));
                return Ok(());
            }
            let mean = all.iter().sum::<u64>() as f64 / all.len() as f64;
            prop_assert!((report.mean.unwrap() - mean).abs() < 1e-6);
            for (quantile, value) in [(5000, report.p50), (9000, report.p90), (9900, report.p99), (9999, report.p99_99)] {
                let (exact, value) = (exact(&all, quantile), value.unwrap());
                // A value is known to three digits.
                prop_assert!(value >= exact && (value - exact) as f64 <= exact as f64 / 1000.0 + 1.0,
                    "p{} is {} and not {}", quantile, value, exact);
            }
        }
    }
}
