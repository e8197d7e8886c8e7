//! How an interface is tuned, by the ethtool ioctl: ring sizes, offloads and the spread of received frames.
#![allow(unsafe_code, reason = "each structure is vouched for towards the ethtool ioctl")]

use super::NetworkError;
use super::nic::{Driver, ETHTOOL_GFLAGS, ETHTOOL_GTXCSUM};

const ETHTOOL_GRINGPARAM: u32 = 0x10;
const ETHTOOL_GRXFHINDIR: u32 = 0x38;
const ETH_FLAG_LRO: u32 = 1 << 15;
/// More entries than the indirection table of any NIC has.
const MAX_RSS_ENTRIES: usize = 4096;

/// Settings of one interface that can be changed with ethtool. None where its driver does not tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tuning {
    /// Descriptors of each receive ring.
    pub rx_ring: Option<RingSize>,
    /// Whether checksums of sent frames are left to the device.
    pub tx_checksum_offload: Option<bool>,
    /// Whether the hardware joins received frames (large receive offload).
    pub lro: Option<bool>,
    /// The queue of each entry of the RSS indirection table.
    pub rss: Option<Vec<u32>>,
}

/// The size of a ring of the NIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingSize {
    /// As it is set.
    pub current: u32,
    /// The most that the driver takes.
    pub most: u32,
}

/// The settings of the interface called `name`; one that does not exist tells nothing.
///
/// # Errors
/// A failure to open a socket.
pub fn tuning(name: &str) -> Result<Tuning, NetworkError> {
    let driver =
        Driver::open(name).map_err(|source| NetworkError::system(format!("ask the driver of {name}"), source))?;
    Ok(Tuning {
        rx_ring: rx_ring(&driver),
        tx_checksum_offload: driver.value(ETHTOOL_GTXCSUM).map(|on| on != 0),
        lro: driver.value(ETHTOOL_GFLAGS).map(|flags| flags & ETH_FLAG_LRO != 0),
        rss: rss(&driver),
    })
}

/// `struct ethtool_ringparam`.
#[repr(C)]
#[derive(Default)]
struct RingParameters {
    command: u32,
    rx_most: u32,
    rx_mini_most: u32,
    rx_jumbo_most: u32,
    tx_most: u32,
    rx: u32,
    rx_mini: u32,
    rx_jumbo: u32,
    tx: u32,
}

/// `struct ethtool_rxfh_indir` with room for its table.
#[repr(C)]
struct Indirection {
    command: u32,
    size: u32,
    queues: [u32; MAX_RSS_ENTRIES],
}

fn rx_ring(driver: &Driver) -> Option<RingSize> {
    let mut rings = RingParameters { command: ETHTOOL_GRINGPARAM, ..RingParameters::default() };
    // SAFETY: `RingParameters` is laid out as struct ethtool_ringparam, which is what ETHTOOL_GRINGPARAM fills in.
    unsafe { driver.ask(&mut rings) }.ok()?;
    (rings.rx > 0).then_some(RingSize { current: rings.rx, most: rings.rx_most })
}

fn rss(driver: &Driver) -> Option<Vec<u32>> {
    let mut table = Indirection { command: ETHTOOL_GRXFHINDIR, size: 0, queues: [0; MAX_RSS_ENTRIES] };
    // SAFETY: `Indirection` begins as struct ethtool_rxfh_indir, of which size 0 has the kernel write the size alone.
    unsafe { driver.ask(&mut table) }.ok()?;
    let entries = usize::try_from(table.size).ok().filter(|entries| (1..=MAX_RSS_ENTRIES).contains(entries))?;
    // SAFETY: the kernel writes as many entries as `size` says, and refuses if that is not the device's own number;
    // there is room for them, as was just looked at.
    unsafe { driver.ask(&mut table) }.ok()?;
    table.queues.get(..entries).map(<[u32]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_kernels_sizes() {
        assert_eq!(size_of::<RingParameters>(), 36);
        assert_eq!(size_of::<Indirection>(), 8 + 4 * MAX_RSS_ENTRIES);
    }

    #[test]
    fn the_loopback_interface_has_no_rings_and_no_spread() {
        let lo = tuning("lo").unwrap();
        assert_eq!((lo.rx_ring, lo.rss), (None, None));
    }
}
