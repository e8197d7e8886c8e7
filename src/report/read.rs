//! From files to documents.

use std::io::{BufRead, Read};
use std::path::Path;

use serde_json::error::Category;
use serde_json::{Deserializer, Value};

use super::document::Document;
use super::run::Segment;
use crate::stats::recorded::{self, Fault, ReadError};
use crate::stats::report::SCHEMA_VERSION;

/// No document is longer; what is would fill the memory.
const MAX_DOCUMENT_BYTES: u64 = 512 << 20;

/// What to do with a later program.
const ADVICE: &str = "make the report";

/// Why there is no report. Names the file.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// A file is of no use.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Two files tell different parts of the same time.
    #[error("{0} and {1} are of the same run and overlap in time; give one of them, or --apart for a run each")]
    Overlap(String, String),
}

/// The documents of a file, `-` for standard input: one, or many, one after the other. What stops in the middle is left
/// out and counted, if there is a whole one.
pub(super) fn segments(path: &Path) -> Result<Vec<Segment>, InputError> {
    let file = path.display().to_string();
    let unreadable = |error| ReadError::Unreadable { file: file.clone(), error };
    let mut reader = recorded::open(path).map_err(unreadable)?;
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
                segments.push_all(&line).map_err(|fault| fault.of(&file, ADVICE))?;
            }
            Err(Fault::Cut) => segments.incomplete += 1,
            Err(Fault::Foreign(reason)) if number > 1 => {
                return Err(Fault::Foreign(format!("line {number}: {reason}")).of(&file, ADVICE).into());
            }
            Err(fault) => return Err(fault.of(&file, ADVICE).into()),
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
    recorded::compressed(text).unwrap_or_else(|| Fault::Foreign(format!("not JSON at column {}", error.column())))
}

/// The document that a JSON value is, or why it is none.
fn judged(value: Value) -> Result<Document, Fault> {
    recorded::check_version(&value)?;
    recorded::typed(value)
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
        let last = self.segments.last_mut().ok_or_else(|| ReadError::Empty(self.file.to_owned()))?;
        last.incomplete = self.incomplete;
        Ok(self.segments)
    }
}
