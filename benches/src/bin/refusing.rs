//! What refusing a client costs a node, beside serving one.
#![allow(clippy::print_stdout, reason = "a measuring command reports on stdout")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use pinwire_benches::certificate::{Key, certify};
use pinwire_benches::cluster::pause;
use pinwire_benches::crowd::{Crowd, SOURCES};
use pinwire_benches::fleet::{FleetTls, engine_on_last_processor, on_last_processor};
use pinwire_benches::floor::refusing::{Refusing, THREAD};
use pinwire_benches::knocking::{Asks, Burst, Knocking, Told};
use pinwire_benches::node::{self, NodeArgs, NodeUnderTest, Role};
use pinwire_benches::procfs::{Memory, cpu, process_time};
use pinwire_benches::report::{RESULTS, Report};
use pinwire_benches::sides::on_first_processor;
use pinwire_benches::statistics::{Spread, order, paired};
use pinwire_benches::tokens::{Mint, uuid};
use pinwire_engine::{Config, Driver};
use pinwire_loadgen::scenario::Dialect;
use pinwire_node::cli::DriverArg;
use pinwire_tls::client_config;
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Members of each document.
const MEMBERS: usize = 10;
/// A node looks at its memory four times a second.
const LOOKED: Duration = Duration::from_secs(2);
/// Threads that clients live on.
const DATA_THREADS: &str = "data-";

/// Measures what refusing a client costs a node, beside serving one
#[derive(Parser, Debug)]
#[command(name = "refusing")]
struct Args {
    #[command(subcommand)]
    role: Option<Role>,
    /// Handshakes of each kind, over all rounds
    #[arg(long, default_value_t = 20_000)]
    clients: usize,
    /// Rounds: in each, every kind has its turn
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Clients between dialling and their answer at any moment
    #[arg(long, default_value_t = 128)]
    dialling: usize,
    /// The same of a herd over TLS, most of which is cut before its handshake
    #[arg(long, default_value_t = 1_000)]
    herd: usize,
    /// The command fails where a refusal in plain text costs more than this part of serving
    #[arg(long, default_value_t = 0.5)]
    bound: f64,
    /// How the node talks to the kernel
    #[arg(long, value_enum, default_value = "auto")]
    driver: DriverArg,
    /// Where the result goes
    #[arg(long, default_value = RESULTS)]
    out: PathBuf,
}

/// What becomes of the clients of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Served(Dialect),
    Refused(Asks),
    /// More at a time than are told why, over TLS.
    Herd,
    /// As the first of these that are refused, by a thread that does nothing but that.
    Floor,
}

const PLAIN: [Kind; 6] = [
    Kind::Served(Dialect::YWebsocket),
    Kind::Refused(Asks::YWebsocket),
    Kind::Refused(Asks::Close),
    Kind::Served(Dialect::Hocuspocus),
    Kind::Refused(Asks::Hocuspocus),
    Kind::Floor,
];
const TLS: [Kind; 6] = [PLAIN[0], PLAIN[1], PLAIN[2], PLAIN[3], PLAIN[4], Kind::Herd];

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Served(Dialect::YWebsocket) => "served, y-websocket",
            Self::Served(Dialect::Hocuspocus) => "served, Hocuspocus",
            Self::Refused(asks) => asks.name(),
            Self::Herd => "refused, a herd",
            Self::Floor => "the floor",
        }
    }

    /// What it is compared with.
    fn served(self) -> Self {
        match self {
            Self::Served(_) => self,
            Self::Refused(Asks::Hocuspocus) => Self::Served(Dialect::Hocuspocus),
            Self::Refused(_) | Self::Herd | Self::Floor => Self::Served(Dialect::YWebsocket),
        }
    }
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    if let Some(Role::Node(node)) = &args.role {
        node::serve(node)?;
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(args.rounds > 0 && args.clients / args.rounds >= MEMBERS, "nothing to measure");
    let mut report = Report::new("refusing", "Refusing clients, beside serving them");
    let files = tempfile::tempdir()?;
    let certified = certify(Key::P256, files.path())?;
    let plain = Cost::measure(&args, None, &PLAIN)?;
    let tls = Cost::measure(&args, Some(&certified), &TLS)?;
    write_report(&mut report, &args, [&plain, &tls]);
    println!("\n{}", report.text());
    println!("written to {}", report.save(&args.out)?.display());
    let refused = plain.ratios(Reading::process_us).filter(|(kind, _)| *kind != Kind::Floor);
    let is_within = refused.map(|(_, ratio)| ratio.median).fold(0.0, f64::max) <= args.bound;
    Ok(if is_within { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

type Certified = (PathBuf, PathBuf);

/// A node, and how its clients speak.
struct Server {
    node: NodeUnderTest,
    secret: String,
    tls: Option<FleetTls>,
}

impl Server {
    fn start(args: &Args, certified: Option<&Certified>, change: impl FnOnce(&mut NodeArgs)) -> Result<Self> {
        let secret = uuid();
        let (certificate, key) = certified.cloned().unzip();
        let dials = args.clients * TLS.len();
        let mut node = NodeArgs {
            driver: args.driver,
            secret: secret.clone(),
            // Twice what an address needs, were all in one minute.
            connects_per_minute: u32::try_from(2 * dials.div_ceil(SOURCES))?.max(60_000),
            certificate,
            key,
            ..NodeArgs::default()
        };
        change(&mut node);
        let node = on_first_processor(|| NodeUnderTest::start(&node))?;
        let tls = match certified {
            // Each client makes a whole handshake: those of a herd were mostly somewhere else before.
            Some(_) => Some(FleetTls { config: client_config(&pinwire_tls::Trust::Anybody)?, names: 1 }),
            None => None,
        };
        Ok(Self { node, secret, tls })
    }

    fn usage(pid: u32) -> Result<Usage> {
        let (data, _) = cpu(pid, DATA_THREADS)?;
        Ok(Usage { data: data.total, process: process_time(pid)?, anonymous: Memory::of(pid)?.anonymous })
    }

    /// So many clients connect, join and leave.
    fn serve(&self, kind: Kind, dialect: Dialect, count: usize) -> Result<Reading> {
        let (pid, tls) = (self.node.pid(), self.tls.clone());
        let mint = Mint::new(&self.secret)?;
        on_last_processor(self.node.address(), async move |mut fleet| {
            if let Some(tls) = tls {
                fleet.speak_tls(tls);
            }
            let mut crowd = Crowd::new(fleet, mint, MEMBERS, 0);
            crowd.speak(dialect);
            let before = Self::usage(pid)?;
            crowd.grow(count).await?;
            let joined = Self::usage(pid)?;
            let fleet = crowd.fleet();
            let bytes = (0..count).filter_map(|client| Some(fleet.joined(client)?.bytes)).sum();
            crowd.leave().await?;
            let after = Self::usage(pid)?;
            let told = Told { bytes, ..Told::default() };
            Ok(Reading { kind, count, before, answered: joined, after, told })
        })
    }

    /// So many clients are refused.
    fn refuse(&self, kind: Kind, asks: Asks, count: usize, dialling: usize) -> Result<Reading> {
        let (pid, tls) = (self.node.pid(), self.tls.clone());
        let mint = Mint::new(&self.secret)?;
        let may_be_cut = kind == Kind::Herd;
        let burst = Burst { asks, mint: &mint, count, dialling, per_second: None, may_be_cut };
        refused(kind, (self.node.address(), tls), &burst, || Self::usage(pid))
    }
}

/// So many clients are refused by whoever is at the address.
fn refused(
    kind: Kind,
    (address, tls): (SocketAddr, Option<FleetTls>),
    burst: &Burst<'_>,
    usage: impl Fn() -> Result<Usage> + Send,
) -> Result<Reading> {
    engine_on_last_processor(clients(), async move |engine| {
        let mut knocking = Knocking::new(engine, address, tls);
        let before = usage()?;
        let told = knocking.knock(burst).await?;
        let after = usage()?;
        Ok(Reading { kind, count: burst.count, before, answered: after, after, told })
    })
}

/// The same by the floor, which is a thread of this process.
fn refused_by_floor(floor: &Refusing, secret: &str, count: usize, dialling: usize) -> Result<Reading> {
    let mint = Mint::new(secret)?;
    let asks = Asks::YWebsocket;
    let burst = Burst { asks, mint: &mint, count, dialling, per_second: None, may_be_cut: false };
    refused(Kind::Floor, (floor.address(), None), &burst, || {
        let (thread, _) = cpu(std::process::id(), THREAD)?;
        Ok(Usage { data: thread.total, process: thread.total, anonymous: 0 })
    })
}

fn clients() -> Config {
    Config { driver: Driver::Epoll, ..Config::default() }
}

/// What a node used until a moment.
#[derive(Clone, Copy)]
struct Usage {
    /// Processor time of its data thread.
    data: Duration,
    /// The same of all its threads.
    process: Duration,
    /// Bytes of memory with no file behind it.
    anonymous: u64,
}

/// A turn of a kind.
struct Reading {
    kind: Kind,
    count: usize,
    before: Usage,
    /// When all had joined, or were refused.
    answered: Usage,
    /// When all were gone.
    after: Usage,
    told: Told,
}

impl Reading {
    fn each(&self, from: Duration, to: Duration) -> f64 {
        to.saturating_sub(from).as_secs_f64() * 1e6 / self.count as f64
    }

    /// Processor time of the process for a handshake.
    fn process_us(&self) -> f64 {
        self.each(self.before.process, self.answered.process)
    }

    /// The same of the data thread.
    fn data_us(&self) -> f64 {
        self.each(self.before.data, self.answered.data)
    }

    /// With its end: of a client that is refused this is the same.
    fn whole_us(&self) -> f64 {
        self.each(self.before.process, self.after.process)
    }

    /// Bytes that each of them added while they were there.
    fn growth(&self) -> f64 {
        (self.answered.anonymous as f64 - self.before.anonymous as f64) / self.count as f64
    }

    fn bytes(&self) -> f64 {
        self.told.bytes as f64 / self.count as f64
    }

    fn to_json(&self) -> Value {
        let waits = Spread::of(self.told.waits.iter().map(Duration::as_secs_f64));
        json!({
            "kind": self.kind.name(),
            "handshakes": self.count,
            "process_us": self.process_us(),
            "data_thread_us": self.data_us(),
            "whole_connection_us": self.whole_us(),
            "anonymous_before": self.before.anonymous,
            "anonymous_answered": self.answered.anonymous,
            "anonymous_after": self.after.anonymous,
            "bytes_to_client": self.told.bytes,
            "reasons": self.told.reasons,
            "cut": self.told.cut,
            "retry_after_s": waits.to_json(),
        })
    }
}

/// All kinds, in plain text or over TLS.
struct Cost {
    is_tls: bool,
    /// By round, in the order of the kinds.
    rounds: Vec<Vec<Reading>>,
}

impl Cost {
    fn measure(args: &Args, certified: Option<&Certified>, kinds: &[Kind]) -> Result<Self> {
        let is_tls = certified.is_some();
        let serving = Server::start(args, certified, |_| {})?;
        // It has more memory than it may have, so it takes nobody.
        let refusing = Server::start(args, certified, |node| node.max_memory = 1)?;
        let floor = on_first_processor(Refusing::start)?;
        pause(LOOKED);
        let count = args.clients / args.rounds / MEMBERS * MEMBERS;
        let turn = |kind: Kind| -> Result<Reading> {
            match kind {
                Kind::Served(dialect) => serving.serve(kind, dialect, count),
                Kind::Refused(asks) => refusing.refuse(kind, asks, count, args.dialling),
                Kind::Herd => refusing.refuse(kind, Asks::YWebsocket, count, args.herd),
                Kind::Floor => refused_by_floor(&floor, &serving.secret, count, args.dialling),
            }
            .with_context(|| kind.name())
        };
        let mut rounds = Vec::new();
        // One more before those that count: what a node has to make once is made then.
        for round in 0..=args.rounds {
            let mut readings: Vec<Option<Reading>> = kinds.iter().map(|_| None).collect();
            for at in order(kinds.len(), round) {
                let reading = turn(kinds[at])?;
                println!(
                    "{}round {round}: {}: {:.1} us each",
                    if is_tls { "TLS, " } else { "" },
                    reading.kind.name(),
                    reading.process_us()
                );
                readings[at] = Some(reading);
            }
            if round > 0 {
                rounds.push(readings.into_iter().flatten().collect());
            }
        }
        for server in [serving, refusing] {
            server.node.stop()?;
        }
        let cost = Self { is_tls, rounds };
        cost.ensure_as_promised()?;
        Ok(cost)
    }

    /// Refusals are those of a node that is overloaded, and those who are refused are asked to come at different times.
    fn ensure_as_promised(&self) -> Result<()> {
        for reading in self.rounds.iter().flatten().filter(|reading| reading.told.refused() > 0) {
            let waits = Spread::of(reading.told.waits.iter().map(Duration::as_secs_f64));
            let is_bounded = waits.least >= 1.0 && waits.greatest <= 120.0;
            ensure!(is_bounded && waits.least < waits.greatest, "Retry-After is {waits:?}");
            let known = ["overloaded", "1013"];
            let is_known = reading.told.reasons.keys().all(|reason| known.contains(&reason.as_str()));
            ensure!(is_known, "refused for {:?}", reading.told.reasons);
        }
        Ok(())
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = &Reading> {
        self.rounds.iter().flatten().filter(move |reading| reading.kind == kind)
    }

    fn spread(&self, kind: Kind, value: impl Fn(&Reading) -> f64) -> Spread {
        Spread::of(self.of(kind).map(value))
    }

    fn kinds(&self) -> impl Iterator<Item = Kind> {
        self.rounds.first().into_iter().flatten().map(|reading| reading.kind)
    }

    /// What refusing costs by what serving costs in the same round, of each kind that is refused.
    fn ratios(&self, value: impl Fn(&Reading) -> f64 + Copy) -> impl Iterator<Item = (Kind, Spread)> {
        self.kinds().filter(|kind| kind.served() != *kind).map(move |kind| {
            let values = |kind| -> Vec<f64> { self.of(kind).map(value).collect() };
            (kind, paired(&values(kind), &values(kind.served())))
        })
    }

    fn rows(&self) -> impl Iterator<Item = Vec<String>> {
        let by_process: Vec<(Kind, Spread)> = self.ratios(Reading::process_us).collect();
        let by_whole: Vec<(Kind, Spread)> = self.ratios(Reading::whole_us).collect();
        let of = |ratios: &[(Kind, Spread)], kind: Kind| {
            ratios.iter().find(|(of, _)| *of == kind).map_or(String::new(), |(_, ratio)| ratio.text(2))
        };
        let rows: Vec<Vec<String>> = self
            .kinds()
            .map(|kind| {
                let cut: usize = self.of(kind).map(|reading| reading.told.cut).sum();
                let waits =
                    self.of(kind).flat_map(|reading| reading.told.waits.iter().map(Duration::as_secs_f64));
                let waits = Spread::of(waits);
                let is_refused = kind.served() != kind;
                vec![
                    kind.name().to_owned(),
                    self.spread(kind, Reading::process_us).text(1),
                    self.spread(kind, Reading::data_us).text(1),
                    self.spread(kind, Reading::whole_us).text(1),
                    format!("**{}**", of(&by_process, kind)).replace("****", ""),
                    of(&by_whole, kind),
                    format!("{:.0}", self.spread(kind, Reading::bytes).median),
                    format!("{:.0}", self.spread(kind, Reading::growth).median),
                    if is_refused {
                        format!("{:.1} to {:.1}", waits.least, waits.greatest)
                    } else {
                        String::new()
                    },
                    if kind == Kind::Herd { cut.to_string() } else { String::new() },
                ]
            })
            .collect();
        rows.into_iter()
    }

    fn to_json(&self) -> Value {
        let rounds: Vec<Vec<Value>> =
            self.rounds.iter().map(|round| round.iter().map(Reading::to_json).collect()).collect();
        json!({ "tls": self.is_tls, "rounds": rounds })
    }
}

fn write_report(report: &mut Report, args: &Args, costs: [&Cost; 2]) {
    report.paragraph(&format!(
        "{} handshakes of each kind in {} rounds after one that does not count, {} under way at a time; kinds take turns in changing \
         order. Two nodes with one data thread each, both bound to the first processor, clients on the last one: one serves (upgrade, \
         a token of its own (HS256) checked, joined), the other is overloaded (it has more memory than `shedding.max_memory`) and \
         refuses. *A handshake* is processor time of the node's process from the first dial until the last client has joined, or was \
         refused and is gone; *whole connection* counts to the end of those that were served, too: with it like is compared with like. \
         With `?refuse=close` a client asks for a whole WebSocket with its closing handshake, since browsers show no app why HTTP was \
         refused. The floor is a thread that accepts, reads once, answers as the node does and closes, a blocking system call each, and \
         knows no limits, deadlines or other clients: nearly all of it is the kernel's. Ratios are taken round by round. \
         Medians, with the middle half of the rounds in parentheses. Bytes are those that a client is sent until then, those of TLS not \
         counted. Driver: {}.",
        args.clients,
        args.rounds,
        args.dialling,
        format!("{:?}", args.driver).to_lowercase(),
    ));
    for cost in costs {
        report.heading(if cost.is_tls { "TLS 1.3, ECDSA P-256" } else { "Plain text" });
        if cost.is_tls {
            report.paragraph(&format!(
                "Whoever is told why has made a handshake of TLS first, and that is what it costs. Of a herd ({} at a time) the first 256 \
                 are told; the others are cut before their handshake.",
                args.herd
            ));
        }
        report.table(
            &[
                "",
                "a handshake, us",
                "of that the data thread",
                "whole connection, us",
                "a handshake, refused / served",
                "whole connection, refused / served",
                "bytes",
                "memory, bytes",
                "come again after, s",
                "cut",
            ],
            cost.rows(),
        );
    }
    report.raw(&json!({ "costs": costs.map(Cost::to_json) }));
}
