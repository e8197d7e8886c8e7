//! Flows stay where they are, and what belongs to a flow follows it, in real networks: while real servers come and go,
//! while packets move to other queues, when ICMP errors come back, and when datagrams are fragmented.
//!
//! The network is that of `scripts/lab`. These tests need root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod lab;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lab::director::{Config, Director, RealServer};
use lab::frame::Envelope;
use lab::http::{Connection, Load, WebServer};
use lab::raw_socket::RawSocket;
use lab::steer::Steering;
use lab::{Host, Lab, Shape, vip4, vip6, wait_for};

const PATIENT: Duration = Duration::from_secs(2);

/// Each worker owns one of the two queues, and so has a flow table of its own.
fn two_workers() -> Config {
    let mut config = Config::usual().director("flows_per_worker = 16384");
    config.interfaces[0].settings.push("cores = [0, 1]".to_owned());
    config
}

fn servers() -> [SocketAddr; 2] {
    [(vip4(), 80).into(), (vip6(), 80).into()]
}

fn with_web3(mut config: Config, weight: u32) -> Config {
    for service in &mut config.services {
        let address = if service.vip.is_ipv4() { Host::Web3.ipv4() } else { Host::Web3.ipv6() };
        service.real_servers.push(RealServer { address, weight, mac: None });
    }
    config
}

fn reload(director: &Director, config: &Config) {
    let before = director.reloads();
    director.reload(config);
    wait_for("the reload to be applied", 20, || (director.reloads() > before).then_some(()));
}

#[test]
fn long_and_short_flows_outlive_every_change_of_the_real_servers_and_of_the_queues() {
    const SHORT: Load =
        Load { connections: 1_000, requests_per_connection: 1, at_once: 4, pause: Duration::from_millis(2) };
    let Some(lab) = Lab::up(Shape { queues: 2, third_server: true, ..Shape::default() }) else { return };
    let _web1_and_web2 = WebServer::pair(&lab, 80);
    let _web3 = WebServer::start(&lab, Host::Web3, 80);
    let director = Director::start(&lab, &two_workers());
    let mut steering = Steering::all(&lab, 0);
    let mut queue = 0;
    // All flows come in by the other queue from now on.
    let mut steer = || {
        queue = 1 - queue;
        steering = Steering::all(&lab, queue);
        thread::sleep(Duration::from_millis(400));
    };
    let [early_enough, late_enough, short_enough] = [const { AtomicBool::new(false) }; 3];
    let (early_open, late_open) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let started = Instant::now();

    let (early, late, short) = thread::scope(|scope| {
        let early = scope.spawn(|| long_flows(&lab, 8, &early_open, &early_enough));
        let short = scope.spawn(|| SHORT.run(&lab, Host::Client, servers()[0], Some(&short_enough)));
        wait_for("the long flows", 20, || (early_open.load(Ordering::Relaxed) == 8).then_some(()));

        // First the change, then the other queue: its worker has no entry of these flows, and by now another hash.
        reload(&director, &with_web3(two_workers(), 4));
        steer();
        let late = scope.spawn(|| long_flows(&lab, 16, &late_open, &late_enough));
        wait_for("more long flows", 20, || (late_open.load(Ordering::Relaxed) == 16).then_some(()));

        // Drained: no new flow, and those that are there stay.
        reload(&director, &with_web3(two_workers(), 0));
        steer();
        thread::sleep(Duration::from_secs(1));
        steer();
        late_enough.store(true, Ordering::Relaxed);
        let late = late.join().unwrap();

        reload(&director, &two_workers());
        steer();
        for weights in [[3, 1], [1, 5], [1, 2]] {
            reload(&director, &two_workers().weights(weights));
            steer();
        }
        while started.elapsed() < Duration::from_secs(8) {
            steer();
        }
        short_enough.store(true, Ordering::Relaxed);
        let short = short.join().unwrap();
        early_enough.store(true, Ordering::Relaxed);
        (early.join().unwrap(), late, short)
    });

    assert_eq!((short.failed, short.wandered), (0, 0), "{short:#?}");
    assert!(short.answered() >= 1_000, "{short:#?}");
    assert!(short.answers.contains_key("web3"), "new flows went to the new real server: {short:#?}");
    for flow in early.iter().chain(&late) {
        assert_eq!(flow.failure, None, "{flow:#?}");
        assert_eq!(flow.answers.len(), 1, "a flow must stay with its real server: {flow:#?}");
        assert!(flow.answers.values().sum::<u64>() >= 10, "{flow:#?}");
    }
    let drained = late.iter().any(|flow| flow.answers.contains_key("web3"));
    assert!(drained, "no flow was on the real server that was drained: {late:#?}");
    let stats = director.quiet_stats();
    stats.assert_identity();
    // Each queue has a worker of its own.
    let by_queue = stats.received_by_queue();
    assert!(by_queue.len() == 2 && by_queue.iter().all(|count| *count > 1_000), "{by_queue:?}");
    assert_eq!(stats.dropped(), 0, "{:#}", stats.0);
    assert!(stats.flows("peer_hits") > 0, "flows that moved went by the other worker's entry\n{:#}", stats.0["totals"]);
}

/// What became of one long flow.
#[derive(Debug, Default)]
struct LongFlow {
    /// Requests by the name of the server that answered.
    answers: BTreeMap<String, u64>,
    failure: Option<String>,
}

/// Connections, over IPv4 and IPv6 in turn, that each send 32 KiB and receive 32 KiB again and again.
fn long_flows(lab: &Lab, count: usize, open: &AtomicUsize, enough: &AtomicBool) -> Vec<LongFlow> {
    lab.on(Host::Client, || {
        thread::scope(|scope| {
            let one = |server| {
                let mut flow = LongFlow::default();
                if let Err(error) = long_flow(server, open, enough, &mut flow.answers) {
                    flow.failure = Some(error.to_string());
                }
                flow
            };
            let flows: Vec<_> =
                servers().into_iter().cycle().take(count).map(|server| scope.spawn(move || one(server))).collect();
            flows.into_iter().map(|flow| flow.join().unwrap()).collect()
        })
    })
}

fn long_flow(
    server: SocketAddr,
    open: &AtomicUsize,
    enough: &AtomicBool,
    answers: &mut BTreeMap<String, u64>,
) -> io::Result<()> {
    let mut connection = Connection::open(server)?;
    let mut counted = false;
    while !enough.load(Ordering::Relaxed) {
        let (name, _) = connection.get_with(32 << 10, 32 << 10)?;
        *answers.entry(name).or_default() += 1;
        if !counted {
            open.fetch_add(1, Ordering::Relaxed);
            counted = true;
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Client and real servers have MTU 1500, so the MSS of the connection is too large for the link of 1300 between two
/// routers behind the gateway. Segments have DF set (IPv6 always does), so nobody fragments them: until the real server
/// itself has the gateway's error, each full one is lost, and nothing gets through. The error is addressed to the VIP.
/// It arrives at the director on another queue than the flow, so at a worker that has never seen it, and after a reload
/// by which the hash, were it asked, would send it to the other real server.
#[test]
fn path_mtu_discovery_reaches_the_real_server_of_the_flow() {
    const DOWNLOAD: usize = 3 << 20;
    let Some(lab) = Lab::up(Shape { queues: 2, small_link: true, ..Shape::default() }) else { return };
    let _servers = WebServer::pair(&lab, 80);
    let _steering = Steering::by_kind(&lab, 1, 0);
    for server in servers() {
        let director = Director::start(&lab, &two_workers().weights([1, 0]));
        let mut connection = lab.on(Host::Remote, || Connection::open(server)).unwrap();
        assert_eq!(connection.get().unwrap().0, "web1");
        reload(&director, &two_workers().weights([0, 1]));
        let arrivals = RawSocket::open(&lab, Host::Web1, "eth0");
        let before = director.quiet_stats();

        let answer = connection.get_with(DOWNLOAD, 0);

        let errors = arrivals.drain(Duration::from_millis(300), |frame| is_too_big(frame, server.ip()));
        assert!(!errors.is_empty(), "no error told web1 of the small link to the client of {server}: {answer:?}");
        for error in &errors {
            assert_eq!(lab::frame::source(error), Host::Director.mac(), "it came through the director");
        }
        assert_eq!(answer.unwrap().0, "web1", "the flow stays");
        let after = director.quiet_stats();
        after.assert_identity();
        let by_queue = |queue: usize| after.received_by_queue()[queue] - before.received_by_queue()[queue];
        // Not many: the client's kernel acknowledges what it has merged.
        assert!(by_queue(0) >= 10, "the flow is on queue 0\n{:#}", after.0);
        assert!(by_queue(1) >= errors.len() as u64, "the errors are on queue 1\n{:#}", after.0);
        assert!(after.redirected() - before.redirected() >= by_queue(0) + by_queue(1));
    }
}

/// Whether a frame is an error of the kind "fragmentation needed" or "packet too big" to a VIP, for MTU 1300.
fn is_too_big(frame: &[u8], vip: IpAddr) -> bool {
    let (head, destination, mtu) = match vip {
        IpAddr::V4(vip) => (frame.get(34..36) == Some(&[3, 4][..]), frame.get(30..34) == Some(&vip.octets()[..]), 40),
        IpAddr::V6(vip) => (frame.get(54..56) == Some(&[2, 0][..]), frame.get(38..54) == Some(&vip.octets()[..]), 60),
    };
    head && destination && frame.get(mtu..mtu + 2) == Some(&1300_u16.to_be_bytes()[..])
}

/// The first fragment alone has the ports. Flows of one client differ in nothing else, so without their entry all later
/// fragments would go to one real server, and about half of the datagrams would never be whole.
#[test]
fn fragmented_datagrams_arrive_whole() {
    const DATAGRAMS: usize = 60;
    let Some(lab) = Lab::up(Shape { queues: 2, ..Shape::default() }) else { return };
    let director = Director::start(&lab, &two_workers().weights([1, 1]));
    for (queue, vip) in [vip4(), vip6()].into_iter().enumerate() {
        let _steering = Steering::all(&lab, u16::try_from(queue).unwrap());
        let sockets = [Host::Web1, Host::Web2].map(|host| {
            lab.on(host, || {
                let socket = UdpSocket::bind((vip, 80)).unwrap();
                socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
                socket
            })
        });
        let before = director.quiet_stats();
        let mut counts = [0; 2];

        for number in 0..DATAGRAMS {
            let data: Vec<u8> = (0..4_000).map(|at| u8::try_from((at + number) % 251).unwrap()).collect();
            lab.on(Host::Client, || {
                let any = if vip.is_ipv4() { IpAddr::from([0, 0, 0, 0]) } else { Ipv6Addr::UNSPECIFIED.into() };
                let socket = UdpSocket::bind((any, 0)).unwrap();
                assert_eq!(socket.send_to(&data, (vip, 80)).unwrap(), data.len());
            });
            // Which one gets it is the hash's business: short looks at either in turn.
            let receivers = wait_for(&format!("datagram {number} to {vip} to arrive whole"), 5, || {
                let at: Vec<usize> = (0..2).filter(|at| receive_now(&sockets[*at]) == Some(data.clone())).collect();
                (!at.is_empty()).then_some(at)
            });
            assert_eq!(receivers.len(), 1, "one real server gets it");
            counts[receivers[0]] += 1;
        }

        assert!(counts.iter().all(|count| *count >= DATAGRAMS / 10), "flows go to both real servers: {counts:?}");
        let stats = director.quiet_stats();
        stats.assert_identity();
        let sent = stats.tx() - before.tx();
        assert!(sent >= 3 * DATAGRAMS as u64, "three fragments each went through the director: {sent}");
    }
}

/// Flows that web1 has an entry of, at the worker of queue 1, while the hash by now sends all to web2. The first fragment
/// arrives at queue 0, whose worker has no entry: it must find the other's. The later ones arrive at queue 1, and must
/// find what that worker noted of the datagram.
#[test]
fn fragments_follow_their_flow_and_their_first_from_queue_to_queue() {
    const DATAGRAMS: u16 = 40;
    let Some(lab) = Lab::up(Shape { queues: 2, ..Shape::default() }) else { return };
    let director = Director::start(&lab, &two_workers().weights([1, 0]));
    let client = RawSocket::open(&lab, Host::Client, "eth0");
    let webs = [Host::Web1, Host::Web2].map(|host| RawSocket::open(&lab, host, "eth0"));
    let envelope = Envelope { destination: Host::Director.mac(), source: Host::Client.mac(), tags: &[] };
    let arrives = |at: &RawSocket, sent: &[u8]| at.receive(PATIENT, |frame| frame[12..] == sent[12..]).is_some();
    for (own, vip) in [(Host::Client.ipv4(), vip4()), (Host::Client.ipv6(), vip6())] {
        let to = SocketAddr::new(vip, 80);
        let from = |number| SocketAddr::new(own, 30_000 + number);
        let socket = lab.on(Host::Web1, || UdpSocket::bind(to).unwrap());
        socket.set_read_timeout(Some(PATIENT)).unwrap();
        let steering = Steering::all(&lab, 1);
        reload(&director, &two_workers().weights([1, 0]));
        for number in 0..DATAGRAMS {
            for data in [b"the first of a flow", b"and the second one."] {
                let whole = envelope.udp(from(number), to, data);
                client.send(&whole);
                assert!(arrives(&webs[0], &whole), "flow {number} to {vip}");
                assert_eq!(receive(&socket), data);
            }
        }
        drop(steering);
        reload(&director, &two_workers().weights([0, 1]));
        let _steering = Steering::by_fragment(&lab, 1, 0);
        let before = director.quiet_stats();

        for number in 0..DATAGRAMS {
            let data: Vec<u8> = (0..4_000).map(|at| u8::try_from((at + usize::from(number)) % 251).unwrap()).collect();
            for fragment in envelope.udp_fragments(from(number), to, &data, 500 + number, 1_448) {
                client.send(&fragment);
                assert!(arrives(&webs[0], &fragment), "a fragment of flow {number} to {vip} is not where its flow is");
            }
            assert_eq!(receive(&socket), data, "flow {number} to {vip}");
        }

        let after = director.quiet_stats();
        let count = |what| after.flows(what) - before.flows(what);
        let datagrams = u64::from(DATAGRAMS);
        assert_eq!((count("fragment_hits"), count("fragment_misses")), (2 * datagrams, 0), "{:#}", after.0["totals"]);
        assert_eq!(count("peer_hits"), datagrams, "{:#}", after.0["totals"]);
        let by_queue = [0, 1].map(|queue| after.received_by_queue()[queue] - before.received_by_queue()[queue]);
        assert!(by_queue[0] >= datagrams && by_queue[1] >= 2 * datagrams, "{by_queue:?}");
        after.assert_identity();
    }
}

#[test]
fn fragments_that_nobody_can_place_go_by_their_addresses_and_those_without_ports_are_dropped() {
    const DATAGRAMS: u16 = 20;
    let Some(lab) = Lab::up(Shape { queues: 2, ..Shape::default() }) else { return };
    let director = Director::start(&lab, &two_workers().weights([1, 1]));
    let _steering = Steering::by_fragment(&lab, 1, 0);
    let client = RawSocket::open(&lab, Host::Client, "eth0");
    let webs = [Host::Web1, Host::Web2].map(|host| RawSocket::open(&lab, host, "eth0"));
    let envelope = Envelope { destination: Host::Director.mac(), source: Host::Client.mac(), tags: &[] };
    for (own, vip) in [(Host::Client.ipv4(), vip4()), (Host::Client.ipv6(), vip6())] {
        let before = director.quiet_stats();
        for number in 0..DATAGRAMS {
            // Its first fragment never came.
            client.send(&envelope.ip_fragment(own, vip, 1_000 + number, (1_448, false), &[7; 64]));
            // A first fragment whose ports are in no fragment.
            client.send(&envelope.ip_fragment(own, vip, 2_000 + number, (0, true), &[0, 80, 0]));
        }
        let forwarded = webs.each_ref().map(|web| {
            web.drain(Duration::from_millis(300), |frame| lab::frame::source(frame) == Host::Director.mac())
        });
        let later = |frames: &[Vec<u8>]| frames.iter().filter(|frame| frame.ends_with(&[7; 64])).count();
        let mut to_each = forwarded.each_ref().map(|frames| later(frames));
        to_each.sort_unstable();
        assert_eq!(to_each, [0, usize::from(DATAGRAMS)], "all of one client go to one real server");
        let after = director.quiet_stats();
        let count = |what| after.flows(what) - before.flows(what);
        let sent = u64::from(DATAGRAMS);
        assert_eq!((count("fragment_hits"), count("fragment_misses")), (0, sent), "{:#}", after.0["totals"]);
        assert_eq!(after.drops_for("truncated_l4") - before.drops_for("truncated_l4"), sent);
        assert_eq!(after.tx() - before.tx(), sent, "nothing of the others left");
        after.assert_identity();
    }
}

fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 65_536];
    let length = socket.recv(&mut buffer).unwrap();
    buffer.truncate(length);
    buffer
}

fn receive_now(socket: &UdpSocket) -> Option<Vec<u8>> {
    socket.set_nonblocking(true).unwrap();
    let mut buffer = vec![0; 65_536];
    let length = socket.recv(&mut buffer).ok()?;
    buffer.truncate(length);
    Some(buffer)
}
