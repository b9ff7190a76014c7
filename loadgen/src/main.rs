//! `pinwire-loadgen`: flags to a scenario, a run, its outputs, and an exit code.
#![allow(clippy::print_stdout, reason = "a command line tool talks on stdout")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use clap::Parser;
use pinwire_loadgen::cli::{AgentArgs, Cli, Command, CompareArgs, MergeArgs, Outputs, RunArgs};
use pinwire_loadgen::expression::{Condition, FailOn};
use pinwire_loadgen::outcome::{self, Exit};
use pinwire_loadgen::plan::plan;
use pinwire_loadgen::results::{Results, SearchStep, VerdictLevel};
use pinwire_loadgen::run::{Alone, Seat, run};
use pinwire_loadgen::scenario::{Load, Scenario, presets};
use pinwire_loadgen::search::{Outcome, Search};
use pinwire_loadgen::team::{Team, agent};
use pinwire_loadgen::view::{Heading, Viewer};
use pinwire_loadgen::{compare, merge, preflight, report, signals};

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
        Some(Command::Agent(args)) => serve(args),
        Some(Command::Merge(args)) => merge_files(args),
        Some(Command::Compare(args)) => compare_files(args),
        Some(Command::Plan(args)) => plan(args).map(|text| {
            print!("{text}");
            Exit::Good
        }),
        Some(Command::Completions(args)) => {
            args.run();
            Ok(Exit::Good)
        }
        Some(Command::Manual(args)) => args.run().map(|()| Exit::Good),
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
    let scenario = args.resolve()?;
    if args.dump_scenario {
        print!("{}", toml::to_string(&scenario)?);
        return Ok(Exit::Good);
    }
    let conditions = conditions(&args.outputs)?;
    let objective = args.search.as_deref().map(Condition::parse).transpose()?;
    let stop = Arc::new(AtomicBool::new(false));
    signals::listen(&stop)?;
    let mut runner = Runner::new(args)?;
    let viewer = Viewer::start(args.view(), Arc::clone(&stop))?;
    let results = match &objective {
        Some(objective) => search(&scenario, objective, &mut runner, &viewer, &stop),
        None => {
            viewer.begin(&Heading::of(&scenario, None));
            runner.run(&scenario, &viewer)
        }
    };
    // What is said from here on belongs below the view, not into it.
    let mut results = match results {
        Ok(results) => results,
        Err(error) => {
            drop(viewer);
            return Err(error);
        }
    };
    results.assertions = conditions.iter().map(|condition| condition.check(&results)).collect();
    let exit = outcome::of(&results);
    viewer.end(&results, exit);
    put_out(&results, &args.outputs)?;
    Ok(exit)
}

fn conditions(outputs: &Outputs) -> Result<Vec<Condition>> {
    outputs.assertions.iter().map(|text| Condition::parse(text)).collect()
}

fn put_out(results: &Results, outputs: &Outputs) -> Result<()> {
    print!("{}", report::summary::render(results));
    if let Some(path) = &outputs.json {
        report::json::write(results, path)?;
    }
    if let Some(path) = &outputs.csv {
        report::csv::write(results, path)?;
    }
    if let Some(path) = &outputs.hdr {
        report::hdr::write(results, path)?;
    }
    if let Some(path) = &outputs.html {
        report::html::write(results, path)?;
    }
    if let Some(path) = &outputs.junit {
        report::junit::write(results, path)?;
    }
    Ok(())
}

/// Whoever runs scenarios: this process, or several that it coordinates.
struct Runner {
    team: Option<Team>,
    is_forced: bool,
}

impl Runner {
    fn new(args: &RunArgs) -> Result<Self> {
        let team = match args.processes {
            _ if !args.agents.is_empty() => {
                Some(Team::connect(&args.agents, args.agent_token().as_deref().unwrap_or_default())?)
            }
            Some(processes) if processes > 1 => Some(Team::start(processes)?),
            _ => None,
        };
        Ok(Self { team, is_forced: args.force })
    }

    fn run(&mut self, scenario: &Scenario, viewer: &Viewer) -> Result<Results> {
        if let Some(team) = &mut self.team {
            return team.run(scenario, self.is_forced, viewer, &|text| viewer.note(text));
        }
        let mut scenario = scenario.clone();
        let findings = preflight::prepare(&mut scenario, Seat::ALONE, Seat::ALONE);
        findings.arranged.iter().for_each(|what| viewer.note(&format!("preflight: {what}")));
        if !findings.obstacles.is_empty() && !self.is_forced {
            bail!("this cannot work (--force tries all the same):\n  {}", findings.obstacles.join("\n  "));
        }
        run(&scenario, Seat::ALONE, &Alone::now(), viewer)
    }
}

/// The highest rate that keeps the objective; the results are those of the last run that did.
fn search(
    scenario: &Scenario,
    objective: &Condition,
    runner: &mut Runner,
    viewer: &Viewer,
    stop: &AtomicBool,
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
        viewer.begin(&Heading::of(&step, Some(format!("search: {rate:.0}/s"))));
        let results = runner.run(&step, viewer)?;
        let checked = objective.check(&results);
        let is_whole = results.correctness.faults() == 0 && results.total.dropped == 0;
        let outcome = match results.verdict.level {
            VerdictLevel::Invalid => Outcome::Invalid,
            _ if checked.held && is_whole => Outcome::Held,
            _ => Outcome::Failed,
        };
        viewer.note(&format!("search: {rate:.0}/s {outcome:?}, {}", checked.seen));
        steps.push(SearchStep { rate, held: outcome == Outcome::Held, seen: checked.seen });
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

fn serve(args: &AgentArgs) -> Result<Exit> {
    if args.inherited {
        agent::serve_parent()?;
        return Ok(Exit::Good);
    }
    let announce = |address| println!("agent listens on {address}");
    agent::serve(args.listen, args.token().as_deref(), args.sources.clone(), announce)?;
    Ok(Exit::Good)
}

fn merge_files(args: &MergeArgs) -> Result<Exit> {
    let read = |path: &PathBuf| Ok((path.display().to_string(), report::json::read(path)?));
    let files = args.files.iter().map(read).collect::<Result<Vec<_>>>()?;
    let conditions = conditions(&args.outputs)?;
    let mut results = merge::merge_files(files)?.context("there is nothing to merge")?;
    results.assertions = conditions.iter().map(|condition| condition.check(&results)).collect();
    put_out(&results, &args.outputs)?;
    Ok(outcome::of(&results))
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
