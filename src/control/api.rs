//! What can be asked at the control socket: paths, documents and what answers them.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use crate::stats::collect::CollectError;
use crate::stats::report::Report;

/// `GET`: the statistics, a [`Report`].
pub const STATS: &str = "/v1/stats";
/// `GET`: that the director answers, a [`Health`].
pub const HEALTH: &str = "/v1/health";

/// Most bytes of a request's body.
pub const MAX_BODY_BYTES: usize = 1 << 20;

/// By what the server reaches the director.
#[derive(Clone)]
pub struct Handle {
    /// Makes the statistics. Called on the control thread; may take some milliseconds.
    pub stats: Arc<dyn Fn() -> Result<Report, CollectError> + Send + Sync>,
}

/// The answer to [`HEALTH`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Always `ok`.
    pub status: String,
    /// Version of the program.
    pub version: String,
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
    let failed = |error: CollectError| ApiError {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        message: format!("cannot make the statistics: {error}"),
    };
    (handle.stats)().map(Json).map_err(failed)
}

async fn health() -> Json<Health> {
    Json(Health { status: "ok".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() })
}

async fn not_found(uri: Uri) -> ApiError {
    ApiError { status: StatusCode::NOT_FOUND, message: format!("there is no {}; try {STATS} or {HEALTH}", uri.path()) }
}

async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    ApiError {
        status: StatusCode::METHOD_NOT_ALLOWED,
        message: format!("{} does not take {method}; the header Allow lists what it takes", uri.path()),
    }
}
