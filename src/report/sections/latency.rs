//! Latency over percentiles.

use super::{Block, Cell, Section, Table, lacking, stroke};
use crate::report::chart::style::Stroke;
use crate::report::chart::{Axis, Chart, Line, LineChart, Picture, number, scale};
use crate::report::distribution::{Distribution, Kind, Known};
use crate::report::figures::Figures;

pub(super) fn section(figures: &[Figures<'_>]) -> Section {
    let mut blocks = vec![Block::Text(
        "Each line says how long the given part of the frames took at most: at 99 %, all but one in a hundred. To the \
         right each step is ten times rarer, and a line ends at its slowest frame."
            .to_owned(),
    )];
    if let [figures] = figures {
        let lines = Kind::ALL.into_iter().enumerate();
        let lines = lines.filter_map(|(at, kind)| Some((kind.meaning(), Stroke(at), figures.time(kind).yes()?)));
        blocks.extend(picture("latency", "Latency by percentile".to_owned(), lines.collect()).map(Block::Picture));
    } else {
        for kind in Kind::ALL {
            let lines = figures.iter().enumerate();
            let lines = lines.filter_map(|(at, of)| Some((of.run.label.as_str(), stroke(at), of.time(kind).yes()?)));
            let (id, title) =
                (format!("latency-{}", kind.name()), format!("Latency by percentile, {}", kind.meaning()));
            blocks.extend(picture(&id, title, lines.collect()).map(Block::Picture));
        }
    }
    if figures.iter().all(|figures| Kind::ALL.iter().all(|kind| figures.time(*kind).yes().is_none())) {
        blocks.push(Block::Text("No frame was measured.".to_owned()));
    }
    for kind in Kind::ALL {
        let what = format!("latency of this kind: {}", kind.meaning());
        blocks.extend(lacking(figures, &what, |figures| matches!(figures.time(kind), Known::No)));
    }
    for figures in figures.iter().filter(|figures| figures.unstamped > 0) {
        blocks.push(Block::Text(format!(
            "{}: {} of the frames sent had no stamp and are not in the total or in queueing.",
            figures.run.label,
            number::grouped(figures.unstamped)
        )));
    }
    blocks.push(Block::Table(table(figures)));
    Section { id: "latency", title: "Latency", blocks }
}

/// The lines that there are, if there is one.
fn picture(id: &str, title: String, lines: Vec<(&str, Stroke, &Distribution)>) -> Option<Picture> {
    let min = lines.iter().map(|(_, _, distribution)| distribution.at_nines(0.0).max(1)).min()?;
    let max = lines.iter().map(|(_, _, distribution)| distribution.max).max()?;
    let (y, y_ticks) = scale::log(min as f64, max as f64, number::time);
    let nines = lines.iter().map(|(_, _, distribution)| (distribution.count as f64).log10()).fold(2.0, f64::max);
    let (x, x_ticks) = scale::nines(nines);
    let words = lines.iter().map(|(name, _, of)| {
        let time = |share| number::time(of.at_share(share) as f64);
        format!(
            "{name}: half within {}, 99 % within {}, all within {}.",
            time(0.5),
            time(0.99),
            number::time(of.max as f64)
        )
    });
    let description = words.collect::<Vec<_>>().join(" ");
    let lines = lines.into_iter().map(|(name, stroke, distribution)| Line {
        name: name.to_owned(),
        stroke,
        pieces: vec![distribution.course()],
    });
    Some(Picture {
        id: id.to_owned(),
        title,
        description,
        chart: Chart::Lines(LineChart {
            x: Axis { title: "part of the frames".to_owned(), scale: x, ticks: x_ticks },
            y: Axis { title: "time, at most".to_owned(), scale: y, ticks: y_ticks },
            lines: lines.collect(),
        }),
    })
}

fn table(figures: &[Figures<'_>]) -> Table {
    let mut rows = Vec::new();
    for of in figures {
        for kind in Kind::ALL {
            if matches!(of.time(kind), Known::No) {
                continue;
            }
            let known = of.time(kind).yes();
            let cell = |value: &dyn Fn(&Distribution) -> u64| Cell::count(known.map(value));
            rows.push(vec![
                Cell::text(&of.run.label),
                Cell::text(kind.meaning()),
                Cell::Count(known.map_or(0, |known| known.count)),
                cell(&|of| of.min),
                Cell::number(known.map(|of| of.mean), |mean| format!("{mean:.1}")),
                cell(&|of| of.at_share(0.5)),
                cell(&|of| of.at_share(0.9)),
                cell(&|of| of.at_share(0.99)),
                cell(&|of| of.at_share(0.999)),
                cell(&|of| of.at_share(0.9999)),
                cell(&|of| of.max),
            ]);
        }
    }
    let head = ["run", "time", "frames", "min", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max"];
    Table {
        caption: "Latency in nanoseconds. Percentiles are rounded up to the end of their bucket (three digits); min \
                  and max are exact since the director's start, else the ends of their buckets."
            .to_owned(),
        head: head.map(str::to_owned).into(),
        rows,
    }
}
