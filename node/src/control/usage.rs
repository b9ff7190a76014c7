//! `/usage`: what an app uses of its limits.

use std::fmt;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use pinwire_registry::{Answer, AppName};
use pinwire_token::{Claims, Limits, Request};
use serde::Serialize;

use super::caller::{Bearer, Caller};
use super::problem::{self, Problem};
use super::routes::Shared;
use super::{BoxFuture, Lookup, OutOfReach, Services};
use crate::apps::Apps;
use crate::limits::Asking;

/// What apps use, over all regions.
pub trait Usage: fmt::Debug + Send + Sync {
    /// What the app uses now.
    fn current<'a>(
        &'a self,
        license: u8,
        tenant: &'a str,
        app: &'a str,
    ) -> BoxFuture<'a, Result<Current, OutOfReach>>;
}

/// What an app uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Current {
    /// Open connections.
    pub connections: u32,
    /// Active documents.
    pub documents: u32,
}

/// Usage where this node is the only one.
#[derive(Debug)]
pub struct LocalUsage(pub Arc<Apps>);

impl Usage for LocalUsage {
    fn current<'a>(
        &'a self,
        _: u8,
        tenant: &'a str,
        app: &'a str,
    ) -> BoxFuture<'a, Result<Current, OutOfReach>> {
        let current = self.0.get(tenant, app).map_or_else(Current::default, |app| Current {
            connections: app.connections(),
            documents: app.documents(),
        });
        Box::pin(std::future::ready(Ok(current)))
    }
}

/// Usage over all regions, as the registries of the license regions know it.
#[derive(Debug)]
pub struct RegistryUsage(pub Arc<Lookup>);

impl Usage for RegistryUsage {
    fn current<'a>(
        &'a self,
        license: u8,
        tenant: &'a str,
        app: &'a str,
    ) -> BoxFuture<'a, Result<Current, OutOfReach>> {
        Box::pin(async move {
            let app = AppName(format!("{tenant}::{app}").into());
            match self.0.ask(license, pinwire_registry::Request::Usage { app }).await? {
                Answer::Used(used) => {
                    Ok(Current { connections: used.connections, documents: used.documents })
                }
                _ => Err(OutOfReach),
            }
        })
    }
}

pub(crate) async fn answer(State(services): Shared, caller: Caller) -> Response {
    match caller.identify(&services, Asking::Usage).await {
        Ok(bearer) => caller.answer(&bearer.claims, report(&services, &caller, &bearer).await),
        Err(problem) => problem.into_response(),
    }
}

async fn report(services: &Services, caller: &Caller, bearer: &Bearer) -> Result<Response, Problem> {
    let claims = &bearer.claims;
    let asked = Request {
        origin: caller.origin(),
        document: None,
        region: None,
        known_db_codes: &services.known_db_codes,
    };
    pinwire_token::authorize(claims, &asked)?;
    let license = services.license(claims)?;
    let current = services.usage.current(license, &claims.tenant, &claims.app).await?;
    let limits = bearer.limits(services);
    Ok(Json(Report::new(claims, &limits, current)).into_response())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    tenant_id: &'a str,
    app_id: &'a str,
    usage: Both,
    timestamp: String,
}

#[derive(Serialize)]
struct Both {
    connections: Gauge,
    documents: Gauge,
}

#[derive(Debug, Serialize, PartialEq, Eq)]
struct Gauge {
    current: u32,
    limit: u32,
    /// Whole percent, rounded down.
    percent: u64,
    status: &'static str,
}

impl<'a> Report<'a> {
    fn new(claims: &'a Claims, limits: &Limits, current: Current) -> Self {
        let connections = Gauge::new(current.connections, limits.max_connections);
        let documents = Gauge::new(current.documents, limits.max_documents);
        Self {
            tenant_id: &claims.tenant,
            app_id: &claims.app,
            usage: Both { connections, documents },
            timestamp: problem::timestamp(),
        }
    }
}

impl Gauge {
    fn new(current: u32, limit: u32) -> Self {
        // A limit of zero is used up.
        let percent = (u64::from(current) * 100).checked_div(u64::from(limit)).unwrap_or(100);
        let status = match percent {
            ..75 => "healthy",
            75..90 => "warning",
            _ => "critical",
        };
        Self { current, limit, percent, status }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_follows_the_percentage() {
        let table = [
            (0, 100, 0, "healthy"),
            (74, 100, 74, "healthy"),
            (75, 100, 75, "warning"),
            (89, 100, 89, "warning"),
            (899, 1000, 89, "warning"),
            (90, 100, 90, "critical"),
            (150, 100, 150, "critical"),
            (0, 0, 100, "critical"),
            (u32::MAX, u32::MAX, 100, "critical"),
        ];
        for (current, limit, percent, status) in table {
            assert_eq!(Gauge::new(current, limit), Gauge { current, limit, percent, status });
        }
    }
}
