//! `pointsman plan`.

mod print;
mod table;

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{FAILURE, Failure, load, load_run, printed};
use crate::config::{Config, InterfaceConfig};
use crate::plan::{self, Demand, InputError};
use crate::stats::recorded::ReadError;

pub(super) const EXAMPLES: &str = "\
Examples:
  pointsman stats --json > before.json; sleep 60; pointsman stats --json > after.json
  pointsman plan before.json after.json --rate 20Mpps --headroom 30% --failures 1 --link 25G
  pointsman plan series.jsonl --rate 5Mpps --frame-size 590 --cores 8 --flows 10M --json
  pointsman plan --table --config director.toml

A run is what one director did between two of its statistics documents, or since its start: one file, the first and the
last, or a series of JSON lines. Take it at a third to a half of what the director can do: it is read how a burst's cost
grows with its frames, and what full bursts make of that.

Exit codes:
  0  done
  1  a file could not be read
  2  the command line or the configuration is wrong, or a file is empty, cut off, of a later pointsman, of a run without
     traffic or no statistics document

What the figures mean and what they rest on: docs/plan.md.";

/// Arguments of `plan`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct PlanArgs {
    /// Statistics of one run (stats --json, run --stats-file): documents or JSON lines; - for standard input
    #[arg(value_name = "RUN.json", required_unless_present = "table")]
    runs: Vec<PathBuf>,
    /// Frames in a second, on all machines together: 20Mpps, 500k
    #[arg(short, long, value_name = "RATE", required_unless_present = "table", value_parser = parse_rate)]
    rate: Option<f64>,
    /// Bytes of a frame from the destination MAC on, without check sequence (RFC 2544's 64 are 60); else those of the run
    #[arg(long, value_name = "BYTES", value_parser = parse_frame_size)]
    frame_size: Option<f64>,
    /// The part of each core and link that is to stay free, also after failures
    #[arg(long, value_name = "PERCENT", default_value = "30%", value_parser = parse_percent)]
    headroom: f64,
    /// Machines that may fail at once
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=1_000_000))]
    failures: u64,
    /// Speed of a machine's link, in bits in a second and direction: 25G; else it is no limit
    #[arg(long, value_name = "BITS", value_parser = parse_link)]
    link: Option<f64>,
    /// Cores for workers in a machine; else as many as the run had workers
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    cores: Option<u64>,
    /// Flows at once on all machines together: 10M; else those of the run grow with the rate
    #[arg(long, value_name = "N", value_parser = load_run::parse_count)]
    flows: Option<u64>,
    /// Configuration of the directors: batch, rx_ring and flows_per_worker; else their defaults
    #[arg(short, long, value_name = "FILE", required_if_eq("table", "true"))]
    config: Option<PathBuf>,
    /// Look at the forwarding table of a configuration instead: shares, and what each single change moves
    #[arg(
        long,
        requires = "config",
        conflicts_with_all = ["runs", "rate", "frame_size", "headroom", "failures", "link", "cores", "flows"]
    )]
    table: bool,
    /// With --table: look at every change, however long it takes
    #[arg(long, requires = "table")]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints the plan.
pub(super) fn run(args: &PlanArgs) -> Result<(), Failure> {
    let config = args.config.as_deref().map(load).transpose()?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    if let (true, Some(config)) = (args.table, &config) {
        let written = table::print(config, args.all, args.json, &mut out);
        return printed(written.and_then(|()| out.flush()));
    }
    let run = plan::read_run(&args.runs).map_err(|error| Failure {
        code: if matches!(error, InputError::Read(ReadError::Unreadable { .. })) { FAILURE } else { super::BAD_INPUT },
        message: error.to_string(),
    })?;
    let demand = demand(args, config.as_ref());
    let plan = plan::plan(&run, &demand).ok_or_else(|| {
        Failure::bad_input(
            "the run has no cycles of bursts, by which a core could be judged: measure with this version",
        )
    })?;
    let written = if args.json {
        let document = json!({
            "schema_version": 1,
            "run": {
                "hostname": run.hostname,
                "version": run.version,
                "seconds": run.span_ns as f64 / 1e9,
                "workers": run.workers.len(),
                "frames_per_s": run.rate_pps(),
                "frame_bytes": run.frame_bytes(),
                "load": run.load(),
            },
            "rate_pps": demand.rate_pps,
            "headroom": demand.headroom,
            "failures": demand.failures,
            "plan": plan,
        });
        serde_json::to_writer_pretty(&mut out, &document).map_err(io::Error::from).and_then(|()| writeln!(out))
    } else {
        print::print(&run, &demand, &plan, &mut out)
    };
    printed(written.and_then(|()| out.flush()))
}

/// What the command line asks for; rings and bursts are the smallest of the configuration's interfaces.
fn demand(args: &PlanArgs, config: Option<&Config>) -> Demand {
    let usual = InterfaceConfig::named("");
    let interfaces = || config.into_iter().flat_map(|config| &config.interfaces).filter(|interface| interface.receive);
    Demand {
        rate_pps: args.rate.unwrap_or_default(),
        frame_bytes: args.frame_size,
        headroom: args.headroom,
        failures: args.failures,
        link_bps: args.link,
        cores_per_machine: args.cores,
        flows: args.flows,
        batch: interfaces().map(|interface| interface.batch).min().unwrap_or(usual.batch),
        rx_ring: interfaces().map(|interface| interface.rx_ring).min().unwrap_or(usual.rx_ring),
        flows_per_worker: config.map(|config| u64::from(config.director.flows_per_worker)),
    }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("pps").unwrap_or(text);
    load_run::parse_scaled(number)
        .filter(|rate| (1.0..=1e15).contains(rate))
        .ok_or_else(|| "write frames in a second from 1 on, as 20Mpps or 500k".to_owned())
}

fn parse_link(text: &str) -> Result<f64, String> {
    let number = ["bit/s", "bps"].iter().find_map(|unit| text.strip_suffix(unit)).unwrap_or(text);
    load_run::parse_scaled(number)
        .filter(|bits| (1e3..=1e15).contains(bits))
        .ok_or_else(|| "write bits in a second, as 25G or 100Gbit/s".to_owned())
}

fn parse_percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim_end().parse::<f64>();
    let percent = number.ok().filter(|percent| (0.0..=95.0).contains(percent));
    percent.map(|percent| percent / 100.0).ok_or_else(|| "write a percentage from 0 to 95, as 30%".to_owned())
}

fn parse_frame_size(text: &str) -> Result<f64, String> {
    let bytes = text.parse::<u32>().ok().filter(|bytes| (14..=65_536).contains(bytes));
    bytes.map(f64::from).ok_or_else(|| "write a number of bytes from 14 to 65536".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_links_and_parts_are_read_as_people_write_them() {
        for (text, rate) in [("20Mpps", 20e6), ("500k", 500e3), ("1.5M", 1.5e6), ("7", 7.0)] {
            assert_eq!(parse_rate(text), Ok(rate), "{text}");
        }
        for (text, bits) in [("25G", 25e9), ("100Gbit/s", 100e9), ("400Gbps", 400e9)] {
            assert_eq!(parse_link(text), Ok(bits), "{text}");
        }
        for (text, part) in [("30%", 0.3), ("30", 0.3), ("0%", 0.0), ("12.5 %", 0.125)] {
            assert_eq!(parse_percent(text), Ok(part), "{text}");
        }
        for text in ["", "0", "-1", "Mpps", "fast", "inf", "1e99"] {
            assert!(parse_rate(text).is_err(), "{text}");
            assert!(parse_link(text).is_err(), "{text}");
        }
        assert!(parse_percent("100%").is_err() && parse_percent("-1").is_err());
        assert!(parse_frame_size("13").is_err() && parse_frame_size("1e3").is_err());
    }
}
