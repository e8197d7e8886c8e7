//! The mark that each frame of the generator carries at the start of its payload.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | [`MAGIC`] |
//! | 1 | stream: which thread of which generator |
//! | 3 | flow, counted from 0 in each stream |
//! | 4 | number of the frame in its flow, modulo 2^32 |
//! | 5 | number of the frame in its stream, modulo 2^40 |
//! | 5 | CLOCK_MONOTONIC of its making in nanoseconds, modulo 2^40 (18 minutes) |
//!
//! All in network byte order. It needs no checksum of its own: that of UDP or TCP covers it.

/// How a mark begins. The sink's XDP program goes by it (`MARK_MAGIC` in bpf/abi.h).
pub const MAGIC: [u8; 4] = *b"pmGn";
/// Bytes of a mark.
pub const MARK_BYTES: usize = 22;
/// Most flows of a stream.
pub const MAX_FLOWS: u32 = 1 << 24;
/// Most streams.
pub const MAX_STREAMS: usize = 256;

/// Numbers of frames in a stream, and times, are told modulo this.
const WRAP: u64 = 1 << 40;

/// What a frame says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Which thread of which generator made it.
    pub stream: u8,
    /// Its flow, of those of its stream; below [`MAX_FLOWS`].
    pub flow: u32,
    /// Its number in its flow, from 0.
    pub flow_sequence: u32,
    /// Its number in its stream, from 0; modulo 2^40.
    pub sequence: u64,
    /// When it was made, by CLOCK_MONOTONIC in nanoseconds; modulo 2^40.
    pub sent_ns: u64,
}

impl Mark {
    /// The bytes of the mark.
    #[inline]
    pub fn bytes(&self) -> [u8; MARK_BYTES] {
        let mut bytes = [0; MARK_BYTES];
        let [_, flow @ ..] = self.flow.to_be_bytes();
        let [_, _, _, sequence @ ..] = self.sequence.to_be_bytes();
        let [_, _, _, sent @ ..] = self.sent_ns.to_be_bytes();
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = self.stream;
        bytes[5..8].copy_from_slice(&flow);
        bytes[8..12].copy_from_slice(&self.flow_sequence.to_be_bytes());
        bytes[12..17].copy_from_slice(&sequence);
        bytes[17..].copy_from_slice(&sent);
        bytes
    }

    /// Reads the mark at the start of a payload; `None` if there is none.
    #[inline]
    pub fn read(payload: &[u8]) -> Option<Self> {
        let bytes = payload.first_chunk::<MARK_BYTES>()?;
        let [m0, m1, m2, m3, stream, f0, f1, f2, q0, q1, q2, q3, s0, s1, s2, s3, s4, t0, t1, t2, t3, t4] = *bytes;
        ([m0, m1, m2, m3] == MAGIC).then_some(Self {
            stream,
            flow: u32::from_be_bytes([0, f0, f1, f2]),
            flow_sequence: u32::from_be_bytes([q0, q1, q2, q3]),
            sequence: u64::from_be_bytes([0, 0, 0, s0, s1, s2, s3, s4]),
            sent_ns: u64::from_be_bytes([0, 0, 0, t0, t1, t2, t3, t4]),
        })
    }

    /// How long the frame was on its way if it arrived at `received_ns`; `None` if it had not been made by then.
    #[inline]
    pub fn latency_ns(&self, received_ns: u64) -> Option<u64> {
        let latency_ns = received_ns.wrapping_sub(self.sent_ns) % WRAP;
        (latency_ns < WRAP / 2).then_some(latency_ns)
    }
}

/// The number of which `told` is what a mark tells, near `expected`.
#[inline]
pub(super) fn unwrapped(told: u64, expected: u64) -> u64 {
    let ahead = told.wrapping_sub(expected) % WRAP;
    if ahead < WRAP / 2 { expected.wrapping_add(ahead) } else { (expected + ahead).saturating_sub(WRAP) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_mark_is_read_as_it_was_written(
            stream: u8, flow in 0..MAX_FLOWS, flow_sequence: u32, sequence in 0..WRAP, sent_ns in 0..WRAP, tail: [u8; 9],
        ) {
            let mark = Mark { stream, flow, flow_sequence, sequence, sent_ns };
            let mut payload = mark.bytes().to_vec();
            payload.extend(tail);
            prop_assert_eq!(Mark::read(&payload), Some(mark));
            prop_assert_eq!(Mark::read(&payload[..MARK_BYTES - 1]), None);
            payload[0] ^= 1;
            prop_assert_eq!(Mark::read(&payload), None);
        }

        #[test]
        fn numbers_are_unwrapped_near_what_is_expected(number in 0..u64::MAX / 2, off in -1_000_000i64..1_000_000) {
            let expected = number.saturating_add_signed(off);
            prop_assert_eq!(unwrapped(number % WRAP, expected), number);
        }
    }

    #[test]
    fn latency_survives_the_wrap_of_the_clock_and_refuses_the_future() {
        let sent_ns = 3 * WRAP - 5;
        let mark = Mark { stream: 0, flow: 0, flow_sequence: 0, sequence: 0, sent_ns: sent_ns % WRAP };
        assert_eq!(mark.latency_ns(sent_ns + 7), Some(7));
        assert_eq!(mark.latency_ns(sent_ns), Some(0));
        assert_eq!(mark.latency_ns(sent_ns - 1), None);
    }
}
