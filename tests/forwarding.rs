//! The director's binary in real networks: namespaces, the kernel's TCP, AF_XDP, SIGHUP, SIGKILL, pulled cables.
//!
//! The network is that of `scripts/lab`. These tests need root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod lab;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use lab::director::{Config, Director, Interface, RealServer, Service, pointsman, run_in_vain};
use lab::frame::{self, Envelope, Mac, Tag};
use lab::http::{Load, Outcome, WebServer, ask_by_udp, fetch};
use lab::link::{ForeignProgram, xdp_program};
use lab::raw_socket::RawSocket;
use lab::{AtEnd, Host, Lab, Shape, vip4, vip6, wait_for};

const QUICK: Duration = Duration::from_millis(300);
const PATIENT: Duration = Duration::from_secs(2);

fn web4() -> SocketAddr {
    (vip4(), 80).into()
}

fn web6() -> SocketAddr {
    (vip6(), 80).into()
}

/// 2,000 connections of 5 requests each.
const TEN_THOUSAND: Load = Load { connections: 2_000, requests_per_connection: 5, at_once: 8, pause: Duration::ZERO };

const A_FEW: Load = Load { connections: 40, requests_per_connection: 2, at_once: 4, pause: Duration::ZERO };

fn assert_all_answered(outcome: &Outcome) {
    assert_eq!(outcome.failed, 0, "{outcome:#?}");
    assert_eq!(outcome.wandered, 0, "a connection must stay with its real server: {outcome:#?}");
}

#[test]
fn ten_thousand_requests_in_the_shares_of_the_weights() {
    let Some(lab) = Lab::up(Shape { queues: 2, ..Shape::default() }) else { return };
    let _servers = WebServer::pair(&lab, 80);
    let director = Director::start(&lab, &Config::usual());

    let outcome = TEN_THOUSAND.run(&lab, Host::Client, web4(), None);

    assert_all_answered(&outcome);
    assert_eq!(outcome.answered(), 10_000);
    assert!(outcome.connections >= 1_000);
    assert!((outcome.share_percent(Host::Web1) - 100.0 / 3.0).abs() < 5.0, "{outcome:#?}");
    assert!((outcome.share_percent(Host::Web2) - 200.0 / 3.0).abs() < 5.0, "{outcome:#?}");
    let stats = director.quiet_stats();
    stats.assert_identity();
    assert_eq!(stats.queues(), 2);
    let sent_to_both = stats.tx_to(Host::Web1.ipv4()) + stats.tx_to(Host::Web2.ipv4());
    assert_eq!(sent_to_both, stats.tx(), "each frame sent is some real server's\n{:#}", stats.0);
    assert!(stats.tx() >= 20_000, "a request and its acknowledgements are two frames at least\n{:#}", stats.0);
    assert_eq!(stats.unstamped(), 0, "veth has room for the stamp");
    assert_eq!(stats.latency_count(), stats.tx(), "each frame sent was measured\n{:#}", stats.0);
    assert_eq!(stats.dropped(), 0, "{:#}", stats.0);
}

#[test]
fn a_hundred_reloads_under_load_fail_no_request() {
    let Some(lab) = Lab::up(Shape { queues: 2, ..Shape::default() }) else { return };
    let _servers = WebServer::pair(&lab, 80);
    let usual = Config::usual();
    let mut with_second_service = usual.clone();
    with_second_service.services.push(Service { port: 8080, ..usual.services[0].clone() });
    let director = Director::start(&lab, &usual);

    let enough = AtomicBool::new(false);
    let outcome = thread::scope(|scope| {
        let load = scope.spawn(|| TEN_THOUSAND.run(&lab, Host::Client, web4(), Some(&enough)));
        for reload in 1..=100 {
            // Every other time there is a second service on the same address and the same real servers.
            director.reload(if reload % 2 == 1 { &with_second_service } else { &usual });
            wait_for("the reload to be applied", 10, || (director.reloads() >= reload).then_some(()));
        }
        enough.store(true, Ordering::Relaxed);
        load.join().unwrap()
    });

    assert_all_answered(&outcome);
    assert!(outcome.answered() >= 10_000, "{outcome:#?}");
    assert!((outcome.share_percent(Host::Web1) - 100.0 / 3.0).abs() < 5.0, "{outcome:#?}");
    let stats = director.quiet_stats();
    stats.assert_identity();
    assert_eq!(stats.dropped(), 0, "{:#}", stats.0);
}

#[test]
fn a_reload_moves_new_connections_and_a_broken_file_changes_nothing() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let _servers = WebServer::pair(&lab, 80);
    let director = Director::start(&lab, &Config::usual().weights([1, 0]));
    assert_eq!(fetch(&lab, Host::Client, web4()).unwrap().0, "web1");

    director.reload(&Config::usual().weights([0, 1]));
    // Until then new connections may go by the old shares.
    wait_for("the reload to be applied", 5, || (director.reloads() == 1).then_some(()));
    let moved = A_FEW.run(&lab, Host::Client, web4(), None);
    assert_all_answered(&moved);
    assert_eq!(moved.share_percent(Host::Web2), 100.0, "{moved:#?}");

    director.reload_text("[director]\nsecret = \"x\"\nno_such_key = 1\n");
    wait_for("the broken file to be named in the log", 5, || director.log().contains("no_such_key").then_some(()));
    assert_eq!(director.stats().weights(), [0, 1]);
    assert_eq!(fetch(&lab, Host::Client, web4()).unwrap().0, "web2");
}

#[test]
fn a_reload_that_the_program_has_no_room_for_changes_nothing() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let _servers = WebServer::pair(&lab, 80);
    let director = Director::start(&lab, &Config::usual().weights([1, 0]));
    let mut greedy = Config::usual().weights([0, 1]);
    let macs: Vec<String> = (0..9).map(|last| format!("\"02:00:5e:00:01:{last:02x}\"")).collect();
    greedy.interfaces[0].settings.push(format!("virtual_macs = [{}]", macs.join(", ")));
    director.reload(&greedy);
    wait_for("the reload to be refused", 5, || director.log().contains("not reloaded").then_some(()));
    assert_eq!(director.stats().weights(), [1, 0]);
    assert_eq!(fetch(&lab, Host::Client, web4()).unwrap().0, "web1");
}

#[test]
fn a_real_server_that_a_reload_adds_and_nobody_answers_for_is_named_once() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let _servers = WebServer::pair(&lab, 80);
    let director = Director::start(&lab, &Config::usual());
    let mut with_a_dead_one = Config::usual();
    let dead = RealServer { address: "192.168.88.77".parse().unwrap(), weight: 1, mac: None };
    with_a_dead_one.services[0].real_servers.push(dead);
    director.reload(&with_a_dead_one);
    let named = || director.log().lines().filter(|line| line.contains("192.168.88.77")).count();
    wait_for("the log to name it", 10, || (named() > 0).then_some(()));
    assert_all_answered(&A_FEW.run(&lab, Host::Client, web4(), None));
    assert_eq!(named(), 1, "{}", director.log());
}

#[test]
fn killed_and_started_again() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let _servers = WebServer::pair(&lab, 80);
    for _ in 0..3 {
        let director = Director::start(&lab, &Config::usual());
        assert_all_answered(&A_FEW.run(&lab, Host::Client, web4(), None));
        assert!(xdp_program(&lab, Host::Director, "eth0").is_some());
        let socket = director.control_socket().to_owned();
        director.end(Signal::SIGKILL);
        wait_for("the kernel to take the program off", 5, || {
            xdp_program(&lab, Host::Director, "eth0").is_none().then_some(())
        });
        assert!(socket.exists(), "kill -9 leaves the control socket behind, and the next start copes with it");
    }
    // A last time, with a clean end.
    let director = Director::start(&lab, &Config::usual());
    assert_all_answered(&A_FEW.run(&lab, Host::Client, web4(), None));
    director.end(Signal::SIGTERM);
}

#[test]
fn ends_by_signal_and_leaves_nothing() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let _servers = WebServer::pair(&lab, 80);
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let director = Director::start(&lab, &Config::usual());
        assert_all_answered(&A_FEW.run(&lab, Host::Client, web4(), None));
        let socket = director.control_socket().to_owned();
        assert!(socket.exists());
        let status = director.end(signal);
        assert_eq!(status.code(), Some(0), "{signal}");
        assert_eq!(xdp_program(&lab, Host::Director, "eth0"), None, "{signal}");
        assert!(!socket.exists(), "{signal}");
    }
}

#[test]
fn tcp_and_udp_over_ipv4_and_ipv6_from_the_lan_and_from_behind_a_router() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let _servers = WebServer::pair(&lab, 80);
    let director = Director::start(&lab, &Config::usual());
    for (client, addresses) in [
        (Host::Client, [Host::Client.ipv4(), Host::Client.ipv6()]),
        (Host::Remote, [Host::Remote.ipv4(), Host::Remote.ipv6()]),
    ] {
        for (server, own_address) in [web4(), web6()].into_iter().zip(addresses) {
            let before = director.quiet_stats().tx();
            let outcome = A_FEW.run(&lab, client, server, None);
            assert_all_answered(&outcome);
            assert_eq!(outcome.answers.len(), 2, "both real servers answer {client:?}: {outcome:#?}");
            let (_, seen_as) = fetch(&lab, client, server).unwrap();
            assert_eq!(seen_as, own_address.to_string(), "the real server sees the client's own address");
            let answers = ask_by_udp(&lab, client, server, 40);
            assert_eq!(answers.len(), 2, "both real servers answer {client:?} by UDP: {answers:?}");
            assert!(director.quiet_stats().tx() > before, "it went through the director");
        }
    }
    director.quiet_stats().assert_identity();
}

#[test]
fn replies_come_straight_from_the_real_servers() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let _servers = WebServer::pair(&lab, 80);
    let _director = Director::start(&lab, &Config::usual());
    let capture = RawSocket::open(&lab, Host::Client, "eth0");
    for _ in 0..10 {
        let (name, _) = fetch(&lab, Host::Client, web4()).unwrap();
        let expected = if name == "web1" { Host::Web1.mac() } else { Host::Web2.mac() };
        let replies = capture.drain(QUICK, is_tcp_from_port_80);
        assert!(!replies.is_empty());
        for reply in replies {
            assert_eq!(frame::source(&reply), expected, "a reply of {name}");
        }
    }
}

fn is_tcp_from_port_80(frame: &[u8]) -> bool {
    frame.len() >= 54 && frame[12..14] == [8, 0] && frame[23] == 6 && frame[34..36] == [0, 80]
}

/// Untagged, 802.1Q, QinQ by 802.1ad and QinQ of two 802.1Q tags.
const TAGGINGS: [&[Tag]; 4] = [
    &[],
    &[Tag { tpid: 0x8100, vlan: 42 }],
    &[Tag { tpid: 0x88a8, vlan: 7 }, Tag { tpid: 0x8100, vlan: 42 }],
    &[Tag { tpid: 0x8100, vlan: 7 }, Tag { tpid: 0x8100, vlan: 42 }],
];

#[test]
fn tagged_frames_leave_with_new_macs_and_nothing_else_changed() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let director = Director::start(&lab, &Config::usual());
    let client = RawSocket::open(&lab, Host::Client, "eth0");
    let webs = [Host::Web1, Host::Web2].map(|host| (host, RawSocket::open(&lab, host, "eth0")));

    for tags in TAGGINGS {
        let envelope = Envelope { destination: Host::Director.mac(), source: Host::Client.mac(), tags };
        for (address, vip) in [(Host::Client.ipv4(), web4()), (Host::Client.ipv6(), web6())] {
            for port in 40_000..40_016 {
                let from = SocketAddr::new(address, port);
                for sent in [envelope.udp(from, vip, b"hello"), envelope.tcp_syn(from, vip, 1)] {
                    assert_reaches_one_web_server(&client, &webs, &sent);
                }
            }
        }
    }
    let stats = director.quiet_stats();
    stats.assert_identity();
    assert!(stats.tx() >= 4 * 2 * 16 * 2, "{:#}", stats.0);
}

/// Sends a frame through the director: one web server gets it, with other MAC addresses and no other byte changed.
fn assert_reaches_one_web_server(client: &RawSocket, webs: &[(Host, RawSocket)], sent: &[u8]) {
    client.send(sent);
    let same_behind_the_macs = |frame: &[u8]| frame[12..] == sent[12..];
    // Which one it will be is the hash's business: short looks at either in turn.
    let mut received = Vec::new();
    for _ in 0..200 {
        for (host, socket) in webs {
            received.extend(socket.receive(Duration::from_millis(5), same_behind_the_macs).map(|frame| (*host, frame)));
        }
        if !received.is_empty() {
            break;
        }
    }
    let [(host, frame)] = &received[..] else {
        panic!("{} copies instead of one of a frame with the tags {:?}", received.len(), frame::tags(sent));
    };
    assert_eq!(frame::destination(frame), host.mac());
    assert_eq!(frame::source(frame), Host::Director.mac());
    assert_eq!(frame::tags(frame), frame::tags(sent), "the tags were in the bytes that the director saw");
}

#[test]
fn a_standby_behind_a_flooding_switch_forwards_nothing() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let director = Director::start(&lab, &Config::usual());
    let client = RawSocket::open(&lab, Host::Client, "eth0");
    let webs = [Host::Web1, Host::Web2].map(|host| RawSocket::open(&lab, host, "eth0"));
    // The active director's MAC, which this switch has not learnt: it floods.
    let active = Mac([2, 0, 0, 0, 0, 0x99]);
    let envelope = Envelope { destination: active, source: Host::Client.mac(), tags: &[] };
    let before = director.quiet_stats();

    for port in 50_000..50_100 {
        client.send(&envelope.udp(SocketAddr::new(Host::Client.ipv4(), port), web4(), b"for the active one"));
        client.send(&envelope.tcp_syn(SocketAddr::new(Host::Client.ipv6(), port), web6(), 1));
    }

    for web in &webs {
        let flooded = web.drain(QUICK, |frame| frame::destination(frame) == active);
        assert_eq!(flooded.len(), 200, "the switch floods");
        let forwarded = web.drain(QUICK, |frame| frame::source(frame) == Host::Director.mac() && is_for_vip(frame));
        assert_eq!(forwarded, Vec::<Vec<u8>>::new());
    }
    let after = director.quiet_stats();
    assert_eq!(after.redirected(), before.redirected());
    assert_eq!(after.tx(), before.tx());
    assert!(after.not_our_mac() >= before.not_our_mac() + 200, "{:#}", after.0);
}

fn is_for_vip(frame: &[u8]) -> bool {
    match (vip4(), vip6(), &frame[12..14]) {
        (IpAddr::V4(vip), _, [8, 0]) => frame.get(30..34) == Some(&vip.octets()),
        (_, IpAddr::V6(vip), [0x86, 0xdd]) => frame.get(38..54) == Some(&vip.octets()),
        _ => false,
    }
}

#[test]
fn ping_and_neighbour_discovery_stay_with_the_kernel() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let _servers = WebServer::pair(&lab, 80);
    let director = Director::start(&lab, &Config::usual());
    let before = director.quiet_stats();
    let socket = RawSocket::open(&lab, Host::Client, "eth0");
    let envelope = Envelope { destination: Host::Director.mac(), source: Host::Client.mac(), tags: &[] };
    for (own, vip, protocol, echo_reply) in
        [(Host::Client.ipv4(), vip4(), 1, 0), (Host::Client.ipv6(), vip6(), 58, 129)]
    {
        socket.send(&envelope.echo_request(own, vip, 0x4711));
        let (protocol_at, message_at) = if own.is_ipv4() { (23, 34) } else { (20, 54) };
        let reply = socket.receive(PATIENT, |frame| {
            frame.len() > message_at + 6
                && frame[protocol_at] == protocol
                && frame[message_at] == echo_reply
                && frame[message_at + 4..message_at + 6] == [0x47, 0x11]
        });
        let reply = reply.unwrap_or_else(|| panic!("no reply to a ping of {vip}"));
        assert_eq!(frame::source(&reply), Host::Director.mac());
    }
    assert_eq!(director.quiet_stats().redirected(), before.redirected(), "pings are the kernel's");

    // The client forgets who has the VIP, and finds out again.
    for family in ["-4", "-6"] {
        lab.ip(Host::Client, &format!("{family} neigh flush all"));
    }
    for server in [web4(), web6()] {
        fetch(&lab, Host::Client, server).unwrap();
        let neighbour = lab.ip(Host::Client, &format!("neigh show {}", server.ip()));
        assert!(neighbour.contains(&Host::Director.mac().to_string()), "{neighbour}");
    }
}

#[test]
fn a_pulled_cable_and_a_link_set_down_come_back() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let _servers = WebServer::pair(&lab, 80);
    let mut director = Director::start(&lab, &Config::usual());
    for (host, interface) in [(Host::Switch, "director"), (Host::Director, "eth0")] {
        assert_all_answered(&A_FEW.run(&lab, Host::Client, web4(), None));
        lab.ip(host, &format!("link set {interface} down"));
        thread::sleep(Duration::from_millis(500));
        assert!(fetch_within(&lab, QUICK).is_none(), "nothing gets through while the link is down");
        lab.ip(host, &format!("link set {interface} up"));
        wait_for("forwarding to resume", 15, || fetch_within(&lab, QUICK));
        assert!(director.is_running());
        for server in [web4(), web6()] {
            wait_for("all requests to be answered again", 15, || {
                (A_FEW.run(&lab, Host::Client, server, None).failed == 0).then_some(())
            });
        }
    }
    director.quiet_stats().assert_identity();
}

fn fetch_within(lab: &Lab, patience: Duration) -> Option<()> {
    lab.on(Host::Client, || std::net::TcpStream::connect_timeout(&web4(), patience).ok().map(drop))
}

/// Load over IPv4 and IPv6, a flood of forged packets of which no two are of one flow, reloads that add and remove a
/// service and a real server, and a link that is pulled at either end, all at once. What is lost is lost: no answer is
/// asked for. But each frame has a name in the end, no sum is ever negative on the way, and no descriptor was refused.
#[test]
fn the_sums_hold_under_load_flood_reload_and_a_link_that_flaps() {
    const LOAD: Load = Load { connections: 1, requests_per_connection: 5, at_once: 2, pause: Duration::ZERO };
    let Some(lab) = Lab::up(Shape { queues: 2, ..Shape::default() }) else { return };
    let _servers = WebServer::pair(&lab, 80);
    let mut usual = Config::usual().director("flows_per_worker = 16384");
    usual.interfaces[0].settings.push("cores = [0, 1]".to_owned());
    let mut other = usual.clone().weights([3, 0]);
    other.services.push(Service { port: 8080, ..usual.services[0].clone() });
    let mut director = Director::start(&lab, &usual);
    let frames = director.stats().frames();

    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        let loads = [web4(), web6()].map(|server| {
            let (lab, enough) = (&lab, &enough);
            scope.spawn(move || LOAD.run(lab, Host::Client, server, Some(enough)))
        });
        let flood = scope.spawn(|| flood(&lab, &enough));
        let end = AtEnd(&enough);
        for round in 0..12 {
            let (host, interface) = [(Host::Switch, "director"), (Host::Director, "eth0")][round % 2];
            lab.ip(host, &format!("link set {interface} down"));
            thread::sleep(Duration::from_millis(100));
            lab.ip(host, &format!("link set {interface} up"));
            let reloads = director.reloads();
            director.reload(if round % 4 < 2 { &other } else { &usual });
            wait_for("the reload to be applied", 10, || (director.reloads() > reloads).then_some(()));
            thread::sleep(Duration::from_millis(300));
            let stats = director.stats();
            for sum in ["redirects", "verdicts"] {
                let difference = stats.0["identity"][sum]["difference"].as_i64().unwrap();
                assert!(difference >= 0, "{sum}: more came out than went in\n{:#}", stats.0["identity"]);
            }
            assert_eq!((stats.frames(), stats.quarantined()), (frames, 0), "round {round}");
        }
        drop(end);
        let answered: u64 = loads.into_iter().map(|load| load.join().unwrap().answered()).sum();
        assert!(answered > 100, "there was load between the flaps: {answered}");
        let forged = flood.join().unwrap();
        assert!(forged > 10_000, "there was a flood: {forged}");
    });

    assert!(director.is_running(), "{}", director.log());
    wait_for("all requests to be answered again", 15, || {
        (A_FEW.run(&lab, Host::Client, web4(), None).failed == 0).then_some(())
    });
    let stats = director.quiet_stats();
    stats.assert_identity();
    assert!(stats.received() > 10_000, "{:#}", stats.0["totals"]);
    assert_eq!((stats.frames(), stats.quarantined()), (frames, 0));
    assert_eq!(stats.unsent(), 0, "nothing is stuck in a TX ring\n{:#}", stats.0["workers"]);
}

/// SYNs, bare ACKs and datagrams from addresses that nobody has, until it is enough; returns how many.
fn flood(lab: &Lab, enough: &AtomicBool) -> u32 {
    let client = RawSocket::open(lab, Host::Client, "eth0");
    let envelope = Envelope { destination: Host::Director.mac(), source: Host::Client.mac(), tags: &[] };
    let from = SocketAddr::new("10.128.0.0".parse().unwrap(), 4_711);
    let syn = envelope.tcp_syn(from, web4(), 1);
    let mut ack = syn.clone();
    ack[47] = 0x10;
    let mut kinds = [syn, ack, envelope.udp(from, web4(), b"forged")];
    let mut number = 0_u32;
    while !enough.load(Ordering::Relaxed) {
        for frame in &mut kinds {
            frame[28..30].copy_from_slice(&u16::try_from(number & 0xffff).unwrap().to_be_bytes());
            frame[27] = 128 | u8::try_from(number >> 16 & 0x7f).unwrap();
            // Bridges may look at it.
            frame[24..26].fill(0);
            let sum = frame::checksum(&[&frame[14..34]]);
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
            client.send(frame);
        }
        number += 1;
        if number.is_multiple_of(64) {
            thread::sleep(Duration::from_millis(1));
        }
    }
    3 * number
}

#[test]
fn forwarding_goes_on_when_the_statistics_file_cannot_be_written() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let _servers = WebServer::pair(&lab, 80);
    let missing = lab.scratch().join("no/such/directory/stats.json");
    {
        let config = Config::usual().director("stats_interval_ms = 100");
        let director = Director::start_with(&lab, &config, &["--stats-file", missing.to_str().unwrap()]);
        assert_all_answered(&A_FEW.run(&lab, Host::Client, web4(), None));
        wait_for("the log to name the file", 5, || director.log().contains("no/such/directory").then_some(()));
        assert_all_answered(&A_FEW.run(&lab, Host::Client, web4(), None));
        assert_eq!(director.end(Signal::SIGTERM).code(), Some(0));
    }

    // A file system without a free byte, in the mount namespace of the director alone: it goes with it.
    let full = lab.scratch().join("full");
    std::fs::create_dir(&full).unwrap();
    let mut command = lab.command(Host::Director, "sh");
    command.arg("-c").arg(
        "mount -t tmpfs -o size=16k full \"$1\" && { head -c 64k /dev/zero > \"$1/filler\" || true; } 2> /dev/null; \
         shift; exec \"$@\"",
    );
    command.arg("sh").arg(&full).arg(pointsman()).arg("run");
    let file = full.join("stats.json");
    let config = Config::usual().director(&format!("stats_file = {file:?}\nstats_interval_ms = 100"));
    let director = Director::start_by(&lab, &config, command, &[]);
    wait_for("the log to name the file", 5, || director.log().contains("full/stats.json").then_some(()));
    assert_all_answered(&A_FEW.run(&lab, Host::Client, web4(), None));
    assert_eq!(director.end(Signal::SIGTERM).code(), Some(0));
}

#[test]
fn the_statistics_file_is_replaced_whole_and_written_at_exit() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let _servers = WebServer::pair(&lab, 80);
    let file = lab.scratch().join("stats.json");
    let config = Config::usual().director(&format!("stats_file = {file:?}\nstats_interval_ms = 100"));
    let director = Director::start(&lab, &config);
    wait_for("the first file", 5, || file.exists().then_some(()));
    assert_all_answered(&A_FEW.run(&lab, Host::Client, web4(), None));
    let last = director.quiet_stats();
    director.end(Signal::SIGTERM);
    let at_exit = lab::director::Stats(serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap());
    assert_eq!(at_exit.tx(), last.tx());
    at_exit.assert_identity();
}

#[test]
fn a_foreign_program_is_left_alone_and_named() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let _foreign = ForeignProgram::attach(&lab, Host::Director, "eth0", "not_ours");
    let before = xdp_program(&lab, Host::Director, "eth0");
    assert!(before.is_some());
    let (code, said) = run_in_vain(&lab, &Config::usual(), lab.command(Host::Director, pointsman()));
    assert_ne!(code, Some(0), "{said}");
    assert!(said.contains("not_ours") && said.contains("eth0"), "the error names program and interface:\n{said}");
    assert_eq!(xdp_program(&lab, Host::Director, "eth0"), before, "nothing was replaced");
}

#[test]
fn a_missing_interface_is_named() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let mut config = Config::usual();
    config.interfaces.push(Interface::named("nic7"));
    let (code, said) = run_in_vain(&lab, &config, lab.command(Host::Director, pointsman()));
    assert_ne!(code, Some(0), "{said}");
    assert!(said.contains("nic7"), "the error names the interface:\n{said}");
    assert_eq!(xdp_program(&lab, Host::Director, "eth0"), None, "nothing is half attached");
}

#[test]
fn missing_capabilities_are_named() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    for (dropped, named) in [
        ("-net_admin,-sys_admin,-bpf,-net_raw", &["CAP_NET_ADMIN", "CAP_BPF", "CAP_NET_RAW"][..]),
        ("-net_raw", &["CAP_NET_RAW"]),
        ("-net_admin,-sys_admin", &["CAP_NET_ADMIN"]),
        ("-bpf,-sys_admin", &["CAP_BPF"]),
    ] {
        let mut command = lab.command(Host::Director, "setpriv");
        command.args(["--bounding-set", dropped, "--inh-caps", dropped]).arg(pointsman());
        let (code, said) = run_in_vain(&lab, &Config::usual(), command);
        assert_ne!(code, Some(0), "{said}");
        assert!(
            named.iter().any(|name| said.contains(name)),
            "without {dropped} the error names one of {named:?}:\n{said}"
        );
        assert_eq!(xdp_program(&lab, Host::Director, "eth0"), None, "nothing is half attached");
    }
}

#[test]
fn a_second_director_on_the_same_interface_is_refused() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let _servers = WebServer::pair(&lab, 80);
    let mut first = Director::start(&lab, &Config::usual());
    let (code, said) = run_in_vain(&lab, &Config::usual(), lab.command(Host::Director, pointsman()));
    assert_ne!(code, Some(0), "{said}");
    assert!(said.contains("eth0"), "the error names the interface:\n{said}");
    assert!(first.is_running());
    assert_all_answered(&A_FEW.run(&lab, Host::Client, web4(), None));
    first.quiet_stats().assert_identity();
}

#[test]
fn two_arms_share_the_way() {
    let Some(lab) = Lab::up(Shape { two_arm: true, ..Shape::default() }) else { return };
    let _servers = WebServer::pair(&lab, 80);
    lab.ip(Host::Director, "link set eth0 mtu 1400");
    let mut config = Config::usual();
    config.interfaces.push(Interface::named("eth1"));
    let director = Director::start(&lab, &config);

    for server in [web4(), web6()] {
        let outcome = A_FEW.run(&lab, Host::Remote, server, None);
        assert_all_answered(&outcome);
        assert_eq!(outcome.answers.len(), 2, "{outcome:#?}");
        assert_all_answered(&A_FEW.run(&lab, Host::Client, server, None));
    }

    // In by eth1, out by eth0: the source MAC is that of the interface it leaves by.
    let remote = RawSocket::open(&lab, Host::Remote, "eth0");
    let webs = [Host::Web1, Host::Web2].map(|host| (host, RawSocket::open(&lab, host, "eth0")));
    let arm = Mac([2, 0, 0, 0, 0x0a, 2]);
    let envelope = Envelope { destination: arm, source: Host::Remote.mac(), tags: &[] };
    let from = SocketAddr::new(Host::Remote.ipv4(), 40_000);
    assert_reaches_one_web_server(&remote, &webs, &envelope.udp(from, web4(), b"over both arms"));

    let before = director.quiet_stats().drops_for("mtu_exceeded");
    remote.send(&envelope.udp(from, web4(), &[0; 1_390]));
    let stats = director.quiet_stats();
    assert_eq!(stats.drops_for("mtu_exceeded"), before + 1, "1,418 bytes do not fit 1,400\n{:#}", stats.0);
    stats.assert_identity();
}

#[test]
fn scarce_frames_serve_every_queue_of_a_worker() {
    let Some(lab) = Lab::up(Shape { queues: 2, ..Shape::default() }) else { return };
    let mut config = Config::usual();
    config.interfaces[0].settings.push("cores = [0]\nframes = 128".to_owned());
    let director = Director::start(&lab, &config);
    let fill: Vec<u64> = director.quiet_stats().fill_submitted();
    assert_eq!(fill.len(), 2);
    assert!(fill.iter().all(|&submitted| submitted >= 64), "{fill:?}");
}

#[test]
fn what_found_no_room_in_the_completion_ring_is_sent_later() {
    let Some(lab) = Lab::up(Shape { two_arm: true, ..Shape::default() }) else { return };
    let mut config = Config::usual();
    config.interfaces.push(Interface::named("eth1"));
    for interface in &mut config.interfaces {
        // What both arms receive leaves by one of them: two bursts, for a completion ring of one.
        interface.settings.push("cores = [0]\nbatch = 64\ncompletion_ring = 64\npoll = \"busy\"".to_owned());
    }
    let director = Director::start(&lab, &config);
    let arms = [(Host::Client, Host::Director.mac()), (Host::Remote, Mac([2, 0, 0, 0, 0x0a, 2]))].map(|(host, arm)| {
        let envelope = Envelope { destination: arm, source: host.mac(), tags: &[] };
        (host, envelope, RawSocket::open(&lab, host, "eth0"))
    });
    director.signal(Signal::SIGSTOP);
    for port in 20_000..20_500 {
        for (host, envelope, socket) in &arms {
            socket.send(&envelope.udp(SocketAddr::new(host.ipv4(), port), web4(), b"one of many"));
        }
    }
    director.signal(Signal::SIGCONT);

    let stats = director.quiet_stats();
    assert_eq!(stats.tx(), 1_000, "{:#}", stats.0);
    assert_eq!(stats.unsent(), 0, "frames were left in a TX ring\n{:#}", stats.0["interfaces"]);
    // How often depends on when the other side takes its frames; never more often than there are frames.
    assert!(stats.tx_kicks() <= 1_000, "it is called only when it may take something\n{:#}", stats.0["interfaces"]);
    stats.assert_identity();
}

#[test]
fn malformed_frames_are_counted_and_harm_nobody() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let _servers = WebServer::pair(&lab, 80);
    let mut director = Director::start(&lab, &Config::usual());
    let client = RawSocket::open(&lab, Host::Client, "eth0");
    let before = director.quiet_stats();

    let tags = [Tag { tpid: 0x8100, vlan: 42 }];
    let mut sent = 0;
    for tags in [&[][..], &tags] {
        let envelope = Envelope { destination: Host::Director.mac(), source: Host::Client.mac(), tags };
        for (own, vip) in [(Host::Client.ipv4(), web4()), (Host::Client.ipv6(), web6())] {
            for whole in [
                envelope.udp(SocketAddr::new(own, 4711), vip, b"0123456789"),
                envelope.tcp_syn(SocketAddr::new(own, 4711), vip, 1),
            ] {
                // Cut at every length, and every byte behind the MAC addresses bent in turn.
                for length in 14..whole.len() {
                    client.send(&whole[..length]);
                    sent += 1;
                }
                for position in 12..whole.len() {
                    for value in [0x00, 0xff, whole[position] ^ 0x0f] {
                        let mut bent = whole.clone();
                        bent[position] = value;
                        client.send(&bent);
                        sent += 1;
                    }
                }
            }
        }
    }

    assert!(director.is_running(), "{}", director.log());
    let after = director.quiet_stats();
    assert!(after.malformed_by_xdp() > before.malformed_by_xdp() + sent / 20, "{:#}", after.0);
    after.assert_identity();
    assert_all_answered(&A_FEW.run(&lab, Host::Client, web4(), None));
    assert_all_answered(&A_FEW.run(&lab, Host::Client, web6(), None));
}
