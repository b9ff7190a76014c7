//! `/v1/apps/{tenant}/{app}/record`: what the license region says of an app.

use std::sync::Arc;
use std::time::Instant;

use axum::Extension;
use axum::extract::State;
use pinwire_admin_api::actions::{Action, Who};
use pinwire_admin_api::apps::{AppRecord, RecordedApp};
use pinwire_registry::{Answer, AppName, AppRecord as Registered, Request};
use pinwire_token::claims::is_valid_id;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::IntoParams;

use super::Services;
use super::actions::recorded;
use super::cluster::away;
use super::problem::Problem;
use super::request::{Body, InPath, Parameters};
use super::routes::{BodyErrors, Errors, Meaningless, NotFound, PreconditionErrors, Shared};
use super::store::AppPath;
use super::version::{Replaces, Tagged};
use crate::apps::Record;

/// Which license region.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct RecordParameters {
    /// The app's license region. Needed where there are several and no token of the app was seen here.
    db_code: Option<String>,
}

/// An app's record, read from its license region's registry.
#[utoipa::path(
    get,
    path = "/v1/apps/{tenant}/{app}/record",
    operation_id = "app_record",
    tag = "apps",
    params(AppPath, RecordParameters),
    responses(
        (status = 200, body = RecordedApp, description = "It.", headers(("ETag" = String, description = "Its version."))),
        NotFound,
        Meaningless,
        Errors
    )
)]
pub(super) async fn read(
    State(services): Shared,
    InPath(path): InPath<AppPath>,
    Parameters(asked): Parameters<RecordParameters>,
) -> Result<Tagged<RecordedApp>, Problem> {
    let (license, app) = which(&services, &path, asked)?;
    let Answer::App(said) = services.ask(license, Request::App { app }).await? else { return Err(away()) };
    if said.record.is_none() {
        let what = format!("the app has no record; PUT one with `If-Match: \"{}\"`", said.version);
        return Err(Problem::not_found(what));
    }
    Ok(answer(tell(&said)))
}

/// Writes an app's record: all of it, in place of the version that `If-Match` names (`"0"` where there was none). Nodes follow with
/// their next renewal.
#[utoipa::path(
    put,
    path = "/v1/apps/{tenant}/{app}/record",
    operation_id = "put_app_record",
    tag = "apps",
    params(
        AppPath,
        RecordParameters,
        ("If-Match" = String, Header, description = "The version that it replaces, as in `ETag`; `\"0\"`: there is none.")
    ),
    request_body = AppRecord,
    responses(
        (status = 200, body = RecordedApp, description = "As it is now.", headers(("ETag" = String, description = "Its version."))),
        PreconditionErrors,
        BodyErrors,
        Errors
    )
)]
pub(super) async fn put(
    State(services): Shared,
    Extension(who): Extension<Who>,
    InPath(path): InPath<AppPath>,
    Parameters(asked): Parameters<RecordParameters>,
    Replaces(version): Replaces,
    Body(record): Body<Map<String, Value>>,
) -> Result<Tagged<RecordedApp>, Problem> {
    let (license, app) = which(&services, &path, asked)?;
    let text = Value::Object(record).to_string();
    Record::parse(&path.tenant, &text)
        .map_err(|error| Problem::parameter("record", format!("the record cannot be used: {error}")))?;
    let what = Action::PutAppRecord { tenant: path.tenant, app: path.app, version };
    let write = move |services| write(services, license, app, version, Some(text));
    Ok(answer(recorded(services, who, what, write).await?.0))
}

/// Removes an app's record: the version that `If-Match` names.
#[utoipa::path(
    delete,
    path = "/v1/apps/{tenant}/{app}/record",
    operation_id = "delete_app_record",
    tag = "apps",
    params(
        AppPath,
        RecordParameters,
        ("If-Match" = String, Header, description = "The version that is removed, as in `ETag`.")
    ),
    responses(
        (status = 200, body = RecordedApp, description = "There is none any more."),
        PreconditionErrors,
        Meaningless,
        Errors
    )
)]
pub(super) async fn delete(
    State(services): Shared,
    Extension(who): Extension<Who>,
    InPath(path): InPath<AppPath>,
    Parameters(asked): Parameters<RecordParameters>,
    Replaces(version): Replaces,
) -> Result<Tagged<RecordedApp>, Problem> {
    let (license, app) = which(&services, &path, asked)?;
    let what = Action::DeleteAppRecord { tenant: path.tenant, app: path.app, version };
    let write = move |services| write(services, license, app, version, None);
    Ok(answer(recorded(services, who, what, write).await?.0))
}

/// The registry and the name of the app in there.
fn which(services: &Services, path: &AppPath, asked: RecordParameters) -> Result<(u8, AppName), Problem> {
    for (name, id) in [("tenant", &path.tenant), ("app", &path.app)] {
        if !is_valid_id(id) {
            return Err(Problem::parameter(name, format!("{name} is no id that a token can have")));
        }
    }
    let seen = services.apps.db_code(&path.tenant, &path.app).map(String::from);
    let license = services.license(asked.db_code.or(seen).as_deref())?;
    Ok((license, AppName(format!("{}::{}", path.tenant, path.app).into())))
}

async fn write(
    services: Arc<Services>,
    license: u8,
    app: AppName,
    version: u64,
    record: Option<String>,
) -> Result<RecordedApp, Problem> {
    let record: Option<Arc<str>> = record.map(Into::into);
    let request = Request::PutApp { app: app.clone(), version, record: record.clone() };
    let Answer::App(now) = services.ask(license, request).await? else { return Err(away()) };
    // This node need not wait for its next renewal.
    services.records.learn(&app, &now, Instant::now());
    // A version rises with each change: one that did not is no answer to this one.
    if now.version == version || now.record != record {
        let what = format!("the record is of version {}, and not {version}; read it again", now.version);
        return Err(Problem::precondition_failed(what));
    }
    Ok(tell(&now))
}

/// What cannot be understood was not written here, and is shown as nothing.
fn tell(said: &Registered) -> RecordedApp {
    let record = said.record.as_deref().map(|text| serde_json::from_str(text).unwrap_or_default());
    RecordedApp { version: said.version, record }
}

fn answer(recorded: RecordedApp) -> Tagged<RecordedApp> {
    Tagged { version: recorded.version, body: recorded }
}
