//! IPv6 neighbour discovery (RFC 4861) as far as who owns an address is concerned: solicitations and advertisements.

use std::net::Ipv6Addr;

use super::MacAddress;
use super::checksum::checksum;
use super::ethernet::{HEADER_LEN, IPV6};

/// Bytes of a frame with a solicitation or an advertisement that carries our MAC address.
pub const FRAME_LEN: usize = ICMP + 32;

const ICMP: usize = HEADER_LEN + 40;
const ICMPV6: u8 = 58;
/// What comes from a router has less: RFC 4861 section 7.1.
const HOP_LIMIT: u8 = 255;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const SOURCE_ADDRESS: u8 = 1;
const TARGET_ADDRESS: u8 = 2;
/// Type, code, checksum, flags and target: of solicitations and of advertisements.
const FIXED_LEN: usize = 24;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;
const ALL_NODES: (MacAddress, Ipv6Addr) =
    (MacAddress::new([0x33, 0x33, 0, 0, 0, 1]), Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1));

/// A question for `target` to its solicited-node group. The answer comes to `source` alone, which must be an address of
/// the asking interface: the answer to a question from `::` would go to all nodes and change their neighbour entries.
pub fn solicitation(source_mac: MacAddress, source: Ipv6Addr, target: Ipv6Addr) -> [u8; FRAME_LEN] {
    let group = solicited_node(target);
    message((source_mac, source), (group_mac(group), group), [SOLICITATION, 0], target, SOURCE_ADDRESS)
}

/// The group that questions for `target` are sent to (RFC 4291 section 2.7.1).
pub fn solicited_node(target: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = target.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]))
}

/// The MAC address that frames to an IPv6 group are sent to (RFC 2464 section 7).
pub fn group_mac(group: Ipv6Addr) -> MacAddress {
    let [.., a, b, c, d] = group.octets();
    MacAddress::new([0x33, 0x33, a, b, c, d])
}

/// Says that `target` is at `mac`, and that older entries are wrong: to one who asked, or to all nodes (RFC 4861
/// sections 7.2.4 and 7.2.6), who correct entries that they have. It comes from `target` itself.
pub fn advertisement(mac: MacAddress, target: Ipv6Addr, to: Option<(MacAddress, Ipv6Addr)>) -> [u8; FRAME_LEN] {
    let flags = if to.is_some() { SOLICITED | OVERRIDE } else { OVERRIDE };
    message((mac, target), to.unwrap_or(ALL_NODES), [ADVERTISEMENT, flags], target, TARGET_ADDRESS)
}

/// The answer to a question, as RFC 4861 section 7.2.4 has it: to all nodes where the asker has no address yet.
pub fn reply(mac: MacAddress, asked: &Solicitation) -> [u8; FRAME_LEN] {
    let to = (!asked.source.is_unspecified()).then_some((asked.source_mac, asked.source));
    advertisement(mac, asked.target, to)
}

fn message(
    (source_mac, source): (MacAddress, Ipv6Addr),
    (destination_mac, destination): (MacAddress, Ipv6Addr),
    [kind, flags]: [u8; 2],
    target: Ipv6Addr,
    option: u8,
) -> [u8; FRAME_LEN] {
    let mut frame = [0; FRAME_LEN];
    frame[..6].copy_from_slice(&destination_mac.octets());
    frame[6..12].copy_from_slice(&source_mac.octets());
    frame[12..14].copy_from_slice(&IPV6.to_be_bytes());
    frame[14] = 0x60;
    frame[19] = 32;
    frame[20] = ICMPV6;
    frame[21] = HOP_LIMIT;
    frame[22..38].copy_from_slice(&source.octets());
    frame[38..54].copy_from_slice(&destination.octets());
    frame[54] = kind;
    frame[58] = flags;
    frame[62..78].copy_from_slice(&target.octets());
    frame[78..80].copy_from_slice(&[option, 1]);
    frame[80..86].copy_from_slice(&source_mac.octets());
    let sum = icmp_checksum(&frame[22..54], &frame[ICMP..]);
    frame[56..58].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// Somebody asks who has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Solicitation {
    /// Where the answer goes: the source link-layer address, or the frame's source where the question carries none.
    pub source_mac: MacAddress,
    /// Who asks; `::` where somebody wants to take `target` (duplicate address detection, RFC 4862 section 5.4).
    pub source: Ipv6Addr,
    /// The address that is asked for.
    pub target: Ipv6Addr,
}

/// The question in this untagged frame, if it is valid by RFC 4861 section 7.1.1. `None` for everything else.
pub fn asked(frame: &[u8]) -> Option<Solicitation> {
    let (header, fixed, options) = parts(frame, SOLICITATION)?;
    let source = address(&header[22..])?;
    let target = address(&fixed[8..])?;
    let carried = option(options, SOURCE_ADDRESS)?;
    let source_mac = carried.unwrap_or(MacAddress::new(*header[6..].first_chunk()?));
    let nobody = source.is_unspecified();
    if nobody && (carried.is_some() || address(&header[38..])? != solicited_node(target)) {
        return None;
    }
    let valid = !target.is_multicast() && !source.is_multicast() && source_mac.is_station();
    valid.then_some(Solicitation { source_mac, source, target })
}

/// Who says in this untagged frame that an address is its own: target and MAC address of a valid advertisement (RFC
/// 4861 section 7.1.2), the frame's source where it carries none. `None` for everything else.
pub fn claim(frame: &[u8]) -> Option<(Ipv6Addr, MacAddress)> {
    let (header, fixed, options) = parts(frame, ADVERTISEMENT)?;
    let target = address(&fixed[8..])?;
    let mac = option(options, TARGET_ADDRESS)?.unwrap_or(MacAddress::new(*header[6..].first_chunk()?));
    (!target.is_multicast() && mac.is_station()).then_some((target, mac))
}

/// Headers, the message's fixed part and its options, if the frame has a message of this kind from this link.
fn parts(frame: &[u8], kind: u8) -> Option<(&[u8; ICMP], &[u8; FIXED_LEN], &[u8])> {
    let header: &[u8; ICMP] = frame.first_chunk()?;
    if header[12..14] != IPV6.to_be_bytes() || header[14] >> 4 != 6 || header[20] != ICMPV6 || header[21] != HOP_LIMIT {
        return None;
    }
    let length = usize::from(u16::from_be_bytes([header[18], header[19]]));
    let message = frame.get(ICMP..ICMP + length)?;
    let (fixed, options) = message.split_first_chunk::<FIXED_LEN>()?;
    let good = fixed[0] == kind && fixed[1] == 0 && icmp_checksum(&header[22..54], message) == 0;
    good.then_some((header, fixed, options))
}

fn address(bytes: &[u8]) -> Option<Ipv6Addr> {
    bytes.first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets))
}

/// The address in the option of this kind, if there is one; the outer `None` for options that do not fit the message.
fn option(mut options: &[u8], wanted: u8) -> Option<Option<MacAddress>> {
    let mut found = None;
    while let [kind, eights, ..] = *options {
        let length = usize::from(eights) * 8;
        if length == 0 {
            return None;
        }
        let (option, rest) = options.split_at_checked(length)?;
        if kind == wanted && length == 8 {
            found = option[2..].first_chunk().map(|octets| MacAddress::new(*octets));
        }
        options = rest;
    }
    options.is_empty().then_some(found)
}

/// The checksum of an ICMPv6 message between `addresses` (RFC 8200 section 8.1): the field to write where that is zero in
/// the message, else zero for a good one.
pub(super) fn icmp_checksum(addresses: &[u8], message: &[u8]) -> u16 {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    checksum(&[addresses, &length, &[0, 0, 0, ICMPV6], message])
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

    fn advertisement_of(options: &[u8]) -> Vec<u8> {
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
        let sum = icmp_checksum(&frame[22..54], &frame[ICMP..]);
        frame[56..58].copy_from_slice(&sum.to_be_bytes());
        frame
    }

    const CARRIED: [u8; 8] = [2, 1, 2, 0, 0, 0, 1, 0];

    #[test]
    fn a_solicitation_goes_to_the_group_of_its_target_and_sums_up() {
        let frame = solicitation(OURS, "fe80::2".parse().unwrap(), "fd00:88::a1b2:c3d4".parse().unwrap());
        assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0xb2, 0xc3, 0xd4]);
        assert_eq!(frame[38..54], "ff02::1:ffb2:c3d4".parse::<Ipv6Addr>().unwrap().octets());
        assert_eq!(icmp_checksum(&frame[22..54], &frame[ICMP..]), 0);
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
            let mut frame = advertisement_of(&CARRIED);
            change(&mut frame);
            // What is wrong is wrong under a good checksum, too.
            let padding = frame.len().saturating_sub(86);
            let mut frame = summed(frame[..frame.len() - padding].to_vec());
            frame.extend(vec![0; padding]);
            assert_eq!(claim(&frame), is_claim.then_some((vip(), THEIRS)), "{what}");
        }
        let good = summed(advertisement_of(&CARRIED));
        let mut bad = good.clone();
        bad[57] ^= 1;
        assert_eq!(claim(&bad), None, "checksum");
        for length in 0..good.len() {
            assert_eq!(claim(&good[..length]), None, "cut to {length} bytes");
        }
        assert_eq!(claim(&summed(advertisement_of(&[]))), Some((vip(), THEIRS)), "the frame's source stands in");
        let unknown_first = [&[14, 1, 0, 0, 0, 0, 0, 0][..], &CARRIED].concat();
        assert_eq!(claim(&summed(advertisement_of(&unknown_first))), Some((vip(), THEIRS)));
    }

    #[test]
    fn an_advertisement_is_a_claim_and_goes_to_the_asker_or_to_all() {
        let client: Ipv6Addr = "fd00:88::10".parse().unwrap();
        let asked = asked(&solicitation(OURS, client, vip())).unwrap();
        assert_eq!(asked, Solicitation { source_mac: OURS, source: client, target: vip() });
        let answer = reply(THEIRS, &asked);
        assert_eq!(claim(&answer), Some((vip(), THEIRS)));
        assert_eq!((&answer[..6], &answer[38..54]), (&OURS.octets()[..], &client.octets()[..]));
        assert_eq!(answer[58], 0x60, "solicited, override");
        assert_eq!(answer.to_vec(), {
            let mut expected = advertisement_of(&CARRIED);
            expected[22..38].copy_from_slice(&vip().octets());
            expected[38..54].copy_from_slice(&client.octets());
            summed(expected)
        });
        let unasked = super::advertisement(THEIRS, vip(), None);
        assert_eq!(unasked[..6], [0x33, 0x33, 0, 0, 0, 1]);
        assert_eq!(unasked[38..54], "ff02::1".parse::<Ipv6Addr>().unwrap().octets());
        assert_eq!(unasked[58], 0x20, "not solicited, override");
        assert_eq!(claim(&unasked), Some((vip(), THEIRS)));
    }

    #[test]
    fn only_a_valid_solicitation_is_a_question() {
        type Change = fn(&mut Vec<u8>);
        let table: &[(&str, Change, bool)] = &[
            ("as it is sent", |_| {}, true),
            ("by unicast, as reachability is checked", |f| f[38..54].copy_from_slice(&vip().octets()), true),
            (
                "without its MAC address",
                |f| {
                    f[19] = 24;
                    f.truncate(78);
                },
                true,
            ),
            ("from a router's hop", |f| f[21] = 64, false),
            ("an advertisement", |f| f[54] = ADVERTISEMENT, false),
            ("code 1", |f| f[55] = 1, false),
            ("a multicast target", |f| f[62] = 0xff, false),
            ("a multicast source", |f| f[22] = 0xff, false),
            ("a multicast MAC address", |f| f[80] = 3, false),
            ("an option of no length", |f| f[79] = 0, false),
            ("from nobody, with a MAC address", |f| f[22..38].fill(0), false),
            (
                "from nobody, to another group",
                |f| {
                    f[22..38].fill(0);
                    f[53] ^= 1;
                    f[19] = 24;
                    f.truncate(78);
                },
                false,
            ),
            (
                "from nobody: duplicate address detection",
                |f| {
                    f[22..38].fill(0);
                    f[19] = 24;
                    f.truncate(78);
                },
                true,
            ),
        ];
        for (what, change, is_question) in table {
            let mut frame = solicitation(OURS, "fd00:88::10".parse().unwrap(), vip()).to_vec();
            change(&mut frame);
            let frame = summed(frame);
            let found = asked(&frame).map(|asked| (asked.source_mac, asked.target));
            assert_eq!(found, is_question.then_some((OURS, vip())), "{what}");
            for length in 0..frame.len() {
                assert_eq!(asked(&frame[..length]), None, "{what}, cut to {length} bytes");
            }
        }
        let detecting = Solicitation { source_mac: OURS, source: Ipv6Addr::UNSPECIFIED, target: vip() };
        assert_eq!(reply(THEIRS, &detecting), super::advertisement(THEIRS, vip(), None), "told to all");
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = claim(&bytes);
            let _ = asked(&bytes);
        }

        #[test]
        fn any_options_are_answered(options in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = claim(&summed(advertisement_of(&options)));
        }
    }
}
