//! Pictures: what is to be drawn, in numbers and names, and the SVG of it.
//!
//! A picture is drawn at a width in CSS pixels, so that its letters have the size of those around it; one that is to
//! be read on a telephone is drawn again for it. Colours are classes, whose rules [`style`] has.

mod bars;
mod legend;
mod lines;
pub(crate) mod number;
pub(crate) mod scale;
pub(crate) mod style;

pub(crate) use bars::{BarChart, Mark, Row};
pub(crate) use legend::{Key, Sample};
pub(crate) use lines::{Axis, Line, LineChart};

use maud::{Markup, html};

/// Width of a picture on a page, in CSS pixels.
pub(crate) const WIDE: f64 = 760.0;
/// Width of a picture on a telephone, or beside others.
pub(crate) const NARROW: f64 = 340.0;

/// One picture.
#[derive(Clone, Debug)]
pub(crate) struct Picture {
    /// Names it among all pictures: lower-case letters, digits and hyphens.
    pub(crate) id: String,
    /// Its caption.
    pub(crate) title: String,
    /// What it shows, in words, for those who do not see it.
    pub(crate) description: String,
    /// What is drawn.
    pub(crate) chart: Chart,
}

/// What is drawn.
#[derive(Clone, Debug)]
pub(crate) enum Chart {
    /// Lines over two axes.
    Lines(LineChart),
    /// Horizontal bars.
    Bars(BarChart),
}

/// What a picture is drawn on.
#[derive(Clone, Copy, Debug)]
struct Sheet {
    /// In CSS pixels.
    width: f64,
    /// Where the picture begins; above is room for a title.
    top: f64,
}

/// A picture that is drawn.
#[derive(Debug)]
struct Drawing {
    height: f64,
    body: Markup,
}

impl Chart {
    fn draw(&self, sheet: &Sheet) -> Drawing {
        match self {
            Self::Lines(chart) => chart.draw(sheet),
            Self::Bars(chart) => chart.draw(sheet),
        }
    }
}

impl Picture {
    /// As an element of a page, which has the rules of [`style`]. `class` tells the page's sizes apart.
    pub(crate) fn inline(&self, width: f64, class: &str) -> Markup {
        let prefix = format!("{}-{class}", self.id);
        let drawing = self.chart.draw(&Sheet { width, top: 0.0 });
        let (title, description) = (format!("{prefix}-title"), format!("{prefix}-desc"));
        html! {
            svg class=(class) viewBox={ "0 0 " (px(width)) " " (px(drawing.height)) } role="img"
                aria-labelledby=(title) aria-describedby=(description) {
                title id=(title) { (self.title) }
                desc id=(description) { (self.description) }
                (drawing.body)
            }
        }
    }

    /// As a file of its own, in the colours for paper. Returns the SVG with its width and height.
    pub(crate) fn file(&self) -> (String, f64, f64) {
        const TITLE: f64 = 30.0;
        let drawing = self.chart.draw(&Sheet { width: WIDE, top: TITLE });
        let height = drawing.height.ceil();
        let svg = html! {
            svg xmlns="http://www.w3.org/2000/svg" width=(px(WIDE)) height=(px(height))
                viewBox={ "0 0 " (px(WIDE)) " " (px(height)) } role="img" {
                title { (self.title) }
                desc { (self.description) }
                style { (style::for_file()) }
                rect class="surface" width=(px(WIDE)) height=(px(height)) {}
                text class="heading" x="4" y="19" { (fitted(&self.title, WIDE - 8.0, 15.0)) }
                (drawing.body)
            }
        };
        (printable(&svg.into_string()), WIDE, height)
    }
}

/// A length or place in a picture, to a tenth of a pixel.
fn px(value: f64) -> String {
    if !value.is_finite() {
        return "0".to_owned();
    }
    let text = format!("{value:.1}");
    let text = text.strip_suffix(".0").unwrap_or(&text);
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// A text that a reader of XML or HTML takes: names come from documents, which may hold anything.
pub(crate) fn printable(text: &str) -> String {
    let forbidden = |letter: char| {
        (letter.is_control() && !matches!(letter, '\n' | '\t')) || matches!(letter, '\u{fffe}' | '\u{ffff}')
    };
    if text.contains(forbidden) { text.replace(forbidden, "\u{fffd}") } else { text.to_owned() }
}

/// Size of the letters in a picture, in CSS pixels.
const LETTER: f64 = 12.0;

/// How wide a text is at most, in letters of `size`: fonts differ, and the wide ones shall fit.
fn text_width_at(text: &str, size: f64) -> f64 {
    text.chars()
        .map(|letter| match letter {
            'm' | 'M' | 'W' | 'w' | '%' | '@' => 0.98,
            ' ' | 'i' | 'l' | 'j' | '.' | ',' | ':' | ';' | '\'' | '|' | 'I' | 't' | 'f' | 'r' | '(' | ')' | '-' => {
                0.43
            }
            '\u{20}'..='\u{2ff}' => 0.65,
            _ => 1.05,
        })
        .sum::<f64>()
        * size
}

fn text_width(text: &str) -> f64 {
    text_width_at(text, LETTER)
}

/// As much of a text as fits, with an ellipsis where something is left out.
fn fitted(text: &str, width: f64, size: f64) -> String {
    if text_width_at(text, size) <= width {
        return text.to_owned();
    }
    let mut fitted = String::new();
    for letter in text.chars() {
        fitted.push(letter);
        if text_width_at(&fitted, size) + size > width {
            fitted.pop();
            break;
        }
    }
    fitted + "…"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_short_and_always_numbers() {
        let places = [0.0, -0.01, 12.0, 12.34, -7.25, f64::NAN, f64::INFINITY].map(px);
        assert_eq!(places, ["0", "0", "12", "12.3", "-7.2", "0", "0"]);
    }

    #[test]
    fn what_is_too_long_is_cut() {
        assert_eq!(fitted("tcp 192.168.88.15:80", 500.0, LETTER), "tcp 192.168.88.15:80");
        let cut = fitted("tcp [2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535", 120.0, LETTER);
        assert!(cut.ends_with('…') && cut.starts_with("tcp [2001") && text_width(&cut) <= 125.0, "{cut}");
        assert_eq!(fitted("wide", 3.0, LETTER), "…");
    }
}
