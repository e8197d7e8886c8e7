//! `pointsman top`: watches the running director, in the terminal or as text.

mod screen;
mod watch;

use std::env;
use std::io::{self, IsTerminal, Write};
use std::thread;
use std::time::Duration;

use clap::Args;

use super::change::SocketArgs;
use super::{FAILURE, Failure, printed, tell};
use crate::control::client::Client;
use crate::top::{Top, Window, between, whole};

/// How long statistics are waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// Columns of text where nothing says how many there are.
const USUAL_WIDTH: usize = 80;
/// Columns of text below which nothing is legible.
const LEAST_WIDTH: usize = 20;

pub(super) const EXAMPLES: &str = "\
Examples:
  pointsman top
  pointsman top --batch                          # a second, as text
  COLUMNS=140 pointsman top --batch --count 10 --interval 60 > ten-minutes.txt

? shows the keys. docs/top.md tells what is shown.";

/// Arguments of `top`.
#[derive(Debug, Args)]
pub(super) struct TopArgs {
    /// Print what happens in one interval as text, as wide as COLUMNS says (else 80)
    #[arg(long)]
    batch: bool,
    /// Print it for so many intervals, one after the other
    #[arg(long, value_name = "N", default_value_t = 1, requires = "batch",
        value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// Time between two looks at the director, from 0.1 to 3600 s
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = parse_interval)]
    interval: Duration,
    #[command(flatten)]
    socket: SocketArgs,
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds: &f64| (0.1..=3600.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "write seconds, from 0.1 to 3600".to_owned())
}

/// Watches.
pub(super) fn run(args: &TopArgs) -> Result<(), Failure> {
    let client = args.socket.client().with_patience(PATIENCE);
    if args.batch {
        return print_frames(args, &client);
    }
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        let message = "top needs a terminal; top --batch prints text".to_owned();
        return Err(Failure { message, code: FAILURE });
    }
    let first = client.stats()?;
    let no_color = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let mut top = Top::new(Window::Seconds(1), no_color);
    top.answered(first);
    let changes = args.socket.client();
    watch::watch(top, client, changes, args.interval)
        .map_err(|error| Failure { message: format!("cannot use the terminal: {error}"), code: FAILURE })
}

fn print_frames(args: &TopArgs, client: &Client) -> Result<(), Failure> {
    let columns = env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let width = columns.unwrap_or(USUAL_WIDTH).max(LEAST_WIDTH);
    let mut earlier = client.stats()?;
    let mut frames = 0;
    while frames < args.count {
        thread::sleep(args.interval);
        let later = client.stats()?;
        let mut measured = later.clone();
        if !between(&earlier, &mut measured) {
            tell("the director was restarted meanwhile; looking again");
            earlier = later;
            continue;
        }
        let mut top = Top::new(Window::Between, true);
        top.answered(earlier);
        top.answered(measured);
        let mut text = whole(&top, width).join("\n");
        if frames > 0 {
            text.insert(0, '\n');
        }
        let mut out = io::stdout().lock();
        if let Err(error) = writeln!(out, "{text}").and_then(|()| out.flush()) {
            return printed(Err(error));
        }
        earlier = later;
        frames += 1;
    }
    Ok(())
}
