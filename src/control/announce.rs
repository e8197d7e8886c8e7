//! Who answers for the VIPs: shown, and handed from one director to another.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

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
use crate::announce::{AnnounceError, Order, Role, VipStatus};
use crate::config::Announce;
use crate::network::not_local;

/// `GET`: who answers for the VIPs. `POST`: takes or releases VIPs that the director answers for.
pub const ANNOUNCE: &str = "/v1/announce";

/// The longest lease: a day.
pub const MAX_LEASE_MS: u64 = 86_400_000;
/// The shortest.
pub const MIN_LEASE_MS: u64 = 100;

/// Who answers for the VIPs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AnnounceStatus {
    /// VIPs with `announce = "arp"`: the director answers while they are active.
    pub vips: Vec<VipStatus>,
    /// VIPs with `announce = "kernel"`: the kernel answers if they are addresses of this machine.
    pub kernel_vips: Vec<KernelVip>,
}

/// A VIP that is left to the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KernelVip {
    /// The VIP.
    pub vip: IpAddr,
    /// Whether it is an address of this machine now.
    pub is_local: bool,
}

/// What is to become of VIPs that the director answers for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnnounceRequest {
    /// `active`: they are answered for, and the segment is told; `standby`: they are not.
    pub state: Role,
    /// The VIP; without it all, also those that a reload brings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vip: Option<IpAddr>,
    /// With `active`: for so many milliseconds, then they are standby unless asked for again; without it for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = MIN_LEASE_MS, max = MAX_LEASE_MS))]
    pub for_ms: Option<u64>,
    /// Whether this repeats what was asked for before: a VIP that has been given another state since by a request about it
    /// alone keeps that.
    #[serde(default)]
    pub again: bool,
}

impl AnnounceRequest {
    fn lease(&self) -> Result<Option<Duration>, ApiError> {
        let Some(for_ms) = self.for_ms else { return Ok(None) };
        let refused = |message: String| ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, message).at("for_ms");
        if self.state == Role::Standby {
            return Err(refused("only an active state can be for a time; leave for_ms out".to_owned()));
        }
        if !(MIN_LEASE_MS..=MAX_LEASE_MS).contains(&for_ms) {
            return Err(refused(format!("for_ms = {for_ms}: write {MIN_LEASE_MS} to {MAX_LEASE_MS}")));
        }
        Ok(Some(Duration::from_millis(for_ms)))
    }
}

pub(super) fn routes() -> ApiRouter<Handle> {
    ApiRouter::new().api_route(
        ANNOUNCE,
        get_with(show, about("announcements", "Show who answers for the VIPs"))
            .post_with(set, about("announcements", "Answer for VIPs, or leave them to another director")),
    )
}

async fn show(State(handle): State<Handle>) -> Json<AnnounceStatus> {
    Json(status(&handle))
}

async fn set(
    State(handle): State<Handle>,
    JsonBody(request): JsonBody<AnnounceRequest>,
) -> Result<Json<AnnounceStatus>, ApiError> {
    let lease = request.lease()?;
    let order = Order { role: request.state, vip: request.vip, lease, again: request.again };
    handle.announcements.set(&order).map_err(|error| match error {
        AnnounceError::NoSuchVip(_) => ApiError::new(StatusCode::NOT_FOUND, error.to_string()).at("vip"),
        AnnounceError::NoVip => ApiError::new(StatusCode::CONFLICT, error.to_string()),
    })?;
    Ok(Json(status(&handle)))
}

fn status(handle: &Handle) -> AnnounceStatus {
    let running = handle.director.running();
    let services = running.config.virtual_services.iter();
    let vips: BTreeSet<IpAddr> = services.filter(|s| s.announce == Announce::Kernel).map(|s| s.key.vip).collect();
    let absent = not_local(vips.iter().copied());
    let kernel_vip = |vip| KernelVip { vip, is_local: !absent.contains(&vip) };
    AnnounceStatus { vips: handle.announcements.status(), kernel_vips: vips.into_iter().map(kernel_vip).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_of_an_active_state_and_within_bounds() {
        let lease = |state, for_ms| AnnounceRequest { state, vip: None, for_ms, again: false }.lease().ok();
        assert_eq!(lease(Role::Active, Some(5_000)), Some(Some(Duration::from_secs(5))));
        assert_eq!(lease(Role::Standby, None), Some(None));
        for (state, for_ms) in [(Role::Standby, 5_000), (Role::Active, 0), (Role::Active, u64::MAX)] {
            assert_eq!(lease(state, Some(for_ms)), None, "{state:?} for {for_ms} ms");
        }
    }
}
