//! Connections, sessions, and everything that leaves a shard.

use crate::conn::{Conn, NONE, Peer, Phase, RemotePeer, Session, SessionDialect};
use crate::effect::{ConnRef, Effect, Outbox, Segment, Slot, SocketAction, position};
use crate::limits::{COMPRESS_MAX, SHARED_MIN, Settings};
use crate::mail::{Body, Mail, RemoteSession};
use crate::slab::Slab;
use crate::stats::Stats;
use crate::wheel::{Tick, Wheel, tick_at};
use pinwire_protocol::close::Close;
use pinwire_protocol::document::{hocuspocus, ywebsocket};
use pinwire_protocol::ws::{self, Frame, Opcode, Scratch, WindowBits};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// The half of a shard that faces sockets and other shards.
pub(crate) struct Output {
    pub(crate) settings: Settings,
    pub(crate) conns: Slab<Conn>,
    pub(crate) sessions: Slab<Session>,
    /// Sockets of other threads that are members of documents of this one.
    pub(crate) remotes: Slab<RemotePeer>,
    pub(crate) outbox: Outbox,
    pub(crate) effects: VecDeque<Effect>,
    pub(crate) wheel: Wheel,
    pub(crate) stats: Stats,
    /// Milliseconds on the monotonic clock, and seconds of Unix time, of this turn.
    pub(crate) now_ms: u64,
    pub(crate) now_unix: u64,
    /// Bytes of all documents that the session store does not have yet.
    pub(crate) unstored: u64,
    /// Connections in [`Phase::Held`].
    pub(crate) held_refusals: usize,
    /// Bytes of direct replies since the current input began.
    pub(crate) replied: usize,
    /// Compressor, and the message being built.
    scratch: Scratch,
    message: Vec<u8>,
}

/// One frame of a broadcast, as the arena holds it for one class of members.
#[derive(Clone, Debug)]
pub(crate) struct Framed {
    /// The whole frame.
    pub(crate) frame: Range<u32>,
    /// Its payload.
    pub(crate) payload: Range<u32>,
}

impl Output {
    pub(crate) fn new(settings: Settings, now_ms: u64, now_unix: u64) -> Self {
        Self {
            settings,
            conns: Slab::default(),
            sessions: Slab::default(),
            remotes: Slab::default(),
            outbox: Outbox::default(),
            effects: VecDeque::new(),
            wheel: Wheel::new(now_ms),
            stats: Stats::default(),
            now_ms,
            now_unix,
            unstored: 0,
            held_refusals: 0,
            replied: 0,
            scratch: Scratch::new(),
            message: Vec::new(),
        }
    }

    pub(crate) fn now(&self) -> Tick {
        tick_at(self.now_ms)
    }

    pub(crate) fn after(&self, ms: u64) -> Tick {
        tick_at(self.now_ms + ms)
    }

    pub(crate) fn conn_at(&mut self, conn: ConnRef) -> Option<&mut Conn> {
        self.conns.get_mut(conn.slot).filter(|found| found.serial == conn.serial)
    }

    pub(crate) fn reference(&self, slot: Slot) -> Option<ConnRef> {
        self.conns.get(slot).map(|conn| ConnRef { slot, serial: conn.serial })
    }

    /// Queues one binary message for a connection.
    pub(crate) fn message(&mut self, slot: Slot, write: impl FnOnce(&mut Vec<u8>)) {
        let now = self.now();
        let Some(conn) = self.conns.get_mut(slot) else { return };
        if !matches!(conn.phase, Phase::Open) {
            return;
        }
        conn.last_data = now;
        let may_compress = conn.deflate();
        let mut message = std::mem::take(&mut self.message);
        message.clear();
        write(&mut message);
        let framed = self.frame(may_compress, |out| out.extend_from_slice(&message));
        let len = framed.frame.len();
        self.outbox.send(slot, Segment::Arena(framed.frame));
        self.queued(slot, len);
        self.stats.messages_sent += 1;
        message.shrink_to(64 << 10);
        self.message = message;
    }

    /// Puts one binary frame into the arena without sending it.
    pub(crate) fn frame(&mut self, may_compress: bool, write: impl FnOnce(&mut Vec<u8>)) -> Framed {
        // The header's length depends on the payload's: leave room for the longest, then move the payload up to it.
        let arena = &mut self.outbox.arena;
        let start = arena.len();
        write(arena);
        let len = arena.len() - start;
        let mut compressed = false;
        if may_compress && (self.settings.compress_min..=COMPRESS_MAX).contains(&len) {
            let payload = arena.split_off(start);
            compressed = self.scratch.deflate(&payload, WindowBits::MAX, arena);
            if !compressed {
                arena.extend_from_slice(&payload);
            }
        }
        let len = arena.len() - start;
        let frame = Frame::new(Opcode::Binary);
        let header = ws::header(if compressed { frame.compressed() } else { frame }, len);
        arena.extend_from_slice(&header);
        arena[start..].rotate_right(header.len());
        let (start, end) = (u32::try_from(start).unwrap_or(u32::MAX), position(arena));
        Framed { frame: start..end, payload: start.saturating_add(header.len() as u32)..end }
    }

    /// Queues a message whose payload ends in large bytes that many connections may share.
    pub(crate) fn message_with_tail(
        &mut self,
        slot: Slot,
        write_head: impl Fn(&mut Vec<u8>),
        tail: &Arc<[u8]>,
    ) {
        let compressible = self.conns.get(slot).is_some_and(Conn::deflate) && tail.len() <= COMPRESS_MAX;
        if tail.len() < SHARED_MIN || compressible {
            return self.message(slot, |out| {
                write_head(out);
                out.extend_from_slice(tail);
            });
        }
        let now = self.now();
        let Some(conn) = self.conns.get_mut(slot).filter(|conn| conn.phase == Phase::Open) else { return };
        conn.last_data = now;
        let mut head = Vec::new();
        write_head(&mut head);
        let header = ws::header(Frame::new(Opcode::Binary), head.len() + tail.len());
        self.outbox.write(slot, |out| {
            out.extend_from_slice(&header);
            out.extend_from_slice(&head);
        });
        self.outbox.send(slot, Segment::Shared(Arc::clone(tail)));
        self.queued(slot, header.len() + head.len() + tail.len());
        self.stats.messages_sent += 1;
    }

    /// Queues a control frame.
    pub(crate) fn control(&mut self, slot: Slot, write: impl FnOnce(&mut Vec<u8>)) {
        let len = self.outbox.write(slot, write);
        self.queued(slot, len);
    }

    /// Counts a direct reply. What is added to a backlog is noted there, so that a backlog that grew still tells whether
    /// the reader took anything.
    fn queued(&mut self, slot: Slot, len: usize) {
        self.replied += len;
        if let Some(conn) = self.conns.get_mut(slot).filter(|conn| conn.is_blocked()) {
            let cold = conn.cold_mut();
            cold.backlog = cold.backlog.saturating_add(len as u32);
        }
    }

    /// Queues one message for a session: `write` writes what follows the key.
    pub(crate) fn send_session(&mut self, session: u32, write: impl FnOnce(&mut Vec<u8>)) {
        match self.sessions.get(session).map(|s| (s.peer, s.dialect)) {
            Some((Peer::Local { slot, .. }, SessionDialect::YWebsocket)) => self.message(slot, write),
            Some((Peer::Local { slot, key }, _)) => self.send_key(slot, key, write),
            Some((Peer::Remote(remote), _)) => {
                let Some(&RemotePeer { thread, session, .. }) = self.remotes.get(remote) else { return };
                let mut body = Vec::new();
                write(&mut body);
                self.deliver(thread, vec![session], Arc::from([Body::from(body)]), false);
            }
            None => {}
        }
    }

    /// Mails frames to sessions on another thread.
    pub(crate) fn deliver(
        &mut self,
        thread: u16,
        to: Vec<RemoteSession>,
        bodies: Arc<[Body]>,
        wants_credit: bool,
    ) {
        self.mail(thread, Mail::Deliver { to, bodies, wants_credit });
    }

    /// As [`Self::send_session`], ending in large bytes that many may share.
    pub(crate) fn send_session_with_tail(
        &mut self,
        session: u32,
        head: impl Fn(&mut Vec<u8>),
        tail: &Arc<[u8]>,
    ) {
        match self.sessions.get(session).map(|s| (s.peer, s.dialect)) {
            Some((Peer::Local { slot, .. }, SessionDialect::YWebsocket)) => {
                self.message_with_tail(slot, head, tail);
            }
            Some((Peer::Local { slot, key }, _)) => {
                let mut front = Vec::new();
                head(&mut front);
                self.send_key_with_tail(slot, key, &front, tail);
            }
            _ => self.send_session(session, |out| {
                head(out);
                out.extend_from_slice(tail);
            }),
        }
    }

    /// Queues one message under one of a socket's keys: `write` writes what follows the key.
    pub(crate) fn send_key(&mut self, slot: Slot, key: u16, write: impl FnOnce(&mut Vec<u8>)) {
        let Some(raw) = self.raw_key(slot, key) else { return };
        self.message(slot, |out| {
            hocuspocus::append_key(out, &raw);
            write(out);
        });
    }

    /// As [`Self::send_key`], ending in large bytes that many may share.
    pub(crate) fn send_key_with_tail(&mut self, slot: Slot, key: u16, head: &[u8], tail: &Arc<[u8]>) {
        let Some(raw) = self.raw_key(slot, key) else { return };
        let write_head = |out: &mut Vec<u8>| {
            hocuspocus::append_key(out, &raw);
            out.extend_from_slice(head);
        };
        self.message_with_tail(slot, write_head, tail);
    }

    pub(crate) fn raw_key(&mut self, slot: Slot, key: u16) -> Option<Box<str>> {
        let keys = &self.conns.get_mut(slot)?.hocuspocus_mut()?.keys;
        keys.get(usize::from(key)).map(|key| key.raw.clone())
    }

    pub(crate) fn mail(&mut self, thread: u16, mail: Mail) {
        self.effects.push_back(Effect::Mail(thread, mail));
    }

    pub(crate) fn socket(&mut self, slot: Slot, action: SocketAction) {
        self.effects.push_back(Effect::Socket(slot, action));
    }

    /// What is known of a session's socket, if another thread has it.
    pub(crate) fn remote_mut(&mut self, session: u32) -> Option<&mut RemotePeer> {
        match self.sessions.get(session)?.peer {
            Peer::Local { .. } => None,
            Peer::Remote(remote) => self.remotes.get_mut(remote),
        }
    }

    /// The next delivery to a session on another thread waits until this one's credit is back.
    pub(crate) fn await_credit(&mut self, session: u32) {
        if let Some(remote) = self.remote_mut(session) {
            remote.awaits_credit = true;
        }
    }

    /// Whether a member can be sent more now; if not, it stays behind and catches up.
    pub(crate) fn can_take_more(&self, session: &Session) -> bool {
        match session.peer {
            Peer::Local { slot, .. } => self.conns.get(slot).is_some_and(|conn| !conn.is_blocked()),
            Peer::Remote(remote) => self.remotes.get(remote).is_some_and(|remote| !remote.awaits_credit),
        }
    }

    /// Stops receiving on a connection until [`Self::restart`].
    pub(crate) fn stall(&mut self, slot: Slot) {
        let Some(conn) = self.conns.get_mut(slot) else { return };
        if !conn.stalled {
            conn.stalled = true;
            self.socket(slot, SocketAction::PauseRead);
        }
    }

    /// Lets a connection be received from again.
    pub(crate) fn restart(&mut self, slot: Slot) {
        let now = self.now();
        let Some(conn) = self.conns.get_mut(slot) else { return };
        if conn.stalled {
            conn.stalled = false;
            // It could not be heard meanwhile: its silence begins now.
            conn.last_received = now;
            conn.pinged = false;
            self.socket(slot, SocketAction::ResumeRead);
            self.schedule(slot);
        }
    }

    /// Sends our close frame and waits for the peer's. The caller has ended the sessions.
    pub(crate) fn send_close(&mut self, slot: Slot, close: &Close) {
        self.control(slot, |out| ws::append_close(out, close.code, close.reason(), None));
        self.stats.count_close(close.code);
        self.enter(slot, Phase::Closing);
    }

    /// Moves a connection to one of its last two phases, in which nothing is held any more.
    pub(crate) fn enter(&mut self, slot: Slot, phase: Phase) {
        self.restart(slot);
        let deadline = self.now() + self.settings.close;
        let Some(conn) = self.conns.get_mut(slot) else { return };
        if conn.phase == Phase::Held {
            self.held_refusals -= 1;
        }
        conn.phase = phase;
        conn.deadline = deadline;
        conn.cold = None;
        if phase == Phase::Finishing {
            self.socket(slot, SocketAction::Finish);
        }
        self.schedule(slot);
    }

    /// Makes sure that the wheel looks at a connection in time.
    pub(crate) fn schedule(&mut self, slot: Slot) {
        let Some(conn) = self.conns.get_mut(slot) else { return };
        let deadline = conn.next_deadline(&self.settings);
        self.wheel.schedule(slot, &mut conn.due, u64::from(deadline) * crate::wheel::TICK_MS);
    }
}

impl Conn {
    /// The tick at which something has to be done for the connection if nothing happens before.
    pub(crate) fn next_deadline(&self, settings: &Settings) -> Tick {
        let retry = self.cold.as_ref().map_or(0, |cold| cold.retry);
        let retry = if retry == 0 { Tick::MAX } else { retry };
        if self.phase == Phase::First {
            return self.deadline.min(retry);
        }
        if self.phase != Phase::Open {
            return self.deadline;
        }
        if self.is_blocked() {
            // Nothing else can be done for it before it takes what waits.
            return self.deadline.min(self.ends_at());
        }
        let waiting = self
            .cold
            .as_ref()
            .and_then(|cold| cold.hocuspocus.as_ref())
            .and_then(|hocuspocus| hocuspocus.waiting_since().map(|since| since + settings.first_frame));
        let health = if self.pinged { self.deadline } else { self.last_received + settings.ping };
        let waiting = waiting.filter(|_| !self.stalled);
        let has_document = self.session != NONE || self.settled;
        let idle = if has_document { self.last_data + settings.idle_frame } else { Tick::MAX };
        health.min(idle).min(retry).min(waiting.unwrap_or(Tick::MAX)).min(self.ends_at()).min(self.asks_at())
    }
}

/// The idle frame of a y-websocket connection.
pub(crate) fn write_idle(out: &mut Vec<u8>) {
    out.extend_from_slice(&ywebsocket::EMPTY_AWARENESS);
}
