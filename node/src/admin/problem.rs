//! Answers that are errors: RFC 9457, with the names that the plain HTTP port uses too.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use pinwire_admin_api::problem::Problem as Body;

/// Why a request has no better answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    status: StatusCode,
    error: &'static str,
    detail: String,
    parameter: Option<&'static str>,
}

impl Problem {
    fn new(status: StatusCode, error: &'static str, detail: impl Into<String>) -> Self {
        Self { status, error, detail: detail.into(), parameter: None }
    }

    /// 400: the request cannot be understood.
    pub(super) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", detail)
    }

    /// 422: the request can be understood, and means nothing.
    pub(super) fn parameter(name: &'static str, detail: impl Into<String>) -> Self {
        let problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameter", detail);
        Self { parameter: Some(name), ..problem }
    }

    /// 401.
    pub(super) fn unauthenticated(has_token: bool) -> Self {
        let status = StatusCode::UNAUTHORIZED;
        if has_token {
            return Self::new(
                status,
                "invalid_token",
                "this is not the token in the node's `admin.token_file`",
            );
        }
        let detail = "send `Authorization: Bearer TOKEN` with the token in the node's `admin.token_file`, and a client \
                      certificate where the node has `admin.client_ca`";
        Self::new(status, "missing_token", detail)
    }

    /// 404.
    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// 405; the router names the allowed methods.
    pub(super) fn method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "see the header Allow")
    }

    /// 409: not now.
    pub(super) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", detail)
    }

    /// 412: another version is there.
    pub(super) fn precondition_failed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, "version_mismatch", detail)
    }

    /// 428: the request does not say which version it replaces.
    pub(super) fn precondition_required(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PRECONDITION_REQUIRED, "version_missing", detail)
    }

    /// The body cannot be taken: 413, 415 or 422.
    pub(super) fn body(status: StatusCode, detail: impl Into<String>) -> Self {
        let error = match status {
            StatusCode::PAYLOAD_TOO_LARGE => "too_large",
            StatusCode::UNSUPPORTED_MEDIA_TYPE => "unsupported_media_type",
            // JSON, but not what is wanted.
            StatusCode::UNPROCESSABLE_ENTITY => "invalid_body",
            _ => return Self::malformed(detail),
        };
        Self::new(status, error, detail)
    }

    /// 503.
    pub(super) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
    }

    /// What is wrong, for a record of it.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = Body {
            kind: "about:blank".to_owned(),
            title: self.status.canonical_reason().unwrap_or_default().to_owned(),
            status: self.status.as_u16(),
            error: self.error.to_owned(),
            detail: self.detail,
            parameter: self.parameter.map(str::to_owned),
        };
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        // RFC 6750 section 3.
        match self.error {
            "missing_token" => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            "invalid_token" => {
                let challenge = HeaderValue::from_static("Bearer error=\"invalid_token\"");
                headers.insert(header::WWW_AUTHENTICATE, challenge);
            }
            "unavailable" => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}
