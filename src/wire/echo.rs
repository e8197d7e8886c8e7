//! Echo requests (ping) and their replies: RFC 792 and RFC 4443 section 4.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::checksum::checksum;
use super::ethernet::{self, HEADER_LEN};
use super::ndp::icmp_checksum;
use super::{MacAddress, ipv4};

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const ICMP_HEADER_LEN: usize = 8;
const IPV6_HEADER_LEN: usize = 40;
/// Hop limit of what we send (RFC 1700 recommends 64).
const HOPS: u8 = 64;

/// An echo request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// Who sent the frame: the asker or a router.
    pub source_mac: MacAddress,
    /// Who the frame is for.
    pub destination_mac: MacAddress,
    /// The asker.
    pub source: IpAddr,
    /// Who is asked.
    pub destination: IpAddr,
    /// Type of service, or traffic class.
    class: u8,
    /// Identifier, sequence number and data, which the reply repeats.
    echo: &'a [u8],
}

/// The echo request in this untagged frame, if all of it is there and its checksums are right. `None` for everything
/// else, fragments and IPv6 packets with extension headers included.
pub fn request(frame: &[u8]) -> Option<Request<'_>> {
    let packet = frame.get(HEADER_LEN..)?;
    let (source, destination, class, echo) = match u16::from_be_bytes([*frame.get(12)?, *frame.get(13)?]) {
        ethernet::IPV4 => ipv4_request(packet)?,
        ethernet::IPV6 => ipv6_request(packet)?,
        _ => return None,
    };
    let source_mac = MacAddress::new(*frame[6..].first_chunk()?);
    let destination_mac = ethernet::destination(frame)?;
    source_mac.is_station().then_some(Request { source_mac, destination_mac, source, destination, class, echo })
}

fn ipv4_request(packet: &[u8]) -> Option<(IpAddr, IpAddr, u8, &[u8])> {
    let header = ipv4::header(packet)?;
    let message = packet.get(header.header_len..header.total_len)?;
    let is_fragment = header.more_fragments || header.fragment_offset != 0;
    if header.protocol != ICMP || is_fragment || checksum(&[&packet[..header.header_len]]) != 0 {
        return None;
    }
    let (source, destination) = (Ipv4Addr::from(header.source), Ipv4Addr::from(header.destination));
    let is_asker =
        !source.is_unspecified() && !source.is_multicast() && !source.is_broadcast() && !source.is_loopback();
    let good = message.len() >= ICMP_HEADER_LEN && message[..2] == [8, 0] && checksum(&[message]) == 0;
    (is_asker && good).then(|| (source.into(), destination.into(), packet[1], &message[4..]))
}

fn ipv6_request(packet: &[u8]) -> Option<(IpAddr, IpAddr, u8, &[u8])> {
    let header: &[u8; IPV6_HEADER_LEN] = packet.first_chunk()?;
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let message = packet.get(IPV6_HEADER_LEN..IPV6_HEADER_LEN + length)?;
    if header[0] >> 4 != 6 || header[6] != ICMPV6 {
        return None;
    }
    let address = |at: usize| header[at..].first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets));
    let (source, destination) = (address(8)?, address(24)?);
    let is_asker = !source.is_unspecified() && !source.is_multicast() && !source.is_loopback();
    let good = message.len() >= ICMP_HEADER_LEN && message[..2] == [128, 0];
    let good = good && icmp_checksum(&header[8..], message) == 0;
    let class = header[0] << 4 | header[1] >> 4;
    (is_asker && good).then(|| (source.into(), destination.into(), class, &message[4..]))
}

impl Request<'_> {
    /// The whole frame of the reply, sent by `mac` to the one that the request's frame came from.
    pub fn reply(&self, mac: MacAddress) -> Vec<u8> {
        let mut frame = Vec::with_capacity(HEADER_LEN + IPV6_HEADER_LEN + 4 + self.echo.len());
        frame.extend(self.source_mac.octets());
        frame.extend(mac.octets());
        match (self.source, self.destination) {
            (IpAddr::V4(asker), IpAddr::V4(asked)) => self.ipv4_reply(asked, asker, &mut frame),
            (IpAddr::V6(asker), IpAddr::V6(asked)) => self.ipv6_reply(asked, asker, &mut frame),
            // Both are of one header.
            _ => {}
        }
        frame
    }

    fn ipv4_reply(&self, source: Ipv4Addr, destination: Ipv4Addr, frame: &mut Vec<u8>) {
        let length = u16::try_from(ipv4::MIN_HEADER_LEN + 4 + self.echo.len()).unwrap_or(u16::MAX).to_be_bytes();
        frame.extend(ethernet::IPV4.to_be_bytes());
        let mut header = [0x45, self.class, length[0], length[1], 0, 0, 0, 0, HOPS, ICMP, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        header[12..16].copy_from_slice(&source.octets());
        header[16..].copy_from_slice(&destination.octets());
        let sum = checksum(&[&header]);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        frame.extend(header);
        frame.extend([0, 0]);
        frame.extend(checksum(&[self.echo]).to_be_bytes());
        frame.extend(self.echo);
    }

    fn ipv6_reply(&self, source: Ipv6Addr, destination: Ipv6Addr, frame: &mut Vec<u8>) {
        let length = u16::try_from(4 + self.echo.len()).unwrap_or(u16::MAX);
        frame.extend(ethernet::IPV6.to_be_bytes());
        frame.extend([0x60 | self.class >> 4, self.class << 4, 0, 0]);
        frame.extend(length.to_be_bytes());
        frame.extend([ICMPV6, HOPS]);
        let addresses = [source.octets(), destination.octets()].concat();
        frame.extend(&addresses);
        let mut message = vec![129, 0, 0, 0];
        message.extend(self.echo);
        let sum = icmp_checksum(&addresses, &message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        frame.extend(message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OURS: MacAddress = MacAddress::new([2, 0, 0, 0, 0, 2]);
    const CLIENT: MacAddress = MacAddress::new([2, 0, 0, 0, 0, 0x10]);
    const DATA: &[u8] = b"\x12\x34\x00\x01is anybody there?";

    /// A reply turned into the request that it answers.
    fn frame(is_ipv4: bool, echo: &[u8]) -> Vec<u8> {
        let [source, destination]: [IpAddr; 2] = if is_ipv4 {
            ["192.168.88.15".parse().unwrap(), "10.0.0.7".parse().unwrap()]
        } else {
            ["fd00:88::15".parse().unwrap(), "fd00:10::7".parse().unwrap()]
        };
        let request = Request { source_mac: OURS, destination_mac: OURS, source, destination, class: 0xb8, echo };
        let mut frame = request.reply(CLIENT);
        frame[if is_ipv4 { 34 } else { 54 }] = if is_ipv4 { 8 } else { 128 };
        summed(frame)
    }

    fn summed(mut frame: Vec<u8>) -> Vec<u8> {
        if frame[12] == 0x08 {
            let header = 14 + usize::from(frame[14] & 15) * 4;
            frame[24..26].fill(0);
            let sum = checksum(&[&frame[14..header]]);
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
            let end = 14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]));
            frame[header + 2..header + 4].fill(0);
            let sum = checksum(&[&frame[header..end]]);
            frame[header + 2..header + 4].copy_from_slice(&sum.to_be_bytes());
        } else {
            frame[56..58].fill(0);
            let end = 54 + usize::from(u16::from_be_bytes([frame[18], frame[19]]));
            let sum = icmp_checksum(&frame[22..54], &frame[54..end]);
            frame[56..58].copy_from_slice(&sum.to_be_bytes());
        }
        frame
    }

    #[test]
    fn a_reply_repeats_the_request_and_goes_back() {
        for (is_ipv4, l4, kind) in [(true, 34, 0), (false, 54, 129)] {
            let asked = frame(is_ipv4, DATA);
            let found = request(&asked).unwrap();
            assert_eq!((found.source_mac, found.destination_mac, found.echo), (CLIENT, OURS, DATA));
            let answer = found.reply(OURS);
            assert_eq!(answer[..12], [CLIENT.octets(), OURS.octets()].concat()[..]);
            assert_eq!((answer[l4], &answer[l4 + 4..]), (kind, DATA));
            assert_eq!(answer.len(), asked.len());
            let addresses = if is_ipv4 { (26..30, 30..34) } else { (22..38, 38..54) };
            assert_eq!(answer[addresses.0.clone()], asked[addresses.1.clone()]);
            assert_eq!(answer[addresses.1], asked[addresses.0]);
            assert_eq!(answer, summed(answer.clone()), "checksums");
            assert_eq!(request(&answer), None, "a reply is not answered");
            assert!(request(&[&asked[..], &[0; 9]].concat()).is_some(), "padding");
            let class = if is_ipv4 { answer[15] } else { answer[14] << 4 | answer[15] >> 4 };
            assert_eq!(class, 0xb8);
        }
    }

    #[test]
    fn the_checksum_of_a_reply_is_that_of_another_program() {
        // ping -c 1 -s 0 (identifier 0x1234, sequence 1): type 0 leaves ~(0x1234 + 1).
        let asked = frame(true, &[0x12, 0x34, 0, 1]);
        assert_eq!(request(&asked).unwrap().reply(OURS)[36..38], (!0x1235_u16).to_be_bytes());
    }

    #[test]
    fn options_are_not_repeated() {
        let mut asked = frame(true, DATA);
        asked[14] = 0x46;
        asked[17] += 4;
        asked.splice(34..34, [1, 1, 1, 0]);
        let answer = request(&summed(asked)).unwrap().reply(OURS);
        assert_eq!((answer[14], answer[34], &answer[38..]), (0x45, 0, DATA));
    }

    #[test]
    fn only_whole_sound_requests_of_one_host_are_taken() {
        type Change = fn(&mut Vec<u8>);
        let table: &[(&str, bool, Change)] = &[
            ("more fragments", true, |f| f[20] = 0x20),
            ("a later fragment", true, |f| f[21] = 1),
            ("UDP", true, |f| f[23] = 17),
            ("a timestamp request", true, |f| f[34] = 13),
            ("code 1", true, |f| f[35] = 1),
            ("from 0.0.0.0", true, |f| f[26..30].fill(0)),
            ("from a broadcast", true, |f| f[26..30].fill(255)),
            ("from a group", true, |f| f[26] = 224),
            ("from loopback", true, |f| f[26] = 127),
            ("from a group's MAC", true, |f| f[6] = 3),
            ("too short for a header", true, |f| f[17] = 27),
            ("TCP over IPv6", false, |f| f[20] = 6),
            ("an extension header", false, |f| f[20] = 0),
            ("a neighbour solicitation", false, |f| f[54] = 135),
            ("from ::", false, |f| f[22..38].fill(0)),
            ("from a group", false, |f| f[22] = 0xff),
            ("too short for a header", false, |f| f[19] = 7),
        ];
        for (what, is_ipv4, change) in table {
            let mut frame = frame(*is_ipv4, DATA);
            change(&mut frame);
            assert_eq!(request(&summed(frame)), None, "{what}");
        }
        for is_ipv4 in [true, false] {
            let good = frame(is_ipv4, DATA);
            for length in 0..good.len() {
                assert_eq!(request(&good[..length]), None, "cut to {length} bytes");
            }
            let mut bad = good.clone();
            *bad.last_mut().unwrap() ^= 1;
            assert_eq!(request(&bad), None, "checksum of the message");
            let tagged = [&good[..12], &[0x81, 0, 0, 7], &good[12..]].concat();
            assert_eq!(request(&tagged), None, "a VLAN tag");
        }
        let mut bad = frame(true, DATA);
        bad[22] ^= 1;
        assert_eq!(request(&bad), None, "checksum of the header");
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = request(&bytes);
        }

        #[test]
        fn any_data_comes_back(data in prop::collection::vec(any::<u8>(), 4..1472), is_ipv4: bool) {
            let asked = frame(is_ipv4, &data);
            let answer = request(&asked).unwrap().reply(OURS);
            prop_assert_eq!(&answer[asked.len() - data.len()..], &data[..]);
            prop_assert_eq!(&summed(answer.clone()), &answer);
        }
    }
}
