//! Rules of the shard that are worth a test of their own, frame by frame.

use pinwire_protocol::close::{Close, CloseCode};
use pinwire_protocol::document::hocuspocus;
use pinwire_protocol::document::sync::SyncMessage;
use pinwire_protocol::document::varint::write_var_uint;
use pinwire_protocol::document::ywebsocket::{self, Message};
use pinwire_protocol::ws::{self, Frame, Opcode};
use pinwire_shard::{AppLimits, Opening, Shard};
use pinwire_tests::node::announcement;
use pinwire_tests::shards::{FIRST_FRAME_MS, Got, Node, closed, words};

/// An update that inserts "a" at the start of the text "t", by client 7.
const EDIT: &[u8] = &[1, 1, 7, 0, 4, 1, 1, b't', 1, b'a', 0];
const NOTHING: &[u8] = &[0, 0];

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
fn a_refusal_that_is_held_after_a_wait_for_the_document_hears_its_client_leave() {
    let mut node = Node::new(1);
    let refusal = Close::new(CloseCode::DocumentLimit, "not today");
    node.opens_wait = true;
    node.open(0, Some("doc"), Some("writer"));
    assert_eq!(node.step1(0), []);
    node.refuse_opens(&refusal);
    assert_eq!(node.take(0), closed(CloseCode::DocumentLimit, "not today"), "the first time at once");

    node.open(1, Some("doc"), Some("writer"));
    assert_eq!(node.step1(1), []);
    // Half a frame more waits with it.
    let mut bytes = Vec::new();
    ws::append_frame(&mut bytes, Frame::new(Opcode::Binary).masked([1, 2, 3, 4]), &[0, 0, 1, 0]);
    let (now, later) = bytes.split_at_mut(3);
    node.shards[0].bytes(1, now);
    node.refuse_opens(&refusal);
    assert_eq!(node.take(1), [], "the second time after a while");
    assert!(node.is_heard(1));
    node.shards[0].bytes(1, later);
    node.frame(1, Opcode::Close, &1000_u16.to_be_bytes());
    assert_eq!(node.take(1), [Got::Finish, Got::Close(1000, String::new())]);
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
    node.work_off();
    assert!(!node.take(2).is_empty(), "what was under way when it came is enough");
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
    // Two came at once, so more are expected: for few members that is 3 ms.
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
fn a_thrifty_node_gathers_presence_for_longer_and_edits_not() {
    let mut node = Node::new(1);
    (0..3).for_each(|slot| node.join(slot));
    let raise = |node: &mut Node, clock| {
        // With another state each time: a clock alone is not told at once.
        node.frame(0, Opcode::Binary, &announcement(7, clock, &format!("{{\"at\":{clock}}}")));
        node.run();
    };
    (1..3).for_each(|clock| raise(&mut node, clock));
    assert_eq!(node.take(1).len(), 2, "each at once");
    node.shards[0].set_thrifty(true);
    node.pass(12);
    raise(&mut node, 3);
    assert_eq!(node.take(1).len(), 1, "and the first of a pause");
    raise(&mut node, 4);
    raise(&mut node, 5);
    assert_eq!(node.take(1), []);
    node.shards[0].bytes(0, &mut typed(0));
    node.run();
    assert_eq!(node.take(1).len(), 1, "the edit");
    // Four times the 3 ms that edits would wait for few members.
    node.pass(11);
    assert_eq!(node.take(1), []);
    node.pass(1);
    assert_eq!(node.take(1).len(), 1, "both in one");
    node.shards[0].set_thrifty(false);
    raise(&mut node, 6);
    assert_eq!(node.take(1).len(), 1);
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
    node.pass(3);
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
fn whoever_waits_is_pinged_again_and_again_so_that_the_kernel_tells_who_has_gone() {
    let mut node = Node::new(1);
    node.limits.operations_per_minute = 1;
    node.open(0, Some("other"), Some("writer"));
    node.step1(0);
    node.say(0, |out| ywebsocket::append_update(out, EDIT));
    node.open(1, None, None);
    assert_eq!(node.auth(1, "doc", "writer"), []);
    let mut pinged = Vec::new();
    for second in 1..55 {
        node.pass(1_000);
        node.take(0);
        if std::mem::take(&mut node.pings).contains(&1) {
            pinged.push(second);
        }
    }
    assert_eq!(node.take(1), [], "it waits");
    assert!(pinged.len() == 2 && pinged[1] - pinged[0] >= 24, "each 25 s: {pinged:?}");
    // Once it is read it has the usual time to answer.
    for _ in 0..7 {
        node.pass(1_000);
        node.take(0);
    }
    assert_eq!(words(&node.take(1)), ["doc read-write"]);
    for _ in 0..20 {
        node.pass(1_000);
        node.take(0);
    }
    let got = node.take(1);
    assert!(!got.iter().any(|got| matches!(got, Got::Close(..))), "{got:?}");
}

#[test]
fn a_verdict_does_not_outlive_its_token() {
    let mut node = Node::new(1);
    node.expires = Some(130);
    node.open(0, None, Some("writer"));
    assert_eq!(words(&node.auth(0, "first", "")), ["first read-write"]);
    node.pass(131_000 - node.now_ms);
    node.take(0);
    assert_eq!(words(&node.auth(0, "second", "")), ["second denied: token expired"]);
}

#[test]
fn a_token_that_cannot_be_judged_for_now_is_not_told_to_be_bad() {
    let mut node = Node::new(1);
    node.is_key_missing = true;
    node.open(0, Some("doc"), Some("writer"));
    assert_eq!(node.step1(0), closed(CloseCode::TryAgainLater, "retry_ms=5000"));
    node.open(1, None, None);
    assert_eq!(node.auth(1, "doc", "writer"), [], "Auth is not answered yet");
    node.pass(1_000);
    assert_eq!(node.take(1), []);
    node.is_key_missing = false;
    node.pass(1_000);
    assert_eq!(words(&node.take(1)), ["doc read-write"]);
    // With a document at work nothing of the socket waits.
    node.is_key_missing = true;
    assert_eq!(words(&node.auth(1, "other", "reader")), ["other denied: retry_ms=5000"]);
}

/// Keeps a client's connection alive for so many seconds.
fn live(node: &mut Node, slot: u32, seconds: u64) -> Vec<Got> {
    let mut got = Vec::new();
    for _ in 0..seconds {
        node.pass(1_000);
        got.extend(node.take(slot));
        node.frame(slot, Opcode::Pong, &[]);
    }
    got
}

fn has_closed(got: &[Got]) -> bool {
    got.iter().any(|got| matches!(got, Got::Close(4002, reason) if reason == "token expired"))
}

#[test]
fn a_session_ends_with_its_token_only_where_that_is_wanted() {
    for is_wanted in [false, true] {
        // The document is the other thread's: the connection moves there with its end.
        let mut node = Node::with(2, is_wanted);
        let name = node.name_on(1);
        node.expires = Some(node.now_ms / 1_000 + 100);
        node.open(0, Some(&name), Some("writer"));
        node.step1(0);
        node.open(1, None, None);
        node.auth(1, "elsewhere", "writer");
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for _ in 0..99 {
            before.extend([live(&mut node, 0, 1), node.take(1)].concat());
            node.frame(1, Opcode::Pong, &[]);
        }
        for _ in 0..2 {
            node.pass(1_000);
            after.push([node.take(0), node.take(1)].concat());
        }
        assert!(!has_closed(&before));
        assert_eq!(after.concat().iter().filter(|got| has_closed(std::slice::from_ref(got))).count(), {
            if is_wanted { 2 } else { 0 }
        });
    }
}

#[test]
fn a_clock_that_is_set_ends_no_session_and_keeps_none() {
    for set_by in [3_600, -3_600] {
        let mut node = Node::with(1, true);
        node.pass(10_000_000);
        node.expires = Some(node.now_ms / 1_000 + 100);
        node.open(0, Some("doc"), Some("writer"));
        node.step1(0);
        node.clock_set_by = set_by;
        assert!(!has_closed(&live(&mut node, 0, 99)), "set by {set_by} s");
        assert!(has_closed(&live(&mut node, 0, 2)), "set by {set_by} s");
    }
}

#[test]
fn a_client_is_asked_for_a_fresh_token_in_time_and_stays_with_it() {
    // One document here, one on another thread.
    let mut node = Node::with(2, true);
    let (home, remote) = (node.name_on(0), node.name_on(1));
    let auth = |node: &mut Node, key: &str| {
        node.say(0, |out| hocuspocus::append_auth(out, key, "writer", Some("4.1.0")))
    };
    let asked = |got: &[Got], key: &str| {
        words(got).iter().filter(|word| **word == format!("{key} TokenRequest")).count()
    };
    node.expires = Some(node.now_ms / 1_000 + 200);
    node.open(0, None, None);
    auth(&mut node, &home);
    auth(&mut node, &remote);
    let early = live(&mut node, 0, 169);
    assert_eq!((asked(&early, &home), asked(&early, &remote)), (0, 0));
    let then = live(&mut node, 0, 2);
    assert_eq!((asked(&then, &home), asked(&then, &remote)), (1, 1));

    // It answers with what it has: it is asked no second time, and the end stays.
    auth(&mut node, &home);
    assert_eq!(asked(&live(&mut node, 0, 26), &home), 0);
    node.expires = Some(node.now_ms / 1_000 + 200);
    // Another token: the verdict on the same one is remembered.
    for key in [&home, &remote] {
        node.say(0, |out| hocuspocus::append_auth(out, key, "reader", Some("4.1.0")));
    }
    let got = live(&mut node, 0, 199);
    assert!(!has_closed(&got));
    assert_eq!((asked(&got, &home), asked(&got, &remote)), (1, 1), "before the end of the fresh one");
    assert!(has_closed(&live(&mut node, 0, 2)));
}

#[test]
fn clients_that_fail_on_being_asked_are_not_and_blocked_ones_end_too() {
    let mut node = Node::with(1, true);
    node.expires = Some(node.now_ms / 1_000 + 40);
    node.open(0, None, None);
    node.auth(0, "doc", "writer");
    let got = live(&mut node, 0, 38);
    assert!(words(&got).iter().all(|word| !word.contains("TokenRequest")), "{got:?}");
    node.shards[0].blocked(0, 1_000);
    assert!(has_closed(&live(&mut node, 0, 3)), "it takes no byte, and could for ever");
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
