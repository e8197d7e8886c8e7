//! `pointsman gen` -> `pointsman run` -> `pointsman sink` in a real network: what was sent arrives, and the director and
//! those outside of it count the same.
//!
//! The network is that of `scripts/lab`. These tests need root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod lab;

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use lab::director::{Config, Director, pointsman};
use lab::frame::{Envelope, Mac, Tag};
use lab::{Host, Lab, Shape, privileged, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pointsman::generator::report::{Document, GeneratorReport, SinkReport};
use pointsman::wire::MacAddress;
use pointsman::xdp::{MarkProgram, XdpAction};

/// Two real servers that are addresses only: the switch sends what is for them to web1, where the sink is.
const SERVERS: [(Host, Mac); 2] = [(Host::Web1, Mac([2, 0, 0, 0, 0x51, 1])), (Host::Web2, Mac([2, 0, 0, 0, 0x51, 2]))];

/// Well below what the slowest machine forwards: nothing may be lost.
const GENTLY: [&str; 2] = ["--rate", "5k"];

fn network() -> Option<(Lab, Config)> {
    let lab = Lab::up(Shape::default())?;
    for (_, mac) in SERVERS {
        let mut bridge = lab.command(Host::Switch, "bridge");
        let output = bridge.args(["fdb", "add", &mac.to_string(), "dev", "web1", "master", "static"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let mut config = Config::usual();
    for service in &mut config.services {
        for (server, (_, mac)) in service.real_servers.iter_mut().zip(SERVERS) {
            server.mac = Some(mac);
        }
    }
    Some((lab, config))
}

/// `pointsman sink` at web1.
struct Sink {
    process: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Sink {
    fn start(lab: &Lab, arguments: &[&str]) -> Sink {
        let (stdout, stderr) = (lab.scratch().join("sink.json"), lab.scratch().join("sink.log"));
        let process = lab
            .command(Host::Web1, pointsman())
            .args(["sink", "--interface", "eth0", "--json"])
            .args(arguments)
            .stdout(File::create(&stdout).unwrap())
            .stderr(File::create(&stderr).unwrap())
            .spawn()
            .unwrap();
        let mut sink = Sink { process, stdout, stderr };
        wait_for("the sink to be ready", 10, || {
            let log = fs::read_to_string(&sink.stderr).unwrap();
            assert!(sink.process.try_wait().unwrap().is_none(), "the sink ended: {log}");
            log.contains("ready").then_some(())
        });
        sink
    }

    /// Its exit code and document, once it has ended.
    fn end(mut self) -> (i32, SinkReport) {
        let status = wait_for("the sink to end", 20, || self.process.try_wait().unwrap());
        let log = fs::read_to_string(&self.stderr).unwrap();
        let text = fs::read_to_string(&self.stdout).unwrap();
        match document(&text) {
            Ok(Document::Sink(report)) => (status.code().unwrap(), report),
            other => panic!("{other:?}: {text}\n{log}"),
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn generator(lab: &Lab, arguments: &[&str]) -> Command {
    let mut command = lab.command(Host::Client, pointsman());
    command.args(["gen", "--interface", "eth0", "--json"]).args(arguments);
    command
}

/// Reads a document, which must fit the schema.
fn document(text: &str) -> serde_json::Result<Document> {
    let schema = serde_json::from_str(&fs::read_to_string("docs/generator.schema.json").unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let value = serde_json::from_str(text)?;
    let errors: Vec<String> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}: {text}");
    serde_json::from_value(value)
}

fn sent(output: &Output) -> GeneratorReport {
    assert!(output.status.success(), "{output:?}");
    match document(&String::from_utf8_lossy(&output.stdout)) {
        Ok(Document::Generator(report)) => report,
        other => panic!("{other:?}"),
    }
}

fn listed() -> Vec<String> {
    SERVERS.iter().flat_map(|(host, mac)| ["--real-server".to_owned(), format!("{mac}={}", host.name())]).collect()
}

#[test]
fn what_is_sent_arrives_and_the_director_counts_what_those_outside_count() {
    let Some((lab, config)) = network() else { return };
    let director = Director::start(&lab, &config);
    let servers = listed();
    let expectations: Vec<&str> = servers.iter().map(String::as_str).chain(["--quiet", "2"]).collect();
    let sink = Sink::start(&lab, &expectations);

    let services = ["--service", "udp 192.168.88.15:80", "--service", "tcp [fd00:88::15]:80"];
    let load = ["--flows", "700", "--order", "shuffled", "--size", "imix", "--count", "10000"];
    let sent = sent(&generator(&lab, &[&services[..], &load, &GENTLY].concat()).output().unwrap());
    let (code, received) = sink.end();

    assert_eq!((sent.sent.packets, sent.unsent), (10_000, 0), "{sent:#?}");
    assert_eq!(sent.destination_mac.to_string(), Host::Director.mac().to_string(), "it was asked for");
    let stats = director.quiet_stats();
    assert_eq!(code, 0, "{received:#?}\n{:#}", stats.0);
    assert!(received.sound, "{received:#?}");
    assert_eq!((received.verdicts.flows, received.verdicts.received), (700, sent.sent));

    // The same by the director's own counters: in all, and for each real server.
    stats.assert_identity();
    assert_eq!((stats.received(), stats.tx()), (10_000, 10_000), "{:#}", stats.0);
    for (server, (host, mac)) in received.real_servers.iter().zip(SERVERS) {
        assert_eq!(server.mac, MacAddress::new(mac.0));
        let inside = stats.tx_to(host.ipv4()) + stats.tx_to(host.ipv6());
        assert_eq!(server.received.packets, inside, "{}: {received:#?}\n{:#}", host.name(), stats.0);
        assert!(server.flows > 100, "both get a share: {received:#?}");
    }
    assert_eq!(received.real_servers.len(), 2, "{received:#?}");
    let bytes: u64 = stats.0["totals"]["tx"]["bytes"].as_u64().unwrap();
    assert_eq!(received.verdicts.received.bytes, bytes);

    // Every frame was timed, inside and outside, and the way through the director is a part of the whole way.
    assert_eq!((stats.latency_count(), received.latency.count, received.unstamped), (10_000, 10_000, 0));
    let inside = &stats.0["totals"]["latency"];
    for (percentile, outside) in [("p50", received.latency.p50), ("p99", received.latency.p99)] {
        let (inside, outside) = (inside[percentile].as_u64().unwrap(), outside.unwrap());
        assert!(inside <= outside, "{percentile}: {inside} ns inside, {outside} ns outside");
    }
}

#[test]
fn a_sink_says_what_is_wrong_and_both_end_by_a_signal() {
    let Some((lab, config)) = network() else { return };
    let director = Director::start(&lab, &config);
    // Only the first of two real servers is right.
    let (_, right) = SERVERS[0];
    let sink = Sink::start(&lab, &["--real-server", &right.to_string()]);
    let generator = generator(&lab, &[&["--service", "udp 192.168.88.15:80", "--progress"][..], &GENTLY].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("frames to pass", 10, || (director.stats().tx() >= 1_000).then_some(()));
    // New flows go to the other one: each of the first one's moves.
    director.reload(&config.clone().weights([0, 1]).director("flows_per_worker = 0"));
    std::thread::sleep(Duration::from_millis(1_200));
    interrupt(&generator);
    let output = generator.wait_with_output().unwrap();
    let sent = sent(&output);
    assert!(String::from_utf8_lossy(&output.stderr).contains("frames/s"), "{output:?}");
    let stats = director.quiet_stats();
    interrupt(&sink.process);
    let (code, received) = sink.end();

    assert_eq!(sent.sent.packets, stats.received());
    let verdicts = received.verdicts;
    assert_eq!((code, received.sound), (3, false), "{received:#?}");
    assert_eq!(
        (verdicts.received.packets, verdicts.lost, verdicts.duplicates),
        (sent.sent.packets, 0, 0),
        "{received:#?}"
    );
    let astray: u64 =
        received.real_servers.iter().filter(|server| !server.listed).map(|server| server.received.packets).sum();
    assert!(astray > 0 && verdicts.wrong_mac == astray, "{received:#?}");
}

/// Without a director between them, by two queues, each of them a thread and a stream of its own.
#[test]
fn two_threads_send_two_streams_to_one_sink() {
    let Some(lab) = Lab::up(Shape { queues: 2, ..Shape::default() }) else { return };
    let sink = Sink::start(&lab, &["--quiet", "2"]);
    let to = Host::Web1.mac().to_string();
    let load =
        ["--service", "tcp 192.168.88.100:80-89", "--to", &to, "--tcp", "ack", "--size", "200", "--flows", "333"];
    let by = ["--queues", "0-1", "--stream", "7", "--count", "5001", "--order", "zipf:0.5"];
    let sent = sent(&generator(&lab, &[&load[..], &by, &GENTLY].concat()).output().unwrap());
    let (code, received) = sink.end();
    assert_eq!(code, 0, "{received:#?}");
    assert_eq!((received.verdicts.received, sent.sent.bytes), (sent.sent, 5_001 * 200));
    let of_threads: Vec<_> =
        sent.threads.iter().map(|thread| (usize::from(thread.stream), thread.sent.packets)).collect();
    assert_eq!(of_threads, [(7, 2_501), (8, 2_500)]);
    let of_streams: Vec<_> = received.streams.iter().map(|stream| (stream.stream, stream.received_packets)).collect();
    assert_eq!(of_streams, of_threads);
    assert!((300..=333).contains(&received.verdicts.flows), "{received:#?}");
}

fn interrupt(process: &Child) {
    kill(Pid::from_raw(i32::try_from(process.id()).unwrap()), Signal::SIGINT).unwrap();
}

#[test]
fn what_cannot_be_sent_is_refused_before_anything_is() {
    let Some((lab, _)) = network() else { return };
    let refused = |arguments: &[&str]| {
        let output = generator(&lab, &[&["--service", "udp 192.168.88.15:80", "--count", "1"][..], arguments].concat())
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    lab.ip(Host::Client, "link set eth0 mtu 1000");
    for (arguments, code, said) in [
        (&["--size", "1015"][..], 2, "MTU of 1000"),
        (&["--queues", "0-1"], 2, "there is no queue 1"),
        (&["--flows", "10M", "--source", "198.18.0.1", "--source-ports", "1-9"], 2, "wider --source"),
        // Nobody is there.
        (&["--service", "udp 192.168.88.77:80", "--to", "02:00:00:00:00:99", "--cores", "0,1"], 2, "2 cores"),
    ] {
        let (exit, error) = refused(arguments);
        assert!(exit == Some(code) && error.contains(said), "{arguments:?}: {exit:?} {error}");
    }
    let output = generator(&lab, &["--service", "udp 192.168.88.77:80", "--count", "1"]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && error.contains("answers for 192.168.88.77"), "{error}");
}

/// The sink's program knows a mark behind any headers that the generator or a switch puts in front, and nothing else.
#[test]
fn the_sinks_program_takes_marked_frames_and_passes_all_others() {
    if !privileged() {
        return;
    }
    let program = MarkProgram::load().unwrap();
    let mut taken = 0;
    let envelope = |tags| Envelope { destination: SERVERS[0].1, source: Host::Director.mac(), tags };
    let two_tags = [Tag { tpid: 0x8100, vlan: 7 }; 2];
    let mark = b"pmGn and eighteen more";
    for (from, to) in [("198.18.0.1:1024", "192.0.2.1:80"), ("[2001:2::1]:1024", "[2001:db8::1]:80")] {
        let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
        for depth in 0..=2 {
            let tags = &two_tags[..depth];
            let marked = envelope(tags).udp(from, to, mark);
            let mut segment = envelope(tags).tcp_syn(from, to, 1);
            segment.extend(mark);
            for frame in [&marked, &segment] {
                // Without a socket it passes; that it was to be redirected is counted.
                assert_eq!(program.test_run(frame).unwrap().action, XdpAction::Pass);
                taken += 1;
                assert_eq!(program.counters().unwrap().no_socket, taken, "{frame:x?}");
            }
            let other = envelope(tags).udp(from, to, b"pmGm is another magic.");
            let short = &marked[..marked.len() - mark.len() + 3];
            let ping = envelope(tags).echo_request(from.ip(), to.ip(), 7);
            for frame in [&other[..], short, &ping, &marked[..14]] {
                assert_eq!(program.test_run(frame).unwrap().action, XdpAction::Pass);
                assert_eq!(program.counters().unwrap().no_socket, taken, "{frame:x?}");
            }
        }
    }
}
