//! What the doctor says: one finding for each thing that was looked at, and the document of all of them.

use std::fmt;

use schemars::{JsonSchema, Schema};
use serde::Serialize;
use serde_json::{Value, json};

/// Version of the document's form.
pub const SCHEMA_VERSION: u32 = 1;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Worth knowing; nothing needs to be done.
    Info,
    /// It works, but worse than it could, or not under all circumstances.
    Warning,
    /// It does not work, or it harms others.
    Error,
}

impl Severity {
    /// As in the document.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a check is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// The machine: kernel, memory, processors.
    Machine,
    /// One interface.
    Interface,
    /// Who answers for the VIPs, and whether the real servers can be reached.
    DirectRouting,
}

impl Group {
    /// As in the document.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::Interface => "interface",
            Self::DirectRouting => "direct_routing",
        }
    }
}

macro_rules! checks {
    ($($variant:ident, $id:literal, $group:ident, $why:literal;)*) => {
        /// Everything that is looked at. docs/doctor.md describes each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Check {
            $(#[doc = $why] $variant,)*
        }

        impl Check {
            /// All of them, in the order of the document.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its name in the document.
            pub const fn id(self) -> &'static str {
                match self { $(Self::$variant => $id,)* }
            }

            /// What it is about.
            pub const fn group(self) -> Group {
                match self { $(Self::$variant => Group::$group,)* }
            }

            /// Why it matters: one sentence.
            pub const fn why(self) -> &'static str {
                match self { $(Self::$variant => $why,)* }
            }
        }
    };
}

checks! {
    Kernel, "kernel", Machine,
        "Linux 6.1 is the oldest kernel that the XDP program is known to be accepted by.";
    AfXdp, "af_xdp", Machine,
        "Without AF_XDP sockets no frame reaches a worker.";
    BusyPoll, "busy_poll", Machine,
        "With busy_poll a worker's system calls drive the queue instead of interrupts; older kernels ignore it.";
    TxBudget, "tx_budget", Machine,
        "In copy mode the kernel sends 32 frames for each system call unless the socket may ask for more.";
    Capabilities, "capabilities", Machine,
        "Loading and attaching the XDP program, and asking the segment who has a VIP, need these privileges.";
    MemoryLock, "memory_lock", Machine,
        "Memory for frames counts as locked; over the limit the start fails, unless the process has CAP_IPC_LOCK.";
    HugePages, "huge_pages", Machine,
        "Huge pages save misses of the address translation; where none are free, ordinary ones serve.";
    TransparentHugePages, "transparent_huge_pages", Machine,
        "Flow tables are large and read at random: in small pages each lookup may miss the address translation.";
    Layout, "layout", Machine,
        "A director whose queues cannot be given to cores and frames does not start.";
    WorkerCores, "worker_cores", Machine,
        "A worker shares its core with everything else that runs there, and its frames wait meanwhile.";
    SmtSiblings, "smt_siblings", Machine,
        "Hyper-threads share a core's execution units: two busy workers on one core each get about half of it.";
    CpuIsolation, "cpu_isolation", Machine,
        "On a core that is not isolated the scheduler runs other programs in a worker's place at times.";
    FrequencyGovernor, "frequency_governor", Machine,
        "A core that is clocked down while idle takes time to speed up, which the first frames of a burst wait for.";
    IpVs, "ip_vs", Machine,
        "XDP comes before the kernel's IPVS: while the director runs IPVS gets none of the service's frames, and while \
         it does not IPVS takes them.";

    InterfacePresent, "interface_present", Interface,
        "The director cannot start without an interface of its configuration.";
    InterfaceUp, "interface_up", Interface,
        "Nothing arrives and nothing leaves by an interface that is down.";
    Driver, "driver", Interface,
        "The driver decides which kinds of XDP and AF_XDP there are.";
    XdpProgram, "xdp_program", Interface,
        "There is one XDP program to an interface, and the director never replaces another's.";
    XdpMode, "xdp_mode", Interface,
        "In generic mode the kernel makes its packet structure of each frame first: it works, but is much slower.";
    ZeroCopy, "zero_copy", Interface,
        "With zero copy the NIC writes frames where the worker reads them; without, the kernel copies each one.";
    Queues, "queues", Interface,
        "Frames for a VIP that arrive on a queue without a socket are dropped as no_socket.";
    RssSpread, "rss_spread", Interface,
        "The NIC's indirection table says which queue a flow comes in by: one without a socket loses its flows, one \
         that is left out leaves its worker idle.";
    RxRing, "rx_ring", Interface,
        "A short receive ring overflows in bursts, and the NIC drops what finds no place.";
    RxVlanOffload, "rx_vlan_offload", Interface,
        "The hardware takes VLAN tags out of received frames: XDP does not see them, and frames leave untagged.";
    TxChecksumPeer, "tx_checksum_peer", Interface,
        "A veth peer that leaves checksums to the device hands over half-made ones, and the real server drops the \
         frames.";
    Lro, "lro", Interface,
        "Frames that the hardware joins are larger than the MTU, and many drivers refuse XDP while they may come.";
    Mtu, "mtu", Interface,
        "Direct routing cannot fragment: what is longer than the way out allows is dropped.";
    IrqAffinity, "irq_affinity", Interface,
        "A spinning worker keeps its core from the interrupt that feeds it; with busy_poll both belong on one core.";

    VipAddress, "vip_address", DirectRouting,
        "Clients and routers find the director by its answer to ARP or neighbour discovery for the VIP.";
    VipRealServerAnswers, "vip_real_server_answers", DirectRouting,
        "Whoever believes this answer sends all requests to that one real server, past the director: the classic fault \
         of direct routing.";
    VipAnsweredTwice, "vip_answered_twice", DirectRouting,
        "Several machines say that the VIP is theirs, and each client goes by the answer that came last.";
    VipUnanswered, "vip_unanswered", DirectRouting,
        "Nobody on the segment finds the VIP, unless a router has a route for it.";
    VipElsewhere, "vip_elsewhere", DirectRouting,
        "The VIP's requests go to another machine: right on a standby, wrong on a director that should be at work.";
    VipForwarded, "vip_forwarded", DirectRouting,
        "The director answers for a VIP that its kernel does not have: a kernel that forwards would send pings for it on \
         to the segment, and ICMP errors to whoever sent them.";
    RealServerOnLink, "real_server_on_link", DirectRouting,
        "Direct routing rewrites MAC addresses alone, so a real server must share the segment with the director.";
    RealServerReachable, "real_server_reachable", DirectRouting,
        "A real server without a MAC address takes no flows; they go to the others.";
    RealServerMac, "real_server_mac", DirectRouting,
        "Frames go to the MAC address of the configuration, whoever has it.";
    Probe, "probe", DirectRouting,
        "Without asking, nothing is known of who answers.";
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Finding {
    /// Name of the check: docs/doctor.md lists them.
    pub id: &'static str,
    /// What the check is about.
    pub group: Group,
    /// How bad it is.
    pub severity: Severity,
    /// The interface, address or part of the machine; empty for the machine as a whole.
    pub subject: String,
    /// What was found.
    pub what: String,
    /// Why it matters.
    pub why: &'static str,
    /// Commands and settings that mend it, one a line; empty where nothing is to be mended.
    pub mend: Vec<String>,
}

impl Finding {
    /// A finding about `subject`.
    pub fn new(check: Check, severity: Severity, subject: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            id: check.id(),
            group: check.group(),
            severity,
            subject: subject.into(),
            what: what.into(),
            why: check.why(),
            mend: Vec::new(),
        }
    }

    /// With a command or setting that mends it.
    #[must_use]
    pub fn mend(mut self, command: impl Into<String>) -> Self {
        self.mend.push(command.into());
        self
    }
}

/// How many findings there are of each severity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Counts {
    /// As it should be.
    pub ok: usize,
    /// Worth knowing.
    pub info: usize,
    /// Could be better.
    pub warning: usize,
    /// Does not work.
    pub error: usize,
}

/// All that the doctor found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Report {
    /// Version of this document's form.
    pub schema_version: u32,
    /// Version of the program.
    pub version: &'static str,
    /// Whether a director answered on the control socket of the configuration.
    pub director_running: bool,
    /// The worst of the severities.
    pub worst: Severity,
    /// Findings by severity.
    pub counts: Counts,
    /// The findings, by group.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Sorts by group and counts.
    pub fn new(mut findings: Vec<Finding>, director_running: bool) -> Self {
        findings.sort_by_key(|finding| finding.group);
        let mut counts = Counts::default();
        for finding in &findings {
            match finding.severity {
                Severity::Ok => counts.ok += 1,
                Severity::Info => counts.info += 1,
                Severity::Warning => counts.warning += 1,
                Severity::Error => counts.error += 1,
            }
        }
        Self {
            schema_version: SCHEMA_VERSION,
            version: env!("CARGO_PKG_VERSION"),
            director_running,
            worst: findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Ok),
            counts,
            findings,
        }
    }
}

/// The JSON Schema (draft 2020-12) of [`Report`], which docs/doctor.schema.json holds.
pub fn schema() -> Schema {
    let mut schema = schemars::schema_for!(Report);
    schema.insert("title".to_owned(), json!("Findings of pointsman doctor"));
    if let Some(version) = schema.pointer_mut("/properties/schema_version").and_then(Value::as_object_mut) {
        version.insert("const".to_owned(), json!(SCHEMA_VERSION));
    }
    schema
}
