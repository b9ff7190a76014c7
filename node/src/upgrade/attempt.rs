//! How another process is asked to take over, and what became of it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

/// Asks whoever runs the node to have another process take over. It is answered at once: the id of the process that was started, or
/// why none was. What becomes of it is shown ([`Upgrades::last`]).
pub type Wanted = oneshot::Sender<Result<u32, String>>;

/// How operators have another process take over, and what became of the last one.
#[derive(Clone, Debug)]
pub struct Upgrades {
    wanted: mpsc::Sender<Wanted>,
    last: Arc<Mutex<Option<Attempt>>>,
}

/// A process that was started to take over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Which.
    pub pid: u32,
    /// What became of it.
    pub became: Became,
    /// Since when that is so.
    pub since: Instant,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Became {
    /// It is not ready yet.
    Starting,
    /// It serves.
    Succeeded,
    /// It did not take over, for this reason.
    Failed(String),
    /// It had taken over, and ended without having been told to; how.
    Lost(String),
}

impl Upgrades {
    /// What is asked for comes out at the other end, one after the other.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Wanted>) {
        let (wanted, asked) = mpsc::channel(1);
        (Self { wanted, last: Arc::default() }, asked)
    }

    /// Asks for it.
    ///
    /// # Errors
    /// Somebody else has just asked, or nobody listens any more.
    pub(crate) fn ask(&self, wanted: Wanted) -> Result<(), ()> {
        self.wanted.try_send(wanted).map_err(drop)
    }

    /// Notes what became of a process.
    pub(crate) fn note(&self, pid: u32, became: Became) {
        let attempt = Attempt { pid, became, since: Instant::now() };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(attempt);
    }

    /// The last one that was started; in the process that has taken over, itself.
    #[must_use]
    pub fn last(&self) -> Option<Attempt> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
