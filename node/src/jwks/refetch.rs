//! How tokens with an unknown key ask for a round of requests, and learn how it ended. Nothing here waits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore, SemaphorePermit, watch};

use crate::data::{Envelope, Mailbox};

/// How long a token waits for its key. Clients are given up after 10 s without a verdict.
const PATIENCE: Duration = Duration::from_secs(8);

/// HTTP requests that wait: a small part of those that the thread serves at once, so that others are answered.
const REQUESTS_MAX: usize = 64;

/// The rounds so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rounds {
    pub(super) begun: u64,
    pub(super) ended: u64,
    /// In the last one that ended some URL gave nothing.
    pub(super) has_failed: bool,
    /// When the next one may begin; `None` while nothing is fetched.
    pub(super) earliest: Option<Instant>,
}

/// Between those who judge tokens and the thread that fetches keys.
#[derive(Debug)]
pub(crate) struct Refetch {
    is_asked: AtomicBool,
    asked: Notify,
    rounds: watch::Sender<Rounds>,
    mailboxes: OnceLock<Arc<[Mailbox]>>,
    /// Places for HTTP requests that wait.
    places: Semaphore,
}

/// What a token waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    /// The first round that began after its question.
    round: u64,
    pub(crate) until: Instant,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing yet.
    Waits,
    /// Every URL answered: a key that is unknown now does not exist.
    Complete,
    /// Not every URL answered, or not in time: the key may exist.
    Unsure,
}

impl Default for Refetch {
    fn default() -> Self {
        let none = Rounds { begun: 0, ended: 0, has_failed: false, earliest: None };
        Self {
            is_asked: AtomicBool::new(false),
            asked: Notify::new(),
            rounds: watch::Sender::new(none),
            mailboxes: OnceLock::new(),
            places: Semaphore::new(REQUESTS_MAX),
        }
    }
}

impl Refetch {
    /// Asks for a round: what to wait for, or `None` where nothing is fetched, or not soon enough.
    pub(crate) fn ask(&self, now: Instant) -> Option<Waiting> {
        let rounds = *self.rounds.borrow();
        let until = now + PATIENCE;
        rounds.earliest.filter(|earliest| *earliest < until)?;
        // Many ask at once: one of them wakes the thread.
        if !self.is_asked.swap(true, Ordering::AcqRel) {
            self.asked.notify_one();
        }
        Some(Waiting { round: rounds.begun + 1, until })
    }

    /// How what a token waits for stands.
    pub(crate) fn outcome(&self, waiting: &Waiting, now: Instant) -> Outcome {
        let rounds = *self.rounds.borrow();
        match rounds.ended >= waiting.round {
            true if rounds.has_failed => Outcome::Unsure,
            true => Outcome::Complete,
            // Nothing is fetched any more: what is here is all there is.
            false if rounds.earliest.is_none() => Outcome::Complete,
            false if now >= waiting.until => Outcome::Unsure,
            false => Outcome::Waits,
        }
    }

    /// A place for an HTTP request to wait in, while there is one.
    pub(crate) fn place(&self) -> Option<SemaphorePermit<'_>> {
        self.places.try_acquire().ok()
    }

    /// [`Self::outcome`], once it is more than [`Outcome::Waits`] or a round has begun.
    pub(crate) async fn changed(&self, waiting: &Waiting) -> Outcome {
        let mut rounds = self.rounds.subscribe();
        let outcome = self.outcome(waiting, Instant::now());
        if outcome != Outcome::Waits {
            return outcome;
        }
        let _ = tokio::time::timeout_at(waiting.until.into(), rounds.changed()).await;
        self.outcome(waiting, Instant::now())
    }

    /// From now on there are these data threads. Called once.
    pub(crate) fn started(&self, mailboxes: &Arc<[Mailbox]>) {
        let _ = self.mailboxes.set(Arc::clone(mailboxes));
    }

    /// For the thread: resolves when somebody asked.
    pub(super) async fn asked(&self) {
        self.asked.notified().await;
    }

    /// For the thread: a round begins, and answers all who asked so far.
    pub(super) fn begin(&self, earliest: Instant) {
        self.is_asked.store(false, Ordering::Release);
        self.rounds.send_modify(|rounds| {
            rounds.begun += 1;
            rounds.earliest = Some(earliest);
        });
    }

    /// For the thread: the round that began last has ended.
    pub(super) fn end(&self, has_failed: bool) {
        self.rounds.send_modify(|rounds| {
            rounds.ended = rounds.begun;
            rounds.has_failed = has_failed;
        });
        self.wake();
    }

    /// For the thread: the next round may begin then, or nothing is fetched.
    pub(super) fn set_earliest(&self, earliest: Option<Instant>) {
        self.rounds.send_modify(|rounds| rounds.earliest = earliest);
        self.wake();
    }

    fn wake(&self) {
        for mailbox in self.mailboxes.get().into_iter().flat_map(|mailboxes| mailboxes.iter()) {
            // One whose mailbox is full is awake.
            let _ = mailbox.push(Envelope::Keys);
        }
    }
}
