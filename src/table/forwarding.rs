//! The forwarding table itself: immutable, built off the packets' path, published whole.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::availability::{Quorum, Standing};
use super::hash::FlowHasher;
use super::identity::Identities;
use super::maglev::{Maglev, Member};
use super::quic::QuicServers;
use super::scheduler::{Cursor, Load, Rota, Scheduler, Turn};
use super::services::{ServiceIndex, ServiceNumber};
use crate::counters::connections::Connections;
use crate::counters::{Outcomes, PerWorker};
use crate::service::ServiceKey;
use crate::wire::quic::ServerId;
use crate::wire::{MacAddress, Shape, Subject};

/// Further hashes that are tried for a live real server before the slots are walked one by one.
const REHASHES: u64 = 16;

/// An interface that frames leave by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Egress {
    /// The interface's name.
    pub name: String,
    /// Its MAC address, which becomes the frames' source.
    pub source: MacAddress,
    /// Its MTU: the most bytes of an IP packet.
    pub mtu: u32,
}

/// How a real server is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// The real server's MAC address.
    pub mac: MacAddress,
    /// Position of the interface among the egresses.
    pub egress: u8,
}

/// Which part of a flow chooses its real server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HashBy {
    /// Protocol, addresses and ports.
    #[default]
    Flow,
    /// The client's address alone, so that all its connections meet one real server.
    Client,
}

/// A client that stays at its real server over connections, as with `ipvsadm -p`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientPersistence {
    /// How long after its last packet, in seconds.
    pub timeout_s: u32,
    /// Which bits of an address are the client, in network byte order; of an IPv4 address in the first four bytes.
    pub mask: [u8; 16],
}

impl ClientPersistence {
    /// A mask of so many bits.
    #[must_use]
    pub fn new(timeout_s: u32, prefix_bits: u8) -> Self {
        let low = u128::MAX.checked_shr(u32::from(prefix_bits)).unwrap_or(0);
        Self { timeout_s, mask: (!low).to_be_bytes() }
    }

    /// The frame as if its client's address had no bits but those of the mask.
    #[inline]
    #[must_use]
    pub fn masked(&self, subject: &Subject) -> Subject {
        let client = u128::from_be_bytes(subject.client) & u128::from_be_bytes(self.mask);
        Subject { client: client.to_be_bytes(), ..*subject }
    }
}

/// What a virtual service of the table is to be.
#[derive(Clone, Debug)]
pub struct ServicePlan {
    /// Its lasting number, by which flow tables know it.
    pub id: u32,
    /// Its address, protocol and port.
    pub key: ServiceKey,
    /// How its new flows are given real servers.
    pub scheduler: Scheduler,
    /// Slots of its table.
    pub table_size: u32,
    /// What its flows are hashed by.
    pub hash_by: HashBy,
    /// Whether its clients stay where they are over connections.
    pub persistence: Option<ClientPersistence>,
    /// How long its flows are remembered.
    pub timeouts: FlowTimeouts,
    /// How long after a change a flow without an entry goes where the table before the change would have sent it, in
    /// seconds; 0 is not at all.
    pub previous_table_s: u32,
    /// Its real servers.
    pub real_servers: Vec<RealServerPlan>,
    /// Who takes new flows while none of them does, or while they are below `quorum`; its weight does not count.
    pub fallback: Option<RealServerPlan>,
    /// How much weight must be alive for the real servers to be used rather than `fallback`.
    pub quorum: Quorum,
}

/// How long a flow is remembered without a packet, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowTimeouts {
    /// TCP.
    pub tcp_s: u32,
    /// TCP, after FIN or RST.
    pub tcp_fin_s: u32,
    /// UDP.
    pub udp_s: u32,
}

impl Default for FlowTimeouts {
    /// Those of LVS (`ipvsadm --set`).
    fn default() -> Self {
        Self { tcp_s: 900, tcp_fin_s: 120, udp_s: 300 }
    }
}

/// What a real server of the table is to be.
#[derive(Clone, Debug)]
pub struct RealServerPlan {
    /// Its lasting number, by which flow tables know it.
    pub id: u32,
    /// Its address (RIP).
    pub address: IpAddr,
    /// Its share of new flows; 0 while it drains.
    pub weight: u32,
    /// How it is reached; `None` counts as down.
    pub next_hop: Option<NextHop>,
    /// What health checks say of it.
    pub standing: Standing,
    /// What it is known by in the QUIC connection ids that it chooses; the ids of a service have one length.
    pub quic_server_id: Option<ServerId>,
}

/// Everything that a table is built from.
#[derive(Clone, Debug)]
pub struct TablePlan {
    /// The cluster's flow hash.
    pub hasher: FlowHasher,
    /// The interfaces that frames leave by.
    pub egresses: Vec<Egress>,
    /// The virtual services.
    pub services: Vec<ServicePlan>,
    /// Number of workers, each of which has counters of its own.
    pub workers: usize,
    /// The time of the change, in seconds of CLOCK_MONOTONIC.
    pub now_s: u32,
}

impl TablePlan {
    /// Gives every service and real server its lasting number.
    #[must_use]
    pub fn numbered(mut self, identities: &mut Identities) -> Self {
        for service in &mut self.services {
            service.id = identities.service(service.key);
            for real_server in service.real_servers.iter_mut().chain(&mut service.fallback) {
                real_server.id = identities.real_server(service.key, real_server.address);
            }
        }
        self
    }
}

/// Which real server each flow goes to, and how its frames are rewritten.
#[derive(Debug)]
pub struct ForwardingTable {
    generation: u64,
    hasher: FlowHasher,
    index: ServiceIndex,
    services: Box<[VirtualService]>,
    real_servers: Box<[RealServer]>,
    /// Position of each real server by its lasting number; [`NOWHERE`] for those that are not in this table.
    positions_by_id: Box<[u32]>,
    egresses: Box<[Egress]>,
    connections: Connections,
}

const NOWHERE: u32 = u32::MAX;

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
    rota: Rota,
    cursors: PerWorker<Cursor>,
    maglev: Arc<Maglev>,
    members: Arc<[Member]>,
    /// Lasting numbers of the members, and which of them take new flows: a change of either may move flows without
    /// entries.
    member_ids: Arc<[(u32, bool)]>,
    /// When that changed last; `None` if never.
    changed_s: Option<u32>,
    /// The table before the change, while flows without entries still go by it.
    before: Option<Before>,
    /// Position in the table's real servers of each member, by the Maglev table's numbering.
    positions: Box<[u32]>,
    /// Members that take new flows.
    live_members: usize,
    /// Position of the fallback server, if there is one that frames can be sent to.
    fallback: Option<u32>,
    /// Whether as much weight is alive as the quorum asks for.
    has_quorum: bool,
    first_real_server: u32,
    real_server_count: u32,
    /// Its real servers by QUIC server id, if they have any.
    pub quic: Option<QuicServers>,
    /// Verdicts of its frames.
    pub outcomes: PerWorker<Outcomes>,
}

/// How a service's flows were distributed before a change.
#[derive(Clone, Debug)]
struct Before {
    maglev: Arc<Maglev>,
    member_ids: Arc<[(u32, bool)]>,
    until_s: u32,
}

/// A real server of a table; one that serves several services is there once for each.
#[derive(Debug)]
pub struct RealServer {
    macs: [u8; 12],
    alive: bool,
    takes_new_flows: bool,
    egress: u8,
    mtu: u32,
    /// Its address (RIP).
    pub address: IpAddr,
    /// Its weight; 0 while health checks keep new flows from it.
    pub weight: u32,
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
    #[inline(always)]
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
        let load = Load { connections: &self.connections, protocol: service.key.protocol, period };
        let index_of = |id| self.position_of(id)?.checked_sub(service.first_real_server);
        let cursor = service.cursors.of(worker)?;
        let turn = service.rota.next(service.scheduler, worker, cursor, load, index_of)?;
        Some(service.first_real_server + turn.index)
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
        self.choose_again(service, hash, slot)
    }

    #[cold]
    fn choose_again(&self, service: &VirtualService, hash: u64, slot: usize) -> Option<Choice> {
        if service.live_members == 0 {
            return service.fall_back(slot, 1);
        }
        let mut skipped = 1;
        let mut last = slot;
        for attempt in 1..=REHASHES {
            last = service.maglev.slot(self.hasher.again(hash, attempt))?;
            let real_server = service.owner(last)?;
            if self.takes_new_flows(real_server) {
                return Some(Choice { real_server, slot, skipped });
            }
            skipped += 1;
        }
        for member in service.maglev.walk_from(last) {
            let real_server = *service.positions.get(usize::from(member))?;
            if self.takes_new_flows(real_server) {
                return Some(Choice { real_server, slot, skipped });
            }
            skipped += 1;
        }
        None
    }

    /// Position of the real server of a lasting number, if it is in this table.
    #[inline]
    pub fn position_of(&self, id: u32) -> Option<u32> {
        self.positions_by_id.get(id as usize).copied().filter(|position| *position != NOWHERE)
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
        self.scheduler.is_hash() && self.persistence.is_none()
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

/// Members, slots, and whether they lie in blocks.
type MaglevKey = (Arc<[Member]>, u32, bool);

struct Builder<'a> {
    plan: &'a TablePlan,
    previous: Option<&'a ForwardingTable>,
    maglevs: HashMap<MaglevKey, Arc<Maglev>>,
    service_outcomes: HashMap<ServiceKey, PerWorker<Outcomes>>,
    real_server_outcomes: HashMap<(ServiceKey, IpAddr), PerWorker<Outcomes>>,
    real_servers: Vec<RealServer>,
    previous_services: HashMap<ServiceKey, &'a VirtualService>,
}

impl<'a> Builder<'a> {
    fn new(plan: &'a TablePlan, previous: Option<&'a ForwardingTable>) -> Self {
        let mut builder = Self {
            plan,
            previous,
            maglevs: HashMap::new(),
            service_outcomes: HashMap::new(),
            real_server_outcomes: HashMap::new(),
            real_servers: Vec::new(),
            previous_services: HashMap::new(),
        };
        if let Some(previous) = previous {
            builder.take_over(previous);
        }
        builder
    }

    fn take_over(&mut self, previous: &'a ForwardingTable) {
        for service in &previous.services {
            self.previous_services.insert(service.key, service);
            if previous.hasher == self.plan.hasher {
                let size = u32::try_from(service.maglev.size()).unwrap_or(0);
                let key = (Arc::clone(&service.members), size, service.scheduler == Scheduler::Sh);
                self.maglevs.insert(key, Arc::clone(&service.maglev));
            }
            self.service_outcomes.insert(service.key, service.outcomes.clone());
            for real_server in previous.real_servers_of(service) {
                let key = (service.key, real_server.address);
                self.real_server_outcomes.insert(key, real_server.outcomes.clone());
            }
        }
    }

    fn build(mut self) -> ForwardingTable {
        let plan = self.plan;
        let numbered: Vec<(ServiceKey, u32)> = plan.services.iter().map(|service| (service.key, service.id)).collect();
        let services = (0..).zip(&plan.services).map(|(position, service)| self.service(position, service)).collect();
        let highest = self.real_servers.iter().map(|real_server| real_server.id as usize + 1).max().unwrap_or(0);
        let connections = self.previous.map(|previous| previous.connections.clone()).unwrap_or_default();
        let last = u32::try_from(highest.saturating_sub(1)).unwrap_or(u32::MAX);
        let mut positions_by_id = vec![NOWHERE; highest].into_boxed_slice();
        for (position, real_server) in (0..).zip(&self.real_servers) {
            if let Some(entry) = positions_by_id.get_mut(real_server.id as usize) {
                *entry = position;
            }
        }
        ForwardingTable {
            positions_by_id,
            generation: self.previous.map_or(1, |previous| previous.generation + 1),
            hasher: plan.hasher.clone(),
            index: ServiceIndex::new(&numbered),
            services,
            real_servers: self.real_servers.into_boxed_slice(),
            egresses: plan.egresses.clone().into_boxed_slice(),
            connections: connections.grown(last, plan.workers),
        }
    }

    fn service(&mut self, position: u32, service: &ServicePlan) -> VirtualService {
        let first_real_server = u32::try_from(self.real_servers.len()).unwrap_or(u32::MAX);
        for real_server in service.real_servers.iter().chain(&service.fallback) {
            let built = self.real_server(position, service.key, real_server);
            self.real_servers.push(built);
        }
        let fallback = self.fallback(service);
        let has_quorum = self.weigh(service, first_real_server, fallback);
        let quic = QuicServers::new(
            (first_real_server..).zip(&service.real_servers).filter_map(|(at, plan)| Some((plan.quic_server_id?, at))),
        );
        let mut weighted: Vec<(Member, u32)> = (first_real_server..)
            .zip(&service.real_servers)
            .filter(|(_, real_server)| real_server.weight > 0)
            .map(|(at, real_server)| (Member { address: real_server.address, weight: real_server.weight }, at))
            .collect();
        weighted.sort_unstable();
        let (members, positions): (Vec<Member>, Vec<u32>) = weighted.into_iter().unzip();
        let member_ids: Arc<[(u32, bool)]> = positions
            .iter()
            .filter_map(|at| self.real_servers.get(*at as usize))
            .map(|real_server| (real_server.id, real_server.takes_new_flows))
            .collect();
        let live_members = member_ids.iter().filter(|(_, takes_new_flows)| *takes_new_flows).count();
        let members: Arc<[Member]> = members.into();
        let maglev = self.maglev(service, &members);
        let rota = self.rota(service, first_real_server, &positions, &member_ids);
        let (changed_s, before) = self.change(service, &maglev, &member_ids);
        let workers = self.plan.workers;
        VirtualService {
            key: service.key,
            id: service.id,
            scheduler: service.scheduler,
            hash_by: service.hash_by,
            persistence: service.persistence,
            timeouts: service.timeouts,
            quick_tcp_s: if service.persistence.is_some() { 0 } else { service.timeouts.tcp_s },
            quick_udp_s: if service.persistence.is_some() || quic.is_some() { 0 } else { service.timeouts.udp_s },
            rota,
            cursors: self.cursors(service),
            maglev,
            members,
            member_ids,
            changed_s,
            before,
            positions: positions.into_boxed_slice(),
            live_members,
            fallback,
            has_quorum,
            first_real_server,
            quic,
            real_server_count: u32::try_from(self.real_servers.len()).unwrap_or(u32::MAX) - first_real_server,
            outcomes: self.service_outcomes.remove(&service.key).unwrap_or_else(|| PerWorker::new(workers)),
        }
    }

    /// The service's fallback server, which was built last, if frames can be sent to it.
    fn fallback(&mut self, service: &ServicePlan) -> Option<u32> {
        service.fallback.as_ref()?;
        let position = u32::try_from(self.real_servers.len().checked_sub(1)?).ok()?;
        let fallback = self.real_servers.last_mut()?;
        (fallback.is_fallback, fallback.weight, fallback.takes_new_flows) = (true, 0, false);
        fallback.alive.then_some(position)
    }

    /// Whether the service has its quorum. Without it new flows are for the fallback server alone, if there is one.
    fn weigh(&mut self, service: &ServicePlan, first_real_server: u32, fallback: Option<u32>) -> bool {
        let had_it = self.previous_services.get(&service.key).is_none_or(|previous| previous.has_quorum);
        let own = self.real_servers.get_mut(first_real_server as usize..).unwrap_or_default();
        let live = own.iter().filter(|server| server.takes_new_flows).map(|server| u64::from(server.weight)).sum();
        let has_quorum = service.quorum.holds(live, had_it);
        if !has_quorum && fallback.is_some() {
            own.iter_mut().for_each(|server| server.takes_new_flows = false);
        }
        has_quorum
    }

    fn maglev(&mut self, service: &ServicePlan, members: &Arc<[Member]>) -> Arc<Maglev> {
        let (size, in_blocks) = (service.table_size, service.scheduler == Scheduler::Sh);
        let built = self.maglevs.entry((Arc::clone(members), size, in_blocks)).or_insert_with(|| {
            Arc::new(if in_blocks {
                Maglev::in_blocks(members, size)
            } else {
                Maglev::build(members, size, &self.plan.hasher)
            })
        });
        Arc::clone(built)
    }

    /// Those of the members that take new flows.
    fn rota(&self, service: &ServicePlan, first: u32, positions: &[u32], member_ids: &[(u32, bool)]) -> Rota {
        let live = positions.iter().zip(member_ids).filter(|(_, (_, takes_new_flows))| *takes_new_flows);
        let turns = live.filter_map(|(at, (id, _))| {
            let weight = self.real_servers.get(*at as usize)?.weight;
            Some(Turn { index: at - first, id: *id, weight })
        });
        let previous = self.previous_services.get(&service.key).map(|previous| &previous.rota);
        Rota::new(turns.collect(), previous, self.previous.map_or(1, |previous| previous.generation + 1))
    }

    /// The workers go on where they were, while there are as many and they do the same.
    fn cursors(&self, service: &ServicePlan) -> PerWorker<Cursor> {
        let workers = self.plan.workers.max(1);
        self.previous_services
            .get(&service.key)
            .filter(|previous| previous.scheduler == service.scheduler && previous.cursors.iter().count() == workers)
            .map_or_else(|| PerWorker::new(workers), |previous| previous.cursors.clone())
    }

    /// When the service's flows were last distributed differently, and how they were before.
    fn change(
        &self,
        service: &ServicePlan,
        maglev: &Arc<Maglev>,
        member_ids: &Arc<[(u32, bool)]>,
    ) -> (Option<u32>, Option<Before>) {
        let Some(previous) = self.previous_services.get(&service.key) else { return (None, None) };
        if Arc::ptr_eq(&previous.maglev, maglev) && previous.member_ids == *member_ids {
            return (previous.changed_s, previous.before.clone());
        }
        let now_s = self.plan.now_s;
        if Arc::ptr_eq(&previous.maglev, maglev) {
            // Only who is alive: every flow has the same first choice as before.
            return (Some(now_s), previous.before.clone());
        }
        let before = (service.previous_table_s > 0).then(|| Before {
            maglev: Arc::clone(&previous.maglev),
            member_ids: Arc::clone(&previous.member_ids),
            until_s: now_s.wrapping_add(service.previous_table_s),
        });
        (Some(now_s), before)
    }

    fn real_server(&mut self, service: u32, key: ServiceKey, plan: &RealServerPlan) -> RealServer {
        let egress = plan.next_hop.and_then(|hop| self.plan.egresses.get(usize::from(hop.egress)));
        let mut macs = [0; 12];
        if let (Some(hop), Some(egress)) = (plan.next_hop, egress) {
            macs[..6].copy_from_slice(&hop.mac.octets());
            macs[6..].copy_from_slice(&egress.source.octets());
        }
        let alive = egress.is_some() && plan.standing != Standing::Failed;
        let weight = if plan.standing == Standing::Inhibited { 0 } else { plan.weight };
        let workers = self.plan.workers;
        RealServer {
            macs,
            alive,
            takes_new_flows: alive && weight > 0,
            is_fallback: false,
            standing: plan.standing,
            egress: plan.next_hop.map_or(0, |hop| hop.egress),
            mtu: egress.map_or(0, |egress| egress.mtu),
            address: plan.address,
            weight,
            id: plan.id,
            service,
            next_hop: plan.next_hop,
            outcomes: self.real_server_outcomes.remove(&(key, plan.address)).unwrap_or_else(|| PerWorker::new(workers)),
        }
    }
}
