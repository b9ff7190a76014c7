//! Where a document is active.

use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{BoxFuture, OutOfReach};

/// The registry of pins, as discovery sees it.
pub trait Pins: fmt::Debug + Send + Sync {
    /// The region that holds the document, or the best one for this client where none does. Claims nothing.
    fn locate<'a>(&'a self, wanted: Wanted<'a>) -> BoxFuture<'a, Result<Located, OutOfReach>>;
}

/// A document somebody looks for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The tenant's id.
    pub tenant: &'a str,
    /// The app's id.
    pub app: &'a str,
    /// The document's name.
    pub document: &'a str,
    /// The license region whose registry knows.
    pub db_code: Option<&'a str>,
    /// The region closest to the client, by its token.
    pub prefer_region: Option<&'a str>,
}

/// Where to open a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The region.
    pub region: String,
    /// Base of its WebSocket URLs, without a trailing slash.
    pub ws_url: String,
    /// Nobody holds the document.
    pub is_new: bool,
}

/// Documents that are active on this node, by their full names (`{tenant}::{app}::{document}`). Data threads enter a
/// document when it opens and remove it when its grace is over; each document has one thread.
///
/// Holds 128-bit keyed hashes, not names: about 20 bytes a document.
#[derive(Debug)]
pub struct ActiveDocuments {
    shards: Vec<Mutex<HashSet<u128>>>,
    hashers: [RandomState; 2],
}

/// Few enough to be cheap, many enough that two threads seldom meet.
const SHARDS: usize = 16;

impl ActiveDocuments {
    /// No active documents.
    pub fn new() -> Self {
        Self {
            shards: std::iter::repeat_with(Mutex::default).take(SHARDS).collect(),
            hashers: [RandomState::new(), RandomState::new()],
        }
    }

    /// Enters a document.
    pub fn insert(&self, full_name: &str) {
        let hash = self.hash(full_name);
        self.shard(hash).insert(hash);
    }

    /// Removes a document.
    pub fn remove(&self, full_name: &str) {
        let hash = self.hash(full_name);
        let mut shard = self.shard(hash);
        shard.remove(&hash);
        if shard.capacity() > 4 * shard.len() + 64 {
            let keep = 2 * shard.len();
            shard.shrink_to(keep);
        }
    }

    /// Whether it is active.
    pub fn contains(&self, full_name: &str) -> bool {
        let hash = self.hash(full_name);
        self.shard(hash).contains(&hash)
    }

    /// How many are active.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn hash(&self, full_name: &str) -> u128 {
        let [high, low] = &self.hashers;
        u128::from(high.hash_one(full_name)) << 64 | u128::from(low.hash_one(full_name))
    }

    fn shard(&self, hash: u128) -> MutexGuard<'_, HashSet<u128>> {
        lock(&self.shards[(hash >> 64) as usize % SHARDS])
    }
}

impl Default for ActiveDocuments {
    fn default() -> Self {
        Self::new()
    }
}

/// A set is whole whatever a thread was doing when it panicked.
fn lock(shard: &Mutex<HashSet<u128>>) -> MutexGuard<'_, HashSet<u128>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The registry of a node that is alone: what it does not hold, nobody holds.
#[derive(Debug)]
pub struct LocalPins {
    region: String,
    ws_url: String,
    active: Arc<ActiveDocuments>,
}

impl LocalPins {
    /// `ws_url` is the region's base URL without a trailing slash.
    pub fn new(region: impl Into<String>, ws_url: impl Into<String>, active: Arc<ActiveDocuments>) -> Self {
        Self { region: region.into(), ws_url: ws_url.into(), active }
    }
}

impl Pins for LocalPins {
    fn locate<'a>(&'a self, wanted: Wanted<'a>) -> BoxFuture<'a, Result<Located, OutOfReach>> {
        let Wanted { tenant, app, document, .. } = wanted;
        let is_new = !self.active.contains(&format!("{tenant}::{app}::{document}"));
        let located = Located { region: self.region.clone(), ws_url: self.ws_url.clone(), is_new };
        Box::pin(std::future::ready(Ok(located)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_active_between_insert_and_remove() {
        let active = ActiveDocuments::new();
        let names: Vec<String> = (0..1000).map(|n| format!("t::a::doc-{n}")).collect();
        names.iter().for_each(|name| active.insert(name));
        active.insert(&names[0]);
        assert_eq!(active.len(), 1000);
        assert!(active.contains("t::a::doc-7") && !active.contains("t::b::doc-7"));
        names.iter().for_each(|name| active.remove(name));
        active.remove("t::a::never-there");
        assert!(active.is_empty());
        let capacity: usize = active.shards.iter().map(|shard| lock(shard).capacity()).sum();
        assert!(capacity <= SHARDS * 64, "{capacity} places for nothing");
    }
}
