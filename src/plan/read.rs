//! From files to statistics documents.

use std::io::BufRead;
use std::path::Path;

use serde_json::{Deserializer, Value};

use super::document::Document;
use crate::stats::recorded::{self, Fault, ReadError};

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
    let file = path.display().to_string();
    let unreadable = |error| ReadError::Unreadable { file: file.clone(), error };
    let mut reader = recorded::open(path).map_err(unreadable)?;
    let fault = |fault: Fault| fault.of(&file, ADVICE);
    if let Some(compressed) = recorded::compressed(reader.fill_buf().map_err(unreadable)?) {
        return Err(fault(compressed).into());
    }
    let mut series: Option<Series> = None;
    for value in Deserializer::from_reader(reader).into_iter::<Value>() {
        match (value, &mut series) {
            (Ok(value), series) => take(series, document(value).map_err(fault)?),
            (Err(error), Some(series)) if error.is_eof() => series.cut = true,
            (Err(error), None) if error.is_eof() => return Err(fault(Fault::Cut).into()),
            (Err(error), _) if error.is_io() => return Err(unreadable(error.into()).into()),
            (Err(error), _) => {
                let reason = format!("no JSON at line {}, column {}", error.line(), error.column());
                return Err(fault(Fault::Foreign(reason)).into());
            }
        }
    }
    series.ok_or_else(|| ReadError::Empty(file.clone()).into())
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

fn document(value: Value) -> Result<Document, Fault> {
    recorded::check_version(&value)?;
    if value.get("kind").is_some() {
        return Err(Fault::Foreign("it is of pointsman gen or sink, and a plan needs the director's".to_owned()));
    }
    recorded::typed(value)
}
