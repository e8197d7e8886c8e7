//! Lines over two axes.

use std::fmt::Write;

use maud::{Markup, html};

use super::scale::{Scale, Tick};
use super::style::Stroke;
use super::{Drawing, Key, NARROW, Sample, Sheet, fitted, legend, px, text_width};

/// Lines over two axes.
#[derive(Clone, Debug)]
pub(crate) struct LineChart {
    /// To the right.
    pub(crate) x: Axis,
    /// Up.
    pub(crate) y: Axis,
    /// What is drawn.
    pub(crate) lines: Vec<Line>,
}

/// An axis.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    /// What it measures, and in what unit.
    pub(crate) title: String,
    /// Where values stand.
    pub(crate) scale: Scale,
    /// The values that it names.
    pub(crate) ticks: Vec<Tick>,
}

/// A line.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// What it shows.
    pub(crate) name: String,
    /// How it is drawn.
    pub(crate) stroke: Stroke,
    /// Where it goes: pieces of x and y, with gaps between them.
    pub(crate) pieces: Vec<Vec<(f64, f64)>>,
}

/// The place of the lines on the sheet.
struct Plot {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
}

impl LineChart {
    pub(super) fn draw(&self, sheet: &Sheet) -> Drawing {
        let labels = self.y.ticks.iter().map(|tick| text_width(&tick.label)).fold(0.0, f64::max);
        let left = labels + 10.0;
        let plot = Plot {
            left,
            top: sheet.top + 26.0,
            width: sheet.width - left - 22.0,
            height: if sheet.width > NARROW { 290.0 } else { 220.0 },
        };
        let bottom = plot.top + plot.height;
        let keys: Vec<Key> =
            self.lines.iter().map(|line| Key { sample: Sample::Line(line.stroke), name: line.name.clone() }).collect();
        let (legend, legend_height) = legend::draw(&keys, 4.0, sheet.width - 8.0, bottom + 46.0);
        let body = html! {
            text class="quiet" x="4" y=(px(sheet.top + 13.0)) { (fitted(&self.y.title, sheet.width - 8.0, super::LETTER)) }
            (self.rows(&plot))
            (self.columns(&plot))
            text class="quiet middle" x=(px(plot.left + plot.width / 2.0)) y=(px(bottom + 36.0)) { (self.x.title) }
            @for line in &self.lines {
                path class={ "line " (line.stroke.class()) } stroke-dasharray=[line.stroke.dashes()] d=(self.path(line, &plot)) {}
            }
            (legend)
        };
        Drawing { height: bottom + 48.0 + legend_height, body }
    }

    /// Ticks of the axis that goes up, and its grid.
    fn rows(&self, plot: &Plot) -> Markup {
        html! {
            @for tick in &self.y.ticks {
                @let y = plot.top + plot.height * (1.0 - self.y.scale.place(tick.value));
                line class="grid" x1=(px(plot.left)) y1=(px(y)) x2=(px(plot.left + plot.width)) y2=(px(y)) {}
                text class="label right" x=(px(plot.left - 6.0)) y=(px(y + 4.0)) { (tick.label) }
            }
        }
    }

    /// Ticks of the axis to the right, those whose labels have room.
    fn columns(&self, plot: &Plot) -> Markup {
        let bottom = plot.top + plot.height;
        let mut free_from = f64::NEG_INFINITY;
        let mut labels = Vec::new();
        for tick in &self.x.ticks {
            let x = plot.left + plot.width * self.x.scale.place(tick.value);
            let half = text_width(&tick.label) / 2.0;
            // The last ones keep within the sheet.
            let middle = x.min(plot.left + plot.width + 20.0 - half);
            if middle - half >= free_from {
                labels.push((middle, &tick.label));
                free_from = middle + half + 6.0;
            }
        }
        html! {
            @for tick in &self.x.ticks {
                @let x = plot.left + plot.width * self.x.scale.place(tick.value);
                line class="grid" x1=(px(x)) y1=(px(plot.top)) x2=(px(x)) y2=(px(bottom + 4.0)) {}
            }
            @for (x, label) in labels {
                text class="label middle" x=(px(x)) y=(px(bottom + 18.0)) { (label) }
            }
            line class="axis" x1=(px(plot.left)) y1=(px(bottom)) x2=(px(plot.left + plot.width)) y2=(px(bottom)) {}
        }
    }

    fn path(&self, line: &Line, plot: &Plot) -> String {
        let mut path = String::new();
        for piece in &line.pieces {
            for (nth, (x, y)) in piece.iter().enumerate() {
                let x = plot.left + plot.width * self.x.scale.place(*x);
                let y = plot.top + plot.height * (1.0 - self.y.scale.place(*y));
                let _ = write!(path, "{}{} {}", if nth == 0 { 'M' } else { 'L' }, px(x), px(y));
            }
        }
        path
    }
}
