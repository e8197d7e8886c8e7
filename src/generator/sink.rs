//! The sink: attaches its program, binds sockets, has one thread receive, and reports.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use core_affinity::CoreId;

use super::GeneratorError;
use super::judge::{BYTES_PER_FLOW, Judge};
use super::receiver::{Bounds, Received, Receiver, Seen};
use super::report::{Run, SinkInterface, SinkQueue, SinkReport};
use super::send::per_second;
use crate::clock;
use crate::counters::QueueCounters;
use crate::network::{link_by_name, nic};
use crate::port::Port;
use crate::port::xsk::{self, BindMode, QueuePlan, SocketHandle, XskPlan};
use crate::stats::LatencyReading;
use crate::stats::report::{self, Moment, Traffic};
use crate::wire::MacAddress;
use crate::xdp::{AttachMode, AttachedMode, MarkProgram};

/// Descriptors of an RX ring.
const RX_RING: u32 = 2048;
const FRAME_SIZE: u32 = 2048;
/// How often the thread is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Where to receive, and what to expect.
#[derive(Clone, Debug)]
pub struct SinkPlan {
    /// The interfaces to listen on.
    pub interfaces: Vec<String>,
    /// Their queues; none for all.
    pub queues: Option<Vec<u32>>,
    /// The CPU to pin the thread to.
    pub core: Option<usize>,
    /// MAC addresses of real servers with their names; empty to expect any.
    pub real_servers: Vec<(MacAddress, String)>,
    /// Most flows to remember.
    pub most_flows: usize,
    /// Time after which it ends.
    pub duration: Option<Duration>,
    /// Frames after which it ends.
    pub count: Option<u64>,
    /// It ends so long after the last frame.
    pub quiet: Option<Duration>,
    /// How sockets are bound.
    pub mode: BindMode,
    /// How the XDP program is attached.
    pub attach: AttachMode,
}

/// What was received so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinkProgress {
    /// Time since the start.
    pub elapsed: Duration,
    /// Frames, foreign and damaged ones included.
    pub received: Traffic,
}

/// A sink that is ready: frames wait in its rings.
pub struct Sink {
    plan: SinkPlan,
    interfaces: Vec<Interface>,
    receiver: Receiver,
    warnings: Vec<String>,
}

struct Interface {
    name: String,
    program: MarkProgram,
    queues: Vec<Queue>,
}

struct Queue {
    number: u32,
    counters: Arc<QueueCounters>,
    /// With whether it is zero copy; there once it is bound.
    socket: Option<(SocketHandle, bool)>,
}

impl Sink {
    /// Attaches the programs and binds the sockets.
    ///
    /// # Errors
    /// [`GeneratorError`], in a sentence for the user. Nothing stays attached.
    pub fn open(plan: SinkPlan) -> Result<Self, GeneratorError> {
        let mut warnings = Vec::new();
        let mut interfaces = plan
            .interfaces
            .iter()
            .map(|name| attach(&plan, name, &mut warnings))
            .collect::<Result<Vec<_>, GeneratorError>>()?;
        let queues: Vec<QueuePlan> = interfaces
            .iter()
            .flat_map(|interface| interface.queues.iter().map(move |queue| (interface, queue)))
            .map(|(interface, queue)| QueuePlan {
                interface: interface.name.clone(),
                queue: queue.number,
                receive: true,
                rx_ring: RX_RING,
                tx_ring: 64,
                busy_poll: None,
                counters: Arc::clone(&queue.counters),
            })
            .collect();
        let frames = u32::try_from(queues.len()).unwrap_or(u32::MAX).saturating_mul(2 * RX_RING);
        let mut opened = xsk::open(&XskPlan {
            queues,
            fill_ring: RX_RING,
            completion_ring: 64,
            frame_size: FRAME_SIZE,
            frames,
            huge_pages: false,
            mode: plan.mode,
        })?;
        warnings.append(&mut opened.warnings);
        // From here on frames come.
        for queue in 0..opened.port.queues() {
            opened.port.refill(queue);
        }
        let mut sockets = opened.sockets.into_iter();
        for interface in &mut interfaces {
            for queue in &mut interface.queues {
                queue.socket = sockets.next();
                if let Some((socket, _)) = &queue.socket {
                    interface.program.insert_socket(queue.number, socket.as_raw_fd())?;
                }
            }
        }
        let judge = Judge::new(plan.real_servers.clone(), plan.most_flows);
        let receiver = Receiver { port: opened.port, judge, bounds: Bounds::default() };
        Ok(Self { plan, interfaces, receiver, warnings })
    }

    /// What is not as asked for, one sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Receives until a bound is reached or `stop` is set. `progress` is called once a second.
    ///
    /// # Errors
    /// [`GeneratorError::Thread`], [`GeneratorError::Ended`] and [`GeneratorError::Latency`].
    pub fn run(self, stop: &AtomicBool, mut progress: impl FnMut(SinkProgress)) -> Result<SinkReport, GeneratorError> {
        let Self { plan, mut interfaces, mut receiver, mut warnings } = self;
        let started_at = Moment::now();
        let ns = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 2);
        receiver.bounds = Bounds {
            end_ns: plan.duration.map(|duration| clock::monotonic_ns().saturating_add(ns(duration))),
            count: plan.count,
            quiet_ns: plan.quiet.map(ns),
        };
        let seen = Seen::default();
        let core = plan.core;
        let (received, pinned) = thread::scope(|scope| {
            let work = || {
                let pinned = core.is_none_or(|id| core_affinity::set_for_current(CoreId { id }));
                (receiver.run(stop, &seen), pinned)
            };
            let spawned = thread::Builder::new().name("sink".to_owned()).spawn_scoped(scope, work);
            let running = spawned.map_err(GeneratorError::Thread)?;
            let begin = Instant::now();
            let mut next = Duration::from_secs(1);
            while !running.is_finished() {
                thread::sleep(LOOK_EVERY);
                if begin.elapsed() >= next {
                    next += Duration::from_secs(1);
                    let received = Traffic { packets: seen.packets.get(), bytes: seen.bytes.get() };
                    progress(SinkProgress { elapsed: begin.elapsed(), received });
                }
            }
            running.join().map_err(|_| GeneratorError::Ended("the sink"))
        })?;
        if let (Some(core), false) = (core, pinned) {
            warnings.push(format!("cannot pin the sink to core {core}: it ran wherever the scheduler put it"));
        }
        let interfaces = interfaces.iter_mut().map(|interface| interface.report(&mut warnings)).collect();
        report(started_at, received, interfaces, warnings)
    }
}

fn attach(plan: &SinkPlan, name: &str, warnings: &mut Vec<String>) -> Result<Interface, GeneratorError> {
    let link = link_by_name(name)?;
    let rx_queues = nic(name)?.rx_queues;
    let queues = plan.queues.clone().unwrap_or_else(|| (0..rx_queues).collect());
    if let Some(queue) = queues.iter().find(|queue| **queue >= rx_queues) {
        return Err(GeneratorError::Input(format!(
            "there is no queue {queue}: {name} has {rx_queues} to receive from (see: ethtool -l {name})"
        )));
    }
    let program = MarkProgram::attach(name, link.index, plan.attach)?;
    if let Some(reason) = program.fallback_reason() {
        warnings.push(format!("{name}: {reason}; going on in generic mode"));
    }
    let queue = |number| Queue { number, counters: Arc::default(), socket: None };
    Ok(Interface { name: name.to_owned(), program, queues: queues.into_iter().map(queue).collect() })
}

impl Interface {
    fn report(&mut self, warnings: &mut Vec<String>) -> SinkInterface {
        let mode = match self.program.mode() {
            Some(AttachedMode::Generic) => report::AttachMode::Generic,
            _ => report::AttachMode::Native,
        };
        let counters = self.program.counters().map_err(|error| warnings.push(error.to_string())).ok();
        SinkInterface {
            name: self.name.clone(),
            mode,
            redirected: counters.map(|counters| counters.redirected),
            no_socket: counters.map(|counters| counters.no_socket),
            queues: self.queues.iter().map(|queue| queue.report(&self.name, warnings)).collect(),
        }
    }
}

impl Queue {
    fn report(&self, interface: &str, warnings: &mut Vec<String>) -> SinkQueue {
        let statistics = self.socket.as_ref().and_then(|(socket, _)| {
            let read = socket.statistics();
            read.map_err(|error| {
                warnings.push(format!("cannot read the ring statistics of {interface} queue {}: {error}", self.number));
            })
            .ok()
        });
        SinkQueue {
            queue: self.number,
            zero_copy: self.socket.as_ref().is_some_and(|(_, zero_copy)| *zero_copy),
            rx: Traffic { packets: self.counters.rx_packets.get(), bytes: self.counters.rx_bytes.get() },
            ring_statistics: statistics.map(Into::into),
        }
    }
}

fn report(
    started_at: Moment,
    received: Received,
    interfaces: Vec<SinkInterface>,
    warnings: Vec<String>,
) -> Result<SinkReport, GeneratorError> {
    let Received { judge, first_ns, last_ns, unstamped } = received;
    let verdicts = judge.verdicts();
    let duration_ns = first_ns.map_or(0, |first_ns| last_ns.saturating_sub(first_ns));
    Ok(SinkReport {
        run: Run::since(started_at),
        interfaces,
        duration_ns,
        received_pps: per_second(verdicts.received.packets, duration_ns),
        received_bits_per_s: per_second(verdicts.received.bytes, duration_ns).map(|bytes| bytes * 8.0),
        sound: verdicts.is_sound(),
        verdicts,
        unstamped,
        latency: LatencyReading::of(judge.latency())?.report(),
        streams: judge.streams(),
        real_servers: judge.real_servers(),
        bytes_per_flow: BYTES_PER_FLOW,
        flow_bytes: judge.flow_bytes(),
        warnings,
    })
}
