//! Connection ids of QUIC that tell which server chose them.
//!
//! Of the packets' headers only what all versions share is read (RFC 8999), but for the two types of packets whose
//! destination id the client may have chosen. Of the id: draft-ietf-quic-load-balancers-21, without a key (sections 5.2
//! and 5.5). Its first octet has the configuration in its upper three bits and, if the server likes, the length of what
//! follows in the others (section 3.4), which load balancers may ignore (section 3.3); then come the server's id, of a
//! length that is agreed on, and a nonce of four octets or more (section 5.3), and what else the server likes (section
//! 5.4).

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// The longest server id: what a connection id of version 1 holds besides first octet and nonce.
pub const MAX_SERVER_ID_LEN: usize = 15;

const MIN_NONCE_LEN: usize = 4;
/// RFC 8999, section 5.1.
const LONG_HEADER: u8 = 0x80;
/// The configuration of ids that no server can be told from (section 3.2 of the draft).
const UNROUTABLE: u8 = 7;
/// RFC 9000, section 15.
const VERSION_1: u32 = 1;
/// RFC 9369, section 3.1.
const VERSION_2: u32 = 0x6b33_43cf;

/// What a server is known by in the connection ids that it chooses.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId {
    /// Zero behind `len`.
    octets: [u8; MAX_SERVER_ID_LEN],
    len: u8,
}

impl ServerId {
    /// An id of 1 to [`MAX_SERVER_ID_LEN`] octets; `None` for any other length.
    #[inline]
    pub fn new(id: &[u8]) -> Option<Self> {
        let mut octets = [0; MAX_SERVER_ID_LEN];
        octets.get_mut(..id.len())?.copy_from_slice(id);
        let len = u8::try_from(id.len()).ok().filter(|len| *len > 0)?;
        Some(Self { octets, len })
    }

    /// Its octets.
    pub fn octets(&self) -> &[u8] {
        self.octets.get(..self.len()).unwrap_or(&[])
    }

    /// Their number, never 0.
    #[inline]
    #[allow(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }
}

/// The text is not pairs of hexadecimal digits, or not 1 to [`MAX_SERVER_ID_LEN`] of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a server id; write 1 to {MAX_SERVER_ID_LEN} pairs of hexadecimal digits such as 0a1b")]
pub struct ParseServerIdError;

impl FromStr for ServerId {
    type Err = ParseServerIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let octets: Option<Vec<u8>> = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
        octets.filter(|_| rest.is_empty()).and_then(|octets| Self::new(&octets)).ok_or(ParseServerIdError)
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.octets().iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerId({self})")
    }
}

impl Serialize for ServerId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The server id, of `len` octets, in the destination id of the first packet of a UDP datagram. `None` where there is
/// none (the id is unroutable, section 4.1 of the draft), or where the client may have chosen the id; what else is in the
/// datagram may still be any bytes.
#[inline]
pub fn server_id(datagram: &[u8], len: usize) -> Option<ServerId> {
    let (first, behind) = destination_id(datagram)?.split_first()?;
    if first >> 5 == UNROUTABLE || behind.len() < len + MIN_NONCE_LEN {
        return None;
    }
    ServerId::new(behind.get(..len)?)
}

/// The destination id, for a short header, which does not tell its length, with all that is behind.
#[inline]
fn destination_id(datagram: &[u8]) -> Option<&[u8]> {
    let (first, behind) = datagram.split_first()?;
    if first & LONG_HEADER == 0 {
        return Some(behind);
    }
    let (version, behind) = behind.split_first_chunk()?;
    if is_client_chosen(u32::from_be_bytes(*version), *first) {
        return None;
    }
    let (len, behind) = behind.split_first()?;
    behind.get(..usize::from(*len))
}

/// Whether the client may have chosen the destination id of a long header: in Initial and 0-RTT packets, and in those of
/// version 0, which no client sends.
fn is_client_chosen(version: u32, first: u8) -> bool {
    let packet_type = first >> 4 & 3;
    match version {
        0 => true,
        VERSION_1 => matches!(packet_type, 0 | 1),
        VERSION_2 => matches!(packet_type, 1 | 2),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: [u8; 8] = [0x08, 0xaa, 0xbb, 1, 2, 3, 4, 5];

    fn long(first: u8, version: u32, id: &[u8]) -> Vec<u8> {
        let mut packet = vec![first];
        packet.extend(version.to_be_bytes());
        packet.push(u8::try_from(id.len()).unwrap());
        packet.extend(id);
        packet.extend([0; 30]);
        packet
    }

    #[test]
    fn every_rule_has_a_packet() {
        let short = |id: &[u8]| [&[0x40][..], id].concat();
        let rotated = |rotation: u8| [&[rotation << 5 | 7][..], &ID[1..]].concat();
        let rows = [
            ("a short header", short(&ID), true),
            ("with a greased fixed bit", [&[0x00][..], &ID].concat(), true),
            ("rotation 6", short(&rotated(6)), true),
            ("rotation 7: unroutable", short(&rotated(7)), false),
            ("with a nonce of four octets", short(&ID[..7]), true),
            ("with a nonce of three", short(&ID[..6]), false),
            ("no id", short(&[]), false),
            ("no byte", Vec::new(), false),
            ("a Handshake of version 1", long(0xe0, 1, &ID), true),
            ("an Initial of version 1", long(0xc0, 1, &ID), false),
            ("a 0-RTT of version 1", long(0xd0, 1, &ID), false),
            ("a Handshake of version 2", long(0xf0, 0x6b33_43cf, &ID), true),
            ("an Initial of version 2", long(0xd0, 0x6b33_43cf, &ID), false),
            ("a 0-RTT of version 2", long(0xe0, 0x6b33_43cf, &ID), false),
            ("some other version", long(0xc0, 0x0a1a_2a3a, &ID), true),
            ("version 0", long(0xe0, 0, &ID), false),
            ("rotation 7 in a long header", long(0xe0, 1, &rotated(7)), false),
            ("an id that is too short, and more behind it", long(0xe0, 1, &ID[..6]), false),
            ("an id that ends behind the datagram", long(0xe0, 1, &ID)[..13].to_vec(), false),
            ("a long header without a length", long(0xe0, 1, &ID)[..5].to_vec(), false),
        ];
        for (description, packet, routable) in rows {
            let expected = routable.then(|| ServerId::new(&[0xaa, 0xbb]).unwrap());
            assert_eq!(server_id(&packet, 2), expected, "{description}");
        }
    }

    /// Appendix B.1 of the draft. Of the second row it misprints the first octet, which by section 3.4 is 0x2a (1 in the
    /// upper three bits, and ten octets follow), and with it all that is behind: the nonce lacks its leading zero.
    #[test]
    fn the_draft_s_test_vectors_tell_their_servers() {
        let vectors: [(u8, &str, &str, &[u8]); 2] = [
            (0, "c4605e", "4504cc4f", &[0x07, 0xc4, 0x60, 0x5e, 0x45, 0x04, 0xcc, 0x4f]),
            (1, "350d28b420", "03487d970b", &[0x2a, 0x35, 0x0d, 0x28, 0xb4, 0x20, 0x03, 0x48, 0x7d, 0x97, 0x0b]),
        ];
        for (config, server, nonce, id) in vectors {
            assert_eq!((id[0] >> 5, usize::from(id[0] & 31)), (config, id.len() - 1));
            let expected: ServerId = server.parse().unwrap();
            assert_eq!(id.len(), 1 + expected.len() + nonce.len() / 2);
            assert_eq!(server_id(&[&[0x40][..], id].concat(), expected.len()), Some(expected), "a short header");
            assert_eq!(server_id(&long(0xe0, 1, id), expected.len()), Some(expected), "a long header");
            // One octet less is too short for a long header, which tells the length, if the nonce is the least there is.
            let cut = server_id(&long(0xe0, 1, &id[..id.len() - 1]), expected.len());
            assert_eq!(cut.is_none(), nonce.len() / 2 == MIN_NONCE_LEN);
        }
    }

    /// The longest ids of version 1 (section 5.3): 19 octets of server id and nonce.
    #[test]
    fn the_longest_server_id_is_read_and_may_be_followed_by_the_server_s_own_octets() {
        let id: Vec<u8> = (0x10..0x24).collect();
        let expected = ServerId::new(&id[1..=MAX_SERVER_ID_LEN]);
        assert_eq!(server_id(&long(0xe0, 1, &id), MAX_SERVER_ID_LEN), expected);
        assert_eq!(server_id(&long(0xe0, 1, &id), 1), ServerId::new(&id[1..2]), "fourteen octets behind the nonce");
        // Other versions may have longer ids.
        let id = [&id[..], &[0; 30]].concat();
        assert_eq!(server_id(&long(0xc0, 0x0a1a_2a3a, &id), MAX_SERVER_ID_LEN), expected);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(datagram in prop::collection::vec(any::<u8>(), 0..60), len in 0usize..20) {
            if let Some(id) = server_id(&datagram, len) {
                prop_assert_eq!(id.len(), len);
                prop_assert!(datagram.windows(len).any(|window| window == id.octets()));
            }
        }

        #[test]
        fn display_and_parse_are_inverse(octets in prop::collection::vec(any::<u8>(), 0..20)) {
            let id = ServerId::new(&octets);
            prop_assert_eq!(id.is_some(), (1..=15).contains(&octets.len()));
            if let Some(id) = id {
                prop_assert_eq!(id.to_string().parse(), Ok(id));
            }
        }
    }
}
