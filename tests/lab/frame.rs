//! Ethernet frames made byte by byte, with right checksums unless a test breaks them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The flag of IPv4.
const DO_NOT_FRAGMENT: u16 = 0x4000;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// An 802.1Q (`0x8100`) or 802.1ad (`0x88a8`) tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    pub tpid: u16,
    pub vlan: u16,
}

/// What an Ethernet frame starts with.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    pub destination: Mac,
    pub source: Mac,
    pub tags: &'a [Tag],
}

impl Envelope<'_> {
    /// Ethernet header and tags in front of a payload of this EtherType.
    pub fn wrap(&self, ether_type: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::with_capacity(22 + payload.len());
        frame.extend(self.destination.0);
        frame.extend(self.source.0);
        for tag in self.tags {
            frame.extend(tag.tpid.to_be_bytes());
            frame.extend(tag.vlan.to_be_bytes());
        }
        frame.extend(ether_type.to_be_bytes());
        frame.extend(payload);
        frame
    }

    /// A UDP datagram over IPv4 or IPv6, by the family of the addresses.
    pub fn udp(&self, from: SocketAddr, to: SocketAddr, data: &[u8]) -> Vec<u8> {
        self.ip(from.ip(), to.ip(), 17, &udp(from, to, data))
    }

    /// The fragments of a UDP datagram, the first one first; all but the last have `size` bytes of it, a multiple of 8.
    pub fn udp_fragments(
        &self,
        from: SocketAddr,
        to: SocketAddr,
        data: &[u8],
        identification: u16,
        size: usize,
    ) -> Vec<Vec<u8>> {
        let datagram = udp(from, to, data);
        let count = datagram.len().div_ceil(size);
        let part = |(at, part): (usize, &[u8])| {
            self.ip_fragment(from.ip(), to.ip(), identification, (at * size, at + 1 < count), part)
        };
        datagram.chunks(size).enumerate().map(part).collect()
    }

    /// A fragment of a UDP datagram: where it begins in the datagram, and whether more follow.
    pub fn ip_fragment(
        &self,
        from: IpAddr,
        to: IpAddr,
        identification: u16,
        (offset, more): (usize, bool),
        part: &[u8],
    ) -> Vec<u8> {
        let units = u16::try_from(offset / 8).unwrap();
        match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let place = u16::from(more) << 13 | units;
                self.wrap(0x0800, &ipv4(from, to, 17, (identification, place), part))
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let mut payload = vec![17, 0];
                payload.extend((units << 3 | u16::from(more)).to_be_bytes());
                payload.extend(u32::from(identification).to_be_bytes());
                payload.extend(part);
                self.wrap(0x86dd, &ipv6(from, to, 44, &payload))
            }
            _ => panic!("addresses of two families"),
        }
    }

    /// A TCP segment that opens a connection.
    pub fn tcp_syn(&self, from: SocketAddr, to: SocketAddr, sequence: u32) -> Vec<u8> {
        let mut segment = Vec::with_capacity(20);
        segment.extend(from.port().to_be_bytes());
        segment.extend(to.port().to_be_bytes());
        segment.extend(sequence.to_be_bytes());
        segment.extend([0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
        let sum = checksum(&[&pseudo_header(from.ip(), to.ip(), 6, segment.len()), &segment]);
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        self.ip(from.ip(), to.ip(), 6, &segment)
    }

    /// An echo request (ping).
    pub fn echo_request(&self, from: IpAddr, to: IpAddr, identifier: u16) -> Vec<u8> {
        let (kind, protocol) = if from.is_ipv4() { (8, 1) } else { (128, 58) };
        let mut message = vec![kind, 0, 0, 0];
        message.extend(identifier.to_be_bytes());
        message.extend([0, 1]);
        message.extend(b"is anybody there");
        let pseudo = if from.is_ipv4() { Vec::new() } else { pseudo_header(from, to, protocol, message.len()) };
        let sum = checksum(&[&pseudo, &message]);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        self.ip(from, to, protocol, &message)
    }

    pub fn ip(&self, from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
        match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                self.wrap(0x0800, &ipv4(from, to, protocol, (0x1234, DO_NOT_FRAGMENT), payload))
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => self.wrap(0x86dd, &ipv6(from, to, protocol, payload)),
            _ => panic!("addresses of two families"),
        }
    }
}

/// A UDP header and data.
fn udp(from: SocketAddr, to: SocketAddr, data: &[u8]) -> Vec<u8> {
    let mut segment = Vec::with_capacity(8 + data.len());
    segment.extend(from.port().to_be_bytes());
    segment.extend(to.port().to_be_bytes());
    segment.extend(u16::try_from(8 + data.len()).unwrap().to_be_bytes());
    segment.extend([0, 0]);
    segment.extend(data);
    let sum = checksum(&[&pseudo_header(from.ip(), to.ip(), 17, segment.len()), &segment]);
    // Zero would mean "no checksum" (RFC 768).
    segment[6..8].copy_from_slice(&(if sum == 0 { 0xffff } else { sum }).to_be_bytes());
    segment
}

/// `identification` is that of the datagram, with flags and fragment offset.
fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, identification: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let total = u16::try_from(20 + payload.len()).unwrap();
    let mut packet = vec![0x45, 0];
    packet.extend(total.to_be_bytes());
    packet.extend(identification.0.to_be_bytes());
    packet.extend(identification.1.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    let sum = checksum(&[&packet]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(payload);
    packet
}

fn ipv6(from: Ipv6Addr, to: Ipv6Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    packet.extend([protocol, 64]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(payload);
    packet
}

fn pseudo_header(from: IpAddr, to: IpAddr, protocol: u8, length: usize) -> Vec<u8> {
    let mut header = Vec::with_capacity(40);
    for address in [from, to] {
        match address {
            IpAddr::V4(address) => header.extend(address.octets()),
            IpAddr::V6(address) => header.extend(address.octets()),
        }
    }
    // The longer form of IPv6 adds up to the same sum for IPv4.
    header.extend(u32::try_from(length).unwrap().to_be_bytes());
    header.extend([0, 0, 0, protocol]);
    header
}

/// Internet checksum (RFC 1071) over parts of which all but the last are even in length.
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

/// Destination MAC of a frame.
pub fn destination(frame: &[u8]) -> Mac {
    Mac(frame[..6].try_into().unwrap())
}

/// Source MAC of a frame.
pub fn source(frame: &[u8]) -> Mac {
    Mac(frame[6..12].try_into().unwrap())
}

/// The tags of a frame, the outer one first.
pub fn tags(frame: &[u8]) -> Vec<Tag> {
    let mut tags = Vec::new();
    for tag in frame[12..].chunks_exact(4) {
        let tpid = u16::from_be_bytes([tag[0], tag[1]]);
        if tpid != 0x8100 && tpid != 0x88a8 {
            break;
        }
        tags.push(Tag { tpid, vlan: u16::from_be_bytes([tag[2], tag[3]]) & 0x0fff });
    }
    tags
}
