//! Runs: what one director did from one document to another.

use std::collections::BTreeMap;
use std::mem;
use std::path::{Path, PathBuf};

use super::document::{Document, RealServer};
use super::read::{self, InputError};
use crate::stats::recorded::ReadError;
use crate::stats::report::Traffic;

/// What one director did from its first document to its last; with one document, since its start.
#[derive(Clone, Debug)]
pub struct Run {
    pub(crate) label: String,
    /// The files that it was read from.
    pub(crate) files: Vec<String>,
    /// The document that figures count from; none for the director's start.
    pub(crate) first: Option<Document>,
    pub(crate) last: Document,
    pub(crate) documents: u64,
    pub(crate) points: Vec<Point>,
    pub(crate) servers: Increases,
    pub(crate) notes: Vec<String>,
}

/// The totals of one document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) at_ns: u64,
    pub(crate) received: Traffic,
    pub(crate) tx: Traffic,
    pub(crate) dropped: u64,
}

/// By how much the counters of real servers grew: by the service and the server's address, and whether it is the
/// fallback server.
pub(crate) type Increases = BTreeMap<(String, String, bool), Increase>;

/// By how much the counters of one real server grew, also over its removal and return.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Increase {
    pub(crate) tx: Traffic,
    pub(crate) begun: u64,
    pub(crate) dropped: u64,
}

/// Successive documents of one run from one file.
#[derive(Debug)]
pub(super) struct Segment {
    file: String,
    first: Document,
    /// None while there is one document alone.
    last: Option<Document>,
    documents: u64,
    points: Vec<Point>,
    servers: Increases,
    /// Documents in the file that stop in the middle.
    pub(super) incomplete: u64,
}

impl Segment {
    pub(super) fn new(file: String, first: Document) -> Self {
        let points = vec![Point::of(&first)];
        Self { file, first, last: None, documents: 1, points, servers: Increases::new(), incomplete: 0 }
    }

    fn newest(&self) -> &Document {
        self.last.as_ref().unwrap_or(&self.first)
    }

    /// Takes the next document; returns one that does not continue this segment.
    pub(super) fn push(&mut self, document: Document) -> Option<Document> {
        let newest = self.newest();
        if !newest.is_of_the_run_of(&document) || document.at_ns() < newest.at_ns() {
            return Some(document);
        }
        if document.at_ns() > newest.at_ns() {
            let mut servers = mem::take(&mut self.servers);
            add_increases(&mut servers, Some(self.newest()), &document);
            self.servers = servers;
            self.points.push(Point::of(&document));
            self.documents += 1;
            self.last = Some(document);
        }
        None
    }

    /// Takes what follows.
    fn append(&mut self, next: Self) {
        add_increases(&mut self.servers, Some(self.last.as_ref().unwrap_or(&self.first)), &next.first);
        for (key, increase) in next.servers {
            self.servers.entry(key).or_default().add(increase);
        }
        self.points.extend(next.points);
        self.documents += next.documents;
        self.last = Some(next.last.unwrap_or(next.first));
    }
}

impl Point {
    fn of(document: &Document) -> Self {
        let totals = &document.totals;
        let dropped = totals.drops.values().fold(0, |sum: u64, count| sum.saturating_add(*count));
        Self { at_ns: document.at_ns(), received: totals.received, tx: totals.tx, dropped }
    }
}

impl Increase {
    fn of(server: &RealServer) -> Self {
        let dropped = server.drops.values().fold(0, |sum: u64, count| sum.saturating_add(*count));
        Self { tx: server.tx, begun: server.connections.unwrap_or_default().begun, dropped }
    }

    /// What came since `before`; all, where the counters have begun anew.
    fn since(self, before: Option<Self>) -> Self {
        let Some(before) = before.filter(|before| before.tx.packets <= self.tx.packets && before.begun <= self.begun)
        else {
            return self;
        };
        Self {
            tx: since(self.tx, before.tx),
            begun: self.begun - before.begun,
            dropped: self.dropped.saturating_sub(before.dropped),
        }
    }

    fn add(&mut self, more: Self) {
        self.tx.packets = self.tx.packets.saturating_add(more.tx.packets);
        self.tx.bytes = self.tx.bytes.saturating_add(more.tx.bytes);
        self.begun = self.begun.saturating_add(more.begun);
        self.dropped = self.dropped.saturating_add(more.dropped);
    }
}

/// The difference of two readings of a counter; 0 if it fell, which it does not.
pub(crate) fn since(now: Traffic, before: Traffic) -> Traffic {
    Traffic { packets: now.packets.saturating_sub(before.packets), bytes: now.bytes.saturating_sub(before.bytes) }
}

fn readings(document: &Document) -> impl Iterator<Item = ((String, String, bool), Increase)> {
    document.virtual_services.iter().flat_map(|service| {
        service
            .real_servers
            .iter()
            .map(|server| ((service.service.clone(), server.address.clone(), server.fallback), Increase::of(server)))
    })
}

fn add_increases(servers: &mut Increases, before: Option<&Document>, now: &Document) {
    let before: Increases = before.into_iter().flat_map(readings).collect();
    for (key, reading) in readings(now) {
        let increase = reading.since(before.get(&key).copied());
        servers.entry(key).or_default().add(increase);
    }
}

/// Reads the runs of these files, `-` for standard input. Documents of the same director, from one start to its end,
/// are one run, in whatever files they are; with `apart` each file is a run of its own.
///
/// # Errors
/// [`InputError`], for the first file that cannot be used.
pub fn read_runs(files: &[PathBuf], apart: bool) -> Result<Vec<Run>, InputError> {
    let mut groups: Vec<(usize, Vec<Segment>)> = Vec::new();
    for (number, file) in files.iter().enumerate() {
        for segment in read::segments(file)? {
            let same = |(of, group): &&mut (usize, Vec<Segment>)| {
                (!apart || *of == number)
                    && group.first().is_some_and(|first| first.first.is_of_the_run_of(&segment.first))
            };
            match groups.iter_mut().find(same) {
                Some((_, group)) => group.push(segment),
                None => groups.push((number, vec![segment])),
            }
        }
    }
    let mut runs = groups.into_iter().map(|(_, group)| joined(group)).collect::<Result<Vec<_>, _>>()?;
    label(&mut runs);
    Ok(runs)
}

/// One run of its segments.
fn joined(mut segments: Vec<Segment>) -> Result<Run, InputError> {
    let mut notes = Vec::new();
    for segment in segments.iter().filter(|segment| segment.incomplete > 0) {
        let (file, count) = (&segment.file, segment.incomplete);
        notes.push(format!(
            "{file}: {count} incomplete document(s) are left out, such as one that was just being written."
        ));
    }
    let mut files: Vec<String> = segments.iter().map(|segment| segment.file.clone()).collect();
    files.dedup();
    // Of those that begin together the longest comes first and holds the others.
    segments.sort_by_key(|segment| (segment.first.at_ns(), u64::MAX - segment.newest().at_ns()));
    let mut segments = segments.into_iter();
    let Some(mut whole) = segments.next() else {
        return Err(ReadError::Empty(String::new()).into());
    };
    for segment in segments {
        if segment.first.at_ns() > whole.newest().at_ns() {
            whole.append(segment);
        } else if segment.newest().at_ns() > whole.newest().at_ns() {
            return Err(InputError::Overlap(whole.file, segment.file));
        } else {
            notes.push(format!("{} lies within the time of other documents and adds nothing.", segment.file));
        }
    }
    let Segment { first, last, documents, points, mut servers, .. } = whole;
    let (first, last) = match last {
        Some(last) => (Some(first), last),
        None => {
            add_increases(&mut servers, None, &first);
            (None, first)
        }
    };
    Ok(Run { label: String::new(), files, first, last, documents, points, servers, notes })
}

/// Names runs by their files: the stem, if that tells them apart, else the path, else a number, too.
fn label(runs: &mut [Run]) {
    let stem = |run: &Run| {
        let file = run.files.first().map_or("", String::as_str);
        if file == "-" {
            return "standard input".to_owned();
        }
        Path::new(file).file_stem().map_or_else(|| file.to_owned(), |stem| stem.to_string_lossy().into_owned())
    };
    let path = |run: &Run| run.files.first().cloned().unwrap_or_default();
    for (naming, last) in [(&stem as &dyn Fn(&Run) -> String, false), (&path, true)] {
        let names: Vec<String> = runs.iter().map(naming).collect();
        let distinct = names.iter().enumerate().all(|(at, name)| !names.iter().skip(at + 1).any(|other| other == name));
        if distinct || last {
            for (number, (run, name)) in runs.iter_mut().zip(names).enumerate() {
                run.label = if distinct { name } else { format!("{} {name}", number + 1) };
            }
            return;
        }
    }
}

impl Run {
    /// Gives it another name.
    pub fn rename(&mut self, label: &str) {
        label.clone_into(&mut self.label);
    }

    /// What its reader should know: what was left out.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// How long it was, in nanoseconds.
    pub(crate) fn span_ns(&self) -> u64 {
        let from = self.first.as_ref().map_or(self.last.started_at.monotonic_ns, Document::at_ns);
        self.last.at_ns().saturating_sub(from)
    }
}
