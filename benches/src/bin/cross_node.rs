//! What it costs to bring an edit to a member at another node of the region: two nodes over one Redis, and two Hocuspocus with
//! its Redis extension, on the same work.
#![allow(clippy::print_stdout, reason = "a measuring command reports on stdout")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use pinwire_benches::load::{Measured, measure_with};
use pinwire_benches::node::{self, Role};
use pinwire_benches::peers::Peers;
use pinwire_benches::region::{Region, Usage};
use pinwire_benches::report::{RESULTS, Report};
use pinwire_benches::sides::Side;
use pinwire_loadgen::results::Measure;
use pinwire_loadgen::scenario::presets::preset;
use pinwire_loadgen::scenario::{Arrivals, Kind, Load as Pace, Scenario, StagePlan};
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A slow server has this long to deliver what is under way when the load ends.
const DRAIN: Duration = Duration::from_secs(15);
/// A server keeps up with a rate if it delivers this much of it while it lasts ...
const KEPT_SHARE: f64 = 0.98;
/// ... and not later than this, at 99 %.
const KEPT_US: u64 = 1_000_000;

/// Measures what it costs to bring an edit to another node of the region
#[derive(Parser, Debug)]
#[command(name = "cross-node")]
struct Args {
    #[command(subcommand)]
    role: Option<Role>,
    /// Servers, in the order in which they take turns
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["node-hocuspocus", "hocuspocus"])]
    side: Vec<Side>,
    /// Edits a second of all writers together, from low to high: a server that fell behind is spared the higher ones
    #[arg(long, value_delimiter = ',', default_values = ["500", "1000", "2000", "4000", "10000"])]
    rates: Vec<f64>,
    /// Documents of two members, one at each server, both writing: every delivery is to the other server. Each number as a load
    /// of its own
    #[arg(long, value_delimiter = ',', default_values = ["1000", "20"])]
    documents: Vec<u32>,
    /// Updates of each of ten writers that not everybody has yet, in ten documents, each as a load of its own
    #[arg(long, value_delimiter = ',', default_values = ["1", "16"])]
    in_flight: Vec<u32>,
    /// Rounds: in each, every server has each load once
    #[arg(long, default_value_t = 2)]
    rounds: usize,
    /// Seconds of load that count
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Seconds of load before that
    #[arg(long, default_value_t = 2)]
    warm_up: u64,
    /// Where the result goes
    #[arg(long, default_value = RESULTS)]
    out: PathBuf,
}

/// A load.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Load {
    /// Edits a second, in so many documents of two members.
    Rate { rate: f64, documents: u32 },
    /// Ten documents of ten writers, each with so many updates under way.
    InFlight(u32),
}

impl Load {
    fn name(self) -> String {
        match self {
            Self::Rate { rate, documents } => format!("{rate} edits/s, {documents} documents of 2"),
            Self::InFlight(window) => format!("{window} under way of each, 10 documents of 10"),
        }
    }

    fn kind(self) -> Kind {
        let (documents, members) = match self {
            Self::Rate { documents, .. } => (documents, 2),
            Self::InFlight(_) => (10, 10),
        };
        let (awareness_rate, awareness_bytes) = (0.0, 0);
        Kind::Document {
            documents,
            members,
            writers: members,
            edit_bytes: 1,
            awareness_rate,
            awareness_bytes,
        }
    }

    fn pace(self, time: Duration) -> Pace {
        match self {
            Self::Rate { rate, .. } => Pace::Open {
                stages: vec![StagePlan { name: None, from: rate, to: rate, duration: time }],
                arrivals: Arrivals::Constant,
            },
            Self::InFlight(in_flight) => Pace::Closed { in_flight, duration: time },
        }
    }

    /// Members that each edit goes to.
    fn readers(self) -> f64 {
        match self {
            Self::Rate { .. } => 1.0,
            Self::InFlight(_) => 9.0,
        }
    }
}

/// One run.
struct One {
    side: Side,
    load: Load,
    measured: Measured,
    used: Usage,
}

impl One {
    /// Edits that were delivered while the load counted.
    fn edits(&self) -> f64 {
        self.measured.received as f64 / self.load.readers()
    }

    fn keeps_up(&self) -> bool {
        let Load::Rate { rate, .. } = self.load else { return true };
        self.measured.per_second() >= rate * KEPT_SHARE && self.measured.latency_us(99.0) < KEPT_US
    }

    fn acknowledged_us(&self, percentile: f64) -> u64 {
        let times = self.measured.results.total.latency.get(&Measure::Acknowledge);
        times.map_or(0, |histogram| histogram.percentile(percentile) / 1000)
    }

    /// Microseconds for each edit.
    fn us_each(&self, time: Duration) -> f64 {
        time.as_secs_f64() * 1e6 / self.edits()
    }

    /// What servers sent to Redis: scripts and notices; all other commands are those of scripts.
    fn calls(&self) -> u64 {
        let scripts = self.used.calls("evalsha") + self.used.calls("eval");
        if self.side.peer().is_some() { self.used.commands.values().sum() } else { scripts }
    }

    fn raw(&self) -> Value {
        let total = &self.measured.results.total;
        json!({
            "server": self.side.name(),
            "load": self.load.name(),
            "keeps_up": self.keeps_up(),
            "seconds": total.seconds,
            "sent": total.sent,
            "dropped": total.dropped,
            "deliveries": self.measured.received,
            "p50_us": self.measured.latency_us(50.0),
            "p99_us": self.measured.latency_us(99.0),
            "acknowledged_p50_us": self.acknowledged_us(50.0),
            "acknowledged_p99_us": self.acknowledged_us(99.0),
            "servers_seconds": self.used.servers.as_secs_f64(),
            "redis_seconds": self.used.redis.as_secs_f64(),
            "redis_bytes_in": self.used.bytes_in,
            "redis_bytes_out": self.used.bytes_out,
            "redis_commands": self.used.commands,
            "generator_busy": self.measured.generator_busy(),
            "verdict": self.measured.results.verdict,
            "faults": self.measured.results.correctness.faults(),
            "load_average": load_average(),
        })
    }
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    if let Some(Role::Node(node)) = &args.role {
        node::serve(node)?;
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(args.rounds > 0 && args.seconds > 0, "nothing to measure");
    let of_two = |side: &Side| matches!(side, Side::Node | Side::NodeHocuspocus | Side::Hocuspocus);
    ensure!(args.side.iter().all(of_two), "only the node and Hocuspocus can be two of a region");
    let peers = Peers::install()?;
    let mut report = Report::new("cross-node", "An edit on its way to another node of the region");
    let mut loads: Vec<Load> = Vec::new();
    for &documents in &args.documents {
        loads.extend(args.rates.iter().map(|&rate| Load::Rate { rate, documents }));
    }
    loads.extend(args.in_flight.iter().map(|window| Load::InFlight(*window)));
    let mut runs: Vec<One> = Vec::new();
    let mut raw = Vec::new();
    for _ in 0..args.rounds {
        for &load in &loads {
            for &side in &args.side {
                if is_spared(&runs, side, load) {
                    continue;
                }
                let one = once(&args, side, load, &peers)
                    .with_context(|| format!("{}, {}", side.name(), load.name()))?;
                println!("{}", row(&one).join(" | "));
                raw.push(one.raw());
                runs.push(one);
            }
        }
    }
    write_report(&mut report, &args, &peers, &loads, &runs);
    report.raw(&json!(raw));
    println!("\n{}", report.text());
    println!("written to {}", report.save(&args.out)?.display());
    Ok(ExitCode::SUCCESS)
}

/// Whether a server fell behind at a lower rate already.
fn is_spared(runs: &[One], side: Side, load: Load) -> bool {
    let Load::Rate { rate: this, documents: here } = load else { return false };
    runs.iter().any(|one| match one.load {
        Load::Rate { rate, documents } => {
            one.side == side && documents == here && rate < this && !one.keeps_up()
        }
        Load::InFlight(_) => false,
    })
}

/// A region of its own for each run.
fn once(args: &Args, side: Side, load: Load, peers: &Peers) -> Result<One> {
    let region = Region::start(side, peers)?;
    let time = Duration::from_secs(args.seconds);
    let mut scenario: Scenario = preset("document").context("the scenario `document`")?;
    scenario.kind = load.kind();
    scenario.load = load.pace(time);
    scenario.target.urls = region.urls();
    scenario.target.auth = region.auth();
    scenario.target.dialect = side.dialect();
    scenario.warm_up = Duration::from_secs(args.warm_up);
    scenario.drain = DRAIN;
    scenario.clients.timeout = DRAIN;
    scenario.generator.seed = fastrand::u64(..u64::from(u32::MAX));
    let read = measure_with(&scenario, time, region.usage()?)?;
    let used = read.after.since(&read.before);
    let cpu = used.servers + used.redis;
    let measured = Measured { results: read.results, cpu, received: read.received };
    let one = One { side, load, measured, used };
    if one.keeps_up() {
        one.measured.ensure_whole()?;
    }
    region.stop()?;
    Ok(one)
}

fn row(one: &One) -> Vec<String> {
    let edits = one.edits();
    let each = |count: u64| format!("{:.2}", count as f64 / edits);
    let all: u64 = one.used.commands.values().sum();
    vec![
        one.load.name(),
        one.side.name().to_owned(),
        format!("{:.0}{}", one.measured.per_second(), if one.keeps_up() { "" } else { ", **fell behind**" }),
        format!("{:.2}", one.measured.latency_us(50.0) as f64 / 1e3),
        format!("**{:.2}**", one.measured.latency_us(99.0) as f64 / 1e3),
        format!("{:.2}", one.acknowledged_us(99.0) as f64 / 1e3),
        format!("{:.1}", one.us_each(one.used.servers)),
        format!("{:.1}", one.us_each(one.used.redis)),
        each(one.calls()),
        each(all - one.calls()),
        format!("{:.0}", one.used.bytes_in as f64 / edits),
        format!("{:.0}", one.used.bytes_out as f64 / edits),
        format!("{:.0} %", 100.0 * one.measured.generator_busy()),
    ]
}

fn write_report(report: &mut Report, args: &Args, peers: &Peers, loads: &[Load], runs: &[One]) {
    report.paragraph(&format!(
        "Peers: {}. A region is two servers, of one process each, and one Redis without persistence, all bound to the first \
         processor; the clients are on the last one. Members of a document are at the two servers in turn. Each run has a region \
         of its own, loaded for {} s that do not count and for {} s that do. Updates of one character, about 21 bytes. All \
         updates reached all members and a fresh client found the same documents at the end, or the run would have failed, but \
         where a server fell behind: there less than {:.0} % of the rate was delivered while it lasted, or p99 was above {} s.",
        peers.versions(),
        args.warm_up,
        args.seconds,
        100.0 * KEPT_SHARE,
        KEPT_US / 1_000_000
    ));
    report.paragraph(
        "Nodes acknowledge an edit once Redis has it; Hocuspocus acknowledges what it has in memory, and Redis only passes on, \
         without keeping, what the extension publishes: a state vector for each turn with changes, which the other server answers. \
         All figures by edit are totals of what was delivered while the load counted.",
    );
    report.table(
        &[
            "load",
            "servers",
            "deliveries/s",
            "p50 ms",
            "p99 ms",
            "acknowledged p99 ms",
            "CPU us an edit, servers",
            "CPU us an edit, Redis",
            "calls to Redis an edit",
            "commands in scripts an edit",
            "bytes to Redis an edit",
            "bytes from Redis an edit",
            "generator busy",
        ],
        loads.iter().flat_map(|load| runs.iter().filter(|one| one.load == *load).map(row)),
    );
    report.heading("The node by Hocuspocus");
    report.paragraph(
        "Processor time of an edit, servers and Redis together, in the same round; at the same load.",
    );
    let ratios = loads.iter().filter_map(|load| ratio(*load, runs)).collect::<Vec<_>>();
    report.table(&["load", "node us", "Hocuspocus us", "share", "node p99 by Hocuspocus p99"], ratios);
}

/// Of the rounds in turn.
fn ratio(load: Load, runs: &[One]) -> Option<Vec<String>> {
    let of = |side: Side| runs.iter().filter(|one| one.load == load && one.side == side).collect::<Vec<_>>();
    let (ours, theirs) = (of(Side::NodeHocuspocus), of(Side::Hocuspocus));
    let pairs: Vec<(&One, &One)> = ours.into_iter().zip(theirs).collect();
    if pairs.is_empty() {
        return None;
    }
    let all = |value: &dyn Fn(&One, &One) -> String| {
        pairs.iter().map(|(ours, theirs)| value(ours, theirs)).collect::<Vec<_>>().join(", ")
    };
    let us = |one: &One| one.us_each(one.measured.cpu);
    Some(vec![
        load.name(),
        all(&|ours, _| format!("{:.1}", us(ours))),
        all(&|_, theirs| format!("{:.1}", us(theirs))),
        all(&|ours, theirs| format!("{:.2}", us(ours) / us(theirs))),
        all(&|ours, theirs| {
            format!("{:.2}", ours.measured.latency_us(99.0) as f64 / theirs.measured.latency_us(99.0) as f64)
        }),
    ])
}

/// What else ran on the machine shows in this.
fn load_average() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_of_two_members_go_to_the_other_one_and_those_of_ten_to_nine() {
        let (pair, crowd) = (Load::Rate { rate: 1.0, documents: 1 }, Load::InFlight(1));
        for (load, readers) in [(pair, 1.0), (crowd, 9.0)] {
            let Kind::Document { members, writers, .. } = load.kind() else { panic!("{load:?}") };
            assert_eq!((f64::from(members) - 1.0, writers), (readers, members));
            assert!((load.readers() - readers).abs() < f64::EPSILON);
        }
    }
}
