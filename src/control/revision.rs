//! The revision of the configuration in requests and answers: `ETag`, `If-None-Match`, `If-Match`.

use aide::OperationInput;
use aide::OperationOutput;
use aide::generate::GenContext;
use aide::openapi::{Operation, Response as ResponseDocument, StatusCode as DocumentedStatus};
use aide::operation::{ParamLocation, add_parameters, parameters_from_schema};
use axum::extract::FromRequestParts;
use axum::http::header::{ETAG, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Deserialize;

use super::error::{ApiError, etag};

/// The revisions of the header `If-Match`; `None` if any will do.
pub(super) struct IfMatch(pub(super) Option<Vec<String>>);

/// What the client knows already, by the header `If-None-Match`.
pub(super) struct IfNoneMatch(Tags);

/// An answer whose content the configuration is: with its revision, and without content for who knows that.
pub(super) struct Revised<T> {
    revision: Option<HeaderValue>,
    content: Option<T>,
}

/// What a header with revisions says.
#[derive(Default)]
struct Tags {
    any: bool,
    strong: Vec<String>,
    weak: Vec<String>,
}

impl Tags {
    fn read(headers: &HeaderMap, name: &HeaderName, title: &'static str) -> Result<Self, ApiError> {
        let mut tags = Self::default();
        for value in headers.get_all(name) {
            for tag in value.to_str().unwrap_or_default().split(',').map(str::trim) {
                let (list, tag) = match tag.strip_prefix("W/") {
                    Some(tag) => (&mut tags.weak, tag),
                    None => (&mut tags.strong, tag),
                };
                match tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')) {
                    Some(revision) => list.push(revision.to_owned()),
                    None if tag == "*" => tags.any = true,
                    None => {
                        let message = format!("{title} names no revision; send what ETag said, in double quotes");
                        return Err(ApiError::new(StatusCode::BAD_REQUEST, message).at(title));
                    }
                }
            }
        }
        Ok(tags)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let tags = Tags::read(&parts.headers, &IF_MATCH, "If-Match")?;
        let given = !tags.strong.is_empty() || !tags.weak.is_empty();
        // A weak one never matches.
        Ok(Self((given && !tags.any).then_some(tags.strong)))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfNoneMatch {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Tags::read(&parts.headers, &IF_NONE_MATCH, "If-None-Match").map(Self)
    }
}

impl IfNoneMatch {
    /// The answer with what `content` makes, which is not asked if the client has this revision.
    pub(super) fn unless_known<T>(&self, revision: &str, content: impl FnOnce() -> T) -> Revised<T> {
        let Tags { any, strong, weak } = &self.0;
        let known = *any || strong.iter().chain(weak).any(|tag| tag == revision);
        Revised { revision: etag(revision), content: (!known).then(content) }
    }
}

impl<T: IntoResponse> IntoResponse for Revised<T> {
    fn into_response(self) -> Response {
        let mut response = match self.content {
            Some(content) => content.into_response(),
            None => StatusCode::NOT_MODIFIED.into_response(),
        };
        if let Some(revision) = self.revision {
            response.headers_mut().insert(ETAG, revision);
        }
        response
    }
}

impl<T: OperationOutput> OperationOutput for Revised<T> {
    type Inner = T::Inner;

    fn operation_response(ctx: &mut GenContext, operation: &mut Operation) -> Option<ResponseDocument> {
        T::operation_response(ctx, operation)
    }

    fn inferred_responses(
        ctx: &mut GenContext,
        operation: &mut Operation,
    ) -> Vec<(Option<DocumentedStatus>, ResponseDocument)> {
        let mut responses = T::inferred_responses(ctx, operation);
        responses.push((Some(DocumentedStatus::Code(304)), not_modified()));
        responses
    }
}

/// The answer to who has the revision.
fn not_modified() -> ResponseDocument {
    let description = "The configuration has the revision that If-None-Match names.".to_owned();
    ResponseDocument { description, ..ResponseDocument::default() }
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

/// The headers that answers with the configuration heed.
#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct ShowHeaders {
    /// Answers 304, without content, if the configuration has this revision, which `ETag` named.
    #[serde(rename = "If-None-Match")]
    #[schemars(extend("pattern" = "^\"[ !#-+\\-~]*\"$"))]
    if_none_match: Option<String>,
}

impl OperationInput for IfMatch {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        let schema = ctx.schema.subschema_for::<ChangeHeaders>();
        let parameters = parameters_from_schema(ctx, schema, ParamLocation::Header);
        add_parameters(ctx, operation, parameters);
    }
}

impl OperationInput for IfNoneMatch {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        let schema = ctx.schema.subschema_for::<ShowHeaders>();
        let parameters = parameters_from_schema(ctx, schema, ParamLocation::Header);
        add_parameters(ctx, operation, parameters);
    }
}
