//! Connections between nodes and servers. Each is in order; what was under way when one broke may still arrive later, as it does
//! with the kernel's buffers.

use super::server::ServerId;
use super::world::{Answer, Arrival, Ask, Event, LinkId, MILLI, NodeId, SECOND, World};
use pinwire_registry as registry;
use pinwire_session as session;
use std::collections::BTreeMap;

/// How long a node waits for an answer.
pub(super) const TIMEOUT_US: u64 = 2_500 * MILLI;
/// How long a request can still be on its way after its connection was given up: such connections are reset, so that what the
/// kernel has not sent is never sent; but the server may have it and be asleep.
pub(super) const LATE_US: u64 = 15 * SECOND;

/// A node's way to a server.
#[derive(Default)]
pub(super) struct Link {
    /// Rises with each connection.
    pub(super) epoch: u64,
    /// When each connection was given up.
    ended_us: Vec<u64>,
    /// Which of the server's instances the connection leads to.
    instance: usize,
    /// What waits for an answer.
    pending: BTreeMap<u64, Ask>,
    serial: u64,
    /// When the last request and the last answer arrive.
    there_us: u64,
    back_us: u64,
    /// Until when requests, and answers, are held up.
    cut_there_us: u64,
    cut_back_us: u64,
    /// Notices are not heard before.
    deaf_until_us: u64,
    /// Which instance's notices are heard.
    heard_instance: usize,
    notice_us: u64,
}

impl Link {
    pub(super) fn heal(&mut self, now_us: u64) {
        self.cut_there_us = self.cut_there_us.min(now_us);
        self.cut_back_us = self.cut_back_us.min(now_us);
        self.deaf_until_us = self.deaf_until_us.min(now_us);
    }
}

impl World {
    pub(super) fn link(&mut self, node: NodeId, server: ServerId) -> &mut Link {
        let current = self.servers[server].current();
        self.links.entry((node, server)).or_insert_with(|| Link {
            instance: current,
            heard_instance: current,
            ..Link::default()
        })
    }

    fn link_id(&mut self, node: NodeId, server: ServerId) -> LinkId {
        let run = self.nodes[node].run;
        LinkId { node, run, epoch: self.link(node, server).epoch }
    }

    fn latency(&mut self) -> u64 {
        let most = self.plan.latency_us;
        self.rng.u64(most / 4..=most)
    }

    pub(super) fn send(&mut self, node: NodeId, server: ServerId, request: Ask) {
        let (id, latency) = (self.link_id(node, server), self.latency());
        let now_us = self.now_us;
        let link = self.link(node, server);
        link.serial += 1;
        let serial = link.serial;
        link.pending.insert(serial, request.clone());
        let held_us = link.cut_there_us.max(now_us);
        link.there_us = link.there_us.max(held_us + latency);
        let (at_us, instance) = (link.there_us, link.instance);
        self.at(at_us, Event::Arrive(Arrival { server, instance, link: id, request }));
        self.after(TIMEOUT_US, Event::Timeout(server, id, serial));
    }

    pub(super) fn send_answer(&mut self, server: ServerId, instance: usize, id: LinkId, answer: Answer) {
        let (latency, now_us) = (self.latency(), self.now_us);
        let link = self.link(id.node, server);
        if link.epoch != id.epoch || link.instance != instance {
            return;
        }
        let held_us = link.cut_back_us.max(now_us);
        link.back_us = link.back_us.max(held_us + latency);
        let at_us = link.back_us;
        self.at(at_us, Event::Answer(server, id, answer));
    }

    /// A request that comes too late was never sent.
    pub(super) fn is_too_late(&mut self, server: ServerId, id: LinkId) -> bool {
        let now_us = self.now_us;
        let ended_us = self.link(id.node, server).ended_us.get(id.epoch as usize);
        ended_us.is_some_and(|ended_us| now_us > ended_us + LATE_US)
    }

    fn is_current(&mut self, server: ServerId, id: LinkId) -> bool {
        let node = &self.nodes[id.node];
        node.is_alive && node.run == id.run && self.link(id.node, server).epoch == id.epoch
    }

    pub(super) fn answer_arrived(&mut self, server: ServerId, id: LinkId, answer: Answer) {
        if !self.is_current(server, id) || self.stall(id.node, || Event::Answer(server, id, answer.clone())) {
            return;
        }
        let link = self.link(id.node, server);
        let is_it = |ask: &Ask| match (ask, &answer) {
            (Ask::Registry(ask, _), Answer::Registry(answered, _)) => ask == answered,
            (Ask::Store(ask, _), Answer::Store(answered, _)) => ask == answered,
            _ => false,
        };
        let Some((&serial, _)) = link.pending.iter().find(|(_, ask)| is_it(ask)) else { return };
        link.pending.remove(&serial);
        self.hand_answer(id.node, answer);
    }

    pub(super) fn timed_out(&mut self, server: ServerId, id: LinkId, serial: u64) {
        if !self.is_current(server, id) || self.stall(id.node, || Event::Timeout(server, id, serial)) {
            return;
        }
        if self.link(id.node, server).pending.contains_key(&serial) {
            self.link_broke(server, id);
        }
    }

    /// A connection is given up, with all that was under way; the next one leads to the master.
    pub(super) fn link_broke(&mut self, server: ServerId, id: LinkId) {
        if !self.is_current(server, id) || self.stall(id.node, || Event::Broken(server, id)) {
            return;
        }
        self.tracer.say(self.now_us, || format!("{id:?} to server {server} broke"));
        let failed = self.reconnect(id.node, server);
        for ask in failed {
            self.hand_failure(id.node, &ask);
        }
    }

    /// Begins a new connection; what was asked on the old one.
    pub(super) fn reconnect(&mut self, node: NodeId, server: ServerId) -> Vec<Ask> {
        let current = self.servers[server].current();
        let now_us = self.now_us;
        let link = self.link(node, server);
        link.epoch += 1;
        link.ended_us.push(now_us);
        link.instance = current;
        // Nothing keeps the order of two connections.
        link.there_us = 0;
        link.back_us = 0;
        let failed = std::mem::take(&mut link.pending).into_values().collect();
        if link.heard_instance != current {
            link.heard_instance = current;
            self.deafen(node, server, SECOND);
        }
        failed
    }

    /// Everybody who is connected to this instance notices, by and by.
    pub(super) fn break_links(&mut self, server: ServerId, instance: usize) {
        for node in 0..self.nodes.len() {
            if self.link(node, server).instance == instance {
                let (id, delay) = (self.link_id(node, server), self.rng.u64(0..=SECOND));
                self.after(delay, Event::Broken(server, id));
            }
        }
    }

    /// Holds up what goes one way, the other, or both.
    pub(super) fn cut(&mut self, node: NodeId, server: ServerId, time_us: u64) {
        let (way, until_us) = (self.rng.u8(..3), self.now_us + time_us);
        self.tracer.say(self.now_us, || format!("node {node} | server {server}, way {way}, for {time_us}"));
        let link = self.link(node, server);
        if way != 1 {
            link.cut_there_us = until_us;
        }
        if way != 0 {
            link.cut_back_us = until_us;
        }
    }

    /// A node hears no notices for a while, and then knows that it may have missed some.
    pub(super) fn deafen(&mut self, node: NodeId, server: ServerId, time_us: u64) {
        let until_us = self.now_us + time_us;
        self.link(node, server).deaf_until_us = until_us;
        let mut id = self.link_id(node, server);
        // Of the node's process alone.
        id.epoch = server as u64;
        self.at(until_us + 1, Event::Heard(id));
    }

    /// A process begins to listen: it hears notices once its subscription stands, and knows then that it may have missed some. What
    /// kept the process before it from hearing goes on.
    pub(super) fn subscribe(&mut self, node: NodeId, server: ServerId) {
        let (latency, now_us) = (self.latency(), self.now_us);
        let deaf_us = self.link(node, server).deaf_until_us.saturating_sub(now_us);
        self.deafen(node, server, deaf_us.max(latency));
    }

    pub(super) fn heard_again(&mut self, id: LinkId) {
        let node = &self.nodes[id.node];
        if node.is_alive && node.run == id.run && !self.stall(id.node, || Event::Heard(id)) {
            let now_us = self.now_us;
            if self.link(id.node, id.epoch as ServerId).deaf_until_us < now_us {
                self.hand_missed(id.node);
            }
        }
    }

    pub(super) fn send_notice(
        &mut self,
        server: ServerId,
        instance: usize,
        to: &registry::Node,
        notice: session::Notice,
    ) {
        let Some(node) = self.nodes.iter().position(|node| node.is_alive && node.session_node == *to) else {
            return;
        };
        let (latency, now_us) = (self.latency(), self.now_us);
        let run = self.nodes[node].run;
        let link = self.link(node, server);
        if link.heard_instance != instance || link.deaf_until_us >= now_us {
            return;
        }
        if link.cut_back_us > now_us {
            // The server gives such a reader up; it connects again once it can.
            let time_us = link.cut_back_us - now_us;
            return self.deafen(node, server, time_us);
        }
        link.notice_us = link.notice_us.max(now_us + latency);
        let at_us = link.notice_us;
        self.at(at_us, Event::Notice(LinkId { node, run, epoch: server as u64 }, notice));
    }

    pub(super) fn notice_arrived(&mut self, id: LinkId, notice: session::Notice) {
        let node = &self.nodes[id.node];
        if node.is_alive && node.run == id.run && !self.stall(id.node, || Event::Notice(id, notice.clone())) {
            self.hand_notice(id.node, notice);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{SECOND, World};

    #[test]
    fn a_process_that_starts_while_its_node_hears_nothing_learns_that_it_missed_something() {
        let mut world = World::new(3, true);
        world.is_busy = false;
        world.run_for(5 * SECOND);
        let (run, store) = (world.nodes[0].run, 1 + world.nodes[0].region);
        world.deafen(0, store, 5 * SECOND);
        world.kill(0, run);
        world.start(0, run);
        let me = world.nodes[0].session_node.life;
        // It has the store say what it takes this node to hold.
        let is_told = |line: &str| line.contains(&me.to_string()) && line.contains("with_holds: true");
        world.run_for(4 * SECOND);
        assert!(!world.tracer.lines().lines().any(is_told), "it hears nothing yet");
        world.run_for(8 * SECOND);
        assert!(world.tracer.lines().lines().any(is_told));
    }
}
