//! ipvsadm's language: listings against what ipvsadm 1.31 has printed (`tests/ipvsadm`), and command lines that are
//! refused as it refuses them.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test fails by panicking")]

use std::fs;
use std::net::IpAddr;

use pointsman::config::edit::{Change, apply};
use pointsman::control::flows::FlowEntry;
use pointsman::control::schema::{ConfigDocument, ServiceDocument};
use pointsman::flow::FlowState;
use pointsman::ipvs::{
    Command, Connections, Counts, ListWhat, Listing, Names, ServerRow, ServiceFlags, ServiceRow, Table,
    director_timeouts, edits, list_connections, list_table, list_timeouts, parse, read_rules, save,
};
use pointsman::service::ServiceKey;
use serde_json::Value;

fn sample(name: &str) -> String {
    fs::read_to_string(format!("{}/tests/ipvsadm/{name}.txt", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn words(line: &str) -> Vec<String> {
    line.split_ascii_whitespace().map(str::to_owned).collect()
}

fn command(line: &str) -> Command {
    parse("ipvsadm", &words(line)).unwrap_or_else(|refusal| panic!("{line}: {refusal}"))
}

fn listing(line: &str) -> Listing {
    match command(line) {
        Command::List(listing) => listing,
        other => panic!("{line}: {other:?}"),
    }
}

fn server(address: &str, weight: u64, inactive: u64, counts: [u64; 3]) -> ServerRow {
    let [connections, packets, bytes] = counts;
    ServerRow {
        address: address.parse().unwrap(),
        weight,
        upper_threshold: 0,
        lower_threshold: 0,
        connections: Connections { active: 0, inactive, persistent: 0 },
        counts: Counts { connections, packets, bytes },
    }
}

fn service(key: &str, scheduler: &str, counts: [u64; 3], servers: Vec<ServerRow>) -> ServiceRow {
    let [connections, packets, bytes] = counts;
    ServiceRow {
        key: key.parse().unwrap(),
        scheduler: scheduler.to_owned(),
        flags: ServiceFlags::default(),
        persistence_s: None,
        netmask: None,
        counts: Counts { connections, packets, bytes },
        servers,
    }
}

/// The table of the samples, with the real servers in another order.
fn web(inactive: u64) -> Table {
    let servers = vec![server("192.168.88.200", 2, inactive, [0; 3]), server("192.168.88.100", 1, inactive, [0; 3])];
    Table { size: 256, services: vec![service("tcp 192.168.88.15:80", "rr", [0; 3], servers)] }
}

fn load(of_service: [u64; 3], of_servers: [[u64; 3]; 2]) -> Table {
    let [first, second] = of_servers;
    let servers = vec![server("192.168.88.100", 1, 0, first), server("192.168.88.200", 1, 0, second)];
    Table { size: 2048, services: vec![service("udp 192.168.88.15:80", "rr", of_service, servers)] }
}

#[test]
fn listings_are_those_of_ipvsadm_byte_for_byte() {
    let counted = load([512, 2_797_899, 128_703_354], [[256, 1_398_991, 64_353_586], [256, 1_398_908, 64_349_768]]);
    let rated = load([36, 285_222, 13_120_198], [[18, 142_637, 6_561_282], [18, 142_585, 6_558_916]]);
    for (table, line, name) in [
        (web(0), "-L -n", "ipvsadm-L-n.0"),
        (web(3), "-Ln", "ipvsadm-L-n"),
        (web(3), "-L -n --stats", "ipvsadm-stats"),
        (web(3), "-L -n --stats --exact", "ipvsadm-stats-exact"),
        (web(3), "-L -n --stats --rate", "ipvsadm-stats-rate"),
        (web(3), "-l --numeric --rate", "ipvsadm-rate"),
        (web(3), "-L -n --thresholds", "ipvsadm-thresholds"),
        (web(3), "--list -n --persistent-conn --sort", "ipvsadm-pconn"),
        (counted.clone(), "-L -n --stats", "bignum-stats"),
        (counted, "-L -n --stats -X", "bignum-exact"),
        (rated, "-L -n --rate", "bignum-rate"),
    ] {
        assert_eq!(list_table(&table, None, &listing(line), &Names::numeric()), sample(name), "{line}: {name}");
    }
    for name in ["ipvsadm-S-n", "ipvsadm-S"] {
        // There no name was known.
        assert_eq!(save(&web(3), &Names::numeric()), sample(name));
    }
    assert_eq!(
        list_timeouts(pointsman::ipvs::Timeouts { tcp_s: 900, tcp_fin_s: 120, udp_s: 300 }),
        sample("ipvsadm-timeout")
    );
    assert_eq!((listing("-L --daemon").what, sample("ipvsadm-daemon").as_str()), (ListWhat::Daemon, ""));
}

#[test]
fn connections_are_listed_as_ipvsadm_lists_them() {
    let flows: Vec<FlowEntry> = [(33112, 100), (33104, 200), (33118, 200), (33132, 100), (33102, 100), (33088, 200)]
        .into_iter()
        .map(|(client_port, last)| FlowEntry {
            worker: 0,
            service: Some("tcp 192.168.88.15:80".to_owned()),
            client: "192.168.88.1".parse().unwrap(),
            client_port,
            service_port: 80,
            protocol: Some(pointsman::service::Protocol::Tcp),
            real_server: Some(format!("192.168.88.{last}").parse().unwrap()),
            state: FlowState::Closing,
            expires_in_s: 119,
            is_client: false,
        })
        .collect();
    let numbers = Names::numeric();
    assert_eq!(list_connections(&flows, &listing("-L -n -c"), &numbers), sample("ipvsadm-conn"));
    // Templates, as ipvsadm 1.31 has listed them; those that two workers keep are one.
    let template = |state, expires_in_s, worker| FlowEntry {
        client: "192.168.10.0".parse().unwrap(),
        client_port: 0,
        state,
        expires_in_s,
        worker,
        is_client: true,
        ..flows[0].clone()
    };
    let kept = [template(FlowState::Unconfirmed, 20, 0), template(FlowState::Established, 50, 1)];
    let heading = "IPVS connection entries\npro expire state       source             virtual            destination\n";
    assert_eq!(
        list_connections(&kept, &listing("-L -n -c"), &numbers),
        format!("{heading}TCP 00:50  ASSURED     192.168.10.0:0     192.168.88.15:80   192.168.88.100:80\n")
    );
    let with_titles = list_connections(&kept[..1], &listing("-L -n -c --persistent-conn"), &numbers);
    assert_eq!(
        with_titles,
        heading.replace("destination\n", "destination        pe name          pe_data\n")
            + "TCP 00:20  NONE        192.168.10.0:0     192.168.88.15:80   192.168.88.100:80\n"
    );
}

#[test]
fn timeouts_are_set_for_services_to_come() {
    let config = after("", "--set 600 0 60\n");
    let shown = |config: &str| {
        let config = pointsman::config::parse(config, "test").unwrap().config;
        let document = ConfigDocument(serde_json::to_value(&config).unwrap().as_object().unwrap().clone());
        let (all, others) = director_timeouts(&document).unwrap();
        (list_timeouts(all), others)
    };
    let said = |text: &str| format!("Timeout (tcp tcpfin udp): {text}\n");
    assert_eq!(shown(&config), (said("600 120 60"), vec![]));
    let with_own = after(&config, "-A -t 10.0.0.1:80 -s rr\n").replace("scheduler", "udp_timeout_s = 7\nscheduler");
    assert_eq!(shown(&with_own), (said("600 120 60"), vec!["tcp 10.0.0.1:80".to_owned()]));
    assert_eq!(shown(&after(&with_own, "--set 0 0 2678400\n")), (said("600 120 2678400"), vec![]));
}

/// What makes a table of a configuration: its services as the control socket shows them.
fn documents(config: &str) -> Vec<ServiceDocument> {
    let config = pointsman::config::parse(config, "test").unwrap().config;
    let services = serde_json::to_value(&config).unwrap()["virtual_service"].clone();
    services.as_array().unwrap().iter().map(|service| ServiceDocument(service.as_object().unwrap().clone())).collect()
}

/// The configuration that rules make of `config`.
fn after(config: &str, rules: &str) -> String {
    let services: Vec<ServiceKey> = pointsman::config::parse(config, "test")
        .map(|loaded| loaded.config.virtual_services.iter().map(|service| service.key).collect())
        .unwrap();
    let prepared = edits(&read_rules("ipvsadm", rules).unwrap(), &services);
    apply(config, &prepared.changes).unwrap().text
}

#[test]
fn what_is_saved_can_be_restored_and_is_the_same() {
    let rules = "\
-A -t 10.0.0.1:80 -s mh
-a -t 10.0.0.1:80 -r 192.168.88.100:80 -g -w 1
-a -t 10.0.0.1:80 -r 192.168.88.200:80 -g -w 0
-A -t 10.0.0.1:443 -s mh -b mh-port
-A -u 10.0.0.1:53 -s mh
-a -u 10.0.0.1:53 -r 192.168.88.100:53 -g -w 65535
-A -t [fd00:88::15]:80 -s mh -b mh-port
-a -t [fd00:88::15]:80 -r [fd00:88::100]:80 -g -w 1
";
    let config = after("", rules);
    let table = Table::of(&documents(&config), None).unwrap();
    assert_eq!(save(&table, &Names::numeric()), rules);
    // Long forms, other orders, comments and the program's name are the same rules.
    let other = "\
# of some other hand
ipvsadm --add-service --tcp-service 10.0.0.1:80 --scheduler=mh

ipvsadm -at 10.0.0.1:80 -r 192.168.88.100 -w1
-a -r 192.168.88.200 -t 10.0.0.1:80 --weight 0 --gatewaying
-A -b flag-2 -s mh -t 10.0.0.1:443
-A -u 10.0.0.1:domain -s mh
-a -u 10.0.0.1:53 -r 192.168.88.100:domain -w 65535 -x 0 -y 0
-A -t [fd00:88::15]:http -s mh -b mh-port
-a -t [fd00:88::15]:80 -r fd00:88::100
";
    assert_eq!(after("", other), config);
}

#[test]
fn every_command_becomes_the_change_that_it_stands_for() {
    let config = after("", "-A -t 10.0.0.1:80 -s mh -b mh-port\n-a -t 10.0.0.1:80 -r 192.168.88.100 -w 7\n");
    let edited = after(
        &config,
        "-E -t 10.0.0.1:80 -s mh\n-e -t 10.0.0.1:80 -r 192.168.88.100\n-a -t 10.0.0.1:80 -r 192.168.88.200 -w 3\n--set 600 0 60\n",
    );
    let table = Table::of(&documents(&edited), None).unwrap();
    let row = &table.services[0];
    // What -E and -e do not name has its default again.
    assert!(!row.flags.port);
    let weights: Vec<(IpAddr, u64)> = row.servers.iter().map(|server| (server.address, server.weight)).collect();
    assert_eq!(weights, [("192.168.88.100".parse().unwrap(), 1), ("192.168.88.200".parse().unwrap(), 3)]);
    let ServiceDocument(document) = &documents(&edited)[0];
    let timeouts = ["tcp_timeout_s", "tcp_fin_timeout_s", "udp_timeout_s"].map(|key| document[key].as_u64().unwrap());
    assert_eq!(timeouts, [600, 120, 60]);
    // They are those of the director: a service that is added later has them, and none keeps its own.
    let more = after(&edited, "-A -u 10.0.0.1:53 -s mh");
    assert_eq!(documents(&more)[1].0["udp_timeout_s"], Value::from(60));
    let fewer = after(&more, "-d -t 10.0.0.1:80 -r 192.168.88.100:80\n-D -u 10.0.0.1:53");
    let table = Table::of(&documents(&fewer), None).unwrap();
    assert_eq!((table.services.len(), table.services[0].servers.len()), (1, 1));
    assert_eq!(Table::of(&documents(&after(&fewer, "-C")), None).unwrap().services, []);
    assert_eq!(command("-R"), Command::Restore);
    assert_eq!(command("-S -n"), Command::Save { numeric: true });
    assert_eq!(command("-Z -t 10.0.0.1:80"), Command::Zero(Some("tcp 10.0.0.1:80".parse().unwrap())));
    assert_eq!(command("-Z"), Command::Zero(None));
    assert_eq!(parse("ipvsadm", &[]), Ok(Command::List(Listing::default())));
}

#[test]
fn thresholds_are_set_listed_saved_and_taken_away() {
    let rules = "\
-A -t 10.0.0.1:80 -s wlc
-a -t 10.0.0.1:80 -r 192.168.88.100:80 -g -w 1 -x 1000 -y 800
-a -t 10.0.0.1:80 -r 192.168.88.200:80 -g -w 2 -x 20
-a -t 10.0.0.1:80 -r 192.168.88.201:80 -g -w 3
";
    let config = after("", rules);
    let table = Table::of(&documents(&config), None).unwrap();
    assert_eq!(save(&table, &Names::numeric()), rules, "nothing is forgotten");
    let listed = list_table(&table, None, &listing("-L -n --thresholds"), &Names::numeric());
    let lines: Vec<&str> = listed.lines().skip(4).collect();
    assert_eq!(
        lines,
        [
            "  -> 192.168.88.100:80            1000       800        0          0         ",
            "  -> 192.168.88.200:80            20         0          0          0         ",
            "  -> 192.168.88.201:80            0          0          0          0         ",
        ]
    );
    // What -e does not name has its default again, as in ipvsadm.
    let edited = after(&config, "-e -t 10.0.0.1:80 -r 192.168.88.100 -w 1 -x 500\n-e -t 10.0.0.1:80 -r 192.168.88.200");
    let table = Table::of(&documents(&edited), None).unwrap();
    let servers = &table.services[0].servers;
    assert_eq!((servers[0].upper_threshold, servers[0].lower_threshold), (500, 0));
    assert_eq!((servers[1].upper_threshold, servers[1].weight), (0, 1));
    assert!(!edited.contains("= 20"), "{edited}");
}

#[test]
fn a_rule_set_of_thousands_is_one_batch() {
    let mut rules = String::new();
    for service in 0..2000 {
        let vip = format!("10.0.{}.{}:80", service / 250, service % 250 + 1);
        rules += &format!(
            "-A -t {vip} -s mh\n-a -t {vip} -r 192.168.88.100:80 -g -w 1\n-a -t {vip} -r 192.168.88.200:80 -g -w 2\n"
        );
    }
    let prepared = edits(&read_rules("ipvsadm", &rules).unwrap(), &[]);
    assert_eq!(prepared.changes.len(), 6000);
    assert_eq!(prepared.rules.last(), Some(&5999));
    assert!(matches!(prepared.changes[0], Change::AddService { .. }));
}

#[test]
fn a_rule_set_with_a_mistake_names_its_line() {
    let refused = |text: &str| read_rules("ipvsadm", text).map(drop).map_err(|(line, why)| (line, why.message));
    assert_eq!(refused("-A -t 10.0.0.1:80\n\n-a -t 10.0.0.1:80 -r 10.0.0.300\n").unwrap_err().0, 3);
    assert_eq!(refused("-L\n").unwrap_err().1, "-L is no rule; rules are -A, -E, -D, -C, -a, -e, -d, -Z and --set");
    assert_eq!(refused("-R\n").unwrap_err().0, 1);
}

const HELP: &str = "Try `ipvsadm -h' or 'ipvsadm --help' for more information.";
const ADDRESS: &str = "illegal virtual server address[:port] specified";
const REAL: &str = "illegal real server address[:port] specified";

/// Lines that ipvsadm 1.31 refuses: its sentence and its exit code.
const REFUSED: &[(&str, &str, u8)] = &[
    // No command first.
    ("-t 10.0.0.1:80 -A", HELP, 255),
    ("-n", HELP, 255),
    ("-6", HELP, 255),
    ("foo", HELP, 255),
    ("--", HELP, 255),
    ("-Q", HELP, 255),
    ("--lists", HELP, 255),
    // What popt cannot take apart.
    ("-L --stat", "--stat: unknown option", 255),
    ("-LQ", "-LQ: unknown option", 255),
    ("-A -t", "-t: missing argument", 255),
    ("-a -t 10.0.0.1:80 -r", "-r: missing argument", 255),
    ("-L --numeric=1", "--numeric=1: option does not take an argument", 255),
    // Commands and options that do not go together.
    ("-A -D -t 10.0.0.1:80", "invalid option `-D'", 2),
    ("-L -h", "invalid option `-h'", 2),
    ("-A", "You need to supply the 'service-address' option for the 'add-service' command", 2),
    ("-E -s rr", "You need to supply the 'service-address' option for the 'edit-service' command", 2),
    ("-D", "You need to supply the 'service-address' option for the 'delete-service' command", 2),
    ("-a -t 10.0.0.1:80", "You need to supply the 'real-server' option for the 'add-server' command", 2),
    ("-d -r 10.0.0.2", "You need to supply the 'service-address' option for the 'delete-server' command", 2),
    ("-A -t 10.0.0.1:80 -w 1", "Illegal 'weight' option with the 'add-service' command", 2),
    ("-A -t 10.0.0.1:80 -n", "Illegal 'numeric' option with the 'add-service' command", 2),
    ("-D -t 10.0.0.1:80 -s rr", "Illegal 'scheduler' option with the 'delete-service' command", 2),
    ("-a -t 10.0.0.1:80 -r 10.0.0.2 -s rr", "Illegal 'scheduler' option with the 'add-server' command", 2),
    ("-a -t 10.0.0.1:80 -r 10.0.0.2 -p 60", "Illegal 'persistent' option with the 'add-server' command", 2),
    ("-d -t 10.0.0.1:80 -r 10.0.0.2 -w 1", "Illegal 'weight' option with the 'delete-server' command", 2),
    ("-C -n", "Illegal 'numeric' option with the 'flush' command", 2),
    ("-C -t 10.0.0.1:80", "Illegal 'service-address' option with the 'flush' command", 2),
    ("-R -n", "Illegal 'numeric' option with the 'restore' command", 2),
    ("-S -t 10.0.0.1:80", "Illegal 'service-address' option with the 'save' command", 2),
    ("-Z -n", "Illegal 'numeric' option with the 'zero' command", 2),
    ("-L -s rr", "Illegal 'scheduler' option with the 'list' command", 2),
    ("-L -c --timeout", "The option 'timeout' conflicts with the 'connection' option in the 'list' command", 2),
    (
        "-L -c -t 10.0.0.1:80",
        "The option 'service-address' conflicts with the 'connection' option in the 'list' command",
        2,
    ),
    ("-L -c --stats", "options conflicts in the list command", 2),
    ("-L --timeout --rate", "options conflicts in the list command", 2),
    ("-L --daemon --persistent-conn", "options conflicts in the list command", 2),
    ("-A -t 10.0.0.1:80 -u 10.0.0.1:80", "multiple 'service-address' options specified", 2),
    ("-A -t 10.0.0.1:80 -s rr -s wrr", "multiple 'scheduler' options specified", 2),
    ("-a -t 10.0.0.1:80 -r 10.0.0.2 -g -g", "multiple 'forwarding-method' options specified", 2),
    ("-L -n -n", "multiple 'numeric' options specified", 2),
    ("-L foo", "unexpected argument foo", 2),
    ("-A -t 10.0.0.1:80 rr", "unexpected argument rr", 2),
    // Addresses.
    ("-A -t 80", ADDRESS, 2),
    ("-A -t 10.0.0.300:80", ADDRESS, 2),
    ("-A -t 10.0.0.1:65536", ADDRESS, 2),
    ("-A -t 10.0.0.1:-1", ADDRESS, 2),
    ("-A -t 10.0.0.1:", ADDRESS, 2),
    ("-A -t 10.0.0.1:no-such-port", ADDRESS, 2),
    ("-A -t [fd00::1]", ADDRESS, 2),
    ("-A -t [fd00::1:80", ADDRESS, 2),
    ("-A -t no-such-host.invalid:80", ADDRESS, 2),
    ("-a -t 10.0.0.1:80 -r 10.0.0.300", REAL, 2),
    ("-a -t 10.0.0.1:80 -r 80", REAL, 2),
    ("-a -t 10.0.0.1:80 -r fd00::1", "Different address family is allowed only for tunneling servers", 2),
    ("-A -f 0", "invalid fwmark value `0' specified", 2),
    ("-A -f x", "invalid fwmark value `x' specified", 2),
    ("-A -t 10.0.0.1:80 -6", "-6 used before -f", 2),
    // Values.
    ("-A -t 10.0.0.1", "Zero port specified for non-persistent service", 2),
    ("-A -t 10.0.0.1:0 -s rr", "Zero port specified for non-persistent service", 2),
    ("-E -u 10.0.0.1:0", "Zero port specified for non-persistent service", 2),
    ("-A -t 10.0.0.1:80 -p 0", "invalid timeout value `0' specified", 2),
    ("-A -t 10.0.0.1:80 -p x", "invalid timeout value `x' specified", 2),
    ("-A -t 10.0.0.1:80 -p 2678401", "invalid timeout value `2678401' specified", 2),
    ("-A -t 10.0.0.1:80 -p -M 255.255.255.300", "illegal virtual server persistent mask specified", 2),
    ("-A -t [fd00::1]:80 -p -M 129", "illegal ipv6 netmask specified", 2),
    ("-A -t 10.0.0.1:80 -o", "One-Packet Scheduling is only for UDP virtual services", 2),
    ("-A -t 10.0.0.1:80 -b nonsense", "invalid scheduler flag `nonsense'", 2),
    ("-A -t 10.0.0.1:80 -s mh -b sh-port", "incompatible scheduler flag `sh-port'", 2),
    ("-A -t 10.0.0.1:80 -b mh-port", "incompatible scheduler flag `mh-port'", 2),
    ("-A -t 10.0.0.1:80 -s nonsense", "Scheduler or persistence engine not found", 255),
    ("-A -u 10.0.0.1:80 --pe nonsense", "Scheduler or persistence engine not found", 255),
    ("-a -t 10.0.0.1:80 -r 10.0.0.2 -w -1", "illegal weight specified", 2),
    ("-a -t 10.0.0.1:80 -r 10.0.0.2 -w 2147483648", "illegal weight specified", 2),
    ("-a -t 10.0.0.1:80 -r 10.0.0.2 -w 1.5", "illegal weight specified", 2),
    ("-a -t 10.0.0.1:80 -r 10.0.0.2 -x -1", "illegal u_threshold specified", 2),
    ("-a -t 10.0.0.1:80 -r 10.0.0.2 -y x", "illegal l_threshold specified", 2),
    ("-a -t 10.0.0.1:80 -r 10.0.0.2 --tun-type x", "illegal tunnel type specified", 2),
    ("-a -t 10.0.0.1:80 -r 10.0.0.2 --tun-type gre", "Tunnel options conflict with forward method", 2),
    ("-a -t 10.0.0.1:80 -r 10.0.0.2 -i --tun-port 0", "illegal tunnel port specified", 2),
    ("-d -t 10.0.0.1:80 -r 10.0.0.2:81", "No such destination", 255),
    ("--set", "--set option requires 3 timeout values", 2),
    ("--set 1 2", "--set option requires 3 timeout values", 2),
    ("--set 1 2 x", "invalid timeout value `x' specified", 2),
    ("--set 1 2 3 4", "unexpected argument 4", 2),
    ("-a -t 10.0.0.1:80 -r 10.0.0.2 -x 5 -y 6", "Numerical result out of range", 255),
    ("-e -t 10.0.0.1:80 -r 10.0.0.2 -y 6", "Numerical result out of range", 255),
    ("-a -t 10.0.0.1:80 -r 10.0.0.2 -x 2147483648", "illegal u_threshold specified", 2),
    ("--set 1 2 3 -n", "Illegal 'numeric' option with the 'set' command", 2),
    ("--start-daemon chief", "illegal start-daemon parameter specified", 2),
    ("--stop-daemon chief", "illegal start_daemon specified", 2),
    ("--stop-daemon master", "No daemon is running", 255),
    ("--start-daemon master --syncid 256", "illegal syncid specified", 2),
];

/// Lines that ipvsadm takes and pointsman does not: what the sentence names.
const NOT_HERE: &[(&str, &[&str])] = &[
    ("-a -t 10.0.0.1:80 -r 10.0.0.2 -m", &["masquerading", "direct routing (-g)", "loopback"]),
    ("-a -t 10.0.0.1:80 -r 10.0.0.2:8080 -m", &["masquerading", "direct routing (-g)"]),
    ("-a -t 10.0.0.1:80 -r 10.0.0.2 -i", &["tunneling", "direct routing (-g)"]),
    ("-e -t 10.0.0.1:80 -r 10.0.0.2 -i", &["tunneling", "direct routing (-g)"]),
    ("-a -t 10.0.0.1:80 -r 10.0.0.2:8080 -g", &["direct routing", "80", "8080", "10.0.0.2"]),
    ("-A -f 1 -s rr", &["firewall mark", "-t"]),
    ("-L -f 1", &["firewall mark"]),
    ("-A -f 1 -6", &["firewall mark"]),
    ("-A --sctp-service 10.0.0.1:80", &["SCTP"]),
    ("-A -u 10.0.0.1:53 -o", &["one-packet", "udp"]),
    ("-A -u 10.0.0.1:5060 --pe sip", &["sip"]),
    ("-A -t 10.0.0.1:80 -s lblc", &["lblc", "mh, sh, rr, wrr, lc, wlc"]),
    ("-A -t 10.0.0.1:80 -s sed", &["sed", "mh, sh, rr, wrr, lc, wlc"]),
    ("--start-daemon master", &["sync daemon", "secret"]),
];

#[test]
fn what_ipvsadm_refuses_is_refused_with_its_sentence_and_its_exit_code() {
    for (line, sentence, code) in REFUSED {
        match parse("ipvsadm", &words(line)) {
            Ok(command) => panic!("{line}: {command:?}"),
            Err(refusal) => {
                assert!(refusal.message.starts_with(sentence), "{line}: {}", refusal.message);
                assert_eq!(refusal.code, *code, "{line}: {}", refusal.message);
            }
        }
    }
}

#[test]
fn what_pointsman_does_not_have_is_refused_with_a_sentence() {
    for (line, named) in NOT_HERE {
        let refusal = parse("ipvsadm", &words(line)).unwrap_err();
        for word in *named {
            assert!(refusal.message.contains(word), "{line}: {word} in {}", refusal.message);
        }
        assert_ne!(refusal.code, 0);
    }
}

fn imported(name: &str) -> (String, Vec<String>) {
    let text = fs::read_to_string(format!("{}/tests/ipvsadm/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let imported = pointsman::ipvs::import(&text).unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
    pointsman::config::parse(&imported.document, name).unwrap();
    (imported.document, imported.warnings)
}

#[test]
fn a_saved_rule_set_becomes_a_configuration() {
    let (document, warnings) = imported("ipvsadm-S-n.txt");
    assert_eq!(warnings, [""; 0]);
    let table = Table::of(&documents(&document), None).unwrap();
    assert_eq!(save(&table, &Names::numeric()), sample("ipvsadm-S-n"));
    let mixed = "-A -t 10.0.0.1:80 -s lblc\n-a -t 10.0.0.1:80 -r 10.0.0.2:80 -g -w 1\n-A -t 10.0.0.1:443 -s rr\n-a -t 10.0.0.1:443 -r 10.0.0.2:8443 -m -w 1\n";
    let imported = pointsman::ipvs::import(mixed).unwrap();
    let lines: Vec<&str> = imported.warnings.iter().filter_map(|warning| warning.split(':').next()).collect();
    assert_eq!(lines, ["line 1", "line 2", "line 4"], "{:?}", imported.warnings);
    assert_eq!(documents(&imported.document).len(), 1);
    assert!(pointsman::ipvs::import("# nothing\n").is_err() && pointsman::ipvs::import("[director]\n").is_err());
}

#[test]
fn the_virtual_servers_of_keepalived_become_a_configuration() {
    let (document, warnings) = imported("keepalived.conf");
    let expected = fs::read_to_string(format!("{}/tests/ipvsadm/keepalived.toml", env!("CARGO_MANIFEST_DIR"))).unwrap();
    assert_eq!(document, expected, "{document}");
    let expected =
        fs::read_to_string(format!("{}/tests/ipvsadm/keepalived.warnings", env!("CARGO_MANIFEST_DIR"))).unwrap();
    assert_eq!(warnings.join("\n") + "\n", expected);
    for bad in ["virtual_server 10.0.0.1 80 {\n", "}\n{", "{\n}\n"] {
        assert!(pointsman::ipvs::import(bad).is_err(), "{bad}");
    }
}

#[test]
fn what_keepalived_means_where_it_says_nothing_is_taken_over_and_one_bad_value_spoils_nothing() {
    let text = r#"
virtual_server 10.0.0.1 80 {
    lb_algo rr
    lb_kind DR
    delay_loop 6
    persistence_timeout 0
    sorry_server 127.0.0.1 80
    real_server 10.0.0.2 80 {
        delay_before_retry 2
        TCP_CHECK {
        }
        HTTP_GET {
            delay_before_retry 0.5
            retry 4
            url { path / }
        }
        MISC_CHECK {
            misc_path "/usr/bin/dig -t A 'a b' @10.0.0.2"
        }
    }
    real_server 10.0.0.3 80 {
        SSL_GET { url { path / } }
        UDP_CHECK { }
    }
}
"#;
    let imported = pointsman::ipvs::import(text).unwrap();
    let lines: Vec<&str> = imported.warnings.iter().filter_map(|warning| warning.split(':').next()).collect();
    assert_eq!(lines, ["line 6", "line 7"], "{:?}", imported.warnings);
    let service = &documents(&imported.document)[0].0;
    let times = |server: usize, check: usize| {
        let check = &service["real_server"][server]["health_check"][check];
        ["interval_ms", "retry_interval_ms", "fall"].map(|key| check[key].as_u64().unwrap())
    };
    assert_eq!(times(0, 0), [6000, 2000, 2]);
    assert_eq!(times(0, 1), [6000, 500, 5]);
    assert_eq!(times(0, 2), [6000, 6000, 1]);
    assert_eq!(times(1, 0), [6000, 3000, 2]);
    assert_eq!(times(1, 1), [6000, 1000, 2]);
    let command = &service["real_server"][0]["health_check"][2]["command"];
    assert_eq!(command, &serde_json::json!(["/usr/bin/dig", "-t", "A", "a b", "@10.0.0.2"]));
}

/// The words of a line of `command-lines.txt`: those that are empty or have blanks stand in quotes.
fn quoted_words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line;
    while !rest.is_empty() {
        let (word, behind) = match rest.strip_prefix('\'') {
            Some(quoted) => quoted.split_once('\'').unwrap(),
            None => rest.split_at(rest.find(' ').unwrap_or(rest.len())),
        };
        words.push(word.to_owned());
        rest = behind.strip_prefix(' ').unwrap_or(behind);
    }
    words
}

/// What ipvsadm 1.31 has said to each of these command lines before it asked the kernel (`tests/ipvsadm/README.md`).
#[test]
fn command_lines_are_taken_and_refused_as_ipvsadm_takes_and_refuses_them() {
    let (mut expected, mut differences, mut lines) = ("", Vec::new(), 0);
    let table = sample("command-lines");
    for line in table.lines() {
        if let Some(heading) = line.strip_prefix("= ") {
            expected = heading;
            continue;
        }
        lines += 1;
        let found = match parse("ipvsadm", &quoted_words(line)) {
            Ok(_) => "taken".to_owned(),
            // What is not here is told in pointsman's own words, and only where ipvsadm takes it.
            Err(why) if is_told_of_pointsman(&why.message) => "taken".to_owned(),
            Err(why) => format!("{} {}", why.code, why.message),
        };
        if found != expected {
            differences.push(format!("{line}\n    {found}, ipvsadm: {expected}"));
        }
    }
    assert!(lines > 1000 && differences.is_empty(), "{} of {lines}:\n{}", differences.len(), differences.join("\n"));
}

fn is_told_of_pointsman(message: &str) -> bool {
    let sentences = ["pointsman ", "direct routing", "Numerical result", "No such destination", "No daemon is running"];
    sentences.iter().any(|sentence| message.contains(sentence))
}
