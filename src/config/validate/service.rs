//! The `[[virtual_service]]` tables.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::health;
use super::interface::unicast_mac;
use super::scheduling::{self, Scheduling};
use super::{Check, Seen, warn};
use super::{announce, quic};
use crate::config::error::Findings;
use crate::config::interface::InterfaceConfig;
use crate::config::prime;
use crate::config::raw::{RawRealServer, RawVirtualService};
use crate::config::reader::{Field, quoted};
use crate::config::{
    DEFAULT_TABLE_SIZE, DirectorConfig, FallbackConfig, MAX_REAL_SERVERS, MAX_TABLE_SIZE, MAX_THRESHOLD, MAX_TIMEOUT_S,
    MAX_WEIGHT, RealServerConfig, VirtualServiceConfig,
};
use crate::service::{Protocol, ServiceKey};
use crate::wire::MacAddress;

/// Slots that the real server with the smallest weight needs for a share that is exact to 1 %.
const SLOTS_FOR_ONE_PERCENT: u64 = 100;

/// What no real server may be.
struct Taken<'a> {
    /// Every VIP, and the index of the first service that has it.
    vips: HashMap<IpAddr, usize>,
    /// The director's own virtual MACs, and the interface that each is on.
    virtual_macs: HashMap<MacAddress, &'a str>,
}

pub(super) fn services(
    raw: &[RawVirtualService<'_>],
    interfaces: &[InterfaceConfig],
    director: &DirectorConfig,
    findings: &Findings,
) -> Vec<VirtualServiceConfig> {
    let vips: Vec<Option<IpAddr>> =
        raw.iter().map(|raw| station_address(raw.vip.as_ref()?, Check { place: &raw.place, findings })).collect();
    let mut taken = Taken { vips: HashMap::new(), virtual_macs: HashMap::new() };
    for (index, vip) in vips.iter().enumerate() {
        if let Some(vip) = vip {
            taken.vips.entry(*vip).or_insert(index);
        }
    }
    for interface in interfaces {
        taken.virtual_macs.extend(interface.virtual_macs.iter().map(|mac| (*mac, interface.name.as_str())));
    }
    let announced = announce::by_vip(raw, &vips, findings);
    let mut keys = Seen::new();
    let mut services = Vec::with_capacity(raw.len());
    for (index, (raw, vip)) in raw.iter().zip(vips).enumerate() {
        let check = Check { place: &raw.place, findings };
        let key = key(raw, vip, check);
        if let Some(key) = key
            && let Some(first) = keys.before(key, index)
        {
            let message = format!("{key} is virtual_service[{first}] already; give both sets of real servers to one");
            findings.refuse(raw.place.at, raw.place.path.clone(), message);
        }
        let settings = settings(raw, vip, director, check);
        let quic = quic::service(raw, check);
        let real_servers = real_servers(raw, vip, quic, &taken, findings);
        let health_checks = health::checks(&raw.health_checks, &raw.place, port_of(raw), findings);
        let availability = health::availability(raw, &real_servers, &health_checks, check);
        let fallback = fallback(raw, vip, &real_servers, &taken, findings);
        let table_size = if settings.scheduling.scheduler.is_hash() {
            size_for_shares(raw, settings.table_size, &real_servers, check)
        } else {
            settings.table_size
        };
        if let Some(key) = key {
            services.push(VirtualServiceConfig {
                key,
                scheduler: settings.scheduling.scheduler,
                table_size,
                hash_by: settings.scheduling.hash_by,
                persistence: settings.scheduling.persistence,
                persistence_timeout_s: settings.scheduling.persistence_timeout_s,
                persistence_netmask: settings.scheduling.persistence_netmask,
                tcp_timeout_s: settings.timeouts[0],
                tcp_fin_timeout_s: settings.timeouts[1],
                udp_timeout_s: settings.timeouts[2],
                previous_table_s: settings.timeouts[3],
                quic: quic.is_some(),
                quic_server_id_length: quic,
                health_checks,
                inhibit_on_failure: availability.inhibit_on_failure,
                quorum: availability.quorum,
                quorum_hysteresis: availability.quorum_hysteresis,
                fallback,
                announce: announced.get(&key.vip).copied().unwrap_or(director.announce),
                real_servers,
            });
        }
    }
    services
}

fn port_of(raw: &RawVirtualService<'_>) -> Option<u16> {
    raw.port.as_ref().and_then(|field| u16::try_from(field.value).ok())
}

/// `None` where a part is missing or refused, which is a finding already.
fn key(raw: &RawVirtualService<'_>, vip: Option<IpAddr>, check: Check<'_>) -> Option<ServiceKey> {
    let mut port = None;
    if let Some(field) = &raw.port {
        let mut number = 0;
        check.number(Some(field), 0..=65_535, &mut number);
        port = port_of(raw).map(|_| number);
    }
    let mut protocol = None;
    let words = [("tcp", Some(Protocol::Tcp)), ("udp", Some(Protocol::Udp))];
    check.word(raw.protocol.as_ref(), &words, &mut protocol);
    Some(ServiceKey { vip: vip?, protocol: protocol?, port: port? })
}

struct Settings {
    scheduling: Scheduling,
    table_size: u32,
    /// TCP, TCP after FIN, UDP, previous table; in seconds.
    timeouts: [u32; 4],
}

fn settings(raw: &RawVirtualService<'_>, vip: Option<IpAddr>, director: &DirectorConfig, check: Check<'_>) -> Settings {
    let mut timeouts = [director.tcp_timeout_s, director.tcp_fin_timeout_s, director.udp_timeout_s, 0];
    let fields = [&raw.tcp_timeout_s, &raw.tcp_fin_timeout_s, &raw.udp_timeout_s, &raw.previous_table_s];
    let ranges = [1..=MAX_TIMEOUT_S, 1..=MAX_TIMEOUT_S, 1..=MAX_TIMEOUT_S, 0..=86_400];
    for ((timeout, field), range) in timeouts.iter_mut().zip(fields).zip(ranges) {
        check.number(field.as_ref(), (*range.start()).into()..=(*range.end()).into(), timeout);
    }
    let table_size = table_size(raw.table_size.as_ref(), check);
    Settings { scheduling: scheduling::service(raw, vip, check), table_size, timeouts }
}

fn table_size(field: Option<&Field<i64>>, check: Check<'_>) -> u32 {
    let Some(field) = field else { return DEFAULT_TABLE_SIZE };
    let mut size = DEFAULT_TABLE_SIZE;
    check.number(Some(field), 2..=i64::from(MAX_TABLE_SIZE), &mut size);
    if prime::is_prime(size) {
        return size;
    }
    let below = prime::at_most(size).map(|prime| prime.to_string());
    let above = prime::at_least(size, MAX_TABLE_SIZE).map(|prime| prime.to_string());
    let nearest: Vec<String> = below.into_iter().chain(above).collect();
    check.refuse_with(field, format!("{size} is not a prime; the nearest are {}", nearest.join(" and ")));
    DEFAULT_TABLE_SIZE
}

fn real_servers(
    service: &RawVirtualService<'_>,
    vip: Option<IpAddr>,
    quic: Option<u8>,
    taken: &Taken<'_>,
    findings: &Findings,
) -> Vec<RealServerConfig> {
    let raw = &service.real_servers;
    let path = || service.place.path_of("real_server");
    if raw.is_empty() {
        let message =
            "there is none, so every packet for this service is dropped; add a [[virtual_service.real_server]]";
        findings.warn(service.place.at, path(), message.to_owned());
    } else if raw.iter().all(|raw| raw.weight.as_ref().is_some_and(|weight| weight.value == 0)) {
        let message = "all have weight = 0, so no new flow gets one; give one of them a weight of 1 or more";
        findings.warn(service.place.at, path(), message.to_owned());
    }
    if raw.len() > MAX_REAL_SERVERS {
        let message = format!("{} are too many for one service; use at most {MAX_REAL_SERVERS}", raw.len());
        findings.refuse(service.place.at, path(), message);
    }
    let mut addresses = Seen::new();
    let mut ids = Seen::new();
    let mut servers = Vec::with_capacity(raw.len());
    for (index, raw) in raw.iter().enumerate() {
        let check = Check { place: &raw.place, findings };
        let mut weight = 1;
        check.number(raw.weight.as_ref(), 0..=i64::from(MAX_WEIGHT), &mut weight);
        let (upper_threshold, lower_threshold) = thresholds(raw, check);
        let mac = raw.mac.as_ref().and_then(|field| mac(field, taken, check));
        let quic_server_id = quic::real_server(raw, quic, index, &mut ids, check);
        let Some(field) = &raw.address else { continue };
        let Some(address) = station_address(field, check) else { continue };
        check_against_vip(field, address, vip, taken, check);
        if let Some(first) = addresses.before(address, index) {
            let message = format!("{address} is real_server[{first}] already; remove one and add up the weights");
            check.refuse_with(field, message);
        }
        let own_checks = raw.health_checks.as_ref();
        servers.push(RealServerConfig {
            address,
            weight,
            upper_threshold,
            lower_threshold,
            mac,
            quic_server_id,
            health_checks: own_checks.map(|own| health::checks(own, &raw.place, port_of(service), findings)),
            inhibit_on_failure: raw.inhibit_on_failure.as_ref().map(|field| field.value),
        });
    }
    servers
}

/// Limits of connections, of which the lower may not be the higher.
fn thresholds(raw: &RawRealServer<'_>, check: Check<'_>) -> (u32, u32) {
    let (mut upper, mut lower) = (0, 0);
    check.number(raw.upper_threshold.as_ref(), 0..=i64::from(MAX_THRESHOLD), &mut upper);
    check.number(raw.lower_threshold.as_ref(), 0..=i64::from(MAX_THRESHOLD), &mut lower);
    if let Some(field) = raw.lower_threshold.as_ref().filter(|_| lower > upper) {
        let message = if upper == 0 {
            "there is no upper_threshold that it could belong to; add one, or leave it out".to_owned()
        } else {
            format!("{lower} is above upper_threshold, {upper}; make it {upper} or less")
        };
        check.refuse_with(field, message);
    }
    (upper, lower)
}

fn fallback(
    service: &RawVirtualService<'_>,
    vip: Option<IpAddr>,
    real_servers: &[RealServerConfig],
    taken: &Taken<'_>,
    findings: &Findings,
) -> Option<FallbackConfig> {
    let raw = service.fallback.as_ref()?;
    let check = Check { place: &raw.place, findings };
    let mac = raw.mac.as_ref().and_then(|field| mac(field, taken, check));
    let field = raw.address.as_ref()?;
    let address = station_address(field, check)?;
    check_against_vip(field, address, vip, taken, check);
    if let Some(index) = real_servers.iter().position(|server| server.address == address) {
        let message = format!("{address} is real_server[{index}] already; a fallback is a server besides those");
        check.refuse_with(field, message);
    }
    Some(FallbackConfig { address, mac })
}

fn mac(field: &Field<&str>, taken: &Taken<'_>, check: Check<'_>) -> Option<MacAddress> {
    match unicast_mac(field.value) {
        Err(problem) => {
            check.refuse(field, problem);
            None
        }
        Ok(mac) => {
            if let Some(interface) = taken.virtual_macs.get(&mac) {
                let message = format!(
                    "{mac} is a virtual MAC of the director itself on {}; use the real server's own",
                    quoted(interface)
                );
                check.refuse_with(field, message);
            }
            Some(mac)
        }
    }
}

fn check_against_vip(field: &Field<&str>, address: IpAddr, vip: Option<IpAddr>, taken: &Taken<'_>, check: Check<'_>) {
    const OWN_ADDRESS: &str = "use the real server's own address on the segment that it shares with the director";
    if vip == Some(address) {
        check.refuse_with(field, format!("{address} is the VIP of this service; {OWN_ADDRESS}"));
    } else if let Some(index) = taken.vips.get(&address) {
        check.refuse_with(field, format!("{address} is the VIP of virtual_service[{index}]; {OWN_ADDRESS}"));
    } else if let Some(vip) = vip
        && vip.is_ipv4() != address.is_ipv4()
    {
        let (own, other) = if vip.is_ipv4() { ("IPv4", "IPv6") } else { ("IPv6", "IPv4") };
        let message = format!(
            "{address} is {other} and the VIP {vip} is {own}; direct routing leaves the IP header alone, so use the real \
             server's {own} address"
        );
        check.refuse_with(field, message);
    }
}

/// An address that one station on a segment can have.
fn station_address(field: &Field<&str>, check: Check<'_>) -> Option<IpAddr> {
    let text = field.value;
    let Ok(address) = text.parse::<IpAddr>() else {
        check.refuse(field, format_args!("{} {}", quoted(text), why_no_address(text)));
        return None;
    };
    let problem = match address {
        address if address.is_unspecified() => "is the unspecified address",
        address if address.is_loopback() => "is a loopback address",
        address if address.is_multicast() => "is a multicast address",
        IpAddr::V4(v4) if v4.is_broadcast() => "is the broadcast address",
        IpAddr::V4(v4) if v4.octets()[0] == 0 => "is in 0.0.0.0/8, which no station has",
        IpAddr::V6(v6) => return station_address_v6(field, v6, check),
        IpAddr::V4(_) => return Some(address),
    };
    check.refuse_with(field, format!("{address} {problem}; use a unicast address"));
    None
}

fn station_address_v6(field: &Field<&str>, address: Ipv6Addr, check: Check<'_>) -> Option<IpAddr> {
    if let Some(v4) = address.to_ipv4_mapped() {
        check.refuse_with(field, format!("{address} is an IPv4 address in IPv6 notation; use \"{v4}\""));
        return None;
    }
    if address.is_unicast_link_local() {
        let message = "is link-local, which can be on every interface; use a global or unique local address";
        warn(check.place, field, message, check.findings);
    }
    Some(address.into())
}

fn why_no_address(text: &str) -> &'static str {
    let inner = text.trim().trim_start_matches('[');
    if text.trim() != text {
        "has spaces around the address"
    } else if inner.contains('/') {
        "has a prefix length behind the address"
    } else if inner.contains('%') {
        "has an interface behind the address"
    } else if text.parse::<SocketAddr>().is_ok() {
        "has a port behind the address"
    } else if text.starts_with('[') {
        "has brackets around the address"
    } else {
        "is not an IP address"
    }
}

/// A size at which the real server with the smallest weight gets a slot: `table_size`, or a larger one where the file
/// says none.
fn size_for_shares(
    raw: &RawVirtualService<'_>,
    table_size: u32,
    servers: &[RealServerConfig],
    check: Check<'_>,
) -> u32 {
    let live = || servers.iter().map(|server| u64::from(server.weight)).filter(|weight| *weight > 0);
    let (Some(lightest), total) = (live().min(), live().sum::<u64>()) else { return table_size };
    let slots_of = |size: u32| u64::from(size) * lightest / total;
    let enough = total.div_ceil(lightest);
    let table_size = if slots_of(table_size) == 0 && raw.table_size.is_none() {
        larger_table(enough).or_else(|| prime::at_most(MAX_TABLE_SIZE)).unwrap_or(table_size)
    } else {
        table_size
    };
    let slots = slots_of(table_size);
    if slots >= SLOTS_FOR_ONE_PERCENT {
        return table_size;
    }
    let advice = |slots| larger_table(slots).map(|prime| format!("{prime} or a larger prime"));
    let at = raw.table_size.as_ref().map_or(raw.place.at, |field| field.at);
    let path = raw.place.path_of("table_size");
    let share = format!("{table_size} slots give a real server of weight {lightest} out of {total}");
    if slots == 0 {
        let advice = advice(enough).unwrap_or("fewer real servers or weights more alike".into());
        let message = format!("{share} none; use {advice}");
        if raw.table_size.is_some() {
            check.findings.refuse(at, path, message);
        } else {
            check.findings.warn(at, path, message);
        }
    } else if let Some(advice) = advice((SLOTS_FOR_ONE_PERCENT * total).div_ceil(lightest)) {
        check.findings.warn(at, path, format!("{share} only {slots}; use {advice} for shares exact to 1 %"));
    }
    table_size
}

fn larger_table(slots: u64) -> Option<u32> {
    prime::at_least(u32::try_from(slots).ok()?, MAX_TABLE_SIZE)
}
