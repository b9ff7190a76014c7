//! How many may come in at a time: a node that lost a neighbour is not to be overrun by that one's clients, nor is the region's
//! Redis by all nodes that open their documents at once.

/// A bucket of handshakes.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    per_second: f64,
    /// What there is now, at most [`Self::most`].
    left: f64,
    at_us: u64,
    /// Asked for since [`Self::demand`] was last asked.
    asked: u64,
}

impl Budget {
    /// A full one.
    #[must_use]
    pub fn new(per_second: f64) -> Self {
        Self { per_second, left: per_second.max(1.0), at_us: 0, asked: 0 }
    }

    /// What may come at once: that of a second, at least one.
    fn most(&self) -> f64 {
        self.per_second.max(1.0)
    }

    /// It is so large from now on.
    pub fn resize(&mut self, per_second: f64) {
        self.per_second = per_second;
        self.left = self.left.min(self.most());
    }

    /// One more wants to come in at `now_us`; whether it may.
    pub fn take(&mut self, now_us: u64) -> bool {
        self.asked += 1;
        let passed_us = now_us.saturating_sub(self.at_us);
        self.at_us = self.at_us.max(now_us);
        self.left = (self.left + self.per_second * passed_us as f64 / 1e6).min(self.most());
        let may = self.left >= 1.0;
        if may {
            self.left -= 1.0;
        }
        may
    }

    /// How many asked since this was last asked.
    pub fn demand(&mut self) -> u64 {
        std::mem::take(&mut self.asked)
    }
}

/// Handshakes that a node was asked for in a second of late, and could serve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Demand {
    /// Asked for.
    pub asked: f64,
    /// Could be served at most.
    pub most: f64,
}

/// Divides what a region may take in a second among its nodes: each gets what it is asked for and can serve, and where that is more
/// than there is, all that get less get the same (max-min fairness). What nobody asked for is spread evenly, for whoever is asked next.
#[must_use]
pub fn allot(per_second: f64, demands: &[Demand]) -> Vec<f64> {
    let wanted: Vec<f64> = demands.iter().map(|demand| demand.asked.min(demand.most).max(0.0)).collect();
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|one, other| wanted[*one].total_cmp(&wanted[*other]));
    let (mut left, mut given) = (per_second.max(0.0), vec![0.0; wanted.len()]);
    for (place, node) in order.iter().enumerate() {
        let fair = left / (wanted.len() - place) as f64;
        given[*node] = wanted[*node].min(fair);
        left -= given[*node];
    }
    let spare = left / wanted.len().max(1) as f64;
    given.iter().zip(demands).map(|(given, demand)| (given + spare).min(demand.most.max(0.0))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn a_second_is_let_in_at_once_and_the_rest_by_and_by() {
        let mut budget = Budget::new(10.0);
        let mut taken = |now_us| (0..100).filter(|_| budget.take(now_us)).count();
        assert_eq!((taken(0), taken(SECOND / 2), taken(60 * SECOND)), (10, 5, 10));
        assert_eq!(budget.demand(), 300);
        budget.resize(0.1);
        assert!(budget.take(100 * SECOND) && !budget.take(105 * SECOND) && budget.take(111 * SECOND));
        assert_eq!(budget.demand(), 3);
    }

    #[test]
    fn who_wants_little_gets_it_and_the_others_share() {
        let node = |asked| Demand { asked, most: 1_000.0 };
        assert_eq!(allot(90.0, &[node(500.0), node(10.0), node(500.0)]), [40.0, 10.0, 40.0]);
        assert_eq!(allot(90.0, &[node(0.0), node(30.0), node(0.0)]), [20.0, 50.0, 20.0]);
        assert_eq!(allot(90.0, &[Demand { asked: 90.0, most: 0.0 }, node(90.0)]), [0.0, 90.0]);
        assert_eq!(allot(90.0, &[]), []);
    }

    proptest! {
        #[test]
        fn no_more_is_given_than_there_is(
            per_second in 0.0..1e5, demands in prop::collection::vec((0.0..1e5, 0.0..1e5), 0..20),
        ) {
            let demands: Vec<Demand> = demands.into_iter().map(|(asked, most)| Demand { asked, most }).collect();
            let given = allot(per_second, &demands);
            prop_assert!(given.iter().sum::<f64>() <= per_second * (1.0 + 1e-9) + 1e-9);
            prop_assert!(given.iter().zip(&demands).all(|(given, demand)| *given >= 0.0 && *given <= demand.most));
        }
    }
}
