//! The runs beside each other, in a table.

use super::{Block, Cell, Section, Table};
use crate::report::chart::number;
use crate::report::distribution::{Distribution, Kind};
use crate::report::figures::{Figures, WorkerFigures};

pub(super) fn section(figures: &[Figures<'_>]) -> Section {
    let head = [
        "run",
        "length",
        "received frames/s",
        "received bit/s",
        "sent frames/s",
        "dropped",
        "latency p50",
        "p99",
        "p99.9",
        "max",
        "work per frame",
        "busiest worker",
    ];
    let table = Table {
        caption: "The runs in short. Rates are means over the run; latency is the total, from the XDP hook to the TX \
                  ring; work is what workers' cycles were spent for, but for waiting."
            .to_owned(),
        head: head.map(str::to_owned).into(),
        rows: figures.iter().map(row).collect(),
    };
    Section { id: "summary", title: "At a glance", blocks: vec![Block::Table(table)] }
}

fn row(figures: &Figures<'_>) -> Vec<Cell> {
    let latency = figures.time(Kind::Total).yes();
    let time =
        |of: &dyn Fn(&Distribution) -> u64| Cell::number(latency.map(|latency| of(latency) as f64), number::time);
    let load = |worker: &WorkerFigures| worker.cycles.share(worker.cycles.work());
    let busiest = figures.workers.iter().filter_map(load).max_by(f64::total_cmp);
    let all = figures.received.packets;
    let work = figures.cycles().work();
    let per_frame = match figures.per_frame(work, true) {
        Some(ns) => Cell::number(Some(ns), number::time),
        None => Cell::number(figures.per_frame(work, false), |cycles| format!("{} cycles", number::short(cycles))),
    };
    vec![
        Cell::text(&figures.run.label),
        Cell::number(Some(figures.span_s), number::span),
        Cell::rate(figures.per_second(all)),
        Cell::rate(figures.per_second(figures.received.bytes).map(|bytes| bytes * 8.0)),
        Cell::rate(figures.per_second(figures.tx.packets)),
        Cell::share((all > 0).then(|| figures.dropped as f64 / all as f64)),
        time(&|latency| latency.at_share(0.5)),
        time(&|latency| latency.at_share(0.99)),
        time(&|latency| latency.at_share(0.999)),
        time(&|latency| latency.max),
        per_frame,
        Cell::share(busiest),
    ]
}
