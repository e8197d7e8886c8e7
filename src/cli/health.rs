//! `pointsman health`: which real servers are up.

use std::io::{self, Write};

use clap::Args;

use super::change::SocketArgs;
use super::{Failure, printed, table};
use crate::control::api::{HEALTH, Health, RealServerHealth};

/// Arguments of `health`.
#[derive(Debug, Args)]
pub(super) struct HealthArgs {
    /// Print the JSON document as the director gives it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

/// Asks and prints.
pub(super) fn run(args: &HealthArgs) -> Result<(), Failure> {
    let client = args.socket.client();
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written =
        if args.json { writeln!(out, "{}", client.document(HEALTH)?) } else { print(&client.health()?, &mut out) };
    printed(written.and_then(|()| out.flush()))
}

fn print(health: &Health, out: &mut impl Write) -> io::Result<()> {
    let servers = health.services.iter().flat_map(|service| {
        service.real_servers.iter().map(|server| {
            let reason = server.reason.clone().unwrap_or_default();
            let (address, weight) = (server.address.to_string(), server.weight.to_string());
            [service.service.clone(), address, weight, state(server, service.falls_back).to_owned(), reason]
        })
    });
    let rows: Vec<_> = servers.collect();
    table::print(out, ["service", "real server", "weight", "state", "reason"], &rows, &[2])?;
    for service in health.services.iter().filter(|service| service.available == 0) {
        let helped = service.real_servers.iter().any(|server| server.fallback && server.up);
        let instead = if helped { "; the fallback server does" } else { "" };
        writeln!(out, "{}: no real server gets new flows{instead}", service.service)?;
    }
    if health.unsaved_changes > 0 {
        writeln!(out, "changes that a restart would lose: {}", health.unsaved_changes)?;
    }
    Ok(())
}

fn state(server: &RealServerHealth, falls_back: bool) -> &'static str {
    match (server.up, server.weight) {
        (false, _) => "down",
        (true, _) if server.fallback && falls_back => "fallback, in use",
        (true, _) if server.fallback => "fallback, standby",
        (true, 0) => "draining",
        (true, _) => "up",
    }
}
