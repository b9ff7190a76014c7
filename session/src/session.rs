//! One session as `Book` keeps it.

use crate::{Batch, Head, Loaded, Notice, Reply};
use pinwire_registry::{Claim, DocumentName, Node};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// What a session takes besides its updates and its name.
pub(crate) const SESSION_BYTES: u64 = 400;
/// What an entry takes besides its updates.
pub(crate) const ENTRY_BYTES: u64 = 32;
/// What an update takes besides its bytes.
pub(crate) const UPDATE_BYTES: u64 = 4;

pub(crate) fn size_of(updates: &[Box<[u8]>]) -> u64 {
    updates.iter().map(|update| UPDATE_BYTES + update.len() as u64).sum()
}

/// What a session takes before anything was appended.
pub(crate) fn empty_size(document: &DocumentName) -> u64 {
    SESSION_BYTES + (document.app.0.len() + 1 + document.name.len()) as u64
}

/// A batch on its way into the history.
#[derive(Debug)]
pub(crate) struct Kept {
    pub nonce: u64,
    pub updates: Batch,
}

impl Kept {
    pub(crate) fn size(&self) -> u64 {
        ENTRY_BYTES + size_of(&self.updates)
    }
}

#[derive(Clone, Debug)]
struct Entry {
    nonce: u64,
    /// The history's head once the entry was in it.
    head: Head,
    updates: Batch,
}

#[derive(Clone, Debug)]
struct Base {
    update: Arc<[u8]>,
    left: Batch,
}

/// The document is being moved to another region, or was about to be.
#[derive(Clone, Debug)]
pub(crate) struct Moving {
    /// Until when that is told: then it is for the registry to say.
    pub until: u64,
    /// Holders that have stopped.
    pub agreed: BTreeSet<Node>,
}

#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub claim: Claim,
    /// Until somebody holds it under its new claim.
    pub moving: Option<Moving>,
    /// Who holds the document, and under which number of theirs.
    pub holders: BTreeMap<Node, u64>,
    /// When it is over, if nobody holds it.
    pub over_at: Option<u64>,
    base: Option<Base>,
    /// What the base stands for.
    based: Head,
    tail: VecDeque<Entry>,
    bytes: u64,
}

impl Session {
    pub(crate) fn new(claim: Claim, document: &DocumentName) -> Self {
        Self {
            claim,
            moving: None,
            holders: BTreeMap::new(),
            over_at: None,
            base: None,
            based: Head::default(),
            tail: VecDeque::new(),
            bytes: empty_size(document),
        }
    }

    /// With what another region handed over.
    pub(crate) fn imported(
        claim: Claim,
        document: &DocumentName,
        base: Option<&Arc<[u8]>>,
        kept: Kept,
    ) -> Self {
        let mut session = Self::new(claim, document);
        session.base = base.map(|update| Base { update: Arc::clone(update), left: Batch::default() });
        session.bytes += base.map_or(0, |base| UPDATE_BYTES + base.len() as u64);
        if !kept.updates.is_empty() {
            session.push(kept);
        }
        session
    }

    /// What a holder under an older claim is told.
    pub(crate) fn fenced(&self, now_us: u64) -> Reply {
        let is_moving = self.moving.as_ref().is_some_and(|moving| now_us < moving.until);
        if is_moving { Reply::Moving(self.claim) } else { Reply::Fenced(self.claim) }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn head(&self) -> Head {
        self.tail.back().map_or(self.based, |entry| entry.head)
    }

    /// True if `head` is part of the history, as far back as the base.
    pub(crate) fn knows(&self, head: Head) -> bool {
        self.entries_upto(head).is_some()
    }

    /// How many entries of the tail `head` stands for.
    fn entries_upto(&self, head: Head) -> Option<usize> {
        if head == self.based {
            return Some(0);
        }
        let count = usize::try_from(head.seq.checked_sub(self.based.seq)?).ok()?;
        let entry = self.tail.get(count.checked_sub(1)?)?;
        (entry.head == head).then_some(count)
    }

    /// A batch that came after `known`: the heads before and after it.
    pub(crate) fn find(&self, known: Head, nonce: u64) -> Option<(Head, Head)> {
        let from = self.entries_upto(known)?;
        let at = from + self.tail.iter().skip(from).position(|entry| entry.nonce == nonce)?;
        let prev = if at == 0 { self.based } else { self.tail[at - 1].head };
        Some((prev, self.tail[at].head))
    }

    pub(crate) fn push(&mut self, kept: Kept) -> (Head, Head) {
        let prev = self.head();
        let head = prev.after(kept.nonce);
        self.bytes += kept.size();
        self.tail.push_back(Entry { nonce: kept.nonce, head, updates: kept.updates });
        (prev, head)
    }

    pub(crate) fn rebase(
        &mut self,
        (upto, within): (Head, Head),
        (update, left): (&Arc<[u8]>, &Batch),
        bytes_max: u64,
    ) -> Reply {
        let count = self.entries_upto(upto).filter(|count| *count > 0 && self.knows(within));
        let Some(count) = count else { return Reply::Done };
        let base = self.base.as_ref();
        let dropped = base.map_or(0, |base| UPDATE_BYTES + base.update.len() as u64 + size_of(&base.left))
            + self.tail.iter().take(count).map(|entry| ENTRY_BYTES + size_of(&entry.updates)).sum::<u64>();
        let added = UPDATE_BYTES + update.len() as u64 + size_of(left);
        let bytes = self.bytes - dropped + added;
        if bytes > self.bytes && bytes > bytes_max {
            return Reply::Full;
        }
        self.bytes = bytes;
        self.tail.drain(..count);
        self.based = upto;
        self.base = Some(Base { update: Arc::clone(update), left: Arc::clone(left) });
        Reply::Done
    }

    /// With all who hold it.
    pub(crate) fn load(&self) -> Loaded {
        let left = self.base.iter().flat_map(|base| base.left.iter());
        let tail = self.tail.iter().flat_map(|entry| entry.updates.iter());
        Loaded {
            base: self.base.as_ref().map(|base| Arc::clone(&base.update)),
            tail: left.chain(tail).cloned().collect(),
            head: self.head(),
            nodes: self.holders.keys().cloned().collect(),
        }
    }

    pub(crate) fn others(&self, node: &Node) -> Vec<Node> {
        self.holders.keys().filter(|holder| *holder != node).cloned().collect()
    }

    /// The notice is given the number under which the one who is told holds the document.
    pub(crate) fn tell_others(
        &self,
        node: &Node,
        notices: &mut Vec<(Node, Notice)>,
        notice: impl Fn(u64) -> Notice,
    ) {
        let others = self.holders.iter().filter(|(holder, _)| *holder != node);
        notices.extend(others.map(|(holder, hold)| (holder.clone(), notice(*hold))));
    }
}
