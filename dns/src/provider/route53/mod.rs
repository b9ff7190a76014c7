//! Amazon Route 53. All addresses of a family are one record set, so a change takes the old set out and puts a new one in, both in
//! one batch: it fails as a whole if somebody else changed the set meanwhile.
//!
//! | module | concern |
//! | --- | --- |
//! | `xml` | what is sent and answered |
//! | `credentials` | who asks: keys, or the role of the machine |
//! | `sign` | requests, signed (Signature Version 4) |

mod credentials;
mod sign;
mod xml;

pub use credentials::AwsCredentials;

use crate::provider::http::{Http, shown};
use crate::provider::{Addresses, Change, Doing, Held, Provider};
use crate::{ProviderError, RegionName, SettingError};
use credentials::Source;
use hyper::{Method, StatusCode};
use std::net::IpAddr;
use std::time::Duration;
use xml::{Fault, RecordSet};

const ENDPOINT: &str = "https://route53.amazonaws.com";
const REGION: &str = "us-east-1";
/// Values in one record set, and sets listed at once: those of the name come first.
const VALUES_MAX: usize = 400;
const LISTED: usize = 20;

/// What Route 53 needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route53Settings {
    /// Who asks.
    pub credentials: AwsCredentials,
    /// `Z...`, as the console shows it. A name may have a public and a private zone, so it is not looked for by name.
    pub hosted_zone_id: String,
    /// The region that requests are signed for: `us-east-1`, and others in China and for governments.
    pub region: Option<String>,
    /// Another API than Amazon's own, as in China and for governments.
    pub endpoint: Option<String>,
    /// Bound of each request; a look is one request, a change two.
    pub timeout: Duration,
}

#[derive(Debug)]
pub(crate) struct Route53 {
    name: RegionName,
    http: Http,
    credentials: Source,
    /// That requests are signed for.
    region: String,
    zone_id: String,
}

impl Route53 {
    pub(crate) fn new(name: RegionName, settings: Route53Settings) -> Result<Self, SettingError> {
        let zone_id = settings.hosted_zone_id.trim_start_matches("/hostedzone/").to_owned();
        if zone_id.is_empty() || !zone_id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            let fault = format!("{:?} is not one", settings.hosted_zone_id);
            return Err(SettingError::new(
                "hosted_zone_id",
                fault,
                "give it as the console shows it, such as Z0123",
            ));
        }
        let http = Http::new(settings.endpoint.as_deref().unwrap_or(ENDPOINT), settings.timeout)?;
        let credentials = Source::new(settings.credentials, settings.timeout)?;
        let region = settings.region.unwrap_or_else(|| REGION.to_owned());
        Ok(Self { name, http, credentials, region, zone_id })
    }

    async fn held(&self) -> Result<Held, ProviderError> {
        let mut held = Held::default();
        for set in self.sets().await? {
            set.addresses().for_each(|address| held.note(address, set.ttl_s, &self.name));
        }
        Ok(held)
    }

    /// The name's sets of both families.
    async fn sets(&self) -> Result<Vec<RecordSet>, ProviderError> {
        let path = format!(
            "/2013-04-01/hostedzone/{}/rrset?maxitems={LISTED}&name={}.&type=A",
            self.zone_id,
            self.name.name_text()
        );
        let body = self.ask(Method::GET, &path, String::new()).await?;
        let sets =
            xml::sets(&body).map_err(|error| self.http.failed(format!("sent rubbish: {error}"), ""))?;
        let mut own = Vec::new();
        for set in sets.into_iter().filter(|set| set.is_of(&self.name)) {
            if set.kind == "CNAME" || set.is_routed() {
                let fault = format!("{} is an alias, or has a routing policy", self.name);
                return Err(self.http.failed(fault, "remove that record set, or give another name"));
            }
            if ["A", "AAAA"].contains(&set.kind.as_str()) {
                own.push(set);
            }
        }
        Ok(own)
    }

    async fn update(&self, change: &Change) -> Result<(), ProviderError> {
        let sets = self.sets().await?;
        let has: Addresses = sets.iter().flat_map(RecordSet::addresses).collect();
        if change.only_if.as_ref().is_some_and(|expected| *expected != has) {
            return Err(ProviderError::Changed);
        }
        let wanted: Addresses = (&has - &change.remove).union(&change.add).copied().collect();
        let mut changes = String::new();
        for (kind, is_v4) in [("A", true), ("AAAA", false)] {
            let of_kind = |addresses: &Addresses| -> Vec<IpAddr> {
                addresses.iter().filter(|address| address.is_ipv4() == is_v4).copied().collect()
            };
            let (old, new) = (sets.iter().find(|set| set.kind == kind), of_kind(&wanted));
            // Somebody gave the whole set a longer TTL.
            let is_slow = old.is_some_and(|old| {
                old.ttl_s > self.name.ttl_s() && old.addresses().any(|address| change.add.contains(&address))
            });
            if of_kind(&has) == new && !is_slow {
                continue;
            }
            if new.len() > VALUES_MAX {
                return Err(self.http.failed(format!("a record set has at most {VALUES_MAX} addresses"), ""));
            }
            if let Some(old) = old {
                changes.push_str(&xml::deletion(&self.name, old));
            }
            if !new.is_empty() {
                changes.push_str(&xml::creation(&self.name, kind, &new));
            }
        }
        if changes.is_empty() {
            return Ok(());
        }
        let path = format!("/2013-04-01/hostedzone/{}/rrset/", self.zone_id);
        self.ask(Method::POST, &path, xml::batch(&changes)).await?;
        Ok(())
    }

    async fn ask(&self, method: Method, path: &str, body: String) -> Result<String, ProviderError> {
        let url = format!("{}{path}", self.http.endpoint());
        let credentials = self.credentials.credentials().await?;
        let request = sign::request(credentials, &self.region, method, &url, body)
            .map_err(|error| self.http.failed(error, ""))?;
        let (status, body) = self.http.send(request).await?;
        let text = String::from_utf8_lossy(&body).into_owned();
        if status.is_success() {
            return Ok(text);
        }
        let Some(fault) = xml::fault(&text) else {
            return Err(self.http.failed(format!("answered {status}: {}", shown(&body)), ""));
        };
        if ["ExpiredToken", "InvalidClientTokenId", "UnrecognizedClientException"]
            .contains(&fault.code.as_str())
        {
            self.credentials.forget().await;
        }
        Err(self.refused(status, &fault))
    }

    fn refused(&self, status: StatusCode, fault: &Fault) -> ProviderError {
        if fault.is_conflict() {
            return ProviderError::Changed;
        }
        let mend = match fault.code.as_str() {
            "SignatureDoesNotMatch" => "is the secret right, and the clock?",
            "InvalidClientTokenId" | "UnrecognizedClientException" => {
                "is the access key right, and still valid?"
            }
            "ExpiredToken" => "the session token is too old: give credentials that last",
            "AccessDenied" => {
                "allow route53:ListResourceRecordSets and route53:ChangeResourceRecordSets for the hosted zone"
            }
            "NoSuchHostedZone" => "is hosted_zone_id right?",
            "Throttling" | "ThrottlingException" | "PriorRequestNotComplete" => {
                "too many requests are made with this account: look less often"
            }
            _ => "",
        };
        self.http.failed(format!("answered {status}: {}: {}", fault.code, fault.message.trim()), mend)
    }
}

impl Provider for Route53 {
    fn read(&self) -> Doing<'_, Held> {
        Box::pin(self.held())
    }

    fn change(&self, change: Change) -> Doing<'_, ()> {
        Box::pin(async move { self.update(&change).await })
    }

    fn compares_exactly(&self) -> bool {
        true
    }

    fn place(&self) -> String {
        format!("Route 53 ({})", self.http.endpoint())
    }
}
