//! Whether two data threads carry twice as much as one, and whether a message costs the same with many connections as with few.
#![allow(clippy::print_stdout, reason = "a measuring command reports on stdout")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use pinwire_benches::child::Child;
use pinwire_benches::node::{NodeArgs, NodeUnderTest};
use pinwire_benches::report::{RESULTS, Report};
use pinwire_benches::roles::{Role, Server};
use pinwire_benches::sides::node_args;
use pinwire_benches::statistics::{Spread, order, paired};
use pinwire_benches::tokens::uuid;
use pinwire_benches::windows::{Pace, Times, Topology, Window, Work, window};
use pinwire_engine::allowed_cores;
use pinwire_node::cli::DriverArg;
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Members of a document, of whom one writes.
const MEMBERS: u32 = 10;
/// Bytes of an echoed message.
const BYTES: u32 = 20;

/// Measures how the cost of a message goes with threads and connections
#[derive(Parser, Debug)]
#[command(name = "scale")]
struct Args {
    #[command(subcommand)]
    role: Option<Role>,
    /// Which parts
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["threads", "echo", "documents"])]
    parts: Vec<Part>,
    /// Data threads, the first being what the others are held against
    #[arg(long, value_delimiter = ',', default_values = ["1", "2"])]
    threads: Vec<usize>,
    /// Connections of the first part
    #[arg(long, default_value_t = 1000)]
    connections: u32,
    /// Connections of the other parts, the first being what the others are held against
    #[arg(long, value_delimiter = ',', default_values = ["1000", "4000", "9000", "18000"])]
    growing: Vec<u32>,
    /// Planned deliveries a second in the first part; there is a closed load besides
    #[arg(long, default_value_t = 40_000.0)]
    deliveries: f64,
    /// Planned deliveries a second in the other parts, in all, however many the connections
    #[arg(long, default_value_t = 40_000.0)]
    growing_deliveries: f64,
    /// How the servers talk to the kernel
    #[arg(long, value_enum, default_value_t = DriverArg::Uring)]
    driver: DriverArg,
    /// Rounds: each side has a window in each
    #[arg(long, default_value_t = 8)]
    rounds: usize,
    /// Seconds of a window
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Where the result goes
    #[arg(long, default_value = RESULTS)]
    out: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// One data thread and more.
    Threads,
    /// Echo over more and more connections.
    Echo,
    /// Documents of 10 over more and more connections.
    Documents,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    if let Some(role) = &args.role {
        role.play()?;
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(!args.threads.is_empty() && !args.growing.is_empty(), "nothing to compare");
    let mut report = Report::new("scale", "Cost of a message by threads and by connections");
    let cores = allowed_cores()?.len();
    report.paragraph(&format!(
        "{} rounds, in each a window of {} s for each side, in changing order; medians, in parentheses the middle half; ratios \
         round by round against the first side. CPU is that of all the server's threads. pinwire-loadgen has one thread, bound \
         to the last of {cores} cores. Deliveries are checked, each.",
        args.rounds, args.seconds
    ));
    let mut raw = Vec::new();
    if args.parts.contains(&Part::Threads) {
        raw.push(by_threads(&args, &mut report, cores)?);
    }
    if args.parts.contains(&Part::Echo) {
        raw.push(by_connections(&args, &mut report, Part::Echo)?);
    }
    if args.parts.contains(&Part::Documents) {
        raw.push(by_connections(&args, &mut report, Part::Documents)?);
    }
    report.raw(&json!(raw));
    println!("\n{}", report.text());
    println!("written to {}", report.save(&args.out)?.display());
    Ok(ExitCode::SUCCESS)
}

/// One side of a comparison: its name, its server, and what it is asked to do.
struct Side {
    name: String,
    server: Child,
    work: Work,
}

/// Windows of each side, round by round.
fn rounds(args: &Args, sides: &[Side], pace: impl Fn(&Side) -> Pace) -> Result<Vec<Vec<Window>>> {
    let times = Times { warm_up: Duration::from_secs(1), time: Duration::from_secs(args.seconds) };
    let mut windows = vec![Vec::new(); sides.len()];
    for round in 0..args.rounds {
        for at in order(sides.len(), round) {
            let side = &sides[at];
            let server = (side.server.address(), side.server.pid());
            let found = window(server, &side.work, pace(side), times).with_context(|| side.name.clone())?;
            println!(
                "{}, {}: {:.0} deliveries/s, {:.2} us each",
                side.name,
                pace(side).name(),
                found.deliveries,
                found.us_per_delivery()
            );
            windows[at].push(found);
        }
    }
    Ok(windows)
}

/// A node that may use all processors.
fn node(args: &Args, threads: usize, secret: &str) -> Result<Child> {
    let args = NodeArgs { threads, driver: args.driver, ..node_args(secret) };
    Ok(NodeUnderTest::start(&args)?.into_child())
}

fn documents(connections: u32, secret: &str) -> Work {
    let topology = Topology { groups: connections / MEMBERS, members: MEMBERS, writers: 1 };
    Work::Documents { topology, secret: secret.to_owned() }
}

fn by_threads(args: &Args, report: &mut Report, cores: usize) -> Result<Value> {
    let secret = uuid();
    let mut sides = Vec::new();
    for threads in &args.threads {
        sides.push(Side {
            name: format!("{threads} data thread(s)"),
            server: node(args, *threads, &secret)?,
            work: documents(args.connections, &secret),
        });
    }
    let rate = Pace::Rate(args.deliveries / f64::from(MEMBERS - 1));
    let open = rounds(args, &sides, |_| rate)?;
    let closed = rounds(args, &sides, |_| Pace::InFlight(1))?;
    report.heading("Data threads");
    report.paragraph(&format!(
        "Documents of {MEMBERS}, one of whom writes, over {} connections. Capacity is the inverse of what a delivery costs: N threads \
         on N cores of their own carry N times the ratio of the costs at the same load, which is the last column. Where the generator \
         shares a core with a data thread, as with {} data threads on {cores} cores here, the greatest throughput is that of the \
         machine with the generator on it, and tells nothing of the node's alone.",
        args.connections,
        args.threads.iter().max().unwrap_or(&1),
    ));
    for (load, windows) in [(rate.name(), &open), ("1 in flight".to_owned(), &closed)] {
        let first: Vec<f64> = windows[0].iter().map(Window::us_per_delivery).collect();
        let rows = sides.iter().zip(windows).zip(&args.threads).map(|((side, windows), threads)| {
            let costs: Vec<f64> = windows.iter().map(Window::us_per_delivery).collect();
            let capacity = *threads as f64 / args.threads[0] as f64 * paired(&first, &costs).median;
            let mut row = row(&side.name, &load, windows, &first);
            row.push(format!("**{capacity:.2}**"));
            row
        });
        report.table(&[&HEAD[..], &["capacity, times the first"]].concat(), rows);
    }
    let raw =
        json!({ "part": "threads", "open": to_json(&sides, &open), "closed": to_json(&sides, &closed) });
    stop(sides)?;
    Ok(raw)
}

fn by_connections(args: &Args, report: &mut Report, part: Part) -> Result<Value> {
    let secret = uuid();
    let driver = if args.driver == DriverArg::Epoll { Server::PinwireEpoll } else { Server::PinwireUring };
    let mut sides = Vec::new();
    for &connections in &args.growing {
        let (server, work) = match part {
            Part::Echo => (driver.start()?, Work::Echo { connections, bytes: BYTES }),
            _ => (node(args, 1, &secret)?, documents(connections, &secret)),
        };
        sides.push(Side { name: format!("{connections} connections"), server, work });
    }
    let sends = match part {
        Part::Echo => args.growing_deliveries,
        _ => args.growing_deliveries / f64::from(MEMBERS - 1),
    };
    let windows = rounds(args, &sides, |_| Pace::Rate(sends))?;
    let (heading, text) = match part {
        Part::Echo => {
            ("Connections: echo", format!("Messages of {BYTES} bytes, sent back by the bench server."))
        }
        _ => (
            "Connections: documents",
            format!("Documents of {MEMBERS}, one of whom writes, on one data thread."),
        ),
    };
    report.heading(heading);
    report.paragraph(&format!("{text} The same messages a second in all, over more and more connections."));
    let first: Vec<f64> = windows[0].iter().map(Window::us_per_delivery).collect();
    let rows = sides
        .iter()
        .zip(&windows)
        .map(|(side, windows)| row(&side.name, &Pace::Rate(sends).name(), windows, &first));
    report.table(&HEAD, rows);
    let raw = json!({ "part": format!("{part:?}").to_lowercase(), "open": to_json(&sides, &windows) });
    stop(sides)?;
    Ok(raw)
}

const HEAD: [&str; 9] = [
    "side",
    "load",
    "CPU us per delivery",
    "ratio to the first",
    "deliveries/s",
    "p50 / p99 us",
    "server, cores",
    "generator busy",
    "windows with doubts",
];

fn row(name: &str, load: &str, windows: &[Window], first: &[f64]) -> Vec<String> {
    let costs: Vec<f64> = windows.iter().map(Window::us_per_delivery).collect();
    let median = |of: &dyn Fn(&Window) -> f64| Spread::of(windows.iter().map(of)).median;
    vec![
        name.to_owned(),
        load.to_owned(),
        Spread::of(costs.iter().copied()).text(2),
        paired(&costs, first).text(3),
        format!("{:.0}", median(&|window| window.deliveries)),
        format!("{:.0} / {:.0}", median(&|window| window.latency[0]), median(&|window| window.latency[1])),
        format!("{:.2}", median(&|window| window.server)),
        format!("{:.0} %", 100.0 * median(&|window| window.generator)),
        windows.iter().filter(|window| !window.doubts.is_empty()).count().to_string(),
    ]
}

fn to_json(sides: &[Side], windows: &[Vec<Window>]) -> Value {
    let sides = sides.iter().zip(windows).map(|(side, windows)| {
        json!({ "side": side.name, "windows": windows.iter().map(Window::to_json).collect::<Vec<_>>() })
    });
    json!(sides.collect::<Vec<_>>())
}

fn stop(sides: Vec<Side>) -> Result<()> {
    sides.into_iter().try_for_each(|side| side.server.stop())
}
