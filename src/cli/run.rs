//! `pointsman run`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::log::{self, LogFormat};
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
    /// How to log, and where to
    #[arg(long, value_name = "FORMAT", default_value = "auto")]
    log_format: LogFormat,
}

/// Runs the director.
pub(super) fn run(args: &RunArgs) -> Result<(), Failure> {
    log::start(&args.log, args.log_format)?;
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
