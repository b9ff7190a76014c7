//! Runs the simulator over many seeds. A failure names its seed; `PINWIRE_SIM_SEED=N` runs that one alone, and
//! `PINWIRE_SIM_SEEDS=N` runs N instead of the usual number.

use pinwire_tests::sim;
use std::time::{Duration, Instant};

/// Seeds of a normal run, and how long it may take before it is content with fewer.
const SEEDS: u64 = 300;
const ENOUGH: Duration = Duration::from_secs(50);
/// The same of whole regions.
const REGION_SEEDS: u64 = 150;
const ENOUGH_OF_REGIONS: Duration = Duration::from_secs(12);
/// More failures say no more.
const FAILURES: usize = 3;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|value| value.parse().expect("a number"))
}

#[test]
fn every_seed_keeps_what_was_promised() {
    run_seeds(SEEDS, ENOUGH, sim::run);
}

#[test]
fn every_region_keeps_what_was_promised() {
    run_seeds(REGION_SEEDS, ENOUGH_OF_REGIONS, sim::run_region);
}

fn run_seeds(usual: u64, enough: Duration, run: fn(u64) -> Result<sim::Report, String>) {
    let (first, count) = match (number("PINWIRE_SIM_SEED"), number("PINWIRE_SIM_SEEDS")) {
        (Some(seed), count) => (seed, count.unwrap_or(1)),
        (None, count) => (0, count.unwrap_or(usual)),
    };
    let is_bounded = number("PINWIRE_SIM_SEEDS").is_none();
    let start = Instant::now();
    let mut failures = Vec::new();
    for seed in first..first + count {
        if failures.len() == FAILURES || is_bounded && start.elapsed() > enough {
            break;
        }
        match run(seed) {
            Ok(report) => eprintln!("seed {seed}: {report:?}"),
            Err(failure) => failures.push(failure),
        }
    }
    assert!(failures.is_empty(), "{} or more failed:\n{}", failures.len(), failures.join("\n\n"));
}

/// Each found a bug once; what it was stands behind it in the file.
#[test]
fn seeds_that_failed_before_stay_good() {
    let seeds = include_str!("seeds/failed").lines().filter_map(|line| line.split_whitespace().next());
    for seed in seeds.map(|seed| seed.parse().expect("a number")) {
        if let Err(failure) = sim::run(seed) {
            panic!("{failure}");
        }
    }
}

#[test]
fn a_seed_gives_the_same_run_again() {
    for seed in [3, 5] {
        assert_eq!(sim::run(seed), sim::run(seed));
    }
}
