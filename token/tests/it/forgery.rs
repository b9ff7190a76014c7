//! Tokens that somebody without the right key, or with the wrong one, might send (RFC 8725).

use crate::support::{NOW, Pair, b64, forge, good_claims, pem};
use aws_lc_rs::rsa::KeySize;
use pinwire_token::mint::merge;
use pinwire_token::{Key, KeySet, Malformed, Policy, Rejection, SigningKey, mint, verify};
use serde_json::{Value, json};

const SECRET: &[u8] = b"a secret of tenant-a, thirty-two bytes";
const OTHER_SECRET: &[u8] = b"a secret of tenant-b, thirty-two bytes";

fn check(keys: &KeySet, token: &str) -> Result<(), Rejection> {
    verify(keys, &Policy::default(), token, NOW).map(drop)
}

fn secret_keys() -> KeySet {
    KeySet::from_iter([Key::from_secret(SECRET).unwrap()])
}

fn signed(claims: &Value) -> String {
    mint(&SigningKey::from_secret(SECRET).unwrap(), claims).unwrap()
}

fn with(changes: Value) -> Value {
    let mut claims = good_claims();
    merge(&mut claims, changes);
    claims
}

const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

#[test]
fn every_algorithm_verifies_what_it_signed() {
    for pair in [Pair::rsa(KeySize::Rsa2048), Pair::p256(), Pair::ed25519()] {
        let token = mint(&pair.signing(), &good_claims()).unwrap();
        let keys = KeySet::from_iter([Key::from_public_pem(&pair.public_pem).unwrap()]);
        assert_eq!(check(&keys, &token), Ok(()), "{:?}", keys);
        assert!(pinwire_token::is_costly(&token));

        let stranger = KeySet::from_iter([Key::from_public_pem(&Pair::p256().public_pem).unwrap()]);
        assert!(check(&stranger, &token).is_err());
    }
    assert_eq!(check(&secret_keys(), &signed(&good_claims())), Ok(()));
    assert!(!pinwire_token::is_costly(&signed(&good_claims())));
}

#[test]
fn alg_none_is_refused_in_every_spelling_with_and_without_a_signature() {
    let good = signed(&good_claims());
    let signature = good.rsplit('.').next().unwrap();
    for spelling in ["none", "None", "NONE", "nOnE", ""] {
        let header = json!({ "alg": spelling, "typ": "JWT" }).to_string();
        let message = format!("{}.{}", b64(header), b64(good_claims().to_string()));
        for signature in ["", signature] {
            let token = format!("{message}.{signature}");
            assert_eq!(check(&secret_keys(), &token), Err(Rejection::Algorithm), "alg {spelling:?}");
        }
        let without_third_part = check(&secret_keys(), &message);
        assert!(without_third_part.is_err());
    }
}

#[test]
fn a_public_key_is_never_taken_as_a_secret() {
    let claims = good_claims().to_string();
    for pair in [Pair::rsa(KeySize::Rsa2048), Pair::p256(), Pair::ed25519()] {
        let key = Key::from_public_pem(&pair.public_pem).unwrap();
        let keys = KeySet::from_iter([key]);
        let trimmed = pair.public_pem.trim_end().as_bytes();
        let spellings: [&[u8]; 4] = [pair.public_pem.as_bytes(), trimmed, &pair.public_der, &pair.public_raw];
        for secret in spellings {
            assert_eq!(check(&keys, &forge(HS256, &claims, secret)), Err(Rejection::Algorithm));
            let header = r#"{"alg":"HS256","kid":"k"}"#;
            assert_eq!(check(&keys, &forge(header, &claims, secret)), Err(Rejection::Algorithm));
        }
        // The key's own algorithm with an HMAC in place of a signature.
        for secret in spellings {
            for alg in ["RS256", "ES256", "EdDSA"] {
                let forged = forge(&json!({ "alg": alg }).to_string(), &claims, secret);
                let refused = check(&keys, &forged).unwrap_err();
                assert!(matches!(refused, Rejection::Algorithm | Rejection::Signature), "{refused}");
            }
        }
        assert!(
            Key::from_secret(pair.public_pem.as_bytes()).is_err(),
            "a PEM must not be configured as a secret"
        );
    }
}

#[test]
fn an_algorithm_the_key_is_not_for_is_refused_even_when_signed_with_that_key() {
    // The header says HS384 or HS512, the HMAC is right for HS256.
    for alg in ["HS384", "HS512", "RS256", "ES256", "EdDSA", "PS256", "ES256K", "hs256", "HS256 "] {
        let token = forge(&json!({ "alg": alg }).to_string(), &good_claims().to_string(), SECRET);
        assert_eq!(check(&secret_keys(), &token), Err(Rejection::Algorithm), "alg {alg}");
    }
}

#[test]
fn a_token_changed_anywhere_no_longer_verifies() {
    let good = signed(&good_claims());
    for position in (0..good.len()).filter(|at| good.as_bytes()[*at] != b'.') {
        let mut bytes = good.clone().into_bytes();
        bytes[position] = if bytes[position] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        assert!(check(&secret_keys(), &changed).is_err(), "byte {position}");
    }
}

#[test]
fn a_kid_of_another_tenant_does_not_open_this_one() {
    let keys = KeySet::from_iter([
        Key::from_secret(SECRET).unwrap().with_id("a").for_tenant("tenant-a"),
        Key::from_secret(OTHER_SECRET).unwrap().with_id("b").for_tenant("tenant-b"),
    ]);
    let own = SigningKey::from_secret(SECRET).unwrap();
    let foreign = SigningKey::from_secret(OTHER_SECRET).unwrap();
    assert_eq!(check(&keys, &mint(&own.clone().with_id("a"), &good_claims()).unwrap()), Ok(()));
    let refused = Err(Rejection::UnknownKey { id: Some("b".into()) });
    assert_eq!(check(&keys, &mint(&foreign.clone().with_id("b"), &good_claims()).unwrap()), refused);
    assert_eq!(
        check(&keys, &mint(&foreign.clone().with_id("a"), &good_claims()).unwrap()),
        Err(Rejection::Signature)
    );
    assert_eq!(check(&keys, &mint(&foreign, &good_claims()).unwrap()), Err(Rejection::Signature));
    let nobodys = with(json!({ "tenantid": "tenant-c" }));
    assert_eq!(check(&keys, &mint(&own, &nobodys).unwrap()), Err(Rejection::UnknownKey { id: None }));
}

#[test]
fn keys_rotate_under_several_names_and_an_unknown_name_is_told_apart() {
    let keys = KeySet::from_iter([
        Key::from_secret(SECRET).unwrap().with_id("2024"),
        Key::from_secret(OTHER_SECRET).unwrap().with_id("2025"),
    ]);
    for (secret, id) in [(SECRET, "2024"), (OTHER_SECRET, "2025")] {
        let key = SigningKey::from_secret(secret).unwrap();
        assert_eq!(check(&keys, &mint(&key, &good_claims()).unwrap()), Ok(()), "without a name");
        assert_eq!(check(&keys, &mint(&key.with_id(id), &good_claims()).unwrap()), Ok(()));
    }
    let token = mint(&SigningKey::from_secret(SECRET).unwrap().with_id("2026"), &good_claims()).unwrap();
    assert_eq!(check(&keys, &token), Err(Rejection::UnknownKey { id: Some("2026".into()) }));
}

#[test]
fn a_key_without_a_name_answers_for_any_name() {
    let token = mint(&SigningKey::from_secret(SECRET).unwrap().with_id("whatever"), &good_claims()).unwrap();
    assert_eq!(check(&secret_keys(), &token), Ok(()));
    let wrong =
        mint(&SigningKey::from_secret(OTHER_SECRET).unwrap().with_id("whatever"), &good_claims()).unwrap();
    assert_eq!(check(&secret_keys(), &wrong), Err(Rejection::Signature));
}

#[test]
fn keys_that_a_header_brings_along_are_ignored() {
    let attacker = Pair::p256();
    let key = Key::from_public_pem(&Pair::p256().public_pem).unwrap();
    let keys = KeySet::from_iter([key]);
    let (x, y) = attacker.public_raw[1..].split_at(32);
    let jwk = json!({ "kty": "EC", "crv": "P-256", "alg": "ES256", "x": b64(x), "y": b64(y) });
    let certificate =
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &attacker.public_der);
    let headers = [
        json!({ "alg": "ES256", "jwk": jwk }),
        json!({ "alg": "ES256", "jku": "https://evil.example/jwks.json" }),
        json!({ "alg": "ES256", "x5u": "https://evil.example/cert.pem" }),
        json!({ "alg": "ES256", "x5c": [certificate] }),
    ];
    for header in headers {
        let token = sign_p256(&attacker, &header, &good_claims());
        assert_eq!(check(&keys, &token), Err(Rejection::Signature), "{header}");
        // Not because of the member: with the right key it may stand there.
        let trusting = KeySet::from_iter([Key::from_public_pem(&attacker.public_pem).unwrap()]);
        assert_eq!(check(&trusting, &token), Ok(()), "{header}");
    }
}

fn sign_p256(pair: &Pair, header: &Value, claims: &Value) -> String {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
    let body: String = pair.private_pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, body).unwrap();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der).unwrap();
    let message = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
    let signature = key.sign(&aws_lc_rs::rand::SystemRandom::new(), message.as_bytes()).unwrap();
    format!("{message}.{}", b64(signature.as_ref()))
}

#[test]
fn headers_that_cannot_be_trusted_are_refused() {
    let claims = good_claims().to_string();
    let table = [
        (r#"{"alg":"HS256","alg":"none"}"#, Rejection::Malformed(Malformed::Header)),
        (r#"{"alg":"none","alg":"HS256"}"#, Rejection::Malformed(Malformed::Header)),
        (r#"{"typ":"JWT"}"#, Rejection::Malformed(Malformed::Header)),
        (r#"{"alg":null}"#, Rejection::Malformed(Malformed::Header)),
        (r#"{"alg":["HS256"]}"#, Rejection::Malformed(Malformed::Header)),
        (r#"{"alg":"HS256","kid":5}"#, Rejection::Malformed(Malformed::Header)),
        (r#"{"alg":"HS256","crit":["b64"],"b64":false}"#, Rejection::Malformed(Malformed::Critical)),
        (r#"{"alg":"HS256","crit":null}"#, Rejection::Malformed(Malformed::Critical)),
        (r#"["HS256"]"#, Rejection::Malformed(Malformed::Header)),
        ("", Rejection::Malformed(Malformed::Header)),
    ];
    for (header, expected) in table {
        assert_eq!(check(&secret_keys(), &forge(header, &claims, SECRET)), Err(expected), "{header}");
    }
}

#[test]
fn claims_that_cannot_be_trusted_are_refused() {
    let start = good_claims().to_string();
    let start = start.strip_suffix('}').unwrap();
    let malformed = Rejection::Malformed(Malformed::Claims);
    let table = [
        (format!(r#"{start},"tenantid":"tenant-b"}}"#), malformed.clone()),
        (format!(r#"{start},"exp":{}}}"#, NOW + 9), malformed.clone()),
        (format!(r#"{start},"allowed_domain_1":"a","allowed_domain_1":"b"}}"#), malformed.clone()),
        (format!(r#"{start},"nbf":"soon"}}"#), malformed.clone()),
        (format!(r#"{start},"documents":"all"}}"#), malformed.clone()),
        (format!(r#"{start},"documents":[1]}}"#), malformed.clone()),
        (format!(r#"{start},"limits":{{"maxConnections":-1}}}}"#), malformed.clone()),
        (format!(r#"{start},"allowed_domain_1":5}}"#), malformed.clone()),
        (format!(r#"{start},"access":"admin"}}"#), Rejection::Malformed(Malformed::Access)),
        (format!(r#"{start},"x":{}"#, "[".repeat(3000)), malformed.clone()),
        ("[]".to_owned(), malformed.clone()),
        ("null".to_owned(), malformed.clone()),
        (format!("{start}}} x"), malformed),
        ("{}".to_owned(), Rejection::Malformed(Malformed::Tenant)),
    ];
    for (claims, expected) in table {
        assert_eq!(check(&secret_keys(), &forge(HS256, &claims, SECRET)), Err(expected), "{claims:.80}");
    }
}

#[test]
fn tenant_and_app_must_be_identifiers_so_that_no_two_share_a_document_name() {
    for bad in [
        json!("a::b"),
        json!("a:"),
        json!(""),
        json!("a b"),
        json!("a/b"),
        json!("ä"),
        json!(null),
        json!("x".repeat(129)),
    ] {
        let token = signed(&with(json!({ "tenantid": bad })));
        assert_eq!(
            check(&secret_keys(), &token),
            Err(Rejection::Malformed(Malformed::Tenant)),
            "tenant {bad}"
        );
        let token = signed(&with(json!({ "appId": bad })));
        assert_eq!(check(&secret_keys(), &token), Err(Rejection::Malformed(Malformed::App)), "app {bad}");
    }
}

#[test]
fn expiry_is_judged_with_leeway_whatever_kind_of_number_it_is() {
    let malformed = Err(Rejection::Malformed(Malformed::Claims));
    let table = [
        (json!(NOW + 1), Ok(())),
        (json!(NOW - 29), Ok(())),
        (json!(NOW - 30), Err(Rejection::Expired)),
        (json!(NOW as f64 + 0.5), Ok(())),
        (json!(NOW as f64 - 30.5), Err(Rejection::Expired)),
        (json!(0), Err(Rejection::Expired)),
        (json!(-1), Err(Rejection::Expired)),
        (json!(i64::MIN), Err(Rejection::Expired)),
        (json!(-1e300), Err(Rejection::Expired)),
        (json!(u64::MAX), Ok(())),
        (json!(1e300), Ok(())),
        (json!((NOW + 9).to_string()), malformed.clone()),
        (json!("never"), malformed.clone()),
        (json!(true), malformed.clone()),
        (json!([NOW + 9]), malformed),
        (json!(null), Err(Rejection::Malformed(Malformed::NoExpiry))),
    ];
    for (exp, expected) in table {
        assert_eq!(check(&secret_keys(), &signed(&with(json!({ "exp": exp })))), expected, "exp {exp}");
    }
    let too_large_for_any_number = good_claims().to_string().replace(&(NOW + 3600).to_string(), "1e400");
    let token = forge(HS256, &too_large_for_any_number, SECRET);
    assert_eq!(check(&secret_keys(), &token), Err(Rejection::Malformed(Malformed::Claims)));
}

#[test]
fn a_token_counts_from_its_nbf_with_leeway() {
    for (nbf, expected) in [
        (json!(NOW), Ok(())),
        (json!(NOW + 30), Ok(())),
        (json!(NOW + 31), Err(Rejection::NotYetValid)),
        (json!(u64::MAX), Err(Rejection::NotYetValid)),
        (json!(-5), Ok(())),
    ] {
        assert_eq!(check(&secret_keys(), &signed(&with(json!({ "nbf": nbf })))), expected, "nbf {nbf}");
    }
}

#[test]
fn audience_and_scope_are_whole_words() {
    let table = [
        (json!({ "aud": "pinwire" }), Ok(())),
        (json!({ "aud": ["x", "pinwire"] }), Ok(())),
        (json!({ "aud": "pinwire2" }), Err(Rejection::Audience)),
        (json!({ "aud": "x pinwire" }), Err(Rejection::Audience)),
        (json!({ "aud": [] }), Err(Rejection::Audience)),
        (json!({ "aud": null }), Err(Rejection::Audience)),
        (json!({ "scope": "pinwire" }), Ok(())),
        (json!({ "scope": ["a", "pinwire"] }), Ok(())),
        (json!({ "scope": "pinwire2" }), Err(Rejection::Scope)),
        (json!({ "scope": null }), Err(Rejection::Scope)),
    ];
    for (claims, expected) in table {
        assert_eq!(check(&secret_keys(), &signed(&with(claims.clone()))), expected, "{claims}");
    }
    let policy =
        Policy { audience: None, scope: None, issuers: vec!["https://me".into()], ..Policy::default() };
    let token = signed(&with(json!({ "aud": null, "scope": null, "iss": "https://me" })));
    assert!(verify(&secret_keys(), &policy, &token, NOW).is_ok());
    let token = signed(&with(json!({ "iss": "https://me.evil" })));
    assert_eq!(verify(&secret_keys(), &policy, &token, NOW).unwrap_err(), Rejection::Issuer);
}

#[test]
fn the_signature_is_judged_before_what_the_claims_say() {
    let expired = with(json!({ "exp": 1, "aud": "x" }));
    let token = mint(&SigningKey::from_secret(OTHER_SECRET).unwrap(), &expired).unwrap();
    assert_eq!(check(&secret_keys(), &token), Err(Rejection::Signature));
}

#[test]
fn what_is_no_token_is_malformed_and_what_is_too_long_stays_unread() {
    let good = signed(&good_claims());
    let encoding = Err(Rejection::Malformed(Malformed::Encoding));
    for text in ["", ".", "..", "a.b", "a.b.c.d", "Bearer x", "\u{1F600}.a.b"] {
        assert!(matches!(check(&secret_keys(), text), Err(Rejection::Malformed(_))), "{text:?}");
    }
    assert_eq!(check(&secret_keys(), &good.replacen('.', "=.", 1)), encoding);
    assert_eq!(check(&secret_keys(), &format!("{good}=")), Err(Rejection::Signature));
    assert_eq!(check(&secret_keys(), &format!(" {good}")), encoding);
    let large = signed(&with(json!({ "sub": "x".repeat(8192) })));
    assert_eq!(check(&secret_keys(), &large), Err(Rejection::TooLarge));
}

#[test]
fn keys_that_are_not_what_they_should_be_are_refused_with_the_mend() {
    let (rsa, p384) = (Pair::rsa(KeySize::Rsa2048), Pair::p384());
    let says = |key: Result<Key, pinwire_token::KeyError>, part: &str| {
        let message = key.unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    };
    says(Key::from_public_pem(&rsa.private_pem), "openssl pkey");
    says(Key::from_public_pem(&p384.public_pem), "P-256");
    says(Key::from_public_pem("hello"), "found 0");
    says(Key::from_public_pem(&rsa.public_pem.repeat(2)), "found 2");
    says(Key::from_public_pem(&rsa.public_pem[..200]), "cut off");
    says(Key::from_public_pem(&pem("CERTIFICATE", &rsa.public_der)), "openssl x509");
    says(Key::from_public_pem(&pem("PUBLIC KEY", b"\x30\x00")), "readable");
    says(Key::from_secret(b""), "empty");
    assert!(SigningKey::from_private_pem(&rsa.public_pem).unwrap_err().to_string().contains("public key"));
    assert!(SigningKey::from_private_pem(&p384.private_pem).unwrap_err().to_string().contains("P-256"));
}
