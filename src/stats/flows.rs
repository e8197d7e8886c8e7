//! What the statistics document says of the workers' flow tables.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::counters::FlowCounters;
use crate::flow::{FlowReader, MemoryKind};

/// What flow tables did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FlowActivity {
    /// Flows that got an entry.
    pub new: u64,
    /// Flows that got none, because their part of the table was full of established ones; they go by their hash.
    pub without_room: u64,
    /// Unconfirmed or closing flows that gave way to another.
    pub evicted: u64,
    /// Frames that went by another worker's entry.
    pub peer_hits: u64,
    /// Frames that went by the service's table before its last change.
    pub previous_table_hits: u64,
    /// Fragments that went by their first fragment's entry.
    pub fragment_hits: u64,
    /// Fragments without such an entry, which went by the hash of their addresses.
    pub fragment_misses: u64,
    /// Frames whose real server was down or had no MAC address, and which took the second choice of the hash.
    pub second_choices: u64,
}

/// The memory of a flow table; constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FlowTableReport {
    /// Entries that it has room for. Two for each of `flows_per_worker` at least, so that its parts seldom fill.
    pub slots: usize,
    /// `huge` (reserved huge pages) or `usual` (pages that the kernel may join).
    #[schemars(with = "String", extend("enum" = ["huge", "usual"]))]
    pub memory: MemoryKind,
    /// Its bytes.
    pub bytes: usize,
}

impl FlowActivity {
    /// What a worker counted.
    pub(super) fn of(counters: &FlowCounters) -> Self {
        Self {
            new: counters.new.get(),
            without_room: counters.without_room.get(),
            evicted: counters.evicted.get(),
            peer_hits: counters.peer_hits.get(),
            previous_table_hits: counters.previous_table_hits.get(),
            fragment_hits: counters.fragment_hits.get(),
            fragment_misses: counters.fragment_misses.get(),
            second_choices: counters.second_choices.get(),
        }
    }

    /// The sum of two workers'.
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            new: self.new.wrapping_add(other.new),
            without_room: self.without_room.wrapping_add(other.without_room),
            evicted: self.evicted.wrapping_add(other.evicted),
            peer_hits: self.peer_hits.wrapping_add(other.peer_hits),
            previous_table_hits: self.previous_table_hits.wrapping_add(other.previous_table_hits),
            fragment_hits: self.fragment_hits.wrapping_add(other.fragment_hits),
            fragment_misses: self.fragment_misses.wrapping_add(other.fragment_misses),
            second_choices: self.second_choices.wrapping_add(other.second_choices),
        }
    }
}

impl FlowTableReport {
    /// Of a worker's table.
    pub(super) fn of(table: &FlowReader) -> Self {
        Self { slots: table.capacity(), memory: table.memory_kind(), bytes: table.bytes() }
    }
}
