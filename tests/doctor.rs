//! `pointsman doctor` without privileges: tables of facts and the findings they make, reading /proc and /sys from a
//! directory, the document's schema and documentation, and the command line.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::too_many_lines,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod program;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use pointsman::announce::Role;
use pointsman::config::{Announce, AttachMode, BusyPoll, CopyMode, InterfaceConfig, PollMode};
use pointsman::doctor::direct_routing::{self, RealServerFacts, SegmentFacts, VipFacts};
use pointsman::doctor::interface::{self, InterfaceFacts};
use pointsman::doctor::machine::{self, MachineFacts};
use pointsman::doctor::{
    Check, Finding, InterfaceDemand, MachineDemand, RealServerDemand, Report, RunningInterface, Severity, System,
    schema,
};
use pointsman::network::{Link, Nic, RingSize, Tuning};
use pointsman::port::xsk::SocketFeatures;
use pointsman::wire::MacAddress;
use pointsman::xdp::{ForeignProgram, XdpFeatures};
use program::{CONFIG, Workspace, run};
use serde_json::Value;

const SCHEMA_FILE: &str = "docs/doctor.schema.json";

/// The findings of a check: how bad, and what is said.
fn of(findings: &[Finding], check: Check) -> Vec<(Severity, String)> {
    findings
        .iter()
        .filter(|finding| finding.id == check.id())
        .map(|finding| (finding.severity, format!("{} | {}", finding.what, finding.mend.join(" | "))))
        .collect()
}

/// Exactly one finding of `check`, this bad, that says all of `texts`.
fn assert_finding(what: &str, findings: &[Finding], check: Check, severity: Severity, texts: &[&str]) {
    let found = of(findings, check);
    assert_eq!(found.len(), 1, "{what}: {found:?}");
    assert_eq!(found[0].0, severity, "{what}: {}", found[0].1);
    for text in texts {
        assert!(found[0].1.contains(text), "{what}: {text:?} in {:?}", found[0].1);
    }
}

fn assert_sound(findings: &[Finding]) {
    let bad: Vec<_> = findings.iter().filter(|finding| finding.severity > Severity::Ok).collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

fn machine_demand() -> MachineDemand {
    MachineDemand {
        cores: vec![2, 3],
        umem_bytes: 16 << 20,
        huge_pages: true,
        busy_poll: true,
        layout_problem: None,
        services: vec!["tcp 192.168.88.15:80".parse().unwrap(), "udp [fd00:88::15]:53".parse().unwrap()],
    }
}

fn machine_facts() -> MachineFacts {
    MachineFacts {
        kernel: "6.1.0-18-amd64".into(),
        sockets: SocketFeatures { af_xdp: Some(true), busy_poll: Some(true), tx_budget: Some(true) },
        missing_capabilities: vec![],
        may_lock_memory: false,
        memory_lock_bytes: Some(64 << 20),
        free_huge_bytes: 16 << 20,
        huge_page_bytes: 2 << 20,
        transparent_huge_pages: Some("madvise".into()),
        online: (0..8).collect(),
        allowed: (0..8).collect(),
        isolated: vec![2, 3],
        siblings: (0..8).map(|cpu| (cpu, vec![cpu % 4, cpu % 4 + 4])).collect(),
        governors: (0..8).map(|cpu| (cpu, "performance".into())).collect(),
        ip_vs: vec!["tcp 192.168.88.15:443".parse().unwrap()],
    }
}

#[test]
fn the_machine_is_judged() {
    assert_sound(&machine::judge(&machine_demand(), &machine_facts()));
    type Change = fn(&mut MachineDemand, &mut MachineFacts);
    use Check as C;
    use Severity::{Error, Info, Ok, Warning};
    let table: &[(&str, Change, C, Severity, &[&str])] = &[
        ("old kernel", |_, f| f.kernel = "5.15.0".into(), C::Kernel, Error, &["5.15.0", "6.1"]),
        ("odd kernel", |_, f| f.kernel = "x".into(), C::Kernel, Info, &["\"x\""]),
        ("no AF_XDP", |_, f| f.sockets.af_xdp = Some(false), C::AfXdp, Error, &["CONFIG_XDP_SOCKETS=y"]),
        ("unprivileged", |_, f| f.sockets.af_xdp = None, C::AfXdp, Info, &["CAP_NET_RAW"]),
        ("no busy poll", |_, f| f.sockets.busy_poll = Some(false), C::BusyPoll, Warning, &["5.11"]),
        ("no budget", |_, f| f.sockets.tx_budget = Some(false), C::TxBudget, Info, &["32 frames"]),
        ("capabilities", |_, f| f.missing_capabilities = vec!["CAP_BPF"], C::Capabilities, Warning, &["CAP_BPF"]),
        (
            "limit",
            |_, f| f.memory_lock_bytes = Some(8 << 20),
            C::MemoryLock,
            Error,
            &["8.0 MiB", "16.0 MiB", "ulimit -l"],
        ),
        (
            "limit that does not count",
            |_, f| (f.memory_lock_bytes, f.may_lock_memory) = (Some(8 << 20), true),
            C::MemoryLock,
            Ok,
            &["CAP_IPC_LOCK"],
        ),
        ("no limit", |_, f| f.memory_lock_bytes = None, C::MemoryLock, Ok, &["unlimited"]),
        ("huge pages", |_, f| f.free_huge_bytes = 10 << 20, C::HugePages, Warning, &["10.0 MiB", "+ 3))"]),
        ("no THP", |_, f| f.transparent_huge_pages = None, C::TransparentHugePages, Info, &[]),
        (
            "THP off",
            |_, f| f.transparent_huge_pages = Some("never".into()),
            C::TransparentHugePages,
            Warning,
            &["echo madvise"],
        ),
        ("layout", |d, _| d.layout_problem = Some("no CPU 9".into()), C::Layout, Error, &["no CPU 9"]),
        (
            "cpuset",
            |_, f| (f.allowed, f.isolated) = (vec![0, 2], vec![]),
            C::WorkerCores,
            Warning,
            &["CPU 3", "AllowedCPUs=3"],
        ),
        ("isolated cores are not allowed by themselves", |_, f| f.allowed = vec![0, 1], C::WorkerCores, Ok, &["2-3"]),
        ("no core left", |_, f| f.online = vec![2, 3], C::WorkerCores, Info, &["none is left"]),
        ("one CPU", |d, f| (d.cores, f.online) = (vec![0], vec![0]), C::WorkerCores, Warning, &["one CPU"]),
        ("siblings", |d, _| d.cores = vec![2, 6], C::SmtSiblings, Warning, &["2 and 6", "lscpu -e"]),
        ("not isolated", |_, f| f.isolated = vec![2], C::CpuIsolation, Info, &["CPU 3 ", "isolcpus=3"]),
        (
            "powersave",
            |_, f| _ = f.governors.insert(3, "powersave".into()),
            C::FrequencyGovernor,
            Warning,
            &["CPU 3 is powersave", "--governor performance"],
        ),
        (
            "IPVS",
            |_, f| f.ip_vs = vec!["tcp 192.168.88.15:80".parse().unwrap()],
            C::IpVs,
            Warning,
            &["ipvsadm -D -t 192.168.88.15:80"],
        ),
    ];
    for (what, change, check, severity, texts) in table {
        let (mut demand, mut facts) = (machine_demand(), machine_facts());
        change(&mut demand, &mut facts);
        assert_finding(what, &machine::judge(&demand, &facts), *check, *severity, texts);
    }
    let nothing = machine::judge(&MachineDemand::default(), &machine_facts());
    for check in [C::HugePages, C::BusyPoll, C::WorkerCores, C::SmtSiblings, C::CpuIsolation, C::IpVs] {
        assert!(of(&nothing, check).is_empty(), "{} is not asked for", check.id());
    }
}

#[test]
fn the_machine_is_read_from_proc_and_sys() {
    let workspace = Workspace::new();
    let root = workspace.directory();
    for (path, text) in [
        ("proc/sys/kernel/osrelease", "6.12.3\n"),
        ("proc/thread-self/status", "CapEff:\t0000000000201000\nCpus_allowed_list:\t0-1,4\n"),
        ("proc/self/limits", "Max cpu time  unlimited unlimited seconds\nMax locked memory  8388608  8388608  bytes\n"),
        ("proc/meminfo", "HugePages_Total:  8\nHugePages_Free:  3\nHugepagesize:  2048 kB\n"),
        (
            "proc/thread-self/net/ip_vs",
            "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port\n\
             TCP  C0A8580F:0050 wrr  \n  -> C0A85864:0050      Route   1      0          0\n\
             UDP  [fd00:0088:0000:0000:0000:0000:0000:0015]:0035 rr  \nFWM  00000001 rr\n",
        ),
        ("sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n"),
        ("sys/devices/system/cpu/online", "0-1\n"),
        ("sys/devices/system/cpu/isolated", "1\n"),
        ("sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0-1\n"),
        ("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "powersave\n"),
    ] {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let facts = machine::read(&System::at(root), SocketFeatures::default());
    assert_eq!(facts.kernel, "6.12.3");
    assert_eq!(facts.missing_capabilities, ["CAP_NET_RAW"], "CAP_SYS_ADMIN stands in for CAP_BPF and CAP_PERFMON");
    assert!(!facts.may_lock_memory);
    assert_eq!((facts.memory_lock_bytes, facts.free_huge_bytes), (Some(8 << 20), 6 << 20));
    assert_eq!(facts.transparent_huge_pages.as_deref(), Some("never"));
    assert_eq!((facts.online, facts.allowed, facts.isolated), (vec![0, 1], vec![0, 1, 4], vec![1]));
    assert_eq!(facts.siblings, BTreeMap::from([(0, vec![0, 1])]));
    assert_eq!(facts.governors, BTreeMap::from([(1, "powersave".to_owned())]));
    let services: Vec<String> = facts.ip_vs.iter().map(ToString::to_string).collect();
    assert_eq!(services, ["tcp 192.168.88.15:80", "udp [fd00:88::15]:53"]);
    let empty = machine::read(&System::at(root.join("nothing")), SocketFeatures::default());
    assert!(empty.online.is_empty() && empty.ip_vs.is_empty() && empty.transparent_huge_pages.is_none());
}

fn link(name: &str, kind: Option<&str>) -> Link {
    Link {
        index: 2,
        name: name.into(),
        mac: MacAddress::new([2, 0, 0, 0, 0, 2]),
        mtu: 1500,
        up: true,
        parent: None,
        controller: None,
        kind: kind.map(Into::into),
        vlan_id: None,
    }
}

fn interface_demand() -> InterfaceDemand {
    InterfaceDemand { config: InterfaceConfig::named("eth0"), polled: vec![0, 1], cores: vec![2, 3] }
}

fn interface_facts() -> InterfaceFacts {
    InterfaceFacts {
        present: vec!["lo".into(), "eth0".into()],
        link: Some(link("eth0", None)),
        nic: Some(Nic {
            driver: Some("ice".into()),
            rx_queues: 2,
            tx_queues: 2,
            carrier: Some(true),
            rx_vlan_offload: Some(false),
        }),
        tuning: Tuning {
            rx_ring: Some(RingSize { current: 2048, most: 8160 }),
            tx_checksum_offload: Some(true),
            lro: Some(false),
            rss: Some(vec![0, 1, 0, 1]),
        },
        program: None,
        features: Some(XdpFeatures::new(0x0f)),
        running: None,
        peer: None,
        vlans: vec![],
        interrupts: vec![(38, vec![0]), (39, vec![1])],
    }
}

fn by_director(generic: bool, zero_copy: Option<bool>) -> Option<RunningInterface> {
    Some(RunningInterface { name: "eth0".into(), generic, zero_copy })
}

fn veth(f: &mut InterfaceFacts) {
    f.link = Some(link("eth0", Some("veth")));
    f.nic.as_mut().unwrap().driver = Some("veth".into());
}

#[test]
fn an_interface_is_judged() {
    assert_sound(&interface::judge(&interface_demand(), &interface_facts()));
    type Change = fn(&mut InterfaceDemand, &mut InterfaceFacts);
    use Check as C;
    use Severity::{Error, Info, Ok, Warning};
    let table: &[(&str, Change, C, Severity, &[&str])] = &[
        ("missing", |_, f| f.link = None, C::InterfacePresent, Error, &["lo, eth0"]),
        ("down", |_, f| f.link.as_mut().unwrap().up = false, C::InterfaceUp, Error, &["ip link set dev eth0 up"]),
        ("driver", |_, f| f.nic = None, C::Driver, Ok, &["unknown"]),
        (
            "another's program",
            |_, f| f.program = Some(ForeignProgram { id: 7, name: Some("katran".into()), mode: "native" }),
            C::XdpProgram,
            Error,
            &["\"katran\", number 7", "xdp off"],
        ),
        (
            "our own program",
            |_, f| {
                f.program = Some(ForeignProgram { id: 7, name: None, mode: "native" });
                f.running = by_director(false, Some(true));
            },
            C::XdpProgram,
            Ok,
            &["running director"],
        ),
        (
            "no native XDP",
            |_, f| f.features = Some(XdpFeatures::new(0)),
            C::XdpMode,
            Warning,
            &["ice has no native XDP"],
        ),
        (
            "native demanded",
            |d, f| (d.config.mode, f.features) = (AttachMode::Native, Some(XdpFeatures::new(0))),
            C::XdpMode,
            Error,
            &["ice"],
        ),
        (
            "generic by configuration",
            |d, _| d.config.mode = AttachMode::Generic,
            C::XdpMode,
            Info,
            &["as the configuration"],
        ),
        ("old kernel", |_, f| f.features = None, C::XdpMode, Info, &["6.3"]),
        ("generic at work", |_, f| f.running = by_director(true, Some(false)), C::XdpMode, Warning, &["refused"]),
        (
            "jumbo veth",
            |_, f| {
                veth(f);
                f.link.as_mut().unwrap().mtu = 9000;
            },
            C::XdpMode,
            Warning,
            &["MTU 9000", "mtu 3500"],
        ),
        ("no zero copy", |_, f| f.features = Some(XdpFeatures::new(3)), C::ZeroCopy, Info, &["copy: the driver ice"]),
        (
            "zero copy demanded",
            |d, f| (d.config.copy, f.features) = (CopyMode::ZeroCopy, Some(XdpFeatures::new(3))),
            C::ZeroCopy,
            Error,
            &["copy = \"auto\""],
        ),
        (
            "zero copy in generic mode",
            |d, _| d.config.mode = AttachMode::Generic,
            C::ZeroCopy,
            Info,
            &["generic XDP has no"],
        ),
        (
            "copy at work",
            |_, f| f.running = by_director(false, Some(false)),
            C::ZeroCopy,
            Info,
            &["in the running director"],
        ),
        ("MTU", |d, _| d.config.mtu = Some(9000), C::Mtu, Warning, &["it is 1500", "9000"]),
        (
            "a queue without a socket",
            |_, f| f.nic.as_mut().unwrap().rx_queues = 4,
            C::Queues,
            Warning,
            &["queues 2-3 of 4", "ethtool -L eth0 combined 2"],
        ),
        (
            "flows on a queue without a socket",
            |_, f| f.tuning.rss = Some(vec![0, 1, 2, 3]),
            C::RssSpread,
            Error,
            &["queues 2-3", "ethtool -X eth0 equal 2"],
        ),
        ("an idle queue", |_, f| f.tuning.rss = Some(vec![0, 0]), C::RssSpread, Warning, &["queues 1", "equal 2"]),
        (
            "a short ring",
            |_, f| f.tuning.rx_ring = Some(RingSize { current: 256, most: 4096 }),
            C::RxRing,
            Warning,
            &["256", "ethtool -G eth0 rx 2048"],
        ),
        (
            "a short ring that is as long as can be",
            |_, f| f.tuning.rx_ring = Some(RingSize { current: 256, most: 256 }),
            C::RxRing,
            Ok,
            &["256"],
        ),
        (
            "tags are taken out",
            |_, f| f.nic.as_mut().unwrap().rx_vlan_offload = Some(true),
            C::RxVlanOffload,
            Info,
            &["ethtool -K eth0 rxvlan off"],
        ),
        (
            "tags are taken out, with VLANs",
            |_, f| {
                f.nic.as_mut().unwrap().rx_vlan_offload = Some(true);
                f.vlans = vec!["eth0.10".into()];
            },
            C::RxVlanOffload,
            Warning,
            &["eth0.10"],
        ),
        (
            "peer with offload",
            |_, f| {
                veth(f);
                f.peer = Some(("peer0".into(), Some(true)));
            },
            C::TxChecksumPeer,
            Warning,
            &["ethtool -K peer0 tx off"],
        ),
        (
            "peer without",
            |_, f| {
                veth(f);
                f.peer = Some(("peer0".into(), Some(false)));
            },
            C::TxChecksumPeer,
            Ok,
            &["peer0"],
        ),
        ("peer elsewhere", |_, f| veth(f), C::TxChecksumPeer, Info, &["out of sight"]),
        ("LRO", |_, f| f.tuning.lro = Some(true), C::Lro, Warning, &["ethtool -K eth0 lro off"]),
        ("interrupt on a worker's core", |_, f| f.interrupts[1].1 = vec![0, 3], C::IrqAffinity, Info, &[": 39"]),
        (
            "interrupt on a spinning worker's core",
            |d, f| {
                d.config.poll = PollMode::Busy;
                f.interrupts[1].1 = vec![3];
            },
            C::IrqAffinity,
            Warning,
            &[": 39", "smp_affinity_list"],
        ),
        (
            "busy poll wants it there",
            |d, _| d.config.busy_poll = Some(BusyPoll { timeout_us: 20, budget: 64 }),
            C::IrqAffinity,
            Info,
            &["38, 39", "echo 2-3"],
        ),
    ];
    for (what, change, check, severity, texts) in table {
        let (mut demand, mut facts) = (interface_demand(), interface_facts());
        change(&mut demand, &mut facts);
        assert_finding(what, &interface::judge(&demand, &facts), *check, *severity, texts);
    }
}

#[test]
fn interrupts_are_found_by_device_and_by_name() {
    let workspace = Workspace::new();
    let root = workspace.directory();
    for (path, text) in [
        ("sys/class/net/lo/device/msi_irqs/40", ""),
        ("proc/irq/40/smp_affinity_list", "0-3\n"),
        ("proc/irq/40/effective_affinity_list", "2\n"),
        ("proc/interrupts", "  CPU0\n 41:  5  PCI-MSI lo-TxRx-0\n 42:  5  PCI-MSI lost-0\nNMI: 0 lo\n"),
        ("proc/irq/41/smp_affinity_list", "1\n"),
        ("proc/irq/42/smp_affinity_list", "1\n"),
    ] {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let links = pointsman::network::links().unwrap();
    let facts = interface::read(&System::at(root), "lo", &links, None);
    assert_eq!(facts.interrupts, [(40, vec![2]), (41, vec![1])]);
    let missing = interface::read(&System::at(root), "nosuch0", &links, None);
    assert!(missing.link.is_none() && missing.present.contains(&"lo".to_owned()));
}

const WEB1: MacAddress = MacAddress::new([2, 0, 0, 0, 1, 0]);
const OTHER: MacAddress = MacAddress::new([2, 0, 0, 0, 9, 9]);
const THIRD: MacAddress = MacAddress::new([2, 0, 0, 0, 9, 8]);
const OWN: MacAddress = MacAddress::new([2, 0, 0, 0, 0, 2]);

fn segment() -> SegmentFacts {
    SegmentFacts {
        vips: vec![VipFacts {
            vip: "192.168.88.15".parse().unwrap(),
            local_on: vec!["eth0".into()],
            silent_on: vec![],
            asked_on: vec!["eth0".into()],
            answers: vec![("eth0".into(), OWN)],
            announce: Announce::Kernel,
            role: None,
            forwarded: false,
        }],
        real_servers: vec![RealServerFacts {
            demand: RealServerDemand { address: "192.168.88.100".parse().unwrap(), mac: None },
            device: Ok("eth0".into()),
            asked: true,
            answers: BTreeSet::from([WEB1]),
            neighbor: None,
        }],
        own_macs: BTreeSet::from([OWN]),
        problems: vec![],
    }
}

#[test]
fn the_segment_is_judged() {
    assert_sound(&direct_routing::judge(&segment()));
    type Change = fn(&mut SegmentFacts);
    use Check as C;
    use Severity::{Error, Info, Ok, Warning};
    fn answered_by(facts: &mut SegmentFacts, mac: MacAddress) {
        facts.vips[0].answers.push(("eth0".into(), mac));
    }
    fn announced(facts: &mut SegmentFacts, role: Option<Role>) {
        let vip = &mut facts.vips[0];
        vip.local_on.clear();
        (vip.announce, vip.role) = (Announce::Arp, role);
    }
    let table: &[(&str, Change, C, Severity, &[&str])] = &[
        (
            "the classic fault",
            |f| answered_by(f, WEB1),
            C::VipRealServerAnswers,
            Error,
            &[
                "real server 192.168.88.100",
                "02:00:00:00:01:00",
                "arp_ignore=1",
                "arp_announce=2",
                "scripts/real-server",
            ],
        ),
        (
            "the same, known from the neighbour table alone",
            |f| {
                f.real_servers[0].answers.clear();
                f.real_servers[0].neighbor = Some(WEB1);
                answered_by(f, WEB1);
            },
            C::VipRealServerAnswers,
            Error,
            &["192.168.88.100"],
        ),
        (
            "the same, known from the configuration alone",
            |f| {
                f.real_servers[0].answers.clear();
                f.real_servers[0].demand.mac = Some(WEB1);
                answered_by(f, WEB1);
            },
            C::VipRealServerAnswers,
            Error,
            &["192.168.88.100"],
        ),
        (
            "the same for IPv6",
            |f| {
                f.vips[0].vip = "fd00:88::15".parse().unwrap();
                f.real_servers[0].demand.address = "fd00:88::100".parse().unwrap();
                answered_by(f, WEB1);
            },
            C::VipRealServerAnswers,
            Error,
            &["neighbour discovery", "fd00:88::15/128 dev lo nodad"],
        ),
        (
            "a stranger, too",
            |f| answered_by(f, OTHER),
            C::VipAnsweredTwice,
            Error,
            &["this machine", "02:00:00:00:09:09"],
        ),
        (
            "two strangers",
            |f| {
                f.vips[0].local_on.clear();
                answered_by(f, OTHER);
                answered_by(f, THIRD);
            },
            C::VipAnsweredTwice,
            Error,
            &["2 machines", "02:00:00:00:09:08, 02:00:00:00:09:09"],
        ),
        (
            "the director answers, and so does another",
            |f| {
                announced(f, Some(Role::Active));
                answered_by(f, OTHER);
            },
            C::VipAnsweredTwice,
            Error,
            &["the running director", "02:00:00:00:09:09", "pointsman announce release 192.168.88.15"],
        ),
        (
            "the other director answers",
            |f| {
                announced(f, Some(Role::Standby));
                answered_by(f, OTHER);
            },
            C::VipElsewhere,
            Info,
            &["02:00:00:00:09:09"],
        ),
        (
            "a standby, and nobody answers",
            |f| announced(f, Some(Role::Standby)),
            C::VipUnanswered,
            Warning,
            &["pointsman announce take 192.168.88.15"],
        ),
        ("the director would answer", |f| announced(f, None), C::VipUnanswered, Info, &["start the director"]),
        (
            "the director and the kernel",
            |f| f.vips[0].announce = Announce::Arp,
            C::VipAddress,
            Warning,
            &["ip address del 192.168.88.15/32 dev eth0"],
        ),
        (
            "a kernel that forwards",
            |f| {
                announced(f, Some(Role::Active));
                f.vips[0].forwarded = true;
            },
            C::VipForwarded,
            Warning,
            &["ip route add blackhole 192.168.88.15/32"],
        ),
        (
            "one stranger",
            |f| {
                f.vips[0].local_on.clear();
                answered_by(f, OTHER);
            },
            C::VipElsewhere,
            Info,
            &["02:00:00:00:09:09"],
        ),
        (
            "nobody",
            |f| f.vips[0].local_on.clear(),
            C::VipUnanswered,
            Info,
            &["ip address add 192.168.88.15/32 dev eth0"],
        ),
        (
            "a silent kernel",
            |f| {
                f.vips[0].local_on = vec!["lo".into()];
                f.vips[0].silent_on = vec!["eth0".into()];
            },
            C::VipAddress,
            Warning,
            &["does not answer for it on eth0"],
        ),
        (
            "off the link",
            |f| f.real_servers[0].device = Err("reached through gateway".into()),
            C::RealServerOnLink,
            Error,
            &["gateway", "ip route get 192.168.88.100"],
        ),
        ("no answer", |f| f.real_servers[0].answers.clear(), C::RealServerReachable, Warning, &["arping -I eth0"]),
        (
            "not asked",
            |f| {
                f.real_servers[0].answers.clear();
                f.real_servers[0].asked = false;
            },
            C::RealServerReachable,
            Info,
            &["could not be asked"],
        ),
        (
            "two of one address",
            |f| _ = f.real_servers[0].answers.insert(OTHER),
            C::RealServerReachable,
            Error,
            &["several machines"],
        ),
        (
            "the wrong MAC",
            |f| f.real_servers[0].demand.mac = Some(OTHER),
            C::RealServerMac,
            Error,
            &["mac = \"02:00:00:00:01:00\""],
        ),
        (
            "the right MAC",
            |f| f.real_servers[0].demand.mac = Some(WEB1),
            C::RealServerMac,
            Ok,
            &["by the configuration"],
        ),
        (
            "not asked at all",
            |f| f.problems.push(("eth0".into(), "CAP_NET_RAW".into())),
            C::Probe,
            Warning,
            &["CAP_NET_RAW"],
        ),
    ];
    for (what, change, check, severity, texts) in table {
        let mut facts = segment();
        change(&mut facts);
        assert_finding(what, &direct_routing::judge(&facts), *check, *severity, texts);
    }
}

#[test]
fn every_check_is_documented_under_its_name_and_no_other_is() {
    let text = fs::read_to_string("docs/doctor.md").unwrap();
    let rows = text.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split_once("` |")?.0));
    let documented: Vec<&str> = rows.collect();
    let checks: Vec<&str> = Check::ALL.iter().map(|check| check.id()).collect();
    assert_eq!(documented, checks, "docs/doctor.md has a row for each check, in this order");
}

fn validator() -> jsonschema::Validator {
    let schema: Value = serde_json::from_str(&fs::read_to_string(SCHEMA_FILE).unwrap()).unwrap();
    jsonschema::draft202012::meta::validate(&schema).unwrap();
    jsonschema::validator_for(&schema).unwrap()
}

#[test]
fn the_committed_schema_is_the_generated_one() {
    let generated = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        fs::write(SCHEMA_FILE, &generated).unwrap();
    }
    let committed = fs::read_to_string(SCHEMA_FILE).unwrap();
    assert!(
        committed == generated,
        "{SCHEMA_FILE} is out of date: run UPDATE_SCHEMA=1 cargo test --test doctor, and update docs/doctor.md"
    );
}

#[test]
fn a_report_counts_its_findings_and_fits_the_schema() {
    let mut facts = segment();
    facts.vips[0].answers.push(("eth0".into(), WEB1));
    let mut findings = direct_routing::judge(&facts);
    findings.extend(machine::judge(&machine_demand(), &machine_facts()));
    let report = Report::new(findings, false);
    assert_eq!((report.worst, report.counts.error), (Severity::Error, 1));
    assert_eq!(report.findings[0].id, "kernel", "the machine comes first");
    let document = serde_json::to_value(&report).unwrap();
    assert!(validator().is_valid(&document), "{document:#}");
    let mut other = document;
    other["schema_version"] = 2.into();
    assert!(!validator().is_valid(&other));
}

#[test]
fn the_exit_code_says_how_bad_it_is() {
    let workspace = Workspace::new();
    let config = workspace.file("director.toml", format!("[[interface]]\nname = \"nowhere0\"\n{CONFIG}"));
    let arguments = ["doctor", "--no-probe", "--config", &config];
    let said = run(arguments);
    assert_eq!(said.code, Some(4), "{said:?}");
    assert!(said.out.contains("error    interface_present: there is no such interface"), "{}", said.out);
    assert!(said.out.contains("do:  ip link show"), "{}", said.out);
    let too_long = said.out.lines().find(|line| line.chars().count() > 80 && !line.contains(" do: "));
    assert_eq!(too_long, None, "only commands are longer than 80 columns");

    let json = run(arguments.into_iter().chain(["--json"]));
    assert_eq!(json.code, Some(4));
    let document: Value = serde_json::from_str(&json.out).unwrap();
    assert!(validator().is_valid(&document), "{document:#}");
    assert_eq!(document["worst"], "error");

    let quiet = run(arguments.into_iter().chain(["--quiet"]));
    assert!(quiet.out.contains("interface_present") && !quiet.out.contains("  ok  "), "{}", quiet.out);

    let bad = workspace.file("bad.toml", "[[interface]]\n");
    assert_eq!(run(["doctor", "--config", &bad]).code, Some(2));
    assert_eq!(run(["doctor", "--bogus"]).code, Some(2));
    let machine = run(["doctor", "--no-probe"]);
    assert!(matches!(machine.code, Some(0 | 3 | 4)) && machine.out.starts_with("machine\n"), "{machine:?}");
}
