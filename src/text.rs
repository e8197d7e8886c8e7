//! Numbers and sentences for people.

use std::io::{self, Write};

/// A count in at most nine columns: exact below ten million, else to four digits.
pub(crate) fn count(value: u64) -> String {
    if value >= 10_000_000 {
        return scaled(value as f64, &["", " k", " M", " G", " T", " P", " E"]);
    }
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + 2);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of bytes, in decimal multiples.
pub(crate) fn bytes(value: u64) -> String {
    match value {
        0..1000 => format!("{value} B"),
        _ => scaled(value as f64, &["", " kB", " MB", " GB", " TB", " PB", " EB"]),
    }
}

/// A rate in at most nine columns, to four digits.
pub(crate) fn per_second(rate: f64) -> String {
    scaled(rate, &["", " k", " M", " G", " T", " P", " E"])
}

/// A span of nanoseconds in at most eight columns, to three digits.
pub(crate) fn nanoseconds(value: f64) -> String {
    if value >= 1e12 {
        return format!("{:.1e} s", value / 1e9);
    }
    let (value, unit) = match value {
        ..999.5 => return format!("{value:.0} ns"),
        ..999.5e3 => (value / 1e3, "us"),
        ..999.5e6 => (value / 1e6, "ms"),
        _ => (value / 1e9, "s"),
    };
    format!("{value:.*} {unit}", decimals(value, 3))
}

/// A span of nanoseconds as the two largest of its units.
pub(crate) fn duration(nanoseconds: u64) -> String {
    let seconds = nanoseconds / 1_000_000_000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match seconds {
        86_400.. => format!("{days}d {hours}h"),
        3600.. => format!("{hours}h {minutes}m"),
        60.. => format!("{minutes}m {}s", seconds % 60),
        _ => format!("{seconds}s"),
    }
}

/// A part of a whole, to a tenth of a percent.
pub(crate) fn percent(part: u128, whole: u128) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    format!("{:.1} %", part as f64 * 100.0 / whole as f64)
}

/// Writes `text` in lines of at most `width` columns. The first begins with `start`, the others below its end.
pub(crate) fn wrap(out: &mut impl Write, start: &str, text: &str, width: usize) -> io::Result<()> {
    wrap_pieces(out, start, text.split_whitespace(), width)
}

/// As [`wrap`], but breaks lines only between `pieces`.
pub(crate) fn wrap_pieces(
    out: &mut impl Write,
    start: &str,
    pieces: impl IntoIterator<Item = impl AsRef<str>>,
    width: usize,
) -> io::Result<()> {
    let mut line = start.to_owned();
    let mut fresh = true;
    for piece in pieces {
        let piece = piece.as_ref();
        if !fresh && line.chars().count() + 1 + piece.chars().count() > width {
            writeln!(out, "{line}")?;
            line = " ".repeat(start.chars().count());
            fresh = true;
        }
        if !fresh {
            line.push(' ');
        }
        line.push_str(piece);
        fresh = false;
    }
    writeln!(out, "{line}")
}

/// Four digits and a unit; each unit is a thousand of the one before.
fn scaled(mut value: f64, units: &[&str]) -> String {
    let mut unit = "";
    for next in units {
        unit = next;
        if value < 999.95 {
            break;
        }
        if Some(next) != units.last() {
            value /= 1000.0;
        }
    }
    format!("{value:.*}{unit}", decimals(value, 4))
}

/// Decimal places that give `digits` significant digits to a value from 1 to 1000.
fn decimals(value: f64, digits: usize) -> usize {
    let before_point = if value < 10.0 {
        1
    } else if value < 100.0 {
        2
    } else {
        3
    };
    digits - before_point
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_as_people_read_them() {
        for (value, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (9_999_999, "9,999,999"),
            (10_000_000, "10.00 M"),
            (123_456_789, "123.5 M"),
            (999_960_000, "1.000 G"),
            (u64::MAX, "18.45 E"),
        ] {
            assert_eq!(count(value), text);
        }
        assert_eq!(
            (bytes(999), bytes(1_500), bytes(2_000_000)),
            ("999 B".into(), "1.500 kB".into(), "2.000 MB".into())
        );
        for (value, text) in [
            (0.0, "0 ns"),
            (999.4, "999 ns"),
            (999.5, "1.00 us"),
            (12_345.0, "12.3 us"),
            (999_400.0, "999 us"),
            (1e9, "1.00 s"),
            (68.7e9, "68.7 s"),
            (u64::MAX as f64, "1.8e10 s"),
        ] {
            assert_eq!(nanoseconds(value), text);
        }
        for (seconds, text) in [(59, "59s"), (61, "1m 1s"), (3_600, "1h 0m"), (90_000, "1d 1h")] {
            assert_eq!(duration(seconds * 1_000_000_000), text);
        }
        assert_eq!((percent(1, 3), percent(0, 0)), ("33.3 %".into(), "-".into()));
    }

    #[test]
    fn lines_are_wrapped_below_their_start() {
        let mut out = Vec::new();
        wrap(&mut out, "note: ", "one two three four", 14).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "note: one two\n      three\n      four\n");
    }

    proptest! {
        #[test]
        fn numbers_fit_their_columns(value: u64) {
            for value in [value, value >> (value % 64)] {
                prop_assert!(count(value).len() <= 9, "{}", count(value));
                prop_assert!(nanoseconds(value as f64).len() <= 8, "{}", nanoseconds(value as f64));
            }
        }
    }
}
