//! What a frame is about: the client, the VIP and the ports of the flow that it belongs to.
//!
//! For a datagram these are its own; for an ICMP error they are those of the packet quoted inside, which a real server
//! sent from the VIP. The rules are those of docs/classification.md, in the same order.

use super::{ethernet, ipv4, ipv6};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
/// Bytes of an ICMP or ICMPv6 header in front of the quoted packet.
const ICMP_HEADER_LEN: usize = 8;
/// Bytes of the two ports that a TCP or UDP header begins with.
const PORTS_LEN: usize = 4;

/// An IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Family {
    /// IPv4; an address stands in the first four of 16 bytes.
    V4 = 4,
    /// IPv6.
    V6 = 6,
}

/// How a frame carries its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// A whole datagram with ports.
    Datagram,
    /// The first fragment of a datagram, with ports.
    FirstFragment,
    /// A fragment behind the first; it has no ports.
    LaterFragment,
    /// A whole datagram that ends before its ports do.
    Truncated,
    /// A first fragment that ends before its ports do.
    TruncatedFragment,
    /// An ICMP error that quotes the ports of a packet sent from the VIP.
    Quote,
    /// An ICMP error that quotes a fragment without ports.
    QuotedFragment,
    /// An ICMP error whose quote ends before its ports do.
    TruncatedQuote,
}

/// Whose flow a frame is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The client's address.
    pub client: [u8; 16],
    /// The address that the client uses.
    pub vip: [u8; 16],
    /// The client's port, host byte order; 0 where [`Shape`] has no ports.
    pub client_port: u16,
    /// The service's port, host byte order; 0 where [`Shape`] has no ports.
    pub service_port: u16,
    /// The IP protocol number, 6 (TCP) or 17 (UDP).
    pub protocol: u8,
    /// The IP version.
    pub family: Family,
    /// How the frame carries the flow.
    pub shape: Shape,
    /// The identification of a fragmented datagram, host byte order; 0 for a whole one.
    pub fragment_id: u32,
    /// Bytes from the start of the frame to the IP header.
    pub l3_offset: usize,
    /// Bytes from the start of the frame to the L4 header (of the ICMP header for quotes).
    pub l4_offset: usize,
    /// Bytes of L4 there are, padding excluded.
    pub l4_len: usize,
}

/// Why a frame is about no flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSubject {
    /// A header is cut short or contradicts itself.
    Malformed,
    /// Neither IPv4 nor IPv6.
    NotIp,
    /// IP, but not TCP, UDP or an error that quotes them.
    NotBalanced,
    /// An ICMP or ICMPv6 error to this address and family that is cut short inside the quote.
    MalformedError {
        /// The outer destination.
        destination: [u8; 16],
        /// The IP version.
        family: Family,
    },
    /// An ICMP or ICMPv6 message to this address that no flow is quoted in.
    NotAnError,
}

/// Finds what `frame`, from its destination MAC on, is about.
///
/// # Errors
/// Why it is about no flow that could be balanced.
#[inline(always)]
pub fn subject(frame: &[u8]) -> Result<Subject, NoSubject> {
    plain_ipv4(frame).map_or_else(|| any_subject(frame), Ok)
}

/// What most frames are: untagged IPv4 without options, whole, TCP or UDP, with ports. `None` says nothing about others.
#[inline(always)]
pub fn plain_ipv4(frame: &[u8]) -> Option<Subject> {
    const L3: usize = ethernet::HEADER_LEN;
    const L4: usize = L3 + ipv4::MIN_HEADER_LEN;
    let head = frame.first_chunk::<{ L4 + PORTS_LEN }>()?;
    let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let (total_len, protocol) = (usize::from(word(L3 + 2)), head[L3 + 9]);
    let is_plain = word(L3 - 2) == ethernet::IPV4
        && head[L3] == 0x45
        && word(L3 + 6) & ipv4::FRAGMENT_MASK == 0
        && matches!(protocol, TCP | UDP)
        && total_len >= ipv4::MIN_HEADER_LEN + PORTS_LEN
        && total_len <= frame.len() - L3;
    is_plain.then(|| Subject {
        client: widen([head[L3 + 12], head[L3 + 13], head[L3 + 14], head[L3 + 15]]),
        vip: widen([head[L3 + 16], head[L3 + 17], head[L3 + 18], head[L3 + 19]]),
        client_port: word(L4),
        service_port: word(L4 + 2),
        protocol,
        family: Family::V4,
        shape: Shape::Datagram,
        fragment_id: 0,
        l3_offset: L3,
        l4_offset: L4,
        l4_len: total_len - ipv4::MIN_HEADER_LEN,
    })
}

fn any_subject(frame: &[u8]) -> Result<Subject, NoSubject> {
    let payload = ethernet::payload(frame).ok_or(NoSubject::Malformed)?;
    let packet = frame.get(payload.offset..).ok_or(NoSubject::Malformed)?;
    let datagram = match payload.ether_type {
        ethernet::IPV4 => ipv4_datagram(packet, Extent::Whole)?,
        ethernet::IPV6 => ipv6_datagram(packet, Extent::Whole)?,
        _ => return Err(NoSubject::NotIp),
    };
    let l4_offset = payload.offset + datagram.l4_offset;
    let l4 = frame.get(l4_offset..l4_offset + datagram.l4_len).ok_or(NoSubject::Malformed)?;
    match (datagram.protocol, datagram.family) {
        (TCP | UDP, _) => Ok(datagram_subject(&datagram, l4, payload.offset)),
        (ICMP, Family::V4) | (ICMPV6, Family::V6) => error_subject(&datagram, l4, payload.offset),
        _ => Err(NoSubject::NotBalanced),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// All bytes that the header promises must be there; those behind it are padding.
    Whole,
    /// A quote, cut short by nature.
    Quoted,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fragment {
    None,
    First(u32),
    Later(u32),
}

struct Datagram {
    source: [u8; 16],
    destination: [u8; 16],
    family: Family,
    protocol: u8,
    fragment: Fragment,
    /// From the start of the IP header.
    l4_offset: usize,
    l4_len: usize,
}

#[inline]
fn ipv4_datagram(packet: &[u8], extent: Extent) -> Result<Datagram, NoSubject> {
    let header = ipv4::header(packet).ok_or(NoSubject::Malformed)?;
    let end = match extent {
        Extent::Whole if header.total_len < header.header_len || header.total_len > packet.len() => {
            return Err(NoSubject::Malformed);
        }
        Extent::Whole => header.total_len,
        Extent::Quoted if header.total_len < header.header_len => return Err(NoSubject::Malformed),
        Extent::Quoted => packet.len(),
    };
    let identification = u32::from(header.identification);
    let fragment = match (header.fragment_offset, header.more_fragments) {
        (0, false) => Fragment::None,
        (0, true) => Fragment::First(identification),
        _ => Fragment::Later(identification),
    };
    Ok(Datagram {
        source: widen(header.source),
        destination: widen(header.destination),
        family: Family::V4,
        protocol: header.protocol,
        fragment,
        l4_offset: header.header_len,
        l4_len: end - header.header_len,
    })
}

#[inline]
fn ipv6_datagram(packet: &[u8], extent: Extent) -> Result<Datagram, NoSubject> {
    let header = ipv6::header(packet).ok_or(NoSubject::Malformed)?;
    let rest = packet.get(ipv6::HEADER_LEN..).ok_or(NoSubject::Malformed)?;
    let payload = match extent {
        Extent::Whole => rest.get(..header.payload_len).ok_or(NoSubject::Malformed)?,
        Extent::Quoted => rest,
    };
    let upper = match ipv6::upper_layer(header.next_header, payload) {
        Ok(upper) => upper,
        Err(ipv6::WalkError::Malformed) => return Err(NoSubject::Malformed),
        Err(ipv6::WalkError::NotLastDestination) => return Err(NoSubject::NotBalanced),
    };
    let fragment = match upper.fragment {
        Some(fragment) if fragment.offset != 0 => Fragment::Later(fragment.identification),
        Some(fragment) if fragment.more => Fragment::First(fragment.identification),
        // RFC 6946: an atomic fragment is a whole datagram.
        _ => Fragment::None,
    };
    Ok(Datagram {
        source: header.source,
        destination: header.destination,
        family: Family::V6,
        protocol: upper.protocol,
        fragment,
        l4_offset: ipv6::HEADER_LEN + upper.offset,
        l4_len: payload.len() - upper.offset,
    })
}

#[inline]
fn datagram_subject(datagram: &Datagram, l4: &[u8], l3_offset: usize) -> Subject {
    let ports = ports(l4);
    let (shape, fragment_id) = match (datagram.fragment, ports) {
        (Fragment::Later(id), _) => (Shape::LaterFragment, id),
        (Fragment::First(id), None) => (Shape::TruncatedFragment, id),
        (Fragment::None, None) => (Shape::Truncated, 0),
        (Fragment::First(id), Some(_)) => (Shape::FirstFragment, id),
        (Fragment::None, Some(_)) => (Shape::Datagram, 0),
    };
    let (client_port, service_port) = match (shape, ports) {
        (Shape::Datagram | Shape::FirstFragment, Some(ports)) => ports,
        _ => (0, 0),
    };
    Subject {
        client: datagram.source,
        vip: datagram.destination,
        client_port,
        service_port,
        protocol: datagram.protocol,
        family: datagram.family,
        shape,
        fragment_id,
        l3_offset,
        l4_offset: l3_offset + datagram.l4_offset,
        l4_len: datagram.l4_len,
    }
}

fn error_subject(outer: &Datagram, l4: &[u8], l3_offset: usize) -> Result<Subject, NoSubject> {
    if outer.fragment != Fragment::None {
        return Err(NoSubject::NotBalanced);
    }
    let malformed = NoSubject::MalformedError { destination: outer.destination, family: outer.family };
    let (Some(kind), Some(packet)) = (l4.first(), l4.get(ICMP_HEADER_LEN..)) else {
        return Err(malformed);
    };
    let quoted = match (outer.family, kind) {
        (Family::V4, 3 | 11 | 12) => ipv4_datagram(packet, Extent::Quoted),
        (Family::V6, 1..=4) => ipv6_datagram(packet, Extent::Quoted),
        _ => return Err(NoSubject::NotAnError),
    };
    let quoted = match quoted {
        Ok(quoted) => quoted,
        Err(NoSubject::Malformed) => return Err(malformed),
        Err(other) => return Err(other),
    };
    if quoted.source != outer.destination || !matches!(quoted.protocol, TCP | UDP) {
        return Err(NoSubject::NotBalanced);
    }
    let quoted_l4 = packet.get(quoted.l4_offset..quoted.l4_offset + quoted.l4_len).ok_or(malformed)?;
    let (shape, fragment_id, (service_port, client_port)) = match (quoted.fragment, ports(quoted_l4)) {
        (Fragment::Later(id), _) => (Shape::QuotedFragment, id, (0, 0)),
        (Fragment::First(id), Some(ports)) => (Shape::Quote, id, ports),
        (Fragment::None, Some(ports)) => (Shape::Quote, 0, ports),
        (_, None) => (Shape::TruncatedQuote, 0, (0, 0)),
    };
    Ok(Subject {
        client: quoted.destination,
        vip: quoted.source,
        client_port,
        service_port,
        protocol: quoted.protocol,
        family: outer.family,
        shape,
        fragment_id,
        l3_offset,
        l4_offset: l3_offset + outer.l4_offset,
        l4_len: outer.l4_len,
    })
}

/// Source and destination port at the start of a TCP or UDP header.
#[inline]
fn ports(l4: &[u8]) -> Option<(u16, u16)> {
    let head = l4.first_chunk::<PORTS_LEN>()?;
    Some((u16::from_be_bytes([head[0], head[1]]), u16::from_be_bytes([head[2], head[3]])))
}

#[inline]
fn widen(address: [u8; 4]) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&address);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A whole UDP datagram, to be spoilt.
    fn plain() -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 32, 0, 7, 0x40, 0, 64, 17, 0, 0];
        frame.extend([10, 0, 0, 7, 192, 168, 88, 15, 0x30, 0x39, 0, 53, 0, 12, 0, 0, 1, 2, 3, 4]);
        frame
    }

    proptest! {
        /// Bytes of the headers are spoilt and the frame is cut or padded.
        #[test]
        fn the_short_way_says_what_the_long_one_says(
            spoilt in prop::collection::vec((12usize..46, any::<u8>()), 0..3),
            tcp in any::<bool>(),
            len in 0usize..70,
        ) {
            let mut frame = plain();
            frame[23] = if tcp { TCP } else { UDP };
            for (at, byte) in spoilt {
                frame[at] = byte;
            }
            frame.resize(len, 0);
            if let Some(subject) = plain_ipv4(&frame) {
                prop_assert_eq!(any_subject(&frame), Ok(subject));
            }
        }
    }

    #[test]
    fn the_short_way_is_taken() {
        assert!(plain_ipv4(&plain()).is_some());
    }
}
