//! What a member may do to its document, whichever dialect it speaks and wherever its socket is.

use crate::conn::{Peer, RemotePeer};
use crate::document::awareness::Applied;
use crate::document::coverage::UpdateRange;
use crate::document::log::{Entry, Position, Rebase};
use crate::document::yjs::{self, EMPTY_UPDATE};
use crate::document::{Ack, Document, Edits, Joiner, Member};
use crate::limits::{
    FOLD_BYTES_MAX, FOLD_ENTRIES_MAX, STATE_VECTOR_CLIENTS_MAX, STEP_1_WORK, TAIL_SENT_MAX,
    TAIL_WHILE_COMPACTING, UNSTORED_MAX, UNSTORED_OF_THREAD_MAX,
};
use crate::mail::Body;
use crate::shard::Shard;
use pinwire_protocol::document::awareness::{self, Awareness as AwarenessBody};
use pinwire_protocol::document::state_vector::StateVector;
use pinwire_protocol::document::sync::SyncMessage;
use pinwire_protocol::document::update::{self, Visitor};
use pinwire_protocol::document::{hocuspocus, ywebsocket};
use std::sync::Arc;

/// What became of a member's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Handled; nothing to acknowledge.
    Done,
    /// An update that brought nothing new: all of it stands in the log before this position, stored or not.
    Known(Position),
    /// An update that was not taken: the member only reads, or the session store is behind.
    Dropped,
    /// An update that the log now ends with.
    Appended(Position),
    /// To be tried again when the compaction under way is done.
    Hold,
    /// The log takes no more.
    Full,
    /// Breaks the format.
    Invalid,
    /// The app used up its operations (its limit is given).
    RateLimited(u64),
}

/// The ranges of one update, kept between its validation and its absorption, so that a bad one leaves no trace.
#[derive(Debug, Default)]
pub(crate) struct UpdateRanges(Vec<UpdateRange>);

/// Ranges kept between updates; an update with more gives the memory back afterwards.
const RANGES_KEPT: usize = 1024;

impl Visitor for UpdateRanges {
    fn structs(&mut self, client: u64, clock: u32, len: u32) {
        self.0.push(UpdateRange { client, clock, len, is_delete: false });
    }

    fn deletes(&mut self, client: u64, clock: u32, len: u32) {
        self.0.push(UpdateRange { client, clock, len, is_delete: true });
    }
}

impl UpdateRanges {
    pub(crate) fn replay(&self, visitor: &mut impl Visitor) {
        for range in &self.0 {
            if range.is_delete {
                visitor.deletes(range.client, range.clock, range.len);
            } else {
                visitor.structs(range.client, range.clock, range.len);
            }
        }
    }

    pub(crate) fn all_mut(&mut self) -> &mut [UpdateRange] {
        &mut self.0
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
        self.0.shrink_to(RANGES_KEPT);
    }
}

impl Shard {
    /// A sync step 2 or an update.
    pub(crate) fn edit(&mut self, session: u32, update: &[u8]) -> Outcome {
        let mut ranges = std::mem::take(&mut self.ranges);
        let outcome = match update::scan(update, &update::Bounds::default(), &mut ranges) {
            Ok(summary) => self.edit_checked(session, update, &mut ranges, summary.has_skips),
            Err(_) => Outcome::Invalid,
        };
        ranges.clear();
        self.ranges = ranges;
        outcome
    }

    fn edit_checked(
        &mut self,
        session: u32,
        update: &[u8],
        ranges: &mut UpdateRanges,
        has_skips: bool,
    ) -> Outcome {
        let now_ms = self.out.now_ms;
        let Some(index) = self.session_document(session) else { return Outcome::Done };
        let Some((tag, read_only)) = self.out.sessions.get(session).map(|s| (s.tag, s.read_only)) else {
            return Outcome::Done;
        };
        let Some(document) = self.documents.get_mut(index) else { return Outcome::Done };
        let mut compare = document.coverage.compare();
        ranges.replay(&mut compare);
        if !compare.is_new {
            self.out.stats.updates_known += 1;
            return Outcome::Known(document.log.head());
        }
        if read_only || document.edits != Edits::Taken {
            return Outcome::Dropped;
        }
        let is_remote = matches!(self.out.sessions.get(session).map(|s| s.peer), Some(Peer::Remote(_)));
        if document.compacting
            && !is_remote
            && !self.is_replaying
            && document.log.tail_len() > TAIL_WHILE_COMPACTING.max(document.log.base_len())
        {
            return Outcome::Hold;
        }
        if document.log.is_full(update.len()) {
            return Outcome::Full;
        }
        if !self.apps.take_operation(document.app, now_ms) {
            return Outcome::RateLimited(self.apps.limits(document.app).operations_per_minute.into());
        }
        if document.coverage.absorb_all(&mut ranges.0).leaves_gap || has_skips {
            document.log.note_gap();
        }
        let before = document.log.head();
        document.log.append(tag, update);
        document.activity.note(now_ms, update.len());
        let head = document.log.head();
        self.out.unstored += u64::from(head.wrapping_sub(before));
        if document.unstored() > UNSTORED_MAX || self.out.unstored > UNSTORED_OF_THREAD_MAX {
            document.edits = Edits::Behind;
        }
        self.out.stats.updates += 1;
        self.mark_dirty(index);
        Outcome::Appended(head)
    }

    /// Acknowledges an edit to a member that waits for that, once the session store has it.
    pub(crate) fn acknowledge_when_stored(&mut self, session: u32, position: Position) {
        let Some(tag) = self.out.sessions.get(session).map(|s| s.tag) else { return };
        let Some(index) = self.session_document(session) else { return };
        if let Some(document) = self.documents.get_mut(index) {
            document.pending_mut().acks.push_back(Ack { position, session, tag });
        }
        self.mark_dirty(index);
    }

    /// "This is what I have": answered with what the member lacks, and with what we have.
    pub(crate) fn sync_step1(&mut self, session: u32, state_vector: &[u8]) -> Outcome {
        let Ok(known) = StateVector::parse(state_vector, STATE_VECTOR_CLIENTS_MAX) else {
            return Outcome::Invalid;
        };
        let Some(index) = self.session_document(session) else { return Outcome::Done };
        if self.is_answer_under_way(session) {
            return self.answer_later(index, session, &known);
        }
        let is_local = self.out.remote_mut(session).is_none();
        let Some(document) = self.documents.get_mut(index) else { return Outcome::Done };
        self.out.replied += STEP_1_WORK + document.log.tail_len().min(FOLD_BYTES_MAX);
        match document.lacking(&known, is_local) {
            Lacking::Ready(update) => self.answer_step1(session, &update),
            Lacking::BaseAndTail => {
                self.answer_from_log(session);
                // Who joins next gets it in one piece.
                if let Some(document) = self.documents.get_mut(index) {
                    document.is_compaction_wanted = true;
                }
                self.mark_dirty(index);
            }
            Lacking::Worker => {
                let Some(tag) = self.out.sessions.get(session).map(|s| s.tag) else { return Outcome::Done };
                let state_vector = known.encode().into();
                put_joiner(&mut document.pending_mut().joiners, Joiner { session, tag, state_vector });
                self.mark_dirty(index);
            }
        }
        Outcome::Done
    }

    /// A session on another thread has at most one answer under way, as it has one delivery.
    fn is_answer_under_way(&mut self, session: u32) -> bool {
        self.out.remote_mut(session).is_some_and(|remote| remote.awaits_credit)
    }

    /// Keeps a step 1 until the credit comes back; the latest holds.
    fn answer_later(&mut self, index: u32, session: u32, known: &StateVector) -> Outcome {
        let Some(tag) = self.out.sessions.get(session).map(|s| s.tag) else { return Outcome::Done };
        let Some(document) = self.documents.get_mut(index) else { return Outcome::Done };
        put_joiner(
            &mut document.pending_mut().deferred,
            Joiner { session, tag, state_vector: known.encode().into() },
        );
        Outcome::Done
    }

    /// The credit came back: answers the step 1 that waited for it.
    pub(crate) fn answer_deferred(&mut self, session: u32) {
        let Some(index) = self.session_document(session) else { return };
        let Some(tag) = self.out.sessions.get(session).map(|s| s.tag) else { return };
        let Some(pending) = self.documents.get_mut(index).and_then(|document| document.pending.as_mut())
        else {
            return;
        };
        let found = pending.deferred.iter().position(|joiner| (joiner.session, joiner.tag) == (session, tag));
        if let Some(joiner) = found.map(|at| pending.deferred.swap_remove(at)) {
            self.sync_step1(session, &joiner.state_vector);
        }
    }

    /// Sends what a step 1 asked for, and our own step 1.
    pub(crate) fn answer_step1(&mut self, session: u32, update: &Arc<[u8]>) {
        let Some(index) = self.session_document(session) else { return };
        let Some(document) = self.documents.get(index) else { return };
        let state_vector = document.state_vector().encode();
        let write_step1 = |out: &mut Vec<u8>| {
            hocuspocus::append_sync_body(out, &SyncMessage::Step1 { state_vector: &state_vector });
        };
        if let Some(&mut RemotePeer { thread, session: there, .. }) = self.out.remote_mut(session) {
            let (mut head, mut step1) = (Vec::new(), Vec::new());
            write_step2_head(&mut head, update.len());
            write_step1(&mut step1);
            let bodies = [Body::shared(head, update), Body::from(step1)];
            self.out.await_credit(session);
            self.out.deliver(thread, vec![there], Arc::from(bodies), true);
            return;
        }
        self.out.send_session_with_tail(session, |out| write_step2_head(out, update.len()), update);
        self.out.send_session(session, write_step1);
    }

    /// Answers a step 1 with everything the log holds, update by update, then an empty step 2: at once, to a client that has
    /// nothing, and to any when compaction came to nothing.
    pub(crate) fn answer_from_log(&mut self, session: u32) {
        let Some(index) = self.session_document(session) else { return };
        let Some(document) = self.documents.get(index) else { return };
        if let Some(base) = document.log.base() {
            self.out.send_session_with_tail(session, |out| write_update_head(out, base.len()), base);
        }
        for Entry { update, .. } in document.log.tail() {
            let message = SyncMessage::Update { update };
            self.out.send_session(session, |out| hocuspocus::append_sync_body(out, &message));
        }
        self.answer_step1(session, &Arc::from(EMPTY_UPDATE));
    }

    /// An awareness message.
    pub(crate) fn announce(&mut self, session: u32, body: &[u8]) -> Outcome {
        let now_ms = self.out.now_ms;
        let Ok(body) = AwarenessBody::parse(body, &awareness::Bounds::default()) else {
            return Outcome::Invalid;
        };
        let Some(found) = self.out.sessions.get_mut(session) else { return Outcome::Done };
        let tag = found.tag;
        let member = found.member as usize;
        let may_be_own = !std::mem::replace(&mut found.announced, true) && body.len() == 1;
        let Some(index) = self.session_document(session) else { return Outcome::Done };
        let Some(document) = self.documents.get_mut(index) else { return Outcome::Done };
        let sent = document.members.get(member).map(|member| member.awareness);
        let first = sent.filter(|_| may_be_own);
        let (mut changed, mut renewed) = (false, false);
        let mut challenges = Vec::new();
        for entry in &body {
            match document.awareness.apply(&entry, tag, first, now_ms) {
                Applied::Dropped => self.out.stats.awareness_dropped += 1,
                Applied::Changed => changed = true,
                Applied::Renewed => renewed = true,
                Applied::Challenge(clock) => {
                    challenges.push(awareness::Entry { client: entry.client, clock, json: awareness::NULL });
                }
            }
        }
        if changed {
            self.mark_dirty(index);
        }
        if changed || renewed {
            self.schedule_document(index);
        }
        if !challenges.is_empty() {
            self.challenge(session, &challenges);
        }
        Outcome::Done
    }

    /// Makes a client that came back raise the clock of its id: it answers a null of itself by doing so.
    pub(crate) fn challenge(&mut self, session: u32, entries: &[awareness::Entry<'_>]) {
        self.out.stats.awareness_challenges += entries.len() as u64;
        let mut body = Vec::new();
        awareness::append_body(&mut body, entries);
        self.out.send_session(session, |out| hocuspocus::append_awareness_body(out, &body));
        self.out.send_session(session, ywebsocket::append_query_awareness);
    }

    fn forget_what_it_knows(&mut self, index: u32, session: u32) -> Outcome {
        let member = self.out.sessions.get(session).map(|found| found.member as usize);
        let members = self.documents.get_mut(index).map(|document| &mut document.members);
        if let Some(member) = member.and_then(|at| members?.get_mut(at)) {
            member.awareness = 0;
        }
        self.lag(session);
        Outcome::Done
    }

    /// Asks for everyone's awareness.
    pub(crate) fn query_awareness(&mut self, session: u32) -> Outcome {
        let Some(index) = self.session_document(session) else { return Outcome::Done };
        if self.out.remote_mut(session).is_some() {
            // It is told of everyone when it catches up, which its credit paces.
            return self.forget_what_it_knows(index, session);
        }
        let Some(document) = self.documents.get(index) else { return Outcome::Done };
        let mut body = Vec::new();
        if !document.awareness.write_since(&mut body, 0, None) {
            body.extend_from_slice(&awareness::EMPTY);
        }
        self.out.send_session(session, |out| hocuspocus::append_awareness_body(out, &body));
        Outcome::Done
    }
}

/// Enters a step 1 that waits. What a client said last holds: however often it asks, one answer is computed.
fn put_joiner(joiners: &mut Vec<Joiner>, new: Joiner) {
    match joiners.iter_mut().find(|joiner| (joiner.session, joiner.tag) == (new.session, new.tag)) {
        Some(joiner) => *joiner = new,
        None => joiners.push(new),
    }
}

/// Everything of a step 2 before the update: both dialects have it alike behind the key.
fn write_step2_head(out: &mut Vec<u8>, len: usize) {
    out.extend_from_slice(&[0, 1]);
    pinwire_protocol::document::varint::write_var_uint(out, len as u64);
}

/// The same of an update.
fn write_update_head(out: &mut Vec<u8>, len: usize) {
    out.extend_from_slice(&[0, 2]);
    pinwire_protocol::document::varint::write_var_uint(out, len as u64);
}

/// How a step 1 can be answered.
enum Lacking {
    Ready(Arc<[u8]>),
    /// With what the log holds, as it stands: whoever has nothing yet need not wait for it to become one update.
    BaseAndTail,
    /// Too much for a data thread.
    Worker,
}

impl Document {
    /// `is_local`: the session's socket is this thread's.
    fn lacking(&mut self, known: &StateVector, is_local: bool) -> Lacking {
        if self.coverage.is_known_by(|client| known.get(client)) {
            return Lacking::Ready(Arc::from(EMPTY_UPDATE));
        }
        let is_small = self.log.is_mergeable()
            && self.log.entries() <= FOLD_ENTRIES_MAX
            && self.log.tail_len() <= FOLD_BYTES_MAX;
        let is_foldable = is_small && self.log.base().is_none_or(|base| base.len() <= FOLD_BYTES_MAX);
        let whole = match self.log.base() {
            _ if self.log.entries() > 0 && !is_foldable => {
                let is_short = self.log.entries() <= TAIL_SENT_MAX && self.log.is_mergeable();
                let at_once = known.is_empty() && is_local && is_short;
                return if at_once { Lacking::BaseAndTail } else { Lacking::Worker };
            }
            Some(base) if self.log.entries() == 0 => Arc::clone(base),
            None if self.log.entries() == 0 => return Lacking::Ready(Arc::from(EMPTY_UPDATE)),
            _ => match self.fold() {
                Ok(whole) => whole,
                Err(_) => return Lacking::Worker,
            },
        };
        if known.is_empty() {
            return Lacking::Ready(whole);
        }
        if whole.len() > FOLD_BYTES_MAX {
            return Lacking::Worker;
        }
        yjs::diff(&whole, &known.encode()).map_or(Lacking::Worker, |diff| Lacking::Ready(diff.into()))
    }

    /// The whole document, from a small base and a short tail. The next who joins shares it, if every entry of the tail has
    /// been sent to everybody, and submitted: a member that is a little behind would get the base whole for it, again. Not while a
    /// compaction is under way, whose result would take the place of a base that holds more.
    fn fold(&mut self) -> Result<Arc<[u8]>, yjs::Fault> {
        let parts =
            self.log.base().map(|base| &**base).into_iter().chain(self.log.tail().map(|entry| entry.update));
        let whole: Arc<[u8]> = yjs::merge(parts)?.into();
        let head = self.log.head();
        let is_behind = |member: &Member| member.cursor != head && self.log.since(member.cursor).is_some();
        let is_sent = self.flushed == head && !self.members.iter().any(is_behind);
        if is_sent && self.submitted == head && !self.compacting {
            self.log.rebase(Arc::clone(&whole), head, Rebase::Folded);
        }
        Ok(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::DocumentName;

    #[test]
    fn a_log_is_not_folded_while_a_member_has_not_been_sent_all_of_it() {
        let name = DocumentName { tenant: "t".into(), app: "a".into(), name: "d".into() };
        let mut document = Document::new(0, name, 0, 1, 0);
        document.members.push(Member { session: 0, cursor: document.log.head(), awareness: 0 });
        document.log.append(1, &[1, 1, 7, 0, 4, 1, 1, b't', 1, b'a', 0]);
        let head = document.log.head();
        (document.flushed, document.submitted) = (head, head);
        assert!(document.fold().is_ok());
        assert_eq!(document.log.entries(), 1, "it would get the whole document");
        document.members[0].cursor = head;
        assert!(document.fold().is_ok());
        assert_eq!(document.log.entries(), 0);
    }

    #[test]
    fn a_log_is_not_folded_while_a_compaction_is_under_way() {
        let name = DocumentName { tenant: "t".into(), app: "a".into(), name: "d".into() };
        let mut document = Document::new(0, name, 0, 1, 0);
        document.log.append(1, &[1, 1, 7, 0, 4, 1, 1, b't', 1, b'a', 0]);
        (document.flushed, document.submitted) = (document.log.head(), document.log.head());
        document.compacting = true;
        assert!(document.fold().is_ok());
        assert_eq!(document.log.entries(), 1, "the compaction's result will take its place");
        document.compacting = false;
        assert!(document.fold().is_ok());
        assert_eq!(document.log.entries(), 0);
    }
}
