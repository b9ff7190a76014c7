//! What a token says. Unknown claims are ignored; a known claim of the wrong shape, or one that stands twice, makes
//! the token malformed: what cannot be understood must not widen what it allows.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::access::Access;
use crate::pattern::DocumentPatterns;

/// The claims of a verified token.
#[derive(Debug, Clone, PartialEq)]
pub struct Claims {
    /// `tenantid`: letters, digits, `-`, `_`, `.`; at most 128 bytes, so that `{tenant}::{app}::{document}` is unique.
    pub tenant: Box<str>,
    /// `appId`, of the same shape.
    pub app: Box<str>,
    /// `sub`: the client or user.
    pub subject: Option<Box<str>>,
    /// `jti`: this token's own name.
    pub token_id: Option<Box<str>>,
    /// `dbCode`: the license region, where the app's records live.
    pub db_code: Option<Box<str>>,
    /// `regionCode`: the WebSocket region closest to the user.
    pub region_code: Option<Box<str>>,
    /// `allowed_domain_*`, in the order of the token; empty allows every origin.
    pub allowed_domains: Box<[Box<str>]>,
    /// `limits`, completed with the policy's defaults.
    pub limits: Limits,
    /// `limits`, as they stand there.
    pub own_limits: OwnLimits,
    /// `access`.
    pub access: Access,
    /// `documents`.
    pub documents: DocumentPatterns,
    /// `regions`; `None` allows every region.
    pub regions: Option<Box<[Box<str>]>>,
    /// `exp`, Unix seconds.
    pub expires_at: u64,
    /// `nbf`, Unix seconds.
    pub not_before: Option<u64>,
}

/// Limits of an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Open connections, all nodes and regions together.
    pub max_connections: u32,
    /// Active documents, all nodes and regions together.
    pub max_documents: u32,
    /// Sessions on one document.
    pub max_users_per_doc: u32,
    /// Operations a minute in one region.
    pub ops_per_minute: u32,
}

impl Limits {
    /// For apps whose tokens carry no limits.
    pub const DEFAULT: Self =
        Self { max_connections: 100, max_documents: 500, max_users_per_doc: 50, ops_per_minute: 10_000 };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Limits of which some may be left open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OwnLimits {
    /// See [`Limits::max_connections`].
    pub max_connections: Option<u32>,
    /// See [`Limits::max_documents`].
    pub max_documents: Option<u32>,
    /// See [`Limits::max_users_per_doc`].
    pub max_users_per_doc: Option<u32>,
    /// See [`Limits::ops_per_minute`].
    pub ops_per_minute: Option<u32>,
}

impl OwnLimits {
    /// What is left open comes from `defaults`.
    #[must_use]
    pub fn or(self, defaults: Limits) -> Limits {
        Limits {
            max_connections: self.max_connections.unwrap_or(defaults.max_connections),
            max_documents: self.max_documents.unwrap_or(defaults.max_documents),
            max_users_per_doc: self.max_users_per_doc.unwrap_or(defaults.max_users_per_doc),
            ops_per_minute: self.ops_per_minute.unwrap_or(defaults.ops_per_minute),
        }
    }
}

/// Whether `id` may stand as a tenant or an app.
pub fn is_valid_id(id: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    (1..=MAX_ID_BYTES).contains(&id.len()) && id.bytes().all(plain)
}

const MAX_ID_BYTES: usize = 128;

/// The claims as they stand in the token, before anybody vouched for them.
#[derive(Debug, Default)]
pub(crate) struct RawClaims<'a> {
    pub(crate) tenant: Option<Text<'a>>,
    pub(crate) app: Option<Text<'a>>,
    pub(crate) issuer: Option<Text<'a>>,
    pub(crate) subject: Option<Text<'a>>,
    pub(crate) audience: Option<TextOrList<'a>>,
    pub(crate) scope: Option<TextOrList<'a>>,
    pub(crate) token_id: Option<Text<'a>>,
    pub(crate) db_code: Option<Text<'a>>,
    pub(crate) region_code: Option<Text<'a>>,
    pub(crate) allowed_domains: Vec<(Cow<'a, str>, Text<'a>)>,
    pub(crate) limits: Option<RawLimits>,
    pub(crate) access: Option<Text<'a>>,
    pub(crate) documents: Option<Vec<Text<'a>>>,
    pub(crate) regions: Option<Vec<Text<'a>>>,
    pub(crate) expires_at: Option<NumericDate>,
    pub(crate) not_before: Option<NumericDate>,
}

/// The `limits` claim; what is absent comes from the policy.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct RawLimits {
    max_connections: Option<u64>,
    max_documents: Option<u64>,
    max_users_per_doc: Option<u64>,
    ops_per_minute: Option<u64>,
}

impl<'de> Deserialize<'de> for RawLimits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LimitsVisitor;
        impl<'de> Visitor<'de> for LimitsVisitor {
            type Value = RawLimits;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of limits")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawLimits, A::Error> {
                let mut limits = RawLimits::default();
                while let Some(Text(name)) = map.next_key()? {
                    let Some(limit) = limits.field(&name) else {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    };
                    if limit.is_some() {
                        return Err(de::Error::custom(format_args!("{name} stands twice")));
                    }
                    *limit = map.next_value().map_err(|error: A::Error| {
                        de::Error::custom(format_args!("{name}, a whole number of 0 or more: {error}"))
                    })?;
                }
                Ok(limits)
            }
        }
        deserializer.deserialize_map(LimitsVisitor)
    }
}

impl RawLimits {
    fn field(&mut self, name: &str) -> Option<&mut Option<u64>> {
        match name {
            "maxConnections" => Some(&mut self.max_connections),
            "maxDocuments" => Some(&mut self.max_documents),
            "maxUsersPerDoc" => Some(&mut self.max_users_per_doc),
            "opsPerMinute" => Some(&mut self.ops_per_minute),
            _ => None,
        }
    }

    pub(crate) fn own(self) -> OwnLimits {
        let within = |claim: Option<u64>| claim.map(|n| u32::try_from(n).unwrap_or(u32::MAX));
        OwnLimits {
            max_connections: within(self.max_connections),
            max_documents: within(self.max_documents),
            max_users_per_doc: within(self.max_users_per_doc),
            ops_per_minute: within(self.ops_per_minute),
        }
    }
}

/// Most `allowed_domain_*` claims a token may carry.
const MAX_ALLOWED_DOMAINS: usize = 64;

impl<'de> Deserialize<'de> for RawClaims<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RawClaimsVisitor)
    }
}

struct RawClaimsVisitor;

impl<'de> Visitor<'de> for RawClaimsVisitor {
    type Value = RawClaims<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of claims")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut claims = RawClaims::default();
        let mut seen = Seen::default();
        while let Some(Text(name)) = map.next_key()? {
            if name.starts_with("allowed_domain_") {
                let domain = map.next_value().map_err(|error| in_claim(&name, &error))?;
                claims.add_domain(name, domain)?;
                continue;
            }
            let Some(known) = KNOWN.iter().position(|k| *k == name) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            seen.mark(known)?;
            claims.read(KNOWN[known], &mut map).map_err(|error| in_claim(KNOWN[known], &error))?;
        }
        Ok(claims)
    }
}

/// Names the claim that an error is about.
fn in_claim<E: de::Error>(name: &str, error: &E) -> E {
    E::custom(format_args!("claim {name}: {error}"))
}

const KNOWN: [&str; 15] = [
    "tenantid",
    "appId",
    "iss",
    "sub",
    "aud",
    "scope",
    "jti",
    "dbCode",
    "regionCode",
    "limits",
    "access",
    "documents",
    "regions",
    "exp",
    "nbf",
];

/// Which known claims have stood already; readers of JSON differ on which of two equal names counts.
#[derive(Default)]
struct Seen(u32);

impl Seen {
    fn mark<E: de::Error>(&mut self, known: usize) -> Result<(), E> {
        let bit = 1 << known;
        if self.0 & bit != 0 {
            return Err(E::custom(format_args!("claim {} stands twice", KNOWN[known])));
        }
        self.0 |= bit;
        Ok(())
    }
}

impl<'de> RawClaims<'de> {
    fn read<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "tenantid" => self.tenant = map.next_value()?,
            "appId" => self.app = map.next_value()?,
            "iss" => self.issuer = map.next_value()?,
            "sub" => self.subject = map.next_value()?,
            "aud" => self.audience = map.next_value()?,
            "scope" => self.scope = map.next_value()?,
            "jti" => self.token_id = map.next_value()?,
            "dbCode" => self.db_code = map.next_value()?,
            "regionCode" => self.region_code = map.next_value()?,
            "limits" => self.limits = map.next_value()?,
            "access" => self.access = map.next_value()?,
            "documents" => self.documents = map.next_value()?,
            "regions" => self.regions = map.next_value()?,
            "exp" => self.expires_at = map.next_value()?,
            _ => self.not_before = map.next_value()?,
        }
        Ok(())
    }

    fn add_domain<E: de::Error>(&mut self, name: Cow<'de, str>, domain: Option<Text<'de>>) -> Result<(), E> {
        let Some(domain) = domain else { return Ok(()) };
        if self.allowed_domains.len() == MAX_ALLOWED_DOMAINS {
            return Err(E::custom(format_args!("more than {MAX_ALLOWED_DOMAINS} allowed_domain claims")));
        }
        if self.allowed_domains.iter().any(|(n, _)| *n == name) {
            return Err(E::custom(format_args!("claim {name} stands twice")));
        }
        self.allowed_domains.push((name, domain));
        Ok(())
    }
}

/// Text borrowed from the token where it holds no escapes.
#[derive(Debug)]
pub(crate) struct Text<'a>(pub(crate) Cow<'a, str>);

impl From<Text<'_>> for Box<str> {
    fn from(text: Text<'_>) -> Self {
        text.0.into()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, v: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(v)))
            }

            fn visit_str<E>(self, v: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(v.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// `aud` (RFC 7519 4.1.3) and `scope` come as one string or as a list.
#[derive(Debug)]
pub(crate) enum TextOrList<'a> {
    One(Text<'a>),
    Many(Vec<Text<'a>>),
}

impl<'de: 'a, 'a> Deserialize<'de> for TextOrList<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EitherVisitor;
        impl<'de> Visitor<'de> for EitherVisitor {
            type Value = TextOrList<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }

            fn visit_borrowed_str<E>(self, v: &'de str) -> Result<Self::Value, E> {
                Ok(TextOrList::One(Text(Cow::Borrowed(v))))
            }

            fn visit_str<E>(self, v: &str) -> Result<Self::Value, E> {
                Ok(TextOrList::One(Text(Cow::Owned(v.to_owned()))))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                Deserialize::deserialize(de::value::SeqAccessDeserializer::new(seq)).map(TextOrList::Many)
            }
        }
        deserializer.deserialize_any(EitherVisitor)
    }
}

impl TextOrList<'_> {
    /// Whether `wanted` is one of the whole strings.
    pub(crate) fn has(&self, wanted: &str) -> bool {
        match self {
            Self::One(text) => text.0 == wanted,
            Self::Many(list) => list.iter().any(|text| text.0 == wanted),
        }
    }

    /// Whether `wanted` is one of the words, as in OAuth's `scope` (RFC 6749 3.3).
    pub(crate) fn has_word(&self, wanted: &str) -> bool {
        let in_text = |text: &Text<'_>| text.0.split_ascii_whitespace().any(|word| word == wanted);
        match self {
            Self::One(text) => in_text(text),
            Self::Many(list) => list.iter().any(in_text),
        }
    }
}

/// Unix seconds; a fraction is cut off, what lies beyond `u64` is `u64::MAX` (RFC 7519 section 2, NumericDate).
#[derive(Debug, Clone, Copy)]
pub(crate) struct NumericDate(pub(crate) u64);

impl<'de> Deserialize<'de> for NumericDate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DateVisitor;
        impl Visitor<'_> for DateVisitor {
            type Value = NumericDate;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of seconds")
            }

            fn visit_u64<E>(self, v: u64) -> Result<Self::Value, E> {
                Ok(NumericDate(v))
            }

            /// Before 1970 is as long ago as 1970.
            fn visit_i64<E>(self, v: i64) -> Result<Self::Value, E> {
                Ok(NumericDate(u64::try_from(v).unwrap_or(0)))
            }

            /// `as` saturates, and NaN, which JSON cannot hold, would be 0: long expired.
            fn visit_f64<E>(self, v: f64) -> Result<Self::Value, E> {
                Ok(NumericDate(v as u64))
            }
        }
        deserializer.deserialize_any(DateVisitor)
    }
}
