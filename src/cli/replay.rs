//! `pointsman replay`.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::iter;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{FAILURE, Failure, load, printed};
use crate::config::Config;
use crate::director::plan;
use crate::forward::How;
use crate::replay::{self, Outcome, Replay};
use crate::table::ForwardingTable;
use crate::wire::{MacAddress, ParseMacError};

const NOTES: &str = "\
A real server without a mac in the configuration gets one that stands in: 02:04 and the four bytes
of its IPv4 address, or 02:06 and the last four of its IPv6 address. Frames leave with the source
address of --mac, or 02:00:00:00:00:01. Time is that of the capture. Frames over the mtu of the
first [[interface]] (1500 if not set) are dropped.

With --json, each line has index (from 0), verdict (tx, pass or drop), reason, service, real_server,
by and dst_mac; the last four are null where there is none. `pass` is what a running director leaves
to the kernel. `by` is by what the real server was chosen: the flow's entry, hash, turn (scheduler
rr, wrr, lc or wlc), client (persistence), connection_id, first_fragment or address_hash.";

/// Arguments of `replay`.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
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
    /// The director's own MAC address: frames to others are left alone, unless the configuration has them among
    /// virtual_macs. Without it every frame counts as sent to the director
    #[arg(long, value_name = "MAC", value_parser = parse_mac)]
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
    real_server: Option<IpAddr>,
    by: Option<&'static str>,
    dst_mac: Option<MacAddress>,
}

/// Replays a capture.
pub(super) fn run(args: &ReplayArgs) -> Result<(), Failure> {
    let config = load(&args.config)?;
    let source = args.mac.unwrap_or(plan::STAND_IN_SOURCE);
    let table = ForwardingTable::build(&plan::offline_plan(&config, source), None);
    let names: Vec<String> = table.services().iter().map(|service| service.key.to_string()).collect();
    let flows = config.director.flows_per_worker as usize;
    let mut replay = Replay::new(&table, local_macs(args.mac, &config), flows)
        .map_err(|error| Failure { message: format!("cannot get memory for {flows} flows: {error}"), code: FAILURE })?;
    let mut out = BufWriter::new(io::stdout().lock());
    let mut summary = Summary::default();
    let mut wanted = args.json;
    let result = replay::file(&args.input, &args.output, &mut replay, |index, outcome| {
        let line = line(index, outcome, &table, &names);
        summary.count(&line);
        if wanted && let Err(error) = write_line(&line, &mut out) {
            // Who stops reading the lines still gets the whole output file.
            wanted = false;
            return if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) };
        }
        Ok(())
    });
    let summarized =
        if args.json || (result.is_err() && summary.frames == 0) { Ok(()) } else { summary.print(&mut out) };
    let flushed = summarized.and_then(|()| out.flush());
    match result {
        Ok(()) => printed(flushed),
        Err(error) => Err(Failure::new(error)),
    }
}

/// The addresses that count as the director's own; none for all.
fn local_macs(mac: Option<MacAddress>, config: &Config) -> Vec<MacAddress> {
    let virtual_macs = config.interfaces.iter().flat_map(|interface| interface.virtual_macs.iter().copied());
    mac.map(|mac| iter::once(mac).chain(virtual_macs).collect()).unwrap_or_default()
}

fn parse_mac(text: &str) -> Result<MacAddress, String> {
    let mac: MacAddress = text.parse().map_err(|error: ParseMacError| error.to_string())?;
    if mac.is_multicast() || mac.is_zero() {
        return Err("no interface has this address; use that of one station, as 02:00:00:00:01:00".to_owned());
    }
    Ok(mac)
}

fn write_line(line: &Line<'_>, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    writeln!(out)
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
        by: outcome.by.map(How::name),
        dst_mac: outcome.dst_mac,
    }
}

#[derive(Debug, Default)]
struct Summary<'a> {
    frames: u64,
    by_reason: BTreeMap<(&'static str, &'static str), u64>,
    by_real_server: BTreeMap<(&'a str, IpAddr), u64>,
}

impl<'a> Summary<'a> {
    fn count(&mut self, line: &Line<'a>) {
        self.frames += 1;
        *self.by_reason.entry((line.verdict, line.reason)).or_default() += 1;
        if let (Some(service), Some(real_server)) = (line.service, line.real_server) {
            *self.by_real_server.entry((service, real_server)).or_default() += 1;
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
