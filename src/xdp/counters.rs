//! What the program counted.

use libbpf_rs::{MapCore, MapFlags, MapHandle};

use crate::xdp::XdpError;
use crate::xdp::redirect_errors::Watch;

/// Frames by what the program did with them, since it was loaded, summed over all CPUs. All but `unstamped` are
/// disjoint, and their sum is the number of frames that the program saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XdpCounters {
    /// Attempts to redirect to an AF_XDP socket.
    pub redirected: u64,
    /// Passed because they are not for a virtual service.
    pub passed: u64,
    /// Passed because of their destination MAC address.
    pub not_our_mac: u64,
    /// Passed because a header is cut short or contradicts itself.
    pub malformed: u64,
    /// For a virtual service, but their queue has no socket; dropped or passed as configured.
    pub no_socket: u64,
    /// Those of `redirected` that carry no stamp of the time of their reception.
    pub unstamped: u64,
}

/// Redirects that the kernel could not complete, since the program was loaded, summed over all CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RedirectErrors {
    /// Those that the socket has counted itself, as `rx_dropped` (no frame in the fill ring, or too long for one) or as
    /// `rx_ring_full`: `__xsk_rcv` in net/xdp/xsk.c, ENOMEM, ENOSPC and ENOBUFS.
    pub counted_by_socket: u64,
    /// All others, which no other counter has: a socket that is not bound, or to another queue or interface.
    pub others: u64,
}

/// Reads the counters of one [`XdpProgram`](crate::xdp::XdpProgram), for as long as it is loaded or longer.
#[derive(Debug)]
pub struct CounterReader {
    counters: MapHandle,
    errors: Result<Watch, String>,
}

impl CounterReader {
    pub(super) fn new(counters: MapHandle, errors: Result<Watch, String>) -> Self {
        Self { counters, errors }
    }

    /// The counters now.
    ///
    /// # Errors
    /// [`XdpError::Map`].
    pub fn read(&self) -> Result<XdpCounters, XdpError> {
        let [redirected, passed, not_our_mac, malformed, no_socket, unstamped] = sum(&self.counters)?;
        Ok(XdpCounters { redirected, passed, not_our_mac, malformed, no_socket, unstamped })
    }

    /// The redirect errors now; `None` if they cannot be measured here.
    ///
    /// # Errors
    /// [`XdpError::Map`].
    pub fn redirect_errors(&self) -> Result<Option<RedirectErrors>, XdpError> {
        let Ok(watch) = &self.errors else { return Ok(None) };
        let [counted_by_socket, others] = sum(watch.errors())?;
        Ok(Some(RedirectErrors { counted_by_socket, others }))
    }

    /// Why redirect errors cannot be measured, in words for the log; `None` if they can.
    pub fn redirect_errors_unavailable(&self) -> Option<&str> {
        self.errors.as_ref().err().map(String::as_str)
    }

    /// Another reader of the same counters, for another thread.
    ///
    /// # Errors
    /// [`XdpError::Map`] if the process has no file descriptor left.
    pub fn try_clone(&self) -> Result<Self, XdpError> {
        let cannot = |source| XdpError::Map { action: "open its counters again", source };
        Ok(Self {
            counters: MapHandle::try_from(&self.counters).map_err(cannot)?,
            errors: match &self.errors {
                Ok(watch) => Ok(watch.try_clone().map_err(cannot)?),
                Err(reason) => Err(reason.clone()),
            },
        })
    }
}

/// The sum over all CPUs of entry 0 of a per-CPU array of `N` counters of 64 bits.
pub(super) fn sum<const N: usize>(map: &MapHandle) -> Result<[u64; N], XdpError> {
    let per_cpu = map
        .lookup_percpu(&0_u32.to_ne_bytes(), MapFlags::ANY)
        .map_err(|source| XdpError::Map { action: "read its counters", source })?;
    let mut sums = [0_u64; N];
    for cpu in per_cpu.iter().flatten() {
        for (sum, bytes) in sums.iter_mut().zip(cpu.as_chunks::<8>().0) {
            *sum = sum.wrapping_add(u64::from_ne_bytes(*bytes));
        }
    }
    Ok(sums)
}
