//! What a node counts of its part in the system. Threads count, `/metrics` and operators read.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pinwire_cluster::Decision;

use crate::metrics::Histogram;
use crate::peer::PeerStats;

/// A number that only rises.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

/// A number that rises and falls.
#[derive(Debug, Default)]
pub struct Level(AtomicU64);

impl Count {
    /// One more.
    pub fn one(&self) {
        self.more(1);
    }

    /// So many more.
    pub fn more(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// How many so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Level {
    /// It is this now.
    pub fn set(&self, now: u64) {
        self.0.store(now, Ordering::Relaxed);
    }

    /// What it is.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Times, noted by threads that are in no hurry.
#[derive(Debug, Default)]
pub struct Times(Mutex<Histogram>);

impl Times {
    /// Something took so long.
    pub fn note(&self, took: Duration) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).note(took);
    }

    pub(crate) fn get(&self) -> Histogram {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All of it.
#[derive(Debug, Default)]
pub struct ClusterStats {
    /// Documents that this node holds or is claiming.
    pub pins: Level,
    /// Claims that were granted.
    pub claims_held: Count,
    /// Claims for a document that another region has.
    pub claims_elsewhere: Count,
    /// Claims refused since the app has as many documents as it may.
    pub claims_limited: Count,
    /// Claims that could not be decided: clients come again.
    pub claims_put_off: Count,
    /// Documents that another region took over while they were open here.
    pub pins_lost: Count,
    /// Documents that this node had moved here from another region.
    pub moves: Count,
    /// Those that stayed where they were, or may have.
    pub moves_failed: Count,
    /// How long moves took, from the moment that the other region was asked.
    pub move_times: Times,
    /// Documents that this node handed over to another region, moved or not.
    pub handed_over: Count,
    /// Requests of the lease and the pins to registries.
    pub registry_asked: Count,
    /// Those that were not answered.
    pub registry_unanswered: Count,
    /// How long answered ones took.
    pub registry_times: Times,
    /// Times that the lease ran out before it was renewed.
    pub lease_lapses: Count,
    /// 1 while the leases are good.
    pub lease_valid: Level,
    /// Milliseconds for which the lease is still good: of that which ends first.
    pub lease_left_ms: Level,
    /// Documents whose session this node has open in the region's Redis.
    pub sessions: Level,
    /// Appends to the region's Redis.
    pub session_appends: Count,
    /// Updates in them.
    pub session_updates: Count,
    /// Requests to the region's Redis that were not answered.
    pub session_unanswered: Count,
    /// How long answered ones took.
    pub session_times: Times,
    /// Documents loaded again since something of them was missed, or the store had lost something.
    pub session_reloads: Count,
    /// Documents for which the region's Redis has no room.
    pub sessions_full: Level,
    /// Documents that were given up for it.
    pub sessions_given_up: Count,
    /// Entries of the region's Redis that were found to be no updates.
    pub session_unreadable: Count,
    /// Updates that were given back to the store, which had lost them.
    pub session_put_back: Count,
    /// Questions of HTTP and operators that registries answered.
    pub lookups_answered: Count,
    /// Those that they did not.
    pub lookups_unanswered: Count,
    /// How long they took.
    pub lookup_times: Times,
    /// Answers of `/discovery`: a region has the document.
    pub discovered_pinned: Count,
    /// Nobody has it.
    pub discovered_idle: Count,
    /// The registry did not answer.
    pub discovered_nothing: Count,
    /// Links to other nodes.
    pub peer: PeerStats,
}

impl ClusterStats {
    /// A claim came to this.
    pub(crate) fn decided(&self, decision: &Decision) {
        match decision {
            Decision::Held { .. } => &self.claims_held,
            Decision::Elsewhere(_) => &self.claims_elsewhere,
            Decision::Limit { .. } => &self.claims_limited,
            Decision::TryAgain | Decision::Stale => &self.claims_put_off,
        }
        .one();
    }

    /// A question of HTTP or of an operator came to its end.
    pub(crate) fn looked_up(&self, took: Duration, is_answered: bool) {
        let count = if is_answered { &self.lookups_answered } else { &self.lookups_unanswered };
        count.one();
        self.lookup_times.note(took);
    }

    #[cfg(test)]
    pub(crate) fn lookups(&self) -> (u64, u64) {
        (self.lookups_answered.get(), self.lookups_unanswered.get())
    }
}
