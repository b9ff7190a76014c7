//! Everything around the nodes: links, the store and its replica, what goes wrong, and what has to hold.

use crate::node::{Command, Member};
use crate::shard::{Document, contents, decode};
use pinwire_registry::{AppName, Claim, DocumentName, Node};
use pinwire_session::{AskId, Book, Bounds, Notice, OutOfReach, Reply, Request, Sessions, Settings};
use std::collections::{BTreeMap, BTreeSet};

/// What goes wrong.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Requests, replies and notices are lost; links stand still.
    pub links: bool,
    /// Nodes die, come back as another life, or stand still.
    pub nodes: bool,
    /// Leases run out for a while.
    pub leases: bool,
    /// The store is wiped, rolled back, or does not answer for a while.
    pub store: bool,
    /// Documents get higher claims.
    pub claims: bool,
    /// The store has little room.
    pub full: bool,
}

/// What a run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    pub events: u64,
    pub stored: u64,
    pub digest: u64,
}

const MS: u64 = 1_000;
/// Virtual time in which things go wrong.
const STORMY_US: u64 = 8_000 * MS;
/// Virtual time after which everything has to be as it should.
const CALM_US: u64 = 14_000 * MS;
const TIMEOUT_US: u64 = 400 * MS;

#[derive(Debug)]
pub enum Event {
    /// A request reaches the store.
    Arrive(Node, AskId, Request),
    Reply(Node, AskId, Result<Reply, OutOfReach>),
    Notice(Node, Notice),
    Missed(Node),
    CoreTurn(Node),
    ShardTurn(Node),
    /// It goes on after it stood still.
    Wake(Node),
    Lease(Node, bool),
    Reclaim(Node, DocumentName, Claim),
    Compacted(Node, DocumentName),
    /// Somebody does something.
    Act,
    Fault,
}

pub struct World {
    random: fastrand::Rng,
    faults: Faults,
    now_us: u64,
    events: BTreeMap<(u64, u64), Event>,
    serial: u64,
    handled: u64,
    book: Book,
    /// As a replica has it.
    replica: Book,
    store_down_until: u64,
    members: BTreeMap<Node, Member>,
    lives: u64,
    claims: BTreeMap<DocumentName, Claim>,
    next_id: u64,
    /// Everything that was in the store at some time.
    ever_stored: BTreeSet<u64>,
    /// What a node took for stored.
    acknowledged: BTreeMap<u64, DocumentName>,
    /// Notices of one node come in order.
    last_notice_us: BTreeMap<Node, u64>,
    has_lost: bool,
    digest: u64,
}

impl World {
    pub fn new(seed: u64, faults: Faults) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let bounds = if faults.full {
            Bounds { document_bytes: 12_000, total_bytes: random.u64(4_000..40_000), keep_us: 90_000 * MS }
        } else {
            Bounds { document_bytes: 1 << 20, total_bytes: 1 << 24, keep_us: 90_000 * MS }
        };
        let documents = (0..random.u64(1..4)).map(|index| {
            let document =
                DocumentName { app: AppName("acme::notes".into()), name: format!("d{index}").into() };
            (document, Claim { epoch: 1, nonce: index })
        });
        let mut world = Self {
            claims: documents.collect(),
            random,
            faults,
            now_us: 0,
            events: BTreeMap::new(),
            serial: 0,
            handled: 0,
            book: Book::new(bounds),
            replica: Book::new(bounds),
            store_down_until: 0,
            members: BTreeMap::new(),
            lives: 0,
            next_id: 0,
            ever_stored: BTreeSet::new(),
            acknowledged: BTreeMap::new(),
            last_notice_us: BTreeMap::new(),
            has_lost: false,
            digest: 0,
        };
        for index in 0..world.random.u64(2..5) {
            world.start(&format!("n{index}"));
        }
        world.after(MS, Event::Act);
        world.after(100 * MS, Event::Fault);
        world
    }

    fn start(&mut self, name: &str) {
        self.lives += 1;
        let me = Node { region: "eu".into(), name: name.into(), life: self.lives };
        let settings = Settings {
            lease_us: 2_000 * MS,
            beat_us: 500 * MS,
            gap_us: 100 * MS,
            retry_us: 20 * MS,
            retry_max_us: 500 * MS,
            full_retry_us: 200 * MS,
            full_patience_us: Some(10_000 * MS),
        };
        let core = Sessions::new(me.clone(), settings, self.random.u64(..));
        self.members.insert(me.clone(), Member::new(me.clone(), core));
        self.after(0, Event::CoreTurn(me));
    }

    fn after(&mut self, delay_us: u64, event: Event) {
        self.serial += 1;
        self.events.insert((self.now_us + delay_us, self.serial), event);
    }

    fn is_stormy(&self) -> bool {
        self.now_us < STORMY_US
    }

    pub fn run(mut self) -> Report {
        while let Some(((at, _), event)) = self.events.pop_first() {
            if at > STORMY_US + CALM_US {
                break;
            }
            self.now_us = at;
            self.handled += 1;
            self.digest = self.digest.wrapping_mul(31).wrapping_add(at);
            self.handle(event);
        }
        self.check();
        Report { events: self.handled, stored: self.acknowledged.len() as u64, digest: self.digest }
    }

    fn handle(&mut self, event: Event) {
        let now_us = self.now_us;
        let of = match &event {
            Event::Reply(node, ..)
            | Event::Notice(node, _)
            | Event::Missed(node)
            | Event::CoreTurn(node)
            | Event::ShardTurn(node)
            | Event::Lease(node, _)
            | Event::Reclaim(node, ..)
            | Event::Compacted(node, _) => Some(node),
            Event::Arrive(..) | Event::Wake(_) | Event::Act | Event::Fault => None,
        };
        match of.and_then(|node| self.members.get_mut(node)) {
            // A node that stands still finds everything in order when it goes on.
            Some(member) if member.paused_until > now_us || !member.held.is_empty() => {
                member.held.push_back(event);
            }
            _ => self.dispatch(event),
        }
    }

    fn dispatch(&mut self, event: Event) {
        let now_us = self.now_us;
        match event {
            Event::Arrive(node, ask, request) => self.arrive(node, ask, &request),
            Event::Reply(node, ask, reply) => self.turn(&node, |member| member.core.replied(ask, reply)),
            Event::Notice(node, notice) => self.turn(&node, |member| {
                if member.deaf_until <= now_us {
                    member.core.notice(notice);
                }
            }),
            Event::Missed(node) => self.turn(&node, |member| member.core.missed()),
            Event::CoreTurn(node) => self.turn(&node, |_| {}),
            Event::Lease(node, is_valid) => self.turn(&node, |member| {
                member.may_write = is_valid;
                member.core.lease(u64::from(!is_valid));
            }),
            Event::Reclaim(node, document, claim) => self.turn(&node, |member| {
                member.core.reclaimed(&document, claim);
            }),
            Event::ShardTurn(node) => self.shard_turn(&node),
            Event::Compacted(node, document) => self.compacted(&node, document),
            Event::Wake(node) => self.wake(&node),
            Event::Act => self.act(),
            Event::Fault => self.fault(),
        }
    }

    fn wake(&mut self, node: &Node) {
        let now_us = self.now_us;
        let Some(member) = self.members.get_mut(node) else { return };
        if member.paused_until > now_us {
            return;
        }
        for event in std::mem::take(&mut member.held) {
            self.dispatch(event);
        }
    }

    /// Does something with a core, and sees to what comes of it.
    fn turn(&mut self, node: &Node, then: impl FnOnce(&mut Member)) {
        let now_us = self.now_us;
        let Some(member) = self.members.get_mut(node) else { return };
        member.core_turn(now_us);
        then(member);
        let requests = member.requests();
        let deadline = member.core.next_deadline_us();
        for (ask, request) in requests {
            self.send(node, ask, request);
        }
        let armed = self.members.get_mut(node).map(|member| &mut member.armed);
        if let (Some(deadline), Some(armed)) = (deadline, armed)
            && armed.is_none_or(|armed| armed <= now_us || deadline < armed)
        {
            *armed = Some(deadline.max(now_us + 1));
            self.after(deadline.saturating_sub(now_us).max(1), Event::CoreTurn(node.clone()));
        }
        let delay = self.random.u64(0..2 * MS);
        self.after(delay, Event::ShardTurn(node.clone()));
    }

    fn send(&mut self, node: &Node, ask: AskId, request: Request) {
        let loses = self.faults.links && self.is_stormy();
        let delay = self.delay();
        match self.random.u32(0..100) {
            // Never there.
            0..2 if loses => self.after(TIMEOUT_US, Event::Reply(node.clone(), ask, Err(OutOfReach))),
            // Carried out, but nobody hears of it; perhaps long after it was given up.
            2..5 if loses => {
                let late = self.random.u64(0..2 * TIMEOUT_US);
                self.after(late, Event::Arrive(node.clone(), AskId(u64::MAX), request));
                self.after(TIMEOUT_US, Event::Reply(node.clone(), ask, Err(OutOfReach)));
            }
            _ => self.after(delay, Event::Arrive(node.clone(), ask, request)),
        }
    }

    fn delay(&mut self) -> u64 {
        if self.random.u32(0..20) == 0 { self.random.u64(0..150 * MS) } else { self.random.u64(50..3 * MS) }
    }

    fn arrive(&mut self, node: Node, ask: AskId, request: &Request) {
        let is_answered = ask != AskId(u64::MAX);
        if self.store_down_until > self.now_us {
            if is_answered {
                self.after(TIMEOUT_US, Event::Reply(node, ask, Err(OutOfReach)));
            }
            return;
        }
        let before = self.contents_before(request);
        let (reply, notices) = self.book.apply(self.now_us, request);
        match request {
            Request::Append { updates, .. } if matches!(reply, Reply::Appended { .. }) => {
                self.ever_stored.extend(updates.iter().flat_map(|update| decode(update)));
            }
            Request::Rebase { document, .. } => {
                if let Some((_, loaded)) = self.book.peek(document) {
                    let after = contents(&loaded);
                    let lost: Vec<_> = before.difference(&after).collect();
                    assert!(lost.is_empty(), "a rebase of {node} lost {lost:?} of {document}: {request:?}");
                    self.ever_stored.extend(after);
                }
            }
            _ => {}
        }
        if is_answered {
            let delay = self.delay();
            self.after(delay, Event::Reply(node, ask, Ok(reply)));
        }
        for (to, notice) in notices {
            let delay = self.delay();
            let at = (self.now_us + delay).max(self.last_notice_us.get(&to).copied().unwrap_or_default());
            self.last_notice_us.insert(to.clone(), at);
            self.after(at - self.now_us, Event::Notice(to, notice));
        }
    }

    /// What a rebase must not lose.
    fn contents_before(&self, request: &Request) -> BTreeSet<u64> {
        let Request::Rebase { document, .. } = request else { return BTreeSet::new() };
        self.book.peek(document).map(|(_, loaded)| contents(&loaded)).unwrap_or_default()
    }

    fn shard_turn(&mut self, node: &Node) {
        let Some(member) = self.members.get_mut(node) else { return };
        let by_document = member.open_documents();
        let stored = member.shard_turn();
        let has_news = !member.to_core.is_empty();
        for id in stored {
            assert!(self.ever_stored.contains(&id), "{node}: update {id} was never in the store");
            let member = &self.members[node];
            let document = by_document
                .iter()
                .find(|name| member.documents.get(*name).is_some_and(|document| document.ids.contains(&id)));
            self.acknowledged.extend(document.map(|name| (id, name.clone())));
        }
        if has_news {
            let delay = self.random.u64(0..2 * MS);
            self.after(delay, Event::CoreTurn(node.clone()));
        }
    }

    fn some_member(&mut self) -> Option<Node> {
        let nodes: Vec<Node> = self.members.keys().cloned().collect();
        self.random.choice(nodes)
    }

    fn act(&mut self) {
        if !self.is_stormy() {
            return;
        }
        let pause = self.random.u64(MS..20 * MS);
        self.after(pause, Event::Act);
        let Some(node) = self.some_member() else { return };
        let documents: Vec<DocumentName> = self.claims.keys().cloned().collect();
        let Some(name) = self.random.choice(documents) else { return };
        let (claim, now_us) = (self.claims[&name], self.now_us);
        let (start, what) = (self.random.u32(..), self.random.u32(0..100));
        let Some(member) = self.members.get_mut(&node) else { return };
        if member.paused_until > self.now_us {
            return;
        }
        let is_held = member.documents.contains_key(&name);
        if !is_held {
            if what < 40 {
                member.documents.insert(name.clone(), Document::new(start, now_us));
                member.to_core.push_back(Command::Open(name, claim));
            }
        } else if let Some(document) = member.documents.get_mut(&name).filter(|document| document.is_open) {
            match what {
                0..60 => {
                    for _ in 0..=what % 4 {
                        self.next_id += 1;
                        document.edit(self.next_id);
                    }
                }
                60..75 => {
                    document.presence += 1;
                    member.to_core.push_back(Command::Say(name, document.presence));
                }
                75..88 => {
                    document.compact();
                    let wait = self.random.u64(0..60 * MS);
                    self.after(wait, Event::Compacted(node.clone(), name));
                }
                88..96 if document.is_all_stored() && member.reaches_store => {
                    member.documents.remove(&name);
                    member.to_core.push_back(Command::Close(name));
                }
                _ => {}
            }
        }
        if let Some(member) = self.members.get_mut(&node) {
            member.submit();
        }
        self.after(0, Event::CoreTurn(node));
    }

    fn compacted(&mut self, node: &Node, name: DocumentName) {
        let leaves_one = self.random.u32(0..4) == 0;
        let Some(member) = self.members.get_mut(node) else { return };
        let Some(document) = member.documents.get_mut(&name) else { return };
        if let Some(done) = document.compacted(leaves_one) {
            member.to_core.push_back(Command::Rebase(name, done.upto, done.mark, done.base, done.left));
        }
        self.after(0, Event::CoreTurn(node.clone()));
    }

    fn fault(&mut self) {
        if !self.is_stormy() {
            return;
        }
        let pause = self.random.u64(20 * MS..400 * MS);
        self.after(pause, Event::Fault);
        let faults = self.faults;
        match self.random.u32(0..8) {
            0 | 1 if faults.links => self.deafen(),
            2 if faults.nodes => self.kill(),
            3 if faults.nodes => {
                let pause = self.random.u64(0..4_000 * MS);
                if let Some(node) = self.some_member() {
                    let member = self.members.get_mut(&node).expect("it is there");
                    member.paused_until = member.paused_until.max(self.now_us + pause);
                    let until = member.paused_until;
                    self.after(until - self.now_us, Event::Wake(node));
                }
            }
            4 if faults.leases => {
                if let Some(node) = self.some_member() {
                    let pause = self.random.u64(0..800 * MS);
                    self.after(0, Event::Lease(node.clone(), false));
                    self.after(pause, Event::Lease(node, true));
                }
            }
            5 if faults.claims => self.raise_claim(),
            6 | 7 if faults.store => self.fail_store(),
            _ => self.replica = self.book.clone(),
        }
    }

    /// A subscription is interrupted.
    fn deafen(&mut self) {
        let pause = self.random.u64(0..500 * MS);
        let until = self.now_us + pause;
        if let Some(node) = self.some_member() {
            self.members.get_mut(&node).expect("it is there").deaf_until = until;
            self.after(pause, Event::Missed(node));
        }
    }

    fn kill(&mut self) {
        if self.members.len() < 2 {
            return;
        }
        if let Some(node) = self.some_member() {
            self.members.remove(&node);
            let name = node.name.clone();
            self.start(&name);
        }
    }

    /// The registry forgot a pin, and another node of the region got it under a higher claim.
    fn raise_claim(&mut self) {
        let documents: Vec<DocumentName> = self.claims.keys().cloned().collect();
        let Some(document) = self.random.choice(documents) else { return };
        let claim = self.claims.get_mut(&document).expect("it is there");
        claim.epoch += 1;
        let claim = *claim;
        // What no node has of the session before is lost with it.
        self.has_lost = true;
        for node in self.members.keys().cloned().collect::<Vec<_>>() {
            let delay = self.random.u64(0..600 * MS);
            self.after(delay, Event::Reclaim(node, document.clone(), claim));
        }
    }

    fn fail_store(&mut self) {
        self.has_lost = true;
        if self.random.bool() {
            self.store_down_until = self.now_us + self.random.u64(0..700 * MS);
        }
        match self.random.u32(0..3) {
            0 => self.book.wipe(),
            1 => self.book = self.replica.clone(),
            _ => return,
        }
        // A connection of the old server says nothing more.
        self.events.retain(|_, event| !matches!(event, Event::Notice(..)));
        for node in self.members.keys().cloned().collect::<Vec<_>>() {
            let delay = self.random.u64(0..300 * MS);
            self.after(delay, Event::Missed(node));
        }
    }

    fn check(&self) {
        for (name, claim) in &self.claims {
            let holders: Vec<&Member> =
                self.members.values().filter(|member| member.documents.contains_key(name)).collect();
            let store = self.book.peek(name);
            let there = store.as_ref().map(|(_, loaded)| contents(loaded)).unwrap_or_default();
            for member in &holders {
                self.check_holder(member, name, *claim, store.as_ref().map(|(claim, _)| *claim), &there);
            }
            for node in store.iter().flat_map(|(_, loaded)| &loaded.nodes) {
                let has_it = |member: &Member| member.documents.contains_key(name);
                let is_held = self.members.get(node).is_none_or(has_it);
                assert!(is_held, "the store takes {node} for a holder of {name}, for ever");
            }
            if !holders.iter().any(|member| self.was_full(member)) {
                self.check_presence(name, &holders);
            }
            if !self.has_lost {
                for id in self.acknowledged.iter().filter(|(_, of)| *of == name).map(|(id, _)| id) {
                    assert!(there.contains(id), "update {id} of {name} was acknowledged, and is lost");
                }
            }
        }
    }

    fn check_holder(
        &self,
        member: &Member,
        name: &DocumentName,
        claim: Claim,
        there_under: Option<Claim>,
        there: &BTreeSet<u64>,
    ) {
        let (node, document) = (&member.me, &member.documents[name]);
        assert!(document.is_open, "{node} still waits for {name}");
        if self.was_full(member) {
            return;
        }
        assert_eq!(there_under, Some(claim), "{name}: the store does not have the claim");
        let lacks: Vec<_> = there.difference(&document.ids).collect();
        let has: Vec<_> = document.ids.difference(there).collect();
        assert!(
            lacks.is_empty() && has.is_empty(),
            "{name}: {node} lacks {lacks:?} of the store, which lacks {has:?}"
        );
        assert!(document.is_all_stored(), "{node}: {name} is not said to be stored, or still reloading");
        assert!(member.reaches_store, "{node} takes the store for out of reach");
    }

    /// Nothing is promised of what there is no room for.
    fn was_full(&self, member: &Member) -> bool {
        self.faults.full && member.core.stats().full > 0
    }

    fn check_presence(&self, name: &DocumentName, holders: &[&Member]) {
        for member in holders {
            let others = holders.iter().filter(|other| other.me != member.me);
            let present: BTreeMap<Node, u64> =
                others.map(|other| (other.me.clone(), other.documents[name].presence)).collect();
            assert_eq!(member.documents[name].seen, present, "{} sees others in {name}", member.me);
        }
    }
}
