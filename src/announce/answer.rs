//! What a frame means to one who answers for VIPs, and what is answered. Pure: frame in, verdict out.

use std::net::IpAddr;

use crate::network::Received;
use crate::wire::{MacAddress, arp, echo, ethernet, ndp};

/// The MAC addresses that matter on a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Macs {
    /// What answers say.
    pub announced: MacAddress,
    /// The interface's own.
    pub interface: MacAddress,
    /// All of this machine: what they say of a VIP contradicts nobody.
    pub own: Vec<MacAddress>,
}

/// What a frame means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing.
    Nothing,
    /// Somebody asks who has a VIP.
    Question {
        /// The VIP.
        vip: IpAddr,
        /// The frame that answers.
        reply: Vec<u8>,
        /// The MAC address of one who would take the VIP if nobody answered (ARP Probe, duplicate address detection).
        taker: Option<MacAddress>,
    },
    /// A ping.
    Echo {
        /// The VIP.
        vip: IpAddr,
        /// The frame that answers.
        reply: Vec<u8>,
    },
    /// Another machine says that a VIP is its own.
    Conflict {
        /// The VIP.
        vip: IpAddr,
        /// Who says so.
        mac: MacAddress,
    },
}

/// Judges a frame that came in by a segment with these `macs`; `is_ours` tells the VIPs that are answered for.
pub fn heed(received: Received<'_>, macs: &Macs, is_ours: impl Fn(IpAddr) -> bool) -> Heard {
    let Received { frame, for_others } = received;
    let Some(to) = ethernet::destination(frame) else { return Heard::Nothing };
    // The kernel knows the interface's own address alone. What else is for others is of a VLAN that is not ours: its tag
    // has been taken out, and an answer would go to the wrong one.
    if for_others && to != macs.announced {
        return Heard::Nothing;
    }
    if !to.is_multicast() && to != macs.announced && to != macs.interface {
        return Heard::Nothing;
    }
    let v4 = arp::claim(frame).map(|(address, mac)| (IpAddr::V4(address), mac));
    let claim = v4.or_else(|| ndp::claim(frame).map(|(address, mac)| (IpAddr::V6(address), mac)));
    if let Some((vip, mac)) = claim.filter(|(vip, _)| is_ours(*vip)) {
        return if macs.own.contains(&mac) { Heard::Nothing } else { Heard::Conflict { vip, mac } };
    }
    question(frame, macs, &is_ours).or_else(|| ping(frame, to, macs, &is_ours)).unwrap_or(Heard::Nothing)
}

fn question(frame: &[u8], macs: &Macs, is_ours: &impl Fn(IpAddr) -> bool) -> Option<Heard> {
    let (vip, reply, asker, nobody) = if let Some(asked) = arp::request(frame) {
        let reply = arp::reply(macs.announced, &asked).to_vec();
        (IpAddr::V4(asked.target), reply, asked.sender_mac, asked.sender.is_unspecified())
    } else {
        let asked = ndp::asked(frame)?;
        let reply = ndp::reply(macs.announced, &asked).to_vec();
        (IpAddr::V6(asked.target), reply, asked.source_mac, asked.source.is_unspecified())
    };
    let taker = nobody.then_some(asker);
    (is_ours(vip) && !macs.own.contains(&asker)).then_some(Heard::Question { vip, reply, taker })
}

fn ping(frame: &[u8], to: MacAddress, macs: &Macs, is_ours: &impl Fn(IpAddr) -> bool) -> Option<Heard> {
    let asked = echo::request(frame)?;
    let vip = asked.destination;
    // Nobody answers a ping to many, or to himself.
    let answered = is_ours(vip) && !is_ours(asked.source) && !to.is_multicast();
    answered.then(|| Heard::Echo { vip, reply: asked.reply(macs.announced) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    const OURS: MacAddress = MacAddress::new([2, 0, 0, 0, 0, 2]);
    const VIRTUAL: MacAddress = MacAddress::new([0, 0, 0x5e, 0, 1, 15]);
    const CLIENT: MacAddress = MacAddress::new([2, 0, 0, 0, 0, 0x10]);
    const V4: Ipv4Addr = Ipv4Addr::new(192, 168, 88, 15);
    const V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x88, 0, 0, 0, 0, 0, 0x15);

    fn is_ours(address: IpAddr) -> bool {
        address == V4 || address == V6
    }

    fn macs() -> Macs {
        Macs { announced: VIRTUAL, interface: OURS, own: vec![OURS, VIRTUAL] }
    }

    fn hear(frame: &[u8]) -> Heard {
        heed(Received { frame, for_others: false }, &macs(), is_ours)
    }

    fn arp_request(target: Ipv4Addr) -> Vec<u8> {
        let mut frame = arp::probe(CLIENT, target).to_vec();
        frame[28..32].copy_from_slice(&[192, 168, 88, 10]);
        frame
    }

    /// A ping to the VIP, made of the reply to one from it.
    fn ping_frame(to: MacAddress, is_ipv4: bool) -> Vec<u8> {
        let bytes: &[u8] = if is_ipv4 {
            &[
                0x45, 0, 0, 32, 0, 0, 0, 0, 64, 1, 0x49, 0x61, 192, 168, 88, 10, 192, 168, 88, 15, 8, 0, 0xd3, 0x27,
                0x12, 0x34, 0, 1, 1, 2, 3, 4,
            ]
        } else {
            &[
                0x60, 0, 0, 0, 0, 12, 58, 64, 0xfd, 0, 0, 0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0xfd, 0, 0,
                0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x15, 128, 0, 0, 0, 0x12, 0x34, 0, 1, 1, 2, 3, 4,
            ]
        };
        let mut frame = [to.octets(), CLIENT.octets()].concat();
        frame.extend(if is_ipv4 { [8, 0] } else { [0x86, 0xdd] });
        frame.extend(bytes);
        for (at, range) in if is_ipv4 { [(24, 14..34), (36, 34..46)] } else { [(56, 22..66), (0, 0..0)] } {
            if at > 0 {
                frame[at..at + 2].fill(0);
                // Length and next header of the pseudo header (RFC 8200 section 8.1).
                let mut sum: u32 = if is_ipv4 { 0 } else { 12 + 58 };
                sum += frame[range].chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum::<u32>();
                let folded = u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
                frame[at..at + 2].copy_from_slice(&(!folded).to_be_bytes());
            }
        }
        frame
    }

    #[test]
    fn questions_for_vips_are_answered_with_the_announced_mac() {
        for (frame, vip, taker) in [
            (arp_request(V4), IpAddr::V4(V4), None),
            (arp::probe(CLIENT, V4).to_vec(), V4.into(), Some(CLIENT)),
            (ndp::solicitation(CLIENT, "fd00:88::10".parse().unwrap(), V6).to_vec(), V6.into(), None),
        ] {
            let Heard::Question { vip: asked, reply, taker: found } = hear(&frame) else { panic!("{vip}") };
            assert_eq!((asked, found), (vip, taker));
            assert_eq!(reply[..12], [CLIENT.octets(), VIRTUAL.octets()].concat()[..]);
            let claim = arp::claim(&reply).map(|(address, mac)| (IpAddr::V4(address), mac));
            let claim = claim.or_else(|| ndp::claim(&reply).map(|(address, mac)| (IpAddr::V6(address), mac)));
            assert_eq!(claim, Some((vip, VIRTUAL)));
        }
    }

    #[test]
    fn pings_to_vips_are_answered_to_whom_they_came_from() {
        for is_ipv4 in [true, false] {
            for to in [OURS, VIRTUAL] {
                let Heard::Echo { vip, reply } = hear(&ping_frame(to, is_ipv4)) else { panic!("IPv4: {is_ipv4}") };
                assert_eq!(vip.is_ipv4(), is_ipv4);
                assert_eq!(reply[..12], [CLIENT.octets(), VIRTUAL.octets()].concat()[..]);
                assert_eq!(reply[reply.len() - 8..], [0x12, 0x34, 0, 1, 1, 2, 3, 4]);
            }
            assert_eq!(hear(&ping_frame(MacAddress::BROADCAST, is_ipv4)), Heard::Nothing, "to all");
            assert_eq!(hear(&ping_frame(CLIENT, is_ipv4)), Heard::Nothing, "to another");
        }
    }

    #[test]
    fn what_is_not_about_a_vip_or_not_for_this_machine_is_left_alone() {
        let other = Ipv4Addr::new(192, 168, 88, 16);
        assert_eq!(hear(&arp_request(other)), Heard::Nothing, "another address");
        assert_eq!(hear(&arp::announcement(CLIENT, other)), Heard::Nothing, "another's claim");
        assert_eq!(hear(&arp::probe(OURS, V4)), Heard::Nothing, "our own question, reflected");
        let mut unicast = arp_request(V4);
        unicast[..6].copy_from_slice(&CLIENT.octets());
        assert_eq!(hear(&unicast), Heard::Nothing, "to another's MAC address");
        unicast[..6].copy_from_slice(&OURS.octets());
        assert!(matches!(hear(&unicast), Heard::Question { .. }), "asked again by unicast");
        let tagged = [&arp_request(V4)[..12], &[0x81, 0, 0, 7], &arp_request(V4)[12..]].concat();
        assert_eq!(hear(&tagged), Heard::Nothing, "with its tag");
        let for_others = |frame: &[u8]| heed(Received { frame, for_others: true }, &macs(), is_ours);
        assert_eq!(for_others(&arp_request(V4)), Heard::Nothing, "of a VLAN that is not ours, its tag taken out");
        unicast[..6].copy_from_slice(&VIRTUAL.octets());
        assert!(matches!(for_others(&unicast), Heard::Question { .. }), "to the virtual MAC address");
        assert_eq!(hear(&[]), Heard::Nothing);
    }

    #[test]
    fn the_claim_of_another_machine_is_a_conflict_and_an_own_one_is_none() {
        let conflict = |vip: IpAddr| Heard::Conflict { vip, mac: CLIENT };
        assert_eq!(hear(&arp::announcement(CLIENT, V4)), conflict(V4.into()));
        assert_eq!(hear(&ndp::advertisement(CLIENT, V6, None)), conflict(V6.into()));
        assert_eq!(hear(&arp::announcement(OURS, V4)), Heard::Nothing);
        assert_eq!(hear(&ndp::advertisement(VIRTUAL, V6, None)), Heard::Nothing);
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..120), for_others: bool) {
            let _ = heed(Received { frame: &bytes, for_others }, &macs(), is_ours);
        }

        #[test]
        fn a_damaged_question_never_yields_an_answer_for_another_address(at in 12usize..42, byte: u8) {
            let mut frame = arp_request(V4);
            frame[at] = byte;
            if let Heard::Question { vip, .. } = hear(&frame) {
                prop_assert_eq!(vip, IpAddr::V4(V4));
            }
        }
    }
}
