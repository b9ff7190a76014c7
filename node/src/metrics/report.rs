//! What a data thread hands over, and how it is asked.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pinwire_engine::DriverInUse;
use pinwire_shard::Stats;
use tokio::sync::{Mutex, oneshot};
use tokio::time::Instant;

use super::{Histogram, Refused};
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
    /// How the thread talks to the kernel.
    pub(crate) driver: Option<DriverInUse>,
    /// Totals.
    pub(crate) stats: Stats,
    /// How long things took.
    pub(crate) times: Times,
    /// What was turned away.
    pub(crate) refused: Refused,
    /// TLS handshakes.
    pub(crate) tls: TlsHandshakes,
}

/// TLS handshakes of a data thread.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TlsHandshakes {
    /// That cost a signature.
    pub(crate) full: u64,
    /// That went on from an earlier connection, by a ticket.
    pub(crate) resumed: u64,
    /// That wait for their share of a turn now.
    pub(crate) waiting: usize,
}

/// How long things took on a data thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times {
    /// From accepting a connection to its 101 answer.
    pub(crate) handshake: Histogram,
    /// From accepting a connection to the end of its TLS handshake.
    pub(crate) tls: Histogram,
    /// Judging a token, from memory or by its signature.
    pub(crate) token: Histogram,
    /// A turn, from the first event to the last byte handed to the kernel: how long whatever came meanwhile waited.
    pub(crate) turn: Histogram,
}

/// How old an answer may be. Whoever asks more often costs the data threads nothing more.
const FRESH: Duration = Duration::from_secs(1);

/// Every thread's numbers, in order; `None` of one that did not answer in time.
type Reports = Arc<[Option<Report>]>;

/// The way to ask data threads. They start after whoever asks: until then there are none.
#[derive(Debug, Default)]
pub(crate) struct Threads {
    mailboxes: OnceLock<Arc<[Mailbox]>>,
    /// When they were asked last, and what they said. Locked while they are asked, so that all who wait share one answer.
    last: Mutex<Option<(Instant, Reports)>>,
}

impl Threads {
    /// From now on there are these. Called once.
    pub(crate) fn started(&self, mailboxes: &Arc<[Mailbox]>) {
        let _ = self.mailboxes.set(Arc::clone(mailboxes));
    }

    /// The ways to the threads, in order.
    pub(crate) fn mailboxes(&self) -> &[Mailbox] {
        self.mailboxes.get().map_or(&[], |mailboxes| mailboxes)
    }

    /// Whether every thread turns.
    pub(crate) async fn all_answer(&self) -> bool {
        self.ask_all().await.iter().all(Option::is_some)
    }

    /// The threads' numbers, of now or a moment ago.
    pub(crate) async fn reports(&self) -> Reports {
        let mut last = self.last.lock().await;
        if let Some((_, reports)) = last.as_ref().filter(|(asked, _)| asked.elapsed() < FRESH) {
            return Arc::clone(reports);
        }
        let reports: Reports = self.ask_all().await.into();
        *last = Some((Instant::now(), Arc::clone(&reports)));
        reports
    }

    async fn ask_all(&self) -> Vec<Option<Report>> {
        let asked: Vec<_> = self.mailboxes().iter().map(ask).collect();
        let mut reports = Vec::with_capacity(asked.len());
        let deadline = Instant::now() + PATIENCE;
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
