//! Which worker polls which queues: planned before anything is opened.

use std::collections::BTreeMap;
use std::time::Duration;

use super::DirectorError;
use crate::config::{CopyMode, InterfaceConfig, PollMode, Queues};
use crate::port::xsk::{BindMode, STAMP_HEADROOM};
use crate::worker::IdlePolicy;

/// Bytes in front of a received frame: the kernel's headroom and the stamp.
const HEADROOM: u32 = 256 + STAMP_HEADROOM;
/// Ethernet header and two tags, in front of a packet of the size of the MTU.
const LINK_HEADERS: u32 = 14 + 2 * 4;

/// An interface as it was found.
#[derive(Clone, Debug)]
pub struct InterfaceFacts {
    /// The kernel's number of it.
    pub index: u32,
    /// Its queues.
    pub queues: u32,
    /// Its MTU.
    pub mtu: u32,
    /// Whether the program is attached in generic mode, which has no zero copy.
    pub generic: bool,
}

/// One queue of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLayout {
    /// Position of the interface in the configuration.
    pub interface: usize,
    /// Number of the interface's queue.
    pub queue: u32,
}

/// What one worker is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerLayout {
    /// The CPU that it is pinned to.
    pub core: usize,
    /// Its queues.
    pub queues: Vec<QueueLayout>,
}

impl WorkerLayout {
    /// For each queue and each interface the queue to send by: the same one on the way back, else the worker's first of
    /// that interface.
    pub fn egress_queues(&self, interfaces: usize) -> Vec<Vec<Option<usize>>> {
        let first_of = |interface| self.queues.iter().position(|queue| queue.interface == interface);
        (0..self.queues.len())
            .map(|own| {
                (0..interfaces)
                    .map(|egress| if self.queues[own].interface == egress { Some(own) } else { first_of(egress) })
                    .collect()
            })
            .collect()
    }

    /// The interfaces that the worker has a queue of.
    pub fn interfaces<'a>(&self, all: &'a [InterfaceConfig]) -> Vec<&'a InterfaceConfig> {
        let mut positions: Vec<usize> = self.queues.iter().map(|queue| queue.interface).collect();
        positions.dedup();
        positions.into_iter().filter_map(|position| all.get(position)).collect()
    }
}

/// Distributes the queues of all interfaces over workers, one for each core that is used.
///
/// Queue by queue of an interface goes to its `cores` in turn; without any, to the CPUs that the process may use but the
/// first, and to that one last. An interface that only sends gives each worker one queue.
///
/// # Errors
/// A queue that the interface does not have, or too few of them.
pub fn workers(
    interfaces: &[InterfaceConfig],
    facts: &[InterfaceFacts],
    available_cores: &[usize],
    online_cores: &[usize],
) -> Result<Vec<WorkerLayout>, DirectorError> {
    let automatic = automatic_cores(available_cores);
    let mut by_core: BTreeMap<usize, Vec<QueueLayout>> = BTreeMap::new();
    for (position, (interface, facts)) in interfaces.iter().zip(facts).enumerate().filter(|(_, (i, _))| i.receive) {
        let cores = if interface.cores.is_empty() { &automatic } else { &interface.cores };
        if let Some(core) = cores.iter().find(|core| !online_cores.contains(core)) {
            return Err(DirectorError::NoSuchCore {
                interface: interface.name.clone(),
                core: *core,
                online: list(online_cores),
            });
        }
        for (queue, core) in queues_of(interface, facts)?.into_iter().zip(cores.iter().cycle()) {
            by_core.entry(*core).or_default().push(QueueLayout { interface: position, queue });
        }
    }
    let mut workers: Vec<WorkerLayout> =
        by_core.into_iter().map(|(core, queues)| WorkerLayout { core, queues }).collect();
    for (position, (interface, facts)) in interfaces.iter().zip(facts).enumerate().filter(|(_, (i, _))| !i.receive) {
        let queues = queues_of(interface, facts)?;
        if queues.len() < workers.len() {
            return Err(DirectorError::TooFewSendQueues {
                interface: interface.name.clone(),
                queues: queues.len(),
                workers: workers.len(),
            });
        }
        for (worker, queue) in workers.iter_mut().zip(queues) {
            worker.queues.push(QueueLayout { interface: position, queue });
        }
    }
    Ok(workers)
}

/// Bytes of a frame that holds a packet of the interface's MTU.
///
/// # Errors
/// The MTU is too large for one frame.
pub fn frame_size(interface: &InterfaceConfig, facts: &InterfaceFacts) -> Result<u32, DirectorError> {
    let needed = facts.mtu.saturating_add(LINK_HEADERS + HEADROOM);
    match interface.frame_size.bytes() {
        Some(bytes) => Ok(bytes),
        None if needed <= 2048 => Ok(2048),
        None if needed <= 4096 => Ok(4096),
        None => Err(DirectorError::MtuTooLarge {
            interface: interface.name.clone(),
            mtu: facts.mtu,
            largest: 4096 - LINK_HEADERS - HEADROOM,
        }),
    }
}

/// How a worker with queues of these interfaces binds them: one memory, one mode.
pub fn bind_mode(interfaces: &[&InterfaceConfig], generic: bool) -> BindMode {
    let any = |mode| interfaces.iter().any(|interface| interface.copy == mode);
    if any(CopyMode::ZeroCopy) {
        BindMode::ZeroCopy
    } else if generic || any(CopyMode::Copy) {
        BindMode::Copy
    } else {
        BindMode::Auto
    }
}

/// What a worker with queues of these interfaces does when idle: it spins if one of them says so.
pub fn idle_policy(interfaces: &[&InterfaceConfig]) -> IdlePolicy {
    if interfaces.iter().any(|interface| interface.poll == PollMode::Busy) {
        IdlePolicy::Spin
    } else {
        IdlePolicy::SleepAfter(interfaces.iter().map(|interface| interface.idle_spin).max().unwrap_or(Duration::ZERO))
    }
}

fn automatic_cores(available: &[usize]) -> Vec<usize> {
    let mut cores = available.to_vec();
    if !cores.is_empty() {
        cores.rotate_left(1);
    }
    cores
}

fn queues_of(interface: &InterfaceConfig, facts: &InterfaceFacts) -> Result<Vec<u32>, DirectorError> {
    match &interface.queues {
        Queues::All => Ok((0..facts.queues).collect()),
        Queues::List(queues) => match queues.iter().find(|queue| **queue >= facts.queues) {
            Some(queue) => Err(DirectorError::NoSuchQueue {
                interface: interface.name.clone(),
                queue: *queue,
                queues: facts.queues,
            }),
            None => Ok(queues.clone()),
        },
    }
}

fn list(numbers: &[usize]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(queues: u32) -> InterfaceFacts {
        InterfaceFacts { index: 1, queues, mtu: 1500, generic: false }
    }

    fn queue(interface: usize, queue: u32) -> QueueLayout {
        QueueLayout { interface, queue }
    }

    #[test]
    fn queues_go_round_the_cores_and_the_first_cpu_comes_last() {
        let eth0 = InterfaceConfig::named("eth0");
        let laid_out = workers(std::slice::from_ref(&eth0), &[facts(3)], &[0, 1], &[0, 1]).unwrap();
        assert_eq!(
            laid_out,
            [
                WorkerLayout { core: 0, queues: vec![queue(0, 1)] },
                WorkerLayout { core: 1, queues: vec![queue(0, 0), queue(0, 2)] },
            ]
        );
        let pinned = InterfaceConfig { cores: vec![0], ..eth0 };
        let laid_out = workers(&[pinned], &[facts(2)], &[0, 1], &[0, 1]).unwrap();
        assert_eq!(laid_out, [WorkerLayout { core: 0, queues: vec![queue(0, 0), queue(0, 1)] }]);
    }

    #[test]
    fn both_arms_of_a_queue_are_one_workers() {
        let arms = [InterfaceConfig::named("eth0"), InterfaceConfig::named("eth1")];
        let laid_out = workers(&arms, &[facts(2), facts(2)], &[0, 1, 2, 3], &[0, 1, 2, 3]).unwrap();
        assert_eq!(laid_out[0].queues, [queue(0, 0), queue(1, 0)]);
        assert_eq!(laid_out[0].egress_queues(2), [[Some(0), Some(1)], [Some(0), Some(1)]]);
    }

    #[test]
    fn an_interface_that_only_sends_gives_each_worker_a_queue() {
        let arms =
            [InterfaceConfig::named("eth0"), InterfaceConfig { receive: false, ..InterfaceConfig::named("eth1") }];
        let laid_out = workers(&arms, &[facts(2), facts(2)], &[0, 1, 2], &[0, 1, 2]).unwrap();
        assert_eq!(laid_out[1].queues, [queue(0, 1), queue(1, 1)]);
        let error = workers(&arms, &[facts(2), facts(1)], &[0, 1, 2], &[0, 1, 2]).unwrap_err();
        assert!(matches!(error, DirectorError::TooFewSendQueues { queues: 1, workers: 2, .. }), "{error}");
    }

    #[test]
    fn what_is_not_there_is_refused() {
        let listed = InterfaceConfig { queues: Queues::List(vec![0, 4]), ..InterfaceConfig::named("eth0") };
        let error = workers(&[listed], &[facts(4)], &[0], &[0]).unwrap_err();
        assert!(matches!(error, DirectorError::NoSuchQueue { queue: 4, .. }), "{error}");
        let pinned = InterfaceConfig { cores: vec![7], ..InterfaceConfig::named("eth0") };
        let error = workers(&[pinned], &[facts(1)], &[0, 1], &[0, 1]).unwrap_err();
        assert!(matches!(error, DirectorError::NoSuchCore { core: 7, .. }), "{error}");
    }

    #[test]
    fn frames_hold_the_mtu_or_the_error_says_which_would_fit() {
        let eth0 = InterfaceConfig::named("eth0");
        let of = |mtu| frame_size(&eth0, &InterfaceFacts { mtu, ..facts(1) });
        assert_eq!(of(1500).unwrap(), 2048);
        assert_eq!(of(3000).unwrap(), 4096);
        assert_eq!(of(3802).unwrap(), 4096);
        assert!(matches!(of(3803).unwrap_err(), DirectorError::MtuTooLarge { largest: 3802, .. }));
    }
}
