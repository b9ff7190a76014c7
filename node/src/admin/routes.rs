//! Which request gets which answer, and the description of all of them.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderValue, header};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use pinwire_admin_api::actions::AuditPage;
use pinwire_admin_api::events::EventPage;
use pinwire_admin_api::log::{LogLevel, LogLine, LogPage};
use pinwire_admin_api::problem::Problem as Body;
use pinwire_admin_api::{VERSION, stream as stream_types};
use serde::Deserialize;
use tracing::Level;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, License, OpenApi};
use utoipa::{IntoParams, IntoResponses, OpenApi as _};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::problem::Problem;
use super::request::{Parameters, page_size};
use super::{
    Services, access, actions, apps, cluster, connections, documents, leaving, maintenance, moves, overview,
    pins, records, rfc3339, store, stream,
};
use crate::log::{Line, Lines};

pub(super) type Shared = State<Arc<Services>>;

/// Bytes of a request's body: the longest message that may be sent, each byte of it escaped.
const BODY_MAX: usize = 512 << 10;
/// Events or records of a page.
const PAGE_MAX: usize = 1000;

/// Answers that any request may get.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only described")]
pub(super) enum Errors {
    /// The request cannot be understood.
    #[response(status = 400, content_type = "application/problem+json")]
    Malformed(Body),
    /// Not the node's bearer token, or none.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthenticated(Body),
    /// What the answer lies in is away, or slow.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(Body),
}

/// What was asked for is not there.
#[derive(IntoResponses)]
#[response(status = 404, content_type = "application/problem+json")]
#[expect(dead_code, reason = "only described")]
pub(super) struct NotFound(Body);

/// A parameter means nothing here.
#[derive(IntoResponses)]
#[response(status = 422, content_type = "application/problem+json")]
#[expect(dead_code, reason = "only described")]
pub(super) struct Meaningless(Body);

/// Not as things stand now.
#[derive(IntoResponses)]
#[response(status = 409, content_type = "application/problem+json")]
#[expect(dead_code, reason = "only described")]
pub(super) struct Conflict(Body);

/// What was to be replaced is not what there is.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only described")]
pub(super) enum PreconditionErrors {
    /// Another version is there.
    #[response(status = 412, content_type = "application/problem+json")]
    Failed(Body),
    /// The request does not say which version it replaces.
    #[response(status = 428, content_type = "application/problem+json")]
    Required(Body),
}

/// Answers that a request with a body may get.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only described")]
pub(super) enum BodyErrors {
    /// The body is too long.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(Body),
    /// The body is not said to be JSON.
    #[response(status = 415, content_type = "application/problem+json")]
    MediaType(Body),
    /// The request can be understood, and means nothing.
    #[response(status = 422, content_type = "application/problem+json")]
    Parameter(Body),
}

fn resources() -> OpenApiRouter<Arc<Services>> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(overview::node))
        .routes(routes!(overview::threads))
        .routes(routes!(leaving::drain, leaving::cancel))
        .routes(routes!(leaving::upgrade))
        .routes(routes!(documents::list))
        .routes(routes!(documents::one))
        .routes(routes!(actions::end_document))
        .routes(routes!(actions::send_message))
        .routes(routes!(connections::list))
        .routes(routes!(connections::one))
        .routes(routes!(actions::close_connection))
        .routes(routes!(apps::list))
        .routes(routes!(records::read, records::put, records::delete))
        .routes(routes!(cluster::pins))
        .routes(routes!(pins::unpin))
        .routes(routes!(moves::move_document))
        .routes(routes!(cluster::nodes))
        .routes(routes!(cluster::regions))
        .routes(routes!(maintenance::list, maintenance::announce))
        .routes(routes!(maintenance::change, maintenance::withdraw))
        .routes(routes!(events))
        .routes(routes!(audit))
        .routes(routes!(actions::log, actions::set_log, actions::reset_log))
        .routes(routes!(log_lines))
        .routes(routes!(store::erase_document))
        .routes(routes!(store::erase_app))
        .routes(routes!(stream::stream))
}

#[derive(utoipa::OpenApi)]
#[openapi(components(schemas(stream_types::Snapshot, stream_types::Change, Body)))]
struct Description;

/// The description of the API, OpenAPI 3.1.
#[must_use]
pub fn description() -> OpenApi {
    let mut description = resources().into_openapi();
    let text = "What those who operate a node can see of it, and have done. Within `/v1/` fields are added, never removed \
                or changed.";
    description.info = InfoBuilder::new()
        .title("Pinwire admin API")
        .version(VERSION)
        .description(Some(text))
        .license(Some(License::new("Apache-2.0 OR MIT")))
        .build();
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("The token in `admin.token_file`. Not needed on the Unix socket."))
        .build();
    let components = description.components.get_or_insert_with(|| ComponentsBuilder::new().build());
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    description.security = Some(vec![SecurityRequirement::new::<_, [&str; 0], &str>("bearer", [])]);
    description
}

pub(super) fn router(services: Arc<Services>) -> Router {
    let (resources, _) = resources().split_for_parts();
    let description = description();
    resources
        .route("/v1/openapi.json", get(async move || Json(description.clone())))
        .method_not_allowed_fallback(async || Problem::method())
        .fallback(overview::nothing)
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(from_fn_with_state(Arc::clone(&services), access::authenticate))
        .layer(map_response(not_stored))
        .with_state(services)
}

/// Every answer is about this moment.
async fn not_stored(response: Response) -> Response {
    ([(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))], response).into_response()
}

/// Which events or records.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct SinceParameters {
    /// Those after this number: `next` of the page before, or 0.
    #[param(maximum = 9223372036854775807_u64)]
    since: Option<u64>,
    /// How many at most, 100 without it.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

impl SinceParameters {
    /// Bounded as the description says, which knows no larger whole numbers.
    fn since(&self) -> Result<u64, Problem> {
        match self.since {
            Some(since) if i64::try_from(since).is_err() => Err(Problem::malformed("since is too large")),
            since => Ok(since.unwrap_or(0)),
        }
    }
}

/// What happened on the node: the last 1,024 events, and apart from them the last 1,024 stateless messages of clients.
#[utoipa::path(
    get,
    path = "/v1/events",
    operation_id = "events",
    tag = "events",
    params(SinceParameters),
    responses((status = 200, body = EventPage, description = "A page."), Errors)
)]
async fn events(
    State(services): Shared,
    Parameters(asked): Parameters<SinceParameters>,
) -> Result<Json<EventPage>, Problem> {
    let limit = page_size(asked.limit, PAGE_MAX)?;
    Ok(Json(services.events.since(asked.since()?, limit)))
}

/// What operators had done, or tried to: the last 1,024 records. `admin.audit_log` names a file that has all.
#[utoipa::path(
    get,
    path = "/v1/audit",
    operation_id = "audit",
    tag = "events",
    params(SinceParameters),
    responses((status = 200, body = AuditPage, description = "A page."), Errors)
)]
async fn audit(
    State(services): Shared,
    Parameters(asked): Parameters<SinceParameters>,
) -> Result<Json<AuditPage>, Problem> {
    let limit = page_size(asked.limit, PAGE_MAX)?;
    Ok(Json(services.audit.since(asked.since()?, limit)))
}

/// The last 1,024 lines of the log of the node's process: those that went to stderr.
#[utoipa::path(
    get,
    path = "/v1/log/lines",
    operation_id = "log_lines",
    tag = "log",
    params(SinceParameters),
    responses((status = 200, body = LogPage, description = "A page."), Conflict, Errors)
)]
async fn log_lines(
    State(services): Shared,
    Parameters(asked): Parameters<SinceParameters>,
) -> Result<Json<LogPage>, Problem> {
    let limit = page_size(asked.limit, PAGE_MAX)?;
    let Lines { lines, next, lost } = actions::its_log(&services)?.recent().since(asked.since()?, limit);
    Ok(Json(LogPage { lines: lines.iter().map(|line| tell_line(line)).collect(), next, lost }))
}

fn tell_line(line: &Line) -> LogLine {
    LogLine {
        sequence: line.sequence,
        at: rfc3339(line.at),
        level: match line.level {
            Level::ERROR => LogLevel::Error,
            Level::WARN => LogLevel::Warn,
            Level::INFO => LogLevel::Info,
            Level::DEBUG => LogLevel::Debug,
            _ => LogLevel::Trace,
        },
        target: line.target.to_owned(),
        text: line.text.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// `PINWIRE_UPDATE_PAGES=1` writes the page anew.
    #[test]
    fn the_page_of_the_documentation_is_the_description() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
        let now = description().to_pretty_json().unwrap() + "\n";
        if std::env::var_os("PINWIRE_UPDATE_PAGES").is_some() {
            fs::write(path, &now).unwrap();
        }
        let page = fs::read_to_string(path).unwrap();
        assert!(page == now, "PINWIRE_UPDATE_PAGES=1 writes it anew");
    }

    #[test]
    fn every_operation_and_each_of_its_answers_is_described() {
        let description = serde_json::to_value(description()).unwrap();
        let paths = description["paths"].as_object().unwrap();
        assert_eq!(paths.len(), 27);
        for (path, item) in paths {
            assert!(path.starts_with("/v1/"), "{path}");
            for (method, operation) in item.as_object().unwrap() {
                let has = |field: &str| operation[field].as_str().is_some_and(|text| !text.is_empty());
                assert!(has("operationId") && has("summary"), "{method} {path}");
                for (status, response) in operation["responses"].as_object().unwrap() {
                    assert!(response["description"].is_string(), "{method} {path} {status}");
                }
                assert!(operation["responses"]["401"].is_object(), "{method} {path}");
            }
        }
    }
}
