//! The only file that builds or decodes Yjs documents, and only from updates that the structural walk accepted.
//!
//! Two ways to put updates together: *merging* without a document (quick for a few, grows with the square, keeps deleted
//! text), and *compaction* through a transient document (about a microsecond an update, drops deleted text), which belongs
//! on a worker. A library's panic ends neither: what made it panic is left out and counted.

use super::log::{Entries, Position};
use hashbrown::HashMap;
use pinwire_protocol::document::update::{self, Visitor};
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
    /// Everything up to `upto` but what was left or dropped, or None if the library failed on all of it.
    pub base: Option<Arc<[u8]>>,
    /// As in the job.
    pub upto: Position,
    /// For each state vector of the job, what its client lacks of the base. None: the base whole.
    pub lacking: Vec<Option<Arc<[u8]>>>,
    /// Entries that build on something that is not there (yet).
    pub left: Vec<Box<[u8]>>,
    /// Entries left out for good because the library failed on them.
    pub dropped: u32,
}

/// Times a compaction begins again without an update that spoilt it. A job that needs more comes to nothing.
const RESTARTS_MAX: u32 = 16;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// May go into the document, if what it builds on is there.
    Candidate,
    /// As a candidate, but only after all of those: it built on something that was not there before.
    Late,
    /// It builds on something that is not there.
    Left,
    /// The library failed on it.
    Faulty,
}

impl Compaction {
    /// Bytes of stack that [`Self::run`] may need: the library recurses once per level of nested types, and a level takes
    /// at least a few bytes of update and at most some hundred bytes of stack.
    #[must_use]
    pub fn stack_size(&self) -> usize {
        const PER_BYTE: usize = 128;
        const LEAST: usize = 4 << 20;
        LEAST + PER_BYTE * (self.tail.len() + self.base.as_ref().map_or(0, |base| base.len()))
    }

    /// What to answer if [`Self::run`] cannot be run to its end.
    #[must_use]
    pub fn failed(&self) -> Compacted {
        let lacking = self.state_vectors.iter().map(|_| None).collect();
        Compacted { base: None, upto: self.upto, lacking, left: Vec::new(), dropped: 0 }
    }

    /// Rebuilds the document and encodes it anew. Takes milliseconds for large logs: run it on a worker, with a stack of
    /// [`Self::stack_size`].
    #[must_use]
    pub fn run(self) -> Compacted {
        let updates: Vec<&[u8]> = self
            .base
            .as_deref()
            .into_iter()
            .chain(Entries::over(&self.tail).map(|entry| entry.update))
            .collect();
        let has_base = self.base.is_some();
        // A session's update was held to narrower bounds when it came; what was stored may be many in one.
        let is_sound =
            |update: &&[u8]| update::scan(update, &update::Bounds::of_documents(), &mut ()).is_ok();
        let fate = |update| if is_sound(update) { Fate::Candidate } else { Fate::Faulty };
        let mut fates: Vec<Fate> = updates.iter().map(fate).collect();
        let mut restarts = 0;
        let (base, order) = loop {
            let order = in_order(&updates, &fates);
            match rebuild(&updates, &order) {
                Rebuilt::Document(base) => break (Some(base), order),
                Rebuilt::Waits(_) | Rebuilt::Panics(_) if restarts == RESTARTS_MAX => break (None, order),
                Rebuilt::Waits(by) if fates[by] == Fate::Candidate => fates[by] = Fate::Late,
                Rebuilt::Waits(by) => fates[by] = Fate::Left,
                Rebuilt::Panics(by) => fates[by] = Fate::Faulty,
                Rebuilt::Nothing => break (None, order),
            }
            restarts += 1;
        };
        if has_base && fates[0] == Fate::Faulty {
            // All that is known of the past: rather no compaction than one without it.
            return self.failed();
        }
        let lacking = |sv: &[u8]| base.as_ref().and_then(|base| diff(base, sv).ok()).map(Arc::from);
        let mut is_in = vec![false; updates.len()];
        order.iter().for_each(|index| is_in[*index] = true);
        let is_dropped = |index: &usize| fates[*index] == Fate::Faulty;
        let is_left = |index: &usize| !is_dropped(index) && !is_in[*index];
        Compacted {
            lacking: self.state_vectors.iter().map(|sv| lacking(sv)).collect(),
            left: (0..updates.len()).filter(is_left).map(|index| updates[index].into()).collect(),
            dropped: (0..updates.len()).filter(is_dropped).count() as u32,
            base: base.map(Arc::from),
            upto: self.upto,
        }
    }
}

/// The candidates in an order in which each starts, client by client, at or below where those before it end. What has no
/// place in it is left out: the library would fill the gap with a placeholder of its own, and an update that contradicts
/// what stands behind that makes it touch freed memory.
fn in_order(updates: &[&[u8]], fates: &[Fate]) -> Vec<usize> {
    let mut heads = Heads::default();
    let mut order = Vec::with_capacity(updates.len());
    let of = |fate: Fate| (0..updates.len()).filter(move |index| fates[*index] == fate);
    let mut candidates: Vec<usize> = of(Fate::Candidate).collect();
    let mut late: Vec<usize> = of(Fate::Late).collect();
    loop {
        let before = order.len();
        heads.take_all(updates, &mut candidates, &mut order);
        if order.len() == before {
            heads.take_all(updates, &mut late, &mut order);
        }
        if order.len() == before {
            return order;
        }
    }
}

/// Where each client's structs end.
#[derive(Default)]
struct Heads(HashMap<u64, u32, foldhash::fast::FixedState>);

impl Heads {
    /// Moves those that fit from `waiting` to `order`.
    fn take_all(&mut self, updates: &[&[u8]], waiting: &mut Vec<usize>, order: &mut Vec<usize>) {
        waiting.retain(|&index| {
            let fits = self.take(updates[index]);
            if fits {
                order.push(index);
            }
            !fits
        });
    }

    fn take(&mut self, update: &[u8]) -> bool {
        let mut fit = Fit { heads: self, has_gap: false };
        let is_whole = update::scan(update, &update::Bounds::of_documents(), &mut fit)
            .is_ok_and(|summary| !summary.has_skips);
        if !is_whole || fit.has_gap {
            return false;
        }
        // The walk passed: the second one cannot fail.
        update::scan(update, &update::Bounds::of_documents(), &mut Raise(self)).is_ok()
    }
}

struct Fit<'a> {
    heads: &'a Heads,
    has_gap: bool,
}

impl Fit<'_> {
    fn head(&self, client: u64) -> u32 {
        self.heads.0.get(&client).copied().unwrap_or(0)
    }
}

impl Visitor for Fit<'_> {
    fn structs(&mut self, client: u64, clock: u32, _len: u32) {
        // A client has one section in an update, and its runs follow each other.
        self.has_gap |= clock > self.head(client);
    }

    fn deletes(&mut self, _client: u64, _clock: u32, _len: u32) {}
}

struct Raise<'a>(&'a mut Heads);

impl Visitor for Raise<'_> {
    fn structs(&mut self, client: u64, clock: u32, len: u32) {
        let head = self.0.0.entry(client).or_insert(0);
        *head = (*head).max(clock.saturating_add(len));
    }

    fn deletes(&mut self, _client: u64, _clock: u32, _len: u32) {}
}

enum Rebuilt {
    Document(Vec<u8>),
    /// This update panicked, which spoils the document: begin again without it.
    Panics(usize),
    /// This one waits for something, another client's edit or the target of a deletion: begin again with it at the end.
    Waits(usize),
    Nothing,
}

fn rebuild(updates: &[&[u8]], order: &[usize]) -> Rebuilt {
    // The client id is never used: nothing is written through this document. A fixed one keeps the run repeatable.
    let doc = Doc::with_client_id(1);
    let mut current = 0;
    let applied = catch_unwind(AssertUnwindSafe(|| {
        let mut txn = doc.transact_mut();
        for &index in order {
            current = index;
            let outcome = Update::decode_v1(updates[index]).map(|update| txn.apply_update(update));
            if !matches!(outcome, Ok(Ok(()))) {
                return Err(Rebuilt::Panics(index));
            }
            if txn.has_missing_updates() {
                return Err(Rebuilt::Waits(index));
            }
        }
        Ok(())
    }));
    match applied {
        Err(_) => Rebuilt::Panics(current),
        Ok(Err(spoilt)) => spoilt,
        Ok(Ok(())) => guarded(|| Some(doc.transact().encode_state_as_update_v1(&StateVector::default())))
            .map_or(Rebuilt::Nothing, Rebuilt::Document),
    }
}

fn guarded<T>(work: impl FnOnce() -> Option<T>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(work)).ok().flatten().ok_or(Fault)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::log::Log;
    use yrs::{Array, GetString, Text};

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

    /// An update with many subdocuments, as many as one may have but for a few.
    fn many_subdocuments(client: u64) -> Vec<u8> {
        let doc = Doc::with_client_id(client);
        let array = doc.get_or_insert_array(format!("of {client}"));
        let mut txn = doc.transact_mut();
        for _ in 0..10_000 {
            array.push_back(&mut txn, Doc::new());
        }
        txn.encode_update_v1()
    }

    #[test]
    fn a_base_may_have_more_than_any_single_update() {
        let mut log = Log::default();
        log.append(1, &many_subdocuments(1));
        log.append(1, &many_subdocuments(2));
        let first = log.compaction(Vec::new()).run();
        let base = first.base.expect("both are fine");
        assert_eq!(first.dropped, 0);
        let tail = Log::with_base(Some(Arc::clone(&base)));
        let again = tail.compaction(Vec::new()).run();
        // Options of subdocuments are written in any order.
        let len = again.base.map(|again| again.len());
        assert_eq!((again.dropped, again.left.len(), len), (0, 0, Some(base.len())));
    }

    #[test]
    fn a_base_that_cannot_be_read_is_not_replaced_by_what_came_after_it() {
        let mut log = Log::with_base(Some(Arc::from(&[9u8, 9, 9][..])));
        log.append(1, &many_subdocuments(1));
        let result = log.compaction(Vec::new()).run();
        assert!(result.base.is_none() && result.left.is_empty());
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
    fn an_update_that_leaves_a_gap_is_left_for_when_it_is_filled() {
        let updates = typed("abcdef");
        let compacted = compaction(&[updates[0].clone(), updates[2].clone()], vec![]).run();
        assert_eq!(compacted.left, [updates[2].clone().into_boxed_slice()]);
        assert_eq!(text_of(compacted.base.as_ref().unwrap()), text_of(&updates[0]));
        let late = [updates[0].clone(), updates[2].clone(), updates[1].clone()];
        assert!(compaction(&late, vec![]).run().left.is_empty(), "the order of arrival does not matter");
    }

    #[test]
    fn an_update_that_builds_on_another_clients_missing_edit_is_left() {
        let first = Doc::with_client_id(1);
        let text = first.get_or_insert_text("t");
        text.insert(&mut first.transact_mut(), 0, "base");
        let base = first.transact().encode_state_as_update_v1(&StateVector::default());
        let second = Doc::with_client_id(2);
        let text = second.get_or_insert_text("t");
        second.transact_mut().apply_update(Update::decode_v1(&base).unwrap()).unwrap();
        let before = second.transact().state_vector();
        text.insert(&mut second.transact_mut(), 2, "!");
        let edit = second.transact().encode_state_as_update_v1(&before);
        let compacted = compaction(&[edit.clone(), typed("x").remove(0)], vec![]).run();
        assert_eq!(compacted.left, [edit.into_boxed_slice()]);
        assert_eq!(text_of(compacted.base.as_ref().unwrap()), "x");
    }
}
