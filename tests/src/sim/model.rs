//! The reference: what the session store has, what was promised to whom, and what went wrong.

use super::replica::Replica;
use std::collections::BTreeMap;

/// A document of an app.
pub(super) type DocumentId = (usize, String);

/// Keeps the truth that clients and shards are measured against.
#[derive(Default)]
pub(super) struct Model {
    pub(super) now_ms: u64,
    pub(super) violations: Vec<String>,
    records: BTreeMap<DocumentId, Record>,
    pub(super) acknowledged: u64,
    pub(super) refused_edits: u64,
}

/// What the session store has of one document.
pub(super) struct Record {
    pub(super) updates: Vec<Vec<u8>>,
    pub(super) replica: Replica,
    /// Own clocks that writers were promised, by client.
    promised: BTreeMap<u64, u32>,
    /// When the session was last dropped.
    dropped_ms: u64,
}

impl Record {
    fn new(dropped_ms: u64) -> Self {
        Self {
            updates: Vec::new(),
            replica: Replica::new(STORE_CLIENT, None, 0),
            promised: BTreeMap::new(),
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
        let record = self.record(document);
        for update in &updates {
            if let Err(error) = record.replica.apply(update) {
                self.violate(format!("{document:?}: an update was stored that Yjs refuses: {error}"));
                return;
            }
        }
        self.record(document).updates.extend(updates);
    }

    /// The session ended and nothing of it is kept.
    pub(super) fn drop_session(&mut self, document: &DocumentId) {
        let now_ms = self.now_ms;
        *self.record(document) = Record::new(now_ms);
    }

    /// A writer was told that its structs below `clock` are safe, on a socket opened at `opened_ms`.
    pub(super) fn promise(&mut self, document: &DocumentId, client: u64, clock: u32, opened_ms: u64) {
        self.acknowledged += 1;
        let record = self.record(document);
        if record.dropped_ms >= opened_ms && record.dropped_ms > 0 {
            return;
        }
        let stored = record.replica.clock_of(client);
        let promised = record.promised.entry(client).or_default();
        *promised = clock.max(*promised);
        if stored < clock {
            self.violate(format!(
                "{document:?}: client {client} was acknowledged up to {clock}, the store has {stored}"
            ));
        }
    }

    /// Whatever was promised must be in `replica`.
    pub(super) fn check_promises(&mut self, document: &DocumentId, replica: &Replica) {
        let promised = self.record(document).promised.clone();
        for (client, clock) in promised {
            let has = replica.clock_of(client);
            if has < clock {
                self.violate(format!(
                    "{document:?}: client {client} was acknowledged up to {clock}, joiners get {has}"
                ));
            }
        }
    }
}
