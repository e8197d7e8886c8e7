//! The distributions of times as a log of HdrHistogram's own kind (`.hlog`, version 2, compressed), for its tools.

use std::io::Write;
use std::time::{Duration, UNIX_EPOCH};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use super::merge::MergedTimes;
use super::report::{Latency, Report};
use super::summary::{ForeignBuckets, histogram_of};

/// Why a log could not be made.
#[derive(Debug, thiserror::Error)]
pub enum HlogError {
    /// The document's buckets are not those of this program.
    #[error(transparent)]
    Buckets(#[from] ForeignBuckets),
    /// It could not be written.
    #[error("cannot write the histogram log: {0}")]
    Write(String),
}

/// A span of time, and what was counted in it by tag.
struct Interval<'a> {
    comment: String,
    began_unix_ns: u64,
    lasted_ns: u64,
    times: Vec<(String, &'a Latency)>,
}

/// Writes what a document has counted since its director started: one interval for each worker and kind of time
/// (`worker-0.queueing`, `.processing`, `.total`, `.completion`), and one for the sum over the workers (`all.queueing` and so
/// on). Values are nanoseconds.
///
/// # Errors
/// [`HlogError`].
pub fn write_report(report: &Report, out: &mut impl Write) -> Result<(), HlogError> {
    let mut times = Vec::new();
    for worker in &report.workers {
        let kinds = [&worker.queueing, &worker.processing, &worker.latency, &worker.completion];
        times.extend(tagged(&format!("worker-{}", worker.worker), kinds));
    }
    let totals = &report.totals;
    times.extend(tagged("all", [&totals.queueing, &totals.processing, &totals.latency, &totals.completion]));
    let Report { version, hostname, started_at, uptime_ns, .. } = report;
    write(
        &Interval {
            comment: format!(
                "pointsman {version} on {hostname}; values in nanoseconds; all since the director's start"
            ),
            began_unix_ns: started_at.unix_ns,
            lasted_ns: *uptime_ns,
            times,
        },
        out,
    )
}

/// Writes what was merged of several documents, by the tags `all.queueing`, `all.processing`, `all.total` and
/// `all.completion`. The interval is that from the first director's start to the newest document.
///
/// # Errors
/// [`HlogError`].
pub fn write_merged(merged: &MergedTimes, out: &mut impl Write) -> Result<(), HlogError> {
    let began_unix_ns = merged.documents.iter().map(|of| of.started_at.unix_ns).min().unwrap_or(0);
    let ended_unix_ns = merged.documents.iter().map(|of| of.taken_at.unix_ns).max().unwrap_or(0);
    let MergedTimes { queueing, processing, latency, completion, .. } = merged;
    write(
        &Interval {
            comment: format!("merged of {} documents; values in nanoseconds", merged.documents.len()),
            began_unix_ns,
            lasted_ns: ended_unix_ns.saturating_sub(began_unix_ns),
            times: tagged("all", [queueing, processing, latency, completion]).into(),
        },
        out,
    )
}

fn tagged<'a>(whose: &str, kinds: [&'a Latency; 4]) -> [(String, &'a Latency); 4] {
    let [queueing, processing, total, completion] = kinds;
    [("queueing", queueing), ("processing", processing), ("total", total), ("completion", completion)]
        .map(|(kind, times)| (format!("{whose}.{kind}"), times))
}

fn write(interval: &Interval<'_>, out: &mut impl Write) -> Result<(), HlogError> {
    let failed = |error: &dyn std::fmt::Display| HlogError::Write(error.to_string());
    let began = UNIX_EPOCH.checked_add(Duration::from_nanos(interval.began_unix_ns)).unwrap_or(UNIX_EPOCH);
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment(&interval.comment)
        .with_start_time(began)
        .with_base_time(began)
        .begin_log_with(out, &mut serializer)
        .map_err(|error| failed(&error))?;
    for (tag, times) in &interval.times {
        let histogram: Histogram<u64> = histogram_of(times.count, &times.buckets)?;
        let lasted = Duration::from_nanos(interval.lasted_ns);
        log.write_histogram(&histogram, Duration::ZERO, lasted, Tag::new(tag)).map_err(|error| failed(&error))?;
    }
    Ok(())
}
