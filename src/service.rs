//! The names by which virtual services are known: protocol, VIP and port.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A transport protocol that a virtual service can balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP, RFC 9293.
    Tcp,
    /// UDP, RFC 768.
    Udp,
}

impl Protocol {
    /// The protocol's number in an IP header.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    /// The protocol of a number in an IP header, if it can be balanced.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A text that names no virtual service or protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseServiceError {
    /// Not `tcp` or `udp`.
    #[error("{0:?} is not a protocol; use tcp or udp")]
    Protocol(String),
    /// Not of the form `tcp 192.0.2.1:80`.
    #[error("{0:?} is not a virtual service; write it as tcp 192.0.2.1:80 or udp [2001:db8::1]:53")]
    Service(String),
}

impl FromStr for Protocol {
    type Err = ParseServiceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            _ => Err(ParseServiceError::Protocol(text.to_owned())),
        }
    }
}

/// What identifies a virtual service: the address, protocol and port that clients use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServiceKey {
    /// The virtual IP address.
    pub vip: IpAddr,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The destination port; 0 is any port for which there is no service of its own.
    pub port: u16,
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.protocol, SocketAddr::new(self.vip, self.port))
    }
}

impl FromStr for ServiceKey {
    type Err = ParseServiceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || ParseServiceError::Service(text.to_owned());
        let (protocol, address) = text.split_once([' ', '/']).ok_or_else(refuse)?;
        let address: SocketAddr = address.trim().parse().map_err(|_| refuse())?;
        Ok(Self { vip: address.ip(), protocol: protocol.parse()?, port: address.port() })
    }
}

/// A [`ServiceKey`] in documents as its name, `tcp 192.0.2.1:80`.
pub mod as_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::ServiceKey;

    /// Writes the name.
    ///
    /// # Errors
    /// Those of `serializer`.
    pub fn serialize<S: Serializer>(key: &ServiceKey, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(key)
    }

    /// Reads the name.
    ///
    /// # Errors
    /// Those of `deserializer`, and what is no name.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ServiceKey, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// The 16 bytes by which tables hold an address: an IPv4 address stands in the first four, the rest is zero. The
/// family is kept beside it, so that no IPv6 address can be taken for an IPv4 one.
pub fn address_bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&v4.octets());
            bytes
        }
        IpAddr::V6(v6) => Ipv6Addr::octets(&v6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn display_and_parse_are_inverse(vip: IpAddr, tcp: bool, port: u16) {
            let protocol = if tcp { Protocol::Tcp } else { Protocol::Udp };
            let key = ServiceKey { vip, protocol, port };
            prop_assert_eq!(key.to_string().parse(), Ok(key));
        }
    }
}
