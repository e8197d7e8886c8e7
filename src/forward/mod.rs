//! The forwarding decision: frame bytes, forwarding table and flow tables in, verdict out.
//!
//! It changes the worker's own flow tables and, in a frame whose verdict is `Tx`, the twelve bytes of MAC addresses. It
//! never sees a socket, never allocates and never panics.
//!
//! A decision has two steps, so that a burst can take the first for all its frames before it takes the second for any:
//! [`prepare`] reads the frame and has the flow's entry fetched from memory, [`decide`] uses it.

mod quic;
mod route;

pub use route::{Counts, How};

use crate::flow::WorkerFlows;
use crate::table::ForwardingTable;
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
    /// It is dropped.
    Drop {
        /// Why.
        reason: DropReason,
        /// Position of its service, where that is known.
        service: Option<u32>,
    },
    /// It belongs to a service.
    Flow {
        /// Whose it is.
        subject: Subject,
        /// Position of its service.
        service: u32,
        /// Hash of its whole tuple.
        hash: u64,
        /// What it does to its flow.
        kind: PacketKind,
    },
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
    let prepared = prepare(frame, table, flows);
    decide(&prepared, frame, table, flows, counts, now_s)
}

/// Reads a frame, and has the entry of its flow fetched.
#[inline]
pub fn prepare(frame: &[u8], table: &ForwardingTable, flows: &WorkerFlows) -> Prepared {
    let Ok(subject) = wire::subject(frame) else {
        return Prepared::Drop { reason: DropReason::Malformed, service: None };
    };
    let Some(service) = table.service_of(&subject) else {
        return Prepared::Drop { reason: DropReason::NoService, service: None };
    };
    match packet_kind(frame, &subject) {
        Ok(kind) => {
            let hash = table.flow_hash(&subject);
            flows.flows.prefetch(hash);
            Prepared::Flow { subject, service, hash, kind }
        }
        Err(reason) => Prepared::Drop { reason, service: Some(service) },
    }
}

/// Decides on a prepared frame.
#[inline]
pub fn decide(
    prepared: &Prepared,
    frame: &mut [u8],
    table: &ForwardingTable,
    flows: &mut WorkerFlows,
    counts: &mut Counts,
    now_s: u32,
) -> Verdict {
    let (subject, position, hash, kind) = match prepared {
        Prepared::Drop { reason, service } => {
            return Verdict::Drop { reason: *reason, service: *service, real_server: None };
        }
        Prepared::Flow { subject, service, hash, kind } => (subject, *service, *hash, *kind),
    };
    let routed = route::Router { table, flows, counts, now_s }.route(frame, subject, position, hash, kind);
    let found = routed.and_then(|at| Some((at, table.real_servers().get(at as usize)?)));
    let Some((chosen, real_server)) = found else {
        return Verdict::Drop { reason: DropReason::NoRealServer, service: Some(position), real_server: None };
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
#[inline]
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
