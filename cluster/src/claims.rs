//! Taking documents, and losing them.

use crate::pins::{Pins, What};
use crate::{Decision, Effect, Ticket};
use pinwire_registry::{Answer, Claim, Claimed, DocumentName, Hold, Owner, Request};
use std::collections::{BTreeMap, BTreeSet};

/// Claims under way at once.
const UNDER_WAY: usize = 256;
/// Claims that wait for their turn; more are refused.
const WAITING: usize = 8_192;
/// The part of the grace for which a document that was left is still held, and the most of that.
const LINGER: u64 = 10;
const LINGER_MAX_US: u64 = 1_000_000;

/// A document that somebody on this node wants, or has.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Who wants or has it. Empty while a claim is under way that nobody wants any more, and for a while after the last has left.
    tickets: Vec<Ticket>,
    state: State,
    /// When the last left what is held.
    left_us: u64,
    /// When it is given back then.
    due_us: u64,
    /// As whoever came first said.
    max_documents: u32,
    /// It is moved here from another region, which had it under the first claim, to be held under the second.
    moves: Option<(Claim, Claim)>,
}

#[derive(Debug)]
enum State {
    /// Its place among those that wait.
    Waiting(u64),
    Asked,
    Held(Held),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) claim: Claim,
    pub(crate) hold: Hold,
    /// An assertion of it may still be on its way.
    pub(crate) is_unsure: bool,
    /// A higher claim of this region's that the registry has forgotten, as the session store told.
    pub(crate) seen: Option<Claim>,
}

#[derive(Debug, Default)]
pub(crate) struct Claiming {
    /// In the order in which they came.
    waiting: BTreeMap<u64, DocumentName>,
    places: u64,
    under_way: usize,
    /// Held, and left by everybody: when they are given back.
    leaving: BTreeSet<(u64, DocumentName)>,
}

impl Claiming {
    fn wait(&mut self, document: DocumentName) -> State {
        self.places += 1;
        self.waiting.insert(self.places, document);
        State::Waiting(self.places)
    }
}

impl Entry {
    pub(crate) fn held(&self) -> Option<&Held> {
        match &self.state {
            State::Held(held) => Some(held),
            _ => None,
        }
    }

    pub(crate) fn held_mut(&mut self) -> Option<&mut Held> {
        match &mut self.state {
            State::Held(held) => Some(held),
            _ => None,
        }
    }

    pub(crate) fn claim(&self) -> Option<Claim> {
        self.held().map(|held| held.claim)
    }

    pub(crate) fn tickets(&self) -> impl Iterator<Item = Ticket> {
        self.tickets.iter().copied()
    }
}

impl Pins {
    /// Somebody opens a document. Answered by [`Effect::Decided`] with the same ticket, unless it is left before.
    pub fn hold(&mut self, document: &DocumentName, ticket: Ticket, max_documents: u32) {
        self.want(document, ticket, max_documents, None);
    }

    /// Takes a document over that another region held under `claim` and has handed over, and that this region's sessions have
    /// under `to`. Else as [`Self::hold`].
    pub fn move_here(&mut self, document: &DocumentName, ticket: Ticket, claim: Claim, to: Claim) {
        self.want(document, ticket, u32::MAX, Some((claim, to)));
    }

    fn want(
        &mut self,
        document: &DocumentName,
        ticket: Ticket,
        max_documents: u32,
        moves: Option<(Claim, Claim)>,
    ) {
        if let Some(entry) = self.documents.get_mut(document) {
            if entry.tickets.is_empty() && entry.held().is_some() {
                self.claiming.leaving.remove(&(entry.due_us, document.clone()));
            }
            entry.tickets.push(ticket);
            if let Some(claim) = entry.claim() {
                self.decide(document, ticket, Decision::Held { claim, is_new: false });
            }
            return;
        }
        if self.is_out_of_reach() || self.claiming.waiting.len() >= WAITING {
            return self.decide(document, ticket, Decision::TryAgain);
        }
        let state = self.claiming.wait(document.clone());
        self.documents.insert(
            document.clone(),
            Entry { tickets: vec![ticket], state, left_us: 0, due_us: 0, max_documents, moves },
        );
        self.send_claims();
    }

    /// A hold is over: the document is closed. What is not known is left already, or lost.
    pub fn leave(&mut self, document: &DocumentName, ticket: Ticket) {
        self.leave_at(document, ticket, self.now_us + self.linger_us());
    }

    /// As [`Self::leave`], and if nobody else has it the registry is told at once: it is being moved, and whoever moves it waits for
    /// all who hold it.
    pub fn give_back(&mut self, document: &DocumentName, ticket: Ticket) {
        self.leave_at(document, ticket, self.now_us);
    }

    /// It is being moved: if it is held for those alone who may come back, it is given back at once.
    pub fn give_back_left(&mut self, document: &DocumentName) {
        let Some(entry) = self.documents.get_mut(document) else { return };
        if !entry.tickets.is_empty() || entry.held().is_none() {
            return;
        }
        self.claiming.leaving.remove(&(entry.due_us, document.clone()));
        entry.due_us = self.now_us;
        self.claiming.leaving.insert((entry.due_us, document.clone()));
        self.release_left();
        self.send_releases();
    }

    fn leave_at(&mut self, document: &DocumentName, ticket: Ticket, due_us: u64) {
        let Some(entry) = self.documents.get_mut(document) else { return };
        let Some(at) = entry.tickets.iter().position(|held| *held == ticket) else { return };
        entry.tickets.remove(at);
        if !entry.tickets.is_empty() {
            return;
        }
        match entry.state {
            State::Waiting(place) => {
                self.claiming.waiting.remove(&place);
                self.documents.remove(document);
            }
            // Its answer decides what is to be done.
            State::Asked => {}
            State::Held(_) => {
                (entry.left_us, entry.due_us) = (self.now_us, due_us);
                self.claiming.leaving.insert((due_us, document.clone()));
                self.release_left();
            }
        }
        self.send_releases();
    }

    /// How long a document that was left is still held: who reloads a page finds it without a claim.
    fn linger_us(&self) -> u64 {
        (self.settings.grace_us / LINGER).min(LINGER_MAX_US)
    }

    /// Gives back what was left a while ago. While the registry does not answer nothing is: what is held can be taken up again
    /// without a claim, which could not be had then.
    pub(crate) fn release_left(&mut self) {
        while self.can_ask() {
            let Some((due_us, document)) = self.claiming.leaving.pop_first() else { return };
            if due_us > self.now_us {
                self.claiming.leaving.insert((due_us, document));
                return;
            }
            let Some(Entry { left_us, state: State::Held(held), .. }) = self.documents.remove(&document)
            else {
                continue;
            };
            self.assertions.remove(&document);
            self.release_since(document, held.hold, held.is_unsure, left_us);
        }
    }

    /// When the next of those that were left is to be given back.
    pub(crate) fn leaving_deadline_us(&self) -> u64 {
        self.claiming.leaving.first().filter(|_| self.can_ask()).map_or(u64::MAX, |(due_us, _)| *due_us)
    }

    /// The region's session store has a document under a higher claim than the node. Somebody of the region was granted it, and
    /// the registry forgot; or it has been pinned anew since the node held it. It is asserted, and the registry decides.
    pub fn fenced(&mut self, document: &DocumentName, claim: Claim) {
        let held = self.documents.get_mut(document).and_then(Entry::held_mut);
        if let Some(held) = held.filter(|held| held.claim < claim) {
            held.seen = Some(claim);
            self.assertions.add(document.clone());
            self.send_asserts();
        }
    }

    pub(crate) fn send_claims(&mut self) {
        while self.can_claim() && self.claiming.under_way < UNDER_WAY {
            let Some((_, document)) = self.claiming.waiting.pop_first() else { return };
            let Some(entry) = self.documents.get_mut(&document) else { continue };
            self.holds += 1;
            let (hold, nonce) = (self.holds, self.rng.u64(..));
            entry.state = State::Asked;
            let (node, grace_us) = (self.me.node.clone(), self.settings.grace_us);
            let request = match entry.moves {
                Some((claim, to)) => {
                    Request::Move { document: document.clone(), claim, to, node, hold, grace_us }
                }
                None => {
                    let max_documents = entry.max_documents;
                    Request::Claim { document: document.clone(), node, nonce, hold, max_documents, grace_us }
                }
            };
            self.claiming.under_way += 1;
            self.ask(What::Claim { document, hold }, request);
        }
    }

    pub(crate) fn claim_answered(
        &mut self,
        document: &DocumentName,
        hold: Hold,
        is_current: bool,
        answer: Answer,
    ) {
        self.claiming.under_way -= 1;
        let Answer::Claimed(claimed) = answer else { return self.end_claim(document, &Decision::TryAgain) };
        if !is_current {
            // Whatever an earlier life was granted went with it.
            return self.claim_again(document);
        }
        match claimed {
            Claimed::Held { claim, is_new } => self.claim_granted(document, hold, claim, is_new),
            Claimed::Elsewhere(owner) => self.end_claim(document, &Decision::Elsewhere(owner)),
            Claimed::Limit { active } => self.end_claim(document, &Decision::Limit { active }),
            Claimed::Stale => self.end_claim(document, &Decision::Stale),
            Claimed::Unknown => {
                self.claim_again(document);
                self.begin_anew();
            }
        }
    }

    fn claim_granted(&mut self, document: &DocumentName, hold: Hold, claim: Claim, is_new: bool) {
        let Some(entry) = self.documents.get_mut(document) else { return };
        if entry.tickets.is_empty() {
            self.documents.remove(document);
            return self.release(document.clone(), hold, false);
        }
        entry.state = State::Held(Held { claim, hold, is_unsure: false, seen: None });
        let first = entry.tickets[0];
        let decided = entry.tickets.iter().map(|&ticket| {
            let decision = Decision::Held { claim, is_new: is_new && ticket == first };
            Effect::Decided(document.clone(), ticket, decision)
        });
        self.effects.extend(decided);
    }

    fn claim_again(&mut self, document: &DocumentName) {
        let Some(entry) = self.documents.get_mut(document) else { return };
        if entry.tickets.is_empty() {
            self.documents.remove(document);
        } else {
            entry.state = self.claiming.wait(document.clone());
        }
    }

    /// It may have been granted, or be granted later: released then, whatever it was.
    pub(crate) fn claim_failed(&mut self, document: &DocumentName, hold: Hold, is_current: bool) {
        self.claiming.under_way -= 1;
        self.end_claim(document, &Decision::TryAgain);
        if is_current {
            self.release(document.clone(), hold, true);
            self.doubt();
        }
    }

    fn end_claim(&mut self, document: &DocumentName, decision: &Decision) {
        let Some(entry) = self.documents.remove(document) else { return };
        for ticket in entry.tickets {
            self.decide(document, ticket, decision.clone());
        }
    }

    /// Everybody who waits comes again later.
    pub(crate) fn refuse_waiting(&mut self) {
        for document in std::mem::take(&mut self.claiming.waiting).into_values() {
            self.end_claim(&document, &Decision::TryAgain);
        }
    }

    /// A document belongs to this claim, unless the node has a higher one: what the registry said may be older than what it
    /// granted since.
    pub(crate) fn yield_to(&mut self, document: &DocumentName, owner: &Owner) {
        let held = self.documents.get(document).and_then(Entry::held).copied();
        let Some(held) = held.filter(|held| held.claim < owner.claim) else { return };
        if owner.region == self.me.node.region {
            self.take_over(document, held.hold, owner.claim);
        } else {
            self.lose(document, held.hold, owner);
        }
    }

    pub(crate) fn lose(&mut self, document: &DocumentName, hold: Hold, owner: &Owner) {
        let held = self.documents.get(document).and_then(Entry::held).copied();
        let Some(held) = held.filter(|held| held.hold == hold) else { return };
        self.assertions.remove(document);
        if let Some(entry) = self.documents.remove(document) {
            if entry.tickets.is_empty() {
                self.claiming.leaving.remove(&(entry.due_us, document.clone()));
            }
            let lost = entry.tickets.into_iter();
            self.effects.extend(lost.map(|ticket| Effect::Lost(document.clone(), ticket, owner.clone())));
        }
        // What belongs to nobody waits for those who held it.
        if held.is_unsure || owner.is_nobody() {
            self.release(document.clone(), hold, held.is_unsure);
            self.send_releases();
        }
    }

    fn decide(&mut self, document: &DocumentName, ticket: Ticket, decision: Decision) {
        self.effects.push_back(Effect::Decided(document.clone(), ticket, decision));
    }
}

#[cfg(test)]
mod tests {
    use super::{UNDER_WAY, WAITING};
    use crate::bench::{Bench, SECOND, claim, document, elsewhere, renewal};
    use crate::{Decision, Effect, Ticket};
    use pinwire_registry::{Answer, Claimed, Renewed, Request};

    fn held(epoch: u64) -> Answer {
        Answer::Claimed(Claimed::Held { claim: claim(epoch), is_new: true })
    }

    #[test]
    fn a_claim_is_answered_with_what_the_registry_says() {
        let mut bench = Bench::living();
        let cases = [
            (Claimed::Elsewhere(elsewhere(3)), Decision::Elsewhere(elsewhere(3))),
            (Claimed::Limit { active: 7 }, Decision::Limit { active: 7 }),
            (Claimed::Stale, Decision::Stale),
            (
                Claimed::Held { claim: claim(1), is_new: false },
                Decision::Held { claim: claim(1), is_new: false },
            ),
        ];
        for (ticket, (claimed, decision)) in cases.into_iter().enumerate() {
            bench.hold("d", ticket as u64);
            let (ask, _) = bench.asked();
            bench.answer(ask, Answer::Claimed(claimed));
            assert_eq!(bench.decided(ticket as u64), Some(decision));
        }
    }

    #[test]
    fn who_comes_while_a_claim_is_under_way_shares_it() {
        let mut bench = Bench::living();
        bench.hold("d", 1);
        bench.hold("d", 2);
        let (ask, _) = bench.asked();
        assert!(bench.asks.is_empty());
        bench.answer(ask, held(1));
        assert_eq!(bench.decided(1), Some(Decision::Held { claim: claim(1), is_new: true }));
        assert_eq!(bench.decided(2), Some(Decision::Held { claim: claim(1), is_new: false }));
        bench.leave("d", 1);
        assert!(bench.asks.is_empty(), "somebody is left");
        bench.leave("d", 2);
        bench.after(SECOND);
        // Its grace began when it was left.
        assert!(matches!(bench.asked().1, Request::Release { grace_us, .. } if grace_us == 9 * SECOND));
    }

    #[test]
    fn who_reloads_a_page_finds_the_document_without_a_claim() {
        let mut bench = Bench::living();
        bench.has("d", 1, claim(1));
        for ticket in 1..4 {
            bench.leave("d", ticket);
            bench.after(SECOND / 2);
            bench.hold("d", ticket + 1);
            let held = Decision::Held { claim: claim(1), is_new: false };
            assert_eq!(bench.decided(ticket + 1), Some(held));
        }
        bench.leave("d", 1);
        bench.after(2 * SECOND);
        assert!(bench.asks.is_empty());
        assert_eq!(bench.pins.len(), 1);
    }

    #[test]
    fn what_is_given_back_does_not_linger() {
        let mut bench = Bench::living();
        bench.has("d", 1, claim(1));
        bench.leave("d", 1);
        // Its page is reloaded, and meanwhile it is being moved.
        bench.hold("d", 2);
        bench.hold("d", 3);
        bench.pins.give_back(&document("d"), Ticket(2));
        bench.at(bench.now);
        assert!(bench.asks.is_empty(), "somebody is left");
        bench.pins.give_back(&document("d"), Ticket(3));
        bench.at(bench.now);
        assert!(matches!(bench.asked().1, Request::Release { hold: 1, .. }));
        assert!(bench.pins.is_empty());
    }

    #[test]
    fn what_is_held_for_those_alone_who_may_come_back_is_given_back_for_a_move() {
        let mut bench = Bench::living();
        bench.has("d", 1, claim(1));
        bench.has("e", 2, claim(2));
        bench.leave("d", 1);
        for name in ["d", "e", "unknown"] {
            bench.pins.give_back_left(&document(name));
        }
        bench.at(bench.now);
        let (_, request) = bench.asked();
        let Request::Release { document: left, hold: 1, .. } = request else { panic!("{request:?}") };
        assert_eq!(left, document("d"));
        assert!(bench.asks.is_empty(), "somebody has the other one open");
        // It was all of it: nothing is due later.
        bench.hold("d", 3);
        bench.after(2 * SECOND);
        assert!(matches!(bench.asked().1, Request::Claim { .. }));
        assert!(bench.asks.is_empty());
    }

    #[test]
    fn what_was_given_back_while_the_registry_is_away_can_be_taken_up_again() {
        let mut bench = Bench::living();
        bench.has("d", 1, claim(1));
        bench.at(bench.pins.next_deadline_us());
        let (ask, _) = bench.asked();
        bench.fail(ask);
        bench.pins.give_back(&document("d"), Ticket(1));
        bench.hold("d", 2);
        assert_eq!(bench.decided(2), Some(Decision::Held { claim: claim(1), is_new: false }));
        bench.at(bench.pins.next_deadline_us());
        bench.renewed("a");
        bench.after(2 * SECOND);
        assert!(bench.asks.is_empty());
        assert_eq!(bench.pins.len(), 1);
    }

    #[test]
    fn what_was_left_while_the_registry_is_away_is_held_until_it_is_back() {
        let mut bench = Bench::living();
        bench.has("d", 1, claim(1));
        bench.has("e", 2, claim(2));
        bench.at(bench.pins.next_deadline_us());
        let (ask, _) = bench.asked();
        bench.fail(ask);
        bench.leave("d", 1);
        bench.leave("e", 2);
        for _ in 0..20 {
            bench.at(bench.pins.next_deadline_us());
            let (ask, request) = bench.asked();
            assert!(matches!(request, Request::Renew { .. }), "{request:?}");
            bench.fail(ask);
        }
        bench.hold("d", 3);
        assert_eq!(bench.decided(3), Some(Decision::Held { claim: claim(1), is_new: false }));
        bench.at(bench.pins.next_deadline_us());
        bench.renewed("a");
        let (_, request) = bench.asked();
        let Request::Release { document: left, grace_us, .. } = request else { panic!("{request:?}") };
        assert_eq!((left, grace_us), (document("e"), 0), "its grace is over");
        assert!(bench.asks.is_empty());
    }

    #[test]
    fn what_was_left_and_lost_is_not_given_back() {
        let mut bench = Bench::living();
        bench.has("d", 1, claim(1));
        bench.leave("d", 1);
        bench.pins.yield_to(&document("d"), &elsewhere(2));
        bench.hold("d", 2);
        bench.after(SECOND);
        let (_, request) = bench.asked();
        assert!(matches!(request, Request::Claim { .. }), "{request:?}");
        assert!(bench.asks.is_empty());
    }

    #[test]
    fn what_was_given_back_and_lost_takes_no_later_claim_along() {
        let mut bench = Bench::living();
        bench.has("d", 1, claim(1));
        bench.at(bench.pins.next_deadline_us());
        let (ask, _) = bench.asked();
        bench.fail(ask);
        bench.pins.give_back(&document("d"), Ticket(1));
        // The registry answers again, another server perhaps: another region has it.
        bench.at(bench.pins.next_deadline_us());
        let (ask, _) = bench.asked();
        let lost = vec![(document("d"), elsewhere(2))];
        bench.answer(ask, Answer::Renewed(Renewed { lost, ..renewal("b") }));
        bench.hold("d", 2);
        bench.renewed("b");
        let (ask, request) = bench.asked();
        assert!(matches!(request, Request::Claim { .. }), "{request:?}");
        bench.answer(ask, held(3));
        assert!(matches!(bench.decided(2), Some(Decision::Held { .. })));
        assert!(bench.asks.is_empty(), "{:?}", bench.asks);
    }

    #[test]
    fn what_is_left_while_it_is_claimed_is_released() {
        let mut bench = Bench::living();
        bench.hold("d", 1);
        bench.leave("d", 1);
        let (ask, _) = bench.asked();
        bench.answer(ask, held(1));
        assert_eq!(bench.decided(1), None);
        assert!(matches!(bench.asked().1, Request::Release { hold: 1, .. }));
        assert!(bench.pins.is_empty());
    }

    #[test]
    fn who_comes_back_while_it_is_claimed_gets_it() {
        let mut bench = Bench::living();
        bench.hold("d", 1);
        bench.leave("d", 1);
        bench.hold("d", 2);
        bench.leave("d", 2);
        bench.hold("d", 3);
        let (ask, _) = bench.asked();
        bench.answer(ask, held(1));
        assert_eq!(bench.decided(3), Some(Decision::Held { claim: claim(1), is_new: true }));
        assert!(bench.asks.is_empty());
        // A leave of somebody who left before changes nothing.
        bench.leave("d", 1);
        assert_eq!(bench.pins.len(), 1);
    }

    #[test]
    fn a_claim_without_an_answer_is_refused_and_released() {
        let mut bench = Bench::living();
        bench.hold("d", 1);
        let (ask, _) = bench.asked();
        bench.fail(ask);
        assert_eq!(bench.decided(1), Some(Decision::TryAgain));
        // Whether the registry is there is asked first.
        bench.renewed("a");
        let (ask, request) = bench.asked();
        assert!(matches!(request, Request::Release { hold: 1, .. }), "{request:?}");
        // Meanwhile somebody may take it again, with a hold of its own.
        bench.hold("d", 2);
        let (claim, request) = bench.asked();
        assert!(matches!(request, Request::Claim { hold: 2, .. }));
        bench.answer(claim, held(1));
        bench.answer(ask, Answer::Done);
        assert_eq!(bench.pins.len(), 1);
    }

    #[test]
    fn claims_are_bounded_under_way_and_waiting() {
        let mut bench = Bench::living();
        let most = UNDER_WAY + WAITING;
        for number in 0..=most {
            bench.hold(&number.to_string(), number as u64);
        }
        assert_eq!(bench.asks.len(), UNDER_WAY);
        assert_eq!(bench.news.len(), 1);
        assert_eq!(bench.decided(most as u64), Some(Decision::TryAgain));
        let (ask, _) = bench.asked();
        bench.answer(ask, held(1));
        assert_eq!(bench.asks.len(), UNDER_WAY);
        bench.leave("400", 400);
        bench.hold("new", 1);
        assert_eq!(bench.pins.len(), most);
    }

    #[test]
    fn a_claim_of_an_earlier_life_is_made_again() {
        let mut bench = Bench::living();
        bench.hold("d", 1);
        let (early, _) = bench.asked();
        bench.at(bench.pins.next_deadline_us());
        let (renewal_ask, _) = bench.asked();
        bench.answer(renewal_ask, Answer::Unknown);
        bench.answer(early, held(1));
        assert_eq!(bench.decided(1), None);
        let (register, _) = bench.asked();
        bench.answer(register, Answer::Renewed(renewal("a")));
        let (ask, request) = bench.asked();
        assert!(matches!(request, Request::Claim { node, .. } if node == *bench.pins.node()));
        bench.answer(ask, Answer::Claimed(Claimed::Unknown));
        assert!(matches!(bench.asked().1, Request::Register { .. }));
    }

    #[test]
    fn a_claim_that_the_registry_forgot_is_asserted_as_the_store_knows_it() {
        let mut bench = Bench::living();
        bench.has("d", 1, claim(4));
        bench.pins.fenced(&document("d"), claim(3));
        bench.pins.fenced(&document("d"), claim(6));
        bench.at(bench.now);
        bench.asserted(|_, asserted| {
            assert_eq!(asserted, claim(6));
            pinwire_registry::Asserted::Held(asserted)
        });
        assert_eq!(bench.news, [Effect::Reclaimed(document("d"), Ticket(1), claim(6))]);
        assert!(bench.asks.is_empty());
    }

    #[test]
    fn a_document_that_is_moved_here_is_asked_for_as_such() {
        let mut bench = Bench::living();
        bench.pins.move_here(&document("d"), Ticket(1), claim(4), claim(6));
        bench.at(bench.now);
        let (ask, request) = bench.asked();
        assert!(
            matches!(request, Request::Move { claim: from, to, .. } if (from, to) == (claim(4), claim(6)))
        );
        bench.answer(ask, Answer::Claimed(Claimed::Stale));
        assert_eq!(bench.news, [Effect::Decided(document("d"), Ticket(1), Decision::Stale)]);
    }
}
