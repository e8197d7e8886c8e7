//! The command line from the outside: `check`, `explain`, `stats`, and what `run` says before it touches the network.
//! Without root and without an interface; `tests/replay.rs` has `replay`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::too_many_lines,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod program;

use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use program::{CONFIG, Said, Workspace, for_everybody, pointsman, run};
use serde_json::Value;

/// A user that owns nothing.
const NOBODY: u32 = 65_534;

fn full_disk() -> File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

/// A command line in one text; `CONFIG` stands for the configuration's path.
fn said(config: &str, arguments: &str) -> Said {
    run(arguments.split(' ').map(|argument| if argument == "CONFIG" { config } else { argument }))
}

#[test]
fn every_subcommand_has_help_that_tells_its_options() {
    for (arguments, expected) in [
        ("--help", &["run", "check", "doctor", "stats", "explain", "replay", "Exit codes:", "docs/config.md"][..]),
        ("run --help", &["--config", "--stats-file", "--stats-interval", "--control-socket", "--log"]),
        ("check --help", &["--config", "--json"]),
        (
            "doctor --help",
            &["--config", "--json", "--quiet", "--no-probe", "Examples:", "Exit codes:", "docs/doctor.md"],
        ),
        ("stats --help", &["--socket", "--json", "/run/pointsman/control.sock"]),
        (
            "explain --help",
            &["--config", "--json", "<PROTOCOL>", "10.0.0.7:4711", "[2001:db8::7]:4711", "next_hop_from"],
        ),
        ("replay --help", &["--config", "--in", "--out", "--mac", "--json", "stands in: 02:04", "real_server"]),
        (
            "report --help",
            &["--output", "--export-dir", "--apart", "--label", "Examples:", "Exit codes:", "docs/report.md"],
        ),
        ("ipvs --help", &["-A|E virtual-service", "docs/ipvsadm.md", "--persist", "Exit codes"]),
        ("--version", &["pointsman 0."]),
    ] {
        let said = said("", arguments);
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{arguments}");
        for expected in expected {
            assert!(said.out.contains(expected), "{expected} in {arguments}: {}", said.out);
        }
    }
}

#[test]
fn a_wrong_command_line_says_what_is_wrong() {
    let workspace = Workspace::new();
    let config = workspace.file("director.toml", CONFIG);
    for (arguments, expected) in [
        ("bogus", "unrecognized subcommand 'bogus'"),
        ("check", "--config <FILE>"),
        ("check --config CONFIG --bogus", "--bogus"),
        ("replay --config CONFIG --in x", "--out <FILE>"),
        ("explain --config CONFIG tcp 10.0.0.7:4711", "<DESTINATION>"),
        ("explain --config CONFIG icmp 10.0.0.7:4711 192.168.88.15:80", "\"icmp\" is not a protocol; use tcp or udp"),
        ("explain --config CONFIG tcp 10.0.0.7 192.168.88.15:80", "'10.0.0.7' for '<CLIENT>'"),
        ("explain --config CONFIG tcp 10.0.0.7:1 192.168.88.15:99999", "'192.168.88.15:99999' for '<DESTINATION>'"),
        ("explain --config CONFIG tcp 10.0.0.7:1 [2001:db8::1]:1", "must both be IPv4 or both IPv6"),
        ("run --config CONFIG --stats-interval 0", "from 0.01 to 86400 seconds"),
        ("run --config CONFIG --stats-interval soon", "a number of seconds, such as 1 or 0.5"),
        ("run --config CONFIG --log loud", "\"loud\" is not a level; use for example info or debug"),
        ("run --config CONFIG --log pointsman=loud", "use for example info or debug"),
    ] {
        let said = said(&config, arguments);
        assert_eq!((said.code, said.out.as_str()), (Some(2), ""), "{arguments}");
        assert!(said.err.contains(expected), "{expected} in {}", said.err);
    }
}

#[test]
fn a_bad_configuration_is_refused_alike_by_all() {
    let workspace = Workspace::new();
    for (name, text, expected) in [
        (
            "port",
            CONFIG.replace("port = 80", "port = 99999"),
            ":7:8: virtual_service[0].port: 99999 is not a port; use 0",
        ),
        ("key", CONFIG.replace("weight = 2", "wieght = 2"), "real_server[1].wieght: unknown key; did you mean weight?"),
        (
            "mac",
            CONFIG.replace("01:00\"", "01\""),
            "real_server[0].mac: \"02:00:00:00:01\" is not a MAC; use six pairs",
        ),
        ("syntax", CONFIG.replace("port = 80", "port"), ":7:5: virtual_service[0].port: not valid TOML"),
    ] {
        let path = workspace.file(name, text);
        let messages = [
            "check --config CONFIG",
            "check --json --config CONFIG",
            "explain --config CONFIG tcp 10.0.0.7:4711 192.168.88.15:80",
            "replay --config CONFIG --in /no/such/file --out /no/such/file",
            "run --config CONFIG",
        ]
        .map(|arguments| said(&path, arguments));
        let [first, others @ ..] = &messages;
        assert_eq!((first.code, first.out.as_str()), (Some(2), ""));
        assert!(first.err.starts_with(&format!("pointsman: {path}:")) && first.err.contains(expected), "{}", first.err);
        others.iter().for_each(|other| assert_eq!(other, first));
    }
    for (path, expected) in [("/no/such/file", "there is no such file"), ("/proc", "it is a directory")] {
        let said = said(path, "check --config CONFIG");
        assert_eq!(said.code, Some(2));
        assert!(said.err.contains(path) && said.err.contains(expected), "{}", said.err);
    }
}

#[test]
fn check_shows_what_would_run_and_the_shares() {
    let workspace = Workspace::new();
    let interface = "[[interface]]\nname = \"nowhere0\"\nqueues = [0, 1]\n";
    let path = workspace.file("director.toml", format!("{CONFIG}{interface}"));
    let text = said(&path, "check --config CONFIG");
    assert_eq!((text.code, text.err.as_str()), (Some(0), ""));
    for expected in [
        "interface nowhere0: receives and sends, queues 0,1",
        "virtual service tcp 192.168.88.15:80: scheduler mh, 65537 slots\n",
        "real server 192.168.88.100  weight     1  share  33.33 %  (21846 slots)  next hop 02:00:00:00:01:00",
        "real server 192.168.88.200  weight     2  share  66.67 %  (43691 slots)  next hop neighbour table",
        "virtual service tcp [2001:db8:88::15]:0: scheduler mh, 65537 slots, hashed by client\n",
        "the configuration is good\n",
    ] {
        assert!(text.out.contains(expected), "{expected} in {}", text.out);
    }
    assert!(!text.out.contains("a secret"), "a secret is told to nobody: {}", text.out);

    let json = said(&path, "check --json --config CONFIG");
    assert!(!json.out.contains("a secret"), "{}", json.out);
    let document: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(document["good"], true);
    assert_eq!(document["shares"][0]["service"], "tcp 192.168.88.15:80");
    for service in document["shares"].as_array().unwrap() {
        let shares: f64 =
            service["real_servers"].as_array().unwrap().iter().map(|one| one["share"].as_f64().unwrap()).sum();
        assert!((shares - 1.0).abs() < 1e-9, "{service}");
    }
}

#[test]
fn the_shortest_configurations_do_without_interface_or_director() {
    let workspace = Workspace::new();
    let path = workspace.file("f", "[[virtual_service]]\nvip = \"192.0.2.1\"\nport = 80\nprotocol = \"tcp\"\n");
    let checked = said(&path, "check --config CONFIG");
    assert_eq!(checked.code, Some(0));
    for expected in ["director.secret: not set", "virtual_service[0].real_server: "] {
        assert!(checked.err.contains(&format!("pointsman: warning: {path}:1:1: {expected}")), "{}", checked.err);
    }
    assert!(checked.out.contains("no real servers: its frames are dropped as no_real_server"), "{}", checked.out);
    assert!(checked.out.contains("no [[interface]]: enough for explain and replay; run needs one"), "{}", checked.out);
    let ran = said(&path, "run --config CONFIG");
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("has no [[interface]]"), "{}", ran.err);
}

#[test]
fn explain_tells_the_way_of_a_flow_and_why() {
    let workspace = Workspace::new();
    let path = workspace.file("f", CONFIG.replace("weight = 7", "weight = 0"));
    for (flow, expected) in [
        (
            "tcp 10.0.0.7:4711 192.168.88.15:80",
            &["goes to real server 192.168.88.", "tcp 192.168.88.15:80", "of the 65537 slots", "its next hop"][..],
        ),
        ("tcp 10.0.0.7:4711 192.168.88.15:81", &["is left to the kernel", "there are tcp 192.168.88.15:80, udp"]),
        (
            "tcp 10.0.0.7:4711 192.168.88.1:80",
            &["is left to the kernel", "no virtual service has the address 192.168.88.1"],
        ),
        ("udp 10.0.0.7:4711 192.168.88.15:53", &["is dropped (no_real_server)", "weight above 0"]),
        ("tcp [2001:db8::7]:1 [2001:db8:88::15]:9", &["takes every port of 2001:db8:88::15", "hash_by is \"client\""]),
    ] {
        let said = said(&path, &format!("explain --config CONFIG {flow}"));
        assert_eq!(said.code, Some(0));
        for expected in expected {
            assert!(said.out.contains(expected), "{expected} in {}", said.out);
        }
    }
}

#[test]
fn explain_has_the_same_keys_for_every_flow() {
    let workspace = Workspace::new();
    let path = workspace.file("f", CONFIG);
    let explained = |flow: &str| -> Value {
        serde_json::from_str(&said(&path, &format!("explain --json --config CONFIG {flow}")).out).unwrap()
    };
    let (sent, passed) =
        (explained("tcp 10.0.0.7:4711 192.168.88.15:80"), explained("tcp 10.0.0.7:4711 192.168.88.15:81"));
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&sent), keys(&passed));
    assert_eq!((&passed["verdict"], &passed["service"], &passed["slot"]), (&"pass".into(), &Value::Null, &Value::Null));
    assert_eq!((&sent["verdict"], &sent["service"]), (&"tx".into(), &"tcp 192.168.88.15:80".into()));
    assert!(sent["slot"].as_u64().unwrap() < sent["slots"].as_u64().unwrap());
    let expected = match sent["real_server"].as_str().unwrap() {
        "192.168.88.100" => ("02:00:00:00:01:00", "config", 1),
        _ => ("02:04:c0:a8:58:c8", "stand_in", 2),
    };
    let found = (&sent["next_hop"], &sent["next_hop_from"], &sent["weight"]);
    assert_eq!(found, (&expected.0.into(), &expected.1.into(), &expected.2.into()));
    assert!(sent["why"].as_array().unwrap().len() >= 3);
}

#[test]
fn options_may_stand_in_any_order() {
    let workspace = Workspace::new();
    let path = workspace.file("f", CONFIG);
    let flow = "tcp 10.0.0.7:4711 192.168.88.15:80";
    let first = said(&path, &format!("explain --config CONFIG {flow} --json"));
    assert_eq!(first.code, Some(0));
    assert_eq!(said(&path, &format!("explain --json {flow} --config CONFIG")), first);
    assert_eq!(said(&path, &format!("explain {flow} --json -c CONFIG")), first);
}

#[test]
fn statistics_need_a_director() {
    let workspace = Workspace::new();
    let file = workspace.file("f", CONFIG);
    for path in [workspace.path("no.sock"), file] {
        for json in ["", " --json"] {
            let said = said(&path, &format!("stats --socket CONFIG{json}"));
            assert_eq!((said.code, said.out.as_str()), (Some(1), ""));
            assert!(said.err.contains(&format!("no director answers at {path}")), "{}", said.err);
        }
    }
}

#[test]
fn run_without_its_interface_says_which_there_are() {
    let workspace = Workspace::new();
    let path = workspace.file("f", format!("{CONFIG}[[interface]]\nname = \"nowhere0\"\n"));
    let said = said(&path, "run --config CONFIG");
    assert_eq!((said.code, said.out.as_str()), (Some(1), ""));
    assert!(said.err.contains("there is no interface \"nowhere0\"; the interfaces here are: "), "{}", said.err);
}

/// Command lines that end by themselves, and their exit codes.
fn short_commands(workspace: &Workspace) -> Vec<(Vec<String>, i32)> {
    // Without a secret, so that there is a warning.
    let text = CONFIG.replace("secret =", "no_socket = \"drop\"\n#");
    let good = workspace.file("good", &text);
    let nowhere = workspace.file("nowhere", format!("{text}[[interface]]\nname = \"nowhere0\"\n"));
    let bad = workspace.file("bad", "x");
    let commands = [
        (&good, "check --config CONFIG", 0),
        (&good, "check --json --config CONFIG", 0),
        (&good, "explain --config CONFIG tcp 10.0.0.7:4711 192.168.88.15:80", 0),
        (&good, "explain --json --config CONFIG tcp 10.0.0.7:4711 192.168.88.15:80", 0),
        (&bad, "check --config CONFIG", 2),
        (&bad, "run --config CONFIG", 2),
        (&nowhere, "run --config CONFIG", 1),
        (&good, "stats --socket /no/such/socket", 1),
    ];
    let words = |path: &str, text: &str| text.replace("CONFIG", path).split(' ').map(str::to_owned).collect();
    commands.map(|(path, text, code)| (words(path, text), code)).into()
}

/// A full disk or a closed pipe behind standard error changes nothing but what is read there.
#[test]
fn nobody_has_to_read_the_messages() {
    let workspace = Workspace::new();
    for (command, code) in short_commands(&workspace) {
        let full = pointsman(command.iter().map(String::as_str)).stderr(full_disk()).output().unwrap();
        assert_eq!(full.status.code(), Some(code), "{command:?} on a full disk");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let closed = pointsman(command.iter().map(String::as_str)).stderr(writer).output().unwrap();
        assert_eq!((closed.status.code(), closed.stdout), (Some(code), full.stdout), "{command:?} into a closed pipe");
    }
}

#[test]
fn a_reader_may_leave_but_a_disk_may_not_be_full() {
    let workspace = Workspace::new();
    for (command, _) in short_commands(&workspace).into_iter().filter(|(_, code)| *code == 0) {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let closed =
            pointsman(command.iter().map(String::as_str)).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        let err = String::from_utf8(closed.stderr).unwrap();
        assert_eq!(closed.status.code(), Some(0), "{command:?} into a closed pipe: {err}");
        assert!(!err.contains("cannot write"), "{err}");
        let full = Said::from(pointsman(command.iter().map(String::as_str)).stdout(full_disk()).output().unwrap());
        assert_eq!(full.code, Some(1), "{command:?} on a full disk");
        assert!(full.err.contains("pointsman: cannot write the output: No space left"), "{}", full.err);
    }
}

/// Run by root this takes another user; run by anybody else, the other tests show it already.
#[test]
fn nothing_but_run_needs_a_privilege() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let workspace = Workspace::new();
    let program = for_everybody(&workspace);
    let config = workspace.file("f", CONFIG);
    let input = workspace.file("in.pcap", program::pcap::USUAL.file(program::pcap::ETHERNET, &[]));
    let output = workspace.path("out.pcap");
    for arguments in [
        vec!["check", "--config", &config],
        vec!["explain", "--config", &config, "tcp", "10.0.0.7:4711", "192.168.88.15:80"],
        vec!["replay", "--config", &config, "--in", &input, "--out", &output],
    ] {
        let said = Said::from(Command::new(&program).args(&arguments).uid(NOBODY).gid(NOBODY).output().unwrap());
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{arguments:?}");
    }
}
