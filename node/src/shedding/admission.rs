//! What data threads read before they let somebody in: words, and no lock.

use std::sync::atomic::{AtomicU64, Ordering};

use pinwire_shed::{Budget, Rung};

use super::ChangeId;
use super::names::OpenNames;

/// Below the change's number.
const RUNG_BITS: u32 = 8;

/// Who may come in now. One for all threads of a node.
#[derive(Debug)]
pub(crate) struct Admission {
    life: u32,
    /// The rung, and above it the number of the change that led there.
    word: AtomicU64,
    /// Handshakes.
    pub(crate) budget: Budget,
    /// Names of documents that are open on some thread.
    pub(crate) names: OpenNames,
    /// Documents that were not opened for [`Rung::NoNewDocuments`].
    pub(crate) documents_refused: AtomicU64,
}

impl Admission {
    /// Everybody may, so many in a second.
    pub(crate) fn new(life: u32, per_second: f64) -> Self {
        Self {
            life,
            word: AtomicU64::new(0),
            budget: Budget::new(per_second),
            names: OpenNames::default(),
            documents_refused: AtomicU64::new(0),
        }
    }

    /// See [`ChangeId::life`].
    pub(crate) fn life(&self) -> u32 {
        self.life
    }

    pub(crate) fn publish(&self, rung: Rung, change: u64) {
        self.word.store(change << RUNG_BITS | u64::from(rung as u8), Ordering::Relaxed);
    }

    /// What the node still does.
    pub(crate) fn rung(&self) -> Rung {
        let rung = self.word.load(Ordering::Relaxed) as u8;
        Rung::ALL.into_iter().find(|known| *known as u8 == rung).unwrap_or_default()
    }

    /// What made it so.
    pub(crate) fn change(&self) -> ChangeId {
        ChangeId { life: self.life, number: self.word.load(Ordering::Relaxed) >> RUNG_BITS }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_says_what_was_published() {
        let admission = Admission::new(0xa, 1.0);
        assert_eq!((admission.rung(), admission.change().to_string()), (Rung::Serving, "0000000a-0".into()));
        for (change, rung) in (1..).zip(Rung::ALL) {
            admission.publish(rung, change);
            assert_eq!((admission.rung(), admission.change().number), (rung, change));
        }
    }
}
