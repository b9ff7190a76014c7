//! What the console costs: a node that it watches, and whoever runs it.
#![allow(clippy::print_stdout, reason = "a measuring command reports on stdout")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use pinwire_benches::beside::Beside;
use pinwire_benches::cluster::pause;
use pinwire_benches::console::{self, Console};
use pinwire_benches::counted::Counted;
use pinwire_benches::crowd::Crowd;
use pinwire_benches::fleet::on_last_processor;
use pinwire_benches::frames;
use pinwire_benches::made_up::{self, Size};
use pinwire_benches::node::{self, NodeArgs, NodeUnderTest};
use pinwire_benches::procfs::{cpu, process_time};
use pinwire_benches::report::{RESULTS, Report};
use pinwire_benches::sides::{node_args, on_first_processor};
use pinwire_benches::statistics::Spread;
use pinwire_benches::tokens::{Mint, uuid};
use pinwire_engine::allowed_cores;
use pinwire_loadgen::run::{Seat, run};
use pinwire_loadgen::scenario::presets::preset;
use pinwire_loadgen::scenario::{Arrivals, Auth, Dialect, Kind, Load, Scenario, StagePlan};
use pinwire_redis::rig::{Options, ServerRig};
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Until a console that was started has read what it reads once.
const SETTLE: Duration = Duration::from_secs(4);
/// What came last has this long to arrive everywhere.
const PATIENCE: Duration = Duration::from_secs(30);

/// Measures what the console costs a node, and whoever runs it
#[derive(Parser, Debug)]
#[command(name = "console")]
struct Args {
    #[command(subcommand)]
    role: Option<Role>,
    /// Connections that write, ten to a document
    #[arg(long, default_value_t = 1_000)]
    connections: u32,
    /// Edits a second
    #[arg(long, default_value_t = 500.0)]
    rate: f64,
    /// Pins of the node, a connection for each
    #[arg(long, default_value_t = 9_000)]
    pins: usize,
    /// Seconds of each window
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Windows with and without, in turn
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Made-up nodes, and pins, of the console's own cost
    #[arg(long, default_value_t = 100)]
    nodes: usize,
    /// Their pins
    #[arg(long, default_value_t = 100_000)]
    many_pins: u64,
    /// Percent of a core that the console may cost a node
    #[arg(long, default_value_t = 1.0)]
    bound: f64,
    /// Where the result goes
    #[arg(long, default_value = RESULTS)]
    out: PathBuf,
}

/// What this command is when it is not measuring.
#[derive(Debug, Subcommand)]
enum Role {
    /// Be the node under test.
    #[command(hide = true)]
    Node(NodeArgs),
    /// Be the console.
    #[command(hide = true)]
    Console {
        /// Its flags.
        #[arg(last = true)]
        flags: Vec<String>,
    },
}

/// What goes on at the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Idle,
    Writing,
    Pins,
}

impl Work {
    /// The views that are looked at meanwhile, with their keys.
    fn views(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Idle => &[("overview", "1"), ("logs", "9")],
            Self::Writing => &[("overview", "1"), ("connections", "6"), ("document", "5\r")],
            Self::Pins => &[("overview", "1"), ("pins", "4"), ("connections", "6")],
        }
    }
}

/// What was used up at a moment.
#[derive(Clone, Copy, Debug)]
struct Reading {
    at: Instant,
    process: Duration,
    admin: Duration,
    bytes: (u64, u64),
}

/// What was used up in a second.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    /// Percent of a core.
    process: f64,
    admin: f64,
    /// To the console.
    bytes: f64,
}

/// A view under some work: windows without the console, and with it.
#[derive(Debug)]
struct Cell {
    work: Work,
    view: &'static str,
    without: Vec<Used>,
    with: Vec<Used>,
}

impl Cell {
    fn of(windows: &[Used], pick: fn(&Used) -> f64) -> f64 {
        Spread::of(windows.iter().map(pick)).median
    }

    /// Percent of a core that the node uses more: of windows that stand beside each other.
    fn cost(&self) -> f64 {
        let pairs = self.without.iter().zip(&self.with);
        Spread::of(pairs.map(|(without, with)| with.process - without.process)).median
    }
}

/// The node and the way to it.
struct Rig {
    pid: u32,
    way: Counted,
    window: Duration,
    rounds: usize,
}

impl Rig {
    fn read(&self) -> Result<Reading> {
        let (admin, _) = cpu(self.pid, "admin")?;
        let (process, bytes) = (process_time(self.pid)?, self.way.bytes());
        Ok(Reading { at: Instant::now(), process, admin: admin.total, bytes })
    }

    fn window(&self) -> Result<Used> {
        let before = self.read()?;
        pause(self.window);
        let after = self.read()?;
        let seconds = (after.at - before.at).as_secs_f64();
        let percent =
            |after: Duration, before: Duration| after.saturating_sub(before).as_secs_f64() / seconds * 100.0;
        Ok(Used {
            process: percent(after.process, before.process),
            admin: percent(after.admin, before.admin),
            bytes: (after.bytes.1 - before.bytes.1) as f64 / seconds,
        })
    }

    fn measure(&self, work: Work) -> Result<Vec<Cell>> {
        work.views().iter().map(|(view, keys)| self.cell(work, view, keys)).collect()
    }

    fn cell(&self, work: Work, view: &'static str, keys: &str) -> Result<Cell> {
        let mut cell = Cell { work, view, without: Vec::new(), with: Vec::new() };
        for _ in 0..self.rounds {
            cell.without.push(self.window()?);
            let mut console = Console::start(&[format!("http://{}", self.way.address())], "none")?;
            pause(SETTLE / 2);
            for key in keys.chars() {
                console.press(&key.to_string())?;
                pause(SETTLE / 8);
            }
            pause(SETTLE / 2);
            cell.with.push(self.window()?);
            console.pid().context("the console ended while it was measured")?;
        }
        println!("{work:?}, {view}: {:.2} % of a core", cell.cost());
        Ok(cell)
    }
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    match &args.role {
        Some(Role::Node(node)) => return node::serve(node).map(|()| ExitCode::SUCCESS),
        Some(Role::Console { flags }) => return console::play(flags).map(|()| ExitCode::SUCCESS),
        None => {}
    }
    ensure!(args.rounds > 0 && args.seconds > 0, "nothing to measure");
    let mut report = Report::new("console", "What the console costs");
    let cells = of_a_node(&args)?;
    let size = Size { nodes: args.nodes, regions: 10, pins: args.many_pins };
    let own = of_itself(&args, size)?;
    let frames = frames::measure(size)?;
    write(&mut report, &args, &cells, &own, &frames);
    println!("\n{}", report.text());
    println!("written to {}", report.save(&args.out)?.display());
    let is_within = cells.iter().all(|cell| cell.cost() < args.bound);
    Ok(if is_within { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn of_a_node(args: &Args) -> Result<Vec<Cell>> {
    let folder = tempfile::tempdir()?;
    let mut cells = Vec::new();
    for work in [Work::Idle, Work::Writing, Work::Pins] {
        let redis = on_first_processor(|| Ok(ServerRig::start(&Options::default())))?;
        let (secret, socket) = (uuid(), folder.path().join(format!("{work:?}.sock")));
        let node = on_first_processor(|| start(&secret, &redis, &socket))?;
        let rig = Rig {
            pid: node.pid(),
            way: Counted::open(&socket)?,
            window: Duration::from_secs(args.seconds),
            rounds: args.rounds,
        };
        cells.extend(match work {
            Work::Idle => rig.measure(work)?,
            Work::Writing => beside_writers(args, &node, &secret, rig)?,
            Work::Pins => beside_pins(args, &node, &secret, rig)?,
        });
        node.stop()?;
    }
    Ok(cells)
}

fn start(secret: &str, redis: &ServerRig, socket: &Path) -> Result<NodeUnderTest> {
    NodeUnderTest::start(&NodeArgs {
        redis: Some(redis.url()),
        name: Some("node-1".to_owned()),
        admin_socket: Some(socket.to_owned()),
        ..node_args(secret)
    })
}

fn beside_writers(args: &Args, node: &NodeUnderTest, secret: &str, rig: Rig) -> Result<Vec<Cell>> {
    let scenario = writing(args, node, secret)?;
    let watched = Beside::until_done(move || rig.measure(Work::Writing));
    let results = run(&scenario, Seat::ALONE, &watched, &watched)?;
    let cells = watched.outcome()?;
    ensure!(results.correctness.faults() == 0, "edits were lost: {:?}", results.correctness);
    ensure!(results.connections.lost.is_empty(), "clients were disconnected: {:?}", results.connections.lost);
    Ok(cells)
}

fn writing(args: &Args, node: &NodeUnderTest, secret: &str) -> Result<Scenario> {
    const MEMBERS: u32 = 10;
    let mut scenario: Scenario = preset("document").context("the scenario `document`")?;
    scenario.kind = Kind::Document {
        documents: args.connections / MEMBERS,
        members: MEMBERS,
        writers: MEMBERS,
        edit_bytes: 1,
        awareness_rate: 0.0,
        awareness_bytes: 0,
    };
    // Ended by whoever watches, long before.
    let duration = Duration::from_secs(3_600);
    let stages = vec![StagePlan { name: None, from: args.rate, to: args.rate, duration }];
    scenario.load = Load::Open { stages, arrivals: Arrivals::Constant };
    scenario.target.urls = vec![format!("ws://{}", node.address())];
    scenario.target.auth = Auth::Secret(secret.to_owned());
    scenario.target.dialect = Dialect::YWebsocket;
    scenario.clients.timeout = PATIENCE;
    scenario.drain = PATIENCE;
    scenario.generator.threads = 1;
    scenario.generator.cores = vec![*allowed_cores()?.last().context("no processor")?];
    Ok(scenario)
}

fn beside_pins(args: &Args, node: &NodeUnderTest, secret: &str, rig: Rig) -> Result<Vec<Cell>> {
    let (mint, pins) = (Mint::new(secret)?, args.pins);
    on_last_processor(node.address(), async move |fleet| {
        let mut crowd = Crowd::new(fleet, mint, 1, 0);
        crowd.grow(pins).await?;
        let measuring = std::thread::spawn(move || rig.measure(Work::Pins));
        while !measuring.is_finished() {
            crowd.idle(Duration::from_secs(1)).await?;
        }
        let cells = measuring.join().map_err(|_| anyhow::anyhow!("the measuring thread panicked"))?;
        crowd.leave().await?;
        cells
    })
}

/// What the console uses itself.
#[derive(Debug)]
struct Own {
    view: &'static str,
    /// Percent of a core.
    cpu: f64,
    /// Bytes a second that it draws.
    drawn: f64,
}

fn of_itself(args: &Args, size: Size) -> Result<Vec<Own>> {
    let urls = made_up::start(size)?;
    let mut console = Console::start(&urls, "none")?;
    let pid = console.pid()?;
    pause(SETTLE);
    let mut all = Vec::new();
    for (view, key) in
        [("overview", "1"), ("nodes", "3"), ("pins", "4"), ("documents", "5"), ("cores", "t"), ("flow", "w")]
    {
        console.press(key)?;
        // The first sweep of all pins is read as fast as it comes.
        pause(if view == "pins" { SETTLE * 4 } else { SETTLE / 2 });
        let (before, drawn, began) = (process_time(pid)?, console.drawn(), Instant::now());
        pause(Duration::from_secs(args.seconds));
        let seconds = began.elapsed().as_secs_f64();
        let cpu = process_time(pid)?.saturating_sub(before).as_secs_f64() / seconds * 100.0;
        println!("the console itself, {view}: {cpu:.1} % of a core");
        all.push(Own { view, cpu, drawn: (console.drawn() - drawn) as f64 / seconds });
    }
    Ok(all)
}

fn write(report: &mut Report, args: &Args, cells: &[Cell], own: &[Own], frames: &[frames::Took]) {
    report.paragraph(&format!(
        "A node with one data thread and a Redis for its pins and sessions on the first processor: idle; with {} connections in documents of \
         ten that write {} edits a second in all; and with {} pins, a connection for each. A console, a process of its own on a \
         pseudo-terminal of 160x50, is attached or not, for {} s each, {} times in turn. Bytes are counted on the way between them.",
        args.connections, args.rate, args.pins, args.seconds, args.rounds
    ));
    report.heading("A node that is watched");
    let kib = |bytes: f64| format!("{:.1} KiB", bytes / 1024.0);
    report.table(
        &[
            "work",
            "view",
            "node without, % of a core",
            "node with",
            "more: the cost",
            "admin thread with",
            "to the console in a second",
        ],
        cells.iter().map(|cell| {
            vec![
                format!("{:?}", cell.work).to_lowercase(),
                cell.view.to_owned(),
                format!("{:.2}", Cell::of(&cell.without, |used| used.process)),
                format!("{:.2}", Cell::of(&cell.with, |used| used.process)),
                format!("**{:.2}**", cell.cost()),
                format!("{:.2}", Cell::of(&cell.with, |used| used.admin)),
                kib(Cell::of(&cell.with, |used| used.bytes)),
            ]
        }),
    );
    report.heading("The console itself");
    report.paragraph(&format!(
        "At {} made-up nodes of four threads and 20 documents each in ten regions, on real sockets, each of which tells everything anew each \
         second, with {} pins.",
        args.nodes, args.many_pins
    ));
    report.table(
        &["view", "% of a core", "drawn in a second"],
        own.iter().map(|own| vec![own.view.to_owned(), format!("{:.1}", own.cpu), kib(own.drawn)]),
    );
    report.heading("Pictures");
    report.paragraph(&format!(
        "The same cluster in memory, into a screen in memory, {} rounds each. The worst of a list is the round that puts it in order.",
        frames::ROUNDS
    ));
    let millis = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1000.0);
    report.table(
        &["what", "mean", "worst"],
        frames.iter().map(|took| vec![took.what.clone(), millis(took.mean), millis(took.worst)]),
    );
    let windows = |windows: &[Used]| -> Vec<Value> {
        windows
            .iter()
            .map(|used| json!({ "process": used.process, "admin": used.admin, "bytes": used.bytes }))
            .collect()
    };
    let raw = |cell: &Cell| {
        json!({
            "work": format!("{:?}", cell.work),
            "view": cell.view,
            "without": windows(&cell.without),
            "with": windows(&cell.with),
        })
    };
    report.raw(&json!({
        "node": cells.iter().map(raw).collect::<Vec<_>>(),
        "console": own.iter().map(|own| json!({ "view": own.view, "cpu": own.cpu, "drawn": own.drawn })).collect::<Vec<_>>(),
    }));
}
