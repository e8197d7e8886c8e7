//! What the XDP program would do with a frame, told in user space: for `replay`, which speaks for it, and as the oracle
//! that the compiled program is tested against. The rules are those of docs/classification.md.

use std::collections::{HashMap, VecDeque};

use crate::table::ServiceIndex;
use crate::wire::{self, Family, MacAddress, NoSubject, Shape, Subject, ethernet};

/// How long a first fragment that was passed to the kernel is remembered, in nanoseconds: the longer of the kernel's two
/// reassembly times, `ipfrag_time` (30 s) and `ip6frag_time` (60 s).
pub const PASSED_FRAGMENT_TTL_NS: u64 = 60_000_000_000;
/// Most first fragments that are remembered; the oldest make room.
pub const MAX_PASSED_FRAGMENTS: usize = 4096;

/// What becomes of a frame before any worker sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Classification {
    /// It goes to the AF_XDP socket of its queue.
    Redirect,
    /// It goes to the kernel, untouched.
    Pass(PassReason),
}

/// Why a frame is left to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PassReason {
    /// A header is cut short or contradicts itself.
    Malformed,
    /// It is sent to another MAC address.
    NotOurMac,
    /// It is neither IPv4 nor IPv6.
    NotIp,
    /// It belongs to no virtual service.
    NotAService,
    /// The first fragment of its datagram went to the kernel.
    FragmentOfPassed,
}

impl PassReason {
    /// The name that `replay` prints.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::NotOurMac => "not_our_mac",
            Self::NotIp => "not_ip",
            Self::NotAService => "not_a_service",
            Self::FragmentOfPassed => "fragment_of_passed",
        }
    }
}

/// Classifies frames one after the other.
#[derive(Debug, Default)]
pub struct Classifier {
    /// The MAC addresses that count as the director's own; empty for any.
    local_macs: Vec<MacAddress>,
    passed_fragments: PassedFragments,
}

impl Classifier {
    /// A classifier for an interface with these MAC addresses; with none, every destination counts as its own.
    pub fn new(local_macs: Vec<MacAddress>) -> Self {
        Self { local_macs, passed_fragments: PassedFragments::default() }
    }

    /// What becomes of `frame`, received at `now_ns`.
    pub fn classify(&mut self, frame: &[u8], services: &ServiceIndex, now_ns: u64) -> Classification {
        if frame.len() < ethernet::HEADER_LEN {
            return Classification::Pass(PassReason::Malformed);
        }
        let ours = |mac| self.local_macs.is_empty() || self.local_macs.contains(&mac);
        if !ethernet::destination(frame).is_some_and(ours) {
            return Classification::Pass(PassReason::NotOurMac);
        }
        let subject = match wire::subject(frame) {
            Ok(subject) => subject,
            Err(NoSubject::Malformed) => return Classification::Pass(PassReason::Malformed),
            Err(NoSubject::NotIp) => return Classification::Pass(PassReason::NotIp),
            Err(NoSubject::MalformedError { destination, family }) if services.is_vip(family, &destination) => {
                return Classification::Pass(PassReason::Malformed);
            }
            Err(_) => return Classification::Pass(PassReason::NotAService),
        };
        self.classify_subject(&subject, services, now_ns)
    }

    fn classify_subject(&mut self, subject: &Subject, services: &ServiceIndex, now_ns: u64) -> Classification {
        if services.first_of(subject.family, &subject.vip, subject.protocol).is_none() {
            return Classification::Pass(PassReason::NotAService);
        }
        let fragment = FragmentKey::of(subject);
        let has_service = services.find(subject.family, &subject.vip, subject.protocol, subject.service_port).is_some();
        match subject.shape {
            Shape::TruncatedQuote => Classification::Pass(PassReason::Malformed),
            Shape::LaterFragment if self.passed_fragments.contains(&fragment, now_ns) => {
                Classification::Pass(PassReason::FragmentOfPassed)
            }
            Shape::LaterFragment | Shape::QuotedFragment | Shape::Truncated => Classification::Redirect,
            Shape::TruncatedFragment => {
                self.passed_fragments.forget(&fragment);
                Classification::Redirect
            }
            Shape::FirstFragment if has_service => {
                self.passed_fragments.forget(&fragment);
                Classification::Redirect
            }
            Shape::FirstFragment => {
                self.passed_fragments.remember(fragment, now_ns);
                Classification::Pass(PassReason::NotAService)
            }
            Shape::Datagram | Shape::Quote if has_service => Classification::Redirect,
            Shape::Datagram | Shape::Quote => Classification::Pass(PassReason::NotAService),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct FragmentKey {
    source: [u8; 16],
    destination: [u8; 16],
    identification: u32,
    protocol: u8,
    family: Family,
}

impl FragmentKey {
    fn of(subject: &Subject) -> Self {
        Self {
            source: subject.client,
            destination: subject.vip,
            identification: subject.fragment_id,
            protocol: subject.protocol,
            family: subject.family,
        }
    }
}

/// First fragments that went to the kernel, so that the rest of their datagrams follow.
#[derive(Debug, Default)]
struct PassedFragments {
    passed_at_ns: HashMap<FragmentKey, u64>,
    order: VecDeque<FragmentKey>,
}

impl PassedFragments {
    fn contains(&self, key: &FragmentKey, now_ns: u64) -> bool {
        self.passed_at_ns.get(key).is_some_and(|at| now_ns.saturating_sub(*at) <= PASSED_FRAGMENT_TTL_NS)
    }

    fn remember(&mut self, key: FragmentKey, now_ns: u64) {
        if self.passed_at_ns.insert(key, now_ns).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > MAX_PASSED_FRAGMENTS
            && let Some(oldest) = self.order.pop_front()
        {
            self.passed_at_ns.remove(&oldest);
        }
    }

    fn forget(&mut self, key: &FragmentKey) {
        if self.passed_at_ns.remove(key).is_some() {
            self.order.retain(|kept| kept != key);
        }
    }
}
