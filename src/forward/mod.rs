//! The forwarding decision: frame bytes, forwarding table and flow tables in, verdict out.
//!
//! It changes the worker's own flow tables and, in a frame whose verdict is `Tx`, the twelve bytes of MAC addresses. It
//! never sees a socket, never allocates and never panics.
//!
//! A decision has three steps, so that a burst can take each for all its frames before it takes the next for any, and
//! the memory that a step needs is fetched while the others' step before is taken: [`prepare`] reads the frame,
//! [`look_up`] finds its service, [`decide_quickly`] uses the flow's entry. Whatever is not as most frames are, [`decide`]
//! reads from the beginning.

mod quic;
mod route;
mod schedule;

pub use route::{Counts, How};
use route::{Packet, Router};

use crate::flow::{Change, FlowKey, FlowState, Likely, WorkerFlows};
use crate::table::{ForwardingTable, ServicePlace};
use crate::verdict::{DropReason, Route, Verdict};
use crate::wire::{self, Shape, Subject, ethernet};

const TCP: u8 = 6;
const TCP_HEADER_LEN: usize = 20;
const UDP_HEADER_LEN: usize = 8;
const TCP_FLAGS_OFFSET: usize = 13;
const FIN_OR_RST: u8 = 0x05;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// A frame that was read but not decided on: what most frames need later, and nothing else. The others are read again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Prepared {
    /// Hash of its flow's whole tuple.
    hash: u64,
    /// Key of its flow, with the service's number once that was looked up.
    key: FlowKey,
    /// Where its service is looked up.
    place: ServicePlace,
    /// Where its flow's entry most likely is.
    likely: Likely,
    way: Way,
    /// Bytes in front of the IP header.
    l3_offset: u8,
}

/// How a frame may be decided on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Way {
    /// A whole datagram in the middle of a TCP connection: by its flow's entry, if that is established.
    Middle,
    /// One of UDP: the same.
    Datagram,
    /// It has a flow, but must be looked at more closely.
    Close,
    /// It has no ports, no flow or no service; nothing can be fetched ahead.
    #[default]
    Blind,
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
    let mut prepared = Prepared::default();
    prepare(&mut prepared, frame, table, flows);
    look_up(&mut prepared, table, flows);
    match decide_quickly(&prepared, frame, table, flows, now_s) {
        Some((egress, route)) => {
            counts.last = Some(How::Entry);
            Verdict::Tx { egress, route }
        }
        None => decide(frame, table, flows, counts, now_s),
    }
}

/// Reads a frame, and has what its service and its flow's entry are looked up in fetched.
#[inline(always)]
pub fn prepare(prepared: &mut Prepared, frame: &[u8], table: &ForwardingTable, flows: &WorkerFlows) {
    match wire::plain_ipv4(frame) {
        Some(subject) => prepared.read(frame, &subject, table, flows),
        None => prepare_any(prepared, frame, table, flows),
    }
}

#[inline(never)]
fn prepare_any(prepared: &mut Prepared, frame: &[u8], table: &ForwardingTable, flows: &WorkerFlows) {
    match wire::subject(frame) {
        Ok(subject) => prepared.read(frame, &subject, table, flows),
        Err(_) => *prepared = Prepared::default(),
    }
}

impl Prepared {
    #[inline(always)]
    fn read(&mut self, frame: &[u8], subject: &Subject, table: &ForwardingTable, flows: &WorkerFlows) {
        self.way = match (subject.shape, packet_kind(frame, subject)) {
            (Shape::Datagram, Ok(PacketKind::Middle)) => Way::Middle,
            (Shape::Datagram, Ok(PacketKind::Datagram)) => Way::Datagram,
            (Shape::Datagram | Shape::FirstFragment | Shape::Quote, Ok(_)) => Way::Close,
            _ => Way::Blind,
        };
        self.hash = table.flow_hash(subject);
        flows.flows.prefetch(self.hash);
        self.place = ServicePlace::of(subject);
        table.index().prefetch(&self.place);
        self.key = FlowKey::flow(subject, 0);
        self.likely = Likely::default();
        // An IP header begins behind at most two tags.
        self.l3_offset = u8::try_from(subject.l3_offset).unwrap_or(u8::MAX);
    }
}

/// Finds the service of a prepared frame, and has the rest of what is known of its flow fetched.
#[inline(always)]
pub fn look_up(prepared: &mut Prepared, table: &ForwardingTable, flows: &WorkerFlows) {
    if prepared.way == Way::Blind {
        return;
    }
    let Some(found) = table.index().at(&prepared.place) else {
        // Its key names no service, and must not be looked for.
        prepared.way = Way::Blind;
        return;
    };
    prepared.key = prepared.key.with_service(found.id);
    prepared.likely = flows.flows.look_ahead(prepared.hash, &prepared.key);
    table.prefetch_target(prepared.likely.real_server());
}

/// Decides on what most frames are, once they were looked up: whole datagrams in the middle of an established flow whose
/// real server is alive. Rewrites the addresses, and returns the egress and the route. `None` says nothing about others.
#[inline(always)]
pub fn decide_quickly(
    prepared: &Prepared,
    frame: &mut [u8],
    table: &ForwardingTable,
    flows: &mut WorkerFlows,
    now_s: u32,
) -> Option<(u8, Route)> {
    if matches!(prepared.way, Way::Close | Way::Blind) {
        return None;
    }
    // It may be behind the first line of its set.
    let entry = flows.flows.at(prepared.likely, now_s);
    let entry = entry.or_else(|| flows.flows.find(prepared.hash, &prepared.key, now_s));
    let found = entry.filter(|found| found.state == FlowState::Established)?;
    let target = table.target(found.real_server)?;
    let life_s = match prepared.way {
        Way::Middle => target.tcp_s,
        Way::Datagram => target.udp_s,
        Way::Close | Way::Blind => 0,
    };
    if life_s == 0 || frame.len() > usize::from(target.mtu) + usize::from(prepared.l3_offset) {
        return None;
    }
    flows.flows.update(&found, now_s, Change { state: found.state, life_s, real_server: found.real_server });
    ethernet::rewrite(frame, &target.macs);
    Some((target.egress, Route { service: target.service, real_server: target.position }))
}

/// Decides on any frame.
#[inline(never)]
pub fn decide(
    frame: &mut [u8],
    table: &ForwardingTable,
    flows: &mut WorkerFlows,
    counts: &mut Counts,
    now_s: u32,
) -> Verdict {
    let dropped = |reason, service| Verdict::Drop { reason, service, real_server: None };
    let Ok(subject) = wire::subject(frame) else { return dropped(DropReason::Malformed, None) };
    let found = table.service_of(&subject);
    let found = found.and_then(|number| Some((number, table.services().get(number.position as usize)?)));
    let Some((number, service)) = found else { return dropped(DropReason::NoService, None) };
    let kind = match packet_kind(frame, &subject) {
        Ok(kind) => kind,
        Err(reason) => return dropped(reason, Some(number.position)),
    };
    let (key, hash) = (FlowKey::flow(&subject, number.id), table.flow_hash(&subject));
    let packet = Packet { subject: &subject, service, key: &key, hash, kind };
    let mut router = Router { table, flows, counts, now_s };
    let routed = router.any(frame, &packet);
    let found = routed.and_then(|at| Some((at, table.real_servers().get(at as usize)?)));
    let Some((chosen, real_server)) = found else {
        // While somebody takes new flows there is none for want of room alone.
        let is_full = service.rota().is_limited() && !service.rota().is_empty();
        let reason = if is_full { DropReason::ConnectionLimit } else { DropReason::NoRealServer };
        return dropped(reason, Some(number.position));
    };
    if frame.len() - subject.l3_offset.min(frame.len()) > real_server.mtu() as usize {
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
