//! What one worker remembers and may ask others for.

use std::io;

use super::entry::FlowKey;
use super::table::{Change, FlowReader, FlowTable, Inserted};
use crate::flow::FlowRecord;

/// Fragmented datagrams that each worker remembers at a time.
const FRAGMENTS: usize = 4096;

/// Another worker's tables.
#[derive(Clone, Debug)]
pub struct PeerFlows {
    /// Its flows.
    pub flows: FlowReader,
    /// The fragmented datagrams whose first fragment it has seen.
    pub fragments: FlowReader,
}

/// A worker's own tables, and those of its peers.
#[derive(Debug)]
pub struct WorkerFlows {
    /// Its flows.
    pub flows: FlowTable,
    /// The fragmented datagrams whose first fragment it has seen.
    pub fragments: FlowTable,
    /// The other workers' tables.
    pub peers: Vec<PeerFlows>,
}

impl WorkerFlows {
    /// Tables for `flows` flows, without peers.
    ///
    /// # Errors
    /// The memory cannot be had.
    pub fn new(flows: usize) -> io::Result<Self> {
        Ok(Self { flows: FlowTable::new(flows)?, fragments: FlowTable::new(FRAGMENTS)?, peers: Vec::new() })
    }

    /// These tables, as another worker sees them.
    pub fn as_peer(&self) -> PeerFlows {
        PeerFlows { flows: self.flows.reader(), fragments: self.fragments.reader() }
    }

    /// The flow's entry in another worker's table.
    pub fn flow_of_peer(&self, hash: u64, key: &FlowKey, now_s: u32) -> Option<FlowRecord> {
        self.peers.iter().find_map(|peer| peer.flows.get(hash, key, now_s))
    }

    /// The entry of a fragmented datagram, the own one before those of others.
    pub fn fragment(&self, hash: u64, key: &FlowKey, now_s: u32) -> Option<FlowRecord> {
        let own = self.fragments.get(hash, key, now_s);
        own.or_else(|| self.peers.iter().find_map(|peer| peer.fragments.get(hash, key, now_s)))
    }

    /// Remembers where the first fragment of a datagram went.
    pub fn remember_fragment(&mut self, hash: u64, key: &FlowKey, now_s: u32, entry: Change) -> Inserted {
        if self.fragments.get(hash, key, now_s).is_some() {
            self.fragments.update(hash, key, now_s, |_| entry);
            return Inserted::Stored;
        }
        self.fragments.insert(hash, key, now_s, entry)
    }
}
