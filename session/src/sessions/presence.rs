//! Which other nodes live, and hold what this one holds.

use super::ask::What;
use super::document::{Document, Early, Id, Peer, Phase};
use super::{Effect, Refused, Sessions};
use crate::{Reply, Request};
use pinwire_registry::{Claim, DocumentName, Node};
use std::collections::{BTreeSet, VecDeque};

/// See [`Beats::check_holds`].
const CHECKS: u8 = 2;

#[derive(Debug, Default)]
pub(super) struct Beats {
    /// When the next is due; None: the last is not answered.
    next_us: Option<u64>,
    has_begun: bool,
    asked: u64,
    /// Beats that are to ask, and find nothing wrong with, what the store takes this node to hold: it may have forgotten that
    /// documents were closed. The second is asked after everything has ended that was under way when the first was.
    checks_left: u8,
    /// Those before it do not count.
    checks_from: u64,
    is_answered: bool,
    is_failing: bool,
    /// Before then a node that is not among the living may only not have been heard of since the store forgot all of them.
    judge_from_us: u64,
    /// Documents that are opened once the first is answered: who is not known to live would be taken for dead.
    waiting: VecDeque<Id>,
}

impl Beats {
    pub(super) fn due_us(&self) -> Option<u64> {
        if self.has_begun { self.next_us } else { Some(0) }
    }

    pub(super) fn is_answered(&self) -> bool {
        self.is_answered
    }

    pub(super) fn is_failing(&self) -> bool {
        self.is_failing
    }

    /// The store may be another one than before, or take up late what this node has given up.
    pub(super) fn check_holds(&mut self) {
        (self.checks_left, self.checks_from) = (CHECKS, self.asked + 1);
    }

    pub(super) fn waiting(&mut self) -> &mut VecDeque<Id> {
        &mut self.waiting
    }
}

impl Sessions {
    pub(super) fn beat_if_due(&mut self) {
        if self.beats.due_us().is_none_or(|due| due > self.now_us) {
            return;
        }
        self.beats.has_begun = true;
        self.beats.next_us = None;
        self.beats.asked += 1;
        let number = self.beats.asked;
        let with_holds = self.beats.checks_left > 0;
        let request = Request::Beat { node: self.me.clone(), lease_us: self.settings.lease_us, with_holds };
        self.ask(What::Beat(number), None, request);
    }

    pub(super) fn beaten(&mut self, number: u64, reply: Option<Reply>) {
        let Some(Reply::Nodes { nodes, is_forgotten, held }) = reply else {
            self.beat_failed();
            return;
        };
        self.beats.next_us = Some(self.now_us + self.settings.beat_us);
        // One that was not answered may have been told that this node was forgotten.
        let is_forgotten = std::mem::take(&mut self.beats.is_failing) || is_forgotten;
        let is_first = !std::mem::replace(&mut self.beats.is_answered, true);
        let waiting = std::mem::take(&mut self.beats.waiting);
        self.requeue(waiting);
        self.check_holds(number, &held);
        if is_forgotten {
            self.beats.judge_from_us = self.now_us + self.settings.lease_us;
            if !is_first {
                self.missed();
            }
        } else if self.now_us >= self.beats.judge_from_us {
            self.bury_the_dead(number, &nodes.into_iter().collect());
        }
    }

    /// Gives up what the store takes this node to hold and it does not: a store that was rolled back forgot that it was closed,
    /// and would keep it for as long as the node lives.
    fn check_holds(&mut self, beat: u64, held: &[DocumentName]) {
        if self.beats.checks_left == 0 || beat < self.beats.checks_from {
            return;
        }
        let strays = held.iter().filter(|document| !self.names.contains_key(*document));
        let strays: Vec<&DocumentName> = strays.collect();
        self.beats.checks_left = if strays.is_empty() { self.beats.checks_left - 1 } else { CHECKS };
        for document in strays {
            // Under whatever claim: no later hold is meant, and all of these are over.
            self.is_stray(document, Claim { epoch: u64::MAX, nonce: u64::MAX });
        }
    }

    /// It did not leave.
    pub(super) fn beat_again(&mut self) {
        self.beats.next_us = Some(self.now_us);
    }

    fn beat_failed(&mut self) {
        let pause = self.jittered(self.settings.retry_max_us.min(self.settings.beat_us));
        self.beats.next_us = Some(self.now_us + pause);
        self.beats.is_failing = true;
        for id in std::mem::take(&mut self.beats.waiting) {
            if self.get(id).is_some_and(|held| held.phase == Phase::Opening) {
                self.refuse(id, Refused::OutOfReach);
            } else {
                self.requeue([id]);
            }
        }
    }

    /// Nodes that hold documents and are not among the living: as if they had left.
    fn bury_the_dead(&mut self, beat: u64, living: &BTreeSet<Node>) {
        let dead: BTreeSet<Node> =
            self.peers.keys().filter(|node| !living.contains(*node)).cloned().collect();
        if dead.is_empty() {
            return;
        }
        for id in self.ids() {
            let Some(held) = self.get(id) else { continue };
            let is_dead = |peer: &&Peer| peer.since_beat < beat && dead.contains(&peer.node);
            let gone: Vec<Node> = held.peers.iter().filter(is_dead).map(|peer| peer.node.clone()).collect();
            for node in gone {
                self.part(id, &node);
            }
        }
    }

    /// Another node holds the document.
    pub(super) fn meet(&mut self, id: Id, node: &Node) {
        let since_beat = self.beats.asked;
        if *node == self.me {
            return;
        }
        let Some(held) = self.get(id) else { return };
        if let Some(peer) = held.peers.iter_mut().find(|peer| peer.node == *node) {
            peer.since_beat = since_beat;
            return;
        }
        held.peers.push(Peer { node: node.clone(), since_beat });
        *self.peers.entry(node.clone()).or_default() += 1;
    }

    /// These other nodes hold it, and no others, but for what was heard meanwhile.
    pub(super) fn meet_only(&mut self, id: Id, nodes: &[Node], early: Vec<Early>) {
        let mut nodes: BTreeSet<Node> = nodes.iter().cloned().collect();
        for early in early {
            match early {
                Early::Joined(node) => _ = nodes.insert(node),
                Early::Left(node) => _ = nodes.remove(&node),
                Early::Said(..) | Early::Moving(_) => {}
            }
        }
        let Some(held) = self.get(id) else { return };
        let name = held.name.clone();
        let gone: Vec<Node> = held
            .peers
            .iter()
            .filter(|peer| !nodes.contains(&peer.node))
            .map(|peer| peer.node.clone())
            .collect();
        for node in gone {
            self.part(id, &node);
        }
        for node in &nodes {
            let is_new = self.get(id).is_some_and(|held| !held.peer(node));
            self.meet(id, node);
            if is_new {
                self.effects.push_back(Effect::Joined(name.clone(), node.clone()));
            }
        }
    }

    /// It holds the document no more.
    pub(super) fn part(&mut self, id: Id, node: &Node) {
        let Some(held) = self.get(id) else { return };
        let Some(at) = held.peers.iter().position(|peer| peer.node == *node) else { return };
        held.peers.swap_remove(at);
        let name = held.name.clone();
        self.forget_peer(node);
        self.effects.push_back(Effect::Left(name, node.clone()));
    }

    /// Without a word: the document is closed here.
    pub(super) fn forget_peers(&mut self, id: Id) {
        let Some(held) = self.get(id) else { return };
        for peer in std::mem::take(&mut held.peers) {
            self.forget_peer(&peer.node);
        }
    }

    fn forget_peer(&mut self, node: &Node) {
        if let Some(count) = self.peers.get_mut(node) {
            *count -= 1;
            if *count == 0 {
                self.peers.remove(node);
            }
        }
    }

    /// Says everything anew if messages were dropped.
    pub(super) fn say_anew_if_due(&mut self, id: Id) {
        if self.get(id).is_some_and(Document::is_to_say_anew) {
            self.say_anew(id);
        }
    }

    /// The data thread says everything again, as to one that has just come: others may not have been told, or have asked for
    /// it in vain.
    pub(super) fn say_anew(&mut self, id: Id) {
        let Some(held) = self.get(id) else { return };
        if let Some(sayings) = held.sayings.as_deref_mut().filter(|sayings| sayings.waiting.is_empty()) {
            sayings.again = false;
        }
        let Some(node) = held.peers.first().map(|peer| peer.node.clone()) else { return };
        let name = held.name.clone();
        self.stats.said_anew += 1;
        self.effects.push_back(Effect::Joined(name, node));
    }
}
