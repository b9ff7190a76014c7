//! Round trips between regions, as they are and as they were: a sample each five seconds, of the last fifty minutes.

use std::collections::BTreeMap;

use super::{Millis, Model, Series, latencies};

/// Between two samples. Nodes are asked more often: of those of one step the last counts.
const STEP: Millis = 5_000;
/// Pairs of regions that are kept: 32 regions, each with each.
const PAIRS_MAX: usize = 1_024;

/// From a region to another and back.
#[derive(Debug)]
pub struct Trip {
    /// Where it was measured.
    pub from: String,
    /// The other end.
    pub to: String,
    /// Milliseconds over time.
    pub over_time: Series,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Trips {
    pairs: BTreeMap<(String, String), Trip>,
    /// When samples were taken last.
    at: Millis,
}

impl Trips {
    /// Milliseconds of a step of the samples.
    pub const STEP: Millis = STEP;

    pub(super) fn sample(&mut self, trips: BTreeMap<(String, String), f64>, now: Millis) {
        self.at = now;
        for ((from, to), trip) in trips {
            let key = (from, to);
            if self.pairs.len() >= PAIRS_MAX && !self.pairs.contains_key(&key) {
                continue;
            }
            let kept = self.pairs.entry(key).or_insert_with_key(|(from, to)| Trip {
                from: from.clone(),
                to: to.clone(),
                over_time: Series::every(STEP),
            });
            kept.over_time.push(now, Some(trip));
        }
    }

    /// Whether the next samples are due.
    pub(super) fn is_due(&self, now: Millis) -> bool {
        now / STEP != self.at / STEP
    }

    /// What is measured of pairs of which nothing is known: it is not to wait for the next step.
    fn is_news(&self, trips: &BTreeMap<(String, String), f64>) -> bool {
        self.pairs.len() < PAIRS_MAX && trips.keys().any(|pair| !self.pairs.contains_key(pair))
    }

    /// All, by where they were measured and where they go.
    pub fn rows(&self) -> impl Iterator<Item = &Trip> {
        self.pairs.values()
    }
}

impl Model {
    /// Takes samples of how far regions are from each other, once a step.
    pub(super) fn sample_trips(&mut self, now: Millis) {
        if self.trips.is_due(now) {
            let trips = latencies(self, now);
            self.trips.sample(trips, now);
        }
    }

    /// The same when a node told of regions, where it measures what nobody did before.
    pub(super) fn sample_new_trips(&mut self, now: Millis) {
        let trips = latencies(self, now);
        if self.trips.is_due(now) || self.trips.is_news(&trips) {
            self.trips.sample(trips, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(trip: f64) -> BTreeMap<(String, String), f64> {
        BTreeMap::from([(("a".to_owned(), "b".to_owned()), trip)])
    }

    #[test]
    fn a_trip_that_nobody_measures_is_a_gap() {
        let mut trips = Trips::default();
        trips.sample(one(10.0), 5_000);
        for at in [10_000, 15_000, 20_000] {
            assert!(trips.is_due(at));
            trips.sample(BTreeMap::new(), at);
            assert!(!trips.is_due(at + 4_999));
        }
        trips.sample(one(20.0), 25_000);
        let trip = trips.rows().next().unwrap();
        assert_eq!(trip.over_time.window(5, 25_000), [Some(10.0), None, None, None, Some(20.0)]);
    }

    #[test]
    fn a_pair_that_is_measured_for_the_first_time_does_not_wait_for_the_next_step() {
        let mut trips = Trips::default();
        trips.sample(one(10.0), 5_000);
        assert!(!trips.is_due(5_100) && !trips.is_news(&one(11.0)));
        let other = BTreeMap::from([(("b".to_owned(), "a".to_owned()), 9.0)]);
        assert!(trips.is_news(&other));
        trips.sample(other, 5_100);
        assert_eq!(trips.rows().count(), 2);
    }

    #[test]
    fn pairs_are_bounded() {
        let mut trips = Trips::default();
        for number in 0..2 * PAIRS_MAX {
            trips.sample(BTreeMap::from([((number.to_string(), "b".to_owned()), 1.0)]), 5_000);
        }
        assert_eq!(trips.rows().count(), PAIRS_MAX);
    }
}
