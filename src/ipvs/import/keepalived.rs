//! The virtual servers of a keepalived.conf.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Value, json};

use super::super::SCHEDULERS;
use super::super::command::ServiceFlags;
use super::super::edit::{LOWER_THRESHOLD, UPPER_THRESHOLD};
use super::block::{Entry, read};
use super::check::{self, Defaults};
use crate::config::edit::{Settings, document_of};

/// keepalived's own, where the file does not say.
const DELAY_LOOP_S: f64 = 60.0;
const CONNECT_TIMEOUT_S: f64 = 5.0;
const PERSISTENCE_S: u32 = 360;

/// Makes the tables of virtual services, and tells what was not taken over.
pub(super) fn convert(text: &str) -> Result<(String, Vec<String>), String> {
    let entries = read(text)?;
    let mut groups: BTreeMap<&str, &Entry> = BTreeMap::new();
    for group in entries.iter().filter(|entry| entry.name() == "virtual_server_group") {
        groups.insert(group.value().unwrap_or_default(), group);
    }
    let mut warnings = Vec::new();
    let mut services = Vec::new();
    for entry in &entries {
        match entry.name() {
            "virtual_server" => services.extend(virtual_server(entry, &groups, &mut warnings)),
            "virtual_server_group" => {}
            _ => warnings.push(format!("line {}: {} is not taken over", entry.line, entry.text())),
        }
    }
    if services.is_empty() {
        warnings.push("no virtual server was taken over".to_owned());
    }
    let document = Settings::from_iter([("virtual_service".to_owned(), Value::Array(services))]);
    let text = document_of(&document).map_err(|error| error.to_string())?;
    Ok((text, warnings))
}

/// The services that a virtual server stands for: one, or those of its group.
fn virtual_server(entry: &Entry, groups: &BTreeMap<&str, &Entry>, warnings: &mut Vec<String>) -> Vec<Value> {
    let mut left_out = |why: &str| {
        warnings.push(format!("line {}: {} is left out: {why}", entry.line, entry.text()));
        Vec::new()
    };
    let method = |entry: &&Entry| matches!(entry.name(), "lb_kind" | "lvs_method");
    match entry.inner.iter().find(method).and_then(Entry::value) {
        Some("DR") => {}
        Some(other) => return left_out(&format!("lb_kind {other}: pointsman forwards by direct routing (DR) alone")),
        None => return left_out("it has no lb_kind; only DR is there"),
    }
    let words: Vec<&str> = entry.words[1..].iter().map(String::as_str).collect();
    let targets = match words.as_slice() {
        ["group", name] => match groups.get(name) {
            Some(group) => group_targets(group, warnings),
            None => return left_out("there is no such virtual_server_group"),
        },
        ["fwmark", ..] => return left_out("pointsman has no services by firewall mark"),
        [address] => targets_of(address, "0"),
        [address, port] => targets_of(address, port),
        _ => Vec::new(),
    };
    if targets.is_empty() {
        warnings.push(format!("line {}: {} is left out: no address and port", entry.line, entry.text()));
    }
    let mut values = Vec::new();
    for (at, &(vip, port)) in targets.iter().enumerate() {
        // What a group says is said once.
        let mut said = Vec::new();
        values.extend(Reader::default().read(entry, vip, port, &mut said).map(Value::Object));
        if at == 0 {
            warnings.append(&mut said);
        }
    }
    values
}

fn group_targets(group: &Entry, warnings: &mut Vec<String>) -> Vec<(IpAddr, u16)> {
    let mut targets = Vec::new();
    for entry in &group.inner {
        let found = targets_of(entry.name(), entry.value().unwrap_or("0"));
        if found.is_empty() {
            warnings.push(format!("line {}: {} is not taken over", entry.line, entry.text()));
        }
        targets.extend(found);
    }
    targets
}

/// An address and a port, or those of a range such as `10.0.0.1-10`.
fn targets_of(address: &str, port: &str) -> Vec<(IpAddr, u16)> {
    let Ok(port) = port.parse() else { return Vec::new() };
    if let Ok(address) = address.parse() {
        return vec![(address, port)];
    }
    let range = address.split_once('-').and_then(|(first, last)| {
        let [a, b, c, from] = first.parse::<Ipv4Addr>().ok()?.octets();
        Some((from..=last.parse::<u8>().ok()?).map(move |d| (Ipv4Addr::new(a, b, c, d).into(), port)).collect())
    });
    range.unwrap_or_default()
}

#[derive(Default)]
struct Reader {
    settings: Settings,
    scheduler: Option<String>,
    flags: ServiceFlags,
    servers: Vec<Value>,
}

impl Reader {
    fn read(mut self, entry: &Entry, vip: IpAddr, port: u16, warnings: &mut Vec<String>) -> Option<Settings> {
        let mut protocol = "tcp";
        let defaults = defaults(entry, port);
        for inner in &entry.inner {
            let value = inner.value().unwrap_or_default();
            match inner.name() {
                "protocol" if value == "SCTP" => {
                    warnings.push(format!("line {}: left out: pointsman has no SCTP services", inner.line));
                    return None;
                }
                "protocol" if value == "UDP" => protocol = "udp",
                "protocol" => protocol = "tcp",
                "real_server" => self.real_server(inner, vip, &defaults, warnings),
                _ => self.take(inner, value, warnings),
            }
        }
        let scheduler = self.scheduler.unwrap_or_else(|| "wlc".to_owned());
        let hash_by = if self.flags.port { "flow" } else { "client" };
        let mut service = Settings::new();
        service.insert("vip".to_owned(), json!(vip));
        service.insert("port".to_owned(), json!(port));
        service.insert("protocol".to_owned(), json!(protocol));
        if matches!(scheduler.as_str(), "mh" | "sh") {
            service.insert("hash_by".to_owned(), json!(hash_by));
        }
        service.insert("scheduler".to_owned(), json!(scheduler));
        service.extend(self.settings);
        service.insert("real_server".to_owned(), Value::Array(self.servers));
        Some(service)
    }

    fn set(&mut self, key: &str, value: Value) {
        self.settings.insert(key.to_owned(), value);
    }

    fn take(&mut self, entry: &Entry, value: &str, warnings: &mut Vec<String>) {
        let count: Option<u32> = value.parse().ok();
        let address: Option<IpAddr> = value.parse().ok();
        match (entry.name(), count, address) {
            ("lb_algo" | "lvs_sched", ..) if SCHEDULERS.contains(&value) => self.scheduler = Some(value.to_owned()),
            ("lb_algo" | "lvs_sched", ..) => warnings.push(format!(
                "line {}: pointsman has no scheduler {value} (it has {}); wlc is taken",
                entry.line,
                SCHEDULERS.join(", ")
            )),
            ("mh-port" | "sh-port" | "flag-2", ..) => self.flags.port = true,
            ("persistence_timeout", Some(0), _) => {
                warnings.push(format!("line {}: {} is left out: no persistence", entry.line, entry.text()));
            }
            ("persistence_timeout", ..) => self.set("persistence_timeout_s", json!(count.unwrap_or(PERSISTENCE_S))),
            ("persistence_granularity", Some(bits), _) => self.set("persistence_netmask", json!(bits)),
            ("persistence_granularity", ..) => self.set("persistence_netmask", json!(value)),
            ("quorum", Some(count), _) => self.set("quorum", json!(count)),
            ("hysteresis", Some(count), _) => self.set("quorum_hysteresis", json!(count)),
            ("sorry_server", _, Some(address)) if address.is_loopback() || address.is_unspecified() => {
                warnings.push(format!(
                    "line {}: {} is left out: direct routing needs a server on the segment, not the director itself",
                    entry.line,
                    entry.text()
                ));
            }
            ("sorry_server", _, Some(address)) => self.set("fallback", json!({ "address": address })),
            ("inhibit_on_failure", ..) => self.set("inhibit_on_failure", json!(true)),
            // Read before, for all real servers.
            ("lb_kind" | "lvs_method" | "delay_loop" | "connect_timeout" | "retry" | "alpha" | "virtualhost", ..) => {}
            ("weight" | "delay_before_retry", ..) => {}
            _ => warnings.push(format!("line {}: {} is not taken over", entry.line, entry.text())),
        }
    }

    fn real_server(&mut self, entry: &Entry, vip: IpAddr, defaults: &Defaults, warnings: &mut Vec<String>) {
        let address: Option<IpAddr> = entry.value().and_then(|text| text.parse().ok());
        let Some(address) = address.filter(|address| address.is_ipv4() == vip.is_ipv4()) else {
            let what = format!("{} is left out: no address of the VIP's family", entry.text());
            return warnings.push(format!("line {}: {what}", entry.line));
        };
        let of = defaults.service_port;
        let port = entry.words.get(2).and_then(|port| port.parse().ok()).unwrap_or(of);
        if port != of {
            warnings.push(format!(
                "line {}: direct routing leaves the port as it is: {address} gets clients on port {of}, and only its \
                 checks ask port {port}",
                entry.line
            ));
        }
        let defaults = Defaults { server_port: port, ..defaults.clone() }.with(entry);
        let mut server = Settings::from_iter([("address".to_owned(), json!(address))]);
        if let Some(weight) = defaults.weight {
            server.insert("weight".to_owned(), json!(weight));
        }
        let mut checks = Vec::new();
        for inner in &entry.inner {
            let count = inner.value().and_then(|value| value.parse::<u32>().ok());
            let said = match (inner.name(), count) {
                ("weight", Some(weight)) => {
                    server.insert("weight".to_owned(), json!(weight));
                    continue;
                }
                ("uthreshold" | "lthreshold", Some(limit)) => {
                    let key = if inner.name() == "uthreshold" { UPPER_THRESHOLD } else { LOWER_THRESHOLD };
                    server.insert(key.to_owned(), json!(limit));
                    continue;
                }
                // Read before, for all its checks.
                ("delay_loop" | "connect_timeout" | "retry" | "delay_before_retry" | "alpha", _) => continue,
                ("inhibit_on_failure", _) => {
                    server.insert("inhibit_on_failure".to_owned(), json!(true));
                    continue;
                }
                ("lvs_method", _) if inner.value() == Some("DR") => continue,
                ("lvs_method", _) => {
                    let what = format!("{address} is left out: pointsman forwards by direct routing (DR) alone");
                    return warnings.push(format!("line {}: {what}", inner.line));
                }
                _ if check::is_checker(inner) => match check::convert(inner, &defaults) {
                    Some((more, mut said)) => {
                        checks.extend(more.into_iter().map(Value::Object));
                        warnings.append(&mut said);
                        continue;
                    }
                    None => format!("there is no check like {}: it is left out", inner.name()),
                },
                _ => format!("{} is not taken over", inner.text()),
            };
            warnings.push(format!("line {}: {said}", inner.line));
        }
        if !checks.is_empty() {
            server.insert("health_check".to_owned(), Value::Array(checks));
        }
        self.servers.push(Value::Object(server));
    }
}

/// What a virtual server says of all its real servers.
fn defaults(entry: &Entry, port: u16) -> Defaults {
    let find = |name: &str| entry.inner.iter().find(|inner| inner.name() == name).and_then(Entry::value);
    let plain = Defaults {
        delay_loop_s: DELAY_LOOP_S,
        connect_timeout_s: CONNECT_TIMEOUT_S,
        retry: None,
        delay_before_retry_s: None,
        weight: find("weight").and_then(|value| value.parse().ok()),
        virtual_host: find("virtualhost").map(str::to_owned),
        alpha: false,
        service_port: port,
        server_port: port,
    };
    plain.with(entry)
}

impl Defaults {
    /// With what a virtual server, or one of its real servers, says of all its checks.
    fn with(self, entry: &Entry) -> Self {
        let find = |name: &str| entry.inner.iter().find(|inner| inner.name() == name);
        let seconds = |name: &str| {
            let read = find(name).and_then(Entry::value).and_then(|value| value.parse::<f64>().ok());
            read.filter(|seconds| seconds.is_finite() && *seconds > 0.0)
        };
        let retry = find("retry").and_then(Entry::value).and_then(|value| value.parse().ok());
        Self {
            delay_loop_s: seconds("delay_loop").unwrap_or(self.delay_loop_s),
            connect_timeout_s: seconds("connect_timeout").unwrap_or(self.connect_timeout_s),
            retry: retry.or(self.retry),
            delay_before_retry_s: seconds("delay_before_retry").or(self.delay_before_retry_s),
            alpha: self.alpha || find("alpha").is_some(),
            ..self
        }
    }
}
