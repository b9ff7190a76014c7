//! Whether a node may serve, as every thread of it sees that.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a node's lease in one registry came to, as of now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// The node serves until then, by its monotonic clock.
    Valid {
        /// Microseconds.
        until_us: u64,
    },
    /// It ran out and nobody has looked yet: the node was stopped for a while, or it is about to begin anew. Nothing is read,
    /// served or written.
    Unchecked,
    /// It ran out, and the registry is out of reach. Sockets stay open and own clients are relayed among each other; nothing is
    /// claimed, acknowledged or appended.
    Adrift {
        /// Until then by the node's monotonic clock, in microseconds, unless the registry fails to answer once more. Somebody who
        /// was stopped meanwhile has to look first.
        until_us: u64,
    },
}

/// Microseconds of a lease that never ends, and between two renewals of it: a thousand years or more, that can be added to any time.
/// For a node whose registry is its own: there is nobody else to whom its documents could go.
pub const ENDLESS_US: u64 = 1 << 58;

/// What a thread may do now with the documents of one license region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Everything.
    Valid,
    /// See [`Lease::Adrift`].
    Adrift,
    /// See [`Lease::Unchecked`].
    Unchecked,
}

/// A lease as the thread that renews it publishes it to all others: one word, so that time and state belong together.
///
/// Threads look at the start of each turn and before each flush or append. Who then reads news of lost documents has to look
/// *first*: what was lost is told before the lease is published as valid again.
#[derive(Debug, Default)]
pub struct Gate(AtomicU64);

/// The lowest bit of the word: set while the node is adrift. Above it, microseconds; 0: nothing holds.
const ADRIFT: u64 = 1;

impl Gate {
    /// Called by the thread that renews.
    pub fn publish(&self, lease: Lease) {
        let word = match lease {
            Lease::Valid { until_us } => until_us << 1,
            Lease::Adrift { until_us } => until_us << 1 | ADRIFT,
            Lease::Unchecked => 0,
        };
        self.0.store(word, Ordering::Release);
    }

    /// What may be done at `now_us`, by the same monotonic clock.
    #[must_use]
    pub fn check(&self, now_us: u64) -> Standing {
        let word = self.0.load(Ordering::Acquire);
        match (now_us < word >> 1, word & ADRIFT) {
            (false, _) => Standing::Unchecked,
            (true, ADRIFT) => Standing::Adrift,
            (true, _) => Standing::Valid,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_closes_by_itself() {
        let gate = Gate::default();
        assert_eq!(gate.check(0), Standing::Unchecked);
        gate.publish(Lease::Valid { until_us: 10 });
        assert_eq!((gate.check(9), gate.check(10)), (Standing::Valid, Standing::Unchecked));
        gate.publish(Lease::Adrift { until_us: 20 });
        assert_eq!((gate.check(19), gate.check(20)), (Standing::Adrift, Standing::Unchecked));
        gate.publish(Lease::Unchecked);
        assert_eq!(gate.check(1), Standing::Unchecked);
    }
}
