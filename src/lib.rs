//! Pointsman: an LVS-DR director on AF_XDP.
#![deny(unsafe_code)]

pub mod service;
pub mod wire;
pub mod xdp;
