//! Medians and paired ratios: what is left of noise when both sides were measured side by side.

use serde_json::{Value, json};

/// Where a set of readings lies.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    /// The least.
    pub least: f64,
    /// A quarter of them lie below.
    pub lower: f64,
    /// The middle one.
    pub median: f64,
    /// A quarter of them lie above.
    pub upper: f64,
    /// The greatest.
    pub greatest: f64,
}

impl Spread {
    /// Of some readings; all zero if there are none.
    #[must_use]
    pub fn of(readings: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = readings.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| quantile(&sorted, share);
        Self { least: at(0.0), lower: at(0.25), median: at(0.5), upper: at(0.75), greatest: at(1.0) }
    }

    /// As `median (lower to upper)`, with so many decimals.
    #[must_use]
    pub fn text(self, decimals: usize) -> String {
        format!("{:.decimals$} ({:.decimals$} to {:.decimals$})", self.median, self.lower, self.upper)
    }

    /// For a result file.
    #[must_use]
    pub fn to_json(self) -> Value {
        let Self { least, lower, median, upper, greatest } = self;
        json!({ "least": least, "lower": lower, "median": median, "upper": upper, "greatest": greatest })
    }
}

/// Linear between the two neighbours.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let place = share * last as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    sorted[below] + (sorted[above] - sorted[below]) * (place - place.floor())
}

/// Ratios of readings that were taken side by side, round by round.
#[must_use]
pub fn paired(ours: &[f64], theirs: &[f64]) -> Spread {
    Spread::of(
        ours.iter().zip(theirs).filter(|(_, theirs)| **theirs > 0.0).map(|(ours, theirs)| ours / theirs),
    )
}

/// The order of `count` sides in a round: each round begins with another, and every second one goes backwards, so that none
/// always runs first or behind the same one.
#[must_use]
pub fn order(count: usize, round: usize) -> Vec<usize> {
    let turned = (0..count).map(|at| (at + round / 2) % count.max(1));
    if round.is_multiple_of(2) { turned.collect() } else { turned.rev().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_their_neighbours() {
        let spread = Spread::of([4.0, 1.0, 3.0, 2.0]);
        assert_eq!(spread, Spread { least: 1.0, lower: 1.75, median: 2.5, upper: 3.25, greatest: 4.0 });
        assert_eq!(Spread::of([]), Spread::default());
        assert_eq!(spread.text(1), "2.5 (1.8 to 3.2)");
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        // The second round was slow for both: its ratio is as good as the others'.
        assert_eq!(paired(&[1.0, 10.0, 1.0], &[2.0, 20.0, 2.0]).median, 0.5);
        assert_eq!(paired(&[1.0], &[0.0]), Spread::default());
    }

    #[test]
    fn every_side_is_first_in_some_round_and_last_in_another() {
        let rounds: Vec<Vec<usize>> = (0..8).map(|round| order(4, round)).collect();
        for side in 0..4 {
            assert!(
                rounds.iter().any(|round| round[0] == side) && rounds.iter().any(|round| round[3] == side)
            );
        }
    }
}
