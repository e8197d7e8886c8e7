//! What the director says of the kernel's share, in a real network.
//!
//! The network is that of `scripts/lab`. These tests need root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod lab;

use lab::director::{Config, Director};
use lab::http::{WebServer, fetch};
use lab::{Host, Lab, Shape, vip4};
use serde_json::Value;

/// A sum over the NAPI polls of one interface on all CPUs.
fn polled(stats: &Value, interface: &str, field: &str) -> u64 {
    let cpus = stats["cpus"].as_array().unwrap();
    let polls = cpus.iter().flat_map(|cpu| cpu["napi"].as_array().unwrap());
    polls.filter(|napi| napi["interface"] == interface).map(|napi| napi[field].as_u64().unwrap()).sum()
}

/// Frames that the XDP program of the first interface has seen: what its NAPI handled.
fn seen_by_xdp(stats: &Value) -> u64 {
    let of = &stats["interfaces"][0]["xdp"];
    ["redirected", "passed", "not_our_mac", "malformed", "no_socket"]
        .map(|name| of[name].as_u64().unwrap())
        .iter()
        .sum()
}

#[test]
fn every_frame_is_in_a_poll_of_its_interface_and_no_other_namespaces_frame_is() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let _servers = WebServer::pair(&lab, 80);
    let director = Director::start(&lab, &Config::usual());
    let before = director.quiet_stats().0;
    assert_eq!(before["softirq_measured_by"], "tracepoints", "{:#}", before["errors"]);
    for _ in 0..50 {
        fetch(&lab, Host::Client, (vip4(), 80).into()).unwrap();
    }
    let after = director.quiet_stats().0;

    let grown = |of: &dyn Fn(&Value) -> u64| of(&after) - of(&before);
    let frames = grown(&seen_by_xdp);
    assert!(frames >= 200, "{frames}");
    // The servers and the client have an interface of the same index, in namespaces of their own.
    assert_eq!(grown(&|stats| polled(stats, "eth0", "packets")), frames);
    assert!(grown(&|stats| polled(stats, "eth0", "ns")) > 0);
    assert!(grown(&|stats| polled(stats, "", "packets")) > 0, "the switch and the servers poll, too");
    assert!(grown(&|stats| polled(stats, "eth0", "polls")) <= frames);

    let worker = &after["workers"][0];
    let core = worker["core"].as_u64().unwrap();
    let cpu = after["cpus"].as_array().unwrap().iter().find(|cpu| cpu["cpu"] == core).unwrap();
    assert_eq!(cpu["workers"], serde_json::json!([0]));
    assert!(cpu["softirq_outside_napi_ns"].as_u64().unwrap() > 0);
    assert!(
        worker["cpu_time"]["run_ns"].as_u64().unwrap() > before["workers"][0]["cpu_time"]["run_ns"].as_u64().unwrap()
    );
    assert!(worker["cpu_time"]["voluntary_switches"].as_u64().unwrap() > 0);
    // The worker counted its cycles itself, over the time that it ran or slept.
    let cycles = worker["cycles"]["busy"].as_u64().unwrap() + worker["cycles"]["idle"].as_u64().unwrap();
    let hz = after["cycle_hz"].as_u64().unwrap();
    let elapsed = u128::from(after["uptime_ns"].as_u64().unwrap());
    assert!(
        u128::from(cycles) * 1_000_000_000 / u128::from(hz) <= elapsed,
        "{cycles} cycles of {hz} Hz in {elapsed} ns"
    );
}

#[test]
fn a_director_that_is_told_to_reads_proc_alone() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let _servers = WebServer::pair(&lab, 80);
    let director = Director::start(&lab, &Config::usual().director("stats_softirq = \"procfs\""));
    fetch(&lab, Host::Client, (vip4(), 80).into()).unwrap();
    let stats = director.stats().0;
    assert_eq!(stats["softirq_measured_by"], "procfs");
    let cpus = stats["cpus"].as_array().unwrap();
    assert!(!cpus.is_empty());
    assert!(cpus.iter().all(|cpu| cpu["napi"].is_null() && cpu["softirq_outside_napi_ns"].is_null()));
    assert!(cpus.iter().any(|cpu| cpu["net_rx_softirqs"].as_u64().unwrap() > 0));
    let errors = stats["errors"].as_array().unwrap();
    assert!(errors.iter().any(|error| error.as_str().unwrap().contains("director.stats_softirq is \"procfs\"")));
}
