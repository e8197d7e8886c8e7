//! `pointsman check`.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{Failure, load, printed};
use crate::config::{Config, HashBy, Queues};
use crate::director::plan;
use crate::table::ForwardingTable;

/// Arguments of `check`.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Configuration file
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Validates a configuration and prints what would run.
pub(super) fn run(args: &CheckArgs) -> Result<(), Failure> {
    let config = load(&args.config)?;
    let table = ForwardingTable::build(&plan::offline_plan(&config, plan::STAND_IN_SOURCE), None);
    let mut out = io::stdout().lock();
    let written = if args.json { print_json(&config, &table, &mut out) } else { print(&config, &table, &mut out) };
    printed(written.and_then(|()| out.flush()))
}

fn print(config: &Config, table: &ForwardingTable, out: &mut impl Write) -> io::Result<()> {
    let director = &config.director;
    let secret = if director.secret.is_some() { "set" } else { "the default one" };
    writeln!(out, "director: secret {secret}, control socket {}", director.control_socket.display())?;
    for interface in &config.interfaces {
        let queues = match &interface.queues {
            Queues::All => "all queues".to_owned(),
            Queues::List(queues) => format!("queues {}", numbers(queues)),
        };
        let cores = if interface.cores.is_empty() { "automatic".to_owned() } else { numbers(&interface.cores) };
        let direction = if interface.receive { "receives and sends" } else { "sends only" };
        writeln!(
            out,
            "interface {}: {direction}, {queues}, cores {cores}, rings rx {} tx {} fill {} completion {}, batch {}",
            interface.name,
            interface.rx_ring,
            interface.tx_ring,
            interface.fill_ring,
            interface.completion_ring,
            interface.batch
        )?;
    }
    if config.interfaces.is_empty() {
        writeln!(out, "no [[interface]]: enough for explain and replay; run needs one")?;
    }
    for (service, of) in table.services().iter().zip(&config.virtual_services) {
        let hashed = if of.hash_by == HashBy::Client { ", hashed by client" } else { "" };
        let persistence = match (of.persistence_timeout_s, of.persistence_netmask) {
            (Some(timeout_s), Some(bits)) => format!(", clients (/{bits}) persistent for {timeout_s} s"),
            _ => String::new(),
        };
        let (key, scheduler, slots) = (service.key, of.scheduler.name(), of.table_size);
        writeln!(out, "virtual service {key}: scheduler {scheduler}, {slots} slots{hashed}{persistence}")?;
        let width = of.real_servers.iter().map(|r| r.address.to_string().len()).max().unwrap_or(0);
        for (real_server, share) in of.real_servers.iter().zip(service.shares()) {
            let next_hop = real_server.mac.map_or_else(|| "neighbour table".to_owned(), |mac| mac.to_string());
            writeln!(
                out,
                "  real server {:width$}  weight {:>5}  share {:>6.2} %  ({share} slots)  next hop {next_hop}",
                real_server.address,
                real_server.weight,
                percent(share, service.table_size()),
                width = width,
            )?;
        }
        if of.real_servers.is_empty() {
            writeln!(out, "  no real servers: its frames are dropped as no_real_server")?;
        }
    }
    writeln!(out, "the configuration is good")
}

fn print_json(config: &Config, table: &ForwardingTable, out: &mut impl Write) -> io::Result<()> {
    let services: Vec<_> = table
        .services()
        .iter()
        .zip(&config.virtual_services)
        .map(|(service, of)| {
            let real_servers: Vec<_> = of
                .real_servers
                .iter()
                .zip(service.shares())
                .map(|(real_server, slots)| {
                    json!({
                        "address": real_server.address,
                        "weight": real_server.weight,
                        "mac": real_server.mac,
                        "slots": slots,
                        "share": percent(slots, service.table_size()) / 100.0,
                    })
                })
                .collect();
            json!({
                "service": service.key.to_string(),
                "table_size": service.table_size(),
                "real_servers": real_servers,
            })
        })
        .collect();
    serde_json::to_writer_pretty(&mut *out, &json!({ "good": true, "config": config, "shares": services }))?;
    writeln!(out)
}

fn percent(slots: u32, of: usize) -> f64 {
    if of == 0 { 0.0 } else { f64::from(slots) * 100.0 / of as f64 }
}

fn numbers(numbers: &[impl ToString]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
