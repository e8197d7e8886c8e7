//! Rows about IPv4 and its fragments.

use super::*;

pub(super) fn ipv4_rows() -> Vec<Row> {
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
        row("a port of tcp beside any of udp", Redirect, to(VIP_MIXED).frame(&tcp(4711, 443))),
        row("another port of tcp beside any of udp", Pass(NotAService), to(VIP_MIXED).frame(&syn)),
        row("any port of udp beside one of tcp", Redirect, udp_to(VIP_MIXED).frame(&udp(4711, 444))),
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

pub(super) fn ipv4_fragment_rows() -> Vec<Row> {
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
        row("the same lower byte of the identification", Redirect, later(0x0102)),
        row("the same higher byte of the identification", Redirect, later(3)),
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
        row("a later fragment before its first one", Redirect, later(12)),
        row("the first one after it", Pass(NotAService), first(12, 81)),
        row("now the rest is passed", Pass(FragmentOfPassed), later(12)),
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
        row("a later fragment at offset 0x1000", Redirect, base(8, 0x1000, false).frame(b"far behind the first one")),
        row("a later fragment at offset 1", Redirect, base(8, 1, false).frame(b"behind a first one of 8")),
        row("a first fragment of three bytes", Redirect, base(9, 0, true).frame(&tcp(4711, 81)[..3])),
        row("its last fragment", Redirect, later(9)),
        row("a later fragment of ICMP", Pass(NotAService), Ipv4 { protocol: ICMP, ..base(10, 3, false) }.frame(b"x")),
    ]
}
