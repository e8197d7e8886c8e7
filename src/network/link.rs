//! Interfaces as the kernel lists them.

use netlink_packet_core::{NlaBuffer, NlasIterator, parse_string, parse_u16, parse_u32};
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkFlags, LinkHeader, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::NetworkError;
use super::netlink::{Ask, Requester};
use crate::wire::MacAddress;

// include/uapi/linux/if_link.h
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_VLAN_ID: u16 = 1;
/// Size of `struct ifinfomsg`, in front of the attributes.
const HEADER_BYTES: usize = 16;

/// One network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number for it; never used again while the system runs.
    pub index: u32,
    /// Its name, as in `ip link`.
    pub name: String,
    /// Its hardware address; all zero where it has none of six bytes (loopback, tunnels).
    pub mac: MacAddress,
    /// Largest layer-3 packet in bytes, without the Ethernet header.
    pub mtu: u32,
    /// Whether frames can pass: set up by the administrator, with carrier, and operational.
    pub up: bool,
    /// The interface below a VLAN or macvlan interface, if it is in this network namespace.
    pub parent: Option<u32>,
    /// The bridge, bond or team that it is a port of.
    pub controller: Option<u32>,
    /// The kernel's name for its kind, such as `vlan`, `veth` or `bridge`; none for most physical interfaces.
    pub kind: Option<String>,
    /// The VLAN id (IEEE 802.1Q) of a VLAN interface.
    pub vlan_id: Option<u16>,
}

/// All interfaces of this network namespace, in the kernel's order.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn links() -> Result<Vec<Link>, NetworkError> {
    read_links(&mut Requester::open()?)
}

/// The interface called `name`.
///
/// # Errors
/// [`NetworkError::NoSuchLink`] with the names that there are, or a failure to ask the kernel.
pub fn link_by_name(name: &str) -> Result<Link, NetworkError> {
    let links = links()?;
    match links.iter().find(|link| link.name == name) {
        Some(link) => Ok(link.clone()),
        None => Err(NetworkError::NoSuchLink {
            name: name.to_owned(),
            present: links.into_iter().map(|link| link.name).collect(),
        }),
    }
}

/// As [`links`], over a socket that is already open.
pub(super) fn read_links(requester: &mut Requester) -> Result<Vec<Link>, NetworkError> {
    let mut message = LinkMessage::default();
    // Counters of every interface would be most of the answer.
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    requester
        .exchange(&RouteNetlinkMessage::GetLink(message), Ask::Dump, |kind, payload| {
            (kind == libc::RTM_NEWLINK).then(|| parse_link(payload)).flatten()
        })
        .map_err(|source| NetworkError::system("list the network interfaces", source))
}

/// Reads an `RTM_NEWLINK` or `RTM_DELLINK` payload. `None` for what is no statement about an interface as such: a
/// bridge speaks of its ports in the same messages, with another family, also when a port merely leaves it.
///
/// Attributes are picked by hand so that one that a newer kernel shapes differently cannot hide the interface.
pub(super) fn parse_link(payload: &[u8]) -> Option<Link> {
    let header = LinkHeader::parse(payload).ok()?;
    if header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let mut link = Link {
        index: header.index,
        name: String::new(),
        mac: MacAddress::default(),
        mtu: 0,
        up: header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp | LinkFlags::Running),
        parent: None,
        controller: None,
        kind: None,
        vlan_id: None,
    };
    let mut lower = None;
    let mut lower_is_elsewhere = false;
    for attribute in attributes(payload.get(HEADER_BYTES..)?) {
        let value = attribute.value();
        match attribute.kind() {
            IFLA_IFNAME => link.name = parse_string(value).ok()?,
            IFLA_ADDRESS => link.mac = value.try_into().map(MacAddress::new).unwrap_or_default(),
            IFLA_MTU => link.mtu = parse_u32(value).unwrap_or_default(),
            IFLA_MASTER => link.controller = parse_u32(value).ok().filter(|index| *index != 0),
            IFLA_LINK => lower = parse_u32(value).ok().filter(|index| *index != 0),
            IFLA_LINK_NETNSID => lower_is_elsewhere = true,
            IFLA_LINKINFO => read_link_info(value, &mut link),
            _ => {}
        }
    }
    // A veth reports its peer as IFLA_LINK, a tunnel its underlay: neither is below it on the same segment.
    if matches!(link.kind.as_deref(), Some("vlan" | "macvlan")) && !lower_is_elsewhere {
        link.parent = lower;
    }
    Some(link)
}

fn read_link_info(info: &[u8], link: &mut Link) {
    for attribute in attributes(info) {
        match attribute.kind() {
            IFLA_INFO_KIND => link.kind = parse_string(attribute.value()).ok(),
            // The kernel writes the kind first (rtnetlink.c, rtnl_link_info_fill).
            IFLA_INFO_DATA if link.kind.as_deref() == Some("vlan") => {
                link.vlan_id = attributes(attribute.value())
                    .find(|inner| inner.kind() == IFLA_VLAN_ID)
                    .and_then(|inner| parse_u16(inner.value()).ok());
            }
            _ => {}
        }
    }
}

fn attributes(bytes: &[u8]) -> impl Iterator<Item = NlaBuffer<&[u8]>> {
    NlasIterator::new(bytes).map_while(Result::ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(4 + value.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn message(family: u8, flags: u32, attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = vec![family, 0, 1, 0];
        bytes.extend(7u32.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(attributes.concat());
        bytes
    }

    fn vlan_message() -> Vec<u8> {
        let data = attribute(IFLA_VLAN_ID, &100u16.to_ne_bytes());
        let info = [attribute(IFLA_INFO_KIND, b"vlan\0"), attribute(IFLA_INFO_DATA, &data)].concat();
        message(
            0,
            0x1_0041,
            &[
                attribute(IFLA_IFNAME, b"eth0.100\0"),
                attribute(IFLA_MTU, &1500u32.to_ne_bytes()),
                attribute(IFLA_LINK, &2u32.to_ne_bytes()),
                attribute(IFLA_ADDRESS, &[2, 0, 0, 0, 1, 0]),
                attribute(IFLA_LINKINFO, &info),
            ],
        )
    }

    #[test]
    fn a_vlan_interface_has_a_parent_and_an_id() {
        let link = parse_link(&vlan_message()).unwrap();
        assert_eq!(
            link,
            Link {
                index: 7,
                name: "eth0.100".into(),
                mac: MacAddress::new([2, 0, 0, 0, 1, 0]),
                mtu: 1500,
                up: true,
                parent: Some(2),
                controller: None,
                kind: Some("vlan".into()),
                vlan_id: Some(100),
            }
        );
    }

    #[test]
    fn a_lower_interface_counts_only_where_it_is_below() {
        for (kind, elsewhere, parent) in
            [("vlan", false, Some(2)), ("vlan", true, None), ("macvlan", false, Some(2)), ("veth", false, None)]
        {
            let mut attributes = vec![
                attribute(IFLA_LINK, &2u32.to_ne_bytes()),
                attribute(IFLA_LINKINFO, &attribute(IFLA_INFO_KIND, format!("{kind}\0").as_bytes())),
            ];
            if elsewhere {
                attributes.push(attribute(IFLA_LINK_NETNSID, &0u32.to_ne_bytes()));
            }
            assert_eq!(parse_link(&message(0, 0, &attributes)).unwrap().parent, parent, "{kind} {elsewhere}");
        }
    }

    #[test]
    fn up_asks_for_all_three_flags() {
        const UP: u32 = 1;
        const RUNNING: u32 = 0x40;
        const LOWER_UP: u32 = 0x1_0000;
        for (flags, up) in
            [(0, false), (UP, false), (UP | LOWER_UP, false), (UP | RUNNING, false), (UP | RUNNING | LOWER_UP, true)]
        {
            assert_eq!(parse_link(&message(0, flags, &[])).unwrap().up, up, "{flags:#x}");
        }
    }

    #[test]
    fn what_a_bridge_says_of_its_ports_is_not_about_the_link() {
        assert_eq!(parse_link(&message(7, 1, &[attribute(IFLA_IFNAME, b"eth0\0")])), None);
    }

    proptest! {
        #[test]
        fn damaged_messages_are_read_without_panic(at in 0usize..200, byte: u8, length in 0usize..200) {
            let mut bytes = vlan_message();
            if let Some(target) = bytes.get_mut(at) {
                *target = byte;
            }
            bytes.truncate(length);
            let _ = parse_link(&bytes);
        }
    }
}
