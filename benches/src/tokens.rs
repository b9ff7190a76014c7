//! A token of its own for every client: another `sub` and `jti` each, as real ones have.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pinwire_token::{SigningKey, mint};
use serde_json::json;

/// How long the tokens are good.
const LIFETIME_SECONDS: u64 = 24 * 3600;

/// Mints tokens of one app.
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
        Self::signing_with(SigningKey::from_secret(secret.as_bytes())?)
    }

    /// Signs with a key of any kind.
    ///
    /// # Errors
    /// A clock before 1970.
    pub fn signing_with(key: SigningKey) -> Result<Self> {
        Ok(Self {
            key,
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

/// A key pair for ES256, made for the occasion, as PEM files hold them.
#[derive(Debug)]
pub struct EcPair {
    /// PKCS #8.
    pub private: String,
    /// SubjectPublicKeyInfo.
    pub public: String,
}

impl EcPair {
    /// A new one.
    ///
    /// # Errors
    /// The library makes none.
    pub fn generate() -> Result<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).ok().context("no key pair")?;
        let private = pair.to_pkcs8v1().ok().context("no PKCS #8")?;
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().ok().context("no public key")?;
        Ok(Self { private: pem("PRIVATE KEY", private.as_ref()), public: pem("PUBLIC KEY", public.as_ref()) })
    }
}

/// RFC 7468.
fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let lines: Vec<String> =
        body.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
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
    use pinwire_token::{Algorithm, Key};

    #[test]
    fn a_new_pair_signs_and_verifies_es256() {
        let pair = EcPair::generate().unwrap();
        let key = SigningKey::from_private_pem(&pair.private).unwrap();
        assert_eq!(key.algorithm(), Algorithm::Es256);
        assert_eq!(Key::from_public_pem(&pair.public).unwrap().algorithm(), Algorithm::Es256);
        assert_eq!(Mint::signing_with(key).unwrap().token().unwrap().split('.').count(), 3);
    }

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
