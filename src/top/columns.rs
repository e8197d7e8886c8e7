//! Tables of text that are as wide as there is room.

use ratatui::text::{Line, Span};

use super::tone::Tone;

/// Columns below which the first column is not cut while others can go.
const LEAST_OF_FIRST: usize = 20;

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    pub(crate) head: &'static str,
    /// Whether its cells end in line.
    pub(crate) right: bool,
    /// Columns with a larger number go first where there is no room; those with 0 stay.
    pub(crate) spare: u8,
}

impl Column {
    pub(crate) const fn left(head: &'static str, spare: u8) -> Self {
        Self { head, right: false, spare }
    }

    pub(crate) const fn right(head: &'static str, spare: u8) -> Self {
        Self { head, right: true, spare }
    }
}

/// What is at one place of a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Cell {
    parts: Vec<(String, Tone)>,
    /// What it is sorted by, if not by its text.
    pub(crate) value: Option<f64>,
}

impl Cell {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::toned(text, Tone::Plain)
    }

    pub(crate) fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self { parts: vec![(printable(text.into()), tone)], value: None }
    }

    pub(crate) fn number(text: impl Into<String>, value: f64) -> Self {
        Self { value: Some(value), ..Self::text(text) }
    }

    /// Sorted by a number that its text is more than.
    pub(crate) fn valued(self, value: f64) -> Self {
        Self { value: Some(value), ..self }
    }

    pub(crate) fn parts(parts: Vec<(String, Tone)>, value: f64) -> Self {
        Self { parts, value: Some(value) }
    }

    /// All of its text.
    pub(crate) fn content(&self) -> String {
        self.parts.iter().map(|(text, _)| text.as_str()).collect()
    }

    fn width(&self) -> usize {
        self.parts.iter().map(|(text, _)| text.chars().count()).sum()
    }
}

/// Without what would move the cursor of a terminal.
pub(crate) fn printable(text: String) -> String {
    if text.contains(char::is_control) { text.replace(char::is_control, "?") } else { text }
}

/// How wide the columns of a table are. Those that have no room are `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Widths(Vec<Option<usize>>);

impl Widths {
    /// Of a table that is `width` columns of a terminal wide at most.
    pub(crate) fn fitting<'a>(
        columns: &[Column],
        rows: impl Iterator<Item = &'a [Cell]>,
        sorted: Option<usize>,
        width: usize,
    ) -> Self {
        let mut widths: Vec<Option<usize>> = columns
            .iter()
            .enumerate()
            .map(|(at, column)| Some(column.head.chars().count() + usize::from(sorted == Some(at)) * 2))
            .collect();
        for row in rows {
            for (widest, cell) in widths.iter_mut().zip(row) {
                *widest = (*widest).max(Some(cell.width()));
            }
        }
        let sum = |widths: &[Option<usize>]| {
            let shown = widths.iter().flatten();
            shown.clone().sum::<usize>() + shown.count().saturating_sub(1) * 2
        };
        let first = |widths: &[Option<usize>]| widths.first().copied().flatten().unwrap_or(0);
        while sum(&widths) - first(&widths) + first(&widths).min(LEAST_OF_FIRST) > width {
            let shown = columns.iter().enumerate().filter(|(at, column)| widths[*at].is_some() && column.spare > 0);
            let Some((at, _)) = shown.max_by_key(|(_, column)| column.spare) else { break };
            widths[at] = None;
        }
        let excess = sum(&widths).saturating_sub(width);
        if let Some(Some(first)) = widths.first_mut() {
            *first = first.saturating_sub(excess).max(1);
        }
        Self(widths)
    }

    /// The line of the heads; that by which rows are sorted has an arrow.
    pub(crate) fn head(&self, columns: &[Column], sorted: Option<(usize, bool)>) -> Line<'static> {
        let cells: Vec<Cell> = columns
            .iter()
            .enumerate()
            .map(|(at, column)| {
                let arrow = match sorted {
                    Some((by, true)) if by == at => " ↓",
                    Some((by, false)) if by == at => " ↑",
                    _ => "",
                };
                Cell::toned(format!("{}{arrow}", column.head), Tone::Head)
            })
            .collect();
        self.line(columns, &cells)
    }

    /// One row.
    pub(crate) fn line(&self, columns: &[Column], cells: &[Cell]) -> Line<'static> {
        let mut spans = Vec::new();
        for ((column, cell), width) in columns.iter().zip(cells).zip(&self.0) {
            let Some(width) = *width else { continue };
            if !spans.is_empty() {
                spans.push(Span::raw("  "));
            }
            let room = " ".repeat(width.saturating_sub(cell.width()));
            if column.right && !room.is_empty() {
                spans.push(Span::raw(room.clone()));
            }
            let mut left = width;
            for (text, tone) in &cell.parts {
                let text = cut(text, left);
                left -= text.chars().count();
                spans.push(Span::styled(text, tone.style()));
            }
            if !column.right && !room.is_empty() {
                spans.push(Span::raw(room));
            }
        }
        Line::from(spans)
    }
}

/// The beginning of a text, with an ellipsis in the place of what is cut off.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    if width > 0 {
        cut.push('…');
    }
    cut
}
