//! One node: its link, numbers, threads, documents.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use pinwire_admin_api::actions::{AuditRecord, Log};
use pinwire_admin_api::apps::App;
use pinwire_admin_api::cluster::Regions;
use pinwire_admin_api::connections::Connection;
use pinwire_admin_api::documents::Document;
use pinwire_admin_api::log::{LogLine, LogPage};
use pinwire_admin_api::node::{Node, Status, Thread};
use pinwire_admin_api::stream::DocumentName;

use super::flow::{Looks, Spell};
use super::{Millis, Series, State};
use crate::client::{Address, Happened, Look, NodeSeen, Update, What};

/// Nodes tell something each second: what is older than this is shown as old.
pub const STALE_AFTER: Millis = 2_000;
/// Rates are taken over so long, or as long as there is.
const RATES_OVER: Millis = 4_500;
/// Looks that are kept for that, however fast they come.
const PAST_MAX: usize = 32;
/// Log lines that are kept of a node.
const LINES_MAX: usize = 2_000;

/// Whether a node is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// The first attempt is being made.
    Connecting,
    /// Its stream stands.
    Live,
    /// It is not.
    Lost {
        /// Why.
        why: String,
        /// It refused who asks.
        is_refusal: bool,
        /// Since when.
        since: Millis,
        /// When the next attempt is made.
        retry_at: Millis,
    },
}

/// What a node does, from two looks at its counters. Missing until there are two.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Messages received in a second.
    pub received: Option<f64>,
    /// Messages sent in a second, fan-out included.
    pub sent: Option<f64>,
    /// Cores in use.
    pub cpu: Option<f64>,
    /// Refusals in a second.
    pub refusals: Option<f64>,
    /// Connections closed by the node in a second.
    pub closes: Option<f64>,
}

/// What a thread does, likewise.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ThreadLoad {
    /// Share of time in which it worked.
    pub busy: Option<f64>,
    /// Mean length of a turn: how long what comes has to wait, in seconds.
    pub turn: Option<f64>,
}

/// A list that comes in pages.
#[derive(Debug, Default)]
pub struct Paged {
    rows: Vec<Connection>,
    coming: Vec<Connection>,
    /// When the rows were whole.
    pub at: Option<Millis>,
}

impl Paged {
    pub(super) fn page(&mut self, is_first: bool, rows: Vec<Connection>, is_last: bool, now: Millis) {
        if is_first {
            self.coming.clear();
        }
        self.coming.extend(rows);
        if is_last {
            self.rows = std::mem::take(&mut self.coming);
            self.at = Some(now);
        }
    }

    /// All rows, or those that have come of the first round.
    #[must_use]
    pub fn rows(&self) -> &[Connection] {
        if self.at.is_none() { &self.coming } else { &self.rows }
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct NodeState {
    address: Address,
    /// Whether it is reached.
    pub link: Link,
    seen: Option<NodeSeen>,
    seen_at: Millis,
    threads: Vec<Thread>,
    documents: Vec<Document>,
    /// The other address that leads to the same node was named before.
    pub(super) is_alias: bool,
    load: Load,
    /// Looks of the last seconds.
    past: VecDeque<(Millis, Node, Vec<Thread>)>,
    thread_loads: Vec<ThreadLoad>,
    /// Of events that were taken.
    last_event: u64,
    /// Connections over time.
    pub connections_over_time: Series,
    /// Messages in a second, in, over time.
    pub received_over_time: Series,
    /// Messages in a second, out, over time.
    pub sent_over_time: Series,
    /// Cores in use over time.
    pub cpu_over_time: Series,
    /// The longest mean turn of a thread over time, in seconds.
    pub turn_over_time: Series,
    /// How busy each thread was over time.
    pub busy_over_time: Vec<Series>,
    /// What became of whoever dialled, look by look.
    pub(super) flows: Looks,
    /// It turns clients away, and it sends clients to other regions.
    pub(super) spells: [Option<Spell>; 2],
    /// Regions as they look from here.
    pub(super) regions: Option<(Regions, Millis)>,
    /// Its connections.
    pub connections: Paged,
    /// Its apps.
    pub apps: Vec<App>,
    /// What operators had done.
    pub audit: Vec<AuditRecord>,
    /// What is logged.
    pub log: Option<Log>,
    /// The last lines of its log.
    pub lines: Vec<LogLine>,
    /// Why there are none.
    pub lines_problem: Option<String>,
}

impl NodeState {
    pub(super) fn new(address: Address) -> Self {
        Self {
            address,
            link: Link::Connecting,
            seen: None,
            seen_at: 0,
            threads: Vec::new(),
            documents: Vec::new(),
            is_alias: false,
            load: Load::default(),
            past: VecDeque::new(),
            thread_loads: Vec::new(),
            last_event: 0,
            connections_over_time: Series::default(),
            received_over_time: Series::default(),
            sent_over_time: Series::default(),
            cpu_over_time: Series::default(),
            turn_over_time: Series::default(),
            busy_over_time: Vec::new(),
            flows: Looks::default(),
            spells: Default::default(),
            regions: None,
            connections: Paged::default(),
            apps: Vec::new(),
            audit: Vec::new(),
            log: None,
            lines: Vec::new(),
            lines_problem: None,
        }
    }

    /// True where it was not reached before.
    pub(super) fn connect(&mut self) -> bool {
        std::mem::replace(&mut self.link, Link::Live) != Link::Live
    }

    /// True where it was reached before, or nobody had tried.
    pub(super) fn lose(&mut self, why: String, is_refusal: bool, retry_at: Millis, now: Millis) -> bool {
        let since = match &self.link {
            Link::Lost { since, .. } => Some(*since),
            _ => None,
        };
        self.link = Link::Lost { why, is_refusal, since: since.unwrap_or(now), retry_at };
        self.load = Load::default();
        self.past.clear();
        since.is_none()
    }

    /// Takes a look, gives what happened that was not known.
    pub(super) fn look(&mut self, look: Look, now: Millis) -> Vec<Happened> {
        self.link = Link::Live;
        let before = self.seen.take();
        if before.is_none_or(|before| before.node.started != look.node.node.started) {
            self.last_event = 0;
            self.past.clear();
            self.flows.clear();
            self.spells = Default::default();
        }
        self.take_threads(look.threads, look.order.is_none());
        self.work_out(&look.node.node, now);
        self.take_documents(look.documents, look.order);
        if let Some(flow) = &look.node.node.flow {
            self.flows.push(now, flow);
        }
        self.seen = Some(look.node);
        self.seen_at = now;
        self.sample(now);
        let last = self.last_event;
        let news: Vec<Happened> = look.events.into_iter().filter(|event| event.sequence > last).collect();
        self.last_event = news.iter().map(|event| event.sequence).fold(last, u64::max);
        news
    }

    /// How it stands, as updates.
    pub(super) fn checkpoint(&self) -> Vec<Update> {
        let look = self.seen.clone().map(|node| {
            What::Look(Box::new(Look {
                node,
                threads: self.threads.clone(),
                documents: self.documents.clone(),
                order: None,
                events: Vec::new(),
                events_lost: 0,
                skipped: 0,
            }))
        });
        let link = match &self.link {
            Link::Connecting => Some(What::Watched),
            Link::Live if look.is_none() => Some(What::Connected),
            Link::Live => None,
            Link::Lost { why, is_refusal, .. } => {
                Some(What::Lost { why: why.clone(), is_refusal: *is_refusal, retry_in: Duration::ZERO })
            }
        };
        let update = |what| Update { node: self.address.clone(), what };
        look.into_iter().chain(link).map(update).collect()
    }

    fn take_threads(&mut self, threads: Vec<Thread>, is_all: bool) {
        if is_all {
            self.threads.retain(|old| threads.iter().any(|new| new.thread == old.thread));
        }
        // A thread that is not told is as it was.
        for thread in threads {
            match self.threads.iter_mut().find(|old| old.thread == thread.thread) {
                Some(old) => *old = thread,
                None => self.threads.push(thread),
            }
        }
        self.busy_over_time.resize_with(self.threads.len(), Series::default);
    }

    /// Rates are taken over some seconds: a node's threads hand their counters over at most once a second, so that of two looks
    /// in a row the second may have counted nothing, or twice as much.
    fn work_out(&mut self, node: &Node, now: Millis) {
        while self.past.front().is_some_and(|(at, ..)| now.saturating_sub(*at) > RATES_OVER) {
            self.past.pop_front();
        }
        (self.load, self.thread_loads) = (Load::default(), vec![ThreadLoad::default(); self.threads.len()]);
        if let Some((at, before, threads)) = self.past.front() {
            let seconds = now.saturating_sub(*at) as f64 / 1000.0;
            if seconds > 0.2 {
                self.load = load(before, node, seconds);
                for (load, thread) in self.thread_loads.iter_mut().zip(&self.threads) {
                    let before = threads.iter().find(|old| old.thread == thread.thread);
                    *load = before
                        .map_or_else(ThreadLoad::default, |before| thread_load(before, thread, seconds));
                }
            }
        }
        self.past.push_back((now, node.clone(), self.threads.clone()));
        if self.past.len() > PAST_MAX {
            self.past.pop_front();
        }
    }

    fn take_documents(&mut self, documents: Vec<Document>, order: Option<Vec<DocumentName>>) {
        let Some(order) = order else {
            self.documents = documents;
            return;
        };
        let named = |document: Document| (name(&document), document);
        let mut all: HashMap<DocumentName, Document> =
            self.documents.drain(..).chain(documents).map(named).collect();
        self.documents = order.iter().filter_map(|name| all.remove(name)).collect();
    }

    fn sample(&mut self, now: Millis) {
        let Some(seen) = &self.seen else { return };
        self.connections_over_time.push(now, Some(seen.node.totals.connections as f64));
        self.received_over_time.push(now, self.load.received);
        self.sent_over_time.push(now, self.load.sent);
        self.cpu_over_time.push(now, self.load.cpu);
        self.turn_over_time.push(now, self.turn());
        for (series, load) in self.busy_over_time.iter_mut().zip(&self.thread_loads) {
            series.push(now, load.busy);
        }
    }

    /// Takes how regions look, gives which look different than before.
    pub(super) fn regions_seen(&mut self, regions: Regions, now: Millis) -> Vec<(String, String)> {
        let mut changes = Vec::new();
        if let Some((before, _)) = &self.regions {
            for region in &regions.regions {
                let old = before.regions.iter().find(|old| old.name == region.name);
                let (old, new) = (old.and_then(|old| old.health.as_deref()), region.health.as_deref());
                if let (Some(old), Some(new)) = (old, new)
                    && old != new
                {
                    changes.push((region.name.clone(), format!("was {old}, is {new}")));
                }
            }
        }
        self.regions = Some((regions, now));
        changes
    }

    pub(super) fn log_lines(&mut self, page: LogPage) {
        self.lines_problem = None;
        // Numbers begin anew with the node: then it tells everything, as of number 1.
        let last = self.lines.last().map_or(0, |line| line.sequence);
        if page.next < last {
            self.lines.clear();
        }
        let last = self.lines.last().map_or(0, |line| line.sequence);
        self.lines.extend(page.lines.into_iter().filter(|line| line.sequence > last));
        let too_many = self.lines.len().saturating_sub(LINES_MAX);
        self.lines.drain(..too_many);
    }

    /// Where it is reached.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// What it said last.
    #[must_use]
    pub fn seen(&self) -> Option<&NodeSeen> {
        self.seen.as_ref()
    }

    /// Its name within its region, if it says.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.seen.as_ref()?.node.name.as_deref()
    }

    /// What people call it: `REGION/NAME`, its name alone where that begins with the region, or its region and address.
    #[must_use]
    pub fn label(&self) -> String {
        match (&self.seen, self.name()) {
            (Some(seen), Some(name)) if name.starts_with(&seen.node.region) => name.to_owned(),
            (Some(seen), Some(name)) => format!("{}/{name}", seen.node.region),
            (Some(seen), None) => format!("{} {}", seen.node.region, self.short_address()),
            _ => self.short_address(),
        }
    }

    fn short_address(&self) -> String {
        let text = self.address.to_string();
        text.split_once("://").map_or(text.clone(), |(_, rest)| rest.to_owned())
    }

    /// Its region, if it has said.
    #[must_use]
    pub fn region(&self) -> Option<&str> {
        self.seen.as_ref().map(|seen| seen.node.region.as_str())
    }

    /// Tells nodes apart that are reached by several addresses.
    pub(super) fn life(&self) -> Option<(&str, &str, Option<&str>)> {
        let seen = self.seen.as_ref()?;
        Some((&seen.node.region, &seen.node.started, self.name()))
    }

    /// Its stream stands.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.link == Link::Live && self.seen.is_some()
    }

    /// Milliseconds since it told anything; missing if it never did.
    #[must_use]
    pub fn age(&self, now: Millis) -> Option<Millis> {
        self.seen.as_ref().map(|_| now.saturating_sub(self.seen_at))
    }

    /// What is known of it is old.
    #[must_use]
    pub fn is_stale(&self, now: Millis) -> bool {
        self.age(now).is_none_or(|age| age > STALE_AFTER)
    }

    /// How it stands, and the word for it.
    #[must_use]
    pub fn state(&self, now: Millis) -> (State, &'static str) {
        match &self.link {
            Link::Lost { is_refusal: true, .. } => (State::Bad, "refused"),
            Link::Lost { .. } => (State::Bad, "lost"),
            Link::Connecting => (State::Unknown, "connecting"),
            Link::Live if self.seen.is_none() => (State::Unknown, "connecting"),
            Link::Live if self.is_stale(now) => (State::Doubtful, "silent"),
            Link::Live => match self.seen.as_ref().map(|seen| seen.node.status) {
                Some(Status::Healthy) => (State::Good, "healthy"),
                Some(Status::Degraded) => (State::Doubtful, "degraded"),
                Some(Status::Overloaded) => (State::Bad, "overloaded"),
                Some(Status::Draining) => (State::Leaving, "draining"),
                None => (State::Unknown, "unknown"),
            },
        }
    }

    /// Its threads.
    #[must_use]
    pub fn threads(&self) -> &[Thread] {
        &self.threads
    }

    /// What each of them does.
    #[must_use]
    pub fn thread_loads(&self) -> &[ThreadLoad] {
        &self.thread_loads
    }

    /// Documents at its top.
    #[must_use]
    pub fn documents(&self) -> &[Document] {
        &self.documents
    }

    /// What it does.
    #[must_use]
    pub fn load(&self) -> Load {
        self.load
    }

    /// The longest mean turn of a thread, in seconds.
    #[must_use]
    pub fn turn(&self) -> Option<f64> {
        self.thread_loads
            .iter()
            .filter_map(|load| load.turn)
            .fold(None, |most, turn| Some(most.map_or(turn, |most: f64| most.max(turn))))
    }
}

fn name(document: &Document) -> DocumentName {
    DocumentName { tenant: document.tenant.clone(), app: document.app.clone(), name: document.name.clone() }
}

fn load(before: &Node, now: &Node, seconds: f64) -> Load {
    let rate = |before: u64, now: u64| Some(now.saturating_sub(before) as f64 / seconds);
    let (old, new) = (&before.totals, &now.totals);
    let cpu = before.process.cpu_seconds.zip(now.process.cpu_seconds);
    Load {
        received: rate(old.messages_received, new.messages_received),
        sent: rate(old.messages_sent + old.fan_out_frames, new.messages_sent + new.fan_out_frames),
        cpu: cpu.map(|(before, now)| ((now - before) / seconds).max(0.0)),
        refusals: rate(old.refusals, new.refusals),
        closes: rate(old.closes, new.closes),
    }
}

fn thread_load(before: &Thread, now: &Thread, seconds: f64) -> ThreadLoad {
    let Some((old, new)) = before.turn.zip(now.turn) else { return ThreadLoad::default() };
    let turns = new.count.saturating_sub(old.count);
    let worked = (new.mean_seconds * new.count as f64 - old.mean_seconds * old.count as f64).max(0.0);
    ThreadLoad {
        busy: Some((worked / seconds).clamp(0.0, 1.0)),
        turn: (turns > 0).then(|| worked / turns as f64),
    }
}
