//! What a handshake costs a server, and where: TCP, the upgrade, routing and joining, the token.
//!
//! Servers that do a little more each are measured in turn, and their differences are the parts.
#![allow(clippy::print_stdout, reason = "a measuring command reports on stdout")]

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};
use pinwire_benches::load::{Measured, measure};
use pinwire_benches::node::{self, NodeArgs, NodeUnderTest};
use pinwire_benches::report::{RESULTS, Report};
use pinwire_benches::sides::{on_first_processor, source, start_node};
use pinwire_benches::tokens::{EcPair, Mint, uuid};
use pinwire_engine::{Config, Engine, Event};
use pinwire_loadgen::results::Measure;
use pinwire_loadgen::scenario::presets::preset;
use pinwire_loadgen::scenario::{Arrivals, Auth, Load, Scenario, StagePlan};
use pinwire_token::SigningKey;
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Planned dials a second: more than any server takes, so that `--dialling` clients are always on their way.
const RATE: f64 = 50_000.0;

/// Measures what a handshake costs a server, and where
#[derive(Parser, Debug)]
#[command(name = "handshakes")]
struct Args {
    #[command(subcommand)]
    role: Option<Role>,
    /// Clients that dial, join and leave at any time
    #[arg(long, default_value_t = 64)]
    dialling: u32,
    /// Rounds: in each, every server is measured once
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of load that count
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Seconds of load before that
    #[arg(long, default_value_t = 1)]
    warm_up: u64,
    /// Where the result goes
    #[arg(long, default_value = RESULTS)]
    out: PathBuf,
}

/// Roles of this command other than measuring.
#[derive(Debug, Subcommand)]
enum Role {
    /// Be the node under test.
    #[command(hide = true)]
    Node(NodeArgs),
    /// Be a server that accepts, reads once and closes.
    #[command(hide = true)]
    Accept,
}

/// Servers in the order of what they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Accepts, reads once, closes.
    Tcp,
    /// The bench server: upgrades, sends two messages back, closes. As many messages as a join takes.
    Upgrade,
    /// The node, all clients with the same token: it is checked once and remembered.
    Join(Algorithm),
    /// The node, each client with a token of its own.
    Token(Algorithm),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Hs256,
    Es256,
}

const STAGES: [Stage; 6] = [
    Stage::Tcp,
    Stage::Upgrade,
    Stage::Join(Algorithm::Hs256),
    Stage::Token(Algorithm::Hs256),
    Stage::Join(Algorithm::Es256),
    Stage::Token(Algorithm::Es256),
];

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "accept, read, close",
            Self::Upgrade => "upgrade, echo, close",
            Self::Join(Algorithm::Hs256) => "node, one HS256 token for all",
            Self::Join(Algorithm::Es256) => "node, one ES256 token for all",
            Self::Token(Algorithm::Hs256) => "node, HS256, a token each",
            Self::Token(Algorithm::Es256) => "node, ES256, a token each",
        }
    }
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    match &args.role {
        Some(Role::Node(node)) => node::serve(node)?,
        Some(Role::Accept) => accept()?,
        None => compare(&args)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The engine alone: what TCP costs a server, without a protocol.
fn accept() -> Result<()> {
    let listener = pinwire_engine::listener(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    println!("listening on {}", listener.local_addr()?);
    std::io::stdout().flush()?;
    pinwire_engine::run(Config::default(), async move |mut engine: Engine| -> Result<()> {
        engine.listen(listener)?;
        loop {
            engine.wait(None).await;
            engine.poll();
            while let Some(event) = engine.next_event() {
                match event {
                    Event::Data { slot, buf } => {
                        engine.recycle(buf);
                        engine.close(slot);
                    }
                    Event::Ended { slot, .. } => engine.close(slot),
                    _ => {}
                }
            }
            engine.flush();
        }
    })?
}

/// A round's reading of one server.
struct Reading {
    measured: Measured,
    /// Handshakes that were begun while the load counted; with so many clients at a time, as many ended.
    count: u64,
}

impl Reading {
    fn us(&self) -> f64 {
        self.measured.cpu.as_secs_f64() * 1e6 / self.count as f64
    }

    fn per_second(&self) -> f64 {
        self.count as f64 / self.measured.results.total.seconds
    }

    /// From dialling to joined, milliseconds.
    fn connect_ms(&self, percentile: f64) -> f64 {
        let connect = self.measured.results.total.latency.get(&Measure::Connect);
        connect.map_or(f64::NAN, |histogram| histogram.percentile(percentile) as f64 / 1e6)
    }
}

fn compare(args: &Args) -> Result<()> {
    ensure!(args.rounds > 0 && args.seconds > 0 && args.dialling > 0, "nothing to measure");
    let mut report = Report::new("handshakes", "Handshakes: what they cost, and where");
    let bench_server = build_bench_server()?;
    let keys = Keys::new()?;
    let mut readings: Vec<Vec<Reading>> = STAGES.iter().map(|_| Vec::new()).collect();
    for round in 1..=args.rounds {
        for (stage, readings) in STAGES.into_iter().zip(&mut readings) {
            let reading = once(args, stage, &bench_server, &keys).with_context(|| stage.name())?;
            println!(
                "round {round}: {}: {:.0}/s, {:.1} us each, generator {:.0} % busy",
                stage.name(),
                reading.per_second(),
                reading.us(),
                100.0 * reading.measured.generator_busy()
            );
            readings.push(reading);
        }
    }
    write_report(&mut report, args, &readings);
    println!("\n{}", report.text());
    println!("written to {}", report.save(&args.out)?.display());
    Ok(())
}

/// What tokens are signed and checked with.
struct Keys {
    secret: String,
    pair: EcPair,
    /// The pair's halves as files, for the load generator and for the node.
    private: PathBuf,
    public: PathBuf,
}

impl Keys {
    fn new() -> Result<Self> {
        let program = std::env::current_exe()?;
        let folder = program.parent().context("this program is in no folder")?;
        let (private, public) = (folder.join("handshakes.key.pem"), folder.join("handshakes.pub.pem"));
        let pair = EcPair::generate()?;
        std::fs::write(&private, &pair.private)?;
        std::fs::write(&public, &pair.public)?;
        Ok(Self { secret: uuid(), pair, private, public })
    }

    fn auth(&self, stage: Stage) -> Result<Auth> {
        Ok(match stage {
            Stage::Tcp | Stage::Upgrade => Auth::None,
            Stage::Join(Algorithm::Hs256) => Auth::Token(Mint::new(&self.secret)?.token()?),
            Stage::Join(Algorithm::Es256) => {
                let key = SigningKey::from_private_pem(&self.pair.private)?;
                Auth::Token(Mint::signing_with(key)?.token()?)
            }
            Stage::Token(Algorithm::Hs256) => Auth::Secret(self.secret.clone()),
            Stage::Token(Algorithm::Es256) => Auth::Key(self.private.display().to_string()),
        })
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.private);
        let _ = std::fs::remove_file(&self.public);
    }
}

/// The server of a stage.
enum Server {
    Node(NodeUnderTest),
    Plain { child: Child, address: SocketAddr },
}

impl Server {
    fn start(stage: Stage, bench_server: &PathBuf, keys: &Keys) -> Result<Self> {
        match stage {
            Stage::Tcp => Self::plain(Command::new(std::env::current_exe()?).arg("accept")),
            Stage::Upgrade => {
                Self::plain(Command::new(bench_server).args(["--listen", "127.0.0.1:0", "--threads", "1"]))
            }
            Stage::Join(_) | Stage::Token(_) => {
                Ok(Self::Node(start_node(&keys.secret, Some(keys.public.clone()))?))
            }
        }
    }

    /// A server that says `listening on ADDRESS`.
    fn plain(command: &mut Command) -> Result<Self> {
        let mut child = on_first_processor(|| Ok(command.stdout(Stdio::piped()).spawn()?))?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("its stdout")?).read_line(&mut line)?;
        match line.trim().strip_prefix("listening on ").map(str::parse) {
            Some(Ok(address)) => Ok(Self::Plain { child, address }),
            _ => {
                child.kill()?;
                child.wait()?;
                bail!("the server did not start; it said {line:?}")
            }
        }
    }

    fn pid(&self) -> u32 {
        match self {
            Self::Node(node) => node.pid(),
            Self::Plain { child, .. } => child.id(),
        }
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::Node(node) => node.address(),
            Self::Plain { address, .. } => *address,
        }
    }

    fn stop(self) -> Result<()> {
        match self {
            Self::Node(node) => node.stop(),
            Self::Plain { mut child, .. } => {
                child.kill()?;
                child.wait()?;
                Ok(())
            }
        }
    }
}

fn once(args: &Args, stage: Stage, bench_server: &PathBuf, keys: &Keys) -> Result<Reading> {
    let server = Server::start(stage, bench_server, keys)?;
    let time = Duration::from_secs(args.seconds);
    let mut scenario: Scenario = preset("connect").context("the scenario `connect`")?;
    scenario.clients.count = args.dialling;
    scenario.load = Load::Open {
        stages: vec![StagePlan { name: None, from: RATE, to: RATE, duration: time }],
        arrivals: Arrivals::Constant,
    };
    let path = if stage == Stage::Upgrade { "/echo" } else { "" };
    scenario.target.urls = vec![format!("ws://{}{path}", server.address())];
    scenario.target.auth = keys.auth(stage)?;
    scenario.warm_up = Duration::from_secs(args.warm_up);
    scenario.generator.sources = (0..250).map(|number| source(number).to_string()).collect();
    scenario.generator.seed = fastrand::u64(..u64::from(u32::MAX));
    let measured = measure(&scenario, time, server.pid());
    server.stop()?;
    let measured = measured?;
    let results = &measured.results;
    if stage != Stage::Tcp {
        ensure!(results.connections.failed.is_empty(), "clients failed: {:?}", results.connections.failed);
        ensure!(results.total.received > 0, "nobody joined");
    }
    let count = results.total.sent;
    ensure!(count > 0, "nobody dialled");
    Ok(Reading { measured, count })
}

/// Builds `pinwire-bench-server` beside this program, which cargo was not asked for.
fn build_bench_server() -> Result<PathBuf> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let arguments =
        ["build", "--release", "--quiet", "-p", "pinwire-benches", "--bin", "pinwire-bench-server"];
    let status = Command::new(cargo).args(arguments).status().context("cargo cannot be started")?;
    ensure!(status.success(), "the bench server cannot be built: {status}");
    Ok(std::env::current_exe()?.with_file_name("pinwire-bench-server"))
}

/// The reading whose processor time is the median.
fn median(readings: &[Reading]) -> Option<&Reading> {
    let mut order: Vec<&Reading> = readings.iter().collect();
    order.sort_by(|a, b| a.us().total_cmp(&b.us()));
    order.get(order.len() / 2).copied()
}

fn write_report(report: &mut Report, args: &Args, readings: &[Vec<Reading>]) {
    report.paragraph(&format!(
        "{} clients at a time dial, join a document of their own and leave. One thread of the server, bound to the first \
         processor; clients on the last one. The median of {} rounds of {} s. CPU is that of the server for a whole \
         connection, from accepting to its end, the kernel's work included; *a second and core* is what that leaves room \
         for. Where the generator is busy, fewer came than the server would have taken.",
        args.dialling, args.rounds, args.seconds
    ));
    let of = |stage: Stage| {
        let at = STAGES.iter().position(|other| *other == stage)?;
        median(readings.get(at)?)
    };
    report.table(
        &[
            "server",
            "CPU us per handshake",
            "rounds",
            "a second and core",
            "came a second",
            "dial to joined, p50 / p99 ms",
            "generator busy",
        ],
        STAGES.iter().zip(readings).filter_map(|(stage, rounds)| {
            let reading = median(rounds)?;
            let each: Vec<String> = rounds.iter().map(|round| format!("{:.1}", round.us())).collect();
            Some(vec![
                stage.name().to_owned(),
                format!("**{:.1}**", reading.us()),
                each.join(", "),
                format!("{:.0}", 1e6 / reading.us()),
                format!("{:.0}", reading.per_second()),
                if *stage == Stage::Tcp {
                    String::new()
                } else {
                    format!("{:.2} / {:.2}", reading.connect_ms(50.0), reading.connect_ms(99.0))
                },
                format!("{:.0} %", 100.0 * reading.measured.generator_busy()),
            ])
        }),
    );
    report.heading("Where it goes");
    report.paragraph(
        "Differences of the rows above. *Upgrade* has two messages sent back in it and the closing handshake; *routing, join \
         and end* is what the node does beyond that with a token that it remembers: the address's limit, the app's limits, \
         the document, its log, its end. A token of its own comes on top.",
    );
    let parts = [
        ("TCP", Some(Stage::Tcp), None),
        ("upgrade", Some(Stage::Upgrade), Some(Stage::Tcp)),
        ("routing, join and end", Some(Stage::Join(Algorithm::Hs256)), Some(Stage::Upgrade)),
        ("HS256 token", Some(Stage::Token(Algorithm::Hs256)), Some(Stage::Join(Algorithm::Hs256))),
        ("ES256 token", Some(Stage::Token(Algorithm::Es256)), Some(Stage::Join(Algorithm::Es256))),
    ];
    report.table(
        &["part", "CPU us"],
        parts.into_iter().filter_map(|(name, with, without)| {
            let with = of(with?)?.us();
            let without = without.map_or(Some(0.0), |stage| Some(of(stage)?.us()))?;
            Some(vec![name.to_owned(), format!("{:.1}", with - without)])
        }),
    );
    let raw: Vec<Value> = STAGES
        .iter()
        .zip(readings)
        .map(|(stage, rounds)| {
            let rounds: Vec<Value> = rounds.iter().map(reading_json).collect();
            json!({ "server": stage.name(), "rounds": rounds })
        })
        .collect();
    report.raw(&json!(raw));
}

fn reading_json(reading: &Reading) -> Value {
    json!({
        "handshakes": reading.count,
        "seconds": reading.measured.results.total.seconds,
        "server_seconds": reading.measured.cpu.as_secs_f64(),
        "generator_busy": reading.measured.generator_busy(),
        "connect_p50_ms": reading.connect_ms(50.0),
        "connect_p99_ms": reading.connect_ms(99.0),
    })
}
