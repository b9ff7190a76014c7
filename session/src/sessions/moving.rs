//! Documents that are being moved to another region.
//!
//! From the moment that a node hears of it, by a notice or because the store takes nothing any more, it adds nothing to the
//! history; edits go on among its own clients, and their acknowledgements wait. It tells the store so once all that it ever said
//! to be stored is in the history that it knows. The registry decides what became of it, and is asked once the store says
//! that it has, or after a time.

use super::document::{Early, Id, Leaving, Phase};
use super::{Sessions, Timer};
use crate::Reply;
use pinwire_registry::{Claim, DocumentName};

/// For how long a move may take, in microseconds: then the nodes of the region ask the registry to go on with the document, which a
/// late move does not outdo.
pub const MOVE_PATIENCE_US: u64 = 8_000_000;

impl Sessions {
    /// Nothing is added to a document's history: it may be on its way to another region, or belong to a newer claim.
    #[must_use]
    pub fn is_frozen(&self, document: &DocumentName) -> bool {
        let held = self.held(document);
        held.is_some_and(|held| matches!(held.phase, Phase::Moving | Phase::Fenced))
    }

    /// The session was fenced with this.
    pub(super) fn moves(&mut self, id: Id, fence: Claim) {
        let Some(held) = self.get(id) else { return };
        if !held.is_followed() || fence <= held.claim {
            return;
        }
        if let Some(leaving) = held.leaving.as_mut().filter(|leaving| leaving.fence == fence) {
            // A store that had forgotten it was told again.
            leaving.is_said = false;
        } else {
            held.phase = Phase::Moving;
            (held.unsaid, held.rebase) = (None, None);
            self.stats.moves += 1;
            let until_us = self.timer(MOVE_PATIENCE_US, Timer::Moving(id));
            let Some(held) = self.get(id) else { return };
            held.leaving = Some(Leaving { fence, until_us, is_said: false });
        }
        self.queue(id);
    }

    pub(super) fn told_of_move(&mut self, document: &DocumentName, hold: u64, fence: Claim) {
        if !self.names.contains_key(document) {
            // The move waits for a holder that is none.
            return self.is_stray(document, fence);
        }
        let Some((id, held)) = self.find(document) else { return };
        if held.phase != Phase::Opening {
            // Whatever hold the store knows, one of before it failed over perhaps: what it is moved with is compared.
            self.moves(id, fence);
        } else if held.hold == hold {
            held.keep_early(Early::Moving(fence));
        } else if held.hold > hold {
            // It waits for one that is over, and whose place the open will not take.
            self.give_up(document, fence, hold);
        }
    }

    pub(super) fn told_of_end(&mut self, document: &DocumentName, hold: u64, fence: Claim) {
        if let Some((id, held)) = self.find(document)
            && held.hold == hold
        {
            self.fence(id, fence);
        }
    }

    pub(super) fn agreed(&mut self, id: Id, reply: Option<&Reply>) {
        let Some(held) = self.get(id) else { return };
        held.is_asking = false;
        if let Some(leaving) = &mut held.leaving {
            leaving.is_said = reply.is_some();
            if let Some(Reply::Fenced(claim)) = reply {
                self.fence(id, *claim);
            }
        }
        self.queue(id);
    }

    /// Nobody said what became of it.
    pub(super) fn move_is_over(&mut self, id: Id, at_us: u64) {
        let Some(held) = self.get(id) else { return };
        if let Some(leaving) = held.leaving.filter(|leaving| leaving.until_us == at_us) {
            self.fence(id, leaving.fence);
        }
    }
}
