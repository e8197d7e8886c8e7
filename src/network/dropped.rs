//! What interfaces of this network namespace count.

use std::fs;

/// Frames that the interface could not send (`tx_dropped`), since it is there; `None` if that cannot be read.
///
/// From /proc/net, which is of the calling process's own namespace; /sys may be another's.
pub fn tx_dropped(interface: &str) -> Option<u64> {
    // A line for each interface: bytes, packets, errors, drops and four more received, then the same of what was sent.
    const TX_DROPPED: usize = 8 + 3;
    let table = fs::read_to_string("/proc/thread-self/net/dev").ok()?;
    let counts = table.lines().find_map(|line| line.trim_start().strip_prefix(interface)?.strip_prefix(':'))?;
    counts.split_whitespace().nth(TX_DROPPED)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_a_count_and_an_unknown_interface_none() {
        assert!(tx_dropped("lo").is_some());
        assert_eq!(tx_dropped("l"), None);
    }
}
