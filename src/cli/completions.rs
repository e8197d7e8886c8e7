//! `pointsman completions`.

use std::io::{self, Write};

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, Failure, printed};

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell that is to complete
    shell: Shell,
}

/// Prints the script.
pub(super) fn run(args: &CompletionsArgs) -> Result<(), Failure> {
    // Into memory first: the generator panics where its output is gone.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "pointsman", &mut script);
    printed(io::stdout().write_all(&script))
}
