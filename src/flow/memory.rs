#![allow(unsafe_code, reason = "a mapping of zero bytes is seen as slots")]
//! The memory of a flow table: mapped once, in huge pages where there are any.

use std::io;

use memmap2::{Advice, MmapMut, MmapOptions};

use super::entry::Slot;

/// Slots of a cache line.
pub(super) const WAYS_PER_LINE: usize = 2;

/// What is fetched at once.
pub(super) type Line = [Slot; WAYS_PER_LINE];

/// What pages a table lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryKind {
    /// Reserved huge pages (`vm.nr_hugepages`).
    Huge,
    /// Pages of the usual size, which the kernel may join (transparent huge pages).
    Usual,
}

/// Slots in a mapping of their own, all empty at first.
#[derive(Debug)]
pub(super) struct Slots {
    memory: MmapMut,
    /// How many lines that is.
    lines: usize,
    kind: MemoryKind,
}

impl Slots {
    /// Maps and touches memory for `count` slots, an even number.
    pub(super) fn new(count: usize) -> io::Result<Self> {
        let lines = count / WAYS_PER_LINE;
        let bytes = count
            .checked_mul(size_of::<Slot>())
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "more flows than there are addresses"))?;
        // Reserved huge pages only for what fills them.
        if bytes >= 2 << 20
            && let Ok(memory) = MmapOptions::new().len(bytes).huge(Some(21)).populate().map_anon()
        {
            return Ok(Self { memory, lines, kind: MemoryKind::Huge });
        }
        let memory = MmapOptions::new().len(bytes).map_anon()?;
        // A kernel without transparent huge pages refuses, which costs speed alone.
        if let Err(error) = memory.advise(Advice::HugePage) {
            tracing::debug!(%error, "no transparent huge pages for flows");
        }
        memory.advise(Advice::PopulateWrite).or_else(|error| {
            // Before Linux 5.14: touched as flows come.
            if error.raw_os_error() == Some(libc::EINVAL) { Ok(()) } else { Err(error) }
        })?;
        Ok(Self { memory, lines, kind: MemoryKind::Usual })
    }

    pub(super) fn kind(&self) -> MemoryKind {
        self.kind
    }

    pub(super) fn bytes(&self) -> usize {
        self.memory.len()
    }

    #[inline(always)]
    pub(super) fn as_slice(&self) -> &[Slot] {
        self.as_lines().as_flattened()
    }

    #[inline(always)]
    pub(super) fn as_lines(&self) -> &[Line] {
        // SAFETY: the mapping is private to this process, begins at a page, which is more than a line's alignment, and is at
        // least `lines` lines long. Zero bytes, and whatever is stored through the slots' atomics, are valid slots, and the
        // mapping is accessed in no other way as long as `self` lives.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().cast::<Line>(), self.lines) }
    }
}
