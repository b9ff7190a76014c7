//! How much one network gets over UDP. Who pretends to be somebody else cannot have much sent there; who really asks that much is told
//! to use TCP, half of the time.

use fastrand::Rng;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

/// Networks that are told apart. Two that share a slot share what they get; nobody can know which do.
const SLOTS: usize = 1 << 16;
const SECOND: u64 = 1_000_000;

/// What one network (a /24, or a /56 with IPv6) gets over UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Answers a second in the long run.
    pub per_second: u32,
    /// Answers at once.
    pub burst: u32,
}

impl Default for RateLimit {
    /// A resolver that keeps answers for their TTL asks a few times in that time.
    fn default() -> Self {
        Self { per_second: 100, burst: 500 }
    }
}

/// What to do with an answer over UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Send,
    /// Say that TCP should be used.
    Truncate,
    Drop,
}

/// When each slot would be at rest again, if nothing came (the generic cell rate algorithm).
#[derive(Debug)]
pub(crate) struct Limiter {
    slots: Vec<u64>,
    hasher: RandomState,
    each_us: u64,
    burst_us: u64,
    rng: Rng,
}

impl Limiter {
    pub(crate) fn new(limit: RateLimit, seed: u64) -> Self {
        let each_us = (SECOND / u64::from(limit.per_second.max(1))).max(1);
        Self {
            slots: vec![0; SLOTS],
            hasher: RandomState::new(),
            each_us,
            burst_us: each_us * u64::from(limit.burst.max(1)),
            rng: Rng::with_seed(seed),
        }
    }

    pub(crate) fn verdict(&mut self, from: IpAddr, now_us: u64) -> Verdict {
        let slot = self.hasher.hash_one(network(from)) as usize % SLOTS;
        let rest_us = self.slots[slot].max(now_us) + self.each_us;
        if rest_us <= now_us + self.burst_us {
            self.slots[slot] = rest_us;
            return Verdict::Send;
        }
        if self.rng.bool() { Verdict::Truncate } else { Verdict::Drop }
    }
}

/// The network that an address is taken for a part of.
pub(crate) fn network(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => u128::from(address.to_bits() >> 8),
        // Apart from those of IPv4: no address of IPv6 in use has zeros in front.
        IpAddr::V6(address) => address.to_bits() >> 72 << 72,
    }
}

#[cfg(test)]
mod tests {
    use super::{Limiter, RateLimit, SECOND, Verdict, network};
    use std::net::IpAddr;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_gets_its_burst_and_then_its_rate_and_others_theirs() {
        let mut limiter = Limiter::new(RateLimit { per_second: 10, burst: 50 }, 1);
        let sent = |limiter: &mut Limiter, from: &str, now_us: u64| {
            (0..1_000).filter(|_| limiter.verdict(ip(from), now_us) == Verdict::Send).count()
        };
        let start = 7 * SECOND;
        assert_eq!(sent(&mut limiter, "192.0.2.1", start), 50);
        assert_eq!(sent(&mut limiter, "192.0.2.99", start), 0);
        assert_eq!(sent(&mut limiter, "198.51.100.1", start), 50);
        assert_eq!(sent(&mut limiter, "192.0.2.1", start + SECOND), 10);
        assert_eq!(sent(&mut limiter, "192.0.2.1", start + 100 * SECOND), 50);
    }

    #[test]
    fn what_is_not_sent_is_in_part_the_advice_to_use_tcp() {
        let mut limiter = Limiter::new(RateLimit { per_second: 1, burst: 1 }, 1);
        let verdicts: Vec<Verdict> = (0..1_000).map(|_| limiter.verdict(ip("192.0.2.1"), SECOND)).collect();
        let truncated = verdicts.iter().filter(|verdict| **verdict == Verdict::Truncate).count();
        assert!((400..600).contains(&truncated), "{truncated}");
    }

    #[test]
    fn networks_are_24_bits_of_ipv4_and_56_of_ipv6() {
        assert_eq!(network(ip("192.0.2.1")), network(ip("192.0.2.255")));
        assert_eq!(network(ip("192.0.2.1")), network(ip("::ffff:192.0.2.1")));
        assert_ne!(network(ip("192.0.2.1")), network(ip("192.0.3.1")));
        assert_eq!(network(ip("2001:db8:0:1::1")), network(ip("2001:db8:0:ff::1")));
        assert_ne!(network(ip("2001:db8:0:1::1")), network(ip("2001:db8:0:100::1")));
    }
}
