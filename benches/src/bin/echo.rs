//! What sending a message back costs: our engine and codec against floors, on both drivers, side by side.
#![allow(clippy::print_stdout, reason = "a measuring command reports on stdout")]

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use pinwire_benches::child::Child;
use pinwire_benches::echo_client::{EchoClient, Load, Window};
use pinwire_benches::instructions::instructions;
use pinwire_benches::procfs::Cpu;
use pinwire_benches::report::{RESULTS, Report};
use pinwire_benches::roles::{Role, Server, load_core};
use pinwire_benches::statistics::{Spread, order, paired};
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Messages of the shorter of the two runs that instructions are counted from.
const COUNTED: u64 = 20_000;
/// A cell with this much of the client's thread busy, and the server's not, says so.
const BUSY: f64 = 0.95;

/// Measures what sending messages back costs, against floors
#[derive(Parser, Debug)]
#[command(name = "echo")]
struct Args {
    #[command(subcommand)]
    role: Option<Role>,
    /// Connections
    #[arg(long, value_delimiter = ',', default_values = ["100", "1000", "10000"])]
    connections: Vec<usize>,
    /// Messages that each connection has under way
    #[arg(long, value_delimiter = ',', default_values = ["1", "16"])]
    in_flight: Vec<u32>,
    /// Bytes of a message
    #[arg(long, value_delimiter = ',', default_values = ["20", "1024"])]
    bytes: Vec<usize>,
    /// Only these cells, as `1000:16:20` (connections, in flight, bytes)
    #[arg(long, value_delimiter = ',')]
    cells: Vec<String>,
    /// Which servers; one floor at least
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["pinwire-uring", "pinwire-epoll", "floor-uring", "floor-epoll"])]
    servers: Vec<Server>,
    /// Rounds: each server has a window in each
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// Milliseconds of a window
    #[arg(long, default_value_t = 1000)]
    window_ms: u64,
    /// Milliseconds before each window
    #[arg(long, default_value_t = 200)]
    warm_up_ms: u64,
    /// Do not count instructions
    #[arg(long)]
    no_instructions: bool,
    /// Where the result goes
    #[arg(long, default_value = RESULTS)]
    out: PathBuf,
}

impl Args {
    fn cells(&self) -> Vec<Load> {
        let mut cells = Vec::new();
        for &connections in &self.connections {
            for &in_flight in &self.in_flight {
                cells.extend(self.bytes.iter().map(|&bytes| Load { connections, in_flight, bytes }));
            }
        }
        cells.retain(|cell| self.cells.is_empty() || self.cells.contains(&name(*cell)));
        cells
    }
}

fn name(cell: Load) -> String {
    format!("{}:{}:{}", cell.connections, cell.in_flight, cell.bytes)
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    if let Some(role) = &args.role {
        role.play()?;
        return Ok(ExitCode::SUCCESS);
    }
    let cells = args.cells();
    ensure!(!cells.is_empty(), "no cell has one of these names: {:?}", args.cells);
    ensure!(args.servers.iter().any(|server| server.is_floor()), "no floor to hold the others against");
    let mut report = Report::new("echo", "Sending messages back: CPU time against floors");
    let outcomes: Vec<Outcome> = cells.into_iter().map(|cell| measure(&args, cell)).collect::<Result<_>>()?;
    let counted = if args.no_instructions { Vec::new() } else { count_all(&args)? };
    write_report(&mut report, &args, &outcomes, &counted);
    println!("\n{}", report.text());
    println!("written to {}", report.save(&args.out)?.display());
    Ok(ExitCode::SUCCESS)
}

/// A cell: the windows of each server, round by round.
struct Outcome {
    cell: Load,
    windows: Vec<Vec<Window>>,
}

fn measure(args: &Args, cell: Load) -> Result<Outcome> {
    let core = load_core()?;
    let mut sides = Vec::new();
    for server in &args.servers {
        let child = server.start()?;
        let client = EchoClient::connect(child.address(), child.pid(), cell, core)
            .with_context(|| format!("{}, {}", name(cell), server.name()))?;
        sides.push((child, client));
    }
    let (warm_up, time) = (Duration::from_millis(args.warm_up_ms), Duration::from_millis(args.window_ms));
    let mut windows = vec![Vec::new(); sides.len()];
    for round in 0..args.rounds {
        for side in order(sides.len(), round) {
            let window = sides[side]
                .1
                .run(warm_up, time)
                .with_context(|| format!("{}, {}", name(cell), args.servers[side].name()))?;
            windows[side].push(window);
        }
    }
    for (child, client) in sides {
        drop(client);
        child.stop()?;
    }
    let outcome = Outcome { cell, windows };
    for (at, server) in args.servers.iter().enumerate() {
        println!("{}, {}: {:.3} us", name(cell), server.name(), outcome.cost(at).median);
    }
    Ok(outcome)
}

impl Outcome {
    fn costs(&self, side: usize) -> Vec<f64> {
        self.windows[side].iter().map(Window::us_per_message).collect()
    }

    fn cost(&self, side: usize) -> Spread {
        Spread::of(self.costs(side))
    }

    /// The floor that costs least.
    fn better_floor(&self, servers: &[Server]) -> Option<usize> {
        let floors = (0..servers.len()).filter(|side| servers[*side].is_floor());
        floors.min_by(|a, b| self.cost(*a).median.total_cmp(&self.cost(*b).median))
    }

    fn busy(&self, side: usize, cpu: impl Fn(&Window) -> Cpu) -> f64 {
        Spread::of(
            self.windows[side]
                .iter()
                .map(|window| cpu(window).total.as_secs_f64() / window.time.as_secs_f64()),
        )
        .median
    }

    fn user_share(&self, side: usize) -> Option<f64> {
        self.windows[side].iter().map(|window| window.server).reduce(Cpu::plus)?.user_share()
    }
}

/// User-space instructions of a message.
struct Counted {
    cell: Load,
    server: Server,
    per_message: f64,
}

fn count_all(args: &Args) -> Result<Vec<Counted>> {
    let cells = [
        Load { connections: 1, in_flight: 1, bytes: 20 },
        Load { connections: 100, in_flight: 1, bytes: 20 },
        Load { connections: 100, in_flight: 16, bytes: 20 },
        Load { connections: 100, in_flight: 16, bytes: 1024 },
    ];
    let mut counted = Vec::new();
    for cell in cells {
        for &server in &args.servers {
            // Start-up and handshakes are in both.
            let short = count(server, cell, COUNTED)?;
            let long = count(server, cell, 2 * COUNTED)?;
            let per_message = (long as f64 - short as f64) / COUNTED as f64;
            println!("{}, {}: {per_message:.0} instructions", name(cell), server.name());
            counted.push(Counted { cell, server, per_message });
        }
    }
    Ok(counted)
}

/// Instructions of a server's whole life in which it sends so many messages back.
fn count(server: Server, cell: Load, messages: u64) -> Result<u64> {
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(server.args())
        .arg("--when-idle")
        .stderr(Stdio::piped());
    let child = Child::start(&mut command).context("is valgrind installed?")?;
    let client = EchoClient::connect(child.address(), child.pid(), cell, load_core()?)?;
    client.count(messages)?;
    drop(client);
    let report = child.read_to_its_end()?;
    instructions(&report).with_context(|| format!("valgrind did not say how many instructions: {report}"))
}

fn write_report(report: &mut Report, args: &Args, outcomes: &[Outcome], counted: &[Counted]) {
    report.paragraph(&format!(
        "Each server is a process on the first core, one client thread on the last; the client keeps the given number of \
         messages under way on each connection and checks every byte that comes back. {} rounds, in each a window of {} ms \
         for each server, in changing order; medians, in parentheses the middle half. Ratios are taken round by round against \
         the floor with the lesser median. CPU is that of the whole server process, the kernel's work on its behalf included.",
        args.rounds, args.window_ms
    ));
    let head = [
        "connections : in flight : bytes",
        "server",
        "CPU us per message",
        "user share",
        "ratio to the better floor",
        "messages/s",
        "server busy",
        "client busy",
    ];
    report.table(&head, outcomes.iter().flat_map(|outcome| rows(args, outcome)));
    let limited = outcomes.iter().flat_map(|outcome| {
        args.servers.iter().enumerate().filter_map(|(side, server)| {
            let client = outcome.busy(side, |window| window.client);
            let is_limit = client > BUSY && outcome.busy(side, |window| window.server) < BUSY;
            is_limit.then(|| format!("{} {}", name(outcome.cell), server.name()))
        })
    });
    let limited: Vec<String> = limited.collect();
    report.paragraph(&if limited.is_empty() {
        "In no cell was the client the limit while the server had time to spare.".to_owned()
    } else {
        format!(
            "The client was the limit, and the server had time to spare, in: {}. There messages/s are the client's, and the CPU \
             of a message has the server's waking and waiting in it.",
            limited.join(", ")
        )
    });
    if !counted.is_empty() {
        report.heading("User-space instructions of a message");
        report.paragraph(&format!(
            "Counted by valgrind (cachegrind), which knows user space only: the difference between {} and {COUNTED} messages. \
             A server under valgrind is some twenty times as slow, so with many connections a turn meets more messages than \
             it otherwise would; with one connection each turn meets one.",
            2 * COUNTED
        ));
        let rows = counted.iter().map(|counted| {
            vec![name(counted.cell), counted.server.name().to_owned(), format!("{:.0}", counted.per_message)]
        });
        report.table(&["connections : in flight : bytes", "server", "instructions"], rows);
    }
    report.raw(&json!({
        "cells": outcomes.iter().map(|outcome| outcome_json(args, outcome)).collect::<Vec<_>>(),
        "instructions": counted.iter().map(|counted| json!({
            "cell": name(counted.cell),
            "server": counted.server.name(),
            "per_message": counted.per_message,
        })).collect::<Vec<_>>(),
    }));
}

fn rows(args: &Args, outcome: &Outcome) -> Vec<Vec<String>> {
    let floor = outcome.better_floor(&args.servers);
    let percent = |share: f64| format!("{:.0} %", 100.0 * share);
    args.servers
        .iter()
        .enumerate()
        .map(|(side, server)| {
            let ratio = match floor {
                Some(floor) if floor != side => paired(&outcome.costs(side), &outcome.costs(floor)).text(3),
                _ => "the floor".to_owned(),
            };
            vec![
                name(outcome.cell),
                server.name().to_owned(),
                outcome.cost(side).text(3),
                outcome.user_share(side).map_or_else(String::new, percent),
                if server.is_floor() { ratio } else { format!("**{ratio}**") },
                format!("{:.0}", Spread::of(outcome.windows[side].iter().map(Window::rate)).median),
                percent(outcome.busy(side, |window| window.server)),
                percent(outcome.busy(side, |window| window.client)),
            ]
        })
        .collect()
}

fn outcome_json(args: &Args, outcome: &Outcome) -> Value {
    let floor = outcome.better_floor(&args.servers);
    let sides = args.servers.iter().enumerate().map(|(side, server)| {
        let windows = outcome.windows[side].iter().map(|window| {
            json!({
                "seconds": window.time.as_secs_f64(),
                "messages": window.messages,
                "server_seconds": window.server.total.as_secs_f64(),
                "client_seconds": window.client.total.as_secs_f64(),
            })
        });
        json!({
            "server": server.name(),
            "user_share": outcome.user_share(side),
            "ratio": floor.map(|floor| paired(&outcome.costs(side), &outcome.costs(floor)).to_json()),
            "windows": windows.collect::<Vec<_>>(),
        })
    });
    json!({ "cell": name(outcome.cell), "sides": sides.collect::<Vec<_>>() })
}
