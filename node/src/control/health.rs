//! `/health`: may new clients come?

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::routes::Shared;
use super::{problem, retry_after_secs};

/// The state of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Status {
    /// Everything works.
    Healthy,
    /// Serves, but something it relies on is away.
    Degraded,
    /// Takes no new clients for now: too much load, or no key yet to check tokens with.
    Overloaded,
    /// Takes no new clients any more.
    Draining,
}

impl Status {
    const ALL: [Self; 4] = [Self::Healthy, Self::Degraded, Self::Overloaded, Self::Draining];

    /// Whether new clients may come.
    pub fn is_ready(self) -> bool {
        matches!(self, Self::Healthy | Self::Degraded)
    }
}

/// The state of this node, as one word that any thread may set and read.
#[derive(Debug, Default)]
pub struct Health(AtomicU8, Keys);

/// The state of what tokens are checked with.
#[derive(Debug, Default)]
struct Keys(AtomicU8);

impl Health {
    /// The state now.
    pub fn status(&self) -> Status {
        // The worse one: they are ordered so.
        let now = self.0.load(Ordering::Relaxed).max(self.1.0.load(Ordering::Relaxed));
        Status::ALL.into_iter().find(|status| *status as u8 == now).unwrap_or(Status::Degraded)
    }

    /// Whether keys can be fetched, and whether there are any.
    pub(crate) fn set_keys(&self, status: Status) {
        self.1.0.store(status as u8, Ordering::Relaxed);
    }

    /// Changes the state; answers what it was.
    pub fn set(&self, status: Status) -> Status {
        let before = self.status();
        self.0.store(status as u8, Ordering::Relaxed);
        before
    }
}

#[derive(Serialize)]
struct Answer {
    status: Status,
    timestamp: String,
}

/// Clients that look for a place come back in about this time.
const RETRY_WHEN_NOT_READY: Duration = Duration::from_secs(5);

pub(crate) async fn answer(State(services): Shared) -> Response {
    let status = services.health.status();
    let body = Json(Answer { status, timestamp: problem::timestamp() });
    if status.is_ready() {
        return body.into_response();
    }
    let retry_after = retry_after_secs(RETRY_WHEN_NOT_READY, problem::random());
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, retry_after.to_string())], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_starts_healthy_and_keeps_what_was_set() {
        let health = Health::default();
        for next in Status::ALL {
            let before = health.status();
            assert_eq!(health.set(next), before);
            assert_eq!(health.status(), next);
        }
        assert_eq!(Health::default().status(), Status::Healthy);
    }
}
