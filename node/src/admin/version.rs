//! Versions of what is replaced as a whole: `If-Match` of requests, and `ETag` of answers.

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::problem::Problem;

/// The version that a request replaces.
#[derive(Clone, Copy, Debug)]
pub(super) struct Replaces(pub(super) u64);

impl<S: Send + Sync> FromRequestParts<S> for Replaces {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let Some(tag) = parts.headers.get(header::IF_MATCH) else {
            return Err(Problem::precondition_required(
                "say which version it replaces, so that nobody's change is lost: `If-Match: \"VERSION\"`, \"0\" where there is none",
            ));
        };
        let tag = tag.to_str().ok().map(str::trim).and_then(|tag| tag.strip_prefix('"')?.strip_suffix('"'));
        let wrong = || {
            Problem::parameter("If-Match", "If-Match is not a version in quotation marks, as `ETag` has it")
        };
        tag.and_then(|tag| tag.parse().ok()).map(Self).ok_or_else(wrong)
    }
}

/// An answer that tells of which version it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tagged<T> {
    pub(super) version: u64,
    pub(super) body: T,
}

impl<T: Serialize> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.body).into_response();
        if let Ok(tag) = HeaderValue::try_from(format!("\"{}\"", self.version)) {
            response.headers_mut().insert(header::ETAG, tag);
        }
        response
    }
}
