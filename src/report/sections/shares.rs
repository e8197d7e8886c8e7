//! What each real server got, beside what its weight says.

use super::{Block, Cell, Section, Table, greatest, of_run};
use crate::report::chart::style::Paint;
use crate::report::chart::{BarChart, Chart, Key, Mark, Picture, Row, Sample, number, scale};
use crate::report::figures::{Figures, ServerFigures, ServiceFigures};

/// More bars do not fit on a page.
const MOST_SERVERS: usize = 40;
/// Further services have their figures in the table alone.
const MOST_SERVICES: usize = 12;

pub(super) fn section(figures: &[Figures<'_>]) -> Section {
    let mut blocks = vec![Block::Text(
        "Weights are shares of new flows. Frames follow the flows that there are, so few long flows may weigh more than \
         many short ones."
            .to_owned(),
    )];
    let mut names: Vec<(&str, u64)> = Vec::new();
    for service in figures.iter().flat_map(|figures| &figures.services) {
        let frames = service.servers.iter().fold(0, |sum: u64, server| sum.saturating_add(server.increase.tx.packets));
        match names.iter_mut().find(|(name, _)| *name == service.service) {
            Some((_, sum)) => *sum = sum.saturating_add(frames),
            None => names.push((&service.service, frames)),
        }
    }
    let (drawn, left_out) = greatest(names, MOST_SERVICES, |(_, frames)| *frames as f64);
    if left_out > 0 {
        blocks.push(Block::Text(format!(
            "Pictures are of the {MOST_SERVICES} services with the most frames; the table has the other {left_out}, too."
        )));
    }
    for (at, (name, _)) in drawn.iter().enumerate() {
        let of_service = figures.iter().enumerate().filter_map(|(run, of)| {
            let service = of.services.iter().find(|service| service.service == *name)?;
            picture((at, run), of, service, figures)
        });
        let mut pictures: Vec<Picture> = of_service.collect();
        match pictures.len() {
            0 => {}
            1 => blocks.extend(pictures.pop().map(Block::Picture)),
            _ => blocks.push(Block::Panels(pictures)),
        }
    }
    if drawn.is_empty() {
        blocks.push(Block::Text("There is no virtual service with a real server.".to_owned()));
    } else {
        blocks.push(Block::Table(table(figures)));
    }
    Section { id: "shares", title: "Shares of the real servers", blocks }
}

/// How far a real server is from its weight.
fn distance(server: &ServerFigures) -> f64 {
    let got = server.flow_share.or(server.packet_share).unwrap_or(0.0);
    (got - server.weight_share.unwrap_or(0.0)).abs()
}

fn picture(
    (at, run): (usize, usize),
    of: &Figures<'_>,
    service: &ServiceFigures,
    all: &[Figures<'_>],
) -> Option<Picture> {
    if service.servers.iter().all(|server| server.packet_share.or(server.flow_share).or(server.weight_share).is_none())
    {
        return None;
    }
    let (servers, left_out) = greatest(service.servers.iter().collect(), MOST_SERVERS, |server| distance(server));
    let row = |server: &&ServerFigures| {
        let tick = server.weight_share.map(|share| (Mark::Tick, share));
        let dot = server.flow_share.map(|share| (Mark::Dot, share));
        Row {
            label: server.address.clone() + if server.fallback { " (fallback)" } else { "" },
            parts: server.packet_share.map(|share| (Paint::series(run), share)).into_iter().collect(),
            marks: tick.into_iter().chain(dot).collect(),
            value: String::new(),
            group: None,
        }
    };
    let rows: Vec<Row> = servers.iter().map(row).collect();
    let ends =
        rows.iter().flat_map(|row| row.marks.iter().map(|mark| mark.1).chain(row.parts.iter().map(|part| part.1)));
    let (scale, ticks) = scale::shares(ends.fold(0.0, f64::max), 5);
    let farthest = servers.iter().map(|server| distance(server)).fold(0.0, f64::max);
    let kept = if left_out == 0 {
        String::new()
    } else {
        format!(", the {MOST_SERVERS} farthest from their weight of {}", service.servers.len())
    };
    let id = format!("share-{}-{}", at + 1, file_name(&service.service));
    Some(Picture {
        id: if all.len() > 1 { format!("{id}-{}", run + 1) } else { id },
        title: of_run(&format!("Shares of {}{kept}", service.service), of, all),
        description: format!(
            "{} real servers; the share of new flows, or of frames, differs from that by weight by {} at most.",
            service.servers.len(),
            number::percent(farthest)
        ),
        chart: Chart::Bars(BarChart {
            title: "part of the service's frames, by real server".to_owned(),
            scale,
            ticks,
            rows,
            keys: vec![
                Key { sample: Sample::Bar(Paint::series(run)), name: "frames".to_owned() },
                Key { sample: Sample::Dot, name: "new flows".to_owned() },
                Key { sample: Sample::Tick, name: "by weight".to_owned() },
            ],
        }),
    })
}

/// A service's name in letters, digits and hyphens.
fn file_name(service: &str) -> String {
    let mut name = String::new();
    for letter in service.chars().take(60) {
        if letter.is_ascii_alphanumeric() {
            name.push(letter.to_ascii_lowercase());
        } else if !name.ends_with('-') {
            name.push('-');
        }
    }
    name.trim_matches('-').to_owned()
}

fn table(figures: &[Figures<'_>]) -> Table {
    let mut rows = Vec::new();
    for of in figures {
        for service in &of.services {
            for server in &service.servers {
                let fallback = if server.fallback { " (fallback)" } else { "" };
                rows.push(vec![
                    Cell::text(&of.run.label),
                    Cell::text(format!("{} ({})", service.service, service.scheduler)),
                    Cell::text(format!("{}{fallback}", server.address)),
                    server.weight.map_or_else(|| Cell::text("removed"), Cell::Count),
                    Cell::share(server.weight_share),
                    Cell::Count(server.increase.begun),
                    Cell::share(server.flow_share),
                    Cell::Count(server.increase.tx.packets),
                    Cell::share(server.packet_share),
                    Cell::Count(server.increase.tx.bytes),
                    Cell::Count(server.increase.dropped),
                ]);
            }
        }
    }
    let head = [
        "run",
        "service",
        "real server",
        "weight",
        "share by weight",
        "new flows",
        "share of flows",
        "frames sent",
        "share of frames",
        "bytes",
        "dropped",
    ];
    Table {
        caption: "What each real server got, beside what its weight says. Weights are those of the last document."
            .to_owned(),
        head: head.map(str::to_owned).into(),
        rows,
    }
}
