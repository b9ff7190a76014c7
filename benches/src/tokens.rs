//! A token of its own for every client: another `sub` and `jti` each, as real ones have.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use pinwire_token::{SigningKey, mint};
use serde_json::json;

/// How long the tokens are good.
const LIFETIME_SECONDS: u64 = 24 * 3600;

/// Mints HS256 tokens of one app.
#[derive(Debug)]
pub struct Mint {
    key: SigningKey,
    tenant: String,
    app: String,
    issued: u64,
}

impl Mint {
    /// Signs with `secret`.
    ///
    /// # Errors
    /// An empty secret, or a clock before 1970.
    pub fn new(secret: &str) -> Result<Self> {
        Ok(Self {
            key: SigningKey::from_secret(secret.as_bytes())?,
            tenant: uuid(),
            app: uuid(),
            issued: SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
        })
    }

    /// A token for a user of its own, with limits that no measurement meets.
    ///
    /// # Errors
    /// The key does not sign.
    pub fn token(&self) -> Result<String> {
        let claims = json!({
            "iss": "https://auth.example.com",
            "sub": uuid(),
            "aud": "pinwire",
            "scope": "pinwire offline_access",
            "tenantid": self.tenant,
            "appId": self.app,
            "dbCode": "aws-eu-west-1",
            "regionCode": pinwire_node::config::DEV_REGION,
            "limits": {
                "maxConnections": 1_000_000,
                "maxDocuments": 1_000_000,
                "maxUsersPerDoc": 100_000,
                "opsPerMinute": 1_000_000_000,
            },
            "access": "read-write",
            "exp": self.issued + LIFETIME_SECONDS,
            "nbf": self.issued,
            "iat": self.issued,
            "jti": uuid(),
        });
        Ok(mint(&self.key, &claims)?)
    }
}

/// A random UUID (RFC 9562, version 4).
#[must_use]
pub fn uuid() -> String {
    let random = fastrand::u128(..);
    let versioned = random & !(0xf << 76) | 4 << 76;
    let bits = versioned & !(0x3 << 62) | 2 << 62;
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_has_its_version_and_variant_in_their_places() {
        for _ in 0..1000 {
            let uuid = uuid();
            let parts: Vec<&str> = uuid.split('-').collect();
            assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
            assert!(parts[2].starts_with('4'), "{uuid}");
            assert!(parts[3].starts_with(['8', '9', 'a', 'b']), "{uuid}");
        }
    }
}
