//! One document as a stock provider keeps it in step with the server: the same in both dialects but for what goes before
//! a message, who echoes awareness, and who is told that an edit is safe.

use super::model::{DocumentId, Model};
use super::ranges::{Clocks, Run, runs_of};
use super::replica::Replica;
use fastrand::Rng;
use pinwire_protocol::document::hocuspocus;
use pinwire_protocol::document::sync::SyncMessage;
use pinwire_protocol::document::update::{self, Bounds};
use pinwire_protocol::document::ywebsocket;
use std::collections::{BTreeMap, VecDeque};

/// What happens to a client while it acts: the time, chance, and where it reports.
pub(super) struct Context<'a> {
    pub(super) now_ms: u64,
    pub(super) rng: &'a mut Rng,
    pub(super) model: &'a mut Model,
    /// The socket never lagged behind: what it is sent is no catch-up.
    pub(super) keeps_up: bool,
    /// When the socket was opened.
    pub(super) opened_ms: u64,
}

/// A message of the server about one document.
#[derive(Debug)]
pub(super) enum Incoming<'a> {
    Step1(&'a [u8]),
    Step2(&'a [u8]),
    Update(&'a [u8]),
    Awareness(&'a [u8]),
    QueryAwareness,
    SyncStatus(bool),
}

/// How a provider behaves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habits {
    /// Sends every remote awareness change back.
    pub(super) echoes: bool,
    /// Is told when an edit is safe.
    pub(super) is_acknowledged: bool,
    pub(super) read_only: bool,
}

pub(super) struct Member {
    pub(super) document: DocumentId,
    pub(super) replica: Replica,
    pub(super) habits: Habits,
    /// The provider believes that what it sends is heard.
    pub(super) attached: bool,
    pub(super) synced: bool,
    /// The user typed something, be it a deletion alone.
    pub(super) has_edited: bool,
    /// What each step 2 and update brought that the server has not spoken of yet.
    awaiting: VecDeque<Vec<Run>>,
    /// All that was ever received.
    pub(super) received: Clocks,
    /// All that was ever sent.
    sent: Clocks,
    /// Own clock when the connection began: what is newer is not to come back.
    own_clock_then: u32,
    /// When the server last asked what it lacks: until that is answered, edits leave gaps, and come back with answers.
    asked_ms: Option<u64>,
    /// Updates received on this connection, by hash, and how often.
    seen: BTreeMap<u64, u32>,
    /// Messages to send, as they stand behind a key.
    outgoing: Vec<Vec<u8>>,
}

/// Longest time from a step 1 of the server until no answer to one of ours is under way.
const SETTLING_MS: u64 = 10_000;

/// What builds on an edit that never came is in every catch-up of a slow reader; anything else comes once.
const REPEATS_MAX: u32 = 8;

impl Member {
    pub(super) fn new(document: DocumentId, replica: Replica, habits: Habits) -> Self {
        Self {
            document,
            replica,
            habits,
            attached: false,
            synced: false,
            has_edited: false,
            awaiting: VecDeque::new(),
            own_clock_then: 0,
            asked_ms: None,
            received: Clocks::default(),
            sent: Clocks::default(),
            seen: BTreeMap::new(),
            outgoing: Vec::new(),
        }
    }

    pub(super) fn take_outgoing(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.outgoing)
    }

    /// All that it was sent, sent, or wrote, and that is deleted for that.
    pub(super) fn known(&self) -> Clocks {
        let mut known = self.received.clone();
        self.sent.runs().for_each(|run| known.insert(&run));
        let (client, end) = (self.replica.client, self.replica.written);
        known.insert(&Run { client, is_deletion: false, start: 0, end });
        self.replica.deletions().for_each(|run| known.insert(&run));
        known
    }

    /// See [`Replica::is_current`].
    pub(super) fn is_current(&self) -> bool {
        self.replica.is_current(&self.known())
    }

    /// Changes that the server has not confirmed.
    pub(super) fn unsynced(&self) -> usize {
        self.awaiting.len()
    }

    /// A new connection, or a new attempt on it: nothing is known of the server.
    pub(super) fn connect(&mut self) {
        self.attached = true;
        self.synced = false;
        self.awaiting.clear();
        self.seen.clear();
        self.asked_ms = None;
        self.own_clock_then = self.replica.clock_of(self.replica.client);
    }

    /// What a provider says first.
    pub(super) fn start_sync(&mut self) {
        let state_vector = self.replica.state_vector();
        self.send_sync(&SyncMessage::Step1 { state_vector: &state_vector });
        if self.replica.awareness.is_present() {
            self.announce(&[self.replica.client]);
        }
    }

    pub(super) fn disconnect(&mut self) {
        self.attached = false;
        self.synced = false;
        self.awaiting.clear();
        self.outgoing.clear();
        self.replica.awareness.forget_others();
    }

    /// The server refused the document; what was sent went nowhere.
    pub(super) fn refused(&mut self) {
        self.attached = false;
        self.synced = false;
        self.awaiting.clear();
    }

    pub(super) fn receive(&mut self, message: &Incoming<'_>, context: &mut Context<'_>) {
        match *message {
            Incoming::Step1(state_vector) => {
                self.asked_ms = Some(context.now_ms);
                match self.replica.lacking(state_vector) {
                    Ok(update) => {
                        let runs = runs_of(&update).unwrap_or_default();
                        context.model.hand_on(&self.document, self.replica.client, &runs);
                        let has_gaps = update::scan(&update, &Bounds::default(), &mut ());
                        if has_gaps.is_ok_and(|update| update.has_skips) {
                            context.model.hand_on_with_gaps(&self.document);
                        }
                        self.send_edit(&SyncMessage::Step2 { update: &update });
                    }
                    Err(error) => context.model.violate(format!("a step 1 does not parse: {error}")),
                }
            }
            Incoming::Step2(update) => {
                self.take_in(update, context);
                self.synced = true;
            }
            Incoming::Update(update) => {
                self.check_no_echo(update, context);
                self.take_in(update, context);
            }
            Incoming::Awareness(body) => self.learn(body, context),
            Incoming::QueryAwareness => {
                let body = self.replica.awareness.encode_all();
                self.send(|out| hocuspocus::append_awareness_body(out, &body));
            }
            Incoming::SyncStatus(applied) => self.acknowledged(applied, context),
        }
    }

    fn take_in(&mut self, update: &[u8], context: &mut Context<'_>) {
        match runs_of(update) {
            Ok(runs) => runs.iter().for_each(|run| self.received.insert(run)),
            Err(error) => {
                context.model.violate(format!("{:?}: an update fails the walk: {error}", self.document));
            }
        }
        if let Err(error) = self.replica.apply(update) {
            context.model.violate(format!("{:?}: an update does not apply: {error}", self.document));
        }
    }

    /// Nobody gets its own edits back, nor the same update again and again.
    fn check_no_echo(&mut self, update: &[u8], context: &mut Context<'_>) {
        if self.asked_ms.is_none_or(|asked| context.now_ms < asked + SETTLING_MS) {
            return;
        }
        let times = self.seen.entry(hash(update)).or_default();
        *times += 1;
        if *times >= REPEATS_MAX {
            context.model.violate(format!("{:?}: the same update came {times} times", self.document));
        }
        let (client, then) = (self.replica.client, self.own_clock_then);
        let is_own = |run: &Run| {
            let is_new = run.client == client && !run.is_deletion && run.end > then;
            is_new && !context.model.was_handed_on(&self.document, run)
        };
        if context.keeps_up && runs_of(update).is_ok_and(|runs| runs.iter().any(is_own)) {
            context.model.violate(format!("{:?}: client {client} was sent its own edit", self.document));
        }
    }

    fn learn(&mut self, body: &[u8], context: &mut Context<'_>) {
        match self.replica.awareness.apply(body, context.now_ms) {
            Err(error) => context.model.violate(format!("an awareness body does not parse: {error}")),
            Ok(changed) if changed.is_empty() => {}
            Ok(changed) if self.habits.echoes => self.announce(&changed),
            // The answer to one's own removal is no echo of the provider's, but its own event.
            Ok(changed) if changed.contains(&self.replica.client) => self.announce(&[self.replica.client]),
            Ok(_) => {}
        }
    }

    fn acknowledged(&mut self, applied: bool, context: &mut Context<'_>) {
        let document = self.document.clone();
        let Some(edit) = self.awaiting.pop_front() else {
            return context.model.violate(format!("{document:?}: a SyncStatus that nothing asked for"));
        };
        if !applied {
            context.model.refused_edits += 1;
            if !self.habits.read_only {
                context.model.violate(format!("{document:?}: a writer's edit was refused"));
            }
        } else if !self.habits.read_only {
            context.model.promise(&document, &edit, context.opened_ms);
        }
    }

    /// The user types.
    pub(super) fn edit(&mut self, rng: &mut Rng, largest: usize) {
        self.has_edited = true;
        let update = self.replica.edit(rng, largest);
        if update != [0, 0] {
            self.send_edit(&SyncMessage::Update { update: &update });
        }
    }

    /// The user moves the cursor, or hides.
    pub(super) fn set_presence(&mut self, state: Option<String>, now_ms: u64) {
        self.replica.awareness.set(state, now_ms);
        self.announce(&[self.replica.client]);
    }

    pub(super) fn tick(&mut self, now_ms: u64) {
        let changed = self.replica.awareness.tick(now_ms);
        if !changed.is_empty() {
            self.announce(&changed);
        }
    }

    fn announce(&mut self, clients: &[u64]) {
        let body = self.replica.awareness.encode(clients);
        self.send(|out| hocuspocus::append_awareness_body(out, &body));
    }

    fn send_edit(&mut self, message: &SyncMessage<'_>) {
        if self.attached
            && let SyncMessage::Step2 { update } | SyncMessage::Update { update } = message
        {
            let runs = runs_of(update).unwrap_or_default();
            runs.iter().for_each(|run| self.sent.insert(run));
            if self.habits.is_acknowledged {
                self.awaiting.push_back(runs);
            }
        }
        self.send_sync(message);
    }

    fn send_sync(&mut self, message: &SyncMessage<'_>) {
        self.send(|out| hocuspocus::append_sync_body(out, message));
    }

    fn send(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.attached {
            let mut message = Vec::new();
            write(&mut message);
            self.outgoing.push(message);
        }
    }
}

impl<'a> Incoming<'a> {
    /// What a y-websocket frame says.
    pub(super) fn of_ywebsocket(frame: &'a [u8]) -> Result<Self, String> {
        match ywebsocket::decode(frame).map_err(|error| format!("{error}: {frame:02x?}"))? {
            ywebsocket::Message::SyncStep1 { state_vector } => Ok(Self::Step1(state_vector)),
            ywebsocket::Message::SyncStep2 { update } => Ok(Self::Step2(update)),
            ywebsocket::Message::Update { update } => Ok(Self::Update(update)),
            ywebsocket::Message::Awareness(body) => Ok(Self::Awareness(body)),
            ywebsocket::Message::QueryAwareness => Ok(Self::QueryAwareness),
            ywebsocket::Message::PermissionDenied { reason } => Err(format!("permission denied: {reason}")),
        }
    }

    /// What a Hocuspocus sync message says.
    pub(super) fn of_sync(message: &SyncMessage<'a>) -> Self {
        match *message {
            SyncMessage::Step1 { state_vector } => Self::Step1(state_vector),
            SyncMessage::Step2 { update } => Self::Step2(update),
            SyncMessage::Update { update } => Self::Update(update),
        }
    }
}

/// FNV-1a: stable over runs.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
