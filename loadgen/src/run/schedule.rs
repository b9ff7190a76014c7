//! Planned send times of an open load: when the next send is due, whether or not earlier ones were answered.
//!
//! Times are nanoseconds from the start of the load. A thread has a share of the rate and an offset in it, so that the
//! threads' sends fall evenly between each other's.

use std::time::Duration;

use crate::scenario::{Arrivals, StagePlan};

/// Which part of the load a send belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Not counted.
    WarmUp,
    /// The stage's number.
    Stage(usize),
}

/// A send to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    /// Nanoseconds from the start of the load.
    pub(crate) at: u64,
    /// Where it counts.
    pub(crate) part: Part,
}

/// One stretch of evenly changing rate.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    part: Part,
    start: f64,
    seconds: f64,
    from: f64,
    to: f64,
}

impl Stretch {
    /// Sends planned from its start to `after` seconds into it.
    fn sends(&self, after: f64) -> f64 {
        let slope = (self.to - self.from) / self.seconds;
        self.from * after + slope * after * after / 2.0
    }

    /// The inverse of `sends`: when so many are planned.
    fn when(&self, sends: f64) -> f64 {
        let slope = (self.to - self.from) / self.seconds;
        if slope.abs() < 1e-12 {
            return sends / self.from;
        }
        // The root of slope/2 t^2 + from t - sends in a form that does not cancel.
        2.0 * sends / (self.from + (self.from * self.from + 2.0 * slope * sends).max(0.0).sqrt())
    }
}

/// Planned sends, one after the other.
#[derive(Debug)]
pub(crate) struct Schedule {
    stretches: Vec<Stretch>,
    current: usize,
    /// Sends of this share that are planned before `next`, counted from the current stretch's start; a fraction is what
    /// was left at the end of the one before.
    planned: f64,
    arrivals: Arrivals,
    random: fastrand::Rng,
    next: Option<Planned>,
}

impl Schedule {
    /// The `share` (0 to 1) of a load; `offset` (0 to 1) places its first send within the first gap.
    pub(crate) fn new(
        warm_up: Duration,
        stages: &[StagePlan],
        arrivals: Arrivals,
        share: f64,
        offset: f64,
        seed: u64,
    ) -> Self {
        let mut stretches = Vec::new();
        let mut start = 0.0;
        let mut push = |part, seconds: f64, from: f64, to: f64| {
            if seconds > 0.0 {
                stretches.push(Stretch { part, start, seconds, from: from * share, to: to * share });
                start += seconds;
            }
        };
        if let Some(first) = stages.first() {
            push(Part::WarmUp, warm_up.as_secs_f64(), first.from, first.from);
        }
        for (number, stage) in stages.iter().enumerate() {
            push(Part::Stage(number), stage.duration.as_secs_f64(), stage.from, stage.to);
        }
        let random = fastrand::Rng::with_seed(seed);
        let mut schedule =
            Self { stretches, current: 0, planned: offset - 1.0, arrivals, random, next: None };
        schedule.advance();
        schedule
    }

    /// The next send, if there is one.
    pub(crate) fn peek(&self) -> Option<Planned> {
        self.next
    }

    /// Takes the next send if it is due at `now`.
    pub(crate) fn take(&mut self, now: u64) -> Option<Planned> {
        let due = self.next.filter(|planned| planned.at <= now)?;
        self.advance();
        Some(due)
    }

    /// The rate planned at a time, sends a second of this share.
    pub(crate) fn rate_at(&self, now: u64) -> f64 {
        let seconds = now as f64 / 1e9;
        let found =
            self.stretches.iter().find(|part| (part.start..part.start + part.seconds).contains(&seconds));
        found.map_or(0.0, |part| part.from + (part.to - part.from) * (seconds - part.start) / part.seconds)
    }

    fn advance(&mut self) {
        self.planned += match self.arrivals {
            Arrivals::Constant => 1.0,
            // Inverse transform; 1 - u is in (0, 1].
            Arrivals::Poisson => -(1.0 - self.random.f64()).ln(),
        };
        while let Some(stretch) = self.stretches.get(self.current) {
            let whole = stretch.sends(stretch.seconds);
            if self.planned < whole {
                let at = (stretch.start + stretch.when(self.planned)) * 1e9;
                self.next = Some(Planned { at: at as u64, part: stretch.part });
                return;
            }
            self.planned -= whole;
            self.current += 1;
        }
        self.next = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stage(from: f64, to: f64, seconds: u64) -> StagePlan {
        StagePlan { name: None, from, to, duration: Duration::from_secs(seconds) }
    }

    fn all(mut schedule: Schedule) -> Vec<Planned> {
        std::iter::from_fn(|| schedule.take(u64::MAX)).collect()
    }

    proptest! {
        #[test]
        fn shares_together_plan_the_whole_load_in_order(
            from in 0.0..2000.0_f64, to in 0.0..2000.0_f64, seconds in 1_u64..5, shares in 1_u32..5, poisson: bool,
        ) {
            let arrivals = if poisson { Arrivals::Poisson } else { Arrivals::Constant };
            let stages = [stage(from, to, seconds), stage(to, to, 1)];
            let mut total = 0;
            for share in 0..shares {
                let part = 1.0 / f64::from(shares);
                let offset = f64::from(share) * part;
                let sends = all(Schedule::new(Duration::ZERO, &stages, arrivals, part, offset, u64::from(share)));
                prop_assert!(sends.is_sorted_by_key(|send| send.at));
                prop_assert!(sends.iter().all(|send| send.at <= (seconds + 1) * 1_000_000_000));
                total += sends.len();
            }
            let expected = (from + to) / 2.0 * seconds as f64 + to;
            let slack = if poisson { 6.0 * expected.sqrt() + 10.0 } else { f64::from(shares) + 1.0 };
            prop_assert!((total as f64 - expected).abs() <= slack, "{} sends instead of {}", total, expected);
        }
    }

    #[test]
    fn a_constant_rate_has_even_gaps_and_the_warm_up_comes_first() {
        let sends = all(Schedule::new(
            Duration::from_secs(1),
            &[stage(10.0, 10.0, 1)],
            Arrivals::Constant,
            1.0,
            0.0,
            1,
        ));
        assert_eq!(sends.len(), 20);
        assert!(sends.windows(2).all(|two| (two[1].at - two[0].at).abs_diff(100_000_000) < 10));
        assert_eq!(sends[9].part, Part::WarmUp);
        assert_eq!(sends[10].part, Part::Stage(0));
    }

    #[test]
    fn a_rate_of_zero_plans_nothing() {
        assert!(
            all(Schedule::new(Duration::ZERO, &[stage(0.0, 0.0, 3)], Arrivals::Constant, 1.0, 0.5, 1))
                .is_empty()
        );
    }
}
