//! The director's own address on the way to a real server.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use nix::ifaddrs::getifaddrs;

use super::failure::Failure;
use crate::service::address_bytes;

/// The address that questions come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OwnAddress {
    /// The address.
    pub(super) address: IpAddr,
    /// Whether a socket must be bound to it, because the kernel would take another.
    pub(super) must_bind: bool,
}

impl OwnAddress {
    /// On the way to `real_server`; none of `vips`. Where the director has a VIP on its interface the kernel may well
    /// take that for its source (for IPv6 it does), but a real server has the VIP itself and would answer to itself.
    pub(super) fn towards(real_server: IpAddr, vips: &BTreeSet<IpAddr>) -> Result<Self, Failure> {
        let address = asked_of_kernel(real_server).map_err(Failure::system("find the way"))?;
        if !vips.contains(&address) {
            return Ok(Self { address, must_bind: false });
        }
        let others = getifaddrs().map_err(io::Error::from).map_err(Failure::system("list own addresses"))?;
        let on_the_same_net = others.filter_map(|other| {
            let (own, mask) = (ip(other.address?)?, ip(other.netmask?)?);
            (!vips.contains(&own) && is_same_net(own, real_server, mask)).then_some(own)
        });
        let address = on_the_same_net.min().ok_or(Failure::OwnAddressIsVip(real_server))?;
        Ok(Self { address, must_bind: true })
    }

    /// To bind a socket to, if that is needed.
    pub(super) fn to_bind(self) -> Option<SocketAddr> {
        self.must_bind.then(|| SocketAddr::new(self.address, 0))
    }
}

fn asked_of_kernel(real_server: IpAddr) -> io::Result<IpAddr> {
    let any: IpAddr = if real_server.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
    let socket = UdpSocket::bind((any, 0))?;
    // Sends nothing, but asks for the way. The port does not matter.
    socket.connect((real_server, 9))?;
    Ok(socket.local_addr()?.ip())
}

fn ip(address: nix::sys::socket::SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| address.ip().into());
    v4.or_else(|| address.as_sockaddr_in6().map(|address| address.ip().into()))
}

fn is_same_net(a: IpAddr, b: IpAddr, mask: IpAddr) -> bool {
    let words = |address| u128::from_be_bytes(address_bytes(address));
    a.is_ipv4() == b.is_ipv4() && (words(a) ^ words(b)) & words(mask) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_net_is_told_by_its_mask() {
        for (a, b, mask, same) in [
            ("10.0.0.1", "10.0.0.200", "255.255.255.0", true),
            ("10.0.0.1", "10.0.1.1", "255.255.255.0", false),
            ("10.0.0.1", "10.0.0.1", "255.255.255.255", true),
            ("fd00::1", "fd00::ffff:1", "ffff:ffff:ffff:ffff::", true),
            ("fd00::1", "fd01::1", "ffff:ffff:ffff:ffff::", false),
            ("0.0.0.0", "::", "::", false),
        ] {
            let [a, b, mask] = [a, b, mask].map(|text| text.parse().unwrap_or(IpAddr::from([0; 4])));
            assert_eq!(is_same_net(a, b, mask), same, "{a} {b} {mask}");
        }
    }

    #[test]
    fn a_vip_is_never_the_source() {
        let own = IpAddr::from([127, 0, 0, 1]);
        let real_server = IpAddr::from([127, 0, 0, 2]);
        let found = OwnAddress::towards(real_server, &BTreeSet::new()).map(OwnAddress::to_bind);
        assert!(matches!(found, Ok(None)), "{found:?}");
        // There is no other on that net.
        let found = OwnAddress::towards(real_server, &BTreeSet::from([own]));
        assert!(matches!(found, Err(Failure::OwnAddressIsVip(_))), "{found:?}");
    }
}
