//! How the new flows of a `[[virtual_service]]` are given real servers.

use std::net::{IpAddr, Ipv4Addr};

use super::Check;
use crate::config::raw::RawVirtualService;
use crate::config::reader::{Field, WordOr, quoted};
use crate::config::{HashBy, MAX_TIMEOUT_S, Persistence, Scheduler};

/// The schedulers of LVS that are not here, so that their names are not taken for slips of the pen.
const OTHERS_OF_LVS: [(&str, &str); 8] = [
    ("lblc", "sh"),
    ("lblcr", "sh"),
    ("dh", "sh"),
    ("sed", "wlc"),
    ("nq", "wlc"),
    ("fo", "mh"),
    ("ovf", "wlc"),
    ("twos", "wlc"),
];

pub(super) struct Scheduling {
    pub(super) scheduler: Scheduler,
    pub(super) hash_by: HashBy,
    pub(super) persistence: Persistence,
    pub(super) persistence_timeout_s: Option<u32>,
    pub(super) persistence_netmask: Option<u8>,
}

pub(super) fn service(raw: &RawVirtualService<'_>, vip: Option<IpAddr>, check: Check<'_>) -> Scheduling {
    let scheduler = scheduler(raw.scheduler.as_ref(), check);
    let mut persistence = Persistence::default();
    let words = [("none", Persistence::None), ("client", Persistence::Client)];
    check.word(raw.persistence.as_ref(), &words, &mut persistence);
    let mut timeout_s = 0;
    check.number(raw.persistence_timeout_s.as_ref(), 1..=MAX_TIMEOUT_S.into(), &mut timeout_s);
    let persistence_timeout_s = (timeout_s > 0).then_some(timeout_s);
    let netmask = netmask(raw, vip, check);
    if let Some(field) = raw.persistence_netmask.as_ref().filter(|_| raw.persistence_timeout_s.is_none()) {
        check.refuse_with(field, "is for services with persistence_timeout_s only; set that or remove this".to_owned());
    }
    let whole = if vip.is_some_and(|vip| vip.is_ipv4()) { 32 } else { 128 };
    Scheduling {
        scheduler,
        hash_by: hash_by(raw, scheduler, persistence, check),
        persistence,
        persistence_timeout_s,
        persistence_netmask: persistence_timeout_s.map(|_| netmask.unwrap_or(whole)),
    }
}

fn scheduler(field: Option<&Field<&str>>, check: Check<'_>) -> Scheduler {
    let Some(field) = field else { return Scheduler::default() };
    if let Some((name, like)) = OTHERS_OF_LVS.iter().find(|(name, _)| *name == field.value) {
        let name = quoted(name);
        let message = format!(
            "{name} is a scheduler of LVS that pointsman does not have; use {}, of which \"{like}\" is the most like it",
            field.key.expects
        );
        check.refuse_with(field, message);
        return Scheduler::default();
    }
    let mut scheduler = Scheduler::default();
    check.word(Some(field), &Scheduler::ALL.map(|scheduler| (scheduler.name(), scheduler)), &mut scheduler);
    scheduler
}

/// What a flow is hashed by: as the file says, else the client where flows of a client are to stay together.
fn hash_by(raw: &RawVirtualService<'_>, scheduler: Scheduler, persistence: Persistence, check: Check<'_>) -> HashBy {
    let by_client =
        scheduler == Scheduler::Sh || persistence == Persistence::Client || raw.persistence_timeout_s.is_some();
    let mut hash_by = if by_client { HashBy::Client } else { HashBy::Flow };
    check.word(raw.hash_by.as_ref(), &[("flow", HashBy::Flow), ("client", HashBy::Client)], &mut hash_by);
    if persistence == Persistence::Client {
        if let Some(field) = raw.hash_by.as_ref().filter(|_| hash_by == HashBy::Flow) {
            let message = "contradicts persistence = \"client\", which means hash_by = \"client\"; remove one of them";
            check.refuse_with(field, message.to_owned());
        }
        if let Some(field) = raw.persistence.as_ref().filter(|_| !scheduler.is_hash()) {
            let name = quoted(scheduler.name());
            let message = format!(
                "\"client\" means that the client's address is hashed, and {name} does not hash; use \
                 persistence_timeout_s to keep clients at their real servers"
            );
            check.refuse_with(field, message);
        }
    }
    hash_by
}

/// Bits of a mask that is written as one or as their number.
fn netmask(raw: &RawVirtualService<'_>, vip: Option<IpAddr>, check: Check<'_>) -> Option<u8> {
    let field = raw.persistence_netmask.as_ref()?;
    let most = match vip? {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    };
    let (bits, shown) = match field.value {
        WordOr::Other(bits) => (u8::try_from(bits).ok(), bits.to_string()),
        WordOr::Word(word) => (word.parse().ok().and_then(|mask| mask_bits(mask, most)), quoted(word)),
    };
    let bits = bits.filter(|bits| (1..=most).contains(bits));
    if bits.is_none() {
        let family = if most == 32 { "IPv4" } else { "IPv6" };
        check.refuse(field, format_args!("{shown} is not a netmask of {family}"));
    }
    bits
}

fn mask_bits(mask: Ipv4Addr, most: u8) -> Option<u8> {
    let mask = mask.to_bits();
    let bits = u8::try_from(mask.leading_ones()).ok()?;
    (most == 32 && mask.leading_ones() + mask.trailing_zeros() == u32::BITS).then_some(bits)
}
