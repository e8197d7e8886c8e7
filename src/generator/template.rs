//! Frames made from templates: a frame's head is copied from that of its service, and only what differs is written.
//!
//! Checksums are not computed over frames. A template holds the sum of what never changes, and the few words that do
//! are added to it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::flows::FlowAddresses;
use super::mark::{MARK_BYTES, Mark};
use crate::service::{Protocol, ServiceKey, address_bytes};
use crate::wire::checksum::{folded, sum};
use crate::wire::{MacAddress, ethernet};

const IPV4_BYTES: usize = 20;
const IPV6_BYTES: usize = 40;
const UDP_BYTES: usize = 8;
const TCP_BYTES: usize = 20;
const MAX_HEAD_BYTES: usize = ethernet::HEADER_LEN + IPV6_BYTES + TCP_BYTES;
/// Hops that a frame may make.
const TTL: u8 = 64;

/// Shortest frame that can be asked for, and the longest that fits the usual MTU, without frame check sequence.
pub const FRAME_BYTES: std::ops::RangeInclusive<usize> = 64..=1514;

/// What TCP segments are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TcpShape {
    /// Each opens a connection.
    #[default]
    Syn,
    /// Each belongs to a connection that is open.
    Ack,
}

/// Frame sizes, taken in turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameSizes {
    cycle: Box<[usize]>,
}

impl FrameSizes {
    /// 64, 590 and 1514 bytes as 7 : 4 : 1.
    pub fn imix() -> Self {
        Self::of(&[(64, 7), (590, 4), (1514, 1)])
    }

    /// Sizes with their parts, spread evenly over a cycle.
    fn of(parts: &[(usize, usize)]) -> Self {
        let total = parts.iter().map(|(_, part)| part).sum();
        let mut given = vec![0; parts.len()];
        let cycle = (1..=total).map(|turn: usize| {
            // The one that is furthest behind its share.
            let behind = |at: usize| (parts[at].1 * turn).cast_signed() - (given[at] * total).cast_signed();
            let at = (0..parts.len()).max_by_key(|at| behind(*at)).unwrap_or(0);
            given[at] += 1;
            parts[at].0
        });
        Self { cycle: cycle.collect() }
    }

    /// The size of the frame with that number.
    #[inline]
    pub fn at(&self, sequence: u64) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "it is less than the length of a slice")]
        let at = (sequence % self.cycle.len().max(1) as u64) as usize;
        self.cycle.get(at).copied().unwrap_or(*FRAME_BYTES.start())
    }

    /// With those below `smallest` raised to it. Says whether there were any.
    pub fn raised_to(self, smallest: usize) -> (Self, bool) {
        let raised = self.cycle.iter().any(|size| *size < smallest);
        (Self { cycle: self.cycle.iter().map(|size| smallest.max(*size)).collect() }, raised)
    }

    /// The largest one.
    pub fn largest(&self) -> usize {
        self.cycle.iter().copied().max().unwrap_or_default()
    }

    /// Each size once, with how many frames of a cycle have it, the smallest first.
    pub fn parts(&self) -> Vec<(usize, usize)> {
        let mut sorted = self.cycle.to_vec();
        sorted.sort_unstable();
        sorted.chunk_by(|a, b| a == b).map(|same| (same[0], same.len())).collect()
    }
}

impl FromStr for FrameSizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const MOST_PARTS: usize = 1000;
        let refuse = || {
            format!(
                "{text:?} are no frame sizes: write one from {} to {}, several with their parts as 64:7,590:4,1514:1, or \
                 imix",
                FRAME_BYTES.start(),
                FRAME_BYTES.end()
            )
        };
        if text == "imix" {
            return Ok(Self::imix());
        }
        let mut parts = Vec::new();
        for word in text.split(',') {
            let (size, part) = word.split_once(':').unwrap_or((word, "1"));
            match (size.parse(), part.parse()) {
                (Ok(size), Ok(part @ 1..=MOST_PARTS)) if FRAME_BYTES.contains(&size) => parts.push((size, part)),
                _ => return Err(refuse()),
            }
        }
        Ok(Self::of(&parts))
    }
}

impl fmt::Display for FrameSizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self.parts() {
            [(size, _)] => write!(f, "{size}"),
            ref parts => {
                let words: Vec<String> = parts.iter().map(|(size, part)| format!("{size}:{part}")).collect();
                f.write_str(&words.join(","))
            }
        }
    }
}

/// The head of the frames of one virtual service.
#[derive(Clone, Debug)]
pub struct Template {
    /// Ethernet, IP and UDP or TCP headers, with zeros for what differs between frames.
    head: [u8; MAX_HEAD_BYTES],
    head_bytes: usize,
    l4_offset: usize,
    v4: bool,
    protocol: Protocol,
    /// Of the IPv4 header.
    header_sum: u64,
    /// Of the UDP or TCP header and the pseudo-header.
    l4_sum: u64,
}

impl Template {
    /// For frames from `source` to `destination`.
    pub fn new(destination: MacAddress, source: MacAddress, service: &ServiceKey, tcp: TcpShape) -> Self {
        let v4 = service.vip.is_ipv4();
        let mut head = Vec::with_capacity(MAX_HEAD_BYTES);
        head.extend(destination.octets());
        head.extend(source.octets());
        head.extend(if v4 { ethernet::IPV4 } else { ethernet::IPV6 }.to_be_bytes());
        let protocol = service.protocol.number();
        match service.vip {
            IpAddr::V4(vip) => {
                // Version and length, no options; do not fragment.
                head.extend([0x45, 0, 0, 0, 0, 0, 0x40, 0, TTL, protocol, 0, 0, 0, 0, 0, 0]);
                head.extend(vip.octets());
            }
            IpAddr::V6(vip) => {
                head.extend([0x60, 0, 0, 0, 0, 0, protocol, TTL]);
                head.extend([0; 16]);
                head.extend(vip.octets());
            }
        }
        let l4_offset = head.len();
        head.extend([0, 0]);
        head.extend(service.port.to_be_bytes());
        match (service.protocol, tcp) {
            (Protocol::Udp, _) => head.extend([0; 4]),
            // Sequence and acknowledgement numbers, data offset, flags, window, checksum, urgent pointer.
            (Protocol::Tcp, TcpShape::Syn) => head.extend([0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]),
            (Protocol::Tcp, TcpShape::Ack) => head.extend([0, 0, 0, 0, 0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0]),
        }
        let mut bytes = [0; MAX_HEAD_BYTES];
        bytes[..head.len()].copy_from_slice(&head);
        Self {
            head: bytes,
            head_bytes: head.len(),
            l4_offset,
            v4,
            protocol: service.protocol,
            header_sum: sum(&head[ethernet::HEADER_LEN..l4_offset]),
            l4_sum: sum(&head[l4_offset..]) + sum(&address_bytes(service.vip)) + u64::from(protocol),
        }
    }

    /// The smallest frame that a mark fits into.
    pub fn smallest_frame(&self) -> usize {
        (self.head_bytes + MARK_BYTES).max(*FRAME_BYTES.start())
    }

    /// Makes a whole frame of `frame`, whose bytes behind the longest head and mark are zero; it has those of
    /// [`Template::smallest_frame`] at least, or is left as it is.
    #[inline]
    pub fn fill(&self, frame: &mut [u8], flow: &FlowAddresses, mark: &Mark) {
        let payload = self.head_bytes + MARK_BYTES;
        if frame.len() < payload {
            return;
        }
        let mark_bytes = mark.bytes();
        // What an earlier frame with a longer head may have left.
        let dirty = (MAX_HEAD_BYTES + MARK_BYTES).min(frame.len());
        frame[payload..dirty].fill(0);
        frame[..self.head_bytes].copy_from_slice(&self.head[..self.head_bytes]);
        frame[self.head_bytes..payload].copy_from_slice(&mark_bytes);

        let l4_bytes = frame.len() - self.l4_offset;
        let source = address_bytes(flow.source);
        let source_sum = sum(&source);
        if self.v4 {
            let total = wire_length(l4_bytes + IPV4_BYTES);
            let header_checksum = folded(self.header_sum + source_sum + u64::from(total));
            frame[16..18].copy_from_slice(&total.to_be_bytes());
            frame[24..26].copy_from_slice(&header_checksum.to_be_bytes());
            frame[26..30].copy_from_slice(&source[..4]);
        } else {
            frame[18..20].copy_from_slice(&wire_length(l4_bytes).to_be_bytes());
            frame[22..38].copy_from_slice(&source);
        }

        let length = wire_length(l4_bytes);
        let mut l4_sum = self.l4_sum + source_sum + u64::from(flow.source_port) + u64::from(length) + sum(&mark_bytes);
        let l4 = &mut frame[self.l4_offset..];
        l4[..2].copy_from_slice(&flow.source_port.to_be_bytes());
        match self.protocol {
            Protocol::Udp => {
                l4[4..6].copy_from_slice(&length.to_be_bytes());
                l4_sum += u64::from(length);
                // Zero would mean that there is none (RFC 768).
                let checksum = folded(l4_sum);
                l4[6..8].copy_from_slice(&(if checksum == 0 { u16::MAX } else { checksum }).to_be_bytes());
            }
            Protocol::Tcp => {
                let sequence = mark.flow_sequence;
                l4[4..8].copy_from_slice(&sequence.to_be_bytes());
                l4_sum += u64::from(sequence);
                l4[16..18].copy_from_slice(&folded(l4_sum).to_be_bytes());
            }
        }
    }
}

/// A length as headers have it.
fn wire_length(bytes: usize) -> u16 {
    u16::try_from(bytes).unwrap_or(u16::MAX)
}

/// What the sink reads of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrived {
    /// Not of a generator.
    Foreign,
    /// It has a mark, but a length or a checksum is wrong.
    Corrupted,
    /// As it was sent, but for its MAC addresses.
    Whole(Mark),
}

/// Reads a frame, and verifies lengths and checksums.
#[inline]
pub fn read(frame: &[u8]) -> Arrived {
    let Some(outer) = ethernet::payload(frame) else { return Arrived::Foreign };
    let packet = &frame[outer.offset..];
    let headers = match outer.ether_type {
        ethernet::IPV4 => ipv4(packet),
        ethernet::IPV6 => ipv6(packet),
        _ => None,
    };
    let Some(Headers { l4, addresses, protocol, mut sound }) = headers else { return Arrived::Foreign };
    let payload_at = match protocol {
        Some(Protocol::Udp) => UDP_BYTES,
        Some(Protocol::Tcp) => l4.get(12).map_or(usize::MAX, |offset| usize::from(offset >> 4) * 4),
        None => return Arrived::Foreign,
    };
    let Some(mark) = l4.get(payload_at..).and_then(Mark::read) else { return Arrived::Foreign };
    let length = wire_length(l4.len());
    if protocol == Some(Protocol::Udp) {
        sound &= l4[4..6] == length.to_be_bytes() && l4[6..8] != [0, 0];
    }
    let number = protocol.map_or(0, Protocol::number);
    sound &= folded(sum(addresses) + u64::from(number) + u64::from(length) + sum(l4)) == 0;
    if sound { Arrived::Whole(mark) } else { Arrived::Corrupted }
}

struct Headers<'a> {
    l4: &'a [u8],
    /// Both, as they stand in the header.
    addresses: &'a [u8],
    protocol: Option<Protocol>,
    sound: bool,
}

/// Without a length that fits, what follows counts as the packet: a damaged one is to be told from a foreign one.
fn ipv4(packet: &[u8]) -> Option<Headers<'_>> {
    let header = packet.first_chunk::<IPV4_BYTES>()?;
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let fits = total >= IPV4_BYTES && total <= packet.len();
    let sound = header[0] == 0x45 && fits && folded(sum(header)) == 0;
    let l4 = &packet[IPV4_BYTES..if fits { total } else { packet.len() }];
    Some(Headers { l4, addresses: &packet[12..20], protocol: Protocol::from_number(header[9]), sound })
}

fn ipv6(packet: &[u8]) -> Option<Headers<'_>> {
    let header = packet.first_chunk::<IPV6_BYTES>()?;
    let total = IPV6_BYTES + usize::from(u16::from_be_bytes([header[4], header[5]]));
    let fits = total <= packet.len();
    let sound = header[0] >> 4 == 6 && fits;
    let l4 = &packet[IPV6_BYTES..if fits { total } else { packet.len() }];
    Some(Headers { l4, addresses: &packet[8..40], protocol: Protocol::from_number(header[6]), sound })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    use crate::wire::subject;

    fn service() -> impl Strategy<Value = ServiceKey> {
        (any::<IpAddr>(), any::<bool>(), any::<u16>()).prop_map(|(vip, tcp, port)| ServiceKey {
            vip,
            protocol: if tcp { Protocol::Tcp } else { Protocol::Udp },
            port,
        })
    }

    const ROUTER: MacAddress = MacAddress::new([2, 0, 0, 0, 0, 1]);
    const DIRECTOR: MacAddress = MacAddress::new([2, 0, 0, 0, 0, 2]);

    fn flow(service: &ServiceKey, source: u128, source_port: u16) -> FlowAddresses {
        let source = if service.vip.is_ipv4() {
            IpAddr::from(u32::try_from(source >> 96).unwrap().to_be_bytes())
        } else {
            IpAddr::from(source.to_be_bytes())
        };
        FlowAddresses { service: 0, source, source_port }
    }

    proptest! {
        /// By full computation of its checksums, whatever frame was there before.
        #[test]
        fn a_filled_frame_is_read_back_and_any_flipped_bit_is_seen(
            service in service(), ack: bool, source: u128, source_port: u16, size in 64usize..=1514,
            stream: u8, flow_number in 0u32..1 << 24, flow_sequence: u32, sequence in 0u64..1 << 40,
            flip: prop::sample::Index, bit in 0u8..8, before in prop::option::of(service()),
        ) {
            let tcp = if ack { TcpShape::Ack } else { TcpShape::Syn };
            let template = Template::new(DIRECTOR, ROUTER, &service, tcp);
            let mark = Mark { stream, flow: flow_number, flow_sequence, sequence, sent_ns: sequence };
            let mut frame = vec![0; size.max(template.smallest_frame())];
            if let Some(before) = before {
                Template::new(DIRECTOR, ROUTER, &before, tcp).fill(&mut frame, &flow(&before, source, 9), &mark);
            }
            template.fill(&mut frame, &flow(&service, source, source_port), &mark);
            prop_assert_eq!(read(&frame), Arrived::Whole(mark));
            prop_assert_eq!(&frame[..6], &DIRECTOR.octets());
            let subject = subject(&frame).unwrap();
            prop_assert_eq!(subject.protocol, service.protocol.number());

            // MAC addresses are the director's to change; what else is damaged is whole no more.
            let at = 14 + flip.index(frame.len() - 14);
            frame[at] ^= 1 << bit;
            let header = &frame[14..];
            // The hop limit of IPv6 and its traffic class and flow label are covered by no checksum.
            let covered = header[0] >> 4 == 4 || !matches!(at - 14, 0..=3 | 7);
            if covered {
                prop_assert_ne!(read(&frame), Arrived::Whole(mark), "byte {}", at);
            }
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }
    }

    #[test]
    fn sizes_come_in_their_parts_and_spread() {
        let imix: FrameSizes = "imix".parse().unwrap();
        assert_eq!(imix.parts(), [(64, 7), (590, 4), (1514, 1)]);
        let of_size = |size| (0..12_000).filter(|sequence| imix.at(*sequence) == size).count();
        assert_eq!([64, 590, 1514].map(of_size), [7_000, 4_000, 1_000]);
        assert!((0..24).all(|at| (at..at + 4).any(|sequence| imix.at(sequence) == 64)), "spread over the cycle");
        assert_eq!("64,1514:3".parse::<FrameSizes>().unwrap().to_string(), "64:1,1514:3");
        assert_eq!("128".parse::<FrameSizes>().unwrap().to_string(), "128");
        let (raised, any) = imix.raised_to(76);
        assert_eq!((raised.parts()[0], any), ((76, 7), true));
        for text in ["", "63", "1515", "64:0", "64:-1", "imix,64"] {
            assert!(text.parse::<FrameSizes>().is_err(), "{text}");
        }
    }
}
