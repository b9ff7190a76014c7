//! Claims, releases, assertions, moves.

use super::{Book, Entry, Holding};
use crate::{Asserted, Claim, Claimed, DocumentName, Hold, Node, Owner, Pin};
use std::collections::BTreeMap;

impl Book {
    pub(super) fn claim(
        &mut self,
        now: u64,
        document: &DocumentName,
        holding: Holding<'_>,
        nonce: u64,
        max_documents: u32,
    ) -> Claimed {
        let node = holding.node;
        if !self.is_alive(node) {
            return Claimed::Unknown;
        }
        let owner = self.owner(document);
        match owner {
            Some(owner) if owner.region != node.region => Claimed::Elsewhere(owner),
            Some(owner) => {
                self.hold(document, holding);
                Claimed::Held { claim: owner.claim, is_new: false }
            }
            None => {
                let active = self.usage(&document.app).documents;
                if active >= max_documents {
                    return Claimed::Limit { active };
                }
                let claim = self.next_claim(now, document, nonce);
                self.pin(document, claim, holding);
                Claimed::Held { claim, is_new: true }
            }
        }
    }

    pub(super) fn release(
        &mut self,
        now: u64,
        document: &DocumentName,
        node: &Node,
        hold: Hold,
        grace_us: u64,
    ) {
        let Some(life) = self.nodes.get_mut(node) else { return };
        let latest =
            self.apps.get(&document.app).and_then(|app| app.pins.get(&document.name)?.holders.get(node));
        if latest.is_none_or(|latest| *latest <= hold) {
            life.lost.remove(document);
            self.leave(now, document, node, Some(grace_us));
            self.settle(now);
        }
    }

    pub(super) fn assert(
        &mut self,
        now: u64,
        node: &Node,
        pins: &[(DocumentName, Claim, Hold)],
        grace_us: u64,
    ) -> Option<Vec<Asserted>> {
        let is_alive = self.is_alive(node);
        is_alive.then(|| {
            pins.iter()
                .map(|(document, claim, hold)| {
                    self.assert_one(now, document, *claim, Holding { node, hold: *hold, grace_us })
                })
                .collect()
        })
    }

    fn assert_one(
        &mut self,
        now: u64,
        document: &DocumentName,
        claim: Claim,
        holding: Holding<'_>,
    ) -> Asserted {
        let node = holding.node;
        let app = self.apps.entry(document.app.clone()).or_default();
        app.top = app.top.max(claim.epoch);
        let has_ended_since = claim.epoch < app.ended;
        let Some(owner) = self.owner(document) else {
            // Others may have had it under a higher claim meanwhile: claims do not fall.
            let claim = if has_ended_since { self.next_claim(now, document, claim.nonce) } else { claim };
            self.pin(document, claim, holding);
            return Asserted::Held(claim);
        };
        let (is_higher, is_ours) = (claim > owner.claim, owner.region == node.region);
        if !is_higher && !is_ours {
            return Asserted::Lost(owner);
        }
        if is_higher {
            self.win(now, document, node, claim, is_ours);
        }
        self.hold(document, holding);
        Asserted::Held(claim.max(owner.claim))
    }

    pub(super) fn move_to(
        &mut self,
        now: u64,
        document: &DocumentName,
        (claim, to): (Claim, Claim),
        holding: Holding<'_>,
    ) -> Claimed {
        let node = holding.node;
        if !self.is_alive(node) {
            return Claimed::Unknown;
        }
        let Some(entry) = self.entry(document) else { return Claimed::Stale };
        if entry.claim == claim && to > claim {
            if let Some(app) = self.apps.get_mut(&document.app) {
                app.top = app.top.max(to.epoch);
            }
            self.win(now, document, node, to, false);
            self.hold(document, holding);
            return Claimed::Held { claim: to, is_new: false };
        }
        // Asked again, since the answer got lost: perhaps by the next life of the node.
        if entry.claim == to && entry.region == node.region {
            self.hold(document, holding);
            return Claimed::Held { claim: to, is_new: false };
        }
        Claimed::Stale
    }

    /// Nobody has it any more, and it stays so until those who held it have left.
    pub(super) fn unpin(&mut self, now: u64, document: &DocumentName) -> Option<Pin> {
        let pin = self.locate(now, document)?;
        if pin.owner.is_nobody() {
            return Some(pin);
        }
        let claim = self.next_claim(now, document, pin.owner.claim.nonce);
        let owner = Owner { region: "".into(), ws_url: "".into(), claim };
        let entry = self.entry_mut(document)?;
        (entry.claim, entry.region, entry.grace_us) = (claim, owner.region.clone(), 0);
        if pin.nodes.is_empty() {
            self.remove(document);
        }
        for node in &pin.nodes {
            self.tell_lost(now, node, document, &owner);
            if let Some(life) = self.nodes.get_mut(node) {
                life.held.insert(document.clone());
            }
        }
        Some(pin)
    }

    pub(super) fn locate(&self, now: u64, document: &DocumentName) -> Option<Pin> {
        let (entry, owner) = (self.entry(document)?, self.owner(document)?);
        let nodes = entry.holders.keys().cloned().collect();
        let grace = entry.until.map(|until| until.saturating_sub(now));
        Some(Pin { document: document.clone(), owner, nodes, grace })
    }

    /// Gives a pin to a higher claim. Who held it under the lower one is told; nodes of the same region go on under the higher
    /// one if `keep`.
    fn win(&mut self, now: u64, document: &DocumentName, node: &Node, claim: Claim, keep: bool) {
        let ws_url = self.urls.get(&node.region).cloned().unwrap_or_default();
        let owner = Owner { region: node.region.clone(), ws_url, claim };
        let Some(entry) = self.entry_mut(document) else { return };
        let others: Vec<Node> = entry.holders.keys().filter(|other| *other != node).cloned().collect();
        (entry.claim, entry.region) = (claim, node.region.clone());
        if !keep {
            entry.holders.clear();
        }
        for other in &others {
            self.tell_lost(now, other, document, &owner);
            if keep && let Some(life) = self.nodes.get_mut(other) {
                life.held.insert(document.clone());
            }
        }
    }

    /// Adds a holder.
    fn hold(&mut self, document: &DocumentName, Holding { node, hold, grace_us }: Holding<'_>) {
        let Some(entry) = self.entry_mut(document) else { return };
        let latest = entry.holders.entry(node.clone()).or_default();
        *latest = hold.max(*latest);
        entry.grace_us = grace_us;
        if let Some(until) = entry.until.take() {
            self.graces.remove(&(until, document.clone()));
        }
        if let Some(life) = self.nodes.get_mut(node) {
            life.held.insert(document.clone());
            life.lost.remove(document);
        }
    }

    /// Takes a holder away, with a grace: that which is said, or the pin's own. Without holders it ends when the last grace does.
    pub(super) fn leave(&mut self, at: u64, document: &DocumentName, node: &Node, grace_us: Option<u64>) {
        if let Some(life) = self.nodes.get_mut(node) {
            life.held.remove(document);
        }
        let Some(entry) = self.entry_mut(document) else { return };
        if entry.holders.remove(node).is_none() {
            return;
        }
        let until = at.saturating_add(grace_us.unwrap_or(entry.grace_us));
        entry.left_until = entry.left_until.max(until);
        if entry.holders.is_empty() {
            let is_nobodys = entry.region.is_empty();
            let until = if is_nobodys { at } else { entry.left_until };
            entry.until = Some(until);
            self.graces.insert((until, document.clone()));
        }
    }

    fn pin(&mut self, document: &DocumentName, claim: Claim, holding: Holding<'_>) {
        let (region, grace_us) = (holding.node.region.clone(), holding.grace_us);
        let entry = Entry { region, claim, holders: BTreeMap::new(), until: None, left_until: 0, grace_us };
        let app = self.apps.entry(document.app.clone()).or_default();
        app.pins.insert(document.name.clone(), entry);
        self.hold(document, holding);
    }

    pub(super) fn remove(&mut self, document: &DocumentName) {
        let Some(app) = self.apps.get_mut(&document.app) else { return };
        let Some(entry) = app.pins.remove(&document.name) else { return };
        app.ended = app.ended.max(entry.claim.epoch);
        if let Some(until) = entry.until {
            self.graces.remove(&(until, document.clone()));
        }
    }

    fn next_claim(&mut self, now: u64, document: &DocumentName, nonce: u64) -> Claim {
        let app = self.apps.entry(document.app.clone()).or_default();
        app.top = now.max(app.top.saturating_add(1));
        Claim { epoch: app.top, nonce }
    }

    fn owner(&self, document: &DocumentName) -> Option<Owner> {
        let entry = self.entry(document)?;
        let ws_url = self.urls.get(&entry.region).cloned().unwrap_or_default();
        Some(Owner { region: entry.region.clone(), ws_url, claim: entry.claim })
    }

    fn is_alive(&self, node: &Node) -> bool {
        self.nodes.contains_key(node)
    }

    fn entry(&self, document: &DocumentName) -> Option<&Entry> {
        self.apps.get(&document.app)?.pins.get(&document.name)
    }

    fn entry_mut(&mut self, document: &DocumentName) -> Option<&mut Entry> {
        self.apps.get_mut(&document.app)?.pins.get_mut(&document.name)
    }
}
