//! Which real server a frame goes to: by its flow's entry if there is one, else by the hash.
//!
//! What a flow's entry is worth, and what it takes:
//! - a first packet (SYN, bare ACK, UDP datagram) makes an *unconfirmed* entry of 30 s: anybody can forge one;
//! - a second packet of the same tuple confirms it: for TCP one that is no SYN and ends nothing, for UDP any;
//! - FIN or RST makes it *closing*, and a SYN then begins a new flow, which is scheduled anew.
//!
//! An entry whose real server is down stays, so that its flow comes back: meanwhile its packets take the second choice of
//! the hash. An entry whose real server was removed is given the choice of the scheduler if a flow may begin with the
//! packet, else that of the hash.

use crate::flow::{Change, FlowKey, FlowState, Found, Room, WorkerFlows, connection_kind};
use crate::forward::PacketKind;
use crate::table::{ForwardingTable, HashBy, VirtualService};
use crate::wire::{Shape, Subject};

/// Life of an unconfirmed entry, in seconds.
pub(super) const UNCONFIRMED_S: u32 = 30;
/// How long the fragments of a datagram are waited for, in seconds, as the kernel does (`ipfrag_time`).
const FRAGMENT_S: u32 = 30;

/// By what a real server was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum How {
    /// The worker's own entry.
    Entry,
    /// Another worker's entry.
    PeerEntry,
    /// The service's table before its last change.
    PreviousTable,
    /// The hash.
    Hash,
    /// The scheduler, which does not hash: whose turn it was, or who had the fewest connections.
    Turn,
    /// What is kept of its client, for a service with a persistence timeout.
    Client,
    /// The entry of the datagram's first fragment.
    FirstFragment,
    /// The QUIC connection id.
    ConnectionId,
    /// The hash of the addresses, for want of ports and of a first fragment.
    AddressHash,
}

impl How {
    /// Its name in the output of `replay`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Entry => "entry",
            Self::PeerEntry => "peer_entry",
            Self::PreviousTable => "previous_table",
            Self::Hash => "hash",
            Self::Turn => "turn",
            Self::Client => "client",
            Self::FirstFragment => "first_fragment",
            Self::ConnectionId => "connection_id",
            Self::AddressHash => "address_hash",
        }
    }
}

/// What was done for the frames of a burst, for the worker's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Flows that got an entry.
    pub new_flows: u64,
    /// Flows that got none, because their set was full of established ones.
    pub flows_without_room: u64,
    /// Unconfirmed or closing flows that gave way to another.
    pub evicted_flows: u64,
    /// Frames that went by another worker's entry.
    pub peer_hits: u64,
    /// Frames that went by the table before the last change.
    pub previous_table_hits: u64,
    /// Fragments that went by their first fragment's entry.
    pub fragment_hits: u64,
    /// Fragments without such an entry, which went by the hash of their addresses.
    pub fragment_misses: u64,
    /// Frames whose real server was down or had no MAC address, and which took the second choice of the hash.
    pub second_choices: u64,
    /// By what the last frame's real server was found.
    pub last: Option<How>,
}

pub(super) struct Router<'a> {
    pub(super) table: &'a ForwardingTable,
    pub(super) flows: &'a mut WorkerFlows,
    pub(super) counts: &'a mut Counts,
    pub(super) now_s: u32,
}

/// A frame of a service, as it was read.
pub(super) struct Packet<'a> {
    pub(super) subject: &'a Subject,
    pub(super) service: &'a VirtualService,
    pub(super) key: &'a FlowKey,
    /// Hash of its whole tuple.
    pub(super) hash: u64,
    pub(super) kind: PacketKind,
}

impl Packet<'_> {
    /// Whether a flow may begin with it.
    #[inline]
    pub(super) fn may_begin(&self) -> bool {
        matches!(self.kind, PacketKind::Begin | PacketKind::Datagram)
    }
}

impl Router<'_> {
    /// Position of the real server of any frame, or `None` if its service has none.
    #[inline]
    pub(super) fn any(&mut self, frame: &[u8], packet: &Packet<'_>) -> Option<u32> {
        match packet.subject.shape {
            Shape::Datagram => match &packet.service.quic {
                Some(servers) if packet.kind == PacketKind::Datagram => self.quic(frame, packet, servers),
                _ => self.flow(packet),
            },
            Shape::FirstFragment => {
                let real_server = self.flow(packet)?;
                self.remember_fragment(packet.subject, real_server);
                Some(real_server)
            }
            Shape::Quote => self.quote(packet),
            _ => self.without_ports(packet),
        }
    }

    #[inline]
    pub(super) fn flow(&mut self, packet: &Packet<'_>) -> Option<u32> {
        match self.flows.flows.find(packet.hash, packet.key, self.now_s) {
            Some(found) => self.known(packet, &found),
            None => self.unknown(packet),
        }
    }

    /// A flow that has an entry.
    fn known(&mut self, packet: &Packet<'_>, found: &Found) -> Option<u32> {
        let (real_server, entry) = self.by_entry(packet, found.state, found.real_server)?;
        if entry.real_server == found.real_server {
            self.counts.last = Some(How::Entry);
        }
        self.keep(packet, found, entry);
        Some(real_server)
    }

    /// Where a flow goes by an entry, its own worker's or another's, and what the entry is from now on.
    fn by_entry(&mut self, packet: &Packet<'_>, state: FlowState, id: u32) -> Option<(u32, Change)> {
        let position = self.table.position_of(id);
        let server = position.and_then(|at| Some((at, self.table.real_servers().get(at as usize)?)));
        let begins_anew = packet.kind == PacketKind::Begin
            && match state {
                FlowState::Closing => true,
                FlowState::Unconfirmed => !server.is_some_and(|(_, server)| server.is_alive() && server.weight > 0),
                FlowState::Established => false,
            };
        let state = if begins_anew { FlowState::Unconfirmed } else { next_state(state, packet.kind) };
        let (at, remembered) = match server {
            Some((at, server)) if !begins_anew && server.is_alive() => (at, id),
            // It is down, not gone: the entry stays its own.
            Some(_) if !begins_anew => {
                let counted = self.counts.second_choices;
                let at = self.by_hash(packet)?;
                self.counts.second_choices = counted + 1;
                (at, id)
            }
            _ => {
                let at = if packet.may_begin() { self.anew(packet, state) } else { self.by_hash(packet) }?;
                (at, self.table.real_servers().get(at as usize)?.id)
            }
        };
        Some((at, Change { state, life_s: life_s(packet.service, state, packet.kind), real_server: remembered }))
    }

    /// A flow that has no entry. It may have one at a peer, if its packets have moved to this worker; while the service
    /// was not changed its hash finds the same, if it was found by that.
    #[cold]
    fn unknown(&mut self, packet: &Packet<'_>) -> Option<u32> {
        let (mut by_peer, mut by_table_before) = (None, None);
        if packet.kind != PacketKind::Begin {
            let has_changed = packet.service.has_changed_lately(self.now_s);
            if has_changed || !packet.service.finds_by_hash() {
                by_peer = self.by_peer(packet);
            }
            if by_peer.is_none() && has_changed && packet.kind != PacketKind::Datagram {
                by_table_before = self.table.choose_before(packet.service, self.choice_hash(packet), self.now_s);
                self.counts.previous_table_hits += u64::from(by_table_before.is_some());
            }
        }
        let (real_server, entry) = match (by_peer, by_table_before) {
            (Some(found), _) => found,
            (None, Some(at)) => {
                self.counts.last = Some(How::PreviousTable);
                (at, self.first_entry(packet, at)?)
            }
            (None, None) if packet.may_begin() => return self.begin(packet),
            // Without its beginning nobody knows whose turn it was.
            (None, None) => {
                let at = self.by_client(packet).or_else(|| self.by_hash(packet))?;
                (at, self.first_entry(packet, at)?)
            }
        };
        // What ends a flow that nobody knows is not worth an entry.
        if packet.kind != PacketKind::End {
            self.remember(packet, entry);
        }
        Some(real_server)
    }

    /// Where a flow goes by another worker's entry, and what the own one is to be. An entry whose real server was removed
    /// is worth nothing here.
    fn by_peer(&mut self, packet: &Packet<'_>) -> Option<(u32, Change)> {
        let record = self.flows.flow_of_peer(packet.hash, packet.key, self.now_s)?;
        self.table.position_of(record.real_server)?;
        let found = self.by_entry(packet, record.state, record.real_server)?;
        self.counts.peer_hits += 1;
        self.counts.last = Some(How::PeerEntry);
        Some(found)
    }

    /// The entry of a flow of which one packet was seen.
    pub(super) fn first_entry(&self, packet: &Packet<'_>, real_server: u32) -> Option<Change> {
        let state = FlowState::Unconfirmed;
        let id = self.table.real_servers().get(real_server as usize)?.id;
        Some(Change { state, life_s: life_s(packet.service, state, packet.kind), real_server: id })
    }

    /// Gives a flow its first entry.
    pub(super) fn remember(&mut self, packet: &Packet<'_>, entry: Change) {
        if let Some(room) = self.room_for_flow(packet, entry.state) {
            self.fill(packet, &room, entry);
        }
    }

    /// Room for a flow's first entry. Without it the flow must go by its hash, as its next packet will.
    pub(super) fn room_for_flow(&mut self, packet: &Packet<'_>, state: FlowState) -> Option<Room> {
        let room = self.flows.make_room(packet.hash, self.now_s, state, self.table.connections());
        match &room {
            Some(room) => self.counts.evicted_flows += u64::from(room.evicted.is_some()),
            None => self.counts.flows_without_room += 1,
        }
        room
    }

    pub(super) fn fill(&mut self, packet: &Packet<'_>, room: &Room, entry: Change) {
        self.flows.fill(room, packet.key, self.now_s, entry, self.table.connections());
        self.counts.new_flows += 1;
    }

    /// Has a flow's entry live on.
    #[inline]
    pub(super) fn keep(&mut self, packet: &Packet<'_>, found: &Found, entry: Change) {
        let has_changed = self.flows.flows.update(found, self.now_s, entry);
        self.recount(found, entry, false);
        if has_changed && packet.service.persistence.is_some() {
            self.keep_client(packet, entry);
        }
    }

    /// Counts an entry as what it is now.
    #[inline]
    pub(super) fn recount(&self, found: &Found, entry: Change, is_template: bool) {
        if (found.state, found.real_server) == (entry.state, entry.real_server) {
            return;
        }
        let (connections, worker) = (self.table.connections(), self.flows.worker);
        if let Some(cell) = connections.of(worker, found.real_server) {
            cell.remove(connection_kind(found.state, is_template));
        }
        if let Some(cell) = connections.of(worker, entry.real_server) {
            cell.add(connection_kind(entry.state, is_template));
        }
    }

    /// An ICMP error goes where the flow goes that it quotes, whichever worker has that.
    #[cold]
    fn quote(&mut self, packet: &Packet<'_>) -> Option<u32> {
        let own = self.flows.flows.find(packet.hash, packet.key, self.now_s).map(|found| found.real_server);
        let how = if own.is_some() { How::Entry } else { How::PeerEntry };
        let number = own.or_else(|| Some(self.flows.flow_of_peer(packet.hash, packet.key, self.now_s)?.real_server));
        match number.and_then(|number| self.table.position_of(number)).filter(|at| self.is_alive(*at)) {
            Some(position) => {
                self.counts.last = Some(how);
                Some(position)
            }
            None => self.by_hash(packet),
        }
    }

    /// A later fragment, or an error that quotes one.
    #[cold]
    fn without_ports(&mut self, packet: &Packet<'_>) -> Option<u32> {
        let key = FlowKey::fragment(packet.subject, packet.service.id);
        let number = self.flows.fragment(self.table.fragment_hash(packet.subject), &key, self.now_s);
        let position = number.and_then(|number| self.table.position_of(number));
        if let Some(position) = position.filter(|at| self.is_alive(*at)) {
            self.counts.fragment_hits += 1;
            self.counts.last = Some(How::FirstFragment);
            return Some(position);
        }
        self.counts.fragment_misses += 1;
        let real_server = self.by_hash(packet);
        self.counts.last = Some(How::AddressHash);
        real_server
    }

    #[cold]
    fn remember_fragment(&mut self, subject: &Subject, real_server: u32) {
        let first = self.table.index().first_of(subject.family, &subject.vip, subject.protocol);
        let (Some(first), Some(server)) = (first, self.table.real_servers().get(real_server as usize)) else { return };
        let key = FlowKey::fragment(subject, first.id);
        let entry = Change { state: FlowState::Unconfirmed, life_s: FRAGMENT_S, real_server: server.id };
        self.flows.remember_fragment(self.table.fragment_hash(subject), &key, self.now_s, entry);
    }

    #[inline]
    pub(super) fn by_hash(&mut self, packet: &Packet<'_>) -> Option<u32> {
        self.counts.last = Some(How::Hash);
        let choice = self.table.choose(packet.service, self.choice_hash(packet))?;
        self.counts.second_choices += u64::from(choice.skipped > 0);
        Some(choice.real_server)
    }

    #[inline]
    pub(super) fn choice_hash(&self, packet: &Packet<'_>) -> u64 {
        match packet.service.hash_by {
            HashBy::Flow => packet.hash,
            HashBy::Client => self.table.hash(packet.service, packet.subject),
        }
    }

    #[inline]
    pub(super) fn is_alive(&self, position: u32) -> bool {
        self.table.real_servers().get(position as usize).is_some_and(|server| server.is_alive())
    }
}

#[inline]
pub(super) fn next_state(state: FlowState, kind: PacketKind) -> FlowState {
    match (state, kind) {
        (_, PacketKind::End) | (FlowState::Closing, _) => FlowState::Closing,
        (FlowState::Unconfirmed, PacketKind::Begin) => FlowState::Unconfirmed,
        _ => FlowState::Established,
    }
}

#[inline]
pub(super) fn life_s(service: &VirtualService, state: FlowState, kind: PacketKind) -> u32 {
    match (state, kind) {
        (FlowState::Unconfirmed, _) => UNCONFIRMED_S,
        (FlowState::Closing, _) => service.timeouts.tcp_fin_s,
        (FlowState::Established, PacketKind::Datagram) => service.timeouts.udp_s,
        (FlowState::Established, _) => service.timeouts.tcp_s,
    }
}
