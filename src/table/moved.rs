//! How far two forwarding tables differ in where they send new flows.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::{ForwardingTable, VirtualService};

/// Slots of a service that have another real server than before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Slots of the service.
    pub slots: u64,
    /// Those with another real server.
    pub moved: u64,
    /// The fewest that could have one, with the shares that the real servers have now.
    pub least: u64,
}

impl ForwardingTable {
    /// How the slots of `service`, one of this table, differ from those of the service in `before`. Tables of different
    /// sizes are compared at the middle of each slot of this one. A service that had no slots, or has none, moves none.
    pub fn moved_since(&self, service: &VirtualService, before: &Self, old: &VirtualService) -> Moved {
        let slots = service.table_size();
        let mut result = Moved { slots: slots as u64, ..Moved::default() };
        if old.table_size() == 0 || slots == 0 || Arc::ptr_eq(service.maglev(), old.maglev()) {
            return result;
        }
        // Slots gained less slots lost, by real server.
        let mut balance: HashMap<IpAddr, i64> = HashMap::new();
        for slot in 0..slots {
            // The middle of a slot, in the other table's slots; exact, as both sizes are below 2^24.
            let there = (2 * slot + 1) * old.table_size() / (2 * slots);
            let (now, then) = (self.owner_of(service, slot), before.owner_of(old, there));
            if let (Some(now), Some(then)) = (now, then)
                && now != then
            {
                result.moved += 1;
                *balance.entry(now).or_default() += 1;
                *balance.entry(then).or_default() -= 1;
            }
        }
        result.least = balance.into_values().map(|gained| u64::try_from(gained).unwrap_or(0)).sum();
        result
    }

    fn owner_of(&self, service: &VirtualService, slot: usize) -> Option<IpAddr> {
        let position = service.owner(slot)?;
        self.real_servers().get(position as usize).map(|real_server| real_server.address)
    }
}
