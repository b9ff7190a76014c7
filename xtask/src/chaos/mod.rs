//! Things go wrong while clients write: nodes are killed and stopped, servers fail over, start again empty, become slow or cannot be
//! reached. Real processes all of them, and the load generator checks every edit.
//!
//! | module | concern |
//! | --- | --- |
//! | `options` | what is asked for, how large and how long it is |
//! | `scenarios` | what goes wrong, one file each |
//! | `rig` | a cluster with clients, and what has to hold when all is over |
//! | `places` | which region has which documents, and what its store has of them |
//! | `watch` | which region has and serves which document under which claim, all the time |
//! | `load` | the load generator, followed while it runs |
//! | `http` | questions to nodes |
//! | `flood` | many questions to nodes |
//! | `network` | a region with a network of its own, that can be cut off |
//! | `outcome` | what came of a scenario |
//! | `page` | the same for `benches/results` |

mod flood;
mod http;
mod load;
mod network;
mod options;
mod outcome;
mod page;
mod places;
mod rig;
mod scenarios;
mod watch;

use crate::cluster::{Options as ClusterOptions, node_program};
use crate::setup::as_root;
use crate::shell::{command, stdout, target_dir};
use crate::tally::Tally;
use crate::{pool, unit};
use anyhow::{Context, Result};
use options::{Options, Plan};
use outcome::Outcome;
use rig::{Programs, Rig};
use scenarios::Scenario;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};

/// Short scenarios that run at a time, for each processor: they mostly wait. With many more, servers are so slow to answer that
/// sentinels take them for dead.
const AT_ONCE: usize = 3;

/// Runs scenarios, in a short form with few clients (a stage of `cargo xtask test`), or in a long one.
pub(crate) fn run(args: &[String]) -> Result<Tally> {
    let options = Options::parse(args)?;
    let programs = Programs { node: node_program(&ClusterOptions::default())?, loadgen: loadgen_program()? };
    let outcomes = Mutex::new(Vec::new());
    let workers = if options.plan.is_long { 1 } else { AT_ONCE * pool::cores() };
    let tally = pool::in_parallel(options.scenarios.iter().copied(), workers, |scenario| {
        let outcome = run_one(scenario, &options.plan, &programs);
        let is_good = outcome.problems.is_empty();
        if options.is_json {
            println!("{}", outcome.json());
        } else {
            println!("{outcome}");
        }
        outcomes.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
        let mut tally = Tally::default();
        tally.record(is_good);
        Ok(tally)
    })?;
    let mut outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    if options.is_page {
        outcomes
            .sort_by_key(|outcome| scenarios::SCENARIOS.iter().position(|one| one.name == outcome.scenario));
        println!("{}", page::write(&options, &outcomes)?.display());
    }
    Ok(tally)
}

fn run_one(scenario: &'static Scenario, plan: &Plan, programs: &Programs) -> Outcome {
    let run = || match scenario.is_split && !is_root()? {
        true => run_as_root(scenario, plan, programs),
        false => Ok(Rig::start(scenario, plan, programs)?.outcome(scenario.run)),
    };
    match run() {
        Ok(outcome) => outcome,
        Err(error) => {
            Outcome { scenario: scenario.name, problems: vec![format!("{error:#}")], ..Outcome::default() }
        }
    }
}

/// A run of its own: processes in a network of their own are root's, and only root may end them.
fn run_as_root(scenario: &'static Scenario, plan: &Plan, programs: &Programs) -> Result<Outcome> {
    let mut run = as_root("env")?;
    run.arg(format!("PINWIRE_NODE={}", programs.node.display()));
    run.arg(format!("PINWIRE_LOADGEN={}", programs.loadgen.display()));
    run.arg(format!("CARGO_TARGET_DIR={}", target_dir().display()));
    run.arg(std::env::current_exe()?).args(["chaos", scenario.name, "--json"]);
    run.args(["--clients", &plan.clients.to_string(), "--seconds", &plan.hold.as_secs().to_string()]);
    let said = run.stderr(Stdio::inherit()).output().context("sudo")?.stdout;
    let said = String::from_utf8_lossy(&said).into_owned();
    let json = said.lines().find_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    Ok(Outcome::read(scenario.name, &json.with_context(|| format!("a run as root said {said}"))?))
}

fn is_root() -> Result<bool> {
    Ok(stdout(command("id").arg("-u"))?.trim() == "0")
}

fn loadgen_program() -> Result<PathBuf> {
    match std::env::var_os("PINWIRE_LOADGEN") {
        Some(program) => Ok(PathBuf::from(program)),
        None => unit::build_program("pinwire-loadgen", true),
    }
}
