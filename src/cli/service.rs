//! `pointsman service`: virtual services of the running director.

use std::io::{self, Write};

use clap::{Args, Subcommand};
use serde_json::Value;

use super::change::{ChangeArgs, SocketArgs};
use super::{Failure, printed, table};
use crate::config::edit::{Change, Setting};
use crate::control::schema::ServiceDocument;
use crate::control::services::SERVICES;
use crate::service::ServiceKey;

const TABLE: &str = "virtual_service";

const EXAMPLES: &str = "\
Examples:
  pointsman service add tcp/192.168.88.15:80
  pointsman service add 'udp [2001:db8::15]:53' persistence=client udp_timeout_s=60
  pointsman service edit tcp/192.168.88.15:80 tcp_timeout_s=600 --persist
  pointsman service edit tcp/192.168.88.15:80 tcp_timeout_s=      (back to the default)
  pointsman service del tcp/192.168.88.15:80 --dry-run

A service is named by protocol, VIP and port. The keys are those of [[virtual_service]] in docs/config.md.";

/// What is done with virtual services.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(super) enum ServiceCommand {
    /// Add a virtual service
    #[command(after_help = EXAMPLES)]
    Add(SettingsArgs),
    /// Set keys of a virtual service
    #[command(after_help = EXAMPLES)]
    Edit(SettingsArgs),
    /// Delete a virtual service and its real servers
    Del(NameArgs),
    /// List the virtual services
    List(ListArgs),
}

/// A service and settings of it.
#[derive(Debug, Args)]
pub(super) struct SettingsArgs {
    /// The service, as tcp/192.168.88.15:80
    service: ServiceKey,
    /// Keys to be set, as tcp_timeout_s=600
    #[arg(value_name = "KEY=VALUE")]
    settings: Vec<Setting>,
    #[command(flatten)]
    change: ChangeArgs,
}

/// A service.
#[derive(Debug, Args)]
pub(super) struct NameArgs {
    /// The service, as tcp/192.168.88.15:80
    service: ServiceKey,
    #[command(flatten)]
    change: ChangeArgs,
}

/// How it is listed.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Print the JSON document as the director gives it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

/// Does it.
pub(super) fn run(command: &ServiceCommand) -> Result<(), Failure> {
    match command {
        ServiceCommand::Add(SettingsArgs { service, settings, change }) => {
            change.make(Change::AddService { service: *service, settings: Setting::collect(settings, TABLE) })
        }
        ServiceCommand::Edit(SettingsArgs { service, settings, change }) => {
            change.make(Change::EditService { service: *service, settings: Setting::collect(settings, TABLE) })
        }
        ServiceCommand::Del(NameArgs { service, change }) => change.make(Change::DeleteService { service: *service }),
        ServiceCommand::List(args) => list(args),
    }
}

fn list(args: &ListArgs) -> Result<(), Failure> {
    let client = args.socket.client();
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = if args.json {
        writeln!(out, "{}", client.document(SERVICES)?)
    } else {
        let rows: Vec<_> = client.services()?.iter().map(row).collect();
        table::print(&mut out, ["service", "scheduler", "persistence", "real servers"], &rows, &[3])
    };
    printed(written.and_then(|()| out.flush()))
}

fn row(ServiceDocument(service): &ServiceDocument) -> [String; 4] {
    let real_servers = service.get("real_server").and_then(Value::as_array).map_or(0, Vec::len);
    [name(service), word(service, "scheduler"), word(service, "persistence"), real_servers.to_string()]
}

/// The name of a service, of its document.
fn name(service: &serde_json::Map<String, Value>) -> String {
    let key: Option<ServiceKey> = serde_json::from_value(Value::Object(service.clone())).ok();
    key.map_or_else(|| "?".to_owned(), |key| key.to_string())
}

/// A value of a document in a cell.
pub(super) fn word(fields: &serde_json::Map<String, Value>, key: &str) -> String {
    match fields.get(key) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}
