//! `/v1/apps`: what apps use of their limits.

use axum::Json;
use axum::extract::State;
use pinwire_admin_api::apps::{App, AppPage, Use};
use pinwire_shard::AppLimits;
use serde::Deserialize;
use utoipa::IntoParams;

use super::problem::Problem;
use super::request::{Parameters, page_size};
use super::routes::{Errors, Shared};

/// Apps of a page.
const PAGE_MAX: usize = 500;

/// Which apps.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParameters {
    /// Of this tenant.
    tenant: Option<String>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Apps of the page, 100 without it.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<usize>,
}

/// Apps that this node has seen tokens of and not forgotten since, and what they use here.
#[utoipa::path(
    get,
    path = "/v1/apps",
    operation_id = "apps",
    tag = "apps",
    params(ListParameters),
    responses((status = 200, body = AppPage, description = "A page."), Errors)
)]
pub(super) async fn list(
    State(services): Shared,
    Parameters(asked): Parameters<ListParameters>,
) -> Result<Json<AppPage>, Problem> {
    let limit = page_size(asked.limit, PAGE_MAX)?;
    let prefix = asked.tenant.map(|tenant| format!("{tenant}::")).unwrap_or_default();
    // Behind what lies before the prefix is all of it.
    let after = asked.cursor.filter(|cursor| *cursor >= prefix);
    let page = services.apps.page(&prefix, after.as_deref(), limit);
    let last = page.last().filter(|_| page.len() == limit);
    let minute = services.clock.minute();
    Ok(Json(AppPage {
        next: last.map(|app| format!("{}::{}", app.tenant(), app.id())),
        apps: page.iter().map(|app| tell(app, minute)).collect(),
    }))
}

fn tell(app: &pinwire_shard::App, minute: u32) -> App {
    let AppLimits { max_connections, max_documents, max_users_per_document, operations_per_minute } =
        app.limits();
    let of = |used: u32, limit: u32| Use { used, limit: limited(limit) };
    App {
        tenant: app.tenant().to_owned(),
        app: app.id().to_owned(),
        connections: of(app.connections(), max_connections),
        documents: of(app.documents(), max_documents),
        operations: of(app.operations(minute), operations_per_minute),
        max_users_per_document: limited(max_users_per_document),
    }
}

fn limited(limit: u32) -> Option<u32> {
    Some(limit).filter(|limit| *limit != u32::MAX)
}
