//! `doctor` with real servers of Redis, other nodes and other regions.

use std::fs;
use std::time::Instant;

use pinwire_redis::rig::{ClusterRig, Options, SentinelRig, ServerRig};
use serde_json::Value;
use tempfile::TempDir;

use crate::rig::{PATIENCE, Serving, run};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const PAGES: [&str; 2] =
    [include_str!("../../../docs/registry.md"), include_str!("../../../docs/sessions.md")];

struct Findings(Vec<Value>);

impl Findings {
    /// The one of this code that speaks of `whose`: its outcome, and all that it says.
    fn of(&self, code: &str, whose: &str) -> (String, String) {
        let text = |finding: &Value, field: &str| finding[field].as_str().unwrap_or_default().to_owned();
        let found = self.0.iter().find(|finding| {
            finding["code"] == code && (text(finding, "found") + &text(finding, "mend")).contains(whose)
        });
        let found = found.unwrap_or_else(|| panic!("no {code} of {whose} in {:#?}", self.0));
        assert_eq!(found["page"], format!("docs/doctor.md#{code}"));
        (text(found, "outcome"), format!("{} mend: {}", text(found, "found"), text(found, "mend")))
    }

    fn is(&self, code: &str, whose: &str, outcome: &str, words: &[&str]) {
        let (found, text) = self.of(code, whose);
        assert_eq!(found, outcome, "{code}: {text}");
        for word in words {
            assert!(text.contains(word), "{word} in {text}");
        }
    }
}

fn config(registry: &str, session: &str, more: &str) -> String {
    format!(
        "region = \"here-1\"\n[tokens]\nsecret_file = \"secret\"\n[cluster]\nregistry = \"redis\"\nnode = \"doctor-1\"\n\
         session = \"{session}\"\n{more}\n[cluster.registries]\n\"aws-eu-west-1\" = \"{registry}\"\n"
    )
}

/// What doctor says of a configuration, and its exit status.
fn examined(folder: &TempDir, config: &str) -> (i32, Findings) {
    fs::write(folder.path().join("secret"), SECRET).unwrap();
    let file = folder.path().join("doctor.toml");
    fs::write(&file, config).unwrap();
    let (status, told) = run(&["doctor", "--json", "--config", file.to_str().unwrap()]);
    let all: Value = serde_json::from_str(&told).unwrap_or_else(|_| panic!("{told}"));
    assert_eq!(all["status"], status);
    (status, Findings(all["findings"].as_array().unwrap().clone()))
}

fn examine(registry: &str, session: &str, more: &str) -> Findings {
    examined(&tempfile::tempdir().unwrap(), &config(registry, session, more)).1
}

/// Makes the documented users on a server.
fn make_users(server: &ServerRig) {
    for line in PAGES.iter().flat_map(|page| page.lines()).filter(|line| line.starts_with("ACL SETUSER ")) {
        let parts: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(server.command(&parts), "+OK\r\n", "{line}");
    }
}

/// The URL with a documented user.
fn with_user(url: &str, user: &str) -> String {
    url.replacen("://", &format!("://{user}@"), 1)
}

const REGISTRY_USER: &str = "pinwire:secret";
const SESSIONS_USER: &str = "pinwire-sessions:PASSWORD";

#[test]
fn single_servers_and_what_their_users_may_not_do() {
    let server = ServerRig::start(&Options { durable: true, ..Options::default() });
    make_users(&server);
    let good =
        examine(&with_user(&server.url(), REGISTRY_USER), &with_user(&server.url(), SESSIONS_USER), "");
    for whose in ["registry aws-eu-west-1", "sessions"] {
        for code in ["redis", "redis-version", "redis-rights", "redis-memory", "redis-disk"] {
            good.is(code, whose, "good", &[]);
        }
        good.is("redis-replicas", whose, "warn", &["has no replica"]);
    }
    good.is("redis-schema", "registry", "good", &["revision 1", "no node lives"]);
    assert_eq!(server.command(&["DBSIZE"]), ":0\r\n", "nothing is left behind");

    server.command(&["ACL", "SETUSER", "pinwire", "-zadd", "-evalsha", "-hget"]);
    server.command(&["ACL", "SETUSER", "pinwire-sessions", "-subscribe", "-del"]);
    let bad = examine(&with_user(&server.url(), REGISTRY_USER), &with_user(&server.url(), SESSIONS_USER), "");
    bad.is(
        "redis-rights",
        "registry",
        "fail",
        &["ACL SETUSER pinwire +evalsha +hget +zadd,", "docs/registry.md"],
    );
    bad.is("redis-rights", "sessions", "fail", &["ACL SETUSER pinwire-sessions +del +subscribe,"]);

    server.command(&["ACL", "SETUSER", "pinwire", "resetkeys", "~other:*", "+zadd", "+evalsha", "+hget"]);
    server.command(&["ACL", "SETUSER", "pinwire-sessions", "resetchannels", "+subscribe", "+del"]);
    let bad = examine(&with_user(&server.url(), REGISTRY_USER), &with_user(&server.url(), SESSIONS_USER), "");
    bad.is("redis-rights", "registry", "fail", &["~pinwire:1:*"]);
    bad.is("redis-rights", "sessions", "fail", &["&pinwire:1:*"]);
}

#[test]
fn what_is_wrong_with_a_server_is_told_with_its_mend() {
    let more = ["--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru"].map(str::to_owned).to_vec();
    let evicting = ServerRig::start(&Options { more, ..Options::default() });
    let later = ServerRig::start(&Options::default());
    later.command(&["SET", "pinwire:1:{apps-00}:revision", "99"]);
    let found = examine(&later.url(), &evicting.url(), "");
    found.is("redis-memory", "sessions", "fail", &["allkeys-lru", "CONFIG SET maxmemory-policy noeviction"]);
    found.is("redis-schema", "registry", "fail", &["revision 99", "later version"]);
    found.is("redis-disk", "registry", "warn", &["records of apps", "appendonly yes"]);

    let (closed, wrong) = ("redis://127.0.0.1:1", with_user(&later.url(), "nobody:here"));
    let folder = tempfile::tempdir().unwrap();
    let (status, found) = examined(&folder, &config(closed, &wrong, ""));
    assert_eq!(status, 2);
    found.is("redis", "registry", "fail", &["127.0.0.1:1", "cluster.registries.aws-eu-west-1"]);
    found.is("redis", "sessions", "fail", &["cluster.session", "ACL LIST"]);
    let told = format!("{:?}", found.0);
    assert!(!told.contains("here@") && !told.contains("nobody:here"), "{told}");

    // One that hangs does not hang the check.
    later.pause();
    let began = Instant::now();
    let found = examine(&later.url(), &later.url(), "");
    found.is("redis", "sessions", "fail", &["no connection within"]);
    assert!(began.elapsed() < PATIENCE);
    later.resume();
}

#[test]
fn sentinels_and_a_lease_that_is_too_short_for_them() {
    let mut rig = SentinelRig::start(std::time::Duration::from_millis(500));
    let found = examine(&rig.url(), &rig.url(), "lease = \"20s\"");
    for whose in ["registry", "sessions"] {
        found.is("redis-sentinel", whose, "good", &["2 replicas, 3 sentinels and a quorum of 2"]);
        found.is("redis-replicas", whose, "good", &["keeps up"]);
    }
    found.is("redis-lease", "registry", "good", &["2.5 s", "20 s"]);
    let found = examine(&rig.url(), &rig.url(), "lease = \"6s\"\nrenew = \"2s\"");
    found.is("redis-lease", "registry", "warn", &["cluster.lease is 6 s", "cluster.lease = \"8s\""]);

    let unknown = rig.url().replace("/pins", "/other");
    examine(&rig.url(), &unknown, "").is("redis-sentinel", "sessions", "fail", &["No such master"]);

    let replica = rig.servers()[1].port();
    rig.servers()[1].command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    let found = examine(&rig.url(), &rig.url(), "");
    found.is("redis-replicas", "registry", "warn", &[&replica.to_string(), "allkeys-lru"]);
    rig.master().command(&["ACL", "SETUSER", "only-here", "on", ">x", "~*", "&*", "+@all"]);
    let found = examine(&with_user(&rig.url(), "only-here:x"), &rig.url(), "");
    found.is("redis-replicas", "registry", "warn", &["of no use to this node if it takes over"]);
}

#[test]
fn a_cluster_and_slots_that_nobody_has() {
    let rig = ClusterRig::start();
    rig.servers().iter().for_each(make_users);
    let registry = with_user(&rig.url(), REGISTRY_USER);
    let sessions = with_user(&rig.url(), SESSIONS_USER);
    let found = examine(&registry, &sessions, "");
    for whose in ["registry", "sessions"] {
        found.is("redis-slots", whose, "good", &["3 masters have 16384 of 16384 slots"]);
        found.is("redis-rights", whose, "good", &[]);
        found.is("redis-replicas", whose, "warn", &["nobody can take its place"]);
    }
    rig.servers()[2].command(&["ACL", "SETUSER", "pinwire", "-hmget"]);
    let found = examine(&registry, &sessions, "");
    let third = rig.servers()[2].port().to_string();
    found.is("redis-rights", "registry", "fail", &[&third, "+hmget"]);
    for server in rig.servers() {
        server.command(&["CLUSTER", "DELSLOTS", "5"]);
    }
    let found = examine(&registry, &sessions, "");
    found.is("redis-slots", "registry", "fail", &["16383 of 16384"]);
}

#[test]
fn other_nodes_and_other_regions() {
    let server = ServerRig::start(&Options::default());
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("secret"), SECRET).unwrap();
    fs::write(folder.path().join("peers"), SECRET).unwrap();
    fs::write(folder.path().join("strangers"), SECRET.replace('0', "f")).unwrap();
    let peers = |secret: &str| format!("peer_listen = \"127.0.0.1:0\"\npeer_secret_file = \"{secret}\"");
    let there = config(&server.url(), &server.url(), &peers("peers"))
        .replace("here-1", "there-1")
        .replace("doctor-1", "there-a");
    let file = folder.path().join("there.toml");
    fs::write(&file, there).unwrap();
    let node = Serving::start(&file);
    let url = node.ready["regions"][0]["ws_url"].as_str().unwrap().to_owned();
    let regions = format!(
        "[[regions]]\nname = \"there-1\"\nurl = \"{url}\"\n[[regions]]\nname = \"gone-1\"\nurl = \"ws://127.0.0.1:1\"\n"
    );
    let here = config(&server.url(), &server.url(), &peers("peers")) + &regions;
    let (_, found) = examined(&folder, &here);
    found.is("peers", "other nodes", "good", &["there-1/there-a", "lets this node in"]);
    found.is("regions", "other regions", "warn", &["gone-1 does not answer"]);
    found.is("regions", "does not have here-1", "warn", &[]);
    found.is("redis-schema", "registry", "good", &["1 of version 0.1.0"]);
    let (_, found) =
        examined(&folder, &(config(&server.url(), &server.url(), &peers("strangers")) + &regions));
    found.is("peers", "other nodes", "fail", &["there-1/there-a", "cluster.peer_secret_file"]);
}
