//! The sums that must agree: nothing that was redirected, received or lent to the kernel is lost without a name.

use super::report::{
    FrameIdentity, Frames, Identity, InterfaceReport, RedirectIdentity, Totals, VerdictIdentity, WorkerReport,
};

impl Identity {
    /// Both sides of each sum, from the rest of a report.
    pub(super) fn of(interfaces: &[InterfaceReport], workers: &[WorkerReport], totals: &Totals) -> Self {
        Self {
            redirects: redirect_identity(interfaces),
            verdicts: verdict_identity(totals),
            frames: frame_identity(workers),
        }
    }
}

fn redirect_identity(interfaces: &[InterfaceReport]) -> RedirectIdentity {
    let queues = || interfaces.iter().flat_map(|interface| &interface.queues);
    let redirected = sum_known(interfaces.iter().map(|interface| interface.xdp.map(|xdp| xdp.redirected)));
    let rx_packets = queues().map(|queue| queue.rx.packets).fold(0, u64::wrapping_add);
    let rx_refused = queues().map(|queue| queue.rx_refused).fold(0, u64::wrapping_add);
    let rx_dropped = sum_known(queues().map(|queue| queue.ring_statistics.map(|rings| rings.rx_dropped)));
    let rx_ring_full = sum_known(queues().map(|queue| queue.ring_statistics.map(|rings| rings.rx_ring_full)));
    let redirect_errors = sum_known(interfaces.iter().map(|interface| interface.redirect_errors));
    let difference = redirected.zip(rx_dropped).zip(rx_ring_full).map(|((redirected, rx_dropped), rx_ring_full)| {
        let right = [rx_refused, rx_dropped, rx_ring_full, redirect_errors.unwrap_or(0)]
            .into_iter()
            .fold(rx_packets, u64::wrapping_add);
        difference(redirected, right)
    });
    RedirectIdentity {
        redirected,
        rx_packets,
        rx_refused,
        rx_dropped,
        rx_ring_full,
        redirect_errors,
        difference,
        holds: difference.map(|difference| difference == 0),
    }
}

fn verdict_identity(totals: &Totals) -> VerdictIdentity {
    let (received, tx, dropped) = (totals.received.packets, totals.tx.packets, totals.drops.total());
    let difference = difference(received, tx.wrapping_add(dropped));
    VerdictIdentity { received, tx, dropped, difference, holds: difference == 0 }
}

fn frame_identity(workers: &[WorkerReport]) -> FrameIdentity {
    let sum = |of: fn(&Frames) -> u64| workers.iter().map(|worker| of(&worker.frames)).fold(0, u64::wrapping_add);
    let total = sum(|frames| frames.total);
    let accounted = [sum(|f| f.fill), sum(|f| f.held), sum(|f| f.tx)].into_iter().fold(0, u64::wrapping_add);
    let difference = difference(total, accounted);
    FrameIdentity { total, accounted, difference, holds: difference == 0 }
}

/// The sum, if every part is known.
fn sum_known(parts: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    let mut sum = 0u64;
    for part in parts {
        sum = sum.wrapping_add(part?);
    }
    Some(sum)
}

/// Left less right. Counters wrap around, so their difference does too.
fn difference(left: u64, right: u64) -> i64 {
    left.wrapping_sub(right).cast_signed()
}
