//! A generator of traffic and a sink for it, for measuring a director from outside.
//!
//! [`send`] fills TX rings from templates, many flows at a stated rate; each frame carries a [`mark`]. [`sink`] takes
//! them from RX rings, and its [`judge`] says what became of them. docs/generator.md is for their users.

mod error;
pub mod flows;
pub mod judge;
pub mod mark;
pub mod pace;
mod receiver;
pub mod report;
pub mod send;
mod sender;
pub mod sink;
pub mod template;

pub use error::GeneratorError;
