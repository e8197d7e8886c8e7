//! What `pointsman flows` and `pointsman explain --live` say of a director at work is so, and asking costs it nothing.
//!
//! The network is that of `scripts/lab`. These tests need root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod lab;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use lab::director::{Config, Director, Service, pointsman};
use lab::frame::{Envelope, checksum};
use lab::http::{Connection, Load, WebServer};
use lab::raw_socket::RawSocket;
use lab::{AtEnd, Host, Lab, Shape, vip4, wait_for};
use pointsman::control::client::Client;
use pointsman::control::explain::LiveExplanation;
use pointsman::control::flows::{FlowFilter, FlowList};
use pointsman::flow::FlowState;
use serde_json::Value;

fn web() -> SocketAddr {
    (vip4(), 80).into()
}

/// A port for what fills the tables.
const DISCARD: u16 = 9;

const SERVICE: &str = "tcp 192.168.88.15:80";

fn reload(director: &Director, config: &Config) {
    let before = director.reloads();
    director.reload(config);
    wait_for("the reload to be applied", 20, || (director.reloads() > before).then_some(()));
}

/// What a subcommand prints as JSON.
fn ask(lab: &Lab, director: &Director, arguments: &[&str]) -> Value {
    let mut command = lab.command(Host::Director, pointsman());
    command.args(arguments).arg("--json").arg("--socket").arg(director.control_socket());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn flows(lab: &Lab, director: &Director, filters: &[&str]) -> FlowList {
    let all = [&["flows", "--limit", "100000"][..], filters].concat();
    serde_json::from_value(ask(lab, director, &all)).unwrap()
}

fn explain(lab: &Lab, director: &Director, client: SocketAddr) -> LiveExplanation {
    let arguments = ["explain", "--live", "tcp", &client.to_string(), &web().to_string()];
    serde_json::from_value(ask(lab, director, &arguments)["live"].take()).unwrap()
}

/// A flow whose real server is known, for that server answers by its name, among a load of others.
#[test]
fn a_known_flow_is_told_as_it_is_while_others_come_and_go() {
    const BESIDES: Load =
        Load { connections: 1, requests_per_connection: 3, at_once: 3, pause: Duration::from_millis(5) };
    let config = |weights, previous_table_s: u32| {
        let mut config = Config::usual().weights(weights).director("flows_per_worker = 65536");
        config.services[0].settings.push(format!("previous_table_s = {previous_table_s}"));
        config
    };
    let Some(lab) = Lab::up(Shape { queues: 2, ..Shape::default() }) else { return };
    let _servers = WebServer::pair(&lab, 80);
    let director = Director::start(&lab, &config([1, 0], 0));
    let (mut connection, client) = lab.on(Host::Client, || {
        let connection = Connection::open(web()).unwrap();
        let client = connection.local_address();
        (connection, client)
    });
    assert_eq!(connection.get().unwrap().0, "web1");

    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        let besides = scope.spawn(|| BESIDES.run(&lab, Host::Remote, web(), Some(&enough)));
        let end = AtEnd(&enough);
        let live = explain(&lab, &director, client);
        assert_eq!((live.verdict.as_str(), live.reason.as_str()), ("tx", "entry"), "{live:#?}");
        assert_eq!((live.real_server, live.service.as_deref()), (Some(Host::Web1.ipv4()), Some(SERVICE)));
        assert_eq!((live.client, live.destination), (client, web()));
        let [entry] = live.entries[..] else { panic!("{live:#?}") };
        assert_eq!((entry.state, entry.real_server), (FlowState::Established, Some(Host::Web1.ipv4())));
        let young = (entry.idle_s.unwrap(), entry.expires_in_s);
        assert!(young.0 + young.1 == 900, "{entry:?}");
        assert_eq!(live.previous, None);

        // It ages while it is silent, and by a packet is young again.
        let aged = wait_for("the entry to age", 20, || {
            let [entry] = explain(&lab, &director, client).entries[..] else { panic!("one entry") };
            (entry.idle_s.unwrap() >= 3).then_some(entry)
        });
        assert!(aged.expires_in_s <= 897, "{aged:?}");
        connection.get().unwrap();
        let [entry] = explain(&lab, &director, client).entries[..] else { panic!("one entry") };
        assert!(entry.idle_s < aged.idle_s, "{entry:?} after {aged:?}");

        // All new flows go elsewhere; this one stays, and what is said says so, and why.
        reload(&director, &config([0, 1], 60));
        let live = explain(&lab, &director, client);
        assert_eq!((live.reason.as_str(), live.real_server), ("entry", Some(Host::Web1.ipv4())));
        assert_eq!(live.hash.as_ref().unwrap().real_server, Host::Web2.ipv4());
        assert_eq!(connection.get().unwrap().0, "web1");
        // One that nobody knows: the table before the change, which is asked from the second change on.
        reload(&director, &config([1, 0], 60));
        let unknown = explain(&lab, &director, SocketAddr::new(Host::Client.ipv4(), 1));
        assert_eq!((unknown.reason.as_str(), unknown.real_server), ("previous_table", Some(Host::Web2.ipv4())));
        assert_eq!((unknown.entries.len(), unknown.previous), (0, Some(Host::Web2.ipv4())));
        reload(&director, &config([0, 1], 60));

        drop(end);
        let besides = besides.join().unwrap();
        assert_eq!((besides.failed, besides.wandered), (0, 0), "{besides:#?}");
    });

    counted(&lab, &director, client);
    listed(&lab, &director, client);

    // It ends.
    drop(connection);
    wait_for("the flow to close", 5, || {
        (explain(&lab, &director, client).entries[0].state == FlowState::Closing).then_some(())
    });
    let client = client.ip().to_string();
    let closing = flows(&lab, &director, &["--client", &client, "--state", "closing"]);
    assert_eq!((closing.flows.len(), closing.totals.established), (1, 0), "{closing:#?}");
}

/// The service's counters are those of the statistics.
fn counted(lab: &Lab, director: &Director, client: SocketAddr) {
    let stats = director.quiet_stats();
    let told = explain(lab, director, client).virtual_service.unwrap();
    let counted = stats.0["virtual_services"].as_array().unwrap().iter().find(|s| s["service"] == SERVICE).unwrap();
    // Rates are of the second in which each is asked.
    let (mut told_counts, mut counted) = (serde_json::to_value(&told).unwrap(), counted.clone());
    for document in [&mut told_counts, &mut counted] {
        let servers = document["real_servers"].as_array_mut().unwrap();
        servers.iter_mut().for_each(|server| drop(server.as_object_mut().unwrap().remove("rates")));
        drop(document.as_object_mut().unwrap().remove("rates"));
    }
    assert_eq!(told_counts, counted);
    assert!(told.tx.packets > 20, "{told:#?}");
    let sum: u64 = told.real_servers.iter().map(|server| server.tx.packets).sum();
    assert_eq!(sum, told.tx.packets);
}

/// The list of flows has the known one, under each filter that it fits and under no other.
fn listed(lab: &Lab, director: &Director, client: SocketAddr) {
    let is_it = |list: &FlowList| {
        list.flows.iter().filter(|flow| (flow.client, flow.client_port) == (client.ip(), client.port())).count()
    };
    let [own, web1, web2] = [client.ip(), Host::Web1.ipv4(), Host::Web2.ipv4()].map(|address| address.to_string());
    let fits: [&[&str]; 5] = [
        &[],
        &["--client", &own],
        &["--real-server", &web1],
        &["--service", SERVICE, "--state", "established"],
        &["--service", SERVICE, "--state", "established", "--client", &own, "--real-server", &web1],
    ];
    for filters in fits {
        let list = flows(lab, director, filters);
        assert_eq!(is_it(&list), 1, "{filters:?}: {list:#?}");
        assert!(!list.truncated);
    }
    let alone = flows(lab, director, &["--client", &own]);
    let [flow] = &alone.flows[..] else { panic!("{alone:#?}") };
    assert_eq!((flow.service.as_deref(), flow.service_port), (Some(SERVICE), 80));
    assert_eq!((flow.real_server, flow.state), (Some(Host::Web1.ipv4()), FlowState::Established));
    for filters in [
        &["--client", "10.0.0.9"][..],
        &["--real-server", &web2],
        &["--state", "closing"],
        &["--service", "udp 192.168.88.15:80"],
    ] {
        let list = flows(lab, director, filters);
        assert_eq!(is_it(&list), 0, "{filters:?}: {list:#?}");
        for flow in &list.flows {
            let fits = match filters[0] {
                "--client" => flow.client.to_string() == filters[1],
                "--real-server" => flow.real_server == Some(Host::Web2.ipv4()),
                "--state" => flow.state == FlowState::Closing,
                _ => flow.service.as_deref() == Some(filters[1]),
            };
            assert!(fits, "{filters:?}: {flow:?}");
        }
    }
}

/// More than a million established flows, put there by two packets of each through the director.
#[test]
fn a_large_table_is_listed_while_requests_are_answered_and_frames_forwarded() {
    const ENTRIES: u64 = 1 << 20;
    let Some(lab) = Lab::up(Shape { queues: 2, ..Shape::default() }) else { return };
    let _servers = WebServer::pair(&lab, 80);
    let mut config = Config::usual().director("flows_per_worker = 1048576");
    // Nobody listens there, so nobody answers.
    config.services.push(Service { port: DISCARD, ..config.services[1].clone() });
    let director = Director::start(&lab, &config);
    fill(&lab, &director, ENTRIES);
    let client = Client::new(director.control_socket()).with_patience(Duration::from_secs(60));

    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        const LOAD: Load = Load { connections: 1, requests_per_connection: 5, at_once: 2, pause: Duration::ZERO };
        let load = scope.spawn(|| LOAD.run(&lab, Host::Client, web(), Some(&enough)));
        let end = AtEnd(&enough);
        let counted = client.flows(&FlowFilter { limit: 0, ..FlowFilter::default() }).unwrap();
        assert!(counted.totals.established >= ENTRIES && counted.flows.is_empty(), "{:?}", counted.totals);

        // The answer has begun, and cannot have ended: it is larger than the socket holds.
        let mut list = UnixStream::connect(director.control_socket()).unwrap();
        list.write_all(b"GET /v1/flows?limit=100000 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut begin = [0; 4096];
        list.read_exact(&mut begin).unwrap();
        assert!(begin.starts_with(b"HTTP/1.1 200 "));
        // Others are answered meanwhile, another list among them, and frames are forwarded.
        let others = Client::new(director.control_socket());
        others.health().unwrap();
        let before = others.stats().unwrap().totals.tx.packets;
        let listed = client.flows(&FlowFilter { limit: 100_000, ..FlowFilter::default() }).unwrap();
        assert!(listed.totals.established >= ENTRIES && listed.truncated, "{:?}", listed.totals);
        assert_eq!(listed.flows.len(), 100_000);
        assert!(others.stats().unwrap().totals.tx.packets > before, "nothing was forwarded");
        let mut rest = String::new();
        list.read_to_string(&mut rest).unwrap();
        assert!(rest.len() > 1 << 20 && rest.contains(r#""truncated":true"#), "{} bytes", rest.len());

        drop(end);
        let load = load.join().unwrap();
        assert_eq!((load.failed, load.wandered), (0, 0), "{load:#?}");
    });
    let stats = director.quiet_stats();
    stats.assert_identity();
    assert_eq!(stats.quarantined(), 0);
}

/// Two datagrams of each of so many flows that the tables have `entries` of them at least.
fn fill(lab: &Lab, director: &Director, entries: u64) {
    let client = RawSocket::open(lab, Host::Client, "eth0");
    let envelope = Envelope { destination: Host::Director.mac(), source: Host::Client.mac(), tags: &[] };
    let from = SocketAddr::new(Ipv4Addr::new(10, 128, 0, 0).into(), 4_711);
    let mut frame = envelope.udp(from, (vip4(), DISCARD).into(), b"two");
    // No checksum (RFC 768).
    frame[40..42].fill(0);
    let deadline = Instant::now() + Duration::from_secs(180);
    let mut number = 0_u32;
    loop {
        for _ in 0..200_000 {
            frame[27..30].copy_from_slice(&(number | 1 << 23).to_be_bytes()[1..]);
            frame[34..36].copy_from_slice(&(1 + (number >> 23)).to_be_bytes()[2..]);
            frame[24..26].fill(0);
            let sum = checksum(&[&frame[14..34]]);
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
            client.send(&frame);
            client.send(&frame);
            number += 1;
        }
        let list = Client::new(director.control_socket())
            .with_patience(Duration::from_secs(60))
            .flows(&FlowFilter { limit: 0, state: Some(FlowState::Established), ..FlowFilter::default() })
            .unwrap();
        if list.totals.established >= entries {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "after {number} flows: {:?}\n{:#}",
            list.totals,
            director.stats().0["interfaces"]
        );
    }
}
