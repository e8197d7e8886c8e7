//! Datagrams of a QUIC service: by the connection id where it tells the real server, so that a flow stays on its real
//! server when its client's address changes; else by the tuple, as all flows.
//!
//! The tuple's entry follows the connection id, so that what has only the tuple (ICMP errors, packets with another id)
//! finds the same real server.

use super::UDP_HEADER_LEN;
use super::route::{How, Packet, Router, life_s, next_state};
use crate::flow::Change;
use crate::table::QuicServers;
use crate::wire::{Subject, quic};

impl Router<'_> {
    /// Position of the real server of a whole datagram to a QUIC service.
    pub(super) fn quic(&mut self, frame: &[u8], packet: &Packet<'_>, servers: &QuicServers) -> Option<u32> {
        let id = payload(frame, packet.subject).and_then(|payload| quic::server_id(payload, servers.id_len()));
        let position = id.and_then(|id| servers.position_of(&id)).filter(|at| self.is_alive(*at));
        let Some(position) = position else { return self.flow(packet) };
        let first = self.first_entry(packet, position)?;
        match self.flows.flows.find(packet.hash, packet.key, self.now_s) {
            Some(found) => {
                let state = next_state(found.state, packet.kind);
                let life_s = life_s(packet.service, state, packet.kind);
                self.keep(packet, &found, Change { state, life_s, ..first });
            }
            None => self.remember(packet, first),
        }
        self.counts.last = Some(How::ConnectionId);
        Some(position)
    }
}

/// What the UDP header says is its payload; that the datagram has so many bytes was checked before.
#[inline]
fn payload<'a>(frame: &'a [u8], subject: &Subject) -> Option<&'a [u8]> {
    let l4 = frame.get(subject.l4_offset..subject.l4_offset + subject.l4_len)?;
    let header = l4.first_chunk::<UDP_HEADER_LEN>()?;
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    l4.get(UDP_HEADER_LEN..length)
}
