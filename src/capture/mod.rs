//! Captures of the frames that workers decide on: tcpdump does not see what AF_XDP takes, so the director shows it.
//!
//! While no capture runs a worker loads one flag for each burst and does nothing else. While one runs, it copies the
//! frames that fit the filter into records that were allocated when the capture began, and hands them to the control
//! thread through a bounded queue without locks. Where no record is free the frame is counted as lost for the capture;
//! the worker never waits, and what becomes of the frame does not change.
//!
//! A frame is captured as it leaves, with its new MAC addresses, or as it is dropped, with those that it came with. Its
//! time is that of its arrival, by the XDP program's stamp.

pub mod pcapng;
mod ring;
mod tap;

pub use ring::Record;
pub use tap::{Burst, Capture, Counts, QueuePlace, Running, Staged, Switch, Tap};

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::service::ServiceKey;
use crate::table::ForwardingTable;
use crate::verdict::DropReason;

/// Most bytes of a frame that can be captured: the largest chunk that AF_XDP has.
pub const MAX_SNAPSHOT_BYTES: usize = 4096;

/// What became of a captured frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was submitted to a TX ring.
    Tx,
    /// It was dropped.
    Drop(DropReason),
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tx => f.write_str("tx"),
            Self::Drop(reason) => write!(f, "drop {reason}"),
        }
    }
}

/// Which verdicts are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerdictFilter {
    /// Frames that were sent.
    Tx,
    /// Frames that were dropped, for whatever reason.
    Drop,
    /// Frames that were dropped for this reason.
    Reason(DropReason),
}

/// A text that names no verdict.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a verdict; use tx, drop or the name of a drop cause, as docs/stats.md lists them")]
pub struct ParseVerdictError(String);

impl FromStr for VerdictFilter {
    type Err = ParseVerdictError;

    fn from_str(text: &str) -> Result<Self, ParseVerdictError> {
        let named = || DropReason::ALL.into_iter().find(|reason| reason.name() == text).map(Self::Reason);
        match text {
            "tx" => Ok(Self::Tx),
            "drop" => Ok(Self::Drop),
            _ => named().ok_or_else(|| ParseVerdictError(text.to_owned())),
        }
    }
}

impl fmt::Display for VerdictFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tx => "tx",
            Self::Drop => "drop",
            Self::Reason(reason) => reason.name(),
        })
    }
}

/// Which frames are captured: those that fit all that is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Those of this virtual service.
    pub service: Option<ServiceKey>,
    /// Those for this real server, of whatever service.
    pub real_server: Option<IpAddr>,
    /// Those with this verdict.
    pub verdict: Option<VerdictFilter>,
    /// Of those that fit, the first of so many of each queue. 0 counts as 1.
    pub sample: u64,
}

impl Default for Filter {
    fn default() -> Self {
        Self { service: None, real_server: None, verdict: None, sample: 1 }
    }
}

impl Filter {
    /// Whether frames with this verdict are wanted.
    pub fn wants(&self, fate: Fate) -> bool {
        match (self.verdict, fate) {
            (None, _) | (Some(VerdictFilter::Tx), Fate::Tx) | (Some(VerdictFilter::Drop), Fate::Drop(_)) => true,
            (Some(VerdictFilter::Reason(wanted)), Fate::Drop(reason)) => wanted == reason,
            _ => false,
        }
    }

    /// Whether frames of this service and real server, by their positions in `table`, are wanted.
    pub fn wants_route(&self, table: &ForwardingTable, service: Option<u32>, real_server: Option<u32>) -> bool {
        let service = || service.and_then(|at| table.services().get(at as usize)).map(|service| service.key);
        let server = || real_server.and_then(|at| table.real_servers().get(at as usize)).map(|server| server.address);
        self.service.is_none_or(|wanted| service() == Some(wanted))
            && self.real_server.is_none_or(|wanted| server() == Some(wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_read_as_it_is_written() {
        let all = [VerdictFilter::Tx, VerdictFilter::Drop];
        for verdict in all.into_iter().chain(DropReason::ALL.map(VerdictFilter::Reason)) {
            assert_eq!(verdict.to_string().parse(), Ok(verdict));
        }
        assert!("dropped".parse::<VerdictFilter>().is_err());
    }

    #[test]
    fn a_filter_takes_its_verdicts_and_no_other() {
        let fates = || [Fate::Tx].into_iter().chain(DropReason::ALL.map(Fate::Drop));
        let taken = |verdict| fates().filter(|fate| Filter { verdict, ..Filter::default() }.wants(*fate)).count();
        assert_eq!(taken(None), 1 + DropReason::COUNT);
        assert_eq!(taken(Some(VerdictFilter::Tx)), 1);
        assert_eq!(taken(Some(VerdictFilter::Drop)), DropReason::COUNT);
        for reason in DropReason::ALL {
            assert_eq!(taken(Some(VerdictFilter::Reason(reason))), 1);
            let filter = Filter { verdict: Some(VerdictFilter::Reason(reason)), ..Filter::default() };
            assert!(filter.wants(Fate::Drop(reason)));
        }
    }
}
