//! `/v1/connections`: who is connected.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use pinwire_admin_api::connections::{Connection, ConnectionPage, ConnectionState};
use pinwire_shard::{ConnId, ConnectionFilter};
use serde::Deserialize;
use utoipa::IntoParams;

use super::Services;
use super::documents::{Cursor, dialect};
use super::plane::Position;
use super::problem::Problem;
use super::request::{InPath, Parameters, page_size};
use super::routes::{Errors, NotFound, Shared};
use crate::data::inspect::ConnectionRow;

/// Connections of a page.
const PAGE_MAX: usize = 500;

/// Which connections.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParameters {
    /// Of this tenant.
    tenant: Option<String>,
    /// Of apps of this id.
    app: Option<String>,
    /// Whose token has this `sub`.
    subject: Option<String>,
    /// `next` of the page before.
    #[param(pattern = "^[0-9]{1,4}\\.[0-9]{1,9}$")]
    cursor: Option<String>,
    /// Connections of the page, 100 without it.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<usize>,
}

/// Connections, a page at a time. Going from page to page finds each connection that is there the whole time, and stays on
/// its thread, exactly once.
#[utoipa::path(
    get,
    path = "/v1/connections",
    operation_id = "connections",
    tag = "connections",
    params(ListParameters),
    responses((status = 200, body = ConnectionPage, description = "A page."), Errors)
)]
pub(super) async fn list(
    State(services): Shared,
    Parameters(asked): Parameters<ListParameters>,
) -> Result<Json<ConnectionPage>, Problem> {
    let limit = page_size(asked.limit, PAGE_MAX)?;
    let from = match asked.cursor {
        Some(cursor) => cursor.parse::<Cursor>()?.position,
        None => Position::default(),
    };
    let boxed = |text: Option<String>| text.map(String::into_boxed_str);
    let filter = Arc::new(ConnectionFilter {
        id: None,
        tenant: boxed(asked.tenant),
        app: boxed(asked.app),
        subject: boxed(asked.subject),
    });
    let part = services.plane.connections(from, &filter, limit).await;
    Ok(Json(ConnectionPage {
        connections: part.rows.into_iter().map(|row| tell(&services, row)).collect(),
        next: part.next.map(|position| Cursor::at(position).to_string()),
        is_partial: part.is_partial,
    }))
}

/// Which connection.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct ConnectionPath {
    /// Its id.
    pub(super) id: String,
}

/// A connection.
#[utoipa::path(
    get,
    path = "/v1/connections/{id}",
    operation_id = "connection",
    tag = "connections",
    params(ConnectionPath),
    responses((status = 200, body = Connection, description = "The connection."), NotFound, Errors)
)]
pub(super) async fn one(
    State(services): Shared,
    InPath(path): InPath<ConnectionPath>,
) -> Result<Json<Connection>, Problem> {
    let row = find(&services, &path).await?;
    Ok(Json(tell(&services, row)))
}

/// Looks a connection up. One that is just moving is on no thread for a moment.
pub(super) async fn find(services: &Services, path: &ConnectionPath) -> Result<ConnectionRow, Problem> {
    let id: ConnId = path.id.parse().map_err(|_| not_there())?;
    match services.plane.connection(id).await {
        (Some(row), _) => Ok(row),
        (None, true) => Err(not_there()),
        (None, false) => Err(Problem::unavailable("a data thread did not answer in time")),
    }
}

pub(super) fn not_there() -> Problem {
    Problem::not_found("there is no such connection (any more)")
}

fn tell(services: &Services, row: ConnectionRow) -> Connection {
    let (tenant, app) = row.app.unzip();
    Connection {
        id: row.holder.id.to_string(),
        thread: row.thread,
        state: match row.state {
            pinwire_shard::ConnectionState::Waiting => ConnectionState::Waiting,
            pinwire_shard::ConnectionState::Open => ConnectionState::Open,
            pinwire_shard::ConnectionState::Moving => ConnectionState::Moving,
            pinwire_shard::ConnectionState::Closing => ConnectionState::Closing,
        },
        since: services.clock.at_tick(row.holder.id.opened),
        tenant,
        app,
        subject: row.holder.subject,
        dialect: row.dialect.map(dialect),
        documents: row.documents,
        document_count: u32::try_from(row.document_count).unwrap_or(u32::MAX),
        is_compressed: row.is_compressed,
        idle_seconds: services.clock.since_tick(row.last_received),
        backlog_bytes: row.backlog.into(),
    }
}
