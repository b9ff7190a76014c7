//! Paces refusals of y-websocket clients, which redial 100 ms after an opened socket was closed, for ever.
//!
//! The first refusal of an (address, token, document) closes at once. Each next within a minute is held twice as long as
//! the last, so a client that never gives up dials about a dozen times a minute instead of six hundred.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::hash::BuildHasher;
use std::net::IpAddr;

/// The first hold, in milliseconds; each next is twice as long.
const FIRST_HOLD_MS: u64 = 250;
/// The longest hold.
const LONGEST_HOLD_MS: u64 = 25_000;
/// A client that was not refused for so long starts over.
const MEMORY_MS: u64 = 60_000;
/// Refused clients remembered; beyond it the oldest half is forgotten, which costs each a prompt close.
const REMEMBERED_MAX: usize = 65_536;

/// Who was refused, hashed: address, token and document.
pub type RefusalKey = u64;

/// See the module's documentation.
#[derive(Debug)]
pub struct Refusals {
    seen: HashMap<RefusalKey, Seen, FixedState>,
    hasher: FixedState,
    first_hold_ms: u64,
    jitter: u64,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    hold_ms: u64,
    at_ms: u64,
}

impl Refusals {
    /// Remembers nobody yet; `seed` decides hashing and jitter. Each of the node's `threads` remembers for itself and the
    /// kernel spreads a client's dials over them, so each holds longer the more there are.
    #[must_use]
    pub fn new(seed: u64, threads: u16) -> Self {
        Self {
            seen: HashMap::with_hasher(FixedState::with_seed(seed)),
            hasher: FixedState::with_seed(seed),
            first_hold_ms: (FIRST_HOLD_MS * u64::from(threads.max(1))).min(LONGEST_HOLD_MS),
            jitter: seed | 1,
        }
    }

    /// The key of a client that is refused.
    #[must_use]
    pub fn key(&self, peer: IpAddr, token: Option<&str>, document: Option<&str>) -> RefusalKey {
        self.hasher.hash_one((peer, token, document))
    }

    /// Whether a refusal now would be held rather than prompt.
    #[must_use]
    pub fn is_repeated(&self, key: RefusalKey, now_ms: u64) -> bool {
        self.seen.get(&key).is_some_and(|seen| now_ms < seen.at_ms + seen.hold_ms + MEMORY_MS)
    }

    /// Notes a refusal and says for how long to hold it, in milliseconds; 0 is prompt.
    pub fn refuse(&mut self, key: RefusalKey, now_ms: u64) -> u64 {
        let hold_ms = match self.seen.get(&key) {
            Some(seen) if self.is_repeated(key, now_ms) => {
                (seen.hold_ms * 2).clamp(self.first_hold_ms, LONGEST_HOLD_MS)
            }
            _ => 0,
        };
        if self.seen.len() >= REMEMBERED_MAX {
            self.forget(now_ms);
        }
        self.seen.insert(key, Seen { hold_ms, at_ms: now_ms });
        // Jitter keeps clients that were refused together from coming back together.
        hold_ms + self.random() % (hold_ms / 4 + 1)
    }

    fn forget(&mut self, now_ms: u64) {
        self.seen.retain(|_, seen| now_ms < seen.at_ms + seen.hold_ms + MEMORY_MS);
        if self.seen.len() >= REMEMBERED_MAX {
            let mut times: Vec<u64> = self.seen.values().map(|seen| seen.at_ms).collect();
            let median = *times.select_nth_unstable(REMEMBERED_MAX / 2).1;
            self.seen.retain(|_, seen| seen.at_ms > median);
        }
    }

    /// `ms`, or up to half as much more, so that clients that are asked to come again do not come together.
    pub fn jittered(&mut self, ms: u64) -> u64 {
        ms + self.random() % (ms / 2 + 1)
    }

    fn random(&mut self) -> u64 {
        // xorshift64: jitter needs no more.
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 7;
        self.jitter ^= self.jitter << 17;
        self.jitter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_redials_at_once_is_held_longer_each_time() {
        let mut refusals = Refusals::new(3, 1);
        let key = refusals.key([127, 0, 0, 1].into(), None, Some("doc"));
        let mut now_ms = 1_000;
        let mut dials = 0;
        while now_ms < 61_000 {
            now_ms += refusals.refuse(key, now_ms) + 100;
            dials += 1;
        }
        assert!((5..=12).contains(&dials), "{dials} dials in a minute");
    }

    #[test]
    fn another_client_or_a_minute_of_peace_starts_over() {
        let mut refusals = Refusals::new(3, 1);
        let key = refusals.key([127, 0, 0, 1].into(), None, Some("doc"));
        let other = refusals.key([127, 0, 0, 1].into(), None, Some("other"));
        assert_eq!(refusals.refuse(key, 0), 0);
        assert!(refusals.refuse(key, 100) >= FIRST_HOLD_MS);
        assert_eq!(refusals.refuse(other, 100), 0);
        assert_eq!(refusals.refuse(key, 62_000), 0);
    }

    #[test]
    fn a_flood_of_addresses_is_remembered_within_bounds() {
        let mut refusals = Refusals::new(3, 1);
        for address in 0..200_000u32 {
            let key = refusals.key(std::net::Ipv4Addr::from(address).into(), None, None);
            refusals.refuse(key, u64::from(address) / 100);
        }
        assert!(refusals.seen.len() <= REMEMBERED_MAX);
    }
}
