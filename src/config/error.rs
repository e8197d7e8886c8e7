//! What is wrong, or worth a second look, in a configuration file, and where.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// The most mistakes that are kept while one file is read, and the most that are reported of them. A file that
/// is no configuration at all must not fill the memory or the terminal.
const MAX_KEPT: usize = 10_000;
const MAX_REPORTED: usize = 100;

/// Why there is no configuration. Each message is complete: no error chain stands behind it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there or cannot be read.
    #[error("cannot read the configuration file {origin}: {reason}")]
    Unreadable {
        /// The file's name.
        origin: String,
        /// What is in the way and what to do.
        reason: String,
    },
    /// The file is over [`MAX_FILE_BYTES`](super::MAX_FILE_BYTES).
    #[error("the configuration file {origin} is over 16 MiB; name a smaller one")]
    TooLarge {
        /// The file's name.
        origin: String,
    },
    /// The file has mistakes; each stands on a line of its own.
    #[error("{}", one_per_line(.findings, *.more))]
    Invalid {
        /// The mistakes in the order of the file, one at least.
        findings: Vec<Finding>,
        /// How many more there are.
        more: usize,
    },
    /// The director has no interface to work on.
    #[error("the configuration has no [[interface]], so nothing can be received; add one with its name")]
    NoInterface,
    /// All interfaces only send.
    #[error("every [[interface]] has receive = false, so nothing can be received; set one to true")]
    NoReceivingInterface,
}

impl ConfigError {
    pub(super) fn unreadable(path: &Path, error: &io::Error) -> Self {
        let reason = match error.kind() {
            io::ErrorKind::NotFound => "there is no such file; name an existing one".to_owned(),
            io::ErrorKind::PermissionDenied => "permission denied; make it readable for this user".to_owned(),
            io::ErrorKind::IsADirectory => "it is a directory; name the file in it".to_owned(),
            _ => format!("{error}; name a readable file"),
        };
        Self::Unreadable { origin: path.display().to_string(), reason }
    }
}

fn one_per_line(findings: &[Finding], more: usize) -> String {
    let mut lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
    if more > 0 {
        lines.push(format!("and {more} more; correct these first"));
    }
    lines.join("\n")
}

/// One remark about one place in a file, written `director.toml:12:10: virtual_service[0].port: 99999 is not a
/// port; use 0 (any port) to 65535`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file's name as it was given.
    pub file: Arc<str>,
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// Full path of the key, such as `virtual_service[2].real_server[0].weight`; empty where there is none.
    pub key: String,
    /// What is wrong and what would be right.
    pub message: String,
}

/// Something that is allowed and most likely not meant.
pub type Warning = Finding;

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// Collects remarks while a file is read. Shared by reference between nested tables, hence the cell.
#[derive(Default)]
pub(super) struct Findings(RefCell<Collected>);

#[derive(Default)]
struct Collected {
    errors: Remarks,
    warnings: Remarks,
}

#[derive(Default)]
struct Remarks {
    kept: Vec<Remark>,
    more: usize,
}

/// A finding whose line is not looked up yet.
struct Remark {
    /// Byte offset in the text.
    at: usize,
    key: String,
    message: String,
}

impl Findings {
    /// Notes a mistake at byte `at`.
    pub(super) fn refuse(&self, at: usize, key: String, message: String) {
        self.0.borrow_mut().errors.push(Remark { at, key, message });
    }

    /// Notes something that is allowed and most likely not meant.
    pub(super) fn warn(&self, at: usize, key: String, message: String) {
        self.0.borrow_mut().warnings.push(Remark { at, key, message });
    }

    /// Whether further mistakes are only counted, so that their text need not be made.
    pub(super) fn is_full(&self) -> bool {
        self.0.borrow().errors.kept.len() >= MAX_KEPT
    }

    /// Forgets the mistakes that stand at a place that `drop` names.
    pub(super) fn forget(&self, drop: impl Fn(usize) -> bool) {
        self.0.borrow_mut().errors.kept.retain(|remark| !drop(remark.at));
    }

    /// Looks up the lines: the mistakes as an error, or the warnings.
    pub(super) fn settle(self, text: &str, origin: &str) -> Result<Vec<Warning>, ConfigError> {
        let Collected { errors, warnings } = self.0.into_inner();
        let file: Arc<str> = Arc::from(origin);
        let (findings, more) = errors.locate(text, &file);
        if findings.is_empty() {
            Ok(warnings.locate(text, &file).0)
        } else {
            Err(ConfigError::Invalid { findings, more })
        }
    }
}

impl Remarks {
    fn push(&mut self, remark: Remark) {
        if self.kept.len() < MAX_KEPT {
            self.kept.push(remark);
        } else {
            self.more += 1;
        }
    }

    /// In the order of the file, with lines and columns; and how many are left out.
    fn locate(mut self, text: &str, file: &Arc<str>) -> (Vec<Finding>, usize) {
        self.kept.sort_by_key(|remark| remark.at);
        let more = self.more + self.kept.len().saturating_sub(MAX_REPORTED);
        let mut cursor = Cursor::new(text);
        let findings = self
            .kept
            .into_iter()
            .take(MAX_REPORTED)
            .map(|Remark { at, key, message }| {
                let (line, column) = cursor.advance_to(at);
                Finding { file: Arc::clone(file), line, column, key, message }
            })
            .collect();
        (findings, more)
    }
}

/// Walks a text once, whatever the number of places that are asked for.
struct Cursor<'t> {
    rest: std::str::CharIndices<'t>,
    line: usize,
    column: usize,
}

impl<'t> Cursor<'t> {
    fn new(text: &'t str) -> Self {
        Self { rest: text.char_indices(), line: 1, column: 1 }
    }

    /// Line and column of byte `at`, which is not before the place asked for last.
    fn advance_to(&mut self, at: usize) -> (usize, usize) {
        while self.rest.offset() < at {
            match self.rest.next() {
                Some((_, '\n')) => {
                    self.line += 1;
                    self.column = 1;
                }
                Some(_) => self.column += 1,
                None => break,
            }
        }
        (self.line, self.column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(findings: Findings, text: &str) -> Vec<String> {
        findings.settle(text, "f").unwrap_err().to_string().lines().map(str::to_owned).collect()
    }

    #[test]
    fn places_are_lines_and_columns_in_characters() {
        let findings = Findings::default();
        let text = "ä = 1\nbö = 2\r\n";
        for at in [text.len(), 0, 3, 7, 9, 11, text.len() + 9] {
            findings.refuse(at, String::new(), format!("at {at}"));
        }
        assert_eq!(
            lines(findings, text),
            [
                "f:1:1: at 0",
                "f:1:3: at 3",
                "f:2:1: at 7",
                "f:2:3: at 9",
                "f:2:4: at 11",
                "f:3:1: at 16",
                "f:3:1: at 25"
            ]
        );
    }

    #[test]
    fn a_flood_is_cut() {
        let findings = Findings::default();
        for at in 0..MAX_KEPT + 5 {
            findings.refuse(at, "k".to_owned(), "m".to_owned());
        }
        let lines = lines(findings, "x");
        assert_eq!(lines.len(), MAX_REPORTED + 1);
        assert_eq!(lines.last().unwrap(), "and 9905 more; correct these first");
    }

    #[test]
    fn warnings_are_no_error() {
        let findings = Findings::default();
        findings.warn(2, "a.b".to_owned(), "odd".to_owned());
        let warnings = findings.settle("\n\n", "f").unwrap();
        assert_eq!(warnings[0].to_string(), "f:3:1: a.b: odd");
    }
}
