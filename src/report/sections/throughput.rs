//! Frames by the second, over time.

use super::{Block, Cell, Section, Table, stroke};
use crate::report::chart::style::Stroke;
use crate::report::chart::{Axis, Chart, Line, LineChart, Picture, number, scale};
use crate::report::figures::{Figures, Interval};

pub(super) fn section(figures: &[Figures<'_>]) -> Section {
    let mut blocks = Vec::new();
    let with_course: Vec<_> = figures.iter().enumerate().filter(|(_, figures)| !figures.intervals.is_empty()).collect();
    match (with_course.as_slice(), figures.len()) {
        ([], _) => {}
        ([(_, figures)], 1) => {
            let of = |name: &str, at, rate: fn(&Interval) -> f64| line(name, Stroke(at), &figures.intervals, rate);
            let lines = vec![
                of("received", 0, |interval| interval.received_pps),
                of("sent", 1, |interval| interval.tx_pps),
                of("dropped", 2, |interval| interval.dropped_pps),
            ];
            blocks.push(Block::Picture(picture("throughput", "Throughput over time".to_owned(), lines)));
        }
        (with_course, _) => {
            for (id, what, rate) in [
                ("throughput-sent", "sent", (|interval: &Interval| interval.tx_pps) as fn(&Interval) -> f64),
                ("throughput-dropped", "dropped", |interval| interval.dropped_pps),
            ] {
                if with_course.iter().any(|(_, figures)| figures.intervals.iter().any(|of| rate(of) > 0.0)) {
                    let lines = with_course
                        .iter()
                        .map(|(at, figures)| line(&figures.run.label, stroke(*at), &figures.intervals, rate));
                    blocks.push(Block::Picture(picture(id, format!("Frames {what} over time"), lines.collect())));
                }
            }
        }
    }
    let single: Vec<_> = figures.iter().filter(|of| of.intervals.is_empty()).map(|of| of.run.label.as_str()).collect();
    if !single.is_empty() {
        blocks.push(Block::Text(format!(
            "{}: a single document, which has means since the director's start and no course over time. A series has \
             it: several documents of one run.",
            single.join(", ")
        )));
    }
    blocks.push(Block::Table(table(figures)));
    Section { id: "throughput", title: "Throughput", blocks }
}

/// The rate of each interval, level over it. Neighbours are joined.
fn line(name: &str, stroke: Stroke, intervals: &[Interval], rate: fn(&Interval) -> f64) -> Line {
    let steps = intervals.iter().flat_map(|interval| {
        let rate = rate(interval);
        [(interval.from_s, rate), (interval.to_s, rate)]
    });
    Line { name: name.to_owned(), stroke, pieces: vec![steps.collect()] }
}

fn picture(id: &str, title: String, lines: Vec<Line>) -> Picture {
    let points = || lines.iter().flat_map(|line| line.pieces.iter().flatten());
    let (end, most) = points().fold((0.0f64, 0.0f64), |(end, most), (x, y)| (end.max(*x), most.max(*y)));
    let (unit, in_seconds) = match end {
        ..300.0 => ("seconds", 1.0),
        ..18_000.0 => ("minutes", 60.0),
        _ => ("hours", 3600.0),
    };
    let (_, x_ticks) = scale::linear(end / in_seconds, 8, number::short);
    let x_ticks: Vec<_> =
        x_ticks.into_iter().map(|tick| scale::Tick { value: tick.value * in_seconds, ..tick }).collect();
    let to = x_ticks.last().map_or(1.0, |tick| tick.value);
    let (y, y_ticks) = scale::linear(most, 6, number::short);
    let words = lines.iter().map(|line| {
        let most = line.pieces.iter().flatten().map(|(_, rate)| *rate).fold(0.0, f64::max);
        format!("{}: at most {} frames a second.", line.name, number::short(most))
    });
    let description = words.collect::<Vec<_>>().join(" ");
    Picture {
        id: id.to_owned(),
        title,
        description,
        chart: Chart::Lines(LineChart {
            x: Axis {
                title: format!("{unit} since the first document"),
                scale: scale::Scale::Linear { from: 0.0, to },
                ticks: x_ticks,
            },
            y: Axis { title: "frames a second".to_owned(), scale: y, ticks: y_ticks },
            lines,
        }),
    }
}

fn table(figures: &[Figures<'_>]) -> Table {
    let row = |of: &Figures<'_>| {
        let peak = of.intervals.iter().map(|interval| interval.received_pps).max_by(f64::total_cmp);
        let bits = |bytes: u64| of.per_second(bytes).map(|bytes| bytes * 8.0);
        vec![
            Cell::text(&of.run.label),
            Cell::number(Some(of.span_s), |seconds| format!("{seconds:.3}")),
            Cell::Count(of.received.packets),
            Cell::Count(of.tx.packets),
            Cell::Count(of.dropped),
            Cell::rate(of.per_second(of.received.packets)),
            Cell::rate(peak),
            Cell::rate(of.per_second(of.tx.packets)),
            Cell::rate(bits(of.received.bytes)),
            Cell::rate(bits(of.tx.bytes)),
        ]
    };
    let head = [
        "run",
        "seconds",
        "frames received",
        "sent",
        "dropped",
        "received/s",
        "at most",
        "sent/s",
        "received bit/s",
        "sent bit/s",
    ];
    Table {
        caption:
            "Frames, and frames and bits by the second: means over the run, and the most between two documents. Bits \
                  are those of frames without preamble and checksum."
                .to_owned(),
        head: head.map(str::to_owned).into(),
        rows: figures.iter().map(row).collect(),
    }
}
