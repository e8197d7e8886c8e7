//! `pointsman report`.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;

use super::{BAD_INPUT, FAILURE, Failure, printed, tell};
use crate::report::{self, InputError, Run};
use crate::stats::recorded::ReadError;

pub(super) const EXAMPLES: &str = "\
Examples:
  pointsman stats --json > before.json; sleep 60; pointsman stats --json > after.json
  pointsman report before.json after.json -o report.html
  pointsman report monday.jsonl tuesday.jsonl -o report.html --export-dir pictures

Documents of the same director between its start and its end are one run, in however many files they are: a series
of JSON lines and its rotated pieces, or the first and the last document. Its figures are the difference of the last
and the first; those of a single document count since the director's start. With --apart each file is a run of its
own.

Exit codes:
  0  done
  1  a file could not be read or written
  2  the command line is wrong, or a file is empty, cut off, of a later pointsman or no statistics document

How to read the pictures: docs/report.md.";

/// Permissions of the page, before the umask.
const MODE: u32 = 0o644;

/// Arguments of `report`.
#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// Statistics documents (stats --json, run --stats-file), alone or as JSON lines; - for standard input
    #[arg(value_name = "RUN.json", required = true)]
    runs: Vec<PathBuf>,
    /// HTML page to write, all in one file; an existing one is replaced; - for standard output
    #[arg(short, long, value_name = "FILE", required_unless_present = "export_dir")]
    output: Option<PathBuf>,
    /// Directory to write every picture to, as SVG and as PNG
    #[arg(long, value_name = "DIR")]
    export_dir: Option<PathBuf>,
    /// Take each file as a run of its own, also those of the same director
    #[arg(long)]
    apart: bool,
    /// Name of a run, in the order of the runs; by default that of its first file
    #[arg(long = "label", value_name = "NAME")]
    labels: Vec<String>,
}

/// Writes the report.
pub(super) fn run(args: &ReportArgs) -> Result<(), Failure> {
    let mut runs = report::read_runs(&args.runs, args.apart).map_err(|error| Failure {
        code: if matches!(error, InputError::Read(ReadError::Unreadable { .. })) { FAILURE } else { BAD_INPUT },
        message: error.to_string(),
    })?;
    rename(&mut runs, &args.labels)?;
    for note in runs.iter().flat_map(Run::notes) {
        tell(format_args!("warning: {note}"));
    }
    if let Some(directory) = &args.export_dir {
        report::export(&runs, directory).map_err(Failure::new)?;
    }
    match &args.output {
        None => Ok(()),
        Some(path) if path == Path::new("-") => printed(io::stdout().lock().write_all(report::page(&runs).as_bytes())),
        Some(path) => write(path, &report::page(&runs))
            .map_err(|error| Failure { message: format!("cannot write {}: {error}", path.display()), code: FAILURE }),
    }
}

fn rename(runs: &mut [Run], labels: &[String]) -> Result<(), Failure> {
    if !labels.is_empty() && labels.len() != runs.len() {
        return Err(Failure::bad_input(format!(
            "{} --label for {} runs: give one for each, or none (documents of the same director are one run, but with \
             --apart)",
            labels.len(),
            runs.len()
        )));
    }
    for (run, label) in runs.iter_mut().zip(labels) {
        run.rename(label);
    }
    Ok(())
}

/// Puts the page in the place of what was there: whole, or not at all. A link is followed; what is no regular file, as a
/// pipe, is written to.
fn write(path: &Path, page: &str) -> io::Result<()> {
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if fs::metadata(&target).is_ok_and(|metadata| !metadata.is_file()) {
        return OpenOptions::new().write(true).open(&target)?.write_all(page.as_bytes());
    }
    let directory = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let create = |temporary: &Path| OpenOptions::new().write(true).create_new(true).mode(MODE).open(temporary);
    let mut file = tempfile::Builder::new().prefix(".pointsman-report-").make_in(directory, create)?;
    file.as_file_mut().write_all(page.as_bytes())?;
    file.persist(&target).map(drop).map_err(|error| error.error)
}
