//! The configuration from the outside: files in, settings or messages out.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pointsman::config::{
    self, Announce, Config, ConfigError, InterfaceConfig, Loaded, NoSocketAction, Persistence, Queues,
};
use pointsman::service::Protocol;
use proptest::prelude::*;

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn accepted(text: &str) -> Config {
    config::parse(text, "f.toml").map_err(|error| error.to_string()).unwrap().config
}

fn refused(text: &str) -> String {
    config::parse(text, "f.toml").unwrap_err().to_string()
}

/// Every `tests/configs/*.toml`, name and text.
fn example_files() -> Vec<(PathBuf, String)> {
    let entries = fs::read_dir(in_repository("tests/configs")).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    assert!(paths.len() >= 14, "only {} files were found", paths.len());
    paths.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// Each file says exactly what the `.expected` beside it says: `bad-*` mistakes, `good-*` warnings. With `BLESS=1`
/// the expectations are written anew, to be read before they are committed.
#[test]
fn every_file_gets_its_messages() {
    for (path, text) in example_files() {
        let name = path.file_name().unwrap().to_str().unwrap();
        let said = match config::parse(&text, name) {
            Ok(Loaded { warnings, .. }) => {
                assert!(name.starts_with("good-"), "{name} was accepted");
                warnings.iter().map(|warning| format!("{warning}\n")).collect::<String>()
            }
            Err(error) => {
                assert!(name.starts_with("bad-"), "{name} was refused: {error}");
                format!("{error}\n")
            }
        };
        let expected = path.with_extension("expected");
        if std::env::var_os("BLESS").is_some() {
            fs::write(&expected, &said).unwrap();
        }
        let expected = fs::read_to_string(&expected).unwrap_or_default();
        assert_eq!(said, expected, "the messages of {name}");
    }
}

#[test]
fn the_contract_is_read_as_it_stands() {
    let config = accepted(&fs::read_to_string(in_repository("tests/configs/good-contract.toml")).unwrap());
    assert_eq!(config.director.secret.as_deref(), Some("any string"));
    assert_eq!(config.interfaces, [InterfaceConfig::named("eth0")]);
    let [service] = &config.virtual_services[..] else { panic!("one service") };
    assert_eq!(service.key, "tcp 192.168.88.15:80".parse().unwrap());
    assert_eq!((service.table_size, service.persistence), (65_537, Persistence::None));
    let [server] = &service.real_servers[..] else { panic!("one real server") };
    assert_eq!(server.address, IpAddr::from([192, 168, 88, 100]));
    assert_eq!((server.weight, server.mac), (1, Some("02:00:00:00:01:00".parse().unwrap())));
    config.require_interfaces().unwrap();
}

#[test]
fn a_vip_is_announced_as_one_of_its_services_says_or_as_the_director_does() {
    let service = |vip: &str, port: u16, announce: &str| {
        format!("[[virtual_service]]\nvip = \"{vip}\"\nport = {port}\nprotocol = \"tcp\"\n{announce}\n")
    };
    let services =
        [service("192.0.2.1", 80, ""), service("192.0.2.1", 443, "announce = \"arp\""), service("192.0.2.2", 80, "")];
    let of = |text: &str| accepted(text).virtual_services.iter().map(|service| service.announce).collect::<Vec<_>>();
    assert_eq!(of(&services.concat()), [Announce::Arp, Announce::Arp, Announce::Kernel]);
    let all = format!("[director]\nannounce = \"arp\"\n{}", services.concat().replace("\"arp\"", "\"kernel\""));
    assert_eq!(of(&all), [Announce::Kernel, Announce::Kernel, Announce::Arp]);
}

#[test]
fn defaults_hold_where_nothing_is_said() {
    let director = accepted("").director;
    assert_eq!(director.secret, None);
    assert_eq!(director.control_socket, Path::new("/run/pointsman/control.sock"));
    assert_eq!((director.no_socket, director.stats_file), (NoSocketAction::Drop, None));
    assert_eq!(director.stats_interval, Duration::from_secs(1));
    let interface = InterfaceConfig::named("eth0");
    assert_eq!(interface.frames_per_queue(), 4096);
    assert_eq!(accepted("[[interface]]\nname = \"eth0\"").interfaces, [interface]);
    let busy_poll = accepted("[[interface]]\nname = \"a\"\nbusy_poll = {}").interfaces[0].busy_poll.unwrap();
    assert_eq!((busy_poll.timeout_us, busy_poll.budget), (20, 64));
}

#[test]
fn run_wants_an_interface_that_receives() {
    let nothing = accepted("").require_interfaces();
    assert_eq!(nothing, Err(ConfigError::NoInterface));
    let sender = accepted("[[interface]]\nname = \"eth0\"\nreceive = false").require_interfaces();
    assert_eq!(sender, Err(ConfigError::NoReceivingInterface));
}

#[test]
fn a_file_that_cannot_be_read_is_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let message = |name: &str| {
        let error = config::load(folder.path().join(name)).unwrap_err().to_string();
        error.replace(&folder.path().display().to_string(), "DIR")
    };
    let cannot = "cannot read the configuration file DIR";
    assert_eq!(message("none.toml"), format!("{cannot}/none.toml: there is no such file; name an existing one"));
    assert_eq!(message(""), format!("{cannot}/: it is a directory; name the file in it"));
    fs::File::create(folder.path().join("large.toml")).unwrap().set_len((16 << 20) + 1).unwrap();
    assert_eq!(message("large.toml"), "the configuration file DIR/large.toml is over 16 MiB; name a smaller one");
    fs::write(folder.path().join("latin1.toml"), b"[director]\n# \xe4\nsecret = \"\xe9\"\n").unwrap();
    assert_eq!(message("latin1.toml"), "DIR/latin1.toml:2:3: not UTF-8; save the file as UTF-8 text");
    fs::write(folder.path().join("good.toml"), "[director]\nsecret = \"s\"\n").unwrap();
    assert_eq!(config::load(folder.path().join("good.toml")).unwrap().config.director.secret.as_deref(), Some("s"));
}

#[test]
fn the_secret_is_shown_nowhere() {
    let loaded = config::parse("[director]\nsecret = \"hush-hush\"", "f").unwrap();
    assert!(!format!("{loaded:?}").contains("hush"));
    assert!(!serde_json::to_string(&loaded.config).unwrap().contains("hush"));
    assert!(!refused("[director]\nsecret = 4711").contains("4711"));
    assert!(!refused("[director]\nsecret = hush-hush").contains("hush"));
    let other = accepted("[director]\nsecret = \"other\"");
    assert_eq!(loaded.config.restart_differences(&other), []);
}

#[test]
fn odd_texts_cannot_spoil_the_terminal() {
    let message = refused("[director]\n\"a\\u001b[31m\\n\" = 1\nno_socket = \"\\u001b[2J\"");
    assert!(message.lines().count() == 2 && !message.contains('\u{1b}'), "{message}");
    let message = refused(&format!("[director]\nno_socket = \"{}\"\n{} = 1", "x".repeat(100_000), "y".repeat(100_000)));
    assert!(message.len() < 1000, "{} bytes", message.len());
}

#[test]
fn restart_differences_name_old_and_new() {
    let old = "[director]\nsecret = \"a\"\n[[interface]]\nname = \"eth0\"\n[[interface]]\nname = \"eth1\"\n";
    let new = "[director]\nsecret = \"b\"\nno_socket = \"pass\"\nstats_file = \"/s\"\nstats_interval_ms = 10\n\
               [[interface]]\nname = \"eth2\"\n[[interface]]\nname = \"eth0\"\nrx_ring = 64\nqueues = [1]\nmtu = 1500\n\
               virtual_macs = [\"02:00:00:00:00:01\"]\n\
               [[virtual_service]]\nvip = \"10.0.0.1\"\nport = 1\nprotocol = \"tcp\"";
    let (old, new) = (accepted(old), accepted(new));
    let lines: Vec<String> = old.restart_differences(&new).iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "director.no_socket: stays \"drop\"; restart the director to make it \"pass\"",
            "director.stats_file: stays not set; restart the director to make it \"/s\"",
            "director.stats_interval_ms: stays 1000; restart the director to make it 10",
            "interface[eth0].queues: stays \"all\"; restart the director to make it [1]",
            "interface[eth0].rx_ring: stays 2048; restart the director to make it 64",
            "interface[eth1]: stays there; restart the director to make it absent",
            "interface[eth2]: stays absent; restart the director to make it there",
        ]
    );
    assert_eq!(new.restart_differences(&new), []);
}

/// Rows of the tables of `docs/config.md`: dotted table, key, default, reload.
fn documented_keys() -> Vec<(String, String, String, String)> {
    let text = fs::read_to_string(in_repository("docs/config.md")).unwrap();
    let mut table = String::new();
    let mut rows = Vec::new();
    for line in text.lines() {
        if let Some(header) = line.strip_prefix("## ") {
            table = header.trim_matches(['`', '[', ']']).to_owned();
        }
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        if let [key, _, default, _, reload] = cells[..]
            && let Some(key) = key.strip_prefix('`')
        {
            rows.push((table.clone(), key.trim_matches('`').to_owned(), default.to_owned(), reload.to_owned()));
        }
    }
    rows
}

#[test]
fn every_key_is_documented_and_every_documented_key_is_there() {
    let mut accepted: Vec<(String, String)> = config::accepted_keys()
        .into_iter()
        .filter(|key| !key.table.is_empty())
        .map(|key| (key.table.to_owned(), key.name.to_owned()))
        .collect();
    let mut documented: Vec<_> = documented_keys().into_iter().map(|(table, key, ..)| (table, key)).collect();
    accepted.sort();
    documented.sort();
    assert_eq!(accepted, documented);
}

/// The example of the document that has every key.
fn full_example() -> String {
    let text = fs::read_to_string(in_repository("docs/config.md")).unwrap();
    let (_, after) = text.split_once("## A full example").unwrap();
    let (_, example) = after.split_once("```toml\n").unwrap();
    example.split_once("```").unwrap().0.to_owned()
}

#[test]
fn the_examples_of_the_document_are_valid_and_complete() {
    let text = fs::read_to_string(in_repository("docs/config.md")).unwrap();
    let examples: Vec<&str> = text.split("```toml\n").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect();
    assert_eq!(examples.len(), 2);
    for example in examples {
        let loaded = config::parse(example, "docs/config.md").map_err(|error| error.to_string()).unwrap();
        assert_eq!(loaded.warnings, []);
        loaded.config.require_interfaces().unwrap();
    }
    let full = full_example();
    for key in config::accepted_keys() {
        assert!(full.contains(key.name), "the full example lacks {}", key.name);
    }
}

#[test]
fn documented_defaults_are_the_real_ones() {
    let minimal = "[[interface]]\nname = \"eth0\"\nbusy_poll = {}\n[[virtual_service]]\nvip = \"10.0.0.1\"\nport = 1\n\
                   protocol = \"tcp\"\nreal_server = [{ address = \"10.0.0.2\" }]\nfallback = { address = \"10.0.0.3\" }";
    let mut json = serde_json::to_value(accepted(minimal)).unwrap();
    // The keys of a check are those of its kind: this one has all but the payloads and the command.
    let checks = format!("{minimal}\nhealth_check = [{{ kind = \"https\" }}]");
    json["check"] = serde_json::to_value(accepted(&checks)).unwrap()["virtual_service"][0]["health_check"][0].clone();
    for (table, key, default, _) in documented_keys() {
        if ["send", "send_hex", "expect", "expect_hex", "command"].contains(&key.as_str()) {
            continue;
        }
        let pointer = match table.as_str() {
            "interface" => "/interface/0".to_owned(),
            "interface.busy_poll" => "/interface/0/busy_poll".to_owned(),
            "virtual_service" => "/virtual_service/0".to_owned(),
            "virtual_service.real_server" => "/virtual_service/0/real_server/0".to_owned(),
            "virtual_service.fallback" => "/virtual_service/0/fallback".to_owned(),
            "virtual_service.health_check" => "/check".to_owned(),
            table => format!("/{table}"),
        };
        let value = json.pointer(&format!("{pointer}/{key}")).unwrap_or_else(|| panic!("{table}.{key} in {json}"));
        let required = config::accepted_keys().iter().any(|k| k.table == table && k.name == key && k.required);
        assert_eq!(default == "required", required, "{table}.{key}");
        match default.strip_prefix('`').and_then(|default| default.strip_suffix('`')) {
            // The list of cores is empty where they are chosen automatically.
            _ if (table.as_str(), key.as_str()) == ("virtual_service", "announce") => {
                assert_eq!(value, &json["director"]["announce"]);
            }
            _ if table == "virtual_service" && json["director"].get(&key).is_some() => {
                assert_eq!(value, &json["director"][&key], "{key}");
            }
            Some("\"auto\"") if key == "cores" => assert_eq!(value.to_string(), "[]"),
            Some(default) if !default.contains('`') => assert_eq!(value.to_string(), default, "{table}.{key}"),
            _ if required || ["busy_poll", "real_server", "fallback"].contains(&key.as_str()) => {}
            _ if (table.as_str(), key.as_str()) == ("virtual_service", "health_check") => {
                assert_eq!(value.to_string(), "[]");
            }
            _ if key == "retry_interval_ms" => assert_eq!(value, &json["check"]["interval_ms"]),
            // The service's, which is 1 here.
            _ if key == "port" => assert_eq!(value.to_string(), "1"),
            _ => assert!(value.is_null(), "{table}.{key} is {value}"),
        }
    }
}

/// A change of each setting is reported by `restart_differences` exactly where the document says "restart".
#[test]
fn documented_reloads_are_the_real_ones() {
    let before = "[[interface]]\nname = \"eth0\"\nbusy_poll = {}\n";
    for (table, key, _, reload) in documented_keys() {
        let changed = match (table.as_str(), key.as_str()) {
            ("director", "secret") => "[director]\nsecret = \"x\"\n".to_owned() + before,
            ("director", "control_socket" | "stats_file") => format!("[director]\n{key} = \"/x\"\n{before}"),
            ("director", "control_socket_mode") => format!("[director]\n{key} = \"0600\"\n{before}"),
            ("director", "control_socket_owner" | "control_socket_group") => {
                format!("[director]\n{key} = \"x\"\n{before}")
            }
            ("director", "no_socket") => format!("[director]\nno_socket = \"pass\"\n{before}"),
            ("director", "flows_per_worker") => format!("[director]\nflows_per_worker = 2048\n{before}"),
            ("director", "stats_interval_ms") => format!("[director]\nstats_interval_ms = 10\n{before}"),
            ("director", "stats_format") => format!("[director]\nstats_format = \"lines\"\n{before}"),
            ("director", "stats_rotate") => format!("[director]\nstats_rotate = \"1G\"\n{before}"),
            ("director", "stats_keep") => format!("[director]\nstats_keep = 1\n{before}"),
            ("director", "prometheus_listen") => format!("[director]\nprometheus_listen = \"[::1]:1\"\n{before}"),
            ("director", "stats_softirq") => format!("[director]\nstats_softirq = \"procfs\"\n{before}"),
            ("interface", "name") => before.replace("eth0", "eth1"),
            ("interface", "busy_poll") => before.replace("busy_poll = {}", ""),
            ("interface", "queues" | "cores") => format!("{before}{key} = [1]"),
            ("interface", "receive") => format!("{before}receive = false"),
            ("interface", "huge_pages") => format!("{before}huge_pages = true"),
            ("interface", "mode") => format!("{before}mode = \"native\""),
            ("interface", "copy") => format!("{before}copy = \"copy\""),
            ("interface", "poll") => format!("{before}poll = \"busy\""),
            ("interface", "frame_size") => format!("{before}frame_size = 2048"),
            ("interface", "virtual_macs") => format!("{before}virtual_macs = [\"02:00:00:00:00:01\"]"),
            ("interface", "batch") => format!("{before}batch = 32"),
            ("interface", _) => format!("{before}{key} = 1024"),
            ("interface.busy_poll", _) => before.replace("{}", &format!("{{ {key} = 1 }}")),
            _ => format!("{before}[[virtual_service]]\nvip = \"10.0.0.1\"\nport = 1\nprotocol = \"tcp\""),
        };
        let differences = accepted(before).restart_differences(&accepted(&changed));
        let expected = match reload.as_str() {
            "restart" => true,
            "reload" => false,
            other => panic!("{table}.{key}: {other}"),
        };
        assert_eq!(!differences.is_empty(), expected, "{table}.{key}: {differences:?}");
    }
}

/// A check that compares each with each would take minutes here.
#[test]
fn large_files_are_checked_in_linear_time() {
    let mut many_services = String::from("[director]\nsecret = \"s\"\n");
    for service in 0..10_000 {
        let (high, low) = (service / 250, service % 250 + 1);
        writeln!(many_services, "[[virtual_service]]\nvip = \"10.0.{high}.{low}\"\nport = 80\nprotocol = \"tcp\"")
            .unwrap();
        for server in 1..=10 {
            writeln!(many_services, "[[virtual_service.real_server]]\naddress = \"10.1.0.{server}\"\nweight = 2")
                .unwrap();
            writeln!(many_services, "mac = \"02:00:00:00:01:{server:02x}\"").unwrap();
        }
    }
    let mut many_servers = String::from("[[virtual_service]]\nvip = \"10.0.0.1\"\nport = 80\nprotocol = \"tcp\"\n");
    many_servers.push_str("real_server = [");
    for server in 0..65_535 {
        let (high, low) = (server / 256, server % 256);
        write!(many_servers, "{{ address = \"10.2.{high}.{low}\" }}, ").unwrap();
    }
    many_servers.push_str("]\n");
    let many_unknown: String = (0..300_000).map(|n| format!("key{n} = 1\n")).collect();
    let many_broken = "port = 0x y\n".repeat(300_000);
    let start = Instant::now();
    let config = accepted(&many_services);
    assert_eq!(config.virtual_services.iter().map(|service| service.real_servers.len()).sum::<usize>(), 100_000);
    println!("10,000 services: {:?}", start.elapsed());
    assert_eq!(accepted(&many_servers).virtual_services[0].real_servers.len(), 65_535);
    println!("and 65,535 real servers: {:?}", start.elapsed());
    assert!(refused(&many_unknown).ends_with("and 299900 more; correct these first"));
    println!("and 300,000 unknown keys: {:?}", start.elapsed());
    assert_eq!(refused(&many_broken).lines().count(), 1, "of a large file the first syntax error is enough");
    println!("and 300,000 broken lines: {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(40), "took {:?}", start.elapsed());
}

#[test]
fn deep_nesting_is_refused_and_not_followed() {
    for text in [
        "a = ".to_owned() + &"[".repeat(200_000),
        "a = ".to_owned() + &"{ a = ".repeat(100_000),
        vec!["a"; 200_000].join(".") + " = 1",
        format!("[{}]", vec!["a"; 200_000].join(".")),
        format!("[[{}]]", vec!["virtual_service"; 50_000].join(".")),
    ] {
        assert!(!refused(&text).is_empty());
    }
}

/// What holds of every configuration that is accepted, and of every message where none is.
fn check_any(text: &str) {
    match config::parse(text, "f.toml") {
        Ok(Loaded { config, warnings }) => {
            check_accepted(&config);
            assert!(warnings.iter().all(|warning| warning.to_string().starts_with("f.toml:")));
        }
        Err(ConfigError::Invalid { findings, .. }) => {
            assert!(!findings.is_empty());
            for finding in findings {
                assert!(finding.line <= text.split('\n').count(), "{finding}");
                assert!(!finding.message.is_empty() && !finding.to_string().contains('\n'), "{finding}");
            }
        }
        Err(other) => panic!("{other}"),
    }
}

fn check_accepted(config: &Config) {
    for (index, service) in config.virtual_services.iter().enumerate() {
        assert!(config.virtual_services[..index].iter().all(|other| other.key != service.key));
        for (index, server) in service.real_servers.iter().enumerate() {
            assert_eq!(server.address.is_ipv4(), service.key.vip.is_ipv4());
            assert_ne!(server.address, service.key.vip);
            assert!(service.real_servers[..index].iter().all(|other| other.address != server.address));
            assert!(server.mac.is_none_or(|mac| !mac.is_multicast() && !mac.is_zero()));
        }
    }
    for interface in &config.interfaces {
        assert!((1..=15).contains(&interface.name.len()) && (1..=512).contains(&interface.batch));
        for ring in [interface.rx_ring, interface.tx_ring, interface.fill_ring, interface.completion_ring] {
            assert!(ring.is_power_of_two() && ring >= interface.batch);
        }
        assert!(interface.frames_per_queue() >= 2 * interface.batch);
        assert!(!matches!(&interface.queues, Queues::List(queues) if queues.is_empty()));
    }
}

/// One cut, copy, swap or insertion; places are shares of the text's length in 1/65536.
#[derive(Clone, Debug)]
enum Mutation {
    Cut(u16, u8),
    Insert(u16, String),
    CopyLine(u16, u16),
    Value(u16, String),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    const TOKENS: [&str; 26] = [
        "\"",
        "'''",
        "[",
        "]]",
        "[[interface]]\n",
        "{",
        "}",
        "=",
        ".",
        ",",
        "\n",
        "\r",
        "#",
        "0",
        "-1",
        "1e9",
        "0x",
        "true",
        "\"10.0.0.1\"",
        "\"::1\"",
        "1979-05-27",
        "[1, 2]",
        "{ a = 1 }",
        "99999999999999999999",
        "\u{0}",
        "ä",
    ];
    let token = prop_oneof![proptest::sample::select(&TOKENS[..]).prop_map(str::to_owned), ".{0,8}"];
    prop_oneof![
        any::<(u16, u8)>().prop_map(|(at, length)| Mutation::Cut(at, length)),
        (any::<u16>(), token.clone()).prop_map(|(at, token)| Mutation::Insert(at, token)),
        any::<(u16, u16)>().prop_map(|(from, to)| Mutation::CopyLine(from, to)),
        (any::<u16>(), token).prop_map(|(line, token)| Mutation::Value(line, token)),
    ]
}

fn mutate(text: &str, mutation: &Mutation) -> String {
    let letters: Vec<char> = text.chars().collect();
    let lines: Vec<&str> = text.split('\n').collect();
    let share = |part: u16, whole: usize| usize::from(part) * whole / 65_536;
    match mutation {
        Mutation::Cut(at, length) => {
            let at = share(*at, letters.len());
            let end = (at + usize::from(*length)).min(letters.len());
            letters[..at].iter().chain(&letters[end..]).collect()
        }
        Mutation::Insert(at, token) => {
            let at = share(*at, letters.len());
            letters[..at].iter().copied().chain(token.chars()).chain(letters[at..].iter().copied()).collect()
        }
        Mutation::CopyLine(from, to) => {
            let mut lines = lines.clone();
            lines.insert(share(*to, lines.len()), lines[share(*from, lines.len())]);
            lines.join("\n")
        }
        Mutation::Value(line, token) => {
            let mut lines: Vec<String> = lines.iter().map(|&line| line.to_owned()).collect();
            let line = share(*line, lines.len());
            if let Some((key, _)) = lines[line].split_once('=') {
                lines[line] = format!("{key}= {token}");
            }
            lines.join("\n")
        }
    }
}

fn any_unicast() -> impl Strategy<Value = u32> {
    0x0100_0000_u32..0x7f00_0000
}

fn any_config() -> impl Strategy<Value = String> {
    let servers = proptest::collection::btree_map(any_unicast(), (0..50_u32, any::<bool>()), 0..6);
    let service = (any::<u16>(), any::<bool>(), any::<bool>(), servers);
    let services = proptest::collection::btree_map(0xc000_0000_u32..0xdfff_ffff, service, 0..5);
    let interface =
        (6..=16_u32, 6..=16_u32, 1..=64_u32, any::<bool>(), proptest::collection::btree_set(0..1024_u32, 0..4));
    let interfaces = proptest::collection::btree_map("[a-z]{1,15}", interface, 0..3);
    (services, interfaces).prop_map(|(services, interfaces)| {
        let mut text = String::new();
        for (name, (rx, tx, batch, receive, queues)) in interfaces {
            let queues = if queues.is_empty() {
                "\"all\"".to_owned()
            } else {
                format!("{queues:?}").replace(['{'], "[").replace('}', "]")
            };
            writeln!(text, "[[interface]]\nname = \"{name}\"\nrx_ring = {}\ntx_ring = {}", 1 << rx, 1 << tx).unwrap();
            writeln!(text, "batch = {batch}\nreceive = {receive}\nqueues = {queues}").unwrap();
        }
        for (vip, (port, tcp, client, servers)) in services {
            let (protocol, persistence) = (if tcp { "tcp" } else { "udp" }, if client { "client" } else { "none" });
            writeln!(text, "[[virtual_service]]\nvip = \"{}\"\nport = {port}", std::net::Ipv4Addr::from(vip)).unwrap();
            writeln!(text, "protocol = \"{protocol}\"\npersistence = \"{persistence}\"").unwrap();
            for (address, (weight, mac)) in servers {
                let address = std::net::Ipv4Addr::from(address);
                writeln!(text, "[[virtual_service.real_server]]\naddress = \"{address}\"\nweight = {weight}").unwrap();
                if mac {
                    writeln!(text, "mac = \"02:00:00:00:00:{weight:02x}\"").unwrap();
                }
            }
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC*", lines in "([a-z_]{1,9} ?= ?[\"\\[{0-9a-z.]{0,9}[\"\\]}]?\n|\\[{0,2}[a-z_.]{1,15}\\]{0,2}\n){0,20}") {
        check_any(&text);
        check_any(&lines);
    }

    #[test]
    fn a_mutated_file_is_read_or_refused(which in any::<prop::sample::Index>(), mutations in prop::collection::vec(mutation(), 1..6)) {
        let mut texts: Vec<String> = example_files().into_iter().map(|(_, text)| text).collect();
        texts.push(full_example());
        let mut text = texts.swap_remove(which.index(texts.len()));
        for mutation in &mutations {
            text = mutate(&text, mutation);
        }
        check_any(&text);
    }

    /// The JSON form has the keys of the file: written as TOML it is the same configuration again.
    #[test]
    fn a_valid_file_survives_the_round_trip(text in any_config()) {
        let config = accepted(&text);
        check_accepted(&config);
        let again = accepted(&toml::to_string(&config).unwrap());
        prop_assert_eq!(config, again);
    }
}

#[test]
fn an_any_port_service_stands_beside_others() {
    let service = |port: u16, protocol: &str| {
        format!("[[virtual_service]]\nvip = \"10.0.0.1\"\nport = {port}\nprotocol = \"{protocol}\"\n")
    };
    let config = accepted(&(service(0, "tcp") + &service(80, "tcp") + &service(0, "udp")));
    let keys: Vec<_> = config.virtual_services.iter().map(|service| (service.key.port, service.key.protocol)).collect();
    assert_eq!(keys, [(0, Protocol::Tcp), (80, Protocol::Tcp), (0, Protocol::Udp)]);
}

/// A UDP service on two real servers, with these lines in it and in them.
fn quic(protocol: &str, service: &str, servers: [&str; 2]) -> String {
    let mut text = format!(
        "[director]\nsecret = \"x\"\n[[virtual_service]]\nvip = \"192.0.2.1\"\nport = 443\nprotocol = \"{protocol}\"\n{service}\n"
    );
    for (number, server) in (1..).zip(servers) {
        writeln!(text, "[[virtual_service.real_server]]\naddress = \"192.0.2.10{number}\"\n{server}").unwrap();
    }
    text
}

#[test]
fn quic_services_have_server_ids_of_one_length() {
    let ids = ["quic_server_id = \"0A01\"", "quic_server_id = \"0a02\""];
    let both = "quic = true\nquic_server_id_length = 2";
    let config = accepted(&quic("udp", both, ids));
    let service = &config.virtual_services[0];
    assert!(service.quic);
    assert_eq!(service.quic_server_id_length, Some(2));
    let read: Vec<_> = service.real_servers.iter().map(|server| server.quic_server_id.unwrap().to_string()).collect();
    assert_eq!(read, ["0a01", "0a02"]);
    let cases = [
        ("tcp", both, ids, "QUIC runs over UDP and this service is tcp"),
        ("udp", "quic = true", ids, "quic_server_id_length is missing"),
        ("udp", "quic = true\nquic_server_id_length = 0", ids, "0 is not a length in bytes; use 1 to 15"),
        ("udp", "quic = true\nquic_server_id_length = 16", ids, "16 is not a length in bytes; use 1 to 15"),
        ("udp", "quic = true\nquic_server_id_length = 3", ids, "has 2 bytes and quic_server_id_length is 3"),
        ("udp", "quic = false", ids, "is for services with quic = true only"),
        ("udp", "quic_server_id_length = 2", ["", ""], "is for services with quic = true only"),
        ("udp", both, [ids[0], ids[0]], "0a01 is that of real_server[0] already"),
        ("udp", both, [ids[0], "quic_server_id = \"0a0\""], "\"0a0\" is not a server id"),
        ("udp", both, [ids[0], "quic_server_id = \"\""], "\"\" is not a server id"),
    ];
    for (protocol, service, servers, expected) in cases {
        let said = refused(&quic(protocol, service, servers));
        assert!(said.contains(expected), "{service}: {said}");
    }
    let warnings = config::parse(&quic("udp", both, ["", ""]), "f.toml").unwrap().warnings;
    assert!(warnings.iter().any(|warning| warning.to_string().contains("no real server has a quic_server_id")));
}
