//! `pointsman sink`.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::generate::failure;
use super::load_run::{self, Ending, Lines};
use super::text::{bytes, count, nanoseconds};
use super::{Failure, printed, tell};
use crate::generator::mark::MAX_FLOWS;
use crate::generator::report::{Document, SinkReport, Verdicts};
use crate::generator::sink::{Sink, SinkPlan};
use crate::port::xsk::BindMode;
use crate::wire::MacAddress;
use crate::xdp::AttachMode;

/// Exit code when something is wrong with what was received.
const UNSOUND: u8 = 3;

const HELP: &str = "\
Examples:
  pointsman sink -i eth1                                        # until Ctrl-C
  pointsman sink -i eth1 --real-server 02:00:00:00:01:00=web1 --real-server 02:00:00:00:02:00=web2 --quiet 2
  pointsman sink -i eth1 -i eth2 --duration 30 --json > received.json

It takes the frames of `pointsman gen` and leaves all others to the kernel. Where it stands for several real servers
behind one interface, only frames that come to that interface are seen: have the switch send them there. One run of a
sink is for one run of each generator.

Exit codes:
  0  all that was received is as it should be
  1  it could not be done
  2  the command line is wrong; nothing was done
  3  something was lost, or is wrong otherwise

docs/generator.md describes what is found, docs/generator.schema.json is the schema of --json.";

/// Arguments of `sink`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct SinkArgs {
    /// Interface to listen on; may be repeated
    #[arg(short, long = "interface", value_name = "NAME", required = true)]
    interfaces: Vec<String>,
    /// Real server that frames may be sent to; may be repeated. Without any, each MAC address is right
    #[arg(long = "real-server", value_name = "MAC[=NAME]", value_parser = parse_real_server)]
    real_servers: Vec<(MacAddress, String)>,
    /// Queues to receive from: 0, 0-3 or 0,2; all if not given
    #[arg(short, long, value_name = "QUEUES", value_parser = load_run::parse_numbers)]
    queues: Option<load_run::Numbers>,
    /// CPU to pin to
    #[arg(long, value_name = "CORE")]
    core: Option<usize>,
    /// Most flows of each stream to remember, at 16 bytes each
    #[arg(long, value_name = "N", default_value_t = MAX_FLOWS, value_parser = load_run::parse_flows)]
    max_flows: u32,
    /// End after so many frames
    #[arg(short, long, value_name = "N", value_parser = load_run::parse_count)]
    count: Option<u64>,
    /// End after so many seconds
    #[arg(short, long, value_name = "SECONDS", value_parser = load_run::parse_duration)]
    duration: Option<Duration>,
    /// End when no frame has come for so many seconds since the last one
    #[arg(long, value_name = "SECONDS", value_parser = load_run::parse_duration)]
    quiet: Option<Duration>,
    /// How the kernel gives frames
    #[arg(long, value_enum, default_value_t = load_run::Mode::Auto)]
    mode: load_run::Mode,
    /// How the XDP program is attached
    #[arg(long, value_enum, default_value_t = Attach::Auto)]
    xdp: Attach,
    /// Tell each second on standard error what was received, also where that is no terminal
    #[arg(long)]
    progress: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Attach {
    /// In the driver, and if that fails in the network core
    Auto,
    /// In the driver
    Native,
    /// In the network core
    Generic,
}

/// Receives until it is over, tells what was found, and says by its exit code whether that is sound.
pub(super) fn run(args: &SinkArgs) -> Result<ExitCode, Failure> {
    let plan = SinkPlan {
        interfaces: args.interfaces.clone(),
        queues: args.queues.as_ref().map(load_run::Numbers::as_u32),
        core: args.core,
        real_servers: args.real_servers.clone(),
        most_flows: args.max_flows as usize,
        duration: args.duration,
        count: args.count,
        quiet: args.quiet,
        mode: BindMode::from(args.mode),
        attach: match args.xdp {
            Attach::Auto => AttachMode::Auto,
            Attach::Native => AttachMode::Native,
            Attach::Generic => AttachMode::Generic,
        },
    };
    let ending = Ending::by_signal()?;
    let sink = Sink::open(plan).map_err(failure)?;
    for warning in sink.warnings() {
        tell(format_args!("warning: {warning}"));
    }
    // Who starts a generator behind it waits for this line.
    tell("the sink is ready");
    let mut lines = Lines::new(args.progress);
    let report = sink
        .run(ending.flag(), |progress| lines.tell("received", progress.elapsed, progress.received))
        .map_err(failure)?;
    let code = if report.sound { ExitCode::SUCCESS } else { ExitCode::from(UNSOUND) };
    let mut out = io::stdout().lock();
    printed(if args.json {
        load_run::print_json(&Document::Sink(report), &mut out)
    } else {
        print(&report, &mut out)
    })?;
    Ok(code)
}

fn print(report: &SinkReport, out: &mut impl Write) -> io::Result<()> {
    let verdicts = &report.verdicts;
    writeln!(
        out,
        "received  {} frames, {} in {:.3} s, of {} flows",
        count(verdicts.received.packets),
        bytes(verdicts.received.bytes),
        report.duration_ns as f64 / 1e9,
        count(verdicts.flows)
    )?;
    if verdicts.received.packets > 0 {
        writeln!(out, "rate      {}", load_run::rate(report.received_pps, report.received_bits_per_s))?;
    }
    writeln!(out, "verdict   {}", verdict(verdicts))?;
    let latency = &report.latency;
    if let (Some(min), Some(p50), Some(p99), Some(p99_9), Some(max)) =
        (latency.min, latency.p50, latency.p99, latency.p99_9, latency.max)
    {
        let [min, p50, p99, p99_9, max] = [min, p50, p99, p99_9, max].map(|value| nanoseconds(value as f64));
        writeln!(
            out,
            "latency   min {min}, p50 {p50}, p99 {p99}, p99.9 {p99_9}, max {max}, one way, of one host's clock"
        )?;
    }
    for server in &report.real_servers {
        writeln!(
            out,
            "{}  {} frames, {} flows{}",
            server.mac,
            count(server.received.packets),
            count(server.flows),
            server.name.as_ref().map(|name| format!(", {name}")).unwrap_or_default()
        )?;
    }
    for interface in &report.interfaces {
        for (queue, rings) in interface.queues.iter().filter_map(|queue| Some((queue.queue, queue.ring_statistics?))) {
            let lost = rings.rx_dropped + rings.rx_ring_full;
            if lost > 0 {
                let lost = count(lost);
                writeln!(out, "{} queue {queue}: {lost} frames came faster than the sink took them", interface.name)?;
            }
        }
    }
    Ok(())
}

/// What is wrong, in a line.
fn verdict(verdicts: &Verdicts) -> String {
    let faults = [
        (verdicts.lost, "lost"),
        (verdicts.duplicates, "twice"),
        (verdicts.reordered, "out of order"),
        (verdicts.late, "late"),
        (verdicts.corrupted, "damaged"),
        (verdicts.foreign, "foreign"),
        (verdicts.wrong_mac, "for an unknown MAC address"),
        (verdicts.affinity_breaks, "at another real server than their flow's frame before"),
        (verdicts.untracked, "of flows without room (--max-flows)"),
        (verdicts.before_sent, "before they were sent: the clocks of two hosts"),
    ];
    let found: Vec<String> = faults
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, what)| format!("{} {what}", count(*number)))
        .collect();
    match &found[..] {
        [] => "nothing lost, twice, out of order, damaged or astray".to_owned(),
        found => found.join("; "),
    }
}

fn parse_real_server(text: &str) -> Result<(MacAddress, String), String> {
    let (mac, name) = text.split_once('=').unwrap_or((text, text));
    let mac: MacAddress = mac.parse().map_err(|error: crate::wire::ParseMacError| error.to_string())?;
    if !mac.is_station() || name.is_empty() {
        return Err("write the MAC address of a real server and a name, as 02:00:00:00:01:00=web1".to_owned());
    }
    Ok((mac, name.to_owned()))
}
