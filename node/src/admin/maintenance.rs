//! `/v1/maintenance`: what is announced on the status page.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use pinwire_admin_api::actions::{Action, Who};
use pinwire_admin_api::maintenance::{
    AnnouncedMaintenance, Maintenance, MaintenanceList, MaintenancePhase, MaintenanceRequest,
};
use pinwire_status::{Announcement, At, Maintenance as Shown, Phase};
use serde::Deserialize;
use utoipa::IntoParams;

use super::Services;
use super::actions::recorded;
use super::problem::Problem;
use super::request::{Body, InPath};
use super::routes::{BodyErrors, Conflict, Errors, NotFound, PreconditionErrors, Shared};
use super::version::{Replaces, Tagged};
use crate::status::{Asked, Desk, Done, Refused};

/// Which announcement.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct NoticePath {
    /// Its id.
    id: String,
}

/// Maintenance that was announced, here or in another region.
#[utoipa::path(
    get,
    path = "/v1/maintenance",
    operation_id = "maintenance",
    tag = "maintenance",
    responses((status = 200, body = MaintenanceList, description = "All of it."), Conflict, Errors)
)]
pub(super) async fn list(State(services): Shared) -> Result<Json<MaintenanceList>, Problem> {
    let Done { notices, is_kept } = desk(&services)?.ask(Asked::List).await.map_err(problem)?;
    Ok(Json(MaintenanceList { notices: notices.into_iter().map(tell).collect(), is_kept }))
}

/// Announces maintenance. Every region's status page shows it, and during its time the regions that it names as in maintenance.
#[utoipa::path(
    post,
    path = "/v1/maintenance",
    operation_id = "announce_maintenance",
    tag = "maintenance",
    request_body = MaintenanceRequest,
    responses(
        (status = 200, body = AnnouncedMaintenance, description = "It.", headers(("ETag" = String, description = "Its revision."))),
        Conflict,
        BodyErrors,
        Errors
    )
)]
pub(super) async fn announce(
    State(services): Shared,
    Extension(who): Extension<Who>,
    Body(asked): Body<MaintenanceRequest>,
) -> Result<Tagged<AnnouncedMaintenance>, Problem> {
    let told = announcement(&services, asked)?;
    let what = Action::AnnounceMaintenance { title: told.title.clone(), regions: told.regions.clone() };
    act(services, who, what, Asked::Announce(told)).await
}

/// Changes an announcement: all that it says, in place of the revision that `If-Match` names.
#[utoipa::path(
    put,
    path = "/v1/maintenance/{id}",
    operation_id = "change_maintenance",
    tag = "maintenance",
    params(NoticePath, ("If-Match" = String, Header, description = "The revision that it replaces, as in `ETag`.")),
    request_body = MaintenanceRequest,
    responses(
        (status = 200, body = AnnouncedMaintenance, description = "As it is now.", headers(("ETag" = String, description = "Its revision."))),
        NotFound,
        Conflict,
        PreconditionErrors,
        BodyErrors,
        Errors
    )
)]
pub(super) async fn change(
    State(services): Shared,
    Extension(who): Extension<Who>,
    InPath(path): InPath<NoticePath>,
    Replaces(revision): Replaces,
    Body(asked): Body<MaintenanceRequest>,
) -> Result<Tagged<AnnouncedMaintenance>, Problem> {
    let told = announcement(&services, asked)?;
    let what = Action::ChangeMaintenance { id: path.id.clone(), revision };
    act(services, who, what, Asked::Change(path.id, revision, told)).await
}

/// Calls off what was announced and is not over, whichever revision it is of. It stays on the status page as called off for a while.
#[utoipa::path(
    delete,
    path = "/v1/maintenance/{id}",
    operation_id = "withdraw_maintenance",
    tag = "maintenance",
    params(NoticePath),
    responses(
        (status = 200, body = AnnouncedMaintenance, description = "It was called off.", headers(("ETag" = String, description = "Its revision."))),
        NotFound,
        Conflict,
        Errors
    )
)]
pub(super) async fn withdraw(
    State(services): Shared,
    Extension(who): Extension<Who>,
    InPath(path): InPath<NoticePath>,
) -> Result<Tagged<AnnouncedMaintenance>, Problem> {
    let what = Action::WithdrawMaintenance { id: path.id.clone() };
    act(services, who, what, Asked::Withdraw(path.id)).await
}

fn desk(services: &Services) -> Result<&Desk, Problem> {
    let missing = || Problem::conflict("this node publishes no status: set `status.enabled`");
    services.status.as_ref().ok_or_else(missing)
}

async fn act(
    services: Arc<Services>,
    who: Who,
    what: Action,
    asked: Asked,
) -> Result<Tagged<AnnouncedMaintenance>, Problem> {
    let done = recorded(services, who, what, move |services| async move {
        let Done { notices, is_kept } = desk(&services)?.ask(asked).await.map_err(problem)?;
        let notice = notices.into_iter().next().map(tell).ok_or_else(|| problem(Refused::Silent))?;
        Ok(AnnouncedMaintenance { notice, is_kept })
    });
    let done = done.await?.0;
    Ok(Tagged { version: done.notice.revision, body: done })
}

fn announcement(services: &Services, asked: MaintenanceRequest) -> Result<Announcement, Problem> {
    let MaintenanceRequest { mut regions, from, to, title, text } = asked;
    if let Some(unknown) = regions.iter().find(|name| services.catalogue.get(name).is_none()) {
        let known: Vec<&str> = services.catalogue.iter().map(crate::regions::Place::name).collect();
        let what = format!("regions names {unknown:?}, which is none of {}", known.join(", "));
        return Err(Problem::parameter("regions", what));
    }
    regions.sort_unstable();
    regions.dedup();
    let time = |name, text: &str| -> Result<At, Problem> {
        text.parse().map_err(|wrong| Problem::parameter(name, format!("{name}: {wrong}")))
    };
    Ok(Announcement { regions, from: time("from", &from)?, to: time("to", &to)?, title, text })
}

fn problem(refused: Refused) -> Problem {
    match refused {
        Refused::Silent => {
            Problem::unavailable("the status thread did not answer in time; it may do it all the same")
        }
        Refused::Unknown => Problem::not_found("there is no such announcement"),
        Refused::Revision(revision) => {
            Problem::precondition_failed(format!("it is of revision {revision} now; read it again"))
        }
        Refused::Over => Problem::conflict("it is over, or was called off; announce another one"),
        Refused::Wrong(wrong) => Problem::parameter(wrong.field, wrong.to_string()),
        Refused::Full(what) => Problem::conflict(what),
    }
}

fn tell(shown: Shown) -> Maintenance {
    let Announcement { regions, from, to, title, text } = shown.told;
    Maintenance {
        id: shown.id,
        revision: shown.revision,
        revised: shown.revised.to_string(),
        phase: match shown.phase {
            Phase::Planned => MaintenancePhase::Planned,
            Phase::Underway => MaintenancePhase::Underway,
            Phase::Over => MaintenancePhase::Over,
            Phase::Withdrawn => MaintenancePhase::Withdrawn,
        },
        regions,
        from: from.to_string(),
        to: to.to_string(),
        title,
        text,
    }
}
