//! What a forwarding table costs, and what each single change of it moves.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Instant;

use serde::Serialize;

use crate::counters::Outcomes;
use crate::table::{ForwardingTable, RealServer, RealServerPlan, Scheduler, ServicePlan, TablePlan, VirtualService};

/// The most tables that are built for changes, unless all are asked for.
pub const MOST_BUILDS: usize = 2000;
/// Times that a whole table is built for its time; the median counts.
const TIMED_BUILDS: usize = 5;

/// What a table is like.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TableFigures {
    /// Time in which the whole table is built on this machine, in nanoseconds: the median of some times.
    pub build_ns: u64,
    /// Its memory.
    pub memory: TableMemory,
    /// Its virtual services.
    pub services: Vec<ServiceChanges>,
    /// Changes that were not looked at, because they are very many.
    pub changes_left_out: usize,
}

/// Memory of a table in bytes. While a change is made, the old and the new one are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TableMemory {
    /// Hash tables; services with the same real servers and weights share one.
    pub hash_tables: usize,
    /// Services and real servers.
    pub entries: usize,
    /// Their counters, for each worker; a change takes them over.
    pub counters_per_worker: usize,
}

/// A virtual service.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ServiceChanges {
    /// Its name.
    pub service: String,
    /// What chooses real servers.
    pub scheduler: &'static str,
    /// Whether new flows go by their hash. If not, they take turns, and only flows that lost their entries go by it.
    pub by_hash: bool,
    /// Slots of its hash table.
    pub table_size: usize,
    /// Its real servers.
    pub real_servers: Vec<ServerShare>,
    /// What single changes move.
    pub changes: Vec<Change>,
}

/// The share of a real server.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ServerShare {
    /// Its address.
    pub address: IpAddr,
    /// Its weight.
    pub weight: u32,
    /// Slots that it owns.
    pub slots: u32,
    /// The part of all slots.
    pub share: f64,
    /// The part that its weight says.
    pub share_by_weight: f64,
}

/// A change of one real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It is deleted, or drained.
    Remove,
    /// It is down: its flows go elsewhere, the hash table stays.
    Fail,
    /// A new one, with the weight of the first, is added.
    Add,
    /// Its weight is doubled.
    Double,
}

/// What a change moves, as parts of the flows that have no entry in a flow table; those with one stay unless their real
/// server is gone.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// What is done.
    pub kind: ChangeKind,
    /// To which real server.
    pub address: IpAddr,
    /// The part that must move for the new shares to come true.
    pub least: f64,
    /// The part that moves.
    pub actual: f64,
}

impl ChangeKind {
    /// Its name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Remove => "remove",
            Self::Fail => "fails",
            Self::Add => "add",
            Self::Double => "weight doubled",
        }
    }
}

/// Builds the table of `plan` and looks at each single change of it. With `all`, at every one, however long it takes.
pub fn figures_of(plan: &TablePlan, all: bool) -> TableFigures {
    let (table, build_ns) = built(plan);
    let mut builds_left = if all { usize::MAX } else { MOST_BUILDS };
    let mut changes_left_out = 0;
    let services = plan
        .services
        .iter()
        .zip(table.services())
        .map(|(of, service)| {
            let mut changes = Vec::new();
            for (kind, address, changed) in changes_of(of) {
                if builds_left == 0 {
                    changes_left_out += 1;
                    continue;
                }
                builds_left -= 1;
                changes.push(moved(plan, (&table, service), kind, address, changed));
            }
            ServiceChanges {
                service: service.key.to_string(),
                scheduler: service.scheduler.name(),
                by_hash: service.scheduler.is_hash(),
                table_size: service.table_size(),
                real_servers: shares(&table, service),
                changes,
            }
        })
        .collect();
    TableFigures { build_ns, memory: memory(plan), services, changes_left_out }
}

fn built(plan: &TablePlan) -> (ForwardingTable, u64) {
    let mut times = Vec::with_capacity(TIMED_BUILDS);
    loop {
        let began = Instant::now();
        let table = ForwardingTable::build(plan, None);
        times.push(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
        if times.len() == TIMED_BUILDS {
            times.sort_unstable();
            return (table, times.get(TIMED_BUILDS / 2).copied().unwrap_or(0));
        }
    }
}

fn shares(table: &ForwardingTable, service: &VirtualService) -> Vec<ServerShare> {
    let servers = || table.real_servers_of(service).iter().filter(|server| !server.is_fallback);
    let weights: u64 = servers().map(|server| u64::from(server.weight)).sum();
    servers()
        .zip(service.shares())
        .map(|(server, slots)| ServerShare {
            address: server.address,
            weight: server.weight,
            slots,
            share: f64::from(slots) / (service.table_size().max(1) as f64),
            share_by_weight: f64::from(server.weight) / (weights.max(1) as f64),
        })
        .collect()
}

/// Each single change of a service, with the service as it then is.
fn changes_of(service: &ServicePlan) -> Vec<(ChangeKind, IpAddr, ServicePlan)> {
    let mut changes = Vec::new();
    let weighted = || service.real_servers.iter().enumerate().filter(|(_, server)| server.weight > 0);
    for (at, server) in weighted() {
        let mut removed = service.clone();
        removed.real_servers.remove(at);
        changes.push((ChangeKind::Remove, server.address, removed));
        let mut failed = service.clone();
        failed.real_servers[at].next_hop = None;
        changes.push((ChangeKind::Fail, server.address, failed));
        let mut doubled = service.clone();
        doubled.real_servers[at].weight = server.weight.saturating_mul(2);
        changes.push((ChangeKind::Double, server.address, doubled));
    }
    if let Some((_, first)) = weighted().next() {
        let mut added = service.clone();
        let address = vacant_address(service);
        let highest = service.real_servers.iter().map(|server| server.id).max().unwrap_or(0);
        added.real_servers.push(RealServerPlan { address, id: highest.saturating_add(1), ..first.clone() });
        changes.push((ChangeKind::Add, address, added));
    }
    changes
}

/// The next address behind the highest one.
fn vacant_address(service: &ServicePlan) -> IpAddr {
    let addresses = || service.real_servers.iter().chain(&service.fallback).map(|server| server.address);
    match addresses().max() {
        Some(IpAddr::V4(highest)) => IpAddr::V4(u32::from(highest).wrapping_add(1).into()),
        Some(IpAddr::V6(highest)) => IpAddr::V6(u128::from(highest).wrapping_add(1).into()),
        None => IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
    }
}

/// What moves when a service becomes `changed`.
fn moved(
    plan: &TablePlan,
    (table, service): (&ForwardingTable, &VirtualService),
    kind: ChangeKind,
    address: IpAddr,
    changed: ServicePlan,
) -> Change {
    let alone =
        TablePlan { services: vec![changed], egresses: plan.egresses.clone(), hasher: plan.hasher.clone(), ..*plan };
    let after = ForwardingTable::build(&alone, None);
    let Some(service_after) = after.services().first() else {
        return Change { kind, address, least: 0.0, actual: 0.0 };
    };
    let slots = service.table_size();
    let share_of = |table: &ForwardingTable, service: &VirtualService| -> Vec<(IpAddr, u32)> {
        table.real_servers_of(service).iter().map(|server| server.address).zip(service.shares()).collect()
    };
    let part = |count: usize| count as f64 / slots.max(1) as f64;
    if kind == ChangeKind::Fail {
        // Only who is not alive loses flows, whatever the others are.
        let own = share_of(table, service).into_iter().find(|(of, _)| *of == address).map_or(0, |(_, slots)| slots);
        let is_it = |slot: usize| {
            service_after
                .owner(slot)
                .and_then(|at| after.real_servers().get(at as usize))
                .is_some_and(|it| !it.is_alive())
        };
        let actual = (0..slots).filter(|slot| is_it(*slot)).count();
        return Change { kind, address, least: part(own as usize), actual: part(actual) };
    }
    let before = share_of(table, service);
    let gained: usize = share_of(&after, service_after)
        .into_iter()
        .map(|(of, now)| {
            let had = before.iter().find(|(before, _)| *before == of).map_or(0, |(_, slots)| *slots);
            now.saturating_sub(had) as usize
        })
        .sum();
    // A service without any real server left: all of its flows are dropped.
    let gone = if service_after.table_size() == 0 { slots } else { gained };
    let owner = |table: &ForwardingTable, service: &VirtualService, slot| -> Option<IpAddr> {
        Some(table.real_servers().get(service.owner(slot)? as usize)?.address)
    };
    let actual = (0..slots).filter(|slot| owner(table, service, *slot) != owner(&after, service_after, *slot)).count();
    Change { kind, address, least: part(gone), actual: part(actual) }
}

fn memory(plan: &TablePlan) -> TableMemory {
    let mut shared = HashSet::new();
    let mut hash_tables = 0;
    for service in &plan.services {
        let mut members: Vec<(IpAddr, u32)> = service
            .real_servers
            .iter()
            .filter(|server| server.weight > 0)
            .map(|server| (server.address, server.weight))
            .collect();
        members.sort_unstable();
        if !members.is_empty() && shared.insert((members, service.table_size, service.scheduler == Scheduler::Sh)) {
            hash_tables += service.table_size as usize * size_of::<u16>();
        }
    }
    let services = plan.services.len();
    let real_servers: usize =
        plan.services.iter().map(|service| service.real_servers.len() + usize::from(service.fallback.is_some())).sum();
    TableMemory {
        hash_tables,
        entries: services * size_of::<VirtualService>() + real_servers * size_of::<RealServer>(),
        counters_per_worker: (services + real_servers) * size_of::<Outcomes>(),
    }
}
