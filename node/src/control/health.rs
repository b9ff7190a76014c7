//! `/health`: may new clients come?

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::routes::Shared;
use super::{problem, retry_after_secs};

/// The state of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Status {
    /// Everything works.
    Healthy,
    /// Serves, but something it relies on is away.
    Degraded,
    /// Takes no new clients for now: too little memory, or no key yet to check tokens with.
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

/// Something that a node needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Cause {
    /// The session store cannot be written.
    Journal = 1,
    /// It can, and cannot be tidied up.
    Table = 2,
    /// Keys cannot be fetched; there are some.
    Fetching = 4,
    /// There is no key to check tokens with.
    NoKeys = 8,
    /// The process has as much memory as it may.
    Memory = 16,
    /// A registry is out of reach: documents that nobody here has open cannot be opened.
    Registry = 32,
    /// The region's sessions are out of reach: nothing is acknowledged.
    Sessions = 64,
    /// The node's lease ran out: nothing is claimed, acknowledged or stored.
    Lease = 128,
}

/// Without one of these no new client can be served.
const OVERLOADING: u8 = Cause::NoKeys as u8 | Cause::Memory as u8;

/// The state of this node, as words that any thread may set and read.
#[derive(Debug, Default)]
pub struct Health {
    status: AtomicU8,
    /// A bit for each [`Cause`] that is away.
    away: AtomicU8,
}

impl Health {
    /// The state now.
    pub fn status(&self) -> Status {
        let away = match self.away.load(Ordering::Relaxed) {
            0 => Status::Healthy,
            away if away & OVERLOADING != 0 => Status::Overloaded,
            _ => Status::Degraded,
        };
        // The worse one: they are ordered so.
        let now = self.status.load(Ordering::Relaxed).max(away as u8);
        Status::ALL.into_iter().find(|status| *status as u8 == now).unwrap_or(Status::Degraded)
    }

    /// Changes the state; answers what it was.
    pub fn set(&self, status: Status) -> Status {
        let before = self.status();
        self.status.store(status as u8, Ordering::Relaxed);
        before
    }

    /// Something that the node needs is away; true if that is news. Healthy nodes are not until it is back.
    pub fn suffer(&self, cause: Cause) -> bool {
        self.away.fetch_or(cause as u8, Ordering::Relaxed) & cause as u8 == 0
    }

    /// It is back; true if that is news.
    pub fn clear(&self, cause: Cause) -> bool {
        self.away.fetch_and(!(cause as u8), Ordering::Relaxed) & cause as u8 != 0
    }

    /// [`Self::suffer`] or [`Self::clear`].
    pub fn note(&self, cause: Cause, is_away: bool) -> bool {
        if is_away { self.suffer(cause) } else { self.clear(cause) }
    }
}

#[derive(Serialize)]
struct Answer {
    status: Status,
    timestamp: String,
    /// From 0, nothing, to 1, full.
    occupancy: f64,
}

/// Clients that look for a place come back in about this time.
const RETRY_WHEN_NOT_READY: Duration = Duration::from_secs(5);

pub(crate) async fn answer(State(services): Shared) -> Response {
    let status = services.own.health.status();
    let occupancy = services.own.occupancy();
    let body = Json(Answer { status, timestamp: problem::timestamp(), occupancy });
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

    #[test]
    fn a_node_is_degraded_until_everything_is_back() {
        let health = Health::default();
        assert!(health.suffer(Cause::Journal) && health.suffer(Cause::Table) && !health.suffer(Cause::Table));
        assert!(health.clear(Cause::Journal) && !health.clear(Cause::Journal));
        assert_eq!(health.status(), Status::Degraded);
        health.set(Status::Draining);
        assert_eq!(health.status(), Status::Draining);
        health.set(Status::Healthy);
        assert!(health.clear(Cause::Table));
        assert_eq!(health.status(), Status::Healthy);
    }

    #[test]
    fn a_node_is_overloaded_until_it_has_both_keys_and_memory() {
        let health = Health::default();
        for cause in [Cause::Memory, Cause::NoKeys, Cause::Table] {
            health.suffer(cause);
        }
        for (cause, left) in [
            (Cause::NoKeys, Status::Overloaded),
            (Cause::Memory, Status::Degraded),
            (Cause::Table, Status::Healthy),
        ] {
            health.clear(cause);
            assert_eq!(health.status(), left, "{cause:?} is back");
        }
    }
}
