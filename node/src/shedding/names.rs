//! Whether a document of some name is open on this node: read by a thread that has a request's target and no token yet, whichever
//! thread has the document.
//!
//! A table of counts by the name's hash: it may say yes where it should say no, and never the other way round. Who gets in by
//! mistake is found by the thread that would open the document.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU16, Ordering};

/// Places of the table, a power of two: 128 KiB.
const PLACES: usize = 1 << 16;

/// Names of open documents, whosever they are.
#[derive(Debug)]
pub(crate) struct OpenNames {
    counts: Box<[AtomicU16]>,
    hasher: RandomState,
}

impl Default for OpenNames {
    fn default() -> Self {
        let counts = std::iter::repeat_with(AtomicU16::default).take(PLACES).collect();
        Self { counts, hasher: RandomState::new() }
    }
}

impl OpenNames {
    fn place(&self, name: &str) -> &AtomicU16 {
        &self.counts[self.hasher.hash_one(name) as usize % PLACES]
    }

    /// A document is opened. A place that is full stays so.
    pub(crate) fn add(&self, name: &str) {
        let more = |count: u16| count.checked_add(1);
        let _ = self.place(name).fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// One that was added is closed.
    pub(crate) fn remove(&self, name: &str) {
        let less = |count: u16| (count < u16::MAX).then(|| count.saturating_sub(1));
        let _ = self.place(name).fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Whether one of this name may be open; if not, none is.
    pub(crate) fn may_have(&self, name: &str) -> bool {
        self.place(name).load(Ordering::Relaxed) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_there_as_long_as_a_document_has_it() {
        let names = OpenNames::default();
        assert!(!names.may_have("a"));
        names.add("a");
        names.add("a");
        names.remove("a");
        assert!(names.may_have("a"));
        names.remove("a");
        names.remove("a");
        assert!(!names.may_have("a"));
    }

    #[test]
    fn a_place_that_is_full_says_yes_for_ever() {
        let names = OpenNames::default();
        (0..=u32::from(u16::MAX)).for_each(|_| names.add("a"));
        (0..=u32::from(u16::MAX)).for_each(|_| names.remove("a"));
        assert!(names.may_have("a"));
    }

    #[test]
    fn most_other_names_are_told_apart() {
        let names = OpenNames::default();
        (0..1_000).for_each(|number| names.add(&format!("open-{number}")));
        assert!((0..1_000).all(|number| names.may_have(&format!("open-{number}"))));
        let mistakes = (0..1_000).filter(|number| names.may_have(&format!("other-{number}"))).count();
        assert!(mistakes < 60, "{mistakes}, where 15 are to be expected");
    }
}
