//! What a service manager such as systemd is told, by the protocol of sd_notify(3): that the director forwards, reads its
//! configuration again or stops, and that its workers get on. Without a manager nothing is said.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam::channel::{self, RecvTimeoutError, Sender};
use sd_notify::NotifyState;

use super::DirectorError;
use crate::config::Config;
use crate::counters::WorkerCounters;

/// So often within the manager's time limit the workers are looked at: one that is late once is not yet a reason to be
/// killed.
const LOOKS: u32 = 4;

/// The director forwards by `config`, with so many workers.
pub(super) fn tell_ready(config: &Config, workers: usize) {
    let real_servers: usize = config.virtual_services.iter().map(|service| service.real_servers.len()).sum();
    let status = format!(
        "Forwarding: virtual services {}, real servers {real_servers}, workers {workers}",
        config.virtual_services.len()
    );
    tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
}

/// It reads its configuration again, and is ready when that is done.
pub(super) fn tell_reloading() {
    // The manager wants to know when that was, or takes an older READY=1 for the answer.
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        tell(&[NotifyState::Reloading, now, NotifyState::Status("Reading the configuration again")]);
    }
}

/// It is about to end.
pub(super) fn tell_stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("Stopping")]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager cannot be told how the director is");
    }
}

/// Tells the manager again and again that all workers get on, until it is dropped.
#[derive(Debug)]
pub(super) struct Watchdog {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Starts a thread for it, if the manager wants to hear of it (`WATCHDOG_USEC`).
    pub(super) fn start(workers: Vec<Arc<WorkerCounters>>) -> Result<Option<Self>, DirectorError> {
        let Some(limit) = sd_notify::watchdog_enabled() else { return Ok(None) };
        Self::run(limit, workers)
            .map(Some)
            .map_err(|source| DirectorError::System { action: "start the watchdog's thread", source })
    }

    fn run(limit: Duration, workers: Vec<Arc<WorkerCounters>>) -> io::Result<Self> {
        let (stop, stopped) = channel::bounded::<()>(0);
        let mut progress = Progress::of(turns(&workers));
        let mut stuck = false;
        let thread = thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
            while stopped.recv_timeout(limit / LOOKS) == Err(RecvTimeoutError::Timeout) {
                match progress.look(&turns(&workers)) {
                    Ok(()) => {
                        stuck = false;
                        tell(&[NotifyState::Watchdog]);
                    }
                    Err(worker) if !stuck => {
                        stuck = true;
                        tracing::error!(worker, "the worker makes no turn: the service manager is not told to wait on");
                    }
                    Err(_) => {}
                }
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("the watchdog's thread has panicked");
        }
    }
}

/// Turns of each worker's loop so far. Also one that has nothing to do makes some: it never sleeps for long.
fn turns(workers: &[Arc<WorkerCounters>]) -> Vec<u64> {
    workers.iter().map(|worker| worker.busy_turns.get().wrapping_add(worker.idle_turns.get())).collect()
}

/// The turns of all workers when all of them had last got on.
#[derive(Debug)]
struct Progress(Vec<u64>);

impl Progress {
    fn of(turns: Vec<u64>) -> Self {
        Self(turns)
    }

    /// Whether each worker has made a turn since all had. If not, which one is the first that has not.
    fn look(&mut self, turns: &[u64]) -> Result<(), usize> {
        if let Some(stuck) = self.0.iter().zip(turns).position(|(then, now)| then == now) {
            return Err(stuck);
        }
        self.0.clear();
        self.0.extend_from_slice(turns);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_worker_must_have_made_a_turn_since_all_had() {
        let mut progress = Progress::of(vec![5, 7]);
        for (turns, expected) in [
            ([5, 7], Err(0)),
            ([6, 7], Err(1)),
            // That the first one stands still by now does not matter: it has made a turn since.
            ([6, 8], Ok(())),
            ([6, 9], Err(0)),
            ([7, 8 + 2], Ok(())),
            ([7, 10], Err(0)),
            // Counters wrap; it is a difference that counts.
            ([0, 0], Ok(())),
        ] {
            assert_eq!(progress.look(&turns), expected, "{turns:?}");
        }
    }

    #[test]
    fn idle_and_busy_turns_count() {
        let workers = [Arc::new(WorkerCounters::default())];
        workers[0].idle_turns.add(2);
        workers[0].busy_turns.add(3);
        assert_eq!(turns(&workers), [5]);
    }
}
