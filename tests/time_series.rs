//! Statistics over time: rates, and files of JSON lines that are rotated and meet full disks.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod sources;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use pointsman::stats::collect::Collector;
use pointsman::stats::report::Report;
use pointsman::stats::sampler::WriteError;
use pointsman::stats::series::{Rotation, Series};
use pointsman::table::{ForwardingTable, Identities, Published};
use sources::{Kernel, director, plan};

const LARGE: Rotation = Rotation { bytes: 1 << 40, keep: 3 };

/// Documents of which each counts one frame more.
struct Documents {
    next: u64,
    collector: Collector,
    count: Box<dyn Fn(u64)>,
}

impl Documents {
    fn new() -> Self {
        let director = director(Kernel::default());
        let counters = director.workers[0].clone();
        let count = Box::new(move |value| counters.unstamped.set(value));
        Self { next: 0, collector: Collector::new(director.sources), count }
    }

    fn next(&mut self) -> Report {
        self.next += 1;
        (self.count)(self.next);
        self.collector.collect().unwrap()
    }
}

/// The counts of the documents of a file, of which each line must be whole.
fn counts(path: &Path) -> Vec<u64> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "a partial line remains in {}", path.display());
    text.lines().map(|line| serde_json::from_str::<Report>(line).unwrap().totals.unstamped).collect()
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    PathBuf::from(format!("{}.{number}", path.display()))
}

#[test]
fn full_files_are_renamed_and_only_so_many_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("stats.jsonl");
    let mut documents = Documents::new();
    let line = serde_json::to_string(&documents.next()).unwrap().len() as u64;
    let mut series = Series::new(path.clone(), Rotation { bytes: 3 * line + line / 2, keep: 2 });
    for _ in 0..12 {
        series.append(&documents.next()).unwrap();
    }
    assert_eq!(counts(&numbered(&path, 2)), [5, 6, 7]);
    assert_eq!(counts(&numbered(&path, 1)), [8, 9, 10]);
    assert_eq!(counts(&path), [11, 12, 13]);
    assert!(!numbered(&path, 3).exists());
    // One that a rotation tool has taken away is begun anew.
    fs::rename(&path, directory.path().join("taken")).unwrap();
    series.append(&documents.next()).unwrap();
    assert_eq!(counts(&path), [14]);
}

#[test]
fn a_line_longer_than_a_file_has_one_of_its_own_and_none_are_kept_if_none_are_to_be() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("stats.jsonl");
    let mut documents = Documents::new();
    let mut series = Series::new(path.clone(), Rotation { bytes: 1, keep: 0 });
    for count in 1..4 {
        series.append(&documents.next()).unwrap();
        assert_eq!(counts(&path), [count]);
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn what_a_killed_writer_left_is_cut_off_and_files_of_others_are_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("stats.jsonl");
    let mut documents = Documents::new();
    Series::new(path.clone(), LARGE).append(&documents.next()).unwrap();
    let whole = fs::read(&path).unwrap();
    for cut in [1, 10, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, [&whole[..], &whole[..cut]].concat()).unwrap();
        Series::new(path.clone(), LARGE).append(&documents.next()).unwrap();
        assert_eq!(counts(&path), [1, documents.next], "{cut}");
        fs::write(&path, &whole[..cut]).unwrap();
        Series::new(path.clone(), LARGE).append(&documents.next()).unwrap();
        assert_eq!(counts(&path), [documents.next], "{cut}");
    }
    for foreign in ["a diary\n", "{\"schema\":1}\n", "\n"] {
        fs::write(&path, foreign).unwrap();
        let error = Series::new(path.clone(), LARGE).append(&documents.next()).unwrap_err();
        assert!(matches!(error, WriteError::NotASeries(_)), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), foreign);
    }
    let error = Series::new(directory.path().to_owned(), LARGE).append(&documents.next()).unwrap_err();
    assert!(matches!(error, WriteError::NotAFile(_)), "{error}");
}

/// On a file system of 256 KiB, which is another's, too.
#[test]
fn on_a_full_disk_no_partial_line_remains_and_writing_resumes() {
    let directory = tempfile::tempdir().unwrap();
    let disk = directory.path().to_owned();
    let filled = std::thread::spawn(move || {
        // A mount of this thread's own, which goes with it.
        let own = nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS | nix::sched::CloneFlags::CLONE_NEWNS);
        let mount = |arguments: &[&str]| Command::new("mount").args(arguments).status().unwrap().success();
        if own.is_err() || !mount(&["--make-rprivate", "/"]) {
            return None;
        }
        assert!(mount(&["-t", "tmpfs", "-o", "size=256k", "tmpfs", disk.to_str().unwrap()]));
        let path = disk.join("stats.jsonl");
        let mut documents = Documents::new();
        let mut series = Series::new(path.clone(), LARGE);
        let mut written = Vec::new();
        let refusal = loop {
            let document = documents.next();
            match series.append(&document) {
                Ok(()) => written.push(document.totals.unstamped),
                Err(error) => break error.to_string(),
            }
        };
        assert!(refusal.contains("No space left on device"), "{refusal}");
        assert_eq!(counts(&path), written);
        assert!(written.len() > 5);
        // Always the same words, of which the log has one line.
        assert_eq!(series.append(&documents.next()).unwrap_err().to_string(), refusal);
        assert_eq!(counts(&path), written);
        // Somebody takes the first lines away, and there is room.
        fs::rename(&path, disk.join("old")).unwrap();
        fs::remove_file(disk.join("old")).unwrap();
        series.append(&documents.next()).unwrap();
        // The counter went on.
        assert_eq!(counts(&path), [documents.next]);
        Some(())
    });
    if filled.join().unwrap().is_none() {
        assert!(std::env::var_os("CI").is_none(), "CI is set, but this test cannot mount: it needs root");
    }
}

#[test]
fn rates_are_the_differences_of_what_was_counted() {
    let director = director(Kernel::default());
    let (counters, queues) = (director.workers.clone(), director.queues.clone());
    let reader = director.sources.tables.reader();
    let collector = Collector::new(director.sources);
    assert_eq!(collector.collect().unwrap().totals.rates, []);
    collector.sample_rates();
    assert_eq!(collector.collect().unwrap().totals.rates, []);
    queues[1][0].rx_packets.add(1000);
    queues[1][0].rx_bytes.add(64_000);
    counters[1].outcomes.count_tx(900, 57_600);
    counters[1].outcomes.drops[0].add(100);
    counters[1].flows.new.add(7);
    reader.pin().services()[0].outcomes.of(1).unwrap().count_tx(500, 32_000);
    reader.pin().real_servers()[1].outcomes.of(0).unwrap().count_tx(300, 19_200);
    collector.sample_rates();
    let report = collector.collect().unwrap();
    let [rate] = report.totals.rates[..] else { panic!("{:?}", report.totals.rates) };
    assert_eq!(rate.over_s, 1);
    // By the time that really passed between the two samples, to the thousandth that rates are rounded to.
    let counted = |per_second: f64| per_second * rate.span_ns as f64 / 1e9;
    let close = |rate: f64, count: f64| (counted(rate) - count).abs() <= 1e-6 * count + counted(0.01);
    assert!(close(rate.received_pps.unwrap(), 1000.0) && close(rate.received_bps.unwrap(), 512_000.0), "{rate:?}");
    assert!(close(rate.tx_pps, 900.0) && close(rate.tx_bps, 460_800.0), "{rate:?}");
    assert!(close(rate.dropped_pps, 100.0) && close(rate.new_flows_per_s, 7.0), "{rate:?}");
    assert_eq!(report.workers[1].rates, report.totals.rates);
    assert_eq!(report.workers[0].rates[0].received_pps, Some(0.0));
    assert!(close(report.virtual_services[0].rates[0].tx_pps, 500.0));
    let of_servers: Vec<f64> = report.virtual_services[0].real_servers.iter().map(|of| of.rates[0].tx_pps).collect();
    assert!(of_servers[0] == 0.0 && close(of_servers[1], 300.0), "{of_servers:?}");
    let service = serde_json::to_value(&report.virtual_services[0]).unwrap();
    assert!(service["rates"][0].get("received_pps").is_none());
}

/// Prints what a sample of many services takes: cargo test --release --test time_series many -- --nocapture
#[test]
fn many_services_are_sampled() {
    const SERVICES: usize = 10_000;
    let mut director = director(Kernel::default());
    let mut plan = plan();
    let service = plan.services[0].clone();
    plan.services = (0..SERVICES)
        .map(|number| {
            let mut service = service.clone();
            service.key.port = u16::try_from(number + 1).unwrap();
            service
        })
        .collect();
    director.sources.tables = Published::new(ForwardingTable::build(&plan.numbered(&mut Identities::default()), None));
    let collector = Collector::new(director.sources);
    collector.sample_rates();
    let began = Instant::now();
    collector.sample_rates();
    println!("a sample of {SERVICES} services of two real servers took {:?}", began.elapsed());
    let report = collector.collect().unwrap();
    assert!(report.virtual_services.iter().all(|service| service.rates.len() == 1));
}
