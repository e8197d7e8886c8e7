//! Health checks: what real servers say of themselves when they are asked.
//!
//! One thread makes all checks, with one event loop; it never meets a worker. What it finds stands on a board, and when
//! a real server goes up or down the director is told, which publishes a table in which the real server is skipped or
//! taken again. docs/health.md says what each kind asks and what it means.

mod board;
mod command;
mod direct;
mod failure;
mod http;
mod icmp;
mod packet;
mod probe;
mod segments;
mod source;
pub mod state;
pub mod target;
mod tls;
mod udp;

pub use failure::{Answer, Failure, Good};

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

use crate::config::{Config, HealthCheckConfig};
use crate::stats::report::HealthCheckReport;
use board::{Board, Job};
use probe::Probe;
use segments::AllSegments;
use target::{DirectPath, Target};

/// Checks that are under way at the same time; more wait for their turn.
const AT_ONCE: usize = 256;
/// The first checks are spread over this time, or over their interval where that is shorter.
const FIRST_WITHIN: Duration = Duration::from_secs(1);

/// Tells that a real server went up or down.
pub type Notify = Box<dyn Fn() + Send + Sync>;

/// The thread that checks real servers, until this is stopped or dropped.
pub struct HealthChecks {
    board: Arc<Board>,
    jobs: Option<mpsc::UnboundedSender<Vec<Job>>>,
    thread: Option<JoinHandle<()>>,
}

impl HealthChecks {
    /// Starts the thread. It has nothing to check yet.
    ///
    /// # Errors
    /// The system's, if it gives no thread or event queue.
    pub fn start(notify: Notify) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let board = Arc::new(Board::default());
        let (jobs, wanted) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            board: Arc::clone(&board),
            notify,
            turns: Semaphore::new(AT_ONCE),
            segments: Arc::default(),
        });
        let thread = thread::Builder::new()
            .name("health".to_owned())
            .spawn(move || runtime.block_on(keep_checking(wanted, shared)))?;
        Ok(Self { board, jobs: Some(jobs), thread: Some(thread) })
    }

    /// Makes the checks of `config` from now on. Those that it made before go on as if nothing had happened.
    pub fn configure(&self, config: &Config) {
        let jobs = self.board.configure(config);
        if let Some(sender) = &self.jobs
            && sender.send(jobs).is_err()
        {
            tracing::error!("the health checks have ended: real servers stay as they are until a restart");
        }
    }

    /// How real servers are reached, for checks by direct routing.
    pub fn set_paths(&self, path: impl Fn(&Target) -> Option<DirectPath>) {
        self.board.set_paths(path);
    }

    /// Whether all checks of a real server are up; one without any check is well.
    #[must_use]
    pub fn is_up(&self, target: &Target) -> bool {
        self.board.is_up(target)
    }

    /// Something that reads what the checks have found, for any thread.
    pub fn reader(&self) -> impl Fn() -> Vec<(Target, Vec<HealthCheckReport>)> + Send + Sync + 'static {
        let board = Arc::clone(&self.board);
        move || board.report()
    }

    /// Ends all checks, kills commands under way, and waits for the thread.
    pub fn stop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("the health thread has panicked");
        }
    }
}

impl Drop for HealthChecks {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Shared {
    board: Arc<Board>,
    notify: Notify,
    turns: Semaphore,
    segments: Arc<AllSegments>,
}

/// Keeps one task for each wanted check, until the sender is gone.
async fn keep_checking(mut wanted: mpsc::UnboundedReceiver<Vec<Job>>, shared: Arc<Shared>) {
    let mut tasks = JoinSet::new();
    let mut by_id: HashMap<u64, AbortHandle> = HashMap::new();
    while let Some(jobs) = wanted.recv().await {
        let ids: HashSet<u64> = jobs.iter().map(|job| job.id).collect();
        by_id.retain(|id, task| {
            let stays = ids.contains(id);
            if !stays {
                task.abort();
            }
            stays
        });
        for job in jobs {
            by_id.entry(job.id).or_insert_with(|| tasks.spawn(check_forever(job, Arc::clone(&shared))));
        }
        while tasks.try_join_next().is_some() {}
    }
}

async fn check_forever(job: Job, shared: Arc<Shared>) {
    let mut probe = Probe::new(job.target, &job.config, Arc::clone(&shared.segments));
    sleep(FIRST_WITHIN.min(job.config.interval).mul_f64(fastrand::f64())).await;
    loop {
        let Ok(turn) = shared.turns.acquire().await else { return };
        let began = Instant::now();
        let answer = probe.ask(shared.board.circumstances(&job.target)).await;
        drop(turn);
        if shared.board.learn(&job, &answer, began.elapsed()) {
            (shared.notify)();
        }
        sleep_until(began + pause(&job.config, shared.board.is_in_doubt(&job))).await;
    }
}

/// From the beginning of one question to that of the next.
fn pause(check: &HealthCheckConfig, in_doubt: bool) -> Duration {
    let jitter = f64::from(check.jitter_percent) / 100.0 * (2.0 * fastrand::f64() - 1.0);
    let interval = if in_doubt { check.retry_interval } else { check.interval };
    interval.mul_f64(1.0 + jitter)
}
