//! A token of its own for every client: another `sub` and `jti` each, as real ones have.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use pinwire_token::{SigningKey, mint};
use serde_json::json;

use crate::scenario::Auth;

/// How long minted tokens are good.
const LIFETIME_SECONDS: u64 = 24 * 3600;

/// Gives each client what it shows.
#[derive(Debug)]
pub(crate) enum Tokens {
    None,
    Same(String),
    Minted { key: SigningKey, tenant: String, app: String, region: String, issued: u64 },
}

impl Tokens {
    pub(crate) fn new(auth: &Auth, region: &str, random: &mut fastrand::Rng) -> Result<Self> {
        let key = match auth {
            Auth::None => return Ok(Self::None),
            Auth::Token(token) => return Ok(Self::Same(token.clone())),
            Auth::Secret(secret) => SigningKey::from_secret(secret.as_bytes()).context("the secret")?,
            // An agent is given the key itself, since the file is the coordinator's.
            Auth::Key(pem) if Auth::is_pem(pem) => SigningKey::from_private_pem(pem).context("the key")?,
            Auth::Key(file) => {
                let pem = std::fs::read_to_string(file).with_context(|| format!("the key file {file}"))?;
                SigningKey::from_private_pem(&pem).with_context(|| format!("the key file {file}"))?
            }
        };
        let issued = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        Ok(Self::Minted { key, tenant: uuid(random), app: uuid(random), region: region.to_owned(), issued })
    }

    /// The next client's token; none if it shows none.
    pub(crate) fn token(&self, random: &mut fastrand::Rng) -> Result<Option<String>> {
        let (key, tenant, app, region, issued) = match self {
            Self::None => return Ok(None),
            Self::Same(token) => return Ok(Some(token.clone())),
            Self::Minted { key, tenant, app, region, issued } => (key, tenant, app, region, *issued),
        };
        let claims = json!({
            "iss": "https://auth.example.com",
            "sub": uuid(random),
            "aud": "pinwire",
            "scope": "pinwire offline_access",
            "tenantid": tenant,
            "appId": app,
            "dbCode": "aws-eu-west-1",
            "regionCode": region,
            // Limits that no measurement meets.
            "limits": {
                "maxConnections": 2_000_000,
                "maxDocuments": 2_000_000,
                "maxUsersPerDoc": 100_000,
                "opsPerMinute": 1_000_000_000,
            },
            "access": "read-write",
            "exp": issued + LIFETIME_SECONDS,
            "nbf": issued,
            "iat": issued,
            "jti": uuid(random),
        });
        Ok(Some(mint(key, &claims)?))
    }
}

/// A random UUID (RFC 9562, version 4).
fn uuid(random: &mut fastrand::Rng) -> String {
    let bits = random.u128(..);
    let versioned = bits & !(0xf << 76) | 4 << 76;
    let bits = versioned & !(0x3 << 62) | 2 << 62;
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_client_has_a_token_of_its_own_of_the_same_app() {
        let mut random = fastrand::Rng::with_seed(1);
        let tokens =
            Tokens::new(&Auth::Secret("a secret of thirty-two characters".into()), "eu", &mut random)
                .unwrap();
        let (one, other) = (tokens.token(&mut random).unwrap(), tokens.token(&mut random).unwrap());
        assert_ne!(one, other);
        assert!(Tokens::new(&Auth::Key("/no/such/file".into()), "eu", &mut random).is_err());
    }

    #[test]
    fn a_uuid_has_its_version_and_variant_in_their_places() {
        let mut random = fastrand::Rng::with_seed(2);
        for _ in 0..100 {
            let uuid = uuid(&mut random);
            assert_eq!((uuid.as_bytes()[14], uuid.len()), (b'4', 36));
            assert!(matches!(uuid.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
        }
    }
}
