//! Latency of echo at half of saturation: our server and the floors at the same planned rate, side by side.
#![allow(clippy::print_stdout, reason = "a measuring command reports on stdout")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use pinwire_benches::echo_client::{self, EchoClient};
use pinwire_benches::report::{RESULTS, Report};
use pinwire_benches::roles::{Role, Server, load_core};
use pinwire_benches::statistics::{Spread, order, paired};
use pinwire_benches::windows::{Pace, Times, Window, Work, window};
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Percentiles, as tables name them.
const PERCENTILES: [&str; 3] = ["p50", "p99", "p99.9"];

/// Measures latency of echo at half of what the better floor can carry
#[derive(Parser, Debug)]
#[command(name = "latency")]
struct Args {
    #[command(subcommand)]
    role: Option<Role>,
    /// Connections
    #[arg(long, default_value_t = 1000)]
    connections: u32,
    /// Bytes of a message
    #[arg(long, default_value_t = 20)]
    bytes: u32,
    /// Which servers; one floor at least
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["pinwire-uring", "floor-uring", "floor-epoll"])]
    servers: Vec<Server>,
    /// Rounds: each server has a window in each
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Seconds of a window
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Messages a second, instead of half of the better floor's saturation
    #[arg(long)]
    rate: Option<f64>,
    /// Part of the saturation
    #[arg(long, default_value_t = 0.5)]
    share: f64,
    /// Where the result goes
    #[arg(long, default_value = RESULTS)]
    out: PathBuf,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    if let Some(role) = &args.role {
        role.play()?;
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(args.servers.iter().any(|server| server.is_floor()), "no floor to hold the others against");
    let mut report = Report::new("latency", "Latency of echo at half of saturation, against floors");
    let saturations = match args.rate {
        Some(_) => Vec::new(),
        None => args.servers.iter().map(|server| saturation(&args, *server)).collect::<Result<_>>()?,
    };
    let floors = args.servers.iter().zip(&saturations).filter(|(server, _)| server.is_floor());
    let best = floors.map(|(_, window)| window.rate()).fold(0.0, f64::max);
    let rate = args.rate.unwrap_or(best * args.share);
    println!("{rate:.0} messages/s");
    let windows = measure(&args, rate)?;
    write_report(&mut report, &args, rate, &saturations, &windows);
    println!("\n{}", report.text());
    println!("written to {}", report.save(&args.out)?.display());
    Ok(ExitCode::SUCCESS)
}

/// The most that comes through with one message under way on each connection.
fn saturation(args: &Args, server: Server) -> Result<echo_client::Window> {
    let child = server.start()?;
    let load = echo_client::Load {
        connections: args.connections as usize,
        in_flight: 1,
        bytes: args.bytes as usize,
    };
    let client = EchoClient::connect(child.address(), child.pid(), load, load_core()?)?;
    let found = client.run(Duration::from_millis(500), Duration::from_secs(3))?;
    drop(client);
    child.stop()?;
    println!("{}: {:.0} messages/s at most", server.name(), found.rate());
    Ok(found)
}

fn measure(args: &Args, rate: f64) -> Result<Vec<Vec<Window>>> {
    let sides = args.servers.iter().map(|server| server.start()).collect::<Result<Vec<_>>>()?;
    let work = Work::Echo { connections: args.connections, bytes: args.bytes };
    let times = Times { warm_up: Duration::from_secs(1), time: Duration::from_secs(args.seconds) };
    let mut windows = vec![Vec::new(); sides.len()];
    for round in 0..args.rounds {
        for side in order(sides.len(), round) {
            let server = (sides[side].address(), sides[side].pid());
            let found =
                window(server, &work, Pace::Rate(rate), times).with_context(|| args.servers[side].name())?;
            println!(
                "{}: p50 {:.0} us, p99 {:.0} us",
                args.servers[side].name(),
                found.latency[0],
                found.latency[1]
            );
            windows[side].push(found);
        }
    }
    for side in sides {
        side.stop()?;
    }
    Ok(windows)
}

fn percentile(windows: &[Window], which: usize) -> Vec<f64> {
    windows.iter().map(|window| window.latency[which]).collect()
}

fn write_report(
    report: &mut Report,
    args: &Args,
    rate: f64,
    saturations: &[echo_client::Window],
    windows: &[Vec<Window>],
) {
    report.paragraph(&format!(
        "{} connections, messages of {} bytes, {rate:.0} a second in the open model: each leaves at its planned time, and its \
         latency counts from that time. {} rounds, in each a window of {} s for each server, in changing order; medians of \
         the windows, in parentheses the middle half; ratios round by round against the floor that is better at that \
         percentile. Server on the first core, pinwire-loadgen on the last. Both ends wake and work on the way, so part of each \
         latency is the generator's own, the same for all.",
        args.connections, args.bytes, args.rounds, args.seconds
    ));
    if !saturations.is_empty() {
        report.heading("Saturation");
        report.paragraph("Closed model, one message under way on each connection, by the lean client.");
        let rows = args.servers.iter().zip(saturations).map(|(server, window)| {
            let busy =
                |cpu: Duration| format!("{:.0} %", 100.0 * cpu.as_secs_f64() / window.time.as_secs_f64());
            vec![
                server.name().to_owned(),
                format!("{:.0}", window.rate()),
                busy(window.server.total),
                busy(window.client.total),
            ]
        });
        report.table(&["server", "messages/s", "server busy", "client busy"], rows);
    }
    for (which, name) in PERCENTILES.iter().enumerate() {
        report.heading(name);
        let spread = |side: usize| Spread::of(percentile(&windows[side], which));
        let floors = (0..windows.len()).filter(|side| args.servers[*side].is_floor());
        let floor = floors.min_by(|a, b| spread(*a).median.total_cmp(&spread(*b).median));
        let rows = args.servers.iter().enumerate().map(|(side, server)| {
            let ratio = match floor {
                Some(floor) if floor != side => {
                    paired(&percentile(&windows[side], which), &percentile(&windows[floor], which)).text(3)
                }
                _ => "the floor".to_owned(),
            };
            vec![server.name().to_owned(), spread(side).text(0), ratio]
        });
        report.table(&["server", "us", "ratio to the better floor"], rows);
    }
    report.heading("Load");
    let rows = args.servers.iter().zip(windows).map(|(server, windows)| {
        let median = |of: fn(&Window) -> f64| Spread::of(windows.iter().map(of)).median;
        let doubts = windows.iter().filter(|window| !window.doubts.is_empty()).count();
        vec![
            server.name().to_owned(),
            format!("{:.0}", median(|window| window.sends)),
            format!("{:.2}", median(Window::us_per_delivery)),
            format!("{:.0} %", 100.0 * median(|window| window.server)),
            format!("{:.0} %", 100.0 * median(|window| window.generator)),
            windows.iter().map(|window| window.dropped).sum::<u64>().to_string(),
            doubts.to_string(),
        ]
    });
    report.table(
        &[
            "server",
            "messages/s",
            "CPU us per message",
            "server busy",
            "generator busy",
            "sends dropped",
            "windows with doubts",
        ],
        rows,
    );
    let raw = args.servers.iter().zip(windows).map(|(server, windows)| {
        json!({
            "server": server.name(),
            "windows": windows.iter().map(Window::to_json).collect::<Vec<_>>(),
        })
    });
    report.raw(&json!({ "rate": rate, "sides": raw.collect::<Vec<_>>() }));
}
