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

use pointsman::announce::{Announcer, Role};
use pointsman::capture::{QueuePlace, Switch};
use pointsman::clock;
use pointsman::control::api::Handle;
use pointsman::control::capture::Captures;
use pointsman::control::client::{Client, ClientError};
use pointsman::control::command::{self, DirectorEnd};
use pointsman::control::error::ErrorBody;
use pointsman::control::explain::FlowQuestion;
use pointsman::control::flows::{FlowEntry, FlowFilter, FlowTables};
use pointsman::control::server::{Limits, Server};
use pointsman::control::socket::{Access, BindError, ControlSocket};
use pointsman::counters::WorkerCounters;
use pointsman::flow::{Change, FlowCounts, FlowKey, FlowState, WorkerFlows};
use pointsman::service::Protocol;
use pointsman::stats::collect::Collector;
use pointsman::table::{ForwardingTable, Identities, Published};
use serde_json::Value;
use sources::{Kernel, director, plan};

/// A server on a socket in a directory of its own, and the counters of its first worker.
struct Running {
    server: Option<Server>,
    path: PathBuf,
    worker: Arc<WorkerCounters>,
    flows: Vec<WorkerFlows>,
    tables: Arc<Published<ForwardingTable>>,
    _end: DirectorEnd,
    _directory: tempfile::TempDir,
}

fn running(limits: Limits) -> Running {
    running_with(limits, sources::FLOWS)
}

/// As [`running`], with workers that remember so many flows.
fn running_with(limits: Limits, flows: usize) -> Running {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    let director = director(Kernel::default());
    let tables = Arc::clone(&director.sources.tables);
    let worker = Arc::clone(&director.workers[0]);
    let collector = Collector::new(director.sources);
    let workers: Vec<WorkerFlows> = (0..sources::WORKERS).map(|_| WorkerFlows::new(flows).unwrap()).collect();
    let flows = FlowTables::new(workers.iter().map(WorkerFlows::as_peer), Arc::clone(&tables));
    let (director, end) = command::connect(command::Running::default());
    let switch = Switch::new(vec![vec![QueuePlace::default()]; sources::WORKERS]);
    let captures = Captures::new(switch, ["in0".to_owned()], Arc::clone(&tables));
    let announcements = Announcer::start(Role::Active).unwrap().announcements();
    let handle = Handle { stats: Arc::new(move || collector.collect()), flows, director, captures, announcements };
    let server = Server::start_with(ControlSocket::bind(&path, &Access::default()).unwrap(), handle, limits).unwrap();
    Running { server: Some(server), path, worker, flows: workers, tables, _end: end, _directory: directory }
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
    running.worker.outcomes.count_tx(1, 60);
    let report = client.stats().unwrap();
    assert_eq!((report.totals.tx.packets, report.workers[0].tx.bytes), (1, 60));
    let document: Value = serde_json::from_str(&client.stats_document().unwrap()).unwrap();
    assert_eq!(document["totals"]["tx"]["packets"], 1);
    let health = client.health().unwrap();
    assert_eq!((health.status.as_str(), health.version.as_str()), ("ok", env!("CARGO_PKG_VERSION")));
    assert_eq!(health.services.len(), report.virtual_services.len());
    let first = &health.services[0];
    assert_eq!((first.service.as_str(), first.real_servers[0].up), ("tcp 192.168.88.15:80", true));
    let [check] = &first.real_servers[0].health_checks[..] else { panic!("one check") };
    assert_eq!((check.kind.as_str(), check.port, check.failures), ("http", 80, 5));
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
fn whoever_asks_nothing_gives_way_to_who_asks() {
    let hour = Duration::from_secs(3600);
    let limits = Limits { connections: 4, header_read: hour, lifetime: hour, ..Limits::default() };
    let running = running(limits);
    let client = Client::new(&running.path);
    let connect = |sent: &str| {
        let mut stream = UnixStream::connect(&running.path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(sent.as_bytes()).unwrap();
        stream
    };
    let is_closed = |stream: &mut UnixStream| matches!(stream.read(&mut [0; 1]), Ok(0));
    let head = "POST /v1/changes HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                content-type: application/json\r\ncontent-length: 2\r\n\r\n[";
    let mut begun = connect(head);
    let mut silent: Vec<_> = ["", "GET /v1/hea", "", ""].into_iter().map(connect).collect();
    client.stats().unwrap();
    // Two were too many, and those that came first went first; what has begun to ask goes last.
    assert!(silent[..2].iter_mut().all(is_closed));
    silent[3].write_all(b"GET /v1/health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    silent[3].read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    begun.write_all(b"]").unwrap();
    answer.clear();
    begun.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 422"), "{answer}");
    // Nor can bodies that do not come keep all places.
    let _begun: Vec<_> = (0..8).map(|_| connect(head)).collect();
    client.stats().unwrap();
}

#[test]
fn errors_are_json() {
    let running = running(Limits::default());
    for (line, status, error) in [
        ("GET /", "404 Not Found", "there is no /"),
        ("GET /v2/stats?x=1", "404 Not Found", "there is no /v2/stats"),
        ("DELETE /v1/stats", "405 Method Not Allowed", "/v1/stats does not take DELETE"),
        ("POST /v1/health", "405 Method Not Allowed", "/v1/health does not take POST"),
    ] {
        let answer = request(&running.path, line);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
        assert!(answer.contains("content-type: application/json\r\n"), "{answer}");
        assert_eq!(answer.contains("\r\nallow: GET,HEAD\r\n"), status.starts_with("405"), "{answer}");
        assert_eq!(body(&answer)["error"]["message"], error);
        assert!(body(&answer)["error"]["advice"].is_string(), "{answer}");
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
    let socket = ControlSocket::bind(&path, &Access::default()).unwrap();
    let live = fs::symlink_metadata(&path).unwrap().ino();
    let error = ControlSocket::bind(&path, &Access::default()).unwrap_err();
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
    assert!(matches!(ControlSocket::bind(&path, &Access::default()), Err(BindError::InUse(_))));
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
                ControlSocket::bind(&path, &Access::default())
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
        let error = ControlSocket::bind(&at(name), &Access::default()).unwrap_err();
        assert!(matches!(error, BindError::NotOurs(_)), "{name}: {error}");
        assert!(fs::symlink_metadata(at(name)).is_ok(), "{name} is gone");
    }
    assert_eq!(fs::read_to_string(at("file")).unwrap(), "precious");
    assert!(matches!(
        ControlSocket::bind(&at("none/control.sock"), &Access::default()),
        Err(BindError::NoDirectory(_))
    ));
    assert!(matches!(ControlSocket::bind(&at(&"long".repeat(40)), &Access::default()), Err(BindError::TooLong(_))));

    // A path that someone else has taken over meanwhile stays, too.
    let socket = ControlSocket::bind(&at("control.sock"), &Access::default()).unwrap();
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

    let refusal =
        b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 31\r\n\r\n{\"error\":{\"message\":\"no ink.\"}}";
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

const WEB: &str = "192.168.88.15:80";
const CLIENT: [u8; 4] = [10, 0, 0, 7];

fn question(client: &str, destination: &str) -> FlowQuestion {
    let protocol = if destination.starts_with('[') { Protocol::Udp } else { Protocol::Tcp };
    FlowQuestion { protocol, client: client.parse().unwrap(), destination: destination.parse().unwrap() }
}

/// Has a worker remember a flow, at the real server of this position.
fn remember(running: &mut Running, worker: usize, question: &FlowQuestion, state: FlowState, real_server: usize) {
    let reader = running.tables.reader();
    let table = reader.pin();
    let subject = question.subject();
    let service = &table.services()[table.service_of(&subject).unwrap().position as usize];
    let (hash, key) = (table.flow_hash(&subject), FlowKey::flow(&subject, service.id));
    let entry = Change { state, life_s: 200, real_server: table.real_servers()[real_server].id };
    running.flows[worker].flows.insert(hash, &key, clock::monotonic_s(), entry);
}

/// Publishes a table in which the plan is changed.
fn change(running: &Running, change: impl FnOnce(&mut pointsman::table::TablePlan)) {
    let mut next = plan().numbered(&mut Identities::default());
    next.now_s = clock::monotonic_s();
    change(&mut next);
    let table = ForwardingTable::build(&next, Some(&running.tables.reader().pin()));
    running.tables.publish(table);
}

fn named(flows: &[FlowEntry]) -> Vec<String> {
    let mut names: Vec<String> = flows
        .iter()
        .map(|flow| {
            let FlowEntry { worker, client, client_port, service_port, .. } = flow;
            let server = flow.real_server.map_or("-".to_owned(), |address| address.to_string());
            format!("{worker} {client} {client_port} {service_port} {server}")
        })
        .collect();
    names.sort();
    names
}

#[test]
fn flows_of_all_workers_are_listed_by_whatever_is_asked_for() {
    let mut running = running(Limits::default());
    let v6 = "[2001:db8:1111:2222:3333:4444:5555:6666]:443";
    let flows = [
        (0, "10.0.0.7:1", WEB, FlowState::Unconfirmed, 0),
        (1, "10.0.0.7:1", WEB, FlowState::Established, 1),
        (1, "10.0.0.8:2", WEB, FlowState::Closing, 0),
        // The same bytes as 10.0.0.7, of the other family.
        (0, "[a00:7::]:3", v6, FlowState::Established, 2),
    ];
    for (worker, client, destination, state, server) in flows {
        remember(&mut running, worker, &question(client, destination), state, server);
    }
    let client = Client::new(&running.path);
    let all = [
        "0 10.0.0.7 1 80 192.168.88.100",
        "0 a00:7:: 3 443 2001:db8:1111:2222:3333:4444:5555:7777",
        "1 10.0.0.7 1 80 192.168.88.200",
        "1 10.0.0.8 2 80 192.168.88.100",
    ];
    let any = FlowFilter::default();
    let service = |text: &str| FlowFilter { service: Some(text.parse().unwrap()), ..any.clone() };
    let server = |text: &str| FlowFilter { real_server: Some(text.parse().unwrap()), ..any.clone() };
    let of = |text: &str| FlowFilter { client: Some(text.parse().unwrap()), ..any.clone() };
    let state = |state| FlowFilter { state: Some(state), ..any.clone() };
    let v6_service = "udp [2001:db8:1111:2222:3333:4444:5555:6666]:0";
    for (filter, expected, totals) in [
        (any.clone(), &[0, 1, 2, 3][..], (1, 2, 1)),
        (service("tcp 192.168.88.15:80"), &[0, 2, 3], (1, 1, 1)),
        (service(v6_service), &[1], (0, 1, 0)),
        (server("192.168.88.100"), &[0, 3], (1, 0, 1)),
        (server("2001:db8:1111:2222:3333:4444:5555:8888"), &[], (0, 0, 0)),
        (of("10.0.0.7"), &[0, 2], (1, 1, 0)),
        (of("a00:7::"), &[1], (0, 1, 0)),
        (of("10.0.0.9"), &[], (0, 0, 0)),
        (state(FlowState::Established), &[1, 2], (0, 2, 0)),
        (FlowFilter { state: Some(FlowState::Closing), ..of("10.0.0.7") }, &[], (0, 0, 0)),
    ] {
        let list = client.flows(&filter).unwrap();
        let expected: Vec<&str> = expected.iter().map(|at| all[*at]).collect();
        assert_eq!(named(&list.flows), expected, "{filter:?}");
        let FlowCounts { unconfirmed, established, closing } = list.totals;
        assert_eq!((unconfirmed, established, closing), totals, "{filter:?}");
        assert!(!list.truncated);
    }
    let limited = client.flows(&FlowFilter { limit: 2, ..any.clone() }).unwrap();
    assert_eq!((limited.flows.len(), limited.truncated, limited.totals.established), (2, true, 2));
    assert!(!client.flows(&FlowFilter { limit: 4, ..any.clone() }).unwrap().truncated);
    let document: Value = serde_json::from_str(&client.flows_document(&service(v6_service)).unwrap()).unwrap();
    let flow = &document["flows"][0];
    assert_eq!((&flow["state"], &flow["protocol"]), (&"established".into(), &"udp".into()));
    assert_eq!((flow["service"].as_str(), flow["worker"].as_u64()), (Some(v6_service), Some(0)));
    assert!((190..=200).contains(&flow["expires_in_s"].as_u64().unwrap()), "{flow}");

    // What is not in the table any more has no name, and what is left of its flows is still listed.
    change(&running, |plan| {
        plan.services[0].real_servers.remove(0);
        plan.services.remove(1);
    });
    let list = client.flows(&any).unwrap();
    assert_eq!(list.flows.iter().filter(|flow| flow.real_server.is_none()).count(), 3);
    assert_eq!(list.flows.iter().filter(|flow| flow.service.is_none()).count(), 1);
    let error = client.flows(&server("192.168.88.100")).unwrap_err().to_string();
    assert!(
        error.ends_with(
            "refuses (404): no virtual service has a real server 192.168.88.100; `pointsman stats` lists \
        those that there are"
        ),
        "{error}"
    );
}

#[test]
fn questions_that_cannot_be_understood_are_refused_in_words() {
    let running = running(Limits::default());
    for (query, status, error) in [
        ("flows?state=open", 400, "state cannot be \"open\": use unconfirmed, established or closing"),
        ("flows?limit=100001", 400, "limit cannot be \"100001\": write a number from 0 to 100000"),
        ("flows?client=ten", 400, "client cannot be \"ten\": write an IPv4 or IPv6 address"),
        (
            "flows?service=tcp%201.2.3.4",
            400,
            "service cannot be \"tcp 1.2.3.4\": write it as tcp 192.0.2.1:80 or udp [2001:db8::1]:53",
        ),
        (
            "flows?service=tcp+1.2.3.4:5",
            404,
            "there is no virtual service tcp 1.2.3.4:5; `pointsman stats` lists those that there are",
        ),
        ("flows?colour=blue", 400, "colour"),
        ("explain?protocol=tcp", 400, "missing parameter `client`"),
        (
            "explain?protocol=icmp&client=1.2.3.4:5&destination=1.2.3.4:5",
            400,
            "protocol cannot be \"icmp\": use tcp or udp",
        ),
        ("explain?protocol=tcp&client=[::1]:5&destination=1.2.3.4:5", 400, "must both be IPv4 or both IPv6"),
    ] {
        let answer = request(&running.path, &format!("GET /v1/{query}"));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        let detail: ErrorBody = serde_json::from_value(body(&answer)).unwrap();
        let said = detail.error.sentence();
        assert!(said.contains(error), "{query}: {said}");
    }
}

#[test]
fn others_are_served_while_a_large_table_is_read() {
    // 4 Mi slots and 128 MiB, which one go without a rest would take tens of milliseconds for.
    let mut running = running_with(Limits::default(), 1 << 20);
    let reader = running.tables.reader();
    for number in 0u32..200_000 {
        let [_, b, c, d] = number.to_be_bytes();
        let at = FlowQuestion { client: ([10, b, c, d], 1).into(), ..question("10.0.0.1:1", WEB) };
        let table = reader.pin();
        let key = FlowKey::flow(&at.subject(), table.services()[0].id);
        let entry = Change { state: FlowState::Established, life_s: 800, real_server: table.real_servers()[1].id };
        let worker = number as usize % 2;
        running.flows[worker].flows.insert(table.flow_hash(&at.subject()), &key, clock::monotonic_s(), entry);
    }
    let (mut answers, mut longest) = (0, Duration::ZERO);
    thread::scope(|scope| {
        let lists = scope.spawn(|| {
            let client = Client::new(&running.path).with_patience(Duration::from_secs(60));
            let begin = Instant::now();
            let counted = client.flows(&FlowFilter { limit: 0, ..FlowFilter::default() }).unwrap();
            println!("counted 200,000 flows in 4 Mi slots in {:?}", begin.elapsed());
            assert_eq!((counted.totals.established, counted.flows.len(), counted.truncated), (200_000, 0, true));
            let begin = Instant::now();
            let listed = client.flows(&FlowFilter { limit: 100_000, ..FlowFilter::default() }).unwrap();
            println!("listed 100,000 flows in {:?}", begin.elapsed());
            assert_eq!((listed.flows.len(), listed.totals.established), (100_000, 200_000));
        });
        while !lists.is_finished() {
            let begin = Instant::now();
            Client::new(&running.path).health().unwrap();
            longest = longest.max(begin.elapsed());
            answers += 1;
        }
        lists.join().unwrap();
    });
    println!("{answers} other questions meanwhile, the longest took {longest:?}");
    assert!(answers > 4, "only {answers} other questions were answered meanwhile");
    // One that does not read its list holds up nobody.
    let mut deaf = UnixStream::connect(&running.path).unwrap();
    deaf.write_all(b"GET /v1/flows?limit=100000 HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    Client::new(&running.path).health().unwrap();
    drop(deaf);
    Client::new(&running.path).health().unwrap();
}

#[test]
fn a_flow_is_explained_by_its_entry_then_the_table_before_then_the_hash() {
    let mut running = running(Limits::default());
    let client = Client::new(&running.path);
    let at = FlowQuestion { client: (CLIENT, 4711).into(), ..question("10.0.0.1:1", WEB) };
    let servers: [std::net::IpAddr; 2] = ["192.168.88.100".parse().unwrap(), "192.168.88.200".parse().unwrap()];
    let verdict = |explained: &pointsman::control::explain::LiveExplanation| {
        (explained.verdict.clone(), explained.reason.clone(), explained.real_server)
    };

    let unknown = client.explain(&at).unwrap();
    let by_hash = unknown.real_server.unwrap();
    assert_eq!(verdict(&unknown), ("tx".to_owned(), "hash".to_owned(), Some(by_hash)));
    let hash = unknown.hash.as_ref().unwrap();
    assert_eq!((hash.real_server, hash.slots, hash.skipped, hash.hash.len()), (by_hash, 251, 0, 16));
    assert_eq!((unknown.entries.len(), unknown.previous), (0, None));
    assert!(unknown.why.contains(&"no worker has an entry of the flow".to_owned()), "{:?}", unknown.why);
    let counted = unknown.virtual_service.unwrap();
    assert_eq!((counted.service.as_str(), counted.real_servers.len()), ("tcp 192.168.88.15:80", 2));

    // Two workers have it; the established one counts, and says what the hash does not.
    let other = usize::from(servers[0] == by_hash);
    remember(&mut running, 0, &at, FlowState::Unconfirmed, 1 - other);
    remember(&mut running, 1, &at, FlowState::Established, other);
    let known = client.explain(&at).unwrap();
    assert_eq!(verdict(&known), ("tx".to_owned(), "entry".to_owned(), Some(servers[other])));
    let [first, second] = known.entries[..] else { panic!("{:?}", known.entries) };
    assert_eq!((first.worker, first.state, first.real_server), (1, FlowState::Established, Some(servers[other])));
    assert!((700..=710).contains(&first.idle_s.unwrap()), "{first:?}");
    assert_eq!((second.worker, second.idle_s), (0, None));
    assert_eq!(known.hash.unwrap().real_server, by_hash);

    // Its real server goes down: the hash, and the entry stays.
    change(&running, |plan| plan.services[0].real_servers[other].next_hop = None);
    let down = client.explain(&at).unwrap();
    assert_eq!(verdict(&down), ("tx".to_owned(), "hash".to_owned(), Some(by_hash)));
    assert_eq!(down.entries[0].real_server, Some(servers[other]));
    assert!(down.why.iter().any(|sentence| sentence.contains("is down: meanwhile")), "{:?}", down.why);
    assert!(!down.virtual_service.unwrap().real_servers[other].alive);

    // All are down.
    change(&running, |plan| plan.services[0].real_servers.iter_mut().for_each(|server| server.next_hop = None));
    let none = client.explain(&at).unwrap();
    assert_eq!(verdict(&none), ("drop".to_owned(), "no_real_server".to_owned(), None));

    // It drains; a flow without an entry goes where it went before, while that is asked for.
    let drained = FlowQuestion { client: (CLIENT, 4711).into(), ..at };
    running.flows.iter_mut().for_each(|flows| flows.flows.sweep(1 << 20, clock::monotonic_s() + 300, |_| {}));
    change(&running, |_| {});
    change(&running, |plan| {
        plan.services[0].previous_table_s = 60;
        plan.services[0].real_servers[1 - other].weight = 0;
    });
    let before = client.explain(&drained).unwrap();
    assert_eq!(verdict(&before), ("tx".to_owned(), "previous_table".to_owned(), Some(by_hash)));
    assert_eq!((before.previous, before.hash.unwrap().real_server), (Some(by_hash), servers[other]));

    // Nobody's.
    let nobody = client.explain(&question("10.0.0.1:1", "192.168.88.15:81")).unwrap();
    assert_eq!(verdict(&nobody), ("pass".to_owned(), "not_a_service".to_owned(), None));
    assert_eq!(nobody.service, None);
}

fn pointsman(arguments: &[&str]) -> (i32, String, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_pointsman")).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_commands_ask_the_director() {
    let mut running = running(Limits::default());
    let at = FlowQuestion { client: (CLIENT, 4711).into(), ..question("10.0.0.1:1", WEB) };
    remember(&mut running, 1, &at, FlowState::Established, 1);
    let socket = running.path.to_str().unwrap();

    let (code, out, _) = pointsman(&["flows", "--socket", socket]);
    let line = out.lines().nth(1).unwrap();
    assert_eq!(code, 0);
    assert!(line.starts_with("10.0.0.7:4711  tcp 192.168.88.15:80  192.168.88.200  established"), "{out}");
    assert!(out.ends_with("flows: 1 (0 unconfirmed, 1 established, 0 closing)\n"), "{out}");
    let (_, out, _) = pointsman(&["flows", "--json", "--service", "tcp 192.168.88.15:80", "--socket", socket]);
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["flows"][0]["client_port"], 4711);
    let (_, out, _) = pointsman(&["flows", "--state", "closing", "--socket", socket]);
    assert_eq!(out, "flows: 0 (0 unconfirmed, 0 established, 0 closing)\n");
    assert_eq!(pointsman(&["flows", "--state", "open", "--socket", socket]).0, 2);
    assert_eq!(pointsman(&["flows", "--limit", "100001", "--socket", socket]).0, 2);
    assert_eq!(pointsman(&["flows", "--real-server", "1.2.3.4", "--socket", socket]).0, 1);

    let live = ["explain", "--live", "--socket", socket, "tcp", "10.0.0.7:4711", WEB];
    let (code, out, _) = pointsman(&live);
    assert_eq!(code, 0);
    assert!(out.contains("\ngoes to real server 192.168.88.200 (entry)\nbecause\n"), "{out}");
    assert!(out.contains("\n  192.168.88.200 (weight 2, next hop 02:00:00:00:01:02): sent 0, dropped 0\n"), "{out}");
    let (_, out, _) = pointsman(&[&live[..], &["--json"]].concat());
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(document["live"]["entries"][0]["worker"], 1);
    assert_eq!(document.as_object().unwrap().len(), 1, "nothing of a configuration: {out}");

    // With a configuration, what that says stays as it is without the director.
    let config = running.path.with_file_name("pointsman.toml");
    fs::write(
        &config,
        "[[virtual_service]]\nvip = \"192.168.88.15\"\nport = 80\nprotocol = \"tcp\"\n\
         [[virtual_service.real_server]]\naddress = \"192.168.88.9\"\n",
    )
    .unwrap();
    let offline = ["explain", "--config", config.to_str().unwrap(), "--json", "tcp", "10.0.0.7:4711", WEB];
    let (code, alone, error) = pointsman(&offline);
    assert_eq!(code, 0, "{error}");
    let (_, both, _) = pointsman(&[&offline[..], &["--live", "--socket", socket]].concat());
    let alone: Value = serde_json::from_str(&alone).unwrap();
    let mut both: Value = serde_json::from_str(&both).unwrap();
    assert_eq!(both.as_object_mut().unwrap().remove("live").unwrap()["real_server"], "192.168.88.200");
    assert_eq!(both, alone);
    assert_eq!(pointsman(&["explain", "tcp", "10.0.0.7:4711", WEB]).0, 2, "neither --config nor --live");
    assert_eq!(pointsman(&["explain", "--live", "--socket", "/nonexistent", "tcp", "10.0.0.7:4711", WEB]).0, 1);
}
