//! When a change of a region's state is believed.
//!
//! ```text
//!               worse, `looks` times and for `open`
//!   Operational ──────────────────────────────────► Degraded, Unavailable
//!        ▲      ◄──────────────────────────────────      ▲
//!        │         better, `looks` times and for `end`   │ worse, as before
//!        ▼                                               │
//!   Maintenance ─────────────────────────────────────────┘
//! ```
//!
//! Maintenance is announced rather than seen: it begins at once, and ends at once where all is well. One look to the contrary, and a
//! change has to be seen anew.

use serde::{Deserialize, Serialize};

use crate::{At, State};

/// For how long a change has to be seen until it is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Looks in a row, at least.
    pub looks: u32,
    /// Seconds until something is worse.
    pub open: u64,
    /// Seconds until something is better.
    pub end: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { looks: 2, open: 5, end: 60 }
    }
}

/// A region as a board believes it to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// `None`: not known yet.
    pub state: Option<State>,
    /// Since when.
    pub since: At,
    /// What is to be said of it.
    pub words: String,
    /// What is seen and not believed yet.
    #[serde(skip)]
    pending: Option<Pending>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pending {
    is_worse: bool,
    since: At,
    looks: u32,
    /// What held all the time: the mildest of worse states, the worst of better ones.
    state: State,
    words: String,
}

impl Region {
    /// Takes a look at it down; true if it is believed to be in another state from now on.
    pub(crate) fn look(&mut self, now: At, state: State, words: &str, pace: Pace) -> bool {
        let known = self.state.unwrap_or(State::Operational);
        let grade = |state: State| if state.is_incident() { state } else { State::Operational };
        if state == State::Maintenance || grade(state) == grade(known) {
            self.pending = None;
            return self.settle(now, state, words);
        }
        let is_worse = grade(state) > grade(known);
        let pending = match self.pending.take().filter(|pending| pending.is_worse == is_worse) {
            Some(pending) => pending.seen(now, state, words),
            None => Pending { is_worse, since: now, looks: 1, state, words: words.to_owned() },
        };
        let patience = if is_worse { pace.open } else { pace.end };
        if pending.looks >= pace.looks && now.since(pending.since) >= patience {
            return self.settle(now, pending.state, &pending.words);
        }
        self.pending = Some(pending);
        false
    }

    fn settle(&mut self, now: At, state: State, words: &str) -> bool {
        if self.state == Some(state) {
            return false;
        }
        *self = Self { state: Some(state), since: now, words: words.to_owned(), pending: None };
        true
    }
}

impl Pending {
    fn seen(mut self, now: At, state: State, words: &str) -> Self {
        self.looks = self.looks.saturating_add(1);
        // A clock that was set back makes nobody wait for the past.
        self.since = self.since.min(now);
        if (state < self.state) == self.is_worse && state != self.state {
            self.state = state;
            words.clone_into(&mut self.words);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use State::{Degraded, Maintenance, Operational, Unavailable};

    /// The states believed, looked at once a second.
    fn believed(looks: &[(State, u64)]) -> Vec<(u64, State)> {
        let (mut region, mut now, mut changes) = (Region::default(), 0, Vec::new());
        for (state, seconds) in looks {
            for _ in 0..*seconds {
                if region.look(At::unix(now), *state, state.word(), Pace { looks: 2, open: 5, end: 10 }) {
                    assert_eq!(region.words, region.state.unwrap().word());
                    changes.push((now, region.state.unwrap()));
                }
                now += 1;
            }
        }
        changes
    }

    #[test]
    fn a_change_is_believed_after_a_while_and_the_way_back_takes_longer() {
        let changes = believed(&[(Operational, 3), (Unavailable, 20), (Operational, 20)]);
        assert_eq!(changes, [(0, Operational), (8, Unavailable), (33, Operational)]);
    }

    #[test]
    fn what_lasts_a_moment_is_not_believed() {
        assert_eq!(believed(&[(Operational, 3), (Unavailable, 5), (Operational, 9)]), [(0, Operational)]);
        let changes = believed(&[(Unavailable, 6), (Operational, 10), (Unavailable, 1), (Operational, 11)]);
        assert_eq!(changes, [(5, Unavailable), (27, Operational)]);
    }

    #[test]
    fn of_worse_states_the_mildest_is_believed_and_of_better_ones_the_worst() {
        let flaps = [(Operational, 1), (Unavailable, 1), (Degraded, 1), (Unavailable, 4)];
        assert_eq!(believed(&flaps), [(0, Operational), (6, Degraded)]);
        let better = [(Unavailable, 6), (Operational, 4), (Degraded, 1), (Operational, 6)];
        assert_eq!(believed(&better), [(5, Unavailable), (16, Degraded)]);
    }

    #[test]
    fn maintenance_begins_at_once_and_ends_at_once_where_all_is_well() {
        let well = believed(&[(Operational, 1), (Maintenance, 3), (Operational, 1)]);
        assert_eq!(well, [(0, Operational), (1, Maintenance), (4, Operational)]);
        let ill = believed(&[(Maintenance, 3), (Unavailable, 6)]);
        assert_eq!(ill, [(0, Maintenance), (8, Unavailable)]);
    }

    #[test]
    fn a_clock_that_is_set_back_holds_nothing_up() {
        let (mut region, pace) = (Region::default(), Pace { looks: 2, open: 5, end: 10 });
        assert!(!region.look(At::unix(1_000_000), Unavailable, "", pace));
        assert!(!region.look(At::unix(10), Unavailable, "", pace));
        assert!(region.look(At::unix(15), Unavailable, "", pace));
    }
}
