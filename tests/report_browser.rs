//! Reports in a real browser, headless: `tests/browser/look.py` says what it looks at. Set `REPORT_PICTURES` to a
//! directory to keep pages, screenshots and PDF files, and look at them.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test fails by panicking")]

mod program;
mod runs;

use std::io::Write;
use std::path::Path;
use std::process::Command;

use program::{Workspace, run};
use runs::{DIRECTOR, Director};

/// Makes the report of these files, with these options, and has the browser look at it.
fn look(name: &str, files: &[(&str, String)], options: &[&str]) {
    if !Path::new("/usr/bin/chromium").exists() {
        // Not by eprintln!, which the test runner captures.
        let _ = writeln!(std::io::stderr(), "NOT RUN: chromium is not installed");
        assert!(std::env::var_os("CI").is_none(), "CI is set, but chromium is missing: scripts/install-deps brings it");
        return;
    }
    let workspace = Workspace::new();
    let paths: Vec<String> = files.iter().map(|(file, content)| workspace.file(file, content)).collect();
    let page = workspace.path("report.html");
    let arguments = ["report", "-o", &page].into_iter().chain(options.iter().copied());
    let said = run(arguments.chain(paths.iter().map(String::as_str)));
    assert_eq!(said.code, Some(0), "{said:?}");
    let pictures = match std::env::var_os("REPORT_PICTURES") {
        Some(directory) => Path::new(&directory).join(name),
        None => workspace.directory().join("pictures"),
    };
    let looked =
        Command::new("python3").arg("tests/browser/look.py").args([page.as_ref(), pictures.as_path()]).output();
    let looked = looked.unwrap();
    std::fs::copy(&page, pictures.join("report.html")).unwrap();
    let (out, err) = (String::from_utf8_lossy(&looked.stdout), String::from_utf8_lossy(&looked.stderr));
    assert!(looked.status.success(), "{name}:\n{out}{err}");
}

fn one(director: Director) -> [(&'static str, String); 1] {
    [("run.json", director.document(60).to_string())]
}

#[test]
fn a_series_of_one_run() {
    look("series", &[("evening.jsonl", DIRECTOR.series(1..=90))], &[]);
}

#[test]
fn two_runs_side_by_side() {
    let second = Director {
        hostname: "director2.example.net",
        pps: 1_400_000,
        latency_ns: 4200,
        drops_per_100k: 350,
        workers: 4,
        servers: 7,
        services: 2,
        ..DIRECTOR
    };
    look("two", &[("calm.jsonl", DIRECTOR.series(1..=60)), ("busy.jsonl", second.series(1..=45))], &[]);
}

#[test]
fn a_document_of_an_older_program() {
    look("older", &one(Director { later: false, ..DIRECTOR }), &[]);
}

#[test]
fn a_run_without_a_packet() {
    look("quiet", &one(Director { pps: 0, drops_per_100k: 0, ..DIRECTOR }), &[]);
    look("empty", &one(Director { pps: 0, services: 0, workers: 1, later: false, ..DIRECTOR }), &[]);
}

#[test]
fn sixty_four_workers_and_two_hundred_real_servers() {
    look("large", &one(Director { workers: 64, servers: 200, services: 2, ..DIRECTOR }), &[]);
}

#[test]
fn ten_runs_with_long_names() {
    let runs: Vec<(String, String)> = (0..10)
        .map(|number| {
            let director = Director {
                started_unix_s: DIRECTOR.started_unix_s + number,
                pps: 200_000 * (number + 1),
                latency_ns: 700 * (number + 1),
                later: number != 3,
                drops_per_100k: number * 40,
                ..DIRECTOR
            };
            let name = format!("rack-{number}-the-machine-with-the-very-long-name-of-its-file.jsonl");
            (name, director.series((1..=20).map(|step| step * (number + 1))))
        })
        .collect();
    let files: Vec<(&str, String)> = runs.iter().map(|(name, content)| (name.as_str(), content.clone())).collect();
    look("ten", &files, &[]);
}

#[test]
fn names_that_would_be_markup() {
    let mut document = DIRECTOR.document(60);
    let nasty = "<script>alert(1)</script><img src=http://192.0.2.1/x>\u{7}\"'&amp;";
    for pointer in ["/hostname", "/kernel", "/virtual_services/0/service", "/interfaces/0/name"] {
        *document.pointer_mut(pointer).unwrap() = nasty.into();
    }
    look("nasty", &[("run.json", document.to_string())], &["--label", nasty]);
}
