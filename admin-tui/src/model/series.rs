//! Samples over time, one a step (a second, unless it is said otherwise), with gaps where there were none: never zeros.

use super::Millis;

/// Steps that are kept.
pub const KEPT: usize = 600;

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct Series {
    /// `NaN` is a gap. The last is of step `last`.
    samples: Vec<f32>,
    last: u64,
    /// Milliseconds of a step.
    step: Millis,
}

impl Default for Series {
    fn default() -> Self {
        Self::every(1000)
    }
}

impl Series {
    /// Nothing yet, with steps of so many milliseconds.
    #[must_use]
    pub fn every(step: Millis) -> Self {
        Self { samples: Vec::new(), last: 0, step: step.max(1) }
    }

    /// Takes a sample. Of two in one step the later counts; one that is older than the last is dropped.
    pub fn push(&mut self, at: Millis, value: Option<f64>) {
        let second = at / self.step;
        let value = value.map_or(f32::NAN, |value| value as f32);
        match self.samples.last_mut() {
            Some(_) if second < self.last => return,
            Some(newest) if second == self.last => {
                *newest = value;
                return;
            }
            // Samples come each step, and not exactly: a single step without one is rounding, no gap.
            Some(newest) if second == self.last + 2 && !value.is_nan() => {
                let between = *newest;
                self.samples.push(between);
            }
            Some(_) => {
                let gap = usize::try_from(second - self.last - 1).unwrap_or(KEPT).min(KEPT);
                self.samples.extend(std::iter::repeat_n(f32::NAN, gap));
            }
            None => {}
        }
        self.samples.push(value);
        self.last = second;
        let too_many = self.samples.len().saturating_sub(KEPT);
        self.samples.drain(..too_many);
    }

    /// The last `count` steps up to `now`, the oldest first; `None` is a gap.
    #[must_use]
    pub fn window(&self, count: usize, now: Millis) -> Vec<Option<f64>> {
        let end = (now / self.step).max(self.last);
        let at = |second: u64| {
            let back = usize::try_from(self.last.checked_sub(second)?).ok()?;
            let sample = *self.samples.get(self.samples.len().checked_sub(back + 1)?)?;
            (!sample.is_nan()).then_some(f64::from(sample))
        };
        // The step that is going on may have no sample yet, which is no gap.
        let end = if end == self.last + 1 && !self.samples.is_empty() { self.last } else { end };
        (0..count as u64).rev().map(|back| at(end.checked_sub(back)?)).collect()
    }

    /// The newest sample.
    #[must_use]
    pub fn newest(&self) -> Option<f64> {
        self.samples.last().filter(|sample| !sample.is_nan()).map(|sample| f64::from(*sample))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_without_a_sample_are_gaps_and_not_zeros() {
        let mut series = Series::default();
        series.push(10_000, Some(1.0));
        series.push(11_100, Some(2.0));
        series.push(15_000, Some(3.0));
        assert_eq!(series.window(7, 15_900), [None, Some(1.0), Some(2.0), None, None, None, Some(3.0)]);
        assert_eq!(series.window(3, 18_000), [None, None, None]);
    }

    #[test]
    fn a_sample_that_slips_by_a_second_leaves_no_hole() {
        let mut series = Series::default();
        series.push(10_999, Some(1.0));
        series.push(12_001, Some(2.0));
        assert_eq!(series.window(3, 13_000), [Some(1.0), Some(1.0), Some(2.0)]);
    }

    #[test]
    fn what_is_kept_is_bounded_whatever_the_clock_does() {
        let mut series = Series::default();
        for at in [1_000, u64::MAX / 4, 5_000, u64::MAX / 4 + 1_000] {
            series.push(at, Some(1.0));
        }
        for second in 0..2 * KEPT as u64 {
            series.push(u64::MAX / 2 + second * 1_000, Some(1.0));
        }
        assert!(series.samples.len() <= KEPT);
        assert_eq!(series.newest(), Some(1.0));
    }
}
