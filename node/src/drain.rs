//! How a node leaves: out of DNS and not ready, then it takes nobody, then its clients are closed by and by.
//!
//! A thread of its own goes through the stages, and each data thread closes its share ([`crate::data::Leave`]). Whoever began it
//! may take it back, even when the listeners are closed: there are others then. Where another process has taken over, this one keeps
//! its listeners without accepting from them: should the other one be lost, it goes on as if nobody had.

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use pinwire_admin_api::events::What;
use pinwire_shed::Windows;
use tokio::sync::watch;

use crate::admin::Events;
use crate::config::DrainTimes;
use crate::data::{Envelope, Leave, Mailbox, Unanswered};
use crate::dns::Dns;
use crate::peer::Relay;
use crate::shedding::Health;

/// A provider may take so long to take the node's addresses out before nobody waits for it any more.
const DNS_PATIENCE: Duration = Duration::from_secs(10);
/// Operators may ask before the data threads run.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// For all data threads to have room for what they are told. One that hangs does not hold up the drain: the others go on, and the
/// deadline comes.
const TAKE_PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks at what tells nobody of a change.
const LOOK: Duration = Duration::from_millis(100);

/// Where a node is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Stage {
    /// It is not.
    #[default]
    Serving,
    /// Its addresses are being taken out of DNS; it takes who comes.
    LeavingDns,
    /// They are out, and it still takes who comes.
    Leaving,
    /// It takes nobody, and closes its clients by and by.
    Closing,
    /// All are gone, or the time is over.
    Over,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Where.
    pub stage: Stage,
    /// Connections now.
    pub connections: u32,
    /// Connections when it began.
    pub connections_before: u32,
    /// Sessions that other nodes carry here, now.
    pub carried: u32,
    /// Since when.
    pub since: Option<Instant>,
    /// When it is over at the latest, as far as that is known.
    pub deadline: Option<Instant>,
}

/// Why a drain is not taken back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotStay {
    /// There is none.
    #[error("the node does not drain")]
    Serving,
    /// Its end was asked for.
    #[error("the node is about to end")]
    Ending,
    /// Another process has its addresses.
    #[error("another process has taken over")]
    Succeeded,
    /// Its addresses are not to be had.
    #[error("the node cannot listen again: {0}")]
    Listen(String),
}

/// Listens again, for each data thread.
pub(crate) type Listen = Box<dyn Fn() -> io::Result<OfThreads> + Send + Sync>;

/// The node's drain, for whoever begins it, asks, or waits.
#[derive(Clone, Debug)]
pub struct Drains(Arc<Inner>);

struct Inner {
    times: DrainTimes,
    epoch: Instant,
    health: Arc<Health>,
    events: Option<Arc<Events>>,
    connections: Arc<AtomicU32>,
    unanswered: Arc<Unanswered>,
    carried: Arc<AtomicU32>,
    handshake: Duration,
    dns: Option<Dns>,
    running: OnceLock<Running>,
    state: Mutex<State>,
    changed: Condvar,
    /// The stage, for whoever waits for it and for other things.
    stages: watch::Sender<Stage>,
}

/// What a drain goes by once the data threads run.
pub(crate) struct Running {
    pub(crate) mailboxes: Arc<[Mailbox]>,
    pub(crate) listen: Listen,
    /// To other nodes, where there are links.
    pub(crate) relay: Option<Relay>,
}

/// Listeners of each data thread, in its order.
pub(crate) type OfThreads = Vec<Vec<TcpListener>>;

#[derive(Default)]
struct State {
    stage: Stage,
    /// Which drain it is: another one is none of an earlier thread's business.
    number: u64,
    connections_before: u32,
    since: Option<Instant>,
    deadline: Option<Instant>,
    /// The process ends with it.
    is_ending: bool,
    /// The node is ready to be in its region's name.
    may_join: bool,
    /// Another process has the addresses: nobody is sent away by DNS, and nobody comes any more.
    is_succeeded: bool,
    /// Copies of the listeners for a process that takes over, and for this one should that be lost: while one is open the port is.
    copies: OfThreads,
}

/// Why a drain begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// Somebody may take it back.
    Drain,
    /// The process ends with it.
    End,
    /// Another process has the addresses, and this one ends.
    Succeeded,
}

/// A drain that may be taken back, as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct MayStay {
    number: u64,
    /// The listeners are closed, or about to be.
    is_closed: bool,
}

impl State {
    fn may_stay(&self) -> Result<MayStay, CannotStay> {
        match self {
            Self { stage: Stage::Serving, .. } => Err(CannotStay::Serving),
            Self { is_succeeded: true, .. } => Err(CannotStay::Succeeded),
            Self { is_ending: true, .. } => Err(CannotStay::Ending),
            Self { number, stage, .. } => {
                Ok(MayStay { number: *number, is_closed: matches!(stage, Stage::Closing | Stage::Over) })
            }
        }
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Drains").field("times", &self.times).finish_non_exhaustive()
    }
}

/// What a drain is made of.
pub(crate) struct Around {
    pub(crate) times: DrainTimes,
    pub(crate) epoch: Instant,
    pub(crate) health: Arc<Health>,
    pub(crate) events: Option<Arc<Events>>,
    pub(crate) connections: Arc<AtomicU32>,
    pub(crate) unanswered: Arc<Unanswered>,
    /// Sessions that other nodes carry here.
    pub(crate) carried: Arc<AtomicU32>,
    /// How long a handshake may take.
    pub(crate) handshake: Duration,
    pub(crate) dns: Option<Dns>,
}

impl Drains {
    pub(crate) fn new(around: Around) -> Self {
        let Around { times, epoch, health, events, connections, unanswered, carried, handshake, dns } =
            around;
        Self(Arc::new(Inner {
            times,
            epoch,
            health,
            events,
            connections,
            unanswered,
            carried,
            handshake,
            dns,
            running: OnceLock::new(),
            state: Mutex::default(),
            changed: Condvar::new(),
            stages: watch::Sender::new(Stage::Serving),
        }))
    }

    /// Of a node that does not run.
    #[cfg(test)]
    pub(crate) fn idle() -> Self {
        Self::idle_with(DrainTimes::default())
    }

    #[cfg(test)]
    pub(crate) fn idle_with(times: DrainTimes) -> Self {
        Self::new(Around {
            times,
            epoch: Instant::now(),
            health: Arc::default(),
            events: None,
            connections: Arc::default(),
            unanswered: Arc::new(Unanswered::new(0)),
            carried: Arc::default(),
            handshake: Duration::ZERO,
            dns: None,
        })
    }

    /// The data threads run. `copies` are their listeners once more.
    pub(crate) fn started(&self, running: Running, copies: OfThreads) {
        let _ = self.0.running.set(running);
        self.0.lock().copies = copies;
    }

    /// Begins to drain, and says whether that is news. `why` is for the log.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn begin(&self, why: &str) -> io::Result<bool> {
        self.begin_as(why, How::Drain)
    }

    /// The same, and the process ends with it: it is not taken back any more, even if it had begun before.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn end(&self, why: &str) -> io::Result<bool> {
        self.begin_as(why, How::End)
    }

    /// Another process takes who comes from now on: the rest are closed by and by.
    pub(crate) fn succeeded(&self) -> io::Result<bool> {
        self.begin_as("another process has taken over", How::Succeeded)
    }

    fn begin_as(&self, why: &str, how: How) -> io::Result<bool> {
        let is_succeeded = how == How::Succeeded;
        let inner = Arc::clone(&self.0);
        let mut state = inner.lock();
        state.is_ending |= how == How::End;
        if state.is_ending && state.is_succeeded {
            // Nobody accepts from them any more: whoever comes is not to wait there.
            state.copies.clear();
        }
        if state.stage != Stage::Serving {
            return Ok(false);
        }
        let connections = self.0.connections.load(Ordering::Relaxed);
        state.number += 1;
        let number = state.number;
        let later = Arc::clone(&self.0);
        std::thread::Builder::new().name("drain".to_owned()).spawn(move || later.run(number))?;
        state.stage = if is_succeeded { Stage::Leaving } else { Stage::LeavingDns };
        (state.connections_before, state.since, state.deadline) = (connections, Some(Instant::now()), None);
        state.is_succeeded = is_succeeded;
        self.0.stages.send_replace(state.stage);
        drop(state);
        self.0.health.drain();
        if let Some(dns) = self.0.dns.as_ref() {
            if is_succeeded { dns.rest() } else { dns.drain(why) }
        }
        let carried = self.0.carried.load(Ordering::Relaxed);
        tracing::info!(why, connections, carried, "draining");
        self.0.note(What::Draining { why: why.to_owned(), connections: connections.into() });
        Ok(true)
    }

    /// Takes it back. Waits for a moment for ports that are not free yet.
    ///
    /// # Errors
    /// It cannot be.
    pub fn cancel(&self) -> Result<(), CannotStay> {
        let Some(running) = self.0.running.get() else {
            return Err(self.0.lock().may_stay().err().unwrap_or(CannotStay::Ending));
        };
        let (mut state, listeners) = loop {
            let before = self.0.lock().may_stay()?;
            // Not within the lock: a port that is not free yet is waited for.
            let listeners = match before.is_closed {
                true => (running.listen)().map_err(|error| CannotStay::Listen(error.to_string()))?,
                false => Vec::new(),
            };
            let state = self.0.lock();
            if state.may_stay()? == before {
                break (state, listeners);
            }
        };
        if !listeners.is_empty() {
            // Without copies it serves all the same, and nobody can take over from it.
            state.copies = again(&listeners).unwrap_or_default();
        }
        self.stay(state, running, listeners);
        Ok(())
    }

    /// The process that has taken over is lost: this one takes who comes, from the same queues, and keeps whom it has.
    ///
    /// # Errors
    /// It is about to end, or no process had taken over.
    pub(crate) fn resume(&self) -> Result<(), CannotStay> {
        let running = self.0.running.get().ok_or(CannotStay::Serving)?;
        let mut state = self.0.lock();
        match &*state {
            State { is_ending: true, .. } => return Err(CannotStay::Ending),
            State { is_succeeded: false, .. } => return Err(CannotStay::Serving),
            _ => {}
        }
        let listeners = again(&state.copies).map_err(|error| CannotStay::Listen(error.to_string()))?;
        state.is_succeeded = false;
        self.stay(state, running, listeners);
        Ok(())
    }

    /// It does not drain any more, and listens on these where its listeners are closed.
    fn stay(&self, mut state: MutexGuard<'_, State>, running: &Running, listeners: OfThreads) {
        state.number += 1;
        let (number, may_join) = (state.number, state.may_join);
        (state.stage, state.since, state.deadline) = (Stage::Serving, None, None);
        self.0.stages.send_replace(Stage::Serving);
        drop(state);
        self.0.changed.notify_all();
        self.0.health.cancel_drain();
        if let Some(relay) = &running.relay {
            relay.leave(false);
        }
        if let Some(dns) = self.0.dns.as_ref().filter(|_| may_join) {
            dns.serve();
        }
        let mut listeners = listeners.into_iter();
        let deadline = Instant::now() + TAKE_PATIENCE;
        for mailbox in running.mailboxes.iter() {
            let listeners = listeners.next().unwrap_or_default();
            tell(mailbox, Leave::Cancel { number, listeners }, deadline);
        }
        tracing::info!("the node does not drain any more");
        self.0.note(What::DrainCancelled);
    }

    /// The node is ready: it is to be in its region's name, unless it drains, and when it does not any more.
    pub(crate) fn may_join(&self) {
        let mut state = self.0.lock();
        state.may_join = true;
        // Within the lock: a drain that begins says so afterwards.
        if let Some(dns) = self.0.dns.as_ref().filter(|_| state.stage == Stage::Serving) {
            dns.serve();
        }
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.0.progress(&self.0.lock())
    }

    /// Waits until it is over, and tells of it now and then.
    pub fn wait(&self, every: Duration, mut tell: impl FnMut(&Progress)) {
        let mut state = self.0.lock();
        while state.stage != Stage::Over && state.stage != Stage::Serving {
            let progress = self.0.progress(&state);
            drop(state);
            tell(&progress);
            state = self.0.lock();
            if !matches!(state.stage, Stage::Over | Stage::Serving) {
                let waited = self.0.changed.wait_timeout(state, every);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }

    /// The same, for whoever waits for other things, too.
    pub async fn over(&self) {
        let mut stages = self.0.stages.subscribe();
        // Its sender is here.
        let _ = stages.wait_for(|stage| *stage == Stage::Over).await;
    }

    /// Copies of the listeners, while the node takes who comes.
    pub(crate) fn copies(&self) -> io::Result<Vec<OwnedFd>> {
        Ok(again(&self.0.lock().copies)?.into_iter().flatten().map(OwnedFd::from).collect())
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, what: What) {
        if let Some(events) = &self.events {
            events.note(what);
        }
    }

    fn progress(&self, state: &State) -> Progress {
        Progress {
            stage: state.stage,
            connections: self.connections.load(Ordering::Relaxed),
            connections_before: state.connections_before,
            carried: self.carried.load(Ordering::Relaxed),
            since: state.since,
            deadline: state.deadline,
        }
    }

    /// The thread of the drain of this number.
    fn run(&self, number: u64) {
        let has_started = || self.running.get().is_some();
        if !self.wait_until(number, Instant::now() + START_PATIENCE, has_started) {
            return;
        }
        let Some(running) = self.running.get() else {
            tracing::error!("the node's threads do not start: it cannot drain");
            self.enter(number, Stage::Over, None);
            return;
        };
        let is_succeeded = self.lock().is_succeeded;
        let patience = Instant::now() + DNS_PATIENCE;
        let is_out = || is_succeeded || self.dns.as_ref().is_none_or(Dns::is_out);
        if !self.wait_until(number, patience, is_out) {
            return;
        }
        if !is_out() {
            tracing::warn!("the node's addresses are still in DNS; it does not wait for that any longer");
        }
        let leave = if is_succeeded { Duration::ZERO } else { self.times.leave };
        let closes = Instant::now() + leave;
        let deadline = closes + self.times.window;
        if !self.enter(number, Stage::Leaving, Some(deadline)) {
            return;
        }
        // The last whose turn comes has a little time as well to say that it has heard, before all is over.
        let close = self.times.window * 9 / 10;
        let windows = Windows { leave_us: micros(leave), close_us: micros(close) };
        let began_us = micros(self.epoch.elapsed());
        let heard_by = Instant::now() + TAKE_PATIENCE;
        for mailbox in running.mailboxes.iter() {
            tell(mailbox, Leave::Begin { number, windows, began_us, is_succeeded }, heard_by);
        }
        if !self.wait_until(number, closes, || false) || !self.enter(number, Stage::Closing, Some(deadline)) {
            return;
        }
        let is_answered = || self.unanswered.is_nobody();
        let count = |of: &AtomicU32| of.load(Ordering::SeqCst);
        // Who is answered is counted before: this order misses nobody.
        let is_empty = || is_answered() && count(&self.connections) == 0 && count(&self.carried) == 0;
        if !self.wait_until(number, deadline, is_empty) {
            return;
        }
        // However short the window: nobody whom this process accepted and was going to serve is cut off in its handshake.
        let answered_by = if is_succeeded { closes + self.handshake } else { deadline };
        if self.wait_until(number, answered_by, is_answered)
            && self.enter(number, Stage::Over, Some(deadline))
        {
            let (connections, carried) = (count(&self.connections), count(&self.carried));
            tracing::info!(connections, carried, "drained");
            self.note(What::Drained { connections: connections.into() });
        }
    }

    /// Waits until something holds or the time is over; false if this drain is none any more.
    fn wait_until(&self, number: u64, deadline: Instant, holds: impl Fn() -> bool) -> bool {
        let mut state = self.lock();
        loop {
            if state.number != number {
                return false;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || holds() {
                return true;
            }
            let waited = self.changed.wait_timeout(state, left.min(LOOK));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// False if this drain is none any more.
    fn enter(&self, number: u64, stage: Stage, deadline: Option<Instant>) -> bool {
        let mut state = self.lock();
        if state.number != number {
            return false;
        }
        (state.stage, state.deadline) = (stage, deadline);
        if stage == Stage::Closing {
            if !state.is_succeeded {
                state.copies.clear();
            }
            // Within the lock: whoever takes it back says so afterwards.
            if let Some(relay) = self.running.get().and_then(|running| running.relay.as_ref()) {
                relay.leave(true);
            }
        }
        self.stages.send_replace(stage);
        drop(state);
        self.changed.notify_all();
        true
    }
}

/// Each of them once more.
fn again(listeners: &OfThreads) -> io::Result<OfThreads> {
    let of_thread = |thread: &Vec<TcpListener>| thread.iter().map(TcpListener::try_clone).collect();
    listeners.iter().map(of_thread).collect()
}

/// Tells a data thread, unless it has no room until then.
fn tell(mailbox: &Mailbox, leave: Leave, deadline: Instant) {
    if mailbox.push_until(Envelope::Leave(leave), deadline).is_err() {
        tracing::error!("a data thread has no room for what it is told of the drain: it hangs");
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{channel, sync_channel};

    use super::*;

    /// Of a node that runs without data threads.
    fn running(listen: Listen) -> Drains {
        let drains = Drains::idle();
        start(&drains, Arc::from([]), listen);
        drains
    }

    fn start(drains: &Drains, mailboxes: Arc<[Mailbox]>, listen: Listen) {
        drains.started(Running { mailboxes, listen, relay: None }, Vec::new());
    }

    fn wait_for(drains: &Drains, stage: Stage) {
        while drains.progress().stage != stage {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_drain_that_the_process_ends_with_is_not_taken_back_from_its_first_moment() {
        let drains = running(Box::new(|| Ok(Vec::new())));
        assert!(drains.begin("an operator").unwrap());
        assert!(!drains.end("SIGTERM").unwrap(), "it is on already");
        assert_eq!(drains.cancel(), Err(CannotStay::Ending));
    }

    #[test]
    fn a_process_that_was_succeeded_stays_if_the_other_is_lost_unless_it_is_told_to_end() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let drains = Drains::idle_with(DrainTimes { leave: Duration::ZERO, window: Duration::ZERO });
        let nobody: Arc<[Mailbox]> = Arc::from([]);
        let running = Running { mailboxes: nobody, listen: Box::new(|| unreachable!()), relay: None };
        drains.started(running, vec![vec![listener]]);
        assert_eq!(drains.resume(), Err(CannotStay::Serving), "nobody has taken over");
        assert!(drains.succeeded().unwrap());
        wait_for(&drains, Stage::Over);
        assert_eq!(drains.cancel(), Err(CannotStay::Succeeded), "as long as the other is there");
        assert!(std::net::TcpStream::connect(address).is_ok(), "whoever comes waits in the queue");
        assert_eq!(drains.resume(), Ok(()));
        assert_eq!(drains.progress().stage, Stage::Serving);
        assert_eq!(drains.copies().unwrap().len(), 1, "another one may take over");
        assert!(drains.succeeded().unwrap());
        assert!(std::net::TcpStream::connect(address).is_ok());
        assert!(!drains.end("SIGTERM").unwrap());
        assert_eq!(drains.resume(), Err(CannotStay::Ending));
        assert!(std::net::TcpStream::connect(address).is_err(), "nobody waits for who has gone");
    }

    #[test]
    fn whoever_asks_is_answered_while_a_port_is_waited_for() {
        let (asked, asks) = channel();
        let (go, gone) = sync_channel(0);
        let gone = Mutex::new(gone);
        let drains = Drains::idle_with(DrainTimes { leave: Duration::ZERO, window: Duration::ZERO });
        let listen = move || {
            asked.send(()).map_err(io::Error::other)?;
            gone.lock().unwrap_or_else(PoisonError::into_inner).recv().map_err(io::Error::other)?;
            Ok(Vec::new())
        };
        start(&drains, Arc::from([]), Box::new(listen));
        assert!(drains.begin("an operator").unwrap());
        wait_for(&drains, Stage::Over);
        let other = drains.clone();
        let cancelling = std::thread::spawn(move || other.cancel());
        asks.recv().unwrap();
        assert_eq!(drains.progress().stage, Stage::Over);
        // Meanwhile the process is told to end: then it does not stay after all.
        assert!(!drains.end("SIGTERM").unwrap());
        go.send(()).unwrap();
        assert_eq!(cancelling.join().unwrap(), Err(CannotStay::Ending));
    }

    #[test]
    fn a_data_thread_that_takes_nothing_holds_up_no_drain() {
        let config = pinwire_engine::Config {
            driver: pinwire_engine::Driver::Epoll,
            ..pinwire_engine::Config::default()
        };
        pinwire_engine::run(config, |engine| async move {
            let mailbox = Mailbox::new(engine.waker(), engine.door());
            while mailbox.push(Envelope::Keys).is_ok() {}
            let drains = Drains::idle_with(DrainTimes { leave: Duration::ZERO, window: Duration::ZERO });
            start(&drains, Arc::from([mailbox]), Box::new(|| Ok(Vec::new())));
            assert!(drains.begin("an operator").unwrap());
            wait_for(&drains, Stage::Over);
        })
        .unwrap();
    }
}
