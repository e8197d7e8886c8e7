//! The table: every rule of `docs/classification.md`, in its order.

use super::*;
use Expected::{Pass, Redirect};
use PassReason::{FragmentOfPassed, Malformed, NotAService, NotIp, NotOurMac};

/// All rows, to be tried in this order with no fragment remembered before the first.
pub fn rows() -> Vec<Row> {
    [ethernet_rows(), ipv4_rows(), ipv4_fragment_rows(), ipv6_rows(), ipv6_fragment_rows(), icmp_rows(), icmpv6_rows()]
        .concat()
}

fn row(description: &str, expected: Expected, frame: Vec<u8>) -> Row {
    Row { description: description.to_owned(), frame, expected }
}

fn syn() -> Vec<u8> {
    Ipv4::default().frame(&tcp(4711, 80))
}

fn syn6() -> Vec<u8> {
    Ipv6::default().frame(&tcp(4711, 80))
}

fn ethernet_rows() -> Vec<Row> {
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

fn ipv4_rows() -> Vec<Row> {
    let ip = Ipv4::default;
    let to = |destination| Ipv4 { destination, ..ip() };
    let udp_to = |destination| Ipv4 { destination, protocol: UDP, ..ip() };
    let long_header = Ipv4 { options: vec![1; 40], ..ip() };
    let syn = tcp(4711, 80);
    let mut unfinished = ip().frame(&[]);
    unfinished.extend(ports(4711, 81));
    let truncated = |kept: usize| ip().frame(&syn[..kept]);
    vec![
        row("19 bytes", Pass(Malformed), ip().frame(&[])[..14 + 19].to_vec()),
        row("no byte of the header", Pass(Malformed), ethernet(IPV4, &[])),
        row("version 5", Pass(Malformed), Ipv4 { version: 5, ..ip() }.frame(&syn)),
        row("IHL of 4", Pass(Malformed), Ipv4 { ihl: Some(4), ..ip() }.frame(&syn)),
        row("IHL of 0", Pass(Malformed), Ipv4 { ihl: Some(0), ..ip() }.frame(&syn)),
        row("a header longer than the frame", Pass(Malformed), Ipv4 { ihl: Some(15), ..ip() }.frame(&syn)),
        row("total length under the header's", Pass(Malformed), Ipv4 { total_length: Some(19), ..ip() }.frame(&syn)),
        row("total length 0", Pass(Malformed), Ipv4 { total_length: Some(0), ..ip() }.frame(&syn)),
        row(
            "total length under a header with options",
            Pass(Malformed),
            Ipv4 { total_length: Some(59), ..long_header.clone() }.frame(&syn),
        ),
        row(
            "total length over the frame's by one",
            Pass(Malformed),
            Ipv4 { total_length: Some(41), ..ip() }.frame(&syn),
        ),
        row("malformed, and to no VIP", Pass(Malformed), Ipv4 { total_length: Some(41), ..to(OTHER) }.frame(&syn)),
        row("with options, as long as there can be", Redirect, long_header.frame(&syn)),
        row("with options, another port", Pass(NotAService), long_header.frame(&tcp(80, 81))),
        row("with DF", Redirect, Ipv4 { dont_fragment: true, ..ip() }.frame(&syn)),
        row("tcp to the service", Redirect, ip().frame(&syn)),
        row("udp to the service", Redirect, udp_to(VIP).frame(&udp(4711, 53))),
        row("a port of another protocol's service", Pass(NotAService), ip().frame(&tcp(4711, 53))),
        row("udp to the port of a tcp service", Pass(NotAService), udp_to(VIP).frame(&udp(4711, 80))),
        row("the service's port as source", Pass(NotAService), ip().frame(&tcp(80, 4711))),
        row("the port with its bytes swapped", Pass(NotAService), ip().frame(&tcp(4711, 80_u16.swap_bytes()))),
        row("port 0 where there is no service on any port", Pass(NotAService), ip().frame(&tcp(4711, 0))),
        row("no VIP", Pass(NotAService), to(OTHER).frame(&syn)),
        row(
            "to the client, from the VIP",
            Pass(NotAService),
            Ipv4 { source: VIP, destination: CLIENT, ..ip() }.frame(&syn),
        ),
        row("any port: udp 9", Redirect, udp_to(VIP_UDP_ANY).frame(&udp(4711, 9))),
        row("any port: udp 0", Redirect, udp_to(VIP_UDP_ANY).frame(&udp(4711, 0))),
        row("any port of udp is no service of tcp", Pass(NotAService), to(VIP_UDP_ANY).frame(&syn)),
        row("a port of its own beside any", Redirect, to(VIP_TCP_ANY).frame(&tcp(4711, 443))),
        row("any port beside one of its own", Redirect, to(VIP_TCP_ANY).frame(&tcp(4711, 444))),
        row("any port of tcp is no service of udp", Pass(NotAService), udp_to(VIP_TCP_ANY).frame(&udp(4711, 443))),
        row(
            "ICMPv6 over IPv4",
            Pass(NotAService),
            Ipv4 { protocol: ICMPV6, ..ip() }.frame(&icmp(1, &ip().packet(&syn))),
        ),
        row("SCTP to the VIP", Pass(NotAService), Ipv4 { protocol: 132, ..ip() }.frame(&syn)),
        row("IP in IP to the VIP", Pass(NotAService), Ipv4 { protocol: 4, ..ip() }.frame(&ip().packet(&syn))),
        row("protocol 0 to the VIP", Pass(NotAService), Ipv4 { protocol: 0, ..ip() }.frame(&syn)),
        row("four bytes of L4", Redirect, truncated(4)),
        row("four bytes of L4, another port", Pass(NotAService), ip().frame(&ports(4711, 81))),
        row("three bytes of L4", Redirect, truncated(3)),
        row("no byte of L4", Redirect, truncated(0)),
        row("three bytes of L4 to no VIP", Pass(NotAService), to(OTHER).frame(&syn[..3])),
        row("three bytes of L4, no service of udp", Pass(NotAService), udp_to(VIP_TCP_ANY).frame(&syn[..3])),
        row("no byte of L4, and padding that looks like ports", Redirect, unfinished),
    ]
}

fn ipv4_fragment_rows() -> Vec<Row> {
    let first =
        |identification, port| Ipv4 { identification, more_fragments: true, ..Ipv4::default() }.frame(&tcp(4711, port));
    let base = |identification, fragment_offset, more_fragments| Ipv4 {
        identification,
        fragment_offset,
        more_fragments,
        ..Ipv4::default()
    };
    let later = |identification| base(identification, 3, false).frame(b"behind the first fragment");
    let middle = |identification| base(identification, 3, true).frame(b"somewhere in the middle..");
    let udp_later = |identification, destination| Ipv4 { protocol: UDP, destination, ..base(identification, 3, false) };
    vec![
        row("a first fragment to the service", Redirect, first(1, 80)),
        row("its last fragment", Redirect, later(1)),
        row("a first fragment to another port", Pass(NotAService), first(2, 81)),
        row("its middle fragment", Pass(FragmentOfPassed), middle(2)),
        row("its last fragment", Pass(FragmentOfPassed), later(2)),
        row("its last fragment, in a VLAN", Pass(FragmentOfPassed), tagged(VLAN, &later(2))),
        row("its last fragment without a byte of data", Pass(FragmentOfPassed), base(2, 3, false).frame(&[])),
        row("the same identification, bytes swapped", Redirect, later(0x0200)),
        row(
            "the same identification of another client",
            Redirect,
            Ipv4 { source: OTHER, ..base(2, 3, false) }.frame(b"x"),
        ),
        row(
            "the same identification to another VIP",
            Redirect,
            Ipv4 { destination: VIP_TCP_ANY, ..base(2, 3, false) }.frame(b"x"),
        ),
        row("the same identification in another protocol", Redirect, udp_later(2, VIP).frame(b"x")),
        row("the identification is used again, for the service", Redirect, first(2, 80)),
        row("its last fragment now follows", Redirect, later(2)),
        row("a later fragment before its first one", Redirect, later(3)),
        row("the first one after it", Pass(NotAService), first(3, 81)),
        row("now the rest is passed", Pass(FragmentOfPassed), later(3)),
        row(
            "a whole datagram to another port is not remembered",
            Pass(NotAService),
            base(4, 0, false).frame(&tcp(4711, 81)),
        ),
        row("so a later fragment of that identification", Redirect, later(4)),
        row(
            "a first fragment to no VIP is not remembered",
            Pass(NotAService),
            Ipv4 { destination: OTHER, ..base(5, 0, true) }.frame(&tcp(1, 80)),
        ),
        row(
            "a later fragment to no VIP",
            Pass(NotAService),
            Ipv4 { destination: OTHER, ..base(5, 3, false) }.frame(b"x"),
        ),
        row(
            "a later fragment without a service of its protocol",
            Pass(NotAService),
            udp_later(6, VIP_TCP_ANY).frame(b"x"),
        ),
        row("a later fragment of any port", Redirect, udp_later(7, VIP_UDP_ANY).frame(b"x")),
        row("a later fragment at the highest offset", Redirect, base(8, 0x1fff, false).frame(b"x")),
        row("a first fragment of three bytes", Redirect, base(9, 0, true).frame(&tcp(4711, 81)[..3])),
        row("its last fragment", Redirect, later(9)),
        row("a later fragment of ICMP", Pass(NotAService), Ipv4 { protocol: ICMP, ..base(10, 3, false) }.frame(b"x")),
    ]
}

fn ipv6_rows() -> Vec<Row> {
    let ip = Ipv6::default;
    let with = |extensions: Vec<Extension>| Ipv6 { extensions, ..ip() };
    let syn = tcp(4711, 80);
    let hop = || options(HOP_BY_HOP, 0);
    let dst = || options(DESTINATION_OPTIONS, 0);
    let mut longer_than_payload = options(DESTINATION_OPTIONS, 0);
    longer_than_payload.rest[0] = 3;
    let mut cut_routing = routing(1);
    cut_routing.rest[0] = 9;
    let short = |payload_length| Ipv6 { payload_length: Some(payload_length), ..with(vec![hop(), dst()]) };
    let udp_to = |destination| Ipv6 { destination, protocol: UDP, ..ip() };
    let mut padded = ip().frame(&[]);
    padded.extend(ports(4711, 81));
    vec![
        row("39 bytes", Pass(Malformed), ip().frame(&[])[..14 + 39].to_vec()),
        row("version 4", Pass(Malformed), Ipv6 { version: 4, ..ip() }.frame(&syn)),
        row(
            "payload length over the frame's by one",
            Pass(Malformed),
            Ipv6 { payload_length: Some(21), ..ip() }.frame(&syn),
        ),
        row("tcp to the service", Redirect, ip().frame(&syn)),
        row("udp to the service", Redirect, udp_to(VIP6).frame(&udp(4711, 53))),
        row("another port", Pass(NotAService), ip().frame(&tcp(4711, 81))),
        row("udp to the port of a tcp service", Pass(NotAService), udp_to(VIP6).frame(&udp(4711, 80))),
        row("no VIP", Pass(NotAService), Ipv6 { destination: OTHER6, ..ip() }.frame(&syn)),
        row("the bytes of an IPv4 VIP", Pass(NotAService), Ipv6 { destination: LIKE_VIP, ..ip() }.frame(&syn)),
        row("any port", Redirect, Ipv6 { destination: VIP6_TCP_ANY, ..ip() }.frame(&tcp(1, 1))),
        row("any port of tcp is no service of udp", Pass(NotAService), udp_to(VIP6_TCP_ANY).frame(&udp(1, 1))),
        row("four bytes of L4", Redirect, ip().frame(&syn[..4])),
        row("three bytes of L4", Redirect, ip().frame(&syn[..3])),
        row("no byte of L4, and padding that looks like ports", Redirect, padded),
        row("a jumbogram's payload length of 0", Redirect, Ipv6 { payload_length: Some(0), ..ip() }.frame(&syn)),
        row("hop-by-hop options", Redirect, with(vec![hop()]).frame(&syn)),
        row("destination options", Redirect, with(vec![dst()]).frame(&syn)),
        row("destination options, another port", Pass(NotAService), with(vec![dst()]).frame(&tcp(4711, 81))),
        row("options of 1,024 bytes", Redirect, with(vec![options(DESTINATION_OPTIONS, 127)]).frame(&syn)),
        row("routing, nothing left", Redirect, with(vec![routing(0)]).frame(&syn)),
        row("routing, a segment left", Pass(NotAService), with(vec![routing(1)]).frame(&syn)),
        row(
            "routing, a segment left, then a cut header",
            Pass(NotAService),
            with(vec![routing(1), longer_than_payload.clone()]).frame(&[]),
        ),
        row("routing, a segment left, longer than the payload", Pass(Malformed), with(vec![cut_routing]).frame(&syn)),
        row("hop-by-hop behind another", Redirect, with(vec![dst(), hop(), dst()]).frame(&syn)),
        row("eight headers", Redirect, with(vec![dst(); 8]).frame(&syn)),
        row(
            "eight headers with fragment and routing",
            Redirect,
            with(vec![hop(), dst(), routing(0), fragment(0, false, 1), dst(), dst(), dst(), dst()]).frame(&syn),
        ),
        row("nine headers", Pass(Malformed), with(vec![dst(); 9]).frame(&syn)),
        row(
            "nine headers, the ninth a routing one",
            Pass(Malformed),
            with([vec![dst(); 8], vec![routing(1)]].concat()).frame(&syn),
        ),
        row("a header longer than the payload", Pass(Malformed), with(vec![longer_than_payload.clone()]).frame(&syn)),
        row("a header exactly as long as the payload", Redirect, with(vec![longer_than_payload]).frame(&[0; 24])),
        row("a payload that ends within a header", Pass(Malformed), short(7).frame(&syn)),
        row("a payload that ends within the second header", Pass(Malformed), short(15).frame(&syn)),
        row("a payload that ends behind the headers", Redirect, short(16).frame(&syn)),
        row("a payload of 0 where a header should be", Pass(Malformed), short(0).frame(&syn)),
        row(
            "a fragment header cut short",
            Pass(Malformed),
            Ipv6 { payload_length: Some(7), ..with(vec![fragment(0, false, 1)]) }.frame(&syn),
        ),
        row("malformed to no VIP", Pass(Malformed), Ipv6 { destination: OTHER6, ..short(7) }.frame(&syn)),
        row("no next header", Pass(NotAService), Ipv6 { protocol: NO_NEXT_HEADER, ..ip() }.frame(&[])),
        row("ESP", Pass(NotAService), Ipv6 { protocol: 50, ..ip() }.frame(&syn)),
        row("an authentication header", Pass(NotAService), Ipv6 { protocol: 51, ..ip() }.frame(&[6; 24])),
        row("ICMP over IPv6", Pass(NotAService), Ipv6 { protocol: ICMP, ..ip() }.frame(&icmp(3, &[0; 40]))),
        row("IPv6 in IPv6", Pass(NotAService), Ipv6 { protocol: 41, ..ip() }.frame(&ip().packet(&syn))),
    ]
}

fn ipv6_fragment_rows() -> Vec<Row> {
    let with = |extensions: Vec<Extension>| Ipv6 { extensions, ..Ipv6::default() };
    let first = |identification, port| with(vec![fragment(0, true, identification)]).frame(&tcp(4711, port));
    let later = |identification| with(vec![fragment(3, false, identification)]).frame(b"behind the first fragment");
    let later_of = |protocol| Ipv6 { protocol, ..with(vec![fragment(3, false, 6)]) };
    let dst = || options(DESTINATION_OPTIONS, 0);
    let syn = tcp(4711, 80);
    vec![
        row("an atomic fragment to the service", Redirect, with(vec![fragment(0, false, 1)]).frame(&syn)),
        row(
            "an atomic fragment to another port",
            Pass(NotAService),
            with(vec![fragment(0, false, 1)]).frame(&tcp(1, 81)),
        ),
        row("a later fragment of that identification", Redirect, later(1)),
        row(
            "two fragment headers",
            Pass(Malformed),
            with(vec![fragment(0, false, 1), fragment(0, false, 1)]).frame(&syn),
        ),
        row(
            "two fragment headers, others between",
            Pass(Malformed),
            with(vec![fragment(0, true, 1), dst(), fragment(3, false, 1)]).frame(&syn),
        ),
        row("a first fragment to the service", Redirect, first(2, 80)),
        row("its last fragment", Redirect, later(2)),
        row("a first fragment to another port", Pass(NotAService), first(0x0001_0003, 81)),
        row("its last fragment", Pass(FragmentOfPassed), later(0x0001_0003)),
        row(
            "its last fragment, behind other headers",
            Pass(FragmentOfPassed),
            with(vec![dst(), routing(0), fragment(9, true, 0x0001_0003)]).frame(b"x"),
        ),
        row("the same lower half of the identification", Redirect, later(3)),
        row(
            "the same identification of another client",
            Redirect,
            Ipv6 { source: OTHER6, ..with(vec![fragment(3, false, 0x0001_0003)]) }.frame(b"x"),
        ),
        row("the identification is used again, for the service", Redirect, first(0x0001_0003, 80)),
        row("its last fragment now follows", Redirect, later(0x0001_0003)),
        row(
            "a first fragment with headers behind the fragment's",
            Pass(NotAService),
            with(vec![fragment(0, true, 4), dst()]).frame(&tcp(1, 81)),
        ),
        row(
            "its later fragment says the next header of the first one",
            Pass(NotAService),
            Ipv6 { protocol: DESTINATION_OPTIONS, ..with(vec![fragment(3, false, 4)]) }.frame(b"x"),
        ),
        row(
            "a later fragment whose data look like a header is not read",
            Redirect,
            with(vec![fragment(3, false, 5)]).frame(&[60; 5]),
        ),
        row("a later fragment of ICMPv6", Pass(NotAService), later_of(ICMPV6).frame(b"x")),
        row("a later fragment, next header hop-by-hop", Pass(NotAService), later_of(HOP_BY_HOP).frame(b"x")),
        row("a later fragment, next header fragment", Pass(NotAService), later_of(FRAGMENT).frame(&[0; 8])),
        row(
            "a later fragment without a service of its protocol",
            Pass(NotAService),
            Ipv6 { destination: VIP6_TCP_ANY, ..later_of(UDP) }.frame(b"x"),
        ),
        row(
            "a later fragment to no VIP",
            Pass(NotAService),
            Ipv6 { destination: OTHER6, ..with(vec![fragment(3, false, 7)]) }.frame(b"x"),
        ),
        row("a first fragment of three bytes", Redirect, with(vec![fragment(0, true, 8)]).frame(&syn[..3])),
        row("its last fragment", Redirect, later(8)),
        row(
            "a fragment of IPv4 with the same numbers",
            Pass(NotAService),
            Ipv4 { identification: 11, more_fragments: true, ..Ipv4::default() }.frame(&tcp(4711, 81)),
        ),
        row("is no fragment of IPv6", Redirect, later(11)),
    ]
}

fn icmp_rows() -> Vec<Row> {
    let ip = Ipv4::default;
    let outer = || Ipv4 { source: OTHER, protocol: ICMP, ..ip() };
    // What a real server sent to the client.
    let quoted = || Ipv4 { source: VIP, destination: CLIENT, ..ip() };
    let udp_quoted = |source| Ipv4 { source, protocol: UDP, ..quoted() };
    let reply = tcp(80, 4711);
    let error = |quote: Vec<u8>| outer().frame(&icmp(3, &quote));
    let of_type = |icmp_type| outer().frame(&icmp(icmp_type, &quoted().packet(&reply)));
    let cut = |kept: usize| error(quoted().packet(&reply)[..kept].to_vec());
    let to = |destination, quote: Vec<u8>| Ipv4 { destination, ..outer() }.frame(&icmp(3, &quote));
    vec![
        row("destination unreachable", Redirect, of_type(3)),
        row("time exceeded", Redirect, of_type(11)),
        row("parameter problem", Redirect, of_type(12)),
        row("in a VLAN", Redirect, tagged(VLAN, &of_type(3))),
        row("echo request to the VIP", Pass(NotAService), of_type(8)),
        row("echo reply", Pass(NotAService), of_type(0)),
        row("redirect", Pass(NotAService), of_type(5)),
        row("types of ICMPv6 errors", Pass(NotAService), of_type(1)),
        row("to no VIP", Pass(NotAService), to(OTHER, Ipv4 { source: OTHER, ..quoted() }.packet(&reply))),
        row("to no VIP, about the VIP", Pass(NotAService), to(OTHER, quoted().packet(&reply))),
        row("seven bytes of ICMP", Pass(Malformed), outer().frame(&icmp(3, &[])[..7])),
        row(
            "seven bytes of ICMP to no VIP",
            Pass(NotAService),
            Ipv4 { destination: OTHER, ..outer() }.frame(&icmp(3, &[])[..7]),
        ),
        row("seven bytes of an echo request", Pass(Malformed), outer().frame(&icmp(8, &[])[..7])),
        row("eight bytes of an echo request", Pass(NotAService), outer().frame(&icmp(8, &[]))),
        row(
            "a first fragment",
            Pass(NotAService),
            Ipv4 { more_fragments: true, ..outer() }.frame(&icmp(3, &quoted().packet(&reply))),
        ),
        row(
            "a first fragment of seven bytes",
            Pass(NotAService),
            Ipv4 { more_fragments: true, ..outer() }.frame(&[3; 7]),
        ),
        row("a quote of 19 bytes", Pass(Malformed), cut(19)),
        row("no quote", Pass(Malformed), cut(0)),
        row("a quote of a header and three bytes", Pass(Malformed), cut(23)),
        row("a quote of a header and four bytes", Redirect, cut(24)),
        row("a quote of a header and eight bytes", Redirect, cut(28)),
        row("a quote with version 6", Pass(Malformed), error(Ipv4 { version: 6, ..quoted() }.packet(&reply))),
        row("a quote with IHL of 4", Pass(Malformed), error(Ipv4 { ihl: Some(4), ..quoted() }.packet(&reply))),
        row(
            "a quote cut within its options",
            Pass(Malformed),
            error(Ipv4 { options: vec![1; 8], ..quoted() }.packet(&[])[..27].to_vec()),
        ),
        row("a quote with options", Redirect, error(Ipv4 { options: vec![1; 40], ..quoted() }.packet(&reply))),
        row(
            "a quote whose total length is under its header's",
            Pass(Malformed),
            error(Ipv4 { total_length: Some(19), ..quoted() }.packet(&reply)),
        ),
        row(
            "a quote whose total length is over what there is",
            Redirect,
            error(Ipv4 { total_length: Some(1500), ..quoted() }.packet(&reply[..8])),
        ),
        row(
            "malformed quote of another source",
            Pass(Malformed),
            error(Ipv4 { source: OTHER, ihl: Some(4), ..quoted() }.packet(&reply)),
        ),
        row(
            "quoted source is not the VIP",
            Pass(NotAService),
            error(Ipv4 { source: OTHER, ..quoted() }.packet(&reply)),
        ),
        row(
            "quoted source is another VIP",
            Pass(NotAService),
            error(Ipv4 { source: VIP_TCP_ANY, ..quoted() }.packet(&reply)),
        ),
        row(
            "quoted destination is the VIP",
            Pass(NotAService),
            error(Ipv4 { source: CLIENT, destination: VIP, ..quoted() }.packet(&tcp(4711, 80))),
        ),
        row("quoted udp", Redirect, error(udp_quoted(VIP).packet(&udp(53, 4711)))),
        row("quoted udp of a tcp service", Pass(NotAService), error(udp_quoted(VIP).packet(&udp(80, 4711)))),
        row("quoted source port of no service", Pass(NotAService), error(quoted().packet(&tcp(81, 80)))),
        row("quoted source port, any", Redirect, to(VIP_UDP_ANY, udp_quoted(VIP_UDP_ANY).packet(&udp(9, 9)))),
        row(
            "quoted protocol without a service, any port of the other",
            Pass(NotAService),
            to(VIP_UDP_ANY, Ipv4 { source: VIP_UDP_ANY, ..quoted() }.packet(&reply)),
        ),
        row(
            "quoted protocol without a service, no byte of L4",
            Pass(NotAService),
            to(VIP_UDP_ANY, Ipv4 { source: VIP_UDP_ANY, ..quoted() }.packet(&[])),
        ),
        row("quoted ICMP", Pass(NotAService), error(Ipv4 { protocol: ICMP, ..quoted() }.packet(&icmp(0, &[])))),
        row("quoted later fragment", Redirect, error(Ipv4 { fragment_offset: 3, ..quoted() }.packet(b"12345678"))),
        row(
            "quoted later fragment without a byte",
            Redirect,
            error(Ipv4 { fragment_offset: 3, ..quoted() }.packet(&[])),
        ),
        row(
            "quoted later fragment without a service of its protocol",
            Pass(NotAService),
            to(VIP_UDP_ANY, Ipv4 { source: VIP_UDP_ANY, fragment_offset: 3, ..quoted() }.packet(b"x")),
        ),
        row(
            "quoted first fragment to the service",
            Redirect,
            error(Ipv4 { more_fragments: true, ..quoted() }.packet(&reply)),
        ),
        row(
            "a quote that ends where the outer packet does, then padding",
            Pass(Malformed),
            [cut(20), ports(80, 4711)].concat(),
        ),
        row(
            "quoted total length ends before the ports that are there",
            Redirect,
            error(Ipv4 { total_length: Some(20), ..quoted() }.packet(&reply)),
        ),
        row(
            "IPv6 quoted in ICMP",
            Pass(Malformed),
            error(Ipv6 { source: VIP6, destination: CLIENT6, ..Ipv6::default() }.packet(&reply)),
        ),
    ]
}

fn icmpv6_rows() -> Vec<Row> {
    let ip = Ipv6::default;
    let outer = || Ipv6 { source: OTHER6, protocol: ICMPV6, ..ip() };
    let quoted = || Ipv6 { source: VIP6, destination: CLIENT6, ..ip() };
    let reply = tcp(80, 4711);
    let quote_with = |extensions: Vec<Extension>| Ipv6 { extensions, ..quoted() };
    let error = |quote: Vec<u8>| outer().frame(&icmp(1, &quote));
    let of_type = |icmp_type| outer().frame(&icmp(icmp_type, &quoted().packet(&reply)));
    let cut = |kept: usize| error(quoted().packet(&reply)[..kept].to_vec());
    let with = |extensions: Vec<Extension>| Ipv6 { extensions, ..outer() }.frame(&icmp(1, &quoted().packet(&reply)));
    let dst = || options(DESTINATION_OPTIONS, 0);
    let seven_bytes = |destination| Ipv6 { destination, ..outer() }.frame(&icmp(1, &[])[..7]);
    vec![
        row("destination unreachable", Redirect, of_type(1)),
        row("packet too big", Redirect, of_type(2)),
        row("time exceeded", Redirect, of_type(3)),
        row("parameter problem", Redirect, of_type(4)),
        row("echo request to the VIP", Pass(NotAService), of_type(128)),
        row("neighbour solicitation", Pass(NotAService), of_type(135)),
        row("type 0", Pass(NotAService), of_type(0)),
        row("type of an ICMP error", Pass(NotAService), of_type(11)),
        row("seven bytes of ICMPv6", Pass(Malformed), seven_bytes(VIP6)),
        row("seven bytes of ICMPv6 to no VIP", Pass(NotAService), seven_bytes(OTHER6)),
        row("behind extension headers", Redirect, with(vec![dst(), routing(0)])),
        row("behind eight extension headers", Redirect, with(vec![dst(); 8])),
        row("behind nine extension headers", Pass(Malformed), with(vec![dst(); 9])),
        row("a first fragment", Pass(NotAService), with(vec![fragment(0, true, 1)])),
        row("an atomic fragment", Redirect, with(vec![fragment(0, false, 1)])),
        row(
            "to no VIP",
            Pass(NotAService),
            Ipv6 { destination: OTHER6, ..outer() }.frame(&icmp(1, &quoted().packet(&reply))),
        ),
        row("a quote of 39 bytes", Pass(Malformed), cut(39)),
        row("a quote of a header and three bytes", Pass(Malformed), cut(43)),
        row("a quote of a header and four bytes", Redirect, cut(44)),
        row("a quote with version 4", Pass(Malformed), error(Ipv6 { version: 4, ..quoted() }.packet(&reply))),
        row(
            "a quote whose payload length is over what there is",
            Redirect,
            error(Ipv6 { payload_length: Some(1400), ..quoted() }.packet(&reply)),
        ),
        row(
            "quoted source is not the VIP",
            Pass(NotAService),
            error(Ipv6 { source: OTHER6, ..quoted() }.packet(&reply)),
        ),
        row(
            "quoted source differs in the last byte",
            Pass(NotAService),
            error(Ipv6 { source: VIP6_TCP_ANY, ..quoted() }.packet(&reply)),
        ),
        row("quoted source port of no service", Pass(NotAService), error(quoted().packet(&tcp(81, 80)))),
        row("quoted udp", Redirect, error(Ipv6 { protocol: UDP, ..quoted() }.packet(&udp(53, 1)))),
        row("quoted ICMPv6", Pass(NotAService), error(Ipv6 { protocol: ICMPV6, ..quoted() }.packet(&icmp(129, &[])))),
        row(
            "quoted extension headers",
            Redirect,
            error(quote_with(vec![options(HOP_BY_HOP, 1), dst()]).packet(&reply)),
        ),
        row(
            "eight quoted extension headers behind eight outer ones",
            Redirect,
            Ipv6 { extensions: vec![dst(); 8], ..outer() }.frame(&icmp(1, &quote_with(vec![dst(); 8]).packet(&reply))),
        ),
        row("nine quoted extension headers", Pass(Malformed), error(quote_with(vec![dst(); 9]).packet(&reply))),
        row(
            "a quote cut within an extension header",
            Pass(Malformed),
            error(quote_with(vec![dst()]).packet(&[])[..47].to_vec()),
        ),
        row("quoted routing, a segment left", Pass(NotAService), error(quote_with(vec![routing(1)]).packet(&reply))),
        row(
            "two quoted fragment headers",
            Pass(Malformed),
            error(quote_with(vec![fragment(0, false, 1); 2]).packet(&reply)),
        ),
        row(
            "outer and quoted fragment header",
            Redirect,
            Ipv6 { extensions: vec![fragment(0, false, 1)], ..outer() }
                .frame(&icmp(1, &quote_with(vec![fragment(0, true, 1)]).packet(&reply))),
        ),
        row("quoted later fragment", Redirect, error(quote_with(vec![fragment(3, false, 1)]).packet(b"x"))),
        row(
            "quoted later fragment of no protocol of a service",
            Pass(NotAService),
            error(Ipv6 { protocol: 132, ..quote_with(vec![fragment(3, false, 1)]) }.packet(b"x")),
        ),
        row(
            "a quote that looks like the VIP's of IPv4",
            Pass(Malformed),
            error(Ipv4 { source: VIP, destination: CLIENT, options: vec![1; 20], ..Ipv4::default() }.packet(&reply)),
        ),
    ]
}
