//! What metrics tell of keys by URL.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::sets::Noted;

/// Requests by how they ended, and how old what they brought is.
#[derive(Debug, Default)]
pub(crate) struct Numbers(Mutex<Inner>);

#[derive(Clone, Copy, Debug, Default)]
struct Inner {
    changed: u64,
    unchanged: u64,
    failed: u64,
    urls: usize,
    /// When the age was this; `None` while a URL never answered.
    age: Option<(Instant, Duration)>,
}

/// A copy for an exposition.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Snapshot {
    /// Changed, unchanged, failed.
    pub(crate) fetches: [u64; 3],
    pub(crate) urls: usize,
    /// Of the set that was confirmed longest ago, infinite if one never was.
    pub(crate) age_seconds: f64,
}

impl Numbers {
    pub(super) fn count(&self, noted: Noted) {
        self.change(|inner| match noted {
            Noted::Changed => inner.changed += 1,
            Noted::Unchanged => inner.unchanged += 1,
            Noted::Failed => inner.failed += 1,
        });
    }

    pub(super) fn set(&self, urls: usize, age: Option<Duration>, now: Instant) {
        self.change(|inner| (inner.urls, inner.age) = (urls, age.map(|age| (now, age))));
    }

    pub(crate) fn snapshot(&self, now: Instant) -> Snapshot {
        let inner = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let age = inner.age.map(|(then, age)| age + now.saturating_duration_since(then));
        Snapshot {
            fetches: [inner.changed, inner.unchanged, inner.failed],
            urls: inner.urls,
            age_seconds: match inner.urls {
                0 => 0.0,
                _ => age.map_or(f64::INFINITY, |age| age.as_secs_f64()),
            },
        }
    }

    fn change(&self, change: impl FnOnce(&mut Inner)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
