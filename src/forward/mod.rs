//! The forwarding decision: frame bytes, forwarding table and flow tables in, verdict out.
//!
//! It changes the worker's own flow tables and, in a frame whose verdict is `Tx`, the twelve bytes of MAC addresses. It
//! never sees a socket, never allocates and never panics.
//!
//! A decision has three steps, so that a burst can take each for all its frames before it takes the next for any, and
//! the memory that a step needs is fetched while the others' step before is taken: [`prepare`] reads the frame,
//! [`look_up`] finds its service, [`decide`] uses the flow's entry.

mod quic;
mod route;
mod schedule;

pub use route::{Counts, How};
use route::{Packet, Router};

use crate::flow::{FlowKey, Likely, WorkerFlows};
use crate::table::{ForwardingTable, ServiceNumber};
use crate::verdict::{DropReason, Route, Verdict};
use crate::wire::{self, Shape, Subject, ethernet};

const TCP: u8 = 6;
const TCP_HEADER_LEN: usize = 20;
const UDP_HEADER_LEN: usize = 8;
const TCP_FLAGS_OFFSET: usize = 13;
const FIN_OR_RST: u8 = 0x05;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// A frame that was read but not decided on.
#[derive(Clone, Copy, Debug)]
pub enum Prepared {
    /// It is about no flow that could be balanced.
    Malformed,
    /// It may belong to a service.
    Flow(PreparedFlow),
}

/// What was read of a frame, and found of its flow.
#[derive(Clone, Copy, Debug)]
pub struct PreparedFlow {
    /// Whose it is.
    pub subject: Subject,
    /// Hash of its whole tuple.
    pub hash: u64,
    /// What it does to its flow, or why it is dropped if it belongs to a service.
    pub kind: Result<PacketKind, DropReason>,
    /// The service that it belongs to, once it was looked up.
    service: Option<ServiceNumber>,
    key: FlowKey,
    /// Where its flow's entry most likely is.
    likely: Likely,
}

/// What a packet does to its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketKind {
    /// TCP SYN without ACK: begins a connection.
    Begin,
    /// TCP FIN or RST: ends it.
    End,
    /// Any other of TCP: there should be an entry.
    Middle,
    /// UDP, of which nobody can tell.
    Datagram,
}

/// Decides what becomes of one redirected frame, from its destination MAC on, and rewrites its addresses if it is to
/// leave. `now_s` is the coarse time.
#[inline]
pub fn forward(
    frame: &mut [u8],
    table: &ForwardingTable,
    flows: &mut WorkerFlows,
    counts: &mut Counts,
    now_s: u32,
) -> Verdict {
    let mut prepared = prepare(frame, table, flows);
    look_up(&mut prepared, table, flows);
    decide(&prepared, frame, table, flows, counts, now_s)
}

/// Reads a frame, and has what its service and its flow's entry are looked up in fetched.
#[inline(always)]
pub fn prepare(frame: &[u8], table: &ForwardingTable, flows: &WorkerFlows) -> Prepared {
    let Ok(subject) = wire::subject(frame) else { return Prepared::Malformed };
    let kind = packet_kind(frame, &subject);
    let hash = table.flow_hash(&subject);
    table.index().prefetch(subject.family, &subject.vip, subject.protocol, subject.service_port);
    flows.flows.prefetch(hash);
    let key = FlowKey::flow(&subject, 0);
    Prepared::Flow(PreparedFlow { subject, hash, kind, service: None, key, likely: Likely::default() })
}

/// Finds the service of a prepared frame, and has the rest of what is known of its flow fetched.
#[inline(always)]
pub fn look_up(prepared: &mut Prepared, table: &ForwardingTable, flows: &WorkerFlows) {
    if let Prepared::Flow(flow) = prepared
        && let Some(found) = table.service_of(&flow.subject)
    {
        flow.service = Some(found);
        flow.key = flow.key.with_service(found.id);
        flow.likely = flows.flows.look_ahead(flow.hash, &flow.key);
    }
}

/// Decides on a frame that was looked up.
#[inline(always)]
pub fn decide(
    prepared: &Prepared,
    frame: &mut [u8],
    table: &ForwardingTable,
    flows: &mut WorkerFlows,
    counts: &mut Counts,
    now_s: u32,
) -> Verdict {
    let dropped = |reason, service| Verdict::Drop { reason, service, real_server: None };
    let Prepared::Flow(flow) = prepared else { return dropped(DropReason::Malformed, None) };
    let Some(number) = flow.service else { return dropped(DropReason::NoService, None) };
    let kind = match flow.kind {
        Ok(kind) => kind,
        Err(reason) => return dropped(reason, Some(number.position)),
    };
    let Some(service) = table.services().get(number.position as usize) else {
        return dropped(DropReason::NoService, None);
    };
    let packet = Packet { subject: &flow.subject, service, key: &flow.key, hash: flow.hash, kind };
    let mut router = Router { table, flows, counts, now_s };
    let routed = router.most(&packet, flow.likely).or_else(|| router.any(frame, &packet));
    let found = routed.and_then(|at| Some((at, table.real_servers().get(at as usize)?)));
    let Some((chosen, real_server)) = found else {
        // While somebody takes new flows there is none for want of room alone.
        let is_full = service.rota().is_limited() && !service.rota().is_empty();
        let reason = if is_full { DropReason::ConnectionLimit } else { DropReason::NoRealServer };
        return dropped(reason, Some(number.position));
    };
    if frame.len() - flow.subject.l3_offset.min(frame.len()) > real_server.mtu() as usize {
        return Verdict::Drop {
            reason: DropReason::MtuExceeded,
            service: Some(real_server.service),
            real_server: Some(chosen),
        };
    }
    ethernet::rewrite(frame, real_server.macs());
    Verdict::Tx { egress: real_server.egress(), route: Route { service: real_server.service, real_server: chosen } }
}

/// Checks the L4 header of a whole datagram and tells what it does to its flow. Fragments are checked where they are put
/// together, at the real server.
#[inline(always)]
fn packet_kind(frame: &[u8], subject: &Subject) -> Result<PacketKind, DropReason> {
    let l4 = || frame.get(subject.l4_offset..subject.l4_offset + subject.l4_len).unwrap_or(&[]);
    match (subject.shape, subject.protocol) {
        (Shape::Truncated | Shape::TruncatedFragment | Shape::TruncatedQuote, _) => Err(DropReason::TruncatedL4),
        (Shape::Datagram, TCP) => tcp_kind(l4()).ok_or(DropReason::MalformedL4),
        (Shape::Datagram, _) => udp_fits(l4()).then_some(PacketKind::Datagram).ok_or(DropReason::MalformedL4),
        (Shape::FirstFragment, TCP) => {
            Ok(l4().get(TCP_FLAGS_OFFSET).map_or(PacketKind::Middle, |flags| of_flags(*flags)))
        }
        (_, TCP) => Ok(PacketKind::Middle),
        _ => Ok(PacketKind::Datagram),
    }
}

#[inline]
fn tcp_kind(l4: &[u8]) -> Option<PacketKind> {
    let header = l4.first_chunk::<TCP_HEADER_LEN>()?;
    let header_len = usize::from(header[12] >> 4) * 4;
    (header_len >= TCP_HEADER_LEN && header_len <= l4.len()).then(|| of_flags(header[TCP_FLAGS_OFFSET]))
}

#[inline]
fn of_flags(flags: u8) -> PacketKind {
    if flags & FIN_OR_RST != 0 {
        PacketKind::End
    } else if flags & (SYN | ACK) == SYN {
        PacketKind::Begin
    } else {
        PacketKind::Middle
    }
}

#[inline]
fn udp_fits(l4: &[u8]) -> bool {
    l4.first_chunk::<UDP_HEADER_LEN>().is_some_and(|header| {
        let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
        length >= UDP_HEADER_LEN && length <= l4.len()
    })
}
