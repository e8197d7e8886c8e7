//! Builders of frames, layer by layer; every field that a test bends can be set.

use std::net::{Ipv4Addr, Ipv6Addr};

use pointsman::wire::MacAddress;

use super::{CLIENT, CLIENT6, OTHER_MAC, OUR_MAC, VIP, VIP6};

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMP: u8 = 1;
pub const ICMPV6: u8 = 58;
pub const HOP_BY_HOP: u8 = 0;
pub const ROUTING: u8 = 43;
pub const FRAGMENT: u8 = 44;
pub const NO_NEXT_HEADER: u8 = 59;
pub const DESTINATION_OPTIONS: u8 = 60;

pub const IPV4: u16 = 0x0800;
pub const IPV6: u16 = 0x86dd;
pub const ARP: u16 = 0x0806;
pub const VLAN: u16 = 0x8100;
pub const QINQ: u16 = 0x88a8;

/// An Ethernet frame to `destination`.
pub fn ethernet_to(destination: MacAddress, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = destination.octets().to_vec();
    frame.extend(OTHER_MAC.octets());
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

/// An Ethernet frame to us.
pub fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    ethernet_to(OUR_MAC, ethertype, payload)
}

/// The frame with one more tag, in front of those that it has.
pub fn tagged(tpid: u16, frame: &[u8]) -> Vec<u8> {
    let mut tagged = frame[..12].to_vec();
    tagged.extend(tpid.to_be_bytes());
    tagged.extend(100_u16.to_be_bytes());
    tagged.extend(&frame[12..]);
    tagged
}

/// A TCP header of 20 bytes: a SYN.
pub fn tcp(source: u16, destination: u16) -> Vec<u8> {
    let mut segment = ports(source, destination);
    segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    segment
}

/// A UDP datagram of 12 bytes.
pub fn udp(source: u16, destination: u16) -> Vec<u8> {
    let mut datagram = ports(source, destination);
    datagram.extend([0, 12, 0, 0, b'd', b'a', b't', b'a']);
    datagram
}

/// The first four bytes of either.
pub fn ports(source: u16, destination: u16) -> Vec<u8> {
    [source.to_be_bytes(), destination.to_be_bytes()].concat()
}

/// An ICMP or ICMPv6 message that quotes a packet.
pub fn icmp(icmp_type: u8, quoted: &[u8]) -> Vec<u8> {
    let mut message = vec![icmp_type, 0, 0, 0, 0, 0, 0, 0];
    message.extend(quoted);
    message
}

/// An IPv4 packet; from a client to the VIP unless changed.
#[derive(Clone, Debug)]
pub struct Ipv4 {
    pub version: u8,
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub protocol: u8,
    /// The header's length in units of 4 bytes; None for the true one.
    pub ihl: Option<u8>,
    /// None for the true one.
    pub total_length: Option<u16>,
    pub identification: u16,
    /// In units of 8 bytes.
    pub fragment_offset: u16,
    pub more_fragments: bool,
    pub dont_fragment: bool,
    /// A multiple of 4 bytes.
    pub options: Vec<u8>,
}

impl Default for Ipv4 {
    fn default() -> Self {
        Self {
            version: 4,
            source: CLIENT,
            destination: VIP,
            protocol: TCP,
            ihl: None,
            total_length: None,
            identification: 0x1234,
            fragment_offset: 0,
            more_fragments: false,
            dont_fragment: false,
            options: Vec::new(),
        }
    }
}

impl Ipv4 {
    pub fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let true_ihl = u8::try_from(5 + self.options.len() / 4).unwrap();
        let true_length = u16::try_from(20 + self.options.len() + payload.len()).unwrap();
        let fragment =
            (u16::from(self.dont_fragment) << 14) | (u16::from(self.more_fragments) << 13) | self.fragment_offset;
        let mut packet = vec![(self.version << 4) | self.ihl.unwrap_or(true_ihl), 0];
        packet.extend(self.total_length.unwrap_or(true_length).to_be_bytes());
        packet.extend(self.identification.to_be_bytes());
        packet.extend(fragment.to_be_bytes());
        packet.extend([64, self.protocol, 0, 0]);
        packet.extend(self.source.octets());
        packet.extend(self.destination.octets());
        packet.extend(&self.options);
        packet.extend(payload);
        packet
    }

    pub fn frame(&self, payload: &[u8]) -> Vec<u8> {
        ethernet(IPV4, &self.packet(payload))
    }
}

/// An IPv6 packet; from a client to the VIP unless changed.
#[derive(Clone, Debug)]
pub struct Ipv6 {
    pub version: u8,
    pub source: Ipv6Addr,
    pub destination: Ipv6Addr,
    pub protocol: u8,
    /// None for the true one.
    pub payload_length: Option<u16>,
    pub extensions: Vec<Extension>,
}

/// An extension header, without its next-header field.
#[derive(Clone, Debug)]
pub struct Extension {
    pub kind: u8,
    /// What follows the next-header field.
    pub rest: Vec<u8>,
}

impl Default for Ipv6 {
    fn default() -> Self {
        Self {
            version: 6,
            source: CLIENT6,
            destination: VIP6,
            protocol: TCP,
            payload_length: None,
            extensions: Vec::new(),
        }
    }
}

impl Ipv6 {
    pub fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let next_headers = self.extensions.iter().map(|extension| extension.kind).chain([self.protocol]);
        let mut chain = Vec::new();
        for (extension, next_header) in self.extensions.iter().zip(next_headers.clone().skip(1)) {
            chain.push(next_header);
            chain.extend(&extension.rest);
        }
        chain.extend(payload);
        let true_length = u16::try_from(chain.len()).unwrap();
        let mut packet = vec![self.version << 4, 0, 0, 0];
        packet.extend(self.payload_length.unwrap_or(true_length).to_be_bytes());
        packet.extend([next_headers.clone().next().unwrap(), 64]);
        packet.extend(self.source.octets());
        packet.extend(self.destination.octets());
        packet.extend(chain);
        packet
    }

    pub fn frame(&self, payload: &[u8]) -> Vec<u8> {
        ethernet(IPV6, &self.packet(payload))
    }
}

/// A hop-by-hop or destination options header of `8 * (length + 1)` bytes, all padding (PadN).
pub fn options(kind: u8, length: u8) -> Extension {
    let mut rest = vec![length];
    let padding = usize::from(length) * 8 + 4;
    let mut left = padding + 2;
    while left > 0 {
        let option = left.min(257);
        let data = u8::try_from(option.saturating_sub(2)).unwrap();
        if option == 1 {
            rest.push(0);
        } else {
            rest.extend([1, data]);
            rest.extend(vec![0; usize::from(data)]);
        }
        left -= option;
    }
    Extension { kind, rest }
}

/// A routing header of 8 bytes.
pub fn routing(segments_left: u8) -> Extension {
    Extension { kind: ROUTING, rest: vec![0, 4, segments_left, 0, 0, 0, 0] }
}

/// A fragment header; `offset` in units of 8 bytes.
pub fn fragment(offset: u16, more_fragments: bool, identification: u32) -> Extension {
    let mut rest = vec![0];
    rest.extend(((offset << 3) | u16::from(more_fragments)).to_be_bytes());
    rest.extend(identification.to_be_bytes());
    Extension { kind: FRAGMENT, rest }
}
