//! Whether a node gives back what connections cost: all come and go, again and again.
#![allow(clippy::print_stdout, reason = "a measuring command reports on stdout")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use pinwire_benches::crowd::{Crowd, SOURCES};
use pinwire_benches::fleet::on_last_processor;
use pinwire_benches::node::{self, NodeArgs, NodeUnderTest, Role};
use pinwire_benches::procfs::{Memory, descriptors};
use pinwire_benches::report::{RESULTS, Report};
use pinwire_benches::tokens::{Mint, uuid};
use pinwire_node::cli::DriverArg;
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures what a node keeps when all connections come and go, again and again
#[derive(Parser, Debug)]
#[command(name = "cycles")]
struct Args {
    #[command(subcommand)]
    role: Option<Role>,
    /// Connections of each cycle
    #[arg(long, default_value_t = 9_000)]
    connections: usize,
    /// Members of each document; the documents of each cycle are new
    #[arg(long, default_value_t = 10)]
    members: usize,
    /// Cycles after the first, which warms the node up
    #[arg(long, default_value_t = 20)]
    cycles: usize,
    /// Bytes of awareness state of each client
    #[arg(long, default_value_t = 60)]
    presence: usize,
    /// Seconds that all stay
    #[arg(long, default_value_t = 1)]
    stay: u64,
    /// Seconds before the last readings: longer than documents and their awareness outlive their members
    #[arg(long, default_value_t = 75)]
    settle: u64,
    /// By how many percent the end may lie above the end of the first cycle
    #[arg(long, default_value_t = 10.0)]
    bound: f64,
    /// How the node talks to the kernel: one run for each
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["uring"])]
    driver: Vec<DriverArg>,
    /// Where the result goes
    #[arg(long, default_value = RESULTS)]
    out: PathBuf,
}

/// The node at one moment.
#[derive(Clone, Debug)]
struct Reading {
    moment: String,
    memory: Memory,
    descriptors: usize,
}

/// One driver.
struct Run {
    driver: DriverArg,
    /// Before any connection, after the first cycle, after each, at the end.
    readings: Vec<Reading>,
}

const START: &str = "start";
const WARM: &str = "warm, settled";
const END: &str = "end, settled";

impl Run {
    fn reading(&self, moment: &str) -> Option<&Reading> {
        self.readings.iter().find(|reading| reading.moment == moment)
    }

    /// Percent by which anonymous and resident memory at the end lie above those at a moment.
    fn growth(&self, since: &str) -> Option<(f64, f64)> {
        let (before, after) = (self.reading(since)?.memory, self.reading(END)?.memory);
        let percent = |before: u64, after: u64| 100.0 * (after as f64 - before as f64) / before as f64;
        Some((percent(before.anonymous, after.anonymous), percent(before.rss, after.rss)))
    }

    /// Nothing stays: neither memory nor descriptors.
    fn is_within(&self, bound: f64) -> bool {
        let (Some(warm), Some(end), Some((anonymous, resident))) =
            (self.reading(WARM), self.reading(END), self.growth(WARM))
        else {
            return false;
        };
        anonymous <= bound && resident <= bound && end.descriptors <= warm.descriptors
    }
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    if let Some(Role::Node(node)) = &args.role {
        node::serve(node)?;
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(args.connections > 0 && args.members > 0 && args.cycles > 0, "nothing to measure");
    let title = format!("{} cycles of {} connections", args.cycles, args.connections);
    let mut report = Report::new("cycles", &title);
    let runs = args.driver.iter().map(|driver| measure(&args, *driver)).collect::<Result<Vec<Run>>>()?;
    write_report(&mut report, &args, &runs);
    println!("\n{}", report.text());
    println!("written to {}", report.save(&args.out)?.display());
    let is_within = runs.iter().all(|run| run.is_within(args.bound));
    Ok(if is_within { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn measure(args: &Args, driver: DriverArg) -> Result<Run> {
    let secret = uuid();
    // Twice what an address needs in a minute, were all cycles in one.
    let per_address = args.connections.div_ceil(SOURCES) * (args.cycles + 1);
    let connects_per_minute = u32::try_from(2 * per_address)?.max(60);
    let node = NodeUnderTest::start(&NodeArgs {
        threads: 1,
        driver,
        secret: secret.clone(),
        public_key: None,
        connects_per_minute,
        ..NodeArgs::default()
    })?;
    let (pid, mint) = (node.pid(), Mint::new(&secret)?);
    let (connections, members, presence, cycles) =
        (args.connections, args.members, args.presence, args.cycles);
    let (stay, settle) = (Duration::from_secs(args.stay), Duration::from_secs(args.settle));
    let readings = on_last_processor(node.address(), async move |fleet| {
        let mut crowd = Crowd::new(fleet, mint, members, presence);
        let mut readings = Vec::new();
        let mut read = |moment: &str| -> Result<()> {
            let reading = Reading {
                moment: moment.to_owned(),
                memory: Memory::of(pid)?,
                descriptors: descriptors(pid)?,
            };
            println!(
                "{driver:?}, {moment}: {} kB anonymous, {} kB resident, {} descriptors",
                reading.memory.anonymous / 1024,
                reading.memory.rss / 1024,
                reading.descriptors
            );
            readings.push(reading);
            Ok(())
        };
        crowd.idle(Duration::from_secs(3)).await?;
        read(START)?;
        for cycle in 0..=cycles {
            crowd.grow(connections).await?;
            crowd.idle(stay).await?;
            if cycle == 0 {
                read("warm, all connected")?;
            }
            crowd.leave().await?;
            crowd.idle(Duration::from_secs(1)).await?;
            if cycle == 0 {
                crowd.idle(settle).await?;
                read(WARM)?;
            } else {
                read(&cycle.to_string())?;
            }
        }
        crowd.idle(settle).await?;
        read(END)?;
        Ok(readings)
    })?;
    node.stop()?;
    Ok(Run { driver, readings })
}

fn write_report(report: &mut Report, args: &Args, runs: &[Run]) {
    report.paragraph(&format!(
        "In each cycle {} y-websocket clients connect, each with a token of its own, in new documents of {}, announce {} \
         bytes of awareness state, stay {} s and close. The node is read 1 s after the last end of each cycle, when \
         documents still have their grace; after the first cycle and after the last one it is read {} s later. The end \
         may lie {} % above the end of the first cycle, in anonymous and in resident memory, and have no descriptor more.",
        args.connections, args.members, args.presence, args.stay, args.settle, args.bound
    ));
    report.table(
        &["driver", "end by first cycle, anonymous", "resident", "end by start, anonymous", "resident", ""],
        runs.iter().filter_map(|run| {
            let (warm, start) = (run.growth(WARM)?, run.growth(START)?);
            Some(vec![
                format!("{:?}", run.driver).to_lowercase(),
                format!("**{:+.1} %**", warm.0),
                format!("**{:+.1} %**", warm.1),
                format!("{:+.1} %", start.0),
                format!("{:+.1} %", start.1),
                if run.is_within(args.bound) { "within" } else { "**too much is kept**" }.to_owned(),
            ])
        }),
    );
    report.table(
        &["driver", "after cycle", "anonymous kB", "resident kB", "of that lazily free kB", "descriptors"],
        runs.iter().flat_map(|run| {
            run.readings.iter().map(|reading| {
                vec![
                    format!("{:?}", run.driver).to_lowercase(),
                    reading.moment.clone(),
                    (reading.memory.anonymous / 1024).to_string(),
                    (reading.memory.rss / 1024).to_string(),
                    (reading.memory.lazy_free / 1024).to_string(),
                    reading.descriptors.to_string(),
                ]
            })
        }),
    );
    report.raw(&json!(runs.iter().map(run_json).collect::<Vec<_>>()));
}

fn run_json(run: &Run) -> Value {
    let readings: Vec<Value> = run
        .readings
        .iter()
        .map(|reading| {
            json!({
                "moment": reading.moment,
                "memory": reading.memory.to_json(),
                "descriptors": reading.descriptors,
            })
        })
        .collect();
    json!({ "driver": format!("{:?}", run.driver).to_lowercase(), "readings": readings })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(warm: (u64, usize), end: (u64, usize)) -> Run {
        let reading = |moment: &str, (bytes, descriptors): (u64, usize)| Reading {
            moment: moment.to_owned(),
            memory: Memory { anonymous: bytes, rss: 2 * bytes, ..Memory::default() },
            descriptors,
        };
        let readings = vec![reading(START, (1, 10)), reading(WARM, warm), reading(END, end)];
        Run { driver: DriverArg::Auto, readings }
    }

    #[test]
    fn a_tenth_more_is_within_the_bound_and_a_descriptor_more_is_not() {
        assert!(run((1000, 10), (1100, 10)).is_within(10.0));
        assert!(run((1000, 10), (500, 9)).is_within(10.0));
        assert!(!run((1000, 10), (1101, 10)).is_within(10.0));
        assert!(!run((1000, 10), (1000, 11)).is_within(10.0));
    }
}
