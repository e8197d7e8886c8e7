//! What the document says of CPUs: the kernel's share of the work.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One CPU: what the whole machine used it for since it was booted, and what its network softirqs did.
///
/// Times come from /proc/stat, which counts ticks (10 ms, mostly): a softirq or a system call that lies between two ticks
/// is seen by chance, and right on average.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CpuReport {
    /// Its number.
    pub cpu: usize,
    /// User space, in nanoseconds.
    pub user_ns: u64,
    /// User space of programs that gave way (`nice`), in nanoseconds.
    pub nice_ns: u64,
    /// The kernel for programs: system calls, and kernel threads, in nanoseconds.
    pub system_ns: u64,
    /// Nothing, in nanoseconds. The kernel may take some back.
    pub idle_ns: u64,
    /// Nothing, while a program waited for a disk, in nanoseconds. The kernel may take some back.
    pub iowait_ns: u64,
    /// Interrupts, in nanoseconds.
    pub irq_ns: u64,
    /// Softirqs, in nanoseconds.
    pub softirq_ns: u64,
    /// Other virtual machines, in nanoseconds.
    pub steal_ns: u64,
    /// NET_RX softirqs: turns in which the kernel polled NAPIs.
    pub net_rx_softirqs: u64,
    /// NET_TX softirqs.
    pub net_tx_softirqs: u64,
    /// Numbers of the workers that are pinned here.
    pub workers: Vec<usize>,
    /// NAPI polls by interface since the director started; null if they are not measured.
    pub napi: Option<Vec<NapiReport>>,
    /// Nanoseconds of NET_RX and NET_TX softirqs outside of a poll, since the director started; null if that is not
    /// measured.
    pub softirq_outside_napi_ns: Option<u64>,
}

/// NAPI polls of one interface on one CPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NapiReport {
    /// One of the director's interfaces, or empty for all others of the machine together.
    pub interface: String,
    /// Nanoseconds of its polls, without the untimed ones.
    pub ns: u64,
    /// Number of polls.
    pub polls: u64,
    /// Packets that the driver says the polls handled.
    pub packets: u64,
    /// Those of `polls` that came outside of a softirq, of which the beginning is unknown: by threaded NAPI, or by busy
    /// polling from a system call.
    pub untimed_polls: u64,
}

/// What a worker's thread used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CpuTimeReport {
    /// User space, in nanoseconds; to the tick, and divided from `system_ns` by sampling.
    pub user_ns: u64,
    /// The kernel on its behalf, in nanoseconds; as `user_ns`.
    pub system_ns: u64,
    /// Time on a CPU, in nanoseconds, as of the scheduler's last look: a tick ago at most.
    pub run_ns: u64,
    /// Time that it was ready to run and had no CPU, in nanoseconds.
    pub runqueue_wait_ns: u64,
    /// Times that it gave its CPU up, to sleep.
    pub voluntary_switches: u64,
    /// Times that its CPU was taken from it.
    pub involuntary_switches: u64,
}

/// What the time in softirqs is known by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SoftirqMeasuredBy {
    /// Programs on the kernel's tracepoints: each poll, by interface.
    Tracepoints,
    /// /proc/stat and /proc/softirqs alone: of each CPU as a whole.
    #[default]
    Procfs,
}
