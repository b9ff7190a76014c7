//! The thread that writes the journal: whatever came from the data threads meanwhile is written at once, and then answered.
//!
//! It waits for the disk and for nothing else. While the disk refuses, it goes on taking requests and tries again each second:
//! documents open, edits reach the other members, and are acknowledged once they are safe. Past a bound it takes no more, and
//! documents turn read-only.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{io, thread};

use pinwire_shard::DocumentRef;
use pinwire_shard::document::log::Position;
use pinwire_store::{Files, Lock, Options, RecoverError, Recovered, Store, recover};

use super::file::{Request, Way};
use super::stats::StoreStats;
use super::table::{Job, RETRY, TableThread};
use super::{FileStoreConfig, StoreEvent};
use crate::data::{Envelope, Mailbox};
use crate::node::AbortOnPanic;
use crate::shedding::{Cause, Health};

/// Requests that wait. A data thread keeps what does not fit.
const QUEUE: usize = 8192;
/// Requests that are written together at most: how long the first of them waits for the last.
const BATCH: usize = 4096;
/// Jobs for the table that wait; what does not fit is kept.
const JOBS: usize = 1024;
/// Bytes gathered while checkpoints fail. Beyond it nothing more is taken.
const GATHERED_MAX: usize = 256 << 20;
/// Bytes of the journal since the last checkpoint; a start reads all of them.
const JOURNAL_MAX: u64 = 1 << 30;
/// How often a checkpoint under way is looked after.
const CHECKPOINT_POLL: Duration = Duration::from_millis(20);

/// The store's threads, and the ways to them.
#[derive(Debug)]
pub(crate) struct StoreThreads {
    way: Way,
    threads: Vec<JoinHandle<()>>,
    is_stopping: Arc<AtomicBool>,
    pub(crate) stats: Arc<StoreStats>,
    /// Until both threads have ended.
    _lock: Lock,
}

impl StoreThreads {
    /// For a data thread, or whoever erases.
    pub(crate) fn way(&self) -> Way {
        self.way.clone()
    }

    /// Waits until everything that was said is on the disk. To be called when the data threads have ended.
    pub(crate) fn stop(mut self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        // Who does not take requests looks at the word above.
        let _ = self.way.0.try_send(Request::Stop);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the store panicked");
            }
        }
    }
}

/// Opens the store and starts its threads.
///
/// # Errors
/// The store does not open, or the system refuses a thread.
pub(crate) fn start(config: &FileStoreConfig, health: &Arc<Health>) -> Result<StoreThreads, RecoverError> {
    let start = Instant::now();
    let FileStoreConfig { fsync, checkpoint_bytes, .. } = *config;
    let options = Options { fsync, checkpoint_bytes, ..Options::default() };
    survive_limits_of_file_sizes();
    let recovered = recover(&config.folder, Box::new(Files), options)?;
    let Recovered { store, table, lock, records, damages } = recovered;
    // So that what nobody comes back to goes after `unclaimed`, though the table looks at `retention`.
    let unclaimed = config.unclaimed.saturating_sub(config.retention).as_secs();
    table
        .end_all(unix_now() + unclaimed)
        .map_err(|error| RecoverError::Table(config.folder.clone(), error))?;
    for damage in &damages {
        tracing::error!(%damage, "the store was damaged");
    }
    tracing::info!(
        folder = %config.folder.display(),
        documents = table.len().unwrap_or_default(),
        records,
        milliseconds = start.elapsed().as_millis() as u64,
        "the store is open"
    );
    let stats = Arc::new(StoreStats::default());
    stats.change(|stats| stats.damages += damages.len() as u64);
    let (way, requests) = sync_channel(QUEUE);
    let (jobs, jobs_in) = sync_channel(JOBS);
    let done = Arc::new(AtomicU64::new(0));
    let is_stopping = Arc::new(AtomicBool::new(false));
    let table = TableThread {
        folder: config.folder.clone(),
        table: Some(table),
        jobs: jobs_in,
        done: Arc::clone(&done),
        kept_for: config.retention.as_secs(),
        stats: Arc::clone(&stats),
        health: Arc::clone(health),
        waiting: VecDeque::new(),
        received: 0,
        open: HashMap::new(),
    };
    table.count();
    let journal = JournalThread {
        store,
        epoch: start,
        requests,
        jobs,
        kept_jobs: VecDeque::new(),
        is_kept: !config.retention.is_zero(),
        done,
        checkpointing: None,
        is_checkpoint_wanted: false,
        erasures: Vec::new(),
        loads: Vec::new(),
        answers: HashMap::new(),
        unanswered: HashMap::new(),
        is_stopping: Arc::clone(&is_stopping),
        failed_at: None,
        stats: Arc::clone(&stats),
        health: Arc::clone(health),
    };
    let refused = |error| RecoverError::Folder(config.folder.clone(), error);
    let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
        thread::Builder::new().name(name.to_owned()).spawn(run).map_err(refused)
    };
    let threads = vec![
        spawn("store", Box::new(move || aborting(|| journal.run())))?,
        spawn("store-table", Box::new(move || aborting(|| table.run())))?,
    ];
    Ok(StoreThreads { way: Way(way), threads, is_stopping, stats, _lock: lock })
}

/// Without one of its threads the store takes what it never keeps: the process ends instead, and is started again.
fn aborting(run: impl FnOnce()) {
    let guard = AbortOnPanic;
    run();
    std::mem::forget(guard);
}

/// A limit on the size of files (`ulimit -f`) is to be met as a full disk is: by an error, not by the signal that ends a
/// process.
fn survive_limits_of_file_sizes() {
    let noted = Arc::new(AtomicBool::new(false));
    if let Err(error) = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, noted) {
        tracing::warn!(%error, "a limit on the size of files would end this node");
    }
}

/// Runs `say` if this is news.
pub(super) fn say_once(health: &Health, cause: Cause, say: impl FnOnce()) {
    if health.suffer(cause) {
        say();
    }
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The thread's state.
#[derive(Debug)]
struct JournalThread {
    store: Store,
    /// Zero of the store's time.
    epoch: Instant,
    requests: Receiver<Request>,
    jobs: SyncSender<Job>,
    kept_jobs: VecDeque<Job>,
    /// Documents outlive their sessions.
    is_kept: bool,
    /// The last checkpoint that the table has taken.
    done: Arc<AtomicU64>,
    /// The one that it was given.
    checkpointing: Option<u64>,
    /// Somebody waits for a checkpoint of everything before.
    is_checkpoint_wanted: bool,
    /// Wait for that checkpoint.
    erasures: Vec<Job>,
    /// Wait until what they are about is safe.
    loads: Vec<Job>,
    /// Where answers to each data thread go.
    answers: HashMap<u16, Mailbox>,
    /// What each data thread is told once it is safe: up to where its documents are.
    unanswered: HashMap<u16, HashMap<DocumentRef, Position>>,
    /// The node ends, whether or not everything could be taken.
    is_stopping: Arc<AtomicBool>,
    /// When the disk refused, if it does.
    failed_at: Option<Instant>,
    stats: Arc<StoreStats>,
    health: Arc<Health>,
}

impl JournalThread {
    /// Runs until the last data thread has gone and everything is written.
    fn run(mut self) {
        loop {
            let wait = self.next_wait();
            let is_over = if self.is_full() {
                thread::park_timeout(wait.min(RETRY));
                self.is_stopping.load(Ordering::Relaxed)
            } else {
                self.take(wait)
            };
            self.work();
            if is_over {
                break;
            }
        }
        self.finish();
    }

    /// Checkpoints have failed for so long that nothing more can be taken.
    fn is_full(&self) -> bool {
        self.store.gathered() > GATHERED_MAX || self.store.journal_len() > JOURNAL_MAX
    }

    /// Takes requests, waiting for the first; true if none will come any more.
    fn take(&mut self, wait: Duration) -> bool {
        match self.requests.recv_timeout(wait) {
            Ok(Request::Stop) | Err(RecvTimeoutError::Disconnected) => return true,
            Ok(request) => self.request(request),
            Err(RecvTimeoutError::Timeout) => return self.is_stopping.load(Ordering::Relaxed),
        }
        for _ in 1..BATCH {
            match self.requests.try_recv() {
                Ok(Request::Stop) => return true,
                Ok(request) => self.request(request),
                Err(_) => return self.is_stopping.load(Ordering::Relaxed),
            }
        }
        false
    }

    fn next_wait(&self) -> Duration {
        const LONG: Duration = Duration::from_secs(3600);
        let now = Instant::now();
        let at = |due| self.epoch + due;
        let (sync, checkpoint, retry) = match self.failed_at {
            Some(failed) => (None, None, Some(failed + RETRY)),
            None => {
                let checkpoint = self.store.checkpoint_due().filter(|_| self.checkpointing.is_none());
                (self.store.sync_due().map(at), checkpoint.map(at), None)
            }
        };
        let poll =
            (self.checkpointing.is_some() || !self.kept_jobs.is_empty()).then(|| now + CHECKPOINT_POLL);
        let until = [sync, checkpoint, retry, poll].into_iter().flatten().min();
        until.map_or(LONG, |at| at.saturating_duration_since(now))
    }

    fn request(&mut self, request: Request) {
        let now = self.epoch.elapsed();
        match request {
            Request::Answer { thread, reply } => {
                self.answers.insert(thread, reply);
            }
            Request::Open { document, name, reply } => {
                let is_safe = !self.store.has_uncommitted(&name);
                let since = self.store.open(&name, now);
                let load = Job::Load { document, name, since, reply };
                // What is loaded counts as safe.
                if is_safe { self.kept_jobs.push_back(load) } else { self.loads.push(load) }
            }
            Request::Append { thread, document, name, position, updates } => {
                self.stats.change(|stats| {
                    stats.appends += 1;
                    stats.appended_bytes += updates.byte_len() as u64;
                });
                self.store.append(&name, position, &updates, now);
                self.unanswered.entry(thread).or_default().insert(document, position);
            }
            Request::Rebase { name, upto, base, left } => self.store.rebase(&name, upto, base, left, now),
            Request::End { name } => self.store.end(&name, unix_now(), self.is_kept, now),
            Request::Abandon { name } => {
                self.store.abandon(&name, unix_now(), now);
                self.kept_jobs.push_back(Job::Abandon { name });
            }
            Request::Stop => {}
            Request::Erase { which, reply } => {
                self.is_checkpoint_wanted = true;
                self.erasures.push(Job::Erase { which, reply });
            }
        }
    }

    /// Makes safe what came, answers, and looks after checkpoints.
    fn work(&mut self) {
        self.hand_over_jobs();
        if self.failed_at.is_some_and(|at| at.elapsed() < RETRY) {
            return;
        }
        let start = Instant::now();
        let outcome = self.store.commit(self.epoch.elapsed());
        match outcome {
            Ok(()) => self.committed(start),
            Err(error) => return self.refused(&error),
        }
        if let Some(number) = self.checkpointing
            && self.done.load(Ordering::Acquire) >= number
        {
            self.store.checkpointed(number);
            self.checkpointing = None;
        }
        let is_due = self.store.wants_checkpoint(self.epoch.elapsed()) || self.is_checkpoint_wanted;
        if is_due && self.checkpointing.is_none() {
            self.checkpoint();
        }
        let gathered = self.store.gathered() as u64;
        self.stats.change(|stats| stats.gathered_bytes = gathered);
    }

    fn committed(&mut self, start: Instant) {
        if self.failed_at.take().is_some() {
            self.health.clear(Cause::Journal);
            self.stats.change(|stats| stats.is_failing = false);
            tracing::info!("the store can be written again");
        }
        self.kept_jobs.extend(self.loads.drain(..));
        self.hand_over_jobs();
        if self.unanswered.is_empty() {
            return;
        }
        self.stats.time(|stats| &mut stats.commit, start.elapsed());
        for (thread, safe) in self.unanswered.drain() {
            let Some(reply) = self.answers.get(&thread) else { continue };
            let events = safe.into_iter().map(|(document, position)| StoreEvent::Stored(document, position));
            reply.push_waiting(Envelope::Store(events.collect()));
        }
    }

    fn refused(&mut self, error: &io::Error) {
        self.failed_at = Some(Instant::now());
        self.stats.change(|stats| {
            stats.failures += 1;
            stats.is_failing = true;
        });
        say_once(&self.health, Cause::Journal, || {
            tracing::error!(
                %error,
                "the store cannot be written: edits go on and are not acknowledged, each document up to 8 MiB; \
                 it is tried again each second"
            );
        });
    }

    fn checkpoint(&mut self) {
        match self.store.checkpoint() {
            Ok(checkpoint) => {
                self.checkpointing = Some(checkpoint.number);
                self.is_checkpoint_wanted = false;
                self.kept_jobs.push_back(Job::Checkpoint(checkpoint));
                self.kept_jobs.extend(self.erasures.drain(..));
                self.hand_over_jobs();
            }
            Err(error) => self.refused(&error),
        }
    }

    fn hand_over_jobs(&mut self) {
        while let Some(job) = self.kept_jobs.pop_front() {
            match self.jobs.try_send(job) {
                Ok(()) => {}
                Err(TrySendError::Full(job)) => return self.kept_jobs.push_front(job),
                Err(TrySendError::Disconnected(_)) => {
                    tracing::error!("the table's thread has ended");
                }
            }
        }
    }

    /// Nobody is there any more: what is gathered goes to the table, so that the next start is quick.
    fn finish(mut self) {
        if let Err(error) = self.store.commit(self.epoch.elapsed()) {
            tracing::error!(%error, "the store could not be written at the end; what was acknowledged is safe");
            return;
        }
        match self.store.checkpoint() {
            // The journal's files go at the next start.
            Ok(checkpoint) => self.kept_jobs.push_back(Job::Checkpoint(checkpoint)),
            Err(error) => tracing::warn!(%error, "no last checkpoint; the next start reads the journal"),
        }
        for job in self.kept_jobs.drain(..) {
            // The thread takes everything that was sent before it ends.
            let _ = self.jobs.send(job);
        }
    }
}
