//! What the network says: which interfaces there are, how a real server is reached, and which MAC address it has.
//!
//! Everything here asks the kernel (rtnetlink, ethtool) and blocks; nothing here is near a packet.
//! [`on_link`] answers at start and at reload whether direct routing can reach a real server at all;
//! [`NeighborWatch`] then keeps its MAC address known and tells of every change.

mod address;
mod dropped;
mod error;
mod link;
mod neighbor;
mod netlink;
mod next_hop;
mod nic;
mod on_link;
mod packet_socket;
mod route;
mod targets;
mod tuning;
mod watch;

pub use address::{local_addresses, not_local};
pub use dropped::tx_dropped;
pub use error::NetworkError;
pub use link::{Link, link_by_name, links};
pub use neighbor::{Neighbor, NeighborState, neighbors};
pub use next_hop::next_hop_mac;
pub use nic::{Nic, nic};
pub use on_link::{NextHopDevice, on_link};
pub use packet_socket::{PacketSocket, Received};
pub use route::{Route, RouteKind, route_to};
pub use targets::Target;
pub use tuning::{RingSize, Tuning, tuning};
pub use watch::{NeighborWatch, NetworkEvent};
