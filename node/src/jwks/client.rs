//! One request for a set of keys: everything about it is bounded, and nothing that answers is trusted further than TLS goes.

use std::error::Error;
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use pinwire_token::Jwks;
use rustls::{ClientConfig, RootCertStore};

use super::address::follow;
use super::{JwksSources, shown};

/// Sets are a few KiB; those of large providers with certificates in them some tens.
const BODY_BYTES_MAX: usize = 512 << 10;
const REDIRECTS_MAX: usize = 3;

/// What a URL answered.
#[derive(Debug)]
pub(crate) enum Answer {
    /// What it said last is still so (304).
    Unchanged {
        max_age: Option<Duration>,
    },
    Set(Fetched),
}

/// A set that was fetched.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) jwks: Jwks,
    pub(crate) text: String,
    pub(crate) etag: Option<String>,
    /// For how long the provider says that it holds.
    pub(crate) max_age: Option<Duration>,
}

/// Makes requests.
#[derive(Debug)]
pub(crate) struct Client {
    http: HttpClient<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    allow_http: bool,
    deadline: Duration,
}

impl Client {
    /// Trusts the authorities that the system trusts, and those of the configuration.
    ///
    /// # Errors
    /// There are none, and one is needed.
    pub(crate) fn new(sources: &JwksSources) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        let system = rustls_native_certs::load_native_certs();
        let (_, _) = roots.add_parsable_certificates(system.certs);
        let (_, _) = roots.add_parsable_certificates(sources.authorities.iter().cloned());
        if roots.is_empty() && sources.urls.iter().any(|url| url.scheme_str() == Some("https")) {
            return Err(io::Error::other(
                "this host trusts no certificate authority; install ca-certificates, or set tokens.jwks_ca_file",
            ));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        // Rounds are minutes apart: a connection kept for the next one would most often be closed by then. No proxy is looked for.
        let http = HttpClient::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Ok(Self { http, allow_http: sources.allow_http, deadline: sources.deadline })
    }

    /// Fetches a set, unless it is still the one with this tag.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub(crate) async fn fetch(&self, url: &Uri, etag: Option<&str>) -> Result<Answer, String> {
        match tokio::time::timeout(self.deadline, self.follow(url, etag)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no whole answer within {:?}", self.deadline)),
        }
    }

    async fn follow(&self, url: &Uri, etag: Option<&str>) -> Result<Answer, String> {
        let mut at = url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let mut request = Request::get(at.clone())
                .header(header::ACCEPT, "application/jwk-set+json, application/json")
                .header(header::USER_AGENT, concat!("pinwire-node/", env!("CARGO_PKG_VERSION")));
            if let Some(etag) = etag {
                request = request.header(header::IF_NONE_MATCH, etag);
            }
            let request = request.body(Empty::new()).map_err(|error| chain(&error))?;
            let response = self.http.request(request).await.map_err(|error| chain(&error))?;
            let status = response.status();
            match (status, text(response.headers(), &header::LOCATION)) {
                (StatusCode::OK, _) => return read(response.headers().clone(), response.into_body()).await,
                (StatusCode::NOT_MODIFIED, _) if etag.is_some() => {
                    return Ok(Answer::Unchanged { max_age: max_age(response.headers()) });
                }
                (
                    StatusCode::MOVED_PERMANENTLY
                    | StatusCode::FOUND
                    | StatusCode::SEE_OTHER
                    | StatusCode::TEMPORARY_REDIRECT
                    | StatusCode::PERMANENT_REDIRECT,
                    Some(location),
                ) => at = follow(&at, location, self.allow_http)?,
                _ => return Err(format!("{} answered {status}", shown(&at))),
            }
        }
        Err(format!("more than {REDIRECTS_MAX} redirects, the last to {}", shown(&at)))
    }
}

async fn read(headers: HeaderMap, body: Incoming) -> Result<Answer, String> {
    if let Some(encoding) =
        text(&headers, &header::CONTENT_ENCODING).filter(|encoding| *encoding != "identity")
    {
        return Err(format!("the answer is encoded ({encoding:.40}), which was not asked for"));
    }
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            format!("the answer has more than {} KiB", BODY_BYTES_MAX >> 10)
        } else {
            format!("the answer broke off: {}", chain(&*error))
        }
    })?;
    let body = body.to_bytes();
    let content = text(&headers, &header::CONTENT_TYPE).unwrap_or("of no type");
    let jwks = Jwks::parse_public(&body).map_err(|error| format!("{error} (the answer is {content:.60})"))?;
    Ok(Answer::Set(Fetched {
        jwks,
        text: String::from_utf8_lossy(&body).into_owned(),
        etag: text(&headers, &header::ETAG).map(str::to_owned),
        max_age: max_age(&headers),
    }))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// RFC 9111 5.2.2: for how long the answer is fresh. What must not be kept is fresh for no time.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let directives = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut age = None;
    for directive in directives.flat_map(|value| value.split(',')).map(str::trim) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match name.to_ascii_lowercase().as_str() {
            "no-store" | "no-cache" => return Some(Duration::ZERO),
            "max-age" => age = value.trim_matches('"').parse().ok().map(Duration::from_secs),
            _ => {}
        }
    }
    age
}

/// An error with all that caused it.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            let _ = write!(text, ": {cause_text}");
        }
        source = cause.source();
    }
    text
}
