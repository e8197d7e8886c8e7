//! The services whose frames the program redirects: what is installed, and how it is changed under traffic.
//!
//! The program looks into `vips` first and into `services` only for an address that it found there. So a service is
//! entered into `services` before its VIP says that it is there, and its VIP stops saying so before it goes.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use libbpf_rs::{MapCore, MapFlags, MapHandle};

use crate::service::{Protocol, ServiceKey};
use crate::xdp::XdpError;
use crate::xdp::abi::{self, MAX_SERVICES, MAX_VIPS, VipProtocols};

#[derive(Debug)]
pub(super) struct Services {
    vips_map: MapHandle,
    services_map: MapHandle,
    installed: BTreeSet<ServiceKey>,
    vips: HashMap<IpAddr, VipProtocols>,
}

impl Services {
    /// Over the two maps of a program that was just loaded.
    pub(super) fn new(vips_map: MapHandle, services_map: MapHandle) -> Self {
        Self { vips_map, services_map, installed: BTreeSet::new(), vips: HashMap::new() }
    }

    pub(super) fn set(&mut self, wanted: BTreeSet<ServiceKey>) -> Result<(), XdpError> {
        let gone: Vec<ServiceKey> = self.installed.difference(&wanted).copied().collect();
        wanted.into_iter().try_for_each(|service| self.add(service))?;
        gone.into_iter().try_for_each(|service| self.remove(service))
    }

    pub(super) fn add(&mut self, service: ServiceKey) -> Result<(), XdpError> {
        if self.installed.contains(&service) {
            return Ok(());
        }
        if self.installed.len() >= MAX_SERVICES {
            return Err(XdpError::TooManyServices { limit: MAX_SERVICES });
        }
        if self.vips.len() >= MAX_VIPS && !self.vips.contains_key(&service.vip) {
            return Err(XdpError::TooManyVips { limit: MAX_VIPS });
        }
        if service.port != 0 {
            self.services_map
                .update(&abi::service_key(&service), &1_u32.to_ne_bytes(), MapFlags::ANY)
                .map_err(|source| XdpError::Map { action: "enter a virtual service", source })?;
        }
        self.installed.insert(service);
        let announced = self.announce(service.vip);
        if announced.is_err() {
            // So that a second try begins where this one did.
            self.installed.remove(&service);
        }
        announced
    }

    pub(super) fn remove(&mut self, service: ServiceKey) -> Result<(), XdpError> {
        if !self.installed.remove(&service) {
            return Ok(());
        }
        let removed = self.announce(service.vip).and_then(|()| self.delete_service(&service));
        if removed.is_err() {
            self.installed.insert(service);
        }
        removed
    }

    fn delete_service(&self, service: &ServiceKey) -> Result<(), XdpError> {
        if service.port == 0 {
            return Ok(());
        }
        self.services_map
            .delete(&abi::service_key(service))
            .map_err(|source| XdpError::Map { action: "take a virtual service out", source })
    }

    /// Brings the entry of `vips` up to what is installed. It is replaced as a whole, and absent at no moment while a
    /// service is left.
    fn announce(&mut self, vip: IpAddr) -> Result<(), XdpError> {
        let first = ServiceKey { vip, protocol: Protocol::Tcp, port: 0 };
        let last = ServiceKey { vip, protocol: Protocol::Udp, port: u16::MAX };
        let protocols = VipProtocols::of(self.installed.range(first..=last));
        if self.vips.get(&vip).copied().unwrap_or_default() == protocols {
            return Ok(());
        }
        let key = abi::vip_key(vip);
        if protocols.is_empty() {
            self.vips_map.delete(&key).map_err(|source| XdpError::Map { action: "take a VIP out", source })?;
            self.vips.remove(&vip);
        } else {
            self.vips_map
                .update(&key, &protocols.value(), MapFlags::ANY)
                .map_err(|source| XdpError::Map { action: "enter a VIP", source })?;
            self.vips.insert(vip, protocols);
        }
        Ok(())
    }
}
