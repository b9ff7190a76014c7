//! What each URL answered last, what changed, and all of it together with the keys of the configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use axum::http::Uri;
use pinwire_token::{Fingerprint, Jwks, Key, KeySet};

use super::cache::{self, Entry};
use super::client::{Answer, Fetched};
use super::shown;

/// Names of keys in one line of a log.
const SHOWN_MAX: usize = 16;

/// The sets of all URLs.
#[derive(Debug, Default)]
pub(super) struct Sets(Vec<Set>);

#[derive(Debug)]
struct Set {
    url: Uri,
    good: Option<Good>,
    /// Its last request came to nothing.
    is_failing: bool,
}

/// A set as it was fetched, and confirmed since.
#[derive(Clone, Debug)]
pub(super) struct Good {
    keys: Vec<Key>,
    text: String,
    etag: Option<String>,
    /// When that was on this host's monotonic clock, and how long ago it was already: for a set from the cache.
    checked: Instant,
    age_then: Duration,
}

/// What an answer meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noted {
    Changed,
    Unchanged,
    Failed,
}

impl Good {
    fn new(fetched: Fetched, now: Instant) -> Self {
        let Fetched { jwks, text, etag, .. } = fetched;
        Self { keys: jwks.keys, text, etag, checked: now, age_then: Duration::ZERO }
    }

    fn age(&self, now: Instant) -> Duration {
        self.age_then + now.saturating_duration_since(self.checked)
    }
}

impl Sets {
    /// Keeps what is known of URLs that stay; the others are new, or forgotten.
    pub(super) fn set_urls(&mut self, urls: &[Uri]) {
        let mut before = std::mem::take(&mut self.0);
        for url in urls {
            let known = before.iter().position(|set| set.url == *url).map(|at| before.swap_remove(at));
            self.0.push(known.unwrap_or_else(|| Set { url: url.clone(), good: None, is_failing: false }));
        }
        for gone in before.iter().filter(|gone| gone.good.is_some()) {
            tracing::info!(url = shown(&gone.url), "keys of this URL are used no more");
        }
    }

    /// Takes sets from the cache for URLs of which nothing better is known.
    pub(super) fn take_cached(&mut self, cached: Vec<(Uri, Good)>) {
        for (url, good) in cached {
            if let Some(set) = self.0.iter_mut().find(|set| set.url == url && set.good.is_none()) {
                tracing::info!(
                    url = shown(&url),
                    keys = names(&good.keys),
                    age_s = good.age_then.as_secs(),
                    "keys from the cache"
                );
                set.good = Some(good);
            }
        }
    }

    pub(super) fn requests(&self) -> Vec<(Uri, Option<String>)> {
        let etag = |set: &Set| set.good.as_ref().and_then(|good| good.etag.clone());
        self.0.iter().map(|set| (set.url.clone(), etag(set))).collect()
    }

    /// Takes an answer. What changed is logged: keys that came and went, the first failure of a row, and its end.
    pub(super) fn note(&mut self, url: &Uri, answer: Result<Answer, String>, now: Instant) -> Noted {
        let Some(set) = self.0.iter_mut().find(|set| set.url == *url) else { return Noted::Failed };
        let url = shown(url);
        let noted = match answer {
            Err(why) => {
                match (set.is_failing, &set.good) {
                    (true, _) => tracing::debug!(url, why, "keys cannot be fetched still"),
                    (false, Some(good)) => {
                        let age_s = good.age(now).as_secs();
                        tracing::warn!(
                            url,
                            why,
                            age_s,
                            "keys cannot be fetched; those fetched last are used on"
                        );
                    }
                    (false, None) => {
                        tracing::warn!(url, why, "keys cannot be fetched, and none are known from there")
                    }
                }
                set.is_failing = true;
                return Noted::Failed;
            }
            Ok(Answer::Unchanged { .. }) => {
                if let Some(good) = &mut set.good {
                    (good.checked, good.age_then) = (now, Duration::ZERO);
                }
                Noted::Unchanged
            }
            Ok(Answer::Set(fetched)) => {
                let is_new = set.good.as_ref().is_none_or(|good| good.text != fetched.text);
                if is_new {
                    for skipped in &fetched.jwks.skipped {
                        tracing::warn!(url, "{skipped}");
                    }
                }
                let good = Good::new(fetched, now);
                let before = set.good.as_ref().map_or(&[][..], |good| &good.keys);
                let has_changed = tell_changes(&url, before, &good.keys);
                set.good = Some(good);
                if has_changed { Noted::Changed } else { Noted::Unchanged }
            }
        };
        if std::mem::take(&mut set.is_failing) {
            tracing::info!(url, "keys can be fetched again");
        }
        noted
    }

    pub(super) fn keys(&self) -> Vec<Key> {
        self.0.iter().filter_map(|set| set.good.as_ref()).flat_map(|good| good.keys.iter().cloned()).collect()
    }

    pub(super) fn is_failing(&self) -> bool {
        self.0.iter().any(|set| set.is_failing)
    }

    /// Whether of some URL nothing is known.
    pub(super) fn is_lacking(&self) -> bool {
        self.0.iter().any(|set| set.good.is_none())
    }

    /// Of the set that was confirmed longest ago; `None` if one never was.
    pub(super) fn age(&self, now: Instant) -> Option<Duration> {
        self.0
            .iter()
            .map(|set| set.good.as_ref().map(|good| good.age(now)))
            .try_fold(Duration::ZERO, |most, age| Some(most.max(age?)))
    }

    pub(super) fn to_cache(&self, now: Instant, now_unix: u64) -> Vec<Entry> {
        let entry = |set: &Set| {
            let good = set.good.as_ref()?;
            Some(Entry {
                url: set.url.to_string(),
                etag: good.etag.clone(),
                checked_at: now_unix.saturating_sub(good.age(now).as_secs()),
                jwks: good.text.clone(),
            })
        };
        self.0.iter().filter_map(entry).collect()
    }
}

fn fingerprints(keys: &[Key]) -> BTreeSet<Fingerprint> {
    keys.iter().map(Key::fingerprint).collect()
}

/// Logs which keys came and which went; whether any did.
fn tell_changes(url: &str, before: &[Key], now: &[Key]) -> bool {
    let (old, new) = (fingerprints(before), fingerprints(now));
    if old == new {
        return false;
    }
    let came: Vec<Key> = now.iter().filter(|key| !old.contains(&key.fingerprint())).cloned().collect();
    let went: Vec<Key> = before.iter().filter(|key| !new.contains(&key.fingerprint())).cloned().collect();
    tracing::info!(url, came = names(&came), went = names(&went), "keys changed");
    true
}

/// A key for people.
pub(crate) fn describe(key: &Key) -> String {
    match key.id() {
        Some(id) => format!("{} kid {id:?}", key.algorithm().name()),
        None => format!("{} without kid", key.algorithm().name()),
    }
}

fn names(keys: &[Key]) -> String {
    if keys.is_empty() {
        return "none".to_owned();
    }
    let shown: Vec<String> = keys.iter().take(SHOWN_MAX).map(describe).collect();
    let more = keys.len().saturating_sub(SHOWN_MAX);
    if more > 0 { format!("{} and {more} more", shown.join(", ")) } else { shown.join(", ") }
}

/// The keys of the configuration and the fetched ones, each once; and the names that stand for more than one key.
pub(crate) fn merge(configured: &KeySet, fetched: &[Key]) -> (KeySet, BTreeSet<String>) {
    let (mut keys, mut known, mut names) = (KeySet::new(), BTreeSet::new(), BTreeMap::<_, u32>::new());
    for key in configured.iter().chain(fetched) {
        if known.insert(key.fingerprint()) {
            if let Some(id) = key.id() {
                *names.entry(id.to_owned()).or_default() += 1;
            }
            keys.add(key.clone());
        }
    }
    (keys, names.into_iter().filter(|(_, count)| *count > 1).map(|(name, _)| name).collect())
}

/// What the cache has for these URLs, and what is wrong with it.
pub(crate) fn read_cache(
    file: &Path,
    urls: &[Uri],
    now: Instant,
    now_unix: u64,
) -> (Vec<(Uri, Good)>, Vec<String>) {
    let entries = match cache::read(file) {
        Ok(entries) => entries,
        Err(what) => return (Vec::new(), vec![format!("{} {what}", file.display())]),
    };
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    for entry in entries {
        let Some(url) = urls.iter().find(|url| url.to_string() == entry.url) else { continue };
        match Jwks::parse_public(entry.jwks.as_bytes()) {
            Ok(jwks) => {
                let age_then = Duration::from_secs(now_unix.saturating_sub(entry.checked_at));
                let Entry { etag, jwks: text, .. } = entry;
                found.push((url.clone(), Good { keys: jwks.keys, text, etag, checked: now, age_then }));
            }
            Err(error) => problems.push(format!("{}: {}: {error}", file.display(), shown(url))),
        }
    }
    (found, problems)
}

/// The cached keys of a URL, with how long ago they were good; for tools.
pub(crate) fn load_cache(file: &Path, url: &Uri, now_unix: u64) -> Option<(Vec<Key>, Duration)> {
    let (found, _) = read_cache(file, std::slice::from_ref(url), Instant::now(), now_unix);
    found.into_iter().next().map(|(_, good)| (good.keys, good.age_then))
}
