//! The order of start: look at the interfaces, attach, bind, and only then take traffic. Whatever fails on the way, all
//! that was done before is undone by dropping it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::layout::{self, InterfaceFacts, QueueLayout, WorkerLayout};
use super::{DirectorError, Interface};
use crate::config::{self, Config, InterfaceConfig};
use crate::counters::{QueueCounters, WorkerCounters};
use crate::doctor::cpu_list;
use crate::flow::{PeerFlows, WorkerFlows};
use crate::network::{link_by_name, nic};
use crate::port::xsk::{self, BindMode, Opened, QueuePlan, SocketHandle, XskPlan};
use crate::stats::cpu::ThreadClock;
use crate::worker::WorkerSettings;
use crate::xdp::{
    AttachMode, AttachedMode, MAX_LOCAL_MACS, MAX_SERVICES, MAX_VIPS, NoSocketAction, Settings, XdpError, XdpProgram,
};

/// A worker whose sockets are bound but which does not run yet.
pub(super) struct Prepared {
    pub(super) core: usize,
    pub(super) clock: Arc<ThreadClock>,
    pub(super) settings: WorkerSettings,
    pub(super) port: xsk::XskPort,
    pub(super) counters: Arc<WorkerCounters>,
    pub(super) flows: WorkerFlows,
    pub(super) queues: Vec<BoundQueue>,
}

/// One bound queue, as the statistics see it.
pub(super) struct BoundQueue {
    pub(super) layout: QueueLayout,
    pub(super) socket: Arc<SocketHandle>,
    pub(super) zero_copy: bool,
    pub(super) counters: Arc<QueueCounters>,
}

/// Attaches the program to every interface. Until it has services it passes every frame.
pub(super) fn attach(config: &Config) -> Result<Vec<Interface>, DirectorError> {
    config
        .interfaces
        .iter()
        .map(|interface| {
            let link = link_by_name(&interface.name)?;
            let nic = nic(&interface.name)?;
            let settings = xdp_settings(config, interface, link.mac);
            let program = XdpProgram::attach(&interface.name, link.index, attach_mode(interface.mode), &settings)?;
            let mode = program.mode();
            let generic = mode == Some(AttachedMode::Generic);
            if let Some(reason) = program.fallback_reason() {
                tracing::warn!(
                    interface = interface.name,
                    reason,
                    "XDP in generic mode: the driver refused the program; it works, but much slower than native"
                );
            }
            if let Some(reason) = program.counters().redirect_errors_unavailable() {
                tracing::debug!(interface = interface.name, reason, "redirect errors cannot be measured");
            }
            if nic.rx_vlan_offload == Some(true) && nic.driver.as_deref() != Some("veth") {
                tracing::info!(
                    interface = interface.name,
                    "the hardware takes VLAN tags out of received frames, which would leave untagged; if frames arrive \
                     tagged: ethtool -K {} rxvlan off",
                    interface.name
                );
            }
            if !link.up {
                tracing::warn!(interface = interface.name, "the link is down: nothing arrives until it comes up");
            }
            tracing::info!(
                interface = interface.name,
                driver = nic.driver.as_deref().unwrap_or("unknown"),
                mode = mode.map_or("none", AttachedMode::name),
                mac = %link.mac,
                mtu = link.mtu,
                queues = nic.rx_queues,
                "attached the XDP program"
            );
            Ok(Interface {
                name: interface.name.clone(),
                facts: InterfaceFacts { index: link.index, queues: nic.rx_queues, mtu: link.mtu, generic },
                mac: link.mac,
                up: link.up,
                program,
            })
        })
        .collect()
}

/// Whether the program's maps hold what `config` asks for.
pub(super) fn check_limits(config: &Config) -> Result<(), DirectorError> {
    let services = &config.virtual_services;
    let vips: BTreeSet<IpAddr> = services.iter().map(|service| service.key.vip).collect();
    // One place is the interface's own.
    let macs = config.interfaces.iter().map(|interface| interface.virtual_macs.len() + 1).max().unwrap_or(0);
    let over = if services.len() > MAX_SERVICES {
        XdpError::TooManyServices { limit: MAX_SERVICES }
    } else if vips.len() > MAX_VIPS {
        XdpError::TooManyVips { limit: MAX_VIPS }
    } else if macs > MAX_LOCAL_MACS {
        XdpError::TooManyLocalMacs { count: macs }
    } else {
        return Ok(());
    };
    Err(over.into())
}

/// What the program of an interface is to know.
pub(super) fn xdp_settings(config: &Config, interface: &InterfaceConfig, mac: crate::wire::MacAddress) -> Settings {
    if !interface.receive {
        return Settings::pass_all();
    }
    let mut local_macs = vec![mac];
    local_macs.extend(interface.virtual_macs.iter().filter(|virtual_mac| **virtual_mac != mac));
    let no_socket = match config.director.no_socket {
        config::NoSocketAction::Drop => NoSocketAction::Drop,
        config::NoSocketAction::Pass => NoSocketAction::Pass,
    };
    Settings { local_macs, no_socket }
}

/// Binds the sockets of all workers and puts those that receive into the maps of their interfaces' programs.
pub(super) fn prepare(config: &Config, interfaces: &[Interface]) -> Result<Vec<Prepared>, DirectorError> {
    let facts: Vec<InterfaceFacts> = interfaces.iter().map(|interface| interface.facts.clone()).collect();
    let available = available_cores();
    let layouts = layout::workers(&config.interfaces, &facts, &available, &online_cores(&available))?;
    let mut prepared = layouts
        .iter()
        .enumerate()
        .map(|(worker, layout)| {
            let prepared = prepare_worker(worker, layout, config, &facts)?;
            for queue in &prepared.queues {
                let interface = &interfaces[queue.layout.interface];
                if config.interfaces[queue.layout.interface].receive {
                    interface.program.insert_socket(queue.layout.queue, queue.socket.as_raw_fd())?;
                }
            }
            Ok(prepared)
        })
        .collect::<Result<Vec<_>, DirectorError>>()?;
    introduce(&mut prepared);
    Ok(prepared)
}

/// The CPUs that this process may run on.
pub(super) fn available_cores() -> Vec<usize> {
    let mut available: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
    available.sort_unstable();
    available
}

/// The CPUs that there are. Those that `isolcpus` keeps free are not among the ones that a process is started on, but a
/// worker may be pinned to them all the same.
pub(super) fn online_cores(available: &[usize]) -> Vec<usize> {
    let online = cpu_list(&std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default());
    if online.is_empty() { available.to_vec() } else { online }
}

fn prepare_worker(
    worker: usize,
    layout: &WorkerLayout,
    config: &Config,
    facts: &[InterfaceFacts],
) -> Result<Prepared, DirectorError> {
    let interfaces = layout.interfaces(&config.interfaces);
    let counters: Vec<Arc<QueueCounters>> = layout.queues.iter().map(|_| Arc::default()).collect();
    let plan = xsk_plan(layout, config, facts, &counters)?;
    let opened = xsk::open(&plan)?;
    report(worker, layout, config, &opened);
    let egress_queues = layout.egress_queues(config.interfaces.len());
    for (queue, egresses) in layout.queues.iter().zip(&egress_queues) {
        for (egress, _) in egresses.iter().enumerate().filter(|(_, by)| by.is_none()) {
            tracing::warn!(
                worker,
                "frames that queue {} of {} receives for real servers behind {} are dropped, since worker {worker} has no \
                 queue there: give both interfaces the same number of queues and the same cores",
                queue.queue,
                config.interfaces[queue.interface].name,
                config.interfaces[egress].name,
            );
        }
    }
    let queues = layout
        .queues
        .iter()
        .zip(opened.sockets)
        .zip(counters)
        .map(|((layout, (socket, zero_copy)), counters)| BoundQueue {
            layout: *layout,
            socket: Arc::new(socket),
            zero_copy,
            counters,
        })
        .collect();
    Ok(Prepared {
        core: layout.core,
        clock: Arc::default(),
        settings: WorkerSettings {
            worker,
            batch: interfaces.iter().map(|interface| interface.batch as usize).max().unwrap_or(1),
            idle: layout::idle_policy(&interfaces),
            tx_hold: interfaces.iter().map(|interface| interface.tx_hold).max().unwrap_or_default(),
            egress_queues,
        },
        port: opened.port,
        counters: Arc::default(),
        flows: flows(config)?,
        queues,
    })
}

/// One memory serves all queues of a worker, so of sizes that differ between its interfaces the largest counts.
fn xsk_plan(
    layout: &WorkerLayout,
    config: &Config,
    facts: &[InterfaceFacts],
    counters: &[Arc<QueueCounters>],
) -> Result<XskPlan, DirectorError> {
    let mut plan = XskPlan {
        queues: Vec::new(),
        fill_ring: 0,
        completion_ring: 0,
        frame_size: 0,
        frames: 0,
        huge_pages: false,
        mode: BindMode::Auto,
    };
    let mut generic = false;
    for (queue, counters) in layout.queues.iter().zip(counters) {
        let (interface, facts) = (&config.interfaces[queue.interface], &facts[queue.interface]);
        plan.fill_ring = plan.fill_ring.max(interface.fill_ring);
        plan.completion_ring = plan.completion_ring.max(interface.completion_ring);
        plan.frame_size = plan.frame_size.max(layout::frame_size(interface, facts)?);
        plan.frames = plan.frames.saturating_add(interface.frames_per_queue());
        plan.huge_pages |= interface.huge_pages;
        generic |= facts.generic;
        plan.queues.push(QueuePlan {
            interface: interface.name.clone(),
            queue: queue.queue,
            receive: interface.receive,
            rx_ring: interface.rx_ring,
            tx_ring: interface.tx_ring,
            busy_poll: interface.busy_poll.map(|busy_poll| (busy_poll.timeout_us, u32::from(busy_poll.budget))),
            counters: Arc::clone(counters),
        });
    }
    plan.mode = layout::bind_mode(&layout.interfaces(&config.interfaces), generic);
    Ok(plan)
}

fn flows(config: &Config) -> Result<WorkerFlows, DirectorError> {
    let flows = config.director.flows_per_worker;
    WorkerFlows::new(flows as usize).map_err(|source| DirectorError::FlowMemory { flows, source })
}

/// Tells each worker its number, and shows it the flow tables of the others.
fn introduce(prepared: &mut [Prepared]) {
    let all: Vec<PeerFlows> = prepared.iter().map(|worker| worker.flows.as_peer()).collect();
    for (own, worker) in prepared.iter_mut().enumerate() {
        let others = all.iter().enumerate().filter(|(other, _)| *other != own);
        worker.flows.worker = own;
        worker.flows.peers = others.map(|(_, peer)| peer.clone()).collect();
    }
}

fn report(worker: usize, layout: &WorkerLayout, config: &Config, opened: &Opened) {
    for warning in &opened.warnings {
        tracing::warn!(worker, "{warning}");
    }
    if let Some(reason) = &opened.zero_copy_refused {
        tracing::info!(worker, "no zero copy ({reason}): the kernel copies each frame");
    }
    for (queue, (_, zero_copy)) in layout.queues.iter().zip(&opened.sockets) {
        tracing::info!(
            worker,
            core = layout.core,
            interface = config.interfaces[queue.interface].name,
            queue = queue.queue,
            mode = if *zero_copy { "zero-copy" } else { "copy" },
            huge_pages = opened.huge_pages,
            "bound an AF_XDP socket"
        );
    }
}

fn attach_mode(mode: config::AttachMode) -> AttachMode {
    match mode {
        config::AttachMode::Auto => AttachMode::Auto,
        config::AttachMode::Native => AttachMode::Native,
        config::AttachMode::Generic => AttachMode::Generic,
    }
}
