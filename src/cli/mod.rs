//! The command line: one file for each subcommand. They print and exit; decisions are made elsewhere.

mod announce;
mod api;
mod apply;
mod capture;
mod change;
mod check;
mod completions;
mod doctor;
mod explain;
mod explain_live;
mod flows;
mod generate;
mod health;
mod ipvs;
mod journal;
mod load_run;
mod log;
mod man;
mod neighbors;
mod plan;
mod real;
mod replay;
mod report;
mod roff;
mod run;
mod service;
mod sink;
pub mod stats;
mod table;
mod top;

use std::env;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{self, Config, ConfigError};
use crate::control::client::ClientError;
use crate::text;

/// Exit code of a command that could not do what it was asked to.
const FAILURE: u8 = 1;
/// Exit code for a bad configuration or a bad command line.
const BAD_INPUT: u8 = 2;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  it could not be done (an interface, a privilege, a file, no director running)
  2  the command line or the configuration is wrong; nothing was done

The configuration is described in docs/config.md, statistics in docs/stats.md.";

/// An LVS-DR director on AF_XDP: polls the rings of network interfaces from pinned cores, chooses a real server by
/// consistent hashing and forwards by rewriting MAC addresses. Replies go from the real server straight to the client.
#[derive(Debug, Parser)]
#[command(name = "pointsman", version, about, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the director until SIGINT or SIGTERM; SIGHUP reads the configuration again
    Run(run::RunArgs),
    /// Validate a configuration; show what would run and the share of each real server
    Check(check::CheckArgs),
    /// Look for what is wrong with the machine, the interfaces and the segment, and say what mends it
    Doctor(doctor::DoctorArgs),
    /// Show the statistics of the running director
    Stats(stats::StatsArgs),
    /// Watch the running director: workers, rates, latency, real servers, drops; drain real servers by a key
    #[command(after_help = top::EXAMPLES)]
    Top(top::TopArgs),
    /// List the flows that the running director remembers
    Flows(flows::FlowsArgs),
    /// Write frames that the running director decides on, with their verdicts, to a pcapng file
    #[command(after_help = capture::EXAMPLES)]
    Capture(capture::CaptureArgs),
    /// Say which real server a flow goes to, and why: by a configuration, or in the running director
    Explain(explain::ExplainArgs),
    /// Add, change, delete and list virtual services in the running director
    #[command(subcommand)]
    Service(service::ServiceCommand),
    /// Add, change, drain, delete and list real servers in the running director
    #[command(subcommand)]
    Real(real::RealCommand),
    /// Put a configuration file in the place of what the running director has
    Apply(apply::ApplyArgs),
    /// Show which real servers are up
    Health(health::HealthArgs),
    /// Show how the running director reaches the real servers
    Neighbors(neighbors::NeighborsArgs),
    /// Answer for VIPs that are no addresses of this machine, leave them to another director, or show who does
    Announce(announce::AnnounceArgs),
    /// Speak ipvsadm's language: its command lines, rule sets and listings, for the running director
    #[command(disable_help_flag = true)]
    Ipvs(ipvs::IpvsArgs),
    /// Print the OpenAPI document of the control socket
    Api,
    /// Forward the frames of a capture file, without any network interface
    Replay(replay::ReplayArgs),
    /// Send frames of many flows at a stated rate, for measuring a director
    Gen(generate::GenArgs),
    /// Receive what `pointsman gen` sent and say what became of it: loss, order, affinity, latency
    Sink(sink::SinkArgs),
    /// Make a page of pictures and tables of one or several runs, of their statistics
    #[command(after_help = report::EXAMPLES)]
    Report(report::ReportArgs),
    /// Say how many cores and machines a rate takes, by what a director measured of itself
    Plan(plan::PlanArgs),
    /// Print a shell's script for completing this command line
    Completions(completions::CompletionsArgs),
    /// Write the manual pages to a directory
    #[command(hide = true)]
    Man(man::ManArgs),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let mut arguments = env::args_os();
    let program = arguments.next().unwrap_or_default();
    if Path::new(&program).file_name().is_some_and(|name| name == ipvs::LINK) {
        return ipvs::run_as_link(arguments);
    }
    let cli = Cli::parse();
    let done = |()| ExitCode::SUCCESS;
    let result = match &cli.command {
        Command::Run(args) => run::run(args).map(done),
        Command::Check(args) => check::run(args).map(done),
        Command::Doctor(args) => doctor::run(args),
        Command::Stats(args) => stats::run(args).map_err(Failure::new).map(done),
        Command::Top(args) => top::run(args).map(done),
        Command::Flows(args) => flows::run(args).map(done),
        Command::Capture(args) => capture::run(args).map(done),
        Command::Explain(args) => explain::run(args).map(done),
        Command::Replay(args) => replay::run(args).map(done),
        Command::Report(args) => report::run(args).map(done),
        Command::Service(command) => service::run(command).map(done),
        Command::Real(command) => real::run(command).map(done),
        Command::Apply(args) => apply::run(args).map(done),
        Command::Health(args) => health::run(args).map(done),
        Command::Neighbors(args) => neighbors::run(args).map(done),
        Command::Announce(args) => announce::run(args).map(done),
        Command::Ipvs(args) => Ok(ipvs::run(args)),
        Command::Api => api::run().map(done),
        Command::Gen(args) => generate::run(args).map(done),
        Command::Sink(args) => sink::run(args),
        Command::Plan(args) => plan::run(args).map(done),
        Command::Completions(args) => completions::run(args).map(done),
        Command::Man(args) => man::run(args).map(done),
    };
    match result {
        Ok(code) => code,
        Err(failure) => {
            tell(&failure.message);
            ExitCode::from(failure.code)
        }
    }
}

/// Why a command ends with an error: what its user reads, and the exit code.
#[derive(Debug)]
struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    /// It could not be done. All causes are told.
    fn new(error: impl std::error::Error) -> Self {
        Self { message: with_causes(&error), code: FAILURE }
    }

    /// What was given is wrong.
    fn bad_input(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: BAD_INPUT }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let code = match &error {
            ClientError::Refused { status: 400 | 422, .. } => BAD_INPUT,
            _ => FAILURE,
        };
        Self { message: with_causes(&error), code }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::bad_input(error.to_string())
    }
}

/// Whether all could be printed. A closed pipe is the reader's way to say that it has enough.
fn printed(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure { message: format!("cannot write the output: {error}"), code: FAILURE })
        }
        _ => Ok(()),
    }
}

/// Prints to standard error. Where that is gone there is nobody to tell, which is no reason to panic as `eprintln!`
/// does.
fn tell(message: impl Display) {
    let _ = writeln!(io::stderr(), "pointsman: {message}");
}

/// The message of an error and of what caused it, unless that is in the message already.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text
}

/// Reads a configuration for a command that runs nothing; warnings go to standard error.
fn load(path: &Path) -> Result<Config, Failure> {
    let loaded = config::load(path)?;
    for warning in &loaded.warnings {
        tell(format_args!("warning: {warning}"));
    }
    Ok(loaded.config)
}
