//! What clients of the control socket may do to a director that forwards: nothing.
//!
//! The network is that of `scripts/lab`. These tests need root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod lab;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use lab::director::{Config, Director, pointsman};
use lab::http::{Load, WebServer};
use lab::{AtEnd, Host, Lab, Shape, vip4};

const LOAD: Load = Load { connections: 200, requests_per_connection: 5, at_once: 4, pause: Duration::ZERO };
/// Connections that say nothing, and those that say something which is no request, each kept open by the client.
const SILENT: usize = 3000;
const RUBBISH: usize = 600;
/// Bodies over the limit of 32 MiB, so many clients each send so many of.
const SENDERS: usize = 6;
const HUGE_BODIES: usize = 3;
const HUGE_BYTES: usize = 48 << 20;
/// What all that may add to the director's resident memory: one large body of 32 MiB and the copy of it that growing
/// makes, 128 connections with a head and a small body each, and what the allocator keeps of it.
const MAX_GROWTH_BYTES: u64 = 160 << 20;

#[test]
fn no_client_of_the_control_socket_slows_the_data_path_or_fills_the_memory() {
    let Some(lab) = Lab::up(Shape { queues: 2, ..Shape::default() }) else { return };
    let _servers = WebServer::pair(&lab, 80);
    let mut director = Director::start(&lab, &Config::usual());
    let web = SocketAddr::from((vip4(), 80));
    let socket = director.control_socket().to_owned();
    assert_operator_is_answered(&socket);
    let before = director.resident_bytes();

    let (enough, peak, answers) = (AtomicBool::new(false), AtomicU64::new(before), AtomicU64::new(0));
    let outcome = thread::scope(|scope| {
        let _end = AtEnd(&enough);
        let load = scope.spawn(|| LOAD.run(&lab, Host::Client, web, Some(&enough)));
        scope.spawn(|| {
            while !enough.load(Ordering::Relaxed) {
                peak.fetch_max(director.resident_bytes(), Ordering::Relaxed);
                thread::sleep(Duration::from_millis(5));
            }
        });
        scope.spawn(|| {
            let _end = AtEnd(&enough);
            while !enough.load(Ordering::Relaxed) {
                assert_operator_is_answered(&socket);
                answers.fetch_add(1, Ordering::Relaxed);
            }
        });
        let huge: Vec<_> = (0..SENDERS)
            .map(|sender| {
                scope.spawn({
                    let socket = &socket;
                    move || send_huge_bodies(socket, sender)
                })
            })
            .collect();
        let rubbish: Vec<_> = (0..RUBBISH).map(|number| connect(&socket, &nonsense(number))).collect();
        let silent: Vec<_> = (0..SILENT).map(|_| connect(&socket, b"")).collect();
        huge.into_iter().for_each(|sender| sender.join().unwrap());
        // While all of them are still there.
        let answered = answers.load(Ordering::Relaxed);
        lab::wait_for("answers to the operator", 60, || {
            (answers.load(Ordering::Relaxed) >= answered + 5).then_some(())
        });
        drop((rubbish, silent));
        enough.store(true, Ordering::Relaxed);
        load.join().unwrap()
    });
    assert_eq!((outcome.failed, outcome.wandered), (0, 0), "{outcome:#?}");
    let stats = director.quiet_stats();
    stats.assert_identity();
    assert_eq!((stats.dropped(), stats.lost_in_kernel()), (0, 0), "{:#}", stats.0);
    let growth = peak.into_inner() - before;
    assert!(growth < MAX_GROWTH_BYTES, "{} KiB more than the {} KiB before", growth >> 10, before >> 10);
    assert!(director.is_running() && !director.log().contains("panicked"), "{}", director.log());
}

/// As an operator asks, by the command that is there for it.
fn assert_operator_is_answered(socket: &Path) {
    let output = Command::new(pointsman()).args(["health", "--socket"]).arg(socket).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn connect(socket: &Path, sent: &[u8]) -> UnixStream {
    let mut stream = UnixStream::connect(socket).unwrap();
    // The director may have closed it.
    let _ = stream.write_all(sent);
    stream
}

/// What is no request, or none that ends.
fn nonsense(number: usize) -> Vec<u8> {
    match number % 4 {
        0 => (0..4096).map(|at: usize| u8::try_from((at * 31 + number) % 256).unwrap()).collect(),
        1 => format!("GET /v1/health HTTP/1.1\r\nx: {}", "y".repeat(15 << 10)).into_bytes(),
        2 => b"GET /v1/hea".to_vec(),
        _ => {
            let body = "[".repeat(200 << 10);
            let length = body.len() + 1;
            format!("POST /v1/changes HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
                .into_bytes()
        }
    }
}

/// Sends what is too much, until the director has had enough of it.
fn send_huge_bodies(socket: &Path, sender: usize) {
    let types = ["application/json", "application/toml"];
    let (method, route, kind) = [("POST", "/v1/changes", types[0]), ("PUT", "/v1/config", types[1])][sender % 2];
    let head = format!(
        "{method} {route} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {HUGE_BYTES}\r\n\r\n"
    );
    let piece = vec![b'#'; 1 << 20];
    for _ in 0..HUGE_BODIES {
        let mut stream = connect(socket, head.as_bytes());
        stream.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let sent = (0..HUGE_BYTES / piece.len()).take_while(|_| stream.write_all(&piece).is_ok()).count();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{sent} MiB are taken: {}", String::from_utf8_lossy(&answer));
    }
}
