//! Timing the kernel's network softirqs by the interfaces that they poll (`bpf/softirq.bpf.c`).

use libbpf_rs::{Link, MapCore, MapFlags, MapHandle};

use super::abi::MAX_NAPI_INTERFACES;
use crate::xdp::{XdpError, object};

/// Programs on the kernel's tracepoints of softirqs and of NAPI polls. Dropping it detaches them.
///
/// They see all of the machine's network softirqs from the moment on that they are attached.
#[derive(Debug)]
pub struct SoftirqWatch {
    _links: [Link; 3],
    polls: MapHandle,
    softirqs: MapHandle,
    interfaces: usize,
}

/// Polls of one interface, or of all that are not watched, on one CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NapiPolls {
    /// Nanoseconds of all polls but the untimed ones.
    pub ns: u64,
    /// Number of polls.
    pub polls: u64,
    /// Packets that the polls say they handled.
    pub packets: u64,
    /// Those of `polls` that came outside of a softirq: by threaded NAPI or by busy polling.
    pub untimed_polls: u64,
}

/// Network softirqs of one CPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SoftirqOfCpu {
    /// The CPU.
    pub cpu: usize,
    /// Polls of all interfaces that are not watched.
    pub others: NapiPolls,
    /// Polls of each watched interface, in the order that they were named in.
    pub interfaces: Vec<NapiPolls>,
    /// Nanoseconds of NET_RX and NET_TX softirqs outside of polls.
    pub outside_ns: u64,
}

impl SoftirqWatch {
    /// Begins to measure. The interfaces are those of these indices in the network namespace whose inode number is
    /// `namespace`; of more than 64 the rest counts as others.
    ///
    /// # Errors
    /// Why that is not possible, in words: the process lacks CAP_PERFMON or CAP_BPF, or the kernel its type information.
    pub fn start(namespace: u32, indices: &[u32]) -> Result<Self, String> {
        Self::attach(namespace, indices)
            .map_err(|error| format!("the kernel's tracepoints of softirqs and NAPI cannot be used: {error:#}"))
    }

    fn attach(namespace: u32, indices: &[u32]) -> Result<Self, libbpf_rs::Error> {
        let object = object::load_softirq()?;
        let interfaces = object::map(&object, "interfaces")?;
        for (slot, index) in (1..=MAX_NAPI_INTERFACES).zip(indices) {
            let mut key = [0; 8];
            key[..4].copy_from_slice(&index.to_ne_bytes());
            key[4..].copy_from_slice(&namespace.to_ne_bytes());
            interfaces.update(&key, &slot.to_ne_bytes(), MapFlags::ANY)?;
        }
        Ok(Self {
            polls: object::map(&object, "polls")?,
            softirqs: object::map(&object, "softirqs")?,
            interfaces: indices.len(),
            _links: [
                object::program(&object, "napi_polled")?.attach_trace()?,
                object::program(&object, "softirq_ends")?.attach_raw_tracepoint("softirq_exit")?,
                object::program(&object, "softirq_begins")?.attach_raw_tracepoint("softirq_entry")?,
            ],
        })
    }

    /// What was measured so far on each CPU that the machine may have.
    ///
    /// # Errors
    /// [`XdpError::Map`].
    pub fn read(&self) -> Result<Vec<SoftirqOfCpu>, XdpError> {
        // Fields of `struct softirq_time`.
        let mut cpus: Vec<SoftirqOfCpu> = per_cpu::<2>(&self.softirqs, 0)?
            .into_iter()
            .enumerate()
            .map(|(cpu, [_, outside_ns])| SoftirqOfCpu {
                cpu,
                outside_ns,
                others: NapiPolls::default(),
                interfaces: vec![NapiPolls::default(); self.interfaces],
            })
            .collect();
        for (slot, interface) in (0..=MAX_NAPI_INTERFACES).zip(0..=self.interfaces) {
            for (of_cpu, [ns, polls, packets, untimed_polls]) in cpus.iter_mut().zip(per_cpu(&self.polls, slot)?) {
                let read = NapiPolls { ns, polls, packets, untimed_polls };
                match interface.checked_sub(1).and_then(|position| of_cpu.interfaces.get_mut(position)) {
                    Some(polls) => *polls = read,
                    None => of_cpu.others = read,
                }
            }
        }
        Ok(cpus)
    }
}

/// Entry `key` of a per-CPU array of `N` numbers of 64 bits, by CPU.
fn per_cpu<const N: usize>(map: &MapHandle, key: u32) -> Result<Vec<[u64; N]>, XdpError> {
    let values = map
        .lookup_percpu(&key.to_ne_bytes(), MapFlags::ANY)
        .map_err(|source| XdpError::Map { action: "read the times of softirqs", source })?;
    let numbers = |value: &Vec<u8>| {
        let mut numbers = [0; N];
        for (number, bytes) in numbers.iter_mut().zip(value.as_chunks::<8>().0) {
            *number = u64::from_ne_bytes(*bytes);
        }
        numbers
    };
    Ok(values.iter().flatten().map(numbers).collect())
}
