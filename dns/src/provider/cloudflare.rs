//! Cloudflare, by its API v4. Each address is a record with an identity of its own; all of a change is one batch, which Cloudflare
//! carries out as a whole or not at all.

use crate::provider::http::{Http, USER_AGENT, shown};
use crate::provider::{Addresses, Change, Doing, Held, Provider};
use crate::{ProviderError, RegionName, Secret, SettingError};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, StatusCode};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::sync::OnceLock;
use std::time::Duration;

const ENDPOINT: &str = "https://api.cloudflare.com/client/v4";
/// The least that any plan takes.
const TTL_MIN_S: u32 = 30;
/// What stands for a TTL that Cloudflare chooses, and the one that it chooses.
const TTL_AUTOMATIC: u32 = 1;
const TTL_CHOSEN_S: u32 = 300;
/// Records asked for at once, and how often more are asked for.
const PAGE: usize = 100;
const PAGES_MAX: usize = 10;
/// A record that is to be removed is not there.
const NOT_FOUND: u32 = 81044;
/// A record that is to be added is there.
const IDENTICAL: u32 = 81058;

/// What Cloudflare needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloudflareSettings {
    /// An API token that may edit DNS of the zone (`Zone.DNS`, Edit); also `Zone.Zone`, Read if `zone_id` is not given.
    pub token: Secret,
    /// The zone's identity, as its overview shows it. Without it the zone is looked for by its name.
    pub zone_id: Option<String>,
    /// Another API than Cloudflare's own.
    pub endpoint: Option<String>,
    /// Bound of each request; a look is one request, a change two.
    pub timeout: Duration,
}

#[derive(Debug)]
pub(crate) struct Cloudflare {
    name: RegionName,
    http: Http,
    authorization: HeaderValue,
    zone_id: OnceLock<String>,
}

#[derive(Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
struct Answer<T> {
    success: bool,
    #[serde(default)]
    errors: Vec<Fault>,
    result: Option<T>,
}

#[derive(Deserialize)]
struct Fault {
    code: u32,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct Zone {
    id: String,
    name: String,
}

#[derive(Deserialize)]
struct Record {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    content: String,
    #[serde(default)]
    ttl: u32,
}

#[derive(Serialize)]
struct Batch<'a> {
    deletes: Vec<Deletion<'a>>,
    posts: Vec<Addition<'a>>,
}

#[derive(Serialize)]
struct Deletion<'a> {
    id: &'a str,
}

#[derive(Serialize)]
struct Addition<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    name: &'a str,
    content: String,
    ttl: u32,
    /// WebSockets would pass through Cloudflare, and the address would be theirs.
    proxied: bool,
}

impl Cloudflare {
    pub(crate) fn new(name: RegionName, settings: CloudflareSettings) -> Result<Self, SettingError> {
        if name.ttl_s() < TTL_MIN_S {
            let fault = format!("{} s is less than Cloudflare takes", name.ttl_s());
            return Err(SettingError::new("ttl", fault, "give 60 or more, or 30 with an Enterprise zone"));
        }
        let token = settings.token.expose();
        let mut authorization =
            HeaderValue::from_str(&format!("Bearer {token}")).ok().filter(|_| !token.is_empty()).ok_or_else(
                || SettingError::new("token", "is not an API token", "give it as Cloudflare shows it"),
            )?;
        authorization.set_sensitive(true);
        let http = Http::new(settings.endpoint.as_deref().unwrap_or(ENDPOINT), settings.timeout)?;
        let zone_id = OnceLock::new();
        if let Some(id) = settings.zone_id {
            if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                return Err(SettingError::new(
                    "zone_id",
                    format!("{id:?} is not one"),
                    "give the 32 hex digits",
                ));
            }
            let _ = zone_id.set(id);
        }
        Ok(Self { name, http, authorization, zone_id })
    }

    async fn held(&self) -> Result<Held, ProviderError> {
        let mut held = Held::default();
        for record in self.records().await? {
            if let Some(address) = address(&record) {
                held.note(address, ttl_s(&record), &self.name);
            }
        }
        Ok(held)
    }

    async fn records(&self) -> Result<Vec<Record>, ProviderError> {
        let zone = self.zone().await?;
        let mut records = Vec::new();
        for page in 1..=PAGES_MAX {
            let path = format!(
                "/zones/{zone}/dns_records?name={}&per_page={PAGE}&page={page}",
                self.name.name_text()
            );
            let more: Vec<Record> = self.ask(Method::GET, &path, Bytes::new()).await?;
            let is_last = more.len() < PAGE;
            records.extend(more);
            if is_last {
                return Ok(records);
            }
        }
        Err(self.http.failed(format!("{} has more than {} records", self.name, PAGE * PAGES_MAX), ""))
    }

    async fn update(&self, change: &Change) -> Result<(), ProviderError> {
        let records = self.records().await?;
        let has: Addresses = records.iter().filter_map(address).collect();
        if change.only_if.as_ref().is_some_and(|expected| *expected != has) {
            return Err(ProviderError::Changed);
        }
        if records.iter().any(|record| record.kind == "CNAME") {
            let fault = format!("{} is an alias (CNAME)", self.name);
            return Err(self.http.failed(fault, "remove the alias, or give another name"));
        }
        let is_slow = |record: &Record| {
            let is_added = |address: IpAddr| change.add.contains(&address);
            ttl_s(record) > self.name.ttl_s() && address(record).is_some_and(is_added)
        };
        // Their places are taken by others with the right TTL.
        let slow: Addresses = records.iter().filter(|record| is_slow(record)).filter_map(address).collect();
        let is_to_go = |record: &&Record| {
            address(record).is_some_and(|address| change.remove.contains(&address) || slow.contains(&address))
        };
        let name = self.name.name_text();
        let addition = |address: &IpAddr| Addition {
            kind: if address.is_ipv4() { "A" } else { "AAAA" },
            name: &name,
            content: address.to_string(),
            ttl: self.name.ttl_s(),
            proxied: false,
        };
        let batch = Batch {
            deletes: records.iter().filter(is_to_go).map(|record| Deletion { id: &record.id }).collect(),
            posts: change.add.difference(&(&has - &slow)).map(addition).collect(),
        };
        if batch.deletes.is_empty() && batch.posts.is_empty() {
            return Ok(());
        }
        let body = serde_json::to_vec(&batch).map_err(|error| self.http.failed(error.to_string(), ""))?;
        let path = format!("/zones/{}/dns_records/batch", self.zone().await?);
        let _: serde_json::Value = self.ask(Method::POST, &path, body.into()).await?;
        Ok(())
    }

    async fn zone(&self) -> Result<&str, ProviderError> {
        if let Some(id) = self.zone_id.get() {
            return Ok(id);
        }
        let zone = self.name.zone_text();
        let zones: Vec<Zone> = self.ask(Method::GET, &format!("/zones?name={zone}"), Bytes::new()).await?;
        let found = zones.into_iter().find(|candidate| candidate.name.eq_ignore_ascii_case(&zone));
        let Some(found) = found else {
            let mend = "let the token read the zone (Zone.Zone, Read), or give zone_id";
            return Err(self.http.failed(format!("shows no zone {zone}"), mend));
        };
        Ok(self.zone_id.get_or_init(|| found.id))
    }

    async fn ask<T>(&self, method: Method, path: &str, body: Bytes) -> Result<T, ProviderError>
    where
        T: for<'de> Deserialize<'de>,
    {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.http.endpoint()))
            .header(AUTHORIZATION, self.authorization.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(hyper::header::USER_AGENT, USER_AGENT)
            .body(Full::new(body))
            .map_err(|error| self.http.failed(error.to_string(), ""))?;
        let (status, body) = self.http.send(request).await?;
        let answer: Option<Answer<T>> = serde_json::from_slice(&body).ok();
        match answer {
            Some(Answer { success: true, result: Some(result), .. }) if status.is_success() => Ok(result),
            Some(answer) if !answer.errors.is_empty() => Err(self.refused(status, &answer.errors)),
            _ => Err(self.http.failed(format!("answered {status}: {}", shown(&body)), mend(status))),
        }
    }

    fn refused(&self, status: StatusCode, errors: &[Fault]) -> ProviderError {
        if errors.iter().all(|error| [NOT_FOUND, IDENTICAL].contains(&error.code)) {
            return ProviderError::Changed;
        }
        let texts: Vec<String> =
            errors.iter().map(|error| format!("{} ({})", error.message.trim(), error.code)).collect();
        self.http.failed(format!("answered {status}: {}", texts.join(", ")), mend(status))
    }
}

impl Provider for Cloudflare {
    fn read(&self) -> Doing<'_, Held> {
        Box::pin(self.held())
    }

    fn change(&self, change: Change) -> Doing<'_, ()> {
        Box::pin(async move { self.update(&change).await })
    }

    fn compares_exactly(&self) -> bool {
        false
    }

    fn place(&self) -> String {
        format!("Cloudflare ({})", self.http.endpoint())
    }
}

fn address(record: &Record) -> Option<IpAddr> {
    if matches!(record.kind.as_str(), "A" | "AAAA") { record.content.parse().ok() } else { None }
}

/// How long resolvers keep a record.
fn ttl_s(record: &Record) -> u32 {
    if record.ttl == TTL_AUTOMATIC { TTL_CHOSEN_S } else { record.ttl }
}

fn mend(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 | 401 | 403 => "is the token right, and may it edit DNS of the zone (Zone.DNS, Edit)?",
        404 => "is zone_id right?",
        429 => "too many requests are made with this account: look less often",
        _ => "",
    }
}
