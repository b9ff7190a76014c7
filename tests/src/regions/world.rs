//! The world: true time, a queue of what happens next, and everyone in it. Clocks of nodes and servers begin elsewhere and run
//! apart.

use super::check::Model;
use super::clients::{Client, Conn, ConnId, Down, Up};
use super::moves::Letter;
use super::network::Link;
use super::node::{Actor, Node};
use super::plan::Plan;
use super::server::{REGISTRY, Server, ServerId};
use super::trace::Tracer;
use fastrand::Rng;
use pinwire_cluster as cluster;
use pinwire_registry as registry;
use pinwire_session as session;
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

pub(super) const MILLI: u64 = 1_000;
pub(super) const SECOND: u64 = 1_000_000;

pub(super) const LEASE_US: u64 = 20 * SECOND;
pub(super) const RENEW_US: u64 = 5 * SECOND;
pub(super) const GRACE_US: u64 = 10 * SECOND;

/// Which node; the same after a restart.
pub(super) type NodeId = usize;

/// What is asked of a server.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    Registry(cluster::AskId, registry::Request),
    Store(session::AskId, session::Request),
}

/// What it answers.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Registry(cluster::AskId, registry::Answer),
    Store(session::AskId, session::Reply),
}

/// One life of a node's process, and one connection of it to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkId {
    pub(super) node: NodeId,
    pub(super) run: u64,
    pub(super) epoch: u64,
}

/// A request on its way.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    pub(super) server: ServerId,
    pub(super) instance: usize,
    pub(super) link: LinkId,
    pub(super) request: Ask,
}

/// Something that happens at a moment.
#[derive(Debug)]
pub(super) enum Event {
    Turn(NodeId, u64, Actor),
    Arrive(Arrival),
    Answer(ServerId, LinkId, Answer),
    Timeout(ServerId, LinkId, u64),
    /// A connection is found to be broken.
    Broken(ServerId, LinkId),
    Notice(LinkId, session::Notice),
    /// A node hears of notices again, after it may have missed some.
    Heard(LinkId),
    ToNode(ConnId, Up),
    ToClient(ConnId, Down),
    Dial(usize),
    Edit,
    Stroll(usize),
    Fault,
    Thaw(ServerId, usize),
    FailOver(ServerId),
    Depose(ServerId, usize),
    Resume(NodeId, u64),
    Start(NodeId, u64),
    Kill(NodeId, u64),
    Impatient(ConnId),
    Peer(Letter),
    /// A store is asked again whether all holders have stopped.
    Poll(NodeId, u64, u64),
    /// A region has not handed a document over in time.
    MoveLate(NodeId, u64, u64),
    /// A move has waited.
    MoveRested(NodeId, u64, u64),
}

pub(super) struct World {
    pub(super) now_us: u64,
    pub(super) rng: Rng,
    pub(super) plan: Plan,
    pub(super) model: Model,
    pub(super) servers: Vec<Server>,
    pub(super) nodes: Vec<Node>,
    pub(super) links: BTreeMap<(NodeId, ServerId), Link>,
    pub(super) clients: Vec<Client>,
    pub(super) conns: Vec<Conn>,
    /// Faults and edits go on.
    pub(super) is_busy: bool,
    pub(super) tracer: Tracer,
    queue: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    pub(super) events: u64,
    pub(super) digest: u64,
}

impl World {
    pub(super) fn new(seed: u64, is_traced: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let plan = Plan::random(&mut rng);
        let mut clock = || (rng.u64(1..=1_000_000) * SECOND, rng.u64(0..=3_000));
        let mut servers = vec![Server::new(super::server::Book::Registry(super::new_registry(0)), clock())];
        for _ in 0..plan.regions {
            servers.push(Server::new(super::server::Book::Store(super::new_store()), clock()));
        }
        let model = Model::new(&plan);
        let mut world = Self {
            now_us: SECOND,
            rng,
            plan,
            model,
            servers,
            nodes: Vec::new(),
            links: BTreeMap::new(),
            clients: Vec::new(),
            conns: Vec::new(),
            is_busy: true,
            tracer: Tracer::new(is_traced),
            queue: BTreeMap::new(),
            sequence: 0,
            events: 0,
            digest: 0,
        };
        world.populate();
        world
    }

    fn populate(&mut self) {
        for node in 0..self.plan.nodes {
            let region = if node < self.plan.regions { node } else { self.rng.usize(..self.plan.regions) };
            let node = Node::new(region, node, &mut self.rng);
            self.nodes.push(node);
        }
        for node in 0..self.plan.nodes {
            let delay = self.rng.u64(0..=SECOND);
            self.after(delay, Event::Start(node, 0));
        }
        for client in 0..self.plan.clients {
            let document = self.rng.usize(..self.plan.documents);
            let region = self.rng.usize(..self.plan.regions);
            self.clients.push(Client::new(document, region));
            let delay = self.rng.u64(0..=8 * SECOND);
            self.after(delay, Event::Dial(client));
            if self.plan.is_restless {
                self.after(delay + 5 * SECOND, Event::Stroll(client));
            }
        }
        self.after(SECOND, Event::Edit);
        self.after(5 * SECOND, Event::Fault);
    }

    pub(super) fn at(&mut self, when_us: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((when_us.max(self.now_us), self.sequence), event);
    }

    pub(super) fn after(&mut self, delay_us: u64, event: Event) {
        self.at(self.now_us + delay_us, event);
    }

    /// Lets `duration_us` pass, or less if something went wrong.
    pub(super) fn run_for(&mut self, duration_us: u64) {
        let end = self.now_us + duration_us;
        while self.model.violations.is_empty() {
            match self.queue.first_key_value() {
                Some((&(at, _), _)) if at <= end => {}
                _ => break,
            }
            let Some(((at, sequence), event)) = self.queue.pop_first() else { break };
            self.now_us = at;
            self.events += 1;
            let mut hasher = std::hash::DefaultHasher::new();
            (self.digest, at, sequence, std::mem::discriminant(&event)).hash(&mut hasher);
            self.digest = hasher.finish();
            self.happen(event);
        }
        if self.model.violations.is_empty() {
            self.now_us = end;
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Turn(node, run, actor) => self.turn(node, run, actor),
            Event::Arrive(arrival) => self.arrive(arrival),
            Event::Answer(server, link, answer) => self.answer_arrived(server, link, answer),
            Event::Timeout(server, link, serial) => self.timed_out(server, link, serial),
            Event::Broken(server, link) => self.link_broke(server, link),
            Event::Notice(link, notice) => self.notice_arrived(link, notice),
            Event::Heard(link) => self.heard_again(link),
            Event::ToNode(conn, message) => self.heard_by_node(conn, message),
            Event::ToClient(conn, message) => self.heard_by_client(conn, message),
            Event::Dial(client) => self.dial(client),
            Event::Edit => self.edit(),
            Event::Stroll(client) => self.stroll(client),
            Event::Fault => self.fault(),
            Event::Thaw(server, instance) => self.thaw(server, instance),
            Event::FailOver(server) => self.fail_over(server),
            Event::Depose(server, instance) => self.depose(server, instance),
            Event::Resume(node, run) => self.resume(node, run),
            Event::Start(node, run) => self.start(node, run),
            Event::Kill(node, run) => self.kill(node, run),
            Event::Impatient(conn) => self.impatient(conn),
            Event::Peer(letter) => self.peer_told(letter),
            Event::Poll(node, run, give) => self.poll(node, run, give),
            Event::MoveLate(node, run, number) => self.move_late(node, run, number),
            Event::MoveRested(node, run, number) => self.move_rested(node, run, number),
        }
    }

    /// Everything is well again, and stays so.
    pub(super) fn calm_down(&mut self) {
        self.is_busy = false;
        self.remember();
        for link in self.links.values_mut() {
            link.heal(self.now_us);
        }
        for node in 0..self.nodes.len() {
            let run = self.nodes[node].run;
            self.resume(node, run);
            if !self.nodes[node].is_alive {
                self.start(node, run);
            }
        }
        for server in REGISTRY..self.servers.len() {
            for instance in 0..self.servers[server].instances.len() {
                self.thaw(server, instance);
            }
        }
        for client in 0..self.clients.len() {
            self.clients[client].is_out = false;
            self.after(SECOND, Event::Dial(client));
        }
    }
}
