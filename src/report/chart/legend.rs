//! What lines, bars and marks mean.

use maud::{Markup, html};

use super::style::{Paint, Stroke};
use super::{LETTER, fitted, px, text_width};

/// What one colour, dash or mark means.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Key {
    /// What it looks like.
    pub(crate) sample: Sample,
    /// What it means.
    pub(crate) name: String,
}

/// What is explained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Sample {
    /// A line.
    Line(Stroke),
    /// A part of a bar.
    Bar(Paint),
    /// A mark across a bar.
    Tick,
    /// A mark on a bar.
    Dot,
}

const SAMPLE: f64 = 26.0;
const GAP: f64 = 16.0;
const PITCH: f64 = 19.0;

/// The keys in lines of `width`, from `top` down, and how high that is.
pub(super) fn draw(keys: &[Key], left: f64, width: f64, top: f64) -> (Markup, f64) {
    let (mut x, mut y) = (0.0, top);
    let mut placed = Vec::new();
    for key in keys {
        let name = fitted(&key.name, width - SAMPLE - 8.0, LETTER);
        let taken = SAMPLE + 6.0 + text_width(&name);
        if x > 0.0 && x + taken > width {
            x = 0.0;
            y += PITCH;
        }
        placed.push((left + x, y, key.sample, name));
        x += taken + GAP;
    }
    let height = if keys.is_empty() { 0.0 } else { y - top + PITCH };
    let markup = html! {
        @for (x, y, sample, name) in placed {
            (sample_at(sample, x, y))
            text class="label" x=(px(x + SAMPLE + 6.0)) y=(px(y + 12.5)) { (name) }
        }
    };
    (markup, height)
}

fn sample_at(sample: Sample, x: f64, y: f64) -> Markup {
    let middle = y + 8.5;
    match sample {
        Sample::Line(stroke) => html! {
            line class={ "line " (stroke.class()) } stroke-dasharray=[stroke.dashes()]
                x1=(px(x)) y1=(px(middle)) x2=(px(x + SAMPLE)) y2=(px(middle)) {}
        },
        Sample::Bar(paint) => paint.rect(x, y + 2.0, SAMPLE, 12.0),
        Sample::Tick => html! {
            line class="mark" x1=(px(x + SAMPLE / 2.0)) y1=(px(y + 1.0)) x2=(px(x + SAMPLE / 2.0)) y2=(px(y + 16.0)) {}
        },
        Sample::Dot => html! { circle class="dot" cx=(px(x + SAMPLE / 2.0)) cy=(px(middle)) r="3.5" {} },
    }
}
