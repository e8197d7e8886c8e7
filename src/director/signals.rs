//! Signals, turned into events by a thread of their own.

use std::thread;

use crossbeam::channel::Sender;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::{DirectorError, Event};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGINT or SIGTERM: stop. A second one ends the process at once.
    Stop(&'static str),
}

/// From here on signals wait to be watched.
pub(super) fn catch() -> Result<Signals, DirectorError> {
    Signals::new([SIGHUP, SIGINT, SIGTERM]).map_err(|source| DirectorError::System { action: "handle signals", source })
}

/// Starts to send signals as events.
pub(super) fn watch(mut signals: Signals, events: Sender<Event>) -> Result<(), DirectorError> {
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let mut stopping = false;
            for signal in signals.forever() {
                let event = match signal {
                    SIGHUP => Signal::Reload,
                    _ if stopping => std::process::exit(128 + signal),
                    SIGINT => Signal::Stop("SIGINT"),
                    _ => Signal::Stop("SIGTERM"),
                };
                stopping |= matches!(event, Signal::Stop(_));
                if events.send(Event::Signal(event)).is_err() {
                    return;
                }
            }
        })
        .map_err(|source| DirectorError::System { action: "start the thread for signals", source })?;
    Ok(())
}
