//! Who answers for the VIPs, in real networks: the director itself, on machines whose kernels do not have the VIPs, and two
//! directors that hand them over. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test fails by panicking")]

mod lab;

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use lab::director::{Config, Director, pointsman};
use lab::frame::{Envelope, Mac};
use lab::http::{Connection, WebServer, fetch};
use lab::raw_socket::RawSocket;
use lab::vips::{announce, by_arp, neighbor, ping, pings, vip_status, without_vips};
use lab::{Host, Shape, vip4, vip6, wait_for};
use nix::sys::signal::Signal;
use serde_json::Value;

const PATIENT: Duration = Duration::from_secs(2);

fn servers() -> [SocketAddr; 2] {
    [(vip4(), 80).into(), (vip6(), 80).into()]
}

/// Has a host forget what it knows of the segment.
fn forget(lab: &lab::Lab, host: Host) {
    lab.ip(host, "neighbour flush dev eth0");
}

#[test]
fn a_vip_that_no_kernel_has_is_answered_for_until_it_is_released() {
    let Some(lab) = without_vips(Shape::default()) else { return };
    let _servers = WebServer::pair(&lab, 80);
    let director = Director::start(&lab, &by_arp());
    for vip in [vip4(), vip6()] {
        assert!(!lab.ip(Host::Director, "address show").contains(&vip.to_string()));
        for from in [Host::Client, Host::Remote] {
            let url = format!("http://{}/", SocketAddr::new(vip, 80));
            let curl = lab.command(from, "curl").args(["-sS", "-g", "--max-time", "5", &url]).output().unwrap();
            assert!(curl.status.success(), "{from:?} {vip}: {curl:?}");
            assert!(pings(&lab, from, vip), "{from:?} pings {vip}");
        }
        assert_eq!(neighbor(&lab, Host::Client, vip), Some(Host::Director.mac().to_string()));
        // A large one and none at all, and many.
        for size in ["1400", "0"] {
            let output = ping(&lab, Host::Client, vip, &["-c", "1", "-W", "2", "-s", size]);
            assert!(output.status.success(), "{size} bytes: {output:?}");
        }
        let status = vip_status(&lab, &director, vip);
        assert_eq!((&status["state"], &status["conflicts"]), (&"active".into(), &0.into()), "{status:#}");
        assert!(status["answers"].as_u64() >= Some(1) && status["echo_replies"].as_u64() >= Some(4), "{status:#}");
    }

    let released = announce(&lab, &director, &["release"]);
    assert!(released.status.success(), "{released:?}");
    for vip in [vip4(), vip6()] {
        wait_for("the release", 5, || (vip_status(&lab, &director, vip)["state"] == "standby").then_some(()));
        forget(&lab, Host::Client);
        assert!(!pings(&lab, Host::Client, vip), "{vip} is released, and nobody else has it");
        assert_ne!(neighbor(&lab, Host::Client, vip), Some(Host::Director.mac().to_string()));
    }
    // One alone.
    assert!(announce(&lab, &director, &["take", &vip6().to_string()]).status.success());
    wait_for("the VIP to be answered for", 5, || pings(&lab, Host::Client, vip6()).then_some(()));
    assert!(!pings(&lab, Host::Client, vip4()));
    let unknown = announce(&lab, &director, &["take", "192.168.88.16"]);
    assert_eq!(unknown.status.code(), Some(1));
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(said.contains("192.168.88.16 is no VIP with announce = \"arp\""), "{said}");

    // A reload gives the VIPs to the kernel, which does not have them.
    director.reload(&Config::usual());
    wait_for("the reload", 10, || (director.reloads() == 1).then_some(()));
    let log = director.log();
    assert!(log.contains("ip address add 192.168.88.15/32 dev eth0"), "{log}");
    forget(&lab, Host::Client);
    assert!(!pings(&lab, Host::Client, vip6()));
}

#[test]
fn what_a_killed_director_took_in_goes_with_it() {
    let Some(lab) = without_vips(Shape::default()) else { return };
    let mut config = by_arp();
    config.interfaces[0].settings.push("virtual_macs = [\"02:00:5e:00:01:58\"]".to_owned());
    let groups =
        || lab.on(Host::Director, || fs::read_to_string("/proc/thread-self/net/igmp6").unwrap()).contains("ff000015");
    let sockets =
        || lab.on(Host::Director, || fs::read_to_string("/proc/thread-self/net/packet").unwrap()).lines().count();
    let before = (groups(), sockets());
    assert!(!before.0);
    let director = Director::start(&lab, &config);
    wait_for("the kernel to have joined the group of the VIP", 5, || groups().then_some(()));
    for vip in [vip4(), vip6()] {
        wait_for("the VIP", 5, || pings(&lab, Host::Client, vip).then_some(()));
        // veth takes in all frames; that the answer names the virtual address is what shows here.
        assert_eq!(neighbor(&lab, Host::Client, vip).as_deref(), Some("02:00:5e:00:01:58"));
    }
    let _servers = WebServer::pair(&lab, 80);
    for server in servers() {
        fetch(&lab, Host::Client, server).unwrap();
    }
    director.end(Signal::SIGKILL);
    wait_for("nothing to be left", 5, || ((groups(), sockets()) == before).then_some(()));
    forget(&lab, Host::Client);
    assert!(!pings(&lab, Host::Client, vip4()));
}

#[test]
fn a_take_over_turns_all_clients_to_the_other_director_at_once() {
    let Some(lab) = without_vips(Shape { standby: true, ..Shape::default() }) else { return };
    let _servers = WebServer::pair(&lab, 80);
    let first = Director::start(&lab, &by_arp());
    let second = Director::start_on(&lab, Host::Standby, &by_arp().director("announce_at_start = false"));
    for vip in [vip4(), vip6()] {
        wait_for("the first director to answer", 5, || pings(&lab, Host::Client, vip).then_some(()));
        assert_eq!(neighbor(&lab, Host::Client, vip), Some(Host::Director.mac().to_string()));
        assert_eq!(vip_status(&lab, &second, vip)["state"], "standby");
    }
    let mut connections = Vec::new();
    for server in servers() {
        for _ in 0..8 {
            let mut connection = lab.on(Host::Remote, || Connection::open(server)).unwrap();
            let name = connection.get().unwrap().0;
            connections.push((connection, name));
        }
    }

    assert!(announce(&lab, &first, &["release"]).status.success());
    assert!(announce(&lab, &second, &["take"]).status.success());
    for vip in [vip4(), vip6()] {
        // Nobody asks: the announcement alone changes what the client and the router believe.
        for host in [Host::Client, Host::Gateway] {
            let known = || neighbor(&lab, host, vip).is_none_or(|mac| mac == Host::Standby.mac().to_string());
            wait_for("everybody to know the new place", 5, || known().then_some(()));
        }
        assert_eq!(neighbor(&lab, Host::Client, vip), Some(Host::Standby.mac().to_string()));
    }
    let before = second.quiet_stats();
    for (connection, name) in &mut connections {
        assert_eq!(&connection.get().unwrap().0, name, "a flow stays with its real server");
    }
    assert!(second.quiet_stats().tx() > before.tx(), "the other director forwards");
    for vip in [vip4(), vip6()] {
        assert_eq!(vip_status(&lab, &first, vip)["conflicts"], 0, "handed over in order");
    }

    // Both: the one that hears the other says so, and defends.
    assert!(announce(&lab, &first, &["take"]).status.success());
    for vip in [vip4(), vip6()] {
        wait_for("the conflict to be seen", 5, || {
            (vip_status(&lab, &second, vip)["conflicts"].as_u64() > Some(0)).then_some(())
        });
        let last = &vip_status(&lab, &second, vip)["last_conflict"];
        assert_eq!(last["mac"], Host::Director.mac().to_string(), "{last:#}");
    }
    assert!(second.log().contains("another machine says that it has the VIP, too"), "{}", second.log());
}

#[test]
fn announcements_follow_the_link_and_others_that_would_take_the_vip_are_told() {
    let Some(lab) = without_vips(Shape::default()) else { return };
    let director = Director::start(&lab, &by_arp());
    let socket = RawSocket::open(&lab, Host::Client, "eth0");
    let is_gratuitous = |frame: &[u8], mac: Mac| {
        let v4 = frame.get(12..14) == Some(&[8, 6][..]) && frame.get(28..32) == frame.get(38..42);
        let v6 = frame.get(20) == Some(&58) && frame.get(54) == Some(&136) && frame[..2] == [0x33, 0x33];
        (v4 || v6) && lab::frame::source(frame) == mac
    };
    let both = |mac: Mac| {
        for v4 in [true, false] {
            let wanted = |frame: &[u8]| is_gratuitous(frame, mac) && (frame[12] == 8) == v4;
            socket.receive(Duration::from_secs(5), wanted).unwrap_or_else(|| panic!("IPv4 {v4} is announced by {mac}"));
        }
    };
    both(Host::Director.mac());
    // Let the repeats pass.
    while socket.receive(Duration::from_secs(8), |frame| is_gratuitous(frame, Host::Director.mac())).is_some() {}
    lab.ip(Host::Director, "link set eth0 down");
    wait_for("the link to be down", 5, || director.log().contains("the link is down").then_some(()));
    lab.ip(Host::Director, "link set eth0 up");
    both(Host::Director.mac());
    let new = Mac([2, 0, 0, 0, 0, 0x22]);
    lab.ip(Host::Director, &format!("link set eth0 address {new}"));
    both(new);

    // An ARP Probe (RFC 5227), as one who would take the VIP sends it.
    let mut probe = vec![0, 1, 8, 0, 6, 4, 0, 1];
    probe.extend(Host::Client.mac().0);
    probe.extend([0; 10]);
    probe.extend([192, 168, 88, 15]);
    let envelope = Envelope { destination: Mac([0xff; 6]), source: Host::Client.mac(), tags: &[] };
    socket.send(&envelope.wrap(0x0806, &probe));
    let reply = socket.receive(PATIENT, |frame| frame[12..14] == [8, 6] && frame[21] == 2).expect("an answer");
    assert_eq!((lab::frame::source(&reply), lab::frame::destination(&reply)), (new, Host::Client.mac()));
    let tagged = Envelope { tags: &[lab::frame::Tag { tpid: 0x8100, vlan: 7 }], ..envelope };
    socket.send(&tagged.wrap(0x0806, &probe));
    let answer = socket.receive(Duration::from_millis(300), |frame| frame[12..14] == [8, 6] && frame[21] == 2);
    assert_eq!(answer, None, "nothing is said in a VLAN that the director is not in");
    assert_eq!(vip_status(&lab, &director, vip4())["probes"], 1);
    // An announcement alone would do it: let the repeats pass.
    while socket.receive(Duration::from_secs(8), |frame| is_gratuitous(frame, new)).is_some() {}
    // The kernel's own detection of duplicates finds the VIP taken.
    lab.on(Host::Client, || fs::write("/proc/sys/net/ipv6/conf/eth0/accept_dad", "1")).unwrap();
    lab.ip(Host::Client, "address add fd00:88::15/128 dev eth0");
    wait_for("the kernel to see that the VIP is taken", 10, || {
        lab.ip(Host::Client, "address show dev eth0").contains("dadfailed").then_some(())
    });
    assert!(vip_status(&lab, &director, vip6())["probes"].as_u64() >= Some(1));
}

/// A kernel that forwards would pass pings for a VIP that it does not have on to the segment.
#[test]
fn a_kernel_that_forwards_is_kept_from_a_vip_by_a_blackhole_route() {
    let Some(lab) = without_vips(Shape::default()) else { return };
    let director = Director::start(&lab, &by_arp());
    lab.on(Host::Director, || fs::write("/proc/sys/net/ipv4/ip_forward", "1")).unwrap();
    let doctor = || {
        let mut command = lab.command(Host::Director, pointsman());
        let output = command.args(["doctor", "--json", "--config"]).arg(director.config_file()).output().unwrap();
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        let findings = document["findings"].as_array().unwrap().clone();
        let found = findings.into_iter().find(|f| f["id"] == "vip_forwarded" && f["subject"] == vip4().to_string());
        found.unwrap_or_else(|| panic!("{document:#}"))
    };
    let is_error = |frame: &[u8]| frame[12..14] == [8, 0] && frame[23] == 1 && matches!(frame[34], 3 | 5);
    let heard = RawSocket::open(&lab, Host::Client, "eth0");
    wait_for("the VIP", 5, || pings(&lab, Host::Client, vip4()).then_some(()));
    heard.receive(Duration::from_secs(10), is_error).expect("an ICMP error besides the answer");
    heard.drain(Duration::from_secs(4), is_error);
    let finding = doctor();
    assert_eq!(finding["severity"], "warning", "{finding:#}");
    let mend = "ip route add blackhole 192.168.88.15/32";
    assert!(finding["mend"].as_array().unwrap().contains(&mend.into()), "{finding:#}");
    lab.ip(Host::Director, mend.strip_prefix("ip ").unwrap());
    assert_eq!(doctor()["severity"], "ok");
    assert!(pings(&lab, Host::Client, vip4()));
    let errors = heard.drain(Duration::from_secs(4), is_error);
    assert_eq!(errors, Vec::<Vec<u8>>::new(), "no ICMP error and no redirect");
}
