//! `/regions`: the regions that there are, and how each looks from here.

use std::time::Instant;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::problem;
use super::routes::Shared;
use crate::regions::{Condition, Place};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Regions<'a> {
    /// Where this was asked.
    region: &'a str,
    regions: Vec<Region<'a>>,
    timestamp: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Region<'a> {
    name: &'a str,
    /// `null` for one that has none yet.
    url: Option<&'a str>,
    status: &'static str,
    area: Option<&'a str>,
    /// What is not known yet is `null`, and so is what nobody measures: of regions that are not live.
    round_trip_ms: Option<f64>,
    health: Option<Condition>,
    occupancy: Option<f64>,
}

pub(crate) async fn answer(State(services): Shared) -> Response {
    let catalogue = &services.catalogue;
    catalogue.own().see(services.own.sight(Instant::now()));
    let regions = Regions {
        region: catalogue.own().name(),
        regions: catalogue.iter().map(tell).collect(),
        timestamp: problem::timestamp(),
    };
    Json(regions).into_response()
}

fn tell(place: &Place) -> Region<'_> {
    let seen = place.seen();
    let round_trip = seen.and_then(|seen| seen.round_trip);
    Region {
        name: place.name(),
        url: Some(place.url()).filter(|url| !url.is_empty()),
        status: place.status().word(),
        area: place.area(),
        round_trip_ms: round_trip.map(|time| (time.as_secs_f64() * 10_000.0).round() / 10.0),
        health: seen.map(|seen| seen.condition),
        occupancy: seen.and_then(|seen| seen.occupancy),
    }
}
