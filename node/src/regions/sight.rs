//! What was seen of a region: round trip, health, occupancy.

use std::time::Duration;

use serde::Serialize;

use pinwire_shed::State;

/// A region as it was seen last.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sight {
    /// From a request to the head of its answer, smoothed; that of the last answer where none came since.
    pub round_trip: Option<Duration>,
    /// How it is.
    pub condition: Condition,
    /// From 0, nothing, to 1, full, if it says so.
    pub occupancy: Option<f64>,
    /// Requests in a row that were not answered.
    pub(super) misses: u32,
}

/// How a region is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// Everything works.
    Healthy,
    /// It serves, but something that it relies on is away.
    Degraded,
    /// It takes no new clients for now.
    Overloaded,
    /// It takes no new clients any more.
    Draining,
    /// It does not answer.
    Unreachable,
}

impl Condition {
    /// As it is written.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Overloaded => "overloaded",
            Self::Draining => "draining",
            Self::Unreachable => "unreachable",
        }
    }

    /// Whether new clients may come.
    #[must_use]
    pub fn is_up(self) -> bool {
        matches!(self, Self::Healthy | Self::Degraded)
    }
}

impl From<State> for Condition {
    fn from(status: State) -> Self {
        match status {
            State::Healthy => Self::Healthy,
            State::Degraded => Self::Degraded,
            State::Overloaded => Self::Overloaded,
            State::Draining => Self::Draining,
        }
    }
}

/// Of this many requests without an answer in a row, one may be bad luck.
const MISSES: u32 = 2;

impl Sight {
    /// It answered.
    #[must_use]
    pub(crate) fn answered(
        before: Option<Self>,
        took: Duration,
        condition: Condition,
        occupancy: Option<f64>,
    ) -> Self {
        let round_trip = match before.and_then(|before| before.round_trip) {
            // What is quicker than ever was not held up by anything: a new connection, a busy thread.
            Some(before) if before < took => before + (took - before) / 8,
            _ => took,
        };
        Self { round_trip: Some(round_trip), condition, occupancy, misses: 0 }
    }

    /// It did not answer.
    #[must_use]
    pub(crate) fn missed(before: Option<Self>) -> Self {
        let unreachable =
            Self { round_trip: None, condition: Condition::Unreachable, occupancy: None, misses: MISSES };
        match before {
            Some(before) if before.misses + 1 < MISSES => Self { misses: before.misses + 1, ..before },
            Some(before) => Self { round_trip: before.round_trip, ..unreachable },
            None => unreachable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_round_trip_falls_at_once_and_rises_slowly() {
        let of = |before, took| Sight::answered(before, millis(took), Condition::Healthy, None);
        let first = of(None, 90);
        assert_eq!(first.round_trip, Some(millis(90)), "with the handshakes of a new connection");
        let second = of(Some(first), 30);
        assert_eq!(second.round_trip, Some(millis(30)));
        assert_eq!(of(Some(second), 110).round_trip, Some(millis(40)));
    }

    #[test]
    fn a_region_is_unreachable_after_two_misses_and_not_after_one() {
        let up = Sight::answered(None, millis(20), Condition::Degraded, Some(0.5));
        let once = Sight::missed(Some(up));
        assert_eq!((once.condition, once.occupancy), (Condition::Degraded, Some(0.5)));
        let twice = Sight::missed(Some(once));
        assert_eq!((twice.condition, twice.occupancy), (Condition::Unreachable, None));
        assert_eq!(twice.round_trip, Some(millis(20)), "how far it is is known");
        assert_eq!(Sight::missed(None).condition, Condition::Unreachable);
        assert_eq!(Sight::answered(Some(twice), millis(20), Condition::Healthy, None).misses, 0);
    }
}
