//! The address resolution protocol (RFC 826) as far as a probe needs it: the question of RFC 5227 and who answers.

use std::net::Ipv4Addr;

use super::MacAddress;

/// EtherType of ARP.
pub const ETHER_TYPE: u16 = 0x0806;
/// Bytes of a frame with an ARP packet for IPv4 over Ethernet, without padding.
pub const FRAME_LEN: usize = 42;

/// Hardware type Ethernet, protocol type IPv4, six and four bytes of address.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
const REQUEST: u16 = 1;
const REPLY: u16 = 2;
const PACKET: usize = 14;

/// A broadcast that asks who has `target`, with sender address 0.0.0.0 (an ARP Probe, RFC 5227 section 1.1): whoever
/// has it answers, and nobody learns an address from it.
pub fn probe(source: MacAddress, target: Ipv4Addr) -> [u8; FRAME_LEN] {
    let mut frame = [0; FRAME_LEN];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&source.octets());
    frame[12..14].copy_from_slice(&ETHER_TYPE.to_be_bytes());
    frame[14..20].copy_from_slice(&ETHERNET_IPV4);
    frame[20..22].copy_from_slice(&REQUEST.to_be_bytes());
    frame[22..28].copy_from_slice(&source.octets());
    // Sender 0.0.0.0 and the target's unknown MAC address are zeros.
    frame[38..42].copy_from_slice(&target.octets());
    frame
}

/// Who says in this untagged frame that an address is its own: the sender of a reply, or of a request that is no probe.
/// `None` for everything else, malformed packets included.
pub fn claim(frame: &[u8]) -> Option<(Ipv4Addr, MacAddress)> {
    let ether_type = frame.get(12..PACKET)?;
    let packet = frame.get(PACKET..FRAME_LEN)?;
    if ether_type != ETHER_TYPE.to_be_bytes() || packet[..6] != ETHERNET_IPV4 {
        return None;
    }
    let operation = u16::from_be_bytes([packet[6], packet[7]]);
    let mac = MacAddress::new(*packet[8..14].first_chunk()?);
    let address = Ipv4Addr::from(*packet[14..18].first_chunk::<4>()?);
    let is_claim =
        matches!(operation, REQUEST | REPLY) && !address.is_unspecified() && !mac.is_zero() && !mac.is_multicast();
    is_claim.then_some((address, mac))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAC: MacAddress = MacAddress::new([2, 0, 0, 0, 1, 0]);

    fn reply() -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 1, 0, 8, 6];
        frame.extend([0, 1, 8, 0, 6, 4, 0, 2, 2, 0, 0, 0, 1, 0, 192, 168, 88, 15]);
        frame.extend([2, 0, 0, 0, 0, 2, 0, 0, 0, 0]);
        frame
    }

    #[test]
    fn a_probe_has_the_bytes_of_rfc_5227() {
        let mut expected = vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 1, 0, 8, 6];
        expected.extend([0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0]);
        expected.extend([0, 0, 0, 0, 0, 0, 192, 168, 88, 15]);
        assert_eq!(probe(MAC, Ipv4Addr::new(192, 168, 88, 15)).to_vec(), expected);
    }

    #[test]
    fn only_a_whole_packet_of_one_machine_is_a_claim() {
        let vip = Ipv4Addr::new(192, 168, 88, 15);
        type Change = fn(&mut Vec<u8>);
        let table: &[(&str, Change, bool)] = &[
            ("a reply", |_| {}, true),
            ("padded to the least length of a frame", |f| f.resize(60, 0), true),
            ("an announcement is a request", |f| f[21] = 1, true),
            ("operation 3", |f| f[21] = 3, false),
            ("cut short by a byte", |f| f.truncate(41), false),
            ("no packet at all", |f| f.truncate(14), false),
            ("empty", Vec::clear, false),
            ("another EtherType", |f| f[13] = 0, false),
            ("another hardware type", |f| f[15] = 6, false),
            ("another protocol", |f| f[17] = 1, false),
            ("hardware addresses of 8 bytes", |f| f[18] = 8, false),
            ("protocol addresses of 16 bytes", |f| f[19] = 16, false),
            ("sender 0.0.0.0 is a probe", |f| f[28..32].fill(0), false),
            ("a multicast sender", |f| f[22] = 3, false),
            ("sender 00:00:00:00:00:00", |f| f[22..28].fill(0), false),
        ];
        for (what, change, is_claim) in table {
            let mut frame = reply();
            change(&mut frame);
            assert_eq!(claim(&frame), is_claim.then_some((vip, MAC)), "{what}");
        }
        assert_eq!(claim(&probe(MAC, vip)), None, "our own probe");
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = claim(&bytes);
        }
    }
}
