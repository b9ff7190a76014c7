//! A data thread's side of a document: a log of numbered updates, as far as the session core can tell.

use pinwire_registry::Node;
use pinwire_session::{Loaded, Marks};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Bytes of an update.
const SIZE: u32 = 8;

pub fn encode(id: u64) -> Box<[u8]> {
    id.to_be_bytes().into()
}

pub fn decode(bytes: &[u8]) -> Vec<u64> {
    bytes.chunks(8).map(|chunk| u64::from_be_bytes(chunk.try_into().expect("whole numbers"))).collect()
}

/// What a store has of a document.
pub fn contents(loaded: &Loaded) -> BTreeSet<u64> {
    let base = loaded.base.iter().flat_map(|base| decode(base));
    base.chain(loaded.tail.iter().flat_map(|update| decode(update))).collect()
}

#[derive(Debug, Default)]
pub struct Document {
    pub is_open: bool,
    pub is_reloading: bool,
    /// In the log's order; true: this node's own.
    log: Vec<(u64, bool)>,
    pub ids: BTreeSet<u64>,
    /// Where positions begin: they wrap.
    start: u32,
    submitted: usize,
    stored: usize,
    marks: Marks,
    /// A compaction that runs: what it was given.
    compacting: Option<usize>,
    /// Changes whenever someone joins, leaves or moves here.
    pub presence: u64,
    /// What others said last.
    pub seen: BTreeMap<Node, u64>,
}

/// A finished compaction.
pub struct Compacted {
    pub upto: u32,
    pub mark: u64,
    pub base: Arc<[u8]>,
    pub left: Vec<Box<[u8]>>,
}

impl Document {
    pub fn new(start: u32, presence: u64) -> Self {
        Self { start, presence, ..Self::default() }
    }

    fn position(&self, index: usize) -> u32 {
        self.start.wrapping_add(index as u32 * SIZE)
    }

    fn index(&self, position: u32) -> usize {
        (position.wrapping_sub(self.start) / SIZE) as usize
    }

    pub fn edit(&mut self, id: u64) {
        self.ids.insert(id);
        self.log.push((id, true));
    }

    /// What is to be appended, if anything.
    pub fn submit(&mut self) -> Option<(u32, Vec<Box<[u8]>>)> {
        if !self.is_open || self.submitted == self.log.len() {
            return None;
        }
        let own = self.log[self.submitted..].iter().filter(|(_, is_own)| *is_own);
        let updates = own.map(|(id, _)| encode(*id)).collect();
        self.submitted = self.log.len();
        Some((self.position(self.submitted), updates))
    }

    pub fn opened(&mut self, loaded: &Loaded) {
        self.is_open = true;
        let before = std::mem::take(&mut self.log);
        self.ids.clear();
        for id in contents(loaded) {
            self.absorb(id);
        }
        (self.submitted, self.stored) = (self.log.len(), self.log.len());
        for (id, is_own) in before {
            assert!(is_own && !self.ids.contains(&id), "an edit before the document was open");
            self.edit(id);
        }
    }

    fn absorb(&mut self, id: u64) {
        if self.ids.insert(id) {
            self.log.push((id, false));
        }
    }

    pub fn foreign(&mut self, mark: u64, updates: &[Box<[u8]>]) {
        for id in updates.iter().flat_map(|update| decode(update)) {
            self.absorb(id);
        }
        self.marks.note(mark, self.position(self.log.len()));
    }

    /// What the store lacks.
    pub fn reload(&mut self, mark: u64, loaded: &Loaded) -> (u32, Vec<Box<[u8]>>) {
        let there = contents(loaded);
        for id in &there {
            self.absorb(*id);
        }
        self.marks.note(mark, self.position(self.log.len()));
        self.submitted = self.log.len();
        self.is_reloading = false;
        let lacking = self.log.iter().filter(|(id, _)| !there.contains(id));
        (self.position(self.log.len()), lacking.map(|(id, _)| encode(*id)).collect())
    }

    /// The own updates that are safe now and were not before.
    pub fn stored(&mut self, position: u32) -> Vec<u64> {
        let index = self.index(position);
        assert!(index <= self.submitted, "stored, and never given");
        let before = self.stored;
        self.stored = before.max(index);
        self.log[before.min(index)..index].iter().map(|(id, _)| *id).collect()
    }

    pub fn is_all_stored(&self) -> bool {
        self.stored == self.log.len() && !self.is_reloading
    }

    pub fn compact(&mut self) {
        if self.is_open && self.compacting.is_none() {
            self.compacting = Some(self.log.len());
        }
    }

    pub fn compacted(&mut self, leaves_one: bool) -> Option<Compacted> {
        let upto = self.compacting.take()?;
        if upto == 0 || self.submitted < upto {
            return None;
        }
        let mut ids: Vec<u64> = self.log[..upto].iter().map(|(id, _)| *id).collect();
        let left = if leaves_one { ids.pop() } else { None };
        let position = self.position(upto);
        Some(Compacted {
            upto: position,
            mark: self.marks.before(position),
            base: ids.iter().flat_map(|id| id.to_be_bytes()).collect(),
            left: left.into_iter().map(encode).collect(),
        })
    }
}
