//! Cloudflare: batches that are all or nothing, records with identities.

use super::{PATIENCE, SECRET, Shared, Zone};
use crate::rig::{Asked, Fake, NAME, addresses, read, region};
use pinwire_dns::{
    Change, CloudflareSettings, Provider, ProviderError, ProviderSettings, RegionName, Secret,
};
use std::sync::Arc;

fn cloudflare_settings(endpoint: &str, zone_id: Option<&str>) -> CloudflareSettings {
    CloudflareSettings {
        token: Secret::new(SECRET),
        zone_id: zone_id.map(str::to_owned),
        endpoint: Some(endpoint.to_owned()),
        timeout: PATIENCE,
    }
}

fn cloudflare_region() -> RegionName {
    RegionName::new(NAME, "example.net", 60).unwrap()
}

async fn cloudflare() -> (Shared, Fake, Box<dyn Provider>) {
    let zone = Shared::default();
    let kept = Arc::clone(&zone);
    let fake = Fake::start(move |asked| cloudflare_answer(&mut kept.lock().unwrap(), asked)).await;
    let settings = ProviderSettings::Cloudflare(cloudflare_settings(&fake.endpoint, None));
    let provider = settings.provider(cloudflare_region()).unwrap().unwrap();
    (zone, fake, provider)
}

/// The identity of a record is its type and content here.
fn cloudflare_answer(zone: &mut Zone, asked: &Asked) -> (u16, String) {
    let ok = |result: String| {
        (200, format!("{{\"success\":true,\"errors\":[],\"messages\":[],\"result\":{result}}}"))
    };
    let refuse = |code: u32| {
        (
            400,
            format!(
                "{{\"success\":false,\"errors\":[{{\"code\":{code},\"message\":\"no\"}}],\"result\":null}}"
            ),
        )
    };
    if let Some(refusal) = &zone.refusal {
        return refusal.clone();
    }
    let path = asked.line.split_once(' ').unwrap().1;
    if path.starts_with("/zones?") {
        assert_eq!(path, "/zones?name=example.net");
        return ok("[{\"id\":\"023e105f4ecef8ad\",\"name\":\"example.net\"}]".to_owned());
    }
    if let Some(query) = path.strip_prefix("/zones/023e105f4ecef8ad/dns_records?") {
        assert_eq!(query, format!("name={NAME}&per_page=100&page=1"));
        let record = |(kind, value): (&String, &String)| {
            format!(
                "{{\"id\":\"{kind}:{value}\",\"type\":\"{kind}\",\"name\":\"{NAME}\",\"content\":\"{value}\",\"ttl\":{}}}",
                // Of its own choice, which is longer than what the name is to have.
                if zone.slow.contains(value) { 1 } else { 60 }
            )
        };
        let records =
            zone.sets.iter().flat_map(|(kind, values)| values.iter().map(move |value| (kind, value)));
        return ok(format!("[{}]", records.map(record).collect::<Vec<String>>().join(",")));
    }
    assert_eq!(path, "/zones/023e105f4ecef8ad/dns_records/batch");
    if let Some((kind, values)) = zone.meanwhile.take() {
        zone.sets.insert(kind, values);
    }
    let batch: serde_json::Value = serde_json::from_str(&asked.body).unwrap();
    let mut sets = zone.sets.clone();
    for deletion in batch["deletes"].as_array().unwrap() {
        let (kind, value) = deletion["id"].as_str().unwrap().split_once(':').unwrap();
        let values = sets.entry(kind.to_owned()).or_default();
        let Some(at) = values.iter().position(|other| other == value) else { return refuse(81044) };
        values.remove(at);
        zone.slow.remove(value);
    }
    for post in batch["posts"].as_array().unwrap() {
        let (kind, value) = (post["type"].as_str().unwrap(), post["content"].as_str().unwrap().to_owned());
        assert_eq!((post["name"].as_str(), post["ttl"].as_u64()), (Some(NAME), Some(60)));
        assert_eq!(post["proxied"].as_bool(), Some(false));
        let values = sets.entry(kind.to_owned()).or_default();
        if values.contains(&value) {
            return refuse(81058);
        }
        values.push(value);
    }
    zone.sets = sets;
    ok("{\"deletes\":[],\"posts\":[]}".to_owned())
}

#[tokio::test]
async fn cloudflare_has_what_was_added_and_not_what_was_removed() {
    let (zone, fake, provider) = cloudflare().await;
    zone.lock().unwrap().sets.insert("TXT".to_owned(), vec!["something else".to_owned()]);
    let change = Change { add: addresses(&["192.0.2.1", "2001:db8::1"]), ..Change::default() };
    for _ in 0..2 {
        assert_eq!(provider.change(change.clone()).await, Ok(()));
        assert_eq!(read(&*provider).await, Ok(change.add.clone()));
    }
    let asked = fake.take();
    assert!(asked.iter().all(|asked| asked.header("authorization") == format!("Bearer {SECRET}")));
    assert_eq!(asked.iter().filter(|asked| asked.line.starts_with("POST ")).count(), 1);
    assert_eq!(asked.iter().filter(|asked| asked.line.contains("/zones?")).count(), 1);
    let swap = Change {
        add: addresses(&["192.0.2.2"]),
        remove: addresses(&["192.0.2.1", "192.0.2.7"]),
        only_if: Some(addresses(&["192.0.2.1", "2001:db8::1"])),
    };
    assert_eq!(provider.change(swap.clone()).await, Ok(()));
    assert_eq!(read(&*provider).await, Ok(addresses(&["192.0.2.2", "2001:db8::1"])));
    assert_eq!(provider.change(swap).await, Err(ProviderError::Changed));
    assert_eq!(zone.lock().unwrap().sets["TXT"], ["something else"]);
    assert!(!provider.compares_exactly());
}

#[tokio::test]
async fn cloudflare_puts_a_ttl_right_that_somebody_made_longer() {
    let (zone, fake, provider) = cloudflare().await;
    let change = Change { add: addresses(&["192.0.2.1", "192.0.2.2"]), ..Change::default() };
    provider.change(change.clone()).await.unwrap();
    zone.lock().unwrap().slow.extend(["192.0.2.1".to_owned(), "192.0.2.2".to_owned()]);
    assert_eq!(provider.read().await.unwrap().slow, change.add);
    let own = Change { add: addresses(&["192.0.2.2"]), ..Change::default() };
    assert_eq!(provider.change(own.clone()).await, Ok(()));
    let held = provider.read().await.unwrap();
    assert_eq!((held.addresses, held.slow), (change.add, addresses(&["192.0.2.1"])));
    fake.take();
    assert_eq!(provider.change(own).await, Ok(()));
    assert!(fake.take().iter().all(|asked| asked.line.starts_with("GET ")), "nothing is changed again");
}

#[tokio::test]
async fn cloudflare_tells_that_somebody_was_faster() {
    let (zone, _fake, provider) = cloudflare().await;
    zone.lock().unwrap().meanwhile = Some(("A".to_owned(), vec!["192.0.2.1".to_owned()]));
    let change = Change { add: addresses(&["192.0.2.1"]), ..Change::default() };
    assert_eq!(provider.change(change).await, Err(ProviderError::Changed));
}

#[tokio::test]
async fn cloudflare_says_what_is_wrong_and_shows_no_secret() {
    let (zone, fake, provider) = cloudflare().await;
    let refusal = "{\"success\":false,\"errors\":[{\"code\":10000,\"message\":\"Authentication error\"}],\"result\":null}";
    zone.lock().unwrap().refusal = Some((403, refusal.to_owned()));
    let said = read(&*provider).await.unwrap_err().to_string();
    assert!(said.contains("Authentication error (10000)") && said.contains("Zone.DNS"), "{said}");
    zone.lock().unwrap().refusal = Some((200, "{\"success\":true,\"errors\":[],\"result\":[]}".to_owned()));
    let said = read(&*provider).await.unwrap_err().to_string();
    assert!(said.contains("no zone example.net"), "{said}");
    zone.lock().unwrap().refusal = Some((200, "x".repeat(2_000_000)));
    assert!(read(&*provider).await.is_err());
    let shown = format!("{provider:?} {:?}", cloudflare_settings(&fake.endpoint, None));
    assert!(!shown.contains(SECRET), "{shown}");
}

#[test]
fn settings_that_cannot_be_used_are_named() {
    let fault = |region: RegionName, change: fn(&mut CloudflareSettings)| {
        let mut settings = cloudflare_settings("https://example.net", Some("023e105f4ecef8ad"));
        change(&mut settings);
        ProviderSettings::Cloudflare(settings).provider(region).unwrap_err().setting
    };
    let short = RegionName::new(NAME, "example.net", 29).unwrap();
    assert_eq!(fault(short, |_| {}), "ttl");
    assert_eq!(fault(cloudflare_region(), |settings| settings.token = Secret::new("a\nb")), "token");
    assert_eq!(fault(cloudflare_region(), |settings| settings.zone_id = Some("a/b".to_owned())), "zone_id");
    assert!(ProviderSettings::None.provider(region()).unwrap().is_none());
}
