//! `pointsman report` from the outside: what is a run, what the page says, what bad input is told.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod program;
mod runs;
mod sources;

use std::fs;
use std::os::unix::fs::symlink;

use pointsman::report::{page, read_runs};
use pointsman::stats::collect::Collector;
use program::{Said, Workspace, run};
use proptest::prelude::*;
use runs::{DIRECTOR, Director};
use scraper::{ElementRef, Html, Selector};
use serde_json::{Value, json};
use sources::{director, fill, kernel};

/// The report of these files.
fn report(workspace: &Workspace, files: &[&str], options: &[&str]) -> (Said, String) {
    let page = workspace.path("report.html");
    let _ = fs::remove_file(&page);
    let said = run(["report", "-o", &page].into_iter().chain(options.iter().copied()).chain(files.iter().copied()));
    (said, fs::read_to_string(&page).unwrap_or_default())
}

fn good(workspace: &Workspace, files: &[&str], options: &[&str]) -> String {
    let (said, page) = report(workspace, files, options);
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (Some(0), "", ""));
    page
}

/// The tables of a section: for each row its cells, a number by its value and else by its words.
fn rows(page: &str, section: &str) -> Vec<Vec<String>> {
    let page = Html::parse_document(page);
    let row = Selector::parse(&format!("#{section} tbody tr")).unwrap();
    let (cells, data) = (Selector::parse("th, td").unwrap(), Selector::parse("data").unwrap());
    let cell = |cell: ElementRef<'_>| match cell.select(&data).next() {
        Some(data) => data.attr("value").unwrap().to_owned(),
        None => cell.text().collect(),
    };
    page.select(&row).map(|row| row.select(&cells).map(cell).collect()).collect()
}

fn labels(page: &str) -> Vec<String> {
    rows(page, "summary").into_iter().map(|row| row[0].clone()).collect()
}

#[test]
fn the_numbers_of_a_single_document_are_the_documents() {
    let workspace = Workspace::new();
    let document = DIRECTOR.document(60);
    let page = good(&workspace, &[&workspace.file("run.json", document.to_string())], &[]);
    let totals = &document["totals"];
    let throughput = &rows(&page, "throughput")[0];
    assert_eq!(
        throughput[..5],
        [
            "run".to_owned(),
            "60".to_owned(),
            totals["received"]["packets"].to_string(),
            totals["tx"]["packets"].to_string(),
            totals["drops"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum::<u64>().to_string(),
        ]
    );
    for (row, kind) in rows(&page, "latency").iter().zip(["latency", "queueing", "processing", "completion"]) {
        let latency = &totals[kind];
        let fields = ["count", "min", "mean", "p50", "p90", "p99", "p99_9", "p99_99", "max"];
        let wanted: Vec<f64> = fields.map(|field| latency[field].as_f64().unwrap()).into();
        let shown: Vec<f64> = row[2..].iter().map(|cell| cell.parse().unwrap()).collect();
        assert_eq!(shown, wanted, "{kind}");
    }
    for (row, worker) in rows(&page, "load").iter().zip(document["workers"].as_array().unwrap()) {
        assert_eq!(row[3], worker["received"]["packets"].to_string());
        let work = worker["cycles"]["busy"].as_f64().unwrap()
            / (worker["cycles"]["busy"].as_f64().unwrap() + worker["cycles"]["idle"].as_f64().unwrap());
        assert!((row[5].parse::<f64>().unwrap() - work).abs() < 1e-3, "{row:?} {work}");
    }
    let servers = document["virtual_services"][0]["real_servers"].as_array().unwrap();
    assert_eq!(rows(&page, "shares").len(), servers.len());
    for (row, server) in rows(&page, "shares").iter().zip(servers) {
        let of = |pointer| server.pointer(pointer).unwrap().to_string();
        assert_eq!((&row[3], &row[5], &row[7]), (&of("/weight"), &of("/connections/begun"), &of("/tx/packets")));
    }
    let drops = rows(&page, "drops");
    for (cause, count) in totals["drops"].as_object().unwrap() {
        assert!(drops.contains(&vec![cause.clone(), count.to_string()]), "{cause} {count} in {drops:?}");
    }
    for fact in ["director1.example.net", "6.12.30-amd64", "2026-11-1", "eth0 (native XDP, 2 queues, zero copy)"] {
        assert!(page.contains(fact), "{fact}");
    }
}

#[test]
fn a_run_is_the_difference_of_its_documents_however_they_lie_in_files() {
    let workspace = Workspace::new();
    let whole = workspace.file("run.jsonl", DIRECTOR.series(10..=40));
    let (first, last) = (DIRECTOR.document(10), DIRECTOR.document(40));
    let pretty = serde_json::to_string_pretty(&first).unwrap();
    let pieces = [
        workspace.file("c.jsonl", DIRECTOR.series(31..=40)),
        workspace.file("a.jsonl", DIRECTOR.series(10..=20)),
        workspace.file("b.jsonl", DIRECTOR.series(21..=30)),
    ];
    let ends = [workspace.file("first.json", &pretty), workspace.file("last.json", last.to_string())];
    let both = workspace.file("both.json", format!("{pretty}\n\n{last}"));
    let difference = |pointer: &str| {
        let of = |document: &Value| document.pointer(pointer).unwrap().as_u64().unwrap();
        (of(&last) - of(&first)).to_string()
    };
    let all: [Vec<&str>; 4] = [
        vec![&whole],
        pieces.iter().map(String::as_str).collect(),
        ends.iter().map(String::as_str).collect(),
        vec![&both],
    ];
    for files in all {
        let page = good(&workspace, &files, &[]);
        let throughput = rows(&page, "throughput");
        assert_eq!(throughput.len(), 1, "{files:?}");
        assert_eq!(throughput[0][1..3], ["30".to_owned(), difference("/totals/received/packets")], "{files:?}");
        assert_eq!(rows(&page, "latency")[0][2], difference("/totals/latency/count"));
        for (at, row) in rows(&page, "shares").iter().enumerate() {
            assert_eq!(row[7], difference(&format!("/virtual_services/0/real_servers/{at}/tx/packets")), "{files:?}");
        }
        assert!(page.contains("figure-throughput"), "a course over time");
    }
    let apart = good(&workspace, &[&pieces[1], &pieces[2]], &["--apart"]);
    assert_eq!(labels(&apart), ["a", "b"]);
}

#[test]
fn what_began_anew_is_counted_whole() {
    let workspace = Workspace::new();
    let mut documents: Vec<Value> = (1..=4).map(|second| DIRECTOR.document(second)).collect();
    let packets =
        |document: &Value| document.pointer("/virtual_services/0/real_servers/0/tx/packets").unwrap().as_u64().unwrap();
    let before = packets(&documents[1]) - packets(&documents[0]);
    // Removed, then back with new counters.
    documents[2]["virtual_services"][0]["real_servers"].as_array_mut().unwrap().remove(0);
    documents[3]["virtual_services"][0]["real_servers"][0]["tx"] = json!({"packets": 17, "bytes": 1700});
    let series: String = documents.iter().map(|document| document.to_string() + "\n").collect();
    let page = good(&workspace, &[&workspace.file("run.jsonl", series)], &[]);
    assert_eq!(rows(&page, "shares")[0][7], (before + 17).to_string());
}

#[test]
fn runs_are_named_by_files_or_as_asked() {
    let workspace = Workspace::new();
    fs::create_dir(workspace.path("a")).unwrap();
    let other = Director { started_unix_s: 1_796_000_000, ..DIRECTOR };
    let one = workspace.file("run.json", DIRECTOR.document(9).to_string());
    let second = workspace.file("a/run.json", other.document(9).to_string());
    let third = workspace.file("later.json", other.document(9).to_string());
    assert_eq!(labels(&good(&workspace, &[&one, &third], &[])), ["run", "later"]);
    assert_eq!(labels(&good(&workspace, &[&one, &second], &[])), [one.clone(), second.clone()]);
    assert_eq!(labels(&good(&workspace, &[&one, &second], &["--label", "x", "--label", "y"])), ["x", "y"]);
    let restarted = workspace.file("restarted.jsonl", DIRECTOR.series(1..3) + &other.series(1..3));
    let names = labels(&good(&workspace, &[&restarted], &[]));
    assert_eq!(names, [format!("1 {restarted}"), format!("2 {restarted}")]);
    let (said, _) = report(&workspace, &[&one, &second], &["--label", "x"]);
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("1 --label for 2 runs"), "{said:?}");
}

#[test]
fn bad_input_is_told_in_one_sentence_that_names_the_file() {
    let workspace = Workspace::new();
    let document = DIRECTOR.document(60).to_string();
    let with = |field: &str, value: Value| {
        let mut document = DIRECTOR.document(60);
        document[field] = value;
        document.to_string()
    };
    let file = |name: &str, content: String| workspace.file(name, content);
    let ours = [
        file("empty", String::new()),
        file("blank", "\n \n".to_owned()),
        file("cut", document[..document.len() / 2].to_owned()),
        file("text", "no JSON at all\n".to_owned()),
        file("array", "[1, 2]".to_owned()),
        file("foreign", json!({"name": "x", "results": []}).to_string()),
        file("newer", with("schema_version", json!(2))),
        file("odd", with("schema_version", json!("one"))),
        file("wrong", with("workers", json!([{"worker": -1}]))),
        file("lacking", json!({"schema_version": 1}).to_string()),
        file("later", format!("{document}\n{document}\n{{\"x\": tru}}\n")),
        file("mixed", format!("{document}\n{}\n", with("schema_version", json!(7)))),
    ];
    let packed = workspace.file("run.json.gz", [0x1f, 0x8b, 8, 0, 1, 2, 3]);
    let expected = [
        "is empty",
        "is empty",
        "ends in the middle of its only document",
        "not JSON at column",
        "but no object",
        "it has no schema_version",
        "has schema_version 2, written by pointsman 0.1.0",
        "schema_version is none",
        "workers[0].worker: ",
        "missing field `started_at`",
        "line 3: not JSON",
        "has schema_version 7",
    ];
    let good = file("good.json", document.clone());
    for (path, expected) in ours.iter().zip(expected).chain([(&packed, "it is compressed; unpack it first")]) {
        let (said, page) = report(&workspace, &[&good, path], &[]);
        assert_eq!((said.code, said.out.as_str(), page.as_str()), (Some(2), "", ""), "{path}");
        assert!(said.err.contains(path) && said.err.contains(expected), "{expected}: {}", said.err);
        assert_eq!(said.err.lines().count(), 1, "{}", said.err);
    }
    for (path, expected) in [(workspace.path("missing"), "No such file"), (workspace.path(""), "Is a directory")] {
        let (said, page) = report(&workspace, &[&good, &path], &[]);
        assert_eq!((said.code, page.as_str()), (Some(1), ""));
        assert!(said.err.contains(&path) && said.err.contains(expected), "{}", said.err);
    }
    let overlap = [file("x.jsonl", DIRECTOR.series(1..9)), file("y.jsonl", DIRECTOR.series(5..12))];
    let (said, _) = report(&workspace, &[&overlap[0], &overlap[1]], &[]);
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("overlap in time") && overlap.iter().all(|file| said.err.contains(file)), "{said:?}");
}

#[test]
fn a_series_whose_last_line_is_being_written_is_used_without_it() {
    let workspace = Workspace::new();
    let last = DIRECTOR.document(9).to_string();
    let series = workspace.file("run.jsonl", DIRECTOR.series(1..9) + &last[..last.len() / 3]);
    let (said, page) = report(&workspace, &[&series], &[]);
    assert_eq!(said.code, Some(0));
    assert!(said.err.contains("warning: ") && said.err.contains("1 incomplete document"), "{said:?}");
    assert!(page.contains("1 incomplete document"));
    assert_eq!(rows(&page, "throughput")[0][1], "7");
}

#[test]
fn what_a_document_lacks_is_said() {
    let workspace = Workspace::new();
    let older =
        workspace.file("old.json", Director { later: false, version: "0.0.9", ..DIRECTOR }.document(60).to_string());
    let page = good(&workspace, &[&older], &[]);
    for lacking in ["latency of this kind: queueing", "cycles by stage", "frequency of its cycles", "time in softirqs"]
    {
        let sentence = format!("old (made by pointsman 0.0.9) has no {lacking}");
        assert!(page.contains(&sentence), "{sentence}");
    }
    let minimal = json!({
        "schema_version": 1, "started_at": {"unix_ns": 0, "monotonic_ns": 0},
        "taken_at": {"unix_ns": 0, "monotonic_ns": 0}, "workers": [], "totals": {},
    });
    good(&workspace, &[&workspace.file("minimal.json", minimal.to_string())], &[]);
}

#[test]
fn the_page_is_written_whole_to_what_is_named() {
    let workspace = Workspace::new();
    let good = workspace.file("run.json", DIRECTOR.document(60).to_string());
    let target = workspace.file("target.html", "before");
    symlink("target.html", workspace.path("link.html")).unwrap();
    assert_eq!(run(["report", &good, "-o", &workspace.path("link.html")]).code, Some(0));
    assert!(fs::read_to_string(&target).unwrap().ends_with("</html>"));
    assert!(fs::symlink_metadata(workspace.path("link.html")).unwrap().is_symlink());
    let said = run(["report", &good, "-o", "-"]);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    assert_eq!(said.out, fs::read_to_string(&target).unwrap());
    for (output, expected) in [("/dev/full", "No space left"), (&workspace.path("no/such.html"), "No such file")] {
        let said = run(["report", &good, "-o", output]);
        assert_eq!(said.code, Some(1));
        assert!(said.err.contains(output) && said.err.contains(expected), "{said:?}");
    }
    assert_eq!(run(["report", &good]).code, Some(2), "neither page nor pictures");
    let left: Vec<_> = fs::read_dir(workspace.directory()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "{left:?}");
}

#[test]
fn every_picture_is_exported_with_letters() {
    let workspace = Workspace::new();
    let mut nasty = DIRECTOR.document(60);
    nasty["virtual_services"][0]["service"] = json!("../../tcp <&>\u{1} 192.168.88.15:80");
    let nasty = workspace.file("run.json", nasty.to_string());
    let series = workspace.file("other.jsonl", Director { started_unix_s: 1, ..DIRECTOR }.series(1..20));
    let directory = workspace.path("pictures");
    let page = workspace.path("report.html");
    let said = run(["report", &nasty, &series, "--export-dir", &directory, "-o", &page]);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    let figures = fs::read_to_string(&page).unwrap().matches("<figure ").count();
    let files: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 2 * figures, "{files:?}");
    for svg in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "svg")) {
        let text = fs::read_to_string(svg).unwrap();
        let options = resvg::usvg::Options::default();
        let tree = resvg::usvg::Tree::from_str(&text, &options).unwrap();
        assert!(!text.contains("var(") && !text.contains("http://") || text.matches("http").count() == 1, "{svg:?}");
        let png = fs::read(svg.with_extension("png")).unwrap();
        assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");
        let size = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
        let drawn = tree.size().to_int_size();
        assert_eq!((size(16), size(20)), (drawn.width() * 2, drawn.height() * 2), "{svg:?}");
    }
}

/// Elements, ids and references of a page; html5ever reads as browsers do and says what is no HTML.
fn check_page(text: &str) {
    let page = Html::parse_document(text);
    assert!(page.errors.is_empty(), "{:?}", page.errors);
    assert!(!text.contains("NaN") && !text.contains("inf\""), "every place is a number");
    let everything = Selector::parse("*").unwrap();
    for element in page.select(&everything) {
        let name = element.value().name();
        assert!(!["script", "img", "link", "iframe", "object", "image", "use"].contains(&name), "{name}");
        for (attribute, value) in element.value().attrs() {
            let refers = ["href", "src", "xlink:href", "action", "data", "srcset"].contains(&attribute);
            assert!(!refers || value.starts_with('#'), "{name} {attribute}={value}");
            assert!(!attribute.starts_with("on"), "{name} {attribute}");
            assert!(!value.contains("url(") || value.starts_with("url(#"), "{name} {attribute}={value}");
        }
    }
    let style = Selector::parse("style").unwrap();
    let styles: String = page.select(&style).flat_map(|style| style.text()).collect();
    assert!(!styles.contains("url(") && !styles.contains("@import"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_document_of_the_program_makes_a_page(seed: u64, bits in 1u32..=64, later: u32) {
        let mut state = seed;
        let mut value = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 8).wrapping_mul(state | 1) >> (64 - bits)
        };
        let director = director(kernel(&mut value));
        fill(&director, &mut value);
        let collector = Collector::new(director.sources);
        let first = serde_json::to_value(collector.collect().unwrap()).unwrap();
        let mut last = first.clone();
        let at = last["taken_at"]["monotonic_ns"].as_u64().unwrap();
        last["taken_at"]["monotonic_ns"] = json!(at.saturating_add(u64::from(later)));
        let workspace = Workspace::new();
        for content in [first.to_string(), format!("{first}\n{last}\n"), format!("{last}\n{first}\n")] {
            let file = workspace.file("run.json", content);
            let runs = read_runs(&[file.into()], false).unwrap();
            check_page(&page(&runs));
        }
    }

    #[test]
    fn any_text_in_a_document_stays_text(text: String) {
        let mut document = DIRECTOR.document(60);
        for pointer in [
            "/hostname", "/kernel", "/version", "/interfaces/0/name", "/virtual_services/0/service",
            "/virtual_services/0/real_servers/0/address", "/softirq_measured_by",
        ] {
            *document.pointer_mut(pointer).unwrap() = json!(text);
        }
        document["totals"]["drops"][&text] = json!(77);
        document["errors"] = json!([text]);
        let workspace = Workspace::new();
        let file = workspace.file("run.json", document.to_string());
        check_page(&page(&read_runs(&[file.into()], false).unwrap()));
    }

    #[test]
    fn no_bytes_make_it_fall(bytes: Vec<u8>, cut in 0usize..20_000, flip in 0usize..20_000) {
        let workspace = Workspace::new();
        let mut document = DIRECTOR.document(3).to_string().into_bytes();
        document.truncate(cut);
        if let Some(byte) = document.get_mut(flip) {
            *byte ^= 0x15;
        }
        for content in [bytes, document] {
            let file = workspace.file("run.json", content);
            if let Ok(runs) = read_runs(&[file.into()], false) {
                check_page(&page(&runs));
            }
        }
    }
}
