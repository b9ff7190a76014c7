//! What a registry on Redis costs: claims a second and their latency, memory of a pin, and the traffic of a node when nothing changes.
#![allow(clippy::print_stdout, reason = "a measuring command reports on stdout")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use pinwire_benches::report::{RESULTS, Report};
use pinwire_redis::rig::{Options, ServerRig};
use pinwire_registry::{
    Answer, AppName, Claim, Claimed, DocumentName, Node, NodeView, RedisRegistry, Registry, Request,
};
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// As the default configuration has it.
const LEASE_US: u64 = 20_000_000;
const RENEW_EVERY: Duration = Duration::from_secs(5);
/// Pins asserted by one request.
const PIECE: usize = 200;

/// Measures what a registry on Redis costs
#[derive(Parser, Debug)]
#[command(name = "registry")]
struct Args {
    /// Seconds of claims, for each number of claims under way
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Claims under way at once
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64, 256])]
    under_way: Vec<usize>,
    /// Pins of the node whose traffic is read
    #[arg(long, default_value_t = 100_000)]
    pins: usize,
    /// Renewals over which its traffic is read
    #[arg(long, default_value_t = 20)]
    renewals: u32,
    /// Where the result goes
    #[arg(long, default_value = RESULTS)]
    out: PathBuf,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(args))
}

async fn measure(args: &Args) -> Result<()> {
    let mut report = Report::new("registry", "A registry on Redis: what claims, pins and leases cost");
    report.paragraph(
        "One Redis server without persistence and one node on the same machine, over one connection, the node on a \
         single thread. A claim is one script, which pins an idle document; latency is from asking to the answer, so with many claims under \
         way it is their queue.",
    );
    let mut claims = Vec::new();
    for under_way in &args.under_way {
        claims.push(claims_of(*under_way, Duration::from_secs(args.seconds)).await?);
    }
    let row = |reading: &Value| {
        ["under_way", "a_second", "p50_us", "p99_us", "server_us"]
            .map(|name| reading[name].to_string())
            .to_vec()
    };
    let head = ["claims under way", "claims a second", "p50 us", "p99 us", "processor of Redis, us a claim"];
    report.table(&head, claims.iter().map(row));

    let quiet = quiet_traffic(args).await?;
    report.heading("A node when nothing changes");
    report.paragraph(
        "Between renewals a node sends nothing. A renewal is one script in all (in a Cluster one for each of 16 partitions), every 5 s by \
         default. Memory is what Redis uses more with the pins than without them.",
    );
    let row = |reading: &Value| {
        ["pins", "bytes_in", "bytes_out", "calls", "bytes_a_second", "memory_per_pin"]
            .map(|name| reading[name].to_string())
            .to_vec()
    };
    let head = [
        "pins",
        "bytes to Redis a renewal",
        "bytes back",
        "calls",
        "bytes a second, both ways",
        "memory, bytes a pin",
    ];
    report.table(&head, quiet.iter().map(row));
    report.raw(&json!({ "claims": claims, "quiet": quiet }));
    println!("{}", report.text());
    println!("{}", report.save(&args.out)?.display());
    Ok(())
}

/// Claims of idle documents, so many under way at any time.
async fn claims_of(under_way: usize, time: Duration) -> Result<Value> {
    let server = ServerRig::start(&Options::default());
    let registry = RedisRegistry::new(server.link());
    let node = register(&registry).await?;
    let (before, began, next) = (processor_us(&server)?, Instant::now(), AtomicU64::new(0));
    let claimers = (0..under_way).map(|_| async {
        let mut latencies = Vec::new();
        while began.elapsed() < time {
            let (name, asked) = (next.fetch_add(1, Ordering::Relaxed), Instant::now());
            let request = Request::Claim {
                document: document(name),
                node: node.clone(),
                nonce: name,
                hold: 1,
                max_documents: u32::MAX,
                grace_us: 10_000_000,
            };
            match registry.ask(request).await.map_err(|error| anyhow::anyhow!("{}", error.reason))? {
                Answer::Claimed(Claimed::Held { is_new: true, .. }) => {}
                other => bail!("a claim was answered by {other:?}"),
            }
            latencies.push(asked.elapsed().as_micros());
        }
        Ok(latencies)
    });
    let mut latencies: Vec<u128> =
        futures_util::future::try_join_all(claimers).await?.into_iter().flatten().collect();
    let (passed, spent) = (began.elapsed(), processor_us(&server)? - before);
    latencies.sort_unstable();
    ensure!(!latencies.is_empty(), "no claim was answered");
    let at = |part: usize| u64::try_from(latencies[(latencies.len() - 1) * part / 100]).unwrap_or(u64::MAX);
    let count = latencies.len() as f64;
    Ok(json!({
        "under_way": under_way,
        "a_second": (count / passed.as_secs_f64()).round(),
        "p50_us": at(50),
        "p99_us": at(99),
        "server_us": (spent / count * 10.0).round() / 10.0,
    }))
}

/// A node's renewals with no pins and with many.
async fn quiet_traffic(args: &Args) -> Result<Vec<Value>> {
    let server = ServerRig::start(&Options::default());
    let registry = RedisRegistry::new(server.link());
    let node = register(&registry).await?;
    let empty = info(&server, "memory", "used_memory")?;
    let mut readings = vec![renewals(&server, &registry, &node, args.renewals).await?];
    let pins: Vec<_> = (0..args.pins as u64)
        .map(|name| (document(name), Claim { epoch: name + 1, nonce: u64::MAX - name }, 1))
        .collect();
    for piece in pins.chunks(PIECE) {
        let request = Request::Assert { node: node.clone(), pins: piece.to_vec(), grace_us: 10_000_000 };
        match registry.ask(request).await.map_err(|error| anyhow::anyhow!("{}", error.reason))? {
            Answer::Asserted(Some(_)) => {}
            other => bail!("an assertion was answered by {other:?}"),
        }
    }
    let memory = (info(&server, "memory", "used_memory")? - empty) / args.pins as f64;
    readings.push(renewals(&server, &registry, &node, args.renewals).await?);
    for (reading, (pins, memory)) in
        readings.iter_mut().zip([(0, Value::Null), (args.pins, json!(memory.round()))])
    {
        reading["pins"] = json!(pins);
        reading["memory_per_pin"] = memory;
    }
    Ok(readings)
}

async fn renewals(server: &ServerRig, registry: &RedisRegistry, node: &Node, count: u32) -> Result<Value> {
    let read = || -> Result<[f64; 3]> {
        Ok([
            info(server, "stats", "total_net_input_bytes")?,
            info(server, "stats", "total_net_output_bytes")?,
            calls(server)?,
        ])
    };
    // The first one may bring the script along.
    renew(registry, node).await?;
    // Reading costs something as well: that of reading twice is taken off.
    let (first, before) = (read()?, read()?);
    for _ in 0..count {
        renew(registry, node).await?;
    }
    let after = read()?;
    let of = |index: usize| {
        let reading = before[index] - first[index];
        ((after[index] - before[index] - reading) / f64::from(count)).round()
    };
    let a_second = (of(0) + of(1)) / RENEW_EVERY.as_secs_f64();
    Ok(json!({ "bytes_in": of(0), "bytes_out": of(1), "calls": of(2), "bytes_a_second": a_second.round() }))
}

async fn renew(registry: &RedisRegistry, node: &Node) -> Result<()> {
    let request =
        Request::Renew { node: node.clone(), lease_us: LEASE_US, apps: Vec::new(), versions: Vec::new() };
    match registry.ask(request).await.map_err(|error| anyhow::anyhow!("{}", error.reason))? {
        Answer::Renewed(_) => Ok(()),
        other => bail!("a renewal was answered by {other:?}"),
    }
}

/// Scripts called.
fn calls(server: &ServerRig) -> Result<f64> {
    let stats = server.command(&["INFO", "commandstats"]);
    let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls=")?.split(',').next());
    Ok(calls.map_or(Ok(0.0), str::parse)?)
}

fn processor_us(server: &ServerRig) -> Result<f64> {
    Ok((info(server, "cpu", "used_cpu_sys")? + info(server, "cpu", "used_cpu_user")?) * 1e6)
}

fn info(server: &ServerRig, section: &str, field: &str) -> Result<f64> {
    let text = server.command(&["INFO", section]);
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    Ok(value.with_context(|| format!("INFO says no {field}"))?.trim().parse()?)
}

/// A name such as apps make: a UUID's length.
fn document(name: u64) -> DocumentName {
    DocumentName {
        app: AppName("tenant::app".into()),
        name: format!("document-00000000-0000-{name:012}").into(),
    }
}

async fn register(registry: &RedisRegistry) -> Result<Node> {
    let node = Node { region: "eu-central-1".into(), name: "eu-1a".into(), life: 1 };
    let view = NodeView {
        node: node.clone(),
        ws_url: "wss://eu-central-1.example.net".into(),
        peer_address: "10.0.0.1:7000".into(),
        version: "0.1.0".into(),
    };
    let request = Request::Register { node: view, lease_us: LEASE_US };
    registry.ask(request).await.map_err(|error| anyhow::anyhow!("{}", error.reason))?;
    Ok(node)
}
