//! Servers: the registry, and each region's session store. A server is a row of instances, of which the last is the master; those
//! before it may run on for a while, without knowing that they are deposed.

use super::world::{Arrival, Event, SECOND, World};
use pinwire_registry as registry;
use pinwire_session as session;
use std::collections::VecDeque;

/// Which server: the registry, and then the store of each region.
pub(super) type ServerId = usize;

pub(super) const REGISTRY: ServerId = 0;

#[derive(Clone)]
pub(super) enum Book {
    Registry(registry::Book),
    Store(session::Book),
}

pub(super) struct Instance {
    pub(super) book: Book,
    pub(super) is_frozen: bool,
    pub(super) is_dead: bool,
    /// What came while it was frozen.
    queue: VecDeque<Arrival>,
}

impl Instance {
    fn new(book: Book) -> Self {
        Self { book, is_frozen: false, is_dead: false, queue: VecDeque::new() }
    }
}

pub(super) struct Server {
    pub(super) instances: Vec<Instance>,
    /// What its replica knows, if it lags behind.
    replica: Option<Book>,
    /// Where its clock stands at the beginning, and how much it gains in a million.
    clock: (u64, u64),
}

impl Server {
    pub(super) fn new(book: Book, clock: (u64, u64)) -> Self {
        Self { instances: vec![Instance::new(book)], replica: None, clock }
    }

    pub(super) fn current(&self) -> usize {
        self.instances.len() - 1
    }

    pub(super) fn master(&mut self) -> &mut Instance {
        let current = self.current();
        &mut self.instances[current]
    }

    pub(super) fn clock(&self, now_us: u64) -> u64 {
        self.clock.0 + now_us + now_us / 1_000_000 * self.clock.1
    }
}

/// How long a deposed master may run on.
const DEPOSED_US: u64 = 10 * SECOND;

impl World {
    /// A request arrives.
    pub(super) fn arrive(&mut self, arrival: Arrival) {
        let instance = &mut self.servers[arrival.server].instances[arrival.instance];
        if instance.is_dead {
            return;
        }
        if instance.is_frozen {
            instance.queue.push_back(arrival);
            return;
        }
        self.execute(arrival);
    }

    fn execute(&mut self, arrival: Arrival) {
        let server = &mut self.servers[arrival.server];
        let now_us = server.clock(self.now_us);
        let instance = &mut server.instances[arrival.instance];
        self.tracer.say(self.now_us, || {
            format!("server {}.{} does {:?}", arrival.server, arrival.instance, arrival.request)
        });
        let (answer, notices) = match (&mut instance.book, arrival.request) {
            (Book::Registry(book), super::world::Ask::Registry(ask, request)) => {
                let answer = book.apply(now_us, &request);
                (super::world::Answer::Registry(ask, answer), Vec::new())
            }
            (Book::Store(book), super::world::Ask::Store(ask, request)) => {
                let (reply, notices) = book.apply(now_us, &request);
                (super::world::Answer::Store(ask, reply), notices)
            }
            _ => unreachable!("links lead to their servers"),
        };
        self.tracer.say(self.now_us, || format!("  and says {answer:?}"));
        self.send_answer(arrival.server, arrival.instance, arrival.link, answer);
        for (node, notice) in notices {
            self.send_notice(arrival.server, arrival.instance, &node, notice);
        }
    }

    pub(super) fn freeze(&mut self, server: ServerId, instance: usize, time_us: u64) {
        self.servers[server].instances[instance].is_frozen = true;
        self.after(time_us, Event::Thaw(server, instance));
    }

    pub(super) fn thaw(&mut self, server: ServerId, instance: usize) {
        let thawed = &mut self.servers[server].instances[instance];
        thawed.is_frozen = false;
        for arrival in std::mem::take(&mut thawed.queue) {
            self.arrive(arrival);
        }
    }

    /// The replica does not follow from here on.
    pub(super) fn lag(&mut self, server: ServerId) {
        let book = self.servers[server].master().book.clone();
        self.servers[server].replica = Some(book);
    }

    /// The replica takes over. Who is connected to the old master goes on with it until it is told.
    pub(super) fn fail_over(&mut self, server: ServerId) {
        let Some(mut book) = self.servers[server].replica.take() else { return };
        if let Book::Registry(book) = &mut book {
            let histories = self.servers[server].instances.len();
            book.take_over(format!("history-{histories}"));
        }
        self.succeed(server, book);
    }

    /// The server starts again with nothing.
    pub(super) fn wipe(&mut self, server: ServerId) {
        let book = match &self.servers[server].master().book {
            Book::Registry(_) => Book::Registry(super::new_registry(self.servers[server].instances.len())),
            Book::Store(_) => Book::Store(super::new_store()),
        };
        let old = self.servers[server].current();
        self.succeed(server, book);
        self.depose(server, old);
    }

    fn succeed(&mut self, server: ServerId, book: Book) {
        let old = self.servers[server].current();
        self.servers[server].instances.push(Instance::new(book));
        let until = self.rng.u64(0..=DEPOSED_US);
        self.after(until, Event::Depose(server, old));
        self.dishonest(server);
    }

    /// A master of before ends; who was connected to it notices.
    pub(super) fn depose(&mut self, server: ServerId, instance: usize) {
        let old = &mut self.servers[server].instances[instance];
        if old.is_dead {
            return;
        }
        if old.is_frozen {
            // It is still asleep: nobody can tell it.
            return self.after(SECOND, Event::Depose(server, instance));
        }
        old.is_dead = true;
        self.tracer.say(self.now_us, || format!("server {server}.{instance} ends"));
        self.dishonest(server);
        self.break_links(server, instance);
    }
}
