//! How often is changed, and when is tried again.

use fastrand::Rng;

const SECOND: u64 = 1_000_000;
/// Changes at once.
const BURST: u64 = 4;
/// Between two changes, in the long run. Somebody who undoes every one is argued with at this pace.
const REFILL_US: u64 = 15 * SECOND;
/// Between the first failure and the next attempt, at most; doubled with each.
const BACKOFF_MIN_US: u64 = SECOND;
const BACKOFF_MAX_US: u64 = 60 * SECOND;

/// Bounds the changes of one node.
#[derive(Debug)]
pub(crate) struct Bucket {
    /// When all of the burst is there again.
    full_us: u64,
}

impl Bucket {
    pub(crate) fn new(now_us: u64) -> Self {
        Self { full_us: now_us }
    }

    /// One change; or when there may be one.
    pub(crate) fn take(&mut self, now_us: u64) -> Result<(), u64> {
        let full_us = self.full_us.max(now_us) + REFILL_US;
        let allowed_us = full_us.saturating_sub(BURST * REFILL_US);
        if allowed_us > now_us {
            return Err(allowed_us);
        }
        self.full_us = full_us;
        Ok(())
    }
}

/// Times between attempts that fail.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Between half of the time and all of it: nodes that failed together do not come back together.
    pub(crate) fn next(&mut self, rng: &mut Rng) -> u64 {
        let most_us = (BACKOFF_MIN_US << self.failures.min(10)).min(BACKOFF_MAX_US);
        self.failures += 1;
        rng.u64(most_us / 2..=most_us)
    }

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::{BURST, Backoff, Bucket, REFILL_US, SECOND};
    use fastrand::Rng;

    #[test]
    fn a_burst_and_then_one_each_time() {
        let start = 100 * SECOND;
        let mut bucket = Bucket::new(start);
        for _ in 0..BURST {
            assert_eq!(bucket.take(start), Ok(()));
        }
        assert_eq!(bucket.take(start), Err(start + REFILL_US));
        assert_eq!(bucket.take(start + REFILL_US), Ok(()));
        assert!(bucket.take(start + REFILL_US).is_err());
        assert_eq!(bucket.take(start + 3 * REFILL_US), Ok(()));
    }

    #[test]
    fn attempts_get_rarer_up_to_a_bound() {
        let (mut backoff, mut rng) = (Backoff::default(), Rng::with_seed(1));
        let times: Vec<u64> = (0..12).map(|_| backoff.next(&mut rng)).collect();
        assert!((SECOND / 2..=SECOND).contains(&times[0]));
        assert!((2 * SECOND..=4 * SECOND).contains(&times[2]));
        assert!(times[7..].iter().all(|time| (30 * SECOND..=60 * SECOND).contains(time)));
        backoff.reset();
        assert!(backoff.next(&mut rng) <= SECOND);
    }
}
