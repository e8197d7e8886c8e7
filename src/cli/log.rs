//! Where the log of `pointsman run` goes, and how it looks.

use std::io;
use std::os::linux::fs::MetadataExt;

use clap::ValueEnum;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt};

use super::journal::{self, Journal};
use super::{FAILURE, Failure};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// To the journal where standard error is connected to it, as in a systemd unit; else text
    Auto,
    /// One line of text for each event, to standard error
    Text,
    /// One JSON object for each event, to standard error
    Json,
    /// To systemd's journal by its native protocol, each field as one of the entry
    Journald,
}

/// Begins to log what `filter` lets through.
pub(super) fn start(filter: &str, format: LogFormat) -> Result<(), Failure> {
    let events = EnvFilter::try_new(filter)
        .map_err(|error| Failure::bad_input(format!("--log {filter:?}: {error}; use for example info or debug")))?;
    if let Some(word) = filter.split(',').find(|part| !part.contains(['=', '[']) && !is_level(part)) {
        return Err(Failure::bad_input(format!("--log: {word:?} is not a level; use for example info or debug")));
    }
    let events = tracing_subscriber::registry().with(events);
    match format {
        LogFormat::Auto => match to_journal().then(Journal::open) {
            Some(Ok(journal)) => events.with(journal).init(),
            _ => events.with(text()).init(),
        },
        LogFormat::Text => events.with(text()).init(),
        LogFormat::Json => {
            events
                .with(
                    fmt::layer()
                        .with_writer(io::stderr)
                        .with_target(false)
                        .log_internal_errors(false)
                        .json()
                        .flatten_event(true),
                )
                .init();
        }
        LogFormat::Journald => {
            let journal = Journal::open().map_err(|error| Failure {
                message: format!("cannot log to the journal at {}: {error}; use --log-format text", journal::SOCKET),
                code: FAILURE,
            })?;
            events.with(journal).init();
        }
    }
    Ok(())
}

type Filtered = tracing_subscriber::layer::Layered<EnvFilter, Registry>;

fn text() -> impl tracing_subscriber::Layer<Filtered> {
    fmt::layer()
        .with_writer(io::stderr)
        .with_target(false)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
        // Else a full disk or a closed pipe behind standard error is reported there by a macro that panics.
        .log_internal_errors(false)
}

/// Whether standard error is the journal's: device and inode are those that systemd.exec(5) names in `JOURNAL_STREAM`.
fn to_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    std::fs::metadata("/proc/self/fd/2")
        .is_ok_and(|stderr| stream == format!("{}:{}", stderr.st_dev(), stderr.st_ino()))
}

/// A lone word that is no level would be taken for the name of a module, and silence the rest.
fn is_level(word: &str) -> bool {
    word.trim().parse::<LevelFilter>().is_ok()
}
