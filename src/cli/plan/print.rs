//! A plan for people.

use std::io::{self, Write};

use super::super::load_run::scaled;
use super::super::table;
use super::super::text::{duration, nanoseconds, wrap};
use crate::plan::{Demand, Limit, Machines, Plan, Run};

/// Columns that the text fits in.
const WIDTH: usize = 80;

/// Prints the plan: the answer first.
pub(super) fn print(run: &Run, demand: &Demand, plan: &Plan, out: &mut impl Write) -> io::Result<()> {
    let Machines { machines, cores_each, cores } = plan.machines;
    let answer = format!(
        "{} frames/s need {} with {} for workers each: {} in all, {} headroom{}.",
        scaled(demand.rate_pps),
        of(machines, "machine"),
        of(cores_each, "core"),
        of(cores, "core"),
        percent(demand.headroom),
        if demand.failures > 0 { format!(" left after {}", of(demand.failures, "failure")) } else { String::new() },
    );
    wrap(out, "", &answer, WIDTH)?;
    wrap(out, "", &how_sure(plan), WIDTH)?;
    print_limits(plan, demand, out)?;
    print_core(plan, out)?;
    print_run(run, out)?;
    writeln!(out, "\nThis rests on")?;
    for assumption in &plan.assumptions {
        wrap(out, "  - ", assumption, WIDTH)?;
    }
    if !plan.warnings.is_empty() {
        writeln!(out)?;
    }
    for warning in &plan.warnings {
        wrap(out, "warning: ", warning, WIDTH)?;
    }
    Ok(())
}

fn how_sure(plan: &Plan) -> String {
    let (planned, likely, best) = (plan.machines, plan.likely, plan.at_best);
    let form = |of_it: Machines| format!("{} x {}", of_it.machines, of_it.cores_each);
    if planned == best {
        return format!("It is {} at both ends of what a core can do.", form(planned));
    }
    format!(
        "This is by the low end of what a core can do; by the likely figure it is {}, by the high end {}.",
        form(likely),
        form(best)
    )
}

fn print_limits(plan: &Plan, demand: &Demand, out: &mut impl Write) -> io::Result<()> {
    writeln!(out)?;
    let row = |limit: &Limit| {
        [
            limit.what.name().to_owned(),
            percent(limit.used),
            percent(limit.used_after_failures),
            percent(limit.used_at_worst),
            scaled(limit.breaks_at_pps),
        ]
    };
    let rows: Vec<_> = plan.limits.iter().map(row).collect();
    let after =
        if demand.failures > 0 { format!("after {}", of(demand.failures, "failure")) } else { "same".to_owned() };
    table::print(out, ["used of each", "all up", &after, "at worst", "breaks at, frames/s"], &rows, &[1, 2, 3, 4])?;
    if let Some(first) = plan.limits.first() {
        writeln!(out, "What breaks first: {}.", first.what.name())?;
    }
    writeln!(out, "On the wire of each machine: {}bit/s in each direction.", scaled_unit(plan.link_bps))?;
    match plan.kernel_cores {
        Some(cores) if cores >= 0.005 => {
            let text = format!(
                "Besides, the kernel takes {cores:.2} cores in all for receiving on CPUs that no worker is pinned to, as in \
                 the run."
            );
            wrap(out, "", &text, WIDTH)
        }
        Some(_) => Ok(()),
        None => wrap(out, "", "What the kernel takes on other CPUs was not measured in the run.", WIDTH),
    }
}

fn print_core(plan: &Plan, out: &mut impl Write) -> io::Result<()> {
    let core = &plan.core;
    let (rate, cost) = (core.frames_per_s, core.full_frame_ns);
    writeln!(out, "\nA core")?;
    writeln!(
        out,
        "  does at most  {} frames/s, from {} to {}",
        scaled(rate.likely),
        scaled(rate.low),
        scaled(rate.high)
    )?;
    writeln!(
        out,
        "  for a frame   {}, from {} to {}",
        nanoseconds(cost.likely),
        nanoseconds(cost.low),
        nanoseconds(cost.high)
    )?;
    let parts = format!(
        "{} a burst + {} a frame, {:.0} frames a burst ({:.1} in the run); {} of it in system calls",
        nanoseconds(core.burst_ns),
        nanoseconds(core.frame_ns),
        core.burst_at_full_load,
        core.burst_in_run,
        percent(core.system_call_share),
    );
    wrap(out, "  made of       ", &parts, WIDTH)?;
    if core.kernel_ns + core.completion_ns >= 0.5 {
        let besides = format!(
            "{} a frame of the kernel on the worker's core, {} of taking sent frames back",
            nanoseconds(core.kernel_ns),
            nanoseconds(core.completion_ns)
        );
        wrap(out, "  and           ", &besides, WIDTH)?;
    }
    Ok(())
}

fn print_run(run: &Run, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\nThe run")?;
    let text = format!(
        "{} for {}: {} frames/s of {:.0} bytes on {}, {} loaded, {}",
        if run.hostname.is_empty() { "a director" } else { &run.hostname },
        duration(run.span_ns),
        scaled(run.rate_pps()),
        run.frame_bytes(),
        of(run.workers.len() as u64, "worker"),
        percent(run.load()),
        if run.zero_copy { "zero copy" } else { "frames copied by the kernel" },
    );
    wrap(out, "  ", &text, WIDTH)
}

fn percent(part: f64) -> String {
    match part * 100.0 {
        percent if percent < 0.1 && percent > 0.0 => "<0.1 %".to_owned(),
        percent if percent < 9.95 => format!("{percent:.1} %"),
        percent => format!("{percent:.0} %"),
    }
}

fn scaled_unit(value: f64) -> String {
    let text = scaled(value);
    if text.contains(' ') { text } else { format!("{text} ") }
}

fn of(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
