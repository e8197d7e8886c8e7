//! `pointsman replay`.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{FAILURE, Failure, load, printed};
use crate::director::plan;
use crate::replay::{self, Outcome, Replay};
use crate::table::ForwardingTable;
use crate::wire::MacAddress;

/// Arguments of `replay`.
#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// Configuration file
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Capture file to read (pcap, Ethernet)
    #[arg(short, long = "in", value_name = "FILE")]
    input: PathBuf,
    /// Capture file to write the frames to that would leave; an existing one is replaced
    #[arg(short, long = "out", value_name = "FILE")]
    output: PathBuf,
    /// The director's own MAC address: frames to others are left alone. Without it every frame counts as sent to the
    /// director
    #[arg(long, value_name = "MAC")]
    mac: Option<MacAddress>,
    /// Print one line of JSON for each frame
    #[arg(long)]
    json: bool,
}

/// One frame's line of JSON.
#[derive(Debug, Serialize)]
struct Line<'a> {
    index: u64,
    verdict: &'static str,
    reason: &'static str,
    service: Option<&'a str>,
    real_server: Option<std::net::IpAddr>,
    dst_mac: Option<MacAddress>,
}

/// Replays a capture.
pub(super) fn run(args: &ReplayArgs) -> Result<(), Failure> {
    let config = load(&args.config)?;
    let source = args.mac.unwrap_or(plan::STAND_IN_SOURCE);
    let table = ForwardingTable::build(&plan::offline_plan(&config, source), None);
    let names: Vec<String> = table.services().iter().map(|service| service.key.to_string()).collect();
    let flows = config.director.flows_per_worker as usize;
    let mut replay = Replay::new(&table, args.mac.into_iter().collect(), flows)
        .map_err(|error| Failure { message: format!("cannot get memory for {flows} flows: {error}"), code: FAILURE })?;
    let mut out = BufWriter::new(io::stdout().lock());
    let mut summary = Summary::default();
    let result = replay::file(&args.input, &args.output, &mut replay, |index, outcome| {
        let line = line(index, outcome, &table, &names);
        summary.count(&line);
        if args.json {
            serde_json::to_writer(&mut out, &line)?;
            writeln!(out)?;
        }
        Ok(())
    });
    if !args.json {
        printed(summary.print(&mut out))?;
    }
    printed(out.flush())?;
    match result {
        Ok(()) => Ok(()),
        Err(replay::ReplayError::Report(error)) => printed(Err(error)),
        Err(error) => Err(Failure { message: super::with_causes(&error), code: FAILURE }),
    }
}

fn line<'a>(index: u64, outcome: &Outcome, table: &ForwardingTable, names: &'a [String]) -> Line<'a> {
    let service = outcome.service.and_then(|position| names.get(position as usize)).map(String::as_str);
    let real_server = outcome.real_server.and_then(|position| table.real_servers().get(position as usize));
    Line {
        index,
        verdict: outcome.verdict,
        reason: outcome.reason,
        service,
        real_server: real_server.map(|real_server| real_server.address),
        dst_mac: outcome.dst_mac,
    }
}

#[derive(Debug, Default)]
struct Summary {
    frames: u64,
    by_reason: BTreeMap<(&'static str, &'static str), u64>,
    by_real_server: BTreeMap<(String, String), u64>,
}

impl Summary {
    fn count(&mut self, line: &Line<'_>) {
        self.frames += 1;
        *self.by_reason.entry((line.verdict, line.reason)).or_default() += 1;
        if let (Some(service), Some(real_server)) = (line.service, line.real_server) {
            *self.by_real_server.entry((service.to_owned(), real_server.to_string())).or_default() += 1;
        }
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{} frames", self.frames)?;
        for ((verdict, reason), count) in &self.by_reason {
            writeln!(out, "  {verdict:<5} {reason:<20} {count:>10}")?;
        }
        for ((service, real_server), count) in &self.by_real_server {
            writeln!(out, "  {service} -> {real_server}: {count}")?;
        }
        Ok(())
    }
}
