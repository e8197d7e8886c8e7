//! Places for connections: as many as there are, and whoever only waits gives way to who comes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// For so long nobody is sent away who has just come or has just had an answer.
const GRACE: Duration = Duration::from_millis(100);

/// All places of a server.
#[derive(Clone, Debug)]
pub(super) struct Places {
    limit: usize,
    state: Arc<Mutex<State>>,
    /// A place is free, or somebody may be sent away.
    changed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    taken: usize,
    /// Those that are told to leave and still have their places.
    leaving: usize,
    turn: u64,
    /// Those that may be told to leave, the first of them first.
    waiting: BTreeMap<Rank, Waiting>,
}

/// First those that ask nothing, then those whose request is still coming; of them who has done so for longest.
type Rank = (Wait, u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wait {
    ForHead,
    ForBody,
}

#[derive(Debug)]
struct Waiting {
    since: Instant,
    leave: Arc<Notify>,
}

/// The place of a connection, until the last copy is dropped.
#[derive(Clone, Debug)]
pub(super) struct Place(Arc<Seat>);

#[derive(Debug)]
struct Seat {
    places: Places,
    leave: Arc<Notify>,
    /// Where it stands among those that wait, unless a request is being answered.
    rank: Mutex<Option<Rank>>,
}

impl Places {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, state: Arc::default(), changed: Arc::default() }
    }

    /// A place; if all are taken the one that has waited longest is told to leave.
    pub(super) async fn take(&self) -> Place {
        loop {
            let nobody_leaves_before = {
                let mut state = self.state();
                if state.taken < self.limit {
                    state.taken += 1;
                    break;
                }
                state.send_away()
            };
            tokio::select! {
                () = self.changed.notified() => {}
                () = at(nobody_leaves_before) => {}
            }
        }
        let seat = Seat { places: self.clone(), leave: Arc::default(), rank: Mutex::default() };
        let place = Place(Arc::new(seat));
        place.waits_for_a_head();
        place
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Tells one to leave, if none is about to. Returns when to look again, if it is too early.
    fn send_away(&mut self) -> Option<Instant> {
        if self.leaving > 0 {
            return None;
        }
        let first = self.waiting.first_entry()?;
        let end_of_grace = first.get().since + GRACE;
        if Instant::now() < end_of_grace {
            return Some(end_of_grace);
        }
        first.remove().leave.notify_one();
        self.leaving += 1;
        None
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

impl Place {
    /// No request has begun.
    pub(super) fn waits_for_a_head(&self) {
        self.0.enter(Some(Wait::ForHead));
    }

    /// A request's body is coming.
    pub(super) fn waits_for_a_body(&self) {
        self.0.enter(Some(Wait::ForBody));
    }

    /// A request is there and has no answer yet.
    pub(super) fn answers(&self) {
        self.0.enter(None);
    }

    /// Waits until the place must be left.
    pub(super) async fn told_to_leave(&self) {
        self.0.leave.notified().await;
    }
}

impl Seat {
    fn enter(&self, wait: Option<Wait>) {
        let mut rank = self.rank.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.places.state();
        if let Some(old) = rank.take()
            && state.waiting.remove(&old).is_none()
        {
            // It is told to leave already.
            *rank = Some(old);
            return;
        }
        if let Some(wait) = wait {
            state.turn += 1;
            let new = (wait, state.turn);
            state.waiting.insert(new, Waiting { since: Instant::now(), leave: Arc::clone(&self.leave) });
            *rank = Some(new);
            self.places.changed.notify_one();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let rank = self.rank.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let mut state = self.places.state();
        state.taken -= 1;
        if rank.is_some_and(|rank| state.waiting.remove(&rank).is_none()) {
            state.leaving -= 1;
        }
        self.places.changed.notify_one();
    }
}
