//! Processor time between two looks, smoothed over seconds: one busy moment is no load.

/// Tells how busy a node is from counters of processor time that only grow.
#[derive(Clone, Copy, Debug)]
pub struct CpuMeter {
    /// How long a change takes to show for the most part (63 %), in microseconds.
    tau_us: u64,
    last: Option<(u64, u64)>,
    share: Option<f64>,
}

impl CpuMeter {
    /// Smooths over `tau_us`.
    #[must_use]
    pub fn new(tau_us: u64) -> Self {
        Self { tau_us: tau_us.max(1), last: None, share: None }
    }

    /// At `now_us`, `used_us` of processor time were used since some beginning, of `cores` that may be used. Answers the share of
    /// late; `None` until as much time has passed as is smoothed over, so that a busy moment at the start is no load either. A
    /// counter that went back, as after a change of cgroup, begins anew.
    pub fn note(&mut self, now_us: u64, used_us: u64, cores: f64) -> Option<f64> {
        let &mut (then_us, used_before_us) = self.last.get_or_insert((now_us, used_us));
        let passed_us = now_us.saturating_sub(then_us);
        let Some(spent_us) = used_us.checked_sub(used_before_us) else {
            self.last = Some((now_us, used_us));
            return self.share;
        };
        let is_early = self.share.is_none() && passed_us < self.tau_us;
        if is_early || passed_us == 0 {
            return self.share;
        }
        self.last = Some((now_us, used_us));
        let now = spent_us as f64 / (passed_us as f64 * cores.max(f64::MIN_POSITIVE));
        let weight = 1.0 - (-(passed_us as f64) / self.tau_us as f64).exp();
        let before = self.share.unwrap_or(now);
        self.share = Some(before + weight * (now - before));
        self.share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn a_busy_second_is_no_load_and_ten_are() {
        let mut meter = CpuMeter::new(5 * SECOND);
        let (mut now_us, mut used_us) = (0, 0);
        assert_eq!(meter.note(now_us, used_us, 2.0), None);
        let mut after = |seconds: u64, busy: u64| {
            let mut share = None;
            for _ in 0..seconds {
                (now_us, used_us) = (now_us + SECOND, used_us + busy);
                share = meter.note(now_us, used_us, 2.0);
            }
            share.unwrap()
        };
        assert!(after(10, SECOND / 5) < 0.101);
        assert!(after(1, 2 * SECOND) < 0.3);
        assert!(after(10, 2 * SECOND) > 0.85);
        assert!(after(30, 0) < 0.01);
    }

    #[test]
    fn a_busy_moment_at_the_start_is_no_load() {
        let mut meter = CpuMeter::new(5 * SECOND);
        let shares: Vec<Option<f64>> =
            (0..24_u64).map(|look| meter.note(look * SECOND / 4, look.min(1) * SECOND / 4, 1.0)).collect();
        assert!(shares[..20].iter().all(Option::is_none), "{shares:?}");
        assert!(shares[20..].iter().all(|share| share.is_some_and(|share| share <= 0.05)), "{shares:?}");
    }

    #[test]
    fn how_often_one_looks_does_not_matter() {
        let shares = [1, 4].map(|looks: u64| {
            let mut meter = CpuMeter::new(5 * SECOND);
            meter.note(0, 0, 1.0);
            meter.note(5 * SECOND, 0, 1.0);
            (1..=looks)
                .filter_map(|look| {
                    meter.note(5 * SECOND + look * 2 * SECOND / looks, look * 2 * SECOND / looks, 1.0)
                })
                .last()
                .unwrap()
        });
        assert!((shares[0] - shares[1]).abs() < 1e-9, "{shares:?}");
    }

    #[test]
    fn a_counter_that_went_back_begins_anew() {
        let mut meter = CpuMeter::new(SECOND);
        meter.note(0, 10 * SECOND, 1.0);
        assert_eq!(meter.note(SECOND, SECOND, 1.0), None);
        assert!(meter.note(2 * SECOND, 2 * SECOND, 1.0).unwrap() > 0.99);
        assert!(meter.note(2 * SECOND, 2 * SECOND, 1.0).is_some(), "no time passed");
    }
}
