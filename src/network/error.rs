//! Why the network cannot serve a configuration, in words for the person who wrote it.

use std::io;
use std::net::IpAddr;

use super::RouteKind;

/// A question to the kernel that failed, or an answer that direct routing cannot work with.
///
/// Each message is one sentence; the kernel's own error, where there is one, is the source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// A system call or a request to the kernel failed.
    #[error("cannot {action}")]
    System {
        /// What was attempted, as the end of "cannot ...".
        action: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel refused for lack of a capability.
    #[error("cannot {action}: this needs the capability {capability}; run as root or grant it to the program")]
    MissingCapability {
        /// What was attempted, as the end of "cannot ...".
        action: String,
        /// The capability's name, as in capabilities(7).
        capability: &'static str,
    },
    /// No interface has this name.
    #[error("there is no interface {name:?}; the interfaces here are: {}", present.join(", "))]
    NoSuchLink {
        /// The name asked for.
        name: String,
        /// The names that exist in this network namespace.
        present: Vec<String>,
    },
    /// The real server is beyond a router.
    #[error(
        "real server {address} is reached through gateway {gateway} ({interface}): direct routing only rewrites MAC \
         addresses, so a real server must be on a subnet that is directly connected to the director; give the \
         director an address in the real server's subnet, or correct the address"
    )]
    ThroughGateway {
        /// The real server.
        address: IpAddr,
        /// The router that the route to it goes through.
        gateway: IpAddr,
        /// The interface towards that router.
        interface: String,
    },
    /// The real server has no MAC address of its own to forward to.
    #[error(
        "real server {address} is an address of the director itself: the director takes no share of the connections, \
         so name another machine"
    )]
    OwnAddress {
        /// The real server.
        address: IpAddr,
    },
    /// The kernel does not know where the real server is.
    #[error(
        "there is no usable route to real server {address} ({kind}): give the director an address in the real \
         server's subnet"
    )]
    NoRoute {
        /// The real server.
        address: IpAddr,
        /// What the routing table says of it instead.
        kind: RouteKind,
    },
    /// The address is not that of one machine.
    #[error("real server {address} is a {kind} address: name the address of one machine")]
    NotUnicast {
        /// The address given for the real server.
        address: IpAddr,
        /// Broadcast, multicast or the like.
        kind: RouteKind,
    },
    /// A link-local address means something else on each interface.
    #[error(
        "real server {address} is a link-local address, which does not say on which interface it is: use a global or \
         unique local address of the real server"
    )]
    LinkLocal {
        /// The address given for the real server.
        address: IpAddr,
    },
    /// The real server is on a subnet of an interface that is not configured.
    #[error(
        "real server {address} is reached by {interface}, which the configuration does not list as an [[interface]] \
         (it lists: {}): add {interface}, or correct the address", listed.join(", ")
    )]
    InterfaceNotListed {
        /// The real server.
        address: IpAddr,
        /// The interface that the route to it names.
        interface: String,
        /// The configured interfaces.
        listed: Vec<String>,
    },
    /// Nobody answers for an address.
    #[error(
        "nobody on {interface} answers for {address}: is it up, and is it there? (see: ip neighbour show dev {interface})"
    )]
    NoNeighbor {
        /// The address.
        address: IpAddr,
        /// The interface that it was asked for on.
        interface: String,
    },
    /// The real server is behind a bridge of which several ports are configured.
    #[error(
        "real server {address} is reached by the bridge {bridge}, and the configuration lists several of its ports \
         ({}): list only the port that the real servers are behind", ports.join(", ")
    )]
    SeveralPorts {
        /// The real server.
        address: IpAddr,
        /// The bridge.
        bridge: String,
        /// Its configured ports.
        ports: Vec<String>,
    },
}

impl NetworkError {
    /// A failed request, with a missing privilege told apart. `action` ends the sentence "cannot ...".
    pub(super) fn system(action: impl Into<String>, source: io::Error) -> Self {
        let action = action.into();
        match source.kind() {
            io::ErrorKind::PermissionDenied => Self::MissingCapability { action, capability: "CAP_NET_ADMIN" },
            _ => Self::System { action, source },
        }
    }
}
