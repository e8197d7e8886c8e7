//! The control socket: who may have it, what it answers, and what it takes from its clients.
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

mod sources;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use pointsman::control::api::{Handle, Health};
use pointsman::control::client::{Client, ClientError};
use pointsman::control::server::{Limits, Server};
use pointsman::control::socket::{BindError, ControlSocket};
use pointsman::stats::collect::Collector;
use pointsman::stats::counters::WorkerCounters;
use serde_json::Value;
use sources::{Kernel, director};

/// A server on a socket in a directory of its own, and the counters of its first worker.
struct Running {
    server: Option<Server>,
    path: PathBuf,
    worker: Arc<WorkerCounters>,
    _directory: tempfile::TempDir,
}

fn running(limits: Limits) -> Running {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    let director = director(Kernel::default());
    let worker = Arc::clone(&director.workers[0]);
    let collector = Collector::new(director.sources);
    let handle = Handle { stats: Arc::new(move || collector.collect()) };
    let server = Server::start_with(ControlSocket::bind(&path).unwrap(), handle, limits).unwrap();
    Running { server: Some(server), path, worker, _directory: directory }
}

/// Sends `request` as it is and reads all of the answer; the server must close the connection.
fn raw(path: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn request(path: &Path, line: &str) -> String {
    raw(path, &format!("{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"))
}

fn body(answer: &str) -> Value {
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

/// Serves one connection at `path` with `answer`, and keeps it open as long as the client does.
fn answer_once(path: &Path, answer: &'static [u8], then_close: bool) -> thread::JoinHandle<()> {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        let _ = stream.read(&mut request).unwrap();
        stream.write_all(answer).unwrap();
        if !then_close {
            let _ = stream.read(&mut request);
        }
    })
}

#[test]
fn the_client_gets_what_the_counters_say() {
    let running = running(Limits::default());
    let client = Client::new(&running.path);
    assert_eq!(client.stats().unwrap().totals.tx.packets, 0);
    running.worker.outcomes.count_tx(60);
    let report = client.stats().unwrap();
    assert_eq!((report.totals.tx.packets, report.workers[0].tx.bytes), (1, 60));
    let document: Value = serde_json::from_str(&client.stats_document().unwrap()).unwrap();
    assert_eq!(document["totals"]["tx"]["packets"], 1);
    let version = env!("CARGO_PKG_VERSION").to_owned();
    assert_eq!(client.health().unwrap(), Health { status: "ok".to_owned(), version });
}

#[test]
fn many_clients_are_served_over_the_limit_of_connections() {
    let running = running(Limits { connections: 2, ..Limits::default() });
    thread::scope(|scope| {
        for _ in 0..16 {
            let client = Client::new(&running.path);
            scope.spawn(move || client.stats().unwrap());
        }
    });
}

#[test]
fn errors_are_json() {
    let running = running(Limits::default());
    for (line, status, error) in [
        ("GET /", "404 Not Found", "there is no /; try /v1/stats or /v1/health"),
        ("GET /v2/stats?x=1", "404 Not Found", "there is no /v2/stats; try /v1/stats or /v1/health"),
        (
            "DELETE /v1/stats",
            "405 Method Not Allowed",
            "/v1/stats does not take DELETE; the header Allow lists what it takes",
        ),
        (
            "POST /v1/health",
            "405 Method Not Allowed",
            "/v1/health does not take POST; the header Allow lists what it takes",
        ),
    ] {
        let answer = request(&running.path, line);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
        assert!(answer.contains("content-type: application/json\r\n"), "{answer}");
        assert_eq!(answer.contains("\r\nallow: GET,HEAD\r\n"), status.starts_with("405"), "{answer}");
        assert_eq!(body(&answer)["error"], error);
    }
    assert_eq!(body(&request(&running.path, "GET /v1/health"))["status"], "ok");
}

#[test]
fn what_is_no_http_does_no_harm() {
    let running = running(Limits { header_read: Duration::from_millis(200), ..Limits::default() });
    for garbage in ["\0\u{1}\u{2}\r\n\r\n", "GET\r\n\r\n", "hello", ""] {
        raw(&running.path, garbage);
    }
    let endless = format!("GET /v1/health HTTP/1.1\r\nhost: x\r\nx: {}", "y".repeat(1 << 20));
    let mut stream = UnixStream::connect(&running.path).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // The server closes before it has read all.
    let _ = stream.write_all(endless.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "a head of 1 MiB is served");
    Client::new(&running.path).stats().unwrap();
}

#[test]
fn idle_slow_and_endless_connections_are_closed() {
    let limits = Limits {
        connections: 1,
        header_read: Duration::from_millis(200),
        lifetime: Duration::from_millis(600),
        farewell: Duration::from_millis(100),
    };
    let running = running(limits);
    let client = Client::new(&running.path);
    let begin = Instant::now();
    // Nothing, a part of a head, and nothing more after an answer: each would keep the only place for ever.
    for request in ["", "GET /v1/hea", "GET /v1/health HTTP/1.1\r\nhost: x\r\n\r\n"] {
        raw(&running.path, request);
        client.stats().unwrap();
    }
    // One that always asks the next question in time.
    let mut busy = UnixStream::connect(&running.path).unwrap();
    busy.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut answers = 0;
    while busy.write_all(b"GET /v1/health HTTP/1.1\r\nhost: x\r\n\r\n").is_ok() {
        match busy.read(&mut [0; 4096]) {
            Ok(0) | Err(_) => break,
            Ok(_) => answers += 1,
        }
        thread::sleep(Duration::from_millis(50));
        assert!(begin.elapsed() < Duration::from_secs(20));
    }
    assert!(answers > 2, "{answers}");
    // One that never reads its answers.
    let mut deaf = UnixStream::connect(&running.path).unwrap();
    deaf.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    for _ in 0..10_000 {
        if deaf.write_all(b"GET /v1/stats HTTP/1.1\r\nhost: x\r\n\r\n").is_err() {
            break;
        }
    }
    client.stats().unwrap();
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
}

#[test]
fn stopping_removes_the_socket_and_waits_for_nobody_long() {
    let mut running = running(Limits::default());
    let mode = fs::symlink_metadata(&running.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let mut idle = UnixStream::connect(&running.path).unwrap();
    idle.write_all(b"GET /v1/health HT").unwrap();
    Client::new(&running.path).health().unwrap();
    let begin = Instant::now();
    running.server.take().unwrap().stop();
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
    assert!(!running.path.exists());
    assert!(matches!(Client::new(&running.path).stats(), Err(ClientError::NoDirector(_))));
}

#[test]
fn a_live_socket_is_not_taken_and_a_dead_one_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    // As `kill -9` leaves it: a socket that nobody listens on.
    drop(UnixListener::bind(&path).unwrap());
    let dead = fs::symlink_metadata(&path).unwrap().ino();
    let socket = ControlSocket::bind(&path).unwrap();
    let live = fs::symlink_metadata(&path).unwrap().ino();
    let error = ControlSocket::bind(&path).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "another pointsman is running with the control socket {}; stop it first, or choose another path",
            path.display()
        )
    );
    assert_eq!(fs::symlink_metadata(&path).unwrap().ino(), live, "the live one is still there");
    // A socket whose backlog is full is as live.
    // One more than the backlog fits; the attempt above was the first.
    let waiting: Vec<_> = (0..64).map(|_| UnixStream::connect(&path).unwrap()).collect();
    assert!(matches!(ControlSocket::bind(&path), Err(BindError::InUse(_))));
    let begin = Instant::now();
    let busy = Client::new(&path).with_patience(Duration::from_millis(200)).stats();
    assert!(matches!(busy, Err(ClientError::Timeout { .. })), "{busy:?}");
    assert!(begin.elapsed() < Duration::from_secs(5));
    drop(waiting);
    drop(socket);
    assert!(!path.exists(), "inode {dead}");
}

#[test]
fn of_many_that_start_at_once_one_gets_the_socket() {
    for _ in 0..20 {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        drop(UnixListener::bind(&path).unwrap());
        let start = Barrier::new(4);
        let results: Vec<_> = thread::scope(|scope| {
            let bind = || {
                start.wait();
                ControlSocket::bind(&path)
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(bind)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
        assert!(results.iter().all(|result| matches!(result, Ok(_) | Err(BindError::InUse(_)))), "{results:?}");
        UnixStream::connect(&path).unwrap();
    }
}

#[test]
fn what_is_not_ours_is_never_removed() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("file"), "precious").unwrap();
    fs::create_dir(at("directory")).unwrap();
    symlink(at("file"), at("link")).unwrap();
    symlink(at("nowhere"), at("dangling")).unwrap();
    let _log = UnixDatagram::bind(at("datagram")).unwrap();
    for name in ["file", "directory", "link", "dangling", "datagram"] {
        let error = ControlSocket::bind(&at(name)).unwrap_err();
        assert!(matches!(error, BindError::NotOurs(_)), "{name}: {error}");
        assert!(fs::symlink_metadata(at(name)).is_ok(), "{name} is gone");
    }
    assert_eq!(fs::read_to_string(at("file")).unwrap(), "precious");
    assert!(matches!(ControlSocket::bind(&at("none/control.sock")), Err(BindError::NoDirectory(_))));
    assert!(matches!(ControlSocket::bind(&at(&"long".repeat(40))), Err(BindError::TooLong(_))));

    // A path that someone else has taken over meanwhile stays, too.
    let socket = ControlSocket::bind(&at("control.sock")).unwrap();
    fs::remove_file(at("control.sock")).unwrap();
    fs::write(at("control.sock"), "someone else's").unwrap();
    drop(socket);
    assert!(at("control.sock").exists());
}

#[test]
fn the_client_says_in_words_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let error = |path: &Path| Client::new(path).stats().unwrap_err().to_string();
    let nobody = |path: &Path| {
        format!(
            "no director answers at {}: is `pointsman run` running? use --socket if its control socket is elsewhere",
            path.display()
        )
    };
    assert_eq!(error(&at("missing")), nobody(&at("missing")));
    drop(UnixListener::bind(at("dead")).unwrap());
    assert_eq!(error(&at("dead")), nobody(&at("dead")));

    let foreign =
        |reason: &str, path: &Path| format!("what answers at {} is not a pointsman director: {reason}", path.display());
    for (name, answer, said) in [
        ("ssh", &b"SSH-2.0-OpenSSH_9.2\r\n"[..], "invalid HTTP version parsed"),
        ("html", b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 6\r\n\r\n<html>", "HTTP status 502 Bad Gateway"),
        (
            "other",
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
            "missing field `schema_version` at line 1 column 2",
        ),
        ("binary", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n\xff\xff", "its answer is not text"),
    ] {
        let server = answer_once(&at(name), answer, false);
        assert_eq!(error(&at(name)), foreign(said, &at(name)));
        server.join().unwrap();
    }

    let server =
        answer_once(&at("newer"), b"HTTP/1.1 200 OK\r\ncontent-length: 21\r\n\r\n{\"schema_version\": 9}", false);
    assert!(error(&at("newer")).contains("gives statistics of version 9, this program reads version 1"));
    server.join().unwrap();

    let refusal = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 19\r\n\r\n{\"error\":\"no ink.\"}";
    let server = answer_once(&at("refusing"), refusal, false);
    let refused = format!("the director at {} refuses (500): no ink.", at("refusing").display());
    assert_eq!(error(&at("refusing")), refused);
    server.join().unwrap();

    let server = answer_once(&at("dying"), b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{", true);
    let broken = error(&at("dying"));
    assert!(broken.starts_with("cannot talk to the director at"), "{broken}");
    server.join().unwrap();

    let server = answer_once(&at("silent"), b"", false);
    let client = Client::new(at("silent")).with_patience(Duration::from_millis(200));
    let silent = format!(
        "the director at {} has not answered within 0.2 s; it may be stuck or overloaded",
        at("silent").display()
    );
    assert_eq!(client.stats().unwrap_err().to_string(), silent);
    server.join().unwrap();
}
