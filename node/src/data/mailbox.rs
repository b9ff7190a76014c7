//! The only door between threads: a bounded queue per data thread, and a wake-up.
//!
//! When a queue is full the sender keeps the rest, in order, and tries again next turn; what it keeps is bounded by what the
//! shard's own rules let it produce (a delivery per remote session, a frame per message read, a job per document). The thread of
//! the sessions hears no more notices while data threads have not taken what it told them ([`Told`]).

use std::collections::VecDeque;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;
use pinwire_engine::{Carried, Door, Waker};
use pinwire_protocol::close::{Close, CloseCode};
use pinwire_shard::document::yjs::Compacted;
use pinwire_shard::{DocumentRef, FIRST_LINK, Mail, RemoteSession, Route, Traveller};
use tokio::sync::oneshot;

use super::inspect::Ask;
use super::leaving::Leave;
use crate::metrics::Report;
use crate::peer::Relay;
use crate::shedding::Pulse;
use crate::store::StoreEvent;

/// Envelopes that wait for one thread.
const CAPACITY: usize = 4096;
/// Between two tries of a thread that waits for room.
const PUSH_AGAIN: Duration = Duration::from_millis(1);

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
    /// What the thread of the sessions has to say.
    Sessions(Told),
    /// Somebody wants the thread's numbers.
    Report(oneshot::Sender<Box<Report>>),
    /// The admin thread wants to know something, or to have it done.
    Ask(Box<Ask>),
    /// A round of requests for keys has ended: tokens that wait for it are looked at in this turn.
    Keys,
    /// The way to a document that another region has, or how its clients are refused.
    Found { document: DocumentRef, route: Result<Route, Close> },
    /// A link to another node is gone.
    LinkLost(u16),
    /// The node drains, or does not any more.
    Leave(Leave),
    /// Listens from now on; whether it does is answered.
    Listen(Vec<TcpListener>, Sender<io::Result<()>>),
    /// A sign of life is asked for.
    Pulse(Arc<Pulse>),
    /// Close everything and end.
    Stop,
    /// Do nothing until the sender is gone.
    #[cfg(test)]
    Hang(std::sync::mpsc::Receiver<()>),
}

/// Answers that count as unread until a data thread takes them.
#[derive(Debug)]
pub(crate) struct Told {
    events: Vec<StoreEvent>,
    bytes: usize,
    unread: Arc<AtomicUsize>,
}

impl Told {
    /// `bytes` are added to `unread`, until they are taken or dropped.
    pub(crate) fn new(events: Vec<StoreEvent>, bytes: usize, unread: &Arc<AtomicUsize>) -> Self {
        unread.fetch_add(bytes, Ordering::Relaxed);
        Self { events, bytes, unread: Arc::clone(unread) }
    }

    pub(crate) fn into_events(mut self) -> impl Iterator<Item = StoreEvent> {
        std::mem::take(&mut self.events).into_iter()
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.unread.fetch_sub(self.bytes, Ordering::Relaxed);
    }
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
            std::thread::park_timeout(PUSH_AGAIN);
        }
    }

    /// The same until then; gives it back if there is no room.
    pub(crate) fn push_until(&self, mut envelope: Envelope, deadline: Instant) -> Result<(), Envelope> {
        while let Err(back) = self.push(envelope) {
            if Instant::now() >= deadline {
                return Err(back);
            }
            envelope = back;
            std::thread::park_timeout(PUSH_AGAIN);
        }
        Ok(())
    }
}

/// What one thread sends to the others.
#[derive(Debug)]
pub(crate) struct Outgoing {
    mailboxes: Arc<[Mailbox]>,
    kept: Vec<VecDeque<Envelope>>,
    /// To sessions behind links, where there are links.
    relay: Option<Relay>,
    kept_for_links: VecDeque<(u16, Mail)>,
}

impl Outgoing {
    pub(crate) fn new(mailboxes: Arc<[Mailbox]>, relay: Option<Relay>) -> Self {
        let kept = mailboxes.iter().map(|_| VecDeque::new()).collect();
        Self { mailboxes, kept, relay, kept_for_links: VecDeque::new() }
    }

    pub(crate) fn door(&self, thread: u16) -> Option<&Door> {
        self.mailboxes.get(usize::from(thread)).map(|mailbox| &mailbox.door)
    }

    pub(crate) fn send(&mut self, thread: u16, envelope: Envelope) {
        let Some(kept) = self.kept.get_mut(usize::from(thread)) else { return };
        kept.push_back(envelope);
    }

    /// Mails a shard on another thread, of this node or behind a link. A session of a document that was lost is delivered nothing
    /// more.
    pub(crate) fn mail(&mut self, from: u16, to: u16, mail: Mail) {
        if let Mail::Close(session, close) = &mail
            && matches!(close.code, CloseCode::WrongRegion | CloseCode::ServiceRestart)
        {
            self.withhold(to, *session);
        }
        if to < FIRST_LINK {
            self.send(to, Envelope::Mail { from, mail });
        } else if self.relay.is_some() {
            self.kept_for_links.push_back((to, mail));
        }
    }

    fn withhold(&mut self, from_thread: u16, session: RemoteSession) {
        let kept = self.kept.get_mut(usize::from(from_thread)).into_iter().flatten();
        let of_thread = kept.filter_map(|envelope| match envelope {
            Envelope::Mail { mail, .. } => Some(mail),
            _ => None,
        });
        let links = self.kept_for_links.iter_mut();
        let of_link = links.filter_map(|(link, mail)| (*link == from_thread).then_some(mail));
        for mail in of_thread.chain(of_link) {
            if let Mail::Deliver { to, .. } = mail {
                to.retain(|kept| *kept != session);
            }
        }
    }

    /// Hands over as much as fits, as what thread `from` sends; true if something is left.
    pub(crate) fn flush(&mut self, from: u16) -> bool {
        let mut is_left = false;
        if let Some(relay) = &self.relay {
            while let Some(mail) = self.kept_for_links.pop_front() {
                if let Err(back) = relay.mail(from, mail) {
                    self.kept_for_links.push_front(back);
                    is_left = true;
                    break;
                }
            }
        }
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
