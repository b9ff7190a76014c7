//! The regions, by name, with what was seen of them last.

use std::sync::{Mutex, PoisonError};

use super::Sight;
use crate::config::{RegionEntry, RegionStatus};

/// All regions, this node's own first; the others in the order in which they are configured.
#[derive(Debug)]
pub struct Catalogue {
    places: Vec<Place>,
}

/// A region.
#[derive(Debug)]
pub struct Place {
    entry: RegionEntry,
    seen: Mutex<Option<Sight>>,
}

impl Catalogue {
    /// As configured. `url` is the base of this region's own WebSocket URLs, without a trailing slash: it is in here whether it
    /// is configured or not.
    #[must_use]
    pub fn new(own: &str, url: &str, entries: &[RegionEntry]) -> Self {
        let missing =
            RegionEntry { name: own.to_owned(), url: String::new(), status: RegionStatus::Live, area: None };
        let entry = entries.iter().find(|entry| entry.name == own).cloned().unwrap_or(missing);
        let first = RegionEntry { url: url.to_owned(), ..entry };
        let others = entries.iter().filter(|entry| entry.name != own).cloned();
        let place = |entry| Place { entry, seen: Mutex::default() };
        Self { places: std::iter::once(first).chain(others).map(place).collect() }
    }

    /// This node's region.
    #[must_use]
    pub fn own(&self) -> &Place {
        &self.places[0]
    }

    /// All, this node's own first.
    pub fn iter(&self) -> impl Iterator<Item = &Place> + Clone {
        self.places.iter()
    }

    /// All but this node's own.
    pub fn others(&self) -> impl Iterator<Item = &Place> {
        self.places.iter().skip(1)
    }

    /// The region of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Place> {
        self.places.iter().find(|place| place.entry.name == name)
    }
}

impl Place {
    /// As in `eu-central-1`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.entry.name
    }

    /// Base of its WebSocket URLs, without a trailing slash.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.entry.url
    }

    /// Whether it takes clients, as its operators say.
    #[must_use]
    pub fn status(&self) -> RegionStatus {
        self.entry.status
    }

    /// Where it is, for people.
    #[must_use]
    pub fn area(&self) -> Option<&str> {
        self.entry.area.as_deref()
    }

    /// As it was seen last; `None` if nobody has looked yet.
    #[must_use]
    pub fn seen(&self) -> Option<Sight> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes down what was seen.
    pub(crate) fn see(&self, sight: Sight) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(sight);
    }

    /// Whether it takes new documents, as far as is known: nobody sends clients away from a region because it was not looked at
    /// yet.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.entry.status == RegionStatus::Live && self.seen().is_none_or(|seen| seen.condition.is_up())
    }
}
