//! Frames on their way to a TX ring, and how their verdicts and times are counted.

use std::num::NonZeroU64;
use std::time::Duration;

use crate::capture::{Burst, Staged};
use crate::counters::{Outcomes, WorkerCounters};
use crate::port::{Frame, Port};
use crate::table::ForwardingTable;
use crate::verdict::{DropReason, Route};

/// Frames that are to be sent by one egress.
pub(super) struct Outgoing<F> {
    pub(super) frames: Vec<F>,
    /// What is to be counted of each of them.
    accounts: Vec<Account>,
    /// While a capture runs, what it has of each of them; else empty.
    staged: Vec<Staged>,
}

/// What is to be counted of a frame once it is sent.
#[derive(Clone, Copy)]
struct Account {
    route: Route,
    bytes: u32,
    received_ns: Option<NonZeroU64>,
}

impl Account {
    fn received_ns(&self) -> Option<u64> {
        self.received_ns.map(NonZeroU64::get)
    }
}

impl<F: Frame> Outgoing<F> {
    /// Room for a burst of `batch` frames.
    pub(super) fn with_capacity(batch: usize) -> Self {
        Self {
            frames: Vec::with_capacity(batch),
            accounts: Vec::with_capacity(batch),
            staged: Vec::with_capacity(batch),
        }
    }

    /// Takes a frame that is to be sent.
    #[inline(always)]
    pub(super) fn push(&mut self, route: Route, frame: F) {
        let bytes = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        self.accounts.push(Account { route, bytes, received_ns: frame.received_ns().and_then(NonZeroU64::new) });
        self.frames.push(frame);
    }

    /// Shows all frames to a capture: once they are submitted their bytes are the kernel's.
    #[cold]
    #[inline(never)]
    pub(super) fn stage<P: Port<Frame = F>>(&mut self, port: &mut P, capture: &Burst<'_>, egress: Option<u8>) {
        for (frame, account) in self.frames.iter_mut().zip(&self.accounts) {
            let bytes = port.bytes_mut(frame);
            self.staged.push(capture.staged(account.route, egress, account.received_ns(), bytes));
        }
    }

    /// Submits all frames to the TX ring of `queue`. A full ring is held against for `hold` in all, however slowly it
    /// drains meanwhile: the other queues wait, too. What is left then, and everything where there is no queue, is
    /// dropped.
    pub(super) fn send<P: Port<Frame = F>>(
        &mut self,
        port: &mut P,
        queue: Option<usize>,
        hold: Duration,
        tally: &Tally<'_>,
    ) {
        let Some(queue) = queue else {
            self.drop_all(port, DropReason::NoEgress, tally);
            return;
        };
        let mut full_since_ns = None;
        loop {
            let sent = port.tx_burst(queue, &mut self.frames);
            let now_ns = port.submitted_at_ns();
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
            port.complete(queue, &tally.counters.completion);
        }
    }

    fn drop_all<P: Port<Frame = F>>(&mut self, port: &mut P, reason: DropReason, tally: &Tally<'_>) {
        let mut staged = self.staged.drain(..);
        for (mut frame, account) in self.frames.drain(..).zip(self.accounts.drain(..)) {
            tally.drop_routed(reason, account.route, u64::from(account.bytes));
            if let (Some(capture), Some(staged)) = (tally.capture, staged.next()) {
                let bytes = port.bytes_mut(&mut frame);
                capture.not_sent(staged, reason, account.route, account.received_ns(), bytes);
            }
            port.release(frame);
        }
    }
}

/// Where verdicts are counted: the worker's own cells; and who watches.
pub(super) struct Tally<'a> {
    pub(super) worker: usize,
    pub(super) counters: &'a WorkerCounters,
    pub(super) table: &'a ForwardingTable,
    /// When the burst was read.
    pub(super) burst_ns: u64,
    /// The capture that runs.
    pub(super) capture: Option<&'a Burst<'a>>,
}

impl Tally<'_> {
    #[inline]
    fn sent(&self, accounts: &[Account], now_ns: u64) {
        let (mut bytes, mut stamped) = (0, 0);
        let (mut run, mut run_bytes, mut run_of) = (0, 0, None);
        for account in accounts {
            stamped += u64::from(account.received_ns.is_some());
            if let Some(cell) = self.of_real_server(account.route.real_server) {
                cell.count_tx(1, u64::from(account.bytes));
            }
            // Most bursts are for few services.
            if run_of != Some(account.route.service) {
                self.count_run(run_of, run, run_bytes);
                bytes += run_bytes;
                (run, run_bytes, run_of) = (0, 0, Some(account.route.service));
            }
            run += 1;
            run_bytes += u64::from(account.bytes);
        }
        self.count_run(run_of, run, run_bytes);
        bytes += run_bytes;
        let sent = accounts.len() as u64;
        self.counters.outcomes.count_tx(sent, bytes);
        if stamped < sent {
            self.counters.unstamped.add(sent - stamped);
        }
        let processing_ns = now_ns.saturating_sub(self.burst_ns);
        self.counters.processing.record_n(processing_ns, sent);
        let stamps = accounts.iter().filter_map(Account::received_ns);
        let queueing_ns = stamps.map(|received_ns| self.burst_ns.saturating_sub(received_ns));
        self.counters.queueing.record_with_later(&self.counters.latency, processing_ns, queueing_ns);
    }

    /// Counts a frame that is dropped as soon as it is decided on, and gives it back.
    pub(super) fn drop_frame<P: Port>(
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
        let cells = [service.and_then(|at| self.of_service(at)), real_server.and_then(|at| self.of_real_server(at))];
        cells.into_iter().flatten().for_each(|cell| cell.count_drop(reason, bytes));
    }

    #[inline]
    fn count_run(&self, service: Option<u32>, frames: u64, bytes: u64) {
        if let Some(cell) = service.and_then(|at| self.of_service(at)) {
            cell.count_tx(frames, bytes);
        }
    }

    #[inline]
    fn of_service(&self, at: u32) -> Option<&Outcomes> {
        self.table.services().get(at as usize)?.outcomes.of(self.worker)
    }

    #[inline]
    fn of_real_server(&self, at: u32) -> Option<&Outcomes> {
        self.table.real_servers().get(at as usize)?.outcomes.of(self.worker)
    }
}
