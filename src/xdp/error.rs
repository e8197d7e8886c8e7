//! Why the program could not be loaded, attached or changed.

use std::io;

/// What can go wrong with the XDP program. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum XdpError {
    /// The process lacks capabilities (capabilities(7)).
    #[error("{action} needs {missing}, which this process does not have: run it as root, or give it the capability")]
    MissingCapability {
        /// What was refused.
        action: &'static str,
        /// Names of the capabilities that are missing.
        missing: String,
    },
    /// The kernel refuses although the capabilities are there.
    #[error(
        "the kernel does not permit to {action} although the capabilities are there: in a user namespace or container \
         they do not count for BPF; run outside of it"
    )]
    NotPermitted {
        /// What was refused.
        action: &'static str,
    },
    /// The kernel was built without something that is needed.
    #[error("this kernel has no {what}; use one built with {option}=y, as Linux 6.1 or newer of any distribution is")]
    KernelLacks {
        /// What it lacks.
        what: &'static str,
        /// The option that it is built with.
        option: &'static str,
    },
    /// The kernel refused the program.
    #[error("the kernel refused the XDP program; its reasons are in the log at level debug under libbpf")]
    Load(#[source] libbpf_rs::Error),
    /// There is no such interface in this network namespace.
    #[error("there is no interface {interface} in this network namespace; ip link shows those that are there")]
    NoSuchInterface {
        /// The interface.
        interface: String,
    },
    /// Another XDP program is on the interface. It is never replaced.
    #[error(
        "{interface} already has the XDP program {} ({mode} mode), which is not replaced: stop the process that \
         attached it (bpftool link show), or, if it is attached without a link, ip link set dev {interface} xdp off",
        name_and_id(.program_name.as_deref(), *.program_id)
    )]
    Occupied {
        /// The interface.
        interface: String,
        /// The program's name as the kernel keeps it, up to 15 bytes, if it tells: it wants CAP_SYS_ADMIN.
        program_name: Option<String>,
        /// The kernel's number of the program.
        program_id: u32,
        /// `native`, `generic` or `offloaded`.
        mode: &'static str,
    },
    /// The kernel says EBUSY, but no program is to be seen.
    #[error("{interface} is busy: another process is just attaching or detaching an XDP program; try again")]
    Busy {
        /// The interface.
        interface: String,
    },
    /// The program could not be attached.
    #[error("the XDP program cannot be attached to {interface} in {mode} mode: {cause}{hint}")]
    Attach {
        /// The interface.
        interface: String,
        /// `native` or `generic`.
        mode: &'static str,
        /// The kernel's answer.
        cause: io::Error,
        /// What this answer mostly means: empty, or beginning with a space.
        hint: &'static str,
    },
    /// The programs of an interface could not be listed.
    #[error("cannot ask the kernel for the XDP programs of {interface}")]
    Query {
        /// The interface.
        interface: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// More local MAC addresses than the program has room for.
    #[error("{count} MAC addresses for one interface are too many; the XDP program has room for 8")]
    TooManyLocalMacs {
        /// How many were given.
        count: usize,
    },
    /// More VIPs than the program has room for.
    #[error("too many virtual IP addresses; the XDP program has room for {limit}")]
    TooManyVips {
        /// How many there can be.
        limit: usize,
    },
    /// More services than the program has room for.
    #[error("too many virtual services; the XDP program has room for {limit}")]
    TooManyServices {
        /// How many there can be.
        limit: usize,
    },
    /// A queue number beyond the program's table of sockets.
    #[error("receive queue {queue} is out of range; the XDP program has room for sockets of queues 0 to 1023")]
    QueueOutOfRange {
        /// The queue.
        queue: u32,
    },
    /// A map of the program could not be read or written.
    #[error("the XDP program is loaded, but cannot {action}")]
    Map {
        /// What could not be done.
        action: &'static str,
        /// The kernel's answer.
        source: libbpf_rs::Error,
    },
    /// The program could not be run on a frame of a test.
    #[error("BPF_PROG_TEST_RUN with a frame of {length} bytes")]
    TestRun {
        /// Length of the frame.
        length: usize,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// Whether the process may load and attach the program at all; asked first, it gives the clearest answer.
///
/// # Errors
/// [`XdpError::MissingCapability`].
pub fn require_capabilities() -> Result<(), XdpError> {
    let missing = missing_capabilities();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(XdpError::MissingCapability { action: "attaching an XDP program", missing })
    }
}

impl XdpError {
    /// The error for EPERM on `action`.
    pub(super) fn not_permitted(action: &'static str) -> Self {
        let missing = missing_capabilities();
        if missing.is_empty() { Self::NotPermitted { action } } else { Self::MissingCapability { action, missing } }
    }
}

fn name_and_id(name: Option<&str>, id: u32) -> String {
    match name {
        Some(name) => format!("{name:?}, number {id}"),
        None => format!("number {id}"),
    }
}

/// Numbers in linux/capability.h of what loading and attaching need, and of what stands in for it.
const NEEDED: [(&str, u32, Option<u32>); 3] = [
    ("CAP_NET_ADMIN", 12, None),
    ("CAP_BPF", 39, Some(CAP_SYS_ADMIN)),
    // The verifier wants it for pointer arithmetic, and the tracepoint for itself.
    ("CAP_PERFMON", 38, Some(CAP_SYS_ADMIN)),
];
const CAP_SYS_ADMIN: u32 = 21;

fn missing_capabilities() -> String {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    missing_in(effective_capabilities(&status).unwrap_or(u64::MAX)).join(", ")
}

/// The line `CapEff` of /proc/PID/status (proc(5)): a bit for each capability by its number.
pub fn effective_capabilities(status: &str) -> Option<u64> {
    let hex = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(hex.trim(), 16).ok()
}

/// Names of the capabilities that loading and attaching need and that are not among the `effective` ones.
pub fn missing_in(effective: u64) -> Vec<&'static str> {
    let has = |capability: u32| effective >> capability & 1 == 1;
    NEEDED
        .iter()
        .filter(|(_, own, stand_in)| !has(*own) && !stand_in.is_some_and(has))
        .map(|(name, _, _)| *name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_capabilities_are_named() {
        let bit = |n: u32| 1_u64 << n;
        for (effective, missing) in [
            (0, "CAP_NET_ADMIN, CAP_BPF, CAP_PERFMON"),
            (bit(12), "CAP_BPF, CAP_PERFMON"),
            (bit(12) | bit(39), "CAP_PERFMON"),
            (bit(21), "CAP_NET_ADMIN"),
            (bit(12) | bit(21), ""),
            (bit(12) | bit(38) | bit(39), ""),
        ] {
            assert_eq!(missing_in(effective).join(", "), missing, "{effective:x}");
        }
    }

    #[test]
    fn effective_capabilities_are_read_from_the_status() {
        assert_eq!(effective_capabilities("Name:\tx\nCapEff:\t000001fffeffffff\nCapBnd:\t0\n"), Some(0x1ff_feff_ffff));
        assert_eq!(effective_capabilities("Name:\tx\n"), None);
    }
}
