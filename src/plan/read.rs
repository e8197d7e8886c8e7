//! From files to statistics documents.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use serde_json::{Deserializer, Value};

use super::document::Document;
use crate::stats::report::SCHEMA_VERSION;

/// Why there is no plan. Every message is one sentence and names the file where there is one.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The system does not let it be read.
    #[error("cannot read {file}: {error}")]
    Unreadable {
        /// The file.
        file: String,
        /// What the system says.
        error: io::Error,
    },
    /// There is nothing in it.
    #[error("{0} is empty; it should hold what pointsman stats --json or run --stats-file wrote")]
    Empty(String),
    /// It ends within its only document.
    #[error("{0} ends in the middle of its only document; copy or make it again")]
    Truncated(String),
    /// It holds something else.
    #[error("{file} is not a statistics document of pointsman (stats --json, run --stats-file): {reason}")]
    Foreign {
        /// The file.
        file: String,
        /// What it lacks.
        reason: String,
    },
    /// It was made by a later program.
    #[error(
        "{file} has schema_version {schema_version}, written by pointsman {version}; this one ({}) reads up to \
         {SCHEMA_VERSION}: plan with the later one",
        env!("CARGO_PKG_VERSION")
    )]
    Newer {
        /// The file.
        file: String,
        /// Its version.
        schema_version: u64,
        /// The program that made it.
        version: String,
    },
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
    let unreadable = |error| InputError::Unreadable { file: file.clone(), error };
    let mut reader: Box<dyn BufRead> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(path).map_err(unreadable)?))
    };
    let foreign = |reason: String| InputError::Foreign { file: file.clone(), reason };
    let begin = reader.fill_buf().map_err(unreadable)?;
    if begin.starts_with(&[0x1f, 0x8b]) || begin.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        return Err(foreign("it is compressed; unpack it first".to_owned()));
    }
    let mut series: Option<Series> = None;
    for value in Deserializer::from_reader(reader).into_iter::<Value>() {
        match (value, &mut series) {
            (Ok(value), series) => take(series, document(value, &file)?),
            (Err(error), Some(series)) if error.is_eof() => series.cut = true,
            (Err(error), None) if error.is_eof() => return Err(InputError::Truncated(file)),
            (Err(error), _) if error.is_io() => return Err(unreadable(error.into())),
            (Err(error), _) => {
                return Err(foreign(format!("no JSON at line {}, column {}", error.line(), error.column())));
            }
        }
    }
    series.ok_or(InputError::Empty(file))
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

fn document(value: Value, file: &str) -> Result<Document, InputError> {
    let foreign = |reason: String| InputError::Foreign { file: file.to_owned(), reason };
    let object = value.as_object().ok_or_else(|| foreign("it is JSON, but no object".to_owned()))?;
    let newest = u64::from(SCHEMA_VERSION);
    match object.get("schema_version").map(Value::as_u64) {
        None => return Err(foreign("it has no schema_version".to_owned())),
        Some(Some(schema_version)) if schema_version > newest => {
            let version = object.get("version").and_then(Value::as_str).unwrap_or("of unknown version");
            let version = version.chars().take(40).collect();
            return Err(InputError::Newer { file: file.to_owned(), schema_version, version });
        }
        Some(Some(schema_version)) if schema_version == newest => {}
        Some(_) => return Err(foreign("its schema_version is none that there ever was".to_owned())),
    }
    if object.get("kind").is_some() {
        return Err(foreign("it is of pointsman gen or sink, and a plan needs the director's".to_owned()));
    }
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let place = if path == "." { String::new() } else { format!("{path}: ") };
        foreign(format!("{place}{}", error.into_inner()))
    })
}
