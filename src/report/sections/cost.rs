//! What a frame costs.

use super::{Block, Cell, Section, Table, lacking};
use crate::report::chart::style::Paint;
use crate::report::chart::{BarChart, Chart, Key, Picture, Row, Sample, number, scale};
use crate::report::cycles::Part;
use crate::report::figures::Figures;

impl Part {
    /// How it is drawn.
    pub(super) fn paint(self) -> Paint {
        let [receive, forward, send, complete, refill, other] = Paint::USER;
        match self {
            Self::Receive => receive,
            Self::Forward => forward,
            Self::Send => send,
            Self::Complete => complete,
            Self::Refill => refill,
            Self::Other => other,
            Self::Sendto => Paint::SYSTEM[0],
            Self::Recvfrom => Paint::SYSTEM[1],
            Self::Busy => Paint::UNDIVIDED,
            Self::Idle => Paint::IDLE[0],
            Self::Poll => Paint::IDLE[1],
        }
    }

    pub(super) fn key(self) -> Key {
        Key { sample: Sample::Bar(self.paint()), name: self.name().to_owned() }
    }
}

const SOFTIRQ: &str = "softirq on other CPUs";

pub(super) fn section(figures: &[Figures<'_>]) -> Section {
    let in_ns = figures.iter().all(|figures| figures.cycle_hz.is_some());
    let mut blocks = Vec::new();
    if figures.iter().all(|figures| figures.received.packets == 0) {
        blocks.push(Block::Text("No frame was received, so none has a cost.".to_owned()));
    } else {
        blocks.push(Block::Picture(per_frame(figures, in_ns)));
    }
    if figures.iter().any(|figures| figures.cycles().total() > 0) {
        blocks.push(Block::Picture(split(figures)));
    }
    blocks.extend(lacking(figures, "cycles by stage and system call; all of its busy turns are one", |figures| {
        !figures.cycles().divided
    }));
    blocks.extend(lacking(figures, "frequency of its cycles (cycle_hz), so costs are in cycles", |of| {
        of.cycle_hz.is_none()
    }));
    blocks.extend(lacking(figures, "time in softirqs between two documents", |figures| figures.softirq.is_none()));
    blocks.extend(figures.iter().filter_map(about_softirq).map(Block::Text));
    blocks.push(Block::Table(table(figures, in_ns)));
    Section { id: "cost", title: "Cost of a frame", blocks }
}

/// Nanoseconds of softirqs on other CPUs for each frame, where costs are in nanoseconds.
fn softirq_per_frame(figures: &Figures<'_>, in_ns: bool) -> Option<f64> {
    let softirq = figures.softirq.filter(|_| in_ns && figures.received.packets > 0)?;
    Some(softirq.elsewhere_ns as f64 / figures.received.packets as f64)
}

fn cost(value: f64, in_ns: bool) -> String {
    if in_ns { number::time(value) } else { number::short(value) }
}

fn per_frame(figures: &[Figures<'_>], in_ns: bool) -> Picture {
    let row = |of: &Figures<'_>| {
        let cycles = of.cycles();
        let parts = Part::ALL.into_iter().filter(|part| part.is_work());
        let mut parts: Vec<(Paint, f64)> =
            parts.filter_map(|part| Some((part.paint(), of.per_frame(cycles.of(part), in_ns)?))).collect();
        parts.extend(softirq_per_frame(of, in_ns).map(|ns| (Paint::SOFTIRQ, ns)));
        let sum = parts.iter().map(|(_, cost)| cost).sum();
        let value = if of.received.packets > 0 { cost(sum, in_ns) } else { "no frame".to_owned() };
        (sum, Row { label: of.run.label.clone(), parts, marks: Vec::new(), value, group: None })
    };
    let (sums, rows): (Vec<f64>, Vec<Row>) = figures.iter().map(row).unzip();
    let (scale, ticks) = scale::linear(sums.into_iter().fold(0.0, f64::max), 5, number::short);
    let used = |part: &Part| part.is_work() && figures.iter().any(|figures| figures.cycles().of(*part) > 0);
    let mut keys: Vec<Key> = Part::ALL.into_iter().filter(used).map(Part::key).collect();
    if figures.iter().any(|figures| softirq_per_frame(figures, in_ns).is_some_and(|ns| ns > 0.0)) {
        keys.push(Key { sample: Sample::Bar(Paint::SOFTIRQ), name: SOFTIRQ.to_owned() });
    }
    let words = rows.iter().map(|row| format!("{}: {} for each frame.", row.label, row.value));
    Picture {
        id: "cost".to_owned(),
        title: "Cost of a frame, without waiting".to_owned(),
        description: words.collect::<Vec<_>>().join(" "),
        chart: Chart::Bars(BarChart {
            title: if in_ns { "nanoseconds for each frame received" } else { "cycles for each frame received" }
                .to_owned(),
            scale,
            ticks,
            rows,
            keys,
        }),
    }
}

/// The parts of all workers' time.
fn split(figures: &[Figures<'_>]) -> Picture {
    let row = |of: &Figures<'_>| {
        let cycles = of.cycles();
        let parts = Part::ALL.into_iter().filter_map(|part| Some((part.paint(), cycles.share(cycles.of(part))?)));
        Row {
            label: of.run.label.clone(),
            parts: parts.collect(),
            marks: Vec::new(),
            value: number::percent(cycles.share(cycles.work()).unwrap_or(0.0)) + " work",
            group: None,
        }
    };
    let rows: Vec<Row> = figures.iter().map(row).collect();
    let (scale, ticks) = scale::shares(1.0, 5);
    let used = |part: &Part| figures.iter().any(|figures| figures.cycles().of(*part) > 0);
    let words = rows.iter().map(|row| format!("{}: {}.", row.label, row.value));
    Picture {
        id: "time".to_owned(),
        title: "Where the workers' time went".to_owned(),
        description: words.collect::<Vec<_>>().join(" "),
        chart: Chart::Bars(BarChart {
            title: "part of the cycles of all workers".to_owned(),
            scale,
            ticks,
            rows,
            keys: Part::ALL.into_iter().filter(used).map(Part::key).collect(),
        }),
    }
}

fn about_softirq(figures: &Figures<'_>) -> Option<String> {
    let softirq = figures.softirq?;
    let what = if softirq.by_interface {
        "in the polls of the director's interfaces"
    } else {
        "in softirqs of any kind, also those that the director has no part in (the polls of its interfaces could not be measured)"
    };
    Some(format!(
        "{}: {} {what} on CPUs without a worker, beside the workers' cycles; {} on workers' CPUs, which is within the \
         workers' cycles and not added to them.",
        figures.run.label,
        number::time(softirq.elsewhere_ns as f64),
        number::time(softirq.within_ns as f64)
    ))
}

fn table(figures: &[Figures<'_>], in_ns: bool) -> Table {
    let mut head = vec!["run".to_owned(), "frames".to_owned()];
    head.extend(Part::ALL.map(|part| part.name().to_owned()));
    head.extend([SOFTIRQ.to_owned(), "all work".to_owned(), "user share".to_owned(), "waiting share".to_owned()]);
    let row = |of: &Figures<'_>| {
        let cycles = of.cycles();
        let write = |value: f64| format!("{value:.1}");
        let mut row = vec![Cell::text(&of.run.label), Cell::Count(of.received.packets)];
        row.extend(Part::ALL.map(|part| {
            let known = cycles.divided != (part == Part::Busy) || (part == Part::Idle);
            if known { Cell::number(of.per_frame(cycles.of(part), in_ns), write) } else { Cell::Missing }
        }));
        let softirq = softirq_per_frame(of, in_ns);
        row.push(Cell::number(softirq, write));
        let work = of.per_frame(cycles.work(), in_ns).map(|work| work + softirq.unwrap_or(0.0));
        row.push(Cell::number(work, write));
        let user = Part::USER.into_iter().fold(0, |sum: u64, part| sum.saturating_add(cycles.of(part)));
        row.push(if cycles.divided { Cell::share(cycles.share(user)) } else { Cell::Missing });
        row.push(Cell::share(cycles.share(cycles.total().saturating_sub(cycles.work()))));
        row
    };
    let unit = if in_ns { "Nanoseconds" } else { "Cycles" };
    Table {
        caption: format!(
            "{unit} for each frame received, by what they were spent for. User code is receive to other; shares are of \
             all the workers' cycles."
        ),
        head,
        rows: figures.iter().map(row).collect(),
    }
}
