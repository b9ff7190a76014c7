//! The same on Redis.

use crate::ask::*;
use crate::{compare, rules};
use pinwire_redis::rig::{ClusterRig, Options, SentinelRig, ServerRig};
use pinwire_redis::{Link, Settings};
use pinwire_registry::{Answer, Answering, Claim, Claimed, RedisRegistry, Registry, Request, Used};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

/// Names the rights that are enough.
const ACL: &str = include_str!("../../../docs/registry.md");

/// Makes the documented user on a server, and returns what stands before the host in a URL.
fn make_user(server: &ServerRig) -> &'static str {
    for line in ACL.lines().filter(|line| line.starts_with("ACL SETUSER pinwire ")) {
        let parts: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(server.command(&parts), "+OK\r\n", "{line}");
    }
    "pinwire:secret@"
}

fn link_to(url: &str) -> Link {
    Link::new(url.parse().expect("a URL"), Settings::default()).expect("a link")
}

/// A URL with the documented user.
fn with_user(url: &str, login: &str) -> Link {
    link_to(&url.replacen("://", &format!("://{login}"), 1))
}

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
    let logins: Vec<&str> = rig.servers().iter().map(make_user).collect();
    rules::all(&RedisRegistry::new(with_user(&rig.url(), logins[0]))).await;
    let connections = || RedisRegistry::new(rig.link());
    rules::race(&[connections(), connections(), connections(), connections()]).await;
}

#[tokio::test]
async fn a_user_with_the_documented_rights_keeps_the_rules_over_tls() {
    let server = ServerRig::start(&Options { tls: true, ..Options::default() });
    let link = link_to(&server.tls_url(make_user(&server)));
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
    compare::compare(&runtime, &[registry], 150);
}

#[test]
fn random_sequences_have_the_same_answers_from_a_cluster_and_from_memory() {
    let rig = ClusterRig::start();
    let runtime = runtime();
    let registry = runtime.block_on(async { RedisRegistry::new(rig.link()) });
    compare::compare(&runtime, &[registry], 40);
}

/// Asks until there is an answer: while a server comes back, or another one takes over.
async fn renew_until_answered(registry: &RedisRegistry, node: &pinwire_registry::Node) -> Answer {
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
    let logins: Vec<&str> = rig.servers().iter().map(make_user).collect();
    let registry = RedisRegistry::new(with_user(&rig.url(), logins[0]));
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
    let Answer::Renewed(renewed) = renew_until_answered(&registry, &eu).await else {
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
    assert_eq!(renew_until_answered(&registry, &eu).await, Answer::Unknown);
    let again = new_node(&registry, "eu", "e1").await;
    let asserted = assert_pins(&registry, &again, &[(doc.clone(), held)]).await;
    assert_eq!(asserted, Some(vec![pinwire_registry::Asserted::Held(held)]));
    assert_eq!(renew_until_answered(&registry, &us).await, Answer::Unknown);
    let us = new_node(&registry, "us", "u1").await;
    assert_eq!(refused(&registry, &us, &doc).await.claim, held);
}

#[tokio::test]
async fn a_dead_node_claims_nothing_though_nobody_has_noticed_its_death() {
    let server = ServerRig::start(&Options::default());
    let registry = RedisRegistry::new(server.link());
    let mortal = new_node(&registry, "eu", "mortal").await;
    let doc = document("t::unnoticed", "doc");
    let held = pin(&registry, &mortal, &doc).await;
    die(&registry, &mortal).await;
    assert_eq!(claim(&registry, &mortal, &doc).await, Claimed::Unknown);
    assert_eq!(assert_pins(&registry, &mortal, &[(doc.clone(), held)]).await, None);
    assert!(locate(&registry, &doc).await.is_some_and(|found| found.nodes.is_empty()));
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
        .map(|index| (document("t::sweep", &index.to_string()), Claim { epoch: 1, nonce: 1 }, HOLD))
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
async fn a_clock_that_is_set_back_keeps_no_dead_node_and_gives_no_claim_twice() {
    const HOUR: u64 = 3_600_000_000;
    let server = ServerRig::start(&Options::default());
    let registry = RedisRegistry::new(server.link());
    let start = 1_700_000_000_000_000;
    registry.set_time(start);
    let (mortal, eu) = (new_node(&registry, "eu", "mortal").await, new_node(&registry, "eu", "e1").await);
    let us = new_node(&registry, "us", "u1").await;
    let [of_the_dead, kept] = ["of-the-dead", "kept"].map(|name| document("t::clock", name));
    let first = pin(&registry, &mortal, &of_the_dead).await;
    let held = pin(&registry, &eu, &kept).await;
    registry.set_time(start - HOUR);
    // Who lives has lost nothing, and a claim is above those of before.
    let newer = pin(&registry, &us, &document("t::clock", "newer")).await;
    assert!(newer.epoch > first.epoch.max(held.epoch), "{newer:?}");
    for node in [&eu, &us] {
        renew(&registry, node).await;
    }
    assert_eq!(refused(&registry, &us, &of_the_dead).await.claim, first);
    // Who died is waited for as ever: its lease, and the grace of what it held.
    registry.set_time(start - HOUR + LEASE / 2);
    for node in [&eu, &us] {
        renew(&registry, node).await;
    }
    registry.set_time(start - HOUR + LEASE + 1);
    assert!(locate(&registry, &of_the_dead).await.is_some_and(|pin| pin.nodes.is_empty()));
    assert_eq!(claim(&registry, &eu, &kept).await, Claimed::Held { claim: held, is_new: false });
    registry.set_time(start - HOUR + LEASE + GRACE + 2);
    assert_eq!(locate(&registry, &of_the_dead).await, None);
}

#[tokio::test]
async fn a_clock_that_is_set_forward_ends_leases_and_what_is_said_again_stays_where_it_was() {
    let server = ServerRig::start(&Options::default());
    let registry = RedisRegistry::new(server.link());
    let start = 1_700_000_000_000_000;
    registry.set_time(start);
    let (eu, us) = (new_node(&registry, "eu", "e1").await, new_node(&registry, "us", "u1").await);
    let doc = document("t::clock", "doc");
    let held = pin(&registry, &eu, &doc).await;
    registry.set_time(start + LEASE + GRACE + 1);
    assert_eq!(renew_with(&registry, &eu, LEASE, &[]).await, None);
    let again = new_node(&registry, "eu", "e1").await;
    let asserted = assert_pins(&registry, &again, &[(doc.clone(), held)]).await;
    assert_eq!(asserted, Some(vec![pinwire_registry::Asserted::Held(held)]));
    register(&registry, &us, LEASE).await;
    assert_eq!(refused(&registry, &us, &doc).await.claim, held);
}

/// A Cluster's slot is moved while nodes go on: nothing is begun anew where some of the keys have come already.
#[tokio::test]
async fn a_slot_that_is_half_way_answers_nothing_rather_than_with_half_of_it() {
    let rig = ClusterRig::start();
    let registry = RedisRegistry::new(rig.link());
    let eu = new_node(&registry, "eu", "e1").await;
    let doc = document("t::half", "doc");
    let held = pin(&registry, &eu, &doc).await;
    for partition in 0..16 {
        let slot = rig.slot_of(&format!("{{apps-{partition:02}}}"));
        let from = rig.owner_of(slot);
        let to = (from + 1) % 3;
        rig.begin_move(slot, to);
        if partition < 2 {
            let request =
                Request::Renew { node: eu.clone(), lease_us: LEASE, apps: vec![], versions: vec![] };
            registry.ask(request).await.expect_err("not before the slot has moved");
        }
        rig.end_move(slot, from, to);
    }
    renew(&registry, &eu).await;
    assert_eq!(claim(&registry, &eu, &doc).await, Claimed::Held { claim: held, is_new: false });
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

/// What the scripts of a later version may write besides: each is in one of them at least.
const LATER_SCRIPTS: [(&str, &str); 6] = [
    ("(pin.more or '')", "((pin.more or '') ~= '' and pin.more or ' later=1')"),
    ("' ' .. pin.nonce .. ' ' .. pin.region\n", "' ' .. pin.nonce .. ' ' .. pin.region .. ' 77'\n"),
    ("(' ' .. text(grace))", "(' ' .. text(grace) .. ' 77')"),
    ("text(share))", "text(share) .. ' 77')"),
    ("text(share_of(app) or 0))", "text(share_of(app) or 0) .. ' 77')"),
    (
        "call('HSET', URLS, region, ARGV[4])",
        "call('HSET', URLS, region, ARGV[4])\ncall('HSET', key('node:' .. id), 'later', '1')",
    ),
];

/// A registry as a later version would have it: other scripts, on the same keys.
fn later(link: Link) -> RedisRegistry {
    let found = [const { Cell::new(false) }; LATER_SCRIPTS.len()];
    let registry = RedisRegistry::of_scripts(link, |source| {
        let mut edited = source.to_owned();
        for ((from, to), found) in LATER_SCRIPTS.iter().zip(&found) {
            found.set(found.get() || source.contains(from));
            edited = edited.replace(from, to);
        }
        edited
    });
    assert!(found.iter().all(Cell::get), "{found:?}: the scripts are not what they were");
    registry
}

/// Registries of two versions on one server: who asks next asks the other one.
#[derive(Debug)]
struct Mixed([RedisRegistry; 2], AtomicUsize);

impl Registry for Mixed {
    fn ask(&self, request: Request) -> Answering {
        self.0[self.1.fetch_add(1, Ordering::Relaxed) % 2].ask(request)
    }
}

#[tokio::test]
async fn nodes_of_two_versions_keep_the_rules_together() {
    let server = ServerRig::start(&Options::default());
    let mixed = || Mixed([RedisRegistry::new(server.link()), later(server.link())], AtomicUsize::new(0));
    rules::all(&mixed()).await;
    rules::race(&[mixed(), mixed(), mixed(), mixed()]).await;
}

#[test]
fn random_sequences_have_the_same_answers_from_two_versions_and_from_memory() {
    let server = ServerRig::start(&Options::default());
    let runtime = runtime();
    let versions = runtime.block_on(async { [RedisRegistry::new(server.link()), later(server.link())] });
    compare::compare(&runtime, &versions, 60);
}

/// What a later version may add to the keys of this one: behind members and values, and as further fields.
const LATER: &str = r"
local function each(pattern, add)
  for _, key in ipairs(redis.call('KEYS', pattern)) do add(key) end
end
each('*:pins:*', function(key)
  for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do
    redis.call('ZREM', key, member)
    redis.call('ZADD', key, 0, member .. ' later=1')
  end
end)
local function behind(key)
  local flat = redis.call('HGETALL', key)
  for index = 1, #flat, 2 do
    if flat[index] ~= 'limit' then redis.call('HSET', key, flat[index], flat[index + 1] .. ' 77') end
  end
end
each('*:uses:*', behind)
each('*:lost:*', behind)
each('*:dead', behind)
each('*:uses:*', function(key) redis.call('HSET', key, 'later', '1 2 3 4') end)
each('*:node:*', function(key) redis.call('HSET', key, 'later', '1') end)
redis.call('SET', 'pinwire:1:{apps-00}:later', 1)
return 'done'
";

#[tokio::test]
async fn what_a_later_version_adds_to_the_data_changes_nothing_and_stays() {
    let server = ServerRig::start(&Options::default());
    let registry = RedisRegistry::new(server.link());
    let [eu, us] = [new_node(&registry, "eu", "e1").await, new_node(&registry, "us", "u1").await];
    let [held, moved, left, dying] =
        ["held", "moved", "left", "dying"].map(|name| document("t::later", name));
    let claims = [pin(&registry, &eu, &held).await, pin(&registry, &eu, &moved).await];
    pin(&registry, &eu, &left).await;
    release(&registry, &eu, &left, ANY_HOLD, GRACE).await;
    let mortal = new_node(&registry, "eu", "mortal").await;
    let late = pin(&registry, &mortal, &dying).await;
    retire(&registry, &mortal, GRACE).await;
    let to = Request::Move {
        document: moved.clone(),
        claim: claims[1],
        node: us.clone(),
        to: Claim { epoch: claims[1].epoch + 2, nonce: 9 },
        hold: HOLD,
        grace_us: GRACE,
    };
    let Answer::Claimed(Claimed::Held { claim: higher, .. }) = ask(&registry, to).await else {
        panic!("not moved")
    };
    renew_with(&registry, &us, LEASE, &[uses("t::later", 2, 3, 10)]).await;

    let command = ["EVAL", LATER, "0"];
    assert_eq!(server.command(&command), "$4\r\ndone\r\n");
    let renewed = renew_with(&registry, &eu, LEASE, &[uses("t::later", 1, 10, 10)]).await.expect("it lives");
    assert_eq!(
        renewed.lost.iter().map(|(document, owner)| (document, owner.claim)).collect::<Vec<_>>(),
        [(&moved, higher)]
    );
    assert_eq!(renewed.shares.iter().map(|share| share.connections).collect::<Vec<_>>(), [7]);
    assert_eq!(usage(&registry, "t::later").await, Used { connections: 3, documents: 4 });
    assert_eq!(claim(&registry, &eu, &held).await, Claimed::Held { claim: claims[0], is_new: false });
    assert_eq!(refused(&registry, &us, &left).await.region.as_ref(), "eu");
    assert_eq!(claim(&registry, &eu, &dying).await, Claimed::Held { claim: late, is_new: false });
    let members = server.command(&["ZRANGE", "pinwire:1:{apps-00}:pins:t::later", "0", "-1"]);
    assert_eq!(members.matches(" later=1").count(), 4, "{members}");
    for node in [&eu, &us] {
        retire(&registry, node, 0).await;
    }
    // Those that wait for clients who left before.
    assert_eq!(usage(&registry, "t::later").await, Used { connections: 0, documents: 2 });
}
