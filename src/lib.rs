//! Pointsman: an LVS-DR director on AF_XDP.

pub mod announce;
pub mod capture;
pub mod classify;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod counters;
pub mod director;
pub mod doctor;
pub mod flow;
pub mod forward;
pub mod generator;
pub mod health;
pub mod ipvs;
pub mod network;
pub mod plan;
pub mod port;
mod prefetch;
pub mod replay;
pub mod service;
pub mod stats;
pub mod table;
pub mod verdict;
pub mod wire;
pub mod worker;
pub mod xdp;
