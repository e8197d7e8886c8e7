//! Why the director could not start or go on: one sentence each.

use std::net::{IpAddr, SocketAddr};

use crate::config::ConfigError;
use crate::network::NetworkError;
use crate::port::xsk::OpenError;
use crate::xdp::XdpError;

/// Why the director stopped or did not start.
#[derive(Debug, thiserror::Error)]
pub enum DirectorError {
    /// The configuration is bad.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A core that is not there.
    #[error("cores of {interface}: there is no CPU {core} online; there are {online}")]
    NoSuchCore {
        /// The interface.
        interface: String,
        /// The core.
        core: usize,
        /// Those there are.
        online: String,
    },
    /// A queue that is not there.
    #[error("queues of {interface}: there is no queue {queue}, it has {queues} (see: ethtool -l {interface})")]
    NoSuchQueue {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
        /// How many there are.
        queues: u32,
    },
    /// An interface that only sends has fewer queues than there are workers.
    #[error(
        "{interface} has {queues} queues for {workers} workers, and each needs one of its own to send by: give it more \
         (ethtool -L {interface} combined {workers}) or use fewer cores"
    )]
    TooFewSendQueues {
        /// The interface.
        interface: String,
        /// Its queues.
        queues: usize,
        /// The workers.
        workers: usize,
    },
    /// The MTU does not fit into a frame.
    #[error(
        "{interface} has an MTU of {mtu}, and a frame of AF_XDP holds at most {largest}: lower it (ip link set {interface} \
         mtu {largest}), or set frame_size and accept that longer packets are dropped"
    )]
    MtuTooLarge {
        /// The interface.
        interface: String,
        /// Its MTU.
        mtu: u32,
        /// The largest that fits.
        largest: u32,
    },
    /// What the network says forbids it.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Addresses that can be no real server's, and why.
    #[error("{}", .0.iter().map(|(_, why)| why.as_str()).collect::<Vec<_>>().join("\n"))]
    Unreachable(Vec<(IpAddr, String)>),
    /// The XDP program.
    #[error(transparent)]
    Xdp(#[from] XdpError),
    /// The AF_XDP sockets.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The flow tables.
    #[error("cannot get memory for {flows} flows of a worker: {source}; set a smaller flows_per_worker")]
    FlowMemory {
        /// Flows that were asked for.
        flows: u32,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The control socket.
    #[error(transparent)]
    Control(#[from] crate::control::socket::BindError),
    /// The address for Prometheus.
    #[error("cannot listen on {address} for Prometheus: {source}; choose another prometheus_listen")]
    Metrics {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// A thread could not be started, or signals not be handled.
    #[error("cannot {action}: {source}")]
    System {
        /// What was to be done.
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A worker ended that should not have.
    #[error("worker {worker} ended unexpectedly: stopping, so that its queues are not left without one")]
    WorkerEnded {
        /// Its number.
        worker: usize,
    },
    /// An interface went away.
    #[error("interface {interface} was removed: stopping")]
    InterfaceRemoved {
        /// Its name.
        interface: String,
    },
}
