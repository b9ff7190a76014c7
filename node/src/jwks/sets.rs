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
    /// Keeps what is known of URLs that stay; the others are new, or forgotten. Those whose keys are forgotten are given back.
    pub(super) fn set_urls(&mut self, urls: &[Uri]) -> Vec<Uri> {
        let mut before = std::mem::take(&mut self.0);
        for url in urls {
            let known = before.iter().position(|set| set.url == *url).map(|at| before.swap_remove(at));
            self.0.push(known.unwrap_or_else(|| Set { url: url.clone(), good: None, is_failing: false }));
        }
        before.into_iter().filter(|gone| gone.good.is_some()).map(|gone| gone.url).collect()
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

    /// Takes an answer: what it means, and what is to be told once that is in force.
    pub(super) fn note(
        &mut self,
        url: &Uri,
        answer: Result<Answer, String>,
        now: Instant,
    ) -> (Noted, Vec<News>) {
        let Some(set) = self.0.iter_mut().find(|set| set.url == *url) else {
            return (Noted::Failed, Vec::new());
        };
        let mut news = Vec::new();
        let noted = match answer {
            Err(why) => {
                let age = set.good.as_ref().map(|good| good.age(now));
                let is_new = !std::mem::replace(&mut set.is_failing, true);
                return (Noted::Failed, vec![News::Fails { why, age, is_new }]);
            }
            Ok(Answer::Unchanged { .. }) => {
                if let Some(good) = &mut set.good {
                    (good.checked, good.age_then) = (now, Duration::ZERO);
                }
                Noted::Unchanged
            }
            Ok(Answer::Set(fetched)) => {
                if set.good.as_ref().is_none_or(|good| good.text != fetched.text) {
                    news.extend(
                        fetched.jwks.skipped.iter().map(|skipped| News::Skipped(skipped.to_string())),
                    );
                }
                let good = Good::new(fetched, now);
                let before = set.good.as_ref().map_or(&[][..], |good| &good.keys);
                let change = News::of_change(before, &good.keys);
                let noted = if change.is_some() { Noted::Changed } else { Noted::Unchanged };
                news.extend(change);
                set.good = Some(good);
                noted
            }
        };
        if std::mem::take(&mut set.is_failing) {
            news.push(News::WorksAgain);
        }
        (noted, news)
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

/// What is to be told of a URL.
#[derive(Debug)]
pub(super) enum News {
    Changed {
        came: String,
        went: String,
    },
    /// A key of a new set is not used.
    Skipped(String),
    /// It gave nothing, and what is known from there is so old.
    Fails {
        why: String,
        age: Option<Duration>,
        is_new: bool,
    },
    WorksAgain,
}

impl News {
    fn of_change(before: &[Key], now: &[Key]) -> Option<Self> {
        let (old, new) = (fingerprints(before), fingerprints(now));
        let lacking = |keys: &[Key], other: &BTreeSet<Fingerprint>| -> Vec<Key> {
            keys.iter().filter(|key| !other.contains(&key.fingerprint())).cloned().collect()
        };
        let (came, went) = (names(&lacking(now, &old)), names(&lacking(before, &new)));
        (old != new).then_some(Self::Changed { came, went })
    }

    /// Logs it: of failures in a row the first.
    pub(super) fn tell(self, url: &Uri) {
        let url = shown(url);
        match self {
            Self::Changed { came, went } => tracing::info!(url, came, went, "keys changed"),
            Self::Skipped(what) => tracing::warn!(url, "{what}"),
            Self::Fails { why, is_new: false, .. } => {
                tracing::debug!(url, why, "keys cannot be fetched still");
            }
            Self::Fails { why, age: Some(age), .. } => {
                let age_s = age.as_secs();
                tracing::warn!(url, why, age_s, "keys cannot be fetched; those fetched last are used on");
            }
            Self::Fails { why, age: None, .. } => {
                tracing::warn!(url, why, "keys cannot be fetched, and none are known from there");
            }
            Self::WorksAgain => tracing::info!(url, "keys can be fetched again"),
        }
    }
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
