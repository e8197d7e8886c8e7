//! The times of several directors as one: their histograms have the same buckets, so nothing is lost.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::report::{Latency, Moment, Report};
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
    /// One has other buckets.
    #[error(transparent)]
    Buckets(#[from] ForeignBuckets),
}

/// Merges the times of all documents, each of another director or of another run.
///
/// # Errors
/// [`MergeError`].
pub fn merge(reports: &[Report]) -> Result<MergedTimes, MergeError> {
    if reports.is_empty() {
        return Err(MergeError::Nothing);
    }
    let mut documents: Vec<MergedDocument> = Vec::with_capacity(reports.len());
    for Report { hostname, started_at, taken_at, .. } in reports {
        if documents.iter().any(|other| other.hostname == *hostname && other.started_at == *started_at) {
            return Err(MergeError::SameRun { hostname: hostname.clone() });
        }
        documents.push(MergedDocument { hostname: hostname.clone(), started_at: *started_at, taken_at: *taken_at });
    }
    let sum = |of: fn(&Report) -> &Latency| -> Result<Latency, ForeignBuckets> {
        let mut sum: Option<LatencyReading> = None;
        for report in reports {
            let reading = LatencyReading::of_document(of(report))?;
            match &mut sum {
                None => sum = Some(reading),
                Some(sum) => sum.add(&reading).map_err(|_| ForeignBuckets)?,
            }
        }
        sum.map(|sum| sum.report()).ok_or(ForeignBuckets)
    };
    Ok(MergedTimes {
        documents,
        latency: sum(|report| &report.totals.latency)?,
        queueing: sum(|report| &report.totals.queueing)?,
        processing: sum(|report| &report.totals.processing)?,
        completion: sum(|report| &report.totals.completion)?,
    })
}
