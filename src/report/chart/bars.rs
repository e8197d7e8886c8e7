//! Horizontal bars of parts, with marks on them.

use maud::{Markup, html};

use super::scale::{Scale, Tick};
use super::style::Paint;
use super::{Drawing, Key, LETTER, Sheet, fitted, legend, px, text_width};

/// Horizontal bars.
#[derive(Clone, Debug)]
pub(crate) struct BarChart {
    /// What their lengths measure, and in what unit.
    pub(crate) title: String,
    /// Where lengths end.
    pub(crate) scale: Scale,
    /// The lengths that are named.
    pub(crate) ticks: Vec<Tick>,
    /// The bars, from the top down.
    pub(crate) rows: Vec<Row>,
    /// What parts and marks mean.
    pub(crate) keys: Vec<Key>,
}

/// A bar.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// What it stands for.
    pub(crate) label: String,
    /// Its parts, from the left.
    pub(crate) parts: Vec<(Paint, f64)>,
    /// Marks on it.
    pub(crate) marks: Vec<(Mark, f64)>,
    /// What is written behind it.
    pub(crate) value: String,
    /// A heading above it, where a group begins.
    pub(crate) group: Option<String>,
}

/// A mark on a bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// A line across it.
    Tick,
    /// A circle.
    Dot,
}

/// Where things are on the sheet.
struct Layout {
    left: f64,
    width: f64,
    /// Whether a row's label has a line of its own, above the bar.
    above: bool,
}

/// Height of a bar.
const BAR: f64 = 13.0;
/// From one bar to the next.
const PITCH: f64 = 19.0;
/// Height of a line of letters above a bar.
const TEXT: f64 = 16.0;

impl BarChart {
    pub(super) fn draw(&self, sheet: &Sheet) -> Drawing {
        let widest = |texts: &mut dyn Iterator<Item = &String>| texts.map(|text| text_width(text)).fold(0.0, f64::max);
        let labels = widest(&mut self.rows.iter().map(|row| &row.label));
        let values = widest(&mut self.rows.iter().map(|row| &row.value));
        let above = labels > sheet.width * 0.36;
        let left = if above || labels == 0.0 { 6.0 } else { labels + 12.0 };
        let layout = Layout { left, width: sheet.width - left - (values + 10.0).max(22.0), above };
        let top = sheet.top + 42.0;
        let (bars, bottom) = self.bars(&layout, top, sheet);
        let (legend, legend_height) = legend::draw(&self.keys, 4.0, sheet.width - 8.0, bottom + 12.0);
        let body = html! {
            text class="quiet" x="4" y=(px(sheet.top + 13.0)) { (fitted(&self.title, sheet.width - 8.0, LETTER)) }
            (self.axis(&layout, top, bottom))
            (bars)
            line class="axis" x1=(px(layout.left)) y1=(px(top - 4.0)) x2=(px(layout.left)) y2=(px(bottom)) {}
            (legend)
        };
        Drawing { height: bottom + 14.0 + legend_height, body }
    }

    /// The ticks, those named whose labels have room.
    fn axis(&self, layout: &Layout, top: f64, bottom: f64) -> Markup {
        let mut free_from = f64::NEG_INFINITY;
        let mut ticks = Vec::new();
        for tick in &self.ticks {
            let x = layout.left + layout.width * self.scale.place(tick.value);
            let half = text_width(&tick.label) / 2.0;
            let middle = x.max(half);
            let label = (middle - half >= free_from).then_some(&tick.label);
            if label.is_some() {
                free_from = middle + half + 6.0;
            }
            ticks.push((x, middle, label));
        }
        html! {
            @for (x, middle, label) in ticks {
                line class="grid" x1=(px(x)) y1=(px(top - 4.0)) x2=(px(x)) y2=(px(bottom)) {}
                @if let Some(label) = label {
                    text class="quiet middle" x=(px(middle)) y=(px(top - 9.0)) { (label) }
                }
            }
        }
    }

    /// The bars, and where the last one ends.
    fn bars(&self, layout: &Layout, top: f64, sheet: &Sheet) -> (Markup, f64) {
        let mut y = top;
        let mut drawn = Vec::new();
        for row in &self.rows {
            if row.group.is_some() {
                y += TEXT + 4.0;
            }
            if layout.above {
                y += TEXT;
            }
            drawn.push(self.row(row, layout, y, sheet));
            y += PITCH;
        }
        (html! { @for row in drawn { (row) } }, y)
    }

    fn row(&self, row: &Row, layout: &Layout, y: f64, sheet: &Sheet) -> Markup {
        let place = |value: f64| layout.left + layout.width * self.scale.place(value);
        let mut sum = 0.0;
        let mut parts = Vec::new();
        for (paint, value) in row.parts.iter().filter(|(_, value)| *value > 0.0) {
            let (from, to) = (place(sum), place(sum + value));
            sum += value;
            // A gap tells neighbours apart; what is too small for one is drawn as a hair.
            parts.push(paint.rect(from, y + 2.0, (to - from - 1.0).max(0.5), BAR));
        }
        let label_above = y - 3.0;
        let group_y = if layout.above { label_above - TEXT } else { label_above - 1.0 };
        html! {
            @if let Some(group) = &row.group {
                text class="group" x="4" y=(px(group_y)) { (fitted(group, sheet.width - 8.0, LETTER * 1.1)) }
            }
            @if layout.above {
                text class="label" x=(px(layout.left)) y=(px(label_above + 1.0)) { (fitted(&row.label, sheet.width - 12.0, LETTER)) }
            } @else if !row.label.is_empty() {
                text class="label right" x=(px(layout.left - 6.0)) y=(px(y + 12.5)) { (row.label) }
            }
            @for part in parts { (part) }
            @for (mark, value) in &row.marks { (mark.at(place(*value), y)) }
            @if !row.value.is_empty() {
                text class="label" x=(px(place(sum) + 6.0)) y=(px(y + 12.5)) { (row.value) }
            }
        }
    }
}

impl Mark {
    fn at(self, x: f64, y: f64) -> Markup {
        match self {
            Self::Tick => {
                html! { line class="mark" x1=(px(x)) y1=(px(y)) x2=(px(x)) y2=(px(y + BAR + 4.0)) {} }
            }
            Self::Dot => html! { circle class="dot" cx=(px(x)) cy=(px(y + 2.0 + BAR / 2.0)) r="3.5" {} },
        }
    }
}
