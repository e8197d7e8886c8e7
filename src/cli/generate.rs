//! `pointsman gen`.

use std::io::{self, Write};
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::load_run::{self, Ending, Lines};
use super::text::{bytes, count, nanoseconds};
use super::{Failure, printed, tell};
use crate::generator::GeneratorError;
use crate::generator::flows::{AddressRange, FlowOrder, FlowPlan, PortRange, ServiceRange};
use crate::generator::report::{Document, GeneratorReport};
use crate::generator::send::{Generator, MAX_BURST, SendPlan};
use crate::generator::template::{FrameSizes, TcpShape};
use crate::port::xsk::BindMode;
use crate::wire::MacAddress;

pub(super) const EXAMPLES: &str = "\
Examples:
  pointsman gen -i eth1 -s \"udp 192.168.88.15:80\" --rate 100k --duration 10
  pointsman gen -i eth1 -s \"tcp 192.168.88.15:80\" --flows 1M --order shuffled --rate max --count 10M
  pointsman gen -i eth1 -s \"udp 10.1.0.1-10.1.3.232:53\" --flows 4M --size imix --queues 0-3 --cores 4-7 --rate 2M
  pointsman gen -i eth1 -s \"udp [2001:db8::15]:80\" --to 02:00:00:00:00:02 --json > sent.json

It sends on the interface named and on no other, until --count or --duration is over or Ctrl-C is pressed. What
arrives, `pointsman sink` tells; start that first. docs/generator.md describes both, docs/generator.schema.json is
the schema of --json.";

/// Arguments of `gen`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct GenArgs {
    /// Interface to send by
    #[arg(short, long, value_name = "NAME")]
    interface: String,
    /// Virtual service to send to, with ranges of addresses and ports: "udp 10.0.0.1-10.0.0.9:80-89"; may be repeated
    #[arg(short, long = "service", value_name = "SERVICE", required = true)]
    services: Vec<ServiceRange>,
    /// MAC address of the director; else the next hop to the first virtual service is asked for
    #[arg(long, value_name = "MAC")]
    to: Option<MacAddress>,
    /// Addresses that flows come from, as 198.18.0.0/16 or 10.0.0.1-10.0.0.99; once for IPv4 and once for IPv6
    #[arg(long = "source", value_name = "ADDRESSES", default_values = ["198.18.0.0/16", "2001:2::/112"])]
    sources: Vec<AddressRange>,
    /// Ports that flows come from
    #[arg(long, value_name = "PORTS", default_value_t)]
    source_ports: PortRange,
    /// Number of flows, as 1000, 64k or 10M
    #[arg(short, long, value_name = "N", default_value = "1000", value_parser = load_run::parse_flows)]
    flows: u32,
    /// Order in which flows take their turns: sequential, shuffled, zipf or zipf:1.2
    #[arg(long, value_name = "ORDER", default_value_t = FlowOrder::Sequential)]
    order: FlowOrder,
    /// Where orders other than sequential begin; the same number gives the same order
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Bytes of a frame without check sequence: one size, sizes with their parts as 64:7,590:4,1514:1, or imix for those
    #[arg(long, value_name = "SIZES", default_value = "64")]
    size: FrameSizes,
    /// What is sent to TCP services: segments that open a connection, or that belong to an open one
    #[arg(long, value_enum, default_value_t = Tcp::Syn)]
    tcp: Tcp,
    /// Frames in a second over all queues, as 1k, 250k or 1.5M; max for as many as can be
    #[arg(short, long, value_name = "PPS", default_value = "1k", value_parser = parse_rate)]
    rate: Rate,
    /// Most frames that a queue is given at once, also where the generator is behind
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = parse_burst)]
    burst: usize,
    /// End after so many frames
    #[arg(short, long, value_name = "N", value_parser = load_run::parse_count)]
    count: Option<u64>,
    /// End after so many seconds
    #[arg(short, long, value_name = "SECONDS", value_parser = load_run::parse_duration)]
    duration: Option<Duration>,
    /// Queues to send by, a thread for each: 0, 0-3 or 0,2
    #[arg(short, long, value_name = "QUEUES", default_value = "0", value_parser = load_run::parse_numbers)]
    queues: load_run::Numbers,
    /// CPUs to pin the threads to, one for each queue: 2, 4-7
    #[arg(long, value_name = "CORES", value_parser = load_run::parse_numbers)]
    cores: Option<load_run::Numbers>,
    /// Number of the first thread's stream, which is in each frame: for several generators and one sink
    #[arg(long, value_name = "N", default_value_t = 0)]
    stream: u8,
    /// How the kernel gets frames
    #[arg(long, value_enum, default_value_t = load_run::Mode::Auto)]
    mode: load_run::Mode,
    /// Tell each second on standard error what was sent, also where that is no terminal
    #[arg(long)]
    progress: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Tcp {
    /// SYN
    Syn,
    /// ACK
    Ack,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Rate(Option<f64>);

/// Sends until it is over, and tells what was sent.
pub(super) fn run(args: &GenArgs) -> Result<(), Failure> {
    let plan = plan(args)?;
    let ending = Ending::by_signal()?;
    let generator = Generator::open(plan).map_err(failure)?;
    for warning in generator.warnings() {
        tell(format_args!("warning: {warning}"));
    }
    let mut lines = Lines::new(args.progress);
    let report = generator
        .run(ending.flag(), |progress| lines.tell("sent", progress.elapsed, progress.sent))
        .map_err(failure)?;
    let mut out = io::stdout().lock();
    printed(if args.json {
        load_run::print_json(&Document::Generator(report), &mut out)
    } else {
        print(&report, &mut out)
    })
}

fn plan(args: &GenArgs) -> Result<SendPlan, Failure> {
    let services: Vec<_> = args.services.iter().flat_map(ServiceRange::services).collect();
    let of_family = |v4: bool| {
        let mut fitting = args.sources.iter().filter(|range| range.first().is_ipv4() == v4);
        match (fitting.next(), fitting.next()) {
            (Some(range), None) => Ok(*range),
            (Some(_), Some(_)) => {
                Err(Failure::bad_input("--source: write one range for IPv4 and one for IPv6 at most"))
            }
            // One that is never used, or found to be too small.
            (None, _) => {
                let default = if v4 { "198.18.0.0/16" } else { "2001:2::/112" };
                default.parse().map_err(Failure::bad_input)
            }
        }
    };
    let flows = FlowPlan::new(services, [of_family(true)?, of_family(false)?], args.source_ports, args.flows)
        .map_err(Failure::bad_input)?;
    Ok(SendPlan {
        interface: args.interface.clone(),
        queues: args.queues.as_u32(),
        cores: args.cores.as_ref().map(load_run::Numbers::as_usize).unwrap_or_default(),
        destination: args.to,
        flows,
        order: args.order,
        seed: args.seed,
        sizes: args.size.clone(),
        tcp: match args.tcp {
            Tcp::Syn => TcpShape::Syn,
            Tcp::Ack => TcpShape::Ack,
        },
        rate_pps: args.rate.0,
        burst: args.burst,
        count: args.count,
        duration: args.duration,
        stream: args.stream,
        mode: BindMode::from(args.mode),
    })
}

/// An error with its exit code.
pub(super) fn failure(error: GeneratorError) -> Failure {
    match error {
        GeneratorError::Input(sentence) => Failure::bad_input(sentence),
        error => Failure::new(error),
    }
}

fn print(report: &GeneratorReport, out: &mut impl Write) -> io::Result<()> {
    let GeneratorReport { sent, duration_ns, wanted_pps, most_behind_ns, .. } = report;
    let seconds = *duration_ns as f64 / 1e9;
    writeln!(
        out,
        "sent      {} frames, {} in {seconds:.3} s by {} to {}",
        count(sent.packets),
        bytes(sent.bytes),
        report.interface,
        report.destination_mac
    )?;
    let rate = load_run::rate(report.sent_pps, report.sent_bits_per_s);
    match wanted_pps {
        Some(wanted) => writeln!(
            out,
            "rate      {rate}; {} frames/s were asked for, and a frame was at most {} late",
            load_run::scaled(*wanted),
            nanoseconds(*most_behind_ns as f64)
        )?,
        None => writeln!(out, "rate      {rate}, as many as could be")?,
    }
    writeln!(
        out,
        "flows     {}, {}, to {} virtual service{}, the first is {}",
        count(u64::from(report.flows)),
        report.flow_order,
        count(report.virtual_services as u64),
        if report.virtual_services == 1 { "" } else { "s" },
        report.first_virtual_service
    )?;
    if report.unsent > 0 {
        writeln!(out, "unsent    {} of these frames had not left when the generator ended", count(report.unsent))?;
    }
    if let Some(dropped @ 1..) = report.interface_tx_dropped {
        writeln!(out, "dropped   {} frames by {} itself", count(dropped), report.interface)?;
    }
    for thread in &report.threads {
        writeln!(
            out,
            "queue {:<3} {} frames, {} calls of the kernel ({} refused), {}, stream {}{}",
            thread.queue,
            count(thread.sent.packets),
            count(thread.tx_kicks),
            count(thread.tx_kick_errors),
            if thread.zero_copy { "zero copy" } else { "copied" },
            thread.stream,
            thread.core.map(|core| format!(", core {core}")).unwrap_or_default()
        )?;
    }
    Ok(())
}

fn parse_rate(text: &str) -> Result<Rate, String> {
    if text == "max" {
        return Ok(Rate(None));
    }
    let number = text.strip_suffix("pps").unwrap_or(text).trim_end();
    let rate = load_run::parse_scaled(number).filter(|rate| (1.0..=1e9).contains(rate));
    rate.map(|rate| Rate(Some(rate))).ok_or_else(|| "write frames in a second, as 1k, 250k or 1.5M, or max".to_owned())
}

fn parse_burst(text: &str) -> Result<usize, String> {
    let burst = text.parse().ok().filter(|burst| (1..=MAX_BURST).contains(burst));
    burst.ok_or_else(|| format!("write a number from 1 to {MAX_BURST}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_with_their_units() {
        for (text, rate) in [("1k", 1e3), ("250kpps", 250e3), ("1.5M", 1.5e6), ("7", 7.0)] {
            assert_eq!(parse_rate(text), Ok(Rate(Some(rate))), "{text}");
        }
        assert_eq!(parse_rate("max"), Ok(Rate(None)));
        for text in ["", "0", "-1", "1T", "k", "nan", "inf", "1e30"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }
}
