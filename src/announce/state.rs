//! Which VIPs are answered for, and what has been answered: shared by the thread, the director and the control socket.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::eventfd::EventFd;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::segment::Place;
use crate::wire::MacAddress;

/// Whether a VIP is answered for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It is.
    Active,
    /// Another director does, or shall.
    Standby,
}

impl Role {
    /// As in documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Standby => "standby",
        }
    }
}

/// Another machine said that a VIP is its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Conflict {
    /// The interface on which it was heard.
    pub interface: String,
    /// The machine.
    #[schemars(with = "String")]
    pub mac: MacAddress,
}

/// One VIP that is answered for, or will be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VipStatus {
    /// The VIP.
    pub vip: IpAddr,
    /// Whether it is answered for.
    pub state: Role,
    /// Milliseconds after which it is answered for no more unless its lease is renewed; absent without a lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    /// Answers to ARP requests or neighbour solicitations.
    pub answers: u64,
    /// Answers to pings.
    pub echo_replies: u64,
    /// Announcements (gratuitous ARP, unsolicited advertisements), on each interface.
    pub announcements: u64,
    /// Frames in which another machine said that it has the VIP, while it was answered for here.
    pub conflicts: u64,
    /// Questions by machines that would take the VIP if nobody answered.
    pub probes: u64,
    /// The last conflict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_conflict: Option<Conflict>,
}

/// A word about who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// The role to have.
    pub role: Role,
    /// The VIP; without it all, and those to come.
    pub vip: Option<IpAddr>,
    /// How long an active role is for: without another order it is standby then. For good without one.
    pub lease: Option<Duration>,
    /// It repeats one that was given before: VIPs that an order of their own has given another role since keep that.
    pub again: bool,
}

impl Order {
    /// An order for good, given for the first time.
    pub const fn new(role: Role, vip: Option<IpAddr>) -> Self {
        Self { role, vip, lease: None, again: false }
    }
}

/// Why a VIP's state cannot be changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnnounceError {
    /// It is none that is answered for.
    #[error("{0} is no VIP with announce = \"arp\"; `pointsman announce status` lists those that are")]
    NoSuchVip(IpAddr),
    /// There is none at all.
    #[error("no VIP has announce = \"arp\"; set it in [director] or in a [[virtual_service]], and reload")]
    NoVip,
}

/// What has been counted of one VIP. Written by the thread alone.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) answers: AtomicU64,
    pub(super) echo_replies: AtomicU64,
    pub(super) announcements: AtomicU64,
    pub(super) conflicts: AtomicU64,
    pub(super) probes: AtomicU64,
    pub(super) last_conflict: Mutex<Option<Conflict>>,
}

#[derive(Debug)]
pub(super) struct Vip {
    pub(super) role: Role,
    /// When an active role ends.
    pub(super) until: Option<Instant>,
    /// Whether an order about this VIP alone gave it its role.
    pub(super) chosen: bool,
    pub(super) counts: Arc<Counts>,
}

/// What the thread goes by.
#[derive(Debug)]
pub(super) struct State {
    /// Of VIPs that come later.
    pub(super) role: Role,
    /// When the role of VIPs that come later ends, if it is an active one.
    pub(super) until: Option<Instant>,
    pub(super) vips: BTreeMap<IpAddr, Vip>,
    pub(super) places: Vec<Place>,
    /// Whether the segment is to be told of all VIPs anew.
    pub(super) tell_anew: bool,
}

impl Vip {
    /// Heeds an order. Returns whether the role is another one now, or ends sooner: the thread is to know.
    fn heed(&mut self, order: &Order, until: Option<Instant>) -> bool {
        if order.again && self.chosen && self.role != order.role {
            return false;
        }
        let is_sooner = until.is_some_and(|new| self.until.is_none_or(|old| new < old));
        let changed = self.role != order.role || is_sooner;
        self.role = order.role;
        self.until = until;
        self.chosen = order.vip.is_some() && !order.again;
        changed
    }
}

impl State {
    /// Ends the active roles whose time is over, and tells of which VIPs.
    pub(super) fn end_leases(&mut self, now: Instant) -> Vec<IpAddr> {
        let is_over = |until: Option<Instant>| until.is_some_and(|until| until <= now);
        if is_over(self.until) {
            (self.role, self.until) = (Role::Standby, None);
        }
        let mut ended = Vec::new();
        for (address, vip) in self.vips.iter_mut().filter(|(_, vip)| is_over(vip.until)) {
            (vip.role, vip.until, vip.chosen) = (Role::Standby, None, false);
            ended.push(*address);
        }
        ended
    }

    /// When the first active role ends.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.vips.values().filter_map(|vip| vip.until).chain(self.until).min()
    }
}

/// What the VIPs that the director answers for are about: shown to the control socket, and changed by it.
#[derive(Clone, Debug)]
pub struct Announcements {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) wake: EventFd,
    pub(super) stop: AtomicBool,
    state: Mutex<State>,
}

impl Shared {
    pub(super) fn new(wake: EventFd, state: State) -> Self {
        Self { wake, stop: AtomicBool::new(false), state: Mutex::new(state) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wake(&self) {
        // Fails only while 2^64 - 2 wakes are pending, and then it is awake.
        let _ = self.wake.write(1);
    }
}

impl Announcements {
    /// Gives one VIP, or all and those to come, another role. It is heeded at once.
    ///
    /// # Errors
    /// [`AnnounceError`]; then nothing has changed.
    pub fn set(&self, order: &Order) -> Result<(), AnnounceError> {
        // One for longer than a clock can say is for good.
        let lease = order.lease.filter(|_| order.role == Role::Active);
        let until = lease.and_then(|lease| Instant::now().checked_add(lease));
        let mut state = self.shared.lock();
        let changed = match order.vip {
            Some(vip) => state.vips.get_mut(&vip).ok_or(AnnounceError::NoSuchVip(vip))?.heed(order, until),
            None if state.vips.is_empty() => return Err(AnnounceError::NoVip),
            None => {
                (state.role, state.until) = (order.role, until);
                state.vips.values_mut().fold(false, |changed, vip| vip.heed(order, until) | changed)
            }
        };
        drop(state);
        // A renewed lease is found when the old one would have ended.
        if changed {
            self.shared.wake();
        }
        if changed || !order.again {
            let whose = order.vip.map_or_else(|| "all VIPs".to_owned(), |vip| vip.to_string());
            let lease_ms = lease.map(|lease| lease.as_millis());
            tracing::info!(vip = whose, state = order.role.name(), lease_ms, "announcing by the control socket's word");
        }
        Ok(())
    }

    /// Every VIP that is answered for or may be, in the order of addresses.
    pub fn status(&self) -> Vec<VipStatus> {
        let state = self.shared.lock();
        let now = Instant::now();
        let left = |until: Instant| u64::try_from(until.saturating_duration_since(now).as_millis()).unwrap_or(u64::MAX);
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let status = |(address, vip): (&IpAddr, &Vip)| VipStatus {
            vip: *address,
            state: vip.role,
            lease_ms: vip.until.map(left),
            answers: read(&vip.counts.answers),
            echo_replies: read(&vip.counts.echo_replies),
            announcements: read(&vip.counts.announcements),
            conflicts: read(&vip.counts.conflicts),
            probes: read(&vip.counts.probes),
            last_conflict: vip.counts.last_conflict.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        };
        state.vips.iter().map(status).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::eventfd::EfdFlags;

    const LEASE: Duration = Duration::from_secs(5);

    fn vips() -> [IpAddr; 2] {
        ["192.168.88.15", "fd00:88::15"].map(|vip| vip.parse().unwrap())
    }

    fn standby() -> Announcements {
        let vip = || Vip { role: Role::Standby, until: None, chosen: false, counts: Arc::default() };
        let vips = vips().into_iter().map(|address| (address, vip())).collect();
        let state = State { role: Role::Standby, until: None, vips, places: Vec::new(), tell_anew: false };
        let wake = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC).unwrap();
        Announcements { shared: Arc::new(Shared::new(wake, state)) }
    }

    fn take() -> Order {
        Order { lease: Some(LEASE), ..Order::new(Role::Active, None) }
    }

    fn roles(announcements: &Announcements) -> Vec<Role> {
        announcements.status().iter().map(|vip| vip.state).collect()
    }

    fn after(announcements: &Announcements, passed: Duration) -> Vec<IpAddr> {
        announcements.shared.lock().end_leases(Instant::now() + passed)
    }

    #[test]
    fn a_lease_ends_unless_it_is_renewed_and_one_for_good_does_not() {
        let announcements = standby();
        announcements.set(&take()).unwrap();
        assert_eq!(after(&announcements, LEASE / 2), [] as [IpAddr; 0]);
        assert!(announcements.status().iter().all(|vip| vip.lease_ms.is_some_and(|left| left > 4_000)));
        assert_eq!(after(&announcements, LEASE), vips());
        assert_eq!(roles(&announcements), [Role::Standby; 2]);
        assert_eq!(announcements.shared.lock().role, Role::Standby, "VIPs to come, too");

        announcements.set(&take()).unwrap();
        announcements.set(&Order { lease: Some(4 * LEASE), again: true, ..take() }).unwrap();
        assert_eq!(after(&announcements, 3 * LEASE), [] as [IpAddr; 0], "renewed");
        announcements.set(&Order::new(Role::Active, None)).unwrap();
        assert_eq!(after(&announcements, 100 * LEASE), [] as [IpAddr; 0], "for good");
        assert_eq!(announcements.shared.lock().next_end(), None);
        announcements.set(&Order { role: Role::Standby, ..take() }).unwrap();
        assert!(announcements.status().iter().all(|vip| vip.lease_ms.is_none()), "a standby has no lease");
    }

    #[test]
    fn what_is_said_again_leaves_alone_what_was_said_of_one_vip_since() {
        let announcements = standby();
        announcements.set(&take()).unwrap();
        announcements.set(&Order::new(Role::Standby, Some(vips()[0]))).unwrap();
        let again = Order { again: true, ..take() };
        announcements.set(&again).unwrap();
        assert_eq!(roles(&announcements), [Role::Standby, Role::Active]);
        announcements.set(&Order::new(Role::Active, Some(vips()[0]))).unwrap();
        announcements.set(&again).unwrap();
        assert_eq!(after(&announcements, LEASE), vips(), "taken by hand, it has the lease of all others again");
        announcements.set(&again).unwrap();
        assert_eq!(roles(&announcements), [Role::Active; 2], "a lease that ended is nobody's choice");
        announcements.set(&Order::new(Role::Standby, Some(vips()[0]))).unwrap();
        announcements.set(&take()).unwrap();
        assert_eq!(roles(&announcements), [Role::Active; 2], "said anew");
    }

    #[test]
    fn a_renewal_does_not_wake_the_thread() {
        let announcements = standby();
        announcements.set(&take()).unwrap();
        assert!(announcements.shared.wake.read().is_ok());
        announcements.set(&Order { again: true, ..take() }).unwrap();
        assert!(announcements.shared.wake.read().is_err());
        announcements.set(&Order { lease: Some(LEASE / 5), again: true, ..take() }).unwrap();
        assert!(announcements.shared.wake.read().is_ok(), "one that ends sooner does");
    }
}
