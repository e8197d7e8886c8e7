//! `pointsman neighbors`: how the running director reaches the real servers.

use std::io::{self, Write};

use clap::Args;

use super::change::SocketArgs;
use super::{Failure, printed, table};
use crate::control::change::NEXT_HOPS;
use crate::control::command::{NextHopReport, NextHopState};

/// Arguments of `neighbors`.
#[derive(Debug, Args)]
pub(super) struct NeighborsArgs {
    /// Print the JSON document as the director gives it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

/// Asks and prints.
pub(super) fn run(args: &NeighborsArgs) -> Result<(), Failure> {
    let client = args.socket.client();
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = if args.json {
        writeln!(out, "{}", client.document(NEXT_HOPS)?)
    } else {
        let rows: Vec<_> = client.next_hops()?.into_iter().map(row).collect();
        table::print(&mut out, ["real server", "device", "mac", "state"], &rows, &[])
    };
    printed(written.and_then(|()| out.flush()))
}

fn row(next_hop: NextHopReport) -> [String; 4] {
    let state = match next_hop.state {
        NextHopState::Missing if next_hop.problem.is_some() => "missing: no way to it (--json tells why)",
        NextHopState::Configured => "configured",
        NextHopState::Known => "known",
        NextHopState::Missing => "missing: nobody answers for it",
    };
    [
        next_hop.address.to_string(),
        next_hop.device.unwrap_or_else(|| "-".to_owned()),
        next_hop.mac.map_or_else(|| "-".to_owned(), |mac| mac.to_string()),
        state.to_owned(),
    ]
}
