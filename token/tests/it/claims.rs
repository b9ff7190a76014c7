//! What a verified token carries, what it allows, and how long it is remembered.

use std::sync::Arc;

use crate::support::{NOW, good_claims};
use pinwire_token::mint::merge;
use pinwire_token::{
    Access, Claims, Forbidden, Key, KeySet, Limits, Policy, Rejection, Request, SigningKey, Verdicts,
    authorize, mint, verify,
};
use proptest::prelude::*;
use serde_json::{Value, json};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

fn keys() -> KeySet {
    KeySet::from_iter([Key::from_secret(SECRET).unwrap()])
}

fn token(changes: Value) -> String {
    let mut claims = good_claims();
    merge(&mut claims, changes);
    mint(&SigningKey::from_secret(SECRET).unwrap(), &claims).unwrap()
}

fn claims(changes: Value) -> Claims {
    verify(&keys(), &Policy::default(), &token(changes), NOW).unwrap()
}

fn known() -> Vec<String> {
    vec!["aws-eu-west-1".to_owned()]
}

fn ask<'a>(known_db_codes: &'a [String]) -> Request<'a> {
    Request { origin: None, document: Some("notes-1"), region: Some("eu-central-1"), known_db_codes }
}

#[test]
fn the_whole_example_of_the_contract_is_read() {
    let claims = claims(json!({
        "dbCode": "aws-eu-west-1", "regionCode": "eu-central-1",
        "allowed_domain_1": "example.com", "allowed_domain_2": "localhost:3000",
        "limits": { "maxConnections": 7, "maxDocuments": 8, "maxUsersPerDoc": 9, "opsPerMinute": 10 },
        "access": "readonly", "documents": ["notes-*"], "regions": ["eu-central-1"],
        "nbf": NOW, "unknown": { "deeply": [{ "nested": null }] }
    }));
    assert_eq!((&*claims.tenant, &*claims.app), ("tenant-a", "app-1"));
    assert_eq!(claims.subject.as_deref(), Some("ann"));
    assert_eq!(claims.token_id.as_deref(), Some("1"));
    assert_eq!(claims.region_code.as_deref(), Some("eu-central-1"));
    assert_eq!(
        claims.allowed_domains.iter().map(|d| &**d).collect::<Vec<_>>(),
        ["example.com", "localhost:3000"]
    );
    let limits = Limits { max_connections: 7, max_documents: 8, max_users_per_doc: 9, ops_per_minute: 10 };
    assert_eq!(claims.limits, limits);
    assert_eq!((claims.expires_at, claims.not_before), (NOW + 3600, Some(NOW)));
    assert_eq!(authorize(&claims, &ask(&known())), Ok(Access::ReadOnly));
}

#[test]
fn absent_claims_and_nulls_have_their_defaults() {
    let claims = claims(json!({ "limits": { "maxDocuments": 1u64 << 40 } }));
    assert_eq!(claims.limits, Limits { max_documents: u32::MAX, ..Limits::DEFAULT });
    assert_eq!(claims.access, Access::ReadWrite);
    assert!(claims.regions.is_none());
    let nulls = r#""access":null,"documents":null,"regions":null,"limits":null,"allowed_domain_1":null,"dbCode":null"#;
    let text = good_claims().to_string().replacen('{', &format!("{{{nulls},"), 1);
    let token = crate::support::forge(r#"{"alg":"HS256","kid":null}"#, &text, SECRET);
    let with_nulls = verify(&keys(), &Policy::default(), &token, NOW).unwrap();
    assert_eq!(
        with_nulls,
        Claims { limits: Limits::DEFAULT, own_limits: pinwire_token::OwnLimits::default(), ..claims }
    );
}

#[test]
fn escaped_names_and_values_read_like_plain_ones() {
    let text =
        good_claims().to_string().replace("tenantid", "t\\u0065nantid").replace("tenant-a", "t\\u0065nant-a");
    let token = crate::support::forge(r#"{"\u0061lg":"HS\u003256"}"#, &text, SECRET);
    assert_eq!(&*verify(&keys(), &Policy::default(), &token, NOW).unwrap().tenant, "tenant-a");
}

#[test]
fn each_side_of_a_request_is_judged() {
    let known = known();
    let scoped = claims(json!({
        "documents": ["notes-*"], "regions": ["eu-central-1", "us-east-1"], "allowed_domain_1": "example.com",
        "dbCode": "aws-eu-west-1",
    }));
    let ask = ask(&known);
    assert_eq!(authorize(&scoped, &ask), Ok(Access::ReadWrite));
    assert_eq!(
        authorize(&scoped, &Request { origin: Some("https://example.com"), ..ask }),
        Ok(Access::ReadWrite)
    );
    assert_eq!(
        authorize(&scoped, &Request { origin: Some("https://evil.com"), ..ask }),
        Err(Forbidden::Origin)
    );
    assert_eq!(authorize(&scoped, &Request { origin: Some("null"), ..ask }), Err(Forbidden::Origin));
    assert_eq!(authorize(&scoped, &Request { document: Some("other"), ..ask }), Err(Forbidden::Document));
    assert_eq!(authorize(&scoped, &Request { document: None, ..ask }), Ok(Access::ReadWrite));
    assert_eq!(authorize(&scoped, &Request { region: Some("eu-central"), ..ask }), Err(Forbidden::Region));
    assert_eq!(authorize(&scoped, &Request { region: None, ..ask }), Ok(Access::ReadWrite));
    let open = claims(json!({}));
    assert_eq!(
        authorize(&open, &Request { origin: Some("null"), region: Some("x"), ..ask }),
        Ok(Access::ReadWrite)
    );
    assert_eq!(authorize(&claims(json!({ "documents": [] })), &ask), Err(Forbidden::Document));
    assert_eq!(authorize(&claims(json!({ "regions": [] })), &ask), Err(Forbidden::Region));
}

#[test]
fn an_unknown_license_region_is_named_in_a_reason_that_fits_a_close_frame() {
    let refuse = |code: &str| authorize(&claims(json!({ "dbCode": code })), &ask(&known())).unwrap_err();
    assert_eq!(refuse("aws-mars-1").reason(), "unknown dbCode: aws-mars-1");
    let long = refuse(&"ü".repeat(500));
    assert!(long.reason().len() <= 123 && long.reason().starts_with("unknown dbCode: ü"));
}

#[test]
fn a_remembered_token_needs_no_key_until_it_expires() {
    let mut verdicts = Verdicts::new(8, [7; 32]);
    let (policy, token) = (Policy::default(), token(json!({ "exp": NOW + 10 })));
    let first = verdicts.verify(&keys(), &policy, &token, NOW).unwrap();
    let again = verdicts.verify(&KeySet::new(), &policy, &token, NOW + 9).unwrap();
    assert!(Arc::ptr_eq(&first, &again));
    assert!(verdicts.get(&token, NOW + 9).is_some());
    assert!(verdicts.get(&token, NOW + 10).is_none(), "remembered beyond its exp");
    assert!(verdicts.verify(&keys(), &policy, &token, NOW + 20).is_ok(), "leeway still holds");
    assert!(verdicts.is_empty(), "good by leeway alone is not remembered");
    assert_eq!(verdicts.verify(&keys(), &policy, &token, NOW + 40), Err(Rejection::Expired));
}

#[test]
fn forgetting_and_refusals_leave_nothing_behind() {
    let mut verdicts = Verdicts::new(8, [7; 32]);
    let token = token(json!({}));
    assert!(verdicts.verify(&KeySet::new(), &Policy::default(), &token, NOW).is_err());
    assert!(verdicts.is_empty());
    verdicts.verify(&keys(), &Policy::default(), &token, NOW).unwrap();
    verdicts.clear();
    assert!(verdicts.get(&token, NOW).is_none());
}

#[test]
fn tokens_of_a_key_that_is_taken_out_are_forgotten_and_those_of_others_stay() {
    let secrets = [b"0123456789abcdef0123456789abcdef", b"fedcba9876543210fedcba9876543210"];
    let key = |at: usize, id: &str| Key::from_secret(secrets[at]).unwrap().with_id(id);
    let token = |at: usize, id: &str| {
        mint(&SigningKey::from_secret(secrets[at]).unwrap().with_id(id), &good_claims()).unwrap()
    };
    let (both, [old, new]) =
        (KeySet::from_iter([key(0, "old"), key(1, "new")]), [token(0, "old"), token(1, "new")]);
    let policy = Policy::default();
    // What is left: the other key; the same name with another key; the same key under another name, or for one tenant alone.
    let lefts = [key(1, "new"), key(1, "old"), key(0, "new"), key(0, "old").for_tenant("tenant-b")];
    for (at, left) in lefts.into_iter().enumerate() {
        let mut verdicts = Verdicts::new(8, [7; 32]);
        verdicts.verify(&both, &policy, &old, NOW).unwrap();
        verdicts.verify(&both, &policy, &new, NOW).unwrap();
        verdicts.retain(&both);
        assert_eq!(verdicts.len(), 2, "nothing was taken out");
        verdicts.retain(&KeySet::from_iter([left]));
        assert!(verdicts.get(&old, NOW).is_none(), "{at}");
        assert_eq!(verdicts.get(&new, NOW).is_some(), at == 0, "{at}");
    }
}

#[test]
fn while_more_keys_may_come_a_name_that_is_unknown_is_not_a_bad_signature() {
    let other = SigningKey::from_secret(b"fedcba9876543210fedcba9876543210").unwrap().with_id("new");
    let token = mint(&other, &good_claims()).unwrap();
    let refused = |keys: &KeySet| verify(keys, &Policy::default(), &token, NOW).unwrap_err();
    let mut keys = keys();
    assert_eq!(refused(&keys), Rejection::Signature);
    keys.expect_more();
    assert_eq!(refused(&keys), Rejection::UnknownKey { id: Some("new".into()) });
}

#[test]
fn memory_for_verdicts_is_bounded_and_the_least_used_goes_first() {
    let mut verdicts = Verdicts::new(8, [1; 32]);
    let (keys, policy) = (keys(), Policy::default());
    let kept = token(json!({ "jti": "kept" }));
    for n in 0..100 {
        verdicts.verify(&keys, &policy, &kept, NOW).unwrap();
        verdicts.verify(&keys, &policy, &token(json!({ "jti": n.to_string() })), NOW).unwrap();
        assert!(verdicts.len() <= 8);
    }
    assert!(verdicts.get(&kept, NOW).is_some());
    assert!(verdicts.get(&token(json!({ "jti": "0" })), NOW).is_none());
}

#[test]
fn what_was_used_since_a_moment_outlives_the_rest() {
    let mut verdicts = Verdicts::new(8, [1; 32]);
    let (keys, policy) = (keys(), Policy::default());
    let [kept, left, new] = ["kept", "left", "new"].map(|id| token(json!({ "jti": id })));
    verdicts.verify(&keys, &policy, &kept, NOW).unwrap();
    verdicts.verify(&keys, &policy, &left, NOW).unwrap();
    let moment = verdicts.uses();
    verdicts.verify(&keys, &policy, &new, NOW).unwrap();
    verdicts.verify(&keys, &policy, &kept, NOW).unwrap();
    verdicts.forget_unused_since(moment);
    assert!(verdicts.get(&left, NOW).is_none());
    assert!(verdicts.get(&kept, NOW).is_some() && verdicts.get(&new, NOW).is_some());
}

#[test]
fn a_patch_merges_objects_and_null_removes() {
    let mut claims = json!({ "a": 1, "limits": { "x": 1, "y": 2 }, "s": "t" });
    merge(&mut claims, json!({ "a": null, "limits": { "y": 3 }, "s": { "n": null, "m": 1 } }));
    assert_eq!(claims, json!({ "limits": { "x": 1, "y": 3 }, "s": { "m": 1 } }));
}

#[test]
fn every_reason_fits_a_close_frame() {
    use pinwire_token::Malformed::*;
    let malformed =
        [Encoding, Header, Critical, Claims, NoExpiry, Tenant, App, Access].map(Rejection::Malformed);
    let others = [
        Rejection::TooLarge,
        Rejection::Algorithm,
        Rejection::UnknownKey { id: Some("x".repeat(4000).into()) },
        Rejection::Signature,
        Rejection::Expired,
        Rejection::NotYetValid,
        Rejection::Audience,
        Rejection::Scope,
        Rejection::Issuer,
    ];
    let reasons: Vec<&str> = malformed.iter().chain(&others).map(Rejection::reason).collect();
    assert!(reasons.iter().all(|reason| reason.len() <= 123));
    let distinct: std::collections::BTreeSet<&str> = reasons.iter().copied().collect();
    assert_eq!(distinct.len(), reasons.len());
}

proptest! {
    #[test]
    fn any_text_is_refused_without_panic(text in "\\PC{0,200}") {
        prop_assert!(verify(&keys(), &Policy::default(), &text, NOW).is_err());
        pinwire_token::is_costly(&text);
    }

    #[test]
    fn any_signed_bytes_are_judged_without_panic(header in ".{0,60}", claims in ".{0,120}") {
        let token = crate::support::forge(&header, &claims, SECRET);
        prop_assert!(verify(&keys(), &Policy::default(), &token, NOW).is_err());
    }
}
