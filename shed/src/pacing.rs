//! When somebody who was refused is asked to come again: at any time within a window (full jitter), and the window grows with how
//! many are being refused, so that those who come back are no more than can be refused cheaply, or served.

/// The shortest window, in microseconds.
const SHORTEST_US: u64 = 5_000_000;
/// The longest: who waits for longer has given up.
const LONGEST_US: u64 = 120_000_000;
/// Nobody comes back earlier.
const LEAST_US: u64 = 1_000_000;

/// The window of one node.
#[derive(Clone, Copy, Debug)]
pub struct Pacing {
    /// Dials in a second that those who were refused may make together.
    per_second: f64,
    /// About how many of them are waiting to come back.
    waiting: f64,
    at_us: u64,
}

impl Pacing {
    /// Nobody was refused yet.
    #[must_use]
    pub fn new(per_second: f64) -> Self {
        Self { per_second: per_second.max(f64::MIN_POSITIVE), waiting: 0.0, at_us: 0 }
    }

    /// They may make so many from now on.
    pub fn resize(&mut self, per_second: f64) {
        self.per_second = per_second.max(f64::MIN_POSITIVE);
    }

    /// The window now, in microseconds.
    #[must_use]
    pub fn window_us(&self) -> u64 {
        let wanted = self.waiting / self.per_second * 1e6;
        (wanted as u64).clamp(SHORTEST_US, LONGEST_US)
    }

    /// One more is refused at `now_us`; answers after how many microseconds it is asked to come again. `random` is uniform.
    pub fn refuse(&mut self, now_us: u64, random: u32) -> u64 {
        // Who waits comes back evenly over the window.
        let passed_us = now_us.saturating_sub(std::mem::replace(&mut self.at_us, now_us));
        self.waiting *= (-(passed_us as f64) / self.window_us() as f64).exp();
        self.waiting += 1.0;
        let spread = self.window_us() - LEAST_US;
        LEAST_US + ((u128::from(spread) * u128::from(random)) >> u32::BITS) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn a_few_are_asked_soon_and_many_later() {
        let mut pacing = Pacing::new(100.0);
        assert!(pacing.refuse(0, u32::MAX) <= SHORTEST_US);
        (0..5_000).for_each(|_| _ = pacing.refuse(SECOND, 0));
        assert!((45 * SECOND..52 * SECOND).contains(&pacing.window_us()), "{}", pacing.window_us());
        (0..100_000).for_each(|_| _ = pacing.refuse(SECOND, 0));
        assert_eq!(pacing.window_us(), LONGEST_US);
    }

    #[test]
    fn the_window_shrinks_when_nobody_comes() {
        let mut pacing = Pacing::new(100.0);
        (0..5_000).for_each(|_| _ = pacing.refuse(0, 0));
        pacing.refuse(600 * SECOND, 0);
        assert_eq!(pacing.window_us(), SHORTEST_US);
    }

    /// A herd that is refused for ever settles at about as many dials in a second as it may make.
    #[test]
    fn a_herd_that_is_refused_for_ever_dials_no_more_than_it_may() {
        let (mut pacing, mut random) = (Pacing::new(100.0), 1_u64);
        let mut dials: std::collections::BTreeMap<u64, u32> = std::collections::BTreeMap::new();
        let mut due: std::collections::BinaryHeap<_> =
            (0..10_000_u64).map(|client| std::cmp::Reverse((client % 7, client))).collect();
        while let Some(std::cmp::Reverse((now_us, client))) = due.pop() {
            if now_us > 400 * SECOND {
                break;
            }
            *dials.entry(now_us / SECOND / 10).or_default() += 1;
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            due.push(std::cmp::Reverse((now_us + pacing.refuse(now_us, (random >> 32) as u32), client)));
        }
        let late: Vec<u32> = dials.range(20..39).map(|(_, dials)| dials / 10).collect();
        assert!(late.iter().all(|per_second| *per_second < 250), "{late:?}");
        assert!(late.iter().all(|per_second| *per_second > 50), "{late:?}");
    }

    proptest! {
        #[test]
        fn answers_lie_within_bounds(times in prop::collection::vec((0_u64..10 * SECOND, any::<u32>()), 1..100)) {
            let (mut pacing, mut now_us) = (Pacing::new(10.0), 0);
            for (step_us, random) in times {
                now_us += step_us;
                let wait_us = pacing.refuse(now_us, random);
                prop_assert!((LEAST_US..=LONGEST_US).contains(&wait_us));
            }
        }
    }
}
