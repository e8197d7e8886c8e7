//! From files to documents.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use serde_json::error::Category;
use serde_json::{Deserializer, Value};

use super::document::Document;
use super::run::Segment;
use crate::stats::report::SCHEMA_VERSION;

/// No document is longer; what is would fill the memory.
const MAX_DOCUMENT_BYTES: u64 = 512 << 20;

/// Why there is no report. Names the file.
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
         {SCHEMA_VERSION}: make the report with the later one",
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
    /// Two files tell different parts of the same time.
    #[error("{0} and {1} are of the same run and overlap in time; give one of them, or --apart for a run each")]
    Overlap(String, String),
}

/// What is wrong with one document; the file is not known here.
enum Fault {
    /// It stops too early.
    Cut,
    /// It is something else.
    Foreign(String),
    /// It is of a later version.
    Newer { schema_version: u64, version: String },
}

impl Fault {
    fn of(self, file: &str) -> InputError {
        let file = file.to_owned();
        match self {
            Self::Cut => InputError::Truncated(file),
            Self::Foreign(reason) => InputError::Foreign { file, reason },
            Self::Newer { schema_version, version } => InputError::Newer { file, schema_version, version },
        }
    }
}

/// The documents of a file, `-` for standard input: one, or many, one after the other. What stops in the middle is left
/// out and counted, if there is a whole one.
pub(super) fn segments(path: &Path) -> Result<Vec<Segment>, InputError> {
    let file = path.display().to_string();
    let unreadable = |error| InputError::Unreadable { file: file.clone(), error };
    let mut reader: Box<dyn BufRead> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(path).map_err(unreadable)?))
    };
    let mut segments = Segments { file: &file, segments: Vec::new(), incomplete: 0 };
    let mut line = Vec::new();
    for number in 1u64.. {
        line.clear();
        let read = (&mut reader).take(MAX_DOCUMENT_BYTES).read_until(b'\n', &mut line).map_err(unreadable)?;
        if read == 0 {
            break;
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match document(&line) {
            Ok(document) => segments.push(document),
            Err(Fault::Cut) if segments.segments.is_empty() => {
                // Perhaps a document over several lines.
                (&mut reader).take(MAX_DOCUMENT_BYTES).read_to_end(&mut line).map_err(unreadable)?;
                segments.push_all(&line).map_err(|fault| fault.of(&file))?;
            }
            Err(Fault::Cut) => segments.incomplete += 1,
            Err(Fault::Foreign(reason)) if number > 1 => {
                return Err(Fault::Foreign(format!("line {number}: {reason}")).of(&file));
            }
            Err(fault) => return Err(fault.of(&file)),
        }
    }
    segments.finish()
}

/// One document.
fn document(text: &[u8]) -> Result<Document, Fault> {
    match serde_json::from_slice::<Document>(text) {
        Ok(document) if document.schema_version == u64::from(SCHEMA_VERSION) => Ok(document),
        Ok(_) => judged(serde_json::from_slice(text).map_err(|error| fault(text, &error))?),
        Err(error) if error.classify() == Category::Data => {
            judged(serde_json::from_slice(text).map_err(|error| fault(text, &error))?)
        }
        Err(error) => Err(fault(text, &error)),
    }
}

fn fault(text: &[u8], error: &serde_json::Error) -> Fault {
    if error.is_eof() {
        return Fault::Cut;
    }
    if text.starts_with(&[0x1f, 0x8b]) || text.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        return Fault::Foreign("it is compressed; unpack it first".to_owned());
    }
    Fault::Foreign(format!("not JSON at column {}", error.column()))
}

/// The document that a JSON value is, or why it is none.
fn judged(value: Value) -> Result<Document, Fault> {
    let foreign = |reason: &str| Fault::Foreign(reason.to_owned());
    let object = value.as_object().ok_or_else(|| foreign("it is JSON, but no object"))?;
    let schema_version = object.get("schema_version").ok_or_else(|| foreign("it has no schema_version"))?;
    match schema_version.as_u64() {
        Some(schema_version) if schema_version > u64::from(SCHEMA_VERSION) => {
            let version = object.get("version").and_then(Value::as_str).unwrap_or("of unknown version");
            return Err(Fault::Newer { schema_version, version: version.chars().take(40).collect() });
        }
        Some(schema_version) if schema_version == u64::from(SCHEMA_VERSION) => {}
        _ => return Err(foreign("its schema_version is none that there ever was")),
    }
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let place = if path == "." { String::new() } else { format!("{path}: ") };
        Fault::Foreign(format!("{place}{}", error.into_inner()))
    })
}

/// What was found in a file.
struct Segments<'a> {
    file: &'a str,
    segments: Vec<Segment>,
    incomplete: u64,
}

impl Segments<'_> {
    fn push(&mut self, document: Document) {
        let rest = match self.segments.last_mut() {
            Some(last) => last.push(document),
            None => Some(document),
        };
        self.segments.extend(rest.map(|document| Segment::new(self.file.to_owned(), document)));
    }

    /// Documents with any white space between and within them.
    fn push_all(&mut self, text: &[u8]) -> Result<(), Fault> {
        for value in Deserializer::from_slice(text).into_iter::<Value>() {
            match value {
                Ok(value) => self.push(judged(value)?),
                Err(error) => match fault(text, &error) {
                    Fault::Cut if !self.segments.is_empty() => self.incomplete += 1,
                    Fault::Foreign(reason) if error.line() > 1 => {
                        return Err(Fault::Foreign(format!("line {}: {reason}", error.line())));
                    }
                    fault => return Err(fault),
                },
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<Segment>, InputError> {
        let last = self.segments.last_mut().ok_or_else(|| InputError::Empty(self.file.to_owned()))?;
        last.incomplete = self.incomplete;
        Ok(self.segments)
    }
}
