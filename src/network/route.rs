//! The kernel's answer to "how would you send to this address?".

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::Parseable;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::NetworkError;
use super::netlink::{Ask, Requester};

/// The route that the kernel would take to one address, policy rules included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// What happens to packets for the address.
    pub kind: RouteKind,
    /// The interface they leave by; none where they go nowhere.
    pub interface_index: Option<u32>,
    /// The router they are handed to; none where the address is on the link itself.
    pub gateway: Option<IpAddr>,
    /// The source address the director would use.
    pub preferred_source: Option<IpAddr>,
}

/// What a route does with packets (`RTN_*` of rtnetlink(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RouteKind {
    /// To one machine, directly or by a gateway.
    Unicast,
    /// To this machine itself.
    Local,
    /// To all machines on a link.
    Broadcast,
    /// To any of several machines.
    Anycast,
    /// To a group.
    Multicast,
    /// Dropped in silence.
    Blackhole,
    /// Refused as unreachable, by a route that says so.
    Unreachable,
    /// Refused as prohibited.
    Prohibit,
    /// No route matches at all.
    Missing,
    /// A kind this program does not know, as its number.
    Other(u8),
}

impl fmt::Display for RouteKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unicast => f.write_str("unicast"),
            Self::Local => f.write_str("local"),
            Self::Broadcast => f.write_str("broadcast"),
            Self::Anycast => f.write_str("anycast"),
            Self::Multicast => f.write_str("multicast"),
            Self::Blackhole => f.write_str("the routing table has a blackhole route for it"),
            Self::Unreachable => f.write_str("the routing table calls it unreachable"),
            Self::Prohibit => f.write_str("the routing table prohibits it"),
            Self::Missing => f.write_str("no entry of the routing table matches"),
            Self::Other(number) => write!(f, "route type {number}"),
        }
    }
}

/// Looks up the route to `address` (`RTM_GETROUTE`), as `ip route get` does.
///
/// That there is no route is an answer ([`RouteKind::Missing`] and its like), not an error.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn route_to(address: IpAddr) -> Result<Route, NetworkError> {
    let mut message = RouteMessage::default();
    (message.header.address_family, message.header.destination_prefix_length) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    message.attributes.push(RouteAttribute::Destination(RouteAddress::from(address)));
    let answer = Requester::open()?.exchange(&RouteNetlinkMessage::GetRoute(message), Ask::One(0), |kind, payload| {
        (kind == libc::RTM_NEWROUTE).then(|| RouteMessage::parse(payload).ok()).flatten()
    });
    let failed = |source| NetworkError::system(format!("look up the route to {address}"), source);
    match answer {
        Ok(routes) => match routes.first() {
            Some(route) => Ok(read_route(route)),
            None => Err(failed(io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer holds no route"))),
        },
        // The kernel answers for a route that leads nowhere with the error that a packet would meet (fib_props,
        // net/ipv4/fib_semantics.c; ip6_pkt_discard and its like).
        Err(error) => match error.raw_os_error() {
            Some(libc::ENETUNREACH | libc::ESRCH) => Ok(nowhere(RouteKind::Missing)),
            Some(libc::EHOSTUNREACH) => Ok(nowhere(RouteKind::Unreachable)),
            Some(libc::EACCES) => Ok(nowhere(RouteKind::Prohibit)),
            Some(libc::EINVAL) => Ok(nowhere(RouteKind::Blackhole)),
            _ => Err(failed(error)),
        },
    }
}

fn nowhere(kind: RouteKind) -> Route {
    Route { kind, interface_index: None, gateway: None, preferred_source: None }
}

fn read_route(message: &RouteMessage) -> Route {
    let kind = match message.header.kind {
        RouteType::Unicast => RouteKind::Unicast,
        RouteType::Local => RouteKind::Local,
        RouteType::Broadcast => RouteKind::Broadcast,
        RouteType::Anycast => RouteKind::Anycast,
        RouteType::Multicast => RouteKind::Multicast,
        RouteType::BlackHole => RouteKind::Blackhole,
        RouteType::Unreachable => RouteKind::Unreachable,
        RouteType::Prohibit => RouteKind::Prohibit,
        other => RouteKind::Other(u8::from(other)),
    };
    let mut route = nowhere(kind);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => route.interface_index = Some(*index),
            RouteAttribute::Gateway(address) => route.gateway = ip_address(address),
            // An IPv4 route by an IPv6 router (RFC 8950 style).
            RouteAttribute::Via(RouteVia::Inet(address)) => route.gateway = Some(IpAddr::V4(*address)),
            RouteAttribute::Via(RouteVia::Inet6(address)) => route.gateway = Some(IpAddr::V6(*address)),
            RouteAttribute::PrefSource(address) => route.preferred_source = ip_address(address),
            _ => {}
        }
    }
    route
}

fn ip_address(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)).filter(|a| *a != Ipv4Addr::UNSPECIFIED),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)).filter(|a| *a != Ipv6Addr::UNSPECIFIED),
        _ => None,
    }
}
