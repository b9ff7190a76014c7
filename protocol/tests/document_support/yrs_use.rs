//! What a node does with an update that passed the scanner.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pinwire_protocol::document::state_vector::StateVector;
use pinwire_protocol::document::update::{Bounds, Visitor, scan};
use yrs::updates::decoder::Decode;
use yrs::{ClientID, Doc, OffsetKind, Options, ReadTxn, Transact, Update};

/// A replica that counts text as Yjs does.
pub fn replica(client: u64) -> Doc {
    let mut options = Options::with_client_id(ClientID::new(client));
    options.offset_kind = OffsetKind::Utf16;
    Doc::with_options(options)
}

/// Everything a node, or a client built on yrs, does with an update that passed. On a thread with the usual stack:
/// that it overflows cannot be caught, and would end the test.
pub fn use_as_a_node_does(update: &[u8], base: &[u8]) {
    let outcome = std::thread::scope(|scope| {
        let work = || {
            let decoded = Update::decode_v1(update).expect("decodes");
            drop(decoded);
            let twice = yrs::merge_updates_v1([update, update]).expect("merges with itself");
            let merged = yrs::merge_updates_v1([base, update]).expect("merges");
            let state_vector = yrs::encode_state_vector_from_update_v1(update).expect("has a state vector");
            let of_base = yrs::encode_state_vector_from_update_v1(base).unwrap();
            for update in [&twice, &merged] {
                Update::decode_v1(update).expect("a merge decodes");
            }
            let diff = yrs::diff_updates_v1(&merged, &state_vector).expect("is subtracted");
            Update::decode_v1(&diff).expect("a diff decodes");
            let diff = yrs::diff_updates_v1(update, &of_base).expect("is reduced");
            Update::decode_v1(&diff).expect("a diff decodes");
            write_out(&applied(&[update]));
            // Not where the two leave a gap in a client's clocks: yrs fills the gap with a skip of its own, and an update
            // that contradicts it later makes yrs subtract below zero and then touch freed memory.
            if leave_no_gap(&[base, update]) {
                write_out(&applied(&[base, update]));
            }
        };
        std::thread::Builder::new()
            .stack_size(2 << 20)
            .spawn_scoped(scope, move || catch_unwind(AssertUnwindSafe(work)))
            .unwrap()
            .join()
    });
    if !matches!(outcome, Ok(Ok(()))) {
        panic!("accepted, and yrs failed on {update:?} with {base:?}");
    }
}

/// Whether each client's clocks, taken in this order, start from zero and leave none out.
fn leave_no_gap(updates: &[&[u8]]) -> bool {
    let mut heads = Heads::default();
    let has_skips =
        |update: &&[u8]| scan(update, &Bounds::default(), &mut ()).is_ok_and(|summary| summary.has_skips);
    for update in updates {
        scan(update, &Bounds::default(), &mut heads).expect("was accepted");
    }
    !heads.has_gap && !updates.iter().any(has_skips)
}

#[derive(Default)]
struct Heads {
    state_vector: StateVector,
    has_gap: bool,
}

impl Visitor for Heads {
    fn structs(&mut self, client: u64, clock: u32, len: u32) {
        self.has_gap |= clock > self.state_vector.get(client);
        self.state_vector.set_max(client, clock + len);
    }
    fn deletes(&mut self, _client: u64, _clock: u32, _len: u32) {}
}

fn applied(updates: &[&[u8]]) -> Doc {
    let doc = replica(99);
    for update in updates {
        // A reference to an item of the wrong kind is only found in a document; it is an error there.
        let _ = doc.transact_mut().apply_update(Update::decode_v1(update).unwrap());
    }
    doc
}

fn write_out(doc: &Doc) {
    let state = doc.transact().encode_state_as_update_v1(&yrs::StateVector::default());
    Update::decode_v1(&state).expect("a state decodes");
}
