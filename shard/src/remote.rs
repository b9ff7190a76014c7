//! Documents of other threads: the two ends of [`Mail`].

use crate::App;
use crate::conn::{Key, KeyState, NONE, Peer, Phase, RemotePeer, SessionDialect, UnderWay};
use crate::document::RemoteJoin;
use crate::edit::Outcome;
use crate::effect::{ConnRef, Slot};
use crate::grant::Access;
use crate::hocuspocus::{decode_rest, write_authenticated};
use crate::limits::FULL_RETRY_MS;
use crate::mail::{self, FIRST_LINK, Mail, RemoteSession};
use crate::members::Opened;
use crate::relay::not_here;
use crate::shard::Shard;
use pinwire_protocol::close::{Close, CloseCode};
use pinwire_protocol::document::hocuspocus::{Body, Frame};
use std::sync::Arc;

impl Shard {
    /// A message from another thread's shard.
    pub fn mail(&mut self, from: u16, mail: Mail) {
        match mail {
            Mail::Join { session, document, app, limits, subject, access, is_ywebsocket, claim, .. } => {
                let join =
                    RemoteJoin { thread: from, session, limits, subject, access, is_ywebsocket, claim };
                self.remote_join(&join, &document, &app);
            }
            Mail::Frame(session, rest) => self.remote_frame(from, session, &rest),
            Mail::Access(session, access) => self.remote_access(from, session, access),
            Mail::Taken(session, frames, bytes) => self.frames_taken(from, session, frames, bytes),
            Mail::Credit(session) => self.remote_credit(from, session),
            Mail::Leave(session) => self.remote_leave(from, session),
            Mail::Joined(session, access) => self.joined_remotely(from, session, access),
            Mail::Refused(session, close) => self.refused_remotely(from, session, &close),
            Mail::Elsewhere(session, route) => self.found_elsewhere(from, session, route),
            Mail::Deliver { to, bodies, wants_credit } => {
                for session in to {
                    self.deliver(from, session, &bodies, wants_credit);
                }
            }
            Mail::Close(session, close) => self.end_remotely(from, session, &close),
        }
    }

    // The owner's end.

    fn remote_join(&mut self, join: &RemoteJoin, document: &str, app: &Arc<App>) {
        let &RemoteJoin { thread, session, limits, access, is_ywebsocket, claim, .. } = join;
        if self.is_sent_elsewhere(thread, session) {
            return;
        }
        let name = app.document(document);
        if thread >= FIRST_LINK {
            // The registry is asked, whatever was found elsewhere a moment ago.
            self.routes.forget(&name);
        } else if let Some(route) = self.route_of(&name) {
            return self.tell_elsewhere(thread, session, route);
        }
        // A session that was sent here for another claim was sent by what is no longer so, here or there.
        if let (Some(sent_for), Some(held)) = (claim, self.claim_of(&name))
            && sent_for != held
        {
            return self.out.mail(thread, Mail::Refused(session, not_here()));
        }
        let id = self.apps.acquire(app, limits);
        let subject = join.subject.clone();
        let remote = self.out.remotes.insert(RemotePeer { thread, session, subject, awaits_credit: false });
        let dialect = if is_ywebsocket { SessionDialect::YWebsocket } else { SessionDialect::PrivateKey };
        let opened = self.open_session(id, name, limits, Peer::Remote(remote), dialect, access);
        if !matches!(opened, Ok(Opened::Joined(_))) {
            self.out.remotes.remove(remote);
        }
        // The document counts for the app by itself.
        self.apps.release(id);
        match opened {
            Ok(Opened::Joined(index)) => {
                // `leave` takes the name out of the map.
                if let Some(before) = self.remote_sessions.remove(&(thread, session)) {
                    self.leave(before);
                }
                self.remote_sessions.insert((thread, session), index);
                self.count_joined(thread);
                self.out.mail(thread, Mail::Joined(session, access));
            }
            Ok(Opened::Wait(index)) => {
                if let Some(document) = self.documents.get_mut(index) {
                    document.pending_mut().remote_waiting.push(join.clone());
                }
            }
            Err(close) if join.can_wait_for(&close) => self.postpone(join.clone(), document, app),
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
            Some(close) if join.can_wait_for(close) => self.postpone(join, name, app),
            Some(close) => self.out.mail(join.thread, Mail::Refused(join.session, close.clone())),
            None => self.join_again(&join, name, app),
        }
    }

    /// A session's document is there, perhaps: what it waits for.
    pub(crate) fn join_again(&mut self, join: &RemoteJoin, name: &str, app: &Arc<App>) {
        self.remote_join(join, name, app);
    }

    fn remote_frame(&mut self, thread: u16, remote: RemoteSession, rest: &[u8]) {
        let Some(&session) = self.remote_sessions.get(&(thread, remote)) else { return };
        match self.taken.last_mut() {
            Some((to, of, frames, bytes)) if (*to, *of) == (thread, remote) => {
                *frames += 1;
                *bytes = bytes.saturating_add(rest.len() as u32);
            }
            _ => self.taken.push((thread, remote, 1, rest.len() as u32)),
        }
        let outcome = match self.out.sessions.get(session).map(|found| found.dialect) {
            Some(SessionDialect::YWebsocket) => self.ywebsocket_body(session, rest),
            _ => match decode_rest(rest, &mut Vec::new()) {
                Ok(Frame::Message { body, .. }) => self.member_body(session, &body),
                Ok(Frame::Ping | Frame::Pong) => Outcome::Done,
                Err(_) => Outcome::Invalid,
            },
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

    pub(crate) fn remote_key(&mut self, session: RemoteSession) -> Option<&mut Key> {
        let keys = &mut self.out.conn_at(session.conn)?.hocuspocus_mut()?.keys;
        keys.iter_mut().find(|key| key.id == session.key)
    }

    /// Where a session's key stands in its socket's list.
    fn remote_index(&mut self, session: RemoteSession) -> Option<u16> {
        let keys = &self.out.conn_at(session.conn)?.hocuspocus_mut()?.keys;
        keys.iter().position(|key| key.id == session.key).map(|index| index as u16)
    }

    /// The owner handled frames: the socket may go on if it waits for that.
    fn frames_taken(&mut self, owner: u16, session: RemoteSession, frames: u32, bytes: u32) {
        if let Some(relayed) = self.relayed_mut(owner, session) {
            relayed.under_way.taken(frames, bytes);
        } else if let Some(Key { state: KeyState::Remote { under_way, .. }, .. }) = self.remote_key(session) {
            under_way.taken(frames, bytes);
        } else {
            return;
        }
        self.resume(session.conn);
    }

    fn joined_remotely(&mut self, owner: u16, session: RemoteSession, access: Access) {
        if self.relayed_mut(owner, session).is_some() {
            self.confirm_route(owner, session);
            return self.relay_begins(session);
        }
        let Some(Key { state: KeyState::Joining { owner: asked, frames, .. }, .. }) =
            self.remote_key(session)
        else {
            return;
        };
        if *asked != owner {
            // It is looked for elsewhere by now.
            return self.out.mail(owner, Mail::Leave(session));
        }
        let frames = std::mem::take(frames);
        let mut under_way = UnderWay::default();
        frames.iter().for_each(|frame| under_way.sent(frame.len()));
        if let Some(key) = self.remote_key(session) {
            key.state = KeyState::Remote { owner, under_way };
        }
        self.confirm_route(owner, session);
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

    pub(crate) fn refused_remotely(&mut self, owner: u16, session: RemoteSession, close: &Close) {
        self.note_refusal(owner, session, close);
        if self.relayed_mut(owner, session).is_some() {
            return self.relay_refused(session.conn, close);
        }
        let is_elsewhere =
            owner >= FIRST_LINK && matches!(close.code, CloseCode::WrongRegion | CloseCode::ServiceRestart);
        match self.remote_key(session).map(|key| &key.state) {
            Some(KeyState::Joining { owner: asked, .. }) if *asked == owner && is_elsewhere => {
                return self.reroute(session);
            }
            Some(KeyState::Joining { owner: of, .. } | KeyState::Remote { owner: of, .. })
                if *of == owner => {}
            _ => return,
        }
        let Some(index) = self.remote_index(session) else { return };
        // The owner knows nothing of the session: nothing to leave there.
        if let Some(hocuspocus) = self.out.conn_at(session.conn).and_then(|conn| conn.hocuspocus_mut()) {
            hocuspocus.settle(usize::from(index), KeyState::Out);
        }
        self.deny(session.conn.slot, usize::from(index), close);
        self.resume(session.conn);
    }

    fn deliver(&mut self, owner: u16, session: RemoteSession, bodies: &[mail::Body], wants_credit: bool) {
        let slot = session.conn.slot;
        if self.relayed_mut(owner, session).is_some() {
            for mail::Body { head, tail } in bodies {
                match tail {
                    None => self.out.message(slot, |out| out.extend_from_slice(head)),
                    Some(tail) => self.out.message_with_tail(slot, |out| out.extend_from_slice(head), tail),
                }
            }
        } else {
            // What was under way to a session that ended must not reach the next one under the same key.
            if !matches!(self.remote_key(session), Some(Key { state: KeyState::Remote { owner: of, .. }, .. }) if *of == owner)
            {
                return;
            }
            let Some(index) = self.remote_index(session) else { return };
            for body in bodies {
                match &body.tail {
                    None => self.out.send_key(slot, index, |out| out.extend_from_slice(&body.head)),
                    Some(tail) => self.out.send_key_with_tail(slot, index, &body.head, tail),
                }
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
        for (thread, session, frames, bytes) in std::mem::take(&mut self.taken) {
            self.out.mail(thread, Mail::Taken(session, frames, bytes));
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
        if let Some(relayed) = conn.cold.as_mut().and_then(|cold| cold.relayed.take()) {
            return self.out.mail(relayed.owner, Mail::Leave(RemoteSession { conn: reference, key: 0 }));
        }
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
