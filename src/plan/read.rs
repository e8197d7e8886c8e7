//! From files to statistics documents.

use std::path::Path;

use super::document::Document;
use crate::stats::recorded::{self, ReadError};

/// What to do with a later program.
const ADVICE: &str = "plan";

/// Why there is no plan. Every message is one sentence and names the file where there is one.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// A file is of no use.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The documents are not of one director from one start.
    #[error("{0} and {1} are of different runs: give documents of one director between its start and its end")]
    DifferentRuns(String, String),
    /// It was made by a program that did not measure what is needed.
    #[error(
        "{0} does not say what bursts cost (workers[].batch_sizes[].cycles): measure with a director of this version"
    )]
    WithoutCosts(String),
    /// Next to nothing happened.
    #[error(
        "{file}: the workers received {frames} frames, and {least} are the least that a plan is made of; take the document \
         while the director is under load, best at a third to a half of what it can do"
    )]
    NoTraffic {
        /// The files.
        file: String,
        /// Frames that came.
        frames: u64,
        /// How many it takes.
        least: u64,
    },
}

/// What a file holds of one director from one start.
pub(super) struct Series {
    pub(super) first: Document,
    /// The same as `first` where there is one alone.
    pub(super) last: Document,
    /// Whether there were documents of an earlier start, which are left out.
    pub(super) several_starts: bool,
    /// Whether the file stops in the middle of a document, which is left out.
    pub(super) cut: bool,
}

/// The documents of a file, `-` for standard input: one, or many, one after the other, with any white space.
pub(super) fn series(path: &Path) -> Result<Series, InputError> {
    let mut series: Option<Series> = None;
    let cut = recorded::each_of_director(path, ADVICE, |document| take(&mut series, document))?;
    let series = series.ok_or_else(|| ReadError::Empty(path.display().to_string()))?;
    Ok(Series { cut, ..series })
}

/// A further document: of the same start, or of one that leaves the earlier ones out.
fn take(series: &mut Option<Series>, document: Document) {
    match series {
        Some(series) if series.last.is_of_the_run_of(&document) => {
            if document.at_ns() > series.last.at_ns() {
                series.last = document;
            }
        }
        _ => {
            let several_starts = series.is_some();
            *series = Some(Series { first: document.clone(), last: document, several_starts, cut: false });
        }
    }
}
