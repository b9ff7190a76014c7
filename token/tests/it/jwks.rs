//! JWKS documents as identity providers publish them.

use crate::support::{NOW, Pair, b64, good_claims};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::RsaPublicKeyComponents;
use pinwire_token::{Jwks, KeySet, Policy, Rejection, mint, verify};
use serde_json::{Value, json};

fn ec(pair: &Pair, id: &str) -> Value {
    let (x, y) = pair.public_raw[1..].split_at(32);
    json!({ "kty": "EC", "crv": "P-256", "use": "sig", "kid": id, "x": b64(x), "y": b64(y) })
}

fn rsa(pair: &Pair, id: &str) -> Value {
    let public = aws_lc_rs::rsa::PublicKey::from_der(&pair.public_raw).unwrap();
    let parts = RsaPublicKeyComponents::<Vec<u8>>::from(&public);
    json!({ "kty": "RSA", "alg": "RS256", "use": "sig", "kid": id, "n": b64(parts.n), "e": b64(parts.e) })
}

#[test]
fn keys_of_every_type_check_what_their_private_halves_signed() {
    let (r, e, d) = (Pair::rsa(KeySize::Rsa2048), Pair::p256(), Pair::ed25519());
    let okp = json!({ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": "d", "x": b64(&d.public_raw) });
    let oct =
        json!({ "kty": "oct", "alg": "HS256", "kid": "s", "k": b64(b"0123456789abcdef0123456789abcdef") });
    let document = json!({ "keys": [rsa(&r, "r"), ec(&e, "e"), okp, oct] }).to_string();
    let jwks = Jwks::parse(document.as_bytes()).unwrap();
    assert_eq!(jwks.skipped, []);
    let keys = KeySet::from_iter(jwks.keys);
    let secret = pinwire_token::SigningKey::from_secret(b"0123456789abcdef0123456789abcdef").unwrap();
    for (key, id) in [(r.signing(), "r"), (e.signing(), "e"), (d.signing(), "d"), (secret, "s")] {
        let token = mint(&key.clone().with_id(id), &good_claims()).unwrap();
        assert!(verify(&keys, &Policy::default(), &token, NOW).is_ok(), "{id}");
        let other = mint(&key.with_id("gone"), &good_claims()).unwrap();
        let refused = verify(&keys, &Policy::default(), &other, NOW).unwrap_err();
        assert_eq!(refused, Rejection::UnknownKey { id: Some("gone".into()) });
    }
}

#[test]
fn what_cannot_be_used_is_skipped_by_name_and_reason() {
    let good = Pair::p256();
    let weak = json!({ "kty": "RSA", "n": b64([0xff; 128]), "e": "AQAB" });
    let mut private = ec(&good, "private");
    private["d"] = json!(b64([1; 32]));
    let mut encryption = ec(&good, "enc");
    encryption["use"] = json!("enc");
    let mut other_algorithm = ec(&good, "es384");
    other_algorithm["alg"] = json!("ES384");
    let document = json!({ "keys": [
        ec(&good, "good"), encryption, private, other_algorithm, weak,
        { "kty": "EC", "crv": "P-384", "x": "AA", "y": "AA" },
        { "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA" },
        { "kty": "oct", "k": "c2VjcmV0" },
        { "kty": "AKP" }, {}, 7,
        { "kty": "OKP", "crv": "Ed25519", "x": "not base64!" },
        { "kty": "EC", "crv": "P-256", "key_ops": ["sign"] },
    ] });
    let jwks = Jwks::parse(document.to_string().as_bytes()).unwrap();
    assert_eq!(jwks.keys.len(), 1);
    assert_eq!(jwks.keys[0].id(), Some("good"));
    let reasons: Vec<String> = jwks.skipped.iter().map(ToString::to_string).collect();
    let expected = [
        "keys[1] (kid \"enc\"): it is for \"enc\"",
        "keys[2] (kid \"private\"): it is a private key",
        "keys[3] (kid \"es384\"): algorithm \"ES384\"",
        "keys[4]: an RSA key of 1024 bits",
        "keys[5]: curve \"P-384\"",
        "keys[6]: x and y",
        "keys[7]: a secret without \"alg\"",
        "keys[8]: key type \"AKP\"",
        "keys[9]: member \"kty\"",
        "keys[10]: not an object",
        "keys[11]: member \"x\" is not base64url",
        "keys[12]: its key_ops",
    ];
    assert_eq!(reasons.len(), expected.len());
    for (reason, start) in reasons.iter().zip(expected) {
        assert!(reason.starts_with(start), "{reason} should start with {start}");
    }
}

#[test]
fn a_set_without_a_usable_key_is_an_error_that_says_why() {
    let message = |json: &str| Jwks::parse(json.as_bytes()).unwrap_err().to_string();
    assert!(message("{}").contains("no array `keys`"));
    assert!(message("nonsense").contains("not a JWKS"));
    assert!(message(r#"{"keys":[]}"#).contains("it is empty"));
    assert!(message(r#"{"keys":[{"kty":"AKP"}]}"#).contains("AKP"));
}
