//! The rules of a registry, in memory: deterministic, without a clock.
//!
//! Time is settled before each request: nodes whose lease ran out leave what they held at the moment it did, and pins whose
//! grace is over are gone. So every rule below sees nodes that live and pins that stand.
//!
//! | module | concern |
//! | --- | --- |
//! | `pins` | claims, releases, assertions, moves |
//! | `nodes` | lives, leases, what a renewal brings |
//! | `shares` | what nodes may admit of an app's limit |

mod nodes;
mod pins;
mod shares;

use crate::{
    Answer, AppName, AppRecord, Claim, DocumentName, Hold, Node, NodeView, Owner, Pin, Region, Request, Used,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A lost pin is told in every renewal for so many leases: an answer may get lost, and a node that hears nothing for a lease
/// stops by itself.
pub(crate) const TELL_LOST_LEASES: u64 = 2;

/// A registry in memory. A clone is a snapshot, as a replica that lags has it.
#[derive(Clone, Debug)]
pub struct Book {
    history: Arc<str>,
    nodes: BTreeMap<Node, Life>,
    /// Bases of WebSocket URLs, as nodes registered them last.
    urls: BTreeMap<Region, Arc<str>>,
    apps: BTreeMap<AppName, App>,
    /// When pins without holders end.
    graces: BTreeSet<(u64, DocumentName)>,
}

/// A node that lives.
#[derive(Clone, Debug)]
struct Life {
    view: NodeView,
    expires: u64,
    lease_us: u64,
    held: BTreeSet<DocumentName>,
    /// Pins that it has to be told of, and until when.
    lost: BTreeMap<DocumentName, (Owner, u64)>,
    /// Apps that it uses.
    uses: BTreeSet<AppName>,
    /// Apps whose allotments are to be seen through at its next renewal, since others changed them.
    turn: BTreeSet<AppName>,
}

#[derive(Clone, Debug, Default)]
struct App {
    pins: BTreeMap<Box<str>, Entry>,
    /// The highest epoch that was ever given to, or asserted for, a document of the app.
    top: u64,
    /// The highest epoch of a pin that ended here.
    ended: u64,
    uses: shares::Uses,
    record: AppRecord,
}

/// A pin.
#[derive(Clone, Debug)]
struct Entry {
    region: Region,
    claim: Claim,
    /// With the latest of each one's holds.
    holders: BTreeMap<Node, Hold>,
    /// When it ends: exactly while it has no holders.
    until: Option<u64>,
    /// When the last grace ends of those who have left it: who does so last may be late, and ends no grace of others.
    left_until: u64,
    /// Grace if its last holder dies.
    grace_us: u64,
}

/// Who is to hold a pin, and how.
#[derive(Clone, Copy, Debug)]
struct Holding<'a> {
    node: &'a Node,
    hold: Hold,
    /// Grace if it dies.
    grace_us: u64,
}

impl Book {
    /// An empty registry. `history` tells it from others ([`crate::Renewed::history`]).
    pub fn new(history: impl Into<Arc<str>>) -> Self {
        Self {
            history: history.into(),
            nodes: BTreeMap::new(),
            urls: BTreeMap::new(),
            apps: BTreeMap::new(),
            graces: BTreeSet::new(),
        }
    }

    /// This copy goes on in the place of the original, which may know more: under another history.
    pub fn take_over(&mut self, history: impl Into<Arc<str>>) {
        self.history = history.into();
    }

    /// Carries out a request at a time (microseconds). Time must not go back.
    pub fn apply(&mut self, now: u64, request: &Request) -> Answer {
        self.settle(now);
        match request {
            Request::Register { node, lease_us } => self.register(now, node, *lease_us),
            Request::Renew { node, lease_us, apps, versions } => {
                self.renew(now, node, *lease_us, apps, versions)
            }
            Request::Retire { node, grace_us } => self.retire(now, node, *grace_us),
            Request::Claim { document, node, nonce, hold, max_documents, grace_us } => {
                let holding = Holding { node, hold: *hold, grace_us: *grace_us };
                Answer::Claimed(self.claim(now, document, holding, *nonce, *max_documents))
            }
            Request::Release { document, node, hold, grace_us } => {
                self.release(now, document, node, *hold, *grace_us);
                Answer::Done
            }
            Request::Assert { node, pins, grace_us } => {
                Answer::Asserted(self.assert(now, node, pins, *grace_us))
            }
            Request::Locate { document } => Answer::Located(self.locate(now, document)),
            Request::Move { document, claim, to, node, hold, grace_us } => {
                let holding = Holding { node, hold: *hold, grace_us: *grace_us };
                Answer::Claimed(self.move_to(now, document, (*claim, *to), holding))
            }
            Request::Unpin { document } => Answer::Located(self.unpin(now, document)),
            Request::Usage { app } => Answer::Used(self.usage(app)),
            Request::App { app } => Answer::App(self.record(app)),
            Request::PutApp { app, version, record } => {
                self.put_app(now, app, *version, record.clone());
                Answer::App(self.record(app))
            }
            Request::Nodes => Answer::Nodes(self.nodes.values().map(|life| life.view.clone()).collect()),
            Request::Pins { after, limit } => Answer::Pins(self.page(now, after.as_ref(), *limit)),
        }
    }

    fn settle(&mut self, now: u64) {
        let ended = self.nodes.iter().filter(|(_, life)| life.expires <= now);
        let mut ended: Vec<(u64, Node)> = ended.map(|(node, life)| (life.expires, node.clone())).collect();
        // In the order of their ends: the last holder's decides when the grace begins.
        ended.sort();
        for (at, node) in ended {
            self.bury(at, &node, None);
        }
        while let Some((_, document)) = self.graces.first().filter(|(until, _)| *until <= now).cloned() {
            self.remove(&document);
        }
    }

    fn usage(&self, app: &AppName) -> Used {
        let Some(app) = self.apps.get(app) else { return Used::default() };
        Used {
            connections: app.uses.connections(),
            documents: u32::try_from(app.pins.len()).unwrap_or(u32::MAX),
        }
    }

    fn record(&self, app: &AppName) -> AppRecord {
        self.apps.get(app).map(|app| app.record.clone()).unwrap_or_default()
    }

    fn put_app(&mut self, now: u64, app: &AppName, version: u64, record: Option<Arc<str>>) {
        let current = self.record(app);
        let is_current = version == current.version || (version == 0 && current.record.is_none());
        if is_current {
            // At least the clock: a version that a fail-over rolled back is not given again.
            let version = now.max(current.version + 1);
            self.apps.entry(app.clone()).or_default().record = AppRecord { version, record };
        }
    }

    /// Pins after a name, in order.
    fn page(&self, now: u64, after: Option<&DocumentName>, limit: u32) -> Vec<Pin> {
        let is_after = |app: &AppName| after.is_none_or(|after| *app >= after.app);
        let documents = self.apps.iter().filter(|(app, _)| is_after(app)).flat_map(|(app, state)| {
            state.pins.keys().map(|name| DocumentName { app: app.clone(), name: name.clone() })
        });
        let documents = documents.filter(|document| after.is_none_or(|after| document > after));
        documents.take(limit as usize).filter_map(|document| self.locate(now, &document)).collect()
    }
}
