//! A time series: a file to which each document is appended as a line, and which is rotated.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::report::Report;
use super::sampler::WriteError;

/// What every line begins with, by which a file of ours is known.
const BEGINNING: &[u8] = b"{\"schema_version\":";
/// Permissions of a new file, before the umask.
const MODE: u32 = 0o644;

/// When a file is full, and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Bytes that a file may have. A single line may be longer, in a file of its own.
    pub bytes: u64,
    /// Full files that are kept, as `FILE.1` (the newest), `FILE.2` and so on; older ones are removed.
    pub keep: u32,
}

/// A file of JSON lines. It only ever has whole lines, but for the time of a write.
#[derive(Debug)]
pub struct Series {
    path: PathBuf,
    rotation: Rotation,
    file: Option<File>,
}

impl Series {
    /// Lines will be appended to `path`, which is opened with the first.
    #[must_use]
    pub fn new(path: PathBuf, rotation: Rotation) -> Self {
        Self { path, rotation, file: None }
    }

    /// Where the lines go.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a document as one line. Before that a full file is rotated.
    ///
    /// # Errors
    /// [`WriteError`]; the file then ends with the last whole line, as before. Counters go on, so the next line has all
    /// that this one would have said but its moment.
    pub fn append(&mut self, report: &Report) -> Result<(), WriteError> {
        let mut line = serde_json::to_vec(report).map_err(|error| self.failed(error.into()))?;
        line.push(b'\n');
        let result = self.append_line(&line);
        if result.is_err() {
            // Opened anew, the file is mended should that have failed now.
            self.file = None;
        }
        result
    }

    fn append_line(&mut self, line: &[u8]) -> Result<(), WriteError> {
        let mut file = self.open()?;
        let mut length = file.metadata().map_err(|error| self.failed(error))?.len();
        if length > 0 && length.saturating_add(line.len() as u64) > self.rotation.bytes {
            drop(file);
            self.rotate().map_err(|error| self.failed(error))?;
            file = self.open()?;
            length = 0;
        }
        let written = file.write_all(line);
        if let Err(error) = written {
            // Shortening takes no space.
            let _ = file.set_len(length);
            return Err(self.failed(error));
        }
        self.file = Some(file);
        Ok(())
    }

    /// The file, if it is still the one of that name; else whatever has that name, or a new one.
    fn open(&mut self) -> Result<File, WriteError> {
        let named = fs::metadata(&self.path).ok();
        if let (Some(file), Some(named)) = (self.file.take(), &named)
            && file.metadata().is_ok_and(|open| (open.dev(), open.ino()) == (named.dev(), named.ino()))
        {
            return Ok(file);
        }
        if named.is_some_and(|named| !named.is_file()) {
            return Err(WriteError::NotAFile(self.path.clone()));
        }
        let opened = OpenOptions::new().read(true).append(true).create(true).mode(MODE).open(&self.path);
        let mut file = opened.map_err(|error| self.failed(error))?;
        let mut start = Vec::new();
        (&mut file).take(BEGINNING.len() as u64).read_to_end(&mut start).map_err(|error| self.failed(error))?;
        if !BEGINNING.starts_with(&start) {
            return Err(WriteError::NotASeries(self.path.clone()));
        }
        mend(&mut file).map_err(|error| self.failed(error))?;
        Ok(file)
    }

    fn rotate(&self) -> io::Result<()> {
        let numbered = |number: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        for number in (1..self.rotation.keep).rev() {
            match fs::rename(numbered(number), numbered(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.rotation.keep == 0 { fs::remove_file(&self.path) } else { fs::rename(&self.path, numbered(1)) }
    }

    fn failed(&self, error: io::Error) -> WriteError {
        WriteError::Io { path: self.path.clone(), error }
    }
}

/// Cuts off what follows the last whole line: the writer was killed, or could not cut it off itself.
fn mend(file: &mut File) -> io::Result<()> {
    const BLOCK: u64 = 64 << 10;
    let length = file.seek(SeekFrom::End(0))?;
    let mut end = length;
    let mut block = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        block.resize(usize::try_from(end - start).unwrap_or(0), 0);
        file.read_exact_at(&mut block, start)?;
        if let Some(newline) = block.iter().rposition(|byte| *byte == b'\n') {
            end = start + newline as u64 + 1;
            break;
        }
        end = start;
    }
    if end < length { file.set_len(end) } else { Ok(()) }
}
