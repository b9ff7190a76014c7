//! `/v1/pins`, `/v1/nodes`, `/v1/regions`: what registries know, and what other regions look like.

use std::collections::BTreeMap;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use futures_util::future::join_all;
use pinwire_admin_api::cluster::{ClusterNode, Nodes, Pin, PinPage, Region, Regions};
use pinwire_registry::{Answer, AppName, DocumentName, Node, Pin as Registered, Request};
use serde::Deserialize;
use utoipa::IntoParams;

use super::Services;
use super::problem::Problem;
use super::request::{Parameters, page_size};
use super::routes::{Errors, Meaningless, Shared};
use crate::regions::Place;

/// Pins of a page.
const PAGE_MAX: usize = 500;
/// Microseconds of a second.
const SECOND: u64 = 1_000_000;

/// Which pins.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct PinParameters {
    /// The license region whose registry is asked. Needed where there are several.
    db_code: Option<String>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Pins of the page, 100 without it.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<usize>,
}

/// Documents that are active in any region, in the order of their names.
#[utoipa::path(
    get,
    path = "/v1/pins",
    operation_id = "pins",
    tag = "cluster",
    params(PinParameters),
    responses((status = 200, body = PinPage, description = "A page."), Meaningless, Errors)
)]
pub(super) async fn pins(
    State(services): Shared,
    Parameters(asked): Parameters<PinParameters>,
) -> Result<Json<PinPage>, Problem> {
    let limit = page_size(asked.limit, PAGE_MAX)?;
    let license = services.license(asked.db_code.as_deref())?;
    let after = asked.cursor.as_deref().map(full_name).transpose()?;
    let request = Request::Pins { after, limit: u32::try_from(limit).unwrap_or(u32::MAX) };
    let Answer::Pins(pins) = services.ask(license, request).await? else { return Err(away()) };
    let last = pins.last().filter(|_| pins.len() == limit);
    Ok(Json(PinPage {
        db_code: services.cluster.code(license).map(str::to_owned),
        next: last.map(|pin| pin.document.to_string()),
        pins: pins.iter().map(tell_pin).collect(),
    }))
}

pub(super) fn tell_pin(pin: &Registered) -> Pin {
    let (tenant, app) = pin.document.app.0.split_once("::").unwrap_or_default();
    Pin {
        tenant: tenant.to_owned(),
        app: app.to_owned(),
        name: pin.document.name.to_string(),
        region: pin.owner.region.to_string(),
        ws_url: pin.owner.ws_url.to_string(),
        claim: pin.owner.claim.to_string(),
        nodes: pin.nodes.iter().map(ToString::to_string).collect(),
        grace_seconds: pin.grace.map(|left| left.div_ceil(SECOND)),
    }
}

/// `{tenant}::{app}::{name}`.
fn full_name(text: &str) -> Result<DocumentName, Problem> {
    let parts = || {
        let (tenant, rest) = text.split_once("::")?;
        let (app, name) = rest.split_once("::")?;
        Some(DocumentName { app: AppName(format!("{tenant}::{app}").into()), name: name.into() })
    };
    parts().ok_or_else(|| Problem::parameter("cursor", "cursor is not what `next` of a page was"))
}

/// Nodes that live, as registries know them.
#[utoipa::path(
    get,
    path = "/v1/nodes",
    operation_id = "nodes",
    tag = "cluster",
    responses((status = 200, body = Nodes, description = "The nodes."), Errors)
)]
pub(super) async fn nodes(State(services): Shared) -> Json<Nodes> {
    let licenses = (0..services.cluster.registries()).filter_map(|license| u8::try_from(license).ok());
    let answers = licenses.map(|license| {
        let services = &services;
        async move { (services.cluster.code(license), services.ask(license, Request::Nodes).await) }
    });
    let mut nodes: BTreeMap<Node, ClusterNode> = BTreeMap::new();
    let mut unanswered = Vec::new();
    for (code, answer) in join_all(answers).await {
        let Ok(Answer::Nodes(known)) = answer else {
            unanswered.push(code.unwrap_or("embedded").to_owned());
            continue;
        };
        for view in known {
            let told = nodes.entry(view.node.clone()).or_insert_with(|| ClusterNode {
                region: view.node.region.to_string(),
                name: view.node.name.to_string(),
                life: format!("{:016x}", view.node.life),
                ws_url: view.ws_url.to_string(),
                peer_address: Some(view.peer_address.to_string()).filter(|address| !address.is_empty()),
                admin_url: Some(view.admin_url.to_string()).filter(|url| !url.is_empty()),
                version: view.version.to_string(),
                db_codes: Vec::new(),
            });
            told.db_codes.extend(code.map(str::to_owned));
        }
    }
    Json(Nodes { nodes: nodes.into_values().collect(), unanswered })
}

/// The regions that there are, as they look from this node.
#[utoipa::path(
    get,
    path = "/v1/regions",
    operation_id = "regions",
    tag = "cluster",
    responses((status = 200, body = Regions, description = "The regions."), Errors)
)]
pub(super) async fn regions(State(services): Shared) -> Json<Regions> {
    services.catalogue.own().see(services.own.sight(Instant::now()));
    Json(Regions { regions: services.catalogue.iter().map(tell_region).collect() })
}

fn tell_region(place: &Place) -> Region {
    let seen = place.seen();
    let round_trip = seen.and_then(|seen| seen.round_trip);
    Region {
        name: place.name().to_owned(),
        url: Some(place.url().to_owned()).filter(|url| !url.is_empty()),
        status: place.status().word().to_owned(),
        area: place.area().map(str::to_owned),
        round_trip_ms: round_trip.map(|time| (time.as_secs_f64() * 10_000.0).round() / 10.0),
        health: seen.map(|seen| seen.condition.word().to_owned()),
        occupancy: seen.and_then(|seen| seen.occupancy),
    }
}

impl Services {
    /// The number of a license region's registry.
    pub(super) fn license(&self, db_code: Option<&str>) -> Result<u8, Problem> {
        let known = || self.known_db_codes.join(", ");
        let wrong = |what: String| Problem::parameter("db_code", what);
        match db_code {
            Some(code) if !self.known_db_codes.iter().any(|known| known == code) => Err(wrong(format!(
                "db_code: `{code}` is no license region of this node; there are {}",
                known()
            ))),
            code => self.cluster.license(code).ok_or_else(|| {
                wrong(format!("db_code has to be said, since there are several license regions: {}", known()))
            }),
        }
    }

    /// Asks a registry.
    pub(super) async fn ask(&self, license: u8, request: Request) -> Result<Answer, Problem> {
        self.lookup.ask(license, request).await.map_err(|_| away())
    }
}

pub(super) fn away() -> Problem {
    Problem::unavailable("the registry did not answer in time")
}
