//! The parts of a request, each refused in the same form: parameters, bodies, preconditions.

use std::time::Duration;

use aide::OperationInput;
use aide::generate::GenContext;
use aide::openapi::{MediaType, Operation, RequestBody, SchemaObject};
use aide::operation::{ParamLocation, add_parameters, parameters_from_schema, set_body};
use axum::Json;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{self, FromRequest, FromRequestParts, Request};
use axum::http::header::{CONTENT_TYPE, IF_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use schemars::{JsonSchema, json_schema};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::error::ApiError;
use super::schema::ConfigDocument;
use crate::config::MAX_FILE_BYTES;

/// Most bytes of a request's body: a whole configuration, escaped in JSON.
pub const MAX_BODY_BYTES: usize = 32 << 20;
/// Bytes up to which bodies are read side by side; of larger ones one after the other is.
const SMALL_BODY_BYTES: usize = 256 << 10;
/// Time in which a body must have arrived.
const BODY_PATIENCE: Duration = Duration::from_secs(10);

static LARGE_BODY: Semaphore = Semaphore::const_new(1);

/// The query string.
pub(super) struct Query<T>(pub(super) T);

/// The parameters in the path.
pub(super) struct Path<T>(pub(super) T);

/// A body in JSON.
pub(super) struct JsonBody<T>(pub(super) T);

/// A whole configuration, in TOML or in JSON: its text in TOML.
pub(super) struct ConfigBody(pub(super) String);

/// The revisions of the header `If-Match`; `None` if any will do.
pub(super) struct IfMatch(pub(super) Option<Vec<String>>);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query: Result<extract::Query<T>, QueryRejection> = extract::Query::from_request_parts(parts, state).await;
        let bad = |error: QueryRejection| ApiError::new(StatusCode::BAD_REQUEST, error.body_text());
        query.map(|extract::Query(query)| Self(query)).map_err(bad)
    }
}

impl<T: JsonSchema> OperationInput for Query<T> {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        extract::Query::<T>::operation_input(ctx, operation);
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path: Result<extract::Path<T>, PathRejection> = extract::Path::from_request_parts(parts, state).await;
        let bad = |error: PathRejection| ApiError::new(StatusCode::BAD_REQUEST, error.body_text());
        path.map(|extract::Path(path)| Self(path)).map_err(bad)
    }
}

impl<T: JsonSchema> OperationInput for Path<T> {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        extract::Path::<T>::operation_input(ctx, operation);
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        match media_type(request.headers()).as_str() {
            "application/json" | "application/merge-patch+json" => {}
            other => return Err(unsupported(other, "application/json")),
        }
        parse_json(&read(request.into_body()).await?).map(Self)
    }
}

impl<T: JsonSchema> OperationInput for JsonBody<T> {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        Json::<T>::operation_input(ctx, operation);
    }
}

impl<S: Send + Sync> FromRequest<S> for ConfigBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let json = match media_type(request.headers()).as_str() {
            "application/json" => true,
            "application/toml" => false,
            other => return Err(unsupported(other, "application/toml or application/json")),
        };
        let bytes = read(request.into_body()).await?;
        let text = if json {
            let ConfigDocument(settings) = parse_json(&bytes)?;
            crate::config::edit::document_of(&settings)
                .map_err(|error| ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?
        } else {
            String::from_utf8(bytes)
                .map_err(|_| ApiError::new(StatusCode::BAD_REQUEST, "the document is not UTF-8; send UTF-8 text"))?
        };
        if text.len() as u64 > MAX_FILE_BYTES {
            return Err(ApiError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "the document is over 16 MiB; send a smaller one",
            ));
        }
        Ok(Self(text))
    }
}

impl OperationInput for ConfigBody {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        let json_schema = ctx.schema.subschema_for::<ConfigDocument>();
        let text = json_schema!({ "type": "string", "description": "The configuration file, in TOML." });
        let media = |json_schema| MediaType {
            schema: Some(SchemaObject { json_schema, example: None, external_docs: None }),
            ..MediaType::default()
        };
        let content = [("application/toml", media(text)), ("application/json", media(json_schema))];
        let body = RequestBody {
            description: Some("The whole configuration.".to_owned()),
            content: content.into_iter().map(|(name, media)| (name.to_owned(), media)).collect(),
            required: true,
            ..RequestBody::default()
        };
        set_body(ctx, operation, body);
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let mut revisions = Vec::new();
        for value in parts.headers.get_all(IF_MATCH) {
            for tag in value.to_str().unwrap_or_default().split(',').map(str::trim) {
                match tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')) {
                    _ if tag == "*" => return Ok(Self(None)),
                    Some(revision) => revisions.push(revision.to_owned()),
                    // A weak one never matches.
                    None if tag.starts_with("W/\"") => revisions.push(String::new()),
                    None => {
                        let message = "If-Match names no revision; send what ETag said, in double quotes";
                        return Err(ApiError::new(StatusCode::BAD_REQUEST, message).at("If-Match"));
                    }
                }
            }
        }
        Ok(Self(Some(revisions).filter(|revisions| !revisions.is_empty())))
    }
}

/// The headers that changes heed.
#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct ChangeHeaders {
    /// Makes the change only if the configuration has this revision, which `ETag` named.
    #[serde(rename = "If-Match")]
    #[schemars(extend("pattern" = "^\"[ !#-+\\-~]*\"$"))]
    if_match: Option<String>,
}

impl OperationInput for IfMatch {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        let schema = ctx.schema.subschema_for::<ChangeHeaders>();
        let parameters = parameters_from_schema(ctx, schema, ParamLocation::Header);
        add_parameters(ctx, operation, parameters);
    }
}

/// The media type of a body, without its parameters.
fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn unsupported(found: &str, expected: &str) -> ApiError {
    let found = if found.is_empty() { "missing".to_owned() } else { format!("{found:?}") };
    let message = format!("the Content-Type is {found}; send {expected}");
    ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message).at("Content-Type")
}

fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let parsed = serde_path_to_error::deserialize(&mut reader);
    let parsed = parsed.map_err(|error| {
        let field = error.path().to_string();
        let status = if error.inner().is_data() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::BAD_REQUEST };
        let error = ApiError::new(status, error.into_inner().to_string());
        if field == "." { error } else { error.at(field) }
    })?;
    reader.end().map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    Ok(parsed)
}

/// Reads a body, within bounds of size, time and memory of all together.
async fn read(body: Body) -> Result<Vec<u8>, ApiError> {
    let slow = |_| ApiError::new(StatusCode::REQUEST_TIMEOUT, "the body has not arrived in 10 s; send it at once");
    timeout(BODY_PATIENCE, collect(body)).await.map_err(slow)?
}

async fn collect(mut body: Body) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::new();
    let mut large = None;
    while let Some(frame) = body.frame().await {
        let broken = |_| ApiError::new(StatusCode::BAD_REQUEST, "the body broke off; send all of it");
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        let length = bytes.len() + data.len();
        if length > MAX_BODY_BYTES {
            return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is over 32 MiB; send a smaller one"));
        }
        if length > SMALL_BODY_BYTES && large.is_none() {
            large = LARGE_BODY.acquire().await.ok();
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}
