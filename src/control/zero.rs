//! Counters that are zeroed for those who list them as ipvsadm does.
//!
//! The director's counters only ever grow, so that everybody can take differences. What they said when somebody zeroed
//! them is kept beside them, for all clients alike, and a client that wants to takes it off. It is lost with the counters
//! themselves: at the director's end, and where a service or a real server goes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::api::Handle;
use super::error::ApiError;
use super::extract::JsonBody;
use super::openapi::about;
use crate::config::Config;
use crate::service::ServiceKey;
use crate::stats::report::{ConnectionsReport, Report, Traffic};

/// `GET`: what had been counted when counters were zeroed, a [`Zeroed`]. `POST`: zeroes those of one service or of all.
pub const ZEROED: &str = "/v1/zeroed";

/// What had been counted when counters were zeroed. What is not named was not zeroed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Zeroed {
    /// By the service's name, as `tcp 192.0.2.1:80`.
    pub services: BTreeMap<String, ZeroedService>,
}

/// What had been counted of a virtual service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ZeroedService {
    /// Of the service.
    pub counted: Counted,
    /// Of its real servers, by address.
    #[schemars(with = "BTreeMap<String, Counted>")]
    pub real_servers: BTreeMap<IpAddr, Counted>,
}

/// Counters, as the statistics have them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counted {
    /// Flows that began.
    pub connections: u64,
    /// Frames submitted to a TX ring.
    pub packets: u64,
    /// Bytes of these, from the destination MAC to the end of the frame.
    pub bytes: u64,
}

/// Which counters are to be zeroed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ZeroRequest {
    /// Those of this virtual service, as `tcp 192.0.2.1:80`; those of all if it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

impl Counted {
    /// What the statistics say of a service or a real server.
    #[must_use]
    pub fn of(connections: &ConnectionsReport, tx: Traffic) -> Self {
        Self { connections: connections.begun, packets: tx.packets, bytes: tx.bytes }
    }
}

impl Zeroed {
    /// Zeroes the counters of one service, or of all, as of `report`.
    pub(super) fn zero(&mut self, report: &Report, only: Option<&str>) {
        let wanted = |name: &str| only.is_none_or(|only| only == name);
        for service in report.virtual_services.iter().filter(|service| wanted(&service.service)) {
            let servers = service.real_servers.iter();
            let real_servers = servers.map(|server| (server.address, Counted::of(&server.connections, server.tx)));
            let counted = Counted::of(&service.connections, service.tx);
            let zeroed = ZeroedService { counted, real_servers: real_servers.collect() };
            self.services.insert(service.service.clone(), zeroed);
        }
    }

    /// Forgets what is not configured: it counts anew when it comes back.
    pub(super) fn retain(&mut self, config: &Config) {
        if self.services.is_empty() {
            return;
        }
        let mut old = std::mem::take(&mut self.services);
        for service in &config.virtual_services {
            let name = service.key.to_string();
            let Some(mut zeroed) = old.remove(&name) else { continue };
            zeroed.real_servers.retain(|address, _| {
                service.real_servers.iter().any(|server| server.address == *address)
                    || service.fallback.as_ref().is_some_and(|fallback| fallback.address == *address)
            });
            self.services.insert(name, zeroed);
        }
    }
}

pub(super) fn routes() -> ApiRouter<Handle> {
    ApiRouter::new().api_route(
        ZEROED,
        get_with(show, about("observation", "Show what had been counted when counters were zeroed"))
            .post_with(zero, about("observation", "Zero the counters of a service, or of all, for ipvsadm's listings")),
    )
}

async fn show(State(handle): State<Handle>) -> Json<Zeroed> {
    Json(handle.director.zeroed())
}

async fn zero(
    State(handle): State<Handle>,
    JsonBody(request): JsonBody<ZeroRequest>,
) -> Result<Json<Zeroed>, ApiError> {
    let only = request.service.map(|name| key_of(&name)).transpose()?;
    let report = (handle.stats)()?;
    if let Some(key) = only
        && !report.virtual_services.iter().any(|service| service.service == key.to_string())
    {
        let message = format!("there is no virtual service {key}; nothing was zeroed");
        return Err(ApiError::new(StatusCode::NOT_FOUND, message).at("service"));
    }
    Ok(Json(handle.director.zero(&report, only)))
}

fn key_of(name: &str) -> Result<ServiceKey, ApiError> {
    name.parse().map_err(|_| {
        let message = format!("service cannot be {name:?}: {}", super::flows::EXPECTED_SERVICE);
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, message).at("service")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_longer_configured_is_forgotten() {
        let text = "[[virtual_service]]\nvip = \"192.0.2.1\"\nport = 80\nprotocol = \"tcp\"\n\
                    fallback = { address = \"192.0.2.12\" }\n\
                    [[virtual_service.real_server]]\naddress = \"192.0.2.10\"\n";
        let config = crate::config::parse(text, "test").unwrap().config;
        let counted = Counted { connections: 1, packets: 4, bytes: 240 };
        let addresses = ["192.0.2.10", "192.0.2.11", "192.0.2.12"].map(|address| address.parse().unwrap());
        let service = ZeroedService { counted, real_servers: addresses.map(|address| (address, counted)).into() };
        let names = ["tcp 192.0.2.1:80", "udp 192.0.2.1:80"].map(str::to_owned);
        let mut zeroed = Zeroed { services: names.map(|name| (name, service.clone())).into() };
        zeroed.retain(&config);
        assert_eq!(zeroed.services.len(), 1);
        let left: Vec<&IpAddr> = zeroed.services["tcp 192.0.2.1:80"].real_servers.keys().collect();
        assert_eq!(left, [&addresses[0], &addresses[2]]);
    }
}
