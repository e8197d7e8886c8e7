//! Why a generator or a sink could not be started.

use crate::counters::latency::SnapshotError;
use crate::network::NetworkError;
use crate::port::xsk::OpenError;
use crate::xdp::XdpError;

/// Why a generator or a sink could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum GeneratorError {
    /// What was asked for contradicts itself or the interface.
    #[error("{0}")]
    Input(String),
    /// An interface or an address.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The AF_XDP sockets.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The XDP program.
    #[error(transparent)]
    Xdp(#[from] XdpError),
    /// A thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] std::io::Error),
    /// A thread that panicked.
    #[error("the thread of {0} ended unexpectedly")]
    Ended(&'static str),
    /// The latency histogram.
    #[error(transparent)]
    Latency(#[from] SnapshotError),
}
