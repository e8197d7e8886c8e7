//! Frames, keys and rows, by two documents of a director under load, one second apart.

use std::collections::BTreeMap;

use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::{Color, Modifier};
use serde_json::Value;

use super::interval::Percentiles;
use super::keys::KEYS;
use super::rows::Kind;
use super::state::Pane;
use super::*;
use crate::stats::report::Report;

const EARLIER: &str = include_str!("../../tests/top/earlier.json");
const LATER: &str = include_str!("../../tests/top/later.json");

fn parse(document: &str) -> Report {
    serde_json::from_str(document).unwrap()
}

/// As it is after two answers.
fn top() -> Top {
    let mut top = Top::new(Window::Seconds(1), false);
    top.answered(parse(EARLIER));
    top.answered(parse(LATER));
    top
}

fn drawn(top: &Top, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(top, frame)).unwrap();
    terminal
}

fn text(top: &Top, width: u16, height: u16) -> String {
    drawn(top, width, height).backend().to_string()
}

fn press(top: &mut Top, keys: &str) -> Option<Request> {
    let mut request = None;
    for key in keys.chars() {
        let code = match key {
            '\n' => KeyCode::Enter,
            '\u{1b}' => KeyCode::Esc,
            '\u{8}' => KeyCode::Backspace,
            '\t' => KeyCode::Tab,
            key => KeyCode::Char(key),
        };
        request = top.press(KeyEvent::new(code, KeyModifiers::NONE));
    }
    request
}

/// The text is that of the file; with `UPDATE_FRAMES` the file becomes the text.
fn assert_file(name: &str, text: &str) {
    let path = format!("{}/tests/top/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_FRAMES").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{path}; UPDATE_FRAMES=1 writes it anew");
}

#[test]
fn a_frame_of_text_is_that_of_its_file() {
    let (earlier, mut later) = (parse(EARLIER), parse(LATER));
    assert!(between(&earlier, &mut later));
    let mut top = Top::new(Window::Between, true);
    top.answered(earlier);
    top.answered(later);
    for width in [80, 140] {
        let lines = whole(&top, width);
        assert!(lines.iter().all(|line| line.chars().count() <= width), "{lines:#?}");
        assert_file(&format!("batch-{width}.txt"), &(lines.join("\n") + "\n"));
    }
}

#[test]
fn frames_of_a_terminal_are_those_of_their_files() {
    let mut top = top();
    assert_file("overview-80x24.txt", &text(&top, 80, 24));
    assert_file("overview-120x40.txt", &text(&top, 120, 40));
    press(&mut top, "4jd");
    assert_file("drain-80x24.txt", &text(&top, 80, 24));
    press(&mut top, "n?");
    assert_file("help-80x24.txt", &text(&top, 80, 24));
}

#[test]
fn rates_between_two_documents_are_by_their_own_clock() {
    let (earlier, mut later) = (parse(EARLIER), parse(LATER));
    let counted = later.totals.tx.packets - earlier.totals.tx.packets;
    let span_ns = later.taken_at.monotonic_ns - earlier.taken_at.monotonic_ns;
    assert!(between(&earlier, &mut later));
    let [rate] = later.totals.rates[..] else { panic!("{:?}", later.totals.rates) };
    assert!((rate.tx_pps - counted as f64 * 1e9 / span_ns as f64).abs() < 1e-6, "{rate:?}");
    // Two runs of a director, or two documents in the wrong order, have no rates.
    let (mut other, mut first) = (parse(LATER), parse(EARLIER));
    other.started_at.unix_ns += 1;
    assert!(!between(&earlier, &mut other));
    assert!(!between(&later, &mut first));
}

#[test]
fn what_is_seen_is_of_the_time_between_the_documents() {
    let top = top();
    let changes = top.changes();
    let drops: BTreeMap<_, _> = changes.drops.iter().map(|drop| (drop.cause.as_str(), drop.total)).collect();
    assert_eq!(drops, BTreeMap::from([("malformed", 3), ("rx_ring_full", 1007), ("tx_ring_full", 65)]));
    assert_eq!(changes.drops[0].cause, "rx_ring_full", "the fastest first");
    assert_eq!(changes.drops[2].per_second, Some(0.0));
    for load in changes.loads.values() {
        assert!((load.user() + load.system + load.idle - 1.0).abs() < 1e-9, "{load:?}");
    }
    let (earlier, mut later) = (parse(EARLIER), parse(LATER));
    // Of a thousand new frames one took a second, whatever there was before.
    later.totals.latency.buckets.clone_from(&earlier.totals.latency.buckets);
    let bucket = &mut later.totals.latency.buckets[3];
    bucket.count += 999;
    let usual = bucket.to_ns;
    let mut slow = *bucket;
    (slow.from_ns, slow.to_ns, slow.count) = (1 << 30, (1 << 31) - 1, 1);
    later.totals.latency.buckets.push(slow);
    let mut top = Top::new(Window::Seconds(1), false);
    top.answered(earlier);
    top.answered(later);
    let expected = Percentiles { p50: usual, p90: usual, p99: usual, p99_9: usual, max: slow.to_ns };
    assert_eq!(top.changes().latency, Some(expected));
}

#[test]
fn keys_do_what_the_help_says() {
    let mut top = top();
    press(&mut top, "\t");
    assert_eq!(top.pane, Pane::Only(Kind::Workers));
    press(&mut top, "5");
    assert_eq!(top.pane, Pane::Only(Kind::Drops));
    press(&mut top, "t");
    assert_eq!(top.window, Window::Seconds(10));
    press(&mut top, "p");
    assert!(top.paused);
    top.answered(parse(EARLIER));
    assert_eq!(top.report.as_ref().unwrap().taken_at, parse(LATER).taken_at, "it stands still");
    assert!(text(&top, 80, 24).contains("PAUSED"));
    press(&mut top, " ");
    assert!(!top.paused);
    press(&mut top, "?");
    assert!(top.help);
    press(&mut top, "d");
    assert!(!top.help && top.question.is_none(), "the key that closes the help does nothing else");
    assert_eq!(press(&mut top, "q"), Some(Request::Quit));
    let control = |key| KeyEvent::new(KeyCode::Char(key), KeyModifiers::CONTROL);
    press(&mut top, "/");
    assert_eq!(top.press(control('l')), Some(Request::Redraw));
    assert_eq!(top.press(control('c')), Some(Request::Quit), "also while a filter is typed");
    let help = std::fs::read_to_string("docs/top.md").unwrap();
    for (keys, meaning) in KEYS {
        assert!(help.contains(&format!("| `{keys}` | {meaning}")), "docs/top.md lacks {keys}: {meaning}");
    }
}

fn servers(top: &Top) -> Vec<String> {
    let rows = top.rows(Kind::RealServers, &top.changes());
    rows.iter().map(|row| format!("{} {}", row.cells[0].content(), row.cells[1].content())).collect()
}

#[test]
fn a_filter_is_seen_while_it_is_typed_and_kept_by_enter() {
    let mut top = top();
    let all = servers(&top).len();
    press(&mut top, "/UDP .200q");
    assert_eq!(servers(&top), [""; 0], "q is a letter of it");
    press(&mut top, "\u{8}");
    assert_eq!(servers(&top), ["udp 192.168.88.15:9 192.168.88.200"]);
    press(&mut top, "\u{1b}");
    assert_eq!(servers(&top).len(), all);
    press(&mut top, "/drain\n");
    assert_eq!(servers(&top), ["udp 192.168.88.15:9 192.168.88.100"]);
    assert!(text(&top, 80, 24).contains("filter: drain"));
    press(&mut top, "\u{1b}3j\n");
    assert_eq!(top.pane, Pane::Only(Kind::RealServers));
    assert_eq!(servers(&top).len(), 3, "those of the second service");
    top.paste("d\ny");
    assert_eq!((top.question, top.filter.as_str()), (None, "udp 192.168.88.15:9"), "what is pasted is no command");
}

#[test]
fn rows_are_sorted_by_number_or_text_and_the_selection_stays_with_its_row() {
    let mut top = top();
    let own = servers(&top);
    press(&mut top, "4jj");
    let selected = top.subject();
    press(&mut top, "sss");
    let rows = top.rows(Kind::RealServers, &top.changes());
    let weights: Vec<_> = rows.iter().map(|row| row.cells[2].value.unwrap()).collect();
    assert!(weights.is_sorted_by(|a, b| a >= b), "{weights:?}");
    assert_eq!(top.subject(), selected);
    press(&mut top, "r");
    let rows = top.rows(Kind::RealServers, &top.changes());
    assert!(rows.iter().map(|row| row.cells[2].value.unwrap()).is_sorted());
    press(&mut top, "SS");
    assert!(servers(&top).is_sorted(), "by the service's name");
    press(&mut top, "S");
    assert_eq!(servers(&top), own, "as the director has them");
}

#[test]
fn a_drain_is_asked_for_and_undone() {
    let mut top = top();
    assert_eq!(press(&mut top, "u"), None);
    assert_eq!(press(&mut top, "4d"), None);
    assert!(text(&top, 80, 24).contains("weight 1 -> 0"));
    assert_eq!(press(&mut top, "\n"), None, "only y is a yes");
    let name = top.subject().map(|subject| match subject {
        rows::Subject::RealServer(name) => name,
        other => panic!("{other:?}"),
    });
    let name = name.unwrap();
    assert_eq!(press(&mut top, "dy"), Some(Request::Drain(name)));
    let drained = Drained { name, weight: 7 };
    top.changed(Outcome::Drained(drained));
    assert_eq!(press(&mut top, "ju"), Some(Request::Restore(drained)), "the last, if another is selected");
    let failed = Outcome::Failed { what: "x".to_owned(), error: "no answer".to_owned() };
    top.changed(failed);
    assert_eq!(press(&mut top, "u"), Some(Request::Restore(drained)), "once more");
    top.changed(Outcome::Restored(drained));
    assert_eq!(press(&mut top, "u"), None);
    top.changed(Outcome::Drained(drained));
    top.changed(Outcome::Overtaken { drained, now: Some(3) });
    assert!(top.message.as_ref().unwrap().text.contains("has weight 3: left as it is"));
    assert_eq!(press(&mut top, "u"), None);
    press(&mut top, "2d");
    assert_eq!(top.question, None, "a worker is not drained");
}

#[test]
fn no_answer_is_told_and_a_restart_survived() {
    let mut top = top();
    top.unanswered("no director answers".to_owned(), std::time::Duration::from_secs(12));
    let shown = text(&top, 80, 24);
    assert!(shown.contains("NO ANSWER for 12 s") && shown.contains("no director answers"), "{shown}");
    let mut restarted = parse(EARLIER);
    restarted.started_at.unix_ns += 1_000_000_000;
    top.answered(restarted);
    assert_eq!(top.silent, None);
    assert_eq!(top.changes().span_ns, None, "nothing is compared with another run");
    assert!(text(&top, 80, 24).contains("was restarted"));
}

#[test]
fn without_colour_all_is_said_all_the_same() {
    let mut plain = top();
    plain.plain = true;
    let (coloured, plain) = (drawn(&top(), 80, 24), drawn(&plain, 80, 24));
    let cells = |terminal: &Terminal<TestBackend>| terminal.backend().buffer().content.clone();
    assert!(cells(&coloured).iter().any(|cell| cell.fg == Color::Cyan));
    assert!(cells(&plain).iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
    assert!(cells(&plain).iter().any(|cell| cell.modifier.contains(Modifier::REVERSED)), "the selected row");
    assert_eq!(coloured.backend().to_string(), plain.backend().to_string());
}

/// Puts other numbers in the place of some, nulls where they may be, and control characters into names.
fn spoil(value: &mut Value, random: &mut fastrand::Rng) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match name.as_str() {
                    "hostname" | "service" | "egress" if random.u8(..4) == 0 => *value = "\u{1b}[2J\n\u{7}é漢字".into(),
                    "p50" | "p99" | "next_hop" | "core" if random.u8(..4) == 0 => *value = Value::Null,
                    "rates" | "workers" | "virtual_services" | "cpus" if random.u8(..16) == 0 => {
                        *value = Value::Array(Vec::new());
                    }
                    _ => spoil(value, random),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| spoil(item, random)),
        Value::Number(number) if number.is_f64() => {
            *value = [0.0, 1e-9, 3.7e18, 1e300][random.usize(..4)].into();
        }
        Value::Number(number) if number.as_u64() > Some(u64::from(u16::MAX)) && random.u8(..3) == 0 => {
            *value = [0, u64::MAX, random.u64(..)][random.usize(..3)].into();
        }
        _ => {}
    }
}

fn spoilt(document: &str, seed: u64) -> Option<Report> {
    let mut document: Value = serde_json::from_str(document).unwrap();
    spoil(&mut document, &mut fastrand::Rng::with_seed(seed));
    serde_json::from_value(document).ok()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn nothing_panics_whatever_the_size_the_numbers_and_the_keys(
        width in 1_u16..150,
        height in 1_u16..60,
        seed: u64,
        keys in "[1-5jkgGstSrpduynh?/ \\x1b\n\t]{0,12}",
    ) {
        let mut top = Top::new(Window::Seconds(1), seed % 2 == 0);
        drawn(&top, width, height);
        let reports = [spoilt(EARLIER, seed), spoilt(LATER, seed.wrapping_add(1)), Some(parse(LATER))];
        for report in reports.into_iter().flatten() {
            top.answered(report);
        }
        press(&mut top, &keys);
        let terminal = drawn(&top, width, height);
        for cell in &terminal.backend().buffer().content {
            prop_assert!(!cell.symbol().contains(char::is_control), "{:?}", cell.symbol());
        }
        drawn(&top, 1, 1);
        for line in whole(&top, usize::from(width)) {
            prop_assert!(!line.contains(char::is_control), "{line:?}");
        }
    }
}
