//! What other nodes of the region do to documents that this thread has, too, and what becomes of documents when the session
//! store or the registry is in trouble: inputs like any other.

use crate::conn::{Peer, RemotePeer};
use crate::document::awareness::{Applied, Foreign};
use crate::document::coverage::Coverage;
use crate::document::log::{Entry, Position};
use crate::document::say::Said;
use crate::document::shared::{Doubt, owner};
use crate::document::yjs;
use crate::document::{Document, Edits, State};
use crate::edit::UpdateRanges;
use crate::effect::{DocumentRef, Kept, NodeTag, PutBack, Slot};
use crate::limits::{RELOAD_DIFF_MAX, RETRY_MS};
use crate::mail::Mail;
use crate::shard::Shard;
use pinwire_protocol::close::Close;
use pinwire_protocol::document::awareness;
use pinwire_protocol::document::update;

impl Shard {
    /// Another node's edits, which the session store has. Members are sent them like any other; they are neither stored again
    /// nor counted as operations. What is no update is dropped; returns how many were none.
    pub fn foreign(&mut self, document: DocumentRef, updates: &[Box<[u8]>]) -> u64 {
        let mut unreadable = 0;
        let index = document.index;
        let now_ms = self.out.now_ms;
        let mut ranges = std::mem::take(&mut self.ranges);
        if let Some(document) = self.document_at(document).filter(|found| found.state != State::Loading) {
            let mut taken = Taken::default();
            for update in updates {
                document.take_stored(update, &mut ranges, now_ms, &mut taken);
            }
            unreadable = taken.unreadable;
            self.note_taken(index, taken);
        }
        self.ranges = ranges;
        unreadable
    }

    fn note_taken(&mut self, index: u32, taken: Taken) {
        self.out.stats.updates_foreign += taken.news;
        self.out.stats.updates_known += taken.known;
        self.out.stats.entries_dropped += taken.unreadable;
        if taken.news > 0 {
            self.mark_dirty(index);
        }
    }

    /// What the session store has of a document is in doubt, and it is asked: nothing is acknowledged, and the document stays,
    /// until [`Self::reload`] tells what it has.
    pub fn reloading(&mut self, document: DocumentRef) {
        if let Some(document) = self.document_at(document).filter(|found| found.state != State::Loading) {
            document.shared_mut().doubt = Doubt::Reloading;
        }
    }

    /// Everything that the session store has, after something was missed or lost: what is lacking here is taken in, and what is
    /// lacking there returned, which counts as submitted. None if the document is not here any more.
    pub fn reload(&mut self, document: DocumentRef, kept: Kept) -> Option<PutBack> {
        let Kept { base, tail, nodes } = kept;
        let index = document.index;
        let now_ms = self.out.now_ms;
        let mut ranges = std::mem::take(&mut self.ranges);
        let document = self.document_at(document).filter(|found| found.state != State::Loading);
        let put_back = document.map(|document| {
            let mut taken = Taken::default();
            let theirs = covered(base.as_deref(), &tail, &mut ranges);
            let put_back = document.put_back(&theirs);
            document.submitted = put_back.upto;
            let freed = if put_back.updates.is_empty() { document.note_stored(put_back.upto) } else { 0 };
            document.shared_mut().doubt = match put_back.updates.is_empty() {
                true => Doubt::None,
                false => Doubt::PutBack(put_back.upto),
            };
            let ours = document.state_vector().encode();
            let base = base.as_deref().map(|base| lacking(base, &ours));
            for update in base.iter().map(|base| &**base).chain(tail.iter().map(|update| &**update)) {
                document.take_stored(update, &mut ranges, now_ms, &mut taken);
            }
            (PutBack { unreadable: taken.unreadable, ..put_back }, taken, freed)
        });
        self.ranges = ranges;
        let (put_back, taken, freed) = put_back?;
        self.out.unstored -= u64::from(freed);
        self.note_taken(index, taken);
        self.meet(index, &nodes);
        self.schedule_document(index);
        self.stored_on(index);
        Some(put_back)
    }

    /// These nodes hold the document, and no other does. What they said may have been missed.
    fn meet(&mut self, index: u32, nodes: &[NodeTag]) {
        let Some(document) = self.documents.get_mut(index) else { return };
        for &node in nodes {
            document.shared_mut().enter(node);
        }
        let Some(shared) = &mut document.shared else { return };
        (shared.says_all, shared.asks) = (true, true);
        for gone in shared.missing(nodes) {
            self.node_left(index, gone);
        }
    }

    /// What the session store has changed: acknowledges what waits for that, and lets a document go that stayed for it.
    pub(crate) fn stored_on(&mut self, index: u32) {
        let Some(document) = self.documents.get_mut(index) else { return };
        document.drop_idle_shared();
        let is_back = document.edits == Edits::Behind && document.unstored() == 0;
        if is_back {
            document.edits = Edits::Taken;
        }
        let is_over = matches!(document.state, State::Grace { .. });
        self.mark_dirty(index);
        if is_over {
            self.schedule_document(index);
        }
        if is_back {
            self.ask_everyone(index);
        }
    }

    /// Another node holds the document now: it is told who is here.
    pub fn foreign_joined(&mut self, document: DocumentRef, node: NodeTag) {
        let index = document.index;
        if let Some(document) = self.document_at(document) {
            let shared = document.shared_mut();
            shared.enter(node);
            // It may be known, and know nothing.
            shared.says_all = true;
            self.mark_dirty(index);
            self.schedule_document(index);
        }
    }

    /// Another node holds the document no more: who was present there is gone.
    pub fn foreign_left(&mut self, document: DocumentRef, node: NodeTag) {
        let index = document.index;
        if self.document_at(document).is_some() {
            self.node_left(index, node);
        }
    }

    /// This number stands for no node any more: who was present there is gone, from whatever document.
    pub fn foreign_forgotten(&mut self, node: NodeTag) {
        let knows = |document: &Document| document.shared.as_ref().is_some_and(|shared| shared.knows(node));
        let known: Vec<u32> =
            self.documents.iter().filter(|(_, found)| knows(found)).map(|(index, _)| index).collect();
        known.into_iter().for_each(|index| self.node_left(index, node));
    }

    /// The other nodes may not have heard what they were told: they are told of everyone.
    pub fn say_anew(&mut self, document: DocumentRef) {
        let index = document.index;
        let shared = self.document_at(document).and_then(|found| found.shared.as_mut());
        if let Some(shared) = shared.filter(|shared| shared.has_nodes()) {
            shared.says_all = true;
            self.mark_dirty(index);
        }
    }

    fn node_left(&mut self, index: u32, node: NodeTag) {
        let now_ms = self.out.now_ms;
        let Some(document) = self.documents.get_mut(index) else { return };
        if let Some(shared) = &mut document.shared {
            shared.leave(node);
        }
        document.drop_idle_shared();
        if document.awareness.session_ended(owner(node), now_ms) {
            self.mark_dirty(index);
            self.schedule_document(index);
        }
    }

    /// Another node told who is present there, by [`Effect::Say`](crate::Effect::Say).
    pub fn said(&mut self, document: DocumentRef, node: NodeTag, message: &[u8]) {
        let (index, now_ms) = (document.index, self.out.now_ms);
        let Some(document) = self.document_at(document).filter(|found| found.state != State::Loading) else {
            return;
        };
        let Some(said) = Said::parse(message) else {
            self.out.stats.awareness_dropped += 1;
            return;
        };
        let shared = document.shared_mut();
        shared.enter(node);
        shared.says_all |= said.asks;
        if !shared.hear(node, said.number, said.members) {
            return self.mark_dirty(index);
        }
        let heard = document.hear(owner(node), &said, now_ms);
        self.out.stats.awareness_dropped += heard.dropped;
        self.mark_dirty(index);
        self.schedule_document(index);
        for (client, clock, tag) in heard.contested {
            let members = self.documents.get(index).map_or(&[][..], |document| &document.members);
            let is_it = |session: &u32| self.out.sessions.get(*session).is_some_and(|found| found.tag == tag);
            if let Some(session) = members.iter().map(|member| member.session).find(is_it) {
                self.challenge(session, &[awareness::Entry { client, clock, json: awareness::NULL }]);
            }
        }
    }

    /// The document's pin is lost: its members are closed, those of Hocuspocus with all of their sockets, and it is dropped. What was
    /// made ready for them does not leave any more. Whoever waits for it is refused.
    pub fn lost(&mut self, document: DocumentRef, close: &Close) {
        let index = document.index;
        match self.document_at(document).map(|found| found.state) {
            None => {}
            Some(State::Loading) => _ = self.opened(document, Err(close.clone())),
            Some(State::Live | State::Grace { .. }) => {
                let members = self.documents.get(index).map_or(&[][..], |document| &document.members);
                let peers = members.iter().filter_map(|member| self.session_peer(member.session));
                let slots = peers.filter_map(|peer| match peer {
                    Peer::Local { slot, .. } => Some(slot),
                    Peer::Remote(_) => None,
                });
                self.withhold(slots.collect());
                self.dismiss(index, close);
                self.remove_document(index);
            }
        }
    }

    /// Nothing that was made ready for these sockets leaves any more. Who has still to take some of it is cut: behind half a frame no
    /// close frame would be read.
    pub(crate) fn withhold(&mut self, mut slots: Vec<Slot>) {
        slots.sort_unstable();
        self.out.outbox.take_back(&slots);
        for slot in slots {
            if self.out.conns.get(slot).is_some_and(|conn| conn.is_blocked()) {
                self.ended(slot);
            }
        }
    }

    /// Closes the connections of a document's members; returns how many there were.
    pub(crate) fn dismiss(&mut self, index: u32, close: &Close) -> usize {
        let members = self.documents.get(index).map_or(&[][..], |document| &document.members);
        let sessions: Vec<u32> = members.iter().map(|member| member.session).collect();
        for &session in &sessions {
            match self.session_peer(session) {
                Some(Peer::Local { slot, .. }) => self.close(slot, close),
                Some(Peer::Remote(remote)) => {
                    if let Some(&RemotePeer { thread, session, .. }) = self.out.remotes.get(remote) {
                        self.out.mail(thread, Mail::Close(session, close.clone()));
                    }
                    self.leave(session);
                }
                None => {}
            }
        }
        sessions.len()
    }

    /// The license regions, a bit for each number, in whose registries the node's lease ran out with the registry out of reach. Of
    /// their apps nothing is opened, submitted, acknowledged or told to other nodes then. Sockets stay, documents that are here can
    /// be joined, and their members get each other's edits.
    pub fn adrift(&mut self, licenses: u64) {
        let ashore = std::mem::replace(&mut self.adrift, licenses) & !licenses;
        if ashore == 0 {
            return;
        }
        let back = self.documents.iter().filter(|(_, document)| self.apps.is_of(document.app, ashore));
        let back: Vec<u32> = back.map(|(index, _)| index).collect();
        for index in back {
            let Some(document) = self.documents.get(index) else { continue };
            let is_behind = document.submitted != document.log.head();
            if is_behind || document.pending.is_some() || document.is_elsewhere() {
                self.mark_dirty(index);
            }
            self.schedule_document(index);
        }
    }

    /// Whether the session store has no room for a document: it takes no edits meanwhile, as one whose store is far behind, and
    /// nobody is closed.
    pub fn store_full(&mut self, document: DocumentRef, is_full: bool) {
        let index = document.index;
        let Some(document) = self.document_at(document) else { return };
        match (is_full, document.edits) {
            (true, _) => document.edits = Edits::NoRoom,
            (false, Edits::NoRoom) => {
                document.edits = Edits::Behind;
                self.stored_on(index);
            }
            (false, _) => {}
        }
    }

    /// The session store had no room for a document for too long: its members are sent away for a while, and it is dropped with
    /// what was not acknowledged, which its clients still have.
    pub fn give_up(&mut self, document: DocumentRef) {
        let close = self.try_again();
        self.lost(document, &close);
    }

    /// Whether the session store is out of reach: no document ends meanwhile, since a fail-over may have lost what it had.
    pub fn store_away(&mut self, is_away: bool) {
        if std::mem::replace(&mut self.is_store_away, is_away) == is_away || is_away {
            return;
        }
        let is_over = |document: &Document| matches!(document.state, State::Grace { .. });
        let over: Vec<u32> =
            self.documents.iter().filter(|(_, document)| is_over(document)).map(|(index, _)| index).collect();
        for index in over {
            self.schedule_document(index);
        }
    }

    /// Where the document's log ends: everything taken in so far is before it.
    #[must_use]
    pub fn log_head(&self, document: DocumentRef) -> Option<Position> {
        let found = self.documents.get(document.index).filter(|found| found.serial == document.serial);
        found.map(|found| found.log.head())
    }

    /// Whether the session store was given everything of a document before `position`.
    #[must_use]
    pub fn is_submitted(&self, document: DocumentRef, position: Position) -> bool {
        let found = self.documents.get(document.index).filter(|found| found.serial == document.serial);
        found.is_some_and(|found| found.is_submitted(position))
    }

    /// A document stays, though nobody is there: adrift nobody could open it again, and the session store may lack something of it.
    pub(crate) fn must_stay(&self, document: &Document) -> bool {
        let is_store_behind = self.is_store_away || document.unstored() > 0 || document.is_in_doubt();
        let is_shared = self.out.settings.is_shared;
        is_shared && is_store_behind
            || self.leaving.keeps_documents && !is_shared
            || self.apps.is_of(document.app, self.adrift)
    }

    /// A refusal that may pass soon.
    pub(crate) fn try_again(&mut self) -> Close {
        Close::try_again(self.refusals.jittered(RETRY_MS))
    }
}

/// What came of updates from the store.
#[derive(Clone, Copy, Default)]
struct Taken {
    news: u64,
    known: u64,
    unreadable: u64,
}

/// What came of another node's message.
#[derive(Default)]
struct Heard {
    dropped: u64,
    /// Id, clock, and the tag of the session whose user the other node buried.
    contested: Vec<(u64, u32, u32)>,
}

impl Document {
    /// Takes in an update that the session store has, if it brings anything. `ranges` is empty before and after.
    fn take_stored(&mut self, update: &[u8], ranges: &mut UpdateRanges, now_ms: u64, taken: &mut Taken) {
        // Many updates in one, perhaps: each was held to narrower bounds when it came.
        let scanned = update::scan(update, &update::Bounds::of_documents(), ranges);
        let mut compare = self.coverage.compare();
        ranges.replay(&mut compare);
        match scanned {
            Ok(_) if !compare.is_new => taken.known += 1,
            Ok(summary) if !self.log.is_overfull(update.len()) => {
                let has_gap = self.coverage.absorb_all(ranges.all_mut()).leaves_gap || summary.has_skips;
                self.note_gap(has_gap);
                self.append_stored(update);
                self.activity.note(now_ms, update.len());
                taken.news += 1;
            }
            Ok(_) | Err(_) => taken.unreadable += 1,
        }
        ranges.clear();
    }

    /// What the log holds that `theirs` does not cover.
    fn put_back(&self, theirs: &Coverage) -> PutBack {
        let is_lacking = |update: &[u8]| {
            let mut compare = theirs.compare();
            update::scan(update, &update::Bounds::of_documents(), &mut compare).is_ok() && compare.is_new
        };
        let mut updates = Vec::new();
        if let Some(base) = self.log.base().filter(|base| is_lacking(base)) {
            updates.push(lacking(base, &theirs.state_vector().encode()).into());
        }
        let tail = self.log.tail().map(|Entry { update, .. }| update);
        updates.extend(tail.filter(|update| is_lacking(update)).map(Box::from));
        PutBack { upto: self.log.head(), updates, unreadable: 0 }
    }

    /// True if everything before `position` was submitted.
    pub(crate) fn is_submitted(&self, position: Position) -> bool {
        (position.wrapping_sub(self.submitted) as i32) <= 0
    }

    fn hear(&mut self, node: u32, said: &Said<'_>, now_ms: u64) -> Heard {
        let mut heard = Heard::default();
        let mut room = self.awareness.room_of(node);
        let mut present: Vec<u64> = Vec::new();
        let mut buried = Vec::new();
        for entry in &said.users {
            present.push(entry.client);
            match self.awareness.apply_foreign(&entry, node, &mut room, now_ms) {
                Foreign::Applied(Applied::Dropped) => heard.dropped += 1,
                Foreign::Applied(_) => {}
                Foreign::Buried(clock) => buried.push((entry.client, clock)),
                Foreign::Contested(tag) => heard.contested.push((entry.client, entry.clock, tag)),
            }
        }
        if said.is_all {
            present.sort_unstable();
            self.awareness.keep_only(node, &present, now_ms);
        }
        if let Some(shared) = &mut self.shared {
            shared.buried.extend(buried);
            shared.buried.sort_unstable_by_key(|&(client, clock)| (client, std::cmp::Reverse(clock)));
            shared.buried.dedup_by_key(|(client, _)| *client);
        }
        heard
    }
}

/// What the updates of a session cover. `ranges` is empty before and after.
fn covered(base: Option<&[u8]>, tail: &[Box<[u8]>], ranges: &mut UpdateRanges) -> Coverage {
    let mut covered = Coverage::new();
    for update in base.into_iter().chain(tail.iter().map(|update| &**update)) {
        if update::scan(update, &update::Bounds::of_documents(), ranges).is_ok() {
            covered.absorb_all(ranges.all_mut());
        }
        ranges.clear();
    }
    covered
}

/// The part of a base that a state vector does not cover, or all of it where that takes long to tell.
fn lacking<'a>(base: &'a [u8], state_vector: &[u8]) -> std::borrow::Cow<'a, [u8]> {
    match (base.len() <= RELOAD_DIFF_MAX).then(|| yjs::diff(base, state_vector)) {
        Some(Ok(diff)) => diff.into(),
        _ => base.into(),
    }
}
