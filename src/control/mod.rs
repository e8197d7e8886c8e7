//! The control socket: HTTP and JSON over a Unix socket, by which commands reach a running director.
//!
//! It is served by one thread of its own and never by a worker. The server knows no director, only a [`api::Handle`].

pub mod announce;
pub mod api;
pub mod capture;
pub mod capture_client;
pub mod change;
pub mod client;
pub mod command;
pub mod error;
pub mod explain;
pub mod extract;
pub mod flows;
pub mod metrics;
pub mod openapi;
mod places;
mod revision;
pub mod schema;
pub mod server;
pub mod services;
pub mod socket;
pub mod zero;
