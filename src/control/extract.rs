//! The parts of a request, each refused in the same form: parameters and bodies.

use std::error::Error;
use std::time::Duration;

use aide::OperationInput;
use aide::generate::GenContext;
use aide::openapi::{MediaType, Operation, RequestBody, SchemaObject};
use aide::operation::set_body;
use axum::Json;
use axum::body::Body;
use axum::extract::path::ErrorKind;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{self, FromRequest, FromRequestParts, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use schemars::{JsonSchema, json_schema};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::error::ApiError;
use super::places::Place;
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

/// The query string of a route that takes no parameters.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NoParameters {}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query: Result<extract::Query<T>, QueryRejection> = extract::Query::from_request_parts(parts, state).await;
        query.map(|extract::Query(query)| Self(query)).map_err(|error| wrong_query(&error))
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
        path.map(|extract::Path(path)| Self(path)).map_err(wrong_path)
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
        parse_json(&read(request).await?).map(Self)
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
        let bytes = read(request).await?;
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

/// Says which parameter of a query string is wrong.
fn wrong_query(error: &QueryRejection) -> ApiError {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(found) = cause.downcast_ref::<serde_path_to_error::Error<serde::de::value::Error>>() {
            let message = found.inner().to_string();
            let path = Some(found.path().to_string()).filter(|path| path != ".");
            let field = path.or_else(|| named(&message));
            let error = ApiError::new(StatusCode::BAD_REQUEST, of_parameters(&message));
            return match field {
                Some(field) => error.at(field),
                None => error,
            };
        }
        source = cause.source();
    }
    ApiError::new(StatusCode::BAD_REQUEST, error.body_text())
}

/// What serde says behind the name of an unknown field where there are none.
const NO_FIELDS: &str = "`, there are no fields";

/// The parameter of which serde says that it is unknown, missing or there twice.
fn named(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("field `")?;
    let rest = rest.split("`, expected ").next().unwrap_or(rest);
    let name = rest.strip_suffix(NO_FIELDS).or_else(|| rest.strip_suffix('`')).unwrap_or(rest);
    Some(name.to_owned())
}

/// What serde says of fields, of parameters.
fn of_parameters(message: &str) -> String {
    let message = message.replacen("field `", "parameter `", 1);
    match message.strip_suffix(NO_FIELDS) {
        Some(rest) => format!("{rest}`; this takes none"),
        None => message,
    }
}

/// Says which part of a path is wrong.
fn wrong_path(error: PathRejection) -> ApiError {
    let message = error.body_text();
    let bad = ApiError::new(StatusCode::BAD_REQUEST, message);
    let PathRejection::FailedToDeserializePathParams(error) = error else { return bad };
    match error.into_kind() {
        ErrorKind::ParseErrorAtKey { key, .. }
        | ErrorKind::InvalidUtf8InPathParam { key }
        | ErrorKind::DeserializeError { key, .. } => bad.at(key),
        _ => bad,
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
async fn read(request: Request) -> Result<Vec<u8>, ApiError> {
    let slow = |_| ApiError::new(StatusCode::REQUEST_TIMEOUT, "the body has not arrived in 10 s; send it at once");
    let place = request.extensions().get::<Place>().cloned();
    place.iter().for_each(Place::waits_for_a_body);
    let body = timeout(BODY_PATIENCE, collect(request.into_body())).await;
    place.iter().for_each(Place::answers);
    body.map_err(slow)?
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
