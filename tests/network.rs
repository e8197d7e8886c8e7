//! The network's word on interfaces and real servers, asked in network namespaces made for each test: the director's
//! end of a veth pair in one, the real server's end in another. Both belong to threads and are gone with them, however
//! the test ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "a test may fail")]

use std::fmt::Debug;
use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, bounded, unbounded};
use nix::sched::{CloneFlags, unshare};
use pointsman::network::{
    Link, NeighborState, NeighborWatch, NetworkError, NetworkEvent, NextHopDevice, RouteKind, link_by_name, links,
    neighbors, nic, on_link, route_to,
};
use pointsman::wire::MacAddress;

const SERVER_MAC: MacAddress = MacAddress::new([2, 0, 0, 0, 1, 0]);
const OTHER_MAC: MacAddress = MacAddress::new([2, 0, 0, 0, 1, 1]);
const SERVER_V4: &str = "10.0.0.2";
const SERVER_V6: &str = "fd00::2";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Runs `ip` with these arguments in the network namespace of this thread.
fn run_ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

fn run_ip_batch(lines: &str) {
    let mut child = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// Sets `net.{family}.{key}` of this thread's network namespace, for both families.
fn sysctl(key: &str, value: &str) {
    for family in ["ipv4", "ipv6"] {
        let path = format!("/proc/sys/net/{family}/{}", key.replace('.', "/"));
        fs::write(&path, value).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// The real server's network namespace: a thread that lives in it and does as it is told.
struct RealServer {
    namespace: String,
    jobs: mpsc::Sender<(Job, mpsc::Sender<()>)>,
}

impl RealServer {
    fn new() -> Self {
        let (jobs, todo) = mpsc::channel::<(Job, mpsc::Sender<()>)>();
        let (ready, is_ready) = mpsc::channel();
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            ready.send(format!("/proc/{}/task/{}/ns/net", std::process::id(), nix::unistd::gettid())).unwrap();
            for (job, done) in todo {
                job();
                let _ = done.send(());
            }
        });
        Self { namespace: is_ready.recv().unwrap(), jobs }
    }

    fn run(&self, job: impl FnOnce() + Send + 'static) {
        let (done, is_done) = mpsc::channel();
        self.jobs.send((Box::new(job), done)).unwrap();
        is_done.recv().expect("the job in the real server's namespace went well");
    }

    fn ip(&self, arguments: &str) {
        let arguments = arguments.to_owned();
        self.run(move || run_ip(&arguments));
    }
}

/// Runs `test` as the director, in a network namespace of its own: d0 (10.0.0.1/24, fd00::1/64) is a veth to the real
/// server's s0 (10.0.0.2, fd00::2), and d1 (10.1.0.1/24, fd01::1/64) is a second interface.
fn as_director(test: impl FnOnce(&RealServer) + Send + 'static) {
    let director = thread::spawn(move || {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
            assert!(std::env::var_os("CI").is_none(), "network namespaces cannot be made: {error}");
            eprintln!("skipped: network namespaces cannot be made ({error}); run as root");
            return;
        }
        let server = RealServer::new();
        run_ip(&format!("link add d0 type veth peer name s0 address {SERVER_MAC} netns {}", server.namespace));
        run_ip(&format!("link add d1 type veth peer name s1 netns {}", server.namespace));
        run_ip("link set lo up");
        for (n, device) in ["d0", "d1"].iter().enumerate() {
            run_ip(&format!("addr add 10.{n}.0.1/24 dev {device}"));
            run_ip(&format!("addr add fd0{n}::1/64 dev {device} nodad"));
            run_ip(&format!("link set {device} up"));
            server.ip(&format!("addr add 10.{n}.0.2/24 dev s{n}"));
            server.ip(&format!("addr add fd0{n}::2/64 dev s{n} nodad"));
            server.ip(&format!("link set s{n} up"));
        }
        await_true("the links are up", || link_by_name("d0").unwrap().up && link_by_name("d1").unwrap().up);
        test(&server);
    });
    if let Err(panic) = director.join() {
        std::panic::resume_unwind(panic);
    }
}

fn await_true(what: &str, condition: impl FnMut() -> bool) {
    await_true_for(5, what, condition);
}

fn await_true_for(seconds: u64, what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within {seconds} s");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Waits for an event that `wanted` accepts, passing over others.
fn await_event(events: &Receiver<NetworkEvent>, seconds: u64, what: &str, wanted: impl Fn(&NetworkEvent) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let mut seen = Vec::new();
    loop {
        match events.recv_deadline(deadline) {
            Ok(event) if wanted(&event) => return,
            Ok(event) => seen.push(event),
            Err(error) => panic!("{what}: {error} after {seconds} s; seen {seen:#?}, neighbours {:#?}", neighbors()),
        }
    }
}

/// Waits for the next news of `address`, which has to be `mac`.
fn await_mac(events: &Receiver<NetworkEvent>, seconds: u64, address: &str, mac: Option<MacAddress>) {
    await_event(events, seconds, &format!("{address} at {mac:?}"), |event| match event {
        NetworkEvent::NextHop { address: told, mac: told_mac, .. } if *told == ip(address) => {
            assert_eq!(*told_mac, mac, "news of {address}");
            true
        }
        _ => false,
    });
}

fn index(name: &str) -> u32 {
    link_by_name(name).unwrap().index
}

fn assert_refused(result: Result<impl Debug, NetworkError>, text: &str) {
    let error = result.unwrap_err().to_string();
    assert!(error.contains(text), "{error:?} has not {text:?}");
}

#[test]
fn links_are_described() {
    as_director(|_| {
        run_ip("link add br0 type bridge");
        run_ip("link set d1 master br0");
        run_ip("link add mv0 link d0 type macvlan mode bridge");
        run_ip("link set d0 mtu 1400");
        let all = links().unwrap();
        let named = |name: &str| all.iter().find(|link| link.name == name).unwrap().clone();

        let d0 = named("d0");
        let shown = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
        assert!(shown.contains("d0:") && shown.lines().count() - 2 == all.len(), "{shown}");
        assert_eq!((d0.mtu, d0.up, d0.kind.as_deref()), (1400, true, Some("veth")));
        assert!(!d0.mac.is_zero());
        assert_eq!(d0.parent, None, "a veth's peer is not its parent");
        assert_eq!(named("d1").controller, Some(named("br0").index));
        assert_eq!(named("mv0").parent, Some(d0.index));
        assert!(!named("br0").up, "never set up");
        assert!(named("lo").mac.is_zero());
        assert_refused(link_by_name("d7"), "there is no interface \"d7\"; the interfaces here are: lo, d0, d1, br0");
    });
}

#[test]
fn routes_are_looked_up() {
    as_director(|_| {
        for (family, prefix) in [("-4", "10.2"), ("-6", "fd02:")] {
            let net = |n: u8| if family == "-4" { format!("{prefix}.{n}.0/24") } else { format!("{prefix}{n}::/64") };
            run_ip(&format!("{family} route add unreachable {}", net(1)));
            run_ip(&format!("{family} route add blackhole {}", net(2)));
            run_ip(&format!("{family} route add prohibit {}", net(3)));
        }
        run_ip("route add 10.3.0.0/24 via 10.0.0.2");
        run_ip("route add fd03::/64 via fd00::2");
        run_ip("route add 10.4.0.0/24 via inet6 fd00::2");

        let d0 = Some(index("d0"));
        let table = [
            (SERVER_V4, RouteKind::Unicast, d0, None),
            (SERVER_V6, RouteKind::Unicast, d0, None),
            ("10.3.0.9", RouteKind::Unicast, d0, Some(SERVER_V4)),
            ("fd03::9", RouteKind::Unicast, d0, Some(SERVER_V6)),
            ("10.4.0.9", RouteKind::Unicast, d0, Some(SERVER_V6)),
            ("10.0.0.1", RouteKind::Local, Some(1), None),
            ("fd00::1", RouteKind::Local, Some(1), None),
            ("10.0.0.255", RouteKind::Broadcast, d0, None),
            ("10.2.1.1", RouteKind::Unreachable, None, None),
            ("fd02:1::1", RouteKind::Unreachable, None, None),
            ("10.2.2.1", RouteKind::Blackhole, None, None),
            ("fd02:2::1", RouteKind::Blackhole, None, None),
            ("10.2.3.1", RouteKind::Prohibit, None, None),
            ("fd02:3::1", RouteKind::Prohibit, None, None),
            ("10.9.0.1", RouteKind::Missing, None, None),
            ("fd09::1", RouteKind::Missing, None, None),
        ];
        for (address, kind, interface, gateway) in table {
            let route = route_to(ip(address)).unwrap();
            let found = (route.kind, route.interface_index, route.gateway);
            assert_eq!(found, (kind, interface, gateway.map(ip)), "{address}");
        }
        assert_eq!(route_to(ip(SERVER_V4)).unwrap().preferred_source, Some(ip("10.0.0.1")));
        assert_eq!(route_to(ip(SERVER_V6)).unwrap().preferred_source, Some(ip("fd00::1")));
    });
}

#[test]
fn a_real_server_must_be_on_the_link_of_a_configured_interface() {
    as_director(|_| {
        run_ip("route add 10.3.0.0/24 via 10.0.0.2");
        run_ip("route add fd03::/64 via fd00::2");
        run_ip("link add mv0 link d1 type macvlan mode bridge");
        run_ip("addr add 10.6.0.1/24 dev mv0");
        run_ip("link set mv0 up");
        let (d0, d1, mv0) = (index("d0"), index("d1"), index("mv0"));

        let direct = |device_index, egress_interface_index| NextHopDevice {
            device_index,
            egress_interface_index,
            vlan_ids: Vec::new(),
        };
        assert_eq!(on_link(ip(SERVER_V4), &[d0]).unwrap(), direct(d0, d0));
        assert_eq!(on_link(ip(SERVER_V6), &[d1, d0]).unwrap(), direct(d0, d0));
        assert_eq!(on_link(ip("10.6.0.5"), &[d1]).unwrap(), direct(mv0, d1), "by the interface below the macvlan");

        for (address, text) in [
            ("10.3.0.9", "10.3.0.9 is reached through gateway 10.0.0.2 (d0): direct routing only rewrites MAC"),
            ("fd03::9", "fd03::9 is reached through gateway fd00::2 (d0)"),
            ("10.1.0.2", "10.1.0.2 is reached by d1, which the configuration does not list"),
            (
                "fd01::2",
                "fd01::2 is reached by d1, which the configuration does not list as an [[interface]] (it lists: d0)",
            ),
            ("10.0.0.1", "10.0.0.1 is an address of the director itself"),
            ("fd00::1", "fd00::1 is an address of the director itself"),
            ("127.0.0.1", "is an address of the director itself"),
            ("10.9.0.1", "no usable route to real server 10.9.0.1"),
            ("10.0.0.255", "10.0.0.255 is a broadcast address"),
            ("fe80::9", "fe80::9 is a link-local address"),
            ("ff02::1", "ff02::1 is a multicast address"),
        ] {
            assert_refused(on_link(ip(address), &[d0]), text);
        }
    });
}

#[test]
fn the_port_of_a_bridge_stands_for_the_bridge() {
    as_director(|_| {
        run_ip("link add br0 type bridge");
        run_ip("addr flush dev d0");
        run_ip("link set d0 master br0");
        run_ip("addr add 10.0.0.1/24 dev br0");
        run_ip("link set br0 up");
        let (br0, d0) = (index("br0"), index("d0"));
        let hop = on_link(ip(SERVER_V4), &[d0]).unwrap();
        assert_eq!((hop.device_index, hop.egress_interface_index), (br0, d0));
        run_ip("link set d1 master br0");
        assert_refused(on_link(ip(SERVER_V4), &[d0, index("d1")]), "by the bridge br0");
    });
}

#[test]
fn real_servers_never_spoken_to_are_resolved() {
    as_director(|_| {
        let d0 = index("d0");
        assert!(neighbors().unwrap().iter().all(|n| n.address != ip(SERVER_V4) && n.address != ip(SERVER_V6)));
        let (sender, events) = unbounded();
        let absent = ip("10.0.0.77");
        let targets = vec![(d0, ip(SERVER_V4)), (d0, ip(SERVER_V6)), (d0, absent)];
        let watch = NeighborWatch::start(targets, sender).unwrap();
        let mut missing = vec![ip(SERVER_V4), ip(SERVER_V6)];
        await_event(&events, 5, "both are resolved", |event| {
            assert!(!matches!(event, NetworkEvent::NextHop { address, .. } if *address == absent), "{event:?}");
            matches!(event, NetworkEvent::NextHop { .. })
        });
        await_true("both have entries", || {
            let table = neighbors().unwrap();
            missing.retain(|address| {
                !table
                    .iter()
                    .any(|n| n.address == *address && n.usable_mac() == Some(SERVER_MAC) && n.device_index == d0)
            });
            missing.is_empty()
        });
        watch.stop();
    });
}

#[test]
fn the_first_events_tell_the_state_and_later_ones_the_changes() {
    as_director(|server| {
        let d0 = index("d0");
        run_ip(&format!("neigh replace {SERVER_V4} lladdr {OTHER_MAC} dev d0 nud stale"));
        let (sender, events) = unbounded();
        let watch = NeighborWatch::start(vec![(d0, ip(SERVER_V4))], sender).unwrap();
        let mut seen_links = 0;
        loop {
            match events.recv_timeout(Duration::from_secs(5)).unwrap() {
                NetworkEvent::Link { .. } => seen_links += 1,
                NetworkEvent::NextHop { address, mac, .. } => {
                    assert_eq!((address, mac), (ip(SERVER_V4), Some(OTHER_MAC)), "what was there at start");
                    break;
                }
                event => panic!("{event:?}"),
            }
        }
        assert_eq!(seen_links, links().unwrap().len());

        run_ip("link set d0 mtu 1300");
        await_event(
            &events,
            5,
            "MTU",
            |event| matches!(event, NetworkEvent::Link { index, mtu: 1300, .. } if *index == d0),
        );
        run_ip("link set d0 address 02:00:00:00:00:99");
        let mac = MacAddress::new([2, 0, 0, 0, 0, 0x99]);
        await_event(&events, 5, "MAC", |event| matches!(event, NetworkEvent::Link { mac: told, .. } if *told == mac));

        server.ip("link del s1");
        await_event(&events, 5, "removal", |event| matches!(event, NetworkEvent::LinkRemoved { .. }));
        drop(watch);
        assert!(events.try_iter().all(|event| !matches!(event, NetworkEvent::LinkRemoved { index } if index == d0)));
    });
}

/// Whoever changes the targets forgets those that go, so a target that comes back is told anew, however soon.
#[test]
fn a_target_that_goes_and_comes_back_is_told_again() {
    as_director(|_| {
        let target = (index("d0"), ip(SERVER_V4));
        let (sender, events) = unbounded();
        let watch = NeighborWatch::start(vec![target], sender).unwrap();
        await_mac(&events, 5, SERVER_V4, Some(SERVER_MAC));
        for _ in 0..20 {
            watch.set_targets(Vec::new());
            watch.set_targets(vec![target]);
            await_mac(&events, 5, SERVER_V4, Some(SERVER_MAC));
        }
    });
}

#[test]
fn a_link_that_comes_back_brings_its_real_servers_back_at_once() {
    as_director(|server| {
        let d0 = index("d0");
        let (sender, events) = unbounded();
        let watch = NeighborWatch::start(vec![(d0, ip(SERVER_V4))], sender).unwrap();
        await_mac(&events, 5, SERVER_V4, Some(SERVER_MAC));
        let is_link = |wanted: bool| move |event: &NetworkEvent| matches!(event, NetworkEvent::Link { index, up, .. } if *index == d0 && *up == wanted);
        for by_server in [false, true] {
            let set = |state: &str| match by_server {
                true => server.ip(&format!("link set s0 {state}")),
                false => run_ip(&format!("link set d0 {state}")),
            };
            set("down");
            // Asked for after 0, 2 and 6 s, failed after 9 s, and by itself asked for again only after 14 s.
            thread::sleep(Duration::from_secs(10));
            let told: Vec<NetworkEvent> = events.try_iter().collect();
            assert!(told.iter().any(is_link(false)), "{told:?}");
            assert!(told.contains(&NetworkEvent::NextHop { device_index: d0, address: ip(SERVER_V4), mac: None }));
            assert!(!link_by_name("d0").unwrap().up);
            set("up");
            await_event(&events, 5, "up again", is_link(true));
            await_mac(&events, 3, SERVER_V4, Some(SERVER_MAC));
        }
        watch.stop();
    });
}

#[test]
fn an_announced_change_of_mac_is_told_at_once() {
    as_director(|server| {
        let d0 = index("d0");
        sysctl_v4("neigh.d0.locktime", "0");
        server.run(|| {
            sysctl_v4("conf.s0.arp_notify", "1");
            fs::write("/proc/sys/net/ipv6/conf/s0/ndisc_notify", "1").unwrap();
        });
        for address in [SERVER_V4, SERVER_V6] {
            server.ip(&format!("link set s0 address {SERVER_MAC}"));
            let (sender, events) = unbounded();
            let watch = NeighborWatch::start(vec![(d0, ip(address))], sender).unwrap();
            await_mac(&events, 8, address, Some(SERVER_MAC));
            server.ip(&format!("link set s0 address {OTHER_MAC}"));
            await_mac(&events, 5, address, Some(OTHER_MAC));
            watch.stop();
            run_ip("neigh flush dev d0");
        }
    });
}

/// Makes the kernel's clockwork quick enough for a test: reachable for about a second, then probes without delay.
fn hurry() {
    sysctl("neigh.d0.base_reachable_time_ms", "1000");
    // Less than any reachable time drawn (0.5 to 1.5 s): else the kernel's own probe counts as use, for ever.
    sysctl("neigh.d0.delay_first_probe_time", "0");
    sysctl("neigh.d0.retrans_time_ms", "200");
}

fn sysctl_v4(key: &str, value: &str) {
    fs::write(format!("/proc/sys/net/ipv4/{}", key.replace('.', "/")), value).unwrap();
}

#[test]
fn a_silent_change_of_mac_is_found_by_probing() {
    as_director(|server| {
        hurry();
        let d0 = index("d0");
        // A watch for each, so that waiting for one passes over nothing of the other.
        let watches = [SERVER_V4, SERVER_V6].map(|address| {
            let (sender, events) = unbounded();
            let watch = NeighborWatch::start(vec![(d0, ip(address))], sender).unwrap();
            await_mac(&events, 8, address, Some(SERVER_MAC));
            (address, events, watch)
        });
        // Neither interface flap nor announcement: the old address just no longer answers.
        server.ip(&format!("link set s0 address {OTHER_MAC}"));
        for (address, events, watch) in watches {
            await_mac(&events, 25, address, None);
            await_mac(&events, 5, address, Some(OTHER_MAC));
            watch.stop();
        }
    });
}

#[test]
fn a_real_server_that_falls_silent_loses_its_mac_and_one_that_returns_gets_it_back() {
    as_director(|server| {
        hurry();
        let d0 = index("d0");
        let (sender, events) = unbounded();
        let watch = NeighborWatch::start(vec![(d0, ip(SERVER_V4))], sender).unwrap();
        await_mac(&events, 5, SERVER_V4, Some(SERVER_MAC));
        server.ip(&format!("addr del {SERVER_V4}/24 dev s0"));
        await_mac(&events, 25, SERVER_V4, None);
        server.ip(&format!("addr add {SERVER_V4}/24 dev s0"));
        await_mac(&events, 15, SERVER_V4, Some(SERVER_MAC));
        watch.stop();
    });
}

#[test]
fn a_known_neighbour_is_kept_in_use() {
    as_director(|_| {
        hurry();
        let d0 = index("d0");
        let (sender, events) = unbounded();
        let watch = NeighborWatch::start(vec![(d0, ip(SERVER_V4)), (d0, ip(SERVER_V6))], sender).unwrap();
        await_mac(&events, 5, SERVER_V4, Some(SERVER_MAC));
        let confirmed_s = || {
            let shown = Command::new("ip").args(["-s", "neigh", "show", SERVER_V4]).output().unwrap().stdout;
            let shown = String::from_utf8(shown).unwrap();
            let used = shown.split_whitespace().skip_while(|word| *word != "used").nth(1).unwrap().to_owned();
            used.split('/').nth(1).unwrap().parse::<u32>().unwrap()
        };
        // The kernel lets an unused entry go stale; only asking again has it probed, and the answer confirms it.
        await_true_for(8, "it goes stale", || confirmed_s() >= 3);
        await_true_for(15, "it is probed again", || confirmed_s() <= 1);
        assert!(events.try_iter().all(|event| !matches!(event, NetworkEvent::NextHop { mac: None, .. })));
        watch.stop();
    });
}

#[test]
fn an_administrators_entry_is_left_alone() {
    as_director(|_| {
        let d0 = index("d0");
        run_ip(&format!("neigh replace {SERVER_V4} lladdr {OTHER_MAC} dev d0 nud permanent"));
        let (sender, events) = unbounded();
        let watch = NeighborWatch::start(Vec::new(), sender).unwrap();
        watch.set_targets(vec![(d0, ip(SERVER_V4)), (d0, ip(SERVER_V6))]);
        await_mac(&events, 5, SERVER_V4, Some(OTHER_MAC));
        thread::sleep(Duration::from_secs(14)); // longer than any pause between two askings
        let table = neighbors().unwrap();
        let entry = table.iter().find(|n| n.address == ip(SERVER_V4)).unwrap();
        assert_eq!((entry.state, entry.mac), (NeighborState::Static, Some(OTHER_MAC)));

        // Without it the real server is found by itself.
        run_ip(&format!("neigh del {SERVER_V4} dev d0"));
        await_mac(&events, 5, SERVER_V4, None);
        await_mac(&events, 5, SERVER_V4, Some(SERVER_MAC));
        watch.set_targets(Vec::new());
        watch.stop();
    });
}

#[test]
fn lost_events_are_made_good() {
    as_director(|_| {
        let d0 = index("d0");
        run_ip(&format!("neigh replace {SERVER_V4} lladdr {SERVER_MAC} dev d0 nud permanent"));
        // Nobody reads, so that the watch stands still in its first event while the kernel's queue overflows.
        let (sender, events) = bounded(0);
        let watch = NeighborWatch::start(vec![(d0, ip(SERVER_V4))], sender).unwrap();
        let mut flood = String::new();
        for n in 0..4000 {
            let address = format!("10.0.{}.{}", 1 + n / 250, 1 + n % 250);
            flood += &format!("neigh replace {address} lladdr {OTHER_MAC} dev d0 nud permanent\n");
        }
        run_ip_batch(&flood);
        run_ip(&format!("neigh replace {SERVER_V4} lladdr {OTHER_MAC} dev d0 nud permanent"));
        await_event(
            &events,
            10,
            "the last state",
            |event| matches!(event, NetworkEvent::NextHop { mac: Some(mac), .. } if *mac == OTHER_MAC),
        );
        watch.stop();
    });
}

#[test]
fn the_watch_ends_though_nobody_reads_and_when_the_reader_is_gone() {
    as_director(|_| {
        let d0 = index("d0");
        let (sender, events) = bounded(0);
        let watch = NeighborWatch::start(vec![(d0, ip(SERVER_V4))], sender.clone()).unwrap();
        thread::sleep(Duration::from_millis(300)); // until it waits for a reader
        let start = Instant::now();
        watch.stop();
        assert!(start.elapsed() < Duration::from_secs(2));
        drop(events);
        let watch = NeighborWatch::start(vec![(d0, ip(SERVER_V4))], sender).unwrap();
        thread::sleep(Duration::from_millis(100));
        watch.set_targets(vec![(d0, ip(SERVER_V6))]);
        drop(watch);
    });
}

#[test]
fn an_idle_watch_sleeps() {
    as_director(|_| {
        let d0 = index("d0");
        let (sender, events) = unbounded();
        let watch = NeighborWatch::start(vec![(d0, ip(SERVER_V4)), (d0, ip("10.0.0.77"))], sender).unwrap();
        await_mac(&events, 5, SERVER_V4, Some(SERVER_MAC));
        let before = cpu_ns_of("neighbor-watch");
        thread::sleep(Duration::from_secs(4));
        let used = Duration::from_nanos(cpu_ns_of("neighbor-watch") - before);
        assert!(used < Duration::from_millis(50), "{used:?} of CPU time in 4 s");
        watch.stop();
    });
}

/// Time on the CPU of this test's watch: the thread of that name in this network namespace.
fn cpu_ns_of(name: &str) -> u64 {
    let namespace = fs::read_link("/proc/thread-self/ns/net").unwrap();
    let is_it = |task: &Path| {
        fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name)
            && fs::read_link(task.join("ns/net")).is_ok_and(|theirs| theirs == namespace)
    };
    let task = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path()).find(|task| is_it(task));
    let schedstat = fs::read_to_string(task.expect("the thread runs").join("schedstat")).unwrap();
    schedstat.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
#[allow(unsafe_code, reason = "only the bare system call gives up the privileges of one thread")]
fn without_the_capability_the_error_names_it() {
    as_director(|_| {
        // Of this thread alone, by the system call itself: the C library would change all threads.
        // SAFETY: setresuid takes three integers and touches no memory of the process.
        assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, u32::MAX, 65534, u32::MAX) }, 0);
        let started = NeighborWatch::start(Vec::new(), unbounded().0);
        assert_refused(started, "cannot have the kernel resolve neighbours: this needs the capability CAP_NET_ADMIN");
        // Looking needs no privilege.
        assert!(links().is_ok() && neighbors().is_ok());
        assert!(on_link(ip(SERVER_V4), &[index("d0")]).is_ok());
    });
}

#[test]
fn the_driver_tells_queues_and_offloads() {
    as_director(|server| {
        run_ip("link add q0 numrxqueues 4 numtxqueues 4 type veth peer name q1 numrxqueues 2 numtxqueues 4");
        let q0 = nic("q0").unwrap();
        let shown = Command::new("ethtool").args(["-l", "q0"]).output();
        if let Ok(shown) = shown {
            let shown = String::from_utf8(shown.stdout).unwrap();
            let current = shown.split("Current hardware settings:").nth(1).unwrap();
            let of = |key: &str| -> u32 {
                let line = current.lines().find(|line| line.starts_with(key)).unwrap();
                line.split_whitespace().last().unwrap().parse().unwrap_or(0)
            };
            assert_eq!((q0.rx_queues, q0.tx_queues), (of("RX:") + of("Combined:"), of("TX:") + of("Combined:")));
        }
        assert_eq!(q0.driver.as_deref(), Some("veth"));
        assert_eq!(nic("d0").unwrap().carrier, Some(true));
        server.ip("link set s0 down");
        await_true("the carrier is lost", || nic("d0").unwrap().carrier == Some(false));

        for (setting, on) in [("on", true), ("off", false)] {
            let set = Command::new("ethtool").args(["-K", "d0", "rxvlan", setting]).status();
            if set.is_ok_and(|status| status.success()) {
                assert_eq!(nic("d0").unwrap().rx_vlan_offload, Some(on), "rxvlan {setting}");
            }
        }
        let Link { index, .. } = link_by_name("q0").unwrap();
        assert!(index > 0);
    });
}
