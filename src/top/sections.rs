//! Lines of text: totals and tables.

use ratatui::style::Modifier;
use ratatui::text::{Line, Span};

use super::columns::{Widths, printable};
use super::interval::{Changes, Window};
use super::rows::{Kind, Row, rate_text};
use super::state::Top;
use super::tone::Tone;
use crate::stats::report::Report;
use crate::text::{duration, nanoseconds};

/// Most rows of each table of a whole frame of text.
const MOST_ROWS: usize = 10_000;

/// A table as lines.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Section {
    pub(crate) lines: Vec<Line<'static>>,
}

impl Section {
    /// At most `height` lines: the heads, and the rows around the selected one.
    pub(crate) fn of(top: &Top, kind: Kind, rows: &[Row], size: (usize, usize), select: bool) -> Self {
        let (width, height) = size;
        let columns = kind.columns();
        let arrow = top.sort(kind).arrow(rows);
        let widths = Widths::fitting(columns, rows.iter().map(|row| &row.cells[..]), arrow.map(|(by, _)| by), width);
        let mut lines = vec![widths.head(columns, arrow)];
        let room = height.saturating_sub(1);
        let selected = top.selected(kind, rows);
        // A line says what has no room.
        let shown = if rows.len() > room { room.saturating_sub(1) } else { room };
        let first = if select { selected.saturating_sub(shown.saturating_sub(1)) } else { 0 };
        for (at, row) in rows.iter().enumerate().skip(first).take(shown) {
            let line = widths.line(columns, &row.cells);
            lines.push(if select && at == selected { picked(line, width) } else { line });
        }
        if rows.is_empty() {
            lines.push(Line::styled(nothing(top, kind), Tone::Dim.style()));
        } else if rows.len() > shown {
            let hidden = rows.len() - shown.min(rows.len());
            lines.push(Line::styled(format!("... {hidden} more"), Tone::Dim.style()));
        }
        lines.truncate(height);
        Self { lines }
    }
}

fn picked(mut line: Line<'static>, width: usize) -> Line<'static> {
    line.push_span(Span::raw(" ".repeat(width.saturating_sub(line.width()))));
    for span in &mut line.spans {
        span.style = span.style.add_modifier(Modifier::REVERSED);
    }
    line
}

fn nothing(top: &Top, kind: Kind) -> &'static str {
    if top.filter().is_empty() || kind == Kind::Workers { "none" } else { "none that the filter leaves" }
}

/// Who speaks.
pub(crate) fn title(report: &Report) -> String {
    let Report { version, hostname, generation, uptime_ns, .. } = report;
    printable(format!("pointsman {version} on {hostname}, up {}, table {generation}", duration(*uptime_ns)))
}

/// Over what time things are shown.
pub(crate) fn window(top: &Top, changes: &Changes) -> String {
    match top.window {
        Window::Seconds(seconds) => format!("over {seconds} s"),
        Window::Between => {
            format!("over {}", changes.span_ns.map_or_else(|| "-".to_owned(), |span| nanoseconds(span as f64)))
        }
    }
}

/// What came in, what went out, and how long it took.
pub(crate) fn totals(top: &Top, report: &Report, changes: &Changes) -> [Line<'static>; 3] {
    let rate = top.window.of(&report.totals.rates);
    let pps = |value: Option<f64>| {
        value.map_or_else(|| format!("{:>9}  ", "-"), |value| format!("{:>9}/s", rate_text(value)))
    };
    let bps = |value: Option<f64>| {
        value.map_or_else(|| format!("{:>9}      ", "-"), |value| format!("{:>9}bit/s", spaced(&rate_text(value))))
    };
    let dropped = rate.map(|rate| rate.dropped_pps);
    let alarm = if dropped.is_some_and(|dropped| dropped > 0.0) { Tone::Bad } else { Tone::Plain };
    let line = |name: &'static str, pps: String, bps: String, other: (&'static str, String, Tone)| {
        Line::from(vec![
            Span::styled(name, Tone::Strong.style()),
            Span::raw(format!(" {pps} {bps}   ")),
            Span::styled(other.0, Tone::Strong.style()),
            Span::styled(other.1, other.2.style()),
        ])
    };
    let first = line(
        "received",
        pps(rate.and_then(|rate| rate.received_pps)),
        bps(rate.and_then(|rate| rate.received_bps)),
        ("dropped  ", pps(dropped), alarm),
    );
    let second = line(
        "sent    ",
        pps(rate.map(|rate| rate.tx_pps)),
        bps(rate.map(|rate| rate.tx_bps)),
        ("new flows", pps(rate.map(|rate| rate.new_flows_per_s)), Tone::Plain),
    );
    [first, second, latency(report, changes)]
}

/// A number that has no unit's letter keeps its distance from what follows.
fn spaced(number: &str) -> String {
    if number.ends_with(|last: char| last.is_ascii_digit()) { format!("{number} ") } else { number.to_owned() }
}

fn latency(report: &Report, changes: &Changes) -> Line<'static> {
    let (percentiles, since) = match changes.span_ns {
        Some(_) => (changes.latency, ""),
        None => (Changes::latency_since_start(report), " since the start"),
    };
    let mut spans = vec![Span::styled("latency ", Tone::Strong.style())];
    let Some(times) = percentiles else {
        spans.push(Span::raw("  nothing was sent"));
        return Line::from(spans);
    };
    for (name, ns) in
        [("p50", times.p50), ("p90", times.p90), ("p99", times.p99), ("p99.9", times.p99_9), ("max", times.max)]
    {
        spans.push(Span::styled(format!("  {name} "), Tone::Dim.style()));
        spans.push(Span::raw(nanoseconds(ns as f64)));
    }
    spans.push(Span::styled(since, Tone::Dim.style()));
    Line::from(spans)
}

/// All of it, one below the other, for reading as text.
pub(crate) fn whole(top: &Top, width: usize) -> Vec<String> {
    let Some(report) = &top.report else { return Vec::new() };
    let changes = top.changes();
    let mut lines = vec![Line::raw(format!("{}, {}", title(report), window(top, &changes)))];
    lines.extend(totals(top, report, &changes));
    for kind in Kind::ALL {
        let rows = top.rows(kind, &changes);
        lines.push(Line::default());
        lines.extend(Section::of(top, kind, &rows, (width, MOST_ROWS), false).lines);
    }
    let text = |line: Line<'_>| line.spans.iter().map(|span| &*span.content).collect::<String>();
    lines.into_iter().map(|line| text(line).trim_end().chars().take(width).collect()).collect()
}
