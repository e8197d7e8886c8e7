//! What the control socket answers where it cannot do what is asked.

use aide::OperationOutput;
use aide::generate::GenContext;
use aide::openapi::{Operation, Response as ResponseDocument, StatusCode as DocumentedStatus};
use axum::Json;
use axum::http::StatusCode;
use axum::http::header::{ETAG, HeaderValue, RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::command::Refusal;
use super::flows::FilterError;
use crate::config::edit::{ChangeError, Edited};
use crate::config::{ConfigError, Finding, SaveError};

/// The answer to a request that cannot be served.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    /// What is wrong.
    pub error: ErrorDetail,
}

/// What is wrong with a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorDetail {
    /// What is wrong, in one sentence.
    pub message: String,
    /// What would be right, or what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// The field of the request that is wrong: a parameter, a key of the body as a path, or a key of the document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Of a batch the change that is refused, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<usize>,
    /// Where in a document that was sent, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The same, in characters from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// All that is wrong, if it is more than this.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub all: Vec<ErrorDetail>,
}

/// An error as every route answers it.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    detail: Box<ErrorDetail>,
    revision: Option<String>,
}

impl ApiError {
    /// An error of a sentence, of which what follows a semicolon is the advice.
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, detail: Box::new(ErrorDetail::of(message.into())), revision: None }
    }

    pub(super) fn at(mut self, field: impl Into<String>) -> Self {
        self.detail.field = Some(field.into());
        self
    }

    fn change(mut self, change: usize) -> Self {
        self.detail.change = Some(change);
        self
    }

    /// Why changes were refused. `single` is what a request for one change is about, which then needs no number.
    pub(super) fn of_refusal(refusal: Refusal, batch: bool) -> Self {
        let message = refusal.to_string();
        let numbered = |error: Self, change| if batch { error.change(change) } else { error };
        match refusal {
            Refusal::Revision { current } => {
                Self { revision: Some(current), ..Self::new(StatusCode::PRECONDITION_FAILED, message).at("If-Match") }
            }
            Refusal::Change(refused) => {
                let change = refused.position;
                numbered(Self::of_change(refused.error, message), change)
            }
            Refusal::Config { error, edited } => Self::of_config(error, &edited, batch),
            Refusal::RealServer { position, .. } => {
                let field = if position.is_some() { "address" } else { "real_server" };
                let error = Self::new(StatusCode::UNPROCESSABLE_ENTITY, message).at(field);
                match position {
                    Some(position) => numbered(error, position),
                    None => error,
                }
            }
            Refusal::Impossible(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, message),
            Refusal::Save(SaveError::Changed(_)) => Self::new(StatusCode::CONFLICT, message).at("persist"),
            Refusal::Save(SaveError::Io { .. } | SaveError::Owner { .. }) | Refusal::Incomplete(_) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
            }
            Refusal::Busy | Refusal::Stopping => Self::new(StatusCode::SERVICE_UNAVAILABLE, message),
        }
    }

    fn of_change(error: ChangeError, message: String) -> Self {
        match error {
            ChangeError::ServiceExists(_) | ChangeError::RealServerExists { .. } => {
                Self::new(StatusCode::CONFLICT, message)
            }
            ChangeError::NoService(_) => Self::new(StatusCode::NOT_FOUND, message),
            ChangeError::NoRealServer { .. } => Self::new(StatusCode::NOT_FOUND, message).at("address"),
            ChangeError::Name { key } | ChangeError::Value { key, .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, message).at(key)
            }
            ChangeError::Document(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, message),
        }
    }

    /// The mistakes of a changed document, led back to the request where one of its changes made them.
    fn of_config(error: ConfigError, edited: &Edited, batch: bool) -> Self {
        let findings = match error {
            ConfigError::Invalid { findings, .. } => findings,
            other => return Self::new(StatusCode::UNPROCESSABLE_ENTITY, other.to_string()),
        };
        let mut all: Vec<ErrorDetail> =
            findings.into_iter().map(|finding| ErrorDetail::of_finding(finding, edited, batch)).collect();
        let mut first = all.first().cloned().unwrap_or_default();
        if all.len() > 1 {
            first.all = std::mem::take(&mut all);
        }
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, detail: Box::new(first), revision: None }
    }
}

impl ErrorDetail {
    /// All of it in one sentence, with the field and what to do.
    #[must_use]
    pub fn sentence(&self) -> String {
        let said = |field: &str| self.message.contains(field) || self.message.contains(&field.replace('_', " "));
        let field = self.field.as_ref().filter(|field| !said(field));
        let place = field.map_or_else(String::new, |field| format!("{field}: "));
        let advice = self.advice.as_ref().map_or_else(String::new, |advice| format!("; {advice}"));
        format!("{place}{}{advice}", self.message)
    }

    /// Every mistake that is told: this one, if there is no list of all.
    #[must_use]
    pub fn mistakes(&self) -> &[Self] {
        if self.all.is_empty() { std::slice::from_ref(self) } else { &self.all }
    }

    fn of(message: String) -> Self {
        let (message, advice) = match message.split_once("; ") {
            Some((message, advice)) => (message.to_owned(), Some(advice.to_owned())),
            None => (message, None),
        };
        Self { message, advice, ..Self::default() }
    }

    fn of_finding(finding: Finding, edited: &Edited, batch: bool) -> Self {
        let detail = Self::of(finding.message);
        match edited.author_of(&finding.key) {
            Some((change, field)) => Self { field: Some(field.to_owned()), change: batch.then_some(change), ..detail },
            // Lines are those of the document as the client knows it only if the client has sent it.
            None if edited.is_as_given() => Self {
                field: Some(finding.key).filter(|key| !key.is_empty()),
                line: Some(finding.line),
                column: Some(finding.column),
                ..detail
            },
            None => Self { field: Some(finding.key).filter(|key| !key.is_empty()), ..detail },
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(ErrorBody { error: *self.detail })).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if let Some(revision) = self.revision.and_then(|revision| etag(&revision)) {
            response.headers_mut().insert(ETAG, revision);
        }
        response
    }
}

/// A revision as the header `ETag` has it.
pub(super) fn etag(revision: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("\"{revision}\"")).ok()
}

// Every operation has the same answer to whatever goes wrong.
impl OperationOutput for ApiError {
    type Inner = ErrorBody;

    fn operation_response(ctx: &mut GenContext, operation: &mut Operation) -> Option<ResponseDocument> {
        Json::<ErrorBody>::operation_response(ctx, operation)
    }

    fn inferred_responses(
        ctx: &mut GenContext,
        operation: &mut Operation,
    ) -> Vec<(Option<DocumentedStatus>, ResponseDocument)> {
        Self::operation_response(ctx, operation).map(|response| (None, response)).into_iter().collect()
    }
}

impl From<FilterError> for ApiError {
    fn from(error: FilterError) -> Self {
        let message = error.to_string();
        match error {
            FilterError::Bad { name, .. } => Self::new(StatusCode::BAD_REQUEST, message).at(name),
            FilterError::NoService(_) => Self::new(StatusCode::NOT_FOUND, message).at("service"),
            FilterError::NoRealServer(_) => Self::new(StatusCode::NOT_FOUND, message).at("real_server"),
        }
    }
}
