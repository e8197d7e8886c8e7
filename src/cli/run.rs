//! `pointsman run`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::log::{self, LogFormat};
use super::{BAD_INPUT, FAILURE, Failure, with_causes};
use crate::config::{StatsFormat, size};
use crate::director::{self, DirectorError, Options};

/// Arguments of `run`.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Configuration file
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Write the statistics to this file at each interval and once at exit: replaced as a whole, or, if its name ends
    /// in .jsonl, a line appended
    #[arg(long, value_name = "FILE")]
    stats_file: Option<PathBuf>,
    /// Whether the statistics file is replaced by each document or gets a line appended [default: by its name]
    #[arg(long, value_name = "FORMAT")]
    stats_format: Option<FileFormat>,
    /// Rename a file of lines to FILE.1 when it would grow beyond this size, such as 100M, and begin a new one
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    stats_rotate: Option<u64>,
    /// Keep so many renamed files of lines
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1000))]
    stats_keep: Option<u32>,
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

/// How the statistics file is written.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum FileFormat {
    /// Replaced by each document
    Document,
    /// A line appended for each document
    Lines,
}

/// Runs the director.
pub(super) fn run(args: &RunArgs) -> Result<(), Failure> {
    log::start(&args.log, args.log_format)?;
    let options = Options {
        config: args.config.clone(),
        stats_file: args.stats_file.clone().map(absolute),
        stats_interval: args.stats_interval,
        stats_format: args.stats_format.map(|format| match format {
            FileFormat::Document => StatsFormat::Document,
            FileFormat::Lines => StatsFormat::Lines,
        }),
        stats_rotate: args.stats_rotate,
        stats_keep: args.stats_keep,
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

fn parse_size(text: &str) -> Result<u64, String> {
    size::parse(text).ok_or_else(|| size::EXPECTED.to_owned())
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "a number of seconds, such as 1 or 0.5".to_owned())?;
    if !(0.01..=86_400.0).contains(&seconds) {
        return Err("from 0.01 to 86400 seconds".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}
