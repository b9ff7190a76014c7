//! Micro benchmarks of the code between the sockets: instructions and wall time of one operation each.
//!
//! `cargo bench -p pinwire-benches --bench micro` prints both; `-- --counts` prints the instructions alone, as `NAME TAB COUNT`
//! lines for `cargo xtask instructions`, which compares them with the figures kept in `benches/instructions.toml`.
#![allow(clippy::print_stdout, reason = "a command line tool talks on stdout")]
// A case that cannot be prepared has nothing to measure.
#![allow(clippy::expect_used)]

mod document;
mod frames;
mod handshake;
mod shard;
mod token;

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result};
use pinwire_benches::instructions::{Case, nanoseconds, per_round};

/// The node's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const HELP: &str = "\
[--counts] [FILTER...]   instructions (and without --counts, nanoseconds) of each case whose name contains a FILTER
--case NAME ROUNDS       only runs a case, to be looked at with valgrind or perf
";

fn main() -> ExitCode {
    // `cargo bench` adds `--bench`.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match command(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn command(args: &[String]) -> Result<()> {
    let all: Vec<Case> =
        [frames::CASES, document::CASES, shard::CASES, handshake::CASES, token::CASES].concat();
    match args {
        [flag, name, rounds] if flag == "--case" => {
            let case =
                all.iter().find(|case| case.name == name).with_context(|| format!("no case {name}"))?;
            (case.run)(rounds.parse().context("ROUNDS is a number")?);
            Ok(())
        }
        [flag, ..] if flag == "--help" => {
            print!("{HELP}");
            Ok(())
        }
        [flag, filters @ ..] if flag == "--counts" => {
            for (case, count) in counts(&chosen(&all, filters)?)? {
                println!("{}\t{count:.1}", case.name);
            }
            Ok(())
        }
        filters => table(&chosen(&all, filters)?),
    }
}

fn chosen(all: &[Case], filters: &[String]) -> Result<Vec<Case>> {
    let is_chosen = |case: &&Case| filters.is_empty() || filters.iter().any(|part| case.name.contains(part));
    let chosen: Vec<Case> = all.iter().filter(is_chosen).copied().collect();
    anyhow::ensure!(!chosen.is_empty(), "no case matches {filters:?}\n\n{HELP}");
    Ok(chosen)
}

fn table(cases: &[Case]) -> Result<()> {
    // Times first: the counts occupy every processor.
    let times: Vec<f64> = cases.iter().map(nanoseconds).collect();
    println!("{:<34} {:>14} {:>14}", "one operation", "instructions", "ns (about)");
    for ((case, count), time) in counts(cases)?.into_iter().zip(times) {
        println!("{:<34} {count:>14.1} {time:>14.1}", case.name);
    }
    Ok(())
}

/// Counts on every processor at once, which does not change them.
fn counts(cases: &[Case]) -> Result<Vec<(Case, f64)>> {
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let run_case =
                        |name: &str, rounds: u32| vec!["--case".into(), name.into(), format!("{rounds:06}")];
                    let count = per_round(case, run_case);
                    found.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push((*case, count));
                }
            });
        }
    });
    let found = found.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    let place = |name: &str| cases.iter().position(|case| case.name == name);
    let mut counts: Vec<(Case, f64)> =
        found.into_iter().map(|(case, count)| Ok((case, count?))).collect::<Result<_>>()?;
    counts.sort_by_key(|(case, _)| place(case.name));
    Ok(counts)
}
