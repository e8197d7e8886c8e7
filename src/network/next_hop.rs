//! The MAC address that a frame for some address is to be sent to.

use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use super::neighbor::{read_neighbors, resolve};
use super::netlink::Requester;
use super::{Link, NetworkError, route_to};
use crate::wire::MacAddress;

/// How often the neighbour table is looked at while an address is asked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Finds the MAC address that frames for `address` are to have when they leave by `link`: that of the address itself, or
/// of the gateway if the route leads to one by this link. What the neighbour table lacks the kernel is made to ask for,
/// and waited for.
///
/// # Errors
/// [`NetworkError::NoNeighbor`] if nobody answers within `patience`, or a failure to ask the kernel.
pub fn next_hop_mac(link: &Link, address: IpAddr, patience: Duration) -> Result<MacAddress, NetworkError> {
    let route = route_to(address)?;
    let gateway = route.gateway.filter(|_| route.interface_index == Some(link.index));
    let next_hop = gateway.unwrap_or(address);
    let mut requester = Requester::open()?;
    let deadline = Instant::now() + patience;
    let mut asked = false;
    loop {
        let entries = read_neighbors(&mut requester)?;
        let entry = entries.iter().find(|entry| entry.device_index == link.index && entry.address == next_hop);
        if let Some(mac) = entry.and_then(|entry| entry.usable_mac()) {
            return Ok(mac);
        }
        if Instant::now() >= deadline {
            return Err(NetworkError::NoNeighbor { address: next_hop, interface: link.name.clone() });
        }
        if !asked {
            resolve(&mut requester, link.index, next_hop)
                .map_err(|source| NetworkError::system(format!("ask for the MAC address of {next_hop}"), source))?;
            asked = true;
        }
        thread::sleep(LOOK_EVERY);
    }
}
