//! Who asks: the client's address, its token, its page.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use pinwire_token::origin::{origin_allowed, origin_of_domain};
use pinwire_token::{Claims, Limits, Rejection, read_unverified, verify};

use super::Services;
use super::problem::Problem;
use crate::apps::{Found, Record};
use crate::data::{app_name, may_be_of_a_record};
use crate::jwks::Outcome;
use crate::limits::{AddressLimiter, Asking, client_address};

/// The other end of the connection a request came on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Whose token is good.
#[derive(Debug)]
pub(crate) struct Bearer {
    pub(crate) claims: Claims,
    /// What the license region says of its app.
    pub(crate) record: Option<Arc<Record>>,
}

impl Bearer {
    /// The app's limits: by its token, else its record, else the configuration.
    pub(crate) fn limits(&self, services: &Services) -> Limits {
        let defaults = services.live.trust().policy.default_limits;
        let recorded = self.record.as_ref().map_or(defaults, |record| record.limits.or(defaults));
        self.claims.own_limits.or(recorded)
    }
}

/// One request's sender.
#[derive(Debug)]
pub(crate) struct Caller {
    peer: Option<Peer>,
    headers: HeaderMap,
    query: Vec<(String, String)>,
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        // Decoding is lossy rather than strict, so this fails for no query that has a parameter to find.
        let query = axum::extract::Query::from_request_parts(parts, state).await;
        Ok(Self {
            peer: parts.extensions.get::<Peer>().copied(),
            headers: parts.headers.clone(),
            query: query.map(|query| query.0).unwrap_or_default(),
        })
    }
}

impl Caller {
    /// The value of a query parameter that may stand once.
    pub(crate) fn parameter(&self, name: &'static str) -> Result<Option<&str>, Problem> {
        let mut values = self.query.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str());
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(Problem::parameter(name, "stands more than once")),
            (value, None) => Ok(value),
        }
    }

    /// The page that asks, where a browser says so.
    pub(crate) fn origin(&self) -> Option<&str> {
        // What is no text is an origin all the same, and none that a token could allow.
        self.headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or("null"))
    }

    /// Lets the client's address and token pass.
    pub(crate) async fn identify(&self, services: &Services, asking: Asking) -> Result<Bearer, Problem> {
        if let Some(client) = self.address(services) {
            let admit = |limiter: &AddressLimiter| limiter.admit(client, asking, Instant::now());
            services.live.with_limiter(admit).transpose()?;
        }
        let token = self.token()?.ok_or(Problem::MissingToken)?;
        let judge = || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            let trust = services.live.trust();
            verify(&trust.keys, &trust.policy, token, now)
        };
        let refetch = services.live.refetch();
        let (mut waiting, mut place) = (None, None);
        loop {
            let rejection = match judge() {
                Ok(claims) => {
                    let record = record(services, &claims).await?;
                    return Ok(Bearer { claims, record });
                }
                Err(rejection) if may_be_of_a_record(&rejection) => {
                    match by_record(services, token, rejection).await {
                        Ok(bearer) => return Ok(bearer),
                        Err(rejection @ Rejection::UnknownKey { .. }) => rejection,
                        Err(rejection) => return Err(rejection.into()),
                    }
                }
                Err(rejection) => return Err(rejection.into()),
            };
            // Keys that came between the two judgements were published before the round ended.
            let asked = match waiting {
                Some((_, Outcome::Complete)) => return Err(rejection.into()),
                Some((_, Outcome::Unsure)) => return Err(Problem::Unavailable),
                Some((asked, Outcome::Waits)) => asked,
                None => refetch.ask(Instant::now()).ok_or(rejection)?,
            };
            if place.is_none() {
                place = Some(refetch.place().ok_or(Problem::Unavailable)?);
            }
            waiting = Some((asked, refetch.changed(&asked).await));
        }
    }

    /// Completes an answer for the bearer of `claims`: pages of the domains that the token names may read it.
    pub(crate) fn answer(&self, claims: &Claims, result: Result<Response, Problem>) -> Response {
        let mut response = result.unwrap_or_else(IntoResponse::into_response);
        if claims.allowed_domains.is_empty() {
            return response;
        }
        let asking = self.origin().filter(|origin| origin_allowed(origin, &claims.allowed_domains));
        let allowed = asking.map(str::to_owned).or_else(|| origin_of_domain(claims.allowed_domains.first()?));
        let value = allowed.and_then(|origin| HeaderValue::try_from(origin).ok());
        let headers = response.headers_mut();
        headers
            .insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, value.unwrap_or(HeaderValue::from_static("null")));
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        response
    }

    fn address(&self, services: &Services) -> Option<IpAddr> {
        let forwarded = self.headers.get_all("x-forwarded-for").iter();
        // An entry that is no text is no address either.
        let forwarded = forwarded.map(|value| value.to_str().unwrap_or(""));
        self.peer.map(|peer| client_address(peer.0, forwarded, &services.trusted_proxies))
    }

    /// Header first, then query.
    fn token(&self) -> Result<Option<&str>, Problem> {
        let header = self.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer = header
            .and_then(|value| value.split_once(' '))
            .and_then(|(scheme, token)| scheme.eq_ignore_ascii_case("Bearer").then_some(token.trim()));
        let token = match bearer {
            Some(token) => Some(token),
            None => self.parameter("token")?.or(self.parameter("access_token")?),
        };
        Ok(token.filter(|token| !token.is_empty()))
    }
}

/// The record of a token's app.
async fn record(services: &Services, claims: &Claims) -> Result<Option<Arc<Record>>, Problem> {
    let Some(license) = services.cluster.license(claims.db_code.as_deref()) else { return Ok(None) };
    match services.records.known(license, &app_name(claims)).await {
        Found::Known(record) => Ok(record),
        Found::Asked | Found::Away => Err(Problem::Unavailable),
    }
}

/// Judges a token that `before` says was not signed with a key that all know, by the keys of its app's record.
async fn by_record(services: &Services, token: &str, before: Rejection) -> Result<Bearer, Rejection> {
    let policy = services.live.trust().policy.clone();
    // Nothing is granted by this: it names the record whose keys decide.
    let Ok(said) = read_unverified(token, &policy) else { return Err(before) };
    let Ok(Some(record)) = record(services, &said).await else { return Err(before) };
    if record.keys.is_empty() {
        return Err(before);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    match verify(&record.keys, &policy, token, now) {
        Ok(claims) => Ok(Bearer { claims, record: Some(record) }),
        Err(Rejection::UnknownKey { .. }) => Err(before),
        Err(other) => Err(other),
    }
}
