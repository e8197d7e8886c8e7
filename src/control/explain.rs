//! What a running director does with one flow, and why.

use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::flows::{FilterError, FlowTables, state_name};
use crate::clock;
use crate::flow::{FlowKey, FlowRecord, FlowState, PeerFlows};
use crate::service::{Protocol, address_bytes};
use crate::stats::collect::virtual_service;
use crate::stats::report::VirtualServiceReport;
use crate::table::{Choice, ForwardingTable, RealServer, VirtualService};
use crate::wire::{Family, Shape, Subject};

/// The flow that is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowQuestion {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The client's address and port.
    pub client: SocketAddr,
    /// The address and port that it uses.
    pub destination: SocketAddr,
}

/// What the director does with a flow's next packet, if it neither begins nor ends the flow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LiveExplanation {
    /// As asked.
    pub protocol: Protocol,
    /// As asked.
    pub client: SocketAddr,
    /// As asked.
    pub destination: SocketAddr,
    /// Number of the forwarding table that was asked.
    pub generation: u64,
    /// `tx`, `drop` or `pass`.
    pub verdict: String,
    /// `entry`, `previous_table`, `client` (that is kept at its real server), `turn` (of a scheduler that does not hash:
    /// which real server it is, only the packet itself will tell) or `hash` for `tx`, by which the real server is found;
    /// `no_real_server` for `drop`; `not_a_service` for `pass`.
    pub reason: String,
    /// The name of the virtual service.
    pub service: Option<String>,
    /// The real server that the packet goes to.
    pub real_server: Option<IpAddr>,
    /// What workers remember of the flow, the entry that `real_server` goes by first.
    pub entries: Vec<FoundEntry>,
    /// Where the client is kept, for a service with persistence; null if it is not.
    pub kept_at: Option<IpAddr>,
    /// What the hash says now; a new flow goes by it if the scheduler is `mh` or `sh` and the client is kept nowhere.
    pub hash: Option<HashChoice>,
    /// Where the service's table before its last change would have sent the flow; null if that is not asked any more.
    pub previous: Option<IpAddr>,
    /// The service and its real servers with their next hops and counters, as in the statistics.
    pub virtual_service: Option<VirtualServiceReport>,
    /// All of this in sentences.
    pub why: Vec<String>,
}

/// A worker's entry of the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FoundEntry {
    /// The worker's number.
    pub worker: usize,
    /// How far the flow has come.
    pub state: FlowState,
    /// Its real server; null if that was removed.
    pub real_server: Option<IpAddr>,
    /// Seconds until it is forgotten if no packet comes.
    pub expires_in_s: u32,
    /// Seconds since its last packet; null while one packet was seen.
    pub idle_s: Option<u32>,
}

/// What the hash says of a flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HashChoice {
    /// Hexadecimal, since JSON's readers round large numbers.
    pub hash: String,
    /// Slot of the service's Maglev table.
    pub slot: usize,
    /// Slots of that table.
    pub slots: usize,
    /// The owner of the slot, or the first live choice after it.
    pub real_server: IpAddr,
    /// Choices passed over because they are down.
    pub skipped: u32,
}

/// A [`FlowQuestion`] as it is written in a query string.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExplainQuery {
    /// `tcp` or `udp`.
    protocol: String,
    /// The client's address and port, as `198.51.100.7:4711`.
    client: String,
    /// The address and port that it uses, as `192.0.2.1:80`.
    destination: String,
}

impl ExplainQuery {
    pub(super) fn question(self) -> Result<FlowQuestion, FilterError> {
        let socket = "write address and port, as 192.0.2.1:80 or [2001:db8::1]:80";
        let bad = |name, value: &str, expected| FilterError::Bad { name, value: value.to_owned(), expected };
        let protocol = self.protocol.parse().map_err(|_| bad("protocol", &self.protocol, "use tcp or udp"))?;
        let client: SocketAddr = self.client.parse().map_err(|_| bad("client", &self.client, socket))?;
        let destination: SocketAddr =
            self.destination.parse().map_err(|_| bad("destination", &self.destination, socket))?;
        if client.is_ipv4() != destination.is_ipv4() {
            return Err(bad("destination", &self.destination, "client and destination must both be IPv4 or both IPv6"));
        }
        Ok(FlowQuestion { protocol, client, destination })
    }
}

impl FlowQuestion {
    /// The question as parts of a query string, not yet encoded.
    pub(super) fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![
            ("protocol", self.protocol.to_string()),
            ("client", self.client.to_string()),
            ("destination", self.destination.to_string()),
        ]
    }

    /// What a whole datagram of the flow is about.
    pub fn subject(&self) -> Subject {
        Subject {
            client: address_bytes(self.client.ip()),
            vip: address_bytes(self.destination.ip()),
            client_port: self.client.port(),
            service_port: self.destination.port(),
            protocol: self.protocol.number(),
            family: if self.client.is_ipv4() { Family::V4 } else { Family::V6 },
            shape: Shape::Datagram,
            fragment_id: 0,
            l3_offset: 0,
            l4_offset: 0,
            l4_len: 0,
        }
    }
}

impl FlowTables {
    /// What becomes of a flow's next packet, and why.
    pub fn explain(&self, question: &FlowQuestion) -> LiveExplanation {
        let reader = self.tables.reader();
        let table = reader.pin();
        let subject = question.subject();
        let service = table.service_of(&subject).and_then(|number| table.services().get(number.position as usize));
        let mut explanation = LiveExplanation {
            protocol: question.protocol,
            client: question.client,
            destination: question.destination,
            generation: table.generation(),
            verdict: "pass".to_owned(),
            reason: "not_a_service".to_owned(),
            service: None,
            real_server: None,
            entries: Vec::new(),
            kept_at: None,
            hash: None,
            previous: None,
            virtual_service: None,
            why: Vec::new(),
        };
        let Some(service) = service else {
            let FlowQuestion { protocol, destination, .. } = question;
            let sentence = format!("no virtual service is {protocol} {destination}: its frames go to the kernel");
            explanation.why.push(sentence);
            return explanation;
        };
        explanation.service = Some(service.key.to_string());
        explanation.virtual_service = Some(virtual_service(&table, service, &service.shares()));
        explanation.why.push(format!("the destination is the virtual service {}", service.key));
        let now_s = clock::monotonic_s();
        let entries = self.entries(&table, service, &subject, now_s);
        let asked = Asked { table: &table, service, subject: &subject, now_s };
        asked.fill(&mut explanation, &entries, self.kept_at(&table, service, &subject, now_s));
        explanation
    }

    /// Position of the real server that a worker keeps the client at, if that is alive.
    fn kept_at(&self, table: &ForwardingTable, service: &VirtualService, subject: &Subject, now_s: u32) -> Option<u32> {
        let masked = service.persistence.as_ref()?.masked(subject);
        let (hash, key) = (table.template_hash(service, &masked), FlowKey::template(&masked, service.id));
        self.workers.iter().find_map(|peer| {
            let at = table.position_of(peer.flows.get(hash, &key, now_s)?.real_server)?;
            table.real_servers().get(at as usize)?.is_alive().then_some(at)
        })
    }

    /// The flow's entries with their workers, the one of most worth first.
    fn entries(
        &self,
        table: &ForwardingTable,
        service: &VirtualService,
        subject: &Subject,
        now_s: u32,
    ) -> Vec<(usize, FlowRecord)> {
        let (hash, key) = (table.flow_hash(subject), FlowKey::flow(subject, service.id));
        let found =
            |(worker, peer): (usize, &PeerFlows)| peer.flows.get(hash, &key, now_s).map(|record| (worker, record));
        let mut entries: Vec<(usize, FlowRecord)> = self.workers.iter().enumerate().filter_map(found).collect();
        entries.sort_by_key(|(_, record)| {
            let rank = match record.state {
                FlowState::Established => 0,
                FlowState::Closing => 1,
                FlowState::Unconfirmed => 2,
            };
            (rank, u32::MAX - record.left_s)
        });
        entries
    }
}

/// One question to one forwarding table.
struct Asked<'a> {
    table: &'a ForwardingTable,
    service: &'a VirtualService,
    subject: &'a Subject,
    now_s: u32,
}

impl Asked<'_> {
    /// The same order as the workers have: entry, table before the change, client, turn, hash.
    fn fill(&self, explanation: &mut LiveExplanation, entries: &[(usize, FlowRecord)], kept_at: Option<u32>) {
        let hash = self.table.hash(self.service, self.subject);
        let chosen = self.table.choose(self.service, hash);
        let by_hash = chosen.and_then(|choice| self.at(choice.real_server));
        let before = self.table.choose_before(self.service, hash, self.now_s).and_then(|at| self.at(at));
        let entry = entries.first().map(|(_, record)| self.of(record));
        explanation.entries = entries.iter().map(|(worker, record)| self.found(*worker, record)).collect();
        explanation.previous = before.map(|server| server.address);
        explanation.hash = chosen.zip(by_hash).map(|(choice, server)| self.hash_choice(hash, choice, server));
        let is_tcp = explanation.protocol == Protocol::Tcp;
        let by_before = before.filter(|_| is_tcp && self.service.has_changed_lately(self.now_s));
        let (by, server) = match (entry, by_before) {
            (Some(Some(server)), _) if server.is_alive() => ("entry", Some(server)),
            (None, Some(server)) => ("previous_table", Some(server)),
            (None, None) if kept_at.is_some() => ("client", kept_at.and_then(|at| self.at(at))),
            // Any datagram may begin a flow; a segment that may is not what is asked about.
            (None, None) if !is_tcp && self.service.takes_turns() => ("turn", None),
            _ => ("hash", by_hash),
        };
        explanation.kept_at = kept_at.and_then(|at| self.at(at)).map(|server| server.address);
        explanation.real_server = server.map(|server| server.address);
        let is_sent = server.is_some() || by == "turn";
        explanation.verdict = if is_sent { "tx" } else { "drop" }.to_owned();
        explanation.reason = if is_sent { by } else { "no_real_server" }.to_owned();
        self.tell(explanation, entry);
        if let Some(server) = server {
            explanation.why.push(self.next_hop(server));
        }
    }

    /// `entry` is the one that counts, with its real server if that is still there.
    fn tell(&self, explanation: &mut LiveExplanation, entry: Option<Option<&RealServer>>) {
        let mut why = explanation.entries.iter().map(entry_sentence).collect::<Vec<_>>();
        match entry {
            None => why.push("no worker has an entry of the flow".to_owned()),
            Some(None) => why.push("the entry's real server was removed: the next packet is scheduled anew".to_owned()),
            Some(Some(server)) if !server.is_alive() => {
                why.push(format!("{} is down: meanwhile packets go by the hash, and the entry stays", server.address));
            }
            Some(Some(_)) => {}
        }
        if explanation.entries.len() > 1 {
            why.push("a packet goes by the entry of the worker that receives it".to_owned());
        }
        if let Some(previous) = explanation.previous {
            why.push(format!("before its last change the service's table would have sent it to {previous}"));
        }
        why.push(match &explanation.hash {
            None => "the hash finds no real server that is alive and has a weight above 0".to_owned(),
            Some(choice) => hash_sentence(choice),
        });
        if let Some(address) = explanation.kept_at {
            why.push(format!("its client is kept at {address}: new flows of it go there"));
        } else if self.service.takes_turns() {
            let scheduler = self.service.scheduler.name();
            why.push(format!("the scheduler is {scheduler}: a packet that begins a flow takes its turn, not the hash"));
        }
        explanation.why.append(&mut why);
    }

    fn next_hop(&self, server: &RealServer) -> String {
        let egress = server.next_hop.and_then(|hop| self.table.egresses().get(usize::from(hop.egress)));
        match (server.next_hop, egress) {
            (Some(hop), Some(egress)) => format!("{} is reached at {} by {}", server.address, hop.mac, egress.name),
            _ => format!("{} has no next hop", server.address),
        }
    }

    fn found(&self, worker: usize, record: &FlowRecord) -> FoundEntry {
        let timeouts = self.service.timeouts;
        let life_s = match (record.state, self.service.key.protocol) {
            (FlowState::Unconfirmed, _) => None,
            (FlowState::Closing, _) => Some(timeouts.tcp_fin_s),
            (FlowState::Established, Protocol::Tcp) => Some(timeouts.tcp_s),
            (FlowState::Established, Protocol::Udp) => Some(timeouts.udp_s),
        };
        FoundEntry {
            worker,
            state: record.state,
            real_server: self.of(record).map(|server| server.address),
            expires_in_s: record.left_s,
            // Timeouts that were shortened since may be less than what is left.
            idle_s: life_s.and_then(|life_s| life_s.checked_sub(record.left_s)),
        }
    }

    fn hash_choice(&self, hash: u64, choice: Choice, server: &RealServer) -> HashChoice {
        HashChoice {
            hash: format!("{hash:016x}"),
            slot: choice.slot,
            slots: self.service.table_size(),
            real_server: server.address,
            skipped: choice.skipped,
        }
    }

    fn of(&self, record: &FlowRecord) -> Option<&RealServer> {
        self.at(self.table.position_of(record.real_server)?)
    }

    fn at(&self, position: u32) -> Option<&RealServer> {
        self.table.real_servers().get(position as usize)
    }
}

fn entry_sentence(entry: &FoundEntry) -> String {
    let FoundEntry { worker, state, expires_in_s, .. } = entry;
    let server = entry.real_server.map_or("a real server that was removed".to_owned(), |address| address.to_string());
    let idle = entry.idle_s.map_or(String::new(), |idle_s| format!(", last packet {idle_s} s ago"));
    let state = state_name(*state);
    format!("worker {worker} remembers it at {server}: {state}{idle}, forgotten in {expires_in_s} s")
}

fn hash_sentence(choice: &HashChoice) -> String {
    let HashChoice { hash, slot, slots, real_server, skipped } = choice;
    let after = match skipped {
        0 => String::new(),
        1 => " after one choice that is down".to_owned(),
        more => format!(" after {more} choices that are down"),
    };
    format!("the hash is {hash}, slot {slot} of {slots}: it says {real_server}{after}")
}
