//! `pointsman run`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

use super::{BAD_INPUT, FAILURE, Failure, with_causes};
use crate::director::{self, DirectorError, Options};

/// Arguments of `run`.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Configuration file
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Write the statistics to this file, replaced as a whole at each interval and once at exit
    #[arg(long, value_name = "FILE")]
    stats_file: Option<PathBuf>,
    /// Time between two writes of the statistics file, in seconds
    #[arg(long, value_name = "SECONDS", value_parser = parse_interval)]
    stats_interval: Option<Duration>,
    /// Unix socket for commands, instead of the configuration's control_socket
    #[arg(long, value_name = "PATH")]
    control_socket: Option<PathBuf>,
    /// What to log: error, warn, info, debug or trace, or a filter such as pointsman=debug
    #[arg(long, value_name = "FILTER", default_value = "info", env = "POINTSMAN_LOG")]
    log: String,
    /// How to log
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    /// One line of text for each event
    Text,
    /// One JSON object for each event
    Json,
}

/// Runs the director.
pub(super) fn run(args: &RunArgs) -> Result<(), Failure> {
    start_log(args)?;
    let options = Options {
        config: args.config.clone(),
        stats_file: args.stats_file.clone().map(absolute),
        stats_interval: args.stats_interval,
        control_socket: args.control_socket.clone().map(absolute),
    };
    director::run(&options).map_err(|error| Failure {
        code: if matches!(error, DirectorError::Config(_)) { BAD_INPUT } else { FAILURE },
        message: with_causes(&error),
    })
}

fn start_log(args: &RunArgs) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&args.log)
        .map_err(|error| Failure::bad_input(format!("--log {:?}: {error}; use for example info or debug", args.log)))?;
    if let Some(word) = args.log.split(',').find(|part| !part.contains(['=', '[']) && !is_level(part)) {
        return Err(Failure::bad_input(format!("--log: {word:?} is not a level; use for example info or debug")));
    }
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        // Else a full disk or a closed pipe behind standard error is reported there by a macro that panics.
        .log_internal_errors(false);
    match args.log_format {
        LogFormat::Text => log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    Ok(())
}

/// A lone word that is no level would be taken for the name of a module, and silence the rest.
fn is_level(word: &str) -> bool {
    word.trim().parse::<tracing::level_filters::LevelFilter>().is_ok()
}

fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "a number of seconds, such as 1 or 0.5".to_owned())?;
    if !(0.01..=86_400.0).contains(&seconds) {
        return Err("from 0.01 to 86400 seconds".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}
