//! `pointsman replay` from the outside: capture files in, lines of JSON and a capture file out. Without root and without
//! an interface.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::too_many_lines,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod packets;
mod program;

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Stdio;

use packets::*;
use pointsman::service::ServiceKey;
use pointsman::wire::MacAddress;
use program::pcap::{Captured, ETHERNET, FORMATS, Format, LINUX_SLL, USUAL, at, in_turn};
use program::{CONFIG, Said, Workspace, pointsman, run};
use serde_json::Value;

const KEYS: [&str; 7] = ["index", "verdict", "reason", "service", "real_server", "by", "dst_mac"];

/// One line of `--json`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    verdict: String,
    reason: String,
    service: Option<String>,
    real_server: Option<IpAddr>,
    dst_mac: Option<MacAddress>,
}

/// Checks that `text` has exactly one line for each of `count` frames, each with exactly the keys there should be.
fn lines(text: &str, count: usize) -> Vec<Line> {
    let lines: Vec<Line> = text.lines().enumerate().map(|(index, line)| parse(index, line)).collect();
    assert_eq!(lines.len(), count, "one line for each frame");
    lines
}

fn parse(index: usize, line: &str) -> Line {
    let places: Vec<usize> = KEYS.iter().map(|key| line.find(&format!("\"{key}\":")).unwrap()).collect();
    assert!(places.is_sorted(), "the order of keys in {line}");
    let object: HashMap<String, Value> = serde_json::from_str(line).unwrap();
    assert_eq!(object.len(), KEYS.len(), "{line}");
    assert_eq!(object["index"].as_u64(), u64::try_from(index).ok(), "{line}");
    let text = |key: &str| match &object[key] {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => panic!("{key} is {other} in {line}"),
    };
    let line = Line {
        verdict: text("verdict").unwrap(),
        reason: text("reason").unwrap(),
        service: text("service"),
        real_server: text("real_server").map(|address| address.parse().unwrap()),
        dst_mac: text("dst_mac").map(|mac| mac.parse().unwrap()),
    };
    let known = (line.service.is_some(), line.real_server.is_some(), line.dst_mac.is_some());
    match line.verdict.as_str() {
        "tx" => assert_eq!((line.reason.as_str(), known), ("scheduled", (true, true, true))),
        "pass" => assert_eq!(known, (false, false, false), "{line:?}"),
        "drop" => assert!(!known.2 && known.0 >= known.1, "{line:?}"),
        other => panic!("{other} is no verdict"),
    }
    line
}

/// Replays `frames` through `config`; checks the lines, and that the output has exactly the frames that leave, in their
/// order, with their times, and with nothing changed but the MAC addresses.
fn replay(config: &str, format: Format, frames: &[Captured], more: &[&str]) -> Vec<Line> {
    let workspace = Workspace::new();
    let config = workspace.file("director.toml", config);
    let input = workspace.file("in.pcap", format.file(ETHERNET, frames));
    let output = workspace.path("out.pcap");
    let arguments = ["replay", "--config", &config, "--in", &input, "--out", &output, "--json"];
    let said = run(arguments.iter().chain(more).copied());
    assert_eq!(said.code, Some(0), "{}", said.err);
    let lines = lines(&said.out, frames.len());
    let left = format.frames(&fs::read(output).unwrap());
    let expected: Vec<(&Captured, &Line)> =
        frames.iter().zip(&lines).filter(|(_, line)| line.verdict == "tx").collect();
    assert_eq!(left.len(), expected.len(), "frames that left");
    for (left, (frame, line)) in left.iter().zip(expected) {
        let mut bytes = frame.bytes.clone();
        bytes[..6].copy_from_slice(&line.dst_mac.unwrap().octets());
        bytes[6..12].copy_from_slice(&left.bytes[6..12]);
        assert_eq!(left, &Captured { bytes, ..frame.clone() });
    }
    lines
}

fn replay_in_turn(config: &str, frames: &[Vec<u8>]) -> Vec<Line> {
    replay(config, USUAL, &in_turn(frames), &[])
}

/// The services of the packet tables, five real servers each, and the virtual MAC address.
fn config_of_the_packet_tables() -> String {
    let mut config = format!("[[interface]]\nname = \"nowhere0\"\nvirtual_macs = [\"{VIRTUAL_MAC}\"]\n");
    for ServiceKey { vip, protocol, port } in services() {
        write!(config, "[[virtual_service]]\nvip = \"{vip}\"\nport = {port}\nprotocol = \"{protocol}\"\n").unwrap();
        for number in 1..=5 {
            let address: IpAddr = match vip {
                IpAddr::V4(_) => Ipv4Addr::new(192, 168, 88, 100 + number).into(),
                IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0x88, 0, 0, 0, 1, number.into()).into(),
            };
            writeln!(config, "[[virtual_service.real_server]]\naddress = \"{address}\"").unwrap();
        }
    }
    config
}

#[test]
fn every_row_of_the_packet_tables_is_passed_or_forwarded_as_the_table_says() {
    let rows = rows();
    let frames = in_turn(rows.iter().map(|row| &row.frame));
    let lines = replay(&config_of_the_packet_tables(), USUAL, &frames, &["--mac", &OUR_MAC.to_string()]);
    for (row, line) in rows.iter().zip(lines) {
        match row.expected {
            Expected::Redirect => assert_ne!(line.verdict, "pass", "{}: {line:?}", row.description),
            Expected::Pass(reason) => {
                assert_eq!((&*line.verdict, &*line.reason), ("pass", reason.name()), "{}", row.description);
            }
        }
    }
}

#[test]
fn random_and_mutated_frames_have_a_line_each_and_leave_unchanged() {
    let frames: Vec<Vec<u8>> = Frames::new(0x7265_706c_6179).take(5_000).collect();
    for format in FORMATS {
        let lines = replay(&config_of_the_packet_tables(), format, &in_turn(&frames), &[]);
        let verdicts: HashSet<&str> = lines.iter().map(|line| &*line.verdict).collect();
        assert_eq!(verdicts, HashSet::from(["tx", "pass", "drop"]));
    }
}

#[test]
fn frames_cut_short_at_any_byte_are_decided_on() {
    let whole = [
        Ipv4::default().frame(&tcp(4711, 80)),
        tagged(QINQ, &tagged(VLAN, &Ipv4::default().frame(&tcp(4711, 80)))),
        Ipv6 { extensions: vec![options(HOP_BY_HOP, 1)], ..Ipv6::default() }.frame(&tcp(4711, 80)),
        Ipv4 { protocol: ICMP, ..Ipv4::default() }
            .frame(&icmp(3, &Ipv4 { source: VIP, destination: CLIENT, ..Ipv4::default() }.packet(&tcp(80, 4711)))),
    ];
    let cut: Vec<Vec<u8>> =
        whole.iter().flat_map(|frame| (0..=frame.len()).map(|length| frame[..length].to_vec())).collect();
    let lines = replay_in_turn(&config_of_the_packet_tables(), &cut);
    let mut tx = 0;
    for (frame, line) in cut.iter().zip(&lines) {
        if whole.contains(frame) {
            assert_eq!(line.verdict, "tx");
            tx += 1;
        } else {
            assert_eq!((&*line.verdict, &*line.reason), ("pass", "malformed"), "{frame:02x?}");
        }
    }
    assert_eq!(tx, whole.len());
}

/// A frame that the capture cut short is judged by the bytes that there are.
#[test]
fn a_snap_length_below_the_frame_makes_it_malformed() {
    let whole = Ipv4::default().frame(&[tcp(4711, 80), vec![0; 400]].concat());
    let captured = Captured { bytes: whole[..96].to_vec(), ..at(1, 0, &whole) };
    let padded = Ipv4::default().frame(&tcp(4711, 80));
    let only_padding_is_missing = Captured { original_len: 60, ..at(2, 0, &padded) };
    let lines = replay(CONFIG, USUAL, &[captured, only_padding_is_missing], &[]);
    assert_eq!((&*lines[0].verdict, &*lines[0].reason), ("pass", "malformed"));
    assert_eq!(lines[1].verdict, "tx");
}

#[test]
fn verdicts_name_reason_service_and_next_hop() {
    let configured = Some("02:00:00:00:01:00".parse().unwrap());
    let stand_in = Some("02:04:c0:a8:58:c8".parse().unwrap());
    let rows = [
        ("a segment", Ipv4::default().frame(&tcp(4711, 80)), "tx", "scheduled", Some("tcp 192.168.88.15:80")),
        ("another port", Ipv4::default().frame(&tcp(4711, 81)), "pass", "not_a_service", None),
        ("no IP", ethernet(ARP, &[0; 46]), "pass", "not_ip", None),
        ("nothing at all", Vec::new(), "pass", "malformed", None),
        (
            "only draining real servers",
            Ipv4 { protocol: UDP, ..Ipv4::default() }.frame(&udp(4711, 53)),
            "drop",
            "no_real_server",
            Some("udp 192.168.88.15:53"),
        ),
        ("no ports", Ipv4::default().frame(&[0; 3]), "drop", "truncated_l4", Some("tcp 192.168.88.15:80")),
        (
            "half a header",
            Ipv4::default().frame(&tcp(4711, 80)[..12]),
            "drop",
            "malformed_l4",
            Some("tcp 192.168.88.15:80"),
        ),
        (
            "one byte too many",
            Ipv4::default().frame(&[tcp(4711, 80), vec![0; 1461]].concat()),
            "drop",
            "mtu_exceeded",
            Some("tcp 192.168.88.15:80"),
        ),
        (
            "as many bytes as there may be",
            Ipv4::default().frame(&[tcp(4711, 80), vec![0; 1460]].concat()),
            "tx",
            "scheduled",
            Some("tcp 192.168.88.15:80"),
        ),
        (
            "the largest packet",
            Ipv4::default().frame(&[tcp(4711, 80), vec![0; 65_495]].concat()),
            "drop",
            "mtu_exceeded",
            Some("tcp 192.168.88.15:80"),
        ),
        (
            "any port of an IPv6 address",
            Ipv6 { destination: "2001:db8:88::15".parse().unwrap(), ..Ipv6::default() }.frame(&tcp(4711, 12_345)),
            "tx",
            "scheduled",
            Some("tcp [2001:db8:88::15]:0"),
        ),
    ];
    let frames: Vec<Vec<u8>> = rows.iter().map(|row| row.1.clone()).collect();
    let draining = CONFIG.replace("weight = 7", "weight = 0");
    for ((description, _, verdict, reason, service), line) in rows.iter().zip(replay_in_turn(&draining, &frames)) {
        assert_eq!(
            (&*line.verdict, &*line.reason, line.service.as_deref()),
            (*verdict, *reason, *service),
            "{description}"
        );
        match line.real_server.map(|address| address.to_string()).as_deref() {
            Some("192.168.88.100") if *verdict == "tx" => assert_eq!(line.dst_mac, configured, "{description}"),
            Some("192.168.88.200") if *verdict == "tx" => assert_eq!(line.dst_mac, stand_in, "{description}"),
            Some(address) if *verdict == "tx" => {
                let expected = if address.ends_with("100") { "02:06:00:00:01:00" } else { "02:06:00:00:02:00" };
                assert_eq!(line.dst_mac, Some(expected.parse().unwrap()), "{description}");
            }
            _ => {}
        }
    }
}

#[test]
fn the_mtu_is_that_of_the_first_interface() {
    let frame = Ipv4::default().frame(&[tcp(4711, 80), vec![0; 8960]].concat());
    for (mtu, verdict) in [("", "drop"), ("mtu = 9000", "tx"), ("mtu = 8999", "drop")] {
        let config = format!("[[interface]]\nname = \"nowhere0\"\n{mtu}\n{CONFIG}")
            .replace("[director]\nsecret = \"a secret\"\n", "");
        assert_eq!(replay_in_turn(&config, std::slice::from_ref(&frame))[0].verdict, verdict, "{mtu}");
    }
}

#[test]
fn with_a_mac_only_frames_to_it_and_to_virtual_ones_are_taken() {
    let to = |mac| ethernet_to(mac, IPV4, &Ipv4::default().packet(&tcp(4711, 80)));
    let frames = [OUR_MAC, VIRTUAL_MAC, OTHER_MAC, MacAddress::new([0xff; 6])].map(to);
    let config = config_of_the_packet_tables();
    let verdicts = |more: &[&str]| -> Vec<String> {
        replay(&config, USUAL, &in_turn(&frames), more).into_iter().map(|line| line.reason).collect()
    };
    assert_eq!(verdicts(&[]), ["scheduled"; 4]);
    let ours = OUR_MAC.to_string();
    assert_eq!(verdicts(&["--mac", &ours]), ["scheduled", "scheduled", "not_our_mac", "not_our_mac"]);
}

#[test]
fn frames_leave_with_the_source_address_of_the_director() {
    let workspace = Workspace::new();
    let config = workspace.file("director.toml", CONFIG);
    let frame = ethernet_to(OTHER_MAC, IPV4, &Ipv4::default().packet(&tcp(4711, 80)));
    let input = workspace.file("in.pcap", USUAL.file(ETHERNET, &in_turn([&frame])));
    let output = workspace.path("out.pcap");
    let other = OTHER_MAC.to_string();
    for (more, source) in [(&[][..], [2, 0, 0, 0, 0, 1]), (&["--mac", &other][..], OTHER_MAC.octets())] {
        let said = run(["replay", "-c", &config, "-i", &input, "-o", &output].iter().chain(more).copied());
        assert_eq!(said.code, Some(0), "{}", said.err);
        assert_eq!(USUAL.frames(&workspace.read("out.pcap"))[0].bytes[6..12], source);
    }
}

#[test]
fn only_the_address_of_one_station_is_a_mac() {
    let workspace = Workspace::new();
    let config = workspace.file("director.toml", CONFIG);
    let input = workspace.file("in.pcap", USUAL.file(ETHERNET, &[]));
    let output = workspace.path("out.pcap");
    for mac in ["ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "00:00:00:00:00:00", "02:00", ""] {
        let said = run(["replay", "--config", &config, "--in", &input, "--out", &output, "--mac", mac]);
        assert_eq!(said.code, Some(2), "{mac}");
        assert!(said.err.contains("--mac") && said.err.contains("02:00:00:00:01:00"), "{}", said.err);
        assert!(!fs::exists(&output).unwrap());
    }
}

/// Later fragments follow their first one to the kernel for 60 s of the capture, however long the replay takes.
#[test]
fn time_is_that_of_the_capture() {
    let fragment = |offset| Ipv4 { fragment_offset: offset, more_fragments: true, ..Ipv4::default() };
    let (first, later) = (fragment(0).frame(&tcp(4711, 9)), fragment(3).frame(&[0; 64]));
    for format in FORMATS {
        let second = if format.nanoseconds { 1_000_000_000 } else { 1_000_000 };
        let half = second / 2;
        let frames = [
            at(1000, half, &first),
            at(1000, half + 1, &later),
            at(1060, half, &later),
            at(1060, half + 1, &later),
            at(999, 0, &later),
        ];
        let reasons: Vec<String> = replay(CONFIG, format, &frames, &[]).into_iter().map(|line| line.reason).collect();
        let follows = "fragment_of_passed";
        assert_eq!(reasons, ["not_a_service", follows, follows, "scheduled", follows], "{format:?}");
    }
}

/// `count` first segments of as many flows, of ten clients each from one address on.
fn flows(count: u32) -> Vec<Vec<u8>> {
    let flow = |number: u32| {
        let source = Ipv4Addr::from(0x0a00_0000 + number / 10);
        Ipv4 { source, ..Ipv4::default() }.frame(&tcp(u16::try_from(1024 + number % 50_000).unwrap(), 80))
    };
    (0..count).map(flow).collect()
}

#[test]
fn shares_are_the_weights() {
    let frames = flows(100_000);
    let lines = replay_in_turn(CONFIG, &frames);
    let first: IpAddr = Ipv4Addr::new(192, 168, 88, 100).into();
    let share = lines.iter().filter(|line| line.real_server == Some(first)).count() as f64 / frames.len() as f64;
    // Four standard deviations of 100,000 draws are 0.6 %.
    assert!((share - 1.0 / 3.0).abs() < 0.006, "{share}");
}

#[test]
fn persistence_keeps_a_client_and_spreads_clients() {
    let config = CONFIG.replacen("scheduler = \"mh\"", "persistence = \"client\"", 1);
    let frames = flows(5000);
    let mut of_client: HashMap<&[u8], IpAddr> = HashMap::new();
    let lines = replay_in_turn(&config, &frames);
    for (frame, line) in frames.iter().zip(&lines) {
        let real_server = line.real_server.unwrap();
        assert_eq!(*of_client.entry(&frame[26..30]).or_insert(real_server), real_server);
    }
    assert_eq!(of_client.len(), 500);
    assert_eq!(of_client.values().collect::<HashSet<_>>().len(), 2);
    let spread = replay_in_turn(CONFIG, &frames[..10]).into_iter().map(|line| line.real_server).collect::<HashSet<_>>();
    assert_eq!(spread.len(), 2, "without it, ten flows of a client are spread");
}

#[test]
fn the_same_again_is_the_same_and_another_secret_is_not() {
    let frames = flows(1000);
    let lines = replay_in_turn(CONFIG, &frames);
    assert_eq!(lines, replay_in_turn(CONFIG, &frames));
    assert_ne!(lines, replay_in_turn(&CONFIG.replace("a secret", "another"), &frames));
}

#[test]
fn explain_says_what_replay_does() {
    let workspace = Workspace::new();
    let config = workspace.file("director.toml", CONFIG);
    let v4 = |port: u16, to: u16| (format!("10.0.0.7:{port}"), format!("192.168.88.15:{to}"));
    let v6 = |port: u16, to: u16| (format!("[2001:db8::7]:{port}"), format!("[2001:db8:88::15]:{to}"));
    let to_v6 = Ipv6 { destination: "2001:db8:88::15".parse().unwrap(), ..Ipv6::default() };
    let mut flows = Vec::new();
    for port in 5000..5010 {
        flows.push(("tcp", v4(port, 80), Ipv4::default().frame(&tcp(port, 80))));
    }
    flows.push(("tcp", v4(5000, 81), Ipv4::default().frame(&tcp(5000, 81))));
    flows.push(("udp", v4(5000, 53), Ipv4 { protocol: UDP, ..Ipv4::default() }.frame(&udp(5000, 53))));
    flows.push(("tcp", v6(5000, 1), to_v6.frame(&tcp(5000, 1))));
    flows.push(("udp", v6(5000, 1), Ipv6 { protocol: UDP, ..to_v6 }.frame(&udp(5000, 1))));
    let frames: Vec<Vec<u8>> = flows.iter().map(|flow| flow.2.clone()).collect();
    for ((protocol, (client, destination), _), line) in flows.iter().zip(replay_in_turn(CONFIG, &frames)) {
        let said = run(["explain", "--json", "--config", &config, protocol, client, destination]);
        assert_eq!(said.code, Some(0), "{}", said.err);
        let explained: Value = serde_json::from_str(&said.out).unwrap();
        let text = |key: &str| explained[key].as_str().map(str::to_owned);
        let real_server = text("real_server").map(|address| address.parse().unwrap());
        let next_hop = text("next_hop").map(|mac| mac.parse().unwrap());
        let (verdict, reason) = (text("verdict").unwrap(), text("reason").unwrap());
        assert_eq!(Line { verdict, reason, service: text("service"), real_server, dst_mac: next_hop }, line);
    }
}

#[test]
fn without_json_there_is_a_summary() {
    let workspace = Workspace::new();
    let config = workspace.file("director.toml", CONFIG);
    let frames = [Ipv4::default().frame(&tcp(4711, 80)), Ipv4::default().frame(&tcp(4711, 81))];
    let input = workspace.file("in.pcap", USUAL.file(ETHERNET, &in_turn(&frames)));
    let said = run(["replay", "--config", &config, "--in", &input, "--out", &workspace.path("out.pcap")]);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    let words: Vec<Vec<&str>> = said.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[..3], [vec!["2", "frames"], vec!["pass", "not_a_service", "1"], vec!["tx", "scheduled", "1"]]);
    assert!(said.out.contains("tcp 192.168.88.15:80 -> 192.168.88."), "{}", said.out);
}

/// Replays a file of these bytes: what was said, and how many bytes the output has, if there is one.
fn replay_bytes(bytes: &[u8]) -> (Said, Option<u64>) {
    let workspace = Workspace::new();
    let config = workspace.file("director.toml", CONFIG);
    let input = workspace.file("in.pcap", bytes);
    let output = workspace.path("out.pcap");
    let said = run(["replay", "--config", &config, "--in", &input, "--out", &output]);
    (said, fs::metadata(output).ok().map(|metadata| metadata.len()))
}

#[test]
fn a_file_that_is_no_capture_of_ethernet_is_refused_before_the_output_is_made() {
    let ng = [0x0a, 0x0d, 0x0d, 0x0a, 28, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0];
    let capture = USUAL.file(ETHERNET, &[]);
    for (bytes, expected) in [
        (&b""[..], "is not a pcap capture file (it breaks off too early)"),
        (&b"GIF89a and more than a header's worth"[..], "is not a pcap capture file"),
        (&capture[..10], "is not a pcap capture file (it breaks off too early)"),
        (&ng[..], "is a pcapng file: convert it first (editcap -F pcap"),
        (&USUAL.file(LINUX_SLL, &[at(1, 1, &[0; 60])])[..], "link type LINUX_SLL, not Ethernet"),
    ] {
        let (said, output) = replay_bytes(bytes);
        assert_eq!((said.code, said.out.as_str(), output), (Some(1), "", None), "{}", said.err);
        assert!(said.err.contains("in.pcap") && said.err.contains(expected), "{}", said.err);
    }
}

#[test]
fn a_file_of_no_frames_is_no_mistake() {
    let (said, output) = replay_bytes(&USUAL.file(ETHERNET, &[]));
    assert_eq!(said, Said { code: Some(0), out: "0 frames\n".to_owned(), err: String::new() });
    assert_eq!(output, Some(24));
}

#[test]
fn what_is_before_the_damage_is_replayed() {
    let frame = Ipv4::default().frame(&tcp(4711, 80));
    let whole = USUAL.file(ETHERNET, &in_turn([&frame, &frame, &frame]));
    let record = 16 + frame.len();
    for (cut, frames) in [(1, 2), (record - 8, 2), (record - 1, 2), (record + 1, 1)] {
        let (said, output) = replay_bytes(&whole[..whole.len() - cut]);
        assert_eq!(said.code, Some(1));
        assert!(said.err.contains(&format!("is damaged after {frames} frames: it breaks off")), "{}", said.err);
        assert_eq!(output, Some(24 + frames * u64::try_from(record).unwrap()));
    }
    let mut absurd = whole.clone();
    absurd[24 + 8..24 + 12].copy_from_slice(&[0xff; 4]);
    let (said, _) = replay_bytes(&absurd);
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("is damaged after 0 frames"), "{}", said.err);
}

#[test]
fn the_input_is_never_overwritten() {
    let workspace = Workspace::new();
    let config = workspace.file("director.toml", CONFIG);
    let input = workspace.file("in.pcap", USUAL.file(ETHERNET, &in_turn(&flows(100))));
    let (hard, soft) = (workspace.path("hard.pcap"), workspace.path("soft.pcap"));
    fs::hard_link(&input, &hard).unwrap();
    std::os::unix::fs::symlink(&input, &soft).unwrap();
    let before = workspace.read("in.pcap");
    for output in [&input, &hard, &soft] {
        let said = run(["replay", "--config", &config, "--in", &input, "--out", output]);
        assert_eq!(said.code, Some(1), "{output}");
        assert!(said.err.contains("is both the input and the output: name another output"), "{}", said.err);
        assert!(workspace.read("in.pcap") == before, "{output} replaced it");
    }
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let workspace = Workspace::new();
    let config = workspace.file("director.toml", CONFIG);
    let input = workspace.file("in.pcap", USUAL.file(ETHERNET, &in_turn(&flows(1000))));
    let (output, directory) = (workspace.path("out.pcap"), workspace.directory().to_str().unwrap());
    let missing = workspace.path("no/such.pcap");
    for (input, output, expected) in [
        (missing.as_str(), output.as_str(), format!("cannot read {missing}: No such file")),
        (directory, &output, format!("cannot read {directory}: Is a directory")),
        (&input, &missing, format!("cannot write {missing}: No such file")),
        (&input, directory, format!("cannot write {directory}: Is a directory")),
        (&input, "/dev/full", "cannot write /dev/full: No space left".to_owned()),
    ] {
        let said = run(["replay", "--json", "--out", output, "--in", input, "--config", &config]);
        assert_eq!(said.code, Some(1), "{expected}");
        assert!(said.err.starts_with("pointsman: ") && said.err.contains(&expected), "{} for {expected}", said.err);
    }
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let arguments = ["replay", "--json", "--config", &config, "--in", &input, "--out", &output];
    let said = Said::from(pointsman(arguments).stdout(full).output().unwrap());
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("cannot write the output: No space left"), "{}", said.err);
}

/// `pointsman replay --json | head -1`.
#[test]
fn who_stops_reading_still_gets_the_whole_output() {
    let workspace = Workspace::new();
    let config = workspace.file("director.toml", CONFIG);
    let frames = in_turn(&flows(20_000));
    let input = workspace.file("in.pcap", USUAL.file(ETHERNET, &frames));
    let arguments = ["replay", "--json", "--config", &config, "--in", &input, "--out", &workspace.path("out.pcap")];
    let mut child = pointsman(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::with_capacity(1, child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    parse(0, &line);
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!((child.wait().unwrap().code(), err.as_str()), (Some(0), ""));
    assert_eq!(USUAL.frames(&workspace.read("out.pcap")).len(), frames.len());
}
