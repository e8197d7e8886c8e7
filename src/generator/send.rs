//! The generator: opens sockets, starts a thread for each queue, watches them, and reports.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use core_affinity::CoreId;

use super::GeneratorError;
use super::flows::{FlowOrder, FlowPlan, FlowWalk};
use super::mark::{MAX_FLOWS, MAX_STREAMS};
use super::report::{FrameSize, GeneratorReport, GeneratorThread, Run};
use super::sender::{Contents, Sender, Sent, Share};
use super::template::{FrameSizes, TcpShape, Template};
use crate::counters::QueueCounters;
use crate::counters::latency::LatencyHistogram;
use crate::network::{self, link_by_name, nic};
use crate::port::Port;
use crate::port::xsk::{self, BindMode, QueuePlan, XskPlan, XskPort};
use crate::stats::report::{Moment, Traffic};
use crate::wire::{MacAddress, ethernet};
use crate::xdp::{AttachMode, Settings, XdpProgram};

/// Descriptors of a TX ring.
const TX_RING: u32 = 1024;
/// Frames of a thread: as many as the ring holds are with the kernel, as many are being made.
const FRAMES: u32 = 2 * TX_RING;
const FRAME_SIZE: u32 = 2048;
/// Most frames that can be sent at once.
pub const MAX_BURST: usize = 512;
/// How often the threads are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long the answer to the question for a MAC address is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// What to send, and how.
#[derive(Clone, Debug)]
pub struct SendPlan {
    /// The interface to send by.
    pub interface: String,
    /// Its queues, a thread for each.
    pub queues: Vec<u32>,
    /// CPUs to pin the threads to, in the order of the queues; empty to pin none.
    pub cores: Vec<usize>,
    /// Where to: the director. None to ask for the next hop to the first virtual service.
    pub destination: Option<MacAddress>,
    /// Virtual services, sources and number of flows.
    pub flows: FlowPlan,
    /// In which order flows take their turns.
    pub order: FlowOrder,
    /// Where a walk without order begins.
    pub seed: u64,
    /// Sizes of frames.
    pub sizes: FrameSizes,
    /// What TCP segments are made.
    pub tcp: TcpShape,
    /// Frames in a second over all threads; none for as many as can be.
    pub rate_pps: Option<f64>,
    /// Most frames that a thread sends at once.
    pub burst: usize,
    /// Frames over all threads after which it ends.
    pub count: Option<u64>,
    /// Time after which it ends.
    pub duration: Option<Duration>,
    /// Number of the first thread's stream.
    pub stream: u8,
    /// How sockets are bound.
    pub mode: BindMode,
}

/// What was sent so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendProgress {
    /// Time since the start.
    pub elapsed: Duration,
    /// Frames and bytes handed to the kernel.
    pub sent: Traffic,
}

/// A generator whose sockets are bound.
pub struct Generator {
    plan: SendPlan,
    destination: MacAddress,
    threads: Vec<Thread>,
    contents: Arc<Contents>,
    /// Some drivers send in zero-copy mode only while there is one.
    _program: Option<XdpProgram>,
    warnings: Vec<String>,
}

struct Thread {
    port: XskPort,
    share: Share,
    queue: u32,
    core: Option<usize>,
    zero_copy: bool,
    counters: Arc<QueueCounters>,
}

/// Where a thread works.
#[derive(Clone, Copy, Debug)]
struct Place {
    stream: u8,
    queue: u32,
    core: Option<usize>,
    zero_copy: bool,
}

impl Thread {
    fn place(&self) -> Place {
        Place { stream: self.share.stream, queue: self.queue, core: self.core, zero_copy: self.zero_copy }
    }
}

impl Generator {
    /// Looks at the interface, asks for the MAC address if none was given, and binds the sockets. Nothing is sent but that
    /// question.
    ///
    /// # Errors
    /// [`GeneratorError`], in a sentence for the user.
    pub fn open(mut plan: SendPlan) -> Result<Self, GeneratorError> {
        let mut warnings = Vec::new();
        let link = link_by_name(&plan.interface)?;
        check(&plan, nic(&plan.interface)?.tx_queues)?;
        if !link.up {
            warnings.push(format!("{} is down: what is sent goes nowhere", plan.interface));
        }
        let first = plan.flows.services().first().map(|service| service.vip);
        let destination = match (plan.destination, first) {
            (Some(mac), _) => mac,
            (None, Some(vip)) => network::next_hop_mac(&link, vip, PATIENCE)?,
            (None, None) => return Err(GeneratorError::Input("there is no virtual service".to_owned())),
        };
        let templates: Vec<Template> = plan
            .flows
            .services()
            .iter()
            .map(|service| Template::new(destination, link.mac, service, plan.tcp))
            .collect();
        let smallest = templates.iter().map(Template::smallest_frame).max().unwrap_or_default();
        let (sizes, raised) = plan.sizes.clone().raised_to(smallest);
        if raised {
            warnings
                .push(format!("frames of less than {smallest} bytes have {smallest}: headers and mark take so many"));
        }
        plan.sizes = sizes;
        let most = link.mtu as usize + ethernet::HEADER_LEN;
        if plan.sizes.largest() > most {
            return Err(GeneratorError::Input(format!(
                "frames of {} bytes do not fit {}, whose MTU of {} lets {most} pass: set a larger one or send smaller frames",
                plan.sizes.largest(),
                plan.interface,
                link.mtu
            )));
        }
        let threads = (0..plan.queues.len())
            .map(|number| open_thread(&plan, number, &mut warnings))
            .collect::<Result<Vec<_>, _>>()?;
        let program = if threads.iter().any(|thread| thread.zero_copy) {
            Some(XdpProgram::attach(&plan.interface, link.index, AttachMode::Native, &Settings::pass_all())?)
        } else {
            None
        };
        let contents = Arc::new(Contents { flows: plan.flows.clone(), templates, sizes: plan.sizes.clone() });
        Ok(Self { plan, destination, threads, contents, _program: program, warnings })
    }

    /// What is not as asked for, one sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Sends until all is sent, the time is over or `stop` is set. `progress` is called once a second.
    ///
    /// # Errors
    /// [`GeneratorError::Thread`] and [`GeneratorError::Ended`].
    pub fn run(
        self,
        stop: &AtomicBool,
        mut progress: impl FnMut(SendProgress),
    ) -> Result<GeneratorReport, GeneratorError> {
        let Self { plan, destination, threads, contents, _program: program, mut warnings } = self;
        let started_at = Moment::now();
        let dropped_before = network::tx_dropped(&plan.interface);
        let counters: Vec<Arc<QueueCounters>> = threads.iter().map(|thread| Arc::clone(&thread.counters)).collect();
        let places: Vec<Place> = threads.iter().map(Thread::place).collect();
        let senders = threads.into_iter().map(|thread| (thread.core, sender(&plan, thread, &contents))).collect();
        let sent = watch(senders, stop, |elapsed| progress(SendProgress { elapsed, sent: submitted(&counters) }))?;
        drop(program);
        let threads: Vec<GeneratorThread> = places
            .into_iter()
            .zip(&sent)
            .zip(&counters)
            .map(|((mut place, (sent, pinned)), counters)| {
                if let Some(core) = place.core.take_if(|_| !pinned) {
                    warnings.push(format!("cannot pin a thread to core {core}: it ran wherever the scheduler put it"));
                }
                thread_report(place, sent, counters)
            })
            .collect();
        let sent: Vec<Sent> = sent.into_iter().map(|(sent, _)| sent).collect();
        let dropped =
            dropped_before.zip(network::tx_dropped(&plan.interface)).map(|(before, now)| now.wrapping_sub(before));
        Ok(report(&plan, destination, started_at, &sent, threads, (&counters, dropped), warnings))
    }
}

/// Runs all threads to their end, and says of each what it sent and whether it was pinned.
fn watch(
    senders: Vec<(Option<usize>, Sender)>,
    stop: &AtomicBool,
    mut each_second: impl FnMut(Duration),
) -> Result<Vec<(Sent, bool)>, GeneratorError> {
    thread::scope(|scope| {
        let mut running = Vec::with_capacity(senders.len());
        for (core, sender) in senders {
            let work = move || {
                let pinned = core.is_none_or(|id| core_affinity::set_for_current(CoreId { id }));
                (sender.run(stop), pinned)
            };
            match thread::Builder::new().name("generator".to_owned()).spawn_scoped(scope, work) {
                Ok(thread) => running.push(thread),
                Err(error) => {
                    stop.store(true, Ordering::Relaxed);
                    return Err(GeneratorError::Thread(error));
                }
            }
        }
        let begin = Instant::now();
        let mut next = Duration::from_secs(1);
        while !running.iter().all(thread::ScopedJoinHandle::is_finished) {
            thread::sleep(LOOK_EVERY);
            if begin.elapsed() >= next {
                next += Duration::from_secs(1);
                each_second(begin.elapsed());
            }
        }
        let ended = |_| GeneratorError::Ended("the generator");
        running.into_iter().map(|thread| thread.join().map_err(ended)).collect()
    })
}

fn check(plan: &SendPlan, tx_queues: u32) -> Result<(), GeneratorError> {
    let wrong = |sentence: String| Err(GeneratorError::Input(sentence));
    let threads = plan.queues.len();
    if threads == 0 {
        return wrong("there must be a queue to send by".to_owned());
    }
    if let Some(queue) = plan.queues.iter().find(|queue| **queue >= tx_queues) {
        return wrong(format!(
            "there is no queue {queue}: {} has {tx_queues} to send by (see: ethtool -l {})",
            plan.interface, plan.interface
        ));
    }
    if !plan.cores.is_empty() && plan.cores.len() != threads {
        return wrong(format!("{} cores do not fit {threads} queues: name one for each queue", plan.cores.len()));
    }
    if usize::from(plan.stream) + threads > MAX_STREAMS {
        return wrong(format!("stream {} and {threads} threads exceed the {MAX_STREAMS} streams", plan.stream));
    }
    let flows = plan.flows.flows() as usize;
    if flows < threads || flows.div_ceil(threads) > MAX_FLOWS as usize {
        return wrong(format!(
            "{flows} flows cannot be sent by {threads} threads: each has from 1 to {MAX_FLOWS} flows of its own"
        ));
    }
    if !(1..=MAX_BURST).contains(&plan.burst) {
        return wrong(format!("a burst has from 1 to {MAX_BURST} frames"));
    }
    Ok(())
}

fn open_thread(plan: &SendPlan, number: usize, warnings: &mut Vec<String>) -> Result<Thread, GeneratorError> {
    let queue = plan.queues[number];
    let counters = Arc::<QueueCounters>::default();
    let mut opened = xsk::open(&XskPlan {
        queues: vec![QueuePlan {
            interface: plan.interface.clone(),
            queue,
            receive: false,
            rx_ring: 64,
            tx_ring: TX_RING,
            busy_poll: None,
            counters: Arc::clone(&counters),
        }],
        fill_ring: 64,
        completion_ring: TX_RING,
        frame_size: FRAME_SIZE,
        frames: FRAMES,
        huge_pages: false,
        mode: plan.mode,
    })?;
    warnings.append(&mut opened.warnings);
    let threads = plan.queues.len() as u64;
    // The first ones get what is left over.
    let count = plan.count.map(|count| count / threads + u64::from((number as u64) < count % threads));
    let share = Share {
        stream: plan.stream.wrapping_add(u8::try_from(number).unwrap_or_default()),
        number: u32::try_from(number).unwrap_or_default(),
        of: u32::try_from(threads).unwrap_or(1),
        count,
        burst: plan.burst,
    };
    let zero_copy = opened.sockets.iter().any(|(_, zero_copy)| *zero_copy);
    // Its fill ring, where the driver wants one.
    opened.port.refill(0);
    Ok(Thread { port: opened.port, share, queue, core: plan.cores.get(number).copied(), zero_copy, counters })
}

fn sender(plan: &SendPlan, thread: Thread, contents: &Arc<Contents>) -> Sender {
    let own = thread.share.flows(plan.flows.flows());
    let rate = plan.rate_pps.map(|rate| rate / f64::from(thread.share.of));
    Sender {
        walk: FlowWalk::new(plan.order, own, plan.seed.wrapping_add(u64::from(thread.share.number))),
        completion: LatencyHistogram::default(),
        flow_sequences: vec![0; own as usize].into_boxed_slice(),
        rate_pps: rate,
        duration_ns: plan.duration.map(|duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)),
        port: thread.port,
        contents: Arc::clone(contents),
        share: thread.share,
    }
}

fn submitted(counters: &[Arc<QueueCounters>]) -> Traffic {
    let of = |queue: &Arc<QueueCounters>| Traffic { packets: queue.tx_packets.get(), bytes: queue.tx_bytes.get() };
    counters.iter().map(of).fold(Traffic::default(), Traffic::plus)
}

fn thread_report(place: Place, sent: &Sent, counters: &QueueCounters) -> GeneratorThread {
    let Place { stream, queue, core, zero_copy } = place;
    GeneratorThread {
        stream,
        queue,
        core,
        zero_copy,
        sent: Traffic { packets: counters.tx_packets.get(), bytes: counters.tx_bytes.get() },
        tx_kicks: counters.tx_kicks.get(),
        tx_kick_errors: counters.tx_kick_errors.get(),
        turns_without_frames: sent.turns_without_frames,
        most_behind_ns: sent.most_behind_ns,
    }
}

fn report(
    plan: &SendPlan,
    destination_mac: MacAddress,
    started_at: Moment,
    sent: &[Sent],
    threads: Vec<GeneratorThread>,
    (counters, interface_tx_dropped): (&[Arc<QueueCounters>], Option<u64>),
    warnings: Vec<String>,
) -> GeneratorReport {
    let first_ns = sent.iter().filter_map(|sent| sent.first_ns).min().unwrap_or_default();
    let last_ns = sent.iter().map(|sent| sent.last_ns).max().unwrap_or_default();
    let duration_ns = last_ns.saturating_sub(first_ns);
    let traffic = submitted(counters);
    let completed = counters.iter().map(|queue| queue.tx_completed.get()).sum();
    GeneratorReport {
        run: Run::since(started_at),
        interface: plan.interface.clone(),
        destination_mac,
        virtual_services: plan.flows.services().len(),
        first_virtual_service: plan.flows.services().first().map(ToString::to_string).unwrap_or_default(),
        flows: plan.flows.flows(),
        flow_order: plan.order.to_string(),
        frame_sizes: plan.sizes.parts().into_iter().map(|(bytes, parts)| FrameSize { bytes, parts }).collect(),
        burst: plan.burst,
        wanted_pps: plan.rate_pps,
        duration_ns,
        sent: traffic,
        unsent: traffic.packets.saturating_sub(completed),
        sent_pps: per_second(traffic.packets, duration_ns),
        sent_bits_per_s: per_second(traffic.bytes, duration_ns).map(|bytes| bytes * 8.0),
        most_behind_ns: sent.iter().map(|sent| sent.most_behind_ns).max().unwrap_or_default(),
        interface_tx_dropped,
        threads,
        warnings,
    }
}

/// What so many are in a second.
pub(super) fn per_second(count: u64, duration_ns: u64) -> Option<f64> {
    (duration_ns > 0).then(|| count as f64 * 1e9 / duration_ns as f64)
}
