//! What a region's nodes see when one of them dies with all clients: they come back as their stock clients do, which know of no
//! `Retry-After`, and the others let in what the region's budget of handshakes allows.
//!
//! Runs beside a cluster: `cargo xtask cluster --json --regions 1 --nodes 3 --set shedding.region_budget=1000 -- cargo
//! measure herd -- --budget 1000`. All clients are brought to the first node while the others are away; those come back, and the first is killed.
#![allow(clippy::print_stdout, reason = "a measuring command reports on stdout")]

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use pinwire_benches::beside::Beside;
use pinwire_benches::cluster::{Cluster, Node, Started, Writing, pause};
use pinwire_benches::report::{RESULTS, Report};
use pinwire_loadgen::results::Results;
use pinwire_loadgen::run::{Seat, Second, Status, Watch, run};
use pinwire_loadgen::scenario::Dialect;
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What came last has this long to arrive everywhere.
const DRAIN: Duration = Duration::from_secs(60);
/// Members of a document.
const MEMBERS: u32 = 5;
/// A bar of the picture has this many signs at most.
const BAR: f64 = 40.0;

/// Measures a herd: `cargo xtask cluster --json --regions 1 --nodes 3 -- cargo measure herd`
#[derive(Parser, Debug)]
#[command(name = "herd")]
struct Args {
    /// Clients, all on the node that is killed
    #[arg(long, default_value_t = 10_000)]
    clients: u32,
    /// Handshakes a second that the region's nodes were told to let in together
    #[arg(long)]
    budget: f64,
    /// Edits a second, before, during and after
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
    /// Seconds from the kill to the end of the writing
    #[arg(long, default_value_t = 90)]
    seconds: u64,
    /// Where the result goes
    #[arg(long, default_value = RESULTS)]
    out: PathBuf,
}

/// Before the kill, and after the nodes have come that take over.
const CALM: Duration = Duration::from_secs(10);

/// What clients did in a second.
#[derive(Clone, Copy, Debug, Default)]
struct Tick {
    dialled: u64,
    joined: u64,
    failed: u64,
    lost: u64,
    open: u64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let mut cluster =
        Cluster::told("cargo xtask cluster --json --regions 1 --nodes 3 -- cargo measure herd")?;
    ensure!(
        cluster.nodes.len() > 2 && cluster.regions.len() == 1,
        "a region of three nodes or more is needed"
    );
    let mut report = Report::new("herd", "A node dies, and all its clients come to the others");
    report.paragraph(&format!(
        "{} clients in documents of {MEMBERS}, all on one node of {} of a region, which is killed (SIGKILL). They dial again as their \
         stock clients do, the next node where one does not answer, and know of no `Retry-After`. The region's nodes were told to let \
         in {} handshakes a second together; {} edits a second are written all the while, and every one is checked. Nodes, Redis \
         servers and clients share the processors above.",
        args.clients,
        cluster.nodes.len(),
        args.budget,
        args.rate,
    ));
    let mut raw = Vec::new();
    let mut started = Vec::new();
    for dialect in [Dialect::YWebsocket, Dialect::Hocuspocus] {
        let (results, ticks) = once(&args, dialect, &mut cluster, &mut started)?;
        raw.push(write(&mut report, &args, dialect, &results, &ticks)?);
    }
    report.raw(&json!(raw));
    println!("{}", report.text());
    println!("{}", report.save(&args.out)?.display());
    Ok(())
}

fn once(
    args: &Args,
    dialect: Dialect,
    cluster: &mut Cluster,
    started: &mut Vec<Started>,
) -> Result<(Results, Vec<Tick>)> {
    for node in &cluster.nodes[1..] {
        node.kill()?;
    }
    let writing = Writing {
        documents: args.clients / MEMBERS,
        members: MEMBERS,
        writers: 1,
        rate: args.rate,
        duration: CALM * 2 + Duration::from_secs(args.seconds),
    };
    let scenario = cluster.scenario(dialect, &writing, DRAIN)?;
    let mut nodes = std::mem::take(&mut cluster.nodes);
    let wolf = Beside::new(move || {
        let started: Vec<Started> = nodes[1..].iter_mut().map(Node::start_again).collect::<Result<_>>()?;
        pause(CALM * 2);
        nodes[0].kill()?;
        Ok((nodes, started))
    });
    let seen = Seen::default();
    let results = run(&scenario, Seat::ALONE, &wolf, &seen)?;
    let (nodes, ours) = wolf.outcome()?;
    cluster.nodes = nodes;
    started.extend(ours);
    // For the next run.
    started.push(cluster.nodes[0].start_again()?);
    ensure!(results.correctness.faults() == 0, "edits were lost: {:?}", results.correctness);
    let ticks = lock(&seen.ticks).clone();
    Ok((results, ticks))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Every second, as the generator tells it.
#[derive(Default)]
struct Seen {
    ticks: Mutex<Vec<Tick>>,
}

impl Watch for Seen {
    fn status(&self, _status: &Status) {}

    fn second(&self, second: &Second) {
        let mut tick = Tick::default();
        for region in second.detail.regions.values() {
            tick.dialled += region.dialled;
            tick.joined += region.joined;
            tick.failed += region.failed;
            tick.lost += region.lost;
            tick.open += region.open;
        }
        lock(&self.ticks).push(tick);
    }

    fn is_stopped(&self) -> bool {
        false
    }
}

fn write(
    report: &mut Report,
    args: &Args,
    dialect: Dialect,
    results: &Results,
    ticks: &[Tick],
) -> Result<Value> {
    let name = match dialect {
        Dialect::YWebsocket => "y-websocket",
        Dialect::Hocuspocus => "Hocuspocus",
    };
    report.heading(name);
    let half = u64::from(args.clients) / 2;
    let first =
        ticks.iter().position(|tick| tick.lost > half).context("the node's clients were not lost at once")?;
    let herd = &ticks[first..];
    let most = herd.iter().map(|tick| tick.joined).max().unwrap_or_default();
    let window =
        |ticks: &[Tick]| ticks.iter().map(|tick| tick.joined).sum::<u64>() as f64 / ticks.len() as f64;
    let sustained = herd.windows(5).map(window).fold(0.0, f64::max);
    let all = u64::from(args.clients / MEMBERS * MEMBERS);
    let back = herd.iter().position(|tick| tick.open * 100 >= all * 99);
    let back = back.with_context(|| format!("{:?}: fewer than 99 % are back", herd.last()))?;
    let found = &results.correctness;
    report.paragraph(&format!(
        "Let in: {most} in the second with the most, {sustained:.0} a second over the five with the most, of {} allowed. **99 % of the \
         clients are back after {back} s**. {} deliveries checked: {} lost, {} diverged, {} acknowledged edits forgotten.",
        args.budget, found.checked, found.lost, found.diverged, found.forgotten
    ));
    ensure!(sustained <= args.budget * 1.1, "{sustained} handshakes a second are more than the budget");
    let row = |(second, tick): (usize, &Tick)| {
        let bar = "#".repeat((tick.joined as f64 / args.budget * BAR).round() as usize);
        let numbers = [second as u64, tick.dialled, tick.failed, tick.joined, tick.open];
        numbers.iter().map(u64::to_string).chain([format!("`{bar}`")]).collect()
    };
    report.table(
        &[
            "second",
            "dials",
            "failed or refused",
            "let in",
            "clients that stand",
            "let in (a full bar is the budget)",
        ],
        herd[..=back.min(herd.len() - 1)].iter().enumerate().map(row),
    );
    let raw = |tick: &Tick| json!([tick.dialled, tick.failed, tick.joined, tick.lost, tick.open]);
    Ok(json!({
        "dialect": name,
        "correctness": found,
        "seconds: dialled, failed, joined, lost, open": ticks.iter().map(raw).collect::<Vec<_>>(),
        "errors": results.total.errors,
        "verdict": results.verdict,
    }))
}
