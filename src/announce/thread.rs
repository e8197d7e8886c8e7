//! The thread that answers, and how the director speaks to it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use tracing::{debug, info, warn};

use super::answer::{Heard, heed};
use super::schedule::Schedule;
use super::segment::{Place, Segment};
use super::state::{Announcements, Conflict, Counts, Role, Shared, State, Vip};
use crate::network::{NetworkError, PacketSocket};
use crate::wire::MacAddress;

/// Longer than any ping that is answered: jumbo frames are.
const FRAME_BYTES: usize = 16 << 10;
/// Frames that are taken from one socket before the others and the schedule get their turn.
const BURST: usize = 64;
/// Announcements that are sent at once; then there is a pause, so that no queue on the way overflows.
const ANNOUNCED_AT_ONCE: usize = 64;
const ANNOUNCE_PAUSE: Duration = Duration::from_millis(2);
/// Least time between two answers to a machine that claims a VIP (RFC 5227 section 2.4, DEFEND_INTERVAL), and between two
/// lines of the log about it.
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);
/// Pause before sockets are tried again that could not be opened.
const RETRY: Duration = Duration::from_secs(1);

/// Answers for VIPs from a thread of its own, until it is stopped or dropped.
///
/// It is bound to the network namespace of the thread that starts it.
#[derive(Debug)]
pub struct Announcer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Announcer {
    /// Starts the thread, which answers for nothing yet. `role` is that of VIPs to come.
    ///
    /// # Errors
    /// The system's, if it gives no thread or event descriptor.
    pub fn start(role: Role) -> io::Result<Self> {
        let wake = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        let state = State { role, until: None, vips: BTreeMap::new(), places: Vec::new(), tell_anew: false };
        let shared = Arc::new(Shared::new(wake, state));
        let thread = Thread {
            shared: Arc::clone(&shared),
            segments: Vec::new(),
            active: BTreeSet::new(),
            counts: HashMap::new(),
            schedule: Schedule::default(),
            defended: HashMap::new(),
            retry: None,
            lease_end: None,
        };
        let thread = thread::Builder::new().name("announce".to_owned()).spawn(move || thread.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// By what others see and change what it does.
    pub fn announcements(&self) -> Announcements {
        Announcements { shared: Arc::clone(&self.shared) }
    }

    /// Whether the sockets that it needs can be opened on these interfaces.
    ///
    /// # Errors
    /// [`NetworkError::MissingCapability`] without CAP_NET_RAW, else what the kernel says.
    pub fn check(places: &[Place]) -> Result<(), NetworkError> {
        places.iter().try_for_each(|place| Segment::open(place, &[]).map(drop))
    }

    /// Answers for these VIPs on these interfaces from now on. VIPs that stay keep their role. Where an interface has come
    /// up or has another MAC address, the segment is told of all VIPs anew.
    pub fn update(&self, vips: impl IntoIterator<Item = IpAddr>, places: Vec<Place>) {
        let mut state = self.shared.lock();
        let (role, until) = (state.role, state.until);
        let mut old = std::mem::take(&mut state.vips);
        state.vips = vips
            .into_iter()
            .map(|vip| {
                (vip, old.remove(&vip).unwrap_or_else(|| Vip { role, until, chosen: false, counts: Arc::default() }))
            })
            .collect();
        let told = |place: &Place| state.places.iter().any(|old| old.up && old == place);
        let tell_anew = places.iter().any(|place| place.up && !told(place));
        state.tell_anew |= tell_anew;
        state.places = places;
        drop(state);
        self.shared.wake();
    }

    /// Ends the thread and waits for it: nothing is answered any more. Dropping does the same.
    pub fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.wake();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("the thread that answers for VIPs had panicked");
        }
    }
}

impl Drop for Announcer {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Thread {
    shared: Arc<Shared>,
    segments: Vec<Segment>,
    active: BTreeSet<IpAddr>,
    counts: HashMap<IpAddr, Arc<Counts>>,
    schedule: Schedule,
    /// When a VIP was defended last.
    defended: HashMap<IpAddr, Instant>,
    retry: Option<Instant>,
    /// When the first lease ends, unless it is renewed.
    lease_end: Option<Instant>,
}

impl Thread {
    fn run(mut self) {
        let mut buffer = vec![0; FRAME_BYTES];
        while !self.shared.stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            let is_due = self.retry.into_iter().chain(self.lease_end).any(|at| at <= now);
            if self.shared.wake.read().is_ok() || is_due {
                self.take_over();
            }
            self.receive(&mut buffer);
            let more = self.announce();
            self.wait(more);
        }
    }

    /// Takes over what the others want.
    fn take_over(&mut self) {
        let (active, places, tell_anew) = {
            let mut state = self.shared.lock();
            for vip in state.end_leases(Instant::now()) {
                warn!(%vip, "the lease was not renewed in time: another director may have the VIP");
            }
            self.lease_end = state.next_end();
            let is_active = |(_, vip): &(&IpAddr, &Vip)| vip.role == Role::Active;
            let active: BTreeSet<IpAddr> = state.vips.iter().filter(is_active).map(|(vip, _)| *vip).collect();
            self.counts = state.vips.iter().map(|(address, vip)| (*address, Arc::clone(&vip.counts))).collect();
            let places = if state.vips.is_empty() { Vec::new() } else { state.places.clone() };
            (active, places, std::mem::take(&mut state.tell_anew))
        };
        self.open(&places);
        let now = Instant::now();
        for vip in self.active.difference(&active) {
            info!(%vip, "no longer answering for the VIP");
            self.schedule.end(*vip);
            self.defended.remove(vip);
        }
        for vip in &active {
            let is_new = !self.active.contains(vip);
            if is_new {
                info!(%vip, "answering for the VIP");
            }
            if is_new || tell_anew {
                self.schedule.begin(*vip, now);
            }
        }
        self.active = active;
        for segment in &mut self.segments {
            segment.take_in_for(&self.active);
        }
    }

    /// Has sockets on these interfaces and on no others.
    fn open(&mut self, places: &[Place]) {
        let own: Vec<MacAddress> = places.iter().flat_map(|place| [place.mac, place.announced()]).collect();
        let mut old = std::mem::take(&mut self.segments);
        self.retry = None;
        for place in places {
            let kept = old.iter().position(|segment| segment.place.index == place.index);
            let segment = match kept.map(|at| old.swap_remove(at)) {
                Some(segment) if segment.place == *place && segment.macs.own == own => Ok(segment),
                _ => Segment::open(place, &own),
            };
            match segment {
                Ok(segment) => self.segments.push(segment),
                Err(error) => {
                    warn!(interface = place.name, %error, "cannot answer for VIPs: trying again");
                    self.retry = Some(Instant::now() + RETRY);
                }
            }
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) {
        for segment in &mut self.segments {
            let Segment { place, macs, pings, sockets, .. } = segment;
            for socket in sockets {
                for _ in 0..BURST {
                    let received = match socket.next(buffer) {
                        Ok(Some(received)) => received,
                        Ok(None) => break,
                        // ENETDOWN, once, when the interface goes down.
                        Err(error) => {
                            debug!(interface = place.name, %error, "cannot receive");
                            break;
                        }
                    };
                    let heard = heed(received, macs, |address| self.active.contains(&address));
                    let vip = match &heard {
                        Heard::Nothing => continue,
                        Heard::Question { vip, .. } | Heard::Echo { vip, .. } | Heard::Conflict { vip, .. } => *vip,
                    };
                    let Some(counts) = self.counts.get(&vip) else { continue };
                    match heard {
                        Heard::Question { reply, taker, .. } => {
                            if let Some(mac) = taker {
                                debug!(interface = place.name, %vip, %mac, "somebody asks whether the VIP is free");
                                add_one(&counts.probes);
                            }
                            send(socket, place, &reply, &counts.answers);
                        }
                        Heard::Echo { reply, .. } if pings.take(Instant::now()) => {
                            send(socket, place, &reply, &counts.echo_replies);
                        }
                        Heard::Conflict { mac, .. } => {
                            note_conflict(counts, place, mac);
                            let now = Instant::now();
                            let last = self.defended.get(&vip);
                            if last.is_none_or(|last| now.saturating_duration_since(*last) >= DEFEND_INTERVAL) {
                                self.defended.insert(vip, now);
                                warn!(
                                    interface = place.name, %vip, %mac,
                                    "another machine says that it has the VIP, too: only one may; saying that it is here"
                                );
                                self.schedule.defend(vip, now);
                            }
                        }
                        Heard::Nothing | Heard::Echo { .. } => {}
                    }
                }
            }
        }
    }

    /// Tells of VIPs that are due. Returns whether more are.
    fn announce(&mut self) -> bool {
        let now = Instant::now();
        let refresh = self.segments.iter().any(|segment| segment.place.virtual_mac.is_some());
        for _ in 0..ANNOUNCED_AT_ONCE {
            let Some(vip) = self.schedule.take(now, refresh) else { return false };
            for segment in &self.segments {
                match segment.announce(vip) {
                    Ok(()) => self.counts.get(&vip).into_iter().for_each(|counts| add_one(&counts.announcements)),
                    // The segment is told when the link is up.
                    Err(error) => debug!(interface = segment.place.name, %vip, %error, "cannot announce"),
                }
            }
        }
        true
    }

    /// Sleeps until a frame, a command, or the next thing that is due.
    fn wait(&self, more: bool) {
        let now = Instant::now();
        let due = self.schedule.next().into_iter().chain(self.retry).chain(self.lease_end).min();
        let pause =
            due.map(|due| due.saturating_duration_since(now).max(if more { ANNOUNCE_PAUSE } else { Duration::ZERO }));
        // Rounded up, as poll counts whole milliseconds: waking early would be to spin.
        let timeout = pause.map_or(PollTimeout::NONE, |pause| {
            PollTimeout::try_from(pause + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        let mut descriptors = vec![PollFd::new(self.shared.wake.as_fd(), PollFlags::POLLIN)];
        let sockets = self.segments.iter().flat_map(|segment| &segment.sockets);
        descriptors.extend(sockets.map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)));
        match poll(&mut descriptors, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => {
                warn!(%error, "cannot wait for questions about VIPs");
                thread::sleep(RETRY);
            }
        }
    }
}

fn send(socket: &PacketSocket, place: &Place, reply: &[u8], count: &AtomicU64) {
    match socket.send(reply) {
        Ok(()) => add_one(count),
        Err(error) => debug!(interface = place.name, %error, "cannot answer"),
    }
}

fn note_conflict(counts: &Counts, place: &Place, mac: MacAddress) {
    add_one(&counts.conflicts);
    let conflict = Conflict { interface: place.name.clone(), mac };
    *counts.last_conflict.lock().unwrap_or_else(PoisonError::into_inner) = Some(conflict);
}

/// This thread is the only writer.
fn add_one(count: &AtomicU64) {
    count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}
