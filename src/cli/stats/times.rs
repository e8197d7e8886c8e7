//! `pointsman stats --hlog` and `pointsman stats merge`: the times of frames for other tools, and of several directors.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::{StatsError, WIDTH, print_times, wrap};
use crate::stats::hlog::{HlogError, write_merged, write_report};
use crate::stats::merge::{MergeError, MergedTimes, merge_files};
use crate::stats::report::Report;

/// Arguments of `pointsman stats merge`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Example:
  pointsman stats merge a.json b.json --hlog both.hlog

Of a series (run --stats-file) the last document of each start counts. Two files of one run of one director overlap, so only
one of them can be merged. Documents of earlier versions can be merged, too; what they lack is said.")]
pub struct MergeArgs {
    /// Statistics documents, or series of them, each of another director or another run; - is the standard input
    #[arg(required = true, value_name = "FILE.json")]
    pub files: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Write the histograms to FILE instead, as a log of HdrHistogram (version 2); - is the standard output
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub hlog: Option<PathBuf>,
}

/// Why histograms could not be read, merged or written.
#[derive(Debug, thiserror::Error)]
pub enum TimesError {
    /// They cannot be merged.
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// The log could not be made.
    #[error(transparent)]
    Hlog(#[from] HlogError),
    /// It could not be written.
    #[error("cannot write {}: {source}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Writes the histograms of a document to a file.
///
/// # Errors
/// [`TimesError`].
pub fn write_hlog(report: &Report, path: &Path) -> Result<(), TimesError> {
    let mut log = Vec::new();
    write_report(report, &mut log)?;
    put(&log, path)
}

/// Merges documents, and prints or writes what they make together.
pub(super) fn run_merge(args: &MergeArgs, out: &mut impl Write) -> Result<(), StatsError> {
    let merged = merge_files(&args.files).map_err(TimesError::from)?;
    if let Some(path) = &args.hlog {
        let mut log = Vec::new();
        write_merged(&merged, &mut log).map_err(TimesError::from)?;
        return Ok(put(&log, path)?);
    }
    if args.json {
        serde_json::to_writer(&mut *out, &merged).map_err(io::Error::from)?;
        return Ok(writeln!(out)?);
    }
    let MergedTimes { documents, latency, queueing, processing, completion, notes } = &merged;
    for document in documents {
        writeln!(out, "{}", document.hostname)?;
    }
    print_times([], [latency, queueing, processing, completion], out)?;
    for note in notes {
        wrap(out, "note: ", note, WIDTH)?;
    }
    Ok(())
}

fn put(log: &[u8], path: &Path) -> Result<(), TimesError> {
    let written = if path == Path::new("-") { io::stdout().lock().write_all(log) } else { fs::write(path, log) };
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|source| TimesError::Write { path: path.to_owned(), source }),
    }
}
