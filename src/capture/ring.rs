//! Records on their way from a worker to the control thread and back: a fixed number of them, allocated beforehand.

use std::net::IpAddr;

use crossbeam::queue::ArrayQueue;

use super::{Fate, QueuePlace};
use crate::service::ServiceKey;

/// Bytes of frames that a worker's records hold in all.
const BYTES_PER_WORKER: usize = 8 << 20;
/// Most records of a worker, however short they are.
const MOST_RECORDS: usize = 16_384;

/// A captured frame.
#[derive(Debug, PartialEq, Eq)]
pub struct Record {
    /// What became of it.
    pub fate: Fate,
    /// When it arrived, by CLOCK_MONOTONIC in nanoseconds.
    pub time_ns: u64,
    /// Whether that is the XDP program's stamp; else it is the time at which the worker took the frame's burst.
    pub stamped: bool,
    /// The worker that decided on it.
    pub worker: usize,
    /// The queue that it came by.
    pub place: QueuePlace,
    /// Position of the interface that it leaves by, where that is known.
    pub egress: Option<u8>,
    /// Its virtual service, where that is known.
    pub service: Option<ServiceKey>,
    /// Its real server, where one was chosen.
    pub real_server: Option<IpAddr>,
    /// Frames of the same queue that the capture lost since the record before.
    pub lost_before: u64,
    /// Bytes that the frame has.
    pub frame_len: usize,
    /// The first of them. Its capacity is the snapshot length and never grows.
    pub bytes: Vec<u8>,
}

impl Record {
    fn empty(snapshot_bytes: usize) -> Self {
        // Written once, so that the worker need not wait for the kernel to give it the pages.
        let mut bytes = vec![0xff; snapshot_bytes];
        bytes.clear();
        Self {
            fate: Fate::Tx,
            time_ns: 0,
            stamped: false,
            worker: 0,
            place: QueuePlace::default(),
            egress: None,
            service: None,
            real_server: None,
            lost_before: 0,
            frame_len: 0,
            bytes,
        }
    }

    /// Takes a frame's first bytes, as many as there is room for.
    pub(super) fn take_bytes(&mut self, frame: &[u8]) {
        let most = self.bytes.capacity().min(frame.len());
        self.bytes.clear();
        self.bytes.extend_from_slice(&frame[..most]);
        self.frame_len = frame.len();
    }
}

/// The records of one worker. Both queues have room for all of them, so giving one on never fails.
#[derive(Debug)]
pub(super) struct Ring {
    free: ArrayQueue<Box<Record>>,
    full: ArrayQueue<Box<Record>>,
}

impl Ring {
    /// Free records of `snapshot_bytes` each.
    pub(super) fn new(snapshot_bytes: usize) -> Self {
        let records = (BYTES_PER_WORKER / snapshot_bytes.max(1)).clamp(1, MOST_RECORDS);
        let ring = Self { free: ArrayQueue::new(records), full: ArrayQueue::new(records) };
        for _ in 0..records {
            ring.give_back(Box::new(Record::empty(snapshot_bytes)));
        }
        ring
    }

    /// As the worker: a record to be filled, if one is free.
    #[inline]
    pub(super) fn take_free(&self) -> Option<Box<Record>> {
        self.free.pop()
    }

    /// As the worker: hands over a filled record.
    #[inline]
    pub(super) fn hand_over(&self, record: Box<Record>) {
        let _ = self.full.push(record);
    }

    /// As the reader: the oldest record that is filled.
    pub(super) fn take_full(&self) -> Option<Box<Record>> {
        self.full.pop()
    }

    /// A record that is free again.
    #[inline]
    pub(super) fn give_back(&self, record: Box<Record>) {
        let _ = self.free.push(record);
    }

    /// How many records there are.
    #[cfg(test)]
    fn records(&self) -> usize {
        self.free.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::thread;

    #[test]
    fn memory_is_bounded_whatever_the_snapshot_length() {
        for snapshot_bytes in [1, 64, 256, super::super::MAX_SNAPSHOT_BYTES] {
            let ring = Ring::new(snapshot_bytes);
            assert!(ring.records() * snapshot_bytes <= BYTES_PER_WORKER, "{snapshot_bytes}");
            assert!(ring.records() <= MOST_RECORDS);
            assert!(ring.records() >= 1024, "a burst or more must fit");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// The two queues against a model: records come out in order, none is lost, made or grown.
        #[test]
        fn records_come_out_as_they_went_in(
            steps in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..96)), 0..200),
        ) {
            let ring = Ring::new(BYTES_PER_WORKER / 8);
            let (mut model, mut number) = (VecDeque::new(), 0);
            for (fill, bytes) in steps {
                if fill {
                    let record = ring.take_free();
                    prop_assert_eq!(record.is_some(), model.len() < 8);
                    if let Some(mut record) = record {
                        number += 1;
                        record.time_ns = number;
                        record.take_bytes(&bytes);
                        ring.hand_over(record);
                        model.push_back((number, bytes));
                    }
                } else {
                    let record = ring.take_full();
                    let expected = model.pop_front();
                    prop_assert_eq!(record.as_ref().map(|record| (record.time_ns, record.bytes.clone())), expected);
                    if let Some(record) = record {
                        prop_assert_eq!(record.bytes.capacity(), BYTES_PER_WORKER / 8);
                        ring.give_back(record);
                    }
                }
            }
            prop_assert_eq!(ring.free.len() + ring.full.len(), 8);
        }
    }

    #[test]
    fn two_threads_lose_and_mix_nothing() {
        const FRAMES: u64 = 100_000;
        let ring = Ring::new(super::super::MAX_SNAPSHOT_BYTES);
        thread::scope(|scope| {
            scope.spawn(|| {
                for number in 1..=FRAMES {
                    let mut record = loop {
                        match ring.take_free() {
                            Some(record) => break record,
                            None => thread::yield_now(),
                        }
                    };
                    record.time_ns = number;
                    record.take_bytes(&number.to_be_bytes());
                    ring.hand_over(record);
                }
            });
            for expected in 1..=FRAMES {
                let record = loop {
                    match ring.take_full() {
                        Some(record) => break record,
                        None => thread::yield_now(),
                    }
                };
                assert_eq!((record.time_ns, &record.bytes[..]), (expected, &expected.to_be_bytes()[..]));
                ring.give_back(record);
            }
        });
    }
}
