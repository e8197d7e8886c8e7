//! Log entries by the journal's native protocol (systemd's JOURNAL_NATIVE_PROTOCOL document).
//!
//! The message holds the fields, too, as `journalctl` shows nothing else by default; `journalctl -o verbose` and
//! `-o json` show them by their names.

use std::fmt::{self, Debug, Write as _};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Where the journal listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";
/// Longer messages are cut, so that a datagram always holds the entry.
const MOST_MESSAGE_BYTES: usize = 32 << 10;

/// A connection to the journal.
#[derive(Debug)]
pub(super) struct Journal(UnixDatagram);

impl Journal {
    /// Connects to the journal of this machine.
    pub(super) fn open() -> io::Result<Self> {
        Self::at(Path::new(SOCKET))
    }

    fn at(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        Ok(Self(socket))
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut entry = Entry::default();
        event.record(&mut entry);
        // Where the journal does not listen there is nobody to tell.
        let _ = self.0.send(&entry.finish(*event.metadata().level(), event.metadata().target()));
    }
}

#[derive(Default)]
struct Entry {
    message: String,
    /// As they follow the message.
    shown: String,
    fields: Vec<u8>,
}

impl Entry {
    fn take(&mut self, field: &Field, value: &str, shown: &dyn fmt::Display) {
        if field.name() == "message" {
            self.message.push_str(value);
            return;
        }
        let _ = write!(self.shown, " {}={shown}", field.name());
        put(&mut self.fields, &format!("POINTSMAN_{}", name(field.name())), value);
    }

    fn finish(mut self, level: Level, target: &str) -> Vec<u8> {
        self.message.push_str(&self.shown);
        if self.message.len() > MOST_MESSAGE_BYTES {
            let end = (0..=MOST_MESSAGE_BYTES).rev().find(|end| self.message.is_char_boundary(*end));
            self.message.truncate(end.unwrap_or(0));
            self.fields.clear();
        }
        let mut entry = Vec::new();
        put(&mut entry, "MESSAGE", &self.message);
        put(&mut entry, "PRIORITY", priority(level));
        put(&mut entry, "SYSLOG_IDENTIFIER", "pointsman");
        put(&mut entry, "TARGET", target);
        entry.append(&mut self.fields);
        entry
    }
}

impl Visit for Entry {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        self.take(field, &text, &text);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value, &format_args!("{value:?}"));
    }
}

/// Of syslog(3).
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

/// A name as the journal takes it.
fn name(field: &str) -> String {
    field.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

/// One field. With its length in front it may hold any text.
fn put(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn an_entry_has_the_message_with_its_fields_and_each_field_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let journal = UnixDatagram::bind(&path).unwrap();
        let log = tracing_subscriber::registry().with(Journal::at(&path).unwrap());
        tracing::subscriber::with_default(log, || {
            tracing::warn!(interface = "eth0", worker = 3, "the link is down");
            tracing::error!(reason = "one\ntwo", "bad");
            tracing::info!("{}", "é".repeat(MOST_MESSAGE_BYTES));
        });
        let mut entry = vec![0; 1 << 17];
        let mut next = || {
            let bytes = journal.recv(&mut entry).unwrap();
            entry[..bytes].to_vec()
        };
        assert_eq!(
            String::from_utf8(next()).unwrap(),
            "MESSAGE=the link is down interface=\"eth0\" worker=3\nPRIORITY=4\nSYSLOG_IDENTIFIER=pointsman\n\
             TARGET=pointsman::cli::journal::tests\nPOINTSMAN_INTERFACE=eth0\nPOINTSMAN_WORKER=3\n"
        );
        let second = next();
        assert!(second.ends_with(b"POINTSMAN_REASON\n\x07\0\0\0\0\0\0\0one\ntwo\n"), "{second:?}");
        assert!(next().len() <= MOST_MESSAGE_BYTES + 200);
    }
}
