//! `/metrics`: numbers for Prometheus.

use std::time::Instant;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::problem::Problem;
use super::routes::Shared;
use crate::dns::Dns;
use crate::drain::Stage;
use crate::metrics::{CONTENT_TYPE, Node, cluster_families, text};

pub(crate) async fn answer(State(services): Shared) -> Response {
    let Some(threads) = &services.threads else { return Problem::NotFound.into_response() };
    let node = Node {
        region: services.region.clone(),
        status: services.own.health.status(),
        max_connections: services.max_connections,
        standing: services.own.health.standing(),
        drain: services.drains.as_ref().map_or(Stage::Serving, |drains| drains.progress().stage),
        dns: services.dns.as_ref().map(Dns::status),
        cluster: cluster_families(&services.stats, &services.cluster, &services.catalogue),
        keys: services.live.key_counts(),
        jwks: services.key_numbers.snapshot(Instant::now()),
        traces: services.traces.as_ref().map(|queue| queue.counted()),
        certificates: services.live.certificates().map_or_else(Vec::new, |certificates| {
            certificates.iter().map(|one| (one.name().to_owned(), one.not_after)).collect()
        }),
    };
    let reports = threads.reports().await;
    let store = services.store.as_ref().map(|store| store.snapshot());
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text(&node, &reports, store.as_ref())).into_response()
}
