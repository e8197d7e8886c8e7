//! One interface: its driver, its queues and what is attached to it.

use std::collections::BTreeSet;

use super::finding::{Check, Finding, Severity};
use super::system::{System, cpu_list, show_cpus};
use super::{RunningInterface, machine};
use crate::config::{AttachMode, CopyMode, InterfaceConfig, PollMode};
use crate::network::{Link, Nic, RingSize, Tuning, nic, tuning};
use crate::xdp::{ForeignProgram, XdpFeatures, on_interface};

/// Over this MTU, or its peer's, veth has no room for native XDP in a page (drivers/net/veth.c, veth_xdp_set).
const VETH_NATIVE_MTU: u32 = 3_500;
/// The first kernel whose drivers say what they offer (the netdev family of generic netlink).
const FEATURES_SINCE: (u32, u32) = (6, 3);
/// Descriptors below which a receive ring is called short.
const SHORT_RING: u32 = 512;

/// What is asked of one interface.
#[derive(Clone, Debug)]
pub struct InterfaceDemand {
    /// Its table of the configuration.
    pub config: InterfaceConfig,
    /// The queues that get a socket.
    pub polled: Vec<u32>,
    /// The cores of the workers that poll them.
    pub cores: Vec<usize>,
}

/// What an interface is like.
#[derive(Clone, Debug, Default)]
pub struct InterfaceFacts {
    /// The names of all interfaces.
    pub present: Vec<String>,
    /// The interface, if it is there.
    pub link: Option<Link>,
    /// What its driver says.
    pub nic: Option<Nic>,
    /// How it is tuned.
    pub tuning: Tuning,
    /// The XDP program on it.
    pub program: Option<ForeignProgram>,
    /// What its driver offers; none where that cannot be known.
    pub features: Option<XdpFeatures>,
    /// What a running director has made of it.
    pub running: Option<RunningInterface>,
    /// The other end of a veth pair, where it can be seen from here: its name and whether it leaves checksums undone.
    pub peer: Option<(String, Option<bool>)>,
    /// VLAN interfaces on top of it.
    pub vlans: Vec<String>,
    /// Its interrupts, with the CPUs that they may go to.
    pub interrupts: Vec<(u32, Vec<usize>)>,
}

/// Reads the facts about the interface called `name` among `links`.
pub fn read(system: &System, name: &str, links: &[Link], running: Option<RunningInterface>) -> InterfaceFacts {
    let present = links.iter().map(|link| link.name.clone()).collect();
    let Some(link) = links.iter().find(|link| link.name == name) else {
        return InterfaceFacts { present, ..InterfaceFacts::default() };
    };
    let kernel = system.text("proc/sys/kernel/osrelease").unwrap_or_default();
    let on = on_interface(name, link.index).unwrap_or_default();
    let tells = machine::version(&kernel).is_some_and(|version| version >= FEATURES_SINCE);
    InterfaceFacts {
        present,
        nic: nic(name).ok(),
        tuning: tuning(name).unwrap_or_default(),
        program: on.program,
        features: on.features.or(tells.then(XdpFeatures::default)),
        running,
        peer: peer(system, link, links),
        vlans: links
            .iter()
            .filter(|upper| upper.parent == Some(link.index) && upper.vlan_id.is_some())
            .map(|upper| upper.name.clone())
            .collect(),
        interrupts: interrupts(system, name),
        link: Some(link.clone()),
    }
}

/// The other end of a veth pair in this namespace.
fn peer(system: &System, link: &Link, links: &[Link]) -> Option<(String, Option<bool>)> {
    let points_to = |name: &str| system.value::<u32>(&format!("sys/class/net/{name}/iflink"));
    let is_veth = |link: &Link| link.kind.as_deref() == Some("veth");
    let other = points_to(&link.name).filter(|_| is_veth(link))?;
    // An end in another namespace may have the number of some interface here; that does not point back.
    let peer = links.iter().find(|peer| peer.index == other && is_veth(peer))?;
    (points_to(&peer.name) == Some(link.index))
        .then(|| (peer.name.clone(), tuning(&peer.name).ok().and_then(|tuning| tuning.tx_checksum_offload)))
}

/// The interrupts of an interface: those of its device, or those that bear its name in /proc/interrupts.
fn interrupts(system: &System, name: &str) -> Vec<(u32, Vec<usize>)> {
    let device = format!("sys/class/net/{name}/device");
    let mut numbers: BTreeSet<u32> = ["msi_irqs", "../msi_irqs"]
        .into_iter()
        .flat_map(|directory| system.names(&format!("{device}/{directory}")))
        .filter_map(|number| number.parse().ok())
        .collect();
    for line in system.text("proc/interrupts").unwrap_or_default().lines() {
        let Some((number, rest)) = line.trim_start().split_once(':') else { continue };
        let is_its = |word: &str| word.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
        if rest.split_whitespace().any(|word| is_its(word.trim_end_matches(','))) {
            numbers.extend(number.parse::<u32>().ok());
        }
    }
    let affinity = |number: &u32| {
        let file = |name: &str| system.text(&format!("proc/irq/{number}/{name}")).filter(|text| !text.is_empty());
        // The effective one is where the interrupt really goes; the other, where it may.
        file("effective_affinity_list").or_else(|| file("smp_affinity_list")).map(|text| cpu_list(&text))
    };
    numbers.iter().filter_map(|number| Some((*number, affinity(number)?))).collect()
}

/// Judges one interface.
pub fn judge(demand: &InterfaceDemand, facts: &InterfaceFacts) -> Vec<Finding> {
    let view = View { demand, facts, name: &demand.config.name };
    let Some(link) = &facts.link else {
        let others = facts.present.join(", ");
        let what = format!("there is no such interface; the interfaces here are {others}");
        return vec![view.finding(Check::InterfacePresent, Severity::Error, what).mend("ip link show")];
    };
    let mut findings = vec![
        view.finding(Check::InterfacePresent, Severity::Ok, format!("it is there, with MAC address {}", link.mac)),
        view.up(link),
        view.driver(),
        view.xdp_program(),
        view.xdp_mode(link),
        view.zero_copy(link),
        view.mtu(link),
    ];
    findings.extend(view.queues());
    findings.extend(view.rss_spread());
    findings.extend(facts.tuning.rx_ring.map(|ring| view.rx_ring(ring)));
    findings.extend(view.rx_vlan_offload());
    findings.extend(view.tx_checksum_peer(link));
    findings.extend(view.lro());
    findings.extend(view.irq_affinity());
    findings
}

struct View<'a> {
    demand: &'a InterfaceDemand,
    facts: &'a InterfaceFacts,
    name: &'a str,
}

impl View<'_> {
    fn finding(&self, check: Check, severity: Severity, what: impl Into<String>) -> Finding {
        Finding::new(check, severity, self.name, what)
    }

    fn driver_name(&self) -> &str {
        self.facts.nic.as_ref().and_then(|nic| nic.driver.as_deref()).unwrap_or("unknown")
    }

    fn up(&self, link: &Link) -> Finding {
        if link.up {
            return self.finding(Check::InterfaceUp, Severity::Ok, "it is up");
        }
        let what = match self.facts.nic.as_ref().and_then(|nic| nic.carrier) {
            Some(true) => "it is down, with a carrier",
            _ => "it is down, or has no carrier",
        };
        self.finding(Check::InterfaceUp, Severity::Error, what).mend(format!("ip link set dev {} up", self.name))
    }

    fn driver(&self) -> Finding {
        self.finding(Check::Driver, Severity::Ok, self.driver_name())
    }

    fn xdp_program(&self) -> Finding {
        match (&self.facts.program, &self.facts.running) {
            (Some(_), Some(_)) => self.finding(Check::XdpProgram, Severity::Ok, "the running director's"),
            (None, _) => self.finding(Check::XdpProgram, Severity::Ok, "none is attached"),
            (Some(program), None) => {
                let name = program.name.as_deref().map_or_else(String::new, |name| format!(" {name:?},"));
                let what =
                    format!("another's program is attached:{name} number {} ({} mode)", program.id, program.mode);
                self.finding(Check::XdpProgram, Severity::Error, what)
                    .mend("bpftool link show; then stop the process that attached it")
                    .mend(format!("or, if it is attached without a link: ip link set dev {} xdp off", self.name))
            }
        }
    }

    fn xdp_mode(&self, link: &Link) -> Finding {
        let check = Check::XdpMode;
        let (driver, mode) = (self.driver_name(), self.demand.config.mode);
        if let Some(running) = &self.facts.running {
            return match running.generic {
                false => self.finding(check, Severity::Ok, "native, in the running director"),
                true if mode == AttachMode::Generic => {
                    self.finding(check, Severity::Info, "generic, as the configuration says")
                }
                true => self
                    .finding(
                        check,
                        Severity::Warning,
                        "generic, in the running director: the driver refused native XDP",
                    )
                    .mend("its log says why at the start; mostly MTU, LRO or too few queues"),
            };
        }
        // Whoever demands native XDP gets no director without it.
        let severity = if mode == AttachMode::Native { Severity::Error } else { Severity::Warning };
        match self.facts.features {
            _ if mode == AttachMode::Generic => self
                .finding(check, Severity::Info, "generic, as the configuration says")
                .mend("mode = \"auto\" in the [[interface]] table"),
            None => self.finding(
                check,
                Severity::Info,
                format!("kernels before 6.3 do not tell whether {driver} has native XDP; the log of a start does"),
            ),
            Some(features) if !features.native() => self
                .finding(check, severity, format!("generic: the driver {driver} has no native XDP"))
                .mend("use a NIC whose driver has it, or accept the lower rate"),
            Some(_) if driver == "veth" && link.mtu > VETH_NATIVE_MTU => self
                .finding(check, severity, format!("generic: native XDP of veth has no room for MTU {}", link.mtu))
                .mend(format!("ip link set dev {} mtu {VETH_NATIVE_MTU} (and its peer's)", self.name)),
            Some(_) => self.finding(check, Severity::Ok, format!("native: the driver {driver} has it")),
        }
    }

    fn zero_copy(&self, link: &Link) -> Finding {
        let check = Check::ZeroCopy;
        let (driver, copy) = (self.driver_name(), self.demand.config.copy);
        if let Some(running) = &self.facts.running {
            return match running.zero_copy {
                None => self.finding(check, Severity::Info, "the running director's log says at the start"),
                Some(true) => self.finding(check, Severity::Ok, "zero copy, in the running director"),
                Some(false) => {
                    self.finding(check, Severity::Info, format!("copy, in the running director{}", self.why_copy()))
                }
            };
        }
        let refused = if copy == CopyMode::ZeroCopy { Severity::Error } else { Severity::Info };
        match self.facts.features {
            _ if copy == CopyMode::Copy => self.finding(check, Severity::Info, "copy, as the configuration says"),
            _ if self.xdp_mode(link).what.starts_with("generic") => {
                self.finding(check, refused, "copy: generic XDP has no zero copy")
            }
            None => self.finding(check, Severity::Info, "kernels before 6.3 do not tell; the log of a start does"),
            Some(features) if features.zero_copy() => {
                self.finding(check, Severity::Ok, format!("the driver {driver} has zero copy"))
            }
            Some(_) => {
                let finding = self.finding(check, refused, format!("copy: the driver {driver} has no zero copy"));
                if copy == CopyMode::ZeroCopy {
                    finding.mend("copy = \"auto\" in the [[interface]] table")
                } else {
                    finding
                }
            }
        }
    }

    fn why_copy(&self) -> String {
        match self.facts.features {
            _ if self.demand.config.copy == CopyMode::Copy => ", as the configuration says".to_owned(),
            Some(features) if !features.zero_copy() => format!(": the driver {} has no zero copy", self.driver_name()),
            _ => String::new(),
        }
    }

    fn mtu(&self, link: &Link) -> Finding {
        match self.demand.config.mtu {
            Some(mtu) if mtu != link.mtu => {
                let what = format!("it is {}; the configuration has {mtu}, which replay alone goes by", link.mtu);
                self.finding(Check::Mtu, Severity::Warning, what).mend(format!(
                    "mtu = {} in the [[interface]] table, or: ip link set dev {} mtu {mtu}",
                    link.mtu, self.name
                ))
            }
            _ => self.finding(Check::Mtu, Severity::Ok, format!("{} bytes", link.mtu)),
        }
    }

    fn queues(&self) -> Option<Finding> {
        let nic = self.facts.nic.as_ref().filter(|_| self.demand.config.receive)?;
        let unpolled: Vec<usize> = (0..nic.rx_queues)
            .filter(|queue| !self.demand.polled.contains(queue))
            .map(|queue| queue as usize)
            .collect();
        let polled = self.demand.polled.len();
        Some(if unpolled.is_empty() || polled == 0 {
            let cores = show_cpus(&self.demand.cores);
            let by = if cores.is_empty() { String::new() } else { format!(", polled from CPU {cores}") };
            self.finding(Check::Queues, Severity::Ok, format!("{} for receiving{by}", nic.rx_queues))
        } else {
            let what = format!("queues {} of {} get no socket", show_cpus(&unpolled), nic.rx_queues);
            self.finding(Check::Queues, Severity::Warning, what)
                .mend("queues = \"all\" in the [[interface]] table")
                .mend(format!("or, while no director runs: ethtool -L {} combined {polled}", self.name))
        })
    }

    fn rss_spread(&self) -> Option<Finding> {
        let table = self.facts.tuning.rss.as_ref().filter(|_| self.demand.config.receive)?;
        let (spread, polled): (BTreeSet<u32>, BTreeSet<u32>) =
            (table.iter().copied().collect(), self.demand.polled.iter().copied().collect());
        let list = |queues: &BTreeSet<u32>| show_cpus(&queues.iter().map(|queue| *queue as usize).collect::<Vec<_>>());
        if polled.is_empty() {
            return None;
        }
        let lost: BTreeSet<u32> = spread.difference(&polled).copied().collect();
        let idle: BTreeSet<u32> = polled.difference(&spread).copied().collect();
        let mend = match polled.iter().next_back() {
            Some(last) if *last as usize + 1 == polled.len() => {
                format!("ethtool -X {} equal {}", self.name, polled.len())
            }
            _ => "queues = \"all\" in the [[interface]] table".to_owned(),
        };
        Some(if !lost.is_empty() {
            let what = format!("flows are spread to queues {}, which get no socket", list(&lost));
            self.finding(Check::RssSpread, Severity::Error, what).mend(mend)
        } else if !idle.is_empty() {
            let what = format!("no flow is spread to queues {}", list(&idle));
            self.finding(Check::RssSpread, Severity::Warning, what).mend(mend)
        } else {
            self.finding(Check::RssSpread, Severity::Ok, format!("over queues {}", list(&spread)))
        })
    }

    fn rx_ring(&self, ring: RingSize) -> Finding {
        let RingSize { current, most } = ring;
        if current < SHORT_RING && current < most {
            return self
                .finding(
                    Check::RxRing,
                    Severity::Warning,
                    format!("{current} descriptors, of {most} that there may be"),
                )
                .mend(format!("ethtool -G {} rx {}", self.name, most.min(2048)));
        }
        self.finding(Check::RxRing, Severity::Ok, format!("{current} descriptors (at most {most})"))
    }

    fn rx_vlan_offload(&self) -> Option<Finding> {
        let on = self.facts.nic.as_ref()?.rx_vlan_offload?;
        let mend = format!("ethtool -K {} rxvlan off", self.name);
        Some(match (on && self.driver_name() != "veth", self.facts.vlans.is_empty()) {
            (false, _) => self.finding(Check::RxVlanOffload, Severity::Ok, "tags stay in received frames"),
            (true, true) => {
                self.finding(Check::RxVlanOffload, Severity::Info, "on: mend it if frames arrive tagged").mend(mend)
            }
            (true, false) => {
                let vlans = self.facts.vlans.join(", ");
                self.finding(Check::RxVlanOffload, Severity::Warning, format!("on, and there are VLANs: {vlans}"))
                    .mend(mend)
            }
        })
    }

    fn tx_checksum_peer(&self, link: &Link) -> Option<Finding> {
        if link.kind.as_deref() != Some("veth") {
            return None;
        }
        let check = Check::TxChecksumPeer;
        Some(match &self.facts.peer {
            Some((peer, Some(true))) => self
                .finding(check, Severity::Warning, format!("the peer {peer} leaves checksums undone"))
                .mend(format!("ethtool -K {peer} tx off txvlan off")),
            Some((peer, Some(false))) => {
                self.finding(check, Severity::Ok, format!("the peer {peer} sends whole checksums"))
            }
            Some((_, None)) | None => self
                .finding(check, Severity::Info, "the peer is out of sight; it must send whole checksums")
                .mend("ethtool -K PEER tx off txvlan off (where the peer is)"),
        })
    }

    fn lro(&self) -> Option<Finding> {
        Some(match self.facts.tuning.lro? {
            true => self
                .finding(Check::Lro, Severity::Warning, "large receive offload is on")
                .mend(format!("ethtool -K {} lro off", self.name)),
            false => self.finding(Check::Lro, Severity::Ok, "off"),
        })
    }

    fn irq_affinity(&self) -> Option<Finding> {
        let (config, cores) = (&self.demand.config, &self.demand.cores);
        if self.facts.interrupts.is_empty() || cores.is_empty() {
            return None;
        }
        let check = Check::IrqAffinity;
        let (on, off): (Vec<_>, Vec<_>) =
            self.facts.interrupts.iter().partition(|(_, cpus)| cpus.iter().any(|cpu| cores.contains(cpu)));
        let numbers = |irqs: &[&(u32, Vec<usize>)]| {
            irqs.iter().map(|(number, _)| number.to_string()).collect::<Vec<_>>().join(", ")
        };
        let place = |cpus: &str| format!("echo {cpus} > /proc/irq/NUMBER/smp_affinity_list (and stop irqbalance)");
        let shown = show_cpus(cores);
        Some(if config.busy_poll.is_some() {
            match off.is_empty() {
                true => self.finding(
                    check,
                    Severity::Ok,
                    format!("all go to the workers' CPUs {shown}, as busy_poll wants"),
                ),
                false => self
                    .finding(
                        check,
                        Severity::Info,
                        format!("with busy_poll, and not on the workers' CPUs: {}", numbers(&off)),
                    )
                    .mend(place(&shown)),
            }
        } else if on.is_empty() {
            self.finding(check, Severity::Ok, format!("none goes to the workers' CPUs {shown}"))
        } else {
            let severity = if config.poll == PollMode::Busy { Severity::Warning } else { Severity::Info };
            self.finding(check, severity, format!("on the workers' CPUs {shown}: {}", numbers(&on)))
                .mend(place("OTHER-CPU"))
        })
    }
}
