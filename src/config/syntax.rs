//! Parses the TOML, and says of text that is none where and in which key it goes wrong.

use std::collections::BTreeMap;
use std::ops::Range;
use std::string::FromUtf8Error;

use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Findings};
use super::raw::accepted_keys;

/// A parsed text. The parser recovers after a syntax error, so there may be a tree and errors.
pub(super) struct Document<'t> {
    tree: DeTable<'t>,
    /// The first syntax error of each line that has one, in the order of the text.
    errors: Vec<SyntaxError>,
    /// No error goes beyond a single value, so the tree has all tables and keys of the text.
    sound: bool,
}

struct SyntaxError {
    at: usize,
    /// The line it stands on, as bytes of the text.
    line: Range<usize>,
    /// Full path of the key, as far as it can be told.
    key: String,
    message: String,
}

/// The largest text, in bytes, in which all syntax errors are looked for; of a larger one the first is reported. The
/// parser's list of errors takes some 200 times the space of a text that is one error after the other.
const MAX_RECOVERED: usize = 1 << 20;

/// Parses `text`.
pub(super) fn read(text: &str) -> Document<'_> {
    let (tree, errors) = match DeTable::parse(text) {
        Ok(tree) => return Document { tree: tree.into_inner(), errors: Vec::new(), sound: true },
        Err(_) if text.len() <= MAX_RECOVERED => {
            let (tree, errors) = DeTable::parse_recoverable(text);
            (tree.into_inner(), errors)
        }
        Err(first) => (DeTable::new(), vec![first]),
    };
    let mut places: Vec<(usize, String)> = errors
        .into_iter()
        .map(|error| (error.span().map_or(0, |span| span.start).min(text.len()), error.message().to_owned()))
        .collect();
    places.sort();
    let offsets: Vec<usize> = places.iter().map(|(at, _)| *at).collect();
    let mut values = BTreeMap::new();
    find_values(&tree, &mut Vec::new(), text, &offsets, &mut values);
    let sound = offsets.iter().all(|at| values.get(at).is_some_and(|place: &Place| place.one_line));
    let mut headers = Headers::new(text);
    let mut errors: Vec<SyntaxError> = Vec::new();
    for (at, message) in places {
        if errors.last().is_some_and(|last| last.line.contains(&at) || last.line.end == at) {
            continue;
        }
        let line = line_around(text, at);
        // A broken header stands in the table that it opens.
        let is_header = text[line.clone()].trim_start().starts_with('[');
        let around = headers.advance_to(if is_header { line.end } else { line.start });
        let key = match values.remove(&at) {
            Some(place) => place.key,
            None => key_of_line(&text[line.clone()], &around),
        };
        let message = match message.trim_end_matches(", expected nothing") {
            "duplicate key" => "is there already; remove one of the two".to_owned(),
            message => format!("not valid TOML: {message}{}", advice(&key)),
        };
        errors.push(SyntaxError { at, line, key, message });
    }
    Document { tree, errors, sound }
}

impl<'t> Document<'t> {
    /// The tables, unless an error may have lost or misplaced some of them.
    pub(super) fn sound_tree(&'t self) -> Option<&'t DeTable<'t>> {
        self.sound.then_some(&self.tree)
    }

    /// Notes the syntax errors, in place of what else was noted about the same lines: the parser's stand-in for a
    /// broken value is no mistake of its own.
    pub(super) fn report(&self, findings: &Findings) {
        if self.errors.is_empty() {
            return;
        }
        findings.forget(|at| {
            let next = self.errors.partition_point(|error| error.line.end < at);
            self.errors.get(next).is_some_and(|error| error.line.start <= at)
        });
        for error in &self.errors {
            findings.refuse(error.at, error.key.clone(), error.message.clone());
        }
    }
}

/// The error for a file that is not UTF-8.
pub(super) fn not_utf8(error: &FromUtf8Error, origin: &str) -> ConfigError {
    let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
    let text = String::from_utf8_lossy(valid);
    let findings = Findings::default();
    findings.refuse(text.len(), String::new(), "not UTF-8; save the file as UTF-8 text".to_owned());
    match findings.settle(&text, origin) {
        Err(error) => error,
        Ok(_) => ConfigError::Invalid { findings: Vec::new(), more: 0 },
    }
}

/// The value that an error stands in.
struct Place {
    key: String,
    /// A value of more than one line may have swallowed what was meant as keys and tables.
    one_line: bool,
}

/// Which of the sorted `offsets` stand inside a value, and which one.
fn find_values<'t>(
    table: &'t DeTable<'_>,
    path: &mut Vec<Step<'t>>,
    text: &str,
    offsets: &[usize],
    found: &mut BTreeMap<usize, Place>,
) {
    for (name, value) in table {
        path.push(Step::Key(name.get_ref()));
        find_in_value(value.get_ref(), value.span(), path, text, offsets, found);
        path.pop();
    }
}

fn find_in_value<'t>(
    value: &'t DeValue<'_>,
    span: Range<usize>,
    path: &mut Vec<Step<'t>>,
    text: &str,
    offsets: &[usize],
    found: &mut BTreeMap<usize, Place>,
) {
    match value {
        DeValue::Table(table) => find_values(table, path, text, offsets, found),
        DeValue::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                path.push(Step::Index(index));
                find_in_value(element.get_ref(), element.span(), path, text, offsets, found);
                path.pop();
            }
        }
        _ => {
            let first = offsets.partition_point(|at| *at < span.start);
            let inside = offsets[first..].iter().take_while(|at| **at <= span.end);
            let one_line = text.get(span.clone()).is_some_and(|text| !text.contains('\n'));
            found.extend(inside.map(|at| (*at, Place { key: written(path), one_line })));
        }
    }
}

/// One step of a path into the tree.
enum Step<'t> {
    Key(&'t str),
    Index(usize),
}

fn written(path: &[Step<'_>]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Key(name) if text.is_empty() => text.push_str(&super::reader::printable_key(name)),
            Step::Key(name) => {
                text.push('.');
                text.push_str(&super::reader::printable_key(name));
            }
            Step::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}

fn line_around(text: &str, at: usize) -> Range<usize> {
    let (before, after) = (&text.as_bytes()[..at], &text.as_bytes()[at..]);
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let end = after.iter().position(|byte| *byte == b'\n').map_or(text.len(), |length| at + length);
    start..end
}

/// Follows the headers line by line, to name the table that a broken line stands in.
struct Headers<'t> {
    lines: std::str::SplitInclusive<'t, char>,
    at: usize,
    /// How often each `[[path]]` came since its parent's last header.
    counts: BTreeMap<String, usize>,
    current: String,
}

impl<'t> Headers<'t> {
    fn new(text: &'t str) -> Self {
        Self { lines: text.split_inclusive('\n'), at: 0, counts: BTreeMap::new(), current: String::new() }
    }

    /// Full path of the table at the line that starts at `start`.
    fn advance_to(&mut self, start: usize) -> String {
        while self.at < start {
            let Some(line) = self.lines.next() else { break };
            self.at += line.len();
            self.see(line.trim());
        }
        let mut path = String::new();
        let mut plain = String::new();
        for name in self.current.split('.').filter(|name| !name.is_empty()) {
            if !plain.is_empty() {
                path.push('.');
                plain.push('.');
            }
            path.push_str(&super::reader::printable_key(name));
            plain.push_str(name);
            if let Some(count) = self.counts.get(&plain) {
                path.push_str(&format!("[{}]", count - 1));
            }
        }
        path
    }

    fn see(&mut self, line: &str) {
        let Some(header) = line.strip_prefix('[') else { return };
        let (name, many) = header.strip_prefix('[').map_or((header, false), |name| (name, true));
        let name: String = name.split([']', '#']).next().unwrap_or_default().split_whitespace().collect();
        if many {
            *self.counts.entry(name.clone()).or_default() += 1;
            let below = format!("{name}.");
            self.counts.retain(|path, _| !path.starts_with(&below));
        }
        self.current = name;
    }
}

/// The key that a line sets, below the table it stands in; the table where the line sets none.
fn key_of_line(line: &str, table: &str) -> String {
    let name = line.split(['=', ' ', '\t', '#']).find(|part| !part.is_empty()).unwrap_or_default().trim();
    let bare = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    match (bare, table.is_empty()) {
        (false, _) => table.to_owned(),
        (true, true) => name.to_owned(),
        (true, false) => format!("{table}.{name}"),
    }
}

/// What the key takes, if it is one that is known.
fn advice(path: &str) -> String {
    let mut plain = String::new();
    let mut inside = false;
    for letter in path.chars() {
        match letter {
            '[' => inside = true,
            ']' => inside = false,
            letter if !inside => plain.push(letter),
            _ => {}
        }
    }
    let (table, name) = plain.rsplit_once('.').unwrap_or(("", &plain));
    let known = accepted_keys().into_iter().find(|key| key.table == table && key.name == name);
    known.map_or_else(String::new, |key| format!("; use {}", key.expects))
}
