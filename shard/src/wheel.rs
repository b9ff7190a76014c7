//! One timing wheel for everything that has a deadline on a thread: lazy, so that pushing a deadline back is free.
//!
//! An entry is four bytes in a bucket. Its owner remembers the tick at which its one valid entry fires (`due`): an
//! entry met at any other tick is stale and dropped. Activity that moves a deadline later touches nothing; when the
//! entry fires, the owner looks at its real deadline and schedules again.

/// Length of a tick in milliseconds: the precision of every deadline.
pub const TICK_MS: u64 = 50;

/// Ticks that fit in the wheel (102 s). A later deadline fires early once and is scheduled again.
const BUCKETS: u32 = 2048;

/// Tick number since the shard's start.
pub type Tick = u32;

/// The tick in which a moment lies, rounded up: a deadline never fires early.
#[must_use]
pub fn tick_at(ms: u64) -> Tick {
    ms.div_ceil(TICK_MS) as Tick
}

/// Buckets of keys; a key is whatever the shard makes of 32 bits.
#[derive(Debug)]
pub struct Wheel {
    buckets: Vec<Vec<u32>>,
    /// The last tick whose bucket was emptied.
    now: Tick,
    len: usize,
}

impl Wheel {
    /// An empty wheel at `now_ms`.
    #[must_use]
    pub fn new(now_ms: u64) -> Self {
        Self { buckets: vec![Vec::new(); BUCKETS as usize], now: (now_ms / TICK_MS) as Tick, len: 0 }
    }

    /// Makes sure that `key` fires at `deadline_ms` or before; `due` is the owner's note of its valid entry.
    ///
    /// Nothing is done when the valid entry fires early enough anyway.
    pub fn schedule(&mut self, key: u32, due: &mut Tick, deadline_ms: u64) {
        let wanted = tick_at(deadline_ms).clamp(self.now + 1, self.now + BUCKETS - 1);
        if *due > self.now && *due <= wanted {
            return;
        }
        *due = wanted;
        self.buckets[(wanted % BUCKETS) as usize].push(key);
        self.len += 1;
    }

    /// Takes the keys of the next tick that is not later than `now_ms`, if one is left.
    ///
    /// The caller drops a key whose owner's `due` is not the returned tick.
    pub fn advance(&mut self, now_ms: u64) -> Option<(Tick, Vec<u32>)> {
        let target = (now_ms / TICK_MS) as Tick;
        if self.len == 0 {
            self.now = self.now.max(target);
            return None;
        }
        while self.now < target {
            self.now += 1;
            let keys = std::mem::take(&mut self.buckets[(self.now % BUCKETS) as usize]);
            if !keys.is_empty() {
                self.len -= keys.len();
                return Some((self.now, keys));
            }
        }
        None
    }

    /// When [`Self::advance`] has something to do at the earliest, in milliseconds.
    #[must_use]
    pub fn next_ms(&self) -> Option<u64> {
        if self.len == 0 {
            return None;
        }
        (1..BUCKETS)
            .map(|ahead| self.now + ahead)
            .find(|tick| !self.buckets[(tick % BUCKETS) as usize].is_empty())
            .map(|tick| u64::from(tick) * TICK_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fired(wheel: &mut Wheel, now_ms: u64) -> Vec<(Tick, u32)> {
        let mut all = Vec::new();
        while let Some((tick, keys)) = wheel.advance(now_ms) {
            all.extend(keys.into_iter().map(|key| (tick, key)));
        }
        all
    }

    #[test]
    fn a_deadline_fires_at_its_tick_and_never_early() {
        let mut wheel = Wheel::new(1000);
        let mut due = 0;
        wheel.schedule(7, &mut due, 1_120);
        assert_eq!(wheel.next_ms(), Some(1_150));
        assert!(fired(&mut wheel, 1_149).is_empty());
        assert_eq!(fired(&mut wheel, 1_150), vec![(due, 7)]);
        assert_eq!(wheel.next_ms(), None);
    }

    #[test]
    fn an_earlier_deadline_supersedes_the_entry_and_a_later_one_adds_none() {
        let mut wheel = Wheel::new(0);
        let mut due = 0;
        wheel.schedule(1, &mut due, 10_000);
        wheel.schedule(1, &mut due, 20_000);
        assert_eq!(due, tick_at(10_000));
        wheel.schedule(1, &mut due, 500);
        assert_eq!(due, tick_at(500));
        let all = fired(&mut wheel, 60_000);
        assert_eq!(all, vec![(tick_at(500), 1), (tick_at(10_000), 1)], "the second is stale: due differs");
    }

    #[test]
    fn a_deadline_beyond_the_wheel_fires_before_it_to_be_scheduled_again() {
        let mut wheel = Wheel::new(0);
        let mut due = 0;
        wheel.schedule(1, &mut due, 10_000_000);
        assert_eq!(fired(&mut wheel, 200_000).len(), 1);
    }

    #[test]
    fn every_key_fires_exactly_once_over_many_turns_of_the_wheel() {
        let mut wheel = Wheel::new(0);
        let mut dues = vec![0; 1000];
        for (key, due) in dues.iter_mut().enumerate() {
            wheel.schedule(key as u32, due, (key as u64 * 977) % 100_000);
        }
        let mut keys: Vec<u32> =
            (0..100).flat_map(|s| fired(&mut wheel, s * 1_050)).map(|(_, key)| key).collect();
        keys.sort_unstable();
        assert_eq!(keys, (0..1000).collect::<Vec<u32>>());
    }
}
