//! Tokens for tests, good and forged.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pinwire_token::mint::merge;
use pinwire_token::{SigningKey, mint};
use serde_json::{Value, json};

/// The shared secret of every test's node.
pub const SECRET: &str = "a secret for tests, of more than thirty-two bytes";

/// Claims that open every document and meet no limit.
#[must_use]
pub fn claims() -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    json!({
        "iss": "tests", "sub": "tester", "aud": "pinwire", "scope": "pinwire",
        "tenantid": "tenant", "appId": "app", "dbCode": "aws-eu-west-1", "regionCode": "local-1",
        "limits": {
            "maxConnections": 1_000_000, "maxDocuments": 1_000_000, "maxUsersPerDoc": 100_000, "opsPerMinute": 1_000_000_000,
        },
        "access": "read-write", "iat": now, "exp": now + 3600, "jti": "1",
    })
}

/// A token with [`claims`].
#[must_use]
pub fn token() -> String {
    token_with(json!({}))
}

/// A token with [`claims`] and `changes` laid over them; null removes.
///
/// # Panics
/// `changes` is no object.
#[must_use]
pub fn token_with(changes: Value) -> String {
    let mut claims = claims();
    merge(&mut claims, changes);
    let key = SigningKey::from_secret(SECRET.as_bytes()).expect("a secret");
    mint(&key, &claims).expect("an object")
}

/// `header.claims.signature` with an HMAC by `secret`, whatever the header says.
#[must_use]
pub fn forge(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", encode(header), encode(claims));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
}
