//! A server that takes dynamic updates (RFC 2136), signed with a shared key (TSIG, RFC 8945): BIND, Knot, PowerDNS, Windows.
//!
//! | module | concern |
//! | --- | --- |
//! | `message` | what is sent: questions, and updates with what has to hold for them |
//! | `exchange` | one message over TCP and its answer, signed and verified |

mod exchange;
mod message;

use crate::provider::{Change, Doing, Held, Provider};
use crate::{ProviderError, RegionName, Secret, SettingError};
use base64::Engine as _;
use exchange::Exchange;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::tsig::TsigAlgorithm as Algorithm;
use hickory_proto::rr::{RData, RecordType, TSigner};
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::timeout;

/// How far the clocks of node and server may be apart (RFC 8945, section 10, recommends this).
const FUDGE_S: u16 = 300;
/// Shorter keys are guessed sooner than the hash is broken (RFC 8945, section 8).
const KEY_MIN_BYTES: usize = 16;

/// How updates are signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TsigAlgorithm {
    /// `hmac-sha256`, which every server knows.
    #[default]
    HmacSha256,
    /// `hmac-sha384`.
    HmacSha384,
    /// `hmac-sha512`.
    HmacSha512,
}

/// A key that node and server share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TsigKey {
    /// Its name, the same as at the server.
    pub name: String,
    /// The secret in base64, as `tsig-keygen` and `keymgr` print it.
    pub secret: Secret,
    /// The algorithm, the same as at the server.
    pub algorithm: TsigAlgorithm,
}

/// What a server with dynamic updates needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rfc2136Settings {
    /// The zone's primary, as `host:port`. It is asked over TCP. A host with several addresses is tried at each.
    pub server: String,
    /// Signs. Without it the server has to know the nodes by their addresses, as Windows does with insecure updates.
    pub key: Option<TsigKey>,
    /// Bound of one look or change, connecting included.
    pub timeout: Duration,
}

#[derive(Debug)]
pub(crate) struct Rfc2136 {
    name: RegionName,
    server: String,
    signer: Option<Signer>,
    timeout: Duration,
}

/// Shows nothing of the key.
pub(crate) struct Signer(TSigner);

impl std::fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "key {}", self.0.signer_name())
    }
}

impl Rfc2136 {
    pub(crate) fn new(name: RegionName, settings: Rfc2136Settings) -> Result<Self, SettingError> {
        let has_port = settings
            .server
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0));
        if !has_port {
            return Err(SettingError::new(
                "server",
                format!("{:?} has no port", settings.server),
                "give host:port, such as ns1.example.net:53 or [2001:db8::53]:53",
            ));
        }
        let signer = settings.key.as_ref().map(signer).transpose()?;
        Ok(Self { name, server: settings.server, signer, timeout: settings.timeout })
    }

    async fn held(&self) -> Result<Held, ProviderError> {
        let mut exchange = Exchange::connect(&self.name, &self.server, self.signer.as_ref()).await?;
        let mut held = Held::default();
        for kind in [RecordType::A, RecordType::AAAA] {
            let answer = exchange.ask(message::question(&self.name, kind)).await?;
            self.take_addresses(&answer, &mut held)?;
        }
        Ok(held)
    }

    fn take_addresses(&self, answer: &Message, held: &mut Held) -> Result<(), ProviderError> {
        match answer.metadata.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain => {}
            code => return Err(self.refused(code)),
        }
        if !answer.metadata.authoritative {
            let fault = format!("does not answer for the zone {} itself", self.name.zone_text());
            return Err(self.failed(fault, "name the zone's primary server as server, not a resolver"));
        }
        for record in answer.answers.iter().filter(|record| record.name == *self.name.name()) {
            match &record.data {
                RData::A(address) => held.note(IpAddr::V4(address.0), record.ttl, &self.name),
                RData::AAAA(address) => held.note(IpAddr::V6(address.0), record.ttl, &self.name),
                RData::CNAME(_) => {
                    let fault = format!("{} is an alias (CNAME)", self.name);
                    return Err(self.failed(fault, "remove the alias, or give another name"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn update(&self, change: &Change) -> Result<(), ProviderError> {
        let mut exchange = Exchange::connect(&self.name, &self.server, self.signer.as_ref()).await?;
        let answer = exchange.ask(message::update(&self.name, change)).await?;
        match answer.metadata.response_code {
            ResponseCode::NoError => Ok(()),
            ResponseCode::NXRRSet
            | ResponseCode::YXRRSet
            | ResponseCode::NXDomain
            | ResponseCode::YXDomain => Err(ProviderError::Changed),
            code => Err(self.refused(code)),
        }
    }

    fn refused(&self, code: ResponseCode) -> ProviderError {
        let zone = self.name.zone_text();
        let mend = match code {
            ResponseCode::Refused => {
                let by = match &self.signer {
                    Some(signer) => format!("the key {}", signer.0.signer_name()),
                    None => "this node, which signs nothing since no key is set,".to_owned(),
                };
                format!("allow {by} to change A and AAAA of {} there", self.name)
            }
            ResponseCode::NotAuth => format!("the server has no zone {zone}, or is not its primary"),
            ResponseCode::NotZone => format!("{} is not in the server's zone {zone}", self.name),
            ResponseCode::NotImp => "the server takes no dynamic updates: allow them for the zone".to_owned(),
            ResponseCode::ServFail => {
                "the server's log says why; often it cannot write the zone's file or journal".to_owned()
            }
            _ => "the server's log says why".to_owned(),
        };
        self.failed(format!("answered {code:?} ({code})"), mend)
    }

    fn failed(&self, fault: impl Into<String>, mend: impl Into<String>) -> ProviderError {
        ProviderError::failed(self.place(), fault, mend)
    }

    async fn bounded<T>(
        &self,
        doing: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<T, ProviderError> {
        timeout(self.timeout, doing).await.unwrap_or_else(|_| {
            Err(self
                .failed(format!("no answer within {:?}", self.timeout), "is it reached over TCP from here?"))
        })
    }
}

impl Provider for Rfc2136 {
    fn read(&self) -> Doing<'_, Held> {
        Box::pin(self.bounded(self.held()))
    }

    fn change(&self, change: Change) -> Doing<'_, ()> {
        Box::pin(async move { self.bounded(self.update(&change)).await })
    }

    fn compares_exactly(&self) -> bool {
        true
    }

    fn place(&self) -> String {
        format!("DNS server {}", self.server)
    }
}

fn signer(key: &TsigKey) -> Result<Signer, SettingError> {
    let name = crate::name::host_name("key.name", &key.name)?;
    let secret =
        base64::engine::general_purpose::STANDARD.decode(key.secret.expose().trim()).map_err(|_| {
            SettingError::new(
                "key.secret",
                "is not base64",
                "take the secret as tsig-keygen or keymgr prints it",
            )
        })?;
    if secret.len() < KEY_MIN_BYTES {
        return Err(SettingError::new(
            "key.secret",
            format!("has {} bytes, fewer than {KEY_MIN_BYTES}", secret.len()),
            "make a new one with tsig-keygen",
        ));
    }
    let algorithm = match key.algorithm {
        TsigAlgorithm::HmacSha256 => Algorithm::HmacSha256,
        TsigAlgorithm::HmacSha384 => Algorithm::HmacSha384,
        TsigAlgorithm::HmacSha512 => Algorithm::HmacSha512,
    };
    let signer = TSigner::new(secret, algorithm, name, FUDGE_S)
        .map_err(|error| SettingError::new("key.algorithm", error.to_string(), "give another algorithm"))?;
    Ok(Signer(signer))
}

#[cfg(test)]
mod tests {
    use super::{Rfc2136, Rfc2136Settings, TsigAlgorithm, TsigKey};
    use crate::{RegionName, Secret};
    use std::time::Duration;

    fn settings(server: &str, name: &str, secret: &str) -> Rfc2136Settings {
        let key = TsigKey {
            name: name.to_owned(),
            secret: Secret::new(secret),
            algorithm: TsigAlgorithm::HmacSha256,
        };
        Rfc2136Settings { server: server.to_owned(), key: Some(key), timeout: Duration::from_secs(1) }
    }

    #[test]
    fn settings_that_cannot_be_used_are_named() {
        let good = "c2VjcmV0c2VjcmV0c2VjcmV0";
        for (server, name, secret, place) in [
            ("ns1.example.net", "node", good, "server"),
            (":53", "node", good, "server"),
            ("ns1:0", "node", good, "server"),
            ("ns1:53", "no de", good, "key.name"),
            ("ns1:53", "node", "n!", "key.secret"),
            ("ns1:53", "node", "c2hvcnQ=", "key.secret"),
        ] {
            let region = RegionName::new("eu.example.net", "example.net", 30).unwrap();
            let error = Rfc2136::new(region, settings(server, name, secret)).unwrap_err();
            assert_eq!(error.setting, place);
            assert!(!error.to_string().contains(good));
        }
    }

    #[test]
    fn nothing_shows_the_key() {
        let region = RegionName::new("eu.example.net", "example.net", 30).unwrap();
        let settings = settings("ns1:53", "node", "c2VjcmV0c2VjcmV0c2VjcmV0");
        let shown = format!("{settings:?} {:?}", Rfc2136::new(region, settings.clone()).unwrap());
        assert!(!shown.contains("c2Vj") && !shown.contains("secretsecret"), "{shown}");
    }
}
