//! `pointsman capture` beside a director in a real network, and tcpdump as the one who reads what it writes.
//!
//! The network is that of `scripts/lab`. These tests need root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod lab;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use lab::director::{Config, Director, pointsman};
use lab::frame::{Envelope, Mac};
use lab::http::{Load, WebServer};
use lab::raw_socket::RawSocket;
use lab::{Host, Lab, Shape, read_to_string, vip4, wait_for};

const LOAD: Load = Load { connections: 20, requests_per_connection: 2, at_once: 2, pause: Duration::ZERO };

/// A capture that runs until it is told to end.
struct Running(Child);

impl Running {
    fn start(director: &Director, file: &Path, arguments: &[&str]) -> Self {
        let mut child = Command::new(pointsman())
            .args(["capture", "--socket"])
            .arg(director.control_socket())
            .arg("-w")
            .arg(file)
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // The head of the file is there as soon as the director captures.
        wait_for("the capture to begin", 10, || {
            assert_eq!(child.try_wait().unwrap(), None, "the capture ended early");
            fs::metadata(file).is_ok_and(|file| file.len() > 0).then_some(())
        });
        Self(child)
    }

    /// As by Ctrl-C. Returns what it said.
    fn interrupt(mut self) -> String {
        kill(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), Signal::SIGINT).unwrap();
        let status = wait_for("the capture to end", 10, || self.0.try_wait().unwrap());
        let said = read_to_string(self.0.stderr.take().unwrap());
        assert!(status.success(), "{said}");
        said
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What tcpdump reads: a line for each frame, with MAC addresses.
fn tcpdump(file: &Path, expression: &str) -> Vec<String> {
    let Output { status, stdout, stderr } = Command::new("tcpdump")
        .args(["-n", "-e", "-tttt", "-r"])
        .arg(file)
        .args(expression.split_whitespace())
        .output()
        .expect("tcpdump is installed (scripts/install-deps)");
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn tcpdump_reads_every_frame_that_was_forwarded() {
    let Some(lab) = Lab::up(Shape { queues: 2, ..Shape::default() }) else { return };
    let _servers = WebServer::pair(&lab, 80);
    let director = Director::start(&lab, &Config::usual());
    let file = lab.scratch().join("all.pcapng");
    let before = director.quiet_stats().received();
    let capture = Running::start(&director, &file, &[]);

    let outcome = LOAD.run(&lab, Host::Client, (vip4(), 80).into(), None);
    assert_eq!(outcome.failed, 0, "{outcome:#?}");
    let stats = director.quiet_stats();
    stats.assert_identity();
    let said = capture.interrupt();

    let received = stats.received() - before;
    let lines = tcpdump(&file, "");
    assert_eq!(lines.len() as u64, received, "{said}");
    assert!(said.contains(&format!("{received} frames captured")), "{said}");
    assert!(said.contains("0 frames lost"), "{said}");
    // As they left: from the director's MAC to a real server's.
    let director_mac = format!(" {} > ", Host::Director.mac());
    assert!(lines.iter().all(|line| line.contains(&director_mac)), "{lines:#?}");
    for server in [Host::Web1, Host::Web2] {
        let to_it = lines.iter().filter(|line| line.contains(&format!(" > {}, ", server.mac()))).count() as u64;
        assert_eq!(to_it, stats.tx_to(server.ipv4()), "{server:?}");
    }
    let syns = tcpdump(&file, "tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn and dst port 80");
    assert!(syns.len() >= 20, "a connection begins with a SYN: {syns:#?}");
    // Times are those of the wall clock.
    let year = Command::new("date").arg("+%Y-%m-%d").output().unwrap();
    let today = String::from_utf8(year.stdout).unwrap();
    assert!(lines.iter().any(|line| line.starts_with(today.trim())), "{today} {:?}", lines.first());
}

#[test]
fn drops_alone_and_one_real_server_alone() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let _servers = WebServer::pair(&lab, 80);
    let director = Director::start(&lab, &Config::usual());
    let client = RawSocket::open(&lab, Host::Client, "eth0");
    let envelope = Envelope { destination: Host::Director.mac(), source: Mac([2, 0, 0, 0, 0, 0x77]), tags: &[] };
    let runt = envelope.ip(Host::Client.ipv4(), vip4(), 6, &[0x0f, 0xa0, 0, 80]);

    let drops = lab.scratch().join("drops.pcapng");
    let capture = Running::start(&director, &drops, &["--verdict", "drop"]);
    for _ in 0..5 {
        client.send(&runt);
    }
    assert_eq!(LOAD.run(&lab, Host::Client, (vip4(), 80).into(), None).failed, 0);
    wait_for("the drops", 10, || (director.stats().drops_for("malformed_l4") == 5).then_some(()));
    let said = capture.interrupt();
    let lines = tcpdump(&drops, "");
    assert_eq!(lines.len(), 5, "{said} {lines:#?}");
    assert!(lines.iter().all(|line| line.contains("02:00:00:00:00:77 > ")), "as they came: {lines:#?}");
    let bytes = fs::read(&drops).unwrap();
    let comment = b"drop malformed_l4, service tcp 192.168.88.15:80, queue 0, worker 0";
    assert_eq!(bytes.windows(comment.len()).filter(|window| window == comment).count(), 5, "in the comments");

    let web1 = lab.scratch().join("web1.pcapng");
    let address = Host::Web1.ipv4().to_string();
    let before = director.quiet_stats().tx_to(Host::Web1.ipv4());
    let capture = Running::start(&director, &web1, &["--real-server", &address, "-s", "64"]);
    assert_eq!(LOAD.run(&lab, Host::Client, (vip4(), 80).into(), None).failed, 0);
    let sent = director.quiet_stats().tx_to(Host::Web1.ipv4()) - before;
    capture.interrupt();
    let lines = tcpdump(&web1, "");
    assert_eq!(lines.len() as u64, sent);
    let to_web1 = format!(" > {}, ", Host::Web1.mac());
    assert!(lines.iter().all(|line| line.contains(&to_web1)), "{lines:#?}");
}

/// A pipe that nobody reads, as a Wireshark that hangs.
#[test]
fn forwarding_goes_on_beside_a_reader_that_stalls() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let _servers = WebServer::pair(&lab, 80);
    let director = Director::start(&lab, &Config::usual());
    let mut stalled = Command::new(pointsman())
        .args(["capture", "-w", "-", "--socket"])
        .arg(director.control_socket())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("the capture to begin", 10, || director.log().contains("a capture of frames begins").then_some(()));
    let long = Load { connections: 400, requests_per_connection: 20, at_once: 4, pause: Duration::ZERO };
    let outcome = long.run(&lab, Host::Client, (vip4(), 80).into(), None);
    assert_eq!(outcome.failed, 0, "{outcome:#?}");
    let stats = director.quiet_stats();
    stats.assert_identity();
    assert_eq!(stats.dropped(), 0, "{:#}", stats.0);

    // It reads again: what is left comes, and the counts with it.
    kill(Pid::from_raw(i32::try_from(stalled.id()).unwrap()), Signal::SIGINT).unwrap();
    let file = lab.scratch().join("stalled.pcapng");
    std::io::copy(&mut stalled.stdout.take().unwrap(), &mut fs::File::create(&file).unwrap()).unwrap();
    let said = read_to_string(stalled.stderr.take().unwrap());
    assert!(stalled.wait().unwrap().success(), "{said}");
    let captured = tcpdump(&file, "").len() as u64;
    assert!(captured > 0 && captured < stats.received(), "{captured} of {}: {said}", stats.received());
    assert!(!said.contains("\n0 frames lost"), "{said}");
}
