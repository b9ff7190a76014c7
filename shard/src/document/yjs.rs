//! The only file that builds or decodes Yjs documents, and only from updates that the structural walk accepted.
//!
//! Two ways to put updates together: *merging* without a document (quick for a few, grows with the square, keeps deleted
//! text), and *compaction* through a transient document (about a microsecond an update, drops deleted text), which belongs
//! on a worker. A library's panic ends neither: what made it panic is left out and counted.

use super::log::{Entries, Position};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use yrs::updates::decoder::Decode;
use yrs::{Doc, ReadTxn, StateVector, Transact, Update};

/// An update that brings nothing: no structs, no deletions.
pub const EMPTY_UPDATE: &[u8] = &[0, 0];

/// The library refused or panicked. The updates at fault are found by compaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault;

/// Merges updates without a document.
pub fn merge<'a>(updates: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<u8>, Fault> {
    guarded(|| yrs::merge_updates_v1(updates).ok())
}

/// The part of `update` that a client with this encoded state vector lacks; all of its deletions stay in.
pub fn diff(update: &[u8], state_vector: &[u8]) -> Result<Vec<u8>, Fault> {
    guarded(|| yrs::diff_updates_v1(update, state_vector).ok())
}

/// Merges the updates of one turn in tiers, so that the quadratic part of the cost stays small.
pub fn merge_tiered(updates: &[&[u8]]) -> Result<Vec<u8>, Fault> {
    const TIER: usize = 32;
    if updates.len() <= TIER {
        return merge(updates.iter().copied());
    }
    let merged: Vec<Vec<u8>> =
        updates.chunks(TIER).map(|tier| merge(tier.iter().copied())).collect::<Result<_, _>>()?;
    merge_tiered(&merged.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

/// A log to compact, detached from its document so that a worker can have it.
#[derive(Debug)]
pub struct Compaction {
    /// The compacted past.
    pub base: Option<Arc<[u8]>>,
    /// Entries since, as the log holds them.
    pub tail: Vec<u8>,
    /// Position after the last of them.
    pub upto: Position,
    /// Encoded state vectors of clients that wait for what they lack of the result.
    pub state_vectors: Vec<Box<[u8]>>,
}

/// A compacted log.
#[derive(Debug)]
pub struct Compacted {
    /// The whole document up to `upto`, or None if the library failed on all of it.
    pub base: Option<Arc<[u8]>>,
    /// As in the job.
    pub upto: Position,
    /// For each state vector of the job, what its client lacks. None: the base whole.
    pub lacking: Vec<Option<Arc<[u8]>>>,
    /// Entries left out because the library failed on them.
    pub dropped: u32,
}

impl Compaction {
    /// Rebuilds the document and encodes it anew. Takes milliseconds for large logs, and a stack for the library's
    /// recursion: run it on a worker.
    #[must_use]
    pub fn run(self) -> Compacted {
        let updates: Vec<&[u8]> = self
            .base
            .as_deref()
            .into_iter()
            .chain(Entries::over(&self.tail).map(|entry| entry.update))
            .collect();
        let mut faulty = vec![false; updates.len()];
        let base = loop {
            match rebuild(&updates, &mut faulty) {
                Rebuilt::Document(base) => break Some(base),
                Rebuilt::Without(index) => faulty[index] = true,
                Rebuilt::Nothing => break None,
            }
        };
        let lacking = |sv: &[u8]| base.as_ref().and_then(|base| diff(base, sv).ok()).map(Arc::from);
        Compacted {
            lacking: self.state_vectors.iter().map(|sv| lacking(sv)).collect(),
            dropped: faulty.iter().filter(|is_faulty| **is_faulty).count() as u32,
            base: base.map(Arc::from),
            upto: self.upto,
        }
    }
}

enum Rebuilt {
    Document(Vec<u8>),
    /// The update at this index panicked, which spoils the document: begin again without it.
    Without(usize),
    Nothing,
}

fn rebuild(updates: &[&[u8]], faulty: &mut [bool]) -> Rebuilt {
    // The client id is never used: nothing is written through this document. A fixed one keeps the run repeatable.
    let doc = Doc::with_client_id(1);
    let mut current = 0;
    let applied = catch_unwind(AssertUnwindSafe(|| {
        let mut txn = doc.transact_mut();
        for (index, update) in updates.iter().enumerate() {
            current = index;
            if faulty[index] {
                continue;
            }
            let outcome = Update::decode_v1(update).map(|update| txn.apply_update(update));
            faulty[index] = !matches!(outcome, Ok(Ok(())));
        }
    }));
    if applied.is_err() {
        return Rebuilt::Without(current);
    }
    guarded(|| Some(doc.transact().encode_state_as_update_v1(&StateVector::default())))
        .map_or(Rebuilt::Nothing, Rebuilt::Document)
}

fn guarded<T>(work: impl FnOnce() -> Option<T>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(work)).ok().flatten().ok_or(Fault)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::log::Log;
    use yrs::{GetString, Text};

    /// The updates of one client that types `text` a character at a time and deletes every second one again.
    fn typed(text: &str) -> Vec<Vec<u8>> {
        let doc = Doc::with_client_id(7);
        let shared = doc.get_or_insert_text("t");
        let mut updates = Vec::new();
        let mut edit = |change: &dyn Fn(&mut yrs::TransactionMut)| {
            let before = doc.transact().state_vector();
            change(&mut doc.transact_mut());
            updates.push(doc.transact().encode_state_as_update_v1(&before));
        };
        for (index, character) in text.chars().enumerate() {
            edit(&|txn| shared.insert(txn, 0, &character.to_string()));
            if index % 2 == 1 {
                edit(&|txn| shared.remove_range(txn, 0, 1));
            }
        }
        updates
    }

    fn text_of(update: &[u8]) -> String {
        let doc = Doc::with_client_id(8);
        let shared = doc.get_or_insert_text("t");
        doc.transact_mut().apply_update(Update::decode_v1(update).unwrap()).unwrap();
        shared.get_string(&doc.transact())
    }

    fn compaction(updates: &[Vec<u8>], state_vectors: Vec<Box<[u8]>>) -> Compaction {
        let mut log = Log::default();
        for update in updates {
            log.append(1, update);
        }
        log.compaction(state_vectors)
    }

    #[test]
    fn compaction_keeps_the_text_and_drops_what_was_deleted() {
        let updates = typed(&"abcdefgh".repeat(50));
        let merged = merge_tiered(&updates.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
        let compacted = compaction(&updates, vec![]).run();
        let base = compacted.base.unwrap();
        assert_eq!(text_of(&base), text_of(&merged));
        assert!(base.len() < merged.len());
        assert_eq!(compacted.dropped, 0);
    }

    #[test]
    fn a_waiting_client_gets_what_it_lacks_of_the_compacted_document() {
        let updates = typed("abc");
        let known = yrs::encode_state_vector_from_update_v1(&updates[0]).unwrap();
        let compacted = compaction(&updates, vec![known.into()]).run();
        let lacking = compacted.lacking[0].as_ref().unwrap();
        assert_eq!(
            text_of(&merge([&*updates[0], lacking]).unwrap()),
            text_of(compacted.base.as_ref().unwrap())
        );
    }

    #[test]
    fn an_update_the_library_cannot_read_is_left_out_and_counted() {
        let mut updates = typed("abcd");
        updates.insert(2, vec![9, 9, 9]);
        let compacted = compaction(&updates, vec![]).run();
        assert_eq!(compacted.dropped, 1);
        updates.remove(2);
        assert_eq!(
            text_of(compacted.base.as_ref().unwrap()),
            text_of(compaction(&updates, vec![]).run().base.as_ref().unwrap())
        );
    }

    #[test]
    fn an_update_whose_dependencies_are_missing_is_kept_for_when_they_come() {
        let updates = typed("abcdef");
        let compacted = compaction(&[updates[0].clone(), updates[2].clone()], vec![]).run();
        let base = compacted.base.unwrap();
        let others = updates
            .iter()
            .enumerate()
            .filter(|(index, _)| ![0, 2].contains(index))
            .map(|(_, update)| &**update);
        let rest = merge(std::iter::once(&*base).chain(others)).unwrap();
        assert_eq!(text_of(&rest), text_of(compaction(&updates, vec![]).run().base.as_ref().unwrap()));
    }
}
