//! What the doctor is to look for: the demands of a configuration, by the same plans as at the start.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::thread;

use super::layout::{self, InterfaceFacts, WorkerLayout};
use super::{Interface, start};
use crate::config::{Announce, AttachMode, Config, InterfaceConfig, Queues};
use crate::control::client::Client;
use crate::doctor::{
    Check, Demand, Finding, InterfaceDemand, MachineDemand, RealServerDemand, Report, RunningInterface, Severity,
    System, VipDemand, direct_routing, look,
};
use crate::network::{Link, links, nic};
use crate::stats;

/// Examines the machine for `config`; without one, for a director on any of its interfaces. `probe` = whether the
/// segment is asked, which takes half a second.
pub fn examine(config: Option<&Config>, probe: bool) -> Report {
    let system = System::at("/");
    let links = links().unwrap_or_default();
    let any = Config { interfaces: usable(&links), ..Config::default() };
    let running = config.and_then(running).unwrap_or_default();
    let config = config.unwrap_or(&any);
    let demand = demand(config, &links);
    let mut findings = look(&system, &demand, &running);
    if probe {
        findings.extend(ask_segment(&system, config, &demand, &links));
    }
    Report::new(findings, !running.is_empty())
}

/// Asks the segment who has the VIPs and whether the real servers are there. Takes half a second.
fn ask_segment(system: &System, config: &Config, demand: &Demand, links: &[Link]) -> Vec<Finding> {
    let mut vips = demand.vips.clone();
    let status = Client::new(&config.director.control_socket).announcements().map(|status| status.vips);
    for vip in &mut vips {
        let announced = status.iter().flatten().find(|status| status.vip == vip.vip);
        vip.role = announced.map(|status| status.state);
    }
    let names: Vec<&str> = config.interfaces.iter().map(|interface| interface.name.as_str()).collect();
    direct_routing::judge(&direct_routing::read(system, &names, &vips, &demand.real_servers, links))
}

/// The start has told the reason of generic mode itself, and it was not kept from it by a privilege: those of now are
/// fewer.
const ANSWERED_BY_START: [Check; 3] = [Check::XdpMode, Check::Capabilities, Check::MemoryLock];

/// Examines machine, interfaces and segment in a thread of its own, and logs what is to be mended.
pub(super) fn log_findings(config: &Config, interfaces: &[Interface]) {
    let config = config.clone();
    let running: Vec<RunningInterface> = interfaces
        .iter()
        .map(|interface| RunningInterface {
            name: interface.name.clone(),
            generic: interface.facts.generic,
            zero_copy: None,
        })
        .collect();
    let examine = move || {
        let (system, links) = (System::at("/"), links().unwrap_or_default());
        let demand = demand(&config, &links);
        let mut findings = look(&system, &demand, &running);
        findings.extend(ask_segment(&system, &config, &demand, &links));
        for finding in findings {
            let mend = finding.mend.join("; ");
            if finding.severity >= Severity::Warning && !ANSWERED_BY_START.iter().any(|check| finding.id == check.id())
            {
                tracing::warn!(check = finding.id, subject = finding.subject, mend, "{}", finding.what);
            } else {
                tracing::debug!(check = finding.id, subject = finding.subject, mend, "{}", finding.what);
            }
        }
    };
    if let Err(error) = thread::Builder::new().name("doctor".to_owned()).spawn(examine) {
        tracing::debug!(%error, "no thread to look for what could be better");
    }
}

/// Interfaces that a director could run on: up, and neither virtual nor a bridge or the like.
fn usable(links: &[Link]) -> Vec<InterfaceConfig> {
    let fits = |link: &&Link| link.up && !link.mac.is_zero() && matches!(link.kind.as_deref(), None | Some("veth"));
    links.iter().filter(fits).map(|link| InterfaceConfig::named(&link.name)).collect()
}

/// What the director on the configuration's control socket says of its interfaces; `None` where none answers.
fn running(config: &Config) -> Option<Vec<RunningInterface>> {
    let report = Client::new(&config.director.control_socket).stats().ok()?;
    let interface = |interface: &stats::report::InterfaceReport| RunningInterface {
        name: interface.name.clone(),
        generic: interface.mode == stats::report::AttachMode::Generic,
        zero_copy: Some(interface.queues.iter().all(|queue| queue.zero_copy)),
    };
    Some(report.interfaces.iter().map(interface).collect())
}

/// What `config` asks for of the interfaces `links`.
fn demand(config: &Config, links: &[Link]) -> Demand {
    let facts: Option<Vec<InterfaceFacts>> =
        config.interfaces.iter().map(|interface| interface_facts(interface, links)).collect();
    // An interface that is not there is a finding of its own.
    let laid_out = facts.as_ref().map(|facts| {
        let available = start::available_cores();
        layout::workers(&config.interfaces, facts, &available, &start::online_cores(&available))
    });
    let (workers, layout_problem) = match laid_out {
        None => (Vec::new(), None),
        Some(Ok(workers)) => (workers, None),
        Some(Err(error)) => (Vec::new(), Some(error.to_string())),
    };
    let sizes = facts.as_ref().map(|facts| umem_bytes(config, facts, &workers));
    let (umem_bytes, too_large) = match sizes {
        Some(Ok(bytes)) => (bytes, None),
        Some(Err(problem)) => (0, Some(problem)),
        None => (0, None),
    };
    let interfaces = config.interfaces.iter().enumerate();
    Demand {
        machine: MachineDemand {
            cores: workers.iter().map(|worker| worker.core).collect(),
            umem_bytes,
            huge_pages: config.interfaces.iter().any(|interface| interface.huge_pages),
            busy_poll: config.interfaces.iter().any(|interface| interface.busy_poll.is_some()),
            layout_problem: layout_problem.or(too_large),
            services: config.virtual_services.iter().map(|service| service.key).collect(),
        },
        interfaces: interfaces.map(|(position, interface)| interface_demand(position, interface, &workers)).collect(),
        vips: vips(config),
        real_servers: real_servers(config),
    }
}

fn interface_facts(interface: &InterfaceConfig, links: &[Link]) -> Option<InterfaceFacts> {
    let link = links.iter().find(|link| link.name == interface.name)?;
    let queues = nic(&interface.name).ok()?.rx_queues;
    let generic = interface.mode == AttachMode::Generic;
    Some(InterfaceFacts { index: link.index, queues, mtu: link.mtu, generic })
}

fn interface_demand(position: usize, interface: &InterfaceConfig, workers: &[WorkerLayout]) -> InterfaceDemand {
    let of_worker = |worker: &WorkerLayout| worker.queues.iter().any(|queue| queue.interface == position);
    let laid_out: BTreeSet<u32> = workers
        .iter()
        .flat_map(|worker| worker.queues.iter().filter(|queue| queue.interface == position))
        .map(|queue| queue.queue)
        .collect();
    let polled = match &interface.queues {
        Queues::List(queues) if laid_out.is_empty() => queues.clone(),
        _ => laid_out.into_iter().collect(),
    };
    let cores = workers.iter().filter(|worker| of_worker(worker)).map(|worker| worker.core).collect();
    InterfaceDemand { config: interface.clone(), polled, cores }
}

/// Bytes of memory for frames over all workers, or why a frame cannot hold a packet of the MTU.
fn umem_bytes(config: &Config, facts: &[InterfaceFacts], workers: &[WorkerLayout]) -> Result<u64, String> {
    let sizes: Vec<u32> = config
        .interfaces
        .iter()
        .zip(facts)
        .map(|(interface, facts)| layout::frame_size(interface, facts).map_err(|error| error.to_string()))
        .collect::<Result<_, _>>()?;
    let of_worker = |worker: &WorkerLayout| {
        let size = worker.queues.iter().filter_map(|queue| sizes.get(queue.interface)).max().copied().unwrap_or(0);
        let interfaces = worker.queues.iter().filter_map(|queue| config.interfaces.get(queue.interface));
        interfaces.map(|interface| u64::from(interface.frames_per_queue())).sum::<u64>() * u64::from(size)
    };
    Ok(workers.iter().map(of_worker).sum())
}

/// The VIPs, each once; what a running director makes of them is not known here.
fn vips(config: &Config) -> Vec<VipDemand> {
    let services = config.virtual_services.iter();
    let announced: BTreeMap<IpAddr, Announce> = services.map(|service| (service.key.vip, service.announce)).collect();
    announced.into_iter().map(|(vip, announce)| VipDemand { vip, announce, role: None }).collect()
}

fn real_servers(config: &Config) -> Vec<RealServerDemand> {
    let mut by_address: BTreeMap<IpAddr, Option<_>> = BTreeMap::new();
    for server in config.virtual_services.iter().flat_map(|service| &service.real_servers) {
        let mac = by_address.entry(server.address).or_default();
        *mac = mac.or(server.mac);
    }
    by_address.into_iter().map(|(address, mac)| RealServerDemand { address, mac }).collect()
}
