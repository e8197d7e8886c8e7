//! The table: every rule of `docs/classification.md`, in its order.
#![allow(clippy::too_many_lines, reason = "tables")]

mod ethernet;
mod icmp;
mod ipv4;
mod ipv6;

use super::*;
use Expected::{Pass, Redirect};
use PassReason::{FragmentOfPassed, Malformed, NotAService, NotIp, NotOurMac};

/// All rows, to be tried in this order with no fragment remembered before the first.
pub fn rows() -> Vec<Row> {
    [
        ethernet::ethernet_rows(),
        ipv4::ipv4_rows(),
        ipv4::ipv4_fragment_rows(),
        ipv6::ipv6_rows(),
        ipv6::ipv6_fragment_rows(),
        icmp::icmp_rows(),
        icmp::icmp_quote_rows(),
        icmp::icmp_quoted_flow_rows(),
        icmp::icmpv6_rows(),
    ]
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
