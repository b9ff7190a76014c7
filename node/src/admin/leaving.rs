//! A node that is to leave, for operators: by and by, or with another process that takes over.

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::{Extension, Json};
use pinwire_admin_api::actions::{Action, UpgradeBegun, Who};
use pinwire_admin_api::node::Drain;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::actions::recorded;
use super::overview;
use super::problem::Problem;
use super::routes::{Conflict, Errors, Shared};

/// For another process to be started: less than a request may take.
const PATIENCE: Duration = Duration::from_secs(8);

/// Has the node leave: out of DNS, not ready, then its clients are closed by and by. The process stays until SIGTERM. Asked again,
/// it says how far it is.
#[utoipa::path(
    post,
    path = "/v1/node/drain",
    operation_id = "drain_node",
    tag = "actions",
    responses((status = 200, body = Drain, description = "It leaves."), Conflict, Errors)
)]
pub(super) async fn drain(
    State(services): Shared,
    Extension(who): Extension<Who>,
) -> Result<Json<Drain>, Problem> {
    recorded(services, who, Action::Drain, async |services| {
        services
            .drains
            .begin("an operator wants it to")
            .map_err(|error| Problem::unavailable(format!("the node cannot drain: {error}")))?;
        overview::drain(&services.drains.progress())
            .ok_or_else(|| Problem::conflict("the drain was taken back meanwhile"))
    })
    .await
}

/// Has it stay after all, and take clients again. Those who were closed stay where they are.
#[utoipa::path(
    delete,
    path = "/v1/node/drain",
    operation_id = "cancel_drain",
    tag = "actions",
    responses((status = 204, description = "It stays."), Conflict, Errors)
)]
pub(super) async fn cancel(
    State(services): Shared,
    Extension(who): Extension<Who>,
) -> Result<StatusCode, Problem> {
    let cancel = async |services: std::sync::Arc<super::Services>| {
        let drains = services.drains.clone();
        let (reply, cancelled) = oneshot::channel();
        // It may wait for a port. Whoever asked may have gone.
        std::thread::Builder::new()
            .name("cancel-drain".to_owned())
            .spawn(move || _ = reply.send(drains.cancel()))
            .map_err(|error| Problem::unavailable(error.to_string()))?;
        let cancelled = cancelled.await.map_err(|_| Problem::unavailable("what came of it is not known"))?;
        cancelled.map_err(|error| Problem::conflict(error.to_string()))
    };
    let Json(()) = recorded(services, who, Action::CancelDrain, cancel).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Has another process take over: the program as it is on disk now, with the configuration as it is now. It has the listening
/// sockets, so no connection is refused; this process drains. The answer comes as soon as it is started: what becomes of it is
/// `upgrade` of `/v1/node`, which the process that serves answers, and an event.
#[utoipa::path(
    post,
    path = "/v1/node/upgrade",
    operation_id = "upgrade_node",
    tag = "actions",
    responses((status = 202, body = UpgradeBegun, description = "Another process is started; `Location` says where it is told what becomes of it."), Conflict, Errors)
)]
pub(super) async fn upgrade(
    State(services): Shared,
    Extension(who): Extension<Who>,
) -> Result<(StatusCode, [(HeaderName, &'static str); 1], Json<UpgradeBegun>), Problem> {
    let begin = async |services: std::sync::Arc<super::Services>| {
        let nobody = || Problem::conflict("nobody can take over from this process");
        let upgrades = services.upgrades.as_ref().ok_or_else(nobody)?;
        let (reply, answer) = oneshot::channel();
        upgrades.ask(reply).map_err(|()| Problem::conflict("another process is being started already"))?;
        match timeout(PATIENCE, answer).await {
            Ok(Ok(Ok(pid))) => Ok(UpgradeBegun { pid }),
            Ok(Ok(Err(why))) => Err(Problem::conflict(why)),
            Ok(Err(_)) => Err(Problem::unavailable("the node stops")),
            Err(_) => Err(Problem::unavailable(
                "the node is busy, and may still start another process: /v1/node says so",
            )),
        }
    };
    let begun = recorded(services, who, Action::Upgrade, begin).await?;
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, "/v1/node")], begun))
}
