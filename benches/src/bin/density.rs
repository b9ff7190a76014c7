//! What an idle document connection costs: memory of a node at no, half and all connections, and after their end.
#![allow(clippy::print_stdout, reason = "a measuring command reports on stdout")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use pinwire_benches::crowd::{Crowd, SOURCES};
use pinwire_benches::fleet::{Counts, on_last_processor};
use pinwire_benches::node::{self, NodeArgs, NodeUnderTest, Role};
use pinwire_benches::procfs::{Memory, slabs};
use pinwire_benches::report::{RESULTS, Report};
use pinwire_benches::tokens::{Mint, uuid};
use pinwire_node::cli::DriverArg;
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Readings of one moment; their median counts.
const READINGS: usize = 5;

/// Measures a node's memory per idle document connection
#[derive(Parser, Debug)]
#[command(name = "density")]
struct Args {
    #[command(subcommand)]
    role: Option<Role>,
    /// Connections in the end; memory is compared with half of them
    #[arg(long, default_value_t = 18_000)]
    connections: usize,
    /// Members of each document
    #[arg(long, default_value_t = 10)]
    members: usize,
    /// Data threads of the node
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// How the node talks to the kernel: one run for each
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["uring", "epoll"])]
    driver: Vec<DriverArg>,
    /// Bytes of awareness state per client, renewed every 15 s; 0 for none: one run for each
    #[arg(long, value_delimiter = ',', default_values = ["0", "60"])]
    presence: Vec<usize>,
    /// Seconds of idling before memory is read: more than a ping and an idle frame take
    #[arg(long, default_value_t = 35)]
    settle: u64,
    /// Bytes of user-space memory per connection that must not be exceeded without presence
    #[arg(long, default_value_t = 256)]
    bound: u64,
    /// Where the result goes
    #[arg(long, default_value = RESULTS)]
    out: PathBuf,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    if let Some(Role::Node(node)) = &args.role {
        node::serve(node)?;
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(
        args.connections >= 2 * args.members && args.members > 0,
        "too few connections for two documents"
    );
    let title = format!("Idle document connections: {} in documents of {}", args.connections, args.members);
    let mut report = Report::new("density", &title);
    let mut runs = Vec::new();
    for driver in &args.driver {
        for presence in &args.presence {
            println!("{driver:?}, {presence} bytes of presence:");
            let run = Run::measure(&args, *driver, *presence)?;
            println!("  {:.0} bytes per connection", run.slope());
            runs.push(run);
        }
    }
    write_report(&mut report, &args, &runs);
    println!("\n{}", report.text());
    println!("written to {}", report.save(&args.out)?.display());
    let is_within = runs.iter().filter(|run| run.presence == 0).all(|run| run.slope() <= args.bound as f64);
    Ok(if is_within { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Memory at one moment.
struct Moment {
    name: &'static str,
    connections: usize,
    memory: Memory,
    kernel: Option<BTreeMap<String, u64>>,
    /// What the clients met while it settled, and the least that one of them met.
    counts: Counts,
    least_pings: u32,
    least_data_frames: u32,
}

/// One driver, with or without presence.
struct Run {
    driver: DriverArg,
    presence: usize,
    moments: Vec<Moment>,
}

impl Run {
    fn measure(args: &Args, driver: DriverArg, presence: usize) -> Result<Self> {
        let secret = uuid();
        // Twice what an address needs: the limit is on, and lets everybody in.
        let connects_per_minute = u32::try_from(2 * args.connections.div_ceil(SOURCES))?.max(60);
        let node = NodeUnderTest::start(&NodeArgs {
            threads: args.threads,
            driver,
            secret: secret.clone(),
            public_key: None,
            connects_per_minute,
            ..NodeArgs::default()
        })?;
        let (settle, connections, members) =
            (Duration::from_secs(args.settle), args.connections, args.members);
        let (mint, pid) = (Mint::new(&secret)?, node.pid());
        let moments = on_last_processor(node.address(), async move |fleet| {
            Watched(Crowd::new(fleet, mint, members, presence)).measure(pid, connections, settle).await
        })?;
        node.stop()?;
        Ok(Self { driver, presence, moments })
    }

    fn moment(&self, name: &str) -> Option<&Moment> {
        self.moments.iter().find(|moment| moment.name == name)
    }

    /// Bytes per connection that the second half of the connections added.
    fn slope(&self) -> f64 {
        let (Some(half), Some(all)) = (self.moment("half"), self.moment("all")) else { return f64::NAN };
        per_connection(all.memory.anonymous, half.memory.anonymous, all.connections - half.connections)
    }
}

fn per_connection(after: u64, before: u64, connections: usize) -> f64 {
    (after as f64 - before as f64) / connections as f64
}

/// The clients of one run, whose node is looked at.
struct Watched(Crowd);

impl Watched {
    async fn measure(&mut self, pid: u32, connections: usize, settle: Duration) -> Result<Vec<Moment>> {
        // Whole documents at both moments.
        let members = self.0.members();
        let half = connections / 2 / members * members;
        let mut moments = vec![self.moment("none", 0, pid, Duration::from_secs(3)).await?];
        for (name, count) in [("half", half), ("all", connections)] {
            self.0.grow(count).await?;
            moments.push(self.moment(name, count, pid, settle).await?);
        }
        self.0.leave().await?;
        // Documents outlive their members by ten seconds.
        moments.push(self.moment("after", 0, pid, Duration::from_secs(20)).await?);
        Ok(moments)
    }

    /// Idles, then reads the node's memory.
    async fn moment(
        &mut self,
        name: &'static str,
        connections: usize,
        pid: u32,
        settle: Duration,
    ) -> Result<Moment> {
        let before: Vec<(u32, u32)> = self.0.fleet().each().collect();
        let counts_before = self.0.fleet().counts();
        self.0.idle(settle).await?;
        let mut readings = Vec::new();
        for _ in 0..READINGS {
            self.0.idle(Duration::from_secs(1)).await?;
            readings.push(Memory::of(pid)?);
        }
        readings.sort_by_key(|memory| memory.anonymous);
        let met = || self.0.fleet().each().zip(&before);
        let counts = self.0.fleet().counts();
        let moment = Moment {
            name,
            connections,
            memory: *readings.get(READINGS / 2).context("no reading")?,
            kernel: slabs(),
            counts: Counts {
                synced: counts.synced,
                pings: counts.pings - counts_before.pings,
                idle_frames: counts.idle_frames - counts_before.idle_frames,
                awareness_frames: counts.awareness_frames - counts_before.awareness_frames,
                data_frames: counts.data_frames - counts_before.data_frames,
                closed: counts.closed,
                resumed: counts.resumed,
            },
            least_pings: met().map(|((pings, _), before)| pings - before.0).min().unwrap_or(0),
            least_data_frames: met().map(|((_, frames), before)| frames - before.1).min().unwrap_or(0),
        };
        println!(
            "  {name:5} {connections:6} connections: {:9} kB anonymous ({} huge), {} pings, {} data frames",
            moment.memory.anonymous / 1024,
            moment.memory.huge / 1024,
            moment.counts.pings,
            moment.counts.data_frames
        );
        Ok(moment)
    }
}

fn write_report(report: &mut Report, args: &Args, runs: &[Run]) {
    report.heading("User-space memory of the node");
    report.paragraph(&format!(
        "Every limit, deadline and ping on; {} data thread(s); a token of its own per connection; {} s of idling before \
         each reading, the median of {READINGS}. *Slope*: what the second half of the connections added. *After*: all \
         closed, 20 s later.",
        args.threads, args.settle
    ));
    let kib = |bytes: u64| format!("{}", bytes / 1024);
    report.table(
        &[
            "driver",
            "presence",
            "none kB",
            "half kB",
            "all kB",
            "after kB",
            "huge pages at all, kB",
            "slope, anonymous",
            "slope, private dirty",
            "slope, RSS",
        ],
        runs.iter().map(|run| {
            let anonymous =
                |name| run.moment(name).map_or_else(String::new, |moment| kib(moment.memory.anonymous));
            let slope = |of: fn(&Memory) -> u64| match (run.moment("half"), run.moment("all")) {
                (Some(half), Some(all)) => {
                    let added = all.connections - half.connections;
                    format!("{:.0}", per_connection(of(&all.memory), of(&half.memory), added))
                }
                _ => String::new(),
            };
            vec![
                format!("{:?}", run.driver).to_lowercase(),
                format!("{} B", run.presence),
                anonymous("none"),
                anonymous("half"),
                anonymous("all"),
                anonymous("after"),
                run.moment("all").map_or_else(String::new, |moment| kib(moment.memory.huge)),
                format!("**{} B**", slope(|memory| memory.anonymous)),
                slope(|memory| memory.private_dirty),
                slope(|memory| memory.rss),
            ]
        }),
    );
    report.heading("What the clients met while memory settled");
    report.table(
        &[
            "driver",
            "presence",
            "moment",
            "pings (least of a client)",
            "idle frames",
            "awareness frames",
            "data frames (least)",
            "disconnects",
        ],
        runs.iter().flat_map(|run| {
            run.moments.iter().filter(|moment| moment.connections > 0).map(|moment| {
                vec![
                    format!("{:?}", run.driver).to_lowercase(),
                    format!("{} B", run.presence),
                    moment.name.to_owned(),
                    format!("{} ({})", moment.counts.pings, moment.least_pings),
                    moment.counts.idle_frames.to_string(),
                    moment.counts.awareness_frames.to_string(),
                    format!("{} ({})", moment.counts.data_frames, moment.least_data_frames),
                    // One would have ended the run.
                    "0".to_owned(),
                ]
            })
        }),
    );
    write_kernel(report, runs);
    report.raw(&json!(runs.iter().map(run_json).collect::<Vec<_>>()));
}

/// Kernel memory is counted for the whole machine: both ends of each connection, and whatever else ran.
fn write_kernel(report: &mut Report, runs: &[Run]) {
    report.heading("Kernel memory per connection, both ends");
    let mut rows = Vec::new();
    for run in runs {
        let slabs =
            |name| run.moment(name).and_then(|moment| Some((moment.connections, moment.kernel.as_ref()?)));
        let (Some((half_count, half)), Some((all_count, all))) = (slabs("half"), slabs("all")) else {
            continue;
        };
        let mut added: Vec<(&str, f64)> = all
            .iter()
            .map(|(name, bytes)| {
                let before = half.get(name).copied().unwrap_or(0);
                (name.as_str(), per_connection(*bytes, before, all_count - half_count))
            })
            .collect();
        added.sort_by(|a, b| b.1.total_cmp(&a.1));
        let largest: Vec<String> =
            added.iter().take(8).map(|(name, bytes)| format!("{name} {bytes:.0}")).collect();
        let total: f64 = added.iter().map(|(_, bytes)| bytes).sum();
        rows.push(vec![
            format!("{:?}", run.driver).to_lowercase(),
            format!("{} B", run.presence),
            format!("{total:.0}"),
            largest.join(", "),
        ]);
    }
    if rows.is_empty() {
        return report.paragraph("Not readable: it takes root.");
    }
    report.table(&["driver", "presence", "all slab caches", "the largest"], rows);
}

fn run_json(run: &Run) -> Value {
    let moments: Vec<Value> = run
        .moments
        .iter()
        .map(|moment| {
            json!({
                "moment": moment.name,
                "connections": moment.connections,
                "memory": moment.memory.to_json(),
                "pings": moment.counts.pings,
                "idle_frames": moment.counts.idle_frames,
                "awareness_frames": moment.counts.awareness_frames,
                "data_frames": moment.counts.data_frames,
                "least_pings": moment.least_pings,
                "least_data_frames": moment.least_data_frames,
            })
        })
        .collect();
    json!({
        "driver": format!("{:?}", run.driver).to_lowercase(),
        "presence": run.presence,
        "slope": run.slope(),
        "moments": moments,
    })
}
