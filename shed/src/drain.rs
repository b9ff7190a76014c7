//! When the clients of a node that ends are closed.
//!
//! ```text
//!   Serving ──begin──► Leaving ─────────► Closing ─────────► Over
//!                      out of DNS,        takes no new ones;  all are gone, or the time is over
//!                      still takes        closes evenly
//!                      who comes
//! ```

/// How long each phase lasts, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Resolvers may know the node's address for this long: the record's TTL and a little.
    pub leave_us: u64,
    /// All clients are closed within this.
    pub close_us: u64,
}

/// Where a node is on its way out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// It is not.
    #[default]
    Serving,
    /// Out of DNS and not ready; takes who comes all the same.
    Leaving,
    /// Takes nobody; its clients are closed by and by.
    Closing,
    /// It may end.
    Over,
}

/// A node's way out. Each thread may have one of its own, begun at the same time.
#[derive(Clone, Copy, Debug)]
pub struct Drain {
    windows: Windows,
    /// Since when it drains.
    began_us: Option<u64>,
    /// When connections were last closed.
    closed_us: u64,
}

impl Drain {
    /// It serves.
    #[must_use]
    pub fn new(windows: Windows) -> Self {
        Self { windows, began_us: None, closed_us: 0 }
    }

    /// It is to end. Said twice, the first counts.
    pub fn begin(&mut self, now_us: u64) {
        if self.began_us.is_none() {
            self.began_us = Some(now_us);
            self.closed_us = now_us.saturating_add(self.windows.leave_us);
        }
    }

    /// It is not to end after all. Who was closed is.
    pub fn cancel(&mut self) {
        self.began_us = None;
    }

    /// When it is over at the latest; `None` if it does not drain.
    #[must_use]
    pub fn deadline_us(&self) -> Option<u64> {
        let Windows { leave_us, close_us } = self.windows;
        self.began_us.map(|began_us| began_us.saturating_add(leave_us).saturating_add(close_us))
    }

    /// Where it is, with so many clients.
    #[must_use]
    pub fn phase(&self, now_us: u64, open: u64) -> Phase {
        let (Some(began_us), Some(deadline_us)) = (self.began_us, self.deadline_us()) else {
            return Phase::Serving;
        };
        if now_us < began_us.saturating_add(self.windows.leave_us) {
            Phase::Leaving
        } else if now_us >= deadline_us || open == 0 {
            Phase::Over
        } else {
            Phase::Closing
        }
    }

    /// How many of the `open` clients are to be closed now, so that all are closed evenly up to the deadline, those who leave by
    /// themselves counted. `random` is uniform, and decides about the part of one that is due.
    pub fn due(&mut self, now_us: u64, open: u64, random: u32) -> u64 {
        let Some(deadline_us) = self.deadline_us() else { return 0 };
        if now_us >= deadline_us {
            return open;
        }
        let passed_us = now_us.saturating_sub(self.closed_us);
        let left_us = deadline_us - self.closed_us.min(deadline_us);
        if passed_us == 0 || left_us == 0 {
            return 0;
        }
        self.closed_us = now_us;
        let part = open as f64 * passed_us as f64 / left_us as f64;
        ((part + f64::from(random) / (f64::from(u32::MAX) + 1.0)) as u64).min(open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000;
    const WINDOWS: Windows = Windows { leave_us: 35 * SECOND, close_us: 60 * SECOND };

    #[test]
    fn a_node_leaves_closes_and_is_over() {
        let mut drain = Drain::new(WINDOWS);
        assert_eq!((drain.phase(5, 9), drain.due(5, 9, 0)), (Phase::Serving, 0));
        drain.begin(SECOND);
        drain.begin(20 * SECOND);
        let at = |seconds: u64, open| drain.phase(seconds * SECOND, open);
        assert_eq!((at(1, 9), at(35, 0)), (Phase::Leaving, Phase::Leaving));
        assert_eq!((at(36, 9), at(95, 9)), (Phase::Closing, Phase::Closing));
        assert_eq!((at(36, 0), at(96, 9)), (Phase::Over, Phase::Over));
        drain.cancel();
        assert_eq!(drain.phase(96 * SECOND, 9), Phase::Serving);
    }

    #[test]
    fn clients_are_closed_evenly() {
        let mut drain = Drain::new(WINDOWS);
        drain.begin(0);
        assert_eq!(drain.due(34 * SECOND, 6_000, u32::MAX), 0, "it still takes who comes");
        let mut open = 6_000;
        for second in 36..95 {
            let due = drain.due(second * SECOND, open, 1 << 31);
            assert!((99..=101).contains(&due), "{due} at {second} s");
            open -= due;
        }
        assert_eq!(drain.due(95 * SECOND, open, 0), open);
    }

    proptest! {
        #[test]
        fn all_are_closed_by_the_deadline_and_none_twice(
            open in 0_u64..10_000, steps in prop::collection::vec((1..5 * SECOND, any::<u32>(), 0_u64..3), 1..200),
        ) {
            let (mut drain, mut now_us, mut open) = (Drain::new(WINDOWS), 0, open);
            drain.begin(0);
            for (step_us, random, left) in steps {
                now_us += step_us;
                let due = drain.due(now_us, open, random);
                prop_assert!(due <= open && (now_us > WINDOWS.leave_us || due == 0));
                open = (open - due).saturating_sub(left);
                prop_assert!(now_us < 95 * SECOND || open == 0);
            }
        }
    }
}
