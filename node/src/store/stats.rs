//! Numbers about the store on disk. Its threads are no data threads: a short lock costs nobody anything.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::metrics::Histogram;

/// The numbers at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    /// Runs of updates appended to the journal.
    pub(crate) appends: u64,
    /// Bytes of them.
    pub(crate) appended_bytes: u64,
    /// Writes, checkpoints and loads that failed.
    pub(crate) failures: u64,
    /// Records and rows that were damaged.
    pub(crate) damages: u64,
    /// Documents removed: their time was over, or they were erased.
    pub(crate) removed: u64,
    /// Documents in the table.
    pub(crate) documents: u64,
    /// Bytes that wait for a checkpoint.
    pub(crate) gathered_bytes: u64,
    /// Something could not be written, and is tried again.
    pub(crate) is_failing: bool,
    /// Writing what came in, until it was safe.
    pub(crate) commit: Histogram,
    /// Putting what was gathered into the table.
    pub(crate) checkpoint: Histogram,
    /// Loading a document.
    pub(crate) load: Histogram,
}

/// The numbers, as they are counted.
#[derive(Debug, Default)]
pub(crate) struct StoreStats(Mutex<Snapshot>);

impl StoreStats {
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.lock().clone()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        change(&mut self.lock());
    }

    pub(super) fn time(&self, of: fn(&mut Snapshot) -> &mut Histogram, time: Duration) {
        of(&mut self.lock()).note(time);
    }

    fn lock(&self) -> MutexGuard<'_, Snapshot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
