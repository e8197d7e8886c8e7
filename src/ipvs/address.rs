//! Addresses, ports and numbers as ipvsadm writes and reads them.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use crate::service::Protocol;

/// The names of ports.
const SERVICES_FILE: &str = "/etc/services";

/// An address that was named, with its port if one was named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) address: IpAddr,
    pub(super) port: Option<u16>,
}

/// Reads `host[:port]` or `[v6]:port`, where host and port may be names; `None` if ipvsadm would refuse it. A host's
/// name stands for its first IPv4 address.
pub(super) fn parse(text: &str, protocol: Option<Protocol>) -> Option<Named> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, Some(rest.strip_prefix(':')?))
        }
        None => (text, None),
    };
    let (address, port) = match host.parse::<Ipv6Addr>() {
        Ok(address) => (IpAddr::V6(address), port),
        Err(_) => {
            let (host, port) = match host.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (host, None),
            };
            (IpAddr::V4(parse_ipv4(host).or_else(|| resolve(host))?), port)
        }
    };
    let port = match port {
        Some(port) => Some(parse_port(port, protocol)?),
        None => None,
    };
    Some(Named { address, port })
}

/// An IPv4 address as `inet_aton` reads it: one to four numbers, decimal, octal or hexadecimal, of which the last fills
/// what is left.
pub(super) fn parse_ipv4(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<u32> = text.split('.').map(parse_part).collect::<Option<_>>()?;
    let (&last, first) = parts.split_last()?;
    if first.len() > 3 || first.iter().any(|&part| part > 255) {
        return None;
    }
    let bits_left = 32 - 8 * u32::try_from(first.len()).ok()?;
    if u64::from(last) >= 1 << bits_left {
        return None;
    }
    let head = first.iter().enumerate().fold(0, |sum, (at, part)| sum | (part << (24 - 8 * at)));
    Some(Ipv4Addr::from_bits(head | last))
}

fn parse_part(text: &str) -> Option<u32> {
    let hexadecimal = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let (digits, radix) = match (hexadecimal, text.strip_prefix('0')) {
        (Some(digits), _) => (digits, 16),
        (None, Some(digits)) if !digits.is_empty() => (digits, 8),
        _ => (text, 10),
    };
    if digits.starts_with('+') { None } else { u32::from_str_radix(digits, radix).ok() }
}

fn resolve(host: &str) -> Option<Ipv4Addr> {
    (host, 0).to_socket_addrs().ok()?.find_map(|address| match address {
        SocketAddr::V4(address) => Some(*address.ip()),
        SocketAddr::V6(_) => None,
    })
}

fn parse_port(text: &str, protocol: Option<Protocol>) -> Option<u16> {
    if let Some(number) = number(text, 0, 65_535) {
        return u16::try_from(number).ok();
    }
    let services = fs::read_to_string(SERVICES_FILE).unwrap_or_default();
    port_of(&services, text, protocol?)
}

/// A whole number as `strtol` reads it.
pub(super) fn number(text: &str, least: i64, most: i64) -> Option<i64> {
    let text = text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    text.parse().ok().filter(|number| (least..=most).contains(number))
}

/// The port of a name in the text of `/etc/services`.
fn port_of(services: &str, name: &str, protocol: Protocol) -> Option<u16> {
    entries(services)
        .find_map(|(port, of, mut names)| (of == protocol && names.any(|known| known == name)).then_some(port))
}

/// Port, protocol and names of each line that has them.
fn entries(services: &str) -> impl Iterator<Item = (u16, Protocol, impl Iterator<Item = &str>)> {
    services.lines().filter_map(|line| {
        let line = line.split('#').next()?;
        let mut words = line.split_ascii_whitespace();
        let name = words.next()?;
        let (port, protocol) = words.next()?.split_once('/')?;
        Some((port.parse().ok()?, protocol.parse().ok()?, std::iter::once(name).chain(words)))
    })
}

/// How addresses and ports are written.
#[derive(Debug)]
pub struct Names {
    /// The text of `/etc/services`; none with `-n`.
    services: Option<String>,
}

impl Names {
    /// As numbers.
    #[must_use]
    pub fn numeric() -> Self {
        Self { services: None }
    }

    /// As the names that the resolver and `/etc/services` have, which may take long.
    #[must_use]
    pub fn of_system() -> Self {
        Self { services: Some(fs::read_to_string(SERVICES_FILE).unwrap_or_default()) }
    }

    /// Address and port.
    pub(super) fn show(&self, address: IpAddr, port: u16, protocol: Protocol) -> String {
        let (host, port) = match &self.services {
            None => (address.to_string(), port.to_string()),
            Some(services) => {
                let host = dns_lookup::lookup_addr(&address).unwrap_or_else(|_| address.to_string());
                let found = entries(services).find(|(known, of, _)| (*known, *of) == (port, protocol));
                let name = found.and_then(|(_, _, mut names)| names.next().map(str::to_owned));
                (host, name.unwrap_or_else(|| port.to_string()))
            }
        };
        if address.is_ipv4() { format!("{host}:{port}") } else { format!("[{host}]:{port}") }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> Option<String> {
        let named = parse(text, Some(Protocol::Tcp))?;
        Some(match named.port {
            Some(port) => SocketAddr::new(named.address, port).to_string(),
            None => named.address.to_string(),
        })
    }

    #[test]
    fn addresses_are_read_as_ipvsadm_reads_them() {
        for (text, read) in [
            ("192.168.88.15:80", Some("192.168.88.15:80")),
            ("192.168.88.15:0", Some("192.168.88.15:0")),
            ("192.168.88.15", Some("192.168.88.15")),
            ("10.1:80", Some("10.0.0.1:80")),
            ("0x7f.1:80", Some("127.0.0.1:80")),
            ("010.0.0.1:80", Some("8.0.0.1:80")),
            ("localhost:80", Some("127.0.0.1:80")),
            ("[fd00:88::15]:80", Some("[fd00:88::15]:80")),
            ("fd00:88::15", Some("fd00:88::15")),
            ("[192.168.88.15]:80", Some("192.168.88.15")),
            ("[fd00:88::15]", None),
            ("[fd00:88::15", None),
            ("[fd00:88::15]80", None),
            ("80", None),
            ("", None),
            ("192.168.88.15:", None),
            ("192.168.88.15:65536", None),
            ("192.168.88.15:-1", None),
            ("192.168.88.256:80", None),
            ("1.2.3.4.5:80", None),
            ("192.168.88.15:no-such-port", None),
            ("no-such-host.invalid:80", None),
        ] {
            assert_eq!(shown(text).as_deref(), read, "{text}");
        }
    }

    #[test]
    fn ports_have_the_names_of_the_services_file() {
        let services =
            "# a comment\nhttp 80/tcp www # WorldWideWeb\ndomain\t53/tcp\ndomain\t53/udp\nbad line\nx y/tcp\n";
        assert_eq!(port_of(services, "http", Protocol::Tcp), Some(80));
        assert_eq!(port_of(services, "www", Protocol::Tcp), Some(80));
        assert_eq!(port_of(services, "http", Protocol::Udp), None);
        assert_eq!(port_of(services, "domain", Protocol::Udp), Some(53));
        let names = Names { services: Some(services.to_owned()) };
        let address = "192.0.2.77".parse().unwrap();
        assert!(names.show(address, 53, Protocol::Udp).ends_with(":domain"));
        assert!(names.show(address, 80, Protocol::Udp).ends_with(":80"));
    }

    proptest! {
        #[test]
        fn what_is_shown_in_numbers_is_read(address: IpAddr, port: u16) {
            let text = Names::numeric().show(address, port, Protocol::Tcp);
            prop_assert_eq!(parse(&text, None), Some(Named { address, port: Some(port) }));
        }
    }
}
