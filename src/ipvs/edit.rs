//! From commands to changes of the configuration.

use serde_json::{Value, json};

use super::command::{Command, Netmask, ServerOptions, ServiceOptions, Timeouts};
use super::rules::Rule;
use crate::config::edit::{Change, Settings};
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

/// Changes, and which rule each of them comes from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PreparedChanges {
    /// The changes.
    pub changes: Vec<Change>,
    /// The position of its rule, for each change.
    pub rules: Vec<usize>,
}

/// The changes that rules ask for, in their order. `services` are those that the director has: in IPVS timeouts are those
/// of the machine, so what a service has of its own goes where they are set.
#[must_use]
pub fn edits(rules: &[Rule], services: &[ServiceKey]) -> PreparedChanges {
    let mut prepared = PreparedChanges::default();
    let mut with_own = services.to_vec();
    for (position, rule) in rules.iter().enumerate() {
        match &rule.command {
            Command::AddService(service, options) => {
                // Of a service that is cleared and added again in one step the keys stay that no option stands for.
                let mut settings = service_settings(options);
                settings.insert("persistence".to_owned(), Value::Null);
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
                with_own.retain(|known| known != service);
                prepared.changes.push(Change::DeleteService { service: *service });
            }
            Command::Clear => {
                with_own.clear();
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
                let settings = timeout_settings(*timeouts);
                let none: Settings = settings.keys().map(|key| (key.clone(), Value::Null)).collect();
                prepared.changes.push(Change::EditDirector { settings });
                let services = with_own.iter();
                let edit = |service: &ServiceKey| Change::EditService { service: *service, settings: none.clone() };
                prepared.changes.extend(services.map(edit));
            }
            _ => {}
        }
        prepared.rules.resize(prepared.changes.len(), position);
    }
    prepared
}

/// Those that are not 0, which leaves a timeout as it is.
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
