//! What is known of all nodes: updates in, state out. It does no I/O and reads no clock; the time comes with each call.
//!
//! | module | concern |
//! | --- | --- |
//! | `apps` | apps on all nodes, and their records |
//! | `node` | one node: its link, numbers, threads, documents |
//! | `series` | samples over time, with gaps where there were none |
//! | `flow` | what became of whoever dialled |
//! | `trips` | round trips between regions over time |
//! | `pins` | all pins, swept page by page |
//! | `events` | what happened, of all nodes in one order |
//! | `regions` | regions, and round trips between them |
//! | `problems` | what is wrong right now, in words |
//! | `places` | where regions are on the world |
//! | `wants` | what to ask next |
//! | `words` | how a node stands, in words |

mod apps;
mod events;
pub mod example;
mod flow;
mod node;
mod pins;
mod places;
mod problems;
mod regions;
mod series;
mod trips;
mod wants;
pub(crate) mod words;

use std::collections::HashMap;

use pinwire_admin_api::cluster::{ClusterNode, Nodes};
use pinwire_admin_api::documents::DocumentDetail;
use pinwire_admin_api::stream::DocumentName;

pub use apps::{AppName, AppState, Record, Used, apps};
pub(crate) use events::millis;
pub use events::{Event, Events};
pub use flow::{Flown, MINUTE, flown};
pub use node::{Link, Load, NodeState, STALE_AFTER};
pub use pins::{PinRow, Pins, Top};
pub use places::place;
pub use problems::{Problem, problems};
pub use regions::{RegionState, latencies, regions};
pub use series::Series;
pub use trips::{Trip, Trips};
pub use wants::Focus;

use crate::client::{Address, Answer, Ask, Update, What};

/// Milliseconds since the Unix epoch.
pub type Millis = u64;

/// How something stands, in the order of its weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// As it should be.
    Good,
    /// Nobody knows.
    Unknown,
    /// On its way out, as somebody wanted.
    Leaving,
    /// To be looked at.
    Doubtful,
    /// Not as it should be.
    Bad,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Model {
    nodes: Vec<NodeState>,
    index: HashMap<Address, usize>,
    /// Nodes as the registries know them, and when that was.
    known: Option<(Nodes, Millis)>,
    /// All pins.
    pub pins: Pins,
    /// What happened.
    pub events: Events,
    /// Round trips between regions over time.
    pub trips: Trips,
    /// Records of apps, by tenant and id.
    records: HashMap<AppName, Record>,
    /// The document that is looked at, and when it was told.
    pub document: Option<(DocumentDetail, Millis)>,
    /// Which node told of it.
    document_node: Option<usize>,
    /// Why it is not there, if that was the answer.
    pub document_problem: Option<String>,
    /// Where documents were seen, and since when: the oldest first.
    homes: HashMap<u64, Vec<(String, Millis)>>,
    wants: wants::Wants,
    /// Rises with each change.
    version: u64,
}

impl Model {
    /// Takes an update.
    pub fn apply(&mut self, update: Update, now: Millis) {
        self.version += 1;
        let node = self.node_at(update.node);
        match update.what {
            What::Watched => {}
            What::Connected => self.connected(node, now),
            What::Lost { why, is_refusal, retry_in } => {
                let retry_at = now + u64::try_from(retry_in.as_millis()).unwrap_or(u64::MAX / 2);
                let state = &mut self.nodes[node];
                if state.lose(why.clone(), is_refusal, retry_at, now) {
                    self.events.note(node, state.label(), now, "lost", why);
                }
                self.wants.forget(node);
            }
            What::Look(look) => {
                let state = &mut self.nodes[node];
                let news = state.look(*look, now);
                self.events.take(node, &state.label(), news, now);
                self.mark_aliases();
                self.note_spells(node, now);
                self.sample_trips(now);
            }
            What::Answered(answer) => self.answered(node, *answer, now),
            What::Unanswered { ask, why } => self.unanswered(node, &ask, why, now),
            What::Acted { what, outcome } => {
                let (kind, text) = match outcome {
                    Ok(_) => ("done", what),
                    Err(why) => ("not done", format!("{what}: {why}")),
                };
                let label = self.nodes[node].label();
                self.events.note(node, label, now, kind, text);
                self.wants.hurry();
            }
        }
    }

    fn node_at(&mut self, address: Address) -> usize {
        *self.index.entry(address.clone()).or_insert_with(|| {
            self.nodes.push(NodeState::new(address));
            self.nodes.len() - 1
        })
    }

    fn connected(&mut self, node: usize, now: Millis) {
        let state = &mut self.nodes[node];
        if state.connect() {
            self.events.note(node, state.label(), now, "connected", "its stream stands".into());
        }
    }

    fn answered(&mut self, node: usize, answer: Answer, now: Millis) {
        let state = &mut self.nodes[node];
        match answer {
            Answer::Regions(regions) => {
                self.wants.answered(node, &Ask::Regions, now);
                for (region, text) in state.regions_seen(regions, now) {
                    let kind = if text.ends_with("is healthy") { "region well" } else { "region" };
                    self.events.note(
                        node,
                        state.label(),
                        now,
                        kind,
                        format!("{region} {text} as seen from here"),
                    );
                }
                self.sample_new_trips(now);
            }
            Answer::Nodes(nodes) => {
                self.wants.answered(node, &Ask::Nodes, now);
                self.known = Some((nodes, now));
            }
            Answer::Pins { db_code, is_first, page } => {
                self.note_homes(&page.pins, now);
                let cursor = page.next.clone();
                self.pins.page(&db_code, is_first, page, now);
                self.wants.page_of_pins(node, &db_code, cursor, now);
            }
            Answer::Document(detail) => {
                self.wants.answered_document(node, now);
                self.document = Some((detail, now));
                self.document_node = Some(node);
                self.document_problem = None;
            }
            Answer::Connections { is_first, page } => {
                let cursor = page.next.clone();
                state.connections.page(is_first, page.connections, cursor.is_none(), now);
                self.wants.page_of_connections(node, cursor, now);
            }
            Answer::Apps(page) => {
                self.wants.answered(node, &Ask::Apps, now);
                state.apps = page.apps;
            }
            Answer::Record { app, record } => {
                self.wants.answered(node, &Ask::Record(app.clone()), now);
                self.take_record(app, Ok(record), now);
            }
            Answer::Audit(page) => {
                self.wants.answered(node, &Ask::Audit, now);
                state.audit = page.records;
            }
            Answer::Log(log) => {
                self.wants.answered(node, &Ask::Log, now);
                state.log = Some(log);
            }
            Answer::LogLines(page) => {
                self.wants.answered_lines(node, now);
                state.log_lines(page);
            }
        }
    }

    fn unanswered(&mut self, node: usize, ask: &Ask, why: String, now: Millis) {
        self.wants.unanswered(node, ask, now);
        match ask {
            Ask::Document(_) => self.document_problem = Some(why),
            Ask::Record(app) => self.take_record(app.clone(), Err(why), now),
            Ask::Pins { .. } => self.pins.broke_off(why),
            Ask::LogLines { .. } => self.nodes[node].lines_problem = Some(why),
            _ => {}
        }
    }

    fn note_homes(&mut self, pins: &[pinwire_admin_api::cluster::Pin], now: Millis) {
        /// Documents whose history is kept.
        const HOMES_MAX: usize = 200_000;
        for pin in pins {
            let key = pins::hash(&pin.tenant, &pin.app, &pin.name);
            if self.homes.len() >= HOMES_MAX && !self.homes.contains_key(&key) {
                continue;
            }
            let homes = self.homes.entry(key).or_default();
            if homes.last().is_none_or(|(region, _)| *region != pin.region) {
                homes.push((pin.region.clone(), now));
            }
        }
    }

    /// The node that told of the document that is looked at.
    #[must_use]
    pub fn document_node(&self) -> Option<usize> {
        self.document_node
    }

    /// Regions in which a document was seen, each with when first.
    #[must_use]
    pub fn homes(&self, name: &DocumentName) -> &[(String, Millis)] {
        self.homes.get(&pins::hash(&name.tenant, &name.app, &name.name)).map_or(&[], Vec::as_slice)
    }

    /// Two addresses may lead to one node: it counts once, by the address named first.
    fn mark_aliases(&mut self) {
        for node in 0..self.nodes.len() {
            let life = self.nodes[node].life();
            let is_alias = life.is_some() && self.nodes[..node].iter().any(|other| other.life() == life);
            self.nodes[node].is_alias = is_alias;
        }
    }

    /// All nodes that are watched, each once, with their numbers.
    pub fn nodes(&self) -> impl Iterator<Item = (usize, &NodeState)> {
        self.nodes.iter().enumerate().filter(|(_, node)| !node.is_alias)
    }

    /// A node by its number.
    #[must_use]
    pub fn node(&self, number: usize) -> Option<&NodeState> {
        self.nodes.get(number)
    }

    /// Nodes as the registries know them.
    #[must_use]
    pub fn known(&self) -> Option<&Nodes> {
        self.known.as_ref().map(|(nodes, _)| nodes)
    }

    /// Nodes that registries know and that are not watched, as far as that can be told: by their names.
    pub fn unwatched(&self) -> impl Iterator<Item = &ClusterNode> {
        let is_watched = |known: &&ClusterNode| {
            self.nodes.iter().any(|node| {
                node.seen().is_some_and(|seen| seen.node.region == known.region)
                    && node.name().is_some_and(|name| name == known.name)
            })
        };
        let has_names = self.nodes.iter().any(|node| node.name().is_some());
        let known = self.known().map_or(&[][..], |known| &known.nodes);
        known.iter().filter(move |node| has_names && !is_watched(node))
    }

    /// Where other nodes may be, by what registries know: to be watched.
    pub fn candidates(&self, discovery: &crate::client::Discovery) -> Vec<Address> {
        /// Nodes that are watched at most.
        const NODES_MAX: usize = 256;
        let Some(from) = self.nodes.iter().find(|node| node.is_live()) else { return Vec::new() };
        let room = NODES_MAX.saturating_sub(self.nodes.len());
        let own = self.known().and_then(|known| {
            let is_it = |node: &&ClusterNode| {
                from.region() == Some(&node.region) && from.name().is_some_and(|name| name == node.name)
            };
            known.nodes.iter().find(is_it)?.admin_url.as_deref()
        });
        let is_near = own.is_some_and(|url| Address::parse(url).is_ok_and(|own| own == *from.address()));
        let new = self.unwatched().filter_map(|node| discovery.address(node, from.address(), is_near));
        let mut new: Vec<Address> =
            new.filter(|address| !self.index.contains_key(address)).take(room).collect();
        new.dedup();
        new
    }

    /// How all nodes stand, as updates: who takes these knows as much of them, but not how they came there.
    #[must_use]
    pub fn checkpoint(&self) -> Vec<Update> {
        self.nodes.iter().flat_map(NodeState::checkpoint).collect()
    }

    /// What the documents at the top of all nodes do, by [`PinRow::key`].
    #[must_use]
    pub fn tops(&self) -> HashMap<u64, Top> {
        let mut tops: HashMap<u64, Top> = HashMap::new();
        for (_, node) in self.nodes() {
            for document in node.documents() {
                let key = pins::hash(&document.tenant, &document.app, &document.name);
                tops.entry(key).or_default().add(document);
            }
        }
        tops
    }

    /// What to ask which node now, for what is looked at.
    pub fn wants(&mut self, focus: &Focus, now: Millis) -> Vec<(Address, Ask)> {
        let mut wants = std::mem::take(&mut self.wants);
        let asks = wants.next(self, focus, now);
        self.wants = wants;
        asks.into_iter().map(|(node, ask)| (self.nodes[node].address().clone(), ask)).collect()
    }

    /// Everything that was asked for what is looked at has been answered once; so it is where nobody can be asked.
    #[must_use]
    pub fn is_answered(&self, focus: &Focus) -> bool {
        self.nodes.iter().all(|node| !node.is_live()) || self.wants.is_answered(focus)
    }

    /// Every node has told how it is, twice, so that there are rates, or is not reached.
    #[must_use]
    pub fn is_gathered(&self) -> bool {
        let is_known = |node: &NodeState| match node.link {
            Link::Connecting => false,
            Link::Lost { .. } => true,
            Link::Live => node.load().received.is_some(),
        };
        let mut nodes = self.nodes().peekable();
        nodes.peek().is_some() && nodes.all(|(_, node)| is_known(node))
    }

    /// Rises with each change.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The worst of how all nodes stand.
    #[must_use]
    pub fn totals(&self, now: Millis) -> Totals {
        let mut totals = Totals::default();
        for (_, node) in self.nodes() {
            totals.nodes += 1;
            let Some(seen) = node.seen() else { continue };
            totals.live += usize::from(!node.is_stale(now));
            totals.connections += seen.node.totals.connections;
            totals.documents += seen.node.totals.documents;
            totals.capacity += u64::from(seen.node.max_connections);
            if !node.is_stale(now) {
                let load = node.load();
                totals.received += load.received.unwrap_or(0.0);
                totals.sent += load.sent.unwrap_or(0.0);
                totals.cpu += load.cpu.unwrap_or(0.0);
            }
            totals.memory += seen.node.process.resident_bytes.unwrap_or(0);
        }
        totals
    }
}

/// Sums over nodes; those of lost nodes are as they were told last, but their rates count as none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Nodes that are watched.
    pub nodes: usize,
    /// Of these, those whose numbers are fresh.
    pub live: usize,
    /// Connections.
    pub connections: u64,
    /// Most connections.
    pub capacity: u64,
    /// Active documents.
    pub documents: u64,
    /// Messages in a second.
    pub received: f64,
    /// Messages out in a second.
    pub sent: f64,
    /// Cores in use.
    pub cpu: f64,
    /// Bytes of memory.
    pub memory: u64,
}

#[cfg(test)]
mod tests;
