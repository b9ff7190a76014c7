//! The end of a turn: everything that came in for a document leaves to its members, encoded once per class.
//!
//! A member that keeps up is sent what is new as one run of shared bytes. One that is behind (it just joined, its socket was
//! full, or another thread has not given the credit back) keeps its cursor and catches up on its own, a bounded piece a
//! turn. Nobody is sent its own edits.

use crate::conn::{Peer, SessionDialect};
use crate::document::log::{Entry, Position, Rebase, STORED};
use crate::document::shared::Doubt;
use crate::document::yjs::{self, Compacted};
use crate::document::{Document, State};
use crate::effect::{DocumentRef, Effect, Segment};
use crate::hocuspocus::write_sync_status;
use crate::limits::{
    ARENA_SOFT_MAX, CATCH_UP_PER_TURN, COMPACT_MIN, COMPRESS_MAX, MERGE_NS_PER_UPDATE, MERGE_SAVES_BYTES,
    PS_PER_BYTE_AND_MEMBER, SAY_ALL_MS,
};
use crate::mail::{Body, Mail, RemoteSession};
use crate::output::{Framed, Output};
use crate::shard::Shard;
use pinwire_protocol::document::hocuspocus as wire;
use pinwire_protocol::document::sync::SyncMessage;
use pinwire_protocol::document::varint::write_var_uint;
use pinwire_protocol::ws::{self, Frame, Opcode};
use std::sync::Arc;

impl Shard {
    /// Before the flush: asks the session store to keep what came in, so that a store that answers at once has its
    /// acknowledgements leave in this turn.
    pub fn settle(&mut self) {
        for &index in &self.dirty {
            let Some(document) = self.documents.get_mut(index) else { continue };
            let head = document.log.head();
            if document.submitted != head && !self.apps.is_of(document.app, self.adrift) {
                let document = DocumentRef { index, serial: document.serial };
                self.out.effects.push_back(Effect::Store(document));
            }
        }
    }

    /// The entries that [`Effect::Store`] is about, as they came, and the position after the last; they count as submitted. What
    /// came from the store is left out.
    pub fn submit(&mut self, document: DocumentRef) -> Option<(Position, impl Iterator<Item = &[u8]>)> {
        let adrift = self.adrift;
        let app = self.document_at(document)?.app;
        if self.apps.is_of(app, adrift) {
            return None;
        }
        let document = self.document_at(document)?;
        let from = std::mem::replace(&mut document.submitted, document.log.head());
        let entries = document.log.since(from)?.filter(is_own);
        Some((document.log.head(), entries.map(|entry| entry.update)))
    }

    /// The session store has everything before `position`.
    pub fn stored(&mut self, document: DocumentRef, position: Position) {
        let index = document.index;
        let Some(document) = self.document_at(document) else { return };
        let newly = document.note_stored(position);
        if let Some(shared) = &mut document.shared
            && matches!(shared.doubt, Doubt::PutBack(upto) if (position.wrapping_sub(upto) as i32) >= 0)
        {
            shared.doubt = Doubt::None;
        }
        self.out.unstored -= u64::from(newly);
        self.stored_on(index);
    }

    /// Edits were dropped: asks every member for what we lack.
    pub(crate) fn ask_everyone(&mut self, index: u32) {
        let Some(document) = self.documents.get(index) else { return };
        let state_vector = document.state_vector().encode();
        let sessions: Vec<u32> = document.members.iter().map(|member| member.session).collect();
        for session in sessions {
            self.out.send_session(session, |out| {
                wire::append_sync_body(out, &SyncMessage::Step1 { state_vector: &state_vector });
            });
        }
    }

    /// Ends the turn: fills the outbox with what is new for the members of every document. A document into which edits flow
    /// faster than they can be sent one by one gathers them for a while ([`Document::gathers_for`]).
    pub fn flush(&mut self) {
        self.gathered_at_us = u64::MAX;
        for index in std::mem::take(&mut self.dirty) {
            let Some(document) = self.documents.get_mut(index) else { continue };
            document.dirty = false;
            let is_adrift = self.apps.is_of(document.app, self.adrift);
            let mut behind = Vec::new();
            let us_per_member = self.out.settings.gather_us_per_member;
            let mut wait = document.gathers_for(self.now_us, us_per_member);
            if wait == 0 {
                if document.flushed != document.log.head() {
                    document.fanned_out_us = self.now_us as u32;
                    document.is_busy = broadcast_updates(&mut self.out, document, &mut behind) > 1;
                }
                if self.is_thrifty {
                    wait = document.gathers_presence_for(self.now_us, us_per_member);
                }
                if wait == 0 && document.awareness_flushed != document.awareness.version() {
                    document.presence_us = self.now_us as u32;
                    broadcast_awareness(&mut self.out, document, &mut behind);
                }
                if !is_adrift {
                    say(&mut self.out, document, index, self.now_us);
                }
                compact(&mut self.out, document, index, is_adrift);
            }
            if !is_adrift {
                acknowledge(&mut self.out, document);
            }
            document.drop_empty_pending();
            if document.submitted != document.log.head() && !is_adrift {
                // It came after this turn's settling: the next turn submits it.
                document.dirty = true;
                self.dirty.push(index);
            } else if wait > 0 {
                document.dirty = true;
                self.gathering.push(index);
                self.gathered_at_us = self.gathered_at_us.min(self.now_us + wait);
            }
            for session in behind {
                self.lag(session);
            }
        }
        self.catch_up();
    }

    /// Brings members that are behind forward, as far as this turn's room goes.
    fn catch_up(&mut self) {
        for _ in 0..self.lagging.len() {
            if self.out.outbox.arena.len() > ARENA_SOFT_MAX {
                return;
            }
            let Some(session) = self.lagging.pop_front() else { return };
            let Some(found) = self.out.sessions.get_mut(session) else { continue };
            found.is_lagging = false;
            let (index, member) = (found.document, found.member as usize);
            let can_take_more =
                self.out.sessions.get(session).is_some_and(|found| self.out.can_take_more(found));
            let Some(document) = self.documents.get_mut(index) else { continue };
            if can_take_more && bring_forward(&mut self.out, document, member) {
                self.lag(session);
            }
        }
    }

    /// A worker finished [`Effect::Compact`].
    pub fn compacted(&mut self, document: DocumentRef, result: Compacted) {
        let index = document.index;
        let Some(document) = self.document_at(document) else { return };
        document.compacting = false;
        let asked =
            document.pending.as_mut().map_or_else(Vec::new, |pending| std::mem::take(&mut pending.asked));
        let whole = result.base;
        match &whole {
            Some(base) if document.is_submitted(result.upto) => {
                document.install(Arc::clone(base), result.upto, &result.left);
            }
            // It answers who waits for it: what the store was not told of yet must not be compacted away.
            Some(_) => {}
            None => document.log.put_off_compaction(),
        }
        self.out.stats.compactions += 1;
        self.out.stats.entries_dropped += u64::from(result.dropped);
        for (joiner, lacking) in asked.into_iter().zip(result.lacking) {
            let is_still_there =
                self.out.sessions.get(joiner.session).is_some_and(|found| found.tag == joiner.tag);
            if !is_still_there {
                continue;
            }
            match lacking.or_else(|| whole.clone()) {
                Some(update) => self.answer_step1(joiner.session, &update),
                None => self.answer_from_log(joiner.session),
            }
            for update in &result.left {
                self.out.send_session(joiner.session, |out| {
                    wire::append_sync_body(out, &SyncMessage::Update { update });
                });
            }
        }
        self.mark_dirty(index);
        self.answer_joiners(index);
        self.resume_waiting(index);
    }

    /// Who came while a compaction was under way may do with its result: the rest waits for the next.
    fn answer_joiners(&mut self, index: u32) {
        let pending = self.documents.get_mut(index).and_then(|document| document.pending.as_mut());
        let joiners = pending.map_or_else(Vec::new, |pending| std::mem::take(&mut pending.joiners));
        for joiner in joiners {
            if self.out.sessions.get(joiner.session).is_some_and(|found| found.tag == joiner.tag) {
                self.sync_step1(joiner.session, &joiner.state_vector);
            }
        }
    }

    /// Lets writers go on that were ahead of the compaction.
    fn resume_waiting(&mut self, index: u32) {
        let Some(pending) = self.documents.get_mut(index).and_then(|document| document.pending.as_mut())
        else {
            return;
        };
        for conn in std::mem::take(&mut pending.waiting) {
            self.resume(conn);
        }
    }
}

impl Document {
    /// Replaces what a compaction took by its result. Those who keep up were sent what it left; those who are behind get it
    /// with the base.
    fn install(&mut self, base: Arc<[u8]>, upto: Position, left: &[Box<[u8]>]) {
        self.log.rebase(base, upto, Rebase::Compacted);
        self.log.restore(left);
        let nowhere = self.log.start().wrapping_sub(1);
        for member in self.members.iter_mut().filter(|member| (upto.wrapping_sub(member.cursor) as i32) > 0) {
            member.cursor = nowhere;
        }
    }
}

/// Whether the session store lacks an entry until it is told.
fn is_own(entry: &Entry<'_>) -> bool {
    entry.writer != STORED
}

/// Updates of one turn, framed for the classes that have members, each class at its first use.
struct Broadcast<'a> {
    entries: Vec<Entry<'a>>,
    /// All of them merged, where that pays.
    merged: Option<Vec<u8>>,
    classes: [Option<Frames>; 4],
    bodies: Option<Arc<[Body]>>,
}

/// A class's frames: one per entry for the writers, who skip their own, and the run that everyone else gets.
struct Frames {
    each: Vec<Framed>,
    all: std::ops::Range<u32>,
    /// The payload of each frame of the run that everyone gets, to be sent behind a private key.
    run: Vec<Framed>,
}

fn class(dialect: SessionDialect, deflate: bool) -> usize {
    // A private key goes before the payload of the y-websocket frame, which is the frame behind the key.
    usize::from(dialect == SessionDialect::PlainKey) * 2 + usize::from(deflate)
}

impl Broadcast<'_> {
    fn frames(&mut self, out: &mut Output, plain_key: &str, class: usize) -> &Frames {
        let Self { entries, merged, classes, .. } = self;
        classes[class].get_or_insert_with(|| {
            let deflate = class % 2 == 1;
            let mut frame = |update: &[u8]| {
                out.frame(deflate, |out| {
                    if class >= 2 {
                        wire::append_key(out, plain_key);
                    }
                    wire::append_sync_body(out, &SyncMessage::Update { update });
                })
            };
            let each: Vec<Framed> = entries.iter().map(|entry| frame(entry.update)).collect();
            let run = merged.as_ref().map_or_else(|| each.clone(), |merged| vec![frame(merged)]);
            let start = run.first().map_or(0, |first| first.frame.start);
            let end = run.last().map_or(0, |last| last.frame.end);
            Frames { each, all: start..end, run }
        })
    }

    fn remote_bodies(&mut self) -> Arc<[Body]> {
        let Self { entries, merged, bodies, .. } = self;
        let whole = bodies.get_or_insert_with(|| match merged {
            Some(merged) => Arc::from([update_body(merged)]),
            None => entries.iter().map(|entry| update_body(entry.update)).collect(),
        });
        Arc::clone(whole)
    }
}

fn update_body(update: &[u8]) -> Body {
    let mut body = Vec::with_capacity(wire::sync_body_len(update.len()));
    wire::append_sync_body(&mut body, &SyncMessage::Update { update });
    body.into()
}

/// Merging pays where the bytes it saves, over all members, cost more than the merge itself.
fn merging_pays(updates: usize, members: usize) -> bool {
    let saved_ns = updates * MERGE_SAVES_BYTES * members * PS_PER_BYTE_AND_MEMBER / 1000;
    updates > 1 && saved_ns > updates * MERGE_NS_PER_UPDATE
}

/// Sends what is new to members that keep up; returns how many entries that is.
fn broadcast_updates(out: &mut Output, document: &mut Document, behind: &mut Vec<u32>) -> usize {
    let head = document.log.head();
    let flushed = std::mem::replace(&mut document.flushed, head);
    let Some(entries) = document.log.since(flushed) else { return 0 };
    let entries: Vec<Entry<'_>> = entries.collect();
    let merged = (document.log.is_mergeable() && merging_pays(entries.len(), document.members.len()))
        .then(|| yjs::merge_tiered(&entries.iter().map(|entry| entry.update).collect::<Vec<_>>()).ok())
        .flatten();
    out.stats.merged_turns += u64::from(merged.is_some());
    let mut broadcast = Broadcast { entries, merged, classes: [None, None, None, None], bodies: None };
    let mut remote: Vec<(u16, Vec<RemoteSession>)> = Vec::new();
    for member in &mut document.members {
        if member.cursor == head {
            continue;
        }
        let Some(session) = out.sessions.get(member.session) else { continue };
        let (tag, dialect) = (session.tag, session.dialect);
        let is_writer = broadcast.entries.iter().any(|entry| entry.writer == tag);
        match session.peer {
            Peer::Remote(peer) => {
                let Some(peer) = out.remotes.get_mut(peer) else { continue };
                // A writer on another thread is rare enough to catch up on its own.
                if member.cursor != flushed || peer.awaits_credit || is_writer {
                    behind.push(member.session);
                    continue;
                }
                peer.awaits_credit = true;
                add_remote(&mut remote, peer.thread, peer.session);
            }
            Peer::Local { slot, key } => {
                let now = crate::wheel::tick_at(out.now_ms);
                let has_room = out.outbox.arena.len() <= ARENA_SOFT_MAX;
                let Some(conn) = out.conns.get_mut(slot) else { continue };
                if member.cursor != flushed || conn.is_blocked() || !has_room {
                    behind.push(member.session);
                    continue;
                }
                let deflate = conn.deflate();
                if broadcast.entries.iter().any(|entry| entry.writer != tag) {
                    conn.last_data = now;
                }
                let skip = is_writer.then_some(tag);
                send_run(out, &mut broadcast, &document.name.name, slot, key, (dialect, deflate), skip);
            }
        }
        member.cursor = head;
    }
    let count = broadcast.entries.len();
    if !remote.is_empty() {
        let bodies = broadcast.remote_bodies();
        deliver_remotely(out, remote, &bodies);
    }
    count
}

/// Queues a turn's updates for one local member, without those written by `skip`.
fn send_run(
    out: &mut Output,
    broadcast: &mut Broadcast<'_>,
    name: &str,
    slot: u32,
    key: u16,
    (dialect, deflate): (SessionDialect, bool),
    skip: Option<u32>,
) {
    out.stats.frames_fanned_out += 1;
    if dialect == SessionDialect::PrivateKey {
        return send_private_run(out, broadcast, name, slot, key, skip);
    }
    let writers: Vec<u32> = match skip {
        Some(_) => broadcast.entries.iter().map(|entry| entry.writer).collect(),
        None => Vec::new(),
    };
    let frames = broadcast.frames(out, name, class(dialect, deflate));
    match skip {
        None => {
            let all = frames.all.clone();
            out.outbox.send(slot, Segment::Arena(all));
        }
        Some(tag) => {
            let others = frames.each.iter().zip(&writers).filter(|(_, writer)| **writer != tag);
            let others: Vec<_> = others.map(|(framed, _)| framed.frame.clone()).collect();
            for frame in others {
                out.outbox.send(slot, Segment::Arena(frame));
            }
        }
    }
}

/// As [`send_run`] for a session with a key of its own: a header and the key, then the shared body.
fn send_private_run(
    out: &mut Output,
    broadcast: &mut Broadcast<'_>,
    name: &str,
    slot: u32,
    key: u16,
    skip: Option<u32>,
) {
    let writers: Vec<u32> = broadcast.entries.iter().map(|entry| entry.writer).collect();
    let frames = broadcast.frames(out, name, class(SessionDialect::YWebsocket, false));
    let bodies: Vec<_> = match skip {
        None => frames.run.iter().map(|framed| framed.payload.clone()).collect(),
        Some(tag) => {
            let others = frames.each.iter().zip(&writers).filter(|(_, writer)| **writer != tag);
            others.map(|(framed, _)| framed.payload.clone()).collect()
        }
    };
    for body in bodies {
        send_private(out, slot, key, body);
    }
}

/// Queues a frame under a key of the session's own: a header and the key, then the shared body.
fn send_private(out: &mut Output, slot: u32, key: u16, body: std::ops::Range<u32>) {
    let Some(raw) = out.raw_key(slot, key) else { return };
    let header = ws::header(Frame::new(Opcode::Binary), wire::key_len(&raw) + body.len());
    out.outbox.write(slot, |out| {
        out.extend_from_slice(&header);
        wire::append_key(out, &raw);
    });
    out.outbox.send(slot, Segment::Arena(body));
}

fn broadcast_awareness(out: &mut Output, document: &mut Document, behind: &mut Vec<u32>) {
    let version = document.awareness.version();
    let flushed = std::mem::replace(&mut document.awareness_flushed, version);
    let owners = document.awareness.owners_since(flushed);
    let mut body = Vec::new();
    // A tombstone of an id that nobody was told of may leave nothing to say.
    let has_body = write_awareness(document, &mut body, flushed, None);
    let mut classes: [Option<Framed>; 4] = [None, None, None, None];
    let mut remote: Vec<(u16, Vec<RemoteSession>)> = Vec::new();
    for member in &mut document.members {
        if member.awareness == version {
            continue;
        }
        let Some(session) = out.sessions.get(member.session) else { continue };
        let (peer, dialect, tag) = (session.peer, session.dialect, session.tag);
        let keeps_up = member.awareness == flushed && owners.binary_search(&tag).is_err();
        let has_room = out.outbox.arena.len() <= ARENA_SOFT_MAX;
        if !keeps_up || !has_room || !out.can_take_more(session) {
            behind.push(member.session);
            continue;
        }
        member.awareness = version;
        if !has_body {
            continue;
        }
        match peer {
            Peer::Remote(peer) => {
                let Some(peer) = out.remotes.get_mut(peer) else { continue };
                peer.awaits_credit = true;
                add_remote(&mut remote, peer.thread, peer.session);
            }
            Peer::Local { slot, key } => {
                let to = (slot, key, dialect);
                send_awareness(out, &mut classes, &document.name.name, &body, to);
            }
        }
    }
    if !remote.is_empty() {
        let bodies: Arc<[Body]> = Arc::from([Body::from(body)]);
        deliver_remotely(out, remote, &bodies);
    }
}

/// Queues one awareness frame for a local member, framed once per class.
fn send_awareness(
    out: &mut Output,
    classes: &mut [Option<Framed>; 4],
    name: &str,
    body: &[u8],
    (slot, key, dialect): (u32, u16, SessionDialect),
) {
    out.stats.frames_fanned_out += 1;
    let now = out.now();
    let Some(conn) = out.conns.get_mut(slot) else { return };
    conn.last_data = now;
    let is_private = dialect == SessionDialect::PrivateKey;
    let class = class(dialect, conn.deflate() && !is_private && body.len() <= COMPRESS_MAX);
    let framed = classes[class].get_or_insert_with(|| {
        out.frame(class % 2 == 1, |out| {
            if class >= 2 {
                wire::append_key(out, name);
            }
            out.extend_from_slice(body);
        })
    });
    if is_private {
        let payload = framed.payload.clone();
        return send_private(out, slot, key, payload);
    }
    out.outbox.send(slot, Segment::Arena(framed.frame.clone()));
}

fn add_remote(remote: &mut Vec<(u16, Vec<RemoteSession>)>, thread: u16, session: RemoteSession) {
    match remote.iter_mut().find(|(known, _)| *known == thread) {
        Some((_, list)) => list.push(session),
        None => remote.push((thread, vec![session])),
    }
}

/// One mail per thread, whatever the number of members there.
fn deliver_remotely(out: &mut Output, remote: Vec<(u16, Vec<RemoteSession>)>, bodies: &Arc<[Body]>) {
    for (thread, to) in remote {
        out.stats.frames_fanned_out += to.len() as u64;
        out.mail(thread, Mail::Deliver { to, bodies: Arc::clone(bodies), wants_credit: true });
    }
}

/// Writes an awareness message, as it stands behind the key; false if there is nothing to say.
fn write_awareness(document: &Document, out: &mut Vec<u8>, seen: u32, except: Option<u32>) -> bool {
    let mut body = Vec::new();
    let has_body = document.awareness.write_since(&mut body, seen, except);
    if has_body {
        wire::append_awareness_body(out, &body);
    }
    has_body
}

/// Sends one member what it lacks, as far as a turn goes; true if more is to follow.
fn bring_forward(out: &mut Output, document: &mut Document, at: usize) -> bool {
    let Some(member) = document.members.get(at).copied() else { return false };
    let Some((tag, peer)) = out.sessions.get(member.session).map(|found| (found.tag, found.peer)) else {
        return false;
    };
    let mut bodies: Vec<Body> = Vec::new();
    let mut cursor = member.cursor;
    let head = document.flushed;
    let entries = match document.log.since(cursor) {
        Some(entries) => entries,
        None => {
            // Compaction passed the cursor: the base holds what is lacking, and more.
            if let Some(base) = document.log.base() {
                let mut front = vec![0, 2];
                write_var_uint(&mut front, base.len() as u64);
                bodies.push(Body::shared(front, base));
            }
            cursor = document.log.start();
            document.log.tail()
        }
    };
    let mut sent = 0;
    let mut rest = entries;
    while cursor != head && sent < CATCH_UP_PER_TURN {
        let before = rest.byte_len();
        let Some(entry) = rest.next() else { break };
        cursor = cursor.wrapping_add((before - rest.byte_len()) as u32);
        if entry.writer != tag {
            sent += entry.update.len();
            bodies.push(update_body(entry.update));
        }
    }
    let mut awareness = Vec::new();
    if member.awareness != document.awareness_flushed
        && write_awareness(document, &mut awareness, member.awareness, Some(tag))
    {
        bodies.push(awareness.into());
    }
    document.members[at].cursor = cursor;
    document.members[at].awareness = document.awareness_flushed;
    let more = cursor != head;
    if bodies.is_empty() {
        return more;
    }
    match peer {
        Peer::Local { .. } => {
            for body in &bodies {
                let write = |out: &mut Vec<u8>| out.extend_from_slice(&body.head);
                match &body.tail {
                    None => out.send_session(member.session, write),
                    Some(tail) => out.send_session_with_tail(member.session, write, tail),
                }
            }
            more
        }
        Peer::Remote(peer) => {
            let Some(peer) = out.remotes.get_mut(peer) else { return false };
            peer.awaits_credit = true;
            let (thread, to) = (peer.thread, vec![peer.session]);
            out.mail(thread, Mail::Deliver { to, bodies: bodies.into(), wants_credit: true });
            // The credit brings it back.
            false
        }
    }
}

/// Has other nodes told what is new about who is here.
fn say(out: &mut Output, document: &mut Document, index: u32, now_us: u64) {
    let is_all = document.shared.as_ref().is_some_and(|shared| shared.says_all);
    let Some(message) = document.say(now_us) else { return };
    if is_all && let Some(shared) = &mut document.shared {
        shared.all_due_ms = out.now_ms + SAY_ALL_MS;
    }
    out.effects.push_back(Effect::Say(DocumentRef { index, serial: document.serial }, message));
}

/// Acknowledges what the session store has, unless that is in doubt.
fn acknowledge(out: &mut Output, document: &mut Document) {
    if document.is_in_doubt() {
        return;
    }
    let stored = document.stored;
    let Some(pending) = document.pending.as_mut() else { return };
    while let Some(ack) = pending.acks.front().copied() {
        if (stored.wrapping_sub(ack.position) as i32) < 0 {
            break;
        }
        pending.acks.pop_front();
        if out.sessions.get(ack.session).is_some_and(|found| found.tag == ack.tag) {
            out.send_session(ack.session, |out| write_sync_status(out, true));
        }
    }
}

/// Starts a compaction where the log has grown or a joiner waits for one.
fn compact(out: &mut Output, document: &mut Document, index: u32, is_adrift: bool) {
    let has_joiners = document.pending.as_ref().is_some_and(|pending| !pending.joiners.is_empty());
    let is_due = has_joiners || document.is_compaction_wanted || document.log.wants_compaction(COMPACT_MIN);
    // What the store was not told of yet must not be compacted away; adrift that may take long, and who joins has its answer.
    let may_begin = document.submitted == document.log.head() || is_adrift && has_joiners;
    if document.compacting || !is_due || !may_begin || document.state == State::Loading {
        return;
    }
    let joiners =
        document.pending.as_mut().map_or_else(Vec::new, |pending| std::mem::take(&mut pending.joiners));
    let state_vectors = joiners.iter().map(|joiner| joiner.state_vector.clone()).collect();
    document.is_compaction_wanted = false;
    let job = document.log.compaction(state_vectors);
    if !joiners.is_empty() {
        document.pending_mut().asked = joiners;
    }
    document.compacting = true;
    out.effects.push_back(Effect::Compact(DocumentRef { index, serial: document.serial }, job));
}
