//! One interface on which VIPs are answered for: its sockets, and what is taken in for them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv6Addr, UdpSocket};
use std::time::Instant;

use super::answer::Macs;
use super::rate::Bucket;
use crate::network::{NetworkError, PacketSocket};
use crate::wire::{MacAddress, arp, ethernet, ndp};

/// Pings that are answered in a second on an interface.
const PINGS_PER_SECOND: u32 = 1_000;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// Where the protocol stands in a frame: of IPv4, and of IPv6.
const PROTOCOL_AT: [u32; 2] = [23, 20];

/// An interface on which VIPs are to be answered for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The interface.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its own MAC address.
    pub mac: MacAddress,
    /// The MAC address that is announced in place of its own, if any.
    pub virtual_mac: Option<MacAddress>,
    /// Whether frames can pass.
    pub up: bool,
}

impl Place {
    /// The MAC address that VIPs are said to be at.
    pub fn announced(&self) -> MacAddress {
        self.virtual_mac.unwrap_or(self.mac)
    }
}

/// The sockets of one interface. All that was taken in for them goes with them.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) place: Place,
    pub(super) macs: Macs,
    pub(super) pings: Bucket,
    /// ARP, IPv4 and IPv6.
    pub(super) sockets: [PacketSocket; 3],
    /// Joins groups in the kernel's name, which so tells switches that snoop (MLD, RFC 3810).
    member: Option<UdpSocket>,
    /// How many VIPs each group is joined for.
    groups: BTreeMap<Ipv6Addr, usize>,
    virtual_mac: Option<MacAddress>,
}

impl Segment {
    pub(super) fn open(place: &Place, own: &[MacAddress]) -> Result<Self, NetworkError> {
        let open = |ether_type| PacketSocket::open(place.index, ether_type);
        let sockets = [open(arp::ETHER_TYPE)?, open(ethernet::IPV4)?, open(ethernet::IPV6)?];
        for (socket, (at, protocol)) in sockets[1..].iter().zip(PROTOCOL_AT.into_iter().zip([ICMP, ICMPV6])) {
            socket.only_where(at, protocol).map_err(|source| NetworkError::System {
                action: format!("have the kernel filter frames of {}", place.name),
                source,
            })?;
        }
        Ok(Self {
            place: place.clone(),
            macs: Macs { announced: place.announced(), interface: place.mac, own: own.to_vec() },
            pings: Bucket::new(PINGS_PER_SECOND, Instant::now()),
            sockets,
            // Without IPv6 in the kernel the packet socket's membership is all that is needed.
            member: UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).ok(),
            groups: BTreeMap::new(),
            virtual_mac: None,
        })
    }

    /// Has frames taken in that are for `vips`: to the groups that IPv6 ones are asked for by, and to the virtual MAC
    /// address.
    pub(super) fn take_in_for(&mut self, vips: &BTreeSet<IpAddr>) {
        let mut wanted: BTreeMap<Ipv6Addr, usize> = BTreeMap::new();
        for vip in vips {
            if let IpAddr::V6(vip) = vip {
                *wanted.entry(ndp::solicited_node(*vip)).or_default() += 1;
            }
        }
        for group in wanted.keys().filter(|group| !self.groups.contains_key(group)) {
            self.complain("join a group", self.sockets[2].join(ndp::group_mac(*group)));
            if let Some(member) = &self.member
                && let Err(error) = member.join_multicast_v6(group, self.place.index)
            {
                tracing::debug!(interface = self.place.name, %group, %error, "the kernel does not join for us");
            }
        }
        for group in self.groups.keys().filter(|group| !wanted.contains_key(group)) {
            self.complain("leave a group", self.sockets[2].leave(ndp::group_mac(*group)));
            if let Some(member) = &self.member {
                let _ = member.leave_multicast_v6(group, self.place.index);
            }
        }
        self.groups = wanted;
        let virtual_mac = self.place.virtual_mac.filter(|_| !vips.is_empty());
        if virtual_mac != self.virtual_mac {
            let left = self.virtual_mac.map_or(Ok(()), |mac| self.sockets[0].leave(mac));
            self.complain("stop taking in frames to a virtual MAC address", left);
            let joined = virtual_mac.map_or(Ok(()), |mac| self.sockets[0].join(mac));
            self.complain("take in frames to a virtual MAC address", joined);
            self.virtual_mac = virtual_mac;
        }
    }

    fn complain(&self, action: &str, result: io::Result<()>) {
        if let Err(error) = result {
            tracing::warn!(interface = self.place.name, %error, "cannot {action}");
        }
    }

    /// Tells all stations where a VIP is.
    pub(super) fn announce(&self, vip: IpAddr) -> io::Result<()> {
        let mac = self.macs.announced;
        match vip {
            IpAddr::V4(vip) => self.sockets[0].send(&arp::announcement(mac, vip)),
            IpAddr::V6(vip) => self.sockets[2].send(&ndp::advertisement(mac, vip, None)),
        }
    }
}
