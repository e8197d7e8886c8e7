//! Pointsman: an LVS-DR director on AF_XDP.
#![deny(unsafe_code)]

pub mod network;
pub mod service;
pub mod wire;
