//! What goes wrong.

use super::node::ToPins;
use super::plan::Fault;
use super::server::{REGISTRY, ServerId};
use super::world::{Event, MILLI, NodeId, SECOND, World};

impl World {
    /// One of the plan's faults, and when the next one comes.
    pub(super) fn fault(&mut self) {
        if !self.is_busy || self.plan.faults.is_empty() {
            return;
        }
        let fault = self.plan.faults[self.rng.usize(..self.plan.faults.len())];
        self.happens(fault);
        let mean = self.plan.fault_us;
        let delay = self.rng.u64(..2 * mean);
        self.after(delay, Event::Fault);
    }

    fn happens(&mut self, fault: Fault) {
        let node = self.rng.usize(..self.nodes.len());
        let client = self.rng.usize(..self.clients.len());
        match fault {
            Fault::Crash => self.crash(node),
            Fault::Pause => {
                let time_us = self.some_time();
                if self.nodes[node].is_alive && !self.nodes[node].is_paused {
                    self.pause(node, time_us);
                }
            }
            Fault::Partition => {
                let (server, time_us) = (self.server_of(node), self.some_time());
                self.cut(node, server, time_us);
            }
            Fault::Freeze => {
                let (server, time_us) = (self.rng.usize(..self.servers.len()), self.rng.u64(..10 * SECOND));
                self.tracer.say(self.now_us, || format!("server {server} stops for {time_us}"));
                let current = self.servers[server].current();
                self.freeze(server, current, time_us);
            }
            Fault::Silence => {
                let time_us = self.rng.u64(..5 * SECOND);
                let store = 1 + self.nodes[node].region;
                self.deafen(node, store, time_us);
            }
            Fault::Break => {
                self.hang_up(client);
                let delay = self.rng.u64(..2 * SECOND);
                self.after(delay, Event::Dial(client));
            }
            Fault::Departure => {
                // Somebody stays, and sees what becomes of it all.
                if self.clients.iter().filter(|client| !client.is_gone).count() > 1 {
                    self.hang_up(client);
                    self.clients[client].is_gone = true;
                }
            }
            Fault::Retire => {
                let retiring = &mut self.nodes[node];
                if retiring.is_alive && !retiring.is_paused && !retiring.is_retiring {
                    retiring.is_retiring = true;
                    self.tell_pins(node, ToPins::Retire);
                }
            }
            Fault::FailOver => {
                if let Some(server) = self.dishonest_server() {
                    self.replaced_by_replica(server);
                }
            }
            Fault::Move => self.begin_move(node),
            Fault::Wipe => {
                if let Some(server) = self.dishonest_server() {
                    self.tracer.say(self.now_us, || format!("server {server} starts again, empty"));
                    self.wipe(server);
                }
            }
        }
    }

    fn crash(&mut self, node: NodeId) {
        let run = self.nodes[node].run;
        self.kill(node, run);
        let delay = self.rng.u64(..40 * SECOND);
        self.after(delay, Event::Start(node, run));
    }

    /// The replica stops following, and takes over a little later; the master may be asleep, with requests waiting in its
    /// sockets.
    fn replaced_by_replica(&mut self, server: ServerId) {
        let lag_us = self.rng.u64(..2 * SECOND);
        self.tracer.say(self.now_us, || format!("the replica of server {server} takes over in {lag_us}"));
        self.lag(server);
        if self.rng.bool() {
            let (current, time_us) = (self.servers[server].current(), self.rng.u64(..12 * SECOND));
            self.freeze(server, current, time_us);
        }
        self.after(lag_us, Event::FailOver(server));
    }

    /// Short, or longer than leases.
    fn some_time(&mut self) -> u64 {
        match self.rng.u8(..3) {
            0 => self.rng.u64(MILLI..=SECOND),
            1 => self.rng.u64(SECOND..=18 * SECOND),
            _ => self.rng.u64(18 * SECOND..=60 * SECOND),
        }
    }

    fn server_of(&mut self, node: NodeId) -> ServerId {
        if self.rng.bool() { REGISTRY } else { 1 + self.nodes[node].region }
    }

    fn dishonest_server(&mut self) -> Option<ServerId> {
        let servers: Vec<ServerId> = (REGISTRY..self.servers.len())
            .filter(|&server| {
                let honest =
                    if server == REGISTRY { self.plan.registry_is_honest } else { self.plan.store_is_honest };
                !honest
            })
            .collect();
        (!servers.is_empty()).then(|| servers[self.rng.usize(..servers.len())])
    }

    pub(super) fn everyone_leaves(&mut self) {
        for client in 0..self.clients.len() {
            self.hang_up(client);
            self.clients[client].is_gone = true;
        }
    }

    pub(super) fn everything_is_killed(&mut self) {
        for client in 0..self.clients.len() {
            self.clients[client].is_gone = true;
        }
        for node in 0..self.nodes.len() {
            let run = self.nodes[node].run;
            self.kill(node, run);
        }
    }
}
