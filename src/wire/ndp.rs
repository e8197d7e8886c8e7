//! IPv6 neighbour discovery (RFC 4861) as far as a probe needs it: a solicitation, and who advertises.

use std::net::Ipv6Addr;

use super::MacAddress;
use super::ethernet::{HEADER_LEN, IPV6};

/// Bytes of a frame with a solicitation that carries our MAC address.
pub const FRAME_LEN: usize = ICMP + 32;

const ICMP: usize = HEADER_LEN + 40;
const ICMPV6: u8 = 58;
/// What comes from a router has less: RFC 4861 section 7.1.
const HOP_LIMIT: u8 = 255;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const SOURCE_ADDRESS: u8 = 1;
const TARGET_ADDRESS: u8 = 2;
/// Type, code, checksum, flags and target.
const ADVERTISEMENT_LEN: usize = 24;

/// A question for `target` to its solicited-node group. The answer comes to `source` alone, which must be an address of
/// the asking interface: the answer to a question from `::` would go to all nodes and change their neighbour entries.
pub fn solicitation(source_mac: MacAddress, source: Ipv6Addr, target: Ipv6Addr) -> [u8; FRAME_LEN] {
    let [.., a, b, c] = target.octets();
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]));
    let mut frame = [0; FRAME_LEN];
    frame[..6].copy_from_slice(&[0x33, 0x33, 0xff, a, b, c]);
    frame[6..12].copy_from_slice(&source_mac.octets());
    frame[12..14].copy_from_slice(&IPV6.to_be_bytes());
    frame[14] = 0x60;
    frame[19] = 32;
    frame[20] = ICMPV6;
    frame[21] = HOP_LIMIT;
    frame[22..38].copy_from_slice(&source.octets());
    frame[38..54].copy_from_slice(&group.octets());
    frame[54] = SOLICITATION;
    frame[62..78].copy_from_slice(&target.octets());
    frame[78..80].copy_from_slice(&[SOURCE_ADDRESS, 1]);
    frame[80..86].copy_from_slice(&source_mac.octets());
    let sum = checksum(&frame[22..54], &frame[ICMP..]);
    frame[56..58].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// Who says in this untagged frame that an address is its own: target and MAC address of a valid advertisement (RFC
/// 4861 section 7.1.2), the frame's source where it carries none. `None` for everything else.
pub fn claim(frame: &[u8]) -> Option<(Ipv6Addr, MacAddress)> {
    let header = frame.get(..ICMP)?;
    if header[12..14] != IPV6.to_be_bytes() || header[14] >> 4 != 6 || header[20] != ICMPV6 || header[21] != HOP_LIMIT {
        return None;
    }
    let length = usize::from(u16::from_be_bytes([header[18], header[19]]));
    let message = frame.get(ICMP..ICMP + length)?;
    let fixed: &[u8; ADVERTISEMENT_LEN] = message.first_chunk()?;
    if fixed[0] != ADVERTISEMENT || fixed[1] != 0 || checksum(&header[22..54], message) != 0 {
        return None;
    }
    let target = Ipv6Addr::from(*fixed[8..].first_chunk::<16>()?);
    let carried = target_address(&message[ADVERTISEMENT_LEN..])?;
    let mac = carried.unwrap_or(MacAddress::new(*header[6..].first_chunk()?));
    (!target.is_multicast() && !mac.is_zero() && !mac.is_multicast()).then_some((target, mac))
}

/// The address in the options, if they have one; the outer `None` for options that do not fit the message.
fn target_address(mut options: &[u8]) -> Option<Option<MacAddress>> {
    let mut found = None;
    while let [kind, eights, ..] = *options {
        let length = usize::from(eights) * 8;
        if length == 0 {
            return None;
        }
        let (option, rest) = options.split_at_checked(length)?;
        if kind == TARGET_ADDRESS && length == 8 {
            found = option[2..].first_chunk().map(|octets| MacAddress::new(*octets));
        }
        options = rest;
    }
    options.is_empty().then_some(found)
}

/// The internet checksum (RFC 1071) over addresses, length, next header and message (RFC 8200 section 8.1): the field to
/// write where that is zero in the message, else zero for a good one.
fn checksum(addresses: &[u8], message: &[u8]) -> u16 {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    let words = [addresses, &length, &[0, 0, 0, ICMPV6], message].into_iter().flat_map(|part| {
        part.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])))
    });
    let mut sum = words.fold(0_u32, u32::wrapping_add);
    while let (carry @ 1.., low) = (sum >> 16, sum & 0xffff) {
        sum = low + carry;
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OURS: MacAddress = MacAddress::new([2, 0, 0, 0, 0, 2]);
    const THEIRS: MacAddress = MacAddress::new([2, 0, 0, 0, 1, 0]);

    fn vip() -> Ipv6Addr {
        "fd00:88::15".parse().unwrap()
    }

    fn advertisement(options: &[u8]) -> Vec<u8> {
        let mut frame = OURS.octets().to_vec();
        frame.extend(THEIRS.octets());
        frame.extend(IPV6.to_be_bytes());
        let length = u8::try_from(24 + options.len()).unwrap();
        frame.extend([0x60, 0, 0, 0, 0, length, ICMPV6, HOP_LIMIT]);
        frame.extend(vip().octets());
        frame.extend("fd00:88::2".parse::<Ipv6Addr>().unwrap().octets());
        frame.extend([ADVERTISEMENT, 0, 0, 0, 0x60, 0, 0, 0]);
        frame.extend(vip().octets());
        frame.extend(options);
        frame
    }

    fn summed(mut frame: Vec<u8>) -> Vec<u8> {
        frame[56..58].fill(0);
        let sum = checksum(&frame[22..54], &frame[ICMP..]);
        frame[56..58].copy_from_slice(&sum.to_be_bytes());
        frame
    }

    const CARRIED: [u8; 8] = [2, 1, 2, 0, 0, 0, 1, 0];

    #[test]
    fn a_solicitation_goes_to_the_group_of_its_target_and_sums_up() {
        let frame = solicitation(OURS, "fe80::2".parse().unwrap(), "fd00:88::a1b2:c3d4".parse().unwrap());
        assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0xb2, 0xc3, 0xd4]);
        assert_eq!(frame[38..54], "ff02::1:ffb2:c3d4".parse::<Ipv6Addr>().unwrap().octets());
        assert_eq!(checksum(&frame[22..54], &frame[ICMP..]), 0);
        assert_eq!(frame[78..86], [1, 1, 2, 0, 0, 0, 0, 2]);
        assert_eq!(claim(&frame), None, "a question is no claim");
    }

    #[test]
    fn the_checksum_is_that_of_another_program() {
        // fe80::ff:fe00:2 asks for fd00:88::15; the sum is that of RFC 1071's method written down in Python.
        let frame = solicitation(OURS, "fe80::ff:fe00:2".parse().unwrap(), vip());
        assert_eq!(frame[56..58], [0x7c, 0x67]);
    }

    #[test]
    fn only_a_valid_advertisement_is_a_claim() {
        type Change = fn(&mut Vec<u8>);
        let table: &[(&str, Change, bool)] = &[
            ("as the kernel sends it", |_| {}, true),
            ("padding behind the packet", |f| f.extend([0; 8]), true),
            ("from a router's hop", |f| f[21] = 254, false),
            ("a solicitation", |f| f[54] = SOLICITATION, false),
            ("code 1", |f| f[55] = 1, false),
            ("UDP", |f| f[20] = 17, false),
            ("IPv4 in the version", |f| f[14] = 0x40, false),
            ("another EtherType", |f| f[12] = 0x08, false),
            ("a multicast target", |f| f[62] = 0xff, false),
            ("a multicast MAC address", |f| f[80] = 3, false),
            ("an option of no length", |f| f[79] = 0, false),
            ("an option longer than the message", |f| f[79] = 2, false),
            (
                "half an option",
                |f| {
                    f[19] = 28;
                    f.truncate(82)
                },
                false,
            ),
            (
                "too short for a target",
                |f| {
                    f[19] = 16;
                    f.truncate(70)
                },
                false,
            ),
        ];
        for (what, change, is_claim) in table {
            let mut frame = advertisement(&CARRIED);
            change(&mut frame);
            // What is wrong is wrong under a good checksum, too.
            let padding = frame.len().saturating_sub(86);
            let mut frame = summed(frame[..frame.len() - padding].to_vec());
            frame.extend(vec![0; padding]);
            assert_eq!(claim(&frame), is_claim.then_some((vip(), THEIRS)), "{what}");
        }
        let good = summed(advertisement(&CARRIED));
        let mut bad = good.clone();
        bad[57] ^= 1;
        assert_eq!(claim(&bad), None, "checksum");
        for length in 0..good.len() {
            assert_eq!(claim(&good[..length]), None, "cut to {length} bytes");
        }
        assert_eq!(claim(&summed(advertisement(&[]))), Some((vip(), THEIRS)), "the frame's source stands in");
        let unknown_first = [&[14, 1, 0, 0, 0, 0, 0, 0][..], &CARRIED].concat();
        assert_eq!(claim(&summed(advertisement(&unknown_first))), Some((vip(), THEIRS)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = claim(&bytes);
        }

        #[test]
        fn any_options_are_answered(options in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = claim(&summed(advertisement(&options)));
        }
    }
}
