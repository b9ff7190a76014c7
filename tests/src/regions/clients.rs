//! Clients: each with a copy of its document, dialling, following redirects, sending again what a server lacks.

use super::node::document_name;
use super::set::{Set, UPDATES_MAX, Update};
use super::world::{Event, MILLI, NodeId, SECOND, World};

pub(super) type ConnId = usize;

/// From a client to its node.
#[derive(Clone, Copy, Debug)]
pub(super) enum Up {
    Join,
    Update(Update),
    /// The connection ended.
    Bye,
}

/// From a node to a client.
#[derive(Clone, Copy, Debug)]
pub(super) enum Down {
    /// What the node has of the document.
    Welcome(Set),
    Update(Update),
    Ack(Update),
    Close(Why),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Why {
    /// Another region has it.
    Redirect(usize),
    TryAgain,
    Limit,
    /// Nobody is there.
    Gone,
}

pub(super) struct Conn {
    pub(super) client: usize,
    pub(super) node: NodeId,
    pub(super) run: u64,
    is_open: bool,
    up_us: u64,
    down_us: u64,
}

pub(super) struct Client {
    pub(super) document: usize,
    /// Where it dials.
    region: usize,
    pub(super) has: Set,
    /// Its own edits that were not acknowledged.
    pub(super) unsynced: Set,
    conn: Option<ConnId>,
    pub(super) is_welcome: bool,
    /// The last answer was that the app has too many documents.
    pub(super) is_limited: bool,
    /// It left for good.
    pub(super) is_gone: bool,
    /// It is away for a while.
    pub(super) is_out: bool,
    failures: u32,
}

/// How long a client waits for its document, and how long it believes in a silent server.
const PATIENCE_US: u64 = 15 * SECOND;

impl Client {
    pub(super) fn new(document: usize, region: usize) -> Self {
        Self {
            document,
            region,
            has: Set::default(),
            unsynced: Set::default(),
            conn: None,
            is_welcome: false,
            is_limited: false,
            is_gone: false,
            is_out: false,
            failures: 0,
        }
    }

    /// It should be on its document.
    pub(super) fn is_here(&self) -> bool {
        !self.is_gone && !self.is_out
    }
}

impl World {
    pub(super) fn dial(&mut self, client: usize) {
        let dialler = &self.clients[client];
        if !dialler.is_here() || dialler.conn.is_some() {
            return;
        }
        let anywhere = dialler.failures > 2;
        let region = if anywhere { self.rng.usize(..self.plan.regions) } else { dialler.region };
        let nodes: Vec<NodeId> =
            (0..self.nodes.len()).filter(|&node| self.nodes[node].region == region).collect();
        let node = nodes[self.rng.usize(..nodes.len())];
        let conn = self.conns.len();
        let run = self.nodes[node].run;
        self.conns.push(Conn { client, node, run, is_open: true, up_us: 0, down_us: 0 });
        self.clients[client].conn = Some(conn);
        self.clients[client].is_welcome = false;
        if self.nodes[node].is_alive {
            self.send_up(conn, Up::Join);
            self.after(PATIENCE_US, Event::Impatient(conn));
        } else {
            self.after(100 * MILLI, Event::ToClient(conn, Down::Close(Why::Gone)));
        }
    }

    fn send_up(&mut self, conn: ConnId, message: Up) {
        let at_us = self.now_us + self.rng.u64(MILLI..=40 * MILLI);
        let sent = &mut self.conns[conn];
        sent.up_us = sent.up_us.max(at_us);
        let at_us = sent.up_us;
        self.at(at_us, Event::ToNode(conn, message));
    }

    pub(super) fn send_down(&mut self, conn: ConnId, message: Down) {
        let at_us = self.now_us + self.rng.u64(MILLI..=40 * MILLI);
        let sent = &mut self.conns[conn];
        sent.down_us = sent.down_us.max(at_us);
        let at_us = sent.down_us;
        self.at(at_us, Event::ToClient(conn, message));
    }

    pub(super) fn heard_by_node(&mut self, conn: ConnId, message: Up) {
        let (node, run) = (self.conns[conn].node, self.conns[conn].run);
        if !self.nodes[node].is_alive || self.nodes[node].run != run {
            let reset = Event::ToClient(conn, Down::Close(Why::Gone));
            return self.after(20 * MILLI, reset);
        }
        self.nodes[node].data.sockets.push_back((conn, message));
        self.wake_data(node);
    }

    pub(super) fn heard_by_client(&mut self, conn: ConnId, message: Down) {
        let client = self.conns[conn].client;
        if !self.conns[conn].is_open {
            return;
        }
        let reader = &mut self.clients[client];
        match message {
            Down::Welcome(there) => {
                reader.is_welcome = true;
                reader.is_limited = false;
                reader.failures = 0;
                reader.region = self.nodes[self.conns[conn].node].region;
                reader.has = reader.has.union(there);
                // What was not acknowledged is asked about once more.
                let again = reader.has.without(there).union(reader.unsynced);
                for update in again.iter() {
                    self.send_up(conn, Up::Update(update));
                }
            }
            Down::Update(update) => {
                reader.has.insert(update);
            }
            Down::Ack(update) => reader.unsynced.remove(update),
            Down::Close(why) => self.closed(conn, client, why),
        }
    }

    fn closed(&mut self, conn: ConnId, client: usize, why: Why) {
        self.conns[conn].is_open = false;
        let reader = &mut self.clients[client];
        reader.conn = None;
        reader.is_welcome = false;
        reader.is_limited = matches!(why, Why::Limit);
        reader.failures += 1;
        let most = match why {
            Why::Redirect(region) => {
                reader.region = region;
                200 * MILLI
            }
            Why::TryAgain | Why::Gone => 3 * SECOND,
            Why::Limit => 5 * SECOND,
        };
        let delay = self.rng.u64(MILLI..=most);
        self.after(delay, Event::Dial(client));
    }

    /// Ends a client's connection from its side.
    pub(super) fn hang_up(&mut self, client: usize) {
        if let Some(conn) = self.clients[client].conn.take() {
            self.conns[conn].is_open = false;
            self.send_up(conn, Up::Bye);
        }
        self.clients[client].is_welcome = false;
    }

    /// Nothing came of it in time.
    pub(super) fn impatient(&mut self, conn: ConnId) {
        let client = self.conns[conn].client;
        if !self.conns[conn].is_open {
            return;
        }
        let is_silent = self.nodes[self.conns[conn].node].is_paused || !self.clients[client].is_welcome;
        if is_silent {
            self.hang_up(client);
            self.clients[client].failures += 1;
            self.after(SECOND, Event::Dial(client));
        } else {
            self.after(PATIENCE_US, Event::Impatient(conn));
        }
    }

    /// Somebody writes something, connected or not.
    pub(super) fn edit(&mut self) {
        if !self.is_busy {
            return;
        }
        let client = self.rng.usize(..self.clients.len());
        let document = self.clients[client].document;
        let update = self.model.updates[document];
        if !self.clients[client].is_gone && update < UPDATES_MAX {
            self.model.updates[document] += 1;
            let writer = &mut self.clients[client];
            writer.has.insert(update);
            writer.unsynced.insert(update);
            if let Some(conn) = writer.conn.filter(|_| writer.is_welcome) {
                self.send_up(conn, Up::Update(update));
            }
            self.tracer.say(self.now_us, || {
                format!("client {client} writes {update} of {}", document_name(document))
            });
        }
        let mean = self.plan.edit_us;
        let delay = self.rng.u64(..2 * mean);
        self.after(delay, Event::Edit);
    }

    /// Clients that come and go, in times around the grace.
    pub(super) fn stroll(&mut self, client: usize) {
        if !self.is_busy || self.clients[client].is_gone {
            return;
        }
        let walker = &mut self.clients[client];
        walker.is_out = !walker.is_out;
        let is_out = walker.is_out;
        if is_out {
            self.hang_up(client);
        } else {
            if self.rng.bool() {
                self.clients[client].region = self.rng.usize(..self.plan.regions);
            }
            self.dial(client);
        }
        let delay = if is_out && self.rng.bool() {
            self.rng.u64(9_800..=10_200) * MILLI
        } else {
            self.rng.u64(100..=30_000) * MILLI
        };
        self.after(delay, Event::Stroll(client));
    }
}
