//! Attaching the XDP program to interfaces, in network namespaces of their own. Needs root and Linux.
//!
//! Each test makes a namespace for its own thread. The kernel removes it with the thread, and the interfaces with it, also
//! when the test is interrupted.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says why it is skipped"
)]
#![allow(unsafe_code, reason = "raw sockets, and programs of others, have no safe interface here")]

mod loaded;
mod packets;

use std::io;
use std::num::NonZeroU32;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use libbpf_rs::{Xdp, XdpFlags};
use nix::sched::{CloneFlags, unshare};
use packets::{Ipv4, OUR_MAC, tcp};
use pointsman::xdp::{
    AttachMode, AttachedMode, NoSocketAction, RedirectErrors, STAMP_BYTES, STAMP_MAGIC, Settings, XdpCounters,
    XdpError, XdpProgram,
};
use xsk_rs::config::{BindFlags, LibxdpFlags, QueueSize, SocketConfig, UmemConfig};
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue, Umem};

/// Under test: `d0`, with [`OUR_MAC`]; frames are sent into its peer `p0`.
const DIRECTOR: &str = "d0";
const PEER: &str = "p0";

/// Runs the test on a thread with a namespace of its own that has the veth pair. Without the privilege to make one the
/// test is skipped, unless the environment says that this is CI.
fn in_namespace(test: fn()) {
    thread::spawn(move || {
        match unshare(CloneFlags::CLONE_NEWNET) {
            Ok(()) => {}
            Err(error) if std::env::var_os("CI").is_none() => {
                println!("skipped: no network namespace can be made: {error}");
                return;
            }
            Err(error) => panic!("no network namespace can be made: {error}"),
        }
        if loaded::load(NoSocketAction::Drop).is_none() {
            return;
        }
        // No frames but those of the test.
        for scope in ["all", "default"] {
            let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6"), "1");
        }
        ip(&format!("link add {DIRECTOR} address {OUR_MAC} type veth peer name {PEER}"));
        ip(&format!("link set {DIRECTOR} up"));
        ip(&format!("link set {PEER} up"));
        test();
    })
    .join()
    .unwrap();
}

fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn index_of(interface: &str) -> u32 {
    nix::net::if_::if_nametoindex(interface).unwrap()
}

fn settings() -> Settings {
    Settings { local_macs: packets::local_macs(), no_socket: NoSocketAction::Drop }
}

fn attach(interface: &str, mode: AttachMode) -> Result<XdpProgram, XdpError> {
    XdpProgram::attach(interface, index_of(interface), mode, &settings())
}

/// As the kernel shows it to everybody.
fn is_occupied(interface: &str) -> bool {
    ip(&format!("-details link show dev {interface}")).contains("prog/xdp")
}

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(5), "not within 5 s: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Sends a frame out of an interface as it is.
fn send(interface: &str, frame: &[u8]) {
    // SAFETY: the calls take integers, a frame with its length and an address with its length, all alive during them.
    unsafe {
        let socket = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
        assert!(socket >= 0, "{}", io::Error::last_os_error());
        let socket = OwnedFd::from_raw_fd(socket);
        let address = libc::sockaddr_ll {
            sll_family: u16::try_from(libc::AF_PACKET).unwrap(),
            sll_ifindex: i32::try_from(index_of(interface)).unwrap(),
            sll_halen: 6,
            ..std::mem::zeroed()
        };
        let sent = libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            (&raw const address).cast(),
            u32::try_from(size_of_val(&address)).unwrap(),
        );
        assert_eq!(usize::try_from(sent), Ok(frame.len()), "{}", io::Error::last_os_error());
    }
}

fn syn(port: u16) -> Vec<u8> {
    Ipv4::default().frame(&tcp(4711, port))
}

#[test]
fn attaches_native_and_detaches_when_dropped() {
    in_namespace(|| {
        let program = attach(DIRECTOR, AttachMode::Auto).unwrap();
        assert_eq!((program.mode(), program.fallback_reason()), (Some(AttachedMode::Native), None));
        let shown = ip(&format!("-details link show dev {DIRECTOR}"));
        assert!(shown.contains(&format!("prog/xdp id {} name pointsman", program.program_id())), "{shown}");
        drop(program);
        assert!(!is_occupied(DIRECTOR));

        let mut again = attach(DIRECTOR, AttachMode::Native).unwrap();
        again.detach();
        assert!(!is_occupied(DIRECTOR));
        again.detach();
    });
}

#[test]
fn detaches_when_a_thread_panics() {
    in_namespace(|| {
        let program = attach(DIRECTOR, AttachMode::Native).unwrap();
        let panicked = thread::spawn(move || {
            let _program = program;
            std::panic::resume_unwind(Box::new("as a panic, but silent"));
        });
        assert!(panicked.join().is_err());
        assert!(!is_occupied(DIRECTOR));
    });
}

#[test]
fn falls_back_to_generic_and_says_why() {
    in_namespace(|| {
        let program = attach("lo", AttachMode::Auto).unwrap();
        assert_eq!(program.mode(), Some(AttachedMode::Generic));
        let reason = program.fallback_reason().unwrap();
        assert!(reason.contains("to lo in") && reason.contains("native"), "{reason}");
        drop(program);
        assert!(!is_occupied("lo"));

        let refused = attach("lo", AttachMode::Native).unwrap_err();
        assert!(matches!(&refused, XdpError::Attach { mode: "native", .. }), "{refused:?}");
        assert!(refused.to_string().contains("no native XDP"), "{refused}");
        assert_eq!(attach("lo", AttachMode::Generic).unwrap().mode(), Some(AttachedMode::Generic));
    });
}

#[test]
fn names_the_mtu_where_it_is_too_large_for_native_mode() {
    in_namespace(|| {
        ip(&format!("link set {PEER} mtu 9000"));
        let refused = attach(DIRECTOR, AttachMode::Native).unwrap_err();
        assert!(refused.to_string().contains("MTU"), "{refused}");
        assert_eq!(attach(DIRECTOR, AttachMode::Auto).unwrap().mode(), Some(AttachedMode::Generic));
    });
}

#[test]
fn never_replaces_the_program_of_another() {
    in_namespace(|| {
        let foreign = foreign_program();
        for mode in ["native", "generic"] {
            let flag = || if mode == "native" { XdpFlags::DRV_MODE } else { XdpFlags::SKB_MODE };
            let xdp = Xdp::new(foreign.as_fd());
            let ifindex = i32::try_from(index_of(DIRECTOR)).unwrap();
            xdp.attach(ifindex, flag()).unwrap();
            let foreign_id = xdp.query_id(ifindex, XdpFlags::NONE).unwrap();
            for wanted in [AttachMode::Auto, AttachMode::Native, AttachMode::Generic] {
                let refused = attach(DIRECTOR, wanted).unwrap_err();
                let XdpError::Occupied { interface, program_name, program_id, mode: found } = &refused else {
                    panic!("{refused:?}")
                };
                assert_eq!((interface.as_str(), *program_id, *found), (DIRECTOR, foreign_id, mode));
                assert_eq!(program_name.as_deref(), Some("somebody_else"));
                assert!(refused.to_string().contains("\"somebody_else\""), "{refused}");
            }
            assert_eq!(xdp.query_id(ifindex, XdpFlags::NONE).unwrap(), foreign_id);
            xdp.detach(ifindex, flag()).unwrap();
        }
        attach(DIRECTOR, AttachMode::Auto).unwrap();
    });
}

/// A program that passes everything, by the name `somebody_else`.
fn foreign_program() -> OwnedFd {
    // r0 = XDP_PASS; exit (linux/bpf.h: BPF_ALU64 | BPF_MOV | BPF_K, BPF_JMP | BPF_EXIT).
    let mut pass = libbpf_sys::bpf_insn { code: 0xb7, ..Default::default() };
    pass.imm = i32::try_from(libbpf_sys::XDP_PASS).unwrap();
    let exit = libbpf_sys::bpf_insn { code: 0x95, ..Default::default() };
    let instructions = [pass, exit];
    // SAFETY: the strings and instructions outlive the call, and no options are given; the descriptor is nobody else's.
    unsafe {
        let program = libbpf_sys::bpf_prog_load(
            libbpf_sys::BPF_PROG_TYPE_XDP,
            c"somebody_else".as_ptr(),
            c"GPL".as_ptr(),
            instructions.as_ptr(),
            2,
            std::ptr::null_mut(),
        );
        assert!(program >= 0, "{}", io::Error::from_raw_os_error(-program));
        OwnedFd::from_raw_fd(program)
    }
}

#[test]
fn a_second_director_is_refused_and_the_first_one_stays() {
    in_namespace(|| {
        let first = attach(DIRECTOR, AttachMode::Auto).unwrap();
        let refused = attach(DIRECTOR, AttachMode::Auto).unwrap_err();
        assert!(refused.to_string().contains("\"pointsman\""), "{refused}");
        assert!(
            matches!(refused, XdpError::Occupied { program_id, mode: "native", .. } if program_id == first.program_id())
        );
        assert!(is_occupied(DIRECTOR));
    });
}

#[test]
fn an_interface_that_is_not_there_or_goes_away() {
    in_namespace(|| {
        for ifindex in [0, 4711, u32::MAX] {
            let refused = XdpProgram::attach("d7", ifindex, AttachMode::Auto, &settings()).unwrap_err();
            assert!(matches!(&refused, XdpError::NoSuchInterface { interface } if interface == "d7"), "{refused:?}");
        }
        let other = XdpProgram::attach(DIRECTOR, index_of(PEER), AttachMode::Auto, &settings()).unwrap_err();
        assert!(matches!(other, XdpError::NoSuchInterface { .. }), "the index is another interface's: {other:?}");

        let program = attach(DIRECTOR, AttachMode::Auto).unwrap();
        ip(&format!("link del {DIRECTOR}"));
        program.counters().read().unwrap();
        drop(program);
    });
}

#[test]
fn a_killed_process_leaves_nothing_attached() {
    in_namespace(|| {
        for round in 0..3 {
            let mut child = child_process("attach", Command::new(std::env::current_exe().unwrap()));
            eventually("the child attaches", || is_occupied(DIRECTOR));
            let refused = attach(DIRECTOR, AttachMode::Auto).unwrap_err();
            assert!(matches!(refused, XdpError::Occupied { .. }), "round {round}: {refused}");
            child.kill().unwrap();
            assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
            eventually("the kernel detaches the program of the killed child", || !is_occupied(DIRECTOR));
            drop(attach(DIRECTOR, AttachMode::Auto).unwrap());
        }
    });
}

#[test]
fn missing_capabilities_are_named() {
    in_namespace(|| {
        for (kept, missing) in [
            ("-all", "CAP_NET_ADMIN, CAP_BPF, CAP_PERFMON"),
            ("-all,+bpf,+perfmon", "CAP_NET_ADMIN,"),
            ("-all,+net_admin,+perfmon", "CAP_BPF,"),
            ("-all,+net_admin,+bpf", "CAP_PERFMON,"),
        ] {
            let mut command = Command::new("setpriv");
            command.args(["--bounding-set", kept]).arg(std::env::current_exe().unwrap());
            let output = child_process("attach", command).wait_with_output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(text.contains("refused: ") && text.contains(&format!("needs {missing}")), "{kept}: {text}");
            assert!(!is_occupied(DIRECTOR));
        }
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", "-all,+net_admin,+bpf,+perfmon"]).arg(std::env::current_exe().unwrap());
        let mut child = child_process("attach", command);
        eventually("these three are enough", || is_occupied(DIRECTOR));
        child.kill().unwrap();
        child.wait().unwrap();
    });
}

/// This test binary once more, as a process that does nothing but `role`.
fn child_process(role: &str, mut command: Command) -> Child {
    command
        .args(["--exact", "role_of_a_child_process", "--nocapture"])
        .env("POINTSMAN_TEST_ROLE", role)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// No test: what the children do. Without a role it does nothing.
#[test]
fn role_of_a_child_process() {
    if std::env::var("POINTSMAN_TEST_ROLE").as_deref() != Ok("attach") {
        return;
    }
    match attach(DIRECTOR, AttachMode::Auto) {
        // Until it is killed, or the end of its parent closes its standard input.
        Ok(_program) => drop(io::stdin().read_line(&mut String::new())),
        Err(error) => println!("refused: {error}"),
    }
}

#[test]
fn counts_live_frames_by_what_became_of_them() {
    in_namespace(|| {
        for mode in [AttachMode::Native, AttachMode::Generic] {
            let mut program = attach(DIRECTOR, mode).unwrap();
            program.add_services(packets::services()).unwrap();
            let to_other =
                packets::ethernet_to(packets::OTHER_MAC, packets::IPV4, &Ipv4::default().packet(&tcp(1, 80)));
            for (frame, copies) in [(syn(80), 4), (syn(81), 3), (to_other, 2), (syn(80)[..30].to_vec(), 1)] {
                for _ in 0..copies {
                    send(PEER, &frame);
                }
            }
            let expected = XdpCounters { no_socket: 4, passed: 3, not_our_mac: 2, malformed: 1, ..Default::default() };
            eventually("all ten frames are counted", || program.counters().read().unwrap() == expected);
            assert_eq!(program.counters().redirect_errors().unwrap(), Some(RedirectErrors::default()));
        }
    });
}

#[test]
fn counts_redirects_to_a_socket_that_is_not_bound() {
    in_namespace(|| {
        ip("link add d1 type veth peer name p1");
        let bystander = attach("d1", AttachMode::Native).unwrap();
        let mut program = attach(DIRECTOR, AttachMode::Native).unwrap();
        assert_eq!(program.counters().redirect_errors_unavailable(), None);
        let unbound = loaded::af_xdp_socket();
        program.insert_socket(0, unbound.as_raw_fd()).unwrap();
        program.add_services(packets::services()).unwrap();
        for _ in 0..5 {
            send(PEER, &syn(80));
        }
        let expected = RedirectErrors { counted_by_socket: 0, others: 5 };
        let reader = program.counters().try_clone().unwrap();
        eventually("five errors", || reader.redirect_errors().unwrap() == Some(expected));
        assert_eq!(reader.read().unwrap(), XdpCounters { redirected: 5, ..Default::default() });
        assert_eq!(bystander.counters().redirect_errors().unwrap(), Some(RedirectErrors::default()));
    });
}

/// A socket on queue 0 of the director's interface. The queues keep it alive.
struct BoundSocket {
    umem: Umem,
    frames: Vec<FrameDesc>,
    rx: RxQueue,
    fill: FillQueue,
    _tx: TxQueue,
    _completion: CompQueue,
}

const RX_RING: u32 = 4;

fn bound_socket() -> BoundSocket {
    let (umem, frames) = Umem::new(UmemConfig::default(), NonZeroU32::new(64).unwrap(), false).unwrap();
    let config = SocketConfig::builder()
        .rx_queue_size(QueueSize::new(RX_RING).unwrap())
        .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
        .bind_flags(BindFlags::XDP_COPY)
        .build();
    let interface: xsk_rs::config::Interface = DIRECTOR.parse().unwrap();
    let begin = Instant::now();
    let (tx, rx, rings) = loop {
        // SAFETY: the program load is inhibited, and the pair of UMEM and queue is bound once.
        match unsafe { Socket::new(config, &umem, &interface, 0) } {
            Ok(socket) => break socket,
            // The kernel takes its time to let go of the socket before.
            Err(error) => assert!(begin.elapsed() < Duration::from_secs(5), "{error:?}"),
        }
        thread::sleep(Duration::from_millis(10));
    };
    let (fill, completion) = rings.unwrap();
    BoundSocket { umem, frames, rx, fill, _tx: tx, _completion: completion }
}

/// Each loss is counted once as the socket's own, and the identity of the counters holds: redirected = received + the
/// socket's losses + other errors.
#[test]
fn redirected_frames_arrive_with_a_stamp_and_losses_are_told_apart() {
    in_namespace(|| {
        for mode in [AttachMode::Native, AttachMode::Generic] {
            let mut socket = bound_socket();
            let mut program = attach(DIRECTOR, mode).unwrap();
            program.insert_socket(0, socket.rx.fd().as_raw_fd()).unwrap();
            program.add_services(packets::services()).unwrap();
            let losses = |expected| {
                let expected = RedirectErrors { counted_by_socket: expected, others: 0 };
                eventually("the losses", || program.counters().redirect_errors().unwrap() == Some(expected));
            };

            // The fill ring is empty.
            for _ in 0..3 {
                send(PEER, &syn(80));
            }
            losses(3);
            assert_eq!(socket.rx.fd().xdp_statistics().unwrap().rx_dropped(), 3, "{mode:?}");

            // There are frames, but the RX ring has room for four.
            // SAFETY: the frames are of this UMEM, and nobody has them.
            assert_eq!(unsafe { socket.fill.produce(&socket.frames[..16]) }, 16);
            for _ in 0..6 {
                send(PEER, &syn(80));
            }
            losses(3 + 2);
            assert_eq!(socket.rx.fd().xdp_statistics().unwrap().rx_ring_full(), 2, "{mode:?}");
            let counters = program.counters().read().unwrap();
            assert_eq!(counters, XdpCounters { redirected: 9, ..Default::default() }, "{mode:?}");

            let mut received = vec![FrameDesc::default(); 8];
            // SAFETY: the frames that the fill ring got are the kernel's until they are consumed here.
            let count = unsafe { socket.rx.consume(&mut received) };
            assert_eq!(count, usize::try_from(RX_RING).unwrap(), "{mode:?}");
            for frame in &received[..count] {
                // SAFETY: consumed, so nobody else has the frame; the metadata is in its headroom, directly in front.
                let (contents, stamp) = unsafe {
                    let data = socket.umem.data(frame);
                    let stamp = data.contents().as_ptr().sub(STAMP_BYTES).cast::<[u8; STAMP_BYTES]>().read();
                    (data.contents().to_vec(), stamp)
                };
                assert_eq!(contents, syn(80));
                assert_eq!(&stamp[..8], STAMP_MAGIC.to_ne_bytes(), "{mode:?}");
                let age_ns = monotonic_ns() - u64::from_ne_bytes(stamp[8..].try_into().unwrap());
                assert!(age_ns < 60_000_000_000, "{mode:?}: {age_ns} ns");
            }
        }
    });
}

fn monotonic_ns() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
    u64::try_from(now.tv_sec()).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec()).unwrap()
}
