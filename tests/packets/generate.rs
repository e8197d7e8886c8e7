//! An endless, repeatable stream of frames: packets for and beside the services at every layer, most of them mutated, and
//! some of plain random bytes.

use super::*;

/// Frames of 14 to 1,514 bytes; equal seeds give equal streams.
///
/// Addresses, ports and identifications come from small sets, so that fragments meet their first one and the table of
/// remembered fragments (4,096) does not overflow within some 100,000 frames.
#[derive(Clone, Debug)]
pub struct Frames {
    random: SplitMix64,
}

impl Frames {
    pub fn new(seed: u64) -> Self {
        Self { random: SplitMix64(seed) }
    }
}

impl Iterator for Frames {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let random = &mut self.random;
        let mut frame = if random.one_in(20) { random.bytes(14, 200) } else { random.frame() };
        if random.one_in(2) {
            for _ in 0..random.pick(&[1, 1, 2, 4]) {
                random.mutate(&mut frame);
            }
        }
        frame.truncate(1514);
        while frame.len() < 14 {
            frame.push(random.byte());
        }
        Some(frame)
    }
}

/// Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (OOPSLA 2014).
#[derive(Clone, Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit.max(1)).unwrap()).unwrap()
    }

    /// Both included.
    fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    fn bytes(&mut self, low: usize, high: usize) -> Vec<u8> {
        let length = self.between(low, high);
        (0..length).map(|_| self.byte()).collect()
    }

    /// Mostly that of a service.
    fn port(&mut self, protocol: u8) -> u16 {
        let random = u16::from_le_bytes([self.byte(), self.byte()]);
        let of_service = if protocol == UDP { 53 } else { 80 };
        if self.one_in(3) { self.pick(&[80, 53, 443, 0, 4711, random]) } else { of_service }
    }

    fn ipv4_address(&mut self) -> Ipv4Addr {
        self.pick(&[VIP, VIP, VIP, VIP, VIP_UDP_ANY, VIP_TCP_ANY, VIP_MIXED, OTHER])
    }

    fn ipv6_address(&mut self) -> Ipv6Addr {
        self.pick(&[VIP6, VIP6, VIP6, VIP6, VIP6_TCP_ANY, VIP6_TCP_ANY, LIKE_VIP, OTHER6])
    }

    fn frame(&mut self) -> Vec<u8> {
        let destination = self.pick(&[OUR_MAC, OUR_MAC, OUR_MAC, OUR_MAC, OUR_MAC, OUR_MAC, VIRTUAL_MAC, OTHER_MAC]);
        let (ethertype, packet) = if self.one_in(2) { (IPV4, self.ipv4()) } else { (IPV6, self.ipv6()) };
        let mut frame = ethernet_to(destination, ethertype, &packet);
        for _ in 0..self.pick(&[0, 0, 0, 0, 0, 0, 1, 1, 2, 3]) {
            frame = tagged(self.pick(&[VLAN, QINQ]), &frame);
        }
        if self.one_in(4) {
            frame.extend(self.bytes(1, 46));
        }
        frame
    }

    fn ipv4(&mut self) -> Vec<u8> {
        let destination = self.ipv4_address();
        let source = self.pick(&[CLIENT, OTHER]);
        let header = self.ipv4_header(source, destination);
        if !self.one_in(4) {
            let payload = self.transport(header.protocol);
            return header.packet(&payload);
        }
        let quoted_source = if self.one_in(5) { self.ipv4_address() } else { destination };
        let quoted = self.ipv4_header(quoted_source, CLIENT);
        let payload = self.transport(quoted.protocol);
        let message = self.icmp_error(&[3, 3, 11, 12, 0, 8], quoted.packet(&payload));
        Ipv4 { protocol: ICMP, ..header }.packet(&message)
    }

    fn ipv4_header(&mut self, source: Ipv4Addr, destination: Ipv4Addr) -> Ipv4 {
        let fragment = self.one_in(4);
        Ipv4 {
            source,
            destination,
            protocol: self.pick(&[TCP, TCP, TCP, TCP, UDP, UDP, UDP, ICMP, 132]),
            identification: self.pick(&[1, 2, 3, 4, 0x100, 0x200, 0x300, 0x400]),
            fragment_offset: if fragment { self.pick(&[0, 0, 0, 1, 3, 0x1fff]) } else { 0 },
            more_fragments: fragment && !self.one_in(3),
            dont_fragment: self.one_in(2),
            options: if self.one_in(6) { vec![1; self.between(1, 10) * 4] } else { Vec::new() },
            ..Ipv4::default()
        }
    }

    fn ipv6(&mut self) -> Vec<u8> {
        let destination = self.ipv6_address();
        let source = self.pick(&[CLIENT6, OTHER6]);
        let header = self.ipv6_header(source, destination);
        if !self.one_in(4) {
            let payload = self.transport(header.protocol);
            return header.packet(&payload);
        }
        let quoted_source = if self.one_in(5) { self.ipv6_address() } else { destination };
        let quoted = self.ipv6_header(quoted_source, CLIENT6);
        let payload = self.transport(quoted.protocol);
        let message = self.icmp_error(&[1, 2, 3, 4, 0, 128, 135], quoted.packet(&payload));
        Ipv6 { protocol: ICMPV6, ..header }.packet(&message)
    }

    fn ipv6_header(&mut self, source: Ipv6Addr, destination: Ipv6Addr) -> Ipv6 {
        let count = self.pick(&[0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 7, 8, 9]);
        Ipv6 {
            source,
            destination,
            protocol: self.pick(&[TCP, TCP, TCP, TCP, UDP, UDP, UDP, ICMPV6, NO_NEXT_HEADER]),
            extensions: (0..count).map(|_| self.extension(count)).collect(),
            ..Ipv6::default()
        }
    }

    /// Fragment headers are rarer in long chains, lest nearly all of those have two.
    fn extension(&mut self, chain_length: usize) -> Extension {
        let length = self.pick(&[0, 0, 0, 1, 4]);
        if self.one_in(3 + 2 * chain_length) {
            let offset = self.pick(&[0, 0, 0, 1, 3]);
            return fragment(
                offset,
                self.one_in(2),
                self.pick(&[1, 2, 3, 0x0001_0001, 0x0001_0002, 0x0100_0000, 0x0200_0000]),
            );
        }
        match self.below(12) {
            0 if self.one_in(4) => routing(1),
            0..=2 => routing(0),
            3..=6 => options(HOP_BY_HOP, length),
            _ => options(DESTINATION_OPTIONS, length),
        }
    }

    fn icmp_error(&mut self, types: &[u8], mut quoted: Vec<u8>) -> Vec<u8> {
        if self.one_in(3) {
            quoted.truncate(self.below(quoted.len() + 1));
        }
        icmp(self.pick(types), &quoted)
    }

    fn transport(&mut self, protocol: u8) -> Vec<u8> {
        let (source, destination) = (self.port(protocol), self.port(protocol));
        let mut payload = if protocol == UDP { udp(source, destination) } else { tcp(source, destination) };
        if self.one_in(10) {
            payload.truncate(self.below(8));
        } else if self.one_in(4) {
            payload.extend(self.bytes(1, 100));
        }
        payload
    }

    fn mutate(&mut self, frame: &mut Vec<u8>) {
        if frame.is_empty() {
            return;
        }
        // Headers are what matters, and they are in front; the first 12 bytes matter least.
        let end = frame.len().min(if self.one_in(3) { frame.len() } else { 100 });
        let start = if self.one_in(20) { 0 } else { end.min(12) };
        let at = (start + self.below(end - start)).min(frame.len() - 1);
        match self.below(8) {
            0 | 1 => frame[at] ^= 1 << self.below(8),
            2 => frame[at] = self.byte(),
            3 => frame[at] = self.pick(&[0, 1, 4, 6, 17, 43, 44, 58, 60, 0x40, 0x45, 0x60, 0x81, 0xff]),
            4 => frame[at] = frame[at].wrapping_add(self.pick(&[1, 8, 0xff, 0xf8])),
            5 => frame.truncate(at),
            6 => {
                let inserted = self.bytes(1, 16);
                frame.splice(at..at, inserted);
            }
            _ => {
                let cut = self.between(1, 16).min(frame.len() - at);
                frame.drain(at..at + cut);
            }
        }
    }
}
