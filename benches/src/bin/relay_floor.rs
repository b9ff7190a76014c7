//! What relaying an edit costs beside bare broadcast: the node with documents, and the floors with topics of the same size.
#![allow(clippy::print_stdout, reason = "a measuring command reports on stdout")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, ValueEnum};
use pinwire_benches::child::Child;
use pinwire_benches::node::{NodeArgs, NodeUnderTest};
use pinwire_benches::report::{RESULTS, Report};
use pinwire_benches::roles::{Role, Server};
use pinwire_benches::sides::{node_args, on_first_processor};
use pinwire_benches::statistics::{Spread, order, paired};
use pinwire_benches::tokens::uuid;
use pinwire_benches::windows::{EDIT_BYTES, Pace, Times, Topology, Window, Work, window};
use pinwire_node::cli::DriverArg;
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures what relaying edits costs, against floors that broadcast messages of the same size
#[derive(Parser, Debug)]
#[command(name = "relay-floor")]
struct Args {
    #[command(subcommand)]
    role: Option<Role>,
    /// Members of a document and how many of them write, as `10:1`
    #[arg(long, value_delimiter = ',', value_parser = size, default_values = ["10:1", "10:10", "100:10", "1000:10"])]
    sizes: Vec<(u32, u32)>,
    /// Connections in all
    #[arg(long, default_value_t = 1000)]
    connections: u32,
    /// Closed loads: sends that each writer has under way
    #[arg(long, value_delimiter = ',', default_values = ["1"])]
    in_flight: Vec<u32>,
    /// Open loads: deliveries a second over all documents
    #[arg(long, value_delimiter = ',', default_values = ["50000"])]
    deliveries: Vec<f64>,
    /// Which sides
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["node", "floor-uring", "floor-epoll"])]
    sides: Vec<Side>,
    /// Rounds: each side has a window in each
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Seconds of a window
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Where the result goes
    #[arg(long, default_value = RESULTS)]
    out: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Side {
    Node,
    NodeEpoll,
    FloorUring,
    FloorEpoll,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Side::Node => "node io_uring",
            Side::NodeEpoll => "node epoll",
            Side::FloorUring => "floor io_uring",
            Side::FloorEpoll => "floor epoll",
        }
    }

    fn start(self, secret: &str) -> Result<Child> {
        let node = |driver| {
            let args = NodeArgs { driver, ..node_args(secret) };
            on_first_processor(|| Ok(NodeUnderTest::start(&args)?.into_child()))
        };
        match self {
            Side::Node => node(DriverArg::Uring),
            Side::NodeEpoll => node(DriverArg::Epoll),
            Side::FloorUring => Server::FloorUring.start(),
            Side::FloorEpoll => Server::FloorEpoll.start(),
        }
    }

    fn work(self, topology: Topology, secret: &str) -> Work {
        match self {
            Side::Node | Side::NodeEpoll => Work::Documents { topology, secret: secret.to_owned() },
            Side::FloorUring | Side::FloorEpoll => Work::Topics(topology),
        }
    }
}

fn size(text: &str) -> Result<(u32, u32)> {
    let (members, writers) = text.split_once(':').context("write it as MEMBERS:WRITERS")?;
    let size = (members.parse()?, writers.parse()?);
    if size.0 < 2 || size.1 == 0 || size.1 > size.0 {
        bail!("{text}: at least 2 members, and a writer among them");
    }
    Ok(size)
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    if let Some(role) = &args.role {
        role.play()?;
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(
        args.sizes.iter().all(|(members, _)| *members <= args.connections),
        "fewer connections than members"
    );
    let mut report = Report::new("relay-floor", "Relaying edits against bare broadcast");
    let secret = uuid();
    let mut outcomes = Vec::new();
    for &(members, writers) in &args.sizes {
        let topology = Topology { groups: args.connections / members, members, writers };
        let open = args.deliveries.iter().map(|deliveries| Pace::Rate(deliveries / f64::from(members - 1)));
        let paces: Vec<Pace> =
            args.in_flight.iter().map(|count| Pace::InFlight(*count)).chain(open).collect();
        for pace in paces {
            outcomes.push(measure(&args, topology, pace, &secret)?);
        }
    }
    write_report(&mut report, &args, &outcomes);
    println!("\n{}", report.text());
    println!("written to {}", report.save(&args.out)?.display());
    Ok(ExitCode::SUCCESS)
}

struct Outcome {
    topology: Topology,
    pace: Pace,
    windows: Vec<Vec<Window>>,
}

impl Outcome {
    fn costs(&self, side: usize) -> Vec<f64> {
        self.windows[side].iter().map(Window::us_per_delivery).collect()
    }
}

fn measure(args: &Args, topology: Topology, pace: Pace, secret: &str) -> Result<Outcome> {
    let children = args.sides.iter().map(|side| side.start(secret)).collect::<Result<Vec<_>>>()?;
    let times = Times { warm_up: Duration::from_secs(1), time: Duration::from_secs(args.seconds) };
    let mut windows = vec![Vec::new(); children.len()];
    for round in 0..args.rounds {
        for side in order(children.len(), round) {
            let server = (children[side].address(), children[side].pid());
            let work = args.sides[side].work(topology, secret);
            let found = window(server, &work, pace, times).with_context(|| {
                format!("{} members, {}, {}", topology.members, pace.name(), args.sides[side].name())
            })?;
            windows[side].push(found);
        }
    }
    for child in children {
        child.stop()?;
    }
    let outcome = Outcome { topology, pace, windows };
    for (at, side) in args.sides.iter().enumerate() {
        println!(
            "{} members, {} write, {}, {}: {:.2} us",
            topology.members,
            topology.writers,
            pace.name(),
            side.name(),
            Spread::of(outcome.costs(at)).median
        );
    }
    Ok(outcome)
}

fn write_report(report: &mut Report, args: &Args, outcomes: &[Outcome]) {
    report.paragraph(&format!(
        "{} connections. The node has documents, with a token for each client, and relays edits of one character; the floors \
         have topics of the same size, and send messages of {EDIT_BYTES} bytes, as long as such an edit, unmerged. A delivery is \
         one edit or message at one member other than its writer; each was checked. {} rounds, in each a window of {} s for \
         each side, in changing order; medians, in parentheses the middle half; ratios round by round. Server on the first core, \
         all its threads; pinwire-loadgen on the last. Open loads are planned sends a second in all.",
        args.connections, args.rounds, args.seconds
    ));
    let head = [
        "members",
        "writers",
        "load",
        "side",
        "CPU us per delivery",
        "ratio to floor epoll",
        "ratio to floor io_uring",
        "deliveries/s",
        "edits per frame",
        "p50 / p99 us",
        "server busy",
        "generator busy",
        "windows with doubts",
    ];
    report.table(&head, outcomes.iter().flat_map(|outcome| rows(args, outcome)));
    report.paragraph(
        "Where the generator is near 100 % busy it was the limit: deliveries a second are then its own, and the server's cost \
         has waking and waiting in it.",
    );
    let raw = outcomes.iter().map(|outcome| {
        let sides = args.sides.iter().zip(&outcome.windows).map(|(side, windows)| {
            json!({ "side": side.name(), "windows": windows.iter().map(Window::to_json).collect::<Vec<_>>() })
        });
        json!({
            "members": outcome.topology.members,
            "writers": outcome.topology.writers,
            "load": outcome.pace.name(),
            "sides": sides.collect::<Vec<_>>(),
        })
    });
    report.raw(&json!(raw.collect::<Vec<_>>()));
}

fn rows(args: &Args, outcome: &Outcome) -> Vec<Vec<String>> {
    let percent = |share: f64| format!("{:.0} %", 100.0 * share);
    let against = |side: usize, floor: Side| match args.sides.iter().position(|other| *other == floor) {
        Some(floor) if floor != side => paired(&outcome.costs(side), &outcome.costs(floor)).text(3),
        _ => String::new(),
    };
    args.sides
        .iter()
        .enumerate()
        .map(|(at, side)| {
            let windows = &outcome.windows[at];
            let median = |of: &dyn Fn(&Window) -> f64| Spread::of(windows.iter().map(of)).median;
            vec![
                outcome.topology.members.to_string(),
                outcome.topology.writers.to_string(),
                outcome.pace.name(),
                side.name().to_owned(),
                format!("**{}**", Spread::of(outcome.costs(at)).text(2)),
                against(at, Side::FloorEpoll),
                against(at, Side::FloorUring),
                format!("{:.0}", median(&|window| window.deliveries)),
                format!("{:.2}", median(&|window| window.per_frame)),
                format!(
                    "{:.0} / {:.0}",
                    median(&|window| window.latency[0]),
                    median(&|window| window.latency[1])
                ),
                percent(median(&|window| window.server)),
                percent(median(&|window| window.generator)),
                windows.iter().filter(|window| !window.doubts.is_empty()).count().to_string(),
            ]
        })
        .collect()
}
