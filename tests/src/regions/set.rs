//! Updates, as small numbers, and sets of them.

use std::fmt;

/// An update: which of its document's.
pub(super) type Update = u8;

/// Updates that one document can have.
pub(super) const UPDATES_MAX: Update = 127;

/// A set of updates: what a document comes to, in whatever order they come.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Set(u128);

impl Set {
    pub(super) fn insert(&mut self, update: Update) -> bool {
        let is_new = !self.contains(update);
        self.0 |= 1 << update;
        is_new
    }

    pub(super) fn remove(&mut self, update: Update) {
        self.0 &= !(1 << update);
    }

    pub(super) fn contains(self, update: Update) -> bool {
        self.0 >> update & 1 == 1
    }

    pub(super) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn iter(self) -> impl Iterator<Item = Update> {
        (0..=UPDATES_MAX).filter(move |&update| self.contains(update))
    }

    /// From updates, or what stands for many of them: one byte each.
    pub(super) fn from_bytes<'a>(updates: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut set = Self::default();
        for update in updates.into_iter().flatten() {
            set.insert(*update);
        }
        set
    }
}

impl fmt::Debug for Set {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_set().entries(self.iter()).finish()
    }
}
