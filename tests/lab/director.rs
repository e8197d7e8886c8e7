//! The director's own binary: its configuration, its process, and its statistics.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::frame::Mac;
use super::{Host, Lab, vip4, vip6, wait_for};

/// A configuration file in the making.
#[derive(Clone, Debug)]
pub struct Config {
    pub interfaces: Vec<Interface>,
    pub services: Vec<Service>,
    /// Further lines of the `[director]` table.
    pub director: Vec<String>,
    /// Further lines of every `[[virtual_service]]` table.
    pub every_service: Vec<String>,
    /// Further tables below every virtual service.
    pub below_every_service: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Interface {
    pub name: String,
    /// Further lines of the `[[interface]]` table.
    pub settings: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Service {
    pub vip: IpAddr,
    pub port: u16,
    pub protocol: &'static str,
    /// Further lines of the `[[virtual_service]]` table.
    pub settings: Vec<String>,
    pub real_servers: Vec<RealServer>,
}

#[derive(Clone, Debug)]
pub struct RealServer {
    pub address: IpAddr,
    pub weight: u32,
    pub mac: Option<Mac>,
}

impl Config {
    /// Port 80 of the VIPs, by TCP and UDP, IPv4 and IPv6; web1 has weight 1 and web2 weight 2; next hops come from the
    /// neighbour table; one arm, `eth0`.
    pub fn usual() -> Config {
        let mut services = Vec::new();
        for (vip, servers) in
            [(vip4(), [Host::Web1.ipv4(), Host::Web2.ipv4()]), (vip6(), [Host::Web1.ipv6(), Host::Web2.ipv6()])]
        {
            for protocol in ["tcp", "udp"] {
                let real_servers = servers
                    .iter()
                    .zip([1, 2])
                    .map(|(&address, weight)| RealServer { address, weight, mac: None })
                    .collect();
                services.push(Service { vip, port: 80, protocol, settings: Vec::new(), real_servers });
            }
        }
        Config {
            interfaces: vec![Interface::named("eth0")],
            services,
            director: Vec::new(),
            every_service: Vec::new(),
            below_every_service: Vec::new(),
        }
    }

    /// With further lines in the `[director]` table.
    pub fn director(mut self, lines: &str) -> Config {
        self.director.push(lines.to_owned());
        self
    }

    /// The weights of the first and of the second real server of every service.
    pub fn weights(mut self, weights: [u32; 2]) -> Config {
        for service in &mut self.services {
            for (server, weight) in service.real_servers.iter_mut().zip(weights) {
                server.weight = weight;
            }
        }
        self
    }

    /// The file's text.
    pub fn to_toml(&self, control_socket: &Path) -> String {
        let mut text = String::from("[director]\nsecret = \"a secret for tests\"\n");
        // An absolute path of its own for each director: several run at once on one machine.
        writeln!(text, "{CONTROL_SOCKET_KEY} = {:?}", control_socket.to_str().unwrap()).unwrap();
        for line in &self.director {
            writeln!(text, "{line}").unwrap();
        }
        for interface in &self.interfaces {
            writeln!(text, "\n[[interface]]\nname = {:?}", interface.name).unwrap();
            for line in &interface.settings {
                writeln!(text, "{line}").unwrap();
            }
        }
        for service in &self.services {
            writeln!(text, "\n[[virtual_service]]\nvip = \"{}\"\nport = {}", service.vip, service.port).unwrap();
            writeln!(text, "protocol = \"{}\"", service.protocol).unwrap();
            if !service.settings.iter().any(|line| line.starts_with("scheduler")) {
                writeln!(text, "scheduler = \"mh\"").unwrap();
            }
            for line in service.settings.iter().chain(&self.every_service) {
                writeln!(text, "{line}").unwrap();
            }
            for server in &service.real_servers {
                writeln!(text, "\n[[virtual_service.real_server]]\naddress = \"{}\"", server.address).unwrap();
                writeln!(text, "weight = {}", server.weight).unwrap();
                if let Some(mac) = server.mac {
                    writeln!(text, "mac = \"{mac}\"").unwrap();
                }
            }
            for table in &self.below_every_service {
                writeln!(text, "\n{table}").unwrap();
            }
        }
        text
    }
}

const CONTROL_SOCKET_KEY: &str = "control_socket";

impl Interface {
    pub fn named(name: &str) -> Interface {
        Interface { name: name.to_owned(), settings: Vec::new() }
    }
}

/// `pointsman run` on the director's host.
pub struct Director<'lab> {
    lab: &'lab Lab,
    process: Child,
    files: Files,
}

/// Where a director's files are.
#[derive(Clone, Debug)]
struct Files {
    config: PathBuf,
    control_socket: PathBuf,
    log: PathBuf,
}

impl Files {
    fn in_directory(directory: &Path, name: &str) -> Files {
        let file = |ending: &str| directory.join(format!("{name}.{ending}"));
        Files { config: file("toml"), control_socket: file("sock"), log: file("log") }
    }

    /// Replaces the configuration in one step: a director may be reading it.
    fn write_config(&self, config: &Config) {
        let new = self.config.with_extension("new");
        fs::write(&new, config.to_toml(&self.control_socket)).unwrap();
        fs::rename(new, &self.config).unwrap();
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl<'lab> Director<'lab> {
    /// Starts a director and waits until it forwards: it answers on its control socket, and every real server that
    /// is not draining has a next hop. One without services need only answer.
    pub fn start(lab: &'lab Lab, config: &Config) -> Director<'lab> {
        Self::start_with(lab, config, &[])
    }

    /// The same on another machine.
    pub fn start_on(lab: &'lab Lab, host: Host, config: &Config) -> Director<'lab> {
        let mut command = lab.command(host, pointsman());
        command.arg("run");
        Self::start_as(lab, host.name(), config, command, &[])
    }

    /// The same with further arguments.
    pub fn start_with(lab: &'lab Lab, config: &Config, arguments: &[&str]) -> Director<'lab> {
        let mut command = lab.command(Host::Director, pointsman());
        command.arg("run");
        Self::start_by(lab, config, command, arguments)
    }

    /// The same by a command that ends in `pointsman run`, to which `--config FILE` and the arguments are added.
    pub fn start_by(lab: &'lab Lab, config: &Config, command: Command, arguments: &[&str]) -> Director<'lab> {
        Self::start_as(lab, "director", config, command, arguments)
    }

    fn start_as(lab: &'lab Lab, name: &str, config: &Config, command: Command, arguments: &[&str]) -> Director<'lab> {
        let files = Files::in_directory(lab.scratch(), name);
        files.write_config(config);
        let process = spawn(command, &files, arguments);
        let mut director = Director { lab, process, files };
        wait_for("the director to be ready", 20, || {
            if let Some(status) = director.process.try_wait().unwrap() {
                panic!("the director ended early ({status}):\n{}", director.log());
            }
            director.try_stats().filter(|stats| config.services.is_empty() || stats.all_have_next_hops())
        });
        director
    }

    pub fn id(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.process.id()).unwrap())
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.id(), signal).unwrap();
    }

    /// Writes a new configuration and has it applied.
    pub fn reload(&self, config: &Config) {
        self.files.write_config(config);
        self.signal(Signal::SIGHUP);
    }

    /// Puts any text in place of the configuration and has it read.
    pub fn reload_text(&self, text: &str) {
        fs::write(&self.files.config, text).unwrap();
        self.signal(Signal::SIGHUP);
    }

    pub fn is_running(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }

    pub fn log(&self) -> String {
        self.files.log()
    }

    /// Reloads that were applied, by the log: asking for the statistics each time would be slow under load.
    pub fn reloads(&self) -> usize {
        self.log().matches("reloaded ").count()
    }

    /// The configuration file that it was started with.
    pub fn config_file(&self) -> &Path {
        &self.files.config
    }

    /// Memory that it has in use.
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
    }

    pub fn control_socket(&self) -> &Path {
        &self.files.control_socket
    }

    /// Ends the director by a signal and waits for it.
    pub fn end(mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        let process = &mut self.process;
        wait_for("the director to end", 10, || process.try_wait().unwrap())
    }

    pub fn stats(&self) -> Stats {
        self.try_stats().unwrap_or_else(|| panic!("no statistics; the director's log:\n{}", self.log()))
    }

    fn try_stats(&self) -> Option<Stats> {
        let output = self
            .lab
            .command(Host::Director, pointsman())
            .args(["stats", "--json", CONTROL_SOCKET_OPTION])
            .arg(&self.files.control_socket)
            .output()
            .unwrap();
        if !output.status.success() {
            return None;
        }
        Some(Stats(serde_json::from_slice(&output.stdout).expect("statistics are JSON")))
    }

    /// The statistics of a quiet moment: asked until two answers in a row count the same.
    pub fn quiet_stats(&self) -> Stats {
        let mut last = self.stats();
        wait_for("the counters to come to rest", 10, || {
            std::thread::sleep(Duration::from_millis(150));
            let now = self.stats();
            let at_rest =
                now.redirected() == last.redirected() && now.received() == last.received() && now.tx() == last.tx();
            last = now.clone();
            at_rest.then_some(now)
        })
    }
}

impl Drop for Director<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of the director\n{}---", self.log());
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A run that is expected to fail: exit code and what it said.
pub fn run_in_vain(lab: &Lab, config: &Config, mut prefix: Command) -> (Option<i32>, String) {
    let files = Files::in_directory(lab.scratch(), "in-vain");
    files.write_config(config);
    prefix.arg("run");
    let mut process = spawn(prefix, &files, &[]);
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        if let Some(status) = process.try_wait().unwrap() {
            return (status.code(), files.log());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = process.kill();
    let _ = process.wait();
    panic!("it should have failed, but it runs:\n{}", files.log());
}

fn spawn(mut command: Command, files: &Files, arguments: &[&str]) -> Child {
    let log = File::create(&files.log).unwrap();
    command
        .arg("--config")
        .arg(&files.config)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

pub fn pointsman() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_pointsman"))
}

const CONTROL_SOCKET_OPTION: &str = "--socket";

/// One statistics document, read through names that tests use. Where the document changes, only this changes.
#[derive(Clone, Debug)]
pub struct Stats(pub Value);

impl Stats {
    fn sum(&self, pointer: &str) -> u64 {
        sum(&self.0, &pointer.split('/').collect::<Vec<_>>())
    }

    /// Frames that the XDP program tried to redirect.
    pub fn redirected(&self) -> u64 {
        self.sum("interfaces/*/xdp/redirected")
    }

    pub fn not_our_mac(&self) -> u64 {
        self.sum("interfaces/*/xdp/not_our_mac")
    }

    pub fn malformed_by_xdp(&self) -> u64 {
        self.sum("interfaces/*/xdp/malformed")
    }

    /// Redirected frames that the kernel lost before a worker could have them.
    pub fn lost_in_kernel(&self) -> u64 {
        self.sum("interfaces/*/queues/*/ring_statistics/rx_dropped")
            + self.sum("interfaces/*/queues/*/ring_statistics/rx_ring_full")
            + self.sum("interfaces/*/redirect_errors")
    }

    /// Frames that workers received.
    pub fn received(&self) -> u64 {
        self.sum("workers/*/received/packets")
    }

    pub fn tx(&self) -> u64 {
        self.sum("workers/*/tx/packets")
    }

    /// Frames submitted to TX rings that the kernel has not handed back.
    pub fn unsent(&self) -> u64 {
        self.sum("workers/*/frames/tx")
    }

    /// Frames handed to each fill ring.
    pub fn fill_submitted(&self) -> Vec<u64> {
        every(&self.0, &["interfaces", "*", "queues", "*", "fill_submitted"])
            .into_iter()
            .map(|submitted| submitted.as_u64().unwrap())
            .collect()
    }

    /// System calls that asked the kernel to send.
    pub fn tx_kicks(&self) -> u64 {
        self.sum("interfaces/*/queues/*/tx_kicks")
    }

    /// Frames that the workers received from each queue of the first interface.
    pub fn received_by_queue(&self) -> Vec<u64> {
        every(&self.0["interfaces"][0], &["queues", "*", "rx", "packets"])
            .into_iter()
            .map(|count| count.as_u64().unwrap())
            .collect()
    }

    /// Frames that left for a real server.
    pub fn tx_to(&self, real_server: IpAddr) -> u64 {
        every(&self.0, &["virtual_services", "*", "real_servers", "*"])
            .into_iter()
            .filter(|server| server["address"] == real_server.to_string())
            .map(|server| sum(server, &["tx", "packets"]))
            .sum()
    }

    pub fn dropped(&self) -> u64 {
        self.sum("workers/*/drops/*")
    }

    pub fn drops_for(&self, cause: &str) -> u64 {
        self.sum(&format!("workers/*/drops/{cause}"))
    }

    /// A count of what the flow tables did.
    pub fn flows(&self, what: &str) -> u64 {
        self.sum(&format!("totals/flows/{what}"))
    }

    /// All frames of all workers.
    pub fn frames(&self) -> u64 {
        self.sum("workers/*/frames/total")
    }

    /// Descriptors that were refused, because the kernel gave a frame back twice or gave one that it never got.
    pub fn quarantined(&self) -> u64 {
        self.sum("workers/*/frames/quarantined")
    }

    /// Measured latencies.
    pub fn latency_count(&self) -> u64 {
        self.sum("totals/latency/count")
    }

    pub fn unstamped(&self) -> u64 {
        self.sum("totals/unstamped")
    }

    /// Queues that have a socket.
    pub fn queues(&self) -> usize {
        every(&self.0, &["interfaces", "*", "queues", "*"]).len()
    }

    /// Weights of the real servers of the first virtual service.
    pub fn weights(&self) -> Vec<u64> {
        every(&self.0["virtual_services"][0], &["real_servers", "*", "weight"])
            .into_iter()
            .map(|weight| weight.as_u64().unwrap())
            .collect()
    }

    pub fn all_have_next_hops(&self) -> bool {
        let servers = every(&self.0, &["virtual_services", "*", "real_servers", "*"]);
        !servers.is_empty() && servers.iter().all(|server| server["next_hop"].is_string() || server["weight"] == 0)
    }

    /// The identity of the counters, exact at any quiet moment: by our own sums, and as the document itself says.
    pub fn assert_identity(&self) {
        assert_eq!(
            self.redirected(),
            self.received() + self.lost_in_kernel(),
            "redirected = received + lost in the kernel\n{:#}",
            self.0
        );
        assert_eq!(self.received(), self.tx() + self.dropped(), "received = Tx + sum of drops\n{:#}", self.0);
        for sum in ["redirects", "verdicts", "frames"] {
            assert_eq!(self.0["identity"][sum]["holds"], true, "{sum}\n{:#}", self.0["identity"]);
        }
    }
}

/// All values under a path of keys, where `*` stands for every element of a list or of an object.
fn every<'a>(value: &'a Value, path: &[&str]) -> Vec<&'a Value> {
    let Some((key, rest)) = path.split_first() else { return vec![value] };
    match (value, *key) {
        (Value::Array(elements), "*") => elements.iter().flat_map(|element| every(element, rest)).collect(),
        (Value::Object(fields), "*") => fields.values().flat_map(|field| every(field, rest)).collect(),
        (Value::Object(fields), key) => fields.get(key).map(|field| every(field, rest)).unwrap_or_default(),
        _ => Vec::new(),
    }
}

fn sum(value: &Value, path: &[&str]) -> u64 {
    let found = every(value, path);
    assert!(!found.is_empty(), "the statistics have no {}:\n{value:#}", path.join("/"));
    found.iter().map(|value| value.as_u64().unwrap_or_else(|| panic!("{} is no count", path.join("/")))).sum()
}
