//! Times in buckets, cheap enough to be noted on a data thread for every handshake and turn.

use std::time::Duration;

/// Upper bounds of buckets, in microseconds: 1, 2, 4 and so on to 16.8 s.
const BUCKETS: usize = 25;

/// Times by the power of two of microseconds that they do not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Histogram {
    /// The last one is for what is beyond every bound.
    counts: [u64; BUCKETS + 1],
    sum_us: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [0; BUCKETS + 1], sum_us: 0 }
    }
}

impl Histogram {
    /// Notes a time.
    pub(crate) fn note(&mut self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = (u64::BITS - us.saturating_sub(1).leading_zeros()) as usize;
        self.counts[bucket.min(BUCKETS)] += 1;
        self.sum_us = self.sum_us.saturating_add(us);
    }

    /// Adds what another one counted.
    pub(crate) fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
    }

    /// Times noted.
    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum in seconds.
    pub(crate) fn sum_seconds(&self) -> f64 {
        self.sum_us as f64 / 1e6
    }

    /// Each bound in seconds, with how many times do not pass it.
    pub(crate) fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        self.counts.iter().take(BUCKETS).enumerate().scan(0, |sum, (power, count)| {
            *sum += count;
            Some(((1_u64 << power) as f64 / 1e6, *sum))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_counts_from_the_first_bound_that_it_does_not_pass() {
        let mut histogram = Histogram::default();
        for us in [0, 1, 2, 3, 4, 5, 1 << 24, (1 << 24) + 1, u64::MAX] {
            histogram.note(Duration::from_micros(us));
        }
        let counts: Vec<u64> = histogram.cumulative().map(|(_, count)| count).collect();
        assert_eq!(counts[..4], [2, 3, 5, 6], "up to 1, 2, 4 and 8 us");
        assert_eq!((counts[23], counts[24], histogram.count()), (6, 7, 9));
        let (last, _) = histogram.cumulative().last().unwrap();
        assert!((last - 16.777_216).abs() < 1e-9);
    }

    #[test]
    fn sums_are_those_of_both() {
        let mut one = Histogram::default();
        one.note(Duration::from_millis(250));
        let mut both = one;
        both.add(&one);
        assert_eq!(both.count(), 2);
        assert!((both.sum_seconds() - 0.5).abs() < 1e-9);
    }
}
