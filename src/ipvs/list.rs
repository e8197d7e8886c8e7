//! Listings, column for column as ipvsadm 1.31 prints them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::{self, Write};

use super::address::Names;
use super::command::{Counted, Listing, Netmask, Timeouts};
use super::table::{Counts, ServerRow, ServiceRow, Table};
use crate::control::flows::FlowEntry;
use crate::flow::FlowState;
use crate::service::{Protocol, ServiceKey};

/// Version of IPVS that is told in the first line: that whose columns these are.
const IPVS_VERSION: &str = "1.2.1";
/// How long a service may be in its line, by ipvsadm; IPv6 addresses may be longer.
const SERVICE_WIDTH: usize = 33;
/// The same of a real server.
const SERVER_WIDTH: usize = 28;

/// Lists a table, or one service of it.
#[must_use]
pub fn list_table(table: &Table, only: Option<ServiceKey>, listing: &Listing, names: &Names) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_table(&mut out, table, only, listing, names);
    out
}

fn write_table(
    out: &mut String,
    table: &Table,
    only: Option<ServiceKey>,
    listing: &Listing,
    names: &Names,
) -> fmt::Result {
    if only.is_none() {
        writeln!(out, "IP Virtual Server version {IPVS_VERSION} (size={})", table.size)?;
    }
    title(out, listing)?;
    for service in rows(table, listing.unsorted) {
        if only.is_some_and(|key| key != service.key) {
            continue;
        }
        service_line(out, service, listing, names)?;
        for server in servers(service, listing.unsorted) {
            server_line(out, service.key, server, listing, names)?;
        }
    }
    Ok(())
}

/// The rules that would make this table, to be fed to `-R`.
#[must_use]
pub fn save(table: &Table, names: &Names) -> String {
    let mut out = String::new();
    for service in rows(table, false) {
        let option = if service.key.protocol == Protocol::Tcp { "-t" } else { "-u" };
        let name = names.show(service.key.vip, service.key.port, service.key.protocol);
        let _ = write!(out, "-A {option} {name} -s {}", service.scheduler);
        if let Some(seconds) = service.persistence_s {
            let _ = write!(out, " -p {seconds}");
            if let Some(mask) = mask(service) {
                let _ = write!(out, " -M {mask}");
            }
        }
        if let Some(flags) = flags(service) {
            let _ = write!(out, " -b {flags}");
        }
        out.push('\n');
        for server in servers(service, false) {
            let server_name = names.show(server.address, service.key.port, service.key.protocol);
            let _ = write!(out, "-a {option} {name} -r {server_name} -g -w {}", server.weight);
            for (option, threshold) in [("-x", server.upper_threshold), ("-y", server.lower_threshold)] {
                if threshold != 0 {
                    let _ = write!(out, " {option} {threshold}");
                }
            }
            out.push('\n');
        }
    }
    out
}

/// `-L --timeout`
#[must_use]
pub fn list_timeouts(timeouts: Timeouts) -> String {
    let Timeouts { tcp_s, tcp_fin_s, udp_s } = timeouts;
    format!("Timeout (tcp tcpfin udp): {tcp_s} {tcp_fin_s} {udp_s}\n")
}

/// `-L -c`. What persistence keeps of a client is what IPVS calls a template; each worker may keep it, and it is listed
/// once.
#[must_use]
pub fn list_connections(flows: &[FlowEntry], listing: &Listing, names: &Names) -> String {
    let mut out = format!("IPVS connection entries\npro expire {:<11} {:<18} {:<18} ", "state", "source", "virtual");
    out.push_str(match listing.counted {
        // The titles are wider, and nothing is below them but for persistence engines.
        Counted::Persistent => "destination        pe name          pe_data\n",
        _ => "destination\n",
    });
    let mut longest: HashMap<_, u32> = HashMap::new();
    for client in flows.iter().filter(|flow| flow.is_client) {
        let left_s = longest.entry((&client.service, client.client)).or_default();
        *left_s = client.expires_in_s.max(*left_s);
    }
    for flow in flows {
        if flow.is_client {
            match longest.entry((&flow.service, flow.client)) {
                Entry::Occupied(left_s) if *left_s.get() == flow.expires_in_s => {
                    left_s.remove();
                }
                _ => continue,
            }
        }
        let (Some(key), Some(server)) = (flow.service.as_deref().and_then(service_key), flow.real_server) else {
            continue;
        };
        let (word, state) = match (key.protocol, flow.state) {
            (Protocol::Udp, _) if flow.is_client => ("UDP", "NONE"),
            (Protocol::Udp, _) => ("UDP", "UDP"),
            (Protocol::Tcp, FlowState::Unconfirmed) if flow.is_client => ("TCP", "NONE"),
            (Protocol::Tcp, _) if flow.is_client => ("TCP", "ASSURED"),
            (Protocol::Tcp, FlowState::Unconfirmed) => ("TCP", "SYN_RECV"),
            (Protocol::Tcp, FlowState::Established) => ("TCP", "ESTABLISHED"),
            (Protocol::Tcp, FlowState::Closing) => ("TCP", "FIN_WAIT"),
        };
        let expires = format!("{:02}:{:02}", flow.expires_in_s / 60, flow.expires_in_s % 60);
        let source = names.show(flow.client, flow.client_port, key.protocol);
        let service = names.show(key.vip, flow.service_port, key.protocol);
        let server = names.show(server, flow.service_port, key.protocol);
        let _ = writeln!(out, "{word:<3} {expires:<6} {state:<11} {source:<18} {service:<18} {server}");
    }
    out
}

fn service_key(text: &str) -> Option<ServiceKey> {
    text.parse().ok()
}

/// The services in ipvsadm's order: by family, protocol, address and port.
fn rows(table: &Table, unsorted: bool) -> Vec<&ServiceRow> {
    let mut rows: Vec<&ServiceRow> = table.services.iter().collect();
    if !unsorted {
        rows.sort_by_key(|row| (row.key.vip.is_ipv6(), row.key.protocol.number(), row.key.vip, row.key.port));
    }
    rows
}

fn servers(service: &ServiceRow, unsorted: bool) -> Vec<&ServerRow> {
    let mut servers: Vec<&ServerRow> = service.servers.iter().collect();
    if !unsorted {
        servers.sort_by_key(|server| server.address);
    }
    servers
}

fn title(out: &mut String, listing: &Listing) -> fmt::Result {
    let service = "Prot LocalAddress:Port";
    let server = "  -> RemoteAddress:Port";
    let five = |names: [&str; 5]| {
        let [a, b, c, d, e] = names;
        format!("{service:<33} {a:>8} {b:>8} {c:>8} {d:>8} {e:>8}\n{server}")
    };
    let text = match listing.counted {
        Counted::Stats => five(["Conns", "InPkts", "OutPkts", "InBytes", "OutBytes"]),
        Counted::Rate => five(["CPS", "InPPS", "OutPPS", "InBPS", "OutBPS"]),
        Counted::Thresholds => format!(
            "{service:<33} {:<10} {:<10} {:<10} {:<10}\n{server}",
            "Uthreshold", "Lthreshold", "ActiveConn", "InActConn"
        ),
        Counted::Persistent => format!(
            "{service:<33} {:<9} {:<11} {:<10} {:<10}\n{server}",
            "Weight", "PersistConn", "ActiveConn", "InActConn"
        ),
        Counted::Weights if listing.tunnels => {
            format!("{service} Scheduler Flags\n{server}           Forward TunnelInfo    Weight ActiveConn InActConn")
        }
        Counted::Weights => {
            format!("{service} Scheduler Flags\n{server}           Forward Weight ActiveConn InActConn")
        }
    };
    writeln!(out, "{text}")
}

fn service_line(out: &mut String, service: &ServiceRow, listing: &Listing, names: &Names) -> fmt::Result {
    let key = service.key;
    let word = if key.protocol == Protocol::Tcp { "TCP" } else { "UDP" };
    let mut name = format!("{word:<4} {}", names.show(key.vip, key.port, key.protocol));
    if key.vip.is_ipv4() {
        name = name.chars().take(SERVICE_WIDTH).collect();
    }
    if matches!(listing.counted, Counted::Stats | Counted::Rate) {
        write!(out, "{name:<33}")?;
        for count in columns(service.counts) {
            large(out, count, listing.exact)?;
        }
        return writeln!(out);
    }
    write!(out, "{name} {}", service.scheduler)?;
    if let Some(flags) = flags(service) {
        write!(out, " ({flags})")?;
    }
    if let Some(seconds) = service.persistence_s {
        write!(out, " persistent {seconds}")?;
        if let Some(mask) = mask(service) {
            write!(out, " mask {mask}")?;
        }
    }
    writeln!(out)
}

fn server_line(
    out: &mut String,
    service: ServiceKey,
    server: &ServerRow,
    listing: &Listing,
    names: &Names,
) -> fmt::Result {
    let mut name = names.show(server.address, service.port, service.protocol);
    if server.address.is_ipv4() {
        name = name.chars().take(SERVER_WIDTH).collect();
    }
    let (weight, now) = (server.weight, server.connections);
    let (active, inactive, persistent) = (now.active, now.inactive, now.persistent);
    write!(out, "  -> {name:<28}")?;
    match listing.counted {
        Counted::Stats => {
            for count in columns(server.counts) {
                large(out, count, listing.exact)?;
            }
            writeln!(out)
        }
        Counted::Rate => {
            let [connections, packets, out_packets, bytes, out_bytes] = columns(server.counts);
            write!(out, " {connections:>8} {packets:>8} {out_packets:>8}")?;
            large(out, bytes, listing.exact)?;
            large(out, out_bytes, listing.exact)?;
            writeln!(out)
        }
        Counted::Thresholds => {
            writeln!(out, " {:<10} {:<10} {active:<10} {inactive:<10}", server.upper_threshold, server.lower_threshold)
        }
        Counted::Persistent => writeln!(out, " {weight:<9} {persistent:<11} {active:<10} {inactive:<10}"),
        Counted::Weights if listing.tunnels => {
            writeln!(out, " {:<7} {:<13} {weight:<6} {active:<10} {inactive:<10}", "Route", "n/a")
        }
        Counted::Weights => writeln!(out, " {:<7} {weight:<6} {active:<10} {inactive:<10}", "Route"),
    }
}

/// The five columns of counters. What servers answer does not pass the director.
fn columns(counts: Counts) -> [u64; 5] {
    [counts.connections, counts.packets, 0, counts.bytes, 0]
}

/// A count in nine columns, in thousands and so on if it needs more, unless it is to be exact.
fn large(out: &mut String, count: u64, exact: bool) -> fmt::Result {
    match count {
        _ if exact => {
            let digits = count.to_string();
            write!(out, "{digits:>width$}", width = 9.max(digits.len() + 1))
        }
        0..100_000_000 => write!(out, "{count:>9}"),
        100_000_000..1_000_000_000 => write!(out, "{:>8}K", count / 1000),
        1_000_000_000..100_000_000_000 => write!(out, "{:>8}M", count / 1_000_000),
        100_000_000_000..100_000_000_000_000 => write!(out, "{:>8}G", count / 1_000_000_000),
        _ => write!(out, "{:>8}T", count / 1_000_000_000_000),
    }
}

fn flags(service: &ServiceRow) -> Option<String> {
    let scheduler = &service.scheduler;
    let mut names = Vec::new();
    if service.flags.fallback {
        names.push(format!("{scheduler}-fallback"));
    }
    if service.flags.port {
        names.push(format!("{scheduler}-port"));
    }
    (!names.is_empty()).then(|| names.join(","))
}

fn mask(service: &ServiceRow) -> Option<String> {
    service.netmask.map(|mask| match mask {
        Netmask::V4(mask) => mask.to_string(),
        Netmask::V6(bits) => bits.to_string(),
    })
}
