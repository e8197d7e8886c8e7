//! `pointsman man`: manual pages of every subcommand, made of their help, and one of the configuration file, made of
//! docs/config.md.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory};

use super::roff::from_markdown;
use super::{Cli, FAILURE, Failure};

/// What a configuration file may hold.
const CONFIGURATION: &str = include_str!("../../docs/config.md");

/// Arguments of `man`.
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// Directory that the pages are written to
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

/// Writes the pages.
pub(super) fn run(args: &ManArgs) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure {
        message: format!("cannot write the manual pages to {}: {error}", args.dir.display()),
        code: FAILURE,
    };
    fs::create_dir_all(&args.dir).and_then(|()| write(&args.dir)).map_err(failed)
}

fn write(directory: &Path) -> std::io::Result<()> {
    clap_mangen::generate_to(Cli::command().disable_help_subcommand(true), directory)?;
    let version = env!("CARGO_PKG_VERSION");
    let head = format!(
        ".TH pointsman.toml 5 \"\" \"pointsman {version}\"\n.SH NAME\npointsman.toml \\- configuration of pointsman\n"
    );
    fs::write(directory.join("pointsman.toml.5"), head + &from_markdown(CONFIGURATION))
}
