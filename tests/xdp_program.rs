//! What the compiled XDP program decides, frame by frame, by `BPF_PROG_TEST_RUN`. Needs root and Linux.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says why it is skipped"
)]
#![allow(unsafe_code, reason = "AF_XDP sockets and repeated test runs have no safe interface here")]

mod loaded;
mod packets;

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use libbpf_rs::{MapCore, MapFlags, MapHandle};
use loaded::{af_xdp_socket, load, load_with_socket, settings};
use packets::{Expected, Frames, Ipv4, PassReason, Row, rows, tcp};
use pointsman::service::{Protocol, ServiceKey};
use pointsman::xdp::{NoSocketAction, STAMP_BYTES, STAMP_MAGIC, Settings, TestRun, XdpAction, XdpCounters, XdpProgram};

/// The kernel takes no shorter frame for a test run.
const SHORTEST_TEST_FRAME: usize = 14;

/// The counter that a frame of this fate is counted by.
fn counted(expected: Expected) -> XdpCounters {
    let mut counters = XdpCounters::default();
    match expected {
        Expected::Redirect => counters.redirected = 1,
        Expected::Pass(PassReason::Malformed) => counters.malformed = 1,
        Expected::Pass(PassReason::NotOurMac) => counters.not_our_mac = 1,
        Expected::Pass(PassReason::NotIp | PassReason::NotAService | PassReason::FragmentOfPassed) => {
            counters.passed = 1;
        }
    }
    counters
}

fn difference(after: XdpCounters, before: XdpCounters) -> XdpCounters {
    XdpCounters {
        redirected: after.redirected - before.redirected,
        passed: after.passed - before.passed,
        not_our_mac: after.not_our_mac - before.not_our_mac,
        malformed: after.malformed - before.malformed,
        no_socket: after.no_socket - before.no_socket,
        unstamped: after.unstamped - before.unstamped,
    }
}

#[test]
fn every_row_of_the_table_is_decided_and_counted_as_it_says() {
    let Some(loaded) = load_with_socket() else { return };
    let mut wrong = Vec::new();
    for Row { description, frame, expected } in rows() {
        if frame.len() < SHORTEST_TEST_FRAME {
            continue;
        }
        let before = loaded.program.counters().read().unwrap();
        let run = loaded.program.test_run(&frame).unwrap();
        let count = difference(loaded.program.counters().read().unwrap(), before);
        let action = match expected {
            Expected::Redirect => XdpAction::Redirect,
            Expected::Pass(_) => XdpAction::Pass,
        };
        if run.action != action || count != counted(expected) {
            wrong.push(format!("{description}: expected {expected:?}, found {:?}, {count:?}", run.action));
        }
        assert_eq!(run.frame, frame, "{description}: the frame is left as it is");
        let stamped = if action == XdpAction::Redirect { STAMP_BYTES } else { 0 };
        assert_eq!(run.metadata.len(), stamped, "{description}");
    }
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
}

fn monotonic_ns() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
    u64::try_from(now.tv_sec()).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec()).unwrap()
}

fn stamped_ns(run: &TestRun) -> u64 {
    let (magic, received_ns) = run.metadata.split_at(8);
    assert_eq!(magic, STAMP_MAGIC.to_ne_bytes());
    u64::from_ne_bytes(received_ns.try_into().unwrap())
}

#[test]
fn the_stamp_is_the_monotonic_time_of_the_run() {
    let Some(loaded) = load_with_socket() else { return };
    let syn = Ipv4::default().frame(&tcp(4711, 80));
    for _ in 0..100 {
        let before = monotonic_ns();
        let received_ns = stamped_ns(&loaded.program.test_run(&syn).unwrap());
        assert!((before..=monotonic_ns()).contains(&received_ns));
    }
}

#[test]
fn without_a_socket_the_frame_is_dropped_or_passed_as_configured() {
    let syn = Ipv4::default().frame(&tcp(4711, 80));
    for (configured, action) in [(NoSocketAction::Drop, XdpAction::Drop), (NoSocketAction::Pass, XdpAction::Pass)] {
        let Some(mut program) = load(configured) else { return };
        let run = program.test_run(&syn).unwrap();
        assert_eq!((run.action, run.metadata.len()), (action, 0), "{configured:?}");
        assert_eq!(program.counters().read().unwrap(), XdpCounters { no_socket: 1, ..XdpCounters::default() });

        let ping = Ipv4 { protocol: packets::ICMP, ..Ipv4::default() }.frame(&packets::icmp(8, &[]));
        assert_eq!(program.test_run(&ping).unwrap().action, XdpAction::Pass, "what is no service's always passes");

        // The other way round while it runs, and with a socket that comes and goes.
        let (other, other_action) = match configured {
            NoSocketAction::Drop => (NoSocketAction::Pass, XdpAction::Pass),
            NoSocketAction::Pass => (NoSocketAction::Drop, XdpAction::Drop),
        };
        program.update_settings(&settings(other)).unwrap();
        assert_eq!(program.test_run(&syn).unwrap().action, other_action);
        let socket = af_xdp_socket();
        program.insert_socket(0, socket.as_raw_fd()).unwrap();
        assert_eq!(program.test_run(&syn).unwrap().action, XdpAction::Redirect);
        program.remove_socket(0).unwrap();
        program.remove_socket(0).unwrap();
        assert_eq!(program.test_run(&syn).unwrap().action, other_action);
        program.insert_socket(0, socket.as_raw_fd()).unwrap();
        drop(socket);
        assert_eq!(program.test_run(&syn).unwrap().action, other_action, "the kernel removes a closed socket");
    }
}

#[test]
fn settings_for_an_interface_that_only_transmits_pass_everything() {
    let Some(mut loaded) = load_with_socket() else { return };
    loaded.program.update_settings(&Settings::pass_all()).unwrap();
    for frame in rows().into_iter().map(|row| row.frame).filter(|frame| frame.len() >= SHORTEST_TEST_FRAME) {
        assert_eq!(loaded.program.test_run(&frame).unwrap().action, XdpAction::Pass);
    }
}

#[test]
fn services_come_and_go_without_disturbing_the_others_of_their_vip() {
    let Some(mut loaded) = load_with_socket() else { return };
    let program = &mut loaded.program;
    let syn = |port| Ipv4::default().frame(&tcp(4711, port));
    let query = Ipv4 { protocol: packets::UDP, ..Ipv4::default() }.frame(&packets::udp(4711, 53));
    let tcp_service = |port| ServiceKey { vip: packets::VIP.into(), protocol: Protocol::Tcp, port };
    let udp_service = ServiceKey { protocol: Protocol::Udp, ..tcp_service(53) };
    let redirects = |program: &XdpProgram, frame: &[u8]| program.test_run(frame).unwrap().action == XdpAction::Redirect;

    program.set_services([tcp_service(80), udp_service]).unwrap();
    assert_eq!((redirects(program, &syn(80)), redirects(program, &query)), (true, true));
    program.add_services([tcp_service(81), tcp_service(81)]).unwrap();
    assert_eq!((redirects(program, &syn(80)), redirects(program, &syn(81))), (true, true));
    program.remove_services([tcp_service(80), tcp_service(80)]).unwrap();
    assert_eq!((redirects(program, &syn(80)), redirects(program, &syn(81))), (false, true));
    program.add_services([tcp_service(0)]).unwrap();
    assert_eq!((redirects(program, &syn(80)), redirects(program, &syn(81))), (true, true));
    program.remove_services([tcp_service(0)]).unwrap();
    assert_eq!((redirects(program, &syn(80)), redirects(program, &syn(81))), (false, true));
    program.set_services([udp_service]).unwrap();
    assert_eq!((redirects(program, &syn(81)), redirects(program, &query)), (false, true));
    program.set_services([]).unwrap();
    assert!(!redirects(program, &query));
    program.set_services([tcp_service(80)]).unwrap();
    assert_eq!((redirects(program, &syn(80)), redirects(program, &query)), (true, false));
}

/// A frame of one service is tried all the time while another of the same VIP comes and goes.
#[test]
fn a_vip_with_a_service_left_never_vanishes() {
    let Some(mut loaded) = load_with_socket() else { return };
    let syn = Ipv4::default().frame(&tcp(4711, 80));
    let service = |port, protocol| ServiceKey { vip: packets::VIP.into(), protocol, port };
    let coming_and_going = [service(1234, Protocol::Tcp), service(0, Protocol::Udp), service(443, Protocol::Udp)];
    // The program that runs is the same one, reached through a second descriptor by its number.
    let running = libbpf_rs::Program::fd_from_id(loaded.program.program_id()).unwrap();
    let (done, runs) = (AtomicBool::new(false), AtomicU64::new(0));
    let changes = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                runs.fetch_add(run_often(&running, &syn), Ordering::Relaxed);
            }
        });
        let mut changes = 0;
        let begin = Instant::now();
        while changes < 1_000 || runs.load(Ordering::Relaxed) < 20_000 {
            loaded.program.add_services(coming_and_going).unwrap();
            loaded.program.remove_services(coming_and_going).unwrap();
            changes += 2 * coming_and_going.len();
            assert!(begin.elapsed() < Duration::from_secs(60), "{runs:?} runs, {changes} changes");
        }
        done.store(true, Ordering::Relaxed);
        changes
    });
    let runs = runs.into_inner();
    // Unstamped but for the first of each thousand, since the runs share one metadata area: no matter here.
    let counters = XdpCounters { unstamped: 0, ..loaded.program.counters().read().unwrap() };
    assert_eq!(counters, XdpCounters { redirected: runs, ..XdpCounters::default() }, "{changes} changes");
}

/// Runs the program many times in one system call; returns how many.
fn run_often(program: &OwnedFd, frame: &[u8]) -> u64 {
    const RUNS: u16 = 1_000;
    let mut options = libbpf_sys::bpf_test_run_opts {
        sz: std::mem::size_of::<libbpf_sys::bpf_test_run_opts>() as libbpf_sys::size_t,
        data_in: frame.as_ptr().cast(),
        data_size_in: u32::try_from(frame.len()).unwrap(),
        repeat: RUNS.into(),
        ..Default::default()
    };
    // SAFETY: `options` says its own size; the frame outlives the call.
    assert_eq!(unsafe { libbpf_sys::bpf_prog_test_run_opts(program.as_raw_fd(), &mut options) }, 0);
    RUNS.into()
}

#[test]
fn a_passed_first_fragment_is_forgotten_after_a_minute() {
    let Some(loaded) = load_with_socket() else { return };
    let base = Ipv4 { identification: 0xbeef, source: Ipv4Addr::new(10, 9, 8, 7), ..Ipv4::default() };
    let first = Ipv4 { more_fragments: true, ..base.clone() }.frame(&tcp(4711, 81));
    let later = Ipv4 { fragment_offset: 3, ..base }.frame(b"later");
    assert_eq!(loaded.program.test_run(&first).unwrap().action, XdpAction::Pass);
    assert_eq!(loaded.program.test_run(&later).unwrap().action, XdpAction::Pass);

    let map = map_of(loaded.program.program_id(), "passed_fragment");
    let key = map.keys().next().unwrap();
    for (age_s, action) in [(59, XdpAction::Pass), (61, XdpAction::Redirect)] {
        // Wraps where the machine has not been up for so long; the program's subtraction wraps back.
        let seen_ns = monotonic_ns().wrapping_sub(age_s * 1_000_000_000);
        map.update(&key, &seen_ns.to_ne_bytes(), MapFlags::ANY).unwrap();
        assert_eq!(loaded.program.test_run(&later).unwrap().action, action, "{age_s} s later");
    }
}

/// A map of a program by its name, of which the kernel keeps 15 bytes.
fn map_of(program_id: u32, name: &str) -> MapHandle {
    let options = libbpf_rs::query::ProgInfoQueryOptions::default().include_map_ids(true);
    let program = libbpf_rs::query::ProgInfoIter::with_query_opts(options).find(|info| info.id == program_id).unwrap();
    program
        .map_ids
        .iter()
        .map(|id| MapHandle::from_map_id(*id).unwrap())
        .find(|map| map.name().to_string_lossy() == name)
        .unwrap()
}

/// Each verdict is met often enough for the differential test to mean something, and every frame is counted once.
#[test]
fn generated_frames_reach_every_verdict_and_are_counted_once() {
    const FRAMES: u64 = 20_000;
    let Some(loaded) = load_with_socket() else { return };
    for frame in Frames::new(1).take(usize::try_from(FRAMES).unwrap()) {
        let action = loaded.program.test_run(&frame).unwrap().action;
        assert!(matches!(action, XdpAction::Pass | XdpAction::Redirect), "{action:?}: {frame:02x?}");
    }
    let counters = loaded.program.counters().read().unwrap();
    let XdpCounters { redirected, passed, not_our_mac, malformed, no_socket, unstamped } = counters;
    assert_eq!(redirected + passed + not_our_mac + malformed, FRAMES);
    assert_eq!((no_socket, unstamped), (0, 0));
    for count in [redirected, passed, not_our_mac, malformed] {
        assert!(count > FRAMES / 20, "{counters:?}");
    }
    let fragments = map_of(loaded.program.program_id(), "passed_fragment").keys().count();
    assert!((10..1_000).contains(&fragments), "{fragments} fragments remembered");
    println!("{counters:?}, {fragments} fragments remembered");
}
