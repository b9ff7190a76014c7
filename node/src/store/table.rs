//! The thread that has the table: it loads documents, takes checkpoints, and removes what is over.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pinwire_protocol::close::Close;
use pinwire_shard::{DocumentRef, Kept};
use pinwire_store::{Change, Checkpoint, Damage, Table, TableError, Which};
use tokio::sync::oneshot;

use super::file::{self, EraseError};
use super::stats::StoreStats;
use super::{StoreEvent, journal};
use crate::data::{Envelope, Mailbox};
use crate::shedding::{Cause, Health};

/// Something to be done with the table.
#[derive(Debug)]
pub(super) enum Job {
    /// Load a document, with what happened to it since the last checkpoint on top.
    Load { document: DocumentRef, name: Arc<str>, since: Change, reply: Mailbox },
    /// Nobody has it open after all.
    Abandon { name: Arc<str> },
    /// Take what was gathered.
    Checkpoint(Checkpoint),
    /// Remove documents.
    Erase { which: file::Which, reply: oneshot::Sender<Result<usize, EraseError>> },
}

/// The thread's state.
#[derive(Debug)]
pub(super) struct TableThread {
    pub(super) folder: PathBuf,
    /// `None` after damage that could not be mended yet.
    pub(super) table: Option<Table>,
    pub(super) jobs: Receiver<Job>,
    /// The last checkpoint that is in the table.
    pub(super) done: Arc<AtomicU64>,
    /// Seconds for which documents are kept that nobody has open.
    pub(super) kept_for: u64,
    pub(super) stats: Arc<StoreStats>,
    pub(super) health: Arc<Health>,
    /// Checkpoints that could not be taken yet, oldest first: one, and another when the node ends.
    pub(super) waiting: VecDeque<Checkpoint>,
    /// The last checkpoint that was handed over.
    pub(super) received: u64,
    /// Documents that are open, with the last checkpoint that was handed over before: none of them is removed.
    pub(super) open: HashMap<Box<str>, u64>,
}

/// How long until something that failed is tried again.
pub(super) const RETRY: Duration = Duration::from_secs(1);
/// How often the table is looked through for what is over.
const SWEEP: Duration = Duration::from_secs(30);
/// How long clients wait whose document could not be loaded.
const LOAD_RETRY_MS: u64 = 2000;

impl TableThread {
    /// Runs until the journal's thread has ended and everything it said is done.
    pub(super) fn run(mut self) {
        let mut sweep = Instant::now();
        let mut retry = Instant::now();
        loop {
            let now = Instant::now();
            if !self.waiting.is_empty() && now >= retry {
                self.take_waiting();
                retry = Instant::now() + RETRY;
            }
            if now >= sweep {
                // A full thousand means that there is more.
                sweep = now + if self.remove_ended() { RETRY } else { SWEEP };
            }
            let until = if self.waiting.is_empty() { sweep } else { retry.min(sweep) };
            match self.jobs.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(job) => self.run_job(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        if !self.take_waiting() {
            tracing::warn!("the last checkpoint is left to the next start: the journal has it");
        }
    }

    fn run_job(&mut self, job: Job) {
        match job {
            Job::Load { document, name, since, reply } => {
                let start = Instant::now();
                let answer = self.load(&name, &since);
                self.stats.time(|stats| &mut stats.load, start.elapsed());
                reply.push_waiting(Envelope::Store(vec![StoreEvent::Opened(document, answer)]));
            }
            Job::Abandon { name } => {
                self.open.remove(&*name);
            }
            Job::Checkpoint(checkpoint) => {
                self.received = checkpoint.number;
                self.waiting.push_back(checkpoint);
                self.take_waiting();
            }
            Job::Erase { which, reply } => {
                // Whoever asked may have gone.
                let _ = reply.send(self.erase(&which));
            }
        }
    }

    fn load(&mut self, name: &str, since: &Change) -> Result<Kept, Close> {
        self.open.insert(name.into(), self.received);
        let waiting = self.waiting.iter().filter_map(|waiting| waiting.changes.get(name));
        let since: Vec<&Change> = waiting.chain([since]).collect();
        let loaded = self.table.as_ref().map(|table| table.load(name, &since));
        let loaded = match loaded {
            Some(Ok(loaded)) => loaded,
            Some(Err(error)) => {
                tracing::error!(document = name, %error, "a document could not be loaded; its clients are asked to come back");
                self.failed(&error);
                return Err(Close::try_again(LOAD_RETRY_MS));
            }
            None => return Err(Close::try_again(LOAD_RETRY_MS)),
        };
        for damage in &loaded.damages {
            tracing::error!(%damage, "a document lacks what was damaged; its clients may still have it");
        }
        self.stats.change(|stats| stats.damages += loaded.damages.len() as u64);
        Ok(Kept {
            base: loaded.base.map(Arc::from),
            tail: loaded.updates.iter().map(Box::from).collect(),
            nodes: Vec::new(),
        })
    }

    /// True if every checkpoint that waited is in the table now.
    fn take_waiting(&mut self) -> bool {
        while !self.waiting.is_empty() {
            if !self.take_first() {
                return false;
            }
        }
        true
    }

    fn take_first(&mut self) -> bool {
        let start = Instant::now();
        if self.table.is_none() {
            self.open_again();
        }
        let Some(checkpoint) = self.waiting.front() else { return true };
        let Some(table) = &mut self.table else { return false };
        let (number, outcome) = (checkpoint.number, table.apply(checkpoint.number, &checkpoint.changes));
        if let Err(error) = outcome {
            journal::say_once(&self.health, Cause::Table, || {
                tracing::error!(%error, "the store cannot take a checkpoint; it is tried again each second");
            });
            self.failed(&error);
            return false;
        }
        let Some(checkpoint) = self.waiting.pop_front() else { return true };
        for name in checkpoint.changes.ended() {
            // Somebody may have come back since it was made.
            if self.open.get(name).is_some_and(|received| *received < number) {
                self.open.remove(name);
            }
        }
        self.done.store(number, Ordering::Release);
        self.stats.time(|stats| &mut stats.checkpoint, start.elapsed());
        self.count();
        if self.health.clear(Cause::Table) {
            tracing::info!("the store takes checkpoints again");
        }
        true
    }

    fn failed(&mut self, error: &TableError) {
        self.stats.change(|stats| stats.failures += 1);
        if matches!(error, TableError::Damaged(_)) {
            self.table = None;
            self.opened(Table::salvage(&self.folder).map(|(table, damage)| (table, Some(damage))));
        }
    }

    /// Opening carries over what can be read of a damaged table.
    fn open_again(&mut self) {
        self.opened(Table::open(&self.folder));
    }

    fn opened(&mut self, outcome: Result<(Table, Option<Damage>), TableError>) {
        match outcome {
            Ok((table, damage)) => {
                if let Some(damage) = damage {
                    tracing::error!(%damage, "the store was damaged");
                    self.stats.change(|stats| stats.damages += 1);
                }
                self.table = Some(table);
            }
            Err(error) => tracing::error!(%error, "the store's table cannot be opened"),
        }
    }

    /// True if there may be more to remove.
    fn remove_ended(&mut self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let before = now.saturating_sub(self.kept_for);
        let Some(table) = &mut self.table else { return false };
        match table.remove_ended(before, |name| self.open.contains_key(name)) {
            Ok(0) => false,
            Ok(removed) => {
                tracing::info!(removed, "documents whose time was over were removed");
                self.stats.change(|stats| stats.removed += removed as u64);
                self.count();
                true
            }
            Err(error) => {
                tracing::warn!(%error, "documents whose time is over could not be removed");
                self.failed(&error);
                false
            }
        }
    }

    fn erase(&mut self, which: &file::Which) -> Result<usize, EraseError> {
        if !self.waiting.is_empty() {
            return Err(EraseError::Away("the store cannot write now".to_owned()));
        }
        let prefix;
        let which = match which {
            file::Which::Document(name) => Which::Named(name),
            file::Which::App { tenant, app } => {
                prefix = format!("{tenant}::{app}::");
                Which::Prefixed(&prefix)
            }
        };
        let is_meant = |name: &str| match which {
            Which::Named(meant) => name == meant,
            Which::Prefixed(prefix) => name.starts_with(prefix),
        };
        if let Some(open) = self.open.keys().find(|name| is_meant(name)) {
            return Err(EraseError::Open(open.to_string()));
        }
        let Some(table) = &mut self.table else {
            return Err(EraseError::Away("the store's table cannot be opened".to_owned()));
        };
        let removed = table.erase(which).map_err(|error| {
            self.failed(&error);
            EraseError::Away(error.to_string())
        })?;
        self.stats.change(|stats| stats.removed += removed as u64);
        self.count();
        Ok(removed)
    }

    pub(super) fn count(&self) {
        if let Some(Ok(documents)) = self.table.as_ref().map(Table::len) {
            self.stats.change(|stats| stats.documents = documents);
        }
    }
}
