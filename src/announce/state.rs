//! Which VIPs are answered for, and what has been answered: shared by the thread, the director and the control socket.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    pub(super) counts: Arc<Counts>,
}

/// What the thread goes by.
#[derive(Debug)]
pub(super) struct State {
    /// Of VIPs that come later.
    pub(super) role: Role,
    pub(super) vips: BTreeMap<IpAddr, Vip>,
    pub(super) places: Vec<Place>,
    /// Whether the segment is to be told of all VIPs anew.
    pub(super) tell_anew: bool,
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
    pub fn set(&self, role: Role, vip: Option<IpAddr>) -> Result<(), AnnounceError> {
        let mut state = self.shared.lock();
        match vip {
            Some(vip) => state.vips.get_mut(&vip).ok_or(AnnounceError::NoSuchVip(vip))?.role = role,
            None if state.vips.is_empty() => return Err(AnnounceError::NoVip),
            None => {
                state.role = role;
                state.vips.values_mut().for_each(|vip| vip.role = role);
            }
        }
        drop(state);
        self.shared.wake();
        let whose = vip.map_or_else(|| "all VIPs".to_owned(), |vip| vip.to_string());
        tracing::info!(vip = whose, state = role.name(), "announcing by the control socket's word");
        Ok(())
    }

    /// Every VIP that is answered for or may be, in the order of addresses.
    pub fn status(&self) -> Vec<VipStatus> {
        let state = self.shared.lock();
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let status = |(address, vip): (&IpAddr, &Vip)| VipStatus {
            vip: *address,
            state: vip.role,
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
