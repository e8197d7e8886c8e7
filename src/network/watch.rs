//! The thread that keeps the MAC addresses of the real servers known and tells of every change of them and of links.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam::channel::{SendTimeoutError, Sender};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use tracing::{debug, warn};

use super::NetworkError;
use super::link::{Link, parse_link, read_links};
use super::neighbor::{parse_neighbor, read_neighbors, resolve};
use super::netlink::{EventSocket, Heard, Requester};
use super::targets::{MacChange, Target, TargetTable};
use crate::wire::MacAddress;

/// The least time between two readings of the whole tables, however often the event queue overruns.
const READING_PAUSE: Duration = Duration::from_millis(200);
/// How often a full channel is looked at for whether the watch was stopped meanwhile.
const SEND_PATIENCE: Duration = Duration::from_millis(50);
/// So many events at most are taken in before targets that are due get their turn.
const EVENTS_PER_ROUND: usize = 256;
/// More datagrams than the event queue can hold.
const MAX_DISCARDED: usize = 1 << 16;

/// Something changed in the network.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NetworkEvent {
    /// A watched target has another MAC address, or none any more.
    NextHop {
        /// The interface on whose link the target is.
        device_index: u32,
        /// The target.
        address: IpAddr,
        /// Its MAC address; none while it cannot be reached.
        mac: Option<MacAddress>,
    },
    /// An interface is new or changed.
    Link {
        /// The interface.
        index: u32,
        /// Whether frames can pass, as in [`Link::up`].
        up: bool,
        /// Its hardware address.
        mac: MacAddress,
        /// Its MTU in bytes.
        mtu: u32,
    },
    /// An interface was removed; one made anew under the same name has another index.
    LinkRemoved {
        /// The interface that was.
        index: u32,
    },
}

/// Watches neighbours and links from a thread of its own until it is stopped or dropped.
///
/// It is bound to the network namespace of the thread that starts it.
#[derive(Debug)]
pub struct NeighborWatch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    wake: EventFd,
    stop: AtomicBool,
    /// Not yet taken over, in order: one that goes and comes back is forgotten in between.
    new_targets: Mutex<Vec<Vec<Target>>>,
}

impl NeighborWatch {
    /// Starts to watch `targets` and sends to `sender`: at first the state of every interface and the MAC address of
    /// each target that has one, then every change. A target counts as having none until an event says otherwise.
    ///
    /// A target without a MAC address is asked for at once and then with growing pauses of 2 to 10 s; a known one is
    /// kept from going stale. A real server that dies in silence is noticed after up to about a minute (the kernel's
    /// reachable time, then its probes): health checks are quicker.
    ///
    /// # Errors
    /// [`NetworkError::MissingCapability`] without CAP_NET_ADMIN, or a failure to set up the sockets or the thread.
    pub fn start(targets: Vec<Target>, sender: Sender<NetworkEvent>) -> Result<Self, NetworkError> {
        // Subscribed before anything is read, so that no change falls between.
        let events = EventSocket::open(&[libc::RTNLGRP_NEIGH, libc::RTNLGRP_LINK])?;
        let mut requester = Requester::open()?;
        check_permission(&mut requester)?;
        let wake = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)
            .map_err(|errno| NetworkError::system("make an event descriptor", errno.into()))?;
        let shared = Arc::new(Shared { wake, stop: AtomicBool::new(false), new_targets: Mutex::new(vec![targets]) });
        let watcher = Watcher {
            shared: Arc::clone(&shared),
            events,
            requester,
            sender,
            targets: TargetTable::default(),
            links: HashMap::new(),
            next_reading: None,
        };
        let thread = thread::Builder::new()
            .name("neighbor-watch".to_owned())
            .spawn(move || watcher.run())
            .map_err(|source| NetworkError::system("start the thread that watches neighbours", source))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Watches exactly `targets` from now on, soon after this returns. Those that stay keep their MAC address without
    /// a new event; one that was not watched before counts as having none until an event says otherwise.
    pub fn set_targets(&self, targets: Vec<Target>) {
        self.shared.new_targets.lock().unwrap_or_else(PoisonError::into_inner).push(targets);
        self.shared.wake();
    }

    /// Ends the thread and waits for it, also while the channel is full. Dropping does the same.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.wake();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("the thread that watches neighbours had panicked");
        }
    }
}

impl Drop for NeighborWatch {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn wake(&self) {
        // Fails only while 2^64 - 2 wakes are pending, and then it is awake.
        let _ = self.wake.write(1);
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Asks for a neighbour on a device that cannot exist: the kernel looks at the privilege first.
fn check_permission(requester: &mut Requester) -> Result<(), NetworkError> {
    const NO_DEVICE: u32 = i32::MAX.unsigned_abs();
    match resolve(requester, NO_DEVICE, IpAddr::V4(Ipv4Addr::LOCALHOST)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(NetworkError::system("have the kernel resolve neighbours", error))
        }
        _ => Ok(()),
    }
}

/// The receiver of the events is gone, or the watch was stopped.
struct Over;

struct Watcher {
    shared: Arc<Shared>,
    events: EventSocket,
    requester: Requester,
    sender: Sender<NetworkEvent>,
    targets: TargetTable,
    links: HashMap<u32, Link>,
    /// When to read the whole tables, if they have to be.
    next_reading: Option<Instant>,
}

impl Watcher {
    fn run(mut self) {
        while self.round().is_ok() {
            self.wait();
        }
    }

    /// Does all that there is to do now. Events are taken in before the kernel is asked for anybody, so that what is
    /// asked for follows the newest state.
    fn round(&mut self) -> Result<(), Over> {
        if self.shared.is_stopped() {
            return Err(Over);
        }
        self.take_commands();
        self.take_events()?;
        if self.next_reading.is_some_and(|due| due <= Instant::now()) {
            self.read_tables()?;
        }
        self.ask_for_targets();
        Ok(())
    }

    fn take_commands(&mut self) {
        let _ = self.shared.wake.read(); // nothing to read: nobody called
        let new_targets = std::mem::take(&mut *self.shared.new_targets.lock().unwrap_or_else(PoisonError::into_inner));
        for targets in new_targets {
            let now = Instant::now();
            self.targets.replace(&targets, now);
            // Entries that exist already cause no event. This reading also comes before anybody is asked for, which
            // static entries need (see `resolve`).
            self.next_reading = Some(now);
        }
    }

    fn take_events(&mut self) -> Result<(), Over> {
        for _ in 0..EVENTS_PER_ROUND {
            let mut messages = Vec::new();
            let heard = self.events.hear(|kind, payload| messages.push((kind, payload.to_vec())));
            match heard {
                Ok(Heard::Events) => {}
                Ok(Heard::Nothing) => return Ok(()),
                Ok(Heard::Overrun) => {
                    debug!("network events were lost: reading the tables anew");
                    self.read_soon();
                }
                Err(error) => {
                    warn!(%error, "cannot receive network events: reading the tables instead");
                    self.read_soon();
                    // The descriptor may stay readable, and poll would not sleep.
                    thread::sleep(READING_PAUSE);
                    return Ok(());
                }
            }
            for (kind, payload) in messages {
                self.take_event(kind, &payload)?;
            }
        }
        Ok(())
    }

    fn take_event(&mut self, kind: u16, payload: &[u8]) -> Result<(), Over> {
        if let Some(neighbor) = parse_neighbor(kind, payload) {
            let change = self.targets.observe(&neighbor, Instant::now());
            return change.map_or(Ok(()), |change| self.tell_mac(change));
        }
        match kind {
            libc::RTM_NEWLINK => parse_link(payload).map_or(Ok(()), |link| self.take_link(link)),
            libc::RTM_DELLINK => parse_link(payload).map_or(Ok(()), |link| self.drop_link(link.index)),
            _ => Ok(()),
        }
    }

    fn take_link(&mut self, link: Link) -> Result<(), Over> {
        let Link { index, up, mac, mtu, .. } = link;
        let before = self.links.insert(index, link);
        if up && before.as_ref().is_some_and(|before| !before.up) {
            self.targets.device_came_up(index, Instant::now());
        }
        match before {
            Some(before) if (before.up, before.mac, before.mtu) == (up, mac, mtu) => Ok(()),
            _ => self.tell(NetworkEvent::Link { index, up, mac, mtu }),
        }
    }

    fn drop_link(&mut self, index: u32) -> Result<(), Over> {
        match self.links.remove(&index) {
            Some(_) => self.tell(NetworkEvent::LinkRemoved { index }),
            None => Ok(()),
        }
    }

    fn read_soon(&mut self) {
        self.next_reading.get_or_insert(Instant::now() + READING_PAUSE);
    }

    /// Reads links and neighbours as a whole and tells what differs from what was told.
    fn read_tables(&mut self) -> Result<(), Over> {
        self.next_reading = None;
        self.discard_events();
        let tables = read_links(&mut self.requester)
            .and_then(|links| read_neighbors(&mut self.requester).map(|neighbors| (links, neighbors)));
        let (links, neighbors) = match tables {
            Ok(tables) => tables,
            Err(error) => {
                warn!(%error, "cannot read the network tables: trying again");
                self.read_soon();
                return Ok(());
            }
        };
        let gone: Vec<u32> =
            self.links.keys().filter(|index| !links.iter().any(|link| link.index == **index)).copied().collect();
        for index in gone {
            self.drop_link(index)?;
        }
        for link in links {
            self.take_link(link)?;
        }
        for change in self.targets.reconcile(&neighbors, Instant::now()) {
            self.tell_mac(change)?;
        }
        Ok(())
    }

    /// What is waiting happened before the tables are read and is in them; taken in after them it would be older news,
    /// and where later events were lost nothing would correct it.
    fn discard_events(&mut self) {
        for _ in 0..MAX_DISCARDED {
            match self.events.hear(|_, _| ()) {
                Ok(Heard::Nothing) | Err(_) => return,
                Ok(Heard::Events | Heard::Overrun) => {}
            }
        }
    }

    fn ask_for_targets(&mut self) {
        // Until the tables are read again, an administrator's entry might be taken for a missing one.
        if self.next_reading.is_some() {
            return;
        }
        for target @ (device_index, address) in self.targets.take_due(Instant::now()) {
            let failure = resolve(&mut self.requester, device_index, address).err();
            let errno = failure.as_ref().map(|error| error.raw_os_error().unwrap_or_default());
            let is_new = self.targets.is_new_failure(target, errno);
            let Some(error) = failure.filter(|_| is_new) else { continue };
            if errno == Some(libc::ENOBUFS) {
                warn!(%address, "the kernel's neighbour table is full: raise net.ipv4.neigh.default.gc_thresh3 (or ipv6)");
            } else {
                warn!(%address, device_index, %error, "the kernel cannot look for a real server's MAC address");
            }
        }
    }

    fn tell_mac(&self, change: MacChange) -> Result<(), Over> {
        let (device_index, address) = change.target;
        self.tell(NetworkEvent::NextHop { device_index, address, mac: change.mac })
    }

    /// Sends, and waits while the channel is full, but not for ever: whoever stops the watch may have ceased to read.
    fn tell(&self, mut event: NetworkEvent) -> Result<(), Over> {
        loop {
            match self.sender.send_timeout(event, SEND_PATIENCE) {
                Ok(()) => return Ok(()),
                Err(SendTimeoutError::Timeout(unsent)) if !self.shared.is_stopped() => event = unsent,
                Err(_) => return Err(Over),
            }
        }
    }

    /// Sleeps until an event, a command, or the next thing that is due.
    fn wait(&self) {
        let attempt = if self.next_reading.is_some() { None } else { self.targets.next_attempt() };
        let timeout = match attempt.into_iter().chain(self.next_reading).min() {
            // Rounded up, as poll counts whole milliseconds: waking early would be to spin.
            Some(due) => {
                PollTimeout::try_from(due.saturating_duration_since(Instant::now()) + Duration::from_millis(1))
                    .unwrap_or(PollTimeout::MAX)
            }
            None => PollTimeout::NONE,
        };
        let mut descriptors = [
            PollFd::new(self.events.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.shared.wake.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut descriptors, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => {
                warn!(%error, "cannot wait for network events");
                thread::sleep(READING_PAUSE);
            }
        }
    }
}
