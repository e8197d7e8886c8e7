//! The page.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::chart::{NARROW, Picture, WIDE, number, printable, style};
use super::document::Document;
use super::run::Run;
use super::sections::{self, Block, Cell, Section, Table};

/// The page without its colours.
const STYLE: &str = include_str!("page.css");

/// One HTML page with all that is to be said of these runs. It refers to nothing outside.
#[must_use]
pub fn page(runs: &[Run]) -> String {
    let sections = sections::all(runs);
    let names: Vec<&str> = runs.iter().map(|run| run.label.as_str()).collect();
    let title = format!("pointsman report: {}", names.join(", "));
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                // Whatever a document smuggles in: no script, no request.
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="generator" content={ "pointsman " (env!("CARGO_PKG_VERSION")) };
                title { (title) }
                style { (PreEscaped(css())) }
            }
            body {
                header {
                    h1 { "pointsman report" }
                    nav aria-label="Contents" {
                        ul {
                            li { a href="#runs" { "Runs" } }
                            @for section in &sections { li { a href={ "#" (section.id) } { (section.title) } } }
                        }
                    }
                }
                main {
                    (cards(runs))
                    @for section in &sections { (part(section)) }
                }
                footer { p { "Made by pointsman " (env!("CARGO_PKG_VERSION")) "; docs/report.md says how to read it." } }
            }
        }
    };
    printable(&markup.into_string())
}

fn css() -> String {
    let (light, dark) = (style::for_light(), style::for_dark());
    format!(
        ":root{{{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n{STYLE}\n{}",
        style::for_page()
    )
}

/// What each run is of.
fn cards(runs: &[Run]) -> Markup {
    html! {
        section id="runs" {
            h2 { "Runs" }
            div class="cards" {
                @for run in runs {
                    div class="card" {
                        h3 { (run.label) }
                        dl {
                            @for (name, value) in facts(run) {
                                div { dt { (name) } dd { (value) } }
                            }
                        }
                        @for note in &run.notes { p class="note" { (note) } }
                        @for error in &run.last.errors { p class="note" { "The director could not read all: " (error) } }
                    }
                }
            }
        }
    }
}

fn facts(run: &Run) -> Vec<(&'static str, String)> {
    let last = &run.last;
    let span = number::span(run.span_ns() as f64 / 1e9);
    let figures_of = match &run.first {
        Some(first) => {
            format!("{} to {} ({span})", number::moment(first.taken_at.unix_ns), number::moment(last.taken_at.unix_ns))
        }
        None => format!("the director's start to {} ({span})", number::moment(last.taken_at.unix_ns)),
    };
    let cores: Vec<String> =
        last.workers.iter().filter_map(|worker| worker.core).map(|core| core.to_string()).collect();
    let servers: usize = last.virtual_services.iter().map(|service| service.real_servers.len()).sum();
    let known = |text: &str| if text.is_empty() { "not known".to_owned() } else { text.to_owned() };
    let mut facts = vec![
        ("machine", known(&last.hostname)),
        ("kernel", known(&last.kernel)),
        ("pointsman", known(&last.version)),
        ("director started", number::moment(last.started_at.unix_ns)),
        ("figures of", figures_of),
        ("documents", format!("{} in {}", run.documents, run.files.join(", "))),
        ("interfaces", interfaces(last)),
        (
            "workers",
            format!(
                "{} on CPUs {}",
                last.workers.len(),
                if cores.is_empty() { "-".to_owned() } else { cores.join(", ") }
            ),
        ),
        ("services", format!("{} with {servers} real servers", last.virtual_services.len())),
    ];
    if let Some(hz) = last.cycle_hz.filter(|hz| *hz > 0) {
        facts.push(("cycles", format!("{}Hz", number::short(hz as f64))));
    }
    if let Some(by) = &last.softirq_measured_by {
        facts.push(("softirqs measured by", by.clone()));
    }
    facts
}

fn interfaces(document: &Document) -> String {
    let words = document.interfaces.iter().map(|interface| {
        let queues = interface.queues.len();
        let zero_copy = interface.queues.iter().filter(|queue| queue.zero_copy).count();
        let copy = match zero_copy {
            0 => "copy".to_owned(),
            all if all == queues => "zero copy".to_owned(),
            some => format!("{some} zero copy"),
        };
        format!("{} ({} XDP, {queues} queues, {copy})", interface.name, interface.mode)
    });
    words.collect::<Vec<_>>().join(", ")
}

fn part(section: &Section) -> Markup {
    html! {
        section id=(section.id) {
            h2 { (section.title) }
            @for (at, block) in section.blocks.iter().enumerate() {
                @match block {
                    Block::Text(text) => { p { (text) } },
                    Block::Picture(picture) => { (figure(picture, false)) },
                    Block::Panels(pictures) => {
                        @if !pictures.is_empty() {
                            div class="panels" { @for picture in pictures { (figure(picture, true)) } }
                        }
                    },
                    Block::Table(of) => { (table(of, &format!("{}-table-{at}", section.id))) },
                }
            }
        }
    }
}

/// A picture: one among others has one size, one alone two, of which the page's width chooses.
fn figure(picture: &Picture, panel: bool) -> Markup {
    html! {
        figure id={ "figure-" (picture.id) } {
            figcaption { (picture.title) }
            @if panel {
                (picture.inline(NARROW, "panel"))
            } @else {
                (picture.inline(WIDE, "wide"))
                (picture.inline(NARROW, "narrow"))
            }
        }
    }
}

/// A table that scrolls by itself, also by keys.
fn table(table: &Table, id: &str) -> Markup {
    let numbers = |at: usize| {
        let mut cells = table.rows.iter().filter_map(|row| row.get(at));
        at > 0 && cells.any(|cell| matches!(cell, Cell::Count(_) | Cell::Number(..)))
    };
    html! {
        div class="scroll" role="region" tabindex="0" aria-labelledby=(id) {
            table {
                caption id=(id) { (table.caption) }
                thead {
                    tr {
                        @for (at, name) in table.head.iter().enumerate() {
                            th scope="col" class=[numbers(at).then_some("number")] { (name) }
                        }
                    }
                }
                tbody {
                    @for row in &table.rows {
                        tr {
                            @for (at, cell) in row.iter().enumerate() {
                                @if at == 0 { th scope="row" { (self::cell(cell)) } } @else { (data(cell)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn data(cell: &Cell) -> Markup {
    html! { td class=[(!matches!(cell, Cell::Text(_))).then_some("number")] { (self::cell(cell)) } }
}

fn cell(cell: &Cell) -> Markup {
    html! {
        @match cell {
            Cell::Text(text) => { (text) },
            Cell::Count(count) => { data value=(count) { (number::grouped(*count)) } },
            Cell::Number(value, text) => { data value=(value) { (text) } },
            Cell::Missing => { abbr title="not known" { "–" } },
        }
    }
}
