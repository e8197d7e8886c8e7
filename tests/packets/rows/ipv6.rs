//! Rows about IPv6, its extension headers and fragments.

use super::*;

pub(super) fn ipv6_rows() -> Vec<Row> {
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

pub(super) fn ipv6_fragment_rows() -> Vec<Row> {
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
        row(
            "a first fragment of IPv4 whose addresses and identification are also those of one of IPv6",
            Pass(NotAService),
            Ipv4 { destination: VIP_MIXED, identification: 13, more_fragments: true, ..Ipv4::default() }
                .frame(&tcp(1, 81)),
        ),
        row(
            "the one of IPv6",
            Redirect,
            Ipv6 {
                source: Ipv6Addr::new(0x0a00, 0x0007, 0, 0, 0, 0, 0, 0),
                destination: VIP6_LIKE_MIXED,
                ..with(vec![fragment(3, false, 13 << 16)])
            }
            .frame(b"x"),
        ),
    ]
}
