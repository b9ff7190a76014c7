//! What is recorded of a traced happening, and which of many are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crossbeam_queue::ArrayQueue;

/// Records that wait for the exporter.
const WAITING_MAX: usize = 4096;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// From accepting a connection to the answer to its upgrade.
    Handshake,
    /// Judging a token.
    Token,
    /// Asking the store for a document.
    DocumentOpen,
    /// A request of plain HTTP: its method, its route, and the answer's status.
    Http(&'static str, &'static str, u16),
}

/// Whose part it is: a trace and a span in there, as `traceparent` names them (W3C Trace Context).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parent {
    pub(crate) trace: u128,
    pub(crate) span: u64,
}

impl Parent {
    /// Reads a `traceparent` whose sender traces it too: `00-TRACE-SPAN-01`.
    pub(crate) fn parse(header: &str) -> Option<Self> {
        let mut parts = header.trim().split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        // Later versions may have more behind.
        let has_form = version.len() == 2 && version != "ff" && trace.len() == 32 && span.len() == 16;
        if !has_form || flags.len() != 2 || (version == "00" && parts.next().is_some()) {
            return None;
        }
        let parent =
            Self { trace: u128::from_str_radix(trace, 16).ok()?, span: u64::from_str_radix(span, 16).ok()? };
        let is_sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        (is_sampled && parent.trace != 0 && parent.span != 0).then_some(parent)
    }
}

/// One traced happening. No part of it is a client's choice but the parent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    pub(crate) what: What,
    /// The data thread, where it was one.
    pub(crate) thread: Option<u16>,
    pub(crate) ended: SystemTime,
    pub(crate) took: Duration,
    /// Why it came to nothing; empty where it did not.
    pub(crate) error: &'static str,
    pub(crate) parent: Option<Parent>,
}

/// What became of records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    /// A collector took them.
    pub(crate) exported: u64,
    /// The queue was full.
    pub(crate) queue_full: u64,
    /// The collector did not take them.
    pub(crate) refused: u64,
}

/// The way to the exporter.
#[derive(Debug)]
pub(crate) struct Queue {
    records: ArrayQueue<Record>,
    pub(super) exported: AtomicU64,
    queue_full: AtomicU64,
    pub(super) refused: AtomicU64,
    /// One in so many is traced.
    one_in: u32,
}

impl Queue {
    pub(super) fn new(one_in: u32) -> Self {
        Self {
            records: ArrayQueue::new(WAITING_MAX),
            exported: AtomicU64::new(0),
            queue_full: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            one_in: one_in.max(1),
        }
    }

    /// Leaves a record, or drops it.
    pub(crate) fn push(&self, record: Record) {
        if self.records.push(record).is_err() {
            self.queue_full.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn pop(&self) -> Option<Record> {
        self.records.pop()
    }

    /// The totals.
    pub(crate) fn counted(&self) -> Counted {
        Counted {
            exported: self.exported.load(Ordering::Relaxed),
            queue_full: self.queue_full.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }
}

/// A thread's side: chooses and records.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    queue: Option<Arc<Queue>>,
    thread: Option<u16>,
    /// Happenings that pass before the next one that is traced.
    skipped: u32,
}

impl Recorder {
    /// Records nothing without a queue.
    pub(crate) fn new(queue: Option<Arc<Queue>>, thread: Option<u16>) -> Self {
        Self { queue, thread, skipped: 0 }
    }

    /// Records something that ends now, if it is one of those that are traced.
    pub(crate) fn note(&mut self, what: What, took: impl FnOnce() -> Duration, error: &'static str) {
        if self.is_chosen() {
            self.record(what, took(), error);
        }
    }

    /// Records something that ends now and was chosen.
    pub(crate) fn record(&self, what: What, took: Duration, error: &'static str) {
        if let Some(queue) = &self.queue {
            let ended = SystemTime::now();
            queue.push(Record { what, thread: self.thread, ended, took, error, parent: None });
        }
    }

    /// Whether the next happening is traced.
    pub(crate) fn is_chosen(&mut self) -> bool {
        let Some(queue) = &self.queue else { return false };
        self.skipped += 1;
        let is_chosen = self.skipped >= queue.one_in;
        if is_chosen {
            self.skipped = 0;
        }
        is_chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_so_many_is_recorded_and_none_without_a_queue() {
        let queue = Arc::new(Queue::new(3));
        let mut recorder = Recorder::new(Some(Arc::clone(&queue)), Some(7));
        for _ in 0..10 {
            recorder.note(What::Token, || Duration::from_micros(5), "");
        }
        let records: Vec<Record> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(records.len(), 3);
        assert_eq!((records[0].thread, records[0].took), (Some(7), Duration::from_micros(5)));
        Recorder::default().note(What::Token, || panic!("nobody asks"), "");
    }

    #[test]
    fn a_full_queue_drops_the_newest_and_counts() {
        let queue = Arc::new(Queue::new(1));
        let mut recorder = Recorder::new(Some(Arc::clone(&queue)), None);
        for number in 0..WAITING_MAX as u64 + 5 {
            recorder.note(What::Token, || Duration::from_micros(number), "");
        }
        assert_eq!(queue.counted(), Counted { queue_full: 5, ..Counted::default() });
        assert_eq!(queue.pop().unwrap().took, Duration::ZERO, "the oldest is there");
    }

    #[test]
    fn a_parent_is_who_traces_too() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parent = Parent { trace: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, span: 0x00f0_67aa_0ba9_02b7 };
        assert_eq!(Parent::parse(good), Some(parent));
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-xbf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(Parent::parse(bad), None, "{bad}");
        }
    }
}
