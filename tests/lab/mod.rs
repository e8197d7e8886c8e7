//! The laboratory for tests: the network of `scripts/lab`, and what runs in it.
//!
//! Threads enter a namespace for the length of a closure; programs are started in one. Everything ends with the
//! [`Lab`], and also when the test process is killed: the script that holds the network sees its input end.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(unreachable_pub, reason = "shared by test binaries, which have no outside")]
#![allow(missing_docs, reason = "names say it, and comments where they do not")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, in words"
)]

pub mod director;
pub mod frame;
pub mod http;
pub mod link;
pub mod raw_socket;
pub mod steer;
pub mod vips;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, Once};
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

use frame::Mac;

/// The hosts of the laboratory, by the names that `scripts/lab` gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    Switch,
    Director,
    Web1,
    Web2,
    /// With [`Shape::third_server`].
    Web3,
    /// With [`Shape::standby`].
    Standby,
    Client,
    Gateway,
    Remote,
}

impl Host {
    pub fn name(self) -> &'static str {
        match self {
            Host::Switch => "switch",
            Host::Director => "director",
            Host::Web1 => "web1",
            Host::Web2 => "web2",
            Host::Web3 => "web3",
            Host::Standby => "standby",
            Host::Client => "client",
            Host::Gateway => "gateway",
            Host::Remote => "remote",
        }
    }

    /// Address of the first interface.
    pub fn mac(self) -> Mac {
        match self {
            Host::Switch => panic!("a switch has no address"),
            Host::Director => Mac([2, 0, 0, 0, 0, 2]),
            Host::Web1 => Mac([2, 0, 0, 0, 1, 0]),
            Host::Web2 => Mac([2, 0, 0, 0, 2, 0]),
            Host::Web3 => Mac([2, 0, 0, 0, 3, 0]),
            Host::Standby => Mac([2, 0, 0, 0, 0, 3]),
            Host::Gateway => Mac([2, 0, 0, 0, 0, 0xfe]),
            Host::Client => Mac([2, 0, 0, 0, 0, 0x10]),
            Host::Remote => Mac([2, 0, 0, 0, 0x0a, 7]),
        }
    }

    pub fn ipv4(self) -> IpAddr {
        let address = match self {
            Host::Switch => panic!("a switch has no address"),
            Host::Director => "192.168.88.2",
            Host::Standby => "192.168.88.3",
            Host::Web1 => "192.168.88.100",
            Host::Web2 => "192.168.88.200",
            Host::Web3 => "192.168.88.150",
            Host::Gateway => "192.168.88.254",
            Host::Client => "192.168.88.10",
            Host::Remote => "10.0.0.7",
        };
        address.parse().unwrap()
    }

    pub fn ipv6(self) -> IpAddr {
        let address = match self {
            Host::Switch => panic!("a switch has no address"),
            Host::Director => "fd00:88::2",
            Host::Standby => "fd00:88::3",
            Host::Web1 => "fd00:88::100",
            Host::Web2 => "fd00:88::200",
            Host::Web3 => "fd00:88::150",
            Host::Gateway => "fd00:88::254",
            Host::Client => "fd00:88::10",
            Host::Remote => "fd00:10::7",
        };
        address.parse().unwrap()
    }
}

pub fn vip4() -> IpAddr {
    "192.168.88.15".parse().unwrap()
}

pub fn vip6() -> IpAddr {
    "fd00:88::15".parse().unwrap()
}

/// What a laboratory has beyond the ordinary.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Receive and transmit queues of every interface.
    pub queues: u32,
    /// A second interface of the director, `eth1`, on the WAN segment: the remote client reaches the VIP there.
    pub two_arm: bool,
    /// A real server more, `web3`.
    pub third_server: bool,
    /// A second machine for a director, `standby`, which does not have the VIP.
    pub standby: bool,
    /// What real servers send to the remote client passes a link of MTU 1300 between two routers.
    pub small_link: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Shape { queues: 1, two_arm: false, third_server: false, standby: false, small_link: false }
    }
}

pub struct Lab {
    name: String,
    holder: Child,
    scratch: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::new(());
static NEXT: AtomicU32 = AtomicU32::new(1);
static CLEANED: Once = Once::new();

impl Lab {
    /// Builds the network. `None`, with a line on standard error, where this needs privileges that are not there; under
    /// `CI` that is a failure instead.
    pub fn up(shape: Shape) -> Option<Lab> {
        if !privileged() {
            return None;
        }
        // Under `cargo test` the tests of one binary are threads: one network at a time, as nextest is told to do.
        let alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        CLEANED.call_once(|| {
            let status = Command::new(script()).arg("clean").status().unwrap();
            assert!(status.success(), "scripts/lab clean failed");
        });
        let name = format!("pmt-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut command = Command::new(script());
        command.args(["hold", &name, "--queues", &shape.queues.to_string()]);
        for (wanted, option) in [
            (shape.two_arm, "--two-arm"),
            (shape.third_server, "--third-server"),
            (shape.standby, "--standby"),
            (shape.small_link, "--small-link"),
        ] {
            command.args(wanted.then_some(option));
        }
        // In a process group of its own the holder outlives a Ctrl-C or a time limit, and cleans up.
        let mut holder =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0).spawn().expect("scripts/lab starts");
        let mut answer = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut answer).unwrap();
        assert_eq!(answer, "ready\n", "scripts/lab could not build the network");
        Some(Lab { name, holder, scratch: tempfile::tempdir().unwrap(), _alone: alone })
    }

    /// A directory that goes away with the laboratory.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// Runs a closure on a thread inside the namespace of a host, and waits for it. Sockets that it opens and threads
    /// that it starts stay there.
    pub fn on<T: Send>(&self, host: Host, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(self.namespace(host)).unwrap();
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&namespace, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            match inside.join() {
                Ok(value) => value,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// A command that will run on a host. `ip netns exec` becomes the program, so its process id is the program's own,
    /// and gives it the `/sys` of the namespace.
    pub fn command(&self, host: Host, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &format!("{}-{}", self.name, host.name())]).arg(program);
        command
    }

    /// Runs `ip` on a host; it must succeed.
    pub fn ip(&self, host: Host, arguments: &str) -> String {
        let output = Command::new("ip")
            .args(["-n", &format!("{}-{}", self.name, host.name())])
            .args(arguments.split_whitespace())
            .output()
            .unwrap();
        assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn namespace(&self, host: Host) -> PathBuf {
        PathBuf::from(format!("/run/netns/{}-{}", self.name, host.name()))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

/// Whether privileged tests can run here. If not: a printed line, or under `CI` a failure.
pub fn privileged() -> bool {
    // Tried, not guessed: root in a container may lack the capabilities.
    let may_make_namespaces = thread::spawn(|| unshare(CloneFlags::CLONE_NEWNET).is_ok()).join().unwrap();
    if nix::unistd::geteuid().is_root() && may_make_namespaces {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "CI is set, but this test cannot make network namespaces: it needs root");
    // Not by eprintln!, which the test runner captures.
    let _ = writeln!(std::io::stderr(), "skipped: this test needs root to make network namespaces");
    false
}

/// Sets a flag when it goes, also by a panic: the threads of a scope that wait for it must end, or the scope never does.
pub struct AtEnd<'a>(pub &'a AtomicBool);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Polls until the closure yields a value; panics with `what` after `seconds`.
pub fn wait_for<T>(what: &str, seconds: u64, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(seconds);
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(std::time::Instant::now() < deadline, "waited {seconds} s for {what} in vain");
        thread::sleep(std::time::Duration::from_millis(20));
    }
}

pub fn read_to_string(mut source: impl Read) -> String {
    let mut text = String::new();
    source.read_to_string(&mut text).unwrap();
    text
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/lab")
}
