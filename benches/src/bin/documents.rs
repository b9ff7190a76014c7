//! What a delivery costs: one document, ten writers, the node and its peers in turn.
//!
//! A delivery is one update at one member other than its writer. Servers may merge updates and echo them; the load generator
//! finds each in what arrives, and a fresh client compares the document at the end.
#![allow(clippy::print_stdout, reason = "a measuring command reports on stdout")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use pinwire_benches::load::{Measured, measure};
use pinwire_benches::node::{self, Role};
use pinwire_benches::peers::Peers;
use pinwire_benches::report::{RESULTS, Report};
use pinwire_benches::sides::{Side, Standing, available};
use pinwire_loadgen::scenario::presets::preset;
use pinwire_loadgen::scenario::{Arrivals, Kind, Load as Pace, Scenario, StagePlan};
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A slow server has this long to deliver what is under way when the load ends.
const DRAIN: Duration = Duration::from_secs(30);

/// Measures what a delivery costs the node and its peers
#[derive(Parser, Debug)]
#[command(name = "documents")]
struct Args {
    #[command(subcommand)]
    role: Option<Role>,
    /// Servers, in the order in which they take turns
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["node", "node-hocuspocus", "hocuspocus", "y-websocket", "y-sweet"])]
    side: Vec<Side>,
    /// Members of the document
    #[arg(long, value_delimiter = ',', default_values = ["10", "100", "1000"])]
    members: Vec<u32>,
    /// Members that write
    #[arg(long, default_value_t = 10)]
    writers: u32,
    /// Updates of each writer that not everybody has yet, each as a load of its own
    #[arg(long, value_delimiter = ',', default_values = ["1", "16"])]
    in_flight: Vec<u32>,
    /// Updates a second of all writers together: the low rate; 0 leaves it out
    #[arg(long, default_value_t = 20.0)]
    rate: f64,
    /// Members at the low rate
    #[arg(long, default_value_t = 100)]
    rate_members: u32,
    /// Servers at the low rate beside the others
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["hocuspocus-unmerged"])]
    rate_side: Vec<Side>,
    /// Rounds: in each, every server has each load once
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of load that count
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Seconds of load before that
    #[arg(long, default_value_t = 2)]
    warm_up: u64,
    /// Where the result goes
    #[arg(long, default_value = RESULTS)]
    out: PathBuf,
}

/// How fast writers write.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Load {
    /// As fast as updates arrive, so many at a time of each writer.
    InFlight(u32),
    /// Updates a second of all together.
    Rate(f64),
}

impl Load {
    fn name(self) -> String {
        match self {
            Self::InFlight(window) => format!("{window} in flight"),
            Self::Rate(rate) => format!("{rate} updates/s"),
        }
    }
}

/// One load at one size.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    load: Load,
    members: u32,
}

/// A server at a point, measured once a round.
struct Series {
    point: Point,
    side: Side,
    rounds: Vec<Measured>,
}

impl Series {
    /// The round whose processor time by delivery is the median.
    fn median(&self) -> Option<&Measured> {
        let mut order: Vec<&Measured> = self.rounds.iter().collect();
        order.sort_by(|a, b| a.us_each().total_cmp(&b.us_each()));
        order.get(order.len() / 2).copied()
    }
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    if let Some(Role::Node(node)) = &args.role {
        node::serve(node)?;
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(args.rounds > 0 && args.seconds > 0 && args.writers > 0, "nothing to measure");
    ensure!(args.members.iter().all(|members| *members >= args.writers), "more writers than members");
    let peers = Peers::install()?;
    let title = format!("Updates of {} writers in one document, the node and its peers", args.writers);
    let mut report = Report::new("documents", &title);
    let sides = available(&args.side, &peers, &mut report);
    let mut plan: Vec<(Point, Vec<Side>)> = Vec::new();
    for &members in &args.members {
        for &window in &args.in_flight {
            plan.push((Point { load: Load::InFlight(window), members }, sides.clone()));
        }
    }
    if args.rate > 0.0 {
        let all = sides.iter().chain(&args.rate_side).copied().collect();
        plan.push((Point { load: Load::Rate(args.rate), members: args.rate_members }, all));
    }
    let mut series: Vec<Series> = plan
        .iter()
        .flat_map(|(point, sides)| {
            sides.iter().map(|&side| Series { point: *point, side, rounds: Vec::new() })
        })
        .collect();
    for round in 0..args.rounds {
        for one in &mut series {
            let measured = once(&args, one.side, one.point, &peers)
                .with_context(|| format!("{}, {:?}", one.side.name(), one.point))?;
            println!(
                "round {}: {}, {} members, {}: {:.0} deliveries/s, {:.2} us each, generator {:.0} % busy",
                round + 1,
                one.side.name(),
                one.point.members,
                one.point.load.name(),
                measured.per_second(),
                measured.us_each(),
                100.0 * measured.generator_busy()
            );
            one.rounds.push(measured);
        }
    }
    write_report(&mut report, &args, &series);
    println!("\n{}", report.text());
    println!("written to {}", report.save(&args.out)?.display());
    Ok(ExitCode::SUCCESS)
}

/// A server of its own for each measurement: what came before does not weigh on it.
fn once(args: &Args, side: Side, point: Point, peers: &Peers) -> Result<Measured> {
    let server = Standing::start(side, peers)?;
    let time = Duration::from_secs(args.seconds);
    let mut scenario: Scenario = preset("document").context("the scenario `document`")?;
    scenario.kind = Kind::Document {
        documents: 1,
        members: point.members,
        writers: args.writers,
        edit_bytes: 1,
        awareness_rate: 0.0,
        awareness_bytes: 0,
    };
    scenario.load = match point.load {
        Load::InFlight(in_flight) => Pace::Closed { in_flight, duration: time },
        Load::Rate(rate) => Pace::Open {
            stages: vec![StagePlan { name: None, from: rate, to: rate, duration: time }],
            arrivals: Arrivals::Constant,
        },
    };
    scenario.target.urls = vec![server.url()];
    scenario.target.auth = server.auth();
    scenario.target.dialect = side.dialect();
    scenario.warm_up = Duration::from_secs(args.warm_up);
    scenario.drain = DRAIN;
    scenario.clients.timeout = DRAIN;
    scenario.generator.seed = fastrand::u64(..u64::from(u32::MAX));
    let measured = measure(&scenario, time, server.pid())?;
    measured.ensure_whole()?;
    server.stop()?;
    Ok(measured)
}

/// What the node's processor time by delivery may be, as a share of the peer's.
fn target(point: Point, side: Side) -> Option<f64> {
    match (side, point.load) {
        (Side::Hocuspocus, Load::InFlight(16)) if point.members >= 1000 => Some(0.5),
        (Side::Hocuspocus, Load::InFlight(16)) => Some(0.2),
        (Side::Hocuspocus, Load::InFlight(1)) => Some(0.5),
        (Side::YWebsocket | Side::YSweet, Load::InFlight(_)) => Some(0.2),
        (Side::YSweet, Load::Rate(_)) => Some(0.5),
        _ => None,
    }
}

fn write_report(report: &mut Report, args: &Args, series: &[Series]) {
    report.paragraph(&format!(
        "Updates of one character, about 21 bytes. The median of {} rounds; in each, every server was started anew, loaded \
         for {} s that do not count, and for {} s that do. A delivery is one update at one member other than its writer. \
         All updates reached all members, and a fresh client found the same document at the end, or the run would have \
         failed. CPU is that of the server's process, all threads, the kernel's work on its behalf included; the load \
         generator's own share of its processor is beside it: near 100 %, more deliveries a second would have been had \
         from the server.",
        args.rounds, args.warm_up, args.seconds
    ));
    report.table(
        &[
            "load",
            "members",
            "server",
            "deliveries/s",
            "CPU us per delivery",
            "rounds",
            "updates per frame",
            "p50 us",
            "p99 us",
            "generator busy",
        ],
        series.iter().filter_map(|one| Some((one, one.median()?))).map(|(one, median)| {
            let each: Vec<String> =
                one.rounds.iter().map(|round| format!("{:.3}", round.us_each())).collect();
            vec![
                one.point.load.name(),
                one.point.members.to_string(),
                one.side.name().to_owned(),
                format!("{:.0}", median.per_second()),
                format!("**{:.3}**", median.us_each()),
                each.join(", "),
                format!("{:.2}", median.per_frame()),
                median.latency_us(50.0).to_string(),
                median.latency_us(99.0).to_string(),
                format!("{:.0} %", 100.0 * median.generator_busy()),
            ]
        }),
    );
    report.heading("The node by its peers");
    report.paragraph(
        "Each peer against the node in the peer's dialect: the node's CPU by delivery as a share of the peer's, and what it \
         may be.",
    );
    report.table(&["load", "members", "peer", "node us", "peer us", "share", "target", ""], {
        series.iter().filter_map(|one| comparison(one, series))
    });
    write_latency(report, series);
    report.raw(&json!(series.iter().map(series_json).collect::<Vec<_>>()));
}

fn comparison(one: &Series, series: &[Series]) -> Option<Vec<String>> {
    one.side.peer()?;
    let node = of(series, one.point, one.side.node())?.us_each();
    let peer = one.median()?.us_each();
    let share = node / peer;
    let (bound, verdict) = match target(one.point, one.side) {
        Some(bound) => (format!("{bound}"), if share <= bound { "met" } else { "**missed**" }),
        None => (String::new(), ""),
    };
    Some(vec![
        one.point.load.name(),
        one.point.members.to_string(),
        one.side.name().to_owned(),
        format!("{node:.3}"),
        format!("{peer:.3}"),
        format!("{share:.2}"),
        bound,
        verdict.to_owned(),
    ])
}

/// At the low rate nothing waits for anything: the node must not be later than those that send each update at once.
fn write_latency(report: &mut Report, series: &[Series]) {
    let low = |one: &&Series| matches!(one.point.load, Load::Rate(_));
    let rows: Vec<Vec<String>> = series
        .iter()
        .filter(low)
        .filter(|one| one.side.peer().is_some() && one.side != Side::Hocuspocus)
        .filter_map(|one| {
            let node = of(series, one.point, one.side.node())?;
            let peer = one.median()?;
            let (mine, theirs) = (node.latency_us(50.0), peer.latency_us(50.0));
            let verdict = if mine <= theirs { "met" } else { "**missed**" };
            Some(vec![
                one.side.name().to_owned(),
                mine.to_string(),
                theirs.to_string(),
                node.latency_us(99.0).to_string(),
                peer.latency_us(99.0).to_string(),
                verdict.to_owned(),
            ])
        })
        .collect();
    if !rows.is_empty() {
        report.heading("Latency at the low rate");
        report.table(
            &["peer", "node p50 us", "peer p50 us", "node p99 us", "peer p99 us", "p50 no worse"],
            rows,
        );
    }
}

fn of(series: &[Series], point: Point, side: Side) -> Option<&Measured> {
    series.iter().find(|one| one.point == point && one.side == side)?.median()
}

fn series_json(one: &Series) -> Value {
    let rounds: Vec<Value> = one
        .rounds
        .iter()
        .map(|round| {
            let total = &round.results.total;
            json!({
                "seconds": total.seconds,
                "updates": total.sent,
                "deliveries": round.received,
                "frames": total.frames_received,
                "server_seconds": round.cpu.as_secs_f64(),
                "p50_us": round.latency_us(50.0),
                "p99_us": round.latency_us(99.0),
                "generator_busy": round.generator_busy(),
                "verdict": round.results.verdict,
            })
        })
        .collect();
    json!({
        "load": one.point.load.name(),
        "members": one.point.members,
        "server": one.side.name(),
        "rounds": rounds,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peer_has_its_target_at_its_loads() {
        let at = |load, members| Point { load, members };
        assert_eq!(target(at(Load::InFlight(16), 1000), Side::Hocuspocus), Some(0.5));
        assert_eq!(target(at(Load::InFlight(16), 100), Side::Hocuspocus), Some(0.2));
        assert_eq!(target(at(Load::InFlight(1), 10), Side::YWebsocket), Some(0.2));
        assert_eq!(target(at(Load::Rate(20.0), 100), Side::YSweet), Some(0.5));
        assert_eq!(target(at(Load::Rate(20.0), 100), Side::Node), None);
    }
}
