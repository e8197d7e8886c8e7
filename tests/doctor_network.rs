//! `pointsman doctor` on real networks: who answers for the VIP, and what scripts/real-server makes of it. Needs root.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test fails by panicking")]

mod lab;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use lab::director::{Config, Director, RealServer, pointsman};
use lab::frame::Mac;
use lab::{Host, Lab, Shape, vip4, vip6, wait_for};
use serde_json::Value;

/// A doctor's document and exit code.
struct Diagnosis {
    document: Value,
    code: Option<i32>,
}

impl Diagnosis {
    fn of(lab: &Lab, config: &Path, options: &[&str]) -> Diagnosis {
        let mut command = lab.command(Host::Director, pointsman());
        let output = command.args(["doctor", "--json", "--config"]).arg(config).args(options).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let document = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
        Diagnosis { document, code: output.status.code() }
    }

    fn findings(&self, id: &str) -> Vec<&Value> {
        self.document["findings"].as_array().unwrap().iter().filter(|finding| finding["id"] == id).collect()
    }

    /// The one finding of this kind about this subject.
    fn about(&self, id: &str, subject: &str) -> &Value {
        let found: Vec<_> = self.findings(id).into_iter().filter(|finding| finding["subject"] == subject).collect();
        assert_eq!(found.len(), 1, "{id} {subject}: {:#}", self.document);
        found[0]
    }
}

fn config_file(lab: &Lab, config: &Config) -> PathBuf {
    let path = lab.scratch().join("doctor.toml");
    fs::write(&path, config.to_toml(&lab.scratch().join("nobody.sock"))).unwrap();
    path
}

/// scripts/real-server on a host, with its state in the laboratory's directory.
fn real_server(lab: &Lab, host: Host, arguments: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/real-server");
    let state = lab.scratch().join(format!("{}.state", host.name()));
    lab.command(host, script).arg("--state").arg(state).args(arguments).output().unwrap()
}

fn must(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Addresses and ARP settings of a host: what scripts/real-server may change.
fn state(lab: &Lab, host: Host) -> String {
    let mut settings = lab.ip(host, "-brief address show");
    for conf in ["all", "lo", "eth0"] {
        for name in ["arp_ignore", "arp_announce"] {
            let file = format!("/proc/sys/net/ipv4/conf/{conf}/{name}");
            let value = lab.on(host, || fs::read_to_string(&file)).unwrap();
            settings.push_str(&format!("{conf} {name} {value}"));
        }
    }
    settings
}

/// Back to what a kernel starts with.
fn forget_arp_settings(lab: &Lab, host: Host) {
    for conf in ["all", "lo", "eth0"] {
        for name in ["arp_ignore", "arp_announce"] {
            lab.on(host, || fs::write(format!("/proc/sys/net/ipv4/conf/{conf}/{name}"), "0")).unwrap();
        }
    }
}

#[test]
fn a_sound_network_has_no_errors_beside_a_running_director_and_without_one() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let alone = Diagnosis::of(&lab, &config_file(&lab, &Config::usual()), &[]);
    assert_eq!(alone.document["counts"]["error"], 0, "{:#}", alone.document);
    assert_eq!(alone.document["director_running"], false);
    for host in [Host::Web1, Host::Web2] {
        for address in [host.ipv4(), host.ipv6()] {
            let reached = alone.about("real_server_reachable", &address.to_string());
            assert_eq!(reached["severity"], "ok", "{reached:#}");
            assert!(reached["what"].as_str().unwrap().contains(&host.mac().to_string()), "{reached:#}");
        }
    }

    let director = Director::start(&lab, &Config::usual());
    let beside = Diagnosis::of(&lab, director.config_file(), &[]);
    assert_eq!(beside.document["counts"]["error"], 0, "{:#}", beside.document);
    assert_eq!(beside.document["director_running"], true);
    assert_eq!(beside.about("xdp_program", "eth0")["what"], "the running director's");
    assert_eq!(beside.about("real_server_reachable", "192.168.88.100")["severity"], "ok");

    // To one who does not know of that director, its program is another's.
    let stranger = Diagnosis::of(&lab, &config_file(&lab, &Config::usual()), &["--no-probe"]);
    assert_eq!(stranger.about("xdp_program", "eth0")["severity"], "error");
    assert_eq!(stranger.code, Some(4));
    assert!(stranger.findings("real_server_reachable").is_empty(), "nothing was asked");
}

#[test]
fn a_real_server_that_answers_arp_is_named_and_mended_by_the_script_and_undone() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let config = config_file(&lab, &Config::usual());
    forget_arp_settings(&lab, Host::Web1);
    let before = state(&lab, Host::Web1);

    let faulty = Diagnosis::of(&lab, &config, &[]);
    assert_eq!(faulty.code, Some(4));
    let fault = faulty.about("vip_real_server_answers", &vip4().to_string());
    let what = fault["what"].as_str().unwrap();
    assert!(what.contains("real server 192.168.88.100") && what.contains(&Host::Web1.mac().to_string()), "{what}");
    let mend = fault["mend"].to_string();
    assert!(mend.contains("arp_ignore=1") && mend.contains("arp_announce=2"), "{mend}");
    assert!(mend.contains("ip address del 192.168.88.15/PREFIX dev INTERFACE"), "{mend}");
    let director = Director::start(&lab, &Config::usual());
    let line = wait_for("a director that has started to name it", 10, || {
        director.log().lines().find(|line| line.contains("check=\"vip_real_server_answers\"")).map(str::to_owned)
    });
    assert!(line.contains("WARN") && line.contains("real server 192.168.88.100"), "{line}");
    drop(director);

    must(&real_server(&lab, Host::Web1, &["192.168.88.15", "fd00:88::15"]));
    let mended = Diagnosis::of(&lab, &config, &[]);
    assert!(mended.findings("vip_real_server_answers").is_empty(), "{:#}", mended.document);
    let prepared = state(&lab, Host::Web1);
    assert!(prepared.contains("all arp_ignore 1") && prepared.contains("eth0 arp_announce 2"), "{prepared}");

    assert_eq!(
        must(&real_server(&lab, Host::Web1, &["192.168.88.15", "fd00:88::15"])),
        "",
        "a second run does nothing"
    );
    assert_eq!(state(&lab, Host::Web1), prepared);

    must(&real_server(&lab, Host::Web1, &["--undo"]));
    assert_eq!(state(&lab, Host::Web1), before);
    assert_eq!(must(&real_server(&lab, Host::Web1, &["--undo"])), "", "nothing is left to undo");
}

#[test]
fn linux_answers_neighbour_solicitations_only_for_addresses_of_the_interface() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let config = config_file(&lab, &Config::usual());
    // Both real servers have the VIP on lo, and nobody has said anything to the kernel about it.
    let silent = Diagnosis::of(&lab, &config, &[]);
    assert!(silent.findings("vip_real_server_answers").is_empty(), "{:#}", silent.document);

    lab.ip(Host::Web2, "address del fd00:88::15/128 dev lo");
    lab.ip(Host::Web2, "address add fd00:88::15/128 dev eth0 nodad");
    let before = state(&lab, Host::Web2);
    let faulty = Diagnosis::of(&lab, &config, &[]);
    let what = faulty.about("vip_real_server_answers", &vip6().to_string())["what"].as_str().unwrap();
    assert!(what.contains("fd00:88::200") && what.contains(&Host::Web2.mac().to_string()), "{what}");

    must(&real_server(&lab, Host::Web2, &["fd00:88::15"]));
    let mended = Diagnosis::of(&lab, &config, &[]);
    assert!(mended.findings("vip_real_server_answers").is_empty(), "{:#}", mended.document);
    assert!(lab.ip(Host::Web2, "-6 address show dev lo").contains("fd00:88::15/128"), "the VIP is on lo");

    must(&real_server(&lab, Host::Web2, &["--undo", "fd00:88::15"]));
    assert_eq!(state(&lab, Host::Web2), before);
}

#[test]
fn other_answerers_wrong_macs_and_silent_real_servers_are_told_apart() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let mut config = Config::usual();
    let dead = RealServer { address: "192.168.88.77".parse().unwrap(), weight: 1, mac: None };
    let beyond = RealServer { address: "10.0.0.7".parse().unwrap(), weight: 1, mac: None };
    let mistaken = RealServer { address: Host::Web2.ipv4(), weight: 1, mac: Some(Mac([2, 0, 0, 0, 2, 1])) };
    config.services[0].real_servers = vec![dead, beyond, mistaken];
    config.services.truncate(1);
    let config = config_file(&lab, &config);

    lab.ip(Host::Client, "address add 192.168.88.15/32 dev eth0");
    let twice = Diagnosis::of(&lab, &config, &[]);
    let what = twice.about("vip_answered_twice", "192.168.88.15")["what"].as_str().unwrap();
    assert!(what.contains(&Host::Client.mac().to_string()), "{what}");
    assert_eq!(twice.about("real_server_reachable", "192.168.88.77")["severity"], "warning");
    let gateway = twice.about("real_server_on_link", "10.0.0.7");
    assert!(gateway["severity"] == "error" && gateway["what"].as_str().unwrap().contains("gateway 192.168.88.1"));
    let mac = twice.about("real_server_mac", "192.168.88.200");
    assert!(mac["severity"] == "error" && mac["mend"].to_string().contains(&Host::Web2.mac().to_string()), "{mac:#}");

    lab.ip(Host::Director, "address del 192.168.88.15/32 dev eth0");
    let standby = Diagnosis::of(&lab, &config, &[]);
    assert_eq!(standby.about("vip_elsewhere", "192.168.88.15")["severity"], "info");
    lab.ip(Host::Client, "address del 192.168.88.15/32 dev eth0");
    let nobody = Diagnosis::of(&lab, &config, &[]);
    assert_eq!(nobody.about("vip_unanswered", "192.168.88.15")["severity"], "info");
    // Nobody has learnt anything from all these questions.
    let neighbours = lab.ip(Host::Web1, "-4 neighbour show");
    assert!(!neighbours.contains("192.168.88.15"), "{neighbours}");
}

#[test]
fn the_script_refuses_what_it_must_not_move_and_writes_what_outlives_a_boot() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let before = state(&lab, Host::Web1);
    let own = real_server(&lab, Host::Web1, &["192.168.88.100"]);
    assert_eq!(own.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&own.stderr).contains("192.168.88.100/24 is an address of eth0"), "{own:?}");
    for wrong in [&["300.1.1.1"][..], &["192.168.88.15/32"], &["web1"], &["--bogus"], &[]] {
        assert_eq!(real_server(&lab, Host::Web1, wrong).status.code(), Some(2), "{wrong:?}");
    }
    assert_eq!(state(&lab, Host::Web1), before);

    let root = lab.scratch().join("root");
    let persistent = ["--root", root.to_str().unwrap(), "--persistent", "192.168.88.16", "fd00:88::16"];
    must(&real_server(&lab, Host::Web1, &persistent));
    assert_eq!(must(&real_server(&lab, Host::Web1, &persistent)), "");
    let unit = fs::read_to_string(root.join("etc/systemd/system/pointsman-real-server.service")).unwrap();
    assert!(unit.contains("ExecStart=ip address replace 192.168.88.16/32 dev lo\n"), "{unit}");
    assert!(unit.contains("ExecStart=ip address replace fd00:88::16/128 dev lo nodad preferred_lft 0\n"), "{unit}");
    let settings = fs::read_to_string(root.join("etc/sysctl.d/60-pointsman-real-server.conf")).unwrap();
    assert!(settings.contains("net.ipv4.conf.all.arp_ignore = 1"), "{settings}");
    let printed = must(&real_server(&lab, Host::Web1, &["--print", "192.168.88.16", "fd00:88::16"]));
    assert!(printed.contains(&unit) && printed.contains(&settings), "{printed}");

    must(&real_server(&lab, Host::Web1, &["--undo"]));
    assert_eq!(state(&lab, Host::Web1), before);
    assert!(!root.join("etc/sysctl.d/60-pointsman-real-server.conf").exists());
}

#[test]
fn a_director_that_has_started_logs_what_is_to_be_mended() {
    let Some(lab) = Lab::up(Shape { queues: 2, ..Shape::default() }) else { return };
    let mut config = Config::usual();
    config.interfaces[0].settings.push("queues = [0]".to_owned());
    let director = Director::start(&lab, &config);
    let line = wait_for("the log to name the queue without a socket", 10, || {
        director.log().lines().find(|line| line.contains("queues 1 of 2 get no socket")).map(str::to_owned)
    });
    assert!(line.contains("WARN") && line.contains("check=\"queues\"") && line.contains("ethtool -L eth0"), "{line}");
    let log = director.log();
    assert!(log.find("forwarding took").unwrap() < log.find(&line).unwrap(), "it forwards before it looks: {log}");
}
