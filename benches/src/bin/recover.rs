//! How long clients take to be redirected, and to be back when a node is killed: over a cluster of real processes, which
//! `cargo xtask cluster --json -- cargo measure recover` starts.
#![allow(clippy::print_stdout, reason = "a measuring command reports on stdout")]

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use pinwire_benches::beside::Beside;
use pinwire_benches::cluster::{Cluster, Node, Started, Writing, pause};
use pinwire_benches::report::{RESULTS, Report};
use pinwire_loadgen::histogram::Histogram;
use pinwire_loadgen::results::{Region, Results};
use pinwire_loadgen::run::{Seat, run};
use pinwire_loadgen::scenario::Dialect;
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What came last has this long to arrive everywhere.
const DRAIN: Duration = Duration::from_secs(30);

/// Measures redirects and recoveries: `cargo xtask cluster --json -- cargo measure recover`
#[derive(Parser, Debug)]
#[command(name = "recover")]
struct Args {
    /// Documents
    #[arg(long, default_value_t = 200)]
    documents: u32,
    /// Members of each, two of them writing; they dial the nodes of all regions in turn
    #[arg(long, default_value_t = 8)]
    members: u32,
    /// Edits a second
    #[arg(long, default_value_t = 400.0)]
    rate: f64,
    /// Kills (SIGKILL) of nodes, one after the other, in each run
    #[arg(long, default_value_t = 4)]
    kills: u32,
    /// Seconds from one kill to the next
    #[arg(long, default_value_t = 8)]
    every: u64,
    /// Seconds after which a killed node is started again
    #[arg(long, default_value_t = 3)]
    down: u64,
    /// Where the result goes
    #[arg(long, default_value = RESULTS)]
    out: PathBuf,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let mut cluster = Cluster::told("cargo xtask cluster --json -- cargo measure recover")?;
    ensure!(cluster.nodes.len() > 1, "a cluster of one node has nobody to take over");
    let mut report = Report::new("recover", "Redirects, and recoveries from the kill of a node");
    report.paragraph(&format!(
        "`cargo xtask cluster --json -- cargo measure recover`: {} nodes in regions of two, a Redis with a replica for each region and \
         for the registry, three sentinels, and the clients, all on the processors above. {} documents of {} members, which dial \
         the nodes of all regions in turn, so that half of them are sent to the other region; two members of each document \
         write, {} edits a second in all. Every {} s another node is killed (SIGKILL), {} times, and started again after {} s. \
         Clients redial as their stock clients do, the next URL where one does not answer: y-websocket after 100 ms, doubled to \
         2.5 s; Hocuspocus after 1 s, then after a random time of 1 s to what doubles to 30 s.",
        cluster.nodes.len(),
        args.documents,
        args.members,
        args.rate,
        args.every,
        args.kills,
        args.down
    ));
    let mut raw = Vec::new();
    let mut started = Vec::new();
    for dialect in [Dialect::YWebsocket, Dialect::Hocuspocus] {
        let results = once(&args, dialect, &mut cluster, &mut started)?;
        raw.push(write(&mut report, dialect, &results));
    }
    report.raw(&json!(raw));
    println!("{}", report.text());
    println!("{}", report.save(&args.out)?.display());
    Ok(())
}

fn once(args: &Args, dialect: Dialect, cluster: &mut Cluster, started: &mut Vec<Started>) -> Result<Results> {
    let writing = Writing {
        documents: args.documents,
        members: args.members,
        writers: 2,
        rate: args.rate,
        duration: Duration::from_secs(args.every * u64::from(args.kills + 1)),
    };
    let scenario = cluster.scenario(dialect, &writing, DRAIN)?;
    let plan = Plan {
        nodes: std::mem::take(&mut cluster.nodes),
        kills: args.kills,
        every: Duration::from_secs(args.every),
        down: Duration::from_secs(args.down),
    };
    let killer = Beside::new(move || plan.carry_out());
    let results = run(&scenario, Seat::ALONE, &killer, &killer)?;
    let (left, ours) = killer.outcome()?;
    cluster.nodes = left;
    started.extend(ours);
    let faults = &results.correctness;
    ensure!(faults.faults() == 0, "edits were lost, or the documents did not converge: {faults:?}");
    Ok(results)
}

struct Plan {
    nodes: Vec<Node>,
    kills: u32,
    every: Duration,
    down: Duration,
}

type Killing = Result<(Vec<Node>, Vec<Started>)>;

impl Plan {
    /// From the last node on, so that a region's first one, where redirects lead, comes late.
    fn carry_out(mut self) -> Killing {
        let mut started: Vec<Started> = Vec::new();
        for kill in 0..self.kills as usize {
            pause(self.every.saturating_sub(if kill == 0 { Duration::ZERO } else { self.down }));
            let count = self.nodes.len();
            let node = &mut self.nodes[count - 1 - kill % count];
            node.kill()?;
            pause(self.down);
            started.push(node.start_again()?);
        }
        Ok((self.nodes, started))
    }
}

fn write(report: &mut Report, dialect: Dialect, results: &Results) -> Value {
    let name = match dialect {
        Dialect::YWebsocket => "y-websocket",
        Dialect::Hocuspocus => "Hocuspocus",
    };
    report.heading(name);
    let Results { correctness, total, verdict, .. } = results;
    report.paragraph(&format!(
        "{} deliveries checked: {} lost, {} duplicated, {} diverged, {} acknowledged edits forgotten. {} edits sent, {} not \
         (dropped). The generator's verdict: {:?}.",
        correctness.checked,
        correctness.lost,
        correctness.duplicated,
        correctness.diverged,
        correctness.forgotten,
        total.sent,
        total.dropped,
        verdict.level
    ));
    let times = |histogram: &Histogram| {
        let at = |percentile: f64| format!("{:.1}", histogram.percentile(percentile) as f64 / 1e6);
        [histogram.count().to_string(), at(50.0), at(99.0), format!("{:.1}", histogram.max() as f64 / 1e6)]
    };
    let row = |(name, region): (&String, &Region)| {
        let mut row = vec![name.clone()];
        row.extend(times(&region.redirect));
        row.push(region.lost.to_string());
        row.extend(times(&region.recover));
        row
    };
    report.table(
        &[
            "region",
            "redirected",
            "p50 ms",
            "p99 ms",
            "max ms",
            "connections lost",
            "recovered",
            "p50 ms",
            "p99 ms",
            "max ms",
        ],
        results.regions.iter().map(row),
    );
    let shape = |histogram: &Histogram| {
        let at = |percentile: f64| (percentile.to_string(), json!(histogram.percentile(percentile)));
        let ns: serde_json::Map<String, Value> =
            [10.0, 50.0, 90.0, 99.0, 99.9, 100.0].map(at).into_iter().collect();
        json!({ "count": histogram.count(), "ns_at_percentile": ns })
    };
    let region = |(name, region): (&String, &Region)| {
        let (redirect, recover) = (shape(&region.redirect), shape(&region.recover));
        (name.clone(), json!({ "lost": region.lost, "redirect": redirect, "recover": recover }))
    };
    let regions: serde_json::Map<String, Value> = results.regions.iter().map(region).collect();
    json!({
        "dialect": name,
        "regions": regions,
        "correctness": correctness,
        "sent": total.sent,
        "errors": total.errors,
        "verdict": verdict,
    })
}
