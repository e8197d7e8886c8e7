//! What all commands that change the running director have in common: their options, and what they print.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::text::{count, nanoseconds};
use super::{Failure, printed, tell};
use crate::config::DEFAULT_CONTROL_SOCKET;
use crate::config::edit::Change;
use crate::control::client::{Client, ClientError, How};
use crate::control::command::ChangeReport;

/// How long an answer is waited for: large tables take their time.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Where the director is.
#[derive(Clone, Debug, Args)]
pub(super) struct SocketArgs {
    /// Control socket of the director
    #[arg(long, value_name = "PATH", default_value = DEFAULT_CONTROL_SOCKET)]
    socket: PathBuf,
}

impl SocketArgs {
    /// A client of it.
    pub(super) fn client(&self) -> Client {
        Client::new(&self.socket).with_patience(PATIENCE)
    }
}

/// Options of a change.
#[derive(Clone, Debug, Args)]
pub(super) struct ChangeArgs {
    /// Change nothing, only tell what would change
    #[arg(long)]
    dry_run: bool,
    /// Write the changed configuration to its file, too, so that it outlasts a restart
    #[arg(long, conflicts_with = "dry_run")]
    persist: bool,
    /// Print what changes as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

impl ChangeArgs {
    /// Has one change made, and prints what it changed.
    pub(super) fn make(&self, change: Change) -> Result<(), Failure> {
        self.with(|client, how| client.change(&[change], how)).map_err(Failure::from)?
    }

    /// Has `ask` make changes, and prints what they changed. The outer error is the director's.
    pub(super) fn with(
        &self,
        ask: impl FnOnce(&Client, How) -> Result<ChangeReport, ClientError>,
    ) -> Result<Result<(), Failure>, ClientError> {
        let how = How { dry_run: self.dry_run, persist: self.persist };
        let report = ask(&self.socket.client(), how)?;
        let mut out = io::BufWriter::new(io::stdout().lock());
        let written = if self.json {
            let text = serde_json::to_string(&report).map_err(io::Error::other);
            text.and_then(|text| writeln!(out, "{text}"))
        } else {
            for warning in report.warnings.iter().chain(&report.network_warnings) {
                tell(format_args!("warning: {warning}"));
            }
            print(&report, &mut out)
        };
        Ok(printed(written.and_then(|()| out.flush())))
    }
}

fn print(report: &ChangeReport, out: &mut impl Write) -> io::Result<()> {
    let mut lines = Vec::new();
    for service in &report.services_added {
        lines.push(format!("+ service {service}"));
    }
    for service in &report.services_removed {
        lines.push(format!("- service {service}"));
    }
    for change in &report.services_changed {
        lines.push(format!(
            "~ service {}: {} {} -> {}",
            change.service,
            change.key,
            shown(&change.old),
            shown(&change.new)
        ));
    }
    for server in &report.real_servers_added {
        lines.push(format!("+ real server {} of {}, weight {}", server.address, server.service, server.weight));
    }
    for server in &report.real_servers_removed {
        lines.push(format!("- real server {} of {}, weight {}", server.address, server.service, server.weight));
    }
    for change in &report.real_servers_reweighted {
        let (address, service) = (change.address, change.service);
        lines.push(format!("~ real server {address} of {service}: weight {} -> {}", change.old, change.new));
    }
    for change in &report.real_servers_changed {
        let address = change.address.map_or_else(String::new, |address| address.to_string());
        let (old, new) = (shown(&change.old), shown(&change.new));
        lines.push(format!("~ real server {address} of {}: {} {old} -> {new}", change.service, change.key));
    }
    if report.secret_changed {
        lines.push("~ secret: flows that no worker remembers are placed anew".to_owned());
    }
    for setting in &report.restart_needed {
        lines.push(format!("! {setting}"));
    }
    for line in &lines {
        writeln!(out, "{line}")?;
    }
    let slots = report.slots;
    writeln!(
        out,
        "slots moved: {} of {} (least possible: {}); table built in {}",
        count(slots.moved),
        count(slots.total),
        count(slots.least_possible),
        nanoseconds(report.build_us as f64 * 1e3),
    )?;
    let verdict = match (report.dry_run, report.persisted) {
        (true, _) => "dry run: nothing is changed",
        (false, true) => "changed, and written to the configuration file",
        (false, false) => "changed until the director is restarted or reloaded (--persist writes the file)",
    };
    writeln!(out, "{verdict}")
}

fn shown(value: &Value) -> String {
    if value.is_null() { "not set".to_owned() } else { value.to_string() }
}
