//! A document of many one-character updates: what taking them in costs, joining it, and keeping it.
#![allow(clippy::print_stdout, reason = "a measuring command reports on stdout")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use pinwire_benches::fleet::{Dial, Fleet, Joined, on_last_processor};
use pinwire_benches::node::{self, Role};
use pinwire_benches::peers::Peers;
use pinwire_benches::procfs::{Memory, process_time};
use pinwire_benches::report::{RESULTS, Report};
use pinwire_benches::sides::{Side, Standing, available, source};
use pinwire_benches::tokens::{Mint, uuid};
use pinwire_benches::typing::{Receipt, Shape, Typing};
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Parts of the way whose processor time is told on its own.
const TENTHS: usize = 10;
/// The members before anybody joins for a measurement.
const WRITER: usize = 0;
const READER: usize = 1;
/// Longest time to join, or to leave.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the node may take, as a share of Hocuspocus.
const TARGET: f64 = 0.2;

/// Measures a long document on the node and its peers
#[derive(Parser, Debug)]
#[command(name = "long-document")]
struct Args {
    #[command(subcommand)]
    role: Option<Role>,
    /// Servers, in the order in which they take turns
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["node", "node-hocuspocus", "hocuspocus", "y-websocket", "y-sweet"])]
    side: Vec<Side>,
    /// Updates of one character
    #[arg(long, default_value_t = 100_000)]
    updates: u32,
    /// Updates that the writer has under way
    #[arg(long, default_value_t = 32)]
    in_flight: u32,
    /// Clients that join at the end, one after the other
    #[arg(long, default_value_t = 5)]
    joins: usize,
    /// Rounds: in each, every server gets both documents once
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Seconds after which a server is given up
    #[arg(long, default_value_t = 60)]
    limit: u64,
    /// Seconds between the last client's leaving and the reading of memory
    #[arg(long, default_value_t = 20)]
    settle: u64,
    /// Where the result goes
    #[arg(long, default_value = RESULTS)]
    out: PathBuf,
}

/// One document on one server.
#[derive(Clone, Debug)]
struct Outcome {
    side: Side,
    shape: Shape,
    /// Fewer than were asked for where the server was given up.
    updates: u32,
    time: Duration,
    cpu: Duration,
    /// Of each tenth that was finished: microseconds of processor time by update.
    tenths: Vec<f64>,
    joins: Vec<Joined>,
    join_cpu: Duration,
    /// Before the first client, with the document and its members, after all have left.
    memory: [Memory; 3],
}

impl Outcome {
    fn us_per_update(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / f64::from(self.updates)
    }

    /// The join that finds the document as it was left by the last update: what it takes to prepare is in it.
    fn first_join(&self) -> Option<Joined> {
        self.joins.first().copied()
    }

    /// Of the later ones, that whose time is the median.
    fn later_join(&self) -> Option<Joined> {
        let mut order: Vec<Joined> = self.joins.iter().skip(1).copied().collect();
        order.sort_by_key(|joined| joined.time);
        order.get(order.len() / 2).copied()
    }
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    if let Some(Role::Node(node)) = &args.role {
        node::serve(node)?;
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(
        args.updates >= 10 && args.in_flight > 0 && args.joins > 1 && args.rounds > 0,
        "nothing to measure"
    );
    let peers = Peers::install()?;
    let mut report =
        Report::new("long-document", &format!("A document of {} one-character updates", args.updates));
    let sides = available(&args.side, &peers, &mut report);
    let mut outcomes = Vec::new();
    for _ in 0..args.rounds {
        for shape in [Shape::Appended, Shape::Random] {
            for &side in &sides {
                let outcome = once(&args, side, shape, &peers)
                    .with_context(|| format!("{}, {}", side.name(), shape.name()))?;
                println!(
                    "{}, {}: {} updates, {:.1} us each; joins {:?}",
                    side.name(),
                    shape.name(),
                    outcome.updates,
                    outcome.us_per_update(),
                    outcome.joins.iter().map(|joined| joined.time).collect::<Vec<_>>()
                );
                outcomes.push(outcome);
            }
        }
    }
    write_report(&mut report, &args, &outcomes);
    println!("\n{}", report.text());
    println!("written to {}", report.save(&args.out)?.display());
    Ok(ExitCode::SUCCESS)
}

fn once(args: &Args, side: Side, shape: Shape, peers: &Peers) -> Result<Outcome> {
    let typing = Typing::new(shape, args.updates);
    let server = Standing::start(side, peers)?;
    let mint = server.secret().map(Mint::new).transpose()?;
    let pid = server.pid();
    let (in_flight, joins) = (args.in_flight, args.joins);
    let (limit, settle) = (Duration::from_secs(args.limit), Duration::from_secs(args.settle));
    let outcome = on_last_processor(server.address(), async move |fleet| {
        let receipt = Receipt::new(&typing, READER);
        let document = format!("long-{}", uuid());
        let mut session = Session { fleet, receipt, typing, side, mint, document, pid };
        session.measure(in_flight, joins, limit, settle, shape).await
    })?;
    server.stop()?;
    Ok(outcome)
}

struct Session {
    fleet: Fleet,
    receipt: Receipt,
    typing: Typing,
    side: Side,
    mint: Option<Mint>,
    document: String,
    pid: u32,
}

impl Session {
    async fn measure(
        &mut self,
        in_flight: u32,
        joins: usize,
        limit: Duration,
        settle: Duration,
        shape: Shape,
    ) -> Result<Outcome> {
        let before = Memory::of(self.pid)?;
        self.join().await?;
        self.join().await?;
        let (started, cpu) = (Instant::now(), process_time(self.pid)?);
        let (updates, tenths) = self.write(in_flight, started + limit).await?;
        let (time, cpu) = (started.elapsed(), process_time(self.pid)?.saturating_sub(cpu));
        let with_all = Memory::of(self.pid)?;
        let cpu_before = process_time(self.pid)?;
        let mut joined = Vec::new();
        for _ in 0..joins {
            let (member, how) = self.join().await?;
            joined.push(how);
            let got = self.receipt.take(member);
            if joined.len() == 1 {
                self.typing.verify(&got, updates)?;
            }
            self.fleet.close(member)?;
        }
        let join_cpu = process_time(self.pid)?.saturating_sub(cpu_before) / u32::try_from(joins)?;
        self.leave().await?;
        let after_leaving = Instant::now() + settle;
        while Instant::now() < after_leaving {
            self.fleet.turn(after_leaving, &mut self.receipt).await?;
        }
        let memory = [before, with_all, Memory::of(self.pid)?];
        Ok(Outcome { side: self.side, shape, updates, time, cpu, tenths, joins: joined, join_cpu, memory })
    }

    /// One more member joins; gives its number and how it got in sync.
    async fn join(&mut self) -> Result<(usize, Joined)> {
        let token = self.mint.as_ref().map(Mint::token).transpose()?;
        let member = self.fleet.dial(Dial {
            source: source(0),
            path: self.side.path(),
            document: &self.document,
            token: token.as_deref(),
            dialect: self.side.dialect(),
            presence: None,
        })?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(joined) = self.fleet.joined(member) {
                return Ok((member, joined));
            }
            ensure!(Instant::now() < deadline, "a client does not get in sync");
            self.fleet.turn(deadline, &mut self.receipt).await?;
        }
    }

    /// Types until all is written, or until the deadline; then waits for what is under way. Gives the number of updates
    /// written, and the microseconds by update of each tenth.
    async fn write(&mut self, in_flight: u32, deadline: Instant) -> Result<(u32, Vec<f64>)> {
        let count = self.typing.count();
        let tenth = (count / TENTHS as u32).max(1);
        let (mut sent, mut tenths) = (0, Vec::new());
        let mut mark = process_time(self.pid)?;
        while sent < count && Instant::now() < deadline {
            while sent < count && sent < self.receipt.landed() + in_flight {
                self.fleet.edit(WRITER, self.typing.update(sent))?;
                sent += 1;
            }
            self.fleet.turn(deadline, &mut self.receipt).await?;
            self.mark_tenth(tenth, &mut mark, &mut tenths)?;
        }
        let patience = Instant::now() + PATIENCE;
        while self.receipt.landed() < sent {
            ensure!(
                Instant::now() < patience,
                "updates were lost: the reader has {} of {sent}",
                self.receipt.landed()
            );
            self.fleet.turn(patience, &mut self.receipt).await?;
        }
        self.mark_tenth(tenth, &mut mark, &mut tenths)?;
        Ok((sent, tenths))
    }

    fn mark_tenth(&self, tenth: u32, mark: &mut Duration, tenths: &mut Vec<f64>) -> Result<()> {
        if self.receipt.landed() < tenth * (tenths.len() as u32 + 1) {
            return Ok(());
        }
        let now = process_time(self.pid)?;
        tenths.push((now.saturating_sub(*mark)).as_secs_f64() * 1e6 / f64::from(tenth));
        *mark = now;
        Ok(())
    }

    async fn leave(&mut self) -> Result<()> {
        self.fleet.close_all()?;
        let deadline = Instant::now() + PATIENCE;
        while self.fleet.counts().closed < self.fleet.each().count() {
            ensure!(Instant::now() < deadline, "connections do not end");
            self.fleet.turn(deadline, &mut self.receipt).await?;
        }
        Ok(())
    }
}

fn write_report(report: &mut Report, args: &Args, outcomes: &[Outcome]) {
    report.paragraph(&format!(
        "One writer types {} characters, {} updates under way, and one member reads along; an update has arrived when the \
         reader has it. Then {} clients join, one after the other: from dialling to the whole document, and the bytes of that; \
         the first one, for whom a server may have to prepare the document, and the median of the others. The first has the text that was typed, by yrs, or the run would have failed. CPU is that \
         of the server's process, all threads. Memory is that without a file behind it: before the first client, with the \
         document and two members, and {} s after the last has left. A server that is not through after {} s is given up: \
         its figures are those of the updates it took.",
        args.updates, args.in_flight, args.joins, args.settle, args.limit
    ));
    let mib = |memory: &Memory| format!("{:.1}", memory.anonymous as f64 / 1_048_576.0);
    report.table(
        &[
            "document",
            "server",
            "updates",
            "updates/s",
            "CPU us per update",
            "first join ms",
            "later joins ms",
            "CPU ms of a join",
            "kB of a join",
            "before MiB",
            "with it MiB",
            "after MiB",
        ],
        outcomes.iter().map(|one| {
            let ms = |join: Option<Joined>| {
                join.map_or_else(String::new, |join| format!("**{:.2}**", join.time.as_secs_f64() * 1e3))
            };
            vec![
                one.shape.name().to_owned(),
                one.side.name().to_owned(),
                if one.updates < args.updates {
                    format!("{} (given up)", one.updates)
                } else {
                    one.updates.to_string()
                },
                format!("{:.0}", f64::from(one.updates) / one.time.as_secs_f64()),
                format!("**{:.2}**", one.us_per_update()),
                ms(one.first_join()),
                ms(one.later_join()),
                format!("{:.2}", one.join_cpu.as_secs_f64() * 1e3),
                one.first_join().map_or_else(String::new, |join| format!("{:.0}", join.bytes as f64 / 1e3)),
                mib(&one.memory[0]),
                mib(&one.memory[1]),
                mib(&one.memory[2]),
            ]
        }),
    );
    report.heading("CPU us per update, in each tenth");
    let head: Vec<String> = ["document".to_owned(), "server".to_owned()]
        .into_iter()
        .chain((1..=TENTHS).map(|tenth| tenth.to_string()))
        .collect();
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    report.table(
        &head,
        outcomes.iter().map(|one| {
            let mut row = vec![one.shape.name().to_owned(), one.side.name().to_owned()];
            row.extend(one.tenths.iter().map(|us| format!("{us:.1}")));
            row.resize(TENTHS + 2, String::new());
            row
        }),
    );
    report.heading("Memory given back");
    report.paragraph(
        "What is left after all have gone, beyond the start, as a share of what the document had added.",
    );
    report.table(
        &["document", "server", "added MiB", "left MiB", "share"],
        outcomes.iter().map(|one| {
            let [before, with, after] = one.memory.map(|memory| memory.anonymous as f64 / 1_048_576.0);
            vec![
                one.shape.name().to_owned(),
                one.side.name().to_owned(),
                format!("{:.1}", with - before),
                format!("{:.1}", after - before),
                format!("{:.2}", (after - before) / (with - before)),
            ]
        }),
    );
    report.heading("The node by Hocuspocus");
    report.table(
        &["document", "what", "node", "Hocuspocus", "share", "target", ""],
        [Shape::Appended, Shape::Random].into_iter().flat_map(|shape| comparison(outcomes, shape)),
    );
    report.raw(&json!(outcomes.iter().map(outcome_json).collect::<Vec<_>>()));
}

fn comparison(outcomes: &[Outcome], shape: Shape) -> Vec<Vec<String>> {
    let of = |side| outcomes.iter().find(|one| one.shape == shape && one.side == side);
    let (Some(node), Some(peer)) = (of(Side::NodeHocuspocus), of(Side::Hocuspocus)) else {
        return Vec::new();
    };
    let row = |what: &str, node: f64, peer: f64| {
        let share = node / peer;
        let verdict = if share <= TARGET { "met" } else { "**missed**" };
        vec![
            shape.name().to_owned(),
            what.to_owned(),
            format!("{node:.2}"),
            format!("{peer:.2}"),
            format!("{share:.2}"),
            TARGET.to_string(),
            verdict.to_owned(),
        ]
    };
    let mut rows = vec![row("CPU us per update", node.us_per_update(), peer.us_per_update())];
    let joins = [
        ("first join ms", node.first_join(), peer.first_join()),
        ("later joins ms", node.later_join(), peer.later_join()),
    ];
    for (what, mine, theirs) in joins {
        if let (Some(mine), Some(theirs)) = (mine, theirs) {
            rows.push(row(what, mine.time.as_secs_f64() * 1e3, theirs.time.as_secs_f64() * 1e3));
        }
    }
    rows
}

fn outcome_json(one: &Outcome) -> Value {
    let joins: Vec<Value> = one
        .joins
        .iter()
        .map(|joined| json!({ "ms": joined.time.as_secs_f64() * 1e3, "bytes": joined.bytes }))
        .collect();
    json!({
        "document": one.shape.name(),
        "server": one.side.name(),
        "updates": one.updates,
        "seconds": one.time.as_secs_f64(),
        "server_seconds": one.cpu.as_secs_f64(),
        "us_per_update_by_tenth": one.tenths,
        "joins": joins,
        "join_server_seconds": one.join_cpu.as_secs_f64(),
        "memory": one.memory.map(Memory::to_json),
    })
}
