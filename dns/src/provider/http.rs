//! The client that services are asked with: HTTPS by the authorities that the system trusts, each answer bounded in size and time.

use crate::{ProviderError, SettingError};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, Uri};
use pinwire_https::{Client, NoClient, Trust, chain, client};
use std::sync::OnceLock;
use std::time::Duration;
use tokio::time::timeout;

/// Larger answers are none to what is asked here.
const ANSWER_MAX_BYTES: usize = 1024 * 1024;
/// Connections that are kept between two requests.
const IDLE_PER_HOST: usize = 1;
/// As much of an answer as an error shows.
const SHOWN_MAX_BYTES: usize = 500;
/// This host itself, and where Amazon's machines and containers are told about themselves.
const IN_THE_CLEAR: [&str; 8] = [
    "127.0.0.1",
    "[::1]",
    "localhost",
    "169.254.169.254",
    "[fd00:ec2::254]",
    "169.254.170.2",
    "169.254.170.23",
    "[fd00:ec2::23]",
];
/// Who asks.
pub(crate) const USER_AGENT: &str = concat!("pinwire-dns/", env!("CARGO_PKG_VERSION"));

type Connection = Client<Full<Bytes>>;

#[derive(Debug)]
pub(crate) struct Http {
    /// Where the service is, without a slash at the end.
    endpoint: String,
    /// Made when it is needed first: the system's authorities are a large file.
    client: OnceLock<Connection>,
    timeout: Duration,
}

impl Http {
    /// `endpoint` is `https://host[:port][/path]`; `http` only to this host itself, and to what its machine tells it, since
    /// requests carry secrets.
    pub(crate) fn new(endpoint: &str, timeout: Duration) -> Result<Self, SettingError> {
        let fault = |what: &str| {
            SettingError::new("endpoint", format!("{endpoint:?} {what}"), "give an https:// URL")
        };
        let uri: Uri = endpoint.parse().map_err(|_| fault("is not a URL"))?;
        let host = uri.host().unwrap_or_default();
        match uri.scheme_str() {
            Some("https") if !host.is_empty() => {}
            Some("http") if IN_THE_CLEAR.contains(&host) => {}
            Some("http") => return Err(fault("would carry the secret in the clear")),
            _ => return Err(fault("is not a URL")),
        }
        if uri.query().is_some() || uri.authority().is_some_and(|authority| authority.as_str().contains('@'))
        {
            return Err(fault("has a query or a user"));
        }
        Ok(Self { endpoint: endpoint.trim_end_matches('/').to_owned(), client: OnceLock::new(), timeout })
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Status and body of the answer.
    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), ProviderError> {
        let asking = async {
            let client =
                self.client().map_err(|fault| self.failed(fault.to_string(), "install ca-certificates"))?;
            let answer = client
                .request(request)
                .await
                .map_err(|error| self.failed(chain(&error), "is it reached from here, over HTTPS?"))?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_MAX_BYTES)
                .collect()
                .await
                .map_err(|error| self.failed(format!("the answer broke off: {error}"), ""))?;
            Ok((status, body.to_bytes()))
        };
        timeout(self.timeout, asking)
            .await
            .unwrap_or_else(|_| Err(self.failed(format!("no answer within {:?}", self.timeout), "")))
    }

    pub(crate) fn failed(&self, fault: impl Into<String>, mend: impl Into<String>) -> ProviderError {
        ProviderError::failed(self.endpoint.clone(), fault, mend)
    }

    fn client(&self) -> Result<&Connection, NoClient> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let trust = if self.endpoint.starts_with("https") { Trust::System(&[]) } else { Trust::Only(&[]) };
        let client = client(trust, IDLE_PER_HOST)?;
        Ok(self.client.get_or_init(|| client))
    }
}

/// The beginning of an answer, on one line.
pub(crate) fn shown(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(SHOWN_MAX_BYTES)]);
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.is_empty() { "nothing".to_owned() } else { words.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::Http;
    use std::time::Duration;

    #[test]
    fn an_endpoint_in_the_clear_is_this_host_alone() {
        for (endpoint, is_fine) in [
            ("https://api.example.net/v4", true),
            ("http://127.0.0.1:8080", true),
            ("http://169.254.169.254", true),
            ("http://api.example.net", false),
            ("http://127.0.0.1.example.net", false),
            ("ftp://127.0.0.1", false),
            ("https://user:secret@example.net", false),
            ("https://example.net/?a=b", false),
            ("", false),
        ] {
            assert_eq!(Http::new(endpoint, Duration::from_secs(1)).is_ok(), is_fine, "{endpoint}");
        }
    }
}
