//! What relaying an edit costs: one document, edits of about 21 bytes, processor time of the node per delivery.
//!
//! A delivery is one edit at one member other than its writer. Every member is held to get every edit exactly once and
//! in order.
#![allow(clippy::print_stdout, reason = "a measuring command reports on stdout")]

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use pinwire_benches::fleet::{Dial, Fleet, on_last_processor};
use pinwire_benches::ledger::Ledger;
use pinwire_benches::node::{self, NodeArgs, NodeUnderTest, Role};
use pinwire_benches::procfs::{self, Cpu};
use pinwire_benches::report::{RESULTS, Report};
use pinwire_benches::tokens::{Mint, uuid};
use pinwire_loadgen::scenario::Dialect;
use pinwire_node::cli::DriverArg;
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Loopback addresses that the clients come from.
const SOURCES: usize = 50;
/// Before the first window of each load.
const WARM_UP: Duration = Duration::from_secs(1);
/// Longest time without progress.
const PATIENCE: Duration = Duration::from_secs(30);

/// Measures what relaying edits to the members of one document costs
#[derive(Parser, Debug)]
#[command(name = "relay")]
struct Args {
    #[command(subcommand)]
    role: Option<Role>,
    /// Members of the document, writers included
    #[arg(long, value_delimiter = ',', default_values = ["100"])]
    members: Vec<usize>,
    /// Members that write
    #[arg(long, default_value_t = 1)]
    writers: usize,
    /// Edits a second of each writer, each as a load of its own
    #[arg(long, value_delimiter = ',', default_values = ["20", "1000"])]
    rate: Vec<u32>,
    /// Unthrottled loads: edits of each writer that not everybody has yet
    #[arg(long, value_delimiter = ',', default_values = ["1", "16"])]
    in_flight: Vec<u32>,
    /// How the node talks to the kernel
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["uring", "epoll"])]
    driver: Vec<DriverArg>,
    /// Seconds of one window
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Windows of each load
    #[arg(long, default_value_t = 3)]
    windows: usize,
    /// Where the result goes
    #[arg(long, default_value = RESULTS)]
    out: PathBuf,
}

/// How fast a writer writes.
#[derive(Clone, Copy, Debug)]
enum Load {
    /// Edits a second.
    Rate(u32),
    /// As fast as they arrive, so many at a time.
    InFlight(u32),
}

impl Load {
    fn name(self) -> String {
        match self {
            Self::Rate(rate) => format!("{rate}/s"),
            Self::InFlight(window) => format!("{window} in flight"),
        }
    }
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    if let Some(Role::Node(node)) = &args.role {
        node::serve(node)?;
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(args.windows > 0 && args.seconds > 0 && args.writers > 0, "nothing to measure");
    ensure!(args.members.iter().all(|members| *members > args.writers), "every member would write");
    let mut report =
        Report::new("relay", &format!("Relaying edits of {} writer(s) in one document", args.writers));
    let mut results = Vec::new();
    for driver in &args.driver {
        for members in &args.members {
            results.extend(measure(&args, *driver, *members)?);
        }
    }
    write_report(&mut report, &args, &results);
    println!("\n{}", report.text());
    println!("written to {}", report.save(&args.out)?.display());
    Ok(ExitCode::SUCCESS)
}

/// One window of one load.
#[derive(Clone, Debug)]
struct Window {
    time: Duration,
    edits: u64,
    deliveries: u64,
    frames: u64,
    /// Of the node's data threads, of all its threads, of the clients.
    data: Cpu,
    node: Cpu,
    clients: Cpu,
    /// From sending to delivery: median and 99th percentile.
    p50: Duration,
    p99: Duration,
}

impl Window {
    fn us_per_delivery(&self) -> f64 {
        self.data.total.as_secs_f64() * 1e6 / self.deliveries as f64
    }
}

/// One driver, size and load.
struct Outcome {
    driver: DriverArg,
    members: usize,
    load: Load,
    windows: Vec<Window>,
}

impl Outcome {
    /// The window whose processor time per delivery is the median.
    fn median(&self) -> &Window {
        let mut order: Vec<&Window> = self.windows.iter().collect();
        order.sort_by(|a, b| a.us_per_delivery().total_cmp(&b.us_per_delivery()));
        order[order.len() / 2]
    }
}

fn measure(args: &Args, driver: DriverArg, members: usize) -> Result<Vec<Outcome>> {
    let loads: Vec<Load> = args
        .rate
        .iter()
        .map(|rate| Load::Rate(*rate))
        .chain(args.in_flight.iter().map(|window| Load::InFlight(*window)))
        .collect();
    let secret = uuid();
    let per_address = members.div_ceil(SOURCES) * loads.len();
    let connects_per_minute = u32::try_from(2 * per_address)?.max(60);
    let node = NodeUnderTest::start(&NodeArgs {
        threads: 1,
        driver,
        secret: secret.clone(),
        public_key: None,
        connects_per_minute,
    })?;
    let mint = Mint::new(&secret)?;
    let mut outcomes = Vec::new();
    for load in loads {
        let session = Session { pid: node.pid(), members, writers: args.writers, load };
        let (count, seconds, mint) = (args.windows, Duration::from_secs(args.seconds), &mint);
        let windows = on_last_processor(node.address(), async move |fleet| {
            session.measure(fleet, mint, count, seconds).await
        })?;
        let outcome = Outcome { driver, members, load, windows };
        let median = outcome.median();
        println!(
            "{driver:?}, {members} members, {}: {:.0} deliveries/s, {:.2} us each",
            load.name(),
            median.deliveries as f64 / median.time.as_secs_f64(),
            median.us_per_delivery()
        );
        outcomes.push(outcome);
    }
    node.stop()?;
    Ok(outcomes)
}

/// A document, its members, and a load.
#[derive(Clone, Copy)]
struct Session {
    pid: u32,
    members: usize,
    writers: usize,
    load: Load,
}

impl Session {
    async fn measure(
        self,
        mut fleet: Fleet,
        mint: &Mint,
        count: usize,
        time: Duration,
    ) -> Result<Vec<Window>> {
        let mut ledger = Ledger::new(self.members, self.writers);
        self.join(&mut fleet, &mut ledger, mint).await?;
        let mut pace = Pace { load: self.load, since: Instant::now(), written: 0, rounds: 0 };
        self.run(&mut fleet, &mut ledger, &mut pace, WARM_UP).await?;
        let mut windows = Vec::new();
        for _ in 0..count {
            windows.push(self.window(&mut fleet, &mut ledger, &mut pace, time).await?);
        }
        // Whatever is lacking now is lacking for good.
        let deadline = Instant::now() + PATIENCE;
        while !ledger.is_settled() {
            ensure!(Instant::now() < deadline, "edits were lost");
            fleet.turn(deadline, &mut ledger).await?;
        }
        fleet.close_all()?;
        while fleet.counts().closed < self.members {
            ensure!(Instant::now() < deadline, "connections do not end");
            fleet.turn(deadline, &mut ledger).await?;
        }
        Ok(windows)
    }

    async fn join(&self, fleet: &mut Fleet, ledger: &mut Ledger, mint: &Mint) -> Result<()> {
        let document = format!("relay-{}", uuid());
        for number in 0..self.members {
            let source = Ipv4Addr::new(127, 0, 0, u8::try_from(1 + number % SOURCES)?);
            let token = mint.token()?;
            fleet.dial(Dial {
                source,
                path: "",
                document: &document,
                token: Some(&token),
                dialect: Dialect::YWebsocket,
                presence: None,
            })?;
        }
        let deadline = Instant::now() + PATIENCE;
        while fleet.counts().synced < self.members {
            ensure!(Instant::now() < deadline, "members do not get in sync");
            fleet.turn(deadline, ledger).await?;
        }
        Ok(())
    }

    async fn window(
        &self,
        fleet: &mut Fleet,
        ledger: &mut Ledger,
        pace: &mut Pace,
        time: Duration,
    ) -> Result<Window> {
        ledger.take_times();
        let read =
            || -> Result<_> { Ok((procfs::cpu(self.pid, "data-")?, procfs::cpu(std::process::id(), "")?.1)) };
        let (started, written, counts, before) = (Instant::now(), pace.written, ledger.counts(), read()?);
        self.run(fleet, ledger, pace, time).await?;
        let (elapsed, after, counts_after) = (started.elapsed(), read()?, ledger.counts());
        let times = ledger.take_times();
        let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or_default();
        Ok(Window {
            time: elapsed,
            edits: pace.written - written,
            deliveries: counts_after.0 - counts.0,
            frames: counts_after.1 - counts.1,
            data: after.0.0.since(before.0.0),
            node: after.0.1.since(before.0.1),
            clients: after.1.since(before.1),
            p50: at(0.5),
            p99: at(0.99),
        })
    }

    async fn run(
        &self,
        fleet: &mut Fleet,
        ledger: &mut Ledger,
        pace: &mut Pace,
        time: Duration,
    ) -> Result<()> {
        let end = Instant::now() + time;
        let mut update = Vec::with_capacity(32);
        while Instant::now() < end {
            let round = pace.take_round();
            for writer in 0..self.writers {
                for _ in 0..pace.due(round, ledger.in_flight(writer)) {
                    update.clear();
                    ledger.write(writer, &mut update);
                    fleet.edit(writer, &update)?;
                    pace.written += 1;
                }
            }
            let next = pace.next_round();
            fleet.turn(end.min(next.unwrap_or(end)), ledger).await?;
        }
        Ok(())
    }
}

/// When edits are due.
struct Pace {
    load: Load,
    since: Instant,
    /// Edits of all writers.
    written: u64,
    /// For loads of a rate: edits that each writer was told to write.
    rounds: u64,
}

impl Pace {
    /// Edits that the clock asks of each writer since the last call.
    fn take_round(&mut self) -> u64 {
        let Load::Rate(rate) = self.load else { return 0 };
        let until_now = (self.since.elapsed().as_secs_f64() * f64::from(rate)) as u64;
        let round = until_now.saturating_sub(self.rounds);
        self.rounds += round;
        round
    }

    /// Edits that a writer with `in_flight` edits under way writes now.
    fn due(&self, round: u64, in_flight: u32) -> u64 {
        match self.load {
            Load::Rate(_) => round,
            Load::InFlight(window) => window.saturating_sub(in_flight).into(),
        }
    }

    /// When the clock asks for the next.
    fn next_round(&self) -> Option<Instant> {
        let Load::Rate(rate) = self.load else { return None };
        Some(self.since + Duration::from_secs_f64((self.rounds + 1) as f64 / f64::from(rate)))
    }
}

fn write_report(report: &mut Report, args: &Args, outcomes: &[Outcome]) {
    report.paragraph(&format!(
        "Updates of about 21 bytes, y-websocket dialect, one data thread; the median of {} windows of {} s. A delivery is one \
         edit at one member other than its writer; every member got every edit exactly once and in order, or the run would \
         have failed. CPU is that of the data thread, the kernel's work on its behalf included.",
        args.windows, args.seconds
    ));
    let head = [
        "driver",
        "members",
        "load",
        "deliveries/s",
        "CPU us per delivery",
        "user us",
        "kernel us",
        "user share",
        "CPU us per frame",
        "edits per frame",
        "thread busy",
        "other threads, us per delivery",
        "clients busy",
        "p50 / p99 us",
    ];
    report.table(&head, outcomes.iter().map(row));
    report.raw(&json!(outcomes.iter().map(outcome_json).collect::<Vec<_>>()));
}

fn row(outcome: &Outcome) -> Vec<String> {
    let window = outcome.median();
    let seconds = window.time.as_secs_f64();
    let each = window.us_per_delivery();
    let frames = window.frames as f64;
    // The split is counted in clock ticks: over all windows there are more of them.
    let user = user_share(outcome);
    let others = window.node.total.saturating_sub(window.data.total);
    let percent = |share: f64| format!("{:.0} %", 100.0 * share);
    vec![
        format!("{:?}", outcome.driver).to_lowercase(),
        outcome.members.to_string(),
        outcome.load.name(),
        format!("{:.0}", window.deliveries as f64 / seconds),
        format!("**{each:.2}**"),
        user.map_or_else(String::new, |user| format!("{:.2}", each * user)),
        user.map_or_else(String::new, |user| format!("{:.2}", each * (1.0 - user))),
        user.map_or_else(String::new, percent),
        format!("{:.2}", window.data.total.as_secs_f64() * 1e6 / frames),
        format!("{:.2}", window.deliveries as f64 / frames),
        percent(window.data.total.as_secs_f64() / seconds),
        format!("{:.3}", others.as_secs_f64() * 1e6 / window.deliveries as f64),
        percent(window.clients.total.as_secs_f64() / seconds),
        format!("{} / {}", window.p50.as_micros(), window.p99.as_micros()),
    ]
}

/// Share of user space in the data thread's time over all windows.
fn user_share(outcome: &Outcome) -> Option<f64> {
    outcome.windows.iter().map(|window| window.data).reduce(Cpu::plus)?.user_share()
}

fn outcome_json(outcome: &Outcome) -> Value {
    let windows: Vec<Value> = outcome
        .windows
        .iter()
        .map(|window| {
            json!({
                "seconds": window.time.as_secs_f64(),
                "edits": window.edits,
                "deliveries": window.deliveries,
                "frames": window.frames,
                "data_thread_seconds": window.data.total.as_secs_f64(),
                "data_thread_user_share": window.data.user_share(),
                "node_seconds": window.node.total.as_secs_f64(),
                "clients_seconds": window.clients.total.as_secs_f64(),
                "p50_us": window.p50.as_micros() as u64,
                "p99_us": window.p99.as_micros() as u64,
            })
        })
        .collect();
    json!({
        "driver": format!("{:?}", outcome.driver).to_lowercase(),
        "members": outcome.members,
        "load": outcome.load.name(),
        "user_share": user_share(outcome),
        "windows": windows,
    })
}
