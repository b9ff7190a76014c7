//! One request for a set of keys: everything about it is bounded, and nothing that answers is trusted further than TLS goes.

use std::io;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Incoming;
use pinwire_token::Jwks;

use super::address::follow;
use super::{JwksSources, shown};
use crate::https::{self, chain, text};

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
    http: https::Client<Empty<Bytes>>,
    allow_http: bool,
    deadline: Duration,
}

impl Client {
    /// Trusts the authorities that the system trusts, and those of the configuration.
    ///
    /// # Errors
    /// There are none, and one is needed.
    pub(crate) fn new(sources: &JwksSources) -> io::Result<Self> {
        let is_https = sources.urls.iter().any(|url| url.scheme_str() == Some("https"));
        // Rounds are minutes apart: a connection kept for the next one would most often be closed by then.
        let http = https::client(&sources.authorities, is_https.then_some("tokens.jwks_urls"), 0)?;
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
                .header(header::USER_AGENT, https::USER_AGENT);
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
