//! Virtual services and their real servers.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Drops, HealthCheckReport, Rate, Traffic};
use crate::counters::connections::ConnectionCounts;
use crate::service::Protocol;
use crate::wire::MacAddress;

/// One virtual service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VirtualServiceReport {
    /// Its name, as `tcp 192.168.88.15:80`.
    pub service: String,
    /// Its address.
    pub vip: IpAddr,
    /// Its port; 0 is any.
    pub port: u16,
    /// Its protocol.
    #[schemars(with = "String", extend("enum" = ["tcp", "udp"]))]
    pub protocol: Protocol,
    /// What chooses real servers: `mh`, `sh`, `rr`, `wrr`, `lc` or `wlc`.
    pub scheduler: String,
    /// What flows are hashed by: `flow` (protocol, addresses and ports) or `client` (the client's address).
    pub hash_by: String,
    /// Slots of its hash table; 0 if no real server has a weight.
    pub table_size: usize,
    /// Seconds for which a client stays at its real server; null if it need not.
    pub persistence_timeout_s: Option<u32>,
    /// Its connections.
    pub connections: ConnectionsReport,
    /// Its frames submitted to a TX ring.
    pub tx: Traffic,
    /// Its frames dropped, by cause.
    pub drops: Drops,
    /// Bytes of the frames dropped.
    pub drop_bytes: u64,
    /// Whether as much weight of its real servers takes new flows as its quorum asks for (gauge).
    pub has_quorum: bool,
    /// Its real servers; the fallback server, if there is one, is the last.
    pub real_servers: Vec<RealServerReport>,
    /// How fast that goes, over each window that has been filled.
    #[serde(default)]
    pub rates: Vec<Rate>,
}

/// Entries of flow tables, as of some recent moment. One that has expired counts until a sweep finds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConnectionsReport {
    /// Established flows.
    pub active: u64,
    /// Flows of which one packet was seen, or that their clients have ended.
    pub inactive: u64,
    /// Clients that stay at their real servers.
    pub persistent: u64,
    /// Flows that began. This only grows. One that comes to another worker begins there once more.
    pub begun: u64,
}

impl ConnectionsReport {
    /// Of a real server.
    #[must_use]
    pub fn of(counts: ConnectionCounts) -> Self {
        let ConnectionCounts { active, inactive, persistent, begun } = counts;
        Self { active, inactive, persistent, begun }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            active: self.active + other.active,
            inactive: self.inactive + other.inactive,
            persistent: self.persistent + other.persistent,
            begun: self.begun.wrapping_add(other.begun),
        }
    }
}

/// One real server of one virtual service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RealServerReport {
    /// Its address (RIP).
    pub address: IpAddr,
    /// Its share of new flows relative to the others; 0 while it drains or is inhibited.
    pub weight: u32,
    /// Whether frames can be sent to it.
    pub alive: bool,
    /// Whether it takes new flows only while no other does, or while they are below their quorum.
    pub fallback: bool,
    /// What its health checks mean for it.
    pub standing: StandingReport,
    /// Its health checks.
    pub health_checks: Vec<HealthCheckReport>,
    /// How many connections it is given; null for no limit.
    pub connection_limit: Option<ConnectionLimitReport>,
    /// The MAC address that its frames are sent to; null while it is unknown.
    #[schemars(with = "Option<String>")]
    pub next_hop: Option<MacAddress>,
    /// The interface that its frames leave by; null while that is unknown.
    pub egress: Option<String>,
    /// Slots of the service's hash table that are its own.
    pub share_slots: u32,
    /// Its connections.
    pub connections: ConnectionsReport,
    /// Its frames submitted to a TX ring.
    pub tx: Traffic,
    /// Its frames dropped, by cause.
    pub drops: Drops,
    /// Bytes of the frames dropped.
    pub drop_bytes: u64,
    /// How fast that goes, over each window that has been filled.
    #[serde(default)]
    pub rates: Vec<Rate>,
}

/// How many connections a real server is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConnectionLimitReport {
    /// With so many it gets no new flow.
    pub upper: u32,
    /// It gets new flows again below so many; null for three quarters of `upper`.
    pub lower: Option<u32>,
    /// Whether a worker passed over it because it has as many (gauge).
    pub full: bool,
}

/// What health checks mean for a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StandingReport {
    /// All checks are up, or there is none.
    Sound,
    /// A check is down: it keeps its flows and gets no new one.
    Inhibited,
    /// A check is down: no frame is sent to it.
    Failed,
}
