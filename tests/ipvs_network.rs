//! The commands of an LVS how-to, fed to a link named `ipvsadm`, and then real HTTP.
//!
//! The network is that of `scripts/lab`. These tests need root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod lab;

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;

use lab::director::{Config, Director, pointsman};
use lab::http::{WebServer, fetch};
use lab::{Host, Lab, Shape, vip4, wait_for};

const HOW_TO: &str = "\
ipvsadm -A -t 192.168.88.15:80 -s wrr
ipvsadm -a -t 192.168.88.15:80 -r 192.168.88.100 -w 1 -g
ipvsadm -a -t 192.168.88.15:80 -r 192.168.88.200 -w 2 -g
";

/// What `-S -n` says of it.
const SAVED: &str = "\
-A -t 192.168.88.15:80 -s wrr
-a -t 192.168.88.15:80 -r 192.168.88.100:80 -g -w 1
-a -t 192.168.88.15:80 -r 192.168.88.200:80 -g -w 2
";

/// A shell that finds the link named `ipvsadm` in its path.
struct Shell {
    path: String,
    socket: PathBuf,
}

impl Shell {
    fn of(lab: &Lab, director: &Director<'_>) -> Shell {
        let directory = lab.scratch().join("bin");
        fs::create_dir(&directory).unwrap();
        symlink(pointsman(), directory.join("ipvsadm")).unwrap();
        let path = format!("{}:{}", directory.display(), std::env::var("PATH").unwrap());
        Shell { path, socket: director.control_socket().to_owned() }
    }

    fn output(&self, script: &str, input: &str) -> Output {
        let mut shell = Command::new("sh");
        shell.args(["-ec", script]).env("PATH", &self.path).env("POINTSMAN_SOCKET", &self.socket);
        let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = shell.stdin.take().unwrap();
        thread::scope(|scope| {
            // Who does not read its input closes it.
            scope.spawn(move || drop(stdin.write_all(input.as_bytes())));
            shell.wait_with_output().unwrap()
        })
    }

    /// What is printed; nothing may go wrong, and nothing be said of it.
    fn run(&self, script: &str, input: &str) -> String {
        let output = self.output(script, input);
        assert!(output.status.success() && output.stderr.is_empty(), "{script}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Exit code and complaint.
    fn fails(&self, script: &str, input: &str) -> (i32, String) {
        let output = self.output(script, input);
        assert!(output.stdout.is_empty(), "{script}: {output:?}");
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }
}

/// A director with an interface and nothing else.
fn bare() -> Config {
    Config { services: Vec::new(), ..Config::usual() }
}

/// Who answers connections that are made one after the other.
fn answers(lab: &Lab, connections: usize) -> Vec<String> {
    let web = SocketAddr::from((vip4(), 80));
    (0..connections).map(|_| fetch(lab, Host::Client, web).unwrap().0).collect()
}

#[test]
fn the_how_to_works_as_it_is_written() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let _servers = [Host::Web1, Host::Web2].map(|host| WebServer::start(&lab, host, 80));
    let director = Director::start(&lab, &bare());
    let shell = Shell::of(&lab, &director);
    let empty = shell.run("ipvsadm -L -n", "");
    let lines: Vec<&str> = empty.lines().collect();
    assert!(lines[0].starts_with("IP Virtual Server version 1.2.1 (size="), "{empty}");
    assert_eq!(
        lines[1..],
        [
            "Prot LocalAddress:Port Scheduler Flags",
            "  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn"
        ]
    );
    assert_eq!(shell.run("ipvsadm -S -n", ""), "");

    assert_eq!(shell.run(HOW_TO, ""), "");
    wait_for("the next hops", 20, || director.stats().all_have_next_hops().then_some(()));
    let [one, two] = ["web1", "web2"];
    // In IPVS's order, with one worker exactly.
    assert_eq!(answers(&lab, 6), [two, one, two, two, one, two]);
    assert_eq!(shell.run("ipvsadm -S -n", ""), SAVED);
    let table = shell.run("ipvsadm -Ln", "");
    assert!(
        table.contains("\nTCP  192.168.88.15:80 wrr\n  -> 192.168.88.100:80            Route   1      "),
        "{table}"
    );
    assert!(table.contains("\n  -> 192.168.88.200:80            Route   2      "), "{table}");
    // Each was opened and closed.
    let connections = shell.run("ipvsadm -L -n -c", "");
    let closed = |line: &&str| line.starts_with("TCP ") && line.contains(" FIN_WAIT    192.168.88.10:");
    assert_eq!(connections.lines().filter(closed).count(), 6, "{connections}");
    let stats = shell.run("ipvsadm -L -n --stats --exact", "");
    let row = stats.lines().find(|line| line.starts_with("TCP  192.168.88.15:80 ")).unwrap();
    let counts: Vec<u64> = row.split_whitespace().skip(2).map(|count| count.parse().unwrap()).collect();
    // At least SYN, ACK, request and FIN of each, and nothing of what the servers say.
    assert!(
        counts[0] == 6 && counts[1] >= 24 && counts[3] >= counts[1] * 40 && counts[2] == 0 && counts[4] == 0,
        "{stats}"
    );

    shell.run("ipvsadm -E -t 192.168.88.15:80 -s rr", "");
    let turns = answers(&lab, 6);
    assert!(turns.windows(2).all(|pair| pair[0] != pair[1]), "{turns:?}");
    shell.run("ipvsadm -e -t 192.168.88.15:80 -r 192.168.88.200 -w 0", "");
    assert_eq!(answers(&lab, 3), [one, one, one]);
    // It gets turns again, but has the most connections that it is given already.
    shell.run("ipvsadm -e -t 192.168.88.15:80 -r 192.168.88.200 -w 1 -x 2 -y 1", "");
    assert_eq!(answers(&lab, 4), [one, one, one, one]);
    let thresholds = shell.run("ipvsadm -L -n --thresholds", "");
    assert!(thresholds.contains("\n  -> 192.168.88.200:80            2          1          0 "), "{thresholds}");
    shell.run("ipvsadm -e -t 192.168.88.15:80 -r 192.168.88.200 -w 1", "");
    assert!(answers(&lab, 2).contains(&two.to_owned()), "without a limit it has its turns");
}

#[test]
fn what_is_zeroed_is_zeroed_for_all_and_what_persistence_keeps_is_listed() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let _servers = [Host::Web1, Host::Web2].map(|host| WebServer::start(&lab, host, 80));
    let director = Director::start(&lab, &bare());
    let shell = Shell::of(&lab, &director);
    shell.run(HOW_TO, "");
    wait_for("the next hops", 20, || director.stats().all_have_next_hops().then_some(()));
    answers(&lab, 6);
    shell.run("ipvsadm -Z", "");
    let counted = || -> u64 {
        let stats = shell.run("ipvsadm -L -n --stats --exact", "");
        let row = stats.lines().find(|line| line.starts_with("TCP  192.168.88.15:80 ")).unwrap();
        row.split_whitespace().nth(2).unwrap().parse().unwrap()
    };
    assert_eq!(counted(), 0, "zeroed");
    // For all clients alike; the statistics go on, and nothing lies beside the socket.
    assert!(director.stats().0["virtual_services"][0]["connections"]["begun"].as_u64().unwrap() >= 6);
    assert!(!director.control_socket().with_extension("zeroed.json").exists());
    answers(&lab, 2);
    assert_eq!(counted(), 2);
    shell.run("ipvsadm -Z -t 192.168.88.15:80", "");
    assert_eq!(counted(), 0, "zeroed again");

    // What is gone counts from its beginning when it comes back.
    answers(&lab, 2);
    shell.run("ipvsadm -D -t 192.168.88.15:80", "");
    shell.run(HOW_TO, "");
    wait_for("the next hops", 20, || director.stats().all_have_next_hops().then_some(()));
    answers(&lab, 1);
    assert_eq!(counted(), 1, "no mark of the service before it");
    // With persistence the client's template is listed with its flows.
    shell.run("ipvsadm -E -t 192.168.88.15:80 -s rr -p 2678400 -M 255.255.255.0", "");
    answers(&lab, 2);
    let connections = shell.run("ipvsadm -L -n -c", "");
    let template = |line: &&str| {
        line.contains(" ASSURED     192.168.88.0:0     192.168.88.15:80   192.168.88.") && line.starts_with("TCP 446")
    };
    assert_eq!(connections.lines().filter(template).count(), 1, "{connections}");
}

#[test]
fn rule_sets_are_restored_as_a_whole_or_not_at_all() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let director = Director::start(&lab, &bare());
    let shell = Shell::of(&lab, &director);
    shell.run("ipvsadm -R", SAVED);
    assert_eq!(shell.run("ipvsadm -S -n", ""), SAVED);
    // What IPVS would say no to, in its words and with its exit code.
    for (line, code, sentence) in [
        ("-A -t 192.168.88.15:80", 255, "Service already exists"),
        ("-a -t 192.168.88.15:80 -r 192.168.88.100", 255, "Destination already exists"),
        ("-a -t 192.168.88.16:80 -r 192.168.88.100", 255, "Service not defined"),
        ("-e -t 192.168.88.15:80 -r 192.168.88.101", 255, "No such destination"),
        ("-d -t 192.168.88.15:80 -r 192.168.88.101", 255, "No such destination"),
        ("-D -t 192.168.88.16:80", 255, "No such service"),
        ("-E -t 192.168.88.16:80", 255, "No such service"),
        ("-L -t 192.168.88.16:80", 1, "No such service"),
        ("-A -t 127.0.0.1:80", 255, "vip"),
        ("-Z -t 192.168.88.16:80", 255, "No such service"),
        ("-A -t 192.168.88.16", 2, "Zero port specified for non-persistent service"),
    ] {
        let (found, said) = shell.fails(&format!("ipvsadm {line}"), "");
        assert!(said.starts_with(sentence) && found == code, "{line}: {found}: {said}");
    }
    let (code, said) = shell.fails("ipvsadm -R", "-A -t 192.168.88.16:80\n\n-A -t 192.168.88.15:80\n");
    assert_eq!(code, 255);
    assert!(said.starts_with("line 3: Service already exists"), "{said}");
    assert_eq!(shell.run("ipvsadm -S -n", ""), SAVED);

    // Thousands of lines, with what ipvsadm-restore does before.
    let mut rules = String::new();
    for service in 1..=20 {
        rules += &format!("-A -t 192.168.88.15:{service} -s rr -p 60\n");
        for server in 100..200 {
            rules += &format!("-a -t 192.168.88.15:{service} -r 192.168.88.{server}:{service} -g -w {server}\n");
        }
    }
    shell.run("{ echo -C; cat; } | ipvsadm -R", &rules);
    assert_eq!(shell.run("ipvsadm -S -n", ""), rules);

    // Timeouts are those of all services, also of later ones.
    assert_eq!(shell.run("ipvsadm -L --timeout", ""), "Timeout (tcp tcpfin udp): 900 120 300\n");
    shell.run("ipvsadm --set 600 0 60; ipvsadm -A -u 192.168.88.15:53", "");
    assert_eq!(shell.run("ipvsadm -L --timeout", ""), "Timeout (tcp tcpfin udp): 600 120 60\n");
    shell.run("ipvsadm -C", "");
    // With and without services.
    assert_eq!(shell.run("ipvsadm -L --timeout", ""), "Timeout (tcp tcpfin udp): 600 120 60\n");
    shell.run("ipvsadm --set 900 120 300", "");
    assert_eq!(shell.run("ipvsadm -L --timeout", ""), "Timeout (tcp tcpfin udp): 900 120 300\n");
    assert_eq!(shell.run("ipvsadm -S -n", ""), "");
    assert!(!fs::read_to_string(director.config_file()).unwrap().contains("virtual_service"));
    shell.run("POINTSMAN_PERSIST=1 ipvsadm -A -t '[fd00:88::15]:80' -s mh -b mh-port", "");
    assert!(fs::read_to_string(director.config_file()).unwrap().contains("fd00:88::15"));
    assert_eq!(shell.run("ipvsadm -S -n", ""), "-A -t [fd00:88::15]:80 -s mh -b mh-port\n");
}

/// Rules that name a server which nothing leads to, as at boot, and one on the segment.
const EARLY: &str = "\
-A -t 192.168.88.15:80 -s rr
-a -t 192.168.88.15:80 -r 192.168.88.100:80 -g -w 1
-a -t 192.168.88.15:80 -r 198.51.100.7:80 -g -w 1
";

#[test]
fn a_rule_set_is_restored_before_the_way_to_its_servers_is_there() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let director = Director::start(&lab, &bare());
    let shell = Shell::of(&lab, &director);
    let output = shell.output("ipvsadm -R", &format!("{EARLY}-Z\n"));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(
        said.starts_with("warning: ") && said.contains("198.51.100.7") && said.contains("counts as down"),
        "{said}"
    );
    assert_eq!(shell.run("ipvsadm -S -n", ""), EARLY);
    let next_hop = || {
        let output = Command::new(pointsman()).args(["neighbors", "--json", "--socket"]).arg(&shell.socket).output();
        let all: serde_json::Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
        let of = |hop: &&serde_json::Value| hop["address"] == "198.51.100.7";
        all.as_array().unwrap().iter().find(of).unwrap().clone()
    };
    assert!(next_hop()["problem"].is_string() && next_hop()["device"].is_null(), "{}", next_hop());
    // A service more does not say it again.
    shell.run("ipvsadm -A -t 192.168.88.15:443", "");
    // It is told again and taken up where a file is read anew, and by one that starts.
    shell.run("POINTSMAN_PERSIST=1 ipvsadm -D -t 192.168.88.15:443", "");
    drop(director);
    let text = fs::read_to_string(lab.scratch().join("director.toml")).unwrap();
    assert!(text.contains("198.51.100.7"), "{text}");
    let mut config = bare();
    config.services = Config::usual().services.into_iter().take(1).collect();
    config.services[0].real_servers[1].address = "198.51.100.7".parse().unwrap();
    config.services[0].real_servers[1].weight = 0;
    let director = Director::start(&lab, &config);
    assert!(director.log().contains("counts as down until there is a way"), "{}", director.log());
    let added = lab.command(Host::Director, "ip").args("address add 198.51.100.1/24 dev eth0".split(' ')).status();
    assert!(added.unwrap().success());
    wait_for("the way to it", 20, || next_hop()["device"].is_string().then_some(()));
}

#[test]
fn what_no_rule_can_say_is_named_and_outlasts_a_restore() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let mut config = bare();
    config.services = Config::usual().services.into_iter().take(1).collect();
    config.services[0].settings.push("quorum = 2\nfallback = { address = \"192.168.88.10\" }".to_owned());
    config
        .below_every_service
        .push("[[virtual_service.health_check]]\nkind = \"tcp\"\nport = 81\nfall = 1000".to_owned());
    let director = Director::start(&lab, &config);
    let shell = Shell::of(&lab, &director);
    let output = shell.output("ipvsadm -S -n", "");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("tcp 192.168.88.15:80 has health_check, fallback, quorum, which no rule can say"), "{said}");
    let rules = String::from_utf8(output.stdout).unwrap();
    shell.run("{ echo -C; cat; } | ipvsadm -R", &rules);
    let shown = Command::new(pointsman()).args(["service", "list", "--json", "--socket"]).arg(&shell.socket).output();
    let services: serde_json::Value = serde_json::from_slice(&shown.unwrap().stdout).unwrap();
    assert_eq!((services[0]["quorum"].as_u64(), services[0]["health_check"][0]["port"].as_u64()), (Some(2), Some(81)));
    assert_eq!(services[0]["fallback"]["address"], "192.168.88.10");
}
