//! What each worker had to do.

use super::{Block, Cell, Section, Table, greatest, of_run};
use crate::report::chart::{BarChart, Chart, Key, Mark, Picture, Row, Sample, number, scale};
use crate::report::cycles::Part;
use crate::report::figures::{Figures, WorkerFigures};

/// More bars do not fit on a page.
const MOST_WORKERS: usize = 64;

pub(super) fn section(figures: &[Figures<'_>]) -> Section {
    let mut blocks = Vec::new();
    let mut pictures = Vec::new();
    for (number, of) in figures.iter().enumerate() {
        pictures.extend(picture(number, of, figures));
        if of.workers.len() > MOST_WORKERS {
            blocks.push(Block::Text(format!(
                "{}: the picture has the {MOST_WORKERS} workers with the highest load of {}.",
                of.run.label,
                of.workers.len()
            )));
        }
    }
    if pictures.is_empty() {
        blocks.push(Block::Text("No worker has spent a cycle.".to_owned()));
    }
    let several = pictures.len() > 1;
    blocks.push(if several {
        Block::Panels(pictures)
    } else {
        pictures.into_iter().next().map_or_else(|| Block::Panels(Vec::new()), Block::Picture)
    });
    blocks.push(Block::Table(table(figures)));
    Section { id: "load", title: "Load of the workers", blocks }
}

fn load(worker: &WorkerFigures) -> Option<f64> {
    worker.cycles.share(worker.cycles.work())
}

fn picture(number: usize, of: &Figures<'_>, all: &[Figures<'_>]) -> Option<Picture> {
    let workers: Vec<&WorkerFigures> = of.workers.iter().filter(|worker| worker.cycles.total() > 0).collect();
    let (workers, _) = greatest(workers, MOST_WORKERS, |worker| load(worker).unwrap_or(0.0));
    let row = |worker: &&WorkerFigures| Row {
        label: match worker.core {
            Some(core) => format!("{} (CPU {core})", worker.worker),
            None => worker.worker.to_string(),
        },
        parts: Part::ALL
            .into_iter()
            .filter_map(|part| Some((part.paint(), worker.cycles.share(worker.cycles.of(part))?)))
            .collect(),
        marks: worker.cpu_used.map(|used| (Mark::Tick, used)).into_iter().collect(),
        value: number::percent(load(worker).unwrap_or(0.0)),
        group: None,
    };
    let rows: Vec<Row> = workers.iter().map(row).collect();
    let loads = || workers.iter().filter_map(|worker| load(worker));
    let (least, most) = (loads().min_by(f64::total_cmp)?, loads().max_by(f64::total_cmp)?);
    let (scale, ticks) = scale::shares(1.0, 5);
    let used = |part: &Part| workers.iter().any(|worker| worker.cycles.of(*part) > 0);
    let mut keys: Vec<Key> = Part::ALL.into_iter().filter(used).map(Part::key).collect();
    if workers.iter().any(|worker| worker.cpu_used.is_some()) {
        keys.push(Key { sample: Sample::Tick, name: "use of the CPU by all (/proc/stat)".to_owned() });
    }
    Some(Picture {
        id: if all.len() > 1 { format!("load-{}", number + 1) } else { "load".to_owned() },
        title: of_run("Load of each worker", of, all),
        description: format!(
            "{} workers; the least loaded at {}, the most at {}.",
            of.workers.len(),
            number::percent(least),
            number::percent(most)
        ),
        chart: Chart::Bars(BarChart {
            title: "part of its cycles, by worker; at the end: work".to_owned(),
            scale,
            ticks,
            rows,
            keys,
        }),
    })
}

fn table(figures: &[Figures<'_>]) -> Table {
    let mut rows = Vec::new();
    for of in figures {
        for worker in &of.workers {
            let cycles = &worker.cycles;
            let sum = |parts: &[Part]| parts.iter().fold(0, |sum: u64, part| sum.saturating_add(cycles.of(*part)));
            let share = |parts: &[Part]| cycles.share(sum(parts));
            let divided = |parts: &[Part]| if cycles.divided { Cell::share(share(parts)) } else { Cell::Missing };
            rows.push(vec![
                Cell::text(&of.run.label),
                Cell::Count(worker.worker),
                Cell::count(worker.core),
                Cell::Count(worker.received.packets),
                Cell::Count(worker.tx.packets),
                Cell::share(load(worker)),
                divided(&Part::USER),
                divided(&[Part::Sendto, Part::Recvfrom]),
                Cell::share(share(&[Part::Idle])),
                divided(&[Part::Poll]),
                Cell::share(worker.cpu_used),
            ]);
        }
    }
    let head = [
        "run",
        "worker",
        "CPU",
        "frames received",
        "sent",
        "load",
        "user",
        "system calls",
        "idle turns",
        "asleep in poll",
        "CPU's use by all",
    ];
    Table {
        caption:
            "Parts of each worker's cycles. The load is user code and system calls but for poll, which sleeps. Time \
                  that the kernel takes on the worker's CPU is within them; the last column has all use of that CPU."
                .to_owned(),
        head: head.map(str::to_owned).into(),
        rows,
    }
}
