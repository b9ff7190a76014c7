//! The highest rate at which an objective holds: up by doubling, then halving the gap.

/// What a try at a rate showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The objective held.
    Held,
    /// It did not.
    Failed,
    /// The generator was the limit: no higher rate can be judged from here.
    Invalid,
}

/// The state of a search. A failure is believed when it came twice, since one may be a hiccup of the machine.
#[derive(Clone, Debug)]
pub struct Search {
    held: Option<f64>,
    failed: Option<f64>,
    doubt: Option<f64>,
    next: f64,
    left: u32,
    was_invalid: bool,
}

/// The gap, as a share of the rate, at which a search ends.
const RESOLUTION: f64 = 0.05;
/// Tries at most.
const TRIES_MAX: u32 = 24;

impl Search {
    /// Begins at a rate.
    #[must_use]
    pub fn new(from: f64) -> Self {
        Self { held: None, failed: None, doubt: None, next: from, left: TRIES_MAX, was_invalid: false }
    }

    /// The rate to try next; none when the search is over.
    #[must_use]
    pub fn next(&self) -> Option<f64> {
        (self.left > 0 && self.next >= 1.0).then_some(self.next)
    }

    /// Tells what the rate of `next` showed.
    pub fn tell(&mut self, outcome: Outcome) {
        self.left -= 1;
        let rate = self.next;
        match outcome {
            Outcome::Held => {
                self.doubt = None;
                self.held = Some(rate);
            }
            _ if self.doubt != Some(rate) => {
                self.doubt = Some(rate);
                return;
            }
            outcome => {
                self.doubt = None;
                self.failed = Some(rate);
                self.was_invalid = outcome == Outcome::Invalid;
            }
        }
        match (self.held, self.failed) {
            (Some(held), Some(failed)) if failed / held - 1.0 <= RESOLUTION => self.left = 0,
            (Some(held), Some(failed)) => self.next = f64::midpoint(held, failed),
            (Some(held), None) => self.next = held * 2.0,
            (None, Some(failed)) => self.next = failed / 2.0,
            (None, None) => {}
        }
    }

    /// The highest rate that held.
    #[must_use]
    pub fn answer(&self) -> Option<f64> {
        self.held
    }

    /// Whether it was the generator that ended the search, and not the server.
    #[must_use]
    pub fn is_generators_limit(&self) -> bool {
        self.was_invalid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(from: f64, mut outcome: impl FnMut(f64) -> Outcome) -> Search {
        let mut search = Search::new(from);
        while let Some(rate) = search.next() {
            search.tell(outcome(rate));
        }
        search
    }

    #[test]
    fn the_knee_is_found_from_below_and_from_above() {
        for from in [10.0, 100_000.0] {
            let found = search(from, |rate| if rate <= 1234.0 { Outcome::Held } else { Outcome::Failed });
            let answer = found.answer().unwrap();
            assert!(answer <= 1234.0 && answer > 1234.0 * 0.94, "{answer} from {from}");
        }
    }

    #[test]
    fn one_hiccup_does_not_end_it() {
        let mut tries = 0;
        let found = search(100.0, |rate| {
            tries += 1;
            if tries == 2 || rate > 900.0 { Outcome::Failed } else { Outcome::Held }
        });
        assert!(found.answer().unwrap() > 850.0);
    }

    #[test]
    fn a_generator_at_its_limit_is_named_and_nothing_that_holds_gives_no_answer() {
        let limited = search(100.0, |rate| if rate < 500.0 { Outcome::Held } else { Outcome::Invalid });
        assert!(limited.is_generators_limit());
        assert_eq!(search(100.0, |_| Outcome::Failed).answer(), None);
    }
}
