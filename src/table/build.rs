//! From a plan to a forwarding table, which takes over what it can of the one before.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::availability::Standing;
use super::forwarding::{Before, ForwardingTable, RealServer, VirtualService};
use super::maglev::{Maglev, Member};
use super::plan::{RealServerPlan, ServicePlan, TablePlan};
use super::quic::QuicServers;
use super::scheduler::{Cursor, Rota, Scheduler, Turn};
use super::services::ServiceIndex;
use super::target;
use crate::counters::{Outcomes, PerWorker};
use crate::service::ServiceKey;

/// Members, slots, and whether they lie in blocks.
type MaglevKey = (Arc<[Member]>, u32, bool);

pub(super) struct Builder<'a> {
    plan: &'a TablePlan,
    previous: Option<&'a ForwardingTable>,
    maglevs: HashMap<MaglevKey, Arc<Maglev>>,
    service_outcomes: HashMap<ServiceKey, PerWorker<Outcomes>>,
    real_server_counters: HashMap<(ServiceKey, IpAddr), (PerWorker<Outcomes>, u64)>,
    real_servers: Vec<RealServer>,
    previous_services: HashMap<ServiceKey, &'a VirtualService>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(plan: &'a TablePlan, previous: Option<&'a ForwardingTable>) -> Self {
        let mut builder = Self {
            plan,
            previous,
            maglevs: HashMap::new(),
            service_outcomes: HashMap::new(),
            real_server_counters: HashMap::new(),
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
                self.real_server_counters.insert(key, (real_server.outcomes.clone(), real_server.begun_before));
            }
        }
    }

    pub(super) fn build(mut self) -> ForwardingTable {
        let plan = self.plan;
        let numbered: Vec<(ServiceKey, u32)> = plan.services.iter().map(|service| (service.key, service.id)).collect();
        let services: Box<[VirtualService]> =
            (0..).zip(&plan.services).map(|(position, service)| self.service(position, service)).collect();
        let connections = self.previous.map(|previous| previous.connections.clone()).unwrap_or_default();
        let last = self.real_servers.iter().map(|real_server| real_server.id).max().unwrap_or(0);
        ForwardingTable {
            targets: target::by_id(&self.real_servers, &services),
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
            let server = self.real_servers.get(*at as usize)?;
            Some(Turn { index: at - first, id: *id, weight: server.weight, limit: server.limit })
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
        let (outcomes, begun_before) = self.real_server_counters.remove(&(key, plan.address)).unwrap_or_else(|| {
            let begun = self.previous.map_or(0, |previous| previous.connections.sum(plan.id).begun);
            (PerWorker::new(workers), begun)
        });
        RealServer {
            macs,
            alive,
            takes_new_flows: alive && weight > 0,
            limit: plan.limit,
            is_fallback: false,
            standing: plan.standing,
            egress: plan.next_hop.map_or(0, |hop| hop.egress),
            mtu: egress.map_or(0, |egress| egress.mtu),
            address: plan.address,
            weight,
            id: plan.id,
            service,
            next_hop: plan.next_hop,
            begun_before,
            outcomes,
        }
    }
}
