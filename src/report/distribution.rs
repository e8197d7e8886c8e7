//! Distributions of times.

use super::document::{Bucket, Latency, Totals};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// From the XDP hook to the TX ring.
    Total,
    /// From the XDP hook to user space.
    Queueing,
    /// From user space to the TX ring.
    Processing,
    /// From the TX ring to its completion.
    Completion,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Total, Self::Queueing, Self::Processing, Self::Completion];

    /// As in names of files.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Queueing => "queueing",
            Self::Processing => "processing",
            Self::Completion => "completion",
        }
    }

    /// What it is, for people.
    pub(crate) const fn meaning(self) -> &'static str {
        match self {
            Self::Total => "total: XDP hook to TX ring",
            Self::Queueing => "queueing: XDP hook to user space",
            Self::Processing => "processing: user space to TX ring",
            Self::Completion => "completion: TX ring to sent",
        }
    }

    const fn of(self, totals: &Totals) -> Option<&Latency> {
        match self {
            Self::Total => totals.latency.as_ref(),
            Self::Queueing => totals.queueing.as_ref(),
            Self::Processing => totals.processing.as_ref(),
            Self::Completion => totals.completion.as_ref(),
        }
    }
}

/// How often a time took how long.
#[derive(Clone, Debug)]
pub(crate) struct Distribution {
    pub(crate) count: u64,
    /// The smallest; the lower end of its bucket where it is not known exactly.
    pub(crate) min: u64,
    pub(crate) mean: f64,
    /// The largest; the upper end of its bucket where it is not known exactly.
    pub(crate) max: u64,
    buckets: Vec<Bucket>,
}

/// What a run's documents say of one kind of time.
#[derive(Clone, Debug)]
pub(crate) enum Known {
    /// The program that wrote them did not measure it.
    No,
    /// There was nothing to measure.
    Empty,
    /// This.
    Yes(Distribution),
}

impl Known {
    /// What came between two documents, or up to the last.
    pub(crate) fn between(kind: Kind, first: Option<&Totals>, last: &Totals) -> Self {
        let Some(last) = kind.of(last) else { return Self::No };
        let distribution = match first.and_then(|first| kind.of(first)) {
            None => Distribution::of(last),
            Some(first) => Distribution::difference(first, last),
        };
        distribution.map_or(Self::Empty, Self::Yes)
    }

    pub(crate) const fn yes(&self) -> Option<&Distribution> {
        match self {
            Self::Yes(distribution) => Some(distribution),
            _ => None,
        }
    }
}

impl Distribution {
    fn of(latency: &Latency) -> Option<Self> {
        let mut distribution = Self::of_buckets(latency.buckets.clone(), latency)?;
        distribution.min = latency.min.unwrap_or(distribution.min);
        distribution.max = latency.max.unwrap_or(distribution.max);
        distribution.mean = latency.mean.unwrap_or(distribution.mean);
        Some(distribution)
    }

    fn difference(first: &Latency, last: &Latency) -> Option<Self> {
        let mut before = first.buckets.iter().peekable();
        let mut buckets = Vec::with_capacity(last.buckets.len());
        for bucket in &last.buckets {
            while before.next_if(|before| before.from_ns < bucket.from_ns).is_some() {}
            let known = before.next_if(|before| before.from_ns == bucket.from_ns).map_or(0, |before| before.count);
            let count = bucket.count.saturating_sub(known);
            if count > 0 {
                buckets.push(Bucket { count, ..*bucket });
            }
        }
        let mut distribution = Self::of_buckets(buckets, last)?;
        let mean_first = if first.count == 0 { Some(0.0) } else { first.mean };
        if let (Some(mean_first), Some(mean_last)) = (mean_first, last.mean) {
            let sum = mean_last * last.count as f64 - mean_first * first.count as f64;
            let mean = sum / last.count.saturating_sub(first.count) as f64;
            if mean.is_finite() && mean >= 0.0 {
                distribution.mean = mean;
            }
        }
        Some(distribution)
    }

    /// By the buckets alone.
    fn of_buckets(buckets: Vec<Bucket>, latency: &Latency) -> Option<Self> {
        let count = buckets.iter().fold(0, |sum: u64, bucket| sum.saturating_add(bucket.count));
        let (lowest, highest) = (buckets.first()?, buckets.last()?);
        let within =
            |bucket: &Bucket, value: Option<u64>| value.filter(|value| (bucket.from_ns..=bucket.to_ns).contains(value));
        // The largest of all time, if it lies in the highest bucket of this time.
        let max = within(highest, latency.max).unwrap_or(highest.to_ns);
        let min = within(lowest, latency.min).unwrap_or(lowest.from_ns);
        let middle = |bucket: &Bucket| (bucket.from_ns as f64 + bucket.to_ns as f64) / 2.0 * bucket.count as f64;
        let mean = buckets.iter().map(middle).sum::<f64>() / count.max(1) as f64;
        (count > 0).then_some(Self { count, min, mean, max, buckets })
    }

    /// The smallest time that all but `1/10^nines` of the values do not exceed, rounded up to the end of its bucket.
    pub(crate) fn at_nines(&self, nines: f64) -> u64 {
        self.behind(self.count as f64 * 10f64.powf(-nines))
    }

    /// As [`at_nines`](Self::at_nines), by a share of 1.
    pub(crate) fn at_share(&self, share: f64) -> u64 {
        self.behind(self.count as f64 * (1.0 - share))
    }

    /// The end of the bucket behind which at most `more` values are.
    fn behind(&self, more: f64) -> u64 {
        let mut above = 0.0;
        // From above: rounding is then in the least counts, which high percentiles are made of.
        for bucket in self.buckets.iter().rev() {
            above += bucket.count as f64;
            if above > more * (1.0 + 1e-12) + 1e-9 {
                return bucket.to_ns;
            }
        }
        self.buckets.first().map_or(0, |bucket| bucket.to_ns)
    }

    /// The course over nines, to where a single value is left; the last is the largest.
    pub(crate) fn course(&self) -> Vec<(f64, f64)> {
        const STEPS: u32 = 240;
        let end = (self.count as f64).log10().max(f64::MIN_POSITIVE);
        let mut course: Vec<(f64, f64)> = (0..STEPS)
            .map(|step| f64::from(step) * end / f64::from(STEPS))
            .map(|nines| (nines, self.at_nines(nines).min(self.max) as f64))
            .collect();
        course.push((end, self.max as f64));
        course
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::latency::LatencyHistogram;
    use proptest::prelude::*;

    /// As the statistics document has it.
    fn latency(values: &[u64]) -> Latency {
        let ours = LatencyHistogram::default();
        ours.record_all(values.iter().copied());
        let snapshot = ours.snapshot().unwrap();
        let bucket = |value: hdrhistogram::iterators::IterationValue<u64>| Bucket {
            from_ns: snapshot.lowest_equivalent(value.value_iterated_to()),
            to_ns: snapshot.highest_equivalent(value.value_iterated_to()),
            count: value.count_at_value(),
        };
        Latency {
            count: values.len() as u64,
            min: values.iter().min().copied(),
            mean: (!values.is_empty()).then(|| values.iter().sum::<u64>() as f64 / values.len() as f64),
            max: values.iter().max().copied(),
            buckets: snapshot.iter_recorded().map(bucket).collect(),
        }
    }

    proptest! {
        #[test]
        fn percentiles_are_those_of_hdrhistogram(
            early in prop::collection::vec(0u64..1 << 34, 0..100), late in prop::collection::vec(0u64..1 << 34, 1..300),
        ) {
            let all: Vec<u64> = early.iter().chain(&late).copied().collect();
            let (first, last) = (latency(&early), latency(&all));
            let theirs = LatencyHistogram::default();
            theirs.record_all(late.iter().copied());
            let theirs = theirs.snapshot().unwrap();
            let ours = Distribution::difference(&first, &last).unwrap();
            prop_assert_eq!(ours.count, late.len() as u64);
            for share in [0.1, 0.5, 0.9, 0.99, 0.999, 0.9999] {
                prop_assert_eq!(ours.at_share(share), theirs.value_at_quantile(share), "{}", share);
            }
            let (min, max) = (*late.iter().min().unwrap(), *late.iter().max().unwrap());
            let near = |one: u64, other: u64| one.abs_diff(other) <= 1 + other / 1000;
            prop_assert!(near(ours.min, min) && near(ours.max, max), "{} {min} {} {max}", ours.min, ours.max);
            let mean = late.iter().sum::<u64>() as f64 / late.len() as f64;
            prop_assert!((ours.mean - mean).abs() <= 1.0 + mean * 1e-6, "{} {mean}", ours.mean);
            let course = ours.course();
            prop_assert!(course.windows(2).all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 <= pair[1].1));
            prop_assert_eq!(course.last().unwrap().1, ours.max as f64);
        }
    }

    #[test]
    fn no_value_has_no_distribution() {
        assert!(Distribution::of(&latency(&[])).is_none());
        assert!(Distribution::difference(&latency(&[5]), &latency(&[5])).is_none());
    }
}
