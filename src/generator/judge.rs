//! What the sink makes of the frames that arrive: are all there, once, in order, whole, and at the right real server?

use std::collections::HashMap;

use super::mark::{MAX_FLOWS, MAX_STREAMS, Mark, unwrapped};
use super::report::{RealServerReport, StreamReport, Verdicts};
use super::template::{Arrived, read};
use crate::counters::latency::LatencyHistogram;
use crate::stats::report::Traffic;
use crate::wire::{MacAddress, ethernet};

/// Destination addresses that are told apart, beside those that were listed.
const MAX_UNLISTED: usize = 1024;
/// So many frames of a flow behind its newest one are remembered, for telling a late frame from one that comes twice.
const WINDOW: u32 = u64::BITS;

/// What is remembered of a flow.
#[derive(Clone, Copy, Debug, Default)]
struct Flow {
    /// Which frames came of the [`WINDOW`] before `next`, the newest in the lowest bit; 0 before the first frame.
    window: u64,
    /// Number of the frame that should come next.
    next: u32,
    /// Where the newest frame went.
    server: u16,
}

/// A [`Flow`] as it is kept: an array of these is zeroed by the kernel, page by page when it is first touched.
type Kept = [u64; 2];

/// Bytes that the sink keeps for each flow.
pub const BYTES_PER_FLOW: usize = size_of::<Kept>();

#[derive(Debug, Default)]
struct Stream {
    seen: bool,
    received: u64,
    /// Frames that came for the first time.
    distinct: u64,
    highest: u64,
    flows_seen: u64,
    /// Room for as many as there may be, from its first frame on: growing would take time while frames wait.
    flows: Vec<Kept>,
}

#[derive(Debug)]
struct Server {
    mac: MacAddress,
    name: Option<String>,
    listed: bool,
    received: Traffic,
    flows: u64,
}

/// The one who judges. It has no socket and no clock.
#[derive(Debug)]
pub struct Judge {
    /// The last one is for whatever there is no room for.
    servers: Vec<Server>,
    by_mac: HashMap<MacAddress, u16>,
    /// Whether only those that were listed are right.
    strict: bool,
    streams: Vec<Stream>,
    most_flows: usize,
    verdicts: Verdicts,
    latency: LatencyHistogram,
    /// Of the burst at hand.
    latencies_ns: Vec<u64>,
}

impl Judge {
    /// Expects frames at these real servers and at no others, or, if there are none, at any. Remembers at most
    /// `most_flows` flows of each stream, at [`BYTES_PER_FLOW`] each.
    pub fn new(listed: Vec<(MacAddress, String)>, most_flows: usize) -> Self {
        let mut judge = Self {
            strict: !listed.is_empty(),
            servers: Vec::new(),
            by_mac: HashMap::new(),
            streams: (0..MAX_STREAMS).map(|_| Stream::default()).collect(),
            most_flows: most_flows.min(MAX_FLOWS as usize),
            verdicts: Verdicts::default(),
            latency: LatencyHistogram::default(),
            latencies_ns: Vec::with_capacity(512),
        };
        for (mac, name) in listed {
            judge.add_server(mac, Some(name), true);
        }
        judge
    }

    /// Looks at a frame that arrived at `received_ns` by CLOCK_MONOTONIC.
    #[inline]
    pub fn frame(&mut self, frame: &[u8], received_ns: u64) {
        let mark = match read(frame) {
            Arrived::Whole(mark) => mark,
            Arrived::Corrupted => {
                self.verdicts.corrupted += 1;
                return;
            }
            Arrived::Foreign => {
                self.verdicts.foreign += 1;
                return;
            }
        };
        let bytes = frame.len() as u64;
        self.verdicts.received.packets += 1;
        self.verdicts.received.bytes += bytes;
        match mark.latency_ns(received_ns) {
            Some(latency_ns) => self.latencies_ns.push(latency_ns),
            None => self.verdicts.before_sent += 1,
        }
        let mac = ethernet::destination(frame).unwrap_or_default();
        if !self.streams[usize::from(mark.stream)].seen {
            self.begin(&mark);
        }
        let mut flow = self.streams[usize::from(mark.stream)].flows.get(mark.flow as usize).copied().map(Flow::of);
        let server = self.server(mac, flow.as_ref());
        let stream = &mut self.streams[usize::from(mark.stream)];
        stream.received += 1;
        stream.highest = stream.highest.max(unwrapped(mark.sequence, stream.highest));
        if let Some(to) = self.servers.get_mut(usize::from(server)) {
            to.received.packets += 1;
            to.received.bytes += bytes;
            self.verdicts.wrong_mac += u64::from(self.strict && !to.listed);
        }
        let new = match &mut flow {
            Some(flow) => {
                let first = flow.window == 0;
                if first {
                    stream.flows_seen += 1;
                }
                if first || flow.server != server {
                    self.verdicts.affinity_breaks += u64::from(!first);
                    if let Some(to) = self.servers.get_mut(usize::from(server)) {
                        to.flows += 1;
                    }
                }
                flow.server = server;
                let new = flow.count(mark.flow_sequence, &mut self.verdicts);
                stream.flows[mark.flow as usize] = flow.kept();
                new
            }
            None => {
                self.verdicts.untracked += 1;
                true
            }
        };
        stream.distinct += u64::from(new);
    }

    /// Records the latencies of what was looked at since the last time.
    #[inline]
    pub fn end_burst(&mut self) {
        self.latency.record_all(self.latencies_ns.drain(..));
    }

    /// The latencies up to the last burst.
    pub fn latency(&self) -> &LatencyHistogram {
        &self.latency
    }

    /// What was found so far, over all streams.
    pub fn verdicts(&self) -> Verdicts {
        let mut verdicts = self.verdicts;
        for stream in self.streams.iter().filter(|stream| stream.seen) {
            verdicts.flows += stream.flows_seen;
            verdicts.lost += stream.lost();
        }
        verdicts
    }

    /// Bytes that flows take.
    pub fn flow_bytes(&self) -> u64 {
        self.streams.iter().map(|stream| stream.flows_seen * BYTES_PER_FLOW as u64).sum()
    }

    /// The streams that came.
    pub fn streams(&self) -> Vec<StreamReport> {
        let seen = self.streams.iter().enumerate().filter(|(_, stream)| stream.seen);
        seen.map(|(number, stream)| StreamReport {
            stream: number,
            received_packets: stream.received,
            highest_sequence: stream.highest,
            lost: stream.lost(),
            flows: stream.flows_seen,
        })
        .collect()
    }

    /// The real servers that were listed, and the other addresses that frames came for.
    pub fn real_servers(&self) -> Vec<RealServerReport> {
        let report = |server: &Server| RealServerReport {
            mac: server.mac,
            name: server.name.clone(),
            listed: server.listed,
            received: server.received,
            flows: server.flows,
        };
        self.servers.iter().map(report).collect()
    }

    #[cold]
    fn begin(&mut self, mark: &Mark) {
        let stream = &mut self.streams[usize::from(mark.stream)];
        stream.seen = true;
        stream.flows = vec![Kept::default(); self.most_flows];
    }

    /// The number of an address, which is most likely where the flow's last frame went.
    #[inline]
    fn server(&mut self, mac: MacAddress, flow: Option<&Flow>) -> u16 {
        if let Some(flow) = flow
            && self.servers.get(usize::from(flow.server)).is_some_and(|server| server.mac == mac)
        {
            return flow.server;
        }
        match self.by_mac.get(&mac) {
            Some(number) => *number,
            None => self.add_server(mac, None, false),
        }
    }

    #[cold]
    fn add_server(&mut self, mac: MacAddress, name: Option<String>, listed: bool) -> u16 {
        let unlisted = self.servers.iter().filter(|server| !server.listed).count();
        let number = u16::try_from(self.servers.len()).unwrap_or(u16::MAX);
        if !listed && unlisted >= MAX_UNLISTED || number == u16::MAX {
            return number - u16::from(number > 0);
        }
        self.servers.push(Server { mac, name, listed, received: Traffic::default(), flows: 0 });
        self.by_mac.insert(mac, number);
        number
    }
}

impl Stream {
    /// Frames that are missing before the newest one.
    fn lost(&self) -> u64 {
        (self.highest + 1).saturating_sub(self.distinct)
    }
}

impl Flow {
    #[inline]
    fn of([window, rest]: Kept) -> Self {
        let [n0, n1, n2, n3, s0, s1, _, _] = rest.to_le_bytes();
        Self { window, next: u32::from_le_bytes([n0, n1, n2, n3]), server: u16::from_le_bytes([s0, s1]) }
    }

    #[inline]
    fn kept(self) -> Kept {
        [self.window, u64::from(self.next) | u64::from(self.server) << 32]
    }

    /// Notes a frame of the flow by its number. Returns whether it came for the first time, as far as is known.
    #[inline]
    fn count(&mut self, sequence: u32, verdicts: &mut Verdicts) -> bool {
        let ahead = sequence.wrapping_sub(self.next);
        if self.window == 0 || ahead.cast_signed() >= 0 {
            // All of the window may have passed by.
            let shift = if self.window == 0 { WINDOW } else { ahead.saturating_add(1) };
            self.window = self.window.checked_shl(shift).unwrap_or(0) | 1;
            self.next = sequence.wrapping_add(1);
            return true;
        }
        let behind = self.next.wrapping_sub(1).wrapping_sub(sequence);
        verdicts.furthest_behind = verdicts.furthest_behind.max(u64::from(behind));
        match 1u64.checked_shl(behind) {
            Some(bit) if self.window & bit != 0 => {
                verdicts.duplicates += 1;
                false
            }
            Some(bit) => {
                self.window |= bit;
                verdicts.reordered += 1;
                true
            }
            None => {
                verdicts.late += 1;
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    use crate::generator::flows::FlowAddresses;
    use crate::generator::template::{TcpShape, Template};
    use crate::service::{Protocol, ServiceKey};

    const ONE: MacAddress = MacAddress::new([2, 0, 0, 0, 1, 0]);
    const TWO: MacAddress = MacAddress::new([2, 0, 0, 0, 2, 0]);
    const OTHER: MacAddress = MacAddress::new([2, 0, 0, 0, 9, 0]);

    fn judge() -> Judge {
        Judge::new(vec![(ONE, "web1".into()), (TWO, "web2".into())], 100_000)
    }

    fn frame(to: MacAddress, flow: u32, flow_sequence: u32, sequence: u64) -> Vec<u8> {
        let service = ServiceKey { vip: [192, 0, 2, 1].into(), protocol: Protocol::Udp, port: 53 };
        let template = Template::new(to, MacAddress::new([2, 0, 0, 0, 0, 2]), &service, TcpShape::Syn);
        let mut frame = vec![0; 64];
        let addresses = FlowAddresses { service: 0, source: [198, 18, 0, 1].into(), source_port: 1024 };
        template.fill(&mut frame, &addresses, &Mark { stream: 3, flow, flow_sequence, sequence, sent_ns: 1_000 });
        frame
    }

    fn judged(frames: &[Vec<u8>]) -> Judge {
        let mut judge = judge();
        for frame in frames {
            judge.frame(frame, 3_000);
        }
        judge.end_burst();
        judge
    }

    /// Ten frames, of two flows in turn, each flow at its real server.
    fn ten() -> Vec<Vec<u8>> {
        (0..10u32).map(|at| frame(if at % 2 == 0 { ONE } else { TWO }, at % 2, at / 2, u64::from(at))).collect()
    }

    fn clean() -> Verdicts {
        Verdicts { received: Traffic { packets: 10, bytes: 640 }, flows: 2, ..Verdicts::default() }
    }

    #[test]
    fn what_comes_as_it_should_is_found_so() {
        let judge = judged(&ten());
        assert_eq!(judge.verdicts(), clean());
        assert!(judge.verdicts().is_sound());
        assert_eq!(judge.latency().snapshot().unwrap().len(), 10);
        assert_eq!(judge.latency().extremes_ns(), Some((2_000, 2_000)));
        let servers = judge.real_servers();
        let counts: Vec<_> = servers.iter().map(|s| (s.name.as_deref(), s.received.packets, s.flows)).collect();
        assert_eq!(counts, [(Some("web1"), 5, 1), (Some("web2"), 5, 1)]);
        let [stream] = &judge.streams()[..] else { panic!("one stream") };
        assert_eq!((stream.stream, stream.received_packets, stream.highest_sequence, stream.flows), (3, 10, 9, 2));
    }

    /// Each fault is counted as itself and as nothing else.
    #[test]
    fn each_fault_is_found() {
        type Case = (&'static str, fn(&mut Vec<Vec<u8>>), fn(&mut Verdicts));
        let cases: [Case; 8] = [
            ("lost", |f| drop(f.remove(4)), |v| (v.received.packets, v.received.bytes, v.lost) = (9, 576, 1)),
            (
                "lost at the start",
                |f| drop(f.remove(0)),
                |v| (v.received.packets, v.received.bytes, v.lost) = (9, 576, 1),
            ),
            (
                "twice",
                |f| f.insert(6, f[2].clone()),
                |v| (v.received.packets, v.received.bytes, v.duplicates, v.furthest_behind) = (11, 704, 1, 1),
            ),
            ("out of order", |f| f.swap(3, 7), |v| (v.reordered, v.furthest_behind) = (2, 2)),
            (
                "damaged",
                |f| f[5][50] ^= 0x10,
                |v| (v.received.packets, v.received.bytes, v.lost, v.corrupted) = (9, 576, 1, 1),
            ),
            (
                "cut short",
                |f| f[5].truncate(65 - 2),
                |v| (v.received.packets, v.received.bytes, v.lost, v.foreign) = (9, 576, 1, 1),
            ),
            (
                "at an unknown address",
                |f| f[9][..6].copy_from_slice(&OTHER.octets()),
                |v| (v.wrong_mac, v.affinity_breaks) = (1, 1),
            ),
            (
                "at another real server and back",
                |f| f[4][..6].copy_from_slice(&TWO.octets()),
                |v| v.affinity_breaks = 2,
            ),
        ];
        for (what, change, expect) in cases {
            let (mut frames, mut expected) = (ten(), clean());
            change(&mut frames);
            expect(&mut expected);
            let verdicts = judged(&frames).verdicts();
            assert_eq!(verdicts, expected, "{what}");
            assert!(!verdicts.is_sound(), "{what}");
        }
    }

    #[test]
    fn what_is_further_behind_than_the_window_is_late_and_not_lost() {
        let mut frames: Vec<_> = (0..100).map(|at| frame(ONE, 0, at, u64::from(at))).collect();
        let first = frames.remove(0);
        frames.push(first);
        let verdicts = judged(&frames).verdicts();
        assert_eq!((verdicts.late, verdicts.reordered, verdicts.lost, verdicts.furthest_behind), (1, 0, 0, 99));
    }

    #[test]
    fn flows_without_room_are_counted_and_not_followed() {
        let mut judge = Judge::new(Vec::new(), 10);
        for flow in 0..20 {
            judge.frame(&frame(ONE, flow, 0, u64::from(flow)), 3_000);
        }
        let verdicts = judge.verdicts();
        assert_eq!((verdicts.flows, verdicts.untracked, verdicts.lost, verdicts.wrong_mac), (10, 10, 0, 0));
        assert!(judge.flow_bytes() <= 10 * BYTES_PER_FLOW as u64);
        assert_eq!(BYTES_PER_FLOW, 16, "docs/generator.md says so");
    }

    #[test]
    fn addresses_without_room_share_the_last_place() {
        let mut judge = Judge::new(Vec::new(), 10_000);
        for number in 0..3_000u32 {
            let [_, _, high, low] = number.to_be_bytes();
            judge.frame(&frame(MacAddress::new([2, 0, 0, 1, high, low]), number, 0, u64::from(number)), 3_000);
        }
        let servers = judge.real_servers();
        assert_eq!(servers.len(), MAX_UNLISTED);
        assert_eq!(servers.iter().map(|server| server.received.packets).sum::<u64>(), 3_000);
    }

    #[test]
    fn what_arrives_before_it_was_sent_has_no_latency() {
        let mut judge = judge();
        judge.frame(&frame(ONE, 0, 0, 0), 999);
        judge.end_burst();
        assert_eq!((judge.verdicts().before_sent, judge.latency().snapshot().unwrap().len()), (1, 0));
    }

    proptest! {
        /// Against a model that remembers all: within the window nothing is taken for something else.
        #[test]
        fn order_and_duplicates_within_the_window_agree_with_a_model(moves in prop::collection::vec(-60i64..5, 1..300)) {
            let mut seen = std::collections::HashSet::new();
            let (mut newest, mut duplicates, mut reordered) = (100i64, 0, 0);
            let mut judge = judge();
            judge.frame(&frame(ONE, 0, 100, 100), 3_000);
            seen.insert(100);
            for step in moves {
                let number = newest + step;
                if !seen.insert(number) {
                    duplicates += 1;
                } else if number < newest {
                    reordered += 1;
                }
                newest = newest.max(number);
                let number = u32::try_from(number).unwrap();
                judge.frame(&frame(ONE, 0, number, u64::from(number)), 3_000);
            }
            let verdicts = judge.verdicts();
            prop_assert_eq!((verdicts.duplicates, verdicts.reordered, verdicts.late), (duplicates, reordered, 0));
            prop_assert_eq!(verdicts.lost, u64::try_from(newest).unwrap() + 1 - seen.len() as u64);
        }
    }
}
