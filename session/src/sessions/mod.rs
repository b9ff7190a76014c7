//! A node's side of its region's sessions: what it asks the store, when, and what it makes of the answers. No I/O and no
//! clock; what is random comes from a seed.
//!
//! Four kinds of methods. *Time*: [`begin`](Sessions::begin), before anything else of a turn. *From data threads*:
//! [`open`](Sessions::open), [`append`](Sessions::append), [`put_back`](Sessions::put_back), [`rebase`](Sessions::rebase),
//! [`say`](Sessions::say), [`close`](Sessions::close). *From the store and the registry*: [`replied`](Sessions::replied),
//! [`notice`](Sessions::notice), [`missed`](Sessions::missed), [`reclaimed`](Sessions::reclaimed), [`lease`](Sessions::lease). Then
//! [`next_effect`](Sessions::next_effect) until there is none, and nothing before
//! [`next_deadline_us`](Sessions::next_deadline_us) or the next input.
//!
//! **Invariants.** An update is said to be stored ([`Effect::Stored`]) after the store said so under the document's claim, in order,
//! and only while the lease is valid. A document has one append, load, open or close under way; what comes meanwhile is
//! gathered. What another node wrote is given to the data thread in the order of the history. What might have been
//! missed is loaded: nothing depends on a notice to arrive. Everything held is bounded (`limits`), but for updates that the
//! store has not taken, which the shard bounds.

mod answers;
mod ask;
mod document;
mod lanes;
mod limits;
mod moving;
mod outgoing;
mod presence;
mod told;
mod trail;

use crate::marks::is_at_or_before;
use crate::{Batch, Head, Loaded, PARTITIONS, Request};
use ask::Asked;
use document::{Document, Id, Phase, Rebase};
use lanes::Lane;
pub use moving::MOVE_PATIENCE_US;
use pinwire_registry::{Claim, DocumentName, Node};
use presence::Beats;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

/// Names a request until its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AskId(pub u64);

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask the store, and answer with [`Sessions::replied`], in bounded time.
    Ask(AskId, Request),
    /// A document is open, or why it is not; it is forgotten then.
    Opened(DocumentName, Result<Loaded, Refused>),
    /// Everything up to this position is in the store.
    Stored(DocumentName, u32),
    /// Other nodes' updates, under a mark: see [`Marks`](crate::Marks).
    Foreign(DocumentName, u64, Batch),
    /// It may be that the store lost something: nothing of the document is to be taken for stored until the [`Effect::Reload`].
    Reloading(DocumentName),
    /// What the store has, under a mark: to be absorbed and answered with [`Sessions::put_back`].
    Reload(DocumentName, u64, Loaded),
    /// Another node said something.
    Said(DocumentName, Node, Arc<[u8]>),
    /// Another node holds the document and has to be told who is present.
    Joined(DocumentName, Node),
    /// Another node holds it no more, or died: who was present there is gone.
    Left(DocumentName, Node),
    /// The session belongs to this newer claim: nothing is stored until the node has it, or closes the document.
    Fenced(DocumentName, Claim),
    /// Answers [`Sessions::reclaimed`]: what was said before it was said under an older claim, and what is said to be stored from here
    /// on is in the session of this one.
    Reclaimed(DocumentName, Claim),
    /// The store has no room for the document's updates: no more are to be taken from clients. These are tried again.
    Full(DocumentName),
    /// It has room again.
    Room(DocumentName),
    /// It had none for too long ([`Settings::full_patience_us`]): the document is to be closed, with what was not stored.
    GivenUp(DocumentName),
    /// The store does not answer, all of it or a part; or (true) it does, and every document was compared with it.
    Reach(bool),
}

/// Why a document cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The store does not answer.
    OutOfReach,
    /// The session belongs to this newer claim.
    Fenced(Claim),
    /// The document is being moved to another region.
    Moving,
    /// The store has no room.
    Full,
}

impl fmt::Display for Refused {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfReach => out.write_str("the session store does not answer"),
            Self::Fenced(claim) => write!(out, "the session belongs to the newer claim {claim}"),
            Self::Moving => out.write_str("the document is being moved to another region"),
            Self::Full => out.write_str("the session store is full"),
        }
    }
}

impl std::error::Error for Refused {}

/// Times, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// For how long others believe that this node lives after it said so.
    pub lease_us: u64,
    /// Between two beats; a third of the lease or less.
    pub beat_us: u64,
    /// How long a notice may be on its way before it counts as lost.
    pub gap_us: u64,
    /// The first pause after a request that was not answered; each next is twice as long.
    pub retry_us: u64,
    /// The longest of these pauses.
    pub retry_max_us: u64,
    /// Between two attempts to append to a store that is full.
    pub full_retry_us: u64,
    /// For how long a document waits for a store that has no room for it; `None`: for ever.
    pub full_patience_us: Option<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lease_us: 20_000_000,
            beat_us: 5_000_000,
            gap_us: 250_000,
            retry_us: 50_000,
            retry_max_us: 2_000_000,
            full_retry_us: 1_000_000,
            full_patience_us: None,
        }
    }
}

/// What happened so far, and what is there now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Documents that are held, or about to be.
    pub documents: u64,
    /// Requests that wait for their replies.
    pub under_way: u64,
    /// Batches that the store took.
    pub appends: u64,
    /// Updates in them.
    pub appended_updates: u64,
    /// Batches of other nodes.
    pub foreign: u64,
    /// Requests that were not answered.
    pub failures: u64,
    /// Appends that the store refused because the histories differ.
    pub diverged: u64,
    /// Sessions that were loaded again.
    pub reloads: u64,
    /// Notices that were missing for too long.
    pub gaps: u64,
    /// Heads compared after something may have been missed.
    pub compared: u64,
    /// Documents that were found under a newer claim.
    pub fenced: u64,
    /// Documents that were to be moved to another region.
    pub moves: u64,
    /// Appends for which there was no room.
    pub full: u64,
    /// Documents that were given up for it.
    pub given_up: u64,
    /// Times when messages to other nodes were dropped, to be said anew.
    pub said_anew: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// Its gate is to be opened a little.
    Lane(usize),
    /// A notice should have come.
    Gap(Id),
    /// There may be room.
    Room(Id),
    /// Whether it was moved should have been decided.
    Moving(Id),
}

#[derive(Debug)]
struct Place {
    serial: u32,
    document: Option<Box<Document>>,
}

const _: () = assert!(PARTITIONS <= 64, "one bit per lane");

/// See the module's documentation.
#[derive(Debug)]
pub struct Sessions {
    me: Node,
    settings: Settings,
    random: u64,
    now_us: u64,
    /// License regions, a bit for each number, in whose registries this node has no lease.
    lapsed: u64,
    places: Vec<Place>,
    free: Vec<u32>,
    names: HashMap<DocumentName, Id>,
    lanes: Vec<Lane>,
    /// Lanes that were out of reach, and whose documents are not all compared yet: a bit each.
    away: u64,
    /// What was said last about that.
    is_away: bool,
    /// Documents that have something to ask.
    ready: VecDeque<Id>,
    /// Documents that wait until fewer sessions are being loaded.
    loads_waiting: VecDeque<Id>,
    /// The same with compacted pasts.
    rebases_waiting: VecDeque<Id>,
    /// Lanes that have something to compare.
    comparing: VecDeque<usize>,
    asked: HashMap<AskId, Asked>,
    counts: ask::Counts,
    last_ask: u64,
    last_hold: u64,
    timers: BTreeSet<(u64, Timer)>,
    beats: Beats,
    /// Other nodes, with the number of documents that they share with this one.
    peers: BTreeMap<Node, u32>,
    effects: VecDeque<Effect>,
    stats: Stats,
}

impl Sessions {
    /// `me`: one life of this node, the same for as long as this lives. `seed` must differ from run to run and from node to
    /// node: nonces come from it.
    #[must_use]
    pub fn new(me: Node, settings: Settings, seed: u64) -> Self {
        Self {
            me,
            settings,
            random: seed,
            now_us: 0,
            lapsed: 0,
            places: Vec::new(),
            free: Vec::new(),
            names: HashMap::new(),
            lanes: (0..PARTITIONS).map(|_| Lane::default()).collect(),
            away: 0,
            is_away: false,
            ready: VecDeque::new(),
            loads_waiting: VecDeque::new(),
            rebases_waiting: VecDeque::new(),
            comparing: VecDeque::new(),
            asked: HashMap::new(),
            counts: ask::Counts::default(),
            last_ask: 0,
            last_hold: 0,
            timers: BTreeSet::new(),
            beats: Beats::default(),
            peers: BTreeMap::new(),
            effects: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    /// The time of this turn, monotonic.
    pub fn begin(&mut self, now_us: u64) {
        self.now_us = self.now_us.max(now_us);
        while let Some((at, timer)) = self.timers.first().copied().filter(|(at, _)| *at <= self.now_us) {
            self.timers.remove(&(at, timer));
            match timer {
                Timer::Lane(lane) => self.open_gate_a_little(lane),
                Timer::Gap(id) => self.gap_is_over(id, at),
                Timer::Room(id) => self.queue(id),
                Timer::Moving(id) => self.move_is_over(id, at),
            }
        }
        self.beat_if_due();
    }

    /// When [`begin`](Self::begin) has to be called at the latest.
    #[must_use]
    pub fn next_deadline_us(&self) -> Option<u64> {
        let timer = self.timers.first().map(|(at, _)| *at);
        timer.into_iter().chain(self.beats.due_us()).min()
    }

    /// What to do next.
    pub fn next_effect(&mut self) -> Option<Effect> {
        if self.effects.is_empty() {
            self.ask_next();
            self.tell_reach();
        }
        self.effects.pop_front()
    }

    /// What happened so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats { documents: self.names.len() as u64, under_way: self.asked.len() as u64, ..self.stats }
    }

    /// The node has the document, of an app of this license region, under this claim: answered by [`Effect::Opened`]. A document
    /// that is open, or about to be closed, begins anew.
    pub fn open(&mut self, document: DocumentName, claim: Claim, license: u8) {
        let before = self.names.get(&document).copied();
        let is_held = before.is_some_and(|id| self.get(id).is_some_and(|held| held.is_held));
        if let Some(id) = before {
            self.remove(id);
        }
        self.last_hold += 1;
        let mut opened = Box::new(Document::new(document.clone(), claim, self.last_hold, license));
        (opened.is_held, opened.was_held) = (is_held, is_held);
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { serial: 0, document: None });
            self.places.len() as u32 - 1
        });
        let place = &mut self.places[index as usize];
        place.document = Some(opened);
        let id = Id { index, serial: place.serial };
        self.names.insert(document, id);
        self.queue(id);
    }

    /// The log up to `position` is stored with these updates and all before: answered by [`Effect::Stored`] of it, or of a later
    /// one. Without updates: what came since was of others.
    pub fn append(&mut self, document: &DocumentName, position: u32, updates: Vec<Box<[u8]>>) {
        let Some((id, held)) = self.find(document) else { return };
        if let Some(position) = held.outgoing.add(position, updates)
            && !held.awaits_put_back
        {
            self.stored(id, position);
        }
        self.queue(id);
    }

    /// Answers [`Effect::Reload`]: what the store lacks of the log up to `position`. Takes the place of everything that was to be
    /// appended. Confirmed as in [`append`](Self::append).
    pub fn put_back(&mut self, document: &DocumentName, position: u32, updates: Vec<Box<[u8]>>) {
        let Some((id, held)) = self.find(document) else { return };
        if !held.awaits_put_back {
            return;
        }
        held.awaits_put_back = false;
        held.puts_back = (!updates.is_empty()).then_some(position);
        if let Some(position) = held.outgoing.replace(position, updates) {
            self.has_room(id);
            self.stored(id, position);
        }
        self.queue(id);
    }

    /// A compaction made `base` and `left` of the log up to `upto`; `mark`: the newest that was absorbed before that
    /// position ([`Marks::before`](crate::Marks::before)). Only if all own updates before it were given to
    /// [`append`](Self::append). Never stands for what could not be read ([`unreadable`](Self::unreadable)).
    pub fn rebase(
        &mut self,
        document: &DocumentName,
        upto: u32,
        mark: u64,
        base: Arc<[u8]>,
        left: Vec<Box<[u8]>>,
    ) {
        let Some((id, held)) = self.find(document) else { return };
        let position = upto;
        let Some(mark) = held.readable(mark) else { return };
        let Some(upto) = held.trail.upto(position, mark).filter(|head| *head != Head::default()) else {
            return;
        };
        held.rebase = Some(Box::new(Rebase { position, upto, base, left: left.into() }));
        self.queue(id);
    }

    /// Something of what was given to the data thread under this mark is no update (0: of what the document was opened with). The
    /// store keeps it from here on, with all that came after it: it may be from a version that knows more, or be
    /// mended. If that is news: the history's head when it was given, at or before which the entry is.
    pub fn unreadable(&mut self, document: &DocumentName, mark: u64) -> Option<Head> {
        let (_, held) = self.find(document)?;
        let is_news = held.unread.is_none_or(|unread| mark < unread);
        if is_news {
            held.unread = Some(mark);
        }
        is_news.then(|| held.trail.reached_with(mark).unwrap_or(held.known))
    }

    /// Tells the other nodes that hold the document, in order; dropped if there are none. If it cannot be told, the data
    /// thread is asked ([`Effect::Joined`]) to say everything anew once it can.
    pub fn say(&mut self, document: &DocumentName, message: Arc<[u8]>) {
        let Some((id, held)) = self.find(document) else { return };
        if held.peers.is_empty() {
            return;
        }
        held.sayings.get_or_insert_default().push(message);
        self.queue(id);
    }

    /// The document is closed on this node. The session stays for who comes in the grace; or for those of the region who do not
    /// know yet that another has it.
    pub fn close(&mut self, document: &DocumentName) {
        let Some((id, held)) = self.find(document) else { return };
        held.phase = Phase::Closing;
        held.outgoing = outgoing::Outgoing::default();
        (held.rebase, held.sayings) = (None, None);
        held.unlink();
        self.forget_peers(id);
        self.queue(id);
    }

    /// The registry confirmed the node's claim of a document, or gave it a higher one, which it takes over. Answered by
    /// [`Effect::Reclaimed`], once the document is open.
    pub fn reclaimed(&mut self, document: &DocumentName, claim: Claim) {
        let Some((id, held)) = self.find(document) else { return };
        let is_higher = claim > held.claim;
        held.claim = claim.max(held.claim);
        match held.phase {
            Phase::Opening => held.reclaimed = Some(claim),
            Phase::Live | Phase::Moving | Phase::Fenced if is_higher => {
                held.phase = Phase::Live;
                held.leaving = None;
                held.unsaid = None;
                held.unlink();
                self.doubt(id);
                self.tell_reclaimed(id, claim);
            }
            Phase::Live | Phase::Moving | Phase::Fenced | Phase::Closing => self.tell_reclaimed(id, claim),
        }
        self.queue(id);
    }

    fn tell_reclaimed(&mut self, id: Id, claim: Claim) {
        if let Some(held) = self.get(id) {
            let name = held.name.clone();
            self.effects.push_back(Effect::Reclaimed(name, claim));
        }
    }

    /// The license regions, a bit for each number, in whose registries this node has no lease. Of their documents nothing is asked but
    /// comparisons, and nothing is said to be stored.
    pub fn lease(&mut self, lapsed: u64) {
        let before = std::mem::replace(&mut self.lapsed, lapsed);
        if lapsed & !before != 0 {
            self.take_back();
        }
        let back = before & !lapsed;
        if back == 0 {
            return;
        }
        for id in self.ids() {
            let Some(held) = self.get(id).filter(|held| held.is_of(back)) else { continue };
            if let Some(position) = held.unsaid.take() {
                self.stored(id, position);
            }
            self.say_anew_if_due(id);
            self.queue(id);
        }
    }

    /// Whether something that is to be asked may be, by the leases told last.
    #[must_use]
    pub fn may_ask(&self, ask: AskId) -> bool {
        self.asked.get(&ask).is_some_and(|asked| asked.needs & self.lapsed == 0)
    }

    /// What is to be said to be stored and was not taken yet waits for the lease.
    fn take_back(&mut self) {
        let lapsed = self.lapsed;
        for effect in std::mem::take(&mut self.effects) {
            let Effect::Stored(name, position) = &effect else {
                self.effects.push_back(effect);
                continue;
            };
            match self.find(name) {
                Some((_, held)) if held.is_of(lapsed) => held.unsaid = Some(*position),
                Some(_) => self.effects.push_back(effect),
                // Nobody is there any more to be told.
                None => {}
            }
        }
    }

    /// Whether a document is of a license region in whose registry there is no lease.
    #[must_use]
    pub fn is_lapsed(&self, document: &DocumentName) -> bool {
        self.held(document).is_some_and(|held| held.is_of(self.lapsed))
    }

    /// Whether the store has everything of a document that it was given, and what it has is not in doubt, as far as this node can
    /// do anything about it.
    #[must_use]
    pub fn is_settled(&self, document: &DocumentName) -> bool {
        let held = self.held(document);
        held.is_none_or(|held| {
            !held.is_followed() || !held.needs_load && !held.awaits_put_back && held.outgoing.is_empty()
        })
    }

    /// Whether [`Effect::Reload`] of it was not answered yet.
    #[must_use]
    pub fn awaits_put_back(&self, document: &DocumentName) -> bool {
        self.held(document).is_some_and(|held| held.awaits_put_back)
    }

    fn held(&self, document: &DocumentName) -> Option<&Document> {
        let id = self.names.get(document)?;
        self.places.get(id.index as usize)?.document.as_deref()
    }

    /// Notices may have been lost, or another server answers: every document is compared with the store, and what the store
    /// takes this node to hold with what it holds.
    pub fn missed(&mut self) {
        self.beats.check_holds();
        for id in self.ids() {
            self.compare(id);
        }
    }

    fn ids(&self) -> Vec<Id> {
        let held = self.places.iter().enumerate().filter(|(_, place)| place.document.is_some());
        held.map(|(index, place)| Id { index: index as u32, serial: place.serial }).collect()
    }

    fn get(&mut self, id: Id) -> Option<&mut Document> {
        let place = self.places.get_mut(id.index as usize)?;
        place.document.as_deref_mut().filter(|_| place.serial == id.serial)
    }

    /// A document that is not being closed.
    fn find(&mut self, document: &DocumentName) -> Option<(Id, &mut Document)> {
        let id = *self.names.get(document)?;
        let held = self.get(id)?;
        (held.phase != Phase::Closing).then_some((id, held))
    }

    fn remove(&mut self, id: Id) {
        self.forget_peers(id);
        let Some(place) = self.places.get_mut(id.index as usize) else { return };
        if place.serial != id.serial {
            return;
        }
        let Some(document) = place.document.take() else { return };
        place.serial = place.serial.wrapping_add(1);
        self.free.push(id.index);
        if self.names.get(&document.name) == Some(&id) {
            self.names.remove(&document.name);
        }
    }

    /// Says what is stored, now or once there is a lease.
    fn stored(&mut self, id: Id, position: u32) {
        let lapsed = self.lapsed;
        let Some(held) = self.get(id) else { return };
        held.stored = Some(position);
        held.puts_back = held.puts_back.filter(|upto| !is_at_or_before(*upto, position));
        if held.is_of(lapsed) {
            held.unsaid = Some(position);
            return;
        }
        let name = held.name.clone();
        self.effects.push_back(Effect::Stored(name, position));
    }

    /// What is known may not be what the store has.
    fn doubt(&mut self, id: Id) {
        let Some(held) = self.get(id) else { return };
        if !held.needs_load {
            held.needs_load = true;
            held.unlink();
            let name = held.name.clone();
            self.effects.push_back(Effect::Reloading(name));
        }
        self.queue(id);
    }

    fn timer(&mut self, after_us: u64, timer: Timer) -> u64 {
        let at = self.now_us + after_us;
        self.timers.insert((at, timer));
        at
    }

    /// SplitMix64.
    fn random(&mut self) -> u64 {
        next_random(&mut self.random)
    }

    /// Between half of a pause and all of it.
    fn jittered(&mut self, pause_us: u64) -> u64 {
        pause_us / 2 + self.random() % (pause_us / 2 + 1)
    }
}

fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
