//! Several nodes with one session store between them: what they tell each other late or never, and what befalls whole nodes.
//!
//! The store is idealised: it keeps what it is told in order, and knows who holds what. A node that missed an update is told so
//! and loads the document again; what else it missed, it has to find out from what it hears later.

use super::member::hash;
use super::model::DocumentId;
use super::plan::Plan;
use super::socket::{Place, SocketId};
use super::world::{self, Event, Input, World};
use pinwire_protocol::close::Close;
use pinwire_shard::{DocumentRef, Kept, NodeTag};
use std::collections::{BTreeMap, BTreeSet};

/// For so long after the store lost something no node dies that has it: who has an edit alone would take it along.
const HEALING_MS: u64 = 40_000;
/// How long others take to notice that a node died.
const LEASE_MS: u64 = 8_000;

/// From an update to its submission.
const SAME_MS: u64 = 5;

/// What a node is told of a document.
#[derive(Clone, Debug)]
pub(super) enum Notice {
    Updates(Vec<Box<[u8]>>),
    Said(NodeTag, Box<[u8]>),
    Joined(NodeTag),
    Left(NodeTag),
    /// It missed something.
    Reloading,
}

/// A document of a thread.
type Held = (usize, DocumentRef);

/// Who holds what, and what is under way between nodes.
pub(super) struct Region {
    placement_seed: u64,
    /// One of a node at most.
    holders: BTreeMap<DocumentId, Vec<Held>>,
    /// Documents that ended: what is still loaded for them is for nobody.
    closed: BTreeSet<(usize, u32, u32)>,
    /// How often each node has died.
    lives: Vec<u32>,
    /// When the last notice of a node to a thread arrives: those of one writer come in order.
    clock: BTreeMap<(usize, usize), u64>,
    /// Updates of others that a document was told of, by hash, and when.
    heard: BTreeMap<(usize, u32, u32), BTreeMap<u64, u64>>,
    /// Who missed an update: what comes after it waits until the document was loaded again.
    behind: BTreeSet<(usize, u32, u32)>,
    /// Who had each update of the store stored.
    writers: BTreeMap<DocumentId, Vec<Held>>,
    /// Documents that a node lost, or died with: what it had not stored is gone, unless somebody who may write has it, too.
    bereft: BTreeSet<DocumentId>,
    heals_until_ms: u64,
    adrift_until_ms: Vec<u64>,
}

fn key((thread, document): Held) -> (usize, u32, u32) {
    (thread, document.index, document.serial)
}

impl Region {
    pub(super) fn new(plan: &Plan, placement_seed: u64) -> Self {
        Self {
            placement_seed,
            holders: BTreeMap::new(),
            closed: BTreeSet::new(),
            lives: vec![0; plan.nodes],
            clock: BTreeMap::new(),
            heard: BTreeMap::new(),
            behind: BTreeSet::new(),
            writers: BTreeMap::new(),
            bereft: BTreeSet::new(),
            heals_until_ms: 0,
            adrift_until_ms: vec![0; plan.nodes],
        }
    }

    /// Who else holds a document. What a thread had before it lost the pin is another one's.
    fn others(&self, id: &DocumentId, held: Held) -> Vec<Held> {
        let holders = self.holders.get(id).map_or(&[][..], |holders| holders);
        holders.iter().copied().filter(|other| *other != held).collect()
    }

    fn holds(&self, id: &DocumentId, held: Held) -> bool {
        self.holders.get(id).is_some_and(|holders| holders.contains(&held))
    }

    /// A node lost what it had of the document, be it stored or not.
    pub(super) fn was_bereft(&self, id: &DocumentId) -> bool {
        self.bereft.contains(id)
    }

    fn tag(&self, node: usize) -> NodeTag {
        NodeTag(node as u32 + self.lives.len() as u32 * self.lives[node])
    }
}

impl World {
    pub(super) fn node_of(&self, thread: usize) -> usize {
        thread / self.plan.threads
    }

    pub(super) fn thread_of(&self, node: usize, thread: usize) -> usize {
        node * self.plan.threads + thread
    }

    fn tag_of(&self, thread: usize) -> NodeTag {
        self.region.tag(self.node_of(thread))
    }

    // The store.

    /// Loads a document for a thread, which holds it from now on.
    pub(super) fn load_for(
        &mut self,
        thread: usize,
        document: DocumentRef,
        id: &DocumentId,
        refused: bool,
    ) -> Result<Kept, Close> {
        let mut kept = self.load(id, refused)?;
        let held = (thread, document);
        if !self.region.closed.contains(&key(held)) {
            kept.nodes = self.nodes_beside(id, held);
            self.region.holders.entry(id.clone()).or_default().push(held);
            self.tell(id, held, &Notice::Joined(self.tag_of(thread)));
        }
        Ok(kept)
    }

    fn nodes_beside(&self, id: &DocumentId, held: Held) -> Vec<NodeTag> {
        self.region.others(id, held).into_iter().map(|(other, _)| self.tag_of(other)).collect()
    }

    /// A thread's updates are kept, and the other holders are told.
    pub(super) fn commit(
        &mut self,
        thread: usize,
        document: DocumentRef,
        id: &DocumentId,
        updates: Vec<Vec<u8>>,
    ) {
        self.tell_trace(&format!("thread {thread} {document:?} commits {}", updates.len()));
        let boxed: Vec<Box<[u8]>> = updates.iter().map(|update| update.clone().into()).collect();
        let writers = self.region.writers.entry(id.clone()).or_default();
        writers.extend(updates.iter().map(|_| (thread, document)));
        self.model.store(id, updates);
        self.tell(id, (thread, document), &Notice::Updates(boxed));
    }

    /// A thread has something stored: nothing of it came from the store.
    pub(super) fn check_submission(&mut self, thread: usize, document: DocumentRef, updates: &[Vec<u8>]) {
        let heard = self.region.heard.get(&key((thread, document)));
        // The same may have come from a client just before.
        let is_old = |at: &u64| *at + SAME_MS < self.now_ms;
        let is_heard =
            |update: &Vec<u8>| heard.and_then(|heard| heard.get(&hash(update))).is_some_and(is_old);
        if let Some(update) = updates.iter().find(|update| is_heard(update)) {
            let what =
                format!("thread {thread} {document:?}: {update:?} comes to the store that came from there");
            self.model.violate(what);
        }
        if self.threads[thread].is_adrift {
            self.model.violate("a node that may not write has something stored");
        }
    }

    /// The last updates are lost, all of them of nodes that still hold the document: those put them back.
    fn lose_updates(&mut self, id: &DocumentId) {
        let writers = self.region.writers.entry(id.clone()).or_default();
        let holders = self.region.holders.get(id).cloned().unwrap_or_default();
        let most = self.rng.usize(1..=4);
        let lost = writers.iter().rev().take(most).take_while(|writer| holders.contains(writer)).count();
        if lost == 0 {
            return;
        }
        writers.truncate(writers.len() - lost);
        self.region.heals_until_ms = self.now_ms + HEALING_MS;
        self.model.forget_last(id, lost);
        for held in holders {
            self.threads[held.0].shard.reloading(held.1);
            self.reload_soon(held);
        }
    }

    // Notices.

    fn tell(&mut self, id: &DocumentId, from: Held, notice: &Notice) {
        for held in self.region.others(id, from) {
            if matches!(notice, Notice::Updates(_)) && self.region.behind.contains(&key(held)) {
                continue;
            }
            if self.is_busy && Plan::chance(&mut self.rng, self.plan.lost_notices) {
                if matches!(notice, Notice::Updates(_) | Notice::Left(_)) {
                    self.region.behind.insert(key(held));
                    self.reload_soon(held);
                }
                continue;
            }
            let delay = self.rng.u64(0..=self.plan.notice_ms);
            let node = self.node_of(from.0);
            let last = self.region.clock.entry((node, held.0)).or_default();
            *last = (*last).max(self.now_ms + delay);
            let when = *last;
            self.at(when, Event::Notice { thread: held.0, document: held.1, notice: notice.clone() });
        }
    }

    /// A node will find out that it missed something.
    fn reload_soon(&mut self, (thread, document): Held) {
        let noticed = self.now_ms + self.rng.u64(0..3_000);
        self.at(noticed, Event::Notice { thread, document, notice: Notice::Reloading });
        let answered = noticed + self.rng.u64(1..1_000);
        self.at(answered, Event::Reload { thread, document });
    }

    pub(super) fn noticed(&mut self, thread: usize, document: DocumentRef, notice: Notice) {
        self.tell_trace(&format!("thread {thread} {document:?} notice {notice:?}"));
        let shard = &mut self.threads[thread].shard;
        match notice {
            Notice::Updates(updates) => {
                shard.foreign(document, &updates);
                let heard = self.region.heard.entry(key((thread, document))).or_default();
                let now_ms = self.now_ms;
                updates.iter().for_each(|update| _ = heard.entry(hash(update)).or_insert(now_ms));
            }
            Notice::Said(node, message) => shard.said(document, node, &message),
            Notice::Joined(node) => shard.foreign_joined(document, node),
            Notice::Left(node) => shard.foreign_left(document, node),
            Notice::Reloading => shard.reloading(document),
        }
    }

    pub(super) fn reload(&mut self, thread: usize, document: DocumentRef) {
        let Some(id) = self.opened_as.get(&key((thread, document))).cloned() else { return };
        if self.region.holds(&id, (thread, document))
            && let Ok(kept) = self.load(&id, false)
        {
            self.region.behind.remove(&key((thread, document)));
            let kept = Kept { nodes: self.nodes_beside(&id, (thread, document)), ..kept };
            self.input(thread, Input::Reloaded(document, kept));
        }
    }

    /// A thread is told what the store has, and answers with what that lacks.
    pub(super) fn reloaded(&mut self, thread: usize, document: DocumentRef, kept: Kept) {
        let Some(id) = self.opened_as.get(&key((thread, document))).cloned() else { return };
        self.tell_trace(&format!("thread {thread} {document:?} reload"));
        let Some(lacking) = self.threads[thread].shard.reload(document, kept) else { return };
        self.tell_trace(&format!(
            "thread {thread} {document:?} put back {} upto {}",
            lacking.updates.len(),
            lacking.upto
        ));
        // What was still to be appended stands in the answer, if it is lacking.
        let is_superseded = |event: &Event| matches!(event, Event::Commit { thread: of, document: by, .. } if (*of, *by) == (thread, document));
        self.queue.retain(|_, event| !is_superseded(event));
        self.region.heard.remove(&key((thread, document)));
        let adrift_until_ms = self.region.adrift_until_ms[self.node_of(thread)];
        let pending = self.committing.get(&id).copied().unwrap_or(0).max(adrift_until_ms);
        let when = (self.now_ms + self.rng.u64(0..500)).max(pending);
        // What the thread submits from now on comes after it.
        self.committing.insert(id.clone(), when);
        let updates = lacking.updates.into_iter().map(Vec::from).collect();
        self.at(when, Event::Commit { thread, document, id, position: lacking.upto, updates });
    }

    pub(super) fn say(&mut self, thread: usize, document: DocumentRef, message: &[u8]) {
        let Some(id) = self.opened_as.get(&key((thread, document))).cloned() else { return };
        if self.plan.nodes == 1 {
            self.model.violate("a node by itself has something to say to others");
        }
        if self.threads[thread].is_adrift {
            self.model.violate("a node that may not write tells others something");
        }
        self.tell(&id, (thread, document), &Notice::Said(self.tag_of(thread), message.into()));
    }

    /// A document ended on a thread.
    pub(super) fn left(&mut self, thread: usize, document: DocumentRef, id: &DocumentId) {
        let held = (thread, document);
        self.region.closed.insert(key(held));
        self.region.heard.remove(&key(held));
        if self.region.holds(id, held)
            && let Some(holders) = self.region.holders.get_mut(id)
        {
            holders.retain(|holder| *holder != held);
            self.tell(id, held, &Notice::Left(self.tag_of(thread)));
        }
    }

    // What befalls nodes.

    pub(super) fn region_fault(&mut self) {
        let node = self.rng.usize(0..self.plan.nodes);
        let heals = self.now_ms < self.region.heals_until_ms;
        let held: Vec<(DocumentId, Held)> = self
            .region
            .holders
            .iter()
            .flat_map(|(id, holders)| holders.iter().map(|held| (id.clone(), *held)))
            .collect();
        let held = self.rng.choice(held);
        let kind = self.rng.u8(0..8);
        self.tell_trace(&format!("fault {kind} node {node} held {held:?} heals {heals}"));
        match (kind, held) {
            (0..=1, _) if !heals => self.die(node),
            (2..=3, _) => {
                let until_ms = self.now_ms + self.rng.u64(1_000..15_000);
                self.region.adrift_until_ms[node] = until_ms;
                self.set_adrift(node, true);
                self.at(until_ms, Event::Ashore(node));
            }
            (4..=5, Some((id, (thread, document)))) if !heals => {
                self.region.bereft.insert(id);
                self.input(thread, Input::Lost(document));
            }
            (6.., Some((id, _))) if !heals => self.lose_updates(&id),
            _ => {}
        }
    }

    pub(super) fn set_adrift(&mut self, node: usize, is_adrift: bool) {
        if !is_adrift && self.now_ms < self.region.adrift_until_ms[node] {
            return;
        }
        self.tell_trace(&format!("node {node} adrift {is_adrift}"));
        for thread in 0..self.plan.threads {
            let thread = self.thread_of(node, thread);
            // What is known from before may come to the store once more.
            self.region.heard.retain(|(of, ..), _| *of != thread);
            self.input(thread, Input::Adrift(is_adrift));
        }
    }

    /// A node is killed, and comes back at once with nothing. The others notice later.
    fn die(&mut self, node: usize) {
        let tag = self.region.tag(node);
        let threads = self.thread_of(node, 0)..self.thread_of(node + 1, 0);
        let sockets = self.forget_events(&threads);
        for (number, socket) in self.sockets.iter_mut().enumerate() {
            let is_there = matches!(socket.place, Place::At(thread, _) if threads.contains(&thread));
            if is_there || sockets.contains(&number) {
                socket.place = Place::Closed;
                socket.tail.clear();
            }
        }
        for socket in 0..self.sockets.len() {
            self.schedule_client_read(socket);
        }
        for thread in threads.clone() {
            let seed = self.region.placement_seed;
            self.threads[thread] = world::thread(&self.plan, thread, seed, self.now_ms, &mut self.rng);
            self.opened_as.retain(|(of, ..), _| *of != thread);
        }
        for app in 0..self.plan.apps {
            self.apps[node * self.plan.apps + app] = world::app(&self.plan, app);
        }
        self.region.lives[node] += 1;
        self.region.adrift_until_ms[node] = 0;
        self.region.heard.retain(|(of, ..), _| !threads.contains(of));
        self.region.closed.retain(|(of, ..)| !threads.contains(of));
        self.region.behind.retain(|(of, ..)| !threads.contains(of));
        let noticed = self.now_ms + self.rng.u64(0..LEASE_MS);
        for (id, holders) in &mut self.region.holders {
            let before = holders.len();
            holders.retain(|(of, _)| !threads.contains(of));
            if holders.len() < before {
                self.region.bereft.insert(id.clone());
            }
        }
        self.region.writers.values_mut().flatten().for_each(|writer| {
            if threads.contains(&writer.0) {
                // Nobody any more.
                writer.0 = usize::MAX;
            }
        });
        for (thread, document) in self.region.holders.values().flatten().copied().collect::<Vec<_>>() {
            self.at(noticed, Event::Notice { thread, document, notice: Notice::Left(tag) });
        }
    }

    /// Drops what was to happen to these threads; the sockets among that.
    fn forget_events(&mut self, threads: &std::ops::Range<usize>) -> BTreeSet<SocketId> {
        let mut sockets = BTreeSet::new();
        let mut inputs: Vec<Input> = Vec::new();
        for thread in threads.clone() {
            inputs.extend(self.threads[thread].inbox.drain(..));
        }
        let is_theirs = |event: &Event| match event {
            Event::Turn(thread)
            | Event::Input(thread, _)
            | Event::Commit { thread, .. }
            | Event::Loaded { thread, .. }
            | Event::Notice { thread, .. }
            | Event::Reload { thread, .. } => threads.contains(thread),
            _ => false,
        };
        let theirs: Vec<(u64, u64)> =
            self.queue.iter().filter(|(_, event)| is_theirs(event)).map(|(at, _)| *at).collect();
        for at in theirs {
            if let Some(Event::Input(_, input)) = self.queue.remove(&at) {
                inputs.push(input);
            }
        }
        for input in inputs {
            if let Input::Open(socket) | Input::Arrive(socket, _) | Input::Depart(socket, _) = input {
                sockets.insert(socket);
            }
        }
        sockets
    }
}
