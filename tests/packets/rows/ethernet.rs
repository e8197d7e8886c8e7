//! Rows about Ethernet headers and tags.

use super::*;

pub(super) fn ethernet_rows() -> Vec<Row> {
    let to = |mac| ethernet_to(mac, IPV4, &Ipv4::default().packet(&tcp(4711, 80)));
    let once = tagged(VLAN, &syn());
    let qinq = tagged(QINQ, &once);
    let mut padded = syn();
    padded.resize(60, 0xee);
    vec![
        row("an empty frame", Pass(Malformed), vec![]),
        row("13 bytes", Pass(Malformed), syn()[..13].to_vec()),
        row("14 bytes to another machine", Pass(NotOurMac), to(OTHER_MAC)[..14].to_vec()),
        row("to our address", Redirect, to(OUR_MAC)),
        row("to the virtual address", Redirect, to(VIRTUAL_MAC)),
        row("to another machine, flooded by the switch", Pass(NotOurMac), to(OTHER_MAC)),
        row("to all", Pass(NotOurMac), to(MacAddress::new([0xff; 6]))),
        row("to no address, which unused slots must not match", Pass(NotOurMac), to(MacAddress::new([0; 6]))),
        row("our address but for the first byte", Pass(NotOurMac), to(MacAddress::new([0x12, 0, 0, 0, 0, 1]))),
        row("malformed and to another machine", Pass(NotOurMac), ethernet_to(OTHER_MAC, IPV4, &[0; 3])),
        row("padding behind the packet", Redirect, padded),
        row("802.1Q", Redirect, once.clone()),
        row("802.1ad with one tag", Redirect, tagged(QINQ, &syn())),
        row("QinQ", Redirect, qinq.clone()),
        row("QinQ with two tags of 0x8100", Redirect, tagged(VLAN, &once)),
        row("QinQ, IPv6", Redirect, tagged(QINQ, &tagged(VLAN, &syn6()))),
        row("tagged and to another machine", Pass(NotOurMac), tagged(VLAN, &to(OTHER_MAC))),
        row("three tags", Pass(NotIp), tagged(QINQ, &qinq)),
        row("a tag without a byte behind it", Pass(Malformed), once[..14].to_vec()),
        row("a tag cut short", Pass(Malformed), once[..17].to_vec()),
        row("a second tag cut short", Pass(Malformed), qinq[..21].to_vec()),
        row("a whole tag, then nothing of IPv4", Pass(Malformed), once[..18].to_vec()),
        row("tags that announce a third one, then the end", Pass(NotIp), tagged(QINQ, &qinq)[..22].to_vec()),
        row("ARP", Pass(NotIp), ethernet(ARP, &[0; 28])),
        row("ARP in a VLAN", Pass(NotIp), tagged(VLAN, &ethernet(ARP, &[0; 28]))),
        row("an IEEE 802.3 length", Pass(NotIp), ethernet(0x0026, &[0x42, 0x42, 3])),
        row("MPLS", Pass(NotIp), ethernet(0x8847, &[0; 40])),
        row("IPv4 bytes under the EtherType of IPv6", Pass(Malformed), ethernet(IPV6, &syn()[14..])),
        row("IPv6 bytes under the EtherType of IPv4", Pass(Malformed), ethernet(IPV4, &syn6()[14..])),
    ]
}
