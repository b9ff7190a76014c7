//! URLs of servers: what they say, and what is said about wrong ones.

#![allow(missing_docs, reason = "a test")]

use pinwire_redis::{Endpoint, Kind};

fn parsed(url: &str) -> Endpoint {
    url.parse().unwrap_or_else(|error| panic!("{url}: {error}"))
}

#[test]
fn urls_name_servers_and_show_no_secrets() {
    for (url, shown) in [
        ("redis://localhost", "redis://localhost:6379"),
        ("redis://me:secret@host:1/3", "redis://me@host:1/3"),
        ("rediss://:secret@[::1]:7000", "rediss://[::1]:7000"),
        (
            "redis+sentinel://me:secret@a,b:2/pins?sentinel_password=secret",
            "redis+sentinel://me@a:26379,b:2/pins",
        ),
        ("rediss+cluster://a:1,b:2?ca=/etc/ca.pem", "rediss+cluster://a:1,b:2"),
    ] {
        let endpoint = parsed(url);
        assert_eq!(endpoint.to_string(), shown);
        assert!(!format!("{endpoint:?}").contains("secret"));
    }
    assert_eq!(parsed("redis+sentinel://a/pins").kind(), &Kind::Sentinel { master: "pins".to_owned() });
    assert_eq!(parsed("redis+cluster://a:1,b").hosts()[1].to_string(), "b:6379");
}

#[test]
fn wrong_urls_say_what_to_write() {
    for (url, mend) in [
        ("localhost:6379", "redis://host:port"),
        ("http://localhost", "rediss://"),
        ("redis+ring://localhost", "redis+cluster://"),
        ("redis://a,b", "redis+sentinel://"),
        ("redis+sentinel://a,b", "/mymaster"),
        ("redis+cluster://a/1", "one database"),
        ("redis://a:none", "1 to 65535"),
        ("redis://:1", "host:port"),
        ("redis://a/x", "number"),
        ("redis://a?ca=x", "rediss://"),
        ("redis://me@a", "password"),
        ("redis://a?passwort=x", "password_file"),
        ("redis://a?password_file=/does/not/exist", "may read"),
    ] {
        let error = url.parse::<Endpoint>().expect_err(url).to_string();
        assert!(error.contains(mend), "{url}: {error}");
    }
}

#[test]
fn a_password_may_come_from_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("password");
    std::fs::write(&file, "secret\n").expect("a file");
    parsed(&format!("redis://me@host?password_file={}", file.display()));
    std::fs::write(&file, "\n").expect("a file");
    let error =
        format!("redis://me@host?password_file={}", file.display()).parse::<Endpoint>().expect_err("empty");
    assert!(error.to_string().contains("is empty"), "{error}");
}
