//! One app's live counters, shared by the threads of a node.
//!
//! Limits are the app's over all nodes. Here they stand beside counters that every data thread of this node updates;
//! an allotment from a registry can take the place of the limit that a caller passes in.

use crate::DocumentName;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// What an app may use at most. `u32::MAX` stands for no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppLimits {
    /// Open sockets with at least one admitted session.
    pub max_connections: u32,
    /// Documents that are active at the same time.
    pub max_documents: u32,
    /// Sessions on one document.
    pub max_users_per_document: u32,
    /// Edits and stateless messages in one minute, over all connections of the app in this region.
    pub operations_per_minute: u32,
}

impl AppLimits {
    /// No limit at all.
    pub const UNLIMITED: Self = Self {
        max_connections: u32::MAX,
        max_documents: u32::MAX,
        max_users_per_document: u32::MAX,
        operations_per_minute: u32::MAX,
    };
}

/// A thread leases one part in so many of what is left of a minute's operations: the hot path touches the shared counter
/// seldom, and what idle threads hold leaves something for the others, however many there are.
const OPERATIONS_LEFT_PER_LEASE: u32 = 64;

/// An app (`{tenant}::{app}`) and what it uses on this node right now.
#[derive(Debug)]
pub struct App {
    tenant: Arc<str>,
    id: Arc<str>,
    /// The number of its license region.
    license: u8,
    connections: AtomicU32,
    documents: AtomicU32,
    /// Minute number in the high half, operations leased in it in the low half: one word, so that a new minute
    /// starts atomically.
    operations: AtomicU64,
    /// What it may use, by the token seen last: connections, documents, users of a document, operations of a minute.
    limits: [AtomicU32; 4],
    /// Connections that this node may admit; `u32::MAX` for no bound, [`UNTOLD`] as long as nobody has said.
    share: AtomicU32,
    /// There is no more to be had than the share.
    is_share_all: AtomicBool,
    /// Connections refused by the share alone since it was last asked for.
    short: AtomicU32,
}

/// The share of a node among others that was not told yet what it may admit: a part of the limit, so that nodes that begin together
/// do not each take all of it.
const UNTOLD: u32 = u32::MAX - 1;
/// That part.
const UNTOLD_PART: u32 = 16;
/// Connections that a node wants to be able to admit beyond those it has, at least; else a quarter of them.
const HEADROOM_MIN: u32 = 16;

/// Why a connection was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unadmitted {
    /// The app has as many as it may.
    Limit,
    /// This node has no more of the app's limit left, and is going to ask for more.
    Share,
}

impl App {
    /// An app that uses nothing yet.
    #[must_use]
    pub fn new(tenant: &str, id: &str) -> Self {
        Self::in_license(tenant, id, 0)
    }

    /// The same, of the license region with this number.
    #[must_use]
    pub fn in_license(tenant: &str, id: &str, license: u8) -> Self {
        Self {
            tenant: tenant.into(),
            id: id.into(),
            license,
            connections: AtomicU32::new(0),
            documents: AtomicU32::new(0),
            operations: AtomicU64::new(0),
            limits: std::array::from_fn(|_| AtomicU32::new(u32::MAX)),
            share: AtomicU32::new(u32::MAX),
            is_share_all: AtomicBool::new(false),
            short: AtomicU32::new(0),
        }
    }

    /// The tenant's id (`tenantid`).
    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// The app's id (`appId`).
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The number of its license region: whose registry has its documents.
    #[must_use]
    pub fn license(&self) -> u8 {
        self.license
    }

    /// The bit of its license region in a set of them.
    pub(crate) fn license_bit(&self) -> u64 {
        1 << (self.license & 63)
    }

    /// Open sockets with at least one admitted session.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Active documents, those in their grace included.
    #[must_use]
    pub fn documents(&self) -> u32 {
        self.documents.load(Ordering::Relaxed)
    }

    /// What it may use, by the token seen last on any thread.
    #[must_use]
    pub fn limits(&self) -> AppLimits {
        let [connections, documents, users, operations] =
            self.limits.each_ref().map(|limit| limit.load(Ordering::Relaxed));
        AppLimits {
            max_connections: connections,
            max_documents: documents,
            max_users_per_document: users,
            operations_per_minute: operations,
        }
    }

    pub(crate) fn note_limits(&self, limits: &AppLimits) {
        let AppLimits { max_connections, max_documents, max_users_per_document, operations_per_minute } =
            *limits;
        let now = [max_connections, max_documents, max_users_per_document, operations_per_minute];
        for (known, limit) in self.limits.iter().zip(now) {
            // A line that many threads read is written to only where it changes.
            if known.load(Ordering::Relaxed) != limit {
                known.store(limit, Ordering::Relaxed);
            }
        }
    }

    /// Operations of `minute` that threads have leased: those done, and those that they may still do without asking.
    #[must_use]
    pub fn operations(&self, minute: u32) -> u32 {
        let word = self.operations.load(Ordering::Relaxed);
        if (word >> 32) as u32 == minute { word as u32 } else { 0 }
    }

    /// The name of one of this app's documents in the whole system.
    #[must_use]
    pub fn document(&self, name: &str) -> DocumentName {
        DocumentName { tenant: Arc::clone(&self.tenant), app: Arc::clone(&self.id), name: name.into() }
    }

    /// Counts one more connection unless that would pass `limit` or what this node may admit of it.
    ///
    /// # Errors
    /// Which of both it was.
    pub fn admit_connection(&self, limit: u32) -> Result<(), Unadmitted> {
        let share = match self.share.load(Ordering::Relaxed) {
            UNTOLD if limit == u32::MAX => limit,
            UNTOLD => (limit / UNTOLD_PART).max(1),
            told => told,
        };
        if increment_below(&self.connections, limit.min(share)) {
            return Ok(());
        }
        if share >= limit || self.is_share_all.load(Ordering::Relaxed) {
            return Err(Unadmitted::Limit);
        }
        self.short.fetch_add(1, Ordering::Relaxed);
        Err(Unadmitted::Share)
    }

    /// What this node may admit from now on, `u32::MAX` for no bound; and whether there is no more to be had, so that who is
    /// refused is refused for the limit.
    pub fn set_share(&self, connections: u32, is_all: bool) {
        self.is_share_all.store(is_all, Ordering::Relaxed);
        self.share.store(connections, Ordering::Relaxed);
    }

    /// Others admit connections of this app, too, and what this node may admit of its limit is to be told. Until then it is a small
    /// part; a share that was told before does not stand any more.
    pub fn await_share(&self) {
        self.set_share(UNTOLD, false);
    }

    /// Connections that this node may admit; `None` if there is no bound, or it was not told yet.
    #[must_use]
    pub fn share(&self) -> Option<u32> {
        Some(self.share.load(Ordering::Relaxed)).filter(|share| *share < UNTOLD)
    }

    /// Whether connections were refused by the share alone since [`Self::wanted`] was last asked.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.short.load(Ordering::Relaxed) > 0
    }

    /// Connections that this node should be able to admit: those it has, those it refused for lack of a share since this was
    /// last asked, and some headroom.
    #[must_use]
    pub fn wanted(&self) -> u32 {
        let connections = self.connections();
        // Who is refused dials again: what is counted may be one client, many times.
        let refused = self.short.swap(0, Ordering::Relaxed).min(connections.max(1024));
        let headroom = (connections / 4).max(HEADROOM_MIN);
        connections.saturating_add(headroom).saturating_add(refused)
    }

    /// Takes back one [`Self::admit_connection`].
    pub fn release_connection(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts one more document unless that would pass `limit`; the refusal carries the count.
    pub fn admit_document(&self, limit: u32) -> Result<(), u32> {
        if increment_below(&self.documents, limit) { Ok(()) } else { Err(self.documents()) }
    }

    /// Takes back one [`Self::admit_document`].
    pub fn release_document(&self) {
        self.documents.fetch_sub(1, Ordering::Relaxed);
    }

    /// Leases some of this minute's operations: how many the caller may do in `minute`, 0 when they are used up.
    pub fn lease_operations(&self, minute: u32, limit: u32) -> u32 {
        let mut granted = 0;
        let lease = |word: u64| {
            let used = if (word >> 32) as u32 == minute { word as u32 } else { 0 };
            let left = limit.saturating_sub(used);
            granted = (left / OPERATIONS_LEFT_PER_LEASE).max(1).min(left);
            Some(u64::from(minute) << 32 | u64::from(used + granted))
        };
        // The closure never returns None, so the update always succeeds.
        let _ = self.operations.fetch_update(Ordering::Relaxed, Ordering::Relaxed, lease);
        granted
    }

    /// Takes back what was leased in `minute` and not done.
    pub fn return_operations(&self, minute: u32, unused: u32) {
        let give_back = |word: u64| {
            let used = (word as u32).saturating_sub(unused);
            ((word >> 32) as u32 == minute).then_some(u64::from(minute) << 32 | u64::from(used))
        };
        // In another minute there is nothing to give back to.
        let _ = self.operations.fetch_update(Ordering::Relaxed, Ordering::Relaxed, give_back);
    }
}

fn increment_below(counter: &AtomicU32, limit: u32) -> bool {
    counter
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < limit).then_some(count + 1))
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_stop_at_the_limit_and_free_up_again() {
        let app = App::new("t", "a");
        assert_eq!(app.admit_connection(1), Ok(()));
        assert_eq!(app.admit_connection(1), Err(Unadmitted::Limit));
        app.release_connection();
        assert_eq!(app.admit_connection(1), Ok(()));
    }

    #[test]
    fn a_share_that_is_used_up_is_told_apart_from_the_limit_and_asked_for() {
        let app = App::new("t", "a");
        app.set_share(1, false);
        assert_eq!(app.admit_connection(5), Ok(()));
        assert!(!app.is_short());
        assert_eq!(app.admit_connection(5), Err(Unadmitted::Share));
        assert_eq!(app.admit_connection(1), Err(Unadmitted::Limit), "the limit would refuse it, too");
        assert!(app.is_short());
        assert_eq!(app.wanted(), 1 + HEADROOM_MIN + 1);
        assert!(!app.is_short(), "it was asked for");
        app.set_share(3, false);
        assert_eq!(app.admit_connection(5), Ok(()));
        app.set_share(2, true);
        assert_eq!(app.admit_connection(5), Err(Unadmitted::Limit), "there is no more to be had");
        assert_eq!(app.wanted(), 2 + HEADROOM_MIN);
    }

    #[test]
    fn a_node_that_was_told_no_share_yet_admits_a_part_of_the_limit() {
        let admitted = |app: &App, limit| (0..200).filter(|_| app.admit_connection(limit).is_ok()).count();
        let app = App::new("t", "a");
        app.await_share();
        assert_eq!((admitted(&app, 160), app.share()), (10, None));
        assert_eq!(app.admit_connection(160), Err(Unadmitted::Share));
        assert!(app.is_short());
        app.set_share(12, true);
        assert_eq!((admitted(&app, 160), app.share()), (2, Some(12)));
        assert_eq!(app.admit_connection(160), Err(Unadmitted::Limit));
        // What was told does not stand for ever, nor that it was all.
        app.await_share();
        assert_eq!(app.admit_connection(160), Err(Unadmitted::Share));
        let few = App::new("t", "few");
        few.await_share();
        assert_eq!(few.admit_connection(0), Err(Unadmitted::Limit));
        assert_eq!(admitted(&few, 2), 1, "the first one is always let in");
        assert_eq!(few.admit_connection(1), Err(Unadmitted::Limit));
        assert_eq!(admitted(&few, u32::MAX), 200, "there is nothing to share");
    }

    #[test]
    fn a_refused_document_names_how_many_are_active() {
        let app = App::new("t", "a");
        assert_eq!(app.admit_document(2), Ok(()));
        assert_eq!(app.admit_document(2), Ok(()));
        assert_eq!(app.admit_document(2), Err(2));
    }

    #[test]
    fn operations_leased_in_a_minute_sum_to_the_limit_and_start_anew_in_the_next() {
        let app = App::new("t", "a");
        let lease_all = |minute| {
            std::iter::from_fn(|| Some(app.lease_operations(minute, 1000)).filter(|n| *n > 0)).sum::<u32>()
        };
        assert_eq!(lease_all(7), 1000);
        assert_eq!(app.lease_operations(7, 1000), 0);
        assert_eq!(lease_all(8), 1000);
    }
}
