//! Route 53 and Cloudflare, played by the test: requests are checked, and the records are kept by the services' rules.

use crate::rig::{Asked, Fake, NAME, addresses, region};
use pinwire_dns::{
    Change, CloudflareSettings, Provider, ProviderError, ProviderSettings, RegionName, Route53Settings,
    Secret,
};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(10);
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

/// Values by type; with it, what somebody else does right before the next change.
#[derive(Default)]
struct Zone {
    sets: BTreeMap<String, Vec<String>>,
    meanwhile: Option<(String, Vec<String>)>,
    refusal: Option<(u16, String)>,
    more: String,
}

type Shared = Arc<Mutex<Zone>>;

fn route53_settings(endpoint: &str) -> Route53Settings {
    Route53Settings {
        access_key_id: "AKIAEXAMPLE".to_owned(),
        secret_access_key: Secret::new(SECRET),
        session_token: Some(Secret::new("for-a-time")),
        hosted_zone_id: "Z0123456789ABC".to_owned(),
        region: None,
        endpoint: Some(endpoint.to_owned()),
        timeout: SECOND,
    }
}

async fn route53() -> (Shared, Fake, Box<dyn Provider>) {
    let zone = Shared::default();
    let kept = Arc::clone(&zone);
    let fake = Fake::start(move |asked| route53_answer(&mut kept.lock().unwrap(), asked)).await;
    let settings = ProviderSettings::Route53(route53_settings(&fake.endpoint));
    let provider = settings.provider(region()).unwrap().unwrap();
    (zone, fake, provider)
}

fn set_xml(kind: &str, values: &[String]) -> String {
    let mut xml =
        format!("<ResourceRecordSet><Name>{NAME}.</Name><Type>{kind}</Type><TTL>30</TTL><ResourceRecords>");
    for value in values {
        let _ = write!(xml, "<ResourceRecord><Value>{value}</Value></ResourceRecord>");
    }
    xml + "</ResourceRecords></ResourceRecordSet>"
}

fn route53_answer(zone: &mut Zone, asked: &Asked) -> (u16, String) {
    if let Some(refusal) = &zone.refusal {
        return refusal.clone();
    }
    if asked.line.starts_with("GET ") {
        let mut sets: String = zone.sets.iter().map(|(kind, values)| set_xml(kind, values)).collect();
        sets.push_str(&zone.more);
        return (
            200,
            format!(
                "<?xml version=\"1.0\"?>\n<ListResourceRecordSetsResponse \
                 xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><ResourceRecordSets>{sets}\
                 <ResourceRecordSet><Name>zz.example.net.</Name><Type>A</Type><TTL>30</TTL><ResourceRecords>\
                 <ResourceRecord><Value>198.51.100.1</Value></ResourceRecord></ResourceRecords></ResourceRecordSet>\
                 </ResourceRecordSets><IsTruncated>false</IsTruncated><MaxItems>20</MaxItems>\
                 </ListResourceRecordSetsResponse>"
            ),
        );
    }
    if let Some((kind, values)) = zone.meanwhile.take() {
        zone.sets.insert(kind, values);
    }
    // All of a batch, or nothing.
    let mut sets = zone.sets.clone();
    for change in asked.body.split("<Change>").skip(1) {
        let between = |text: &str, tag: &str| -> Vec<String> {
            let opening = format!("<{tag}>");
            let parts = text.split(&opening).skip(1);
            parts.map(|part| part.split('<').next().unwrap().to_owned()).collect()
        };
        assert_eq!(between(change, "Name"), [format!("{NAME}.")]);
        assert_eq!(between(change, "TTL"), ["30"]);
        let (kind, values) = (between(change, "Type").remove(0), between(change, "Value"));
        let is_fine = match between(change, "Action")[0].as_str() {
            "DELETE" => sets.remove(&kind) == Some(values),
            "CREATE" => sets.insert(kind, values).is_none(),
            action => panic!("{action}"),
        };
        if !is_fine {
            let text =
                "Tried to delete resource record set but the values provided do not match the current values";
            return (
                400,
                format!(
                    "<InvalidChangeBatch><Messages><Message>{text}</Message></Messages></InvalidChangeBatch>"
                ),
            );
        }
    }
    zone.sets = sets;
    (200, "<ChangeResourceRecordSetsResponse/>".to_owned())
}

fn is_signed(asked: &Asked) -> bool {
    let authorization = asked.header("authorization");
    let date = asked.header("x-amz-date");
    let scope = format!(
        "Credential=AKIAEXAMPLE/{}/us-east-1/route53/aws4_request",
        date.get(..8).unwrap_or_default()
    );
    let signature = authorization.rsplit_once("Signature=").map_or("", |(_, signature)| signature);
    let signed = authorization.split("SignedHeaders=").nth(1).unwrap_or_default();
    authorization.starts_with("AWS4-HMAC-SHA256 ")
        && authorization.contains(&scope)
        && ["host", "x-amz-date", "x-amz-security-token"].iter().all(|name| signed.contains(name))
        && signature.len() == 64
        && signature.bytes().all(|byte| byte.is_ascii_hexdigit())
        && asked.header("x-amz-security-token") == "for-a-time"
}

#[tokio::test]
async fn route_53_has_what_was_added_and_not_what_was_removed() {
    let (zone, fake, provider) = route53().await;
    assert_eq!(provider.read().await, Ok(addresses(&[])));
    let change = Change { add: addresses(&["192.0.2.1", "192.0.2.2", "2001:db8::1"]), ..Change::default() };
    for _ in 0..2 {
        assert_eq!(provider.change(change.clone()).await, Ok(()));
        assert_eq!(provider.read().await, Ok(change.add.clone()));
    }
    let asked = fake.take();
    assert!(asked.iter().all(is_signed), "{asked:?}");
    let posts: Vec<&Asked> = asked.iter().filter(|asked| asked.line.starts_with("POST ")).collect();
    assert_eq!(posts.len(), 1, "the second changes nothing");
    assert_eq!(posts[0].line, "POST /2013-04-01/hostedzone/Z0123456789ABC/rrset/");
    assert!(asked[0].line.ends_with(&format!("maxitems=20&name={NAME}.&type=A")), "{}", asked[0].line);
    let change = Change { remove: addresses(&["192.0.2.1", "2001:db8::1"]), ..Change::default() };
    assert_eq!(provider.change(change).await, Ok(()));
    assert_eq!(zone.lock().unwrap().sets, BTreeMap::from([("A".to_owned(), vec!["192.0.2.2".to_owned()])]));
    let last = Change {
        remove: addresses(&["192.0.2.2"]),
        only_if: Some(addresses(&["192.0.2.2", "192.0.2.3"])),
        ..Change::default()
    };
    assert_eq!(provider.change(last).await, Err(ProviderError::Changed));
    assert!(provider.compares_exactly());
}

#[tokio::test]
async fn route_53_changes_nothing_that_somebody_changed_meanwhile() {
    let (zone, _fake, provider) = route53().await;
    provider.change(Change { add: addresses(&["192.0.2.1"]), ..Change::default() }).await.unwrap();
    let meanwhile = vec!["192.0.2.1".to_owned(), "192.0.2.9".to_owned()];
    zone.lock().unwrap().meanwhile = Some(("A".to_owned(), meanwhile.clone()));
    let change = Change { add: addresses(&["192.0.2.2"]), ..Change::default() };
    assert_eq!(provider.change(change).await, Err(ProviderError::Changed));
    assert_eq!(zone.lock().unwrap().sets["A"], meanwhile);
}

#[tokio::test]
async fn route_53_says_what_is_wrong_and_shows_no_secret() {
    let (zone, fake, provider) = route53().await;
    for (code, hint) in [
        ("SignatureDoesNotMatch", "is the secret right"),
        ("AccessDenied", "route53:ChangeResourceRecordSets"),
        ("NoSuchHostedZone", "hosted_zone_id"),
        ("Throttling", "look less often"),
    ] {
        let error = format!(
            "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>so it is</Message></Error>\
             <RequestId>1</RequestId></ErrorResponse>"
        );
        zone.lock().unwrap().refusal = Some((403, error));
        let said = provider.read().await.unwrap_err().to_string();
        assert!(said.contains(&format!("{code}: so it is")) && said.contains(hint), "{said}");
        assert!(said.starts_with(&fake.endpoint), "{said}");
    }
    zone.lock().unwrap().refusal = Some((502, "<html>bad gateway</html>".to_owned()));
    assert!(provider.read().await.unwrap_err().to_string().contains("502"));
    zone.lock().unwrap().refusal = Some((200, "rubbish".to_owned()));
    assert!(provider.read().await.unwrap_err().to_string().contains("rubbish"));
    let shown = format!("{provider:?} {:?}", route53_settings(&fake.endpoint));
    assert!(!shown.contains(SECRET) && !shown.contains("for-a-time"), "{shown}");
}

#[tokio::test]
async fn route_53_leaves_names_alone_whose_answer_is_not_simply_theirs() {
    let (zone, fake, provider) = route53().await;
    for inner in [
        "<SetIdentifier>a</SetIdentifier><Weight>1</Weight><TTL>30</TTL><ResourceRecords><ResourceRecord>\
         <Value>192.0.2.7</Value></ResourceRecord></ResourceRecords>",
        "<AliasTarget><HostedZoneId>Z</HostedZoneId><DNSName>lb.example.net.</DNSName></AliasTarget>",
    ] {
        let set = format!("<ResourceRecordSet><Name>{NAME}.</Name><Type>A</Type>{inner}</ResourceRecordSet>");
        zone.lock().unwrap().more = set;
        let change = Change { add: addresses(&["192.0.2.1"]), ..Change::default() };
        let said = provider.change(change).await.unwrap_err().to_string();
        assert!(said.contains("routing policy"), "{said}");
    }
    assert!(fake.take().iter().all(|asked| asked.line.starts_with("GET ")));
}

fn cloudflare_settings(endpoint: &str, zone_id: Option<&str>) -> CloudflareSettings {
    CloudflareSettings {
        token: Secret::new(SECRET),
        zone_id: zone_id.map(str::to_owned),
        endpoint: Some(endpoint.to_owned()),
        timeout: SECOND,
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
                "{{\"id\":\"{kind}:{value}\",\"type\":\"{kind}\",\"name\":\"{NAME}\",\"content\":\"{value}\",\"ttl\":60}}"
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
        assert_eq!(provider.read().await, Ok(change.add.clone()));
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
    assert_eq!(provider.read().await, Ok(addresses(&["192.0.2.2", "2001:db8::1"])));
    assert_eq!(provider.change(swap).await, Err(ProviderError::Changed));
    assert_eq!(zone.lock().unwrap().sets["TXT"], ["something else"]);
    assert!(!provider.compares_exactly());
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
    let said = provider.read().await.unwrap_err().to_string();
    assert!(said.contains("Authentication error (10000)") && said.contains("Zone.DNS"), "{said}");
    zone.lock().unwrap().refusal = Some((200, "{\"success\":true,\"errors\":[],\"result\":[]}".to_owned()));
    let said = provider.read().await.unwrap_err().to_string();
    assert!(said.contains("no zone example.net"), "{said}");
    zone.lock().unwrap().refusal = Some((200, "x".repeat(2_000_000)));
    assert!(provider.read().await.is_err());
    let shown = format!("{provider:?} {:?}", cloudflare_settings(&fake.endpoint, None));
    assert!(!shown.contains(SECRET), "{shown}");
}

#[test]
fn settings_of_services_that_cannot_be_used_are_named() {
    let good = "https://example.net";
    let route53 = |change: fn(&mut Route53Settings)| {
        let mut settings = route53_settings(good);
        change(&mut settings);
        ProviderSettings::Route53(settings).provider(region()).unwrap_err().setting
    };
    assert_eq!(route53(|settings| settings.hosted_zone_id = "a/b".to_owned()), "hosted_zone_id");
    assert_eq!(route53(|settings| settings.access_key_id.clear()), "access_key_id");
    assert_eq!(route53(|settings| settings.endpoint = Some("http://example.net".to_owned())), "endpoint");
    let cloudflare = |region: RegionName, change: fn(&mut CloudflareSettings)| {
        let mut settings = cloudflare_settings(good, Some("023e105f4ecef8ad"));
        change(&mut settings);
        ProviderSettings::Cloudflare(settings).provider(region).unwrap_err().setting
    };
    let short = RegionName::new(NAME, "example.net", 29).unwrap();
    assert_eq!(cloudflare(short, |_| {}), "ttl");
    assert_eq!(cloudflare(cloudflare_region(), |settings| settings.token = Secret::new("a\nb")), "token");
    assert_eq!(
        cloudflare(cloudflare_region(), |settings| settings.zone_id = Some("a/b".to_owned())),
        "zone_id"
    );
    assert!(ProviderSettings::None.provider(region()).unwrap().is_none());
}
