//! Scales and their ticks.

use super::number;

/// Where a value stands between the two ends of an axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scale {
    /// Evenly.
    Linear {
        /// The value at the beginning.
        from: f64,
        /// The value at the end.
        to: f64,
    },
    /// Each power of ten takes the same room.
    Log {
        /// The value at the beginning, above 0.
        from: f64,
        /// The value at the end.
        to: f64,
    },
}

impl Scale {
    /// From 0 at the beginning to 1 at the end; what is beyond an end is at it.
    pub(crate) fn place(self, value: f64) -> f64 {
        let place = match self {
            Self::Linear { from, to } => (value - from) / (to - from),
            Self::Log { from, to } => (value.max(from).ln() - from.ln()) / (to.ln() - from.ln()),
        };
        if place.is_finite() { place.clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// A value that an axis names.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tick {
    /// Where.
    pub(crate) value: f64,
    /// Its name.
    pub(crate) label: String,
}

/// An even scale from 0 to `max` or a little above, with about `wanted` ticks at 1, 2 or 5 times a power of ten.
pub(crate) fn linear(max: f64, wanted: u32, label: impl Fn(f64) -> String) -> (Scale, Vec<Tick>) {
    let max = if max.is_finite() && max > 1e-9 { max.min(1e300) } else { 1.0 };
    let rough = max / f64::from(wanted.max(1));
    let magnitude = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0].map(|factor| factor * magnitude).into_iter().find(|step| *step >= rough * 0.999_999);
    let step = step.unwrap_or(10.0 * magnitude);
    let mut ticks = Vec::new();
    for nth in 0u32..=wanted.max(1) + 1 {
        let value = f64::from(nth) * step;
        ticks.push(Tick { value, label: label(value) });
        if value >= max * 0.999_999 {
            break;
        }
    }
    let to = ticks.last().map_or(1.0, |tick| tick.value);
    (Scale::Linear { from: 0.0, to }, ticks)
}

/// A scale of powers of ten that holds `min` and `max`. Where they are close there are ticks at 2 and 5, too.
pub(crate) fn log(min: f64, max: f64, label: impl Fn(f64) -> String) -> (Scale, Vec<Tick>) {
    let usable = |value: f64, other: f64| if value.is_finite() && value >= 1.0 { value.min(1e18) } else { other };
    let min = usable(min, 1.0);
    let max = usable(max, min).max(min);
    let fine = max / min < 1e3;
    let steps: &[f64] = if fine { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let marks: Vec<f64> = (0..=19).flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power))).collect();
    let from = marks.iter().rposition(|mark| *mark <= min * 1.000_001).unwrap_or(0);
    let to = marks.iter().position(|mark| *mark >= max * 0.999_999).unwrap_or(marks.len() - 1).max(from + 1);
    let chosen = marks.get(from..=to).unwrap_or(&[1.0, 10.0]);
    let ticks: Vec<Tick> = chosen.iter().map(|value| Tick { value: *value, label: label(*value) }).collect();
    let ends = (chosen.first().copied().unwrap_or(1.0), chosen.last().copied().unwrap_or(10.0));
    (Scale::Log { from: ends.0, to: ends.1 }, ticks)
}

/// Where a share of all values stands on a scale of nines: 0.9 at 1, 0.99 at 2, 0.999 at 3.
#[cfg(test)]
pub(crate) fn nines_of(share: f64) -> f64 {
    -(1.0 - share).log10()
}

/// A scale of nines up to `max` of them at least, with ticks at 0 %, 50 %, 90 %, 99 %, 99.9 % and so on.
pub(crate) fn nines(max: f64) -> (Scale, Vec<Tick>) {
    let max = if max.is_finite() { max.clamp(1.0, 20.0) } else { 1.0 };
    let mut ticks =
        vec![Tick { value: 0.0, label: "0 %".to_owned() }, Tick { value: 2f64.log10(), label: "50 %".to_owned() }];
    for (count, value) in (1u8..=20).map(|count| (count, f64::from(count))) {
        if value - 1.0 >= max {
            break;
        }
        let label = match count {
            1 => "90 %".to_owned(),
            2 => "99 %".to_owned(),
            _ => format!("99.{} %", "9".repeat(usize::from(count) - 2)),
        };
        ticks.push(Tick { value, label });
    }
    let to = max.max(1.0);
    ticks.retain(|tick| tick.value <= to + 1e-9);
    (Scale::Linear { from: 0.0, to }, ticks)
}

/// Ticks of percent from 0 to `max`, a share of 1.
pub(crate) fn shares(max: f64, wanted: u32) -> (Scale, Vec<Tick>) {
    let (scale, ticks) = linear(max * 100.0, wanted, |percent| format!("{} %", number::short(percent)));
    let Scale::Linear { to, .. } = scale else { return (scale, ticks) };
    let ticks = ticks.into_iter().map(|tick| Tick { value: tick.value / 100.0, ..tick }).collect();
    (Scale::Linear { from: 0.0, to: to / 100.0 }, ticks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values(ticks: &[Tick]) -> Vec<f64> {
        ticks.iter().map(|tick| tick.value).collect()
    }

    fn labels(ticks: &[Tick]) -> Vec<&str> {
        ticks.iter().map(|tick| tick.label.as_str()).collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(values(&linear(7.3, 5, number::short).1), [0.0, 2.0, 4.0, 6.0, 8.0]);
        assert_eq!(labels(&linear(1.2e6, 4, number::short).1), ["0", "500 k", "1 M", "1.5 M"]);
        assert_eq!(values(&linear(0.0, 5, number::short).1), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        assert_eq!(labels(&shares(1.0, 4).1), ["0 %", "50 %", "100 %"]);
        assert_eq!(labels(&log(3.0, 42.0, number::short).1), ["2", "5", "10", "20", "50"]);
        assert_eq!(labels(&log(900.0, 2e6, number::short).1), ["100", "1 k", "10 k", "100 k", "1 M", "10 M"]);
        assert_eq!(labels(&nines(3.2).1), ["0 %", "50 %", "90 %", "99 %", "99.9 %"]);
        assert_eq!(labels(&nines(0.0).1), ["0 %", "50 %", "90 %"]);
        assert!((nines_of(0.999) - 3.0).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn linear_ticks_hold_the_maximum_evenly(mantissa in 1.0f64..10.0, power in -8i32..20, wanted in 2u32..9) {
            let max = mantissa * 10f64.powi(power);
            let (scale, ticks) = linear(max, wanted, number::short);
            let values = values(&ticks);
            prop_assert!(values.len() >= 2 && values.len() <= wanted as usize + 1, "{values:?}");
            prop_assert_eq!(values[0], 0.0);
            let (step, last) = (values[1], values[values.len() - 1]);
            prop_assert!(last >= max * 0.999_998 && last - step < max, "{max} {values:?}");
            for (nth, value) in values.iter().enumerate() {
                prop_assert!((value - step * nth as f64).abs() <= last * 1e-12);
            }
            prop_assert_eq!(scale.place(last), 1.0);
        }

        #[test]
        fn log_ticks_hold_both_ends(min in 0u64..1 << 40, more in 0u64..1 << 40) {
            let (min, max) = (min as f64, min as f64 + more as f64);
            let (scale, ticks) = log(min, max, number::short);
            let values = values(&ticks);
            prop_assert!(values.len() >= 2 && values.len() <= 20, "{values:?}");
            prop_assert!(values[0] <= min.max(1.0) && values[values.len() - 1] >= max.max(1.0) * 0.999_998, "{values:?}");
            prop_assert!(values.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert_eq!((scale.place(values[0]), scale.place(values[values.len() - 1])), (0.0, 1.0));
        }

        #[test]
        fn a_scale_keeps_order_and_stays_within(from in 1.0f64..1e6, span in 1.0f64..1e9, one: f64, other: f64) {
            for scale in [Scale::Linear { from, to: from + span }, Scale::Log { from, to: from + span }] {
                let (low, high) = if one < other { (one, other) } else { (other, one) };
                let (low, high) = (scale.place(low), scale.place(high));
                prop_assert!((0.0..=1.0).contains(&low) && (0.0..=1.0).contains(&high));
                prop_assert!(low <= high || !one.is_finite() || !other.is_finite());
            }
        }

        #[test]
        fn nines_end_where_they_shall(max in 0.0f64..25.0) {
            let (scale, ticks) = nines(max);
            prop_assert_eq!(scale.place(max.clamp(1.0, 20.0)), 1.0);
            prop_assert!(ticks.windows(2).all(|pair| pair[0].value < pair[1].value));
            prop_assert!(ticks.iter().all(|tick| (0.0..=1.0).contains(&scale.place(tick.value))));
        }
    }
}
