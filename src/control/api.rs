//! What can be asked at the control socket: paths, documents and what answers them.

use std::net::IpAddr;
use std::sync::Arc;

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::capture::{self, Captures};
use super::command::DirectorHandle;
use super::error::ApiError;
use super::explain::{ExplainQuery, LiveExplanation};
use super::extract::{NoParameters, Query};
use super::flows::{FlowList, FlowQuery, FlowTables};
use super::metrics::{METRICS, metrics};
use super::openapi::{self, OPENAPI, about};
use super::{announce, change, services, zero};
use crate::announce::Announcements;
use crate::stats::collect::CollectError;
use crate::stats::report::{HealthCheckReport, HealthState, RealServerReport, Report, StandingReport};

/// `GET`: the statistics, a [`Report`].
pub const STATS: &str = "/v1/stats";
/// `GET`: that the director answers, and what health checks have found, a [`Health`].
pub const HEALTH: &str = "/v1/health";

/// `GET`: the flows that the workers remember, a [`FlowList`]. The query may name `service`,
/// `real_server`, `client`, `state` and `limit`.
pub const FLOWS: &str = "/v1/flows";
/// `GET`: what becomes of a flow and why, a [`LiveExplanation`]. The query names `protocol`, `client` and `destination`.
pub const EXPLAIN: &str = "/v1/explain";

/// `GET`: captured frames as they come, in pcapng, with the capture's number in the header `capture-id`. The query may
/// name `service`, `real_server`, `verdict`, `sample`, `snapshot_bytes`, `count` and `duration_ms`. `DELETE`: ends the
/// capture whose number is the query's `id`, so that its statistics still follow.
pub const CAPTURE: &str = "/v1/capture";

/// The answer to [`HEALTH`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Health {
    /// Always `ok`: it answers.
    pub status: String,
    /// Version of the program.
    pub version: String,
    /// Revision of the configuration.
    pub revision: String,
    /// Changes made at run time that a restart would lose.
    pub unsaved_changes: u64,
    /// The real servers of each virtual service.
    pub services: Vec<ServiceHealth>,
}

/// The real servers of a virtual service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceHealth {
    /// The service's name, as `tcp 192.0.2.1:80`.
    pub service: String,
    /// Real servers that get new flows: up, with a weight.
    pub available: usize,
    /// Whether the fallback server, if there is one, gets them: no other does, or the quorum is lost.
    #[serde(default)]
    pub falls_back: bool,
    /// All of them.
    pub real_servers: Vec<RealServerHealth>,
}

/// A real server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RealServerHealth {
    /// Its address.
    pub address: IpAddr,
    /// Its weight; 0 = draining.
    pub weight: u32,
    /// Whether frames are sent to it.
    pub up: bool,
    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What its health checks mean for it.
    pub standing: StandingReport,
    /// Whether it is the service's fallback server.
    pub fallback: bool,
    /// Its health checks.
    pub health_checks: Vec<HealthCheckReport>,
}

/// By what the server reaches the director.
#[derive(Clone)]
pub struct Handle {
    /// Makes the statistics. Called on the control thread; may take some milliseconds.
    pub stats: Arc<dyn Fn() -> Result<Report, CollectError> + Send + Sync>,
    /// The workers' flow tables, which are read on the control thread.
    pub flows: FlowTables,
    /// What the director runs by, and the way to change it.
    pub director: DirectorHandle,
    /// Captures of frames.
    pub captures: Captures,
    /// The VIPs that the director answers for itself.
    pub announcements: Announcements,
}

/// The routes with what describes them.
pub(super) fn routes() -> ApiRouter<Handle> {
    let about = |summary| about("observation", summary);
    ApiRouter::new()
        .api_route(STATS, get_with(stats, about("Show the statistics")))
        .api_route(HEALTH, get_with(health, about("Show that the director answers, and which real servers are up")))
        .api_route(
            FLOWS,
            get_with(flows, |operation| {
                about("List the flows that the workers remember")(operation).response::<200, Json<FlowList>>()
            }),
        )
        .api_route(EXPLAIN, get_with(explain, about("Say what becomes of a flow, and why")))
        .merge(capture::routes())
        .merge(services::routes())
        .merge(change::routes())
        .merge(announce::routes())
        .merge(zero::routes())
}

/// The routes, answered by `handle`.
pub(super) fn router(handle: Handle) -> Router {
    let (routes, document) = openapi::described();
    let document: Arc<str> = document.into();
    let show = move || async move { ([(CONTENT_TYPE, "application/json")], document.to_string()) };
    routes
        .route(OPENAPI, get(show))
        .route(METRICS, get(metrics))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(handle)
}

async fn stats(
    State(handle): State<Handle>,
    Query(NoParameters {}): Query<NoParameters>,
) -> Result<Json<Report>, ApiError> {
    Ok(Json((handle.stats)()?))
}

async fn flows(State(handle): State<Handle>, Query(query): Query<FlowQuery>) -> Result<Response, ApiError> {
    let list = handle.flows.list(query.filter()?)?;
    Ok(([(CONTENT_TYPE, "application/json")], Body::new(list)).into_response())
}

async fn explain(
    State(handle): State<Handle>,
    Query(query): Query<ExplainQuery>,
) -> Result<Json<LiveExplanation>, ApiError> {
    Ok(Json(handle.flows.explain(&query.question()?)))
}

async fn health(
    State(handle): State<Handle>,
    Query(NoParameters {}): Query<NoParameters>,
) -> Result<Json<Health>, ApiError> {
    let running = handle.director.running();
    let report = (handle.stats)()?;
    let services = report.virtual_services.into_iter().map(|service| {
        let real_servers: Vec<_> = service.real_servers.into_iter().map(RealServerHealth::from).collect();
        let available = real_servers.iter().filter(|server| server.takes_new_flows()).count();
        let falls_back = available == 0 || !service.has_quorum;
        ServiceHealth { service: service.service, available, falls_back, real_servers }
    });
    Ok(Json(Health {
        status: "ok".to_owned(),
        version: report.version,
        revision: running.revision.clone(),
        unsaved_changes: running.unsaved_changes,
        services: services.collect(),
    }))
}

impl RealServerHealth {
    fn takes_new_flows(&self) -> bool {
        self.up && self.weight > 0 && self.standing == StandingReport::Sound && !self.fallback
    }
}

impl From<RealServerReport> for RealServerHealth {
    fn from(server: RealServerReport) -> Self {
        let failing = server.health_checks.iter().find(|check| check.state == HealthState::Down);
        let reason = match failing {
            Some(check) => {
                let result = check.last_result.as_deref().unwrap_or("no answer yet");
                let hint = if check.is_direct() { " (is the VIP on its lo?)" } else { "" };
                Some(format!("health check {}: {result}{hint}", check.name()))
            }
            None => (!server.alive).then(|| "nobody answers for its address: it has no MAC address".to_owned()),
        };
        Self {
            address: server.address,
            weight: server.weight,
            up: server.alive,
            reason,
            standing: server.standing,
            fallback: server.fallback,
            health_checks: server.health_checks,
        }
    }
}

impl From<CollectError> for ApiError {
    fn from(error: CollectError) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot make the statistics: {error}"))
    }
}

async fn not_found(uri: Uri) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, format!("there is no {}; {OPENAPI} lists what there is", uri.path()))
}

async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    let message = format!("{} does not take {method}; the header Allow lists what it takes", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, message)
}
