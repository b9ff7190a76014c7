//! Which structs and deletions updates bring, as plain sets of clocks: the reference for what is known, safe, received.

use pinwire_protocol::document::update::{self, Bounds, Visitor};
use std::collections::BTreeMap;

/// A run of clocks of one client, of structs or of deletions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) client: u64,
    pub(super) is_deletion: bool,
    pub(super) start: u32,
    pub(super) end: u32,
}

/// Lists what an update brings. An error if it fails the structural walk.
pub(super) fn runs_of(update: &[u8]) -> Result<Vec<Run>, String> {
    let mut runs = Runs(Vec::new());
    update::scan(update, &Bounds::default(), &mut runs).map_err(|error| error.to_string())?;
    Ok(runs.0)
}

struct Runs(Vec<Run>);

impl Visitor for Runs {
    fn structs(&mut self, client: u64, clock: u32, len: u32) {
        self.0.push(Run { client, is_deletion: false, start: clock, end: clock + len });
    }

    fn deletes(&mut self, client: u64, clock: u32, len: u32) {
        self.0.push(Run { client, is_deletion: true, start: clock, end: clock + len });
    }
}

/// A set of clocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Clocks(BTreeMap<(u64, bool), BTreeMap<u32, u32>>);

impl Clocks {
    pub(super) fn insert(&mut self, run: &Run) {
        if run.start == run.end {
            return;
        }
        let known = self.0.entry((run.client, run.is_deletion)).or_default();
        let (mut start, mut end) = (run.start, run.end);
        while let Some((&from, &to)) = known.range(..=end).next_back()
            && to >= start
        {
            (start, end) = (start.min(from), end.max(to));
            known.remove(&from);
        }
        known.insert(start, end);
    }

    pub(super) fn runs(&self) -> impl Iterator<Item = Run> {
        self.0.iter().flat_map(|(&(client, is_deletion), known)| {
            known.iter().map(move |(&start, &end)| Run { client, is_deletion, start, end })
        })
    }

    pub(super) fn contains(&self, run: &Run) -> bool {
        let known = self.0.get(&(run.client, run.is_deletion));
        let before = known.and_then(|known| known.range(..=run.start).next_back());
        run.start == run.end || before.is_some_and(|(_, end)| *end >= run.end)
    }

    /// Up to where each client's structs are known without a gap.
    pub(super) fn states(&self) -> BTreeMap<u64, u32> {
        let structs = self.0.iter().filter(|((_, is_deletion), _)| !is_deletion);
        structs.filter_map(|((client, _), known)| Some((*client, *known.get(&0)?))).collect()
    }

    /// Those that are not in `other`.
    pub(super) fn less(&self, other: &Self) -> Self {
        let mut rest = Self::default();
        for run in self.runs() {
            let mut start = run.start;
            for (&from, &to) in other.0.get(&(run.client, run.is_deletion)).into_iter().flatten() {
                if start < from.min(run.end) {
                    rest.insert(&Run { start, end: from.min(run.end), ..run });
                }
                start = start.max(to);
            }
            if start < run.end {
                rest.insert(&Run { start, ..run });
            }
        }
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_join_where_they_touch_and_gaps_stay() {
        let run = |start, end| Run { client: 1, is_deletion: false, start, end };
        let mut clocks = Clocks::default();
        for (start, end) in [(10, 20), (0, 5), (25, 30), (5, 8), (19, 26)] {
            clocks.insert(&run(start, end));
        }
        assert!(clocks.contains(&run(0, 8)) && clocks.contains(&run(10, 30)));
        assert!(
            !clocks.contains(&run(8, 9)) && !clocks.contains(&run(7, 11)) && !clocks.contains(&run(29, 31))
        );
        assert!(!clocks.contains(&Run { is_deletion: true, ..run(0, 1) }));
    }

    #[test]
    fn what_is_left_of_a_set_has_nothing_of_the_other() {
        let run = |start, end| Run { client: 1, is_deletion: false, start, end };
        let set = |runs: &[(u32, u32)]| {
            let mut clocks = Clocks::default();
            runs.iter().for_each(|(start, end)| clocks.insert(&run(*start, *end)));
            clocks
        };
        let all = set(&[(0, 10), (20, 30)]);
        assert_eq!(all.less(&set(&[(0, 1), (5, 6), (8, 22), (29, 40)])), set(&[(1, 5), (6, 8), (22, 29)]));
        assert_eq!(all.less(&set(&[(10, 20), (30, 31)])), all);
        assert_eq!(all.less(&all), Clocks::default());
        assert_eq!(all.less(&Clocks::default()), all);
    }
}
