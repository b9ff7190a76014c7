//! A million idle, authenticated document connections on one node, and an update for every one of them.
#![allow(clippy::print_stdout, reason = "a measuring command reports on stdout")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use pinwire_benches::crowd::{Crowd, SOURCES};
use pinwire_benches::edits::append_edit;
use pinwire_benches::fleet::{Counts, Watcher, on_last_processor_with};
use pinwire_benches::node::{self, NodeArgs, NodeUnderTest, Role};
use pinwire_benches::procfs::{Cpu, Memory, cpu, slabs};
use pinwire_benches::report::{RESULTS, Report};
use pinwire_benches::tokens::{Mint, uuid};
use pinwire_engine::{Config, Driver, RINGS_MAX};
use pinwire_node::cli::DriverArg;
use pinwire_protocol::document::update;
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Documents whose edit not every member has yet, at any moment.
const UNDER_WAY: usize = 256;
/// Longest time without progress.
const PATIENCE: Duration = Duration::from_secs(60);

/// Holds very many idle document connections on one node, then has every one of them receive an update
#[derive(Parser, Debug)]
#[command(name = "million")]
struct Args {
    #[command(subcommand)]
    role: Option<Role>,
    /// Connections, in whole documents
    #[arg(long, default_value_t = 1_000_000)]
    connections: usize,
    /// Members of each document
    #[arg(long, default_value_t = 10)]
    members: usize,
    /// Seconds for which they idle, pings and idle frames going on
    #[arg(long, default_value_t = 60)]
    hold: u64,
    /// Documents a second in which somebody edits at the end: pings and idle frames of a million leave the clients' thread
    /// little room
    #[arg(long, default_value_t = 1_000.0)]
    edits_per_second: f64,
    /// Data threads of the node
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Where the result goes
    #[arg(long, default_value = RESULTS)]
    out: PathBuf,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(Role::Node(node)) = &args.role {
        return node::serve(node);
    }
    ensure!(args.members >= 2, "an update needs a member that receives it");
    ensure!(args.connections.is_multiple_of(args.members), "documents must be whole");
    let title = format!("{} idle document connections on one node", args.connections);
    let mut report = Report::new("million", &title);
    let secret = uuid();
    let max_connections = u32::try_from(args.connections)?;
    let node = NodeUnderTest::start(&NodeArgs {
        threads: args.threads,
        driver: DriverArg::Uring,
        secret: secret.clone(),
        // Twice what an address needs: the limit is on, and lets everybody in.
        connects_per_minute: u32::try_from(2 * args.connections.div_ceil(SOURCES))?.max(60),
        max_connections,
        rings: RINGS_MAX,
        ..NodeArgs::default()
    })?;
    let (mint, pid) = (Mint::new(&secret)?, node.pid());
    let clients = Config {
        driver: Driver::Uring,
        slots_max: max_connections,
        rings: RINGS_MAX,
        reads_per_turn: 512,
        ..Config::default()
    };
    let (connections, members, hold) = (args.connections, args.members, Duration::from_secs(args.hold));
    let edits_per_second = args.edits_per_second;
    let outcome = on_last_processor_with(clients, node.address(), async move |fleet| {
        let rings = fleet.rings();
        let crowd = Crowd::new(fleet, mint, members, 0);
        let mut host = Host { crowd, pid, connections, hold, edits_per_second };
        host.measure(rings).await
    })?;
    node.stop()?;
    write_report(&mut report, &args, &outcome);
    println!("\n{}", report.text());
    println!("written to {}", report.save(&args.out)?.display());
    Ok(())
}

/// The machine and both processes at one moment.
struct Reading {
    at: Instant,
    node: Memory,
    clients: Memory,
    data_threads: Cpu,
    clients_cpu: Cpu,
    /// Kernel memory of the whole machine.
    kernel: u64,
    slabs: Option<BTreeMap<String, u64>>,
}

impl Reading {
    fn of(pid: u32) -> Result<Self> {
        let own = std::process::id();
        let caches = slabs();
        Ok(Self {
            at: Instant::now(),
            node: Memory::of(pid)?,
            clients: Memory::of(own)?,
            data_threads: cpu(pid, "data-")?.0,
            clients_cpu: cpu(own, "")?.1,
            kernel: kernel_memory()?,
            slabs: caches,
        })
    }
}

/// What the kernel holds for itself: slab caches and per-processor memory are where sockets and polls are.
fn kernel_memory() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).context("a line of meminfo")?;
        let number = line.trim_start_matches(':').trim().trim_end_matches(" kB").trim();
        anyhow::Ok(number.parse::<u64>()? * 1024)
    };
    Ok(field("Slab")? + field("PageTables")? + field("KernelStack")? + field("VmallocUsed")?)
}

/// What one stretch of the run cost and met.
struct Stretch {
    name: &'static str,
    time: Duration,
    node_cpu: Cpu,
    clients_cpu: Cpu,
    counts: Counts,
}

struct Outcome {
    rings: u32,
    before: Reading,
    held: Reading,
    stretches: Vec<Stretch>,
    least_pings: u32,
    least_data_frames: u32,
    received: usize,
    after: Memory,
}

struct Host {
    crowd: Crowd,
    pid: u32,
    connections: usize,
    hold: Duration,
    edits_per_second: f64,
}

impl Host {
    async fn measure(&mut self, rings: u32) -> Result<Outcome> {
        let mut stretches = Vec::new();
        let before = Reading::of(self.pid)?;
        let mut mark = (Reading::of(self.pid)?, self.crowd.fleet().counts());

        self.crowd.grow(self.connections).await?;
        self.end(&mut mark, "connect, upgrade, sync", &mut stretches)?;

        let met: Vec<(u32, u32)> = self.crowd.fleet().each().collect();
        self.crowd.idle(self.hold).await?;
        self.end(&mut mark, "idle", &mut stretches)?;
        let held = Reading::of(self.pid)?;
        let since = || self.crowd.fleet().each().zip(&met);
        let least_pings = since().map(|((pings, _), before)| pings - before.0).min().unwrap_or(0);
        let least_data_frames = since().map(|((_, frames), before)| frames - before.1).min().unwrap_or(0);

        // Two rounds with different writers: in the second, those who wrote in the first receive.
        let mut tally = Tally::new(self.connections, self.crowd.members());
        for writer in 0..2 {
            tally.writer = writer;
            self.round(&mut tally).await?;
        }
        self.end(&mut mark, "an update to each", &mut stretches)?;
        let received = tally.received.iter().filter(|count| **count > 0).count();
        ensure!(received == self.connections, "{received} of {} received an update", self.connections);

        self.crowd.leave().await?;
        self.end(&mut mark, "leave", &mut stretches)?;
        // Documents outlive their members by ten seconds.
        self.crowd.idle(Duration::from_secs(20)).await?;
        let after = Memory::of(self.pid)?;
        Ok(Outcome { rings, before, held, stretches, least_pings, least_data_frames, received, after })
    }

    /// Ends a stretch of the run and begins the next.
    fn end(
        &self,
        mark: &mut (Reading, Counts),
        name: &'static str,
        stretches: &mut Vec<Stretch>,
    ) -> Result<()> {
        let now = (Reading::of(self.pid)?, self.crowd.fleet().counts());
        let stretch = Stretch {
            name,
            time: now.0.at.duration_since(mark.0.at),
            node_cpu: now.0.data_threads.since(mark.0.data_threads),
            clients_cpu: now.0.clients_cpu.since(mark.0.clients_cpu),
            counts: between(mark.1, now.1),
        };
        println!(
            "{name}: {:.1} s, node {:.1} s of CPU, clients {:.1} s; node {} MB, clients {} MB, kernel {} MB",
            stretch.time.as_secs_f64(),
            stretch.node_cpu.total.as_secs_f64(),
            stretch.clients_cpu.total.as_secs_f64(),
            now.0.node.anonymous >> 20,
            now.0.clients.anonymous >> 20,
            now.0.kernel >> 20,
        );
        stretches.push(stretch);
        *mark = now;
        Ok(())
    }

    /// One member of every document edits, and all others must get exactly that edit.
    async fn round(&mut self, tally: &mut Tally) -> Result<()> {
        let documents = self.connections / self.crowd.members();
        let (mut begun, mut edit) = (0, Vec::new());
        let since = Instant::now();
        let mut progress = (0, Instant::now());
        tally.complete = 0;
        while tally.complete < documents {
            let due = documents.min((since.elapsed().as_secs_f64() * self.edits_per_second) as usize);
            while begun < due && begun - tally.complete < UNDER_WAY {
                let writer = begun * self.crowd.members() + tally.writer;
                edit.clear();
                append_edit(&mut edit, yjs_client(writer), 0);
                self.crowd.fleet_mut().edit(writer, &edit)?;
                begun += 1;
            }
            if progress.0 != tally.complete {
                progress = (tally.complete, Instant::now());
            }
            ensure!(progress.1.elapsed() < PATIENCE, "{} documents lack their edit", begun - tally.complete);
            self.crowd.fleet_mut().turn(Instant::now() + Duration::from_millis(10), tally).await?;
        }
        Ok(())
    }
}

/// The Yjs client number of a connection's document.
fn yjs_client(connection: usize) -> u64 {
    1 + connection as u64
}

/// What was met between two readings; nothing where all have left, since clients that are gone are forgotten.
fn between(before: Counts, after: Counts) -> Counts {
    Counts {
        synced: after.synced.saturating_sub(before.synced),
        pings: after.pings.saturating_sub(before.pings),
        idle_frames: after.idle_frames.saturating_sub(before.idle_frames),
        awareness_frames: after.awareness_frames.saturating_sub(before.awareness_frames),
        data_frames: after.data_frames.saturating_sub(before.data_frames),
        closed: after.closed.saturating_sub(before.closed),
        resumed: after.resumed.saturating_sub(before.resumed),
    }
}

/// Who received what.
struct Tally {
    members: usize,
    /// Place of this round's writers in their documents.
    writer: usize,
    /// Updates that each connection received.
    received: Vec<u8>,
    /// Updates that each document delivered in this round.
    delivered: Vec<u16>,
    /// Documents all of whose readers have this round's update.
    complete: usize,
    expected: Vec<u8>,
}

impl Tally {
    fn new(connections: usize, members: usize) -> Self {
        Self {
            members,
            writer: 0,
            received: vec![0; connections],
            delivered: vec![0; connections / members],
            complete: 0,
            expected: Vec::new(),
        }
    }
}

impl Watcher for Tally {
    fn update(&mut self, client: usize, update: &[u8]) -> Result<()> {
        if update == update::EMPTY {
            return Ok(());
        }
        let document = client / self.members;
        let writer = document * self.members + self.writer;
        self.expected.clear();
        append_edit(&mut self.expected, yjs_client(writer), 0);
        ensure!(update == self.expected, "client {client} was sent another update than was made");
        // In the second round a reader of the first has one already, and so has nobody two.
        let before = u8::from(self.writer == 1 && !client.is_multiple_of(self.members));
        if client == writer || self.received[client] != before {
            bail!("client {client} was sent an update twice, or its own");
        }
        self.received[client] += 1;
        self.delivered[document] += 1;
        if usize::from(self.delivered[document]) == self.members - 1 {
            self.delivered[document] = 0;
            self.complete += 1;
        }
        Ok(())
    }
}

fn write_report(report: &mut Report, args: &Args, outcome: &Outcome) {
    let connections = args.connections as f64;
    let Outcome { before, held, .. } = outcome;
    report.paragraph(&format!(
        "One node with {} data thread(s) on io_uring, clients on one thread of another process with {} rings; {} source \
         addresses; documents of {}; every connection with a token, `sub` and `jti` of its own; every limit, deadline and \
         ping on. The run fails where a connection is refused, ends, or is sent anything but its share: so none was.",
        args.threads, outcome.rings, SOURCES, args.members
    ));
    report.heading("Memory");
    let each = |before: u64, after: u64| format!("{:.0}", (after as f64 - before as f64) / connections);
    let mib = |bytes: u64| format!("{}", bytes >> 20);
    let row = |what: &str, before: u64, after: u64| {
        vec![what.to_owned(), mib(before), mib(after), each(before, after)]
    };
    report.table(
        &["what", "before, MiB", "held, MiB", "bytes per connection"],
        [
            row("node, user space (anonymous)", before.node.anonymous, held.node.anonymous),
            row("node, resident", before.node.rss, held.node.rss),
            row("clients, user space (anonymous)", before.clients.anonymous, held.clients.anonymous),
            row("kernel, both ends (slab, page tables, stacks, vmalloc)", before.kernel, held.kernel),
        ],
    );
    if let (Some(old), Some(new)) = (&before.slabs, &held.slabs) {
        let mut grown: Vec<(&String, f64)> = new
            .iter()
            .map(|(name, bytes)| (name, (*bytes as f64 - old.get(name).copied().unwrap_or(0) as f64)))
            .collect();
        grown.sort_by(|a, b| b.1.total_cmp(&a.1));
        let largest: Vec<String> =
            grown.iter().take(10).map(|(name, bytes)| format!("{name} {:.0}", bytes / connections)).collect();
        report.paragraph(&format!(
            "The kernel's largest caches, bytes per connection with both its ends: {}.",
            largest.join(", ")
        ));
    }
    report.paragraph(&format!(
        "After all had left, and 20 s: node {} MiB of anonymous memory (before the first connection {}).",
        mib(outcome.after.anonymous),
        mib(before.node.anonymous)
    ));
    report.heading("Stretches of the run");
    report.table(
        &[
            "stretch",
            "seconds",
            "connections/s",
            "data thread busy",
            "CPU us per connection",
            "clients busy",
            "pings",
            "data frames",
        ],
        outcome.stretches.iter().map(|stretch| {
            let seconds = stretch.time.as_secs_f64();
            let share = |cpu: Cpu| format!("{:.0} %", 100.0 * cpu.total.as_secs_f64() / seconds);
            vec![
                stretch.name.to_owned(),
                format!("{seconds:.1}"),
                format!("{:.0}", connections / seconds),
                share(stretch.node_cpu),
                format!("{:.1}", 1e6 * stretch.node_cpu.total.as_secs_f64() / connections),
                share(stretch.clients_cpu),
                stretch.counts.pings.to_string(),
                stretch.counts.data_frames.to_string(),
            ]
        }),
    );
    report.paragraph(&format!(
        "While idle each connection got at least {} ping(s) and {} data frame(s). {} of {} connections received an update \
         that another member made; each was compared byte for byte.",
        outcome.least_pings, outcome.least_data_frames, outcome.received, args.connections
    ));
    report.raw(&json!({
        "connections": args.connections,
        "members": args.members,
        "node_threads": args.threads,
        "client_rings": outcome.rings,
        "node": { "before": before.node.to_json(), "held": held.node.to_json(), "after": outcome.after.to_json() },
        "clients": { "before": before.clients.to_json(), "held": held.clients.to_json() },
        "kernel": { "before": before.kernel, "held": held.kernel },
        "slabs": { "before": before.slabs, "held": held.slabs },
        "received": outcome.received,
        "least_pings": outcome.least_pings,
        "least_data_frames": outcome.least_data_frames,
        "stretches": outcome.stretches.iter().map(|stretch| json!({
            "name": stretch.name,
            "seconds": stretch.time.as_secs_f64(),
            "node_seconds": stretch.node_cpu.total.as_secs_f64(),
            "node_user_share": stretch.node_cpu.user_share(),
            "clients_seconds": stretch.clients_cpu.total.as_secs_f64(),
            "pings": stretch.counts.pings,
            "idle_frames": stretch.counts.idle_frames,
            "data_frames": stretch.counts.data_frames,
        })).collect::<Vec<_>>(),
    }));
}
