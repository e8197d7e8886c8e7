//! Numbers as people read them.

/// All digits of a count, in groups of three.
pub(crate) fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Three digits and the letter of a power of a thousand: `0.25`, `12.5 k`, `3 M`.
pub(crate) fn short(value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    let mut scaled = value;
    let mut suffix = "";
    for larger in [" k", " M", " G", " T", " P", " E"] {
        if scaled.abs() < 999.5 {
            break;
        }
        scaled /= 1e3;
        suffix = larger;
    }
    format!("{}{suffix}", three_digits(scaled))
}

/// A time in nanoseconds by the unit that suits it.
pub(crate) fn time(ns: f64) -> String {
    let (value, unit) = match ns {
        ..999.5 => (ns, "ns"),
        ..999.5e3 => (ns / 1e3, "µs"),
        ..999.5e6 => (ns / 1e6, "ms"),
        _ => (ns / 1e9, "s"),
    };
    if value.is_finite() { format!("{} {unit}", three_digits(value)) } else { "-".to_owned() }
}

/// A span of time, from seconds up.
pub(crate) fn span(seconds: f64) -> String {
    match seconds {
        ..120.0 => format!("{} s", three_digits(seconds)),
        ..7200.0 => format!("{} min", three_digits(seconds / 60.0)),
        ..172_800.0 => format!("{} h", three_digits(seconds / 3600.0)),
        _ => format!("{} d", short(seconds / 86_400.0)),
    }
}

/// A share of 1 in percent.
pub(crate) fn percent(share: f64) -> String {
    if !share.is_finite() {
        return "-".to_owned();
    }
    let percent = share * 100.0;
    match percent.abs() {
        0.0 => "0 %".to_owned(),
        ..0.001 => "< 0.001 %".to_owned(),
        ..0.095 => format!("{percent:.3} %"),
        ..9.995 => format!("{percent:.2} %"),
        _ => format!("{percent:.1} %"),
    }
}

fn three_digits(value: f64) -> String {
    let decimals = match value.abs() {
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    let text = format!("{value:.decimals$}");
    if decimals == 0 { text } else { text.trim_end_matches('0').trim_end_matches('.').to_owned() }
}

/// A moment in nanoseconds since 1970 as date and time of day, UTC.
pub(crate) fn moment(unix_ns: u64) -> String {
    let seconds = unix_ns / 1_000_000_000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Howard Hinnant's days_from_civil, backwards: years begin in March, eras are 400 of them.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [0.0, 0.25, 7.0, 999.4, 999.6, 12_500.0, 3e6, 1.8e19].map(short),
            ["0", "0.25", "7", "999", "1 k", "12.5 k", "3 M", "18 E"]
        );
        assert_eq!([0.0, 87.4, 1234.0, 2e6, 68.7e9].map(time), ["0 ns", "87.4 ns", "1.23 µs", "2 ms", "68.7 s"]);
        assert_eq!([0.5, 100.0, 600.0, 7200.0, 864_000.0].map(span), ["0.5 s", "100 s", "10 min", "2 h", "10 d"]);
        assert_eq!(
            [0.0, 1e-9, 0.0005, 0.0123, 0.5, 1.0].map(percent),
            ["0 %", "< 0.001 %", "0.050 %", "1.23 %", "50.0 %", "100.0 %"]
        );
        assert_eq!([0, 999, 1000, u64::MAX].map(grouped), ["0", "999", "1,000", "18,446,744,073,709,551,615"]);
    }

    #[test]
    fn moments_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_735_689_599, "2024-12-31 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(moment(seconds * 1_000_000_000), text);
        }
    }

    proptest! {
        #[test]
        fn no_number_is_long(value: f64, count: u64) {
            for text in [short(value.abs() % 1e21), time((count as f64).min(1e12)), span(count as f64 / 1e9)] {
                prop_assert!(text.chars().count() <= 9, "{text}");
            }
            prop_assert_eq!(grouped(count).replace(',', ""), count.to_string());
        }
    }
}
