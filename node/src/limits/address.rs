//! Buckets per client address, shared by all threads.
//!
//! A bucket is one number (GCRA): the time at which it would be full again. A minute's allowance may be taken at
//! once and then comes back evenly. A bucket untouched for a minute is full, so forgetting it changes nothing; when
//! too many addresses come at once the oldest are forgotten early, which lets their next request through.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::config::AddressLimits;

/// What a client asks for; each has its own bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking {
    /// A WebSocket handshake.
    Connect,
    /// `/discovery`.
    Discovery,
    /// `/usage`.
    Usage,
}

/// A refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany {
    /// How long until one more would be let through.
    pub retry_after: Duration,
}

/// Limits of all client addresses.
#[derive(Debug)]
pub struct AddressLimiter {
    /// Nanoseconds that one request costs, by [`Asking`]; `None` refuses all.
    costs: [Option<u64>; 3],
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    max_addresses_per_shard: usize,
    epoch: Instant,
}

/// Few enough to be cheap, many enough that two threads seldom meet.
const SHARDS: usize = 16;

/// All allowances are per minute.
const MINUTE: u64 = 60_000_000_000;

impl AddressLimiter {
    /// A limiter that has seen nobody. No later call may pass a time before `epoch`.
    pub fn new(limits: &AddressLimits, epoch: Instant) -> Self {
        let cost = |per_minute: u32| MINUTE.checked_div(u64::from(per_minute));
        Self {
            costs: [
                cost(limits.connects_per_minute),
                cost(limits.discoveries_per_minute),
                cost(limits.usages_per_minute),
            ],
            shards: std::iter::repeat_with(Mutex::default).take(SHARDS).collect(),
            hasher: RandomState::new(),
            max_addresses_per_shard: (limits.max_addresses / SHARDS).max(2),
            epoch,
        }
    }

    /// Takes one from the bucket of `client`.
    ///
    /// # Errors
    /// The bucket is empty. A limiter that failed lets everybody through.
    pub fn admit(&self, client: IpAddr, asking: Asking, now: Instant) -> Result<(), TooMany> {
        let Some(cost) = self.costs[asking as usize] else {
            return Err(TooMany { retry_after: Duration::from_nanos(MINUTE) });
        };
        let key = Key::of(client);
        let shard = &self.shards[self.hasher.hash_one(key) as usize % SHARDS];
        let Ok(mut shard) = shard.lock() else { return Ok(()) };
        let now = u64::try_from(now.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX);
        shard.rotate(now, self.max_addresses_per_shard);
        take(&mut shard.buckets(key)[asking as usize], cost, now)
    }

    /// Addresses remembered.
    pub fn addresses(&self) -> usize {
        self.shards.iter().filter_map(|shard| shard.lock().ok()).map(|s| s.recent.len() + s.older.len()).sum()
    }
}

/// A client: an IPv4 address, or the /64 that one IPv6 customer commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    V4(u32),
    V6(u64),
}

impl Key {
    fn of(client: IpAddr) -> Self {
        match client.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4.to_bits()),
            IpAddr::V6(v6) => Self::V6((v6.to_bits() >> 64) as u64),
        }
    }
}

/// When each bucket is full again, in nanoseconds.
type Buckets = [u64; 3];

/// Two generations: whoever is not seen during a whole minute falls out with the older one.
#[derive(Debug, Default)]
struct Shard {
    recent: HashMap<Key, Buckets>,
    older: HashMap<Key, Buckets>,
    /// When `recent` was begun.
    begun: u64,
}

impl Shard {
    fn rotate(&mut self, now: u64, max_addresses: usize) {
        let old = now.saturating_sub(self.begun) >= MINUTE;
        if old || self.recent.len() >= max_addresses / 2 {
            self.older = std::mem::take(&mut self.recent);
            self.begun = now;
        }
    }

    fn buckets(&mut self, key: Key) -> &mut Buckets {
        let older = &mut self.older;
        self.recent.entry(key).or_insert_with(|| older.remove(&key).unwrap_or_default())
    }
}

fn take(full_again: &mut u64, cost: u64, now: u64) -> Result<(), TooMany> {
    let then = now.max(*full_again).saturating_add(cost);
    let over = then.saturating_sub(now).saturating_sub(MINUTE);
    if over > 0 {
        return Err(TooMany { retry_after: Duration::from_nanos(over) });
    }
    *full_again = then;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use proptest::prelude::*;

    use super::*;

    const LIMITS: AddressLimits = AddressLimits {
        connects_per_minute: 60,
        discoveries_per_minute: 60,
        usages_per_minute: 12,
        max_addresses: 1024,
    };
    const ANN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const BEN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn limiter(limits: &AddressLimits) -> (AddressLimiter, impl Fn(f64) -> Instant + use<>) {
        let epoch = Instant::now();
        (AddressLimiter::new(limits, epoch), move |seconds| epoch + Duration::from_secs_f64(seconds))
    }

    #[test]
    fn a_minutes_allowance_may_be_taken_at_once_and_comes_back_evenly() {
        let (limiter, at) = limiter(&LIMITS);
        for _ in 0..60 {
            assert_eq!(limiter.admit(ANN, Asking::Connect, at(0.0)), Ok(()));
        }
        let refused = limiter.admit(ANN, Asking::Connect, at(0.0)).unwrap_err();
        assert_eq!(refused.retry_after, Duration::from_secs(1));
        assert!(limiter.admit(ANN, Asking::Connect, at(0.9)).is_err());
        assert!(limiter.admit(ANN, Asking::Connect, at(1.0)).is_ok());
        assert!(limiter.admit(ANN, Asking::Connect, at(1.0)).is_err());
    }

    #[test]
    fn addresses_and_kinds_do_not_share_a_bucket() {
        let (limiter, at) = limiter(&LIMITS);
        for _ in 0..12 {
            assert!(limiter.admit(ANN, Asking::Usage, at(0.0)).is_ok());
        }
        assert!(limiter.admit(ANN, Asking::Usage, at(0.0)).is_err());
        assert!(limiter.admit(ANN, Asking::Discovery, at(0.0)).is_ok());
        assert!(limiter.admit(BEN, Asking::Usage, at(0.0)).is_ok());
    }

    #[test]
    fn one_ipv6_customer_is_one_client() {
        let (limiter, at) = limiter(&LIMITS);
        let host = |net: u16, host: u16| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, net, 0, 0, 0, host));
        for n in 0..12 {
            assert!(limiter.admit(host(1, n), Asking::Usage, at(0.0)).is_ok());
        }
        assert!(limiter.admit(host(1, 99), Asking::Usage, at(0.0)).is_err());
        assert!(limiter.admit(host(2, 0), Asking::Usage, at(0.0)).is_ok());
    }

    #[test]
    fn a_limit_of_zero_refuses_all() {
        let (limiter, at) = limiter(&AddressLimits { usages_per_minute: 0, ..LIMITS });
        assert!(limiter.admit(ANN, Asking::Usage, at(0.0)).is_err());
    }

    #[test]
    fn buckets_outlive_a_generation_and_idle_ones_are_forgotten() {
        let (limiter, at) = limiter(&LIMITS);
        for _ in 0..60 {
            assert!(limiter.admit(ANN, Asking::Connect, at(59.0)).is_ok());
        }
        assert!(limiter.admit(BEN, Asking::Connect, at(60.0)).is_ok());
        assert!(limiter.admit(ANN, Asking::Connect, at(60.0)).is_ok());
        assert!(limiter.admit(ANN, Asking::Connect, at(60.0)).is_err(), "forgotten while it was in use");
        for n in 0..4096u32 {
            let _ = limiter.admit(IpAddr::from(n.to_be_bytes()), Asking::Usage, at(200.0 + f64::from(n)));
        }
        assert!(limiter.addresses() < 4096 / 8, "{} addresses", limiter.addresses());
    }

    #[test]
    fn memory_is_bounded_however_many_addresses_come_at_once() {
        let (limiter, at) = limiter(&LIMITS);
        for n in 0..100_000u32 {
            assert!(limiter.admit(IpAddr::from(n.to_be_bytes()), Asking::Connect, at(0.0)).is_ok());
        }
        assert!(limiter.addresses() <= LIMITS.max_addresses, "{} addresses", limiter.addresses());
    }

    #[test]
    fn a_failed_limiter_lets_everybody_through() {
        let (limiter, at) = limiter(&LIMITS);
        std::thread::scope(|scope| {
            for shard in &limiter.shards {
                let poison = || {
                    let _guard = shard.lock().unwrap();
                    panic!("poisons the lock on purpose");
                };
                assert!(scope.spawn(poison).join().is_err());
            }
        });
        for _ in 0..100 {
            assert_eq!(limiter.admit(ANN, Asking::Usage, at(0.0)), Ok(()));
        }
    }

    proptest! {
        #[test]
        fn waiting_as_long_as_told_is_enough_and_less_is_not(
            pauses in prop::collection::vec(0u64..3_000_000_000, 1..200),
            per_minute in 1u32..200,
        ) {
            let (cost, mut bucket, mut now) = (MINUTE / u64::from(per_minute), 0, 5 * MINUTE);
            for pause in pauses {
                now += pause;
                let before = bucket;
                if let Err(TooMany { retry_after }) = take(&mut bucket, cost, now) {
                    prop_assert_eq!(bucket, before, "a refusal costs nothing");
                    let wait = retry_after.as_nanos() as u64;
                    prop_assert!(take(&mut bucket.clone(), cost, now + wait - 1).is_err());
                    prop_assert!(take(&mut bucket.clone(), cost, now + wait).is_ok());
                }
            }
        }

        #[test]
        fn no_minute_lets_more_than_twice_the_allowance_through(
            pauses in prop::collection::vec(0u64..2_000_000_000, 1..400),
        ) {
            let (mut bucket, mut now, mut admitted) = (0, 5 * MINUTE, Vec::new());
            for pause in pauses {
                now += pause;
                if take(&mut bucket, MINUTE / 60, now).is_ok() {
                    admitted.push(now);
                }
            }
            for (index, start) in admitted.iter().enumerate() {
                let in_minute = admitted[index..].iter().take_while(|t| *t - start < MINUTE).count();
                prop_assert!(in_minute <= 120);
            }
        }
    }
}
