//! `pinwire-loadgen`: flags to a scenario, a run, its outputs, and an exit code.
#![allow(clippy::print_stdout, reason = "a command line tool talks on stdout")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use clap::Parser;
use pinwire_loadgen::cli::{Cli, Command, CompareArgs, RunArgs};
use pinwire_loadgen::expression::{Condition, FailOn};
use pinwire_loadgen::lines::Lines;
use pinwire_loadgen::outcome::{self, Exit};
use pinwire_loadgen::plan::plan;
use pinwire_loadgen::results::{Results, SearchStep, VerdictLevel};
use pinwire_loadgen::run::{Alone, Seat, run};
use pinwire_loadgen::scenario::{Load, Scenario, presets};
use pinwire_loadgen::search::{Outcome, Search};
use pinwire_loadgen::{compare, preflight, report};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.command {
        Some(Command::List) => {
            for name in presets::NAMES {
                println!("{name:<16} {}", presets::purpose(name));
            }
            Ok(Exit::Good)
        }
        Some(Command::Schema) => report::json::schema().map(|schema| {
            print!("{schema}");
            Exit::Good
        }),
        Some(Command::Compare(args)) => compare_files(args),
        Some(Command::Plan(args)) => plan(args).map(|text| {
            print!("{text}");
            Exit::Good
        }),
        None => start(&cli.run),
    };
    match done {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("error: {error:#}");
            outcome::of_error(&error).into()
        }
    }
}

fn start(args: &RunArgs) -> Result<Exit> {
    let mut scenario = args.resolve()?;
    if args.dump_scenario {
        print!("{}", toml::to_string(&scenario)?);
        return Ok(Exit::Good);
    }
    let conditions = args.assertions.iter().map(|text| Condition::parse(text)).collect::<Result<Vec<_>>>()?;
    let objective = args.search.as_deref().map(Condition::parse).transpose()?;
    let findings = preflight::prepare(&mut scenario);
    if !args.quiet {
        findings.arranged.iter().for_each(|what| eprintln!("preflight: {what}"));
    }
    if !findings.obstacles.is_empty() && !args.force {
        bail!("this cannot work (--force tries all the same):\n  {}", findings.obstacles.join("\n  "));
    }
    let stop = Arc::new(AtomicBool::new(false));
    // The first interrupt ends the load and reports; the second ends the process.
    signal_hook::flag::register_conditional_shutdown(signal_hook::consts::SIGINT, 130, Arc::clone(&stop))?;
    signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&stop))?;
    let mut results = match &objective {
        Some(objective) => search(&scenario, objective, args, &stop)?,
        None => run(&scenario, Seat::ALONE, &Alone, &Lines::new(args.quiet, Arc::clone(&stop)))?,
    };
    results.assertions = conditions.iter().map(|condition| condition.check(&results)).collect();
    print!("{}", report::summary::render(&results));
    if let Some(path) = &args.json {
        report::json::write(&results, path)?;
    }
    if let Some(path) = &args.csv {
        report::csv::write(&results, path)?;
    }
    if let Some(path) = &args.hdr {
        report::hdr::write(&results, path)?;
    }
    if let Some(path) = &args.html {
        report::html::write(&results, path)?;
    }
    Ok(outcome::of(&results))
}

/// The highest rate that keeps the objective; the results are those of the last run that did.
fn search(
    scenario: &Scenario,
    objective: &Condition,
    args: &RunArgs,
    stop: &Arc<AtomicBool>,
) -> Result<Results> {
    let Load::Open { stages, .. } = &scenario.load else { bail!("--search needs an open load: give --rate") };
    let mut search = Search::new(stages.first().map_or(0.0, |stage| stage.from));
    let (mut steps, mut best, mut last) = (Vec::new(), None, None);
    while let Some(rate) = search.next().filter(|_| !stop.load(Ordering::Acquire)) {
        let mut step = scenario.clone();
        // Each try in documents of its own.
        step.generator.seed = step.generator.seed.wrapping_add(steps.len() as u64 + 1);
        if let Load::Open { stages, .. } = &mut step.load {
            stages.truncate(1);
            stages.iter_mut().for_each(|stage| (stage.from, stage.to) = (rate, rate));
        }
        let results = run(&step, Seat::ALONE, &Alone, &Lines::new(args.quiet, Arc::clone(stop)))?;
        let checked = objective.check(&results);
        let is_whole = results.correctness.faults() == 0 && results.total.dropped == 0;
        let outcome = match results.verdict.level {
            VerdictLevel::Invalid => Outcome::Invalid,
            _ if checked.held && is_whole => Outcome::Held,
            _ => Outcome::Failed,
        };
        steps.push(SearchStep { rate, held: outcome == Outcome::Held, seen: checked.seen });
        if !args.quiet {
            eprintln!("search: {rate:.0}/s {outcome:?}, {}", steps.last().map_or("", |step| &step.seen));
        }
        search.tell(outcome);
        if outcome == Outcome::Held {
            best = Some(results);
        } else {
            last = Some(results);
        }
    }
    let mut results = best.or(last).context("the search was stopped before its first run")?;
    if search.is_generators_limit() {
        results.verdict.level = results.verdict.level.max(VerdictLevel::Degraded);
        results
            .verdict
            .reasons
            .push("the search ended at the generator's limit: the server may carry more".into());
    }
    results.search = steps;
    Ok(results)
}

fn compare_files(args: &CompareArgs) -> Result<Exit> {
    let (base, other): (&[PathBuf], &[PathBuf]) = match (args.base.as_slice(), args.with.as_slice()) {
        ([first, second], []) => (std::slice::from_ref(first), std::slice::from_ref(second)),
        (_, []) => {
            bail!("name the other side: `compare A.json B.json`, or `compare A1 A2 A3 --with B1 B2 B3`")
        }
        (base, other) => (base, other),
    };
    let read =
        |paths: &[PathBuf]| paths.iter().map(|path| report::json::read(path)).collect::<Result<Vec<_>>>();
    let fail_on = args.fail_on.iter().map(|text| FailOn::parse(text)).collect::<Result<Vec<_>>>()?;
    let comparison = compare::compare(&read(base)?, &read(other)?, &fail_on);
    print!("{}", comparison.render());
    Ok(if comparison.tripped.is_empty() { Exit::Good } else { Exit::Failed })
}
