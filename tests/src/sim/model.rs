//! The reference: what the session store has, what was promised to whom, and what went wrong.

use super::ranges::{Clocks, Run, runs_of};
use super::replica::Replica;
use std::collections::{BTreeMap, BTreeSet};

/// A document of an app.
pub(super) type DocumentId = (usize, String);

/// Keeps the truth that clients and shards are measured against.
#[derive(Default)]
pub(super) struct Model {
    pub(super) now_ms: u64,
    pub(super) violations: Vec<String>,
    records: BTreeMap<DocumentId, Record>,
    /// What clients handed over, when asked for what the server lacks, that others wrote.
    handed_on: BTreeMap<DocumentId, Clocks>,
    /// Where a client did so that lacked something in between: the library (yrs 0.28) then gives some of it clocks of something
    /// else, so that two clients have different things under the same clocks, whatever the server does.
    garbled: BTreeSet<DocumentId>,
    pub(super) acknowledged: u64,
    pub(super) refused_edits: u64,
}

/// What the session store has of one document.
pub(super) struct Record {
    pub(super) updates: Vec<Vec<u8>>,
    pub(super) replica: Replica,
    stored: Clocks,
    /// What writers were told is safe.
    promised: Vec<Run>,
    /// When the session was last dropped.
    dropped_ms: u64,
}

impl Record {
    fn new(dropped_ms: u64) -> Self {
        Self {
            updates: Vec::new(),
            replica: Replica::new(STORE_CLIENT, None, 0),
            stored: Clocks::default(),
            promised: Vec::new(),
            dropped_ms,
        }
    }
}

/// The store's own Yjs id, which never writes.
const STORE_CLIENT: u64 = 1;

impl Model {
    pub(super) fn violate(&mut self, what: impl Into<String>) {
        self.violations.push(format!("at {} ms: {}", self.now_ms, what.into()));
    }

    pub(super) fn record(&mut self, document: &DocumentId) -> &mut Record {
        self.records.entry(document.clone()).or_insert_with(|| Record::new(0))
    }

    pub(super) fn store(&mut self, document: &DocumentId, updates: Vec<Vec<u8>>) {
        for update in updates {
            let record = self.record(document);
            match (record.replica.apply(&update), runs_of(&update)) {
                (Ok(()), Ok(runs)) => runs.iter().for_each(|run| record.stored.insert(run)),
                (Err(error), _) | (_, Err(error)) => {
                    self.violate(format!("{document:?}: an update was stored that Yjs refuses: {error}"));
                    return;
                }
            }
            self.record(document).updates.push(update);
        }
    }

    /// The store keeps one update in place of many. It says what those only imply: that what others wrote over is deleted.
    pub(super) fn compacted(&mut self, document: &DocumentId, base: &[u8]) {
        let record = self.record(document);
        match runs_of(base) {
            Ok(runs) => runs.iter().for_each(|run| record.stored.insert(run)),
            Err(error) => self.violate(format!("{document:?}: a compacted update fails the walk: {error}")),
        }
    }

    /// The store loses the last updates, which it had said that it has.
    pub(super) fn forget_last(&mut self, document: &DocumentId, count: usize) {
        let record = self.record(document);
        record.updates.truncate(record.updates.len().saturating_sub(count));
        record.replica = Replica::new(STORE_CLIENT, None, 0);
        // All of them applied before.
        record.updates.iter().for_each(|update| _ = record.replica.apply(update));
    }

    /// Nothing of `runs` ever came to the store, be it lost there since or not.
    pub(super) fn never_stored(&self, document: &DocumentId, runs: &Clocks) -> bool {
        self.records.get(document).is_none_or(|record| runs.less(&record.stored) == *runs)
    }

    /// The session ended and nothing of it is kept.
    pub(super) fn drop_session(&mut self, document: &DocumentId) {
        let now_ms = self.now_ms;
        *self.record(document) = Record::new(now_ms);
    }

    /// A client answers the server with `runs`. What it got before what that builds on stands in there, be it known to the
    /// server or not, and so comes to its writer again.
    pub(super) fn hand_on(&mut self, document: &DocumentId, writer: u64, runs: &[Run]) {
        let handed_on = self.handed_on.entry(document.clone()).or_default();
        runs.iter().filter(|run| run.client != writer).for_each(|run| handed_on.insert(run));
    }

    /// See [`Model::garbled`].
    pub(super) fn hand_on_with_gaps(&mut self, document: &DocumentId) {
        self.garbled.insert(document.clone());
    }

    pub(super) fn is_garbled(&self, document: &DocumentId) -> bool {
        self.garbled.contains(document)
    }

    pub(super) fn was_handed_on(&self, document: &DocumentId, run: &Run) -> bool {
        self.handed_on.get(document).is_some_and(|handed_on| handed_on.contains(run))
    }

    /// A writer was told that an edit is safe, on a socket opened at `opened_ms`.
    pub(super) fn promise(&mut self, document: &DocumentId, edit: &[Run], opened_ms: u64) {
        self.acknowledged += 1;
        let record = self.record(document);
        if record.dropped_ms >= opened_ms {
            return;
        }
        record.promised.extend_from_slice(edit);
        if let Some(lost) = edit.iter().find(|run| !record.stored.contains(run)) {
            let lost = *lost;
            self.violate(format!("{document:?}: {lost:?} was acknowledged, and the store does not have it"));
        }
    }

    /// Whatever was promised must be among what newcomers get.
    pub(super) fn check_promises(&mut self, document: &DocumentId, gets: &Clocks) {
        let promised = &self.record(document).promised;
        if let Some(lost) = promised.iter().find(|run| !gets.contains(run)) {
            let lost = *lost;
            self.violate(format!("{document:?}: {lost:?} was acknowledged, and newcomers do not get it"));
        }
    }

    /// The store has what newcomers were `sent`, and nothing that they do not have. That something is deleted may follow from what was written over it, and
    /// is said or not; it is known to whose library shows all that came.
    pub(super) fn check_kept(
        &mut self,
        document: &DocumentId,
        sent: &Clocks,
        gets: &Clocks,
        is_current: bool,
    ) {
        let record = self.record(document);
        let mut kept = Clocks::default();
        let said = record.updates.iter().flat_map(|update| runs_of(update).unwrap_or_default());
        said.chain(record.replica.deletions()).for_each(|run| kept.insert(&run));
        let is_store_current = record.replica.is_current(&kept);
        let more = sent.less(&kept).runs().find(|run| is_store_current || !run.is_deletion);
        let lost = kept.less(gets).runs().find(|run| is_current || !run.is_deletion);
        if let Some(more) = more {
            self.violate(format!("{document:?}: newcomers get {more:?}, which the store does not have"));
        }
        if let Some(lost) = lost {
            self.violate(format!("{document:?}: newcomers do not get {lost:?}, which the store has"));
        }
    }
}
