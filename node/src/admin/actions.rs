//! What an operator has done: each with a record of who, what, and how it ended.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::{Extension, Json};
use pinwire_admin_api::actions::{
    Action, CloseRequest, ConnectionClosed, DocumentEnded, Log, LogRequest, MessageRequest, MessageSent,
    Outcome, Who,
};
use pinwire_admin_api::events::What;
use pinwire_protocol::close::{Close, CloseCode, MAX_REASON};
use pinwire_shard::{DocumentName, Ended};

use time::OffsetDateTime;

use super::connections::{ConnectionPath, find, not_there};
use super::documents::{DocumentPath, not_open};
use super::problem::Problem;
use super::request::{Body, InPath};
use super::routes::{BodyErrors, Conflict, Errors, NotFound, Shared};
use super::{Services, rfc3339};
use crate::data::inspect::Ask;
use crate::log;

/// A stateless message at most.
const PAYLOAD_MAX: usize = 64 << 10;
/// A connection that moves while it is being closed is looked for again so many times.
const FINDS: u32 = 3;
/// The longest time for which something else is logged.
const LOG_SECONDS_MAX: u32 = 86_400;

/// Closes a connection. Whether its client comes back depends on the client and the code.
#[utoipa::path(
    post,
    path = "/v1/connections/{id}/close",
    operation_id = "close_connection",
    tag = "actions",
    params(ConnectionPath),
    request_body = CloseRequest,
    responses((status = 200, body = ConnectionClosed, description = "It was told to close."), NotFound, BodyErrors, Errors)
)]
pub(super) async fn close_connection(
    State(services): Shared,
    Extension(who): Extension<Who>,
    InPath(path): InPath<ConnectionPath>,
    Body(asked): Body<CloseRequest>,
) -> Result<Json<ConnectionClosed>, Problem> {
    let close = close(asked)?;
    let (code, reason) = (close.code.code(), close.reason().to_owned());
    let what = Action::CloseConnection { connection: path.id.clone(), code, reason };
    recorded(services, who, what, move |services| async move {
        for _ in 0..FINDS {
            let found = find(&services, &path).await?;
            let (connection, close) = (found.at, close.clone());
            let ask = |reply| Ask::Close { connection, close, reply };
            if services.plane.ask(found.thread.into(), ask).await.map_err(|_| silent())? {
                let connection = found.holder.id.to_string();
                services.events.note(What::ConnectionClosed { connection: connection.clone(), code });
                return Ok(ConnectionClosed { connection });
            }
        }
        Err(not_there())
    })
    .await
}

/// Ends a document: closes the connections of its members, and forgets it. Stock clients come back at once and bring what they
/// have: so a document that is worked on is there again soon, with whatever they know of it.
#[utoipa::path(
    post,
    path = "/v1/documents/{tenant}/{app}/{name}/end",
    operation_id = "end_document",
    tag = "actions",
    params(DocumentPath),
    request_body = CloseRequest,
    responses((status = 200, body = DocumentEnded, description = "It is gone."), NotFound, Conflict, BodyErrors, Errors)
)]
pub(super) async fn end_document(
    State(services): Shared,
    Extension(who): Extension<Who>,
    InPath(path): InPath<DocumentPath>,
    Body(asked): Body<CloseRequest>,
) -> Result<Json<DocumentEnded>, Problem> {
    let close = close(asked)?;
    let document = DocumentName::from(path);
    let (tenant, app, name) = strings(&document);
    let (code, reason) = (close.code.code(), close.reason().to_owned());
    let what = Action::EndDocument { tenant, app, name, code, reason };
    recorded(services, who, what, move |services| async move {
        let ask = |reply| Ask::End { name: document.clone(), close: close.clone(), reply };
        match services.plane.of_owner(ask).await {
            Err(_) => Err(silent()),
            Ok(None) => Err(not_open()),
            Ok(Some(Ended::Loading)) => {
                Err(Problem::conflict("the document is just being loaded; ask again in a moment"))
            }
            Ok(Some(Ended::Gone(members))) => {
                let members = members as u64;
                let (tenant, app, name) = strings(&document);
                services.events.note(What::DocumentEnded { tenant, app, name, members });
                Ok(DocumentEnded { members })
            }
        }
    })
    .await
}

/// Sends a stateless message to the members of a document. Those who speak y-websocket cannot be sent one.
#[utoipa::path(
    post,
    path = "/v1/documents/{tenant}/{app}/{name}/messages",
    operation_id = "send_message",
    tag = "actions",
    params(DocumentPath),
    request_body = MessageRequest,
    responses((status = 200, body = MessageSent, description = "It was sent."), NotFound, BodyErrors, Errors)
)]
pub(super) async fn send_message(
    State(services): Shared,
    Extension(who): Extension<Who>,
    InPath(path): InPath<DocumentPath>,
    Body(asked): Body<MessageRequest>,
) -> Result<Json<MessageSent>, Problem> {
    let payload = asked.payload;
    if payload.len() > PAYLOAD_MAX {
        return Err(Problem::parameter("payload", "payload has more than 64 KiB"));
    }
    let document = DocumentName::from(path);
    let (tenant, app, name) = strings(&document);
    let what = Action::SendMessage { tenant, app, name, bytes: payload.len() as u64 };
    recorded(services, who, what, move |services| async move {
        let ask = |reply| Ask::Tell { name: document.clone(), payload: payload.as_str().into(), reply };
        let told = services.plane.of_owner(ask).await.map_err(|_| silent())?.ok_or_else(not_open)?;
        let (members, unable) = (told.members as u64, told.unable as u64);
        let (tenant, app, name) = strings(&document);
        services.events.note(What::MessageSent { tenant, app, name, members });
        Ok(MessageSent { members, unable })
    })
    .await
}

pub(super) fn strings(name: &DocumentName) -> (String, String, String) {
    (name.tenant.to_string(), name.app.to_string(), name.name.to_string())
}

/// What is logged.
#[utoipa::path(
    get,
    path = "/v1/log",
    operation_id = "log",
    tag = "log",
    responses((status = 200, body = Log, description = "What is logged now."), Conflict, Errors)
)]
pub(super) async fn log(State(services): Shared) -> Result<Json<Log>, Problem> {
    Ok(Json(tell_log(&its_log(&services)?.state())))
}

/// Logs something else, for a while or until the configuration is read again.
#[utoipa::path(
    put,
    path = "/v1/log",
    operation_id = "set_log",
    tag = "log",
    request_body = LogRequest,
    responses((status = 200, body = Log, description = "What is logged now."), Conflict, BodyErrors, Errors)
)]
pub(super) async fn set_log(
    State(services): Shared,
    Extension(who): Extension<Who>,
    Body(asked): Body<LogRequest>,
) -> Result<Json<Log>, Problem> {
    let LogRequest { filter, for_seconds } = asked;
    log::check(&filter).map_err(|wrong| Problem::parameter("filter", format!("filter: {wrong}")))?;
    if for_seconds.is_some_and(|seconds| !(1..=LOG_SECONDS_MAX).contains(&seconds)) {
        let what = format!("for_seconds has to lie between 1 and {LOG_SECONDS_MAX}");
        return Err(Problem::malformed(what));
    }
    let what = Action::SetLog { filter: Some(filter.clone()), for_seconds };
    recorded(services, who, what, move |services| async move {
        let log = its_log(&services)?;
        let wait = for_seconds.map(|seconds| Duration::from_secs(seconds.into()));
        let until = wait.map(|wait| OffsetDateTime::now_utc() + wait);
        let changed = log
            .override_filter(&filter, until)
            .map_err(|error| Problem::parameter("filter", error.to_string()))?;
        if let Some(wait) = wait {
            let later = Arc::clone(&services);
            tokio::spawn(async move {
                tokio::time::sleep(wait).await;
                if let Some(log) = &later.log
                    && log.end_override(changed)
                {
                    note_log(&later, log);
                }
            });
        }
        note_log(&services, log);
        Ok(tell_log(&log.state()))
    })
    .await
}

/// Logs what is configured again.
#[utoipa::path(
    delete,
    path = "/v1/log",
    operation_id = "reset_log",
    tag = "log",
    responses((status = 200, body = Log, description = "What is logged now."), Conflict, Errors)
)]
pub(super) async fn reset_log(
    State(services): Shared,
    Extension(who): Extension<Who>,
) -> Result<Json<Log>, Problem> {
    let what = Action::SetLog { filter: None, for_seconds: None };
    recorded(services, who, what, move |services| async move {
        let log = its_log(&services)?;
        log.reset();
        note_log(&services, log);
        Ok(tell_log(&log.state()))
    })
    .await
}

pub(super) fn its_log(services: &Services) -> Result<&log::Log, Problem> {
    let missing = || Problem::conflict("this process does not log by itself");
    services.log.as_ref().ok_or_else(missing)
}

fn note_log(services: &Services, log: &log::Log) {
    services.events.note(What::LogChanged { filter: log.state().filter });
}

fn tell_log(state: &log::State) -> Log {
    Log {
        filter: state.filter.clone(),
        configured: state.configured.clone(),
        until: state.until.map(rfc3339),
    }
}

/// Does something, with a record of it. It is done to the end even if whoever asked has gone meanwhile.
pub(super) async fn recorded<T, F>(
    services: Arc<Services>,
    who: Who,
    what: Action,
    action: impl FnOnce(Arc<Services>) -> F + Send + 'static,
) -> Result<Json<T>, Problem>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Problem>> + Send,
{
    let done = tokio::spawn(async move {
        let begun = services.audit.begin(who, what).map_err(|error| {
            tracing::error!(%error, "the audit log cannot be written: nothing is done for operators");
            Problem::unavailable(format!("the audit log cannot be written: {error}"))
        })?;
        let result = action(Arc::clone(&services)).await;
        begun.end(match &result {
            Ok(_) => Outcome::Done,
            Err(problem) => Outcome::Failed(problem.detail().to_owned()),
        });
        result
    });
    done.await.map_err(|_| Problem::unavailable("the node stops"))?.map(Json)
}

fn silent() -> Problem {
    Problem::unavailable("a data thread did not answer in time; it may do it all the same")
}

/// The close that is asked for.
fn close(asked: CloseRequest) -> Result<Close, Problem> {
    let wanted = asked.code.unwrap_or(CloseCode::Normal.code());
    let known = CloseCode::ALL.iter().find(|code| code.code() == wanted);
    let code = known.copied().ok_or_else(|| {
        let what = format!("{wanted} is no close code of the node; docs/close-codes.md lists them");
        Problem::parameter("code", what)
    })?;
    match asked.reason {
        None => Ok(Close::from(code)),
        Some(reason) if reason.len() <= MAX_REASON => Ok(Close::with_reason(code, reason)),
        Some(_) => Err(Problem::parameter("reason", format!("reason has more than {MAX_REASON} bytes"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_is_one_of_the_nodes_own_and_normal_if_nothing_is_said() {
        assert_eq!(close(CloseRequest::default()), Ok(Close::from(CloseCode::Normal)));
        let asked = |code, reason: &str| CloseRequest { code: Some(code), reason: Some(reason.to_owned()) };
        let gone = close(asked(1001, "maintenance")).unwrap();
        assert_eq!((gone.code, gone.reason()), (CloseCode::GoingAway, "maintenance"));
        for wrong in [asked(999, ""), asked(1005, ""), asked(4999, ""), asked(1000, &"x".repeat(124))] {
            assert!(close(wrong.clone()).is_err(), "{wrong:?}");
        }
    }
}
