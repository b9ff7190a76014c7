//! Keys by URL: the program against providers that rotate, misbehave and go away.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::{Value, json};

use crate::member::{Member, join};
use crate::provider::{Behaviour, Provider, ProviderKey, certified, http, jwks};
use crate::rig::{Home, Serving, run};

/// A home whose node has no key but those of these URLs.
fn home_of(urls: &[&str], more: &str) -> Home {
    let home = Home::new();
    let urls: Vec<String> = urls.iter().map(|url| format!("\"{url}\"")).collect();
    let text = format!(
        "region = \"eu-central-1\"\naddress_limits.enabled = false\n[tokens]\njwks_urls = [{}]\njwks_min_interval = \"1s\"\n{more}\n",
        urls.join(", ")
    );
    fs::write(home.config(), text).unwrap();
    home
}

fn in_home(home: &Home, name: &str) -> PathBuf {
    home.config().with_file_name(name)
}

fn metric(node: &Serving, line: &str) -> f64 {
    let (_, text) = node.get("/metrics", "");
    let found = text.lines().find_map(|known| known.strip_prefix(line)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("{line} in {text}")).parse().unwrap()
}

fn health(node: &Serving) -> (u16, String) {
    let (status, body) = node.get("/health", "");
    let body: Value = serde_json::from_str(&body).unwrap();
    (status, body["status"].as_str().unwrap().to_owned())
}

#[test]
fn keys_are_there_when_the_node_is_ready_and_after_a_restart_without_the_provider() {
    let key = ProviderKey::new("one");
    let provider = Provider::start(Behaviour::Body(jwks(&[&key])));
    let home = home_of(&[&provider.url()], "jwks_cache = \"jwks.json\"");
    let cache = in_home(&home, "jwks.json");
    let node = Serving::start(&home.config());
    assert_eq!((node.discovery(&key.token()), join(&node, &key.token())), (200, Ok(())));
    assert_eq!(health(&node), (200, "healthy".to_owned()));
    assert_eq!(metric(&node, "pinwire_keys{source=\"fetched\"}"), 1.0);
    assert!(metric(&node, "pinwire_jwks_age_seconds") < 60.0);
    node.logs(&["keys changed", "came=\"ES256 kid \\\"one\\\"\"", "went=\"none\""]);
    assert_eq!(node.end(), 0);
    assert_eq!(fs::metadata(&cache).unwrap().permissions().mode() & 0o777, 0o600);

    provider.behave(http("500 Oh", "", ""));
    let node = Serving::start(&home.config());
    node.logs(&["keys from the cache", "kid \\\"one\\\""]);
    assert_eq!(node.discovery(&key.token()), 200);
    node.logs(&["keys cannot be fetched; those fetched last are used on", "500"]);
    assert_eq!(health(&node), (200, "degraded".to_owned()));
    assert_eq!(node.end(), 0);

    // A cache that is damaged, or that others could have written, is told and not used.
    fs::write(&cache, "{").unwrap();
    let node = Serving::start(&home.config());
    node.logs(&["tokens.jwks_cache", "jwks.json is not used: it is damaged"]);
    assert_eq!(health(&node), (503, "overloaded".to_owned()));
}

#[test]
fn without_provider_and_cache_clients_are_asked_to_come_back_until_there_are_keys() {
    let key = ProviderKey::new("one");
    let provider = Provider::start(http("500 Oh", "", ""));
    let home = home_of(&[&provider.url()], "");
    let node = Serving::start(&home.config());
    node.logs(&["keys cannot be fetched, and none are known from there", "500"]);
    assert_eq!(health(&node), (503, "overloaded".to_owned()));
    assert!(metric(&node, "pinwire_jwks_age_seconds").is_infinite());
    assert_eq!(node.discovery(&key.token()), 503, "it may be a good one");
    assert_eq!(node.knock(&key.token()).1, "503", "before the upgrade");
    provider.behave(Behaviour::Body(jwks(&[&key])));
    // Two threads say so, either first.
    let again = "keys can be fetched again";
    let said = node.logs_until(&["INFO", "all is well"]);
    if !said.iter().any(|line| line.contains(again)) {
        node.logs(&[again]);
    }
    assert_eq!((node.discovery(&key.token()), join(&node, &key.token())), (200, Ok(())));
    assert_eq!(health(&node), (200, "healthy".to_owned()));
}

#[test]
fn a_rotation_under_traffic_refuses_nobody() {
    let first = Arc::new(ProviderKey::new("key-0"));
    let provider = Provider::start(Behaviour::Body(jwks(&[&first])));
    let home = home_of(&[&provider.url()], "");
    let node = Serving::start(&home.config());
    let current = Mutex::new(Arc::clone(&first));
    let (is_over, judged) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for is_socket in [false, false, true, true] {
            let (node, current, is_over, judged) = (&node, &current, &is_over, &judged);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let token = current.lock().unwrap().token();
                    if is_socket {
                        assert_eq!(join(node, &token), Ok(()));
                    } else {
                        assert_eq!(node.discovery(&token), 200);
                    }
                    judged.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut before = first;
        for number in 1..4 {
            // The provider signs with a key from the moment on at which it publishes it.
            let new = Arc::new(ProviderKey::new(&format!("key-{number}")));
            provider.behave(Behaviour::Body(jwks(&[&before, &new])));
            *current.lock().unwrap() = Arc::clone(&new);
            node.logs(&["keys changed", &format!("key-{number}")]);
            before = new;
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(judged.load(Ordering::Relaxed) >= 12);
}

#[test]
fn however_many_tokens_have_unknown_keys_the_provider_is_asked_once_an_interval() {
    let key = ProviderKey::new("good");
    let provider = Provider::start(Behaviour::Body(jwks(&[&key])));
    let home = home_of(&[&provider.url()], "");
    let node = Serving::start(&home.config());
    assert_eq!(node.discovery(&key.token()), 200);
    let start = Instant::now();
    let before = provider.count();
    let mut members = Vec::new();
    for number in 0..300 {
        let bad = ProviderKey::new(&format!("bad-{number}"));
        // What a token names as its keys' place is not asked.
        members.push(Member::join(&node, &bad.token_with(&json!({ "jku": "http://127.0.0.1:9/" }))));
    }
    assert_eq!(join(&node, &key.token()), Ok(()), "good ones do not wait");
    for member in &mut members {
        let (code, reason) = member.until(|_| true).unwrap_err();
        assert_eq!((code, reason.as_str()), (4002, "token signed with an unknown key"));
    }
    let asked = provider.count();
    let most = start.elapsed().as_secs() as usize + 2;
    assert!(before >= 1 && (1..=most).contains(&asked), "{asked} requests, {most} at most");
}

#[test]
fn a_token_with_a_new_key_waits_for_a_slow_provider() {
    let (old, new) = (ProviderKey::new("old"), ProviderKey::new("new"));
    let provider = Provider::start(Behaviour::Body(jwks(&[&old])));
    let home = home_of(&[&provider.url()], "");
    let node = Serving::start(&home.config());
    provider.asked();
    provider.behave(Behaviour::Held(jwks(&[&old, &new])));
    let mut waiting = Member::join(&node, &new.token());
    provider.asked();
    assert_eq!(join(&node, &old.token()), Ok(()), "meanwhile others are served");
    provider.go_on();
    assert_eq!(waiting.until(|_| true).map(drop), Ok(()));
}

#[test]
fn a_key_that_is_withdrawn_is_refused_though_its_tokens_are_remembered() {
    let (old, new) = (ProviderKey::new("old"), ProviderKey::new("new"));
    let provider = Provider::start(Behaviour::Body(jwks(&[&old, &new])));
    let home = home_of(&[&provider.url()], "");
    let node = Serving::start(&home.config());
    let (of_old, of_new) = (old.token(), new.token());
    assert_eq!((join(&node, &of_old), join(&node, &of_new)), (Ok(()), Ok(())));
    provider.asked();
    provider.behave(Behaviour::Body(jwks(&[&new])));
    node.signal("HUP");
    node.logs(&["keys changed", "went=\"ES256 kid \\\"old\\\"\""]);
    assert_eq!(join(&node, &of_new), Ok(()));
    assert_eq!(join(&node, &of_old).unwrap_err().0, 4002);

    // Nothing new: the provider says so, and the same keys hold.
    let mut last = provider.asked();
    node.signal("HUP");
    node.logs(&["configuration reloaded"]);
    while !last.to_ascii_lowercase().contains("if-none-match") {
        last = provider.asked();
    }
    assert_eq!(join(&node, &of_new), Ok(()));
}

#[test]
fn a_reload_takes_other_urls_over_and_failures_are_told_once() {
    let (one, two) = (ProviderKey::new("same"), ProviderKey::new("same"));
    let (first, second) =
        (Provider::start(Behaviour::Body(jwks(&[&one]))), Provider::start(Behaviour::Body(jwks(&[&two]))));
    let home = home_of(&[&first.url()], "");
    let node = Serving::start(&home.config());
    assert_eq!((node.discovery(&one.token()), node.discovery(&two.token())), (200, 401));
    let urls = |urls: &[&Provider]| {
        let urls: Vec<String> = urls.iter().map(|provider| format!("\"{}\"", provider.url())).collect();
        let text = fs::read_to_string(home.config()).unwrap();
        let rest: Vec<&str> = text.lines().filter(|line| !line.starts_with("jwks_urls")).collect();
        fs::write(home.config(), format!("{}\njwks_urls = [{}]\n", rest.join("\n"), urls.join(", ")))
            .unwrap();
        node.signal("HUP");
    };
    urls(&[&first, &second]);
    node.logs(&["two keys have this name", "same"]);
    node.logs(&["keys changed", &second.address.port().to_string()]);
    assert_eq!((node.discovery(&one.token()), node.discovery(&two.token())), (200, 200), "each is tried");
    urls(&[&second]);
    node.logs(&["keys of this URL are used no more", &first.address.port().to_string()]);
    assert_eq!((node.discovery(&one.token()), node.discovery(&two.token())), (401, 200));

    second.behave(http("500 Oh", "", ""));
    node.signal("HUP");
    node.logs(&["WARN", "keys cannot be fetched; those fetched last are used on"]);
    second.count();
    for _ in 0..2 {
        second.asked();
    }
    second.behave(Behaviour::Body(jwks(&[&two])));
    let until_good = node.logs_until(&["keys can be fetched again"]);
    let is_told = |line: &String| line.contains("WARN") && line.contains("jwks");
    assert!(!until_good.iter().any(is_told), "{until_good:#?}");
    assert_eq!(node.discovery(&two.token()), 200);
}

/// What `doctor` says of the URLs of a configuration.
fn doctor(home: &Home) -> (String, String) {
    let (_, told) = run(&["doctor", "--json", "--config", home.config().to_str().unwrap()]);
    let told: Value = serde_json::from_str(&told).unwrap_or_else(|_| panic!("{told}"));
    let findings = told["findings"].as_array().unwrap();
    let finding = findings.iter().find(|finding| finding["code"] == "jwks").unwrap();
    (finding["outcome"].as_str().unwrap().to_owned(), finding["found"].as_str().unwrap().to_owned())
}

#[test]
fn whatever_a_provider_answers_is_bounded_and_told() {
    let key = ProviderKey::new("one");
    let good = jwks(&[&key]);
    let provider = Provider::start(Behaviour::Body(good.clone()));
    let home = home_of(&[&provider.url()], "jwks_deadline = \"1s\"");
    assert_eq!(doctor(&home), ("good".to_owned(), format!("{} gives 1 keys", provider.url())));
    let to = |location: &str| http("302 Found", &format!("Location: {location}\r\n"), "");
    let oct = r#"{"keys":[{"kty":"oct","alg":"HS256","k":"c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}]}"#;
    let json = "Content-Type: application/json\r\n";
    let cases = [
        (http("500 Oh", "", ""), "answered 500"),
        (http("404 Not Found", "", ""), "answered 404"),
        (http("304 Not Modified", "", ""), "answered 304"),
        (http("204 No Content", "", ""), "answered 204"),
        (to("/keys"), "more than 3 redirects, the last to http://localhost:"),
        (to("http://keys.example.com/"), "it redirects to http://keys.example.com/, which is without TLS"),
        (to("//keys.example.com/"), "it redirects to http://keys.example.com/, which is without TLS"),
        (to("file:///etc/passwd"), "it redirects to file:///etc/passwd, which"),
        (to("ftp://localhost/"), "which begins with ftp; only https:// is fetched"),
        (http("302 Found", "", ""), "answered 302"),
        (Behaviour::Endless, "the answer has more than 512 KiB"),
        (
            http("200 OK", "Content-Length: 999999999\r\n", &" ".repeat(600 << 10)),
            "the answer has more than 512 KiB",
        ),
        (http("200 OK", "Content-Length: 100\r\n", "{"), "the answer broke off"),
        (http("200 OK", json, "keys, they said"), "not a JWKS: expected"),
        (http("200 OK", json, "{}"), "no array `keys`"),
        (http("200 OK", json, r#"{"keys":[]}"#), "no usable key in the JWKS: it is empty"),
        (http("200 OK", json, oct), "a secret that is published is none"),
        (http("200 OK", "Content-Type: text/html\r\n", "<html>Sign in</html>"), "(the answer is text/html)"),
        (http("200 OK", "Content-Encoding: gzip\r\n", "\u{1f}"), "encoded (gzip)"),
        (Behaviour::Raw("SSH-2.0-OpenSSH\r\n".to_owned()), "invalid HTTP"),
        (Behaviour::Raw(String::new()), "connection closed before message completed"),
        (Behaviour::Hang(String::new()), "no whole answer within 1s"),
        (
            Behaviour::Hang("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{".to_owned()),
            "no whole answer within 1s",
        ),
    ];
    for (behaviour, words) in cases {
        provider.behave(behaviour);
        let (outcome, found) = doctor(&home);
        assert!(outcome == "fail" && found.contains(words), "{words} in {found}");
    }
    // A redirect within the host is followed, and what of a set cannot be used is told.
    let other = Provider::start(Behaviour::Body(good));
    provider.behave(to(&other.url()));
    assert_eq!(doctor(&home).0, "good");
    let mut mixed: Value = serde_json::from_str(&jwks(&[&key])).unwrap();
    mixed["keys"].as_array_mut().unwrap().push(json!({ "kty": "RSA", "kid": "enc", "use": "enc" }));
    other.behave(Behaviour::Body(mixed.to_string()));
    let (outcome, found) = doctor(&home);
    assert!(outcome == "warn" && found.contains("keys[1] (kid \"enc\"): it is for \"enc\""), "{found}");
}

#[test]
fn a_provider_is_believed_only_with_a_certificate_that_an_authority_vouches_for() {
    let key = ProviderKey::new("one");
    let (authority, good, expired) = certified();
    let provider = Provider::start_with(Behaviour::Body(jwks(&[&key])), Some(good));
    let late = Provider::start_with(Behaviour::Body(jwks(&[&key])), Some(expired));
    let plain = Provider::start(http("302 Found", &format!("Location: {}\r\n", provider.url()), ""));
    let home = |url: &str, ca: &str| {
        let home = home_of(&[url], ca);
        fs::write(in_home(&home, "ca.pem"), &authority).unwrap();
        home
    };
    const WITH: &str = "jwks_ca_file = \"ca.pem\"";
    assert_eq!(doctor(&home(&provider.url(), WITH)).0, "good");
    assert_eq!(doctor(&home(&plain.url(), WITH)).0, "good", "into TLS");
    let fails = |url: &str, ca: &str, words: &str| {
        let (outcome, found) = doctor(&home(url, ca));
        assert!(outcome == "fail" && found.contains(words), "{words} in {found}");
    };
    fails(&late.url(), WITH, "certificate expired");
    fails(&provider.url(), "", "UnknownIssuer");
    fails(
        &provider.url().replace("localhost", "127.0.0.1"),
        WITH,
        "certificate not valid for name \"127.0.0.1\"",
    );
    provider.behave(http("302 Found", &format!("Location: {}\r\n", plain.url()), ""));
    fails(&provider.url(), WITH, "out of TLS");
    provider.behave(Behaviour::Body(jwks(&[&key])));
    let home = home(&provider.url(), WITH);
    assert_eq!(Serving::start(&home.config()).discovery(&key.token()), 200);
}

#[test]
fn a_token_is_verified_with_the_keys_that_a_configuration_fetches() {
    let key = ProviderKey::new("one");
    let provider = Provider::start(Behaviour::Body(jwks(&[&key])));
    let home = home_of(&[&provider.url()], "jwks_cache = \"jwks.json\"");
    let file = home.config();
    let verify = |token: &str| run(&["token", "verify", token, "--config", file.to_str().unwrap()]);
    let (status, told) = verify(&key.token_with(&json!({ "documents": ["notes-*"] })));
    assert!(
        status == 0 && told.contains("signed with: ES256 kid \"one\"") && told.contains("documents: notes-*"),
        "{told}"
    );
    let (status, told) = verify(&ProviderKey::new("two").token());
    assert!(status == 1 && told.contains("refused with 4002: token signed with an unknown key"), "{told}");
    assert!(told.contains("kid \"two\"; the keys are: ES256 kid \"one\""), "{told}");
    let elsewhere = key.token_with(&json!({ "regions": ["us-east-1"] }));
    let (status, told) = verify(&elsewhere);
    assert!(
        status == 1 && told.contains("regions is [\"us-east-1\"], this node's is \"eu-central-1\""),
        "{told}"
    );

    // What a node left in its cache is used where the provider is down.
    assert_eq!(Serving::start(&file).end(), 0);
    provider.behave(http("500 Oh", "", ""));
    let (status, told) = verify(&key.token());
    assert!(
        status == 0 && told.contains("note: ") && told.contains("its keys from the cache are used"),
        "{told}"
    );
    fs::remove_file(in_home(&home, "jwks.json")).unwrap();
    let (status, told) = verify(&key.token());
    assert!(
        status == 1 && told.contains("cannot be fetched") && told.contains("the keys are: none"),
        "{told}"
    );
    fs::write(&file, "region = 5").unwrap();
    assert_eq!(verify(&key.token()).0, 2, "nothing to judge it with");
}
