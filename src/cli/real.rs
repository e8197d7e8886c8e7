//! `pointsman real`: real servers of the running director.

use std::io::{self, Write};
use std::net::IpAddr;

use clap::{Args, Subcommand};
use serde_json::json;

use super::change::{ChangeArgs, SocketArgs};
use super::service::word;
use super::{Failure, printed, table};
use crate::config::edit::{Change, Setting, Settings};
use crate::control::services::REAL_SERVERS;
use crate::service::ServiceKey;

const TABLE: &str = "virtual_service.real_server";

const EXAMPLES: &str = "\
Examples:
  pointsman real add tcp/192.168.88.15:80 192.168.88.100 weight=2
  pointsman real edit tcp/192.168.88.15:80 192.168.88.100 weight=3 --dry-run
  pointsman real drain tcp/192.168.88.15:80 192.168.88.100
  pointsman real del tcp/192.168.88.15:80 192.168.88.100 --persist

The keys are those of [[virtual_service.real_server]] in docs/config.md.";

/// What is done with real servers.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(super) enum RealCommand {
    /// Add a real server to a virtual service
    #[command(after_help = EXAMPLES)]
    Add(SettingsArgs),
    /// Set keys of a real server
    #[command(after_help = EXAMPLES)]
    Edit(SettingsArgs),
    /// Delete a real server
    Del(NameArgs),
    /// Give a real server no new flows: set its weight to 0
    Drain(NameArgs),
    /// List the real servers
    List(ListArgs),
}

/// A real server and settings of it.
#[derive(Debug, Args)]
pub(super) struct SettingsArgs {
    /// The service, as tcp/192.168.88.15:80
    service: ServiceKey,
    /// The real server's address
    address: IpAddr,
    /// Keys to be set, as weight=2
    #[arg(value_name = "KEY=VALUE")]
    settings: Vec<Setting>,
    #[command(flatten)]
    change: ChangeArgs,
}

/// A real server.
#[derive(Debug, Args)]
pub(super) struct NameArgs {
    /// The service, as tcp/192.168.88.15:80
    service: ServiceKey,
    /// The real server's address
    address: IpAddr,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Which are listed, and how.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Only those of this service
    service: Option<ServiceKey>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

/// Does it.
pub(super) fn run(command: &RealCommand) -> Result<(), Failure> {
    match command {
        RealCommand::Add(SettingsArgs { service, address, settings, change }) => {
            let settings = Setting::collect(settings, TABLE);
            change.make(Change::AddRealServer { service: *service, address: *address, settings })
        }
        RealCommand::Edit(SettingsArgs { service, address, settings, change }) => {
            let settings = Setting::collect(settings, TABLE);
            change.make(Change::EditRealServer { service: *service, address: *address, settings })
        }
        RealCommand::Drain(NameArgs { service, address, change }) => {
            let settings = Settings::from_iter([("weight".to_owned(), json!(0))]);
            change.make(Change::EditRealServer { service: *service, address: *address, settings })
        }
        RealCommand::Del(NameArgs { service, address, change }) => {
            change.make(Change::DeleteRealServer { service: *service, address: *address })
        }
        RealCommand::List(args) => list(args),
    }
}

fn list(args: &ListArgs) -> Result<(), Failure> {
    let client = args.socket.client();
    let mut out = io::BufWriter::new(io::stdout().lock());
    let route = args.service.map_or_else(
        || REAL_SERVERS.to_owned(),
        |ServiceKey { protocol, vip, port }| format!("/v1/services/{protocol}/{vip}/{port}/real-servers"),
    );
    let document = client.document(&route)?;
    let written = if args.json {
        writeln!(out, "{document}")
    } else {
        let servers: Vec<Settings> = serde_json::from_str(&document).unwrap_or_default();
        let rows: Vec<_> = servers.iter().map(|server| row(server, args.service)).collect();
        table::print(&mut out, ["service", "real server", "weight", "mac"], &rows, &[2])
    };
    printed(written.and_then(|()| out.flush()))
}

fn row(server: &Settings, service: Option<ServiceKey>) -> [String; 4] {
    let service = service.map_or_else(|| word(server, "service"), |service| service.to_string());
    [service, word(server, "address"), word(server, "weight"), word(server, "mac")]
}
