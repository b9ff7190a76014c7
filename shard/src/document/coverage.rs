//! Which parts of a Yjs document a set of updates covers: struct ranges and deleted ranges, per client.
//!
//! This answers, without building the document, what the shard must know of an update: does it bring anything new, and
//! what state vector do we tell a client. A client's state is the end of its first range, and only if that starts at 0:
//! an update that leaves a gap is kept in the log, but claims nothing until the gap is filled.

use pinwire_protocol::document::state_vector::StateVector;
use pinwire_protocol::document::update::Visitor;

/// Up to so many ranges are added one by one, each moving what stands behind it.
const INSERTED_SINGLY: usize = 8;

/// A sorted set of disjoint, non-adjacent half-open ranges of clocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(u32, u32)>);

impl Ranges {
    /// Adds `start..end`; true if any clock of it was not in the set.
    pub fn insert(&mut self, start: u32, end: u32) -> bool {
        if start >= end {
            return false;
        }
        // Appending is the common case: a client's clock only grows.
        match self.0.last_mut() {
            Some(last) if start == last.1 => {
                last.1 = end;
                return true;
            }
            Some(last) if start < last.1 => {}
            _ => {
                self.0.push((start, end));
                return true;
            }
        }
        let first = self.0.partition_point(|range| range.1 < start);
        let after = self.0.partition_point(|range| range.0 <= end);
        if first == after {
            self.0.insert(first, (start, end));
            return true;
        }
        let merged = (start.min(self.0[first].0), end.max(self.0[after - 1].1));
        let is_new = after - first > 1 || self.0[first] != merged;
        self.0.splice(first..after, [merged]);
        is_new
    }

    /// Adds many ranges, ascending by start, in time linear in both sets; true if any clock was not in the set.
    fn merge(&mut self, new: &[(u32, u32)]) -> bool {
        if new.len() <= INSERTED_SINGLY {
            return new.iter().fold(false, |is_new, range| self.insert(range.0, range.1) | is_new);
        }
        let known = std::mem::take(&mut self.0);
        let count =
            |ranges: &[(u32, u32)]| ranges.iter().map(|range| u64::from(range.1 - range.0)).sum::<u64>();
        let before = count(&known);
        let mut merged: Vec<(u32, u32)> = Vec::with_capacity(known.len() + new.len());
        let (mut left, mut right) =
            (known.iter().peekable(), new.iter().filter(|range| range.0 < range.1).peekable());
        loop {
            let next = match (left.peek(), right.peek()) {
                (Some(a), Some(b)) if a.0 <= b.0 => left.next(),
                (Some(_), None) => left.next(),
                (_, Some(_)) => right.next(),
                (None, None) => break,
            };
            let Some(&(start, end)) = next else { break };
            match merged.last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                _ => merged.push((start, end)),
            }
        }
        merged.shrink_to_fit();
        let is_new = count(&merged) > before;
        self.0 = merged;
        is_new
    }

    /// True if every clock of `start..end` is in the set.
    #[must_use]
    pub fn contains(&self, start: u32, end: u32) -> bool {
        let first = self.0.partition_point(|range| range.1 <= start);
        start >= end || self.0.get(first).is_some_and(|range| range.0 <= start && end <= range.1)
    }

    /// Removes every range that starts at or before `clock` and returns the end of the last, or 0.
    fn drain_to(&mut self, clock: u32) -> u32 {
        let reached = self.0.partition_point(|range| range.0 <= clock);
        self.0.drain(..reached).next_back().map_or(0, |range| range.1)
    }
}

/// Struct and delete ranges of everything a document's log holds.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    /// Ascending by client; 24 bytes a client that only ever appended.
    clients: Vec<ClientCoverage>,
}

#[derive(Clone, Debug)]
struct ClientCoverage {
    client: u64,
    /// Structs `0..state` are covered.
    state: u32,
    rest: Option<Box<Rest>>,
}

/// What few clients have: structs beyond a gap, deletions.
#[derive(Clone, Debug, Default)]
struct Rest {
    ahead: Ranges,
    deletes: Ranges,
}

impl ClientCoverage {
    fn insert_structs(&mut self, start: u32, end: u32) -> bool {
        if start > self.state {
            return self.rest.get_or_insert_default().ahead.insert(start, end);
        }
        if end <= self.state {
            return false;
        }
        self.state = end;
        if let Some(rest) = &mut self.rest {
            self.state = self.state.max(rest.ahead.drain_to(end));
        }
        true
    }

    fn covers_structs(&self, start: u32, end: u32) -> bool {
        end <= self.state
            || self.rest.as_ref().is_some_and(|rest| rest.ahead.contains(start.max(self.state), end))
    }

    fn covers_deletes(&self, start: u32, end: u32) -> bool {
        self.rest.as_ref().is_some_and(|rest| rest.deletes.contains(start, end))
    }

    /// End of the last struct covered, beyond gaps.
    fn last(&self) -> u32 {
        self.rest.as_ref().and_then(|rest| rest.ahead.0.last()).map_or(self.state, |range| range.1)
    }
}

impl Coverage {
    /// Nothing covered yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// `(client, state)` of every client seen, in ascending order; the state is 0 before a gap that starts at 0.
    pub fn states(&self) -> impl ExactSizeIterator<Item = (u64, u32)> + Clone + '_ {
        self.clients.iter().map(|c| (c.client, c.state))
    }

    /// The same, as clients tell it.
    #[must_use]
    pub fn state_vector(&self) -> StateVector {
        self.states().collect()
    }

    /// True if no struct and no deletion is covered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// True if a client that knows the state vector `known` (a lookup of its clock) lacks nothing, and deletions are
    /// none: a state vector does not tell which deletions a client knows.
    #[must_use]
    pub fn is_known_by(&self, known: impl Fn(u64) -> u32) -> bool {
        self.clients.iter().all(|c| {
            c.rest.as_ref().is_none_or(|rest| rest.deletes.0.is_empty()) && c.last() <= known(c.client)
        })
    }

    /// A visitor that adds an update's ranges and notes whether any was new.
    pub fn absorb(&mut self) -> Absorb<'_> {
        Absorb { coverage: self, is_new: false, leaves_gap: false }
    }

    /// A visitor that compares an update's ranges without adding them.
    #[must_use]
    pub fn compare(&self) -> Compare<'_> {
        Compare { coverage: self, is_new: false }
    }

    /// Adds the ranges of one update, whatever their number, in time linear in it and in what it touches.
    pub fn absorb_all(&mut self, ranges: &mut [UpdateRange]) -> Absorbed {
        ranges.sort_unstable_by_key(|range| (range.client, range.is_delete, range.clock));
        self.add_clients(ranges);
        let mut absorbed = Absorbed::default();
        let mut batch = Vec::new();
        for group in ranges.chunk_by(|a, b| (a.client, a.is_delete) == (b.client, b.is_delete)) {
            let Some(first) = group.first() else { continue };
            let known = self.entry(first.client);
            if first.is_delete {
                batch.clear();
                batch.extend(group.iter().map(|range| (range.clock, range.clock.saturating_add(range.len))));
                absorbed.is_new |= known.rest.get_or_insert_default().deletes.merge(&batch);
                continue;
            }
            // A client's structs come in few runs: skips part them, and those are bounded by what fills them later.
            for range in group {
                absorbed.leaves_gap |= range.clock > known.state;
                absorbed.is_new |= known.insert_structs(range.clock, range.clock.saturating_add(range.len));
            }
        }
        absorbed
    }

    /// Makes room for the clients of an update at once: one by one, each would move all that stand behind it.
    fn add_clients(&mut self, ranges: &[UpdateRange]) {
        let known = self.clients.len();
        for group in ranges.chunk_by(|a, b| a.client == b.client) {
            if let Some(first) = group.first()
                && self.clients[..known].binary_search_by_key(&first.client, |c| c.client).is_err()
            {
                self.clients.push(ClientCoverage { client: first.client, state: 0, rest: None });
            }
        }
        if self.clients.len() > known {
            self.clients.sort_unstable_by_key(|c| c.client);
        }
    }

    fn entry(&mut self, client: u64) -> &mut ClientCoverage {
        let at = match self.clients.binary_search_by_key(&client, |c| c.client) {
            Ok(at) => at,
            Err(at) => {
                self.clients.insert(at, ClientCoverage { client, state: 0, rest: None });
                at
            }
        };
        &mut self.clients[at]
    }

    fn get(&self, client: u64) -> Option<&ClientCoverage> {
        self.clients.binary_search_by_key(&client, |c| c.client).ok().map(|at| &self.clients[at])
    }
}

/// A run of structs or deletions that an update brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpdateRange {
    /// Whose.
    pub client: u64,
    /// Its first clock.
    pub clock: u32,
    /// How many.
    pub len: u32,
    /// Deletions rather than structs.
    pub is_delete: bool,
}

/// What [`Coverage::absorb_all`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Absorbed {
    /// A range was not covered before.
    pub is_new: bool,
    /// A client's structs began beyond where those known end.
    pub leaves_gap: bool,
}

/// See [`Coverage::absorb`].
#[derive(Debug)]
pub struct Absorb<'a> {
    coverage: &'a mut Coverage,
    /// True once a range was not covered before.
    pub is_new: bool,
    /// True once a client's structs began beyond where those known end.
    pub leaves_gap: bool,
}

impl Visitor for Absorb<'_> {
    fn structs(&mut self, client: u64, clock: u32, len: u32) {
        let known = self.coverage.entry(client);
        self.leaves_gap |= clock > known.state;
        self.is_new |= known.insert_structs(clock, clock.saturating_add(len));
    }

    fn deletes(&mut self, client: u64, clock: u32, len: u32) {
        let deletes = &mut self.coverage.entry(client).rest.get_or_insert_default().deletes;
        self.is_new |= deletes.insert(clock, clock.saturating_add(len));
    }
}

/// See [`Coverage::compare`].
#[derive(Debug)]
pub struct Compare<'a> {
    coverage: &'a Coverage,
    /// True once a range was not covered.
    pub is_new: bool,
}

impl Visitor for Compare<'_> {
    fn structs(&mut self, client: u64, clock: u32, len: u32) {
        let end = clock.saturating_add(len);
        self.is_new |= !self.coverage.get(client).is_some_and(|c| c.covers_structs(clock, end));
    }

    fn deletes(&mut self, client: u64, clock: u32, len: u32) {
        let end = clock.saturating_add(len);
        self.is_new |= !self.coverage.get(client).is_some_and(|c| c.covers_deletes(clock, end));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_gap_claims_nothing_until_it_is_filled() {
        let mut coverage = Coverage::new();
        coverage.absorb().structs(5, 10, 2);
        assert_eq!(coverage.states().collect::<Vec<_>>(), vec![(5, 0)]);
        coverage.absorb().structs(5, 0, 10);
        assert_eq!(coverage.states().collect::<Vec<_>>(), vec![(5, 12)]);
    }

    #[test]
    fn a_repeated_update_is_not_new_and_a_new_deletion_is() {
        let mut coverage = Coverage::new();
        coverage.absorb().structs(1, 0, 4);
        let mut again = coverage.compare();
        again.structs(1, 1, 2);
        assert!(!again.is_new);
        again.deletes(1, 1, 2);
        assert!(again.is_new);
    }

    #[test]
    fn an_update_of_many_clients_in_falling_order_and_interleaved_deletions_is_absorbed_whole() {
        let structs =
            (0..100_000u64).rev().map(|client| UpdateRange { client, clock: 0, len: 1, is_delete: false });
        let deletes = |from: u32| {
            (0..200_000u32).map(move |n| UpdateRange {
                client: 7,
                clock: 4 * n + from,
                len: 1,
                is_delete: true,
            })
        };
        let mut coverage = Coverage::new();
        let mut update: Vec<UpdateRange> = structs.chain(deletes(2)).collect();
        assert_eq!(coverage.absorb_all(&mut update), Absorbed { is_new: true, leaves_gap: false });
        assert_eq!(coverage.states().len(), 100_000);
        let mut update: Vec<UpdateRange> = deletes(0).collect();
        assert!(coverage.absorb_all(&mut update).is_new);
        assert!(!coverage.absorb_all(&mut update).is_new, "all of it is known now");
        let deleted = &coverage.get(7).unwrap().rest.as_ref().unwrap().deletes;
        assert_eq!(deleted.0.len(), 400_000);
    }

    proptest! {
        #[test]
        fn a_batch_adds_what_its_ranges_add_one_by_one(
            first in prop::collection::vec((0u32..300, 1u32..6), 0..40),
            batch in prop::collection::vec((0u32..300, 1u32..6), 0..40),
        ) {
            let mut singly = Ranges::default();
            first.iter().for_each(|(start, len)| { singly.insert(*start, start + len); });
            let mut merged = singly.clone();
            let mut sorted: Vec<(u32, u32)> = batch.iter().map(|(start, len)| (*start, start + len)).collect();
            sorted.sort_unstable();
            let is_new = batch.iter().fold(false, |is_new, (start, len)| singly.insert(*start, start + len) | is_new);
            prop_assert_eq!(merged.merge(&sorted), is_new);
            prop_assert_eq!(merged, singly);
        }

        #[test]
        fn ranges_agree_with_a_set_of_clocks(ops in prop::collection::vec((0u32..60, 0u32..12), 0..60)) {
            let mut ranges = Ranges::default();
            let mut model = BTreeSet::new();
            for (start, len) in ops {
                let clocks = start..start + len;
                prop_assert_eq!(ranges.contains(start, start + len), clocks.clone().all(|c| model.contains(&c)));
                let is_new = clocks.clone().any(|c| !model.contains(&c));
                model.extend(clocks);
                prop_assert_eq!(ranges.insert(start, start + len), is_new);
                prop_assert!(ranges.0.windows(2).all(|w| w[0].1 < w[1].0), "disjoint, sorted, not adjacent: {:?}", ranges);
            }
            let covered: BTreeSet<u32> = ranges.0.iter().flat_map(|(s, e)| *s..*e).collect();
            prop_assert_eq!(covered, model);
        }

        #[test]
        fn a_clients_state_is_the_end_of_its_unbroken_prefix(ops in prop::collection::vec((0u32..40, 1u32..8), 0..60)) {
            let mut coverage = Coverage::new();
            let mut model = BTreeSet::new();
            for (start, len) in ops {
                let clocks = start..start + len;
                let is_new = clocks.clone().any(|c| !model.contains(&c));
                let mut compare = coverage.compare();
                compare.structs(9, start, len);
                prop_assert_eq!(compare.is_new, is_new);
                let mut absorb = coverage.absorb();
                absorb.structs(9, start, len);
                prop_assert_eq!(absorb.is_new, is_new);
                model.extend(clocks);
                let prefix = (0..).take_while(|c| model.contains(c)).count() as u32;
                prop_assert_eq!(coverage.states().next(), Some((9, prefix)));
            }
        }
    }
}
