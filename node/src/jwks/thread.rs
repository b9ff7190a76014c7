//! The thread that fetches keys: rounds of requests when the schedule says so, and what they change.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::cache;
use super::client::{Answer, Client, Fetched};
use super::numbers::Numbers;
use super::refetch::Refetch;
use super::schedule::{Ended, Schedule};
use super::sets::{Noted, Sets, read_cache};
use super::{JwksSources, shown};
use crate::live::Live;
use crate::shedding::{Cause, Health};

/// The cache is written again after so long even if nothing changed, for the time that stands in it.
const CACHE_AFTER: Duration = Duration::from_secs(300);

type Wish = Option<Arc<JwksSources>>;

/// The running thread. Dropping it ends the thread without waiting for requests.
#[derive(Debug)]
pub(crate) struct Fetching {
    wish: watch::Sender<Wish>,
    thread: Option<JoinHandle<()>>,
    first: Receiver<()>,
}

/// What the thread works on.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) live: Arc<Live>,
    pub(crate) health: Arc<Health>,
    pub(crate) numbers: Arc<Numbers>,
}

/// Starts the thread. What the cache has is in force when this returns.
///
/// # Errors
/// The system gives no thread or no poller.
pub(crate) fn start(sources: &JwksSources, shared: Shared) -> io::Result<Fetching> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let (wish, wishes) = watch::channel(Some(Arc::new(sources.clone())));
    let (sender, first) = sync_channel(1);
    let mut work = Work::new(shared, sender);
    work.take_over(sources, Instant::now());
    let thread = std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
        runtime.block_on(work.run(wishes));
        // A name that is being looked up would be waited for.
        runtime.shutdown_background();
    })?;
    Ok(Fetching { wish, thread: Some(thread), first })
}

impl Fetching {
    /// Waits for the end of the first round, if nothing is known without it, and no longer than a round can take.
    pub(crate) fn wait_for_keys(&self, sources: &JwksSources) {
        if !sources.urls.is_empty() {
            let _ = self.first.recv_timeout(sources.deadline + Duration::from_secs(1));
        }
    }

    /// Other sources, or the same: they are asked again.
    pub(crate) fn update(&self, sources: &JwksSources) {
        self.wish.send_replace(Some(Arc::new(sources.clone())));
    }
}

impl Drop for Fetching {
    fn drop(&mut self) {
        self.wish.send_replace(None);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that fetches keys panicked");
        }
    }
}

struct Work {
    shared: Shared,
    sources: JwksSources,
    /// Or why there is none.
    client: Result<Arc<Client>, String>,
    schedule: Schedule,
    sets: Sets,
    cached_at: Option<Instant>,
    is_cache_failing: bool,
    /// Told once nothing is lacking, or a round has ended.
    first: Option<SyncSender<()>>,
}

impl Work {
    fn new(shared: Shared, first: SyncSender<()>) -> Self {
        let sources = JwksSources::default();
        let now = Instant::now().into_std();
        Self {
            shared,
            client: Err(String::new()),
            schedule: Schedule::new(sources.refresh, sources.min_interval, now),
            sources,
            sets: Sets::default(),
            cached_at: None,
            is_cache_failing: false,
            first: Some(first),
        }
    }

    async fn run(mut self, mut wishes: watch::Receiver<Wish>) {
        wishes.mark_unchanged();
        loop {
            tokio::select! {
                changed = wishes.changed() => {
                    let wish = wishes.borrow_and_update().clone();
                    let Some(sources) = wish.filter(|_| changed.is_ok()) else { return };
                    self.take_over(&sources, Instant::now());
                }
                () = self.rounds() => {}
            }
        }
    }

    /// Begins with these sources: what is known of them already is used at once, and a round is due.
    fn take_over(&mut self, sources: &JwksSources, now: Instant) {
        self.sources = sources.clone();
        // Reading the system's authorities takes a while.
        self.client = match sources.urls.is_empty() {
            true => Err(String::new()),
            false => Client::new(sources).map(Arc::new).map_err(|error| error.to_string()),
        };
        self.schedule.restart(sources.refresh, sources.min_interval, now.into_std());
        let forgotten = self.sets.set_urls(&sources.urls);
        self.cached_at = None;
        if let Some(file) = sources.cache.as_ref().filter(|_| self.sets.is_lacking()) {
            let (cached, problems) = read_cache(file, &sources.urls, now.into_std(), unix_now());
            for problem in problems {
                tracing::warn!("tokens.jwks_cache: {problem}");
            }
            self.sets.take_cached(cached);
        }
        let earliest = (!sources.urls.is_empty()).then(|| self.schedule.earliest(now.into_std()));
        self.refetch().set_earliest(earliest);
        self.publish(now);
        for url in forgotten {
            tracing::info!(url = shown(&url), "keys of this URL are used no more");
        }
        if !self.sets.is_lacking() {
            self.tell_first();
        }
    }

    fn refetch(&self) -> &Refetch {
        self.shared.live.refetch()
    }

    fn tell_first(&mut self) {
        if let Some(first) = self.first.take() {
            let _ = first.try_send(());
        }
    }

    /// Rounds, for ever.
    async fn rounds(&mut self) {
        if self.sources.urls.is_empty() {
            return std::future::pending().await;
        }
        loop {
            self.wait_until_due().await;
            self.round().await;
        }
    }

    async fn wait_until_due(&mut self) {
        loop {
            let now = Instant::now().into_std();
            let next = self.schedule.next(now);
            if now >= next {
                return;
            }
            let shared = Arc::clone(&self.shared.live);
            tokio::select! {
                () = sleep_until(next.into()) => {}
                () = shared.refetch().asked() => self.schedule.ask(),
            }
        }
    }

    async fn round(&mut self) {
        let now = Instant::now().into_std();
        self.schedule.begin(now);
        self.refetch().begin(self.schedule.earliest(now));
        let mut requests = JoinSet::new();
        for (url, etag) in self.sets.requests() {
            let client = self.client.clone();
            requests.spawn(async move {
                let answer = match client {
                    Ok(client) => client.fetch(&url, etag.as_deref()).await,
                    Err(why) => Err(why),
                };
                (url, answer)
            });
        }
        let (mut max_age, mut has_changed, mut all_news) = (None, false, Vec::new());
        while let Some(joined) = requests.join_next().await {
            let Ok((url, answer)) = joined else {
                tracing::error!("a request for keys panicked");
                continue;
            };
            if let Ok(Answer::Unchanged { max_age: age } | Answer::Set(Fetched { max_age: age, .. })) =
                &answer
            {
                max_age = max_age.into_iter().chain(*age).min();
            }
            let (noted, news) = self.sets.note(&url, answer, Instant::now().into_std());
            all_news.push((url, news));
            self.shared.numbers.count(noted);
            has_changed |= noted == Noted::Changed;
        }
        let now = Instant::now();
        let has_failed = self.sets.is_failing();
        self.schedule.end(now.into_std(), Ended { has_failed, max_age }, random());
        self.publish(now);
        self.refetch().end(has_failed);
        for (url, news) in all_news {
            news.into_iter().for_each(|news| news.tell(&url));
        }
        self.keep(has_changed, now);
        self.tell_first();
    }

    /// Puts what is known now in force.
    fn publish(&self, now: Instant) {
        let Shared { live, health, numbers } = &self.shared;
        live.set_fetched(self.sets.keys());
        numbers.set(self.sources.urls.len(), self.sets.age(now.into_std()), now.into_std());
        health.note(Cause::NoKeys, live.trust().keys.is_empty());
        health.note(Cause::Fetching, self.sets.is_failing());
    }

    /// Writes the cache where something is worth it.
    fn keep(&mut self, has_changed: bool, now: Instant) {
        let Some(file) = &self.sources.cache else { return };
        let is_old = self.cached_at.is_none_or(|at| now >= at + CACHE_AFTER);
        if !has_changed && !is_old || self.sets.keys().is_empty() {
            return;
        }
        let sets = self.sets.to_cache(now.into_std(), unix_now());
        match cache::write(file, sets) {
            Ok(()) => (self.cached_at, self.is_cache_failing) = (Some(now), false),
            Err(error) if self.is_cache_failing => {
                tracing::debug!(%error, "the cache of keys cannot be written still");
            }
            Err(error) => {
                self.is_cache_failing = true;
                let file = file.display().to_string();
                tracing::warn!(file, %error, "tokens.jwks_cache cannot be written: a restart while a URL is down finds no keys");
            }
        }
    }
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// From 0 to 1; the middle where the system gives no random numbers.
fn random() -> f64 {
    getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX))
}
