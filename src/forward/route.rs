//! Which real server a frame goes to: by its flow's entry if there is one, else by the hash.
//!
//! What a flow's entry is worth, and what it takes:
//! - a first packet (SYN, bare ACK, UDP datagram) makes an *unconfirmed* entry of 30 s: anybody can forge one;
//! - a second packet of the same tuple confirms it: for TCP one that is no SYN and ends nothing, for UDP any;
//! - FIN or RST makes it *closing*, and a SYN then begins a new flow, which is scheduled anew.
//!
//! An entry whose real server is down stays, so that its flow comes back: meanwhile its packets take the second choice of
//! the hash. An entry whose real server was removed is given the choice of the hash.

use crate::flow::{Change, FlowKey, FlowRecord, FlowState, Inserted, WorkerFlows};
use crate::forward::PacketKind;
use crate::table::{ForwardingTable, VirtualService};
use crate::wire::{Shape, Subject};

/// Life of an unconfirmed entry, in seconds.
const UNCONFIRMED_S: u32 = 30;
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
    /// The entry of the datagram's first fragment.
    FirstFragment,
    /// The QUIC connection id.
    ConnectionId,
    /// The hash of the addresses, for want of ports and of a first fragment.
    AddressHash,
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

impl Router<'_> {
    /// Position of the real server of a frame, or `None` if its service has none.
    #[inline]
    pub(super) fn route(
        &mut self,
        frame: &[u8],
        subject: &Subject,
        service: u32,
        hash: u64,
        kind: PacketKind,
    ) -> Option<u32> {
        let service = self.table.services().get(service as usize)?;
        match subject.shape {
            Shape::Datagram => match &service.quic {
                Some(servers) if kind == PacketKind::Datagram => self.quic(frame, subject, service, servers, hash),
                _ => self.flow(subject, service, hash, kind),
            },
            Shape::FirstFragment => {
                let real_server = self.flow(subject, service, hash, kind)?;
                self.remember_fragment(subject, real_server);
                Some(real_server)
            }
            Shape::Quote => self.quote(subject, service, hash),
            _ => self.without_ports(subject, service),
        }
    }

    #[inline]
    pub(super) fn flow(
        &mut self,
        subject: &Subject,
        service: &VirtualService,
        hash: u64,
        kind: PacketKind,
    ) -> Option<u32> {
        let key = FlowKey::flow(subject, service.id);
        match self.flows.flows.get(hash, &key, self.now_s) {
            Some(record) => self.known(subject, service, hash, kind, &key, &record),
            None => self.unknown(subject, service, hash, kind, &key),
        }
    }

    /// A flow that has an entry.
    #[inline]
    fn known(
        &mut self,
        subject: &Subject,
        service: &VirtualService,
        hash: u64,
        kind: PacketKind,
        key: &FlowKey,
        record: &FlowRecord,
    ) -> Option<u32> {
        let position = self.table.position_of(record.real_server);
        let found = position.and_then(|at| Some((at, self.table.real_servers().get(at as usize)?)));
        let begins_anew = kind == PacketKind::Begin
            && match record.state {
                FlowState::Closing => true,
                FlowState::Unconfirmed => !found.is_some_and(|(_, server)| server.is_alive() && server.weight > 0),
                FlowState::Established => false,
            };
        let state = if begins_anew { FlowState::Unconfirmed } else { next_state(record.state, kind) };
        let (real_server, remembered) = match found {
            Some((at, server)) if !begins_anew && server.is_alive() => (at, record.real_server),
            // It is down, not gone: the entry stays its own.
            Some(_) if !begins_anew => {
                let counted = self.counts.second_choices;
                let real_server = self.by_hash(subject, service)?;
                self.counts.second_choices = counted + 1;
                (real_server, record.real_server)
            }
            _ => {
                let at = self.by_hash(subject, service)?;
                (at, self.table.real_servers().get(at as usize)?.id)
            }
        };
        self.counts.last = Some(How::Entry);
        let life_s = life_s(service, state, kind);
        self.flows.flows.update(hash, key, self.now_s, |_| Change { state, life_s, real_server: remembered });
        Some(real_server)
    }

    /// A flow that has no entry. It may have one at a peer, if its packets have moved to this worker; while the service
    /// was not changed the hash finds the same.
    #[cold]
    fn unknown(
        &mut self,
        subject: &Subject,
        service: &VirtualService,
        hash: u64,
        kind: PacketKind,
        key: &FlowKey,
    ) -> Option<u32> {
        let mut state = FlowState::Unconfirmed;
        let mut real_server = None;
        if kind != PacketKind::Begin && service.has_changed_lately(self.now_s) {
            if let Some(record) = self.flows.flow_of_peer(hash, key, self.now_s) {
                real_server = self.table.position_of(record.real_server).filter(|at| self.is_alive(*at));
                if real_server.is_some() {
                    state = next_state(record.state, kind);
                    self.counts.peer_hits += 1;
                    self.counts.last = Some(How::PeerEntry);
                }
            }
            if real_server.is_none() && kind != PacketKind::Datagram {
                let hash = self.table.hash(service, subject);
                real_server = self.table.choose_before(service, hash, self.now_s);
                if real_server.is_some() {
                    self.counts.previous_table_hits += 1;
                    self.counts.last = Some(How::PreviousTable);
                }
            }
        }
        let real_server = match real_server {
            Some(real_server) => real_server,
            None => self.by_hash(subject, service)?,
        };
        // What ends a flow that nobody knows is not worth an entry.
        if kind != PacketKind::End {
            let id = self.table.real_servers().get(real_server as usize)?.id;
            let entry = Change { state, life_s: life_s(service, state, kind), real_server: id };
            self.remember(hash, key, entry);
        }
        Some(real_server)
    }

    /// Gives a flow its first entry.
    pub(super) fn remember(&mut self, hash: u64, key: &FlowKey, entry: Change) {
        match self.flows.flows.insert(hash, key, self.now_s, entry) {
            Inserted::Stored => self.counts.new_flows += 1,
            Inserted::Evicting(_) => {
                self.counts.new_flows += 1;
                self.counts.evicted_flows += 1;
            }
            Inserted::NoRoom => self.counts.flows_without_room += 1,
        }
    }

    /// An ICMP error goes where the flow goes that it quotes, whichever worker has that.
    #[cold]
    fn quote(&mut self, subject: &Subject, service: &VirtualService, hash: u64) -> Option<u32> {
        let key = FlowKey::flow(subject, service.id);
        let own = self.flows.flows.get(hash, &key, self.now_s);
        let how = if own.is_some() { How::Entry } else { How::PeerEntry };
        let record = own.or_else(|| self.flows.flow_of_peer(hash, &key, self.now_s));
        let position = record.and_then(|record| self.table.position_of(record.real_server));
        match position.filter(|at| self.is_alive(*at)) {
            Some(position) => {
                self.counts.last = Some(how);
                Some(position)
            }
            None => self.by_hash(subject, service),
        }
    }

    /// A later fragment, or an error that quotes one.
    #[cold]
    fn without_ports(&mut self, subject: &Subject, service: &VirtualService) -> Option<u32> {
        let key = FlowKey::fragment(subject, service.id);
        let record = self.flows.fragment(self.table.fragment_hash(subject), &key, self.now_s);
        let position = record.and_then(|record| self.table.position_of(record.real_server));
        if let Some(position) = position.filter(|at| self.is_alive(*at)) {
            self.counts.fragment_hits += 1;
            self.counts.last = Some(How::FirstFragment);
            return Some(position);
        }
        self.counts.fragment_misses += 1;
        let real_server = self.by_hash(subject, service);
        self.counts.last = Some(How::AddressHash);
        real_server
    }

    #[cold]
    fn remember_fragment(&mut self, subject: &Subject, real_server: u32) {
        let first = self.table.index().first_of(subject.family, &subject.vip, subject.protocol);
        let first = first.and_then(|at| self.table.services().get(at as usize));
        let (Some(first), Some(server)) = (first, self.table.real_servers().get(real_server as usize)) else { return };
        let key = FlowKey::fragment(subject, first.id);
        let entry = Change { state: FlowState::Unconfirmed, life_s: FRAGMENT_S, real_server: server.id };
        self.flows.remember_fragment(self.table.fragment_hash(subject), &key, self.now_s, entry);
    }

    #[inline]
    fn by_hash(&mut self, subject: &Subject, service: &VirtualService) -> Option<u32> {
        self.counts.last = Some(How::Hash);
        let choice = self.table.choose(service, self.table.hash(service, subject))?;
        self.counts.second_choices += u64::from(choice.skipped > 0);
        Some(choice.real_server)
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
