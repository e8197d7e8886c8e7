//! The run-to-completion loop of one core: receive a burst, decide, send, take back what was sent, hand out what is free.
//!
//! Nothing in it depends on another worker. The forwarding table and the clock are read once for a burst.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::capture::{Burst, Staged, Tap};
use crate::clock;
use crate::counters::{FlowCounters, Outcomes, WorkerCounters};
use crate::flow::WorkerFlows;
use crate::forward::{Counts, Prepared, decide, look_up, prepare};
use crate::port::{Frame, Port};
use crate::table::{ForwardingTable, Reader};
use crate::verdict::{DropReason, Route, Verdict};

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
    /// What was read of the frames in `received`.
    prepared: Vec<Prepared>,
    /// Frames to be sent, by egress.
    outgoing: Vec<Outgoing<P::Frame>>,
    /// Where captures listen, if they can.
    tap: Option<Tap>,
}

struct Outgoing<F> {
    frames: Vec<F>,
    /// What is to be counted of each of them.
    accounts: Vec<Account>,
    /// While a capture runs, what it has of each of them; else empty.
    staged: Vec<Staged>,
}

#[derive(Clone, Copy)]
struct Account {
    route: Route,
    bytes: u64,
    received_ns: Option<u64>,
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
        let outgoing = || Outgoing {
            frames: Vec::with_capacity(batch),
            accounts: Vec::with_capacity(batch),
            staged: Vec::with_capacity(batch),
        };
        counters.frames_total.set(port.census().total());
        let mut worker = Self {
            flows,
            received: Vec::with_capacity(batch),
            prepared: Vec::with_capacity(batch),
            outgoing: (0..egresses).map(|_| outgoing()).collect(),
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
        let mut last_cycles = clock::cycles();
        let mut idle_since_ns = None;
        while !stop.load(Ordering::Relaxed) {
            let busy = self.turn();
            if busy {
                idle_since_ns = None;
            } else {
                self.idle(&mut idle_since_ns);
            }
            let now_cycles = clock::cycles();
            self.account_turn(busy, now_cycles.wrapping_sub(last_cycles));
            last_cycles = now_cycles;
        }
        self.finish();
    }

    /// One turn over all queues. Returns whether there was anything to do.
    pub fn turn(&mut self) -> bool {
        let mut busy = false;
        for queue in 0..self.port.queues() {
            busy |= self.port.complete(queue) > 0;
            let count = self.port.rx_burst(queue, &mut self.received, self.settings.batch);
            if count > 0 {
                busy = true;
                self.counters.count_batch(count);
                self.forward_burst(queue);
            }
            self.port.kick_tx(queue);
            // Where frames are short this may be all that there is to do, and the statistics are to show it.
            busy |= self.port.refill(queue) > 0;
            self.port.kick_rx(queue);
        }
        if busy {
            self.publish_census();
        }
        busy
    }

    /// The port, for tests that play the kernel.
    pub fn port_mut(&mut self) -> &mut P {
        &mut self.port
    }

    /// Decides on a burst and sends it.
    fn forward_burst(&mut self, queue: usize) {
        let Self { settings, port, tables, counters, flows, received, prepared, outgoing, tap } = self;
        let table = tables.pin();
        counters.table_generation.set(table.generation());
        let now_ns = clock::monotonic_ns();
        let now_s = clock::to_seconds(now_ns);
        flows.period = now_ns >> PERIOD_SHIFT;
        let running = tap.as_ref().and_then(Tap::running);
        let capture = running.as_ref().and_then(|running| running.burst(queue, received.len(), &table, now_ns));
        let tally = Tally { worker: settings.worker, counters, table: &table, capture: capture.as_ref() };
        // Each step is taken for all frames before the next: what that needs is fetched meanwhile.
        prepared.clear();
        prepared.extend(received.iter_mut().map(|frame| prepare(port.bytes_mut(frame), &table, flows)));
        prepared.iter_mut().for_each(|prepared| look_up(prepared, &table, flows));
        let mut counts = Counts::default();
        for (mut frame, prepared) in received.drain(..).zip(prepared.iter()) {
            let bytes = frame.len() as u64;
            match decide(prepared, port.bytes_mut(&mut frame), &table, flows, &mut counts, now_s) {
                Verdict::Tx { egress, route } => match outgoing.get_mut(usize::from(egress)) {
                    Some(outgoing) => {
                        outgoing.accounts.push(Account { route, bytes, received_ns: frame.received_ns() });
                        outgoing.frames.push(frame);
                    }
                    None => {
                        let whose = (Some(route.service), Some(route.real_server));
                        tally.drop_frame(DropReason::NoEgress, whose, frame, port);
                    }
                },
                Verdict::Drop { reason, service, real_server } => {
                    tally.drop_frame(reason, (service, real_server), frame, port);
                }
            }
        }
        flows.sweep(SWEPT_PER_BURST, now_s, table.connections());
        count_flows(&counters.flows, &counts);
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

    fn account_turn(&self, busy: bool, cycles: u64) {
        let (turns, spent) = if busy {
            (&self.counters.busy_turns, &self.counters.busy_cycles)
        } else {
            (&self.counters.idle_turns, &self.counters.idle_cycles)
        };
        turns.add(1);
        spent.add(cycles);
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

impl<F: Frame> Outgoing<F> {
    /// Shows all frames to a capture: once they are submitted their bytes are the kernel's.
    #[cold]
    #[inline(never)]
    fn stage<P: Port<Frame = F>>(&mut self, port: &mut P, capture: &Burst<'_>, egress: Option<u8>) {
        for (frame, account) in self.frames.iter_mut().zip(&self.accounts) {
            let bytes = port.bytes_mut(frame);
            self.staged.push(capture.staged(account.route, egress, account.received_ns, bytes));
        }
    }

    /// Submits all frames to the TX ring of `queue`. A full ring is held against for `hold` in all, however slowly it
    /// drains meanwhile: the other queues wait, too. What is left then, and everything where there is no queue, is
    /// dropped.
    fn send<P: Port<Frame = F>>(&mut self, port: &mut P, queue: Option<usize>, hold: Duration, tally: &Tally<'_>) {
        let Some(queue) = queue else {
            self.drop_all(port, DropReason::NoEgress, tally);
            return;
        };
        let mut full_since_ns = None;
        loop {
            let sent = port.tx_burst(queue, &mut self.frames);
            let now_ns = clock::monotonic_ns();
            tally.sent(self.accounts.get(..sent).unwrap_or(&[]), now_ns);
            self.accounts.drain(..sent);
            if let Some(capture) = tally.capture {
                capture.sent(self.staged.drain(..sent.min(self.staged.len())));
            }
            if self.frames.is_empty() {
                return;
            }
            let since_ns = *full_since_ns.get_or_insert(now_ns);
            if u128::from(now_ns.saturating_sub(since_ns)) > hold.as_nanos() {
                self.drop_all(port, DropReason::TxRingFull, tally);
                return;
            }
            port.kick_tx(queue);
            port.complete(queue);
        }
    }

    fn drop_all<P: Port<Frame = F>>(&mut self, port: &mut P, reason: DropReason, tally: &Tally<'_>) {
        let mut staged = self.staged.drain(..);
        for (mut frame, account) in self.frames.drain(..).zip(self.accounts.drain(..)) {
            tally.drop_routed(reason, account.route, account.bytes);
            if let (Some(capture), Some(staged)) = (tally.capture, staged.next()) {
                let bytes = port.bytes_mut(&mut frame);
                capture.not_sent(staged, reason, account.route, account.received_ns, bytes);
            }
            port.release(frame);
        }
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

/// Where verdicts are counted: the worker's own cells; and who watches.
struct Tally<'a> {
    worker: usize,
    counters: &'a WorkerCounters,
    table: &'a ForwardingTable,
    /// The capture that runs.
    capture: Option<&'a Burst<'a>>,
}

impl Tally<'_> {
    #[inline]
    fn sent(&self, accounts: &[Account], now_ns: u64) {
        let (mut bytes, mut stamped) = (0, 0);
        for account in accounts {
            bytes += account.bytes;
            stamped += u64::from(account.received_ns.is_some());
            self.for_each(Some(account.route.service), Some(account.route.real_server), |cell| {
                cell.count_tx(1, account.bytes)
            });
        }
        let sent = accounts.len() as u64;
        self.counters.outcomes.count_tx(sent, bytes);
        if stamped < sent {
            self.counters.unstamped.add(sent - stamped);
        }
        let stamps = accounts.iter().filter_map(|account| account.received_ns);
        self.counters.latency.record_all(stamps.map(|received_ns| now_ns.saturating_sub(received_ns)));
    }

    /// Counts a frame that is dropped as soon as it is decided on, and gives it back.
    fn drop_frame<P: Port>(
        &self,
        reason: DropReason,
        whose: (Option<u32>, Option<u32>),
        mut frame: P::Frame,
        port: &mut P,
    ) {
        self.drop(reason, whose.0, whose.1, frame.len() as u64);
        if let Some(capture) = self.capture {
            capture.dropped(reason, whose, frame.received_ns(), port.bytes_mut(&mut frame));
        }
        port.release(frame);
    }

    fn drop_routed(&self, reason: DropReason, route: Route, bytes: u64) {
        self.drop(reason, Some(route.service), Some(route.real_server), bytes);
    }

    fn drop(&self, reason: DropReason, service: Option<u32>, real_server: Option<u32>, bytes: u64) {
        self.counters.outcomes.count_drop(reason, bytes);
        self.for_each(service, real_server, |cell| cell.count_drop(reason, bytes));
    }

    #[inline]
    fn for_each(&self, service: Option<u32>, real_server: Option<u32>, count: impl Fn(&Outcomes)) {
        let service = service.and_then(|at| self.table.services().get(at as usize)?.outcomes.of(self.worker));
        let real_server =
            real_server.and_then(|at| self.table.real_servers().get(at as usize)?.outcomes.of(self.worker));
        service.into_iter().chain(real_server).for_each(count);
    }
}
