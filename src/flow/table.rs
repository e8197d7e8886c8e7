//! The table: sets of eight slots, four cache lines, found by the flow's hash.
//!
//! A flow is stored in the first free slot of its set, in an order that starts at a line of its own, so that a hit
//! touches one line in the common case. What is in the way is judged by its worth: a vacant or expired slot is free, then
//! the unconfirmed flow that would expire first gives way, and then the closing one. An established flow never does.
//! Unconfirmed flows have at most half of a set, so a flood of packets that anybody can forge has at most half of the
//! table and evicts none but its own. What finds no slot is forwarded by its hash, as if there were no table.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::entry::{FlowKey, FlowRecord, FlowState, Meta, Slot};
use super::memory::{Line, Slots, WAYS_PER_LINE};
use crate::counters::connections::ConnectionKind;
use crate::prefetch::prefetch;

pub use super::memory::MemoryKind;

const WAYS: usize = 8;
const LINES: usize = WAYS / WAYS_PER_LINE;
/// Bits of a hash that tell the set, and the shift to those that tell the line.
const SET_BITS: u64 = (1 << LINE_SHIFT) - 1;
const LINE_SHIFT: u32 = 38;
/// Most unconfirmed flows of a set.
const MOST_UNCONFIRMED: usize = WAYS / 2;

/// What became of a flow that was to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It is stored.
    Stored,
    /// It is stored, and a flow of less worth is not any more.
    Evicting(FlowState),
    /// Its set is full of established flows.
    NoRoom,
}

/// An entry that was there and is not any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone {
    /// What it was.
    pub state: FlowState,
    /// The lasting number of its real server.
    pub real_server: u32,
    /// What it counted as.
    pub kind: ConnectionKind,
}

/// A slot for a new entry.
#[derive(Debug)]
pub struct Room {
    at: usize,
    /// The flow that gave way to it, if one did.
    pub evicted: Option<Gone>,
    /// What had expired in it and was counted still.
    pub expired: Option<Gone>,
}

/// Flows of a table, by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct FlowCounts {
    /// One packet was seen.
    pub unconfirmed: u64,
    /// More packets followed.
    pub established: u64,
    /// FIN or RST was seen.
    pub closing: u64,
}

/// A flow table, as its one writer has it.
#[derive(Debug)]
pub struct FlowTable {
    shared: Arc<Slots>,
    set_mask: usize,
    next_swept: usize,
}

/// A flow table, as any other thread has it.
#[derive(Clone, Debug)]
pub struct FlowReader {
    shared: Arc<Slots>,
    set_mask: usize,
}

impl FlowTable {
    /// A table for `flows` flows: twice as many slots, rounded up to a power of two, so that sets seldom fill. That is 64
    /// bytes for each flow.
    ///
    /// # Errors
    /// The memory cannot be had.
    pub fn new(flows: usize) -> io::Result<Self> {
        let sets = flows.saturating_mul(2).div_ceil(WAYS).checked_next_power_of_two();
        let sets = sets.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "too many flows"))?;
        let shared = Slots::new(sets.saturating_mul(WAYS))?;
        Ok(Self { shared: Arc::new(shared), set_mask: sets - 1, next_swept: 0 })
    }

    /// A reader for another thread.
    pub fn reader(&self) -> FlowReader {
        FlowReader { shared: Arc::clone(&self.shared), set_mask: self.set_mask }
    }

    /// What pages it lies in.
    pub fn memory_kind(&self) -> MemoryKind {
        self.shared.kind()
    }

    /// Has the processor fetch the line where a flow of this hash most likely is.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        if let Some(line) = self.shared.as_lines().get(Home::of(hash, self.set_mask).line(0)) {
            prefetch(line);
        }
    }

    /// Looks at the line that [`Self::prefetch`] has fetched, and has the others of the set fetched if the flow is not in
    /// it. Returns where it most likely is.
    #[inline(always)]
    pub fn look_ahead(&self, hash: u64, key: &FlowKey) -> Likely {
        let (all, home) = (self.shared.as_lines(), Home::of(hash, self.set_mask));
        let at = home.line(0);
        if let Some(line) = all.get(at)
            && let Some((slot, way)) = in_line(line, key)
        {
            return Likely { at: at * WAYS_PER_LINE + way, meta: slot.meta() };
        }
        (1..LINES).filter_map(|line| all.get(home.line(line))).for_each(prefetch);
        Likely::default()
    }

    /// The entry of the flow that was looked up, if it is where it was seen, and still this flow's. To be asked before the
    /// table is changed so often that a slot could have had 32,768 flows meanwhile.
    #[inline(always)]
    pub fn at(&self, likely: Likely, now_s: u32) -> Option<Found> {
        let slot = self.shared.as_slice().get(likely.at)?;
        // A slot that is given to another flow has another version.
        if slot.meta().version() == likely.meta.version() { slot.found(likely.at, now_s) } else { None }
    }

    /// The flow's entry.
    #[inline]
    pub fn find(&self, hash: u64, key: &FlowKey, now_s: u32) -> Option<Found> {
        let (all, home) = (self.shared.as_lines(), Home::of(hash, self.set_mask));
        for at in (0..LINES).map(|line| home.line(line)) {
            let line = all.get(at)?;
            if let Some((slot, way)) = in_line(line, key) {
                return slot.found(at * WAYS_PER_LINE + way, now_s);
            }
            // Nothing of this flow is ever stored behind an empty slot.
            if line[WAYS_PER_LINE - 1].meta().is_empty() {
                return None;
            }
        }
        None
    }

    /// Changes an entry that was just found, and only before anything else is stored.
    ///
    /// Returns whether that makes any difference, a later expiry included.
    #[inline]
    pub fn update(&mut self, found: &Found, now_s: u32, change: Change) -> bool {
        let slot = self.shared.as_slice().get(found.at);
        slot.is_some_and(|slot| slot.update(change.state, now_s.wrapping_add(change.life_s), change.real_server))
    }

    /// Stores a flow that has no entry.
    pub fn insert(&mut self, hash: u64, key: &FlowKey, now_s: u32, new: Change) -> Inserted {
        let Some(room) = self.make_room(hash, now_s, new.state) else { return Inserted::NoRoom };
        self.fill(&room, key, now_s, new);
        room.evicted.map_or(Inserted::Stored, |gone| Inserted::Evicting(gone.state))
    }

    /// Stores a flow in the room that was just made for it.
    pub fn fill(&mut self, room: &Room, key: &FlowKey, now_s: u32, new: Change) {
        if let Some(slot) = self.shared.as_slice().get(room.at) {
            slot.replace(key, new.state, now_s.wrapping_add(new.life_s), new.real_server);
        }
    }

    /// Makes room for a flow that has no entry and is to begin with `state`, if its set has any. What was in the way is
    /// gone, whether the room is used or not.
    pub fn make_room(&mut self, hash: u64, now_s: u32, state: FlowState) -> Option<Room> {
        let all = self.shared.as_slice();
        let mut free = None;
        let mut unconfirmed: Option<(u32, usize)> = None;
        let mut closing: Option<(u32, usize)> = None;
        let mut unconfirmed_count = 0;
        for slot in places(self.set_mask, hash) {
            let meta = all.get(slot)?.meta();
            let left_s = meta.left_s(now_s);
            match meta.state().filter(|_| left_s > 0) {
                None => {
                    free.get_or_insert(slot);
                }
                Some(FlowState::Unconfirmed) => {
                    unconfirmed_count += 1;
                    if unconfirmed.is_none_or(|(least, _)| left_s < least) {
                        unconfirmed = Some((left_s, slot));
                    }
                }
                Some(FlowState::Closing) => {
                    if closing.is_none_or(|(least, _)| left_s < least) {
                        closing = Some((left_s, slot));
                    }
                }
                Some(FlowState::Established) => {}
            }
        }
        let full_share = state == FlowState::Unconfirmed && unconfirmed_count >= MOST_UNCONFIRMED;
        let (at, victim) = match (free, unconfirmed, closing) {
            (Some(slot), _, _) if !full_share => (slot, None),
            // The search ends at an empty slot, so nothing may be stored behind one.
            (free, Some((_, victim)), _) => (free.unwrap_or(victim), Some(victim)),
            (_, _, Some((_, victim))) => (victim, Some(victim)),
            _ => return None,
        };
        let evicted = victim.and_then(|victim| all.get(victim)?.clear());
        let expired = all.get(at)?.clear();
        Some(Room { at, evicted, expired })
    }

    /// Clears up to `slots` slots that have expired, going on where the last call ended, and tells `gone` of them.
    /// Expired flows are found out without this; it keeps times from wrapping, and counts of what is there true.
    #[inline]
    pub fn sweep(&mut self, slots: usize, now_s: u32, mut gone: impl FnMut(Gone)) {
        let all = self.shared.as_slice();
        for _ in 0..slots {
            if let Some(slot) = all.get(self.next_swept) {
                let meta = slot.meta();
                if meta.state().is_some() && meta.left_s(now_s) == 0 {
                    slot.clear().into_iter().for_each(&mut gone);
                }
            }
            self.next_swept = if self.next_swept + 1 >= all.len() { 0 } else { self.next_swept + 1 };
        }
    }
}

/// Where an entry most likely is, and what it was when it was seen there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Likely {
    at: usize,
    meta: Meta,
}

impl Likely {
    /// The lasting number of its real server; any number if there is no entry.
    #[inline]
    pub fn real_server(self) -> u32 {
        self.meta.real_server()
    }
}

impl Default for Likely {
    /// Nowhere.
    fn default() -> Self {
        Self { at: usize::MAX, meta: Meta::default() }
    }
}

/// An entry, as its owner found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    at: usize,
    /// How far the flow has come.
    pub state: FlowState,
    /// The lasting number of its real server.
    pub real_server: u32,
}

impl Slot {
    /// The owner clears it. Returns what was in it, expired or not; one that is empty stays so.
    #[inline]
    fn clear(&self) -> Option<Gone> {
        let meta = self.meta();
        let state = meta.state()?;
        let kind = connection_kind(state, self.has_template());
        self.vacate();
        Some(Gone { state, real_server: meta.real_server(), kind })
    }

    /// What the owner found, if it has not expired.
    #[inline(always)]
    fn found(&self, at: usize, now_s: u32) -> Option<Found> {
        let meta = self.meta();
        let state = meta.state().filter(|_| meta.left_s(now_s) > 0)?;
        Some(Found { at, state, real_server: meta.real_server() })
    }
}

/// What an entry in this state counts as.
#[inline]
pub fn connection_kind(state: FlowState, is_template: bool) -> ConnectionKind {
    match state {
        _ if is_template => ConnectionKind::Persistent,
        FlowState::Established => ConnectionKind::Active,
        FlowState::Unconfirmed | FlowState::Closing => ConnectionKind::Inactive,
    }
}

/// What an entry is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its state.
    pub state: FlowState,
    /// Seconds until it expires without a further packet.
    pub life_s: u32,
    /// The lasting number of its real server.
    pub real_server: u32,
}

impl FlowReader {
    /// The flow's entry.
    #[inline]
    pub fn get(&self, hash: u64, key: &FlowKey, now_s: u32) -> Option<FlowRecord> {
        let all = self.shared.as_slice();
        places(self.set_mask, hash).find_map(|at| all.get(at)?.read(now_s).filter(|record| record.key == *key))
    }

    /// All flows. Those that come or go meanwhile may or may not be among them. Clients that are kept somewhere are no
    /// flows.
    pub fn iter(&self, now_s: u32) -> impl Iterator<Item = FlowRecord> + '_ {
        self.in_slots(0..self.capacity(), now_s).filter(|record| !record.key.is_template())
    }

    /// The entries in a range of slots, flows and clients, for a reader that goes through a large table bit by bit. Slots
    /// behind [`Self::capacity`] have none.
    pub fn in_slots(&self, slots: Range<usize>, now_s: u32) -> impl Iterator<Item = FlowRecord> + '_ {
        let all = self.shared.as_slice();
        let end = slots.end.min(all.len());
        all.get(slots.start.min(end)..end).unwrap_or(&[]).iter().filter_map(move |slot| slot.read(now_s))
    }

    /// Slots of the table.
    pub fn capacity(&self) -> usize {
        self.shared.as_slice().len()
    }

    /// Bytes of memory that the table takes.
    pub fn bytes(&self) -> usize {
        self.shared.bytes()
    }

    /// What pages it lies in.
    pub fn memory_kind(&self) -> MemoryKind {
        self.shared.kind()
    }

    /// How many flows there are. Reads the whole table.
    pub fn count(&self, now_s: u32) -> FlowCounts {
        let mut counts = FlowCounts::default();
        for record in self.iter(now_s) {
            match record.state {
                FlowState::Unconfirmed => counts.unconfirmed += 1,
                FlowState::Established => counts.established += 1,
                FlowState::Closing => counts.closing += 1,
            }
        }
        counts
    }
}

/// Where a flow may be: the lines of its set, in an order of its own.
#[derive(Clone, Copy)]
struct Home {
    set: usize,
    /// Below [`LINES`].
    first_line: usize,
}

impl Home {
    #[inline]
    fn of(hash: u64, set_mask: usize) -> Self {
        // The Maglev slot comes from the hash's upper 24 bits, so the set and the line come from the lower ones.
        let [set, line] = [hash & SET_BITS, hash >> LINE_SHIFT].map(|bits| usize::try_from(bits).unwrap_or(0));
        Self { set: set & set_mask, first_line: line % LINES }
    }

    /// The line that is searched as number `line`.
    #[inline]
    fn line(self, line: usize) -> usize {
        self.set * LINES + (self.first_line ^ line)
    }
}

/// The slots where a flow of this hash may be, in the order in which they are searched.
#[inline]
fn places(set_mask: usize, hash: u64) -> impl Iterator<Item = usize> {
    let home = Home::of(hash, set_mask);
    (0..LINES).map(move |line| home.line(line) * WAYS_PER_LINE).flat_map(|first| first..first + WAYS_PER_LINE)
}

/// The slot of a line that has this key, as the owner sees it. Which of the two it is nobody can foresee, so that is
/// computed and not branched on.
#[inline(always)]
fn in_line<'a>(line: &'a Line, key: &FlowKey) -> Option<(&'a Slot, usize)> {
    let (of_first, of_second) = (line[0].differs_from(key), line[1].differs_from(key));
    let way = usize::from(of_first != 0);
    (of_first == 0 || of_second == 0).then(|| (&line[way], way))
}

#[cfg(test)]
mod tests {
    use super::super::MAX_LIFE_S;
    use super::*;
    use crate::wire::{Family, Shape, Subject};
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn key(number: u32) -> FlowKey {
        let mut client = [0; 16];
        client[..4].copy_from_slice(&number.to_be_bytes());
        client[8..12].copy_from_slice(&(!number).to_be_bytes());
        let subject = Subject {
            client,
            vip: [0; 16],
            client_port: (number % 60_000) as u16,
            service_port: 80,
            protocol: 6,
            family: Family::V6,
            shape: Shape::Datagram,
            fragment_id: 0,
            l3_offset: 0,
            l4_offset: 0,
            l4_len: 0,
        };
        FlowKey::flow(&subject, 7)
    }

    /// Two flows share a hash now and then, and many a set.
    fn hash(number: u32) -> u64 {
        u64::from(number / 2).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn change(state: FlowState, life_s: u32, real_server: u32) -> Change {
        Change { state, life_s, real_server }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u32, FlowState, u32, u32),
        Update(u32, FlowState, u32, u32),
        Pass(u32),
        Sweep(usize),
    }

    fn state() -> impl Strategy<Value = FlowState> {
        prop::sample::select(vec![FlowState::Unconfirmed, FlowState::Established, FlowState::Closing])
    }

    fn step() -> impl Strategy<Value = Step> {
        let flow = 0u32..100;
        prop_oneof![
            6 => (flow.clone(), state(), 1u32..50, 0u32..9).prop_map(|(f, s, l, r)| Step::Insert(f, s, l, r)),
            3 => (flow, state(), 1u32..50, 0u32..9).prop_map(|(f, s, l, r)| Step::Update(f, s, l, r)),
            1 => (0u32..20).prop_map(Step::Pass),
            1 => (0usize..40).prop_map(Step::Sweep),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn agrees_with_a_map_but_for_what_it_says_it_evicts(
            steps in prop::collection::vec(step(), 0..200),
            start in prop::sample::select(vec![0u32, 1 << 22, u32::MAX - 30]),
        ) {
            let mut table = FlowTable::new(16).unwrap();
            let reader = table.reader();
            let mut model: HashMap<u32, (FlowState, u32, u32)> = HashMap::new();
            let mut now_s = start;
            let mut passed = 0;
            for step in steps {
                match step {
                    Step::Insert(flow, state, life, server) => {
                        if table.find(hash(flow), &key(flow), now_s).is_some() {
                            continue;
                        }
                        let outcome = table.insert(hash(flow), &key(flow), now_s, change(state, life, server));
                        if let Inserted::Evicting(evicted) = outcome {
                            prop_assert_ne!(evicted, FlowState::Established);
                            model.retain(|f, (s, until, _)| {
                                *s != evicted || *until <= passed || table.find(hash(*f), &key(*f), now_s).is_some()
                            });
                        }
                        if outcome != Inserted::NoRoom {
                            model.insert(flow, (state, passed + life, server));
                        }
                    }
                    Step::Update(flow, state, life, server) => {
                        if let Some(found) = table.find(hash(flow), &key(flow), now_s) {
                            table.update(&found, now_s, change(state, life, server));
                        }
                        if let Some(entry) = model.get_mut(&flow)
                            && entry.1 > passed
                        {
                            *entry = (state, passed + life, server);
                        }
                    }
                    Step::Pass(seconds) => {
                        passed += seconds;
                        now_s = now_s.wrapping_add(seconds);
                    }
                    Step::Sweep(slots) => table.sweep(slots, now_s, |_| {}),
                }
                for flow in 0..100 {
                    let expected = model.get(&flow).filter(|(_, until, _)| *until > passed);
                    let read = reader.get(hash(flow), &key(flow), now_s);
                    let seen = read.map(|record| (record.state, record.left_s + passed, record.real_server));
                    prop_assert_eq!(seen.as_ref(), expected, "flow {}", flow);
                    let found = table.find(hash(flow), &key(flow), now_s);
                    prop_assert_eq!(
                        found.map(|found| (found.state, found.real_server)),
                        read.map(|record| (record.state, record.real_server))
                    );
                    let likely = table.look_ahead(hash(flow), &key(flow));
                    if likely != Likely::default() {
                        prop_assert_eq!(table.at(likely, now_s), found);
                    }
                }
                let counts = reader.count(now_s);
                prop_assert!(counts.unconfirmed <= reader.capacity() as u64);
            }
        }
    }

    #[test]
    fn an_entry_lives_for_31_days_and_is_gone_for_as_long_as_a_sweep_may_take() {
        for start in [0, (1 << 22) - 100, u32::MAX - 100] {
            let mut table = FlowTable::new(16).unwrap();
            let entry = change(FlowState::Established, MAX_LIFE_S, 0xff_ffff);
            table.insert(hash(1), &key(1), start, entry);
            let left = |after_s: u32| {
                let record = table.reader().get(hash(1), &key(1), start.wrapping_add(after_s));
                record.map(|record| (record.state, record.left_s, record.real_server))
            };
            assert_eq!(left(0), Some((FlowState::Established, MAX_LIFE_S, 0xff_ffff)));
            assert_eq!(left(MAX_LIFE_S - 1), Some((FlowState::Established, 1, 0xff_ffff)));
            for days_later in [0, 1, 10, 17] {
                assert_eq!(left(MAX_LIFE_S + days_later * 86_400), None, "{days_later} days later");
            }
        }
    }

    #[test]
    fn a_flood_of_unconfirmed_flows_has_at_most_half_of_the_table_and_evicts_no_other() {
        let mut table = FlowTable::new(1 << 12).unwrap();
        let reader = table.reader();
        let established: Vec<u32> = (0..2000)
            .filter(|flow| {
                table.insert(hash(*flow), &key(*flow), 0, change(FlowState::Established, 900, 1)) == Inserted::Stored
            })
            .collect();
        assert!(established.len() > 1990, "{}", established.len());
        for flow in 10_000..200_000 {
            table.insert(hash(flow), &key(flow), 1, change(FlowState::Unconfirmed, 30, 2));
        }
        let counts = reader.count(1);
        assert_eq!(counts.established, established.len() as u64);
        assert!(counts.unconfirmed <= reader.capacity() as u64 / 2, "{counts:?}");
        for flow in established {
            assert_eq!(table.find(hash(flow), &key(flow), 1).map(|found| found.real_server), Some(1));
        }
    }

    #[test]
    fn readers_never_see_a_mixture() {
        let mut table = FlowTable::new(4).unwrap();
        let reader = table.reader();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                let (reader, stop) = (&reader, &stop);
                scope.spawn(move || {
                    let mut seen = 0u64;
                    while !stop.load(Ordering::Relaxed) {
                        for record in reader.iter(0) {
                            // Each flow's real server is made from its key.
                            let number = u32::from_be_bytes(record.key.client()[..4].try_into().unwrap());
                            assert_eq!(record.key, key(number));
                            assert_eq!(record.real_server, number % 1000);
                            seen += 1;
                        }
                    }
                    assert!(seen > 0);
                });
            }
            for number in 0..2_000_000 {
                table.insert(hash(number), &key(number), 0, change(FlowState::Unconfirmed, 30, number % 1000));
            }
            stop.store(true, Ordering::Relaxed);
        });
    }
}
