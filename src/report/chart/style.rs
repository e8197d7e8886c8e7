//! Colours, dashes and patterns.
//!
//! Five colours that stay apart for the colour-blind, by day and by night, and from their background; what they cannot
//! tell, dashes and lines across bars do, which also survive a printer without colours.

use std::fmt::Write;

use maud::{Markup, html};

use super::px;

/// A colour of the drawings: its name, on a light surface, on a dark one.
const COLORS: [(&str, &str, &str); 10] = [
    ("blue", "#005a9e", "#4a9fe6"),
    ("orange", "#d05a00", "#ef8a2b"),
    ("green", "#148a70", "#3ccfa8"),
    ("pink", "#c4579f", "#f0a6d6"),
    ("ink", "#242424", "#f6f6f6"),
    ("quiet", "#59616b", "#a9b3bd"),
    ("grid", "#dde1e6", "#333b44"),
    ("axis", "#8a939d", "#76808b"),
    ("idle", "#8a939d", "#76808b"),
    ("surface", "#ffffff", "#14181d"),
];

/// The colours that tell series apart.
const SERIES: [&str; 5] = ["blue", "orange", "green", "pink", "ink"];
/// The dashes that do it further.
const DASHES: [Option<&str>; 4] = [None, Some("9 4"), Some("2.5 3.5"), Some("11 3 2.5 3")];

/// How a line is drawn: the first five by colour, further ones by dashes as well. Four by five are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stroke(pub(crate) usize);

impl Stroke {
    pub(super) fn class(self) -> &'static str {
        ["line-blue", "line-orange", "line-green", "line-pink", "line-ink"][self.0 % SERIES.len()]
    }

    /// Neighbours have different dashes, so that
    /// they can be told apart without colours.
    pub(super) fn dashes(self) -> Option<&'static str> {
        DASHES[(self.0 % SERIES.len() + self.0 / SERIES.len()) % DASHES.len()]
    }
}

/// How a part of a bar is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Paint {
    color: Color,
    hatch: Option<Hatch>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Color {
    Blue,
    Orange,
    Green,
    Pink,
    Ink,
    Idle,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hatch {
    Stripes,
    Sparse,
    Dots,
    Level,
    Rails,
}

impl Paint {
    /// User stages, told apart by patterns.
    pub(crate) const USER: [Self; 6] = [
        Self::of(Color::Blue, None),
        Self::of(Color::Blue, Some(Hatch::Stripes)),
        Self::of(Color::Blue, Some(Hatch::Dots)),
        Self::of(Color::Blue, Some(Hatch::Sparse)),
        Self::of(Color::Blue, Some(Hatch::Rails)),
        Self::of(Color::Blue, Some(Hatch::Level)),
    ];
    /// System calls.
    pub(crate) const SYSTEM: [Self; 2] = [Self::of(Color::Orange, None), Self::of(Color::Orange, Some(Hatch::Stripes))];
    /// The kernel beside.
    pub(crate) const SOFTIRQ: Self = Self::of(Color::Green, Some(Hatch::Sparse));
    /// What is not told apart any further.
    pub(crate) const UNDIVIDED: Self = Self::of(Color::Pink, None);
    /// Nothing to do: awake, asleep.
    pub(crate) const IDLE: [Self; 2] = [Self::of(Color::Idle, None), Self::of(Color::Idle, Some(Hatch::Level))];

    /// One of several runs, in the colour of its line.
    pub(crate) const fn series(number: usize) -> Self {
        let color = match number % 5 {
            0 => Color::Blue,
            1 => Color::Orange,
            2 => Color::Green,
            3 => Color::Pink,
            _ => Color::Ink,
        };
        let hatch = match number / 5 % 4 {
            0 => None,
            1 => Some(Hatch::Stripes),
            2 => Some(Hatch::Dots),
            _ => Some(Hatch::Rails),
        };
        Self { color, hatch }
    }

    const fn of(color: Color, hatch: Option<Hatch>) -> Self {
        Self { color, hatch }
    }

    /// A filled rectangle.
    pub(super) fn rect(self, x: f64, y: f64, width: f64, height: f64) -> Markup {
        let class = match self.color {
            Color::Blue => "fill-blue",
            Color::Orange => "fill-orange",
            Color::Green => "fill-green",
            Color::Pink => "fill-pink",
            Color::Ink => "fill-ink",
            Color::Idle => "fill-idle",
        };
        html! {
            rect class=(class) x=(px(x)) y=(px(y)) width=(px(width)) height=(px(height)) {}
            @if let Some(hatch) = self.hatch { (hatch.over(x, y, width, height)) }
        }
    }
}

impl Hatch {
    /// Lines of the surface's colour over a bar, dashed: paths are cheap on paper, where patterns fill megabytes.
    fn over(self, x: f64, y: f64, width: f64, height: f64) -> Markup {
        let at = |part: f64| format!("M{} {}h{}", px(x), px(y + height * part), px(width));
        let (path, thickness, dashes) = match self {
            Self::Stripes => (at(0.5), height, Some("1.5 4.5")),
            Self::Sparse => (at(0.5), height, Some("1.5 10.5")),
            Self::Dots => (at(0.5), 3.0, Some("3 4")),
            Self::Level => (at(0.5), 2.2, None),
            Self::Rails => (at(0.28) + &at(0.72), 1.8, None),
        };
        html! { path class="hatch" stroke-width=(px(thickness)) stroke-dasharray=[dashes] d=(path) {} }
    }
}

/// The rules of all classes of a picture. `color` says a colour by its name.
fn rules(color: impl Fn(&str) -> String) -> String {
    let mut css = String::new();
    for name in SERIES.iter().chain(&["idle"]) {
        let color = color(name);
        let _ = write!(css, ".line-{name}{{stroke:{color}}}.fill-{name}{{fill:{color}}}");
    }
    let (ink, quiet, grid, axis, surface) =
        (color("ink"), color("quiet"), color("grid"), color("axis"), color("surface"));
    let _ = write!(
        css,
        ".surface{{fill:{surface}}}\
         .label{{fill:{ink};font-size:12px}}.quiet{{fill:{quiet};font-size:12px}}\
         .group{{fill:{ink};font-size:12px;font-weight:bold}}\
         .heading{{fill:{ink};font-size:15px;font-weight:bold}}\
         .grid{{stroke:{grid};stroke-width:1px;fill:none}}.axis{{stroke:{axis};stroke-width:1px;fill:none}}\
         .line{{stroke-width:2.2px;fill:none;stroke-linejoin:round}}\
         .hatch{{stroke:{surface};fill:none}}\
         .mark{{stroke:{ink};stroke-width:2.5px}}.dot{{fill:{surface};stroke:{ink};stroke-width:2px}}\
         .right{{text-anchor:end}}.middle{{text-anchor:middle}}"
    );
    css
}

/// The rules of a page, whose colours are custom properties, with their values [`for_light`] and [`for_dark`].
pub(crate) fn for_page() -> String {
    rules(|name| format!("var(--{name})"))
}

/// The colours on a light surface, as custom properties.
pub(crate) fn for_light() -> String {
    properties(|(name, light, _)| (name, light))
}

/// The colours on a dark surface, as custom properties.
pub(crate) fn for_dark() -> String {
    properties(|(name, _, dark)| (name, dark))
}

fn properties(choose: impl Fn((&'static str, &'static str, &'static str)) -> (&'static str, &'static str)) -> String {
    COLORS.into_iter().map(choose).fold(String::new(), |css, (name, color)| css + "--" + name + ":" + color + ";")
}

/// The rules of a picture that is a file, for paper.
pub(super) fn for_file() -> String {
    let color = |name: &str| COLORS.iter().find(|color| color.0 == name).map_or("#000", |color| color.1).to_owned();
    rules(color) + "text{font-family:'DejaVu Sans','Noto Sans','Liberation Sans',Arial,sans-serif}"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linear(hex: &str) -> [f64; 3] {
        [1, 3, 5].map(|at| {
            let value = f64::from(u8::from_str_radix(&hex[at..at + 2], 16).unwrap()) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        })
    }

    /// WCAG 2's contrast ratio.
    fn contrast(one: &str, other: &str) -> f64 {
        let luminance = |hex| {
            let [red, green, blue] = linear(hex);
            0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05
        };
        let (one, other) = (luminance(one), luminance(other));
        one.max(other) / one.min(other)
    }

    /// As eyes see, by the matrices of Machado, Oliveira and Fernandes (2009).
    const EYES: [(&str, [[f64; 3]; 3]); 4] = [
        ("usual", [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
        (
            "protanopia",
            [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        ),
        (
            "deuteranopia",
            [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
        ),
        (
            "tritanopia",
            [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
        ),
    ];

    /// CIE L*a*b* of a colour as these eyes see it.
    fn lab(hex: &str, eyes: &[[f64; 3]; 3]) -> [f64; 3] {
        let rgb = linear(hex);
        let seen = eyes.map(|row| row.iter().zip(rgb).map(|(a, b)| a * b).sum::<f64>().clamp(0.0, 1.0));
        let to_xyz = [[0.4339, 0.3762, 0.1899], [0.2126, 0.7152, 0.0722], [0.0177, 0.1095, 0.8729]];
        let [x, y, z] = to_xyz.map(|row| {
            let value = row.iter().zip(seen).map(|(a, b)| a * b).sum::<f64>();
            if value > 0.008856 { value.cbrt() } else { 7.787 * value + 16.0 / 116.0 }
        });
        [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
    }

    #[test]
    fn colours_stand_out_from_their_surface_and_from_each_other() {
        let chosen = |choose: fn(&(&'static str, &'static str, &'static str)) -> &'static str| {
            let named = |name: &str| choose(COLORS.iter().find(|color| color.0 == name).unwrap());
            (SERIES.map(named), named("surface"), [named("ink"), named("quiet")], [named("idle"), named("axis")])
        };
        for (series, surface, texts, graphics) in [chosen(|color| color.1), chosen(|color| color.2)] {
            for color in series.iter().chain(&graphics) {
                assert!(contrast(color, surface) >= 3.0, "{color} on {surface}: {}", contrast(color, surface));
            }
            for color in texts {
                assert!(contrast(color, surface) >= 4.5, "{color} on {surface}");
            }
            for (name, eyes) in &EYES {
                for (at, one) in series.iter().enumerate() {
                    for other in &series[..at] {
                        let (one_lab, other_lab) = (lab(one, eyes), lab(other, eyes));
                        let square: f64 = one_lab.iter().zip(other_lab).map(|(a, b)| (a - b).powi(2)).sum();
                        assert!(square.sqrt() >= 12.0, "{name}: {one} and {other} differ by {}", square.sqrt());
                    }
                }
            }
        }
    }

    #[test]
    fn twenty_lines_are_told_apart_and_neighbours_even_without_colours() {
        let looks: Vec<_> = (0..20).map(|number| (Stroke(number).class(), Stroke(number).dashes())).collect();
        for (at, look) in looks.iter().enumerate() {
            assert!(!looks[..at].contains(look), "{at}");
        }
        assert!(looks.windows(2).all(|pair| pair[0].1 != pair[1].1 || pair[0].0 != pair[1].0));
    }
}
