//! The document that the director runs by, and the file that it came from.

use std::path::Path;
use std::sync::Arc;

use crate::clock;
use crate::config::{self, SaveError};

/// The configuration's text as it is in force, and what is known of the file.
#[derive(Debug)]
pub(super) struct Document {
    text: Arc<str>,
    /// The file, as it was read or written last.
    file: Arc<str>,
    /// Differs from process to process, so that no revision is taken for one of a director before.
    start: u64,
    number: u64,
    unsaved_changes: u64,
}

impl Document {
    /// The document of a file that was just read.
    pub(super) fn of_file(text: String) -> Self {
        let text: Arc<str> = text.into();
        Self { file: Arc::clone(&text), text, start: clock::monotonic_ns(), number: 1, unsaved_changes: 0 }
    }

    pub(super) fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// Changes made since the file was read or written.
    pub(super) fn unsaved_changes(&self) -> u64 {
        self.unsaved_changes
    }

    /// Names the text: another one never has the same revision.
    pub(super) fn revision(&self) -> String {
        format!("{:x}-{}", self.start, self.number)
    }

    /// Takes the place of the text, by so many changes.
    pub(super) fn change(&mut self, text: String, changes: u64) {
        if *text != *self.text {
            self.number += 1;
            self.text = text.into();
            self.unsaved_changes += changes;
        }
    }

    /// The file was read anew and is in force. Returns how many changes are lost by that.
    pub(super) fn reload(&mut self, text: String) -> u64 {
        let lost = self.unsaved_changes;
        self.change(text, 0);
        self.file = Arc::clone(&self.text);
        self.unsaved_changes = 0;
        lost
    }

    /// Writes `text`, which is about to be in force, to the file.
    pub(super) fn save(&mut self, path: &Path, text: &str) -> Result<(), SaveError> {
        config::save(path, &self.file, text)?;
        self.file = text.into();
        Ok(())
    }

    /// The file holds what is in force.
    pub(super) fn is_saved(&mut self) {
        self.unsaved_changes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_names_one_text_and_unsaved_changes_are_counted() {
        let mut document = Document::of_file("a".to_owned());
        let first = document.revision();
        document.change("a".to_owned(), 1);
        assert_eq!((document.revision(), document.unsaved_changes()), (first.clone(), 0));
        document.change("b".to_owned(), 3);
        assert_eq!(document.unsaved_changes(), 3);
        assert_eq!(document.reload("a".to_owned()), 3);
        assert_ne!(document.revision(), first);
        assert_eq!(document.unsaved_changes(), 0);
    }
}
