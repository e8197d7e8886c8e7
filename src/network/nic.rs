//! What the driver of an interface says, by the ethtool ioctl (include/uapi/linux/ethtool.h).
//!
//! Not by /sys, which shows the network namespace it was mounted in and not the one this thread is in.
#![allow(unsafe_code, reason = "the ethtool ioctl has no safe wrapper; it takes a pointer inside a pointer")]

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::NetworkError;
use super::link::{Link, link_by_name};

const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GLINK: u32 = 0x0a;
pub(super) const ETHTOOL_GTXCSUM: u32 = 0x16;
pub(super) const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
const ETH_FLAG_RXVLAN: u32 = 1 << 8;

/// Facts of one interface that matter to AF_XDP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    /// The driver's name, such as `virtio_net` or `veth`; none where it does not tell.
    pub driver: Option<String>,
    /// Receive queues in use: AF_XDP queue ids run from 0 to this, exclusive.
    pub rx_queues: u32,
    /// Transmit queues in use.
    pub tx_queues: u32,
    /// Whether the link is set up and the driver sees a carrier; none where it does not tell.
    pub carrier: Option<bool>,
    /// Whether the hardware takes 802.1Q tags out of received frames, so that XDP does not see them; none where the
    /// driver does not tell.
    pub rx_vlan_offload: Option<bool>,
}

/// The facts of the interface called `name`.
///
/// # Errors
/// [`NetworkError::NoSuchLink`] with the names that there are, or a failure to open a socket. What a driver does not
/// support is no error.
pub fn nic(name: &str) -> Result<Nic, NetworkError> {
    let link = link_by_name(name)?;
    let driver =
        Driver::open(name).map_err(|source| NetworkError::system(format!("ask the driver of {name}"), source))?;
    let (rx_queues, tx_queues) = driver.queues().unwrap_or_else(|| queues_by_sysfs(&link).unwrap_or((1, 1)));
    Ok(Nic {
        driver: driver.name(),
        rx_queues,
        tx_queues,
        carrier: driver.value(ETHTOOL_GLINK).map(|link| link != 0),
        rx_vlan_offload: driver.value(ETHTOOL_GFLAGS).map(|flags| flags & ETH_FLAG_RXVLAN != 0),
    })
}

/// The queues by /sys/class/net, for drivers without ETHTOOL_GCHANNELS; none where that shows another namespace.
fn queues_by_sysfs(link: &Link) -> Option<(u32, u32)> {
    let directory = format!("/sys/class/net/{}", link.name);
    let index: u32 = fs::read_to_string(format!("{directory}/ifindex")).ok()?.trim().parse().ok()?;
    if index != link.index {
        return None;
    }
    let (mut rx, mut tx) = (0, 0);
    for queue in fs::read_dir(format!("{directory}/queues")).ok()? {
        let name = queue.ok()?.file_name();
        let name = name.to_string_lossy();
        rx += u32::from(name.starts_with("rx-"));
        tx += u32::from(name.starts_with("tx-"));
    }
    (rx > 0 && tx > 0).then_some((rx, tx))
}

/// `struct ethtool_channels`.
#[repr(C)]
#[derive(Default)]
struct Channels {
    command: u32,
    max_rx: u32,
    max_tx: u32,
    max_other: u32,
    max_combined: u32,
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

/// `struct ethtool_drvinfo`.
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    /// version, fw_version, bus_info, erom_version, reserved2 and five counts.
    rest: [u8; 4 * 32 + 12 + 5 * 4],
}

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// A way to ask the driver of one interface.
pub(super) struct Driver {
    socket: OwnedFd,
    name: [libc::c_char; libc::IFNAMSIZ],
}

impl Driver {
    pub(super) fn open(name: &str) -> io::Result<Self> {
        let mut field = [0; libc::IFNAMSIZ];
        // The last byte stays 0; the kernel has no longer names.
        for (to, from) in field.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
            *to = libc::c_char::from_ne_bytes([from]);
        }
        let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        Ok(Self { socket, name: field })
    }

    /// Receive and transmit queues in use: a combined channel is one of each.
    fn queues(&self) -> Option<(u32, u32)> {
        let mut channels = Channels { command: ETHTOOL_GCHANNELS, ..Channels::default() };
        // SAFETY: `Channels` is laid out as struct ethtool_channels, which is what ETHTOOL_GCHANNELS fills in.
        unsafe { self.ask(&mut channels) }.ok()?;
        let (rx, tx) = (channels.combined.checked_add(channels.rx)?, channels.combined.checked_add(channels.tx)?);
        (rx > 0 && tx > 0).then_some((rx, tx))
    }

    fn name(&self) -> Option<String> {
        let mut info = DriverInfo { command: ETHTOOL_GDRVINFO, driver: [0; 32], rest: [0; 4 * 32 + 12 + 5 * 4] };
        // SAFETY: `DriverInfo` is laid out as struct ethtool_drvinfo, which is what ETHTOOL_GDRVINFO fills in.
        unsafe { self.ask(&mut info) }.ok()?;
        let name = CStr::from_bytes_until_nul(&info.driver).ok()?.to_str().ok()?;
        (!name.is_empty()).then(|| name.to_owned())
    }

    /// The answer to a `command` that takes a struct ethtool_value: ETHTOOL_GLINK, ETHTOOL_GTXCSUM or ETHTOOL_GFLAGS.
    pub(super) fn value(&self, command: u32) -> Option<u32> {
        debug_assert!(matches!(command, ETHTOOL_GLINK | ETHTOOL_GTXCSUM | ETHTOOL_GFLAGS));
        let mut value = Value { command, data: 0 };
        // SAFETY: `Value` is laid out as struct ethtool_value, which is what these commands fill in.
        unsafe { self.ask(&mut value) }.ok()?;
        Some(value.data)
    }

    /// # Safety
    /// `T` is the structure (`repr(C)`) that the ethtool command in its first four bytes reads and writes; the kernel
    /// writes as many bytes as that structure has.
    pub(super) unsafe fn ask<T>(&self, request: &mut T) -> io::Result<()> {
        let mut interface = libc::ifreq {
            ifr_name: self.name,
            ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: std::ptr::from_mut(request).cast() },
        };
        // SAFETY: the socket is open; `interface` is a whole struct ifreq with a name that ends in 0, and its data
        // pointer is to `request`, borrowed mutably for the call, of the size the command needs (the caller's promise).
        // The kernel keeps neither pointer.
        let status = unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut interface) };
        if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_kernels_sizes() {
        assert_eq!(size_of::<Channels>(), 36);
        assert_eq!(size_of::<DriverInfo>(), 196);
        assert_eq!(size_of::<Value>(), 8);
    }

    #[test]
    fn the_loopback_interface_has_a_queue() {
        let lo = nic("lo").unwrap();
        assert!(lo.rx_queues >= 1 && lo.tx_queues >= 1, "{lo:?}");
    }

    #[test]
    fn a_missing_interface_is_told_with_those_there_are() {
        let error = nic("nosuch0").unwrap_err().to_string();
        assert!(error.contains("\"nosuch0\"") && error.contains("lo"), "{error}");
    }
}
