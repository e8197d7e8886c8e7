//! Which options go with which command, and what is said where they do not: as in ipvsadm 1.31.

use super::Refusal;
use super::popt::Opt;

/// What an option is in ipvsadm's messages; several options may be the same thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Numeric,
    Connection,
    Service,
    Scheduler,
    Persistent,
    Netmask,
    Server,
    Forward,
    Weight,
    UThreshold,
    LThreshold,
    McastInterface,
    Timeout,
    Daemon,
    Stats,
    Rate,
    Thresholds,
    PersistentConn,
    NoSort,
    Syncid,
    Exact,
    Ops,
    PersistenceEngine,
    SchedFlags,
    McastGroup,
    McastPort,
    McastTtl,
    SyncMaxlen,
    TunInfo,
    TunType,
    TunPort,
    TunNocsum,
    TunCsum,
    TunRemcsum,
}

impl Kind {
    /// Of an option that is neither a command nor without effect.
    pub(super) fn of(option: Opt) -> Option<Self> {
        Some(match option {
            Opt::Numeric => Self::Numeric,
            Opt::Connection => Self::Connection,
            Opt::TcpService | Opt::UdpService | Opt::SctpService | Opt::FwmarkService => Self::Service,
            Opt::Scheduler => Self::Scheduler,
            Opt::Persistent => Self::Persistent,
            Opt::Netmask => Self::Netmask,
            Opt::RealServer => Self::Server,
            Opt::Masquerading | Opt::Ipip | Opt::Gatewaying => Self::Forward,
            Opt::Weight => Self::Weight,
            Opt::UThreshold => Self::UThreshold,
            Opt::LThreshold => Self::LThreshold,
            Opt::McastInterface => Self::McastInterface,
            Opt::Timeout => Self::Timeout,
            Opt::Daemon => Self::Daemon,
            Opt::Stats => Self::Stats,
            Opt::Rate => Self::Rate,
            Opt::Thresholds => Self::Thresholds,
            Opt::PersistentConn => Self::PersistentConn,
            Opt::NoSort => Self::NoSort,
            Opt::Syncid => Self::Syncid,
            Opt::Exact => Self::Exact,
            Opt::Ops => Self::Ops,
            Opt::PersistenceEngine => Self::PersistenceEngine,
            Opt::SchedFlags => Self::SchedFlags,
            Opt::McastGroup => Self::McastGroup,
            Opt::McastPort => Self::McastPort,
            Opt::McastTtl => Self::McastTtl,
            Opt::SyncMaxlen => Self::SyncMaxlen,
            Opt::TunInfo => Self::TunInfo,
            Opt::TunType => Self::TunType,
            Opt::TunPort => Self::TunPort,
            Opt::TunNocsum => Self::TunNocsum,
            Opt::TunCsum => Self::TunCsum,
            Opt::TunRemcsum => Self::TunRemcsum,
            _ => return None,
        })
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Numeric => "numeric",
            Self::Connection => "connection",
            Self::Service => "service-address",
            Self::Scheduler => "scheduler",
            Self::Persistent => "persistent",
            Self::Netmask => "netmask",
            Self::Server => "real-server",
            Self::Forward => "forwarding-method",
            Self::Weight => "weight",
            Self::UThreshold => "u-threshold",
            Self::LThreshold => "l-threshold",
            Self::McastInterface => "mcast-interface",
            Self::Timeout => "timeout",
            Self::Daemon => "daemon",
            Self::Stats => "stats",
            Self::Rate => "rate",
            Self::Thresholds => "thresholds",
            Self::PersistentConn => "persistent-conn",
            Self::NoSort => "nosort",
            Self::Syncid => "syncid",
            Self::Exact => "exact",
            Self::Ops => "ops",
            Self::PersistenceEngine => "pe",
            Self::SchedFlags => "sched-flags",
            Self::McastGroup => "mcast-group",
            Self::McastPort => "mcast-port",
            Self::McastTtl => "mcast-ttl",
            Self::SyncMaxlen => "sync-maxlen",
            Self::TunInfo => "tun-info",
            Self::TunType => "tun-type",
            Self::TunPort => "tun-port",
            Self::TunNocsum => "tun-nocsum",
            Self::TunCsum => "tun-csum",
            Self::TunRemcsum => "tun-remcsum",
        }
    }

    pub(super) const fn is_of_tunnel(self) -> bool {
        matches!(self, Self::TunType | Self::TunPort | Self::TunNocsum | Self::TunCsum | Self::TunRemcsum)
    }
}

/// What a command needs, allows, and allows one of.
struct Rules {
    name: &'static str,
    needs: &'static [Kind],
    allows: &'static [Kind],
    one_of: &'static [Kind],
}

const OF_SERVICE: &[Kind] =
    &[Kind::Scheduler, Kind::Persistent, Kind::Netmask, Kind::Ops, Kind::PersistenceEngine, Kind::SchedFlags];
const OF_SERVER: &[Kind] = &[
    Kind::Forward,
    Kind::Weight,
    Kind::UThreshold,
    Kind::LThreshold,
    Kind::TunType,
    Kind::TunPort,
    Kind::TunNocsum,
    Kind::TunCsum,
    Kind::TunRemcsum,
];
const OF_LIST: &[Kind] = &[
    Kind::Numeric,
    Kind::Stats,
    Kind::Rate,
    Kind::Thresholds,
    Kind::PersistentConn,
    Kind::NoSort,
    Kind::Exact,
    Kind::TunInfo,
];
const OF_DAEMON: &[Kind] =
    &[Kind::McastInterface, Kind::Syncid, Kind::McastGroup, Kind::McastPort, Kind::McastTtl, Kind::SyncMaxlen];

const fn rules(name: &'static str, needs: &'static [Kind], allows: &'static [Kind]) -> Rules {
    Rules { name, needs, allows, one_of: &[] }
}

fn rules_of(command: Opt) -> Option<Rules> {
    const SERVICE: &[Kind] = &[Kind::Service];
    const SERVER: &[Kind] = &[Kind::Service, Kind::Server];
    Some(match command {
        Opt::AddService => rules("add-service", SERVICE, OF_SERVICE),
        Opt::EditService => rules("edit-service", SERVICE, OF_SERVICE),
        Opt::DeleteService => rules("delete-service", SERVICE, &[]),
        Opt::Clear => rules("flush", &[], &[]),
        Opt::List => Rules {
            one_of: &[Kind::Connection, Kind::Service, Kind::Timeout, Kind::Daemon],
            ..rules("list", &[], OF_LIST)
        },
        Opt::AddServer => rules("add-server", SERVER, OF_SERVER),
        Opt::EditServer => rules("edit-server", SERVER, OF_SERVER),
        Opt::DeleteServer => rules("delete-server", SERVER, &[]),
        Opt::Set => rules("set", &[], &[]),
        Opt::StartDaemon => rules("start-daemon", &[], OF_DAEMON),
        Opt::StopDaemon => rules("stop-daemon", &[], &[Kind::Syncid]),
        Opt::Restore => rules("restore", &[], &[]),
        Opt::Save => rules("save", &[], &[Kind::Numeric]),
        Opt::Zero => rules("zero", &[], SERVICE),
        _ => return None,
    })
}

/// Whether the options of a command go together.
pub(super) fn check(command: Opt, given: &[Kind]) -> Result<(), Refusal> {
    let Some(rules) = rules_of(command) else { return Ok(()) };
    let name = rules.name;
    let mut sorted: Vec<Kind> = given.iter().chain(rules.needs).copied().collect();
    sorted.sort_unstable();
    sorted.dedup();
    let mut only: Option<Kind> = None;
    for kind in sorted {
        let option = kind.name();
        if !given.contains(&kind) {
            return Err(Refusal::line(format!("You need to supply the '{option}' option for the '{name}' command")));
        }
        if rules.one_of.contains(&kind) {
            if let Some(other) = only {
                let other = other.name();
                return Err(Refusal::line(format!(
                    "The option '{option}' conflicts with the '{other}' option in the '{name}' command"
                )));
            }
            only = Some(kind);
        } else if !rules.needs.contains(&kind) && !rules.allows.contains(&kind) {
            return Err(Refusal::line(format!("Illegal '{option}' option with the '{name}' command")));
        }
    }
    if command == Opt::List && list_conflicts(given) {
        return Err(Refusal::line("options conflicts in the list command"));
    }
    Ok(())
}

fn list_conflicts(given: &[Kind]) -> bool {
    let any = |kinds: &[Kind]| kinds.iter().any(|kind| given.contains(kind));
    any(&[Kind::Connection, Kind::Timeout, Kind::Daemon]) && any(&[Kind::Stats, Kind::Rate, Kind::Thresholds])
        || any(&[Kind::Timeout, Kind::Daemon]) && any(&[Kind::PersistentConn])
}
