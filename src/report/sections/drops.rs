//! What was dropped, by cause.

use super::{Block, Cell, Section, Table, run_keys};
use crate::report::chart::style::Paint;
use crate::report::chart::{BarChart, Chart, Picture, Row, number, scale};
use crate::report::figures::Figures;

pub(super) fn section(figures: &[Figures<'_>]) -> Section {
    let mut causes: Vec<&str> = Vec::new();
    for (cause, _) in figures.iter().flat_map(|figures| &figures.drops) {
        if !causes.contains(&cause.as_str()) {
            causes.push(cause);
        }
    }
    let mut blocks = vec![match picture(figures, &causes) {
        Some(picture) => Block::Picture(picture),
        None => Block::Text("No frame was dropped, and none is known to be lost before a worker.".to_owned()),
    }];
    blocks.push(Block::Table(table(figures, &causes)));
    Section { id: "drops", title: "Drops", blocks }
}

fn count(figures: &Figures<'_>, cause: &str) -> Option<u64> {
    figures.drops.iter().find(|(other, _)| other == cause).and_then(|(_, count)| *count)
}

fn picture(figures: &[Figures<'_>], causes: &[&str]) -> Option<Picture> {
    let mut rows = Vec::new();
    let mut words = Vec::new();
    for cause in causes.iter().filter(|cause| figures.iter().any(|of| count(of, cause).is_some_and(|count| count > 0)))
    {
        for (run, of) in figures.iter().enumerate() {
            let count = count(of, cause);
            let several = figures.len() > 1;
            let value = match count {
                None => "not known".to_owned(),
                Some(count) => {
                    let share = count as f64 / of.received.packets.max(1) as f64;
                    format!("{} ({})", number::short(count as f64), number::percent(share))
                }
            };
            words.push(format!("{cause}, {}: {value}.", of.run.label));
            rows.push(Row {
                label: if several { of.run.label.clone() } else { (*cause).to_owned() },
                parts: vec![(Paint::series(run), count.unwrap_or(0) as f64)],
                marks: Vec::new(),
                value,
                group: (several && run == 0).then(|| (*cause).to_owned()),
            });
        }
    }
    if rows.is_empty() {
        return None;
    }
    let most = rows.iter().flat_map(|row| row.parts.iter().map(|part| part.1)).fold(0.0, f64::max);
    let (scale, ticks) = scale::linear(most, 4, number::short);
    Some(Picture {
        id: "drops".to_owned(),
        title: "Frames dropped or lost, by cause".to_owned(),
        description: words.join(" "),
        chart: Chart::Bars(BarChart {
            title: "frames; in brackets: beside those received".to_owned(),
            scale,
            ticks,
            rows,
            keys: run_keys(figures),
        }),
    })
}

fn table(figures: &[Figures<'_>], causes: &[&str]) -> Table {
    let mut head = vec!["cause".to_owned()];
    head.extend(figures.iter().map(|figures| figures.run.label.clone()));
    let row = |cause: &&str| {
        let counts = figures.iter().map(|figures| Cell::count(count(figures, cause)));
        std::iter::once(Cell::text(*cause)).chain(counts).collect()
    };
    Table {
        caption: "Frames dropped by the workers, and lost before one. A line means that it is not known.".to_owned(),
        head,
        rows: causes.iter().map(row).collect(),
    }
}
