//! The run-to-completion loop of one core: receive a burst, decide, send, take back what was sent, hand out what is free.
//!
//! Nothing in it depends on another worker. The forwarding table and the clock are read once for a burst.

mod meter;
mod outgoing;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::capture::Tap;
use crate::clock;
use crate::counters::cost::Stage;
use crate::counters::{FlowCounters, WorkerCounters};
use crate::flow::WorkerFlows;
use crate::forward::{Counts, Prepared, decide, decide_quickly, look_up, prepare};
use crate::port::Port;
use crate::table::{ForwardingTable, Reader};
use crate::verdict::{DropReason, Route, Verdict};

use meter::Meter;
use outgoing::{Outgoing, Tally};

/// How long an idle worker sleeps at most, so that it sees a stop in time.
const LONGEST_SLEEP: Duration = Duration::from_millis(50);
/// How long it sleeps at most while sent frames have not come back: nothing wakes it for those.
const SLEEP_WHILE_SENDING: Duration = Duration::from_millis(1);
/// How long a stopping worker goes on receiving what is still on its way, and waits for what it sent.
const STOP_GRACE_NS: u64 = 200_000_000;
/// A stopping worker is done when it has found nothing for this long.
const STOP_QUIET_NS: u64 = 5_000_000;

/// Slots of the flow table that are looked at for each burst, and before each sleep.
const SWEPT_PER_BURST: usize = 8;
const SWEPT_PER_SLEEP: usize = 4096;
/// One that never sleeps sweeps every so many turns in which it finds nothing.
const SPINS_PER_SWEEP: u64 = 64;
/// A period, in which the other workers' connections are read once, is 2^27 ns: 134 ms.
const PERIOD_SHIFT: u32 = 27;

/// What an idle worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdlePolicy {
    /// It looks again, for ever: lowest latency, a whole core.
    Spin,
    /// It looks for so long, then sleeps until a frame arrives.
    SleepAfter(Duration),
}

/// How a worker works.
#[derive(Clone, Debug)]
pub struct WorkerSettings {
    /// Its number, by which it finds its counters.
    pub worker: usize,
    /// Most frames that it takes from a queue at once.
    pub batch: usize,
    /// What it does when idle.
    pub idle: IdlePolicy,
    /// How long it holds frames against a full TX ring before it drops them.
    pub tx_hold: Duration,
    /// For each of its queues and each egress of the table: the queue to send by.
    pub egress_queues: Vec<Vec<Option<usize>>>,
}

/// One core's worth of forwarding.
pub struct Worker<P: Port> {
    settings: WorkerSettings,
    port: P,
    tables: Reader<ForwardingTable>,
    counters: Arc<WorkerCounters>,
    flows: WorkerFlows,
    received: Vec<P::Frame>,
    /// What was read of the frames in `received`; as many as a burst has at most.
    prepared: Vec<Prepared>,
    /// Frames to be sent, by egress.
    outgoing: Vec<Outgoing<P::Frame>>,
    /// Where captures listen, if they can.
    tap: Option<Tap>,
    meter: Meter,
}

impl<P: Port> Worker<P> {
    /// A worker that has not received anything yet; its queues are filled.
    pub fn new(
        settings: WorkerSettings,
        port: P,
        tables: Reader<ForwardingTable>,
        counters: Arc<WorkerCounters>,
        flows: WorkerFlows,
    ) -> Self {
        let egresses = settings.egress_queues.iter().map(Vec::len).max().unwrap_or(0);
        let batch = settings.batch;
        counters.frames_total.set(port.census().total());
        let mut worker = Self {
            flows,
            received: Vec::with_capacity(batch),
            prepared: vec![Prepared::default(); batch],
            outgoing: (0..egresses).map(|_| Outgoing::with_capacity(batch)).collect(),
            meter: Meter::new(port.system_calls()),
            settings,
            port,
            tables,
            counters,
            tap: None,
        };
        for queue in 0..worker.port.queues() {
            worker.port.refill(queue);
        }
        worker.publish_census();
        worker
    }

    /// Lets captures listen at `tap`.
    #[must_use]
    pub fn with_tap(self, tap: Tap) -> Self {
        Self { tap: Some(tap), ..self }
    }

    /// Works until `stop` is set, then finishes what is on its way.
    pub fn run(mut self, stop: &AtomicBool) {
        self.meter = Meter::new(self.port.system_calls());
        let mut idle_since_ns = None;
        while !stop.load(Ordering::Relaxed) {
            let busy = self.poll_queues();
            if busy {
                idle_since_ns = None;
            } else {
                self.idle(&mut idle_since_ns);
            }
            self.end_turn(busy);
        }
        self.finish();
    }

    /// One turn over all queues. Returns whether there was anything to do.
    pub fn turn(&mut self) -> bool {
        let busy = self.poll_queues();
        self.end_turn(busy);
        busy
    }

    fn poll_queues(&mut self) -> bool {
        let mut busy = false;
        for queue in 0..self.port.queues() {
            self.meter.begin_part();
            // Nothing is marked where nothing was found: a look in vain goes to what follows, and to idle time in the end.
            if self.port.complete(queue, &self.counters.completion) > 0 {
                busy = true;
                self.meter.mark(Stage::Complete, self.port.system_calls());
            }
            let count = self.port.rx_burst(queue, &mut self.received, self.settings.batch);
            if count > 0 {
                busy = true;
                self.meter.burst(&self.counters, count);
                self.meter.mark(Stage::Receive, self.port.system_calls());
                self.forward_burst(queue);
            }
            self.port.kick_tx(queue);
            if busy {
                self.meter.mark(Stage::Send, self.port.system_calls());
            }
            // Where frames are short this may be all that there is to do, and the statistics are to show it.
            busy |= self.port.refill(queue) > 0;
            self.port.kick_rx(queue);
            if busy {
                self.meter.mark(Stage::Refill, self.port.system_calls());
            }
        }
        if busy {
            self.publish_census();
        }
        busy
    }

    fn end_turn(&mut self, busy: bool) {
        self.meter.end_turn(&self.counters, busy, self.port.system_calls());
    }

    /// The port, for tests that play the kernel.
    pub fn port_mut(&mut self) -> &mut P {
        &mut self.port
    }

    /// Decides on a burst and sends it.
    fn forward_burst(&mut self, queue: usize) {
        let Self { settings, port, tables, counters, flows, received, prepared, outgoing, tap, meter } = self;
        let table = tables.pin();
        counters.table_generation.set(table.generation());
        let now_ns = port.received_at_ns();
        let now_s = clock::to_seconds(now_ns);
        flows.period = now_ns >> PERIOD_SHIFT;
        let running = tap.as_ref().and_then(Tap::running);
        let capture = running.as_ref().and_then(|running| running.burst(queue, received.len(), &table, now_ns));
        let tally =
            Tally { worker: settings.worker, counters, table: &table, burst_ns: now_ns, capture: capture.as_ref() };
        // Each step is taken for all frames before the next: what that needs is fetched meanwhile.
        for (frame, prepared) in received.iter_mut().zip(prepared.iter_mut()) {
            prepare(prepared, port.bytes_mut(frame), &table, flows);
        }
        prepared.iter_mut().take(received.len()).for_each(|prepared| look_up(prepared, &table, flows));
        let mut counts = Counts::default();
        for (mut frame, prepared) in received.drain(..).zip(prepared.iter()) {
            if let Some((egress, route)) = decide_quickly(prepared, port.bytes_mut(&mut frame), &table, flows, now_s) {
                hand_out(outgoing, egress, route, frame, &tally, port);
                continue;
            }
            match decide(port.bytes_mut(&mut frame), &table, flows, &mut counts, now_s) {
                Verdict::Tx { egress, route } => hand_out(outgoing, egress, route, frame, &tally, port),
                Verdict::Drop { reason, service, real_server } => {
                    tally.drop_frame(reason, (service, real_server), frame, port);
                }
            }
        }
        flows.sweep(SWEPT_PER_BURST, now_s, table.connections());
        count_flows(&counters.flows, &counts);
        meter.mark(Stage::Forward, port.system_calls());
        for (egress, outgoing) in outgoing.iter_mut().enumerate() {
            if !outgoing.frames.is_empty() {
                if let Some(capture) = tally.capture {
                    outgoing.stage(port, capture, u8::try_from(egress).ok());
                }
                let by = settings.egress_queues.get(queue).and_then(|queues| *queues.get(egress)?);
                outgoing.send(port, by, settings.tx_hold, &tally);
            }
        }
    }

    fn idle(&mut self, idle_since_ns: &mut Option<u64>) {
        let IdlePolicy::SleepAfter(spin) = self.settings.idle else {
            if self.counters.idle_turns.get().is_multiple_of(SPINS_PER_SWEEP) {
                let now_s = clock::to_seconds(clock::monotonic_ns());
                self.flows.sweep(SWEPT_PER_BURST, now_s, self.tables.pin().connections());
            }
            std::hint::spin_loop();
            return;
        };
        let now_ns = clock::monotonic_ns();
        let since_ns = *idle_since_ns.get_or_insert(now_ns);
        if u128::from(now_ns.saturating_sub(since_ns)) < spin.as_nanos() {
            std::hint::spin_loop();
            return;
        }
        self.flows.sweep(SWEPT_PER_SLEEP, clock::to_seconds(now_ns), self.tables.pin().connections());
        self.counters.sleeps.add(1);
        let sending = self.port.census().tx > 0;
        self.port.wait(if sending { SLEEP_WHILE_SENDING } else { LONGEST_SLEEP });
    }

    /// Receives what is still on its way and waits for what was sent, for a bounded time.
    fn finish(&mut self) {
        let start_ns = clock::monotonic_ns();
        let mut last_busy_ns = start_ns;
        loop {
            let busy = self.turn();
            let now_ns = clock::monotonic_ns();
            if busy {
                last_busy_ns = now_ns;
            }
            let quiet = now_ns - last_busy_ns > STOP_QUIET_NS && self.port.census().tx == 0;
            if quiet || now_ns - start_ns > STOP_GRACE_NS {
                break;
            }
        }
        self.publish_census();
    }

    fn publish_census(&self) {
        let census = self.port.census();
        debug_assert_eq!(census.total(), self.counters.frames_total.get(), "frames leaked: {census:?}");
        debug_assert_eq!(census.free, census.worker, "frames leaked: {census:?}");
        self.counters.frames_free.set(census.free);
        self.counters.frames_quarantined.set(census.quarantined);
    }
}

/// Puts a frame to those of its egress.
#[inline(always)]
fn hand_out<P: Port>(
    outgoing: &mut [Outgoing<P::Frame>],
    egress: u8,
    route: Route,
    frame: P::Frame,
    tally: &Tally<'_>,
    port: &mut P,
) {
    match outgoing.get_mut(usize::from(egress)) {
        Some(outgoing) => outgoing.push(route, frame),
        None => tally.drop_frame(DropReason::NoEgress, (Some(route.service), Some(route.real_server)), frame, port),
    }
}

/// Adds what a burst did to the flow tables. Most bursts do little that is counted.
#[inline]
fn count_flows(counters: &FlowCounters, counts: &Counts) {
    let pairs = [
        (&counters.new, counts.new_flows),
        (&counters.without_room, counts.flows_without_room),
        (&counters.evicted, counts.evicted_flows),
        (&counters.peer_hits, counts.peer_hits),
        (&counters.previous_table_hits, counts.previous_table_hits),
        (&counters.fragment_hits, counts.fragment_hits),
        (&counters.fragment_misses, counts.fragment_misses),
        (&counters.second_choices, counts.second_choices),
    ];
    for (counter, count) in pairs.into_iter().filter(|(_, count)| *count > 0) {
        counter.add(count);
    }
}
