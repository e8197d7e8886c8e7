//! `pointsman top`: what a running director does, as it does it.
//!
//! From statistics documents to what lies between two of them (`interval`), to rows that can be sorted and filtered
//! (`rows`), to lines of text with styles (`sections`), to a frame (`view`). `state` is what the keys (`keys`) change.
//! All of this is pure; asking the director and the terminal are the command line's.

mod columns;
mod interval;
mod keys;
mod rows;
mod sections;
mod state;
mod tone;
mod view;

pub(crate) use interval::{Window, between};
pub(crate) use keys::Request;
pub(crate) use rows::RealServerName;
pub(crate) use sections::whole;
pub(crate) use state::{Drained, Outcome, Top};
pub(crate) use view::draw;

#[cfg(test)]
mod tests;
