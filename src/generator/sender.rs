//! One thread of a generator: it makes frames when they are due and hands them to one queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::flows::{FlowPlan, FlowWalk};
use super::mark::Mark;
use super::pace::{Due, Pace};
use super::template::{FrameSizes, Template};
use crate::clock;
use crate::counters::latency::LatencyHistogram;
use crate::port::Port;
use crate::port::xsk::{XskFrame, XskPort};

/// A sleep may last longer by this; what is due sooner is waited for awake.
const SLEEP_SLACK_NS: u64 = 150_000;
/// No sleep is longer, so that a stop is seen in time.
const LONGEST_SLEEP_NS: u64 = 50_000_000;
/// How long a generator that ends waits for the kernel to take what it was given.
const DRAIN_NS: u64 = 1_000_000_000;

/// What all threads of a generator send.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) flows: FlowPlan,
    /// One for each service.
    pub(super) templates: Vec<Template>,
    pub(super) sizes: FrameSizes,
}

/// What is one thread's own.
#[derive(Clone, Debug)]
pub(super) struct Share {
    /// Its number in each frame.
    pub(super) stream: u8,
    /// Of `of` threads this is number `number`: flow n is its own if n modulo `of` is `number`.
    pub(super) number: u32,
    pub(super) of: u32,
    /// Frames to send in all, if there is a bound.
    pub(super) count: Option<u64>,
    pub(super) burst: usize,
}

impl Share {
    /// How many of `flows` flows are its own.
    pub(super) fn flows(&self, flows: u32) -> u32 {
        (flows + self.of - 1 - self.number) / self.of
    }
}

/// The loop.
pub(super) struct Sender {
    pub(super) port: XskPort,
    pub(super) contents: Arc<Contents>,
    pub(super) share: Share,
    pub(super) walk: FlowWalk,
    /// How long frames were with the kernel.
    pub(super) completion: LatencyHistogram,
    /// The number of the next frame of each of its flows.
    pub(super) flow_sequences: Box<[u32]>,
    /// Frames in a second; none for as many as can be.
    pub(super) rate_pps: Option<f64>,
    pub(super) duration_ns: Option<u64>,
}

/// What became of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    pub(super) first_ns: Option<u64>,
    pub(super) last_ns: u64,
    pub(super) frames: u64,
    pub(super) turns_without_frames: u64,
    pub(super) most_behind_ns: u64,
}

impl Sender {
    /// Sends until it has sent all, the time is over or `stop` is set.
    pub(super) fn run(mut self, stop: &AtomicBool) -> Sent {
        let start_ns = clock::monotonic_ns();
        let mut pace = Pace::new(self.rate_pps, self.share.burst, start_ns);
        let end_ns = self.duration_ns.map(|duration_ns| start_ns.saturating_add(duration_ns));
        let mut sent = Sent::default();
        let mut outgoing = Vec::with_capacity(self.share.burst);
        while !stop.load(Ordering::Relaxed) {
            self.port.complete(0, &self.completion);
            let now_ns = clock::monotonic_ns();
            let left = self.share.count.map_or(u64::MAX, |count| count.saturating_sub(sent.frames));
            if left == 0 || end_ns.is_some_and(|end_ns| now_ns >= end_ns) {
                break;
            }
            match pace.due(now_ns) {
                Due::Send(frames) => {
                    let made = self.make(&mut outgoing, frames.min(left), sent.frames, now_ns);
                    if made == 0 {
                        sent.turns_without_frames += 1;
                        self.port.kick_tx(0);
                        continue;
                    }
                    pace.sent(made, now_ns);
                    sent.frames += made;
                    sent.first_ns.get_or_insert(now_ns);
                    sent.last_ns = now_ns;
                    self.submit(&mut outgoing, stop);
                }
                Due::WaitUntil(then_ns) => {
                    self.port.kick_tx(0);
                    wait(then_ns.saturating_sub(now_ns));
                }
            }
        }
        self.drain();
        Sent { most_behind_ns: pace.most_behind_ns(), ..sent }
    }

    /// Makes up to `most` frames, of which the first has the number `sequence`, as far as there are free ones.
    fn make(&mut self, outgoing: &mut Vec<XskFrame>, most: u64, sequence: u64, now_ns: u64) -> u64 {
        let Contents { flows, templates, sizes } = &*self.contents;
        let mut made = 0;
        while made < most {
            let sequence = sequence + made;
            let Some(mut frame) = self.port.take_free(sizes.at(sequence)) else { break };
            let flow = self.walk.next_flow();
            let flow_sequence = &mut self.flow_sequences[flow as usize];
            let addresses = flows.addresses(flow * self.share.of + self.share.number);
            let mark =
                Mark { stream: self.share.stream, flow, flow_sequence: *flow_sequence, sequence, sent_ns: now_ns };
            if let Some(template) = templates.get(addresses.service) {
                template.fill(self.port.bytes_mut(&mut frame), &addresses, &mark);
            }
            *flow_sequence = flow_sequence.wrapping_add(1);
            outgoing.push(frame);
            made += 1;
        }
        made
    }

    /// Hands all to the kernel, however long that takes.
    fn submit(&mut self, outgoing: &mut Vec<XskFrame>, stop: &AtomicBool) {
        loop {
            self.port.tx_burst(0, outgoing);
            self.port.kick_tx(0);
            if outgoing.is_empty() {
                return;
            }
            if stop.load(Ordering::Relaxed) {
                outgoing.drain(..).for_each(|frame| self.port.release(frame));
                return;
            }
            self.port.complete(0, &self.completion);
        }
    }

    fn drain(&mut self) {
        let end_ns = clock::monotonic_ns() + DRAIN_NS;
        while self.port.census().tx > 0 && clock::monotonic_ns() < end_ns {
            self.port.kick_tx(0);
            if self.port.complete(0, &self.completion) == 0 {
                thread::sleep(Duration::from_micros(100));
            }
        }
    }
}

fn wait(for_ns: u64) {
    if for_ns > 2 * SLEEP_SLACK_NS {
        thread::sleep(Duration::from_nanos((for_ns - SLEEP_SLACK_NS).min(LONGEST_SLEEP_NS)));
    } else {
        std::hint::spin_loop();
    }
}
