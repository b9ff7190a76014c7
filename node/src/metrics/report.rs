//! What a data thread hands over, and how it is asked.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pinwire_shard::Stats;
use tokio::sync::oneshot;

use super::Histogram;
use crate::data::{Envelope, Mailbox};

/// How long a data thread may take to answer: far more than a turn.
const PATIENCE: Duration = Duration::from_secs(1);

/// A data thread's numbers at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// Upgraded connections.
    pub(crate) connections: usize,
    /// Active documents.
    pub(crate) documents: usize,
    /// Connections that are no WebSocket yet.
    pub(crate) guests: usize,
    /// Totals.
    pub(crate) stats: Stats,
    /// How long things took.
    pub(crate) times: Times,
}

/// How long things took on a data thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times {
    /// From accepting a connection to its 101 answer.
    pub(crate) handshake: Histogram,
    /// Judging a token, from memory or by its signature.
    pub(crate) token: Histogram,
    /// A turn, from the first event to the last byte handed to the kernel: how long whatever came meanwhile waited.
    pub(crate) turn: Histogram,
}

/// The way to ask data threads. They start after whoever asks: until then there are none.
#[derive(Debug, Default)]
pub(crate) struct Threads(OnceLock<Arc<[Mailbox]>>);

impl Threads {
    /// From now on there are these. Called once.
    pub(crate) fn started(&self, mailboxes: &Arc<[Mailbox]>) {
        let _ = self.0.set(Arc::clone(mailboxes));
    }

    /// Every thread's numbers, in order; `None` of one that does not answer in time.
    pub(crate) async fn reports(&self) -> Vec<Option<Report>> {
        let mailboxes = self.0.get().map_or(&[][..], |mailboxes| mailboxes);
        let asked: Vec<_> = mailboxes.iter().map(ask).collect();
        let mut reports = Vec::with_capacity(asked.len());
        let deadline = tokio::time::Instant::now() + PATIENCE;
        for answer in asked {
            let answer = match answer {
                Some(answer) => tokio::time::timeout_at(deadline, answer).await.ok().and_then(Result::ok),
                None => None,
            };
            reports.push(answer.map(|report| *report));
        }
        reports
    }
}

/// `None` if the thread's mailbox is full.
fn ask(mailbox: &Mailbox) -> Option<oneshot::Receiver<Box<Report>>> {
    let (reply, answer) = oneshot::channel();
    mailbox.push(Envelope::Report(reply)).ok()?;
    Some(answer)
}
