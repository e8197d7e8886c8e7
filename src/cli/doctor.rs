//! `pointsman doctor`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{Failure, load, printed};
use crate::director::preflight;
use crate::doctor::{Finding, Group, Report, Severity};

/// Exit code when something could be better.
const WARNINGS: u8 = 3;
/// Exit code when something does not work.
const ERRORS: u8 = 4;
/// Columns of a terminal that everybody has.
const WIDTH: usize = 80;

const HELP: &str = "\
Examples:
  pointsman doctor --config /etc/pointsman/director.toml
  pointsman doctor --config /etc/pointsman/director.toml --quiet    # only what is to be mended
  pointsman doctor --config /etc/pointsman/director.toml --json | jq '.findings[] | select(.severity == \"error\")'
  pointsman doctor --no-probe                              # machine and interfaces; sends nothing

It changes nothing. Who answers for a VIP is asked by ARP probes and neighbour solicitations that nobody learns an
address from; that takes half a second. It works beside a running director and without one.

Exit codes:
  0  nothing is worse than info
  1  it could not be done
  2  the command line or the configuration is wrong; nothing was looked at
  3  there are warnings
  4  there are errors

docs/doctor.md describes each finding; docs/doctor.schema.json is the schema of --json.";

/// Arguments of `doctor`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct DoctorArgs {
    /// Configuration file; without one, the machine and its interfaces are looked at
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Leave out what is as it should be, and what is merely worth knowing
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,
    /// Send nothing: leave out who answers for VIPs and real servers
    #[arg(long)]
    no_probe: bool,
}

/// Examines, prints, and says by its exit code how bad it is.
pub(super) fn run(args: &DoctorArgs) -> Result<ExitCode, Failure> {
    let config = args.config.as_deref().map(load).transpose()?;
    let report = preflight::examine(config.as_ref(), !args.no_probe);
    let mut out = io::stdout().lock();
    let written = if args.json {
        serde_json::to_writer_pretty(&mut out, &report).map_err(io::Error::from).and_then(|()| writeln!(out))
    } else {
        print(&report, args.quiet, &mut out)
    };
    printed(written.and_then(|()| out.flush()))?;
    Ok(match report.worst {
        Severity::Ok | Severity::Info => ExitCode::SUCCESS,
        Severity::Warning => ExitCode::from(WARNINGS),
        Severity::Error => ExitCode::from(ERRORS),
    })
}

fn print(report: &Report, quiet: bool, out: &mut impl Write) -> io::Result<()> {
    let least = if quiet { Severity::Warning } else { Severity::Ok };
    let mut last = None;
    for finding in report.findings.iter().filter(|finding| finding.severity >= least) {
        let heading = (finding.group, finding.subject.as_str());
        if last != Some(heading) {
            let gap = if last.is_some() { "\n" } else { "" };
            writeln!(out, "{gap}{}", title(heading.0, heading.1))?;
            last = Some(heading);
        }
        print_finding(finding, out)?;
    }
    let counts = report.counts;
    let gap = if last.is_some() { "\n" } else { "" };
    let beside = if report.director_running { "; a director is running" } else { "" };
    writeln!(
        out,
        "{gap}errors: {}, warnings: {}, worth knowing: {}, as they should be: {}{beside}",
        counts.error, counts.warning, counts.info, counts.ok
    )
}

fn title(group: Group, subject: &str) -> String {
    match group {
        Group::Machine if subject.is_empty() => "machine".to_owned(),
        Group::Machine => format!("machine: {subject}"),
        Group::Interface => format!("interface {subject}"),
        Group::DirectRouting => format!("direct routing: {subject}"),
    }
}

fn print_finding(finding: &Finding, out: &mut impl Write) -> io::Result<()> {
    let text = format!("{}: {}", finding.id, finding.what);
    wrapped(out, &format!("  {:8} ", finding.severity), &text)?;
    if finding.severity >= Severity::Warning {
        wrapped(out, "           why: ", finding.why)?;
    }
    // Not wrapped: it is to be copied.
    if finding.severity > Severity::Ok {
        for command in &finding.mend {
            writeln!(out, "           do:  {command}")?;
        }
    }
    Ok(())
}

/// Writes `text` after `head`, and below it what does not fit the width.
fn wrapped(out: &mut impl Write, head: &str, text: &str) -> io::Result<()> {
    let indent = " ".repeat(head.len());
    let mut line = head.to_owned();
    for word in text.split_whitespace() {
        let is_first = line.len() == head.len();
        if !is_first && line.chars().count() + 1 + word.chars().count() > WIDTH {
            writeln!(out, "{line}")?;
            line.clone_from(&indent);
            line.push_str(word);
            continue;
        }
        if !is_first {
            line.push(' ');
        }
        line.push_str(word);
    }
    writeln!(out, "{}", line.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_before_the_width_and_go_on_below_the_first_word() {
        let mut out = Vec::new();
        wrapped(&mut out, "  error    ", &"word ".repeat(30)).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
        assert!(text.lines().skip(1).all(|line| line.starts_with("           word")), "{text}");
        assert_eq!(text.matches("word").count(), 30);
    }
}
