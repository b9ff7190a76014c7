//! What to ask next: only what somebody looks at, each at its pace, one question of a kind at a time.

use std::collections::{BTreeMap, HashMap};

use pinwire_admin_api::stream::DocumentName;

use super::{Millis, Model};
use crate::client::Ask;

/// A question without an answer is asked again after this.
const PATIENCE: Millis = 8_000;
const REGIONS: Millis = 2_000;
const NODES: Millis = 5_000;
const DETAIL: Millis = 1_000;
const CONNECTIONS: Millis = 3_000;
const SELDOM: Millis = 3_000;
const LINES: Millis = 1_000;
/// Between pages of a sweep of pins: the first is to be shown soon, later ones are to cost nodes and registries little.
const PAGE_OF_FIRST: Millis = 20;
const PAGE_OF_LATER: Millis = 500;
/// Between sweeps.
const SWEEP: Millis = 2_000;
/// Pages of connections of one node: a hundred thousand rows are more than anybody reads.
const PAGES_OF_CONNECTIONS: u32 = 20;

/// What is looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Focus {
    /// Pins.
    pub pins: bool,
    /// A document.
    pub document: Option<DocumentName>,
    /// Connections.
    pub connections: bool,
    /// Apps.
    pub apps: bool,
    /// The record of an app.
    pub record: Option<super::AppName>,
    /// Logs and what operators had done.
    pub logs: bool,
    /// One node alone, where that is what is looked at.
    pub node: Option<usize>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Timing {
    /// Asked, and not answered yet.
    asked: Option<Millis>,
    /// When it may be asked again.
    due: Millis,
}

impl Timing {
    fn is_due(&self, now: Millis) -> bool {
        match self.asked {
            Some(asked) => now >= asked.saturating_add(PATIENCE),
            None => now >= self.due,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Kind {
    Regions,
    Nodes,
    Document,
    Connections,
    Apps,
    Record,
    Audit,
    Log,
    Lines,
}

#[derive(Debug, Default)]
struct Sweep {
    timing: Timing,
    cursor: Option<String>,
    node: Option<usize>,
    has_ended_once: bool,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Wants {
    timings: HashMap<(Kind, usize), Timing>,
    pages: HashMap<usize, (u32, Option<String>)>,
    sweeps: BTreeMap<Option<String>, Sweep>,
    document: Option<DocumentName>,
    record: Option<super::AppName>,
}

fn kind(ask: &Ask) -> Kind {
    match ask {
        Ask::Regions => Kind::Regions,
        Ask::Nodes => Kind::Nodes,
        Ask::Document(_) => Kind::Document,
        Ask::Pins { .. } | Ask::Connections { .. } => Kind::Connections,
        Ask::Apps => Kind::Apps,
        Ask::Record(_) => Kind::Record,
        Ask::Audit => Kind::Audit,
        Ask::Log => Kind::Log,
        Ask::LogLines { .. } => Kind::Lines,
    }
}

fn pace(kind: Kind) -> Millis {
    match kind {
        Kind::Regions => REGIONS,
        Kind::Nodes => NODES,
        Kind::Document => DETAIL,
        Kind::Connections => CONNECTIONS,
        Kind::Apps | Kind::Record | Kind::Audit | Kind::Log => SELDOM,
        Kind::Lines => LINES,
    }
}

/// Something else than before is asked for at once.
fn look_at<T: Clone + PartialEq>(
    before: &mut Option<T>,
    what: &T,
    kind: Kind,
    timings: &mut HashMap<(Kind, usize), Timing>,
) {
    if before.as_ref() != Some(what) {
        *before = Some(what.clone());
        timings.retain(|(of, _), _| *of != kind);
    }
}

impl Wants {
    pub(super) fn next(&mut self, model: &Model, focus: &Focus, now: Millis) -> Vec<(usize, Ask)> {
        let live: Vec<usize> =
            model.nodes().filter(|(_, node)| node.is_live()).map(|(number, _)| number).collect();
        let mut asks = Vec::new();
        for node in &live {
            self.want(&mut asks, *node, Ask::Regions, now);
        }
        if let Some(first) = live.first() {
            self.want(&mut asks, *first, Ask::Nodes, now);
        }
        let looked_at = live.iter().copied().filter(|node| focus.node.is_none_or(|only| only == *node));
        for node in looked_at {
            if focus.connections {
                let cursor = self.pages.get(&node).and_then(|(_, cursor)| cursor.clone());
                self.want(&mut asks, node, Ask::Connections { cursor }, now);
            }
            if focus.apps {
                self.want(&mut asks, node, Ask::Apps, now);
            }
            if focus.logs {
                self.want(&mut asks, node, Ask::Audit, now);
                self.want(&mut asks, node, Ask::Log, now);
                let since =
                    model.node(node).and_then(|node| node.lines.last()).map_or(0, |line| line.sequence);
                if model.node(node).is_none_or(|node| node.lines_problem.is_none()) {
                    self.want(&mut asks, node, Ask::LogLines { since }, now);
                }
            }
        }
        if focus.pins {
            self.sweep(&mut asks, model, &live, now);
        }
        self.want_document(&mut asks, model, focus, &live, now);
        self.want_record(&mut asks, model, focus, &live, now);
        asks
    }

    /// One that has seen a token of the app knows its license region.
    fn want_record(
        &mut self,
        asks: &mut Vec<(usize, Ask)>,
        model: &Model,
        focus: &Focus,
        live: &[usize],
        now: Millis,
    ) {
        let Some(app) = &focus.record else { return };
        look_at(&mut self.record, app, Kind::Record, &mut self.timings);
        let has = |node: &&usize| {
            let apps = model.node(**node).map_or(&[][..], |node| &node.apps);
            apps.iter().any(|known| known.tenant == app.0 && known.app == app.1)
        };
        if let Some(node) = live.iter().find(has).or_else(|| live.first()) {
            self.want(asks, *node, Ask::Record(app.clone()), now);
        }
    }

    fn want(&mut self, asks: &mut Vec<(usize, Ask)>, node: usize, ask: Ask, now: Millis) {
        let timing = self.timings.entry((kind(&ask), node)).or_default();
        if timing.is_due(now) {
            timing.asked = Some(now);
            asks.push((node, ask));
        }
    }

    /// Of the nodes that have a document one is asked: one that has it at its top, or whoever the pin names.
    fn want_document(
        &mut self,
        asks: &mut Vec<(usize, Ask)>,
        model: &Model,
        focus: &Focus,
        live: &[usize],
        now: Millis,
    ) {
        let Some(name) = &focus.document else { return };
        look_at(&mut self.document, name, Kind::Document, &mut self.timings);
        let is_it = |document: &pinwire_admin_api::documents::Document| {
            document.name == name.name && document.app == name.app && document.tenant == name.tenant
        };
        let has = |node: &&usize| model.node(**node).is_some_and(|node| node.documents().iter().any(is_it));
        let key = super::pins::hash(&name.tenant, &name.app, &name.name);
        let pin = model.pins.iter().find(|row| row.key == key);
        let is_named = |node: &&usize| {
            let (Some(node), Some(row)) = (model.node(**node), pin) else { return false };
            node.region() == Some(&row.pin.region)
                && node
                    .name()
                    .is_none_or(|name| row.pin.nodes.iter().any(|id| id.split('/').nth(1) == Some(name)))
        };
        let best = live.iter().find(has).or_else(|| live.iter().find(is_named)).or_else(|| live.first());
        if let Some(node) = focus.node.filter(|node| live.contains(node)).or(best.copied()) {
            self.want(asks, node, Ask::Document(name.clone()), now);
        }
    }

    fn sweep(&mut self, asks: &mut Vec<(usize, Ask)>, model: &Model, live: &[usize], now: Millis) {
        let Some(first) = live.first().copied() else { return };
        let mut codes: Vec<Option<String>> = model.known().map_or_else(Vec::new, |known| {
            known.nodes.iter().flat_map(|node| node.db_codes.iter().cloned().map(Some)).collect()
        });
        codes.sort();
        codes.dedup();
        // Without a license region there is one registry for all, and it need not be named; who knows no nodes yet waits.
        if codes.is_empty() && model.known().is_some() {
            codes.push(None);
        }
        self.sweeps.retain(|code, _| codes.contains(code));
        for code in codes {
            let sweep = self.sweeps.entry(code.clone()).or_default();
            if sweep.node.is_none_or(|node| !live.contains(&node)) {
                *sweep =
                    Sweep { node: Some(first), has_ended_once: sweep.has_ended_once, ..Sweep::default() };
            }
            if sweep.timing.is_due(now) {
                sweep.timing.asked = Some(now);
                asks.push((
                    sweep.node.unwrap_or(first),
                    Ask::Pins { db_code: code, cursor: sweep.cursor.clone() },
                ));
            }
        }
    }

    pub(super) fn page_of_pins(
        &mut self,
        node: usize,
        code: &Option<String>,
        cursor: Option<String>,
        now: Millis,
    ) {
        let Some(sweep) = self.sweeps.get_mut(code).filter(|sweep| sweep.node == Some(node)) else { return };
        let wait = match (&cursor, sweep.has_ended_once) {
            (None, _) => SWEEP,
            (Some(_), false) => PAGE_OF_FIRST,
            (Some(_), true) => PAGE_OF_LATER,
        };
        sweep.has_ended_once |= cursor.is_none();
        sweep.cursor = cursor;
        sweep.timing = Timing { asked: None, due: now + wait };
    }

    pub(super) fn page_of_connections(&mut self, node: usize, cursor: Option<String>, now: Millis) {
        let (count, at) = self.pages.entry(node).or_default();
        let is_enough = *count + 1 >= PAGES_OF_CONNECTIONS;
        let wait = if cursor.is_some() && !is_enough { PAGE_OF_LATER } else { CONNECTIONS };
        (*count, *at) = if cursor.is_some() && !is_enough { (*count + 1, cursor) } else { (0, None) };
        self.timings.insert((Kind::Connections, node), Timing { asked: None, due: now + wait });
    }

    pub(super) fn answered(&mut self, node: usize, ask: &Ask, now: Millis) {
        let kind = kind(ask);
        self.timings.insert((kind, node), Timing { asked: None, due: now + pace(kind) });
    }

    pub(super) fn answered_document(&mut self, node: usize, now: Millis) {
        self.timings.insert((Kind::Document, node), Timing { asked: None, due: now + DETAIL });
    }

    pub(super) fn answered_lines(&mut self, node: usize, now: Millis) {
        self.timings.insert((Kind::Lines, node), Timing { asked: None, due: now + LINES });
    }

    pub(super) fn unanswered(&mut self, node: usize, ask: &Ask, now: Millis) {
        if let Ask::Pins { db_code, .. } = ask {
            // From the beginning, and not at once.
            if let Some(sweep) = self.sweeps.get_mut(db_code) {
                *sweep = Sweep {
                    timing: Timing { asked: None, due: now + SWEEP },
                    node: sweep.node,
                    has_ended_once: sweep.has_ended_once,
                    cursor: None,
                };
            }
            return;
        }
        if let Ask::Connections { .. } = ask {
            self.pages.remove(&node);
        }
        let kind = kind(ask);
        self.timings.insert((kind, node), Timing { asked: None, due: now + pace(kind).max(SELDOM) });
    }

    /// Everything that was asked has been answered once, and of pins there is a whole sweep.
    pub(super) fn is_answered(&self, focus: &Focus) -> bool {
        let is_open = |timing: &Timing| timing.asked.is_some();
        let swept = !focus.pins
            || (!self.sweeps.is_empty() && self.sweeps.values().all(|sweep| sweep.has_ended_once));
        let has_all_pages = !focus.connections || self.pages.values().all(|(count, _)| *count == 0);
        let is_begun = self.timings.keys().any(|(kind, _)| *kind == Kind::Nodes);
        is_begun && swept && has_all_pages && !self.timings.values().any(is_open)
    }

    /// A node was lost: nothing that it was asked will be answered.
    pub(super) fn forget(&mut self, node: usize) {
        self.timings.retain(|(_, of), _| *of != node);
        self.pages.remove(&node);
    }

    /// Something was done: what it changed is to be seen at once.
    pub(super) fn hurry(&mut self) {
        self.timings.values_mut().for_each(|timing| timing.due = 0);
        self.sweeps.values_mut().for_each(|sweep| sweep.timing.due = 0);
    }
}
