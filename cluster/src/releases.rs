//! Giving documents back, also those that the node does not know to have.

use crate::pins::{Pins, What};
use pinwire_registry::{DocumentName, Hold, Request};
use std::collections::{BTreeMap, BTreeSet};

/// Releases under way at once.
const UNDER_WAY: usize = 256;

#[derive(Debug)]
struct Release {
    document: DocumentName,
    /// Its grace began when it was left, and ends then.
    until_us: u64,
    /// A claim or an assertion of this hold may be on its way yet: released once more a lease after the first time.
    is_unsure: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Releases {
    all: BTreeMap<Hold, Release>,
    /// Those that are not under way, by when their turn comes.
    due: BTreeSet<(u64, Hold)>,
    under_way: usize,
}

impl Releases {
    /// The node begins a new life: the registry released what the old one held.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }
}

impl Pins {
    /// Ends a hold at the registry: repeated until it answers. A later hold of the same document does not mind.
    pub(crate) fn release(&mut self, document: DocumentName, hold: Hold, is_unsure: bool) {
        self.release_since(document, hold, is_unsure, self.now_us);
    }

    /// The same of a document that was left a while ago.
    pub(crate) fn release_since(
        &mut self,
        document: DocumentName,
        hold: Hold,
        is_unsure: bool,
        left_us: u64,
    ) {
        let until_us = left_us + self.settings.grace_us;
        match self.releases.all.get_mut(&hold) {
            // Under way, or to be repeated anyway.
            Some(release) => release.is_unsure |= is_unsure,
            None => {
                self.releases.all.insert(hold, Release { document, until_us, is_unsure });
                self.releases.due.insert((self.now_us, hold));
            }
        }
    }

    pub(crate) fn send_releases(&mut self) {
        while self.can_ask() && self.releases.under_way < UNDER_WAY {
            let Some(&(at_us, hold)) = self.releases.due.first() else { return };
            if at_us > self.now_us {
                return;
            }
            self.releases.due.pop_first();
            let Some(release) = self.releases.all.get(&hold) else { continue };
            let (document, node) = (release.document.clone(), self.me.node.clone());
            let grace_us = release.until_us.saturating_sub(self.now_us);
            self.releases.under_way += 1;
            self.ask(What::Release { hold }, Request::Release { document, node, hold, grace_us });
        }
    }

    pub(crate) fn release_answered(&mut self, hold: Hold) {
        self.releases.under_way -= 1;
        let Some(release) = self.releases.all.get_mut(&hold) else { return };
        if release.is_unsure {
            release.is_unsure = false;
            self.releases.due.insert((self.now_us + self.settings.lease_us, hold));
        } else {
            self.releases.all.remove(&hold);
        }
    }

    pub(crate) fn release_failed(&mut self, hold: Hold) {
        self.releases.under_way -= 1;
        let wait_us = self.jittered(self.settings.renew_us / 10);
        self.releases.due.insert((self.now_us + wait_us, hold));
        self.doubt();
    }

    pub(crate) fn release_deadline_us(&self) -> u64 {
        let is_open = self.can_ask() && self.releases.under_way < UNDER_WAY;
        self.releases.due.first().filter(|_| is_open).map_or(u64::MAX, |(at_us, _)| *at_us)
    }
}

#[cfg(test)]
mod tests {
    use crate::bench::{Bench, SECOND, claim};
    use pinwire_registry::{Answer, Claimed, Request};

    #[test]
    fn a_release_is_repeated_until_it_is_answered() {
        let mut bench = Bench::living();
        bench.has("d", 1, claim(1));
        bench.leave("d", 1);
        bench.after(SECOND);
        for _ in 0..3 {
            let (ask, request) = bench.asked();
            assert!(matches!(request, Request::Release { hold: 1, .. }));
            bench.fail(ask);
            bench.renewed("a");
            bench.at(bench.pins.next_deadline_us());
        }
        let (ask, _) = bench.asked();
        bench.answer(ask, Answer::Done);
        bench.after(3 * SECOND);
        assert!(bench.asks.is_empty());
    }

    #[test]
    fn a_release_that_was_not_answered_is_repeated_and_ends_no_later_hold() {
        let mut bench = Bench::living();
        bench.has("d", 1, claim(1));
        bench.leave("d", 1);
        bench.after(SECOND);
        let (lost, _) = bench.asked();
        bench.hold("d", 2);
        let (ask, request) = bench.asked();
        assert!(matches!(request, Request::Claim { hold: 2, .. }));
        bench.answer(ask, Answer::Claimed(Claimed::Held { claim: claim(1), is_new: false }));
        bench.fail(lost);
        bench.renewed("a");
        bench.at(bench.pins.next_deadline_us());
        let (again, request) = bench.asked();
        assert!(matches!(request, Request::Release { hold: 1, .. }), "not that of the later one");
        bench.answer(again, Answer::Done);
        assert_eq!(bench.pins.held().count(), 1);
    }

    #[test]
    fn what_may_be_claimed_late_is_released_once_more_after_a_lease() {
        let mut bench = Bench::living();
        bench.hold("d", 1);
        let (ask, _) = bench.asked();
        bench.fail(ask);
        bench.renewed("a");
        let (ask, _) = bench.asked();
        bench.answer(ask, Answer::Done);
        let mut released = 0;
        let end = bench.now + 30 * SECOND;
        while bench.now < end {
            bench.at(bench.pins.next_deadline_us());
            match bench.asked() {
                (ask, Request::Release { hold: 1, .. }) => {
                    released += 1;
                    bench.answer(ask, Answer::Done);
                }
                (ask, _) => bench.answer(ask, Answer::Renewed(crate::bench::renewal("a"))),
            }
        }
        assert_eq!(released, 1);
    }

    #[test]
    fn a_new_life_has_nothing_to_release() {
        let mut bench = Bench::living();
        bench.has("d", 1, claim(1));
        bench.leave("d", 1);
        bench.after(SECOND);
        let (ask, _) = bench.asked();
        bench.at(bench.pins.next_deadline_us());
        let (renewal, _) = bench.asked();
        bench.answer(renewal, Answer::Unknown);
        bench.renewed("a");
        bench.fail(ask);
        bench.after(SECOND);
        assert!(bench.asks.is_empty());
    }
}
