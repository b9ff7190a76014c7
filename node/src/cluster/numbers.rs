//! What a node counts of its part in the system.

use std::sync::atomic::{AtomicU64, Ordering};

use pinwire_cluster::Decision;

/// Counted by the thread of the pins.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    /// Documents held or being claimed.
    pub(crate) pins: AtomicU64,
    /// What became of claims.
    pub(crate) held: AtomicU64,
    pub(crate) elsewhere: AtomicU64,
    pub(crate) limited: AtomicU64,
    pub(crate) put_off: AtomicU64,
    /// Documents that another region has now.
    pub(crate) lost: AtomicU64,
    /// Requests to registries, and those that failed.
    pub(crate) asked: AtomicU64,
    pub(crate) unanswered: AtomicU64,
    /// Times that the lease ran out before it was renewed.
    pub(crate) lapses: AtomicU64,
}

impl Numbers {
    pub(crate) fn decided(&self, decision: &Decision) {
        let counter = match decision {
            Decision::Held { .. } => &self.held,
            Decision::Elsewhere(_) => &self.elsewhere,
            Decision::Limit { .. } => &self.limited,
            Decision::TryAgain | Decision::Stale => &self.put_off,
        };
        count(counter);
    }
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
