//! Changes at the control socket: single ones, batches, and the whole configuration.

use aide::OperationOutput;
use aide::axum::ApiRouter;
use aide::axum::routing::{get_with, post_with};
use aide::generate::GenContext;
use aide::openapi::{Operation, Response as ResponseDocument, StatusCode as DocumentedStatus};
use axum::Json;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE, ETAG};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Deserialize;

use super::api::Handle;
use super::command::{ChangeReport, ChangeRequest, NextHopReport};
use super::error::{ApiError, etag};
use super::extract::{ConfigBody, JsonBody, NoParameters, Query};
use super::revision::{IfMatch, IfNoneMatch, Revised};
use super::schema::ConfigDocument;
use crate::config::edit::{self, Change};

/// `GET`, `PUT`: the whole configuration.
pub const CONFIG: &str = "/v1/config";
/// `POST`: several changes, all or none.
pub const CHANGES: &str = "/v1/changes";
/// `GET`: how the real servers are reached.
pub const NEXT_HOPS: &str = "/v1/next-hops";

/// How a change is made.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ChangeQuery {
    /// Change nothing, only tell what would change.
    dry_run: bool,
    /// Write the changed configuration to its file, so that it outlasts a restart.
    persist: bool,
}

/// Several changes.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Batch {
    /// The changes, made in this order, all or none.
    changes: Vec<Change>,
}

/// What a change has changed, with the revision that it led to.
pub(super) struct Changed {
    report: ChangeReport,
    created: bool,
}

impl IntoResponse for Changed {
    fn into_response(self) -> Response {
        let status = if self.created { StatusCode::CREATED } else { StatusCode::OK };
        let tag = etag(&self.report.revision);
        let mut response = (status, Json(self.report)).into_response();
        if let Some(tag) = tag {
            response.headers_mut().insert(ETAG, tag);
        }
        response
    }
}

impl OperationOutput for Changed {
    type Inner = ChangeReport;

    fn operation_response(ctx: &mut GenContext, operation: &mut Operation) -> Option<ResponseDocument> {
        Json::<ChangeReport>::operation_response(ctx, operation)
    }

    fn inferred_responses(
        ctx: &mut GenContext,
        operation: &mut Operation,
    ) -> Vec<(Option<DocumentedStatus>, ResponseDocument)> {
        Json::<ChangeReport>::inferred_responses(ctx, operation)
    }
}

/// Makes a change of something that is there.
pub(super) async fn make(
    handle: &Handle,
    query: ChangeQuery,
    revisions: IfMatch,
    change: Change,
) -> Result<Changed, ApiError> {
    request(handle, query, revisions, vec![change], false).await
}

/// Makes a change that adds something.
pub(super) async fn make_new(
    handle: &Handle,
    query: ChangeQuery,
    revisions: IfMatch,
    change: Change,
) -> Result<Changed, ApiError> {
    let changed = make(handle, query, revisions, change).await?;
    Ok(Changed { created: !query.dry_run, ..changed })
}

async fn request(
    handle: &Handle,
    query: ChangeQuery,
    IfMatch(if_revision): IfMatch,
    changes: Vec<Change>,
    batch: bool,
) -> Result<Changed, ApiError> {
    let ChangeQuery { dry_run, persist } = query;
    let request = ChangeRequest { changes, if_revision, dry_run, persist };
    let report = handle.director.change(request).await;
    report.map(|report| Changed { report, created: false }).map_err(|refusal| ApiError::of_refusal(refusal, batch))
}

pub(super) fn routes() -> ApiRouter<Handle> {
    ApiRouter::new()
        .api_route(
            CONFIG,
            get_with(show_config, |operation| {
                operation
                    .tag("configuration")
                    .summary("Show the configuration: its text with comments, or as JSON what is in force")
                    .response_with::<200, Json<ConfigDocument>, _>(|mut response| {
                        let text = aide::openapi::MediaType::default();
                        response.inner().content.insert("application/toml".to_owned(), text);
                        response.description("The configuration, in TOML unless JSON is asked for.")
                    })
            })
            .put_with(put_config, |operation| {
                operation.tag("configuration").summary("Put another configuration in the place of all")
            }),
        )
        .api_route(
            CHANGES,
            post_with(make_all, |operation| {
                operation.tag("configuration").summary("Make several changes, all or none")
            }),
        )
        .api_route(
            NEXT_HOPS,
            get_with(next_hops, |operation| {
                operation.tag("next hops").summary("Show how the addresses of the real servers are reached")
            }),
        )
}

async fn show_config(
    State(handle): State<Handle>,
    Query(NoParameters {}): Query<NoParameters>,
    known: IfNoneMatch,
    headers: HeaderMap,
) -> Result<Revised<Response>, ApiError> {
    let running = handle.director.running();
    Ok(known.unless_known(&running.revision, || {
        if wants_json(&headers) {
            return Json(&*running.config).into_response();
        }
        let text = edit::without_secret(&running.document).into_owned();
        ([(CONTENT_TYPE, "application/toml")], text).into_response()
    }))
}

/// Whether the first media type that is asked for, of those there are, is JSON.
fn wants_json(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut types = accepted.flat_map(|value| value.split(',')).filter_map(|part| part.split(';').next());
    types.find_map(|name| match name.trim() {
        "application/json" => Some(true),
        "application/toml" | "*/*" | "application/*" => Some(false),
        _ => None,
    }) == Some(true)
}

async fn put_config(
    State(handle): State<Handle>,
    Query(query): Query<ChangeQuery>,
    revisions: IfMatch,
    ConfigBody(document): ConfigBody,
) -> Result<Changed, ApiError> {
    request(&handle, query, revisions, vec![Change::Replace { document }], false).await
}

async fn make_all(
    State(handle): State<Handle>,
    Query(query): Query<ChangeQuery>,
    revisions: IfMatch,
    JsonBody(Batch { changes }): JsonBody<Batch>,
) -> Result<Changed, ApiError> {
    request(&handle, query, revisions, changes, true).await
}

async fn next_hops(
    State(handle): State<Handle>,
    Query(NoParameters {}): Query<NoParameters>,
) -> Result<Json<Vec<NextHopReport>>, ApiError> {
    Ok(Json(handle.director.running().next_hops.to_vec()))
}
