//! The sink's one thread: it takes frames from all queues and has them judged.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::judge::Judge;
use crate::clock;
use crate::counters::Counter;
use crate::port::xsk::{XskFrame, XskPort};
use crate::port::{Frame, Port};

/// Frames that are taken from a queue at once.
const BATCH: usize = 64;
/// How long it looks again before it sleeps.
const SPIN_NS: u64 = 50_000;
/// How long it sleeps at most, so that a stop is seen in time.
const LONGEST_SLEEP: Duration = Duration::from_millis(20);

/// When a sink ends by itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bounds {
    pub(super) end_ns: Option<u64>,
    pub(super) count: Option<u64>,
    /// So long after the last frame.
    pub(super) quiet_ns: Option<u64>,
}

/// What others may read meanwhile.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) packets: Counter,
    pub(super) bytes: Counter,
}

pub(super) struct Receiver {
    pub(super) port: XskPort,
    pub(super) judge: Judge,
    pub(super) bounds: Bounds,
}

/// What became of it.
pub(super) struct Received {
    pub(super) judge: Judge,
    pub(super) first_ns: Option<u64>,
    pub(super) last_ns: u64,
    pub(super) unstamped: u64,
}

impl Receiver {
    /// Receives until a bound is reached or `stop` is set.
    pub(super) fn run(mut self, stop: &AtomicBool, seen: &Seen) -> Received {
        let (mut first_ns, mut last_ns, mut unstamped) = (None, 0, 0);
        let mut frames: Vec<XskFrame> = Vec::with_capacity(BATCH);
        let mut idle_since_ns = clock::monotonic_ns();
        while !stop.load(Ordering::Relaxed) {
            let now_ns = clock::monotonic_ns();
            let mut found = false;
            for queue in 0..self.port.queues() {
                if self.port.rx_burst(queue, &mut frames, BATCH) > 0 {
                    found = true;
                    unstamped += self.judge_burst(&mut frames, seen);
                }
                self.port.refill(queue);
                self.port.kick_rx(queue);
            }
            if found {
                first_ns.get_or_insert(now_ns);
                last_ns = clock::monotonic_ns();
                idle_since_ns = last_ns;
            } else if now_ns.saturating_sub(idle_since_ns) > SPIN_NS {
                self.port.wait(LONGEST_SLEEP);
            }
            let Bounds { end_ns, count, quiet_ns } = self.bounds;
            let quiet =
                quiet_ns.is_some_and(|quiet_ns| first_ns.is_some() && now_ns.saturating_sub(last_ns) > quiet_ns);
            let enough = count.is_some_and(|count| seen.packets.get() >= count);
            if quiet || enough || end_ns.is_some_and(|end_ns| now_ns >= end_ns) {
                break;
            }
        }
        Received { judge: self.judge, first_ns, last_ns, unstamped }
    }

    /// Returns how many of the frames had no stamp.
    fn judge_burst(&mut self, frames: &mut Vec<XskFrame>, seen: &Seen) -> u64 {
        let now_ns = clock::monotonic_ns();
        let (mut unstamped, mut bytes) = (0, 0);
        seen.packets.add(frames.len() as u64);
        for mut frame in frames.drain(..) {
            let stamp = frame.received_ns();
            unstamped += u64::from(stamp.is_none());
            bytes += frame.len() as u64;
            self.judge.frame(self.port.bytes_mut(&mut frame), stamp.unwrap_or(now_ns));
            self.port.release(frame);
        }
        self.judge.end_burst();
        seen.bytes.add(bytes);
        unstamped
    }
}
