//! Documents come and go, and so do their members.

use crate::conn::{Peer, Phase, Session, SessionDialect};
use crate::document::awareness::FOREIGN;
use crate::document::{Document, Member, State};
use crate::effect::{DocumentName, DocumentRef, Effect, Kept};
use crate::grant::Access;
use crate::limits::SAY_ALL_MS;
use crate::shard::{DOCUMENT_KEY, Shard};
use crate::slab::reserve_one;
use crate::{AppLimits, apps::AppId};
use pinwire_protocol::close::{Close, CloseCode};

/// What [`Shard::open_session`] came to.
pub(crate) enum Opened {
    /// A member now.
    Joined(u32),
    /// The document at this index is being loaded.
    Wait(u32),
}

impl Shard {
    /// Makes a session on a document of this thread, which is claimed and loaded first if nobody has it open.
    pub(crate) fn open_session(
        &mut self,
        app: AppId,
        name: DocumentName,
        limits: AppLimits,
        peer: Peer,
        dialect: SessionDialect,
        access: Access,
    ) -> Result<Opened, Close> {
        let hash = self.hash(&name);
        let documents = &self.documents;
        let is_it = |index: &u32| documents.get(*index).is_some_and(|document| document.name == name);
        let Some(&index) = self.by_name.find(hash, is_it) else {
            return self.create(app, name, hash, limits).map(Opened::Wait);
        };
        let Some(document) = self.documents.get_mut(index) else { return Ok(Opened::Wait(index)) };
        if document.state == State::Loading {
            return Ok(Opened::Wait(index));
        }
        let elsewhere = document.shared.as_ref().map_or(0, |shared| shared.elsewhere().1);
        if document.members.len() as u64 + elsewhere >= u64::from(limits.max_users_per_document) {
            return Err(Close::document_users(limits.max_users_per_document.into()));
        }
        document.state = State::Live;
        let member = Member { session: 0, cursor: document.log.head(), awareness: 0 };
        let position = document.members.len() as u32;
        reserve_one(&mut document.members);
        document.members.push(member);
        let is_elsewhere = document.is_elsewhere();
        self.next_tag = (self.next_tag + 1) % FOREIGN;
        self.next_tag = self.next_tag.max(1);
        let session = self.out.sessions.insert(Session {
            peer,
            document: index,
            member: position,
            tag: self.next_tag,
            read_only: access == Access::ReadOnly,
            announced: false,
            is_lagging: false,
            dialect,
        });
        document.members[position as usize].session = session;
        // It lacks everyone's awareness.
        self.lag(session);
        if is_elsewhere {
            // Other nodes count it, and are told again of everyone while somebody is here.
            self.mark_dirty(index);
            self.schedule_document(index);
        }
        Ok(Opened::Joined(session))
    }

    fn create(&mut self, app: AppId, name: DocumentName, hash: u64, limits: AppLimits) -> Result<u32, Close> {
        if self.apps.is_of(app, self.adrift) {
            return Err(self.try_again());
        }
        let Some(counted) = self.apps.get(app).cloned() else {
            return Err(Close::from(CloseCode::InternalError));
        };
        counted
            .admit_document(limits.max_documents)
            .map_err(|active| Close::document_limit(limits.max_documents.into(), active.into()))?;
        let app = self.apps.acquire(&counted, limits);
        let serial = self.serial();
        let document = Document::new(app, name.clone(), hash, serial, self.out.now());
        let index = self.documents.insert(document);
        let documents = &self.documents;
        let rehash = |index: &u32| documents.get(*index).map_or(0, |document| document.hash);
        self.by_name.insert_unique(hash, index, rehash);
        self.out.effects.push_back(Effect::Open(DocumentRef { index, serial }, name));
        Ok(index)
    }

    /// The claim and the session store answered [`Effect::Open`]: what the session held so far, or how those who wait are
    /// refused. Returns how many of the session's updates are none.
    pub fn opened(&mut self, document: DocumentRef, session: Result<Kept, Close>) -> u64 {
        let grace_ms = self.out.now_ms + self.out.settings.grace_ms;
        let mut unreadable = 0;
        let Some(found) = self.document_at(document) else { return unreadable };
        let pending = found.pending.take().unwrap_or_default();
        let name = found.name.name.clone();
        let app = found.app;
        let app = self.apps.get(app).cloned();
        let Some(found) = self.document_at(document) else { return unreadable };
        let refusal = match session {
            Err(close) => {
                self.remove_document(document.index);
                Some(close)
            }
            Ok(kept) => {
                unreadable = found.restore(kept);
                found.state = State::Grace { until_ms: grace_ms };
                self.out.stats.entries_dropped += unreadable;
                self.schedule_document(document.index);
                None
            }
        };
        for conn in pending.waiting {
            match &refusal {
                None => self.resume(conn),
                Some(close) => self.refuse_waiting(conn, &name, close),
            }
        }
        if let Some(app) = app {
            for join in pending.remote_waiting {
                self.remote_document_ready(join, &name, &app, refusal.as_ref());
            }
        }
        unreadable
    }

    fn refuse_waiting(&mut self, conn: crate::effect::ConnRef, document: &str, close: &Close) {
        let Some(found) = self.out.conn_at(conn) else { return };
        if found.hocuspocus_mut().is_some() && close.code == CloseCode::TryAgainLater {
            self.postpone_waiting(conn, document);
        } else if found.hocuspocus_mut().is_some() {
            self.deny_waiting(conn, document, close);
        } else if found.phase == Phase::First {
            self.refuse(conn.slot, close.clone());
            self.resume(conn);
        }
    }

    /// Ends a session: the document forgets the member, and others see its user go.
    pub(crate) fn leave(&mut self, session: u32) {
        let Some(ended) = self.out.sessions.remove(session) else { return };
        let now_ms = self.out.now_ms;
        let grace_ms = self.out.settings.grace_ms;
        if let Peer::Remote(remote) = ended.peer
            && let Some(remote) = self.out.remotes.remove(remote)
        {
            self.remote_sessions.remove(&(remote.thread, remote.session));
            self.count_left(remote.thread);
        }
        let Some(document) = self.documents.get_mut(ended.document) else { return };
        document.members.swap_remove(ended.member as usize);
        if let Some(moved) = document.members.get(ended.member as usize)
            && let Some(moved) = self.out.sessions.get_mut(moved.session)
        {
            moved.member = ended.member;
        }
        if document.members.capacity() > 2 * document.members.len().max(4) {
            document.members.shrink_to_fit();
        }
        let is_news = document.awareness.session_ended(ended.tag, now_ms);
        if document.members.is_empty() {
            document.state = State::Grace { until_ms: now_ms + grace_ms };
        }
        if is_news || document.is_elsewhere() {
            self.mark_dirty(ended.document);
        }
        self.schedule_document(ended.document);
    }

    /// Makes sure that the wheel looks at a document in time.
    pub(crate) fn schedule_document(&mut self, index: u32) {
        let Some(document) = self.documents.get(index) else { return };
        let grace = match document.state {
            State::Grace { until_ms } if !self.must_stay(document) => Some(until_ms),
            State::Grace { .. } | State::Live | State::Loading => None,
        };
        let all_due = document.says_all_at();
        let Some(deadline_ms) = grace.into_iter().chain(document.awareness.next_ms()).chain(all_due).min()
        else {
            return;
        };
        let Some(document) = self.documents.get_mut(index) else { return };
        self.out.wheel.schedule(index | DOCUMENT_KEY, &mut document.due, deadline_ms);
    }

    pub(crate) fn document_deadline(&mut self, index: u32) {
        let now_ms = self.out.now_ms;
        let Some(document) = self.documents.get(index) else { return };
        let is_over = matches!(document.state, State::Grace { until_ms } if now_ms >= until_ms);
        if is_over && !self.must_stay(document) {
            return self.remove_document(index);
        }
        let Some(document) = self.documents.get_mut(index) else { return };
        let is_all_due = document.says_all_at().is_some_and(|due_ms| now_ms >= due_ms);
        if is_all_due && let Some(shared) = &mut document.shared {
            shared.says_all = true;
            shared.all_due_ms = now_ms + SAY_ALL_MS;
        }
        let expired = document.awareness.expire(now_ms);
        let released = document.awareness.release_renewals(now_ms);
        if expired || released || is_all_due {
            self.mark_dirty(index);
        }
        self.schedule_document(index);
    }

    pub(crate) fn remove_document(&mut self, index: u32) {
        let Some(document) = self.documents.remove(index) else { return };
        self.out.unstored -= u64::from(document.unstored());
        if let Ok(entry) = self.by_name.find_entry(document.hash, |found| *found == index) {
            entry.remove();
        }
        if let Some(app) = self.apps.get(document.app) {
            app.release_document();
        }
        self.apps.release(document.app);
        let closed = DocumentRef { index, serial: document.serial };
        self.out.effects.push_back(Effect::Closed(closed, document.name));
    }
}
