//! Why a check's answer is a bad one.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use crate::config::StatusList;

/// A bad answer, or none.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No answer in time.
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The system or the other side refused a step.
    #[error("{step}: {source}")]
    System {
        /// What was to be done.
        step: &'static str,
        /// What came of it.
        source: io::Error,
    },
    /// TLS cannot be set up as configured.
    #[error("TLS: {0}")]
    Tls(String),
    /// What came is no HTTP.
    #[error("HTTP: {0}")]
    Http(hyper::Error),
    /// A status that is not wanted.
    #[error("HTTP status {status}, wanted {wanted}")]
    Status {
        /// The status.
        status: u16,
        /// Those that are good.
        wanted: StatusList,
    },
    /// A body without what was wanted in it.
    #[error("HTTP status {status}, but {what}")]
    Body {
        /// The status.
        status: u16,
        /// What is wrong with the body.
        what: String,
    },
    /// A datagram without what was wanted in it.
    #[error("the answer of {bytes} bytes does not contain what is expected")]
    Datagram {
        /// Its length.
        bytes: usize,
    },
    /// A program that said no.
    #[error("{status}{said}")]
    Command {
        /// Exit status or signal, in words.
        status: String,
        /// What it printed, if anything: `: out of disk`.
        said: String,
    },
    /// No MAC address to send to.
    #[error("the MAC address of {0} is not known")]
    NoNextHop(IpAddr),
    /// The host of that address has gone silent, down to ARP or neighbour discovery.
    #[error("no answer, and {0} answers no ARP or neighbour discovery either")]
    NoNeighbor(IpAddr),
    /// Replies to the VIP never leave the real server.
    #[error("the director's own address on the way to {0} is the VIP: give the interface an address of its own")]
    OwnAddressIsVip(IpAddr),
}

impl Failure {
    /// A step that failed.
    pub fn system(step: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::System { step, source }
    }
}

/// What a good answer was, in a few words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Good(pub String);

impl fmt::Display for Good {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An answer.
pub type Answer = Result<Good, Failure>;
