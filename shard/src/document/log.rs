//! A document's log: a base that holds the compacted past, and a tail of the updates since, byte for byte as they came.
//!
//! Positions count the tail's bytes since the document was opened, wrapping at 2^32; a cursor is a position. Two positions
//! are compared by their distance, so the tail must stay below 2^31 bytes, which [`TAIL_MAX`] sees to.

use super::yjs::Compaction;
use std::sync::Arc;

/// Where an entry of the tail begins or ends.
pub type Position = u32;

/// Who wrote an entry: lets a writer's own entries be left out of what it is sent. Unique per session on a shard.
pub type WriterTag = u32;

/// The writer of entries that no session of today wrote.
pub const NOBODY: WriterTag = 0;

/// The writer of entries that came from the session store, which needs them no more. Above all tags of sessions.
pub const STORED: WriterTag = WriterTag::MAX;

/// Bytes of an entry's header: its length and its writer, little endian.
const HEADER: usize = 8;

/// Bytes a tail may reach while compaction is behind. At the bound the document takes no more edits until it was compacted.
pub const TAIL_MAX: usize = 256 << 20;

const _: () = assert!(TAIL_MAX < 1 << 31, "positions are compared by wrapping distance");

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Log {
    base: Option<Arc<[u8]>>,
    tail: Vec<u8>,
    /// Position of the tail's first byte.
    start: Position,
    /// Entries in the tail.
    entries: u32,
    /// Bytes that came since a transient document last compacted the log, those folded into the base included.
    since_compaction: usize,
    /// An entry of the tail builds on something that is not there (yet): see [`Self::is_mergeable`].
    has_gaps: bool,
}

impl Log {
    /// A log that begins with what a store kept.
    #[must_use]
    pub fn with_base(base: Option<Arc<[u8]>>) -> Self {
        Self { base, ..Self::default() }
    }

    /// The compacted past, an update of its own.
    #[must_use]
    pub fn base(&self) -> Option<&Arc<[u8]>> {
        self.base.as_ref()
    }

    /// Position after the last entry.
    #[must_use]
    pub fn head(&self) -> Position {
        self.start.wrapping_add(self.tail.len() as u32)
    }

    /// Position of the oldest entry that is still there.
    #[must_use]
    pub fn start(&self) -> Position {
        self.start
    }

    /// Entries in the tail.
    #[must_use]
    pub fn entries(&self) -> u32 {
        self.entries
    }

    /// Bytes of the tail, headers included.
    #[must_use]
    pub fn tail_len(&self) -> usize {
        self.tail.len()
    }

    /// Bytes of the base.
    #[must_use]
    pub fn base_len(&self) -> usize {
        self.base.as_ref().map_or(0, |base| base.len())
    }

    /// Bytes the log holds.
    #[must_use]
    pub fn held(&self) -> usize {
        self.tail.capacity() + self.base.as_ref().map_or(0, |base| base.len())
    }

    /// True if nothing was ever written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.base.is_none() && self.tail.is_empty()
    }

    /// True if `len` more bytes would pass [`TAIL_MAX`].
    #[must_use]
    pub fn is_full(&self, len: usize) -> bool {
        self.tail.len() + HEADER + len > TAIL_MAX
    }

    /// True if `len` more bytes would be more than positions can tell apart, by far: what the session store has is taken beyond
    /// [`TAIL_MAX`], at which sessions are asked to wait.
    #[must_use]
    pub fn is_overfull(&self, len: usize) -> bool {
        self.tail.len() + HEADER + len > 1 << 30
    }

    /// True when so much came since the last compaction that a transient document should fold it.
    #[must_use]
    pub fn wants_compaction(&self, threshold: usize) -> bool {
        let base = self.base.as_ref().map_or(0, |base| base.len());
        self.since_compaction > threshold.max(base / 2)
    }

    /// True if every entry starts where the log before it ends, client by client. The library must not be given others
    /// together: what fills a gap later, and contradicts what stands behind it, corrupts its memory.
    #[must_use]
    pub fn is_mergeable(&self) -> bool {
        !self.has_gaps
    }

    /// Notes that an entry leaves a gap, or has one inside.
    pub fn note_gap(&mut self) {
        self.has_gaps = true;
    }

    /// Appends an update as it came.
    pub fn append(&mut self, writer: WriterTag, update: &[u8]) {
        self.tail.extend_from_slice(&(update.len() as u32).to_le_bytes());
        self.tail.extend_from_slice(&writer.to_le_bytes());
        self.tail.extend_from_slice(update);
        self.entries += 1;
        self.since_compaction += HEADER + update.len();
    }

    /// The entries from `cursor` on, or None if the tail begins after it: then the base holds what is lacking as well.
    #[must_use]
    pub fn since(&self, cursor: Position) -> Option<Entries<'_>> {
        let offset = cursor.wrapping_sub(self.start) as usize;
        self.tail.get(offset..).map(Entries)
    }

    /// Every entry of the tail.
    #[must_use]
    pub fn tail(&self) -> Entries<'_> {
        Entries(&self.tail)
    }

    /// The log as a job for a worker; the document goes on meanwhile.
    #[must_use]
    pub fn compaction(&self, state_vectors: Vec<Box<[u8]>>) -> Compaction {
        Compaction { base: self.base.clone(), tail: self.tail.clone(), upto: self.head(), state_vectors }
    }

    /// Replaces the base by one that also holds every entry before `upto`, and drops those.
    pub fn rebase(&mut self, base: Arc<[u8]>, upto: Position, how: Rebase) {
        let dropped = (upto.wrapping_sub(self.start) as usize).min(self.tail.len());
        self.entries -= Entries(&self.tail[..dropped]).count() as u32;
        self.tail.drain(..dropped);
        if self.tail.capacity() > 4 * self.tail.len() {
            self.tail.shrink_to_fit();
        }
        self.start = upto;
        self.base = Some(base);
        if how == Rebase::Compacted {
            self.since_compaction = self.tail.len();
        }
    }

    /// A compaction came to nothing: the next is due when as much again has come.
    pub fn put_off_compaction(&mut self) {
        self.since_compaction = 0;
    }

    /// After a compaction: puts what it left out, because it builds on something missing, before the rest of the tail. No
    /// position changes; cursors before [`Self::start`] point nowhere any more. Whether what came meanwhile has gaps of its
    /// own is not known, so they are assumed where there were any.
    pub fn restore(&mut self, left: &[Box<[u8]>]) {
        self.has_gaps &= !(left.is_empty() && self.tail.is_empty());
        if left.is_empty() {
            return;
        }
        let mut front = Self::default();
        left.iter().for_each(|update| front.append(NOBODY, update));
        self.start = self.start.wrapping_sub(front.tail.len() as u32);
        self.entries += front.entries;
        self.tail.splice(..0, front.tail);
        self.has_gaps = true;
    }
}

/// How a new base came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rebase {
    /// Merged without a document: deleted content is still in it.
    Folded,
    /// Rebuilt through a transient document.
    Compacted,
}

/// Iterates over a run of entries.
#[derive(Clone, Copy, Debug)]
pub struct Entries<'a>(&'a [u8]);

impl<'a> Entries<'a> {
    /// Over entries that a log wrote.
    #[must_use]
    pub(super) fn over(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Bytes of the run, headers included.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.0.len()
    }
}

/// One update in the tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Whose it is.
    pub writer: WriterTag,
    /// The update as it came.
    pub update: &'a [u8],
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let (len, rest) = self.0.split_first_chunk::<4>()?;
        let (writer, rest) = rest.split_first_chunk::<4>()?;
        let (update, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        self.0 = rest;
        Some(Entry { writer: u32::from_le_bytes(*writer), update })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn updates<'a>(entries: impl Iterator<Item = Entry<'a>>) -> Vec<&'a [u8]> {
        entries.map(|entry| entry.update).collect()
    }

    #[test]
    fn a_cursor_sees_exactly_what_came_after_it() {
        let mut log = Log::default();
        log.append(1, b"one");
        let cursor = log.head();
        log.append(2, b"");
        log.append(3, b"three");
        assert_eq!(updates(log.since(cursor).unwrap()), [&b""[..], b"three"]);
        assert_eq!(log.since(log.head()).unwrap().count(), 0);
    }

    #[test]
    fn a_cursor_that_compaction_passed_is_told_so() {
        let mut log = Log::default();
        log.append(1, b"one");
        let upto = log.head();
        log.append(1, b"two");
        log.rebase(Arc::from(&b"base"[..]), upto, Rebase::Compacted);
        assert!(log.since(0).is_none());
        assert_eq!(updates(log.since(upto).unwrap()), [b"two"]);
        assert_eq!(log.entries(), 1);
        assert_eq!(&**log.base().unwrap(), b"base");
    }

    #[test]
    fn what_compaction_left_stands_before_the_rest_and_moves_no_position() {
        let mut log = Log::default();
        log.append(1, b"one");
        let upto = log.head();
        log.append(1, b"two");
        let head = log.head();
        log.rebase(Arc::from(&b"base"[..]), upto, Rebase::Compacted);
        log.restore(&[b"left".to_vec().into_boxed_slice()]);
        assert_eq!(updates(log.tail()), [&b"left"[..], b"two"]);
        assert_eq!(updates(log.since(upto).unwrap()), [b"two"]);
        assert_eq!((log.head(), log.entries(), log.is_mergeable()), (head, 2, false));
    }

    #[test]
    fn positions_survive_their_wrap() {
        let mut log = Log { start: u32::MAX - 5, ..Log::default() };
        log.append(1, b"before");
        let cursor = log.head();
        assert!(cursor < 100, "wrapped");
        log.append(1, b"after");
        assert_eq!(updates(log.since(cursor).unwrap()), [b"after"]);
        assert_eq!(updates(log.since(u32::MAX - 5).unwrap()), [&b"before"[..], b"after"]);
    }

    #[test]
    fn compaction_is_wanted_past_the_threshold_or_half_the_base() {
        let mut log = Log::default();
        log.append(1, &[0; 100]);
        assert!(log.wants_compaction(64));
        assert!(!log.wants_compaction(200));
        let upto = log.head();
        log.rebase(vec![0; 1000].into(), upto, Rebase::Folded);
        assert!(!log.wants_compaction(64), "below half the base");
        log.append(1, &[0; 450]);
        assert!(log.wants_compaction(64), "what was folded counts");
        log.rebase(vec![0; 1000].into(), log.head(), Rebase::Compacted);
        log.append(1, &[0; 450]);
        assert!(!log.wants_compaction(64));
    }
}
