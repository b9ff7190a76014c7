//! Documents of other threads: the two ends of [`Mail`].

use crate::conn::{Key, KeyState, NONE, Peer, Phase, RemotePeer, SessionDialect};
use crate::document::RemoteJoin;
use crate::edit::Outcome;
use crate::effect::{ConnRef, Slot};
use crate::grant::Access;
use crate::hocuspocus::{decode_rest, write_authenticated};
use crate::limits::FULL_RETRY_MS;
use crate::mail::{self, Mail, RemoteSession};
use crate::members::Opened;
use crate::shard::Shard;
use crate::{App, AppLimits};
use pinwire_protocol::close::{Close, CloseCode};
use pinwire_protocol::document::hocuspocus::{Body, Frame};
use std::sync::Arc;

impl Shard {
    /// A message from another thread's shard.
    pub fn mail(&mut self, from: u16, mail: Mail) {
        match mail {
            Mail::Join { session, document, app, limits, access } => {
                self.remote_join(from, session, &document, &app, limits, access);
            }
            Mail::Frame(session, rest) => self.remote_frame(from, session, &rest),
            Mail::Access(session, access) => self.remote_access(from, session, access),
            Mail::Taken(session, frames) => self.frames_taken(session, frames),
            Mail::Credit(session) => self.remote_credit(from, session),
            Mail::Leave(session) => self.remote_leave(from, session),
            Mail::Joined(session, access) => self.joined_remotely(from, session, access),
            Mail::Refused(session, close) => self.refused_remotely(session, &close),
            Mail::Deliver { to, bodies, wants_credit } => {
                for session in to {
                    self.deliver(from, session, &bodies, wants_credit);
                }
            }
            Mail::Close(session, close) => {
                if self.out.conn_at(session.conn).is_some() {
                    self.close(session.conn.slot, &close);
                }
            }
        }
    }

    // The owner's end.

    fn remote_join(
        &mut self,
        thread: u16,
        session: RemoteSession,
        document: &str,
        app: &Arc<App>,
        limits: AppLimits,
        access: Access,
    ) {
        let id = self.apps.acquire(app, limits);
        let opened = match self.document_name(id, document) {
            Some(name) => {
                let remote = self.out.remotes.insert(RemotePeer { thread, session, awaits_credit: false });
                let peer = Peer::Remote(remote);
                let opened = self.open_session(id, name, limits, peer, SessionDialect::PrivateKey, access);
                if !matches!(opened, Ok(Opened::Joined(_))) {
                    self.out.remotes.remove(remote);
                }
                opened
            }
            None => Err(Close::from(CloseCode::InternalError)),
        };
        // The document counts for the app by itself.
        self.apps.release(id);
        match opened {
            Ok(Opened::Joined(index)) => {
                // `leave` takes the name out of the map.
                if let Some(before) = self.remote_sessions.remove(&(thread, session)) {
                    self.leave(before);
                }
                self.remote_sessions.insert((thread, session), index);
                self.out.mail(thread, Mail::Joined(session, access));
            }
            Ok(Opened::Wait(index)) => {
                if let Some(document) = self.documents.get_mut(index) {
                    document.pending_mut().remote_waiting.push(RemoteJoin {
                        thread,
                        session,
                        limits,
                        access,
                    });
                }
            }
            Err(close) if close.code == CloseCode::TryAgainLater => {
                let join = RemoteJoin { thread, session, limits, access };
                self.postpone(join, document, app);
            }
            Err(close) => self.out.mail(thread, Mail::Refused(session, close)),
        }
    }

    pub(crate) fn remote_document_ready(
        &mut self,
        join: RemoteJoin,
        name: &str,
        app: &Arc<App>,
        refusal: Option<&Close>,
    ) {
        match refusal {
            Some(close) if close.code == CloseCode::TryAgainLater => self.postpone(join, name, app),
            Some(close) => self.out.mail(join.thread, Mail::Refused(join.session, close.clone())),
            None => self.join_again(&join, name, app),
        }
    }

    /// A session's document is there, perhaps: what it waits for.
    pub(crate) fn join_again(&mut self, join: &RemoteJoin, name: &str, app: &Arc<App>) {
        self.remote_join(join.thread, join.session, name, app, join.limits, join.access);
    }

    fn remote_frame(&mut self, thread: u16, remote: RemoteSession, rest: &[u8]) {
        let Some(&session) = self.remote_sessions.get(&(thread, remote)) else { return };
        match self.taken.last_mut() {
            Some((to, of, frames)) if (*to, *of) == (thread, remote) => *frames += 1,
            _ => self.taken.push((thread, remote, 1)),
        }
        let mut room = Vec::new();
        let outcome = match decode_rest(rest, &mut room) {
            Ok(Frame::Message { body, .. }) => self.member_body(session, &body),
            Ok(Frame::Ping | Frame::Pong) => Outcome::Done,
            Err(_) => Outcome::Invalid,
        };
        let close = match outcome {
            Outcome::Done | Outcome::Known(_) | Outcome::Dropped | Outcome::Appended(_) => return,
            Outcome::Invalid => Close::from(CloseCode::InvalidData),
            Outcome::RateLimited(limit) => Close::rate_limit(limit),
            Outcome::Hold | Outcome::Full => Close::try_again(FULL_RETRY_MS),
        };
        self.leave(session);
        self.out.mail(thread, Mail::Close(remote, close));
    }

    fn remote_credit(&mut self, thread: u16, remote: RemoteSession) {
        let Some(&session) = self.remote_sessions.get(&(thread, remote)) else { return };
        if let Some(remote) = self.out.remote_mut(session) {
            remote.awaits_credit = false;
        }
        self.answer_deferred(session);
        self.lag(session);
    }

    fn remote_access(&mut self, thread: u16, remote: RemoteSession, access: Access) {
        let Some(&session) = self.remote_sessions.get(&(thread, remote)) else { return };
        if let Some(found) = self.out.sessions.get_mut(session) {
            found.read_only = access == Access::ReadOnly;
        }
    }

    fn remote_leave(&mut self, thread: u16, remote: RemoteSession) {
        if let Some(session) = self.remote_sessions.remove(&(thread, remote)) {
            return self.leave(session);
        }
        self.postponed.retain(|waiting| !waiting.is_of(thread, remote));
        // It may still wait for its document.
        let waiting: Vec<u32> =
            self.documents.iter().filter(|(_, d)| d.pending.is_some()).map(|(index, _)| index).collect();
        for index in waiting {
            if let Some(pending) =
                self.documents.get_mut(index).and_then(|document| document.pending.as_mut())
            {
                pending.remote_waiting.retain(|join| (join.thread, join.session) != (thread, remote));
            }
        }
    }

    // The home end.

    fn remote_key(&mut self, session: RemoteSession) -> Option<&mut Key> {
        let keys = &mut self.out.conn_at(session.conn)?.hocuspocus_mut()?.keys;
        keys.iter_mut().find(|key| key.id == session.key)
    }

    /// Where a session's key stands in its socket's list.
    fn remote_index(&mut self, session: RemoteSession) -> Option<u16> {
        let keys = &self.out.conn_at(session.conn)?.hocuspocus_mut()?.keys;
        keys.iter().position(|key| key.id == session.key).map(|index| index as u16)
    }

    /// The owner handled frames: the socket may go on if it waits for that.
    fn frames_taken(&mut self, session: RemoteSession, frames: u32) {
        if let Some(Key { state: KeyState::Remote { under_way, .. }, .. }) = self.remote_key(session) {
            *under_way = under_way.saturating_sub(frames);
            self.resume(session.conn);
        }
    }

    fn joined_remotely(&mut self, owner: u16, session: RemoteSession, access: Access) {
        let Some(Key { state: KeyState::Joining { frames, .. }, .. }) = self.remote_key(session) else {
            return;
        };
        let frames = std::mem::take(frames);
        if let Some(key) = self.remote_key(session) {
            key.state = KeyState::Remote { owner, under_way: frames.len() as u32 };
        }
        if let Some(hocuspocus) = self.out.conn_at(session.conn).and_then(|conn| conn.hocuspocus_mut()) {
            hocuspocus.buffered -= frames.iter().map(|frame| frame.len()).sum::<usize>();
        }
        let Some(index) = self.remote_index(session) else { return };
        self.out.send_key(session.conn.slot, index, |out| write_authenticated(out, access));
        for frame in frames {
            let is_close = matches!(
                decode_rest(&frame, &mut Vec::new()),
                Ok(Frame::Message { body: Body::Close { .. }, .. })
            );
            if is_close {
                if let Some(key) = self.remote_key(session) {
                    key.state = KeyState::Out;
                }
                // What follows is for nobody, as it is behind a Close to a session of this thread.
                self.out.mail(owner, Mail::Leave(session));
                break;
            }
            self.out.mail(owner, Mail::Frame(session, frame));
        }
        self.resume(session.conn);
    }

    fn refused_remotely(&mut self, session: RemoteSession, close: &Close) {
        // The owner knows nothing of the session: nothing to leave there.
        match self.remote_key(session) {
            Some(key) if matches!(key.state, KeyState::Joining { .. } | KeyState::Remote { .. }) => {
                key.state = KeyState::Out;
            }
            _ => return,
        }
        let Some(index) = self.remote_index(session) else { return };
        self.deny(session.conn.slot, usize::from(index), close);
        self.resume(session.conn);
    }

    fn deliver(&mut self, owner: u16, session: RemoteSession, bodies: &[mail::Body], wants_credit: bool) {
        // What was under way to a session that ended must not reach the next one under the same key.
        if !matches!(self.remote_key(session), Some(Key { state: KeyState::Remote { owner: of, .. }, .. }) if *of == owner)
        {
            return;
        }
        let slot = session.conn.slot;
        let Some(index) = self.remote_index(session) else { return };
        for body in bodies {
            match &body.tail {
                None => self.out.send_key(slot, index, |out| out.extend_from_slice(&body.head)),
                Some(tail) => self.out.send_key_with_tail(slot, index, &body.head, tail),
            }
        }
        if wants_credit {
            // The owner sends more once the socket took this: after the flush if it is not blocked, else when it drains.
            self.credits.push((owner, session));
        }
    }

    /// Tells other threads what was handled of theirs, and gives back the credits of every connection that is not blocked.
    /// Called after a flush, when that is known.
    pub(crate) fn return_credits(&mut self) {
        for (thread, session, frames) in std::mem::take(&mut self.taken) {
            self.out.mail(thread, Mail::Taken(session, frames));
        }
        for (owner, session) in std::mem::take(&mut self.credits) {
            match self.out.conn_at(session.conn) {
                None => {}
                Some(conn) if conn.is_blocked() => self.credits.push((owner, session)),
                Some(_) => self.out.mail(owner, Mail::Credit(session)),
            }
        }
    }

    /// Tells other threads that a connection's sessions on their documents ended.
    pub(crate) fn leave_remote_documents(&mut self, slot: Slot) {
        let Some(conn) = self.out.conns.get_mut(slot) else { return };
        if conn.app == NONE || conn.phase == Phase::Moving {
            return;
        }
        let reference = ConnRef { slot, serial: conn.serial };
        let Some(hocuspocus) = conn.hocuspocus_mut() else { return };
        let owner = |key: &Key| match key.state {
            KeyState::Remote { owner, .. } | KeyState::Joining { owner, .. } => Some(owner),
            _ => None,
        };
        let remote: Vec<(u16, u16)> =
            hocuspocus.keys.iter().filter_map(|key| Some((key.id, owner(key)?))).collect();
        for (key, owner) in remote {
            self.out.mail(owner, Mail::Leave(RemoteSession { conn: reference, key }));
        }
    }
}
