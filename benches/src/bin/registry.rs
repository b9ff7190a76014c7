//! What a registry on Redis costs: claims a second and their latency beside what the server can do, memory of a pin, and the
//! traffic of nodes when nothing changes.
#![allow(clippy::print_stdout, reason = "a measuring command reports on stdout")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use pinwire_benches::procfs::own_thread;
use pinwire_benches::report::{RESULTS, Report};
use pinwire_cluster::{Effect, Pins, Settings, Ticket};
use pinwire_redis::rig::{Options, ServerRig};
use pinwire_registry::{
    Answer, AppName, AppUse, Claimed, DocumentName, Node, NodeView, RedisRegistry, Registry, Request,
};
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Longer than the default of 20 s, with as many digits: clocks of nodes run ahead here, and claiming takes its time.
const LEASE_US: u64 = 90_000_000;
/// As the default configuration has it.
const RENEW_US: u64 = 5_000_000;
/// Documents that a node claims at once, as far as the bound of what it has under way lets it.
const CLAIMED_AT_ONCE: u64 = 256;

/// Measures what a registry on Redis costs
#[derive(Parser, Debug)]
#[command(name = "registry")]
struct Args {
    /// Seconds of claims, for each number of claims under way
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Rounds: in each, the node and redis-benchmark take turns at each number
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Claims under way at once
    #[arg(long, value_delimiter = ',', default_values = ["1", "16", "64", "256"])]
    under_way: Vec<usize>,
    /// Pins of all nodes together, whose traffic is read
    #[arg(long, value_delimiter = ',', default_values = ["0", "1000", "100000"])]
    pins: Vec<u64>,
    /// Nodes that have them
    #[arg(long, value_delimiter = ',', default_values = ["1", "4", "16"])]
    nodes: Vec<u64>,
    /// Renewals of each over which the traffic is read
    #[arg(long, default_value_t = 20)]
    renewals: u64,
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
    ensure!(args.seconds > 0 && args.rounds > 0 && args.renewals > 0, "nothing to measure");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(args))
}

async fn measure(args: &Args) -> Result<()> {
    let mut report = Report::new("registry", "A registry on Redis: what claims, pins and leases cost");
    report.paragraph(
        "One Redis server without persistence and one node on the same machine, over one connection, the node on a single thread. A \
         claim is one script, which pins an idle document; latency is from asking to the answer, so with many claims under way \
         it is their queue. Beside it redis-benchmark calls the same script with arguments of the same kind and length, over \
         one connection, with so many in each pipeline: what the server can do when its client does next to nothing. Rounds alternate; \
         the median of the rounds is shown, the share is that of the medians.",
    );
    let mut claims = Vec::new();
    for under_way in &args.under_way {
        let mut rounds = Vec::new();
        for _ in 0..args.rounds {
            rounds.push(claims_of(*under_way, Duration::from_secs(args.seconds)).await?);
        }
        claims.push(summed(*under_way, &rounds));
    }
    let row = |reading: &Value| {
        [
            "under_way",
            "a_second",
            "bare_a_second",
            "share",
            "p50_us",
            "p99_us",
            "server_us",
            "bare_server_us",
            "node_us",
        ]
        .map(|name| shown(&reading[name]))
        .to_vec()
    };
    let head = [
        "claims under way",
        "claims a second",
        "redis-benchmark, calls a second",
        "share",
        "p50 us",
        "p99 us",
        "processor of Redis, us a claim",
        "the same with redis-benchmark",
        "processor of the node, us a claim",
    ];
    report.table(&head, claims.iter().map(row));

    report.heading("Nodes when nothing changes");
    report.paragraph(
        "Nodes as they decide themselves (`pinwire_cluster::Pins`), each with a link of its own and one app in use; the pins are spread \
         over them. Their clocks are advanced from renewal to renewal, every 5 s. Between renewals a node sends nothing. A renewal is \
         one script in all (in a Cluster one for each of 16 partitions). Memory is what Redis uses more with the pins than \
         without them.",
    );
    let mut quiet = Vec::new();
    for nodes in &args.nodes {
        for pins in &args.pins {
            quiet.push(quiet_traffic(*nodes, *pins, args.renewals).await?);
        }
    }
    let row = |reading: &Value| {
        ["nodes", "pins", "bytes_in", "bytes_out", "calls", "bytes_a_second", "memory_per_pin"]
            .map(|name| shown(&reading[name]))
            .to_vec()
    };
    let head = [
        "nodes",
        "pins of all together",
        "bytes to Redis, a renewal of one node",
        "bytes back",
        "calls",
        "bytes a second of all nodes, both ways",
        "memory, bytes a pin",
    ];
    report.table(&head, quiet.iter().map(row));
    report.raw(&json!({ "claims": claims, "quiet": quiet }));
    println!("{}", report.text());
    println!("{}", report.save(&args.out)?.display());
    Ok(())
}

/// The median of each figure, and every round.
fn summed(under_way: usize, rounds: &[Value]) -> Value {
    let median = |name: &str| {
        let mut all: Vec<f64> = rounds.iter().filter_map(|round| round[name].as_f64()).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or(0.0)
    };
    let mut reading = json!({ "under_way": under_way, "rounds": rounds });
    for name in ["a_second", "bare_a_second", "p50_us", "p99_us", "server_us", "bare_server_us", "node_us"] {
        reading[name] = json!(median(name));
    }
    reading["share"] = json!((100.0 * median("a_second") / median("bare_a_second")).round() / 100.0);
    reading
}

/// Whole numbers without a fraction; nothing where there is nothing.
fn shown(value: &Value) -> String {
    value.as_f64().map_or_else(String::new, |number| number.to_string())
}

fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

/// Claims of idle documents, so many under way at any time.
async fn claims_of(under_way: usize, time: Duration) -> Result<Value> {
    let server = ServerRig::start(&Options::default());
    let registry = RedisRegistry::new(server.link());
    let node = register(&registry).await?;
    let (before, own, began, next) =
        (processor_us(&server)?, own_thread()?, Instant::now(), AtomicU64::new(0));
    let claimers = (0..under_way).map(|_| async {
        let mut latencies = Vec::new();
        while began.elapsed() < time {
            let (name, asked) = (next.fetch_add(1, Ordering::Relaxed), Instant::now());
            ask_claim(&registry, &node, name).await?;
            latencies.push(asked.elapsed().as_micros());
        }
        anyhow::Ok(latencies)
    });
    let mut latencies: Vec<u128> =
        futures_util::future::try_join_all(claimers).await?.into_iter().flatten().collect();
    let (passed, own) = (began.elapsed(), own_thread()?.since(own));
    let spent = processor_us(&server)? - before;
    latencies.sort_unstable();
    ensure!(!latencies.is_empty(), "no claim was answered");
    let at = |part: usize| u64::try_from(latencies[(latencies.len() - 1) * part / 100]).unwrap_or(u64::MAX);
    let count = latencies.len() as f64;
    let (bare_a_second, bare_server_us) =
        bare_claims(&server, &registry, &node, under_way, latencies.len()).await?;
    Ok(json!({
        "a_second": (count / passed.as_secs_f64()).round(),
        "p50_us": at(50),
        "p99_us": at(99),
        "server_us": tenths(spent / count),
        "node_us": tenths(own.total.as_secs_f64() * 1e6 / count),
        "bare_a_second": bare_a_second.round(),
        "bare_server_us": tenths(bare_server_us),
    }))
}

/// The same script as redis-benchmark calls it: calls a second, and microseconds of the server for each.
async fn bare_claims(
    server: &ServerRig,
    registry: &RedisRegistry,
    node: &Node,
    pipeline: usize,
    count: usize,
) -> Result<(f64, f64)> {
    // What a claim looks like is told by the server: it notes the next calls.
    server.command(&["CONFIG", "SET", "slowlog-log-slower-than", "0"]);
    ask_claim(registry, node, BARE).await?;
    let noted = server.command(&["SLOWLOG", "GET", "20"]);
    server.command(&["CONFIG", "SET", "slowlog-log-slower-than", "-1"]);
    let name = &*document(BARE).name;
    // Twelve digits, as many as numbers here have.
    let arguments: Vec<String> =
        call_of(&noted, name)?.iter().map(|argument| argument.replace(BARE_DIGITS, "__rand_int__")).collect();
    let before = processor_us(server)?;
    let mut command = std::process::Command::new("redis-benchmark");
    command.args(["-p", &server.port().to_string(), "-c", "1", "-P", &pipeline.to_string()]);
    command.args(["-n", &count.to_string(), "-r", "1000000000000", "--csv"]).args(&arguments);
    let output = command.output().context("redis-benchmark cannot be run: install redis-tools")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let a_second = said.lines().last().and_then(|line| line.rsplit_once("\",\"").map(|_| line));
    let fields: Vec<&str> = a_second.unwrap_or_default().trim_matches('"').split("\",\"").collect();
    let a_second = fields.get(fields.len().wrapping_sub(7)).and_then(|field| field.parse().ok());
    let a_second: f64 = a_second.with_context(|| format!("redis-benchmark said {said}"))?;
    Ok((a_second, (processor_us(server)? - before) / count as f64))
}

/// A document that no claim before has named, and its digits.
const BARE: u64 = 987_654_321_012;
const BARE_DIGITS: &str = "987654321012";

/// The call with this argument in what `SLOWLOG GET` answered (RESP2), from its name on.
fn call_of(noted: &str, argument: &str) -> Result<Vec<String>> {
    // Strings are announced by their length, and stand in lines of their own.
    let mut lines = noted.lines();
    let (mut strings, mut count): (Vec<&str>, usize) = (Vec::new(), 0);
    while let Some(line) = lines.next() {
        match line.as_bytes().first() {
            Some(b'$') => strings.push(lines.next().unwrap_or_default()),
            // A new list, such as the next call.
            Some(b'*') => {
                if strings.contains(&argument) {
                    break;
                }
                strings.clear();
                count = line[1..].trim().parse()?;
            }
            _ => {}
        }
    }
    let begins = strings.iter().position(|word| word.eq_ignore_ascii_case("EVALSHA"));
    let begins = begins.with_context(|| format!("the server noted no claim: {noted}"))?;
    // Behind the call stands who called.
    strings.truncate(count);
    Ok(strings[begins..].iter().map(|word| (*word).to_owned()).collect())
}

async fn ask_claim(registry: &RedisRegistry, node: &Node, name: u64) -> Result<()> {
    let request = Request::Claim {
        document: document(name),
        node: node.clone(),
        nonce: name,
        hold: 1,
        max_documents: u32::MAX,
        grace_us: 10_000_000,
    };
    match registry.ask(request).await.map_err(|error| anyhow::anyhow!("{}", error.reason))? {
        Answer::Claimed(Claimed::Held { is_new: true, .. }) => Ok(()),
        other => bail!("a claim was answered by {other:?}"),
    }
}

/// Nodes' renewals, with so many pins.
async fn quiet_traffic(nodes: u64, pins: u64, renewals: u64) -> Result<Value> {
    let server = ServerRig::start(&Options::default());
    let mut fleet: Vec<Driven> = (0..nodes).map(|number| Driven::new(&server, number)).collect();
    for node in &mut fleet {
        node.pass(0).await?;
        node.use_app();
    }
    // Scripts come along when they are first called, and what an app uses is said.
    for _ in 0..2 {
        for node in &mut fleet {
            node.pass(RENEW_US).await?;
        }
    }
    let empty = info(&server, "memory", "used_memory")?;
    for name in 0..pins {
        let node = &mut fleet[usize::try_from(name % nodes)?];
        node.hold(name);
        if (name / nodes).is_multiple_of(CLAIMED_AT_ONCE) {
            node.pass(0).await?;
        }
    }
    for node in &mut fleet {
        node.pass(0).await?;
        ensure!(node.pins.held().count() as u64 >= pins / nodes, "pins are missing");
    }
    let memory = (info(&server, "memory", "used_memory")? - empty) / pins as f64;
    let read = || -> Result<[f64; 3]> {
        Ok([
            info(&server, "stats", "total_net_input_bytes")?,
            info(&server, "stats", "total_net_output_bytes")?,
            calls(&server)?,
        ])
    };
    // Reading costs something as well: that of reading twice is taken off.
    let (first, before) = (read()?, read()?);
    for _ in 0..renewals {
        for node in &mut fleet {
            node.pass(RENEW_US).await?;
        }
    }
    let after = read()?;
    let of = |index: usize| {
        let reading = before[index] - first[index];
        (after[index] - before[index] - reading) / (renewals * nodes) as f64
    };
    let a_second = (of(0) + of(1)) * nodes as f64 * 1e6 / RENEW_US as f64;
    let memory = if pins > 0 { json!(memory.round()) } else { Value::Null };
    Ok(json!({
        "nodes": nodes,
        "pins": pins,
        "bytes_in": tenths(of(0)),
        "bytes_out": tenths(of(1)),
        "calls": tenths(of(2)),
        "bytes_a_second": a_second.round(),
        "memory_per_pin": memory,
    }))
}

/// A node that decides as in production, on a clock of its own.
struct Driven {
    pins: Pins,
    registry: RedisRegistry,
    now_us: u64,
}

impl Driven {
    fn new(server: &ServerRig, number: u64) -> Self {
        let me = view(&format!("eu-1{number}"));
        let settings = Settings { me, lease_us: LEASE_US, renew_us: RENEW_US, grace_us: 10_000_000 };
        let pins = Pins::new(settings, number);
        Self { pins, registry: RedisRegistry::new(server.link()), now_us: LEASE_US }
    }

    fn use_app(&mut self) {
        let app = document(0).app;
        self.pins.know_app(app.clone(), 0);
        self.pins.use_app(AppUse { app, connections: 1_000, wanted: 1_000, max_connections: 1_000_000 });
    }

    fn hold(&mut self, name: u64) {
        self.pins.hold(&document(name), Ticket(name), u32::MAX);
    }

    /// Time passes, and everything that the node asks then is asked and answered.
    async fn pass(&mut self, time_us: u64) -> Result<()> {
        self.now_us += time_us;
        self.pins.begin(self.now_us);
        let mut under_way = FuturesUnordered::new();
        loop {
            while let Some(effect) = self.pins.next_effect() {
                if let Effect::Ask(ask, request) = effect {
                    let answer = self.registry.ask(request);
                    under_way.push(async move { (ask, answer.await) });
                }
            }
            let Some((ask, answer)) = under_way.next().await else { return Ok(()) };
            let answer = answer.map_err(|error| anyhow::anyhow!("{}", error.reason))?;
            self.pins.begin(self.now_us);
            self.pins.answered(ask, answer);
        }
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

fn view(name: &str) -> NodeView {
    NodeView {
        node: Node { region: "eu-central-1".into(), name: name.into(), life: 1 },
        ws_url: "wss://eu-central-1.example.net".into(),
        peer_address: "10.0.0.1:7000".into(),
        version: "0.1.0".into(),
        admin_url: "https://10.0.0.1:9180".into(),
    }
}

async fn register(registry: &RedisRegistry) -> Result<Node> {
    let view = view("eu-1a");
    let node = view.node.clone();
    let request = Request::Register { node: view, lease_us: LEASE_US };
    registry.ask(request).await.map_err(|error| anyhow::anyhow!("{}", error.reason))?;
    Ok(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_found_among_the_calls_that_the_server_noted() {
        let call = |words: &[&str]| {
            let strings = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
            format!(
                "*6\r\n:1\r\n:2\r\n:3\r\n*{}\r\n{}$4\r\nhost\r\n$0\r\n\r\n",
                words.len(),
                strings.collect::<String>()
            )
        };
        let noted = format!("*2\r\n{}{}", call(&["evalsha", "ab", "", "doc-7"]), call(&["CONFIG", "SET"]));
        let words = call_of(&noted, "doc-7").unwrap();
        assert_eq!(words, ["evalsha", "ab", "", "doc-7"]);
        assert!(call_of(&noted, "doc-8").is_err());
    }
}
