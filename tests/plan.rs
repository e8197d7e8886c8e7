//! `pointsman plan`: documents of known costs, tables of known shares, and input that is none. Without root and without an
//! interface.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod program;

use pointsman::config;
use pointsman::director::plan::{STAND_IN_SOURCE, offline_plan};
use pointsman::plan::{ChangeKind, Demand, LimitKind, Plan, figures_of, plan, read_run};
use program::{CONFIG, Said, Workspace, run};
use proptest::prelude::*;
use serde_json::{Value, json};

const HZ: u64 = 2_000_000_000;
const SIZES: [(u64, u64); 7] = [(1, 1), (2, 2), (4, 5), (8, 11), (16, 22), (32, 45), (64, 64)];

/// A document of workers whose bursts cost `fixed_ns` and `frame_ns` for each frame, after `seconds` seconds.
fn document(fixed_ns: f64, frame_ns: f64, workers: u64, classes: usize, seconds: u64) -> Value {
    let cycles = |ns: f64| (ns * HZ as f64 / 1e9).round() as u64;
    let bursts = 2000 * seconds;
    let sizes = || SIZES.iter().take(classes);
    let busy: u64 = sizes().map(|(_, frames)| bursts * cycles(fixed_ns + frame_ns * *frames as f64)).sum();
    let packets: u64 = sizes().map(|(_, frames)| bursts * frames).sum();
    let traffic = |packets: u64| json!({ "packets": packets, "bytes": packets * 64 });
    let batch_sizes: Vec<Value> = sizes()
        .map(|(from, frames)| {
            let spent = bursts * cycles(fixed_ns + frame_ns * *frames as f64);
            json!({ "from": from, "to": null, "count": bursts, "packets": bursts * frames, "cycles": spent,
                    "system_call_cycles": spent / 2 })
        })
        .collect();
    let worker = |number: u64| {
        json!({ "worker": number, "cycles": { "busy": busy, "idle": (HZ * seconds).saturating_sub(busy) },
                "received": traffic(packets), "batch_sizes": batch_sizes,
                "flow_table": { "slots": 2_097_152 } })
    };
    json!({
        "schema_version": 1, "version": "0.1.0", "hostname": "director", "cycle_hz": HZ,
        "started_at": { "unix_ns": 1_000, "monotonic_ns": 1_000 },
        "taken_at": { "unix_ns": 0, "monotonic_ns": 1_000 + seconds * 1_000_000_000 },
        "workers": (0..workers).map(worker).collect::<Vec<_>>(),
        "virtual_services": [{ "connections": { "active": 1000, "inactive": 0 } }],
        "totals": { "received": traffic(packets * workers), "drops": {},
                    "queueing": { "buckets": [{ "from_ns": 0, "to_ns": 20_000, "count": packets * workers }] } },
    })
}

fn demand(rate_pps: f64) -> Demand {
    Demand {
        rate_pps,
        frame_bytes: None,
        headroom: 0.3,
        failures: 0,
        link_bps: None,
        cores_per_machine: None,
        flows: None,
        batch: 64,
        rx_ring: 2048,
        flows_per_worker: None,
    }
}

fn planned(documents: &[Value], demand: &Demand) -> Plan {
    let workspace = Workspace::new();
    let lines: String = documents.iter().map(|document| format!("{document}\n")).collect();
    let path = workspace.file("run.json", &lines);
    plan(&read_run(&[path.into()]).unwrap(), demand).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// From a run with bursts of 45 frames at most, full bursts of 64 are foretold, and from the difference of two
    /// documents as well as from one.
    #[test]
    fn known_costs_are_found(fixed in 50.0..3000.0f64, frame in 50.0..2000.0f64, classes in 4usize..7, first in 1u64..9) {
        let core = planned(&[document(fixed, frame, 1, classes, 10)], &demand(1e6)).core;
        let full = frame + fixed / 64.0;
        prop_assert!((core.full_frame_ns.likely / full - 1.0).abs() < 0.01, "{core:?}");
        let Value::Object(fields) = serde_json::to_value(core.frames_per_s).unwrap() else { panic!() };
        prop_assert!(fields["low"].as_f64().unwrap() < 1e9 / full && fields["high"].as_f64().unwrap() > 1e9 / full);
        let series = [document(fixed, frame, 1, classes, first), document(fixed, frame, 1, classes, 10)];
        prop_assert!((planned(&series, &demand(1e6)).core.full_frame_ns.likely / full - 1.0).abs() < 0.01);
    }

    /// More rate, more headroom or more failures never take fewer cores; and what is planned has room for what is asked.
    #[test]
    fn more_takes_more(
        rate in 1e5..1e9f64,
        more in 1.0..4.0f64,
        headroom in 0.0..0.9f64,
        failures in 0u64..4,
        cores in prop::option::of(1u64..64),
        link_bps in prop::option::of(1e9..4e11f64),
        workers in 1u64..4,
    ) {
        let documents = [document(400.0, 600.0, workers, 5, 10)];
        let least = Demand { headroom, failures, cores_per_machine: cores, link_bps, ..demand(rate) };
        let plan = planned(&documents, &least);
        let total = |demand: Demand| planned(&documents, &demand).machines;
        let machines = plan.machines;
        let faster = total(Demand { rate_pps: rate * more, ..least });
        prop_assert!(faster.machines >= machines.machines);
        let roomier = total(Demand { headroom: (headroom * more).min(0.95), ..least });
        prop_assert!(roomier.machines >= machines.machines);
        let safer = total(Demand { failures: failures + 1, ..least });
        prop_assert!(safer.cores > machines.cores);
        prop_assert!(plan.at_best.machines <= plan.likely.machines && plan.likely.machines <= machines.machines);
        for limit in plan.limits.iter().filter(|limit| matches!(limit.what, LimitKind::Core | LimitKind::Link)) {
            prop_assert!(limit.used_at_worst <= 1.0 - headroom + 1e-6, "{limit:?} of {machines:?}");
            prop_assert!(limit.used <= limit.used_after_failures + 1e-12);
            prop_assert!(limit.breaks_at_pps >= rate);
        }
    }
}

#[test]
fn the_first_to_break_is_the_fullest() {
    let documents = [document(400.0, 600.0, 1, 5, 10)];
    let first = |demand: Demand| planned(&documents, &demand).limits[0].what;
    let plenty = Demand { cores_per_machine: Some(64), flows: Some(1000), ..demand(20e6) };
    assert_eq!(first(plenty), LimitKind::Core);
    // Two machines, whose links are as full as the headroom lets them.
    assert_eq!(first(Demand { link_bps: Some(7.04e9 / 0.7), ..plenty }), LimitKind::Link);
    assert_eq!(first(Demand { flows: Some(1 << 40), ..plenty }), LimitKind::FlowTable);
    assert_eq!(first(Demand { rx_ring: 8, ..plenty }), LimitKind::Ring);
    // 64 bytes and the check sequence, the preamble and the gap: 88 bytes on the wire.
    let plan = planned(&documents, &Demand { headroom: 0.0, link_bps: Some(7.04e9), ..plenty });
    assert_eq!((plan.machines.machines, plan.link_bps), (2, 7.04e9));
}

#[test]
fn what_runs_do_not_show_widens_the_interval() {
    let width = |document: Value| {
        let rate = planned(&[document], &demand(1e6)).core.frames_per_s;
        (rate.high - rate.low) / rate.likely
    };
    let many = width(document(400.0, 600.0, 1, 6, 10));
    assert!(many < width(document(400.0, 600.0, 1, 3, 10)), "small bursts tell less of full ones");
    let one_size = document(400.0, 600.0, 1, 1, 10);
    assert!(many * 1.2 < width(one_size.clone()), "one size tells nothing of others");
    assert!(planned(&[one_size], &demand(1e6)).assumptions.iter().any(|text| text.contains("too much alike")));
    let mut beside = document(400.0, 600.0, 1, 6, 10);
    beside["cpus"] = json!([{ "cpu": 1, "workers": [0], "napi": [{ "interface": "eth0", "ns": 400_000_000u64 }] }]);
    assert!(many < width(beside.clone()), "the kernel's work on the worker's core may be counted or not");
    let slower = planned(&[beside], &demand(1e6)).core.full_frame_ns.likely;
    assert!(slower > planned(&[document(400.0, 600.0, 1, 6, 10)], &demand(1e6)).core.full_frame_ns.likely);
}

/// One burst of ten is interrupted for a hundred times as long as it takes itself. That moves the means, and not the plan.
#[test]
fn interruptions_do_not_make_bursts_dear() {
    let calm = document(400.0, 600.0, 1, 6, 10);
    let mut interrupted = calm.clone();
    for size in interrupted["workers"][0]["batch_sizes"].as_array_mut().unwrap() {
        let (count, cycles) = (size["count"].as_u64().unwrap(), size["cycles"].as_u64().unwrap());
        let usual = cycles / count;
        size["cycles"] = json!(cycles + count / 10 * usual * 100);
        size["cycles_of_bursts"] = json!([
            { "from_cycles": usual * 19 / 20, "to_cycles": usual * 21 / 20, "count": count - count / 10 },
            { "from_cycles": usual * 99, "to_cycles": null, "count": count / 10 },
        ]);
    }
    let full_ns = |document: &Value| planned(std::slice::from_ref(document), &demand(1e6)).core.full_frame_ns;
    assert!((full_ns(&interrupted).likely / full_ns(&calm).likely - 1.0).abs() < 0.02, "{:?}", full_ns(&interrupted));
    // Who had the core meanwhile may have it at full load, too.
    let text = |document: &Value| planned(std::slice::from_ref(document), &demand(1e6)).assumptions.join("\n");
    assert!(
        text(&calm).contains("no costs of single bursts") && !text(&interrupted).contains("no costs of single bursts")
    );
    assert!(!text(&interrupted).contains("other threads"));
    let undisturbed = full_ns(&interrupted);
    interrupted["workers"][0]["cpu_time"] = json!({ "runqueue_wait_ns": 2_000_000_000u64 });
    let disturbed = full_ns(&interrupted);
    assert!(text(&interrupted).contains("other threads had the workers' cores for 20 % of the time"));
    assert!(disturbed.high > undisturbed.high * 1.05, "{disturbed:?} {undisturbed:?}");
    assert_eq!((disturbed.likely, disturbed.low), (undisturbed.likely, undisturbed.low));
}

/// Twenty full bursts in the run are taken at their word, whatever the line says; with fewer the line counts.
#[test]
fn full_bursts_of_the_run_need_no_line() {
    let full_ns = |full_bursts: u64, with_single_bursts: bool| {
        let mut run = document(400.0, 600.0, 1, 6, 10);
        let cycles = 64 * 500 * HZ / 1_000_000_000;
        let sizes = run["workers"][0]["batch_sizes"].as_array_mut().unwrap();
        sizes.push(json!({ "from": 64, "to": null, "count": full_bursts, "packets": 64 * full_bursts,
                           "cycles": full_bursts * cycles, "system_call_cycles": 0 }));
        for size in sizes {
            let usual = size["cycles"].as_u64().unwrap() / size["count"].as_u64().unwrap();
            if with_single_bursts {
                size["cycles_of_bursts"] =
                    json!([{ "from_cycles": usual - 10, "to_cycles": usual + 9, "count": size["count"] }]);
            }
        }
        planned(&[run], &demand(1e6)).core.full_frame_ns.likely
    };
    assert!((full_ns(20, true) - 500.0).abs() < 1.0, "{}", full_ns(20, true));
    assert!(full_ns(19, true) > 580.0, "{}", full_ns(19, true));
    assert!(full_ns(20, false) > 580.0, "means of rare bursts are those of interruptions: {}", full_ns(20, false));
}

#[test]
fn shares_and_changes_of_a_table() {
    let config = config::parse(CONFIG, "director.toml").unwrap().config;
    let figures = figures_of(&offline_plan(&config, STAND_IN_SOURCE), false);
    let service = &figures.services[0];
    assert_eq!((service.service.as_str(), service.by_hash), ("tcp 192.168.88.15:80", true));
    let slots: u32 = service.real_servers.iter().map(|server| server.slots).sum();
    assert_eq!(slots as usize, service.table_size);
    for server in &service.real_servers {
        assert!((server.share - server.share_by_weight).abs() < 1.0 / 65_537.0 * 2.0, "{server:?}");
    }
    for service in &figures.services {
        for change in &service.changes {
            assert!(change.least <= change.actual + 1e-12 && change.actual <= 1.0, "{change:?}");
            if change.kind == ChangeKind::Fail {
                assert_eq!(change.least, change.actual, "who fails moves its own flows: {change:?}");
            }
        }
    }
    // One of weight 1 of 3 goes: its third moves. A second one of weight 1 comes: a quarter.
    let least = |kind, at: usize| {
        let mut of = service.changes.iter().filter(|change| change.kind == kind);
        of.nth(at).map(|change| (change.least * 1000.0).round()).unwrap()
    };
    assert_eq!(
        (least(ChangeKind::Remove, 0), least(ChangeKind::Add, 0), least(ChangeKind::Double, 0)),
        (333.0, 250.0, 167.0)
    );
    // The second service has one real server: without it all is lost.
    assert_eq!(figures.services[1].changes[0].actual, 1.0);
    assert!(figures.memory.hash_tables == 3 * 65_537 * 2 && figures.build_ns > 0, "{figures:?}");
}

#[test]
fn bad_input_is_one_sentence() {
    let workspace = Workspace::new();
    let good = document(400.0, 600.0, 1, 5, 10);
    let text = good.to_string();
    let changed = |key: &str, value: Value| {
        let mut document = good.clone();
        document[key] = value;
        document.to_string()
    };
    let mut quiet = good.clone();
    quiet["workers"][0]["received"]["packets"] = json!(3);
    let mut old = good.clone();
    old["workers"][0]["batch_sizes"] = json!([{ "from": 1, "to": null, "count": 5000 }]);
    for (name, text, expected) in [
        ("empty", String::new(), "is empty"),
        ("blank", "\n \n".to_owned(), "is empty"),
        ("cut", text[..text.len() / 2].to_owned(), "ends in the middle of its only document"),
        ("foreign", "{\"a\": 1}".to_owned(), "it has no schema_version"),
        ("text", "once upon a time".to_owned(), "no JSON at line 1"),
        ("list", "[1, 2]".to_owned(), "it is JSON, but no object"),
        ("newer", changed("schema_version", json!(2)), "schema_version 2, written by pointsman 0.1.0"),
        ("odd", changed("schema_version", json!("x")), "none that there ever was"),
        ("shape", changed("workers", json!(7)), "workers: invalid type"),
        ("sink", changed("kind", json!("sink")), "gen or sink"),
        ("quiet", quiet.to_string(), "received 3 frames, and 1000 are the least"),
        ("old", old.to_string(), "does not say what bursts cost"),
    ] {
        let path = workspace.file(name, &text);
        let Said { code, out, err } = run(["plan", &path, "--rate", "1M"]);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{name}: {err}");
        assert!(err.contains(expected) && err.contains(name) && err.lines().count() == 1, "{name}: {err}");
    }
    let packed = run(["plan", &workspace.file("packed", [0x1f, 0x8b, 8, 0]), "--rate", "1M"]);
    assert!(packed.code == Some(2) && packed.err.contains("unpack it first"), "{packed:?}");
    let missing = run(["plan", "/nonexistent/run.json", "--rate", "1M"]);
    assert_eq!(missing.code, Some(1));
    let other = workspace.file("other", changed("hostname", json!("another")));
    let path = workspace.file("good", &text);
    let said = run(["plan", &path, &other, "--rate", "1M"]);
    assert!(said.code == Some(2) && said.err.contains("different runs"), "{said:?}");
    for wrong in ["plan x", "plan --table", "plan x --rate fast", "plan x --rate 1M --headroom 100%"] {
        assert_eq!(run(wrong.split(' ')).code, Some(2), "{wrong}");
    }
}

#[test]
fn a_plan_for_people_and_for_scripts() {
    let workspace = Workspace::new();
    // A series that stops in the middle of its last line.
    let (first, last) = (document(400.0, 600.0, 2, 5, 4), document(400.0, 600.0, 2, 5, 10));
    let series = format!("{first}\n{last}\n{}", &last.to_string()[..300]);
    let path = workspace.file("series.jsonl", &series);
    let said = run([
        "plan",
        &path,
        "--rate",
        "20Mpps",
        "--frame-size",
        "64",
        "--headroom",
        "30%",
        "--failures",
        "1",
        "--link",
        "25G",
    ]);
    assert_eq!(said.code, Some(0), "{said:?}");
    for expected in
        ["20.00 M frames/s need", "left after 1 failure", "What breaks first:", "This rests on", "middle of a document"]
    {
        assert!(said.out.contains(expected), "{expected}: {}", said.out);
    }
    assert!(said.out.lines().all(|line| line.chars().count() <= 80), "{}", said.out);
    let said = run(["plan", &path, "--rate", "20Mpps", "--json"]);
    let document: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&document["schema_version"], &document["run"]["seconds"]), (&json!(1), &json!(6.0)));
    assert!(document["plan"]["core"]["frames_per_s"]["likely"].as_f64().unwrap() > 1e6);
    let config = workspace.file("director.toml", CONFIG);
    let said = run(["plan", "--table", "--config", &config]);
    assert!(said.code == Some(0) && said.out.contains("must move"), "{said:?}");
    let said = run(["plan", "--table", "--config", &config, "--json"]);
    let document: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(document["services"].as_array().unwrap().len(), 3);
}
