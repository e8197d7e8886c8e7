//! What a forwarding table is to be: the plan that it is built from.

use std::net::IpAddr;

use super::availability::{Quorum, Standing};
use super::hash::FlowHasher;
use super::identity::Identities;
use super::limit::ConnectionLimit;
use super::scheduler::Scheduler;
use crate::service::ServiceKey;
use crate::wire::quic::ServerId;
use crate::wire::{MacAddress, Subject};

/// An interface that frames leave by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Egress {
    /// The interface's name.
    pub name: String,
    /// Its MAC address, which becomes the frames' source.
    pub source: MacAddress,
    /// Its MTU: the most bytes of an IP packet.
    pub mtu: u32,
}

/// How a real server is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// The real server's MAC address.
    pub mac: MacAddress,
    /// Position of the interface among the egresses.
    pub egress: u8,
}

/// Which part of a flow chooses its real server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HashBy {
    /// Protocol, addresses and ports.
    #[default]
    Flow,
    /// The client's address alone, so that all its connections meet one real server.
    Client,
}

/// A client that stays at its real server over connections, as with `ipvsadm -p`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientPersistence {
    /// How long after its last packet, in seconds.
    pub timeout_s: u32,
    /// Which bits of an address are the client, in network byte order; of an IPv4 address in the first four bytes.
    pub mask: [u8; 16],
}

impl ClientPersistence {
    /// A mask of so many bits.
    #[must_use]
    pub fn new(timeout_s: u32, prefix_bits: u8) -> Self {
        let low = u128::MAX.checked_shr(u32::from(prefix_bits)).unwrap_or(0);
        Self { timeout_s, mask: (!low).to_be_bytes() }
    }

    /// The frame as if its client's address had no bits but those of the mask.
    #[inline]
    #[must_use]
    pub fn masked(&self, subject: &Subject) -> Subject {
        let client = u128::from_be_bytes(subject.client) & u128::from_be_bytes(self.mask);
        Subject { client: client.to_be_bytes(), ..*subject }
    }
}

/// What a virtual service of the table is to be.
#[derive(Clone, Debug)]
pub struct ServicePlan {
    /// Its lasting number, by which flow tables know it.
    pub id: u32,
    /// Its address, protocol and port.
    pub key: ServiceKey,
    /// How its new flows are given real servers.
    pub scheduler: Scheduler,
    /// Slots of its table.
    pub table_size: u32,
    /// What its flows are hashed by.
    pub hash_by: HashBy,
    /// Whether its clients stay where they are over connections.
    pub persistence: Option<ClientPersistence>,
    /// How long its flows are remembered.
    pub timeouts: FlowTimeouts,
    /// How long after a change a flow without an entry goes where the table before the change would have sent it, in
    /// seconds; 0 is not at all.
    pub previous_table_s: u32,
    /// Its real servers.
    pub real_servers: Vec<RealServerPlan>,
    /// Who takes new flows while none of them does, or while they are below `quorum`; its weight does not count.
    pub fallback: Option<RealServerPlan>,
    /// How much weight must be alive for the real servers to be used rather than `fallback`.
    pub quorum: Quorum,
}

/// How long a flow is remembered without a packet, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowTimeouts {
    /// TCP.
    pub tcp_s: u32,
    /// TCP, after FIN or RST.
    pub tcp_fin_s: u32,
    /// UDP.
    pub udp_s: u32,
}

impl Default for FlowTimeouts {
    /// Those of LVS (`ipvsadm --set`).
    fn default() -> Self {
        Self { tcp_s: 900, tcp_fin_s: 120, udp_s: 300 }
    }
}

/// What a real server of the table is to be.
#[derive(Clone, Debug)]
pub struct RealServerPlan {
    /// Its lasting number, by which flow tables know it.
    pub id: u32,
    /// Its address (RIP).
    pub address: IpAddr,
    /// Its share of new flows; 0 while it drains.
    pub weight: u32,
    /// How it is reached; `None` counts as down.
    pub next_hop: Option<NextHop>,
    /// What health checks say of it.
    pub standing: Standing,
    /// How many connections it is given, if that is limited.
    pub limit: Option<ConnectionLimit>,
    /// What it is known by in the QUIC connection ids that it chooses; the ids of a service have one length.
    pub quic_server_id: Option<ServerId>,
}

/// Everything that a table is built from.
#[derive(Clone, Debug)]
pub struct TablePlan {
    /// The cluster's flow hash.
    pub hasher: FlowHasher,
    /// The interfaces that frames leave by.
    pub egresses: Vec<Egress>,
    /// The virtual services.
    pub services: Vec<ServicePlan>,
    /// Number of workers, each of which has counters of its own.
    pub workers: usize,
    /// The time of the change, in seconds of CLOCK_MONOTONIC.
    pub now_s: u32,
}

impl TablePlan {
    /// Gives every service and real server its lasting number.
    #[must_use]
    pub fn numbered(mut self, identities: &mut Identities) -> Self {
        for service in &mut self.services {
            service.id = identities.service(service.key);
            for real_server in service.real_servers.iter_mut().chain(&mut service.fallback) {
                real_server.id = identities.real_server(service.key, real_server.address);
            }
        }
        self
    }
}
