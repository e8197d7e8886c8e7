//! Draws a frame.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Margin, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Sparkline, Wrap};

use super::interval::Changes;
use super::keys::KEYS;
use super::rows::{Kind, Row, Subject, detail};
use super::sections::{Section, title, totals, window};
use super::state::{Pane, Question, Top};
use super::tone::Tone;
use crate::text::count;

/// Columns that the totals take; the sparkline has the others.
const TOTALS: u16 = 61;

/// Draws what there is to be seen.
pub(crate) fn draw(top: &Top, frame: &mut Frame<'_>) {
    let area = frame.area();
    if area.is_empty() {
        return;
    }
    let rows = [Constraint::Length(4), Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)];
    let [head, tabs, body, foot] = Layout::vertical(rows).areas(area);
    let changes = top.changes();
    draw_head(top, &changes, frame, head);
    frame.render_widget(Paragraph::new(tab_line(top, tabs.width)), tabs);
    draw_body(top, &changes, frame, body);
    frame.render_widget(Paragraph::new(foot_line(top)), foot);
    if let Some(question) = &top.question {
        popup(frame, " Drain? ", question_lines(question));
    } else if top.help {
        let keys = KEYS.iter().map(|(key, meaning)| {
            Line::from(vec![Span::styled(format!("{key:<12} "), Tone::Strong.style()), Span::raw(*meaning)])
        });
        popup(frame, " Keys ", keys.collect());
    }
    if top.plain {
        let area = frame.area();
        frame.buffer_mut().set_style(area, Style::new().fg(ratatui::style::Color::Reset));
    }
}

fn draw_head(top: &Top, changes: &Changes, frame: &mut Frame<'_>, area: Rect) {
    let Some(report) = &top.report else {
        frame.render_widget(Paragraph::new("waiting for the director ..."), area);
        return;
    };
    let mut state = vec![Span::styled(window(top, changes), Tone::Strong.style())];
    if top.paused {
        state.insert(0, Span::styled(" PAUSED ", Tone::Warn.style().add_modifier(Modifier::REVERSED)));
        state.insert(1, Span::raw(" "));
    }
    if let Some((_, since)) = &top.silent {
        let text = format!(" NO ANSWER for {} s ", since.as_secs());
        state = vec![Span::styled(text, Tone::Bad.style().add_modifier(Modifier::REVERSED))];
    }
    let state = Line::from(state);
    let [first, rest] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
    let state_width = u16::try_from(state.width()).unwrap_or(u16::MAX);
    let [left, right] =
        Layout::horizontal([Constraint::Min(0), Constraint::Length(state_width)]).spacing(1).areas(first);
    frame.render_widget(Paragraph::new(title(report)), left);
    frame.render_widget(Paragraph::new(state).alignment(Alignment::Right), right);
    frame.render_widget(Paragraph::new(totals(top, report, changes).to_vec()), rest);
    // Beside the first two lines; the third is as long as the screen is wide.
    let sparks = Rect { x: rest.x.saturating_add(TOTALS), height: rest.height.min(2), ..rest };
    let sparks = Rect { width: area.width.saturating_sub(TOTALS), ..sparks };
    if sparks.width > 4 && sparks.height == 2 {
        let skip = top.sparks.len().saturating_sub(usize::from(sparks.width));
        let data: Vec<u64> = top.sparks.iter().skip(skip).copied().collect();
        frame.render_widget(Sparkline::default().data(data).style(Tone::User.style()), sparks);
    }
}

fn tab_line(top: &Top, width: u16) -> Line<'static> {
    let mut spans = Vec::new();
    for (at, pane) in Pane::ALL.iter().enumerate() {
        let text = format!(" {} {} ", at + 1, pane.name());
        let style = if *pane == top.pane { Style::new().add_modifier(Modifier::REVERSED) } else { Tone::Dim.style() };
        spans.push(Span::styled(text, style));
    }
    let used: usize = spans.iter().map(Span::width).sum();
    let legend = [("█", Tone::User, "user "), ("▒", Tone::System, "system "), ("·", Tone::Dim, "idle")];
    let legend_width = 19;
    if matches!(top.pane, Pane::Overview | Pane::Only(Kind::Workers)) && used + legend_width <= usize::from(width) {
        spans.push(Span::raw(" ".repeat(usize::from(width) - used - legend_width)));
        for (sign, tone, meaning) in legend {
            spans.push(Span::styled(sign, tone.style()));
            spans.push(Span::raw(meaning));
        }
    }
    Line::from(spans)
}

fn draw_body(top: &Top, changes: &Changes, frame: &mut Frame<'_>, area: Rect) {
    let (width, height) = (usize::from(area.width), usize::from(area.height));
    let selectable = top.pane.table();
    let (tables, mut room): (Vec<(Kind, Vec<Row>)>, usize) = match top.pane {
        Pane::Overview => (Kind::ALL.map(|kind| (kind, top.rows(kind, changes))).to_vec(), height),
        Pane::Only(kind) => (vec![(kind, top.rows(kind, changes))], height),
    };
    let detail = detail_line(top, &tables);
    if detail.is_some() && room > 4 {
        room -= 1;
    }
    let needs: Vec<usize> = tables.iter().map(|(_, rows)| rows.len().max(1) + 1).collect();
    let mut lines = Vec::new();
    for ((kind, rows), height) in tables.iter().zip(allot(&needs, room)) {
        lines.extend(Section::of(top, *kind, rows, (width, height), *kind == selectable).lines);
    }
    lines.truncate(room);
    if let Some(detail) = detail.filter(|_| room < height) {
        lines.resize(room, Line::default());
        lines.push(detail);
    }
    if top.silent.is_some() {
        for line in &mut lines {
            line.style = line.style.add_modifier(Modifier::DIM);
        }
    }
    frame.render_widget(Paragraph::new(lines), area);
}

/// What is known of the selected real server, where that is the table.
fn detail_line(top: &Top, tables: &[(Kind, Vec<Row>)]) -> Option<Line<'static>> {
    let (kind, rows) = tables.iter().find(|(kind, _)| *kind == top.pane.table() && *kind == Kind::RealServers)?;
    let Subject::RealServer(name) = rows.get(top.selected(*kind, rows))?.subject else { return None };
    let text = format!("{}: {}", name.address, detail(top.real_server(name)?));
    Some(Line::styled(super::columns::printable(text), Tone::Dim.style()))
}

/// Gives each as many lines as it needs, and where there are too few, all an equal part of them.
fn allot(needs: &[usize], mut room: usize) -> Vec<usize> {
    let mut given = vec![0; needs.len()];
    while room > 0 {
        let mut progress = false;
        for (given, need) in given.iter_mut().zip(needs) {
            if *given < *need && room > 0 {
                *given += 1;
                room -= 1;
                progress = true;
            }
        }
        if !progress {
            break;
        }
    }
    given
}

fn foot_line(top: &Top) -> Line<'static> {
    if let Some(text) = &top.typing {
        return Line::from(vec![
            Span::styled("filter: ", Tone::Strong.style()),
            Span::raw(text.clone()),
            Span::styled(" ", Style::new().add_modifier(Modifier::REVERSED)),
            Span::styled("  Enter keeps it, Esc not", Tone::Dim.style()),
        ]);
    }
    if let Some(message) = &top.message {
        let tone = if message.bad { Tone::Bad } else { Tone::Strong };
        return Line::styled(super::columns::printable(message.text.clone()), tone.style());
    }
    if let Some((error, _)) = &top.silent {
        return Line::styled(super::columns::printable(error.clone()), Tone::Bad.style());
    }
    let mut spans = Vec::new();
    if !top.filter.is_empty() {
        spans.push(Span::styled(format!("filter: {} (Esc)  ", top.filter), Tone::Warn.style()));
    }
    spans.push(Span::styled(
        "Tab pane  t time  s sort  / filter  d drain  u undo  p pause  ? help  q quit",
        Tone::Dim.style(),
    ));
    Line::from(spans)
}

fn question_lines(question: &Question) -> Vec<Line<'static>> {
    let Question { name, weight, active } = question;
    vec![
        Line::raw(format!("Real server {}", name.address)),
        Line::raw(format!("of {}", name.service)),
        Line::raw(format!("weight {weight} -> 0: it keeps its {} active flows and gets no new ones.", count(*active))),
        Line::raw("It lasts until the director is reloaded or restarted."),
        Line::default(),
        Line::styled("y drains it, any other key does not", Tone::Strong.style()),
    ]
}

/// Lines in a frame in the middle of the screen, as large as they need and the screen allows.
fn popup(frame: &mut Frame<'_>, name: &'static str, lines: Vec<Line<'static>>) {
    let screen = frame.area();
    let wide = lines.iter().map(Line::width).max().unwrap_or(0).saturating_add(4);
    let width = u16::try_from(wide).unwrap_or(u16::MAX).min(screen.width);
    let inside = usize::from(width.saturating_sub(4)).max(1);
    let high = lines.iter().map(|line| line.width().div_ceil(inside).max(1)).sum::<usize>().saturating_add(2);
    let height = u16::try_from(high).unwrap_or(u16::MAX).min(screen.height);
    let area =
        Rect { x: screen.x + (screen.width - width) / 2, y: screen.y + (screen.height - height) / 2, width, height };
    frame.render_widget(Clear, area);
    frame.render_widget(Block::bordered().title(name), area);
    let text = Paragraph::new(lines).wrap(Wrap { trim: false });
    frame.render_widget(text, area.inner(Margin { horizontal: 2, vertical: 1 }));
}
