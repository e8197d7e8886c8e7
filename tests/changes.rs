//! A running director is changed by its control socket, with curl and by the command line, while traffic flows.
//!
//! The network is that of `scripts/lab`. These tests need root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod lab;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use lab::director::{Config, Director, pointsman};
use lab::http::{Load, Outcome, WebServer, fetch};
use lab::{Host, Lab, Shape, vip4, wait_for};

const WEB: &str = "/v1/services/tcp/192.168.88.15/80";
const STEADY: Load = Load { connections: 100, requests_per_connection: 3, at_once: 4, pause: Duration::ZERO };

/// What the director answered to one request.
#[derive(Debug)]
struct Answer {
    status: u16,
    etag: Option<String>,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The answer's document, if it says that all went well.
    fn good(self) -> Value {
        assert!((200..300).contains(&self.status), "{self:?}");
        self.json()
    }

    fn error(&self) -> Value {
        self.json()["error"].clone()
    }
}

/// Asks by curl.
fn curl(director: &Director<'_>, method: &str, route: &str, headers: &[&str], body: Option<&str>) -> Answer {
    let mut command = Command::new("curl");
    command.args(["-sS", "-i", "--max-time", "60", "-X", method, "--unix-socket"]).arg(director.control_socket());
    for header in headers {
        command.args(["-H", header]);
    }
    // Without waiting for "100 Continue".
    command.args(body.map(|_| ["-H", "Expect:", "--data-binary", "@-"]).iter().flatten());
    command.arg(format!("http://localhost{route}"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    process.stdin.take().unwrap().write_all(body.unwrap_or_default().as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{output:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let etag = head.lines().find_map(|line| line.strip_prefix("etag: ")).map(str::to_owned);
    Answer { status, etag, body: body.to_owned() }
}

fn json_body(director: &Director<'_>, method: &str, route: &str, body: &Value) -> Answer {
    curl(director, method, route, &["Content-Type: application/json"], Some(&body.to_string()))
}

/// Runs a subcommand against the director.
fn run(director: &Director<'_>, arguments: &[&str]) -> Output {
    Command::new(pointsman()).args(arguments).arg("--socket").arg(director.control_socket()).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn assert_all_answered(outcome: &Outcome) {
    assert_eq!((outcome.failed, outcome.wandered), (0, 0), "{outcome:#?}");
}

/// What a change says it did, but for what differs from time to time.
fn effect(mut report: Value) -> Value {
    for key in ["dry_run", "revision", "build_us", "persisted"] {
        assert!(report.as_object_mut().unwrap().remove(key).is_some(), "{key}");
    }
    report
}

/// Makes a change, after a dry run of it that must foretell the same and change nothing.
fn foretold(director: &Director<'_>, method: &str, route: &str, body: &Value) -> Value {
    let before = curl(director, "GET", "/v1/config", &[], None);
    let dry = json_body(director, method, &format!("{route}?dry_run=true"), body);
    assert_eq!(dry.status, 200, "{dry:?}");
    let after = curl(director, "GET", "/v1/config", &[], None);
    assert_eq!((before.etag, before.body), (after.etag.clone(), after.body));
    let done = json_body(director, method, route, body);
    assert_ne!(done.etag, after.etag);
    let done = effect(done.good());
    assert_eq!(effect(dry.good()), done);
    done
}

#[test]
fn changes_under_load_fail_no_request_and_do_what_a_dry_run_says() {
    let Some(lab) = Lab::up(Shape { queues: 2, third_server: true, ..Shape::default() }) else { return };
    let _servers = [Host::Web1, Host::Web2, Host::Web3].map(|host| WebServer::start(&lab, host, 80));
    let director = Director::start(&lab, &Config::usual());
    let web = SocketAddr::from((vip4(), 80));
    let servers = format!("{WEB}/real-servers");
    let [web1, web2, web3] = [Host::Web1, Host::Web2, Host::Web3].map(|host| host.ipv4().to_string());

    let enough = AtomicBool::new(false);
    let outcome = thread::scope(|scope| {
        let load = scope.spawn(|| STEADY.run(&lab, Host::Client, web, Some(&enough)));
        for _ in 0..3 {
            let added = foretold(&director, "POST", &servers, &json!({ "address": web3, "weight": 3 }));
            assert_eq!(
                added["real_servers_added"],
                json!([
                    { "service": "tcp 192.168.88.15:80", "address": web3, "weight": 3 }
                ])
            );
            // Half of all slots go to the new one, of weight 3 out of 6.
            let slots = &added["slots"];
            let least = slots["least_possible"].as_u64().unwrap();
            assert!((32_768..=32_769).contains(&least), "{slots}");
            let moved = slots["moved"].as_u64().unwrap();
            assert!(moved >= least && moved < least + 65_537 / 20, "{slots}");

            let weight = json!({ "weight": 5 });
            let edited = foretold(&director, "PATCH", &format!("{servers}/{web2}"), &weight);
            assert_eq!(edited["real_servers_reweighted"][0]["old"], 2);
            foretold(&director, "POST", &format!("{servers}/{web1}/drain"), &Value::Null);
            assert_eq!(director.stats().weights(), [0, 5, 3]);
            foretold(&director, "POST", &format!("{servers}/{web3}/drain"), &Value::Null);
            // A server that goes while a connection is on it would take that with it.
            wait_for("the connections of web3 to end", 10, || {
                let flows = curl(&director, "GET", &format!("/v1/flows?real_server={web3}&limit=0"), &[], None).good();
                let open = |state: &str| flows["totals"][state].as_u64().unwrap();
                (open("established") + open("unconfirmed") == 0).then_some(())
            });
            foretold(&director, "DELETE", &format!("{servers}/{web3}"), &Value::Null);
            let service = json!({
                "vip": vip4(), "port": 81, "protocol": "tcp", "tcp_timeout_s": 60, "real_server": [{ "address": web1 }]
            });
            let added = foretold(&director, "POST", "/v1/services", &service);
            assert_eq!(added["services_added"], json!(["tcp 192.168.88.15:81"]));
            let other = "/v1/services/tcp/192.168.88.15/81";
            let edited =
                foretold(&director, "PATCH", other, &json!({ "tcp_timeout_s": null, "persistence": "client" }));
            assert_eq!(edited["services_changed"].as_array().unwrap().len(), 3, "with hash_by: {edited}");
            assert_eq!(curl(&director, "GET", other, &[], None).good()["tcp_timeout_s"], 900);
            foretold(&director, "DELETE", other, &Value::Null);
            // Back to the start by a batch, in one step.
            let service = "tcp 192.168.88.15:80";
            let weight = |address: &str, weight| json!({ "op": "edit_real_server", "service": service, "address": address, "settings": { "weight": weight } });
            foretold(&director, "POST", "/v1/changes", &json!({ "changes": [weight(&web1, 1), weight(&web2, 2)] }));
        }
        enough.store(true, Ordering::Relaxed);
        load.join().unwrap()
    });
    assert_all_answered(&outcome);
    assert!(outcome.answers.len() == 3, "all three have had requests: {outcome:#?}");
    let stats = director.quiet_stats();
    stats.assert_identity();
    assert_eq!(stats.dropped(), 0, "{:#}", stats.0);
    let next_hops = curl(&director, "GET", "/v1/next-hops", &[], None).good();
    let hop = next_hops.as_array().unwrap().iter().find(|hop| hop["address"] == web1).unwrap();
    assert_eq!(hop, &json!({ "address": web1, "device": "eth0", "mac": "02:00:00:00:01:00", "state": "known" }));
}

#[test]
fn writers_are_put_in_a_row_and_one_of_two_with_the_same_revision_wins() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let director = &Director::start(&lab, &Config::usual());
    let service = |port: u32| json!({ "vip": vip4(), "port": port, "protocol": "tcp" });
    let statuses: Vec<u16> = thread::scope(|scope| {
        let add = |port| move || json_body(director, "POST", "/v1/services", &service(port)).status;
        let threads: Vec<_> = (1000..1012).map(|port| scope.spawn(add(port))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(statuses, [201; 12]);
    assert_eq!(curl(director, "GET", "/v1/services", &[], None).good().as_array().unwrap().len(), 16);

    let revision = curl(director, "GET", "/v1/config", &[], None).etag.unwrap();
    let if_match = format!("If-Match: {revision}");
    let headers = ["Content-Type: application/json", &if_match];
    let mut statuses: Vec<u16> = thread::scope(|scope| {
        let delete = |port| {
            move || curl(director, "DELETE", &format!("/v1/services/tcp/192.168.88.15/{port}"), &headers, None).status
        };
        let threads: Vec<_> = (1000..1006).map(|port| scope.spawn(delete(port))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412, 412, 412, 412, 412]);
    let late = curl(director, "DELETE", WEB, &headers, None);
    assert_eq!((late.status, late.error()["field"].as_str()), (412, Some("If-Match")), "{late:?}");
    assert_ne!(late.etag.as_ref(), Some(&revision));
    assert_eq!(curl(director, "DELETE", WEB, &[&format!("If-Match: {}", late.etag.unwrap())], None).status, 200);
}

#[test]
fn whatever_shows_the_configuration_names_its_revision() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let director = Director::start(&lab, &Config::usual());
    let servers = format!("{WEB}/real-servers");
    let server = format!("{servers}/192.168.88.100");
    let routes = ["/v1/config", "/v1/services", WEB, &servers, &server, "/v1/real-servers"];
    let tag = |route: &str| curl(&director, "GET", route, &[], None).etag.unwrap_or_else(|| panic!("{route}"));
    let ask = |route: &str, tags: &str| curl(&director, "GET", route, &[&format!("If-None-Match: {tags}")], None);
    let mut before = String::from("\"none\"");
    for weight in [5, 6] {
        let revision = tag(routes[0]);
        for route in routes {
            assert_eq!(tag(route), revision, "{route}");
            for known in [revision.clone(), format!("\"x\", W/{revision}"), "*".to_owned()] {
                let answer = ask(route, &known);
                assert_eq!((answer.status, answer.body.as_str()), (304, ""), "{route}: {answer:?}");
                assert_eq!(answer.etag.as_ref(), Some(&revision));
            }
            assert_eq!(ask(route, &before).status, 200, "{route}");
        }
        let json = "Content-Type: application/json";
        let body = json!({ "weight": weight }).to_string();
        let patch =
            |revision: &str| curl(&director, "PATCH", &server, &[json, &format!("If-Match: {revision}")], Some(&body));
        assert_eq!(patch(&before).status, 412);
        assert_eq!(patch(&revision).status, 200);
        before = revision;
    }
    assert_eq!(ask("/v1/services/tcp/192.168.88.15/81", "*").status, 404);
}

#[test]
fn as_many_writers_as_there_may_be_all_have_their_way() {
    const WRITERS: usize = 80;
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let director = Director::start(&lab, &Config::usual());
    let add = |number: usize| {
        let service = format!("tcp/192.168.88.15:{}", 1000 + number);
        let mut command = Command::new(pointsman());
        command.args(["service", "add", &service, "--socket"]).arg(director.control_socket());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let writers: Vec<_> = (0..WRITERS).map(add).collect();
    for writer in writers {
        let output = writer.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
    }
    let services = curl(&director, "GET", "/v1/services", &[], None).good();
    assert_eq!(services.as_array().unwrap().len(), Config::usual().services.len() + WRITERS);
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table of requests and answers")]
fn what_is_wrong_is_named_by_its_field() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let director = Director::start(&lab, &Config::usual());
    let before = curl(&director, "GET", "/v1/config", &[], None);
    let servers = format!("{WEB}/real-servers");
    for (method, route, body, status, field, message) in [
        (
            "POST",
            "/v1/services",
            json!({ "vip": vip4(), "port": 80, "protocol": "tcp" }),
            409,
            None,
            "there is a virtual",
        ),
        ("POST", "/v1/services", json!({ "vip": vip4(), "port": 80 }), 422, Some("protocol"), "protocol is missing"),
        (
            "POST",
            "/v1/services",
            json!({ "vip": vip4(), "port": 99, "protocol": "tcp", "tabel_size": 7 }),
            422,
            Some("tabel_size"),
            "unknown key",
        ),
        ("PATCH", WEB, json!({ "table_size": 4 }), 422, Some("table_size"), "4 is not a prime"),
        ("PATCH", WEB, json!({ "port": 81 }), 422, Some("port"), "port is part of the name"),
        ("PATCH", "/v1/services/tcp/192.168.88.15/81", json!({}), 404, None, "there is no virtual service"),
        ("PATCH", "/v1/services/icmp/192.168.88.15/81", json!({}), 400, Some("protocol"), "icmp"),
        ("GET", "/v1/services/tcp/192.168.88.1555/81", Value::Null, 400, Some("vip"), "IP address"),
        ("DELETE", "/v1/services/tcp/192.168.88.15/65536", Value::Null, 400, Some("port"), "65536"),
        ("GET", "/v1/services/tcp/%ff/81/real-servers", Value::Null, 400, Some("vip"), "UTF-8"),
        ("POST", &format!("{servers}/web1/drain"), Value::Null, 400, Some("address"), "IP address"),
        ("PATCH", WEB, json!([]), 422, None, "invalid type"),
        (
            "POST",
            &servers,
            json!({ "address": "192.168.88.255" }),
            422,
            Some("address"),
            "192.168.88.255 is a broadcast",
        ),
        ("POST", &servers, json!({ "address": Host::Director.ipv4() }), 422, Some("address"), "the director itself"),
        ("POST", &servers, json!({ "address": "fd00:88::100" }), 422, Some("address"), "IPv6"),
        (
            "PATCH",
            &format!("{servers}/192.168.88.100"),
            json!({ "weight": 2_147_483_648_u32 }),
            422,
            Some("weight"),
            "2147483648",
        ),
        ("DELETE", &format!("{servers}/192.168.88.101"), Value::Null, 404, Some("address"), "has no real server"),
        (
            "POST",
            "/v1/changes",
            json!({ "changes": [{ "op": "boil" }] }),
            422,
            Some("changes[0].op"),
            "unknown variant",
        ),
        ("POST", "/v1/services?dry_run=maybe", json!({}), 400, Some("dry_run"), "`true` or `false`"),
        ("POST", "/v1/services?colour=blue", json!({}), 400, Some("colour"), "unknown parameter `colour`"),
        ("PATCH", &format!("{WEB}?persist=&dry_run=true"), json!({}), 400, Some("persist"), "`true` or `false`"),
        ("GET", &format!("{WEB}?colour=blue"), Value::Null, 400, Some("colour"), "unknown parameter"),
        ("GET", "/v1/stats?%60a%60=1", Value::Null, 400, Some("`a`"), "unknown parameter"),
        ("DELETE", &format!("{WEB}?persist=true&persist=true"), Value::Null, 400, Some("persist"), "duplicate"),
        ("GET", "/v1/explain?client=1.2.3.4:5", Value::Null, 400, Some("protocol"), "missing"),
        ("DELETE", "/v1/capture?id=x", Value::Null, 400, Some("id"), "invalid digit"),
        ("GET", "/v1/flows?limit=x", Value::Null, 400, Some("limit"), "x"),
    ] {
        let answer = json_body(&director, method, route, &body);
        let error = answer.error();
        assert_eq!((answer.status, error["field"].as_str()), (status, field), "{method} {route} {body}: {answer:?}");
        assert!(error["message"].as_str().unwrap().contains(message), "{method} {route} {body}: {answer:?}");
    }
    for (method, header) in [("DELETE", "If-Match"), ("GET", "If-None-Match")] {
        let answer = curl(&director, method, WEB, &[&format!("{header}: 7")], None);
        assert_eq!((answer.status, answer.error()["field"].as_str()), (400, Some(header)), "{answer:?}");
    }
    refused_documents(&director);
    let after = curl(&director, "GET", "/v1/config", &[], None);
    assert_eq!((before.etag, before.body), (after.etag, after.body), "nothing of all that has changed anything");
}

/// Batches and whole documents with mistakes.
fn refused_documents(director: &Director<'_>) {
    let batch = json!({ "changes": [
        { "op": "delete_service", "service": "tcp 192.168.88.15:80" },
        { "op": "add_service", "service": "tcp 192.168.88.15:81", "settings": { "scheduler": "nope" } },
    ] });
    let error = json_body(director, "POST", "/v1/changes", &batch).error();
    assert_eq!((error["change"].as_u64(), error["field"].as_str()), (Some(1), Some("scheduler")), "{error}");

    let toml = ["Content-Type: application/toml"];
    let put = |text: &str| curl(director, "PUT", "/v1/config", &toml, Some(text));
    let error = put("[director]\nsecret = \"x\"\nno_such = 1\n[[interface]]\nname = \"eth0\"\nbatch = 0\n").error();
    assert_eq!((error["line"].as_u64(), error["column"].as_u64()), (Some(3), Some(1)), "{error}");
    assert_eq!(error["all"].as_array().unwrap().len(), 2, "{error}");
    assert_eq!(put("[[[").status, 422);
    assert_eq!(curl(director, "PUT", "/v1/config", &["Content-Type: text/plain"], Some("x")).status, 415);
    assert_eq!(curl(director, "POST", "/v1/changes", &["Content-Type: application/json"], Some("{")).status, 400);
    assert_eq!(put(&"#".repeat((16 << 20) + 1)).status, 413);
}

#[test]
fn changes_outlast_a_restart_where_that_is_asked_for_and_comments_stay() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let usual = Config::usual().director("# A comment that stays.\ncontrol_socket_mode = \"0600\"");
    let director = Director::start(&lab, &usual);
    let socket = fs::metadata(director.control_socket()).unwrap();
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
    let file = || fs::read_to_string(director.config_file()).unwrap();
    let weight = |weight: u32, options: &[&str]| {
        let (address, weight) = (Host::Web1.ipv4().to_string(), format!("weight={weight}"));
        run(&director, &[&["real", "edit", "tcp/192.168.88.15:80", &address, &weight], options].concat())
    };
    let original = file();
    assert!(original.contains("# A comment that stays."));

    let output = weight(7, &[]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(file(), original, "the file is not touched unasked");
    let health = curl(&director, "GET", "/v1/health", &[], None).good();
    assert_eq!(health["unsaved_changes"], 1);

    fs::set_permissions(director.config_file(), fs::Permissions::from_mode(0o640)).unwrap();
    let owner = (Some(12_345), Some(54_321));
    std::os::unix::fs::chown(director.config_file(), owner.0, owner.1).unwrap();
    let output = weight(9, &["--persist"]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(file(), original.replacen("weight = 1\n", "weight = 9\n", 1));
    let written = fs::metadata(director.config_file()).unwrap();
    assert_eq!((Some(written.uid()), Some(written.gid()), written.mode() & 0o777), (owner.0, owner.1, 0o640));
    assert_eq!(curl(&director, "GET", "/v1/health", &[], None).good()["unsaved_changes"], 0);

    // Somebody edits the file: it is theirs.
    let theirs = file() + "# Theirs.\n";
    fs::write(director.config_file(), &theirs).unwrap();
    let output = weight(10, &["--persist"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("is not as the director has read it"), "{}", said(&output));
    assert_eq!((file(), director.stats().weights()), (theirs, vec![9, 2]));

    // A reload drops what was not saved, and says so.
    assert!(weight(11, &[]).status.success());
    director.signal(Signal::SIGHUP);
    wait_for("the reload", 10, || (director.reloads() == 1).then_some(()));
    assert!(director.log().contains("which are lost"), "{}", director.log());
    assert_eq!(director.stats().weights(), [9, 2]);

    // The whole document comes without the secret and can be sent back.
    let shown = curl(&director, "GET", "/v1/config", &[], None).body;
    assert!(shown.contains("secret = \"(hidden)\"") && shown.contains("# Theirs."), "{shown}");
    // As a file it has lost the secret: no flow may move for that.
    let ours = file();
    fs::write(director.config_file(), &shown).unwrap();
    director.signal(Signal::SIGHUP);
    wait_for("the refusal", 10, || director.log().contains("stands in the place of the secret").then_some(()));
    assert!(director.log().contains("not reloaded"), "{}", director.log());
    fs::write(director.config_file(), &ours).unwrap();
    let toml = ["Content-Type: application/toml"];
    let changed =
        curl(&director, "PUT", "/v1/config?persist=true", &toml, Some(&shown.replace("= 9\n", "= 3\n"))).good();
    assert_eq!((changed["secret_changed"].as_bool(), changed["persisted"].as_bool()), (Some(false), Some(true)));
    assert!(file().contains("secret = \"a secret for tests\"") && file().contains("weight = 3\n"), "{}", file());
    let as_json = curl(&director, "GET", "/v1/config", &["Accept: application/json"], None).good();
    assert_eq!(as_json["virtual_service"][0]["real_server"][0]["weight"], 3);
    let text = fs::read_to_string(director.config_file()).unwrap();
    director.end(Signal::SIGTERM);
    assert_eq!(text.matches("weight = 3\n").count(), 1);
}

#[test]
fn the_subcommands_do_what_an_operator_would_expect() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let _servers = WebServer::pair(&lab, 80);
    let director = Director::start(&lab, &Config::usual().weights([1, 0]));
    let web = SocketAddr::from((vip4(), 80));
    let good = |arguments: &[&str]| {
        let output = run(&director, arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let bad = |arguments: &[&str], code| {
        let output = run(&director, arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", said(&output));
        said(&output)
    };
    assert_eq!(fetch(&lab, Host::Client, web).unwrap().0, "web1");
    let service = "tcp/192.168.88.15:80";
    let dry = good(&["real", "edit", service, "192.168.88.200", "weight=1", "--dry-run"]);
    assert!(dry.contains("weight 0 -> 1") && dry.contains("dry run: nothing is changed"), "{dry}");
    good(&["real", "edit", service, "192.168.88.200", "weight=1"]);
    let drained = good(&["real", "drain", service, "192.168.88.100"]);
    assert!(drained.contains("~ real server 192.168.88.100 of tcp 192.168.88.15:80: weight 1 -> 0"), "{drained}");
    assert_eq!(fetch(&lab, Host::Client, web).unwrap().0, "web2");
    let list = good(&["real", "list", service]);
    assert!(list.contains("tcp 192.168.88.15:80  192.168.88.100       0  -\n"), "{list}");
    assert!(good(&["service", "list"]).contains("udp [fd00:88::15]:80"));
    let table = good(&["health"]);
    assert!(table.contains("draining") && table.contains("changes that a restart would lose: 2"), "{table}");
    assert!(good(&["neighbors"]).contains("192.168.88.100  eth0    02:00:00:00:01:00  known\n"));
    for listing in [
        &["service", "list", "--json"][..],
        &["real", "list", "--json"],
        &["health", "--json"],
        &["neighbors", "--json"],
    ] {
        serde_json::from_str::<Value>(&good(listing)).unwrap();
    }
    good(&["service", "add", "udp [fd00:88::15]:53", "udp_timeout_s=60"]);
    good(&["real", "add", "udp/[fd00:88::15]:53", "fd00:88::100", "weight=2", "mac=02:00:00:00:01:00"]);
    let one = curl(&director, "GET", "/v1/services/udp/fd00:88::15/53", &[], None).good();
    assert_eq!((&one["udp_timeout_s"], &one["real_server"][0]["weight"]), (&json!(60), &json!(2)));
    good(&["real", "del", "udp/[fd00:88::15]:53", "fd00:88::100"]);
    good(&["service", "del", "udp/[fd00:88::15]:53"]);

    assert!(bad(&["service", "del", "udp/[fd00:88::15]:53"], 1).contains("there is no virtual service"));
    assert!(bad(&["real", "edit", service, "192.168.88.100", "weight=-1"], 2).contains("-1 is not a weight"));
    assert!(bad(&["real", "edit", service, "192.168.88.100", "wieght=1"], 2).contains("did you mean weight?"));
    assert!(bad(&["service", "add", "tcp:80"], 2).contains("write it as"));
    let file = director.config_file().to_str().unwrap();
    let applied = good(&["apply", "-c", file, "--dry-run"]);
    assert!(applied.contains("weight 0 -> 1") && applied.contains("slots moved: 65,537 of"), "{applied}");
    good(&["apply", "-c", file]);
    assert_eq!(director.stats().weights(), [1, 0]);
    let broken = lab.scratch().join("broken.toml");
    fs::write(&broken, "[director]\nsecret = \"x\"\nno_such = 1\n").unwrap();
    let text = bad(&["apply", "-c", broken.to_str().unwrap()], 2);
    assert!(text.contains("broken.toml:3:1: director.no_such: unknown key"), "{text}");
    director.end(Signal::SIGTERM);
    let gone = Command::new(pointsman()).args(["health", "--socket", "/nowhere/control.sock"]).output().unwrap();
    assert_eq!(gone.status.code(), Some(1));
    assert!(said(&gone).contains("no director answers at /nowhere/control.sock"), "{}", said(&gone));
}

#[test]
fn ten_thousand_changes_in_one_request_are_one_change() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let director = Director::start(&lab, &Config::usual());
    let service = |number: u32| format!("tcp 192.168.88.15:{}", 1000 + number);
    let mut changes = vec![json!({ "op": "clear" })];
    for number in 0..1000 {
        changes.push(json!({ "op": "add_service", "service": service(number), "settings": { "table_size": 251 } }));
        for host in [Host::Web1, Host::Web2] {
            let address = host.ipv4();
            changes.push(json!({ "op": "add_real_server", "service": service(number), "address": address }));
        }
    }
    let generation = || director.stats().0["table"]["generation"].clone();
    let before = generation();
    let report = json_body(&director, "POST", "/v1/changes", &json!({ "changes": changes })).good();
    assert_eq!(report["services_added"].as_array().unwrap().len(), 1000);
    assert_eq!(report["services_removed"].as_array().unwrap().len(), 4);
    let after = generation();
    if let (Some(before), Some(after)) = (before.as_u64(), after.as_u64()) {
        assert_eq!(after, before + 1);
    }
    assert_eq!(curl(&director, "GET", "/v1/real-servers", &[], None).good().as_array().unwrap().len(), 2000);
}

#[test]
fn clients_that_mean_harm_disturb_no_request() {
    let Some(lab) = Lab::up(Shape { queues: 2, ..Shape::default() }) else { return };
    let _servers = WebServer::pair(&lab, 80);
    let mut director = Director::start(&lab, &Config::usual());
    let web = SocketAddr::from((vip4(), 80));
    let memory_before = director.resident_bytes();
    let enough = AtomicBool::new(false);
    let (outcome, most) = thread::scope(|scope| {
        let load = scope.spawn(|| STEADY.run(&lab, Host::Client, web, Some(&enough)));
        let socket = director.control_socket().to_owned();
        let most = harass(&socket, || director.resident_bytes());
        enough.store(true, Ordering::Relaxed);
        (load.join().unwrap(), most)
    });
    assert_all_answered(&outcome);
    assert!(outcome.answered() >= 300, "{outcome:#?}");
    let grown = most.saturating_sub(memory_before);
    assert!(grown < 256 << 20, "the director has grown by {} MiB", grown >> 20);
    assert!(director.is_running());
    wait_for("the director to answer again", 30, || run(&director, &["health"]).status.success().then_some(()));
    let stats = director.quiet_stats();
    stats.assert_identity();
    assert_eq!(stats.dropped(), 0, "{:#}", stats.0);
}

/// Rubbish, idle and slow connections by the thousand, bodies without end. Returns the most memory in use.
fn harass(socket: &Path, memory: impl Fn() -> u64) -> u64 {
    let connect = || UnixStream::connect(socket);
    // Connections that say nothing, a part of something, or rubbish; all that the socket takes.
    let mut idle = Vec::new();
    for number in 0..3000 {
        let stream = UnixStream::connect(socket);
        if let Ok(mut stream) = stream {
            stream.set_nonblocking(true).unwrap();
            let beginning: &[u8] = match number % 4 {
                0 => b"",
                1 => b"GET /v1/health HTTP/1.1\r\nhost: x\r\n",
                2 => b"\0\xff\x80 rubbish \r\n\r\n\r\n",
                _ => b"PUT /v1/config HTTP/1.1\r\nhost: x\r\ncontent-type: application/toml\r\ncontent-length: 9000000\r\n\r\n#",
            };
            let _ = stream.write_all(beginning);
            idle.push(stream);
        }
        // A full backlog makes connect wait, and the server takes some each time others have run out of time.
        if idle.len() >= 120 {
            idle.clear();
        }
    }
    let mut most = memory();
    drop(idle);
    // Bodies that are too large, in parallel, as fast as they are taken.
    thread::scope(|scope| {
        let senders: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let Ok(mut stream) = connect() else { return };
                    stream.set_write_timeout(Some(Duration::from_secs(15))).unwrap();
                    let head = "POST /v1/changes HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                                content-length: 1000000000\r\n\r\n{\"changes\":[";
                    if stream.write_all(head.as_bytes()).is_err() {
                        return;
                    }
                    let filling = vec![b' '; 1 << 20];
                    for _ in 0..200 {
                        if stream.write_all(&filling).is_err() {
                            break;
                        }
                    }
                    let _ = stream.shutdown(Shutdown::Write);
                    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                    let _ = stream.read(&mut [0; 1024]);
                })
            })
            .collect();
        while senders.iter().any(|sender| !sender.is_finished()) {
            most = most.max(memory());
            thread::sleep(Duration::from_millis(50));
        }
    });
    most
}

/// Runs schemathesis, a property-based tester of HTTP interfaces, with the document that `pointsman api` prints.
#[test]
fn the_server_is_as_its_openapi_document_says() {
    let Some(tester) = api_tester() else { return };
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let mut director = Director::start(&lab, &Config::usual());
    let document = Command::new(pointsman()).arg("api").output().unwrap();
    assert!(document.status.success());
    let served = curl(&director, "GET", "/v1/openapi.json", &[], None);
    assert_eq!(served.body.trim(), String::from_utf8_lossy(&document.stdout).trim());
    let file = lab.scratch().join("openapi.json");
    fs::write(&file, &document.stdout).unwrap();
    let port = bridge(director.control_socket().to_owned());
    let output = Command::new("timeout")
        .arg("85")
        .arg(tester)
        .args(["run", file.to_str().unwrap(), "--url", &format!("http://127.0.0.1:{port}")])
        .args(["--phases", "examples,coverage,fuzzing", "--max-examples", "30", "--workers", "2", "--no-color"])
        // A capture's answer has no end.
        .args(["--exclude-path", "/v1/capture"])
        // What is on no segment of the director's is refused, which no schema can say.
        .args(["--exclude-checks", "positive_data_acceptance", "--seed", "1"])
        .current_dir(lab.scratch())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(director.is_running(), "{}", director.log());
    assert!(!director.log().contains("panicked"), "{}", director.log());
}

/// The tester, which scripts/install-deps installs where it can be had.
fn api_tester() -> Option<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from);
    let path = target.join("schemathesis/bin/schemathesis");
    if path.exists() {
        return Some(path);
    }
    let _ = writeln!(
        std::io::stderr(),
        "NOT RUN: the_server_is_as_its_openapi_document_says: there is no {}; scripts/install-deps installs it",
        path.display()
    );
    None
}

/// Serves a Unix socket at a port of the loopback interface, until the test ends. Returns the port.
fn bridge(socket: PathBuf) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(client), Ok(server)) = (client, UnixStream::connect(&socket)) else { continue };
            let (mut from_client, mut to_client) = (client.try_clone().unwrap(), client);
            let (mut to_server, mut from_server) = (server.try_clone().unwrap(), server);
            thread::spawn(move || {
                let _ = std::io::copy(&mut from_client, &mut to_server);
                let _ = to_server.shutdown(Shutdown::Write);
            });
            thread::spawn(move || {
                let _ = std::io::copy(&mut from_server, &mut to_client);
                let _ = to_client.shutdown(Shutdown::Both);
            });
        }
    });
    port
}
