//! The director as a service of the machine: as a user of its own with only the unit's capabilities, and with a service
//! manager that listens. The network is that of `scripts/lab`; needs root.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test fails by panicking")]
#![allow(unsafe_code, reason = "a single thread can be stopped by ptrace alone")]

mod lab;

use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use lab::director::{Config, Director, pointsman, run_in_vain};
use lab::http::{Load, WebServer};
use lab::{Host, Lab, Shape, vip4, vip6, wait_for};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// A user that owns nothing.
const NOBODY: u32 = 65_534;
const NEEDED: [&str; 4] = ["net_admin", "net_raw", "bpf", "perfmon"];
/// CAP_NET_ADMIN and CAP_NET_RAW, by their numbers in linux/capability.h.
const KEPT: u64 = 1 << 12 | 1 << 13;
const LOAD: Load = Load { connections: 200, requests_per_connection: 2, at_once: 4, pause: Duration::ZERO };
const WATCHDOG: Duration = Duration::from_secs(2);

/// CAP_CHOWN, CAP_DAC_OVERRIDE and CAP_FOWNER: the configuration file may be anybody's.
const KEPT_BY_ROOT: u64 = 1 | 1 << 1 | 1 << 3;

/// What the unit gives: no user's rights but its own files, and some capabilities.
fn as_nobody(lab: &Lab, capabilities: &[&str]) -> Command {
    // Every user can go there and the director write there.
    fs::set_permissions(lab.scratch(), fs::Permissions::from_mode(0o755)).unwrap();
    chown(lab.scratch(), Some(NOBODY), Some(NOBODY)).unwrap();
    let binary = lab.scratch().join("pointsman");
    assert!(Command::new("cp").arg(pointsman()).arg(&binary).status().unwrap().success());
    let list = |sign: &str| {
        let each: Vec<_> = capabilities.iter().map(|name| format!("{sign}{name}")).collect();
        ["-all"].into_iter().map(str::to_owned).chain(each).collect::<Vec<_>>().join(",")
    };
    let mut command = lab.command(Host::Director, "setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--no-new-privs"]);
    command.arg(format!("--bounding-set={}", list("+")));
    command.arg(format!("--inh-caps={}", list("+")));
    command.arg(format!("--ambient-caps={}", list("+"))).arg(binary);
    command
}

/// The lines `CapXXX` of all threads of a process, as numbers.
fn capabilities(process: i32, set: &str) -> Vec<u64> {
    let of_thread = |status: PathBuf| {
        let status = fs::read_to_string(status).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(set)).unwrap();
        u64::from_str_radix(line.trim_start_matches(':').trim(), 16).unwrap()
    };
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    tasks.map(|task| of_thread(task.unwrap().path().join("status"))).collect()
}

fn assert_little_is_left(director: &Director, kept: u64) {
    let process = director.id().as_raw();
    for (set, left) in [("CapEff", kept), ("CapPrm", kept), ("CapBnd", kept), ("CapInh", 0), ("CapAmb", 0)] {
        let found = capabilities(process, set);
        assert!(found.len() >= 6, "it has threads: {found:?}");
        // The user has no right to make the bounding set smaller, nor any need: no program can gain anything.
        let unit = kept | 1 << 38 | 1 << 39;
        let allowed = |bits: u64| bits == left || (set == "CapBnd" && bits == unit);
        assert!(found.iter().all(|bits| allowed(*bits)), "{set}: {found:x?}");
    }
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
}

/// A check by a command that writes down what it may do.
fn with_a_telling_check(mut config: Config, told: &Path) -> Config {
    let command = format!(
        "grep -E '^(Uid|Cap|NoNew)' /proc/self/status > {0}.new; env >> {0}.new; mv {0}.new {0}",
        told.display()
    );
    config.below_every_service.push(format!(
        "[[virtual_service.health_check]]\nkind = \"command\"\ncommand = [\"/bin/sh\", \"-c\", {command:?}]\ninterval_ms = 500\n\n\
         [[virtual_service.health_check]]\nkind = \"icmp\"\ninterval_ms = 500\n"
    ));
    config.services.retain(|service| service.protocol == "tcp");
    // A user has little memory to lock on some machines.
    config.interfaces.iter_mut().for_each(|interface| interface.settings.push("frames = 2048".to_owned()));
    config
        .below_every_service
        .push("[[virtual_service.health_check]]\nkind = \"tcp\"\nvia = \"direct\"\ninterval_ms = 500\n".to_owned());
    config
}

fn assert_serves(lab: &Lab, director: &Director) {
    for vip in [vip4(), vip6()] {
        let result = LOAD.run(lab, Host::Client, SocketAddr::from((vip, 80)), None);
        assert_eq!((result.failed, result.wandered), (0, 0), "{result:#?}\n{}", director.log());
        assert!(result.answers.len() == 2, "{result:#?}");
    }
}

fn checks_are_good(director: &Director) {
    wait_for("all checks to be good", 20, || {
        let output = Command::new(pointsman())
            .args(["health", "--json", "--socket"])
            .arg(director.control_socket())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success() && text.contains("\"up\"") && !text.contains("\"down\"")).then_some(())
    });
}

#[test]
fn a_user_with_the_capabilities_of_the_unit_forwards_checks_and_reloads_and_keeps_two_of_them() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let _web = WebServer::pair(&lab, 80);
    let told = lab.scratch().join("told");
    let config = with_a_telling_check(Config::usual(), &told);
    let director = Director::start_by(&lab, &config, run(as_nobody(&lab, &NEEDED)), &[]);
    assert_serves(&lab, &director);
    assert_little_is_left(&director, KEPT);
    checks_are_good(&director);
    let told = wait_for("the command to tell", 20, || fs::read_to_string(&told).ok());
    assert!(told.contains("Uid:\t65534\t65534"), "{told}");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert!(told.contains(&format!("{set}:\t0000000000000000")), "{told}");
    }

    // The maps of the program, new neighbours and new sockets, all without what was given up.
    let before = director.reloads();
    let mut changed = config.clone().weights([3, 1]);
    let mut second = changed.services[0].clone();
    second.port = 81;
    changed.services.push(second);
    changed.services.remove(1);
    director.reload(&changed);
    wait_for("the reload", 20, || (director.reloads() > before).then_some(()));
    let result = LOAD.run(&lab, Host::Client, SocketAddr::from((vip4(), 80)), None);
    assert_eq!(result.failed, 0, "{result:#?}");
    let log = director.log();
    assert!(!log.contains("ERROR") && !log.contains("not permitted"), "{log}");
    assert!(director.end(Signal::SIGTERM).success());
    assert!(!lab.ip(Host::Director, "link show dev eth0").contains("xdp"), "the program is gone");
}

#[test]
fn user_0_keeps_the_same_two_and_the_rights_to_its_file_and_its_checks_run_without_any() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let _web = WebServer::pair(&lab, 80);
    let told = lab.scratch().join("told");
    let director = Director::start(&lab, &with_a_telling_check(Config::usual(), &told));
    assert_little_is_left(&director, KEPT | KEPT_BY_ROOT);
    checks_are_good(&director);
    assert_serves(&lab, &director);
    let told = wait_for("the command to tell", 20, || fs::read_to_string(&told).ok());
    assert!(told.contains("Uid:\t0\t0") && told.contains("NoNewPrivs:\t1"), "{told}");
    assert!(told.contains("CapEff:\t0000000000000000") && told.contains("CapPrm:\t0000000000000000"), "{told}");
}

#[test]
fn each_capability_of_the_unit_is_needed() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    for missing in NEEDED {
        let others: Vec<_> = NEEDED.into_iter().filter(|name| *name != missing).collect();
        let (code, said) = run_in_vain(&lab, &Config::usual(), as_nobody(&lab, &others));
        assert_eq!(code, Some(1), "{missing}: {said}");
        assert!(said.contains(&format!("CAP_{}", missing.to_uppercase())), "{missing} is named: {said}");
    }
}

/// The other end of a service manager's socket.
struct Manager(UnixDatagram);

impl Manager {
    fn listen(lab: &Lab) -> (Manager, PathBuf) {
        let path = lab.scratch().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        (Manager(socket), path)
    }

    fn next(&self) -> Option<String> {
        let mut buffer = [0; 4096];
        match self.0.recv(&mut buffer) {
            Ok(bytes) => Some(String::from_utf8(buffer[..bytes].to_vec()).unwrap()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Passes over others until one contains the text.
    fn wait_for(&self, text: &str) -> String {
        wait_for(text, 20, || self.next().filter(|said| said.contains(text)))
    }

    /// How many pings come in that time.
    fn pings(&self, within: Duration) -> usize {
        let deadline = Instant::now() + within;
        let mut pings = 0;
        while Instant::now() < deadline {
            pings += usize::from(self.next().is_some_and(|said| said.contains("WATCHDOG=1")));
        }
        pings
    }
}

#[test]
fn the_service_manager_hears_of_the_start_of_reloads_of_the_end_and_of_progress() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let _web = WebServer::pair(&lab, 80);
    let (manager, path) = Manager::listen(&lab);
    let mut command = lab.command(Host::Director, pointsman());
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
    let told = lab.scratch().join("told");
    let config = with_a_telling_check(Config::usual(), &told);
    let director = Director::start_by(&lab, &config, run(command), &[]);
    let ready = manager.wait_for("READY=1");
    assert!(ready.contains("STATUS=Forwarding: virtual services 2, real servers 4, workers 1"), "{ready}");
    manager.wait_for("WATCHDOG=1");
    let told = wait_for("the command to tell", 20, || fs::read_to_string(&told).ok());
    assert!(!told.contains("NOTIFY_SOCKET") && !told.contains("WATCHDOG_USEC"), "{told}");

    director.reload(&config.clone().weights([2, 2]));
    let reloading = manager.wait_for("RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    manager.wait_for("READY=1");

    // A process that stands still says nothing, until it goes on.
    director.signal(Signal::SIGSTOP);
    while manager.next().is_some() {}
    assert_eq!(manager.pings(WATCHDOG), 0);
    director.signal(Signal::SIGCONT);
    manager.wait_for("WATCHDOG=1");
    assert_serves(&lab, &director);

    director.signal(Signal::SIGTERM);
    manager.wait_for("STOPPING=1");
    assert!(director.end(Signal::SIGTERM).code() != Some(1));
}

/// A worker alone is held by a tracer, as the kernel holds one that it cannot get away from; the rest of the process
/// goes on.
#[test]
fn a_worker_that_hangs_is_no_progress_although_all_else_goes_on() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let _web = WebServer::pair(&lab, 80);
    let (manager, path) = Manager::listen(&lab);
    let mut command = lab.command(Host::Director, pointsman());
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
    let director = Director::start_by(&lab, &Config::usual(), run(command), &[]);
    manager.wait_for("WATCHDOG=1");
    let worker = thread_of(director.id().as_raw(), "worker-0");
    let held = Held::hold(worker);
    wait_for("the director to notice", 20, || director.log().contains("the worker makes no turn").then_some(()));
    while manager.next().is_some() {}
    assert_eq!(manager.pings(WATCHDOG), 0);
    // The rest of it lives.
    assert_eq!(director.stats().queues(), 1);
    drop(held);
    manager.wait_for("WATCHDOG=1");
    assert_serves(&lab, &director);
}

fn thread_of(process: i32, name: &str) -> i32 {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap().map(|task| task.unwrap().path());
    let found = tasks.into_iter().find(|task| fs::read_to_string(task.join("comm")).unwrap().trim() == name);
    found.unwrap().file_name().unwrap().to_str().unwrap().parse().unwrap()
}

/// A thread of another process that is stopped. It goes on when this is dropped, or with the thread that made it.
struct Held(i32);

impl Held {
    fn hold(thread: i32) -> Held {
        trace(libc::PTRACE_SEIZE, thread);
        trace(libc::PTRACE_INTERRUPT, thread);
        // Threads that are traced are waited for by this flag alone.
        waitpid(Pid::from_raw(thread), Some(WaitPidFlag::__WALL)).unwrap();
        Held(thread)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        trace(libc::PTRACE_DETACH, self.0);
    }
}

fn trace(request: libc::c_uint, thread: i32) {
    let nothing = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: these requests take no address and no data (ptrace(2)).
    let result = unsafe { libc::ptrace(request, thread, nothing, nothing) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

fn run(mut command: Command) -> Command {
    command.arg("run");
    command
}
