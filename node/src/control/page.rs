//! The built-in page of `dev`: presence of one document, and what an app needs to connect.
//!
//! The page is plain HTML, CSS and JavaScript from `node/src/page`, answered at `/` to clients that ask for `text/html`. It
//! asks for a token, so nobody else may: not a page of another origin (no CORS header is sent, and browsers say where a
//! request comes from), nor one whose name was made to resolve to this machine (DNS rebinding: `Host` must be loopback).

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use pinwire_protocol::close::{CloseCode, Comeback};
use serde_json::{Value, json};

use super::problem::Problem;
use super::routes::Shared;
use super::{Services, health};

/// What the built-in page gives to whoever opens it on this machine.
#[derive(Clone, PartialEq, Eq)]
pub struct Page {
    /// A token for every document of the node.
    pub token: String,
}

impl fmt::Debug for Page {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Page").finish_non_exhaustive()
    }
}

const DOCUMENT: &str = include_str!("../page/index.html");

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// Name below `/page/`, type, text.
const FILES: &[(&str, &str, &str)] = &[
    ("style.css", "text/css; charset=utf-8", include_str!("../page/style.css")),
    ("icon.svg", "image/svg+xml", include_str!("../page/icon.svg")),
    ("main.js", JAVASCRIPT, include_str!("../page/main.js")),
    ("awareness.js", JAVASCRIPT, include_str!("../page/awareness.js")),
    ("connection.js", JAVASCRIPT, include_str!("../page/connection.js")),
    ("people.js", JAVASCRIPT, include_str!("../page/people.js")),
    ("stage.js", JAVASCRIPT, include_str!("../page/stage.js")),
    ("wire.js", JAVASCRIPT, include_str!("../page/wire.js")),
];

/// `/` and what the page loads.
pub(super) fn router() -> Router<Arc<Services>> {
    let parts = Router::new()
        .route("/page/node.json", get(access))
        .route("/page/{file}", get(file))
        .method_not_allowed_fallback(async || Problem::Method)
        .route_layer(from_fn(from_this_machine));
    Router::new().route("/", get(start)).merge(parts)
}

/// The page for browsers, `/health` for everybody else.
async fn start(services: Shared, headers: HeaderMap) -> Response {
    let mut response = match page_or_health(&headers) {
        Wanted::Health => health::answer(services).await,
        Wanted::Page(host) => secured(host, typed("text/html; charset=utf-8", DOCUMENT)),
        Wanted::Elsewhere => misdirected(),
    };
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}

enum Wanted<'a> {
    Health,
    /// The page, at this authority.
    Page(&'a str),
    /// The page, under a name that is not this machine's.
    Elsewhere,
}

fn page_or_health(headers: &HeaderMap) -> Wanted<'_> {
    if !accepts_html(headers) {
        return Wanted::Health;
    }
    loopback_host(headers).map_or(Wanted::Elsewhere, Wanted::Page)
}

/// Whether whoever asks is a browser.
pub(super) fn accepts_html(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(is_html)
}

fn is_html(range: &str) -> bool {
    range.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case("text/html"))
}

async fn file(Path(name): Path<String>) -> Response {
    match FILES.iter().find(|(known, ..)| *known == name) {
        Some((_, kind, text)) => typed(kind, text),
        None => Problem::NotFound.into_response(),
    }
}

/// Where to connect, with what, and what each close code asks of a client.
async fn access(State(services): Shared, headers: HeaderMap) -> Response {
    let (Some(page), Some(host)) = (&services.page, loopback_host(&headers)) else { return misdirected() };
    if !is_asked_by_the_page(&headers, host) {
        return plain(StatusCode::FORBIDDEN, "The token is for the page of this node alone.\n");
    }
    let url = format!("ws://{host}");
    Json(json!({ "region": services.region, "url": url, "token": page.token, "closes": closes() }))
        .into_response()
}

fn closes() -> Value {
    let entry = |code: &CloseCode| {
        let comeback = match code.comeback() {
            Comeback::No => "no",
            Comeback::WithNewToken => "token",
            Comeback::AfterBackoff => "pause",
            Comeback::Elsewhere => "elsewhere",
        };
        (code.code().to_string(), json!({ "name": code.name(), "comeback": comeback }))
    };
    Value::Object(CloseCode::ALL.iter().map(entry).collect())
}

/// Lets requests to this machine by one of its own names pass, and completes their answers.
async fn from_this_machine(request: Request, next: Next) -> Response {
    let Some(host) = loopback_host(request.headers()).map(str::to_owned) else { return misdirected() };
    secured(&host, next.run(request).await)
}

/// The authority that the client asked for, if it is this machine's loopback.
fn loopback_host(headers: &HeaderMap) -> Option<&str> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next()?.to_str().ok()?;
    (hosts.next().is_none() && is_loopback(host)).then_some(host)
}

/// `127.0.0.1:1234`, `[::1]:1234`, `localhost:1234`, each also without a port. Nothing else, so that what passes may stand in
/// a header.
fn is_loopback(host: &str) -> bool {
    if let Ok(address) = host.parse::<SocketAddr>() {
        return address.ip().is_loopback();
    }
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return ip.is_loopback();
    }
    let (name, port) = host.split_once(':').unwrap_or((host, "80"));
    name.eq_ignore_ascii_case("localhost") && port.parse::<u16>().is_ok()
}

/// What browsers say of a request's origin, where they say it: `Sec-Fetch-Site` (`none` is a person's own doing), `Origin`.
/// Programs that are no browser say nothing and are not kept out: `dev` is for a machine of one's own.
fn is_asked_by_the_page(headers: &HeaderMap, host: &str) -> bool {
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    let origin = headers.get(header::ORIGIN).map(HeaderValue::as_bytes);
    let own = format!("http://{host}");
    matches!(site, None | Some(b"same-origin" | b"none"))
        && origin.is_none_or(|asking| asking == own.as_bytes())
}

/// Headers under which the page can do what it does and nothing else.
fn secured(host: &str, mut response: Response) -> Response {
    const FIXED: [(HeaderName, &str); 4] = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' ws://{host}; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    );
    let headers = response.headers_mut();
    for (name, value) in FIXED {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(policy) = HeaderValue::try_from(policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

fn misdirected() -> Response {
    let why = "This page is for the machine that the node runs on: open it as http://127.0.0.1 or http://localhost, with the \
               node's port.\n";
    plain(StatusCode::MISDIRECTED_REQUEST, why)
}

fn plain(status: StatusCode, text: &'static str) -> Response {
    (status, typed("text/plain; charset=utf-8", text)).into_response()
}

fn typed(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::try_from(*value).unwrap())
        };
        let mut map = HeaderMap::new();
        for (name, value) in fields.iter().map(field) {
            map.append(name, value);
        }
        map
    }

    #[test]
    fn only_names_of_this_machine_are_loopback() {
        for own in [
            "127.0.0.1:1234",
            "127.0.0.1",
            "127.1.2.3:80",
            "[::1]:1234",
            "[::1]",
            "localhost:1234",
            "LOCALHOST",
        ] {
            assert!(is_loopback(own), "{own}");
        }
        for foreign in [
            "",
            ":1234",
            "localhost:",
            "localhost:99999",
            "localhost:1234; script-src *",
            "localhost.",
            "localhost.example:1234",
            "evil.example",
            "127.0.0.1.evil.example:1234",
            "127.0.0.1@evil.example",
            "192.0.2.1:1234",
            "0.0.0.0:1234",
            "[::]:1234",
            "2130706433",
        ] {
            assert!(!is_loopback(foreign), "{foreign}");
        }
        assert_eq!(loopback_host(&headers(&[("host", "localhost:1"), ("host", "evil.example")])), None);
        assert_eq!(loopback_host(&HeaderMap::new()), None);
    }

    #[test]
    fn the_page_is_for_clients_that_ask_for_html() {
        let wanted =
            |accept: &str| match page_or_health(&headers(&[("accept", accept), ("host", "localhost:1")])) {
                Wanted::Health => "health",
                Wanted::Page(_) => "page",
                Wanted::Elsewhere => "elsewhere",
            };
        for accept in ["text/html", "application/xhtml+xml, TEXT/HTML;q=0.9, */*", "text/html;level=1"] {
            assert_eq!(wanted(accept), "page", "{accept}");
        }
        for accept in ["*/*", "application/json", "text/*", "text/html5", ""] {
            assert_eq!(wanted(accept), "health", "{accept}");
        }
        let rebound = headers(&[("accept", "text/html"), ("host", "evil.example:1")]);
        assert!(matches!(page_or_health(&rebound), Wanted::Elsewhere));
        assert!(matches!(page_or_health(&headers(&[("host", "evil.example:1")])), Wanted::Health));
    }

    #[test]
    fn a_browser_gets_the_token_for_the_page_itself_and_no_other() {
        let host = "localhost:1234";
        for asking in [
            &[][..],
            &[("sec-fetch-site", "same-origin")],
            &[("sec-fetch-site", "none")],
            &[("sec-fetch-site", "same-origin"), ("origin", "http://localhost:1234")],
        ] {
            assert!(is_asked_by_the_page(&headers(asking), host), "{asking:?}");
        }
        for asking in [
            &[("sec-fetch-site", "cross-site")][..],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "something else")],
            &[("origin", "null")],
            &[("origin", "https://localhost:1234")],
            &[("origin", "http://localhost:12345")],
            &[("sec-fetch-site", "same-origin"), ("origin", "http://127.0.0.1:1234")],
        ] {
            assert!(!is_asked_by_the_page(&headers(asking), host), "{asking:?}");
        }
    }

    #[test]
    fn whatever_the_page_names_is_served() {
        for (file, _, text) in FILES.iter().copied().chain([("index.html", "", DOCUMENT)]) {
            let quoted = text.split(['"', '\'']).filter_map(|part| {
                part.strip_prefix("page/").or(part.strip_prefix("./")).filter(|name| name.contains('.'))
            });
            for name in quoted.filter(|name| *name != "node.json") {
                assert!(FILES.iter().any(|(known, ..)| *known == name), "{file} names {name}");
            }
        }
    }

    #[test]
    fn the_token_is_in_no_debug_output() {
        let page = Page { token: "secret".to_owned() };
        assert!(!format!("{page:?}").contains("secret"));
    }
}
