//! The control socket: HTTP and JSON over a Unix socket, by which commands reach a running director.
//!
//! It is served by one thread of its own and never by a worker. The server knows no director, only a [`api::Handle`].

pub mod api;
pub mod client;
pub mod explain;
pub mod flows;
pub mod server;
pub mod socket;
