//! Who answers for each VIP: a VIP has one owner, whatever number of services it has.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;

use super::Check;
use crate::config::Announce;
use crate::config::error::Findings;
use crate::config::raw::RawVirtualService;
use crate::config::reader::quoted;

/// What `announce` may be.
pub(super) const WORDS: [(&str, Announce); 2] = [("kernel", Announce::Kernel), ("arp", Announce::Arp)];

/// What the services say of their VIPs, whose addresses are `vips`. One that says nothing goes by another of its VIP;
/// two that differ are a mistake.
pub(super) fn by_vip(
    raw: &[RawVirtualService<'_>],
    vips: &[Option<IpAddr>],
    findings: &Findings,
) -> HashMap<IpAddr, Announce> {
    let mut first: HashMap<IpAddr, (usize, Announce)> = HashMap::new();
    for (index, (raw, vip)) in raw.iter().zip(vips).enumerate() {
        let Some(field) = &raw.announce else { continue };
        let check = Check { place: &raw.place, findings };
        let mut announce = None;
        check.word(Some(field), &WORDS.map(|(word, announce)| (word, Some(announce))), &mut announce);
        let (Some(vip), Some(announce)) = (vip, announce) else { continue };
        match first.entry(*vip) {
            Entry::Vacant(vacant) => _ = vacant.insert((index, announce)),
            Entry::Occupied(of) if of.get().1 != announce => {
                let message = format!(
                    "{} contradicts virtual_service[{}], which has the same VIP {vip}; say the same in both, or in one",
                    quoted(field.value),
                    of.get().0
                );
                check.refuse_with(field, message);
            }
            Entry::Occupied(_) => {}
        }
    }
    first.into_iter().map(|(vip, (_, announce))| (vip, announce)).collect()
}
