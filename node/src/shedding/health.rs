//! What goes into a node's standing from other threads, and the standing as they read it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pinwire_shed::State;
use tokio::sync::{Notify, watch};

use super::Standing;

/// Something that a node needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Cause {
    /// The session store cannot be written.
    Journal = 1,
    /// It can, and cannot be tidied up.
    Table = 2,
    /// Keys cannot be fetched; there are some.
    Fetching = 4,
    /// There is no key to check tokens with.
    NoKeys = 8,
    /// A registry is out of reach: documents that nobody here has open cannot be opened.
    Registry = 16,
    /// The region's sessions are out of reach: nothing is acknowledged.
    Sessions = 32,
    /// The node's lease ran out: nothing is claimed, acknowledged or stored.
    Lease = 64,
}

impl Cause {
    /// The worst first.
    const ALL: [Self; 7] = [
        Self::NoKeys,
        Self::Lease,
        Self::Journal,
        Self::Sessions,
        Self::Registry,
        Self::Fetching,
        Self::Table,
    ];

    /// Why the node is as it is, for operators.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Journal => "the session store cannot be written",
            Self::Table => "the session store cannot be tidied up",
            Self::Fetching => "keys cannot be fetched",
            Self::NoKeys => "there is no key to check tokens with",
            Self::Registry => "a registry is out of reach",
            Self::Sessions => "the region's sessions are out of reach",
            Self::Lease => "the node's lease ran out",
        }
    }
}

/// What threads tell the one that judges the node, and what it came to. Any thread may set and read it.
#[derive(Debug)]
pub struct Health {
    /// A bit for each [`Cause`] that is away.
    away: AtomicU8,
    is_draining: AtomicBool,
    /// See [`Self::keep_in_name`].
    is_kept_in_name: AtomicBool,
    /// See [`Self::leave_alone_in_name`].
    is_alone_in_name: AtomicBool,
    /// What the region's name is to resolve to, on this node's account.
    addresses: Mutex<Vec<IpAddr>>,
    /// Something of the above changed.
    changed: Notify,
    standing: watch::Sender<Arc<Standing>>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            away: AtomicU8::new(0),
            is_draining: AtomicBool::new(false),
            is_kept_in_name: AtomicBool::new(false),
            is_alone_in_name: AtomicBool::new(false),
            addresses: Mutex::default(),
            changed: Notify::new(),
            standing: watch::Sender::new(Arc::default()),
        }
    }
}

impl Health {
    /// The state now: what makes it worse counts at once, whenever the next look is.
    pub fn status(&self) -> State {
        let told = match self.away().next() {
            _ if self.is_draining() => State::Draining,
            Some(Cause::NoKeys) => State::Overloaded,
            Some(_) => State::Degraded,
            None => State::Healthy,
        };
        self.standing.borrow().state().max(told)
    }

    /// How the node stands, as of the last look.
    pub fn standing(&self) -> Arc<Standing> {
        Arc::clone(&self.standing.borrow())
    }

    /// The same, for who waits for changes. It changes with each look.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Standing>> {
        self.standing.subscribe()
    }

    /// After a look.
    pub(crate) fn publish(&self, standing: Standing) {
        self.standing.send_replace(Arc::new(standing));
    }

    /// The node is to end: it leaves DNS, and is not ready any more. True if that is news.
    pub fn drain(&self) -> bool {
        let is_news = !self.is_draining.swap(true, Ordering::Relaxed);
        self.changed.notify_one();
        is_news
    }

    /// It is not to end after all.
    pub fn cancel_drain(&self) {
        self.is_draining.store(false, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// Whether it is to end.
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// It would leave the region's name, and stays in it since too few others are there: clients come, whatever the pool says.
    pub(crate) fn keep_in_name(&self, is_kept: bool) {
        if self.is_kept_in_name.swap(is_kept, Ordering::Relaxed) != is_kept {
            self.changed.notify_one();
        }
    }

    /// The region's name leads to no other node that takes clients: who is refused here finds nobody else by it.
    pub(crate) fn leave_alone_in_name(&self, is_alone: bool) {
        if self.is_alone_in_name.swap(is_alone, Ordering::Relaxed) != is_alone {
            self.changed.notify_one();
        }
    }

    pub(crate) fn is_alone_in_name(&self) -> bool {
        self.is_alone_in_name.load(Ordering::Relaxed)
    }

    pub(crate) fn is_kept_in_name(&self) -> bool {
        self.is_kept_in_name.load(Ordering::Relaxed)
    }

    /// The region's name is to resolve to these as long as the node serves.
    pub fn set_addresses(&self, addresses: Vec<IpAddr>) {
        *self.addresses.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
        self.changed.notify_one();
    }

    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Something that the node needs is away; true if that is news. Healthy nodes are not until it is back.
    pub fn suffer(&self, cause: Cause) -> bool {
        self.told(self.away.fetch_or(cause as u8, Ordering::Relaxed) & cause as u8 == 0)
    }

    /// It is back; true if that is news.
    pub fn clear(&self, cause: Cause) -> bool {
        self.told(self.away.fetch_and(!(cause as u8), Ordering::Relaxed) & cause as u8 != 0)
    }

    /// [`Self::suffer`] or [`Self::clear`].
    pub fn note(&self, cause: Cause, is_away: bool) -> bool {
        if is_away { self.suffer(cause) } else { self.clear(cause) }
    }

    fn told(&self, is_news: bool) -> bool {
        if is_news {
            self.changed.notify_one();
        }
        is_news
    }

    /// What is away, the worst first.
    pub(crate) fn away(&self) -> impl Iterator<Item = Cause> {
        let away = self.away.load(Ordering::Relaxed);
        Cause::ALL.into_iter().filter(move |cause| away & *cause as u8 != 0)
    }

    /// Once something was told since the last call.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_away_is_news_once_and_told_the_worst_first() {
        let health = Health::default();
        assert!(health.suffer(Cause::Table) && health.suffer(Cause::NoKeys) && !health.suffer(Cause::Table));
        assert_eq!(health.away().collect::<Vec<_>>(), [Cause::NoKeys, Cause::Table]);
        assert_eq!(health.status(), State::Overloaded);
        assert!(health.clear(Cause::Table) && !health.clear(Cause::Table));
        assert_eq!(health.away().count(), 1);
        let bits: u8 = Cause::ALL.into_iter().map(|cause| cause as u8).sum();
        assert_eq!(bits.count_ones(), 7, "each has a bit of its own");
    }

    #[test]
    fn a_drain_shows_at_once() {
        let health = Health::default();
        assert_eq!(health.status(), State::Healthy);
        assert!(health.drain() && !health.drain());
        assert_eq!(health.status(), State::Draining);
        health.cancel_drain();
        assert_eq!(health.status(), State::Healthy);
    }
}
