//! The machine: kernel, privileges, memory and processors.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::finding::{Check, Finding, Severity};
use super::system::{System, show_cpus};
use crate::port::xsk::SocketFeatures;
use crate::service::{Protocol, ServiceKey};
use crate::xdp::{effective_capabilities, missing_capabilities_in};

/// What is asked of the machine.
#[derive(Clone, Debug, Default)]
pub struct MachineDemand {
    /// The cores of the workers.
    pub cores: Vec<usize>,
    /// Bytes of memory for frames, over all workers.
    pub umem_bytes: u64,
    /// Whether that memory is to be of huge pages.
    pub huge_pages: bool,
    /// Whether an interface has `busy_poll`.
    pub busy_poll: bool,
    /// Why the workers cannot be laid out, if they cannot.
    pub layout_problem: Option<String>,
    /// The virtual services.
    pub services: Vec<ServiceKey>,
}

/// What the machine has.
#[derive(Clone, Debug, Default)]
pub struct MachineFacts {
    /// The kernel's release, such as `6.1.0-18-amd64`.
    pub kernel: String,
    /// What AF_XDP sockets can do.
    pub sockets: SocketFeatures,
    /// Names of the capabilities that this process lacks.
    pub missing_capabilities: Vec<&'static str>,
    /// Whether this process has CAP_IPC_LOCK.
    pub may_lock_memory: bool,
    /// `ulimit -l` in bytes; none for unlimited.
    pub memory_lock_bytes: Option<u64>,
    /// Bytes in reserved huge pages that are free.
    pub free_huge_bytes: u64,
    /// Bytes of a huge page.
    pub huge_page_bytes: u64,
    /// The setting of transparent huge pages: `always`, `madvise` or `never`; none where the kernel has none.
    pub transparent_huge_pages: Option<String>,
    /// All CPUs that are online.
    pub online: Vec<usize>,
    /// The CPUs that this process may run on.
    pub allowed: Vec<usize>,
    /// The CPUs that the scheduler leaves alone (`isolcpus`, an isolated cpuset).
    pub isolated: Vec<usize>,
    /// The hyper-threads of the core of each CPU, itself included.
    pub siblings: BTreeMap<usize, Vec<usize>>,
    /// The frequency governor of each CPU that has one.
    pub governors: BTreeMap<usize, String>,
    /// The services of the kernel's IPVS.
    pub ip_vs: Vec<ServiceKey>,
}

/// Numbers in linux/capability.h.
const CAP_NET_RAW: u32 = 13;
const CAP_IPC_LOCK: u32 = 14;

/// Reads the facts.
pub fn read(system: &System, sockets: SocketFeatures) -> MachineFacts {
    let status = system.text("proc/thread-self/status").unwrap_or_default();
    let capabilities = effective_capabilities(&status).unwrap_or(u64::MAX);
    let has = |number: u32| capabilities >> number & 1 == 1;
    let mut missing_capabilities = missing_capabilities_in(capabilities);
    missing_capabilities.extend((!has(CAP_NET_RAW)).then_some("CAP_NET_RAW"));
    let huge_page_bytes = meminfo(system, "Hugepagesize:").unwrap_or(2048) * 1024;
    MachineFacts {
        kernel: system.text("proc/sys/kernel/osrelease").unwrap_or_default(),
        sockets,
        missing_capabilities,
        may_lock_memory: has(CAP_IPC_LOCK),
        memory_lock_bytes: memory_lock(&system.text("proc/self/limits").unwrap_or_default()),
        free_huge_bytes: meminfo(system, "HugePages_Free:").unwrap_or(0) * huge_page_bytes,
        huge_page_bytes,
        transparent_huge_pages: system
            .text("sys/kernel/mm/transparent_hugepage/enabled")
            .and_then(|text| Some(text.split_once('[')?.1.split_once(']')?.0.to_owned())),
        online: system.cpus("sys/devices/system/cpu/online"),
        allowed: field(&status, "Cpus_allowed_list:").map(super::cpu_list).unwrap_or_default(),
        isolated: system.cpus("sys/devices/system/cpu/isolated"),
        siblings: per_cpu(system, |cpu| {
            let siblings = system.cpus(&format!("sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"));
            (!siblings.is_empty()).then_some(siblings)
        }),
        governors: per_cpu(system, |cpu| {
            system.text(&format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"))
        }),
        ip_vs: ip_vs(&system.text("proc/thread-self/net/ip_vs").unwrap_or_default()),
    }
}

fn per_cpu<T>(system: &System, of: impl Fn(usize) -> Option<T>) -> BTreeMap<usize, T> {
    system.cpus("sys/devices/system/cpu/online").into_iter().filter_map(|cpu| Some((cpu, of(cpu)?))).collect()
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

fn meminfo(system: &System, name: &str) -> Option<u64> {
    field(&system.text("proc/meminfo")?, name)?.split_whitespace().next()?.parse().ok()
}

/// The soft limit of the line `Max locked memory` of /proc/PID/limits (proc(5)).
fn memory_lock(limits: &str) -> Option<u64> {
    field(limits, "Max locked memory")?.split_whitespace().next()?.parse().ok()
}

/// Services of /proc/net/ip_vs: `TCP  C0A8580F:0050 wrr`, `UDP  [fd00:0088:...]:0035 rr` (net/netfilter/ipvs/ip_vs_ctl.c).
fn ip_vs(table: &str) -> Vec<ServiceKey> {
    let service = |line: &str| {
        let mut words = line.split_whitespace();
        let protocol = match words.next()? {
            "TCP" => Protocol::Tcp,
            "UDP" => Protocol::Udp,
            _ => return None,
        };
        let (address, port) = words.next()?.rsplit_once(':')?;
        let vip: IpAddr = match address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(v6) => v6.parse::<Ipv6Addr>().ok()?.into(),
            None => Ipv4Addr::from(u32::from_str_radix(address, 16).ok()?).into(),
        };
        Some(ServiceKey { vip, protocol, port: u16::from_str_radix(port, 16).ok()? })
    };
    table.lines().filter_map(service).collect()
}

/// Judges the facts by what is asked of the machine.
pub fn judge(demand: &MachineDemand, facts: &MachineFacts) -> Vec<Finding> {
    let mut findings = vec![kernel(facts), af_xdp(facts), capabilities_of(facts), memory_lock_of(demand, facts)];
    findings.extend(busy_poll(demand, facts));
    findings.extend(tx_budget(facts));
    findings.extend(huge_pages(demand, facts));
    findings.push(transparent_huge_pages(facts));
    findings.extend(demand.layout_problem.as_ref().map(|problem| finding(Check::Layout, Severity::Error, problem)));
    findings.extend(worker_cores(demand, facts));
    findings.extend(smt_siblings(demand, facts));
    findings.extend(cpu_isolation(demand, facts));
    findings.extend(frequency_governor(demand, facts));
    findings.extend(ip_vs_of(demand, facts));
    findings
}

fn finding(check: Check, severity: Severity, what: impl Into<String>) -> Finding {
    Finding::new(check, severity, "", what)
}

/// Major and minor number of a release.
pub(super) fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn kernel(facts: &MachineFacts) -> Finding {
    match version(&facts.kernel) {
        Some(version) if version < (6, 1) => {
            finding(Check::Kernel, Severity::Error, format!("Linux {} is older than 6.1", facts.kernel))
                .mend("boot a kernel of 6.1 or newer, as Debian 12 has")
        }
        Some(_) => finding(Check::Kernel, Severity::Ok, format!("Linux {}", facts.kernel)),
        None => {
            finding(Check::Kernel, Severity::Info, format!("the kernel's release {:?} tells nothing", facts.kernel))
        }
    }
}

fn af_xdp(facts: &MachineFacts) -> Finding {
    match facts.sockets.af_xdp {
        Some(true) => finding(Check::AfXdp, Severity::Ok, "the kernel makes AF_XDP sockets"),
        Some(false) => finding(Check::AfXdp, Severity::Error, "the kernel has no AF_XDP sockets")
            .mend("boot a kernel built with CONFIG_XDP_SOCKETS=y, as every distribution's is"),
        None => finding(Check::AfXdp, Severity::Info, "not tried, for want of CAP_NET_RAW"),
    }
}

fn busy_poll(demand: &MachineDemand, facts: &MachineFacts) -> Option<Finding> {
    (demand.busy_poll && facts.sockets.busy_poll == Some(false)).then(|| {
        finding(Check::BusyPoll, Severity::Warning, "busy_poll is configured, and this kernel has no such option")
            .mend("boot a kernel of 5.11 or newer built with CONFIG_NET_RX_BUSY_POLL=y, or take busy_poll out")
    })
}

fn tx_budget(facts: &MachineFacts) -> Option<Finding> {
    facts.sockets.tx_budget.map(|has| match has {
        true => finding(Check::TxBudget, Severity::Ok, "a socket may have more than 32 frames sent at once"),
        false => finding(Check::TxBudget, Severity::Info, "in copy mode 32 frames are sent for each system call")
            .mend("boot a kernel of 6.17 or newer (only where copy mode is the limit)"),
    })
}

fn capabilities_of(facts: &MachineFacts) -> Finding {
    if facts.missing_capabilities.is_empty() {
        return finding(Check::Capabilities, Severity::Ok, "this process has what a director needs");
    }
    let missing = facts.missing_capabilities.join(", ");
    finding(
        Check::Capabilities,
        Severity::Warning,
        format!("this process lacks {missing}: started like this, a director would fail, and not all was looked at"),
    )
    .mend(format!("run it as root, or give it {missing}"))
}

fn memory_lock_of(demand: &MachineDemand, facts: &MachineFacts) -> Finding {
    let needed = mebibytes(demand.umem_bytes);
    match facts.memory_lock_bytes {
        _ if facts.may_lock_memory => finding(Check::MemoryLock, Severity::Ok, "no limit, by CAP_IPC_LOCK"),
        None => finding(Check::MemoryLock, Severity::Ok, "ulimit -l is unlimited"),
        Some(limit) if limit >= demand.umem_bytes => finding(
            Check::MemoryLock,
            Severity::Ok,
            format!("ulimit -l of {} is enough for {needed} of frames", mebibytes(limit)),
        ),
        Some(limit) => finding(
            Check::MemoryLock,
            Severity::Error,
            format!("ulimit -l of {} is less than the {needed} that frames need", mebibytes(limit)),
        )
        .mend("ulimit -l unlimited")
        .mend("LimitMEMLOCK=infinity (in the systemd unit)"),
    }
}

fn huge_pages(demand: &MachineDemand, facts: &MachineFacts) -> Option<Finding> {
    if !demand.huge_pages {
        return None;
    }
    let (needed, free) = (mebibytes(demand.umem_bytes), mebibytes(facts.free_huge_bytes));
    if facts.free_huge_bytes >= demand.umem_bytes {
        return Some(finding(Check::HugePages, Severity::Ok, format!("{free} are free, frames need {needed}")));
    }
    let missing = demand.umem_bytes - facts.free_huge_bytes;
    let pages = missing.div_ceil(facts.huge_page_bytes.max(1));
    Some(
        finding(
            Check::HugePages,
            Severity::Warning,
            format!("huge_pages is configured: frames need {needed}, and {free} are free"),
        )
        .mend(format!("sysctl -w vm.nr_hugepages=$(($(sysctl -n vm.nr_hugepages) + {pages}))")),
    )
}

fn transparent_huge_pages(facts: &MachineFacts) -> Finding {
    let check = Check::TransparentHugePages;
    match facts.transparent_huge_pages.as_deref() {
        Some("never") => finding(check, Severity::Warning, "transparent huge pages are switched off")
            .mend("echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"),
        Some(setting) => finding(check, Severity::Ok, format!("set to {setting}")),
        None => {
            finding(check, Severity::Info, "this kernel has none; reserved huge pages (vm.nr_hugepages) serve, too")
        }
    }
}

fn worker_cores(demand: &MachineDemand, facts: &MachineFacts) -> Option<Finding> {
    if demand.cores.is_empty() {
        return None;
    }
    let cores = show_cpus(&demand.cores);
    let barred: Vec<usize> = demand
        .cores
        .iter()
        .filter(|core| !facts.allowed.is_empty() && !facts.allowed.contains(core) && !facts.isolated.contains(core))
        .copied()
        .collect();
    Some(if !barred.is_empty() {
        let barred = show_cpus(&barred);
        finding(Check::WorkerCores, Severity::Warning, format!("this process may not run on CPU {barred}"))
            .mend(format!("AllowedCPUs={barred} (in the systemd unit; CPUAffinity= must have them, too)"))
            .mend("or choose other cores in the [[interface]] table")
    } else if facts.online.len() == 1 {
        finding(Check::WorkerCores, Severity::Warning, "the one CPU is shared by the worker and everything else")
            .mend("give the machine another CPU")
    } else if facts.online.iter().all(|cpu| demand.cores.contains(cpu)) {
        finding(
            Check::WorkerCores,
            Severity::Info,
            format!("workers run on CPUs {cores}, which are all that there are: none is left for the rest"),
        )
        .mend("choose cores in the [[interface]] table, and fewer queues (ethtool -L)")
    } else {
        finding(Check::WorkerCores, Severity::Ok, format!("workers run on CPUs {cores}"))
    })
}

fn smt_siblings(demand: &MachineDemand, facts: &MachineFacts) -> Option<Finding> {
    let none = Vec::new();
    let siblings_of = |core: &usize| facts.siblings.get(core).unwrap_or(&none);
    let shared: Vec<String> = demand
        .cores
        .iter()
        .filter_map(|core| {
            let twin = siblings_of(core).iter().find(|other| *other > core && demand.cores.contains(other))?;
            Some(format!("{core} and {twin}"))
        })
        .collect();
    if !shared.is_empty() {
        let shared = shared.join(", ");
        return Some(
            finding(
                Check::SmtSiblings,
                Severity::Warning,
                format!("workers run on both hyper-threads of a core: {shared}"),
            )
            .mend("cores = [...] in the [[interface]] table, with one of each pair (lscpu -e)"),
        );
    }
    let twins: Vec<usize> = demand
        .cores
        .iter()
        .flat_map(|core| siblings_of(core).iter().filter(move |twin| *twin != core))
        .copied()
        .collect();
    let has_twins = !twins.is_empty();
    has_twins.then(|| {
        let what = format!("no two workers share a core; CPU {} beside them is best left idle", show_cpus(&twins));
        finding(Check::SmtSiblings, Severity::Ok, what)
    })
}

fn cpu_isolation(demand: &MachineDemand, facts: &MachineFacts) -> Option<Finding> {
    if demand.cores.is_empty() {
        return None;
    }
    let open: Vec<usize> = demand.cores.iter().filter(|core| !facts.isolated.contains(core)).copied().collect();
    Some(if open.is_empty() {
        finding(Check::CpuIsolation, Severity::Ok, "the workers' CPUs are isolated")
    } else {
        let open = show_cpus(&open);
        finding(Check::CpuIsolation, Severity::Info, format!("CPU {open} of the workers is not isolated"))
            .mend(format!("isolcpus={open} nohz_full={open} rcu_nocbs={open} (on the kernel's command line)"))
    })
}

fn frequency_governor(demand: &MachineDemand, facts: &MachineFacts) -> Option<Finding> {
    let of_workers = demand.cores.iter().filter_map(|core| Some((core, facts.governors.get(core)?)));
    let (mut slow, mut seen) = (Vec::new(), false);
    for (core, governor) in of_workers {
        seen = true;
        if governor != "performance" {
            slow.push((*core, governor.as_str()));
        }
    }
    let Some((_, governor)) = slow.first() else {
        return seen.then(|| finding(Check::FrequencyGovernor, Severity::Ok, "the workers' CPUs keep their frequency"));
    };
    let cpus = show_cpus(&slow.iter().map(|(core, _)| *core).collect::<Vec<_>>());
    let what = format!("the frequency governor of CPU {cpus} is {governor}");
    Some(
        finding(Check::FrequencyGovernor, Severity::Warning, what)
            .mend(format!("cpupower --cpu {cpus} frequency-set --governor performance")),
    )
}

fn ip_vs_of(demand: &MachineDemand, facts: &MachineFacts) -> Vec<Finding> {
    let twice = demand.services.iter().filter(|service| facts.ip_vs.contains(service));
    twice
        .map(|service| {
            let option = match service.protocol {
                Protocol::Tcp => "-t",
                Protocol::Udp => "-u",
            };
            let address = std::net::SocketAddr::new(service.vip, service.port);
            let what = format!("the kernel's IPVS has the virtual service {service}, too");
            Finding::new(Check::IpVs, Severity::Warning, service.to_string(), what)
                .mend(format!("ipvsadm -D {option} {address}"))
        })
        .collect()
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
