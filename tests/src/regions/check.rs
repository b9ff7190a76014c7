//! What was promised, and whether it was kept.

use super::Report;
use super::data::{Phase, set_of};
use super::node::{app, document_name};
use super::plan::Plan;
use super::server::{Book, REGISTRY, ServerId};
use super::set::{Set, Update};
use super::world::{GRACE_US, LEASE_US, MILLI, NodeId, SECOND, World};
use pinwire_cluster::Lease;
use pinwire_registry::{Answer, Claim, DocumentName, Pin, Request, Used};
use pinwire_session::Loaded;
use std::collections::BTreeMap;

/// Within so much more than a lease what a rolled back registry did is healed: a renewal may have been given up, and started
/// again, and the same for assertions.
const HEALING_US: u64 = 12 * SECOND;

/// How far clocks run apart within a grace.
const DRIFT_US: u64 = 100 * MILLI;

/// What a node does that takes an edit.
pub(super) const EDITS: &str = "takes an edit";

#[derive(Default)]
pub(super) struct Model {
    pub(super) violations: Vec<String>,
    /// Updates of each document so far.
    pub(super) updates: Vec<Update>,
    acknowledged: BTreeMap<(DocumentName, Claim), Set>,
    acknowledgements: u64,
    /// The claim that each claim of a move goes on from.
    parents: BTreeMap<Claim, Claim>,
    moved: u64,
    granted: BTreeMap<Claim, usize>,
    grants: u64,
    /// The highest claim under which each document was served.
    served: BTreeMap<DocumentName, Claim>,
    /// When that was, for the last time.
    served_at_us: BTreeMap<DocumentName, u64>,
    checks: u64,
    /// Until when the registry, and the stores, may be wrong.
    registry_lenient_us: u64,
    store_lenient_us: u64,
    /// What nodes had of each document when it became calm, and under which claim.
    kept: BTreeMap<DocumentName, (Claim, Set)>,
}

impl Model {
    pub(super) fn new(plan: &Plan) -> Self {
        Self { updates: vec![0; plan.documents], ..Self::default() }
    }

    fn violated(&mut self, what: String) {
        self.violations.push(what);
    }

    /// Under the claim, or one that it goes on from.
    pub(super) fn acknowledged_under(&self, document: &DocumentName, claim: Claim) -> Set {
        let mut all = Set::default();
        for claim in self.line_of(claim) {
            all = all.union(self.acknowledged.get(&(document.clone(), claim)).copied().unwrap_or_default());
        }
        all
    }

    fn line_of(&self, claim: Claim) -> impl Iterator<Item = Claim> {
        std::iter::successors(Some(claim), |claim| self.parents.get(claim).copied())
    }

    /// A document is to be moved: whichever of its claims it goes on under, it is the same session.
    pub(super) fn moves(&mut self, claim: Claim, to: Claim) {
        self.parents.insert(to, claim);
    }

    fn was_to_move(&self, claim: Claim) -> bool {
        self.parents.values().any(|of| *of == claim)
    }

    pub(super) fn moved(&mut self) {
        self.moved += 1;
    }

    pub(super) fn acknowledged(
        &mut self,
        now_us: u64,
        document: &DocumentName,
        claim: Claim,
        update: Update,
    ) {
        self.acknowledgements += 1;
        if now_us < self.store_lenient_us {
            // It may be what a deposed server has, which the node cannot know yet.
            return;
        }
        self.acknowledged.entry((document.clone(), claim)).or_default().insert(update);
    }

    /// A node was told that it has a document under a claim.
    pub(super) fn granted(&mut self, document: &DocumentName, claim: Claim, region: usize, now_us: u64) {
        let before = self.served.get(document).filter(|before| **before < claim).copied();
        let before = before.filter(|before| self.line_of(claim).all(|of| of != *before));
        let served_us = self.served_at_us.get(document).copied().unwrap_or_default();
        if let Some(before) = before.filter(|_| now_us < served_us + GRACE_US - DRIFT_US) {
            let what =
                format!("{document} was pinned anew under {claim:?} in the grace of {before:?}, at {now_us}");
            self.violated(what);
        }
        self.grants += 1;
        let known = *self.granted.entry(claim).or_insert(region);
        if known != region {
            self.violated(format!("{claim:?} is of region {known} and of region {region}, at {now_us}"));
        }
    }

    /// A node opened a document, and `lost` was acknowledged before under the same claim.
    pub(super) fn loaded(&mut self, now_us: u64, document: &DocumentName, claim: Option<Claim>, lost: Set) {
        let is_strict = now_us >= self.store_lenient_us && now_us >= self.registry_lenient_us;
        if is_strict && !lost.is_empty() {
            self.violated(format!("{document} was opened under {claim:?} without {lost:?}"));
        }
    }
}

impl World {
    /// A server forgot something, or an older one may still be asked.
    pub(super) fn dishonest(&mut self, server: ServerId) {
        let until_us = self.now_us + LEASE_US + HEALING_US;
        if server == REGISTRY {
            self.model.served.clear();
            self.model.registry_lenient_us = until_us;
        } else {
            self.model.store_lenient_us = until_us;
            self.model.acknowledged.clear();
        }
    }

    fn ask_book(&mut self, request: &Request) -> Answer {
        let server = &mut self.servers[REGISTRY];
        let now_us = server.clock(self.now_us);
        match &mut server.master().book {
            Book::Registry(book) => book.apply(now_us, request),
            Book::Store(_) => unreachable!("the registry's book"),
        }
    }

    fn located(&mut self, document: &DocumentName) -> Option<Pin> {
        match self.ask_book(&Request::Locate { document: document.clone() }) {
            Answer::Located(pin) => pin,
            other => unreachable!("{other:?}"),
        }
    }

    /// A node does with a document what only its holder may do.
    pub(super) fn serves(&mut self, node: NodeId, document: &DocumentName, what: &str) {
        let claim = self.nodes[node].data.documents.get(document).and_then(|document| document.claim);
        let Some(claim) = claim else { return };
        if self.now_us < self.model.registry_lenient_us {
            return;
        }
        let pin = self.located(document);
        // Edits go on until the node learns of a move; what is acknowledged then was handed over, and is looked for there. It is the
        // session store that stops a node in time: one that forgot the move, or was deposed when it was told, does not.
        let is_gone =
            pin.as_ref().is_none_or(|pin| pin.owner.claim != claim) && self.model.was_to_move(claim);
        let is_stopped = || self.nodes[node].sessions.is_frozen(document);
        if is_gone && (what == EDITS || self.now_us < self.model.store_lenient_us || is_stopped()) {
            return;
        }
        self.model.served_at_us.insert(document.clone(), self.now_us);
        self.model.checks += 1;
        let before = self.model.served.insert(document.clone(), claim);
        if before.is_some_and(|before| before > claim) {
            let what = format!("node {node} {what} of {document} under {claim:?} after {before:?}");
            self.model.violated(what);
        }
        let is_holder = pin
            .as_ref()
            .is_some_and(|pin| pin.owner.claim == claim && pin.nodes.contains(self.nodes[node].pins.node()));
        if !is_holder {
            let me = self.nodes[node].pins.node();
            let what =
                format!("node {node} ({me}) {what} of {document} under {claim:?}, and the pin is {pin:?}");
            self.model.violated(what);
        }
    }

    /// A document is about to be moved to `to`: whatever a node has acknowledged that holds it, by the registry, is handed over, and
    /// be it that the store forgot both.
    pub(super) fn check_handed_over(&mut self, document: &DocumentName, to: Claim, handed: &Loaded) {
        let Some(pin) = self.located(document) else { return };
        if self.now_us < self.model.registry_lenient_us
            || self.model.parents.get(&to) != Some(&pin.owner.claim)
        {
            // The registry does not move it.
            return;
        }
        let handed = set_of(handed);
        for node in 0..self.nodes.len() {
            let holder = &self.nodes[node];
            let is_holder = holder.is_alive && pin.nodes.contains(holder.pins.node());
            let Some(held) = holder.data.documents.get(document).filter(|_| is_holder) else { continue };
            let lost = held.acknowledged.without(handed);
            if held.claim == Some(pin.owner.claim) && !lost.is_empty() {
                let what = format!("{document} moves without {lost:?}, which node {node} acknowledged");
                self.model.violated(what);
            }
        }
    }

    /// When it becomes calm: what must not get lost from here on.
    pub(super) fn remember(&mut self) {
        for node in self.nodes.iter().filter(|node| node.is_alive) {
            for (name, document) in &node.data.documents {
                let Some(claim) = document.claim.filter(|_| document.phase == Phase::Open) else { continue };
                let kept = self.model.kept.entry(name.clone()).or_insert((claim, Set::default()));
                if kept.0 < claim {
                    *kept = (claim, Set::default());
                }
                if kept.0 == claim {
                    kept.1 = kept.1.union(document.has);
                }
            }
        }
    }

    /// After a time without faults.
    pub(super) fn check_calm(&mut self) {
        if !self.model.violations.is_empty() {
            return;
        }
        for node in 0..self.nodes.len() {
            if !matches!(self.nodes[node].pins.lease(), Lease::Valid { .. }) {
                let what = format!("node {node} has no lease: {:?}", self.nodes[node].pins.lease());
                self.model.violated(what);
            }
        }
        let documents = (0..self.plan.documents).filter(|document| self.check_clients(*document)).count();
        let connections = self.clients.iter().filter(|client| client.is_welcome).count();
        let used = Answer::Used(Used { connections: connections as u32, documents: documents as u32 });
        let counted = self.ask_book(&Request::Usage { app: app() });
        // Who is refused comes again and again, and is counted meanwhile.
        let is_quiet = self.plan.documents as u32 <= self.plan.max_documents;
        if is_quiet && counted != used {
            self.model.violated(format!("counted are {counted:?}, and there are {used:?}"));
        }
    }

    /// True if somebody is there.
    fn check_clients(&mut self, document: usize) -> bool {
        let here = |clients: &Self| -> Vec<usize> {
            let here = (0..clients.clients.len()).filter(|client| clients.clients[*client].is_here());
            here.filter(|client| clients.clients[*client].document == document).collect()
        };
        let name = document_name(document);
        let here = here(self);
        let Some(&first) = here.first() else { return false };
        if self.plan.documents as u32 > self.plan.max_documents
            && here.iter().all(|client| !self.clients[*client].is_welcome)
        {
            return false;
        }
        let pin = self.located(&name);
        let has = self.clients[first].has;
        for &client in &here {
            let reader = &self.clients[client];
            let (is_welcome, unsynced, read) = (reader.is_welcome, reader.unsynced, reader.has);
            if !is_welcome || !unsynced.is_empty() || read != has {
                let what = format!(
                    "client {client} of {name}: welcome {is_welcome}, not acknowledged {unsynced:?}, has {read:?}, and another {has:?}; {pin:?}"
                );
                self.model.violated(what);
            }
        }
        self.check_document(&name, has, &pin, here.len());
        true
    }

    fn check_document(&mut self, name: &DocumentName, has: Set, pin: &Option<Pin>, users: usize) {
        let Some(claim) = pin.as_ref().map(|pin| pin.owner.claim) else {
            return self.model.violated(format!("nobody has {name}"));
        };
        let lost = self.model.acknowledged_under(name, claim).without(has);
        if !lost.is_empty() {
            self.model.violated(format!("{name} lacks {lost:?}, acknowledged under its claim"));
        }
        let kept = self.model.kept.get(name).filter(|(kept, _)| *kept == claim);
        let lost = kept.map(|(_, kept)| kept.without(has)).unwrap_or_default();
        if !lost.is_empty() {
            self.model.violated(format!("{name} lacks {lost:?}, which a node had all the time"));
        }
        for node in 0..self.nodes.len() {
            let Some(document) = self.nodes[node].data.documents.get(name) else { continue };
            let (known, counted) = (document.has, document.users());
            if known != has || counted != users {
                let what = format!(
                    "node {node} has {known:?} of {name} and {counted} users; its clients {has:?}, and are {users}"
                );
                self.model.violated(what);
            }
        }
    }

    pub(super) fn check_unpinned(&mut self) {
        if !self.model.violations.is_empty() {
            return;
        }
        let pins = self.ask_book(&Request::Pins { after: None, limit: 100 });
        if pins != Answer::Pins(Vec::new()) {
            self.model.violated(format!("still pinned: {pins:?}"));
        }
        let used = self.ask_book(&Request::Usage { app: app() });
        if used != Answer::Used(Used::default()) {
            self.model.violated(format!("still used: {used:?}"));
        }
        for node in 0..self.nodes.len() {
            if self.nodes[node].is_alive && !self.nodes[node].data.documents.is_empty() {
                self.model.violated(format!("node {node} still has documents"));
            }
            if self.nodes[node].is_alive && !self.nodes[node].pins.is_empty() {
                self.model.violated(format!("node {node} still holds documents"));
            }
        }
    }

    /// Nothing is left in the stores, whatever they forgot, or believe that somebody has who gave it up.
    pub(super) fn check_swept(&mut self) {
        for server in 1..self.servers.len() {
            let Book::Store(book) = &self.servers[server].master().book else { continue };
            let (sessions, bytes) = (book.sessions(), book.bytes());
            if (sessions, bytes) != (0, 0) && self.model.violations.is_empty() {
                self.model.violated(format!("store {server} still has {sessions} sessions, {bytes} bytes"));
            }
        }
    }

    pub(super) fn report(&self) -> Report {
        Report {
            digest: self.digest,
            events: self.events,
            moved: self.model.moved,
            grants: self.model.grants,
            claims: self.model.granted.len(),
            acknowledged: self.model.acknowledgements,
            connections: self.conns.len(),
            checks: self.model.checks,
        }
    }
}
