//! What `pointsman explain --live` asks the running director.

use std::io::{self, Write};
use std::path::Path;

use super::Failure;
use super::text::count;
use crate::control::client::Client;
use crate::control::explain::{FlowQuestion, LiveExplanation};
use crate::stats::report::Drops;

/// Asks the director behind `socket`.
pub(super) fn ask(socket: &Path, question: &FlowQuestion) -> Result<LiveExplanation, Failure> {
    Client::new(socket).explain(question).map_err(Failure::new)
}

/// Prints what it says.
pub(super) fn print(live: &LiveExplanation, out: &mut impl Write) -> io::Result<()> {
    let LiveExplanation { protocol, client, destination, generation, reason, .. } = live;
    writeln!(out, "{protocol} {client} -> {destination}, by the running director (forwarding table {generation})")?;
    match live.real_server {
        Some(real_server) => writeln!(out, "goes to real server {real_server} ({})", reason.replace('_', " "))?,
        None if live.verdict == "tx" => writeln!(out, "goes to whoever's turn it is")?,
        None if live.verdict == "pass" => writeln!(out, "is left to the kernel")?,
        None => writeln!(out, "is dropped ({reason})")?,
    }
    writeln!(out, "because")?;
    live.why.iter().try_for_each(|sentence| writeln!(out, "  - {sentence}"))?;
    let Some(service) = &live.virtual_service else { return Ok(()) };
    writeln!(out, "so far")?;
    writeln!(out, "  {}: sent {}, dropped {}", service.service, count(service.tx.packets), dropped(&service.drops))?;
    for server in &service.real_servers {
        let next_hop = match server.next_hop {
            Some(mac) if server.alive => format!("next hop {mac}"),
            Some(_) => "down".to_owned(),
            None => "down: no MAC address".to_owned(),
        };
        writeln!(
            out,
            "  {} (weight {}, {next_hop}): sent {}, dropped {}",
            server.address,
            server.weight,
            count(server.tx.packets),
            dropped(&server.drops)
        )?;
    }
    Ok(())
}

fn dropped(drops: &Drops) -> String {
    let causes: Vec<String> =
        drops.0.iter().filter(|(_, frames)| **frames > 0).map(|(cause, frames)| format!("{cause} {frames}")).collect();
    if causes.is_empty() { "0".to_owned() } else { format!("{} ({})", count(drops.total()), causes.join(", ")) }
}
