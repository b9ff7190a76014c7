//! An app's record: what its license region says of it, as JSON.

use std::fmt;

use pinwire_token::{Jwks, KeySet, OwnLimits};
use serde_json::{Map, Value};

use crate::config::is_region_name;

/// Bytes of a record at most.
pub const RECORD_MAX: usize = 64 << 10;
/// Regions that it may name.
const REGIONS_MAX: usize = 256;
/// Keys that it may have.
const KEYS_MAX: usize = 16;

/// An app's record, understood.
#[derive(Debug, Default)]
pub struct Record {
    /// What it may use at most, where its tokens do not say.
    pub limits: OwnLimits,
    /// Regions in which its documents may be opened; `None`: all.
    pub regions: Option<Box<[Box<str>]>>,
    /// Keys that its tokens may be signed with, beside those of the configuration.
    pub keys: KeySet,
}

/// What is wrong with a record: where, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct RecordError {
    /// As in `limits.maxConnections` or `keys[0]`; empty for all of it.
    pub place: String,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place.is_empty() {
            f.write_str(&self.what)
        } else {
            write!(f, "{}: {}", self.place, self.what)
        }
    }
}

fn wrong<T>(place: impl Into<String>, what: impl Into<String>) -> Result<T, RecordError> {
    Err(RecordError { place: place.into(), what: what.into() })
}

impl Record {
    /// Reads a record of an app of this tenant.
    ///
    /// # Errors
    /// What is wrong with it: what cannot be understood is refused, since it was meant to say something.
    pub fn parse(tenant: &str, text: &str) -> Result<Self, RecordError> {
        if text.len() > RECORD_MAX {
            return wrong("", format!("has more than {} KiB", RECORD_MAX >> 10));
        }
        let value: Value = serde_json::from_str(text)
            .map_err(|error| RecordError { place: String::new(), what: format!("is no JSON: {error}") })?;
        let Value::Object(fields) = value else {
            return wrong("", "an object was expected, as in {\"limits\":{\"maxConnections\":100}}");
        };
        let mut record = Self::default();
        for (name, value) in &fields {
            match (name.as_str(), value) {
                (_, Value::Null) => {}
                ("limits", Value::Object(limits)) => record.limits = limits_of(limits)?,
                ("regions", Value::Array(regions)) => record.regions = Some(regions_of(regions)?),
                ("keys", Value::Array(keys)) => record.keys = keys_of(tenant, keys)?,
                ("limits", _) => {
                    return wrong("limits", "an object was expected, as in {\"maxConnections\":100}");
                }
                ("regions", _) => {
                    return wrong("regions", "a list of regions was expected, as in [\"eu-central-1\"]");
                }
                ("keys", _) => return wrong("keys", "a list of public keys (JWK) was expected"),
                _ => return wrong(name, "a record has limits, regions and keys, and nothing else"),
            }
        }
        Ok(record)
    }

    /// Whether documents of the app may be opened in a region.
    #[must_use]
    pub fn allows(&self, region: &str) -> bool {
        self.regions.as_ref().is_none_or(|regions| regions.iter().any(|allowed| **allowed == *region))
    }
}

fn limits_of(fields: &Map<String, Value>) -> Result<OwnLimits, RecordError> {
    let mut limits = OwnLimits::default();
    for (name, value) in fields {
        let limit = match name.as_str() {
            "maxConnections" => &mut limits.max_connections,
            "maxDocuments" => &mut limits.max_documents,
            "maxUsersPerDoc" => &mut limits.max_users_per_doc,
            "opsPerMinute" => &mut limits.ops_per_minute,
            _ => {
                let what = "there is no such limit; there are maxConnections, maxDocuments, maxUsersPerDoc and opsPerMinute";
                return wrong(format!("limits.{name}"), what);
            }
        };
        *limit = match value {
            Value::Null => None,
            value => match value.as_u64().map(u32::try_from) {
                Some(Ok(number)) => Some(number),
                _ => {
                    return wrong(
                        format!("limits.{name}"),
                        format!("a whole number from 0 to {} was expected", u32::MAX),
                    );
                }
            },
        };
    }
    Ok(limits)
}

fn regions_of(values: &[Value]) -> Result<Box<[Box<str>]>, RecordError> {
    if values.is_empty() {
        return wrong("regions", "names none, and nothing could be opened; leave it out to allow all");
    }
    if values.len() > REGIONS_MAX {
        return wrong("regions", format!("names more than {REGIONS_MAX}"));
    }
    let region = |(at, value): (usize, &Value)| match value.as_str() {
        Some(name) if is_region_name(name) => Ok(name.into()),
        _ => wrong(format!("regions[{at}]"), "the name of a region was expected, as in \"eu-central-1\""),
    };
    values.iter().enumerate().map(region).collect()
}

fn keys_of(tenant: &str, values: &[Value]) -> Result<KeySet, RecordError> {
    if values.is_empty() {
        return Ok(KeySet::new());
    }
    if values.len() > KEYS_MAX {
        return wrong("keys", format!("has more than {KEYS_MAX}"));
    }
    let set = serde_json::json!({ "keys": values }).to_string();
    let skipped = |index: usize, why: String| RecordError { place: format!("keys[{index}]"), what: why };
    match Jwks::parse_public(set.as_bytes()) {
        Ok(jwks) => match jwks.skipped.into_iter().next() {
            Some(key) => Err(skipped(key.index, key.why)),
            None => Ok(jwks.keys.into_iter().map(|key| key.for_tenant(tenant)).collect()),
        },
        Err(error) => wrong("keys", error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = r#"{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","kid":"k1","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

    #[test]
    fn a_record_says_limits_regions_and_keys() {
        let text = format!(
            r#"{{"limits":{{"maxConnections":7,"opsPerMinute":null}},"regions":["eu-central-1"],"keys":[{KEY}]}}"#
        );
        let record = Record::parse("t", &text).unwrap();
        assert_eq!(record.limits, OwnLimits { max_connections: Some(7), ..OwnLimits::default() });
        assert!(record.allows("eu-central-1") && !record.allows("us-east-1"));
        let keys: Vec<(Option<&str>, Option<&str>)> =
            record.keys.iter().map(|key| (key.id(), key.tenant())).collect();
        assert_eq!(keys, [(Some("k1"), Some("t"))]);
        let empty = Record::parse("t", "{}").unwrap();
        assert!(empty.allows("anywhere-1") && empty.keys.is_empty());
    }

    #[test]
    fn what_cannot_be_understood_is_refused_with_its_place_and_its_mend() {
        let secret =
            r#"{"keys":[{"kty":"oct","alg":"HS256","k":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]}"#;
        let mixed = format!(r#"{{"keys":[{KEY},{{"kty":"RSA"}}]}}"#);
        let cases = [
            ("{", "is no JSON: "),
            ("[]", "an object was expected"),
            (r#"{"limit":{}}"#, "limit: a record has limits, regions and keys, and nothing else"),
            (r#"{"limits":5}"#, "limits: an object was expected"),
            (
                r#"{"limits":{"maxConections":5}}"#,
                "limits.maxConections: there is no such limit; there are maxConnections",
            ),
            (r#"{"limits":{"maxDocuments":-1}}"#, "limits.maxDocuments: a whole number from 0 to 4294967295"),
            (r#"{"limits":{"maxDocuments":1.5}}"#, "limits.maxDocuments: a whole number"),
            (r#"{"limits":{"maxDocuments":4294967296}}"#, "limits.maxDocuments: a whole number"),
            (r#"{"regions":[]}"#, "regions: names none, and nothing could be opened"),
            (r#"{"regions":["eu-1","EU"]}"#, "regions[1]: the name of a region was expected"),
            (r#"{"regions":"eu-1"}"#, "regions: a list of regions was expected"),
            (r#"{"keys":{}}"#, "keys: a list of public keys"),
            (secret, "a secret that is published is none; publish a public key"),
            (mixed.as_str(), "keys[1]: "),
        ];
        for (text, words) in cases {
            let told = Record::parse("t", text).unwrap_err().to_string();
            assert!(told.contains(words), "{text}: {told}");
        }
        let long = format!("{{\"x\":\"{}\"}}", "x".repeat(RECORD_MAX));
        assert_eq!(Record::parse("t", &long).unwrap_err().to_string(), "has more than 64 KiB");
    }
}
