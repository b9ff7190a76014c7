//! The thread that keeps sessions in the Redis of the region: a [`Sessions`] core over it.
//!
//! It waits for nothing but its queue, its timers, notices and the answers to what it asked. It looks at the leases before it asks
//! for anything to be written, and before it says that anything is stored.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use pinwire_cluster::Standing;
use pinwire_protocol::close::Close;
use pinwire_registry::{Claim, DocumentName, Node};
use pinwire_session::{AskId, Effect, Loaded, OutOfReach, RedisSessions, Refused, Reply, Sessions, Settings};
use pinwire_session::{Bounds, Heard, Request as Asked};
use pinwire_shard::document::log::Position;
use pinwire_shard::{DocumentRef, Kept, NodeTag};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::{ClusterStats, Gates, StartError, came_to};
use crate::config::RedisUrl;
use crate::control::{Cause, Health};
use crate::data::{Envelope, Mailbox, Outgoing};
use crate::node::AbortOnPanic;
use crate::store::StoreEvent;

/// Requests of data threads that wait; they keep what does not fit.
const QUEUE: usize = 8_192;
/// Requests taken from the queue before answers and notices are looked at again.
const TAKEN_AT_ONCE: usize = 256;
/// Notices likewise.
const NOTICES_AT_ONCE: usize = 256;
/// The longest that an answer is waited for; the link gives up before.
const ANSWER_PATIENCE: Duration = Duration::from_secs(6);
/// How long a node that stops waits until everything is stored, and the others know that it has gone.
const STOP_PATIENCE: Duration = Duration::from_secs(3);
/// When a client comes back at the earliest whose session could not be opened; at the latest after twice that.
const RETRY_MS: u64 = 2_000;
/// When a full mailbox is tried again.
const RETRY: Duration = Duration::from_millis(1);
/// Nodes that have a number. Beyond it all get new ones: whom a document knew by an old one is gone for it.
const NODES_MAX: usize = 4_096;

/// Something that a data thread wants.
#[derive(Debug)]
pub(crate) enum Request {
    /// It opens a document that is held under a claim; the answer goes to this thread.
    Open { thread: u16, document: DocumentRef, name: Arc<DocumentName>, claim: Claim },
    /// Updates came.
    Append { name: Arc<DocumentName>, position: Position, updates: Vec<Box<[u8]>> },
    /// What the store lacks.
    PutBack { name: Arc<DocumentName>, position: Position, updates: Vec<Box<[u8]>> },
    /// Compaction made one update, and left some, of everything before a position.
    Rebase { name: Arc<DocumentName>, upto: Position, mark: u64, base: Arc<[u8]>, left: Vec<Box<[u8]>> },
    /// To be told to the other nodes that hold the document.
    Say { name: Arc<DocumentName>, message: Arc<[u8]> },
    /// The document is held under this claim from now on.
    Reclaimed { name: Arc<DocumentName>, claim: Claim },
    /// It is closed. `keep`: the session stays for who comes in the grace.
    Close { name: Arc<DocumentName>, keep: bool },
}

/// The way to the thread.
#[derive(Clone, Debug)]
pub(crate) struct SessionWay(mpsc::Sender<Request>);

impl SessionWay {
    /// Gives the request back if the queue is full. Once the thread has ended nothing is stored any more.
    pub(crate) fn send(&self, request: Request) -> Result<(), Request> {
        match self.0.try_send(request) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(request)) => Err(request),
        }
    }
}

/// What the thread works with.
#[derive(Debug)]
pub(crate) struct Around {
    pub(crate) url: RedisUrl,
    /// One life of this node.
    pub(crate) me: Node,
    pub(crate) settings: Settings,
    pub(crate) gates: Arc<Gates>,
    pub(crate) health: Arc<Health>,
    pub(crate) stats: Arc<ClusterStats>,
}

/// The running thread. Dropping it waits a little until everything is stored.
#[derive(Debug)]
pub(crate) struct SessionThread {
    pub(crate) way: SessionWay,
    mailboxes: Option<oneshot::Sender<Arc<[Mailbox]>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl SessionThread {
    /// The data threads run: they are answered from now on.
    pub(crate) fn started(&mut self, mailboxes: &Arc<[Mailbox]>) {
        if let Some(sender) = self.mailboxes.take() {
            // A thread that has ended has ended the process.
            let _ = sender.send(Arc::clone(mailboxes));
        }
    }
}

impl Drop for SessionThread {
    fn drop(&mut self) {
        drop((self.mailboxes.take(), self.stop.take()));
        if let Some(thread) = self.thread.take() {
            // A panic there has ended the process.
            let _ = thread.join();
        }
    }
}

/// Starts the thread.
///
/// # Errors
/// The system gives no thread, no timer or no random numbers.
pub(crate) fn start(around: Around) -> Result<SessionThread, StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let (sender, requests) = mpsc::channel(QUEUE);
    let (mailboxes, mailboxes_in) = oneshot::channel();
    let (stop, stopping) = oneshot::channel();
    let seed = getrandom::u64().map_err(|error| io::Error::other(error.to_string()))?;
    let link = {
        let _inside = runtime.enter();
        super::link(&around.url)?
    };
    let store = RedisSessions::new(link, Bounds::default());
    let thread = std::thread::Builder::new().name("session".to_owned()).spawn(move || {
        let guard = AbortOnPanic;
        runtime.block_on(async move {
            // Nothing is asked for before the data threads run.
            if let Ok(mailboxes) = mailboxes_in.await {
                Work::new(around, store, seed, requests, mailboxes).run(stopping).await;
            }
        });
        runtime.shutdown_background();
        std::mem::forget(guard);
    })?;
    let (mailboxes, stop, thread) = (Some(mailboxes), Some(stop), Some(thread));
    Ok(SessionThread { way: SessionWay(sender), mailboxes, stop, thread })
}

/// A document that a data thread has open, or opens.
#[derive(Debug)]
struct Open {
    thread: u16,
    document: DocumentRef,
    /// What was given to be stored, up to here, and is not all stored yet.
    unstored: Option<Position>,
}

impl Open {
    /// Positions wrap.
    fn stored(&mut self, upto: Position) {
        let is_all = |unstored: Position| upto.wrapping_sub(unstored).cast_signed() >= 0;
        if self.unstored.is_some_and(is_all) {
            self.unstored = None;
        }
    }
}

struct Work {
    core: Sessions,
    store: RedisSessions,
    me: Node,
    asked: JoinSet<(AskId, Result<Reply, OutOfReach>)>,
    requests: mpsc::Receiver<Request>,
    open: HashMap<DocumentName, Open>,
    /// The numbers of other nodes.
    tags: HashMap<Node, NodeTag>,
    next_tag: u32,
    /// For each data thread.
    news: Vec<Vec<StoreEvent>>,
    outgoing: Outgoing,
    gates: Arc<Gates>,
    health: Arc<Health>,
    stats: Arc<ClusterStats>,
    may_write: bool,
}

impl Work {
    fn new(
        around: Around,
        store: RedisSessions,
        seed: u64,
        requests: mpsc::Receiver<Request>,
        mailboxes: Arc<[Mailbox]>,
    ) -> Self {
        let Around { me, settings, gates, health, stats, .. } = around;
        Self {
            core: Sessions::new(me.clone(), settings, seed),
            store,
            me,
            asked: JoinSet::new(),
            requests,
            open: HashMap::new(),
            tags: HashMap::new(),
            next_tag: 0,
            news: mailboxes.iter().map(|_| Vec::new()).collect(),
            outgoing: Outgoing::new(mailboxes, None),
            gates,
            health,
            stats,
            may_write: false,
        }
    }

    async fn run(mut self, mut stopping: oneshot::Receiver<()>) {
        let mut notices = self.store.listen(&self.me);
        loop {
            let due = self.go_on();
            tokio::select! {
                Some(joined) = self.asked.join_next(), if !self.asked.is_empty() => {
                    let (ask, reply) = came_to(joined);
                    self.begin();
                    self.core.replied(ask, reply);
                }
                told = notices.next() => {
                    self.begin();
                    self.told(told);
                    for _ in 1..NOTICES_AT_ONCE {
                        let Some(told) = notices.try_next() else { break };
                        self.told(told);
                    }
                }
                Some(request) = self.requests.recv() => self.wanted(request),
                () = self.gates.changed() => {}
                () = sleep_until(due) => {}
                _ = &mut stopping => break,
            }
        }
        self.end().await;
    }

    /// The time, and whether anything may be written, before anything is put in.
    fn begin(&mut self) {
        let now_us = self.gates.now_us();
        self.may_write = self.gates.standing() == Standing::Valid;
        self.core.begin(now_us);
        self.core.lease(self.may_write);
    }

    /// Does what is due, and says when to come again.
    fn go_on(&mut self) -> Instant {
        self.begin();
        self.run_effects();
        self.stats.sessions.set(self.open.len() as u64);
        for (thread, news) in self.news.iter_mut().enumerate().filter(|(_, news)| !news.is_empty()) {
            self.outgoing.send(thread as u16, Envelope::Store(std::mem::take(news)));
        }
        let retry = self.outgoing.flush(0).then(|| Instant::now() + RETRY);
        let due = self.core.next_deadline_us().and_then(|us| self.gates.at(us)).map(Instant::from_std);
        let far = || Instant::now() + STOP_PATIENCE;
        retry.into_iter().chain(due).min().unwrap_or_else(far)
    }

    fn told(&mut self, told: Heard) {
        match told {
            Heard::Notice(notice) => self.core.notice(notice),
            Heard::Missed => self.core.missed(),
        }
    }

    fn wanted(&mut self, request: Request) {
        self.begin();
        self.want(request);
        for _ in 1..TAKEN_AT_ONCE {
            let Ok(request) = self.requests.try_recv() else { return };
            self.want(request);
        }
    }

    fn want(&mut self, request: Request) {
        match request {
            Request::Open { thread, document, name, claim } => {
                // What is still to be said is about what was open before under this name.
                self.run_effects();
                self.core.open((*name).clone(), claim);
                self.open.insert((*name).clone(), Open { thread, document, unstored: None });
            }
            Request::Append { name, position, updates } => {
                self.note_unstored(&name, position);
                self.core.append(&name, position, updates);
            }
            Request::PutBack { name, position, updates } => {
                if !updates.is_empty() {
                    self.note_unstored(&name, position);
                    self.stats.session_put_back.more(updates.len() as u64);
                }
                self.core.put_back(&name, position, updates);
            }
            Request::Rebase { name, upto, mark, base, left } => {
                self.core.rebase(&name, upto, mark, base, left);
            }
            Request::Say { name, message } => self.core.say(&name, message),
            Request::Reclaimed { name, claim } => self.core.reclaimed(&name, claim),
            Request::Close { name, keep } => {
                self.run_effects();
                self.open.remove(&*name);
                self.core.close(&name, keep);
            }
        }
    }

    fn note_unstored(&mut self, name: &DocumentName, position: Position) {
        if let Some(open) = self.open.get_mut(name) {
            open.unstored = Some(position);
        }
    }

    fn run_effects(&mut self) {
        while let Some(effect) = self.core.next_effect() {
            match effect {
                Effect::Ask(ask, request) => self.ask(ask, request),
                Effect::Opened(name, outcome) => {
                    let outcome = match outcome {
                        Ok(loaded) => Ok(self.kept(loaded)),
                        Err(refused) => {
                            tracing::debug!(document = %name, %refused, "a session cannot be opened");
                            if let Refused::Fenced(claim) = refused {
                                self.note(&name, |document| StoreEvent::Fenced(document, claim));
                            }
                            Err(Close::try_again(retry_ms()))
                        }
                    };
                    self.note(&name, |document| StoreEvent::Opened(document, outcome));
                }
                Effect::Stored(name, position) => {
                    if let Some(open) = self.open.get_mut(&name) {
                        open.stored(position);
                    }
                    self.note(&name, |document| StoreEvent::Stored(document, position));
                }
                Effect::Foreign(name, mark, updates) => {
                    self.note(&name, |document| StoreEvent::Foreign(document, mark, updates));
                }
                Effect::Reloading(name) => self.note(&name, StoreEvent::Reloading),
                Effect::Reload(name, mark, loaded) => {
                    self.stats.session_reloads.one();
                    let kept = self.kept(loaded);
                    self.note(&name, |document| StoreEvent::Reload(document, mark, kept));
                }
                Effect::Said(name, node, message) => {
                    let tag = self.tag(&node);
                    self.note(&name, |document| StoreEvent::Said(document, tag, message));
                }
                Effect::Joined(name, node) => {
                    let tag = self.tag(&node);
                    self.note(&name, |document| StoreEvent::Joined(document, tag));
                }
                Effect::Left(name, node) => {
                    let tag = self.tag(&node);
                    self.note(&name, |document| StoreEvent::Left(document, tag));
                }
                Effect::Fenced(name, claim) => {
                    tracing::warn!(document = %name, %claim, "the session belongs to a newer claim; nothing is stored");
                    self.note(&name, |document| StoreEvent::Fenced(document, claim));
                }
                Effect::Full(name) => {
                    tracing::warn!(document = %name, "the region's Redis has no room for a document; edits wait");
                }
                Effect::Room(name) => tracing::info!(document = %name, "there is room again"),
                Effect::Reach(is_reached) => self.reach(is_reached),
            }
        }
    }

    fn ask(&mut self, ask: AskId, request: Asked) {
        // The process may have been stopped since this turn began.
        let is_write = !matches!(request, Asked::Beat { .. } | Asked::Heads { .. });
        if is_write && self.gates.standing() != Standing::Valid {
            self.core.lease(false);
            return self.core.replied(ask, Err(OutOfReach));
        }
        if let Asked::Append { updates, .. } = &request {
            self.stats.session_appends.one();
            self.stats.session_updates.more(updates.len() as u64);
        }
        let (store, stats) = (self.store.clone(), Arc::clone(&self.stats));
        self.asked.spawn(async move {
            let began = Instant::now();
            let reply = timeout(ANSWER_PATIENCE, store.ask(&request)).await.unwrap_or(Err(OutOfReach));
            match &reply {
                Ok(_) => stats.session_times.note(began.elapsed()),
                Err(_) => stats.session_unanswered.one(),
            }
            (ask, reply)
        });
    }

    fn note(&mut self, name: &DocumentName, event: impl FnOnce(DocumentRef) -> StoreEvent) {
        if let Some(open) = self.open.get(name)
            && let Some(news) = self.news.get_mut(usize::from(open.thread))
        {
            news.push(event(open.document));
        }
    }

    fn kept(&mut self, Loaded { base, tail, nodes, .. }: Loaded) -> Kept {
        Kept { base, tail, nodes: nodes.iter().map(|node| self.tag(node)).collect() }
    }

    /// The same number for the same life of a node.
    fn tag(&mut self, node: &Node) -> NodeTag {
        if let Some(tag) = self.tags.get(node) {
            return *tag;
        }
        if self.tags.len() == NODES_MAX {
            self.tags.clear();
        }
        let tag = NodeTag(self.next_tag);
        self.next_tag = (self.next_tag + 1) & (u32::MAX >> 2);
        self.tags.insert(node.clone(), tag);
        tag
    }

    fn reach(&mut self, is_reached: bool) {
        for news in &mut self.news {
            news.push(StoreEvent::Away(!is_reached));
        }
        if !self.health.note(Cause::Sessions, !is_reached) {
            return;
        }
        if is_reached {
            tracing::info!("the region's Redis is back, and has everything that this node has");
        } else {
            tracing::error!(
                "the region's Redis is out of reach: edits go on and are acknowledged once it is back"
            );
        }
    }

    /// What is not stored is stored, if that can be, and the other nodes are told that this one has gone.
    async fn end(mut self) {
        let deadline = Instant::now() + STOP_PATIENCE;
        while let Ok(request) = self.requests.try_recv() {
            self.begin();
            self.want(request);
        }
        let mut is_closing = false;
        loop {
            let due = self.go_on();
            let is_stored = self.open.values().all(|open| open.unstored.is_none());
            if !is_closing && is_stored {
                is_closing = true;
                for name in std::mem::take(&mut self.open).into_keys() {
                    self.core.close(&name, true);
                }
                continue;
            }
            if is_closing && self.asked.is_empty() {
                return;
            }
            tokio::select! {
                Some(joined) = self.asked.join_next(), if !self.asked.is_empty() => {
                    let (ask, reply) = came_to(joined);
                    self.begin();
                    self.core.replied(ask, reply);
                }
                () = sleep_until(due) => {}
                () = sleep_until(deadline) => {
                    let unstored = self.open.values().filter(|open| open.unstored.is_some()).count();
                    return tracing::warn!(unstored, "the region's Redis does not answer; documents have edits that it lacks");
                }
            }
        }
    }
}

/// Spread, so that clients do not come back together. Without random numbers of the system they do.
fn retry_ms() -> u64 {
    RETRY_MS + getrandom::u32().map_or(0, u64::from) % RETRY_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_stored_once_a_position_as_late_as_the_last_is() {
        let document = DocumentRef { index: 3, serial: 1 };
        let after = |unstored, stored| {
            let mut open = Open { thread: 0, document, unstored: Some(unstored) };
            open.stored(stored);
            open.unstored
        };
        assert_eq!(after(10, 9), Some(10));
        assert_eq!(after(10, 10), None);
        assert_eq!(after(10, 12), None);
        assert_eq!(after(3, u32::MAX - 5), Some(3), "positions wrap");
        assert_eq!(after(u32::MAX - 5, 3), None);
    }
}
