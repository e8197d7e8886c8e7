//! Who answers for the VIPs: shown, and handed from one director to another.

use std::collections::BTreeSet;
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
use crate::announce::{AnnounceError, Role, VipStatus};
use crate::config::Announce;
use crate::network::not_local;

/// `GET`: who answers for the VIPs. `POST`: takes or releases VIPs that the director answers for.
pub const ANNOUNCE: &str = "/v1/announce";

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
    handle.announcements.set(request.state, request.vip).map_err(|error| match error {
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
