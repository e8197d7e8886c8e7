//! A port in plain memory, with the kernel's side of the rings in the caller's hands: the model that workers are tested
//! and measured against.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Census, Frame, Ledger, Place, Port};
use crate::clock;
use crate::counters::latency::LatencyHistogram;

/// A frame of a [`MemoryPort`].
#[derive(Debug)]
pub struct MemoryFrame {
    number: usize,
    len: usize,
    received_ns: Option<u64>,
}

impl Frame for MemoryFrame {
    fn len(&self) -> usize {
        self.len
    }

    fn received_ns(&self) -> Option<u64> {
        self.received_ns
    }
}

/// Queues in memory.
#[derive(Debug)]
pub struct MemoryPort {
    memory: Vec<Vec<u8>>,
    free: Vec<usize>,
    queues: Vec<MemoryQueue>,
    ledger: Ledger,
    /// When each frame was last submitted.
    submitted_ns: Vec<u64>,
    fill_ring: usize,
    tx_ring: usize,
}

#[derive(Debug, Default)]
struct MemoryQueue {
    fill: VecDeque<usize>,
    received: VecDeque<MemoryFrame>,
    tx: VecDeque<MemoryFrame>,
    sent: VecDeque<usize>,
    kicks: usize,
}

impl MemoryPort {
    /// A port of `queues` queues and `frames` frames, with fill and TX rings of these sizes.
    pub fn new(queues: usize, frames: usize, fill_ring: usize, tx_ring: usize) -> Self {
        Self {
            memory: vec![Vec::new(); frames],
            free: (0..frames).collect(),
            queues: (0..queues).map(|_| MemoryQueue::default()).collect(),
            ledger: Ledger::new(frames),
            submitted_ns: vec![0; frames],
            fill_ring,
            tx_ring,
        }
    }

    /// As the kernel: receives a frame on `queue`. Returns whether the fill ring had room for it.
    pub fn deliver(&mut self, queue: usize, bytes: &[u8], received_ns: Option<u64>) -> bool {
        let Some(queue) = self.queues.get_mut(queue) else { return false };
        let Some(number) = queue.fill.pop_front() else { return false };
        let Some(memory) = self.memory.get_mut(number) else { return false };
        memory.clear();
        memory.extend_from_slice(bytes);
        queue.received.push_back(MemoryFrame { number, len: bytes.len(), received_ns });
        true
    }

    /// As the kernel: sends up to `most` frames of the TX ring of `queue` and completes them. Returns their bytes.
    pub fn transmit(&mut self, queue: usize, most: usize) -> Vec<Vec<u8>> {
        let Some(queue) = self.queues.get_mut(queue) else { return Vec::new() };
        let count = most.min(queue.tx.len());
        let sent: Vec<usize> = queue.tx.drain(..count).map(|frame| frame.number).collect();
        queue.sent.extend(&sent);
        sent.into_iter().filter_map(|number| self.memory.get(number).cloned()).collect()
    }

    /// How often the worker asked to have `queue` sent.
    pub fn kicks(&self, queue: usize) -> usize {
        self.queues.get(queue).map_or(0, |queue| queue.kicks)
    }
}

impl Port for MemoryPort {
    type Frame = MemoryFrame;

    fn queues(&self) -> usize {
        self.queues.len()
    }

    fn rx_burst(&mut self, queue: usize, frames: &mut Vec<MemoryFrame>, most: usize) -> usize {
        let Some(queue) = self.queues.get_mut(queue) else { return 0 };
        let count = most.min(queue.received.len());
        for frame in queue.received.drain(..count) {
            self.ledger.move_frame(frame.number, Place::Fill, Place::Worker);
            frames.push(frame);
        }
        count
    }

    fn bytes_mut<'a>(&'a mut self, frame: &'a mut MemoryFrame) -> &'a mut [u8] {
        self.memory.get_mut(frame.number).map_or(&mut [], Vec::as_mut_slice)
    }

    fn tx_burst(&mut self, queue: usize, frames: &mut Vec<MemoryFrame>) -> usize {
        let Some(queue) = self.queues.get_mut(queue) else { return 0 };
        let count = frames.len().min(self.tx_ring.saturating_sub(queue.tx.len() + queue.sent.len()));
        let now_ns = clock::monotonic_ns();
        for frame in frames.drain(..count) {
            self.ledger.move_frame(frame.number, Place::Worker, Place::Tx);
            if let Some(submitted_ns) = self.submitted_ns.get_mut(frame.number) {
                *submitted_ns = now_ns;
            }
            queue.tx.push_back(frame);
        }
        count
    }

    fn release(&mut self, frame: MemoryFrame) {
        self.free.push(frame.number);
    }

    fn kick_tx(&mut self, queue: usize) {
        if let Some(queue) = self.queues.get_mut(queue) {
            queue.kicks += 1;
        }
    }

    fn complete(&mut self, queue: usize, times: &LatencyHistogram) -> usize {
        let Some(queue) = self.queues.get_mut(queue) else { return 0 };
        let count = queue.sent.len();
        let now_ns = clock::monotonic_ns();
        let submitted_ns = queue.sent.iter().filter_map(|number| self.submitted_ns.get(*number));
        times.record_runs(submitted_ns.map(|submitted_ns| now_ns.saturating_sub(*submitted_ns)));
        for number in queue.sent.drain(..) {
            self.ledger.move_frame(number, Place::Tx, Place::Worker);
            self.free.push(number);
        }
        count
    }

    fn refill(&mut self, queue: usize) -> usize {
        let Some(queue) = self.queues.get_mut(queue) else { return 0 };
        let mut count = 0;
        while queue.fill.len() + queue.received.len() < self.fill_ring {
            let Some(number) = self.free.pop() else { break };
            self.ledger.move_frame(number, Place::Worker, Place::Fill);
            queue.fill.push_back(number);
            count += 1;
        }
        count
    }

    fn kick_rx(&mut self, _queue: usize) {}

    fn wait(&mut self, _timeout: Duration) {}

    fn census(&self) -> Census {
        self.ledger.census(self.free.len())
    }
}
