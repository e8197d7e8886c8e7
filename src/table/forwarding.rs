//! The forwarding table itself: immutable, built off the packets' path, published whole.

use std::net::IpAddr;
use std::sync::Arc;

use super::availability::Standing;
use super::build::Builder;
use super::hash::FlowHasher;
use super::limit::ConnectionLimit;
use super::maglev::{Maglev, Member};
use super::plan::{ClientPersistence, Egress, FlowTimeouts, HashBy, NextHop, TablePlan};
use super::quic::QuicServers;
use super::scheduler::{Cursor, Load, Rota, Scheduler};
use super::services::{ServiceIndex, ServiceNumber};
use super::target::{NOWHERE, Target};
use crate::counters::connections::{ConnectionCounts, Connections};
use crate::counters::{Outcomes, PerWorker};
use crate::prefetch::prefetch;
use crate::service::ServiceKey;
use crate::wire::{Shape, Subject};

/// Further hashes that are tried for a live real server before the slots are walked one by one.
const REHASHES: u64 = 16;

/// Which real server each flow goes to, and how its frames are rewritten.
#[derive(Debug)]
pub struct ForwardingTable {
    pub(super) generation: u64,
    pub(super) hasher: FlowHasher,
    pub(super) index: ServiceIndex,
    pub(super) services: Box<[VirtualService]>,
    pub(super) real_servers: Box<[RealServer]>,
    /// The real servers by their lasting numbers.
    pub(super) targets: Box<[Target]>,
    pub(super) egresses: Box<[Egress]>,
    pub(super) connections: Connections,
}

/// A virtual service of a table.
#[derive(Debug)]
pub struct VirtualService {
    /// Its address, protocol and port.
    pub key: ServiceKey,
    /// Its lasting number.
    pub id: u32,
    /// How its new flows are given real servers.
    pub scheduler: Scheduler,
    /// What its flows are hashed by.
    pub hash_by: HashBy,
    /// Whether its clients stay where they are over connections.
    pub persistence: Option<ClientPersistence>,
    /// How long its flows are remembered.
    pub timeouts: FlowTimeouts,
    /// Life of an established TCP flow of which nothing but its entry matters; 0 if more does.
    pub quick_tcp_s: u32,
    /// The same of UDP.
    pub quick_udp_s: u32,
    pub(super) rota: Rota,
    pub(super) cursors: PerWorker<Cursor>,
    pub(super) maglev: Arc<Maglev>,
    pub(super) members: Arc<[Member]>,
    /// Lasting numbers of the members, and which of them take new flows: a change of either may move flows without
    /// entries.
    pub(super) member_ids: Arc<[(u32, bool)]>,
    /// When that changed last; `None` if never.
    pub(super) changed_s: Option<u32>,
    /// The table before the change, while flows without entries still go by it.
    pub(super) before: Option<Before>,
    /// Position in the table's real servers of each member, by the Maglev table's numbering.
    pub(super) positions: Box<[u32]>,
    /// Members that take new flows.
    pub(super) live_members: usize,
    /// Position of the fallback server, if there is one that frames can be sent to.
    pub(super) fallback: Option<u32>,
    /// Whether as much weight is alive as the quorum asks for.
    pub(super) has_quorum: bool,
    pub(super) first_real_server: u32,
    pub(super) real_server_count: u32,
    /// Its real servers by QUIC server id, if they have any.
    pub quic: Option<QuicServers>,
    /// Verdicts of its frames.
    pub outcomes: PerWorker<Outcomes>,
}

/// How a service's flows were distributed before a change.
#[derive(Clone, Debug)]
pub(super) struct Before {
    pub(super) maglev: Arc<Maglev>,
    pub(super) member_ids: Arc<[(u32, bool)]>,
    pub(super) until_s: u32,
}

/// A real server of a table; one that serves several services is there once for each.
#[derive(Debug)]
pub struct RealServer {
    pub(super) macs: [u8; 12],
    pub(super) alive: bool,
    pub(super) takes_new_flows: bool,
    pub(super) egress: u8,
    pub(super) mtu: u32,
    /// Its address (RIP).
    pub address: IpAddr,
    /// Its weight; 0 while health checks keep new flows from it.
    pub weight: u32,
    /// How many connections it is given, if that is limited.
    pub limit: Option<ConnectionLimit>,
    /// Whether it is its service's fallback server.
    pub is_fallback: bool,
    /// What health checks say of it.
    pub standing: Standing,
    /// Its lasting number.
    pub id: u32,
    /// Position of its service.
    pub service: u32,
    /// How it is reached.
    pub next_hop: Option<NextHop>,
    /// Flows that had begun under its lasting number when it came into the table.
    pub(super) begun_before: u64,
    /// Verdicts of its frames.
    pub outcomes: PerWorker<Outcomes>,
}

impl RealServer {
    /// Destination and source address that its frames get.
    #[inline]
    pub fn macs(&self) -> &[u8; 12] {
        &self.macs
    }

    /// Whether frames can be sent to it.
    #[inline]
    pub fn is_alive(&self) -> bool {
        self.alive
    }

    /// Position of the interface that its frames leave by.
    #[inline]
    pub fn egress(&self) -> u8 {
        self.egress
    }

    /// The most bytes of an IP packet that can be sent to it.
    #[inline]
    pub fn mtu(&self) -> u32 {
        self.mtu
    }
}

/// How a real server was chosen for a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Position in the table's real servers.
    pub real_server: u32,
    /// Slot of the Maglev table that the flow's hash points at.
    pub slot: usize,
    /// Real servers passed over because they are not alive.
    pub skipped: u32,
}

impl ForwardingTable {
    /// Builds the table that `plan` describes. Maglev tables and counters of what was in `previous` are taken over
    /// where they are the same, so that a change of next hops costs no rebuild and no counter starts anew.
    pub fn build(plan: &TablePlan, previous: Option<&Self>) -> Self {
        Builder::new(plan, previous).build()
    }

    /// Number of the table; each one built upon another is one higher.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The virtual services.
    pub fn services(&self) -> &[VirtualService] {
        &self.services
    }

    /// The real servers of all services, those of a service side by side.
    pub fn real_servers(&self) -> &[RealServer] {
        &self.real_servers
    }

    /// The interfaces that frames leave by.
    pub fn egresses(&self) -> &[Egress] {
        &self.egresses
    }

    /// Connections of every real server.
    pub fn connections(&self) -> &Connections {
        &self.connections
    }

    /// Connections of a real server of this table; `begun` since it was configured.
    pub fn connections_of(&self, real_server: &RealServer) -> ConnectionCounts {
        let counts = self.connections.sum(real_server.id);
        ConnectionCounts { begun: counts.begun.wrapping_sub(real_server.begun_before), ..counts }
    }

    /// The virtual services by address.
    pub fn index(&self) -> &ServiceIndex {
        &self.index
    }

    /// The real servers of a service.
    pub fn real_servers_of(&self, service: &VirtualService) -> &[RealServer] {
        let first = service.first_real_server as usize;
        self.real_servers.get(first..first + service.real_server_count as usize).unwrap_or(&[])
    }

    /// The service that a frame belongs to.
    #[inline]
    pub fn service_of(&self, subject: &Subject) -> Option<ServiceNumber> {
        match subject.shape {
            Shape::Datagram | Shape::FirstFragment | Shape::Quote => {
                self.index.find(subject.family, &subject.vip, subject.protocol, subject.service_port)
            }
            _ => self.index.first_of(subject.family, &subject.vip, subject.protocol),
        }
    }

    /// The hash by which a service's flows choose.
    #[inline]
    pub fn hash(&self, service: &VirtualService, subject: &Subject) -> u64 {
        match (service.hash_by, &service.persistence) {
            (HashBy::Flow, _) => self.hasher.flow(subject),
            (HashBy::Client, None) => self.hasher.client(subject),
            (HashBy::Client, Some(persistence)) => self.hasher.client(&persistence.masked(subject)),
        }
    }

    /// The hash by which flow tables find what they know of a client; its address must have been masked.
    #[inline]
    pub fn template_hash(&self, service: &VirtualService, masked: &Subject) -> u64 {
        self.hasher.again(self.hasher.client(masked), u64::from(service.id))
    }

    /// Position of the real server whose turn it is with a worker's next new flow, which thereby had it. `None` if the
    /// service's scheduler hashes, or nobody takes new flows: then [`Self::choose`] tells.
    ///
    /// `period` is a coarse time: the other workers' connections are read once in each.
    #[inline]
    pub fn schedule(&self, service: &VirtualService, worker: usize, period: u64) -> Option<u32> {
        let load = self.load(service, period);
        let index_of = |id| self.position_of(id)?.checked_sub(service.first_real_server);
        let cursor = service.cursors.of(worker)?;
        let turn = service.rota.next(service.scheduler, worker, cursor, load, index_of)?;
        Some(service.first_real_server + turn.index)
    }

    fn load(&self, service: &VirtualService, period: u64) -> Load<'_> {
        Load { connections: &self.connections, protocol: service.key.protocol, period }
    }

    /// As [`Self::choose`], but passes over those real servers, too, which have as many connections as they are given.
    /// Where all have, the fallback server is chosen.
    #[cold]
    pub fn choose_with_room(&self, service: &VirtualService, hash: u64, worker: usize, period: u64) -> Option<Choice> {
        let load = self.load(service, period);
        service.rota.look_at_others(worker, service.cursors.of(worker)?, load, true);
        let has_room = |at: u32| {
            self.real_servers
                .get(at as usize)
                .is_some_and(|server| server.takes_new_flows && !load.is_full(worker, server.limit, server.id))
        };
        let Some(slot) = service.maglev.slot(hash) else { return service.fall_back(0, 0) };
        let real_server = service.owner(slot)?;
        if has_room(real_server) {
            return Some(Choice { real_server, slot, skipped: 0 });
        }
        self.choose_again(service, hash, slot, || service.positions.iter().any(|at| has_room(*at)), has_room)
    }

    /// The real server of a hash: the owner of its slot, or where that is not alive, the first live one of a sequence
    /// that depends on the hash alone. So a flow moves only if its own real server dies, and it comes back to it; what
    /// happens to others on the way never moves it. Where none takes new flows: the fallback server.
    ///
    /// The sequence: the owners of the slots of up to 16 further hashes, then of the slots behind the last of them.
    #[inline]
    pub fn choose(&self, service: &VirtualService, hash: u64) -> Option<Choice> {
        let Some(slot) = service.maglev.slot(hash) else { return service.fall_back(0, 0) };
        let real_server = service.owner(slot)?;
        if self.takes_new_flows(real_server) {
            return Some(Choice { real_server, slot, skipped: 0 });
        }
        self.choose_again(service, hash, slot, || service.live_members > 0, |at| self.takes_new_flows(at))
    }

    #[cold]
    fn choose_again(
        &self,
        service: &VirtualService,
        hash: u64,
        slot: usize,
        is_there_one: impl FnOnce() -> bool,
        takes_it: impl Fn(u32) -> bool,
    ) -> Option<Choice> {
        if !is_there_one() {
            return service.fall_back(slot, 1);
        }
        let mut skipped = 1;
        let mut last = slot;
        for attempt in 1..=REHASHES {
            last = service.maglev.slot(self.hasher.again(hash, attempt))?;
            let real_server = service.owner(last)?;
            if takes_it(real_server) {
                return Some(Choice { real_server, slot, skipped });
            }
            skipped += 1;
        }
        for member in service.maglev.walk_from(last) {
            let real_server = *service.positions.get(usize::from(member))?;
            if takes_it(real_server) {
                return Some(Choice { real_server, slot, skipped });
            }
            skipped += 1;
        }
        None
    }

    /// Position of the real server of a lasting number, if it is in this table.
    #[inline]
    pub fn position_of(&self, id: u32) -> Option<u32> {
        self.targets.get(id as usize).map(|target| target.position).filter(|position| *position != NOWHERE)
    }

    /// What most frames need of the real server of a lasting number. Of one that is not in this table both lives are 0.
    #[inline(always)]
    pub fn target(&self, id: u32) -> Option<&Target> {
        self.targets.get(id as usize)
    }

    /// Has the processor fetch what [`Self::target`] returns.
    #[inline(always)]
    pub fn prefetch_target(&self, id: u32) {
        self.target(id).into_iter().for_each(prefetch);
    }

    /// The real server that a flow without an entry had before the service's last change, while that is asked for.
    pub fn choose_before(&self, service: &VirtualService, hash: u64, now_s: u32) -> Option<u32> {
        let before = service.before.as_ref().filter(|before| before.until_s.wrapping_sub(now_s) <= u32::MAX / 2)?;
        let member = before.maglev.member(before.maglev.slot(hash)?)?;
        let (id, _) = before.member_ids.get(usize::from(member))?;
        self.position_of(*id).filter(|position| self.is_alive(*position))
    }

    /// The hash of a flow by its whole tuple, by which flow tables find it.
    #[inline]
    pub fn flow_hash(&self, subject: &Subject) -> u64 {
        self.hasher.flow(subject)
    }

    /// The hash of a fragmented datagram, by which fragment tables find it; `subject` may have ports or not.
    #[inline]
    pub fn fragment_hash(&self, subject: &Subject) -> u64 {
        let addresses = Subject { client_port: 0, service_port: 0, ..*subject };
        self.hasher.again(self.hasher.flow(&addresses), u64::from(subject.fragment_id))
    }

    #[inline]
    fn is_alive(&self, real_server: u32) -> bool {
        self.real_servers.get(real_server as usize).is_some_and(|found| found.alive)
    }

    #[inline]
    fn takes_new_flows(&self, real_server: u32) -> bool {
        self.real_servers.get(real_server as usize).is_some_and(|found| found.takes_new_flows)
    }
}

impl VirtualService {
    fn fall_back(&self, slot: usize, skipped: u32) -> Option<Choice> {
        self.fallback.map(|real_server| Choice { real_server, slot, skipped })
    }

    /// Whether as much weight of its real servers takes new flows as the quorum asks for.
    pub fn has_quorum(&self) -> bool {
        self.has_quorum
    }

    /// Position of the real server that owns a slot.
    #[inline]
    pub fn owner(&self, slot: usize) -> Option<u32> {
        self.positions.get(usize::from(self.maglev.member(slot)?)).copied()
    }

    /// Whether the hash finds what a flow's entry says, while nothing changes.
    #[inline]
    pub fn finds_by_hash(&self) -> bool {
        self.scheduler.is_hash() && self.persistence.is_none() && !self.rota.is_limited()
    }

    /// Whether a flow's entry alone tells where it went: its hash need not find that.
    #[inline]
    pub fn relies_on_entries(&self) -> bool {
        self.takes_turns() || self.rota.is_limited()
    }

    /// Position of the fallback server, if there is one that frames can be sent to.
    pub fn fallback(&self) -> Option<u32> {
        self.fallback
    }

    /// Whether new flows go by turns or connections, not by their hash.
    #[inline]
    pub fn takes_turns(&self) -> bool {
        !self.scheduler.is_hash() && !self.rota.is_empty()
    }

    /// Who takes new flows, in IPVS's order.
    pub fn rota(&self) -> &Rota {
        &self.rota
    }

    /// Whether flows without entries may go elsewhere than they went within the life of a flow.
    #[inline]
    pub fn has_changed_lately(&self, now_s: u32) -> bool {
        self.changed_s
            .is_some_and(|changed_s| now_s.wrapping_sub(changed_s) <= self.timeouts.tcp_s.max(self.timeouts.udp_s))
    }

    pub(super) fn maglev(&self) -> &Arc<Maglev> {
        &self.maglev
    }

    /// Number of slots; 0 if no real server has a weight.
    pub fn table_size(&self) -> usize {
        self.maglev.size()
    }

    /// Slots of each of the service's real servers, in the table's order; 0 for those without weight.
    pub fn shares(&self) -> Vec<u32> {
        let mut shares = vec![0; self.real_server_count as usize];
        let by_member = self.maglev.shares(self.positions.len());
        for (share, position) in by_member.into_iter().zip(&self.positions) {
            if let Some(of) = shares.get_mut((position - self.first_real_server) as usize) {
                *of = share;
            }
        }
        shares
    }
}
