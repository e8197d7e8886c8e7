//! Which options go with which command, and what is said where they do not: as in ipvsadm 1.31.

use super::Refusal;
use super::popt::Opt;

/// What a command needs, allows, and allows one of.
struct Rules {
    name: &'static str,
    needs: &'static [Opt],
    allows: &'static [Opt],
    one_of: &'static [Opt],
}

const OF_SERVICE: &[Opt] =
    &[Opt::Scheduler, Opt::Persistent, Opt::Netmask, Opt::Ops, Opt::PersistenceEngine, Opt::SchedFlags];
const OF_SERVER: &[Opt] = &[
    Opt::Gatewaying,
    Opt::Weight,
    Opt::UThreshold,
    Opt::LThreshold,
    Opt::TunType,
    Opt::TunPort,
    Opt::TunNocsum,
    Opt::TunCsum,
    Opt::TunRemcsum,
];
const OF_LIST: &[Opt] = &[
    Opt::Numeric,
    Opt::Stats,
    Opt::Rate,
    Opt::Thresholds,
    Opt::PersistentConn,
    Opt::NoSort,
    Opt::Syncid,
    Opt::Exact,
    Opt::TunInfo,
];
const OF_DAEMON: &[Opt] =
    &[Opt::McastInterface, Opt::Syncid, Opt::McastGroup, Opt::McastPort, Opt::McastTtl, Opt::SyncMaxlen];

const fn rules(name: &'static str, needs: &'static [Opt], allows: &'static [Opt]) -> Rules {
    Rules { name, needs, allows, one_of: &[] }
}

fn rules_of(command: Opt) -> Option<Rules> {
    const SERVICE: &[Opt] = &[Opt::TcpService];
    const SERVER: &[Opt] = &[Opt::TcpService, Opt::RealServer];
    Some(match command {
        Opt::AddService => rules("add-service", SERVICE, OF_SERVICE),
        Opt::EditService => rules("edit-service", SERVICE, OF_SERVICE),
        Opt::DeleteService => rules("delete-service", SERVICE, &[]),
        Opt::Clear => rules("flush", &[], &[]),
        Opt::List => Rules {
            one_of: &[Opt::Connection, Opt::TcpService, Opt::Timeout, Opt::Daemon],
            ..rules("list", &[], OF_LIST)
        },
        Opt::AddServer => rules("add-server", SERVER, OF_SERVER),
        Opt::EditServer => rules("edit-server", SERVER, OF_SERVER),
        Opt::DeleteServer => rules("delete-server", SERVER, &[]),
        Opt::Set => rules("set", &[], &[]),
        Opt::StartDaemon => rules("start-daemon", &[], OF_DAEMON),
        Opt::StopDaemon => rules("stop-daemon", &[], &[Opt::Syncid]),
        Opt::Restore => rules("restore", &[], &[]),
        Opt::Save => rules("save", &[], &[Opt::Numeric]),
        Opt::Zero => rules("zero", &[], SERVICE),
        _ => return None,
    })
}

/// Whether the options of a command go together.
pub(super) fn check(command: Opt, given: &[Opt]) -> Result<(), Refusal> {
    let Some(rules) = rules_of(command) else { return Ok(()) };
    let name = rules.name;
    let mut sorted: Vec<Opt> = given.iter().chain(rules.needs).copied().collect();
    sorted.sort_unstable();
    sorted.dedup();
    let mut only: Option<Opt> = None;
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

fn list_conflicts(given: &[Opt]) -> bool {
    let any = |kinds: &[Opt]| kinds.iter().any(|kind| given.contains(kind));
    any(&[Opt::Connection, Opt::Timeout, Opt::Daemon]) && any(&[Opt::Stats, Opt::Rate, Opt::Thresholds])
        || any(&[Opt::Timeout, Opt::Daemon]) && any(&[Opt::PersistentConn])
}
