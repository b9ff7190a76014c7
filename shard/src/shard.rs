//! The state machine of one data thread.
//!
//! There are four kinds of methods, and an order to call them in:
//! 1. *Inputs* say what happened: [`open`](Shard::open), [`bytes`](Shard::bytes), [`ended`](Shard::ended),
//!    [`blocked`](Shard::blocked), [`drained`](Shard::drained), [`verdict`](Shard::verdict), [`opened`](Shard::opened),
//!    [`stored`](Shard::stored), [`compacted`](Shard::compacted), [`mail`](Shard::mail), [`arrive`](Shard::arrive),
//!    [`relayed`](Shard::relayed), [`link_lost`](Shard::link_lost). Where the
//!    session store is shared by nodes also [`foreign`](Shard::foreign), [`said`](Shard::said),
//!    [`foreign_joined`](Shard::foreign_joined), [`foreign_left`](Shard::foreign_left), [`reloading`](Shard::reloading),
//!    [`reload`](Shard::reload), [`lost`](Shard::lost), [`adrift`](Shard::adrift), [`store_away`](Shard::store_away).
//! 2. [`next_effect`](Shard::next_effect) hands out what has to be done elsewhere; drain it after inputs, since an answer
//!    that is there at once (a cached verdict, the memory store) then still belongs to this turn.
//! 3. [`settle`](Shard::settle), more effects, then [`flush`](Shard::flush) end the turn: what the turn produced for a
//!    connection stands in the [`Outbox`] together.
//! 4. [`next_deadline_us`](Shard::next_deadline_us) and [`has_work`](Shard::has_work) say when the next turn is due.
//!
//! Time comes in with [`begin_turn`](Shard::begin_turn) and stands still within a turn.

use crate::apps::Apps;
use crate::conn::{Cold, Conn, Handshake, NONE, Peer, Phase, RELAYED, Traveller};
use crate::document::{Document, State};
use crate::effect::{ConnRef, DocumentName, DocumentRef, Effect, Outbox, Slot, SocketAction};
use crate::grant::{Opening, Verdict};
use crate::limits::{
    HELD_MAX, HELD_REFUSALS_MAX, LISTS_KEEP, MESSAGE_BYTES_PER_REPLY_BYTE, REPLY_PER_TURN, SILENT_MS,
    Settings, ticks,
};
use crate::output::Output;
use crate::refusals::Refusals;
use crate::slab::Slab;
use crate::stats::Stats;
use crate::wheel::Tick;
use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashTable};
use pinwire_protocol::close::{Close, CloseCode};
use pinwire_protocol::ws::{self, Event, Scratch};
use std::hash::BuildHasher;
use std::net::IpAddr;

/// Bit of a wheel key that tells documents from connections.
pub(crate) const DOCUMENT_KEY: u32 = 1 << 31;

/// See the module's documentation.
pub struct Shard {
    pub(crate) out: Output,
    pub(crate) documents: Slab<Document>,
    /// Indices of [`Self::documents`] by the hash of their names.
    pub(crate) by_name: HashTable<u32>,
    /// Sessions of sockets on other threads.
    pub(crate) remote_sessions: HashMap<(u16, crate::mail::RemoteSession), u32, FixedState>,
    pub(crate) apps: Apps,
    pub(crate) refusals: Refusals,
    /// Documents with something to send or store at the end of the turn.
    pub(crate) dirty: Vec<u32>,
    /// Dirty documents whose news waits for more to leave with, between turns; and when the first of them is due.
    pub(crate) gathering: Vec<u32>,
    pub(crate) gathered_at_us: u64,
    /// Presence is gathered for longer than it would be.
    pub(crate) is_thrifty: bool,
    /// Microseconds on the monotonic clock.
    pub(crate) now_us: u64,
    /// Sessions that have to catch up.
    pub(crate) lagging: std::collections::VecDeque<u32>,
    /// Connections that had their share of this turn.
    pub(crate) throttled: Vec<ConnRef>,
    /// Deliveries from other threads whose credit is to be given back, and to whom.
    pub(crate) credits: Vec<(u16, crate::mail::RemoteSession)>,
    /// Frames of sessions on other threads that were handled this turn, and their bytes.
    pub(crate) taken: Vec<(u16, crate::mail::RemoteSession, u32, u32)>,
    /// Documents of other regions.
    pub(crate) routes: crate::relay::Routes,
    pub(crate) next_tag: u32,
    /// See [`Self::adrift`] and [`Self::store_away`].
    pub(crate) adrift: u64,
    pub(crate) is_store_away: bool,
    /// See [`Self::keep_documents`].
    pub(crate) keeps_documents: bool,
    /// Joins of other threads' sockets that are to be tried again.
    pub(crate) postponed: std::collections::VecDeque<crate::postponed::Postponed>,
    /// Frames that were taken before their session was authorised are being handled.
    pub(crate) is_replaying: bool,
    next_serial: u32,
    placement: FixedState,
    /// Inflater, and the message being received.
    scratch: Scratch,
    /// Ranges of the update being judged.
    pub(crate) ranges: crate::edit::UpdateRanges,
}

/// What to do with the rest of a connection's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// Go on.
    Continue,
    /// The message has to wait for something, and everything behind it.
    Hold,
    /// The connection takes no more messages.
    Stop,
}

/// Which of a node's `threads` owns a document, as [`Shard::owner`] says it: for who has no shard.
#[must_use]
pub fn owner_of(name: &DocumentName, placement_seed: u64, threads: u16) -> u16 {
    owner_by(hash(&FixedState::with_seed(placement_seed), name), threads)
}

fn owner_by(hash: u64, threads: u16) -> u16 {
    // The high half: the low bits pick buckets in tables.
    ((hash >> 32) % u64::from(threads.max(1))) as u16
}

fn hash(placement: &FixedState, name: &DocumentName) -> u64 {
    placement.hash_one((&*name.tenant, &*name.app, &*name.name))
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard")
            .field("thread", &self.out.settings.thread)
            .field("connections", &self.out.conns.len())
            .field("documents", &self.documents.len())
            .finish_non_exhaustive()
    }
}

impl Shard {
    /// An empty shard at `now_ms` on the monotonic clock, `now_unix` seconds of Unix time.
    #[must_use]
    pub fn new(settings: Settings, now_ms: u64, now_unix: u64) -> Self {
        let seed = settings.seed;
        Self {
            documents: Slab::default(),
            by_name: HashTable::new(),
            remote_sessions: HashMap::with_hasher(FixedState::with_seed(seed)),
            apps: Apps::new(seed),
            refusals: Refusals::new(seed, settings.threads),
            dirty: Vec::new(),
            gathering: Vec::new(),
            gathered_at_us: u64::MAX,
            is_thrifty: false,
            now_us: now_ms * 1000,
            lagging: std::collections::VecDeque::new(),
            throttled: Vec::new(),
            credits: Vec::new(),
            taken: Vec::new(),
            routes: crate::relay::Routes::new(seed),
            next_tag: 1,
            adrift: 0,
            is_store_away: false,
            keeps_documents: false,
            postponed: std::collections::VecDeque::new(),
            is_replaying: false,
            next_serial: settings.thread.into(),
            placement: FixedState::with_seed(settings.placement_seed),
            scratch: Scratch::new(),
            ranges: crate::edit::UpdateRanges::default(),
            out: Output::new(settings, now_ms, now_unix),
        }
    }

    /// The time of the turn that is about to begin, for what comes before anything that was left over is gone on with.
    pub fn set_time(&mut self, now_us: u64, now_unix: u64) {
        self.now_us = now_us;
        self.out.now_ms = now_us / 1000;
        self.out.now_unix = now_unix;
    }

    /// Whether presence is to be gathered for longer before it goes out, since the node is to do with less.
    pub fn set_thrifty(&mut self, is_thrifty: bool) {
        self.is_thrifty = is_thrifty;
    }

    /// Starts a turn: sets the time, lets connections go on that had their share of the last, and fires deadlines.
    pub fn begin_turn(&mut self, now_us: u64, now_unix: u64) {
        self.set_time(now_us, now_unix);
        self.dirty.append(&mut self.gathering);
        for conn in std::mem::take(&mut self.throttled) {
            self.resume(conn);
        }
        self.fire_deadlines();
        self.join_postponed();
    }

    /// A socket finished its upgrade.
    pub fn open(&mut self, slot: Slot, opening: Opening) {
        let refusal_key =
            self.refusals.key(opening.peer, opening.token.as_deref(), opening.document.as_deref());
        let has_token = opening.token.is_some();
        let cold = Cold {
            document: opening.document,
            origin: opening.origin,
            handshake: if has_token { Handshake::Verifying } else { Handshake::Missing },
            refusal_key,
            ..Cold::default()
        };
        let serial = self.serial();
        let mut conn = Conn::new(serial, opening.deflate, cold, self.out.now());
        let is_judged_early = !has_token && conn.cold_mut().document.is_some();
        conn.deadline =
            self.out.now() + if is_judged_early { self.out.settings.first_frame } else { ticks(SILENT_MS) };
        self.out.conns.put(slot, conn);
        if let Some(token) = opening.token {
            self.out.effects.push_back(Effect::Verify { conn: ConnRef { slot, serial }, ticket: 0, token });
        }
        self.out.schedule(slot);
    }

    /// Bytes came in on an upgraded socket. They are unmasked in place.
    pub fn bytes(&mut self, slot: Slot, input: &mut [u8]) {
        let now = self.out.now();
        let Some(conn) = self.out.conns.get_mut(slot) else { return };
        conn.last_received = now;
        conn.pinged = false;
        if conn.phase == Phase::Finishing {
            return;
        }
        if conn.stalled || conn.is_blocked() || conn.phase == Phase::Moving {
            return self.hold(slot, None, input);
        }
        self.consume(slot, input);
    }

    fn consume(&mut self, slot: Slot, input: &mut [u8]) {
        let Some(conn) = self.out.conns.get_mut(slot) else { return };
        // What is sent meanwhile asks it about compression.
        let idle = ws::Decoder::new(ws::Role::Server, conn.deflate());
        let mut decoder = std::mem::replace(&mut conn.decoder, idle);
        let mut scratch = std::mem::take(&mut self.scratch);
        let limits =
            if conn.is_trusted() { self.out.settings.ws } else { self.out.settings.ws_before_auth() };
        self.out.replied = 0;
        let mut at = 0;
        while at < input.len() {
            let decoded = match decoder.decode(&mut input[at..], &limits, &mut scratch) {
                Ok(decoded) => decoded,
                Err(error) => {
                    self.close_broken(slot, error);
                    break;
                }
            };
            at += decoded.consumed;
            let Some(event) = decoded.event else { continue };
            match self.event(slot, &event) {
                Flow::Stop => break,
                Flow::Continue if self.out.replied <= REPLY_PER_TURN => {}
                Flow::Continue => {
                    self.throttle(slot);
                    self.hold(slot, None, &input[at..]);
                    break;
                }
                Flow::Hold => {
                    let held = match event {
                        Event::Message { payload, .. } => Some(payload.into()),
                        _ => None,
                    };
                    self.hold(slot, held, &input[at..]);
                    break;
                }
            }
        }
        self.scratch = scratch;
        if let Some(conn) = self.out.conns.get_mut(slot) {
            conn.decoder = decoder;
        }
    }

    /// Keeps input for later; receiving stops until [`Self::resume`].
    fn hold(&mut self, slot: Slot, message: Option<Box<[u8]>>, rest: &[u8]) {
        self.out.stall(slot);
        let Some(conn) = self.out.conns.get_mut(slot) else { return };
        let cold = conn.cold_mut();
        if message.is_some() {
            cold.held_message = message;
        }
        cold.held_bytes.extend_from_slice(rest);
        if cold.held_bytes.len() > HELD_MAX {
            self.close(slot, &Close::from(CloseCode::Policy));
        }
    }

    pub(crate) fn throttle(&mut self, slot: Slot) {
        if let Some(conn) = self.out.reference(slot) {
            self.throttled.push(conn);
        }
    }

    /// Handles what a connection's stall held back; it stalls again if that still has to wait.
    pub(crate) fn resume(&mut self, conn: ConnRef) {
        let slot = conn.slot;
        let Some(conn) = self.out.conn_at(conn) else { return };
        if !conn.stalled || conn.is_blocked() || conn.phase == Phase::Moving {
            return;
        }
        let cold = conn.cold_mut();
        cold.retry = 0;
        let message = cold.held_message.take();
        let mut bytes = std::mem::take(&mut cold.held_bytes);
        self.out.replied = 0;
        if let Some(message) = message {
            let event = Event::Message { kind: ws::Kind::Binary, payload: &message };
            match self.event(slot, &event) {
                Flow::Continue => {}
                Flow::Hold => return self.hold(slot, Some(message), &bytes),
                Flow::Stop => return,
            }
        }
        self.out.restart(slot);
        self.consume(slot, &mut bytes);
        if let Some(conn) = self.out.conns.get_mut(slot) {
            conn.cool();
        }
    }

    fn event(&mut self, slot: Slot, event: &Event<'_>) -> Flow {
        let Some(conn) = self.out.conns.get_mut(slot) else { return Flow::Stop };
        match (conn.phase, event) {
            (Phase::Finishing, _) => Flow::Stop,
            (_, Event::Close { code, .. }) => {
                let is_answer = conn.phase == Phase::Closing;
                self.end_sessions(slot);
                if !is_answer {
                    self.out.control(slot, |out| ws::append_close_reply(out, *code, None));
                }
                self.out.enter(slot, Phase::Finishing);
                Flow::Stop
            }
            (Phase::Closing | Phase::Held, _) | (_, Event::Pong(_)) => Flow::Continue,
            (_, Event::Ping(payload)) => {
                self.out.control(slot, |out| ws::append_pong(out, payload, None));
                Flow::Continue
            }
            (phase, Event::Message { kind, payload }) => {
                self.out.stats.messages_received += 1;
                // Work counts like replies: what is read, inflated and walked in a turn is bounded too.
                self.out.replied += payload.len() / MESSAGE_BYTES_PER_REPLY_BYTE;
                let is_first = phase == Phase::First;
                match kind {
                    ws::Kind::Text => self.end(slot, &Close::from(CloseCode::UnsupportedData)),
                    ws::Kind::Binary if is_first => self.first_message(slot, payload),
                    ws::Kind::Binary if conn.session != NONE => self.ywebsocket_message(slot, payload),
                    ws::Kind::Binary => self.hocuspocus_message(slot, payload),
                }
            }
        }
    }

    /// The socket reached EOF or failed.
    pub fn ended(&mut self, slot: Slot) {
        self.end_sessions(slot);
        self.drop_connection(slot);
    }

    fn drop_connection(&mut self, slot: Slot) {
        let Some(conn) = self.out.conns.remove(slot) else { return };
        if conn.phase == Phase::Held {
            self.out.held_refusals -= 1;
        }
        self.out.socket(slot, SocketAction::Close);
    }

    /// After a flush: `backlog` bytes wait for the socket.
    pub fn blocked(&mut self, slot: Slot, backlog: usize) {
        let deadline = self.out.now() + self.out.settings.slow_reader;
        let Some(conn) = self.out.conns.get_mut(slot) else { return };
        let backlog = backlog.clamp(1, u32::MAX as usize) as u32;
        let took_some = !conn.is_blocked() || backlog < conn.backlog();
        conn.cold_mut().backlog = backlog;
        if took_some && conn.phase == Phase::Open {
            conn.deadline = deadline;
            self.out.schedule(slot);
        }
    }

    /// The socket took everything that waited.
    pub fn drained(&mut self, slot: Slot) {
        let now = self.out.now();
        let Some(conn) = self.out.conns.get_mut(slot) else { return };
        if let Some(cold) = &mut conn.cold {
            cold.backlog = 0;
        }
        conn.cool();
        conn.pinged = false;
        conn.last_received = conn.last_received.max(now.saturating_sub(self.out.settings.ping));
        let sessions = conn.local_sessions();
        for session in sessions {
            self.lag(session);
        }
        self.out.schedule(slot);
        if let Some(conn) = self.out.reference(slot) {
            self.resume(conn);
        }
    }

    /// The verdict on a token that [`Effect::Verify`] asked for.
    pub fn verdict(&mut self, conn: ConnRef, ticket: u64, verdict: Verdict) {
        let Some(found) = self.out.conn_at(conn) else { return };
        let Some(cold) = found.cold.as_mut() else { return };
        if ticket == 0 {
            cold.handshake = Handshake::Judged(verdict);
        } else if let Some(hocuspocus) = &mut cold.hocuspocus
            && let Some((asked, judged)) = &mut hocuspocus.judged
            && *asked == ticket
        {
            *judged = Some(verdict);
        }
        self.resume(conn);
    }

    /// Whether a connection is still here to take a verdict.
    #[must_use]
    pub fn is_present(&self, conn: ConnRef) -> bool {
        self.out.conns.get(conn.slot).is_some_and(|found| found.serial == conn.serial)
    }

    /// Whether a handshake should be refused before the upgrade, since refusing it after would have to be held and too
    /// many refusals are.
    #[must_use]
    pub fn is_overrun_by(&self, peer: IpAddr, token: Option<&str>, document: Option<&str>) -> bool {
        self.out.held_refusals >= HELD_REFUSALS_MAX
            && self.refusals.is_repeated(self.refusals.key(peer, token, document), self.out.now_ms)
    }

    /// Which thread owns a document.
    #[must_use]
    pub fn owner(&self, name: &DocumentName) -> u16 {
        owner_by(self.hash(name), self.out.settings.threads)
    }

    pub(crate) fn hash(&self, name: &DocumentName) -> u64 {
        hash(&self.placement, name)
    }

    /// A number that no other connection or document of the node has: each thread takes every n-th.
    pub(crate) fn serial(&mut self) -> u32 {
        self.next_serial = self.next_serial.wrapping_add(self.out.settings.threads.max(1).into());
        self.next_serial
    }

    /// Whether a connection has this slot.
    #[must_use]
    pub fn has(&self, slot: Slot) -> bool {
        self.out.conns.get(slot).is_some()
    }

    /// The connection's socket is on the other thread: takes its state out, to be mailed after it.
    pub fn depart(&mut self, slot: Slot) -> Option<Traveller> {
        let conn = self.out.conns.remove(slot)?;
        let app = self.apps.get(conn.app)?.clone();
        let limits = self.apps.limits(conn.app);
        self.apps.release(conn.app);
        Some(Traveller { conn, app, limits })
    }

    /// A connection came from another thread.
    pub fn arrive(&mut self, slot: Slot, traveller: Traveller) {
        let mut conn = traveller.conn;
        conn.app = self.apps.acquire(&traveller.app, traveller.limits);
        conn.phase = if conn.hocuspocus_mut().is_some() { Phase::Open } else { Phase::First };
        conn.settled = true;
        conn.due = 0;
        conn.deadline = self.out.now() + ticks(SILENT_MS);
        // The old socket was paused; this one was never told to pause.
        conn.stalled = false;
        let serial = conn.serial;
        self.out.conns.put(slot, conn);
        self.out.stall(slot);
        self.out.schedule(slot);
        self.resume(ConnRef { slot, serial });
    }

    /// A connection could not be moved: its client is asked to come again.
    pub fn move_failed(&mut self, slot: Slot) {
        if let Some(conn) = self.out.conns.get_mut(slot) {
            conn.phase = Phase::Open;
        }
        self.close(slot, &Close::try_again(1_000));
    }

    /// The next thing to be done elsewhere.
    pub fn next_effect(&mut self) -> Option<Effect> {
        self.out.effects.pop_front()
    }

    /// The bytes of this turn, to be taken after [`Self::flush`].
    pub fn outbox(&mut self) -> &mut Outbox {
        &mut self.out.outbox
    }

    /// When the next turn is due at the latest, in microseconds on the clock of [`Self::begin_turn`].
    #[must_use]
    pub fn next_deadline_us(&self) -> Option<u64> {
        let postponed = self.postponed.front().map(|join| join.due_ms);
        let wheel = self.out.wheel.next_ms().into_iter().chain(postponed).min().map(|ms| ms * 1000);
        if self.gathering.is_empty() {
            wheel
        } else {
            Some(wheel.unwrap_or(u64::MAX).min(self.gathered_at_us))
        }
    }

    /// Whether another turn should follow at once.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.throttled.is_empty()
            || !self.lagging.is_empty()
            || !self.dirty.is_empty()
            || !self.out.effects.is_empty()
    }

    /// Ends the turn after the flush, when it is known which connections are blocked.
    pub fn finish_turn(&mut self) {
        self.return_credits();
        self.lagging.shrink_to(LISTS_KEEP.max(self.lagging.len()));
        self.out.effects.shrink_to(LISTS_KEEP.max(self.out.effects.len()));
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.out.stats
    }

    /// Open connections and active documents.
    #[must_use]
    pub fn population(&self) -> (usize, usize) {
        (self.out.conns.len(), self.documents.len())
    }

    /// Every open connection, for a shutdown.
    pub fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        self.out.conns.iter().map(|(slot, _)| slot)
    }

    // Ending connections.

    /// Closes a connection that has or had a session.
    pub fn close(&mut self, slot: Slot, close: &Close) {
        let Some(conn) = self.out.conns.get(slot) else { return };
        match conn.phase {
            Phase::Closing | Phase::Finishing => return,
            Phase::First | Phase::Held | Phase::Moving | Phase::Open => {}
        }
        self.end_sessions(slot);
        self.out.send_close(slot, close);
    }

    /// Closes a connection from within its own input.
    pub(crate) fn end(&mut self, slot: Slot, close: &Close) -> Flow {
        let is_first = self.out.conns.get(slot).is_some_and(|conn| conn.phase == Phase::First);
        if is_first {
            return self.refuse(slot, close.clone());
        }
        self.close(slot, close);
        // Its close frame is still to come: frames are decoded, messages ignored.
        Flow::Continue
    }

    fn close_broken(&mut self, slot: Slot, error: ws::ProtocolError) {
        let is_over = self
            .out
            .conns
            .get(slot)
            .is_none_or(|conn| matches!(conn.phase, Phase::Closing | Phase::Finishing));
        self.end_sessions(slot);
        if !is_over {
            self.out.send_close(slot, &Close::new(error.close_code(), error.reason()));
        }
        // Nothing after this can be understood, the peer's close frame included.
        self.out.enter(slot, Phase::Finishing);
    }

    /// Refuses a y-websocket connection before it has a session, paced.
    pub(crate) fn refuse(&mut self, slot: Slot, close: Close) -> Flow {
        let now_ms = self.out.now_ms;
        let Some(conn) = self.out.conns.get_mut(slot) else { return Flow::Stop };
        let key = conn.cold_mut().refusal_key;
        self.out.stats.count_refusal(close.code);
        self.end_sessions(slot);
        let hold_ms = self.refusals.refuse(key, now_ms);
        if hold_ms == 0 || self.out.held_refusals >= HELD_REFUSALS_MAX {
            self.out.send_close(slot, &close);
            return Flow::Continue;
        }
        self.out.held_refusals += 1;
        let deadline = self.out.after(hold_ms);
        if let Some(conn) = self.out.conns.get_mut(slot) {
            conn.phase = Phase::Held;
            conn.deadline = deadline;
            let cold = conn.cold_mut();
            // What is behind the message that is refused may be the client's close frame.
            let held_bytes = std::mem::take(&mut cold.held_bytes);
            *cold = Cold { refusal: Some(close), held_bytes, ..Cold::default() };
        }
        self.out.schedule(slot);
        Flow::Continue
    }

    /// Ends a connection's sessions and gives back what it counted for.
    pub(crate) fn end_sessions(&mut self, slot: Slot) {
        self.leave_remote_documents(slot);
        let Some(conn) = self.out.conns.get_mut(slot) else { return };
        let sessions = conn.local_sessions();
        conn.session = NONE;
        if let Some(hocuspocus) = conn.hocuspocus_mut() {
            hocuspocus.keys.clear();
        }
        let app = std::mem::replace(&mut conn.app, NONE);
        for session in sessions {
            self.leave(session);
        }
        if let Some(counted) = self.apps.get(app) {
            counted.release_connection();
            self.apps.release(app);
        }
    }

    // Deadlines.

    fn fire_deadlines(&mut self) {
        let now_ms = self.out.now_ms;
        while let Some((tick, keys)) = self.out.wheel.advance(now_ms) {
            for key in keys {
                if key & DOCUMENT_KEY != 0 {
                    let index = key & !DOCUMENT_KEY;
                    if self.documents.get(index).is_some_and(|document| document.due == tick) {
                        self.document_deadline(index);
                    }
                } else if self.out.conns.get(key).is_some_and(|conn| conn.due == tick) {
                    self.connection_deadline(key);
                }
            }
        }
    }

    fn connection_deadline(&mut self, slot: Slot) {
        let now = self.out.now();
        let Some(conn) = self.out.conns.get_mut(slot) else { return };
        if now >= conn.next_deadline(&self.out.settings) {
            match conn.phase {
                Phase::First => self.first_deadline(slot),
                Phase::Held => {
                    let refusal = conn.cold_mut().refusal.take();
                    self.out.send_close(slot, &refusal.unwrap_or(Close::from(CloseCode::Policy)));
                }
                Phase::Moving => conn.deadline = now + ticks(SILENT_MS),
                Phase::Closing => self.out.enter(slot, Phase::Finishing),
                Phase::Finishing => self.drop_connection(slot),
                Phase::Open => self.open_deadline(slot),
            }
        }
        self.out.schedule(slot);
    }

    fn first_deadline(&mut self, slot: Slot) {
        let now = self.out.now();
        let Some(conn) = self.out.conns.get(slot) else { return };
        if now >= conn.deadline {
            return self.silent(slot);
        }
        self.resume(ConnRef { slot, serial: conn.serial });
    }

    /// No first frame came in time, or what it needs did not.
    fn silent(&mut self, slot: Slot) {
        let Some(conn) = self.out.conns.get_mut(slot) else { return };
        let is_missing_token = matches!(conn.cold_mut().handshake, Handshake::Missing);
        let close = if conn.stalled {
            // It said something, and waits for a verdict or its document.
            Close::try_again(1_000)
        } else if is_missing_token {
            Close::from(CloseCode::MissingToken)
        } else {
            Close::from(CloseCode::Idle)
        };
        self.refuse(slot, close);
    }

    fn open_deadline(&mut self, slot: Slot) {
        if self.end_expired(slot) {
            return;
        }
        let now = self.out.now();
        let settings = &self.out.settings;
        let Some(conn) = self.out.conns.get_mut(slot) else { return };
        let reference = ConnRef { slot, serial: conn.serial };
        if conn.is_blocked() {
            if now >= conn.deadline {
                conn.deadline = now + settings.slow_reader;
                self.out.effects.push_back(Effect::Backlog(slot, conn.backlog()));
            }
            return;
        }
        if conn.pinged && !conn.stalled && now >= conn.deadline {
            return self.close(slot, &Close::from(CloseCode::Idle));
        }
        // Ping and idle frame leave together where the later of them is nearly due: one call for both, and one waking of the
        // peer. An idle frame that comes early costs four bytes.
        let is_silent = |ping: Tick| !conn.pinged && !conn.stalled && now >= conn.last_received + ping;
        let has_said_nothing = |time: Tick| now >= conn.last_data + time;
        let is_idle = has_said_nothing(settings.idle_frame)
            || is_silent(settings.ping) && has_said_nothing(settings.idle_frame / 4);
        let is_ping_due = is_silent(if is_idle { settings.ping - settings.ping / 4 } else { settings.ping });
        let is_retry_due = conn.cold.as_ref().is_some_and(|cold| cold.retry != 0 && now >= cold.retry);
        if is_ping_due {
            conn.pinged = true;
            // Sent early or not, the answer is due when it always is.
            conn.deadline = now.max(conn.last_received + settings.ping) + settings.pong;
            self.out.control(slot, |out| ws::append_ping(out, &[], None));
        }
        if is_idle {
            self.send_idle_frame(slot);
        }
        self.deny_unauthenticated(slot);
        if is_retry_due {
            self.resume(reference);
        }
    }

    /// The answer to [`Effect::Backlog`]: how many bytes wait for the socket now.
    pub fn backlog(&mut self, slot: Slot, noted: u32, backlog: usize) {
        let Some(conn) = self.out.conns.get_mut(slot).filter(|conn| conn.is_blocked()) else { return };
        let backlog = backlog.clamp(1, u32::MAX as usize) as u32;
        if backlog < noted {
            conn.cold_mut().backlog = backlog;
            return;
        }
        self.end_sessions(slot);
        self.out.send_close(slot, &Close::from(CloseCode::SlowReader));
        // It takes no byte: neither will it take this frame, and waiting for an answer is pointless.
        self.out.enter(slot, Phase::Finishing);
    }
}

impl Conn {
    /// The sessions on documents of this thread.
    pub(crate) fn local_sessions(&mut self) -> Vec<u32> {
        if !matches!(self.session, NONE | RELAYED) {
            return vec![self.session];
        }
        let joined = |key: &crate::conn::Key| match key.state {
            crate::conn::KeyState::Joined(session) => Some(session),
            _ => None,
        };
        self.hocuspocus_mut()
            .map_or_else(Vec::new, |hocuspocus| hocuspocus.keys.iter().filter_map(joined).collect())
    }
}

impl Shard {
    /// A document that is still the one meant.
    pub(crate) fn document_at(&mut self, document: DocumentRef) -> Option<&mut Document> {
        self.documents.get_mut(document.index).filter(|found| found.serial == document.serial)
    }

    pub(crate) fn mark_dirty(&mut self, index: u32) {
        if let Some(document) = self.documents.get_mut(index)
            && !document.dirty
        {
            document.dirty = true;
            self.dirty.push(index);
        }
    }

    /// Queues a session to catch up at the end of the turn.
    pub(crate) fn lag(&mut self, session: u32) {
        if let Some(found) = self.out.sessions.get_mut(session)
            && !found.is_lagging
        {
            found.is_lagging = true;
            self.lagging.push_back(session);
        }
    }

    /// The document a session is a member of, and its state there.
    pub(crate) fn session_document(&self, session: u32) -> Option<u32> {
        let index = self.out.sessions.get(session)?.document;
        self.documents.get(index).filter(|document| document.state == State::Live).map(|_| index)
    }

    /// Where a session's peer is.
    pub(crate) fn session_peer(&self, session: u32) -> Option<Peer> {
        self.out.sessions.get(session).map(|found| found.peer)
    }
}
