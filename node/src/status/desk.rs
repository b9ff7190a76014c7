//! What operators ask for: announcing maintenance, changing and withdrawing it.

use std::time::Duration;

use pinwire_status::{Announcement, Full, Maintenance, Wrong};
use tokio::sync::{mpsc, oneshot};

/// Requests that wait; beyond it they are told to come again.
const QUEUE: usize = 64;
/// How long an answer may take: the thread gives its Redis up before.
const PATIENCE: Duration = Duration::from_secs(10);

/// The way to the thread.
#[derive(Clone, Debug)]
pub(crate) struct Desk(mpsc::Sender<Request>);

/// What is asked for.
#[derive(Debug)]
pub(crate) enum Asked {
    /// All notices.
    List,
    /// A new one.
    Announce(Announcement),
    /// This revision of one is to say something else.
    Change(String, u64, Announcement),
    /// One is called off.
    Withdraw(String),
}

/// It was done.
#[derive(Debug)]
pub(crate) struct Done {
    /// All that were asked for: the one that was announced, changed or withdrawn, or all.
    pub(crate) notices: Vec<Maintenance>,
    /// Whether all nodes of the region will know: `false` while its Redis is out of reach.
    pub(crate) is_kept: bool,
}

/// It was not done.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The thread does not answer in time.
    Silent,
    /// There is no such notice.
    Unknown,
    /// It is of this revision.
    Revision(u64),
    /// It is over, or was called off.
    Over,
    /// It says something that cannot be announced.
    Wrong(Wrong),
    /// There are too many.
    Full(String),
}

impl From<Full> for Refused {
    fn from(full: Full) -> Self {
        match full {
            Full::Wrong(wrong) => Self::Wrong(wrong),
            Full::Full => Self::Full(full.to_string()),
        }
    }
}

impl From<Wrong> for Refused {
    fn from(wrong: Wrong) -> Self {
        Self::Wrong(wrong)
    }
}

#[derive(Debug)]
pub(super) struct Request {
    pub(super) asked: Asked,
    pub(super) reply: oneshot::Sender<Result<Done, Refused>>,
}

impl Desk {
    pub(super) fn open() -> (Self, mpsc::Receiver<Request>) {
        let (sender, requests) = mpsc::channel(QUEUE);
        (Self(sender), requests)
    }

    pub(crate) async fn ask(&self, asked: Asked) -> Result<Done, Refused> {
        let (reply, answer) = oneshot::channel();
        self.0.try_send(Request { asked, reply }).map_err(|_| Refused::Silent)?;
        let answer = tokio::time::timeout(PATIENCE, answer).await;
        answer.map_err(|_| Refused::Silent)?.map_err(|_| Refused::Silent)?
    }
}
