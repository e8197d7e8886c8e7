//! The forwarding decision: frame bytes and table in, verdict out.
//!
//! Pure but for the twelve bytes of MAC addresses that it rewrites in a frame whose verdict is `Tx`. It never sees a
//! socket, never allocates and never panics.

use crate::table::ForwardingTable;
use crate::verdict::{DropReason, Route, Verdict};
use crate::wire::{self, Shape, Subject, ethernet};

const TCP: u8 = 6;
const TCP_HEADER_LEN: usize = 20;
const UDP_HEADER_LEN: usize = 8;

/// Decides what becomes of a redirected frame, from its destination MAC on, and rewrites its addresses if it is to
/// leave.
#[inline]
pub fn forward(frame: &mut [u8], table: &ForwardingTable) -> Verdict {
    let Ok(subject) = wire::subject(frame) else {
        return drop_unrouted(DropReason::Malformed);
    };
    let Some(position) = table.service_of(&subject) else {
        return drop_unrouted(DropReason::NoService);
    };
    let Some(service) = table.services().get(position as usize) else {
        return drop_unrouted(DropReason::NoService);
    };
    if let Err(reason) = check_l4(frame, &subject) {
        return Verdict::Drop { reason, service: Some(position), real_server: None };
    }
    let hash = table.hash(service, &subject);
    let chosen = table.choose(service, hash).map(|choice| choice.real_server);
    let Some((chosen, real_server)) = chosen.and_then(|at| Some((at, table.real_servers().get(at as usize)?))) else {
        return Verdict::Drop { reason: DropReason::NoRealServer, service: Some(position), real_server: None };
    };
    if frame.len() - subject.l3_offset > real_server.mtu() as usize {
        return Verdict::Drop { reason: DropReason::MtuExceeded, service: Some(position), real_server: Some(chosen) };
    }
    ethernet::rewrite(frame, real_server.macs());
    Verdict::Tx { egress: real_server.egress(), route: Route { service: position, real_server: chosen } }
}

#[inline]
fn drop_unrouted(reason: DropReason) -> Verdict {
    Verdict::Drop { reason, service: None, real_server: None }
}

/// Checks the L4 header of a whole datagram; fragments are checked where they are put together, at the real server.
#[inline]
fn check_l4(frame: &[u8], subject: &Subject) -> Result<(), DropReason> {
    match subject.shape {
        Shape::Truncated | Shape::TruncatedFragment | Shape::TruncatedQuote => return Err(DropReason::TruncatedL4),
        Shape::Datagram => {}
        _ => return Ok(()),
    }
    let l4 = frame.get(subject.l4_offset..subject.l4_offset + subject.l4_len).ok_or(DropReason::Malformed)?;
    let fits = if subject.protocol == TCP {
        l4.first_chunk::<TCP_HEADER_LEN>().is_some_and(|header| {
            let header_len = usize::from(header[12] >> 4) * 4;
            header_len >= TCP_HEADER_LEN && header_len <= l4.len()
        })
    } else {
        l4.first_chunk::<UDP_HEADER_LEN>().is_some_and(|header| {
            let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
            length >= UDP_HEADER_LEN && length <= l4.len()
        })
    };
    if fits { Ok(()) } else { Err(DropReason::MalformedL4) }
}
