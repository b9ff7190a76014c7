//! Project tasks, run as `cargo xtask TASK`. `cargo xtask help` lists them.
#![allow(clippy::print_stdout, reason = "a command line tool talks on stdout")]

mod api;
mod autobahn;
mod blocks;
mod browser;
mod chaos;
mod clients;
mod cluster;
mod defects;
mod docs;
mod fuzz;
mod instructions;
mod lint;
mod package;
mod pool;
mod scripts;
mod setup;
mod shell;
mod tally;
mod tidy;
mod unit;

use anyhow::Result;
use std::process::ExitCode;
use std::time::Instant;
use tally::Tally;

const HELP: &str = "\
cargo xtask TASK [ARGUMENTS]

  test      everything below, in this order, stopping at the first stage that fails
  setup     install what the stages need and this machine lacks
  lint      rustfmt, clippy with warnings denied, tidy, cargo-deny
  tidy      house rules: layering, unsafe, bans in tests, file map, no machine paths
  docs      write the generated pages; `docs --check` compares them
  unit      unit, property and integration tests (nextest), then doctests
  build     release build of the node, the load generator and the bench server
  blocks    every shell block of the documentation, run or checked: [--write] [PAGE...]
  package   the Debian packages: built, inspected, and installed, used and removed on a machine of their own
  instructions  micro benchmarks against benches/instructions.toml; `--write` keeps new figures
  api       the admin API against its description (schemathesis)
  autobahn  the Autobahn cases against the bench server, on both drivers
  clients   real Yjs clients: [--driver uring|epoll] [--threads N] [TEST FILE...]
  browser   the built-in page and the example editor in headless Chromium: [TEST FILE...]
  chaos     nodes, servers and networks fail while clients write: [--clients N] [--seconds N] [--json] [--page] [SCENARIO...]
  fuzz      fuzz targets from the kept corpus: [--seconds N] [TARGET...]
  cluster   a cluster of real processes until a signal, or for a command (not a stage): [--regions N] [--nodes N] [--relay]
            [--lanes] [--silence MS] [--set KEY=VALUE] [--debug] [--json] [-- COMMAND]
  deb       build the Debian packages (not a stage)
  defects   plant each defect of tests/defects and see its test fail: [NAME...]
";

type Task = fn(&[String]) -> Result<Tally>;

/// The stages of `cargo xtask test`, each also a task of its own.
const STAGES: &[(&str, Task)] = &[
    ("setup", setup::run),
    ("lint", lint::run),
    ("docs", docs::run),
    ("unit", unit::run),
    ("build", unit::build),
    ("blocks", blocks::run),
    ("package", package::run),
    ("instructions", instructions::run),
    ("api", api::run),
    ("autobahn", autobahn::run),
    ("clients", clients::run),
    ("browser", browser::run),
    ("chaos", chaos::run),
    ("fuzz", fuzz::run),
    ("defects", defects::run),
];

fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let task = if args.is_empty() { "help".to_owned() } else { args.remove(0) };
    let (total, outcome) = dispatch(&task, &args);
    if let Err(error) = &outcome {
        eprintln!("error: {error:#}");
    }
    if total != Tally::default() || outcome.is_err() {
        println!("{total}");
    }
    if outcome.is_ok() && total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn dispatch(task: &str, args: &[String]) -> (Tally, Result<()>) {
    match task {
        "test" => run_stages(STAGES),
        "tidy" => run_stages(&[("tidy", tidy::run)]),
        "cluster" => (Tally::default(), cluster::run(args)),
        "deb" => run_stages(&[("deb", package::deb)]),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            (Tally::default(), Ok(()))
        }
        _ => match STAGES.iter().find(|(name, _)| *name == task) {
            Some((name, stage)) => run_stage(name, *stage, args),
            None => (Tally::default(), Err(anyhow::anyhow!("no task `{task}`\n\n{HELP}"))),
        },
    }
}

fn run_stages(stages: &[(&str, Task)]) -> (Tally, Result<()>) {
    let mut total = Tally::default();
    for (name, stage) in stages {
        let args: &[String] = match *name {
            // In a whole run the generated pages are compared, not written.
            "docs" => &["--check".to_owned()],
            _ => &[],
        };
        let (tally, outcome) = run_stage(name, *stage, args);
        total += tally;
        if outcome.is_err() {
            return (total, outcome);
        }
    }
    (total, Ok(()))
}

/// Runs one stage and prints how long it took. A stage with a failed test is an error, so that nothing runs after it.
fn run_stage(name: &str, stage: Task, args: &[String]) -> (Tally, Result<()>) {
    println!("==> {name}");
    let start = Instant::now();
    let outcome = stage(args);
    let seconds = start.elapsed().as_secs_f64();
    match outcome {
        Ok(tally) if tally.failed > 0 => {
            println!("==> {name}: FAILED after {seconds:.1} s, {tally}");
            let failed = tally.failed;
            (tally, Err(anyhow::anyhow!("stage `{name}`: {failed} failed")))
        }
        Ok(tally) => {
            println!("==> {name}: {seconds:.1} s, {tally}");
            (tally, Ok(()))
        }
        Err(error) => {
            println!("==> {name}: FAILED after {seconds:.1} s");
            (Tally { passed: 0, failed: 1 }, Err(error.context(format!("stage `{name}`"))))
        }
    }
}
