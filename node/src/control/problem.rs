//! Answers that are errors: a status, and JSON that says what is wrong and where.

use std::borrow::Cow;
use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use pinwire_token::{Forbidden, Rejection};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{OutOfReach, retry_after_secs};
use crate::limits::TooMany;

/// Why a request has no better answer.
#[derive(Debug)]
pub(crate) enum Problem {
    /// 400: a parameter is missing or not what it must be.
    Parameter { name: &'static str, message: &'static str },
    /// 401: no token.
    MissingToken,
    /// 401: a token that is not good.
    InvalidToken(Rejection),
    /// 403: a good token that does not allow this.
    Forbidden(Forbidden),
    /// 404.
    NotFound,
    /// 405; the router names the allowed methods.
    Method,
    /// 429: the client address asked too often.
    TooMany(Duration),
    /// 503: what the answer lies in is away, or slow.
    Unavailable,
}

impl Problem {
    pub(crate) fn parameter(name: &'static str, message: &'static str) -> Self {
        Self::Parameter { name, message }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Parameter { .. } => StatusCode::BAD_REQUEST,
            Self::MissingToken | Self::InvalidToken(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::TooMany(wait) => Some(retry_after_secs(*wait, random())),
            Self::Unavailable => Some(retry_after_secs(RETRY_WHEN_UNAVAILABLE, random())),
            _ => None,
        }
    }

    fn body(&self) -> Body {
        let (error, message): (_, Cow<'static, str>) = match self {
            Self::Parameter { name, message } => ("invalid_parameter", format!("{name} {message}").into()),
            Self::MissingToken => {
                ("missing_token", "send `Authorization: Bearer <JWT>` or the parameter token".into())
            }
            Self::InvalidToken(rejection) => ("invalid_token", rejection.reason().into()),
            Self::Forbidden(forbidden) => ("forbidden", forbidden.reason()),
            Self::NotFound => ("not_found", "nothing here; documents are opened by WebSocket".into()),
            Self::Method => ("method_not_allowed", "see the header Allow".into()),
            Self::TooMany(_) => ("rate_limited", "too many requests from this address".into()),
            Self::Unavailable => ("unavailable", "try again later".into()),
        };
        let parameter = match self {
            Self::Parameter { name, .. } => Some(*name),
            _ => None,
        };
        Body { error, message, parameter }
    }
}

/// About how long a registry takes to come back.
const RETRY_WHEN_UNAVAILABLE: Duration = Duration::from_secs(2);

#[derive(Serialize)]
struct Body {
    error: &'static str,
    message: Cow<'static, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter: Option<&'static str>,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status(), Json(self.body())).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        // RFC 6750 section 3.
        let challenge = match self {
            Self::MissingToken => "Bearer",
            Self::InvalidToken(_) => "Bearer error=\"invalid_token\"",
            _ => return response,
        };
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        response
    }
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        Self::InvalidToken(rejection)
    }
}

impl From<Forbidden> for Problem {
    fn from(forbidden: Forbidden) -> Self {
        Self::Forbidden(forbidden)
    }
}

impl From<TooMany> for Problem {
    fn from(too_many: TooMany) -> Self {
        Self::TooMany(too_many.retry_after)
    }
}

impl From<OutOfReach> for Problem {
    fn from(_: OutOfReach) -> Self {
        Self::Unavailable
    }
}

/// Now in UTC, RFC 3339 with milliseconds.
pub(crate) fn timestamp() -> String {
    let now = OffsetDateTime::now_utc();
    let now = now.replace_millisecond(now.millisecond()).unwrap_or(now);
    now.format(&Rfc3339).unwrap_or_default()
}

/// For jitter; without entropy there is none.
pub(crate) fn random() -> u32 {
    getrandom::u32().unwrap_or_default()
}
