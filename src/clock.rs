#![allow(unsafe_code, reason = "the time-stamp counter is read by an intrinsic")]
//! The two clocks of the data path. Both are read per burst or per turn, never per packet.

use nix::time::{ClockId, clock_gettime};

/// CLOCK_MONOTONIC in nanoseconds: the clock of the XDP program's stamps. About 25 ns, without a system call.
#[inline]
pub fn monotonic_ns() -> u64 {
    // The clock exists on every Linux, so 0 is never seen.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| {
        u64::try_from(time.tv_sec()).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec()).unwrap_or(0)
    })
}

/// CLOCK_MONOTONIC in seconds, the coarse time of flow tables. It wraps after 136 years of running.
pub fn monotonic_s() -> u32 {
    to_seconds(monotonic_ns())
}

/// Nanoseconds as seconds of the coarse time.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "coarse time is compared modulo its range")]
pub fn to_seconds(ns: u64) -> u32 {
    (ns / 1_000_000_000) as u32
}

/// A fast counter of time in units of its own: the time-stamp counter, or nanoseconds where there is none.
#[inline]
pub fn cycles() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: every x86-64 processor has the instruction; it reads a register and touches no memory.
        unsafe { std::arch::x86_64::_rdtsc() }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        monotonic_ns()
    }
}
