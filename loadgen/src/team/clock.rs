//! Whose clock says what: offsets of agents' clocks, from the exchanges that took the least time.

use std::time::Duration;

use crate::results::ClockOffset;

/// Exchanges with each agent: the best of them counts.
pub(crate) const ROUNDS: u32 = 16;

/// The best exchange so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Estimate(Option<ClockOffset>);

impl Estimate {
    /// An exchange: asked and answered at these times of ours, while the agent's clock said `theirs`.
    pub(crate) fn take(&mut self, asked: Duration, theirs: Duration, answered: Duration) {
        let round_trip = answered.saturating_sub(asked);
        let ours = asked + round_trip / 2;
        let candidate = ClockOffset {
            offset_ns: nanoseconds(theirs) - nanoseconds(ours),
            round_trip_ns: nanoseconds(round_trip).unsigned_abs(),
        };
        if self.0.is_none_or(|best| candidate.round_trip_ns < best.round_trip_ns) {
            self.0 = Some(candidate);
        }
    }

    pub(crate) fn best(self) -> Option<ClockOffset> {
        self.0
    }

    /// What the agent's clock says at a time of ours, nanoseconds.
    pub(crate) fn theirs(self, ours: Duration) -> u64 {
        let offset = self.0.map_or(0, |best| best.offset_ns);
        u64::try_from(nanoseconds(ours) + offset).unwrap_or(0)
    }
}

fn nanoseconds(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_exchange_decides_and_an_uneven_way_is_off_by_half_of_it_at_most() {
        let at = Duration::from_micros;
        let mut estimate = Estimate::default();
        // Their clock is 5 ms ahead. The first answer waited long on its way back.
        estimate.take(at(1_000), at(6_100), at(3_000));
        estimate.take(at(4_000), at(9_080), at(4_100));
        estimate.take(at(5_000), at(10_900), at(6_000));
        let best = estimate.best().unwrap();
        assert_eq!(best.round_trip_ns, 100_000);
        assert!((best.offset_ns - 5_000_000).unsigned_abs() <= best.round_trip_ns / 2);
        assert_eq!(estimate.theirs(at(10_000)), (10_000_000 + best.offset_ns) as u64);
    }

    #[test]
    fn a_moment_before_the_agents_clock_began_is_its_beginning() {
        let mut estimate = Estimate::default();
        estimate.take(Duration::from_secs(9), Duration::from_secs(1), Duration::from_secs(9));
        assert_eq!(estimate.theirs(Duration::from_secs(1)), 0);
    }
}
