//! What a document does with an update: the structural walk, coverage, merging, awareness.

use std::hint::black_box;

use pinwire_benches::edits::append_edit;
use pinwire_benches::instructions::Case;
use pinwire_protocol::document::awareness::{Entry, append_body};
use pinwire_protocol::document::update::{Bounds, Visitor, scan};
use pinwire_protocol::document::{awareness as wire, ywebsocket};
use pinwire_shard::document::awareness::Awareness;
use pinwire_shard::document::coverage::Coverage;
use pinwire_shard::document::yjs::{merge, merge_tiered};

const WRITERS: u64 = 10;

pub(crate) const CASES: &[Case] = &[
    Case { name: "message/decode one edit", rounds: 5_000, run: decode_message },
    Case { name: "scan/one edit", rounds: 5_000, run: |rounds| walk(rounds, &edit(7, 1_000)) },
    Case { name: "scan/1,000 edits in one", rounds: 50, run: |rounds| walk(rounds, &many_edits()) },
    Case { name: "coverage/one edit of 10 writers", rounds: 2_000, run: absorb },
    Case { name: "coverage/an edit known already", rounds: 2_000, run: compare },
    Case { name: "merge/turn of 2", rounds: 200, run: |rounds| merge_turn(rounds, 2) },
    Case { name: "merge/turn of 16", rounds: 50, run: |rounds| merge_turn(rounds, 16) },
    Case { name: "merge/turn of 160", rounds: 10, run: |rounds| merge_turn(rounds, 160) },
    Case { name: "awareness/parse 60 B", rounds: 2_000, run: parse_awareness },
    Case { name: "awareness/change, 100 users", rounds: 2_000, run: change_awareness },
    Case { name: "awareness/write 100 users", rounds: 100, run: write_awareness },
];

fn edit(client: u64, clock: u32) -> Vec<u8> {
    let mut update = Vec::new();
    append_edit(&mut update, client, clock);
    update
}

/// A client number of 32 bits, as Yjs draws them.
fn client(number: u64) -> u64 {
    0x9e37_79b9 ^ (number << 8)
}

/// Updates of one turn: writers type in turn.
fn turn(len: usize) -> Vec<Vec<u8>> {
    let edit_of = |i: usize| edit(client(i as u64 % WRITERS), 1_000 + (i as u64 / WRITERS) as u32);
    (0..len).map(edit_of).collect()
}

fn many_edits() -> Vec<u8> {
    let updates: Vec<Vec<u8>> = (0..1_000).map(|i| edit(client(i % WRITERS), (i / WRITERS) as u32)).collect();
    merge(updates.iter().map(Vec::as_slice)).expect("the edits are sound")
}

fn decode_message(rounds: u32) {
    let mut frame = Vec::new();
    ywebsocket::append_update(&mut frame, &edit(client(1), 1_000));
    for _ in 0..rounds {
        black_box(ywebsocket::decode(black_box(&frame)).expect("a sound message"));
    }
}

fn walk(rounds: u32, update: &[u8]) {
    for _ in 0..rounds {
        scan(black_box(update), &Bounds::default(), &mut ()).expect("a sound update");
    }
}

/// A document that ten writers have typed in.
fn covered() -> Coverage {
    let mut coverage = Coverage::new();
    for writer in 0..WRITERS {
        coverage.absorb().structs(client(writer), 0, 1_000);
    }
    coverage
}

fn absorb(rounds: u32) {
    let mut coverage = covered();
    for round in 0..rounds {
        let mut absorb = coverage.absorb();
        absorb.structs(black_box(client(u64::from(round) % WRITERS)), 1_000 + round / WRITERS as u32, 1);
        black_box(absorb.is_new);
    }
}

fn compare(rounds: u32) {
    let coverage = covered();
    for round in 0..rounds {
        let mut compare = coverage.compare();
        compare.structs(black_box(client(u64::from(round) % WRITERS)), round % 1_000, 1);
        black_box(compare.is_new);
    }
}

fn merge_turn(rounds: u32, len: usize) {
    let updates = turn(len);
    let updates: Vec<&[u8]> = updates.iter().map(Vec::as_slice).collect();
    for _ in 0..rounds {
        black_box(merge_tiered(black_box(&updates)).expect("the edits are sound"));
    }
}

const STATE: &str = r##"{"user":{"name":"Ada Lovelace","color":"#30bced"},"at":1234}"##;
const OTHER: &str = r##"{"user":{"name":"Ada Lovelace","color":"#30bced"},"at":1235}"##;

fn parse_awareness(rounds: u32) {
    let mut body = Vec::new();
    append_body(&mut body, &[Entry { client: client(1), clock: 5, json: STATE }]);
    for _ in 0..rounds {
        let parsed = wire::Awareness::parse(black_box(&body), &wire::Bounds::default());
        black_box(parsed.expect("a sound body").iter().count());
    }
}

fn users(count: u64) -> Awareness {
    let mut awareness = Awareness::default();
    for user in 0..count {
        let entry = Entry { client: client(user), clock: 1, json: STATE };
        awareness.apply(&entry, user as u32 + 1, None, 1_000);
    }
    awareness
}

fn change_awareness(rounds: u32) {
    let mut awareness = users(100);
    for round in 0..rounds {
        let user = round % 100;
        let json = if (round / 100).is_multiple_of(2) { OTHER } else { STATE };
        let entry = Entry { client: client(user.into()), clock: 2 + round / 100, json };
        black_box(awareness.apply(black_box(&entry), user + 1, None, 1_000));
    }
}

fn write_awareness(rounds: u32) {
    let awareness = users(100);
    let mut out = Vec::with_capacity(16 << 10);
    for _ in 0..rounds {
        out.clear();
        assert!(awareness.write_since(black_box(&mut out), Default::default(), None));
    }
}
