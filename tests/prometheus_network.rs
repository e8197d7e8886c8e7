//! `/metrics`: read by the real Prometheus, checked by its own linter, and compared with document and dashboard.
//!
//! The network is that of `scripts/lab`; tests that need one need root.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::print_stderr,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod lab;
mod sources;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use lab::director::{Config, Director};
use lab::http::{WebServer, fetch};
use lab::{Host, Lab, Shape, vip4, wait_for};
use pointsman::control::metrics::MetricsServer;
use pointsman::control::server::Limits;
use pointsman::stats::collect::Collector;
use pointsman::stats::prometheus::render;
use pointsman::stats::report::{CpuTimeReport, NapiReport, Report};
use serde_json::Value;
use sources::{Kernel, director, fill};

/// A report in which everything is that may be.
fn full_report() -> Report {
    let director = director(Kernel { redirect_errors: Some(3), ..Kernel::default() });
    let mut next = 0;
    fill(&director, &mut || {
        next += 1;
        next
    });
    let mut report = Collector::new(director.sources).collect().unwrap();
    for cpu in &mut report.cpus {
        let polls = |interface: &str| NapiReport { interface: interface.to_owned(), ns: 5, ..NapiReport::default() };
        cpu.napi = Some(vec![polls("d0"), polls("")]);
        cpu.softirq_outside_napi_ns = Some(7);
    }
    for worker in &mut report.workers {
        worker.cpu_time = Some(CpuTimeReport::default());
    }
    report
}

fn text() -> String {
    String::from_utf8(render(&full_report()).unwrap()).unwrap()
}

/// Names of families, with their types.
fn families(text: &str) -> BTreeSet<(String, String)> {
    let words = |line: &str| line.split_once(' ').map(|(name, kind)| (name.to_owned(), kind.to_owned()));
    text.lines().filter_map(|line| words(line.strip_prefix("# TYPE ")?)).collect()
}

#[test]
fn the_document_lists_every_metric_with_type_labels_and_meaning_and_no_other() {
    let document = fs::read_to_string("docs/prometheus.md").unwrap();
    let text = text();
    let mut listed = BTreeSet::new();
    for row in document.lines().filter_map(|line| line.strip_prefix("| `pointsman_")) {
        let cells: Vec<&str> = row.split(" | ").collect();
        let [name, kind, labels, meaning] = cells[..] else { panic!("{row}") };
        let name = format!("pointsman_{}", name.trim_end_matches('`'));
        let help = format!("# HELP {name} {}", meaning.trim_end_matches(" |"));
        assert!(text.lines().any(|line| line == help), "{help}");
        let mut labels: BTreeSet<&str> = labels.split(", ").map(|label| label.trim_matches('`')).collect();
        labels.remove("-");
        let sample = text.lines().find(|line| {
            line.starts_with(&name) && !line.starts_with(&format!("{name}_sum")) && line.contains([' ', '{'])
        });
        assert_eq!(label_names(sample.unwrap()), labels, "{name}");
        listed.insert((name, kind.to_owned()));
    }
    assert_eq!(listed, families(&text));
}

/// The labels of a sample but a bucket's bound.
fn label_names(sample: &str) -> BTreeSet<&str> {
    let Some((_, labels)) = sample.split_once('{') else { return BTreeSet::new() };
    let names = labels.split("=\"").filter_map(|part| part.rsplit([',', '{', '"']).next());
    names.filter(|name| !name.is_empty() && *name != "le" && !name.starts_with('}')).collect()
}

#[test]
fn the_dashboard_asks_for_metrics_that_there_are() {
    let dashboard: Value =
        serde_json::from_str(&fs::read_to_string("packaging/grafana/pointsman.json").unwrap()).unwrap();
    let known: BTreeSet<String> = families(&text()).into_iter().map(|(name, _)| name).collect();
    let mut asked = BTreeSet::new();
    metric_names(&dashboard, &mut asked);
    assert!(asked.len() > 10, "{asked:?}");
    let unknown: Vec<_> = asked.iter().filter(|name| !known.contains(name.trim_end_matches("_bucket"))).collect();
    assert!(unknown.is_empty(), "the dashboard asks for {unknown:?}");
}

/// Names of metrics in the texts of queries.
fn metric_names(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => members.values().for_each(|member| metric_names(member, names)),
        Value::Array(items) => items.iter().for_each(|item| metric_names(item, names)),
        Value::String(text) => {
            let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
            names.extend(words.filter(|word| word.starts_with("pointsman_")).map(str::to_owned));
        }
        _ => {}
    }
}

#[test]
fn the_linter_of_prometheus_finds_nothing() {
    let mut promtool = match Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    {
        Ok(promtool) => promtool,
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "promtool: {error}; see scripts/install-deps");
            eprintln!("skipped: promtool is not installed");
            return;
        }
    };
    promtool.stdin.take().unwrap().write_all(text().as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

const QUICK: Limits = Limits {
    connections: 2,
    header_read: Duration::from_millis(200),
    lifetime: Duration::from_millis(400),
    farewell: Duration::from_millis(100),
};

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

/// A server whose reports are counted.
fn server(limits: Limits) -> (MetricsServer, Arc<AtomicUsize>) {
    let made = Arc::new(AtomicUsize::new(0));
    let (report, count) = (full_report(), Arc::clone(&made));
    let stats = Arc::new(move || {
        count.fetch_add(1, Ordering::Relaxed);
        Ok(report.clone())
    });
    (MetricsServer::start("127.0.0.1:0".parse().unwrap(), stats, limits).unwrap(), made)
}

#[test]
fn an_address_serves_metrics_and_nothing_else() {
    let (server, _) = server(Limits::default());
    let answer = get(server.address(), "/metrics");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
    assert!(answer.contains("\npointsman_worker_sent_packets_total{worker=\"1\"}"));
    for path in ["/", "/v1/stats", "/v1/services", "/v1/config"] {
        assert!(get(server.address(), path).starts_with("HTTP/1.1 404"), "{path}");
    }
    let error = MetricsServer::start(server.address(), Arc::new(|| unreachable!()), QUICK).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
}

#[test]
fn scrapers_that_are_slow_silent_or_many_do_not_keep_others_out() {
    let (server, made) = server(QUICK);
    // As many as are served at once, and more: silent ones, and ones that ask and do not read.
    let hostile: Vec<TcpStream> = (0..6)
        .map(|number| {
            let mut stream = TcpStream::connect(server.address()).unwrap();
            if number % 2 == 0 {
                for _ in 0..100 {
                    let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
                }
            }
            stream
        })
        .collect();
    let answer = get(server.address(), "/metrics");
    assert!(answer.contains("\npointsman_info{"), "{answer}");
    drop(hostile);
    // A text is made anew after a while, and not for each who asks.
    let (before, began) = (made.load(Ordering::Relaxed), Instant::now());
    for _ in 0..50 {
        get(server.address(), "/metrics");
    }
    let most = 2 + began.elapsed().as_millis() / 200;
    assert!(((made.load(Ordering::Relaxed) - before) as u128) <= most);
}

/// A Prometheus of the test's own, ended with it.
struct Prometheus(Child);

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_real_prometheus_scrapes_a_director() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let Ok(_) = Command::new("prometheus").arg("--version").output() else {
        assert!(std::env::var_os("CI").is_none(), "prometheus is not installed; see scripts/install-deps");
        return;
    };
    let _servers = WebServer::pair(&lab, 80);
    let director = Director::start(&lab, &Config::usual().director("prometheus_listen = \"127.0.0.1:9465\""));
    for _ in 0..5 {
        fetch(&lab, Host::Client, (vip4(), 80).into()).unwrap();
    }
    let expected = director.quiet_stats().0;
    let config = lab.scratch().join("prometheus.yml");
    fs::write(
        &config,
        "global: { scrape_interval: 200ms, scrape_timeout: 200ms }\n\
         scrape_configs: [{ job_name: pointsman, static_configs: [{ targets: [\"127.0.0.1:9465\"] }] }]\n",
    )
    .unwrap();
    let mut command = lab.command(Host::Director, "prometheus");
    command.arg(format!("--config.file={}", config.display()));
    command.arg(format!("--storage.tsdb.path={}", lab.scratch().join("tsdb").display()));
    command.arg("--web.listen-address=127.0.0.1:9090").stdout(Stdio::null()).stderr(Stdio::null());
    let _prometheus = Prometheus(command.spawn().unwrap());

    let query = |query: &str| -> Option<f64> {
        let address = format!("http://127.0.0.1:9090/api/v1/query?query={query}");
        let output = lab.command(Host::Director, "curl").args(["-sSg", &address]).output().unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout).ok()?;
        answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    };
    wait_for("a scrape", 30, || (query("up") == Some(1.0)).then_some(()));
    let sent = expected["totals"]["tx"]["packets"].as_u64().unwrap() as f64;
    assert!(sent > 0.0);
    assert_eq!(query("sum(pointsman_worker_sent_packets_total)"), Some(sent));
    assert_eq!(query("sum(pointsman_worker_latency_seconds_count)"), Some(sent));
    assert_eq!(query("sum(pointsman_worker_latency_seconds_bucket{le=\"%2BInf\"})"), Some(sent));
    assert!(query("sum(pointsman_napi_seconds_total{interface=\"eth0\"})").unwrap() > 0.0);
    assert_eq!(query("count(pointsman_real_server_up)"), Some(8.0));
    // The control socket has the same.
    let output = lab
        .command(Host::Director, "curl")
        .args(["-sS", "--unix-socket", director.control_socket().to_str().unwrap(), "http://localhost/metrics"])
        .output()
        .unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains("\npointsman_worker_sent_packets_total{worker=\"0\"}"));
}
