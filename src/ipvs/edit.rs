//! From commands to changes of the configuration.

use serde_json::{Value, json};

use super::command::{Command, Netmask, ServerOptions, ServiceOptions, Timeouts};
use super::rules::Rule;
use super::{Refusal, common_timeouts};
use crate::config::edit::{Change, Settings};
use crate::control::schema::ServiceDocument;
use crate::service::ServiceKey;

/// The configuration's key for what is hashed by `mh` and `sh`, and its values.
pub(super) const HASH_BY: &str = "hash_by";
pub(super) const HASH_BY_CLIENT: &str = "client";
const HASH_BY_FLOW: &str = "flow";
/// The configuration's keys for `-p` and `-M`.
pub(super) const PERSISTENCE_TIMEOUT: &str = "persistence_timeout_s";
pub(super) const PERSISTENCE_NETMASK: &str = "persistence_netmask";
/// The configuration's keys for `-w`, `-x` and `-y`.
pub(super) const WEIGHT: &str = "weight";
pub(super) const UPPER_THRESHOLD: &str = "upper_threshold";
pub(super) const LOWER_THRESHOLD: &str = "lower_threshold";

/// Timeouts of IPVS and of pointsman where none are set.
pub const DEFAULT_TIMEOUTS: Timeouts = Timeouts { tcp_s: 900, tcp_fin_s: 120, udp_s: 300 };

/// What of the director must be known to translate commands: in IPVS timeouts are those of the machine, here each
/// service has its own.
#[derive(Clone, Debug, Default)]
pub struct KnownTimeouts {
    services: Vec<ServiceKey>,
    /// What the services have in common, which new ones get, too.
    common: Option<Timeouts>,
}

impl KnownTimeouts {
    /// Of the services that a director has.
    #[must_use]
    pub fn of(services: &[ServiceDocument]) -> Self {
        let key =
            |ServiceDocument(document): &ServiceDocument| serde_json::from_value(Value::Object(document.clone())).ok();
        Self { services: services.iter().filter_map(key).collect(), common: common_timeouts(services) }
    }
}

/// Changes, and which rule each of them comes from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PreparedChanges {
    /// The changes.
    pub changes: Vec<Change>,
    /// The position of its rule, for each change.
    pub rules: Vec<usize>,
}

/// The changes that rules ask for, in their order.
///
/// # Errors
/// What pointsman does not have, with the position of the rule.
pub fn edits(rules: &[Rule], known: KnownTimeouts) -> Result<PreparedChanges, (usize, Refusal)> {
    let mut prepared = PreparedChanges::default();
    let mut known = known;
    let mut set_for_nobody = None;
    for (position, rule) in rules.iter().enumerate() {
        match &rule.command {
            Command::AddService(service, options) => {
                // Of a service that is cleared and added again in one step the keys stay that no option stands for.
                let mut settings = service_settings(options);
                settings.insert("persistence".to_owned(), Value::Null);
                if let Some(timeouts) = known.common.filter(|timeouts| *timeouts != DEFAULT_TIMEOUTS) {
                    settings.extend(timeout_settings(timeouts));
                }
                known.services.push(*service);
                set_for_nobody = None;
                prepared.changes.push(Change::AddService { service: *service, settings });
            }
            Command::EditService(service, options) => {
                let settings = service_settings(options);
                // What else hung on the old way of hashing goes with it.
                let persistence = ("persistence".to_owned(), Value::Null);
                let settings = settings.into_iter().chain([persistence]).collect();
                prepared.changes.push(Change::EditService { service: *service, settings });
            }
            Command::DeleteService(service) => {
                known.services.retain(|known| known != service);
                prepared.changes.push(Change::DeleteService { service: *service });
            }
            Command::Clear => {
                known.services.clear();
                prepared.changes.push(Change::Clear { keep_settings: true });
            }
            Command::AddServer(service, server) => {
                let (service, address, settings) = (*service, server.address, server_settings(server));
                prepared.changes.push(Change::AddRealServer { service, address, settings });
            }
            Command::EditServer(service, server) => {
                let (service, address, settings) = (*service, server.address, server_settings(server));
                prepared.changes.push(Change::EditRealServer { service, address, settings });
            }
            Command::DeleteServer(service, address) => {
                prepared.changes.push(Change::DeleteRealServer { service: *service, address: *address });
            }
            Command::SetTimeouts(timeouts) => {
                known.set(*timeouts, &mut prepared.changes);
                set_for_nobody = known.services.is_empty().then_some(position);
            }
            _ => {}
        }
        prepared.rules.resize(prepared.changes.len(), position);
    }
    match set_for_nobody {
        Some(position) => Err((position, no_service_to_set())),
        None => Ok(prepared),
    }
}

fn no_service_to_set() -> Refusal {
    Refusal::by_ipvs(
        "there is no virtual service whose timeouts could be set: each service has its own; add services first (those \
         that are added later get what all have in common)",
    )
}

impl KnownTimeouts {
    fn set(&mut self, timeouts: Timeouts, changes: &mut Vec<Change>) {
        let settings = timeout_settings(timeouts);
        for service in &self.services {
            changes.push(Change::EditService { service: *service, settings: settings.clone() });
        }
        let old = self.common.unwrap_or(DEFAULT_TIMEOUTS);
        let kept = |new, old| if new == 0 { old } else { new };
        self.common = Some(Timeouts {
            tcp_s: kept(timeouts.tcp_s, old.tcp_s),
            tcp_fin_s: kept(timeouts.tcp_fin_s, old.tcp_fin_s),
            udp_s: kept(timeouts.udp_s, old.udp_s),
        });
    }
}

/// Those that are not 0.
fn timeout_settings(timeouts: Timeouts) -> Settings {
    let named = [
        ("tcp_timeout_s", timeouts.tcp_s),
        ("tcp_fin_timeout_s", timeouts.tcp_fin_s),
        ("udp_timeout_s", timeouts.udp_s),
    ];
    named.into_iter().filter(|(_, seconds)| *seconds != 0).map(|(key, s)| (key.to_owned(), json!(s))).collect()
}

/// All keys that ipvsadm's options of a real server stand for; `null` where the default holds.
fn server_settings(server: &ServerOptions) -> Settings {
    let limit = |threshold| if threshold == 0 { Value::Null } else { json!(threshold) };
    Settings::from_iter([
        (WEIGHT.to_owned(), json!(server.weight)),
        (UPPER_THRESHOLD.to_owned(), limit(server.upper_threshold)),
        (LOWER_THRESHOLD.to_owned(), limit(server.lower_threshold)),
    ])
}

/// All keys that ipvsadm's options stand for; `null` where the default holds.
pub(super) fn service_settings(options: &ServiceOptions) -> Settings {
    let mut settings = Settings::new();
    settings.insert("scheduler".to_owned(), json!(options.scheduler));
    let hash_by = match options.scheduler.as_str() {
        "mh" | "sh" if options.flags.port => json!(HASH_BY_FLOW),
        "mh" | "sh" => json!(HASH_BY_CLIENT),
        _ => Value::Null,
    };
    settings.insert(HASH_BY.to_owned(), hash_by);
    let netmask = match options.netmask {
        None => Value::Null,
        Some(Netmask::V4(mask)) => json!(mask.to_string()),
        Some(Netmask::V6(bits)) => json!(bits),
    };
    settings.insert(PERSISTENCE_TIMEOUT.to_owned(), json!(options.persistence_s));
    settings.insert(PERSISTENCE_NETMASK.to_owned(), netmask);
    settings
}

/// The keys of a service and of its real servers that mean something and that no rule can say.
#[must_use]
pub fn unsaid(service: &Settings) -> Vec<&'static str> {
    const OF_SERVICE: [&str; 5] = ["health_check", "fallback", "inhibit_on_failure", "quic", "quorum"];
    const OF_SERVER: [&str; 4] = ["mac", "health_check", "inhibit_on_failure", "quic_server_id"];
    let is_set = |settings: &Settings, key: &str| match settings.get(key) {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::Array(elements)) => !elements.is_empty(),
        Some(Value::Number(number)) => number.as_u64() != Some(1),
        Some(_) => true,
    };
    let mut unsaid: Vec<&str> = OF_SERVICE.into_iter().filter(|key| is_set(service, key)).collect();
    let servers = service.get("real_server").and_then(Value::as_array).into_iter().flatten();
    let servers: Vec<&Settings> = servers.filter_map(Value::as_object).collect();
    unsaid.extend(OF_SERVER.into_iter().filter(|key| servers.iter().any(|server| is_set(server, key))));
    unsaid.dedup();
    unsaid
}
