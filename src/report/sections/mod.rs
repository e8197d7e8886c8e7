//! What a report says, part by part: pictures, tables and sentences, as data. One file for each part.

mod cost;
mod drops;
mod latency;
mod load;
mod shares;
mod summary;
mod throughput;

use super::chart::style::{Paint, Stroke};
use super::chart::{Key, Picture, Sample, number};
use super::figures::Figures;
use super::run::Run;

/// A part of the report.
#[derive(Debug)]
pub(crate) struct Section {
    /// Names it on the page.
    pub(crate) id: &'static str,
    /// Its heading.
    pub(crate) title: &'static str,
    /// What is in it, in order.
    pub(crate) blocks: Vec<Block>,
}

/// A piece of a part.
#[derive(Debug)]
pub(crate) enum Block {
    /// A sentence.
    Text(String),
    /// A picture over the whole width.
    Picture(Picture),
    /// Pictures beside each other.
    Panels(Vec<Picture>),
    /// Figures.
    Table(Table),
}

/// Figures. The first cell of each row says what they are of.
#[derive(Debug)]
pub(crate) struct Table {
    /// What is in it, and in what units.
    pub(crate) caption: String,
    /// Its columns.
    pub(crate) head: Vec<String>,
    /// Its rows.
    pub(crate) rows: Vec<Vec<Cell>>,
}

/// One figure.
#[derive(Clone, Debug)]
pub(crate) enum Cell {
    /// Words.
    Text(String),
    /// A count, exact.
    Count(u64),
    /// A number and how it is written.
    Number(f64, String),
    /// What is not known or does not exist.
    Missing,
}

impl Cell {
    fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    fn count(count: Option<u64>) -> Self {
        count.map_or(Self::Missing, Self::Count)
    }

    fn number(value: Option<f64>, write: impl Fn(f64) -> String) -> Self {
        value.filter(|value| value.is_finite()).map_or(Self::Missing, |value| Self::Number(value, write(value)))
    }

    fn share(share: Option<f64>) -> Self {
        Self::number(share, number::percent)
    }

    fn rate(rate: Option<f64>) -> Self {
        Self::number(rate, number::short)
    }
}

/// All parts of the report of these runs.
pub(crate) fn all(runs: &[Run]) -> Vec<Section> {
    let figures: Vec<Figures<'_>> = runs.iter().map(Figures::of).collect();
    vec![
        summary::section(&figures),
        latency::section(&figures),
        throughput::section(&figures),
        cost::section(&figures),
        load::section(&figures),
        shares::section(&figures),
        drops::section(&figures),
    ]
}

/// How the lines of a run look.
fn stroke(run: usize) -> Stroke {
    Stroke(run)
}

/// The keys of the runs' bars.
fn run_keys(figures: &[Figures<'_>]) -> Vec<Key> {
    let key = |(at, figures): (usize, &Figures<'_>)| Key {
        sample: Sample::Bar(Paint::series(at)),
        name: figures.run.label.clone(),
    };
    if figures.len() > 1 { figures.iter().enumerate().map(key).collect() } else { Vec::new() }
}

/// `title`, and of which run, if there are several.
fn of_run(title: &str, figures: &Figures<'_>, all: &[Figures<'_>]) -> String {
    if all.len() > 1 { format!("{title}: {}", figures.run.label) } else { title.to_owned() }
}

/// Says which runs lack what, and since when it is written.
fn lacking(figures: &[Figures<'_>], what: &str, lacks: impl Fn(&Figures<'_>) -> bool) -> Option<Block> {
    let lacking: Vec<String> = figures
        .iter()
        .filter(|figures| lacks(figures))
        .map(|figures| format!("{} (made by pointsman {})", figures.run.label, figures.run.last.version))
        .collect();
    let verb = if lacking.len() == 1 { "has" } else { "have" };
    (!lacking.is_empty()).then(|| Block::Text(format!("{} {verb} no {what}.", lacking.join(", "))))
}

/// At most `most` of the rows, the greatest by `by`, in their own order; and how many there are left out.
fn greatest<T>(rows: Vec<T>, most: usize, by: impl Fn(&T) -> f64) -> (Vec<T>, usize) {
    let left_out = rows.len().saturating_sub(most);
    if left_out == 0 {
        return (rows, 0);
    }
    let mut order: Vec<(usize, T)> = rows.into_iter().enumerate().collect();
    order.sort_by(|one, other| by(&other.1).total_cmp(&by(&one.1)));
    order.truncate(most);
    order.sort_by_key(|(at, _)| *at);
    (order.into_iter().map(|(_, row)| row).collect(), left_out)
}
