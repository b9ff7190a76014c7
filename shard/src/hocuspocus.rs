//! A Hocuspocus socket: any number of documents, each under a key of its own, each authorised on its own.
//!
//! Such a socket is never closed in order to refuse: its stock clients would redial at once. A lasting refusal is a
//! PermissionDenied with the close reason as its text, and the socket stays open; one that may pass leaves Auth unanswered.

use crate::conn::{Handshake, Hocuspocus, Key, KeyState, NONE, Peer, Phase, SessionDialect};
use crate::document::RemoteJoin;
use crate::edit::Outcome;
use crate::effect::{ConnRef, Effect, Slot};
use crate::expiry::Life;
use crate::grant::{Access, Grant, Verdict};
use crate::limits::{BUFFERED_BYTES_MAX, BUFFERED_FRAMES_MAX, FULL_RETRY_MS, KEYS_MAX, RETRY_MS};
use crate::mail::{Mail, RemoteSession};
use crate::members::Opened;
use crate::output::write_idle;
use crate::shard::{Flow, Shard};
use crate::subject::Subject;
use crate::wheel::Tick;
use foldhash::fast::FixedState;
use pinwire_protocol::close::{Close, CloseCode};
use pinwire_protocol::document::hocuspocus::{self as wire, Body, Frame, Scope, key_len};
use pinwire_protocol::document::name::is_valid_name;
use pinwire_protocol::document::sync::SyncMessage;
use std::hash::BuildHasher;
use std::sync::Arc;

impl Hocuspocus {
    /// When the oldest key began to wait for its Auth.
    pub(crate) fn waiting_since(&self) -> Option<Tick> {
        let since = |key: &Key| match key.state {
            KeyState::Waiting { since, .. } => Some(since),
            _ => None,
        };
        self.keys.iter().filter_map(since).min()
    }

    /// Enters a key; None past the bound. At the bound it takes the place of the one that has been out of use longest, but
    /// not before: what a client still sends under a key that was refused must find it refused.
    fn add(&mut self, raw: &str, now: Tick) -> Option<usize> {
        // Fewer keys than numbers: there is always a free one.
        loop {
            self.next_id = self.next_id.wrapping_add(1);
            if self.keys.iter().all(|key| key.id != self.next_id) {
                break;
            }
        }
        let state = KeyState::Waiting { since: now, frames: Vec::new() };
        let key = Key { id: self.next_id, raw: raw.into(), state, life: Life::default() };
        if self.keys.len() < KEYS_MAX {
            self.keys.push(key);
            return Some(self.keys.len() - 1);
        }
        let out_of_use = self.keys.iter().enumerate().filter(|(_, key)| matches!(key.state, KeyState::Out));
        let (index, _) = out_of_use.max_by_key(|(_, out)| key.id.wrapping_sub(out.id))?;
        self.keys[index] = key;
        Some(index)
    }

    /// Keeps a frame until its key is authorised; false past a bound.
    fn buffer(&mut self, key: usize, body: &[u8]) -> bool {
        let frames = match self.keys.get_mut(key).map(|key| &mut key.state) {
            Some(KeyState::Waiting { frames, .. } | KeyState::Joining { frames, .. }) => frames,
            _ => return true,
        };
        if frames.len() >= BUFFERED_FRAMES_MAX || self.buffered + body.len() > BUFFERED_BYTES_MAX {
            return false;
        }
        self.buffered += body.len();
        frames.push(body.into());
        true
    }

    /// Puts a key into its next state and takes out the frames that waited.
    pub(crate) fn settle(&mut self, key: usize, state: KeyState) -> Vec<Box<[u8]>> {
        let Some(key) = self.keys.get_mut(key) else { return Vec::new() };
        if matches!(state, KeyState::Out) {
            key.life = Life { can_be_asked: key.life.can_be_asked, ..Life::default() };
        }
        let frames = match std::mem::replace(&mut key.state, state) {
            KeyState::Waiting { frames, .. } | KeyState::Joining { frames, .. } => frames,
            _ => Vec::new(),
        };
        self.buffered -= frames.iter().map(|frame| frame.len()).sum::<usize>();
        frames
    }
}

impl Shard {
    pub(crate) fn open_hocuspocus(&mut self, slot: Slot, payload: &[u8]) -> Flow {
        let now = self.out.now();
        let Some(conn) = self.out.conns.get_mut(slot) else { return Flow::Stop };
        conn.phase = Phase::Open;
        conn.last_data = now;
        conn.cold_mut().hocuspocus = Some(Hocuspocus::default());
        self.out.schedule(slot);
        self.hocuspocus_message(slot, payload)
    }

    pub(crate) fn hocuspocus_message(&mut self, slot: Slot, payload: &[u8]) -> Flow {
        let (key, body) = match wire::decode(payload) {
            Ok(Frame::Message { key, body }) => (key, body),
            // The server pings with data frames, which need no answer; an answer is none of its business.
            Ok(Frame::Ping | Frame::Pong) => return Flow::Continue,
            Err(_) => return self.end(slot, &Close::from(CloseCode::InvalidData)),
        };
        let now = self.out.now();
        let Some(hocuspocus) = self.out.conns.get_mut(slot).and_then(|conn| conn.hocuspocus_mut()) else {
            return Flow::Stop;
        };
        let index = match hocuspocus.keys.iter().position(|known| &*known.raw == key.raw) {
            Some(index) => index,
            None => match hocuspocus.add(key.raw, now) {
                Some(index) => {
                    self.out.schedule(slot);
                    index
                }
                None => {
                    let close = Close::new(CloseCode::Policy, "too many documents on one socket");
                    return self.end(slot, &close);
                }
            },
        };
        if let Body::Auth { token, version } = body {
            self.note_version(slot, index, version);
            return self.authenticate(slot, index, token);
        }
        let rest = &payload[key_len(key.raw)..];
        self.keyed_message(slot, index, body, rest)
    }

    /// A message other than Auth; `rest` is the frame behind the key.
    fn keyed_message(&mut self, slot: Slot, index: usize, body: Body<'_>, rest: &[u8]) -> Flow {
        let Some(conn) = self.out.conns.get_mut(slot) else { return Flow::Stop };
        let serial = conn.serial;
        let Some(cold) = conn.cold.as_mut() else { return Flow::Stop };
        let has_handshake_token = !matches!(cold.handshake, Handshake::Missing);
        let Some(hocuspocus) = cold.hocuspocus.as_mut() else { return Flow::Stop };
        let Some(Key { id, state, .. }) = hocuspocus.keys.get_mut(index) else { return Flow::Continue };
        let key = *id;
        match state {
            &mut KeyState::Joined(session) => self.member_message(session, body, slot),
            KeyState::Remote { owner, under_way } => {
                let owner = *owner;
                let session = RemoteSession { conn: ConnRef { slot, serial }, key };
                if matches!(body, Body::Close { .. }) {
                    hocuspocus.settle(index, KeyState::Out);
                    self.out.mail(owner, Mail::Leave(session));
                } else if !under_way.has_room() {
                    // Goes on when the owner has handled some.
                    return Flow::Hold;
                } else {
                    under_way.sent(rest.len());
                    self.out.mail(owner, Mail::Frame(session, rest.into()));
                }
                Flow::Continue
            }
            KeyState::Waiting { frames, .. } if has_handshake_token && frames.is_empty() => {
                // Nothing in-band came first: the handshake's token decides.
                match self.authenticate(slot, index, "") {
                    Flow::Continue => {}
                    other => return other,
                }
                let is_still_out =
                    self.out.conns.get_mut(slot).and_then(|conn| conn.hocuspocus_mut()).is_none_or(
                        |hocuspocus| {
                            matches!(
                                hocuspocus.keys.get(index),
                                None | Some(Key { state: KeyState::Out | KeyState::Waiting { .. }, .. })
                            )
                        },
                    );
                if is_still_out { Flow::Continue } else { self.keyed_message(slot, index, body, rest) }
            }
            KeyState::Waiting { .. } => {
                if hocuspocus.buffer(index, rest) {
                    return Flow::Continue;
                }
                self.end(slot, &Close::new(CloseCode::Policy, "too much before authentication"))
            }
            KeyState::Joining { .. } => {
                // Authorised: what is too much now is handled when the other thread has answered.
                if hocuspocus.buffer(index, rest) { Flow::Continue } else { Flow::Hold }
            }
            KeyState::Out => Flow::Continue,
        }
    }

    /// Auth, or with an empty token the handshake's.
    fn authenticate(&mut self, slot: Slot, index: usize, token: &str) -> Flow {
        match self.judge(slot, token) {
            None => Flow::Hold,
            Some(Err(close))
                if close.code == CloseCode::TryAgainLater && self.forget_verdict(slot, token) =>
            {
                self.retry_later(slot)
            }
            Some(Err(close)) => {
                self.deny(slot, index, &close);
                Flow::Continue
            }
            Some(Ok(grant)) => self.join_hocuspocus(slot, index, &grant),
        }
    }

    /// Has an in-band token judged anew the next time. False where it is not in-band, or where working documents of the socket would
    /// have to wait for that.
    fn forget_verdict(&mut self, slot: Slot, token: &str) -> bool {
        let Some(conn) = self.out.conns.get_mut(slot).filter(|conn| conn.app == NONE && !token.is_empty())
        else {
            return false;
        };
        if let Some(hocuspocus) = conn.hocuspocus_mut() {
            hocuspocus.judged = None;
        }
        true
    }

    /// The verdict on a token as it stands now, or None while it is being verified.
    fn judge(&mut self, slot: Slot, token: &str) -> Option<Verdict> {
        let verdict = self.recall(slot, token)?;
        let has_expired =
            |grant: &Arc<Grant>| grant.expires.is_some_and(|expires| self.out.now_unix > expires);
        // A verdict is as old as its socket.
        Some(verdict.and_then(|grant| {
            if has_expired(&grant) {
                Err(Close::new(CloseCode::InvalidToken, "token expired"))
            } else {
                Ok(grant)
            }
        }))
    }

    /// The verdict on a token as it was given, or None while it is being verified.
    fn recall(&mut self, slot: Slot, token: &str) -> Option<Verdict> {
        let Some(conn) = self.out.conns.get_mut(slot) else {
            return Some(Err(Close::from(CloseCode::MissingToken)));
        };
        let serial = conn.serial;
        let cold = conn.cold_mut();
        if token.is_empty() {
            return match &cold.handshake {
                Handshake::Missing => Some(Err(Close::from(CloseCode::MissingToken))),
                Handshake::Verifying => None,
                Handshake::Judged(verdict) => Some(verdict.clone()),
            };
        }
        // 0 is the handshake's ticket.
        let ticket = FixedState::with_seed(self.out.settings.seed).hash_one(token) | 1;
        let hocuspocus = cold.hocuspocus.get_or_insert_default();
        match &hocuspocus.judged {
            Some((asked, judged)) if *asked == ticket => return judged.clone(),
            _ => hocuspocus.judged = Some((ticket, None)),
        }
        let effect = Effect::Verify { conn: ConnRef { slot, serial }, ticket, token: token.into() };
        self.out.effects.push_back(effect);
        None
    }

    fn join_hocuspocus(&mut self, slot: Slot, index: usize, grant: &Arc<Grant>) -> Flow {
        let thread = self.out.settings.thread;
        let Some(raw) = self.out.raw_key(slot, index as u16) else { return Flow::Stop };
        let Ok(key) = wire::Key::parse(&raw) else { return Flow::Stop };
        if !is_valid_name(key.name, &self.out.settings.names) {
            self.deny(slot, index, &Close::new(CloseCode::InvalidName, "invalid document name"));
            return Flow::Continue;
        }
        let Some(conn) = self.out.conns.get_mut(slot) else { return Flow::Stop };
        let access = match grant.policy.access(key.name, conn.cold_mut().origin.as_deref()) {
            Ok(access) => access,
            Err(close) => {
                self.deny(slot, index, &close);
                return Flow::Continue;
            }
        };
        match self.admit_hocuspocus(slot, grant) {
            Ok(true) => {}
            Ok(false) => return self.retry_later(slot),
            Err(close) => {
                self.deny(slot, index, &close);
                return Flow::Continue;
            }
        }
        self.note_end(slot, index, grant);
        let Some(conn) = self.out.conns.get_mut(slot) else { return Flow::Stop };
        let (app, is_settled, serial) = (conn.app, conn.settled, conn.serial);
        let Some(name) = self.document_name(app, key.name) else { return Flow::Stop };
        let owner = self.owner(&name);
        let route = self.route_of(&name);
        let Some(hocuspocus) = self.out.conns.get_mut(slot).and_then(|conn| conn.hocuspocus_mut()) else {
            return Flow::Stop;
        };
        match hocuspocus.keys.get(index).map(|key| &key.state) {
            Some(&KeyState::Joined(session)) => {
                self.reauthenticate(session, access);
                return Flow::Continue;
            }
            Some(&KeyState::Remote { owner, .. }) => {
                let key = hocuspocus.keys[index].id;
                self.out
                    .mail(owner, Mail::Access(RemoteSession { conn: ConnRef { slot, serial }, key }, access));
                self.out.send_key(slot, index as u16, |out| write_authenticated(out, access));
                return Flow::Continue;
            }
            // Answered when the other thread has answered.
            Some(KeyState::Joining { .. }) => return Flow::Continue,
            Some(KeyState::Waiting { .. } | KeyState::Out) | None => {}
        }
        if owner == thread && route.is_none() {
            let dialect =
                if key.session.is_some() { SessionDialect::PrivateKey } else { SessionDialect::PlainKey };
            let peer = Peer::Local { slot, key: index as u16 };
            return match self.open_session(app, name, grant.limits, peer, dialect, access) {
                Ok(Opened::Joined(session)) => self.joined(slot, index, session, access),
                Ok(Opened::Wait(document)) => {
                    if let Some(document) = self.documents.get_mut(document) {
                        document.pending_mut().waiting.push(ConnRef { slot, serial });
                    }
                    Flow::Hold
                }
                Err(close) if close.code == CloseCode::TryAgainLater && is_settled => {
                    self.join_later(slot, index, access, grant);
                    Flow::Continue
                }
                Err(close) if close.code == CloseCode::TryAgainLater => self.retry_later(slot),
                Err(close) => {
                    self.deny(slot, index, &close);
                    Flow::Continue
                }
            };
        }
        if !is_settled && route.is_none() {
            let handshake =
                self.out.conns.get(slot).and_then(|conn| conn.cold.as_ref()).map(|cold| &cold.handshake);
            // Its verdict would come to this thread, and find nobody.
            let is_awaited = matches!(handshake, Some(Handshake::Verifying));
            return if is_awaited { Flow::Hold } else { self.move_to(slot, owner) };
        }
        let owner = route.map_or(owner, |route| route.link);
        let grant = Arc::clone(grant);
        let joining = KeyState::Joining { owner, frames: Vec::new(), access, reroutes: 0, grant };
        let frames = hocuspocus.settle(index, joining);
        for frame in frames {
            hocuspocus.buffer(index, &frame);
        }
        let key = hocuspocus.keys[index].id;
        if let Some(conn) = self.out.conns.get_mut(slot) {
            conn.settled = true;
        }
        self.ask_owner(RemoteSession { conn: ConnRef { slot, serial }, key }, route.map(|route| route.claim));
        Flow::Continue
    }

    /// Counts the connection with its first document, and keeps it within one app. False: not now.
    fn admit_hocuspocus(&mut self, slot: Slot, grant: &Grant) -> Result<bool, Close> {
        let Some(conn) = self.out.conns.get(slot) else { return Ok(false) };
        if conn.app != NONE {
            let is_same = self
                .apps
                .get(conn.app)
                .is_some_and(|app| app.tenant() == grant.app.tenant() && app.id() == grant.app.id());
            if !is_same {
                return Err(Close::new(CloseCode::Forbidden, "all documents of a socket belong to one app"));
            }
            // Its working documents must not wait: edits are limited one by one.
            return Ok(true);
        }
        match self.admit(slot, grant) {
            Ok(()) => Ok(true),
            Err(close) if matches!(close.code, CloseCode::RateLimit | CloseCode::TryAgainLater) => Ok(false),
            Err(close) => Err(close),
        }
    }

    /// Leaves Auth unanswered until it can be allowed.
    pub(crate) fn retry_later(&mut self, slot: Slot) -> Flow {
        let retry = self.out.after(RETRY_MS);
        if let Some(conn) = self.out.conns.get_mut(slot) {
            conn.cold_mut().retry = retry;
        }
        self.out.schedule(slot);
        Flow::Hold
    }

    fn joined(&mut self, slot: Slot, index: usize, session: u32, access: Access) -> Flow {
        let Some(conn) = self.out.conns.get_mut(slot) else { return Flow::Stop };
        conn.settled = true;
        let Some(hocuspocus) = conn.hocuspocus_mut() else { return Flow::Stop };
        let frames = hocuspocus.settle(index, KeyState::Joined(session));
        self.out.send_key(slot, index as u16, |out| write_authenticated(out, access));
        // These few were taken before: they do not wait for a compaction.
        self.is_replaying = true;
        let mut flow = Flow::Continue;
        for frame in frames {
            if let Ok(Frame::Message { body, .. }) = decode_rest(&frame, &mut Vec::new()) {
                flow = self.member_message(session, body, slot);
                if flow != Flow::Continue {
                    break;
                }
            }
        }
        self.is_replaying = false;
        flow
    }

    fn reauthenticate(&mut self, session: u32, access: Access) {
        if let Some(session) = self.out.sessions.get_mut(session) {
            session.read_only = access == Access::ReadOnly;
        }
        self.out.send_session(session, |out| write_authenticated(out, access));
    }

    /// A lasting refusal.
    pub(crate) fn deny(&mut self, slot: Slot, index: usize, close: &Close) {
        self.out.stats.count_refusal(close.code);
        self.out.stats.redirect_denials += u64::from(close.code == CloseCode::WrongRegion);
        let reason = close.reason().to_owned();
        let Some(conn) = self.out.conns.get_mut(slot) else { return };
        let serial = conn.serial;
        let Some(hocuspocus) = conn.hocuspocus_mut() else { return };
        let before = match hocuspocus.keys.get(index).map(|key| &key.state) {
            Some(&KeyState::Joined(session)) => Some(Ok(session)),
            Some(&(KeyState::Remote { owner, .. } | KeyState::Joining { owner, .. })) => Some(Err(owner)),
            _ => None,
        };
        let id = hocuspocus.keys.get(index).map(|key| key.id);
        hocuspocus.settle(index, KeyState::Out);
        match before {
            Some(Ok(session)) => self.leave(session),
            Some(Err(owner)) => {
                let key = id.unwrap_or_default();
                self.out.mail(owner, Mail::Leave(RemoteSession { conn: ConnRef { slot, serial }, key }));
            }
            None => {}
        }
        self.out.send_key(slot, index as u16, |out| write_permission_denied(out, &reason));
    }

    /// Refuses the key whose message waits for a document that cannot be had.
    pub(crate) fn deny_waiting(&mut self, conn: ConnRef, document: &str, close: &Close) {
        let Some(cold) = self.out.conn_at(conn).and_then(|conn| conn.cold.as_mut()) else { return };
        let Some(Ok(Frame::Message { key, .. })) = cold.held_message.as_deref().map(wire::decode) else {
            return;
        };
        let keys = cold.hocuspocus.as_ref().map_or(&[][..], |hocuspocus| &hocuspocus.keys);
        let index = keys.iter().position(|known| &*known.raw == key.raw);
        // The connection may have given up on this document and wait for another one by now.
        let Some(index) = index.filter(|_| key.name == document) else { return };
        cold.held_message = None;
        self.deny(conn.slot, index, close);
        self.resume(conn);
    }

    /// As [`Self::deny_waiting`], for a refusal that may pass: Auth stays unanswered. Documents of the socket that work do not have
    /// to wait for it.
    pub(crate) fn postpone_waiting(&mut self, conn: ConnRef, document: &str) {
        let slot = conn.slot;
        if self.out.conn_at(conn).is_none_or(|found| !found.settled) {
            let _ = self.retry_later(slot);
            return;
        }
        let Some(message) = self.out.conn_at(conn).and_then(|found| found.cold_mut().held_message.take())
        else {
            return;
        };
        if !self.postpone_held(slot, &message, document)
            && let Some(found) = self.out.conn_at(conn)
        {
            found.cold_mut().held_message = Some(message);
        }
        self.resume(conn);
    }

    /// False if the message waits for something else.
    fn postpone_held(&mut self, slot: Slot, message: &[u8], document: &str) -> bool {
        let Ok(Frame::Message { key, body }) = wire::decode(message) else { return false };
        let token = if let Body::Auth { token, .. } = body { token } else { "" };
        if key.name != document {
            return false;
        }
        let Some(Ok(grant)) = self.judge(slot, token) else { return false };
        let Some(conn) = self.out.conns.get_mut(slot) else { return false };
        let access = grant.policy.access(document, conn.cold_mut().origin.as_deref());
        let Some(hocuspocus) = conn.hocuspocus_mut() else { return false };
        let index = hocuspocus.keys.iter().position(|known| &*known.raw == key.raw);
        let (Some(index), Ok(access)) = (index, access) else { return false };
        self.join_later(slot, index, access, &grant);
        if !matches!(body, Body::Auth { .. })
            && let Some(hocuspocus) = self.out.conns.get_mut(slot).and_then(|conn| conn.hocuspocus_mut())
        {
            // The first that waits: there is room.
            hocuspocus.buffer(index, &message[key_len(key.raw)..]);
        }
        true
    }

    /// Has a key wait for its document as if that were another thread's, which is asked in a while.
    fn join_later(&mut self, slot: Slot, index: usize, access: Access, grant: &Arc<Grant>) {
        let thread = self.out.settings.thread;
        let Some(conn) = self.out.conns.get_mut(slot) else { return };
        let (app, serial, subject) = (conn.app, conn.serial, conn.subject.clone());
        let limits = self.apps.limits(app);
        let Some(app) = self.apps.get(app).cloned() else { return };
        let Some(hocuspocus) = conn.hocuspocus_mut() else { return };
        let Some(Ok(name)) = hocuspocus.keys.get(index).map(|key| wire::Key::parse(&key.raw)) else { return };
        let document: Box<str> = name.name.into();
        let grant = Arc::clone(grant);
        let joining = KeyState::Joining { owner: thread, frames: Vec::new(), access, reroutes: 0, grant };
        for frame in hocuspocus.settle(index, joining) {
            hocuspocus.buffer(index, &frame);
        }
        let session = RemoteSession { conn: ConnRef { slot, serial }, key: hocuspocus.keys[index].id };
        let join = RemoteJoin { thread, session, limits, subject, access, is_ywebsocket: false, claim: None };
        self.postpone(join, &document, &app);
    }

    /// Refuses the keys whose Auth did not come in time.
    pub(crate) fn deny_unauthenticated(&mut self, slot: Slot) {
        let now = self.out.now();
        let first_frame = self.out.settings.first_frame;
        let Some(conn) = self.out.conns.get_mut(slot) else { return };
        if conn.stalled {
            return;
        }
        let Some(hocuspocus) = conn.hocuspocus_mut() else { return };
        let is_late =
            |key: &Key| matches!(key.state, KeyState::Waiting { since, .. } if now >= since + first_frame);
        let late: Vec<usize> = (0..hocuspocus.keys.len()).filter(|i| is_late(&hocuspocus.keys[*i])).collect();
        for index in late {
            self.deny(slot, index, &Close::from(CloseCode::MissingToken));
        }
    }

    /// A message of an authorised session whose document is on this thread.
    pub(crate) fn member_message(&mut self, session: u32, body: Body<'_>, slot: Slot) -> Flow {
        let outcome = self.member_body(session, &body);
        match outcome {
            Outcome::Hold => self.hold_for_compaction(slot, session),
            Outcome::Full => self.end(slot, &Close::try_again(FULL_RETRY_MS)),
            Outcome::Invalid => self.end(slot, &Close::from(CloseCode::InvalidData)),
            Outcome::RateLimited(limit) => self.end(slot, &Close::rate_limit(limit)),
            Outcome::Done | Outcome::Known(_) | Outcome::Dropped | Outcome::Appended(_) => {
                if matches!(body, Body::Close { .. }) {
                    self.close_key(slot, session);
                }
                Flow::Continue
            }
        }
    }

    /// Handles a message and acknowledges it: every step 2 and update gets exactly one SyncStatus.
    pub(crate) fn member_body(&mut self, session: u32, body: &Body<'_>) -> Outcome {
        match *body {
            Body::Sync(SyncMessage::Step1 { state_vector })
            | Body::SyncReply(SyncMessage::Step1 { state_vector }) => self.sync_step1(session, state_vector),
            Body::Sync(SyncMessage::Step2 { update } | SyncMessage::Update { update })
            | Body::SyncReply(SyncMessage::Step2 { update } | SyncMessage::Update { update }) => {
                let outcome = self.edit(session, update);
                match outcome {
                    // What is known already may have come a moment ago, and not be stored yet.
                    Outcome::Appended(position) | Outcome::Known(position) => {
                        self.acknowledge_when_stored(session, position);
                    }
                    Outcome::Dropped | Outcome::Invalid => self.sync_status(session, false),
                    Outcome::Done | Outcome::Hold | Outcome::Full | Outcome::RateLimited(_) => {}
                }
                outcome
            }
            Body::Awareness(body) => self.announce(session, body),
            Body::QueryAwareness => self.query_awareness(session),
            Body::Stateless(payload) => self.stateless(session, payload),
            // A server's message, and not for clients to send.
            Body::BroadcastStateless(_) => Outcome::Invalid,
            Body::Close { .. } => Outcome::Done,
            Body::Auth { .. }
            | Body::TokenRequest
            | Body::PermissionDenied { .. }
            | Body::Authenticated { .. }
            | Body::SyncStatus { .. } => Outcome::Done,
        }
    }

    pub(crate) fn sync_status(&mut self, session: u32, applied: bool) {
        self.out.send_session(session, |out| write_sync_status(out, applied));
    }

    fn stateless(&mut self, session: u32, payload: &str) -> Outcome {
        let now_ms = self.out.now_ms;
        let Some(index) = self.session_document(session) else { return Outcome::Done };
        let Some(document) = self.documents.get(index) else { return Outcome::Done };
        if !self.apps.take_operation(document.app, now_ms) {
            return Outcome::RateLimited(self.apps.limits(document.app).operations_per_minute.into());
        }
        let subject = match self.session_peer(session) {
            Some(Peer::Local { slot, .. }) => self.out.conns.get(slot).map(|conn| &conn.subject),
            Some(Peer::Remote(remote)) => self.out.remotes.get(remote).map(|remote| &remote.subject),
            None => None,
        };
        let effect = Effect::Stateless {
            document: document.name.clone(),
            subject: subject.map(Subject::to_string).unwrap_or_default().into(),
            payload: payload.into(),
        };
        self.out.effects.push_back(effect);
        Outcome::Done
    }

    /// The client is done with one of its documents.
    fn close_key(&mut self, slot: Slot, session: u32) {
        if let Some(hocuspocus) = self.out.conns.get_mut(slot).and_then(|conn| conn.hocuspocus_mut()) {
            let index = hocuspocus
                .keys
                .iter()
                .position(|key| matches!(key.state, KeyState::Joined(s) if s == session));
            if let Some(index) = index {
                hocuspocus.settle(index, KeyState::Out);
            }
        }
        self.leave(session);
    }

    /// The data frame without which a client gives an idle connection up.
    pub(crate) fn send_idle_frame(&mut self, slot: Slot) {
        let now = self.out.now();
        let Some(conn) = self.out.conns.get_mut(slot) else { return };
        if conn.session != NONE {
            return self.out.message(slot, write_idle);
        }
        let is_in = |key: &Key| matches!(key.state, KeyState::Joined(_) | KeyState::Remote { .. });
        let key = conn.hocuspocus_mut().and_then(|hocuspocus| hocuspocus.keys.iter().position(is_in));
        match key {
            Some(key) => self.out.send_key(slot, key as u16, write_idle),
            // Nothing to say to a socket without a document; look again later.
            None => conn.last_data = now,
        }
    }
}

/// Decodes a frame that was kept without its key.
pub(crate) fn decode_rest<'a>(
    rest: &[u8],
    room: &'a mut Vec<u8>,
) -> Result<Frame<'a>, pinwire_protocol::document::Malformed> {
    wire::append_key(room, "-");
    room.extend_from_slice(rest);
    wire::decode(room)
}

pub(crate) fn write_authenticated(out: &mut Vec<u8>, access: Access) {
    let scope = match access {
        Access::ReadWrite => Scope::ReadWrite,
        Access::ReadOnly => Scope::ReadOnly,
    };
    write_without_key(out, |out| wire::append_authenticated(out, "", scope));
}

fn write_permission_denied(out: &mut Vec<u8>, reason: &str) {
    write_without_key(out, |out| wire::append_permission_denied(out, "", reason));
}

pub(crate) fn write_sync_status(out: &mut Vec<u8>, applied: bool) {
    write_without_key(out, |out| wire::append_sync_status(out, "", applied));
}

pub(crate) fn write_stateless(out: &mut Vec<u8>, payload: &str) {
    write_without_key(out, |out| wire::append_stateless(out, "", payload));
}

/// Appends what an encoder writes behind the key: an empty key is one byte, which is taken out again.
pub(crate) fn write_without_key(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    write(out);
    out.remove(start);
}
