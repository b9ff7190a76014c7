//! What TLS costs a node: memory of an idle connection, and processor time of a handshake, beside plain text.
#![allow(clippy::print_stdout, reason = "a measuring command reports on stdout")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use pinwire_benches::certificate::{Key, certify};
use pinwire_benches::crowd::{Crowd, SOURCES};
use pinwire_benches::fleet::{Fleet, FleetTls, on_last_processor};
use pinwire_benches::node::{self, NodeArgs, NodeUnderTest, Role};
use pinwire_benches::procfs::{Memory, process_time};
use pinwire_benches::report::{RESULTS, Report};
use pinwire_benches::sides::on_first_processor;
use pinwire_benches::tokens::{Mint, uuid};
use pinwire_node::cli::DriverArg;
use pinwire_tls::{Trust, client_config, resuming};
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Members of each document.
const MEMBERS: usize = 10;

/// Measures what TLS costs a node
#[derive(Parser, Debug)]
#[command(name = "tls")]
struct Args {
    #[command(subcommand)]
    role: Option<Role>,
    /// Idle connections in the end; memory is compared with half of them
    #[arg(long, default_value_t = 9_000)]
    connections: usize,
    /// Clients that connect in each round
    #[arg(long, default_value_t = 2_000)]
    clients: usize,
    /// Rounds that count; one more goes before them
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of idling before memory is read
    #[arg(long, default_value_t = 10)]
    settle: u64,
    /// How the node talks to the kernel
    #[arg(long, value_enum, default_value = "uring")]
    driver: DriverArg,
    /// Where the result goes
    #[arg(long, default_value = RESULTS)]
    out: PathBuf,
}

/// What clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Plain,
    /// Whole handshakes, with a certificate of this kind.
    Full(Key),
    /// Handshakes that go on from an earlier one, by a ticket.
    Resumed(Key),
}

const MODES: [Mode; 4] =
    [Mode::Plain, Mode::Full(Key::P256), Mode::Full(Key::Rsa2048), Mode::Resumed(Key::P256)];

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain text",
            Self::Full(Key::P256) => "TLS 1.3, ECDSA P-256",
            Self::Full(Key::Rsa2048) => "TLS 1.3, RSA-2048",
            Self::Resumed(_) => "TLS 1.3, resumed by a ticket",
        }
    }

    fn key(self) -> Option<Key> {
        match self {
            Self::Plain => None,
            Self::Full(key) | Self::Resumed(key) => Some(key),
        }
    }
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    if let Some(Role::Node(node)) = &args.role {
        node::serve(node)?;
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(args.connections >= 2 * MEMBERS && args.clients > 0 && args.rounds > 0, "nothing to measure");
    let mut report = Report::new("tls", "TLS: idle connections and handshakes");
    let files = tempfile::tempdir()?;
    let mut runs = Vec::new();
    for mode in MODES {
        println!("{}:", mode.name());
        let run = Run::measure(&args, mode, files.path())?;
        println!("  {:.1} us a connect, {:.0} bytes an idle connection", run.connect_us(), run.idle_bytes);
        runs.push(run);
    }
    write_report(&mut report, &args, &runs);
    println!("\n{}", report.text());
    println!("written to {}", report.save(&args.out)?.display());
    Ok(ExitCode::SUCCESS)
}

/// One way to speak.
struct Run {
    mode: Mode,
    /// Processor time of the node for a round's connects, each.
    rounds: Vec<Duration>,
    clients: usize,
    /// Of all handshakes that count, those that were resumed.
    resumed: u64,
    idle_bytes: f64,
}

impl Run {
    fn measure(args: &Args, mode: Mode, directory: &Path) -> Result<Self> {
        let certified = mode.key().map(|key| certify(key, directory)).transpose()?;
        let (rounds, resumed) = Self::connects(args, mode, certified.as_ref())?;
        let idle_bytes = Self::idle(args, certified.as_ref())?;
        Ok(Self { mode, rounds, clients: args.clients, resumed, idle_bytes })
    }

    /// Rounds of clients that connect, join and leave.
    fn connects(
        args: &Args,
        mode: Mode,
        certified: Option<&(PathBuf, PathBuf)>,
    ) -> Result<(Vec<Duration>, u64)> {
        let (node, mint) = start(args, args.clients * (args.rounds + 1), certified)?;
        let (pid, clients, rounds) = (node.pid(), args.clients, args.rounds);
        let is_resumed = matches!(mode, Mode::Resumed(_));
        let tls = certified.map(|_| client(is_resumed, clients)).transpose()?;
        let outcome = on_last_processor(node.address(), async move |fleet| {
            let mut crowd = Crowd::new(with_tls(fleet, tls), mint, MEMBERS, 0);
            let (mut times, mut resumed) = (Vec::new(), 0);
            for round in 0..=rounds {
                let before = process_time(pid)?;
                crowd.grow(clients).await?;
                let after = process_time(pid)?;
                if round > 0 {
                    times.push(after - before);
                    resumed += crowd.fleet().counts().resumed;
                }
                crowd.leave().await?;
            }
            Ok((times, resumed))
        })?;
        node.stop()?;
        Ok(outcome)
    }

    /// Bytes per connection that the second half of many idle ones added.
    fn idle(args: &Args, certified: Option<&(PathBuf, PathBuf)>) -> Result<f64> {
        let (node, mint) = start(args, args.connections, certified)?;
        let (pid, settle) = (node.pid(), Duration::from_secs(args.settle));
        let half = args.connections / 2 / MEMBERS * MEMBERS;
        let all = args.connections;
        let tls = certified.map(|_| client(false, 1)).transpose()?;
        let slope = on_last_processor(node.address(), async move |fleet| {
            let mut crowd = Crowd::new(with_tls(fleet, tls), mint, MEMBERS, 0);
            let mut read = Vec::new();
            for count in [half, all] {
                crowd.grow(count).await?;
                crowd.idle(settle).await?;
                read.push(Memory::of(pid)?.anonymous as f64);
            }
            let (less, more) = (read.first().context("no reading")?, read.last().context("no reading")?);
            Ok((more - less) / (all - half) as f64)
        })?;
        node.stop()?;
        Ok(slope)
    }

    /// The median of the rounds, in microseconds for each client.
    fn connect_us(&self) -> f64 {
        let mut rounds: Vec<f64> =
            self.rounds.iter().map(|time| time.as_secs_f64() * 1e6 / self.clients as f64).collect();
        rounds.sort_by(f64::total_cmp);
        rounds.get(rounds.len() / 2).copied().unwrap_or(f64::NAN)
    }

    fn to_json(&self) -> Value {
        let rounds: Vec<f64> = self.rounds.iter().map(Duration::as_secs_f64).collect();
        json!({
            "mode": self.mode.name(), "clients": self.clients, "rounds_cpu_seconds": rounds, "resumed": self.resumed,
            "idle_bytes": self.idle_bytes,
        })
    }
}

fn start(
    args: &Args,
    connects: usize,
    certified: Option<&(PathBuf, PathBuf)>,
) -> Result<(NodeUnderTest, Mint)> {
    let secret = uuid();
    let mint = Mint::new(&secret)?;
    let (certificate, key) = certified.cloned().unzip();
    let node = NodeArgs {
        driver: args.driver,
        secret,
        // Twice what an address needs, were all in one minute.
        connects_per_minute: u32::try_from(2 * connects.div_ceil(SOURCES))?.max(60),
        certificate,
        key,
        ..NodeArgs::default()
    };
    Ok((on_first_processor(|| NodeUnderTest::start(&node))?, mint))
}

/// Clients that resume keep a session for each name that they dial.
fn client(resumes: bool, clients: usize) -> Result<FleetTls> {
    let config = client_config(&Trust::Anybody)?;
    Ok(if resumes {
        FleetTls { config: resuming(&config, clients), names: clients }
    } else {
        FleetTls { config: Arc::clone(&config), names: 1 }
    })
}

fn with_tls(mut fleet: Fleet, tls: Option<FleetTls>) -> Fleet {
    if let Some(tls) = tls {
        fleet.speak_tls(tls);
    }
    fleet
}

fn write_report(report: &mut Report, args: &Args, runs: &[Run]) {
    report.paragraph(&format!(
        "In each round {} clients connect, upgrade, join a document with a token of their own (HS256) and leave; counted is the \
         processor time of the node's process from the first dial to the last join, the median of {} rounds after one that \
         does not count. *TLS alone* is what lies above plain text: key exchange, signature, records, and a larger connection. \
         Idle: {} connections in documents of {MEMBERS}, {} s of idling; the slope of the second half in anonymous memory. Driver: {}.",
        args.clients,
        args.rounds,
        args.connections,
        args.settle,
        format!("{:?}", args.driver).to_lowercase()
    ));
    let plain = runs.first().map_or(f64::NAN, Run::connect_us);
    let plain_bytes = runs.first().map_or(f64::NAN, |run| run.idle_bytes);
    report.table(
        &[
            "",
            "a connect, us",
            "connects per second and core",
            "TLS alone, us",
            "TLS handshakes per second and core",
            "resumed",
            "bytes an idle connection",
            "TLS alone",
        ],
        runs.iter().map(|run| {
            let (us, is_plain) = (run.connect_us(), run.mode == Mode::Plain);
            let of_tls = |value: String| if is_plain { String::new() } else { value };
            vec![
                run.mode.name().to_owned(),
                format!("{us:.1}"),
                format!("{:.0}", 1e6 / us),
                of_tls(format!("{:.1}", us - plain)),
                of_tls(format!("**{:.0}**", 1e6 / (us - plain))),
                of_tls(format!("{} of {}", run.resumed, run.clients * run.rounds.len())),
                format!("**{:.0}**", run.idle_bytes),
                of_tls(format!("{:.0}", run.idle_bytes - plain_bytes)),
            ]
        }),
    );
    report.raw(&Value::Array(runs.iter().map(Run::to_json).collect()));
}
