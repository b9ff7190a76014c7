//! The same on Redis.

use crate::ask::*;
use crate::{compare, rules};
use pinwire_redis::rig::{ClusterRig, Options, SentinelRig, ServerRig};
use pinwire_redis::{Link, Settings};
use pinwire_registry::{Claim, Claimed, RedisRegistry, Registry, Request};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

/// The rights that docs/registry.md names: enough, and no more.
const ACL: &str = include_str!("../../../docs/registry.md");

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

#[tokio::test]
async fn a_server_keeps_the_rules() {
    let server = ServerRig::start(&Options::default());
    rules::all(&RedisRegistry::new(server.link())).await;
    let connections = || RedisRegistry::new(server.link());
    rules::race(&[connections(), connections(), connections(), connections()]).await;
}

#[tokio::test]
async fn a_cluster_keeps_the_rules() {
    let rig = ClusterRig::start();
    rules::all(&RedisRegistry::new(rig.link())).await;
    let connections = || RedisRegistry::new(rig.link());
    rules::race(&[connections(), connections(), connections(), connections()]).await;
}

#[tokio::test]
async fn a_user_with_the_documented_rights_keeps_the_rules_over_tls() {
    let server = ServerRig::start(&Options { tls: true, ..Options::default() });
    let line = ACL
        .lines()
        .find(|line| line.starts_with("ACL SETUSER pinwire "))
        .expect("the line in the documentation");
    let parts: Vec<&str> = line.split_whitespace().collect();
    assert!(server.command(&parts).starts_with("+OK"), "{line}");
    let password = parts.iter().find_map(|part| part.strip_prefix('>')).expect("a password");
    let url = server.tls_url(&format!("pinwire:{password}@"));
    let link = Link::new(url.parse().expect("a URL"), Settings::default()).expect("a link");
    rules::all(&RedisRegistry::new(link.clone())).await;
    // Nothing outside the registry's keys.
    let mut command = pinwire_redis::cmd("GET");
    command.arg("another:key");
    assert!(link.call(b"another:key", &command).await.is_err());
}

#[test]
fn random_sequences_have_the_same_answers_from_a_server_and_from_memory() {
    let server = ServerRig::start(&Options::default());
    let runtime = runtime();
    let registry = runtime.block_on(async { RedisRegistry::new(server.link()) });
    compare::compare(&runtime, &registry, 150);
}

#[test]
fn random_sequences_have_the_same_answers_from_a_cluster_and_from_memory() {
    let rig = ClusterRig::start();
    let runtime = runtime();
    let registry = runtime.block_on(async { RedisRegistry::new(rig.link()) });
    compare::compare(&runtime, &registry, 40);
}

/// Asks until there is an answer: while a server comes back, or another one takes over.
async fn renew_until_answered(
    registry: &RedisRegistry,
    node: &pinwire_registry::Node,
) -> pinwire_registry::Answer {
    let began = Instant::now();
    let mut pause = tokio::time::interval(Duration::from_millis(50));
    loop {
        let request =
            Request::Renew { node: node.clone(), lease_us: LEASE, apps: Vec::new(), versions: Vec::new() };
        match registry.ask(request).await {
            Ok(answer) => return answer,
            Err(error) => assert!(began.elapsed() < PATIENCE, "{}", error.reason),
        }
        pause.tick().await;
    }
}

#[tokio::test]
async fn under_sentinel_the_rules_hold_and_a_switch_shows_in_the_history() {
    let mut rig = SentinelRig::start(Duration::from_millis(300));
    let registry = RedisRegistry::new(rig.link());
    rules::all(&registry).await;
    let eu = new_node(&registry, "eu", "survivor").await;
    let doc = document("t::switch", "doc");
    let held = pin(&registry, &eu, &doc).await;
    let before = renew(&registry, &eu).await.history;
    let port = rig.master().port();
    // What was claimed has to have reached a replica: this test is about the switch.
    rig.master().command(&["WAIT", "2", "5000"]);
    rig.master().kill();
    rig.wait_for_other_master(port);
    let pinwire_registry::Answer::Renewed(renewed) = renew_until_answered(&registry, &eu).await else {
        panic!("the switch forgot the node");
    };
    assert_ne!(renewed.history, before);
    assert_eq!(claim(&registry, &eu, &doc).await, Claimed::Held { claim: held, is_new: false });
}

#[tokio::test]
async fn a_server_that_comes_back_empty_shows_and_is_filled_again() {
    let mut server = ServerRig::start(&Options::default());
    let registry = RedisRegistry::new(server.link());
    let (eu, us) = (new_node(&registry, "eu", "e1").await, new_node(&registry, "us", "u1").await);
    let doc = document("t::empty", "doc");
    let held = pin(&registry, &eu, &doc).await;
    server.restart();
    assert_eq!(renew_until_answered(&registry, &eu).await, pinwire_registry::Answer::Unknown);
    let again = new_node(&registry, "eu", "e1").await;
    let asserted = assert_pins(&registry, &again, &[(doc.clone(), held)]).await;
    assert_eq!(asserted, Some(vec![pinwire_registry::Asserted::Held(held)]));
    assert_eq!(renew_until_answered(&registry, &us).await, pinwire_registry::Answer::Unknown);
    let us = new_node(&registry, "us", "u1").await;
    assert_eq!(refused(&registry, &us, &doc).await.claim, held);
}

#[tokio::test]
async fn pins_of_a_dead_node_are_swept_in_pieces_and_leave_nothing_behind() {
    let server = ServerRig::start(&Options::default());
    let registry = RedisRegistry::new(server.link());
    let eu = new_node(&registry, "eu", "e1").await;
    let pins: Vec<_> = (0..3000)
        .map(|index| (document("t::sweep", &index.to_string()), Claim { epoch: 1, nonce: 1 }))
        .collect();
    for piece in pins.chunks(200) {
        assert_pins(&registry, &eu, piece).await.expect("registered");
    }
    assert_eq!(usage(&registry, "t::sweep").await.documents, 3000);
    retire(&registry, &eu, 0).await;
    // A count waits for the sweep.
    assert_eq!(usage(&registry, "t::sweep").await.documents, 0);
    let keys = server.command(&["KEYS", "pinwire:*"]);
    for left in [":pins:", ":dead", ":walk", ":graces", ":node:", ":using:", ":lost:", ":turn:"] {
        assert!(!keys.contains(left), "{keys}");
    }
}

#[tokio::test]
async fn a_renewal_sets_off_the_sweep() {
    let server = ServerRig::start(&Options::default());
    let registry = RedisRegistry::new(server.link());
    let (mortal, eu) = (new_node(&registry, "eu", "mortal").await, new_node(&registry, "eu", "e1").await);
    let pins: Vec<_> = (0..200)
        .map(|index| (document("t::sweep", &index.to_string()), Claim { epoch: 1, nonce: 1 }))
        .collect();
    ask(&registry, Request::Assert { node: mortal.clone(), pins, grace_us: 0 }).await;
    die(&registry, &mortal).await;
    let began = Instant::now();
    let mut pause = tokio::time::interval(Duration::from_millis(20));
    while server.command(&["EXISTS", "pinwire:1:{apps-00}:pins:t::sweep"]) != ":0\r\n" {
        assert!(began.elapsed() < PATIENCE);
        renew(&registry, &eu).await;
        pause.tick().await;
    }
}

#[tokio::test]
async fn an_older_node_is_refused_once_newer_ones_write_and_not_before() {
    let server = ServerRig::start(&Options::default());
    let older = RedisRegistry::new(server.link());
    let newer = RedisRegistry::of_revision(server.link(), 2);
    let first = node("eu", "older");
    register(&older, &first, LEASE).await;
    let second = new_node(&newer, "eu", "newer").await;
    // Side by side, by the older one's rules.
    let doc = document("t::revision", "doc");
    let held = pin(&older, &first, &doc).await;
    assert_eq!(claim(&newer, &second, &doc).await, Claimed::Held { claim: held, is_new: false });
    let third = node("eu", "older");
    register(&older, &third, LEASE).await;
    for node in [&first, &third] {
        retire(&older, node, GRACE).await;
    }
    register(&newer, &second, LEASE).await;
    let refused =
        older.ask(Request::Register { node: view(&first), lease_us: LEASE }).await.expect_err("too old");
    assert!(refused.reason.contains("upgrade"), "{}", refused.reason);
}
