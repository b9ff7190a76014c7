//! Route 53: batches that are all or nothing, signatures, and where the keys come from.

use super::{PATIENCE, SECRET, Shared, Zone};
use crate::rig::{Asked, Fake, NAME, addresses, read, region};
use pinwire_dns::{
    AwsCredentials, Change, Provider, ProviderError, ProviderSettings, Route53Settings, Secret,
};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

fn route53_settings(endpoint: &str) -> Route53Settings {
    Route53Settings {
        credentials: AwsCredentials::Keys {
            access_key_id: "AKIAEXAMPLE".to_owned(),
            secret_access_key: Secret::new(SECRET),
            session_token: Some(Secret::new("for-a-time")),
        },
        hosted_zone_id: "Z0123456789ABC".to_owned(),
        region: None,
        endpoint: Some(endpoint.to_owned()),
        timeout: PATIENCE,
    }
}

async fn route53() -> (Shared, Fake, Box<dyn Provider>) {
    let zone = Shared::default();
    let kept = Arc::clone(&zone);
    let fake = Fake::start(move |asked| route53_answer(&mut kept.lock().unwrap(), asked)).await;
    let provider = provider(route53_settings(&fake.endpoint));
    (zone, fake, provider)
}

fn provider(settings: Route53Settings) -> Box<dyn Provider> {
    ProviderSettings::Route53(settings).provider(region()).unwrap().unwrap()
}

fn ttl_s(zone: &Zone, values: &[String]) -> u32 {
    if values.iter().any(|value| zone.slow.contains(value)) { 86_400 } else { 30 }
}

fn set_xml(kind: &str, values: &[String], ttl_s: u32) -> String {
    let mut xml = format!(
        "<ResourceRecordSet><Name>{NAME}.</Name><Type>{kind}</Type><TTL>{ttl_s}</TTL><ResourceRecords>"
    );
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
        let set = |(kind, values): (&String, &Vec<String>)| set_xml(kind, values, ttl_s(zone, values));
        let mut sets: String = zone.sets.iter().map(set).collect();
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
        let (kind, values) = (between(change, "Type").remove(0), between(change, "Value"));
        let ttl = between(change, "TTL").remove(0);
        let is_fine = match between(change, "Action")[0].as_str() {
            "DELETE" => {
                let is_same = ttl == ttl_s(zone, &values).to_string();
                values.iter().for_each(|value| _ = zone.slow.remove(value));
                is_same && sets.remove(&kind) == Some(values)
            }
            "CREATE" => ttl == "30" && sets.insert(kind, values).is_none(),
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
    assert_eq!(read(&*provider).await, Ok(addresses(&[])));
    let change = Change { add: addresses(&["192.0.2.1", "192.0.2.2", "2001:db8::1"]), ..Change::default() };
    for _ in 0..2 {
        assert_eq!(provider.change(change.clone()).await, Ok(()));
        assert_eq!(read(&*provider).await, Ok(change.add.clone()));
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
async fn route_53_puts_a_ttl_right_that_somebody_made_longer() {
    let (zone, fake, provider) = route53().await;
    let change = Change { add: addresses(&["192.0.2.1", "192.0.2.2", "2001:db8::1"]), ..Change::default() };
    provider.change(change.clone()).await.unwrap();
    zone.lock().unwrap().slow.insert("192.0.2.1".to_owned());
    let held = provider.read().await.unwrap();
    assert_eq!(held.slow, addresses(&["192.0.2.1", "192.0.2.2"]), "a set has one");
    let own = Change { add: addresses(&["192.0.2.2"]), ..Change::default() };
    assert_eq!(provider.change(own.clone()).await, Ok(()));
    let held = provider.read().await.unwrap();
    assert_eq!((held.addresses, held.slow), (change.add, addresses(&[])));
    fake.take();
    assert_eq!(provider.change(own).await, Ok(()));
    assert!(fake.take().iter().all(|asked| asked.line.starts_with("GET ")), "nothing is changed again");
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
        let said = read(&*provider).await.unwrap_err().to_string();
        assert!(said.contains(&format!("{code}: so it is")) && said.contains(hint), "{said}");
        assert!(said.starts_with(&fake.endpoint), "{said}");
    }
    zone.lock().unwrap().refusal = Some((502, "<html>bad gateway</html>".to_owned()));
    assert!(read(&*provider).await.unwrap_err().to_string().contains("502"));
    zone.lock().unwrap().refusal = Some((200, "rubbish".to_owned()));
    assert!(read(&*provider).await.unwrap_err().to_string().contains("rubbish"));
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

/// Somewhere that gives keys; each time others, which end in so many seconds.
async fn keys_for(seconds: i64) -> (Arc<Mutex<u32>>, Fake) {
    let given = Arc::new(Mutex::new(0));
    let count = Arc::clone(&given);
    let fake = Fake::start(move |asked| match asked.line.as_str() {
        "PUT /latest/api/token" => {
            assert_eq!(asked.header("x-aws-ec2-metadata-token-ttl-seconds"), "60");
            (200, "a-token".to_owned())
        }
        "GET /latest/meta-data/iam/security-credentials/" => {
            assert_eq!(asked.header("x-aws-ec2-metadata-token"), "a-token");
            (200, "dns-role\n".to_owned())
        }
        "GET /latest/meta-data/iam/security-credentials/dns-role" | "GET /v1/credentials" => {
            let is_instance = asked.header("x-aws-ec2-metadata-token") == "a-token";
            assert!(is_instance || asked.header("authorization") == "a-jwt");
            *count.lock().unwrap() += 1;
            let end = time::OffsetDateTime::now_utc() + time::Duration::seconds(seconds);
            let end = end.format(&time::format_description::well_known::Rfc3339).unwrap();
            let keys = format!(
                "{{\"Code\":\"Success\",\"AccessKeyId\":\"AKIAEXAMPLE\",\"SecretAccessKey\":\"{SECRET}\",\
                 \"Token\":\"for-a-time\",\"Expiration\":\"{end}\"}}"
            );
            (200, keys)
        }
        line => panic!("{line}"),
    })
    .await;
    (given, fake)
}

fn with(credentials: AwsCredentials, endpoint: &str) -> Box<dyn Provider> {
    provider(Route53Settings { credentials, ..route53_settings(endpoint) })
}

#[tokio::test]
async fn the_role_of_the_instance_signs_as_long_as_its_keys_last() {
    let (_zone, service, _) = route53().await;
    for (lasts_s, fetched) in [(3600, 1), (60, 3)] {
        let (given, keys) = keys_for(lasts_s).await;
        let provider =
            with(AwsCredentials::Instance { endpoint: Some(keys.endpoint.clone()) }, &service.endpoint);
        for _ in 0..3 {
            assert_eq!(read(&*provider).await, Ok(addresses(&[])));
        }
        assert_eq!(*given.lock().unwrap(), fetched);
        let asked = service.take();
        assert_eq!(asked.len(), 3);
        assert!(asked.iter().all(is_signed), "{asked:?}");
        assert!(!format!("{provider:?}").contains(SECRET));
    }
}

#[tokio::test]
async fn the_role_of_the_container_signs_and_keys_that_are_not_taken_are_fetched_anew() {
    let (zone, service, _) = route53().await;
    let (given, keys) = keys_for(3600).await;
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, "a-jwt\n").unwrap();
    let credentials = AwsCredentials::Container {
        uri: format!("{}/v1/credentials", keys.endpoint),
        token_file: Some(token_file),
    };
    let provider = with(credentials, &service.endpoint);
    assert_eq!(read(&*provider).await, Ok(addresses(&[])));
    let error =
        "<ErrorResponse><Error><Code>ExpiredToken</Code><Message>old</Message></Error></ErrorResponse>";
    zone.lock().unwrap().refusal = Some((403, error.to_owned()));
    assert!(read(&*provider).await.is_err());
    zone.lock().unwrap().refusal = None;
    assert_eq!(read(&*provider).await, Ok(addresses(&[])));
    assert_eq!(*given.lock().unwrap(), 2);
}

#[tokio::test]
async fn a_role_that_is_not_there_is_told() {
    let (_zone, service, _) = route53().await;
    let none = Fake::start(|_| (404, "not found".to_owned())).await;
    let credentials = AwsCredentials::Instance { endpoint: Some(none.endpoint.clone()) };
    let said = with(credentials, &service.endpoint).read().await.unwrap_err().to_string();
    assert!(said.contains("404") && said.contains("give the instance a role"), "{said}");
    let odd = Fake::start(|_| (200, format!("{{\"SecretAccessKey\":\"{SECRET}\"}}"))).await;
    let credentials = AwsCredentials::Container { uri: odd.endpoint.clone(), token_file: None };
    let said = with(credentials, &service.endpoint).read().await.unwrap_err().to_string();
    assert!(said.contains("no keys") && !said.contains(SECRET), "{said}");
    assert!(service.take().is_empty());
}

#[test]
fn settings_that_cannot_be_used_are_named() {
    let fault = |change: fn(&mut Route53Settings)| {
        let mut settings = route53_settings("https://example.net");
        change(&mut settings);
        ProviderSettings::Route53(settings).provider(region()).unwrap_err().setting
    };
    assert_eq!(fault(|settings| settings.hosted_zone_id = "a/b".to_owned()), "hosted_zone_id");
    assert_eq!(fault(|settings| settings.endpoint = Some("http://example.net".to_owned())), "endpoint");
    let empty = |settings: &mut Route53Settings| {
        settings.credentials = AwsCredentials::Keys {
            access_key_id: "AKIAEXAMPLE".to_owned(),
            secret_access_key: Secret::new(""),
            session_token: None,
        };
    };
    assert_eq!(fault(empty), "access_key_id");
}
