//! The statistics thread: writes the document to a file, at an interval and once more at the end.

use std::fs::{self, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam::channel::{self, Receiver, RecvTimeoutError, Sender};
use tracing::{info, warn};

use super::collect::CollectError;
use super::report::Report;
use super::series::Series;

/// Shortest time between two documents.
pub const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// Permissions of the file, before the umask.
const MODE: u32 = 0o644;

/// How documents are put into a file.
#[derive(Debug)]
pub enum Output {
    /// The file is replaced as a whole by each document.
    Document(PathBuf),
    /// Each document is appended as a line.
    Lines(Series),
}

impl From<PathBuf> for Output {
    fn from(path: PathBuf) -> Self {
        Self::Document(path)
    }
}

impl Output {
    fn path(&self) -> &Path {
        match self {
            Self::Document(path) => path,
            Self::Lines(series) => series.path(),
        }
    }

    fn write(&mut self, report: &Report) -> Result<(), WriteError> {
        match self {
            Self::Document(path) => write(path, report),
            Self::Lines(series) => series.append(report),
        }
    }
}

/// Writes statistics to a file until it is stopped or dropped. Whatever goes wrong with the file, it is logged when it
/// begins and when it ends, and nothing else is disturbed.
#[derive(Debug)]
pub struct Sampler {
    /// Nothing is ever sent; that it is gone tells the thread to stop.
    running: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Sampler {
    /// Writes what `collect` gives to `output`: at once, then each `interval` (at least [`MIN_INTERVAL`]), and a last
    /// time when it is stopped.
    ///
    /// # Errors
    /// The system's, if it gives no thread.
    pub fn start<C>(output: impl Into<Output>, interval: Duration, collect: C) -> io::Result<Self>
    where
        C: Fn() -> Result<Report, CollectError> + Send + 'static,
    {
        let (running, stopped) = channel::bounded(0);
        let mut output = output.into();
        let thread = thread::Builder::new()
            .name("stats".to_owned())
            .spawn(move || sample(&mut output, interval.max(MIN_INTERVAL), &stopped, &collect))?;
        Ok(Self { running: Some(running), thread: Some(thread) })
    }

    /// Writes the last document and ends the thread. For exact sums, call it when the workers have stopped and their
    /// sockets are still open.
    pub fn stop(mut self) {
        self.finish();
    }

    fn finish(&mut self) {
        drop(self.running.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("the statistics thread has panicked");
        }
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Why a document was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// It could not be made.
    #[error(transparent)]
    Collect(#[from] CollectError),
    /// The path names something that must not be replaced, as a device or a directory.
    #[error("{} is not a regular file; choose another path for the statistics", .0.display())]
    NotAFile(PathBuf),
    /// Lines would be appended to a file of somebody else's.
    #[error("{} has something else than lines of statistics; choose another path, or remove it", .0.display())]
    NotASeries(PathBuf),
    /// The file system refused.
    #[error("cannot write the statistics to {}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

/// Writes `report` to `path` as one line of JSON. A reader sees the old document or the new one, never a part.
///
/// The file is readable by all, as far as the process's umask allows. A symbolic link is followed.
///
/// # Errors
/// [`WriteError`]; the old document is then untouched.
pub fn write(path: &Path, report: &Report) -> Result<(), WriteError> {
    let failed = |error| WriteError::Io { path: path.to_owned(), error };
    // By renaming, a link would be replaced, and so would /dev/stdout.
    let target = match fs::canonicalize(path) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        Err(error) => return Err(failed(error)),
    };
    if fs::metadata(&target).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(WriteError::NotAFile(path.to_owned()));
    }
    let directory = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // Opened here, because tempfile would put its random name into the error, which would then look new each time.
    let create = |temporary: &Path| OpenOptions::new().write(true).create_new(true).mode(MODE).open(temporary);
    let mut file = tempfile::Builder::new().prefix(".pointsman-stats-").make_in(directory, create).map_err(failed)?;
    let mut writer = BufWriter::new(file.as_file_mut());
    serde_json::to_writer(&mut writer, report).map_err(|error| failed(error.into()))?;
    writer.write_all(b"\n").and_then(|()| writer.flush()).map_err(failed)?;
    drop(writer);
    file.persist(&target).map_err(|error| failed(error.error))?;
    Ok(())
}

fn sample(
    output: &mut Output,
    interval: Duration,
    stopped: &Receiver<()>,
    collect: &dyn Fn() -> Result<Report, CollectError>,
) {
    let mut trouble = Trouble::default();
    let mut write_one = || {
        let result = collect().map_err(WriteError::from).and_then(|report| output.write(&report));
        match trouble.notice(result.as_ref().err().map(ToString::to_string)) {
            Some(Change::Begins(message)) => warn!("{message}; will try again, forwarding goes on"),
            Some(Change::Ends) => info!("statistics are written to {} again", output.path().display()),
            None => {}
        }
    };
    loop {
        write_one();
        if stopped.recv_timeout(interval) != Err(RecvTimeoutError::Timeout) {
            break;
        }
    }
    write_one();
}

/// Tells a new trouble from one that goes on.
#[derive(Debug, Default)]
struct Trouble {
    last: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Change {
    Begins(String),
    Ends,
}

impl Trouble {
    fn notice(&mut self, now: Option<String>) -> Option<Change> {
        if now == self.last {
            return None;
        }
        self.last.clone_from(&now);
        Some(now.map_or(Change::Ends, Change::Begins))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_told_when_it_begins_changes_and_ends() {
        let mut trouble = Trouble::default();
        let says = |text: &str| Some(text.to_owned());
        let begins = |text: &str| Some(Change::Begins(text.to_owned()));
        for (now, told) in [
            (None, None),
            (says("no directory"), begins("no directory")),
            (says("no directory"), None),
            (says("disk full"), begins("disk full")),
            (says("disk full"), None),
            (None, Some(Change::Ends)),
            (None, None),
            (says("disk full"), begins("disk full")),
        ] {
            assert_eq!(trouble.notice(now), told);
        }
    }
}
