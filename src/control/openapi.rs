//! The OpenAPI document of the control socket: made of the routes that are served.

use aide::openapi::{Info, OpenApi, Server};
use aide::transform::TransformOperation;
use axum::Router;

use super::api::{self, Handle};

/// `GET`: this document.
pub const OPENAPI: &str = "/v1/openapi.json";

/// Describes an operation.
pub(super) fn about(
    tag: &'static str,
    summary: &'static str,
) -> impl FnOnce(TransformOperation<'_>) -> TransformOperation<'_> {
    move |operation| operation.tag(tag).summary(summary)
}

/// The routes, and their description as an OpenAPI 3.1 document in JSON.
pub(super) fn described() -> (Router<Handle>, String) {
    let mut document = OpenApi {
        info: Info {
            title: "Control socket of pointsman".to_owned(),
            description: Some(
                "HTTP over a Unix socket, /run/pointsman/control.sock by default. docs/control-api.md tells how it is used."
                    .to_owned(),
            ),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Info::default()
        },
        servers: vec![Server { url: "http://localhost".to_owned(), ..Server::default() }],
        ..OpenApi::default()
    };
    let router = api::routes().finish_api(&mut document);
    let text = serde_json::to_string_pretty(&document).unwrap_or_default();
    (router, text)
}

/// The OpenAPI document in JSON, as [`OPENAPI`] gives it. It needs no director.
#[must_use]
pub fn document() -> String {
    described().1
}
