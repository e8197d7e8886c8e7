//! The times of several directors as one: their histograms have the same buckets, so nothing is lost.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::recorded::{self, ReadError};
use super::report::{Latency, LatencyBucket, Moment};
use super::summary::{ForeignBuckets, LatencyReading};

/// The times of the frames of several directors together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MergedTimes {
    /// What was merged, in the order given.
    pub documents: Vec<MergedDocument>,
    /// Time from the XDP hook to the TX ring.
    pub latency: Latency,
    /// Of it, time from the XDP hook until a worker read the burst.
    pub queueing: Latency,
    /// Time from the reading of the burst to the TX ring.
    pub processing: Latency,
    /// Time from the TX ring until the worker saw that the frame was sent.
    pub completion: Latency,
    /// What is missing, a sentence each.
    pub notes: Vec<String>,
}

/// A document that was merged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MergedDocument {
    /// Name of the host.
    pub hostname: String,
    /// When its director started.
    pub started_at: Moment,
    /// When it was made.
    pub taken_at: Moment,
}

/// What of a statistics document is merged. All but its frame may be missing: an older program did not write it.
#[derive(Clone, Debug, Deserialize)]
pub struct RecordedTimes {
    #[serde(default)]
    hostname: String,
    started_at: Moment,
    taken_at: Moment,
    totals: RecordedTotals,
}

#[derive(Clone, Debug, Deserialize)]
struct RecordedTotals {
    latency: Option<RecordedLatency>,
    queueing: Option<RecordedLatency>,
    processing: Option<RecordedLatency>,
    completion: Option<RecordedLatency>,
}

#[derive(Clone, Debug, Deserialize)]
struct RecordedLatency {
    count: u64,
    sum: Option<u64>,
    min: Option<u64>,
    mean: Option<f64>,
    max: Option<u64>,
    buckets: Vec<LatencyBucket>,
}

impl RecordedTimes {
    fn is_of_the_run_of(&self, other: &Self) -> bool {
        self.hostname == other.hostname && self.started_at == other.started_at
    }
}

impl RecordedLatency {
    fn reading(&self) -> Result<LatencyReading, ForeignBuckets> {
        // Before there was a sum, the exact mean told it, but for what a float rounds.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts of floats saturate")]
        let sum = self.sum.unwrap_or((self.mean.unwrap_or(0.0) * self.count as f64).round() as u64);
        LatencyReading::of_buckets(self.count, &self.buckets, sum, self.min.zip(self.max))
    }
}

/// Why documents cannot be merged.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// Two are of one run of one director, and its frames would count twice.
    #[error("two of the documents are of the same run of the director on {hostname}: give the newer one only")]
    SameRun {
        /// Name of the host.
        hostname: String,
    },
    /// There is none.
    #[error("there is no document to merge")]
    Nothing,
    /// A file is of no use.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// One has other buckets.
    #[error(transparent)]
    Buckets(#[from] ForeignBuckets),
}

/// What to do with a later program.
const ADVICE: &str = "merge";

/// Merges the times in these files, `-` for standard input. Of a series of documents the last one of each of the director's
/// starts counts.
///
/// # Errors
/// [`MergeError`].
pub fn merge_files(files: &[PathBuf]) -> Result<MergedTimes, MergeError> {
    let mut found = Vec::new();
    let mut notes = Vec::new();
    for path in files {
        let mut of_file: Vec<RecordedTimes> = Vec::new();
        let cut = recorded::each_of_director(path, ADVICE, |document: RecordedTimes| {
            match of_file.iter_mut().find(|other| other.is_of_the_run_of(&document)) {
                Some(other) if other.taken_at.monotonic_ns > document.taken_at.monotonic_ns => (),
                Some(other) => *other = document,
                None => of_file.push(document),
            }
        })?;
        if cut {
            notes.push(format!("{} ends in the middle of a document, which is left out", path.display()));
        }
        found.append(&mut of_file);
    }
    let mut merged = merge(&found)?;
    merged.notes.splice(..0, notes);
    Ok(merged)
}

/// Merges the times of all documents, each of another director or of another run.
///
/// # Errors
/// [`MergeError`].
pub fn merge(recorded: &[RecordedTimes]) -> Result<MergedTimes, MergeError> {
    if recorded.is_empty() {
        return Err(MergeError::Nothing);
    }
    for (number, document) in recorded.iter().enumerate() {
        if recorded.iter().take(number).any(|other| other.is_of_the_run_of(document)) {
            return Err(MergeError::SameRun { hostname: document.hostname.clone() });
        }
    }
    let mut notes = Vec::new();
    let mut sum = |name: &str, of: fn(&RecordedTotals) -> &Option<RecordedLatency>| -> Result<_, ForeignBuckets> {
        let mut sum = LatencyReading::none()?;
        for RecordedTimes { hostname, totals, .. } in recorded {
            match of(totals) {
                Some(times) => sum.add(&times.reading()?).map_err(|_| ForeignBuckets)?,
                None => notes.push(format!("a document of {hostname} has no {name}: its frames are not in there")),
            }
        }
        Ok(sum.report())
    };
    Ok(MergedTimes {
        latency: sum("latency", |totals| &totals.latency)?,
        queueing: sum("queueing", |totals| &totals.queueing)?,
        processing: sum("processing", |totals| &totals.processing)?,
        completion: sum("completion", |totals| &totals.completion)?,
        documents: recorded
            .iter()
            .map(|RecordedTimes { hostname, started_at, taken_at, .. }| MergedDocument {
                hostname: hostname.clone(),
                started_at: *started_at,
                taken_at: *taken_at,
            })
            .collect(),
        notes,
    })
}
