//! A node: the thread of its pins, the thread of its sessions, and a data thread. They tell each other things through queues, and
//! any of them may be the first to run after a stop.

use super::data::{Data, ToData};
use super::moves::{Moves, move_of};
use super::network::LATE_US;
use super::server::REGISTRY;
use super::world::{Answer, Ask, Event, GRACE_US, LEASE_US, MILLI, NodeId, RENEW_US, SECOND, World};
use fastrand::Rng;
use pinwire_cluster::{self as cluster, Gate, Pins, Standing, Ticket};
use pinwire_registry::{self as registry, AppName, AppUse, Claim, DocumentName, NodeView};
use pinwire_session::{self as session, OutOfReach, Sessions};
use std::collections::VecDeque;
use std::sync::Arc;

/// A thread of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Actor {
    Pins,
    Session,
    Data,
}

pub(super) enum ToPins {
    Answered(cluster::AskId, registry::Answer),
    Failed(cluster::AskId),
    Hold(DocumentName, Ticket),
    Leave(DocumentName, Ticket),
    GiveBack(DocumentName, Ticket),
    GiveBackLeft(DocumentName),
    Use(u32),
    Fenced(DocumentName, Claim),
    Move(DocumentName, Ticket, Claim, Claim),
    Retire,
}

pub(super) enum ToSession {
    Replied(session::AskId, Result<session::Reply, OutOfReach>),
    Notice(session::Notice),
    Missed,
    Open(DocumentName, Claim),
    Append(DocumentName, u32, Vec<Box<[u8]>>),
    PutBack(DocumentName, u32, Vec<Box<[u8]>>),
    Rebase(DocumentName, u32, u64, Arc<[u8]>),
    Say(DocumentName, Arc<[u8]>),
    Close(DocumentName),
    Reclaimed(DocumentName, Claim),
}

/// One of a node's places. Its process is another one after each start.
pub(super) struct Node {
    pub(super) region: usize,
    name: Arc<str>,
    pub(super) is_alive: bool,
    /// It stands still until it is resumed.
    pub(super) is_paused: bool,
    /// Which of its processes this is.
    pub(super) run: u64,
    /// Where its monotonic clock begins, and how much it gains in a million.
    clock: (u64, u64),
    /// What happened to it while it stood still.
    stalled: VecDeque<Event>,
    turn_at: [Option<u64>; 3],
    pub(super) pins: Pins,
    pub(super) sessions: Sessions,
    /// As the session store knows the process.
    pub(super) session_node: registry::Node,
    pub(super) gate: Gate,
    pub(super) data: Data,
    to_pins: VecDeque<ToPins>,
    to_session: VecDeque<ToSession>,
    pub(super) to_data: VecDeque<ToData>,
    pub(super) moves: Moves,
    /// It has retired, and ends.
    pub(super) is_retiring: bool,
}

pub(super) fn region_name(region: usize) -> registry::Region {
    format!("region-{region}").into()
}

pub(super) fn app() -> AppName {
    AppName("tenant::app".into())
}

pub(super) fn document_name(document: usize) -> DocumentName {
    DocumentName { app: app(), name: document.to_string().into() }
}

fn view(region: usize, name: &Arc<str>, life: u64) -> NodeView {
    let region = region_name(region);
    let ws_url = format!("wss://{region}").into();
    let node = registry::Node { region, name: Arc::clone(name), life };
    NodeView { node, ws_url, peer_address: "".into(), version: "1".into(), admin_url: "".into() }
}

impl Node {
    pub(super) fn new(region: usize, number: usize, rng: &mut Rng) -> Self {
        let name: Arc<str> = format!("node-{number}").into();
        let (pins, sessions, session_node) = process(region, &name, rng);
        Self {
            region,
            name,
            is_alive: false,
            is_paused: false,
            run: 0,
            clock: (rng.u64(1..=1_000_000) * SECOND, rng.u64(0..=3_000)),
            stalled: VecDeque::new(),
            turn_at: [None; 3],
            pins,
            sessions,
            session_node,
            gate: Gate::default(),
            data: Data::default(),
            to_pins: VecDeque::new(),
            to_session: VecDeque::new(),
            to_data: VecDeque::new(),
            moves: Moves::default(),
            is_retiring: false,
        }
    }

    /// Its clock at a moment of true time.
    pub(super) fn clock(&self, now_us: u64) -> u64 {
        self.clock.0 + now_us + now_us * self.clock.1 / 1_000_000
    }

    /// The first moment of true time at which its clock shows this.
    fn moment(&self, clock_us: u64) -> u64 {
        let passed = clock_us.saturating_sub(self.clock.0);
        (u128::from(passed) * 1_000_000).div_ceil(u128::from(1_000_000 + self.clock.1)) as u64
    }
}

impl Node {
    /// The document that was closed, if it was.
    fn sessions_are_told(&mut self, input: ToSession) -> Option<DocumentName> {
        let sessions = &mut self.sessions;
        match input {
            ToSession::Replied(ask, reply) => sessions.replied(ask, reply),
            ToSession::Notice(notice) => sessions.notice(notice),
            ToSession::Missed => sessions.missed(),
            ToSession::Open(document, claim) => sessions.open(document, claim, 0),
            ToSession::Append(document, position, updates) => sessions.append(&document, position, updates),
            ToSession::PutBack(document, position, updates) => {
                sessions.put_back(&document, position, updates);
            }
            ToSession::Rebase(document, upto, mark, base) => {
                sessions.rebase(&document, upto, mark, base, Vec::new());
            }
            ToSession::Say(document, message) => sessions.say(&document, message),
            ToSession::Close(document) => {
                sessions.close(&document);
                return Some(document);
            }
            ToSession::Reclaimed(document, claim) => sessions.reclaimed(&document, claim),
        }
        None
    }
}

fn process(region: usize, name: &Arc<str>, rng: &mut Rng) -> (Pins, Sessions, registry::Node) {
    let settings = cluster::Settings {
        me: view(region, name, 0),
        lease_us: LEASE_US,
        renew_us: RENEW_US,
        grace_us: GRACE_US,
    };
    let me = view(region, name, rng.u64(..)).node;
    let times = session::Settings { lease_us: LEASE_US, beat_us: RENEW_US, ..session::Settings::default() };
    (Pins::new(settings, rng.u64(..)), Sessions::new(me.clone(), times, rng.u64(..)), me)
}

impl World {
    /// A process begins, if the last one has ended.
    pub(super) fn start(&mut self, node: NodeId, run: u64) {
        let (region, name) = (self.nodes[node].region, Arc::clone(&self.nodes[node].name));
        if self.nodes[node].is_alive || self.nodes[node].run != run {
            return;
        }
        let (pins, sessions, session_node) = process(region, &name, &mut self.rng);
        let clock = self.nodes[node].clock;
        self.tracer.say(self.now_us, || format!("node {node} starts in region {region}"));
        self.nodes[node] = Node {
            is_alive: true,
            run: run + 1,
            pins,
            sessions,
            session_node,
            ..Node::new(region, node, &mut self.rng)
        };
        self.nodes[node].clock = clock;
        for server in [REGISTRY, 1 + region] {
            self.reconnect(node, server);
        }
        self.subscribe(node, 1 + region);
        for actor in [Actor::Pins, Actor::Session] {
            self.wake(node, actor);
        }
    }

    /// A process ends at once, and with it all it knows.
    pub(super) fn kill(&mut self, node: NodeId, run: u64) {
        if !self.nodes[node].is_alive || self.nodes[node].run != run {
            return;
        }
        self.tracer.say(self.now_us, || format!("node {node} ends"));
        self.nodes[node].is_alive = false;
        self.nodes[node].is_paused = false;
        self.node_is_gone(node);
    }

    pub(super) fn pause(&mut self, node: NodeId, time_us: u64) {
        self.tracer.say(self.now_us, || format!("node {node} stands still for {time_us}"));
        self.nodes[node].is_paused = true;
        let run = self.nodes[node].run;
        self.after(time_us, Event::Resume(node, run));
    }

    /// All threads of a node run again, in any order, with everything that waited for them.
    pub(super) fn resume(&mut self, node: NodeId, run: u64) {
        let resumed = &mut self.nodes[node];
        if !resumed.is_paused || resumed.run != run {
            return;
        }
        resumed.is_paused = false;
        resumed.turn_at = [None; 3];
        let stalled = std::mem::take(&mut resumed.stalled);
        self.tracer.say(self.now_us, || format!("node {node} goes on"));
        // In their order, and before what comes from now on.
        for event in stalled {
            self.at(self.now_us, event);
        }
        for actor in [Actor::Pins, Actor::Session, Actor::Data] {
            self.wake(node, actor);
        }
    }

    /// Keeps what happens to a node that stands still.
    pub(super) fn stall(&mut self, node: NodeId, event: impl FnOnce() -> Event) -> bool {
        let is_paused = self.nodes[node].is_paused;
        if is_paused {
            self.nodes[node].stalled.push_back(event());
        }
        is_paused
    }

    pub(super) fn wake(&mut self, node: NodeId, actor: Actor) {
        let delay = self.rng.u64(0..=MILLI / 4);
        self.wake_at(node, actor, self.now_us + delay);
    }

    fn wake_at(&mut self, node: NodeId, actor: Actor, at_us: u64) {
        let woken = &mut self.nodes[node];
        let run = woken.run;
        if woken.is_alive && woken.turn_at[actor as usize].is_none_or(|turn| turn > at_us) {
            woken.turn_at[actor as usize] = Some(at_us);
            self.at(at_us, Event::Turn(node, run, actor));
        }
    }

    pub(super) fn turn(&mut self, node: NodeId, run: u64, actor: Actor) {
        let turning = &mut self.nodes[node];
        let is_it = turning.run == run && turning.turn_at[actor as usize] == Some(self.now_us);
        if !turning.is_alive || !is_it || turning.is_paused {
            return;
        }
        turning.turn_at[actor as usize] = None;
        match actor {
            Actor::Pins => self.turn_of_pins(node),
            Actor::Session => self.turn_of_sessions(node),
            Actor::Data => self.turn_of_data(node),
        }
    }

    fn turn_of_pins(&mut self, node: NodeId) {
        let now_us = self.now_us;
        let turning = &mut self.nodes[node];
        let (clock_us, max_documents) = (turning.clock(now_us), self.plan.max_documents);
        let pins = &mut turning.pins;
        pins.begin(clock_us);
        for input in std::mem::take(&mut turning.to_pins) {
            match input {
                ToPins::Answered(ask, answer) => pins.answered(ask, answer),
                ToPins::Failed(ask) => pins.failed(ask),
                ToPins::Hold(document, ticket) => pins.hold(&document, ticket, max_documents),
                ToPins::Leave(document, ticket) => pins.leave(&document, ticket),
                ToPins::GiveBack(document, ticket) => pins.give_back(&document, ticket),
                ToPins::GiveBackLeft(document) => pins.give_back_left(&document),
                ToPins::Use(connections) => {
                    let max_connections = 1_000;
                    pins.use_app(AppUse { app: app(), connections, wanted: connections, max_connections });
                }
                ToPins::Fenced(document, claim) => pins.fenced(&document, claim),
                ToPins::Move(document, ticket, claim, to) => pins.move_here(&document, ticket, claim, to),
                ToPins::Retire => pins.retire(),
            }
        }
        while let Some(effect) = self.nodes[node].pins.next_effect() {
            self.pins_wish(node, effect);
        }
        let turned = &self.nodes[node];
        let deadline = turned.pins.next_deadline_us();
        if turned.is_alive && deadline < u64::MAX {
            self.wake_at(node, Actor::Pins, turned.moment(deadline).max(now_us));
        }
    }

    fn pins_wish(&mut self, node: NodeId, effect: cluster::Effect) {
        match effect {
            cluster::Effect::Ask(ask, request) => self.send(node, REGISTRY, Ask::Registry(ask, request)),
            cluster::Effect::Decided(document, ticket, decision) => match move_of(ticket.0) {
                Some(number) => self.move_decided(node, number, ticket, decision),
                None => self.tell_data(node, ToData::Decided(document, ticket, decision)),
            },
            cluster::Effect::Lost(document, ticket, owner) => {
                self.tell_data(node, ToData::Lost(document, ticket, owner));
            }
            cluster::Effect::Reclaimed(document, ticket, claim) => {
                self.tell_data(node, ToData::Reclaimed(document, ticket, claim));
            }
            cluster::Effect::Lease(lease) => {
                self.tracer.say(self.now_us, || format!("node {node}: {lease:?}"));
                self.nodes[node].gate.publish(lease);
                self.wake(node, Actor::Session);
                self.wake(node, Actor::Data);
            }
            cluster::Effect::Life(_) | cluster::Effect::Reach(_) => {}
            cluster::Effect::Shares(_) | cluster::Effect::Records(_) => {}
            cluster::Effect::Retired => {
                let run = self.nodes[node].run;
                self.after(MILLI, Event::Kill(node, run));
                let pause_us = self.rng.u64(0..=LATE_US);
                self.after(2 * MILLI + pause_us, Event::Start(node, run));
            }
        }
    }

    fn turn_of_sessions(&mut self, node: NodeId) {
        let now_us = self.now_us;
        let turning = &mut self.nodes[node];
        let clock_us = turning.clock(now_us);
        turning.sessions.begin(clock_us);
        let is_lapsed = turning.gate.check(clock_us) != Standing::Valid;
        turning.sessions.lease(u64::from(is_lapsed));
        while let Some(input) = self.nodes[node].to_session.pop_front() {
            let closed = self.nodes[node].sessions_are_told(input);
            // What was said of a document before it was closed is said before.
            self.sessions_wish_all(node);
            if let Some(closed) = closed {
                self.tell_data(node, ToData::Closed(closed));
            }
        }
        self.sessions_wish_all(node);
        let turned = &self.nodes[node];
        if let Some(deadline) = turned.sessions.next_deadline_us() {
            self.wake_at(node, Actor::Session, turned.moment(deadline).max(now_us));
        }
    }

    fn sessions_wish_all(&mut self, node: NodeId) {
        while let Some(effect) = self.nodes[node].sessions.next_effect() {
            self.sessions_wish(node, effect);
        }
    }

    fn sessions_wish(&mut self, node: NodeId, effect: session::Effect) {
        let news = match effect {
            session::Effect::Ask(ask, request) => {
                let store = 1 + self.nodes[node].region;
                return self.send(node, store, Ask::Store(ask, request));
            }
            session::Effect::Opened(document, loaded) => ToData::Opened(document, loaded),
            session::Effect::Stored(document, position) => ToData::Stored(document, position),
            session::Effect::Foreign(document, mark, batch) => ToData::Foreign(document, mark, batch),
            session::Effect::Reloading(document) => ToData::Reloading(document),
            session::Effect::Reload(document, mark, loaded) => ToData::Reload(document, mark, loaded),
            session::Effect::Said(document, node, message) => ToData::Said(document, node, message),
            session::Effect::Joined(document, _) => ToData::Joined(document),
            session::Effect::Left(document, node) => ToData::Left(document, node),
            session::Effect::Fenced(document, claim) => ToData::Fenced(document, claim),
            session::Effect::Reclaimed(document, claim) => ToData::Raised(document, claim),
            // These stores have room.
            session::Effect::Full(_) | session::Effect::Room(_) | session::Effect::GivenUp(_) => return,
            session::Effect::Reach(is_reached) => ToData::Store(is_reached),
        };
        self.tell_data(node, news);
    }

    pub(super) fn tell_data(&mut self, node: NodeId, news: ToData) {
        self.nodes[node].to_data.push_back(news);
        self.wake(node, Actor::Data);
    }

    pub(super) fn tell_pins(&mut self, node: NodeId, news: ToPins) {
        self.nodes[node].to_pins.push_back(news);
        self.wake(node, Actor::Pins);
    }

    pub(super) fn tell_session(&mut self, node: NodeId, news: ToSession) {
        self.nodes[node].to_session.push_back(news);
        self.wake(node, Actor::Session);
    }

    pub(super) fn hand_answer(&mut self, node: NodeId, answer: Answer) {
        match answer {
            Answer::Registry(ask, answer) if move_of(ask.0).is_some() => {
                self.move_located(node, ask.0, Some(answer));
            }
            Answer::Store(ask, reply) if move_of(ask.0).is_some() => {
                self.move_stored(node, ask.0, Some(reply));
            }
            Answer::Registry(ask, answer) => self.tell_pins(node, ToPins::Answered(ask, answer)),
            Answer::Store(ask, reply) => self.tell_session(node, ToSession::Replied(ask, Ok(reply))),
        }
    }

    pub(super) fn hand_failure(&mut self, node: NodeId, ask: &Ask) {
        match ask {
            Ask::Registry(ask, _) if move_of(ask.0).is_some() => self.move_located(node, ask.0, None),
            Ask::Store(ask, _) if move_of(ask.0).is_some() => self.move_stored(node, ask.0, None),
            Ask::Registry(ask, _) => self.tell_pins(node, ToPins::Failed(*ask)),
            Ask::Store(ask, _) => self.tell_session(node, ToSession::Replied(*ask, Err(OutOfReach))),
        }
    }

    pub(super) fn hand_notice(&mut self, node: NodeId, notice: session::Notice) {
        self.tell_session(node, ToSession::Notice(notice));
    }

    pub(super) fn hand_missed(&mut self, node: NodeId) {
        self.tell_session(node, ToSession::Missed);
    }
}
