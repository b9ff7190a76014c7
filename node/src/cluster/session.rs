//! The thread that keeps sessions in the Redis of the region: a [`Sessions`] core over it.
//!
//! It waits for nothing but its queue, its timers, notices and the answers to what it asked. It looks at the leases before it asks
//! for anything to be written, and before it says that anything is stored.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use pinwire_admin_api::events::What;
use pinwire_protocol::close::Close;
use pinwire_registry::{Claim, DocumentName, Node};
use pinwire_session::{AskId, Effect, Loaded, OutOfReach, RedisSessions, Refused, Reply, Sessions, Settings};
use pinwire_session::{Bounds, Heard, Request as Asked};
use pinwire_shard::document::log::Position;
use pinwire_shard::{DocumentRef, Kept, NodeTag};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::news::News;
use super::running::{Running, Signals, runtime};
use super::tags::Tags;
use super::{ClusterStats, Gates, StartError, came_to};
use crate::admin::Events;
use crate::config::RedisUrl;
use crate::data::Mailbox;
use crate::shedding::{Cause, Health};
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
/// The same while the document is being moved, which takes no longer.
const MOVING_MS: u64 = 300;
/// When a full mailbox is tried again, and whether data threads have caught up.
const RETRY: Duration = Duration::from_millis(1);

/// Something that a data thread wants.
#[derive(Debug)]
pub(crate) enum Request {
    /// It opens a document that is held under a claim; the answer goes to this thread.
    Open { thread: u16, document: DocumentRef, name: Arc<DocumentName>, claim: Claim, license: u8 },
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
    /// Something that came under this mark is no update.
    Unreadable { name: Arc<DocumentName>, mark: u64 },
    /// A data thread is about to end: it is told once nothing of its documents is on its way or in doubt.
    Settle { thread: u16 },
    /// It is closed.
    Close { name: Arc<DocumentName> },
    /// Something is asked of the store that is not about a document of a data thread.
    Ask(Box<Asked>, u64, oneshot::Sender<Reply>),
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

    /// Asks the store; `None`: it did not answer, or the node has no lease in the registry of one of these license regions, a bit
    /// for each number.
    pub(crate) async fn ask(&self, request: Asked, licenses: u64) -> Option<Reply> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Request::Ask(Box::new(request), licenses, reply)).await.ok()?;
        answer.await.ok()
    }
}

#[cfg(test)]
impl SessionWay {
    /// A way without a thread, whose queue holds so many, and its other end.
    pub(crate) fn to_a_test(queue: usize) -> (Self, mpsc::Receiver<Request>) {
        let (sender, requests) = mpsc::channel(queue);
        (Self(sender), requests)
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
    pub(crate) events: Option<Arc<Events>>,
}

/// Starts the thread. Once its handle is dropped it waits a little until everything is stored.
///
/// # Errors
/// The system gives no thread, no timer or no random numbers.
pub(crate) fn start(around: Around) -> Result<Running<SessionWay>, StartError> {
    let runtime = runtime()?;
    let (sender, requests) = mpsc::channel(QUEUE);
    let seed = getrandom::u64().map_err(|error| io::Error::other(error.to_string()))?;
    let link = {
        let _inside = runtime.enter();
        super::link(&around.url)?
    };
    let store = RedisSessions::new(link, Bounds::default());
    let work = async move |Signals { mailboxes, stopping }: Signals| {
        // Nothing is asked for before the data threads run.
        if let Ok(mailboxes) = mailboxes.await {
            Work::new(around, store, seed, requests, mailboxes).run(stopping).await;
        }
    };
    Ok(Running::start("session", runtime, SessionWay(sender), work)?)
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
    tags: Tags,
    news: News,
    /// Data threads that end once their documents are settled.
    ending: BTreeSet<u16>,
    /// Documents for which there is no room.
    full: BTreeSet<DocumentName>,
    gates: Arc<Gates>,
    health: Arc<Health>,
    stats: Arc<ClusterStats>,
    events: Option<Arc<Events>>,
}

impl Work {
    fn new(
        around: Around,
        store: RedisSessions,
        seed: u64,
        requests: mpsc::Receiver<Request>,
        mailboxes: Arc<[Mailbox]>,
    ) -> Self {
        let Around { me, settings, gates, health, stats, events, .. } = around;
        Self {
            core: Sessions::new(me.clone(), settings, seed),
            store,
            me,
            asked: JoinSet::new(),
            requests,
            open: HashMap::new(),
            tags: Tags::default(),
            news: News::new(mailboxes),
            ending: BTreeSet::new(),
            full: BTreeSet::new(),
            gates,
            health,
            stats,
            events,
        }
    }

    async fn run(mut self, mut stopping: oneshot::Receiver<()>) {
        let mut notices = self.store.listen(&self.me);
        loop {
            let due = self.go_on();
            let is_held_up = self.news.is_held_up();
            tokio::select! {
                Some(joined) = self.asked.join_next(), if !self.asked.is_empty() => {
                    let (ask, reply) = came_to(joined);
                    self.begin();
                    if reply.is_ok() {
                        self.gates.note_sessions();
                    }
                    self.core.replied(ask, reply);
                }
                told = notices.next(), if !is_held_up => {
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

    /// The time, and what may be written, before anything is put in.
    fn begin(&mut self) {
        let now_us = self.gates.now_us();
        self.core.begin(now_us);
        self.core.lease(self.gates.lapsed());
    }

    /// Does what is due, and says when to come again.
    fn go_on(&mut self) -> Instant {
        self.begin();
        self.run_effects();
        self.let_go_of_threads();
        self.stats.sessions.set(self.open.len() as u64);
        self.stats.sessions_full.set(self.full.len() as u64);
        let is_left = self.news.hand_over() || self.news.is_held_up();
        let retry = is_left.then(|| Instant::now() + RETRY);
        let due = self.core.next_deadline_us().and_then(|us| self.gates.at(us)).map(Instant::from_std);
        let far = || Instant::now() + STOP_PATIENCE;
        retry.into_iter().chain(due).min().unwrap_or_else(far)
    }

    /// Tells data threads that are about to end that there is nothing left for which they would be needed. Without a lease nothing
    /// can be stored.
    fn let_go_of_threads(&mut self) {
        let (open, core) = (&self.open, &self.core);
        let is_settled = |thread: &u16| {
            let mut of_thread = open.iter().filter(|(_, open)| open.thread == *thread);
            of_thread
                .all(|(name, open)| core.is_lapsed(name) || open.unstored.is_none() && core.is_settled(name))
        };
        let settled: Vec<u16> = self.ending.iter().copied().filter(is_settled).collect();
        for thread in settled {
            self.ending.remove(&thread);
            self.news.tell(thread, StoreEvent::Settled);
        }
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
            Request::Open { thread, document, name, claim, license } => {
                // What is still to be said is about what was open before under this name.
                self.run_effects();
                self.core.open((*name).clone(), claim, license);
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
            Request::Unreadable { name, mark } => self.unreadable(&name, mark),
            Request::Settle { thread } => _ = self.ending.insert(thread),
            Request::Ask(asked, licenses, reply) => self.ask_for(*asked, licenses, reply),
            Request::Close { name } => {
                self.run_effects();
                self.open.remove(&*name);
                self.full.remove(&*name);
                self.core.close(&name);
            }
        }
    }

    fn unreadable(&mut self, name: &DocumentName, mark: u64) {
        let Some(head) = self.core.unreadable(name, mark) else { return };
        self.stats.session_unreadable.one();
        let (key, entry) = (RedisSessions::key(name), head.seq);
        tracing::error!(
            document = %name, key, entry,
            "the region's Redis has an entry that is no update, this one or one before: nothing is compacted from there on"
        );
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
                            let is_moving = refused == Refused::Moving;
                            if is_moving {
                                self.note(&name, StoreEvent::Moving);
                            }
                            Err(Close::try_again(if is_moving { MOVING_MS } else { retry_ms() }))
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
                Effect::Reclaimed(name, claim) => {
                    self.note(&name, |document| StoreEvent::Reclaimed(document, claim));
                }
                Effect::Full(name) => self.is_full(name, true),
                Effect::Room(name) => self.is_full(name, false),
                Effect::GivenUp(name) => self.is_given_up(&name),
                Effect::Reach(is_reached) => self.reach(is_reached),
            }
        }
    }

    fn ask(&mut self, ask: AskId, request: Asked) {
        // The process may have been stopped since this turn began.
        self.core.lease(self.gates.lapsed());
        if !self.core.may_ask(ask) {
            return self.core.unasked(ask);
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

    /// Asks in another's stead, who hears nothing if there is no answer.
    fn ask_for(&self, request: Asked, licenses: u64, reply: oneshot::Sender<Reply>) {
        if self.gates.lapsed() & licenses != 0 {
            return;
        }
        let (store, stats) = (self.store.clone(), Arc::clone(&self.stats));
        tokio::spawn(async move {
            match timeout(ANSWER_PATIENCE, store.ask(&request)).await {
                // Whoever asked may have given up.
                Ok(Ok(answer)) => _ = reply.send(answer),
                _ => stats.session_unanswered.one(),
            }
        });
    }

    fn is_full(&mut self, name: DocumentName, is_full: bool) {
        if is_full {
            tracing::warn!(document = %name, "the region's Redis has no room for a document, which takes no edits");
        } else {
            tracing::info!(document = %name, "there is room again");
        }
        self.note(&name, |document| StoreEvent::Full(document, is_full));
        if is_full && self.open.contains_key(&name) {
            self.full.insert(name);
        } else {
            self.full.remove(&name);
        }
    }

    fn is_given_up(&mut self, name: &DocumentName) {
        tracing::error!(
            document = %name,
            "the region's Redis had no room for a document for too long: its clients are sent away, with what is not stored"
        );
        self.stats.sessions_given_up.one();
        if let Some(events) = &self.events {
            events.note(What::DocumentGivenUp { document: name.to_string() });
        }
        self.note(name, StoreEvent::GivenUp);
    }

    fn note(&mut self, name: &DocumentName, event: impl FnOnce(DocumentRef) -> StoreEvent) {
        if let Some(open) = self.open.get(name) {
            self.news.tell(open.thread, event(open.document));
        }
    }

    fn kept(&mut self, Loaded { base, tail, nodes, .. }: Loaded) -> Kept {
        Kept { base, tail, nodes: nodes.iter().map(|node| self.tag(node)).collect() }
    }

    fn tag(&mut self, node: &Node) -> NodeTag {
        let (tag, forgotten) = self.tags.of(node);
        if let Some(forgotten) = forgotten {
            self.news.tell_all(|| StoreEvent::Forgotten(forgotten));
        }
        tag
    }

    fn reach(&mut self, is_reached: bool) {
        self.news.tell_all(|| StoreEvent::Away(!is_reached));
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
            // Data threads have ended: what only they could put back is not waited for.
            let is_stored = self
                .open
                .iter()
                .all(|(name, open)| open.unstored.is_none() || self.core.awaits_put_back(name));
            if !is_closing && is_stored {
                is_closing = true;
                for name in std::mem::take(&mut self.open).into_keys() {
                    self.core.close(&name);
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
