//! Health checks of real servers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether a check is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HealthState {
    /// As many answers in a row as it takes were good.
    Up,
    /// As many answers in a row as it takes were bad.
    Down,
}

impl HealthState {
    /// `up` or `down`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// One health check of one real server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HealthCheckReport {
    /// What is asked: `tcp`, `http`, `https`, `udp`, `icmp` or `command`.
    pub kind: String,
    /// Which way: `address` (the real server's own) or `direct` (the VIP, by the real server's MAC address).
    pub via: String,
    /// The port that is asked; 0 for kinds that have none.
    pub port: u16,
    /// Whether it is up.
    pub state: HealthState,
    /// Since when, in nanoseconds since 1970-01-01 00:00 UTC.
    pub since_unix_ns: u64,
    /// The last answer in words; null before the first.
    pub last_result: Option<String>,
    /// Whether that was a good one; null before the first.
    pub last_good: Option<bool>,
    /// When it was there, in nanoseconds since 1970-01-01 00:00 UTC; null before the first.
    pub last_unix_ns: Option<u64>,
    /// How long it took, in nanoseconds; null before the first.
    pub last_took_ns: Option<u64>,
    /// Answers, good and bad, since the check was configured.
    pub checks: u64,
    /// Those of `checks` that were bad.
    pub failures: u64,
    /// Times that it went down.
    pub flaps: u64,
    /// Good answers in a row that it takes to be up (gauge): more than the configured `rise` while it is damped.
    pub needed_rise: u32,
}

impl HealthCheckReport {
    /// What a reader knows it by: `http 80`, `tcp 80 by direct routing`, `icmp`.
    #[must_use]
    pub fn name(&self) -> String {
        let port = if self.port == 0 { String::new() } else { format!(" {}", self.port) };
        format!("{}{port}{}", self.kind, if self.is_direct() { " by direct routing" } else { "" })
    }

    /// Whether it asks the VIP, by way of the real server's MAC address.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.via == "direct"
    }
}
