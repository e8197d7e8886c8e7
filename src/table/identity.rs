//! Lasting numbers of virtual services and real servers, by which flow tables remember them over any number of
//! forwarding tables.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::service::ServiceKey;

/// Gives each service, and each real server of each service, a number that it keeps as long as the process runs, also
/// while it is removed: the flows of one that comes back are its own again.
#[derive(Clone, Debug, Default)]
pub struct Identities {
    services: HashMap<ServiceKey, u32>,
    real_servers: HashMap<(ServiceKey, IpAddr), u32>,
}

impl Identities {
    /// The number of a service.
    pub fn service(&mut self, key: ServiceKey) -> u32 {
        let next = u32::try_from(self.services.len()).unwrap_or(u32::MAX);
        *self.services.entry(key).or_insert(next)
    }

    /// The number of a real server of a service.
    pub fn real_server(&mut self, service: ServiceKey, address: IpAddr) -> u32 {
        let next = u32::try_from(self.real_servers.len()).unwrap_or(u32::MAX);
        *self.real_servers.entry((service, address)).or_insert(next)
    }
}
