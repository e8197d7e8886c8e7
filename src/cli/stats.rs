//! `pointsman stats`: asks the running director for its statistics and prints them.

mod times;

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::text::{bytes, count, duration, nanoseconds, per_second, percent, wrap, wrap_pieces};
use crate::config::DEFAULT_CONTROL_SOCKET;
use crate::control::client::{Client, ClientError};
use crate::flow::MemoryKind;
use crate::stats::report::{
    Drops, HealthCheckReport, HealthState, InterfaceReport, Latency, QueueReport, Rate, RealServerReport, Report,
    StandingReport, Totals, VirtualServiceReport, WorkerReport,
};

pub use times::{MergeArgs, TimesError, write_hlog};

/// Columns that the text fits in.
const WIDTH: usize = 80;

/// Arguments of `pointsman stats`.
#[derive(Args, Clone, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  pointsman stats
  pointsman stats --json | jq .totals.latency
  pointsman stats --hlog now.hlog      # for HdrHistogram's tools
  pointsman stats merge a.json b.json  # latencies of two directors together"
)]
pub struct StatsArgs {
    /// Control socket of the director
    #[arg(long, value_name = "PATH", default_value = DEFAULT_CONTROL_SOCKET)]
    pub socket: PathBuf,
    /// Print the JSON document as the director gives it (docs/stats.md tells its fields)
    #[arg(long)]
    pub json: bool,
    /// Write the histograms of latency to FILE instead, as a log of HdrHistogram (version 2); - is the standard output
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub hlog: Option<PathBuf>,
    /// What else to do
    #[command(subcommand)]
    pub command: Option<StatsCommand>,
}

/// What `pointsman stats` does with documents that are there.
#[derive(Clone, Debug, Subcommand)]
pub enum StatsCommand {
    /// Add up the latencies of several directors, by their statistics documents
    Merge(MergeArgs),
}

/// Why there is nothing to see.
#[derive(Debug, thiserror::Error)]
pub enum StatsError {
    /// The director gave no statistics.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Histograms could not be read, merged or written.
    #[error(transparent)]
    Times(#[from] TimesError),
    /// They could not be printed.
    #[error("cannot print the statistics: {0}")]
    Output(#[from] io::Error),
}

/// Asks the director and prints what it says to the standard output.
///
/// # Errors
/// [`StatsError`]. That the reader of the output went away (as `head` does) is none.
pub fn run(args: &StatsArgs) -> Result<(), StatsError> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let printed = print_what_is_asked(args, &mut out).and_then(|()| Ok(out.flush()?));
    match printed {
        Err(StatsError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

fn print_what_is_asked(args: &StatsArgs, out: &mut impl Write) -> Result<(), StatsError> {
    if let Some(StatsCommand::Merge(args)) = &args.command {
        return times::run_merge(args, out);
    }
    let client = Client::new(&args.socket);
    if let Some(path) = &args.hlog {
        return Ok(write_hlog(&client.stats()?, path)?);
    }
    if args.json {
        let document = client.stats_document()?;
        writeln!(out, "{}", document.trim_end())?;
    } else {
        print(&client.stats()?, out)?;
    }
    Ok(())
}

/// Prints `report` as text for people, in lines of 80 columns at most.
///
/// # Errors
/// What `out` says.
pub fn print(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let Report { version, hostname, kernel, generation, .. } = report;
    wrap(out, "", &format!("pointsman {version} on {hostname}, Linux {kernel}"), WIDTH)?;
    writeln!(out, "up {}, forwarding table {generation}", duration(report.uptime_ns))?;
    print_rates(&report.totals.rates, out)?;
    print_interfaces(&report.interfaces, out)?;
    print_workers(&report.workers, out)?;
    print_costs(&report.workers, out)?;
    print_flows(report, out)?;
    writeln!(out, "\nVirtual services")?;
    for service in &report.virtual_services {
        print_service(service, out)?;
    }
    print_drops(&report.totals.drops, out)?;
    print_latency(report, out)?;
    print_checks(report, out)?;
    for error in &report.errors {
        wrap(out, "note: ", error, WIDTH)?;
    }
    Ok(())
}

fn print_rates(rates: &[Rate], out: &mut impl Write) -> io::Result<()> {
    if rates.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nRates per second")?;
    writeln!(
        out,
        "  {:>6} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "over", "received", "bits", "sent", "bits", "dropped", "new flows"
    )?;
    for rate in rates {
        writeln!(
            out,
            "  {:>6} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
            format!("{} s", rate.over_s),
            per_second(rate.received_pps.unwrap_or_default()),
            per_second(rate.received_bps.unwrap_or_default()),
            per_second(rate.tx_pps),
            per_second(rate.tx_bps),
            per_second(rate.dropped_pps),
            per_second(rate.new_flows_per_s),
        )?;
    }
    Ok(())
}

fn print_interfaces(interfaces: &[InterfaceReport], out: &mut impl Write) -> io::Result<()> {
    for interface in interfaces {
        writeln!(out, "\nInterface {}, {} XDP", interface.name, interface.mode.name())?;
        if let Some(xdp) = interface.xdp {
            let counts = [
                ("redirected", xdp.redirected),
                ("passed", xdp.passed),
                ("not our MAC", xdp.not_our_mac),
                ("malformed", xdp.malformed),
                ("no socket", xdp.no_socket),
            ];
            let counts = counts.map(|(name, value)| format!("{name} {},", count(value)));
            let errors = format!("redirect errors {}", known(interface.redirect_errors));
            wrap_pieces(out, "  ", counts.into_iter().chain([errors]), WIDTH)?;
        }
        writeln!(
            out,
            "  {:>5} {:>6} {:<9} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "queue", "worker", "mode", "received", "sent", "completed", "no frame", "ring full"
        )?;
        for queue in &interface.queues {
            print_queue(queue, out)?;
        }
    }
    Ok(())
}

fn print_queue(queue: &QueueReport, out: &mut impl Write) -> io::Result<()> {
    let rings = queue.ring_statistics;
    writeln!(
        out,
        "  {:>5} {:>6} {:<9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        queue.queue,
        queue.worker,
        if queue.zero_copy { "zero-copy" } else { "copy" },
        count(queue.rx.packets),
        count(queue.tx.packets),
        count(queue.tx_completed),
        known(rings.map(|rings| rings.rx_dropped)),
        known(rings.map(|rings| rings.rx_ring_full)),
    )
}

fn print_workers(workers: &[WorkerReport], out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\nWorkers")?;
    writeln!(
        out,
        "  {:>6} {:>4} {:>7} {:>9} {:>9} {:>9} {:>9} {:>6} {:>9}",
        "worker", "core", "busy", "received", "sent", "dropped", "unstamped", "burst", "table"
    )?;
    for worker in workers {
        let cycles = u128::from(worker.cycles.busy) + u128::from(worker.cycles.idle);
        let bursts = worker.batch_sizes.iter().fold(0, |sum: u64, size| sum.wrapping_add(size.count));
        let mean_burst = match worker.received.packets.checked_div(bursts) {
            None => "-".to_owned(),
            Some(0..1000) => format!("{:.1}", worker.received.packets as f64 / bursts as f64),
            Some(mean @ 1000..100_000) => mean.to_string(),
            Some(_) => ">99999".to_owned(),
        };
        writeln!(
            out,
            "  {:>6} {:>4} {:>7} {:>9} {:>9} {:>9} {:>9} {mean_burst:>6} {:>9}",
            worker.worker,
            worker.core.map_or("-".to_owned(), |core| core.to_string()),
            percent(u128::from(worker.cycles.busy), cycles),
            count(worker.received.packets),
            count(worker.tx.packets),
            count(worker.drops.total()),
            count(worker.unstamped),
            count(worker.table_generation),
        )?;
    }
    Ok(())
}

/// Where the cycles of the workers went, for each packet that they received.
fn print_costs(workers: &[WorkerReport], out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\nCycles for each packet received, since the start")?;
    for WorkerReport { worker, received, cycles, cost, .. } in workers {
        let each = |cycles: u64| cycles.checked_div(received.packets).map_or("-".to_owned(), count);
        let calls = &cost.system_calls;
        let parts = [
            ("receive", cost.receive),
            ("forward", cost.forward),
            ("send", cost.send),
            ("complete", cost.complete),
            ("refill", cost.refill),
            ("other", cost.other),
            ("sendto", calls.sendto.cycles),
            ("recvfrom", calls.recvfrom.cycles),
            ("poll", calls.poll.cycles),
        ];
        let busy = format!("busy {}:", each(cycles.busy));
        let parts = parts.map(|(name, cycles)| format!("{name} {},", each(cycles)));
        let idle = format!("idle {}", each(cost.idle));
        wrap_pieces(out, &format!("  worker {worker}: "), [busy].into_iter().chain(parts).chain([idle]), WIDTH)?;
    }
    Ok(())
}

fn print_flows(report: &Report, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\nFlow tables")?;
    writeln!(
        out,
        "  {:>6} {:>5} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "worker", "pages", "memory", "new", "no room", "evicted", "by peer", "by former"
    )?;
    for WorkerReport { worker, flows, flow_table, .. } in &report.workers {
        writeln!(
            out,
            "  {worker:>6} {:>5} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
            match flow_table.memory {
                MemoryKind::Huge => "huge",
                MemoryKind::Usual => "usual",
            },
            bytes(flow_table.bytes as u64),
            count(flows.new),
            count(flows.without_room),
            count(flows.evicted),
            count(flows.peer_hits),
            count(flows.previous_table_hits),
        )?;
    }
    let flows = &report.totals.flows;
    let (with, without) = (count(flows.fragment_hits), count(flows.fragment_misses));
    writeln!(out, "  fragments: {with} by their first one, {without} by their addresses")?;
    writeln!(out, "  frames past a real server that is down: {}", count(flows.second_choices))
}

fn print_service(service: &VirtualServiceReport, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "  {}", service.service)?;
    let persistent = service.persistence_timeout_s.map_or_else(String::new, |s| format!(", persistent {s} s"));
    let summary = format!(
        "{} by {}, {} slots{persistent}; {} connections, {} inactive; sent {} ({}), dropped {}",
        service.scheduler,
        service.hash_by,
        count(service.table_size as u64),
        count(service.connections.active),
        count(service.connections.inactive),
        count(service.tx.packets),
        bytes(service.tx.bytes),
        count(service.drops.total()),
    );
    wrap(out, "    ", &summary, WIDTH)?;
    writeln!(out, "    {:<16} {:>6} {:>7} {:>9} {:>9}  next hop", "real server", "weight", "share", "sent", "dropped")?;
    for real_server in &service.real_servers {
        print_real_server(real_server, service.table_size, out)?;
    }
    Ok(())
}

fn print_real_server(real_server: &RealServerReport, table_size: usize, out: &mut impl Write) -> io::Result<()> {
    let mut address = real_server.address.to_string();
    if address.len() > 16 {
        writeln!(out, "    {address}")?;
        address.clear();
    }
    let next_hop = match real_server.next_hop {
        Some(mac) if real_server.alive => mac.to_string(),
        Some(_) => "down".to_owned(),
        None => "unknown: down".to_owned(),
    };
    let next_hop = match real_server.standing {
        StandingReport::Inhibited => format!("inhibited {next_hop}"),
        _ if real_server.fallback => format!("fallback {next_hop}"),
        _ => next_hop,
    };
    let line = format!(
        "    {address:<16} {:>6} {:>7} {:>9} {:>9}  {next_hop}",
        count(real_server.weight.into()),
        percent(real_server.share_slots.into(), table_size as u128),
        count(real_server.tx.packets),
        count(real_server.drops.total()),
    );
    match &real_server.egress {
        Some(egress) if line.len() + egress.len() < WIDTH => writeln!(out, "{line} {egress}"),
        Some(egress) => writeln!(out, "{line}\n{:>WIDTH$}", format!("by {egress}")),
        None => writeln!(out, "{line}"),
    }?;
    print_failed_checks(&real_server.health_checks, out)
}

fn print_failed_checks(checks: &[HealthCheckReport], out: &mut impl Write) -> io::Result<()> {
    for check in checks.iter().filter(|check| check.state == HealthState::Down) {
        let way = if check.via == "direct" { " by direct routing" } else { "" };
        let port = if check.port == 0 { String::new() } else { format!(" {}", check.port) };
        let result = check.last_result.as_deref().unwrap_or("not asked yet");
        wrap(out, "      ", &format!("{}{port}{way} is down: {result}", check.kind), WIDTH)?;
    }
    Ok(())
}

fn print_drops(drops: &Drops, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\nDrops")?;
    if drops.0.values().all(|dropped| *dropped == 0) {
        writeln!(out, "  none")?;
    }
    for (cause, dropped) in drops.0.iter().filter(|(_, dropped)| **dropped > 0) {
        writeln!(out, "  {cause:<16} {:>9}", count(*dropped))?;
    }
    Ok(())
}

fn print_latency(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let Totals { latency, queueing, processing, completion, .. } = &report.totals;
    let workers = report.workers.iter().map(|worker| (format!("w{}", worker.worker), &worker.latency));
    let single = report.workers.len() == 1;
    print_times(workers.filter(|_| !single), [latency, queueing, processing, completion], out)
}

/// Prints the latencies of each of `parts`, then the times of all: in total, queueing, processing, completion.
fn print_times<'a>(
    parts: impl IntoIterator<Item = (String, &'a Latency)>,
    all: [&Latency; 4],
    out: &mut impl Write,
) -> io::Result<()> {
    writeln!(out, "\nLatency from the XDP hook to the TX ring: {} frames", count(all[0].count))?;
    if all.iter().all(|times| times.count == 0) {
        return Ok(());
    }
    write_row("", &["min", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max"], out)?;
    for (label, times) in parts {
        write_row(&label, &latency_cells(times), out)?;
    }
    for (label, times) in ["all", "queued", "worked", "done"].into_iter().zip(all) {
        write_row(label, &latency_cells(times), out)?;
    }
    let legend = "queued: from the XDP hook until a worker read the frame; worked: from there to the TX ring; done: from \
                  there until the worker saw that it was sent (an upper bound)";
    wrap(out, "  ", legend, WIDTH)
}

fn latency_cells(latency: &Latency) -> [String; 8] {
    let exact = |value: Option<u64>| value.map(|value| value as f64);
    [
        exact(latency.min),
        latency.mean,
        exact(latency.p50),
        exact(latency.p90),
        exact(latency.p99),
        exact(latency.p99_9),
        exact(latency.p99_99),
        exact(latency.max),
    ]
    .map(|value| value.map_or("-".to_owned(), nanoseconds))
}

fn write_row(label: &str, cells: &[impl AsRef<str>], out: &mut impl Write) -> io::Result<()> {
    write!(out, "  {label:<6}")?;
    for cell in cells {
        write!(out, " {:>8}", cell.as_ref())?;
    }
    writeln!(out)
}

fn print_checks(report: &Report, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\nChecks (a few frames off under load, exact at rest)")?;
    let identity = &report.identity;
    let checks = [
        ("redirected = received + lost on the way", identity.redirects.difference),
        ("received = sent + dropped", Some(identity.verdicts.difference)),
        ("frames = free + lent to the kernel", Some(identity.frames.difference)),
    ];
    for (name, difference) in checks {
        let result = match difference {
            None => "cannot be told".to_owned(),
            Some(0) => "exact".to_owned(),
            Some(difference) => format!("off by {difference}"),
        };
        writeln!(out, "  {name:<40} {result}")?;
    }
    Ok(())
}

fn known(value: Option<u64>) -> String {
    value.map_or("?".to_owned(), count)
}
