//! Health checks in a real network: each kind takes a real server out of the service and back in under load, and a
//! server without the VIP is found by the check through the direct-routing path alone.
//!
//! The network is that of `scripts/lab`. These tests need root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod lab;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv6Addr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use lab::director::{Config, Director, Stats, pointsman};
use lab::http::{Load, Outcome, WebServer, fetch};
use lab::{Host, Lab, Shape, vip4, vip6, wait_for};
use nix::sys::signal::Signal;
use nix::sys::socket::{Shutdown, shutdown};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

const PORT: u16 = 8081;

/// The TCP services of the usual configuration, with these checks.
fn with_checks(checks: &[&str]) -> Config {
    let mut config = Config::usual().director("flows_per_worker = 16384");
    config.services.retain(|service| service.protocol == "tcp");
    for check in checks {
        config.below_every_service.push(format!(
            "[[virtual_service.health_check]]\n{check}\ninterval_ms = 100\ntimeout_ms = 1000\nrise = 2\nfall = 2\n\
             flap_window_s = 0"
        ));
    }
    config
}

fn server(stats: &Stats, service: usize, host: Host) -> &serde_json::Value {
    let servers = stats.0["virtual_services"][service]["real_servers"].as_array().unwrap();
    let addresses = [host.ipv4().to_string(), host.ipv6().to_string()];
    servers.iter().find(|server| addresses.iter().any(|address| server["address"] == address.as_str())).unwrap()
}

/// Waits until web1 is alive in all services, or in none.
fn wait_for_web1(director: &Director, alive: bool) {
    wait_for(&format!("web1 to be alive = {alive}"), 30, || {
        let stats = director.stats();
        (0..2).all(|service| server(&stats, service, Host::Web1)["alive"] == alive).then_some(())
    });
}

fn generation(director: &Director) -> u64 {
    director.stats().0["generation"].as_u64().unwrap()
}

/// A load of short connections while web1 is made ill (`switch(false)`) and well again. The three outcomes: until it is
/// out of the service, meanwhile, and after.
fn under_load(lab: &Lab, director: &Director, mut switch: impl FnMut(bool)) -> [Outcome; 3] {
    const SHORT: Load =
        Load { connections: 50, requests_per_connection: 2, at_once: 4, pause: Duration::from_millis(1) };
    let phase = |work: &mut dyn FnMut()| {
        let enough = AtomicBool::new(false);
        thread::scope(|scope| {
            let load = scope.spawn(|| SHORT.run(lab, Host::Client, (vip4(), 80).into(), Some(&enough)));
            thread::sleep(Duration::from_millis(100));
            work();
            enough.store(true, Ordering::Relaxed);
            load.join().unwrap()
        })
    };
    let before = phase(&mut || {
        switch(false);
        wait_for_web1(director, false);
    });
    let meanwhile = phase(&mut || {});
    let after = phase(&mut || {
        switch(true);
        wait_for_web1(director, true);
        thread::sleep(Duration::from_millis(200));
    });
    [before, meanwhile, after]
}

fn assert_taken_out_and_back(kind: &str, [before, down, after]: &[Outcome; 3]) {
    // At most those that were under way on web1 when it went.
    assert!(before.failed <= 4, "{kind}: {before:#?}");
    assert_eq!((down.failed, after.failed), (0, 0), "{kind}: {down:#?} {after:#?}");
    assert!(before.answers.contains_key("web1"), "{kind}: {before:#?}");
    assert_eq!(down.answers.keys().collect::<Vec<_>>(), ["web2"], "{kind}: {down:#?}");
    assert!(after.answers.contains_key("web1"), "{kind}: {after:#?}");
}

/// What checks ask on a real server: by TCP, HTTP, HTTPS and UDP, until it is dropped.
struct Asked {
    listener: Arc<TcpListener>,
    stopping: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Asked {
    /// Answers every connection by an HTTP status, over TLS if there is something to do that with.
    fn tcp(lab: &Lab, host: Host, status: &Arc<AtomicU16>, tls: Option<&Arc<ServerConfig>>) -> Asked {
        let (status, tls) = (Arc::clone(status), tls.cloned());
        lab.on(host, || {
            let listener = Arc::new(TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT)).unwrap());
            let accepting = Arc::clone(&listener);
            let threads = vec![thread::spawn(move || {
                while let Ok((stream, _)) = accepting.accept() {
                    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
                    let status = status.load(Ordering::Relaxed);
                    let _ = match &tls {
                        None => answer(stream, status),
                        Some(tls) => {
                            let connection = ServerConnection::new(Arc::clone(tls)).unwrap();
                            answer(StreamOwned::new(connection, stream), status)
                        }
                    };
                }
            })];
            Asked { listener, stopping: Arc::default(), threads }
        })
    }

    fn udp(lab: &Lab, host: Host) -> Asked {
        let mut asked = Asked::tcp(lab, host, &Arc::new(AtomicU16::new(200)), None);
        let stopping = Arc::clone(&asked.stopping);
        asked.threads.push(lab.on(host, || {
            let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, PORT)).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            thread::spawn(move || {
                let mut buffer = [0; 64];
                while !stopping.load(Ordering::Relaxed) {
                    if let Ok((bytes, from)) = socket.recv_from(&mut buffer) {
                        let _ = socket.send_to(&buffer[..bytes], from);
                    }
                }
            })
        }));
        asked
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn answer(mut stream: impl Read + Write, status: u16) -> std::io::Result<()> {
    let _ = stream.read(&mut [0; 1024])?;
    write!(stream, "HTTP/1.1 {status} Whatever\r\nContent-Length: 6\r\n\r\nready\n")?;
    stream.flush()
}

fn tls() -> Arc<ServerConfig> {
    let made = rcgen::generate_simple_self_signed(["www.example.net".to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap())
}

#[test]
fn each_kind_of_check_takes_a_server_out_and_back_without_a_failed_request() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let _web = WebServer::pair(&lab, 80);
    let check = |kind: &str, more: &str| with_checks(&[&format!("kind = \"{kind}\"\n{more}")]);
    let at_port = |kind: &str, more: &str| check(kind, &format!("port = {PORT}\n{more}"));
    let fine = Arc::new(AtomicU16::new(200));

    let _web2 = Asked::udp(&lab, Host::Web2);
    let mut web1 = Some(Asked::udp(&lab, Host::Web1));
    for (kind, more) in [("tcp", ""), ("udp", "send = \"are you there\"\nexpect = \"there\"")] {
        let director = Director::start(&lab, &at_port(kind, more));
        let outcomes = under_load(&lab, &director, |well| web1 = well.then(|| Asked::udp(&lab, Host::Web1)));
        assert_taken_out_and_back(kind, &outcomes);
        assert!(director.log().contains("down: "), "{}", director.log());
    }
    drop((web1, _web2));

    let tls = tls();
    for (kind, more, tls) in [
        ("http", "body_contains = \"ready\"\nhost = \"www.example.net\"", None),
        ("https", "status = \"200\"\nsni = \"www.example.net\"", Some(&tls)),
    ] {
        let status = Arc::new(AtomicU16::new(200));
        let _asked = [Asked::tcp(&lab, Host::Web1, &status, tls), Asked::tcp(&lab, Host::Web2, &fine, tls)];
        let director = Director::start(&lab, &at_port(kind, more));
        let outcomes =
            under_load(&lab, &director, |well| status.store(if well { 200 } else { 503 }, Ordering::Relaxed));
        assert_taken_out_and_back(kind, &outcomes);
        assert!(director.log().contains("down: HTTP status 503, wanted 200"), "{}", director.log());
        assert!(director.log().contains("up: HTTP status 200"), "{}", director.log());
    }

    let director = Director::start(&lab, &check("icmp", ""));
    let outcomes = under_load(&lab, &director, |well| {
        for file in ["net.ipv4.icmp_echo_ignore_all", "net.ipv6.icmp.echo_ignore_all"] {
            let setting = format!("{file}={}", u8::from(!well));
            let status = lab.command(Host::Web1, "sysctl").args(["-q", "-w", &setting]).status().unwrap();
            assert!(status.success());
        }
    });
    assert_taken_out_and_back("icmp", &outcomes);
    drop(director);

    let file = lab.scratch().join("web1-is-well");
    fs::write(&file, "").unwrap();
    let script = format!("case $POINTSMAN_RIP in *[.:]100) test -e {};; esac", file.display());
    let director = Director::start(&lab, &check("command", &format!("command = [\"/bin/sh\", \"-c\", {script:?}]")));
    let outcomes =
        under_load(
            &lab,
            &director,
            |well| {
                if well { fs::write(&file, "").unwrap() } else { fs::remove_file(&file).unwrap() }
            },
        );
    assert_taken_out_and_back("command", &outcomes);
}

#[test]
fn an_inhibited_server_loses_no_request_at_all() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let _web = WebServer::pair(&lab, 80);
    let fine = Arc::new(AtomicU16::new(200));
    let _web2 = Asked::tcp(&lab, Host::Web2, &fine, None);
    let mut web1 = Some(Asked::tcp(&lab, Host::Web1, &fine, None));
    let mut config = with_checks(&[&format!("kind = \"tcp\"\nport = {PORT}")]);
    config.every_service.push("inhibit_on_failure = true".to_owned());
    let director = Director::start(&lab, &config);
    let stats = wait_for("checks to be made", 20, || {
        let stats = director.stats();
        checks(&stats, 0, Host::Web1).iter().all(|check| check["checks"].as_u64() > Some(3)).then_some(stats)
    });
    let before = generation(&director);
    assert_eq!(server(&stats, 0, Host::Web1)["standing"], "sound");
    // So many that some are on each server, whatever their ports.
    let long = Load { connections: 40, requests_per_connection: 100, at_once: 40, pause: Duration::from_millis(15) };

    let outcome = thread::scope(|scope| {
        let load = scope.spawn(|| long.run(&lab, Host::Client, (vip4(), 80).into(), None));
        thread::sleep(Duration::from_millis(300));
        web1 = None;
        wait_for("web1 to be inhibited", 20, || {
            let stats = director.stats();
            let web1 = server(&stats, 0, Host::Web1);
            (web1["standing"] == "inhibited" && web1["weight"] == 0 && web1["alive"] == true).then_some(())
        });
        for _ in 0..20 {
            assert_eq!(fetch(&lab, Host::Client, (vip4(), 80).into()).unwrap().0, "web2");
        }
        load.join().unwrap()
    });

    assert_eq!((outcome.failed, outcome.wandered), (0, 0), "{outcome:#?}");
    assert!(outcome.answers.contains_key("web1"), "some flows were on it: {outcome:#?}");
    let after = generation(&director);
    // One for each of the two services, or one for both; the neighbour table may add one.
    assert!((1..=3).contains(&(after - before)), "{before} {after}");
    thread::sleep(Duration::from_millis(500));
    assert_eq!(generation(&director), after, "answers that change nothing publish nothing");
    drop(web1);
}

fn checks(stats: &Stats, service: usize, host: Host) -> &[serde_json::Value] {
    server(stats, service, host)["health_checks"].as_array().unwrap()
}

/// Segments with RST that the director's kernel has sent.
fn resets(lab: &Lab) -> u64 {
    let snmp = lab.on(Host::Director, || fs::read_to_string("/proc/thread-self/net/snmp").unwrap());
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let at = lines.next().unwrap().split(' ').position(|name| name == "OutRsts").unwrap();
    lines.next().unwrap().split(' ').nth(at).unwrap().parse().unwrap()
}

/// Waits until every check of every real server has passed a few times more than until now.
fn all_up_again(director: &Director, what: &str) -> Stats {
    let all = |stats: &Stats| -> Vec<serde_json::Value> {
        let servers = [(0, Host::Web1), (0, Host::Web2), (1, Host::Web1), (1, Host::Web2)];
        servers.into_iter().flat_map(|(service, host)| checks(stats, service, host).to_vec()).collect()
    };
    let before = director.stats();
    wait_for(what, 30, || {
        let stats = director.stats();
        let good = all(&stats).iter().zip(all(&before)).all(|(now, before)| {
            let more = now["checks"].as_u64() > before["checks"].as_u64().map(|count| count + 3);
            more && now["last_good"] == true && now["state"] == "up"
        });
        good.then_some(stats)
    })
}

#[test]
fn a_server_without_the_vip_is_found_by_the_check_through_the_direct_routing_path_alone() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let _web = WebServer::pair(&lab, 80);
    let config = with_checks(&[
        "kind = \"tcp\"",
        "kind = \"http\"\nbody_contains = \"web\"",
        "kind = \"tcp\"\nvia = \"direct\"",
        "kind = \"http\"\nvia = \"direct\"\nbody_contains = \"web\"",
    ]);
    let director = Director::start(&lab, &config);
    let all_up_again = |what: &str| all_up_again(&director, what);
    all_up_again("all checks to pass, by IPv4 and IPv6");
    let stats = all_up_again("all checks to pass again");
    assert_eq!(checks(&stats, 1, Host::Web2)[3]["via"], "direct");
    assert_eq!(checks(&stats, 1, Host::Web2)[3]["last_result"], "HTTP status 200");

    for vip in ["192.168.88.15/32", "fd00:88::15/128"] {
        lab.ip(Host::Web1, &format!("address delete {vip} dev lo"));
    }
    wait_for_web1(&director, false);
    let stats = director.stats();
    for service in 0..2 {
        let states: Vec<&str> =
            checks(&stats, service, Host::Web1).iter().map(|check| check["state"].as_str().unwrap()).collect();
        assert_eq!(states[..2], ["up", "up"], "it is well at its own address");
        assert!(states[2..].contains(&"down"), "{states:?}");
    }
    let mut command = lab.command(Host::Director, pointsman());
    let health = command.args(["health", "--socket"]).arg(director.control_socket()).output().unwrap();
    let health = String::from_utf8(health.stdout).unwrap();
    assert!(health.contains("80 by direct routing: ") && health.contains("(is the VIP on its lo?)"), "{health}");
    for vip in [vip4(), vip6()] {
        for _ in 0..10 {
            assert_eq!(fetch(&lab, Host::Client, (vip, 80).into()).unwrap().0, "web2");
        }
    }
    for (vip, nodad) in [("192.168.88.15/32", ""), ("fd00:88::15/128", " nodad")] {
        lab.ip(Host::Web1, &format!("address add {vip} dev lo{nodad}"));
    }
    wait_for_web1(&director, true);
}

#[test]
fn the_directors_kernel_does_not_disturb_checks_by_direct_routing_and_nothing_is_left_of_them() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let _web = WebServer::pair(&lab, 80);
    // Not HTTP and no checks of addresses: what they close early the kernel rightly ends by RST.
    let director = Director::start(&lab, &with_checks(&["kind = \"tcp\"\nvia = \"direct\""]));
    let all_up_again = |what: &str| all_up_again(&director, what);
    let resets_before = resets(&lab);
    all_up_again("all checks to pass with the VIP an address of the director's kernel");
    // The kernel no longer takes the VIP for its own, so it would answer the replies with RST.
    lab.ip(Host::Director, "address delete 192.168.88.15/32 dev eth0");
    lab.ip(Host::Director, "address delete fd00:88::15/128 dev eth0");
    all_up_again("all checks to pass with the VIP nobody's on the director");
    // And the other way round: on lo, as LVS directors often have it.
    lab.ip(Host::Director, "address add 192.168.88.15/32 dev lo");
    all_up_again("all checks to pass with the VIP on the director's lo");
    assert_eq!(resets(&lab), resets_before, "the kernel has disturbed a check");

    // Of those of addresses nothing is left either.
    director.reload(&with_checks(&["kind = \"http\"", "kind = \"tcp\"", "kind = \"http\"\nvia = \"direct\""]));
    wait_for("the reload", 20, || (director.reloads() > 0).then_some(()));
    all_up_again("all of the new checks to pass");
    assert!(!director.end(Signal::SIGKILL).success());
    let left = lab.command(Host::Director, "ss").args(["-H", "-a", "-t", "-u", "-0", "-w", "-n"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "", "nothing is left behind");
}

/// All checks of all real servers of all services.
fn every_check(stats: &Stats) -> Vec<&serde_json::Value> {
    let services = stats.0["virtual_services"].as_array().unwrap().iter();
    let servers = services.flat_map(|service| service["real_servers"].as_array().unwrap());
    servers.flat_map(|server| server["health_checks"].as_array().unwrap()).collect()
}

#[test]
fn hundreds_of_checks_by_direct_routing_disturb_neither_each_other_nor_those_beside_them() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let _web = WebServer::pair(&lab, 80);
    let mut config = with_checks(&["kind = \"http\"\nport = 80", "kind = \"tcp\"\nvia = \"direct\"\nport = 80"]);
    config.services = (0..60)
        .flat_map(|number| config.services.iter().map(move |service| (number, service.clone())))
        .map(|(number, service)| lab::director::Service { port: 9000 + number, ..service })
        .collect();
    for table in &mut config.below_every_service {
        *table = table.replace("interval_ms = 100", "interval_ms = 500");
    }
    let director = Director::start(&lab, &config);
    let stats = wait_for("each check to be made a few times", 60, || {
        let stats = director.stats();
        every_check(&stats).iter().all(|check| check["checks"].as_u64() > Some(5)).then_some(stats)
    });
    let direct = every_check(&stats).into_iter().filter(|check| check["via"] == "direct");
    assert_eq!(direct.count(), 240);
    let bad: Vec<_> = every_check(&stats).into_iter().filter(|check| check["failures"] != 0).collect();
    assert!(bad.is_empty(), "{} of well servers failed, one of them: {:#}", bad.len(), bad[0]);
    assert!(!director.log().contains("down: "), "{}", director.log());
    // One for each family, whatever the number of checks.
    let sockets =
        || String::from_utf8(lab.command(Host::Director, "ss").args(["-H", "-0", "-n"]).output().unwrap().stdout);
    assert_eq!(sockets().unwrap().lines().count(), 2, "{:?}", sockets());

    // Nobody needs them any more.
    director.reload(&with_checks(&["kind = \"icmp\""]));
    wait_for("the sockets to be closed", 20, || sockets().unwrap().is_empty().then_some(()));
    assert!(director.end(Signal::SIGTERM).success());
}

#[test]
fn a_server_without_the_vip_that_forwards_does_not_pass_the_question_on_to_another() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let _web = WebServer::pair(&lab, 80);
    for setting in ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"] {
        assert!(lab.command(Host::Web1, "sysctl").args(["-q", "-w", setting]).status().unwrap().success());
    }
    // web1 would send it back to the director, which would mostly give it to web2.
    let config = with_checks(&["kind = \"tcp\"\nvia = \"direct\""]).weights([1, 9]);
    let director = Director::start(&lab, &config);
    all_up_again(&director, "all checks to pass");
    for vip in ["192.168.88.15/32", "fd00:88::15/128"] {
        lab.ip(Host::Web1, &format!("address delete {vip} dev lo"));
    }
    wait_for_web1(&director, false);
    let count =
        |stats: &Stats, what: &str| [0, 1].map(|service| checks(stats, service, Host::Web1)[0][what].as_u64().unwrap());
    let before = director.stats();
    let after = wait_for("more questions", 60, || {
        let stats = director.stats();
        let asked = count(&stats, "checks");
        asked.iter().zip(count(&before, "checks")).all(|(now, before)| *now > before + 8).then_some(stats)
    });
    for service in 0..2 {
        let more = |what| count(&after, what)[service] - count(&before, what)[service];
        assert_eq!(more("checks"), more("failures"), "{:#}", checks(&after, service, Host::Web1)[0]);
        assert_eq!(checks(&after, service, Host::Web2)[0]["state"], "up");
    }
}

#[test]
fn commands_inherit_nothing_of_the_director() {
    let Some(lab) = Lab::up(Shape { queues: 2, ..Shape::default() }) else { return };
    let list = ["/bin/sh", "-c", "echo $(ls /proc/self/fd)"];
    // What this test was itself given to inherit is not the director's.
    let mut command = lab.command(Host::Director, list[0]);
    let inherited = command.args(&list[1..]).stdin(Stdio::null()).output().unwrap();
    let inherited = String::from_utf8(inherited.stdout).unwrap();
    let director = Director::start(&lab, &with_checks(&[&format!("kind = \"command\"\ncommand = {list:?}")]));
    let said = wait_for("a command to have run", 20, || {
        checks(&director.stats(), 0, Host::Web1)[0]["last_result"].as_str().map(str::to_owned)
    });
    assert_eq!(said, format!("exit status 0: {}", inherited.trim()));
}

#[test]
fn a_udp_check_finds_that_the_host_is_gone_though_no_answer_is_expected_and_its_mac_is_configured() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    // They hear the question and say nothing.
    let _silent = [Host::Web1, Host::Web2].map(|host| lab.on(host, || UdpSocket::bind((Ipv6Addr::UNSPECIFIED, PORT))));
    let mut config = with_checks(&[&format!("kind = \"udp\"\nport = {PORT}\nsend = \"are you there\"")]);
    for service in &mut config.services {
        for (server, host) in service.real_servers.iter_mut().zip([Host::Web1, Host::Web2]) {
            server.mac = Some(host.mac());
        }
    }
    let director = Director::start(&lab, &config);
    all_up_again(&director, "all checks to pass in silence");
    lab.ip(Host::Web1, "link set eth0 down");
    // The kernel would find out by itself, within a minute or so.
    for address in [Host::Web1.ipv4(), Host::Web1.ipv6()] {
        lab.ip(Host::Director, &format!("neighbour del {address} dev eth0"));
    }
    wait_for_web1(&director, false);
    assert_eq!(server(&director.stats(), 0, Host::Web2)["alive"], true);
}

#[test]
fn the_fallback_server_serves_while_no_other_does() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let _web = WebServer::pair(&lab, 80);
    let status = Arc::new(AtomicU16::new(200));
    let _asked = Asked::tcp(&lab, Host::Web1, &status, None);
    let mut config = with_checks(&[&format!("kind = \"http\"\nport = {PORT}")]);
    config.services.truncate(1);
    config.services[0].real_servers.truncate(1);
    let without = config.clone();
    config.below_every_service.push(format!("[virtual_service.fallback]\naddress = \"{}\"", Host::Web2.ipv4()));
    let director = Director::start(&lab, &config);
    let who = || fetch(&lab, Host::Client, (vip4(), 80).into()).unwrap().0;
    let is_alive = |alive: bool| {
        wait_for("web1 to change", 20, || (server(&director.stats(), 0, Host::Web1)["alive"] == alive).then_some(()));
    };
    assert_eq!(who(), "web1");
    let health = || {
        let mut command = lab.command(Host::Director, pointsman());
        let output = command.args(["health", "--socket"]).arg(director.control_socket()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(health().contains("fallback, standby") && !health().contains("draining"), "{}", health());
    status.store(500, Ordering::Relaxed);
    is_alive(false);
    assert!(health().contains("fallback, in use") && health().contains("the fallback server does"), "{}", health());
    assert!(health().contains(&format!("health check http {PORT}: HTTP status 500")), "{}", health());
    assert_eq!(director.stats().0["virtual_services"][0]["has_quorum"], false);
    assert_eq!(server(&director.stats(), 0, Host::Web2)["fallback"], true);
    (0..10).for_each(|_| assert_eq!(who(), "web2"));
    status.store(200, Ordering::Relaxed);
    is_alive(true);
    (0..10).for_each(|_| assert_eq!(who(), "web1"));

    // Without one its frames are dropped and counted.
    director.reload(&without);
    wait_for("the reload", 20, || (director.reloads() > 0).then_some(()));
    status.store(500, Ordering::Relaxed);
    is_alive(false);
    lab.on(Host::Client, || {
        let short = Duration::from_millis(200);
        std::net::TcpStream::connect_timeout(&(vip4(), 80).into(), short).unwrap_err();
    });
    let stats = director.quiet_stats();
    assert_ne!(stats.0["totals"]["drops"]["no_real_server"], 0);
    stats.assert_identity();
}
