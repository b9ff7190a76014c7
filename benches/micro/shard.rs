//! A data thread's state machine without its sockets: fan-out, outbox, routing, joining.

use std::hint::black_box;
use std::sync::Arc;

use pinwire_benches::edits::append_edit;
use pinwire_benches::instructions::Case;
use pinwire_protocol::close::Close;
use pinwire_protocol::document::awareness::Entry;
use pinwire_protocol::document::name::NameRules;
use pinwire_protocol::document::{awareness, ywebsocket};
use pinwire_protocol::ws::{Frame, Limits, Opcode, append_frame};
use pinwire_shard::{
    Access, App, AppLimits, DocumentName, Effect, Grant, Kept, Opening, Outbox, Policy, Segment, Settings,
    Shard, SocketAction, ticks,
};

pub(crate) const CASES: &[Case] = &[
    Case { name: "fan-out/edit to 10", rounds: 200, run: |rounds| fan_out(rounds, 10, 1) },
    Case { name: "fan-out/edit to 100", rounds: 100, run: |rounds| fan_out(rounds, 100, 1) },
    Case { name: "fan-out/edit to 1,000", rounds: 50, run: |rounds| fan_out(rounds, 1_000, 1) },
    Case { name: "fan-out/10 edits of a turn to 100", rounds: 50, run: |rounds| fan_out(rounds, 100, 10) },
    Case { name: "fan-out/awareness to 100", rounds: 100, run: announce },
    Case { name: "outbox/100 sends of 24 B", rounds: 500, run: outbox },
    Case { name: "routing/thread of a document", rounds: 5_000, run: route },
    Case { name: "session/join and leave", rounds: 100, run: join_and_leave },
    Case { name: "turn/nothing to do, 1,000 idle", rounds: 1_000, run: idle_turn },
];

const NOW_MS: u64 = 1_000;
const SEED: u64 = 7;
const DOCUMENT: &str = "meeting-2041";

#[derive(Debug)]
struct Anything;

impl Policy for Anything {
    fn access(&self, _document: &str, _origin: Option<&str>) -> Result<Access, Close> {
        Ok(Access::ReadWrite)
    }
}

/// A node of one thread whose verifier and store answer at once.
struct Node {
    shard: Shard,
    grant: Arc<Grant>,
    input: Vec<u8>,
    payload: Vec<u8>,
    /// Bytes sent in the last turn.
    sent: usize,
    /// The slot whose client ended its connection.
    leaving: Option<u32>,
}

impl Node {
    /// With so many members in one document, in slots from 0.
    fn with_members(members: u32) -> Self {
        let grant = Grant {
            app: Arc::new(App::new("acme", "notes")),
            limits: AppLimits::UNLIMITED,
            subject: "ann".into(),
            regions: None,
            expires: None,
            policy: Box::new(Anything),
        };
        let mut node = Self {
            shard: Shard::new(settings(1), NOW_MS, NOW_MS / 1_000),
            grant: Arc::new(grant),
            input: Vec::new(),
            payload: Vec::new(),
            sent: 0,
            leaving: None,
        };
        for slot in 0..members {
            node.join(slot);
        }
        node.turn();
        node
    }

    fn join(&mut self, slot: u32) {
        let opening = Opening {
            document: Some(DOCUMENT.into()),
            token: Some("token".into()),
            origin: None,
            peer: [127, 0, 0, 1].into(),
            deflate: false,
        };
        self.shard.open(slot, opening);
        self.effects();
        self.say(slot, |out| ywebsocket::append_sync_step1(out, &[0]));
        self.effects();
    }

    /// One masked binary message of a client.
    fn say(&mut self, slot: u32, write: impl FnOnce(&mut Vec<u8>)) {
        self.payload.clear();
        write(&mut self.payload);
        self.input.clear();
        append_frame(&mut self.input, Frame::new(Opcode::Binary).masked([1, 2, 3, 4]), &self.payload);
        self.shard.bytes(slot, &mut self.input);
    }

    /// Ends the turn and begins the next.
    fn turn(&mut self) {
        self.effects();
        self.shard.settle();
        self.effects();
        self.shard.flush();
        let outbox = self.shard.outbox();
        self.sent = outbox.sends.iter().map(|(_, segment)| segment.len()).sum();
        outbox.sends.clear();
        outbox.arena.clear();
        self.shard.finish_turn();
        self.effects();
        self.shard.begin_turn(NOW_MS * 1_000, NOW_MS / 1_000);
    }

    fn effects(&mut self) {
        while let Some(effect) = self.shard.next_effect() {
            match effect {
                Effect::Verify { conn, ticket, .. } => {
                    self.shard.verdict(conn, ticket, Ok(Arc::clone(&self.grant)));
                }
                Effect::Open(document, _) => _ = self.shard.opened(document, Ok(Kept::default())),
                Effect::Store(document) => {
                    let position = self.shard.submit(document).map(|(position, _)| position);
                    if let Some(position) = position {
                        self.shard.stored(document, position);
                    }
                }
                // Of a client that spoke before its document was there; nothing it sends is lost.
                Effect::Socket(_, SocketAction::PauseRead | SocketAction::ResumeRead) => {}
                // Of a client that left.
                Effect::Socket(slot, SocketAction::Close) if self.leaving == Some(slot) => {}
                effect => panic!("nothing measured here leads to {effect:?}"),
            }
        }
    }
}

fn settings(threads: u16) -> Settings {
    Settings {
        thread: 0,
        threads,
        placement_seed: SEED,
        seed: SEED,
        ws: Limits::DEFAULT,
        names: NameRules::default(),
        first_frame: ticks(10_000),
        ping: ticks(25_000),
        pong: ticks(20_000),
        idle_frame: ticks(20_000),
        slow_reader: ticks(60_000),
        close: ticks(3_000),
        grace_ms: 10_000,
        gather_us_per_member: 0,
        compress_min: usize::MAX,
        end_on_expiry: false,
        is_shared: false,
    }
}

/// A turn in which `writers` of a document's members typed one character each: their frames made and read, the document's
/// log, the store, and what everyone else is sent.
fn fan_out(rounds: u32, members: u32, writers: u32) {
    let mut node = Node::with_members(members);
    for round in 0..rounds {
        for writer in 0..writers {
            let mut update = Vec::with_capacity(32);
            append_edit(&mut update, 0x9e37_79b9 ^ u64::from(writer << 8), round);
            node.say(writer, |out| ywebsocket::append_update(out, &update));
        }
        node.turn();
        assert!(node.sent >= 20 * (members as usize - 1), "everyone else is sent the edits");
    }
}

/// A cursor moved.
fn announce(rounds: u32) {
    const MEMBERS: u32 = 100;
    let mut node = Node::with_members(MEMBERS);
    let mut body = Vec::new();
    for round in 0..rounds {
        let json =
            format!(r##"{{"user":{{"name":"Ada","color":"#30bced"}},"at":"{:06}"}}"##, round % 1_000_000);
        body.clear();
        awareness::append_body(&mut body, &[Entry { client: 0x9e37_79b9, clock: round + 1, json: &json }]);
        node.say(0, |out| ywebsocket::append_awareness(out, &body));
        node.turn();
        assert!(node.sent >= 50 * (MEMBERS as usize - 1), "everyone else is told");
    }
}

fn outbox(rounds: u32) {
    let mut outbox = Outbox::default();
    let message = [0x5a; 24];
    for _ in 0..rounds {
        let range = outbox.store(|arena| arena.extend_from_slice(black_box(&message)));
        for slot in 0..100 {
            outbox.send(black_box(slot), Segment::Arena(range.clone()));
        }
        black_box(&outbox);
        outbox.arena.clear();
        outbox.sends.clear();
    }
}

fn route(rounds: u32) {
    let shard = Shard::new(settings(2), NOW_MS, NOW_MS / 1_000);
    let name = DocumentName { tenant: "acme".into(), app: "notes".into(), name: DOCUMENT.into() };
    for _ in 0..rounds {
        black_box(shard.owner(black_box(&name)));
    }
}

/// A document of ten gets an eleventh member, who syncs and leaves.
fn join_and_leave(rounds: u32) {
    const MEMBERS: u32 = 10;
    let mut node = Node::with_members(MEMBERS);
    for _ in 0..rounds {
        node.join(MEMBERS);
        node.turn();
        assert!(node.sent > 0, "a newcomer is answered");
        node.leaving = Some(MEMBERS);
        node.shard.ended(MEMBERS);
        node.turn();
        node.leaving = None;
    }
}

fn idle_turn(rounds: u32) {
    let mut node = Node::with_members(1_000);
    for _ in 0..rounds {
        node.turn();
    }
}
