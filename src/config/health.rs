//! The health checks of a configuration: `[[virtual_service.health_check]]`.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::{RealServerConfig, VirtualServiceConfig, as_ms};
use crate::wire::MacAddress;

/// The most checks that one real server may have.
pub const MAX_HEALTH_CHECKS: usize = 16;

/// How a real server is asked whether it is well, and how often the answer must be the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HealthCheckConfig {
    /// What is asked, and what is a good answer.
    #[serde(flatten)]
    pub kind: CheckKind,
    /// Which way the question takes.
    pub via: Via,
    /// The port that is asked; 0 for kinds that have none.
    pub port: u16,
    /// From the beginning of one question to the beginning of the next.
    #[serde(rename = "interval_ms", serialize_with = "as_ms")]
    pub interval: Duration,
    /// The same while it is up and the last answer was a bad one.
    #[serde(rename = "retry_interval_ms", serialize_with = "as_ms")]
    pub retry_interval: Duration,
    /// How long an answer may take, all in all.
    #[serde(rename = "timeout_ms", serialize_with = "as_ms")]
    pub timeout: Duration,
    /// Good answers in a row that make it up.
    pub rise: u32,
    /// Bad answers in a row that make it down.
    pub fall: u32,
    /// What it counts as before that.
    pub initial: InitialState,
    /// By how much of itself, in percent, each interval is made longer or shorter at random.
    pub jitter_percent: u32,
    /// Seconds for which each time that it went down makes `rise` twice as large; 0 = not at all.
    pub flap_window_s: u32,
}

/// What a health check asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum CheckKind {
    /// Whether a TCP connection can be made.
    Tcp,
    /// An HTTP request.
    Http(HttpCheck),
    /// An HTTP request over TLS.
    Https(HttpsCheck),
    /// A datagram.
    Udp(UdpCheck),
    /// An ICMP or ICMPv6 echo request.
    Icmp,
    /// A program.
    Command(CommandCheck),
}

impl CheckKind {
    /// Its word in the file.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http(_) => "http",
            Self::Https(_) => "https",
            Self::Udp(_) => "udp",
            Self::Icmp => "icmp",
            Self::Command(_) => "command",
        }
    }
}

/// The way from the director to a real server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// To its own address.
    #[default]
    Address,
    /// To the VIP, in frames with its MAC address: the way that clients' packets take.
    Direct,
}

/// What a check counts as before it has had answers enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum InitialState {
    /// Well.
    #[default]
    Up,
    /// Not well.
    Down,
}

/// An HTTP request and what is a good answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HttpCheck {
    /// Path and query of the request.
    pub path: String,
    /// The header `Host`; `None` = the address that is asked.
    pub host: Option<String>,
    /// Good statuses.
    pub status: StatusList,
    /// What the body must contain.
    pub body_contains: Option<String>,
    /// The regular expression that the body must match.
    pub body_matches: Option<String>,
}

/// An HTTPS request and what is a good answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HttpsCheck {
    /// The request.
    #[serde(flatten)]
    pub http: HttpCheck,
    /// Whether the certificate must be valid.
    pub tls_verify: bool,
    /// PEM file of the authorities to trust; `None` = those of the system.
    pub tls_ca: Option<PathBuf>,
    /// The name that is asked for and that the certificate must have; `None` = the address that is asked.
    pub sni: Option<String>,
}

/// A datagram and what is a good answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UdpCheck {
    /// What is sent.
    #[serde(rename = "send_hex", serialize_with = "as_hex")]
    pub send: Vec<u8>,
    /// What the answer must contain. `None` = no answer is needed, but "port unreachable" is a bad one.
    #[serde(rename = "expect_hex", serialize_with = "as_optional_hex")]
    pub expect: Option<Vec<u8>>,
}

/// A program that tells by its exit status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CommandCheck {
    /// Its absolute path and its arguments.
    pub command: Vec<String>,
}

/// HTTP statuses, as `200-299,304`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusList(Vec<(u16, u16)>);

impl StatusList {
    /// Whether a status is among them.
    #[must_use]
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|(from, to)| (*from..=*to).contains(&status))
    }
}

impl Default for StatusList {
    fn default() -> Self {
        Self(vec![(200, 299)])
    }
}

impl fmt::Display for StatusList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (from, to)) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            if from == to { write!(f, "{comma}{from}") } else { write!(f, "{comma}{from}-{to}") }?;
        }
        Ok(())
    }
}

impl FromStr for StatusList {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let number = |text: &str| text.trim().parse().ok().filter(|status| (100..=599).contains(status)).ok_or(());
        let ranges = text.split(',').map(|range| match range.split_once('-') {
            Some((from, to)) => Ok((number(from)?, number(to)?)),
            None => number(range).map(|status| (status, status)),
        });
        let ranges = ranges.collect::<Result<Vec<_>, ()>>()?;
        if ranges.iter().all(|(from, to)| from <= to) { Ok(Self(ranges)) } else { Err(()) }
    }
}

impl Serialize for StatusList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Who takes new flows while no real server does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FallbackConfig {
    /// Its own address on the segment that it shares with the director.
    pub address: IpAddr,
    /// Its MAC where the file gives it, else the neighbour table does.
    pub mac: Option<MacAddress>,
}

impl VirtualServiceConfig {
    /// The checks of one of its real servers: its own, or else those of the service.
    #[must_use]
    pub fn health_checks_of<'a>(&'a self, real_server: &'a RealServerConfig) -> &'a [HealthCheckConfig] {
        real_server.health_checks.as_ref().unwrap_or(&self.health_checks)
    }

    /// Whether one of its real servers keeps its flows when it is down.
    #[must_use]
    pub fn inhibits(&self, real_server: &RealServerConfig) -> bool {
        real_server.inhibit_on_failure.unwrap_or(self.inhibit_on_failure)
    }
}

/// The bytes that pairs of hex digits stand for.
pub(super) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

fn as_hex<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn as_optional_hex<S: Serializer>(bytes: &Option<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
    match bytes {
        Some(bytes) => as_hex(bytes, serializer),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_single_ones_and_ranges() {
        let list: StatusList = "200-299, 304".parse().unwrap();
        assert_eq!(list.to_string(), "200-299,304");
        for (status, good) in [(199, false), (200, true), (299, true), (300, false), (304, true), (305, false)] {
            assert_eq!(list.contains(status), good, "{status}");
        }
        for bad in ["", "99", "600", "299-200", "200-", "ok", "200,,201", "-200"] {
            assert_eq!(bad.parse::<StatusList>(), Err(()), "{bad}");
        }
    }

    #[test]
    fn hex_is_pairs_of_digits() {
        assert_eq!(from_hex("00fF10"), Some(vec![0, 255, 16]));
        assert_eq!(from_hex(""), Some(Vec::new()));
        for bad in ["0", "0g", "0x00", "ä"] {
            assert_eq!(from_hex(bad), None, "{bad}");
        }
    }
}
