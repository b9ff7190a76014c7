//! Sessions that a node carries to another region, for clients that know of none. A failure names its seed;
//! `PINWIRE_SIM_SEED=N` runs that one alone, and `PINWIRE_SIM_SEEDS=N` runs N instead of the usual number.

use pinwire_tests::sim;
use std::time::{Duration, Instant};

/// Seeds of a normal run, and how long it may take before it is content with fewer.
const SEEDS: u64 = 100;
const ENOUGH: Duration = Duration::from_secs(20);

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|value| value.parse().expect("a number"))
}

#[test]
fn every_seed_keeps_over_links_what_was_promised() {
    let (first, count) = match (number("PINWIRE_SIM_SEED"), number("PINWIRE_SIM_SEEDS")) {
        (Some(seed), count) => (seed, count.unwrap_or(1)),
        (None, count) => (0, count.unwrap_or(SEEDS)),
    };
    let is_bounded = number("PINWIRE_SIM_SEEDS").is_none();
    let start = Instant::now();
    let mut failures = Vec::new();
    for seed in first..first + count {
        if is_bounded && start.elapsed() > ENOUGH {
            break;
        }
        match sim::run_relayed(seed) {
            Ok(report) => eprintln!("seed {seed}: {report:?}"),
            Err(failure) => failures.push(failure),
        }
    }
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n\n"));
}

#[test]
fn a_relayed_seed_gives_the_same_run_again() {
    assert_eq!(sim::run_relayed(3), sim::run_relayed(3));
}
