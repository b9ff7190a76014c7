//! `/discovery`: where a document is open, or would best be opened.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use pinwire_protocol::document::name::is_valid_name;
use pinwire_token::{Forbidden, Request, authorize};
use serde::Serialize;

use super::caller::{Bearer, Caller};
use super::problem::Problem;
use super::routes::Shared;
use super::{Services, Wanted};
use crate::limits::Asking;

pub(crate) async fn answer(State(services): Shared, caller: Caller) -> Response {
    match caller.identify(&services, Asking::Discovery).await {
        Ok(bearer) => caller.answer(&bearer.claims, locate(&services, &caller, &bearer).await),
        Err(problem) => problem.into_response(),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Discovered {
    region: String,
    url: String,
    is_new: bool,
}

async fn locate(services: &Services, caller: &Caller, bearer: &Bearer) -> Result<Response, Problem> {
    let claims = &bearer.claims;
    let document = document_name(services, caller)?;
    let asked = Request {
        origin: caller.origin(),
        document: Some(document),
        region: None,
        known_db_codes: &services.known_db_codes,
    };
    authorize(claims, &asked)?;
    let wanted = Wanted {
        tenant: &claims.tenant,
        app: &claims.app,
        document,
        license: services.license(claims)?,
        prefer_region: claims.region_code.as_deref(),
        regions: claims.regions.as_deref(),
        record: bearer.record.as_deref(),
    };
    let located = services.pins.locate(wanted).await;
    let stats = &services.stats;
    match &located {
        Err(_) => &stats.discovered_nothing,
        Ok(located) if located.is_new => &stats.discovered_idle,
        Ok(_) => &stats.discovered_pinned,
    }
    .one();
    let located = located?;
    // Only now it is known in which region the client would work.
    authorize(claims, &Request { region: Some(&located.region), ..asked })?;
    if bearer.record.as_ref().is_some_and(|record| !record.allows(&located.region)) {
        return Err(Forbidden::AppRegion.into());
    }
    let url = format!("{}/{document}", located.ws_url);
    Ok(Json(Discovered { region: located.region, url, is_new: located.is_new }).into_response())
}

const PARAMETER: &str = "documentName";

fn document_name<'a>(services: &Services, caller: &'a Caller) -> Result<&'a str, Problem> {
    let name = caller.parameter(PARAMETER)?.filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| Problem::parameter(PARAMETER, "is missing"))?;
    if !is_valid_name(name, &services.names) {
        return Err(Problem::parameter(
            PARAMETER,
            match services.names.allow_dot_colon {
                true => "must be 1 to 255 bytes of letters, digits, '-', '_', '.' and ':'",
                false => "must be 1 to 255 bytes of letters, digits, '-' and '_'",
            },
        ));
    }
    Ok(name)
}
