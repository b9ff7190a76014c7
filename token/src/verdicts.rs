//! A bounded memory of good tokens, one per data thread.

use std::collections::HashSet;
use std::sync::Arc;

use aws_lc_rs::hmac;

use crate::claims::Claims;
use crate::keys::{Fingerprint, Key, KeySet};
use crate::verify::{MAX_TOKEN_BYTES, Policy, Rejection, verify_by};

/// Remembers verified tokens by a keyed hash until they expire, so that a client that comes back costs one hash
/// instead of a signature. A hit stands for a checked signature, so the hash is HMAC-SHA-256 cut to 128 bits: nobody
/// without the seed can aim at a collision.
///
/// Memory is bounded: a table of 8-way sets; a full set forgets what was used longest ago. Refusals are not
/// remembered. After a change of keys call [`Verdicts::retain`], after one of the policy [`Verdicts::clear`].
#[derive(Debug)]
pub struct Verdicts {
    hash_key: hmac::Key,
    slots: Box<[Option<Entry>]>,
    sets: usize,
    /// Counts uses; orders entries by their last one.
    uses: u64,
}

#[derive(Debug)]
struct Entry {
    hash: Hash,
    last_use: u64,
    /// Of the key that signed it.
    key: Fingerprint,
    claims: Arc<Claims>,
}

type Hash = [u8; 16];

const WAYS: usize = 8;

impl Verdicts {
    /// Room for at least `capacity` tokens (rounded up to a power of two, at least 8); `seed` must be secret and
    /// random.
    pub fn new(capacity: usize, seed: [u8; 32]) -> Self {
        let sets = capacity.div_ceil(WAYS).max(1).next_power_of_two();
        let slots = std::iter::repeat_with(|| None).take(sets * WAYS).collect();
        Self { hash_key: hmac::Key::new(hmac::HMAC_SHA256, &seed), slots, sets, uses: 0 }
    }

    /// [`verify`], from memory where possible.
    ///
    /// # Errors
    /// As [`verify`].
    pub fn verify(
        &mut self,
        keys: &KeySet,
        policy: &Policy,
        token: &str,
        now_unix: u64,
    ) -> Result<Arc<Claims>, Rejection> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Rejection::TooLarge);
        }
        let hash = self.hash(token);
        if let Some(claims) = self.recall(hash, now_unix) {
            return Ok(claims);
        }
        let verified = verify_by(keys, policy, token, now_unix)?;
        let (key, claims) = (verified.key.fingerprint(), Arc::new(verified.claims));
        self.remember(hash, key, Arc::clone(&claims), now_unix);
        Ok(claims)
    }

    /// The claims of a token that is remembered and has not expired.
    pub fn get(&mut self, token: &str, now_unix: u64) -> Option<Arc<Claims>> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        self.recall(self.hash(token), now_unix)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.slots.fill_with(|| None);
    }

    /// Forgets every token that was signed with a key which is not one of these.
    pub fn retain(&mut self, keys: &KeySet) {
        let kept: HashSet<Fingerprint> = keys.iter().map(Key::fingerprint).collect();
        for slot in &mut self.slots {
            if slot.as_ref().is_some_and(|entry| !kept.contains(&entry.key)) {
                *slot = None;
            }
        }
    }

    /// How many tokens were looked up so far: a moment for [`Self::forget_unused_since`].
    pub fn uses(&self) -> u64 {
        self.uses
    }

    /// Forgets every token whose last use was at the moment `uses` or before.
    pub fn forget_unused_since(&mut self, uses: u64) {
        for slot in &mut self.slots {
            if slot.as_ref().is_some_and(|entry| entry.last_use <= uses) {
                *slot = None;
            }
        }
    }

    /// Tokens remembered, expired ones included until their place is needed.
    pub fn len(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn hash(&self, token: &str) -> Hash {
        let tag = hmac::sign(&self.hash_key, token.as_bytes());
        let mut hash = Hash::default();
        hash.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        hash
    }

    fn recall(&mut self, hash: Hash, now: u64) -> Option<Arc<Claims>> {
        self.uses += 1;
        let uses = self.uses;
        let slot =
            self.set(hash).iter_mut().find(|slot| slot.as_ref().is_some_and(|entry| entry.hash == hash))?;
        if slot.as_ref().is_some_and(|entry| entry.claims.expires_at <= now) {
            *slot = None;
        }
        let entry = slot.as_mut()?;
        entry.last_use = uses;
        Some(Arc::clone(&entry.claims))
    }

    fn remember(&mut self, hash: Hash, key: Fingerprint, claims: Arc<Claims>, now: u64) {
        // Good by the leeway alone: next time it may not be.
        if claims.expires_at <= now {
            return;
        }
        let last_use = self.uses;
        let age = |slot: &Option<Entry>| match slot {
            Some(entry) if entry.claims.expires_at > now => entry.last_use,
            _ => 0,
        };
        if let Some(oldest) = self.set(hash).iter_mut().min_by_key(|slot| age(slot)) {
            *oldest = Some(Entry { hash, last_use, key, claims });
        }
    }

    fn set(&mut self, hash: Hash) -> &mut [Option<Entry>] {
        let index = usize::from(hash[0]) | usize::from(hash[1]) << 8 | usize::from(hash[2]) << 16;
        let start = (index & (self.sets - 1)) * WAYS;
        &mut self.slots[start..start + WAYS]
    }
}
