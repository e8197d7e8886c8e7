//! `pointsman announce`: who answers for the VIPs, and handing them from one director to another.

use std::io::{self, Write};
use std::net::IpAddr;

use clap::{Args, Subcommand};

use super::change::SocketArgs;
use super::{Failure, printed, table};
use crate::announce::Role;
use crate::control::announce::{AnnounceRequest, AnnounceStatus};

const HELP: &str = "\
Examples:
  pointsman announce status
  pointsman announce take                    # all VIPs with announce = \"arp\"; keepalived's notify_master
  pointsman announce release 192.168.88.15   # this one alone

With announce = \"arp\" the director answers ARP, neighbour discovery and ping for a VIP while it is active; with
\"kernel\" this machine's kernel does if the VIP is one of its addresses. docs/announce.md has the rest, and
scripts/keepalived what keepalived needs.";

/// Arguments of `announce`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct AnnounceArgs {
    #[command(subcommand)]
    command: AnnounceCommand,
}

#[derive(Debug, Subcommand)]
enum AnnounceCommand {
    /// Answer for VIPs, and tell the segment that they are here
    Take(SetArgs),
    /// Answer for VIPs no more
    Release(SetArgs),
    /// Show who answers for the VIPs
    Status(StatusArgs),
}

#[derive(Debug, Args)]
struct SetArgs {
    /// The VIP; without it all with announce = "arp", also those that a reload brings
    vip: Option<IpAddr>,
    #[command(flatten)]
    output: StatusArgs,
}

#[derive(Debug, Args)]
struct StatusArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

/// Asks the director and prints what it says.
pub(super) fn run(args: &AnnounceArgs) -> Result<(), Failure> {
    let set = |args: &SetArgs, state| {
        let request = AnnounceRequest { state, vip: args.vip };
        args.output.socket.client().announce(request)
    };
    let (status, json) = match &args.command {
        AnnounceCommand::Take(args) => (set(args, Role::Active)?, args.output.json),
        AnnounceCommand::Release(args) => (set(args, Role::Standby)?, args.output.json),
        AnnounceCommand::Status(args) => (args.socket.client().announcements()?, args.json),
    };
    let mut out = io::stdout().lock();
    let written = if json {
        serde_json::to_writer_pretty(&mut out, &status).map_err(io::Error::from).and_then(|()| writeln!(out))
    } else {
        print(&status, &mut out)
    };
    printed(written.and_then(|()| out.flush()))
}

fn print(status: &AnnounceStatus, out: &mut impl Write) -> io::Result<()> {
    const HEADS: [&str; 7] = ["vip", "answered by", "state", "answers", "pings", "conflicts", "last conflict"];
    let none = || "-".to_owned();
    let mut rows: Vec<[String; 7]> = Vec::new();
    for vip in &status.vips {
        let last = vip.last_conflict.as_ref().map(|conflict| format!("{} on {}", conflict.mac, conflict.interface));
        rows.push([
            vip.vip.to_string(),
            "director".to_owned(),
            vip.state.name().to_owned(),
            vip.answers.to_string(),
            vip.echo_replies.to_string(),
            vip.conflicts.to_string(),
            last.unwrap_or_else(none),
        ]);
    }
    for vip in &status.kernel_vips {
        let state = if vip.is_local { "active" } else { "not its address" };
        let [address, by, state] = [vip.vip.to_string(), "kernel".to_owned(), state.to_owned()];
        rows.push([address, by, state, none(), none(), none(), none()]);
    }
    table::print(out, HEADS, &rows, &[3, 4, 5])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::announce::{Conflict, VipStatus};
    use crate::control::announce::KernelVip;

    #[test]
    fn a_vip_has_a_line_whoever_answers_for_it() {
        let vip = VipStatus {
            vip: "192.168.88.15".parse().unwrap(),
            state: Role::Active,
            answers: 12,
            echo_replies: 3,
            announcements: 5,
            conflicts: 1,
            probes: 0,
            last_conflict: Some(Conflict { interface: "eth0".to_owned(), mac: "02:00:00:00:00:03".parse().unwrap() }),
        };
        let kernel = KernelVip { vip: "fd00:88::15".parse().unwrap(), is_local: false };
        let mut text = Vec::new();
        print(&AnnounceStatus { vips: vec![vip], kernel_vips: vec![kernel] }, &mut text).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "vip            answered by  state            answers  pings  conflicts  last conflict\n\
             192.168.88.15  director     active                12      3          1  02:00:00:00:00:03 on eth0\n\
             fd00:88::15    kernel       not its address        -      -          -  -\n"
        );
    }
}
