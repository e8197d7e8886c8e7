//! The statistics document: its schema, its sums, its text and its file.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::too_many_lines,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod program;
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use pointsman::cli;
use pointsman::counters::cost::{Stage, SystemCall};
use pointsman::stats::collect::{CollectError, Collector};
use pointsman::stats::hlog::write_report;
use pointsman::stats::merge::{MergeError, MergedTimes, RecordedTimes, merge};
use pointsman::stats::report::{Latency, Report, WorkerReport, XdpCounts};
use pointsman::stats::sampler::{Sampler, WriteError, write};
use pointsman::stats::schema;
use pointsman::table::ForwardingTable;
use pointsman::verdict::DropReason;
use program::{Said, Workspace, run};
use proptest::prelude::*;
use serde_json::{Value, json};
use sources::{Kernel, director, fill, kernel, plan, silent};

const SCHEMA_FILE: &str = "docs/stats.schema.json";

/// A report of random counters; those of `bits` 64 are small and huge, down to overflow.
fn report(seed: u64, bits: u32) -> Report {
    let mut state = seed;
    // SplitMix64.
    let mut random = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    let mut value = || match random() % 8 {
        0 => 0,
        1 => u64::MAX.checked_shr(64 - bits).unwrap_or(0),
        eighths => random().checked_shr(64 - bits).unwrap_or(0) >> (u64::from(bits / 8) * (eighths - 2)),
    };
    let director = director(kernel(&mut value));
    fill(&director, &mut value);
    Collector::new(director.sources).collect().unwrap()
}

fn quiet_report() -> Report {
    Collector::new(director(Kernel::default()).sources).collect().unwrap()
}

fn validator() -> jsonschema::Validator {
    let schema: Value = serde_json::from_str(&fs::read_to_string(SCHEMA_FILE).unwrap()).unwrap();
    jsonschema::draft202012::meta::validate(&schema).unwrap();
    jsonschema::validator_for(&schema).unwrap()
}

#[test]
fn the_committed_schema_is_the_generated_one() {
    let generated = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        fs::write(SCHEMA_FILE, &generated).unwrap();
    }
    let committed = fs::read_to_string(SCHEMA_FILE).unwrap();
    assert!(
        committed == generated,
        "{SCHEMA_FILE} is out of date: run UPDATE_SCHEMA=1 cargo test --test stats, and update docs/stats.md"
    );
}

#[test]
fn every_document_fits_the_schema_and_can_be_read_again() {
    let validator = validator();
    proptest!(ProptestConfig::with_cases(64), |(seed: u64, bits in 1u32..=64)| {
        let report = report(seed, bits);
        let document = serde_json::to_value(&report).unwrap();
        let errors: Vec<String> = validator.iter_errors(&document).map(|error| error.to_string()).collect();
        prop_assert!(errors.is_empty(), "{errors:?}");
        let again: Report = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
        // All but the means, which are floating point, are the same to the bit.
        let without_means = |mut report: Report| {
            report.totals.latency.mean = None;
            report.workers.iter_mut().for_each(|worker| worker.latency.mean = None);
            report
        };
        prop_assert_eq!(without_means(again), without_means(report));
    });
}

#[test]
fn a_document_of_a_director_whose_kernel_is_silent_fits_the_schema_and_says_so() {
    let report = Collector::new(silent().sources).collect().unwrap();
    let document = serde_json::to_value(&report).unwrap();
    validator().validate(&document).unwrap();
    assert_eq!(report.errors.len(), 6);
    assert!(
        report
            .errors
            .contains(&"cannot read the kernel's ring statistics of d1 queue 0: the socket is closed".to_owned())
    );
    assert!(report.errors.contains(&"cannot read the XDP program's counters of d0: the map is gone".to_owned()));
    assert_eq!(report.identity.redirects.holds, None);
    assert_eq!(document["interfaces"][0]["xdp"], Value::Null);
    assert_eq!(document["interfaces"][0]["queues"][0]["ring_statistics"], Value::Null);
}

#[test]
fn the_schema_refuses_what_is_no_document() {
    let validator = validator();
    let document = serde_json::to_value(report(7, 20)).unwrap();
    validator.validate(&document).unwrap();
    type Break = fn(&mut Value);
    let broken: [(&str, Break); 7] = [
        ("an unknown kind of memory", |d| d["workers"][0]["flow_table"]["memory"] = json!("swap")),
        ("another version", |d| d["schema_version"] = json!(2)),
        ("a cause is missing", |d| drop(d["workers"][0]["drops"].as_object_mut().unwrap().remove("no_egress"))),
        ("a negative count", |d| d["workers"][0]["received"]["packets"] = json!(-1)),
        ("a count as text", |d| d["totals"]["tx"]["bytes"] = json!("7")),
        ("an unknown mode", |d| d["interfaces"][0]["mode"] = json!("offload")),
        ("an unknown protocol", |d| d["virtual_services"][0]["protocol"] = json!("sctp")),
    ];
    for (what, break_it) in broken {
        let mut document = document.clone();
        break_it(&mut document);
        assert!(!validator.is_valid(&document), "{what}");
    }
}

#[test]
fn fields_of_a_later_program_are_ignored() {
    let report = report(3, 20);
    let mut document = serde_json::to_value(&report).unwrap();
    document["colour"] = json!("blue");
    document["workers"][0]["frames"]["borrowed"] = json!(1);
    document["workers"][0]["drops"]["sun_spots"] = json!(4);
    validator().validate(&document).unwrap();
    let read: Report = serde_json::from_value(document).unwrap();
    assert_eq!(read.workers[0].drops.total(), report.workers[0].drops.total() + 4);
}

#[test]
fn every_field_and_every_drop_cause_is_documented() {
    let text = fs::read_to_string("docs/stats.md").unwrap();
    let mut names: BTreeSet<String> = DropReason::ALL.iter().map(|reason| reason.name().to_owned()).collect();
    property_names(schema().as_value(), &mut names);
    assert!(names.len() > 80, "{}", names.len());
    let missing: Vec<_> = names.iter().filter(|name| !text.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "not in docs/stats.md: {missing:?}");
}

/// The tables of outcomes say what there is and nothing else: a line for each cause, each way out of the XDP program and
/// each count of the flow tables.
#[test]
fn the_tables_of_outcomes_have_a_line_for_each_and_no_other() {
    let text = fs::read_to_string("docs/stats.md").unwrap();
    let report = serde_json::to_value(report(3, 20)).unwrap();
    let keys = |value: &Value| -> BTreeSet<String> { value.as_object().unwrap().keys().cloned().collect() };
    let causes: BTreeSet<String> = DropReason::ALL.iter().map(|reason| reason.name().to_owned()).collect();
    assert_eq!(causes.len(), DropReason::COUNT);
    assert_eq!(first_cells(&text, "## Drop causes", ""), causes);
    for drops in ["/totals/drops", "/workers/0/drops", "/virtual_services/0/drops"] {
        assert_eq!(keys(report.pointer(drops).unwrap()), causes, "each cause has a counter in {drops}");
    }
    assert_eq!(first_cells(&text, "### Flow tables", ""), keys(&report["totals"]["flows"]));
    assert_eq!(first_cells(&text, "## Interfaces", "`xdp`: "), keys(&report["interfaces"][0]["xdp"]));
}

/// The names in the first column of the first table below a heading, of the lines that begin with `prefix`.
fn first_cells(text: &str, heading: &str, prefix: &str) -> BTreeSet<String> {
    let (_, below) = text.split_once(&format!("\n{heading}\n")).unwrap();
    let rows = below.lines().skip_while(|line| !line.starts_with('|')).skip(2).take_while(|line| line.starts_with('|'));
    let name = |row: &str| {
        let cell = row.split('|').nth(1)?.trim().strip_prefix(prefix)?;
        cell.strip_prefix('`')?.strip_suffix('`').map(str::to_owned)
    };
    rows.filter_map(name).collect()
}

fn property_names(schema: &Value, names: &mut BTreeSet<String>) {
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        names.extend(properties.keys().cloned());
    }
    match schema {
        Value::Object(members) => members.values().for_each(|member| property_names(member, names)),
        Value::Array(items) => items.iter().for_each(|item| property_names(item, names)),
        _ => {}
    }
}

/// What happened to the frames of one queue, from which all counters follow.
#[derive(Clone, Copy, Debug)]
struct QueueHistory {
    received: u64,
    lost: [u64; 2],
    redirect_errors: u64,
    tx: u64,
    completed: u64,
    filled: u64,
    dropped: u64,
}

fn queue_history() -> impl Strategy<Value = QueueHistory> {
    let small = || 0u64..1000;
    (small(), [small(), small()], small(), small(), small(), small()).prop_map(
        |(filled, lost, redirect_errors, dropped, came_back, sent)| {
            let received = came_back.min(filled);
            let dropped = dropped.min(received);
            let tx = received - dropped;
            QueueHistory { received, lost, redirect_errors, tx, completed: sent.min(tx), filled, dropped }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_identities_hold_for_what_can_happen_and_for_nothing_else(
        histories in [[queue_history(), queue_history()], [queue_history(), queue_history()]],
        cause in 0..DropReason::COUNT,
        mistake in 0usize..9,
        amount in 1u64..1000,
    ) {
        const REFUSED: u64 = 2;
        let mut kernel = Kernel { redirect_errors: Some(0), ..Kernel::default() };
        for (worker, queues) in histories.iter().enumerate() {
            for (interface, history) in queues.iter().enumerate() {
                let rings = &mut kernel.rings[worker][interface];
                [rings.rx_dropped, rings.rx_ring_full] = history.lost;
                // In copy mode a frame lost for want of a fill frame is counted here, too.
                rings.rx_fill_ring_empty_descs = history.lost[0];
                let XdpCounts { redirected, .. } = &mut kernel.xdp[interface];
                *redirected += history.received + REFUSED + history.lost.iter().sum::<u64>();
            }
        }
        // Each interface reports the same number of errors.
        let redirect_errors = histories[0][0].redirect_errors;
        kernel.redirect_errors = Some(redirect_errors);
        kernel.xdp.iter_mut().for_each(|xdp| xdp.redirected += redirect_errors);
        match mistake {
            0 => kernel.xdp[1].redirected += amount,
            1 => kernel.rings[0][1].rx_dropped += amount,
            2 => kernel.rings[1][0].rx_ring_full += amount,
            3 => kernel.redirect_errors = Some(redirect_errors + amount),
            _ => {}
        }
        let director = director(kernel);
        for (worker, queues) in histories.iter().enumerate() {
            let counters = &director.workers[worker];
            let mut total = 100;
            counters.frames_free.set(total);
            for (interface, history) in queues.iter().enumerate() {
                let queue = &director.queues[worker][interface];
                queue.rx_packets.set(history.received);
                queue.rx_refused.set(REFUSED);
                queue.fill_submitted.set(history.filled);
                queue.tx_packets.set(history.tx);
                queue.tx_completed.set(history.completed);
                counters.outcomes.tx_packets.add(history.tx);
                counters.outcomes.drops[cause].add(history.dropped);
                total += history.filled - history.received + history.tx - history.completed;
            }
            counters.frames_total.set(total);
            // Of a descriptor that is ignored the frame is still where it was.
            counters.frames_quarantined.set(3);
        }
        match mistake {
            4 => director.workers[1].outcomes.tx_packets.add(amount),
            5 => director.workers[0].outcomes.drops[cause].add(amount),
            6 => director.workers[0].frames_free.add(amount),
            7 => director.queues[1][1].fill_submitted.add(amount),
            _ => {}
        }
        let identity = Collector::new(director.sources).collect().unwrap().identity;
        let (redirects, verdicts, frames) = (identity.redirects, identity.verdicts, identity.frames);
        prop_assert_eq!(redirects.holds, Some(mistake > 3));
        prop_assert_eq!(verdicts.holds, !(4..=5).contains(&mistake));
        prop_assert_eq!(frames.holds, !(6..=7).contains(&mistake));
        let amount = i64::try_from(amount).unwrap();
        match mistake {
            0 => prop_assert_eq!(redirects.difference, Some(amount)),
            // Both interfaces claim them.
            3 => prop_assert_eq!(redirects.difference, Some(-2 * amount)),
            1..=2 => prop_assert_eq!(redirects.difference, Some(-amount)),
            4..=5 => prop_assert_eq!(verdicts.difference, -amount),
            6..=7 => prop_assert_eq!(frames.difference, -amount),
            _ => {}
        }
    }

    #[test]
    fn totals_are_the_sums_of_workers(seed: u64) {
        let report = report(seed, 40);
        for (cause, total) in &report.totals.drops.0 {
            prop_assert_eq!(*total, report.workers.iter().map(|worker| worker.drops.0[cause]).sum::<u64>());
        }
        let queues = || report.interfaces.iter().flat_map(|interface| &interface.queues);
        prop_assert_eq!(report.totals.received.bytes, queues().map(|queue| queue.rx.bytes).sum::<u64>());
        prop_assert_eq!(report.totals.tx.packets, report.workers.iter().map(|worker| worker.tx.packets).sum::<u64>());
        let count: u64 = report.workers.iter().map(|worker| worker.latency.count).sum();
        prop_assert_eq!(report.totals.latency.count, count);
        let misses: u64 = report.workers.iter().map(|worker| worker.flows.fragment_misses).sum();
        prop_assert_eq!(report.totals.flows.fragment_misses, misses);
        for (total, of) in [
            (&report.totals.queueing, (|worker| &worker.queueing) as fn(&WorkerReport) -> &Latency),
            (&report.totals.processing, |worker| &worker.processing),
            (&report.totals.completion, |worker| &worker.completion),
        ] {
            prop_assert_eq!(total.count, report.workers.iter().map(|worker| of(worker).count).sum::<u64>());
        }
        for worker in &report.workers {
            prop_assert_eq!(worker.cost.sum(), worker.cycles.busy.wrapping_add(worker.cycles.idle));
            let mine = queues().filter(|queue| queue.worker == worker.worker);
            prop_assert_eq!(worker.received.packets, mine.map(|queue| queue.rx.packets).sum::<u64>());
            prop_assert_eq!(worker.batch_sizes.first().map(|size| (size.from, size.to)), Some((1, Some(1))));
            prop_assert_eq!(worker.batch_sizes.last().map(|size| (size.from, size.to)), Some((512, None)));
            for pair in worker.batch_sizes.windows(2) {
                prop_assert_eq!(pair[0].to, Some(pair[1].from - 1));
            }
        }
    }

    #[test]
    fn the_text_fits_eighty_columns(seed: u64, bits in 1u32..=64) {
        let mut text = Vec::new();
        cli::stats::print(&report(seed, bits), &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        for line in text.lines() {
            prop_assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
        }
    }
}

#[test]
fn services_follow_the_published_table_and_keep_their_counters() {
    let director = director(Kernel::default());
    let tables = Arc::clone(&director.sources.tables);
    let collector = Collector::new(director.sources);
    {
        let reader = tables.reader();
        let table = reader.pin();
        let real_server = &table.real_servers()[1];
        real_server.outcomes.of(0).unwrap().count_tx(1, 60);
        real_server.outcomes.of(1).unwrap().count_tx(1, 40);
        real_server.outcomes.of(1).unwrap().count_drop(DropReason::TxRingFull, 1514);
    }
    let before = collector.collect().unwrap();
    let web = &before.virtual_services[0];
    assert_eq!(web.service, "tcp 192.168.88.15:80");
    assert_eq!((web.scheduler.as_str(), web.hash_by.as_str(), web.table_size), ("mh", "flow", 251));
    let shares: Vec<u32> = web.real_servers.iter().map(|real_server| real_server.share_slots).collect();
    assert_eq!(shares.iter().sum::<u32>(), 251);
    assert!(shares[1].abs_diff(shares[0] * 2) <= 2, "{shares:?}");
    let second = &web.real_servers[1];
    assert_eq!((second.tx.packets, second.tx.bytes, second.drop_bytes), (2, 100, 1514));
    assert_eq!(second.drops.0["tx_ring_full"], 1);
    assert_eq!(second.next_hop.unwrap().to_string(), "02:00:00:00:01:02");
    assert_eq!(second.egress.as_deref(), Some("d0"));
    let draining = &before.virtual_services[1].real_servers;
    assert_eq!((draining[0].weight, draining[0].alive, draining[0].share_slots), (0, true, 0));
    assert_eq!((draining[1].alive, draining[1].next_hop, &draining[1].egress), (false, None, &None));

    let mut next = plan();
    next.services.remove(1);
    next.services[0].real_servers.remove(0);
    let table = {
        let reader = tables.reader();
        let pinned = reader.pin();
        ForwardingTable::build(&next, Some(&*pinned))
    };
    tables.publish(table);
    let after = collector.collect().unwrap();
    assert_eq!(after.generation, before.generation + 1);
    assert_eq!(after.virtual_services.len(), 1);
    let left = &after.virtual_services[0].real_servers;
    assert_eq!((left.len(), left[0].share_slots, left[0].tx.packets), (1, 251, 2));
    assert!(after.taken_at.monotonic_ns >= before.taken_at.monotonic_ns);
    assert!(after.uptime_ns >= before.uptime_ns);
}

#[test]
fn the_text_tells_what_the_document_does() {
    let mut rings = Kernel::default();
    rings.xdp[0].redirected = 12_345_678;
    let director = director(rings);
    director.workers[0].cost.stages[Stage::Forward.index()].set(1);
    director.workers[0].cost.idle.set(3);
    director.workers[0].outcomes.count_drop(DropReason::MtuExceeded, 1600);
    director.workers[0].latency.record_all([1234; 10].into_iter());
    director.workers[0].queueing.record_n(1000, 10);
    director.workers[0].cost.system_calls[SystemCall::Sendto.index()].busy_cycles.set(2);
    director.workers[0].cost.system_calls[SystemCall::Poll.index()].idle_cycles.set(6);
    director.queues[0][0].rx_packets.set(1);
    director.workers[1].flows.new.set(1_000);
    director.workers[1].flows.peer_hits.set(7);
    director.workers[0].flows.fragment_hits.set(2);
    director.workers[1].flows.fragment_hits.set(3);
    let mut text = Vec::new();
    cli::stats::print(&Collector::new(director.sources).collect().unwrap(), &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    for line in [
        "Interface d0, native XDP",
        "  redirected 12.35 M, passed 0, not our MAC 0, malformed 0, no socket 0,",
        "      0      0 copy              1         0         0         0         0",
        "      0      0 zero-copy         0         0         0         0         0",
        "       0    -  25.0 %         1         0         1         0      -         0",
        "       1 usual  65.54 kB     1,000         0         0         7         0",
        "  fragments: 5 by their first one, 0 by their addresses",
        "    192.168.88.200        2  66.5 %         0         0  02:00:00:00:01:02 d0",
        "  mtu_exceeded             1",
        "  worker 0: busy 3: receive 0, forward 1, send 0, complete 0, refill 0, other 0,",
        "            sendto 2, recvfrom 0, poll 6, idle 3",
        "  worker 1: busy -: receive -, forward -, send -, complete -, refill -, other -,",
        "  queued  1.00 us  1.00 us  1.00 us  1.00 us  1.00 us  1.00 us  1.00 us  1.00 us",
        "  done          -        -        -        -        -        -        -        -",
        "  all     1.23 us  1.23 us  1.23 us  1.23 us  1.23 us  1.23 us  1.23 us  1.23 us",
        "  received = sent + dropped                exact",
        "  frames = free + lent to the kernel       exact",
    ] {
        assert!(text.lines().any(|printed| printed == line), "{line:?} is not in\n{text}");
    }
    assert!(!text.contains("no_service"), "causes without a drop are left out:\n{text}");
}

/// All counts of a document, by bucket.
fn counts(times: &Latency) -> Vec<(u64, u64)> {
    times.buckets.iter().map(|bucket| (bucket.from_ns, bucket.count)).collect()
}

/// What HdrHistogram's own reader finds in a log: by tag.
fn read_log(log: &[u8]) -> BTreeMap<String, Histogram<u64>> {
    let entries = IntervalLogIterator::new(log).map(|entry| entry.unwrap());
    let intervals =
        entries.filter_map(|entry| if let LogEntry::Interval(interval) = entry { Some(interval) } else { None });
    intervals
        .map(|interval| {
            let bytes = BASE64.decode(interval.encoded_histogram()).unwrap();
            let histogram = Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap();
            (interval.tag().unwrap().as_str().to_owned(), histogram)
        })
        .collect()
}

fn counts_of(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    let lowest = |value| histogram.lowest_equivalent(value);
    histogram.iter_recorded().map(|of| (lowest(of.value_iterated_to()), of.count_at_value())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn the_histogram_log_has_the_counts_of_the_document(seed: u64) {
        let report = report(seed, 40);
        let mut log = Vec::new();
        write_report(&report, &mut log).unwrap();
        let read = read_log(&log);
        prop_assert_eq!(read.len(), 4 * (report.workers.len() + 1));
        for worker in &report.workers {
            for (kind, times) in [
                ("total", &worker.latency),
                ("queueing", &worker.queueing),
                ("processing", &worker.processing),
                ("completion", &worker.completion),
            ] {
                let tag = format!("worker-{}.{kind}", worker.worker);
                prop_assert_eq!(counts_of(&read[&tag]), counts(times), "{}", tag);
            }
        }
        prop_assert_eq!(counts_of(&read["all.total"]), counts(&report.totals.latency));
        prop_assert_eq!(counts_of(&read["all.completion"]), counts(&report.totals.completion));
    }

    #[test]
    fn merging_documents_loses_nothing(seeds in prop::collection::vec(any::<u64>(), 1..4)) {
        let mut reports: Vec<Report> = seeds.iter().map(|seed| report(*seed, 40)).collect();
        for (number, report) in reports.iter_mut().enumerate() {
            report.hostname = format!("director-{number}");
        }
        let merged = merge(&recorded(&reports)).unwrap();
        for (merged, of) in [
            (&merged.latency, (|report| &report.totals.latency) as fn(&Report) -> &Latency),
            (&merged.queueing, |report| &report.totals.queueing),
            (&merged.processing, |report| &report.totals.processing),
            (&merged.completion, |report| &report.totals.completion),
        ] {
            let mut sums: BTreeMap<u64, u64> = BTreeMap::new();
            for (from_ns, count) in reports.iter().flat_map(|report| counts(of(report))) {
                *sums.entry(from_ns).or_default() += count;
            }
            prop_assert_eq!(counts(merged), sums.into_iter().collect::<Vec<_>>());
            prop_assert_eq!(merged.count, reports.iter().map(|report| of(report).count).sum::<u64>());
            prop_assert_eq!(merged.sum, reports.iter().fold(0, |sum: u64, report| sum.wrapping_add(of(report).sum)));
            prop_assert_eq!(merged.min, reports.iter().filter_map(|report| of(report).min).min());
            prop_assert_eq!(merged.max, reports.iter().filter_map(|report| of(report).max).max());
        }
    }
}

/// As they are read again from files.
fn recorded(reports: &[Report]) -> Vec<RecordedTimes> {
    serde_json::from_value(serde_json::to_value(reports).unwrap()).unwrap()
}

#[test]
fn what_cannot_be_merged_is_said() {
    let report = report(7, 40);
    assert!(matches!(merge(&[]), Err(MergeError::Nothing)));
    let twice = merge(&recorded(&[report.clone(), report.clone()])).unwrap_err().to_string();
    assert!(twice.contains("same run") && twice.contains(&report.hostname), "{twice}");
    let mut foreign = report;
    foreign.totals.latency.buckets[0].to_ns += 1;
    assert!(matches!(merge(&recorded(std::slice::from_ref(&foreign))), Err(MergeError::Buckets(_))));
    foreign.totals.latency.buckets.remove(0);
    assert!(
        matches!(merge(&recorded(&[foreign])), Err(MergeError::Buckets(_))),
        "buckets that do not add up to the count"
    );
}

/// The document as the program of commit b4ec3b5 wrote it, with the same schema_version: one kind of time, without its sum.
fn earlier(report: &Report) -> Value {
    let mut document = serde_json::to_value(report).unwrap();
    let remove =
        |from: &mut Value, keys: &[&str]| keys.iter().for_each(|key| drop(from.as_object_mut().unwrap().remove(*key)));
    let later = ["queueing", "processing", "completion", "completion_by", "rates", "cost", "batch_sizes", "thread"];
    remove(&mut document, &["cycle_hz", "cpus", "softirq_measured_by"]);
    remove(&mut document["totals"], &later);
    remove(&mut document["totals"]["latency"], &["sum"]);
    for worker in document["workers"].as_array_mut().unwrap() {
        remove(worker, &later);
        remove(&mut worker["latency"], &["sum"]);
    }
    document
}

#[test]
fn documents_of_earlier_programs_are_merged_and_what_they_lack_is_said() {
    let workspace = Workspace::new();
    // Few enough nanoseconds that the mean tells the sum to the last.
    let (mut new, old) = (report(7, 24), report(8, 24));
    new.hostname = "new".to_owned();
    let files = [
        workspace.file("old.json", earlier(&old).to_string()),
        workspace.file("new.json", serde_json::to_string(&new).unwrap()),
    ];
    let arguments = |more: &'static [&str]| {
        ["stats", "merge"].into_iter().chain(files.iter().map(String::as_str)).chain(more.iter().copied())
    };
    let Said { code, out, err } = run(arguments(&["--json"]));
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let merged: MergedTimes = serde_json::from_str(&out).unwrap();
    let (of_new, of_old) = (&new.totals, &old.totals);
    assert_eq!(merged.latency.count, of_new.latency.count + of_old.latency.count);
    assert_eq!(merged.latency.sum, of_new.latency.sum + of_old.latency.sum);
    assert_eq!(counts(&merged.queueing), counts(&of_new.queueing));
    assert_eq!(counts(&merged.completion), counts(&of_new.completion));
    assert_eq!(merged.notes.len(), 3, "{:?}", merged.notes);
    for (note, kind) in merged.notes.iter().zip(["queueing", "processing", "completion"]) {
        assert_eq!(note, &format!("a document of {} has no {kind}: its frames are not in there", old.hostname));
    }
    let text = run(arguments(&[]));
    assert!(text.code == Some(0) && text.out.matches("\nnote: ").count() == 3, "{text:?}");
}

#[test]
fn of_a_series_the_last_document_of_each_start_is_merged() {
    let workspace = Workspace::new();
    let (mut first, mut second, mut anew) = (report(7, 24), report(8, 24), report(9, 24));
    second.hostname.clone_from(&first.hostname);
    anew.hostname.clone_from(&first.hostname);
    first.taken_at.monotonic_ns = 10;
    (second.taken_at.monotonic_ns, second.started_at) = (20, first.started_at);
    anew.started_at.unix_ns = first.started_at.unix_ns + 1;
    let lines: String = [&first, &second, &anew].map(|report| serde_json::to_string(report).unwrap() + "\n").concat();
    let cut = format!("{lines}{{\"schema_version\": 1, \"host");
    let said = run(["stats", "merge", "--json", &workspace.file("series.jsonl", &cut)]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let merged: MergedTimes = serde_json::from_str(&said.out).unwrap();
    assert_eq!(merged.documents.len(), 2);
    assert_eq!(merged.latency.count, second.totals.latency.count + anew.totals.latency.count);
    assert!(
        merged.notes.len() == 1 && merged.notes[0].contains("series.jsonl ends in the middle"),
        "{:?}",
        merged.notes
    );
}

#[test]
fn what_is_no_document_is_not_merged_and_that_is_one_sentence() {
    let workspace = Workspace::new();
    let text = serde_json::to_string(&quiet_report()).unwrap();
    let with = |key: &str, value: Value| {
        let mut document: Value = serde_json::from_str(&text).unwrap();
        document[key] = value;
        document.to_string()
    };
    for (name, text, expected) in [
        ("empty", String::new(), "is empty"),
        ("cut", text[..text.len() / 2].to_owned(), "ends in the middle of its only document"),
        ("foreign", "{\"a\": 1}".to_owned(), "it has no schema_version"),
        ("binary", "\u{1}\u{2}".to_owned(), "no JSON at line 1"),
        ("newer", with("schema_version", json!(2)), "schema_version 2, written by pointsman"),
        ("sink", with("kind", json!("sink")), "gen or sink"),
        ("shape", with("totals", json!(7)), "totals: invalid type"),
    ] {
        let Said { code, out, err } = run(["stats", "merge", &workspace.file(name, &text)]);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{name}: {err}");
        assert!(err.contains(expected) && err.contains(name) && err.lines().count() == 1, "{name}: {err}");
    }
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        sleep(Duration::from_millis(5));
    }
}

fn read(path: &Path) -> Report {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Makes documents that are told apart by their generation, which counts up.
fn numbered() -> (Arc<AtomicUsize>, impl Fn() -> Result<Report, CollectError> + Send + 'static) {
    let made = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&made);
    let template = quiet_report();
    let make = move || {
        let generation = counter.fetch_add(1, Ordering::SeqCst) + 1;
        Ok(Report { generation: generation as u64, ..template.clone() })
    };
    (made, make)
}

#[test]
fn the_file_is_whole_at_every_moment_and_the_last_document_is_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("stats.json");
    let (made, make) = numbered();
    let sampler = Sampler::start(path.clone(), Duration::from_millis(10), make).unwrap();
    wait_until("a first document", || path.exists());
    let mut last = 0;
    while made.load(Ordering::SeqCst) < 20 {
        let generation = read(&path).generation;
        assert!(generation >= last);
        last = generation;
    }
    sampler.stop();
    assert_eq!(read(&path).generation, made.load(Ordering::SeqCst) as u64);
    let left: Vec<_> = fs::read_dir(directory.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "no temporary file is left: {left:?}");
}

#[test]
fn stopping_does_not_wait_for_the_interval() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("stats.json");
    let (made, make) = numbered();
    let sampler = Sampler::start(path.clone(), Duration::from_secs(3600), make).unwrap();
    wait_until("a first document", || path.exists());
    let begin = Instant::now();
    drop(sampler);
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert_eq!((read(&path).generation, made.load(Ordering::SeqCst)), (2, 2));
}

#[test]
fn a_directory_that_comes_late_is_used_then() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("later").join("stats.json");
    let (made, make) = numbered();
    let sampler = Sampler::start(path.clone(), Duration::from_millis(10), make).unwrap();
    wait_until("some attempts", || made.load(Ordering::SeqCst) > 3);
    fs::create_dir(path.parent().unwrap()).unwrap();
    wait_until("the file", || path.exists());
    sampler.stop();
    assert_eq!(read(&path).generation, made.load(Ordering::SeqCst) as u64);
}

#[test]
fn the_same_trouble_has_the_same_words() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("missing").join("stats.json");
    let message = || write(&path, &quiet_report()).unwrap_err().to_string();
    assert_eq!(message(), message());
    assert_eq!(
        message(),
        format!("cannot write the statistics to {}: No such file or directory (os error 2)", path.display())
    );
}

#[test]
fn only_regular_files_are_replaced_and_links_are_followed() {
    let directory = tempfile::tempdir().unwrap();
    let real = directory.path().join("real.json");
    let link = directory.path().join("link.json");
    fs::write(&real, "old").unwrap();
    symlink(&real, &link).unwrap();
    write(&link, &quiet_report()).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    read(&real);

    let device = directory.path().join("null");
    symlink("/dev/null", &device).unwrap();
    assert!(matches!(write(&device, &quiet_report()), Err(WriteError::NotAFile(_))));
    assert!(matches!(write(directory.path(), &quiet_report()), Err(WriteError::NotAFile(_))));
    assert!(fs::symlink_metadata(&device).unwrap().is_symlink());
}

/// Runs the next test in a mount namespace of its own, on a file system of 8 KiB that goes with it.
#[test]
fn a_full_disk_keeps_the_old_document() {
    let directory = tempfile::tempdir().unwrap();
    let script = r#"mount -t tmpfs -o size=8k none "$1" && exec "$2" --exact --ignored full_disk"#;
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(directory.path())
        .arg(std::env::current_exe().unwrap())
        .env("POINTSMAN_TEST_DISK", directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    let refused = said.contains("unshare:") || said.contains("mount:");
    if refused && std::env::var_os("CI").is_none_or(|value| value != "true") {
        eprintln!("skipped, needs the capability to mount: {said}");
        return;
    }
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
#[ignore = "run by a_full_disk_keeps_the_old_document, on its small file system"]
fn full_disk() {
    let Some(disk) = std::env::var_os("POINTSMAN_TEST_DISK") else { return };
    let directory = Path::new(&disk);
    let path = directory.join("stats.json");
    let mut small = quiet_report();
    small.virtual_services.clear();
    small.workers.clear();
    small.interfaces.clear();
    write(&path, &small).unwrap();
    let large = Report { errors: vec!["x".repeat(20_000)], ..small.clone() };
    let message = write(&path, &large).unwrap_err().to_string();
    assert!(message.contains("No space left on device"), "{message}");
    assert_eq!(read(&path), small);
    assert_eq!(fs::read_dir(directory).unwrap().count(), 1, "no part of the new document is left");

    let (made, make) = numbered();
    let padded = move || make().map(|report| Report { errors: large.errors.clone(), ..report });
    let sampler = Sampler::start(path.clone(), Duration::from_millis(10), padded).unwrap();
    wait_until("some attempts", || made.load(Ordering::SeqCst) > 3);
    sampler.stop();
    assert_eq!(read(&path), small);
}
