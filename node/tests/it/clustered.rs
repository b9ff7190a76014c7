//! Nodes whose registry and sessions are in a Redis Cluster: its slots move while clients write, and its masters are killed.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use pinwire_redis::rig::ClusterRig;
use tempfile::TempDir;

use crate::admin;
use crate::member::Member;
use crate::regions::until;
use crate::rig::{Serving, run};
use crate::writers::{Writers, check};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A Cluster, and what nodes of one region that use it are configured with.
struct System {
    redis: ClusterRig,
    folder: TempDir,
    token: String,
}

impl System {
    fn with(redis: ClusterRig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("secret", SECRET.to_owned()), ("admin.token", admin::token())] {
            fs::write(folder.path().join(name), text).unwrap();
            fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        let (status, token) = run(&["token", "mint", "--secret", SECRET, "--region", "here-1"]);
        assert_eq!(status, 0, "{token}");
        Self { redis, folder, token: token.trim().to_owned() }
    }

    fn node(&self, name: &str) -> Serving {
        let url = self.redis.url();
        let config = format!(
            "region = \"here-1\"\n[tokens]\nsecret_file = \"secret\"\n[admin]\nlisten = [\"127.0.0.1:0\"]\n\
             token_file = \"admin.token\"\n[cluster]\nregistry = \"redis\"\nnode = \"{name}\"\nlease = \"20s\"\n\
             renew = \"1s\"\nsession = \"{url}\"\n[cluster.registries]\n\"aws-eu-west-1\" = \"{url}\"\n",
        );
        let file = self.folder.path().join(format!("{name}.toml"));
        fs::write(&file, config).unwrap();
        Serving::start(&file)
    }

    /// The slots that have the key of this kind, one in the registry and one in the sessions: where the writers' document is.
    fn slots(&self) -> [u16; 2] {
        [":pins:", ":tail:"].map(|kind| {
            let is_of_kind = |key: &&str| key.starts_with("pinwire:1:{") && key.contains(kind);
            let all = (0..3).map(|server| self.redis.servers()[server].command(&["KEYS", "pinwire:1:*"]));
            let keys: Vec<String> = all.collect();
            let key = keys.iter().flat_map(|keys| keys.lines()).find(is_of_kind);
            self.redis.slot_of(key.unwrap_or_else(|| panic!("no key of {kind} in {keys:?}")).trim())
        })
    }

    /// How often a server refused something that needs all keys of a slot which is half way.
    fn refusals(&self, server: usize) -> u64 {
        let stats = self.redis.servers()[server].command(&["INFO", "errorstats"]);
        let count = |line: &str| line.strip_prefix("errorstat_TRYAGAIN:count=")?.trim().parse().ok();
        stats.lines().find_map(count).unwrap_or(0)
    }

    /// Moves a slot to another master; it is half way until nodes have met that.
    fn move_slot(&self, slot: u16) {
        let from = self.redis.owner_of(slot);
        let to = (from + 1) % 3;
        let before = self.refusals(from) + self.refusals(to);
        self.redis.begin_move(slot, to);
        until(|| self.refusals(from) + self.refusals(to) > before);
        self.redis.end_move(slot, from, to);
        assert_eq!(self.redis.owner_of(slot), to);
    }
}

/// That a node has lost no pin, and that it has its lease and its sessions.
fn is_well(node: &Serving) {
    assert_eq!(node.metric("pinwire_pins_lost_total"), 0.0);
    until(|| node.get("/health", "").1.contains("healthy"));
}

#[test]
fn slots_that_move_while_clients_write_cost_no_edit_and_no_connection() {
    let system = System::with(ClusterRig::start());
    let (one, other) = (system.node("a"), system.node("b"));
    let mut writers = Writers::at(&[&one, &other, &one, &other], &system.token, true);
    writers.until_some_more(&[&one, &other]);
    // There, and back by way of the third server.
    for _ in 0..3 {
        for slot in system.slots() {
            system.move_slot(slot);
            writers.until_some_more(&[&one, &other]);
        }
    }
    for node in [&one, &other] {
        is_well(node);
    }
    let acknowledged = writers.end_undisturbed();
    check(&system.token, &[&one, &other, &system.node("c")], &acknowledged);
}

#[test]
fn a_master_that_is_killed_while_clients_write_costs_no_edit_and_no_connection() {
    let mut system = System::with(ClusterRig::start_with_replicas());
    let (one, other) = (system.node("a"), system.node("b"));
    let mut writers = Writers::at(&[&one, &other, &one, &other], &system.token, true);
    writers.until_some_more(&[&one, &other]);
    let [of_registry, of_sessions] = system.slots();
    system.redis.fail_over(of_sessions);
    writers.until_some_more(&[&one, &other]);
    // One that has taken over has nobody who would do so for it.
    if system.redis.owner_of(of_registry) < 3 {
        system.redis.fail_over(of_registry);
        writers.until_some_more(&[&one, &other]);
    }
    // What is new finds its way, too.
    let mut new = Writers::on("new", &[&one, &other], &system.token, true);
    new.until_some_more(&[&one, &other]);
    new.end();
    for node in [&one, &other] {
        is_well(node);
    }
    let acknowledged = writers.end_undisturbed();
    check(&system.token, &[&one, &other, &system.node("c")], &acknowledged);
    let mut late = Member::join(&other, &system.token);
    late.until(|payload| payload.starts_with(&[0, 1])).unwrap();
}
