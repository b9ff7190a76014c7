//! A long document, typed one character at a time by one client: its updates, made beforehand, and who has got them.

use std::ops::Range;

use anyhow::{Context, Result, ensure};
use pinwire_protocol::document::update::{Bounds, Visitor, scan};
use yrs::updates::decoder::Decode;
use yrs::{Doc, GetString, ReadTxn, Transact, Update};

use crate::edits::{Place, append_insert};
use crate::fleet::Watcher;

/// The type that is typed into.
const ROOT: &str = "text";

/// Where the next character goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Behind the last.
    Appended,
    /// Anywhere.
    Random,
}

impl Shape {
    /// For tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Appended => "appended",
            Self::Random => "inserted at random",
        }
    }
}

/// The updates of a document, and its text in the end.
#[derive(Debug)]
pub struct Typing {
    client: u64,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// Clocks of the characters as they stand in the text, of all updates.
    order: Vec<u32>,
}

impl Typing {
    /// Makes `count` updates.
    #[must_use]
    pub fn new(shape: Shape, count: u32) -> Self {
        let mut random = fastrand::Rng::with_seed(7);
        // 32 bits, as Yjs draws them; the high bit set, so that all take five bytes.
        let client = u64::from(fastrand::u32(1 << 31..));
        let (mut bytes, mut ends) = (Vec::new(), Vec::with_capacity(count as usize));
        let mut order: Vec<u32> = Vec::with_capacity(count as usize);
        for clock in 0..count {
            let at = match shape {
                Shape::Appended => order.len(),
                Shape::Random => random.usize(..=order.len()),
            };
            let place =
                Place { left: at.checked_sub(1).map(|left| order[left]), right: order.get(at).copied() };
            append_insert(&mut bytes, client, clock, place, character(clock));
            ends.push(bytes.len());
            order.insert(at, clock);
        }
        Self { client, bytes, ends, order }
    }

    /// Updates in all.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.ends.len() as u32
    }

    /// One update.
    #[must_use]
    pub fn update(&self, number: u32) -> &[u8] {
        let at = number as usize;
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[at]]
    }

    /// The text that the first `count` updates make.
    #[must_use]
    pub fn text(&self, count: u32) -> String {
        self.order.iter().filter(|clock| **clock < count).map(|clock| character(*clock) as char).collect()
    }

    /// That the updates a client was sent make the text of the first `count`.
    ///
    /// # Errors
    /// An update that is none, or another text.
    pub fn verify(&self, updates: &[Vec<u8>], count: u32) -> Result<()> {
        let doc = Doc::new();
        for update in updates {
            doc.transact_mut().apply_update(Update::decode_v1(update)?)?;
        }
        let txn = doc.transact();
        let text = txn.get_text(ROOT).context("there is no text")?.get_string(&txn);
        ensure!(text == self.text(count), "a fresh client has another text: the document did not converge");
        Ok(())
    }
}

fn character(clock: u32) -> u8 {
    b'a' + (clock % 26) as u8
}

/// What members were sent: how far the reader is, and all that fresh members got.
#[derive(Debug)]
pub struct Receipt {
    client: u64,
    reader: usize,
    /// Characters that the reader has, without a gap.
    landed: u32,
    /// Runs behind a gap.
    early: Vec<Range<u32>>,
    /// Members from this one on are fresh: their updates are kept.
    fresh_from: usize,
    kept: Vec<(usize, Vec<u8>)>,
}

impl Receipt {
    /// Member `reader` tells how far the writer of `typing` has come.
    #[must_use]
    pub fn new(typing: &Typing, reader: usize) -> Self {
        let client = typing.client;
        Self { client, reader, landed: 0, early: Vec::new(), fresh_from: reader + 1, kept: Vec::new() }
    }

    /// Updates that have reached the reader.
    #[must_use]
    pub fn landed(&self) -> u32 {
        self.landed
    }

    /// Takes what a fresh member was sent.
    pub fn take(&mut self, member: usize) -> Vec<Vec<u8>> {
        let (taken, kept) = std::mem::take(&mut self.kept).into_iter().partition(|(of, _)| *of == member);
        self.kept = kept;
        let taken: Vec<(usize, Vec<u8>)> = taken;
        taken.into_iter().map(|(_, update)| update).collect()
    }

    fn arrived(&mut self, run: Range<u32>) {
        self.early.push(run);
        // Servers send in order but for what they merge: there is hardly ever more than one.
        while let Some(at) = self.early.iter().position(|run| run.start <= self.landed) {
            let run = self.early.swap_remove(at);
            self.landed = self.landed.max(run.end);
        }
    }
}

#[derive(Default)]
struct Runs(Vec<(u64, Range<u32>)>);

impl Visitor for Runs {
    fn structs(&mut self, client: u64, clock: u32, len: u32) {
        self.0.push((client, clock..clock + len));
    }

    fn deletes(&mut self, _client: u64, _clock: u32, _len: u32) {}
}

impl Watcher for Receipt {
    fn update(&mut self, client: usize, update: &[u8]) -> Result<()> {
        if client >= self.fresh_from {
            self.kept.push((client, update.to_vec()));
        } else if client == self.reader {
            let mut runs = Runs::default();
            scan(update, &Bounds::default(), &mut runs)?;
            for (author, run) in runs.0 {
                ensure!(author == self.client, "the reader was sent an edit of nobody");
                self.arrived(run);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_shapes_make_their_text_in_yrs_and_a_missing_update_is_found() {
        for shape in [Shape::Appended, Shape::Random] {
            let typing = Typing::new(shape, 500);
            let updates: Vec<Vec<u8>> = (0..500).map(|number| typing.update(number).to_vec()).collect();
            typing.verify(&updates, 500).unwrap();
            typing.verify(&updates[..400], 400).unwrap();
            assert!(typing.verify(&updates[..499], 500).is_err());
        }
        assert!(Typing::new(Shape::Appended, 30).text(30).starts_with("abcdefghijklmnopqrstuvwxyzab"));
    }

    #[test]
    fn a_receipt_counts_merged_and_early_updates_up_to_the_first_gap() {
        let typing = Typing::new(Shape::Random, 10);
        let mut receipt = Receipt::new(&typing, 1);
        let merged = |range: Range<u32>| {
            let updates: Vec<Vec<u8>> = range.map(|number| typing.update(number).to_vec()).collect();
            yrs::merge_updates_v1(&updates).unwrap()
        };
        receipt.update(1, &merged(0..3)).unwrap();
        assert_eq!(receipt.landed(), 3);
        receipt.update(1, &merged(5..7)).unwrap();
        assert_eq!(receipt.landed(), 3);
        receipt.update(1, &merged(3..5)).unwrap();
        assert_eq!(receipt.landed(), 7);
        receipt.update(2, &merged(0..10)).unwrap();
        typing.verify(&receipt.take(2), 10).unwrap();
        assert!(receipt.take(2).is_empty());
    }
}
