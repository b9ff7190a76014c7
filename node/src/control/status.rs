//! `/status`, `/status.json`, `/status.atom`: how the regions are, for everybody. Rendered elsewhere, once for each change; answered
//! also by a node that takes no clients.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::Services;
use super::page::accepts_html;
use super::problem::Problem;
use super::routes::{Shared, preflight};
use crate::status::{Form, Shown};

/// For how long an answer may be given again; by caches that cannot reach us, for a day.
const CACHED: HeaderValue = HeaderValue::from_static("public, max-age=5, stale-if-error=86400");

pub(super) fn router() -> Router<Arc<Services>> {
    Router::new()
        .route("/status", get(by_kind).options(preflight))
        .route("/status.json", get(json).options(preflight))
        .route("/status.atom", get(atom).options(preflight))
}

/// The page for browsers, JSON for everybody else.
async fn by_kind(State(services): Shared, headers: HeaderMap) -> Response {
    let is_page = accepts_html(&headers);
    let form = form(&services, |shown| if is_page { shown.page() } else { shown.json() });
    let mut response = answer(form, &headers);
    let fields = response.headers_mut();
    fields.insert(header::VARY, HeaderValue::from_static("Accept"));
    if is_page {
        if let Some(status) = &services.status {
            fields.insert(header::CONTENT_SECURITY_POLICY, status.policy.clone());
        }
        fields.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        let opener = HeaderName::from_static("cross-origin-opener-policy");
        fields.insert(opener, HeaderValue::from_static("same-origin"));
    }
    response
}

async fn json(State(services): Shared, headers: HeaderMap) -> Response {
    answer(form(&services, Shown::json), &headers)
}

async fn atom(State(services): Shared, headers: HeaderMap) -> Response {
    answer(form(&services, Shown::atom), &headers)
}

fn form(services: &Services, take: impl FnOnce(&Shown) -> Option<Form>) -> Option<Form> {
    services.status.as_ref().and_then(|status| take(&status.shown))
}

/// `None`: nothing was rendered yet.
fn answer(form: Option<Form>, asked: &HeaderMap) -> Response {
    let Some(Form { body, kind, tag }) = form else { return Problem::Unavailable.into_response() };
    let is_known = has(asked, &tag);
    let fields = [
        (header::ETAG, tag),
        (header::CACHE_CONTROL, CACHED),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    match is_known {
        true => (StatusCode::NOT_MODIFIED, fields).into_response(),
        false => (fields, [(header::CONTENT_TYPE, kind)], body).into_response(),
    }
}

/// Whether `If-None-Match` names this tag (RFC 9110 section 13.1.2: weakly compared).
fn has(asked: &HeaderMap, tag: &HeaderValue) -> bool {
    let values = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known).as_bytes() == tag.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_known_however_a_client_writes_it() {
        let tag = HeaderValue::from_static("\"ab\"");
        let with = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static(value));
            has(&headers, &tag)
        };
        assert!(["\"ab\"", "W/\"ab\"", "\"x\", \"ab\"", "*"].into_iter().all(with));
        assert!(!["\"abc\"", "ab", "", "W/ \"ab\""].into_iter().any(with));
        assert!(!has(&HeaderMap::new(), &tag));
    }
}
