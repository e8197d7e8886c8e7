#![allow(clippy::print_stdout, reason = "a test says why it is skipped")]
//! The port over the kernel's own rings, into which these tests put descriptors behind the ledger's back: what the kernel
//! then gives back is what a kernel gives that does not keep its side. They need root; each has a namespace of its own.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};

use super::*;
use crate::service::{Protocol, ServiceKey};
use crate::wire::MacAddress;
use crate::xdp::{AttachMode, NoSocketAction, Settings, XdpProgram};

const FRAMES: u32 = 16;
const OUR_MAC: MacAddress = MacAddress::new([2, 0, 0, 0, 0, 1]);

/// A port on queue 0 of `d0`, whose peer is `p0`.
struct Bench {
    port: XskPort,
    counters: Arc<QueueCounters>,
    sender: OwnedFd,
    _program: XdpProgram,
}

#[test]
fn a_descriptor_that_comes_back_twice_or_was_never_given_is_counted_and_not_used() {
    in_namespace(|| {
        let mut bench = Bench::new();
        let given = bench.port.free.clone();
        assert_eq!(bench.port.refill(0), FRAMES as usize);

        // In the fill ring twice: the kernel receives into the same frame twice.
        bench.fill(given[3]);
        bench.send(FRAMES + 1);
        let mut frames = bench.receive(FRAMES, 1);
        assert_eq!(bench.census(), (0, 0, u64::from(FRAMES), 1));
        let numbers: BTreeSet<usize> = frames.iter().map(|frame| bench.port.number_of(&frame.desc)).collect();
        assert_eq!(numbers.len(), FRAMES as usize, "no frame is in two hands");

        // Never given by the ledger: the worker has it, and the kernel receives into it.
        let sent = frames.pop().unwrap();
        frames.into_iter().for_each(|frame| bench.port.release(frame));
        let stranger = *bench.port.free.last().unwrap();
        bench.fill(stranger);
        bench.send(1);
        bench.receive(0, 2);
        assert_eq!(bench.census(), (0, 0, u64::from(FRAMES), 2));

        // Sent twice, and another one that was never submitted: three come back.
        let twice = sent.desc;
        assert_eq!(bench.port.tx_burst(0, &mut vec![sent]), 1);
        // SAFETY: the frames are this memory's; that the kernel only reads them twice is the test.
        assert_eq!(unsafe { bench.port.queues[0].tx.produce(&[twice, stranger]) }, 2);
        bench.port.kick_tx(0);
        let mut completed = 0;
        let times = LatencyHistogram::default();
        eventually("three completions", || {
            completed += bench.port.complete(0, &times);
            // Whatever came behind the first: it is looked for as long as frames are out.
            bench.port.queues[0].in_tx += 1;
            bench.port.census().quarantined == 4
        });
        bench.port.queues[0].in_tx = 0;
        assert_eq!((completed, bench.counters.tx_completed.get()), (1, 1));
        assert_eq!(bench.census(), (0, 0, u64::from(FRAMES), 4));

        // All are free, each once, and the port goes on with them.
        let free: BTreeSet<usize> = bench.port.free.iter().map(|desc| bench.port.number_of(desc)).collect();
        assert_eq!((free.len(), bench.port.free.len()), (FRAMES as usize, FRAMES as usize));
        bench.port.queues[0].in_fill = 0;
        assert_eq!(bench.port.refill(0), FRAMES as usize);
        bench.send(FRAMES);
        assert_eq!(bench.receive(FRAMES, 2).len(), FRAMES as usize);
        assert_eq!(bench.census(), (0, 0, u64::from(FRAMES), 4));
    });
}

impl Bench {
    fn new() -> Self {
        let counters = Arc::new(QueueCounters::default());
        let queue = QueuePlan {
            interface: "d0".to_owned(),
            queue: 0,
            receive: true,
            rx_ring: 64,
            tx_ring: 64,
            busy_poll: None,
            counters: Arc::clone(&counters),
        };
        let plan = XskPlan {
            queues: vec![queue],
            fill_ring: 64,
            completion_ring: 64,
            frame_size: 2048,
            frames: FRAMES,
            huge_pages: false,
            mode: BindMode::Copy,
        };
        let settings = Settings { local_macs: vec![OUR_MAC], no_socket: NoSocketAction::Drop };
        let index = nix::net::if_::if_nametoindex("d0").unwrap();
        let mut program = XdpProgram::attach("d0", index, AttachMode::Native, &settings).unwrap();
        let opened = open(&plan).unwrap();
        program.insert_socket(0, opened.sockets[0].0.as_raw_fd()).unwrap();
        let service = ServiceKey { vip: [10, 0, 0, 1].into(), protocol: Protocol::Tcp, port: 80 };
        program.add_services([service]).unwrap();
        Self { port: opened.port, counters, sender: packet_socket("p0").unwrap(), _program: program }
    }

    /// Puts a descriptor into the fill ring, and tells the ledger nothing.
    fn fill(&mut self, desc: FrameDesc) {
        // SAFETY: the frame is this memory's; that the kernel writes to it meanwhile is the test, and nobody reads it.
        assert_eq!(unsafe { self.port.queues[0].fill.produce(&[desc]) }, 1);
    }

    /// Has the peer send so many SYNs to the service.
    fn send(&self, count: u32) {
        let mut frame = [&OUR_MAC.octets()[..], &[2, 0, 0, 0, 0, 2, 8, 0]].concat();
        frame.extend([0x45, 0, 0, 40, 0, 1, 0, 0, 64, 6, 0, 0, 10, 0, 0, 7, 10, 0, 0, 1]);
        frame.extend([0x12, 0x34, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
        for _ in 0..count {
            // SAFETY: the frame outlives the call, and its length is given.
            let sent = unsafe { libc::send(self.sender.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
            assert_eq!(usize::try_from(sent).ok(), Some(frame.len()), "{}", io::Error::last_os_error());
        }
    }

    /// Receives until so many frames have come and so many descriptors were refused since the port began.
    fn receive(&mut self, count: u32, refused: u64) -> Vec<XskFrame> {
        let mut frames = Vec::new();
        eventually("the frames", || {
            self.port.rx_burst(0, &mut frames, 64);
            frames.len() >= count as usize && self.counters.rx_refused.get() >= refused
        });
        assert_eq!((frames.len(), self.counters.rx_refused.get()), (count as usize, refused));
        frames
    }

    /// Frames in the fill ring, in the TX ring and with the worker, and refused descriptors.
    fn census(&self) -> (u64, u64, u64, u64) {
        let Census { fill, tx, worker, quarantined, .. } = self.port.census();
        (fill, tx, worker, quarantined)
    }
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(5), "waited 5 s for {what} in vain");
        thread::sleep(Duration::from_millis(5));
    }
}

fn packet_socket(interface: &str) -> io::Result<OwnedFd> {
    // SAFETY: the calls take integers and an address with its length that is alive; all-zero bytes are a valid address.
    unsafe {
        let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let socket = OwnedFd::from_raw_fd(fd);
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = u16::try_from(libc::AF_PACKET).unwrap();
        address.sll_ifindex = i32::try_from(nix::net::if_::if_nametoindex(interface)?).unwrap();
        let length = u32::try_from(size_of_val(&address)).unwrap();
        if libc::bind(fd, (&raw const address).cast(), length) < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(socket)
    }
}

/// Runs the test on a thread with a namespace of its own, which goes with the thread. Without the privilege to make one
/// the test is skipped, unless the environment says that this is CI.
fn in_namespace(test: fn()) {
    let inside = thread::spawn(move || {
        match unshare(CloneFlags::CLONE_NEWNET) {
            Ok(()) => {}
            Err(error) if std::env::var_os("CI").is_none() => {
                println!("skipped: no network namespace can be made: {error}");
                return;
            }
            Err(error) => panic!("no network namespace can be made: {error}"),
        }
        // No frames but those of the test.
        std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
        for arguments in
            [&format!("link add d0 address {OUR_MAC} type veth peer name p0")[..], "link set d0 up", "link set p0 up"]
        {
            let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
            assert!(status.success(), "ip {arguments}");
        }
        test();
    });
    if let Err(panic) = inside.join() {
        std::panic::resume_unwind(panic);
    }
}
