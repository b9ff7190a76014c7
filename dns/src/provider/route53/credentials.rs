//! Who asks: keys from the settings, or those that Amazon gives a machine or a container for some hours.

use crate::provider::http::{Http, USER_AGENT, shown};
use crate::{ProviderError, Secret, SettingError};
use aws_credential_types::Credentials;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use serde::Deserialize;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::Mutex;

/// Where an instance is told about itself (IMDS).
const INSTANCE: &str = "http://169.254.169.254";
/// New ones are asked for so long before the end of those that there are.
const MARGIN: Duration = Duration::from_secs(300);
/// A token for three requests.
const TOKEN_TTL: &str = "60";

/// Where the keys for Amazon come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AwsCredentials {
    /// From the settings.
    Keys {
        /// `AKIA...`, or `ASIA...` with a session token.
        access_key_id: String,
        /// Its secret.
        secret_access_key: Secret,
        /// Of keys for a time.
        session_token: Option<Secret>,
    },
    /// The role of the instance that the node runs on (IMDSv2).
    Instance {
        /// Another place to ask than the usual one.
        endpoint: Option<String>,
    },
    /// The role of the container (ECS, EKS Pod Identity).
    Container {
        /// `AWS_CONTAINER_CREDENTIALS_FULL_URI`, or `http://169.254.170.2` with `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI`.
        uri: String,
        /// `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE`: read for each request, since it changes.
        token_file: Option<PathBuf>,
    },
}

/// Keys, as long as they last.
#[derive(Debug)]
pub(crate) struct Source {
    from: From,
    kept: Mutex<Option<Credentials>>,
}

#[derive(Debug)]
enum From {
    Settings,
    Instance(Http),
    Container(Http, Option<PathBuf>),
}

/// What instances and containers are given.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Given {
    access_key_id: String,
    secret_access_key: String,
    token: String,
    expiration: String,
}

impl Source {
    pub(crate) fn new(settings: AwsCredentials, timeout: Duration) -> Result<Self, SettingError> {
        let (from, kept) = match settings {
            AwsCredentials::Keys { access_key_id, secret_access_key, session_token } => {
                if access_key_id.is_empty() || secret_access_key.expose().is_empty() {
                    return Err(SettingError::new("access_key_id", "or its secret is empty", "give both"));
                }
                let token = session_token.map(|token| token.expose().to_owned());
                let keys =
                    Credentials::new(access_key_id, secret_access_key.expose(), token, None, "settings");
                (From::Settings, Some(keys))
            }
            AwsCredentials::Instance { endpoint } => {
                (From::Instance(Http::new(endpoint.as_deref().unwrap_or(INSTANCE), timeout)?), None)
            }
            AwsCredentials::Container { uri, token_file } => {
                (From::Container(Http::new(&uri, timeout)?, token_file), None)
            }
        };
        Ok(Self { from, kept: Mutex::new(kept) })
    }

    pub(crate) async fn credentials(&self) -> Result<Credentials, ProviderError> {
        let mut kept = self.kept.lock().await;
        let lasts = |keys: &Credentials| keys.expiry().is_none_or(|end| end > SystemTime::now() + MARGIN);
        if let Some(keys) = kept.as_ref().filter(|keys| lasts(keys)) {
            return Ok(keys.clone());
        }
        let given = match &self.from {
            From::Settings => None,
            From::Instance(http) => Some(of_instance(http).await?),
            From::Container(http, token_file) => Some(of_container(http, token_file.as_ref()).await?),
        };
        // Those of the settings never end.
        let keys = given.or_else(|| kept.clone());
        kept.clone_from(&keys);
        keys.ok_or_else(|| ProviderError::failed("settings", "no keys", ""))
    }

    /// Amazon does not take them any more.
    pub(crate) async fn forget(&self) {
        if !matches!(self.from, From::Settings) {
            *self.kept.lock().await = None;
        }
    }
}

async fn of_instance(http: &Http) -> Result<Credentials, ProviderError> {
    let no_role = "give the instance a role, or give keys; in a container, the hop limit of IMDS has to be 2";
    let ttl = ("x-aws-ec2-metadata-token-ttl-seconds", TOKEN_TTL);
    let token = ask(http, Method::PUT, "/latest/api/token", Some(ttl), no_role).await?;
    let token = Some(("x-aws-ec2-metadata-token", token.trim()));
    let roles = "/latest/meta-data/iam/security-credentials/";
    let role = ask(http, Method::GET, roles, token, no_role).await?;
    let role = role.lines().next().unwrap_or_default().trim();
    let keys = ask(http, Method::GET, &format!("{roles}{role}"), token, no_role).await?;
    read(http, &keys)
}

async fn of_container(http: &Http, token_file: Option<&PathBuf>) -> Result<Credentials, ProviderError> {
    let token = token_file.map(|file| {
        std::fs::read_to_string(file).map_err(|error| {
            ProviderError::failed(file.display().to_string(), error.to_string(), "is it the right file?")
        })
    });
    let token = token.transpose()?;
    let token = token.as_ref().map(|token| ("authorization", token.trim()));
    let keys = ask(http, Method::GET, "", token, "does the container have a role?").await?;
    read(http, &keys)
}

async fn ask(
    http: &Http,
    method: Method,
    path: &str,
    header: Option<(&str, &str)>,
    mend: &str,
) -> Result<String, ProviderError> {
    let request = Request::builder().method(method).uri(format!("{}{path}", http.endpoint()));
    let request = request.header("user-agent", USER_AGENT);
    let request = match header {
        Some((name, value)) => request.header(name, value),
        None => request,
    };
    let request =
        request.body(Full::new(Bytes::new())).map_err(|error| http.failed(error.to_string(), ""))?;
    let (status, body) = http.send(request).await?;
    if status != StatusCode::OK {
        return Err(http.failed(format!("gives no keys: it answered {status}: {}", shown(&body)), mend));
    }
    Ok(String::from_utf8_lossy(&body).into_owned())
}

fn read(http: &Http, text: &str) -> Result<Credentials, ProviderError> {
    // What it says is not shown: it may be keys.
    let given: Given =
        serde_json::from_str(text).map_err(|_| http.failed("gives something that is no keys", ""))?;
    let end = OffsetDateTime::parse(&given.expiration, &Rfc3339)
        .map_err(|error| http.failed(format!("says no end of its keys: {error}"), ""))?;
    Ok(Credentials::new(
        given.access_key_id,
        given.secret_access_key,
        Some(given.token),
        Some(end.into()),
        "role",
    ))
}
