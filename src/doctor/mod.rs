//! The preflight of direct routing: looks at the machine, the interfaces and the segment, and says what is wrong, why
//! that matters and what mends it.
//!
//! Each family of checks has a file: `read` asks the system for facts, `judge` makes findings of them and is pure. The
//! director says what is demanded ([`Demand`]); nothing here changes anything, and what is sent to the segment
//! ([`probe`]) is made so that nobody learns anything from it.

pub mod direct_routing;
mod finding;
pub mod interface;
pub mod machine;
pub mod probe;
mod system;

pub use direct_routing::{RealServerDemand, VipDemand};
pub use finding::{Check, Counts, Finding, Group, Report, SCHEMA_VERSION, Severity, schema};
pub use interface::InterfaceDemand;
pub use machine::MachineDemand;
pub use system::{System, cpu_list};

use crate::network::links;
use crate::port::xsk::socket_features;

/// What a configuration asks for.
#[derive(Clone, Debug, Default)]
pub struct Demand {
    /// Of the machine.
    pub machine: MachineDemand,
    /// Of each interface.
    pub interfaces: Vec<InterfaceDemand>,
    /// The VIPs, each once.
    pub vips: Vec<VipDemand>,
    /// The real servers, each address once.
    pub real_servers: Vec<RealServerDemand>,
}

/// What a running director has made of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningInterface {
    /// Its name.
    pub name: String,
    /// Whether the program is attached in generic mode.
    pub generic: bool,
    /// Whether all of its sockets have zero copy, if that is known.
    pub zero_copy: Option<bool>,
}

/// Looks at machine and interfaces. Takes milliseconds and sends nothing.
pub fn look(system: &System, demand: &Demand, running: &[RunningInterface]) -> Vec<Finding> {
    let mut findings = machine::judge(&demand.machine, &machine::read(system, socket_features()));
    let links = links().unwrap_or_default();
    for interface in &demand.interfaces {
        let running = running.iter().find(|running| running.name == interface.config.name).cloned();
        let facts = interface::read(system, &interface.config.name, &links, running);
        findings.extend(interface::judge(interface, &facts));
    }
    findings
}
