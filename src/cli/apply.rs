//! `pointsman apply`: a configuration file in the place of what the running director has.

use std::path::PathBuf;

use clap::Args;

use super::change::ChangeArgs;
use super::{BAD_INPUT, Failure};
use crate::config;
use crate::control::client::ClientError;
use crate::control::error::ErrorDetail;

const EXAMPLES: &str = "\
Examples:
  pointsman apply -c director.toml --dry-run
  pointsman apply -c director.toml
  pointsman apply -c director.toml --persist     (writes the file that the director was started with, too)";

/// Arguments of `apply`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ApplyArgs {
    /// Configuration file
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Sends the file and prints what it changes.
pub(super) fn run(args: &ApplyArgs) -> Result<(), Failure> {
    let document = config::read(&args.config)?;
    match args.change.with(|client, how| client.replace(document, how)) {
        Ok(printed) => printed,
        Err(ClientError::Refused { detail, .. }) if detail.line.is_some() => {
            let lines: Vec<String> = detail.mistakes().iter().map(|mistake| located(args, mistake)).collect();
            Err(Failure { message: lines.join("\n"), code: BAD_INPUT })
        }
        Err(error) => Err(error.into()),
    }
}

/// A mistake as `pointsman check` shows it.
fn located(args: &ApplyArgs, mistake: &ErrorDetail) -> String {
    let (line, column) = (mistake.line.unwrap_or_default(), mistake.column.unwrap_or_default());
    format!("{}:{line}:{column}: {}", args.config.display(), mistake.sentence())
}
