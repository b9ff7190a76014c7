//! The records of apps, as far as this node has asked for them.
//!
//! A record is asked for when a token names its app for the first time, and that token waits for it. From then on it is at hand:
//! renewals of the node's lease tell of changes, and one that nobody told of for a while is asked for again, without anybody
//! waiting. While the registry is away what is known holds.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use pinwire_registry::{AppName, AppRecord};
use tokio::sync::{Notify, mpsc};

use super::Record;
use crate::data::{Envelope, Mailbox};

/// Apps of which something is known; beyond it all is forgotten, and asked for anew as it is needed.
const APPS_MAX: usize = 65_536;
/// After so long a record is asked for again.
const FRESH: Duration = Duration::from_secs(30);
/// After so long it is asked again what could not be answered.
const RETRY: Duration = Duration::from_secs(1);
/// How long somebody waits for a record: clients are given up after 10 s without a verdict.
pub(crate) const PATIENCE: Duration = Duration::from_secs(4);
/// A question that is older got lost.
const LOST: Duration = Duration::from_secs(10);

/// A question for the thread that asks registries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    /// The number of the license region.
    pub(crate) license: u8,
    pub(crate) app: AppName,
}

/// What is known of an app's record.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// It says this, or there is none.
    Known(Option<Arc<Record>>),
    /// It has been asked for, and will be known or not in a moment.
    Asked,
    /// It cannot be had now.
    Away,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Records {
    cells: Mutex<HashMap<AppName, Cell>>,
    /// Where questions go; without one there are no records.
    asks: Option<mpsc::Sender<Question>>,
    /// Rises whenever a question was settled.
    settled: AtomicU64,
    has_settled: Notify,
    /// Rises whenever a record says something else.
    changed: AtomicU64,
    mailboxes: OnceLock<Arc<[Mailbox]>>,
}

#[derive(Debug, Default)]
struct Cell {
    known: Option<Known>,
    /// When the question was asked that is under way.
    asked: Option<Instant>,
    /// When it was answered last, or could not be.
    settled: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Known {
    version: u64,
    text: Option<Arc<str>>,
    record: Option<Arc<Record>>,
}

impl Records {
    /// Records that are asked for there.
    pub(crate) fn new(asks: mpsc::Sender<Question>) -> Self {
        Self { asks: Some(asks), ..Self::default() }
    }

    /// From now on there are these data threads: they are woken when a question was settled. Called once.
    pub(crate) fn started(&self, mailboxes: &Arc<[Mailbox]>) {
        let _ = self.mailboxes.set(Arc::clone(mailboxes));
    }

    /// What is known; asks where nothing is, or nothing new.
    pub(crate) fn find(&self, license: u8, app: &AppName, now: Instant) -> Found {
        let Some(asks) = &self.asks else { return Found::Known(None) };
        let mut cells = self.lock();
        if cells.len() >= APPS_MAX && !cells.contains_key(app) {
            cells.clear();
        }
        let cell = cells.entry(app.clone()).or_default();
        let is_due = match (cell.settled, &cell.known) {
            (None, _) => true,
            (Some(settled), None) => now.saturating_duration_since(settled) >= RETRY,
            (Some(settled), Some(_)) => now.saturating_duration_since(settled) >= FRESH,
        };
        let is_asked = cell.asked.is_some_and(|asked| now.saturating_duration_since(asked) < LOST);
        let question = || Question { license, app: app.clone() };
        if is_due && !is_asked && asks.try_send(question()).is_ok() {
            cell.asked = Some(now);
        }
        match &cell.known {
            Some(known) => Found::Known(known.record.clone()),
            None if is_due && cell.asked.is_some() => Found::Asked,
            None => Found::Away,
        }
    }

    /// [`Self::find`], once it is more than [`Found::Asked`].
    pub(crate) async fn known(&self, license: u8, app: &AppName) -> Found {
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let settled = self.has_settled.notified();
            let found = self.find(license, app, Instant::now());
            if !matches!(found, Found::Asked) {
                return found;
            }
            if tokio::time::timeout_at(until, settled).await.is_err() {
                return Found::Away;
            }
        }
    }

    /// What the registry says; what is older than what is known already says nothing.
    pub(crate) fn learn(&self, app: &AppName, said: &AppRecord, now: Instant) {
        let mut cells = self.lock();
        let cell = cells.entry(app.clone()).or_default();
        (cell.asked, cell.settled) = (None, Some(now));
        let is_news = match &cell.known {
            // Without a record there may be no version to go by.
            Some(known) => {
                (said.version >= known.version || said.record.is_none()) && known.text != said.record
            }
            None => true,
        };
        if is_news {
            let before = cell.known.as_ref().and_then(|known| known.record.clone());
            let had_none = cell.known.as_ref().is_none_or(|known| known.text.is_none());
            let record = understood(app, said, before);
            cell.known = Some(Known { version: said.version, text: said.record.clone(), record });
            if !(had_none && said.record.is_none()) {
                self.changed.fetch_add(1, Ordering::Release);
            }
        } else if let Some(known) = &mut cell.known {
            known.version = known.version.max(said.version);
        }
        drop(cells);
        self.settle();
    }

    /// The registry did not answer.
    pub(crate) fn failed(&self, app: &AppName, now: Instant) {
        if let Some(cell) = self.lock().get_mut(app) {
            (cell.asked, cell.settled) = (None, Some(now));
        }
        self.settle();
    }

    /// Versions that are known of these apps, for the next renewal.
    pub(crate) fn versions<'a>(&self, apps: impl IntoIterator<Item = &'a AppName>) -> Vec<(AppName, u64)> {
        let cells = self.lock();
        let version =
            |app: &AppName| cells.get(app)?.known.as_ref().map(|known| (app.clone(), known.version));
        apps.into_iter().filter_map(version).collect()
    }

    /// A number that rises whenever a question was settled: those who wait look again.
    pub(crate) fn settled(&self) -> u64 {
        self.settled.load(Ordering::Acquire)
    }

    /// A number that rises whenever a record says something else: what was judged by its keys is judged again.
    pub(crate) fn changes(&self) -> u64 {
        self.changed.load(Ordering::Acquire)
    }

    fn settle(&self) {
        self.settled.fetch_add(1, Ordering::Release);
        self.has_settled.notify_waiters();
        for mailbox in self.mailboxes.get().into_iter().flat_map(|mailboxes| mailboxes.iter()) {
            // One whose mailbox is full is awake.
            let _ = mailbox.push(Envelope::Keys);
        }
    }

    /// A map is whole whatever a thread was doing when it panicked.
    fn lock(&self) -> MutexGuard<'_, HashMap<AppName, Cell>> {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that cannot be understood was not written through the admin API: what was known before it holds.
fn understood(app: &AppName, said: &AppRecord, before: Option<Arc<Record>>) -> Option<Arc<Record>> {
    let text = said.record.as_deref()?;
    let tenant = app.0.split("::").next().unwrap_or_default();
    match Record::parse(tenant, text) {
        Ok(record) => Some(Arc::new(record)),
        Err(error) => {
            tracing::error!(%app, version = said.version, %error, "an app's record is not understood; the one before it holds");
            before
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app() -> AppName {
        AppName("t::a".into())
    }

    fn said(version: u64, record: Option<&str>) -> AppRecord {
        AppRecord { version, record: record.map(Into::into) }
    }

    fn connections(found: &Found) -> Option<u32> {
        match found {
            Found::Known(Some(record)) => record.limits.max_connections,
            _ => None,
        }
    }

    const SEVEN: &str = r#"{"limits":{"maxConnections":7}}"#;
    const EIGHT: &str = r#"{"limits":{"maxConnections":8}}"#;

    #[test]
    fn a_record_is_asked_for_once_and_again_after_a_while() {
        let (sender, mut asked) = mpsc::channel(8);
        let (records, start) = (Records::new(sender), Instant::now());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        for _ in 0..3 {
            assert!(matches!(records.find(2, &app(), start), Found::Asked));
        }
        assert_eq!(asked.try_recv().unwrap(), Question { license: 2, app: app() });
        assert!(asked.try_recv().is_err(), "once");
        let before = records.settled();
        records.learn(&app(), &said(1, Some(SEVEN)), at(1));
        assert!(records.settled() > before);
        assert_eq!(connections(&records.find(2, &app(), at(2))), Some(7));
        assert!(asked.try_recv().is_err());
        assert_eq!(connections(&records.find(2, &app(), at(40))), Some(7), "nobody waits");
        assert!(asked.try_recv().is_ok());
        records.failed(&app(), at(41));
        assert_eq!(connections(&records.find(2, &app(), at(42))), Some(7), "the registry is away");
        assert_eq!(records.versions([&app(), &AppName("t::b".into())]), [(app(), 1)]);
    }

    #[test]
    fn what_cannot_be_had_is_asked_for_again_a_moment_later() {
        let (sender, mut asked) = mpsc::channel(1);
        let (records, start) = (Records::new(sender), Instant::now());
        assert!(matches!(records.find(0, &app(), start), Found::Asked));
        let other = AppName("t::b".into());
        assert!(matches!(records.find(0, &other, start), Found::Away), "the queue is full");
        records.failed(&app(), start);
        assert!(matches!(records.find(0, &app(), start), Found::Away));
        asked.try_recv().unwrap();
        assert!(matches!(records.find(0, &app(), start + RETRY), Found::Asked));
        asked.try_recv().unwrap();
        assert!(matches!(records.find(0, &app(), start + RETRY + LOST), Found::Asked));
        assert!(asked.try_recv().is_ok(), "the question got lost");
    }

    #[test]
    fn newer_versions_count_and_what_is_not_understood_changes_nothing() {
        let (sender, _asked) = mpsc::channel(8);
        let (records, now) = (Records::new(sender), Instant::now());
        let learnt = |version, record| {
            records.learn(&app(), &said(version, record), now);
            connections(&records.find(0, &app(), now))
        };
        assert_eq!(learnt(0, None), None);
        assert_eq!(records.changes(), 0, "there is none, as before");
        assert_eq!(learnt(2, Some(SEVEN)), Some(7));
        assert_eq!(learnt(1, Some(EIGHT)), Some(7), "a late answer");
        assert_eq!(learnt(3, Some("{")), Some(7));
        assert_eq!(learnt(4, Some(EIGHT)), Some(8));
        assert_eq!(learnt(5, None), None, "removed");
        assert_eq!(records.changes(), 4);
    }

    #[test]
    fn without_a_registry_there_are_no_records() {
        assert!(matches!(Records::default().find(0, &app(), Instant::now()), Found::Known(None)));
    }
}
