//! What `pointsman gen` and `pointsman sink` have in common: numbers on the command line, how a run ends, progress.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::ValueEnum;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::text::count;
use super::{FAILURE, Failure};
use crate::generator::report::Document;
use crate::port::xsk::BindMode;
use crate::stats::report::Traffic;

/// How the kernel and a socket exchange frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Mode {
    /// Zero copy where the driver has it, else by copying
    Auto,
    /// By copying
    Copy,
    /// Zero copy or nothing
    ZeroCopy,
}

impl From<Mode> for BindMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Auto => Self::Auto,
            Mode::Copy => Self::Copy,
            Mode::ZeroCopy => Self::ZeroCopy,
        }
    }
}

/// The first SIGINT or SIGTERM ends the run, and a second one the process.
pub(super) struct Ending(Arc<AtomicBool>);

impl Ending {
    pub(super) fn by_signal() -> Result<Self, Failure> {
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the one that ends the process looks at the flag before the other sets it.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&stop))
                .and_then(|_| flag::register(signal, Arc::clone(&stop)))
                .map_err(|error| Failure { message: format!("cannot handle signals: {error}"), code: FAILURE })?;
        }
        Ok(Self(stop))
    }

    pub(super) fn flag(&self) -> &AtomicBool {
        &self.0
    }
}

/// A line each second, on standard error.
pub(super) struct Lines {
    wanted: bool,
    before: (Duration, Traffic),
}

impl Lines {
    /// On a terminal, or where they are `demanded`.
    pub(super) fn new(demanded: bool) -> Self {
        Self { wanted: demanded || io::stderr().is_terminal(), before: (Duration::ZERO, Traffic::default()) }
    }

    /// Tells what was done since the last line, and in all.
    pub(super) fn tell(&mut self, done: &str, elapsed: Duration, traffic: Traffic) {
        let (then, before) = std::mem::replace(&mut self.before, (elapsed, traffic));
        let seconds = elapsed.saturating_sub(then).as_secs_f64();
        if !self.wanted || seconds <= 0.0 {
            return;
        }
        let per_second = |now: u64, before: u64| Some(now.wrapping_sub(before) as f64 / seconds);
        let bits = per_second(traffic.bytes, before.bytes).map(|bytes| bytes * 8.0);
        let _ = writeln!(
            io::stderr(),
            "{:>5.0} s  {done} {:>9} frames, {}",
            elapsed.as_secs_f64(),
            count(traffic.packets),
            rate(per_second(traffic.packets, before.packets), bits)
        );
    }
}

/// Prints a document.
pub(super) fn print_json(document: &Document, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, document).map_err(io::Error::from)?;
    writeln!(out)
}

/// Frames and bits in a second.
pub(super) fn rate(pps: Option<f64>, bits_per_s: Option<f64>) -> String {
    match (pps, bits_per_s) {
        (Some(pps), Some(bits)) => format!("{} frames/s, {}bit/s", scaled(pps), scaled_with_space(bits)),
        _ => "unknown".to_owned(),
    }
}

/// A number in thousands, to four digits: `1.500 M`.
pub(super) fn scaled(value: f64) -> String {
    scaled_with_space(value).trim_end().to_owned()
}

fn scaled_with_space(value: f64) -> String {
    let (value, unit) = match value {
        999.95e6.. => (value / 1e9, "G"),
        999.95e3.. => (value / 1e6, "M"),
        999.95.. => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let decimals = if value < 10.0 {
        3
    } else if value < 100.0 {
        2
    } else {
        1
    };
    format!("{value:.decimals$} {unit}")
}

/// Numbers as `0`, `0-3` or `0,2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Numbers(Vec<u16>);

impl Numbers {
    pub(super) fn as_u32(&self) -> Vec<u32> {
        self.0.iter().copied().map(u32::from).collect()
    }

    pub(super) fn as_usize(&self) -> Vec<usize> {
        self.0.iter().copied().map(usize::from).collect()
    }
}

/// Reads a list of numbers and ranges, none twice.
pub(super) fn parse_numbers(text: &str) -> Result<Numbers, String> {
    const MOST: usize = 1024;
    let refuse = || "write numbers as 0, 0-3 or 0,2, none twice".to_owned();
    let mut numbers = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u16, u16) = (first.parse().map_err(|_| refuse())?, last.parse().map_err(|_| refuse())?);
        numbers.extend(first..=last);
        let distinct: std::collections::BTreeSet<u16> = numbers.iter().copied().collect();
        if first > last || distinct.len() != numbers.len() || numbers.len() > MOST {
            return Err(refuse());
        }
    }
    Ok(Numbers(numbers))
}

/// A number that may end in k, M or G, which are powers of 1000.
pub(super) fn parse_scaled(text: &str) -> Option<f64> {
    let (number, unit) = match text.char_indices().next_back()? {
        (at, 'k' | 'K') => (&text[..at], 1e3),
        (at, 'm' | 'M') => (&text[..at], 1e6),
        (at, 'g' | 'G') => (&text[..at], 1e9),
        _ => (text, 1.0),
    };
    let number: f64 = number.parse().ok()?;
    (number.is_finite() && number >= 0.0).then_some(number * unit)
}

/// Reads a count from 1 on.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the range that is asked for")]
pub(super) fn parse_count(text: &str) -> Result<u64, String> {
    let whole = parse_scaled(text).map(|count| count.round() as u64).filter(|count| (1..=1 << 50).contains(count));
    whole.ok_or_else(|| "write a number from 1 on, as 1000, 64k or 10M".to_owned())
}

/// Reads a number of flows.
pub(super) fn parse_flows(text: &str) -> Result<u32, String> {
    parse_count(text)?.try_into().map_err(|_| "that are more flows than can be".to_owned())
}

/// Reads a number of seconds.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.001..=1e9).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "write a number of seconds from 0.001 on".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_people_write_them() {
        assert_eq!(parse_numbers("0-2,7"), Ok(Numbers(vec![0, 1, 2, 7])));
        for text in ["", "3-1", "1,1", "0-2,1", "a", "-", "70000"] {
            assert!(parse_numbers(text).is_err(), "{text}");
        }
        for (text, count) in [("1", 1), ("64k", 64_000), ("10M", 10_000_000), ("1.5k", 1_500)] {
            assert_eq!(parse_count(text), Ok(count), "{text}");
        }
        for text in ["0", "-1", "0.2", "k", "", "1e300", "nan"] {
            assert!(parse_count(text).is_err(), "{text}");
        }
        for (value, text) in [(0.0, "0.000"), (999.0, "999.0"), (1e3, "1.000 k"), (1.5e6, "1.500 M"), (2e10, "20.00 G")]
        {
            assert_eq!(scaled(value), text);
        }
    }
}
