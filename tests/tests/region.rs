//! Rules of documents that other nodes hold, too, frame by frame.

use pinwire_protocol::close::{Close, CloseCode};
use pinwire_protocol::document::awareness::{self, Awareness, Bounds, Entry};
use pinwire_protocol::document::hocuspocus;
use pinwire_protocol::document::sync::SyncMessage;
use pinwire_protocol::document::ywebsocket::{self, Message};
use pinwire_shard::{App, DocumentRef, Kept, NodeTag};
use pinwire_tests::shards::{Got, Node, closed, words};
use std::sync::Arc;

/// Updates that insert a letter at the start of the text "t", by clients 7, 8 and 9.
const EDITS: [&[u8]; 3] = [
    &[1, 1, 7, 0, 4, 1, 1, b't', 1, b'a', 0],
    &[1, 1, 8, 0, 4, 1, 1, b't', 1, b'b', 0],
    &[1, 1, 9, 0, 4, 1, 1, b't', 1, b'c', 0],
];
const OTHER: NodeTag = NodeTag(5);

fn foreign(node: &mut Node, update: &[u8]) {
    let (thread, document) = node.opened[0];
    node.shards[thread].foreign(document, &[update.into()]);
    node.run();
}

fn edit(node: &mut Node, slot: u32, key: &str, update: &[u8]) -> Vec<String> {
    let got = node.say(slot, |out| {
        hocuspocus::append_key(out, key);
        hocuspocus::append_sync_body(out, &SyncMessage::Update { update });
    });
    words(&got)
}

/// A writer of "doc" that is told what is safe.
fn join(node: &mut Node, slot: u32) {
    node.open(slot, None, None);
    assert_eq!(words(&node.auth(slot, "doc", "writer"))[0], "doc read-write");
}

fn announce(node: &mut Node, slot: u32, client: u64, clock: u32, json: &str) -> Vec<Got> {
    let mut body = Vec::new();
    awareness::append_body(&mut body, &[Entry { client, clock, json }]);
    node.say(slot, |out| hocuspocus::append_awareness_body(out, &body))
}

/// Whom a y-websocket client was told of; a query stands as client 0.
fn told(got: &[Got]) -> Vec<(u64, u32, String)> {
    let mut told = Vec::new();
    for message in got {
        let Got::Message(payload) = message else { continue };
        match ywebsocket::decode(payload) {
            Ok(Message::Awareness(body)) => {
                let body = Awareness::parse(body, &Bounds::default()).expect("a sound body");
                told.extend(body.iter().map(|entry| (entry.client, entry.clock, entry.json.to_owned())));
            }
            Ok(Message::QueryAwareness) => told.push((0, 0, "who?".to_owned())),
            _ => {}
        }
    }
    told
}

/// Whom a client sees that comes.
fn seen_by(node: &mut Node, slot: u32) -> Vec<(u64, u32, String)> {
    node.open(slot, Some("doc"), Some("writer"));
    told(&node.step1(slot))
}

fn user(client: u64, clock: u32, json: &str) -> (u64, u32, String) {
    (client, clock, json.to_owned())
}

/// Two nodes with a y-websocket client each, which know of each other.
struct Pair([Node; 2]);

impl Pair {
    fn new() -> Self {
        let mut pair = Self([Node::of_region(1), Node::of_region(1)]);
        for node in &mut pair.0 {
            node.join(0);
            let (thread, document) = node.opened[0];
            node.shards[thread].foreign_joined(document, OTHER);
            node.run();
        }
        pair.talk();
        pair
    }

    /// Brings what the nodes have to say to each other until they are done.
    fn talk(&mut self) {
        for round in 0.. {
            let mut is_done = true;
            for from in 0..2 {
                let says = std::mem::take(&mut self.0[from].says);
                let to = &mut self.0[1 - from];
                let (thread, document) = *to.opened.last().expect("a document");
                for message in says {
                    is_done = false;
                    to.shards[thread].said(document, OTHER, &message);
                    to.run();
                }
            }
            if is_done {
                return;
            }
            assert!(round < 6, "what nodes tell each other goes round");
        }
    }

    fn take(&mut self, node: usize, slot: u32) -> Vec<(u64, u32, String)> {
        told(&self.0[node].take(slot))
    }
}

#[test]
fn another_nodes_edit_reaches_members_and_is_neither_stored_again_nor_counted() {
    let mut node = Node::of_region(1);
    node.limits.operations_per_minute = 1;
    node.join(0);
    foreign(&mut node, EDITS[1]);
    let got = node.take(0);
    assert!(matches!(&got[..], [Got::Message(update)] if update.ends_with(EDITS[1])), "{got:?}");
    foreign(&mut node, EDITS[1]);
    assert_eq!(node.take(0), [], "it is known");
    assert!(node.kept.is_empty());
    let got = node.say(0, |out| ywebsocket::append_update(out, EDITS[0]));
    assert_eq!(got, [], "the one operation of the minute");
    assert_eq!(node.kept, [EDITS[0]]);
}

#[test]
fn acknowledgements_are_right_with_other_nodes_edits_between_own_ones() {
    let mut node = Node::of_region(1);
    join(&mut node, 0);
    node.store_is_out = true;
    assert!(edit(&mut node, 0, "doc", EDITS[0]).is_empty());
    foreign(&mut node, EDITS[1]);
    node.take(0);
    let (thread, document) = node.opened[0];
    let repeated = edit(&mut node, 0, "doc", EDITS[1]);
    assert!(repeated.is_empty(), "it stands behind one that is not stored: {repeated:?}");
    assert!(edit(&mut node, 0, "doc", EDITS[2]).is_empty());
    let unstored = |node: &Node| {
        let mut bytes = 0;
        let _ = node.shards[thread].inspect_documents(0, 1, &Default::default(), |view| {
            bytes = view.facts().unstored_bytes;
            std::ops::ControlFlow::Continue(())
        });
        bytes
    };
    assert_eq!(unstored(&node), 2 * (8 + EDITS[0].len()), "what came from the store is there");
    node.store_is_back();
    assert_eq!(words(&node.take(0)), ["doc status 1"; 3]);
    assert_eq!(unstored(&node), 0);
    assert_eq!(node.kept, [EDITS[0], EDITS[2]]);
    assert!(node.shards[thread].is_submitted(document, node.shards[thread].log_head(document).unwrap()));
}

#[test]
fn another_nodes_edit_among_own_ones_that_wait_is_not_stored_again() {
    let mut node = Node::of_region(1);
    join(&mut node, 0);
    node.shards[0].adrift(1);
    edit(&mut node, 0, "doc", EDITS[0]);
    foreign(&mut node, EDITS[1]);
    edit(&mut node, 0, "doc", EDITS[2]);
    node.shards[0].adrift(0);
    node.take(0);
    node.run();
    assert_eq!(node.kept, [EDITS[0], EDITS[2]]);
    assert_eq!(words(&node.take(0)), ["doc status 1"; 2]);
}

#[test]
fn another_nodes_update_that_is_none_is_dropped_and_counted() {
    let mut node = Node::of_region(1);
    node.join(0);
    foreign(&mut node, &[9, 9, 9]);
    assert_eq!(node.take(0), []);
    assert_eq!(node.shards[0].stats().entries_dropped, 1);
    foreign(&mut node, EDITS[0]);
    assert_eq!(node.shards[0].stats().updates_foreign, 1);
}

#[test]
fn what_the_store_lost_is_put_back_and_nothing_is_acknowledged_before() {
    let mut node = Node::of_region(1);
    join(&mut node, 0);
    assert_eq!(edit(&mut node, 0, "doc", EDITS[0]), ["doc status 1"]);
    let (thread, document) = node.opened[0];
    node.shards[thread].reloading(document);
    assert!(edit(&mut node, 0, "doc", EDITS[0]).is_empty(), "it may be lost");
    let has = Kept { tail: vec![EDITS[1].into()], ..Kept::default() };
    let lacking = node.shards[thread].reload(document, has).expect("the document");
    assert_eq!(lacking.updates, [EDITS[0].into()]);
    node.run();
    assert_eq!(words(&node.take(0)), ["doc update"], "what was missed is taken in");
    node.shards[thread].ended(0);
    node.pass(1_000);
    assert!(node.ended.is_empty(), "who has it stays");
    join(&mut node, 1);
    assert!(edit(&mut node, 1, "doc", EDITS[0]).is_empty());
    node.shards[thread].stored(document, lacking.upto);
    node.run();
    assert_eq!(words(&node.take(1)), ["doc status 1"]);
}

#[test]
fn a_store_that_has_everything_confirms_what_was_under_way() {
    let mut node = Node::of_region(1);
    join(&mut node, 0);
    node.store_is_out = true;
    assert!(edit(&mut node, 0, "doc", EDITS[0]).is_empty());
    let (thread, document) = node.opened[0];
    let has = Kept { base: Some(Arc::from(EDITS[0])), ..Kept::default() };
    let lacking = node.shards[thread].reload(document, has).expect("the document");
    assert!(lacking.updates.is_empty());
    node.run();
    assert_eq!(words(&node.take(0)), ["doc status 1"]);
}

#[test]
fn a_user_is_seen_on_other_nodes_and_gone_at_once_when_it_leaves() {
    let mut pair = Pair::new();
    announce(&mut pair.0[0], 0, 1, 3, "{}");
    pair.talk();
    assert_eq!(pair.take(1, 0), [user(1, 3, "{}")]);
    assert_eq!(seen_by(&mut pair.0[1], 1), [user(1, 3, "{}")], "who joins later, too");
    pair.0[0].shards[0].ended(0);
    pair.0[0].run();
    pair.talk();
    assert_eq!(pair.take(1, 0), [user(1, 3, "null")], "at the same clock");
}

#[test]
fn the_users_of_a_node_that_is_gone_are_gone_with_it() {
    let mut pair = Pair::new();
    announce(&mut pair.0[0], 0, 1, 3, "{}");
    announce(&mut pair.0[1], 0, 2, 1, "{}");
    pair.talk();
    pair.take(1, 0);
    let (thread, document) = pair.0[1].opened[0];
    pair.0[1].shards[thread].foreign_left(document, OTHER);
    pair.0[1].run();
    assert_eq!(pair.take(1, 0), [user(1, 3, "null")], "and nobody else");
}

#[test]
fn a_user_who_moves_to_another_node_is_challenged_there_and_stays_visible() {
    let mut pair = Pair::new();
    pair.0[0].join(1);
    announce(&mut pair.0[0], 1, 1, 3, "{}");
    pair.talk();
    // The old connection has not ended yet.
    pair.0[1].join(1);
    pair.take(1, 1);
    let got = announce(&mut pair.0[1], 1, 1, 4, "{}");
    assert_eq!(told(&got), []);
    pair.0[1].pass(5_000);
    pair.talk();
    pair.0[0].shards[0].ended(1);
    pair.0[0].run();
    pair.talk();
    pair.take(0, 0);
    assert_eq!(seen_by(&mut pair.0[0], 2), [user(1, 4, "{}")], "the id belongs to the new connection");
    // And back, with the clock that it had.
    pair.0[1].shards[0].ended(1);
    pair.0[1].run();
    pair.talk();
    pair.0[0].join(3);
    pair.take(0, 3);
    pair.take(0, 0);
    let got = announce(&mut pair.0[0], 3, 1, 4, "{}");
    assert_eq!(told(&got), [user(1, 4, "null"), user(0, 0, "who?")]);
    announce(&mut pair.0[0], 3, 1, 5, "{}");
    assert_eq!(pair.take(0, 0), [user(1, 5, "{}")]);
}

#[test]
fn a_user_of_whom_another_node_knows_that_it_left_is_challenged_on_its_behalf() {
    let mut pair = Pair::new();
    // The other node forgot, or never heard.
    pair.0[0].join(1);
    announce(&mut pair.0[0], 1, 1, 3, "{}");
    pair.0[0].shards[0].ended(1);
    pair.0[0].run();
    pair.0[0].says.clear();
    pair.take(0, 0);
    pair.0[1].join(1);
    assert_eq!(told(&announce(&mut pair.0[1], 1, 1, 3, "{}")), []);
    pair.talk();
    assert_eq!(pair.take(1, 1), [user(1, 3, "null"), user(0, 0, "who?")]);
    announce(&mut pair.0[1], 1, 1, 4, "{}");
    pair.talk();
    assert_eq!(pair.take(0, 0), [user(1, 4, "{}")], "at once, though its state is the same");
}

#[test]
fn nodes_that_missed_something_are_told_again_of_everyone() {
    let mut pair = Pair::new();
    announce(&mut pair.0[0], 0, 1, 3, "{}");
    pair.talk();
    announce(&mut pair.0[0], 0, 1, 4, "{\"a\":1}");
    pair.0[0].join(1);
    announce(&mut pair.0[0], 1, 2, 1, "{}");
    pair.0[0].says.clear();
    pair.take(1, 0);
    for _ in 0..2 {
        pair.0[0].pass(6_000);
        pair.talk();
    }
    assert_eq!(pair.take(1, 0), [user(1, 4, "{\"a\":1}"), user(2, 1, "{}")]);
    // A departure that was not heard.
    pair.0[0].shards[0].ended(1);
    pair.0[0].run();
    pair.0[0].says.clear();
    for _ in 0..2 {
        pair.0[0].pass(6_000);
        pair.talk();
    }
    assert_eq!(pair.take(1, 0), [user(2, 1, "null")]);
}

#[test]
fn what_a_node_said_before_does_not_undo_what_it_said_since() {
    let mut pair = Pair::new();
    announce(&mut pair.0[0], 0, 1, 3, "{}");
    let late = std::mem::take(&mut pair.0[0].says);
    pair.0[0].pass(100);
    pair.0[0].shards[0].ended(0);
    pair.0[0].run();
    pair.talk();
    pair.0[0].says = late;
    pair.talk();
    assert_eq!(pair.take(1, 0), []);
    pair.0[1].limits.max_users_per_document = 2;
    pair.0[1].open(1, Some("doc"), Some("writer"));
    assert!(matches!(pair.0[1].step1(1)[..], [Got::Message(_), ..]), "nobody is there any more");
}

#[test]
fn members_on_other_nodes_count_for_the_limit() {
    let mut pair = Pair::new();
    pair.0[1].limits.max_users_per_document = 2;
    let full = closed(CloseCode::DocumentUsers, "Document user limit exceeded: 2");
    pair.0[1].open(1, Some("doc"), Some("writer"));
    assert_eq!(pair.0[1].step1(1), full, "one is here, and one there");
    pair.0[0].shards[0].ended(0);
    pair.0[0].run();
    pair.talk();
    pair.0[1].open(2, Some("doc"), Some("writer"));
    pair.0[1].pass(1_000);
    assert!(matches!(pair.0[1].step1(2)[..], [Got::Message(_), ..]));
}

#[test]
fn a_node_adrift_relays_between_its_own_and_promises_nothing() {
    let mut node = Node::of_region(1);
    join(&mut node, 0);
    node.join(1);
    node.take(1);
    node.shards[0].adrift(1);
    assert!(edit(&mut node, 0, "doc", EDITS[0]).is_empty(), "not acknowledged");
    assert_eq!(node.take(1).len(), 1, "sent to others here");
    assert!(node.kept.is_empty());
    node.open(2, Some("new"), Some("writer"));
    assert!(matches!(&node.step1(2)[..], [Got::Close(1013, reason)] if reason.starts_with("retry_ms=")));
    node.open(3, None, None);
    assert_eq!(node.auth(3, "new", "writer"), [], "unanswered");
    join(&mut node, 4);
    node.pass(3_000);
    assert_eq!(node.opened.len(), 1);
    node.shards[0].adrift(0);
    node.run();
    assert_eq!(words(&node.take(0)), ["doc status 1"]);
    assert_eq!(node.kept, [EDITS[0]]);
    node.pass(1_500);
    assert_eq!(words(&node.take(3)), ["new read-write"]);
}

#[test]
fn a_registry_that_is_away_touches_no_documents_of_other_license_regions() {
    let mut node = Node::of_region(1);
    join(&mut node, 0);
    let here = std::mem::replace(&mut node.app, App::in_license("tenant", "other", 3).into());
    join(&mut node, 1);
    node.shards[0].adrift(1 << 3);
    assert!(edit(&mut node, 1, "doc", EDITS[0]).is_empty());
    node.app = Arc::clone(&here);
    assert_eq!(edit(&mut node, 0, "doc", EDITS[1]), ["doc status 1"]);
    assert_eq!(node.kept, [EDITS[1]]);
    node.open(2, Some("new"), Some("writer"));
    assert!(matches!(node.step1(2)[..], [Got::Message(_), ..]));
    // The other one, instead.
    node.shards[0].adrift(1);
    node.run();
    assert_eq!(words(&node.take(1)), ["doc status 1"]);
    assert!(edit(&mut node, 0, "doc", EDITS[2]).is_empty());
    node.shards[0].adrift(0);
    node.run();
    assert_eq!(node.kept, [EDITS[1], EDITS[0], EDITS[2]]);
    assert_eq!(words(&node.take(0)), ["doc status 1"]);
}

#[test]
fn whoever_comes_back_adrift_finds_the_document_that_nobody_had_open() {
    for mut node in [Node::of_region(1), Node::new(1)] {
        join(&mut node, 0);
        node.shards[0].adrift(1);
        assert!(edit(&mut node, 0, "doc", EDITS[0]).is_empty());
        node.shards[0].ended(0);
        node.pass(60_000);
        assert!(node.ended.is_empty(), "the store lacks something of it, and nobody could open it");
        node.open(1, Some("doc"), Some("writer"));
        assert!(node.step1(1).iter().any(|got| matches!(got, Got::Message(_))));
        node.shards[0].ended(1);
        node.shards[0].adrift(0);
        node.run();
        node.pass(60_000);
        assert_eq!((node.kept.len(), node.ended.len()), (1, 1));
    }
}

#[test]
fn a_document_that_cannot_be_had_for_now_holds_up_no_other_of_its_socket() {
    let mut node = Node::of_region(1);
    join(&mut node, 0);
    node.join(1);
    node.take(1);
    node.shards[0].adrift(1);
    assert_eq!(node.auth(0, "new", "writer"), []);
    assert!(node.is_heard(0));
    edit(&mut node, 0, "doc", EDITS[0]);
    assert_eq!(node.take(1).len(), 1);
    node.shards[0].adrift(0);
    node.run();
    assert_eq!(words(&node.take(0)), ["doc status 1"]);
    node.pass(1_500);
    assert_eq!(words(&node.take(0)), ["new read-write"]);
}

#[test]
fn a_document_that_nobody_has_open_stays_until_the_store_has_it() {
    let mut node = Node::of_region(1);
    node.join(0);
    node.store_is_out = true;
    node.say(0, |out| ywebsocket::append_update(out, EDITS[0]));
    node.shards[0].ended(0);
    node.pass(1_000);
    assert!(node.ended.is_empty());
    node.join(1);
    assert_eq!(node.opened.len(), 1, "who comes meanwhile goes on with it");
    node.shards[0].ended(1);
    node.pass(1_000);
    node.shards[0].store_away(true);
    node.store_is_back();
    node.pass(1_000);
    assert!(node.ended.is_empty(), "nor does it end while the store is out of reach");
    node.shards[0].store_away(false);
    node.pass(1_000);
    assert_eq!(node.ended, node.opened);
    node.join(2);
    let [(_, first), (_, second)] = node.opened[..] else { panic!("opened anew") };
    assert_ne!(first, second);
}

fn tell_full(node: &mut Node, is_full: bool) {
    let (thread, document) = node.opened[0];
    node.shards[thread].store_full(document, is_full);
    node.run();
}

#[test]
fn a_document_for_which_there_is_no_room_takes_no_edits_and_asks_for_them_once_there_is() {
    let mut node = Node::of_region(1);
    join(&mut node, 0);
    node.join(1);
    node.take(1);
    node.store_is_out = true;
    assert!(edit(&mut node, 0, "doc", EDITS[0]).is_empty(), "not acknowledged");
    node.take(1);
    tell_full(&mut node, true);
    assert_eq!(edit(&mut node, 0, "doc", EDITS[1]), ["doc status 0"]);
    assert!(node.take(1).is_empty(), "nobody is sent what is not kept");
    tell_full(&mut node, false);
    assert_eq!(edit(&mut node, 0, "doc", EDITS[1]), ["doc status 0"], "what came before is stored first");
    node.store_is_back();
    let told = words(&node.take(0));
    assert!(
        told.contains(&"doc status 1".to_owned()) && told.len() == 2,
        "acknowledged, and asked: {told:?}"
    );
    assert_eq!(edit(&mut node, 0, "doc", EDITS[1]), ["doc status 1"]);
    assert_eq!(node.kept, [EDITS[0], EDITS[1]]);
}

#[test]
fn a_document_that_is_given_up_sends_its_members_away_for_a_while_and_ends() {
    let mut node = Node::of_region(1);
    node.join(0);
    join(&mut node, 1);
    node.store_is_out = true;
    assert!(edit(&mut node, 1, "doc", EDITS[0]).is_empty());
    node.take(0);
    tell_full(&mut node, true);
    let (thread, document) = node.opened[0];
    node.shards[thread].give_up(document);
    node.run();
    for slot in [0, 1] {
        let got = node.take(slot);
        assert!(matches!(&got[..], [Got::Close(1013, reason)] if reason.starts_with("retry_ms=")), "{got:?}");
    }
    assert_eq!(node.ended, node.opened);
    node.join(2);
    assert_eq!(node.opened.len(), 2, "it is opened anew");
}

#[test]
fn a_document_that_nobody_has_open_and_that_is_never_taken_ends_when_it_is_given_up() {
    let mut node = Node::of_region(1);
    node.join(0);
    node.store_is_out = true;
    node.say(0, |out| ywebsocket::append_update(out, EDITS[0]));
    tell_full(&mut node, true);
    node.shards[0].ended(0);
    node.pass(1_000);
    assert!(node.ended.is_empty());
    let (thread, document) = node.opened[0];
    node.shards[thread].give_up(document);
    node.run();
    assert_eq!(node.ended, node.opened);
}

#[test]
fn nobody_stays_of_a_node_whose_number_stands_for_none_any_more() {
    let mut pair = Pair::new();
    announce(&mut pair.0[0], 0, 7, 1, "{}");
    pair.talk();
    assert_eq!(pair.take(1, 0), [user(7, 1, "{}")]);
    pair.0[1].shards[0].foreign_forgotten(NodeTag(6));
    pair.0[1].run();
    assert!(pair.take(1, 0).is_empty(), "of others it is not said");
    pair.0[1].shards[0].foreign_forgotten(OTHER);
    pair.0[1].run();
    assert_eq!(pair.take(1, 0), [user(7, 1, "null")]);
}

#[test]
fn what_cannot_be_read_is_told_to_the_store_wherever_it_comes_from() {
    let mut node = Node::of_region(1);
    node.opens_wait = true;
    node.open(0, Some("doc"), Some("writer"));
    node.step1(0);
    let (thread, document) = node.unopened[0];
    let shard = &mut node.shards[thread];
    let kept = |base: &[u8], tail: &[&[u8]]| Kept {
        base: Some(base.into()),
        tail: tail.iter().map(|update| Box::from(*update)).collect(),
        nodes: Vec::new(),
    };
    assert_eq!(shard.opened(document, Ok(kept(&[], &[EDITS[0], &[9, 9]]))), 2);
    assert_eq!(shard.foreign(document, &[EDITS[1].into(), Box::from([])]), 1);
    assert_eq!(shard.foreign(document, &[EDITS[2].into()]), 0);
    let put_back = shard.reload(document, kept(EDITS[0], &[&[]])).expect("it is here");
    assert_eq!((put_back.unreadable, put_back.updates.len()), (1, 2));
    assert_eq!(shard.stats().entries_dropped, 4);
}

fn lose(node: &mut Node, (thread, document): (usize, DocumentRef)) {
    node.shards[thread].lost(document, &Close::redirect("wss://there/doc"));
    node.run();
}

#[test]
fn a_document_whose_pin_is_lost_closes_its_members_and_ends() {
    let mut node = Node::of_region(2);
    let (here, there) = (node.name_on(0), node.name_on(1));
    node.open(0, Some(&here), Some("writer"));
    node.step1(0);
    node.open(1, None, None);
    node.auth(1, &here, "writer");
    node.auth(1, &there, "writer");
    node.take(1);
    let redirect = closed(CloseCode::WrongRegion, "REDIRECT:wss://there/doc");
    let opened = node.opened.clone();
    lose(&mut node, opened[0]);
    assert_eq!(node.take(0), redirect);
    assert_eq!(node.take(1), redirect, "with all of its socket");
    assert_eq!(node.ended[0], opened[0]);
    // A member whose socket is another thread's.
    node.open(2, None, None);
    node.auth(2, &here, "writer");
    node.auth(2, &there, "writer");
    node.take(2);
    let of_there = *node.opened.iter().rfind(|(thread, _)| *thread == 1).expect("opened");
    lose(&mut node, of_there);
    assert_eq!(node.take(2), redirect);
}

#[test]
fn what_was_made_ready_for_members_of_a_lost_document_does_not_leave() {
    let mut node = Node::of_region(2);
    let (here, there) = (node.name_on(0), node.name_on(1));
    for slot in 0..2 {
        node.open(slot, None, None);
        node.auth(slot, &here, "writer");
        node.auth(slot, &there, "writer");
        node.take(slot);
    }
    node.open(2, Some(&here), Some("writer"));
    node.step1(2);
    let redirect = closed(CloseCode::WrongRegion, "REDIRECT:wss://there/doc");
    let opened = node.opened.clone();
    // One reads nothing, and has half a frame perhaps.
    node.shards[0].blocked(2, 100);
    node.shards[0].foreign(opened[0].1, &[EDITS[0].into()]);
    node.shards[0].flush();
    lose(&mut node, opened[0]);
    assert_eq!(node.take(0), redirect);
    assert_eq!(node.take(1), redirect);
    assert_eq!((node.take(2), node.shards[0].has(2)), (vec![], false), "it is cut");
    // Members whose sockets are another thread's.
    node.open(3, None, None);
    node.auth(3, &here, "writer");
    node.auth(3, &there, "writer");
    node.take(3);
    let (_, of_there) = *node.opened.iter().rfind(|(thread, _)| *thread == 1).expect("opened");
    node.shards[1].foreign(of_there, &[EDITS[1].into()]);
    node.shards[1].flush();
    lose(&mut node, (1, of_there));
    assert_eq!(node.take(3), redirect);
}

#[test]
fn whoever_waits_for_a_document_whose_pin_is_lost_is_refused() {
    let mut node = Node::of_region(1);
    node.opens_wait = true;
    node.open(0, Some("doc"), Some("writer"));
    node.step1(0);
    node.open(1, None, None);
    node.auth(1, "doc", "writer");
    let waiting = node.unopened[0];
    lose(&mut node, waiting);
    assert_eq!(node.take(0), closed(CloseCode::WrongRegion, "REDIRECT:wss://there/doc"));
    assert_eq!(words(&node.take(1)), ["doc denied: REDIRECT:wss://there/doc"]);
}

#[test]
fn a_first_burst_within_the_limit_waits_for_what_the_node_may_admit() {
    let mut node = Node::of_region(1);
    node.limits.max_connections = 2;
    node.app.await_share();
    node.join(0);
    for slot in 1..3 {
        node.open(slot, Some("doc"), Some("writer"));
        assert_eq!(node.step1(slot), [], "it waits");
    }
    node.pass(1_000);
    node.app.set_share(2, true);
    node.pass(200);
    assert!(matches!(node.take(1)[..], [Got::Message(_), ..]));
    assert!(matches!(&node.take(2)[..], [Got::Close(4004, _)]));
    // Nor does one wait for ever.
    let mut node = Node::of_region(1);
    node.limits.max_connections = 2;
    node.app.await_share();
    node.join(0);
    node.open(1, Some("doc"), Some("writer"));
    assert_eq!(node.step1(1), []);
    node.pass(2_000);
    assert_eq!(node.take(1), []);
    node.pass(2_000);
    assert!(matches!(&node.take(1)[..], [Got::Close(1013, _)]));
}

#[test]
fn a_node_without_a_share_left_asks_clients_to_come_again() {
    let mut node = Node::of_region(1);
    node.limits.max_connections = 10;
    node.app.set_share(1, false);
    node.join(0);
    node.open(1, Some("doc"), Some("writer"));
    assert!(matches!(&node.step1(1)[..], [Got::Close(1013, _)]));
    node.open(2, None, None);
    assert_eq!(node.auth(2, "doc", "writer"), []);
    assert!(node.app.is_short());
    node.app.set_share(3, false);
    node.pass(1_500);
    assert_eq!(words(&node.take(2))[0], "doc read-write");
}
