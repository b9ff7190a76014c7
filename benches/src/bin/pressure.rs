//! What a node under real pressure does: its memory is filled, its processor time burnt, its connections used up, while thousands of
//! sessions write. It is to leave, refuse who is new, drop nobody, lose nothing, and come back by itself.
//!
//! Runs beside a cluster, as root: `cargo xtask cluster --json --regions 1 --nodes 2 -- cargo measure pressure`. The first node is
//! started again in a control group of its own, in which something else then takes memory or processor time.
#![allow(clippy::print_stdout, reason = "a measuring command reports on stdout")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};
use pinwire_benches::beside::Beside;
use pinwire_benches::cgroup::Group;
use pinwire_benches::cluster::{Cluster, Node, Writing, pause};
use pinwire_benches::report::{RESULTS, Report};
use pinwire_benches::tokens::Mint;
use pinwire_loadgen::results::Results;
use pinwire_loadgen::run::{Seat, run};
use pinwire_loadgen::scenario::Dialect;
use pinwire_protocol::ws::{self, Opcode};
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What came last has this long to arrive everywhere; and for a node to notice something, or to recover.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long each pressure lasts once it was noticed.
const HOLD: Duration = Duration::from_secs(10);
/// Members of a document.
const MEMBERS: u32 = 5;
/// New clients that dial each node under each pressure.
const NEWCOMERS: usize = 50;
/// Share of the limit at which a pressure is held: past high water, and before panic.
const PRESSED: f64 = 0.87;

/// Measures a node under pressure: `cargo xtask cluster --json --regions 1 --nodes 2 -- cargo measure pressure`
#[derive(Parser, Debug)]
#[command(name = "pressure")]
struct Args {
    #[command(subcommand)]
    role: Option<Role>,
    /// Clients, on two nodes
    #[arg(long, default_value_t = 10_000)]
    clients: u32,
    /// Edits a second
    #[arg(long, default_value_t = 300.0)]
    rate: f64,
    /// Where the result goes
    #[arg(long, default_value = RESULTS)]
    out: PathBuf,
}

/// What this command is when it is started in the group.
#[derive(Subcommand, Clone, Debug)]
enum Role {
    /// Takes memory, and keeps it until its standard input ends
    Take {
        /// Bytes
        bytes: usize,
    },
    /// Keeps processors busy until its standard input ends
    Burn {
        /// Threads
        threads: usize,
    },
}

/// What is in short supply.
#[derive(Clone, Copy, Debug)]
enum Pressure {
    Memory,
    Cpu,
    Connections,
}

impl Pressure {
    const ALL: [Self; 3] = [Self::Memory, Self::Cpu, Self::Connections];

    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Connections => "connections",
        }
    }
}

/// What came of one.
#[derive(Clone, Debug)]
struct Finding {
    pressure: Pressure,
    /// Until the node said that it was overloaded, and until it was healthy again once the pressure had gone.
    noticed: Duration,
    recovered: Duration,
    /// Its words.
    cause: String,
    /// New clients that it refused with a time to come back, and those that the other node let in.
    refused: usize,
    elsewhere: usize,
    /// What it said of itself when it was pressed.
    node: Value,
    events: Vec<Value>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(role) = args.role {
        return play(&role);
    }
    let mut cluster =
        Cluster::told("cargo xtask cluster --json --regions 1 --nodes 2 -- cargo measure pressure")?;
    ensure!(cluster.nodes.len() == 2, "a region of two nodes is needed");
    let group = Group::new(&format!("pinwire-pressure-{}", std::process::id()))?;
    group.limit_cpu(1.0)?;
    // The node's half of the clients is below low water, so that it recovers when the rest has gone.
    let half = args.clients / 2;
    let most = f64::from(half) / 0.6;
    let settings = [format!("max_connections={most:.0}"), "shedding.resources=memory,cpu".to_owned()];
    cluster.nodes[0].kill()?;
    let node = cluster.nodes[0].start_in(&group, &settings)?;
    let (results, findings) = once(&args, cluster, group, most)?;
    drop(node);
    report(&args, &results, &findings)
}

fn play(role: &Role) -> Result<()> {
    let wait = || std::io::stdin().read_to_end(&mut Vec::new());
    match *role {
        Role::Take { bytes } => {
            // Not zeros, which a kernel might share.
            let taken: Vec<u8> = (0..bytes).map(|index| index as u8 | 1).collect();
            println!("taken");
            wait()?;
            drop(std::hint::black_box(taken));
        }
        Role::Burn { threads } => {
            for _ in 0..threads {
                std::thread::spawn(|| {
                    loop {
                        std::hint::spin_loop();
                    }
                });
            }
            println!("burning");
            wait()?;
        }
    }
    Ok(())
}

fn once(args: &Args, cluster: Cluster, group: Group, most: f64) -> Result<(Results, Vec<Finding>)> {
    let writing = Writing {
        documents: args.clients / MEMBERS,
        members: MEMBERS,
        writers: 2,
        rate: args.rate,
        // Ended by whoever presses, long before.
        duration: PATIENCE * 4,
    };
    let mut scenario = cluster.scenario(Dialect::Hocuspocus, &writing, PATIENCE)?;
    scenario.clients.rate = Some(500.0);
    let work = Work { mint: Mint::new(&cluster.secret)?, cluster, group, most };
    let press = Beside::until_done(move || Pressure::ALL.into_iter().map(|one| work.press(one)).collect());
    let results = run(&scenario, Seat::ALONE, &press, &press)?;
    let findings = press.outcome()?;
    let found = &results.correctness;
    ensure!(found.faults() == 0, "edits were lost: {found:?}");
    ensure!(results.connections.lost.is_empty(), "sessions were dropped: {:?}", results.connections.lost);
    Ok((results, findings))
}

struct Work {
    mint: Mint,
    cluster: Cluster,
    group: Group,
    /// Connections that the first node may have.
    most: f64,
}

impl Work {
    fn press(&self, pressure: Pressure) -> Result<Finding> {
        let (node, other) = (&self.cluster.nodes[0], &self.cluster.nodes[1]);
        self.wait_for(node, "healthy")?;
        let began = Instant::now();
        let held = self.begin(pressure)?;
        self.wait_for(node, "overloaded").with_context(|| pressure.name())?;
        let noticed = began.elapsed();
        let said = self.cluster.ask(node, "GET", "/v1/node", "")?;
        let refused = self.dial(node, NEWCOMERS)?.iter().filter(|answer| is_paced(answer)).count();
        let elsewhere =
            self.dial(other, NEWCOMERS)?.iter().filter(|answer| answer.starts_with("HTTP/1.1 101 ")).count();
        ensure!(
            refused == NEWCOMERS && elsewhere == NEWCOMERS,
            "{refused} refused here, {elsewhere} let in there"
        );
        pause(HOLD);
        drop(held);
        let gone = Instant::now();
        self.wait_for(node, "healthy").with_context(|| format!("after {}", pressure.name()))?;
        let recovered = gone.elapsed();
        ensure!(self.dial(node, 1)?[0].starts_with("HTTP/1.1 101 "), "it is healthy, and refuses");
        let page = self.cluster.ask(node, "GET", "/v1/events", "")?;
        let events = page["events"].as_array().cloned().unwrap_or_default();
        let cause = said["standing"]["cause"].as_str().unwrap_or_default().to_owned();
        Ok(Finding {
            pressure,
            noticed,
            recovered,
            cause,
            refused,
            elsewhere,
            node: said["standing"].clone(),
            events,
        })
    }

    fn begin(&self, pressure: Pressure) -> Result<Held> {
        match pressure {
            Pressure::Memory => {
                // The limit leaves the node, as it is, at two fifths.
                let used = self.group.memory()?;
                let limit = used * 5 / 2;
                self.group.limit_memory(limit)?;
                let bytes = (limit as f64 * PRESSED) as u64 - used;
                Ok(Held::Hog(self.hog(&["take".to_owned(), bytes.to_string()])?))
            }
            Pressure::Cpu => Ok(Held::Hog(self.hog(&["burn".to_owned(), "2".to_owned()])?)),
            Pressure::Connections => {
                let there = self.cluster.nodes[0].metric("pinwire_connections")?;
                let wanted = (self.most * PRESSED - there).max(0.0) as usize;
                let (mut sockets, mut step) = (Vec::new(), Vec::new());
                for _ in 0..wanted {
                    let mut socket = self.connect(&self.cluster.nodes[0])?;
                    if !answer(&mut socket)?.starts_with("HTTP/1.1 101 ") {
                        break;
                    }
                    // It joins: who says nothing is closed, and on the way up those alone get in whose document is there already.
                    ws::append_frame(
                        &mut step,
                        ws::Frame::new(Opcode::Binary).masked([1, 2, 3, 4]),
                        &[0, 0, 1, 0],
                    );
                    socket.write_all(&step)?;
                    step.clear();
                    sockets.push(socket);
                }
                Ok(Held::Sockets(sockets))
            }
        }
    }

    /// This command in the group, once it has what it takes.
    fn hog(&self, args: &[String]) -> Result<Hog> {
        let program = std::env::current_exe()?.display().to_string();
        let words = self.group.wrap(&[&[program][..], args].concat());
        let mut child =
            Command::new(&words[0]).args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut said = [0];
        child.stdout.as_mut().context("stdout")?.read_exact(&mut said).context("it did not start")?;
        Ok(Hog(child))
    }

    fn connect(&self, node: &Node) -> Result<TcpStream> {
        let mut socket = TcpStream::connect(&node.address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        write!(
            socket,
            "GET /newcomer?token={} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            self.mint.token()?
        )?;
        Ok(socket)
    }

    /// What a node answers to so many who are new.
    fn dial(&self, node: &Node, count: usize) -> Result<Vec<String>> {
        (0..count).map(|_| answer(&mut self.connect(node)?)).collect()
    }

    fn wait_for(&self, node: &Node, state: &str) -> Result<()> {
        let asked = Instant::now();
        loop {
            let said = self.cluster.ask(node, "GET", "/v1/node", "")?;
            if said["status"] == state {
                return Ok(());
            }
            if asked.elapsed() > PATIENCE {
                bail!("{} is not {state}, but: {said}", node.name);
            }
            pause(Duration::from_millis(50));
        }
    }
}

/// The head of an answer.
fn answer(socket: &mut TcpStream) -> Result<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        socket.read_exact(&mut byte).context("cut off")?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn is_paced(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 503 ") && answer.to_ascii_lowercase().contains("\r\nretry-after: ")
}

/// What presses; it stops when this is dropped.
enum Held {
    #[expect(dead_code, reason = "held, not read")]
    Hog(Hog),
    #[expect(dead_code, reason = "held, not read")]
    Sockets(Vec<TcpStream>),
}

struct Hog(Child);

impl Drop for Hog {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn report(args: &Args, results: &Results, findings: &[Finding]) -> Result<()> {
    let mut report = Report::new("pressure", "A node under real pressure");
    report.paragraph(&format!(
        "{} Hocuspocus sessions in documents of {MEMBERS} on two nodes of a region, {} edits a second. The first node is in a control \
         group with one processor, and may have as many connections that its half is 60 % of them. One after the other, something else in the group takes \
         memory up to {:.0} % of the limit, or all of the processor time; or more clients come, up to {:.0} %. Once the node says \
         that it is overloaded, {NEWCOMERS} new clients dial it, and {NEWCOMERS} the other one. After {} s the pressure ends.",
        args.clients,
        args.rate,
        PRESSED * 100.0,
        PRESSED * 100.0,
        HOLD.as_secs()
    ));
    let found = &results.correctness;
    report.paragraph(&format!(
        "**{} sessions were dropped, {} edits lost, {} acknowledged edits forgotten**, of {} deliveries checked and {} edits sent.",
        results.connections.lost.values().sum::<u64>(),
        found.lost,
        found.forgotten,
        found.checked,
        results.total.sent
    ));
    let row = |finding: &Finding| {
        vec![
            finding.pressure.name().to_owned(),
            format!("{:.1} s", finding.noticed.as_secs_f64()),
            finding.cause.clone(),
            format!("{} of {NEWCOMERS}", finding.refused),
            format!("{} of {NEWCOMERS}", finding.elsewhere),
            format!("{:.1} s", finding.recovered.as_secs_f64()),
        ]
    };
    report.table(
        &[
            "in short supply",
            "overloaded after",
            "what the node says",
            "newcomers refused, with a time to come back",
            "let in by the other node",
            "healthy again after",
        ],
        findings.iter().map(row),
    );
    let raw = |finding: &Finding| {
        json!({
            "pressure": finding.pressure.name(),
            "noticed_s": finding.noticed.as_secs_f64(),
            "recovered_s": finding.recovered.as_secs_f64(),
            "node": finding.node,
            "events": finding.events,
        })
    };
    report.raw(&json!({
        "findings": findings.iter().map(raw).collect::<Vec<_>>(),
        "correctness": found,
        "errors": results.total.errors,
        "verdict": results.verdict,
    }));
    println!("{}", report.text());
    println!("{}", report.save(&args.out)?.display());
    Ok(())
}
