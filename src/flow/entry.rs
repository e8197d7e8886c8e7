//! One slot of a flow table: 32 bytes, two to a cache line, read by other threads while its owner writes it.
//!
//! | word | bits |
//! |---|---|
//! | 0, 1 | the client's address as its 16 bytes lie in memory, an IPv4 address in the first four |
//! | 2 | client's port (16), service's port (16), service (32) |
//! | 3 | version (15), state (3), expiry in seconds modulo 2^22 (22), real server (24) |
//!
//! What is kept of a client rather than of a flow, what IPVS calls a template, has ports of 0 and the highest bit of the
//! service set.
//!
//! The service stands for VIP, protocol and family, so that the key is the full tuple and compared in full.
//!
//! The version grows whenever the slot gets another key. A reader takes word 3, then the key, then word 3 again, and
//! believes the key only if version and state are the same: the usual sequence lock, whose writer never waits.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::wire::Subject;

/// Longest life of an entry in seconds: 31 days.
pub const MAX_LIFE_S: u32 = 31 * 86_400;

const EXPIRY_BITS: u32 = 22;
const EXPIRY_MASK: u64 = (1 << EXPIRY_BITS) - 1;
const EXPIRY_SHIFT: u32 = 24;
const STATE_SHIFT: u32 = 46;
const STATE_MASK: u64 = 0x7;
const VERSION_SHIFT: u32 = 49;
const VERSION_MASK: u64 = 0x7fff;
const REAL_SERVER_MASK: u64 = (1 << 24) - 1;
/// Marks the keys of clients among those of flows: no service has so high a number.
const TEMPLATE: u32 = 1 << 31;

/// What a flow is known by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowKey {
    words: [u64; 3],
}

impl FlowKey {
    /// The key of a frame's flow, `service` being the lasting number of its virtual service.
    #[inline]
    pub fn flow(subject: &Subject, service: u32) -> Self {
        Self::new(subject, u32::from(subject.client_port) << 16 | u32::from(subject.service_port), service)
    }

    /// The key of a fragmented datagram, `service` being the number of the first service of its address and protocol.
    #[inline]
    pub fn fragment(subject: &Subject, service: u32) -> Self {
        Self::new(subject, subject.fragment_id, service)
    }

    /// The key of what is kept of a client, whose address was masked: its template.
    #[inline]
    pub fn template(masked: &Subject, service: u32) -> Self {
        Self::new(masked, 0, service | TEMPLATE)
    }

    /// Whether it is that of a client, not of a flow.
    #[inline]
    pub fn is_template(&self) -> bool {
        self.words[2] & u64::from(TEMPLATE) != 0
    }

    /// The same key with the number of another service.
    #[inline]
    #[must_use]
    pub fn with_service(self, service: u32) -> Self {
        let [first, second, third] = self.words;
        Self { words: [first, second, third & !u64::from(u32::MAX) | u64::from(service)] }
    }

    #[inline]
    fn new(subject: &Subject, ports: u32, service: u32) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = subject.client;
        Self {
            words: [
                u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
                u64::from_ne_bytes([i, j, k, l, m, n, o, p]),
                u64::from(ports) << 32 | u64::from(service),
            ],
        }
    }

    /// The client's address in 16 bytes, an IPv4 address in the first four.
    pub fn client(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.words[0].to_ne_bytes());
        bytes[8..].copy_from_slice(&self.words[1].to_ne_bytes());
        bytes
    }

    /// The client's port and the service's port.
    pub fn ports(&self) -> (u16, u16) {
        let [a, b, c, d, ..] = self.words[2].to_be_bytes();
        (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
    }

    /// The lasting number of the virtual service.
    pub fn service(&self) -> u32 {
        let [.., a, b, c, d] = self.words[2].to_be_bytes();
        u32::from_be_bytes([a, b, c, d]) & !TEMPLATE
    }
}

/// How far a flow has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum FlowState {
    /// One packet was seen, which anybody could have forged.
    Unconfirmed = 2,
    /// More packets followed.
    Established = 3,
    /// The client sent FIN or RST.
    Closing = 4,
}

/// Never used; nothing is behind it in the order in which a set is searched.
const EMPTY: u64 = 0;
/// Being written, or expired: skip it, but search on.
const VACANT: u64 = 1;

/// An entry as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowRecord {
    /// Whose it is.
    pub key: FlowKey,
    /// How far it has come.
    pub state: FlowState,
    /// The lasting number of its real server.
    pub real_server: u32,
    /// Seconds until it expires.
    pub left_s: u32,
}

/// Word 3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Meta(u64);

impl Meta {
    #[inline]
    pub(super) fn new(version: u64, state: FlowState, expires_s: u32, real_server: u32) -> Self {
        Self::raw(version, state as u64, expires_s, real_server)
    }

    #[inline]
    fn raw(version: u64, state: u64, expires_s: u32, real_server: u32) -> Self {
        Self(
            version << VERSION_SHIFT
                | state << STATE_SHIFT
                | (u64::from(expires_s) & EXPIRY_MASK) << EXPIRY_SHIFT
                | u64::from(real_server) & REAL_SERVER_MASK,
        )
    }

    #[inline]
    pub(super) fn version(self) -> u64 {
        self.0 >> VERSION_SHIFT
    }

    /// The state, if there is an entry.
    #[inline]
    pub(super) fn state(self) -> Option<FlowState> {
        match self.0 >> STATE_SHIFT & STATE_MASK {
            2 => Some(FlowState::Unconfirmed),
            3 => Some(FlowState::Established),
            4 => Some(FlowState::Closing),
            _ => None,
        }
    }

    #[inline]
    pub(super) fn is_empty(self) -> bool {
        self.0 >> STATE_SHIFT & STATE_MASK == EMPTY
    }

    #[inline]
    pub(super) fn real_server(self) -> u32 {
        // Masked to 24 bits.
        u32::try_from(self.0 & REAL_SERVER_MASK).unwrap_or(0)
    }

    /// Seconds until it expires, 0 if it has. Times are compared modulo 2^22 seconds (48 days), of which 31 can be told;
    /// the sweep clears what has expired long before the other 17 are over.
    #[inline]
    pub(super) fn left_s(self, now_s: u32) -> u32 {
        let left = (self.0 >> EXPIRY_SHIFT).wrapping_sub(u64::from(now_s)) & EXPIRY_MASK;
        if left > u64::from(MAX_LIFE_S) { 0 } else { u32::try_from(left).unwrap_or(0) }
    }
}

/// A slot in memory that is shared with readers. All zero is an empty one.
#[repr(C, align(32))]
#[derive(Debug, Default)]
pub(super) struct Slot {
    key: [AtomicU64; 3],
    meta: AtomicU64,
}

impl Slot {
    /// Word 3, as the owner reads it.
    #[inline]
    pub(super) fn meta(&self) -> Meta {
        Meta(self.meta.load(Ordering::Relaxed))
    }

    /// Not 0 if there is no entry or its key is another, as the owner sees it. All words are compared at once: they are in
    /// one line.
    #[inline]
    pub(super) fn differs_from(&self, key: &FlowKey) -> u64 {
        let vacant = u64::from(self.meta().0 >> STATE_SHIFT & STATE_MASK <= VACANT);
        self.key.iter().zip(&key.words).fold(vacant, |all, (word, wanted)| all | word.load(Ordering::Relaxed) ^ wanted)
    }

    /// The owner gives the slot to a flow.
    #[inline]
    pub(super) fn replace(&self, key: &FlowKey, state: FlowState, expires_s: u32, real_server: u32) {
        let version = self.meta().version().wrapping_add(1) & VERSION_MASK;
        self.meta.store(Meta::raw(version, VACANT, 0, 0).0, Ordering::Relaxed);
        // Readers that see a word of the new key see that the slot was vacant.
        fence(Ordering::Release);
        for (word, new) in self.key.iter().zip(key.words) {
            word.store(new, Ordering::Relaxed);
        }
        self.meta.store(Meta::new(version, state, expires_s, real_server).0, Ordering::Release);
    }

    /// The owner changes everything but the key. Nothing is written where nothing changes, so a busy flow dirties its
    /// line once a second. Returns whether anything changed.
    #[inline]
    pub(super) fn update(&self, state: FlowState, expires_s: u32, real_server: u32) -> bool {
        let old = self.meta();
        let new = Meta::new(old.version(), state, expires_s, real_server);
        if new != old {
            self.meta.store(new.0, Ordering::Relaxed);
        }
        new != old
    }

    /// Whether it has what is kept of a client, as the owner sees it.
    #[inline]
    pub(super) fn has_template(&self) -> bool {
        self.key[2].load(Ordering::Relaxed) & u64::from(TEMPLATE) != 0
    }

    /// The owner clears the slot; it is not empty, since others may be behind it.
    #[inline]
    pub(super) fn vacate(&self) {
        self.meta.store(Meta::raw(self.meta().version(), VACANT, 0, 0).0, Ordering::Relaxed);
    }

    /// What any thread reads: `None` if there is no entry, or if it changed meanwhile.
    #[inline]
    pub(super) fn read(&self, now_s: u32) -> Option<FlowRecord> {
        let before = Meta(self.meta.load(Ordering::Acquire));
        let state = before.state()?;
        let words = [0, 1, 2].map(|at: usize| self.key[at].load(Ordering::Relaxed));
        // The key was read before word 3 is read again.
        fence(Ordering::Acquire);
        let after = self.meta();
        let left_s = after.left_s(now_s);
        if after.version() != before.version() || after.state().is_none() || left_s == 0 {
            return None;
        }
        Some(FlowRecord {
            key: FlowKey { words },
            state: after.state().unwrap_or(state),
            real_server: after.real_server(),
            left_s,
        })
    }
}
