//! Each kind of health check against real servers on the loopback interface.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test fails by panicking")]

use std::convert::Infallible;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use pointsman::config::{self, Config};
use pointsman::health::HealthChecks;
use pointsman::health::target::Target;
use pointsman::stats::report::{HealthCheckReport, HealthState};
use rcgen::CertifiedKey;
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// A service with one real server on the loopback interface (which no file may have) and these checks.
fn config(address: IpAddr, service_lines: &str, checks: &[String]) -> Config {
    let (vip, rip) = if address.is_ipv4() { ("192.0.2.1", "192.0.2.2") } else { ("2001:db8::1", "2001:db8::2") };
    let mut text = format!(
        "[[virtual_service]]\nvip = \"{vip}\"\nport = 4711\nprotocol = \"tcp\"\n{service_lines}\n\
         [[virtual_service.real_server]]\naddress = \"{rip}\"\nweight = 7\n"
    );
    for check in checks {
        text += &format!("[[virtual_service.health_check]]\n{check}\n");
    }
    let mut config = config::parse(&text, "test.toml").unwrap_or_else(|error| panic!("{error}")).config;
    config.virtual_services[0].real_servers[0].address = address;
    config
}

fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited for {what} in vain");
        thread::sleep(Duration::from_millis(5));
    }
}

struct Running {
    checks: HealthChecks,
    target: Target,
    notified: Arc<AtomicUsize>,
}

impl Running {
    fn start(config: &Config) -> Self {
        let notified = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&notified);
        let count = move || {
            counter.fetch_add(1, Ordering::Relaxed);
        };
        let checks = HealthChecks::start(Box::new(count)).unwrap();
        checks.configure(config);
        let service = &config.virtual_services[0];
        let target = Target { service: service.key, real_server: service.real_servers[0].address };
        Self { checks, target, notified }
    }

    fn reports(&self) -> Vec<HealthCheckReport> {
        let found = (self.checks.reader())();
        found.into_iter().find(|(target, _)| *target == self.target).unwrap().1
    }

    fn report(&self) -> HealthCheckReport {
        self.reports().remove(0)
    }

    fn wait_until(&self, state: HealthState) -> HealthCheckReport {
        let report = wait_for(&format!("the check to be {}", state.name()), || {
            let report = self.report();
            (report.state == state).then_some(report)
        });
        wait_for("the real server to follow", || {
            (self.checks.is_up(&self.target) == (state == HealthState::Up)).then_some(())
        });
        report
    }
}

/// The check's first words: quick, one answer is enough, and it begins as what it will not be.
fn quick(kind: &str, more: &str, initial: &str) -> String {
    format!(
        "kind = \"{kind}\"\ninterval_ms = 20\ntimeout_ms = 2000\nrise = 1\nfall = 1\nflap_window_s = 0\n\
         initial = \"{initial}\"\n{more}"
    )
}

fn good(address: IpAddr, kind: &str, more: &str) -> String {
    let running = Running::start(&config(address, "", &[quick(kind, more, "down")]));
    running.wait_until(HealthState::Up).last_result.unwrap()
}

fn bad(address: IpAddr, kind: &str, more: &str) -> String {
    let running = Running::start(&config(address, "", &[quick(kind, more, "up")]));
    running.wait_until(HealthState::Down).last_result.unwrap()
}

/// A port that nobody listens on.
fn closed_port(address: IpAddr) -> u16 {
    TcpListener::bind((address, 0)).unwrap().local_addr().unwrap().port()
}

/// An HTTP server that lives as long as the test.
fn http_server(address: IpAddr, tls: Option<TlsAcceptor>) -> SocketAddr {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let bound = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let tls = tls.clone();
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(answer);
                    let server = hyper::server::conn::http1::Builder::new();
                    match tls {
                        None => server.serve_connection(TokioIo::new(stream), service).await.unwrap_or(()),
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                server.serve_connection(TokioIo::new(stream), service).await.unwrap_or(());
                            }
                        }
                    }
                });
            }
        });
    });
    bound
}

/// `/503` gets that status; `/host` the host that was asked for; `/slow` nothing; `/large` a megabyte.
async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::from("all is well and ready\n"));
    match request.uri().path() {
        "/host" => {
            let host = request.headers()["host"].to_str().unwrap();
            *response.body_mut() = Full::from(format!("host={host} agent={:?}\n", request.headers()["user-agent"]));
        }
        "/slow" => tokio::time::sleep(Duration::from_secs(60)).await,
        "/large" => *response.body_mut() = Full::from(vec![b'x'; 1 << 20]),
        path => {
            if let Ok(status) = path[1..].parse::<u16>() {
                *response.status_mut() = StatusCode::from_u16(status).unwrap();
            }
        }
    }
    Ok(response)
}

#[test]
fn tcp_connects_or_is_refused() {
    for address in [V4, V6] {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(good(address, "tcp", &format!("port = {port}")), "connected");
        let closed = format!("port = {}", closed_port(address));
        assert_eq!(bad(address, "tcp", &closed), "connect: Connection refused (os error 111)");
    }
}

#[test]
fn http_is_judged_by_status_and_body() {
    let port = http_server(V4, None).port();
    let with = |more: &str| format!("port = {port}\n{more}");
    for (more, result) in [
        ("", "HTTP status 200"),
        ("path = \"/503\"\nstatus = \"500-503\"", "HTTP status 503"),
        ("path = \"/304\"\nstatus = \"200,304\"", "HTTP status 304"),
        ("body_contains = \"well\"\nbody_matches = \"(?i)AND (not )?ready\"", "HTTP status 200"),
        (
            "path = \"/host\"\nhost = \"www.example.net\"\nbody_contains = \"host=www.example.net agent=\"",
            "HTTP status 200",
        ),
        (
            "path = \"/host?really\"\nbody_matches = '^host=127\\.0\\.0\\.1:[0-9]+ agent=\"pointsman-health/'",
            "HTTP status 200",
        ),
        ("path = \"/large\"\nbody_contains = \"xxx\"", "HTTP status 200"),
    ] {
        assert_eq!(good(V4, "http", &with(more)), result, "{more}");
    }
    for (more, result) in [
        ("path = \"/503\"", "HTTP status 503, wanted 200-299"),
        ("status = \"204,300-399\"", "HTTP status 200, wanted 204,300-399"),
        ("body_contains = \"ill\\n\"", "HTTP status 200, but the body does not contain \"ill\\n\""),
        ("body_matches = \"^ready\"", "HTTP status 200, but the body does not match \"^ready\""),
        ("path = \"/large\"\nbody_contains = \"y\"", "HTTP status 200, but the body does not contain \"y\""),
        ("path = \"/slow\"\ntimeout_ms = 50", "no answer within 50 ms"),
    ] {
        let with = with(more);
        let check =
            quick("http", &with, "up").replacen("timeout_ms = 2000\n", "", usize::from(more.contains("timeout")));
        let running = Running::start(&config(V4, "", &[check]));
        assert_eq!(running.wait_until(HealthState::Down).last_result.unwrap(), result, "{more}");
    }
    let port = http_server(V6, None).port();
    let more = format!("port = {port}\npath = \"/host\"\nbody_contains = \"host=[::1]:{port} \"");
    assert_eq!(good(V6, "http", &more), "HTTP status 200");
}

#[test]
fn what_is_no_http_is_bad() {
    let listener = TcpListener::bind((V4, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = std::io::Write::write_all(&mut stream, b"SSH-2.0-OpenSSH_9.2\r\n\r\n");
        }
    });
    let result = bad(V4, "http", &format!("port = {port}"));
    assert!(result.starts_with("HTTP: "), "{result}");
}

#[test]
fn https_looks_at_certificates_if_it_is_to() {
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["www.example.net".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    fs::write(&ca, cert.pem()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let port = http_server(V4, Some(TlsAcceptor::from(Arc::new(tls)))).port();
    let with = |more: &str| format!("port = {port}\n{more}");
    let ca = format!("tls_verify = true\ntls_ca = {ca:?}");
    assert_eq!(good(V4, "https", &with("body_contains = \"well\"")), "HTTP status 200");
    assert_eq!(good(V4, "https", &with(&format!("{ca}\nsni = \"www.example.net\""))), "HTTP status 200");
    let result = bad(V4, "https", &with(&format!("{ca}\nsni = \"www.example.com\"")));
    assert!(result.starts_with("TLS: invalid peer certificate: certificate not valid for name"), "{result}");
    let result = bad(V4, "https", &with(&ca));
    assert!(result.starts_with("TLS: invalid peer certificate: certificate not valid for name"), "{result}");
    let none = folder.path().join("none.pem");
    let result = bad(V4, "https", &with(&format!("tls_verify = true\ntls_ca = {none:?}")));
    assert!(result.starts_with(&format!("TLS: cannot read {}: ", none.display())), "{result}");
    fs::write(&none, "nothing").unwrap();
    let result = bad(V4, "https", &with(&format!("tls_verify = true\ntls_ca = {none:?}")));
    assert_eq!(result, format!("TLS: cannot read {}: there is no certificate in it", none.display()));
    let plain = http_server(V4, None).port();
    let result = bad(V4, "https", &format!("port = {plain}"));
    assert!(result.starts_with("TLS: "), "{result}");
}

#[test]
fn udp_waits_for_an_answer_or_for_an_error() {
    for address in [V4, V6] {
        let echo = UdpSocket::bind((address, 0)).unwrap();
        let port = echo.local_addr().unwrap().port();
        thread::spawn(move || {
            let mut buffer = [0; 100];
            while let Ok((bytes, from)) = echo.recv_from(&mut buffer) {
                if &buffer[..bytes] != b"silence" {
                    let _ = echo.send_to(&buffer[..bytes], from);
                }
            }
        });
        let with = |more: &str| format!("port = {port}\n{more}");
        assert_eq!(good(address, "udp", &with("send = \"hello\"\nexpect = \"ell\"")), "an answer of 5 bytes");
        assert_eq!(good(address, "udp", &with("send_hex = \"00ff10\"\nexpect_hex = \"FF\"")), "an answer of 3 bytes");
        assert_eq!(good(address, "udp", &with("send = \"hello\"")), "an answer of 5 bytes");
        let result = bad(address, "udp", &with("send = \"hello\"\nexpect = \"hallo\""));
        assert_eq!(result, "the answer of 5 bytes does not contain what is expected");
        let short = |check: String| check.replacen("timeout_ms = 2000", "timeout_ms = 50", 1);
        let silent = short(quick("udp", &with("send = \"silence\""), "down"));
        let running = Running::start(&config(address, "", &[silent]));
        assert_eq!(running.wait_until(HealthState::Up).last_result.unwrap(), "no answer, and no error");
        let silent = short(quick("udp", &with("send = \"silence\"\nexpect = \"\""), "up"));
        let running = Running::start(&config(address, "", &[silent]));
        assert_eq!(running.wait_until(HealthState::Down).last_result.unwrap(), "no answer within 50 ms");
        let closed = UdpSocket::bind((address, 0)).unwrap().local_addr().unwrap().port();
        let result = bad(address, "udp", &format!("port = {closed}"));
        assert_eq!(result, "receive: Connection refused (os error 111)");
    }
}

#[test]
fn icmp_gets_its_own_reply() {
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "CI is set, but this test cannot open raw sockets: it needs root");
        return;
    }
    for address in [V4, V6] {
        assert_eq!(good(address, "icmp", ""), "an echo reply");
    }
    // Not routed anywhere, RFC 5737.
    let running = Running::start(&config(
        "192.0.2.77".parse().unwrap(),
        "",
        &[quick("icmp", "", "up").replacen("timeout_ms = 2000", "timeout_ms = 50", 1)],
    ));
    running.wait_until(HealthState::Down);
}

fn script(folder: &Path, text: &str) -> String {
    let path = folder.join("check");
    fs::write(&path, text).unwrap();
    // By an interpreter: a file that was just written may not be run while another thread forks.
    format!("command = [\"/bin/sh\", {path:?}, \"one\", \"two words\"]")
}

#[test]
fn a_command_tells_by_its_exit_status_and_knows_what_it_checks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let said = good(
        V4,
        "command",
        &script(
            path,
            "echo \"$POINTSMAN_PROTOCOL $POINTSMAN_VIP $POINTSMAN_VIP_PORT $POINTSMAN_RIP $POINTSMAN_RIP_PORT \
             $POINTSMAN_WEIGHT $1 $2 $PWD\"\necho more",
        ),
    );
    assert_eq!(said, "exit status 0: tcp 192.0.2.1 4711 127.0.0.1 4711 7 one two words /");
    assert_eq!(good(V4, "command", &script(path, "exec >&- 2>&-; sleep 0.1")), "exit status 0");
    assert_eq!(bad(V4, "command", &script(path, "echo out of disk >&2; exit 3")), "exit status 3: out of disk");
    assert_eq!(bad(V4, "command", &script(path, "kill -9 $$")), "killed by signal 9");
    let much = bad(V4, "command", &script(path, "yes | head -c 1000000; exit 1"));
    assert_eq!(much, "exit status 1: y");
    let result = bad(V4, "command", "command = [\"/no/such/program\"]");
    assert_eq!(result, "run the command: No such file or directory (os error 2)");
}

#[test]
fn a_command_that_takes_too_long_is_killed_with_all_that_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    let text = format!("sleep 600 & echo $! $$ >> {}; sleep 600", pids.display());
    let check =
        quick("command", &script(folder.path(), &text), "up").replacen("timeout_ms = 2000", "timeout_ms = 300", 1);
    let mut running = Running::start(&config(V4, "", &[check]));
    assert_eq!(running.wait_until(HealthState::Down).last_result.unwrap(), "no answer within 300 ms");
    // One more is under way when the checks end: it is killed too.
    let lines = || fs::read_to_string(&pids).unwrap().lines().count();
    let before = lines();
    wait_for("another one", || (lines() > before).then_some(()));
    running.checks.stop();
    let all = fs::read_to_string(&pids).unwrap();
    all.split_whitespace().for_each(wait_until_gone);
}

#[test]
fn a_background_process_neither_holds_a_check_up_nor_outlives_it() {
    let folder = tempfile::tempdir().unwrap();
    let pid = folder.path().join("pid");
    let text = format!("sleep 600 & echo $! > {}; echo fine", pid.display());
    let check =
        quick("command", &script(folder.path(), &text), "down").replacen("interval_ms = 20", "interval_ms = 60000", 1);
    let running = Running::start(&config(V4, "", &[check]));
    assert_eq!(running.wait_until(HealthState::Up).last_result.unwrap(), "exit status 0: fine");
    wait_until_gone(fs::read_to_string(&pid).unwrap().trim());
}

#[test]
fn what_a_command_printed_is_kept_though_another_process_group_holds_the_pipe() {
    let folder = tempfile::tempdir().unwrap();
    let pid = folder.path().join("pid");
    let text = format!(
        "setsid sh -c 'echo $$ > {pid}; exec sleep 600' & while ! test -s {pid}; do :; done; echo fine",
        pid = pid.display()
    );
    let check =
        quick("command", &script(folder.path(), &text), "down").replacen("interval_ms = 20", "interval_ms = 60000", 1);
    let running = Running::start(&config(V4, "", &[check]));
    let result = running.wait_until(HealthState::Up).last_result.unwrap();
    let pid: i32 = fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    assert_eq!(result, "exit status 0: fine");
}

fn wait_until_gone(pid: &str) {
    wait_for("the process to end", || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // A zombie waits for whoever adopted it.
        (stat.is_empty() || stat.contains(") Z ")).then_some(())
    });
}

#[test]
fn all_checks_must_be_up_and_a_reload_keeps_what_they_found() {
    let listener = TcpListener::bind((V4, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let tcp = quick("tcp", &format!("port = {port}"), "down");
    let closed = quick("tcp", &format!("port = {}", closed_port(V4)), "up");
    let both = config(V4, "", &[tcp.clone(), closed]);
    let running = Running::start(&both);
    wait_for("both to be decided", || {
        let states: Vec<HealthState> = running.reports().iter().map(|report| report.state).collect();
        (states == [HealthState::Up, HealthState::Down]).then_some(())
    });
    assert!(!running.checks.is_up(&running.target));
    let before = running.report();

    running.checks.configure(&config(V4, "", std::slice::from_ref(&tcp)));
    let after = running.report();
    assert_eq!((after.state, after.since_unix_ns), (HealthState::Up, before.since_unix_ns));
    assert!(after.checks >= before.checks);
    assert!(running.checks.is_up(&running.target));
    let notified = running.notified.load(Ordering::Relaxed);
    wait_for("more of the same", || (running.report().checks > after.checks + 5).then_some(()));
    assert_eq!(running.notified.load(Ordering::Relaxed), notified, "nobody is told what is known already");

    drop(listener);
    let down = running.wait_until(HealthState::Down);
    assert_eq!((down.flaps, down.needed_rise), (1, 1));
    assert!(down.failures >= 1 && down.checks > down.failures && down.since_unix_ns > after.since_unix_ns);
    wait_for("the word of it", || (running.notified.load(Ordering::Relaxed) > notified).then_some(()));

    running.checks.configure(&config(V4, "", &[]));
    assert!(running.checks.is_up(&running.target), "one without checks is well");
    assert!((running.checks.reader())().is_empty());
}

#[test]
fn a_changed_check_takes_over_what_is_known_and_a_new_one_what_its_server_counts_as() {
    let port = closed_port(V4);
    // After its first question none for a minute: what it says then is what it was told to begin with.
    let slow = |more: &str| {
        quick("tcp", &format!("port = {port}\n{more}"), "up").replacen("interval_ms = 20", "interval_ms = 60000", 1)
    };
    let tcp = |more: &str| quick("tcp", &format!("port = {port}\n{more}"), "up");
    let running = Running::start(&config(V4, "", &[tcp("")]));
    let before = running.wait_until(HealthState::Down);

    for changed in [slow("jitter_percent = 3"), tcp("").replacen("timeout_ms = 2000", "timeout_ms = 700", 1), tcp("")] {
        running.checks.configure(&config(V4, "", &[changed]));
        let after = running.report();
        assert!(!running.checks.is_up(&running.target), "a server known to be down is up: {after:#?}");
        assert_eq!((after.since_unix_ns, after.flaps), (before.since_unix_ns, before.flaps));
        assert!(after.last_result.is_some() && after.checks >= before.checks);
    }
    // With another port or kind it is another check; so it is beside the one before.
    let elsewhere = closed_port(V4);
    for new in [vec![quick("icmp", "", "up")], vec![tcp(""), quick("tcp", &format!("port = {elsewhere}"), "up")]] {
        running.checks.configure(&config(V4, "", &[tcp("")]));
        running.wait_until(HealthState::Down);
        running.checks.configure(&config(V4, "", &new));
        assert!(!running.checks.is_up(&running.target), "{:#?}", running.reports());
    }

    // A server that is up is not taken out by a check that is new, whatever that would begin with.
    let listener = TcpListener::bind((V4, 0)).unwrap();
    let open = |initial| quick("tcp", &format!("port = {}", listener.local_addr().unwrap().port()), initial);
    let running = Running::start(&config(V4, "", &[open("down")]));
    assert!(!running.checks.is_up(&running.target), "nothing was known of it");
    running.wait_until(HealthState::Up);
    running.checks.configure(&config(V4, "", &[open("down"), quick("icmp", "", "down")]));
    assert!(running.checks.is_up(&running.target), "{:#?}", running.reports());
}

#[test]
fn thousands_of_checks_are_made_in_turn() {
    let listener = TcpListener::bind((V4, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || while listener.accept().is_ok() {});
    let check = quick("tcp", &format!("port = {port}"), "down").replacen("interval_ms = 20", "interval_ms = 200", 1);
    let mut all = config(V4, "", &[check]);
    let one = all.virtual_services[0].clone();
    all.virtual_services = (1..=2000)
        .map(|port| {
            let mut service = one.clone();
            service.key.port = port;
            service
        })
        .collect();
    let running = Running::start(&all);
    wait_for("all of them to be up", || {
        let found = (running.checks.reader())();
        let up = found.iter().filter(|(_, checks)| checks[0].state == HealthState::Up).count();
        (up == 2000).then_some(())
    });
}
