//! Dynamic updates, at BIND and Knot.

use crate::rig::{DnsServer, NAME, SECRET, addresses, dig, read, region, resolve};
use pinwire_dns::{
    Change, Provider, ProviderError, ProviderSettings, RegionName, Rfc2136Settings, Secret, TsigAlgorithm,
    TsigKey,
};
use std::net::SocketAddr;
use std::time::Duration;

pub fn key(name: &str, secret: &str) -> Option<TsigKey> {
    Some(TsigKey { name: name.to_owned(), secret: Secret::new(secret), algorithm: TsigAlgorithm::HmacSha256 })
}

pub fn provider_with(server: SocketAddr, key: Option<TsigKey>, region: RegionName) -> Box<dyn Provider> {
    let settings = Rfc2136Settings { server: server.to_string(), key, timeout: Duration::from_secs(10) };
    ProviderSettings::Rfc2136(settings).provider(region).expect("settings").expect("a provider")
}

pub fn provider(server: &DnsServer) -> Box<dyn Provider> {
    provider_with(server.address(), key("pinwire", SECRET), region())
}

fn add(texts: &[&str]) -> Change {
    Change { add: addresses(texts), ..Change::default() }
}

#[tokio::test]
async fn bind_has_what_was_added_and_not_what_was_removed() {
    adds_and_removes(&DnsServer::bind().await).await;
}

#[tokio::test]
async fn knot_has_what_was_added_and_not_what_was_removed() {
    adds_and_removes(&DnsServer::knot().await).await;
}

async fn adds_and_removes(server: &DnsServer) {
    let provider = provider(server);
    assert_eq!(read(&*provider).await, Ok(addresses(&["203.0.113.9"])));
    let change = add(&["192.0.2.1", "2001:db8::1"]);
    for _ in 0..2 {
        assert_eq!(provider.change(change.clone()).await, Ok(()));
        let all = addresses(&["203.0.113.9", "192.0.2.1", "2001:db8::1"]);
        assert_eq!(resolve(server.address(), NAME).await, all);
        assert_eq!(read(&*provider).await, Ok(all));
    }
    let shown = dig(server.address(), &["+noall", "+answer", NAME, "AAAA"]).await;
    assert_eq!(shown.split_whitespace().nth(1), Some("30"), "{shown}");
    let change = Change {
        add: addresses(&["192.0.2.2"]),
        remove: addresses(&["192.0.2.1", "2001:db8::1"]),
        only_if: None,
    };
    for _ in 0..2 {
        assert_eq!(provider.change(change.clone()).await, Ok(()));
        assert_eq!(resolve(server.address(), NAME).await, addresses(&["203.0.113.9", "192.0.2.2"]));
    }
    // Other records of the name are as they were, and it may lose all its addresses.
    let change = Change { remove: addresses(&["203.0.113.9", "192.0.2.2"]), ..Change::default() };
    assert_eq!(provider.change(change).await, Ok(()));
    assert_eq!(read(&*provider).await, Ok(addresses(&[])));
    assert!(dig(server.address(), &["+short", NAME, "TXT"]).await.contains("somebody else's"));
}

#[tokio::test]
async fn bind_compares_before_it_changes() {
    compares(&DnsServer::bind().await).await;
}

#[tokio::test]
async fn knot_compares_before_it_changes() {
    compares(&DnsServer::knot().await).await;
}

async fn compares(server: &DnsServer) {
    let provider = provider(server);
    provider.change(add(&["192.0.2.1"])).await.unwrap();
    let leave = |texts: &[&str]| Change {
        remove: addresses(&["192.0.2.1"]),
        only_if: Some(addresses(texts)),
        ..Change::default()
    };
    // One too many, one too few, another family.
    for other in [
        &["192.0.2.1"][..],
        &["203.0.113.9", "192.0.2.1", "192.0.2.2"],
        &["203.0.113.9", "192.0.2.1", "2001:db8::1"],
    ] {
        assert_eq!(provider.change(leave(other)).await, Err(ProviderError::Changed), "{other:?}");
    }
    assert_eq!(resolve(server.address(), NAME).await, addresses(&["203.0.113.9", "192.0.2.1"]));
    assert_eq!(provider.change(leave(&["203.0.113.9", "192.0.2.1"])).await, Ok(()));
    assert_eq!(read(&*provider).await, Ok(addresses(&["203.0.113.9"])));
    // Both go at once, each on account of the other: one of them is too late.
    provider
        .change(Change { remove: addresses(&["203.0.113.9"]), ..add(&["192.0.2.1", "192.0.2.2"]) })
        .await
        .unwrap();
    let both = addresses(&["192.0.2.1", "192.0.2.2"]);
    let going = |own: &str| {
        let remove = addresses(&[own]);
        provider.change(Change { remove, only_if: Some(both.clone()), ..Change::default() })
    };
    let (one, other) = tokio::join!(going("192.0.2.1"), going("192.0.2.2"));
    assert_eq!([one, other].iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert_eq!(read(&*provider).await.unwrap().len(), 1);
}

/// What a provider says that cannot do it.
async fn said(provider: Box<dyn Provider>) -> String {
    let read = read(&*provider).await;
    let changed = provider.change(add(&["192.0.2.1"])).await;
    let error = read.err().or(changed.err()).expect("an error");
    assert!(matches!(error, ProviderError::Failed(_)));
    error.to_string()
}

#[tokio::test]
async fn a_wrong_key_is_told_from_a_wrong_secret_and_from_none() {
    let (bind, knot) = (DnsServer::bind().await, DnsServer::knot().await);
    for server in [&bind, &knot] {
        let at = server.address();
        let unknown = said(provider_with(at, key("other", SECRET), region())).await;
        assert!(
            unknown.contains("does not know the key (BADKEY)") && unknown.contains("key other."),
            "{unknown}"
        );
        let secret = "b3RoZXIgb3RoZXIgb3RoZXIgb3RoZXIgb3RoZXIgISE=";
        let wrong = said(provider_with(at, key("pinwire", secret), region())).await;
        assert!(wrong.contains("found the signature wrong (BADSIG)"), "{wrong}");
        let unsigned = said(provider_with(at, None, region())).await;
        assert!(unsigned.contains("signs nothing") || unsigned.contains("NotAuth"), "{unsigned}");
        let name = RegionName::new("us-east-1.example.net", "example.net", 30).unwrap();
        let foreign = said(provider_with(at, key("pinwire", SECRET), name)).await;
        assert!(foreign.contains("us-east-1.example.net"), "{foreign}");
        for shown in [unknown, wrong, unsigned, foreign] {
            assert!(shown.starts_with(&format!("DNS server {at}: ")), "{shown}");
            assert!(!shown.contains(SECRET) && !shown.contains(secret), "{shown}");
        }
        assert_eq!(resolve(at, NAME).await, addresses(&["203.0.113.9"]));
    }
}

#[tokio::test]
async fn clocks_that_are_too_far_apart_are_told_with_how_far_and_others_do_not_matter() {
    for (ahead_s, order) in [(1_200, "ahead of"), (-1_200, "behind")] {
        let server = DnsServer::knot_ahead(ahead_s).await;
        let told = said(provider(&server)).await;
        assert!(told.contains("has another time (BADTIME)") && told.contains("set the clocks"), "{told}");
        let by: i64 =
            told.split(" s ").next().and_then(|text| text.rsplit(' ').next()?.parse().ok()).unwrap();
        assert!((1_170..=1_230).contains(&by) && told.contains(order), "{told}");
    }
    let server = DnsServer::knot_ahead(200).await;
    assert_eq!(provider(&server).change(add(&["192.0.2.1"])).await, Ok(()));
}

#[tokio::test]
async fn a_server_that_fails_is_told_and_serves_again_once_it_is_mended() {
    let server = DnsServer::bind().await;
    server.spoil_journal();
    let provider = provider(&server);
    let told = provider.change(add(&["192.0.2.1"])).await.unwrap_err().to_string();
    assert!(told.contains("ServFail") && told.contains("journal"), "{told}");
    assert_eq!(read(&*provider).await, Ok(addresses(&["203.0.113.9"])));
    server.mend_journal();
    assert_eq!(provider.change(add(&["192.0.2.1"])).await, Ok(()));
}

#[tokio::test]
async fn bind_puts_a_ttl_right() {
    puts_ttl_right(&DnsServer::bind().await).await;
}

#[tokio::test]
async fn knot_puts_a_ttl_right() {
    puts_ttl_right(&DnsServer::knot().await).await;
}

async fn puts_ttl_right(server: &DnsServer) {
    let provider = provider(server);
    let day = RegionName::new(NAME, "example.net", 86_400).unwrap();
    let by_hand = provider_with(server.address(), key("pinwire", SECRET), day);
    provider.change(add(&["192.0.2.1", "192.0.2.2", "2001:db8::1"])).await.unwrap();
    assert_eq!(provider.read().await.unwrap().slow, addresses(&[]));
    // One record with another TTL: a set has one.
    by_hand.change(add(&["192.0.2.1", "2001:db8::1"])).await.unwrap();
    let held = provider.read().await.unwrap();
    let all = addresses(&["203.0.113.9", "192.0.2.1", "192.0.2.2", "2001:db8::1"]);
    assert_eq!((held.addresses, held.slow), (all.clone(), all.clone()));
    assert_eq!(by_hand.read().await.unwrap().slow, addresses(&[]));
    provider.change(add(&["192.0.2.2"])).await.unwrap();
    assert_eq!(provider.read().await.unwrap().slow, addresses(&["2001:db8::1"]));
    provider.change(add(&["2001:db8::1"])).await.unwrap();
    let held = provider.read().await.unwrap();
    assert_eq!((held.addresses, held.slow), (all, addresses(&[])));
    let shown = dig(server.address(), &["+noall", "+answer", NAME, "A"]).await;
    let ttls: Vec<&str> = shown.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(ttls, ["30"; 3], "{shown}");
}

#[tokio::test]
async fn an_alias_is_told_and_left_as_it_is() {
    let server = DnsServer::bind().await;
    let name = RegionName::new("alias.example.net", "example.net", 30).unwrap();
    let told =
        read(&*provider_with(server.address(), key("pinwire", SECRET), name)).await.unwrap_err().to_string();
    assert!(told.contains("alias.example.net is an alias (CNAME)"), "{told}");
}

#[tokio::test]
async fn a_zone_that_is_not_there_and_a_server_that_is_not_are_told() {
    let mut server = DnsServer::bind().await;
    let name = RegionName::new("eu.example.org", "example.org", 30).unwrap();
    let other = said(provider_with(server.address(), key("pinwire", SECRET), name)).await;
    assert!(other.contains("Refused") || other.contains("itself"), "{other}");
    server.stop().await;
    let away = said(provider(&server)).await;
    assert!(away.contains("cannot connect") && away.contains("does the server run"), "{away}");
}
