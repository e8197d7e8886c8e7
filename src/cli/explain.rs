//! `pointsman explain`.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{Failure, explain_live, load, printed};
use crate::config::Config;
use crate::config::DEFAULT_CONTROL_SOCKET;
use crate::control::explain::{FlowQuestion, LiveExplanation};
use crate::director::plan;
use crate::service::{Protocol, ServiceKey};
use crate::table::{ForwardingTable, HashBy, RealServer, VirtualService};
use crate::wire::MacAddress;

const NOTES: &str = "\
A real server without a mac in the configuration is shown with one that stands in, as replay does.

With --json: protocol, client, destination, verdict (tx, pass or drop), reason, service, hash, slot,
slots, by (hash or turn), real_server, weight, next_hop, next_hop_from (config or stand_in) and why,
a list of sentences; null where there is none.

With the schedulers rr, wrr, lc and wlc it is the first flow after the start that is explained.";

/// Arguments of `explain`.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(super) struct ExplainArgs {
    /// Configuration file: explains what a director that begins with it would do
    #[arg(short, long, value_name = "FILE", required_unless_present = "live")]
    config: Option<PathBuf>,
    /// Ask the running director: the flow's entry, its real server's state, counters
    #[arg(long)]
    live: bool,
    /// Control socket of the director [default: that of the configuration]
    #[arg(long, value_name = "PATH", requires = "live")]
    socket: Option<PathBuf>,
    /// tcp or udp
    protocol: Protocol,
    /// The client's address and port, as 10.0.0.7:4711 or [2001:db8::7]:4711
    client: SocketAddr,
    /// The destination's address and port, as 192.168.88.15:80
    destination: SocketAddr,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What becomes of a flow, and why.
#[derive(Debug, Serialize)]
struct Explanation {
    protocol: Protocol,
    client: SocketAddr,
    destination: SocketAddr,
    /// `tx`, `drop` or `pass`.
    verdict: &'static str,
    reason: &'static str,
    service: Option<String>,
    /// Hexadecimal, since JSON's readers round large numbers.
    hash: Option<String>,
    slot: Option<usize>,
    slots: Option<usize>,
    /// By what the real server is chosen: `hash`, or `turn` with a scheduler that does not hash.
    by: Option<&'static str>,
    real_server: Option<IpAddr>,
    weight: Option<u32>,
    next_hop: Option<MacAddress>,
    /// `config`, or `stand_in` where only the neighbour table of a running director could tell.
    next_hop_from: Option<&'static str>,
    why: Vec<String>,
}

/// Explains one flow.
pub(super) fn run(args: &ExplainArgs) -> Result<(), Failure> {
    if args.client.is_ipv4() != args.destination.is_ipv4() {
        return Err(Failure::bad_input("client and destination must both be IPv4 or both IPv6"));
    }
    let config = args.config.as_deref().map(load).transpose()?;
    let offline = config.as_ref().map(|config| {
        let table = ForwardingTable::build(&plan::offline_plan(config, plan::STAND_IN_SOURCE), None);
        explain(args, config, &table)
    });
    let live = if args.live { Some(explain_live::ask(&args.socket(config.as_ref()), &args.question())?) } else { None };
    let answer = Answer { offline, live };
    let mut out = io::stdout().lock();
    printed(if args.json {
        serde_json::to_writer_pretty(&mut out, &answer).map_err(io::Error::from).and_then(|()| writeln!(out))
    } else {
        answer.print(&mut out)
    })
}

impl ExplainArgs {
    fn question(&self) -> FlowQuestion {
        FlowQuestion { protocol: self.protocol, client: self.client, destination: self.destination }
    }

    fn socket(&self, config: Option<&Config>) -> PathBuf {
        let configured =
            || config.map_or(DEFAULT_CONTROL_SOCKET.into(), |config| config.director.control_socket.clone());
        self.socket.clone().unwrap_or_else(configured)
    }
}

/// What the configuration says and what the running director does, where they are asked for.
#[derive(Serialize)]
struct Answer {
    #[serde(flatten)]
    offline: Option<Explanation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    live: Option<LiveExplanation>,
}

impl Answer {
    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        if let Some(offline) = &self.offline {
            print(offline, out)?;
        }
        if self.offline.is_some() && self.live.is_some() {
            writeln!(out)?;
        }
        self.live.as_ref().map_or(Ok(()), |live| explain_live::print(live, out))
    }
}

fn explain(args: &ExplainArgs, config: &Config, table: &ForwardingTable) -> Explanation {
    let subject = args.question().subject();
    let mut explanation = Explanation {
        protocol: args.protocol,
        client: args.client,
        destination: args.destination,
        verdict: "pass",
        reason: "not_a_service",
        service: None,
        hash: None,
        slot: None,
        slots: None,
        by: None,
        real_server: None,
        weight: None,
        next_hop: None,
        next_hop_from: None,
        why: Vec::new(),
    };
    let service = table.service_of(&subject).and_then(|number| table.services().get(number.position as usize));
    let Some(service) = service else {
        explanation.why.push(no_service(args, table));
        return explanation;
    };
    let key = service.key;
    explanation.service = Some(key.to_string());
    explanation.why.push(if key.port == 0 {
        format!("{key} takes every port of {} that has no service of its own", key.vip)
    } else {
        format!("the destination is the virtual service {key}")
    });
    let hash = table.hash(service, &subject);
    explanation.hash = Some(format!("{hash:016x}"));
    explain_hash(&mut explanation, service, hash);
    let chosen = table.choose(service, hash);
    let real_server = chosen.and_then(|choice| table.real_servers().get(choice.real_server as usize));
    let (Some(choice), Some(real_server)) = (chosen, real_server) else {
        explanation.verdict = "drop";
        explanation.reason = "no_real_server";
        explanation.why.push("no real server of the service has a weight above 0".to_owned());
        return explanation;
    };
    explanation.verdict = "tx";
    explanation.reason = "scheduled";
    explanation.slot = Some(choice.slot);
    explanation.slots = Some(service.table_size());
    explanation.why.push(format!(
        "of the {} slots of its hash table, that is slot {}, which belongs to real server {} (weight {})",
        service.table_size(),
        choice.slot,
        real_server.address,
        real_server.weight
    ));
    explanation.by = Some("hash");
    let real_server = by_turn(&mut explanation, table, service).unwrap_or(real_server);
    explain_next_hop(&mut explanation, real_server, configured_mac(config, &key, real_server.address));
    explanation
}

fn explain_hash(explanation: &mut Explanation, service: &VirtualService, hash: u64) {
    if let Some(persistence) = service.persistence {
        let sentence = "s after their last packet clients stay at their real servers, whatever the scheduler says";
        explanation.why.push(format!("for {} {sentence}", persistence.timeout_s));
    }
    explanation.why.push(match service.hash_by {
        HashBy::Flow => format!("protocol, addresses and ports hash to {hash:016x} under the secret"),
        HashBy::Client => format!("hash_by is \"client\": the client's address alone hashes to {hash:016x}"),
    });
}

/// Whose turn the first flow is, if the service's scheduler does not hash.
fn by_turn<'t>(
    explanation: &mut Explanation,
    table: &'t ForwardingTable,
    service: &VirtualService,
) -> Option<&'t RealServer> {
    if !service.takes_turns() {
        return None;
    }
    let server = table.real_servers().get(table.schedule(service, 0, 0)? as usize)?;
    explanation.by = Some("turn");
    let scheduler = service.scheduler.name();
    explanation.why.push(format!(
        "but the scheduler is {scheduler}: the hash is for what begins no flow and has no entry; the first flow after \
         the start goes to {} (weight {}), each further one as {scheduler} says then",
        server.address, server.weight
    ));
    Some(server)
}

fn explain_next_hop(explanation: &mut Explanation, real_server: &RealServer, mac: Option<MacAddress>) {
    let next_hop = mac.unwrap_or_else(|| plan::stand_in_mac(real_server.address));
    explanation.why.push(match mac {
        Some(mac) => format!("its next hop is {mac}, from the configuration"),
        None => format!("its next hop comes from the neighbour table of the running director; {next_hop} stands in"),
    });
    explanation.real_server = Some(real_server.address);
    explanation.weight = Some(real_server.weight);
    explanation.next_hop = Some(next_hop);
    explanation.next_hop_from = Some(if mac.is_some() { "config" } else { "stand_in" });
}

fn no_service(args: &ExplainArgs, table: &ForwardingTable) -> String {
    let others: Vec<String> = table
        .services()
        .iter()
        .filter(|service| service.key.vip == args.destination.ip())
        .map(|service| service.key.to_string())
        .collect();
    if others.is_empty() {
        format!("no virtual service has the address {}: its frames go to the kernel", args.destination.ip())
    } else {
        format!(
            "no virtual service is {} {}, so its frames go to the kernel; of this address there are {}",
            args.protocol,
            args.destination,
            others.join(", ")
        )
    }
}

fn configured_mac(config: &Config, service: &ServiceKey, address: IpAddr) -> Option<MacAddress> {
    let service = config.virtual_services.iter().find(|found| found.key == *service)?;
    service.real_servers.iter().find(|found| found.address == address)?.mac
}

fn print(explanation: &Explanation, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{} {} -> {}", explanation.protocol, explanation.client, explanation.destination)?;
    match (explanation.real_server, explanation.next_hop) {
        (Some(real_server), Some(next_hop)) => {
            writeln!(out, "goes to real server {real_server} by next hop {next_hop}")?;
        }
        _ if explanation.verdict == "pass" => writeln!(out, "is left to the kernel")?,
        _ => writeln!(out, "is dropped ({})", explanation.reason)?,
    }
    writeln!(out, "because")?;
    explanation.why.iter().try_for_each(|reason| writeln!(out, "  - {reason}"))
}
