//! What a client holds of one document: a Yjs document of its own, and stock awareness.

use super::awareness::StockAwareness;
use super::ranges::{Clocks, Run, runs_of};
use fastrand::Rng;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use yrs::updates::decoder::Decode;
use yrs::updates::encoder::Encode;
use yrs::{Any, Doc, GetString, Map, MapRef, Out, ReadTxn, StateVector, Text, TextRef, Transact, Update};

const KEYS: [&str; 4] = ["colour", "title", "owner", "size"];

pub(super) struct Replica {
    doc: Doc,
    text: TextRef,
    map: MapRef,
    pub(super) client: u64,
    /// The clock after its last change: what others say that it wrote from there on, they made up.
    pub(super) written: u32,
    pub(super) awareness: StockAwareness,
}

impl Replica {
    pub(super) fn new(client: u64, state: Option<String>, now_ms: u64) -> Self {
        let doc = Doc::with_client_id(client);
        let (text, map) = (doc.get_or_insert_text("text"), doc.get_or_insert_map("map"));
        Self { doc, text, map, client, written: 0, awareness: StockAwareness::new(client, state, now_ms) }
    }

    /// Makes a change of its own and returns the update it emits.
    pub(super) fn edit(&mut self, rng: &mut Rng, largest: usize) -> Vec<u8> {
        let mut txn = self.doc.transact_mut();
        let len = self.text.len(&txn);
        match rng.u8(0..10) {
            0..=4 => {
                let size = 1 + rng.usize(0..largest.max(1)).min(rng.usize(0..largest.max(1)));
                let letters: String = (0..size).map(|_| rng.lowercase()).collect();
                self.text.insert(&mut txn, rng.u32(0..=len), &letters);
            }
            5..=6 if len > 0 => {
                let at = rng.u32(0..len);
                self.text.remove_range(&mut txn, at, rng.u32(1..=(len - at).min(5)));
            }
            7 => {
                self.map.remove(&mut txn, KEYS[rng.usize(0..KEYS.len())]);
            }
            _ => {
                self.map.insert(&mut txn, KEYS[rng.usize(0..KEYS.len())], rng.u32(..1000));
            }
        }
        let update = txn.encode_update_v1();
        drop(txn);
        self.written = self.clock_of(self.client);
        update
    }

    pub(super) fn state_vector(&self) -> Vec<u8> {
        self.doc.transact().state_vector().encode_v1()
    }

    /// What a peer with this encoded state vector lacks.
    pub(super) fn lacking(&self, state_vector: &[u8]) -> Result<Vec<u8>, String> {
        let known = StateVector::decode_v1(state_vector).map_err(|error| error.to_string())?;
        Ok(self.doc.transact().encode_state_as_update_v1(&known))
    }

    pub(super) fn apply(&mut self, update: &[u8]) -> Result<(), String> {
        let update = Update::decode_v1(update).map_err(|error| error.to_string())?;
        self.doc.transact_mut().apply_update(update).map_err(|error| error.to_string())
    }

    /// Structs of `client` that are in the document without a gap.
    pub(super) fn clock_of(&self, client: u64) -> u32 {
        self.states().into_iter().find(|(known, _)| *known == client).map_or(0, |(_, clock)| clock)
    }

    /// The state vector, ascending.
    pub(super) fn states(&self) -> Vec<(u64, u32)> {
        let mut states: Vec<(u64, u32)> = self
            .doc
            .transact()
            .state_vector()
            .iter()
            .map(|(client, clock)| (client.to_string().parse().unwrap_or_default(), *clock))
            // The library lists clients of whom it only has what builds on something missing.
            .filter(|(_, clock)| *clock > 0)
            .collect();
        states.sort_unstable();
        states
    }

    /// Structs and deletions that the document holds, those included that wait for something missing.
    pub(super) fn runs(&self) -> Vec<Run> {
        runs_of(&self.doc.transact().encode_state_as_update_v1(&StateVector::default())).unwrap_or_default()
    }

    /// Deletions, said or not: what others wrote over is deleted.
    pub(super) fn deletions(&self) -> impl Iterator<Item = Run> {
        self.runs().into_iter().filter(|run| run.is_deletion)
    }

    /// The library shows all of what it was sent that follows without a gap. It may keep some of it back that came in another order
    /// than it was written.
    pub(super) fn is_current(&self, known: &Clocks) -> bool {
        self.states().into_iter().eq(known.states())
    }

    /// Something was lost with its writer that others build on: a client's structs do not follow each other from 0 on.
    pub(super) fn has_gaps(&self) -> bool {
        let mut known = Clocks::default();
        self.runs().iter().filter(|run| !run.is_deletion).for_each(|run| known.insert(run));
        let mut clients = BTreeSet::new();
        known.runs().any(|run| run.start > 0 || !clients.insert(run.client))
    }

    /// What somebody sees who is given all of the document at once.
    pub(super) fn content_anew(&self) -> String {
        let mut anew = Self::new(self.client, None, 0);
        let all = self.doc.transact().encode_state_as_update_v1(&StateVector::default());
        anew.apply(&all).map_or_else(|error| error, |()| anew.content())
    }

    /// What the user sees.
    pub(super) fn content(&self) -> String {
        let txn = self.doc.transact();
        let mut content = self.text.get_string(&txn);
        for key in KEYS {
            if let Some(Out::Any(Any::Number(value))) = self.map.get(&txn, key) {
                let _ = write!(content, "; {key}={value}");
            } else if let Some(other) = self.map.get(&txn, key) {
                let _ = write!(content, "; {key}={other:?}");
            }
        }
        content
    }
}
