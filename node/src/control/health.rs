//! `/health`: may new clients come?

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::routes::Shared;
use super::{problem, retry_after_secs};

#[derive(Serialize)]
struct Answer {
    status: pinwire_shed::State,
    timestamp: String,
    /// From 0, nothing, to 1, full.
    occupancy: f64,
    /// Why the status is as it is.
    cause: Arc<str>,
    /// The change that made it so.
    change: String,
}

/// Clients that look for a place come back in about this time.
const RETRY_WHEN_NOT_READY: Duration = Duration::from_secs(5);

pub(crate) async fn answer(State(services): Shared) -> Response {
    let status = services.own.health.status();
    let standing = services.own.health.standing();
    let body = Json(Answer {
        status,
        timestamp: problem::timestamp(),
        occupancy: services.own.occupancy(),
        cause: Arc::clone(&standing.cause),
        change: standing.change.to_string(),
    });
    if status.is_ready() {
        return body.into_response();
    }
    let retry_after = retry_after_secs(RETRY_WHEN_NOT_READY, problem::random());
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, retry_after.to_string())], body).into_response()
}
