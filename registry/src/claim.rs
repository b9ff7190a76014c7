//! The identity of a pin.

use std::fmt;

/// Identity of a pin: made when a document is pinned (or moved), the same for all nodes of the region that hold it, and kept
/// through grace and through re-assertion. The document's session state in the region's Redis belongs to it.
///
/// It never repeats, even where a fail-over rolled the registry back, since `nonce` is random. The order is `epoch`, then
/// `nonce`: of two claims for one document the higher wins, everywhere. `epoch` is above every epoch that the registry knows
/// of for the document, and at least the registry's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Claim {
    /// Microseconds of Unix time by the registry's clock, or one more than the last.
    pub epoch: u64,
    /// Made by the node that asked.
    pub nonce: u64,
}

impl fmt::Display for Claim {
    /// `{epoch in hexadecimal, 16 digits}-{nonce, likewise}`: texts compare as the claims do.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:016x}-{:016x}", self.epoch, self.nonce)
    }
}
