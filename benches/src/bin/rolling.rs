//! What clients see while all nodes of a region are replaced, one after the other: each is succeeded by another process that has its
//! listening sockets, and closes its clients by and by.
//!
//! Runs beside a cluster: `cargo xtask cluster --json --regions 1 --nodes 3 --set drain.window=10s -- cargo measure rolling`. It fails
//! where a connection is refused or an edit lost.
#![allow(clippy::print_stdout, reason = "a measuring command reports on stdout")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use pinwire_benches::beside::Beside;
use pinwire_benches::cluster::{Cluster, Taken, Writing, pause};
use pinwire_benches::report::{RESULTS, Report};
use pinwire_loadgen::histogram::Histogram;
use pinwire_loadgen::results::{Measure, Results};
use pinwire_loadgen::run::{Seat, run};
use pinwire_loadgen::scenario::Dialect;
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What came last has this long to arrive everywhere; and a node to be gone.
const PATIENCE: Duration = Duration::from_secs(90);
/// Before the first, between two, and after the last.
const CALM: Duration = Duration::from_secs(5);
/// Members of a document.
const MEMBERS: u32 = 5;

/// Measures a rolling restart: `cargo xtask cluster --json --regions 1 --nodes 3 --set drain.window=10s -- cargo measure rolling`
#[derive(Parser, Debug)]
#[command(name = "rolling")]
struct Args {
    /// Clients, on all nodes
    #[arg(long, default_value_t = 6_000)]
    clients: u32,
    /// Edits a second
    #[arg(long, default_value_t = 300.0)]
    rate: f64,
    /// Where the result goes
    #[arg(long, default_value = RESULTS)]
    out: PathBuf,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let mut cluster = Cluster::told(
        "cargo xtask cluster --json --regions 1 --nodes 3 --set drain.window=10s -- cargo measure rolling",
    )?;
    ensure!(cluster.regions.len() == 1, "one region is enough");
    let mut report = Report::new("rolling", "All nodes of a region are replaced while clients write");
    report.paragraph(&format!(
        "{} clients in documents of {MEMBERS} on {} nodes of a region, {} edits a second. One node after the other has another process \
         take over (`POST /v1/node/upgrade`), and closes its clients with 1012 by and by; they dial again as their stock clients do. The \
         next one follows when the process before is gone. Nodes, Redis servers and clients share the processors above.",
        args.clients,
        cluster.nodes.len(),
        args.rate,
    ));
    let mut raw = Vec::new();
    let mut taken = Vec::new();
    for dialect in [Dialect::YWebsocket, Dialect::Hocuspocus] {
        let results = once(&args, dialect, &mut cluster, &mut taken)?;
        raw.push(write(&mut report, dialect, &results)?);
    }
    report.raw(&json!(raw));
    println!("{}", report.text());
    println!("{}", report.save(&args.out)?.display());
    Ok(())
}

fn once(args: &Args, dialect: Dialect, cluster: &mut Cluster, taken: &mut Vec<Taken>) -> Result<Results> {
    let writing = Writing {
        documents: args.clients / MEMBERS,
        members: MEMBERS,
        writers: 2,
        rate: args.rate,
        // Ended when all nodes are replaced, long before.
        duration: PATIENCE * 10,
    };
    let scenario = cluster.scenario(dialect, &writing, PATIENCE)?;
    let mut moved = cluster.clone();
    let roll = Beside::until_done(move || {
        let mut ours = Vec::new();
        for at in 0..moved.nodes.len() {
            pause(CALM);
            ours.push(replace(&mut moved, at)?);
        }
        pause(CALM);
        Ok((moved, ours))
    });
    let results = run(&scenario, Seat::ALONE, &roll, &roll)?;
    let (now, ours) = roll.outcome()?;
    *cluster = now;
    taken.extend(ours);
    ensure!(results.correctness.faults() == 0, "edits were lost: {:?}", results.correctness);
    ensure!(results.connections.failed.is_empty(), "refused: {:?}", results.connections.failed);
    Ok(results)
}

/// Another process takes over from a node; returns when the one before is gone.
fn replace(cluster: &mut Cluster, at: usize) -> Result<Taken> {
    let node = &cluster.nodes[at];
    let before = node.pid();
    let told = cluster.ask(node, "POST", "/v1/node/upgrade", "")?;
    let pid = u32::try_from(told["pid"].as_u64().context("no process took over")?)?;
    let taken = cluster.nodes[at].is_now(pid);
    let asked = Instant::now();
    while is_there(before) {
        ensure!(asked.elapsed() < PATIENCE, "process {before} does not end");
        pause(Duration::from_millis(50));
    }
    Ok(taken)
}

/// Whether a process runs: one that ended and whose parent has not looked is no more.
fn is_there(pid: u32) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.is_ok_and(|stat| !stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')))
}

fn write(report: &mut Report, dialect: Dialect, results: &Results) -> Result<Value> {
    let name = match dialect {
        Dialect::YWebsocket => "y-websocket",
        Dialect::Hocuspocus => "Hocuspocus",
    };
    report.heading(name);
    let found = &results.correctness;
    let lost: u64 = results.connections.lost.values().sum();
    report.paragraph(&format!(
        "**{} edits lost, {} connections refused**; {} deliveries checked, {} edits sent, {} acknowledged edits forgotten. {lost} times a \
         client was closed and came back.",
        found.lost,
        results.connections.failed.values().sum::<u64>(),
        found.checked,
        results.total.sent,
        found.forgotten,
    ));
    let latency = results.total.latency.get(&Measure::Latency).context("no latency")?;
    let mut away = Histogram::default();
    for region in results.regions.values() {
        away.add(&region.recover);
    }
    let ms = |ns: u64| format!("{:.1}", ns as f64 / 1e6);
    let row = |what: &str, times: &Histogram| {
        let at = |percentile| ms(times.percentile(percentile));
        vec![what.to_owned(), times.count().to_string(), at(50.0), at(99.0), at(99.9), ms(times.max())]
    };
    report.table(
        &["milliseconds", "number", "p50", "p99", "p99.9", "worst"],
        [
            row("a client's pause: from its close until it has joined again", &away),
            row("an edit, from when it was to be written until it is everywhere", latency),
        ],
    );
    Ok(json!({
        "dialect": name,
        "correctness": found,
        "lost": results.connections.lost,
        "failed": results.connections.failed,
        "pause_ns": { "p50": away.percentile(50.0), "p99": away.percentile(99.0), "max": away.max() },
        "latency_ns": { "p50": latency.percentile(50.0), "p99": latency.percentile(99.0), "max": latency.max() },
        "errors": results.total.errors,
        "verdict": results.verdict,
    }))
}
