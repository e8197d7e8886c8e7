//! What the director says of itself, in the rows that ipvsadm lists.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Map, Value};

use super::command::{Netmask, ServiceFlags, Timeouts};
use super::edit::{
    HASH_BY, HASH_BY_CLIENT, LOWER_THRESHOLD, PERSISTENCE_NETMASK, PERSISTENCE_TIMEOUT, UPPER_THRESHOLD, WEIGHT,
};
use crate::control::schema::{ConfigDocument, ServiceDocument};
use crate::control::zero::{Counted, Zeroed};
use crate::service::ServiceKey;
use crate::stats::report::{ConnectionsReport, RealServerReport, Report, VirtualServiceReport};

/// Bytes of an Ethernet header, which IPVS does not count.
const ETHERNET_BYTES: u64 = 14;

/// The virtual services of a director.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Connections that there is room for.
    pub size: usize,
    /// The services, in the order of the configuration.
    pub services: Vec<ServiceRow>,
}

/// One virtual service.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceRow {
    /// Its name.
    pub key: ServiceKey,
    /// Its scheduler.
    pub scheduler: String,
    /// Flags of the scheduler.
    pub flags: ServiceFlags,
    /// Timeout of persistence in seconds; `None` without persistence.
    pub persistence_s: Option<u32>,
    /// Which clients persistence takes for one; `None` is each for itself.
    pub netmask: Option<Netmask>,
    /// What it has counted.
    pub counts: Counts,
    /// Its real servers.
    pub servers: Vec<ServerRow>,
}

/// One real server of one virtual service.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerRow {
    /// Its address.
    pub address: IpAddr,
    /// Its weight.
    pub weight: u64,
    /// With so many connections it gets no more; 0 is no limit.
    pub upper_threshold: u64,
    /// It gets more again below so many; 0 if that was not said.
    pub lower_threshold: u64,
    /// Its connections now.
    pub connections: Connections,
    /// What it has counted.
    pub counts: Counts,
}

/// Connections that are remembered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// Established ones.
    pub active: u64,
    /// All others.
    pub inactive: u64,
    /// Clients that persistence remembers.
    pub persistent: u64,
}

/// What is counted, or what is counted in a second. Direct routing sees nothing of what goes out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections that began.
    pub connections: u64,
    /// Packets of clients.
    pub packets: u64,
    /// Their bytes, from the IP header on.
    pub bytes: u64,
}

impl Table {
    /// The services that a director has, with its statistics where they are wanted. `None` if a document is none of this
    /// program's.
    #[must_use]
    pub fn of(services: &[ServiceDocument], report: Option<&Report>) -> Option<Self> {
        let slots = report.map_or(0, |report| report.workers.iter().map(|worker| worker.flow_table.slots).sum());
        let rows = services.iter().map(|ServiceDocument(document)| {
            let key: ServiceKey = serde_json::from_value(Value::Object(document.clone())).ok()?;
            let counted = report.and_then(|report| {
                let of = |service: &&VirtualServiceReport| (service.vip, service.protocol, service.port);
                report.virtual_services.iter().find(|service| of(service) == (key.vip, key.protocol, key.port))
            });
            service_row(key, document, counted)
        });
        Some(Self { size: slots, services: rows.collect::<Option<_>>()? })
    }

    /// The row of a service.
    #[must_use]
    pub fn service(&self, key: ServiceKey) -> Option<&ServiceRow> {
        self.services.iter().find(|row| row.key == key)
    }

    /// Without what had been counted when counters were zeroed.
    #[must_use]
    pub fn since_zeroed(mut self, zeroed: &Zeroed) -> Self {
        for row in &mut self.services {
            let Some(marks) = zeroed.services.get(&row.key.to_string()) else { continue };
            row.counts = row.counts.since(marks.counted.into());
            for server in &mut row.servers {
                let mark = marks.real_servers.get(&server.address).copied().unwrap_or_default();
                server.counts = server.counts.since(mark.into());
            }
        }
        self
    }

    /// What was counted in each second since `before`, which was read `seconds` earlier.
    #[must_use]
    pub fn rates_since(mut self, before: &Self, seconds: f64) -> Self {
        for row in &mut self.services {
            let Some(old) = before.service(row.key) else { continue };
            row.counts = row.counts.rate_since(old.counts, seconds);
            for server in &mut row.servers {
                let old = old.servers.iter().find(|old| old.address == server.address);
                server.counts = server.counts.rate_since(old.map_or(server.counts, |old| old.counts), seconds);
            }
        }
        self
    }
}

impl Counts {
    /// Without what had been counted earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            connections: self.connections.saturating_sub(earlier.connections),
            packets: self.packets.saturating_sub(earlier.packets),
            bytes: self.bytes.saturating_sub(earlier.bytes),
        }
    }

    fn rate_since(self, before: Self, seconds: f64) -> Self {
        // The counters are far below 2^52, and a rate is rounded anyway.
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a quotient of two positive numbers"
        )]
        let rate = |count: u64| (count as f64 / seconds).round() as u64;
        let Self { connections, packets, bytes } = self.since(before);
        Self { connections: rate(connections), packets: rate(packets), bytes: rate(bytes) }
    }
}

fn service_row(
    key: ServiceKey,
    document: &Map<String, Value>,
    counted: Option<&VirtualServiceReport>,
) -> Option<ServiceRow> {
    let scheduler = document.get("scheduler")?.as_str()?.to_owned();
    let by_client = document.get(HASH_BY).and_then(Value::as_str) == Some(HASH_BY_CLIENT);
    let hashes = matches!(scheduler.as_str(), "mh" | "sh");
    let servers = document.get("real_server")?.as_array()?.iter().map(|server| {
        let address = server.get("address")?.as_str()?.parse().ok()?;
        let counted = counted.and_then(|report| report.real_servers.iter().find(|server| server.address == address));
        Some(ServerRow {
            address,
            weight: server.get(WEIGHT)?.as_u64()?,
            upper_threshold: server.get(UPPER_THRESHOLD)?.as_u64()?,
            lower_threshold: server.get(LOWER_THRESHOLD)?.as_u64()?,
            connections: counted.map(connections).unwrap_or_default(),
            counts: counted.map(server_counts).unwrap_or_default(),
        })
    });
    let servers: Vec<ServerRow> = servers.collect::<Option<_>>()?;
    Some(ServiceRow {
        key,
        flags: ServiceFlags { fallback: false, port: hashes && !by_client },
        persistence_s: number_of(document, PERSISTENCE_TIMEOUT),
        netmask: document.get(PERSISTENCE_NETMASK).and_then(|mask| netmask(mask, key.vip)),
        counts: counted.map(service_counts).unwrap_or_default(),
        scheduler,
        servers,
    })
}

fn connections(server: &RealServerReport) -> Connections {
    let ConnectionsReport { active, inactive, persistent, .. } = server.connections;
    Connections { active, inactive, persistent }
}

fn service_counts(service: &VirtualServiceReport) -> Counts {
    Counted::of(&service.connections, service.tx).into()
}

fn server_counts(server: &RealServerReport) -> Counts {
    Counted::of(&server.connections, server.tx).into()
}

impl From<Counted> for Counts {
    fn from(counted: Counted) -> Self {
        let Counted { connections, packets, bytes } = counted;
        Self { connections, packets, bytes: bytes.saturating_sub(packets.saturating_mul(ETHERNET_BYTES)) }
    }
}

/// A mask as the configuration has it: leading bits, or an IPv4 mask.
fn netmask(value: &Value, vip: IpAddr) -> Option<Netmask> {
    let bits = match value {
        Value::String(text) => match text.parse::<Ipv4Addr>() {
            Ok(mask) => return (mask != Ipv4Addr::BROADCAST).then_some(Netmask::V4(mask)),
            Err(_) => text.trim_start_matches('/').parse().ok()?,
        },
        value => u8::try_from(value.as_u64()?).ok()?,
    };
    match vip {
        IpAddr::V4(_) if bits < 32 => {
            Some(Netmask::V4(Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0))))
        }
        IpAddr::V6(_) if bits < 128 => Some(Netmask::V6(bits)),
        _ => None,
    }
}

/// The timeouts that a configuration has for all services, and the names of the services that have others.
#[must_use]
pub fn director_timeouts(config: &ConfigDocument) -> Option<(Timeouts, Vec<String>)> {
    let ConfigDocument(config) = config;
    let of = |document: &Map<String, Value>| {
        Some(Timeouts {
            tcp_s: number_of(document, "tcp_timeout_s")?,
            tcp_fin_s: number_of(document, "tcp_fin_timeout_s")?,
            udp_s: number_of(document, "udp_timeout_s")?,
        })
    };
    let all = of(config.get("director")?.as_object()?)?;
    let services = config.get("virtual_service").and_then(Value::as_array).into_iter().flatten();
    let others = services.filter(|service| service.as_object().and_then(of) != Some(all));
    let key = |service: &Value| serde_json::from_value(service.clone()).ok();
    Some((all, others.filter_map(key).map(|key: ServiceKey| key.to_string()).collect()))
}

fn number_of(document: &Map<String, Value>, key: &str) -> Option<u32> {
    document.get(key).and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok())
}
