//! Saying again what is held, after the registry may have forgotten it.

use crate::Effect;
use crate::pins::{Pins, What};
use pinwire_registry::{Answer, Asserted, DocumentName, Hold, Request};
use std::collections::BTreeSet;

/// Pins in one assertion.
const BATCH: usize = 200;
/// Assertions under way at once.
const UNDER_WAY: usize = 16;

#[derive(Debug, Default)]
pub(crate) struct Assertions {
    due: BTreeSet<DocumentName>,
    under_way: usize,
    /// Nothing is served before all is asserted: the node has a new life.
    bars: bool,
    /// Rises whenever everything has to be asserted: what was claimed before and answered after belongs to it.
    pub(crate) round: u64,
}

impl Assertions {
    pub(crate) fn is_barred(&self) -> bool {
        self.bars && !self.is_done()
    }

    fn is_done(&self) -> bool {
        self.due.is_empty() && self.under_way == 0
    }

    pub(crate) fn add(&mut self, document: DocumentName) {
        self.due.insert(document);
    }

    pub(crate) fn remove(&mut self, document: &DocumentName) {
        self.due.remove(document);
    }

    /// The node begins a new life: what is under way belongs to the old one.
    pub(crate) fn forget(&mut self) {
        self.due.clear();
        self.under_way = 0;
    }
}

impl Pins {
    /// The registry may have forgotten what the node holds; after a new life it certainly has.
    pub(crate) fn assert_everything(&mut self, is_new_life: bool) {
        self.assertions.round += 1;
        self.assertions.bars |= is_new_life;
        let held = self.documents.iter().filter(|(_, entry)| entry.claim().is_some());
        self.assertions.due = held.map(|(document, _)| document.clone()).collect();
    }

    pub(crate) fn send_asserts(&mut self) {
        while self.can_ask() && self.assertions.under_way < UNDER_WAY && !self.assertions.due.is_empty() {
            let mut pins = Vec::new();
            while pins.len() < BATCH {
                let Some(document) = self.assertions.due.pop_first() else { break };
                let held = self.documents.get(&document).and_then(|entry| entry.held());
                pins.extend(held.map(|held| (document, held.claim, held.hold)));
            }
            if pins.is_empty() {
                break;
            }
            let asked = pins.iter().map(|(document, _, hold)| (document.clone(), *hold)).collect();
            let (node, grace_us) = (self.me.node.clone(), self.settings.grace_us);
            self.assertions.under_way += 1;
            self.ask(What::Assert { pins: asked }, Request::Assert { node, pins, grace_us });
        }
        if self.assertions.is_done() {
            self.assertions.bars = false;
        }
    }

    pub(crate) fn assert_answered(&mut self, pins: &[(DocumentName, Hold)], answer: Answer) {
        self.assertions.under_way -= 1;
        let Answer::Asserted(Some(verdicts)) = answer else { return self.begin_anew() };
        for ((document, hold), verdict) in pins.iter().zip(verdicts) {
            match verdict {
                Asserted::Held(claim) => self.take_over(document, *hold, claim),
                Asserted::Lost(owner) => self.lose(document, *hold, &owner),
            }
        }
    }

    /// Nodes of the region agreed on a higher claim.
    fn take_over(&mut self, document: &DocumentName, hold: Hold, claim: pinwire_registry::Claim) {
        let Some(entry) = self.documents.get_mut(document) else { return };
        let Some(held) = entry.held_mut().filter(|held| held.hold == hold && held.claim < claim) else {
            return;
        };
        held.claim = claim;
        let news = entry.tickets().map(|ticket| Effect::Reclaimed(document.clone(), ticket, claim));
        self.effects.extend(news);
    }

    /// They may have been asserted all the same, or be so later.
    pub(crate) fn assert_failed(&mut self, pins: Vec<(DocumentName, Hold)>) {
        self.assertions.under_way -= 1;
        for (document, hold) in pins {
            let held = self.documents.get_mut(&document).and_then(|entry| entry.held_mut());
            match held {
                Some(held) if held.hold == hold => {
                    held.is_unsure = true;
                    self.assertions.add(document);
                }
                _ => self.release(document, hold, true),
            }
        }
        self.doubt();
    }
}
