//! Rules of the shard that are worth a test of their own, frame by frame.

use pinwire_protocol::close::{Close, CloseCode};
use pinwire_protocol::document::hocuspocus::{self, Body, Frame as Keyed};
use pinwire_protocol::document::name::NameRules;
use pinwire_protocol::document::sync::SyncMessage;
use pinwire_protocol::document::varint::write_var_uint;
use pinwire_protocol::document::ywebsocket::{self, Message};
use pinwire_protocol::ws::{self, Decoder, Event, Frame, Limits, Opcode, Role, Scratch};
use pinwire_shard::{
    Access, App, AppLimits, DocumentRef, Effect, Grant, Opening, Policy, Segment, Settings, Shard,
    SocketAction, Verdict, ticks,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// An update that inserts "a" at the start of the text "t", by client 7.
const EDIT: &[u8] = &[1, 1, 7, 0, 4, 1, 1, b't', 1, b'a', 0];
const NOTHING: &[u8] = &[0, 0];
const FIRST_FRAME_MS: u64 = 10_000;

#[derive(Debug)]
struct Fixed(Option<Access>);

impl Policy for Fixed {
    fn access(&self, _document: &str, _origin: Option<&str>) -> Result<Access, Close> {
        self.0.ok_or_else(|| Close::new(CloseCode::Forbidden, "document not allowed"))
    }
}

/// Something a client was sent.
#[derive(Debug, PartialEq, Eq)]
enum Got {
    Message(Vec<u8>),
    Close(u16, String),
    Finish,
}

/// A node whose store, verifier and mail answer at once.
struct Node {
    shards: Vec<Shard>,
    app: Arc<App>,
    limits: AppLimits,
    expires: Option<u64>,
    now_ms: u64,
    readers: BTreeMap<(usize, u32), (Decoder, Vec<Got>)>,
    /// Writes wait in `unstored` until the store is back.
    store_is_out: bool,
    unstored: Vec<(usize, DocumentRef, u32)>,
    /// What waits for the socket that is asked about.
    backlog: usize,
    /// Compactions are not worked off.
    worker_is_out: bool,
    /// Who was sent pings.
    pings: Vec<u32>,
}

impl Node {
    fn new(threads: u16) -> Self {
        let shard = |thread| {
            let settings = Settings {
                thread,
                threads,
                placement_seed: 7,
                seed: 7,
                ws: Limits::DEFAULT,
                names: NameRules::default(),
                first_frame: ticks(FIRST_FRAME_MS),
                ping: ticks(25_000),
                pong: ticks(20_000),
                idle_frame: ticks(20_000),
                slow_reader: ticks(60_000),
                close: ticks(3_000),
                grace_ms: 10_000,
                gather_us_per_member: 1_000,
                compress_min: usize::MAX,
                end_on_expiry: false,
            };
            Shard::new(settings, 1_000, 1_000)
        };
        Self {
            shards: (0..threads).map(shard).collect(),
            app: Arc::new(App::new("tenant", "app")),
            limits: AppLimits::UNLIMITED,
            expires: None,
            now_ms: 1_000,
            readers: BTreeMap::new(),
            store_is_out: false,
            unstored: Vec::new(),
            backlog: 0,
            worker_is_out: false,
            pings: Vec::new(),
        }
    }

    fn verdict(&self, token: &str) -> Verdict {
        let access = match token {
            "writer" => Some(Access::ReadWrite),
            "reader" => Some(Access::ReadOnly),
            "elsewhere" => None,
            _ => return Err(Close::new(CloseCode::InvalidToken, "invalid token")),
        };
        Ok(Arc::new(Grant {
            app: Arc::clone(&self.app),
            limits: self.limits,
            subject: "someone".into(),
            expires: self.expires,
            policy: Box::new(Fixed(access)),
        }))
    }

    fn open(&mut self, slot: u32, document: Option<&str>, token: Option<&str>) {
        let opening = Opening {
            document: document.map(Into::into),
            token: token.map(Into::into),
            origin: None,
            peer: [127, 0, 0, 1].into(),
            deflate: false,
        };
        self.readers.insert((0, slot), (Decoder::new(Role::Client, false), Vec::new()));
        self.shards[0].open(slot, opening);
        self.run();
    }

    fn frame(&mut self, slot: u32, opcode: Opcode, payload: &[u8]) {
        let mut bytes = Vec::new();
        ws::append_frame(&mut bytes, Frame::new(opcode).masked([1, 2, 3, 4]), payload);
        self.shards[0].bytes(slot, &mut bytes);
        self.run();
    }

    /// A writer of "doc" comes, by y-websocket, and syncs.
    fn join(&mut self, slot: u32) {
        self.open(slot, Some("doc"), Some("writer"));
        self.step1(slot);
    }

    /// Sends one binary message and gives what came of it.
    fn say(&mut self, slot: u32, write: impl FnOnce(&mut Vec<u8>)) -> Vec<Got> {
        let mut payload = Vec::new();
        write(&mut payload);
        self.frame(slot, Opcode::Binary, &payload);
        self.take(slot)
    }

    fn step1(&mut self, slot: u32) -> Vec<Got> {
        self.say(slot, |out| ywebsocket::append_sync_step1(out, &[0]))
    }

    fn auth(&mut self, slot: u32, key: &str, token: &str) -> Vec<Got> {
        self.say(slot, |out| hocuspocus::append_auth(out, key, token, None))
    }

    /// What a client was sent since the last call, wherever its socket is.
    fn take(&mut self, slot: u32) -> Vec<Got> {
        let mut sockets = self.readers.iter_mut().filter(|((_, number), _)| *number == slot);
        std::mem::take(&mut sockets.next().expect("an open socket").1.1)
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        self.run();
    }

    fn run(&mut self) {
        for _ in 0..8 {
            for thread in 0..self.shards.len() {
                self.turn(thread);
            }
        }
    }

    fn turn(&mut self, thread: usize) {
        self.shards[thread].begin_turn(self.now_ms * 1_000, self.now_ms / 1000);
        self.effects(thread);
        self.shards[thread].settle();
        self.effects(thread);
        self.shards[thread].flush();
        let outbox = std::mem::take(self.shards[thread].outbox());
        for (slot, segment) in outbox.sends {
            let bytes = match &segment {
                Segment::Arena(range) => &outbox.arena[range.start as usize..range.end as usize],
                Segment::Shared(bytes) => bytes,
            };
            self.receive(thread, slot, bytes.to_vec());
        }
        self.shards[thread].finish_turn();
        self.effects(thread);
    }

    fn receive(&mut self, thread: usize, slot: u32, mut bytes: Vec<u8>) {
        let (decoder, got) = self.readers.get_mut(&(thread, slot)).expect("an open socket");
        let (mut scratch, mut at) = (Scratch::new(), 0);
        while at < bytes.len() {
            let decoded =
                decoder.decode(&mut bytes[at..], &Limits::DEFAULT, &mut scratch).expect("sound frames");
            at += decoded.consumed;
            match decoded.event {
                Some(Event::Message { payload, .. }) => got.push(Got::Message(payload.to_vec())),
                Some(Event::Close { code, reason }) => {
                    got.push(Got::Close(code.unwrap_or_default(), reason.to_owned()));
                }
                Some(Event::Ping(_)) => self.pings.push(slot),
                _ => {}
            }
        }
    }

    fn effects(&mut self, thread: usize) {
        while let Some(effect) = self.shards[thread].next_effect() {
            match effect {
                Effect::Verify { conn, ticket, token } => {
                    let verdict = self.verdict(&token);
                    self.shards[thread].verdict(conn, ticket, verdict);
                }
                Effect::Open(document, _) => self.shards[thread].opened(document, Ok(None)),
                Effect::Store(document) => {
                    let position = self.shards[thread].submit(document).map(|(position, _)| position);
                    match position {
                        Some(position) if self.store_is_out => {
                            self.unstored.push((thread, document, position));
                        }
                        Some(position) => self.shards[thread].stored(document, position),
                        None => {}
                    }
                }
                Effect::Compact(..) if self.worker_is_out => {}
                Effect::Compact(document, job) => self.shards[thread].compacted(document, job.run()),
                Effect::Mail(to, mail) => self.shards[usize::from(to)].mail(thread as u16, mail),
                Effect::Socket(slot, SocketAction::Finish) => {
                    if let Some((_, got)) = self.readers.get_mut(&(thread, slot)) {
                        got.push(Got::Finish);
                    }
                }
                Effect::Backlog(slot, noted) => self.shards[thread].backlog(slot, noted, self.backlog),
                Effect::Move(slot, to) => {
                    let traveller = self.shards[thread].depart(slot).expect("a connection that moves");
                    let reader = self.readers.remove(&(thread, slot)).expect("an open socket");
                    self.readers.insert((usize::from(to), slot), reader);
                    self.shards[usize::from(to)].arrive(slot, traveller);
                }
                _ => {}
            }
        }
    }

    fn store_is_back(&mut self) {
        self.store_is_out = false;
        for (thread, document, position) in std::mem::take(&mut self.unstored) {
            self.shards[thread].stored(document, position);
        }
        self.run();
    }

    /// A document name that a thread owns.
    fn name_on(&self, thread: u16) -> String {
        let is_there = |name: &String| {
            let name = pinwire_shard::DocumentName {
                tenant: "tenant".into(),
                app: "app".into(),
                name: name.as_str().into(),
            };
            self.shards[0].owner(&name) == thread
        };
        (0..1_000).map(|number| format!("document-{number}")).find(is_there).expect("a name for every thread")
    }
}

fn closed(code: CloseCode, reason: &str) -> Vec<Got> {
    vec![Got::Close(code.code(), reason.to_owned())]
}

/// What a Hocuspocus client makes of what it was sent: a word for each frame.
fn words(got: &[Got]) -> Vec<String> {
    let word = |got: &Got| match got {
        Got::Message(payload) => match hocuspocus::decode(payload) {
            Ok(Keyed::Message { key, body }) => format!("{} {}", key.raw, body_word(&body)),
            other => format!("{other:?}"),
        },
        other => format!("{other:?}"),
    };
    got.iter().map(word).collect()
}

fn body_word(body: &Body<'_>) -> String {
    match body {
        Body::Sync(SyncMessage::Step1 { .. }) => "step1".to_owned(),
        Body::Sync(SyncMessage::Step2 { .. }) => "step2".to_owned(),
        Body::Sync(SyncMessage::Update { .. }) => "update".to_owned(),
        Body::Authenticated { scope } => (*scope).to_owned(),
        Body::PermissionDenied { reason } => format!("denied: {reason}"),
        Body::SyncStatus { applied } => format!("status {}", u8::from(*applied)),
        other => format!("{other:?}"),
    }
}

#[test]
fn a_missing_token_closes_4001_and_the_next_time_only_after_a_while() {
    let mut node = Node::new(1);
    node.open(0, Some("doc"), None);
    assert!(matches!(node.step1(0)[..], [Got::Close(4001, _)]));
    node.open(1, Some("doc"), None);
    assert_eq!(node.step1(1), [], "held");
    node.pass(200);
    assert_eq!(node.take(1), [], "still held");
    node.pass(300);
    assert!(matches!(node.take(1)[..], [Got::Close(4001, _)]));
}

#[test]
fn a_held_refusal_that_the_client_closes_is_counted_no_more() {
    let mut node = Node::new(1);
    for slot in 0..5_000 {
        node.shards[0].begin_turn(node.now_ms * 1_000, 1);
        let opening = Opening {
            document: Some("doc".into()),
            token: None,
            origin: None,
            peer: [127, 0, 0, 1].into(),
            deflate: false,
        };
        node.shards[0].open(slot, opening);
        let mut bytes = Vec::new();
        ws::append_frame(&mut bytes, Frame::new(Opcode::Binary).masked([0; 4]), &[0, 0, 1, 0]);
        ws::append_close(&mut bytes, 1000u16, "", Some([0; 4]));
        node.shards[0].bytes(slot, &mut bytes);
        node.shards[0].ended(slot);
    }
    assert!(!node.shards[0].is_overrun_by([127, 0, 0, 1].into(), None, Some("doc")));
}

#[test]
fn a_refusal_that_is_held_on_the_thread_of_the_document_keeps_its_code() {
    let mut node = Node::new(2);
    node.limits.max_users_per_document = 0;
    let name = node.name_on(1);
    let full = closed(CloseCode::DocumentUsers, "Document user limit exceeded: 0");
    node.open(0, Some(&name), Some("writer"));
    assert_eq!(node.step1(0), full, "the first time at once");
    node.open(1, Some(&name), Some("writer"));
    assert_eq!(node.step1(1), [], "the second time after a while");
    node.pass(1_000);
    assert_eq!(node.take(1), full);
}

#[test]
fn ywebsocket_refusals_have_their_codes() {
    let limits = |change: fn(&mut AppLimits)| {
        let mut limits = AppLimits::UNLIMITED;
        change(&mut limits);
        limits
    };
    let unlimited = AppLimits::UNLIMITED;
    let cases = [
        (unlimited, Some("doc"), "nonsense", closed(CloseCode::InvalidToken, "invalid token")),
        (unlimited, Some("doc"), "elsewhere", closed(CloseCode::Forbidden, "document not allowed")),
        (unlimited, Some("d/c"), "writer", closed(CloseCode::InvalidName, "invalid document name")),
        (unlimited, None, "writer", closed(CloseCode::InvalidName, "no document in the path")),
        (
            limits(|limits| limits.max_connections = 0),
            Some("doc"),
            "writer",
            closed(CloseCode::ConnectionLimit, "Connection limit exceeded: 0"),
        ),
        (
            limits(|limits| limits.max_documents = 0),
            Some("doc"),
            "writer",
            closed(CloseCode::DocumentLimit, "Document limit exceeded: 0 (active: 0)"),
        ),
        (
            limits(|limits| limits.max_users_per_document = 0),
            Some("doc"),
            "writer",
            closed(CloseCode::DocumentUsers, "Document user limit exceeded: 0"),
        ),
    ];
    for (limits, document, token, expected) in cases {
        let mut node = Node::new(1);
        node.limits = limits;
        node.open(0, document, Some(token));
        assert_eq!(node.step1(0), expected);
        assert_eq!(node.app.connections(), 0);
    }
}

#[test]
fn hocuspocus_refusals_have_the_same_reasons_and_leave_the_socket_open() {
    let mut node = Node::new(1);
    node.open(0, None, None);
    assert_eq!(words(&node.auth(0, "a", "nonsense")), ["a denied: invalid token"]);
    assert_eq!(words(&node.auth(0, "b", "elsewhere")), ["b denied: document not allowed"]);
    assert_eq!(words(&node.auth(0, "n/o", "writer")), ["n/o denied: invalid document name"]);
    // The verdict on the last token is kept: another one comes in between.
    node.limits.max_documents = 0;
    assert_eq!(words(&node.auth(0, "c", "nonsense")), ["c denied: invalid token"]);
    assert_eq!(words(&node.auth(0, "c", "writer")), ["c denied: Document limit exceeded: 0 (active: 0)"]);
    node.limits = AppLimits { max_users_per_document: 0, ..AppLimits::UNLIMITED };
    assert_eq!(words(&node.auth(0, "d", "nonsense")), ["d denied: invalid token"]);
    assert_eq!(words(&node.auth(0, "d", "writer")), ["d denied: Document user limit exceeded: 0"]);
    node.limits = AppLimits::UNLIMITED;
    assert_eq!(words(&node.auth(0, "e", "nonsense")), ["e denied: invalid token"]);
    assert_eq!(words(&node.auth(0, "e", "writer")), ["e read-write"]);
}

#[test]
fn too_much_before_auth_closes_1008() {
    let mut node = Node::new(1);
    node.open(0, None, None);
    let mut got = Vec::new();
    for _ in 0..100 {
        got.extend(node.say(0, |out| hocuspocus::append_query_awareness(out, "doc")));
    }
    assert!(matches!(got[..], [Got::Close(1008, _)]), "{got:?}");
}

#[test]
fn text_on_a_document_closes_1003() {
    let mut node = Node::new(1);
    node.open(0, Some("doc"), Some("writer"));
    assert_eq!(node.step1(0).len(), 2);
    node.frame(0, Opcode::Text, b"{}");
    assert!(matches!(node.take(0)[..], [Got::Close(1003, _)]));
}

#[test]
fn a_client_that_sends_no_auth_is_denied_at_the_deadline_and_stays() {
    let mut node = Node::new(1);
    node.open(0, None, None);
    let step1 = SyncMessage::Step1 { state_vector: &[0] };
    assert_eq!(node.say(0, |out| hocuspocus::append_sync(out, "doc", &step1)), []);
    node.pass(FIRST_FRAME_MS - 100);
    assert_eq!(node.take(0), []);
    node.pass(200);
    let got = words(&node.take(0));
    assert!(matches!(&got[..], [word] if word.starts_with("doc denied: ")), "{got:?}");
    assert_eq!(words(&node.auth(0, "doc", "writer")), ["doc read-write"]);
}

#[test]
fn an_update_that_fails_the_walk_closes_its_sender_alone() {
    let mut node = Node::new(1);
    node.open(0, None, None);
    node.open(1, Some("doc"), Some("writer"));
    node.auth(0, "doc", "writer");
    node.step1(1);
    node.take(0);
    let bad = SyncMessage::Update { update: &[9, 9, 9] };
    let got = words(&node.say(0, |out| hocuspocus::append_sync(out, "doc", &bad)));
    assert!(got[0] == "doc status 0" && got[1].starts_with("Close(1007"), "{got:?}");
    assert_eq!(node.take(1), []);
    assert_eq!(node.say(1, |out| ywebsocket::append_update(out, EDIT)), []);
    node.open(2, Some("doc"), Some("reader"));
    let mut step2 = Vec::new();
    ywebsocket::append_sync_step2(&mut step2, EDIT);
    assert_eq!(node.step1(2)[0], Got::Message(step2));
}

#[test]
fn every_step_1_gets_a_step_2_and_one_step_1() {
    let mut node = Node::new(1);
    node.open(0, Some("doc"), Some("writer"));
    let (mut step1, mut step2) = (Vec::new(), Vec::new());
    ywebsocket::append_sync_step1(&mut step1, &[0]);
    ywebsocket::append_sync_step2(&mut step2, NOTHING);
    for _ in 0..3 {
        assert_eq!(node.step1(0), [Got::Message(step2.clone()), Got::Message(step1.clone())]);
    }
}

#[test]
fn a_socket_is_a_member_of_documents_of_two_threads() {
    let mut node = Node::new(2);
    let (here, there) = (node.name_on(0), node.name_on(1));
    node.open(0, None, Some("writer"));
    for name in [&here, &there] {
        assert_eq!(words(&node.auth(0, name, "")), [format!("{name} read-write")]);
        let step1 = SyncMessage::Step1 { state_vector: &[0] };
        let got = words(&node.say(0, |out| hocuspocus::append_sync(out, name, &step1)));
        assert_eq!(got, [format!("{name} step2"), format!("{name} step1")]);
        let nothing = SyncMessage::Step2 { update: NOTHING };
        let got = words(&node.say(0, |out| hocuspocus::append_sync(out, name, &nothing)));
        assert_eq!(got, [format!("{name} status 1")]);
        let edit = SyncMessage::Update { update: EDIT };
        let got = words(&node.say(0, |out| hocuspocus::append_sync(out, name, &edit)));
        assert_eq!(got, [format!("{name} status 1")]);
    }
    node.shards[0].ended(0);
    node.pass(20_000);
    assert_eq!(node.shards.iter().map(Shard::population).collect::<Vec<_>>(), [(0, 0), (0, 0)]);
    assert_eq!((node.app.connections(), node.app.documents()), (0, 0));
}

/// A Hocuspocus socket whose edit is not stored yet.
fn writer_in_wait(node: &mut Node) {
    node.open(0, None, Some("writer"));
    node.auth(0, "doc", "");
    node.store_is_out = true;
    let edit = SyncMessage::Update { update: EDIT };
    assert_eq!(node.say(0, |out| hocuspocus::append_sync(out, "doc", &edit)), []);
}

#[test]
fn an_edit_that_is_known_but_not_stored_is_not_acknowledged() {
    let mut node = Node::new(1);
    writer_in_wait(&mut node);
    node.open(1, None, Some("writer"));
    node.auth(1, "doc", "");
    let again = SyncMessage::Step2 { update: EDIT };
    assert_eq!(node.say(1, |out| hocuspocus::append_sync(out, "doc", &again)), []);
    node.store_is_back();
    assert_eq!(
        (words(&node.take(0)), words(&node.take(1))),
        (vec!["doc status 1".to_owned()], vec!["doc status 1".to_owned()])
    );
}

#[test]
fn a_reader_that_takes_less_than_is_added_is_not_slow() {
    let mut node = Node::new(1);
    writer_in_wait(&mut node);
    node.shards[0].blocked(0, 100);
    node.pass(59_000);
    node.store_is_back();
    assert_eq!(words(&node.take(0)), ["doc status 1"], "queued behind what waits");
    // It took 5 of the 100 bytes; 8 came on top.
    node.backlog = 103;
    node.shards[0].blocked(0, 103);
    node.pass(2_000);
    assert_eq!(node.take(0), []);
    node.pass(60_000);
    assert!(matches!(node.take(0)[..], [Got::Finish, Got::Close(4010, _)]));
}

#[test]
fn a_writer_alone_is_sent_a_data_frame_in_time() {
    let mut node = Node::new(1);
    node.open(0, Some("doc"), Some("writer"));
    node.step1(0);
    for second in 0..21u8 {
        let mut bytes = Vec::new();
        for clock in [2 * second, 2 * second + 1] {
            let mut payload = Vec::new();
            ywebsocket::append_update(&mut payload, &[1, 1, 7, clock, 4, 1, 1, b't', 1, b'a', 0]);
            ws::append_frame(&mut bytes, Frame::new(Opcode::Binary).masked([0; 4]), &payload);
        }
        node.shards[0].bytes(0, &mut bytes);
        node.pass(1_000);
    }
    assert_eq!(node.take(0), [Got::Message(ywebsocket::EMPTY_AWARENESS.to_vec())]);
}

#[test]
fn pings_and_idle_frames_meet_again_after_an_edit() {
    let mut node = Node::new(1);
    for slot in 0..2 {
        node.join(slot);
        node.frame(slot, Opcode::Pong, &[]);
    }
    let mut sent = Vec::new();
    for second in 1..=120 {
        node.pass(1_000);
        if second == 30 {
            // Halfway between two idle frames: from here on the ping is due first.
            node.say(0, |out| ywebsocket::append_update(out, EDIT));
            assert_eq!(node.take(1).len(), 1, "the edit");
        }
        let idle_frames = node.take(1).len();
        let pings = std::mem::take(&mut node.pings);
        pings.iter().for_each(|slot| node.frame(*slot, Opcode::Pong, &[]));
        sent.push((idle_frames, pings.iter().filter(|slot| **slot == 1).count()));
    }
    sent.retain(|sent| *sent != (0, 0));
    assert!((5..=7).contains(&sent.len()), "one call each 20 to 25 s: {sent:?}");
    assert!(sent.iter().all(|sent| *sent == (1, 1)), "idle frames and pings, always together: {sent:?}");
}

#[test]
fn who_has_nothing_is_sent_what_the_log_holds_without_waiting_for_a_worker() {
    let mut node = Node::new(1);
    node.open(0, Some("doc"), Some("writer"));
    node.step1(0);
    // More than a data thread folds into one.
    let edits: Vec<Vec<u8>> = (0..100).map(|clock| vec![1, 1, 7, clock, 4, 1, 1, b't', 1, b'a', 0]).collect();
    for edit in &edits {
        node.say(0, |out| ywebsocket::append_update(out, edit));
    }
    node.worker_is_out = true;
    node.open(1, Some("doc"), Some("writer"));
    let mut sent = Vec::new();
    for got in node.step1(1) {
        let Got::Message(payload) = got else { panic!("{got:?}") };
        match ywebsocket::decode(&payload).expect("a message") {
            Message::SyncStep2 { update } | Message::Update { update } => sent.push(update.to_vec()),
            Message::SyncStep1 { state_vector } => assert_eq!(state_vector, [1, 7, 100]),
            other => panic!("{other:?}"),
        }
    }
    sent.retain(|update| update != NOTHING);
    assert_eq!(sent, edits);
    node.open(2, Some("doc"), Some("writer"));
    assert_eq!(
        node.say(2, |out| ywebsocket::append_sync_step1(out, &[1, 7, 50])),
        [],
        "who has a part waits for the worker to make the rest"
    );
}

/// One frame with an edit: the `clock`th character that client 7 types.
fn typed(clock: u8) -> Vec<u8> {
    let (mut payload, mut bytes) = (Vec::new(), Vec::new());
    ywebsocket::append_update(&mut payload, &[1, 1, 7, clock, 4, 1, 1, b't', 1, b'a', 0]);
    ws::append_frame(&mut bytes, Frame::new(Opcode::Binary).masked([0; 4]), &payload);
    bytes
}

#[test]
fn edits_that_come_faster_than_they_are_sent_leave_together() {
    let mut node = Node::new(1);
    (0..3).for_each(|slot| node.join(slot));
    let say = |node: &mut Node, clock| node.shards[0].bytes(0, &mut typed(clock));
    say(&mut node, 0);
    node.run();
    assert_eq!(node.take(1).len(), 1, "the first leaves at once");
    say(&mut node, 1);
    node.run();
    assert_eq!(node.take(1).len(), 1, "and whoever comes alone");
    say(&mut node, 2);
    say(&mut node, 3);
    node.run();
    assert_eq!(node.take(1).len(), 2);
    // Two came at once, so more are expected: for three members that is 3 ms.
    for clock in 4..7 {
        say(&mut node, clock);
        node.run();
        assert_eq!(node.take(1), []);
        assert_eq!(node.shards[0].next_deadline_us(), Some(1_003_000));
        assert!(!node.shards[0].has_work(), "the thread may sleep until then");
        node.pass(1);
    }
    assert_eq!(node.take(1).len(), 3);
    node.pass(3);
    say(&mut node, 7);
    node.run();
    assert_eq!(node.take(1).len(), 1, "after a pause at once");
}

#[test]
fn large_edits_are_not_gathered() {
    let mut node = Node::new(1);
    (0..3).for_each(|slot| node.join(slot));
    for clock in 0..2 {
        node.shards[0].bytes(0, &mut typed(clock));
    }
    node.run();
    assert_eq!(node.take(1).len(), 2);
    let mut paste = vec![1, 1, 8, 0, 4, 1, 1, b't'];
    write_var_uint(&mut paste, 70_000);
    paste.extend(std::iter::repeat_n(b'a', 70_000));
    paste.push(0);
    node.say(0, |out| ywebsocket::append_update(out, &paste));
    assert_eq!(node.take(1).len(), 1);
}

#[test]
fn an_acknowledgement_does_not_wait_for_edits_that_are_gathered() {
    let mut node = Node::new(1);
    node.open(0, None, Some("writer"));
    node.auth(0, "doc", "");
    node.open(1, Some("doc"), Some("writer"));
    node.step1(1);
    node.shards[0].bytes(1, &mut typed(0));
    node.shards[0].bytes(1, &mut typed(1));
    node.run();
    assert_eq!(words(&node.take(0)), ["doc update", "doc update"]);
    let edit = [1, 1, 8, 0, 4, 1, 1, b't', 1, b'a', 0];
    let edit = SyncMessage::Update { update: &edit };
    assert_eq!(words(&node.say(0, |out| hocuspocus::append_sync(out, "doc", &edit))), ["doc status 1"]);
    assert_eq!(node.take(1), []);
    node.pass(2);
    assert_eq!(node.take(1).len(), 1);
}

#[test]
fn a_peer_without_a_good_token_cannot_make_a_large_message_be_held() {
    let mut node = Node::new(1);
    node.open(0, None, None);
    node.say(0, |out| hocuspocus::append_query_awareness(out, "doc"));
    let large = vec![0; 1 << 20];
    let mut bytes = Vec::new();
    ws::append_frame(&mut bytes, Frame::new(Opcode::Binary).masked([1, 2, 3, 4]), &large);
    node.shards[0].bytes(0, &mut bytes[..64]);
    node.run();
    let got = node.take(0);
    let is_closed = got.iter().any(|got| matches!(got, Got::Close(1009, _)));
    assert!(is_closed, "the header alone says that it is too large: {got:?}");

    node.open(1, Some("doc"), Some("writer"));
    node.step1(1);
    node.frame(1, Opcode::Binary, &large);
    let got = node.take(1);
    assert!(
        !got.iter().any(|got| matches!(got, Got::Close(1009, _))),
        "a good token may send as much: {got:?}"
    );
}

#[test]
fn a_temporary_refusal_outlasts_the_pings_that_cannot_be_answered_meanwhile() {
    let mut node = Node::new(1);
    node.limits.operations_per_minute = 1;
    node.open(0, Some("other"), Some("writer"));
    node.step1(0);
    node.say(0, |out| ywebsocket::append_update(out, EDIT));

    node.open(1, None, None);
    assert_eq!(
        node.auth(1, "doc", "writer"),
        [],
        "the app has used up its operations: Auth is not answered yet"
    );
    for _ in 0..61 {
        node.pass(1_000);
        node.take(0);
    }
    assert_eq!(
        words(&node.take(1)),
        ["doc read-write"],
        "in the next minute it is, and nothing closed it before"
    );
}

#[test]
fn a_verdict_does_not_outlive_its_token() {
    let mut node = Node::new(1);
    node.expires = Some(100);
    node.open(0, None, Some("writer"));
    assert_eq!(words(&node.auth(0, "first", "")), ["first read-write"]);
    node.pass(131_000 - node.now_ms);
    node.take(0);
    assert_eq!(words(&node.auth(0, "second", "")), ["second denied: token expired"]);
}

#[test]
fn a_socket_may_open_and_leave_more_documents_than_it_may_have_open() {
    let mut node = Node::new(2);
    let home = node.name_on(0);
    node.open(0, None, Some("writer"));
    node.auth(0, &home, "");
    for number in 0..600 {
        let name = format!("doc-{number}");
        assert_eq!(words(&node.auth(0, &name, "")), [format!("{name} read-write")]);
        node.say(0, |out| hocuspocus::append_close(out, &name, None));
    }
    node.shards[0].ended(0);
    node.pass(20_000);
    assert_eq!(node.shards.iter().map(Shard::population).collect::<Vec<_>>(), [(0, 0), (0, 0)]);
}
