//! Nodes of a region with one store, in virtual time: whatever is lost, delayed, wiped or rolled back, everybody has everything
//! in the end, and nothing was said to be stored before it was.

mod node;
mod region;
mod shard;

use region::{Faults, World};
use std::panic::{AssertUnwindSafe, catch_unwind};

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|value| value.parse().expect("a number"))
}

/// Seeds of one test. `PINWIRE_SEED=N` runs that one alone, `PINWIRE_SEEDS=N` so many, from 0 or from `PINWIRE_SEED`.
fn seeds(count: u64) -> std::ops::Range<u64> {
    let (first, count) = match (number("PINWIRE_SEED"), number("PINWIRE_SEEDS")) {
        (Some(seed), count) => (seed, count.unwrap_or(1)),
        (None, given) => (0, given.unwrap_or(count)),
    };
    first..first + count
}

fn run(count: u64, faults: fn(u64) -> Faults) {
    run_seeds(seeds(count), faults);
}

fn run_seeds(seeds: impl IntoIterator<Item = u64>, faults: fn(u64) -> Faults) {
    for seed in seeds {
        let outcome = catch_unwind(AssertUnwindSafe(|| World::new(seed, faults(seed)).run()));
        assert!(outcome.is_ok(), "seed {seed}: run again with PINWIRE_SEED={seed}");
    }
}

#[test]
fn with_slow_links_nothing_is_lost() {
    run(60, |_| Faults::default());
}

#[test]
fn with_lost_notices_requests_and_replies_nothing_is_lost() {
    run(150, |_| Faults { links: true, ..Faults::default() });
}

#[test]
fn nodes_that_die_or_stand_still_lose_nothing_that_is_stored() {
    run(150, |_| Faults { links: true, nodes: true, leases: true, ..Faults::default() });
}

#[test]
fn what_a_wiped_or_rolled_back_store_lost_is_put_back() {
    let faults = |_| Faults { links: true, store: true, ..Faults::default() };
    run(180, faults);
    // An append is answered after the store went back, and others went on.
    run_seeds([2515], faults);
}

#[test]
fn with_everything_at_once_nodes_and_store_agree_in_the_end() {
    run(300, |_| Faults { links: true, nodes: true, leases: true, store: true, claims: true, full: true });
}

#[test]
fn a_seed_repeats_itself() {
    let faults = Faults { links: true, nodes: true, leases: true, store: true, claims: true, full: true };
    let first = World::new(7, faults).run();
    assert_eq!(first, World::new(7, faults).run());
    assert!(first.stored > 0 && first.events > 1_000, "{first:?}");
}
