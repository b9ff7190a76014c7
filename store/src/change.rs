//! What happened to documents since the last checkpoint.

use std::collections::HashMap;
use std::sync::Arc;

use crate::Updates;

/// What happened to one document.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// What was kept of it before is gone.
    pub(crate) is_dropped: bool,
    /// What takes the place of rows.
    pub(crate) base: Option<Base>,
    /// What came after that.
    pub(crate) updates: Updates,
    /// When its session ended, if it has.
    pub(crate) ended_at: Option<u64>,
    /// Bytes of `updates` that came before this session began.
    inherited: usize,
    /// Where in the session's log, and in `updates`, each run ends that came since.
    ends: Vec<(u32, usize)>,
}

/// A compacted document.
#[derive(Clone, Debug)]
pub struct Base {
    /// The last checkpoint whose rows it takes the place of.
    pub covers: u64,
    /// The document, as one update.
    pub update: Arc<[u8]>,
    /// Updates that compaction could not put into it.
    pub left: Updates,
}

impl Change {
    /// A session begins: what is here was there before it.
    pub(crate) fn begin(&mut self) {
        self.ended_at = None;
        self.inherited = self.updates.byte_len();
        self.ends.clear();
    }

    pub(crate) fn append(&mut self, position: u32, updates: &Updates) {
        self.updates.append(updates);
        self.ends.push((position, self.updates.byte_len()));
    }

    /// A base takes the place of everything before `upto` in the session's log.
    pub(crate) fn rebase(&mut self, upto: u32, base: Base) {
        let covered = self.ends.iter().take_while(|(end, _)| is_at_or_before(*end, upto)).count();
        let bytes = self.ends[..covered].last().map_or(self.inherited, |(_, bytes)| *bytes);
        self.updates.drop_front(bytes);
        self.inherited = 0;
        self.ends.drain(..covered);
        self.ends.iter_mut().for_each(|(_, end)| *end -= bytes);
        self.base = Some(base);
    }

    /// Where in the session's log the last run ends.
    pub(crate) fn end(&self) -> Option<u32> {
        self.ends.last().map(|(position, _)| *position)
    }

    /// The base's updates, if there is one.
    pub(crate) fn base_updates(&self) -> Option<Updates> {
        let base = self.base.as_ref()?;
        let mut updates = Updates::from_iter([&*base.update]);
        updates.append(&base.left);
        Some(updates)
    }

    /// Bytes of memory that it holds by itself: a base is the document's own.
    fn held(&self) -> usize {
        self.updates.byte_len()
    }
}

/// Positions of a log wrap at 2^32 and are compared by their distance.
pub(crate) fn is_at_or_before(position: u32, upto: u32) -> bool {
    upto.wrapping_sub(position) as i32 >= 0
}

/// What happened to all documents, by their names.
#[derive(Debug, Default)]
pub struct Changes {
    by_name: HashMap<Box<str>, Change>,
    held: usize,
}

impl Changes {
    /// Nothing happened.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Bytes of updates.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    /// What happened to the document of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Change> {
        self.by_name.get(name)
    }

    /// Documents whose sessions ended, and did not begin again.
    pub fn ended(&self) -> impl Iterator<Item = &str> {
        self.iter().filter(|(_, change)| change.ended_at.is_some()).map(|(name, _)| name)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Change)> {
        self.by_name.iter().map(|(name, change)| (&**name, change))
    }

    /// Lets `with` change what happened to a document.
    pub(crate) fn change(&mut self, name: &str, with: impl FnOnce(&mut Change)) {
        let change = match self.by_name.get_mut(name) {
            Some(change) => change,
            None => self.by_name.entry(name.into()).or_default(),
        };
        let before = change.held();
        with(change);
        self.held = self.held + change.held() - before;
    }

    /// The document's session ended, and nothing of it is kept, or all of it.
    pub(crate) fn end(&mut self, name: &str, at: u64, is_kept: bool) {
        self.change(name, |change| {
            if !is_kept {
                *change = Change { is_dropped: true, ..Change::default() };
            }
            change.ended_at = Some(at);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(updates: &[&[u8]]) -> Updates {
        updates.iter().copied().collect()
    }

    fn base(covers: u64) -> Base {
        Base { covers, update: Arc::from(&b"base"[..]), left: Updates::new() }
    }

    #[test]
    fn a_base_takes_the_place_of_what_came_before_it_and_of_nothing_else() {
        let mut change = Change::default();
        change.append(10, &run(&[b"one"]));
        change.append(20, &run(&[b"two", b"three"]));
        change.append(30, &run(&[b"four"]));
        change.rebase(20, base(0));
        assert_eq!(change.updates, run(&[b"four"]));
        change.append(40, &run(&[b"five"]));
        change.rebase(40, base(0));
        assert!(change.updates.is_empty());
    }

    #[test]
    fn a_base_that_ends_within_a_run_leaves_it_whole() {
        let mut change = Change::default();
        change.append(10, &run(&[b"one"]));
        change.append(20, &run(&[b"two"]));
        change.rebase(15, base(0));
        assert_eq!(change.updates, run(&[b"two"]));
    }

    #[test]
    fn what_an_earlier_session_left_is_in_the_first_base() {
        let mut change = Change::default();
        change.append(4_000_000_000, &run(&[b"old"]));
        change.begin();
        change.append(10, &run(&[b"new"]));
        change.rebase(5, base(0));
        assert_eq!(change.updates, run(&[b"new"]));
    }

    #[test]
    fn positions_survive_their_wrap() {
        let mut change = Change::default();
        change.append(u32::MAX - 3, &run(&[b"before"]));
        change.append(7, &run(&[b"after"]));
        change.rebase(u32::MAX, base(0));
        assert_eq!(change.updates, run(&[b"after"]));
    }

    #[test]
    fn held_bytes_follow_what_is_held() {
        let mut changes = Changes::default();
        changes.change("a", |change| change.append(1, &run(&[b"four"])));
        changes.change("b", |change| change.append(1, &run(&[b"four"])));
        assert_eq!(changes.held(), 16);
        changes.change("a", |change| change.rebase(1, base(0)));
        assert_eq!(changes.held(), 8);
        changes.end("b", 5, false);
        assert_eq!((changes.held(), changes.get("b").unwrap().is_dropped), (0, true));
    }
}
