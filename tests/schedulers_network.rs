//! Schedulers and persistence with real connections, in a network of namespaces.
//!
//! The network is that of `scripts/lab`. These tests need root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod lab;

use std::net::SocketAddr;

use lab::director::{Config, Director};
use lab::http::{Connection, WebServer, fetch};
use lab::{Host, Lab, Shape, vip4, vip6, wait_for};

fn servers() -> [SocketAddr; 2] {
    [(vip4(), 80).into(), (vip6(), 80).into()]
}

/// web1 and then web2, as `ipvsadm -a` would be called, with weights 1 and 2; one worker for both queues.
fn scheduled_by(settings: &[&str]) -> Config {
    let mut config = Config::usual();
    config.interfaces[0].settings.push("cores = [0]".to_owned());
    for service in &mut config.services {
        service.settings.extend(settings.iter().map(|line| (*line).to_owned()));
    }
    config
}

fn reload(director: &Director, config: &Config) {
    let before = director.reloads();
    director.reload(config);
    wait_for("the reload to be applied", 20, || (director.reloads() > before).then_some(()));
}

/// Who answers so many requests, each by a connection of its own, one after the other.
fn answers(lab: &Lab, server: SocketAddr, count: usize) -> Vec<String> {
    (0..count).map(|_| fetch(lab, Host::Client, server).unwrap().0).collect()
}

fn connections(director: &Director, service: usize, real_server: usize) -> (u64, u64, u64) {
    let stats = director.stats();
    let of = &stats.0["virtual_services"][service]["real_servers"][real_server]["connections"];
    let number = |name: &str| of[name].as_u64().unwrap();
    (number("active"), number("inactive"), number("persistent"))
}

#[test]
fn connections_take_turns_as_in_ipvs_and_go_to_who_is_idle() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let _servers = WebServer::pair(&lab, 80);
    let director = Director::start(&lab, &scheduled_by(&["scheduler = \"rr\""]));
    for server in servers() {
        assert_eq!(answers(&lab, server, 6), ["web2", "web1", "web2", "web1", "web2", "web1"], "rr, {server}");
    }
    // The last one that was added comes first in IPVS's list.
    reload(&director, &scheduled_by(&["scheduler = \"wrr\""]));
    for server in servers() {
        let expected = ["web2", "web1", "web2"].repeat(3);
        assert_eq!(answers(&lab, server, 9), expected, "wrr, {server}");
    }
    reload(&director, &scheduled_by(&["scheduler = \"lc\""]).weights([1, 0]));
    for server in servers() {
        let mut open: Vec<Connection> =
            lab.on(Host::Client, || (0..5).map(|_| Connection::open(server).unwrap()).collect());
        assert!(open.iter_mut().all(|connection| connection.get().unwrap().0 == "web1"));
        reload(&director, &scheduled_by(&["scheduler = \"lc\""]));
        let service = if server.is_ipv4() { 0 } else { 2 };
        wait_for("five connections", 20, || (connections(&director, service, 0).0 >= 5).then_some(()));
        assert_eq!(answers(&lab, server, 10), ["web2"; 10], "lc, {server}");
        reload(&director, &scheduled_by(&["scheduler = \"lc\""]).weights([1, 0]));
    }
    let stats = director.quiet_stats();
    assert_eq!(stats.dropped(), 0, "{:#}", stats.0);
    stats.assert_identity();
}

#[test]
fn a_client_stays_with_its_real_server_until_the_timeout() {
    const TIMEOUT_S: u64 = 3;
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let _servers = WebServer::pair(&lab, 80);
    let settings = ["scheduler = \"rr\"", "persistence_timeout_s = 3"];
    let director = Director::start(&lab, &scheduled_by(&settings));
    for (server, service) in servers().into_iter().zip([0, 2]) {
        assert_eq!(answers(&lab, server, 5), ["web2"; 5], "{server}");
        assert_eq!(connections(&director, service, 1).2, 1);
        // Draining keeps those that it has.
        reload(&director, &scheduled_by(&settings).weights([1, 0]));
        assert_eq!(answers(&lab, server, 3), ["web2"; 3], "{server}");
        // Forgotten: the expired template is not counted any more.
        std::thread::sleep(std::time::Duration::from_secs(TIMEOUT_S + 1));
        assert_eq!(answers(&lab, server, 3), ["web1"; 3], "{server}");
        reload(&director, &scheduled_by(&settings));
    }
}
