//! When the next round of requests is due: regularly, sooner after failures, and when a token with an unknown key asks for one.

use std::time::{Duration, Instant};

/// Providers that want to be asked more often than this are asked so often: what is urgent is asked for by tokens.
const REGULAR_MIN: Duration = Duration::from_secs(60);
/// The longest time between two attempts while a URL fails.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// See the module's documentation. The time comes in from outside.
#[derive(Debug)]
pub(super) struct Schedule {
    refresh: Duration,
    min_interval: Duration,
    /// When the last round began.
    last: Option<Instant>,
    /// When the next one is due if nobody asks.
    due: Instant,
    failures: u32,
    is_asked: bool,
}

/// How a round ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    /// Some URL gave nothing.
    pub(super) has_failed: bool,
    /// The shortest time for which an answer says that it holds.
    pub(super) max_age: Option<Duration>,
}

impl Schedule {
    /// The first round is due at once.
    pub(super) fn new(refresh: Duration, min_interval: Duration, now: Instant) -> Self {
        Self { refresh, min_interval, last: None, due: now, failures: 0, is_asked: false }
    }

    /// Other times, and perhaps other URLs: a round is due.
    pub(super) fn restart(&mut self, refresh: Duration, min_interval: Duration, now: Instant) {
        *self = Self { last: self.last, ..Self::new(refresh, min_interval, now) };
    }

    /// A token has an unknown key.
    pub(super) fn ask(&mut self) {
        self.is_asked = true;
    }

    /// When a round may begin at the earliest.
    pub(super) fn earliest(&self, now: Instant) -> Instant {
        self.last.map_or(now, |last| last + self.min_interval)
    }

    /// When a round is to begin.
    pub(super) fn next(&self, now: Instant) -> Instant {
        let earliest = self.earliest(now);
        if self.is_asked { earliest } else { self.due.max(earliest) }
    }

    /// A round begins.
    pub(super) fn begin(&mut self, now: Instant) {
        self.last = Some(now);
        self.is_asked = false;
    }

    /// The round that began last has ended; `random` is from 0 to 1, and keeps the nodes of a region apart.
    pub(super) fn end(&mut self, now: Instant, ended: Ended, random: f64) {
        if ended.has_failed {
            self.failures = (self.failures + 1).min(16);
            let most = self.min_interval.saturating_mul(1 << (self.failures - 1)).min(RETRY_MAX);
            self.due = now + most.mul_f64(0.5 + random / 2.0);
            return;
        }
        self.failures = 0;
        let most = self.refresh.max(self.min_interval);
        let least = REGULAR_MIN.min(most);
        let wait = ended.max_age.unwrap_or(most).clamp(least, most);
        self.due = now + wait.mul_f64(0.9 + random / 10.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Ended = Ended { has_failed: false, max_age: None };
    const BAD: Ended = Ended { has_failed: true, max_age: None };

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A schedule whose first round has just ended so.
    fn after(ended: Ended, random: f64) -> (Schedule, Instant) {
        let now = Instant::now();
        let mut schedule = Schedule::new(secs(600), secs(5), now);
        assert_eq!(schedule.next(now), now, "the first is due at once");
        schedule.begin(now);
        schedule.end(now, ended, random);
        (schedule, now)
    }

    #[test]
    fn the_next_round_is_when_answers_say_within_bounds_and_a_little_sooner() {
        let wait = |max_age: Option<u64>, random| {
            let (schedule, now) = after(Ended { max_age: max_age.map(secs), ..GOOD }, random);
            schedule.next(now) - now
        };
        assert_eq!(wait(None, 1.0), secs(600));
        assert_eq!(wait(Some(300), 1.0), secs(300));
        assert_eq!(wait(Some(300), 0.0), secs(270));
        assert_eq!(wait(Some(0), 1.0), secs(60));
        assert_eq!(wait(Some(86_400), 1.0), secs(600));
    }

    #[test]
    fn failures_are_tried_again_ever_later_until_one_is_none() {
        let (mut schedule, now) = after(BAD, 1.0);
        let mut waits = vec![schedule.next(now) - now];
        for _ in 0..20 {
            schedule.begin(now);
            schedule.end(now, BAD, 1.0);
            waits.push(schedule.next(now) - now);
        }
        assert_eq!(waits[..6], [5, 10, 20, 40, 60, 60].map(secs));
        assert!(waits[6..].iter().all(|wait| *wait == secs(60)));
        schedule.end(now, BAD, 0.0);
        assert_eq!(schedule.next(now) - now, secs(30));
        schedule.end(now, GOOD, 1.0);
        schedule.end(now, BAD, 1.0);
        assert_eq!(schedule.next(now) - now, secs(5));
    }

    #[test]
    fn however_many_ask_rounds_are_an_interval_apart() {
        let (mut schedule, start) = after(GOOD, 1.0);
        let (mut now, mut rounds) = (start, 0);
        // A token with an unknown key every 10 ms, for a minute.
        while now < start + secs(60) {
            schedule.ask();
            if now >= schedule.next(now) {
                schedule.begin(now);
                schedule.end(now, GOOD, 0.5);
                rounds += 1;
            }
            now += Duration::from_millis(10);
        }
        assert_eq!(rounds, 11, "at 5 s, 10 s and so on to 55 s");
    }

    #[test]
    fn asking_makes_a_failing_url_wait_no_longer_than_the_interval() {
        let (mut schedule, now) = after(BAD, 1.0);
        for _ in 0..5 {
            schedule.begin(now);
            schedule.end(now, BAD, 1.0);
        }
        schedule.ask();
        assert_eq!(schedule.next(now) - now, secs(5));
        schedule.begin(now);
        assert_eq!(schedule.next(now) - now, secs(60), "an answer is to no later question");
    }
}
