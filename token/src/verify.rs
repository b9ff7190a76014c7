//! Is this token good? Signature by a key that is for this tenant and this algorithm, then time, audience and scope.
//!
//! Nothing in a token decides how it is checked: `alg` must equal the key's own, `kid` only picks among the keys that
//! may speak for the tenant, and `jku`, `jwk`, `x5u` and `x5c` are not read (RFC 8725).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::access::Access;
use crate::claims::{Claims, Limits, RawClaims, Text, is_valid_id};
use crate::keys::{Algorithm, Key, KeySet};
use crate::pattern::DocumentPatterns;

/// Longer tokens are refused unread.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Keys tried for a token that does not say which one signed it.
const MAX_KEYS_TRIED: usize = 8;

/// What a token must say besides being signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// `aud` must be or contain it; `None` takes any.
    pub audience: Option<String>,
    /// `scope` must contain this word; `None` takes any.
    pub scope: Option<String>,
    /// `iss` must be one of these; empty takes any.
    pub issuers: Vec<String>,
    /// Tolerated difference between clocks, in seconds.
    pub leeway_secs: u64,
    /// For what a token's `limits` leave open.
    pub default_limits: Limits,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            audience: Some("pinwire".to_owned()),
            scope: Some("pinwire".to_owned()),
            issuers: Vec::new(),
            leeway_secs: 30,
            default_limits: Limits::DEFAULT,
        }
    }
}

/// Why a token is refused: close 4002.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// More than [`MAX_TOKEN_BYTES`].
    TooLarge,
    /// Not a token, or one that cannot be understood.
    Malformed(Malformed),
    /// An algorithm that is not accepted, or not the one the key is for.
    Algorithm,
    /// No key of this name for this tenant; fetching keys again may help.
    UnknownKey {
        /// The `kid` of the header.
        id: Option<Box<str>>,
    },
    /// Not signed by the key.
    Signature,
    /// `exp` has passed.
    Expired,
    /// `nbf` is still to come.
    NotYetValid,
    /// `aud` is another.
    Audience,
    /// `scope` lacks the required word.
    Scope,
    /// `iss` is another.
    Issuer,
}

/// What is wrong with a token that cannot be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// Not three parts of base64url.
    Encoding,
    /// The header is not JSON with one `alg`.
    Header,
    /// The header demands an extension (`crit`).
    Critical,
    /// The claims are not JSON, or a known one has the wrong shape or stands twice.
    Claims,
    /// No `exp`.
    NoExpiry,
    /// `tenantid` is missing or not an identifier.
    Tenant,
    /// `appId` is missing or not an identifier.
    App,
    /// `access` is neither `read-write` nor `readonly`.
    Access,
}

impl Rejection {
    /// For the client: stable, and short enough for a close reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooLarge => "token too large",
            Self::Malformed(Malformed::Encoding) => "malformed token: not three parts of base64url",
            Self::Malformed(Malformed::Header) => "malformed token: header",
            Self::Malformed(Malformed::Critical) => {
                "malformed token: header demands an unknown extension (crit)"
            }
            Self::Malformed(Malformed::Claims) => "malformed token: claims",
            Self::Malformed(Malformed::NoExpiry) => "malformed token: claim exp is missing",
            Self::Malformed(Malformed::Tenant) => {
                "malformed token: claim tenantid is missing or not an identifier"
            }
            Self::Malformed(Malformed::App) => "malformed token: claim appId is missing or not an identifier",
            Self::Malformed(Malformed::Access) => {
                "malformed token: claim access is neither read-write nor readonly"
            }
            Self::Algorithm => "token algorithm not allowed",
            Self::UnknownKey { .. } => "token signed with an unknown key",
            Self::Signature => "token signature does not match",
            Self::Expired => "token expired",
            Self::NotYetValid => "token not yet valid",
            Self::Audience => "token is for another audience",
            Self::Scope => "token lacks the required scope",
            Self::Issuer => "token from another issuer",
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for Rejection {}

impl From<Malformed> for Rejection {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

/// Checks `token` at `now_unix` (Unix seconds).
///
/// # Errors
/// The first reason found; the signature is judged before time, audience, scope and issuer.
pub fn verify(keys: &KeySet, policy: &Policy, token: &str, now_unix: u64) -> Result<Claims, Rejection> {
    verify_by(keys, policy, token, now_unix).map(|verified| verified.claims)
}

/// A good token.
#[derive(Debug)]
pub struct Verified<'a> {
    /// What it says.
    pub claims: Claims,
    /// What it was signed with.
    pub key: &'a Key,
}

/// [`verify`], with the key that it was signed with.
///
/// # Errors
/// As [`verify`].
pub fn verify_by<'a>(
    keys: &'a KeySet,
    policy: &Policy,
    token: &str,
    now_unix: u64,
) -> Result<Verified<'a>, Rejection> {
    let parts = Parts::split(token)?;
    let header = parts.header()?;
    let payload = decode(parts.payload)?;
    let raw: RawClaims<'_> = serde_json::from_slice(&payload).map_err(|_| Malformed::Claims)?;
    let tenant = raw.tenant.as_ref().map(|t| &*t.0).filter(|id| is_valid_id(id)).ok_or(Malformed::Tenant)?;

    let key = check_signature(keys, tenant, &header, &parts)?;
    check_time(&raw, policy, now_unix)?;
    check_policy(&raw, policy)?;
    Ok(Verified { claims: into_claims(raw, policy)?, key })
}

/// What makes the header of a token [`Malformed::Header`], likewise.
#[must_use]
pub fn header_error(token: &str) -> Option<String> {
    let header = decode(Parts::split(token).ok()?.header).ok()?;
    let said = serde_json::from_slice::<RawHeader<'_>>(&header).err()?.to_string();
    Some(said.rsplit_once(" at line ").map_or(&*said, |(what, _)| what).to_owned())
}

/// What a token says, whoever signed it and whenever. For showing it: nothing may be granted by this.
///
/// # Errors
/// [`Rejection::TooLarge`] and [`Rejection::Malformed`].
pub fn read_unverified(token: &str, policy: &Policy) -> Result<Claims, Rejection> {
    let payload = decode(Parts::split(token)?.payload)?;
    let raw: RawClaims<'_> = serde_json::from_slice(&payload).map_err(|_| Malformed::Claims)?;
    if !raw.tenant.as_ref().is_some_and(|tenant| is_valid_id(&tenant.0)) {
        return Err(Malformed::Tenant.into());
    }
    into_claims(raw, policy)
}

/// Which claim makes a token [`Malformed::Claims`], what it has there and what was expected, for whoever holds the token; `None`
/// for one that is not malformed so.
#[must_use]
pub fn claims_error(token: &str) -> Option<String> {
    let payload = decode(Parts::split(token).ok()?.payload).ok()?;
    let error = serde_json::from_slice::<RawClaims<'_>>(&payload).err()?;
    let said = error.to_string();
    // A place in the decoded payload helps nobody who looks at a token.
    let said = said.rsplit_once(" at line ").map_or(&*said, |(what, _)| what);
    Some(match error.classify() {
        serde_json::error::Category::Data => said.to_owned(),
        _ => format!("the claims are no JSON: {said}"),
    })
}

/// Whether checking `token` would cost an asymmetric signature, so that a caller can bound such checks. Reads the
/// header only; `false` for what [`verify`] refuses without trying a key.
pub fn is_costly(token: &str) -> bool {
    Parts::split(token).and_then(|parts| parts.header()).is_ok_and(|header| header.algorithm.is_costly())
}

/// The three parts of a compact JWS (RFC 7515 7.1).
struct Parts<'a> {
    /// Header and payload with the dot between them.
    message: &'a str,
    header: &'a str,
    payload: &'a str,
    signature: &'a str,
}

impl<'a> Parts<'a> {
    fn split(token: &'a str) -> Result<Self, Rejection> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Rejection::TooLarge);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(Malformed::Encoding)?;
        let (header, payload) = message.split_once('.').ok_or(Malformed::Encoding)?;
        Ok(Self { message, header, payload, signature })
    }

    fn header(&self) -> Result<Header, Rejection> {
        let json = decode(self.header)?;
        let raw: RawHeader<'_> = serde_json::from_slice(&json).map_err(|_| Malformed::Header)?;
        if raw.crit.is_some() {
            return Err(Malformed::Critical.into());
        }
        let algorithm = Algorithm::from_name(&raw.alg.0).ok_or(Rejection::Algorithm)?;
        Ok(Header { algorithm, id: raw.kid.map(Into::into) })
    }
}

#[derive(Deserialize)]
struct RawHeader<'a> {
    #[serde(borrow)]
    alg: Text<'a>,
    #[serde(borrow)]
    kid: Option<Text<'a>>,
    /// RFC 7515 4.1.11: whoever does not understand an extension named here must refuse; none is understood.
    #[serde(default, deserialize_with = "present")]
    crit: Option<IgnoredAny>,
}

/// `Some` also for `null`, which a plain `Option` would take for absence.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<IgnoredAny>, D::Error> {
    IgnoredAny::deserialize(deserializer).map(Some)
}

struct Header {
    algorithm: Algorithm,
    id: Option<Box<str>>,
}

/// Strict base64url: no padding, no stray bits, so that a token has one spelling.
fn decode(part: &str) -> Result<Vec<u8>, Rejection> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Malformed::Encoding.into())
}

fn check_signature<'a>(
    keys: &'a KeySet,
    tenant: &str,
    header: &Header,
    parts: &Parts<'_>,
) -> Result<&'a Key, Rejection> {
    let unknown = || Rejection::UnknownKey { id: header.id.clone() };
    let usable = keys.of_tenant(tenant);
    let (candidates, otherwise) = match header.id.as_deref() {
        None => (usable.collect(), Rejection::Signature),
        Some(id) => {
            let named: Vec<&Key> = usable.clone().filter(|key| key.id() == Some(id)).collect();
            if named.is_empty() {
                // A key without a name may have signed under any; where all keys are such, fetching cannot help.
                let all_nameless = !keys.may_grow() && usable.clone().all(|key| key.id().is_none());
                let failed = if all_nameless { Rejection::Signature } else { unknown() };
                (usable.filter(|key| key.id().is_none()).collect(), failed)
            } else {
                (named, Rejection::Signature)
            }
        }
    };
    if candidates.is_empty() {
        return Err(unknown());
    }
    let mut fitting = candidates.into_iter().filter(|key| key.algorithm() == header.algorithm).peekable();
    if fitting.peek().is_none() {
        return Err(if matches!(otherwise, Rejection::UnknownKey { .. }) {
            otherwise
        } else {
            Rejection::Algorithm
        });
    }
    let mut tried = fitting.take(MAX_KEYS_TRIED);
    tried.find(|key| key.checks(parts.message.as_bytes(), parts.signature)).ok_or(otherwise)
}

fn check_time(raw: &RawClaims<'_>, policy: &Policy, now: u64) -> Result<(), Rejection> {
    let expires_at = raw.expires_at.ok_or(Malformed::NoExpiry)?.0;
    if now >= expires_at.saturating_add(policy.leeway_secs) {
        return Err(Rejection::Expired);
    }
    if raw.not_before.is_some_and(|nbf| nbf.0 > now.saturating_add(policy.leeway_secs)) {
        return Err(Rejection::NotYetValid);
    }
    Ok(())
}

fn check_policy(raw: &RawClaims<'_>, policy: &Policy) -> Result<(), Rejection> {
    if let Some(wanted) = &policy.audience
        && !raw.audience.as_ref().is_some_and(|aud| aud.has(wanted))
    {
        return Err(Rejection::Audience);
    }
    if let Some(wanted) = &policy.scope
        && !raw.scope.as_ref().is_some_and(|scope| scope.has_word(wanted))
    {
        return Err(Rejection::Scope);
    }
    if !policy.issuers.is_empty()
        && !raw.issuer.as_ref().is_some_and(|iss| policy.issuers.iter().any(|known| *known == iss.0))
    {
        return Err(Rejection::Issuer);
    }
    Ok(())
}

fn into_claims(raw: RawClaims<'_>, policy: &Policy) -> Result<Claims, Rejection> {
    let access = match raw.access.as_ref().map(|text| &*text.0) {
        None | Some("read-write") => Access::ReadWrite,
        Some("readonly") => Access::ReadOnly,
        Some(_) => return Err(Malformed::Access.into()),
    };
    let own_limits = raw.limits.unwrap_or_default().own();
    Ok(Claims {
        tenant: raw.tenant.ok_or(Malformed::Tenant)?.into(),
        app: raw.app.filter(|id| is_valid_id(&id.0)).ok_or(Malformed::App)?.into(),
        subject: raw.subject.map(Into::into),
        token_id: raw.token_id.map(Into::into),
        db_code: raw.db_code.map(Into::into),
        region_code: raw.region_code.map(Into::into),
        allowed_domains: raw.allowed_domains.into_iter().map(|(_, domain)| domain.into()).collect(),
        limits: own_limits.or(policy.default_limits),
        own_limits,
        access,
        documents: raw.documents.map_or_else(DocumentPatterns::all, DocumentPatterns::any_of),
        regions: raw.regions.map(|list| list.into_iter().map(Into::into).collect()),
        expires_at: raw.expires_at.ok_or(Malformed::NoExpiry)?.0,
        not_before: raw.not_before.map(|date| date.0),
    })
}
