//! The address resolution protocol (RFC 826) as far as who owns an address is concerned: questions and their answers,
//! and the probe and the announcement of RFC 5227.

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
    let sender = (source, Ipv4Addr::UNSPECIFIED);
    packet(MacAddress::BROADCAST, REQUEST, sender, (MacAddress::default(), target))
}

/// A broadcast that says that `address` is at `mac` (an ARP Announcement, RFC 5227 section 2.3, also known as gratuitous
/// ARP): who has an entry for it corrects it, and switches learn the port.
pub fn announcement(mac: MacAddress, address: Ipv4Addr) -> [u8; FRAME_LEN] {
    packet(MacAddress::BROADCAST, REQUEST, (mac, address), (MacAddress::default(), address))
}

/// The answer to `request`: its target is at `mac`.
pub fn reply(mac: MacAddress, request: &Request) -> [u8; FRAME_LEN] {
    packet(request.sender_mac, REPLY, (mac, request.target), (request.sender_mac, request.sender))
}

fn packet(
    destination: MacAddress,
    operation: u16,
    (sender_mac, sender): (MacAddress, Ipv4Addr),
    (target_mac, target): (MacAddress, Ipv4Addr),
) -> [u8; FRAME_LEN] {
    let mut frame = [0; FRAME_LEN];
    frame[..6].copy_from_slice(&destination.octets());
    frame[6..12].copy_from_slice(&sender_mac.octets());
    frame[12..14].copy_from_slice(&ETHER_TYPE.to_be_bytes());
    frame[14..20].copy_from_slice(&ETHERNET_IPV4);
    frame[20..22].copy_from_slice(&operation.to_be_bytes());
    frame[22..28].copy_from_slice(&sender_mac.octets());
    frame[28..32].copy_from_slice(&sender.octets());
    frame[32..38].copy_from_slice(&target_mac.octets());
    frame[38..42].copy_from_slice(&target.octets());
    frame
}

/// Somebody asks who has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Who asks: never a group address.
    pub sender_mac: MacAddress,
    /// The asker's address; 0.0.0.0 in a probe by one who wants to take `target` (RFC 5227 section 2.1.1).
    pub sender: Ipv4Addr,
    /// The address that is asked for.
    pub target: Ipv4Addr,
}

/// The question in this untagged frame; `None` for everything else, malformed packets included.
pub fn request(frame: &[u8]) -> Option<Request> {
    let packet = body(frame)?;
    let sender_mac = MacAddress::new(*packet[8..14].first_chunk()?);
    let is_question = packet[6..8] == REQUEST.to_be_bytes() && sender_mac.is_station();
    let address = |bytes: &[u8]| bytes.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets));
    is_question.then_some(Request { sender_mac, sender: address(&packet[14..])?, target: address(&packet[24..])? })
}

/// The ARP packet in a frame, if it is one for IPv4 over Ethernet and all of it is there.
fn body(frame: &[u8]) -> Option<&[u8; FRAME_LEN - PACKET]> {
    let ether_type = frame.get(12..PACKET)?;
    let packet = frame.get(PACKET..)?.first_chunk()?;
    (ether_type == ETHER_TYPE.to_be_bytes() && packet[..6] == ETHERNET_IPV4).then_some(packet)
}

/// Who says in this untagged frame that an address is its own: the sender of a reply, or of a request that is no probe.
/// `None` for everything else, malformed packets included.
pub fn claim(frame: &[u8]) -> Option<(Ipv4Addr, MacAddress)> {
    let packet = body(frame)?;
    let operation = u16::from_be_bytes([packet[6], packet[7]]);
    let mac = MacAddress::new(*packet[8..14].first_chunk()?);
    let address = Ipv4Addr::from(*packet[14..18].first_chunk::<4>()?);
    let is_claim = matches!(operation, REQUEST | REPLY) && !address.is_unspecified() && mac.is_station();
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
    fn a_question_is_answered_to_its_asker_and_a_probe_to_its_sender() {
        let vip = Ipv4Addr::new(192, 168, 88, 15);
        let asked = Request {
            sender_mac: MacAddress::new([2, 0, 0, 0, 0, 2]),
            sender: Ipv4Addr::new(192, 168, 88, 10),
            target: vip,
        };
        let mut expected = reply();
        expected[38..42].copy_from_slice(&[192, 168, 88, 10]);
        assert_eq!(super::reply(MAC, &asked).to_vec(), expected);
        let probe = request(&probe(asked.sender_mac, vip)).unwrap();
        assert_eq!(probe, Request { sender: Ipv4Addr::UNSPECIFIED, ..asked });
        assert_eq!(super::reply(MAC, &probe)[..6], asked.sender_mac.octets());
        assert_eq!(request(&expected), None, "an answer is no question");
        for length in 0..FRAME_LEN {
            assert_eq!(request(&super::probe(MAC, vip)[..length]), None, "cut to {length} bytes");
        }
        for (what, at, value) in [("hardware type", 15, 6), ("protocol", 17, 1), ("multicast sender", 22, 3)] {
            let mut frame = super::probe(MAC, vip);
            frame[at] = value;
            assert_eq!(request(&frame), None, "{what}");
        }
    }

    #[test]
    fn an_announcement_is_a_broadcast_claim() {
        let vip = Ipv4Addr::new(192, 168, 88, 15);
        let frame = announcement(MAC, vip);
        assert_eq!(frame[..6], [0xff; 6]);
        assert_eq!(frame[20..22], [0, 1], "a request, by RFC 5227 section 3");
        assert_eq!(frame[28..32], frame[38..42], "sender and target are the address");
        assert_eq!(claim(&frame), Some((vip, MAC)));
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
            let _ = request(&bytes);
        }
    }
}
