//! Nodes of several regions as clients meet them, with real servers of Redis.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Instant;

use pinwire_protocol::document::ywebsocket;
use pinwire_redis::rig::{Options, ServerRig};
use tempfile::TempDir;

use crate::member::{Member, Told};
use crate::rig::{PATIENCE, Serving, run};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A registry, and the Redis of two regions.
pub struct System {
    registry: ServerRig,
    here: ServerRig,
    pub there: ServerRig,
    folder: TempDir,
    pub token: String,
}

/// Of the admin listeners.
pub const TOKEN: &str = "an-admin-token-of-more-than-32-bytes";

impl System {
    pub fn start() -> Self {
        let [registry, here, there] = std::array::from_fn(|_| ServerRig::start(&Options::default()));
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("secret", SECRET), ("admin.token", TOKEN)] {
            fs::write(folder.path().join(name), text).unwrap();
            fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        let (status, token) = run(&["token", "mint", "--secret", SECRET, "--region", "here-1"]);
        assert_eq!(status, 0, "{token}");
        Self { registry, here, there, folder, token: token.trim().to_owned() }
    }

    /// With leases of 3 s.
    pub fn node(&self, name: &str, region: &str) -> Serving {
        self.node_with(name, region, "")
    }

    /// With more settings of the cluster.
    pub fn node_with(&self, name: &str, region: &str, more: &str) -> Serving {
        let session = if region == "here-1" { &self.here } else { &self.there };
        let config = format!(
            "region = \"{region}\"\n[tokens]\nsecret_file = \"secret\"\n[admin]\nlisten = [\"127.0.0.1:0\"]\n\
             token_file = \"admin.token\"\n[cluster]\nregistry = \"redis\"\nnode = \"{name}\"\n\
             lease = \"3s\"\nrenew = \"1s\"\nsession = \"{}\"\n{more}[cluster.registries]\n\"aws-eu-west-1\" = \"{}\"\n",
            session.url(),
            self.registry.url(),
        );
        let file: PathBuf = self.folder.path().join(format!("{name}.toml"));
        fs::write(&file, config).unwrap();
        Serving::start(&file)
    }

    pub fn join(&self, node: &Serving) -> Member {
        let mut member = Member::join(node, &self.token);
        member.until(|payload| payload.starts_with(&[0, 0])).unwrap();
        member
    }
}

/// Inserts `text` into the type `t`: an update of `client`.
fn insertion(client: u8, text: &str) -> Vec<u8> {
    let mut update = vec![1, 1, client, 0, 4, 1, 1, b't', text.len() as u8];
    update.extend_from_slice(text.as_bytes());
    update.push(0);
    update
}

fn write(member: &mut Member, update: &[u8]) {
    member.say(|out| ywebsocket::append_update(out, update));
}

fn holds(payload: &[u8], text: &str) -> bool {
    payload.windows(text.len()).any(|window| window == text.as_bytes())
}

fn redirect_to(node: &Serving) -> (u16, String) {
    let url = node.ready["regions"][0]["ws_url"].as_str().unwrap();
    (4009, format!("REDIRECT:{url}/d"))
}

#[test]
fn a_document_is_in_one_region_and_all_nodes_of_that_serve_it() {
    let system = System::start();
    let (one, other) = (system.node("here-a", "here-1"), system.node("here-b", "here-1"));
    let there = system.node("there-a", "there-1");
    let (mut ann, mut ben) = (system.join(&one), system.join(&other));
    let (code, reason) = Member::join(&there, &system.token).end();
    assert!([redirect_to(&one), redirect_to(&other)].contains(&(code, reason.clone())), "{code} {reason}");
    write(&mut ann, &insertion(1, "from-ann"));
    ben.until(|payload| holds(payload, "from-ann")).unwrap();
    write(&mut ben, &insertion(2, "from-ben"));
    ann.until(|payload| holds(payload, "from-ben")).unwrap();
    let awareness = [&[1, 7, 1, 14][..], br#"{"name":"ann"}"#].concat();
    ann.say(|out| ywebsocket::append_awareness(out, &awareness));
    ben.until(|payload| payload.first() == Some(&1) && holds(payload, "ann")).unwrap();
    // Who dies takes its users with it; what was written stays.
    one.signal("KILL");
    ben.until(|payload| payload.first() == Some(&1) && holds(payload, "null")).unwrap();
    let mut late = Member::join(&other, &system.token);
    let all = late.until(|payload| payload.starts_with(&[0, 1])).unwrap();
    assert!(holds(&all, "from-ann") && holds(&all, "from-ben"));
}

#[test]
fn who_was_stopped_for_longer_than_its_lease_serves_nothing_of_what_it_lost() {
    let system = System::start();
    let (here, there) = (system.node("here-a", "here-1"), system.node("there-a", "there-1"));
    let mut ann = system.join(&here);
    here.signal("STOP");
    // Lease and grace pass; then another region may have it.
    let deadline = Instant::now() + PATIENCE;
    let mut ben = loop {
        let mut ben = Member::join(&there, &system.token);
        match ben.told() {
            Told::Message(_) => break ben,
            Told::Close(code, _) => assert!(code == 4009 && Instant::now() < deadline, "{code}"),
        }
    };
    // It waits in the stopped node's socket, and must not be acknowledged or passed on there.
    write(&mut ann, &insertion(1, "from-ann"));
    here.signal("CONT");
    assert_eq!(ann.end(), redirect_to(&there));
    // Her client brings along what it has.
    let mut ann = Member::join(&there, &system.token);
    write(&mut ann, &insertion(1, "from-ann"));
    ben.until(|payload| holds(payload, "from-ann")).unwrap();
}

#[test]
fn without_its_registry_a_node_serves_what_it_has_and_claims_nothing() {
    let mut system = System::start();
    let here = system.node("here-a", "here-1");
    let (mut ann, mut ben) = (system.join(&here), system.join(&here));
    system.registry.kill();
    here.logs(&["a registry is out of reach"]);
    assert!(here.get("/health", "").1.contains("degraded"));
    write(&mut ann, &insertion(1, "from-ann"));
    ben.until(|payload| holds(payload, "from-ann")).unwrap();
    system.join(&here);
    // An empty one: what is held is held again.
    system.registry.restart();
    here.logs(&["the registry is back"]);
    let there = system.node("there-a", "there-1");
    assert_eq!(Member::join(&there, &system.token).end(), redirect_to(&here));
}
