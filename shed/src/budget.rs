//! How many may come in at a time: a node that lost a neighbour is not to be overrun by that one's clients, nor is the region's
//! Redis by all nodes that open their documents at once.

use std::sync::atomic::{AtomicU64, Ordering};

/// What may come at once: that of so long.
const BURST_NS: u64 = 100_000_000;
const SECOND_NS: f64 = 1e9;

/// A bucket of handshakes. Who finds it empty is given a place in line, if it waits for so long: clients that dial in waves, as stock
/// clients do which double their waits without jitter, would else leave it full between two waves. The line moves as fast as the budget
/// is when it moves: one that shrinks keeps those waiting whom it gave places before, or they would come beside what others of the
/// region let in by then. Threads share it without a lock: it is one word, the moment at which it will be full again, and the number of
/// places that were given.
#[derive(Debug)]
pub struct Budget {
    /// Nanoseconds from one handshake to the next.
    gap_ns: AtomicU64,
    full_at_ns: AtomicU64,
    given: AtomicU64,
    /// Asked for since [`Self::demand`] was last asked.
    asked: AtomicU64,
}

/// A place in the line of a [`Budget`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn(u64);

impl Budget {
    /// A full one.
    #[must_use]
    pub fn new(per_second: f64) -> Self {
        Self { gap_ns: gap_ns(per_second).into(), full_at_ns: 0.into(), given: 0.into(), asked: 0.into() }
    }

    /// It is so large from `now_us` on. As many as were missing from it are missing then.
    pub fn resize(&self, per_second: f64, now_us: u64) {
        let gap_ns = gap_ns(per_second);
        let before_ns = self.gap_ns.swap(gap_ns, Ordering::Relaxed);
        if before_ns == gap_ns {
            return;
        }
        let now_ns = now_us.saturating_mul(1_000);
        let scaled = |full_at_ns: u64| {
            let missing = full_at_ns.saturating_sub(now_ns) as f64 / before_ns.max(1) as f64;
            Some(now_ns.saturating_add((missing * gap_ns as f64) as u64))
        };
        let _ = self.full_at_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, scaled);
    }

    /// Handshakes a second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        SECOND_NS / self.gap_ns.load(Ordering::Relaxed).max(1) as f64
    }

    /// When it will be full again, should one more be taken out that is full at `full_at_ns`; `None` if that one had to wait for longer
    /// than `patience_us`.
    fn after(&self, now_us: u64, full_at_ns: u64, patience_us: u64) -> Option<u64> {
        let (now_ns, gap_ns) = (now_us.saturating_mul(1_000), self.gap_ns.load(Ordering::Relaxed));
        let after_ns = full_at_ns.max(now_ns).saturating_add(gap_ns);
        let wait_ns = after_ns.saturating_sub(now_ns.saturating_add(gap_ns.max(BURST_NS)));
        (wait_ns <= patience_us.saturating_mul(1_000)).then_some(after_ns)
    }

    /// One more wants to come in at `now_us`: its place in line, or `None` if it would have to wait for longer than `patience_us` as it
    /// looks now. A place counts whether it is taken or not.
    pub fn turn(&self, now_us: u64, patience_us: u64) -> Option<Turn> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let take = |full_at_ns| self.after(now_us, full_at_ns, patience_us);
        self.full_at_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
        Some(Turn(self.given.fetch_add(1, Ordering::Relaxed) + 1))
    }

    /// After how many microseconds from `now_us` on its turn has come, unless the budget changes; 0 if it has.
    #[must_use]
    pub fn wait_us(&self, turn: Turn, now_us: u64) -> u64 {
        let gap_ns = self.gap_ns.load(Ordering::Relaxed);
        let missing_ns = self.full_at_ns.load(Ordering::Relaxed).saturating_sub(now_us.saturating_mul(1_000));
        // Those who came later are missing, too.
        let later = self.given.load(Ordering::Relaxed).saturating_sub(turn.0);
        let free_ns = gap_ns.max(BURST_NS).saturating_add(later.saturating_mul(gap_ns));
        missing_ns.saturating_sub(free_ns).div_ceil(1_000)
    }

    /// Nobody would get a turn at `now_us` who waits for `patience_us` at most.
    #[must_use]
    pub fn is_spent(&self, now_us: u64, patience_us: u64) -> bool {
        self.after(now_us, self.full_at_ns.load(Ordering::Relaxed), patience_us).is_none()
    }

    /// How many asked since this was last asked.
    pub fn demand(&self) -> u64 {
        self.asked.swap(0, Ordering::Relaxed)
    }
}

fn gap_ns(per_second: f64) -> u64 {
    (SECOND_NS / per_second.max(1e-3)) as u64
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

    /// Whether one gets in at once.
    fn takes(budget: &Budget, now_us: u64) -> bool {
        budget.turn(now_us, 0).is_some_and(|turn| budget.wait_us(turn, now_us) == 0)
    }

    #[test]
    fn those_of_a_wave_get_turns_one_after_the_other_as_far_as_they_wait() {
        let budget = Budget::new(100.0);
        let turns: Vec<Turn> = (0..1_000).map_while(|_| budget.turn(SECOND, 3 * SECOND)).collect();
        // What may come at once, and three seconds of turns, a hundredth of a second apart.
        let waits = [9, 10, 309].map(|place| budget.wait_us(turns[place], SECOND));
        assert_eq!((turns.len(), waits), (310, [0, 10_000, 3 * SECOND]));
        assert!(budget.is_spent(SECOND, 3 * SECOND) && !budget.is_spent(SECOND + 10_000, 3 * SECOND));
        // The next wave is given what the first has left.
        let next = (0..1_000).map_while(|_| budget.turn(3 * SECOND + SECOND / 2, 3 * SECOND)).count();
        assert_eq!(next, 250);
    }

    #[test]
    fn the_line_moves_as_fast_as_the_budget_is_by_then() {
        let budget = Budget::new(1_000.0);
        let turns: Vec<Turn> = (0..3_100).map(|_| budget.turn(SECOND, 3 * SECOND).unwrap()).collect();
        let let_in = |now_us| turns.iter().filter(|turn| budget.wait_us(**turn, now_us) == 0).count();
        assert_eq!((let_in(SECOND), let_in(2 * SECOND)), (100, 1_100));
        // Others let in the rest of what the region may: less may come at once, too.
        budget.resize(500.0, 2 * SECOND);
        let counts = [2, 3, 4].map(|second| let_in(second * SECOND));
        assert_eq!(counts, [1_050, 1_550, 2_050]);
        // Whoever comes now is behind all of them.
        assert!(
            budget
                .turn(4 * SECOND, 3 * SECOND)
                .is_some_and(|turn| budget.wait_us(turn, 4 * SECOND) > 2 * SECOND)
        );
        budget.resize(2_000.0, 4 * SECOND);
        assert_eq!(let_in(4 * SECOND + SECOND / 2), 3_100);
    }

    #[test]
    fn a_few_are_let_in_at_once_and_the_rest_by_and_by() {
        let budget = Budget::new(100.0);
        let taken = |now_us| (0..100).filter(|_| takes(&budget, now_us)).count();
        assert_eq!((taken(SECOND), taken(SECOND + SECOND / 20), taken(60 * SECOND)), (10, 5, 10));
        assert!(budget.is_spent(60 * SECOND, 0) && !budget.is_spent(61 * SECOND, 0));
        assert_eq!(budget.demand(), 300);
        budget.resize(0.1, 100 * SECOND);
        assert!(
            takes(&budget, 100 * SECOND) && !takes(&budget, 105 * SECOND) && takes(&budget, 111 * SECOND)
        );
        assert_eq!(budget.demand(), 3);
        // One is missing, of ten that there may be at once now.
        budget.resize(100.0, 111 * SECOND);
        assert_eq!((0..100).filter(|_| takes(&budget, 111 * SECOND)).count(), 9);
    }

    #[test]
    fn a_herd_of_all_threads_comes_in_no_faster_than_it_may() {
        let budget = Budget::new(5_000.0);
        // 2 s of time that all threads have together, each asking at each step.
        let of_thread =
            || (0..2_000_u64).map(|ms| (0..5).filter(|_| takes(&budget, ms * 1_000)).count()).sum::<usize>();
        let taken: usize = std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(of_thread));
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        // A thread that runs ahead gets what is due then, and one behind it nothing more.
        assert!((9_000..=10_500).contains(&taken), "{taken}");
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
