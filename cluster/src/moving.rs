//! A document that comes from another region, step by step, as a node of the region drives it that the document moves to.
//!
//! ```text
//! locate ──► hand over ──► locate ──► import ──► move ──► settle
//!            the region it     has everybody   this region's   the registry,   the region it was of asks the
//!            is of: nothing    stopped who     sessions have   if it is as     registry what came of it
//!            is added any      holds it?       it under the    it was located
//!            more                              new claim
//! ```
//!
//! Who holds the document is known to the registry and to the sessions of its region, and each may have forgotten somebody. So a document
//! is taken over only if everybody has stopped whom the registry knows once the session is frozen: whoever has it claimed later finds it
//! so. Who has not stopped is told, and waited for a little: he may have nobody there any more and still hold it for those who come
//! back at once, or be leaving it, or be refused by the frozen session.
//!
//! Only the registry's step decides, and it does so once: it compares the claim under which the document was handed over. The region
//! that the document is of may at any time assert the claim of its fence, and goes on then: a move that comes after that is stale.
//! Before that step nothing was given up but time, after it everything is where the new claim is looked for.

use crate::Decision;
use pinwire_registry::{Claim, Node, Pin, Region};
use std::sync::Arc;

/// What to do next; answered by [`Mover::next`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask the registry where it is: [`Came::Located`].
    Locate,
    /// Have a node of the region that has it freeze the session and hand over what is in it: [`Came::Handed`].
    HandOver {
        /// Which region.
        from: Region,
        /// Nodes that hold the document: none in its grace.
        holders: Vec<Node>,
        /// Under which claim.
        claim: Claim,
        /// The claim of the fence.
        fence: Claim,
    },
    /// Let so many milliseconds pass: [`Came::Through`].
    Wait(u64),
    /// Tell these nodes that it is being moved, so that they give it back if nobody is there who has it open, and let so many
    /// milliseconds pass: [`Came::Through`], whether they heard it or not.
    Press(Vec<Node>, u64),
    /// Write it into this region's sessions under this claim: [`Came::Imported`].
    Import(Claim),
    /// Have the registry move it: [`Came::Decided`].
    Move {
        /// If it is held under this claim.
        claim: Claim,
        /// To this one.
        to: Claim,
    },
    /// Remove what was imported: [`Came::Through`], whatever came of it, for a session that nobody holds has an end anyway.
    Remove(Claim),
    /// Tell the region that it was of that it is decided: [`Came::Through`], whether it was heard or not.
    Settle,
    /// That is all.
    Done(Outcome),
}

/// What came of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Came {
    /// Where the document is, if it is active; or the registry did not answer.
    Located(Option<Option<Pin>>),
    /// It was handed over, by nodes of these names that had it and have stopped; or why not.
    Handed(Result<Vec<Arc<str>>, Unmoved>),
    /// It was imported, or why not.
    Imported(Result<(), Unmoved>),
    /// What the registry decided.
    Decided(Decision),
    /// The step is over.
    Through,
}

/// What a move came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The document is in this region.
    Moved {
        /// Where it was.
        from: Region,
        /// Under which claim it is held.
        claim: Claim,
    },
    /// It was already.
    Here(Claim),
    /// It is where it was.
    Unmoved(Unmoved),
}

/// Why a document was not moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unmoved {
    /// Nobody has it.
    #[error("the document is idle")]
    Idle,
    /// The registry did not answer before anything was done.
    #[error("the registry did not answer")]
    OutOfReach,
    /// The registry did not answer when it was to move the document: it may have done so.
    #[error("the registry did not answer: whether the document was moved is not known")]
    Unsure,
    /// No node of the region that has it could be reached, or the link broke.
    #[error("no node of the region that has the document could be reached")]
    Unreached,
    /// That region keeps no sessions that could be handed over, or its store does not answer.
    #[error("the region that has the document cannot hand it over: its sessions are out of reach")]
    NoSession,
    /// The node of that region is too old to say who has stopped, and somebody holds it.
    #[error(
        "the nodes of the region that has the document are of an older version, which does not say who has stopped"
    )]
    Older,
    /// A node of that region did not stop in time.
    #[error("a node that holds the document did not stop in time")]
    NotReady,
    /// Somebody else moves it, or it has been pinned anew.
    #[error("the document is being moved already, or was pinned anew meanwhile")]
    Stale,
    /// Too many documents are being moved.
    #[error("too many documents are being moved")]
    Busy,
    /// This region's sessions have no room.
    #[error("the region's sessions have no room for the document")]
    Full,
    /// This region's sessions do not answer.
    #[error("the region's sessions did not answer")]
    StoreAway,
}

#[derive(Clone, Debug)]
enum Phase {
    New,
    Locating,
    Handing(Region),
    /// The registry is asked who holds it.
    Asking(Frozen),
    /// Somebody does who has not stopped: after a while it is asked again.
    Waiting(Frozen),
    Importing(Region),
    Deciding(Region),
    Resting(Region),
    Removing(Unmoved),
    Settling(Outcome),
    Done,
}

/// A document that this region has handed over, and the names of the nodes that held it and have stopped.
#[derive(Clone, Debug)]
struct Frozen(Region, Vec<Arc<str>>);

/// See the module's documentation. Deterministic.
#[derive(Clone, Debug)]
pub struct Mover {
    here: Region,
    nonces: [u64; 2],
    claim: Claim,
    /// Times that the registry is asked once more.
    again: u8,
    phase: Phase,
}

/// How often the registry is asked once more: since somebody has not stopped whom it takes for a holder, or since the answer was one
/// to a client that came at the same time.
const AGAIN: u8 = 7;
/// The first wait before that, in milliseconds; each next is twice as long, and each is up to half as long again.
const WAIT_MS: u64 = 12;

impl Mover {
    /// A move to region `here`. `nonces`: random.
    #[must_use]
    pub fn new(here: Region, nonces: [u64; 2]) -> Self {
        Self { here, nonces, claim: Claim::default(), again: AGAIN, phase: Phase::New }
    }

    /// The first step.
    pub fn begin(&mut self) -> Step {
        self.phase = Phase::Locating;
        Step::Locate
    }

    /// The next step after what came of the last one.
    pub fn next(&mut self, came: Came) -> Step {
        match (std::mem::replace(&mut self.phase, Phase::Done), came) {
            (Phase::Locating, Came::Located(found)) => self.located(found),
            // Who opened it since it was located is known to the registry, and perhaps no more to the sessions.
            (Phase::Handing(from), Came::Handed(Ok(stopped))) => self.locate_again(Frozen(from, stopped)),
            (Phase::Handing(_), Came::Handed(Err(why))) => self.settle(Outcome::Unmoved(why)),
            (Phase::Waiting(frozen), _) => self.locate_again(frozen),
            (Phase::Asking(frozen), Came::Located(found)) => self.located_again(frozen, found),
            (Phase::Importing(from), Came::Imported(Ok(()))) => {
                self.phase = Phase::Deciding(from);
                Step::Move { claim: self.claim, to: self.to() }
            }
            (Phase::Importing(_), Came::Imported(Err(why))) => self.remove(why),
            (Phase::Deciding(from), Came::Decided(decision)) => self.decided(from, &decision),
            (Phase::Resting(from), _) => {
                self.phase = Phase::Deciding(from);
                Step::Move { claim: self.claim, to: self.to() }
            }
            (Phase::Removing(why), _) => self.settle(Outcome::Unmoved(why)),
            (Phase::Settling(outcome), _) => Step::Done(outcome),
            // Nothing else is asked.
            _ => Step::Done(Outcome::Unmoved(Unmoved::Stale)),
        }
    }

    /// The other region is asked to hand the document over.
    #[must_use]
    pub fn is_handing(&self) -> bool {
        matches!(self.phase, Phase::Handing(_))
    }

    /// It is being written into this region's sessions.
    #[must_use]
    pub fn is_importing(&self) -> bool {
        matches!(self.phase, Phase::Importing(_))
    }

    /// Between the claim that the document is held under and that it is moved to: the region that it is of goes on under it if
    /// the move does not come to be.
    fn fence(&self) -> Claim {
        Claim { epoch: self.claim.epoch + 1, nonce: self.nonces[0] }
    }

    fn to(&self) -> Claim {
        Claim { epoch: self.claim.epoch + 2, nonce: self.nonces[1] }
    }

    fn located(&mut self, found: Option<Option<Pin>>) -> Step {
        let pin = match found {
            None => return Step::Done(Outcome::Unmoved(Unmoved::OutOfReach)),
            Some(None) => return Step::Done(Outcome::Unmoved(Unmoved::Idle)),
            Some(Some(pin)) => pin,
        };
        if pin.owner.region == self.here {
            return Step::Done(Outcome::Here(pin.owner.claim));
        }
        self.claim = pin.owner.claim;
        self.phase = Phase::Handing(pin.owner.region.clone());
        let (claim, fence) = (self.claim, self.fence());
        Step::HandOver { from: pin.owner.region, holders: pin.nodes, claim, fence }
    }

    fn locate_again(&mut self, frozen: Frozen) -> Step {
        self.phase = Phase::Asking(frozen);
        Step::Locate
    }

    fn located_again(&mut self, frozen: Frozen, found: Option<Option<Pin>>) -> Step {
        let Some(found) = found else { return self.settle(Outcome::Unmoved(Unmoved::OutOfReach)) };
        let Some(pin) = found.filter(|pin| pin.owner.claim == self.claim) else {
            return self.settle(Outcome::Unmoved(Unmoved::Stale));
        };
        let Frozen(from, stopped) = &frozen;
        let mut left = pin.nodes;
        left.retain(|node| !stopped.contains(&node.name));
        if left.is_empty() {
            self.phase = Phase::Importing(from.clone());
            return Step::Import(self.to());
        }
        if self.again == 0 {
            return self.settle(Outcome::Unmoved(Unmoved::NotReady));
        }
        self.phase = Phase::Waiting(frozen);
        Step::Press(left, self.wait_ms())
    }

    /// So that many who wait for the same do not come at the same time again.
    fn wait_ms(&mut self) -> u64 {
        self.again -= 1;
        let tried = AGAIN - 1 - self.again;
        let most = WAIT_MS << tried;
        most + (self.nonces[0] >> (8 * tried)) % (most / 2 + 1)
    }

    fn decided(&mut self, from: Region, decision: &Decision) -> Step {
        match decision {
            Decision::Held { claim, .. } if *claim == self.to() => {
                self.settle(Outcome::Moved { from, claim: *claim })
            }
            Decision::Elsewhere(owner) if owner.claim == self.claim && self.again > 0 => {
                self.phase = Phase::Resting(from);
                Step::Wait(self.wait_ms())
            }
            // It may be done all the same, so what was imported stays for as long as a session that nobody holds.
            Decision::TryAgain => self.settle(Outcome::Unmoved(Unmoved::Unsure)),
            _ => self.remove(Unmoved::Stale),
        }
    }

    fn remove(&mut self, why: Unmoved) -> Step {
        self.phase = Phase::Removing(why);
        Step::Remove(self.to())
    }

    fn settle(&mut self, outcome: Outcome) -> Step {
        self.phase = Phase::Settling(outcome);
        Step::Settle
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{claim, document, elsewhere};

    fn begun() -> Mover {
        let mut mover = Mover::new("here".into(), [3, 4]);
        assert_eq!(mover.begin(), Step::Locate);
        mover
    }

    fn pin(epoch: u64) -> Came {
        let owner = elsewhere(epoch);
        Came::Located(Some(Some(Pin { document: document("d"), owner, nodes: Vec::new(), grace: None })))
    }

    /// A move whose document was handed over and imported.
    fn imported() -> (Mover, Claim, Claim) {
        let mut mover = begun();
        let Step::HandOver { claim, fence, .. } = mover.next(pin(4)) else { panic!("not handed over") };
        assert_eq!(mover.next(Came::Handed(Ok(Vec::new()))), Step::Locate);
        let Step::Import(to) = mover.next(pin(4)) else { panic!("not imported") };
        assert!(claim < fence && fence < to, "a region that goes on gives way to a move that was before");
        assert_eq!(mover.next(Came::Imported(Ok(()))), Step::Move { claim, to });
        (mover, claim, to)
    }

    #[test]
    fn it_is_written_here_before_the_registry_moves_it() {
        let (mut mover, _, to) = imported();
        assert_eq!(mover.next(Came::Decided(Decision::Held { claim: to, is_new: false })), Step::Settle);
        let from = elsewhere(4).region;
        assert_eq!(mover.next(Came::Through), Step::Done(Outcome::Moved { from, claim: to }));
    }

    #[test]
    fn what_was_written_is_removed_if_the_registry_does_not_move_it() {
        for decision in [Decision::Stale, Decision::Elsewhere(elsewhere(9)), Decision::Limit { active: 1 }] {
            let (mut mover, _, to) = imported();
            assert_eq!(mover.next(Came::Decided(decision)), Step::Remove(to));
            assert_eq!(mover.next(Came::Through), Step::Settle);
            assert_eq!(mover.next(Came::Through), Step::Done(Outcome::Unmoved(Unmoved::Stale)));
        }
    }

    #[test]
    fn a_client_that_comes_at_the_same_time_does_not_keep_it_from_being_moved() {
        let (mut mover, claim, to) = imported();
        let mut waited = 0;
        for _ in 0..AGAIN {
            let step = mover.next(Came::Decided(Decision::Elsewhere(elsewhere(4))));
            let Step::Wait(wait_ms) = step else { panic!("it is asked again at once") };
            assert!(wait_ms > waited, "longer and longer");
            waited = wait_ms;
            assert_eq!(mover.next(Came::Through), Step::Move { claim, to });
        }
        assert_eq!(mover.next(Came::Decided(Decision::Elsewhere(elsewhere(4)))), Step::Remove(to));
    }

    #[test]
    fn movers_that_wait_for_the_same_do_not_come_together() {
        let wait = |nonce| {
            let mut mover = Mover { nonces: [nonce, 4], ..begun() };
            mover.next(pin(4));
            mover.next(Came::Handed(Ok(Vec::new())));
            mover.next(pin(4));
            mover.next(Came::Imported(Ok(())));
            mover.next(Came::Decided(Decision::Elsewhere(elsewhere(4))))
        };
        assert_ne!(wait(3), wait(20));
    }

    fn node(name: &str) -> Node {
        Node { region: elsewhere(4).region, name: name.into(), life: 1 }
    }

    fn held_by(epoch: u64, nodes: &[&str]) -> Came {
        let nodes = nodes.iter().map(|name| node(name)).collect();
        let (document, owner) = (document("d"), elsewhere(epoch));
        Came::Located(Some(Some(Pin { document, owner, nodes, grace: None })))
    }

    /// Whether this node alone is told that it is being moved.
    fn presses(step: Step, name: &str) -> bool {
        matches!(step, Step::Press(nodes, wait_ms) if nodes == [node(name)] && wait_ms > 0)
    }

    /// A move of a document that the registry says two nodes hold, of which one has stopped.
    fn half_stopped() -> Mover {
        let mut mover = begun();
        assert!(matches!(mover.next(held_by(4, &["one", "two"])), Step::HandOver { .. }));
        assert_eq!(mover.next(Came::Handed(Ok(vec!["one".into()]))), Step::Locate);
        mover
    }

    #[test]
    fn a_holder_that_the_sessions_have_forgotten_keeps_a_document_where_it_is() {
        let mut mover = half_stopped();
        for _ in 0..AGAIN {
            assert!(presses(mover.next(held_by(4, &["one", "two"])), "two"));
            assert_eq!(mover.next(Came::Through), Step::Locate);
        }
        assert_eq!(mover.next(held_by(4, &["one", "two"])), Step::Settle);
        assert_eq!(mover.next(Came::Through), Step::Done(Outcome::Unmoved(Unmoved::NotReady)));
    }

    #[test]
    fn a_holder_that_is_leaving_is_waited_for() {
        let mut mover = half_stopped();
        assert!(presses(mover.next(held_by(4, &["one", "two"])), "two"));
        assert_eq!(mover.next(Came::Through), Step::Locate);
        assert!(matches!(mover.next(held_by(4, &["one"])), Step::Import(_)));
    }

    #[test]
    fn who_opened_a_document_after_it_was_located_has_to_stop_too() {
        let mut mover = begun();
        mover.next(held_by(4, &["one"]));
        assert_eq!(mover.next(Came::Handed(Ok(vec!["one".into()]))), Step::Locate);
        assert!(presses(mover.next(held_by(4, &["one", "late"])), "late"), "the sessions forgot it");
        // And who is known to the sessions has.
        let mut mover = begun();
        mover.next(held_by(4, &["one"]));
        assert_eq!(mover.next(Came::Handed(Ok(vec!["one".into(), "late".into()]))), Step::Locate);
        assert!(matches!(mover.next(held_by(4, &["one", "late"])), Step::Import(_)));
    }

    #[test]
    fn a_document_that_was_pinned_anew_meanwhile_is_not_taken_over() {
        for (found, why) in [
            (held_by(5, &["one"]), Unmoved::Stale),
            (Came::Located(Some(None)), Unmoved::Stale),
            (Came::Located(None), Unmoved::OutOfReach),
        ] {
            let mut mover = half_stopped();
            assert_eq!(mover.next(found), Step::Settle);
            assert_eq!(mover.next(Came::Through), Step::Done(Outcome::Unmoved(why)));
        }
    }

    #[test]
    fn what_was_written_stays_if_it_may_have_been_moved() {
        let (mut mover, ..) = imported();
        assert_eq!(mover.next(Came::Decided(Decision::TryAgain)), Step::Settle);
        assert_eq!(mover.next(Came::Through), Step::Done(Outcome::Unmoved(Unmoved::Unsure)));
    }

    #[test]
    fn a_region_that_was_frozen_is_told_however_it_ends() {
        let mut mover = begun();
        mover.next(pin(4));
        assert_eq!(mover.next(Came::Handed(Err(Unmoved::NotReady))), Step::Settle);
        let mut mover = begun();
        mover.next(pin(4));
        mover.next(Came::Handed(Ok(Vec::new())));
        let Step::Import(to) = mover.next(pin(4)) else { panic!("not imported") };
        assert_eq!(mover.next(Came::Imported(Err(Unmoved::Full))), Step::Remove(to));
        assert_eq!(mover.next(Came::Through), Step::Settle);
        assert_eq!(mover.next(Came::Through), Step::Done(Outcome::Unmoved(Unmoved::Full)));
    }

    #[test]
    fn what_is_idle_or_here_is_not_moved() {
        assert_eq!(begun().next(Came::Located(Some(None))), Step::Done(Outcome::Unmoved(Unmoved::Idle)));
        assert_eq!(begun().next(Came::Located(None)), Step::Done(Outcome::Unmoved(Unmoved::OutOfReach)));
        let mut owner = elsewhere(4);
        owner.region = "here".into();
        let here = Pin { document: document("d"), owner, nodes: Vec::new(), grace: None };
        assert_eq!(begun().next(Came::Located(Some(Some(here)))), Step::Done(Outcome::Here(claim(4))));
    }
}
