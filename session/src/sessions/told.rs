//! What this node is told without asking.

use super::ask::What;
use super::document::{Early, Id, Linked, Phase};
use super::limits::STRAYS_MAX;
use super::{Effect, Sessions, Timer};
use crate::{Batch, Head, Notice, Request};
use pinwire_registry::{Claim, DocumentName, Node};
use std::sync::Arc;

impl Sessions {
    /// A notice came, in the order in which the store sent it.
    pub fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Appended { document, claim, prev, head, updates } => {
                if let Some(id) = self.heard(&document, claim) {
                    self.others_appended(id, prev, head, updates);
                }
            }
            Notice::Said { hold, document, claim, from, message } => {
                if let Some(id) = self.heard(&document, claim).filter(|id| self.is_of_hold(*id, hold)) {
                    self.another_said(id, from, message);
                }
            }
            Notice::Joined { hold, document, node } => {
                if let Some((id, held)) = self.find(&document)
                    && held.hold == hold
                {
                    if held.is_hearing() {
                        held.keep_early(Early::Joined(node.clone()));
                    }
                    if held.phase != Phase::Opening {
                        self.meet(id, &node);
                        self.effects.push_back(Effect::Joined(document, node));
                    }
                }
            }
            Notice::Moving { hold, document, claim } => self.told_of_move(&document, hold, claim),
            Notice::Settled { hold, document, claim } => self.told_of_end(&document, hold, claim),
            Notice::Left { hold, document, node } => {
                if let Some((id, held)) = self.find(&document)
                    && held.hold == hold
                {
                    if held.is_hearing() {
                        held.keep_early(Early::Left(node.clone()));
                    }
                    self.part(id, &node);
                }
            }
        }
    }

    /// The document, if what was told is of the claim under which it is held.
    fn heard(&mut self, document: &DocumentName, claim: Claim) -> Option<Id> {
        let Some(id) = self.names.get(document).copied() else {
            self.is_stray(document, claim);
            return None;
        };
        let held = self.get(id)?;
        if claim > held.claim {
            self.fence(id, claim);
            return None;
        }
        let is_heard = claim == held.claim && (held.phase == Phase::Opening || held.is_followed());
        is_heard.then_some(id)
    }

    fn is_of_hold(&self, id: Id, hold: u64) -> bool {
        let place = self.places.get(id.index as usize);
        place.and_then(|place| place.document.as_ref()).is_some_and(|held| held.hold == hold)
    }

    /// The store takes this node for a holder and it is none: an open was given up and done all the same.
    pub(super) fn is_stray(&mut self, document: &DocumentName, claim: Claim) {
        // No later hold is meant.
        self.give_up(document, claim, self.last_hold);
    }

    /// Gives up what the store takes the node to hold by this hold or an earlier one.
    pub(super) fn give_up(&mut self, document: &DocumentName, claim: Claim, hold: u64) {
        let lane = crate::partition(document);
        if self.lapsed == 0 && self.counts.strays < STRAYS_MAX && self.lanes[lane].admits() {
            let node = self.me.clone();
            let request = Request::Close { document: document.clone(), claim, node, hold };
            self.ask(What::Stray, Some(lane), request);
        }
    }

    fn others_appended(&mut self, id: Id, prev: Head, head: Head, updates: Batch) {
        let Some(held) = self.get(id) else { return };
        if held.is_followed() && head.seq <= held.known.seq {
            self.is_known(id, head);
            return;
        }
        if held.needs_load && !held.is_asking {
            // The load that is to come brings it.
            return;
        }
        if !held.link(prev, head, Linked::Foreign(updates)) {
            self.overrun(id);
            return;
        }
        self.follow(id);
    }

    /// Too much to keep until it can be followed.
    fn overrun(&mut self, id: Id) {
        let Some(held) = self.get(id) else { return };
        if held.phase == Phase::Opening || held.needs_load {
            held.is_overrun = true;
        } else {
            self.doubt(id);
        }
    }

    /// Goes on in the history as far as it is known, and notices if something is missing.
    pub(super) fn follow(&mut self, id: Id) {
        let (now_us, gap_us) = (self.now_us, self.settings.gap_us);
        let Some(held) = self.get(id) else { return };
        if !held.is_followed() || held.needs_load {
            return;
        }
        let mut foreign = Vec::new();
        while let Some(step) = held.follow() {
            foreign.extend(step);
        }
        let name = held.name.clone();
        let is_whole = held.drop_behind();
        let is_gap_new = held.has_gap() && held.gap_since.is_none();
        if is_gap_new {
            held.gap_since = Some(now_us);
        } else if held.links.is_empty() && held.behind.is_none() {
            held.gap_since = None;
        }
        self.stats.foreign += foreign.len() as u64;
        let effects = foreign.into_iter().map(|(mark, updates)| Effect::Foreign(name.clone(), mark, updates));
        self.effects.extend(effects);
        if is_gap_new {
            self.timer(gap_us, Timer::Gap(id));
        }
        if !is_whole {
            self.doubt(id);
        }
    }

    /// What is missing had its time.
    pub(super) fn gap_is_over(&mut self, id: Id, at_us: u64) {
        let gap_us = self.settings.gap_us;
        let Some(held) = self.get(id) else { return };
        let Some(since) = held.gap_since else { return };
        let due = since + gap_us;
        if due > at_us {
            // Another gap, since.
            self.timers.insert((due, Timer::Gap(id)));
            return;
        }
        if held.is_asking {
            // What is missing may be this node's own batch, whose reply is on its way.
            self.timer(gap_us, Timer::Gap(id));
            return;
        }
        held.gap_since = None;
        self.stats.gaps += 1;
        self.doubt(id);
    }

    pub(super) fn another_said(&mut self, id: Id, from: Node, message: Arc<[u8]>) {
        let Some(held) = self.get(id) else { return };
        if held.phase == Phase::Opening {
            held.keep_early(Early::Said(from, message));
            return;
        }
        let (name, is_met) = (held.name.clone(), held.peer(&from));
        if !is_met {
            // That it joined was missed.
            self.meet(id, &from);
            self.effects.push_back(Effect::Joined(name.clone(), from.clone()));
        }
        self.effects.push_back(Effect::Said(name, from, message));
    }
}
