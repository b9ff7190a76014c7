//! Tokens: a signature checked, and a verdict remembered.

use std::hint::black_box;

use pinwire_benches::instructions::Case;
use pinwire_token::{Key, KeySet, Policy, SigningKey, Verdicts, mint, verify};
use serde_json::json;

pub(crate) const CASES: &[Case] = &[
    Case { name: "token/HS256 checked", rounds: 200, run: hs256 },
    Case { name: "token/ES256 checked", rounds: 10, run: es256 },
    Case { name: "token/verdict remembered", rounds: 500, run: remembered },
];

/// Unix seconds between the tokens' `nbf` and `exp`.
const NOW: u64 = 1_000;
const SECRET: &[u8] = b"a secret that only this measurement knows";

/// A signature by ECDSA holds a random number: a token of the same bytes each time has to be a kept one. Its private key is
/// not kept.
const ES256_KEY: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE3F3rAhotiKCsLbFXZfd8GtlEd+RH
qHUc9jgj4naOXHmN//hnuF8kCVYnxhwKk1qJjYwNcvujF4ypYLlncNpHVA==
-----END PUBLIC KEY-----
";
const ES256_TOKEN: &str = concat!(
    "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9.",
    "eyJpc3MiOiJodHRwczovL2F1dGguZXhhbXBsZS5jb20iLCJzdWIiOiIzZjJiOWMxZS02YTU3LTRlMGQtOWIxZi0wYzhkN2E0ZTVmNjAiLCJhdWQiOi",
    "JwaW53aXJlIiwic2NvcGUiOiJwaW53aXJlIG9mZmxpbmVfYWNjZXNzIiwidGVuYW50aWQiOiJhY21lIiwiYXBwSWQiOiJub3RlcyIsImxpbWl0cyI6",
    "eyJtYXhDb25uZWN0aW9ucyI6MTAwMCwibWF4RG9jdW1lbnRzIjoxMDAwfSwiYWNjZXNzIjoicmVhZC13cml0ZSIsImV4cCI6MjAwMCwibmJmIjo5MD",
    "AsImlhdCI6OTAwLCJqdGkiOiJiN2QxZjBhMiJ9.",
    "_DrygSt9A0hpQcjFDPziUlZEG2l8CVGPuZZmMeexk19Cp1V3HD2195Z8hIu5rsopoXAhMmbYR5seuNJVWI5cJg",
);

fn hs256(rounds: u32) {
    let (keys, policy, token) = shared_secret();
    for _ in 0..rounds {
        black_box(verify(&keys, &policy, black_box(&token), NOW).expect("a good token"));
    }
}

fn es256(rounds: u32) {
    let mut keys = KeySet::new();
    keys.add(Key::from_public_pem(ES256_KEY).expect("a public key"));
    let policy = Policy::default();
    for _ in 0..rounds {
        black_box(verify(&keys, &policy, black_box(ES256_TOKEN), NOW).expect("a good token"));
    }
}

fn remembered(rounds: u32) {
    let (keys, policy, token) = shared_secret();
    let mut verdicts = Verdicts::new(1_024, [7; 32]);
    verdicts.verify(&keys, &policy, &token, NOW).expect("a good token");
    for _ in 0..rounds {
        black_box(verdicts.verify(&keys, &policy, black_box(&token), NOW).expect("a good token"));
    }
}

fn shared_secret() -> (KeySet, Policy, String) {
    let mut keys = KeySet::new();
    keys.add(Key::from_secret(SECRET).expect("a secret"));
    let claims = json!({
        "iss": "https://auth.example.com",
        "sub": "3f2b9c1e-6a57-4e0d-9b1f-0c8d7a4e5f60",
        "aud": "pinwire",
        "scope": "pinwire offline_access",
        "tenantid": "acme",
        "appId": "notes",
        "limits": { "maxConnections": 1_000, "maxDocuments": 1_000 },
        "access": "read-write",
        "exp": NOW + 1_000,
        "nbf": NOW - 100,
        "iat": NOW - 100,
        "jti": "b7d1f0a2",
    });
    let key = SigningKey::from_secret(SECRET).expect("a secret");
    (keys, Policy::default(), mint(&key, &claims).expect("claims are an object"))
}
