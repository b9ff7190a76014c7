//! Documents on disk, through real nodes: what was acknowledged survives them, whatever ends them.

use std::process::Command;

use pinwire_admin_api::actions::DocumentEnded;
use pinwire_protocol::document::hocuspocus as wire;
use pinwire_tests::kills;
use pinwire_tests::node::{
    Covered, Fsync, Options, Store, TestClient, TestNode, append, deletion, eventually, get, hocuspocus,
    step1, token, update_of, ywebsocket_update,
};
use serde_json::json;

const PROGRAM: &str = env!("CARGO_BIN_EXE_test-node");

fn options(store: Store) -> Options {
    Options { store: Some(store), ..Options::default() }
}

/// A Hocuspocus client that may write.
fn writer(node: &TestNode, document: &str) -> TestClient {
    let mut client = TestClient::dial(node).upgraded("/");
    client.message(&hocuspocus::auth(document, &token()));
    client
}

/// Waits for so many acknowledgements.
fn acknowledged(client: &mut TestClient, mut count: u32) {
    while count > 0 {
        let message = client.binary();
        if let Some((_, wire::Body::SyncStatus { applied })) = hocuspocus::body(&message) {
            assert!(applied);
            count -= 1;
        }
    }
}

/// What a newcomer is sent until it has seen the node's own step 1.
fn content(node: &TestNode, document: &str) -> Covered {
    use pinwire_protocol::document::ywebsocket::{Message, decode};
    let mut client = TestClient::open(node, document);
    client.message(&step1());
    let (mut covered, mut is_answered, mut is_asked) = (Covered::default(), false, false);
    while !(is_answered && is_asked) {
        let message = client.binary();
        match decode(&message) {
            Ok(Message::SyncStep2 { .. }) => is_answered = true,
            Ok(Message::SyncStep1 { .. }) => is_asked = true,
            _ => {}
        }
        if let Some(update) = update_of(&message) {
            covered.add(update);
        }
    }
    covered
}

#[test]
fn kills_at_any_moment_lose_no_acknowledged_update() {
    for (fsync, kills) in [(Fsync::Never, 12), (Fsync::Interval, 4), (Fsync::Always, 4)] {
        let folder = tempfile::tempdir().unwrap();
        let report = kills::run(PROGRAM, folder.path(), fsync, kills, 7);
        assert!(report.acknowledged > 100, "{report:?}");
    }
}

#[test]
fn a_restart_finds_documents_whose_clients_come_back_and_compaction_is_part_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(Store::busy(folder.path()));
    let node = TestNode::start(PROGRAM, &options);
    let mut client = writer(&node, "doc");
    let long = "y".repeat(20_000);
    for clock in 0..12 {
        client.message(&hocuspocus::update("doc", &append(1, clock * 20_000, &long)));
    }
    client.message(&hocuspocus::update("doc", &deletion(1, 0, 30_000)));
    acknowledged(&mut client, 13);
    drop(node);
    let node = TestNode::start(PROGRAM, &options);
    assert_eq!(content(&node, "doc").next(1), 240_000);
    // What is written after a restart stands behind it.
    let mut client = writer(&node, "doc");
    client.message(&hocuspocus::update("doc", &append(1, 240_000, "z")));
    acknowledged(&mut client, 1);
    drop(node);
    let node = TestNode::start(PROGRAM, &options);
    assert_eq!(content(&node, "doc").next(1), 240_001);
}

#[test]
fn a_document_ends_with_its_session_unless_it_is_retained() {
    for (retention_secs, kept) in [(0, 0), (3600, 5)] {
        let folder = tempfile::tempdir().unwrap();
        let store = Store { retention_secs, ..Store::busy(folder.path()) };
        let options = options(store);
        let node = TestNode::start(PROGRAM, &options);
        let mut client = writer(&node, "doc");
        client.message(&hocuspocus::update("doc", &append(1, 0, "hello")));
        acknowledged(&mut client, 1);
        drop(client);
        eventually("the session ends", || {
            body(&node, "/metrics").contains("pinwire_documents{thread=\"0\"} 0")
        });
        assert_eq!(content(&node, "doc").next(1), kept, "in the same process");
        drop(node);
        let node = TestNode::start(PROGRAM, &options);
        assert_eq!(content(&node, "doc").next(1), kept, "in the next");
    }
}

fn body(node: &TestNode, target: &str) -> String {
    let mut client = TestClient::dial(node);
    client.send(get(target).as_bytes());
    client.answer().body
}

/// Limits the size of files that a node may write, as a full disk does.
fn limit_files(node: &TestNode, bytes: &str) {
    let pid = node.pid().to_string();
    let limit = format!("--fsize={bytes}:unlimited");
    assert!(Command::new("prlimit").args(["--pid", &pid, &limit]).status().unwrap().success());
}

#[test]
fn a_full_disk_holds_acknowledgements_back_and_loses_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(Store::busy(folder.path()));
    let mut node = TestNode::start(PROGRAM, &options);
    let mut client = writer(&node, "doc");
    let mut reader = TestClient::join(&node, "doc");
    client.message(&hocuspocus::update("doc", &append(1, 0, "first")));
    acknowledged(&mut client, 1);
    limit_files(&node, "1");
    client.message(&hocuspocus::update("doc", &append(1, 5, "second")));
    // Everybody else gets it, and the node says what is wrong.
    let mut seen = Covered::default();
    while seen.next(1) < 11 {
        if let Some(update) = update_of(&reader.binary()) {
            seen.add(update);
        }
    }
    eventually("the node is degraded", || body(&node, "/health").contains("degraded"));
    // It was tried, and is not acknowledged.
    client.message(&hocuspocus::step1("doc"));
    loop {
        let message = client.binary();
        let (_, body) = hocuspocus::body(&message).unwrap();
        assert!(!matches!(body, wire::Body::SyncStatus { .. }), "{body:?}");
        if update_of(&message).is_some() {
            break;
        }
    }
    // New documents open, too.
    let mut other = TestClient::join(&node, "other");
    other.message(&ywebsocket_update(&append(2, 0, "third")));
    limit_files(&node, "unlimited");
    acknowledged(&mut client, 1);
    eventually("the node is healthy", || body(&node, "/health").contains("healthy"));
    node.kill();
    let node = TestNode::start(PROGRAM, &options);
    assert_eq!((content(&node, "doc").next(1), content(&node, "other").next(2)), (11, 5));
}

#[test]
fn a_document_is_read_only_while_too_much_of_it_waits_for_the_disk_and_then_complete() {
    const MIB: usize = 1 << 20;
    let folder = tempfile::tempdir().unwrap();
    let options = options(Store::busy(folder.path()));
    let mut node = TestNode::start(PROGRAM, &options);
    let mut client = TestClient::join(&node, "doc");
    limit_files(&node, "1");
    let megabyte = "m".repeat(MIB);
    let updates: Vec<Vec<u8>> = (0..12).map(|number| append(1, number * MIB as u32, &megabyte)).collect();
    for update in &updates {
        client.message(&ywebsocket_update(update));
    }
    limit_files(&node, "unlimited");
    // Once the disk is back, the node asks for what it did not take.
    loop {
        use pinwire_protocol::document::ywebsocket::{Message, decode};
        if matches!(decode(&client.binary()), Ok(Message::SyncStep1 { .. })) {
            break;
        }
    }
    for update in &updates {
        client.message(&ywebsocket_update(update));
    }
    let mut other = writer(&node, "doc");
    eventually("all of it is there", || content(&node, "doc").next(1) == 12 * MIB as u32);
    other.message(&hocuspocus::update("doc", &append(2, 0, "last")));
    acknowledged(&mut other, 1);
    node.kill();
    let node = TestNode::start(PROGRAM, &options);
    assert_eq!(content(&node, "doc").next(1), 12 * MIB as u32);
}

#[test]
fn an_operator_removes_a_document_for_good_once_it_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store { retention_secs: 3600, ..Store::busy(folder.path()) };
    let options = Options { admin: true, ..options(store) };
    let node = TestNode::start(PROGRAM, &options);
    let secret = "a secret that has to go";
    let mut client = writer(&node, "doc");
    client.message(&hocuspocus::update("doc", &append(1, 0, secret)));
    let mut other = writer(&node, "other");
    other.message(&hocuspocus::update("other", &append(1, 0, "hello")));
    acknowledged(&mut client, 1);
    acknowledged(&mut other, 1);
    let erase = || node.admin().ask("DELETE", "/v1/store/documents/tenant/app/doc", None);
    let (status, told) = erase();
    assert!(status == 409 && told.contains("is open"), "{status} {told}");
    let ended: DocumentEnded = node.admin().act("POST", "/v1/documents/tenant/app/doc/end", &json!({}));
    assert_eq!(ended.members, 1);
    drop(client);
    // The store hears of the end in its own time.
    let mut erased = erase();
    eventually("it is removed", || {
        if erased.0 == 409 {
            erased = erase();
        }
        erased.0 != 409
    });
    assert_eq!(erased, (200, "{\"documents\":1}".to_owned()));
    assert_eq!(erase(), (200, "{\"documents\":0}".to_owned()));
    let holds = |text: &str| {
        std::fs::read_dir(folder.path()).unwrap().any(|file| {
            let bytes = std::fs::read(file.unwrap().path()).unwrap_or_default();
            bytes.windows(text.len()).any(|window| window == text.as_bytes())
        })
    };
    eventually("no file has it", || !holds(secret));
    assert!(holds("hello"));
    assert_eq!(content(&node, "doc").next(1), 0);
}
