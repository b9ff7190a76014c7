//! Connections that change threads, and sockets whose documents live on several: nothing is lost, order is kept.

use std::collections::HashMap;

use pinwire_protocol::document::hocuspocus as wire;
use pinwire_tests::node::{
    Covered, Options, Received, TestClient, TestNode, announcement, edit, hocuspocus, on_every_engine,
    on_two_threads, step1, token, update_of, upgrade_request, ywebsocket_update,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_test-node");

fn beside_others(options: &Options, test: impl FnOnce(&TestNode)) {
    pinwire_tests::node::beside_others(PROGRAM, options, |node, _| test(node));
}

/// What somebody says who comes back after writing offline: step 1, awareness and fifty updates.
fn burst(writer: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    TestClient::write_message(&mut bytes, &step1());
    TestClient::write_message(&mut bytes, &announcement(writer, 1, "{}"));
    for clock in 0..50 {
        TestClient::write_message(&mut bytes, &ywebsocket_update(&edit(writer, clock, "x")));
    }
    bytes
}

/// How a burst follows the handshake.
#[derive(Clone, Copy, Debug)]
enum Start {
    /// In one segment with it.
    Together,
    /// Right behind it, without waiting for the answer.
    Behind,
    /// Once it was answered.
    After,
}

fn start(node: &TestNode, document: &str, writer: u64, how: Start) -> TestClient {
    let mut client = TestClient::dial(node);
    let head = upgrade_request(&format!("/{document}?token={}", token()), "").into_bytes();
    match how {
        Start::Together => client.send(&[head, burst(writer)].concat()),
        Start::Behind => {
            client.send(&head);
            client.send(&burst(writer));
        }
        Start::After => client.send(&head),
    }
    assert_eq!(client.answer().status, 101);
    if let Start::After = how {
        client.send(&burst(writer));
    }
    client
}

#[test]
fn what_follows_a_handshake_at_once_arrives_whole_and_in_order() {
    on_every_engine(|options| {
        beside_others(&options, |node| {
            for round in 0..200u64 {
                let how = [Start::Together, Start::Behind, Start::After][round as usize % 3];
                let document = format!("burst-{round}");
                let mut first = start(node, &document, 1, how);
                // It is answered, too.
                let mut answers = 0;
                while answers < 1 {
                    answers += usize::from(update_of(&first.binary()).is_some());
                }
                // Another one in the middle of things, and a witness of it all.
                let mut witness = TestClient::join(node, &document);
                let mut second = start(node, &document, 2, how);
                witness.message(&step1());
                let mut covered = Covered::default();
                while covered.next(1) < 50 || covered.next(2) < 50 {
                    if let Some(update) = update_of(&witness.binary()) {
                        covered.add(update);
                    }
                }
                let mut seen = Covered::default();
                while seen.next(2) < 50 {
                    if let Some(update) = update_of(&first.binary()) {
                        seen.add(update);
                    }
                }
                second.close(1000);
                assert_eq!(second.closed(), Some(1000), "{document}");
            }
        });
    });
}

#[test]
fn a_long_message_right_behind_the_handshake_arrives_whole() {
    let text = "y".repeat(6 << 20);
    on_every_engine(|options| {
        beside_others(&options, |node| {
            for round in 0..4 {
                let document = format!("long-{round}");
                let mut bytes = upgrade_request(&format!("/{document}?token={}", token()), "").into_bytes();
                TestClient::write_message(&mut bytes, &step1());
                TestClient::write_message(&mut bytes, &ywebsocket_update(&edit(1, 0, &text)));
                let mut client = TestClient::dial(node);
                client.send(&bytes);
                assert_eq!(client.answer().status, 101);
                let mut witness = TestClient::join(node, &document);
                let mut covered = Covered::default();
                witness.message(&step1());
                while covered.next(1) < text.len() as u32 {
                    if let Some(update) = update_of(&witness.binary()) {
                        covered.add(update);
                    }
                }
            }
        });
    });
}

#[test]
fn many_connections_may_move_at_once() {
    on_two_threads(|options| {
        beside_others(&options, |node| {
            let mut clients: Vec<TestClient> = (0..200)
                .map(|round| start(node, &format!("flock-{}", round % 20), round, Start::Together))
                .collect();
            for (round, client) in clients.iter_mut().enumerate() {
                client.message(&step1());
                let mut covered = Covered::default();
                let mine = round as u64;
                let others = (0..200).filter(|other| other % 20 == mine % 20 && *other != mine);
                for other in others {
                    while covered.next(other) < 50 {
                        if let Some(update) = update_of(&client.binary()) {
                            covered.add(update);
                        }
                    }
                }
            }
        });
    });
}

#[test]
fn a_connection_that_ends_while_it_moves_leaves_nothing_behind() {
    on_two_threads(|options| {
        beside_others(&options, |node| {
            for round in 0..400 {
                let document = format!("gone-{round}");
                let head = upgrade_request(&format!("/{document}?token={}", token()), "").into_bytes();
                let mut client = TestClient::dial(node);
                client.send(&[head, burst(1)].concat());
                match round % 3 {
                    0 => drop(client),
                    1 => client.finish(),
                    _ => {
                        let linger = socket2::SockRef::from(client.stream())
                            .set_linger(Some(std::time::Duration::ZERO));
                        linger.expect("a reset at the end");
                    }
                }
            }
        });
    });
}

// Hocuspocus: one socket, documents everywhere.

const DOCUMENTS: usize = 24;

fn name(at: usize) -> String {
    format!("multi-{at}")
}

fn index(key: &str) -> usize {
    let name = key.split('\0').next().expect("a name");
    name.strip_prefix("multi-")
        .and_then(|at| at.parse().ok())
        .unwrap_or_else(|| panic!("an unknown key: {key:?}"))
}

/// What a socket was told of each of its documents.
#[derive(Default)]
struct Told {
    acknowledged: HashMap<usize, u32>,
    covered: HashMap<usize, Covered>,
    authenticated: usize,
}

impl Told {
    fn add(&mut self, message: &[u8]) {
        let Some((key, body)) = hocuspocus::body(message) else { return };
        let at = index(key);
        match body {
            wire::Body::SyncStatus { applied } => {
                assert!(applied, "{key}");
                *self.acknowledged.entry(at).or_default() += 1;
            }
            wire::Body::Authenticated { .. } => self.authenticated += 1,
            wire::Body::PermissionDenied { reason } => panic!("{key}: {reason}"),
            _ => {}
        }
        if let Some(update) = update_of(message) {
            self.covered.entry(at).or_default().add(update);
        }
    }

    fn read_until(&mut self, client: &mut TestClient, is_enough: impl Fn(&Self) -> bool) {
        while !is_enough(self) {
            self.add(&client.binary());
        }
    }

    fn all_cover(&self, writer: u64, clock: u32) -> bool {
        (0..DOCUMENTS).all(|at| self.covered.get(&at).is_some_and(|covered| covered.next(writer) >= clock))
    }

    fn all_acknowledge(&self, count: u32) -> bool {
        (0..DOCUMENTS).all(|at| self.acknowledged.get(&at) == Some(&count))
    }
}

/// Auth and step 1 for every document, at once.
fn open_all(node: &TestNode, key: impl Fn(usize) -> String) -> TestClient {
    let mut client = TestClient::dial(node).upgraded("/");
    let mut bytes = Vec::new();
    for at in 0..DOCUMENTS {
        TestClient::write_message(&mut bytes, &hocuspocus::auth(&key(at), &token()));
        TestClient::write_message(&mut bytes, &hocuspocus::step1(&key(at)));
    }
    client.send(&bytes);
    client
}

#[test]
fn a_socket_with_documents_of_several_threads_gets_one_acknowledgement_for_each_update() {
    on_every_engine(|options| {
        beside_others(&options, |node| {
            let private = |at: usize| format!("{}\0session", name(at));
            let mut reader = open_all(node, private);
            let mut writer = open_all(node, name);
            let mut seen = Told::default();
            seen.read_until(&mut reader, |told| told.authenticated == DOCUMENTS);
            let mut bytes = Vec::new();
            for clock in 0..40 {
                for at in 0..DOCUMENTS {
                    let update = hocuspocus::update(&name(at), &edit(1, clock, "x"));
                    TestClient::write_message(&mut bytes, &update);
                }
            }
            writer.send(&bytes);
            let mut told = Told::default();
            told.read_until(&mut writer, |told| told.all_acknowledge(40));
            seen.read_until(&mut reader, |seen| seen.all_cover(1, 40));
            // The writer gets no echo, and no acknowledgement too many.
            assert!(told.covered.values().all(|covered| covered.next(1) == 0));
            writer.message(&hocuspocus::auth(&name(0), &token()));
            let before = told.authenticated;
            told.read_until(&mut writer, |told| told.authenticated > before);
            assert!(told.all_acknowledge(40));
        });
    });
}

#[test]
fn a_slow_socket_with_documents_of_several_threads_catches_up_with_all_of_them() {
    let text = "z".repeat(20_000);
    on_every_engine(|options| {
        beside_others(&options, |node| {
            let before = node.measure();
            let mut slow = open_all(node, name);
            let mut seen = Told::default();
            seen.read_until(&mut slow, |told| told.authenticated == DOCUMENTS);
            let mut writer = open_all(node, name);
            let mut told = Told::default();
            told.read_until(&mut writer, |told| told.authenticated == DOCUMENTS);
            // Twenty megabytes while it reads nothing.
            for round in 0..40u32 {
                for at in 0..DOCUMENTS {
                    let update = edit(1, round * text.len() as u32, &text);
                    writer.message(&hocuspocus::update(&name(at), &update));
                }
                told.read_until(&mut writer, |told| told.all_acknowledge(round + 1));
            }
            let end = 40 * text.len() as u32;
            seen.read_until(&mut slow, |seen| seen.all_cover(1, end));
            let peak = node.measure().peak;
            assert!(peak < before.resident + (160 << 20), "{} MiB at the peak", peak >> 20);
        });
    });
}

#[test]
fn a_bad_update_to_a_document_of_another_thread_closes_its_socket_alone() {
    on_two_threads(|options| {
        beside_others(&options, |node| {
            for at in 0..DOCUMENTS {
                let mut witness = open_all(node, name);
                let mut client = open_all(node, name);
                let mut told = Told::default();
                told.read_until(&mut client, |told| told.authenticated == DOCUMENTS);
                client.message(&hocuspocus::update(&name(at), &[9, 9, 9]));
                let mut status = None;
                let code = loop {
                    match client.receive() {
                        Received::Message(message) => {
                            if let Some((key, wire::Body::SyncStatus { applied })) =
                                hocuspocus::body(&message)
                            {
                                status = Some((index(key), applied));
                            }
                        }
                        Received::Close(code, _) => break code,
                        other => panic!("{other:?}"),
                    }
                };
                assert_eq!((code, status), (1007, Some((at, false))));
                let mut seen = Told::default();
                witness.message(&hocuspocus::update(&name(at), &edit(at as u64 + 10, 0, "fine")));
                seen.read_until(&mut witness, |told| told.acknowledged.contains_key(&at));
            }
        });
    });
}
