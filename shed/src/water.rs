//! A mark that is passed upwards at once, and downwards only after a while: load that oscillates around it changes nothing.

/// Where it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mark {
    /// At this share one is above.
    pub high: f64,
    /// Below this share, and for as long as `dwell_us`, one is not any more. At most `high`.
    pub low: f64,
    /// Microseconds.
    pub dwell_us: u64,
}

/// Whether one is above a mark.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Water {
    is_above: bool,
    /// Below the low mark without a break since then.
    low_since_us: Option<u64>,
}

impl Water {
    /// Whether one is, as of the last [`Self::note`].
    #[must_use]
    pub fn is_above(self) -> bool {
        self.is_above
    }

    /// The share at `now_us`; answers whether one is above.
    pub fn note(&mut self, mark: &Mark, share: f64, now_us: u64) -> bool {
        if share >= mark.high {
            *self = Self { is_above: true, low_since_us: None };
        } else if share >= mark.low || !self.is_above {
            self.low_since_us = None;
        } else {
            let since_us = *self.low_since_us.get_or_insert(now_us);
            if now_us.saturating_sub(since_us) >= mark.dwell_us {
                *self = Self::default();
            }
        }
        self.is_above
    }
}

/// Whether something has lasted: true once it was so for a while without a break, until it was not for a while.
#[derive(Clone, Copy, Debug)]
pub struct Lasting {
    begins_us: u64,
    ends_us: u64,
    is_so: bool,
    /// The contrary of `is_so` without a break since then.
    other_since_us: Option<u64>,
}

impl Lasting {
    /// It counts after `begins_us`, and no longer after `ends_us` without it.
    #[must_use]
    pub fn new(begins_us: u64, ends_us: u64) -> Self {
        Self { begins_us, ends_us, is_so: false, other_since_us: None }
    }

    /// Whether it is so at `now_us`; answers whether it has lasted.
    pub fn note(&mut self, is_so: bool, now_us: u64) -> bool {
        if is_so == self.is_so {
            self.other_since_us = None;
            return self.is_so;
        }
        let since_us = *self.other_since_us.get_or_insert(now_us);
        let patience_us = if is_so { self.begins_us } else { self.ends_us };
        if now_us.saturating_sub(since_us) >= patience_us {
            self.is_so = is_so;
            self.other_since_us = None;
        }
        self.is_so
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000;
    const MARK: Mark = Mark { high: 0.8, low: 0.7, dwell_us: 10 * SECOND };

    #[test]
    fn one_is_above_at_once_and_below_after_a_while() {
        let mut water = Water::default();
        let mut at = |seconds: u64, share| water.note(&MARK, share, seconds * SECOND);
        assert!(!at(0, 0.79));
        assert!(at(1, 0.8));
        assert!(at(2, 0.75), "between the marks");
        assert!(at(3, 0.69) && at(12, 0.1), "not for long enough");
        assert!(at(12, 0.7), "a break");
        assert!(at(13, 0.6) && at(22, 0.6));
        assert!(!at(23, 0.6));
        assert!(!at(24, 0.79));
    }

    #[test]
    fn load_that_oscillates_around_the_mark_changes_once_in_ten_minutes() {
        let mut water = Water::default();
        let mut changes = 0;
        for tick in 0..2_400_u64 {
            let before = water.is_above();
            // A saw of 78 to 82 %, a tooth every 8 s.
            let share = 0.78 + 0.04 * ((tick % 32) as f64 / 31.0);
            changes += usize::from(water.note(&MARK, share, tick * SECOND / 4) != before);
        }
        assert_eq!((changes, water.is_above()), (1, true));
    }

    #[test]
    fn what_comes_and_goes_does_not_last() {
        let mut lasting = Lasting::new(3 * SECOND, 5 * SECOND);
        let mut at = |seconds: u64, is_so| lasting.note(is_so, seconds * SECOND);
        assert!(!at(0, true) && !at(2, true) && !at(3, false) && !at(4, true), "a break");
        assert!(!at(6, true) && at(7, true));
        assert!(at(8, false) && at(12, false) && at(12, true), "a break");
        assert!(at(13, false) && !at(18, false));
    }

    proptest! {
        #[test]
        fn two_changes_downwards_are_a_dwell_apart(shares in prop::collection::vec(0.0..1.0, 1..400), step_us in 1..5 * SECOND) {
            let (mut water, mut now_us, mut last_us) = (Water::default(), 0, None);
            for share in shares {
                let before = water.is_above();
                let is_above = water.note(&MARK, share, now_us);
                if before && !is_above {
                    prop_assert!(last_us.is_none_or(|last_us| now_us - last_us >= MARK.dwell_us));
                    last_us = Some(now_us);
                }
                prop_assert!(is_above || share < MARK.high);
                now_us += step_us;
            }
        }
    }
}
