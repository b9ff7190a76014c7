//! When to come back.

use std::time::Duration;

/// Seconds for a `Retry-After` that says `wait` to somebody and not the same to everybody: at least `wait`, rounded
/// up, at least 1, and up to half as much again (at least 2 s) on top, as `random` decides.
pub fn retry_after_secs(wait: Duration, random: u32) -> u64 {
    let least = (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1);
    let spread = (least / 2).max(2);
    least.saturating_add(u64::from(random) % (spread + 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_retry_is_never_too_early_nor_much_too_late(millis in 0u64..10_000_000, random: u32) {
            let wait = Duration::from_millis(millis);
            let told = Duration::from_secs(retry_after_secs(wait, random));
            prop_assert!(told >= wait && told >= Duration::from_secs(1));
            prop_assert!(told <= wait + wait / 2 + Duration::from_secs(4));
        }
    }

    #[test]
    fn retries_are_spread() {
        let told: std::collections::BTreeSet<u64> =
            (0..100).map(|random| retry_after_secs(Duration::from_secs(10), random)).collect();
        assert_eq!(told, (10..=15).collect());
    }
}
