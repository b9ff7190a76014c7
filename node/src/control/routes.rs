//! Which request gets which answer.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::problem::Problem;
use super::traced::{Tracing, traced};
use super::{Services, discovery, health, metrics, page, regions, status, usage};

pub(crate) type Shared = State<Arc<Services>>;

pub(crate) fn router(services: Arc<Services>) -> Router {
    let for_browsers = Router::new()
        .route("/discovery", get(discovery::answer).options(preflight))
        .route("/usage", get(usage::answer).options(preflight))
        .route("/regions", get(regions::answer).options(preflight))
        .route("/health", get(health::answer).options(preflight))
        .merge(services.status.as_ref().map(|_| status::router()).unwrap_or_default())
        .method_not_allowed_fallback(async || Problem::Method)
        .route_layer(map_response(readable_by_pages));
    let tracing = services.traces.clone().map(Tracing::new);
    let start = match services.page {
        Some(_) => page::router(),
        None => Router::new().route("/", get(health::answer)),
    };
    let router = start
        .route("/metrics", get(metrics::answer))
        .method_not_allowed_fallback(async || Problem::Method)
        .merge(for_browsers)
        .fallback(async || Problem::NotFound)
        .layer(map_response(not_stored))
        .with_state(services);
    match tracing {
        Some(tracing) => router.layer(from_fn_with_state(tracing, traced)),
        None => router,
    }
}

/// A preflight carries no token, so it cannot tell whose page is allowed; the answer itself does.
pub(super) async fn preflight() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, OPTIONS"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "Authorization"),
        (header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_SECONDS),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

/// How long a browser may keep the answer to a preflight.
const PREFLIGHT_SECONDS: &str = "3600";

/// CORS headers that every answer has, errors too; a handler that knows the token has said whose page may read it.
async fn readable_by_pages(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.entry(header::ACCESS_CONTROL_ALLOW_ORIGIN).or_insert(HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Retry-After"));
    response
}

/// Every answer is about this moment and this client, unless it says otherwise.
async fn not_stored(mut response: Response) -> Response {
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
