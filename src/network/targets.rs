//! What is known of the real servers that are watched, and when to ask for them next. Pure: no socket, no clock.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::neighbor::{Neighbor, NeighborState};
use crate::wire::MacAddress;

/// An address on the link of a device (by index): whom to watch.
pub type Target = (u32, IpAddr);

/// First pause before a target without a MAC address is asked for again. The kernel itself asks three times, a second
/// apart, and then calls the entry failed (net.ipv4.neigh.*.mcast_solicit, retrans_time_ms).
const FIRST_RETRY: Duration = Duration::from_secs(2);
/// The pause doubles up to this: so long it takes at most until a real server that came up in silence is found.
const LAST_RETRY: Duration = Duration::from_secs(10);
/// How often a known target is marked as used. Well below gc_stale_time (60 s), after which the kernel may drop an
/// unused entry, and below the least reachable time (15 s = base_reachable_time / 2), so that every expiry is
/// followed soon by a probe.
const REFRESH: Duration = Duration::from_secs(10);

/// A change of a target's usable MAC address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MacChange {
    pub(super) target: Target,
    pub(super) mac: Option<MacAddress>,
}

/// All watched targets.
#[derive(Debug, Default)]
pub(super) struct TargetTable {
    targets: HashMap<Target, Knowledge>,
}

#[derive(Debug)]
struct Knowledge {
    /// The usable MAC address, as reported last.
    mac: Option<MacAddress>,
    /// An administrator's entry, which asking would spoil.
    is_static: bool,
    next_attempt: Instant,
    retry: Duration,
    /// The error of the last attempt, so that one that persists is told once.
    failure: Option<i32>,
}

impl Knowledge {
    fn new(now: Instant) -> Self {
        Self { mac: None, is_static: false, next_attempt: now, retry: FIRST_RETRY, failure: None }
    }

    fn ask_at_once(&mut self, now: Instant) {
        self.next_attempt = now;
        self.retry = FIRST_RETRY;
    }
}

impl TargetTable {
    /// Watches exactly `targets` from now on. What is known of those that stay is kept; a new one starts unknown.
    pub(super) fn replace(&mut self, targets: &[Target], now: Instant) {
        let wanted: HashSet<&Target> = targets.iter().collect();
        self.targets.retain(|target, _| wanted.contains(target));
        for target in targets {
            self.targets.entry(*target).or_insert_with(|| Knowledge::new(now));
        }
    }

    /// Takes in one entry of the neighbour table, or its deletion.
    pub(super) fn observe(&mut self, neighbor: &Neighbor, now: Instant) -> Option<MacChange> {
        let target = (neighbor.device_index, neighbor.address);
        let known = self.targets.get_mut(&target)?;
        let was_static = std::mem::replace(&mut known.is_static, neighbor.state == NeighborState::Static);
        let mac = neighbor.usable_mac();
        if known.mac == mac {
            if was_static && !known.is_static {
                known.ask_at_once(now);
            }
            return None;
        }
        known.mac = mac;
        match mac {
            Some(_) => known.next_attempt = now + REFRESH,
            // A real server that changed its MAC address in silence answers the broadcast of a new resolution.
            None => known.ask_at_once(now),
        }
        Some(MacChange { target, mac })
    }

    /// Takes in a whole neighbour table: a target that is not in it has no entry.
    pub(super) fn reconcile(&mut self, table: &[Neighbor], now: Instant) -> Vec<MacChange> {
        let mut changes: Vec<MacChange> = table.iter().filter_map(|neighbor| self.observe(neighbor, now)).collect();
        let present: HashSet<Target> = table.iter().map(|n| (n.device_index, n.address)).collect();
        let absent: Vec<Target> = self.targets.keys().filter(|target| !present.contains(target)).copied().collect();
        for (device_index, address) in absent {
            let gone = Neighbor { device_index, address, state: NeighborState::Unusable, mac: None };
            changes.extend(self.observe(&gone, now));
        }
        changes
    }

    /// A device can carry frames again: whoever was unreachable through it is asked for at once.
    pub(super) fn device_came_up(&mut self, device_index: u32, now: Instant) {
        let on_device = self.targets.iter_mut().filter(|((device, _), _)| *device == device_index);
        on_device.for_each(|(_, known)| known.ask_at_once(now));
    }

    /// The targets to ask the kernel for now; each is due again later.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Target> {
        let mut due = Vec::new();
        for (target, known) in &mut self.targets {
            if known.is_static || known.next_attempt > now {
                continue;
            }
            due.push(*target);
            if known.mac.is_some() {
                known.next_attempt = now + REFRESH;
            } else {
                known.next_attempt = now + known.retry;
                known.retry = LAST_RETRY.min(known.retry * 2);
            }
        }
        due
    }

    /// When [`Self::take_due`] has something next; `None` while there is nobody to ask for.
    pub(super) fn next_attempt(&self) -> Option<Instant> {
        self.targets.values().filter(|known| !known.is_static).map(|known| known.next_attempt).min()
    }

    /// Notes how asking went (`None`: well, otherwise an errno); whether that is a failure not noted before.
    pub(super) fn is_new_failure(&mut self, target: Target, failure: Option<i32>) -> bool {
        let Some(known) = self.targets.get_mut(&target) else { return false };
        std::mem::replace(&mut known.failure, failure) != failure && failure.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: MacAddress = MacAddress::new([2, 0, 0, 0, 0, 0xa]);
    const B: MacAddress = MacAddress::new([2, 0, 0, 0, 0, 0xb]);

    fn target(last: u8) -> Target {
        (3, IpAddr::from([10, 0, 0, last]))
    }

    fn neighbor(last: u8, state: NeighborState, mac: Option<MacAddress>) -> Neighbor {
        let (device_index, address) = target(last);
        Neighbor { device_index, address, state, mac }
    }

    fn table_of(targets: &[Target], now: Instant) -> TargetTable {
        let mut table = TargetTable::default();
        table.replace(targets, now);
        table
    }

    #[test]
    fn only_changes_of_the_usable_mac_are_told() {
        use NeighborState::{Dynamic, Static, Unusable};
        let now = Instant::now();
        let mut table = table_of(&[target(1)], now);
        let steps = [
            (Unusable, None, None),
            (Dynamic, Some(A), Some(Some(A))),
            (Dynamic, Some(A), None),
            (Dynamic, Some(B), Some(Some(B))),
            (Static, Some(B), None),
            (Unusable, Some(B), Some(None)),
            (Unusable, None, None),
            (Dynamic, Some(B), Some(Some(B))),
        ];
        for (step, (state, mac, told)) in steps.into_iter().enumerate() {
            let change = table.observe(&neighbor(1, state, mac), now);
            assert_eq!(change, told.map(|mac| MacChange { target: target(1), mac }), "step {step}");
        }
        assert_eq!(table.observe(&neighbor(2, Dynamic, Some(A)), now), None, "not watched");
    }

    #[test]
    fn asking_backs_off_and_a_loss_asks_at_once() {
        let start = Instant::now();
        let mut table = table_of(&[target(1)], start);
        let mut now = start;
        let mut pauses = Vec::new();
        for _ in 0..6 {
            assert_eq!(table.take_due(now), [target(1)]);
            let next = table.next_attempt().unwrap();
            assert!(table.take_due(next - Duration::from_millis(1)).is_empty());
            pauses.push((next - now).as_secs());
            now = next;
        }
        assert_eq!(pauses, [2, 4, 8, 10, 10, 10]);

        table.observe(&neighbor(1, NeighborState::Dynamic, Some(A)), now);
        assert_eq!(table.next_attempt(), Some(now + REFRESH));
        table.observe(&neighbor(1, NeighborState::Unusable, None), now);
        assert_eq!(table.take_due(now), [target(1)]);
        assert_eq!(table.next_attempt(), Some(now + FIRST_RETRY), "the back-off starts anew");
        table.take_due(now + FIRST_RETRY);
        table.device_came_up(9, now);
        assert!(table.take_due(now).is_empty(), "another device");
        table.device_came_up(3, now);
        assert_eq!(table.take_due(now), [target(1)]);
    }

    #[test]
    fn an_administrators_entry_is_never_asked_for() {
        let now = Instant::now();
        let mut table = table_of(&[target(1)], now);
        table.observe(&neighbor(1, NeighborState::Static, Some(A)), now);
        assert_eq!(table.next_attempt(), None);
        assert!(table.take_due(now + REFRESH * 10).is_empty());
        table.observe(&neighbor(1, NeighborState::Dynamic, Some(A)), now);
        assert_eq!(table.take_due(now), [target(1)], "dynamic again");
    }

    #[test]
    fn new_targets_start_unknown_and_old_ones_stay_known() {
        let now = Instant::now();
        let mut table = table_of(&[target(1), target(2)], now);
        let both = [neighbor(1, NeighborState::Dynamic, Some(A)), neighbor(2, NeighborState::Dynamic, Some(B))];
        assert_eq!(table.reconcile(&both, now).len(), 2);
        table.replace(&[target(2)], now);
        table.replace(&[target(1), target(2)], now);
        assert_eq!(table.reconcile(&both, now), [MacChange { target: target(1), mac: Some(A) }]);
    }

    #[test]
    fn a_failure_is_new_once() {
        let mut table = table_of(&[target(1)], Instant::now());
        let told: Vec<bool> =
            [None, Some(19), Some(19), Some(105), None, Some(19)].map(|f| table.is_new_failure(target(1), f)).into();
        assert_eq!(told, [false, true, false, true, false, true]);
    }

    proptest! {
        /// Whatever events were lost, one reading of the whole table makes what was told agree with it.
        #[test]
        fn a_reading_repairs_any_loss(
            before in prop::collection::btree_map(0u8..6, any::<bool>(), 0..6),
            after in prop::collection::btree_map(0u8..6, any::<bool>(), 0..6),
        ) {
            let now = Instant::now();
            let entry = |(last, is_a): (&u8, &bool)| {
                neighbor(*last, NeighborState::Dynamic, Some(if *is_a { A } else { B }))
            };
            let watched: Vec<Target> = (0..4).map(target).collect();
            let mut table = table_of(&watched, now);
            let mut told: HashMap<Target, MacAddress> = HashMap::new();
            for snapshot in [&before, &after] {
                let entries: Vec<Neighbor> = snapshot.iter().map(entry).collect();
                for change in table.reconcile(&entries, now) {
                    match change.mac {
                        Some(mac) => told.insert(change.target, mac),
                        None => told.remove(&change.target),
                    };
                }
            }
            let expected: HashMap<Target, MacAddress> = after.iter().map(entry)
                .filter(|n| watched.contains(&(n.device_index, n.address)))
                .map(|n| ((n.device_index, n.address), n.mac.unwrap()))
                .collect();
            prop_assert_eq!(told, expected);
        }
    }
}
