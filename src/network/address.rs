//! The addresses of this machine.

use std::collections::HashSet;
use std::net::IpAddr;

/// All addresses of this machine, with the interfaces that have them.
pub fn local_addresses() -> Vec<(String, IpAddr)> {
    let all = nix::ifaddrs::getifaddrs().into_iter().flatten();
    all.filter_map(|entry| {
        let storage = entry.address?;
        let v4 = storage.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        let address = v4.or_else(|| storage.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))?;
        Some((entry.interface_name, address))
    })
    .collect()
}

/// Those of `addresses` that this machine does not have.
pub fn not_local(addresses: impl IntoIterator<Item = IpAddr>) -> Vec<IpAddr> {
    let local: HashSet<IpAddr> = local_addresses().into_iter().map(|(_, address)| address).collect();
    addresses.into_iter().filter(|address| !local.contains(address)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn loopback_is_local_and_a_documentation_address_is_not() {
        let other = IpAddr::from([192, 0, 2, 1]);
        assert_eq!(not_local([IpAddr::V4(Ipv4Addr::LOCALHOST), other]), [other]);
    }
}
