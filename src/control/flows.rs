//! The flows that the workers remember, as the control socket lists them.
//!
//! Tables may be large (2 Mi slots and 64 MiB by default, and one for each worker), so a list is made bit by bit while it
//! is sent: memory is bounded by one piece of the answer, and between pieces the control thread serves others.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::flow::{FlowCounts, FlowRecord, FlowState, PeerFlows};
use crate::service::{Protocol, ServiceKey, address_bytes};
use crate::table::{ForwardingTable, Published};

/// Flows that are listed unless the question says otherwise.
pub const DEFAULT_LIMIT: usize = 1000;
/// Most flows that are listed.
pub const MAX_LIMIT: usize = 100_000;

pub(super) const EXPECTED_SERVICE: &str = "write it as tcp 192.0.2.1:80 or udp [2001:db8::1]:53";
pub(super) const EXPECTED_ADDRESS: &str = "write an IPv4 or IPv6 address";

/// Slots that are read between two looks at the control thread's other work: some tens of microseconds.
const SLOTS_AT_ONCE: usize = 2048;

/// The flow tables of all workers, and the table that knows the names of what is in them.
#[derive(Clone)]
pub struct FlowTables {
    pub(super) workers: Arc<[PeerFlows]>,
    pub(super) tables: Arc<Published<ForwardingTable>>,
}

/// Which flows are asked for. Those that fit all that is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowFilter {
    /// Those of this virtual service.
    pub service: Option<ServiceKey>,
    /// Those of this real server, of whatever service.
    pub real_server: Option<IpAddr>,
    /// Those of this client, from whatever port.
    pub client: Option<IpAddr>,
    /// Those in this state.
    pub state: Option<FlowState>,
    /// Also what persistence keeps of clients.
    pub clients: bool,
    /// Most flows to be listed; [`MAX_LIMIT`] at most.
    pub limit: usize,
}

/// The answer to a question for flows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FlowList {
    /// The flows, in no particular order.
    pub flows: Vec<FlowEntry>,
    /// Whether there are more than the limit.
    pub truncated: bool,
    /// How many fit the question, listed or not.
    pub totals: FlowCounts,
}

/// A flow, as one worker remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FlowEntry {
    /// The worker's number.
    pub worker: usize,
    /// The name of its virtual service, as `tcp 192.0.2.1:80`; null if that was removed.
    pub service: Option<String>,
    /// The client's address.
    pub client: IpAddr,
    /// The client's port.
    pub client_port: u16,
    /// The port that it uses, also where the service has all.
    pub service_port: u16,
    /// Its protocol; null if the service was removed.
    pub protocol: Option<Protocol>,
    /// The address of its real server; null if that was removed.
    pub real_server: Option<IpAddr>,
    /// How far it has come.
    pub state: FlowState,
    /// Seconds until it is forgotten if no packet comes.
    pub expires_in_s: u32,
    /// Whether it is no flow but what persistence keeps of a client, by which its new flows go: an address as the
    /// service's netmask leaves it, with port 0.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_client: bool,
}

/// What cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// A part of the question cannot be understood.
    #[error("{name} cannot be {value:?}: {expected}")]
    Bad {
        /// Which part.
        name: &'static str,
        /// What it was.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// Nothing in the table has this name.
    #[error("there is no virtual service {0}; `pointsman stats` lists those that there are")]
    NoService(ServiceKey),
    /// Nothing in the table has this address.
    #[error("no virtual service has a real server {0}; `pointsman stats` lists those that there are")]
    NoRealServer(IpAddr),
}

/// A [`FlowFilter`] as it is written in a query string.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FlowQuery {
    /// Only those of this virtual service, as `tcp 192.0.2.1:80`.
    service: Option<String>,
    /// Only those of this real server's address.
    real_server: Option<String>,
    /// Only those of this client's address.
    client: Option<String>,
    /// Only those in this state: `unconfirmed`, `established` or `closing`.
    state: Option<String>,
    /// With `true` also what persistence keeps of clients.
    clients: Option<String>,
    /// Most flows to be listed, from 0 to 100000; 1000 if not given.
    limit: Option<String>,
}

impl Default for FlowFilter {
    fn default() -> Self {
        Self { service: None, real_server: None, client: None, state: None, clients: false, limit: DEFAULT_LIMIT }
    }
}

impl FlowFilter {
    /// The question as parts of a query string, not yet encoded.
    pub(super) fn parameters(&self) -> Vec<(&'static str, String)> {
        let given = [
            ("service", self.service.map(|service| service.to_string())),
            ("real_server", self.real_server.map(|address| address.to_string())),
            ("client", self.client.map(|address| address.to_string())),
            ("state", self.state.map(|state| state_name(state).to_owned())),
            ("clients", self.clients.then(|| "true".to_owned())),
            ("limit", Some(self.limit.to_string())),
        ];
        given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

impl FlowQuery {
    pub(super) fn filter(self) -> Result<FlowFilter, FilterError> {
        let limit = read(self.limit, "limit", "write a number from 0 to 100000", |text| {
            text.parse().ok().filter(|limit| *limit <= MAX_LIMIT)
        })?;
        Ok(FlowFilter {
            service: read(self.service, "service", EXPECTED_SERVICE, |text| text.parse().ok())?,
            real_server: read(self.real_server, "real_server", EXPECTED_ADDRESS, |text| text.parse().ok())?,
            client: read(self.client, "client", EXPECTED_ADDRESS, |text| text.parse().ok())?,
            state: read(self.state, "state", "use unconfirmed, established or closing", state_named)?,
            clients: read(self.clients, "clients", "use true or false", |text| text.parse().ok())?.unwrap_or(false),
            limit: limit.unwrap_or(DEFAULT_LIMIT),
        })
    }
}

/// Reads a part of a question, if it is given.
pub(super) fn read<T>(
    text: Option<String>,
    name: &'static str,
    expected: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, FilterError> {
    let Some(text) = text else { return Ok(None) };
    match parse(&text) {
        Some(value) => Ok(Some(value)),
        None => Err(FilterError::Bad { name, value: text, expected }),
    }
}

/// The name of a state, as documents have it.
pub const fn state_name(state: FlowState) -> &'static str {
    match state {
        FlowState::Unconfirmed => "unconfirmed",
        FlowState::Established => "established",
        FlowState::Closing => "closing",
    }
}

/// The state of a name.
pub fn state_named(name: &str) -> Option<FlowState> {
    [FlowState::Unconfirmed, FlowState::Established, FlowState::Closing]
        .into_iter()
        .find(|state| state_name(*state) == name)
}

impl FlowTables {
    /// The tables of all workers, in the order of their numbers; `tables` names services and real servers.
    pub fn new(workers: impl IntoIterator<Item = PeerFlows>, tables: Arc<Published<ForwardingTable>>) -> Self {
        Self { workers: workers.into_iter().collect(), tables }
    }

    /// The flows that `filter` asks for: a [`FlowList`] in JSON, made as it is read.
    ///
    /// # Errors
    /// The filter names what the published forwarding table does not have.
    pub fn list(&self, filter: FlowFilter) -> Result<FlowStream, FilterError> {
        let names = Names::of(&self.tables.reader().pin());
        if let Some(service) = filter.service.filter(|wanted| !names.services.values().any(|key| key == wanted)) {
            return Err(FilterError::NoService(service));
        }
        if let Some(address) = filter.real_server.filter(|wanted| !names.real_servers.values().any(|a| a == wanted)) {
            return Err(FilterError::NoRealServer(address));
        }
        Ok(FlowStream {
            workers: Arc::clone(&self.workers),
            names,
            filter,
            worker: 0,
            slot: 0,
            listed: 0,
            totals: FlowCounts::default(),
            step: Step::Begin,
            rest: false,
        })
    }
}

/// Services and real servers by their lasting numbers.
struct Names {
    services: HashMap<u32, ServiceKey>,
    real_servers: HashMap<u32, IpAddr>,
}

impl Names {
    fn of(table: &ForwardingTable) -> Self {
        Self {
            services: table.services().iter().map(|service| (service.id, service.key)).collect(),
            real_servers: table.real_servers().iter().map(|server| (server.id, server.address)).collect(),
        }
    }

    fn entry(&self, worker: usize, record: &FlowRecord) -> FlowEntry {
        let service = self.services.get(&record.key.service());
        let is_client = record.key.is_template();
        let (client_port, service_port) = match service {
            Some(key) if is_client => (0, key.port),
            _ => record.key.ports(),
        };
        FlowEntry {
            worker,
            service: service.map(ToString::to_string),
            client: client(record, service),
            client_port,
            service_port,
            protocol: service.map(|key| key.protocol),
            real_server: self.real_servers.get(&record.real_server).copied(),
            state: record.state,
            expires_in_s: record.left_s,
            is_client,
        }
    }

    fn fits(&self, record: &FlowRecord, filter: &FlowFilter) -> bool {
        let service = || self.services.get(&record.key.service());
        (filter.clients || !record.key.is_template())
            && filter.state.is_none_or(|wanted| record.state == wanted)
            && filter.client.is_none_or(|wanted| {
                record.key.client() == address_bytes(wanted) && client(record, service()) == wanted
            })
            && filter.service.is_none_or(|wanted| service() == Some(&wanted))
            && filter.real_server.is_none_or(|wanted| self.real_servers.get(&record.real_server) == Some(&wanted))
    }
}

/// The client's address. Its family is that of the VIP; of a service that was removed it is guessed.
fn client(record: &FlowRecord, service: Option<&ServiceKey>) -> IpAddr {
    let bytes = record.key.client();
    let [a, b, c, d, rest @ ..] = bytes;
    let v4 = service.map_or_else(|| rest.iter().all(|byte| *byte == 0), |key| key.vip.is_ipv4());
    if v4 { Ipv4Addr::new(a, b, c, d).into() } else { Ipv6Addr::from(bytes).into() }
}

/// A list of flows on its way to whoever asked.
pub struct FlowStream {
    workers: Arc<[PeerFlows]>,
    names: Names,
    filter: FlowFilter,
    /// Where the next piece begins.
    worker: usize,
    slot: usize,
    listed: usize,
    totals: FlowCounts,
    step: Step,
    /// Let others have the thread before the next piece.
    rest: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Begin,
    Scan,
    Done,
}

impl FlowStream {
    /// The next piece of the document, empty if nothing was found in the slots that were looked at; `None` behind its
    /// end.
    fn piece(&mut self) -> Option<Vec<u8>> {
        match self.step {
            Step::Begin => {
                self.step = Step::Scan;
                Some(br#"{"flows":["#.to_vec())
            }
            Step::Scan => Some(self.scan()),
            Step::Done => None,
        }
    }

    fn scan(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        let Some(tables) = self.workers.get(self.worker) else {
            self.step = Step::Done;
            self.end(&mut out);
            return out;
        };
        let end = self.slot.saturating_add(SLOTS_AT_ONCE);
        for record in tables.flows.in_slots(self.slot..end, clock::monotonic_s()) {
            if !self.names.fits(&record, &self.filter) {
                continue;
            }
            match record.state {
                FlowState::Unconfirmed => self.totals.unconfirmed += 1,
                FlowState::Established => self.totals.established += 1,
                FlowState::Closing => self.totals.closing += 1,
            }
            if self.listed < self.filter.limit {
                if self.listed > 0 {
                    out.push(b',');
                }
                self.listed += 1;
                append(&self.names.entry(self.worker, &record), &mut out);
            }
        }
        if end >= tables.flows.capacity() {
            self.worker += 1;
            self.slot = 0;
        } else {
            self.slot = end;
        }
        out
    }

    fn end(&self, out: &mut Vec<u8>) {
        let FlowCounts { unconfirmed, established, closing } = self.totals;
        let truncated = unconfirmed + established + closing > self.listed as u64;
        out.extend_from_slice(format!(r#"],"truncated":{truncated},"totals":"#).as_bytes());
        append(&self.totals, out);
        out.push(b'}');
    }
}

fn append(value: &impl Serialize, out: &mut Vec<u8>) {
    // Neither a map with odd keys nor a writer that fails: this cannot go wrong.
    if let Err(error) = serde_json::to_writer(out, value) {
        tracing::error!(%error, "cannot write a flow as JSON");
    }
}

impl Body for FlowStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let stream = self.get_mut();
        if std::mem::take(&mut stream.rest) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        stream.rest = true;
        match stream.piece() {
            None => Poll::Ready(None),
            Some(piece) if piece.is_empty() => {
                stream.rest = false;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece.into())))),
        }
    }
}
