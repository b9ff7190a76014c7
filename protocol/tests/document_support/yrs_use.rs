//! What a node does with an update that passed the scanner.

use std::panic::{AssertUnwindSafe, catch_unwind};

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
            // Two updates that contradict each other about the same clocks are beyond a structural check, and yrs has
            // panics for some. They have to be panics: an abort or a hang would end the test.
            let _ = catch_unwind(|| write_out(&applied(&[base, update])));
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
