//! What one worker remembers and may ask others for.

use std::io;

use super::entry::FlowKey;
use super::table::{Change, FlowReader, FlowTable, Inserted, Room, connection_kind};
use crate::counters::connections::Connections;
use crate::flow::{FlowRecord, FlowState};

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
    /// The worker's number, by which it finds its counts of connections and its turns.
    pub worker: usize,
    /// A coarse time that its owner keeps: what other workers count is read once in each period.
    pub period: u64,
}

impl WorkerFlows {
    /// Tables for `flows` flows, without peers.
    ///
    /// # Errors
    /// The memory cannot be had.
    pub fn new(flows: usize) -> io::Result<Self> {
        Ok(Self {
            flows: FlowTable::new(flows)?,
            fragments: FlowTable::new(FRAGMENTS)?,
            peers: Vec::new(),
            worker: 0,
            period: 0,
        })
    }

    /// These tables, as another worker sees them.
    pub fn as_peer(&self) -> PeerFlows {
        PeerFlows { flows: self.flows.reader(), fragments: self.fragments.reader() }
    }

    /// The flow's entry in another worker's table.
    pub fn flow_of_peer(&self, hash: u64, key: &FlowKey, now_s: u32) -> Option<FlowRecord> {
        self.peers.iter().find_map(|peer| peer.flows.get(hash, key, now_s))
    }

    /// Makes room for a flow that has no entry and is to begin with `state`, if there is any, and counts what was in the
    /// way.
    pub fn make_room(&mut self, hash: u64, now_s: u32, state: FlowState, connections: &Connections) -> Option<Room> {
        let room = self.flows.make_room(hash, now_s, state)?;
        for gone in [room.evicted, room.expired].into_iter().flatten() {
            if let Some(cell) = connections.of(self.worker, gone.real_server) {
                cell.remove(gone.kind);
            }
        }
        Some(room)
    }

    /// Stores a flow, or a client, in the room that was just made for it, and counts it.
    pub fn fill(&mut self, room: &Room, key: &FlowKey, now_s: u32, entry: Change, connections: &Connections) {
        self.flows.fill(room, key, now_s, entry);
        if let Some(cell) = connections.of(self.worker, entry.real_server) {
            cell.begin(connection_kind(entry.state, key.is_template()));
        }
    }

    /// Clears up to `slots` slots of flows that have expired, and counts them no more.
    #[inline]
    pub fn sweep(&mut self, slots: usize, now_s: u32, connections: &Connections) {
        let worker = self.worker;
        self.flows.sweep(slots, now_s, |gone| {
            if let Some(cell) = connections.of(worker, gone.real_server) {
                cell.remove(gone.kind);
            }
        });
    }

    /// Number of the real server that the first fragment of a datagram went to, by the own entry before those of others.
    pub fn fragment(&self, hash: u64, key: &FlowKey, now_s: u32) -> Option<u32> {
        let own = self.fragments.find(hash, key, now_s).map(|found| found.real_server);
        own.or_else(|| self.peers.iter().find_map(|peer| Some(peer.fragments.get(hash, key, now_s)?.real_server)))
    }

    /// Remembers where the first fragment of a datagram went.
    pub fn remember_fragment(&mut self, hash: u64, key: &FlowKey, now_s: u32, entry: Change) -> Inserted {
        match self.fragments.find(hash, key, now_s) {
            Some(found) => {
                self.fragments.update(&found, now_s, entry);
                Inserted::Stored
            }
            None => self.fragments.insert(hash, key, now_s, entry),
        }
    }
}
