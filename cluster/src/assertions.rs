//! Saying again what is held, after the registry may have forgotten it.

use crate::Effect;
use crate::pins::{Pins, What};
use pinwire_registry::{Answer, Asserted, Claim, DocumentName, Hold, Request};
use std::collections::BTreeSet;

/// Pins in one assertion.
const BATCH: usize = 200;
/// Assertions under way at once.
const UNDER_WAY: usize = 16;

#[derive(Debug, Default)]
pub(crate) struct Assertions {
    due: BTreeSet<DocumentName>,
    under_way: usize,
    /// Nothing is served before all is asserted: the registry had given the node up.
    bars: bool,
    /// Times in a row that some failed, each after a renewal that was answered.
    failures: u32,
    /// None is sent before.
    retry_at_us: u64,
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
        self.failures = 0;
        self.retry_at_us = 0;
    }
}

impl Pins {
    /// The node has a new life, which holds nothing yet. `bars`: it had no lease when it began.
    pub(crate) fn assert_everything(&mut self, bars: bool) {
        self.assertions.bars |= bars;
        let held = self.documents.iter().filter(|(_, entry)| entry.claim().is_some());
        self.assertions.due = held.map(|(document, _)| document.clone()).collect();
    }

    pub(crate) fn send_asserts(&mut self) {
        while self.can_assert() && self.assertions.under_way < UNDER_WAY && !self.assertions.due.is_empty() {
            let mut pins = Vec::new();
            while pins.len() < BATCH {
                let Some(document) = self.assertions.due.pop_first() else { break };
                let held = self.documents.get(&document).and_then(|entry| entry.held());
                pins.extend(
                    held.map(|held| (document, held.seen.unwrap_or_default().max(held.claim), held.hold)),
                );
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

    fn can_assert(&self) -> bool {
        self.can_ask() && self.now_us >= self.assertions.retry_at_us
    }

    /// When some that failed are sent again.
    pub(crate) fn assert_deadline_us(&self) -> u64 {
        let is_waiting = !self.assertions.due.is_empty() && self.now_us < self.assertions.retry_at_us;
        if is_waiting { self.assertions.retry_at_us } else { u64::MAX }
    }

    pub(crate) fn assert_answered(&mut self, pins: &[(DocumentName, Hold)], answer: Answer) {
        self.assertions.under_way -= 1;
        self.assertions.failures = 0;
        let Answer::Asserted(Some(verdicts)) = answer else { return self.begin_anew() };
        for ((document, hold), verdict) in pins.iter().zip(verdicts) {
            match verdict {
                Asserted::Held(claim) if self.is_held(document, *hold) => {
                    self.take_over(document, *hold, claim);
                }
                // It was left meanwhile, and whether the registry heard of that before or after is not known.
                Asserted::Held(_) => self.release(document.clone(), *hold, true),
                Asserted::Lost(owner) => self.lose(document, *hold, &owner),
            }
        }
    }

    fn is_held(&self, document: &DocumentName, hold: Hold) -> bool {
        self.documents.get(document).and_then(|entry| entry.held()).is_some_and(|held| held.hold == hold)
    }

    /// Nodes of the region agreed on a higher claim.
    pub(crate) fn take_over(&mut self, document: &DocumentName, hold: Hold, claim: Claim) {
        let Some(entry) = self.documents.get_mut(document) else { return };
        let Some(held) = entry.held_mut().filter(|held| held.hold == hold && held.claim < claim) else {
            return;
        };
        held.claim = claim;
        held.seen = held.seen.filter(|seen| *seen > claim);
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
        if self.assertions.is_barred() {
            self.drift();
        }
        // Those that were under way at once failed together.
        if self.can_ask() {
            self.wait_to_assert();
        }
        self.doubt();
    }

    /// At first the next renewal alone decides when to go on. A registry that answers those and no assertion is given more and
    /// more time.
    fn wait_to_assert(&mut self) {
        let failures = self.assertions.failures;
        self.assertions.failures += 1;
        if failures > 0 {
            let renew_us = self.settings.renew_us;
            let wait_us = ((renew_us / 20) << failures.min(8)).min(renew_us / 2);
            self.assertions.retry_at_us = self.now_us + self.jittered(wait_us);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BATCH, UNDER_WAY};
    use crate::bench::{Bench, SECOND, claim, document, elsewhere, renewal};
    use crate::{Effect, Lease, Ticket};
    use pinwire_registry::{Answer, Asserted, Request};

    /// A node with so many documents.
    fn holder(documents: usize) -> Bench {
        let mut bench = Bench::living();
        for number in 0..documents {
            bench.has(&number.to_string(), number as u64, claim(number as u64));
        }
        bench
    }

    fn another_history(bench: &mut Bench) {
        let life = bench.pins.node().life;
        bench.at(bench.pins.next_deadline_us());
        bench.renewed("b");
        // What it gave up before may be known to the registry again: it ends with the life.
        assert_ne!(bench.pins.node().life, life);
        let at = bench.asks.iter().position(|(_, request)| matches!(request, Request::Register { .. }));
        let register = bench.asks.remove(at.expect("a registration")).expect("there");
        bench.asks.push_front(register);
        bench.renewed("b");
    }

    #[test]
    fn a_registry_that_may_have_forgotten_something_is_told_everything() {
        let mut bench = holder(3);
        another_history(&mut bench);
        let is_valid =
            |news: &Effect| !matches!(news, Effect::Lease(lease) if !matches!(lease, Lease::Valid { .. }));
        assert!(bench.news.iter().all(is_valid), "it serves on, without a break: {:?}", bench.news);
        assert!(matches!(bench.pins.lease(), Lease::Valid { .. }));
        bench.asserted(|document, claim| match &*document.name {
            "0" => Asserted::Held(claim),
            "1" => Asserted::Held(crate::bench::claim(90)),
            _ => Asserted::Lost(elsewhere(91)),
        });
        assert!(bench.news.contains(&Effect::Reclaimed(document("1"), Ticket(1), claim(90))));
        assert!(bench.news.contains(&Effect::Lost(document("2"), Ticket(2), elsewhere(91))));
        assert_eq!(bench.pins.held().map(|(_, claim)| claim.epoch).collect::<Vec<_>>(), [0, 90]);
        // The same history again: nothing to say.
        bench.at(bench.pins.next_deadline_us());
        bench.renewed("b");
        assert!(bench.asks.is_empty());
    }

    #[test]
    fn assertions_come_in_batches_of_which_some_are_under_way() {
        let mut bench = holder(BATCH * (UNDER_WAY + 1) + 1);
        another_history(&mut bench);
        assert_eq!(bench.asks.len(), UNDER_WAY);
        let mut told = 0;
        while let Some((_, Request::Assert { pins, .. })) = bench.asks.front() {
            told += pins.len();
            bench.asserted(|_, claim| Asserted::Held(claim));
        }
        assert_eq!(told, BATCH * (UNDER_WAY + 1) + 1);
    }

    #[test]
    fn an_assertion_without_an_answer_is_repeated_and_what_was_left_meanwhile_released_twice() {
        let mut bench = holder(2);
        another_history(&mut bench);
        let (ask, _) = bench.asked();
        bench.leave("0", 0);
        bench.after(SECOND);
        let (release, _) = bench.asked();
        bench.answer(release, Answer::Done);
        bench.fail(ask);
        bench.renewed("b");
        bench.asserted(|_, claim| Asserted::Held(claim));
        for wait in [0, 20] {
            bench.at(bench.now + wait * SECOND);
            let at = bench.asks.iter().position(|(_, ask)| matches!(ask, Request::Release { hold: 1, .. }));
            let (release, _) = bench.asks.remove(at.expect("a release")).expect("there");
            bench.answer(release, Answer::Done);
        }
    }

    #[test]
    fn a_registry_that_renews_and_takes_no_assertion_is_given_time() {
        let mut bench = holder(2);
        another_history(&mut bench);
        let mut waits = Vec::new();
        for _ in 0..6 {
            let (ask, request) = bench.asked();
            assert!(matches!(request, Request::Assert { .. }), "{request:?}");
            let failed = bench.now;
            bench.fail(ask);
            bench.renewed("b");
            if bench.asks.is_empty() {
                bench.at(bench.pins.next_deadline_us());
            }
            waits.push(bench.now - failed);
        }
        assert_eq!(waits[0], 0, "once is no pattern");
        assert!(waits[1..].iter().all(|wait| (SECOND / 4..=5 * SECOND / 2).contains(wait)), "{waits:?}");
        assert!(waits[5] > 4 * SECOND / 5, "{waits:?}");
        bench.asserted(|_, claim| Asserted::Held(claim));
        assert_eq!(bench.pins.held().count(), 2);
    }

    #[test]
    fn a_node_whose_assertions_are_not_answered_is_adrift_until_they_are() {
        let mut bench = holder(1);
        bench.at(bench.pins.next_deadline_us());
        let (ask, _) = bench.asked();
        bench.answer(ask, Answer::Unknown);
        bench.renewed("a");
        assert_eq!(bench.pins.lease(), Lease::Unchecked);
        for _ in 0..10 {
            let (ask, request) = bench.asked();
            assert!(matches!(request, Request::Assert { .. }), "{request:?}");
            bench.fail(ask);
            bench.renewed("a");
            assert!(matches!(bench.pins.lease(), Lease::Adrift { .. }));
            if bench.asks.is_empty() {
                bench.at(bench.pins.next_deadline_us());
            }
        }
        bench.asserted(|_, claim| Asserted::Held(claim));
        assert!(matches!(bench.pins.lease(), Lease::Valid { .. }));
    }

    #[test]
    fn a_registry_that_does_not_know_who_asserts_meets_a_new_life() {
        let mut bench = holder(1);
        another_history(&mut bench);
        let (ask, _) = bench.asked();
        bench.answer(ask, Answer::Asserted(None));
        assert_eq!(bench.pins.lease(), Lease::Unchecked);
        let (register, _) = bench.asked();
        bench.answer(register, Answer::Renewed(renewal("b")));
        bench.asserted(|_, _| Asserted::Lost(elsewhere(9)));
        assert!(matches!(bench.pins.lease(), Lease::Valid { .. }));
        assert!(bench.pins.is_empty());
    }
    #[test]
    fn who_had_no_lease_any_more_when_it_met_another_history_asserts_before_it_serves() {
        let mut bench = holder(1);
        while !matches!(bench.pins.lease(), Lease::Adrift { .. }) {
            bench.at(bench.pins.next_deadline_us());
            while let Some((ask, _)) = bench.asks.pop_front() {
                bench.fail(ask);
            }
        }
        bench.news.clear();
        another_history(&mut bench);
        assert_eq!(
            bench.pins.lease(),
            Lease::Unchecked,
            "the registry may have given it to others meanwhile"
        );
        assert!(bench.news.iter().all(|news| !matches!(news, Effect::Lease(Lease::Valid { .. }))));
        bench.asserted(|_, claim| Asserted::Held(claim));
        assert!(matches!(bench.pins.lease(), Lease::Valid { .. }));
    }

    #[test]
    fn who_has_to_assert_before_it_serves_still_has_to_after_another_history() {
        let mut bench = holder(2);
        bench.at(bench.pins.next_deadline_us());
        let (ask, _) = bench.asked();
        bench.answer(ask, Answer::Unknown);
        bench.renewed("a");
        assert_eq!(bench.pins.lease(), Lease::Unchecked);
        // The registry is another one before it has answered the assertion.
        bench.asks.clear();
        another_history(&mut bench);
        assert_eq!(bench.pins.lease(), Lease::Unchecked);
        assert!(bench.news.iter().all(|news| !matches!(news, Effect::Lease(Lease::Valid { .. }))));
        bench.asserted(|_, claim| Asserted::Held(claim));
        assert!(matches!(bench.pins.lease(), Lease::Valid { .. }));
    }
}
