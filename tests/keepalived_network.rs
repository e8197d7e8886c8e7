//! keepalived, Debian's own, which decides which of two directors has the VIPs. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test fails by panicking")]

mod lab;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lab::director::{Config, Director, pointsman};
use lab::frame::Mac;
use lab::http::{Connection, WebServer};
use lab::raw_socket::RawSocket;
use lab::vips::{announce, by_arp, pings, vip_status, without_vips};
use lab::{AtEnd, Host, Lab, Shape, vip4, vip6, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pointsman::wire::{MacAddress, arp, ndp};

fn servers() -> [SocketAddr; 2] {
    [(vip4(), 80).into(), (vip6(), 80).into()]
}

/// keepalived on a machine.
struct Keepalived {
    process: Child,
    vrrp_pid: PathBuf,
    log: PathBuf,
}

impl Keepalived {
    /// With one of the sample configurations, whose paths are replaced by those of the test.
    fn start(lab: &Lab, host: Host, sample: &str, director: &Director, priority: u32) -> Keepalived {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/keepalived");
        let file = |ending: &str| lab.scratch().join(format!("keepalived-{}.{ending}", host.name()));
        // keepalived runs no script that others than root can write to, wherever the repository is.
        let directory = lab.scratch().join(format!("pointsman-{}", host.name()));
        fs::create_dir(&directory).unwrap();
        for script in ["notify", "check"] {
            fs::copy(scripts.join(script), directory.join(script)).unwrap();
        }
        let options = |script: &str| {
            format!(
                "{}/{script} --pointsman {} --socket {} --state {}",
                directory.display(),
                pointsman().display(),
                director.control_socket().display(),
                file("state").display()
            )
        };
        let text = fs::read_to_string(scripts.join(sample))
            .unwrap()
            .replace("/usr/local/lib/pointsman/check", &options("check"))
            .replace("/usr/local/lib/pointsman/notify", &options("notify"))
            .replace("priority 150", &format!("priority {priority}"));
        fs::write(file("conf"), text).unwrap();
        let log = fs::File::create(file("log")).unwrap();
        let mut command = lab.command(host, "keepalived");
        command.args(["--dont-fork", "--log-console", "--vrrp", "--use-file"]).arg(file("conf"));
        command.arg("--pid").arg(file("pid")).arg("--vrrp_pid").arg(file("vrrp"));
        let process = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        Keepalived { process, vrrp_pid: file("vrrp"), log: file("log") }
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn is_master(&self) -> bool {
        let log = self.log();
        log.rfind("Entering MASTER STATE").is_some_and(|at| !log[at..].contains("Entering BACKUP STATE"))
    }

    /// None of its processes says farewell.
    fn die(&mut self) {
        let child = fs::read_to_string(&self.vrrp_pid).unwrap().trim().parse().unwrap();
        let child = Pid::from_raw(child);
        // One that is stopped cannot heed the signal that tells it of its parent's death.
        let _ = kill(child, Signal::SIGSTOP);
        let _ = self.process.kill();
        let _ = kill(child, Signal::SIGKILL);
        let _ = self.process.wait();
    }
}

impl Drop for Keepalived {
    fn drop(&mut self) {
        if thread::panicking() {
            let _ = writeln!(std::io::stderr(), "--- log of keepalived\n{}---", self.log());
        }
        if self.process.try_wait().unwrap().is_none() {
            // Its child goes with it.
            let _ = kill(Pid::from_raw(i32::try_from(self.process.id()).unwrap()), Signal::SIGTERM);
            let _ = self.process.wait();
        }
    }
}

/// Whether keepalived is there. If not: a printed line, or under `CI` a failure.
fn has_keepalived() -> bool {
    let found =
        Command::new("keepalived").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    assert!(
        found || std::env::var_os("CI").is_none(),
        "CI is set, but there is no keepalived: run scripts/install-deps"
    );
    if !found {
        let _ = writeln!(std::io::stderr(), "skipped: there is no keepalived; scripts/install-deps installs it");
    }
    found
}

/// Asks again and again over new connections. The longest time without an answer.
fn longest_silence(lab: &Lab, server: SocketAddr, enough: &AtomicBool) -> Duration {
    let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
    lab.on(Host::Remote, || {
        while !enough.load(Ordering::Relaxed) {
            // A connection that waits for a lost SYN would hide when service came back.
            let answered = TcpStream::connect_timeout(&server, Duration::from_millis(50)).is_ok();
            if answered {
                longest = longest.max(last.elapsed());
                last = Instant::now();
            }
            thread::sleep(Duration::from_millis(5));
        }
    });
    longest
}

/// Bytes of one answer that is read slowly until `enough` is set, so that it lasts from before the take-over to after it.
const DOWNLOAD: usize = 256 << 20;

fn slow_download(lab: &Lab, server: SocketAddr, enough: &AtomicBool) -> usize {
    lab.on(Host::Remote, || {
        let mut stream = TcpStream::connect(server).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "GET /{DOWNLOAD} HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
        let (mut buffer, mut bytes) = (vec![0; 64 << 10], 0);
        while bytes < DOWNLOAD {
            let length = stream.read(&mut buffer).unwrap();
            assert!(length > 0, "the download broke off after {bytes} bytes");
            bytes += length;
            if !enough.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(5));
            }
        }
        bytes
    })
}

/// What dies of the master.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dies {
    /// Its director, its keepalived and its cable.
    All,
    /// Its keepalived. The director goes on.
    Keepalived,
}

/// The master dies while a download and other flows are under way.
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
fn fail_over(sample: &str, configs: [Config; 2], dies: Dies) {
    if !has_keepalived() {
        return;
    }
    let Some(lab) = without_vips(Shape { standby: true, ..Shape::default() }) else { return };
    let _servers = WebServer::pair(&lab, 80);
    let mut first = Some(Director::start(&lab, &configs[0]));
    let second = Director::start_on(&lab, Host::Standby, &configs[1]);
    let mut master = Keepalived::start(&lab, Host::Director, sample, first.as_ref().unwrap(), 150);
    wait_for("the first machine to be master", 20, || master.is_master().then_some(()));
    let backup = Keepalived::start(&lab, Host::Standby, sample, &second, 100);
    wait_for("the second to be backup", 20, || backup.log().contains("Entering BACKUP STATE").then_some(()));
    for vip in [vip4(), vip6()] {
        wait_for("the master to answer", 10, || pings(&lab, Host::Remote, vip).then_some(()));
    }
    assert!(!backup.is_master(), "{}", backup.log());
    let (enough, exchanges) = (AtomicBool::new(false), AtomicU64::new(0));

    let silences = thread::scope(|scope| {
        let _at_end = AtEnd(&enough);
        let download = scope.spawn(|| slow_download(&lab, servers()[0], &enough));
        let flows: Vec<_> = (0..8)
            .map(|number| {
                let (enough, exchanges, lab) = (&enough, &exchanges, &lab);
                scope.spawn(move || {
                    let server = servers()[number % 2];
                    let mut connection = lab.on(Host::Remote, || Connection::open(server)).unwrap();
                    let name = connection.get().unwrap().0;
                    while !enough.load(Ordering::Relaxed) {
                        assert_eq!(connection.get_with(1 << 20, 0).unwrap().0, name, "a flow stays with its server");
                        exchanges.fetch_add(1, Ordering::Relaxed);
                        thread::sleep(Duration::from_millis(5));
                    }
                })
            })
            .collect();
        let silences = servers().map(|server| {
            let (lab, enough) = (&lab, &enough);
            scope.spawn(move || longest_silence(lab, server, enough))
        });
        wait_for("the flows to be under way", 20, || (exchanges.load(Ordering::Relaxed) > 40).then_some(()));

        // All at once, as far as a test can; the kernel that is left behind has no cable either.
        if dies == Dies::All {
            lab.ip(Host::Switch, "link set director down");
        }
        master.die();
        if dies == Dies::All {
            first.take().unwrap().end(Signal::SIGKILL);
        }

        wait_for("the standby to take over", 20, || backup.is_master().then_some(()));
        let at_take_over = exchanges.load(Ordering::Relaxed);
        wait_for("all flows to go on", 30, || (exchanges.load(Ordering::Relaxed) > at_take_over + 80).then_some(()));
        if let Some(first) = &first {
            one_director_is_left(&lab, first);
            let now = exchanges.load(Ordering::Relaxed);
            wait_for("the flows to go on with it", 30, || (exchanges.load(Ordering::Relaxed) > now + 80).then_some(()));
        }
        enough.store(true, Ordering::Relaxed);
        for flow in flows {
            flow.join().unwrap();
        }
        assert!(download.join().unwrap() >= DOWNLOAD, "the download is whole");
        silences.map(|silence| silence.join().unwrap())
    });

    for vip in [vip4(), vip6()] {
        assert!(pings(&lab, Host::Remote, vip));
    }
    let _ = writeln!(
        std::io::stderr(),
        "{sample}: longest time without a new connection: IPv4 {} ms, IPv6 {} ms",
        silences[0].as_millis(),
        silences[1].as_millis()
    );
    assert_eq!(second.quiet_stats().dropped(), 0);
}

/// The lease of one that nobody speaks to any more ends.
fn one_director_is_left(lab: &Lab, left_alone: &Director) {
    for vip in [vip4(), vip6()] {
        wait_for("the lease to end", 20, || (vip_status(lab, left_alone, vip)["state"] == "standby").then_some(()));
    }
    let log = left_alone.log();
    assert!(log.contains("the lease was not renewed in time"), "{log}");
    for vip in [vip4(), vip6()] {
        assert_eq!(answerers(lab, vip), [Host::Standby.mac()], "{vip}: one answers, and it is the other");
    }
}

/// Who answers a question for an address.
fn answerers(lab: &Lab, address: IpAddr) -> Vec<Mac> {
    let socket = RawSocket::open(lab, Host::Client, "eth0");
    let own = MacAddress::new(Host::Client.mac().0);
    match (address, Host::Client.ipv6()) {
        (IpAddr::V4(address), _) => socket.send(&arp::probe(own, address)),
        (IpAddr::V6(address), IpAddr::V6(source)) => socket.send(&ndp::solicitation(own, source, address)),
        (IpAddr::V6(_), IpAddr::V4(_)) => unreachable!("the client's IPv6 address"),
    }
    // Answers alone: announcements are to all.
    let is_answer = |frame: &[u8]| {
        let v4 = arp::claim(frame).map(|(claimed, _)| IpAddr::V4(claimed));
        let claimed = v4.or_else(|| ndp::claim(frame).map(|(claimed, _)| IpAddr::V6(claimed)));
        claimed == Some(address) && lab::frame::destination(frame) == Host::Client.mac()
    };
    socket.drain(Duration::from_secs(1), is_answer).iter().map(|frame| lab::frame::source(frame)).collect()
}

#[test]
fn keepalived_moves_vips_that_the_directors_answer_for() {
    let config = by_arp().director("announce_at_start = false");
    fail_over("keepalived-arp.conf", [config.clone(), config], Dies::All);
}

#[test]
fn a_director_whose_keepalived_alone_dies_leaves_the_vips_to_the_standby() {
    let config = by_arp().director("announce_at_start = false");
    fail_over("keepalived-arp.conf", [config.clone(), config], Dies::Keepalived);
}

#[test]
fn keepalived_moves_vips_that_the_kernels_answer_for() {
    let config = Config::usual().director("flows_per_worker = 16384");
    fail_over("keepalived-kernel.conf", [config.clone(), config], Dies::All);
}

/// Waits until the check of keepalived has renewed the lease of a VIP.
fn wait_for_renewal(lab: &Lab, director: &Director, vip: IpAddr) {
    let left = || vip_status(lab, director, vip)["lease_ms"].as_u64();
    let mut least = u64::MAX;
    wait_for("the lease to be renewed", 20, || {
        let left = left().unwrap_or(0);
        let renewed = left > least.saturating_add(100);
        least = least.min(left);
        renewed.then_some(())
    });
}

#[test]
fn keepalived_renews_what_a_master_has_and_leaves_alone_what_was_released_by_hand() {
    if !has_keepalived() {
        return;
    }
    let Some(lab) = without_vips(Shape::default()) else { return };
    let config = by_arp().director("announce_at_start = false");
    let director = Director::start(&lab, &config);
    let _master = Keepalived::start(&lab, Host::Director, "keepalived-arp.conf", &director, 150);
    let state = |director: &Director, vip: IpAddr| vip_status(&lab, director, vip)["state"].clone();
    for vip in [vip4(), vip6()] {
        wait_for("the master to answer", 20, || (state(&director, vip) == "active").then_some(()));
    }
    assert!(announce(&lab, &director, &["release", &vip4().to_string()]).status.success());
    for _ in 0..3 {
        wait_for_renewal(&lab, &director, vip6());
        assert_eq!(state(&director, vip4()), "standby", "released by hand");
    }
    assert!(announce(&lab, &director, &["take", &vip4().to_string()]).status.success());
    wait_for_renewal(&lab, &director, vip4());

    director.end(Signal::SIGKILL);
    let director = Director::start(&lab, &config);
    for vip in [vip4(), vip6()] {
        wait_for("the new director to be told", 20, || (state(&director, vip) == "active").then_some(()));
    }
}
