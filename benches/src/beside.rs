//! Something that happens beside a load: it begins when the load does, and may end it.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use pinwire_loadgen::run::{Conductor, Second, Status, Watch};

type Work<T> = Box<dyn FnOnce() -> Result<T> + Send>;

/// Work on a thread of its own, from the moment at which all clients have joined.
pub struct Beside<T> {
    base: Instant,
    is_end: bool,
    work: Mutex<Option<Work<T>>>,
    thread: Mutex<Option<JoinHandle<Result<T>>>>,
}

impl<T> fmt::Debug for Beside<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Beside").field("is_end", &self.is_end).finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Beside<T> {
    /// The load goes on for as long as it was to.
    pub fn new(work: impl FnOnce() -> Result<T> + Send + 'static) -> Self {
        let work: Work<T> = Box::new(work);
        Self { base: Instant::now(), is_end: false, work: Mutex::new(Some(work)), thread: Mutex::new(None) }
    }

    /// The load ends when the work does.
    pub fn until_done(work: impl FnOnce() -> Result<T> + Send + 'static) -> Self {
        Self { is_end: true, ..Self::new(work) }
    }

    /// What came of it, once it is done.
    ///
    /// # Errors
    /// It failed, or never began.
    pub fn outcome(self) -> Result<T> {
        let thread = lock(&self.thread).take().context("the load never began")?;
        thread.join().map_err(|_| anyhow!("what went on beside the load panicked"))?
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: Send + 'static> Conductor for Beside<T> {
    fn base(&self) -> Instant {
        self.base
    }

    fn start(&self) -> Result<Option<Instant>> {
        let work = lock(&self.work).take().context("the load began twice")?;
        *lock(&self.thread) = Some(std::thread::spawn(work));
        Ok(Some(Instant::now()))
    }
}

impl<T: Send + 'static> Watch for Beside<T> {
    fn status(&self, _status: &Status) {}

    fn second(&self, _second: &Second) {}

    fn is_stopped(&self) -> bool {
        self.is_end && lock(&self.thread).as_ref().is_some_and(JoinHandle::is_finished)
    }
}
