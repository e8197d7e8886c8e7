//! Rows about ICMP and ICMPv6.

use super::*;

pub(super) fn icmp_rows() -> Vec<Row> {
    let ip = Ipv4::default;
    let outer = || Ipv4 { source: OTHER, protocol: ICMP, ..ip() };
    // What a real server sent to the client.
    let quoted = || Ipv4 { source: VIP, destination: CLIENT, ..ip() };
    let reply = tcp(80, 4711);
    let of_type = |icmp_type| outer().frame(&icmp(icmp_type, &quoted().packet(&reply)));
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
        row("with DF", Redirect, Ipv4 { dont_fragment: true, ..outer() }.frame(&icmp(3, &quoted().packet(&reply)))),
        row(
            "a later fragment",
            Pass(NotAService),
            Ipv4 { fragment_offset: 3, ..outer() }.frame(&icmp(3, &quoted().packet(&reply))),
        ),
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
    ]
}

pub(super) fn icmp_quote_rows() -> Vec<Row> {
    let ip = Ipv4::default;
    let outer = || Ipv4 { source: OTHER, protocol: ICMP, ..ip() };
    // What a real server sent to the client.
    let quoted = || Ipv4 { source: VIP, destination: CLIENT, ..ip() };
    let reply = tcp(80, 4711);
    let error = |quote: Vec<u8>| outer().frame(&icmp(3, &quote));
    let cut = |kept: usize| error(quoted().packet(&reply)[..kept].to_vec());
    vec![
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
            "a quote of another source cut within its options",
            Pass(Malformed),
            error(Ipv4 { options: vec![1; 8], source: OTHER, ..quoted() }.packet(&[])[..27].to_vec()),
        ),
        row(
            "a quote of a later fragment cut within its options",
            Pass(Malformed),
            error(Ipv4 { options: vec![1; 8], fragment_offset: 3, ..quoted() }.packet(&[])[..27].to_vec()),
        ),
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
    ]
}

pub(super) fn icmp_quoted_flow_rows() -> Vec<Row> {
    let ip = Ipv4::default;
    let outer = || Ipv4 { source: OTHER, protocol: ICMP, ..ip() };
    // What a real server sent to the client.
    let quoted = || Ipv4 { source: VIP, destination: CLIENT, ..ip() };
    let udp_quoted = |source| Ipv4 { source, protocol: UDP, ..quoted() };
    let reply = tcp(80, 4711);
    let error = |quote: Vec<u8>| outer().frame(&icmp(3, &quote));
    let cut = |kept: usize| error(quoted().packet(&reply)[..kept].to_vec());
    let to = |destination, quote: Vec<u8>| Ipv4 { destination, ..outer() }.frame(&icmp(3, &quote));
    vec![
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
            "quoted port of tcp beside any of udp",
            Redirect,
            to(VIP_MIXED, Ipv4 { source: VIP_MIXED, ..quoted() }.packet(&tcp(443, 4711))),
        ),
        row(
            "another quoted port of tcp beside any of udp",
            Pass(NotAService),
            to(VIP_MIXED, Ipv4 { source: VIP_MIXED, ..quoted() }.packet(&reply)),
        ),
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

pub(super) fn icmpv6_rows() -> Vec<Row> {
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
