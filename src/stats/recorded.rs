//! Documents that were written before, for those who work with them later: which file holds some, and what is none.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Deserializer, Value};

use super::report::SCHEMA_VERSION;

/// Why a file is of no use. Every message is one sentence and names the file.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
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
         {SCHEMA_VERSION}: {advice} with the later one",
        env!("CARGO_PKG_VERSION")
    )]
    Newer {
        /// The file.
        file: String,
        /// Its version.
        schema_version: u64,
        /// The program that made it.
        version: String,
        /// What is to be done with that program.
        advice: &'static str,
    },
}

/// What is wrong with one document; the file is not known here.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It stops too early.
    Cut,
    /// It is something else.
    Foreign(String),
    /// It is of a later version.
    Newer { schema_version: u64, version: String },
}

impl Fault {
    /// The same of a file; `advice` is what is to be done with a later program.
    pub(crate) fn of(self, file: &str, advice: &'static str) -> ReadError {
        let file = file.to_owned();
        match self {
            Self::Cut => ReadError::Truncated(file),
            Self::Foreign(reason) => ReadError::Foreign { file, reason },
            Self::Newer { schema_version, version } => ReadError::Newer { file, schema_version, version, advice },
        }
    }
}

/// A file, `-` for standard input.
pub(crate) fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    Ok(if path == Path::new("-") { Box::new(io::stdin().lock()) } else { Box::new(BufReader::new(File::open(path)?)) })
}

/// What is said of text that begins as gzip or zstd do.
pub(crate) fn compressed(text: &[u8]) -> Option<Fault> {
    let is_compressed = text.starts_with(&[0x1f, 0x8b]) || text.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
    is_compressed.then(|| Fault::Foreign("it is compressed; unpack it first".to_owned()))
}

/// Hands each document of a file of a director, `-` for standard input, to `take`: one, or many, one after the other, with any
/// white space. True if the file stops in the middle of a document after a whole one. `advice` is what is to be done with a
/// later program.
pub(crate) fn each_of_director<T: DeserializeOwned>(
    path: &Path,
    advice: &'static str,
    mut take: impl FnMut(T),
) -> Result<bool, ReadError> {
    let file = path.display().to_string();
    let unreadable = |error| ReadError::Unreadable { file: file.clone(), error };
    let mut reader = open(path).map_err(unreadable)?;
    if let Some(fault) = compressed(reader.fill_buf().map_err(unreadable)?) {
        return Err(fault.of(&file, advice));
    }
    let mut is_empty = true;
    for value in Deserializer::from_reader(reader).into_iter::<Value>() {
        match value {
            Ok(value) => take(of_director(value).map_err(|fault| fault.of(&file, advice))?),
            Err(error) if error.is_eof() && !is_empty => return Ok(true),
            Err(error) if error.is_eof() => return Err(Fault::Cut.of(&file, advice)),
            Err(error) if error.is_io() => return Err(unreadable(error.into())),
            Err(error) => {
                let reason = format!("no JSON at line {}, column {}", error.line(), error.column());
                return Err(Fault::Foreign(reason).of(&file, advice));
            }
        }
        is_empty = false;
    }
    if is_empty { Err(ReadError::Empty(file)) } else { Ok(false) }
}

fn of_director<T: DeserializeOwned>(value: Value) -> Result<T, Fault> {
    check_version(&value)?;
    if value.get("kind").is_some() {
        return Err(Fault::Foreign("it is of pointsman gen or sink, and the director's is needed".to_owned()));
    }
    typed(value)
}

/// Whether a JSON value is a document of a version that this program reads.
pub(crate) fn check_version(value: &Value) -> Result<(), Fault> {
    let foreign = |reason: &str| Fault::Foreign(reason.to_owned());
    let object = value.as_object().ok_or_else(|| foreign("it is JSON, but no object"))?;
    let schema_version = object.get("schema_version").ok_or_else(|| foreign("it has no schema_version"))?;
    match schema_version.as_u64() {
        Some(schema_version) if schema_version > u64::from(SCHEMA_VERSION) => {
            let version = object.get("version").and_then(Value::as_str).unwrap_or("of unknown version");
            Err(Fault::Newer { schema_version, version: version.chars().take(40).collect() })
        }
        Some(schema_version) if schema_version == u64::from(SCHEMA_VERSION) => Ok(()),
        _ => Err(foreign("its schema_version is none that there ever was")),
    }
}

/// What a reader wants of a document, or the place where that is missing.
pub(crate) fn typed<T: DeserializeOwned>(value: Value) -> Result<T, Fault> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let place = if path == "." { String::new() } else { format!("{path}: ") };
        Fault::Foreign(format!("{place}{}", error.into_inner()))
    })
}
