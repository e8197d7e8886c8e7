//! What a change makes different: services, real servers, weights, slots.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::config::{Config, RealServerConfig, VirtualServiceConfig};
use crate::control::command::{ChangeReport, MemberChange, ServiceSlots, SettingChange, SlotChange, WeightChange};
use crate::service::ServiceKey;
use crate::table::{ForwardingTable, VirtualService};

/// Tells what differs between two configurations and the forwarding tables that were built of them.
pub(super) fn difference(old: (&Config, &ForwardingTable), new: (&Config, &ForwardingTable)) -> ChangeReport {
    let mut report =
        ChangeReport { secret_changed: old.0.director.secret != new.0.director.secret, ..Default::default() };
    let mut before: BTreeMap<ServiceKey, &VirtualServiceConfig> =
        old.0.virtual_services.iter().map(|service| (service.key, service)).collect();
    for service in &new.0.virtual_services {
        match before.remove(&service.key) {
            None => {
                report.services_added.push(service.key.to_string());
                report.real_servers_added.extend(service.real_servers.iter().map(|server| member(service, server)));
            }
            Some(old) if old != service => compare_services(old, service, &mut report),
            Some(_) => {}
        }
    }
    for service in before.into_values() {
        report.services_removed.push(service.key.to_string());
        report.real_servers_removed.extend(service.real_servers.iter().map(|server| member(service, server)));
    }
    compare_slots(old.1, new.1, &mut report);
    report
}

fn compare_services(old: &VirtualServiceConfig, new: &VirtualServiceConfig, report: &mut ChangeReport) {
    let service = new.key;
    let changed =
        |address| move |(key, old, new): (String, Value, Value)| SettingChange { service, address, key, old, new };
    // The real servers are compared by themselves.
    report.services_changed.extend(settings(old, new, &["real_server"]).map(changed(None)));
    let mut before: BTreeMap<IpAddr, &RealServerConfig> =
        old.real_servers.iter().map(|server| (server.address, server)).collect();
    for server in &new.real_servers {
        let address = server.address;
        match before.remove(&address) {
            None => report.real_servers_added.push(member(new, server)),
            Some(old) if old != server => {
                if old.weight != server.weight {
                    let change = WeightChange { service, address, old: old.weight, new: server.weight };
                    report.real_servers_reweighted.push(change);
                }
                report.real_servers_changed.extend(settings(old, server, &["weight"]).map(changed(Some(address))));
            }
            Some(_) => {}
        }
    }
    report.real_servers_removed.extend(before.into_values().map(|server| member(old, server)));
}

/// The settings that differ, by the keys of the file.
fn settings<T: Serialize>(old: &T, new: &T, but: &[&str]) -> impl Iterator<Item = (String, Value, Value)> {
    let fields = |value: &T| match serde_json::to_value(value) {
        Ok(Value::Object(mut fields)) => {
            but.iter().for_each(|key| drop(fields.remove(*key)));
            fields
        }
        _ => Map::new(),
    };
    let (mut old, new) = (fields(old), fields(new));
    new.into_iter()
        .map(move |(key, new)| {
            let old = old.remove(&key).unwrap_or_default();
            (key, old, new)
        })
        .filter(|(_, old, new)| old != new)
}

fn member(service: &VirtualServiceConfig, server: &RealServerConfig) -> MemberChange {
    MemberChange { service: service.key, address: server.address, weight: server.weight }
}

fn compare_slots(old: &ForwardingTable, new: &ForwardingTable, report: &mut ChangeReport) {
    let before: HashMap<ServiceKey, &VirtualService> =
        old.services().iter().map(|service| (service.key, service)).collect();
    for service in new.services() {
        let Some(old_service) = before.get(&service.key) else { continue };
        let moved = new.moved_since(service, old, old_service);
        let slots = SlotChange { total: moved.slots, moved: moved.moved, least_possible: moved.least };
        report.slots.total += slots.total;
        report.slots.moved += slots.moved;
        report.slots.least_possible += slots.least_possible;
        if slots.moved > 0 {
            report.slots_by_service.push(ServiceSlots { service: service.key, slots });
        }
    }
}
