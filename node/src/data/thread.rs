//! One data thread: an engine, a shard, and the turn that joins them.

mod admitting;
mod ending;
mod guests;
mod moving;
mod sending;

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pinwire_engine::{Carried, Cause, Engine, Event, Pressure, Slot, Stage};
use pinwire_protocol::close::Close;
use pinwire_registry::Claim;
use pinwire_shard::{ConnId, DocumentRef, Effect, Pinned, Shard, SocketAction, Traveller};
use pinwire_shed::{Pacing, Rung};

use super::authority::{Asked, Authority};
use super::handshake::Guests;
use super::inspect::{self, Ask, Asking};
use super::leaving::{Leave, Leaving, ToldOfGuests, Unanswered};
use super::mailbox::{Envelope, Mailbox, Outgoing};
use super::worker::{Job, Worker};
use crate::admin::Events;
use crate::apps::Apps;
use crate::cluster::{Claimed, Gates};
use crate::config::Config;
use crate::control::HttpDoor;
use crate::live::Live;
use crate::memory;
use crate::metrics::{Refusals, Report, Times, TlsHandshakes, handshake, tls_reason};
use crate::peer::Relay;
use crate::shedding::Admission;
use crate::store::StoreEvent;
use crate::traces::{Queue, Recorder, What};
use moving::Arrival;

/// What the data threads of a node share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    /// Connections of each thread, those before their upgrade included.
    pub(crate) slots_per_thread: u32,
    /// Who may come in now.
    pub(crate) admission: Arc<Admission>,
    /// Where traces go, if anywhere.
    pub(crate) traces: Option<Arc<Queue>>,
    /// Zero of every thread's monotonic clock.
    pub(crate) epoch: Instant,
    pub(crate) live: Arc<Live>,
    /// Whether the node may serve.
    pub(crate) gates: Arc<Gates>,
    pub(crate) apps: Arc<Apps>,
    /// Upgraded connections of all threads.
    pub(crate) connections: Arc<AtomicU32>,
    /// Those before it.
    pub(crate) unanswered: Arc<Unanswered>,
    /// Sessions that other nodes carry here, of all threads.
    pub(crate) carried: Arc<AtomicU32>,
    /// What happens is told here, where somebody may ask.
    pub(crate) events: Option<Arc<Events>>,
}

/// Listeners of a data thread.
#[derive(Debug, Default)]
pub(crate) struct Listening {
    pub(crate) listeners: Vec<TcpListener>,
    /// Which of them speak TLS.
    pub(crate) tls: Vec<bool>,
}

/// How long a turn may wait when another thread's mailbox is full or the worker is busy.
const RETRY: Duration = Duration::from_millis(1);
/// Documents being opened at once whose times are traced.
const TRACED_OPENINGS_MAX: usize = 64;
/// Connections before their upgrade that a full thread still speaks TLS with.
const GUESTS_TOLD_WHY: usize = 256;
/// Connections and documents from which on memory is given back when most of them have left.
const WORTH_GIVING_BACK: usize = 256;
/// When it is given back: later than clients wait before they dial again.
const GIVE_BACK_AFTER: Duration = Duration::from_secs(30);
/// How long clients get to answer our close frames when the node stops.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

pub(crate) struct DataThread {
    number: u16,
    shared: Arc<Shared>,
    shard: Shard,
    guests: Guests,
    authority: Authority,
    store: Claimed,
    mailbox: Mailbox,
    outgoing: Outgoing,
    worker: Worker,
    http: HttpDoor,
    /// Compactions that the worker had no room for.
    jobs: VecDeque<Box<Job>>,
    /// Sockets and states of connections that move here, whichever came first.
    arrived: HashMap<u64, Arrival>,
    travellers: HashMap<u64, (Box<Traveller>, Option<Carried>)>,
    /// Sockets on their way here whose connection ended before they left.
    orphans: HashSet<u64>,
    /// Sockets that were lost on their way here, whose connection's state is still to come.
    lost: HashSet<u64>,
    next_move: u64,
    /// Done to sockets once this turn's bytes are queued.
    actions: Vec<(u32, Action)>,
    /// Peers of sockets being taken out for HTTP, with what was read.
    detaching: HashMap<Slot, (SocketAddr, Vec<u8>)>,
    random: u32,
    /// When those who are refused come again.
    pacing: Pacing,
    stopping_since: Option<Instant>,
    leaving: Leaving,
    told: ToldOfGuests,
    /// What was told of sessions that other nodes carry here.
    carried: u32,
    /// Which listeners speak TLS.
    tls_listeners: Vec<bool>,
    times: Times,
    refusals: Refusals,
    tls: TlsHandshakes,
    recorder: Recorder,
    /// Documents being opened that are traced, and since when.
    opening: Vec<(DocumentRef, Instant)>,
    /// Questions that are answered once this turn's last look at the leases is over.
    questions: Vec<Ask>,
    /// The most connections and documents that were here since most of them left.
    most: usize,
    /// When most of them left, if that was a short while ago, and which use of the authority was the last then.
    left: Option<(Instant, u64)>,
}

/// See [`DataThread::actions`].
#[derive(Clone, Copy, Debug)]
enum Action {
    Socket(SocketAction),
    Move(u16),
}

/// What a data thread is made of, besides what all share.
pub(crate) struct Parts {
    pub(crate) number: u16,
    pub(crate) shard: Shard,
    pub(crate) authority: Authority,
    pub(crate) store: Claimed,
    pub(crate) mailboxes: Arc<[Mailbox]>,
    /// To sessions behind links, where there are links.
    pub(crate) relay: Option<Relay>,
    pub(crate) worker: Worker,
    pub(crate) http: HttpDoor,
    pub(crate) random: u32,
    /// Which listeners speak TLS, in their order.
    pub(crate) tls_listeners: Vec<bool>,
    /// They are open; else they come by mail.
    pub(crate) listens: bool,
}

impl DataThread {
    /// `None` if there is no mailbox of this number.
    pub(crate) fn new(shared: Arc<Shared>, parts: Parts) -> Option<Self> {
        let Parts { number, shard, authority, store, mailboxes, relay, worker, http, random, .. } = parts;
        let Parts { tls_listeners, listens, .. } = parts;
        Some(Self {
            number,
            mailbox: mailboxes.get(usize::from(number))?.clone(),
            outgoing: Outgoing::new(mailboxes, relay),
            guests: Guests::new(shared.config.deadlines.handshake),
            recorder: Recorder::new(shared.traces.clone(), Some(number)),
            shared,
            shard,
            authority,
            store,
            worker,
            http,
            jobs: VecDeque::new(),
            arrived: HashMap::new(),
            travellers: HashMap::new(),
            orphans: HashSet::new(),
            questions: Vec::new(),
            lost: HashSet::new(),
            next_move: 0,
            actions: Vec::new(),
            detaching: HashMap::new(),
            random: random | 1,
            pacing: Pacing::new(1.0),
            stopping_since: None,
            leaving: Leaving::new(listens),
            told: ToldOfGuests::new(listens),
            carried: 0,
            tls_listeners,
            times: Times::default(),
            refusals: Refusals::default(),
            tls: TlsHandshakes::default(),
            opening: Vec::new(),
            most: 0,
            left: None,
        })
    }

    /// Runs until told to stop and every connection is closed.
    pub(crate) async fn run(mut self, mut engine: Engine) {
        loop {
            let deadline = self.next_deadline();
            engine.wait(deadline).await;
            self.pass_gates();
            let start = Instant::now();
            engine.poll();
            self.turn(&mut engine);
            self.times.turn.note(start.elapsed());
            if self.is_done() {
                return self.close_all(&mut engine);
            }
        }
    }

    /// Whoever is still there after a stop's patience is not waited for any more, but told in TLS that this is the end.
    fn close_all(&mut self, engine: &mut Engine) {
        let slots: Vec<u32> = self.shard.slots().chain(self.guests.slots()).collect();
        for slot in slots {
            engine.close(Slot::from_index(slot));
        }
        engine.flush();
    }

    /// Whoever was stopped for long finds out first what it lost meanwhile: nothing is read, served or written before.
    fn pass_gates(&mut self) {
        let adrift = self.shared.gates.pass();
        self.shard.adrift(adrift);
    }

    /// One turn. The order matters: inputs first, so that everything they cause leaves in this turn.
    fn turn(&mut self, engine: &mut Engine) {
        let now = Instant::now();
        let now_unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let now_us = self.us(now);
        // 1. What was lost is lost before anybody is heard.
        self.shard.set_time(now_us, now_unix);
        self.shard.set_thrifty(self.shared.admission.rung() >= Rung::Thrifty);
        self.authority.begin_turn(now);
        self.store.read_news();
        self.run_effects(engine, now_unix);
        // 2. Time: deadlines of connections and documents, and what was left over from the last turn.
        self.shard.begin_turn(now_us, now_unix);
        while let Some((asked, verdict)) =
            self.authority.next_waiting(now_unix, &mut self.refusals, |conn| self.shard.is_present(conn))
        {
            self.shard.verdict(asked.conn, asked.ticket, verdict);
        }
        self.run_effects(engine, now_unix);
        // 3. The kernel.
        while let Some(event) = engine.next_event() {
            self.event(engine, event, now);
        }
        while let Some((slot, guest)) = self.guests.next_late(now) {
            self.detaching.remove(&slot);
            let (peer, is_done) = (guest.peer, guest.is_done);
            if let Some(in_line) = guest.into_line() {
                self.send_home(engine, slot, *in_line, now);
                continue;
            }
            if !is_done {
                self.note_failed(engine, slot, peer, handshake::TIMEOUT);
            }
            engine.close(slot);
        }
        let admission = Arc::clone(&self.shared.admission);
        let wait = |turn| Duration::from_micros(admission.budget.wait_us(turn, now_us));
        while let Some((slot, in_line)) = self.guests.next_turn(now, wait) {
            self.call_in(engine, slot, *in_line, now);
        }
        // 4. Other threads.
        while let Some(envelope) = self.mailbox.pop() {
            self.receive(engine, envelope, now);
        }
        self.leave(engine, now_us);
        // 5. What the inputs caused, and the end of the turn.
        self.run_effects(engine, now_unix);
        self.shard.settle();
        self.run_effects(engine, now_unix);
        self.shard.flush();
        self.run_effects(engine, now_unix);
        if self.shared.gates.unchecked() != 0 {
            self.pass_gates();
        }
        // After the look at the gates: whoever renewed the lease meanwhile has laid down before what was lost.
        if self.store.has_news() {
            self.store.read_news();
            self.run_effects(engine, now_unix);
        }
        for question in std::mem::take(&mut self.questions) {
            self.answer(question);
        }
        self.send(engine);
        self.shard.finish_turn();
        self.run_effects(engine, now_unix);
        self.submit_jobs();
        self.outgoing.flush(self.number);
        self.give_memory_back(now);
        self.refusals.tell(self.number, now);
        self.tell_of_others();
    }

    fn answer(&mut self, ask: Ask) {
        let asked = Asking { thread: self.number, lapsed: self.shared.gates.lapsed() };
        inspect::answer(ask, &mut self.shard, asked);
    }

    /// A while after most of those that were here have left, their memory is given back: it is not needed for their return.
    /// The fewer there are, the longer until the next time, so that it costs each connection next to nothing.
    fn give_memory_back(&mut self, now: Instant) {
        let (connections, documents) = self.shard.population();
        let there = connections + documents;
        self.most = self.most.max(there);
        if self.most >= WORTH_GIVING_BACK && there < self.most / 4 {
            self.most = there;
            self.left = Some((now, self.authority.uses()));
        }
        if let Some((_, uses)) = self.left.filter(|(left, _)| now >= *left + GIVE_BACK_AFTER) {
            self.left = None;
            self.authority.forget_unused_since(uses);
            memory::give_back_now();
        }
    }

    fn next_deadline(&mut self) -> Option<Instant> {
        let has_work = self.shard.has_work()
            || self.authority.has_work()
            || !self.mailbox.is_empty()
            || self.store.has_news()
            || !self.actions.is_empty();
        let now = Instant::now();
        if has_work {
            return Some(now);
        }
        let is_left = self.outgoing.flush(self.number) | self.store.flush();
        let retry = (is_left || !self.jobs.is_empty()).then(|| now + RETRY);
        let shard = self.shard.next_deadline_us().map(|us| self.shared.epoch + Duration::from_micros(us));
        let stop = self.stopping_since.map(|since| since + STOP_PATIENCE);
        let leave = self.leaving.deadline(self.shared.epoch);
        let give_back = self.left.map(|(left, _)| left + GIVE_BACK_AFTER);
        let others = [self.authority.deadline(), self.guests.next_deadline(), self.refusals.next_deadline()];
        [retry, shard, stop, leave, give_back].into_iter().chain(others).flatten().min()
    }

    fn is_done(&mut self) -> bool {
        let Some(since) = self.stopping_since else { return false };
        if since.elapsed() >= STOP_PATIENCE {
            return true;
        }
        let is_empty = self.shard.population().0 == 0 && self.guests.is_empty();
        // What the store was not given yet would be lost; and should it find now that it has lost something, only this thread
        // can put it back.
        is_empty && !self.store.flush() && self.store.is_settled()
    }

    // The kernel.

    fn event(&mut self, engine: &mut Engine, event: Event, now: Instant) {
        match event {
            Event::Accepted { slot, peer, listener } => {
                if self.tls_listeners.get(listener as usize).is_some_and(|is_tls| *is_tls) {
                    // Some who are refused anyway are told why; more than that are refused before their handshake costs
                    // anything. Those in line have made theirs, and are no reason to cut whoever asks for something else.
                    if self.guests.unheard() >= GUESTS_TOLD_WHY && self.takes_nobody(now) {
                        self.refusals.tls(Stage::Opening, handshake::FULL, peer.ip());
                        return engine.close(slot);
                    }
                    // A connection that could not be sealed would be in plain text.
                    let Some(session) = self.shared.live.tls_session() else { return engine.close(slot) };
                    engine.set_transform(slot, session);
                }
                self.guests.welcome(slot, peer, now);
            }
            Event::Data { slot, mut buf } => {
                if self.guests.get_mut(slot).is_some() {
                    self.guest_bytes(engine, slot, &mut buf, now);
                } else {
                    self.shard.bytes(number(slot), &mut buf);
                }
                engine.recycle(buf);
            }
            Event::Opened { slot, is_resumed } => {
                *if is_resumed { &mut self.tls.resumed } else { &mut self.tls.full } += 1;
                if let Some(guest) = self.guests.get_mut(slot) {
                    self.times.tls.note(now.saturating_duration_since(guest.since));
                }
            }
            Event::Ended { slot, cause } => self.ended(engine, slot, cause),
            Event::Drained { slot } => self.shard.drained(number(slot)),
            Event::Overflow { slot } => self.give_up(number(slot), "its socket's bound"),
            Event::Departed { slot, token, carried } => self.departed(slot, token, carried),
            Event::MoveFailed { slot, error, .. } => {
                tracing::warn!(conn = self.name(number(slot)), %error, "a connection could not be moved to the thread of its document");
                self.shard.move_failed(number(slot));
            }
            Event::Arrived { slot, token } => self.socket_came(engine, slot, token),
            Event::ArrivalFailed { token, error } => {
                tracing::warn!(%error, "a connection was lost between threads");
                self.lose(token);
            }
            Event::Detached { slot, fd, carried } => self.hand_over(slot, fd, carried),
            Event::DetachFailed { slot, error } => {
                tracing::warn!(%error, "a connection could not be handed to the HTTP thread");
                self.guests.remove(slot);
                self.detaching.remove(&slot);
                engine.close(slot);
            }
            Event::Pressure { of } => {
                self.refusals.accept(pressure_name(of));
                self.pressure(of);
            }
            Event::AcceptFailed { error } => {
                self.refusals.accept("other");
                tracing::warn!(%error, "accepting connections failed");
            }
        }
    }

    fn ended(&mut self, engine: &mut Engine, slot: Slot, cause: Cause) {
        if self.detaching.contains_key(&slot) && cause == Cause::Eof {
            // A request and then the end: the HTTP thread answers, and sees the end by itself.
            return;
        }
        if let Some(guest) = self.guests.remove(slot) {
            self.detaching.remove(&slot);
            if let Some(stage) = engine.stage(slot) {
                self.refusals.tls(stage, tls_reason(cause), guest.peer.ip());
            }
            return engine.close(slot);
        }
        tracing::trace!(conn = self.name(number(slot)), ?cause, "a connection ended");
        if let Some(arrival) = self.arrived.values_mut().find(|arrival| arrival.slot == slot) {
            arrival.has_ended = true;
            return;
        }
        self.shard.ended(number(slot));
    }

    /// A connection cannot be kept within a bound: it is cut, since what it missed cannot be made up for.
    fn give_up(&mut self, slot: u32, bound: &str) {
        tracing::debug!(conn = self.name(slot), bound, "a connection was cut");
        self.shard.ended(slot);
    }

    /// What the log and the admin API call an upgraded connection.
    fn name(&self, slot: u32) -> Option<tracing::field::DisplayValue<ConnId>> {
        self.shard.id(slot).map(tracing::field::display)
    }

    fn pressure(&self, of: Pressure) {
        tracing::warn!(?of, "no more connections can be taken for now; accepting goes on when one ends");
        if let Some(events) = &self.shared.events {
            events.pressure(self.number, of);
        }
    }

    fn us(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.shared.epoch).as_micros() as u64
    }

    // Other threads.

    fn receive(&mut self, engine: &mut Engine, envelope: Envelope, now: Instant) {
        match envelope {
            Envelope::Mail { from, mail } => self.shard.mail(from, mail),
            Envelope::Traveller { token, traveller, carried } => {
                self.traveller_came(engine, token, traveller, carried);
            }
            Envelope::Orphan { token } => self.orphan_came(engine, token),
            Envelope::Compacted { document, result } => {
                // While adrift a compaction may have been for joiners, of what the store was not given.
                if self.shard.is_submitted(document, result.upto) {
                    self.store.rebase(document, &result);
                }
                self.shard.compacted(document, result);
            }
            Envelope::Store(events) => events.into_iter().for_each(|event| self.store.receive(event)),
            Envelope::Sessions(told) => told.into_events().for_each(|event| self.store.receive(event)),
            Envelope::Report(reply) => {
                // Whoever asked may have gone.
                let _ = reply.send(Box::new(self.report(engine)));
            }
            Envelope::Ask(ask) if ask.is_about_claims() => self.questions.push(*ask),
            Envelope::Ask(ask) => self.answer(*ask),
            Envelope::Keys => self.authority.keys_came(),
            Envelope::Found { document, route } => {
                self.note_opened(document);
                match route {
                    Ok(route) => self.shard.relayed(document, route),
                    Err(close) => _ = self.shard.opened(document, Err(close)),
                }
            }
            Envelope::LinkLost(link) => self.shard.link_lost(link),
            Envelope::Leave(Leave::Begin { number, windows, began_us, is_succeeded }) => {
                self.leaving.begin(number, windows, began_us, is_succeeded);
            }
            Envelope::Leave(Leave::Cancel { number, listeners }) => self.stay(engine, number, listeners),
            Envelope::Listen(listeners, reply) => {
                self.leaving.listens = true;
                let outcome = listeners.into_iter().try_for_each(|listener| engine.listen(listener));
                // Whoever asked may have given up.
                let _ = reply.send(outcome);
            }
            Envelope::Pulse(pulse) => pulse.answer(self.shared.epoch.elapsed().as_micros() as u64),
            Envelope::Stop => self.stop(engine, now),
            #[cfg(test)]
            Envelope::Hang(until) => _ = until.recv(),
        }
    }

    fn report(&self, engine: &Engine) -> Report {
        let (connections, documents) = self.shard.population();
        Report {
            connections,
            documents,
            guests: self.guests.len(),
            driver: Some(engine.driver()),
            stats: self.shard.stats(),
            times: Times { token: *self.authority.times(), ..self.times.clone() },
            refused: *self.refusals.counted(),
            tls: TlsHandshakes { waiting: engine.steps_waiting(), ..self.tls },
        }
    }

    fn run_effects(&mut self, engine: &mut Engine, now_unix: u64) {
        loop {
            while let Some(effect) = self.shard.next_effect() {
                self.run_effect(engine, effect, now_unix);
            }
            let Some(event) = self.store.next_event() else { return };
            self.store_event(event);
        }
    }

    fn store_event(&mut self, event: StoreEvent) {
        match event {
            StoreEvent::Opened(document, session) => {
                self.note_opened(document);
                let unreadable = self.shard.opened(document, session);
                self.note_unreadable(document, 0, unreadable);
            }
            StoreEvent::Stored(document, position) => self.shard.stored(document, position),
            StoreEvent::Pinned(document, claim) => {
                let Claim { epoch, nonce } = claim;
                self.shard.pinned(document, Pinned { epoch, nonce });
            }
            StoreEvent::Fenced(document, claim) => self.store.fenced(document, claim),
            StoreEvent::Moving(document) => self.store.moving(document),
            StoreEvent::Lost(document, close) => self.shard.lost(document, &close),
            StoreEvent::Foreign(document, mark, updates) => {
                let unreadable = self.shard.foreign(document, &updates);
                self.note_unreadable(document, mark, unreadable);
                self.absorbed(document, mark);
            }
            StoreEvent::Reloading(document) => self.shard.reloading(document),
            StoreEvent::Reload(document, mark, kept) => {
                if let Some(lacking) = self.shard.reload(document, kept) {
                    self.note_unreadable(document, mark, lacking.unreadable);
                    self.absorbed(document, mark);
                    self.store.put_back(document, lacking);
                }
            }
            StoreEvent::Said(document, node, message) => self.shard.said(document, node, &message),
            StoreEvent::Joined(document, node) => self.shard.foreign_joined(document, node),
            StoreEvent::Left(document, node) => self.shard.foreign_left(document, node),
            StoreEvent::Away(is_away) => self.shard.store_away(is_away),
            StoreEvent::Full(document, is_full) => self.shard.store_full(document, is_full),
            StoreEvent::GivenUp(document) => self.shard.give_up(document),
            StoreEvent::Forgotten(node) => self.shard.foreign_forgotten(node),
            StoreEvent::SayAnew(document) => self.shard.say_anew(document),
            // The store's own.
            StoreEvent::Reclaimed(..) | StoreEvent::Settled => {}
        }
    }

    fn note_unreadable(&mut self, document: DocumentRef, mark: u64, unreadable: u64) {
        if unreadable > 0 {
            self.store.unreadable(document, mark);
        }
    }

    fn absorbed(&mut self, document: DocumentRef, mark: u64) {
        if let Some(head) = self.shard.log_head(document) {
            self.store.absorbed(document, mark, head);
        }
    }

    fn run_effect(&mut self, engine: &mut Engine, effect: Effect, now_unix: u64) {
        match effect {
            Effect::Verify { conn, ticket, token } => {
                let asked = Asked { conn, ticket };
                if let Some(verdict) = self.authority.judge(asked, token, now_unix, &mut self.refusals) {
                    self.shard.verdict(conn, ticket, verdict);
                }
            }
            Effect::Socket(slot, action) => self.actions.push((slot, Action::Socket(action))),
            Effect::Move(slot, target) => self.actions.push((slot, Action::Move(target))),
            Effect::Open(document, name) => {
                let admission = &self.shared.admission;
                admission.names.add(&name.name);
                if admission.rung() >= Rung::NoNewDocuments {
                    admission.documents_refused.fetch_add(1, Ordering::Relaxed);
                    let wait = self.pace(Instant::now());
                    let later = Close::try_again(wait.as_millis() as u64);
                    self.shard.opened(document, Err(later));
                    return;
                }
                if self.opening.len() < TRACED_OPENINGS_MAX && self.recorder.is_chosen() {
                    self.opening.push((document, Instant::now()));
                }
                let app = self.shared.apps.get(&name.tenant, &name.app);
                let (registry, max_documents) =
                    app.map_or((0, u32::MAX), |app| (app.license(), app.limits().max_documents));
                self.store.open(document, &name, registry, max_documents);
            }
            Effect::Store(document) => self.append(document),
            Effect::Compact(document, compaction) => {
                let reply = self.mailbox.clone();
                self.jobs.push_back(Box::new(Job { document, compaction, reply }));
            }
            Effect::Closed(document, name) => {
                self.shared.admission.names.remove(&name.name);
                // Whom a stopping node sends away comes back to what was there.
                if self.stopping_since.is_none() {
                    self.store.end(document);
                }
            }
            Effect::Backlog(slot, noted) => {
                let backlog = engine.backlog(Slot::from_index(slot));
                self.shard.backlog(slot, noted, backlog);
            }
            Effect::Mail(thread, mail) => self.outgoing.mail(self.number, thread, mail),
            // No other node has what this one keeps by itself.
            Effect::Say(document, message) => self.store.say(document, message.into()),
            Effect::Stateless { document, subject, payload } => {
                tracing::trace!(document = %document.name, %subject, bytes = payload.len(), "stateless message");
                if let Some(events) = &self.shared.events {
                    events.message(&document, &subject, &payload);
                }
            }
        }
    }

    fn note_opened(&mut self, document: DocumentRef) {
        if let Some(at) = self.opening.iter().position(|(opening, _)| *opening == document) {
            let (_, since) = self.opening.swap_remove(at);
            self.recorder.record(What::DocumentOpen, since.elapsed(), "");
        }
    }

    fn append(&mut self, document: DocumentRef) {
        if let Some((position, mut updates)) = self.shard.submit(document) {
            self.store.append(document, position, &mut updates);
        }
    }

    fn submit_jobs(&mut self) {
        while let Some(job) = self.jobs.pop_front() {
            if let Err(job) = self.worker.try_submit(*job) {
                return self.jobs.push_front(job);
            }
        }
    }

    fn random(&mut self) -> u32 {
        xorshift(&mut self.random)
    }
}

/// xorshift32: jitter needs no more.
fn xorshift(state: &mut u32) -> u32 {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    *state
}

/// Data threads of a node: what fits in a token.
pub(crate) const THREADS_MAX: usize = 1 << 10;

fn number(slot: Slot) -> u32 {
    slot.index() as u32
}

fn pressure_name(of: Pressure) -> &'static str {
    match of {
        Pressure::Slots => "connections",
        Pressure::Descriptors => "descriptors",
        Pressure::Memory => "memory",
    }
}
