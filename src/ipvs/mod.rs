//! ipvsadm's language: its command lines, its rule sets and its listings, for those who know LVS.
//!
//! A command line becomes a [`Command`], a command that changes something becomes changes of the configuration
//! ([`edits`]), and what the director says of itself becomes the text that ipvsadm would print ([`Table`]). The
//! reference is ipvsadm 1.31 (its `ipvsadm.c` for messages and columns); what differs is in `docs/ipvsadm.md`. Nothing
//! here talks to a director.

mod address;
mod command;
mod edit;
mod help;
mod import;
mod legal;
mod line;
mod list;
mod popt;
mod rules;
mod table;

pub use address::Names;
pub use command::{
    Command, Counted, ListWhat, Listing, Netmask, ServerOptions, ServiceFlags, ServiceOptions, Timeouts,
};
pub use edit::{PreparedChanges, edits, unsaid};
pub use help::{USAGE, VERSION};
pub use import::{Imported, import};
pub use line::parse;
pub use list::{list_connections, list_table, list_timeouts, save};
pub use rules::{Rule, read_rules};
pub use table::{Connections, Counts, ServerRow, ServiceRow, Table, director_timeouts};

/// Exit code where the command line is wrong.
pub const BAD_LINE: u8 = 2;
/// Exit code where nothing is asked, where popt cannot take the line apart, and where IPVS would say no.
pub const REFUSED: u8 = 255;
/// Exit code where a listing fails.
pub const NO_LISTING: u8 = 1;

/// The schedulers of LVS that pointsman has.
pub const SCHEDULERS: [&str; 6] = ["mh", "sh", "rr", "wrr", "lc", "wlc"];

/// Why a command is not done: what its user reads, and the exit code that ipvsadm would end with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What is wrong. Where ipvsadm has a sentence for it, that comes first.
    pub message: String,
    /// The exit code.
    pub code: u8,
}

impl Refusal {
    /// Of a wrong command line.
    fn line(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: BAD_LINE }
    }

    /// Of what IPVS itself would refuse.
    #[must_use]
    pub fn by_ipvs(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: REFUSED }
    }

    fn try_help(program: &str) -> Self {
        Self::by_ipvs(format!("Try `{program} -h' or '{program} --help' for more information."))
    }
}
