//! Lives, leases, what a renewal brings.

use super::shares::Used as ShareUse;
use super::{Book, Life, TELL_LOST_LEASES};
use crate::{Answer, AppName, AppRecord, AppUse, DocumentName, Node, NodeView, Owner, Renewed, Share};
use std::collections::{BTreeMap, BTreeSet};

impl Book {
    /// Registering again while it lives (an answer got lost) changes nothing but the lease and the view.
    pub(super) fn register(&mut self, now: u64, view: &NodeView, lease_us: u64) -> Answer {
        self.urls.insert(view.node.region.clone(), view.ws_url.clone());
        let life = self.nodes.entry(view.node.clone()).or_insert_with(|| Life {
            view: view.clone(),
            expires: 0,
            lease_us,
            held: BTreeSet::new(),
            lost: BTreeMap::new(),
            uses: BTreeSet::new(),
            turn: BTreeSet::new(),
        });
        life.view = view.clone();
        (life.expires, life.lease_us) = (now.saturating_add(lease_us), lease_us);
        Answer::Renewed(self.renewed(now))
    }

    pub(super) fn renew(
        &mut self,
        now: u64,
        node: &Node,
        lease_us: u64,
        apps: &[AppUse],
        versions: &[(AppName, u64)],
    ) -> Answer {
        let Some(life) = self.nodes.get_mut(node) else { return Answer::Unknown };
        (life.expires, life.lease_us) = (now.saturating_add(lease_us), lease_us);
        life.lost.retain(|_, (_, until)| *until > now);
        let lost = life.lost.iter().map(|(document, (owner, _))| (document.clone(), owner.clone())).collect();
        let shares = self.allot(node, apps);
        let records = self.newer_records(versions);
        Answer::Renewed(Renewed { lost, shares, records, ..self.renewed(now) })
    }

    fn renewed(&self, now: u64) -> Renewed {
        let history = self.history.clone();
        Renewed { now, history, lost: Vec::new(), shares: Vec::new(), records: Vec::new() }
    }

    fn newer_records(&self, versions: &[(AppName, u64)]) -> Vec<(AppName, AppRecord)> {
        let known = versions.iter().map(|(app, version)| (app, version, self.record(app)));
        let changed = known.filter(|(_, version, record)| record.version != **version);
        let records: BTreeMap<AppName, AppRecord> =
            changed.map(|(app, _, record)| (app.clone(), record)).collect();
        records.into_iter().collect()
    }

    /// Shares of the apps that it told of, and those that changed because others did.
    fn allot(&mut self, node: &Node, told: &[AppUse]) -> Vec<Share> {
        let mut shares = BTreeMap::new();
        let Some(life) = self.nodes.get_mut(node) else { return Vec::new() };
        let mut turn = std::mem::take(&mut life.turn);
        for told in told {
            let used = ShareUse {
                connections: told.connections,
                wanted: told.wanted.max(told.connections),
                share: 0,
            };
            let uses = &mut self.apps.entry(told.app.clone()).or_default().uses;
            uses.tell(node, used, told.max_connections);
            turn.remove(&told.app);
            shares.insert(told.app.clone(), self.see_through(node, &told.app));
        }
        for app in turn {
            let before = self.apps.get(&app).and_then(|app| app.uses.share(node));
            let Some(before) = before else { continue };
            let share = self.see_through(node, &app);
            if share != before {
                shares.insert(app, share);
            }
        }
        shares.into_iter().map(|(app, connections)| Share { app, connections }).collect()
    }

    /// Allots a node's share of an app anew, and marks who has to be seen through at its own next renewal.
    fn see_through(&mut self, node: &Node, app: &AppName) -> u32 {
        let uses = &mut self.apps.entry(app.clone()).or_default().uses;
        let allotted = uses.allot(node);
        if let Some(life) = self.nodes.get_mut(node) {
            if uses.share(node).is_some() {
                life.uses.insert(app.clone());
            } else {
                life.uses.remove(app);
            }
        }
        for other in allotted.turn {
            if let Some(life) = self.nodes.get_mut(&other) {
                life.turn.insert(app.clone());
            }
        }
        allotted.share
    }

    pub(super) fn retire(&mut self, now: u64, node: &Node, grace_us: u64) -> Answer {
        self.bury(now, node, Some(grace_us));
        self.settle(now);
        Answer::Done
    }

    /// A node's end at a time: what it held counts as left then, with the grace that it says or that of each pin. Its share of
    /// the apps' limits is free.
    pub(super) fn bury(&mut self, at: u64, node: &Node, grace_us: Option<u64>) {
        let Some(life) = self.nodes.remove(node) else { return };
        for document in &life.held {
            self.leave(at, document, node, grace_us);
        }
        for app in &life.uses {
            let Some(state) = self.apps.get_mut(app) else { continue };
            state.uses.remove(node);
            for other in state.uses.nodes() {
                if let Some(life) = self.nodes.get_mut(other) {
                    life.turn.insert(app.clone());
                }
            }
        }
    }

    /// Has a node told, with its renewals, that a pin which it held belongs to `owner`.
    pub(super) fn tell_lost(&mut self, now: u64, node: &Node, document: &DocumentName, owner: &Owner) {
        if let Some(life) = self.nodes.get_mut(node) {
            life.held.remove(document);
            let until = now.saturating_add(life.lease_us.saturating_mul(TELL_LOST_LEASES));
            life.lost.insert(document.clone(), (owner.clone(), until));
        }
    }
}
