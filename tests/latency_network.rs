//! What a real director says of times and cycles: nothing is left out when it stands still, and the parts are the whole.
//!
//! The network is that of `scripts/lab`. These tests need root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod lab;

use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use pointsman::stats::report::{Cost, Latency, Report, WorkerReport};

use lab::director::{Config, Director, Stats};
use lab::frame::Envelope;
use lab::raw_socket::RawSocket;
use lab::{AtEnd, Host, Lab, Shape, vip4, wait_for};

/// How long the director stands still.
const STILL: Duration = Duration::from_millis(60);
/// What is to be seen of it.
const SEEN: Duration = Duration::from_millis(45);
/// How late a frame may get its stamp, which a softirq gives it, and is still expected to show the stop.
const STAMPED_WITHIN: Duration = Duration::from_millis(5);

fn report(stats: Stats) -> Report {
    serde_json::from_value(stats.0).unwrap()
}

/// Datagrams to the first VIP, one after the other at a moderate pace, until it is over. Returns when each was sent.
fn send_steadily(lab: &Lab, sent: &AtomicUsize, over: &AtomicBool) -> Vec<Instant> {
    let client = RawSocket::open(lab, Host::Client, "eth0");
    let envelope = Envelope { destination: Host::Director.mac(), source: Host::Client.mac(), tags: &[] };
    let from = SocketAddr::new(Host::Client.ipv4(), 4_711);
    let frame = envelope.udp(from, (vip4(), 80).into(), b"one of many");
    let mut moments = Vec::new();
    while !over.load(Ordering::Relaxed) {
        client.send(&frame);
        moments.push(Instant::now());
        sent.store(moments.len(), Ordering::Relaxed);
        thread::sleep(Duration::from_micros(100));
    }
    moments
}

/// Whether every thread of a process is stopped.
fn stands_still(process: Pid) -> bool {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("stat")).unwrap()).all(|stat| {
        let (_, after_name) = stat.rsplit_once(") ").unwrap();
        after_name.starts_with('T')
    })
}

fn at_least(times: &Latency, span: Duration) -> u64 {
    let span_ns = u64::try_from(span.as_nanos()).unwrap();
    times.buckets.iter().filter(|bucket| bucket.from_ns >= span_ns).map(|bucket| bucket.count).sum()
}

#[test]
fn a_director_that_stands_still_shows_it_for_every_frame_that_waited() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let director = Director::start(&lab, &Config::usual());
    let (sent, over) = (AtomicUsize::new(0), AtomicBool::new(false));

    let (moments, stopped, continued) = thread::scope(|scope| {
        let at_end = AtEnd(&over);
        let sender = scope.spawn(|| send_steadily(&lab, &sent, &over));
        let some_more = |more: usize| {
            let enough = sent.load(Ordering::Relaxed) + more;
            wait_for("frames to be sent", 20, || (sent.load(Ordering::Relaxed) >= enough).then_some(()));
        };
        some_more(300);
        director.signal(Signal::SIGSTOP);
        while !stands_still(director.id()) {}
        let stopped = Instant::now();
        thread::sleep(STILL);
        let continued = Instant::now();
        director.signal(Signal::SIGCONT);
        some_more(300);
        drop(at_end);
        (sender.join().unwrap(), stopped, continued)
    });

    let stats = director.quiet_stats();
    stats.assert_identity();
    let report = report(stats);
    let all = u64::try_from(moments.len()).unwrap();
    assert_eq!((report.totals.received.packets, report.totals.tx.packets), (all, all), "none was lost meanwhile");
    let waited =
        moments.iter().filter(|&&moment| moment >= stopped && moment + SEEN + STAMPED_WITHIN <= continued).count();
    assert!(waited > 5, "{waited} frames were sent in the first milliseconds of the stop");
    let seen_ns = u64::try_from(SEEN.as_nanos()).unwrap();
    for (name, times) in [("queueing", &report.totals.queueing), ("latency", &report.totals.latency)] {
        assert_eq!(times.count, all, "{name} of every frame");
        assert!(times.max.unwrap() >= seen_ns, "{name}: {times:?}");
        assert!(times.p99_9.unwrap() >= seen_ns, "{name}: {waited} of {all} waited as long; {times:?}");
        let shown = at_least(times, SEEN);
        assert!(shown >= u64::try_from(waited).unwrap(), "{name}: {waited} frames waited, {shown} show it: {times:?}");
    }
}

#[test]
fn cycles_and_times_are_whole_under_load_and_at_rest() {
    let Some(lab) = Lab::up(Shape { queues: 2, ..Shape::default() }) else { return };
    let director = Director::start(&lab, &Config::usual());
    let (sent, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let moments = thread::scope(|scope| {
        let at_end = AtEnd(&over);
        let sender = scope.spawn(|| send_steadily(&lab, &sent, &over));
        for _ in 0..10 {
            for worker in report(director.stats()).workers {
                assert_eq!(worker.cost.sum(), worker.cycles.busy.wrapping_add(worker.cycles.idle), "{:?}", worker.cost);
            }
        }
        drop(at_end);
        sender.join().unwrap()
    });

    let report = report(director.quiet_stats());
    let all = u64::try_from(moments.len()).unwrap();
    let totals = &report.totals;
    assert_eq!(totals.tx.packets, all);
    let counts = [&totals.latency, &totals.queueing, &totals.processing, &totals.completion].map(|times| times.count);
    assert_eq!(counts, [all; 4], "each frame was sent, came back, and was measured");
    assert_eq!(totals.latency.sum, totals.queueing.sum + totals.processing.sum, "to the nanosecond");
    let in_bursts = |worker: &WorkerReport| worker.batch_sizes.iter().map(|size| size.packets).sum::<u64>();
    for worker in &report.workers {
        assert_eq!(in_bursts(worker), worker.received.packets);
        let kicks = report.interfaces.iter().flat_map(|interface| &interface.queues);
        let (tx_kicks, rx_kicks) = kicks
            .filter(|queue| queue.worker == worker.worker)
            .fold((0, 0), |(tx, rx), queue| (tx + queue.tx_kicks, rx + queue.rx_kicks));
        let Cost { system_calls, receive, forward, send, complete, refill, .. } = worker.cost;
        assert_eq!((system_calls.sendto.calls, system_calls.recvfrom.calls), (tx_kicks, rx_kicks));
        for (stage, cycles) in
            [("receive", receive), ("forward", forward), ("send", send), ("complete", complete), ("refill", refill)]
        {
            assert!((cycles > 0) == (worker.received.packets > 0), "{stage} of worker {}: {cycles}", worker.worker);
        }
        let in_batches: u64 = worker.batch_sizes.iter().map(|size| size.cycles).sum();
        assert!(in_batches <= worker.cycles.busy && (in_batches > 0) == (worker.received.packets > 0));
        for size in &worker.batch_sizes {
            let each: u64 = size.cycles_of_bursts.iter().map(|bucket| bucket.count).sum();
            assert_eq!(each, size.count, "bursts of {} and more frames", size.from);
        }
    }
}
