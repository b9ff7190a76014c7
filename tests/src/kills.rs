//! Nodes that are killed at any moment, again and again, over the same store: no acknowledged update may be lost.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use pinwire_protocol::document::hocuspocus as wire;

use crate::node::{
    Covered, Fsync, Options, Received, Store, TestClient, TestNode, append, hocuspocus, pause, step1, token,
    update_of,
};

/// What a series of kills came to. That nothing was lost shows in that it ended.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Nodes killed while they served.
    pub kills: u32,
    /// Nodes killed while they started.
    pub kills_at_start: u32,
    /// Updates that were acknowledged.
    pub acknowledged: u64,
    /// Updates that were on their way to the node, or their acknowledgements on the way back.
    pub unacknowledged: u64,
    /// From starting the process to the first document joined, each time.
    pub restarts: Vec<Duration>,
}

/// Documents at a time, each with as many writers.
const DOCUMENTS: u32 = 4;
const WRITERS: u32 = 2;
/// Kills after which documents are left for new ones.
const KILLS_PER_DOCUMENT: u32 = 10;
/// Updates under way of one writer.
const WINDOW: u32 = 64;
/// How long a node is under load before it is killed, in milliseconds, from its first acknowledgement on.
const LOAD_MS: std::ops::Range<u64> = 0..60;
/// How long a node that is killed at its start has.
const START_MS: std::ops::Range<u64> = 0..15;

/// What writers were promised: for each document and client, how many clocks.
type Promised = BTreeMap<(String, u64), u32>;

/// Kills a node `kills` times.
///
/// # Panics
/// An acknowledged update is not there after a start, or a node does not start.
#[must_use]
pub fn run(program: &str, folder: &Path, fsync: Fsync, kills: u32, seed: u64) -> Report {
    let store = Store { fsync, ..Store::busy(folder) };
    let options = Options { threads: 2, grace_ms: 60_000, store: Some(store), ..Options::default() };
    let mut rng = Rng::with_seed(seed);
    let mut report = Report::default();
    let mut promised = Promised::new();
    let mut start = Instant::now();
    let mut node = TestNode::start(program, &options);
    while report.kills < kills {
        check(&node, &promised);
        if !promised.is_empty() {
            report.restarts.push(start.elapsed());
        }
        let generation = report.kills / KILLS_PER_DOCUMENT;
        if report.kills.is_multiple_of(KILLS_PER_DOCUMENT) {
            promised.clear();
        }
        load_and_kill(&mut node, generation, &mut rng, &mut report, &mut promised);
        if rng.u8(0..4) == 0 {
            let mut starting = TestNode::spawn(program, &options);
            pause(rng.u64(START_MS));
            starting.kill();
            report.kills_at_start += 1;
        }
        start = Instant::now();
        node = TestNode::start(program, &options);
    }
    check(&node, &promised);
    report
}

/// Writers write until the node is gone.
fn load_and_kill(
    node: &mut TestNode,
    generation: u32,
    rng: &mut Rng,
    report: &mut Report,
    promised: &mut Promised,
) {
    let delay = rng.u64(LOAD_MS);
    let (began, begun) = std::sync::mpsc::channel();
    let kill = report.kills;
    let written: Vec<_> = thread::scope(|scope| {
        let mut writers = Vec::new();
        for document in 0..DOCUMENTS {
            for writer in 0..WRITERS {
                let document = format!("killed-{generation}-{document}");
                // Yjs clients have a new id each time they start.
                let client = u64::from(kill * WRITERS + writer + 1);
                let socket = TestClient::dial(node).upgraded("/");
                let (began, mut rng) = (began.clone(), rng.fork());
                writers.push(scope.spawn(move || {
                    let (sent, acknowledged) = write(socket, &document, client, &mut rng, || {
                        let _ = began.send(());
                    });
                    ((document, client), sent, acknowledged)
                }));
            }
        }
        let _ = begun.recv();
        pause(delay);
        node.kill();
        writers.into_iter().map(|writer| writer.join().expect("a writer does not fail")).collect()
    });
    report.kills += 1;
    for (who, sent, acknowledged) in written {
        report.acknowledged += u64::from(acknowledged);
        report.unacknowledged += u64::from(sent - acknowledged);
        promised.insert(who, acknowledged);
    }
}

/// Writes until the connection ends; how many updates were sent, and how many were acknowledged.
fn write(
    mut socket: TestClient,
    document: &str,
    client: u64,
    rng: &mut Rng,
    mut began: impl FnMut(),
) -> (u32, u32) {
    let (mut sent, mut acknowledged) = (0, 0);
    let mut first = Vec::new();
    TestClient::write_message(&mut first, &hocuspocus::auth(document, &token()));
    if !socket.try_send(&first) {
        return (0, 0);
    }
    loop {
        while sent - acknowledged < WINDOW / 2 {
            let mut burst = Vec::new();
            for _ in 0..rng.u32(1..=WINDOW / 2) {
                let update = append(client, sent, "x");
                TestClient::write_message(&mut burst, &hocuspocus::update(document, &update));
                sent += 1;
            }
            if !socket.try_send(&burst) {
                return (sent, acknowledged);
            }
        }
        match socket.receive() {
            Received::Message(message) => {
                if let Some((_, wire::Body::SyncStatus { applied })) = hocuspocus::body(&message) {
                    assert!(applied, "an update was refused");
                    acknowledged += 1;
                    if acknowledged == 1 {
                        began();
                    }
                }
            }
            Received::End => return (sent, acknowledged),
            Received::Close(code, reason) => panic!("closed: {code} {reason}"),
            Received::Ping(_) | Received::Pong(_) => {}
        }
    }
}

/// Tells what is missing if a check comes to no end.
struct Missing<'a>(&'a str, Vec<(u64, u32, u32)>);

impl Drop for Missing<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}: client, promised, there: {:?}", self.0, self.1);
        }
    }
}

/// Every document has what was promised of it.
fn check(node: &TestNode, promised: &Promised) {
    let mut documents: Vec<&str> = promised.keys().map(|(document, _)| document.as_str()).collect();
    documents.dedup();
    for document in documents {
        let clients: Vec<(u64, u32)> = promised
            .iter()
            .filter(|((of, _), _)| of == document)
            .map(|((_, client), clocks)| (*client, *clocks))
            .collect();
        let mut member = TestClient::open(node, document);
        member.message(&step1());
        let mut covered = Covered::default();
        let mut missing = Missing(document, Vec::new());
        loop {
            missing.1 = clients
                .iter()
                .map(|(client, clocks)| (*client, *clocks, covered.next(*client)))
                .filter(|(_, clocks, there)| there < clocks)
                .collect();
            if missing.1.is_empty() {
                break;
            }
            if let Some(update) = update_of(&member.binary()) {
                covered.add(update);
            }
        }
    }
}
