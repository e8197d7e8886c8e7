//! What can be asked at the control socket: paths, documents and what answers them.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::explain::{ExplainQuery, LiveExplanation};
use super::flows::{FilterError, FlowQuery, FlowTables};
use crate::stats::collect::CollectError;
use crate::stats::report::{HealthCheckReport, Report, StandingReport};

/// `GET`: the statistics, a [`Report`].
pub const STATS: &str = "/v1/stats";
/// `GET`: that the director answers, and what health checks have found, a [`Health`].
pub const HEALTH: &str = "/v1/health";

/// `GET`: the flows that the workers remember, a [`FlowList`](super::flows::FlowList). The query may name `service`,
/// `real_server`, `client`, `state` and `limit`.
pub const FLOWS: &str = "/v1/flows";
/// `GET`: what becomes of a flow and why, a [`LiveExplanation`]. The query names `protocol`, `client` and `destination`.
pub const EXPLAIN: &str = "/v1/explain";

/// Most bytes of a request's body.
pub const MAX_BODY_BYTES: usize = 1 << 20;

/// By what the server reaches the director.
#[derive(Clone)]
pub struct Handle {
    /// Makes the statistics. Called on the control thread; may take some milliseconds.
    pub stats: Arc<dyn Fn() -> Result<Report, CollectError> + Send + Sync>,
    /// The workers' flow tables, which are read on the control thread.
    pub flows: FlowTables,
}

/// The answer to [`HEALTH`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Always `ok`.
    pub status: String,
    /// Version of the program.
    pub version: String,
    /// The real servers of all services.
    pub real_servers: Vec<RealServerHealth>,
}

/// What health checks have found of a real server of one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RealServerHealth {
    /// Name of the service, as `tcp 192.168.88.15:80`.
    pub service: String,
    /// The real server's address.
    pub address: IpAddr,
    /// Whether frames can be sent to it.
    pub alive: bool,
    /// What its checks mean for it.
    pub standing: StandingReport,
    /// Whether it is the service's fallback server.
    pub fallback: bool,
    /// Its checks.
    pub health_checks: Vec<HealthCheckReport>,
}

/// The answer to a request that cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What is wrong, in one sentence.
    pub error: String,
}

/// The routes, answered by `handle`.
pub(super) fn router(handle: Handle) -> Router {
    Router::new()
        .route(STATS, get(stats))
        .route(HEALTH, get(health))
        .route(FLOWS, get(flows))
        .route(EXPLAIN, get(explain))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(handle)
}

/// An error as every route answers it.
struct ApiError {
    status: StatusCode,
    message: String,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(ErrorBody { error: self.message })).into_response()
    }
}

async fn stats(State(handle): State<Handle>) -> Result<Json<Report>, ApiError> {
    Ok(Json((handle.stats)()?))
}

impl From<CollectError> for ApiError {
    fn from(error: CollectError) -> Self {
        let message = format!("cannot make the statistics: {error}");
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, message }
    }
}

async fn flows(
    State(handle): State<Handle>,
    query: Result<Query<FlowQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(query) = query?;
    let list = handle.flows.list(query.filter()?)?;
    Ok(([(CONTENT_TYPE, "application/json")], Body::new(list)).into_response())
}

async fn explain(
    State(handle): State<Handle>,
    query: Result<Query<ExplainQuery>, QueryRejection>,
) -> Result<Json<LiveExplanation>, ApiError> {
    let Query(query) = query?;
    Ok(Json(handle.flows.explain(&query.question()?)))
}

impl From<QueryRejection> for ApiError {
    fn from(error: QueryRejection) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message: error.body_text() }
    }
}

impl From<FilterError> for ApiError {
    fn from(error: FilterError) -> Self {
        let status = match error {
            FilterError::Bad { .. } => StatusCode::BAD_REQUEST,
            FilterError::NoService(_) | FilterError::NoRealServer(_) => StatusCode::NOT_FOUND,
        };
        Self { status, message: error.to_string() }
    }
}

async fn health(State(handle): State<Handle>) -> Result<Json<Health>, ApiError> {
    let report = (handle.stats)()?;
    let real_servers = report.virtual_services.into_iter().flat_map(|of| {
        of.real_servers.into_iter().map(move |server| RealServerHealth {
            service: of.service.clone(),
            address: server.address,
            alive: server.alive,
            standing: server.standing,
            fallback: server.fallback,
            health_checks: server.health_checks,
        })
    });
    Ok(Json(Health { status: "ok".to_owned(), version: report.version, real_servers: real_servers.collect() }))
}

async fn not_found(uri: Uri) -> ApiError {
    let message = format!("there is no {}; try {STATS}, {HEALTH}, {FLOWS} or {EXPLAIN}", uri.path());
    ApiError { status: StatusCode::NOT_FOUND, message }
}

async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    ApiError {
        status: StatusCode::METHOD_NOT_ALLOWED,
        message: format!("{} does not take {method}; the header Allow lists what it takes", uri.path()),
    }
}
