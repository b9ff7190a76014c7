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

/// What a thread may do now. Ordered: of several registries the last decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
    /// One that lets everything pass for ever: of a registry inside the process, which cannot give the node up.
    #[must_use]
    pub fn open() -> Self {
        Self(AtomicU64::new(!ADRIFT))
    }

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

    /// What may be done by somebody who serves documents of several registries.
    pub fn check_all<'a>(gates: impl IntoIterator<Item = &'a Self>, now_us: u64) -> Standing {
        gates.into_iter().map(|gate| gate.check(now_us)).max().unwrap_or(Standing::Valid)
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
        assert_eq!(Gate::open().check(u64::MAX >> 2), Standing::Valid);
    }

    #[test]
    fn of_several_gates_the_narrowest_counts() {
        let (valid, adrift) = (Gate::open(), Gate::default());
        adrift.publish(Lease::Adrift { until_us: 5 });
        assert_eq!(Gate::check_all([&valid, &adrift], 4), Standing::Adrift);
        assert_eq!(Gate::check_all([&adrift, &valid], 5), Standing::Unchecked);
        assert_eq!(Gate::check_all([], 5), Standing::Valid);
    }
}
