//! The only door between threads: a bounded queue per data thread, and a wake-up.
//!
//! When a queue is full the sender keeps the rest, in order, and tries again next turn; what it keeps is bounded by what the
//! shard's own rules let it produce (a delivery per remote session, a frame per message read, a job per document).

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use pinwire_engine::{Carried, Door, Waker};
use pinwire_shard::document::yjs::Compacted;
use pinwire_shard::{DocumentRef, Mail, Traveller};
use tokio::sync::oneshot;

use super::inspect::Ask;
use crate::metrics::Report;
use crate::store::StoreEvent;

/// Envelopes that wait for one thread.
const CAPACITY: usize = 4096;

/// Something for a data thread.
#[derive(Debug)]
pub(crate) enum Envelope {
    /// From the shard of another thread.
    Mail { from: u16, mail: Mail },
    /// The state of a connection whose socket moves with this token.
    Traveller { token: u64, traveller: Box<Traveller>, carried: Option<Carried> },
    /// The connection whose socket moves with this token ended meanwhile.
    Orphan { token: u64 },
    /// A worker's result.
    Compacted { document: DocumentRef, result: Compacted },
    /// The session store's answers.
    Store(Vec<StoreEvent>),
    /// Somebody wants the thread's numbers.
    Report(oneshot::Sender<Box<Report>>),
    /// The admin thread wants to know something, or to have it done.
    Ask(Box<Ask>),
    /// A round of requests for keys has ended: tokens that wait for it are looked at in this turn.
    Keys,
    /// Close everything and end.
    Stop,
}

/// The way to one data thread.
#[derive(Clone, Debug)]
pub(crate) struct Mailbox {
    queue: Arc<ArrayQueue<Envelope>>,
    waker: Waker,
    /// For sockets that move there.
    pub(crate) door: Door,
}

impl Mailbox {
    pub(crate) fn new(waker: Waker, door: Door) -> Self {
        Self { queue: Arc::new(ArrayQueue::new(CAPACITY)), waker, door }
    }

    /// Gives the envelope back if the queue is full.
    pub(crate) fn push(&self, envelope: Envelope) -> Result<(), Envelope> {
        self.queue.push(envelope)?;
        self.waker.wake();
        Ok(())
    }

    /// Has the thread look at what does not come by mail.
    pub(crate) fn wake(&self) {
        self.waker.wake();
    }

    pub(crate) fn pop(&self) -> Option<Envelope> {
        self.queue.pop()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Keeps trying from a thread that may wait, until the envelope is in.
    pub(crate) fn push_waiting(&self, mut envelope: Envelope) {
        while let Err(back) = self.push(envelope) {
            envelope = back;
            std::thread::yield_now();
        }
    }
}

/// What one thread sends to the others.
#[derive(Debug)]
pub(crate) struct Outgoing {
    mailboxes: Arc<[Mailbox]>,
    kept: Vec<VecDeque<Envelope>>,
}

impl Outgoing {
    pub(crate) fn new(mailboxes: Arc<[Mailbox]>) -> Self {
        let kept = mailboxes.iter().map(|_| VecDeque::new()).collect();
        Self { mailboxes, kept }
    }

    pub(crate) fn door(&self, thread: u16) -> Option<&Door> {
        self.mailboxes.get(usize::from(thread)).map(|mailbox| &mailbox.door)
    }

    pub(crate) fn send(&mut self, thread: u16, envelope: Envelope) {
        let Some(kept) = self.kept.get_mut(usize::from(thread)) else { return };
        kept.push_back(envelope);
    }

    /// Hands over as much as fits; true if something is left.
    pub(crate) fn flush(&mut self) -> bool {
        let mut is_left = false;
        for (mailbox, kept) in self.mailboxes.iter().zip(&mut self.kept) {
            while let Some(envelope) = kept.pop_front() {
                if let Err(back) = mailbox.push(envelope) {
                    kept.push_front(back);
                    is_left = true;
                    break;
                }
            }
        }
        is_left
    }
}
