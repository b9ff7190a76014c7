//! Nodes of several regions as clients meet them, with real servers of Redis.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Instant;

use pinwire_admin_api::actions::{Action, AuditPage};
use pinwire_admin_api::cluster::{PinPage, Unpinned};
use pinwire_admin_api::events::{EventPage, What};
use pinwire_protocol::document::ywebsocket;
use pinwire_redis::rig::{Options, ServerRig};
use tempfile::TempDir;

use crate::admin::{self, bearer, good, refused, tcp};
use crate::member::{Member, Told};
use crate::rig::{PATIENCE, Serving, run};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
/// The app of the tokens, as the registry calls it, and its pins.
const APP: &str = "dev::dev";
const PINS: &str = "pinwire:1:{apps-00}:pins:dev::dev";

/// A registry, and the Redis of two regions.
pub struct System {
    pub registry: ServerRig,
    pub here: ServerRig,
    pub there: ServerRig,
    folder: TempDir,
    pub token: String,
}

impl System {
    pub fn start() -> Self {
        let [registry, here, there] = std::array::from_fn(|_| ServerRig::start(&Options::default()));
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("secret", SECRET.to_owned()), ("admin.token", admin::token())] {
            fs::write(folder.path().join(name), text).unwrap();
            fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        let (status, token) = run(&["token", "mint", "--secret", SECRET, "--region", "here-1"]);
        assert_eq!(status, 0, "{token}");
        Self { registry, here, there, folder, token: token.trim().to_owned() }
    }

    /// With leases of 3 s, and the admin API.
    pub fn node(&self, name: &str, region: &str) -> Serving {
        self.node_with(name, region, "")
    }

    /// With more settings of the cluster.
    pub fn node_with(&self, name: &str, region: &str, more: &str) -> Serving {
        self.node_for(name, region, "3s", more, "")
    }

    /// One that another process can take over from: two threads, links to other nodes.
    pub fn node_for_upgrade(&self, name: &str, tables: &str, settings: &[&str]) -> Serving {
        let file = self.file_for_upgrade(name, tables);
        Serving::start_with(&file, &[&["listen=127.0.0.1:0", "threads=2"], settings].concat())
    }

    /// The configuration of such a node.
    pub fn file_for_upgrade(&self, name: &str, tables: &str) -> PathBuf {
        fs::write(self.folder.path().join("peer.secret"), SECRET).unwrap();
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(self.folder.path().join("peer.secret"), mode).unwrap();
        let more = "peer_listen = \"127.0.0.1:0\"\npeer_secret_file = \"peer.secret\"\n";
        let tables = format!("[address_limits]\nenabled = false\n{tables}");
        self.file_for(name, "here-1", "3s", more, &tables)
    }

    /// The configuration of a node.
    pub fn config(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.toml"))
    }

    /// With tables of its own, and settings above all.
    pub fn node_having(&self, name: &str, region: &str, tables: &str, settings: &[&str]) -> Serving {
        let file = self.file_for(name, region, "3s", "", tables);
        Serving::start_with(&file, &[&["listen=127.0.0.1:0", "threads=1"], settings].concat())
    }

    /// With leases of so long, more settings of the cluster, and more registries.
    fn node_for(&self, name: &str, region: &str, lease: &str, more: &str, registries: &str) -> Serving {
        Serving::start(&self.file_for(name, region, lease, more, registries))
    }

    /// A configuration of such a node. What comes after the registries may be other tables.
    pub fn file_for(&self, name: &str, region: &str, lease: &str, more: &str, registries: &str) -> PathBuf {
        let session = if region == "here-1" { &self.here } else { &self.there };
        let config = format!(
            "region = \"{region}\"\n[tokens]\nsecret_file = \"secret\"\n[admin]\nlisten = [\"127.0.0.1:0\"]\n\
             token_file = \"admin.token\"\n[cluster]\nregistry = \"redis\"\nnode = \"{name}\"\n\
             lease = \"{lease}\"\nrenew = \"1s\"\nsession = \"{}\"\n{more}[cluster.registries]\n\"aws-eu-west-1\" = \"{}\"\n{registries}",
            session.url(),
            self.registry.url(),
        );
        let file: PathBuf = self.folder.path().join(format!("{name}.toml"));
        fs::write(&file, config).unwrap();
        file
    }

    /// The registry is another server's from now on, as after a fail-over, and that has never heard of the document.
    fn fail_over_without_the_pin(&self) {
        let said = |parts: &[&str]| self.registry.command(parts).trim().to_owned();
        said(&["DEL", PINS]);
        said(&["HDEL", "pinwire:1:{apps-00}:tops", APP]);
        assert_eq!(said(&["DEBUG", "CHANGE-REPL-ID"]), "+OK");
    }

    pub fn join(&self, node: &Serving) -> Member {
        let mut member = Member::join(node, &self.token);
        member.until(|payload| payload.starts_with(&[0, 0])).unwrap();
        member
    }
}

/// Inserts `text` into the type `t`: an update of `client`.
pub fn insertion(client: u8, text: &str) -> Vec<u8> {
    let mut update = vec![1, 1, client, 0, 4, 1, 1, b't', text.len() as u8];
    update.extend_from_slice(text.as_bytes());
    update.push(0);
    update
}

pub fn write(member: &mut Member, update: &[u8]) {
    member.say(|out| ywebsocket::append_update(out, update));
}

pub fn holds(payload: &[u8], text: &str) -> bool {
    payload.windows(text.len()).any(|window| window == text.as_bytes())
}

fn redirect_to(node: &Serving) -> (u16, String) {
    let url = node.ready["regions"][0]["ws_url"].as_str().unwrap();
    (4009, format!("REDIRECT:{url}/d"))
}

#[track_caller]
pub fn until(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "it never was so");
        std::thread::yield_now();
    }
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
fn a_claim_that_a_fail_over_forgot_is_made_again() {
    let system = System::start();
    let (here, there) = (system.node("here-a", "here-1"), system.node("there-a", "there-1"));
    let (mut ann, mut ben) = (system.join(&here), system.join(&here));
    let pinned = || system.registry.command(&["ZRANGE", PINS, "0", "-1"]);
    let claim = |pins: &str| {
        pins.split('\0').nth(1).map(|rest| rest.split(' ').take(3).collect::<Vec<_>>().join(" "))
    };
    let before = claim(&pinned());
    assert!(before.is_some());
    system.fail_over_without_the_pin();
    until(|| claim(&pinned()).is_some());
    assert_eq!(claim(&pinned()), before);
    assert_eq!(Member::join(&there, &system.token).end(), redirect_to(&here));
    write(&mut ann, &insertion(1, "from-ann"));
    ben.until(|payload| holds(payload, "from-ann")).unwrap();
}

#[test]
fn of_two_regions_that_a_fail_over_left_with_a_document_one_goes_on_and_the_other_redirects() {
    let system = System::start();
    let (here, there) = (system.node("here-a", "here-1"), system.node("there-a", "there-1"));
    let mut ann = system.join(&here);
    write(&mut ann, &insertion(1, "from-ann"));
    until(|| here.metric("pinwire_session_updates_total") == 1.0);
    let deadline = Instant::now() + PATIENCE;
    let mut ben = loop {
        system.fail_over_without_the_pin();
        let mut ben = Member::join(&there, &system.token);
        match ben.told() {
            Told::Message(_) => break ben,
            // Its region has said again what it holds before he came.
            Told::Close(code, _) => assert!(code == 4009 && Instant::now() < deadline, "{code}"),
        }
    };
    assert_eq!(ann.end(), redirect_to(&there), "the later claim is the higher one");
    let mut ann = Member::join(&there, &system.token);
    write(&mut ann, &insertion(1, "from-ann"));
    ben.until(|payload| holds(payload, "from-ann")).unwrap();
    assert_eq!(Member::join(&here, &system.token).end(), redirect_to(&there));
    assert_eq!((here.metric("pinwire_pins_lost_total"), there.metric("pinwire_pins_lost_total")), (1.0, 0.0));
}

#[test]
fn without_its_registry_a_node_serves_what_it_has_and_claims_nothing() {
    let mut system = System::start();
    let here = system.node_for("here-a", "here-1", "60s", "", "");
    let (mut ann, mut ben) = (system.join(&here), system.join(&here));
    system.registry.kill();
    here.logs(&["a registry is out of reach"]);
    assert!(here.get("/health", "").1.contains("degraded"));
    write(&mut ann, &insertion(1, "from-ann"));
    ben.until(|payload| holds(payload, "from-ann")).unwrap();
    system.join(&here);
    // Nobody has it open for a moment: a page is reloaded.
    drop((ann, ben));
    until(|| here.metric("pinwire_sessions") == 0.0);
    let mut ann = Member::join(&here, &system.token);
    ann.until(|payload| payload.starts_with(&[0, 1]) && holds(payload, "from-ann")).unwrap();
    // An empty one: what is held is held again.
    system.registry.restart();
    here.logs(&["the registry is back"]);
    let there = system.node("there-a", "there-1");
    assert_eq!(Member::join(&there, &system.token).end(), redirect_to(&here));
}

#[test]
fn a_registry_that_is_away_stops_no_documents_of_other_license_regions() {
    let mut system = System::start();
    let other = ServerRig::start(&Options::default());
    let more = format!("\"aws-us-east-1\" = \"{}\"\n", other.url());
    let here = system.node_for("here-a", "here-1", "3s", "", &more);
    let claims = r#"{"dbCode":"aws-us-east-1","appId":"other"}"#;
    let (status, token) =
        run(&["token", "mint", "--secret", SECRET, "--region", "here-1", "--claims", claims]);
    assert_eq!(status, 0, "{token}");
    let mut ann = system.join(&here);
    system.registry.kill();
    here.logs(&["the lease ran out"]);
    // Whose registry is away is not stored, nor opened; all the same its clients have each other's edits.
    let mut ben = system.join(&here);
    write(&mut ann, &insertion(1, "from-ann"));
    ben.until(|payload| holds(payload, "from-ann")).unwrap();
    let mut eve = Member::join(&here, token.trim());
    eve.until(|payload| payload.starts_with(&[0, 1])).unwrap();
    write(&mut eve, &insertion(2, "from-eve"));
    until(|| here.metric("pinwire_session_updates_total") == 1.0);
    system.registry.restart();
    until(|| here.metric("pinwire_session_updates_total") == 2.0);
}

#[test]
fn a_document_that_redis_has_no_room_for_takes_no_edits_until_it_has() {
    let system = System::start();
    let here = system.node("here-a", "here-1");
    let (mut ann, mut ben) = (system.join(&here), system.join(&here));
    write(&mut ann, &insertion(1, "before"));
    ben.until(|payload| holds(payload, "before")).unwrap();
    until(|| system.here.command(&["KEYS", "pinwire:1:*tail:*"]).contains(":tail:"));
    let limit = |bytes| assert_eq!(system.here.command(&["CONFIG", "SET", "maxmemory", bytes]), "+OK\r\n");
    limit("1");
    write(&mut ann, &insertion(2, "waits"));
    here.logs(&["no room for a document"]);
    limit("0");
    // What may have been dropped meanwhile is asked for.
    ann.until(|payload| payload.starts_with(&[0, 0])).unwrap();
    write(&mut ann, &insertion(3, "after"));
    ben.until(|payload| holds(payload, "after")).unwrap();
    assert_eq!(
        (here.metric("pinwire_sessions_full"), here.metric("pinwire_session_failures_total")),
        (0.0, 0.0)
    );
    let next = system.node("here-b", "here-1");
    let mut late = Member::join(&next, &system.token);
    // What is stored meanwhile comes by itself.
    let is_missing = std::cell::RefCell::new(vec!["before", "waits"]);
    let is_whole = |payload: &[u8]| {
        is_missing.borrow_mut().retain(|text| !holds(payload, text));
        is_missing.borrow().is_empty()
    };
    late.until(is_whole).unwrap();
}

#[test]
fn a_node_that_stops_puts_back_what_its_redis_has_lost() {
    let system = System::start();
    let (one, other) = (system.node("here-a", "here-1"), system.node("here-b", "here-1"));
    let (mut ann, mut ben) = (system.join(&one), system.join(&other));
    write(&mut ann, &insertion(1, "stored"));
    ben.until(|payload| holds(payload, "stored")).unwrap();
    drop(ben);
    other.end();
    assert_eq!(system.here.command(&["FLUSHALL"]), "+OK\r\n");
    // It finds out with this, once it stops.
    system.here.pause();
    write(&mut ann, &insertion(2, "last"));
    drop(ann);
    one.signal("TERM");
    one.logs(&["stopping"]);
    system.here.resume();
    one.logs(&["stopped"]);
    let next = system.node("here-c", "here-1");
    let mut late = Member::join(&next, &system.token);
    let all = late.until(|payload| payload.starts_with(&[0, 1])).unwrap();
    assert!(holds(&all, "stored") && holds(&all, "last"));
}

#[test]
fn an_entry_that_cannot_be_read_is_told_and_left_where_it_is() {
    let system = System::start();
    let (one, other) = (system.node("here-a", "here-1"), system.node("here-b", "here-1"));
    let mut ann = system.join(&one);
    write(&mut ann, &insertion(1, "first"));
    let deadline = Instant::now() + PATIENCE;
    let key = loop {
        let keys = system.here.command(&["KEYS", "pinwire:1:*tail:*"]);
        if let Some(key) = keys.lines().find(|line| line.contains(":tail:")) {
            break key.trim().to_owned();
        }
        assert!(Instant::now() < deadline, "it is not stored");
    };
    let mut ben = system.join(&other);
    write(&mut ann, &insertion(2, "second"));
    ben.until(|payload| holds(payload, "second")).unwrap();
    drop(ben);
    other.end();
    assert_eq!(system.here.command(&["LSET", &key, "0", "damaged"]), "+OK\r\n");
    let again = system.node("here-c", "here-1");
    let mut late = Member::join(&again, &system.token);
    let all = late.until(|payload| payload.starts_with(&[0, 1])).unwrap();
    assert!(holds(&all, "second"));
    let line = again.logs(&["no update"]);
    assert!(line.contains(&key), "{line}");
    assert!(again.metric("pinwire_session_unreadable_total") > 0.0);
    assert!(system.here.command(&["LINDEX", &key, "0"]).contains("damaged"));
}

#[test]
fn a_document_that_is_unpinned_leaves_its_region_with_all_of_its_clients() {
    let system = System::start();
    let (one, other) = (system.node("here-a", "here-1"), system.node("here-b", "here-1"));
    let there = system.node("there-a", "there-1");
    let ask = |method: &str, path: &str| admin::ask(tcp(&there), method, path, &bearer(&admin::token()), "");
    let (mut ann, mut ben) = (system.join(&one), system.join(&other));
    let PinPage { pins, .. } = good(ask("GET", "/v1/pins"));
    let [pin] = &pins[..] else { panic!("{pins:?}") };
    let path = format!("/v1/pins/{}/{}/d", pin.tenant, pin.app);

    let Unpinned { pin: was, idle_within_seconds } = good(ask("DELETE", &path));
    assert_eq!((was.region.as_str(), was.nodes.len(), idle_within_seconds), ("here-1", 2, 3));
    for member in [&mut ann, &mut ben] {
        assert_eq!(member.end(), (1012, "the document was unpinned".to_owned()));
    }
    let deadline = Instant::now() + PATIENCE;
    let mut cleo = loop {
        let mut cleo = Member::join(&there, &system.token);
        match cleo.told() {
            Told::Message(_) => break cleo,
            Told::Close(code, _) => assert!(code == 1013 && Instant::now() < deadline, "{code}"),
        }
    };
    // Their own region has it no more.
    assert_eq!(Member::join(&one, &system.token).end(), redirect_to(&there));
    let mut ann = Member::join(&there, &system.token);
    write(&mut ann, &insertion(1, "from-ann"));
    cleo.until(|payload| holds(payload, "from-ann")).unwrap();

    assert_eq!(refused(ask("DELETE", &format!("{path}-of-nobody"))).status, 404);
    assert_eq!(refused(ask("DELETE", &format!("{path}?db_code=nowhere"))).status, 422);
    let AuditPage { records, .. } = good(ask("GET", "/v1/audit"));
    assert!(records.iter().any(|record| matches!(&record.what, Action::Unpin { name, .. } if name == "d")));
    let EventPage { events, .. } = good(ask("GET", "/v1/events"));
    let unpinned = |event: &What| matches!(event, What::Unpinned { region, .. } if region == "here-1");
    assert!(events.iter().any(|event| unpinned(&event.what)), "{events:?}");
    let told = admin::ask(tcp(&one), "GET", "/v1/events", &bearer(&admin::token()), "");
    let EventPage { events, .. } = good(told);
    assert!(events.iter().any(|event| matches!(event.what, What::DocumentUnpinned { .. })), "{events:?}");
    assert_eq!(one.metric("pinwire_redirects_total{kind=\"close\""), 1.0);
    assert_eq!(one.metric("pinwire_pins_lost_total"), 0.0);
}
