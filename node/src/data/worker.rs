//! The thread that compacts logs: the one place where Yjs documents are built, away from every data thread.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::{io, thread};

use pinwire_shard::DocumentRef;
use pinwire_shard::document::yjs::{Compacted, Compaction};

use super::mailbox::{Envelope, Mailbox};

/// Jobs that wait. A data thread keeps what does not fit: it has at most one per document.
const QUEUE: usize = 256;

/// A log to compact, and where the result goes.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) document: DocumentRef,
    pub(crate) compaction: Compaction,
    pub(crate) reply: Mailbox,
}

/// The way to the worker.
#[derive(Clone, Debug)]
pub(crate) struct Worker(SyncSender<Job>);

impl Worker {
    /// Nobody waits for the thread's end: a job can take seconds, and what it computes is of no use to a node that stops.
    pub(crate) fn start() -> io::Result<Self> {
        let (sender, receiver) = sync_channel(QUEUE);
        thread::Builder::new().name("compact".to_owned()).spawn(move || work(&receiver))?;
        Ok(Self(sender))
    }

    /// Gives the job back if too many wait.
    pub(crate) fn try_submit(&self, job: Job) -> Result<(), Box<Job>> {
        self.0.try_send(job).map_err(|refused| match refused {
            TrySendError::Full(job) | TrySendError::Disconnected(job) => Box::new(job),
        })
    }
}

/// Ends when the last data thread has dropped its [`Worker`].
fn work(jobs: &Receiver<Job>) {
    while let Ok(Job { document, compaction, reply }) = jobs.recv() {
        let result = run(compaction);
        if result.dropped > 0 {
            tracing::warn!(dropped = result.dropped, "updates that the Yjs library failed on were left out");
        }
        reply.push_waiting(Envelope::Compacted { document, result });
    }
}

/// Runs a job on a thread of its own, whose stack follows the document's size: the library recurses with its nesting, and a
/// stack that overflows would end the process. What is not touched of it costs nothing.
fn run(compaction: Compaction) -> Compacted {
    let failed = compaction.failed();
    let job = thread::Builder::new().name("compact-job".to_owned()).stack_size(compaction.stack_size());
    match job.spawn(move || compaction.run()).map(JoinHandle::join) {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => {
            tracing::error!("a compaction panicked; the document's log is kept as it is");
            failed
        }
        Err(error) => {
            tracing::error!(%error, "no thread for a compaction; the document's log is kept as it is");
            failed
        }
    }
}
