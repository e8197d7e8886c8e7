//! `pointsman announce`: who answers for the VIPs, and handing them from one director to another.

use std::io::{self, Write};
use std::net::IpAddr;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::change::SocketArgs;
use super::{Failure, printed, table};
use crate::announce::{Role, VipStatus};
use crate::control::announce::{AnnounceRequest, AnnounceStatus, MAX_LEASE_MS, MIN_LEASE_MS};

const HELP: &str = "\
Examples:
  pointsman announce status
  pointsman announce take                    # all VIPs with announce = \"arp\"
  pointsman announce take --for 5s           # for 5 seconds unless renewed; keepalived's notify_master
  pointsman announce take --for 5s --again   # renew that, but for VIPs released one by one; keepalived's vrrp_script
  pointsman announce release 192.168.88.15   # this one alone

With announce = \"arp\" the director answers ARP, neighbour discovery and ping for a VIP while it is active; with
\"kernel\" this machine's kernel does if the VIP is one of its addresses. docs/announce.md has the rest, and
scripts/keepalived (in the Debian package /usr/share/pointsman/keepalived) what keepalived needs.";

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
    Take(TakeArgs),
    /// Answer for VIPs no more
    Release(SetArgs),
    /// Show who answers for the VIPs
    Status(StatusArgs),
}

#[derive(Debug, Args)]
struct TakeArgs {
    /// A lease: answer for no longer than this unless told again, as 5s or 500ms
    #[arg(long = "for", value_name = "TIME", value_parser = parse_lease)]
    lease_ms: Option<u64>,
    #[command(flatten)]
    set: SetArgs,
}

#[derive(Debug, Args)]
struct SetArgs {
    /// The VIP; without it all with announce = "arp", also those that a reload brings
    vip: Option<IpAddr>,
    /// This was said before: leave VIPs alone that have been taken or released one by one since
    #[arg(long)]
    again: bool,
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
    let set = |args: &SetArgs, state, for_ms| {
        let request = AnnounceRequest { state, vip: args.vip, for_ms, again: args.again };
        args.output.socket.client().announce(request)
    };
    let (status, json) = match &args.command {
        AnnounceCommand::Take(args) => (set(&args.set, Role::Active, args.lease_ms)?, args.set.output.json),
        AnnounceCommand::Release(args) => (set(args, Role::Standby, None)?, args.output.json),
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

/// Milliseconds.
fn parse_lease(text: &str) -> Result<u64, String> {
    let (number, unit_s) = match text.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => (text.strip_suffix('s').unwrap_or(text), 1.0),
    };
    let lease = number.parse().ok().and_then(|number: f64| Duration::try_from_secs_f64(number * unit_s).ok());
    let lease_ms = lease.and_then(|lease| u64::try_from(lease.as_millis()).ok());
    let in_bounds = lease_ms.filter(|lease_ms| (MIN_LEASE_MS..=MAX_LEASE_MS).contains(lease_ms));
    in_bounds.ok_or_else(|| "write a time from 100ms to 86400s, such as 5s".to_owned())
}

fn state_of(vip: &VipStatus) -> String {
    let Some(left_ms) = vip.lease_ms else { return vip.state.name().to_owned() };
    format!("{} for {}.{} s", vip.state.name(), left_ms / 1_000, left_ms % 1_000 / 100)
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
            state_of(vip),
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
    use crate::announce::Conflict;
    use crate::control::announce::KernelVip;

    #[test]
    fn a_vip_has_a_line_whoever_answers_for_it() {
        let vip = VipStatus {
            vip: "192.168.88.15".parse().unwrap(),
            state: Role::Active,
            lease_ms: Some(4_860),
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
            "vip            answered by  state             answers  pings  conflicts  last conflict\n\
             192.168.88.15  director     active for 4.8 s       12      3          1  02:00:00:00:00:03 on eth0\n\
             fd00:88::15    kernel       not its address         -      -          -  -\n"
        );
    }

    #[test]
    fn a_lease_is_a_time_with_its_unit() {
        for (text, milliseconds) in
            [("5s", 5_000), ("5", 5_000), ("500ms", 500), ("1.5s", 1_500), ("86400s", MAX_LEASE_MS)]
        {
            assert_eq!(parse_lease(text), Ok(milliseconds), "{text}");
        }
        for text in ["", "s", "0", "-5s", "99ms", "5m", "NaN", "inf", "86401s"] {
            assert!(parse_lease(text).is_err(), "{text}");
        }
    }
}
