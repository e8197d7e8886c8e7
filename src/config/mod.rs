//! The configuration: one TOML file, read into raw tables, then validated into a [`Config`].
//!
//! Nothing but this module knows the file's format. All mistakes of a file are reported together, each with its
//! place, the key's full path, what is wrong and what would be right. Every key is described in `docs/config.md`.

pub mod edit;
mod error;
mod health;
mod interface;
mod prime;
mod raw;
mod reader;
mod restart;
mod save;
pub mod size;
mod syntax;
mod validate;

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::service::ServiceKey;
use crate::wire::MacAddress;
use crate::wire::quic::ServerId;

pub use error::{ConfigError, Finding, Warning};
pub use health::{
    CheckKind, CommandCheck, FallbackConfig, HealthCheckConfig, HttpCheck, HttpsCheck, InitialState, MAX_HEALTH_CHECKS,
    StatusList, UdpCheck, Via,
};
pub use interface::{
    AttachMode, BusyPoll, CopyMode, FrameSize, InterfaceConfig, MAX_CORE, MAX_QUEUE, MAX_VIRTUAL_MACS, PollMode, Queues,
};
pub use raw::{AcceptedKey, accepted_keys};
pub use reader::ValueKind;
pub use restart::RestartNeeded;
pub use save::{SaveError, save};

/// The largest file that is read, in bytes.
pub const MAX_FILE_BYTES: u64 = 16 << 20;

/// The most virtual services that one file may have.
pub const MAX_VIRTUAL_SERVICES: usize = 65_536;

/// The most real servers that one virtual service may have.
pub const MAX_REAL_SERVERS: usize = crate::table::MAX_MEMBERS;

pub use crate::table::{DEFAULT_TABLE_SIZE, HashBy, Scheduler};

/// The largest `table_size`: the greatest prime under 2^24.
pub const MAX_TABLE_SIZE: u32 = 16_777_213;

/// The largest `upper_threshold`, as in LVS.
pub const MAX_THRESHOLD: u32 = i32::MAX.unsigned_abs();
/// The largest `weight`, as in LVS.
pub const MAX_WEIGHT: u32 = i32::MAX.unsigned_abs();

/// The longest time after which a flow or a client is forgotten, in seconds: 31 days, as in ipvsadm.
pub const MAX_TIMEOUT_S: u32 = crate::flow::MAX_LIFE_S;

/// Where the control socket is unless the file says otherwise.
pub const DEFAULT_CONTROL_SOCKET: &str = "/run/pointsman/control.sock";

/// Permissions of the control socket unless the file says otherwise: its owner and its group may use it.
pub const DEFAULT_CONTROL_SOCKET_MODE: u32 = 0o660;

/// Reads and validates the file at `path`.
///
/// # Errors
/// The file cannot be read, is over [`MAX_FILE_BYTES`], is not UTF-8 or TOML, or has mistakes; see [`ConfigError`].
pub fn load(path: impl AsRef<Path>) -> Result<Loaded, ConfigError> {
    let path = path.as_ref();
    parse(&read(path)?, &path.display().to_string())
}

/// Reads the text of the file at `path`, without judging it.
///
/// # Errors
/// The file cannot be read, is over [`MAX_FILE_BYTES`] or is not UTF-8; see [`ConfigError`].
pub fn read(path: impl AsRef<Path>) -> Result<String, ConfigError> {
    let path = path.as_ref();
    let origin = path.display().to_string();
    let bytes = read_bounded(path).map_err(|source| ConfigError::unreadable(path, &source))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_FILE_BYTES {
        return Err(ConfigError::TooLarge { origin });
    }
    String::from_utf8(bytes).map_err(|error| syntax::not_utf8(&error, &origin))
}

/// One byte more than allowed tells a file that is too large, also where its size is not known before (a pipe).
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Validates a configuration's text; `origin` stands for the file's name in all messages.
///
/// # Errors
/// The text is over [`MAX_FILE_BYTES`], is not TOML, or has mistakes; see [`ConfigError`].
pub fn parse(text: &str, origin: &str) -> Result<Loaded, ConfigError> {
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > MAX_FILE_BYTES {
        return Err(ConfigError::TooLarge { origin: origin.to_owned() });
    }
    let findings = error::Findings::default();
    let document = syntax::read(text);
    let config = match document.sound_tree() {
        Some(tree) => validate::validate(&raw::read(tree, text, &findings), &findings),
        None => Config::default(),
    };
    document.report(&findings);
    let warnings = findings.settle(text, origin)?;
    Ok(Loaded { config, warnings })
}

/// A valid configuration, and what is worth a second look in it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the file says, with every default filled in.
    pub config: Config,
    /// Things that are allowed and most likely not meant, in the order of the file.
    pub warnings: Vec<Warning>,
}

/// A whole validated configuration. Its JSON form has the keys of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Config {
    /// The `[director]` table.
    pub director: DirectorConfig,
    /// The `[[interface]]` tables, in the order of the file; no name appears twice.
    #[serde(rename = "interface")]
    pub interfaces: Vec<InterfaceConfig>,
    /// The `[[virtual_service]]` tables, in the order of the file; no key appears twice.
    #[serde(rename = "virtual_service")]
    pub virtual_services: Vec<VirtualServiceConfig>,
}

impl Config {
    /// What only a running director needs: an interface to receive from.
    ///
    /// # Errors
    /// [`ConfigError::NoInterface`] or [`ConfigError::NoReceivingInterface`].
    pub fn require_interfaces(&self) -> Result<(), ConfigError> {
        if self.interfaces.is_empty() {
            Err(ConfigError::NoInterface)
        } else if !self.interfaces.iter().any(|interface| interface.receive) {
            Err(ConfigError::NoReceivingInterface)
        } else {
            Ok(())
        }
    }
}

/// Settings of the director as a whole.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct DirectorConfig {
    /// Key of the flow hash, equal on all directors of a cluster; `None` is the documented fixed default key.
    /// Neither [`Debug`](fmt::Debug) nor [`Serialize`] shows it.
    #[serde(serialize_with = "hide_secret")]
    pub secret: Option<String>,
    /// Path of the Unix socket that commands come in by; absolute, 107 bytes at most.
    pub control_socket: PathBuf,
    /// Permissions of the control socket, as a file has them.
    #[serde(serialize_with = "as_octal")]
    pub control_socket_mode: u32,
    /// Name or number of the user that the control socket belongs to; `None` is whoever the director runs as.
    pub control_socket_owner: Option<String>,
    /// The same of the group.
    pub control_socket_group: Option<String>,
    /// What becomes of a frame for a virtual service whose queue has no socket.
    pub no_socket: NoSocketAction,
    /// Flows that each worker remembers.
    pub flows_per_worker: u32,
    /// Where the statistics are written, if anywhere; absolute.
    pub stats_file: Option<PathBuf>,
    /// Time between two writes of `stats_file`.
    #[serde(rename = "stats_interval_ms", serialize_with = "as_ms")]
    pub stats_interval: Duration,
    /// How `stats_file` is written.
    pub stats_format: StatsFormat,
    /// Bytes after which a file of lines is rotated.
    #[serde(serialize_with = "as_size")]
    pub stats_rotate: u64,
    /// Rotated files that are kept.
    pub stats_keep: u32,
    /// Where `/metrics` is served for Prometheus besides the control socket.
    pub prometheus_listen: Option<SocketAddr>,
    /// What the kernel's time in softirqs is measured by.
    pub stats_softirq: SoftirqMeasurement,
    /// Who answers for VIPs of which no service says it.
    pub announce: Announce,
    /// Whether VIPs with [`Announce::Arp`] are answered for from the start, or only when told to.
    pub announce_at_start: bool,
    /// Seconds without a packet after which an established TCP flow is forgotten, for services that do not say it.
    pub tcp_timeout_s: u32,
    /// The same after its client sent FIN or RST.
    pub tcp_fin_timeout_s: u32,
    /// The same for a UDP flow.
    pub udp_timeout_s: u32,
}

impl Default for DirectorConfig {
    fn default() -> Self {
        Self {
            secret: None,
            control_socket: PathBuf::from(DEFAULT_CONTROL_SOCKET),
            control_socket_mode: DEFAULT_CONTROL_SOCKET_MODE,
            control_socket_owner: None,
            control_socket_group: None,
            no_socket: NoSocketAction::Drop,
            flows_per_worker: 1 << 20,
            stats_file: None,
            stats_interval: Duration::from_secs(1),
            stats_format: StatsFormat::Auto,
            stats_rotate: 100 << 20,
            stats_keep: 5,
            prometheus_listen: None,
            stats_softirq: SoftirqMeasurement::Auto,
            announce: Announce::Kernel,
            announce_at_start: true,
            tcp_timeout_s: 900,
            tcp_fin_timeout_s: 120,
            udp_timeout_s: 300,
        }
    }
}

impl fmt::Debug for DirectorConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectorConfig")
            .field("secret", &self.secret.as_ref().map(|_| "(hidden)"))
            .field("control_socket", &self.control_socket)
            .field("control_socket_mode", &format_args!("{:04o}", self.control_socket_mode))
            .field("control_socket_owner", &self.control_socket_owner)
            .field("control_socket_group", &self.control_socket_group)
            .field("no_socket", &self.no_socket)
            .field("flows_per_worker", &self.flows_per_worker)
            .field("stats_file", &self.stats_file)
            .field("stats_interval", &self.stats_interval)
            .field("stats_format", &self.stats_format)
            .field("stats_rotate", &self.stats_rotate)
            .field("stats_keep", &self.stats_keep)
            .field("prometheus_listen", &self.prometheus_listen)
            .field("stats_softirq", &self.stats_softirq)
            .field("announce", &self.announce)
            .field("announce_at_start", &self.announce_at_start)
            .field("tcp_timeout_s", &self.tcp_timeout_s)
            .field("tcp_fin_timeout_s", &self.tcp_fin_timeout_s)
            .field("udp_timeout_s", &self.udp_timeout_s)
            .finish()
    }
}

fn hide_secret<S: Serializer>(secret: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(|_| "(hidden)").serialize(serializer)
}

fn as_octal<S: Serializer>(mode: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{mode:04o}"))
}

fn as_size<S: Serializer>(bytes: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    size::format(*bytes).serialize(serializer)
}

fn as_ms<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).serialize(serializer)
}

/// What becomes of a frame for a virtual service whose queue has no socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NoSocketAction {
    /// Dropped and counted: the kernel never answers a live client with RST.
    #[default]
    Drop,
    /// Left to the kernel and counted.
    Pass,
}

/// How the file of statistics is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StatsFormat {
    /// As lines if its name ends in `.jsonl`, else as one document.
    #[default]
    Auto,
    /// Replaced as a whole by each document.
    Document,
    /// Each document is appended as a line, and the file is rotated.
    Lines,
}

impl StatsFormat {
    /// Whether a file of this name is one of lines.
    #[must_use]
    pub fn is_lines(self, path: &Path) -> bool {
        match self {
            Self::Auto => path.extension().is_some_and(|extension| extension == "jsonl"),
            Self::Document => false,
            Self::Lines => true,
        }
    }
}

/// What the kernel's time in softirqs is measured by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SoftirqMeasurement {
    /// Programs on the kernel's tracepoints, where they can be attached.
    #[default]
    Auto,
    /// What /proc says, alone.
    Procfs,
}

/// Who answers ARP, neighbour discovery and ping for a VIP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Announce {
    /// The kernel: the VIP is an address of this machine.
    #[default]
    Kernel,
    /// The director itself, while it is active: the VIP is no address of this machine.
    Arp,
}

/// One virtual service and the real servers behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VirtualServiceConfig {
    /// Address, protocol and port that clients use.
    #[serde(flatten)]
    pub key: ServiceKey,
    /// How a new flow is given a real server.
    pub scheduler: Scheduler,
    /// Slots of the table; a prime.
    pub table_size: u32,
    /// What of a flow is hashed.
    pub hash_by: HashBy,
    /// What ties a client's flows together.
    pub persistence: Persistence,
    /// Seconds after its last packet for which a client stays at its real server over connections; `None` = not at all.
    pub persistence_timeout_s: Option<u32>,
    /// Bits of an address that are one client; `None` without `persistence_timeout_s`.
    pub persistence_netmask: Option<u8>,
    /// Seconds without a packet after which an established TCP flow is forgotten.
    pub tcp_timeout_s: u32,
    /// The same after its client sent FIN or RST.
    pub tcp_fin_timeout_s: u32,
    /// The same for a UDP flow.
    pub udp_timeout_s: u32,
    /// Seconds after a change for which a TCP flow without an entry goes where the table before the change would have
    /// sent it; 0 = not at all.
    pub previous_table_s: u32,
    /// Whether flows are kept by QUIC connection id; only with UDP.
    pub quic: bool,
    /// Octets of `quic_server_id`, 1 to 15; `None` without `quic`.
    pub quic_server_id_length: Option<u8>,
    /// How its real servers are checked, unless they say otherwise; all checks must pass. In the order of the file.
    #[serde(rename = "health_check")]
    pub health_checks: Vec<HealthCheckConfig>,
    /// Whether a real server that is down keeps its flows, as with weight 0, rather than being passed over.
    pub inhibit_on_failure: bool,
    /// Weight that must be alive for the real servers to be used rather than the fallback server.
    pub quorum: u32,
    /// So much more it takes to have the quorum again, and so much less to lose it.
    pub quorum_hysteresis: u32,
    /// Who takes new flows while no real server does.
    pub fallback: Option<FallbackConfig>,
    /// Who answers for the VIP: the same in all services of it.
    pub announce: Announce,
    /// In the order of the file; no address appears twice, each is of the same family as the VIP.
    #[serde(rename = "real_server")]
    pub real_servers: Vec<RealServerConfig>,
}

/// What ties a client's flows together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Persistence {
    /// Nothing: `hash_by` and `persistence_timeout_s` say what there is.
    #[default]
    None,
    /// The client's address alone is hashed, so all its flows reach one real server.
    Client,
}

/// One real server of a virtual service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RealServerConfig {
    /// Its own address on the segment that it shares with the director.
    pub address: IpAddr,
    /// Share of new flows; 0 = draining.
    pub weight: u32,
    /// With so many connections it gets no new flow, as `-x` of ipvsadm; 0 = no limit.
    pub upper_threshold: u32,
    /// It gets new flows again below so many, as `-y` of ipvsadm; 0 = three quarters of `upper_threshold`.
    pub lower_threshold: u32,
    /// Its MAC where the file gives it, else the neighbour table does.
    pub mac: Option<MacAddress>,
    /// What it is known by in the QUIC connection ids that it chooses; no two of a service have the same.
    pub quic_server_id: Option<ServerId>,
    /// How it is checked; `None` = as its service says.
    #[serde(rename = "health_check")]
    pub health_checks: Option<Vec<HealthCheckConfig>>,
    /// Whether it keeps its flows when it is down; `None` = as its service says.
    pub inhibit_on_failure: Option<bool>,
}
